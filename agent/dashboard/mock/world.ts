/** A made-up network: what it has seen so far, and what happens next. */
import type { Alert, Bundle, DecisionState, Event, Label, Question, QuestionDetail, RecordedFlow, ScorePoint, TrafficPoint } from "../src/api/types.ts";

export const now = (): number => Date.now() * 1000;
const MIN = 60_000_000;
const pick = <T>(all: readonly T[]): T => all[Math.floor(Math.random() * all.length)] as T;
const around = (mean: number, spread = 0.3): number => mean * (1 + spread * (Math.random() * 2 - 1));

/** What would run if a name or comment were taken for markup. */
export const SCRIPT = `<img src=x onerror="window.__script=1"><script>window.__script=1</script>`;

const REASONS = [
  { feature: "distinct_ports", words: "4,213 distinct ports; usual are 1 to 4", observed: 4213, usual_low: 1, usual_high: 4, share: 0.46, nearest_usual: "4 ports" },
  { feature: "unanswered_share", words: "93% of its flows unanswered; usual are 0% to 6%", observed: 0.93, usual_low: 0, usual_high: 0.06, share: 0.27, nearest_usual: "6%" },
  { feature: "flows", words: "1,140 flows in 10 s; usual are 2 to 38", observed: 1140, usual_low: 2, usual_high: 38, share: 0.19, nearest_usual: "38 flows" },
  { feature: "mean_bytes", words: "a mean of 44 bytes per flow; usual are 900 to 61,000", observed: 44, usual_low: 900, usual_high: 61000, share: 0.08, nearest_usual: "900 B" },
];

export class World {
  /** The oldest first. */
  private raised: Alert[] = [];
  questions: QuestionDetail[] = [];
  decisions: DecisionState[] = [];
  labels: Label[] = [];
  traffic: TrafficPoint[] = [];
  scores: ScorePoint[] = [];
  flows: RecordedFlow[] = [];
  bundles: Bundle[] = [];
  next = 1;

  constructor(alerts: number) {
    const t = now();
    for (let i = 300; i > 0; i -= 1) this.tick(t - i * 1_000_000);
    for (let i = alerts; i > 0; i -= 1) this.alert(t - i * (40 * MIN / Math.max(1, alerts / 20)));
    this.bundles = [
      this.bundle("learned-20261126-0312", true, true, 0),
      this.bundle("learned-20261119-0300", false, true, 1),
      { ...this.bundle("default", false, false, 9), origin: "built in" },
    ];
    delete this.bundles[0]?.steps_back;
    this.decide("198.51.100.202", "ACTION_DROP", 3_000_000_000, "password guessing on port 22: 41 nats of proven evidence");
    this.decide("203.0.113.0/24", "ACTION_LIMIT", undefined, "asked for by the people of the mail server");
    this.decide("2001:db8:77:a::201", "ACTION_SHADOW", 500_000_000, "in mode enforce this would have been dropped");
    this.ask("198.51.100.201");
    this.ask("203.0.113.77");
  }

  /** The latest first. */
  get alerts(): Alert[] {
    return this.raised.slice().reverse();
  }

  bundle(id: string, current: boolean, promoted: boolean, steps_back: number): Bundle {
    return { id, promoted, origin: "learned here", created_us: now() - steps_back * 7 * 1440 * MIN, flows: 412_332, windows: 88_120, profiles: ["core", "full", "source"], current, hash: "9f3c1ab04d77", bytes: 2_400_000, challenger: false, steps_back, since_us: now() - 1440 * MIN };
  }

  tick(t: number): { point: TrafficPoint; scores: ScorePoint[] } {
    const burst = Math.sin(t / 4e7) > 0.8;
    const passed = around(4200 + 1500 * Math.sin(t / 6e7), 0.15);
    const dropped = burst ? around(1800) : Math.random() < 0.2 ? around(30) : 0;
    const point: TrafficPoint = {
      time_us: t, interval_us: 1_000_000,
      packets_passed: Math.round(passed), bytes_passed: Math.round(passed * 640),
      packets_dropped: Math.round(dropped), bytes_dropped: Math.round(dropped * 60),
      packets_limited: Math.round(burst ? around(300) : 0), bytes_limited: Math.round(burst ? around(300) * 90 : 0),
      packets_shadowed: Math.round(around(40)), bytes_shadowed: Math.round(around(40) * 100),
      flows_new: Math.round(around(120)), flows_live: Math.round(around(1800, 0.05)),
    };
    const scores = Array.from({ length: burst ? 9 : 4 }, (): ScorePoint => {
      const p = burst && Math.random() < 0.5 ? 10 ** -(2 + Math.random() * 4) : Math.random();
      return { time_us: t - Math.floor(Math.random() * 900_000), p_value: p, score: 1 - p, source: p < 0.01 ? "198.51.100.201" : `198.51.100.${10 + Math.floor(Math.random() * 40)}`, server: "198.51.100.1", port: pick([22, 80, 443]), proto: 6, actionable: true, flow_id: String(t) };
    }).sort((a, b) => a.time_us - b.time_us);
    this.traffic = [...this.traffic.slice(-299), point];
    this.scores = [...this.scores.slice(-2900), ...scores];
    for (const s of scores.slice(0, 2)) this.flows = [this.flow(s), ...this.flows.slice(0, 2000)];
    return { point, scores };
  }

