/** Flows: a search over what was recorded, and what is seen right now. */
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { get } from "../api/client.ts";
import type { FoundFlows, RecordedFlow } from "../api/types.ts";
import { clock, endpoint, grouped, parseSpan, plural, protocol, si, span } from "../lib/format.ts";
import { resource } from "../state/resource.ts";
import { type SeenFlow, flows as live } from "../state/stores.ts";
import { now, refine, route } from "../state/view.ts";
import { Card, Empty, Heading, Loaded, Time } from "../ui/basic.tsx";
import { type Column, Rows } from "../ui/list.tsx";
import { Odds, Source } from "../ui/parts.tsx";

const PROTOCOLS = [["", "any"], ["6", "TCP"], ["17", "UDP"], ["1", "ICMP"], ["58", "ICMPv6"]] as const;
const SCORES = [["", "any"], ["0.9", "1 in 10"], ["0.99", "1 in 100"], ["0.999", "1 in 1,000"], ["0.9999", "1 in 10,000"]] as const;
const SINCE = ["15m", "1h", "6h", "24h", "7d"] as const;
const following = signal(false);
/** What is shown while nothing new is let in. */
const paused = signal<readonly SeenFlow[] | undefined>(undefined);

const found = resource(async (): Promise<FoundFlows> => {
  const q = route.peek().query;
  const since = parseSpan(q.get("since") ?? "24h") ?? 86_400_000_000;
  return get<FoundFlows>("flows", {
    address: q.get("address") ?? "",
    port: q.get("port") ?? "",
    proto: q.get("proto") ?? "",
    min_score: q.get("min_score") ?? "",
    since_us: Math.round(Date.now() * 1000 - since),
    limit: 1000,
  });
});

interface Shown extends Omit<RecordedFlow, "state" | "end_reason" | "seen_at"> {
  id: string | number;
  state: string;
}

const COLUMNS: readonly Column<Shown>[] = [
  { key: "t", title: "Last seen", width: "8rem", cell: (f) => <Time us={f.end_us} exact /> },
  { key: "c", title: "Client", width: "minmax(11.5rem, 1.6fr)", cell: (f) => <><Source address={f.client} /><span class="address dim">:{f.client_port}</span></> },
  { key: "s", title: "Server", width: "minmax(9rem, 1.4fr)", cell: (f) => <span class="address">{endpoint(f.server, f.server_port)}</span> },
  { key: "p", title: "Protocol", width: "5rem", cell: (f) => protocol(f.proto) },
  { key: "st", title: "State", width: "7.5rem", cell: (f) => <>{f.state}{f.proven ? "" : <span class="dim"> unproven</span>}</> },
  { key: "pk", title: "Packets", width: "6rem", numeric: true, cell: (f) => `${si(f.packets_to_server)} / ${si(f.packets_to_client)}` },
  { key: "by", title: "Bytes", width: "9rem", numeric: true, cell: (f) => `${si(f.bytes_to_server, "B")} / ${si(f.bytes_to_client, "B")}` },
  { key: "l", title: "Length", width: "6rem", numeric: true, cell: (f) => span(f.end_us - f.start_us) },
  { key: "o", title: "Strangeness", width: "7rem", numeric: true, cell: (f) => <Odds p={f.p_value} /> },
];

/** Flows come faster than anybody reads: this holds what is shown in its place. */
function Pause(): JSX.Element {
  const held = paused.value;
  const since = held === undefined ? 0 : (live.value[0]?.id ?? 0) - (held[0]?.id ?? 0);
  return (
    <>
      {held !== undefined && <span class="dim">{plural(since, "flow")} since </span>}
      <button type="button" class="button quiet" onClick={() => { paused.value = held === undefined ? live.peek() : undefined; }}>{held === undefined ? "Pause" : "Resume"}</button>
    </>
  );
}

