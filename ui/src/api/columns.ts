import type { TraceColumns } from './types';

/** Columns of numbers, and what holds them. */
const NUMBERS = {
  parent: Int32Array,
  service: Uint32Array,
  name: Uint32Array,
  operation: Uint32Array,
  kind: Uint8Array,
  start_ns: Float64Array,
  duration_ns: Float64Array,
  self_ns: Float64Array,
  critical_ns: Float64Array,
  status: Uint8Array,
} as const;

/**
 * Reads `/columns` from its bytes, while they come. A large trace is megabytes of digits: they go into typed arrays as they
 * are met, with no object a number and no text of the whole. What is not numbers is left to the browser's own reader.
 * Numbers that are null become NaN.
 */
export class ColumnsReader {
  private readonly cursor: Cursor;
  private readonly steps: Steps<TraceColumns>;
  private found?: TraceColumns;

  /** With the number of bytes that will come, or a guess. */
  constructor(size: number) {
    this.cursor = new Cursor(size);
    this.steps = trace(this.cursor);
  }

  push(chunk: Uint8Array): void {
    this.cursor.push(chunk);
    if (this.found) return;
    const step = this.steps.next();
    if (step.done) this.found = step.value;
  }

  finish(): TraceColumns {
    if (!this.found) throw new SyntaxError('the trace ends in the middle');
    return this.found;
  }
}

export function readColumns(bytes: Uint8Array): TraceColumns {
  const reader = new ColumnsReader(bytes.length);
  reader.push(bytes);
  return reader.finish();
}

/** Work that yields when it needs more bytes. */
type Steps<T> = Generator<void, T, void>;

function* trace(cursor: Cursor): Steps<TraceColumns> {
  const head: Record<string, unknown> = {};
  const found: Record<string, unknown> = { queue: [], ledger: new Float64Array(0), segments: new Float64Array(0) };
  const columns: Record<string, unknown> = {};
  yield* cursor.members(function* (key) {
    if (key === 'queue') found.queue = yield* cursor.value();
    else if (key === 'ledger') found.ledger = yield* cursor.numbers();
    else if (key === 'critical_path') {
      const path: Record<string, unknown> = {};
      yield* cursor.members(function* (part) {
        if (part === 'segments') found.segments = yield* cursor.numbers();
        else path[part] = yield* cursor.value();
      });
      head.critical_path = path;
    } else if (key === 'columns') {
      yield* cursor.members(function* (column) {
        const kind = NUMBERS[column as keyof typeof NUMBERS];
        columns[column] = kind ? new kind(yield* cursor.numbers()) : yield* cursor.value();
      });
    } else head[key] = yield* cursor.value();
  });
  return { head, ...found, columns } as unknown as TraceColumns;
}

// Bytes of JSON. Each is a name of its own, which the build puts in as a number.
const QUOTE = 34;
const COMMA = 44;
const MINUS = 45;
const ZERO = 48;
const COLON = 58;
const OPEN_LIST = 91;
const BACKSLASH = 92;
const CLOSE_LIST = 93;
const NULL = 110;
const OPEN = 123;
const CLOSE = 125;
/** Digits that a number surely holds exactly. */
const EXACT = 15;

/** Numbers of a list that is being read. */
interface Numbers {
  held: Float64Array;
  count: number;
  depth: number;
}

/** A place in bytes of which the first `filled` have come. */
class Cursor {
  private at = 0;
  private filled = 0;
  private bytes: Uint8Array;
  private readonly text = new TextDecoder();

  constructor(size: number) {
    this.bytes = new Uint8Array(Math.max(size, 1024));
  }

  push(chunk: Uint8Array): void {
    const needed = this.filled + chunk.length;
    if (needed > this.bytes.length) {
      const larger = new Uint8Array(Math.max(needed, this.bytes.length * 2));
      larger.set(this.bytes);
      this.bytes = larger;
    }
    this.bytes.set(chunk, this.filled);
    this.filled = needed;
  }

  /** Calls `read`, which must take the value, for each member of the object that begins here. */
  *members(read: (key: string) => Steps<void>): Steps<void> {
    yield* this.expect(OPEN);
    while ((yield* this.next()) !== CLOSE) {
      if ((yield* this.next()) === COMMA) this.at += 1;
      const key = String(yield* this.value());
      yield* this.expect(COLON);
      yield* read(key);
    }
    this.at += 1;
  }

