import { describe, expect, it } from 'vitest';
import { ColumnsReader, readColumns } from '../../src/api/columns';
import type { TraceColumns } from '../../src/api/types';
import { ghostsOf, typicalNs } from '../../src/model/ghosts';
import { blocks, compareTrees, pathTree } from '../../src/model/paths';
import { EVENT, GROUP, reveal, rowOfSpan, rowsOf, SPAN } from '../../src/model/rows';
import { criticalBelow, findSpans, idOf, ledgerOf, membersOf, placeOf, totals, traceModel } from '../../src/model/trace';
import { bounded } from '../../src/model/traceState';

/** `[parent, service, name, start, duration]`, with the critical path over every span's own time. */
function trace(lines: [number, string, string, number, number][], failed: number[] = [], more: { ledger?: (number | null)[][]; segments?: [number | null, number, number][] } = {}): TraceColumns {
  const services = [...new Set(lines.map(([, service]) => service))];
  const names = [...new Set(lines.map(([, , name]) => name))];
  const children = lines.map((_, place) => lines.flatMap(([parent, , , , duration]) => (parent === place ? [duration] : [])).reduce((sum, one) => sum + one, 0));
  const self = lines.map(([, , , , duration], place) => duration - (children[place] ?? 0));
  return readColumns(new TextEncoder().encode(JSON.stringify({
    trace_id: '0'.repeat(32),
    root: { service: lines[0]?.[1] ?? '', operation: lines[0]?.[2] ?? '' },
    start_unix_nano: '0',
    duration_ns: lines[0]?.[4] ?? 0,
    span_count: lines.length,
    error_count: failed.length,
    services: services.map((name) => ({ name, spans: 1 })),
    critical_path: { mode: 'spanwise', segments: more.segments ?? lines.map(([, , , start], place) => [place, start, start + (self[place] ?? 0)]), by_service: [] },
    queue: [],
    ledger: more.ledger ?? [],
    findings: [],
    clocks: { corrected: false, impossible: 0, traces: 0, hosts: [] },
    columns: {
      services,
      names,
      operations: names,
      ids: lines.map((_, place) => (place + 1).toString(16).padStart(16, '0')).join(''),
      parent: lines.map(([parent]) => parent),
      service: lines.map(([, service]) => services.indexOf(service)),
      name: lines.map(([, , name]) => names.indexOf(name)),
      operation: lines.map(([, , name]) => names.indexOf(name)),
      kind: lines.map(() => 0),
      start_ns: lines.map(([, , , start]) => start),
      duration_ns: lines.map(([, , , , duration]) => duration),
      self_ns: self,
      critical_ns: self,
      status: lines.map((_, place) => (failed.includes(place) ? 2 : 0)),
      flags: [],
      messages: failed.map((place) => [place, 'out of luck']),
      events: [],
    },
  })));
}

describe('spans without a time of their start', () => {
  const at = (startUnixNano: string, lines: Parameters<typeof trace>[0]) => {
    const read = trace(lines);
    return traceModel({ ...read, head: { ...read.head, start_unix_nano: startUnixNano } });
  };
  it('are told, and do not stretch the axis over half a century', () => {
    const start = 1_543_549_464_565_000_000;
    const model = at(String(start), [[-1, 'a', 'get', 0, 1000], [0, 'b', 'lost', -start, 0], [0, 'b', 'early', -50, 2000]]);
    expect([model.firstNs, model.lastNs]).toEqual([-50, 1950]);
    expect([0, 1, 2].map((place) => model.flags.get(place) ?? [])).toEqual([[], ['no_time'], []]);
  });

  it('are as good as others where no span has a time, and give way where the first has none', () => {
    const none = at('0', [[-1, 'a', 'get', 0, 1000], [0, 'b', 'lost', 0, 0]]);
    expect([none.firstNs, none.lastNs, none.flags.size]).toEqual([0, 1000, 0]);
    const first = at('0', [[-1, 'a', 'get', 0, 0], [0, 'b', 'told', 1.5e18, 4096]]);
    expect([first.firstNs, first.lastNs]).toEqual([1.5e18, 1.5e18 + 4096]);
    expect(first.flags.get(0)).toEqual(['no_time']);
  });
});

