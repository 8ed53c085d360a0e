import { traceResponse, type TraceReading } from '../../api/client';
import { readColumns } from '../../api/columns';
import { type Opened, opened } from '../../model/trace';

/** Bytes from which on a trace is read in a worker: less takes about as long as handing it over. */
const LARGE = 512 * 1024;

const early = new Map<string, Promise<Opened>>();
const keyOf = (id: string, { mode, clocks }: TraceReading): string => `${id} ${mode} ${clocks}`;

/** Asks for a trace before there is anything to show it: the page's own parts load meanwhile. */
export function expectTrace(id: string, reading: TraceReading): void {
  const asked = read(id, reading);
  early.set(keyOf(id, reading), asked);
  // Whoever takes it hears of the failure; if nobody does, it is of no interest.
  asked.catch(() => undefined);
}

export function openTrace(id: string, reading: TraceReading, signal: AbortSignal): Promise<Opened> {
  const key = keyOf(id, reading);
  const asked = early.get(key);
  early.delete(key);
  return asked ?? read(id, reading, signal);
}

async function read(id: string, reading: TraceReading, signal?: AbortSignal): Promise<Opened> {
  const response = await traceResponse(id, reading, signal);
  // A response that does not tell its size is taken to be large: whoever compresses it on the way has reasons to.
  const size = Number(response.headers.get('content-length') ?? LARGE);
  if (size < LARGE || !response.body) return opened(readColumns(new Uint8Array(await response.arrayBuffer())));
  return readAway(response.body, size, signal);
}

/** Reads a large trace away from the thread that draws, while it comes. */
async function readAway(body: ReadableStream<Uint8Array<ArrayBuffer>>, size: number, signal?: AbortSignal): Promise<Opened> {
  const worker = new Worker(new URL('./traceWorker.ts', import.meta.url), { type: 'module' });
  const done = new Promise<Opened>((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<Opened | string>) => (typeof data === 'string' ? reject(new Error(data)) : resolve(data));
    worker.onerror = (event) => reject(new Error(event.message || 'the trace cannot be read'));
    signal?.addEventListener('abort', () => reject(signal.reason));
  });
  try {
    worker.postMessage(size);
    const reader = body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) worker.postMessage(part.value, [part.value.buffer]);
    worker.postMessage(null);
    return await done;
  } finally {
    worker.terminate();
    // What failed on the way has been said by what failed first.
    done.catch(() => undefined);
  }
}
