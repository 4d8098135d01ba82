/** What the page knows of the agent: asked for once, and kept up to date by the stream. */
import { computed, signal } from "@preact/signals";
import { get } from "../api/client.ts";
import type {
  AgentEvent,
  Alert,
  DecisionState,
  Event,
  FlowEvent,
  Label,
  Question,
  ScorePoint,
  Status,
  TopSources,
  TrafficPoint,
} from "../api/types.ts";
import { add } from "../lib/course.ts";
import { word } from "../lib/format.ts";
import { append, merge, without } from "../lib/merge.ts";
import { resource } from "./resource.ts";
import { spoken } from "./news.ts";

export const MAX_ALERTS = 10_000;
const OVERLAP_US = 600_000_000;
const MAX_QUESTIONS = 2_000;
const MAX_POINTS = 300;
const MAX_SCORES = 3_000;
const MAX_FLOWS = 300;
const MAX_NEWS = 200;

/** An alert as a list shows it. */
export interface AlertRow {
  id: number;
  time_us: number;
  source: string;
  severity: string;
  evidence: number;
  evidence_proven: number;
  alert_threshold: number;
  drop_threshold: number;
  profile: string;
  role: string;
  p_value: number;
  ports: number[];
  flows: number;
  since_us: number;
  outcome: string;
  mode: string;
  reasons: string[];
}

/** A decision; the stream carries its course on. */
export interface DecisionRow {
  id: number;
  state: DecisionState;
}

export interface News extends AgentEvent {
  id: number;
  time_us: number;
}

export interface SeenFlow {
  id: number;
  time_us: number;
  flow: FlowEvent;
}

export const alerts = signal<readonly AlertRow[]>([]);
export const questions = signal<readonly Question[]>([]);
export const decisions = signal<readonly DecisionRow[]>([]);
export const traffic = signal<readonly TrafficPoint[]>([]);
export const scores = signal<readonly ScorePoint[]>([]);
export const flows = signal<readonly SeenFlow[]>([]);
export const news = signal<readonly News[]>([]);
/** What the first answers failed with. */
export const failed = signal("");
export const loaded = signal(false);

export const open = computed(() => questions.value.filter((q) => q.state === "open"));

export const status = resource(() => get<Status>("status"));
export const sources = resource(() => get<TopSources>("sources", { limit: 20 }));
export const labels = resource(async () => (await get<{ labels: Label[] }>("labels")).labels);

/** Labels that hold, by alert. */
export const labelled = computed(() => {
  const out = new Map<number, Label>();
  // The latest comes first and wins.
  for (const label of (labels.value.value ?? []).slice().reverse()) {
    if (label.undone_us === 0) out.set(label.alert_id, label);
  }
  return out;
});

function rowOf(alert: Alert): AlertRow {
  return { ...alert, reasons: alert.reasons.map((r) => r.words) };
}

function rowOfEvent(event: Event): AlertRow | undefined {
  const a = event.alert;
  if (a === undefined) return undefined;
  const { anomaly } = a;
  return {
    id: a.id,
    time_us: event.time_us,
    source: a.source,
    severity: a.severity,
    evidence: a.evidence,
    evidence_proven: a.evidence_proven,
    alert_threshold: a.alert_threshold,
    drop_threshold: a.drop_threshold,
    profile: anomaly?.profile ?? "",
    role: anomaly?.role ?? "",
    p_value: anomaly?.p_value ?? 1,
    ports: a.ports,
    flows: a.flows,
    since_us: a.since_us,
    outcome: a.outcome,
    mode: word(a.mode, "MODE_"),
    reasons: anomaly?.reasons ?? [],
  };
}

/** Asks for everything that the stream then keeps up to date. */
export async function loadAll(): Promise<void> {
  const settle = await Promise.allSettled([
    loadAlerts(),
    loadQuestions(),
    loadDecisions(),
    get<{ points: TrafficPoint[] }>("traffic").then((r) => {
      traffic.value = append([], r.points, MAX_POINTS);
    }),
    get<{ points: ScorePoint[] }>("scores").then((r) => {
      scores.value = r.points.slice().sort((a, b) => a.time_us - b.time_us).slice(-MAX_SCORES);
    }),
    status.load(),
    sources.load(),
    labels.load(),
  ]);
  const bad = settle.find((s) => s.status === "rejected");
  failed.value = bad === undefined ? "" : String((bad.reason as Error).message);
  loaded.value = true;
}

