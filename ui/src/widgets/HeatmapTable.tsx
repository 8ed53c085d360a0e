import type { HeatmapAnswer } from '../api/types';
import { count, duration, many } from '../base/format';

/** What a heatmap is of. Traces that match a query are read from the newest on, others in order of their ids. */
export function HeatmapFacts({ answer, isQuery = false }: { answer: HeatmapAnswer; isQuery?: boolean }) {
  return (
    <p className="small soft" style={{ marginBottom: 6 }}>
      {many(answer.traces, 'trace')}, p50 {duration(answer.p50_ns)}, p95 {duration(answer.p95_ns)}, p99 {duration(answer.p99_ns)}
      {!answer.complete && (isQuery ? '; the newest: there are more' : '; a fair sample: there are more')}
    </p>
  );
}

/** What a heatmap shows, as rows of durations: for those who do not see it, and for copying. */
export function HeatmapTable({ answer }: { answer: HeatmapAnswer }) {
  return (
    <details className="small" style={{ marginTop: 16 }}>
      <summary>As a table</summary>
      <table className="lines" aria-label="Heatmap as a table">
        <thead><tr><th>Duration</th><th className="number">Traces</th><th className="number">With errors</th></tr></thead>
        <tbody>{bands(answer).map(([row, traces, errors]) => <tr key={row}><td>{duration(answer.edges_ns[row] ?? 0)} – {duration(answer.edges_ns[row + 1] ?? 0)}</td><td className="number">{count(traces)}</td><td className="number">{count(errors)}</td></tr>)}</tbody>
      </table>
    </details>
  );
}

function bands(answer: HeatmapAnswer): [number, number, number][] {
  const rows = new Map<number, [number, number]>();
  for (const [, row, traces, errors] of answer.cells) {
    const held = rows.get(row) ?? [0, 0];
    rows.set(row, [held[0] + traces, held[1] + errors]);
  }
  return [...rows].sort((a, b) => b[0] - a[0]).map(([row, [traces, errors]]) => [row, traces, errors]);
}
