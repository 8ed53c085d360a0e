import type { Page } from '@playwright/test';
import { accessible, expect, test } from './page';
import { Server } from './server';
import { busy, timeless } from './world';

const PERIOD = /counted per minute, (\d{4}-\d\d-\d\d )?\d\d:\d\d to (\d{4}-\d\d-\d\d )?\d\d:\d\d/i;
const CHECKOUT = `/entry/gateway/${encodeURIComponent('POST /checkout')}`;
let server: Server;
let cart = '';
let lost = '';

test.beforeAll(async () => {
  let start = 0;
  ({ server, start, cart } = await Server.ofShop());
  const without = timeless(start + 2000);
  lost = without.id;
  without.world.trace(start + 3000).span('lonely', 'GET /once', 2, 0, 9);
  await server.send(without.world);
});

test.afterAll(() => server?.stop());

test('counts say of which minutes they are, wherever they stand', async ({ page }) => {
  for (const path of ['/', '/service/cart', '/map', CHECKOUT]) {
    await page.goto(server.page + path);
    await expect(page.getByText(PERIOD), path).toBeVisible();
    // Nothing was left out: nothing is said of it.
    await expect(page.getByText(/than are kept apart|drawn from|looked at/i), path).toHaveCount(0);
  }
});

test('what is looked at, drawn and told apart of a busy minute is said in words', async ({ page }) => {
  test.setTimeout(120_000);
  const crowded = await Server.start();
  try {
    // Within one minute of the clock.
    const minute = Math.floor(Date.now() / 60_000 - 10) * 60_000;
    await crowded.send(busy(minute, 4000, 1100));
    await page.goto(crowded.page);
    await expect(page.getByRole('note').filter({ hasText: /^Looked at [\d,]+ of 5,100 traces, drawn by trace id; what is counted stands for all\.$/ })).toBeVisible();
    await expect(page.getByRole('note').filter({ hasText: 'More services or operations than are kept apart: the rest is counted together, as (other).' })).toBeVisible();
    const others = page.getByRole('table', { name: 'Services' }).getByRole('button', { name: '(other)' });
    await others.click();
    await expect(page.getByRole('link', { name: 'All of (other)' })).toHaveCount(0);
    await accessible(page);
    await page.goto(`${crowded.page}/entry/edge/${encodeURIComponent('GET /ping')}`);
    await expect(page.getByText(/; drawn from [\d,]+ of 4,000 traces/)).toBeVisible();
    const ordinary = page.getByRole('img', { name: /^Ordinary requests, between the quartiles, [\d,]+ of some [\d,]+ traces/ });
    await expect(ordinary).toBeVisible();
    await expect(page.getByText(/^The slowest of those drawn: .*\([\d,]+ of some [\d,]+ traces, /)).toBeVisible();
    // The table is the icicle for those who do not see it: it says as much.
    await page.getByText('As a table').first().click();
    await expect(page.getByRole('table', { name: /Ordinary requests, .* of some [\d,]+ traces, as a table/ })).toBeVisible();
    await accessible(page);
  } finally {
    await crowded.stop();
  }
});

test('repeated calls are drawn as a histogram, and said in words', async ({ page }) => {
  await page.goto(server.page);
  const card = page.getByRole('article').filter({ hasText: 'N+1 calls' }).first();
  await expect(card.getByText('traces by number of calls')).toBeVisible();
  const words = await card.getByRole('img').first().getAttribute('aria-label');
  const counts = [...(words ?? '').matchAll(/(\d+) to (\d+) times in ([\d,]+) traces/g)].map(([, from, to, traces]) => [from, to, traces].map(Number));
  expect(counts.length).toBeGreaterThan(3);
  expect(counts.every(([from, to, traces], at) => from! <= to! && traces! > 0 && (at === 0 || from! > counts[at - 1]![1]!))).toBe(true);
  // Every affected trace stands in one bar.
  const affected = Number(((await card.textContent()) ?? '').match(/([\d,]+) of [\d,]+ traces/)?.[1]?.replace(/,/g, ''));
  expect(counts.reduce((sum, [, , traces]) => sum + traces!, 0)).toBe(affected);
});

test('a finding leads to the entry points it hurts, they to it, and a mute shows there too', async ({ page }) => {
  await page.goto(server.page);
  const card = page.getByRole('article').filter({ hasText: 'N+1 calls' }).first();
  await card.getByRole('link', { name: 'Where its time goes' }).click();
  await expect(page).toHaveURL(/\/entry\/gateway\/GET/);
  await expect(page.getByRole('img', { name: /Ordinary requests/ })).toBeVisible();
  const brief = page.getByRole('list', { name: 'Findings' }).getByRole('listitem').filter({ hasText: 'calls one by one' }).first();
  await brief.getByRole('link').click();
  await expect(page).toHaveURL(/[?&]finding=[0-9a-f]{16}/);
  const wanted = page.getByRole('article').filter({ hasText: /calls per request: median/ });
  await expect(wanted).toBeInViewport();
  await wanted.getByRole('button', { name: 'Mute' }).click();
  await wanted.getByLabel('Reason').fill('a rewrite is under way');
  await wanted.locator('form').getByRole('button', { name: 'Mute' }).click();
  await expect(wanted.getByText(/muted until .*a rewrite is under way/)).toBeVisible();
  await page.goBack();
  await expect(brief.getByText('muted: a rewrite is under way')).toBeVisible();
  await accessible(page);
  await page.goto(`${server.page}/service/cart`);
  await expect(page.getByRole('list', { name: 'Findings' }).getByText('muted: a rewrite is under way')).toBeVisible();
});

test('a box has as many traces where they are counted as where they are compared; what is excluded is gone', async ({ page }) => {
  await page.goto(`${server.page}/explore?service=gateway`);
  await page.getByRole('button', { name: /slowest/ }).click();
  const counted = Number((await page.getByText(/traces of .* started/).textContent())?.match(/[\d,]+/)?.[0].replace(/,/g, ''));
  const differences = page.getByRole('region', { name: 'Differences' });
  await expect(differences.getByText(`${counted} traces in it against ${240 - counted} others`)).toBeVisible();
  await page.goto(`${server.page}/explore?service=gateway`);
  const all = page.getByText(/^\d+ traces, p50/);
  await expect(all).toHaveText(/^240 traces/);
  // The slower half of the scale, as the whole window has it.
  const heat = page.getByRole('img', { name: /traces: duration over time/ });
  const around = await heat.boundingBox();
  if (!around) throw new Error('the heatmap has no place');
  await page.mouse.move(around.x + 70, around.y + 8);
  await page.mouse.down();
  await page.mouse.move(around.x + around.width - 15, around.y + around.height * 0.62, { steps: 4 });
  await page.mouse.up();
  const first = differences.getByRole('article').filter({ has: page.getByRole('link', { name: 'Exclude' }) }).first();
  const key = await first.locator('code').first().textContent();
  await first.getByRole('link', { name: 'Exclude' }).click();
  await expect(page).toHaveURL(/q=/);
  expect(new URL(page.url()).searchParams.get('q')).toContain('!(');
  expect(new URL(page.url()).searchParams.get('q')).toContain(key?.replace(/^(resource|span)\./, '') ?? 'no key');
  const address = page.url();
  await page.goto('about:blank');
  await page.goto(address);
  await expect(page.getByLabel('TraceQL', { exact: true })).toHaveValue(/!\(/);
});

test('the critical path by another rule, kept in the address', async ({ page }) => {
  await page.goto(`${server.page}/trace/${cart}`);
  const bars = page.locator('.rows canvas');
  await expect(page.getByRole('treegrid')).toBeVisible();
  const drawn = () => bars.evaluate((canvas) => (canvas as HTMLCanvasElement).toDataURL());
  const before = await drawn();
  await page.getByLabel('Critical path by the rule of').selectOption('elastic');
  await expect(page).toHaveURL(/mode=elastic/);
  await expect.poll(drawn).not.toBe(before);
  await page.reload();
  await expect(page.getByLabel('Critical path by the rule of')).toHaveValue('elastic');
  // What is sought stands in the rows: whoever seeks is taken there.
  await page.keyboard.press('f');
  await expect(page).toHaveURL(/view=flame/);
  await page.getByLabel('Find in trace').fill('verify');
  await expect(page.getByRole('treegrid')).toBeVisible();
  await expect(page.getByRole('status').filter({ hasText: /^\d+ spans?$/ })).toBeVisible();
});

test('a span without a time is told, and leaves the axis to the others', async ({ page }) => {
  await page.goto(`${server.page}/trace/${lost}`);
  await expect(page.getByRole('row').filter({ hasText: 'lost' }).getByText('no time', { exact: true })).toBeVisible();
  await expect(page.locator('.axis .ticks span').first()).toHaveText('0');
  await page.getByRole('row').filter({ hasText: 'lost' }).click();
  await expect(page.getByRole('complementary', { name: 'Span details' }).getByText('not told')).toBeVisible();
  await accessible(page);
});

test('the map draws failing calls in red and what sends no spans dashed', async ({ page }) => {
  await page.goto(`${server.page}/map`);
  await expect(page.locator('.map-canvas .node').first()).toBeVisible();
  const widths = await page.locator('.map-canvas svg g > path[stroke="var(--muted)"], .map-canvas svg g > path[stroke="var(--error)"]').evaluateAll((paths) => paths.map((path) => Number(path.getAttribute('stroke-width'))));
  expect(Math.max(...widths)).toBeCloseTo(12);
  expect(new Set(widths).size).toBeGreaterThan(3);
  // payment → bank.example: some are declined, and the bank sends no spans.
  await expect(page.locator('.map-canvas path[stroke="var(--error)"][stroke-dasharray]')).toHaveCount(1);
});

/** What stands out over the right edge. */
const wide = (page: Page) => page.evaluate(() => [...document.querySelectorAll('body, main, .page, .bar-top')].filter((part) => part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).overflowX !== 'auto').map((part) => `${part.tagName}.${part.className} ${part.scrollWidth} > ${part.clientWidth}`));

test('a narrow page: nothing stands out, every page is reached, details lie over the rows', async ({ page }) => {
  await page.setViewportSize({ width: 390, height: 844 });
  for (const path of ['/', '/search', '/explore', '/map', '/system', '/settings', '/service/cart', CHECKOUT, `/trace/${cart}`, `/trace/${cart}?view=table`, `/trace/${cart}?view=compare`]) {
    await page.goto(server.page + path);
    await page.waitForLoadState('networkidle');
    expect(await wide(page), path).toEqual([]);
  }
  await page.goto(server.page);
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'System' }).click();
  await expect(page.getByRole('heading', { name: 'System' })).toBeVisible();
  await page.goto(`${server.page}/trace/${cart}`);
  const second = page.getByRole('row').nth(1);
  await second.click();
  const details = page.getByRole('complementary', { name: 'Span details' });
  await expect(details).toBeVisible();
  expect((await details.boundingBox())?.width).toBeGreaterThan(380);
  const [row, over] = [await second.boundingBox(), await details.boundingBox()];
  expect((row?.y ?? 1e9) + 22).toBeLessThan(over?.y ?? 0);
  await accessible(page);
  await page.getByRole('button', { name: 'Close details' }).click();
  await expect(details).toHaveCount(0);
});

