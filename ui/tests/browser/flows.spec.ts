import { accessible, expect, test } from './page';
import { Server } from './server';
import { HOSTILE, hostile, shop, World } from './world';

let server: Server;
let cart = '';
let failed = '';
let evil = '';

test.beforeAll(async () => {
  let start = 0;
  ({ server, start, cart, failed } = await Server.ofShop());
  const bad = hostile(start + 1000);
  evil = bad.id;
  await server.send(bad.world);
});

test.afterAll(() => server?.stop());

test('search, open, expand, details: and a reload keeps it all', async ({ page }) => {
  await page.goto(`${server.page}/search`);
  await page.getByLabel('Service', { exact: true }).selectOption('cart');
  await expect(page).toHaveURL(/q=/);
  await page.getByRole('table', { name: 'Traces' }).getByRole('link', { name: /gateway GET \/cart/ }).first().click();
  await expect(page.getByRole('heading', { name: /gateway GET \/cart/ })).toBeVisible();
  const repeated = page.getByRole('row').filter({ hasText: /×\d+/ }).first();
  await expect(repeated).toHaveAttribute('aria-expanded', 'false');
  const before = Number(await page.getByRole('treegrid').getAttribute('aria-rowcount'));
  await repeated.getByRole('button', { name: 'Expand' }).click();
  await expect.poll(async () => Number(await page.getByRole('treegrid').getAttribute('aria-rowcount'))).toBeGreaterThan(before + 10);
  await page.getByRole('row').filter({ hasText: 'SELECT' }).first().click();
  const details = page.getByRole('complementary', { name: 'Span details' });
  await expect(details.getByRole('rowheader', { name: 'db.statement' })).toBeVisible();
  await expect(details.getByText(/SELECT item FROM carts|SELECT \* FROM items/).first()).toBeVisible();
  await accessible(page);
  const [rows, address] = [await page.getByRole('treegrid').getAttribute('aria-rowcount'), page.url()];
  await page.reload();
  await expect(details.getByRole('rowheader', { name: 'db.statement' })).toBeVisible();
  await expect(page.getByRole('treegrid')).toHaveAttribute('aria-rowcount', rows ?? '');
  expect(page.url()).toBe(address);
  await page.goBack();
  await expect(page.getByRole('table', { name: 'Traces' })).toBeVisible();
});

