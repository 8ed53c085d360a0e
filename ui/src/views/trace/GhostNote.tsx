import type { Loaded } from '../../api/load';
import type { Kinds, TraceHead } from '../../api/types';
import { count, duration, shortId } from '../../base/format';
import type { Ghosts } from '../../model/ghosts';
import type { Opened } from '../../model/trace';
import { Link } from '../../widgets/Link';

interface Properties {
  trace: TraceHead;
  kinds: Loaded<Kinds>;
  other: Loaded<Opened | undefined>;
  ghosts?: Ghosts;
  otherId: string;
  /** Whether the reader named the other trace. */
  isChosen: boolean;
  set: (changes: Record<string, string | null>) => void;
}

/** Says which trace is drawn behind the rows, or why none is. */
export function GhostNote({ trace, kinds, other, ghosts, otherId, isChosen, set }: Properties) {
  return (
    <p className="ghost-note" role="status">
      <i className="ghost-mark" aria-hidden="true" />
      <span>{words()}</span>
      <span className="push">
        {ghosts && <button type="button" className="quiet" onClick={() => set({ view: 'compare' })}>Compare</button>}
        <button type="button" className="quiet" onClick={() => set({ typical: null })}>Hide</button>
      </span>
    </p>
  );

  function words() {
    if (ghosts && other.value) {
      const { head } = other.value;
      const difference = trace.duration_ns - head.duration_ns;
      return (
        <>
          {isChosen ? 'Compared with' : 'Typical:'} <Link href={`/trace/${otherId}`}>{shortId(otherId)}</Link>{!isChosen && ', the median of its kind'}, {duration(head.duration_ns)}. This one took <b>{difference === 0 ? 'as long' : `${duration(Math.abs(difference))} ${difference > 0 ? 'longer' : 'less'}`}</b>
          {ghosts.missing > 0 && `; ${count(ghosts.missing)} of the other’s ${count(head.span_count)} spans have no counterpart here`}.
        </>
      );
    }
    if (other.error) return <span className="error">The typical trace cannot be shown: {other.error.message}</span>;
    if (kinds.error && !otherId) return <span className="error">The typical trace is not known: {kinds.error.message}</span>;
    if (kinds.isLoading && !otherId) return 'Looking for a typical trace…';
    if (otherId === trace.trace_id) return 'This is the typical trace: the median of its kind.';
    if (!otherId) return kinds.value ? `Not enough data for a typical trace: ${count(kinds.value.entry.traces)} of this entry point are stored, ${count(kinds.value.entry.need)} are needed.` : 'Not enough data for a typical trace.';
    return 'Reading the typical trace…';
  }
}
