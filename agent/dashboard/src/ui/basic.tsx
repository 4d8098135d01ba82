/** Small parts that every page is made of. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Resource } from "../state/resource.ts";
import { now, operator } from "../state/view.ts";
import { clock, relative } from "../lib/format.ts";

export type Tone = "plain" | "good" | "bad" | "warn" | "calm" | "info";

export function Pill({ tone = "plain", title, children }: { tone?: Tone; title?: string; children: ComponentChildren }): JSX.Element {
  return (
    <span class={`pill ${tone}`} title={title}>
      {children}
    </span>
  );
}

export function Card({
  title,
  extra,
  children,
  class: name = "",
}: {
  title?: string;
  extra?: ComponentChildren;
  children: ComponentChildren;
  class?: string;
}): JSX.Element {
  return (
    <section class={`card ${name}`} aria-label={title}>
      {title !== undefined && (
        <header class="card-head">
          <h2>{title}</h2>
          {extra !== undefined && <div class="card-extra">{extra}</div>}
        </header>
      )}
      {children}
    </section>
  );
}

/** What to do where there is nothing to see. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }): JSX.Element {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children !== undefined && <div class="empty-text">{children}</div>}
    </div>
  );
}

/** A button that changes something: disabled for viewers. */
export function Act({
  onRun,
  tone = "plain",
  disabled = false,
  title,
  children,
  keys,
  pressed,
}: {
  onRun: () => unknown;
  tone?: "plain" | "primary" | "danger" | "quiet";
  disabled?: boolean;
  title?: string;
  children: ComponentChildren;
  /** The key that does the same. */
  keys?: string;
  pressed?: boolean;
}): JSX.Element {
  const [busy, setBusy] = useState(false);
  const alive = useRef(true);
  useEffect(() => () => { alive.current = false; }, []);
  const viewer = !operator.value;
  const run = async (): Promise<void> => {
    setBusy(true);
    try {
      await onRun();
    } finally {
      if (alive.current) setBusy(false);
    }
  };
  const why = viewer ? "Only operators can do this; you are logged in as a viewer" : title;
  return (
    <button
      type="button"
      class={`button ${tone}`}
      disabled={viewer || disabled || busy}
      aria-busy={busy}
      aria-pressed={pressed}
      aria-keyshortcuts={keys}
      title={why}
      onClick={() => void run()}
    >
      {children}
      {keys !== undefined && <kbd aria-hidden="true">{keys}</kbd>}
    </button>
  );
}

/** A moment: how long ago, with the exact time on hover. */
export function Time({ us, exact = false }: { us: number | undefined; exact?: boolean }): JSX.Element {
  if (us === undefined || us === 0) return <span class="dim">–</span>;
  const at = new Date(us / 1000);
  const full = at.toISOString();
  return (
    <time dateTime={full} title={full}>
      {exact ? clock(us, now.value) : relative(us, now.value)}
    </time>
  );
}

export function Facts({ rows }: { rows: readonly (readonly [string, ComponentChildren] | false | undefined)[] }): JSX.Element {
  return (
    <dl class="facts">
      {rows.map((row) =>
        row ? (
          <div key={row[0]}>
            <dt>{row[0]}</dt>
            <dd>{row[1]}</dd>
          </div>
        ) : null,
      )}
    </dl>
  );
}

/** An answer, or that it is awaited, or why there is none. */
export function Loaded<T>({ of, children }: { of: Resource<T>; children: (value: T) => ComponentChildren }): JSX.Element {
  const value = of.value.value;
  const error = of.error.value;
  return (
    <>
      {error !== "" && (
        <p class="problem" role="alert">
          {error}{" "}
          <button type="button" class="button quiet" onClick={() => void of.load()}>
            Try again
          </button>
        </p>
      )}
      {value !== undefined ? children(value) : error === "" && <p class="waiting">Loading…</p>}
    </>
  );
}

export function Field({
  label,
  hint,
  children,
}: {
  label: string;
  hint?: string;
  children: ComponentChildren;
}): JSX.Element {
  return (
    <label class="field">
      <span class="field-label">{label}</span>
      {children}
      {hint !== undefined && <span class="hint">{hint}</span>}
    </label>
  );
}

export function Heading({ children, extra }: { children: ComponentChildren; extra?: ComponentChildren }): JSX.Element {
  return (
    <div class="page-head">
      <h1 id="heading" tabIndex={-1}>
        {children}
      </h1>
      {extra !== undefined && <div class="page-extra">{extra}</div>}
    </div>
  );
}

/** A share of a whole as a bar, with its figure in words beside it. */
export function Meter({ value, max, label, tone = "plain" }: { value: number; max: number; label: string; tone?: Tone }): JSX.Element {
  const share = max > 0 ? Math.min(1, Math.max(0, value / max)) : 0;
  return (
    <span class="meter" role="img" aria-label={label} title={label}>
      <span class={`meter-fill ${tone}`} style={{ width: `${(share * 100).toFixed(1)}%` }} />
    </span>
  );
}

export function severityTone(severity: string): Tone {
  return severity === "high" ? "bad" : severity === "medium" ? "warn" : "info";
}

export function actionTone(action: string): Tone {
  return action === "drop" ? "bad" : action === "limit" ? "warn" : action === "shadow" ? "calm" : "plain";
}
