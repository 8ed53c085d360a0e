import { useMemo } from 'react';
import { type CompareSide, compare, heatmap, queryNames, services, status } from '../api/client';
import { useLoaded } from '../api/load';
import type { Comparison, Difference, HeatmapAnswer } from '../api/types';
import { count, duration, many, millis, moment, percent } from '../base/format';
import { address, go, type Place, withParameters } from '../base/location';
import { boxOf, boxSide, boxText, type Edges, edgesOf, entryQuery, excluding, including, likeText } from '../model/explore';
import { windowOf, windowParameters } from '../model/window';
import { type Box, Heatmap } from '../widgets/Heatmap';
import { HeatmapFacts, HeatmapTable } from '../widgets/HeatmapTable';
import { Link } from '../widgets/Link';
import { QueryLine } from '../widgets/QueryLine';
import { Failed, Ghost, NothingHere, Partial, Sampled } from '../widgets/States';
import { WindowPicker } from '../widgets/WindowPicker';

/** Draw a box over slow traces, and read why they are slow. */
export function Explore({ place }: { place: Place }) {
  const window = windowOf(place);
  const query = place.parameters.get('q') ?? '{}';
  const [service, operation] = [place.parameters.get('service') ?? '', place.parameters.get('operation') ?? ''];
  const names = useLoaded('names', queryNames);
  const known = useLoaded('services', services);
  const server = useLoaded('newest', status);
  const loaded = useLoaded(`heat ${query} ${service} ${operation} ${window.key}`, (signal) => heatmap(window, { q: query === '{}' ? '' : query, service, operation }, signal));
  const answer = loaded.value;
  const edges = edgesOf(place);
  const box = useMemo(() => (answer && edges ? boxOf(answer, edges) : null), [answer, place.parameters.toString()]);
  const set = (changes: Record<string, string | null>) => go(withParameters(place, changes));
  const choose = (next: Box | null) => answer && set({ box: next ? boxText(answer, next) : null });
  if (loaded.error && !answer && query === '{}') return <main><Failed error={loaded.error} what="the heatmap" /></main>;
  return (
    <main>
      <div className="page">
        <div className="page-head">
          <h1>Explore</h1>
          <span className="muted">duration over time, one trace one count</span>
          <span className="push"><WindowPicker place={place} /></span>
        </div>
        <div className="controls">
          <select aria-label="Entry point’s service" value={service} onChange={(event) => set({ service: event.target.value || null, operation: null, box: null })}>
            <option value="">any entry point</option>
            {known.value?.map((one) => <option key={one.name}>{one.name}</option>)}
          </select>
          {operation && <span className="chip accent">{operation} <button type="button" className="link" aria-label="Any operation" onClick={() => set({ operation: null, box: null })}>✕</button></span>}
        </div>
        <QueryLine value={query} names={names.value ?? []} error={loaded.error} submit={(text) => set({ q: text === '{}' ? null : text, box: null })} />
        {!answer && !loaded.error && <Ghost lines={10} />}
        {answer && answer.traces === 0 && (query !== '{}' || service ? <p className="soft">No trace of the window matches. <button type="button" className="link" onClick={() => go(address('/explore', windowParameters(place)))}>Leave out the conditions</button></p> : <NothingHere place={place} newest={server.value?.newest_unix_nano} />)}
        {answer && answer.traces > 0 && (
          <>
            <HeatmapFacts answer={answer} isQuery={query !== '{}'} />
            {answer.sampled && <Sampled seen={answer.traces_seen} adjusted={answer.traces} between={answer.traces_between} />}
            <Heatmap answer={answer} box={box} choose={choose} open={(id) => go(`/trace/${id}`)} />
            <div className="controls" style={{ marginTop: 8 }}>
              {edges ? <Chosen edges={edges} answer={answer} /> : <span className="soft">Drag a box over traces to see what they have in common that the others have not. A click opens an example.</span>}
              {edges && <button type="button" className="quiet" onClick={() => set({ box: null })}>Clear the box</button>}
              {!edges && <button type="button" className="quiet" onClick={() => answer && set({ box: slowest(answer) })}>Choose the slowest 5 %</button>}
            </div>
            {edges && <Why place={place} edges={edges} query={query} service={service} operation={operation} />}
          </>
        )}
        {answer && answer.traces > 0 && <HeatmapTable answer={answer} />}
      </div>
    </main>
  );
}

/** Everything from the 95th percentile up. */
function slowest(answer: HeatmapAnswer): string {
  const row = Math.max(0, answer.edges_ns.findIndex((edge) => edge > answer.p95_ns) - 1);
  return boxText(answer, { fromColumn: 0, toColumn: answer.columns - 1, fromRow: row, toRow: answer.edges_ns.length - 2 });
}

