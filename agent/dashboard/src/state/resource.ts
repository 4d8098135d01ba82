/** An answer of the agent that is asked for and kept. */
import { type Signal, signal } from "@preact/signals";
import { words } from "../api/client.ts";

export interface Resource<T> {
  value: Signal<T | undefined>;
  /** Why the last attempt failed; empty where it did not. */
  error: Signal<string>;
  busy: Signal<boolean>;
  load: () => Promise<void>;
}

export function resource<T>(ask: () => Promise<T>): Resource<T> {
  const value = signal<T | undefined>(undefined);
  const error = signal("");
  const busy = signal(false);
  let turn = 0;
  const load = async (): Promise<void> => {
    turn += 1;
    const mine = turn;
    busy.value = true;
    try {
      const got = await ask();
      // An answer that comes late says less than the one behind it.
      if (mine === turn) {
        value.value = got;
        error.value = "";
      }
    } catch (e) {
      if (mine === turn) error.value = words(e);
    } finally {
      if (mine === turn) busy.value = false;
    }
  };
  return { value, error, busy, load };
}
