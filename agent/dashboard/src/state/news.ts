/** What is said to the person at the page: short messages, and words for a screen reader. */
import { signal } from "@preact/signals";
import { words } from "../api/client.ts";

export interface Note {
  id: number;
  level: "good" | "bad" | "info";
  text: string;
  undo?: { label: string; run: () => void };
}

export const notes = signal<readonly Note[]>([]);
/** Read out when there is time. */
export const spoken = signal("");

const GOOD_MS = 12_000;
let last = 0;

export function say(level: Note["level"], text: string, undo?: Note["undo"]): void {
  last += 1;
  const note: Note = { id: last, level, text, ...(undo === undefined ? {} : { undo }) };
  notes.value = [...notes.value.slice(-3), note];
  spoken.value = text;
  if (level !== "bad") window.setTimeout(() => dismiss(note.id), GOOD_MS);
}

export function dismiss(id: number): void {
  notes.value = notes.value.filter((n) => n.id !== id);
}

/** Does what a person asked for, and says what came of it. */
export async function attempt(what: string, run: () => Promise<string | undefined>): Promise<boolean> {
  try {
    const text = await run();
    if (text !== undefined && text !== "") say("good", text);
    return true;
  } catch (e) {
    say("bad", `${what}: ${words(e)}`);
    return false;
  }
}
