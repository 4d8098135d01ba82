/** Now: what passes, what is stopped, what is strange, and whether Weir itself is well. */
import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import type uPlot from "uplot";
import type { Status, TrafficPoint } from "../api/types.ts";
import { grouped, odds, plural, protocol, si, span, word } from "../lib/format.ts";
import { strangeness } from "../lib/scale.ts";
import { alerts, decisions, news, open, scores, sources, status, traffic } from "../state/stores.ts";
import { go, href, now } from "../state/view.ts";
import { Card, Empty, Facts, Heading, Loaded, Meter, Pill, Time } from "../ui/basic.tsx";
import { Chart, type Line } from "../ui/chart.tsx";
import { ActionPill, Severity, Source, actionWord } from "../ui/parts.tsx";

const SECONDS = 300;
const unit = signal<"packets" | "bytes">("packets");

const LINES: readonly Line[] = [
  { label: "passed", color: "--passed", fill: true },
  { label: "dropped", color: "--dropped", width: 2 },
  { label: "limited", color: "--limited", width: 2 },
  { label: "shadowed", color: "--shadowed", width: 2, dash: [4, 3] },
];

const rate = (p: TrafficPoint, n: number): number => (p.interval_us > 0 ? (n * 1e6) / p.interval_us : 0);

const columns = computed((): uPlot.AlignedData => {
  const points = traffic.value;
  const pick = (packets: keyof TrafficPoint, bytes: keyof TrafficPoint): number[] =>
    points.map((p) => rate(p, p[unit.value === "packets" ? packets : bytes]));
  return [
    points.map((p) => p.time_us / 1e6),
    pick("packets_passed", "bytes_passed"),
    pick("packets_dropped", "bytes_dropped"),
    pick("packets_limited", "bytes_limited"),
    pick("packets_shadowed", "bytes_shadowed"),
  ];
});

function Tile({ label, value, sub, tone }: { label: string; value: string; sub: string; tone?: string }): JSX.Element {
  return (
    <div class={`tile ${tone ?? ""}`}>
      <span class="tile-label">{label}</span>
      <span class="tile-value">{value}</span>
      <span class="tile-sub">{sub}</span>
    </div>
  );
}

function Tiles(): JSX.Element {
  const last = traffic.value.at(-1);
  const pair = (packets: number, bytes: number): [string, string] =>
    last === undefined ? ["–", ""] : [`${si(rate(last, packets))}/s`, si(rate(last, bytes), "B/s")];
  const [passed, passedBytes] = pair(last?.packets_passed ?? 0, last?.bytes_passed ?? 0);
  const [dropped, droppedBytes] = pair(last?.packets_dropped ?? 0, last?.bytes_dropped ?? 0);
  const [limited, limitedBytes] = pair(last?.packets_limited ?? 0, last?.bytes_limited ?? 0);
  const [shadowed, shadowedBytes] = pair(last?.packets_shadowed ?? 0, last?.bytes_shadowed ?? 0);
  return (
    <div class="tiles">
      <Tile label="Packets passed" value={passed} sub={passedBytes} tone="passed" />
      <Tile label="Dropped" value={dropped} sub={droppedBytes} tone="dropped" />
      <Tile label="Limited" value={limited} sub={limitedBytes} tone="limited" />
      <Tile label="Would be dropped" value={shadowed} sub={shadowedBytes} tone="shadowed" />
      <Tile label="Flows" value={last === undefined ? "–" : grouped(last.flows_live)} sub={last === undefined ? "" : `${si(rate(last, last.flows_new))} new/s`} />
      <a class="tile link" href={href("review")}>
        <span class="tile-label">Open questions</span>
        <span class="tile-value">{grouped(open.value.length)}</span>
        <span class="tile-sub">{open.value.length > 0 ? "a person is asked" : "nothing to decide"}</span>
      </a>
    </div>
  );
}