test('hostile text is shown as text and runs nothing', async ({ page }) => {
  const dialogs: string[] = [];
  page.on('dialog', (dialog) => {
    dialogs.push(dialog.message());
    void dialog.dismiss();
  });
  const answer = await page.goto(`${server.page}/trace/${evil}?view=events`);
  expect(answer?.headers()['content-security-policy']).toContain("default-src 'self'");
  expect(answer?.headers()['x-content-type-options']).toBe('nosniff');
  expect(answer?.headers()['x-frame-options']).toBe('DENY');
  await expect(page.getByRole('cell', { name: HOSTILE, exact: true })).toBeVisible();
  for (const view of ['', '?view=flame', '?view=table', '?view=compare']) {
    await page.goto(`${server.page}/trace/${evil}${view}`);
    await expect(page.getByRole('heading', { name: /onerror/ })).toBeVisible();
  }
  await page.goto(`${server.page}/trace/${evil}`);
  await page.getByRole('row').first().click();
  await expect(page.getByRole('complementary').getByText(HOSTILE, { exact: true }).first()).toBeVisible();
  await expect(page.getByRole('complementary').getByRole('cell', { name: /javascript:window\.hurt=1/ })).toBeVisible();
  await page.goto(`${server.page}/search?q=${encodeURIComponent(`{ name = "${HOSTILE}" `)}`);
  await expect(page.getByRole('alert')).toBeVisible();
  await page.goto(`${server.page}/map?window=all`);
  await page.goto(`${server.page}/`);
  await expect(page.getByRole('table', { name: 'Services' }).getByText(/onerror/)).toBeVisible();
  expect(await page.evaluate(() => (window as unknown as { hurt?: number }).hurt)).toBeUndefined();
  expect(await page.locator('img[src="x"]').count()).toBe(0);
  expect(dialogs).toEqual([]);
});

test('an empty store says how to send the first trace', async ({ page }) => {
  const empty = await Server.start();
  try {
    await page.goto(empty.page);
    await expect(page.getByRole('heading', { name: 'Waiting for the first trace' })).toBeVisible();
    for (const [runtime, line] of [['Python', 'opentelemetry-instrument python app.py'], ['Node.js', '--require @opentelemetry/auto-instrumentations-node/register'], ['Java', '-javaagent:opentelemetry-javaagent.jar']] as const) {
      await expect(page.getByText(runtime, { exact: true })).toBeVisible();
      await expect(page.getByText(line)).toBeVisible();
    }
    await page.getByRole('button', { name: 'Copy' }).first().click();
    expect(await page.evaluate(() => navigator.clipboard.readText())).toContain('opentelemetry-instrument python app.py');
    await accessible(page);
    for (const path of ['/search', '/explore', '/map']) {
      await page.goto(`${empty.page}${path}`);
      await expect(page.getByRole('heading', { name: 'Waiting for the first trace' })).toBeVisible();
    }
    // Old data: nothing in the last hour, and an offer to go where it is.
    await page.goto(empty.page);
    await expect(page.getByRole('heading', { name: 'Waiting for the first trace' })).toBeVisible();
    await empty.send(shop(Date.UTC(2020, 5, 1), 30).world);
    // By itself: nobody has to reload.
    await page.getByRole('button', { name: 'Go to the newest data' }).click();
    await expect(page.getByRole('table', { name: 'Services' }).getByText('gateway')).toBeVisible();
    await expect(page).toHaveURL(/from=\d+&to=\d+/);
  } finally {
    await empty.stop();
  }
});

test('the overview names what hurts, says how it knows, and keeps a mute', async ({ page }) => {
  await page.goto(server.page);
  const finding = page.getByRole('article').filter({ hasText: 'N+1 calls' }).first();
  await expect(finding).toBeVisible();
  await finding.getByRole('button', { name: 'How do I know?' }).click();
  await expect(finding.getByText(/calls per request: median/)).toBeVisible();
  await accessible(page);
  await finding.getByRole('button', { name: 'Copy JSON' }).click();
  const copied = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
  expect(copied.kind).toBe('n_plus_one');
  await finding.getByRole('button', { name: 'Mute' }).click();
  await finding.getByLabel('Reason').fill('known since spring');
  await finding.locator('form').getByRole('button', { name: 'Mute' }).click();
  await expect(page.getByText(/muted until .*known since spring/)).toBeVisible();
  await page.reload();
  const muted = page.getByRole('article').filter({ hasText: 'known since spring' });
  await expect(muted).toBeVisible();
  await muted.getByRole('button', { name: 'Unmute' }).click();
  await expect(page.getByText(/known since spring/)).toHaveCount(0);
  await page.getByRole('article').filter({ hasText: 'N+1 calls' }).first().getByRole('link', { name: 'Open an example' }).click();
  await expect(page.getByRole('row').filter({ hasText: 'N+1 calls' }).first()).toBeVisible();
});

test('changes need the header that other origins cannot send', async ({ request }) => {
  const body = { finding: '0123456789abcdef', reason: 'x' };
  expect((await request.post(`${server.page}/api/spanwise/mutes`, { data: body })).status()).toBe(403);
  const headers = { 'X-Spanwise': '1' };
  expect((await request.post(`${server.page}/api/spanwise/mutes`, { data: { finding: '../x' }, headers })).status()).toBe(400);
  expect((await request.post(`${server.page}/api/spanwise/mutes`, { data: { ...body, until: '2001-01-01T00:00:00Z' }, headers })).status()).toBe(400);
  expect((await request.post(`${server.page}/api/spanwise/mutes`, { data: body, headers })).status()).toBe(201);
  expect((await request.delete(`${server.page}/api/spanwise/mutes/0123456789abcdef`, { headers })).status()).toBe(200);
  expect((await request.delete(`${server.page}/api/spanwise/mutes/0123456789abcdef`, { headers })).status()).toBe(404);
});

test('a trace by keyboard: rows, errors, zoom, flame, totals, comparison', async ({ page }) => {
  await page.goto(`${server.page}/trace/${failed}`);
  await expect(page.getByRole('treegrid')).toBeVisible();
  await page.keyboard.press('j');
  await expect(page.getByRole('row', { selected: true })).toContainText('POST /checkout');
  await page.keyboard.press(']');
  await expect(page.getByRole('row', { selected: true })).toContainText('✕');
  await page.keyboard.press('w');
  await expect(page).toHaveURL(/zoom=/);
  await page.keyboard.press('0');
  await expect(page).not.toHaveURL(/zoom=/);
  await page.keyboard.press('l');
  await expect(page.getByRole('row').filter({ hasText: 'CardDeclined' })).toBeVisible();
  await page.keyboard.press('c');
  await expect(page).toHaveURL(/critical=1/);
  await page.keyboard.press('c');
  await page.keyboard.press('f');
  await expect(page.getByRole('img', { name: /Flame graph/ })).toBeVisible();
  await accessible(page);
  await page.keyboard.press('t');
  await expect(page.getByRole('table', { name: 'Totals' })).toBeVisible();
  await page.keyboard.press('x');
  await expect(page.getByRole('table', { name: 'Differences' })).toBeVisible();
  await accessible(page);
  await page.keyboard.press('Escape');
  await page.keyboard.press('/');
  await page.keyboard.type('payment');
  await expect(page.getByRole('status').filter({ hasText: /spans/ })).toBeVisible();
  await page.keyboard.press('Escape');
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog', { name: 'Keys' })).toBeVisible();
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+k');
  await page.keyboard.type(cart);
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: /GET \/cart/ })).toBeVisible();
});

