export interface ServiceCount {
  name: string;
  spans: number;
  errors?: number;
}

export interface Root {
  service: string;
  operation: string;
  /** The normalised operation, as entry points are named. */
  entry?: string;
}

export interface TraceSummary {
  trace_id: string;
  root: Root | null;
  start_unix_nano: string;
  duration_ns: number;
  span_count: number;
  error_count: number;
  services: ServiceCount[];
  matched: number;
}

export interface SearchAnswer {
  traces: TraceSummary[];
  complete: boolean;
  newest_unix_nano: string | null;
  oldest_unix_nano: string | null;
}

/** One span, whole. */
export interface Span {
  span_id: string;
  parent_span_id: string | null;
  service: string;
  name: string;
  kind: string;
  start_ns: number;
  duration_ns: number;
  self_ns: number;
  critical_ns: number;
  status: 'unset' | 'ok' | 'error';
  status_message?: string;
  flags: string[];
  resource?: Record<string, unknown>;
  scope?: { name: string; version: string };
  attributes?: Record<string, unknown>;
  events?: { name: string; time_ns?: number; attributes?: Record<string, unknown> }[];
  links?: { trace_id: string; span_id: string; attributes?: Record<string, unknown> }[];
}

/** Whose times a trace is shown with. */
export interface TraceClocks {
  corrected: boolean;
  /** Spans whose times cannot be true as they are shown. */
  impossible: number;
  /** Traces that the offsets were told from. */
  traces: number;
  hosts: { host: string; offset_ns: number; calls: number; shared: boolean }[];
}

export interface Clocks {
  pairs: { from: string; to: string; low_ns: number; high_ns: number; calls: number; steady: boolean; offset_ns: number | null }[];
  traces: number;
  left_out: number;
  complete: boolean;
}

/** What a trace is as a whole. */
export interface TraceHead {
  trace_id: string;
  root: Root | null;
  start_unix_nano: string;
  duration_ns: number;
  span_count: number;
  error_count: number;
  services: ServiceCount[];
  critical_path: { mode: string; by_service: { service: string; ns: number }[] };
  /** None where the trace is large: they are asked for apart. */
  findings: Finding[] | null;
  clocks: TraceClocks;
}

/** A trace as columns; arrays in tree order. */
export interface TraceColumns {
  head: TraceHead;
  /** Of the critical path, end to end: place, from and to; a place of NaN where no span ran. */
  segments: Float64Array;
  /** Producer's place, consumer's place, nanoseconds between them. */
  queue: [number, number, number][];
  /** End to end: client's place, server's place or NaN, before, wire out, server, wire back, after. */
  ledger: Float64Array;
  columns: {
    services: string[];
    names: string[];
    operations: string[];
    ids: string;
    parent: Int32Array;
    service: Uint32Array;
    name: Uint32Array;
    operation: Uint32Array;
    kind: Uint8Array;
    start_ns: Float64Array;
    duration_ns: Float64Array;
    self_ns: Float64Array;
    critical_ns: Float64Array;
    status: Uint8Array;
    flags: [number, string[]][];
    messages: [number, string][];
    events: [number, number][];
  };
}

export interface TraceEvents {
  events: { place: number; time_ns: number; name: string; attributes: Record<string, unknown> }[];
  total: number;
}

export interface Kinds {
  shares: number[];
  kinds: { spans: number; need?: number; quantiles_ns?: number[] }[];
  of_span: (number | null)[];
  entry: { traces: number; need: number; p50_ns: number; p95_ns: number; percentile: number };
  typical: { trace_id: string; duration_ns: number } | null;
  traces: number;
  complete: boolean;
}

export interface Status {
  version: string;
  spans_received: number;
  spans_stored: number;
  store_bytes: number;
  blocks: number;
  newest_unix_nano: string | null;
  oldest_unix_nano: string | null;
  listeners: Record<string, string>;
  discarded_requests: number;
}

export interface Finding {
  id: string;
  kind: string;
  title: string;
  service: string;
  operation: string;
  subject: Record<string, unknown>;
  traces_affected: number;
  traces_seen: number;
  cost: { typical_ms: number; p99_ms: number; total_ms: number };
  evidence: string[];
  examples: string[];
  first_seen: string;
  last_seen: string;
  confidence: string;
  /** Those that it hurts, the one with most of the traces first; findings of one trace have none. */
  entry_points?: { service: string; operation: string }[];
  /** Of repeated calls: how many traces have how many, least first. */
  histogram?: { from: number; to: number; traces: number }[];
}

