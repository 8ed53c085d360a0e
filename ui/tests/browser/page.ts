import { existsSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test as base, expect, type Page } from '@playwright/test';

/** Where a built page lies that is to be tested in place of the one inside the program: spares a build of the program. */
const FILES = process.env.PAGE_FILES;
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const KINDS: Record<string, string> = { html: 'text/html; charset=utf-8', js: 'text/javascript; charset=utf-8', css: 'text/css; charset=utf-8', svg: 'image/svg+xml' };

/** Fails when the page does what it never may: throw, or break its own policy. */
export const test = base.extend({
  page: async ({ page }, use) => {
    const faults: string[] = [];
    page.on('pageerror', (error) => faults.push(`the page failed: ${error.stack ?? error.message}`));
    page.on('console', (message) => {
      if (/Content Security Policy/.test(message.text())) faults.push(message.text());
    });
    if (FILES) {
      await page.route(/^http:\/\/127\.0\.0\.1:\d+\/(?!api\/|tempo\/|ready)/, async (route) => {
        const path = new URL(route.request().url()).pathname.slice(1);
        const file = path !== '' && existsSync(join(FILES, path)) && statSync(join(FILES, path)).isFile() ? path : 'index.html';
        const answer = await route.fetch({ url: new URL('/', route.request().url()).href });
        await route.fulfill({ response: answer, headers: { ...answer.headers(), 'content-type': KINDS[file.split('.').pop() ?? ''] ?? 'application/octet-stream' }, body: readFileSync(join(FILES, file)) });
      });
    }
    await use(page);
    expect(faults).toEqual([]);
  },
});

/** Faults of accessibility that a machine finds. */
export async function accessible(page: Page): Promise<void> {
  // Evaluated through the debugger, which the page's policy does not bind.
  await page.evaluate(AXE);
  const faults = await page.evaluate(async () => {
    interface Axe {
      run: (options: unknown) => Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }>;
    }
    const { violations } = await (window as unknown as { axe: Axe }).axe.run({ resultTypes: ['violations'] });
    return violations.map((fault) => `${fault.id}: ${fault.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary.slice(0, 200)}`).join(' | ')}`);
  });
  expect(faults).toEqual([]);
}

export { expect };