test('a typical trace behind the bars: in outlines, in numbers, and in the address', async ({ page }) => {
  await page.goto(`${server.page}/trace/${cart}`);
  await expect(page.getByRole('treegrid')).toBeVisible();
  const bars = page.locator('.rows canvas');
  const drawn = () => bars.evaluate((canvas) => (canvas as HTMLCanvasElement).toDataURL());
  const before = await drawn();
  await page.keyboard.press('v');
  await expect(page).toHaveURL(/typical=1/);
  const note = page.getByRole('status').filter({ hasText: /Typical: \w{8}, the median of its kind, .* This one took .* (longer|less)/ });
  await expect(note).toBeVisible();
  expect(await drawn()).not.toBe(before);
  // In words what the outlines show: of a span, and of repeated calls.
  const root = page.getByRole('row').first();
  await expect(root.getByRole('gridcell', { name: /typically .* m?s/ })).toBeVisible();
  await expect(root.getByRole('gridcell', { name: /^[+−±]/ })).toBeVisible();
  const repeated = page.getByRole('row').filter({ hasText: /×\d+/ }).first();
  await expect(repeated.getByRole('gridcell', { name: /^\+.* ms/ })).toBeVisible();
  await page.keyboard.press('j');
  await expect(page.getByRole('complementary', { name: 'Span details' }).getByText(/In the typical trace .* here/)).toBeVisible();
  await accessible(page);
  await page.reload();
  await expect(note).toBeVisible();
  await page.keyboard.press('t');
  await expect(page.getByRole('table', { name: 'Totals' }).getByRole('columnheader', { name: 'Difference' })).toBeVisible();
  await accessible(page);
  await page.keyboard.press('t');
  // The trace that one names is laid under instead.
  await page.goto(`${server.page}/trace/${cart}?typical=1&with=${failed}`);
  await expect(page.getByRole('status').filter({ hasText: /Compared with \w{8}, .* spans have no counterpart here/ })).toBeVisible();
  // Behind the shorter stands the longer: the axis goes on until that has ended, unless one has zoomed.
  await page.goto(`${server.page}/trace/${failed}?with=${cart}`);
  await expect(page.getByRole('treegrid')).toBeVisible();
  const last = () => page.locator('.axis .ticks span').last().textContent();
  const alone = await last();
  await page.keyboard.press('v');
  await expect.poll(last).not.toBe(alone);
  await page.keyboard.press('w');
  await expect(page).toHaveURL(/zoom=/);
  await page.keyboard.press('0');
  await expect(page).not.toHaveURL(/zoom=/);
  await page.getByRole('status').getByRole('button', { name: 'Hide' }).click();
  await expect(page).not.toHaveURL(/typical/);
  await expect(page.getByRole('gridcell', { name: /typically/ })).toHaveCount(0);
});

test('where there are too few traces for a typical one, the page says so', async ({ page }) => {
  await page.goto(`${server.page}/trace/${evil}`);
  await page.getByRole('checkbox', { name: 'typical trace' }).check();
  await expect(page.getByRole('status').filter({ hasText: /Not enough data for a typical trace: 1 of this entry point are stored, \d+ are needed/ })).toBeVisible();
  await accessible(page);
});

test('the ledger of a call, and how long it takes among its kind', async ({ page }) => {
  await page.goto(`${server.page}/trace/${cart}`);
  await page.getByRole('row').filter({ hasText: 'gateway' }).nth(1).click();
  const details = page.getByRole('complementary', { name: 'Span details' });
  await expect(details.getByText('Where this call’s time goes')).toBeVisible();
  await expect(details.getByRole('row', { name: /wire out/ })).toBeVisible();
  await expect(details.getByText(/Slower than .* % of \d+ spans of its kind/)).toBeVisible();
  await details.getByRole('button', { name: 'Go to the answering span' }).click();
  await expect(page.getByRole('row', { selected: true })).toContainText('cart');
});

