import { useEffect, useRef, useState } from 'react';
import type { Finding, Mute } from '../api/types';
import { count, milliseconds, percent, shortId } from '../base/format';
import { address, type Place } from '../base/location';
import { kindName, text } from '../model/findings';
import { windowParameters } from '../model/window';
import { Copy } from './Copy';
import { FindingPicture } from './FindingPicture';
import { Link } from './Link';
import { Service } from './Service';

const TERMS: [string, number | null][] = [['for a day', 1], ['for a week', 7], ['for a month', 30], ['for ever', null]];

/** The dependency as the map names it. */
function nodeOf({ subject }: Finding): string {
  const [service, host, system] = ['service', 'host', 'system'].map((key) => text(subject, 'dependency', key));
  if (subject.uninstrumented === true) return `host:${host || service}`;
  return system ? `store:${service || host || system}` : `service:${service || host}`;
}

interface Properties {
  finding: Finding;
  mute?: Mute;
  place: Place;
  /** How many traces the findings stand on, where not on all. */
  lookedAt: string;
  /** The address names it: it is brought into view, opened. */
  isWanted: boolean;
  onMute: (reason: string, days: number | null) => void;
  onUnmute: () => void;
}

/** One problem: what it costs, in a sentence, as a picture, with how one knows. */
export function FindingCard({ finding, mute, place, lookedAt, isWanted, onMute, onUnmute }: Properties) {
  const [isOpen, setOpen] = useState(isWanted);
  const [isMuting, setMuting] = useState(false);
  const card = useRef<HTMLElement>(null);
  useEffect(() => {
    if (isWanted) card.current?.scrollIntoView({ block: 'center' });
    // Once: who has come for it may go on from there.
  }, []);
  const entries = finding.entry_points ?? [];
  const [entry] = entries;
  return (
    <article ref={card} className={mute ? 'finding muted-finding' : 'finding'} aria-label={finding.title}>
      <div className="cost">
        <b>{milliseconds(finding.cost.typical_ms)}</b>
        <span>each, typically</span>
        <span style={{ display: 'block' }}>{milliseconds(finding.cost.total_ms)} in all</span>
      </div>
      <div>
        <p className="sentence">{finding.title}</p>
        <p className="meta">
          <span className="chip accent">{kindName(finding.kind)}</span>
          <Service name={finding.service} />
          {entry && <span>{entry.service !== finding.service && `in ${entry.service} `}{entry.operation}{entries.length > 1 && ` and ${count(entries.length - 1)} more`}</span>}
          <span>
            {count(finding.traces_affected)} of {count(finding.traces_seen)} traces ({percent(finding.traces_affected / Math.max(1, finding.traces_seen))})
          </span>
          {finding.confidence !== 'high' && <span className="chip">{finding.confidence} confidence</span>}
          {mute && <span className="chip warning">muted{mute.until ? ` until ${mute.until.slice(0, 10)}` : ''}{mute.reason && `: ${mute.reason}`}</span>}
        </p>
        <div className="actions">
          <button type="button" className="quiet" aria-expanded={isOpen} onClick={() => setOpen((before) => !before)}>How do I know?</button>
          {finding.examples[0] && <Link className="quiet" href={`/trace/${finding.examples[0]}`}>Open an example</Link>}
          {entry && <Link className="quiet" href={address(`/entry/${encodeURIComponent(entry.service)}/${encodeURIComponent(entry.operation)}`, windowParameters(place))}>Where its time goes</Link>}
          {finding.kind === 'silent_dependency' && <Link className="quiet" href={address('/map', { ...windowParameters(place), node: nodeOf(finding) })}>On the map</Link>}
          {mute
            ? <button type="button" className="quiet" onClick={onUnmute}>Unmute</button>
            : <button type="button" className="quiet" aria-expanded={isMuting} onClick={() => setMuting((before) => !before)}>Mute</button>}
          <Copy text={() => JSON.stringify(finding, null, 2)}>Copy JSON</Copy>
        </div>
        {isMuting && !mute && (
          <form
            className="mute-form"
            onSubmit={(event) => {
              event.preventDefault();
              const data = new FormData(event.currentTarget);
              const days = TERMS[Number(data.get('term'))]?.[1] ?? null;
              setMuting(false);
              onMute(String(data.get('reason') ?? ''), days);
            }}
          >
            <input name="reason" aria-label="Reason" placeholder="why it may stay (optional)" maxLength={300} autoFocus />
            <select name="term" aria-label="How long" defaultValue="1">{TERMS.map(([label], at) => <option key={label} value={at}>{label}</option>)}</select>
            <button type="submit">Mute</button>
          </form>
        )}
        {isOpen && (
          <>
            <ul className="evidence">
              {finding.evidence.map((line) => <li key={line}>{line}</li>)}
              <li>seen from {finding.first_seen.slice(0, 19).replace('T', ' ')} to {finding.last_seen.slice(0, 19).replace('T', ' ')} UTC; 99th percentile {milliseconds(finding.cost.p99_ms)}</li>
              {lookedAt && <li>{lookedAt}</li>}
            </ul>
            {entries.length > 1 && (
              <p className="meta">Entry points <span className="examples">{entries.slice(0, 20).map(({ service, operation }) => <Link key={`${service} ${operation}`} href={address(`/entry/${encodeURIComponent(service)}/${encodeURIComponent(operation)}`, windowParameters(place))}>{service} {operation}</Link>)}{entries.length > 20 && <span>and {count(entries.length - 20)} more</span>}</span></p>
            )}
            <p className="meta">Examples <span className="examples">{finding.examples.map((id) => <Link key={id} href={`/trace/${id}`}>{shortId(id)}</Link>)}</span></p>
          </>
        )}
      </div>
      <div className="picture"><FindingPicture finding={finding} /></div>
    </article>
  );
}
