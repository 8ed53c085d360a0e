import { useEffect, useMemo, useState } from 'react';
import { insights, mute, mutes, servicesSummary, status, unmute } from '../api/client';
import { useLoaded, useTick } from '../api/load';
import type { Requests, ServiceSummary } from '../api/types';
import { count, many, margin, milliseconds, percent, rate, sentence, short } from '../base/format';
import { address, type Place } from '../base/location';
import { boundedText, countedText, lookedAtText, NOT_ALL_COUNTED, OTHERS } from '../model/counted';
import { ordered } from '../model/findings';
import { windowOf, windowParameters } from '../model/window';
import { type Column, DataTable } from '../widgets/DataTable';
import { FindingCard } from '../widgets/FindingCard';
import { Link } from '../widgets/Link';
import { Aside, Failed, Ghost, NothingHere, Partial, Sampled } from '../widgets/States';
import { Service } from '../widgets/Service';
import { Sparkline } from '../widgets/Sparkline';
import { WindowPicker } from '../widgets/WindowPicker';

const DAY_MS = 86_400_000;
/** How often the page looks again: often while it waits for a first trace. */
const WAITING_MS = 2_500;
const AGAIN_MS = 20_000;

/** What hurts now, and how the services do. */
export function Overview({ place }: { place: Place }) {
  const window = windowOf(place);
  const [changes, setChanges] = useState(0);
  const [failure, setFailure] = useState<Error | null>(null);
  const [isEmpty, setEmpty] = useState(false);
  const tick = useTick(isEmpty ? WAITING_MS : AGAIN_MS);
  const found = useLoaded(`insights ${window.key} ${tick}`, (signal) => insights(window, {}, signal));
  const muted = useLoaded(`mutes ${changes}`, mutes);
  const summary = useLoaded(`services ${window.key} ${tick}`, (signal) => servicesSummary(window, signal));
  const server = useLoaded(`newest ${tick}`, status);
  const findings = useMemo(() => ordered(found.value?.findings ?? [], muted.value ?? []), [found.value, muted.value]);
  const act = (work: Promise<unknown>) => {
    work.then(() => setChanges((before) => before + 1), setFailure);
  };
  const hasNone = found.value?.traces === 0;
  useEffect(() => setEmpty(hasNone), [hasNone]);
  if (found.error && !found.value) return <main><Failed error={found.error} what="the findings" /></main>;
  if (hasNone) return <main><NothingHere place={place} newest={server.value?.newest_unix_nano} /></main>;
  const missing = found.value?.not_enough_data ?? [];
  const lookedAt = found.value ? lookedAtText(found.value) : '';
  const entries = new Set(missing.map((one) => `${one.service} ${one.operation}`)).size;
  return (
    <main>
      <div className="page">
        <div className="page-head">
          <h1>What hurts</h1>
          {found.value && <span className="muted">{many(found.value.traces, 'trace')}, {short(found.value.spans)} spans</span>}
          <span className="push"><WindowPicker place={place} /></span>
        </div>
        {failure && <div className="state-line" role="alert">{failure.message}</div>}
        <Aside texts={[sentence(lookedAt)]} />
        {!found.value && <Ghost lines={6} height={44} />}
        {found.value && findings.length === 0 && (
          <div className="quiet-good" role="status">
            <span className="chip">nothing found</span>
            <span>
              No repeated calls, silent dependencies, rare slow paths, misattributed bottlenecks or swallowed errors in {found.value.complete ? `${count(found.value.traces)} traces` : 'the traces that were looked at'}
              {entries > 0 && `; for ${count(entries)} entry points there is not enough data yet`}.
            </span>
          </div>
        )}
        {findings.length > 0 && (
          <section className="findings" aria-label="Findings">
            {findings.map(({ finding, mute: own }) => (
              <FindingCard
                key={finding.id}
                finding={finding}
                mute={own}
                place={place}
                lookedAt={lookedAt}
                isWanted={place.parameters.get('finding') === finding.id}
                onMute={(reason, days) => act(mute(finding.id, reason, days === null ? null : new Date(Date.now() + days * DAY_MS).toISOString()))}
                onUnmute={() => act(unmute(finding.id))}
              />
            ))}
          </section>
        )}
        {missing.length > 0 && (
          <details className="small muted" style={{ marginTop: 8 }}>
            <summary>Not enough data for {count(entries)} entry {entries === 1 ? 'point' : 'points'}</summary>
            <ul>
              {missing.slice(0, 60).map((one) => <li key={`${one.kind} ${one.service} ${one.operation}`}>{one.service} {one.operation}: {one.kind} needs {one.need} traces, has {one.have}</li>)}
              {missing.length > 60 && <li>and {missing.length - 60} more</li>}
            </ul>
          </details>
        )}
        <section className="section" aria-label="Services">
          <header>
            <h2>Services</h2>
            {summary.value && <span className="muted small">requests where they enter a service, {countedText(summary.value.window)}</span>}
          </header>
          {summary.error && <Partial text={summary.error.message} />}
          {summary.value?.complete === false && <Partial text={NOT_ALL_COUNTED} />}
          {summary.value && <Aside texts={[boundedText(summary.value, 'services or operations')]} />}
          {summary.value?.sampled && <Sampled seen={summary.value.traces_read} adjusted={summary.value.adjusted} />}
          {summary.value ? <Services services={summary.value.services} place={place} /> : !summary.error && <Ghost lines={6} />}
        </section>
      </div>
    </main>
  );
}

