import { clock, count } from '../base/format';
import { go, type Place, withParameters } from '../base/location';
import { newestWindow } from '../model/window';
import { Copy } from './Copy';

export function Failed({ error, what }: { error: Error; what: string }) {
  return (
    <div className="state" role="alert">
      <h1>Cannot show {what}</h1>
      <p className="error">{error.message}</p>
      <button type="button" onClick={() => window.location.reload()}>Try again</button>
    </div>
  );
}

/** The shape of what is coming, while it is on its way. */
export function Ghost({ lines, height = 22 }: { lines: number; height?: number }) {
  return (
    <div role="progressbar" aria-busy="true" aria-label="Loading">
      {Array.from({ length: lines }, (_, at) => <div key={at} className="ghost" style={{ height: height - 8, margin: '8px 0', width: `${92 - ((at * 17) % 40)}%` }} />)}
    </div>
  );
}

export function Partial({ text }: { text: string }) {
  return <div className="state-line" role="status">{text}</div>;
}

/** What has to be known of an answer, and does not alarm. Nothing where there is nothing to say. */
export function Aside({ texts }: { texts: string[] }) {
  const said = texts.filter((text) => text !== '');
  return said.length > 0 && <p className="aside small muted" role="note">{said.join(' ')}</p>;
}

/** Said where counts are larger than what is stored. */
export function Sampled({ seen, adjusted, between }: { seen: number; adjusted: number; between?: [number, number] | null }) {
  return (
    <div className="state-line sampled" role="note">
      Sampled: the {count(seen)} traces that were kept stand for {count(Math.round(adjusted))}
      {between && ` (${count(Math.round(between[0]))} to ${count(Math.round(between[1]))}, 19 times of 20)`}. Counts, rates and quantiles are of what there was before sampling.
    </div>
  );
}

/** Nothing in the window: either nothing at all yet, or older than that. */
export function NothingHere({ place, newest }: { place: Place; newest: string | null | undefined }) {
  if (newest === undefined) return <Ghost lines={4} />;
  if (newest === null) return <FirstTrace />;
  return (
    <div className="state">
      <h1>No traces in this window</h1>
      <p>The newest span that is stored started {clock(newest)}.</p>
      <p>
        <button type="button" className="primary" onClick={() => go(newestWindow(place, newest))}>Go to the newest data</button>{' '}
        <button type="button" onClick={() => go(withParameters(place, { window: 'all', from: null, to: null }))}>Show all time</button>
      </p>
    </div>
  );
}

export function FirstTrace() {
  const lines: [string, string][] = [
    ['Python', 'pip install opentelemetry-distro opentelemetry-exporter-otlp && opentelemetry-bootstrap -a install && opentelemetry-instrument python app.py'],
    ['Node.js', 'npm i @opentelemetry/api @opentelemetry/auto-instrumentations-node && node --require @opentelemetry/auto-instrumentations-node/register app.js'],
    ['Java', 'java -javaagent:opentelemetry-javaagent.jar -Dotel.service.name=app -jar app.jar'],
    ['.NET, Go, Rust, …', 'export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 OTEL_SERVICE_NAME=app'],
    ['A file', 'spanwise import traces.json'],
    ['Just looking', 'spanwise load --spans 10000'],
  ];
  return (
    <div className="state first-trace" style={{ maxWidth: 960 }}>
      <h1>Waiting for the first trace</h1>
      <p>Spanwise listens on localhost:4317 (OTLP over gRPC) and localhost:4318 (OTLP over HTTP). It also takes Jaeger and Zipkin. One line per runtime:</p>
      <div className="first">
        {lines.map(([name, line]) => (
          <div key={name} style={{ display: 'contents' }}>
            <b>{name}</b>
            <code tabIndex={0}>{line}</code>
            <Copy text={line} className="" />
          </div>
        ))}
      </div>
    </div>
  );
}
