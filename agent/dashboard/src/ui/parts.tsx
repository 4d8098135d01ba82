/** Parts that several pages share: decisions, flows, alerts in a few words. */
import type { JSX } from "preact";
import type { Decision, FlowEvent, RateLimit, RecordedFlow } from "../api/types.ts";
import { del, post } from "../api/client.ts";
import { endpoint, grouped, odds, protocol, si, span, word } from "../lib/format.ts";
import { hostOf } from "../lib/address.ts";
import { attempt, say } from "../state/news.ts";
import { type AlertRow, loadDecisions } from "../state/stores.ts";
import { href } from "../state/view.ts";
import { ask } from "./dialog.tsx";
import { Act, Empty, Pill, Time, actionTone, severityTone } from "./basic.tsx";

export function actionWord(action: Decision["action"] | undefined): string {
  return action === undefined ? "" : word(action, "ACTION_");
}

export function ActionPill({ action }: { action: string }): JSX.Element {
  return <Pill tone={actionTone(action)}>{action === "" ? "nothing" : action}</Pill>;
}

export function Severity({ of }: { of: string }): JSX.Element {
  return <Pill tone={severityTone(of)}>{of === "" ? "–" : of}</Pill>;
}

export function limitWords(limit: RateLimit | undefined): string {
  if (limit === undefined) return "";
  return limit.unit === "RATE_UNIT_BYTES" ? si(limit.per_second, "B/s") : `${grouped(limit.per_second)} packets/s`;
}

/** An address with the ways to go from it. */
export function Source({ address }: { address: string }): JSX.Element {
  return (
    <a class="address" href={href("flows", "", { address })} title={`Flows of ${address}`}>
      {address}
    </a>
  );
}

export function Target({ target }: { target: string }): JSX.Element {
  const host = hostOf(target);
  return host === undefined ? <span class="address">{target}</span> : <Source address={target.startsWith(host) && target === host ? host : target} />;
}

export function evidenceWords(a: Pick<AlertRow, "evidence" | "evidence_proven" | "alert_threshold" | "drop_threshold">): string {
  return `${a.evidence.toFixed(1)} nats, ${a.evidence_proven.toFixed(1)} proven; alert from ${a.alert_threshold.toFixed(1)}, drop from ${a.drop_threshold.toFixed(1)}`;
}

/** Lifts a decision at once, with a way back where there is one. */
export async function lift(decision: Decision): Promise<void> {
  await attempt("Lift", async () => {
    await del(`decisions/${decision.id}`);
    await loadDecisions();
    say("good", `Lifted: ${actionWord(decision.action)} on ${decision.target}`, {
      label: "Undo",
      run: () => void again(decision),
    });
    return undefined;
  });
}

async function again(decision: Decision): Promise<void> {
  await attempt("Undo", async () => {
    const left = decision.expires_us === undefined ? undefined : decision.expires_us - Date.now() * 1000;
    if (left !== undefined && left <= 0) throw new Error("its time is over");
    await post("decisions", {
      target: decision.target,
      action: decision.action,
      sides: decision.sides,
      ...(left === undefined ? {} : { lifetime_us: Math.round(left) }),
      ...(decision.limit === undefined ? {} : { limit: decision.limit }),
      reason: decision.reason.slice(0, 500),
    });
    await loadDecisions();
    return `In force again: ${decision.target}`;
  });
}

export function confirmLift(decision: Decision): void {
  ask({
    title: `Lift the ${actionWord(decision.action)} on ${decision.target}?`,
    body: <p>Its packets pass again at once.</p>,
    does: "Lift",
    tone: "danger",
    run: async () => {
      await lift(decision);
      return undefined;
    },
  });
}

type AnyFlow = Pick<FlowEvent, "client" | "server" | "client_port" | "server_port" | "proto">;

export function flowWords(f: AnyFlow): string {
  return `${endpoint(f.client, f.client_port)} → ${endpoint(f.server, f.server_port)} ${protocol(f.proto)}`;
}

/** Flows of the record as a plain table: a bounded number. */
export function FlowTable({ flows, label }: { flows: readonly RecordedFlow[]; label: string }): JSX.Element {
  if (flows.length === 0) return <Empty title="No recorded flows">Flows are recorded where `record` is enabled in the configuration.</Empty>;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={label}>
      <table class="table dense">
        <thead>
          <tr>
            <th scope="col">Began</th>
            <th scope="col">Client</th>
            <th scope="col">Server</th>
            <th scope="col">State</th>
            <th scope="col" class="num">Packets</th>
            <th scope="col" class="num">Bytes</th>
            <th scope="col" class="num">Length</th>
            <th scope="col" class="num">Strangeness</th>
          </tr>
        </thead>
        <tbody>
          {flows.map((f) => (
            <tr key={`${f.flow_id}-${f.start_us}-${f.end_us}`}>
              <td><Time us={f.start_us} exact /></td>
              <td class="address">{endpoint(f.client, f.client_port)}</td>
              <td class="address">{endpoint(f.server, f.server_port)} <span class="dim">{protocol(f.proto)}</span></td>
              <td title={f.proven ? "proven: the client is no forgery" : "unproven: the client may be forged"}>{f.state}</td>
              <td class="num">{grouped(f.packets_to_server)} / {grouped(f.packets_to_client)}</td>
              <td class="num">{si(f.bytes_to_server, "B")} / {si(f.bytes_to_client, "B")}</td>
              <td class="num">{span(f.end_us - f.start_us)}</td>
              <td class="num"><Odds p={f.p_value} /></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Odds({ p }: { p: number | undefined }): JSX.Element {
  if (p === undefined) return <span class="dim">not scored</span>;
  return <span class={p <= 0.001 ? "strange very" : p <= 0.01 ? "strange" : ""}>{odds(p)}</span>;
}

export function LiftButton({ decision }: { decision: Decision | undefined }): JSX.Element | null {
  if (decision === undefined) return null;
  return (
    <Act tone="quiet" onRun={() => lift(decision)} title={`Lift ${decision.target}`}>
      Lift
    </Act>
  );
}
