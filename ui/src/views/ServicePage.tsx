import { heatmap, insights, mutes, serviceMap, servicesSummary } from '../api/client';
import { useLoaded } from '../api/load';
import type { MapAnswer, Requests } from '../api/types';
import { count, margin, milliseconds, percent, rate } from '../base/format';
import { address, go, type Place } from '../base/location';
import { boxText } from '../model/explore';
import { boundedText, countedText, NOT_ALL_COUNTED, OTHERS } from '../model/counted';
import { byCost } from '../model/map';
import { windowOf, windowParameters } from '../model/window';
import { BriefFindings } from '../widgets/BriefFindings';
import { type Column, DataTable } from '../widgets/DataTable';
import { Heatmap } from '../widgets/Heatmap';
import { HeatmapFacts, HeatmapTable } from '../widgets/HeatmapTable';
import { Link } from '../widgets/Link';
import { Service } from '../widgets/Service';
import { Sparkline } from '../widgets/Sparkline';
import { Aside, Failed, Ghost, Partial, Sampled } from '../widgets/States';
import { WindowPicker } from '../widgets/WindowPicker';

/** One service: how it does, what hurts in it, its operations, whom it calls and who calls it. */
export function ServicePage({ name, place }: { name: string; place: Place }) {
  const window = windowOf(place);
  const loaded = useLoaded(`services ${window.key}`, (signal) => servicesSummary(window, signal));
  const found = useLoaded(`findings ${name} ${window.key}`, (signal) => insights(window, { service: name }, signal));
  const muted = useLoaded('mutes', mutes);
  const map = useLoaded(`map ${window.key}`, (signal) => serviceMap(window, signal));
  const heat = useLoaded(`heat ${name} ${window.key}`, (signal) => heatmap(window, { service: name }, signal));
  const service = loaded.value?.services.find((one) => one.name === name);
  if (loaded.error && !loaded.value) return <main><Failed error={loaded.error} what="this service" /></main>;
  return (
    <main>
      <div className="page">
        <div className="page-head">
          <h1><Service name={name} /></h1>
          {loaded.value && <span className="muted small">{countedText(loaded.value.window)}</span>}
          <Link className="small" href={address('/search', { ...windowParameters(place), q: `{ resource.service.name = ${JSON.stringify(name)} }` })}>Its traces</Link>
          <span className="push"><WindowPicker place={place} /></span>
        </div>
        {!loaded.value && <Ghost lines={10} />}
        {loaded.value && !service && (
          <div className="state">
            <h2>No requests of this service in the window</h2>
            <button type="button" onClick={() => go(address(place.path, { window: 'all' }))}>Show all time</button>
          </div>
        )}
        {loaded.value && service && (
          <>
            {loaded.value.sampled && <Sampled seen={loaded.value.traces_read} adjusted={loaded.value.adjusted} />}
            {!loaded.value.complete && <Partial text={NOT_ALL_COUNTED} />}
            <dl className="numbers">
              <div><dt>Requests</dt><dd>{count(service.requests)}</dd></div>
              <div><dt>Rate</dt><dd>{rate(service.rate_per_s, service.requests)} <span className="muted small">{margin(service.rate_per_s, service.rate_between)}</span></dd></div>
              <div><dt>Errors</dt><dd className={service.errors > 0 ? 'error' : undefined}>{percent(service.errors / Math.max(1, service.requests))}</dd></div>
              <div><dt>p50</dt><dd>{milliseconds(service.p50_ms)}</dd></div>
              <div><dt>p95</dt><dd>{milliseconds(service.p95_ms)}</dd></div>
              <div><dt>p99</dt><dd>{milliseconds(service.p99_ms)}</dd></div>
              <div><dt>Waited for</dt><dd>{milliseconds(service.critical_ms)}</dd></div>
            </dl>
            <Aside texts={[boundedText(loaded.value, 'services or operations')]} />
            <Sparkline points={service.per_point} failed={service.errors_per_point} label={`${name}: ${count(service.requests)} requests over the window, ${count(service.errors)} failed`} />
            <BriefFindings findings={found.value?.findings ?? []} mutes={muted.value ?? []} place={place} />
            {found.value?.findings.length === 0 && <p className="soft">No finding names this service.</p>}
            {found.error && <Partial text={found.error.message} />}
            <section className="section" aria-label="Operations">
              <header><h2>Operations</h2><span className="muted small">requests where they enter the service</span></header>
              <DataTable label="Operations" rows={service.operations} columns={operations(name, place)} rowKey={(row) => row.name} sortBy="Requests" most={50} />
            </section>
            <section className="section" aria-label="Calls">
              <header><h2>Calls</h2><Link className="small" href={address('/map', { ...windowParameters(place), node: `service:${name}` })}>On the map</Link></header>
              {map.value ? <Calls map={map.value} name={name} place={place} /> : map.error ? <Partial text={map.error.message} /> : <Ghost lines={4} />}
            </section>
            {(heat.value?.traces ?? 0) > 0 && heat.value && (
              <section className="section" aria-label="Latency">
                <header><h2>Traces that begin here</h2><Link className="small" href={address('/explore', { ...windowParameters(place), service: name })}>Choose a part and ask why</Link><span className="muted small">or drag a box over it here</span></header>
                <HeatmapFacts answer={heat.value} /><Heatmap answer={heat.value} box={null} choose={(box) => box && heat.value && go(address('/explore', { ...windowParameters(place), service: name, box: boxText(heat.value, box) }))} open={(id) => go(`/trace/${id}`)} />
                <HeatmapTable answer={heat.value} />
              </section>
            )}
          </>
        )}
      </div>
    </main>
  );
}

