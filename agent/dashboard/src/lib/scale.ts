/** Where numbers lie on an axis. */

/** 0 to 1 along an axis from `low` to `high`; logarithmic from `floor` on, with 0 at its beginning. */
export function along(value: number, low: number, high: number, log: boolean): number {
  if (!(high > low)) return 0.5;
  const f = log ? (v: number): number => Math.log10(1 + Math.max(0, v)) : (v: number): number => v;
  const share = (f(value) - f(low)) / (f(high) - f(low));
  return Math.min(1, Math.max(0, share));
}

export interface Range {
  low: number;
  high: number;
  /** The values span so much that only their logarithms can be told apart. */
  log: boolean;
}

/** An axis that holds what was observed and what is usual, with a little room. */
export function rangeOf(observed: number, usual_low: number, usual_high: number): Range {
  const low = Math.min(observed, usual_low);
  const high = Math.max(observed, usual_high);
  const log = low >= 0 && high > 20 * Math.max(1e-9, usual_high === high ? Math.max(observed, usual_low) : usual_high);
  const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return { low: low >= 0 ? Math.max(0, low - (log ? 0 : room)) : low - room, high: log ? high * 1.3 : high + room, log };
}

/** -log10 of a p-value, for an axis of strangeness; bounded, since a p-value may be 0. */
export function strangeness(p: number): number {
  return p > 0 ? Math.min(12, Math.max(0, -Math.log10(p))) : 12;
}

/** Round steps that divide an axis. */
export function ticks(low: number, high: number, about: number): number[] {
  const raw = (high - low) / Math.max(1, about);
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw) ?? raw;
  const out: number[] = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) out.push(Math.round(v / step) * step);
  return out;
}
