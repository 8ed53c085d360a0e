import type { Finding, Mute } from '../api/types';
import { milliseconds } from '../base/format';
import { address, type Place } from '../base/location';
import { ordered } from '../model/findings';
import { windowParameters } from '../model/window';
import { Link } from './Link';

/** What hurts here, a line each; the overview says how one knows. */
export function BriefFindings({ findings, mutes, place }: { findings: Finding[]; mutes: Mute[]; place: Place }) {
  if (findings.length === 0) return null;
  return (
    <ul className="brief-findings" aria-label="Findings">
      {ordered(findings, mutes).map(({ finding, mute }) => (
        <li key={finding.id}>
          <b>{milliseconds(finding.cost.typical_ms)}</b> <Link href={address('/', { ...windowParameters(place), finding: finding.id })}>{finding.title}</Link>
          {mute && <> <span className="chip warning">muted{mute.reason && `: ${mute.reason}`}</span></>}
        </li>
      ))}
    </ul>
  );
}
