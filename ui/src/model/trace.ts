import type { TraceColumns, TraceHead } from '../api/types';

export const KIND_NAMES = ['internal', 'server', 'client', 'producer', 'consumer'] as const;
const CLIENT = 2;

/** Siblings of one kind from which on they are folded into one row. */
export const FOLD_FROM = 5;

/** Flag of a span that came without a time of its start. */
export const NO_TIME = 'no_time';
/** Nanoseconds since 1970 below which a start is none: what was left out reads as zero. */
const EARLIEST_NS = 1e9;

/**
 * A trace as flat arrays; a span is its place. Places are in tree order: a span's subtree is the places from itself up to,
 * not including, `end`. There is nothing in it but data, so that a worker can make it and hand it over.
 */
export interface TraceModel {
  count: number;
  durationNs: number;
  /** Of all spans that have a time, which may begin before the root or go on after it. */
  firstNs: number;
  lastNs: number;
  parent: Int32Array;
  depth: Int32Array;
  end: Int32Array;
  children: Int32Array;
  service: Uint32Array;
  name: Uint32Array;
  operation: Uint32Array;
  kind: Uint8Array;
  start: Float64Array;
  duration: Float64Array;
  self: Float64Array;
  critical: Float64Array;
  status: Uint8Array;
  services: string[];
  names: string[];
  operations: string[];
  /** 16 hex digits for each span. */
  ids: string;
  flags: Map<number, string[]>;
  messages: Map<number, string>;
  events: Map<number, number>;
  segments: Segments;
  /** Lines of seven numbers, by the client's place: see `ledgerOf`. */
  ledger: Float64Array;
  /** By the place of either: the other, and the time between sending and dealing with the message. */
  queue: Map<number, { other: number; ns: number; isProducer: boolean }[]>;
  groups: Groups;
  /** The group that a span belongs to, -1 for none. */
  groupOf: Int32Array;
  /** Places, in order. */
  errors: number[];
}

/** The critical path, in order of time. */
export interface Segments {
  place: Int32Array;
  start: Float64Array;
  end: Float64Array;
  /** The segments of a place are those of `ofPlace` from `first[place]` up to, not including, `first[place + 1]`. */
  first: Int32Array;
  ofPlace: Int32Array;
}

/** Repeated siblings: same parent, service, operation and kind. */
export interface Groups {
  count: number;
  parent: Int32Array;
  /** Members are places, in order of start: those of `members` from `first[group]` up to, not including, the next one's. */
  first: Int32Array;
  members: Int32Array;
}

/** A trace that has been read. */
export interface Opened {
  head: TraceHead;
  model: TraceModel;
}

export interface LedgerLine {
  server: number | null;
  before: number;
  wireOut: number;
  inServer: number;
  wireBack: number;
  after: number;
}

export function traceModel({ head, columns, segments, queue, ledger }: TraceColumns): TraceModel {
  const { parent, start_ns: start, duration_ns: duration, status } = columns;
  const count = parent.length;
  const depth = new Int32Array(count);
  const children = new Int32Array(count);
  const end = new Int32Array(count);
  const errors: number[] = [];
  const flags = new Map(columns.flags);
  const earliest = EARLIEST_NS - Number(head.start_unix_nano);
  const isTold = start.some((begins) => begins >= earliest);
  let [firstNs, lastNs] = isTold && earliest > 0 ? [Infinity, -Infinity] : [0, head.duration_ns];
  for (let place = 0; place < count; place += 1) {
    const above = parent[place] ?? -1;
    if (above >= 0) {
      depth[place] = (depth[above] ?? 0) + 1;
      children[above] = (children[above] ?? 0) + 1;
    }
    end[place] = place + 1;
    const begins = start[place] ?? 0;
    if (isTold && begins < earliest) flags.set(place, [...(flags.get(place) ?? []), NO_TIME]);
    else {
      firstNs = Math.min(firstNs, begins);
      lastNs = Math.max(lastNs, begins + (duration[place] ?? 0));
    }
    if (status[place] === 2) errors.push(place);
  }
  for (let place = count - 1; place >= 0; place -= 1) {
    const above = parent[place] ?? -1;
    if (above >= 0 && (end[place] ?? 0) > (end[above] ?? 0)) end[above] = end[place] ?? 0;
  }
  return {
    count,
    durationNs: head.duration_ns,
    firstNs,
    lastNs: Math.max(lastNs, firstNs + 1),
    parent,
    depth,
    end,
    children,
    service: columns.service,
    name: columns.name,
    operation: columns.operation,
    kind: columns.kind,
    start,
    duration,
    self: columns.self_ns,
    critical: columns.critical_ns,
    status,
    services: columns.services,
    names: columns.names,
    operations: columns.operations,
    ids: columns.ids,
    flags,
    messages: new Map(columns.messages),
    events: new Map(columns.events),
    segments: segmentsOf(segments, count),
    ledger: byClient(ledger),
    queue: hops(queue),
    ...groupsOf(columns, children),
    errors,
  };
}

