import { useEffect, useState } from 'react';
import { queryNames, search, services } from '../api/client';
import { useLoaded } from '../api/load';
import type { TraceSummary } from '../api/types';
import { ago, clock, duration, serviceColour } from '../base/format';
import { go, type Place, withParameters } from '../base/location';
import { formQuery } from '../model/query';
import { QueryLine } from '../widgets/QueryLine';
import { Scatter } from '../widgets/Scatter';

const WINDOWS: [string, string, number][] = [['15m', 'last 15 min', 900], ['1h', 'last hour', 3600], ['24h', 'last day', 86400], ['7d', 'last week', 604800], ['all', 'all time', 0]];

function windowOf(name: string): { fromNano?: bigint } {
  const seconds = WINDOWS.find(([key]) => key === name)?.[2] ?? 3600;
  return seconds === 0 ? {} : { fromNano: BigInt(Date.now() - seconds * 1000) * 1_000_000n };
}

function TraceLine({ trace }: { trace: TraceSummary }) {
  const address = `/trace/${trace.trace_id}`;
  return (
    <tr>
      <td>
        <a
          href={address}
          onClick={(event) => {
            if (event.metaKey || event.ctrlKey) return;
            event.preventDefault();
            go(address);
          }}
        >
          {trace.root ? `${trace.root.service}: ${trace.root.operation}` : '(root not received)'}
        </a>
        <div className="services">
          {trace.services.slice(0, 8).map((service) => (
            <span key={service.name} style={{ borderColor: serviceColour(service.name) }}>{service.name} {service.spans}</span>
          ))}
        </div>
      </td>
      <td className="number">{duration(trace.duration_ns)}</td>
      <td className="number">{trace.span_count}</td>
      <td className="number">{trace.error_count > 0 && <span className="error">{trace.error_count}</span>}</td>
      <td title={clock(trace.start_unix_nano)}>{ago(trace.start_unix_nano)}</td>
    </tr>
  );
}

/** Find traces: a form, or a line of TraceQL; newest first. */
export function Search({ place }: { place: Place }) {
  const query = place.parameters.get('q') ?? '{}';
  const window = place.parameters.get('window') ?? '1h';
  const isLive = place.parameters.get('live') === '1';
  const [tick, setTick] = useState(0);
  useEffect(() => {
    if (!isLive) return;
    const timer = setInterval(() => setTick((value) => value + 1), 2000);
    return () => clearInterval(timer);
  }, [isLive]);
  const found = useLoaded(`${query} ${window} ${tick}`, (signal) => search(query, windowOf(window), 100, signal));
  const known = useLoaded(`services ${Math.floor(tick / 5)}`, services);
  const names = useLoaded('names', queryNames);
  const [form, setForm] = useState({ service: '', operation: '', minDuration: '', errors: false });
  const set = (changes: Partial<typeof form>) => {
    const next = { ...form, ...changes };
    setForm(next);
    go(withParameters(place, { q: formQuery(next) }));
  };
  const traces = found.value?.traces ?? [];
  const newest = found.value?.newest_unix_nano;
  const operations = known.value?.find((service) => service.name === form.service)?.operations ?? [];
  return (
    <main className="search">
      <div className="controls">
        <select aria-label="Service" value={form.service} onChange={(event) => set({ service: event.target.value, operation: '' })}>
          <option value="">any service</option>
          {known.value?.map((service) => <option key={service.name}>{service.name}</option>)}
        </select>
        <select aria-label="Operation" value={form.operation} onChange={(event) => set({ operation: event.target.value })} disabled={operations.length === 0}>
          <option value="">any operation</option>
          {operations.map((name) => <option key={name}>{name}</option>)}
        </select>
        <select aria-label="Duration" value={form.minDuration} onChange={(event) => set({ minDuration: event.target.value })}>
          <option value="">any duration</option>
          {['10ms', '100ms', '500ms', '1s', '5s'].map((value) => <option key={value} value={value}>at least {value}</option>)}
        </select>
        <label><input type="checkbox" checked={form.errors} onChange={(event) => set({ errors: event.target.checked })} /> errors</label>
        <select aria-label="Window" value={window} onChange={(event) => go(withParameters(place, { window: event.target.value }))}>
          {WINDOWS.map(([key, label]) => <option key={key} value={key}>{label}</option>)}
        </select>
        <label><input type="checkbox" checked={isLive} onChange={(event) => go(withParameters(place, { live: event.target.checked ? '1' : null }), true)} /> live</label>
      </div>
      <QueryLine value={query} names={names.value ?? []} error={found.error} submit={(text) => go(withParameters(place, { q: text }))} />
      {traces.length > 0 && (
        <>
          <Scatter traces={traces} open={(id) => go(`/trace/${id}`)} />
          <table className="traces">
            <thead>
              <tr><th>Trace</th><th className="number">Duration</th><th className="number">Spans</th><th className="number">Errors</th><th>Started</th></tr>
            </thead>
            <tbody>{traces.map((trace) => <TraceLine key={trace.trace_id} trace={trace} />)}</tbody>
          </table>
          {found.value?.complete === false && <p className="muted">The time for one query ran out: there may be more.</p>}
        </>
      )}
      {found.value && traces.length === 0 && !found.error && (newest ? (
        <div className="empty">
          <p>No traces match in this window. The newest span stored is from {clock(newest)}.</p>
          <button type="button" onClick={() => go(withParameters(place, { window: 'all' }))}>Search all time</button>
        </div>
      ) : <FirstTrace />)}
    </main>
  );
}

function FirstTrace() {
  const lines: [string, string][] = [
    ['Python', 'pip install opentelemetry-distro opentelemetry-exporter-otlp && opentelemetry-bootstrap -a install && opentelemetry-instrument python app.py'],
    ['Node.js', 'npm i @opentelemetry/api @opentelemetry/auto-instrumentations-node && node --require @opentelemetry/auto-instrumentations-node/register app.js'],
    ['Java', 'java -javaagent:opentelemetry-javaagent.jar -Dotel.service.name=app -jar app.jar'],
    ['Any', 'export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 OTEL_SERVICE_NAME=app'],
    ['Just looking', 'spanwise load --spans 10000'],
  ];
  return (
    <div className="empty">
      <h2>Waiting for the first trace</h2>
      <p>OTLP is received on localhost:4317 (gRPC) and localhost:4318 (HTTP).</p>
      {lines.map(([name, line]) => (
        <div key={name} className="line">
          <b>{name}</b>
          <code>{line}</code>
          <button type="button" onClick={() => void navigator.clipboard.writeText(line)}>Copy</button>
        </div>
      ))}
    </div>
  );
}