function Chosen({ edges, answer }: { edges: Edges; answer: HeatmapAnswer }) {
  const inside = answer.cells.filter((cell) => {
    const box = boxOf(answer, edges);
    return box && cell[0] >= box.fromColumn && cell[0] <= box.toColumn && cell[1] >= box.fromRow && cell[1] <= box.toRow;
  });
  const traces = inside.reduce((sum, cell) => sum + cell[2], 0);
  return <span><b>{many(traces, 'trace')}</b> of {duration(edges.fromNs)} to {duration(edges.toNs)}, started {moment(millis(edges.fromNano))} to {moment(millis(edges.toNano))}</span>;
}

function Why({ place, edges, query, service, operation }: { place: Place; edges: Edges; query: string; service: string; operation: string }) {
  const window = windowOf(place);
  const q = entryQuery(query, service, operation);
  const whole: CompareSide = { q, from: window.fromNano?.toString(), to: window.toNano?.toString() };
  const selection = boxSide(edges, q);
  const loaded = useLoaded(`why ${JSON.stringify(selection)} ${window.name}`, (signal) => compare(selection, whole, signal));
  if (loaded.error && !loaded.value) return <Partial text={loaded.error.message} />;
  if (!loaded.value) return <Ghost lines={6} />;
  return <Reasons answer={loaded.value} place={place} query={query} />;
}

function Reasons({ answer, place, query }: { answer: Comparison; place: Place; query: string }) {
  const { differences, not_enough_data: missing } = answer;
  return (
    <section className="section" aria-label="Differences" style={{ marginTop: 16 }}>
      <header>
        <h2>What is different in the box</h2>
        <span className="muted small">{count(answer.selection.traces)} traces in it against {count(answer.baseline.traces)} others; {count(answer.tested)} attributes and values tested, false discoveries held below 5 %</span>
      </header>
      {!answer.complete && <Partial text="There are more traces than were compared: these are a fair sample." />}
      {missing && <p className="soft">Not enough data: {many(missing.have, 'trace')}, {count(missing.need)} are needed to tell a difference from chance. Draw a larger box.</p>}
      {!missing && differences.length === 0 && <p className="soft">No attribute tells them apart: what is slow here is not in the attributes that were recorded.</p>}
      <div className="reasons">
        {differences.map((difference) => <Reason key={`${difference.key} ${difference.value} ${difference.type}`} {...{ difference, place, query }} />)}
      </div>
    </section>
  );
}

function Reason({ difference, place, query }: { difference: Difference; place: Place; query: string }) {
  const { key, value, selection, baseline } = difference;
  const isNumber = difference.type === 'number';
  const like = likeText(difference);
  return (
    <article className="reason">
      <div>
        <p className="what">
          <code>{key}</code> {difference.type === 'absent' ? 'is missing' : isNumber ? (difference.difference > 0 ? 'is larger' : 'is smaller') : value === null ? 'is there' : <>= <code>{value}</code></>}
          {difference.confidence !== 'high' && <> <span className="chip">{difference.confidence} confidence</span></>}
        </p>
        {difference.same.length > 0 && <p className="small muted">divides the traces as do {difference.same.map((one) => (one.value === null ? one.key : `${one.key} = ${one.value}`)).join(', ')}</p>}
        {difference.explained_by && <p className="small muted">explained by {difference.explained_by.key}{difference.explained_by.value !== null && ` = ${difference.explained_by.value}`}: among traces alike in that, it is gone</p>}
      </div>
      <div className="pair">
        <span>in the box</span>
        <span className="track"><i className="box" style={{ width: `${isNumber ? bar(selection.median, baseline.median) : selection.share * 100}%` }} /></span>
        <span className="number">{isNumber ? plain(selection.median) : percent(selection.share)}</span>
        <span>elsewhere</span>
        <span className="track"><i style={{ width: `${isNumber ? bar(baseline.median, selection.median) : baseline.share * 100}%` }} /></span>
        <span className="number">{isNumber ? plain(baseline.median) : percent(baseline.share)}</span>
        <span className="muted" style={{ gridColumn: '1 / -1' }}>
          {isNumber ? 'medians; ' : ''}{count(selection.traces)} of {count(selection.of)} against {count(baseline.traces)} of {count(baseline.of)}
          {difference.lift !== null && `, ×${difference.lift.toFixed(1)}`}
          {difference.interval && `, ${percent(difference.interval[0])} to ${percent(difference.interval[1])} more`}
        </span>
      </div>
      <div className="small nowrap">
        {like && (
          <>
            <Link className="quiet" href={withParameters(place, { q: including(query, like), box: null })}>Include</Link>
            <Link className="quiet" href={withParameters(place, { q: excluding(query, like), box: null })}>Exclude</Link>
            <Link className="quiet" href={address('/search', { ...windowParameters(place), q: including(query, like) })}>Traces</Link>
          </>
        )}
      </div>
    </article>
  );
}

const plain = (value: number | null | undefined): string => (value === null || value === undefined ? '–' : Number(value.toPrecision(3)).toLocaleString('en-US'));
const bar = (own: number | null | undefined, other: number | null | undefined): number => ((own ?? 0) / Math.max(1e-9, own ?? 0, other ?? 0)) * 100;
