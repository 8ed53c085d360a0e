import { type ReactNode, useMemo, useState } from 'react';

export interface Column<T> {
  name: string;
  /** What it is sorted by; a column without is not sortable. */
  value?: (row: T) => number | string;
  cell: (row: T) => ReactNode;
  isNumber?: boolean;
  width?: string;
}

interface Properties<T> {
  label: string;
  rows: T[];
  columns: Column<T>[];
  rowKey: (row: T) => string;
  sortBy: string;
  most?: number;
  after?: (row: T) => ReactNode;
}

/** A table that its heads sort. */
export function DataTable<T>({ label, rows, columns, rowKey, sortBy, most = 200, after }: Properties<T>) {
  const [sort, setSort] = useState({ name: sortBy, isUp: false });
  const [shown, setShown] = useState(most);
  const sorted = useMemo(() => {
    const read = columns.find((column) => column.name === sort.name)?.value;
    if (!read) return rows;
    const order = [...rows].sort((a, b) => {
      const [x, y] = [read(a), read(b)];
      return typeof x === 'number' && typeof y === 'number' ? y - x : String(x).localeCompare(String(y));
    });
    return sort.isUp ? order.reverse() : order;
  }, [rows, columns, sort]);
  return (
    <>
      <table className="lines" aria-label={label}>
        <thead>
          <tr>
            {columns.map((column) => (
              <th
                key={column.name}
                className={column.isNumber ? 'number' : undefined}
                style={{ width: column.width }}
                aria-sort={sort.name === column.name && column.value ? (sort.isUp ? 'ascending' : 'descending') : undefined}
              >
                {column.value ? (
                  <button type="button" onClick={() => setSort((before) => ({ name: column.name, isUp: before.name === column.name && !before.isUp }))}>
                    {column.name}
                    {sort.name === column.name ? (sort.isUp ? ' ↑' : ' ↓') : ''}
                  </button>
                ) : column.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sorted.slice(0, shown).map((row) => (
            <RowLines key={rowKey(row)} row={row} columns={columns} after={after} />
          ))}
        </tbody>
      </table>
      {sorted.length > shown && (
        <button type="button" className="quiet" onClick={() => setShown((before) => before + 500)}>{sorted.length - shown} more</button>
      )}
    </>
  );
}

function RowLines<T>({ row, columns, after }: { row: T; columns: Column<T>[]; after?: (row: T) => ReactNode }) {
  return (
    <>
      <tr>
        {columns.map((column) => <td key={column.name} className={column.isNumber ? 'number' : undefined}>{column.cell(row)}</td>)}
      </tr>
      {after?.(row)}
    </>
  );
}
