import { useEffect, useMemo, useRef, useState } from 'react';
import type { MapAnswer, MapEdge, MapNode } from '../api/types';
import { serviceColour } from '../base/colour';
import { count, milliseconds, percent } from '../base/format';
import { edgeKey, type Layout, NODE_HEIGHT, NODE_WIDTH, type Placed, related, strokeOf } from '../model/map';

interface Properties {
  answer: MapAnswer;
  layout: Layout;
  chosen: string | null;
  choose: (id: string | null) => void;
  /** Milliseconds of all critical paths. */
  totalMs: number;
}

const SYMBOLS: Record<MapNode['kind'], string> = { service: '', store: '⛁ ', queue: '⇉ ', host: '◌ ' };

/** Who calls whom: an edge is as wide as the time that lies behind it on critical paths. Drag to move, wheel to zoom. */
export function MapPicture({ answer, layout, chosen, choose, totalMs }: Properties) {
  const frame = useRef<SVGSVGElement>(null);
  const [view, setView] = useState<{ x: number; y: number; scale: number } | null>(null);
  const [hover, setHover] = useState<{ edge: MapEdge; x: number; y: number } | null>(null);
  const near = useMemo(() => (chosen ? related(answer, chosen) : null), [answer, chosen]);
  const most = Math.max(1e-9, ...answer.edges.map((edge) => edge.critical_ms));
  const names = useMemo(() => new Map(answer.nodes.map((node) => [node.id, node.name])), [answer]);
  useEffect(() => {
    const box = frame.current?.getBoundingClientRect();
    if (!box) return;
    const scale = Math.min(1.15, (box.width - 60) / Math.max(1, layout.width), (box.height - 110) / Math.max(1, layout.height));
    setView({ scale, x: (box.width - layout.width * scale) / 2, y: (box.height - layout.height * scale) / 2 + 10 });
  }, [layout]);
  const zoom = useRef<(event: WheelEvent) => void>(() => {});
  zoom.current = (event) => {
    const box = frame.current?.getBoundingClientRect();
    if (!box || !view) return;
    event.preventDefault();
    const scale = Math.min(3, Math.max(0.05, view.scale * (event.deltaY > 0 ? 0.88 : 1.14)));
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    setView({ scale, x: x - ((x - view.x) / view.scale) * scale, y: y - ((y - view.y) / view.scale) * scale });
  };
  useEffect(() => {
    const element = frame.current;
    const onWheel = (event: WheelEvent) => zoom.current(event);
    element?.addEventListener('wheel', onWheel, { passive: false });
    return () => element?.removeEventListener('wheel', onWheel);
  }, []);
  const press = (event: React.PointerEvent) => {
    if (!view) return;
    const [x, y] = [event.clientX, event.clientY];
    const from = view;
    let isMoved = false;
    const move = (moved: PointerEvent) => {
      isMoved ||= Math.hypot(moved.clientX - x, moved.clientY - y) > 4;
      if (isMoved) setView({ ...from, x: from.x + moved.clientX - x, y: from.y + moved.clientY - y });
    };
    const done = (last: PointerEvent) => {
      window.removeEventListener('pointermove', move);
      window.removeEventListener('pointerup', done);
      if (!isMoved && last.target === frame.current) choose(null);
    };
    window.addEventListener('pointermove', move);
    window.addEventListener('pointerup', done);
  };
  return (
    <>
      <svg ref={frame} onPointerDown={press} role="group" aria-label="Service map; the list beside it says the same">
        {view && (
          <g transform={`translate(${view.x} ${view.y}) scale(${view.scale})`}>
            {answer.edges.map((edge) => {
              const points = layout.edges.get(edgeKey(edge));
              if (!points) return null;
              const failing = edge.errors / Math.max(1, edge.calls);
              const isHub = layout.hubs.has(edge.to);
              const isFaded = near !== null && (isHub ? edge.from !== chosen && edge.to !== chosen : !(near.has(edge.from) && near.has(edge.to)));
              const isSilent = answer.nodes.some((node) => node.id === edge.to && node.uninstrumented);
              const width = strokeOf(edge.critical_ms, most);
              // To what everybody calls: told when one asks.
              const isFaint = isHub && near === null && hover?.edge !== edge;
              return (
                <g key={edgeKey(edge)} className={isFaded ? 'faded' : isFaint ? 'faint' : undefined} onPointerMove={(event) => setHover({ edge, x: event.clientX, y: event.clientY })} onPointerLeave={() => setHover(null)}>
                  <path d={lineOf(points)} fill="none" stroke="transparent" strokeWidth={Math.max(12, width)} />
                  <path d={lineOf(points)} fill="none" stroke={failing >= 0.01 ? 'var(--error)' : 'var(--muted)'} strokeOpacity={failing >= 0.01 ? 0.75 : 0.42} strokeWidth={width} strokeLinecap="butt" strokeDasharray={isSilent ? `${Math.max(5, width)} ${Math.max(4, width * 0.7)}` : undefined} />
                  {head(points, width, failing >= 0.01)}
                </g>
              );
            })}
            {answer.nodes.map((node) => {
              const place = layout.nodes.get(node.id);
              return place && <Node key={node.id} {...{ node, place, choose, totalMs }} scale={view.scale} isChosen={node.id === chosen} isFaded={near !== null && !near.has(node.id)} />;
            })}
          </g>
        )}
      </svg>
      {hover && (
        <div className="tip" style={{ left: Math.min(hover.x + 12, window.innerWidth - 300), top: hover.y + 14 }}>
          <b>{names.get(hover.edge.from)} → {names.get(hover.edge.to)}</b>
          <br />
          {milliseconds(hover.edge.critical_ms)} on critical paths, {percent(hover.edge.critical_ms / Math.max(1e-9, totalMs))} of all waiting
          <br />
          {count(hover.edge.calls)} calls in {count(hover.edge.traces)} traces, p50 {milliseconds(hover.edge.p50_ms)}, p99 {milliseconds(hover.edge.p99_ms)}
          {hover.edge.errors > 0 && <><br /><span className="error">{count(hover.edge.errors)} failed ({percent(hover.edge.errors / hover.edge.calls)})</span></>}
        </div>
      )}
    </>
  );
}

