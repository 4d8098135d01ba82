/** Settings: what the agent was told, what it makes of it, and who is logged in. */
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { del, get, logout, post, session } from "../api/client.ts";
import type { AuditEntry, Config, Label, Suppression } from "../api/types.ts";
import { plural } from "../lib/format.ts";
import { attempt } from "../state/news.ts";
import { resource } from "../state/resource.ts";
import { labels, status } from "../state/stores.ts";
import { type Theme, href, theme } from "../state/view.ts";
import { Act, Card, Empty, Facts, Heading, Loaded, Pill, Time } from "../ui/basic.tsx";
import { ask } from "../ui/dialog.tsx";
import { undoLabel } from "./feedback.tsx";
import { Truth } from "./alerts.tsx";

const config = resource(() => get<Config>("config"));
const suppressions = resource(async () => (await get<{ suppressions: Suppression[] }>("suppressions")).suppressions);
const audit = resource(async () => (await get<{ entries: AuditEntry[] }>("audit", { limit: 200 })).entries);

function reload(): void {
  ask({
    title: "Read the configuration file again?",
    does: "Reload",
    body: <p>As `weir config reload` does. A file with mistakes is refused and changes nothing.</p>,
    run: async () => {
      const r = await post<{ applied: string[]; needs_restart: string[] }>("config/reload");
      await Promise.all([config.load(), status.load()]);
      const parts = [r.applied.length > 0 ? `in force: ${r.applied.join(", ")}` : "nothing has changed"];
      if (r.needs_restart.length > 0) parts.push(`after a restart: ${r.needs_restart.join(", ")}`);
      return parts.join("; ");
    },
  });
}

function endSuppression(s: Suppression): void {
  ask({
    title: `Hold it against ${s.prefix} again?`,
    does: "End the suppression",
    body: <p>What was suppressed is evidence from then on.</p>,
    run: async () => {
      await del(`suppressions/${s.id}`);
      await suppressions.load();
      return `The suppression of ${s.prefix} has ended`;
    },
  });
}

function scopeWords(s: Suppression): string {
  const parts = [s.ports.length > 0 ? `ports ${s.ports.join(", ")}` : "any port"];
  if (s.role !== "") parts.push(s.role);
  if (s.features.length > 0) parts.push(`strange by ${s.features.join(", ")}`);
  return parts.join("; ");
}

function Suppressions({ all }: { all: readonly Suppression[] }): JSX.Element {
  if (all.length === 0) return <Empty title="Everything strange is evidence">A false alarm makes a suppression, which is listed here and can be ended.</Empty>;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Suppressions">
      <table class="table">
        <thead><tr><th scope="col">From</th><th scope="col">What</th><th scope="col" class="num">Alerts</th><th scope="col">Ends</th><th scope="col">By</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead>
        <tbody>
          {all.map((s) => (
            <tr key={s.id}>
              <td class="address">{s.prefix}</td>
              <td class="wrap">{scopeWords(s)} <span class="dim">{s.came_of} {s.comment}</span></td>
              <td class="num">{s.alerts}</td>
              <td><Time us={s.expires_us} /></td>
              <td>{s.by}</td>
              <td><Act tone="quiet" onRun={() => endSuppression(s)}>End</Act></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Labels({ all }: { all: readonly Label[] }): JSX.Element {
  if (all.length === 0) return <Empty title="Nobody has said anything yet">Every alert has buttons for it.</Empty>;
  return (
    <ol class="plain-list">
      {all.slice(0, 100).map((l) => (
        <li key={l.id}>
          <Truth of={l.truth} /> <a href={href("alerts", l.alert_id)}>alert {l.alert_id}</a> <span class="address">{l.source}</span> <span class="dim">{l.by}, <Time us={l.at_us} /></span>{" "}
          {l.comment !== "" && <q>{l.comment}</q>}{" "}
          {l.undone_us > 0 ? <span class="dim">taken back by {l.undone_by}</span> : <Act tone="quiet" onRun={() => undoLabel(l).then(() => suppressions.load())}>Undo</Act>}
        </li>
      ))}
    </ol>
  );
}

export function Settings(): JSX.Element {
  useEffect(() => {
    void config.load();
    void suppressions.load();
    void audit.load();
    void labels.load();
  }, []);
  const who = session.value;
  return (
    <>
      <Heading>Settings</Heading>
      <div class="columns even">
        <div class="column">
          <Card title="This page">
            <Facts
              rows={[
                ["Logged in as", who?.name ?? "–"],
                ["May", who?.role === "operator" ? "look and act (operator)" : "look (viewer)"],
                ["Until", <Time us={who?.expires_us} />],
              ]}
            />
            <div class="actions">
              <div class="switch" role="group" aria-label="Theme">
                {(["system", "light", "dark"] as const satisfies readonly Theme[]).map((t) => (
                  <button key={t} type="button" class="button quiet" aria-pressed={theme.value === t} onClick={() => { theme.value = t; }}>{t}</button>
                ))}
              </div>
              <button type="button" class="button" onClick={() => void attempt("Log out", async () => { await logout(); return undefined; })}>Log out</button>
            </div>
          </Card>
          <Card title="What holds" extra={<Act tone="quiet" onRun={reload}>Reload configuration…</Act>}>
            <Loaded of={config}>
              {(c) => (
                <>
                  {c.warnings.length > 0 && <ul class="warnings">{c.warnings.map((w) => <li key={w}>{w}</li>)}</ul>}
                  <ul class="words">{c.summary.map((s) => <li key={s}>{s}</li>)}</ul>
                  <h3>Policy</h3>
                  {c.policy.length === 0 ? <p>The built-in rules hold.</p> : <ol class="words">{c.policy.map((s) => <li key={s}>{s}</li>)}</ol>}
                </>
              )}
            </Loaded>
          </Card>
          <Card title="Not held against anyone"><Loaded of={suppressions}>{(all) => <Suppressions all={all} />}</Loaded></Card>
          <Card title="What people said"><Loaded of={labels}>{(all) => <Labels all={all} />}</Loaded></Card>
        </div>
        <div class="column">
          <Card title="Effective configuration">
            <Loaded of={config}>
              {(c) => (
                <>
                  <p class="dim">{c.changed.length === 0 ? "Everything is at its default." : `${plural(c.changed.length, "key")} not at the default: ${c.changed.join(", ")}`}</p>
                  <pre class="yaml" tabIndex={0} aria-label="Effective configuration as YAML">{c.yaml}</pre>
                </>
              )}
            </Loaded>
          </Card>
          <Card title="Who changed what">
            <Loaded of={audit}>
              {(entries) =>
                entries.length === 0 ? (
                  <Empty title="Nothing was changed yet" />
                ) : (
                  <div class="scroll" tabIndex={0} role="region" aria-label="Audit">
                    <table class="table">
                      <thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">Call</th><th scope="col">About</th><th scope="col">Result</th></tr></thead>
                      <tbody>
                        {entries.map((e, i) => (
                          <tr key={i}>
                            <td><Time us={e.time_us} exact /></td>
                            <td>{e.caller}</td>
                            <td>{e.call}</td>
                            <td class="wrap">{e.subject}</td>
                            <td class="wrap">{e.ok ? e.result : <><Pill tone="bad">refused</Pill> {e.result}</>}</td>
                          </tr>
                        ))}
                      </tbody>
                    </table>
                  </div>
                )
              }
            </Loaded>
          </Card>
        </div>
      </div>
    </>
  );
}