test('what is on its way, partial or failed is said', async ({ page }) => {
  let open = () => {};
  const held = new Promise<void>((resolve) => {
    open = resolve;
  });
  await page.route(/\/api\/spanwise\/map/, async (route) => {
    await held;
    await route.continue();
  });
  await page.goto(`${server.page}/map`);
  await expect(page.getByLabel('Loading').first()).toBeVisible();
  open();
  await expect(page.locator('.map-canvas .node').first()).toBeVisible();
  // The real answers, as if the time for them had run out.
  for (const [path, api, text] of [
    ['/', 'services/summary', 'Counting took too long'],
    ['/service/cart', 'services/summary', 'Counting took too long'],
    ['/explore', 'heatmap', 'a fair sample: there are more'],
    [CHECKOUT, 'entry', 'what is shown is of a part'],
  ] as const) {
    await page.route(new RegExp(`/api/spanwise/${api}`), async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), complete: false, shapes_in_all: 100 } });
    });
    await page.goto(server.page + path);
    await expect(page.getByText(text).first(), path).toBeVisible();
    await page.unroute(new RegExp(`/api/spanwise/${api}`));
  }
  await expect(page.getByRole('heading', { name: /^\d+ of 100 shapes$/ })).toBeVisible();
  await page.route(/\/api\/spanwise\/entry/, (route) => route.fulfill({ status: 500, json: { error: 'cannot read block 7: it is damaged' } }));
  await page.goto(server.page + CHECKOUT);
  await expect(page.getByRole('alert')).toContainText('cannot read block 7: it is damaged');
  await expect(page.getByRole('button', { name: 'Try again' })).toBeVisible();
});

test('where there are too few traces the entry point says so', async ({ page }) => {
  await page.goto(`${server.page}/entry/lonely/${encodeURIComponent('GET /once')}`);
  await expect(page.getByText('The slowest: 1 trace is not enough to say; 5 are needed.')).toBeVisible();
  await page.goto(`${server.page}/entry/auth/${encodeURIComponent('POST /nothing')}`);
  await expect(page.getByRole('heading', { name: 'No traces of this entry point in the window' })).toBeVisible();
});
