import type { MapAnswer } from '../api/types';
import { graphOf, type Layout } from '../model/map';

/** Lays the map out in a worker, which is loaded when it is first asked for. */
export async function layoutMap(answer: MapAnswer): Promise<Layout> {
  const [{ default: ELK }, { default: workerUrl }] = await Promise.all([import('elkjs/lib/elk-api.js'), import('elkjs/lib/elk-worker.min.js?url')]);
  const elk = new ELK({ workerFactory: () => new Worker(workerUrl) });
  try {
    const done = await elk.layout(graphOf(answer));
    const layout: Layout = { nodes: new Map(), edges: new Map(), width: done.width ?? 0, height: done.height ?? 0 };
    for (const node of done.children ?? []) layout.nodes.set(node.id, { x: node.x ?? 0, y: node.y ?? 0 });
    for (const edge of done.edges ?? []) {
      const section = edge.sections?.[0];
      if (section) layout.edges.set(edge.id, [section.startPoint, ...(section.bendPoints ?? []), section.endPoint]);
    }
    return layout;
  } finally {
    elk.terminateWorker();
  }
}
