import { useMemo, useState } from 'react';
import { clocks, metrics, status } from '../api/client';
import { useLoaded, useTick } from '../api/load';
import { bytes, clock, count, duration } from '../base/format';
import { type Metric, parseMetrics, sumOf } from '../model/metrics';
import { type Column, DataTable } from '../widgets/DataTable';
import { Failed, Ghost } from '../widgets/States';

/** Spans from which on the room that one takes can be told. */
const ENOUGH = 1_000_000;

/** What Spanwise itself receives, drops, stores and spends. */
export function SystemPage() {
  const tick = useTick(5000);
  const server = useLoaded(`status ${tick}`, status);
  const own = useLoaded(`metrics ${tick}`, metrics);
  const [text, setText] = useState('');
  const all = useMemo(() => parseMetrics(own.value ?? ''), [own.value]);
  if (server.error && !server.value) return <main><Failed error={server.error} what="the system" /></main>;
  const refused = sumOf(all, 'otelcol_receiver_refused_spans');
  const dropped = all.filter((metric) => /(dropped|failed|expired|rejected)/.test(metric.name) && /span/.test(metric.name) && metric.value > 0);
  const shown = all.filter((metric) => text === '' || `${metric.name} ${metric.labels}`.toLowerCase().includes(text.toLowerCase()));
  return (
    <main>
      <div className="page">
        <div className="page-head"><h1>System</h1>{server.value && <span className="muted">Spanwise {server.value.version}</span>}</div>
        {!server.value && <Ghost lines={6} />}
        {server.value && (
          <>
            <dl className="numbers">
              <div><dt>Spans received</dt><dd>{count(server.value.spans_received)}</dd></div>
              <div><dt>Spans refused</dt><dd className={refused > 0 ? 'error' : undefined}>{count(refused)}</dd></div>
              <div><dt>Spans stored</dt><dd>{count(server.value.spans_stored)}</dd></div>
              <div><dt>On disk</dt><dd>{bytes(server.value.store_bytes)}</dd></div>
              <div><dt>A span</dt><dd title={`from ${count(ENOUGH)} spans on: before, the journal's reserved room is most of it`}>{server.value.blocks > 0 && server.value.spans_stored >= ENOUGH ? bytes(Math.round(server.value.store_bytes / server.value.spans_stored)) : '–'}</dd></div>
              <div><dt>Blocks</dt><dd>{count(server.value.blocks)}</dd></div>
            </dl>
            <p className="small soft">
              {server.value.oldest_unix_nano && server.value.newest_unix_nano ? `Spans from ${clock(server.value.oldest_unix_nano)} to ${clock(server.value.newest_unix_nano)}.` : 'Nothing is stored yet.'}
              {server.value.discarded_requests > 0 && ` ${count(server.value.discarded_requests)} requests with metrics or logs were accepted and discarded: no pipeline takes them.`}
            </p>
            <section className="section" aria-label="Losses">
              <header><h2>Losses</h2><span className="muted small">every span that is not kept is counted under its reason</span></header>
              {dropped.length === 0 && refused === 0 ? <p className="soft">None.</p> : (
                <table className="lines"><tbody>{dropped.map((metric) => <tr key={`${metric.name} ${metric.labels}`}><td className="mono">{metric.name}</td><td className="mono muted">{metric.labels}</td><td className="number error">{count(metric.value)}</td></tr>)}</tbody></table>
              )}
            </section>
            <section className="section" aria-label="Listeners">
              <header><h2>Listens on</h2></header>
              <table className="lines"><tbody>{Object.entries(server.value.listeners).map(([name, where]) => <tr key={name}><td style={{ width: 200 }}>{name}</td><td className="mono">{where}</td></tr>)}</tbody></table>
            </section>
          </>
        )}
        <Clocks />
        <section className="section" aria-label="Own metrics">
          <header><h2>Own metrics</h2><input type="search" aria-label="Find a metric" placeholder="find a metric" value={text} onChange={(event) => setText(event.target.value)} /></header>
          {own.error && <p className="error" role="alert">{own.error.message}</p>}
          {!own.value && !own.error ? <Ghost lines={8} /> : <DataTable label="Own metrics" rows={shown} columns={COLUMNS} rowKey={(metric) => `${metric.name} ${metric.labels}`} sortBy="" most={100} />}
        </section>
      </div>
    </main>
  );
}

/** Hosts whose clocks differ by more than their calls can explain. */
function Clocks() {
  const loaded = useLoaded('clocks', (signal) => clocks({}, signal));
  const found = loaded.value;
  const off = (found?.pairs ?? []).filter((pair) => !pair.steady || pair.offset_ns !== 0);
  return (
    <section className="section" aria-label="Clocks">
      <header><h2>Clocks of hosts</h2><span className="muted small">told from calls between them: a server cannot start before it was asked, nor end after its answer came</span></header>
      {loaded.error && <p className="error" role="alert">{loaded.error.message}</p>}
      {!found && !loaded.error && <Ghost lines={3} />}
      {found && off.length === 0 && <p className="soft">{found.pairs.length === 0 ? 'No calls between hosts are stored.' : `All ${count(found.pairs.length)} pairs of hosts may agree.`}</p>}
      {off.length > 0 && (
        <table className="lines" aria-label="Pairs of hosts whose clocks differ">
          <thead><tr><th>Caller’s host</th><th>Answering host</th><th className="number">Differs by</th><th className="number">Between</th><th className="number">Calls</th></tr></thead>
          <tbody>
            {off.slice(0, 100).map((pair) => (
              <tr key={`${pair.from} ${pair.to}`}>
                <td>{pair.from}</td>
                <td>{pair.to}</td>
                <td className="number">{pair.offset_ns === null ? 'moves' : signedDuration(-pair.offset_ns)}</td>
                <td className="number">{pair.steady ? `${signedDuration(-pair.high_ns)} and ${signedDuration(-pair.low_ns)}` : 'the clocks moved against each other'}</td>
                <td className="number">{count(pair.calls)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {found && !found.complete && <p className="small muted">From {count(found.traces)} traces, a fair sample.</p>}
    </section>
  );
}

const signedDuration = (ns: number): string => (ns > 0 ? `+${duration(ns)}` : duration(ns));

const COLUMNS: Column<Metric>[] = [
  { name: 'Metric', value: (row) => row.name, cell: (row) => <span className="mono" title={row.help}>{row.name}</span> },
  { name: 'Of', value: (row) => row.labels, cell: (row) => <span className="mono muted">{row.labels}</span> },
  { name: 'Value', value: (row) => row.value, cell: (row) => (Number.isInteger(row.value) ? count(row.value) : row.value.toPrecision(4)), isNumber: true },
];
