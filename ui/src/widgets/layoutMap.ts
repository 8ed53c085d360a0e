import type { MapAnswer } from '../api/types';
import { graphOf, hubsOf, type Layout, withHubs } from '../model/map';

/** Lays the map out in a worker, which is loaded when it is first asked for. */
export async function layoutMap(answer: MapAnswer): Promise<Layout> {
  const [{ default: ELK }, { default: workerUrl }] = await Promise.all([import('elkjs/lib/elk-api.js'), import('elkjs/lib/elk-worker.min.js?url')]);
  const elk = new ELK({ workerFactory: () => new Worker(workerUrl) });
  try {
    const hubs = hubsOf(answer);
    const done = await elk.layout(graphOf(answer, hubs));
    const layout: Layout = { nodes: new Map(), edges: new Map(), hubs, width: done.width ?? 0, height: done.height ?? 0 };
    for (const node of done.children ?? []) layout.nodes.set(node.id, { x: node.x ?? 0, y: node.y ?? 0 });
    for (const edge of done.edges ?? []) {
      const section = edge.sections?.[0];
      if (section) layout.edges.set(edge.id, [section.startPoint, ...(section.bendPoints ?? []), section.endPoint]);
    }
    return withHubs(answer, layout);
  } finally {
    elk.terminateWorker();
  }
}
