import { useEffect, useRef } from 'react';
import type { Finding, Span } from '../api/types';
import { serviceColour } from '../base/colour';
import { duration, sentence, signed } from '../base/format';
import { address } from '../base/location';
import { type Standing, standingText } from '../model/kinds';
import { type LedgerLine, NO_TIME } from '../model/trace';
import { Copy } from './Copy';
import { Link } from './Link';
import { Ghost } from './States';
import { Service } from './Service';

export interface Known {
  id: string;
  service: string;
  name: string;
  operation: string;
  kind: string;
  durationNs: number;
  selfNs: number;
  criticalNs: number;
  startNs: number;
  failed: boolean;
  message?: string;
  flags: string[];
  ledger?: LedgerLine;
  queue: { other: number; ns: number; isProducer: boolean; name: string }[];
  among: Standing | null;
  findings: Finding[];
  /** How long its counterpart in the typical trace took; null without one, nothing where none is shown. */
  typicalNs?: number | null;
}

interface Properties {
  known: Known;
  full?: Span;
  error?: Error;
  close: () => void;
  goTo: (place: number) => void;
}

/** Everything that is known of one span. */
export function Details({ known, full, error, close, goTo }: Properties) {
  const { ledger } = known;
  const server = ledger?.server;
  const sheet = useRef<HTMLElement>(null);
  useEffect(() => {
    // On a narrow page it lies over what is below: the rows go up, beside what is told of them.
    if (sheet.current && getComputedStyle(sheet.current).position === 'fixed') sheet.current.previousElementSibling?.scrollIntoView();
  }, []);
  return (
    <aside ref={sheet} className="details" aria-label="Span details">
      <header>
        <h2>{known.name || '(no name)'}</h2>
        <button type="button" className="quiet" onClick={close} aria-label="Close details">✕</button>
      </header>
      <p className="meta"><Service name={known.service} /> <span className="chip">{known.kind}</span> {known.failed && <span className="chip error">✕ error</span>}{known.flags.map((flag) => <span key={flag} className="chip warning">{flag.replace('_', ' ')}</span>)}</p>
      <dl className="facts">
        <div><dt>Duration</dt><dd>{duration(known.durationNs)}</dd></div>
        <div><dt>Own time</dt><dd>{duration(known.selfNs)}</dd></div>
        <div><dt>Critical path</dt><dd>{known.criticalNs > 0 ? duration(known.criticalNs) : 'not on it'}</dd></div>
        <div><dt>Starts at</dt><dd>{known.flags.includes(NO_TIME) ? 'not told' : duration(known.startNs)}</dd></div>
      </dl>
      {known.among && <p className="small soft">{sentence(`${standingText(known.among)}; their median is ${duration(known.among.medianNs)}`)}</p>}
      {known.typicalNs !== undefined && <p className="small soft">{known.typicalNs === null ? 'The typical trace has no such span.' : <>In the typical trace {duration(known.typicalNs)}: <b>{signed(known.durationNs - known.typicalNs)}</b> here.</>}</p>}
      {(known.message || full?.status_message) && <p className="error message">{known.message || full?.status_message}</p>}
      {known.findings.map((finding) => <p key={finding.id} className="finding-line">{finding.title}</p>)}
      {ledger && <LedgerBar known={known} ledger={ledger} />}
      {server !== null && server !== undefined && <p className="small"><button type="button" className="link" onClick={() => goTo(server)}>Go to the answering span</button></p>}
      {known.queue.slice(0, 20).map((hop) => (
        <p key={hop.other} className="small soft">
          {hop.isProducer ? 'Dealt with by ' : 'Sent by '}
          <button type="button" className="link" onClick={() => goTo(hop.other)}>{hop.name}</button>
          {hop.ns >= 0 ? `, ${duration(hop.ns)} in the queue` : ', by clocks that differ'}
        </p>
      ))}
      <p className="small ids"><code>{known.id}</code> <Copy text={known.id}>Copy id</Copy></p>
      {error && <p className="error">{error.message}</p>}
      {!full && !error && <Ghost lines={6} />}
      {full && (
        <>
          <Values title="Attributes" values={full.attributes} scope="span" />
          {(full.events ?? []).map((event, at) => (
            <Values key={at} title={`Event: ${event.name}`} values={{ ...event.attributes, ...(event.time_ns !== undefined && { 'after the start': duration(event.time_ns - full.start_ns) }) }} />
          ))}
          {(full.links ?? []).map((link, at) => (
            <p key={at} className="small">Link to <Link href={`/trace/${link.trace_id}?span=${link.span_id}`}>{link.trace_id}</Link></p>
          ))}
          <Values title="Resource" values={full.resource} scope="resource" />
          {full.scope?.name && <p className="small muted">Scope {full.scope.name} {full.scope.version}</p>}
          <details>
            <summary>JSON</summary>
            <Copy text={() => JSON.stringify(full, null, 2)}>Copy JSON</Copy>
            <pre tabIndex={0}>{JSON.stringify(full, null, 2)}</pre>
          </details>
        </>
      )}
    </aside>
  );
}

/** A table of keys and values; values of spans and resources find others like them. */
function Values({ title, values, scope }: { title: string; values?: Record<string, unknown>; scope?: 'span' | 'resource' }) {
  const entries = Object.entries(values ?? {});
  if (entries.length === 0) return null;
  return (
    <section>
      <h3>{title}</h3>
      <table className="attributes">
        <tbody>
          {entries.map(([key, value]) => (
            <tr key={key}>
              <th scope="row">{key}</th>
              <td>
                {typeof value === 'string' ? value : JSON.stringify(value)}
                {scope && ['string', 'number', 'boolean'].includes(typeof value) && (
                  <Link className="like" title={`Search traces with this ${key}`} aria-label={`Search traces with this ${key}`} href={address('/search', { window: 'all', q: `{ ${scope}.${/^[\w.]+$/.test(key) ? key : JSON.stringify(key)} = ${JSON.stringify(value)} }` })}>⌕</Link>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** One call, from the caller's wait before it to the caller's work after it. */
function LedgerBar({ known, ledger }: { known: Known; ledger: LedgerLine }) {
  const parts: [string, number, string][] = [
    ['before, in the caller', ledger.before, 'ledger-caller'],
    ['wire out', ledger.wireOut, 'ledger-wire'],
    [ledger.server === null ? 'the call (its server sends no spans)' : 'server', ledger.inServer, 'ledger-server'],
    ['wire back', ledger.wireBack, 'ledger-wire'],
    ['after, in the caller', ledger.after, 'ledger-caller'],
  ];
  const total = parts.reduce((sum, [, ns]) => sum + ns, 0);
  if (total <= 0) return null;
  return (
    <section>
      <h3>Where this call’s time goes</h3>
      <div className="ledger" aria-hidden="true">
        {parts.map(([name, ns, className]) => ns > 0 && <i key={name} className={className} style={{ flexGrow: ns / total, '--own': serviceColour(known.service) } as React.CSSProperties} title={`${name} ${duration(ns)}`} />)}
      </div>
      <table className="ledger-lines">
        <tbody>
          {parts.filter(([, ns]) => ns > 0).map(([name, ns, className]) => (
            <tr key={name}>
              <th scope="row"><i className={className} style={{ '--own': serviceColour(known.service) } as React.CSSProperties} aria-hidden="true" />{name}</th>
              <td className="number">{duration(ns)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {ledger.server !== null && <p className="small muted">{duration(ledger.wireOut + ledger.wireBack)} on the wire in all; how it splits between out and back depends on both hosts’ clocks.</p>}
    </section>
  );
}