export async function loadAlerts(): Promise<void> {
  // What is known is not asked for again, but for a while in which something may have been lost on the way.
  const newest = alerts.value[0]?.time_us;
  const since_us = newest === undefined ? undefined : Math.max(0, newest - OVERLAP_US);
  const { alerts: all } = await get<{ alerts: Alert[] }>("alerts", { limit: MAX_ALERTS, since_us });
  alerts.value = merge(alerts.value, all.map(rowOf), MAX_ALERTS);
}

export async function loadQuestions(): Promise<void> {
  const { questions: all } = await get<{ questions: Question[] }>("questions", { all: true });
  questions.value = merge([], all, MAX_QUESTIONS);
}

export async function loadDecisions(): Promise<void> {
  const { decisions: all } = await get<{ decisions: DecisionState[] }>("decisions");
  decisions.value = merge([], all.flatMap((state) => (state.decision === undefined ? [] : [{ id: state.decision.id, state }])));
}

/** Takes many events at once, so that the page is drawn once for all of them. */
export function take(events: readonly Event[]): void {
  const newAlerts: AlertRow[] = [];
  const newQuestions: Question[] = [];
  const newFlows: SeenFlow[] = [];
  const newNews: News[] = [];
  const changed = new Map<number, DecisionRow>();
  const gone = new Set<number>();
  const known = new Map(decisions.value.map((d) => [d.id, d]));
  for (const event of events) {
    const row = rowOfEvent(event);
    if (row !== undefined) newAlerts.push(row);
    if (event.question?.question !== undefined) newQuestions.push(event.question.question);
    if (event.flow !== undefined) {
      seen += 1;
      newFlows.push({ id: seen, time_us: event.time_us, flow: event.flow });
    }
    if (event.agent !== undefined) {
      seen += 1;
      newNews.push({ ...event.agent, id: seen, time_us: event.time_us });
    }
    const decision = event.decision?.decision;
    if (event.decision !== undefined && decision !== undefined) {
      const { change, note } = event.decision;
      if (["expired", "deleted", "superseded", "refused"].includes(change)) {
        gone.add(decision.id);
        changed.delete(decision.id);
      } else {
        gone.delete(decision.id);
        const before = changed.get(decision.id) ?? known.get(decision.id);
        const state: DecisionState = {
          packets: 0,
          bytes: 0,
          enforced: false,
          awaiting_confirmation: false,
          note: "",
          ...before?.state,
          decision,
        };
        if (change === "enforced") state.enforced = true;
        if (change === "extended") state.awaiting_confirmation = false;
        if (note !== "") state.note = note;
        changed.set(decision.id, { id: decision.id, state });
      }
    }
    if (event.hits !== undefined) {
      const { decision_id, packets, bytes } = event.hits;
      const before = changed.get(decision_id) ?? known.get(decision_id);
      if (before !== undefined) {
        // Fewer than before: the entry was made anew.
        const more = packets >= before.state.packets ? packets - before.state.packets : packets;
        const course = add(before.state.course, event.time_us, more);
        const state = { ...before.state, packets, bytes, last_hit_us: event.time_us, ...(course === undefined ? {} : { course: { ...course, packets: [...course.packets] } }) };
        changed.set(decision_id, { id: decision_id, state });
      }
    }
  }
  const fresh = newAlerts.filter((a) => a.id > (alerts.value[0]?.id ?? 0));
  alerts.value = merge(alerts.value, newAlerts, MAX_ALERTS);
  questions.value = merge(questions.value, newQuestions, MAX_QUESTIONS);
  decisions.value = without(merge(decisions.value, [...changed.values()]), gone);
  flows.value = merge(flows.value, newFlows, MAX_FLOWS);
  news.value = merge(news.value, newNews, MAX_NEWS);
  speak(fresh, newQuestions);
  if (newQuestions.length > 0 || newNews.length > 0) void status.load();
}

let seen = 0;

function speak(fresh: readonly AlertRow[], asked: readonly Question[]): void {
  const waiting = asked.filter((q) => q.state === "open" && q.count <= 1);
  const [first] = fresh;
  const parts: string[] = [];
  if (first !== undefined) {
    parts.push(fresh.length === 1 ? `New alert, ${first.severity}: ${first.source}` : `${fresh.length} new alerts`);
  }
  if (waiting.length > 0) parts.push(waiting.length === 1 ? `New question about ${waiting[0]?.source ?? ""}` : `${waiting.length} new questions`);
  if (parts.length > 0) spoken.value = parts.join(". ");
}

export function takeTraffic(points: readonly TrafficPoint[]): void {
  traffic.value = append(traffic.value, points, MAX_POINTS);
}

export function takeScores(points: readonly ScorePoint[]): void {
  if (points.length === 0) return;
  const all = [...scores.value, ...points];
  scores.value = all.length > MAX_SCORES ? all.slice(all.length - MAX_SCORES) : all;
}
