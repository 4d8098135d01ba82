/** Models: what serves, whether it keeps its promises, and what could serve in its place. */
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { Refused, del, get, post } from "../api/client.ts";
import type { Bundle, BundleDetail, Calibration, ComparedBundle, Comparison, LearnProgress, ModelDrift } from "../api/types.ts";
import { grouped, number, parseSpan, percent, plural, si, span } from "../lib/format.ts";
import { resource } from "../state/resource.ts";
import { status } from "../state/stores.ts";
import { Act, Card, Empty, Facts, Field, Heading, Loaded, Meter, Pill, Time } from "../ui/basic.tsx";
import { ask } from "../ui/dialog.tsx";
import { Rates, Tenths } from "../ui/drawn.tsx";
import { Source } from "../ui/parts.tsx";

const bundles = resource(async () => (await get<{ bundles: Bundle[] }>("model")).bundles);
const drift = resource(() => get<ModelDrift>("model/drift"));
const calibration = resource(() => get<Calibration>("model/calibration"));
const comparison = resource(async (): Promise<Comparison | null> => {
  try {
    return (await get<{ comparison?: Comparison }>("model/compare")).comparison ?? null;
  } catch (e) {
    // Nothing challenges.
    if (e instanceof Refused && (e.code === "failed_precondition" || e.code === "not_found")) return null;
    throw e;
  }
});
const inspected = signal<{ id: string; detail: BundleDetail } | undefined>(undefined);
type Points = Calibration["profiles"][number]["points"];
const profile = signal("");

async function refresh(): Promise<void> {
  await Promise.all([bundles.load(), status.load(), comparison.load(), drift.load(), calibration.load()]);
}

function learn(): void {
  const fields = { duration: "", from: "LEARN_FROM_UNSPECIFIED" };
  ask({
    title: "Learn what is normal here",
    does: "Learn",
    body: (
      <>
        <p>What is learned serves for alerts and shadow entries once it is ready; it leads to drops only after you promote it.</p>
        <Field label="From">
          <select onChange={(e) => { fields.from = e.currentTarget.value; }}>
            <option value="LEARN_FROM_UNSPECIFIED">the record where it holds enough, else live traffic</option>
            <option value="LEARN_FROM_LIVE">live traffic from now on</option>
            <option value="LEARN_FROM_RECORD">the record, however much it holds</option>
          </select>
        </Field>
        <Field label="For" hint="Empty: as configured">
          <input type="text" placeholder="24h" onInput={(e) => { fields.duration = e.currentTarget.value; }} />
        </Field>
      </>
    ),
    run: async () => {
      const text = fields.duration.trim();
      const duration_us = text === "" ? undefined : parseSpan(text);
      if (text !== "" && duration_us === undefined) throw new Error(`“${text}” is no length of time; write one such as 24h`);
      const { progress } = await post<{ progress?: LearnProgress }>("learn", { from: fields.from, ...(duration_us === undefined ? {} : { duration_us }) });
      await refresh();
      return `Learning has begun${progress === undefined ? "" : ` from ${progress.from}; it takes at least ${span(progress.duration_us)}`}`;
    },
  });
}

function promote(b: Bundle): void {
  ask({
    title: `Promote ${b.id}?`,
    does: "Promote",
    body: <p>From then on it serves, and what it finds may be dropped where the mode allows. It was calibrated on {plural(b.flows, "flow")} and {plural(b.windows, "source window")}.</p>,
    run: async () => {
      await post(`model/bundles/${encodeURIComponent(b.id)}/promote`);
      await refresh();
      return `${b.id} is promoted`;
    },
  });
}

function rollback(b: Bundle): void {
  ask({
    title: `Let ${b.id} serve again?`,
    does: "Roll back",
    tone: "danger",
    body: <p>It takes the place of the bundle that serves now. It leads to drops if it did before.</p>,
    run: async () => {
      await post("model/rollback", { steps: (b.steps_back ?? 0) === 0 ? 1 : b.steps_back });
      await refresh();
      return `${b.id} serves again`;
    },
  });
}

