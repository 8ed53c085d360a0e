import type { Finding } from '../api/types';
import { text } from './findings';
import { membersOf, operationOf, type TraceModel } from './trace';

/** The spans that findings of one trace stand beside: the caller with most of the calls, or where the error was born. */
export function findingsByPlace(model: TraceModel, findings: Finding[]): Map<number, Finding[]> {
  const found = new Map<number, Finding[]>();
  for (const finding of findings) {
    const place = placeOf(model, finding);
    const held = found.get(place);
    if (held) held.push(finding);
    else found.set(place, [finding]);
  }
  return found;
}

function placeOf(model: TraceModel, finding: Finding): number {
  const { subject } = finding;
  const part = 'caller' in subject ? 'caller' : 'swallowed_by' in subject ? 'swallowed_by' : null;
  if (!part) return 0;
  const [service, operation] = [text(subject, part, 'service'), text(subject, part, 'operation')];
  const callee = text(subject, 'callee', 'operation');
  let [best, most] = [-1, -1];
  const calls = new Map<number, number>();
  for (let group = 0; group < model.groups.count; group += 1) {
    const members = membersOf(model, group);
    const first = members[0] ?? 0;
    if (callee && operationOf(model, first) === callee) {
      // The calls may hang below wrappers of the caller.
      for (let at = model.groups.parent[group] ?? -1, step = 0; at >= 0 && step < 3; at = model.parent[at] ?? -1, step += 1) calls.set(at, (calls.get(at) ?? 0) + members.length);
    }
  }
  const [wantedService, wantedOperation] = [model.services.indexOf(service), model.operations.indexOf(operation)];
  for (let place = 0; place < model.count; place += 1) {
    if (model.service[place] !== wantedService || model.operation[place] !== wantedOperation) continue;
    const own = calls.get(place) ?? 0;
    if (own > most) [best, most] = [place, own];
  }
  return Math.max(0, best);
}
