/** The stream of events: connects, goes on where it was, and hands over what came in batches. */
import { signal } from "@preact/signals";
import { path, session } from "../api/client.ts";
import type { Event, ScorePoint, TrafficPoint } from "../api/types.ts";
import { BEGINNING, type StreamEvent, delay, query, step } from "../lib/stream.ts";
import { say } from "./news.ts";
import { loadAll, sources, status, take, takeScores, takeTraffic } from "./stores.ts";

export const stream = signal(BEGINNING);
/** When the page next tries to connect, milliseconds since the epoch; 0: it does not wait. */
export const retryAt = signal(0);
/** Events that came, since the page was opened. */
export const received = signal(0);

const KINDS = ["alert", "decision", "question", "agent", "hits", "source", "flow"];
/** So long what comes is gathered before the page is drawn. */
const GATHER_MS = 200;
/** The server says something at least every 15 s. */
const SILENT_MS = 40_000;

let from: EventSource | undefined;
let events: Event[] = [];
let traffic: TrafficPoint[] = [];
let scores: ScorePoint[] = [];
let gathering = 0;
let heard = 0;
let timers: number[] = [];
let retry = 0;

function on(event: StreamEvent): void {
  stream.value = step(stream.value, event);
}

function flush(): void {
  gathering = 0;
  const [e, t, s] = [events, traffic, scores];
  [events, traffic, scores] = [[], [], []];
  if (e.length > 0) {
    received.value += e.length;
    take(e);
  }
  if (t.length > 0) takeTraffic(t);
  if (s.length > 0) takeScores(s);
}

function gather(): void {
  if (gathering === 0) gathering = window.setTimeout(flush, GATHER_MS);
}

function connect(): void {
  window.clearTimeout(retry);
  retryAt.value = 0;
  from?.close();
  const again = stream.value.failures > 0;
  const source = new EventSource(path("events") + "?" + query(KINDS, stream.value.token));
  from = source;
  const listen = (kind: string, hear: (data: unknown) => void): void => {
    source.addEventListener(kind, (message: MessageEvent<string>) => {
      if (from !== source) return;
      heard = Date.now();
      if (message.lastEventId !== "") on({ what: "token", token: message.lastEventId });
      try {
        hear(JSON.parse(message.data));
      } catch (e) {
        console.error(`an event of kind ${kind} could not be read`, e);
      }
      gather();
    });
  };
  source.addEventListener("open", () => {
    if (from !== source) return;
    heard = Date.now();
    on({ what: "open" });
    // Lists may have changed in ways that the stream does not tell.
    if (again) void loadAll();
  });
  source.addEventListener("error", () => {
    if (from === source) fail();
  });
  for (const kind of KINDS) listen(kind, (data) => events.push(data as Event));
  listen("traffic", (data) => traffic.push(data as TrafficPoint));
  listen("scores", (data) => {
    const points = Array.isArray(data) ? data : (data as { points?: unknown }).points;
    if (Array.isArray(points)) scores.push(...(points as ScorePoint[]));
  });
  listen("lost", (data) => {
    on({ what: "lost", count: Number((data as { count?: unknown }).count ?? 0) });
    refresh();
  });
  listen("restarted", () => {
    on({ what: "restarted" });
    say("info", "The agent was restarted; everything shown was asked for again.");
    void loadAll();
  });
}

let refreshing = 0;
/** What was lost on the way is asked for, at most every two seconds. */
function refresh(): void {
  if (refreshing !== 0) return;
  refreshing = window.setTimeout(() => {
    refreshing = 0;
    void loadAll();
  }, 2_000);
}

function fail(): void {
  from?.close();
  from = undefined;
  on({ what: "failed" });
  const wait = delay(stream.value.failures, Math.random());
  retryAt.value = Date.now() + wait;
  window.clearTimeout(retry);
  retry = window.setTimeout(() => {
    // The session may be what ended.
    void fetch(path("session"), { credentials: "same-origin", cache: "no-store" }).then(
      (r) => {
        if (r.status === 401) session.value = null;
        else reconnect();
      },
      () => fail(),
    );
  }, wait);
}

export function reconnect(): void {
  on({ what: "retry" });
  connect();
}

export function start(): void {
  stop();
  stream.value = { ...BEGINNING, lost: stream.value.lost };
  connect();
  const every = (ms: number, run: () => void): void => {
    timers.push(window.setInterval(() => { if (!document.hidden) run(); }, ms));
  };
  every(3_000, () => void status.load());
  every(2_000, () => void sources.load());
  // A connection that died without a word.
  every(5_000, () => { if (stream.value.phase === "live" && heard > 0 && Date.now() - heard > SILENT_MS) fail(); });
}

export function stop(): void {
  from?.close();
  from = undefined;
  window.clearTimeout(retry);
  for (const timer of timers) window.clearInterval(timer);
  timers = [];
}
