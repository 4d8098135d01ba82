/** Decisions: what is enforced, who never is, and the lists of others. */
import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { del, get, post } from "../api/client.ts";
import type { Action, AllowEntry, Decision, DecisionHistory, DecisionState, ListState } from "../api/types.ts";
import { covers } from "../lib/address.ts";
import { drawn } from "../lib/course.ts";
import { grouped, parseSpan, plural, relative, si, span, word } from "../lib/format.ts";
import { attempt } from "../state/news.ts";
import { resource } from "../state/resource.ts";
import { type DecisionRow, decisions, loadDecisions, loaded } from "../state/stores.ts";
import { href, now, refine, route } from "../state/view.ts";
import { Act, Card, Empty, Field, Heading, Loaded, Pill, Time } from "../ui/basic.tsx";
import { ask } from "../ui/dialog.tsx";
import { Spark } from "../ui/drawn.tsx";
import { type Column, Rows } from "../ui/list.tsx";
import { ActionPill, actionWord, confirmLift, limitWords } from "../ui/parts.tsx";

const TABS = [
  ["force", "In force"],
  ["allow", "Allow list"],
  ["lists", "Imported lists"],
  ["history", "History"],
] as const;

const allow = resource(async () => (await get<{ entries: AllowEntry[] }>("allow")).entries);
const lists = resource(async () => (await get<{ lists: ListState[] }>("lists")).lists);
const history = resource(async () => (await get<{ entries: DecisionHistory[] }>("decisions/history", { limit: 500 })).entries);

/** Of a chart, so that the hits of the last seconds are no line all across. */
const LEAST_STEPS = 20;

function Hits({ state }: { state: DecisionState }): JSX.Element {
  const { course } = state;
  if (course === undefined) return <span class="dim">–</span>;
  const values = drawn(course, now.value, LEAST_STEPS);
  const [over, most] = [span(values.length * course.step_us), Math.max(...values)];
  const words = `${plural(values.reduce((a, b) => a + b, 0), "packet")} in the last ${over}, at most ${si(most)} within ${span(course.step_us)}`;
  return <span title={words}><Spark values={values} label={`Hits on ${state.decision?.target ?? ""}: ${words}`} /></span>;
}

function left(d: Decision): JSX.Element {
  if (d.expires_us === undefined) return <span class="dim">until lifted</span>;
  const soon = d.expires_us - now.value < 60_000_000;
  return <span class={soon ? "strange" : ""} title={new Date(d.expires_us / 1000).toISOString()}>{relative(d.expires_us, now.value)}</span>;
}

/** Sets the end anew: the same decision is made again, which extends one that was made by hand. */
function extend(d: Decision): void {
  const field = { current: "1h" };
  ask({
    title: `Extend the ${actionWord(d.action)} on ${d.target}`,
    does: "Extend",
    body: (
      <Field label="From now on for" hint={d.origin === "ORIGIN_MANUAL" ? "Such as 30m, 4h or 7d; hits and limits stay as they are" : "Such as 30m, 4h or 7d; yours is put beside the one that is there, and the longer one holds"}>
        <input type="text" name="lifetime" defaultValue={field.current} autofocus onInput={(e) => { field.current = e.currentTarget.value; }} />
      </Field>
    ),
    run: async () => {
      const lifetime_us = parseSpan(field.current);
      if (lifetime_us === undefined) throw new Error(`“${field.current}” is no length of time; write one such as 4h`);
      await post("decisions", {
        target: d.target,
        action: d.action,
        sides: d.sides,
        lifetime_us,
        reason: d.reason.slice(0, 500),
        // What already holds needs no confirmation a second time.
        no_confirm: true,
        ...(d.limit === undefined ? {} : { limit: d.limit }),
      });
      await loadDecisions();
      return `${d.target}: extended to ${span(lifetime_us)} from now on`;
    },
  });
}

async function confirm(state: DecisionState): Promise<void> {
  await attempt("Confirm", async () => {
    await post(`decisions/${state.decision?.id ?? 0}/confirm`);
    await loadDecisions();
    return `Kept: ${state.decision?.target ?? ""}`;
  });
}

