import type { CompareSide } from '../api/client';
import type { Difference, HeatmapAnswer } from '../api/types';
import type { Place } from '../base/location';

/** A box as the address holds it: independent of how the heatmap happens to be cut. */
export interface Edges {
  fromNano: string;
  toNano: string;
  fromNs: number;
  toNs: number;
}

interface Cells {
  fromColumn: number;
  toColumn: number;
  fromRow: number;
  toRow: number;
}

export function edgesOf(place: Place): Edges | null {
  const [fromNano, toNano, fromNs, toNs] = (place.parameters.get('box') ?? '').split('-');
  if (!fromNano || !toNano || !/^\d+$/.test(fromNano) || !/^\d+$/.test(toNano)) return null;
  const [low, high] = [Number(fromNs), Number(toNs)];
  return Number.isFinite(low) && Number.isFinite(high) && high > low ? { fromNano, toNano, fromNs: low, toNs: high } : null;
}

export function boxText(answer: HeatmapAnswer, box: Cells): string {
  const [from, to] = [BigInt(answer.from_unix_nano), BigInt(answer.to_unix_nano)];
  const length = to - from + 1n;
  const at = (column: number) => from + (length * BigInt(column)) / BigInt(answer.columns);
  return `${at(box.fromColumn)}-${at(box.toColumn + 1) - 1n}-${answer.edges_ns[box.fromRow] ?? 0}-${answer.edges_ns[box.toRow + 1] ?? 0}`;
}

/** The cells that a box covers; none when it lies outside. */
export function boxOf(answer: HeatmapAnswer, edges: Edges): Cells | null {
  const [from, to] = [BigInt(answer.from_unix_nano), BigInt(answer.to_unix_nano)];
  const [low, high] = [BigInt(edges.fromNano), BigInt(edges.toNano)];
  if (high < from || low > to) return null;
  const length = to - from + 1n;
  const column = (moment: bigint) => Math.min(answer.columns - 1, Math.max(0, Number(((moment - from) * BigInt(answer.columns)) / length)));
  const last = answer.edges_ns.length - 2;
  const row = (ns: number) => Math.min(last, Math.max(0, answer.edges_ns.findLastIndex((edge) => edge <= ns)));
  // A box begins at a cell's first nanosecond, which the division may have rounded into the cell before.
  return { fromColumn: column(low + length / BigInt(answer.columns) / 2n), toColumn: column(high), fromRow: row(edges.fromNs), toRow: row(edges.toNs - 1) };
}

/** The box as a side of a comparison. */
export function boxSide(edges: Edges, q: string): CompareSide {
  // The box is open above: its last nanosecond is the one before the next row's first.
  return { q, from: edges.fromNano, to: edges.toNano, min_ms: edges.fromNs / 1e6, max_ms: (edges.toNs - 1) / 1e6 };
}

const SCOPES = /^(span|resource|event|link|instrumentation|scope)\./;

/** The difference as a condition of TraceQL; none for numbers. */
export function likeText(difference: Pick<Difference, 'type' | 'key' | 'value'>): string | null {
  if (difference.type === 'number') return null;
  if (difference.type === 'value' && difference.value === null) return `${attribute(difference.key)} != nil`;
  const name = attribute(difference.key);
  if (difference.type === 'absent') return `${name} = nil`;
  const value = difference.value ?? '';
  const isPlain = /^-?\d+(\.\d+)?$/.test(value) || value === 'true' || value === 'false';
  return isPlain ? `(${name} = ${JSON.stringify(value)} || ${name} = ${value})` : `${name} = ${JSON.stringify(value)}`;
}

function attribute(key: string): string {
  const scope = SCOPES.exec(key)?.[0];
  const name = scope ? key.slice(scope.length) : key;
  return `${scope ?? '.'}${/^[A-Za-z_][\w.]*$/.test(name) ? name : JSON.stringify(name)}`;
}

/** The query, of traces that begin at an entry point. */
export function entryQuery(query: string, service: string, operation: string): string {
  const conditions = [service && `trace:rootService = ${JSON.stringify(service)}`, operation && `trace:rootName = ${JSON.stringify(operation)}`].filter(Boolean);
  return conditions.length > 0 ? including(query, conditions.join(' && ')) : query;
}

const inner = (query: string): string => /^\{\s*([\s\S]*?)\s*\}$/.exec(query.trim())?.[1] ?? '';

/** Traces that have such a span as well. */
export function including(query: string, condition: string): string {
  const own = query.trim();
  if (own === '' || own === '{}' || inner(own) === '') return `{ ${condition} }`;
  return `${own} && { ${condition} }`;
}

/** Spans that are not like it; a query of several spansets cannot be narrowed within. */
export function excluding(query: string, condition: string): string {
  const own = query.trim();
  if (own === '' || own === '{}' || inner(own) === '') return `{ !(${condition}) }`;
  return /^\{[^{}]*\}$/.test(own) ? `{ ${inner(own)} && !(${condition}) }` : `${own} && { !(${condition}) }`;
}
