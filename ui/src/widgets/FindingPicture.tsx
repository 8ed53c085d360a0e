import type { Finding } from '../api/types';
import { serviceColour } from '../base/colour';
import { count, milliseconds, percent } from '../base/format';
import { list, number, text } from '../model/findings';

const WIDTH = 330;

/** What a finding looks like. The evidence says the same in words. */
export function FindingPicture({ finding }: { finding: Finding }) {
  switch (finding.kind) {
    case 'n_plus_one':
    case 'fan_out':
    case 'retry_storm':
      return <Repeats finding={finding} />;
    case 'silent_dependency':
      return <Dependency finding={finding} />;
    case 'slow_rare_path':
      return <Rare finding={finding} />;
    case 'misattributed_bottleneck':
      return <Misattributed finding={finding} />;
    case 'hidden_error':
      return <Hidden finding={finding} />;
    default:
      return null;
  }
}

function cut(value: string, most: number): string {
  return value.length > most ? `${value.slice(0, most - 1)}…` : value;
}

/** The folded waterfall: one bar of the caller, below it all its calls in one striped row. */
function Repeats({ finding }: { finding: Finding }) {
  const { subject } = finding;
  const isRetry = finding.kind === 'retry_storm';
  const p50 = number(subject, isRetry ? 'attempts' : 'repeats', 'p50') ?? 0;
  const most = number(subject, isRetry ? 'attempts' : 'repeats', 'max') ?? p50;
  const p95 = number(subject, 'repeats', 'p95');
  const saving = number(subject, 'saving_ms');
  const isSerial = finding.kind !== 'fan_out';
  const caller = text(subject, 'caller', 'service') || finding.service;
  const callee = text(subject, 'callee', 'service') || text(subject, 'callee', 'system') || caller;
  const shown = Math.min(Math.max(p50, 2), 40);
  const [left, right] = [14, WIDTH - 14];
  const bins = finding.histogram ?? [];
  const below = bins.length > 1 ? HISTOGRAM + 18 : 0;
  const step = (right - left) / shown;
  return (
    <svg viewBox={`0 0 ${WIDTH} ${(saving ? 92 : 70) + below}`} role="img" aria-label={`${caller} calls ${callee} ${p50} times in the median, at most ${most}${inWords(bins)}`}>
      <text x={0} y={10} className="strong">{cut(caller, 24)}</text>
      <text x={WIDTH} y={10} textAnchor="end">{cut(callee, 24)}</text>
      <rect x={0} y={15} width={WIDTH} height={12} rx={2} fill={serviceColour(caller)} />
      {Array.from({ length: shown }, (_, at) => (
        isSerial
          ? <rect key={at} x={left + at * step} y={31} width={Math.max(1, step * 0.72)} height={12} rx={1} fill={isRetry ? 'var(--error)' : serviceColour(callee)} />
          : <rect key={at} x={left + (at % 3) * 3} y={31 + (at / shown) * 12} width={right - left - 12} height={Math.max(0.5, 12 / shown - 0.6)} fill={serviceColour(callee)} />
      ))}
      <text x={left} y={60} className="strong">×{p50}</text>
      {bins.length > 1 && <Histogram bins={bins} top={saving ? 98 : 70} />}
      <text x={left + 34} y={60}>{p95 !== undefined && p95 !== p50 ? `95th percentile ×${p95}, ` : ''}most ×{most}</text>
      {saving !== undefined && saving > 0 && (
        <>
          <rect x={0} y={72} width={WIDTH} height={5} rx={2} fill="var(--sunken)" />
          <rect x={0} y={72} width={WIDTH * Math.max(0.01, 1 - saving / Math.max(saving, finding.cost.typical_ms))} height={5} rx={2} fill="var(--accent)" />
          <text x={WIDTH} y={90} textAnchor="end">one call for all saves at most {milliseconds(saving)}</text>
        </>
      )}
    </svg>
  );
}

const HISTOGRAM = 34;

const range = (bin: { from: number; to: number }) => (bin.from === bin.to ? `${bin.from}` : `${bin.from} to ${bin.to}`);

function inWords(bins: NonNullable<Finding['histogram']>): string {
  return bins.length > 1 ? `; ${bins.filter((bin) => bin.traces > 0).map((bin) => `${range(bin)} times in ${count(Math.round(bin.traces))} traces`).join(', ')}` : '';
}