test('the entry point page shows where ordinary and slow requests spend their time', async ({ page }) => {
  await page.goto(server.page);
  await page.getByRole('table', { name: 'Services' }).getByRole('button', { name: 'gateway' }).click();
  await page.getByRole('table', { name: 'Services' }).getByRole('link', { name: 'POST /checkout' }).click();
  await expect(page.getByRole('img', { name: /Ordinary requests/ })).toBeVisible();
  await expect(page.getByRole('img', { name: /The slowest/ })).toBeVisible();
  await expect(page.getByText(/Most of the difference: payment/)).toBeVisible();
  await expect(page.getByRole('link', { name: /median.*at most/ }).first()).toBeVisible();
  await accessible(page);
});

test('a box over the latency of an entry point asks why', async ({ page }) => {
  await page.goto(`${server.page}/entry/gateway/${encodeURIComponent('POST /checkout')}`);
  const heat = page.getByRole('img', { name: /traces: duration over time/ });
  await heat.scrollIntoViewIfNeeded();
  const around = await heat.boundingBox();
  if (!around) throw new Error('the heatmap has no place');
  await page.mouse.move(around.x + 70, around.y + 8);
  await page.mouse.down();
  await page.mouse.move(around.x + around.width - 15, around.y + around.height / 2, { steps: 4 });
  await page.mouse.up();
  await expect(page).toHaveURL(/\/explore\?.*service=gateway.*box=\d+-\d+-\d+-\d+/);
  await expect(page.getByText(/traces of .* started/)).toBeVisible();
  await expect(page.getByRole('region', { name: 'Differences' })).toBeVisible();
});

test('the map: time behind each call, what sends no spans, and a list of it', async ({ page }) => {
  await page.goto(`${server.page}/map`);
  const bank = page.getByRole('button', { name: /bank\.example .*host, sends no spans/ });
  await expect(bank).toBeVisible();
  await expect(page.getByRole('table', { name: 'Calls by waiting' }).getByRole('row').nth(1)).toContainText('→');
  await bank.click();
  await expect(page).toHaveURL(/node=/);
  await expect(page.getByRole('heading', { name: 'Calls of bank.example' })).toBeVisible();
  await accessible(page);
  await page.reload();
  await expect(page.getByRole('heading', { name: 'Calls of bank.example' })).toBeVisible();
});

test('a service: its numbers, operations, calls, and what hurts in it', async ({ page }) => {
  await page.goto(server.page);
  await page.getByRole('table', { name: 'Services' }).getByRole('button', { name: 'cart' }).click();
  await page.getByRole('link', { name: 'All of cart' }).click();
  await expect(page.getByRole('table', { name: 'Operations' }).getByText('GET /cart/{id}')).toBeVisible();
  const calls = page.getByRole('table', { name: 'Calls by waiting' });
  await expect(calls.getByRole('row').filter({ hasText: 'is called by' }).filter({ hasText: 'gateway' })).toBeVisible();
  await expect(page.getByRole('list', { name: 'Findings' }).getByRole('link').first()).toBeVisible();
  await accessible(page);
  await calls.getByRole('link', { name: 'catalog' }).click();
  await expect(page).toHaveURL(/\/service\/catalog/);
  await expect(page.getByRole('table', { name: 'Operations' }).getByText('GET /items/{id}')).toBeVisible();
  await page.goto(`${server.page}/service/nobody`);
  await expect(page.getByRole('heading', { name: 'No requests of this service in the window' })).toBeVisible();
});

test('settings: how the page looks, and what is muted', async ({ page, request }) => {
  const body = { finding: '00112233445566ff', reason: 'being mended' };
  await request.post(`${server.page}/api/spanwise/mutes`, { data: body, headers: { 'X-Spanwise': '1' } });
  await page.goto(`${server.page}/settings`);
  await page.getByRole('button', { name: 'dark' }).click();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
  await accessible(page);
  const muted = page.getByRole('row').filter({ hasText: 'being mended' });
  await muted.getByRole('button', { name: 'Unmute' }).click();
  await expect(muted).toHaveCount(0);
  await page.reload();
  await expect(page.getByRole('button', { name: 'dark' })).toHaveAttribute('aria-pressed', 'true');
});

test('system: what was received, lost and stored', async ({ page }) => {
  await page.goto(`${server.page}/system`);
  await expect(page.getByText('Spans stored')).toBeVisible();
  await expect(page.getByRole('table', { name: 'Own metrics' }).getByText('otelcol_receiver_accepted_spans').first()).toBeVisible();
  await accessible(page);
});