function Buttons({ row }: { row: DecisionRow }): JSX.Element {
  const d = row.state.decision;
  if (d === undefined) return <></>;
  return (
    <span class="row-actions">
      {row.state.awaiting_confirmation
        ? <Act tone="primary" onRun={() => confirm(row.state)} title="It lapses unless it is confirmed">Keep</Act>
        : <Act tone="quiet" onRun={() => extend(d)} title={`Extend ${d.target}`}>Extend</Act>}
      <Act tone="quiet" onRun={() => confirmLift(d)} title={`Lift ${d.target}`}>Lift</Act>
    </span>
  );
}

const COLUMNS: readonly Column<DecisionRow>[] = [
  { key: "action", title: "Action", width: "5rem", cell: (r) => <ActionPill action={actionWord(r.state.decision?.action)} /> },
  { key: "target", title: "Target", width: "minmax(9rem, 1.6fr)", cell: (r) => <span class="address" title={r.state.decision?.target}>{r.state.decision?.target}</span> },
  { key: "state", title: "Kernel", width: "5.5rem", cell: (r) => r.state.awaiting_confirmation ? <Pill tone="warn">confirm</Pill> : r.state.enforced ? <Pill tone="good">enforced</Pill> : <Pill tone="warn">not yet</Pill> },
  { key: "hits", title: "Packets", width: "5rem", numeric: true, cell: (r) => <span title={`${grouped(r.state.packets)} packets, ${si(r.state.bytes, "B")}`}>{si(r.state.packets)}</span> },
  { key: "course", title: "Hits over time", width: "7rem", cell: (r) => <Hits state={r.state} /> },
  { key: "last", title: "Last hit", width: "5.5rem", cell: (r) => <Time us={r.state.last_hit_us} /> },
  { key: "left", title: "Ends", width: "6rem", cell: (r) => (r.state.decision === undefined ? "" : left(r.state.decision)) },
  { key: "by", title: "By", width: "5.5rem", cell: (r) => word(r.state.decision?.origin ?? "", "ORIGIN_") },
  { key: "why", title: "Why", width: "minmax(8rem, 2fr)", cell: (r) => <span title={`${r.state.decision?.reason ?? ""}\n${r.state.note}`}>{limitWords(r.state.decision?.limit)} {r.state.decision?.reason}</span> },
  { key: "do", title: "", width: "8.5rem", cell: (r) => <Buttons row={r} /> },
];

const shown = computed(() => {
  const text = (route.value.query.get("q") ?? "").trim().toLowerCase();
  if (text === "") return decisions.value;
  return decisions.value.filter(({ state: { decision: d } }) => d !== undefined && (d.target.toLowerCase().includes(text) || d.reason.toLowerCase().includes(text) || (text.includes("/") && covers(text, d.target))));
});

function InForce(): JSX.Element {
  const text = route.value.query.get("q") ?? "";
  return (
    <>
      <Add />
      <form class="filters" role="search" onSubmit={(e) => e.preventDefault()}>
        <label class="field grow">
          <span class="field-label">Target, prefix or reason</span>
          <input type="search" value={text} onInput={(e) => refine({ q: e.currentTarget.value })} spellcheck={false} autocomplete="off" />
        </label>
      </form>
      <Rows
        items={shown.value}
        columns={COLUMNS}
        label="Decisions in force, the newest first"
        tall={124}
        empty={
          !loaded.value ? <p class="waiting">Loading…</p> : text !== "" ? <Empty title="No decision is like that" /> : (
            <Empty title="Nothing is blocked, limited or shadowed">Automatic decisions and answers to questions appear here; “Decide about a target” above makes one by hand.</Empty>
          )
        }
        card={(r) => (
          <>
            <div class="card-line"><ActionPill action={actionWord(r.state.decision?.action)} /><span class="address strong clip">{r.state.decision?.target}</span><span class="end">{r.state.decision !== undefined && left(r.state.decision)}</span></div>
            <div class="clip dim">{r.state.decision?.reason}</div>
            <div class="card-line"><span>{si(r.state.packets)} packets</span><span class="dim">last hit <Time us={r.state.last_hit_us} /></span></div>
            <div class="card-line"><Buttons row={r} /></div>
          </>
        )}
      />
    </>
  );
}