/** In how many traces the call is made how often. */
function Histogram({ bins, top }: { bins: NonNullable<Finding['histogram']>; top: number }) {
  const most = Math.max(...bins.map((bin) => bin.traces), 1e-9);
  const step = WIDTH / bins.length;
  const [first, last] = [bins[0], bins[bins.length - 1]];
  return (
    <g>
      {bins.map((bin, at) => {
        const height = bin.traces > 0 ? Math.max(1.5, (bin.traces / most) * HISTOGRAM) : 0;
        return (
          <rect key={bin.from} x={at * step + 1} y={top + HISTOGRAM - height} width={Math.max(1, step - 2)} height={height} fill="var(--muted)" opacity={0.75}>
            <title>{`${range(bin)} times: ${count(Math.round(bin.traces))} traces`}</title>
          </rect>
        );
      })}
      <path d={`M0 ${top + HISTOGRAM + 0.5} H${WIDTH}`} stroke="var(--line)" />
      <text x={0} y={top + HISTOGRAM + 13}>{first && `×${range(first)}`}</text>
      <text x={WIDTH / 2} y={top + HISTOGRAM + 13} textAnchor="middle">traces by number of calls</text>
      <text x={WIDTH} y={top + HISTOGRAM + 13} textAnchor="end">{last && `×${range(last)}`}</text>
    </g>
  );
}

/** Entry points, by whom they reach it, and the dependency: dashed when it sends no spans. */
function Dependency({ finding }: { finding: Finding }) {
  const { subject } = finding;
  const name = text(subject, 'dependency', 'service') || text(subject, 'dependency', 'host') || text(subject, 'dependency', 'system') || 'dependency';
  const via = list(subject, 'via').filter((one): one is string => typeof one === 'string');
  const entries = list(subject, 'entry_points').length;
  const ofPath = number(subject, 'share_of_critical_path') ?? 0;
  const isDark = subject.uninstrumented === true;
  const stroke = Math.max(1.5, Math.min(9, ofPath * 18));
  const lines = via.slice(0, 3);
  return (
    <svg viewBox={`0 0 ${WIDTH} 74`} role="img" aria-label={`${name}: ${percent(ofPath)} of the critical path, reached through ${via.join(', ')}`}>
      {lines.map((service, at) => {
        const y = 22 + (at - (lines.length - 1) / 2) * 20;
        return (
          <g key={service}>
            <path d={`M122 ${y} C 160 ${y}, 165 22, 206 22`} fill="none" stroke={serviceColour(service)} strokeWidth={stroke / lines.length} />
            <rect x={70} y={y - 8} width={54} height={16} rx={3} fill={serviceColour(service, 0.25)} />
            <text x={97} y={y + 4} textAnchor="middle">{cut(service, 9)}</text>
          </g>
        );
      })}
      <path d={`M44 22 L70 22`} stroke="var(--line-strong)" strokeWidth={1.5} />
      <circle cx={34} cy={22} r={10} fill="var(--sunken)" stroke="var(--line-strong)" />
      <text x={34} y={26} textAnchor="middle" className="strong">{entries || 1}</text>
      <rect x={206} y={10} width={122} height={24} rx={4} fill={serviceColour(name, 0.22)} stroke={serviceColour(name)} strokeWidth={1.5} strokeDasharray={isDark ? '4 3' : undefined} />
      <text x={267} y={26} textAnchor="middle" className="strong">{cut(name, 18)}</text>
      <text x={0} y={68}>{entries || 1} entry {entries === 1 ? 'point' : 'points'}</text>
      <text x={WIDTH} y={68} textAnchor="end">{percent(ofPath)} of the critical path</text>
    </svg>
  );
}

/** How much longer than usual, and how few. */
function Rare({ finding }: { finding: Finding }) {
  const { subject } = finding;
  const usual = number(subject, 'usual_ms') ?? 0;
  const times = number(subject, 'times_slower') ?? 1;
  const timeout = number(subject, 'timeout_ms');
  const share = number(subject, 'share_of_traces') ?? 0;
  const slow = usual * times;
  const scale = (ms: number) => (ms / Math.max(slow, timeout ?? 0, 1e-9)) * (WIDTH - 60);
  const dots = Math.max(1, Math.round(share * 100));
  return (
    <svg viewBox={`0 0 ${WIDTH} 78`} role="img" aria-label={`${percent(share)} of requests take ${times.toFixed(1)} times the usual ${milliseconds(usual)}`}>
      <rect x={0} y={4} width={Math.max(2, scale(usual))} height={12} rx={2} fill={serviceColour(finding.service, 0.55)} />
      <text x={scale(usual) + 6} y={14}>usual {milliseconds(usual)}</text>
      <rect x={0} y={22} width={Math.max(2, scale(slow))} height={12} rx={2} fill={serviceColour(finding.service)} />
      <text x={scale(slow) + 6} y={32} className="strong">×{times.toFixed(times < 10 ? 1 : 0)}</text>
      {timeout !== undefined && (
        <>
          <path d={`M${scale(timeout)} 0 V40`} stroke="var(--error)" strokeDasharray="3 2" />
          <text x={Math.max(60, scale(timeout))} y={48} textAnchor="end" style={{ fill: 'var(--error)' }}>timeout {milliseconds(timeout)}</text>
        </>
      )}
      {Array.from({ length: 50 }, (_, at) => <rect key={at} x={at * 6.6} y={58} width={4.6} height={6} rx={1} fill={at < Math.ceil(dots / 2) ? 'var(--accent)' : 'var(--line-strong)'} opacity={at < Math.ceil(dots / 2) ? 1 : 0.5} />)}
      <text x={WIDTH} y={77} textAnchor="end">{percent(share)} of requests</text>
    </svg>
  );
}

