import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'react';
import type { Finding, Kinds, TraceEvents } from '../api/types';
import { serviceColour } from '../base/colour';
import { duration, signed, ticks } from '../base/format';
import { kindName } from '../model/findings';
import { type Ghosts, typicalNs } from '../model/ghosts';
import { badgeOf, percentileOf, standingText } from '../model/kinds';
import { EVENT, GROUP, type Rows, SPAN } from '../model/rows';
import { isError, membersOf, nameOf, operationOf, serviceOf, type TraceModel } from '../model/trace';
import { canvasOf } from './canvas';
import { drawRows, paint, ROW, type Zoom } from './drawRows';

interface Properties {
  model: TraceModel;
  rows: Rows;
  zoom: Zoom;
  selected: number;
  /** By place, 1 for what was sought. */
  found: Uint8Array;
  closed: ReadonlySet<number>;
  open: ReadonlySet<number>;
  kinds?: Kinds;
  events?: TraceEvents;
  /** Another trace behind the rows. */
  ghosts?: Ghosts;
  findings: Map<number, Finding[]>;
  select: (place: number) => void;
  toggle: (row: number) => void;
  setZoom: (zoom: Zoom) => void;
  /** Row to bring into view; a new object each time. */
  goTo: { row: number } | null;
}

const LABEL_LEAST = 180;
/** Left of the text of a row. */
const MARGIN = 10;
/** Room that a time on the axis needs. */
const TICK_WIDTH = 56;
/** Of each of the two columns that say in numbers what outlines show. */
const NUMBER_WIDTH = 68;

/** Rows of text and bars of time. Text is in the document, bars are on a canvas; both only for the rows that are seen. */
export function Waterfall(properties: Properties) {
  const { model, rows, zoom, selected, found, closed, open, kinds, events, ghosts, findings, select, toggle, setZoom, goTo } = properties;
  const body = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [view, setView] = useState({ top: 0, height: 600, width: 1000 });
  const [labelShare, setLabelShare] = useState(0.38);
  const labelWidth = Math.max(LABEL_LEAST, Math.round(view.width * labelShare));
  useLayoutEffect(() => {
    const element = body.current;
    if (!element) return;
    const read = () => setView({ top: element.scrollTop, height: element.clientHeight, width: element.clientWidth });
    read();
    element.addEventListener('scroll', read, { passive: true });
    const observer = new ResizeObserver(read);
    observer.observe(element);
    return () => {
      element.removeEventListener('scroll', read);
      observer.disconnect();
    };
  }, []);
  useEffect(() => {
    const element = body.current;
    if (!goTo || goTo.row < 0 || !element) return;
    const top = goTo.row * ROW;
    if (top < element.scrollTop + ROW || top + 2 * ROW > element.scrollTop + element.clientHeight) element.scrollTop = Math.max(0, top - element.clientHeight / 2);
  }, [goTo]);
  const colours = useMemo(paint, []);
  const first = Math.max(0, Math.min(rows.count - 1, Math.floor(view.top / ROW)));
  const shift = view.top - first * ROW;
  const seen = Math.min(rows.count - first, Math.ceil((view.height + shift) / ROW));
  useLayoutEffect(() => {
    const element = canvas.current;
    const drawing = element && canvasOf(element, view.height);
    if (drawing) drawRows(drawing.context, drawing.width, view.height, { model, rows, zoom, events, ghosts }, first, shift, colours);
  }, [model, rows, zoom, events, ghosts, first, shift, colours, view.height, view.width, labelWidth]);
  // The browser's own handling of the wheel must be stopped, which React's listeners cannot.
  const zoomBy = useRef<(event: WheelEvent) => void>(() => {});
  zoomBy.current = (event) => {
    const element = canvas.current;
    if (!element || !(event.ctrlKey || event.metaKey || event.shiftKey)) return;
    event.preventDefault();
    const box = element.getBoundingClientRect();
    const span = zoom.to - zoom.from;
    if (event.shiftKey) {
      const moved = ((event.deltaX || event.deltaY) / box.width) * span;
      setZoom({ from: zoom.from + moved, to: zoom.to + moved });
      return;
    }
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const next = span * (event.deltaY > 0 ? 1.25 : 0.8);
    const at = zoom.from + span * share;
    setZoom({ from: at - next * share, to: at + next * (1 - share) });
  };
  useEffect(() => {
    const element = body.current;
    const onWheel = (event: WheelEvent) => zoomBy.current(event);
    element?.addEventListener('wheel', onWheel, { passive: false });
    return () => element?.removeEventListener('wheel', onWheel);
  }, []);
  const drag = (event: React.PointerEvent) => {
    event.preventDefault();
    const left = body.current?.getBoundingClientRect().left ?? 0;
    const move = (moved: PointerEvent) => setLabelShare(Math.min(0.7, Math.max(0.15, (moved.clientX - left) / Math.max(1, view.width))));
    const done = () => {
      window.removeEventListener('pointermove', move);
      window.removeEventListener('pointerup', done);
    };
    window.addEventListener('pointermove', move);
    window.addEventListener('pointerup', done);
  };
  const lines = [];
  for (let row = first; row < first + seen; row += 1) {
    lines.push(
      <RowLine
        key={`${rows.kind[row]} ${rows.reference[row]}`}
        {...{ model, rows, row, kinds, events, ghosts, select, toggle }}
        top={(row - first) * ROW - shift}
        width={labelWidth}
        isSelected={rows.kind[row] === SPAN && rows.reference[row] === selected}
        isFound={rows.kind[row] === SPAN ? found[rows.reference[row] ?? -1] === 1 : rows.kind[row] === GROUP && membersOf(model, rows.reference[row] ?? 0).some((member) => found[member] === 1)}
        isClosed={rows.kind[row] === GROUP ? !open.has(rows.reference[row] ?? 0) : closed.has(rows.reference[row] ?? 0)}
        findings={rows.kind[row] === SPAN ? findings.get(rows.reference[row] ?? -1) : undefined}
      />,
    );
  }
  const chosenRow = lines.length > 0 ? `row-${selected}` : undefined;
  return (
    <div className="waterfall">
      <div className="axis" style={{ paddingLeft: labelWidth }}>
        <span className="axis-title">Service and operation</span>
        {ghosts && <span className="axis-title number" style={{ left: labelWidth - 2 * NUMBER_WIDTH, width: NUMBER_WIDTH }}>typical</span>}
        {ghosts && <span className="axis-title number" style={{ left: labelWidth - NUMBER_WIDTH, width: NUMBER_WIDTH }}>difference</span>}
        <Axis zoom={zoom} width={view.width - labelWidth} />
        <div className="divider" style={{ left: labelWidth }} onPointerDown={drag} aria-hidden="true" />
      </div>
      <div className="rows" ref={body} tabIndex={0} role="treegrid" aria-label="Spans" aria-rowcount={rows.count} aria-activedescendant={selected >= 0 ? chosenRow : undefined}>
        <div style={{ height: Math.max(rows.count * ROW, 1) }}>
          <div className="seen" style={{ height: view.height }} role="presentation">
            {lines}
            <canvas ref={canvas} style={{ left: labelWidth, width: `calc(100% - ${labelWidth}px)`, height: view.height }} aria-hidden="true" />
          </div>
        </div>
      </div>
    </div>
  );
}

