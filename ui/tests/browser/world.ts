// A made-up shop with known problems: what the browser tests and the screenshots look at. The same every time, except
// that its traces started within the last hour.

interface SpanJson {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  traceState?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: Record<string, unknown> }[];
  status?: { code: number; message?: string };
  events?: { timeUnixNano: string; name: string; attributes: { key: string; value: Record<string, unknown> }[] }[];
}

const [INTERNAL, SERVER, CLIENT] = [1, 2, 3];
type Attributes = Record<string, string | number | boolean>;

/** Numbers between 0 and 1, the same for the same seed. */
export function dice(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 4294967296;
  };
}

function attributes(values: Attributes) {
  return Object.entries(values).map(([key, value]) => ({
    key,
    value: typeof value === 'number' ? (Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value }) : typeof value === 'boolean' ? { boolValue: value } : { stringValue: value },
  }));
}

/** Collects spans by service, and writes them as OTLP. */
export class World {
  readonly random: () => number;
  /** The tracestate of every span that is made. */
  state = '';
  /** By how many milliseconds the clock of a service's host is ahead. */
  readonly ahead = new Map<string, number>();
  private readonly spans = new Map<string, SpanJson[]>();
  private number = 0;

  constructor(seed: number) {
    this.random = dice(seed);
  }

  id(bytes: number): string {
    let text = '';
    while (text.length < bytes * 2) text += Math.floor(this.random() * 4294967296).toString(16).padStart(8, '0');
    return text.slice(0, bytes * 2);
  }

  trace(startMs: number): Trace {
    this.number += 1;
    return new Trace(this, this.id(16), startMs);
  }

  put(service: string, span: SpanJson): void {
    const held = this.spans.get(service);
    if (held) held.push(span);
    else this.spans.set(service, [span]);
  }

  /** Requests of at most `most` spans each. */
  requests(most = 4000): unknown[] {
    const found: unknown[] = [];
    for (const [service, spans] of this.spans) {
      for (let at = 0; at < spans.length; at += most) {
        const resource = { attributes: attributes({ 'service.name': service, 'service.version': service === 'payment' ? '2.4.1' : '1.9.0', 'host.name': `${service}-1`, 'telemetry.sdk.language': 'nodejs' }) };
        found.push({ resourceSpans: [{ resource, scopeSpans: [{ scope: { name: 'shop', version: '1.0' }, spans: spans.slice(at, at + most) }] }] });
      }
    }
    return found;
  }
}

export class Trace {
  constructor(readonly world: World, readonly id: string, readonly startMs: number) {}

  /** A span from `from` to `to` milliseconds after the trace's start; its id. */
  span(service: string, name: string, kind: number, from: number, to: number, parent?: string, values: Attributes = {}, error?: string, events: [string, number, Attributes][] = []): string {
    const ahead = this.world.ahead.get(service) ?? 0;
    const at = (ms: number) => String(BigInt(Math.round(this.startMs)) * 1_000_000n + BigInt(Math.round((ms + ahead) * 1e6)));
    const spanId = this.world.id(8);
    this.world.put(service, {
      traceId: this.id,
      spanId,
      ...(parent && { parentSpanId: parent }),
      ...(this.world.state && { traceState: this.world.state }),
      name,
      kind,
      startTimeUnixNano: at(from),
      endTimeUnixNano: at(to),
      attributes: attributes(values),
      ...(error !== undefined && { status: { code: 2, message: error } }),
      ...(events.length > 0 && { events: events.map(([event, ms, own]) => ({ timeUnixNano: at(ms), name: event, attributes: attributes(own) })) }),
    });
    return spanId;
  }

  /** A call over HTTP: the client's span and the server's, a millisecond of wire on each side. Answers the server's. */
  call(from: string, to: string, route: string, start: number, end: number, parent: string, values: Attributes = {}, error?: string): string {
    const [method = 'GET', path = '/'] = route.split(' ');
    const client = this.span(from, method, CLIENT, start, end, parent, { 'http.request.method': method, 'url.full': `http://${to}${path.replace('{id}', String(Math.floor(this.world.random() * 900 + 100)))}`, 'server.address': to });
    const wire = Math.min(1, (end - start) / 5);
    return this.span(to, route, SERVER, start + wire, end - wire, client, { 'http.request.method': method, 'http.route': path, 'http.response.status_code': error ? 500 : 200, ...values }, error);
  }

  sql(service: string, statement: string, start: number, end: number, parent: string, values: Attributes = {}): void {
    this.span(service, statement.split(' ').slice(0, 1).join(' '), CLIENT, start, end, parent, { 'db.system': 'postgresql', 'db.name': 'shop', 'db.statement': statement, ...values });
  }
}

