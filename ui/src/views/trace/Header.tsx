import type { Kinds, TraceHead } from '../../api/types';
import { serviceColour } from '../../base/colour';
import { clock, count, duration, percent } from '../../base/format';
import type { TraceModel } from '../../model/trace';
import type { TraceState } from '../../model/traceState';
import { Copy } from '../../widgets/Copy';
import { Link } from '../../widgets/Link';

const MODES: [string, string][] = [['', 'Spanwise'], ['jaeger', 'Jaeger'], ['crisp', 'CRISP'], ['elastic', 'Elastic']];
const VIEWS: [TraceState['view'], string, string][] = [['rows', 'Waterfall', ''], ['flame', 'Flame', 'f'], ['table', 'Totals', 't'], ['events', 'Events', ''], ['compare', 'Compare', 'x']];

interface Properties {
  trace: TraceHead;
  model: TraceModel;
  state: TraceState;
  set: (changes: Record<string, string | null>) => void;
  found: number;
  kinds?: Kinds;
  error?: Error;
  next: () => void;
  show: (place: number) => void;
  foldAll: () => void;
  unfoldAll: () => void;
}

/** What the trace is, how it stands among its kind, and how its time divides. */
export function Header({ trace, model, state, set, found, kinds, error, next, foldAll, unfoldAll }: Properties) {
  const whole = trace.critical_path.by_service.reduce((sum, own) => sum + own.ns, 0);
  const among = kinds && kinds.entry.traces >= kinds.entry.need ? kinds.entry : null;
  const amongText = among && `among ${count(among.traces)} traces of this entry point${kinds?.complete ? '' : ', a fair sample'}`;
  return (
    <header className="trace-header">
      <div className="title">
        <h1>
          {trace.root ? <><i className="dot" style={{ background: serviceColour(trace.root.service) }} aria-hidden="true" /> {trace.root.service} <span className="operation">{trace.root.operation}</span></> : '(root not received)'}
        </h1>
        <span className="push">
          {trace.root?.entry && <Link className="quiet" href={`/entry/${encodeURIComponent(trace.root.service)}/${encodeURIComponent(trace.root.entry)}?window=all`}>All of its kind</Link>}
          <Copy text={trace.trace_id}>Copy id</Copy>
          <a className="quiet" href={`/api/spanwise/traces/${trace.trace_id}`}>JSON</a>
        </span>
      </div>
      <p className="facts-line">
        <b>{duration(trace.duration_ns)}</b>
        {among && <span className={among.percentile >= 95 ? 'chip warning' : 'chip'} title={amongText ?? undefined}>p{Math.min(99, Math.round(among.percentile))} of its kind, median {duration(among.p50_ns)}<span className="unseen">, {amongText}</span></span>}
        <span>{count(trace.span_count)} {trace.span_count === 1 ? 'span' : 'spans'}</span>
        <span>{trace.services.length} {trace.services.length === 1 ? 'service' : 'services'}</span>
        {trace.error_count > 0 && <span className="chip error">✕ {count(trace.error_count)} {trace.error_count === 1 ? 'error' : 'errors'}</span>}
        <span className="muted">{clock(trace.start_unix_nano)}</span>
        <code className="muted">{trace.trace_id}</code>
      </p>
      <div className="by-service" aria-label="Critical path by service">
        <div className="by-service-bar" aria-hidden="true">
          {trace.critical_path.by_service.map((own) => <i key={own.service} style={{ flexGrow: own.ns / Math.max(1, whole), background: serviceColour(own.service) }} title={`${own.service} ${duration(own.ns)}`} />)}
        </div>
        <ul>
          {trace.critical_path.by_service.slice(0, 8).map((own) => (
            <li key={own.service}>
              <button type="button" className="link" onClick={() => set({ find: own.service, view: null })} title={`Find spans of ${own.service}`}>
                <i className="dot" style={{ background: serviceColour(own.service) }} aria-hidden="true" />
                {own.service} <b>{duration(own.ns)}</b> <span className="muted">{percent(own.ns / Math.max(1, whole))}</span>
              </button>
            </li>
          ))}
          {trace.critical_path.by_service.length > 8 && <li className="muted">and {trace.critical_path.by_service.length - 8} more</li>}
        </ul>
      </div>
      <Clocks clocks={trace.clocks} />
      {error && <p className="error small" role="alert">{error.message}</p>}
      <div className="tools">
        <div className="segmented" role="group" aria-label="View">
          {VIEWS.map(([view, name, key]) => <button key={view} type="button" aria-pressed={state.view === view} title={key && `key ${key}`} onClick={() => set({ view: view === 'rows' ? null : view })}>{name}</button>)}
        </div>
        <input
          id="find"
          type="search"
          aria-label="Find in trace"
          placeholder="Find in trace"
          value={state.find}
          onChange={(event) => set({ find: event.target.value, view: null })}
          onKeyDown={(event) => {
            if (event.key === 'Enter') next();
            if (event.key === 'Escape') event.currentTarget.blur();
          }}
        />
        {state.find && <span className="muted small" role="status">{count(found)} {found === 1 ? 'span' : 'spans'}</span>}
        <span className="options">
          {(state.view === 'rows' || state.view === 'table') && (
            <label className="small" title="Beside a typical trace of its kind: outlines behind the bars, and numbers (key v)"><input type="checkbox" checked={state.hasGhosts} onChange={(event) => set({ typical: event.target.checked ? '1' : null })} /> typical trace</label>
          )}
          {state.view === 'rows' && (
            <>
              <label className="small"><input type="checkbox" checked={state.isCriticalOnly} onChange={(event) => set({ critical: event.target.checked ? '1' : null })} /> critical path only</label>
              {model.events.size > 0 && <label className="small"><input type="checkbox" checked={state.hasEvents} onChange={(event) => set({ events: event.target.checked ? '1' : null })} /> events</label>}
              <button type="button" className="quiet" onClick={foldAll}>Collapse all</button>
              <button type="button" className="quiet" onClick={unfoldAll}>Expand all</button>
            </>
          )}
          {(trace.clocks.impossible > 0 || trace.clocks.corrected || state.clocks) && (
            <label className="small" title="One offset for each pair of hosts, told from the traces around (key h)"><input type="checkbox" checked={state.clocks !== ''} onChange={(event) => set({ clocks: event.target.checked ? 'corrected' : null })} /> clocks set right</label>
          )}
          {state.mode && trace.critical_path.mode !== state.mode && <span className="chip warning">shown by the rule of {trace.critical_path.mode}</span>}
          <select aria-label="Critical path by the rule of" title="By whose rule the critical path is found" value={state.mode} onChange={(event) => set({ mode: event.target.value || null })}>
            {MODES.map(([value, name]) => <option key={name} value={value}>{name} path</option>)}
          </select>
        </span>
      </div>
    </header>
  );
}

