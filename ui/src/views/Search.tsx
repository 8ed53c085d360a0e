import { useEffect, useState } from 'react';
import { queryNames, search, services } from '../api/client';
import { useLoaded } from '../api/load';
import type { TraceSummary } from '../api/types';
import { ago, clock, count, duration } from '../base/format';
import { go, type Place, withParameters } from '../base/location';
import { formOf, formQuery } from '../model/query';
import { windowOf } from '../model/window';
import { Link } from '../widgets/Link';
import { QueryLine } from '../widgets/QueryLine';
import { Scatter } from '../widgets/Scatter';
import { NothingHere, Partial } from '../widgets/States';
import { Service } from '../widgets/Service';
import { WindowPicker } from '../widgets/WindowPicker';

const LIMIT = 200;

function TraceLine({ trace, longest }: { trace: TraceSummary; longest: number }) {
  return (
    <tr>
      <td>
        <Link href={`/trace/${trace.trace_id}`}>
          {trace.root ? <><b>{trace.root.service}</b> {trace.root.operation}</> : '(root not received)'}
        </Link>
        <div className="services">
          {trace.services.slice(0, 8).map((service) => <Service key={service.name} name={service.name}>{' '}{service.spans}</Service>)}
          {trace.services.length > 8 && <span className="muted small">and {trace.services.length - 8} more</span>}
        </div>
      </td>
      <td className="number" style={{ width: 120 }}>
        {duration(trace.duration_ns)}
        <div className="duration-bar" style={{ width: `${(trace.duration_ns / longest) * 100}%` }} />
      </td>
      <td className="number">{count(trace.span_count)}</td>
      <td className="number">{trace.error_count > 0 ? <span className="error">{count(trace.error_count)}</span> : <span className="muted">0</span>}</td>
      <td className="number" title={clock(trace.start_unix_nano)}>{ago(trace.start_unix_nano)}</td>
    </tr>
  );
}

/** Find traces: a form, or a line of TraceQL; newest first. */
export function Search({ place }: { place: Place }) {
  const query = place.parameters.get('q') ?? '{}';
  const isLive = place.parameters.get('live') === '1';
  const [tick, setTick] = useState(0);
  useEffect(() => {
    if (!isLive) return;
    const timer = setInterval(() => setTick((value) => value + 1), 2000);
    return () => clearInterval(timer);
  }, [isLive]);
  const window = windowOf(place);
  const found = useLoaded(`${query} ${window.key} ${tick}`, (signal) => search(query, window, LIMIT, signal));
  const known = useLoaded(`services ${Math.floor(tick / 5)}`, services);
  const names = useLoaded('names', queryNames);
  const form = formOf(query);
  const set = (changes: Partial<typeof form>) => go(withParameters(place, { q: formQuery({ ...form, ...changes }) }));
  const traces = found.value?.traces ?? [];
  const longest = Math.max(1, ...traces.map((trace) => trace.duration_ns));
  const operations = known.value?.find((service) => service.name === form.service)?.operations ?? [];
  return (
    <main className="search">
      <div className="page">
        <div className="controls">
          <select aria-label="Service" value={form.service} onChange={(event) => set({ service: event.target.value, operation: '' })}>
            <option value="">any service</option>
            {known.value?.map((service) => <option key={service.name}>{service.name}</option>)}
          </select>
          <select aria-label="Operation" value={form.operation} onChange={(event) => set({ operation: event.target.value })} disabled={operations.length === 0} style={{ maxWidth: 280 }}>
            <option value="">any operation</option>
            {operations.map((name) => <option key={name}>{name}</option>)}
          </select>
          <select aria-label="Duration" value={form.minDuration} onChange={(event) => set({ minDuration: event.target.value })}>
            <option value="">any duration</option>
            {['10ms', '100ms', '500ms', '1s', '5s'].map((value) => <option key={value} value={value}>at least {value}</option>)}
          </select>
          <label><input type="checkbox" checked={form.errors} onChange={(event) => set({ errors: event.target.checked })} /> errors</label>
          <span style={{ marginLeft: 'auto' }} />
          <label><input type="checkbox" checked={isLive} onChange={(event) => go(withParameters(place, { live: event.target.checked ? '1' : null }), true)} /> live</label>
          <WindowPicker place={place} />
        </div>
        <QueryLine value={query} names={names.value ?? []} error={found.error} submit={(text) => go(withParameters(place, { q: text }))} />
        {traces.length > 0 && (
          <>
            <Scatter traces={traces} open={(id) => go(`/trace/${id}`)} />
            {found.value?.complete === false && <Partial text="The time for one query ran out: there may be more." />}
            <table className="lines traces" aria-label="Traces">
              <thead>
                <tr>
                  <th>{count(traces.length)}{traces.length === LIMIT ? ' newest' : ''} traces</th>
                  <th className="number">Duration</th>
                  <th className="number">Spans</th>
                  <th className="number">Errors</th>
                  <th className="number">Started</th>
                </tr>
              </thead>
              <tbody>{traces.map((trace) => <TraceLine key={trace.trace_id} trace={trace} longest={longest} />)}</tbody>
            </table>
          </>
        )}
        {found.value && traces.length === 0 && !found.error && (
          found.value.newest_unix_nano !== null && window.name === 'all'
            ? <div className="state"><h2>No traces match</h2><p>Nothing that is stored fits <code>{query}</code>.</p><button type="button" onClick={() => go(withParameters(place, { q: null }))}>Show everything</button></div>
            : <NothingHere place={place} newest={found.value.newest_unix_nano} />
        )}
      </div>
    </main>
  );
}