function Traffic(): JSX.Element {
  const end = now.value / 1e6;
  const bytes = unit.value === "bytes";
  const format = useMemo(() => (v: number): string => si(v, bytes ? "B/s" : "/s"), [bytes]);
  const last = traffic.value.at(-1);
  const label = last === undefined ? "No traffic is known yet" : `Packets of the last five minutes; at the end ${si(rate(last, last.packets_passed))} a second passed, ${si(rate(last, last.packets_dropped))} dropped`;
  return (
    <Card
      title="Traffic"
      class="wide"
      extra={
        <div class="switch" role="group" aria-label="Unit">
          {(["packets", "bytes"] as const).map((u) => (
            <button key={u} type="button" class="button quiet" aria-pressed={unit.value === u} onClick={() => { unit.value = u; }}>
              {u}
            </button>
          ))}
        </div>
      }
    >
      {traffic.value.length === 0 ? (
        <Empty title="Nothing was counted yet">Counts come once a second while Weir is attached to an interface.</Empty>
      ) : (
        <Chart key={unit.value} data={columns.value} lines={LINES} y={{ format }} label={label} height={190} sync="now" span={[end - SECONDS, end]} />
      )}
    </Card>
  );
}

const DOTS: readonly Line[] = [
  { label: "ordinary", color: "--ordinary", dots: 4, value: (v) => odds(10 ** -v) },
  { label: "strange", color: "--limited", dots: 6, value: (v) => odds(10 ** -v) },
  { label: "very strange", color: "--dropped", dots: 8, value: (v) => odds(10 ** -v) },
];

const scatter = computed((): { data: uPlot.AlignedData; high: number } => {
  const points = scores.value;
  const of = (low: number, high: number): (number | null)[] =>
    points.map((p) => (p.p_value > low && p.p_value <= high ? strangeness(p.p_value) : null));
  return {
    data: [points.map((p) => p.time_us / 1e6), of(0.01, 1), of(0.001, 0.01), of(-1, 0.001)],
    high: points.reduce((m, p) => Math.max(m, strangeness(p.p_value)), 3),
  };
});

function Scatter(): JSX.Element {
  const { data } = scatter.value;
  const end = now.value / 1e6;
  const strange = scores.value.filter((p) => p.p_value <= 0.01);
  const [latest] = strange.slice(-1);
  return (
    <Card
      title="How strange flows are"
      class="wide"
      extra={<span class="dim">{latest === undefined ? "nothing strange" : `latest: ${latest.source} → port ${latest.port} ${protocol(latest.proto)}, ${odds(latest.p_value)}`}</span>}
    >
      {scores.value.length === 0 ? (
        <Empty title="Nothing was scored yet">
          Flows are scored once a bundle serves: <a href={href("models")}>Models</a> shows how far learning is.
        </Empty>
      ) : (
        <Chart
          data={data}
          lines={DOTS}
          y={{
            format: (v) => (v === 0 ? "ordinary" : `1 in ${["1", "10", "100", "1 k", "10 k", "100 k", "1 M", "10 M", "100 M", "1 G"][v] ?? si(10 ** v)}`),
            range: (_l, high) => [0, Math.max(4, Math.ceil(high + 0.3))],
            splits: (_l, high) => Array.from({ length: Math.floor(high) + 1 }, (_, i) => i),
            size: 74,
          }}
          label={`Strangeness of sampled flows over five minutes: ${plural(strange.length, "strange flow")} of ${scores.value.length}. A click on a point shows the flows of its source.`}
          height={210}
          sync="now"
          span={[end - SECONDS, end]}
          onPick={(at) => {
            const point = scores.value[at];
            if (point !== undefined) go(href("flows", "", { address: point.source }));
          }}
        />
      )}
    </Card>
  );
}

