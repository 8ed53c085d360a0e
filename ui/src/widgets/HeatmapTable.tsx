import type { HeatmapAnswer } from '../api/types';
import { count, duration } from '../base/format';

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
