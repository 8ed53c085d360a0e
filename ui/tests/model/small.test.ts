import { describe, expect, it } from 'vitest';
import type { HeatmapAnswer, Kinds, MapAnswer } from '../../src/api/types';
import { bytes, count, duration, margin, percent, rate, short, shortId, signed, ticks } from '../../src/base/format';
import { boxOf, boxSide, boxText, edgesOf, excluding, including, likeText } from '../../src/model/explore';
import { ordered } from '../../src/model/findings';
import { badgeOf, percentileOf, standingText } from '../../src/model/kinds';
import { crossings, edgeKey, graphOf, hubsOf, NODE_HEIGHT, NODE_WIDTH, related, strokeOf, triesOf, withHubs } from '../../src/model/map';
import { parseMetrics, sumOf } from '../../src/model/metrics';
import { completions, formOf, formQuery } from '../../src/model/query';

const place = (query: string) => ({ path: '/', parameters: new URLSearchParams(query) });

describe('numbers', () => {
  it('have three digits and a unit', () => {
    for (const [ns, text] of [[0, '0 ns'], [840_000, '840 µs'], [1_430_000_000, '1.43 s'], [12_340_000, '12.3 ms'], [999_600, '1.00 ms'], [59_999_999_999, '60.0 s'], [61e9, '1 min 1 s'], [120e9, '2 min'], [3_700e9, '1 h 1 min'], [7_200e9, '2 h'], [-1_500_000, '−1.50 ms'], [Number.NaN, '–']] as const) expect(duration(ns)).toBe(text);
    expect([percent(0), percent(0.0004), percent(0.021), percent(0.5), percent(1)]).toEqual(['0 %', '< 0.1 %', '2.1 %', '50 %', '100 %']);
    expect([short(950), short(12_345), short(3_000_000)]).toEqual(['950', '12.3 k', '3.00 M']);
    expect([rate(2.5, 9), rate(0.05, 9), rate(0.001, 9), rate(1e-9, 9), rate(null, 1200)]).toEqual(['2.50/s', '3.00/min', '3.60/h', '9 in all', '1.20 k in all']);
    expect(bytes(1536)).toBe('1.50 KiB');
    expect([shortId('0bfac6c070428664a175111334e28d5e'), shortId('0000000000000000770ac291b928153d'), shortId('0000000000000000')]).toEqual(['0bfac6c0', '770ac291', '00000000']);
    expect([count(0), count(999), count(1000), count(1_234_567), count(-12_345)]).toEqual(['0', '999', '1,000', '1,234,567', '-12,345']);
    expect([signed(1_230_000), signed(-40_000), signed(0), signed(-0.2)]).toEqual(['+1.23 ms', '−40.0 µs', '±0', '±0']);
    expect([margin(10, [8, 12.5]), margin(10, null), margin(null, [1, 2])]).toEqual(['± 25 %', '', '']);
  });

  it('stand on round ticks', () => {
    expect(ticks(0, 100, 5)).toEqual([0, 20, 40, 60, 80, 100]);
    expect(ticks(5, 5, 5)).toEqual([]);
    expect(ticks(0, 1e12, 8).length).toBeLessThanOrEqual(11);
  });
});

describe('the search form', () => {
  it('is what its query says', () => {
    const form = { service: 'a "b"', operation: 'GET /', minDuration: '100ms', errors: true };
    expect(formQuery(form)).toBe('{ resource.service.name = "a \\"b\\"" && name = "GET /" && duration >= 100ms && status = error }');
    expect(formOf(formQuery(form))).toEqual(form);
    expect(formOf('{ span.name = "x" }')).toEqual({ service: '', operation: '', minDuration: '', errors: false });
    expect(formQuery(formOf('{}'))).toBe('{}');
  });

  it('offers names that go on', () => {
    expect(completions('{ res', 5, ['span.x', 'resource.service.name'])).toEqual({ from: 2, names: ['resource.service.name'] });
    expect(completions('{ ', 2, ['a']).names).toEqual([]);
  });
});