interface NodeProperties {
  node: MapNode;
  place: Placed;
  choose: (id: string | null) => void;
  totalMs: number;
  scale: number;
  isChosen: boolean;
  isFaded: boolean;
}

function Node({ node, place, choose, totalMs, scale, isChosen, isFaded }: NodeProperties) {
  const share = node.critical_ms / Math.max(1e-9, totalMs);
  const failing = node.errors / Math.max(1, node.calls);
  const name = `${SYMBOLS[node.kind]}${node.name}`;
  const isSilent = node.kind !== 'service';
  // From afar the name alone is written, larger.
  const isFar = scale < 0.72;
  const size = isFar ? Math.min(27, 11.5 / scale) : 12;
  const most = Math.floor((NODE_WIDTH - 18) / (size * 0.58));
  const shown = name.length > most ? `${name.slice(0, most - 1)}…` : name;
  const says = `${percent(share)}${failing >= 0.001 ? ` · ✕ ${percent(failing)}` : ''} · p95 ${milliseconds(node.p95_ms)}`;
  return (
    <g
      className={['node', isChosen && 'chosen', isFaded && 'faded'].filter(Boolean).join(' ')}
      transform={`translate(${place.x} ${place.y})`}
      role="button"
      tabIndex={0}
      aria-pressed={isChosen}
      aria-label={`${shown} ${says}, ${node.kind}${node.uninstrumented ? ', sends no spans' : ''}, ${count(node.calls)} calls`}
      onClick={() => choose(isChosen ? null : node.id)}
      onKeyDown={(event) => {
        if (event.key === 'Enter' || event.key === ' ') {
          event.preventDefault();
          choose(isChosen ? null : node.id);
        }
      }}
    >
      <rect className="body" width={NODE_WIDTH} height={NODE_HEIGHT} rx={isSilent ? 12 : 5} stroke={failing >= 0.01 ? 'var(--error)' : node.uninstrumented ? 'var(--text-soft)' : 'var(--line-strong)'} strokeWidth={failing >= 0.01 ? 1.6 : 1.2} strokeDasharray={node.uninstrumented ? '5 4' : undefined} />
      <rect x={4} y={6} width={4} height={NODE_HEIGHT - 12} rx={2} fill={isSilent ? 'var(--line-strong)' : serviceColour(node.name)} />
      <text x={14} y={isFar ? NODE_HEIGHT / 2 + size * 0.36 : 15} style={{ fontSize: size }}>{shown}</text>{' '}
      {!isFar && <text x={14} y={28} className="sub">{says}</text>}
    </g>
  );
}

function lineOf(points: Placed[]): string {
  const [first, ...rest] = points;
  if (!first) return '';
  let line = `M${first.x} ${first.y}`;
  // The layout gives control points of cubic curves, three for each.
  for (let at = 0; at + 2 < rest.length; at += 3) {
    const [a, b, c] = [rest[at], rest[at + 1], rest[at + 2]];
    if (a && b && c) line += `C${a.x} ${a.y} ${b.x} ${b.y} ${c.x} ${c.y}`;
  }
  for (let at = rest.length - (rest.length % 3); at < rest.length; at += 1) line += `L${rest[at]?.x} ${rest[at]?.y}`;
  return line;
}

function head(points: Placed[], width: number, isFailing: boolean) {
  const end = points[points.length - 1];
  if (!end) return null;
  const size = 4 + width * 0.45;
  return <path d={`M${end.x} ${end.y} l${-size * 1.5} ${-size} v${size * 2}z`} fill={isFailing ? 'var(--error)' : 'var(--muted)'} />;
}