function Add(): JSX.Element {
  const [target, setTarget] = useState("");
  const [action, setAction] = useState<Action>("ACTION_DROP");
  const [lifetime, setLifetime] = useState("1h");
  const [rate, setRate] = useState("100");
  const [reason, setReason] = useState("");
  const us = lifetime.trim() === "" ? null : parseSpan(lifetime);
  const perSecond = Number(rate);
  const limited = action === "ACTION_LIMIT";
  const send = (): Promise<boolean> =>
    attempt("Decide", async () => {
      const { decision: made } = await post<{ decision?: DecisionState }>("decisions", {
        target: target.trim(),
        action,
        reason,
        ...(us === null || us === undefined ? {} : { lifetime_us: us }),
        ...(limited ? { limit: { unit: "RATE_UNIT_PACKETS", per_second: perSecond } } : {}),
      });
      await loadDecisions();
      setTarget("");
      setReason("");
      return made?.awaiting_confirmation === true
        ? `${made.decision?.target ?? target}: in force, and lapses ${relative(made.decision?.expires_us ?? 0, Date.now() * 1000)} unless you press Keep (${made.note})`
        : `${made?.decision?.target ?? target}: in force`;
    });
  return (
    <details class="card add">
      <summary>Decide about a target</summary>
      <form class="filters" onSubmit={(e) => e.preventDefault()}>
        <Field label="Target" hint="ADDRESS, ADDRESS/LENGTH or ADDRESS/tcp/PORT">
          <input type="text" id="decide-target" value={target} onInput={(e) => setTarget(e.currentTarget.value)} spellcheck={false} autocomplete="off" />
        </Field>
        <Field label="Action">
          <select value={action} onChange={(e) => setAction(e.currentTarget.value as Action)}>
            <option value="ACTION_DROP">drop</option>
            <option value="ACTION_LIMIT">limit</option>
            <option value="ACTION_SHADOW">shadow: only count</option>
          </select>
        </Field>
        {limited && (
          <Field label="Packets a second">
            <input type="text" inputMode="numeric" value={rate} onInput={(e) => setRate(e.currentTarget.value)} />
          </Field>
        )}
        <Field label="For" hint="Empty: until lifted">
          <input type="text" value={lifetime} aria-invalid={us === undefined} onInput={(e) => setLifetime(e.currentTarget.value)} />
        </Field>
        <Field label="Reason">
          <input type="text" maxLength={500} value={reason} onInput={(e) => setReason(e.currentTarget.value)} />
        </Field>
        <Act tone="primary" disabled={target.trim() === "" || us === undefined || (limited && !(perSecond >= 1))} onRun={send}>Decide</Act>
      </form>
    </details>
  );
}