const operations = (service: string, place: Place): Column<Requests>[] => [
  {
    name: 'Operation',
    value: (row) => row.name,
    cell: (row) => (row.roots > 0 && row.name !== OTHERS ? <Link href={address(`/entry/${encodeURIComponent(service)}/${encodeURIComponent(row.name)}`, windowParameters(place))}>{row.name}</Link> : row.name),
  },
  { name: 'Requests', value: (row) => row.requests, cell: (row) => count(row.requests), isNumber: true },
  { name: 'Errors', value: (row) => row.errors / Math.max(1, row.requests), cell: (row) => (row.errors > 0 ? <span className="error">{percent(row.errors / row.requests)}</span> : <span className="muted">0</span>), isNumber: true },
  { name: 'p50', value: (row) => row.p50_ms, cell: (row) => milliseconds(row.p50_ms), isNumber: true },
  { name: 'p95', value: (row) => row.p95_ms, cell: (row) => milliseconds(row.p95_ms), isNumber: true },
  { name: 'p99', value: (row) => row.p99_ms, cell: (row) => milliseconds(row.p99_ms), isNumber: true },
];

function Calls({ map, name, place }: { map: MapAnswer; name: string; place: Place }) {
  const own = `service:${name}`;
  const nodes = new Map(map.nodes.map((node) => [node.id, node]));
  const edges = byCost(map.edges).filter((edge) => edge.from === own || edge.to === own);
  if (edges.length === 0) return <p className="soft">It calls nothing, and nothing that sends spans calls it.</p>;
  return (
    <table className="lines" aria-label="Calls by waiting">
      <thead><tr><th>It</th><th>Service, store or host</th><th className="number">Waiting</th><th className="number">Calls</th><th className="number">Failed</th><th className="number">p95</th></tr></thead>
      <tbody>
        {edges.slice(0, 100).map((edge) => {
          const other = nodes.get(edge.from === own ? edge.to : edge.from);
          const text = other?.name ?? '';
          return (
            <tr key={`${edge.from} ${edge.to}`}>
              <td className="muted">{edge.from === own ? 'calls' : 'is called by'}</td>
              <td>
                {other?.kind === 'service' ? <Link href={address(`/service/${encodeURIComponent(text)}`, windowParameters(place))}>{text}</Link> : text}
                {other?.uninstrumented && <span className="muted"> (sends no spans)</span>}
              </td>
              <td className="number">{milliseconds(edge.critical_ms)}</td>
              <td className="number">{count(edge.calls)}</td>
              <td className="number">{edge.errors > 0 ? <span className="error">{percent(edge.errors / edge.calls)}</span> : <span className="muted">0</span>}</td>
              <td className="number">{milliseconds(edge.p95_ms)}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}
