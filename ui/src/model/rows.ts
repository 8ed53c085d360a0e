import type { Span, Trace } from '../api/types';

/** One line of the waterfall. */
export interface Row {
  span: Span;
  depth: number;
  childCount: number;
}

/** Every span with its depth; the server sends them parents first. */
export function allRows(trace: Trace): Row[] {
  const depths = new Map<string, number>();
  const known = new Set(trace.spans.map((span) => span.span_id));
  const children = new Map<string, number>();
  for (const span of trace.spans) {
    if (span.parent_span_id) children.set(span.parent_span_id, (children.get(span.parent_span_id) ?? 0) + 1);
  }
  return trace.spans.map((span) => {
    const parent = span.parent_span_id;
    const depth = parent && known.has(parent) ? (depths.get(parent) ?? -1) + 1 : 0;
    depths.set(span.span_id, depth);
    return { span, depth, childCount: children.get(span.span_id) ?? 0 };
  });
}

/** Rows that no collapsed span hides. */
export function visibleRows(rows: Row[], collapsed: Set<string>): Row[] {
  if (collapsed.size === 0) return rows;
  const visible: Row[] = [];
  let hiddenBelow = Infinity;
  for (const row of rows) {
    if (row.depth > hiddenBelow) continue;
    hiddenBelow = collapsed.has(row.span.span_id) ? row.depth : Infinity;
    visible.push(row);
  }
  return visible;
}

export function matches(row: Row, text: string): boolean {
  const wanted = text.toLowerCase();
  const { span } = row;
  return [span.name, span.service, span.kind, span.status, span.span_id].some((field) => field.toLowerCase().includes(wanted));
}
