/** What a person says about an alert, with what it then means. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { post } from "../api/client.ts";
import type { Alert, AlertTruth, Label, Suppression } from "../api/types.ts";
import { parseSpan, span } from "../lib/format.ts";
import { attempt, say } from "../state/news.ts";
import { labels, loadDecisions } from "../state/stores.ts";
import { Act, Field, Pill, Time } from "../ui/basic.tsx";

export async function undoLabel(label: Label): Promise<void> {
  await attempt("Undo", async () => {
    await post(`labels/${label.id}/undo`);
    await labels.load();
    return `Taken back: alert ${label.alert_id} is labelled no more`;
  });
}

export function Feedback({ alert, label, after }: { alert: Alert; label: Label | undefined; after: () => void }): JSX.Element {
  const [scoping, setScoping] = useState(false);
  const [prefix, setPrefix] = useState(alert.source);
  const [ports, setPorts] = useState<readonly number[]>([]);
  const [sameRole, setSameRole] = useState(false);
  const [anyFeature, setAnyFeature] = useState(false);
  const [lifetime, setLifetime] = useState("30d");
  const [comment, setComment] = useState("");
  const us = parseSpan(lifetime);

  const send = (truth: AlertTruth): Promise<boolean> =>
    attempt("Feedback", async () => {
      const body = {
        truth,
        comment,
        ...(truth === "ALERT_TRUTH_FALSE"
          ? {
              scope: { prefix, ports, role: sameRole ? alert.role : "", features: [], any_feature: anyFeature },
              ...(us === undefined ? {} : { lifetime_us: us }),
            }
          : {}),
      };
      const made = await post<{ label?: Label; suppression?: Suppression }>(`alerts/${alert.id}/label`, body);
      await Promise.all([labels.load(), loadDecisions()]);
      after();
      setScoping(false);
      setComment("");
      const { label: now, suppression } = made;
      const tail = suppression === undefined ? "" : `; the like is not held against ${suppression.prefix} for ${span(suppression.expires_us - suppression.created_us)}`;
      say("good", `Alert ${alert.id}: ${now?.truth ?? "labelled"}${tail}`, now === undefined ? undefined : { label: "Undo", run: () => void undoLabel(now).then(after) });
      return undefined;
    });

  return (
    <div class="feedback">
      {label !== undefined && (
        <p class="said">
          <Pill tone={label.truth === "attack" ? "bad" : label.truth === "false alarm" ? "good" : "plain"}>{label.truth}</Pill> said {label.by}, <Time us={label.at_us} />
          {label.comment !== "" && <q>{label.comment}</q>}
          <Act tone="quiet" onRun={() => undoLabel(label).then(after)}>Undo</Act>
        </p>
      )}
      <Field label="Comment" hint="For those who read it later; kept with the label">
        <input type="text" maxLength={500} value={comment} onInput={(e) => setComment(e.currentTarget.value)} id="feedback-comment" />
      </Field>
      {!scoping && (
        <div class="actions">
          <Act onRun={() => send("ALERT_TRUTH_TRUE")}>It was an attack</Act>
          <Act onRun={() => setScoping(true)}>False alarm…</Act>
          <Act tone="quiet" onRun={() => send("ALERT_TRUTH_UNSURE")}>Unsure</Act>
        </div>
      )}
      {scoping && (
        <fieldset class="scope">
          <legend>What of it is normal here</legend>
          <Field label="From" hint="An address, or a prefix of at most a /16 or /48">
            <input type="text" value={prefix} onInput={(e) => setPrefix(e.currentTarget.value)} spellcheck={false} />
          </Field>
          <div class="field">
            <span class="field-label">To ports</span>
            <div class="choices">
              <label class="choice">
                <input type="checkbox" checked={ports.length === 0} onChange={() => setPorts([])} /> any
              </label>
              {alert.ports.map((p) => (
                <label class="choice" key={p}>
                  <input type="checkbox" checked={ports.includes(p)} onChange={(e) => setPorts(e.currentTarget.checked ? [...ports, p] : ports.filter((o) => o !== p))} /> {p}
                </label>
              ))}
            </div>
          </div>
          <label class="choice">
            <input type="checkbox" checked={sameRole} onChange={(e) => setSameRole(e.currentTarget.checked)} /> only {alert.role === "" ? "this role" : alert.role}
          </label>
          <label class="choice">
            <input type="checkbox" checked={anyFeature} onChange={(e) => setAnyFeature(e.currentTarget.checked)} /> strange in whatever way, not only by {alert.reasons.slice(0, 3).map((r) => r.feature).join(", ") || "the features above"}
          </label>
          <Field label="For" hint="Such as 4h or 30d">
            <input type="text" value={lifetime} aria-invalid={us === undefined} onInput={(e) => setLifetime(e.currentTarget.value)} />
          </Field>
          <div class="actions">
            <Act tone="primary" disabled={us === undefined || prefix.trim() === ""} onRun={() => send("ALERT_TRUTH_FALSE")}>Label as false alarm</Act>
            <button type="button" class="button quiet" onClick={() => setScoping(false)}>Cancel</button>
          </div>
        </fieldset>
      )}
    </div>
  );
}