  flow(s: ScorePoint): RecordedFlow {
    const n = Math.round(around(20, 0.9)) + 1;
    return { flow_id: String(this.next++), client: s.source, server: s.server, client_port: 30_000 + (this.next % 30_000), server_port: s.port, proto: s.proto, start_us: s.time_us - 2_400_000, end_us: s.time_us, packets_to_server: n, packets_to_client: s.p_value < 0.01 ? 0 : n + 4, bytes_to_server: n * 80, bytes_to_client: n * 700, proven: s.p_value >= 0.01, state: s.p_value < 0.01 ? "unanswered" : "closed", end_reason: "ended", seen_at: "eth0", p_value: s.p_value };
  }

  alert(t: number): Event {
    const id = this.next++;
    const severity = pick(["low", "medium", "medium", "high"]);
    const evidence = around(severity === "high" ? 44 : severity === "medium" ? 26 : 17);
    const source = Math.random() < 0.15 ? `2001:db8:77:a::${(id % 4096).toString(16)}` : `198.51.${100 + (id % 3)}.${id % 250}`;
    const reasons = id % 3 === 0 ? REASONS.slice(1) : REASONS;
    const alert: Alert = {
      id, time_us: t, source, severity, evidence, evidence_proven: evidence * 0.7, alert_threshold: 14.2, drop_threshold: 31.6, profile: "source", role: "source window", p_value: 10 ** -(3 + Math.random() * 3), ports: [22, 80, 443].slice(0, 1 + (id % 3)), flows: 40 + (id % 900), since_us: t - 2 * MIN,
      outcome: id % 17 === 0 ? SCRIPT : severity === "high" ? "dropped for 10 min" : "an alert only: the evidence is not enough for a drop", mode: "enforce", reasons, history: [], json: "{}", unless: "with 4 distinct ports instead of 4,213 it would have been ordinary",
    };
    alert.history = Array.from({ length: 14 }, (_, i) => ({ time_us: t - 60_000_000 + i * 9_000_000, all: Math.min(evidence, evidence * (i / 8)), proven: Math.min(evidence * 0.7, evidence * 0.7 * (i / 9)) }));
    this.raised.push(alert);
    if (this.raised.length > 12_000) this.raised.splice(0, 2_000);
    return {
      time_us: t, kind: "EVENT_KIND_ALERT", json: "{}", line: "",
      alert: { id, source, severity, evidence, evidence_proven: alert.evidence_proven, alert_threshold: 14.2, drop_threshold: 31.6, ports: alert.ports, flows: alert.flows, since_us: alert.since_us, outcome: alert.outcome, mode: "MODE_ENFORCE", anomaly: { profile: "source", p_value: alert.p_value, autoencoder: 0.001, isolation_forest: 0.01, role: "source window", actionable: true, extrapolated: false, default_bundle: false, reasons: reasons.map((r) => r.words) } },
    };
  }

  decide(target: string, action: DecisionState["decision"] extends infer D | undefined ? D extends { action: infer A } ? A : never : never, lifetime: number | undefined, reason: string): DecisionState {
    const t = now();
    const state: DecisionState = {
      decision: { id: this.next++, target, action, sides: "SIDES_IN", origin: "ORIGIN_AUTOMATIC", created_us: t, reason, ...(lifetime === undefined ? {} : { expires_us: t + lifetime }), ...(action === "ACTION_LIMIT" ? { limit: { unit: "RATE_UNIT_PACKETS", per_second: 200 } } : {}) },
      enforced: true, packets: 0, bytes: 0, note: "", awaiting_confirmation: target.includes("/"),
    };
    this.decisions.push(state);
    return state;
  }

  ask(source: string): QuestionDetail {
    const t = now();
    const question: Question = { id: this.next++, source, why: "mode review: a person is asked before anything is dropped", target: source, action: "drop", ttl_us: 600_000_000, evidence: "52.0 nats against a threshold of 31.6: 4,213 ports in 10 s", alert_id: this.raised.at(-1)?.id ?? 0, asked_us: t, last_us: t, count: 1, expires_us: t + 15 * MIN, unanswered: "nothing", state: "open", came_to: "", answered_us: 0, decision_id: 0, suppression_id: 0 };
    const option = (number: number, choice: string, width: string, target: string, words: string, flows: number): QuestionDetail["options"][number] => ({ number, choice, width, target, words, ttl_us: width === "" ? 0 : 600_000_000, refused: "", ...(flows === 0 ? {} : { collateral: { established: width === "prefix" ? 3 : 0, established_ssh: width === "prefix" ? 1 : 0, flows, hosts: 1 + Math.floor(flows / 500), ordinary: width === "prefix" ? 0.82 : 0.04, words: "" } }) });
    const detail: QuestionDetail = {
      question, reasons: REASONS.map((r) => r.words), basis: "as recorded in the last 24 h: 41,200 flows",
      options: [option(1, "drop", "host", source, "Block the host", 1140), option(2, "drop", "port", `${source}/tcp/22`, "Block the host to port 22 alone", 210), { ...option(3, "drop", "prefix", `${source.replace(/\d+$/, "0")}/24`, "Block the /24 around it", 2900), refused: "198.51.100.1 is our own address" }, option(4, "limit", "host", source, "Limit the host to 100 packets/s", 900), option(5, "watch", "host", source, "Only count what would be dropped", 0), option(6, "suppress", "", "", "This is normal here", 0), option(7, "ignore", "", "", "Do nothing", 0)],
    };
    this.questions = [detail, ...this.questions];
    return detail;
  }
}
