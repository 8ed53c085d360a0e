import { useCallback, useDeferredValue, useEffect, useMemo, useRef, useState } from 'react';
import { spanDetails, traceEvents, traceFindings, traceKinds } from '../../api/client';
import { useLoaded } from '../../api/load';
import type { TraceHead } from '../../api/types';
import { useKeys } from '../../base/keys';
import { go, here, type Place, withParameters } from '../../base/location';
import { ghostsOf, typicalNs } from '../../model/ghosts';
import { percentileOf } from '../../model/kinds';
import { GROUP, reveal, rowOfSpan, rowsOf, SPAN } from '../../model/rows';
import { criticalBelow, findSpans, idOf, isError, KIND_NAMES, ledgerOf, nameOf, operationOf, serviceOf, type TraceModel } from '../../model/trace';
import { findingsByPlace } from '../../model/traceFindings';
import { bounded, groupIds, idsOf, type TraceState, traceState, zoomText } from '../../model/traceState';
import { Details, type Known } from '../../widgets/Details';
import type { Zoom } from '../../widgets/drawRows';
import { Minimap } from '../../widgets/Minimap';
import { Waterfall } from '../../widgets/Waterfall';
import { Compare } from './Compare';
import { Events } from './Events';
import { Flame } from './Flame';
import { GhostNote } from './GhostNote';
import { Header } from './Header';
import { openTrace } from './openTrace';
import { Totals } from './Totals';

interface Properties {
  trace: TraceHead;
  model: TraceModel;
  place: Place;
  error?: Error;
}