/** How often, and how sure that is where traces were sampled. */
function Rate({ of }: { of: Requests }) {
  const off = margin(of.rate_per_s, of.rate_between);
  const says = off ? `${count(of.requests)} requests, told from ${count(of.requests_seen)} that were kept` : `${count(of.requests)} requests`;
  return <span title={says}>{rate(of.rate_per_s, of.requests)}{off && <span className="muted small"> {off}</span>}</span>;
}

function Services({ services, place }: { services: ServiceSummary[]; place: Place }) {
  const [open, setOpen] = useState<string | null>(null);
  const total = services.reduce((sum, service) => sum + service.critical_ms, 0);
  const columns = useMemo<Column<ServiceSummary>[]>(() => [
    {
      name: 'Service',
      value: (row) => row.name,
      cell: (row) => (
        <button type="button" className="link" style={{ color: 'inherit' }} aria-expanded={open === row.name} onClick={() => setOpen((before) => (before === row.name ? null : row.name))}>
          <Service name={row.name} />
        </button>
      ),
    },
    { name: 'Requests', cell: (row) => <Sparkline points={row.per_point} failed={row.errors_per_point} label={`${row.name}: ${row.requests} requests over the window`} /> },
    { name: 'Rate', value: (row) => row.requests, cell: (row) => <Rate of={row} />, isNumber: true },
    { name: 'Errors', value: (row) => row.errors / Math.max(1, row.requests), cell: (row) => (row.errors > 0 ? <span className="error">{percent(row.errors / row.requests)}</span> : <span className="muted">0</span>), isNumber: true },
    { name: 'p50', value: (row) => row.p50_ms, cell: (row) => milliseconds(row.p50_ms), isNumber: true },
    { name: 'p95', value: (row) => row.p95_ms, cell: (row) => milliseconds(row.p95_ms), isNumber: true },
    { name: 'p99', value: (row) => row.p99_ms, cell: (row) => milliseconds(row.p99_ms), isNumber: true },
    {
      name: 'Of all waiting',
      value: (row) => row.critical_ms,
      cell: (row) => (
        <span title={`${milliseconds(row.critical_ms)} on the critical paths of all traces`}>
          <span className="share"><i style={{ width: `${(row.critical_ms / Math.max(1e-9, total)) * 100}%` }} /></span>{' '}
          <span style={{ display: 'inline-block', width: 52 }}>{percent(row.critical_ms / Math.max(1e-9, total))}</span>
        </span>
      ),
      isNumber: true,
    },
  ], [open, total]);
  return (
    <DataTable
      label="Services"
      rows={services}
      columns={columns}
      rowKey={(row) => row.name}
      sortBy="Of all waiting"
      after={(row) => open === row.name && [...row.operations.slice(0, 20), ...(row.name === OTHERS ? [] : [null])].map((operation) => (operation === null ? (
        <tr key=" all" className="operations"><td style={{ paddingLeft: 24 }} colSpan={8}><Link href={address(`/service/${encodeURIComponent(row.name)}`, windowParameters(place))}>All of {row.name}</Link></td></tr>
      ) : (
        <tr key={operation.name} className="operations">
          <td style={{ paddingLeft: 24 }} colSpan={2}>
            {operation.roots > 0 && operation.name !== OTHERS
              ? <Link href={address(`/entry/${encodeURIComponent(row.name)}/${encodeURIComponent(operation.name)}`, windowParameters(place))}>{operation.name}</Link>
              : operation.name}
          </td>
          <td className="number"><Rate of={operation} /></td>
          <td className="number">{operation.errors > 0 ? <span className="error">{percent(operation.errors / operation.requests)}</span> : <span className="muted">0</span>}</td>
          <td className="number">{milliseconds(operation.p50_ms)}</td>
          <td className="number">{milliseconds(operation.p95_ms)}</td>
          <td className="number">{milliseconds(operation.p99_ms)}</td>
          <td />
        </tr>
      )))}
    />
  );
}
