/** 1234567 ns → "1.23 ms". */
export function duration(ns: number): string {
  const units: [number, string][] = [[1e9, 's'], [1e6, 'ms'], [1e3, 'µs']];
  if (ns >= 60e9) {
    const seconds = Math.round(ns / 1e9);
    return seconds >= 3600 ? `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  }
  for (const [factor, unit] of units) {
    if (Math.abs(ns) >= factor) {
      const value = ns / factor;
      return `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ${unit}`;
    }
  }
  return `${ns} ns`;
}

/** Milliseconds since 1970 of a time in nanoseconds, which may be too large for a number. */
export function millis(unixNano: string): number {
  return Number(BigInt(unixNano) / 1_000_000n);
}

export function clock(unixNano: string): string {
  const date = new Date(millis(unixNano));
  const pad = (value: number, width = 2) => String(value).padStart(width, '0');
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
}

export function ago(unixNano: string): string {
  const seconds = Math.max(0, Math.round((Date.now() - millis(unixNano)) / 1000));
  for (const [size, unit] of [[86400, 'd'], [3600, 'h'], [60, 'min']] as const) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return `${seconds} s ago`;
}

/** A colour for a service, the same everywhere, readable on light and dark. */
export function serviceColour(name: string): string {
  let hash = 2166136261;
  for (let at = 0; at < name.length; at += 1) {
    hash = Math.imul(hash ^ name.charCodeAt(at), 16777619);
  }
  const hue = ((hash >>> 0) % 24) * 15;
  return `hsl(${hue} 55% 52%)`;
}
