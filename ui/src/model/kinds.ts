import type { Kinds } from '../api/types';
import { count } from '../base/format';

/** The percentile at which a duration stands among its kind, 0 to 100; nothing when there are too few of the kind. */
export function percentileOf(kinds: Kinds, place: number, durationNs: number): Standing | null {
  const number = kinds.of_span[place];
  const kind = number === null || number === undefined ? undefined : kinds.kinds[number];
  const quantiles = kind?.quantiles_ns;
  if (!kind || !quantiles) return null;
  const { shares } = kinds;
  const medianNs = quantiles[shares.indexOf(0.5)] ?? 0;
  // The share of them that is shorter: of many that are equally long none is slower than the rest.
  for (let at = 0; at < quantiles.length; at += 1) {
    const value = quantiles[at] ?? 0;
    if (durationNs > value) continue;
    const before = quantiles[at - 1];
    const [low, high] = [shares[at - 1] ?? 0, shares[at] ?? 1];
    const part = before === undefined || value <= before ? 0 : (durationNs - before) / (value - before);
    return { percentile: (before === undefined ? 0 : low + part * (high - low)) * 100, spans: kind.spans, medianNs };
  }
  return { percentile: 100, spans: kind.spans, medianNs };
}

export interface Standing {
  percentile: number;
  spans: number;
  medianNs: number;
}

/** No more of a percentile than so many spans can tell: of a hundred, the slowest is the 99th. */
const told = ({ percentile, spans }: Standing): number => Math.min(percentile, 100 - 100 / spans);

/** For a badge: "p97". */
export function badgeOf(standing: Standing): string {
  const value = told(standing);
  return `p${value > 99 && standing.spans >= 1000 ? (Math.floor(value * 10) / 10).toFixed(1) : Math.floor(value + 1e-9)}`;
}

/** In words: where it stands among its kind. */
export function standingText(standing: Standing): string {
  const among = `${count(standing.spans)} spans of its kind`;
  if (standing.percentile >= 100) return `the slowest of ${among}`;
  const value = told(standing);
  return `slower than ${value > 99 && standing.spans >= 1000 ? value.toFixed(1) : value.toFixed(0)} % of ${among}`;
}
