import { useLoaded } from '../../api/load';
import type { Place } from '../../base/location';
import { readingOf } from '../../model/traceState';
import { Link } from '../../widgets/Link';
import { Ghost } from '../../widgets/States';
import { Loaded } from './Loaded';
import { openTrace } from './openTrace';

/** One trace: rows, flame graph, totals, events, comparison. */
export function TracePage({ id, place }: { id: string; place: Place }) {
  const reading = readingOf(place);
  const loaded = useLoaded(`${id} ${reading.mode} ${reading.clocks}`, (signal) => openTrace(id, reading, signal));
  if (loaded.error && !loaded.value) {
    return (
      <main>
        <div className="state" role="alert">
          <h1>Cannot show this trace</h1>
          <p className="error">{loaded.error.message}</p>
          <p>It may have expired, been sampled away, or not arrived yet. <Link href="/search?window=all">Search all traces</Link></p>
        </div>
      </main>
    );
  }
  if (!loaded.value) return <main><div className="page"><Ghost lines={16} /></div></main>;
  return <Loaded trace={loaded.value.head} model={loaded.value.model} place={place} error={loaded.error} />;
}
