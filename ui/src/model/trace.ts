import type { TraceColumns } from '../api/types';

export const KIND_NAMES = ['internal', 'server', 'client', 'producer', 'consumer'] as const;
const CLIENT = 2;

/** Siblings of one kind from which on they are folded into one row. */
export const FOLD_FROM = 5;

/** Repeated siblings: same parent, service, operation and kind. Members are places, in order of start. */
export interface Group {
  parent: number;
  members: number[];
}

/**
 * A trace as flat arrays; a span is its place. Places are in tree order: a span's subtree is the places from itself up to,
 * not including, `end`.
 */
export interface TraceModel {
  count: number;
  durationNs: number;
  /** Of all spans, which may begin before the root or go on after it. */
  firstNs: number;
  lastNs: number;
  parent: Int32Array;
  depth: Int32Array;
  end: Int32Array;
  children: Int32Array;
  service: Uint16Array | Uint32Array;
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
  flags: Map<number, string[]>;
  messages: Map<number, string>;
  events: Map<number, number>;
  /** Place, start and end, in order of time. */
  segments: { place: number; start: number; end: number }[];
  /** By client's place: server's place, before, wire out, server, wire back, after. */
  ledger: Map<number, LedgerLine>;
  /** By the place of either: the other, and the time between sending and dealing with the message. */
  queue: Map<number, { other: number; ns: number; isProducer: boolean }[]>;
  groups: Group[];
  /** The group that a span belongs to, -1 for none. */
  groupOf: Int32Array;
  errors: number[];
  id: (place: number) => string;
  placeOf: (id: string) => number;
}

export interface LedgerLine {
  server: number | null;
  before: number;
  wireOut: number;
  inServer: number;
  wireBack: number;
  after: number;
}

export function traceModel(trace: TraceColumns): TraceModel {
  const { columns } = trace;
  const count = columns.parent.length;
  const parent = Int32Array.from(columns.parent);
  const depth = new Int32Array(count);
  const children = new Int32Array(count);
  const end = new Int32Array(count);
  for (let place = 0; place < count; place += 1) {
    const above = parent[place] ?? -1;
    if (above >= 0) {
      depth[place] = (depth[above] ?? 0) + 1;
      children[above] = (children[above] ?? 0) + 1;
    }
    end[place] = place + 1;
  }
  for (let place = count - 1; place >= 0; place -= 1) {
    const above = parent[place] ?? -1;
    if (above >= 0 && (end[place] ?? 0) > (end[above] ?? 0)) end[above] = end[place] ?? 0;
  }
  const start = Float64Array.from(columns.start_ns);
  const duration = Float64Array.from(columns.duration_ns);
  let [firstNs, lastNs] = [0, trace.duration_ns];
  for (let place = 0; place < count; place += 1) {
    const begins = start[place] ?? 0;
    if (begins < firstNs) firstNs = begins;
    if (begins + (duration[place] ?? 0) > lastNs) lastNs = begins + (duration[place] ?? 0);
  }
  const segments: TraceModel['segments'] = [];
  for (const [place, from, to] of trace.critical_path.segments) {
    if (place === null || place >= count) continue;
    segments.push({ place, start: from, end: to });
  }
  segments.sort((a, b) => a.start - b.start);
  const errors: number[] = [];
  columns.status.forEach((status, place) => status === 2 && errors.push(place));
  let ids: Map<string, number> | undefined;
  const id = (place: number) => columns.ids.slice(place * 16, place * 16 + 16);
  const model: TraceModel = {
    count,
    durationNs: trace.duration_ns,
    firstNs,
    lastNs: Math.max(lastNs, firstNs + 1),
    parent,
    depth,
    end,
    children,
    service: Uint32Array.from(columns.service),
    name: Uint32Array.from(columns.name),
    operation: Uint32Array.from(columns.operation),
    kind: Uint8Array.from(columns.kind),
    start,
    duration,
    self: Float64Array.from(columns.self_ns),
    critical: Float64Array.from(columns.critical_ns),
    status: Uint8Array.from(columns.status),
    services: columns.services,
    names: columns.names,
    operations: columns.operations,
    flags: new Map(columns.flags),
    messages: new Map(columns.messages),
    events: new Map(columns.events),
    segments,
    ledger: new Map(trace.ledger.map(([client, server, before, wireOut, inServer, wireBack, after]) => [client, { server, before, wireOut, inServer, wireBack, after }])),
    queue: hops(trace.queue),
    groups: [],
    groupOf: new Int32Array(count).fill(-1),
    errors,
    id,
    placeOf: (wanted) => {
      if (!ids) {
        ids = new Map();
        for (let place = count - 1; place >= 0; place -= 1) ids.set(id(place), place);
      }
      return ids.get(wanted) ?? -1;
    },
  };
  findGroups(model);
  return model;
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

/** Folds siblings of one kind, where there are enough of them. */
function findGroups(model: TraceModel): void {
  const byParent = new Map<number, Map<number, number[]>>();
  const services = model.services.length + 1;
  for (let place = 0; place < model.count; place += 1) {
    const parent = model.parent[place] ?? -1;
    if (parent < 0 || (model.children[parent] ?? 0) < FOLD_FROM) continue;
    let kinds = byParent.get(parent);
    if (!kinds) byParent.set(parent, (kinds = new Map()));
    const key = ((model.operation[place] ?? 0) * services + (model.service[place] ?? 0)) * 8 + (model.kind[place] ?? 0);
    const members = kinds.get(key);
    if (members) members.push(place);
    else kinds.set(key, [place]);
  }
  for (const [parent, kinds] of byParent) {
    for (const members of kinds.values()) {
      if (members.length < FOLD_FROM) continue;
      for (const member of members) model.groupOf[member] = model.groups.length;
      model.groups.push({ parent, members });
    }
  }
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
      || (isId && model.id(place).includes(wanted))
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
