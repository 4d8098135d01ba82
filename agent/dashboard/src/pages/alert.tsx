/** One alert: why, by whom, how it went on, and what a person says about it. */
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import type uPlot from "uplot";
import { get } from "../api/client.ts";
import type { Alert, AlertContext } from "../api/types.ts";
import { grouped, odds, plural } from "../lib/format.ts";
import { attempt } from "../state/news.ts";
import { resource, type Resource } from "../state/resource.ts";
import { alerts, decisions, labelled } from "../state/stores.ts";
import { href } from "../state/view.ts";
import { Card, Empty, Facts, Heading, Loaded, Time } from "../ui/basic.tsx";
import { Chart, type Line } from "../ui/chart.tsx";
import { Reasons } from "../ui/drawn.tsx";
import { ActionPill, FlowTable, LiftButton, Severity, Source, actionWord } from "../ui/parts.tsx";
import { Truth } from "./alerts.tsx";
import { Feedback } from "./feedback.tsx";

interface Shown {
  id: number;
  alert: Resource<Alert>;
  context: Resource<AlertContext>;
}

const shown = signal<Shown | undefined>(undefined);

function open(id: number): Shown {
  const alert = resource(async () => {
    const { alert: found } = await get<{ alert?: Alert }>(`alerts/${id}`);
    if (found === undefined) throw new Error(`there is no alert ${id}`);
    return found;
  });
  const context = resource(() => get<AlertContext>(`alerts/${id}/context`));
  const it = { id, alert, context };
  shown.value = it;
  void alert.load();
  void context.load();
  return it;
}

const EVIDENCE: readonly Line[] = [
  { label: "all flows", color: "--limited", width: 2, step: true },
  { label: "proven flows", color: "--dropped", width: 2, step: true },
  { label: "alert from", color: "--dim", dash: [4, 4], width: 1 },
  { label: "drop from", color: "--dropped", dash: [2, 4], width: 1 },
];

function Evidence({ alert }: { alert: Alert }): JSX.Element {
  const data = useMemo((): uPlot.AlignedData => {
    const points = alert.history.length > 0 ? alert.history : [{ time_us: alert.time_us, all: alert.evidence, proven: alert.evidence_proven }];
    const first = points[0]?.time_us ?? alert.time_us;
    const all = alert.since_us > 0 && alert.since_us < first ? [{ time_us: alert.since_us, all: 0, proven: 0 }, ...points] : points;
    return [
      all.map((p) => p.time_us / 1e6),
      all.map((p) => p.all),
      all.map((p) => p.proven),
      all.map(() => alert.alert_threshold),
      all.map(() => alert.drop_threshold),
    ];
  }, [alert]);
  return (
    <Chart
      data={data}
      lines={EVIDENCE}
      y={{ format: (v) => v.toFixed(0), range: (_l, h) => [0, Math.max(h, alert.drop_threshold) * 1.1], size: 40 }}
      height={190}
      label={`Evidence over time: ${alert.evidence.toFixed(1)} nats when it was raised, ${(alert.history.at(-1)?.all ?? alert.evidence).toFixed(1)} at last`}
    />
  );
}

function Similar({ context }: { context: AlertContext }): JSX.Element {
  if (context.similar.length === 0) return <Empty title="Nothing like it is kept">Alerts about the same source, or strange in the same way, would be here.</Empty>;
  return (
    <ol class="similar">
      {context.similar.map((s) => (
        <li key={s.id}>
          <Severity of={s.severity} />
          <a class="address" href={href("alerts", s.id)}>{s.source}</a>
          <span class="dim clip">{s.same_source ? "same source" : ""}{s.same_source && s.features.length > 0 ? ", " : ""}{s.features.length > 0 ? `strange by ${s.features.join(", ")}` : ""}</span>
          <Truth of={s.truth} />
          <span class="dim end"><Time us={s.time_us} /></span>
        </li>
      ))}
    </ol>
  );
}

function Decided({ alert, context }: { alert: Alert; context: AlertContext | undefined }): JSX.Element {
  const now = decisions.value.filter((d) => d.state.decision?.alert_id === alert.id || d.state.decision?.target === alert.source);
  const past = context?.decisions ?? [];
  const question = context?.question;
  return (
    <>
      <p class="outcome">{alert.outcome}</p>
      {question !== undefined && (
        <p>
          <a href={href("review", question.id)}>Question {question.id}</a> <span class="dim">{question.state === "open" ? "waits for an answer" : question.came_to}</span>
        </p>
      )}
      {now.length > 0 && (
        <ul class="plain-list">
          {now.map((d) => (
            <li key={d.id}>
              <ActionPill action={actionWord(d.state.decision?.action)} /> <span class="address">{d.state.decision?.target}</span>{" "}
              <span class="dim">{grouped(d.state.packets)} packets met it</span> <LiftButton decision={d.state.decision} />
            </li>
          ))}
        </ul>
      )}
      {past.length > 0 && (
        <details class="more">
          <summary>{plural(past.length, "change")} of decisions on it</summary>
          <ol class="plain-list">
            {past.map((h) => (
              <li key={`${h.time_us}-${h.decision_id}-${h.change}`}>
                <Time us={h.time_us} exact /> {h.change} <ActionPill action={h.action} /> <span class="address">{h.target}</span> <span class="dim">{h.note}</span>
              </li>
            ))}
          </ol>
        </details>
      )}
    </>
  );
}

