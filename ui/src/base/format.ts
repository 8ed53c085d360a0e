/** Three significant digits: 1234567 ns → "1.23 ms". */
export function duration(ns: number): string {
  if (!Number.isFinite(ns)) return '–';
  const size = Math.abs(ns);
  if (size >= 60e9) {
    const seconds = Math.round(size / 1e9);
    const text = seconds >= 3600 ? `${Math.floor(seconds / 3600)} h${rest(Math.floor((seconds % 3600) / 60), 'min')}` : `${Math.floor(seconds / 60)} min${rest(seconds % 60, 's')}`;
    return ns < 0 ? `−${text}` : text;
  }
  for (const [factor, unit] of [[1e9, 's'], [1e6, 'ms'], [1e3, 'µs']] as const) {
    // What rounds up to the next unit is written in it.
    if (size >= factor * 0.9995) return `${digits(ns / factor)} ${unit}`;
  }
  return `${Math.round(ns)} ns`;
}

/** The smaller part of a time, nothing where it is nothing. */
const rest = (value: number, unit: string): string => (value > 0 ? ` ${value} ${unit}` : '');

/** A difference with its sign: "+1.23 ms", "−40 µs", "±0". */
export const signed = (ns: number): string => (Math.round(ns) === 0 ? '±0' : `${ns > 0 ? '+' : '−'}${duration(Math.abs(ns))}`);

export const milliseconds = (ms: number): string => duration(ms * 1e6);

function digits(value: number): string {
  const size = Math.abs(value);
  const text = size >= 99.95 ? value.toFixed(0) : size >= 9.995 ? value.toFixed(1) : value.toFixed(2);
  return text.replace('-', '−');
}

/** A share as a percentage with at most two digits that mean something. */
export function percent(share: number): string {
  const value = share * 100;
  if (!Number.isFinite(value)) return '–';
  if (value !== 0 && Math.abs(value) < 0.1) return '< 0.1 %';
  return `${Math.abs(value) < 10 && value !== 0 ? value.toFixed(1).replace(/\.0$/, '') : value.toFixed(0)} %`;
}

/** The first digits of an id that tell something: ids of 64 bits stand behind zeros. */
export const shortId = (id: string): string => (/^0{16}(?=.)/.test(id) ? id.slice(16) : id).slice(0, 8);

/** 1234567 → "1,234,567"; the browser's own way takes tens of milliseconds the first time. */
export const count = (value: number): string => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ',');

/** "1 trace", "1,200 traces". */
export const many = (value: number, name: string): string => `${count(value)} ${name}${value === 1 ? '' : 's'}`;

/** With a capital and a full stop; nothing stays nothing. */
export const sentence = (text: string): string => text && `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

/** 12345 → "12.3 k", for where there is little room. */
export function short(value: number): string {
  for (const [factor, unit] of [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']] as const) {
    if (Math.abs(value) >= factor) return `${digits(value / factor)} ${unit}`;
  }
  return Number.isInteger(value) ? String(value) : digits(value);
}

/** How often; where that is hardly ever, how many times in all. */
export function rate(perSecond: number | null, inAll: number): string {
  if (perSecond === null || perSecond * 3600 < 1) return `${short(inAll)} in all`;
  if (perSecond >= 1) return `${short(perSecond)}/s`;
  if (perSecond * 60 >= 1) return `${digits(perSecond * 60)}/min`;
  return `${digits(perSecond * 3600)}/h`;
}

/** By how much a rate may be off, as ± of it; nothing where it is certain. */
export function margin(rate: number | null, between: [number, number] | null): string {
  if (!between || rate === null || rate <= 0) return '';
  return `± ${percent((between[1] - rate) / rate)}`;
}

export function bytes(value: number): string {
  for (const [factor, unit] of [[2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB']] as const) {
    if (value >= factor) return `${digits(value / factor)} ${unit}`;
  }
  return `${value} B`;
}

/** Milliseconds since 1970 of a time in nanoseconds, which may be too large for a number. */
export function millis(unixNano: string): number {
  return Number(BigInt(unixNano) / 1_000_000n);
}

const pad = (value: number, width = 2) => String(value).padStart(width, '0');

export function clock(unixNano: string): string {
  return moment(millis(unixNano), true);
}

/** Local time, as people write it down. */
export function moment(ms: number, withMillis = false): string {
  const date = new Date(ms);
  const text = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return withMillis ? `${text}.${pad(date.getMilliseconds(), 3)}` : text;
}

/** Minutes of local time; the day is named where it is not today, or not one day. */
export function period(fromMs: number, toMs: number, now = Date.now()): string {
  const [from, to] = [moment(fromMs).slice(0, 16), moment(toMs).slice(0, 16)];
  // What ends at midnight belongs to the day before.
  const isOneDay = from.slice(0, 10) === moment(toMs - 1).slice(0, 10);
  if (!isOneDay) return `${from} to ${to}`;
  return `${from.slice(0, 10) === moment(now).slice(0, 10) ? from.slice(11) : from} to ${to.slice(11)}`;
}

export function ago(unixNano: string, now = Date.now()): string {
  const seconds = Math.max(0, Math.round((now - millis(unixNano)) / 1000));
  if (seconds >= 86400 * 60) return moment(millis(unixNano)).slice(0, 10);
  for (const [size, unit] of [[86400, 'd'], [3600, 'h'], [60, 'min']] as const) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return `${seconds} s ago`;
}

/** Round steps of 1, 2 or 5 that cut a span of time into about `wanted` pieces. */
export function ticks(from: number, to: number, wanted: number): number[] {
  const span = to - from;
  if (!(span > 0)) return [];
  const rough = span / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough) ?? rough;
  const found: number[] = [];
  for (let at = Math.ceil(from / step) * step; at <= to && found.length < 100; at += step) found.push(at);
  return found;
}
