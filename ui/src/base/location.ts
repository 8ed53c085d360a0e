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
  const [path, query] = text.split('?');
  return { path: path ?? '/', parameters: new URLSearchParams(query ?? '') };
}

/** Goes to an address; `replace` leaves no step in the history. */
export function go(address: string, replace = false) {
  if (replace) window.history.replaceState(null, '', address);
  else window.history.pushState(null, '', address);
  changed();
}

/** This address with some parameters set, or taken out by `null`. */
export function withParameters(place: Place, changes: Record<string, string | null>): string {
  const next = new URLSearchParams(place.parameters);
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === '') next.delete(key);
    else next.set(key, value);
  }
  const query = next.toString();
  return query ? `${place.path}?${query}` : place.path;
}