export interface Insights {
  window: { start: string; end: string };
  /** All that started in the window. */
  traces: number;
  spans: number;
  complete: boolean;
  /** Traces that were looked at, where not all were; the others are counted and no more. */
  looked_at?: number;
  findings: Finding[];
  not_enough_data: { kind: string; service: string; operation: string; have: number; need: number }[];
}

export interface Mute {
  finding: string;
  reason: string;
  until: string | null;
  muted_at: string;
}

/** A window that is answered from counts: whole steps of so many seconds, from the first to the end of the last. */
export interface CountedWindow {
  start: string;
  end: string;
  rounded_to_s: number;
  counted_start: string;
  counted_end: string;
}

/** What answers from counts have. */
export interface CountedOf {
  window: CountedWindow;
  /** Somewhere there was more than is told apart: that is counted together, as `(other)`. */
  bounded: boolean;
}

/** What an answer over many traces was made of; counts in it are of what there was before sampling. */
export interface ReadOf {
  /** Traces that were read, and how many they stand for. */
  traces_read: number;
  adjusted: number;
  sampled: boolean;
  spans: number;
  complete: boolean;
}

export interface Requests {
  name: string;
  requests: number;
  requests_seen: number;
  errors: number;
  roots: number;
  rate_per_s: number | null;
  /** Between which rates the true one lies, 19 times of 20; null where nothing was sampled away. */
  rate_between: [number, number] | null;
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
  max_ms: number;
}

export interface ServiceSummary extends Requests {
  spans: number;
  critical_ms: number;
  per_point: number[];
  errors_per_point: number[];
  operations: Requests[];
}

export interface ServicesAnswer extends ReadOf, CountedOf {
  services: ServiceSummary[];
  traces: number;
}

export interface HeatmapAnswer {
  from_unix_nano: string;
  to_unix_nano: string;
  columns: number;
  edges_ns: number[];
  /** Column, row, traces, of them failed, an example's id. */
  cells: [number, number, number, number, string][];
  traces: number;
  traces_seen: number;
  traces_between: [number, number] | null;
  sampled: boolean;
  p50_ns: number;
  p95_ns: number;
  p99_ns: number;
  complete: boolean;
}

export interface MapNumbers {
  calls: number;
  calls_seen: number;
  errors: number;
  critical_ms: number;
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
}

export interface MapNode extends MapNumbers {
  id: string;
  name: string;
  kind: 'service' | 'store' | 'queue' | 'host';
  system: string | null;
  uninstrumented: boolean;
}

export interface MapEdge extends MapNumbers {
  from: string;
  to: string;
  traces: number;
}

export interface MapAnswer extends ReadOf, CountedOf {
  nodes: MapNode[];
  edges: MapEdge[];
  entry_ms: number;
  left_out: number;
  traces: number;
}

export interface TreeNode {
  depth: number;
  service: string;
  operation: string;
  is_call: boolean;
  own_ms: number;
  total_ms: number;
  calls: number;
}

export interface EntryGroup {
  /** About how many traces of the window are like these. */
  traces: number;
  /** Traces that the tree is made of. */
  traces_seen?: number;
  need?: number;
  mean_ms?: number;
  from_ms?: number;
  to_ms?: number;
  nodes: TreeNode[];
  examples?: string[];
}

export interface EntryShape {
  shape: string;
  traces: number;
  errors: number;
  p50_ms: number;
  p95_ms: number;
  max_ms: number;
  harm_ms: number;
  example: string;
  /** Depth, start and length as shares of the root's, service, whether it failed. */
  picture: [number, number, number, string, boolean][];
}

export interface EntryAnswer extends CountedOf {
  service: string;
  operation: string;
  traces: number;
  traces_seen: number;
  sampled: boolean;
  errors: number;
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
  max_ms: number;
  typical: EntryGroup;
  slowest: EntryGroup;
  /** Traces that were drawn for the two trees. */
  trees_from: number;
  shapes: EntryShape[];
  shapes_in_all: number;
  complete: boolean;
}

export interface ComparedShare {
  traces: number;
  of: number;
  share: number;
  median: number | null;
}

export interface Difference {
  type: 'value' | 'absent' | 'number';
  key: string;
  value: string | null;
  selection: ComparedShare;
  baseline: ComparedShare;
  difference: number;
  interval: [number, number] | null;
  lift: number | null;
  p_value: number;
  q_value: number;
  same: { key: string; value: string | null }[];
  explained_by: { key: string; value: string | null } | null;
  confidence: string;
}

export interface Comparison {
  selection: { traces: number; adjusted: number };
  baseline: { traces: number; adjusted: number };
  complete: boolean;
  tested: number;
  differences: Difference[];
  not_enough_data: { have: number; need: number } | null;
}
