import { useState } from 'react';
import { serviceMap, status } from '../api/client';
import { useLoaded } from '../api/load';
import { count, milliseconds, percent, sentence } from '../base/format';
import { address, go, type Place, withParameters } from '../base/location';
import { boundedText, countedText, NOT_ALL_COUNTED, OTHERS } from '../model/counted';
import { byCost } from '../model/map';
import { windowOf, windowParameters } from '../model/window';
import { layoutMap } from '../widgets/layoutMap';
import { Link } from '../widgets/Link';
import { MapPicture } from '../widgets/MapPicture';
import { Aside, Failed, Ghost, NothingHere, Partial, Sampled } from '../widgets/States';
import { Service } from '../widgets/Service';
import { WindowPicker } from '../widgets/WindowPicker';

/** Who calls whom, and where the waiting is. */
export function MapPage({ place }: { place: Place }) {
  const window = windowOf(place);
  const loaded = useLoaded(`map ${window.key}`, (signal) => serviceMap(window, signal));
  const server = useLoaded('newest', status);
  const answer = loaded.value;
  const shape = answer ? `${answer.nodes.map((node) => node.id).join(' ')}|${answer.edges.map((edge) => `${edge.from}>${edge.to}`).join(' ')}` : '';
  const layout = useLoaded(`layout ${shape}`, () => (answer && answer.nodes.length > 0 ? layoutMap(answer) : Promise.resolve(undefined)));
  const chosen = place.parameters.get('node');
  const [text, setText] = useState('');
  const choose = (id: string | null) => go(withParameters(place, { node: id }), true);
  if (loaded.error && !answer) return <main><Failed error={loaded.error} what="the map" /></main>;
  if (answer && answer.nodes.length === 0) return <main><NothingHere place={place} newest={server.value?.newest_unix_nano} /></main>;
  const totalMs = answer ? answer.entry_ms + answer.edges.reduce((sum, edge) => sum + edge.critical_ms, 0) : 0;
  const node = answer?.nodes.find((one) => one.id === chosen);
  const names = new Map(answer?.nodes.map((one) => [one.id, one.name]));
  const edges = byCost(answer?.edges ?? []).filter((edge) => (!chosen || edge.from === chosen || edge.to === chosen) && `${names.get(edge.from)} ${names.get(edge.to)}`.toLowerCase().includes(text.toLowerCase()));
  return (
    <main>
      <div className="map">
        <div className="map-canvas">
          {answer && layout.value ? <MapPicture {...{ answer, chosen, choose, totalMs }} layout={layout.value} /> : <div className="page"><Ghost lines={10} /></div>}
          <div className="map-tools">
            <h1>Map</h1>
            <WindowPicker place={place} />
            {chosen && <button type="button" onClick={() => choose(null)}>Show all</button>}
          </div>
          <div className="map-legend" aria-hidden="true">
            <span><svg><path d="M0 5H28" stroke="var(--muted)" strokeWidth="7" strokeOpacity="0.5" /></svg>width: waiting behind the call</span>
            <span><svg><path d="M0 5H28" stroke="var(--error)" strokeWidth="3" /></svg>1 % or more fail</span>
            <span><svg><path d="M0 5H28" stroke="var(--muted)" strokeWidth="3" strokeDasharray="5 4" /></svg>sends no spans</span>
          </div>
        </div>
        <aside className="map-list" aria-label="Calls">
          {layout.error && <Partial text={`The map cannot be laid out: ${layout.error.message}`} />}
          {answer?.sampled && <Sampled seen={answer.traces_read} adjusted={answer.adjusted} />}
          {answer?.complete === false && <Partial text={NOT_ALL_COUNTED} />}
          {answer && <Aside texts={[sentence(countedText(answer.window)), boundedText(answer, 'calls between services'), answer.left_out > 0 ? `${count(answer.left_out)} more that take the least time are not shown.` : '']} />}
          {node && (
            <div style={{ marginBottom: 14 }}>
              <h2>{node.kind === 'service' ? <Service name={node.name} /> : node.name}</h2>
              <p className="small soft">
                {node.kind !== 'service' && `${node.system ?? node.kind}; `}{node.uninstrumented && 'sends no spans; '}
                {count(node.calls)} calls, {percent(node.errors / Math.max(1, node.calls))} failed, p50 {milliseconds(node.p50_ms)}, p95 {milliseconds(node.p95_ms)}, p99 {milliseconds(node.p99_ms)}; {percent(node.critical_ms / Math.max(1e-9, totalMs))} of all waiting
              </p>
              {node.kind === 'service' && node.name !== OTHERS && <p className="small controls" style={{ margin: '4px 0 0' }}><Link href={address(`/service/${encodeURIComponent(node.name)}`, windowParameters(place))}>The service</Link><Link href={address('/search', { ...windowParameters(place), q: `{ resource.service.name = ${JSON.stringify(node.name)} }` })}>Its traces</Link></p>}
            </div>
          )}
          <div className="controls">
            <h2>Calls{node ? ` of ${node.name}` : ''}</h2>
            <input type="search" aria-label="Find a service" placeholder="find a service" value={text} onChange={(event) => setText(event.target.value)} style={{ flex: 1, minWidth: 100 }} />
          </div>
          <table className="lines" aria-label="Calls by waiting">
            <thead><tr><th>From → to</th><th className="number">Waiting</th><th className="number">Calls</th><th className="number">Failed</th></tr></thead>
            <tbody>
              {edges.slice(0, 300).map((edge) => (
                <tr key={`${edge.from} ${edge.to}`}>
                  <td style={{ overflowWrap: 'anywhere' }}>
                    <button type="button" className="link" onClick={() => choose(edge.from)}>{names.get(edge.from)}</button> → <button type="button" className="link" onClick={() => choose(edge.to)}>{names.get(edge.to)}</button>
                  </td>
                  <td className="number" title={milliseconds(edge.critical_ms)}>{percent(edge.critical_ms / Math.max(1e-9, totalMs))}</td>
                  <td className="number">{count(edge.calls)}</td>
                  <td className="number">{edge.errors > 0 ? <span className="error">{percent(edge.errors / edge.calls)}</span> : <span className="muted">0</span>}</td>
                </tr>
              ))}
            </tbody>
          </table>
          {answer && !chosen && <p className="small muted" style={{ marginTop: 8 }}>The entry points’ own work is the other {percent(answer.entry_ms / Math.max(1e-9, totalMs))} of {milliseconds(totalMs)} in {count(answer.traces)} traces.</p>}
        </aside>
      </div>
    </main>
  );
}