/** The shop: a cart that asks item by item, an auth service behind everything, a bank that times out, a slow serialiser. */
export function shop(startMs: number, count: number, seed = 7, world = new World(seed)): { world: World; cart: string; failed: string } {
  const { random } = world;
  const found = { cart: '', failed: '' };
  for (let number = 0; number < count; number += 1) {
    const at = startMs + (number / count) * 55 * 60_000 + random() * 4000;
    const kind = number % 3;
    const user: Attributes = { 'user.id': `user-${Math.floor(random() * 400)}`, 'user.tier': random() < 0.2 ? 'gold' : 'plain' };
    const trace = world.trace(at);
    if (kind === 0) {
      const items = 12 + Math.floor(random() ** 2 * 40);
      const each = 9 + random() * 4;
      const end = 40 + items * each;
      const root = trace.span('gateway', 'GET /cart/{id}', SERVER, 0, end, undefined, { 'http.request.method': 'GET', 'http.route': '/cart/{id}', 'http.response.status_code': 200, 'cart.items': items, ...user });
      const cart = trace.call('gateway', 'cart', 'GET /cart/{id}', 3, end - 3, root);
      trace.call('cart', 'auth', 'POST /verify', 5, 17, cart, { 'auth.cached': false });
      trace.sql('cart', "SELECT item FROM carts WHERE id = 'x'", 19, 25, cart, { 'db.response.returned_rows': items });
      for (let item = 0; item < items; item += 1) {
        const begin = 28 + item * each;
        const catalog = trace.call('cart', 'catalog', 'GET /items/{id}', begin, begin + each - 0.4, cart);
        trace.sql('catalog', `SELECT * FROM items WHERE id = ${item}`, begin + 2.4, begin + each - 2.6, catalog);
      }
      if (items > 25 && !found.cart) found.cart = trace.id;
    } else if (kind === 1) {
      const isOld = number % 87 === 1;
      const isDeclined = !isOld && random() < 0.06;
      const pay = isOld ? 3000 : 45 + random() * 30;
      const end = 60 + pay;
      const root = trace.span('gateway', 'POST /checkout', SERVER, 0, end, undefined, { 'http.request.method': 'POST', 'http.route': '/checkout', 'http.response.status_code': isDeclined ? 402 : 200, 'card.brand': isOld ? 'maestro' : random() < 0.5 ? 'visa' : 'mastercard', ...user }, isDeclined ? 'card declined' : undefined);
      const payment = trace.call('gateway', 'payment', 'POST /charge', 8, end - 6, root, { 'payment.amount': Math.round(random() * 200) }, isDeclined ? 'card declined' : undefined);
      trace.call('payment', 'auth', 'POST /verify', 10, 24, payment, { 'auth.cached': false });
      const events: [string, number, Attributes][] = isDeclined ? [['exception', 25 + pay - 2, { 'exception.type': 'CardDeclined', 'exception.message': 'insufficient funds' }]] : [];
      trace.span('payment', 'POST', CLIENT, 26, 26 + pay, payment, { 'http.request.method': 'POST', 'url.full': 'https://bank.example/charge', 'server.address': 'bank.example' }, isDeclined ? '402' : isOld ? 'timeout, tried the second bank' : undefined, events);
      trace.span('payment', 'PUBLISH receipts', 4, 28 + pay, 29 + pay, payment, { 'messaging.system': 'kafka', 'messaging.destination.name': 'receipts', 'messaging.operation': 'publish' });
      if (isDeclined && !found.failed) found.failed = trace.id;
    } else {
      const rows = 100 + Math.floor(random() * 900);
      const serialise = 30 + rows * 0.22;
      const end = 40 + serialise;
      const root = trace.span('gateway', 'GET /orders', SERVER, 0, end, undefined, { 'http.request.method': 'GET', 'http.route': '/orders', 'http.response.status_code': 200, ...user });
      const orders = trace.call('gateway', 'orders', 'GET /orders', 2, end - 3, root, { 'report.bytes': rows * 220 });
      trace.call('orders', 'auth', 'POST /verify', 4, 15, orders, { 'auth.cached': false });
      trace.span('orders', 'GET session', CLIENT, 15.5, 16.2, orders, { 'db.system': 'redis', 'db.statement': 'GET session:12' });
      trace.sql('orders', 'SELECT * FROM orders WHERE user_id = 4', 17, 25, orders, { 'db.response.returned_rows': rows });
    }
  }
  return { world, ...found };
}

/** Text that would do something if it were ever more than text. */
export const HOSTILE = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>"\'`{{7*7}}';

