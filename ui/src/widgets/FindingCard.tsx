import { useState } from 'react';
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
  onMute: (reason: string, days: number | null) => void;
  onUnmute: () => void;
}

/** One problem: what it costs, in a sentence, as a picture, with how one knows. */
export function FindingCard({ finding, mute, place, onMute, onUnmute }: Properties) {
  const [isOpen, setOpen] = useState(false);
  const [isMuting, setMuting] = useState(false);
  const entry = `/entry/${encodeURIComponent(finding.service)}/${encodeURIComponent(finding.operation)}`;
  return (
    <article className={mute ? 'finding muted-finding' : 'finding'} aria-label={finding.title}>
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
          {finding.operation && <span>{finding.operation}</span>}
          <span>
            {count(finding.traces_affected)} of {count(finding.traces_seen)} traces ({percent(finding.traces_affected / Math.max(1, finding.traces_seen))})
          </span>
          {finding.confidence !== 'high' && <span className="chip">{finding.confidence} confidence</span>}
          {mute && <span className="chip warning">muted{mute.until ? ` until ${mute.until.slice(0, 10)}` : ''}{mute.reason && `: ${mute.reason}`}</span>}
        </p>
        <div className="actions">
          <button type="button" className="quiet" aria-expanded={isOpen} onClick={() => setOpen((before) => !before)}>How do I know?</button>
          {finding.examples[0] && <Link className="quiet" href={`/trace/${finding.examples[0]}`}>Open an example</Link>}
          {finding.operation && <Link className="quiet" href={address(entry, windowParameters(place))}>Where its time goes</Link>}
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
            </ul>
            <p className="meta">Examples <span className="examples">{finding.examples.map((id) => <Link key={id} href={`/trace/${id}`}>{shortId(id)}</Link>)}</span></p>
          </>
        )}
      </div>
      <div className="picture"><FindingPicture finding={finding} /></div>
    </article>
  );
}