describe('a box on the heatmap', () => {
  const answer: HeatmapAnswer = { from_unix_nano: '1790000000000000000', to_unix_nano: '1790000003599999999', columns: 72, edges_ns: [0, 10, 20, 40, 80], cells: [], traces_seen: 1, traces_between: null, sampled: false, traces: 0, p50_ns: 0, p95_ns: 0, p99_ns: 0, complete: true };
  it('is the same after it went through the address', () => {
    for (const box of [{ fromColumn: 0, toColumn: 71, fromRow: 0, toRow: 3 }, { fromColumn: 5, toColumn: 5, fromRow: 2, toRow: 2 }, { fromColumn: 17, toColumn: 40, fromRow: 1, toRow: 3 }]) {
      const edges = edgesOf(place(`box=${boxText(answer, box)}`));
      expect(edges && boxOf(answer, edges)).toEqual(box);
    }
    expect(edgesOf(place('box=a-b-c-d'))).toBeNull();
    expect(edgesOf(place(''))).toBeNull();
  });

  it('is asked for to the nanosecond, though comparisons have milliseconds', () => {
    for (const [fromNs, toNs] of [[0, 1], [555_123_457, 2_050_000_001], [1_000_003, 97_600_007], [123, 45_678_901_234_567]] as const) {
      const side = boxSide({ fromNano: '1', toNano: '2', fromNs, toNs }, '{}');
      expect([Math.round((side.min_ms ?? 0) * 1e6), Math.round((side.max_ms ?? 0) * 1e6)]).toEqual([fromNs, toNs - 1]);
    }
  });

  it('gives conditions to include and exclude', () => {
    const value = (key: string, text: string) => likeText({ type: 'value', key, value: text });
    expect(value('span.card.brand', 'maestro')).toBe('span.card.brand = "maestro"');
    expect(value('card type', 'x')).toBe('."card type" = "x"');
    expect(value('http.status_code', '500')).toBe('(.http.status_code = "500" || .http.status_code = 500)');
    expect(likeText({ type: 'number', key: 'rows', value: null })).toBeNull();
    expect(including('{}', 'a = 1')).toBe('{ a = 1 }');
    expect(including('{ b = 2 }', 'a = 1')).toBe('{ b = 2 } && { a = 1 }');
    expect(excluding('{ b = 2 }', 'a = 1')).toBe('{ b = 2 && !(a = 1) }');
  });
});

describe('findings', () => {
  it('that are muted come last, in their order', () => {
    const finding = (id: string) => ({ id }) as Parameters<typeof ordered>[0][number];
    const all = ordered([finding('a'), finding('b'), finding('c')], [{ finding: 'a', reason: 'x', until: null, muted_at: '' }]);
    expect(all.map((one) => one.finding.id + (one.mute ? '-' : ''))).toEqual(['b', 'c', 'a-']);
  });
});

describe('percentiles', () => {
  const kinds: Kinds = { shares: [0, 0.5, 0.95, 1], kinds: [{ spans: 40, quantiles_ns: [10, 20, 40, 100] }, { spans: 3, need: 20 }], of_span: [0, 1, null], entry: { traces: 0, need: 20, p50_ns: 0, p95_ns: 0, percentile: 0 }, typical: null, traces: 0, complete: true };
  it('lie between the quantiles that are known', () => {
    expect(percentileOf(kinds, 0, 5)?.percentile).toBe(0);
    const equal = { ...kinds, kinds: [{ spans: 40, quantiles_ns: [12, 12, 12, 12] }] };
    expect(percentileOf(equal, 0, 12)?.percentile).toBe(0);
    expect(percentileOf(kinds, 0, 15)?.percentile).toBeCloseTo(25);
    expect(percentileOf(kinds, 0, 30)?.percentile).toBeCloseTo(72.5);
    expect(percentileOf(kinds, 0, 500)?.percentile).toBe(100);
    expect(percentileOf(kinds, 0, 500)?.medianNs).toBe(20);
    expect(percentileOf(kinds, 1, 5)).toBeNull();
    expect(percentileOf(kinds, 2, 5)).toBeNull();
  });

  it('say no more than so many spans can tell', () => {
    const of = (percentile: number, spans: number) => ({ percentile, spans, medianNs: 1 });
    expect([badgeOf(of(100, 40)), badgeOf(of(100, 100)), badgeOf(of(99.96, 134)), badgeOf(of(99.96, 20_000)), badgeOf(of(97.4, 20_000))]).toEqual(['p97', 'p99', 'p99', 'p99.9', 'p97']);
    expect(standingText(of(100, 40))).toBe('the slowest of 40 spans of its kind');
    expect([standingText(of(99.9, 134)), standingText(of(99.94, 20_000)), standingText(of(48.2, 1_234))]).toEqual(['slower than 99 % of 134 spans of its kind', 'slower than 99.9 % of 20,000 spans of its kind', 'slower than 48 % of 1,234 spans of its kind']);
  });
});

const hour = { start: '', end: '', rounded_to_s: 60, counted_start: '', counted_end: '' };
const ofAll = { entry_ms: 0, left_out: 0, traces: 1, traces_read: 1, adjusted: 1, sampled: false, spans: 1, complete: true, window: hour, bounded: false };

