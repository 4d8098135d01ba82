/** Review: what a person is asked, with what each answer would cut. */
import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { get, post } from "../api/client.ts";
import type { AnswerChoice, AnswerWidth, Question, QuestionDetail, QuestionOption } from "../api/types.ts";
import { grouped, percent, plural, relative, span } from "../lib/format.ts";
import { attempt, say } from "../state/news.ts";
import { resource } from "../state/resource.ts";
import { loadDecisions, loadQuestions, loaded, open, questions, status } from "../state/stores.ts";
import { go, href, now, operator, route } from "../state/view.ts";
import { Act, Card, Empty, Field, Heading, Loaded, Meter, Pill, Time } from "../ui/basic.tsx";
import { ActionPill } from "../ui/parts.tsx";

const comment = signal("");

const chosen = computed((): Question | undefined => {
  const id = Number(route.value.id);
  return questions.value.find((q) => q.id === id) ?? open.value[0];
});

const detail = resource(async (): Promise<QuestionDetail> => {
  const id = chosen.peek()?.id ?? 0;
  const { question } = await get<{ question?: QuestionDetail }>(`questions/${id}`);
  if (question === undefined) throw new Error(`there is no question ${id}`);
  return question;
});

async function undo(id: number): Promise<void> {
  await attempt("Undo", async () => {
    const { lifted } = await post<{ lifted: string }>(`questions/${id}/undo`);
    await Promise.all([loadQuestions(), loadDecisions()]);
    void detail.load();
    return lifted === "" ? `The answer to question ${id} was taken back` : `Taken back: ${lifted}`;
  });
}

async function answer(question: Question, option: QuestionOption): Promise<void> {
  await attempt("Answer", async () => {
    const body = {
      choice: `ANSWER_CHOICE_${option.choice.toUpperCase()}` as AnswerChoice,
      width: (option.width === "" ? "ANSWER_WIDTH_UNSPECIFIED" : `ANSWER_WIDTH_${option.width.toUpperCase()}`) as AnswerWidth,
      comment: comment.peek(),
    };
    const { question: after } = await post<{ question?: Question }>(`questions/${question.id}/answer`, body);
    comment.value = "";
    await Promise.all([loadQuestions(), loadDecisions()]);
    say("good", `Question ${question.id}: ${after?.came_to ?? option.words}`, { label: "Undo", run: () => void undo(question.id) });
    const next = open.peek().find((q) => q.id !== question.id);
    if (next !== undefined) go(href("review", next.id));
    else void detail.load();
    return undefined;
  });
}

/** What an option would have cut, in figures. */
function Cuts({ of: c, most }: { of: NonNullable<QuestionOption["collateral"]>; most: number }): JSX.Element {
  return (
    <div class="cuts">
      <Meter value={c.flows} max={most} tone={(c.ordinary ?? 0) > 0.5 ? "warn" : "info"} label={`${grouped(c.flows)} recorded flows with ${plural(c.hosts, "host")}`} />
      <span>
        {plural(c.flows, "flow")} with {plural(c.hosts, "host")}
        {c.ordinary !== undefined && <>, <b class={c.ordinary > 0.5 ? "strange" : ""}>{percent(c.ordinary, 0)} ordinary</b></>}
        {c.established > 0 && <>; <b class="strange">{plural(c.established, "conversation")} going on now{c.established_ssh > 0 ? `, ${c.established_ssh} SSH` : ""}</b></>}
      </span>
    </div>
  );
}

function Options({ of }: { of: QuestionDetail }): JSX.Element {
  const { question } = of;
  const most = Math.max(1, ...of.options.map((o) => o.collateral?.flows ?? 0));
  if (question === undefined) return <></>;
  return (
    <ol class="options">
      {of.options.map((o) => {
        const proposed = o.choice === (question.action === "shadow" ? "watch" : question.action) && o.target === question.target;
        return (
          <li key={o.number} class={proposed ? "proposed" : ""}>
            <Act
              tone={proposed ? "primary" : "plain"}
              keys={String(o.number)}
              disabled={o.refused !== "" || question.state !== "open"}
              {...(o.refused === "" ? {} : { title: o.refused })}
              onRun={() => answer(question, o)}
            >
              {o.words[0]?.toUpperCase()}
              {o.words.slice(1)}
            </Act>
            <div class="option-more">
              {proposed && <Pill tone="info">proposed</Pill>}
              {o.target !== "" && <span class="address">{o.target}</span>}
              {o.ttl_us > 0 && <span class="dim">for {span(o.ttl_us)}</span>}
              {o.collateral !== undefined && <Cuts of={o.collateral} most={most} />}
              {o.refused !== "" && <p class="refused">Would be refused: {o.refused}</p>}
            </div>
          </li>
        );
      })}
    </ol>
  );
}

