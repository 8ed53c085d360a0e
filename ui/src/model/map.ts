import type { ElkNode } from 'elkjs/lib/elk-api.js';
import type { MapAnswer, MapEdge, MapNode } from '../api/types';

export const NODE_WIDTH = 148;
export const NODE_HEIGHT = 36;

export interface Placed {
  x: number;
  y: number;
}

export interface Layout {
  nodes: Map<string, Placed>;
  /** Points of each edge's line, by `from to`. */
  edges: Map<string, Placed[]>;
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

/** What is asked of the layout: kept apart from how it is drawn. */
export function graphOf(answer: MapAnswer): ElkNode {
  return {
    id: 'map',
    layoutOptions: {
      'elk.algorithm': 'layered',
      'elk.direction': 'RIGHT',
      'elk.layered.spacing.nodeNodeBetweenLayers': answer.nodes.length > 30 ? '64' : '96',
      'elk.spacing.nodeNode': answer.nodes.length > 30 ? '10' : '18',
      'elk.aspectRatio': '1.4',
      'elk.spacing.edgeNode': '12',
      'elk.spacing.edgeEdge': '6',
      'elk.edgeRouting': 'SPLINES',
      'elk.layered.nodePlacement.strategy': 'BRANDES_KOEPF',
      'elk.spacing.componentComponent': '40',
    },
    children: answer.nodes.map((node) => ({ id: node.id, width: NODE_WIDTH, height: NODE_HEIGHT })),
    edges: answer.edges.filter((edge) => edge.from !== edge.to).map((edge) => ({ id: edgeKey(edge), sources: [edge.from], targets: [edge.to] })),
  };
}

/** The costliest first. */
export function byCost<T extends MapNode | MapEdge>(items: T[]): T[] {
  return [...items].sort((a, b) => b.critical_ms - a.critical_ms || b.calls - a.calls);
}