export const opened = (columns: TraceColumns): Opened => ({ head: columns.head, model: traceModel(columns) });

/** Everything of the model that can be handed over instead of being copied. */
export function buffersOf(model: TraceModel): ArrayBuffer[] {
  const arrays = [model, model.segments, model.groups].flatMap((part) => Object.values(part)).filter((value) => ArrayBuffer.isView(value));
  return [...new Set(arrays.map((array) => array.buffer as ArrayBuffer))];
}

function segmentsOf(flat: Float64Array, count: number): Segments {
  const all = flat.length / 3;
  let order: Int32Array | undefined;
  for (let at = 1; at < all; at += 1) {
    if ((flat[at * 3 + 1] ?? 0) >= (flat[at * 3 - 2] ?? 0)) continue;
    order = Int32Array.from({ length: all }, (_, number) => number).sort((a, b) => (flat[a * 3 + 1] ?? 0) - (flat[b * 3 + 1] ?? 0));
    break;
  }
  const [place, start, end] = [new Int32Array(all), new Float64Array(all), new Float64Array(all)];
  const first = new Int32Array(count + 1);
  let kept = 0;
  for (let at = 0; at < all; at += 1) {
    const from = (order ? (order[at] ?? 0) : at) * 3;
    const own = flat[from] ?? Number.NaN;
    if (!(own >= 0 && own < count)) continue;
    place[kept] = own;
    start[kept] = flat[from + 1] ?? 0;
    end[kept] = flat[from + 2] ?? 0;
    first[own + 1] = (first[own + 1] ?? 0) + 1;
    kept += 1;
  }
  for (let at = 0; at < count; at += 1) first[at + 1] = (first[at + 1] ?? 0) + (first[at] ?? 0);
  const next = first.slice(0, count);
  const ofPlace = new Int32Array(kept);
  for (let number = 0; number < kept; number += 1) {
    const own = place[number] ?? 0;
    ofPlace[next[own] ?? 0] = number;
    next[own] = (next[own] ?? 0) + 1;
  }
  return { place: place.slice(0, kept), start: start.slice(0, kept), end: end.slice(0, kept), first, ofPlace };
}

/** Numbers of a line of the ledger. */
const LINE = 7;

function byClient(ledger: Float64Array): Float64Array {
  const lines = ledger.length / LINE;
  const order = Int32Array.from({ length: lines }, (_, number) => number).sort((a, b) => (ledger[a * LINE] ?? 0) - (ledger[b * LINE] ?? 0));
  const sorted = new Float64Array(lines * LINE);
  order.forEach((line, at) => sorted.set(ledger.subarray(line * LINE, line * LINE + LINE), at * LINE));
  return sorted;
}

/** Where a call's time goes, by the client's place. */
export function ledgerOf({ ledger }: TraceModel, place: number): LedgerLine | undefined {
  let [low, high] = [0, ledger.length / LINE];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ledger[middle * LINE] ?? 0) < place) low = middle + 1;
    else high = middle;
  }
  const [client, server = Number.NaN, before = 0, wireOut = 0, inServer = 0, wireBack = 0, after = 0] = ledger.subarray(low * LINE, low * LINE + LINE);
  return client === place ? { server: Number.isNaN(server) ? null : server, before, wireOut, inServer, wireBack, after } : undefined;
}

function hops(queue: TraceColumns['queue']): TraceModel['queue'] {
  const found: TraceModel['queue'] = new Map();
  for (const [producer, consumer, ns] of queue) {
    for (const [place, hop] of [[producer, { other: consumer, ns, isProducer: true }], [consumer, { other: producer, ns, isProducer: false }]] as const) {
      const held = found.get(place);
      if (held) held.push(hop);
      else found.set(place, [hop]);
    }
  }
  return found;
}

/** Folds siblings of one kind, where there are enough of them. Groups are numbered by their first member. */
function groupsOf({ parent, service, operation, kind, services, operations }: TraceColumns['columns'], children: Int32Array): { groups: Groups; groupOf: Int32Array } {
  const count = parent.length;
  // Siblings of one kind, whether there are enough of them or not.
  const kinds = services.length * operations.length * 8 + 8;
  const numbers = new Map<number, number>();
  const kindOf = new Int32Array(count).fill(-1);
  const sizes: number[] = [];
  for (let place = 0; place < count; place += 1) {
    const above = parent[place] ?? -1;
    if (above < 0 || (children[above] ?? 0) < FOLD_FROM) continue;
    const key = above * kinds + ((operation[place] ?? 0) * services.length + (service[place] ?? 0)) * 8 + (kind[place] ?? 0);
    let number = numbers.get(key);
    if (number === undefined) {
      number = sizes.length;
      numbers.set(key, number);
      sizes.push(0);
    }
    kindOf[place] = number;
    sizes[number] = (sizes[number] ?? 0) + 1;
  }
  const groupOfKind = new Int32Array(sizes.length).fill(-1);
  const first = [0];
  sizes.forEach((size, number) => {
    if (size < FOLD_FROM) return;
    groupOfKind[number] = first.length - 1;
    first.push((first[first.length - 1] ?? 0) + size);
  });
  const groups: Groups = { count: first.length - 1, parent: new Int32Array(first.length - 1), first: Int32Array.from(first), members: new Int32Array(first[first.length - 1] ?? 0) };
  const groupOf = new Int32Array(count).fill(-1);
  const next = groups.first.slice();
  for (let place = 0; place < count; place += 1) {
    const group = groupOfKind[kindOf[place] ?? -1] ?? -1;
    if (group < 0) continue;
    groupOf[place] = group;
    groups.parent[group] = parent[place] ?? -1;
    groups.members[next[group] ?? 0] = place;
    next[group] = (next[group] ?? 0) + 1;
  }
  return { groups, groupOf };
}

