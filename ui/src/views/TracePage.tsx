import { useEffect, useMemo, useRef, useState } from 'react';
import { traceStructure } from '../api/client';
import { useLoaded } from '../api/load';
import type { Trace } from '../api/types';
import { clock, duration, serviceColour } from '../base/format';
import { go, type Place, withParameters } from '../base/location';
import { allRows, matches, type Row, visibleRows } from '../model/rows';
import { Details } from '../widgets/Details';
import { Minimap } from '../widgets/Minimap';

const ROW = 26;
/** Rows drawn above and below what is seen. */
const MARGIN = 12;

/** One trace as a waterfall. */
export function TracePage({ id, place }: { id: string; place: Place }) {
  const loaded = useLoaded(id, (signal) => traceStructure(id, signal));
  if (loaded.error) return <main className="empty"><p className="error">{loaded.error.message}</p><a href="/">Search</a></main>;
  if (!loaded.value) return <main className="empty"><p>Loading…</p></main>;
  return <Waterfall trace={loaded.value} place={place} />;
}

function Waterfall({ trace, place }: { trace: Trace; place: Place }) {
  const selected = place.parameters.get('span');
  const text = place.parameters.get('find') ?? '';
  const [collapsed, setCollapsed] = useState<Set<string>>(() => new Set());
  const rows = useMemo(() => allRows(trace), [trace]);
  const visible = useMemo(() => visibleRows(rows, collapsed), [rows, collapsed]);
  const found = useMemo(() => (text ? visible.filter((row) => matches(row, text)) : []), [visible, text]);
  const total = useMemo(() => Math.max(1, ...trace.spans.map((span) => span.start_ns + span.duration_ns)), [trace]);
  const body = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  useEffect(() => {
    const element = body.current;
    if (!element) return;
    const read = () => setView({ top: element.scrollTop, height: element.clientHeight });
    read();
    element.addEventListener('scroll', read, { passive: true });
    const observer = new ResizeObserver(read);
    observer.observe(element);
    return () => {
      element.removeEventListener('scroll', read);
      observer.disconnect();
    };
  }, []);
  const select = (span: string | null) => go(withParameters(place, { span }), true);
  const toggle = (span: string) => setCollapsed((before) => {
    const next = new Set(before);
    if (!next.delete(span)) next.add(span);
    return next;
  });
  const at = visible.findIndex((row) => row.span.span_id === selected);
  const show = (index: number) => {
    const row = visible[index];
    const element = body.current;
    if (!row || !element) return;
    select(row.span.span_id);
    const top = index * ROW;
    if (top < element.scrollTop || top + ROW > element.scrollTop + element.clientHeight) element.scrollTop = top - element.clientHeight / 2;
  };
  const onKey = (event: React.KeyboardEvent) => {
    const row = visible[at];
    const actions: Record<string, () => void> = {
      ArrowDown: () => show(Math.min(visible.length - 1, at + 1)),
      ArrowUp: () => show(Math.max(0, at - 1)),
      ArrowLeft: () => row && row.childCount > 0 && !collapsed.has(row.span.span_id) && toggle(row.span.span_id),
      ArrowRight: () => row && collapsed.has(row.span.span_id) && toggle(row.span.span_id),
      Escape: () => select(null),
    };
    const action = actions[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  };
  const first = Math.max(0, Math.floor(view.top / ROW) - MARGIN);
  const last = Math.min(visible.length, Math.ceil((view.top + view.height) / ROW) + MARGIN);
  const span = trace.spans.find((candidate) => candidate.span_id === selected);
  return (
    <main className="trace">
      <header className="trace-header">
        <h1>{trace.root ? `${trace.root.service}: ${trace.root.operation}` : '(root not received)'}</h1>
        <p>
          {duration(trace.duration_ns)} · {trace.span_count} spans · {trace.services.length} services
          {trace.error_count > 0 && <span className="error"> · {trace.error_count} errors</span>} · {clock(trace.start_unix_nano)} ·{' '}
          <code>{trace.trace_id}</code>{' '}
          <button type="button" onClick={() => void navigator.clipboard.writeText(trace.trace_id)}>Copy id</button>{' '}
          <a href={`/api/spanwise/traces/${trace.trace_id}`}>JSON</a>
        </p>
        <p className="by-service">
          Critical path: {trace.critical_path.by_service.slice(0, 6).map((entry) => (
            <span key={entry.service} style={{ borderColor: serviceColour(entry.service) }}>
              {entry.service} {duration(entry.ns)} ({Math.round((entry.ns * 100) / Math.max(1, trace.duration_ns))} %)
            </span>
          ))}
        </p>
        <div className="tools">
          <input
            aria-label="Find in trace"
            placeholder="find in trace"
            value={text}
            onChange={(event) => go(withParameters(place, { find: event.target.value }), true)}
            onKeyDown={(event) => {
              if (event.key !== 'Enter' || found.length === 0) return;
              const next = found.find((row) => visible.indexOf(row) > at) ?? found[0];
              if (next) show(visible.indexOf(next));
            }}
          />
          {text && <span className="muted">{found.length} spans</span>}
          <button type="button" onClick={() => setCollapsed(new Set(rows.filter((row) => row.childCount > 0 && row.depth > 0).map((row) => row.span.span_id)))}>Collapse all</button>
          <button type="button" onClick={() => setCollapsed(new Set())}>Expand all</button>
        </div>
        <Minimap trace={trace} scrollTo={(share) => body.current && (body.current.scrollTop = share * visible.length * ROW - view.height / 2)} />
      </header>
      <div className="split">
        <div className="rows" ref={body} tabIndex={0} role="tree" aria-label="Spans" onKeyDown={onKey}>
          <div style={{ height: visible.length * ROW, position: 'relative' }}>
            {visible.slice(first, last).map((row, offset) => (
              <Line
                key={row.span.span_id + (first + offset)}
                row={row}
                top={(first + offset) * ROW}
                total={total}
                isCollapsed={collapsed.has(row.span.span_id)}
                isSelected={row.span.span_id === selected}
                isFound={text !== '' && matches(row, text)}
                toggle={toggle}
                select={select}
              />
            ))}
          </div>
        </div>
        {span && <Details traceId={trace.trace_id} span={span} close={() => select(null)} />}
      </div>
    </main>
  );
}

interface LineProperties {
  row: Row;
  top: number;
  total: number;
  isCollapsed: boolean;
  isSelected: boolean;
  isFound: boolean;
  toggle: (span: string) => void;
  select: (span: string) => void;
}

function Line({ row, top, total, isCollapsed, isSelected, isFound, toggle, select }: LineProperties) {
  const { span, depth, childCount } = row;
  const [start, end] = [(span.start_ns / total) * 100, ((span.start_ns + span.duration_ns) / total) * 100];
  // Behind the bar, before it where there is no room, on it where there is none either.
  const label: React.CSSProperties = end < 88 ? { left: `${end}%` } : start > 12 ? { right: `${100 - start}%`, paddingRight: 6 } : { left: `${start}%`, color: '#fff', textShadow: '0 0 3px #000' };
  const classes = ['row', isSelected && 'selected', isFound && 'found'].filter(Boolean).join(' ');
  return (
    <div className={classes} style={{ top, height: ROW }} role="treeitem" aria-level={depth + 1} aria-expanded={childCount > 0 ? !isCollapsed : undefined} aria-selected={isSelected} onClick={() => select(span.span_id)}>
      <div className="label" style={{ paddingLeft: Math.min(depth, 24) * 14 }}>
        {childCount > 0 ? (
          <button
            type="button"
            className="toggle"
            aria-label={isCollapsed ? 'Expand' : 'Collapse'}
            onClick={(event) => {
              event.stopPropagation();
              toggle(span.span_id);
            }}
          >
            {isCollapsed ? '▸' : '▾'}
          </button>
        ) : <span className="toggle" />}
        <i style={{ background: serviceColour(span.service) }} />
        <b>{span.service}</b> <span className={span.status === 'error' ? 'error' : ''}>{span.name}</span>
      </div>
      <div className="lane">
        <div
          className={span.critical_ns > 0 ? 'bar critical' : 'bar'}
          style={{ left: `${start}%`, width: `${Math.max(0.15, (span.duration_ns / total) * 100)}%`, background: span.status === 'error' ? 'var(--error)' : serviceColour(span.service) }}
        />
        <span className="time" style={label}>{duration(span.duration_ns)}</span>
      </div>
    </div>
  );
}
