/** The life of the stream of events, without the browser: when to connect, with which token, and what to tell people. */

export type Phase = "connecting" | "live" | "waiting" | "stopped";

export interface StreamState {
  phase: Phase;
  /** Behind this the stream goes on. Empty: from now on. */
  token: string;
  /** Attempts since it was last live. */
  failures: number;
  /** Events that were left out, since the page was opened. */
  lost: number;
  /** Times that the agent was found to have been restarted. */
  restarts: number;
}

export type StreamEvent =
  | { what: "open" }
  | { what: "token"; token: string }
  | { what: "lost"; count: number }
  | { what: "restarted" }
  | { what: "failed" }
  | { what: "retry" }
  | { what: "stop" };

export const BEGINNING: StreamState = { phase: "connecting", token: "", failures: 0, lost: 0, restarts: 0 };

export function step(state: StreamState, event: StreamEvent): StreamState {
  if (state.phase === "stopped") return state;
  switch (event.what) {
    case "open":
      return { ...state, phase: "live", failures: 0 };
    case "token":
      return event.token === "" ? state : { ...state, token: event.token };
    case "lost":
      return { ...state, lost: state.lost + Math.max(0, event.count) };
    case "restarted":
      return { ...state, restarts: state.restarts + 1 };
    case "failed":
      return { ...state, phase: "waiting", failures: state.failures + 1 };
    case "retry":
      return { ...state, phase: "connecting" };
    case "stop":
      return { ...state, phase: "stopped" };
  }
}

/** Milliseconds before the next attempt: doubling from half a second to 15 s, and up to a quarter more by chance. */
export function delay(failures: number, chance: number): number {
  const plain = Math.min(15_000, 500 * 2 ** Math.max(0, Math.min(failures, 10) - 1));
  return Math.round(plain * (1 + 0.25 * chance));
}

/** The query of the stream: the kinds that are wanted, and where to go on. */
export function query(kinds: readonly string[], token: string): string {
  const words = new URLSearchParams({ kinds: kinds.join(",") });
  if (token !== "") words.set("resume_token", token);
  return words.toString();
}
