import type { Finding, Mute } from '../api/types';

export const KINDS: Record<string, string> = {
  n_plus_one: 'N+1 calls',
  fan_out: 'Fan-out',
  silent_dependency: 'Silent dependency',
  slow_rare_path: 'Slow but rare',
  misattributed_bottleneck: 'Misattributed bottleneck',
  hidden_error: 'Hidden error',
  retry_storm: 'Retry storm',
};

export const kindName = (kind: string): string => KINDS[kind] ?? kind;

/** Findings before those that somebody muted, each part in order of cost. */
export function ordered(findings: Finding[], mutes: Mute[]): { finding: Finding; mute?: Mute }[] {
  const byId = new Map(mutes.map((mute) => [mute.finding, mute]));
  const all = findings.map((finding) => ({ finding, mute: byId.get(finding.id) }));
  return [...all.filter((one) => !one.mute), ...all.filter((one) => one.mute)];
}

/** Reads into the subject of a finding, whose members depend on its kind; what is not there is nothing. */
export function at(subject: unknown, ...path: string[]): unknown {
  let value = subject;
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

export function text(subject: unknown, ...path: string[]): string {
  const value = at(subject, ...path);
  return typeof value === 'string' ? value : '';
}

export function number(subject: unknown, ...path: string[]): number | undefined {
  const value = at(subject, ...path);
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

export function list(subject: unknown, ...path: string[]): unknown[] {
  const value = at(subject, ...path);
  return Array.isArray(value) ? value : [];
}
