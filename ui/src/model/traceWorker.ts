import { readTrace } from './readTrace';
import { buffersOf } from './trace';

/** Reads the one trace that it is sent, and hands it over; a text says why it cannot. */
self.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
  try {
    const opened = readTrace(data);
    self.postMessage(opened, { transfer: buffersOf(opened.model) });
  } catch (error) {
    self.postMessage(error instanceof Error ? error.message : String(error));
  }
};
