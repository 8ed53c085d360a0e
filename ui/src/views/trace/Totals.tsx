import { useMemo } from 'react';
import { duration, percent } from '../../base/format';
import { type Total, totals, type TraceModel } from '../../model/trace';
import { type Column, DataTable } from '../../widgets/DataTable';
import { Service } from '../../widgets/Service';

/** Sums per service and operation. */
export function Totals({ model, show }: { model: TraceModel; show: (place: number) => void }) {
  const rows = useMemo(() => totals(model), [model]);
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
  ], [critical, show]);
  return (
    <div className="trace-view">
      <DataTable label="Totals" rows={rows} columns={columns} rowKey={(row) => `${row.service} ${row.operation} ${row.kind}`} sortBy="On the critical path" />
    </div>
  );
}