function keys(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target instanceof HTMLElement && event.target.closest("input, textarea, select, dialog") !== null) return;
  const list = [...open.peek()];
  const question = chosen.peek();
  const at = list.findIndex((q) => q.id === question?.id);
  if (event.key === "j" || event.key === "k") {
    const next = list[Math.min(list.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)))];
    if (next !== undefined) go(href("review", next.id));
  } else if (event.key === "c") {
    event.preventDefault();
    document.getElementById("review-comment")?.focus();
  } else if (event.key === "u" && operator.peek()) {
    const last = questions.peek().filter((q) => q.state === "answered").sort((a, b) => b.answered_us - a.answered_us)[0];
    const id = question?.state === "answered" ? question.id : last?.id;
    if (id !== undefined) void undo(id);
  } else if (/^[1-9]$/.test(event.key) && operator.peek() && question?.state === "open") {
    const known = detail.value.peek();
    const option = known?.question?.id === question.id ? known.options.find((o) => o.number === Number(event.key)) : undefined;
    if (option !== undefined && option.refused === "") void answer(question, option);
  }
}

function Chosen({ question }: { question: Question }): JSX.Element {
  const isOpen = question.state === "open";
  return (
    <Card
      title={`Question ${question.id}`}
      extra={isOpen ? <span class="dim">{question.unanswered === "act" ? "acts" : "lapses"} {relative(question.expires_us, now.value)}</span> : <Pill>{question.state}</Pill>}
    >
      <p class="ask">
        {question.action === "" ? "" : question.action[0]?.toUpperCase()}
        {question.action.slice(1)} <span class="address">{question.target}</span> for {span(question.ttl_us)}?
      </p>
      <p>{question.why}</p>
      <p class="dim">
        {question.evidence}
        {question.alert_id > 0 && <> (<a href={href("alerts", question.alert_id)}>alert {question.alert_id}</a>)</>}
      </p>
      {question.came_to !== "" && (
        <p class="said">
          {question.came_to} {question.state === "answered" && <Act keys="u" onRun={() => undo(question.id)}>Undo</Act>}
        </p>
      )}
      <Loaded of={detail}>
        {(d) =>
          d.question?.id !== question.id ? (
            <p class="waiting">The record is read…</p>
          ) : (
            <>
              {d.reasons.length > 0 && (
                <ul class="words">
                  {d.reasons.map((r) => <li key={r}>{r}</li>)}
                </ul>
              )}
              {isOpen && (
                <Field label="Comment (c)">
                  <input id="review-comment" type="text" maxLength={500} value={comment.value} onInput={(e) => { comment.value = e.currentTarget.value; }} />
                </Field>
              )}
              <Options of={d} />
              {d.basis !== "" && <p class="dim">{d.basis}</p>}
            </>
          )
        }
      </Loaded>
    </Card>
  );
}

export function Review(): JSX.Element {
  const question = chosen.value;
  useEffect(() => {
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);
  useEffect(() => {
    if (question !== undefined) void detail.load();
  }, [question?.id, question?.state]);
  const closed = questions.value.filter((q) => q.state !== "open").sort((a, b) => b.answered_us - a.answered_us);
  const mode = status.value.value?.mode_effective;
  return (
    <>
      <Heading
        extra={
          <p class="keys">
            <kbd>j</kbd>/<kbd>k</kbd> next and previous, <kbd>1</kbd>–<kbd>9</kbd> answer, <kbd>u</kbd> undo, <kbd>c</kbd> comment
          </p>
        }
      >
        Review
      </Heading>
      {questions.value.length === 0 ? (
        loaded.value ? (
          <Empty title="Nothing is asked">
            <p>In mode review, and where a block could hurt somebody, a person is asked here before anything is dropped.</p>
            {mode !== "MODE_REVIEW" && <p>The mode is {mode?.slice(5).toLowerCase() ?? "not known"}; set `mode: review` in the configuration to be asked about every drop.</p>}
          </Empty>
        ) : (
          <p class="waiting">Loading…</p>
        )
      ) : (
        <div class="review">
          <div class="question-lists">
            <Card title={`Open (${open.value.length})`}>
              {open.value.length === 0 ? (
                <Empty title="All is answered">The next question appears here by itself.</Empty>
              ) : (
                <ol class="questions">
                  {open.value.slice(0, 200).map((q) => (
                    <li key={q.id}>
                      <a href={href("review", q.id)} aria-current={q.id === question?.id ? "true" : undefined}>
                        <span class="card-line"><ActionPill action={q.action} /> <span class="address strong">{q.target}</span> <span class="dim end"><Time us={q.last_us} /></span></span>
                        <span class="dim clip">{q.why}</span>
                      </a>
                    </li>
                  ))}
                </ol>
              )}
            </Card>
            {closed.length > 0 && (
              <Card title="Before">
                <ol class="questions">
                  {closed.slice(0, 100).map((q) => (
                    <li key={q.id}>
                      <a href={href("review", q.id)} aria-current={q.id === question?.id ? "true" : undefined}>
                        <span class="card-line"><Pill>{q.state}</Pill> <span class="address clip">{q.target}</span> <span class="dim end"><Time us={q.answered_us} /></span></span>
                        <span class="dim clip">{q.came_to}</span>
                      </a>
                      {q.state === "answered" && <Act tone="quiet" onRun={() => undo(q.id)} title={`Take back the answer to question ${q.id}`}>Undo</Act>}
                    </li>
                  ))}
                </ol>
              </Card>
            )}
          </div>
          <div>{question !== undefined && <Chosen question={question} />}</div>
        </div>
      )}
    </>
  );
}