test('a box over slow traces tells what they have in common, and the address keeps it', async ({ page }) => {
  await page.goto(`${server.page}/explore?service=gateway`);
  const heat = page.getByRole('img', { name: /traces: duration over time/ });
  const around = await heat.boundingBox();
  if (!around) throw new Error('the heatmap has no place');
  // The slower half of the scale: long carts and timeouts.
  await page.mouse.move(around.x + 70, around.y + 8);
  await page.mouse.down();
  await page.mouse.move(around.x + around.width - 15, around.y + around.height * 0.62, { steps: 4 });
  await page.mouse.up();
  await expect(page).toHaveURL(/box=\d+-\d+-\d+-\d+/);
  const differences = page.getByRole('region', { name: 'Differences' });
  await expect(differences.getByText(/traces in it against \d+ others/)).toBeVisible();
  const first = differences.getByRole('article').first();
  await expect(first.getByText('in the box')).toBeVisible();
  await accessible(page);
  const counted = await page.getByText(/traces of .* started/).textContent();
  await page.reload();
  await expect(page.getByText(/traces of .* started/)).toHaveText(counted ?? '');
  await differences.getByRole('link', { name: 'Include' }).first().click();
  await expect(page).toHaveURL(/q=/);
  await expect(page).not.toHaveURL(/box=/);
  await page.getByRole('button', { name: /slowest/ }).click();
  await expect(page.getByText(/Not enough data/).or(differences).first()).toBeVisible();
  // By keyboard: a box grows with Shift.
  await page.getByRole('button', { name: 'Clear the box' }).click();
  await heat.focus();
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('Shift+ArrowRight');
  await expect(page).toHaveURL(/box=/);
});

test('of sampled traffic every page says that its counts are of all there was', async ({ page }) => {
  const sampled = await Server.start();
  try {
    const world = new World(11);
    // One in four was kept.
    world.state = 'ot=th:c';
    await sampled.send(shop(Date.now() - 50 * 60_000, 120, 11, world).world);
    await page.goto(sampled.page);
    const note = page.getByRole('note').filter({ hasText: 'the 120 traces that were kept stand for 480' });
    await expect(note).toBeVisible();
    await expect(page.getByRole('table', { name: 'Services' }).getByRole('row').filter({ hasText: 'gateway' }).getByTitle('480 requests, told from 120 that were kept')).toContainText('±');
    await accessible(page);
    await page.goto(`${sampled.page}/explore`);
    await expect(note).toBeVisible();
    await expect(page.getByText('480 traces,')).toBeVisible();
    await page.goto(`${sampled.page}/map`);
    await expect(note).toBeVisible();
    await page.goto(`${sampled.page}/entry/gateway/${encodeURIComponent('GET /orders')}`);
    await expect(page.getByRole('note').filter({ hasText: 'the 40 traces that were kept stand for 160' })).toBeVisible();
    await accessible(page);
  } finally {
    await sampled.stop();
  }
});

test('a host whose clock is ahead: shown as written, badged, and set right on demand', async ({ page }) => {
  const skewed = await Server.start();
  try {
    const world = new World(12);
    world.ahead.set('auth', 250);
    const made = shop(Date.now() - 50 * 60_000, 60, 12, world);
    await skewed.send(made.world);
    await page.goto(`${skewed.page}/trace/${made.cart}`);
    const auth = page.getByRole('row').filter({ hasText: 'POST /verify' }).first();
    await expect(auth.getByText('skew', { exact: true })).toBeVisible();
    await expect(page.getByRole('note').filter({ hasText: /cannot be true: clocks of hosts differ/ })).toBeVisible();
    await page.getByRole('checkbox', { name: 'clocks set right' }).check();
    await expect(page).toHaveURL(/clocks=corrected/);
    await expect(auth.getByText('moved', { exact: true })).toBeVisible();
    await expect(page.getByRole('note').filter({ hasText: /auth-1 −2(49|50|51) ms/ })).toBeVisible();
    await accessible(page);
    await page.reload();
    await expect(auth.getByText('moved', { exact: true })).toBeVisible();
    await page.keyboard.press('h');
    await expect(auth.getByText('skew', { exact: true })).toBeVisible();
    await page.goto(`${skewed.page}/system`);
    await expect(page.getByRole('table', { name: 'Pairs of hosts whose clocks differ' }).getByRole('row').filter({ hasText: 'cart-1' })).toContainText(/\+2(49|50|51) ms/);
    await accessible(page);
  } finally {
    await skewed.stop();
  }
});