function challenge(b: Bundle): void {
  ask({
    title: `Let ${b.id} score silently beside the one that serves?`,
    does: "Compare",
    body: <p>It sees the same traffic and leads to nothing; what it would have done is shown below. It takes processor time.</p>,
    run: async () => {
      await post("model/challenger", { id: b.id });
      await refresh();
      return `${b.id} challenges from now on`;
    },
  });
}

function endChallenge(): void {
  ask({
    title: "End the comparison?",
    does: "End",
    tone: "danger",
    body: <p>What was compared so far is forgotten.</p>,
    run: async () => {
      await del("model/challenger");
      await refresh();
      return "Nothing challenges any more";
    },
  });
}

async function inspect(id: string): Promise<void> {
  const { bundle } = await get<{ bundle?: BundleDetail }>(`model/bundles/${encodeURIComponent(id)}`);
  if (bundle !== undefined) inspected.value = { id, detail: bundle };
}

function Learning(): JSX.Element | null {
  const p = status.value.value?.learning;
  if (p === undefined) return null;
  const share = p.duration_us > 0 ? Math.min(1, p.elapsed_us / p.duration_us) : 0;
  return (
    <Card title="Learning">
      <div class="learning">
        <Meter value={share} max={1} tone="info" label={`${percent(share, 0)} of the time`} />
        <span>{p.phase} from {p.from}: {span(p.elapsed_us)} of {span(p.duration_us)}, {grouped(p.flows)} of at least {grouped(p.min_flows)} flows, {grouped(p.windows)} of at least {grouped(p.min_windows)} source windows</span>
      </div>
    </Card>
  );
}