export const membersOf = ({ groups }: TraceModel, group: number): Int32Array => groups.members.subarray(groups.first[group] ?? 0, groups.first[group + 1] ?? 0);

export const idOf = (model: TraceModel, place: number): string => model.ids.slice(place * 16, place * 16 + 16);

/** The first span of an id, -1 for none. */
export function placeOf({ ids }: TraceModel, id: string): number {
  if (id.length !== 16) return -1;
  let at = ids.indexOf(id);
  while (at >= 0 && at % 16 !== 0) at = ids.indexOf(id, at + 1);
  return at < 0 ? -1 : at / 16;
}

export const serviceOf = (model: TraceModel, place: number): string => model.services[model.service[place] ?? 0] ?? '';
export const nameOf = (model: TraceModel, place: number): string => model.names[model.name[place] ?? 0] ?? '';
export const operationOf = (model: TraceModel, place: number): string => model.operations[model.operation[place] ?? 0] ?? '';
export const isError = (model: TraceModel, place: number): boolean => model.status[place] === 2;
export const isClient = (model: TraceModel, place: number): boolean => model.kind[place] === CLIENT;
export const endOf = (model: TraceModel, place: number): number => (model.start[place] ?? 0) + (model.duration[place] ?? 0);

/** The subtree's own time on the critical path. */
export function criticalBelow(model: TraceModel): Float64Array {
  const below = Float64Array.from(model.critical);
  for (let place = model.count - 1; place > 0; place -= 1) {
    const parent = model.parent[place] ?? -1;
    if (parent >= 0) below[parent] = (below[parent] ?? 0) + (below[place] ?? 0);
  }
  return below;
}

/** Spans whose name, service, operation, message or id has the text; all of them in one pass over what differs. */
export function findSpans(model: TraceModel, text: string): number[] {
  const wanted = text.trim().toLowerCase();
  if (wanted === '') return [];
  const hits = (texts: string[]) => texts.map((one) => one.toLowerCase().includes(wanted));
  const [services, names, operations] = [hits(model.services), hits(model.names), hits(model.operations)];
  const isErrorWord = wanted === 'error';
  const isId = /^[0-9a-f]{4,16}$/.test(wanted);
  const found: number[] = [];
  for (let place = 0; place < model.count; place += 1) {
    if (
      services[model.service[place] ?? 0]
      || names[model.name[place] ?? 0]
      || operations[model.operation[place] ?? 0]
      || (isErrorWord && isError(model, place))
      || model.messages.get(place)?.toLowerCase().includes(wanted)
      || (isId && idOf(model, place).includes(wanted))
      || KIND_NAMES[model.kind[place] ?? 0] === wanted
    ) found.push(place);
  }
  return found;
}

export interface Total {
  service: string;
  operation: string;
  kind: string;
  spans: number;
  errors: number;
  totalNs: number;
  selfNs: number;
  criticalNs: number;
  longestNs: number;
  longest: number;
}

/** Sums per service, operation and kind; self time adds up to all work, critical time to the trace's duration. */
export function totals(model: TraceModel): Total[] {
  const found = new Map<string, Total>();
  for (let place = 0; place < model.count; place += 1) {
    const key = `${model.service[place]} ${model.operation[place]} ${model.kind[place]}`;
    let total = found.get(key);
    if (!total) {
      total = {
        service: serviceOf(model, place),
        operation: operationOf(model, place),
        kind: KIND_NAMES[model.kind[place] ?? 0] ?? 'internal',
        spans: 0,
        errors: 0,
        totalNs: 0,
        selfNs: 0,
        criticalNs: 0,
        longestNs: -1,
        longest: place,
      };
      found.set(key, total);
    }
    const duration = model.duration[place] ?? 0;
    total.spans += 1;
    total.errors += isError(model, place) ? 1 : 0;
    total.totalNs += duration;
    total.selfNs += model.self[place] ?? 0;
    total.criticalNs += model.critical[place] ?? 0;
    if (duration > total.longestNs) [total.longestNs, total.longest] = [duration, place];
  }
  return [...found.values()];
}
