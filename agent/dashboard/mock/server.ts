/** The made-up agent as a part of Vite's server. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Connect, Plugin } from "vite";
import type { Event, Question } from "../src/api/types.ts";
import { add } from "../src/lib/course.ts";
import { SCRIPT, World, now } from "./world.ts";

type Handler = (of: { id: string; query: URLSearchParams; body: Record<string, unknown> }) => unknown;

/** WEIR_MOCK_ALERTS: alerts there are. WEIR_MOCK_RATE: events a second. WEIR_MOCK_ROLE: viewer or operator. */
const env = (name: string, other: string): string => process.env[name] ?? other;

export function mock(): Plugin {
  const world = new World(Number(env("WEIR_MOCK_ALERTS", "60")));
  const listeners = new Set<ServerResponse>();
  let token = 0;
  const send = (kind: string, data: unknown): void => {
    token += 1;
    for (const to of listeners) to.write(`id: ${token}\nevent: ${kind}\ndata: ${JSON.stringify(data)}\n\n`);
  };
  const tell = (kind: string, body: Partial<Event>): void => send(kind, { time_us: now(), kind: `EVENT_KIND_${kind.toUpperCase()}`, json: "{}", line: "", ...body });
  const changed = (question: Question, change: string): void => tell("question", { question: { change, question, note: "" } });

  setInterval(() => {
    const { point, scores } = world.tick(now());
    send("traffic", point);
    send("scores", { points: scores });
    for (const d of world.decisions) {
      if (d.decision === undefined || Math.random() < 0.3) continue;
      const more = Math.floor(Math.random() * 900);
      d.packets += more;
      const course = add(d.course, now(), more);
      if (course !== undefined) d.course = { ...course, packets: [...course.packets] };
      d.bytes = d.packets * 60;
      d.last_hit_us = now();
      tell("hits", { hits: { decision_id: d.decision.id, target: d.decision.target, action: d.decision.action, packets: d.packets, bytes: d.bytes } });
    }
  }, 1000);
  const rate = Number(env("WEIR_MOCK_RATE", "0.1"));
  setInterval(() => { for (let i = 0; i < Math.max(1, rate / 10); i += 1) if (Math.random() < rate / 10 || rate >= 10) send("alert", world.alert(now())); }, 100);
  setTimeout(() => tell("agent", { agent: { level: "warning", kind: "drift", message: `role tcp in web has drifted ${SCRIPT}` } }), 3000);

  const routes: Record<string, Handler> = {
    "GET session": () => ({ name: "operator@host", role: env("WEIR_MOCK_ROLE", "operator"), csrf: "x", expires_us: now() + 8 * 3_600_000_000 }),
    "GET status": () => ({
      version: "0.6.0", interface: "eth0", ifindex: 2, mode_configured: "MODE_ENFORCE", mode_effective: "MODE_REVIEW", mode_reason: "the bundle is not promoted", xdp_mode: "XDP_MODE_NATIVE", xdp_cause: "", uptime_us: 412_000_000_000, bundle: world.bundles[0], flows_live: 1822, flows_last_epoch: 220, epochs: 41_122, drain_last_us: 8_200, drain_max_us: 31_000, lost: [{ name: "events", count: 0 }], counters: [], decisions: [], maps: [{ name: "flows_0", entries: 8_100, max_entries: 131_072, bytes: 5e7 }, { name: "block_v4", entries: 240, max_entries: 262_144, bytes: 4e6 }], interfaces: [], warnings: ["the link runs in generic mode behind GRO"], drifted: ["tcp in web"],
      record: { enabled: true, dir: "/var/lib/weir/record", files: 12, bytes: 8.1e8, max_bytes: 2e9, max_age_us: 0, flows: 1_200_311, windows: 33_120, lost: 0, failing: "" },
    }),
    "GET traffic": () => ({ points: world.traffic }),
    "GET scores": () => ({ points: world.scores }),
    "GET sources": () => ({ alert_threshold: 14.2, drop_threshold: 31.6, known: 14, sources: Array.from({ length: 9 }, (_, i) => ({ source: i === 3 ? "2001:db8:77:a::201" : `198.51.100.${201 + i}`, evidence: 48 / (i + 1), evidence_proven: 40 / (i + 1), flows: 900 - i * 80, since_us: now() - 9e7, last_us: now() - i * 2e6, ports: [22, 80], remote: true, ...(i === 0 ? { decided: world.decisions[0]?.decision } : {}) })) }),
    "GET alerts": ({ query }) => ({ alerts: world.alerts.slice(0, Number(query.get("limit")) || undefined) }),
    "GET alerts/*": ({ id }) => ({ alert: world.alerts.find((a) => a.id === Number(id)) }),
    "GET alerts/*/context": ({ id }) => ({ flows: world.flows.slice(0, 40), flows_note: "", similar: world.alerts.slice(0, 5).map((a) => ({ id: a.id, time_us: a.time_us, source: a.source, severity: a.severity, evidence: a.evidence, outcome: a.outcome, same_source: a.id % 2 === 0, features: ["distinct_ports"], truth: a.id % 3 === 0 ? "false alarm" : "" })), decisions: [{ time_us: now() - 1e8, decision_id: 3, change: "enforced", target: "198.51.100.201", action: "drop", origin: "automatic", mode: "enforce", reason: "", note: "read back from the kernel" }], labels: world.labels.filter((l) => l.alert_id === Number(id)) }),
    "POST alerts/*/label": ({ id, body }) => {
      const label = { id: world.next++, alert_id: Number(id), source: "198.51.100.201", from_us: 0, to_us: 0, truth: { ALERT_TRUTH_TRUE: "attack", ALERT_TRUTH_FALSE: "false alarm" }[String(body["truth"])] ?? "unsure", comment: String(body["comment"] ?? ""), by: "operator", at_us: now(), suppression_id: 0, undone_by: "", undone_us: 0, ports: [] };
      world.labels = [label, ...world.labels];
      return { label };
    },
    "GET labels": () => ({ labels: world.labels }),
    "POST labels/*/undo": ({ id }) => { for (const l of world.labels) if (l.id === Number(id)) l.undone_us = now(); return {}; },
    "GET questions": () => ({ questions: world.questions.flatMap((q) => q.question ?? []), not_asked: 0 }),
    "GET questions/*": ({ id }) => ({ question: world.questions.find((q) => q.question?.id === Number(id)) }),
    "POST questions/*/answer": ({ id, body }) => {
      const detail = world.questions.find((q) => q.question?.id === Number(id));
      const question = detail?.question;
      if (question === undefined) return undefined;
      Object.assign(question, { state: "answered", came_to: `${String(body["choice"]).slice(14).toLowerCase()} by operator`, answered_us: now() });
      if (body["choice"] === "ANSWER_CHOICE_DROP") world.decide(question.target, "ACTION_DROP", 600_000_000, "approved");
      changed(question, "answered");
      return { question };
    },
    "POST questions/*/undo": ({ id }) => {
      const question = world.questions.find((q) => q.question?.id === Number(id))?.question;
      if (question === undefined) return undefined;
      Object.assign(question, { state: "open", came_to: "", answered_us: 0 });
      world.decisions = world.decisions.filter((d) => d.decision?.target !== question.target);
      changed(question, "undone");
      return { question, lifted: `the drop on ${question.target}` };
    },
    "GET decisions": () => ({ decisions: world.decisions }),
    "POST decisions": ({ body }) => ({ decision: world.decide(String(body["target"]), "ACTION_DROP", Number(body["lifetime_us"]) || undefined, String(body["reason"])) }),
    "DELETE decisions/*": ({ id }) => { world.decisions = world.decisions.filter((d) => d.decision?.id !== Number(id)); return { deleted: [] }; },
    "POST decisions/*/confirm": ({ id }) => { for (const d of world.decisions) if (d.decision?.id === Number(id)) d.awaiting_confirmation = false; return {}; },
    "GET decisions/history": () => ({ entries: [{ time_us: now() - 1e9, decision_id: 3, change: "enforced", target: "198.51.100.201", action: "drop", origin: "automatic", mode: "enforce", reason: "", note: "read back from the kernel", alert_id: 4 }] }),
    "GET allow": () => ({ entries: [{ prefix: "198.51.100.9", comment: `monitoring ${SCRIPT}`, origin: "added by uid 0 (root)", removable: true }, { prefix: "198.51.100.1", comment: "", origin: "own address", removable: false }] }),
    "GET allow/check": () => ({ protected_by: [] }),
    "POST allow": () => ({ lifted: [] }),
    "DELETE allow": () => ({}),
    "GET lists": () => ({ lists: [{ name: "firehol_level1", kind: "source", comment: "from https://example.org/level1.netset", members: 4_120, protected: 2, actions: "drop", created_us: now() - 1e12, replaced_us: now() - 1e10, last_success_us: now() - 9e8, error: "", left_out: "2 too wide" }] }),
    "GET lists/*": () => ({ members: world.decisions }),
    "GET flows": ({ query }) => ({ flows: world.flows.filter((f) => f.client.includes(query.get("address") ?? "")), more: false, note: "", from_us: now() - 8.64e10, scanned: 41_200 }),
    "GET model": () => ({ bundles: world.bundles }),
    "GET model/bundles/*": () => ({ bundle: { hash: "9f3c1ab04d77", bundle_version: 3, weir_version: "0.6.0", seed: 1, source: "live traffic of eth0", trained_at_us: now(), first_us: now() - 9e10, last_us: now(), window_us: 10_000_000, bytes: 2.4e6, corpora: [], evidence: { alert: 14.2, drop: 31.6, allowance: [1, 1], budget_per_day: 5, certified: true, benign_windows: 88_000, benign_sources: 411, strange: [], note: "" }, profiles: [{ name: "core", features: [], models: [], roles: [{ role: "tcp in web", calibration_1: 21_000, calibration_2: 20_900, smallest_rate: 0.00005, actionable: true }], golden_vectors: 64 }], unfit: "" } }),
    "GET model/drift": () => ({ bundle: "learned-20261126-0312", roles: ["tcp in web", "tcp in remote access", "udp in name service", "source window"].map((role, i) => ({ profile: i === 3 ? "source" : "core", role, state: i === 0 ? "bad" : i === 2 ? "unknown" : "fine", voters: 60 - i * 14, withheld: i, effect: i === 0 ? 0.31 : 0.04 * i, at_5_percent: i === 0 ? 0.34 : 0.05, leads_to_drops: i !== 0 })), features: ["mean bytes of a packet to the server", "flows of the source in 10 s", "duration"].map((words, i) => ({ profile: "core", feature: words.replaceAll(" ", "_"), words, moved: i === 0, voters: 60, below_usual: 0.01, above_usual: i === 0 ? 0.4 : 0.02, below_median: 0.5, above_median: 0.5, effect: 0.39 / (i + 1) })) }),
    "GET model/calibration": () => ({ bundle: "learned-20261126-0312", since_us: now() - 9e10, alerts: { budget_per_day: 5, alerts: 21, over_us: 4e11, per_day: 4.5, said_attack: 9, said_false_alarm: 2 }, profiles: ["core", "full", "source"].map((profile) => ({ profile, rows: 411_220, withheld: 3_100, distance: 0.012, points: [0.0001, 0.001, ...Array.from({ length: 100 }, (_, i) => (i + 1) / 100)].map((asked) => ({ asked, realised: Math.min(1, asked * (profile === "full" ? 1.7 : 1.08)), low: asked * (profile === "full" ? 1.3 : 0.8), high: asked * (profile === "full" ? 2.1 : 1.4), certified: asked > 0.0001 })) })) }),
    "GET model/compare": () => ({}),
    "GET evidence": () => ({ entries: world.alerts.slice(0, 5).map((a) => ({ id: a.id, time_us: a.time_us, source: a.source, alert_id: a.id, bytes: 9000 })) }),
    "GET suppressions": () => ({ suppressions: [] }),
    "GET audit": () => ({ entries: [{ time_us: now() - 2e9, caller: "uid 0 (root)", call: "decisions add", subject: `203.0.113.0/24 ${SCRIPT}`, ok: true, result: "in force" }] }),
    "GET config": () => ({ yaml: "# What becomes of decisions.\nmode: enforce\nhome: [198.51.100.1/32]\nepoch: 1s\nalert_budget_per_day: 5\n", summary: ["Weir drops what its policy decides on eth0.", "198.51.100.1 is protected.", "At most 5 false alerts a day are asked for."], policy: ["A proven source is dropped for 10 minutes once its evidence reaches the drop threshold.", "An unproven source is limited to 100 packets a second."], warnings: [], changed: ["mode", "home"] }),
    "POST config/reload": () => ({ applied: ["mode"], needs_restart: [] }),
    "POST learn": () => ({}),
    "DELETE session": () => ({}),
  };

  const answer = async (req: IncomingMessage, res: ServerResponse, next: Connect.NextFunction): Promise<void> => {
    const url = new URL(req.url ?? "/", "http://mock");
    if (!url.pathname.startsWith("/api/v1/")) return next();
    const name = url.pathname.slice("/api/v1/".length);
    if (name === "events") {
      res.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
      res.write(": hello\n\n");
      listeners.add(res);
      req.on("close", () => listeners.delete(res));
      return;
    }
    let text = "";
    for await (const part of req) text += String(part);
    const [first = "", id = "", third] = name.split("/");
    const method = req.method ?? "GET";
    const starred = name.startsWith("model/bundles/") ? "model/bundles/*" : `${first}/*${third === undefined ? "" : `/${third}`}`;
    const handler = routes[`${method} ${name}`] ?? routes[`${method} ${starred}`];
    const found = handler?.({ id, query: url.searchParams, body: text === "" ? {} : (JSON.parse(text) as Record<string, unknown>) });
    const ok = found !== undefined;
    res.writeHead(ok ? 200 : 404, { "content-type": "application/json" });
    res.end(JSON.stringify(ok ? found : { error: { code: "not_found", message: `the mock has no ${method} ${name}` } }));
  };
  const serve = (server: { middlewares: Connect.Server }): void => {
    server.middlewares.use((req, res, next) => void answer(req, res, next));
  };
  return { name: "weir-mock", configureServer: serve, configurePreviewServer: serve };
}
