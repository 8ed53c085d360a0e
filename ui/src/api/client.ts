import type { Clocks, Comparison, EntryAnswer, Finding, HeatmapAnswer, Insights, Kinds, MapAnswer, Mute, SearchAnswer, ServicesAnswer, Span, Status, TraceEvents } from './types';

/** What the server said when it could not answer; queries carry the place of the error. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly offset?: number,
    readonly length?: number,
    readonly hint?: string,
  ) {
    super(message);
  }
}

async function checked(response: Response): Promise<Response> {
  if (response.ok) return response;
  const text = await response.text();
  let body: { error?: string; offset?: number; length?: number; hint?: string } = {};
  try {
    body = JSON.parse(text);
  } catch {
    // Not JSON: the text itself says what is wrong.
  }
  throw new ApiError(body.error ?? (text.slice(0, 200) || `the server answered ${response.status}`), response.status, body.offset, body.length, body.hint ?? undefined);
}

const read = async <T>(response: Response): Promise<T> => (await checked(response)).json();

const get = async <T>(path: string, signal?: AbortSignal): Promise<T> => read(await fetch(path, { signal }));

async function change<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers = { 'X-Spanwise': '1', 'Content-Type': 'application/json' };
  return read(await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) }));
}

/** Nanoseconds since 1970; what is left out is not bounded. */
export interface SearchWindow {
  fromNano?: bigint;
  toNano?: bigint;
}

function query(window: SearchWindow, others: Record<string, string> = {}): string {
  const parameters = new URLSearchParams(Object.entries(others).filter(([, value]) => value !== ''));
  if (window.fromNano !== undefined) parameters.set('from', String(window.fromNano));
  if (window.toNano !== undefined) parameters.set('to', String(window.toNano));
  return parameters.toString();
}

export const search = (text: string, window: SearchWindow, limit: number, signal?: AbortSignal): Promise<SearchAnswer> =>
  get(`/api/spanwise/search?${query(window, { q: text, limit: String(limit) })}`, signal);

/** By which rule the critical path is found, and whose times count; empty for the ordinary. */
export interface TraceReading {
  mode: string;
  clocks: string;
}

function columnsPath(id: string, { mode, clocks }: TraceReading): string {
  const parameters = query({}, { mode, clocks });
  return `/api/spanwise/traces/${encodeURIComponent(id)}/columns${parameters && `?${parameters}`}`;
}

export const clocks = (window: SearchWindow, signal?: AbortSignal): Promise<Clocks> => get(`/api/spanwise/clocks?${query(window)}`, signal);

/** A trace's columns as they come: `ColumnsReader` reads them. */
export const traceResponse = async (id: string, reading: TraceReading, signal?: AbortSignal): Promise<Response> => checked(await fetch(columnsPath(id, reading), { signal }));

export const traceEvents = (id: string, clocks: string, signal?: AbortSignal): Promise<TraceEvents> =>
  get(`/api/spanwise/traces/${encodeURIComponent(id)}/events?${query({}, { clocks })}`, signal);

export const traceFindings = async (id: string, signal?: AbortSignal): Promise<Finding[]> => (await get<{ findings: Finding[] }>(`/api/spanwise/traces/${encodeURIComponent(id)}/findings`, signal)).findings;

export const traceKinds = (id: string, signal?: AbortSignal): Promise<Kinds> => get(`/api/spanwise/traces/${encodeURIComponent(id)}/kinds`, signal);

export const spanDetails = (id: string, span: string, signal?: AbortSignal): Promise<Span> =>
  get(`/api/spanwise/traces/${encodeURIComponent(id)}/spans/${encodeURIComponent(span)}`, signal);

export const status = (signal?: AbortSignal): Promise<Status> => get('/api/spanwise/status', signal);

export async function services(signal?: AbortSignal): Promise<{ name: string; operations: string[] }[]> {
  return (await get<{ services: { name: string; operations: string[] }[] }>('/api/spanwise/services', signal)).services;
}

/** Names that a query may begin an attribute or intrinsic with. */
export async function queryNames(signal?: AbortSignal): Promise<string[]> {
  const answer = await get<{ scopes: { name: string; tags: string[] }[] }>('/tempo/api/v2/search/tags', signal);
  return answer.scopes.flatMap((scope) => (scope.name === 'intrinsic' ? scope.tags : scope.tags.map((tag) => `${scope.name}.${tag}`)));
}

export const insights = (window: SearchWindow, filter: { service?: string; kind?: string }, signal?: AbortSignal): Promise<Insights> =>
  get(`/api/spanwise/insights?${query(window, { service: filter.service ?? '', kind: filter.kind ?? '', details: 'true' })}`, signal);

export const servicesSummary = (window: SearchWindow, signal?: AbortSignal): Promise<ServicesAnswer> => get(`/api/spanwise/services/summary?${query(window)}`, signal);

export const heatmap = (window: SearchWindow, filter: { q?: string; service?: string; operation?: string }, signal?: AbortSignal): Promise<HeatmapAnswer> =>
  get(`/api/spanwise/heatmap?${query(window, { q: filter.q ?? '', service: filter.service ?? '', operation: filter.operation ?? '' })}`, signal);

export const serviceMap = (window: SearchWindow, signal?: AbortSignal): Promise<MapAnswer> => get(`/api/spanwise/map?${query(window)}`, signal);

export const entryPoint = (service: string, operation: string, window: SearchWindow, signal?: AbortSignal): Promise<EntryAnswer> =>
  get(`/api/spanwise/entry?${query(window, { service, operation })}`, signal);

export const mutes = async (signal?: AbortSignal): Promise<Mute[]> => (await get<{ mutes: Mute[] }>('/api/spanwise/mutes', signal)).mutes;

export const mute = (finding: string, reason: string, until: string | null): Promise<Mute> => change('POST', '/api/spanwise/mutes', { finding, reason, until });

export const unmute = (finding: string): Promise<unknown> => change('DELETE', `/api/spanwise/mutes/${encodeURIComponent(finding)}`);

export async function metrics(signal?: AbortSignal): Promise<string> {
  const response = await fetch('/api/spanwise/own_metrics', { signal });
  if (!response.ok) throw new ApiError(`the server answered ${response.status}`, response.status);
  return response.text();
}

/** Which traces one side of a comparison has. */
export interface CompareSide {
  q?: string;
  from?: string;
  to?: string;
  min_ms?: number;
  max_ms?: number;
}

/** What tells the selection from the rest of the baseline. */
export const compare = async (selection: CompareSide, baseline: CompareSide, signal?: AbortSignal): Promise<Comparison> =>
  read(await fetch('/api/spanwise/compare', { method: 'POST', headers: { 'X-Spanwise': '1', 'Content-Type': 'application/json' }, body: JSON.stringify({ selection, baseline }), signal }));
