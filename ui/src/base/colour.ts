/**
 * A colour means a service, the same everywhere. Twelve hues, apart in a perceptual space, leaving out the red of errors;
 * a darker and a lighter round for the services beyond. Names are always written beside colours.
 */
const HUES = [250, 145, 60, 305, 195, 100, 335, 225, 170, 280, 80, 120];
const SLOTS = HUES.length * 3;

const assigned = new Map<string, number>();

function hash(name: string): number {
  let value = 2166136261;
  for (let at = 0; at < name.length; at += 1) value = Math.imul(value ^ name.charCodeAt(at), 16777619);
  return (value ^ (value >>> 15)) >>> 0;
}

/** Gives each service a slot of its own while there are enough; by name, so that it is the same after a reload. */
export function assignColours(names: string[]): void {
  const taken = new Set<number>();
  assigned.clear();
  for (const name of [...names].sort()) {
    const wanted = hash(name) % HUES.length;
    let slot = wanted;
    for (let step = 0; step < SLOTS && taken.has(slot); step += 1) slot = (wanted + step + 1) % SLOTS;
    taken.add(slot);
    assigned.set(name, slot);
  }
}

let ofSystem: MediaQueryList | undefined;

export function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  if (chosen) return chosen === 'dark';
  ofSystem ??= window.matchMedia('(prefers-color-scheme: dark)');
  return ofSystem.matches;
}

export function serviceColour(name: string, alpha = 1): string {
  const slot = assigned.get(name) ?? hash(name) % HUES.length;
  const round = Math.floor(slot / HUES.length);
  const lightness = (isDark() ? [0.74, 0.58, 0.87] : [0.67, 0.5, 0.8])[round] ?? 0.67;
  const chroma = [0.125, 0.095, 0.08][round] ?? 0.1;
  return `oklch(${lightness} ${chroma} ${HUES[slot % HUES.length] ?? 0}${alpha < 1 ? ` / ${alpha}` : ''})`;
}

/** A token of tokens.css, for canvases. */
export function token(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
