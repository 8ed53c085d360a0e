import { useMemo } from 'react';
import { useLoaded } from '../../api/load';
import type { TraceHead } from '../../api/types';
import { duration, milliseconds, shortId, signed } from '../../base/format';
import { compareTrees, type PathDifference, pathTree } from '../../model/paths';
import type { TraceModel } from '../../model/trace';
import type { TraceState } from '../../model/traceState';
import { Icicle } from '../../widgets/Icicle';
import { Link } from '../../widgets/Link';
import { Service } from '../../widgets/Service';
import { Ghost } from '../../widgets/States';
import { openTrace } from './openTrace';

interface Properties {
  trace: TraceHead;
  model: TraceModel;
  state: TraceState;
  typical: { trace_id: string; duration_ns: number } | null;
  isLoading: boolean;
  set: (changes: Record<string, string | null>) => void;
}

/** This trace against another: an ordinary one of its kind, or one that the reader names. */
export function Compare({ trace, model, state, typical, isLoading, set }: Properties) {
  const id = state.other || typical?.trace_id || '';
  const other = useLoaded(`compare ${id} ${state.mode} ${state.clocks}`, (signal) => (id ? openTrace(id, state, signal) : Promise.resolve(undefined)));
  const [a, b] = useMemo(() => [pathTree(model, 'critical'), other.value ? pathTree(other.value.model, 'critical') : []], [model, other.value]);
  const lines = useMemo(() => compareTrees(a, b).sort((x, y) => change(y) - change(x)), [a, b]);
  const whole = Math.max(trace.duration_ns, other.value?.head.duration_ns ?? 0) / 1e6;
  const most = Math.max(1e-9, ...lines.map((line) => Math.abs(change(line))));
  return (
    <div className="trace-view">
      <form
        className="controls"
        onSubmit={(event) => {
          event.preventDefault();
          const wanted = String(new FormData(event.currentTarget).get('with') ?? '').trim().toLowerCase();
          if (/^[0-9a-f]{1,32}$/.test(wanted)) set({ with: wanted.padStart(32, '0') });
        }}
      >
        <label className="small">Compare with trace <input name="with" key={id} defaultValue={id} size={36} className="mono" placeholder="trace id" /></label>
        <button type="submit">Compare</button>
        {state.other && typical && <button type="button" className="quiet" onClick={() => set({ with: null })}>An ordinary one of its kind</button>}
        {!state.other && typical && <span className="muted small">the median of its kind</span>}
      </form>
      {!id && !isLoading && <p className="soft">There are not enough traces of this entry point to name an ordinary one. Paste another trace’s id.</p>}
      {other.error && <p className="error" role="alert">{other.error.message}</p>}
      {((id && !other.value && !other.error) || (!id && isLoading)) && <Ghost lines={8} />}
      {id && other.value && (
        <>
          <h2>This trace, {duration(trace.duration_ns)}</h2>
          <Icicle label="Critical path of this trace" nodes={a} wholeMs={whole} unit="on the critical path" />
          <h2 style={{ marginTop: 12 }}><Link href={`/trace/${id}`}>{shortId(id)}</Link>, {duration(other.value.head.duration_ns)}, at the same scale</h2>
          <Icicle label="Critical path of the other trace" nodes={b} wholeMs={whole} unit="on the critical path" />
          <h2 style={{ marginTop: 16 }}>What differs: {signed(trace.duration_ns - other.value.head.duration_ns)} in all, the sum of these</h2>
          <table className="lines" aria-label="Differences">
            <thead><tr><th>Call</th><th className="number">Spans here</th><th className="number">There</th><th className="number">Waiting here</th><th className="number">There</th><th className="number">Difference</th><th style={{ width: 180 }}><span className="unseen">Difference as a bar</span></th></tr></thead>
            <tbody>
              {lines.slice(0, 100).map((line) => (
                <tr key={line.key}>
                  <td><Service name={line.service} /> {line.operation} {!line.b && <span className="chip accent">only here</span>}{!line.a && <span className="chip">only there</span>}</td>
                  <td className="number">{line.a?.calls ?? '–'}</td>
                  <td className="number">{line.b?.calls ?? '–'}</td>
                  <td className="number">{line.a ? milliseconds(line.a.ownMs) : '–'}</td>
                  <td className="number">{line.b ? milliseconds(line.b.ownMs) : '–'}</td>
                  <td className="number">{signed(change(line) * 1e6)}</td>
                  <td><Delta share={change(line) / most} /></td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
    </div>
  );
}

const change = (line: PathDifference): number => (line.a?.ownMs ?? 0) - (line.b?.ownMs ?? 0);

function Delta({ share }: { share: number }) {
  const width = Math.abs(share) * 50;
  return <div className="delta" aria-hidden="true"><i className={share > 0 ? 'more' : 'less'} style={{ width: `${width}%`, left: share > 0 ? '50%' : `${50 - width}%` }} /></div>;
}
