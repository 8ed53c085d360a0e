import type { TraceEvents } from '../api/types';
import { serviceColour, token } from '../base/colour';
import { duration, ticks } from '../base/format';
import type { Ghosts } from '../model/ghosts';
import { EVENT, GROUP, type Rows, SPAN } from '../model/rows';
import { endOf, isError, ledgerOf, membersOf, serviceOf, type TraceModel } from '../model/trace';
import { hatch } from './canvas';

export const ROW = 22;
const BAR = 12;
const BAR_TOP = (ROW - BAR) / 2;
/** The outline of the other trace's span looks out above and below the bar. */
const GHOST = 18;

/** The part of the trace's time that is seen, in nanoseconds from its start. */
export interface Zoom {
  from: number;
  to: number;
}

export interface Drawing {
  model: TraceModel;
  rows: Rows;
  zoom: Zoom;
  events?: TraceEvents;
  ghosts?: Ghosts;
}

interface Paint {
  text: string;
  muted: string;
  line: string;
  error: string;
  critical: string;
  ground: string;
  hatch: string;
  ghost: string;
  ghostFill: string;
  font: string;
}

export function paint(): Paint {
  return {
    text: token('--text'),
    muted: token('--muted'),
    line: token('--line'),
    error: token('--error'),
    critical: token('--critical'),
    ground: token('--ground'),
    hatch: token('--hatch'),
    ghost: token('--ghost'),
    ghostFill: token('--sunken'),
    font: token('--font'),
  };
}

/** What is drawn on, and where a moment stands on it. */
interface Sheet {
  context: CanvasRenderingContext2D;
  width: number;
  zoom: Zoom;
  /** Pixels a nanosecond. */
  scale: number;
  x: (ns: number) => number;
  colours: Paint;
}

/** Bars of the rows from `first` on; the first is `shift` pixels above the canvas. */
export function drawRows(context: CanvasRenderingContext2D, width: number, height: number, drawing: Drawing, first: number, shift: number, colours: Paint): void {
  const { rows, zoom } = drawing;
  const scale = width / Math.max(1e-9, zoom.to - zoom.from);
  const sheet: Sheet = { context, width, zoom, scale, x: (ns) => (ns - zoom.from) * scale, colours };
  context.fillStyle = colours.line;
  for (const tick of ticks(zoom.from, zoom.to, width / 130)) context.fillRect(Math.round(sheet.x(tick)), 0, 1, height);
  context.font = `11px ${colours.font}`;
  context.textBaseline = 'middle';
  for (let row = first; row < rows.count; row += 1) {
    const top = (row - first) * ROW - shift;
    if (top > height) break;
    const reference = rows.reference[row] ?? 0;
    switch (rows.kind[row]) {
      case SPAN:
        drawSpan(sheet, drawing, reference, top);
        break;
      case GROUP:
        drawGroup(sheet, drawing, reference, top);
        break;
      case EVENT: {
        const event = drawing.events?.events[reference];
        if (event) diamond(context, sheet.x(event.time_ns), top + ROW / 2, colours.muted, 4);
        break;
      }
      default:
    }
  }
}

function drawSpan(sheet: Sheet, { model, ghosts }: Drawing, place: number, top: number): void {
  const { context, width, zoom, x, colours } = sheet;
  const [start, end] = [model.start[place] ?? 0, endOf(model, place)];
  const service = serviceOf(model, place);
  const there = ghosts?.of[place] ?? -1;
  if (ghosts && there >= 0) ghost(sheet, ghosts.other.start[there] ?? 0, endOf(ghosts.other, there), top);
  if (end < zoom.from || start > zoom.to) {
    beyond(context, width, start > zoom.to, top, serviceColour(service));
    return;
  }
  const [left, right] = [Math.max(-4, x(start)), Math.min(width + 4, Math.max(x(end), x(start) + 1.5))];
  const y = top + BAR_TOP;
  const flags = model.flags.get(place);
  context.fillStyle = serviceColour(service, flags?.includes('async') || flags?.includes('detached') ? 0.45 : 0.82);
  round(context, left, y, right - left, BAR);
  const line = ledgerOf(model, place);
  if (line && line.server !== null && line.wireOut + line.wireBack > 0) {
    // The wire: from the call to its server and back.
    context.fillStyle = hatch(context, colours.hatch);
    wire(context, x(start), x(start + line.wireOut), y);
    wire(context, x(end - line.wireBack), x(end), y);
  }
  if (isError(model, place)) {
    context.fillStyle = colours.error;
    context.fillRect(left, y, right - left, 2.5);
    cross(context, Math.max(left, 0) + 6, y + BAR / 2 + 1, colours.error, colours.ground);
  }
  critical(sheet, model, place, y);
  const edges = ghosts && there >= 0 ? [x(ghosts.other.start[there] ?? 0), x(endOf(ghosts.other, there))] : [];
  label(sheet, left, right, top, duration(model.duration[place] ?? 0), edges, isError(model, place) ? 12 : 0);
}

