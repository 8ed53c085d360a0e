import { useEffect, useRef } from 'react';
import type { TraceSummary } from '../api/types';
import { duration, millis } from '../base/format';

const HEIGHT = 130;

/** Duration over time, one dot a trace; the list below is its text twin. */
export function Scatter({ traces, open }: { traces: TraceSummary[]; open: (id: string) => void }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const dots = useRef<{ x: number; y: number; id: string }[]>([]);
  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext('2d');
    if (!element || !context || traces.length === 0) return;
    const draw = () => {
      const width = element.clientWidth;
      const scale = window.devicePixelRatio || 1;
      element.width = width * scale;
      element.height = HEIGHT * scale;
      context.setTransform(scale, 0, 0, scale, 0, 0);
      context.clearRect(0, 0, width, HEIGHT);
      const times = traces.map((trace) => millis(trace.start_unix_nano));
      const [first, last] = [Math.min(...times), Math.max(...times)];
      const longest = Math.max(...traces.map((trace) => trace.duration_ns), 1);
      const logOf = (ns: number) => Math.log10(Math.max(ns, 1e4)) - 4;
      const style = getComputedStyle(element);
      context.fillStyle = style.getPropertyValue('--muted');
      context.font = '11px system-ui';
      context.fillText(duration(longest), 4, 12);
      dots.current = traces.map((trace, at) => {
        const x = 60 + ((times[at] ?? first) - first) / Math.max(1, last - first) * (width - 76);
        const y = HEIGHT - 12 - (logOf(trace.duration_ns) / Math.max(0.1, logOf(longest))) * (HEIGHT - 28);
        context.beginPath();
        context.fillStyle = trace.error_count > 0 ? style.getPropertyValue('--error') : style.getPropertyValue('--accent');
        context.globalAlpha = 0.75;
        context.arc(x, y, 4, 0, 7);
        context.fill();
        return { x, y, id: trace.trace_id };
      });
      context.globalAlpha = 1;
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
  return <canvas ref={canvas} className="scatter" style={{ height: HEIGHT }} onClick={pick} role="img" aria-label={`${traces.length} traces: duration over time`} />;
}
