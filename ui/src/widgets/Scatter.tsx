import { useEffect, useRef } from 'react';
import type { TraceSummary } from '../api/types';
import { token } from '../base/colour';
import { duration, millis, moment } from '../base/format';
import { canvasOf } from './canvas';

const HEIGHT = 140;
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 8, 8, 20];

/** Duration over time, one dot a trace; the list below is its text twin. */
export function Scatter({ traces, open }: { traces: TraceSummary[]; open: (id: string) => void }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const dots = useRef<{ x: number; y: number; id: string }[]>([]);
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
        return { x, y, id: trace.trace_id };
      });
    };
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(element);
    return () => observer.disconnect();
  }, [traces]);
  const pick = (event: React.MouseEvent) => {
    const box = event.currentTarget.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const near = dots.current.map((dot) => ({ dot, distance: Math.hypot(dot.x - x, dot.y - y) })).sort((a, b) => a.distance - b.distance)[0];
    if (near && near.distance < 12) open(near.dot.id);
  };
  return <canvas ref={canvas} className="scatter" style={{ height: HEIGHT }} onClick={pick} role="img" aria-label={`${traces.length} traces: duration over time; the table below lists them`} />;
}
