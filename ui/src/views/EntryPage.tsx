import { entryPoint, heatmap, insights, mutes } from '../api/client';
import { useLoaded } from '../api/load';
import type { EntryAnswer, EntryGroup, EntryShape, TreeNode } from '../api/types';
import { serviceColour } from '../base/colour';
import { count, many, milliseconds, percent, shortId } from '../base/format';
import { address, go, type Place } from '../base/location';
import { boxText } from '../model/explore';
import { boundedText, countedText, drawnText, groupText } from '../model/counted';
import { windowOf, windowParameters } from '../model/window';
import { BriefFindings } from '../widgets/BriefFindings';
import { Heatmap } from '../widgets/Heatmap';
import { HeatmapFacts, HeatmapTable } from '../widgets/HeatmapTable';
import { Icicle, IcicleTable } from '../widgets/Icicle';
import { Link } from '../widgets/Link';
import { Aside, Failed, Ghost, Partial, Sampled } from '../widgets/States';
import { WindowPicker } from '../widgets/WindowPicker';

/** Where the time of one entry point goes: ordinary requests against the slowest, and the shapes its traces have. */
export function EntryPage({ service, operation, place }: { service: string; operation: string; place: Place }) {
  const window = windowOf(place);
  const loaded = useLoaded(`entry ${window.key}`, (signal) => entryPoint(service, operation, window, signal));
  const heat = useLoaded(`heat ${window.key}`, (signal) => heatmap(window, { service, operation }, signal));
  const found = useLoaded(`findings ${window.key}`, (signal) => insights(window, {}, signal));
  const muted = useLoaded('mutes', mutes);
  const entry = loaded.value;
  if (loaded.error && !entry) return <main><Failed error={loaded.error} what="this entry point" /></main>;
  const drawn = entry ? drawnText(entry) : '';
  const whole = Math.max(entry?.typical.mean_ms ?? 0, entry?.slowest.mean_ms ?? 0);
  const findings = (found.value?.findings ?? []).filter((finding) => finding.entry_points?.some((one) => one.service === service && one.operation === operation));
  return (
    <main>
      <div className="page">
        <div className="page-head">
          <h1><i className="dot" style={{ background: serviceColour(service) }} aria-hidden="true" /> {service} <span className="soft" style={{ fontWeight: 450 }}>{operation}</span></h1>
          {entry && entry.traces > 0 && <span className="muted small">{countedText(entry.window)}</span>}
          <span className="push"><WindowPicker place={place} /></span>
        </div>
        {!entry && <Ghost lines={12} />}
        {entry && entry.traces === 0 && (
          <div className="state">
            <h2>No traces of this entry point in the window</h2>
            {window.name !== 'all' && <button type="button" onClick={() => go(address(place.path, { window: 'all' }))}>Show all time</button>}
            {window.name === 'all' && <p>Entry points are named as the overview lists them: <Link href="/?window=all">Overview</Link></p>}
          </div>
        )}
        {entry && entry.traces > 0 && (
          <>
            <dl className="numbers">
              <div><dt>Traces</dt><dd>{count(entry.traces)}</dd></div>
              <div><dt>With errors</dt><dd className={entry.errors > 0 ? 'error' : undefined}>{percent(entry.errors / entry.traces)}</dd></div>
              <div><dt>p50</dt><dd>{milliseconds(entry.p50_ms)}</dd></div>
              <div><dt>p95</dt><dd>{milliseconds(entry.p95_ms)}</dd></div>
              <div><dt>p99</dt><dd>{milliseconds(entry.p99_ms)}</dd></div>
              <div><dt>Longest</dt><dd>{milliseconds(entry.max_ms)}</dd></div>
            </dl>
            {entry.sampled && <Sampled seen={entry.traces_seen} adjusted={entry.traces} />}
            {!entry.complete && <Partial text="Not all was read in time, or had room in the trees: what is shown is of a part." />}
            <Aside texts={[boundedText(entry, 'entry points or shapes', 'and may be missing here')]} />
            <BriefFindings findings={findings} mutes={muted.value ?? []} place={place} />
            <section className="section" aria-label="Where the time goes">
              <header><h2>Where the time goes</h2><span className="muted small">critical path, mean of each group, both at the same scale; a block is as wide as its time{drawn && `; ${drawn}`}</span></header>
              <Group title="Ordinary requests, between the quartiles" entry={entry} group={entry.typical} other={entry.slowest} wholeMs={whole} />
              <Group title={drawn ? 'The slowest of those drawn' : 'The slowest'} entry={entry} group={entry.slowest} other={entry.typical} wholeMs={whole} />
              <p className="small muted" style={{ marginTop: 6 }}><i className="legend-hatch" aria-hidden="true" /> hatched: on the wire, or waiting for a call that no span explains; plain and without a block below: the service’s own time</p>
            </section>
          </>
        )}
        {entry && entry.traces > 0 && (
          <section className="section" aria-label="Latency">
            <header><h2>Latency</h2><Link className="small" href={address('/explore', { ...windowParameters(place), service, operation })}>Choose a part and ask why</Link><span className="muted small">or drag a box over it here</span></header>
            {heat.value ? <><HeatmapFacts answer={heat.value} /><Heatmap answer={heat.value} box={null} choose={(box) => box && heat.value && go(address('/explore', { ...windowParameters(place), service, operation, box: boxText(heat.value, box) }))} open={(id) => go(`/trace/${id}`)} /><HeatmapTable answer={heat.value} /></> : heat.error ? <Partial text={heat.error.message} /> : <Ghost lines={8} />}
          </section>
        )}
        {entry && entry.shapes.length > 0 && (
          <section className="section" aria-label="Shapes">
            <header><h2>{entry.shapes.length < entry.shapes_in_all && `${count(entry.shapes.length)} of `}{count(entry.shapes_in_all)} {entry.shapes_in_all === 1 ? 'shape' : 'shapes'}</h2><span className="muted small">what these traces do, told apart by their calls; the most harmful first</span></header>
            <div className="shapes">{entry.shapes.map((shape) => <Shape key={shape.shape} shape={shape} traces={entry.traces} />)}</div>
          </section>
        )}
      </div>
    </main>
  );
}

