/** Things with a number, kept newest first, each once, at most so many. */
export interface Numbered {
  id: number;
}

/**
 * Puts what came into what is there: a number that is known is replaced in its place, a new one is put where it belongs.
 * Neither list is changed. With nothing new the same list comes back, so that nothing is drawn again.
 */
export function merge<T extends Numbered>(there: readonly T[], came: readonly T[], limit = Infinity): readonly T[] {
  if (came.length === 0) return there;
  const latest = new Map<number, T>();
  for (const item of came) latest.set(item.id, item);
  const out: T[] = [];
  const fresh = new Map(latest);
  for (const item of there) {
    const other = latest.get(item.id);
    fresh.delete(item.id);
    out.push(other ?? item);
  }
  if (fresh.size > 0) {
    out.push(...fresh.values());
    out.sort((a, b) => b.id - a.id);
  }
  return out.length > limit ? out.slice(0, limit) : out;
}

/** Without those of these numbers. */
export function without<T extends Numbered>(there: readonly T[], gone: ReadonlySet<number>): readonly T[] {
  return there.some((item) => gone.has(item.id)) ? there.filter((item) => !gone.has(item.id)) : there;
}

/** A bounded list of points in time, the oldest first; a point of a known time replaces it, and one from before is dropped. */
export function append<T extends { time_us: number }>(there: readonly T[], came: readonly T[], limit: number): readonly T[] {
  if (came.length === 0) return there;
  const out = there.slice();
  for (const point of came) {
    const last = out.at(-1);
    if (last === undefined || point.time_us > last.time_us) out.push(point);
    else if (point.time_us === last.time_us) out[out.length - 1] = point;
  }
  return out.length > limit ? out.slice(out.length - limit) : out;
}