export function Flows(): JSX.Element {
  const { query } = route.value;
  const text = query.toString();
  const set = (key: string, value: string): void => refine({ ...Object.fromEntries(query), [key]: value });
  useEffect(() => {
    const timer = window.setTimeout(() => void found.load(), found.value.peek() === undefined ? 0 : 350);
    return () => window.clearTimeout(timer);
  }, [text]);
  const table = (items: readonly Shown[], empty: JSX.Element, fresh: boolean): JSX.Element => (
    <Rows
      items={items}
      columns={COLUMNS}
      label={fresh ? "Flows as they are seen" : "Flows that were found, the latest first"}
      live={fresh}
      tall={76}
      card={(f) => (
        <>
          <div class="card-line"><span class="address strong clip">{endpoint(f.client, f.client_port)}</span><span class="end"><Odds p={f.p_value} /></span></div>
          <div class="card-line"><span class="dim">→</span><span class="address clip">{endpoint(f.server, f.server_port)}</span><span class="dim">{protocol(f.proto)}</span></div>
          <div class="card-line dim"><span>{clock(f.end_us, now.value)}</span><span>{f.state}</span><span class="end">{si(f.bytes_to_server + f.bytes_to_client, "B")}</span></div>
        </>
      )}
      empty={empty}
    />
  );
  return (
    <>
      <Heading extra={<div class="switch" role="group" aria-label="What is shown">
        <button type="button" class="button quiet" aria-pressed={!following.value} onClick={() => { following.value = false; paused.value = undefined; }}>Recorded</button>
        <button type="button" class="button quiet" aria-pressed={following.value} onClick={() => { following.value = true; }}>As they come</button>
      </div>}>Flows</Heading>
      {following.value ? (
        <Card title="A sample of what ends or goes on right now" extra={<Pause />}>
          {table(
            (paused.value ?? live.value).map(({ id, flow }) => ({ ...flow, id, state: "", p_value: flow.anomaly?.p_value } as Shown)),
            <Empty title="No flow was seen since the page was opened">Flows are told of when they end, and while they last once a minute.</Empty>,
            true,
          )}
        </Card>
      ) : (
        <>
          <form class="filters" role="search" onSubmit={(e) => { e.preventDefault(); void found.load(); }}>
            <label class="field grow">
              <span class="field-label">Address or prefix of either end</span>
              <input type="search" id="flows-address" value={query.get("address") ?? ""} placeholder="198.51.100.0/24" onInput={(e) => set("address", e.currentTarget.value.trim())} spellcheck={false} autocomplete="off" />
            </label>
            <label class="field">
              <span class="field-label">Port</span>
              <input type="text" inputMode="numeric" size={6} value={query.get("port") ?? ""} onInput={(e) => set("port", e.currentTarget.value.replace(/\D/g, ""))} />
            </label>
            <label class="field">
              <span class="field-label">Protocol</span>
              <select value={query.get("proto") ?? ""} onChange={(e) => set("proto", e.currentTarget.value)}>
                {PROTOCOLS.map(([v, name]) => <option key={v} value={v}>{name}</option>)}
              </select>
            </label>
            <label class="field">
              <span class="field-label">At least as strange as</span>
              <select value={query.get("min_score") ?? ""} onChange={(e) => set("min_score", e.currentTarget.value)}>
                {SCORES.map(([v, name]) => <option key={v} value={v}>{name}</option>)}
              </select>
            </label>
            <label class="field">
              <span class="field-label">In the last</span>
              <select value={query.get("since") ?? "24h"} onChange={(e) => set("since", e.currentTarget.value)}>
                {SINCE.map((s) => <option key={s} value={s}>{s}</option>)}
              </select>
            </label>
            <button type="submit" class="button primary">Search</button>
          </form>
          <Loaded of={found}>
            {(r) => (
              <>
                <p class="dim" role="status">
                  {found.busy.value ? "Searching… " : ""}
                  {plural(r.flows.length, "flow")}{r.more ? ", and there may be more" : ""}; {grouped(r.scanned)} records looked at{r.from_us > 0 && <>, from <Time us={r.from_us} exact /> on</>}. {r.note}
                </p>
                {table(
                  r.flows.map((f) => ({ ...f, id: `${f.flow_id}-${f.start_us}-${f.end_us}` })),
                  <Empty title="No recorded flow is like that">Widen the time or clear a filter. Flows are recorded where `record` is enabled in the configuration.</Empty>,
                  false,
                )}
              </>
            )}
          </Loaded>
        </>
      )}
    </>
  );
}
