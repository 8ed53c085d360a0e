import { useEffect, useMemo, useRef, useState } from 'react';
import type { TreeNode } from '../api/types';
import { serviceColour, token } from '../base/colour';
import { milliseconds, percent } from '../base/format';
import { type Block, blocks } from '../model/paths';
import { canvasOf, hatch } from './canvas';

const ROW = 20;
/** Levels drawn: a canvas has its bounds, and nobody reads further down. The table has the rest. */
const LEVELS = 100;

interface Properties {
  label: string;
  nodes: TreeNode[];
  /** What the width stands for; the same for icicles that are compared. */
  wholeMs: number;
  /** Says what a block's numbers are, after its name. */
  unit: string;
}

/** Blocks as wide as their time, callers above what they called. Own time is hatched where it is waiting for a call. */
export function Icicle({ label, nodes, wholeMs, unit }: Properties) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const placed = useMemo(() => blocks(nodes, wholeMs).filter((block) => block.node.depth < LEVELS), [nodes, wholeMs]);
  const rightOf = useMemo(() => nextOf(placed), [placed]);
  const isCut = placed.length < nodes.length;
  const [at, setAt] = useState<number | null>(null);
  const [tip, setTip] = useState({ x: 0, y: 0 });
  const depth = placed.reduce((most, block) => Math.max(most, block.node.depth + 1), 1);
  const height = depth * ROW + 1;
  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const draw = () => {
      const drawing = canvasOf(element, height);
      if (!drawing) return;
      const { context, width } = drawing;
      context.font = `11.5px ${token('--font')}`;
      context.textBaseline = 'middle';
      const [text, muted, critical, lines, ground] = [token('--text'), token('--muted'), token('--critical'), token('--hatch'), token('--ground')];
      for (const block of placed) {
        const [x, wide, y] = [block.left * width, block.width * width, block.node.depth * ROW];
        if (wide < 0.4) continue;
        context.fillStyle = serviceColour(block.node.service, block.node.is_call ? 0.3 : 0.55);
        context.fillRect(x, y, Math.max(0.5, wide - 1), ROW - 1);
        const own = (block.node.own_ms / Math.max(1e-9, block.node.total_ms)) * wide;
        const isWire = block.node.is_call && block.node.own_ms > 0 && wide > 3;
        if (isWire) {
          // The wire and the waiting for it: what no span of the callee explains.
          context.fillStyle = hatch(context, lines);
          context.fillRect(x + wide - own, y, Math.max(0, own - 1), ROW - 1);
        }
        const name = `${block.node.is_call ? '→ ' : ''}${block.node.operation}${block.node.calls > 1.5 ? ` ×${Number(block.node.calls.toFixed(1))}` : ''}`;
        const plain = isWire ? wide - own : wide;
        const room = (rightOf.get(block.number) ?? 1) * width - x - wide;
        const needed = context.measureText(name).width;
        // Beside the block where it has no room for its name, or is hatched.
        if (wide >= 1.5 && needed > plain - 8 && room > Math.min(needed + 12, 90)) written(context, name, x + wide + 4, y, room - 12, muted);
        else if (plain > 34) written(context, name, x + 5, y, plain - 8, text);
        else if (wide > 48) {
          // On the hatching: text alone could not be read there.
          const back = Math.min(wide - 4, needed + 8);
          context.fillStyle = ground;
          context.globalAlpha = 0.8;
          context.fillRect(x + 1, y + 2, back, ROW - 5);
          context.globalAlpha = 1;
          written(context, name, x + 5, y, wide - 8, text);
        }
        if (block.number === at) {
          context.strokeStyle = critical;
          context.lineWidth = 1.5;
          context.strokeRect(x + 0.5, y + 0.5, Math.max(1, wide - 2), ROW - 2);
        }
      }
    };
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(element);
    return () => observer.disconnect();
  }, [placed, rightOf, height, at]);
  const find = (event: React.PointerEvent): Block | undefined => {
    const box = event.currentTarget.getBoundingClientRect();
    const [share, level] = [(event.clientX - box.left) / box.width, Math.floor((event.clientY - box.top) / ROW)];
    return placed.find((block) => block.node.depth === level && share >= block.left && share < block.left + block.width);
  };
  const step = (event: React.KeyboardEvent) => {
    const order = placed.filter((block) => block.width > 0);
    const index = order.findIndex((block) => block.number === at);
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const next = order[Math.min(order.length - 1, Math.max(0, index + by))];
    const box = event.currentTarget.getBoundingClientRect();
    if (next) {
      setAt(next.number);
      setTip({ x: box.left + next.left * box.width, y: box.top + (next.node.depth + 1) * ROW });
    }
  };
  const chosen = placed.find((block) => block.number === at);
  return (
    <div className="icicle">
      <canvas
        ref={canvas}
        style={{ height }}
        role="img"
        tabIndex={0}
        aria-label={`${label}; the table says the same`}
        onPointerMove={(event) => {
          const block = find(event);
          setAt(block?.number ?? null);
          setTip({ x: event.clientX, y: event.clientY + 14 });
        }}
        onPointerLeave={() => setAt(null)}
        onKeyDown={step}
        onBlur={() => setAt(null)}
      />
      {isCut && <p className="small muted">Only the first {LEVELS} levels are drawn.</p>}
      {chosen && (
        <div className="tip" role="status" style={{ left: Math.min(tip.x, window.innerWidth - 340), top: Math.min(tip.y, window.innerHeight - 90) }}>
          <b>{chosen.node.service}</b> {chosen.node.operation}
          <br />
          {milliseconds(chosen.node.total_ms)} {unit}, {percent(chosen.node.total_ms / Math.max(1e-9, wholeMs))} of the width; {milliseconds(chosen.node.own_ms)} {chosen.node.is_call ? 'wire and waiting' : 'its own'}; {Number(chosen.node.calls.toFixed(2))} {chosen.node.calls === 1 ? 'span' : 'spans'}
        </div>
      )}
    </div>
  );
}