/** The call that gets the blame, and what the time really goes to. */
function Misattributed({ finding }: { finding: Finding }) {
  const { subject } = finding;
  const blamed = number(subject, 'blamed_ms') ?? 0;
  const actual = number(subject, 'actual_ms') ?? 0;
  const part = text(subject, 'actual', 'part');
  const scale = (ms: number) => (ms / Math.max(1e-9, blamed + actual)) * WIDTH;
  const isBefore = part === 'before';
  const [blamedAt, actualAt] = isBefore ? [scale(actual), 0] : [0, scale(blamed)];
  const service = text(subject, 'actual', 'service') || finding.service;
  const pattern = `hatch-${finding.id}`;
  return (
    <svg viewBox={`0 0 ${WIDTH} 66`} role="img" aria-label={`blamed ${milliseconds(blamed)}, actual ${milliseconds(actual)} ${part}`}>
      <defs>
        <pattern id={pattern} width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect width="6" height="6" fill={serviceColour(service, 0.35)} />
          <rect width="2.5" height="6" fill={serviceColour(service)} />
        </pattern>
      </defs>
      <text x={0} y={10} className="strong">{cut(service, 30)}</text>
      <rect x={0} y={16} width={WIDTH} height={6} rx={2} fill={serviceColour(service)} />
      <rect x={blamedAt} y={26} width={Math.max(2, scale(blamed) - 1)} height={14} rx={2} fill="var(--muted)" opacity={0.7} />
      <rect x={actualAt} y={26} width={Math.max(2, scale(actual) - 1)} height={14} rx={2} fill={`url(#${pattern})`} stroke="var(--critical)" />
      <text x={isBefore ? WIDTH : 0} y={56} textAnchor={isBefore ? 'end' : 'start'}>call {milliseconds(blamed)}</text>
      <text x={isBefore ? 0 : WIDTH} y={56} textAnchor={isBefore ? 'start' : 'end'} className="strong">{part === 'wire' ? 'wire' : `${part} it`} {milliseconds(actual)}</text>
    </svg>
  );
}

/** Where an error was born and where it was swallowed. */
function Hidden({ finding }: { finding: Finding }) {
  const born = text(finding.subject, 'born', 'service');
  const swallowed = text(finding.subject, 'swallowed_by', 'service');
  const share = number(finding.subject, 'share_of_traces') ?? 0;
  return (
    <svg viewBox={`0 0 ${WIDTH} 62`} role="img" aria-label={`errors of ${born} are swallowed by ${swallowed} in ${percent(share)} of requests`}>
      <rect x={0} y={8} width={120} height={24} rx={4} fill={serviceColour(born, 0.22)} stroke="var(--error)" strokeWidth={1.5} />
      <text x={60} y={24} textAnchor="middle" className="strong">✕ {cut(born, 14)}</text>
      <path d="M120 20 H196" stroke="var(--error)" strokeWidth={Math.max(1.5, Math.min(8, share * 12))} />
      <path d="M200 20 l-8 -5 v10z" fill="var(--error)" />
      <rect x={204} y={8} width={124} height={24} rx={4} fill={serviceColour(swallowed, 0.22)} stroke={serviceColour(swallowed)} strokeWidth={1.5} />
      <text x={266} y={24} textAnchor="middle" className="strong">✓ {cut(swallowed, 14)}</text>
      <text x={0} y={48}>fails here</text>
      <text x={WIDTH} y={48} textAnchor="end">answers as if nothing were wrong</text>
      <text x={0} y={62}>{percent(share)} of requests</text>
    </svg>
  );
}