function Bundles({ all }: { all: readonly Bundle[] }): JSX.Element {
  if (all.length === 0) return <Empty title="No bundle is stored">Learn what is normal here, or load a bundle with `weir model load DIR`.</Empty>;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Stored bundles">
      <table class="table stack">
        <thead>
          <tr><th scope="col">Bundle</th><th scope="col">State</th><th scope="col" class="roomy">From</th><th scope="col" class="roomy">Stored</th><th scope="col" class="num roomy">Flows</th><th scope="col" class="num roomy">Windows</th><th scope="col" class="roomy">Scores</th><th scope="col"><span class="hidden">Actions</span></th></tr>
        </thead>
        <tbody>
          {all.map((b) => (
            <tr key={b.id}>
              <td><button type="button" class="link-button" onClick={() => void inspect(b.id)} title="What it is, in full">{b.id}</button></td>
              <td>{b.current && <Pill tone="good">serves</Pill>} {b.challenger && <Pill tone="calm">challenges</Pill>} <Pill tone={b.promoted ? "good" : "plain"}>{b.promoted ? "promoted" : "alerts only"}</Pill></td>
              <td class="origin roomy">{b.origin}</td>
              <td class="roomy"><Time us={b.created_us} /></td>
              <td class="num roomy">{grouped(b.flows)}</td>
              <td class="num roomy">{grouped(b.windows)}</td>
              <td class="roomy">{b.profiles.join(", ")}</td>
              <td class="row-actions">
                {!(b.current && b.promoted) && <Act onRun={() => promote(b)} title={`Promote ${b.id}`}>Promote</Act>}
                {!b.current && b.steps_back !== undefined && <Act onRun={() => rollback(b)} title={`Let ${b.id} serve again`}>Roll back</Act>}
                {!b.current && !b.challenger && <Act tone="quiet" onRun={() => challenge(b)} title={`Compare ${b.id} with the one that serves`}>Compare</Act>}
                {b.challenger && <Act tone="quiet" onRun={endChallenge}>End comparison</Act>}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Inspected(): JSX.Element | null {
  const it = inspected.value;
  if (it === undefined) return null;
  const { detail: d } = it;
  return (
    <Card title={`Bundle ${it.id}`} extra={<button type="button" class="button quiet" onClick={() => { inspected.value = undefined; }}>Close</button>}>
      {d.unfit !== "" && <p class="problem">It cannot serve: {d.unfit}</p>}
      <Facts
        rows={[
          ["Fingerprint", <span class="mono">{d.hash}</span>],
          ["Trained on", d.source],
          d.trained_at_us === undefined ? undefined : ["Trained", <Time us={d.trained_at_us} />],
          ["Rows from", <><Time us={d.first_us} exact /> to <Time us={d.last_us} exact /></>],
          ["Source windows of", span(d.window_us)],
          ["Size", si(d.bytes, "B")],
          d.evidence === undefined ? undefined : ["Evidence", <>alert from {number(d.evidence.alert)}, drop from {number(d.evidence.drop)} nats, for {number(d.evidence.budget_per_day)} alerts a day {d.evidence.certified ? <Pill tone="good">certified</Pill> : <Pill tone="warn">not certified</Pill>} <span class="dim">{d.evidence.note}</span></>],
        ]}
      />
      {d.profiles.map((p) => (
        <details class="more" key={p.name}>
          <summary>Profile {p.name}: {plural(p.features.length, "feature")}, {plural(p.roles.length, "role")}</summary>
          <div class="scroll" tabIndex={0} role="region" aria-label={`Roles of ${p.name}`}>
            <table class="table">
              <thead><tr><th scope="col">Role</th><th scope="col" class="num">Rows</th><th scope="col" class="num">Smallest rate</th><th scope="col">May lead to actions</th></tr></thead>
              <tbody>
                {p.roles.map((r) => <tr key={r.role}><td>{r.role}</td><td class="num">{grouped(r.calibration_2)}</td><td class="num">{number(r.smallest_rate)}</td><td>{r.actionable ? "yes" : "no"}</td></tr>)}
              </tbody>
            </table>
          </div>
        </details>
      ))}
    </Card>
  );
}

/** Two digits: more would say more than is known. */
const rough = (v: number): string => (v === 0 ? "0" : number(Number(v.toPrecision(2))));

/** The points whose figures are told; the curve has all of them. */
function told(points: Points): Points {
  const round = [0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5];
  return points.filter((p) => round.some((r) => Math.abs(p.asked - r) < r / 1000));
}

function Calibrated({ of: c }: { of: Calibration }): JSX.Element {
  if (c.bundle === "") return <Empty title="No bundle serves">Once one does, how often its p-values come is shown against what they promise.</Empty>;
  const chosen = c.profiles.find((p) => p.profile === profile.value) ?? c.profiles[0];
  const { alerts } = c;
  return (
    <>
      {c.profiles.length > 1 && (
        <div class="switch" role="group" aria-label="Profile">
          {c.profiles.map((p) => (
            <button key={p.profile} type="button" class="button quiet" aria-pressed={p === chosen} onClick={() => { profile.value = p.profile; }}>{p.profile}</button>
          ))}
        </div>
      )}
      {chosen === undefined || chosen.rows === 0 ? (
        <Empty title="Nothing was counted yet">Rows of sources without evidence are counted from now on.</Empty>
      ) : (
        <div class="side">
          <Rates
            points={chosen.points.map((p) => ({ x: p.asked, y: p.realised, low: p.low, high: p.high, title: `asked ${number(p.asked)}, realised ${number(p.realised)} (${number(p.low)} to ${number(p.high)})${p.certified ? "" : ", not certified"}` }))}
            label={`Realised against asked false-alarm rate of profile ${chosen.profile}`}
            xTitle="asked"
            yTitle="realised"
          />
          <div class="scroll" tabIndex={0} role="region" aria-label="Rates">
            <table class="table">
              <thead><tr><th scope="col" class="num">Asked</th><th scope="col" class="num">Realised</th><th scope="col" class="num">95%</th><th scope="col"><span class="hidden">Judgement</span></th></tr></thead>
              <tbody>
                {told(chosen.points).map((p) => (
                  <tr key={p.asked}>
                    <td class="num">{number(p.asked)}</td>
                    <td class="num">{rough(p.realised)}</td>
                    <td class="num dim">{rough(p.low)} – {rough(p.high)}</td>
                    <td>{!p.certified ? <Pill title="The calibration rows cannot show this rate">few rows</Pill> : p.low > p.asked ? <Pill tone="warn">too many</Pill> : <Pill tone="good">holds</Pill>}</td>
                  </tr>
                ))}
              </tbody>
            </table>
            <p class="dim">{plural(chosen.rows, "row")} since <Time us={c.since_us} />, {grouped(chosen.withheld)} more of sources with evidence; largest distance {number(chosen.distance)}</p>
          </div>
        </div>
      )}
      {alerts !== undefined && (
        <Facts
          rows={[
            ["Alerts asked for", `${number(alerts.budget_per_day)} a day that nothing is behind`],
            ["Alerts raised", `${number(alerts.per_day)} a day (${grouped(alerts.alerts)} in ${span(alerts.over_us)})`],
            ["People said", `${plural(alerts.said_attack, "attack")}, ${plural(alerts.said_false_alarm, "false alarm")}`],
          ]}
        />
      )}
    </>
  );
}

function Drift({ of: d }: { of: ModelDrift }): JSX.Element {
  if (d.bundle === "") return <Empty title="No bundle serves" />;
  if (d.roles.length === 0) {
    return <Empty title="Nothing to compare yet">Drift is counted for a bundle that was learned here, once sources have spoken; the one that came with Weir is not expected to fit.</Empty>;
  }
  const moved = d.features.filter((f) => f.moved).length;
  return (
    <>
      <div class="scroll" tabIndex={0} role="region" aria-label="Drift of roles">
        <table class="table">
          <thead><tr><th scope="col">Role</th><th scope="col">State</th><th scope="col" class="num">Sources</th><th scope="col" class="num">At 5%</th><th scope="col">Effect</th><th scope="col">Drops</th></tr></thead>
          <tbody>
            {d.roles.map((r) => (
              <tr key={`${r.profile}-${r.role}`}>
                <td>{r.role} <span class="dim">{r.profile}</span></td>
                <td><Pill tone={r.state === "bad" ? "bad" : r.state === "fine" ? "good" : "plain"}>{r.state}</Pill></td>
                <td class="num" title={`${plural(r.withheld, "source")} without a vote, for the evidence against them`}>{grouped(r.voters)}{r.withheld > 0 && <span class="dim"> of {grouped(r.voters + r.withheld)}</span>}</td>
                <td class="num">{percent(r.at_5_percent)}</td>
                <td><Meter value={r.effect} max={0.5} tone={r.effect >= 0.25 ? "bad" : "info"} label={`Effect ${number(r.effect)}; bad from 0.25 on`} /></td>
                <td>{r.leads_to_drops ? "yes" : <span class="dim">no</span>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <h3>Features</h3>
      <p class="dim">{moved === 0 ? "None lies elsewhere than it did when the bundle was calibrated." : `${plural(moved, "feature")} moved.`} The furthest come first.</p>
      <ul class="drift">
        {d.features.slice(0, 20).map((f) => (
          <li key={`${f.profile}-${f.feature}`}>
            <span title={f.feature}>{f.words} <span class="dim">{f.profile}</span></span>
            <Meter value={f.effect} max={0.5} tone={f.moved ? "bad" : "info"} label={`Effect ${number(f.effect)}`} />
            <span class="dim">{percent(f.below_usual)} below, {percent(f.above_usual)} above usual</span>
            {f.moved && <Pill tone="bad">moved</Pill>}
          </li>
        ))}
      </ul>
    </>
  );
}

function Compared({ of: c }: { of: Comparison | null }): JSX.Element {
  if (c === null) return <Empty title="Nothing challenges">“Compare” on a stored bundle lets it score the same traffic silently; here is then what it would have done.</Empty>;
  const { a, b, sources } = c;
  if (a === undefined || b === undefined) return <Empty title="The comparison has just begun" />;
  const row = (name: string, of: (x: ComparedBundle) => string): JSX.Element => <tr key={name}><th scope="row">{name}</th><td class="num">{of(a)}</td><td class="num">{of(b)}</td></tr>;
  return (
    <>
      <div class="scroll" tabIndex={0} role="region" aria-label="Comparison">
        <table class="table">
          <thead><tr><th scope="col">Over {c.over}</th><th scope="col" class="num">{a.id} (serves)</th><th scope="col" class="num">{b.id}</th></tr></thead>
          <tbody>
            {row("Alerts", (x) => `${grouped(x.alerts)}, ${grouped(x.alerts_high)} high`)}
            {row("Sources dropped", (x) => grouped(x.drops))}
            {row("Sources limited", (x) => grouped(x.limits))}
            {row("Shadow entries", (x) => grouped(x.shadows))}
            {row("Sources with evidence", (x) => grouped(x.evidence_sources))}
            {row("Alert from, drop from", (x) => `${number(x.alert_threshold)}, ${number(x.drop_threshold)}`)}
            {row("Processor time", (x) => span(x.cpu_us))}
          </tbody>
        </table>
      </div>
      {sources !== undefined && <p>They differ about {plural(sources.differing, "source")}.</p>}
      {c.profiles.map((p) => (
        <details class="more" key={p.name}>
          <summary>Profile {p.name}: {plural(p.rows, "row")}, distance {number(p.shift)}</summary>
          <div class="side">
            <figure><figcaption>{a.id}</figcaption><Tenths values={p.tenths_a} label={`Shares of p-values of ${a.id} in tenths`} /></figure>
            <figure><figcaption>{b.id}</figcaption><Tenths values={p.tenths_b} label={`Shares of p-values of ${b.id} in tenths`} /></figure>
          </div>
          <table class="table">
            <thead><tr><th scope="col" class="num">Asked</th><th scope="col" class="num">{a.id}</th><th scope="col" class="num">{b.id}</th></tr></thead>
            <tbody>{p.rates.map((r) => <tr key={r.asked}><td class="num">{number(r.asked)}</td><td class="num">{number(r.a)}</td><td class="num">{number(r.b)}</td></tr>)}</tbody>
          </table>
        </details>
      ))}
      {c.differences.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Sources about which they differ">
          <table class="table">
            <thead><tr><th scope="col">Source</th><th scope="col">{a.id}</th><th scope="col">{b.id}</th><th scope="col">Why</th></tr></thead>
            <tbody>
              {c.differences.map((d) => <tr key={d.source}><td><Source address={d.source} /></td><td>{d.a?.outcome}</td><td>{d.b?.outcome}</td><td class="wrap">{(d.b?.reasons[0] ?? d.a?.reasons[0]) ?? ""}</td></tr>)}
            </tbody>
          </table>
          {c.more_differences > 0 && <p class="dim">and {plural(c.more_differences, "more difference")}</p>}
        </div>
      )}
      {c.notes.map((n) => <p key={n} class="dim">{n}</p>)}
    </>
  );
}

export function Models(): JSX.Element {
  useEffect(() => {
    void refresh();
    const timer = window.setInterval(() => { if (!document.hidden) void refresh(); }, 10_000);
    return () => window.clearInterval(timer);
  }, []);
  const learning = status.value.value?.learning !== undefined;
  return (
    <>
      <Heading extra={<Act tone="primary" disabled={learning} onRun={learn} {...(learning ? { title: "It learns already" } : {})}>Learn…</Act>}>Models</Heading>
      <Learning />
      <Card title="Bundles"><Loaded of={bundles}>{(all) => <Bundles all={all} />}</Loaded></Card>
      <Inspected />
      <div class="columns even">
        <div class="column">
          <Card title="False alarms: realised against asked"><Loaded of={calibration}>{(c) => <Calibrated of={c} />}</Loaded></Card>
          <Card title="Challenger"><Loaded of={comparison}>{(c) => <Compared of={c} />}</Loaded></Card>
        </div>
        <div class="column">
          <Card title="Drift"><Loaded of={drift}>{(d) => <Drift of={d} />}</Loaded></Card>
        </div>
      </div>
    </>
  );
}