/** What is known of the hosts' clocks, where they differ. */
function Clocks({ clocks }: { clocks: TraceHead['clocks'] }) {
  if (!clocks.corrected && clocks.impossible === 0) return null;
  const spans = `${count(clocks.impossible)} ${clocks.impossible === 1 ? 'span' : 'spans'}`;
  if (!clocks.corrected) return <p className="small soft" role="note">The times of {spans} cannot be true: clocks of hosts differ. They are shown as they were written.</p>;
  return (
    <p className="small soft" role="note">
      {clocks.hosts.length === 0 && `By ${count(clocks.traces)} traces around, these hosts’ clocks may agree: nothing was moved.`}
      {clocks.hosts.length > 0 && `Set right by ${count(clocks.traces)} traces around: `}
      {clocks.hosts.slice(0, 6).map((host, at) => (
        <span key={host.host}>{at > 0 && ', '}<b>{host.host}</b> {host.offset_ns > 0 ? '+' : '−'}{duration(Math.abs(host.offset_ns))}{!host.shared && ' (by this trace alone)'}</span>
      ))}
      {clocks.hosts.length > 6 && `, and ${clocks.hosts.length - 6} more hosts`}
      {clocks.impossible > 0 && `; the times of ${spans} still cannot be true`}
    </p>
  );
}
