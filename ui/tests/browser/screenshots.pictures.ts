// Pictures of every page for the documentation. Only `make screenshots` takes them: tests leave the tree as it is.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from './page';
import { Server } from './server';
import { huge, shop, wide } from './world';

const DARK = ['overview', 'trace', 'map'];
const DIR = process.env.PICTURES ?? '../docs/screenshots';
let server: Server;
let crowd: Server;
let cart = '';
let failed = '';

test.beforeAll(async () => {
  mkdirSync(DIR, { recursive: true });
  [server, crowd] = [await Server.start(), await Server.start()];
  const made = shop(Date.now() - 58 * 60_000, 900);
  [cart, failed] = [made.cart, made.failed];
  await server.send(made.world);
  await crowd.send(wide(Date.now() - 30 * 60_000, 100, 600));
  await crowd.send(huge(Date.now() - 60_000, 3000).world);
});

test.afterAll(async () => {
  await server?.stop();
  await crowd?.stop();
});

for (const theme of ['light', 'dark'] as const) {
  test(`pictures, ${theme}`, async ({ page }) => {
    test.setTimeout(180_000);
    await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
    await page.setViewportSize({ width: 1200, height: 750 });
    const take = async (name: string, address: string, seen: string | RegExp, act?: () => Promise<void>) => {
      // By night the three that are looked at most.
      if (theme === 'dark' && !DARK.includes(name)) return;
      await page.goto(address);
      await expect(page.getByText(seen).first()).toBeVisible();
      if (act) await act();
      await page.waitForLoadState('networkidle');
      await page.screenshot({ path: join(DIR, `${name}-${theme}.png`) });
    };
    await take('overview', `${server.page}/`, 'N+1 calls');
    await take('search', `${server.page}/search`, /GET \/orders/);
    await take('trace', `${server.page}/trace/${cart}`, '×', async () => {
      await page.getByRole('row').filter({ hasText: 'gateway' }).nth(1).click();
      await expect(page.getByText(/spans of its kind/)).toBeVisible();
    });
    await take('typical', `${server.page}/trace/${cart}?typical=1`, 'the median of its kind');
    await take('trace-failed', `${server.page}/trace/${failed}?events=1`, 'exception');
    await take('flame', `${server.page}/trace/${cart}?view=flame`, 'the whole width');
    await take('compare', `${server.page}/trace/${cart}?view=compare`, 'What differs');
    await take('totals', `${server.page}/trace/${cart}?view=table`, 'Own time');
    await take('entry', `${server.page}/entry/gateway/${encodeURIComponent('POST /checkout')}`, 'Most of the difference');
    await take('explore', `${server.page}/explore?service=gateway`, 'Drag a box', async () => {
      await page.getByRole('button', { name: /slowest/ }).click();
      await page.waitForLoadState('networkidle');
      await page.waitForTimeout(600);
    });
    const drawn = () => expect(page.locator('.map-canvas .node').first()).toBeVisible({ timeout: 30_000 });
    await take('map', `${server.page}/map`, 'Calls', drawn);
    await take('map-100-services', `${crowd.page}/map`, 'Calls', drawn);
    await take('system', `${server.page}/system`, 'Own metrics');
  });
}