/** A cart that reads six items one by one, with another call between them. */
const cart = () => traceModel(trace([
  [-1, 'gateway', 'GET /cart', 0, 1000],
  [0, 'cart', 'read', 100, 800],
  [1, 'db', 'item', 110, 100],
  [2, 'db', 'row', 120, 50],
  [1, 'db', 'item', 220, 100],
  [1, 'cache', 'get', 330, 10],
  [1, 'db', 'item', 340, 100],
  [1, 'db', 'item', 450, 100],
  [1, 'db', 'item', 560, 100],
  [1, 'db', 'item', 670, 100],
], [7]));

const none = { closed: new Set<number>(), open: new Set<number>() };
const shown = (rows: ReturnType<typeof rowsOf>) => Array.from({ length: rows.count }, (_, row) => `${'sge'[rows.kind[row] ?? 0]}${rows.reference[row]}@${rows.depth[row]}`);

describe('rows', () => {
  it('fold repeated siblings into one, where the first of them stands', () => {
    expect(shown(rowsOf(cart(), none))).toEqual(['s0@0', 's1@1', 'g0@2', 's5@2']);
  });

  it('open a group below its row, each member with its own subtree', () => {
    expect(shown(rowsOf(cart(), { ...none, open: new Set([0]) }))).toEqual(['s0@0', 's1@1', 'g0@2', 's2@3', 's3@4', 's4@3', 's6@3', 's7@3', 's8@3', 's9@3', 's5@2']);
  });

  it('hide what is below a closed span', () => {
    expect(shown(rowsOf(cart(), { ...none, closed: new Set([1]) }))).toEqual(['s0@0', 's1@1']);
  });

  it('show events below their span', () => {
    const events = { total: 1, events: [{ place: 1, time_ns: 5, name: 'said', attributes: {} }] };
    const rows = rowsOf(cart(), { ...none, events });
    expect(rows.kind[2]).toBe(EVENT);
    expect(shown(rows)).toEqual(['s0@0', 's1@1', 'e0@2', 'g0@2', 's5@2']);
  });

  it('show the critical path alone', () => {
    const model = cart();
    model.critical.fill(0);
    model.critical[3] = 5;
    expect(shown(rowsOf(model, { ...none, open: new Set([0]), only: criticalBelow(model) }))).toEqual(['s0@0', 's1@1', 'g0@2', 's2@3', 's3@4']);
  });

  it('open what hides a span', () => {
    const model = cart();
    const next = reveal(model, 3, new Set([1, 5]), new Set());
    expect(next.closed).toEqual(new Set([5]));
    expect(rowOfSpan(rowsOf(model, next), 3)).toBe(4);
    expect(rowOfSpan(rowsOf(model, none), 3)).toBe(-1);
  });

  it('put every span once when all groups are open', () => {
    const lines: [number, string, string, number, number][] = [[-1, 'a', 'root', 0, 1e9]];
    for (let place = 1; place < 2000; place += 1) lines.push([place % 3 === 0 ? 0 : place - 1, 'a', `op ${place % 7}`, place, 1]);
    const model = traceModel(trace(lines));
    const rows = rowsOf(model, { closed: new Set(), open: new Set(Array(model.groups.count).keys()) });
    expect(Array.from(rows.kind.slice(0, rows.count)).filter((kind) => kind === SPAN).length).toBe(2000);
    expect(Array.from(rows.kind.slice(0, rows.count)).filter((kind) => kind === GROUP).length).toBe(model.groups.count);
  });

  it('show every span once when all is open, however deep', () => {
    const lines: [number, string, string, number, number][] = Array.from({ length: 20_000 }, (_, place) => [place - 1, 'a', 'deep', place, 1]);
    const columns = trace([[-1, 'a', 'deep', 0, 1]]);
    columns.columns.parent = Int32Array.from(lines, ([parent]) => parent);
    for (const key of ['service', 'name', 'operation'] as const) columns.columns[key] = new Uint32Array(lines.length);
    for (const key of ['kind', 'status'] as const) columns.columns[key] = new Uint8Array(lines.length);
    for (const key of ['start_ns', 'duration_ns', 'self_ns', 'critical_ns'] as const) columns.columns[key] = new Float64Array(lines.length);
    const model = traceModel(columns);
    expect(rowsOf(model, none).count).toBe(20_000);
    expect(model.depth[19_999]).toBe(19_999);
    expect(model.end[0]).toBe(20_000);
  });
});