function Allow(): JSX.Element {
  const [prefix, setPrefix] = useState("");
  const [comment, setComment] = useState("");
  const [lifetime, setLifetime] = useState("");
  const us = lifetime.trim() === "" ? null : parseSpan(lifetime);
  const [found, setFound] = useState<{ prefix: string; by: readonly AllowEntry[] } | undefined>(undefined);
  useEffect(() => void allow.load(), []);
  const add = (): Promise<boolean> =>
    attempt("Allow", async () => {
      const { lifted } = await post<{ lifted: Decision[] }>("allow", { prefix: prefix.trim(), comment, ...(us === null || us === undefined ? {} : { lifetime_us: us }) });
      await Promise.all([allow.load(), loadDecisions()]);
      setPrefix("");
      setComment("");
      return `${prefix.trim()} is never blocked${lifted.length > 0 ? `; lifted: ${lifted.map((d) => d.target).join(", ")}` : ""}`;
    });
  const check = (): Promise<boolean> =>
    attempt("Check", async () => {
      const { protected_by } = await get<{ protected_by: AllowEntry[] }>("allow/check", { target: prefix.trim() });
      setFound({ prefix: prefix.trim(), by: protected_by });
      return undefined;
    });
  const remove = (entry: AllowEntry): void =>
    ask({
      title: `Take ${entry.prefix} off the allow list?`,
      body: <p>From then on it can be blocked.</p>,
      does: "Take off",
      tone: "danger",
      run: async () => {
        await del("allow", { target: entry.prefix });
        await allow.load();
        return `${entry.prefix} can be blocked again`;
      },
    });
  return (
    <>
      <form class="filters card" onSubmit={(e) => e.preventDefault()}>
        <Field label="Address or prefix">
          <input type="text" value={prefix} onInput={(e) => setPrefix(e.currentTarget.value)} spellcheck={false} autocomplete="off" />
        </Field>
        <Field label="Who that is">
          <input type="text" maxLength={500} value={comment} onInput={(e) => setComment(e.currentTarget.value)} />
        </Field>
        <Field label="For" hint="Empty: until taken off">
          <input type="text" value={lifetime} aria-invalid={us === undefined} onInput={(e) => setLifetime(e.currentTarget.value)} />
        </Field>
        <Act tone="primary" disabled={prefix.trim() === "" || us === undefined} onRun={add}>Never block</Act>
        <button type="button" class="button" disabled={prefix.trim() === ""} onClick={() => void check()}>Check</button>
      </form>
      {found !== undefined && (
        <p class="note" role="status">
          {found.by.length === 0 ? `${found.prefix} is not protected: it can be blocked.` : `${found.prefix} is protected by ${found.by.map((e) => `${e.prefix} (${e.origin})`).join(", ")}.`}
        </p>
      )}
      <Loaded of={allow}>
        {(entries) =>
          entries.length === 0 ? (
            <Empty title="Nobody is on the list">Add who must never be blocked, such as your own monitoring.</Empty>
          ) : (
            <div class="scroll" tabIndex={0} role="region" aria-label="Allow list">
              <table class="table stack">
                <thead>
                  <tr><th scope="col">Prefix</th><th scope="col">Who</th><th scope="col">From</th><th scope="col">Ends</th><th scope="col"><span class="hidden">Actions</span></th></tr>
                </thead>
                <tbody>
                  {entries.map((e) => (
                    <tr key={`${e.prefix}-${e.origin}`}>
                      <td class="address">{e.prefix}</td>
                      <td class="wrap">{e.comment}</td>
                      <td class="dim">{e.origin}</td>
                      <td>{e.expires_us === undefined ? <span class="dim">–</span> : <Time us={e.expires_us} />}</td>
                      <td>{e.removable && <Act tone="quiet" onRun={() => remove(e)} title={`Take ${e.prefix} off`}>Take off</Act>}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )
        }
      </Loaded>
    </>
  );
}

const listed = signal<{ name: string; members: readonly DecisionState[]; more: boolean } | undefined>(undefined);

function Lists(): JSX.Element {
  useEffect(() => void lists.load(), []);
  const show = (name: string): Promise<boolean> =>
    attempt("List", async () => {
      const r = await get<{ members: DecisionState[]; more?: boolean }>(`lists/${encodeURIComponent(name)}`);
      listed.value = { name, members: r.members, more: r.more === true };
      return undefined;
    });
  const remove = (list: ListState): void =>
    ask({
      title: `End the list ${list.name}?`,
      body: <p>Its {plural(list.members, "member")} are enforced no more. A list that the configuration names comes again with what is there then.</p>,
      does: "End the list",
      tone: "danger",
      run: async () => {
        await del(`lists/${encodeURIComponent(list.name)}`);
        await lists.load();
        return `The list ${list.name} is gone`;
      },
    });
  return (
    <Loaded of={lists}>
      {(all) =>
        all.length === 0 ? (
          <Empty title="No lists">
            <p>`weir decisions import FILE` takes a list of targets; `lists:` in the configuration reads one again and again, from files, URLs or CrowdSec.</p>
          </Empty>
        ) : (
          <>
            <div class="scroll" tabIndex={0} role="region" aria-label="Lists">
              <table class="table stack">
                <thead>
                  <tr><th scope="col">Name</th><th scope="col" class="roomy">Kind</th><th scope="col" class="roomy">Does</th><th scope="col" class="num">Enforced</th><th scope="col" class="num roomy">Protected</th><th scope="col" class="roomy">Changed</th><th scope="col">Read</th><th scope="col"><span class="hidden">Actions</span></th></tr>
                </thead>
                <tbody>
                  {all.map((l) => (
                    <tr key={l.name}>
                      <td><b>{l.name}</b> <span class="dim">{l.comment}</span></td>
                      <td class="roomy">{l.kind}</td>
                      <td class="roomy">{l.actions}</td>
                      <td class="num">{grouped(l.members)}</td>
                      <td class="num roomy">{grouped(l.protected)}</td>
                      <td class="roomy"><Time us={l.replaced_us} /></td>
                      <td>{l.error === "" ? <Time us={l.last_success_us} /> : <Pill tone="bad" title={l.error}>{l.error}</Pill>}{l.left_out !== "" && <span class="dim"> {l.left_out}</span>}</td>
                      <td class="row-actions">
                        <button type="button" class="button quiet" onClick={() => void show(l.name)}>Members</button>
                        <Act tone="quiet" onRun={() => remove(l)} title={`End the list ${l.name}`}>End</Act>
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
            {listed.value !== undefined && (
              <Card title={`Members of ${listed.value.name}`} extra={<span class="dim">{listed.value.more ? "the first " : ""}{grouped(listed.value.members.length)}</span>}>
                <Rows
                  items={listed.value.members.flatMap((state) => (state.decision === undefined ? [] : [{ id: state.decision.target, state }]))}
                  columns={[
                    { key: "a", title: "Action", width: "5rem", cell: (r) => <ActionPill action={actionWord(r.state.decision?.action)} /> },
                    { key: "t", title: "Target", width: "minmax(9rem, 1fr)", cell: (r) => <span class="address">{r.state.decision?.target}</span> },
                    { key: "h", title: "Packets", width: "6rem", numeric: true, cell: (r) => grouped(r.state.packets) },
                    { key: "w", title: "Why", width: "minmax(9rem, 2fr)", cell: (r) => r.state.decision?.reason },
                  ]}
                  label={`Members of ${listed.value.name}`}
                  live={false}
                  tall={56}
                  card={(r) => <div class="card-line"><ActionPill action={actionWord(r.state.decision?.action)} /><span class="address">{r.state.decision?.target}</span><span class="end dim">{grouped(r.state.packets)}</span></div>}
                  empty={<Empty title="It has no members" />}
                />
              </Card>
            )}
          </>
        )
      }
    </Loaded>
  );
}

function History(): JSX.Element {
  useEffect(() => void history.load(), []);
  return (
    <Loaded of={history}>
      {(entries) => (
        <Rows
          items={entries.map((e, id) => ({ ...e, id }))}
          live={false}
          label="What happened to decisions, the latest first"
          columns={[
            { key: "t", title: "When", width: "8rem", cell: (e) => <Time us={e.time_us} exact /> },
            { key: "c", title: "Change", width: "6.5rem", cell: (e) => e.change },
            { key: "a", title: "Action", width: "5rem", cell: (e) => <ActionPill action={e.action} /> },
            { key: "g", title: "Target", width: "minmax(9rem, 1.3fr)", cell: (e) => <span class="address">{e.target}</span> },
            { key: "p", title: "Packets", width: "5rem", numeric: true, cell: (e) => (e.packets === undefined ? "" : si(e.packets)) },
            { key: "o", title: "By", width: "5.5rem", cell: (e) => e.origin },
            { key: "n", title: "What happened", width: "minmax(10rem, 2fr)", cell: (e) => <span title={`${e.note}\n${e.reason}`}>{e.note === "" ? e.reason : e.note}</span> },
            { key: "l", title: "Alert", width: "4rem", cell: (e) => (e.alert_id === undefined ? "" : <a href={href("alerts", e.alert_id)}>{e.alert_id}</a>) },
          ]}
          card={(e) => (
            <>
              <div class="card-line"><ActionPill action={e.action} /><span class="address strong clip">{e.target}</span><span class="end dim"><Time us={e.time_us} /></span></div>
              <div class="clip">{e.change}: {e.note === "" ? e.reason : e.note}</div>
            </>
          )}
          empty={<Empty title="Nothing has happened to any decision yet" />}
        />
      )}
    </Loaded>
  );
}

export function Decisions(): JSX.Element {
  const tab = TABS.find(([key]) => key === route.value.id)?.[0] ?? "force";
  return (
    <>
      <Heading extra={<span class="dim">{plural(decisions.value.length, "decision")} in force</span>}>Decisions</Heading>
      <nav class="tabs" aria-label="Parts of this page">
        {TABS.map(([key, name]) => (
          <a key={key} href={href("decisions", key === "force" ? "" : key)} aria-current={tab === key ? "page" : undefined}>{name}</a>
        ))}
      </nav>
      {tab === "force" && <InForce />}
      {tab === "allow" && <Allow />}
      {tab === "lists" && <Lists />}
      {tab === "history" && <History />}
    </>
  );
}
