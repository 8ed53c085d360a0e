import { useEffect, useState } from 'react';

export interface Loaded<T> {
  value?: T;
  error?: Error;
  isLoading: boolean;
}

/** A number that grows while the page is in sight: what depends on it is loaded again. */
export function useTick(everyMs: number): number {
  const [tick, setTick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => !document.hidden && setTick((before) => before + 1), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return tick;
}

/** Loads whenever `key` changes; the value before stays until the next is there. */
export function useLoaded<T>(key: string, load: (signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [state, setState] = useState<Loaded<T>>({ isLoading: true });
  useEffect(() => {
    const controller = new AbortController();
    setState((before) => ({ ...before, isLoading: true }));
    load(controller.signal).then(
      (value) => setState({ value, isLoading: false }),
      (error: Error) => {
        if (!controller.signal.aborted) setState((before) => ({ value: before.value, error, isLoading: false }));
      },
    );
    return () => controller.abort();
    // The key names everything that the request depends on.
  }, [key]);
  return state;
}
