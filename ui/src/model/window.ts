import type { SearchWindow } from '../api/client';
import { millis, moment } from '../base/format';
import { type Place, withParameters } from '../base/location';

/** Name in the address, on the screen, and length in seconds; 0 is all there is. */
export const WINDOWS: [string, string, number][] = [
  ['15m', 'Last 15 min', 900],
  ['1h', 'Last hour', 3600],
  ['6h', 'Last 6 hours', 21600],
  ['24h', 'Last day', 86400],
  ['7d', 'Last week', 604800],
  ['all', 'All time', 0],
];
const USUAL = '1h';

export interface Window extends SearchWindow {
  name: string;
  label: string;
  /** Names the window: what is loaded for it stays until the name changes, though the present goes on. */
  key: string;
}

/** The window that the address holds: `from` and `to` in nanoseconds, or `window` by name. */
export function windowOf(place: Place, now = Date.now()): Window {
  const bound = (key: string) => {
    const text = place.parameters.get(key);
    return text && /^\d{1,20}$/.test(text) ? BigInt(text) : undefined;
  };
  const [fromNano, toNano] = [bound('from'), bound('to')];
  if (fromNano !== undefined || toNano !== undefined) {
    const side = (nano?: bigint) => (nano === undefined ? '…' : moment(millis(String(nano))));
    return { fromNano, toNano, name: 'custom', label: `${side(fromNano)} – ${side(toNano)}`, key: `${fromNano}-${toNano}` };
  }
  const wanted = place.parameters.get('window') ?? USUAL;
  const [name, label, seconds] = WINDOWS.find(([key]) => key === wanted) ?? ['1h', 'Last hour', 3600];
  if (seconds === 0) return { name, label, key: name };
  return { fromNano: BigInt(now - seconds * 1000) * 1_000_000n, name, label, key: name };
}

/** The parameters of the window, to be carried from page to page. */
export function windowParameters(place: Place): Record<string, string | null> {
  return { window: place.parameters.get('window'), from: place.parameters.get('from'), to: place.parameters.get('to') };
}

/** An hour that ends with the newest span. */
export function newestWindow(place: Place, newestUnixNano: string): string {
  const to = BigInt(newestUnixNano) + 1n;
  return withParameters(place, { window: null, from: String(to - 3_600_000_000_000n), to: String(to) });
}
