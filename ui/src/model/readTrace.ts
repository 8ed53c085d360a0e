import { readColumns } from '../api/columns';
import type { TraceHead } from '../api/types';
import { type TraceModel, traceModel } from './trace';

/** A trace that has been read. */
export interface Opened {
  head: TraceHead;
  model: TraceModel;
}

export function readTrace(bytes: ArrayBuffer): Opened {
  const columns = readColumns(new Uint8Array(bytes));
  return { head: columns.head, model: traceModel(columns) };
}
