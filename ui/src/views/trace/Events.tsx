import type { TraceEvents } from '../../api/types';
import { duration } from '../../base/format';
import { nameOf, serviceOf, type TraceModel } from '../../model/trace';
import { Ghost, Partial } from '../../widgets/States';
import { Service } from '../../widgets/Service';

/** What was logged on spans, in order of time. */
export function Events({ model, events, error, show }: { model: TraceModel; events?: TraceEvents; error?: Error; show: (place: number) => void }) {
  if (error) return <div className="trace-view"><p className="error" role="alert">{error.message}</p></div>;
  if (!events) return <div className="trace-view"><Ghost lines={8} /></div>;
  if (events.total === 0) return <div className="state"><h2>No events</h2><p>No span of this trace has logged anything.</p></div>;
  return (
    <div className="trace-view">
      {events.total > events.events.length && <Partial text={`These are the first ${events.events.length} of ${events.total} events.`} />}
      <table className="lines" aria-label="Events">
        <thead><tr><th className="number">At</th><th>Span</th><th>Event</th><th>Attributes</th></tr></thead>
        <tbody>
          {events.events.slice(0, 1000).map((event, at) => (
            <tr key={at}>
              <td className="number">{duration(event.time_ns)}</td>
              <td><Service name={serviceOf(model, event.place)} /> <button type="button" className="link" onClick={() => show(event.place)}>{nameOf(model, event.place)}</button></td>
              <td>{event.name}</td>
              <td className="mono soft" style={{ overflowWrap: 'anywhere' }}>{Object.entries(event.attributes).map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`).join('  ')}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