describe('columns', () => {
  const read = (text: string) => readColumns(new TextEncoder().encode(text));
  const columns = (numbers: string) => read(`{"columns":{"start_ns":${numbers}}}`).columns.start_ns;

  it('are read as numbers, however they are written', () => {
    expect([...columns('[0,-1,12345678901234567,1.5,-2e3, 7 ,\n8]')]).toEqual([0, -1, 12345678901234567, 1.5, -2000, 7, 8]);
    expect([...columns('[]')]).toEqual([]);
    expect([...columns(`[${Array.from({ length: 9000 }, (_, at) => at)}]`)]).toEqual(Array.from({ length: 9000 }, (_, at) => at));
  });

  it('are read beside texts that look like them', () => {
    const text = 'a "b" \\ ] } [1,2] 𝄞';
    const found = read(JSON.stringify({ trace_id: text, findings: [{ title: text, deep: [[{}]] }], queue: [[1, 2, -3]], critical_path: { mode: text, segments: [[null, 0, 4], [3, 4, 9]], by_service: [] }, columns: { services: [text], [text]: 1 } }, null, 1));
    expect(found.head).toMatchObject({ trace_id: text, findings: [{ title: text, deep: [[{}]] }], critical_path: { mode: text, by_service: [] } });
    expect(found.queue).toEqual([[1, 2, -3]]);
    expect([...found.segments]).toEqual([Number.NaN, 0, 4, 3, 4, 9]);
    expect(found.columns.services).toEqual([text]);
  });

  it('are read piece by piece, wherever they are cut', () => {
    const whole = new TextEncoder().encode(JSON.stringify({ trace_id: 'a\\"b\\', ledger: [[1, null, -30], [2, 5, 1e21]], columns: { names: ['x ] " 𝄞', '\\'], parent: [-1, 0], start_ns: [0, 1234567890123456, 2.5] } }));
    for (let cut = 0; cut <= whole.length; cut += 1) {
      const reader = new ColumnsReader(0);
      for (const part of [whole.slice(0, cut), whole.slice(cut, cut + 1), whole.slice(cut + 1)]) reader.push(part);
      const { head, ledger, columns: found } = reader.finish();
      expect([head.trace_id, ...ledger, ...found.parent, ...found.start_ns, ...found.names]).toEqual(['a\\"b\\', 1, Number.NaN, -30, 2, 5, 1e21, -1, 0, 0, 1234567890123456, 2.5, 'x ] " 𝄞', '\\']);
    }
  });

  it('that are cut off are no trace', () => {
    const whole = '{"trace_id":"a\\"","ledger":[[1,null,3]],"columns":{"parent":[-1,0],"names":["x"]}}';
    for (let length = 0; length < whole.length; length += 1) expect(() => read(whole.slice(0, length))).toThrow(SyntaxError);
    expect(read(whole).head.trace_id).toBe('a"');
  });
});

describe('a trace', () => {
  it('knows a span by its id, a call by its line of the ledger', () => {
    const model = traceModel(trace([[-1, 'a', 'x', 0, 90], [0, 'a', 'y', 1, 50], [1, 'b', 'z', 2, 40]], [], { ledger: [[1, 2, 1, 4, 40, 6, 39], [0, null, 0, 0, 90, 0, 0]] }));
    expect(ledgerOf(model, 1)).toEqual({ server: 2, before: 1, wireOut: 4, inServer: 40, wireBack: 6, after: 39 });
    expect(ledgerOf(model, 0)).toMatchObject({ server: null, inServer: 90 });
    expect(ledgerOf(model, 2)).toBeUndefined();
    expect([0, 1, 2].map((place) => placeOf(model, idOf(model, place)))).toEqual([0, 1, 2]);
    expect([placeOf(model, ''), placeOf(model, '0'.repeat(16)), placeOf(model, `${idOf(model, 1).slice(8)}${idOf(model, 2).slice(0, 8)}`)]).toEqual([-1, -1, -1]);
  });

  it('has its critical path in order of time, and by span', () => {
    const { segments } = traceModel(trace([[-1, 'a', 'x', 0, 90], [0, 'a', 'y', 10, 50]], [], { segments: [[0, 60, 90], [1, 10, 60], [null, 3, 4], [0, 0, 10]] }));
    expect([...segments.start]).toEqual([0, 10, 60]);
    expect([...segments.first]).toEqual([0, 2, 3]);
    expect([...segments.ofPlace]).toEqual([0, 2, 1]);
  });

  it('folds siblings of one kind that are enough', () => {
    const model = cart();
    expect(model.groups.count).toBe(1);
    expect([...membersOf(model, 0)]).toEqual([2, 4, 6, 7, 8, 9]);
    expect([...model.groupOf]).toEqual([-1, -1, 0, -1, 0, -1, 0, 0, 0, 0]);
  });

  it('finds spans by what is written on them', () => {
    const model = cart();
    expect(findSpans(model, 'CACHE')).toEqual([5]);
    expect(findSpans(model, 'item')).toEqual([2, 4, 6, 7, 8, 9]);
    expect(findSpans(model, 'error')).toEqual([7]);
    expect(findSpans(model, 'luck')).toEqual([7]);
    expect(findSpans(model, '000a')).toEqual([9]);
    expect(findSpans(model, '  ')).toEqual([]);
  });

  it('adds up: own time is all work, critical time the duration', () => {
    const rows = totals(cart());
    expect(rows.reduce((sum, row) => sum + row.selfNs, 0)).toBe(1000);
    expect(rows.reduce((sum, row) => sum + row.criticalNs, 0)).toBe(1000);
    expect(rows.find((row) => row.operation === 'item')).toMatchObject({ spans: 6, errors: 1, totalNs: 600, longestNs: 100 });
  });

  it('keeps a zoom within itself', () => {
    const model = cart();
    expect(bounded(model, { from: -500, to: 200 })).toEqual({ from: 0, to: 700 });
    expect(bounded(model, { from: 900, to: 1500 })).toEqual({ from: 400, to: 1000 });
    expect(bounded(model, { from: -1e9, to: 1e9 })).toEqual({ from: 0, to: 1000 });
  });
});

