import { ColumnsReader } from '../../api/columns';
import { buffersOf, opened } from '../../model/trace';

let reader = new ColumnsReader(0);

/** Reads the one trace that it is sent: its size, its bytes in pieces, and null. Hands it over; a text says why it cannot. */
self.onmessage = ({ data }: MessageEvent<number | Uint8Array | null>) => {
  try {
    if (typeof data === 'number') reader = new ColumnsReader(data);
    else if (data) reader.push(data);
    else {
      const trace = opened(reader.finish());
      self.postMessage(trace, { transfer: buffersOf(trace.model) });
    }
  } catch (error) {
    self.postMessage(error instanceof Error ? error.message : String(error));
  }
};
