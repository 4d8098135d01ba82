/** A question that is answered before anything else; the browser keeps the focus within. */
import { signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { attempt } from "../state/news.ts";

export interface Asking {
  title: string;
  body: ComponentChildren;
  /** What the button says that does it. */
  does: string;
  tone?: "primary" | "danger";
  /** Says what came of it; an error leaves the dialog open. */
  run: () => Promise<string | undefined>;
}

export const asking = signal<Asking | undefined>(undefined);

export function ask(what: Asking): void {
  asking.value = what;
}

export function DialogHost(): JSX.Element | null {
  const what = asking.value;
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current;
    if (dialog !== null && what !== undefined && !dialog.open) dialog.showModal();
  }, [what]);
  if (what === undefined) return null;
  const close = (): void => {
    ref.current?.close();
    asking.value = undefined;
  };
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    if (await attempt(what.title, what.run)) close();
  };
  return (
    <dialog ref={ref} class="dialog" aria-labelledby="dialog-title" onClose={() => { asking.value = undefined; }}>
      <form onSubmit={(e) => void submit(e)}>
        <h2 id="dialog-title">{what.title}</h2>
        <div class="dialog-body">{what.body}</div>
        <div class="actions">
          <button type="submit" class={`button ${what.tone ?? "primary"}`}>
            {what.does}
          </button>
          <button type="button" class="button quiet" onClick={close}>
            Cancel
          </button>
        </div>
      </form>
    </dialog>
  );
}
