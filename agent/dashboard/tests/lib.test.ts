import { describe, expect, test } from "vitest";
import { bytesOf, covers, hostOf } from "../src/lib/address.ts";
import { STEPS, add, drawn } from "../src/lib/course.ts";
import { clock, endpoint, number, odds, parseSpan, percent, plural, relative, si, span, word } from "../src/lib/format.ts";
import { append, merge, without } from "../src/lib/merge.ts";
import { along, rangeOf, strangeness, ticks } from "../src/lib/scale.ts";
import { BEGINNING, type StreamEvent, delay, query, step } from "../src/lib/stream.ts";
import { anchored, revealing, visible } from "../src/lib/window.ts";

describe("the window of a long list", () => {
  test("draws what is seen and a little more, and leaves room for the rest", () => {
    const w = visible(10_000, 34, 34 * 500, 680);
    expect(w.from).toBe(494);
    expect(w.to).toBe(526);
    expect(w.before + (w.to - w.from) * 34 + w.after).toBe(10_000 * 34);
  });
  test("never leaves the list, wherever it was scrolled to", () => {
    for (const top of [-50, 0, 1e9]) {
      const w = visible(3, 34, top, 680);
      expect(w.from).toBeGreaterThanOrEqual(0);
      expect(w.to).toBeLessThanOrEqual(3);
      expect(w.from).toBeLessThanOrEqual(w.to);
    }
    expect(visible(0, 34, 0, 680)).toEqual({ from: 0, to: 0, before: 0, after: 0 });
  });
  test("keeps what is read in its place when rows come in above it, and follows at the top", () => {
    expect(anchored(340, 34, 5)).toBe(340 + 170);
    expect(anchored(0, 34, 5)).toBe(0);
    expect(anchored(340, 34, -1)).toBe(340);
  });
  test("reveals a row by the shortest way", () => {
    expect(revealing(2, 34, 340, 340)).toBe(68);
    expect(revealing(30, 34, 0, 340)).toBe(714);
    expect(revealing(12, 34, 340, 340)).toBe(340);
  });
});

describe("how hits went", () => {
  const S = 1_000_000;
  const T = 1_800_000_000 * S;
  const told = { start_us: T, step_us: 30 * S, packets: [7, 0, 5] };
  test("goes on behind what the agent told of, in the step that it belongs to", () => {
    expect(add(told, T + 61 * S, 2)).toEqual({ ...told, packets: [7, 0, 7] });
    expect(add(told, T + 125 * S, 2)).toEqual({ ...told, packets: [7, 0, 5, 0, 2] });
    expect(add(undefined, T + 40 * S, 3)).toEqual({ start_us: T + 30 * S, step_us: 30 * S, packets: [3] });
    expect(add(told, T + 61 * S, 0)).toBe(told);
    expect(told.packets).toEqual([7, 0, 5]);
  });
  test("is an hour at most, and begins anew after one without any", () => {
    const late = add(told, T + 30 * S * (STEPS + 1), 1);
    expect([late?.start_us, late?.packets.length, late?.packets[0]]).toEqual([T + 60 * S, STEPS, 5]);
    expect(add(told, T + 2 * 3600 * S, 1)?.packets).toEqual([1]);
    expect(add(told, T - 3600 * S, 1)?.packets).toEqual([7, 0, 6]);
  });
  test("is drawn up to now, with the steps in which nothing came", () => {
    expect(drawn(told, T + 130 * S, 2)).toEqual([7, 0, 5, 0, 0]);
    expect(drawn(told, T + 61 * S, 5)).toEqual([0, 0, 7, 0, 5]);
    expect(drawn(told, T + 2 * 3600 * S, 5)).toEqual(Array(STEPS).fill(0));
    expect(drawn(undefined, T, 5)).toEqual([]);
  });
});

describe("what came is put into what is there", () => {
  const item = (id: number, text = ""): { id: number; text: string } => ({ id, text });
  test("newest first, each once, the later word wins", () => {
    const there = [item(3), item(1)];
    expect(merge(there, [item(2), item(4, "a"), item(4, "b"), item(3, "new")])).toEqual([item(4, "b"), item(3, "new"), item(2), item(1)]);
    expect(there).toEqual([item(3), item(1)]);
  });
  test("nothing new gives the same list", () => {
    const there = [item(1)];
    expect(merge(there, [])).toBe(there);
    expect(without(there, new Set([7]))).toBe(there);
  });
  test("the oldest go beyond the limit", () => {
    expect(merge([item(2), item(1)], [item(3)], 2).map((i) => i.id)).toEqual([3, 2]);
  });
  test("a resumed stream that says things twice changes nothing", () => {
    const came = [item(5), item(6)];
    const once = merge([item(4)], came);
    expect(merge(once, came)).toEqual(once);
  });
  test("points in time stay in order and bounded", () => {
    const p = (time_us: number, v = 0): { time_us: number; v: number } => ({ time_us, v });
    expect(append([p(1), p(2)], [p(2, 9), p(1, 5), p(3)], 2)).toEqual([p(2, 9), p(3)]);
  });
});

