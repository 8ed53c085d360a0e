export interface ServiceCount {
  name: string;
  spans: number;
  errors?: number;
}

export interface Root {
  service: string;
  operation: string;
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

/** Attributes and the like are there only once a span is fetched whole. */
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

export interface Trace {
  trace_id: string;
  root: Root | null;
  start_unix_nano: string;
  duration_ns: number;
  span_count: number;
  error_count: number;
  services: ServiceCount[];
  spans: Span[];
  critical_path: { segments: { span_id: string | null; start_ns: number; end_ns: number }[]; by_service: { service: string; ns: number }[] };
}

export interface Status {
  version: string;
  spans_stored: number;
  newest_unix_nano: string | null;
  listeners: Record<string, string>;
}
