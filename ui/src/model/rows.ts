import type { TraceEvents } from '../api/types';
import type { TraceModel } from './trace';

/** What a row shows. */
export const SPAN = 0;
/** Repeated siblings in one row; the reference is the group's number. */
export const GROUP = 1;
/** Something logged on the span above; the reference is the event's number. */
export const EVENT = 2;

/** The rows of a waterfall, top to bottom. */
export interface Rows {
  count: number;
  kind: Uint8Array;
  /** Place of the span, number of the group or of the event. */
  reference: Int32Array;
  depth: Int32Array;
}

export interface Choices {
  /** Spans whose subtree is hidden. */
  closed: ReadonlySet<number>;
  /** Groups whose members are shown. */
  open: ReadonlySet<number>;
  /** Spans that are on the critical path or lead there, alone. */
  only?: Float64Array;
  events?: TraceEvents;
}

/** Rows that no closed span and no folded group hides. One pass, no recursion. */
export function rowsOf(model: TraceModel, choices: Choices): Rows {
  const byPlace = new Map<number, number[]>();
  choices.events?.events.forEach((event, number) => {
    const held = byPlace.get(event.place);
    if (held) held.push(number);
    else byPlace.set(event.place, [number]);
  });
  const most = model.count + model.groups.length + (choices.events?.events.length ?? 0);
  const rows: Rows = { count: 0, kind: new Uint8Array(most), reference: new Int32Array(most), depth: new Int32Array(most) };
  const put = (kind: number, reference: number, depth: number) => {
    rows.kind[rows.count] = kind;
    rows.reference[rows.count] = reference;
    rows.depth[rows.count] = depth;
    rows.count += 1;
  };
  // Members of an open group stand one deeper, below its row; they are put out when the group's first member comes.
  const pending: { at: number; end: number; shift: number; member: number }[] = [{ at: 0, end: model.count, shift: 0, member: -1 }];
  const isShown = new Uint8Array(model.groups.length);
  while (pending.length > 0) {
    const range = pending[pending.length - 1];
    if (!range || range.at >= range.end) {
      pending.pop();
      continue;
    }
    const place = range.at;
    const end = model.end[place] ?? place + 1;
    const depth = (model.depth[place] ?? 0) + range.shift;
    if (choices.only && (choices.only[place] ?? 0) <= 0) {
      range.at = end;
      continue;
    }
    const group = model.groupOf[place] ?? -1;
    if (group >= 0 && range.member !== place) {
      range.at = end;
      if (isShown[group]) continue;
      isShown[group] = 1;
      put(GROUP, group, depth);
      if (!choices.open.has(group)) continue;
      const members = model.groups[group]?.members ?? [];
      for (let number = members.length - 1; number >= 0; number -= 1) {
        const member = members[number] ?? 0;
        pending.push({ at: member, end: model.end[member] ?? member + 1, shift: range.shift + 1, member });
      }
      continue;
    }
    put(SPAN, place, depth);
    for (const event of byPlace.get(place) ?? []) put(EVENT, event, depth + 1);
    range.at = choices.closed.has(place) ? end : place + 1;
  }
  return rows;
}

/** The row of a span, opening nothing; -1 when it is hidden. */
export function rowOfSpan(rows: Rows, place: number): number {
  for (let row = 0; row < rows.count; row += 1) {
    if (rows.kind[row] === SPAN && rows.reference[row] === place) return row;
  }
  return -1;
}

/** What must be opened and closed for a span to be seen. */
export function reveal(model: TraceModel, place: number, closed: ReadonlySet<number>, open: ReadonlySet<number>): { closed: Set<number>; open: Set<number> } {
  const next = { closed: new Set(closed), open: new Set(open) };
  for (let at = place; at >= 0; at = model.parent[at] ?? -1) {
    if (at !== place) next.closed.delete(at);
    const group = model.groupOf[at] ?? -1;
    if (group >= 0) next.open.add(group);
  }
  return next;
}
