import { spanDetails } from '../api/client';
import { useLoaded } from '../api/load';
import type { Span } from '../api/types';
import { duration } from '../base/format';

function Table({ title, values }: { title: string; values?: Record<string, unknown> }) {
  const entries = Object.entries(values ?? {});
  if (entries.length === 0) return null;
  return (
    <section>
      <h3>{title}</h3>
      <table className="attributes">
        <tbody>
          {entries.map(([key, value]) => (
            <tr key={key}>
              <th>{key}</th>
              <td>{typeof value === 'string' ? value : JSON.stringify(value)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** Everything that is known of one span. */
export function Details({ traceId, span, close }: { traceId: string; span: Span; close: () => void }) {
  const loaded = useLoaded(`${traceId}/${span.span_id}`, (signal) => spanDetails(traceId, span.span_id, signal));
  const full = loaded.value?.span_id === span.span_id ? loaded.value : undefined;
  return (
    <aside className="details" aria-label="Span details">
      <header>
        <h2>{span.name || '(no name)'}</h2>
        <button type="button" onClick={close} aria-label="Close details">×</button>
      </header>
      <p>
        {span.service} · {span.kind} · {duration(span.duration_ns)} · self {duration(span.self_ns)}
        {span.critical_ns > 0 && ` · on the critical path for ${duration(span.critical_ns)}`}
      </p>
      {span.status === 'error' && <p className="error">error{full?.status_message ? `: ${full.status_message}` : ''}</p>}
      {span.flags.length > 0 && <p className="muted">{span.flags.join(', ')}</p>}
      <p>
        <code>{span.span_id}</code>{' '}
        <button type="button" onClick={() => void navigator.clipboard.writeText(span.span_id)}>Copy id</button>
      </p>
      {loaded.error && <p className="error">{loaded.error.message}</p>}
      {full && (
        <>
          <Table title="Attributes" values={full.attributes} />
          {(full.events ?? []).map((event, at) => (
            <Table key={at} title={`Event: ${event.name}`} values={{ ...event.attributes, ...(event.time_ns !== undefined && { 'after start': duration(event.time_ns - span.start_ns) }) }} />
          ))}
          {(full.links ?? []).map((link, at) => (
            <p key={at}>Link to <a href={`/trace/${link.trace_id}`}>{link.trace_id}</a> span {link.span_id}</p>
          ))}
          <Table title="Resource" values={full.resource} />
          {full.scope?.name && <p className="muted">Scope {full.scope.name} {full.scope.version}</p>}
          <details>
            <summary>JSON</summary>
            <pre>{JSON.stringify(full, null, 2)}</pre>
          </details>
        </>
      )}
    </aside>
  );
}