/** A trace that is there. The address is the state; zooming writes it when it comes to rest. */
export function Loaded({ trace, model, place, error }: Properties) {
  const state = useTraceState(place, model);
  // None is the whole, whatever that comes to be.
  const [zoomed, setZoomed] = useState<Zoom | null>(state.zoom);
  const [goTo, setGoTo] = useState<{ row: number } | null>(null);
  const set = useCallback((changes: Record<string, string | null>) => go(withParameters(here(), changes), true), []);
  // Tells benchmarks when the first rows were drawn.
  useEffect(() => {
    requestAnimationFrame(() => setTimeout(() => performance.mark('trace-painted'), 0));
  }, []);
  const kinds = useLoaded(`kinds ${trace.trace_id}`, (signal) => traceKinds(trace.trace_id, signal));
  const wantsEvents = state.hasEvents || state.view === 'events';
  const events = useLoaded(`events ${trace.trace_id} ${wantsEvents} ${state.clocks}`, (signal) => (wantsEvents ? traceEvents(trace.trace_id, state.clocks, signal) : Promise.resolve(undefined)));
  // The trace behind the rows: the one that is compared with, or an ordinary one of its kind.
  const otherId = state.other || kinds.value?.typical?.trace_id || '';
  const wantsOther = state.hasGhosts && otherId !== '' && otherId !== trace.trace_id;
  const other = useLoaded(`ghosts ${wantsOther ? otherId : ''} ${state.clocks}`, (signal) => (wantsOther ? openTrace(otherId, { mode: '', clocks: state.clocks }, signal) : Promise.resolve(undefined)));
  const ghosts = useMemo(() => (wantsOther && other.value?.head.trace_id === otherId ? ghostsOf(model, other.value.model) : undefined), [model, wantsOther, otherId, other.value]);
  // What is behind the rows may go on after this trace has ended.
  const extent = useMemo(() => ({ firstNs: Math.min(model.firstNs, ghosts?.other.firstNs ?? 0), lastNs: Math.max(model.lastNs, ghosts?.other.lastNs ?? 0) }), [model, ghosts]);
  const zoom = useMemo(() => bounded(extent, zoomed ?? { from: extent.firstNs, to: extent.lastNs }), [zoomed, extent]);
  const settle = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const setZoom = useCallback((next: Zoom) => {
    const within = bounded(extent, next);
    const text = zoomText(extent, within);
    setZoomed(text === null ? null : within);
    clearTimeout(settle.current);
    settle.current = setTimeout(() => set({ zoom: text }), 250);
  }, [extent, set]);
  useEffect(() => () => clearTimeout(settle.current), []);
  const below = useMemo(() => (state.isCriticalOnly ? criticalBelow(model) : undefined), [model, state.isCriticalOnly]);
  const rows = useMemo(
    () => rowsOf(model, { closed: state.closed, open: state.open, only: below, events: state.hasEvents ? events.value : undefined }),
    [model, state.closed, state.open, state.hasEvents, below, events.value],
  );
  const sought = useDeferredValue(state.find);
  const found = useMemo(() => findSpans(model, sought), [model, sought]);
  const isFound = useMemo(() => {
    const marks = new Uint8Array(model.count);
    for (const at of found) marks[at] = 1;
    return marks;
  }, [model, found]);
  const apart = useLoaded(`findings ${trace.trace_id}`, (signal) => (trace.findings ? Promise.resolve(trace.findings) : traceFindings(trace.trace_id, signal)));
  const all = trace.findings ?? apart.value;
  const findings = useMemo(() => findingsByPlace(model, all ?? []), [model, all]);
  const select = useCallback((at: number) => set({ span: at >= 0 ? idOf(model, at) : null }), [model, set]);
  const fold = (next: { closed?: Set<number>; open?: Set<number> }) => set({
    ...(next.closed && { closed: idsOf(model, next.closed) || null }),
    ...(next.open && { open: groupIds(model, next.open) || null }),
  });
  const toggle = (row: number) => {
    const reference = rows.reference[row] ?? 0;
    const kind = rows.kind[row] === GROUP ? 'open' : 'closed';
    const next = new Set(state[kind]);
    if (!next.delete(reference)) next.add(reference);
    fold({ [kind]: next });
  };
  /** Selects a span, opening what hides it. */
  const show = (at: number) => {
    if (at < 0) return;
    const next = reveal(model, at, state.closed, state.open);
    set({
      span: idOf(model, at),
      closed: idsOf(model, next.closed) || null,
      open: groupIds(model, next.open) || null,
      ...(below && (below[at] ?? 0) <= 0 && { critical: null }),
      ...(state.view !== 'rows' && { view: null }),
    });
    const opened = rowsOf(model, { ...next, only: below && (below[at] ?? 0) > 0 ? below : undefined, events: state.hasEvents ? events.value : undefined });
    setGoTo({ row: rowOfSpan(opened, at) });
  };
  const current = useMemo(() => rowOfSpan(rows, state.selected), [rows, state.selected]);
  useEffect(() => {
    if (current >= 0) setGoTo({ row: current });
    // Once, where the address names a span.
  }, []);
  const step = (by: number) => {
    let row = current < 0 ? (by > 0 ? 0 : rows.count - 1) : current + by;
    while (row >= 0 && row < rows.count && rows.kind[row] !== SPAN) row += by;
    if (row < 0 || row >= rows.count) return;
    select(rows.reference[row] ?? 0);
    setGoTo({ row });
  };
  const nextOf = (places: number[], by: number) => {
    const from = state.selected;
    const next = by > 0 ? places.find((at) => at > from) : places.findLast((at) => from < 0 || at < from);
    show(next ?? (by > 0 ? places[0] : places[places.length - 1]) ?? -1);
  };
  const zoomAround = (factor: number) => {
    const at = state.selected >= 0 ? (model.start[state.selected] ?? 0) + (model.duration[state.selected] ?? 0) / 2 : (zoom.from + zoom.to) / 2;
    const centre = Math.min(zoom.to, Math.max(zoom.from, at));
    setZoom({ from: centre - (centre - zoom.from) * factor, to: centre + (zoom.to - centre) * factor });
  };
  const pan = (share: number) => setZoom({ from: zoom.from + (zoom.to - zoom.from) * share, to: zoom.to + (zoom.to - zoom.from) * share });
  const turn = (view: TraceState['view']) => set({ view: state.view === view || view === 'rows' ? null : view });
  const left = () => {
    if (current < 0) return;
    const at = state.selected;
    if ((model.children[at] ?? 0) > 0 && !state.closed.has(at)) fold({ closed: new Set(state.closed).add(at) });
    else if ((model.groupOf[at] ?? -1) >= 0) {
      const open = new Set(state.open);
      open.delete(model.groupOf[at] ?? -1);
      fold({ open });
      select(model.parent[at] ?? -1);
    } else if ((model.parent[at] ?? -1) >= 0) show(model.parent[at] ?? 0);
  };
  const right = () => {
    const at = state.selected;
    if (state.closed.has(at)) {
      const closed = new Set(state.closed);
      closed.delete(at);
      fold({ closed });
      return;
    }
    // A folded group below: open it.
    if (current >= 0 && rows.kind[current + 1] === GROUP && !state.open.has(rows.reference[current + 1] ?? -1)) toggle(current + 1);
    else step(1);
  };
  useKeys({
    j: () => step(1),
    ArrowDown: () => step(1),
    k: () => step(-1),
    ArrowUp: () => step(-1),
    ArrowLeft: left,
    ArrowRight: right,
    w: () => zoomAround(0.7),
    s: () => zoomAround(1.4),
    a: () => pan(-0.2),
    d: () => pan(0.2),
    0: () => setZoom({ from: extent.firstNs, to: extent.lastNs }),
    '[': () => nextOf(model.errors, -1),
    ']': () => nextOf(model.errors, 1),
    n: () => nextOf(found, 1),
    N: () => nextOf(found, -1),
    c: () => set({ critical: state.isCriticalOnly ? null : '1' }),
    f: () => turn('flame'),
    t: () => turn('table'),
    l: () => set({ events: state.hasEvents ? null : '1' }),
    v: () => set({ typical: state.hasGhosts ? null : '1' }),
    x: () => turn('compare'),
    h: () => set({ clocks: state.clocks ? null : 'corrected' }),
    Escape: () => (state.view !== 'rows' ? turn('rows') : select(-1)),
  });
  const selectedId = state.selected >= 0 ? idOf(model, state.selected) : '';
  const details = useLoaded(`${trace.trace_id}/${selectedId}`, (signal) => (selectedId ? spanDetails(trace.trace_id, selectedId, signal) : Promise.resolve(undefined)));
  return (
    <main className="trace">
      <Header {...{ trace, model, state, set, found: found.length, kinds: kinds.value, error }} next={() => nextOf(found, 1)} show={show} foldAll={() => fold({ closed: new Set(withChildren(model)), open: new Set() })} unfoldAll={() => fold({ closed: new Set(), open: new Set(Array(model.groups.count).keys()) })} />
      {state.hasGhosts && (state.view === 'rows' || state.view === 'table') && <GhostNote trace={trace} kinds={kinds} other={other} ghosts={ghosts} otherId={otherId} isChosen={state.other !== ''} set={set} />}
      {state.view === 'rows' && (
        <>
          <Minimap model={model} extent={extent} zoom={zoom} setZoom={setZoom} />
          <div className="split">
            <Waterfall
              {...{ model, rows, zoom, ghosts, found: isFound, findings, select, toggle, setZoom, goTo }}
              selected={state.selected}
              closed={state.closed}
              open={state.open}
              kinds={kinds.value}
              events={state.hasEvents ? events.value : undefined}
            />
            {state.selected >= 0 && (
              <Details
                known={{ ...knownOf(model, state.selected, kinds.value, findings.get(state.selected)), typicalNs: ghosts ? typicalNs(ghosts, state.selected) : undefined }}
                full={details.value?.span_id === selectedId ? details.value : undefined}
                error={details.error}
                close={() => select(-1)}
                goTo={show}
              />
            )}
          </div>
        </>
      )}
      {state.view === 'flame' && <Flame model={model} />}
      {state.view === 'table' && <Totals model={model} other={ghosts?.other} show={show} />}
      {state.view === 'events' && <Events model={model} events={events.value} error={events.error} show={show} />}
      {state.view === 'compare' && <Compare trace={trace} model={model} state={state} typical={kinds.value?.typical ?? null} isLoading={kinds.isLoading} set={set} />}
    </main>
  );
}