function Axis({ zoom, width }: { zoom: Zoom; width: number }) {
  return (
    <div className="ticks" aria-hidden="true">
      {ticks(zoom.from, zoom.to, width / 130).map((tick) => {
        const left = ((tick - zoom.from) / (zoom.to - zoom.from)) * width;
        return left < width - TICK_WIDTH && <span key={tick} style={{ left }}>{tick === 0 ? '0' : duration(tick)}</span>;
      })}
    </div>
  );
}

interface LineProperties {
  model: TraceModel;
  rows: Rows;
  row: number;
  top: number;
  width: number;
  isSelected: boolean;
  isFound: boolean;
  isClosed: boolean;
  kinds?: Kinds;
  events?: TraceEvents;
  ghosts?: Ghosts;
  findings?: Finding[];
  select: (place: number) => void;
  toggle: (row: number) => void;
}

function RowLine(properties: LineProperties) {
  const { model, rows, row, top, width, isSelected, isFound, isClosed, kinds, events, ghosts, findings, select, toggle } = properties;
  const reference = rows.reference[row] ?? 0;
  const depth = rows.depth[row] ?? 0;
  const kind = rows.kind[row];
  const classes = ['row', isSelected && 'selected', isFound && 'found'].filter(Boolean).join(' ');
  const indent = Math.min(depth, 30) * 12;
  if (kind === EVENT) {
    const event = events?.events[reference];
    return (
      <div className={`${classes} event`} style={{ top }} role="row" aria-level={depth + 1} onClick={() => event && select(event.place)}>
        <div className="label" role="gridcell" style={{ width: width - MARGIN, marginLeft: MARGIN, paddingLeft: indent + 18 }}>
          <span className="muted">◆</span>
          <span className="name" title={event?.name}>{event?.name}</span>
          <span className="muted ellipsis" style={{ flex: 1 }}>{event && brief(event.attributes)}</span>
        </div>
      </div>
    );
  }
  const place = kind === GROUP ? (membersOf(model, reference)[0] ?? 0) : reference;
  const members = kind === GROUP ? membersOf(model, reference).length : 0;
  const canToggle = kind === GROUP || (model.children[place] ?? 0) > 0;
  const service = serviceOf(model, place);
  const failed = kind === SPAN && isError(model, place);
  const name = kind === GROUP ? operationOf(model, place) : nameOf(model, place);
  const own = model.duration[place] ?? 0;
  const among = kind === SPAN && kinds ? percentileOf(kinds, place, own) : null;
  const flags = kind === SPAN ? model.flags.get(place) : undefined;
  // What the bar shows, for those who do not see it.
  const says = kind === GROUP ? ` ${members} calls` : `, ${duration(own)}${failed ? ', error' : ''}${(model.critical[place] ?? 0) > 0 ? `, ${duration(model.critical[place] ?? 0)} on the critical path` : ''}`;
  return (
    <div
      id={kind === SPAN ? `row-${place}` : undefined}
      className={kind === GROUP ? `${classes} group` : classes}
      style={{ top }}
      role="row"
      aria-level={depth + 1}
      aria-rowindex={row + 1}
      aria-expanded={canToggle ? !isClosed : undefined}
      aria-selected={isSelected}
      onClick={() => (kind === GROUP ? toggle(row) : select(place))}
    >
      <div className="label" role="gridcell" style={{ width: width - MARGIN - (ghosts ? 2 * NUMBER_WIDTH : 0), marginLeft: MARGIN, paddingLeft: indent }}>
        {canToggle ? (
          <button
            type="button"
            className="toggle"
            tabIndex={-1}
            aria-label={isClosed ? 'Expand' : 'Collapse'}
            onClick={(event) => {
              event.stopPropagation();
              toggle(row);
            }}
          >
            {isClosed ? '▸' : '▾'}
          </button>
        ) : <span className="toggle" />}
        <i style={{ background: serviceColour(service) }} />
        {kind === GROUP && <span className="times">×{members}</span>}
        <b>{service}</b>
        <span className={failed ? 'name error' : 'name'} title={name}>{failed && '✕ '}{name}</span>
        <span className="unseen">{says}</span>
        <span className="badges">
          {findings?.map((finding) => <span key={finding.id} className="chip accent" title={finding.title}>{kindName(finding.kind)}</span>)}
          {flags?.map((flag) => <span key={flag} className="chip warning" title={FLAGS[flag]}>{flag.replace('_', ' ')}</span>)}
          {among && among.percentile >= 95 && <span className="chip" title={`${standingText(among)}; their median is ${duration(among.medianNs)}`}>{badgeOf(among)}</span>}
        </span>
      </div>
      {ghosts && <Typical {...{ model, ghosts, place }} group={kind === GROUP ? reference : undefined} />}
    </div>
  );
}

