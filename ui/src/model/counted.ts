import type { CountedOf, CountedWindow, EntryAnswer, EntryGroup, Insights } from '../api/types';
import { count, many, period } from '../base/format';

/** The name of all that there was no room for: nothing can be looked up by it. */
export const OTHERS = '(other)';

/** Said where the time for counting ran out. */
export const NOT_ALL_COUNTED = 'Counting took too long: these counts are of a part of what is stored.';

/** Which time an answer counts. */
export function countedText(window: CountedWindow, now?: number): string {
  const step = window.rounded_to_s === 60 ? 'minute' : `${window.rounded_to_s} s`;
  return `counted per ${step}, ${period(Date.parse(window.counted_start), Date.parse(window.counted_end), now)}`;
}

/** Said where there was more than is told apart; nothing otherwise. */
export function boundedText(answer: CountedOf, kinds: string, rest = `as ${OTHERS}`): string {
  return answer.bounded ? `More ${kinds} than are kept apart: the rest is counted together, ${rest}.` : '';
}

/** Of how many traces the trees are, where not of all that are stored; nothing otherwise. */
export function drawnText(entry: EntryAnswer): string {
  return entry.trees_from < entry.traces_seen ? `drawn from ${count(entry.trees_from)} of ${count(entry.traces_seen)} traces` : '';
}

/** Of which traces one tree is. */
export function groupText(entry: EntryAnswer, group: EntryGroup): string {
  const drawn = group.traces_seen ?? group.traces;
  if (drawn === group.traces) return many(drawn, 'trace');
  return `${count(drawn)} of ${drawnText(entry) === '' ? '' : 'some '}${count(group.traces)} traces`;
}

/** How many traces the findings stand on, where not on all; nothing otherwise. */
export function lookedAtText(found: Insights): string {
  if (found.complete) return '';
  if (found.looked_at === undefined) return 'not all traces were looked at';
  if (found.looked_at < found.traces) return `looked at ${count(found.looked_at)} of ${count(found.traces)} traces, drawn by trace id; what is counted stands for all`;
  return 'the time for looking ran out: there are more traces';
}
