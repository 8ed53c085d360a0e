import type { TraceEvents } from '../api/types';
import { membersOf, type TraceModel } from './trace';

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
  const { closed, open, only, events } = choices;
  const byPlace = new Map<number, number[]>();
  events?.events.forEach((event, number) => {
    const held = byPlace.get(event.place);
    if (held) held.push(number);
    else byPlace.set(event.place, [number]);
  });
  const [hasEvents, hasClosed] = [byPlace.size > 0, closed.size > 0];
  const most = model.count + model.groups.count + (events?.events.length ?? 0);
  const [kind, reference, depths] = [new Uint8Array(most), new Int32Array(most), new Int32Array(most)];
  let count = 0;
  const put = (what: number, number: number, depth: number) => {
    kind[count] = what;
    reference[count] = number;
    depths[count] = depth;
    count += 1;
  };
  // Members of an open group stand one deeper, below its row; they are put out when the group's first member comes.
  const pending: { at: number; end: number; shift: number; member: number }[] = [{ at: 0, end: model.count, shift: 0, member: -1 }];
  const isShown = new Uint8Array(model.groups.count);
  for (let range = pending.pop(); range; range = pending.pop()) {
    let { at } = range;
    const { end, shift, member } = range;
    while (at < end) {
      const place = at;
      const below = model.end[place] ?? place + 1;
      const depth = (model.depth[place] ?? 0) + shift;
      if (only && (only[place] ?? 0) <= 0) {
        at = below;
        continue;
      }
      const group = model.groupOf[place] ?? -1;
      if (group >= 0 && member !== place) {
        at = below;
        if (isShown[group]) continue;
        isShown[group] = 1;
        put(GROUP, group, depth);
        if (!open.has(group)) continue;
        const members = membersOf(model, group);
        pending.push({ at, end, shift, member });
        for (let number = members.length - 1; number >= 0; number -= 1) {
          const own = members[number] ?? 0;
          pending.push({ at: own, end: model.end[own] ?? own + 1, shift: shift + 1, member: own });
        }
        break;
      }
      put(SPAN, place, depth);
      if (hasEvents) for (const event of byPlace.get(place) ?? []) put(EVENT, event, depth + 1);
      at = hasClosed && closed.has(place) ? below : place + 1;
    }
  }
  return { count, kind, reference, depth: depths };
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