/** Where the next block of the same level begins, by a block's number, as a part of the width. */
function nextOf(placed: Block[]): Map<number, number> {
  const found = new Map<number, number>();
  const last = new Map<number, number>();
  for (const block of placed) {
    const before = last.get(block.node.depth);
    if (before !== undefined) found.set(before, block.left);
    last.set(block.node.depth, block.number);
  }
  return found;
}

/** Letters of a name below which it says nothing. */
const LEAST = 4;

/** Writes as much of a text as there is room for. */
function written(context: CanvasRenderingContext2D, text: string, x: number, y: number, most: number, colour: string): void {
  let [low, high] = [0, text.length];
  const isWhole = context.measureText(text).width <= most;
  while (!isWhole && low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(`${text.slice(0, middle)}…`).width <= most) low = middle;
    else high = middle - 1;
  }
  context.fillStyle = colour;
  if (isWhole || low >= LEAST) context.fillText(isWhole ? text : `${text.slice(0, low)}…`, x, y + ROW / 2);
}

/** The icicle's twin for reading, copying, and screen readers. */
export function IcicleTable({ label, nodes, wholeMs, isOpen = false }: { label: string; nodes: TreeNode[]; wholeMs: number; isOpen?: boolean }) {
  return (
    <details className="small" open={isOpen}>
      <summary>As a table</summary>
      <table className="lines" aria-label={label}>
        <thead><tr><th>Call</th><th className="number">Spans</th><th className="number">Own</th><th className="number">With all below</th><th className="number">Share</th></tr></thead>
        <tbody>
          {nodes.slice(0, 300).map((node, number) => (
            <tr key={number}>
              <td style={{ paddingLeft: node.depth * 14 }}><i className="dot" style={{ background: serviceColour(node.service) }} aria-hidden="true" /> {node.service} {node.is_call ? '→ ' : ''}{node.operation}</td>
              <td className="number">{Number(node.calls.toFixed(2))}</td>
              <td className="number">{milliseconds(node.own_ms)}</td>
              <td className="number">{milliseconds(node.total_ms)}</td>
              <td className="number">{percent(node.total_ms / Math.max(1e-9, wholeMs))}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
