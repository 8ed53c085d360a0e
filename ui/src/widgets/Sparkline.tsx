/** Requests over time, failed ones below in red. */
export function Sparkline({ points, failed, label }: { points: number[]; failed: number[]; label: string }) {
  const [width, height] = [120, 22];
  const most = Math.max(1, ...points);
  const step = width / Math.max(1, points.length - 1);
  const y = (value: number) => height - 1 - (value / most) * (height - 3);
  const line = points.map((value, at) => `${at === 0 ? 'M' : 'L'}${(at * step).toFixed(1)} ${y(value).toFixed(1)}`).join('');
  return (
    <svg className="spark" viewBox={`0 0 ${width} ${height}`} role="img" aria-label={label}>
      <path className="area" d={`${line}L${width} ${height}L0 ${height}Z`} />
      <path className="line" d={line} />
      {failed.map((value, at) => value > 0 && <rect key={at} className="failed" x={at * step - 1} width={2} y={height - Math.max(2, (value / most) * height)} height={Math.max(2, (value / most) * height)} />)}
    </svg>
  );
}
