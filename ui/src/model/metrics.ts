/** One line of Prometheus text. */
export interface Metric {
  name: string;
  labels: string;
  value: number;
  help: string;
}

/** Reads Prometheus text; buckets of histograms are left out, their sums and counts stay. */
export function parseMetrics(text: string): Metric[] {
  const helps = new Map<string, string>();
  const found: Metric[] = [];
  for (const line of text.split('\n')) {
    const help = /^# HELP (\S+) (.*)$/.exec(line);
    if (help?.[1] && help[2]) helps.set(help[1], help[2]);
    const sample = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    const [, name, labels = '', value] = sample ?? [];
    if (!name || value === undefined || name.endsWith('_bucket')) continue;
    found.push({ name, labels, value: Number(value), help: helps.get(name) ?? '' });
  }
  return found;
}

export const sumOf = (metrics: Metric[], name: string): number => metrics.filter((metric) => metric.name === name || metric.name === `${name}_total`).reduce((sum, metric) => sum + metric.value, 0);