/** Repeated siblings: one stripe for each. */
function drawGroup(sheet: Sheet, { model, ghosts }: Drawing, number: number, top: number): void {
  const { context, width, x, colours } = sheet;
  const members = membersOf(model, number);
  const first = members[0];
  if (first === undefined) return;
  const y = top + BAR_TOP;
  const colour = serviceColour(serviceOf(model, first), 0.85);
  const other = ghosts?.ofGroup[number];
  if (other) ghost(sheet, other.from, other.to, top);
  let [left, right, sum] = [Infinity, -Infinity, 0];
  let lastDrawn = -Infinity;
  for (const member of members) {
    const [from, to] = [x(model.start[member] ?? 0), x(endOf(model, member))];
    left = Math.min(left, from);
    right = Math.max(right, to);
    sum += model.duration[member] ?? 0;
    // Stripes that would hide one another are drawn once.
    if (to < 0 || from > width || Math.round(to) <= lastDrawn) continue;
    const begin = Math.max(from, 0);
    context.fillStyle = isError(model, member) ? colours.error : colour;
    context.fillRect(begin, y, Math.max(1, Math.min(to, width) - begin - (to - from > 3 ? 1 : 0)), BAR);
    lastDrawn = Math.round(to);
    critical(sheet, model, member, y);
  }
  label(sheet, Math.max(left, -4), Math.min(right, width + 4), top, `×${members.length} · ${duration(sum)} in all`, other ? [x(other.from), x(other.to)] : []);
}

/** Where the other trace's span stood: an outline behind the bar. */
function ghost({ context, width, zoom, x, colours }: Sheet, start: number, end: number, top: number): void {
  if (end < zoom.from || start > zoom.to) return;
  const left = Math.round(Math.max(-6, x(start))) + 0.5;
  const right = Math.round(Math.min(width + 6, Math.max(x(end), x(start) + 2))) + 0.5;
  context.beginPath();
  context.roundRect(left, top + (ROW - GHOST) / 2 + 0.5, right - left, GHOST - 1, Math.min(3, (right - left) / 2));
  context.fillStyle = colours.ghostFill;
  context.fill();
  context.strokeStyle = colours.ghost;
  context.lineWidth = 1;
  context.stroke();
}

/** The span's parts of the critical path, below on its bar. Those that others would hide are passed over at once. */
function critical({ context, width, zoom, scale, colours }: Sheet, { segments }: TraceModel, place: number, y: number): void {
  const { start, end, first, ofPlace } = segments;
  const last = first[place + 1] ?? 0;
  const endAt = (at: number) => end[ofPlace[at] ?? 0] ?? 0;
  context.fillStyle = colours.critical;
  let reached = zoom.from;
  let at = first[place] ?? 0;
  for (;;) {
    // A span's segments follow one another: the first that goes beyond what is drawn.
    let low = at;
    let high = last;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (endAt(middle) <= reached) low = middle + 1;
      else high = middle;
    }
    const begins = Math.max(start[ofPlace[low] ?? 0] ?? 0, reached);
    if (low >= last || begins >= zoom.to) return;
    const left = (begins - zoom.from) * scale;
    const right = Math.max(Math.min((endAt(low) - zoom.from) * scale, width), left + 1);
    context.fillRect(left, y + BAR - 3, right - left, 3);
    reached = Math.max(endAt(low), zoom.from + right / scale);
    at = low + 1;
  }
}

function wire(context: CanvasRenderingContext2D, from: number, to: number, y: number): void {
  if (to - from >= 1.5) context.fillRect(from, y, to - from, BAR);
}

/**
 * Behind the bar, before it where there is no room, on it where there is none either: there beside a mark that stands
 * first. Never across an edge of an outline.
 */
function label({ context, width, colours }: Sheet, left: number, right: number, top: number, text: string, edges: number[], mark = 0): void {
  const needed = context.measureText(text).width + 12;
  const y = top + ROW / 2 + 0.5;
  context.textAlign = 'left';
  context.fillStyle = colours.muted;
  const isFree = (from: number) => from >= 0 && from + needed <= width && !edges.some((edge) => edge > from + 1 && edge < from + needed);
  const place = [right, Math.max(right, ...edges), left - needed, Math.min(left, ...edges) - needed].find(isFree);
  if (place !== undefined) context.fillText(text, place + 6, y);
  else {
    const x = Math.min(Math.max(left, 0) + 6 + mark, width - needed);
    context.fillStyle = colours.ground;
    context.globalAlpha = 0.82;
    round(context, x - 3, top + 4, needed - 6, ROW - 8);
    context.globalAlpha = 1;
    context.fillStyle = colours.text;
    context.fillText(text, x, y);
  }
}

function beyond(context: CanvasRenderingContext2D, width: number, isRight: boolean, top: number, colour: string): void {
  const [x, step] = isRight ? [width - 3, -5] : [3, 5];
  context.fillStyle = colour;
  context.beginPath();
  context.moveTo(x, top + ROW / 2);
  context.lineTo(x + step, top + ROW / 2 - 4);
  context.lineTo(x + step, top + ROW / 2 + 4);
  context.fill();
}

function round(context: CanvasRenderingContext2D, x: number, y: number, width: number, height: number): void {
  context.beginPath();
  context.roundRect(x, y, width, height, Math.min(2, width / 2));
  context.fill();
}

function cross(context: CanvasRenderingContext2D, x: number, y: number, colour: string, ground: string): void {
  context.fillStyle = ground;
  context.beginPath();
  context.arc(x, y, 5, 0, 7);
  context.fill();
  context.strokeStyle = colour;
  context.lineWidth = 1.6;
  context.beginPath();
  context.moveTo(x - 2.2, y - 2.2);
  context.lineTo(x + 2.2, y + 2.2);
  context.moveTo(x + 2.2, y - 2.2);
  context.lineTo(x - 2.2, y + 2.2);
  context.stroke();
}

function diamond(context: CanvasRenderingContext2D, x: number, y: number, colour: string, size: number): void {
  context.fillStyle = colour;
  context.beginPath();
  context.moveTo(x, y - size);
  context.lineTo(x + size, y);
  context.lineTo(x, y + size);
  context.lineTo(x - size, y);
  context.fill();
}
