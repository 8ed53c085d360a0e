import { useEffect, useMemo, useRef, useState } from 'react';
import type { HeatmapAnswer } from '../api/types';
import { token } from '../base/colour';
import { count, duration, many, millis, moment } from '../base/format';
import { canvasOf } from './canvas';

const HEIGHT = 260;
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 10, 6, 22];

/** Part of a heatmap, in columns and rows, both ends included. */
export interface Box {
  fromColumn: number;
  toColumn: number;
  fromRow: number;
  toRow: number;
}

interface Properties {
  answer: HeatmapAnswer;
  box: Box | null;
  /** Left out where nothing can be chosen. */
  choose?: (box: Box | null) => void;
  open: (trace: string) => void;
}

/** How many traces started when and took how long. Drag to choose a part; a click opens an example. */
export function Heatmap({ answer, box, choose, open }: Properties) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [drag, setDrag] = useState<Box | null>(null);
  const [hover, setHover] = useState<{ x: number; y: number; column: number; row: number } | null>(null);
  const [at, setAt] = useState<{ column: number; row: number } | null>(null);
  const rows = answer.edges_ns.length - 1;
  const cells = useMemo(() => new Map(answer.cells.map((cell) => [`${cell[0]} ${cell[1]}`, cell])), [answer]);
  const shown = drag ?? box;
  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const draw = () => {
      const drawing = canvasOf(element, HEIGHT);
      if (!drawing) return;
      const { context, width } = drawing;
      const [wide, high] = [(width - LEFT - RIGHT) / answer.columns, (HEIGHT - TOP - BOTTOM) / rows];
      context.font = `11px ${token('--font')}`;
      context.fillStyle = token('--muted');
      context.textAlign = 'right';
      context.textBaseline = 'middle';
      for (let row = 0; row <= rows; row += Math.max(1, Math.round(rows / 6))) {
        const y = HEIGHT - BOTTOM - row * high;
        context.fillText(duration(answer.edges_ns[row] ?? 0), LEFT - 8, Math.max(8, y));
        context.fillRect(LEFT - 4, Math.round(y), 4, 1);
      }
      context.textBaseline = 'alphabetic';
      context.textAlign = 'left';
      context.fillText(moment(millis(answer.from_unix_nano)), LEFT, HEIGHT - 6);
      context.textAlign = 'right';
      context.fillText(moment(millis(answer.to_unix_nano)), width - RIGHT, HEIGHT - 6);
      const most = Math.log(1 + Math.max(1, ...answer.cells.map((cell) => cell[2])));
      const [low, deep, failed] = [token('--heat-low'), token('--heat-high'), token('--error')];
      for (const [column, row, traces, errors] of answer.cells) {
        const [x, y] = [LEFT + column * wide, HEIGHT - BOTTOM - (row + 1) * high];
        context.fillStyle = `color-mix(in oklch, ${deep} ${Math.round((Math.log(1 + traces) / most) * 100)}%, ${low})`;
        context.fillRect(x, y, Math.max(1, wide - 0.6), Math.max(1, high - 0.6));
        if (errors > 0) {
          // A mark in the corner, as large as the share that failed.
          const size = Math.max(2, Math.min(wide, high) * Math.sqrt(errors / traces));
          context.fillStyle = failed;
          context.fillRect(x, y, Math.min(size, wide - 0.6), Math.min(size, high - 0.6));
        }
      }
      const outline = (part: Box, colour: string) => {
        const [x, y] = [LEFT + part.fromColumn * wide, HEIGHT - BOTTOM - (part.toRow + 1) * high];
        const [w, h] = [(part.toColumn - part.fromColumn + 1) * wide, (part.toRow - part.fromRow + 1) * high];
        context.fillStyle = colour;
        context.globalAlpha = 0.08;
        context.fillRect(x, y, w, h);
        context.globalAlpha = 1;
        context.strokeStyle = colour;
        context.lineWidth = 1.5;
        context.strokeRect(x, y, w, h);
      };
      if (shown) outline(shown, token('--critical'));
      if (at) outline({ fromColumn: at.column, toColumn: at.column, fromRow: at.row, toRow: at.row }, token('--accent'));
    };
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(element);
    return () => observer.disconnect();
  }, [answer, rows, shown, at]);
  const cellAt = (event: { clientX: number; clientY: number }) => {
    const around = canvas.current?.getBoundingClientRect();
    if (!around) return null;
    const column = Math.floor(((event.clientX - around.left - LEFT) / (around.width - LEFT - RIGHT)) * answer.columns);
    const row = Math.floor(((around.bottom - BOTTOM - event.clientY) / (HEIGHT - TOP - BOTTOM)) * rows);
    return { column: Math.min(answer.columns - 1, Math.max(0, column)), row: Math.min(rows - 1, Math.max(0, row)) };
  };
  const between = (a: { column: number; row: number }, b: { column: number; row: number }): Box => ({
    fromColumn: Math.min(a.column, b.column), toColumn: Math.max(a.column, b.column), fromRow: Math.min(a.row, b.row), toRow: Math.max(a.row, b.row),
  });
  const press = (event: React.PointerEvent) => {
    const from = cellAt(event);
    if (!from) return;
    event.preventDefault();
    let last: Box | null = null;
    const move = (moved: PointerEvent) => {
      const to = cellAt(moved);
      // A hand that trembles is not drawing a box.
      const isFar = last !== null || Math.hypot(moved.clientX - event.clientX, moved.clientY - event.clientY) > 4;
      if (!to || !choose || !isFar) return;
      last = between(from, to);
      setDrag(last);
    };
    const done = () => {
      window.removeEventListener('pointermove', move);
      window.removeEventListener('pointerup', done);
      setDrag(null);
      if (last && choose) choose(last);
      else {
        const example = cells.get(`${from.column} ${from.row}`)?.[4];
        if (example) open(example);
        else if (choose) choose(null);
      }
    };
    window.addEventListener('pointermove', move);
    window.addEventListener('pointerup', done);
  };
  const onKey = (event: React.KeyboardEvent) => {
    const start = at ?? { column: answer.cells[0]?.[0] ?? 0, row: answer.cells[0]?.[1] ?? 0 };
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (by) {
      event.preventDefault();
      event.stopPropagation();
      const next = { column: Math.min(answer.columns - 1, Math.max(0, start.column + (by[0] ?? 0))), row: Math.min(rows - 1, Math.max(0, start.row + (by[1] ?? 0))) };
      setAt(next);
      // With Shift the box grows to here.
      if (event.shiftKey && choose) choose(between(box ? { column: box.fromColumn, row: box.fromRow } : start, next));
    }
    if (event.key === 'Enter') {
      const example = cells.get(`${start.column} ${start.row}`)?.[4];
      if (example) open(example);
    }
    if (event.key === 'Escape' && choose) choose(null);
  };
  const under = hover && cells.get(`${hover.column} ${hover.row}`);
  return (
    <div className="heatmap">
      <canvas
        ref={canvas}
        style={{ height: HEIGHT, cursor: choose ? 'crosshair' : 'pointer' }}
        role="img"
        tabIndex={0}
        aria-label={`${many(answer.traces, 'trace')}: duration over time. Arrow keys move, Enter opens an example${choose ? ', Shift with arrows chooses a box' : ''}.`}
        onPointerDown={press}
        onPointerMove={(event) => {
          const cell = cellAt(event);
          setHover(cell && { ...cell, x: event.clientX, y: event.clientY });
        }}
        onPointerLeave={() => setHover(null)}
        onKeyDown={onKey}
        onBlur={() => setAt(null)}
      />
      {under && hover && !drag && (
        <div className="tip" style={{ left: Math.min(hover.x + 12, window.innerWidth - 240), top: hover.y + 14 }}>
          <b>{count(under[2])} {under[2] === 1 ? 'trace' : 'traces'}</b>{under[3] > 0 && <span className="error">, {count(under[3])} failed</span>}
          <br />
          {duration(answer.edges_ns[hover.row] ?? 0)} – {duration(answer.edges_ns[hover.row + 1] ?? 0)}
        </div>
      )}
    </div>
  );
}
