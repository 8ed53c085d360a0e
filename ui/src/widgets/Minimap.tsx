import { useEffect, useRef } from 'react';
import type { Trace } from '../api/types';
import { serviceColour } from '../base/format';

const HEIGHT = 56;

/** The whole trace at a glance; a click scrolls there. */
export function Minimap({ trace, scrollTo }: { trace: Trace; scrollTo: (share: number) => void }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext('2d');
    if (!element || !context) return;
    const width = element.clientWidth;
    element.width = width;
    element.height = HEIGHT;
    const total = Math.max(1, ...trace.spans.map((span) => span.start_ns + span.duration_ns));
    trace.spans.forEach((span, at) => {
      context.fillStyle = span.status === 'error' ? getComputedStyle(element).getPropertyValue('--error') : serviceColour(span.service);
      const y = (at / trace.spans.length) * HEIGHT;
      context.fillRect((span.start_ns / total) * width, y, Math.max(1, (span.duration_ns / total) * width), Math.max(1, HEIGHT / trace.spans.length));
    });
  }, [trace]);
  const pick = (event: React.MouseEvent) => {
    const box = event.currentTarget.getBoundingClientRect();
    scrollTo((event.clientY - box.top) / box.height);
  };
  return <canvas ref={canvas} className="minimap" style={{ height: HEIGHT }} onClick={pick} aria-label="Overview of the trace" role="img" />;
}
