import { describe, expect, it } from 'vitest';
import type { CountedWindow, EntryAnswer, EntryGroup, Insights } from '../../src/api/types';
import { moment, period, sentence } from '../../src/base/format';
import { boundedText, countedText, drawnText, groupText, lookedAtText } from '../../src/model/counted';

const minute = 60_000;
/** Noon of a day, in local time, as the page writes it. */
const noon = new Date(2026, 4, 17, 12, 0).getTime();
const counted = (fromMs: number, toMs: number, rounded_to_s = 60): CountedWindow => {
  const [from, to] = [fromMs, toMs].map((ms) => new Date(ms).toISOString());
  return { start: from ?? '', end: to ?? '', rounded_to_s, counted_start: from ?? '', counted_end: to ?? '' };
};

describe('what an answer is made of', () => {
  it('names the minutes, and the day where it is not today', () => {
    const [from, to] = [noon - 60 * minute, noon];
    expect(countedText(counted(from, to), noon)).toBe('counted per minute, 11:00 to 12:00');
    expect(countedText(counted(from, to, 10), noon)).toBe('counted per 10 s, 11:00 to 12:00');
    expect(period(from, to, noon + 2 * 86_400_000)).toBe('2026-05-17 11:00 to 12:00');
    expect(period(from - 86_400_000, to, noon)).toBe('2026-05-16 11:00 to 2026-05-17 12:00');
    // Until midnight is still one day.
    const midnight = noon + 720 * minute;
    expect(moment(midnight).slice(11, 16)).toBe('00:00');
    expect(period(noon, midnight, noon)).toBe('12:00 to 00:00');
  });

  it('says where there was more than is kept apart, and nothing otherwise', () => {
    const window = counted(0, minute);
    expect(boundedText({ window, bounded: false }, 'services')).toBe('');
    expect(boundedText({ window, bounded: true }, 'services')).toBe('More services than are kept apart: the rest is counted together, as (other).');
  });

  it('says of how many traces the trees are, where not of all', () => {
    const of = (trees_from: number, traces_seen: number) => ({ trees_from, traces_seen }) as EntryAnswer;
    const group = (traces_seen: number, traces: number) => ({ traces_seen, traces, nodes: [] }) as EntryGroup;
    expect(drawnText(of(1024, 180_000))).toBe('drawn from 1,024 of 180,000 traces');
    expect(drawnText(of(40, 40))).toBe('');
    expect(groupText(of(600, 180_000), group(306, 91_800))).toBe('306 of some 91,800 traces');
    expect(groupText(of(40, 40), group(20, 20))).toBe('20 traces');
    // All that were kept, which stand for more: that is known and no guess.
    expect(groupText(of(40, 40), group(10, 40))).toBe('10 of 40 traces');
  });

  it('says on how many traces findings stand, where not on all', () => {
    const of = (complete: boolean, traces: number, looked_at?: number) => ({ complete, traces, ...(looked_at !== undefined && { looked_at }) }) as Insights;
    expect(lookedAtText(of(true, 9))).toBe('');
    expect(lookedAtText(of(false, 1_200_000, 50_000))).toBe('looked at 50,000 of 1,200,000 traces, drawn by trace id; what is counted stands for all');
    expect(lookedAtText(of(false, 9, 9))).toBe('the time for looking ran out: there are more traces');
    expect([sentence(''), sentence('looked at 2')]).toEqual(['', 'Looked at 2.']);
  });
});