export function hostile(startMs: number): { world: World; id: string } {
  const world = new World(99);
  const trace = world.trace(startMs);
  const root = trace.span(`svc ${HOSTILE}`, `GET ${HOSTILE}`, SERVER, 0, 30, undefined, { [`key ${HOSTILE}`]: HOSTILE, link: 'javascript:window.hurt=1' }, HOSTILE, [[HOSTILE, 3, { [HOSTILE]: HOSTILE }]]);
  trace.span('‮evil\u0007\n\tname', HOSTILE.repeat(20), INTERNAL, 5, 20, root, {});
  return { world, id: trace.id };
}

/** One trace of many spans: a tree of calls with repeats, as a batch job leaves. */
export function huge(startMs: number, spans: number): { world: World; id: string } {
  const world = new World(5);
  const trace = world.trace(startMs);
  const root = trace.span('batch', 'nightly run', SERVER, 0, spans * 1.2 + 10, undefined, {});
  let [made, at] = [1, 1];
  while (made < spans) {
    const steps = Math.min(40, spans - made - 1);
    const chunk = trace.span('batch', `chunk of ${['users', 'orders', 'items'][made % 3]}`, INTERNAL, at, at + steps * 1.2 + 0.5, root, {});
    made += 1;
    for (let step = 0; step < steps && made < spans; step += 1) {
      const begin = at + step * 1.2;
      const failed = world.random() < 0.002;
      const id = trace.span(['worker', 'store', 'mail'][step % 3] ?? 'worker', `handle ${['row', 'page', 'letter', 'key'][step % 4]}`, INTERNAL, begin, begin + 1.1, chunk, {}, failed ? 'bad row' : undefined);
      made += 1;
      if (step % 5 === 0 && made < spans) {
        trace.span('store', 'SELECT', CLIENT, begin + 0.2, begin + 0.8, id, {});
        made += 1;
      }
    }
    at += steps * 1.2 + 0.6;
  }
  return { world, id: trace.id };
}

/** One minute with more of everything than is looked at, drawn or told apart. */
export function busy(startMs: number, pings: number, services: number): World {
  const world = new World(21);
  for (let number = 0; number < pings; number += 1) {
    const trace = world.trace(startMs + (number / pings) * 59_000);
    const root = trace.span('edge', 'GET /ping', SERVER, 0, 10 + (number % 7), undefined, { 'http.request.method': 'GET', 'http.route': '/ping' });
    trace.call('edge', 'pong', 'GET /pong', 2, 8, root);
  }
  for (let number = 0; number < services; number += 1) world.trace(startMs + (number / services) * 59_000).span(`tiny-${number}`, 'tick', SERVER, 0, 2);
  return world;
}

/** A trace with a span that came without a time. */
export function timeless(startMs: number): { world: World; id: string } {
  const world = new World(31);
  const trace = world.trace(startMs);
  const root = trace.span('mobile', 'GET /login', SERVER, 0, 40);
  trace.call('mobile', 'auth', 'POST /token', 5, 30, root);
  // A millisecond after 1970 began: a number as large as this one's distance from it is not exact to the nanosecond.
  trace.span('auth', 'lost', INTERNAL, 1 - startMs, 1 - startMs, root);
  return { world, id: trace.id };
}

/** A hundred services that call one another in layers. */
export function wide(startMs: number, services: number, count: number): World {
  const world = new World(11);
  const layers = 7;
  const name = (number: number) => `${['edge', 'web', 'core', 'rank', 'data', 'index', 'blob'][number % layers]}-${String(Math.floor(number / layers)).padStart(2, '0')}`;
  for (let number = 0; number < count; number += 1) {
    const trace = world.trace(startMs + number * 500);
    const first = (number % Math.ceil(services / layers)) * layers;
    const root = trace.span(name(first), 'GET /page', SERVER, 0, 400, undefined, { 'http.request.method': 'GET', 'http.route': '/page' });
    let [parent, own, from, to] = [root, first, 5, 390];
    for (let layer = 1; layer < layers; layer += 1) {
      const next = (Math.floor(own / layers) + Math.floor(world.random() * 2)) * layers + layer;
      if (next >= services) break;
      const failed = next % 23 === 0 && world.random() < 0.3;
      const server = trace.call(name(own), name(next), `GET /l${layer}`, from, to, parent, {}, failed ? 'broken' : undefined);
      if (world.random() < 0.4) trace.sql(name(next), 'SELECT 1', from + 2, from + 8, server);
      [parent, own, from, to] = [server, next, from + 10, to - 8 - world.random() * 40];
    }
  }
  return world;
}