/** In numbers what the outline shows: how long the counterpart took, and how much more this did. */
function Typical({ model, ghosts, place, group }: { model: TraceModel; ghosts: Ghosts; place: number; group?: number }) {
  const there = group === undefined ? typicalNs(ghosts, place) : (ghosts.ofGroup[group]?.sumNs ?? null);
  const own = group === undefined ? (model.duration[place] ?? 0) : membersOf(model, group).reduce((sum, member) => sum + (model.duration[member] ?? 0), 0);
  const isFar = there !== null && Math.abs(own - there) >= Math.max(1e6, there / 2);
  return (
    <>
      <span className="typical" role="gridcell" style={{ width: NUMBER_WIDTH }}>{there === null ? <><span aria-hidden="true">–</span><span className="unseen">none</span></> : <><span className="unseen">typically </span>{duration(there)}</>}</span>
      <span className={isFar ? 'typical far' : 'typical'} role="gridcell" style={{ width: NUMBER_WIDTH }}>{there !== null && signed(own - there)}</span>
    </>
  );
}

const FLAGS: Record<string, string> = {
  async: 'goes on after its parent has answered, or begins after: nobody waited for it',
  detached: 'lies outside of its parent’s time',
  skew: 'its times cannot be true: clocks of two hosts differ',
  moved: 'its host’s clock differs: its times were set right by that',
  no_time: 'it came without a time of its start: where it is drawn says nothing',
  missing_parent: 'the span it names as its parent was not received',
};

function brief(attributes: Record<string, unknown>): string {
  return Object.entries(attributes).slice(0, 4).map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`).join(' ');
}
