import { endOf, membersOf, type TraceModel } from './trace';

/** Another trace laid over this one: which of its spans stand for which of these. */
export interface Ghosts {
  other: TraceModel;
  /** By place: the counterpart's place in the other, -1 for none. */
  of: Int32Array;
  /** By group: its calls in the other, from and to, and their number and sum. None where there are none. */
  ofGroup: (GroupGhost | null)[];
  /** Spans of the other that stand for none of these. */
  missing: number;
}

export interface GroupGhost {
  from: number;
  to: number;
  calls: number;
  sumNs: number;
}

/**
 * Counterparts by names: roots of one kind, and below counterparts the first call of a kind for the first, the second for
 * the second. A kind is service, operation and kind of span.
 */
export function ghostsOf(model: TraceModel, other: TraceModel): Ghosts {
  const services = new Map(other.services.map((name, number) => [name, number]));
  const operations = new Map(other.operations.map((name, number) => [name, number]));
  const [serviceThere, operationThere] = [model.services.map((name) => services.get(name) ?? -1), model.operations.map((name) => operations.get(name) ?? -1)];
  const kinds = other.services.length * other.operations.length * 8;
  const keyOf = (parent: number, service: number, operation: number, kind: number) => (parent + 1) * kinds + (operation * other.services.length + service) * 8 + kind;
  // The other's calls of a kind below one span, in order of start.
  const calls = new Map<number, number[]>();
  for (let place = 0; place < other.count; place += 1) {
    const key = keyOf(other.parent[place] ?? -1, other.service[place] ?? 0, other.operation[place] ?? 0, other.kind[place] ?? 0);
    const held = calls.get(key);
    if (held) held.push(place);
    else calls.set(key, [place]);
  }
  const of = new Int32Array(model.count).fill(-1);
  const keys = new Float64Array(model.count).fill(-1);
  const taken = new Map<number, number>();
  let found = 0;
  for (let place = 0; place < model.count; place += 1) {
    const above = model.parent[place] ?? -1;
    const parent = above < 0 ? -1 : (of[above] ?? -1);
    if (above >= 0 && parent < 0) continue;
    const [service, operation] = [serviceThere[model.service[place] ?? 0] ?? -1, operationThere[model.operation[place] ?? 0] ?? -1];
    if (service < 0 || operation < 0) continue;
    const key = keyOf(parent, service, operation, model.kind[place] ?? 0);
    const number = taken.get(key) ?? 0;
    keys[place] = key;
    const counterpart = calls.get(key)?.[number];
    if (counterpart === undefined) continue;
    taken.set(key, number + 1);
    of[place] = counterpart;
    found += 1;
  }
  const ofGroup = Array.from({ length: model.groups.count }, (_, group) => groupGhost(other, calls.get(keys[membersOf(model, group)[0] ?? 0] ?? -1)));
  return { other, of, ofGroup, missing: other.count - found };
}

function groupGhost(other: TraceModel, places: number[] | undefined): GroupGhost | null {
  if (!places || places.length === 0) return null;
  const ghost: GroupGhost = { from: Infinity, to: -Infinity, calls: places.length, sumNs: 0 };
  for (const place of places) {
    ghost.from = Math.min(ghost.from, other.start[place] ?? 0);
    ghost.to = Math.max(ghost.to, endOf(other, place));
    ghost.sumNs += other.duration[place] ?? 0;
  }
  return ghost;
}

/** How long a span's counterpart took, none where it has none. */
export function typicalNs({ other, of }: Ghosts, place: number): number | null {
  const there = of[place] ?? -1;
  return there < 0 ? null : (other.duration[there] ?? 0);
}
