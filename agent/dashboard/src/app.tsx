/** The frame of the page: navigation, the state of the connection, messages. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { login, session, words } from "./api/client.ts";
import { grouped, word } from "./lib/format.ts";
import { received, reconnect, retryAt, start, stop, stream } from "./state/live.ts";
import { dismiss, notes, spoken } from "./state/news.ts";
import { failed, loadAll, open, status } from "./state/stores.ts";
import { href, now, route, shade, theme } from "./state/view.ts";
import { Empty, Pill } from "./ui/basic.tsx";
import { DialogHost } from "./ui/dialog.tsx";
import { AlertPage } from "./pages/alert.tsx";
import { Alerts } from "./pages/alerts.tsx";
import { Decisions } from "./pages/decisions.tsx";
import { Flows } from "./pages/flows.tsx";
import { Models } from "./pages/models.tsx";
import { Now } from "./pages/now.tsx";
import { Review } from "./pages/review.tsx";
import { Settings } from "./pages/settings.tsx";

const PAGES: readonly (readonly [key: string, name: string, icon: string])[] = [
  ["now", "Now", "M3 12h4l3-8 4 16 3-8h4"],
  ["alerts", "Alerts", "M12 3l9 16H3zM12 9v5m0 2.500v.500"],
  ["review", "Review", "M4 5h16v11H9l-5 4zM8 9h8M8 12h5"],
  ["decisions", "Decisions", "M12 3l8 3v6c0 5-4 8-8 9-4-1-8-4-8-9V6zM8.500 12l2.500 2.500L15.500 10"],
  ["flows", "Flows", "M3 7c6 0 6 10 12 10h6M3 17c6 0 6-10 12-10h6"],
  ["models", "Models", "M4 20V10m5 10V4m5 16v-8m5 8V7"],
  ["settings", "Settings", "M4 7h10m4 0h2M4 17h2m4 0h10M14 5v4M8 15v4"],
];

function Nav(): JSX.Element {
  const { page } = route.value;
  return (
    <nav class="nav" aria-label="Pages">
      <ul>
        {PAGES.map(([key, name, icon]) => (
          <li key={key}>
            <a href={href(key)} aria-current={page === key ? "page" : undefined}>
              <svg viewBox="0 0 24 24" aria-hidden="true"><path d={icon} /></svg>
              <span class="nav-name">{name}</span>
              {key === "review" && open.value.length > 0 && (
                <span class="badge" aria-label={`${open.value.length} open`}>{open.value.length > 99 ? "99+" : open.value.length}</span>
              )}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function Connection(): JSX.Element {
  const { phase, lost } = stream.value;
  const left = Math.max(0, Math.ceil((retryAt.value - now.value / 1000) / 1000));
  const text = phase === "live" ? "live" : phase === "waiting" ? `reconnecting${left > 0 ? ` in ${left} s` : "…"}` : "connecting…";
  const title = lost > 0 ? `${grouped(lost)} events came too fast for this page and were left out of the stream; lists were asked for again` : "Events come as they happen";
  return (
    <span class={`connection ${phase}`} role="status" aria-label={`Connection: ${phase === "live" ? "live" : phase}`} title={title} data-phase={phase} data-received={received.value}>
      <span class="dot" aria-hidden="true" /> {text}
      {phase === "waiting" && <button type="button" class="button quiet" onClick={reconnect}>Now</button>}
    </span>
  );
}

function Bar(): JSX.Element {
  const s = status.value.value;
  const mode = s === undefined ? "" : word(s.mode_effective, "MODE_");
  const next = shade.value === "dark" ? "light" : "dark";
  return (
    <header class="bar">
      <a class="brand" href={href("now")}>
        <svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" /><path d="M6 11c3.300 0 3.300 2 6.600 2s3.400-2 6.700-2 3.300 2 6.700 2M8 18h16M8 22h16M12 18v6M16 18v6M20 18v6" /></svg>
        <span>Weir</span>
      </a>
      {s !== undefined && (
        <>
          <Pill tone={mode === "enforce" ? "good" : mode === "review" ? "info" : "warn"} title={s.mode_reason}>{mode}</Pill>
          <span class="dim iface">{s.interface === "" ? "collector" : s.interface}</span>
        </>
      )}
      <span class="grow" />
      <Connection />
      <span class="who dim">{session.value?.name}{session.value?.role === "viewer" ? " (viewer)" : ""}</span>
      <button type="button" class="button quiet icon" onClick={() => { theme.value = next; }} aria-label={`Show in ${next} colours`} title={`Show in ${next} colours`}>
        <svg viewBox="0 0 24 24" aria-hidden="true"><path d={next === "light" ? "M12 4V2m0 20v-2m8-8h2M2 12h2m13.700-5.700l1.400-1.400M4.900 19.100l1.400-1.400m11.400 0l1.400 1.400M4.900 4.900l1.400 1.400M12 8a4 4 0 100 8 4 4 0 000-8z" : "M20 14.500A8.500 8.500 0 019.500 4a8.500 8.500 0 1010.500 10.500z"} /></svg>
      </button>
    </header>
  );
}

function Notes(): JSX.Element {
  return (
    <div class="notes" role="status" aria-label="Messages">
      {notes.value.map((n) => (
        <div key={n.id} class={`toast ${n.level}`} role={n.level === "bad" ? "alert" : undefined}>
          <span>{n.text}</span>
          {n.undo !== undefined && (
            <button type="button" class="button quiet" onClick={() => { n.undo?.run(); dismiss(n.id); }}>{n.undo.label}</button>
          )}
          <button type="button" class="button quiet" aria-label="Dismiss" onClick={() => dismiss(n.id)}>×</button>
        </div>
      ))}
    </div>
  );
}

function Page(): JSX.Element {
  const { page, id } = route.value;
  switch (page) {
    case "now":
      return <Now />;
    case "alerts":
      return id === "" ? <Alerts /> : <AlertPage id={Number(id)} />;
    case "review":
      return <Review />;
    case "decisions":
      return <Decisions />;
    case "flows":
      return <Flows />;
    case "models":
      return <Models />;
    case "settings":
      return <Settings />;
    default:
      return <Empty title="There is no such page"><a href={href("now")}>Now</a> shows what happens.</Empty>;
  }
}

function Frame({ children }: { children: ComponentChildren }): JSX.Element {
  const { page, id } = route.value;
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  // The title and the focus follow the page, so that a screen reader tells where one is.
  useEffect(() => {
    const name = PAGES.find(([key]) => key === page)?.[1] ?? "Weir";
    document.title = `${page === "alerts" && id !== "" ? `Alert ${id}` : name} – Weir`;
    if (first.current) {
      first.current = false;
      return;
    }
    if (page === "review") return;
    main.current?.scrollTo(0, 0);
    main.current?.querySelector<HTMLElement>("#heading")?.focus({ preventScroll: true });
  }, [page, id]);
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); main.current?.focus(); }}>Skip to the content</a>
      <Bar />
      <Nav />
      <main id="main" ref={main} tabIndex={-1} class={`page-${page}${id === "" ? "" : " one"}`}>
        {failed.value !== "" && stream.value.phase === "live" && <p class="problem" role="alert">Not everything could be loaded: {failed.value} <button type="button" class="button quiet" onClick={() => void loadAll()}>Try again</button></p>}
        {children}
      </main>
      <Notes />
      <DialogHost />
      <div class="hidden" aria-live="polite">{spoken.value}</div>
    </div>
  );
}

function SignedOut(): JSX.Element {
  return (
    <main class="signed-out">
      <h1>Weir</h1>
      <p>You are not logged in, or your session has ended.</p>
      <p>
        On the host of the agent, type <code>weir web login</code> and open the address that it prints. It is good once, for a short time.
      </p>
      <button type="button" class="button" onClick={() => location.reload()}>Try again</button>
    </main>
  );
}

export function App(): JSX.Element {
  const who = session.value;
  const [error, setError] = useState("");
  const ask = (): void => {
    setError("");
    login().catch((e: unknown) => setError(words(e)));
  };
  useEffect(ask, []);
  const inside = who !== undefined && who !== null;
  useEffect(() => {
    if (!inside) return;
    start();
    void loadAll();
    return stop;
  }, [inside]);
  if (who === null) return <SignedOut />;
  if (who === undefined) {
    return (
      <main class="signed-out">
        <h1>Weir</h1>
        {error === "" ? <p class="waiting">Connecting…</p> : <><p role="alert">{error}</p><button type="button" class="button" onClick={ask}>Try again</button></>}
      </main>
    );
  }
  return (
    <Frame>
      <Page />
    </Frame>
  );
}