describe('the map', () => {
  it('knows what is reached from a node and what reaches it, cycles included', () => {
    const numbers = { calls: 1, calls_seen: 1, errors: 0, critical_ms: 1, p50_ms: 0, p95_ms: 0, p99_ms: 0, traces: 1 };
    const edges = [['a', 'b'], ['b', 'c'], ['c', 'b'], ['x', 'y']].map(([from, to]) => ({ ...numbers, from: from ?? '', to: to ?? '' }));
    const answer = { nodes: [], edges, ...ofAll };
    expect([...related(answer, 'b')].sort()).toEqual(['a', 'b', 'c']);
    expect(strokeOf(0, 5)).toBe(1);
    expect(strokeOf(5, 5)).toBe(12);
  });
});

describe('own metrics', () => {
  it('are read from Prometheus text', () => {
    const found = parseMetrics('# HELP a_total What it is.\n# TYPE a_total counter\na_total{x="1"} 3\na_total{x="2"} 4\nh_bucket{le="1"} 2\nh_sum 1.5\n\n');
    expect(found).toEqual([{ name: 'a_total', labels: 'x="1"', value: 3, help: 'What it is.' }, { name: 'a_total', labels: 'x="2"', value: 4, help: 'What it is.' }, { name: 'h_sum', labels: '', value: 1.5, help: '' }]);
    expect(sumOf(found, 'a')).toBe(7);
  });
});

describe('hubs of a map', () => {
  const numbers = { calls: 1, calls_seen: 1, errors: 0, critical_ms: 1, p50_ms: 1, p95_ms: 1, p99_ms: 1 };
  /** A chain of services, each of which asks one database; a second database is asked by the first two. */
  const crowd = (services: number): MapAnswer => ({
    nodes: [...Array.from({ length: services }, (_, at) => `service:${at}`), 'store:all', 'store:few'].map((id) => ({ ...numbers, id, name: id, kind: id.startsWith('store') ? 'store' : 'service', system: null, uninstrumented: false })),
    edges: Array.from({ length: services }, (_, at) => at).flatMap((at) => [
      ...(at > 0 ? [[`service:${at - 1}`, `service:${at}`]] : []), [`service:${at}`, 'store:all'], ...(at < 2 ? [[`service:${at}`, 'store:few']] : []),
    ]).map(([from = '', to = '']) => ({ ...numbers, from, to, traces: 1 })),
    ...ofAll,
  });

  it('are what many call and what calls nobody, in a crowd alone', () => {
    expect(hubsOf(crowd(10))).toEqual(new Set());
    expect(hubsOf(crowd(40))).toEqual(new Set(['store:all']));
  });

  it('leave lines of which few shall cross: of a crowd two layouts are tried', () => {
    expect([triesOf(crowd(10)), triesOf(crowd(40)), triesOf(crowd(700))]).toEqual([[false], [false, true], [false]]);
    const at = (x: number, y: number) => ({ x, y });
    const parallel: [{ x: number; y: number }, { x: number; y: number }][] = [[at(0, 0), at(9, 0)], [at(0, 5), at(9, 5)], [at(0, 0), at(9, 3)]];
    expect(crossings(parallel)).toBe(0);
    expect(crossings([...parallel, [at(0, 6), at(9, -1)]])).toBe(3);
    expect(graphOf(crowd(40), new Set(), true).layoutOptions).toMatchObject({ 'elk.layered.considerModelOrder.strategy': 'NODES_AND_EDGES' });
  });

  it('stand beside the others, at the height of their callers, with a line from each', () => {
    const answer = crowd(40);
    const hubs = hubsOf(answer);
    const graph = graphOf(answer, hubs);
    expect(graph.children?.map((child) => child.id)).not.toContain('store:all');
    expect(graph.edges?.length).toBe(39 + 2);
    const nodes = new Map((graph.children ?? []).map((child, at) => [child.id, { x: 0, y: at * 50 }]));
    const layout = withHubs(answer, { nodes, edges: new Map(), hubs, width: 500, height: 2100 });
    const hub = layout.nodes.get('store:all');
    expect(hub?.y).toBeCloseTo((39 * 50) / 2);
    expect(layout.width).toBeGreaterThanOrEqual((hub?.x ?? 0) + NODE_WIDTH);
    expect(hub?.x).toBeGreaterThan(500);
    const line = layout.edges.get(edgeKey({ from: 'service:3', to: 'store:all' }));
    expect(line?.[0]).toEqual({ x: NODE_WIDTH, y: 150 + NODE_HEIGHT / 2 });
    expect(line?.[3]).toEqual({ x: hub?.x, y: (hub?.y ?? 0) + NODE_HEIGHT / 2 });
  });
});