describe("the stream", () => {
  const run = (...events: StreamEvent[]): typeof BEGINNING => events.reduce(step, BEGINNING);
  test("goes on behind the last token after it was cut off", () => {
    const s = run({ what: "open" }, { what: "token", token: "a" }, { what: "token", token: "b" }, { what: "failed" });
    expect(s).toMatchObject({ phase: "waiting", token: "b", failures: 1 });
    expect(query(["alert", "hits"], s.token)).toBe("kinds=alert%2Chits&resume_token=b");
    expect(step(step(s, { what: "retry" }), { what: "open" })).toMatchObject({ phase: "live", failures: 0, token: "b" });
  });
  test("counts what was lost and how often the agent was restarted", () => {
    expect(run({ what: "lost", count: 3 }, { what: "lost", count: 4 }, { what: "restarted" })).toMatchObject({ lost: 7, restarts: 1 });
  });
  test("an answer that comes after the page was left changes nothing", () => {
    expect(run({ what: "stop" }, { what: "open" }).phase).toBe("stopped");
  });
  test("waits longer each time, and not for ever", () => {
    expect([1, 2, 3, 10].map((n) => delay(n, 0))).toEqual([500, 1000, 2000, 15_000]);
    expect(delay(50, 1)).toBeLessThanOrEqual(18_750);
  });
});

describe("numbers as people read them", () => {
  test("large ones are short", () => {
    expect(si(0)).toBe("0");
    expect(si(999)).toBe("999");
    expect(si(1_234_567, "B/s")).toBe("1.23 MB/s");
    expect(si(999_600)).toBe("1.00 M");
    expect(si(NaN)).toBe("–");
    expect(plural(1, "entry", "entries")).toBe("1 entry");
    expect(plural(12_000, "flow")).toBe("12,000 flows");
  });
  test("lengths of time have two units", () => {
    expect(span(350_000)).toBe("350 ms");
    expect(span(12_000_000)).toBe("12 s");
    expect(span(14_700_000_000)).toBe("4 h 5 min");
    expect(span(3_600_000_000)).toBe("1 h");
    expect(span(3_605_000_000)).toBe("1 h");
  });
  test("moments are told from now", () => {
    expect(relative(0, 180_000_000)).toBe("3 min ago");
    expect(relative(181_000_000, 1_000_000)).toBe("in 3 min");
    expect(relative(5, 6)).toBe("now");
    const t = new Date(2026, 10, 27, 14, 3, 22).getTime() * 1000;
    expect(clock(t, t)).toBe("14:03:22");
    expect(clock(t, t + 86_400_000_000)).toBe("11-27 14:03:22");
  });
  test("p-values are rates", () => {
    expect(odds(0.7)).toBe("ordinary");
    expect(odds(0.00025)).toBe("1 in 4,000");
    expect(odds(0)).toBe("never seen");
  });
  test("what people type as a length of time", () => {
    expect(parseSpan("4h")).toBe(14_400_000_000);
    expect(parseSpan(" 90 s ")).toBe(90_000_000);
    expect(parseSpan("1.5d")).toBe(129_600_000_000);
    expect(parseSpan("0m")).toBeUndefined();
    expect(parseSpan("soon")).toBeUndefined();
  });
  test("the rest", () => {
    expect(number(0.000012)).toBe("1.2e-5");
    expect(number(12_345)).toBe("12,350");
    expect(percent(0.0123)).toBe("1.2%");
    expect(endpoint("2001:db8::1", 443)).toBe("[2001:db8::1]:443");
    expect(word("ACTION_DROP", "ACTION_")).toBe("drop");
    expect(word("ACTION_UNSPECIFIED", "ACTION_")).toBe("");
  });
});

describe("addresses", () => {
  test("prefixes cover what lies in them", () => {
    expect(covers("198.51.100.0/24", "198.51.100.201")).toBe(true);
    expect(covers("198.51.100.0/25", "198.51.100.201")).toBe(false);
    expect(covers("0.0.0.0/0", "203.0.113.1")).toBe(true);
    expect(covers("2001:db8:77:a::/64", "2001:db8:77:a::201")).toBe(true);
    expect(covers("2001:db8::/32", "198.51.100.1")).toBe(false);
    expect(covers("198.51.100.201", "198.51.100.201")).toBe(true);
  });
  test("nonsense is no address", () => {
    for (const text of ["", "1.2.3", "1.2.3.256", "::1::", "g::1", "1:2:3:4:5:6:7:8:9", "a.b.c.d"]) expect(bytesOf(text)).toBeUndefined();
    expect(covers("198.51.100.0/99", "198.51.100.1")).toBe(false);
  });
  test("a target's host, where it has one", () => {
    expect(hostOf("198.51.100.7/tcp/22")).toBe("198.51.100.7");
    expect(hostOf("198.51.100.0/24")).toBeUndefined();
    expect(hostOf("tcp:198.51.100.7:1-198.51.100.1:22")).toBeUndefined();
  });
});

describe("axes", () => {
  test("what was observed and what is usual both lie on the axis", () => {
    for (const [seen, low, high] of [[4213, 1, 4], [0.93, 0, 0.06], [44, 900, 61_000], [5, 5, 5]] as const) {
      const r = rangeOf(seen, low, high);
      for (const v of [seen, low, high]) {
        const at = along(v, r.low, r.high, r.log);
        expect(at).toBeGreaterThanOrEqual(0);
        expect(at).toBeLessThanOrEqual(1);
      }
      if (seen > high) expect(along(seen, r.low, r.high, r.log)).toBeGreaterThan(along(high, r.low, r.high, r.log) + 0.1);
    }
  });
  test("strangeness is bounded", () => {
    expect(strangeness(0)).toBe(12);
    expect(strangeness(1)).toBe(0);
    expect(strangeness(0.001)).toBeCloseTo(3);
  });
  test("ticks are round", () => {
    expect(ticks(0, 10, 5)).toEqual([0, 2, 4, 6, 8, 10]);
  });
});
