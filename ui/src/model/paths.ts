import type { TreeNode } from '../api/types';
import { isClient, operationOf, serviceOf, type TraceModel } from './trace';

export type Measure = 'critical' | 'work';

/**
 * Calls of the same way from the root added up: a tree in which every block is as wide as its time. By critical time the
 * root is as wide as the trace took; by work it is as wide as all spans' own time, however much ran at once.
 */
export function pathTree(model: TraceModel, measure: Measure): TreeNode[] {
  const own = measure === 'critical' ? model.critical : model.self;
  interface Path {
    node: TreeNode;
    children: Map<string, Path>;
  }
  const root: Path = { node: { depth: -1, service: '', operation: '', is_call: false, own_ms: 0, total_ms: 0, calls: 0 }, children: new Map() };
  const at: Path[] = new Array(model.count);
  for (let place = 0; place < model.count; place += 1) {
    const above = at[model.parent[place] ?? -1] ?? root;
    const key = `${model.service[place]} ${model.operation[place]} ${model.kind[place]}`;
    let path = above.children.get(key);
    if (!path) {
      path = {
        node: { depth: above.node.depth + 1, service: serviceOf(model, place), operation: operationOf(model, place), is_call: isClient(model, place), own_ms: 0, total_ms: 0, calls: 0 },
        children: new Map(),
      };
      above.children.set(key, path);
    }
    at[place] = path;
    path.node.calls += 1;
    path.node.own_ms += (own[place] ?? 0) / 1e6;
  }
  // Parents were made before their children.
  const order: Path[] = [];
  const open = [...root.children.values()];
  for (let next = open.pop(); next; next = open.pop()) {
    order.push(next);
    open.push(...next.children.values());
  }
  for (let number = order.length - 1; number >= 0; number -= 1) {
    const path = order[number];
    if (!path) continue;
    path.node.total_ms = path.node.own_ms;
    for (const child of path.children.values()) path.node.total_ms += child.node.total_ms;
  }
  const nodes: TreeNode[] = [];
  const stack = sorted(root.children.values());
  for (let next = stack.pop(); next; next = stack.pop()) {
    if (next.node.total_ms <= 0) continue;
    nodes.push(next.node);
    stack.push(...sorted(next.children.values()));
  }
  return nodes;
}

/** The costliest last, to be taken first from a stack. */
function sorted<T extends { node: TreeNode }>(paths: Iterable<T>): T[] {
  return [...paths].sort((a, b) => a.node.total_ms - b.node.total_ms);
}

export interface Block {
  node: TreeNode;
  /** As parts of the whole width. */
  left: number;
  width: number;
  number: number;
}

/** Places the nodes of a tree, given parents first, on a width that `wholeMs` fills. */
export function blocks(nodes: TreeNode[], wholeMs: number): Block[] {
  const placed: Block[] = [];
  const nextLeft: number[] = [0];
  nodes.forEach((node, number) => {
    const left = nextLeft[node.depth] ?? 0;
    const width = wholeMs > 0 ? node.total_ms / wholeMs : 0;
    placed.push({ node, left, width, number });
    nextLeft[node.depth] = left + width;
    nextLeft[node.depth + 1] = left;
    nextLeft.length = node.depth + 2;
  });
  return placed;
}

export interface PathDifference {
  key: string;
  depth: number;
  service: string;
  operation: string;
  a: { calls: number; ownMs: number } | null;
  b: { calls: number; ownMs: number } | null;
}

/** Two trees side by side: every way from the root that either has, in the order of the first, then the second's own. */
export function compareTrees(a: TreeNode[], b: TreeNode[]): PathDifference[] {
  const found = new Map<string, PathDifference>();
  const add = (nodes: TreeNode[], side: 'a' | 'b') => {
    const names: string[] = [];
    for (const node of nodes) {
      names.length = node.depth;
      names.push(`${node.service}\u0000${node.operation}\u0000${node.is_call}`);
      const key = names.join('\u0001');
      let line = found.get(key);
      if (!line) found.set(key, (line = { key, depth: node.depth, service: node.service, operation: node.operation, a: null, b: null }));
      line[side] = { calls: node.calls, ownMs: node.own_ms };
    }
  };
  add(a, 'a');
  add(b, 'b');
  return [...found.values()];
}
