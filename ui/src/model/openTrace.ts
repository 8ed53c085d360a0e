import { type Opened, readTrace } from './readTrace';

/** Bytes from which on a trace is read in a worker: less takes about as long as handing it over. */
const LARGE = 512 * 1024;

let waiting: Worker | undefined;

const start = (): Worker => new Worker(new URL('./traceWorker.ts', import.meta.url), { type: 'module' });

/** Starts the worker while a large trace is on its way. */
export function expectBytes(bytes: number): void {
  if (bytes >= LARGE) waiting ??= start();
}

/** Reads a trace, a large one away from the thread that draws. The bytes are taken. */
export function openTrace(bytes: ArrayBuffer, signal?: AbortSignal): Opened | Promise<Opened> {
  if (bytes.byteLength < LARGE) return readTrace(bytes);
  const worker = waiting ?? start();
  waiting = undefined;
  return new Promise<Opened>((resolve, reject) => {
    const end = () => worker.terminate();
    signal?.addEventListener('abort', end);
    worker.onmessage = ({ data }: MessageEvent<Opened | string>) => {
      end();
      if (typeof data === 'string') reject(new Error(data));
      else resolve(data);
    };
    worker.onerror = (event) => {
      end();
      reject(new Error(event.message || 'the trace could not be read'));
    };
    worker.postMessage(bytes, [bytes]);
  });
}