  /** The value that begins here, whatever it is. */
  *value(): Steps<unknown> {
    yield* this.next();
    const from = this.at;
    let depth = 0;
    for (;;) {
      while (this.at >= this.filled) yield;
      const byte = this.bytes[this.at];
      if (byte === QUOTE) {
        yield* this.skipText();
        if (depth === 0) break;
        continue;
      }
      if (depth === 0 && (byte === COMMA || byte === CLOSE || byte === CLOSE_LIST)) break;
      if (byte === OPEN || byte === OPEN_LIST) depth += 1;
      if (byte === CLOSE || byte === CLOSE_LIST) depth -= 1;
      this.at += 1;
      if (depth === 0 && (byte === CLOSE || byte === CLOSE_LIST)) break;
    }
    return JSON.parse(this.text.decode(this.bytes.subarray(from, this.at)));
  }

  /** All numbers of the list that begins here, lists within it laid end to end. */
  *numbers(): Steps<Float64Array> {
    yield* this.expect(OPEN_LIST);
    const list: Numbers = { held: new Float64Array(4096), count: 0, depth: 1 };
    while (!this.scan(list)) yield;
    return list.held.slice(0, list.count);
  }

  /** Takes the numbers that have come whole; whether the list is at its end. */
  private scan(list: Numbers): boolean {
    const { bytes, filled } = this;
    let { held, count, depth } = list;
    let at = this.at;
    while (at < filled && depth > 0) {
      const from = at;
      let byte = bytes[at] as number;
      const isNegative = byte === MINUS;
      if (isNegative) {
        if (at + 1 >= filled) break;
        at += 1;
        byte = bytes[at] as number;
      }
      let digit = byte - ZERO;
      let value = Number.NaN;
      if (digit >= 0 && digit <= 9) {
        value = 0;
        do {
          value = value * 10 + digit;
          at += 1;
          digit = (bytes[at] as number) - ZERO;
        } while (digit >= 0 && digit <= 9 && at < filled);
        byte = digit + ZERO;
        if ((byte !== COMMA && byte !== CLOSE_LIST) || at - from > EXACT) {
          // Not a plain short number: a fraction, a power of ten, or white space behind it.
          while (at < filled && bytes[at] !== COMMA && bytes[at] !== CLOSE_LIST) at += 1;
          value = at < filled ? Number(this.text.decode(bytes.subarray(from, at))) : 0;
        } else if (isNegative) value = -value;
        if (at >= filled) {
          // Its end is still to come.
          at = from;
          break;
        }
      } else if (byte === NULL) at += 4;
      else {
        if (byte === OPEN_LIST) depth += 1;
        else if (byte === CLOSE_LIST) depth -= 1;
        at = from + 1;
        continue;
      }
      if (count === held.length) {
        const larger = new Float64Array(count * 2);
        larger.set(held);
        held = larger;
      }
      held[count] = value;
      count += 1;
    }
    Object.assign(list, { held, count, depth });
    this.at = at;
    return depth === 0;
  }

  private *skipText(): Steps<void> {
    const first = this.at + 1;
    let at = first;
    for (;;) {
      const quote = this.bytes.subarray(0, this.filled).indexOf(QUOTE, at);
      if (quote < 0) {
        at = Math.max(first, this.filled);
        yield;
        continue;
      }
      at = quote + 1;
      let before = quote - 1;
      while (before >= first && this.bytes[before] === BACKSLASH) before -= 1;
      // A quote behind an odd number of backslashes is part of the text.
      if ((quote - before) % 2 === 1) break;
    }
    this.at = at;
  }

  /** The byte that is next after white space. */
  private *next(): Steps<number> {
    for (;;) {
      while (this.at >= this.filled) yield;
      const byte = this.bytes[this.at] as number;
      if (byte > 32) return byte;
      this.at += 1;
    }
  }

  private *expect(byte: number): Steps<void> {
    if ((yield* this.next()) !== byte) throw new SyntaxError(`the trace cannot be read at byte ${this.at}`);
    this.at += 1;
  }
}