/** The state that the address holds; sets that have not changed stay the same, so that rows are not made anew. */
function useTraceState(place: Place, model: TraceModel): TraceState {
  const [closed, open] = [place.parameters.get('closed'), place.parameters.get('open')];
  const sets = useMemo(() => {
    const state = traceState(place, model);
    return { closed: state.closed, open: state.open };
  }, [closed, open, model]);
  return useMemo(() => ({ ...traceState(place, model), ...sets }), [place.parameters.toString(), model, sets]);
}

/** First level below the root stays: one sees what was folded. */
function withChildren(model: TraceModel): number[] {
  const places: number[] = [];
  for (let at = 0; at < model.count && places.length < 120; at += 1) if ((model.children[at] ?? 0) > 0 && model.depth[at] === 1) places.push(at);
  return places;
}

function knownOf(model: TraceModel, at: number, kinds: Parameters<typeof percentileOf>[0] | undefined, findings?: Known['findings']): Known {
  const durationNs = model.duration[at] ?? 0;
  return {
    id: idOf(model, at),
    service: serviceOf(model, at),
    name: nameOf(model, at),
    operation: operationOf(model, at),
    kind: KIND_NAMES[model.kind[at] ?? 0] ?? 'internal',
    durationNs,
    selfNs: model.self[at] ?? 0,
    criticalNs: model.critical[at] ?? 0,
    startNs: model.start[at] ?? 0,
    failed: isError(model, at),
    message: model.messages.get(at),
    flags: model.flags.get(at) ?? [],
    ledger: ledgerOf(model, at),
    queue: (model.queue.get(at) ?? []).map((hop) => ({ ...hop, name: `${serviceOf(model, hop.other)} ${nameOf(model, hop.other)}` })),
    among: kinds ? percentileOf(kinds, at, durationNs) : null,
    findings: findings ?? [],
  };
}
