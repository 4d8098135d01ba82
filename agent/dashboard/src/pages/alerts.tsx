/** Alerts: the live list with its filters. One alert has a page of its own. */
import { computed } from "@preact/signals";
import type { JSX } from "preact";
import { covers } from "../lib/address.ts";
import { grouped, odds, plural } from "../lib/format.ts";
import { type AlertRow, alerts, labelled, loaded } from "../state/stores.ts";
import { go, href, refine, route } from "../state/view.ts";
import { Empty, Heading, Pill, Time } from "../ui/basic.tsx";
import { type Column, Rows } from "../ui/list.tsx";
import { Severity, evidenceWords } from "../ui/parts.tsx";

const SEVERITIES = ["high", "medium", "low"] as const;
const SAID = ["unlabelled", "attack", "false alarm", "unsure"] as const;

/** Whether a row is what was typed: an address, a prefix, a port, or a word of what is told of it. */
function fits(row: AlertRow, text: string): boolean {
  return text
    .toLowerCase()
    .split(/\s+/)
    .filter((w) => w !== "")
    .every(
      (w) =>
        row.source.toLowerCase().includes(w) ||
        (w.includes("/") && covers(w, row.source)) ||
        (/^\d+$/.test(w) && (row.ports.includes(Number(w)) || row.id === Number(w))) ||
        row.outcome.toLowerCase().includes(w) ||
        row.role.toLowerCase().includes(w) ||
        row.reasons.some((r) => r.toLowerCase().includes(w)),
    );
}

const shown = computed(() => {
  const { query } = route.value;
  const severity = query.get("severity") ?? "";
  const text = query.get("q") ?? "";
  const said = query.get("said") ?? "";
  if (severity === "" && text === "" && said === "") return alerts.value;
  return alerts.value.filter((a) => {
    const truth = labelled.value.get(a.id)?.truth ?? "unlabelled";
    return (severity === "" || a.severity === severity) && (said === "" || truth === said) && fits(a, text);
  });
});

export function Truth({ of }: { of: string }): JSX.Element | null {
  if (of === "") return null;
  return <Pill tone={of === "attack" ? "bad" : of === "false alarm" ? "good" : "plain"}>{of}</Pill>;
}

const COLUMNS: readonly Column<AlertRow>[] = [
  { key: "time", title: "Raised", width: "5.8rem", cell: (a) => <Time us={a.time_us} /> },
  { key: "severity", title: "Severity", width: "5.5rem", cell: (a) => <Severity of={a.severity} /> },
  { key: "source", title: "Source", width: "minmax(10.5rem, 1fr)", cell: (a) => <a class="address" href={href("alerts", a.id)} tabIndex={-1}>{a.source}</a> },
  { key: "why", title: "What was strange", width: "minmax(13rem, 2.6fr)", cell: (a) => <span title={a.reasons.join("\n")}>{a.reasons[0] ?? ""}</span> },
  { key: "ports", title: "Ports", width: "5.6rem", cell: (a) => <span title={a.ports.join(", ")}>{a.ports.slice(0, 3).join(" ")}{a.ports.length > 3 ? " …" : ""}</span> },
  { key: "evidence", title: "Evidence", width: "5rem", numeric: true, cell: (a) => <span title={evidenceWords(a)}>{a.evidence.toFixed(1)}</span> },
  { key: "odds", title: "Rarity", width: "6.5rem", numeric: true, cell: (a) => odds(a.p_value) },
  { key: "outcome", title: "What was done", width: "minmax(10rem, 1.8fr)", cell: (a) => <span title={a.outcome}>{a.outcome}</span> },
  { key: "said", title: "Feedback", width: "6.6rem", cell: (a) => <Truth of={labelled.value.get(a.id)?.truth ?? ""} /> },
];

export function Alerts(): JSX.Element {
  const { query } = route.value;
  const set = (key: string, value: string): void => {
    const all = Object.fromEntries(query);
    refine({ ...all, [key]: value });
  };
  const filtered = ["severity", "q", "said"].some((k) => (query.get(k) ?? "") !== "");
  return (
    <>
      <Heading extra={<span class="dim" role="status">{filtered ? `${grouped(shown.value.length)} of ${plural(alerts.value.length, "alert")}` : plural(alerts.value.length, "alert")}</span>}>Alerts</Heading>
      <form class="filters" role="search" onSubmit={(e) => e.preventDefault()}>
        <label class="field grow">
          <span class="field-label">Source, prefix, port or word</span>
          <input id="alerts-q" type="search" value={query.get("q") ?? ""} placeholder="198.51.100.0/24 22" onInput={(e) => set("q", e.currentTarget.value)} spellcheck={false} autocomplete="off" />
        </label>
        <label class="field">
          <span class="field-label">Severity</span>
          <select value={query.get("severity") ?? ""} onChange={(e) => set("severity", e.currentTarget.value)}>
            <option value="">any</option>
            {SEVERITIES.map((s) => <option key={s} value={s}>{s}</option>)}
          </select>
        </label>
        <label class="field">
          <span class="field-label">Feedback</span>
          <select value={query.get("said") ?? ""} onChange={(e) => set("said", e.currentTarget.value)}>
            <option value="">any</option>
            {SAID.map((s) => <option key={s} value={s}>{s}</option>)}
          </select>
        </label>
        {filtered && <button type="button" class="button quiet" onClick={() => refine({})}>Clear</button>}
      </form>
      <Rows
        items={shown.value}
        columns={COLUMNS}
        label="Alerts, the latest first"
        onOpen={(a) => go(href("alerts", a.id))}
        empty={
          !loaded.value ? <p class="waiting">Loading…</p> : filtered ? (
            <Empty title="No alert is like that">Clear the filters to see all {plural(alerts.value.length, "alert")}.</Empty>
          ) : (
            <Empty title="No alerts">
              <p>An alert is raised once the evidence against a source reaches the threshold, and appears here without a reload.</p>
              <p>If nothing ever does, see on <a href={href("models")}>Models</a> whether a bundle serves.</p>
            </Empty>
          )
        }
        card={(a) => (
          <>
            <div class="card-line">
              <Severity of={a.severity} />
              <span class="address strong">{a.source}</span>
              <span class="dim end"><Time us={a.time_us} /></span>
            </div>
            <div class="clip">{a.reasons[0] ?? ""}</div>
            <div class="card-line dim"><span class="clip">{a.outcome}</span><Truth of={labelled.value.get(a.id)?.truth ?? ""} /></div>
          </>
        )}
      />
    </>
  );
}
