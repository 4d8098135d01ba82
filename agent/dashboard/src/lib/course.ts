/** How hits on a decision went: sums of packets step by step, as the agent keeps them, carried on by what the stream tells. */

/** Sums by step; behind the last one there were none. */
export interface Course {
  start_us: number;
  step_us: number;
  packets: readonly number[];
}

/** Where the agent has told of none yet. */
const STEP_US = 30_000_000;
/** Steps that are kept: an hour. */
export const STEPS = 120;

/** With packets that came just before a moment; times that go backward count into the last step. */
export function add(course: Course | undefined, time_us: number, packets: number): Course | undefined {
  if (!(packets > 0)) return course;
  const step_us = course?.step_us ?? STEP_US;
  const step = Math.floor(time_us / step_us);
  const first = course === undefined ? step : Math.round(course.start_us / step_us);
  const last = first + (course?.packets.length ?? 0) - 1;
  if (course === undefined || step > last + STEPS) return { start_us: step * step_us, step_us, packets: [packets] };
  const out = course.packets.slice();
  while (out.length < step - first + 1) out.push(0);
  out[out.length - 1] = (out.at(-1) ?? 0) + packets;
  const over = Math.max(0, out.length - STEPS);
  return { start_us: (first + over) * step_us, step_us, packets: out.slice(over) };
}

/** Up to a moment, with the steps in which nothing came: what a drawing takes. At least `least` steps, at most an hour. */
export function drawn(course: Course | undefined, now_us: number, least: number): number[] {
  if (course === undefined) return [];
  const first = Math.round(course.start_us / course.step_us);
  const end = Math.max(first + course.packets.length - 1, Math.floor(now_us / course.step_us));
  const begin = Math.max(end - STEPS + 1, Math.min(first, end - least + 1));
  return Array.from({ length: end - begin + 1 }, (_, i) => course.packets[begin + i - first] ?? 0);
}