function Sources(): JSX.Element {
  return (
    <Card title="Top sources by evidence" extra={sources.value.value !== undefined && <span class="dim">{plural(sources.value.value.known, "source")} with any</span>}>
      <Loaded of={sources}>
        {({ sources: all, drop_threshold, alert_threshold }) =>
          all.length === 0 ? (
            <Empty title="No evidence against anyone">Sources appear here once their flows add up to something strange.</Empty>
          ) : (
            <ol class="sources">
              {all.slice(0, 10).map((s) => {
                const top = Math.max(drop_threshold ?? 1, ...all.map((o) => o.evidence));
                const enough = alert_threshold !== undefined && s.evidence >= alert_threshold;
                return (
                  <li key={s.source}>
                    <Source address={s.source} />
                    <Meter value={s.evidence} max={top} tone={drop_threshold !== undefined && s.evidence_proven >= drop_threshold ? "bad" : enough ? "warn" : "info"} label={`${s.evidence.toFixed(1)} nats of evidence, ${s.evidence_proven.toFixed(1)} from proven flows`} />
                    <span class="num">{s.evidence.toFixed(1)}</span>
                    <span class="dim source-more">
                      {plural(s.flows, "flow")}
                      {s.ports.length > 0 && <>, port {s.ports.slice(0, 3).join(", ")}</>}, <Time us={s.last_us} />
                    </span>
                    {s.decided === undefined ? <span class="dim">–</span> : <ActionPill action={actionWord(s.decided.action)} />}
                  </li>
                );
              })}
            </ol>
          )
        }
      </Loaded>
    </Card>
  );
}

/** Whether anything of the agent's own needs a person. */
function Health({ of: s }: { of: Status }): JSX.Element {
  const lost = s.lost.filter((l) => l.count > 0);
  const configured = word(s.mode_configured, "MODE_");
  const effective = word(s.mode_effective, "MODE_");
  return (
    <>
      {s.warnings.length > 0 && (
        <ul class="warnings">
          {s.warnings.map((w) => (
            <li key={w}>{w}</li>
          ))}
        </ul>
      )}
      <Facts
        rows={[
          ["Mode", <><Pill tone={effective === "enforce" ? "good" : effective === "review" ? "info" : "warn"}>{effective}</Pill>{configured !== effective && <span class="dim"> configured: {configured}; {s.mode_reason}</span>}</>],
          ["Interface", s.interfaces.length > 1 ? `${grouped(s.interfaces.filter((i) => i.protected).length)} of ${plural(s.interfaces.length, "interface")} protected` : s.interface === "" ? "none: only a collector" : `${s.interface}, ${s.xdp_mode === "XDP_MODE_UNSPECIFIED" ? "no program attached" : `XDP ${word(s.xdp_mode, "XDP_MODE_")}`}${s.xdp_cause === "" ? "" : ` (${s.xdp_cause})`}`],
          ["Bundle", s.bundle === undefined ? <>none serves; <a href={href("models")}>learn</a></> : <><a href={href("models")}>{s.bundle.id}</a> <Pill tone={s.bundle.promoted ? "good" : "warn"}>{s.bundle.promoted ? "promoted" : "not promoted"}</Pill></>],
          s.learning === undefined ? undefined : ["Learning", `${s.learning.phase}, ${span(s.learning.elapsed_us)} of ${span(s.learning.duration_us)}, ${plural(s.learning.flows, "flow")}`],
          ["Drift", s.drifted.length === 0 ? <Pill tone="good">none</Pill> : <><Pill tone="bad">{plural(s.drifted.length, "role")}</Pill> {s.drifted.join(", ")}: no new automatic drops by these</>],
          ["Own losses", lost.length === 0 ? <Pill tone="good">none</Pill> : <><Pill tone="warn">{plural(lost.reduce((n, l) => n + l.count, 0), "loss", "losses")}</Pill> {lost.map((l) => `${l.name}: ${grouped(l.count)}`).join("; ")}</>],
          ["Epochs", `${grouped(s.epochs)}, the last read in ${span(s.drain_last_us)} (at most ${span(s.drain_max_us)})`],
          s.record === undefined ? undefined : ["Record", s.record.failing === "" ? `${grouped(s.record.flows)} flows, ${si(s.record.bytes, "B")} of ${si(s.record.max_bytes, "B")}` : <><Pill tone="bad">failing</Pill> {s.record.failing}</>],
          ["Up for", span(s.uptime_us)],
          ["Version", s.version],
        ]}
      />
      {s.interfaces.length > 1 && (
        <details class="more" open>
          <summary>Interfaces</summary>
          <ul class="maps">
            {s.interfaces.map((i) => (
              <li key={i.ifindex === 0 ? i.name : i.ifindex}>
                <span>{i.name}</span>
                <span>
                  <Pill tone={i.protected ? "good" : "bad"}>{i.protected ? `XDP ${word(i.xdp_mode, "XDP_MODE_")}` : "not protected"}</Pill>
                  {i.cause !== "" && <span class="dim"> {i.cause}</span>}
                </span>
                <span class="num dim">{si(i.packets_passed)} passed, {si(i.packets_dropped)} dropped</span>
              </li>
            ))}
          </ul>
        </details>
      )}
      {s.maps.length > 0 && (
        <details class="more">
          <summary>Kernel maps</summary>
          <ul class="maps">
            {s.maps.map((m) => (
              <li key={m.name}>
                <span>{m.name}</span>
                <Meter value={m.entries} max={m.max_entries} tone={m.entries > 0.9 * m.max_entries ? "bad" : "info"} label={`${grouped(m.entries)} of ${grouped(m.max_entries)} entries`} />
                <span class="num dim">{si(m.entries)} / {si(m.max_entries)}</span>
              </li>
            ))}
          </ul>
        </details>
      )}
    </>
  );
}

