import type { TraceColumns, TraceHead } from './types';

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
 * Reads `/columns` from its bytes. A large trace is megabytes of digits: they go into typed arrays as they are met, with
 * no object a number and no text of the whole. What is not numbers is left to the browser's own reader. Numbers that are
 * null become NaN, which columns of whole numbers hold as 0.
 */
export function readColumns(bytes: Uint8Array): TraceColumns {
  const cursor = new Cursor(bytes);
  const head: Record<string, unknown> = {};
  const found: Record<string, unknown> = { queue: [], ledger: new Float64Array(0), segments: new Float64Array(0) };
  const columns: Record<string, unknown> = {};
  cursor.members((key) => {
    switch (key) {
      case 'queue':
        found.queue = cursor.value();
        break;
      case 'ledger':
        found.ledger = cursor.numbers();
        break;
      case 'critical_path': {
        const path: Record<string, unknown> = {};
        cursor.members((part) => {
          if (part === 'segments') found.segments = cursor.numbers();
          else path[part] = cursor.value();
        });
        head.critical_path = path;
        break;
      }
      case 'columns':
        cursor.members((column) => {
          const kind = NUMBERS[column as keyof typeof NUMBERS];
          columns[column] = kind ? new kind(cursor.numbers()) : cursor.value();
        });
        break;
      default:
        head[key] = cursor.value();
    }
  });
  return { head: head as unknown as TraceHead, ...found, columns } as unknown as TraceColumns;
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

class Cursor {
  private at = 0;
  private readonly text = new TextDecoder();

  constructor(private readonly bytes: Uint8Array) {}

  /** Calls `read`, which must take the value, for each member of the object that begins here. */
  members(read: (key: string) => void): void {
    this.expect(OPEN);
    while (this.next() !== CLOSE) {
      if (this.next() === COMMA) this.at += 1;
      const key = String(this.value());
      this.expect(COLON);
      read(key);
    }
    this.at += 1;
  }

  /** The value that begins here, whatever it is. */
  value(): unknown {
    this.next();
    const { bytes } = this;
    const from = this.at;
    let depth = 0;
    for (;;) {
      const byte = bytes[this.at];
      if (byte === undefined) throw new SyntaxError('the trace ends in the middle');
      if (byte === QUOTE) {
        this.skipText();
        if (depth === 0) break;
        continue;
      }
      if (depth === 0 && (byte === COMMA || byte === CLOSE || byte === CLOSE_LIST)) break;
      if (byte === OPEN || byte === OPEN_LIST) depth += 1;
      if (byte === CLOSE || byte === CLOSE_LIST) depth -= 1;
      this.at += 1;
      if (depth === 0 && (byte === CLOSE || byte === CLOSE_LIST)) break;
    }
    return JSON.parse(this.text.decode(bytes.subarray(from, this.at)));
  }

  /** All numbers of the list that begins here, lists within it laid end to end. */
  numbers(): Float64Array {
    if (this.next() === NULL) return new Float64Array(0);
    this.expect(OPEN_LIST);
    const { bytes } = this;
    const length = bytes.length;
    let found = new Float64Array(4096);
    let [count, depth, at] = [0, 1, this.at];
    while (depth > 0) {
      if (at >= length) throw new SyntaxError('the trace ends in the middle');
      const from = at;
      let byte = bytes[at] as number;
      const isNegative = byte === MINUS;
      if (isNegative) byte = bytes[(at += 1)] as number;
      let digit = byte - ZERO;
      if (digit < 0 || digit > 9) {
        if (byte === OPEN_LIST) depth += 1;
        else if (byte === CLOSE_LIST) depth -= 1;
        else if (byte === NULL) {
          if (count === found.length) found = doubled(found);
          found[count] = Number.NaN;
          count += 1;
        }
        at += byte === NULL ? 4 : 1;
        continue;
      }
      let value = 0;
      do {
        value = value * 10 + digit;
        at += 1;
        digit = (bytes[at] as number) - ZERO;
      } while (digit >= 0 && digit <= 9);
      byte = digit + ZERO;
      if ((byte !== COMMA && byte !== CLOSE_LIST) || at - from > EXACT) {
        // Not a plain short number: a fraction, a power of ten, or white space behind it.
        while (at < length && bytes[at] !== COMMA && bytes[at] !== CLOSE_LIST) at += 1;
        value = Number(this.text.decode(bytes.subarray(from, at)));
      } else if (isNegative) value = -value;
      if (count === found.length) found = doubled(found);
      found[count] = value;
      count += 1;
    }
    this.at = at;
    return found.slice(0, count);
  }

  private skipText(): void {
    const { bytes } = this;
    let at = this.at + 1;
    while (at < bytes.length && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
    this.at = at + 1;
  }

  /** The byte that is next after white space. */
  private next(): number {
    for (;;) {
      const byte = this.bytes[this.at];
      if (byte === undefined) throw new SyntaxError('the trace ends in the middle');
      if (byte > 32) return byte;
      this.at += 1;
    }
  }

  private expect(byte: number): void {
    if (this.next() !== byte) throw new SyntaxError(`the trace cannot be read at byte ${this.at}`);
    this.at += 1;
  }
}

function doubled(numbers: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(numbers.length * 2);
  larger.set(numbers);
  return larger;
}
