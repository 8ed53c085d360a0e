import { useMemo, useState } from 'react';
import { type Measure, pathTree } from '../../model/paths';
import type { TraceModel } from '../../model/trace';
import { Icicle, IcicleTable } from '../../widgets/Icicle';
import { milliseconds } from '../../base/format';

const MEASURES: [Measure, string, string][] = [
  ['critical', 'Waiting', 'on the critical path'],
  ['work', 'All work', 'of all spans’ own time'],
];

/** Calls of the same way from the root as one block. */
export function Flame({ model }: { model: TraceModel }) {
  const [measure, setMeasure] = useState<Measure>('critical');
  const nodes = useMemo(() => pathTree(model, measure), [model, measure]);
  const whole = nodes.reduce((sum, node) => sum + node.own_ms, 0);
  const unit = MEASURES.find(([one]) => one === measure)?.[2] ?? '';
  return (
    <div className="trace-view">
      <div className="controls">
        <div className="segmented" role="group" aria-label="Measure">
          {MEASURES.map(([one, name]) => <button key={one} type="button" aria-pressed={measure === one} onClick={() => setMeasure(one)}>{name}</button>)}
        </div>
        <span className="muted small">the whole width is {milliseconds(whole)} {unit}; calls by the same way are one block</span>
      </div>
      <Icicle label="Flame graph" nodes={nodes} wholeMs={whole} unit={unit} />
      <IcicleTable label="Flame graph as a table" nodes={nodes} wholeMs={whole} isOpen />
    </div>
  );
}
