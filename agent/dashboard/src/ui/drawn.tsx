/** Small drawings in SVG, coloured by the style sheet. */
import type { JSX } from "preact";
import type { AlertReason } from "../api/types.ts";
import { number, percent } from "../lib/format.ts";
import { along, rangeOf } from "../lib/scale.ts";

/** Each strange feature: what is usual as a band, what was observed as a mark. */
export function Reasons({ reasons }: { reasons: readonly AlertReason[] }): JSX.Element {
  return (
    <ol class="reasons">
      {reasons.map((r) => {
        const range = rangeOf(r.observed, r.usual_low, r.usual_high);
        const at = (v: number): number => along(v, range.low, range.high, range.log) * 100;
        const [low, high, seen] = [at(r.usual_low), at(r.usual_high), at(r.observed)];
        const inside = r.observed >= r.usual_low && r.observed <= r.usual_high;
        const words = `observed ${number(r.observed)}, usual ${number(r.usual_low)} to ${number(r.usual_high)}`;
        return (
          <li key={r.feature}>
            <p class="reason-words">{r.words}</p>
            <div class="reason-chart" role="img" aria-label={`${r.feature}: ${words}`}>
              <svg viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true">
                <line x1="0" x2="100" y1="7" y2="7" class="track" />
                <rect x={low} width={Math.max(0.8, high - low)} y="3" height="8" class="usual" />
                <rect x={Math.min(99, Math.max(0, seen - 0.5))} width="1" y="0" height="14" class={inside ? "seen ordinary" : "seen"} />
              </svg>
            </div>
            <p class="reason-figures">
              <span class="observed">
                <b>{number(r.observed)}</b> observed
              </span>
              <span>
                {number(r.usual_low)} – {number(r.usual_high)} usual
              </span>
              {range.log && <span class="dim">logarithmic</span>}
              {r.nearest_usual !== "" && <span>usual from {r.nearest_usual}</span>}
              <span class="share" title="Share of the anomaly that this feature explains">
                {percent(r.share, 0)}
              </span>
            </p>
          </li>
        );
      })}
    </ol>
  );
}

/** A line without axes, for a table. */
export function Spark({ values, label }: { values: readonly number[]; label: string }): JSX.Element {
  const high = Math.max(1e-9, ...values);
  const step = values.length > 1 ? 100 / (values.length - 1) : 0;
  const points = values.map((v, i) => `${(i * step).toFixed(1)},${(21 - (v / high) * 19).toFixed(1)}`).join(" ");
  return (
    <svg class="spark" viewBox="0 0 100 22" preserveAspectRatio="none" role="img" aria-label={label}>
      {values.length > 1 && <polyline points={points} />}
    </svg>
  );
}

export interface CurvePoint {
  x: number;
  y: number;
  low?: number;
  high?: number;
  title?: string;
}

/** Rates against rates, both logarithmic; the diagonal is what was asked for. */
export function Rates({ points, label, xTitle, yTitle }: { points: readonly CurvePoint[]; label: string; xTitle: string; yTitle: string }): JSX.Element {
  const all = points.flatMap((p) => [p.x, p.y, p.low ?? p.y, p.high ?? p.y]).filter((v) => v > 0);
  const decades = Math.floor(Math.log10(Math.min(0.1, ...all)));
  const [W, H, L, B] = [230, 200, 40, 32];
  const on = (v: number): number => Math.min(1, Math.max(0, (Math.log10(Math.max(v, 1e-12)) - decades) / -decades));
  const x = (v: number): number => L + on(v) * (W - L - 8);
  const y = (v: number): number => H - B - on(v) * (H - B - 8);
  const marks = Array.from({ length: -decades + 1 }, (_, i) => decades + i);
  const name = (d: number): string => (d === 0 ? "1" : `10${[...String(d)].map((c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)] ?? "").join("")}`);
  return (
    <svg class="curve" viewBox={`0 0 ${W} ${H}`} role="img" aria-label={label}>
      {marks.map((d) => (
        <g key={d}>
          <line class="grid" x1={x(10 ** d)} x2={x(10 ** d)} y1={8} y2={H - B} />
          <line class="grid" x1={L} x2={W - 8} y1={y(10 ** d)} y2={y(10 ** d)} />
          <text x={x(10 ** d)} y={H - B + 13} text-anchor="middle">{name(d)}</text>
          <text x={L - 5} y={y(10 ** d) + 3} text-anchor="end">{name(d)}</text>
        </g>
      ))}
      <text class="title" x={(L + W - 8) / 2} y={H - 4} text-anchor="middle">{xTitle}</text>
      <text class="title" x={10} y={(H - B) / 2} text-anchor="middle" transform={`rotate(-90 10 ${(H - B) / 2})`}>{yTitle}</text>
      <line class="asked" x1={x(10 ** decades)} y1={y(10 ** decades)} x2={x(1)} y2={y(1)} />
      <polyline class="course" points={points.filter((p) => p.y > 0).map((p) => `${x(p.x).toFixed(1)},${y(p.y).toFixed(1)}`).join(" ")} />
      {points.map((p) => (
        <g key={p.x}>
          <title>{p.title ?? `${p.x}: ${p.y}`}</title>
          {p.low !== undefined && p.high !== undefined && <line class="interval" x1={x(p.x)} x2={x(p.x)} y1={y(p.low)} y2={y(p.high)} />}
          <circle cx={x(p.x)} cy={y(p.y)} r={points.length > 20 ? 1.5 : 2.5} />
        </g>
      ))}
    </svg>
  );
}

/** Shares of p-values in tenths; an even course is what calibration promises. */
export function Tenths({ values, label, expected = 0.1 }: { values: readonly number[]; label: string; expected?: number }): JSX.Element {
  const high = Math.max(expected * 2, ...values);
  const [W, H] = [320, 120];
  const step = (W - 20) / Math.max(1, values.length);
  return (
    <svg class="bars" viewBox={`0 0 ${W} ${H}`} role="img" aria-label={label}>
      {values.map((v, i) => (
        <rect key={i} x={10 + i * step + 2} width={step - 4} y={H - 18 - (v / high) * (H - 26)} height={(v / high) * (H - 26)}>
          <title>{`${i / 10} to ${(i + 1) / 10}: ${percent(v)}`}</title>
        </rect>
      ))}
      <line class="asked" x1="10" x2={W - 10} y1={H - 18 - (expected / high) * (H - 26)} y2={H - 18 - (expected / high) * (H - 26)} />
      {values.map((_, i) => (
        <text key={i} x={10 + i * step + step / 2} y={H - 5} text-anchor="middle">{(i / 10).toFixed(1)}</text>
      ))}
    </svg>
  );
}
