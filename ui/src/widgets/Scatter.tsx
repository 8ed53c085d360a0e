import { useEffect, useRef, useState } from 'react';
import type { TraceSummary } from '../api/types';
import { token } from '../base/colour';
import { duration, millis, moment } from '../base/format';
import { canvasOf } from './canvas';

const HEIGHT = 140;
/** How near to a dot the pointer must be to mean it. */
const REACH = 12;
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 8, 8, 20];

/** Duration over time, one dot a trace; the list below is its text twin. */
export function Scatter({ traces, open }: { traces: TraceSummary[]; open: (id: string) => void }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const dots = useRef<{ x: number; y: number; trace: TraceSummary }[]>([]);
  const [hover, setHover] = useState<{ x: number; y: number; trace: TraceSummary } | null>(null);
  useEffect(() => {
    const element = canvas.current;
    if (!element || traces.length === 0) return;
    const draw = () => {
      const drawing = canvasOf(element, HEIGHT);
      if (!drawing) return;
      const { context, width } = drawing;
      const times = traces.map((trace) => millis(trace.start_unix_nano));
      const [first, last] = [Math.min(...times), Math.max(...times)];
      const logOf = (ns: number) => Math.log10(Math.max(ns, 1e3));
      const logs = traces.map((trace) => logOf(trace.duration_ns));
      const [low, high] = [Math.floor(Math.min(...logs)), Math.max(Math.ceil(Math.max(...logs)), Math.floor(Math.min(...logs)) + 1)];
      const yOf = (log: number) => TOP + (1 - (log - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
      context.font = `11px ${token('--font')}`;
      context.textAlign = 'right';
      context.textBaseline = 'middle';
      for (let power = low; power <= high; power += 1) {
        context.fillStyle = token('--line');
        context.fillRect(LEFT, Math.round(yOf(power)), width - LEFT - RIGHT, 1);
        context.fillStyle = token('--muted');
        context.fillText(duration(10 ** power), LEFT - 8, yOf(power));
      }
      context.textBaseline = 'alphabetic';
      context.textAlign = 'left';
      context.fillText(moment(first), LEFT, HEIGHT - 5);
      context.textAlign = 'right';
      context.fillText(moment(last), width - RIGHT, HEIGHT - 5);
      const [plain, failed] = [token('--accent'), token('--error')];
      dots.current = traces.map((trace, at) => {
        const x = LEFT + 6 + (((times[at] ?? first) - first) / Math.max(1, last - first)) * (width - LEFT - RIGHT - 12);
        const y = yOf(logs[at] ?? low);
        context.beginPath();
        context.globalAlpha = 0.7;
        context.fillStyle = trace.error_count > 0 ? failed : plain;
        // Failed ones are squares: never colour alone.
        if (trace.error_count > 0) context.rect(x - 3, y - 3, 6, 6);
        else context.arc(x, y, 3.2, 0, 7);
        context.fill();
        return { x, y, trace };
      });
    };
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(element);
    return () => observer.disconnect();
  }, [traces]);
  const near = (event: React.MouseEvent): TraceSummary | null => {
    const box = event.currentTarget.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [found, best]: [TraceSummary | null, number] = [null, REACH];
    for (const dot of dots.current) {
      const distance = Math.hypot(dot.x - x, dot.y - y);
      if (distance < best) [found, best] = [dot.trace, distance];
    }
    return found;
  };
  return (
    <>
      <canvas
        ref={canvas}
        className="scatter"
        style={{ height: HEIGHT, cursor: hover ? 'pointer' : 'default' }}
        onClick={(event) => {
          const trace = near(event);
          if (trace) open(trace.trace_id);
        }}
        onPointerMove={(event) => {
          const trace = near(event);
          setHover(trace && { x: event.clientX, y: event.clientY, trace });
        }}
        onPointerLeave={() => setHover(null)}
        role="img"
        aria-label={`${traces.length} traces: duration over time; the table below lists them`}
      />
      {hover && (
        <div className="tip" style={{ left: Math.min(hover.x + 12, window.innerWidth - 300), top: hover.y + 14 }}>
          <b>{hover.trace.root?.service ?? '(root not received)'}</b> {hover.trace.root?.operation}
          <br />
          {duration(hover.trace.duration_ns)}{hover.trace.error_count > 0 && <span className="error">, {hover.trace.error_count} {hover.trace.error_count === 1 ? 'error' : 'errors'}</span>}
        </div>
      )}
    </>
  );
}
