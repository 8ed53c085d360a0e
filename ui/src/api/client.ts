import type { SearchAnswer, Span, Status, Trace } from './types';

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

async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await fetch(path, { signal });
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new ApiError(body.error ?? `the server answered ${response.status}`, response.status, body.offset, body.length, body.hint ?? undefined);
  }
  return response.json();
}

export interface SearchWindow {
  fromNano?: bigint;
  toNano?: bigint;
}

export function search(query: string, window: SearchWindow, limit: number, signal?: AbortSignal): Promise<SearchAnswer> {
  const parameters = new URLSearchParams({ q: query, limit: String(limit) });
  if (window.fromNano !== undefined) parameters.set('from', String(window.fromNano));
  if (window.toNano !== undefined) parameters.set('to', String(window.toNano));
  return get(`/api/spanwise/search?${parameters}`, signal);
}

export const traceStructure = (id: string, signal?: AbortSignal): Promise<Trace> => get(`/api/spanwise/traces/${encodeURIComponent(id)}?fields=structure`, signal);

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
