import type { ElkNode } from 'elkjs/lib/elk-api.js';
import type { MapAnswer, MapEdge, MapNode } from '../api/types';

export const NODE_WIDTH = 166;
export const NODE_HEIGHT = 36;

export interface Placed {
  x: number;
  y: number;
}

export interface Layout {
  nodes: Map<string, Placed>;
  /** Points of each edge's line, by `from to`. */
  edges: Map<string, Placed[]>;
  /** Nodes beside the others that many call: lines to them are drawn faint. */
  hubs: Set<string>;
  width: number;
  height: number;
}

export const edgeKey = (edge: { from: string; to: string }): string => `${edge.from}\u0000${edge.to}`;

/** Width of an edge's line: its area of time, so that the eye adds up right; never too thin to be seen. */
export function strokeOf(criticalMs: number, mostMs: number): number {
  return 1 + Math.sqrt(Math.max(0, criticalMs) / Math.max(1e-9, mostMs)) * 11;
}

/** Nodes that one may reach from a node, and those from which it may be reached, with itself. */
export function related(answer: MapAnswer, id: string): Set<string> {
  const found = new Set([id]);
  for (const [from, to] of [['from', 'to'], ['to', 'from']] as const) {
    const open = [id];
    const seen = new Set(open);
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      for (const edge of answer.edges) {
        if (edge[from] !== next || seen.has(edge[to])) continue;
        seen.add(edge[to]);
        found.add(edge[to]);
        open.push(edge[to]);
      }
    }
  }
  return found;
}

/** Nodes from which on a map is a crowd. */
const CROWD = 30;
/** Callers that make a hub of a node. */
const HUB_CALLERS = 8;

/**
 * In a crowd, what many call and what calls nobody: a database, as a rule. Room for a line from everywhere to it would be
 * most of the picture, and what the lines say is that everybody calls it.
 */
export function hubsOf(answer: MapAnswer): Set<string> {
  if (answer.nodes.length <= CROWD) return new Set();
  const callers = new Map<string, number>();
  for (const edge of answer.edges) if (edge.from !== edge.to) callers.set(edge.to, (callers.get(edge.to) ?? 0) + 1);
  const calling = new Set(answer.edges.map((edge) => edge.from));
  return new Set(answer.nodes.filter((node) => !calling.has(node.id) && (callers.get(node.id) ?? 0) >= HUB_CALLERS).map((node) => node.id));
}

/** Puts hubs in a column beside a layout of all others, at the height of those who call them. */
export function withHubs(answer: MapAnswer, layout: Layout): Layout {
  const { hubs, nodes, edges } = layout;
  if (hubs.size === 0) return layout;
  const left = layout.width + 110;
  const wanted = [...hubs].map((id) => {
    const heights = answer.edges.filter((edge) => edge.to === id).map((edge) => nodes.get(edge.from)?.y ?? 0);
    return { id, y: heights.reduce((sum, y) => sum + y, 0) / Math.max(1, heights.length) };
  });
  let free = 0;
  for (const { id, y } of wanted.sort((a, b) => a.y - b.y)) {
    const top = Math.max(y, free);
    nodes.set(id, { x: left, y: top });
    free = top + NODE_HEIGHT + 24;
  }
  for (const edge of answer.edges) {
    const [from, to] = [nodes.get(edge.from), nodes.get(edge.to)];
    if (!hubs.has(edge.to) || !from || !to) continue;
    const [start, end] = [{ x: from.x + NODE_WIDTH, y: from.y + NODE_HEIGHT / 2 }, { x: to.x, y: to.y + NODE_HEIGHT / 2 }];
    edges.set(edgeKey(edge), [start, { x: start.x + (end.x - start.x) * 0.6, y: start.y }, { x: end.x - 100, y: end.y }, end]);
  }
  return { ...layout, width: left + NODE_WIDTH, height: Math.max(layout.height, free) };
}

/** Lines up to which it pays to look longer for a layout in which few of them cross. */
const FEW_LINES = 600;

/** The layouts that are tried, best of which is taken: in a crowd with the order of names as a guide too. */
export const triesOf = (answer: MapAnswer): boolean[] => (answer.nodes.length > CROWD && answer.edges.length <= FEW_LINES ? [false, true] : [false]);

/** How many pairs of lines cross, were they straight. */
export function crossings(lines: [Placed, Placed][]): number {
  const side = (a: Placed, b: Placed, at: Placed) => (b.x - a.x) * (at.y - a.y) - (b.y - a.y) * (at.x - a.x);
  let found = 0;
  lines.forEach(([a, b], number) => {
    for (let other = 0; other < number; other += 1) {
      const [c, d] = lines[other] ?? [a, b];
      if (side(a, b, c) * side(a, b, d) < 0 && side(c, d, a) * side(c, d, b) < 0) found += 1;
    }
  });
  return found;
}

/** What is asked of the layout: kept apart from how it is drawn. */
export function graphOf(answer: MapAnswer, hubs: Set<string>, isByName = false): ElkNode {
  return {
    id: 'map',
    layoutOptions: {
      'elk.algorithm': 'layered',
      'elk.direction': 'RIGHT',
      'elk.layered.spacing.nodeNodeBetweenLayers': answer.nodes.length > CROWD ? '54' : '96',
      'elk.spacing.nodeNode': answer.nodes.length > CROWD ? '24' : '18',
      'elk.aspectRatio': '1.4',
      'elk.spacing.edgeNode': '12',
      'elk.spacing.edgeEdge': '6',
      'elk.edgeRouting': 'SPLINES',
      'elk.layered.nodePlacement.strategy': 'BRANDES_KOEPF',
      'elk.spacing.componentComponent': '40',
      ...(answer.edges.length <= FEW_LINES && { 'elk.layered.thoroughness': '40' }),
      ...(isByName && { 'elk.layered.considerModelOrder.strategy': 'NODES_AND_EDGES' }),
    },
    children: answer.nodes.filter((node) => !hubs.has(node.id)).map((node) => ({ id: node.id, width: NODE_WIDTH, height: NODE_HEIGHT })),
    edges: answer.edges.filter((edge) => edge.from !== edge.to && !hubs.has(edge.to)).map((edge) => ({ id: edgeKey(edge), sources: [edge.from], targets: [edge.to] })),
  };
}

/** The costliest first. */
export function byCost<T extends MapNode | MapEdge>(items: T[]): T[] {
  return [...items].sort((a, b) => b.critical_ms - a.critical_ms || b.calls - a.calls);
}
