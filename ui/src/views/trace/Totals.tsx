import { useMemo } from 'react';
import { duration, percent, signed } from '../../base/format';
import { type Total, totals, type TraceModel } from '../../model/trace';
import { type Column, DataTable } from '../../widgets/DataTable';
import { Service } from '../../widgets/Service';

const keyOf = (row: Total): string => `${row.service}\u0000${row.operation}\u0000${row.kind}`;

/** Sums per service and operation; beside those of another trace, where one is shown. */
export function Totals({ model, other, show }: { model: TraceModel; other?: TraceModel; show: (place: number) => void }) {
  const rows = useMemo(() => totals(model), [model]);
  const there = useMemo(() => other && new Map(totals(other).map((row) => [keyOf(row), row])), [other]);
  const critical = rows.reduce((sum, row) => sum + row.criticalNs, 0);
  const columns = useMemo<Column<Total>[]>(() => [
    { name: 'Service', value: (row) => row.service, cell: (row) => <Service name={row.service} /> },
    { name: 'Operation', value: (row) => row.operation, cell: (row) => <span title={row.operation}>{row.operation.length > 90 ? `${row.operation.slice(0, 89)}…` : row.operation} <span className="chip">{row.kind}</span></span> },
    { name: 'Spans', value: (row) => row.spans, cell: (row) => row.spans, isNumber: true },
    { name: 'Errors', value: (row) => row.errors, cell: (row) => (row.errors > 0 ? <span className="error">{row.errors}</span> : <span className="muted">0</span>), isNumber: true },
    { name: 'On the critical path', value: (row) => row.criticalNs, cell: (row) => <>{row.criticalNs > 0 ? duration(row.criticalNs) : '–'} <span className="share"><i style={{ width: `${(row.criticalNs / Math.max(1, critical)) * 100}%`, background: 'var(--critical)' }} /></span> <span className="muted" style={{ display: 'inline-block', width: 46 }}>{percent(row.criticalNs / Math.max(1, critical))}</span></>, isNumber: true },
    { name: 'Own time', value: (row) => row.selfNs, cell: (row) => duration(row.selfNs), isNumber: true },
    { name: 'In all', value: (row) => row.totalNs, cell: (row) => duration(row.totalNs), isNumber: true },
    { name: 'Longest', value: (row) => row.longestNs, cell: (row) => <button type="button" className="link" onClick={() => show(row.longest)}>{duration(row.longestNs)}</button>, isNumber: true },
    ...(there ? [
      { name: 'Typical', value: (row: Total) => there.get(keyOf(row))?.totalNs ?? 0, cell: (row: Total) => typical(there.get(keyOf(row))), isNumber: true },
      { name: 'Difference', value: (row: Total) => row.totalNs - (there.get(keyOf(row))?.totalNs ?? 0), cell: (row: Total) => signed(row.totalNs - (there.get(keyOf(row))?.totalNs ?? 0)), isNumber: true },
    ] : []),
  ], [critical, show, there]);
  return (
    <div className="trace-view">
      <DataTable label="Totals" rows={rows} columns={columns} rowKey={keyOf} sortBy="On the critical path" />
    </div>
  );
}

const typical = (row: Total | undefined) => (row ? <>{duration(row.totalNs)} {row.spans > 1 && <span className="muted">×{row.spans}</span>}</> : <span className="muted">–</span>);
