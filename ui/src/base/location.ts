import { useSyncExternalStore } from 'react';

/** The address is the state of the page: path and parameters. */
export interface Place {
  path: string;
  parameters: URLSearchParams;
}

const listeners = new Set<() => void>();

function changed() {
  for (const listener of listeners) listener();
}

window.addEventListener('popstate', changed);

export function usePlace(): Place {
  const text = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => window.location.pathname + window.location.search,
  );
  return placeOf(text);
}

export function placeOf(address: string): Place {
  const at = address.indexOf('?');
  return at < 0 ? { path: address, parameters: new URLSearchParams() } : { path: address.slice(0, at), parameters: new URLSearchParams(address.slice(at + 1)) };
}

/** The place as it is now, for actions that come later than the drawing. */
export const here = (): Place => placeOf(window.location.pathname + window.location.search);

/** Goes to an address; `replace` leaves no step in the history. */
export function go(address: string, replace = false) {
  if (address === window.location.pathname + window.location.search) return;
  if (replace) window.history.replaceState(null, '', address);
  else window.history.pushState(null, '', address);
  changed();
  if (!replace) document.querySelector('main')?.scrollTo(0, 0);
}

/** This address with some parameters set, or taken out by `null`. */
export function withParameters(place: Place, changes: Record<string, string | null>): string {
  const next = new URLSearchParams(place.parameters);
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === '') next.delete(key);
    else next.set(key, value);
  }
  return address(place.path, next);
}

export function address(path: string, parameters: URLSearchParams | Record<string, string | null | undefined>): string {
  const entries = parameters instanceof URLSearchParams ? [...parameters] : Object.entries(parameters).filter((entry): entry is [string, string] => Boolean(entry[1]));
  const query = new URLSearchParams(entries).toString();
  return query ? `${path}?${query}` : path;
}