describe('trees of calls', () => {
  it('are as wide as the trace took, children within their parents', () => {
    const nodes = pathTree(cart(), 'critical');
    expect(nodes[0]).toMatchObject({ operation: 'GET /cart', calls: 1 });
    expect(nodes[0]?.total_ms).toBeCloseTo(0.001);
    expect(nodes.find((node) => node.operation === 'item')).toMatchObject({ calls: 6, depth: 2 });
    const placed = blocks(nodes, nodes[0]?.total_ms ?? 0);
    for (const block of placed) {
      expect(block.left).toBeGreaterThanOrEqual(-1e-9);
      expect(block.left + block.width).toBeLessThanOrEqual(1 + 1e-9);
    }
    const atTwo = placed.filter((block) => block.node.depth === 2);
    expect(atTwo[1]?.left).toBeCloseTo((atTwo[0]?.left ?? 0) + (atTwo[0]?.width ?? 0));
  });

  it('differ by what adds up to the difference of the durations', () => {
    const other = traceModel(trace([[-1, 'gateway', 'GET /cart', 0, 400], [0, 'cart', 'read', 100, 250]]));
    const lines = compareTrees(pathTree(cart(), 'critical'), pathTree(other, 'critical'));
    const sum = lines.reduce((total, line) => total + (line.a?.ownMs ?? 0) - (line.b?.ownMs ?? 0), 0);
    expect(sum).toBeCloseTo(0.0006);
    expect(lines.filter((line) => !line.b).map((line) => line.operation)).toEqual(['item', 'row', 'get']);
  });
});

describe('a typical trace behind this one', () => {
  const typical = () => traceModel(trace([
    [-1, 'gateway', 'GET /cart', 0, 400],
    [0, 'cart', 'read', 50, 250],
    [1, 'auth', 'verify', 51, 9],
    [1, 'db', 'item', 60, 90],
    [3, 'db', 'row', 70, 20],
    [1, 'db', 'item', 150, 80],
  ]));

  it('has a counterpart for the first call of a kind, and for the second', () => {
    const ghosts = ghostsOf(cart(), typical());
    expect([...ghosts.of]).toEqual([0, 1, 3, 4, 5, -1, -1, -1, -1, -1]);
    expect(ghosts.missing).toBe(1);
    expect([0, 2, 5].map((place) => typicalNs(ghosts, place))).toEqual([400, 90, null]);
  });

  it('says of repeated calls how many there were and how long in all', () => {
    expect(ghostsOf(cart(), typical()).ofGroup).toEqual([{ from: 60, to: 230, calls: 2, sumNs: 170 }]);
    expect(ghostsOf(cart(), traceModel(trace([[-1, 'gateway', 'GET /cart', 0, 400]]))).ofGroup).toEqual([null]);
  });

  it('is nothing to a trace of another kind', () => {
    const ghosts = ghostsOf(cart(), traceModel(trace([[-1, 'gateway', 'POST /', 0, 400], [0, 'cart', 'read', 1, 2]])));
    expect(ghosts.of.every((there) => there < 0)).toBe(true);
    expect(ghosts.missing).toBe(2);
  });
});
