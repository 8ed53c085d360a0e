import type { Place } from '../base/location';
import { idOf, membersOf, placeOf, type TraceModel } from './trace';

/** What the address says of a trace's page; ids stay true when late spans arrive. */
export interface TraceState {
  view: 'rows' | 'flame' | 'table' | 'events' | 'compare';
  selected: number;
  find: string;
  mode: string;
  /** `corrected` where one offset for each pair of hosts counts; empty for times as they were written. */
  clocks: string;
  /** None for the whole trace. */
  zoom: { from: number; to: number } | null;
  closed: Set<number>;
  open: Set<number>;
  isCriticalOnly: boolean;
  hasEvents: boolean;
  /** Whether the typical trace, or `other`, is drawn behind the rows. */
  hasGhosts: boolean;
  other: string;
}

/** Folded and opened spans that the address holds: beyond, it would grow too long to share. */
const MOST_IDS = 120;

const VIEWS = ['rows', 'flame', 'table', 'events', 'compare'] as const;

export function traceState(place: Place, model: TraceModel): TraceState {
  const get = (key: string) => place.parameters.get(key) ?? '';
  const places = (key: string) => get(key).split('.').map((id) => placeOf(model, id)).filter((at) => at >= 0);
  const view = VIEWS.find((one) => one === get('view')) ?? 'rows';
  const [from, to] = get('zoom').split('-').map(Number);
  const hasZoom = from !== undefined && to !== undefined && Number.isFinite(from) && Number.isFinite(to) && to > from;
  return {
    view,
    selected: placeOf(model, get('span')),
    find: get('find'),
    ...readingOf(place),
    zoom: hasZoom ? { from, to } : null,
    closed: new Set(places('closed')),
    open: new Set(places('open').map((at) => model.groupOf[at] ?? -1).filter((group) => group >= 0)),
    isCriticalOnly: get('critical') === '1',
    hasEvents: get('events') === '1',
    hasGhosts: get('typical') === '1',
    other: /^[0-9a-f]{32}$/.test(get('with')) ? get('with') : '',
  };
}

/** The trace whose page a path names. */
export const traceIn = (path: string): string | undefined => /^\/trace\/([0-9a-fA-F]{1,32})$/.exec(path)?.[1]?.toLowerCase();

/** How the address asks for the trace to be read. */
export function readingOf(place: Place): { mode: string; clocks: string } {
  return { mode: place.parameters.get('mode') ?? '', clocks: place.parameters.get('clocks') === 'corrected' ? 'corrected' : '' };
}

export function idsOf(model: TraceModel, places: Iterable<number>): string {
  return [...places].slice(0, MOST_IDS).map((at) => idOf(model, at)).join('.');
}

/** A group is named by its first span. */
export function groupIds(model: TraceModel, groups: Iterable<number>): string {
  return idsOf(model, [...groups].map((group) => membersOf(model, group)[0] ?? 0));
}

/** The time from the first to the last that is shown. */
export type Extent = Pick<TraceModel, 'firstNs' | 'lastNs'>;

/** Keeps a zoom within the trace, and not narrower than can be drawn. */
export function bounded(extent: Extent, zoom: { from: number; to: number }): { from: number; to: number } {
  const whole = extent.lastNs - extent.firstNs;
  const span = Math.min(whole, Math.max(zoom.to - zoom.from, whole / 1e6, 1));
  const from = Math.min(Math.max(zoom.from, extent.firstNs), extent.lastNs - span);
  return { from, to: from + span };
}

export function zoomText(extent: Extent, zoom: { from: number; to: number }): string | null {
  const isWhole = zoom.from <= extent.firstNs && zoom.to >= extent.lastNs;
  return isWhole ? null : `${Math.round(zoom.from)}-${Math.round(zoom.to)}`;
}
