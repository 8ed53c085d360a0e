import { useEffect, useRef } from 'react';
import { serviceColour, token } from '../base/colour';
import { isError, serviceOf, type TraceModel } from '../model/trace';
import type { Extent } from '../model/traceState';
import { canvasOf } from './canvas';
import type { Zoom } from './drawRows';

const HEIGHT = 44;
/** Spans drawn at most: more would not be told apart on so few pixels. */
const MOST = 6_000;

interface Properties {
  model: TraceModel;
  /** The time that the whole width stands for. */
  extent: Extent;
  zoom: Zoom;
  setZoom: (zoom: Zoom) => void;
}

/** The whole trace at a glance, the critical path below it. Dragging over it chooses the time that the rows show. */
export function Minimap({ model, extent, zoom, setZoom }: Properties) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const frame = useRef<HTMLDivElement>(null);
  const { firstNs } = extent;
  const whole = extent.lastNs - firstNs;
  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const draw = () => {
      const drawing = canvasOf(element, HEIGHT);
      if (!drawing) return;
      const { context, width } = drawing;
      const step = Math.max(1, Math.ceil(model.count / MOST));
      const [high, failed] = [HEIGHT - 7, token('--error')];
      const colours = model.services.map((service) => serviceColour(service, 0.8));
      const line = Math.max(1, high / model.count);
      const bar = (place: number) => {
        const left = (((model.start[place] ?? 0) - firstNs) / whole) * width;
        context.fillRect(left, (place / model.count) * high, Math.max(1, ((model.duration[place] ?? 0) / whole) * width), line);
      };
      for (let place = 0; place < model.count; place += step) {
        context.fillStyle = colours[model.service[place] ?? 0] ?? serviceColour(serviceOf(model, place));
        bar(place);
      }
      context.fillStyle = failed;
      for (const place of model.errors.slice(0, MOST)) if (isError(model, place)) bar(place);
      const { place, start, end } = model.segments;
      const skip = Math.max(1, Math.ceil(place.length / MOST));
      for (let at = 0; at < place.length; at += skip) {
        context.fillStyle = colours[model.service[place[at] ?? 0] ?? 0] ?? failed;
        const [from, to] = [start[at] ?? 0, end[at] ?? 0];
        context.fillRect(((from - firstNs) / whole) * width, HEIGHT - 4, Math.max(0.5, ((to - from) / whole) * width), 4);
      }
    };
    // Draws when it begins to watch: after the rows, which are what one waits for.
    const observer = new ResizeObserver(draw);
    const timer = setTimeout(() => observer.observe(element));
    return () => {
      clearTimeout(timer);
      observer.disconnect();
    };
  }, [model, firstNs, whole]);
  const drag = (event: React.PointerEvent) => {
    const box = frame.current?.getBoundingClientRect();
    if (!box) return;
    event.preventDefault();
    const at = (x: number) => firstNs + Math.min(1, Math.max(0, (x - box.left) / box.width)) * whole;
    const from = at(event.clientX);
    const move = (moved: PointerEvent) => {
      const to = at(moved.clientX);
      if (Math.abs(to - from) > whole / 500) setZoom({ from: Math.min(from, to), to: Math.max(from, to) });
    };
    const done = () => {
      window.removeEventListener('pointermove', move);
      window.removeEventListener('pointerup', done);
    };
    window.addEventListener('pointermove', move);
    window.addEventListener('pointerup', done);
  };
  const share = (ns: number) => Math.min(100, Math.max(0, ((ns - firstNs) / whole) * 100));
  const [left, right] = [share(zoom.from), share(zoom.to)];
  return (
    <div className="minimap" ref={frame} onPointerDown={drag} onDoubleClick={() => setZoom({ from: firstNs, to: extent.lastNs })} title="Drag to choose a part; double-click for all">
      <canvas ref={canvas} style={{ height: HEIGHT }} role="img" aria-label="Overview of the trace; the rows below say the same" />
      {(left > 0.01 || right < 99.99) && (
        <>
          <div className="outside" style={{ left: 0, width: `${left}%` }} />
          <div className="outside" style={{ left: `${right}%`, right: 0 }} />
        </>
      )}
    </div>
  );
}
