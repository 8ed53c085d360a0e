import type { MapAnswer } from '../api/types';
import type { ElkNode } from 'elkjs/lib/elk-api.js';
import { crossings, graphOf, hubsOf, type Layout, type Placed, triesOf, withHubs } from '../model/map';

/** Lays the map out in a worker, which is loaded when it is first asked for. */
export async function layoutMap(answer: MapAnswer): Promise<Layout> {
  const [{ default: ELK }, { default: workerUrl }] = await Promise.all([import('elkjs/lib/elk-api.js'), import('elkjs/lib/elk-worker.min.js?url')]);
  const elk = new ELK({ workerFactory: () => new Worker(workerUrl) });
  try {
    const hubs = hubsOf(answer);
    const [first = false, ...others] = triesOf(answer);
    let done = await elk.layout(graphOf(answer, hubs, first));
    for (const isByName of others) {
      const next = await elk.layout(graphOf(answer, hubs, isByName));
      if (crossings(linesOf(next)) < crossings(linesOf(done))) done = next;
    }
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

function linesOf(graph: ElkNode): [Placed, Placed][] {
  return (graph.edges ?? []).flatMap((edge) => edge.sections?.slice(0, 1).map((section): [Placed, Placed] => [section.startPoint, section.endPoint]) ?? []);
}