export function AlertPage({ id }: { id: number }): JSX.Element {
  const it = shown.value?.id === id ? shown.value : undefined;
  useEffect(() => { if (shown.peek()?.id !== id) open(id); }, [id]);
  // The course goes on while it is looked at.
  useEffect(() => {
    const timer = window.setInterval(() => { if (!document.hidden) void shown.peek()?.alert.load(); }, 5_000);
    return () => window.clearInterval(timer);
  }, [id]);
  const row = alerts.value.find((a) => a.id === id);
  const at = alerts.value.findIndex((a) => a.id === id);
  const [newer, older] = [alerts.value[at - 1], alerts.value[at + 1]];
  return (
    <>
      <Heading
        extra={
          <nav class="beside" aria-label="Other alerts">
            <a class="button quiet" href={href("alerts")}>All alerts</a>
            {at >= 0 && newer !== undefined && <a class="button quiet" href={href("alerts", newer.id)}>Newer</a>}
            {at >= 0 && older !== undefined && <a class="button quiet" href={href("alerts", older.id)}>Older</a>}
          </nav>
        }
      >
        Alert {id}{row !== undefined && <>: <span class="address">{row.source}</span></>}
      </Heading>
      {it === undefined ? (
        <p class="waiting">Loading…</p>
      ) : (
        <Loaded of={it.alert}>
          {(alert) => (
            <div class="columns">
              <div class="column main">
                <Card title="Why" extra={<><Severity of={alert.severity} /> <span class="dim">{odds(alert.p_value)} among {alert.role === "" ? "all" : alert.role}</span></>}>
                  {alert.reasons.length === 0 ? <Empty title="No reasons are kept with this alert">Of many strange observations at once, some are explained. Other alerts about the same source, below, may say more.</Empty> : <Reasons reasons={alert.reasons} />}
                  {alert.unless !== "" && <p class="unless"><b>Would have been no anomaly:</b> {alert.unless}</p>}
                </Card>
                <Card title="Evidence over time">
                  <Evidence alert={alert} />
                </Card>
                <Card title="Flows behind it">
                  <Loaded of={it.context}>
                    {(c) => (
                      <>
                        {c.flows_note !== "" && <p class="note">{c.flows_note}</p>}
                        <FlowTable flows={c.flows} label={`Flows of ${alert.source}`} />
                      </>
                    )}
                  </Loaded>
                </Card>
              </div>
              <div class="column">
                <Card title="Feedback">
                  <Feedback alert={alert} label={labelled.value.get(id)} after={() => void it.context.load()} />
                </Card>
                <Card title="What was done">
                  <Decided alert={alert} context={it.context.value.value} />
                </Card>
                <Card title="Figures">
                  <Facts
                    rows={[
                      ["Source", <Source address={alert.source} />],
                      ["Raised", <Time us={alert.time_us} />],
                      ["Evidence", `${alert.evidence.toFixed(1)} nats; an alert from ${alert.alert_threshold.toFixed(1)}`],
                      ["Proven", `${alert.evidence_proven.toFixed(1)} nats; a drop from ${alert.drop_threshold.toFixed(1)}`],
                      ["Flows", grouped(alert.flows)],
                      ["Ports", alert.ports.join(", ") || "–"],
                      ["Judged by", `${alert.profile}, ${alert.role}`],
                      ["Mode then", alert.mode],
                      ["Sealed evidence", <Sealed id={id} />],
                    ]}
                  />
                </Card>
                <Card title="Similar alerts">
                  <Loaded of={it.context}>{(c) => <Similar context={c} />}</Loaded>
                </Card>
              </div>
            </div>
          )}
        </Loaded>
      )}
    </>
  );
}

/** The document that the alert rests on, sealed with its hash, as a file. */
function Sealed({ id }: { id: number }): JSX.Element {
  const save = (): Promise<boolean> =>
    attempt("Evidence", async () => {
      const { json } = await get<{ json: string }>(`evidence/${encodeURIComponent(`alert:${id}`)}`);
      const url = URL.createObjectURL(new Blob([json], { type: "application/json" }));
      const link = document.createElement("a");
      link.href = url;
      link.download = `weir-evidence-alert-${id}.json`;
      link.click();
      URL.revokeObjectURL(url);
      return undefined;
    });
  return (
    <button type="button" class="link-button" onClick={() => void save()}>
      Save as a file
    </button>
  );
}
