import type { TraceEvents } from '../api/types';
import { serviceColour, token } from '../base/colour';
import { duration, ticks } from '../base/format';
import { EVENT, GROUP, type Rows, SPAN } from '../model/rows';
import { endOf, isError, serviceOf, type TraceModel } from '../model/trace';
import { hatch } from './canvas';

export const ROW = 22;
const BAR = 12;
const BAR_TOP = (ROW - BAR) / 2;

/** The part of the trace's time that is seen, in nanoseconds from its start. */
export interface Zoom {
  from: number;
  to: number;
}

export interface Drawing {
  model: TraceModel;
  rows: Rows;
  zoom: Zoom;
  /** By place: number of the segments that are the span's. */
  segmentsOf: Map<number, number[]>;
  events?: TraceEvents;
}

interface Paint {
  text: string;
  muted: string;
  line: string;
  error: string;
  critical: string;
  ground: string;
  hatch: string;
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
    font: token('--font'),
  };
}

/** Bars of the rows from `first` on; the first is `shift` pixels above the canvas. */
export function drawRows(context: CanvasRenderingContext2D, width: number, height: number, drawing: Drawing, first: number, shift: number, colours: Paint): void {
  const { rows, zoom } = drawing;
  const scale = width / Math.max(1e-9, zoom.to - zoom.from);
  const xOf = (ns: number) => (ns - zoom.from) * scale;
  context.fillStyle = colours.line;
  for (const tick of ticks(zoom.from, zoom.to, width / 130)) context.fillRect(Math.round(xOf(tick)), 0, 1, height);
  context.font = `11px ${colours.font}`;
  context.textBaseline = 'middle';
  for (let row = first; row < rows.count; row += 1) {
    const top = (row - first) * ROW - shift;
    if (top > height) break;
    const reference = rows.reference[row] ?? 0;
    switch (rows.kind[row]) {
      case SPAN:
        drawSpan(context, width, drawing, reference, top, xOf, colours);
        break;
      case GROUP:
        drawGroup(context, width, drawing, reference, top, xOf, colours);
        break;
      case EVENT: {
        const event = drawing.events?.events[reference];
        if (event) diamond(context, xOf(event.time_ns), top + ROW / 2, colours.muted, 4);
        break;
      }
      default:
    }
  }
}

function drawSpan(context: CanvasRenderingContext2D, width: number, { model, segmentsOf, zoom }: Drawing, place: number, top: number, xOf: (ns: number) => number, colours: Paint): void {
  const [start, end] = [model.start[place] ?? 0, endOf(model, place)];
  const service = serviceOf(model, place);
  if (end < zoom.from || start > zoom.to) {
    beyond(context, width, start > zoom.to, top, serviceColour(service));
    return;
  }
  const [left, right] = [Math.max(-4, xOf(start)), Math.min(width + 4, Math.max(xOf(end), xOf(start) + 1.5))];
  const y = top + BAR_TOP;
  const flags = model.flags.get(place);
  context.fillStyle = serviceColour(service, flags?.includes('async') || flags?.includes('detached') ? 0.45 : 0.82);
  round(context, left, y, right - left, BAR);
  const line = model.ledger.get(place);
  if (line && line.server !== null && line.wireOut + line.wireBack > 0) {
    // The wire: from the call to its server and back.
    context.fillStyle = hatch(context, colours.hatch);
    wire(context, xOf(start), xOf(start + line.wireOut), y);
    wire(context, xOf(end - line.wireBack), xOf(end), y);
  }
  if (isError(model, place)) {
    context.fillStyle = colours.error;
    context.fillRect(left, y, right - left, 2.5);
    cross(context, Math.max(left, 0) + 6, y + BAR / 2 + 1, colours.error, colours.ground);
  }
  context.fillStyle = colours.critical;
  for (const number of segmentsOf.get(place) ?? []) {
    const segment = model.segments[number];
    if (!segment) continue;
    const [from, to] = [Math.max(xOf(segment.start), 0), Math.min(xOf(segment.end), width)];
    if (to > from) context.fillRect(from, y + BAR - 3, Math.max(1, to - from), 3);
  }
  label(context, width, left, right, top, duration(model.duration[place] ?? 0), colours);
}

/** Repeated siblings: one stripe for each. */
function drawGroup(context: CanvasRenderingContext2D, width: number, { model, segmentsOf }: Drawing, number: number, top: number, xOf: (ns: number) => number, colours: Paint): void {
  const group = model.groups[number];
  const first = group?.members[0];
  if (!group || first === undefined) return;
  const y = top + BAR_TOP;
  const colour = serviceColour(serviceOf(model, first), 0.85);
  let [left, right, sum] = [Infinity, -Infinity, 0];
  let lastDrawn = -Infinity;
  for (const member of group.members) {
    const [from, to] = [xOf(model.start[member] ?? 0), xOf(endOf(model, member))];
    left = Math.min(left, from);
    right = Math.max(right, to);
    sum += model.duration[member] ?? 0;
    // Stripes that would hide one another are drawn once.
    if (to < 0 || from > width || Math.round(to) <= lastDrawn) continue;
    const begin = Math.max(from, 0);
    context.fillStyle = isError(model, member) ? colours.error : colour;
    context.fillRect(begin, y, Math.max(1, Math.min(to, width) - begin - (to - from > 3 ? 1 : 0)), BAR);
    lastDrawn = Math.round(to);
    context.fillStyle = colours.critical;
    for (const at of segmentsOf.get(member) ?? []) {
      const segment = model.segments[at];
      if (segment) context.fillRect(Math.max(0, xOf(segment.start)), y + BAR - 3, Math.max(1, Math.min(width, xOf(segment.end)) - Math.max(0, xOf(segment.start))), 3);
    }
  }
  label(context, width, Math.max(left, -4), Math.min(right, width + 4), top, `×${group.members.length} · ${duration(sum)} in all`, colours);
}

function wire(context: CanvasRenderingContext2D, from: number, to: number, y: number): void {
  if (to - from >= 1.5) context.fillRect(from, y, to - from, BAR);
}

/** Behind the bar, before it where there is no room, on it where there is none either. */
function label(context: CanvasRenderingContext2D, width: number, left: number, right: number, top: number, text: string, colours: Paint): void {
  const needed = context.measureText(text).width + 8;
  const y = top + ROW / 2 + 0.5;
  context.textAlign = 'left';
  context.fillStyle = colours.muted;
  if (right + needed <= width) context.fillText(text, right + 6, y);
  else if (left - needed >= 0) context.fillText(text, left - needed + 2, y);
  else {
    const x = Math.min(Math.max(left, 0) + 6, width - needed);
    context.fillStyle = colours.ground;
    context.globalAlpha = 0.82;
    round(context, x - 3, top + 4, needed - 2, ROW - 8);
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
