import { type Page } from '@playwright/test';
import { expect, test } from './page';
import { Server } from './server';
import { huge } from './world';

const SPANS = 100_000;
let server: Server;
let id = '';

test.beforeAll(async () => {
  server = await Server.start();
  const made = huge(Date.now() - 300_000, SPANS);
  id = made.id;
  await server.send(made.world);
});

test.afterAll(() => server?.stop());

/** Milliseconds from a key or event to the frame that shows what it did, many times; in the page, without the way there. */
async function timed(page: Page, act: string, times: number): Promise<number[]> {
  return page.evaluate(
    async ([what, count]) => {
      const key = (name: string) => window.dispatchEvent(new KeyboardEvent('keydown', { key: name, bubbles: true, cancelable: true }));
      const rows = document.querySelector('.rows') as HTMLElement;
      const find = document.querySelector('#find') as HTMLInputElement;
      const type = (text: string) => {
        Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value')?.set?.call(find, text);
        find.dispatchEvent(new Event('input', { bubbles: true }));
      };
      const actions: Record<string, (at: number) => void> = {
        scroll: (at) => rows.scrollBy(0, at % 7 === 0 ? 20_000 : 330),
        next: () => key('j'),
        zoom: (at) => key(at % 2 === 0 ? 'w' : 's'),
        fold: (at) => key(at % 2 === 0 ? 'ArrowLeft' : 'ArrowRight'),
        error: () => key(']'),
        find: (at) => type(['row', 'letter', 'chunk of users', 'mail'][at % 4] ?? ''),
      };
      const found: number[] = [];
      for (let at = 0; at < Number(count); at += 1) {
        const began = performance.now();
        actions[String(what)]?.(at);
        // The first frame draws; when the second begins, it is on the screen.
        await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));
        found.push(performance.now() - began);
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
      return found.sort((a, b) => a - b);
    },
    [act, times] as const,
  );
}

test('a trace of a hundred thousand spans is seen whole, and every key still does what it says', async ({ page }, info) => {
  test.setTimeout(120_000);
  await page.goto(`${server.page}/system`);
  const painted: number[] = [];
  const answered: number[] = [];
  for (let round = 0; round < 3; round += 1) {
    // What was asked for after the rows is answered before the page is opened anew.
    await page.waitForLoadState('networkidle');
    await page.goto(`${server.page}/trace/${id}`, { waitUntil: 'commit' });
    await expect(page.getByRole('row').first()).toBeVisible();
    painted.push(await page.evaluate(() => performance.getEntriesByName('trace-painted')[0]?.startTime ?? Number.NaN));
    answered.push(await page.evaluate(() => {
      const columns = (performance.getEntriesByType('resource') as PerformanceResourceTiming[]).find((entry) => entry.name.endsWith('/columns'));
      return columns ? columns.responseEnd - columns.requestStart : Number.NaN;
    }));
  }
  await expect(page.getByText('100,000 spans')).toBeVisible();
  const transferred = await page.evaluate(() => (performance.getEntriesByType('resource') as PerformanceResourceTiming[]).find((entry) => entry.name.endsWith('/columns'))?.decodedBodySize ?? 0);
  // Only what is in sight is in the document.
  expect(await page.getByRole('row').count()).toBeLessThan(80);
  await page.getByRole('button', { name: 'Expand all' }).click();
  await expect.poll(async () => Number(await page.getByRole('treegrid').getAttribute('aria-rowcount'))).toBeGreaterThanOrEqual(SPANS);
  const figures: Record<string, number[]> = {};
  for (const [action, times] of [['scroll', 60], ['next', 30], ['zoom', 30], ['fold', 30], ['error', 30], ['find', 16]] as const) figures[action] = await timed(page, action, times);
  await expect(page.getByRole('row', { selected: true })).toBeVisible();
  await page.locator('#find').fill('000');
  await expect(page.getByRole('status').filter({ hasText: /spans?$/ })).toBeVisible();
  expect(await page.getByRole('row').count()).toBeLessThan(80);
  const at = (values: number[], share: number) => values[Math.min(values.length - 1, Math.floor(values.length * share))] ?? Number.NaN;
  const all = Object.values(figures).flat().sort((a, b) => a - b);
  const lines = [
    `first rows on the screen after ${painted.map((ms) => ms.toFixed(0)).join(', ')} ms (cold, warm, warm), of which the server took ${answered.map((ms) => ms.toFixed(0)).join(', ')} ms; ${(transferred / 1e6).toFixed(1)} MB of columns`,
    ...Object.entries(figures).map(([action, values]) => `${action}: median ${at(values, 0.5).toFixed(1)} ms, 95th percentile ${at(values, 0.95).toFixed(1)} ms`),
    `all interactions: median ${at(all, 0.5).toFixed(1)} ms`,
  ];
  console.log(lines.map((line) => `    ${line}`).join('\n'));
  info.annotations.push({ type: 'measured', description: lines.join('; ') });
});