function Latest(): JSX.Element {
  const latest = alerts.value.slice(0, 6);
  return (
    <Card title="Latest alerts" extra={<a href={href("alerts")}>All {grouped(alerts.value.length)}</a>}>
      {latest.length === 0 ? (
        <Empty title="No alerts">An alert is raised once the evidence against a source reaches the threshold.</Empty>
      ) : (
        <ol class="latest">
          {latest.map((a) => (
            <li key={a.id}>
              <Severity of={a.severity} />
              <a class="latest-main" href={href("alerts", a.id)}>
                <span class="address">{a.source}</span> <span class="dim">{a.reasons[0] ?? a.outcome}</span>
              </a>
              <span class="dim"><Time us={a.time_us} /></span>
            </li>
          ))}
        </ol>
      )}
    </Card>
  );
}

function News(): JSX.Element {
  return (
    <Card title="The agent says">
      {news.value.length === 0 ? (
        <Empty title="No news since the page was opened" />
      ) : (
        <ol class="news">
          {news.value.slice(0, 8).map((n) => (
            <li key={n.id}>
              <Pill tone={n.level === "error" ? "bad" : n.level === "warning" ? "warn" : "plain"}>{n.level}</Pill>
              <span>{n.message}</span>
              <span class="dim"><Time us={n.time_us} /></span>
            </li>
          ))}
        </ol>
      )}
    </Card>
  );
}

export function Now(): JSX.Element {
  const drops = decisions.value.filter((d) => d.state.decision?.action === "ACTION_DROP").length;
  return (
    <>
      <Heading extra={<span class="dim">{plural(decisions.value.length, "decision")} in force, {plural(drops, "drop")}</span>}>Now</Heading>
      <Tiles />
      <div class="columns">
        <div class="column main">
          <Traffic />
          <Scatter />
          <Latest />
        </div>
        <div class="column">
          <Card title="Health">
            <Loaded of={status}>{(s) => <Health of={s} />}</Loaded>
          </Card>
          <Sources />
          <News />
        </div>
      </div>
    </>
  );
}