function Group({ title, entry, group, other, wholeMs }: { title: string; entry: EntryAnswer; group: EntryGroup; other: EntryGroup; wholeMs: number }) {
  if (group.nodes.length === 0) return <p className="soft">{title}: {many(group.traces, 'trace')} {group.traces === 1 ? 'is' : 'are'} not enough to say; {count(group.need ?? 0)} are needed.</p>;
  const grown = growth(group.nodes, other.nodes);
  const of = groupText(entry, group);
  return (
    <div style={{ marginTop: 12 }}>
      <h3>
        {title}: {milliseconds(group.mean_ms ?? 0)} <span className="muted">({of}, {milliseconds(group.from_ms ?? 0)} to {milliseconds(group.to_ms ?? 0)})</span>{' '}
        <span className="examples">{group.examples?.slice(0, 3).map((id) => <Link key={id} href={`/trace/${id}`}>{shortId(id)}</Link>)}</span>
      </h3>
      <Icicle label={`${title}, ${of}`} nodes={group.nodes} wholeMs={wholeMs} unit="on average" />
      {grown && <p className="small soft" style={{ margin: '4px 0' }}>Most of the difference: {grown.node.service} {grown.node.is_call ? '→ ' : ''}{grown.node.operation}, {milliseconds(grown.own)} more {grown.node.is_call ? 'on the wire and waiting' : 'of its own time'}.</p>}
      <IcicleTable label={`${title}, ${of}, as a table`} nodes={group.nodes} wholeMs={wholeMs} />
    </div>
  );
}

/** The block that is larger here than there by most. */
function growth(nodes: TreeNode[], other: TreeNode[]): { node: TreeNode; own: number } | null {
  const key = (node: TreeNode) => `${node.depth} ${node.service} ${node.operation} ${node.is_call}`;
  const there = new Map<string, number>();
  for (const node of other) there.set(key(node), (there.get(key(node)) ?? 0) + node.own_ms);
  let best: { node: TreeNode; own: number } | null = null;
  for (const node of nodes) {
    const own = node.own_ms - (there.get(key(node)) ?? 0);
    if (own > (best?.own ?? 0)) best = { node, own };
  }
  return best && other.length > 0 && best.own > 0.5 ? best : null;
}

function Shape({ shape, traces }: { shape: EntryShape; traces: number }) {
  const line = 4;
  return (
    <Link className="shape" href={`/trace/${shape.example}`} title="Open an example">
      <svg viewBox={`0 0 200 ${Math.max(1, shape.picture.length) * line}`} preserveAspectRatio="none" style={{ height: Math.min(96, shape.picture.length * line) }} aria-hidden="true">
        {shape.picture.map(([, from, length, service, failed], at) => <rect key={at} x={from * 200} y={at * line} width={Math.max(1, length * 200)} height={line - 1} fill={failed ? 'var(--error)' : serviceColour(service)} />)}
      </svg>
      <span><b>{milliseconds(shape.p50_ms)}</b> median, {milliseconds(shape.max_ms)} at most</span>
      <span className="muted">{many(shape.traces, 'trace')}, {percent(shape.traces / traces)}{shape.errors > 0 && <span className="error"> · {percent(shape.errors / shape.traces)} failed</span>}</span>
    </Link>
  );
}
