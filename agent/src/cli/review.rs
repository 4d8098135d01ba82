//! `weir review`: questions listed, shown and answered, one by one or one after another.

pub(super) mod ask;

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::Duration;

use weir_core::policy::duration_words;
use weir_core::question::{Choice, Width};
use weir_core::rate::RateLimit;
use weir_core::record::TimeUs;

use super::args::{ReviewArgs, ReviewCmd};
use super::output::{Output, Table, clean, relative};
use super::usage;
use crate::api::client::Client;
use crate::api::review::{choice_out, width_out};
use crate::clock::wall_us;
use crate::proto as pb;

pub async fn run(client: &mut Client, args: ReviewArgs, out: &Output) -> anyhow::Result<()> {
    let Some(command) = args.command else {
        if out.json() {
            return Err(usage("questions are asked in words; for JSON there are `weir review list` and `show`"));
        }
        if !args.plain && !io::stdin().is_terminal() {
            return Err(usage(
                "`weir review` asks at a terminal, and standard input is none: use `weir review list`, `approve` and `reject`, \
                 or --plain to answer by lines",
            ));
        }
        return ask::all(client, &mut io::stdin().lock(), &mut io::stdout()).await;
    };
    match command {
        ReviewCmd::List { all } => {
            let list = client.list_questions(all).await?;
            out.list(&list.questions, |q| table(q, wall_us()))?;
            if list.not_asked > 0 && !out.json() {
                out.text(&format!("{} more were not asked: there are too many open ones\n", list.not_asked))?;
            }
        }
        ReviewCmd::Show { id } => {
            let detail = client.get_question(id).await?;
            if out.json() { out.object(&detail)? } else { out.text(&show(&detail, wall_us()))? }
        }
        ReviewCmd::Approve { id, action, limit, target, lifetime, comment } => {
            if limit.is_some() && action != Choice::Limit {
                return Err(usage("a rate belongs to `--action limit`"));
            }
            let answered = client.answer_question(request(id, action, target, limit, lifetime, comment)).await?;
            said(&answered, out)?;
        }
        ReviewCmd::Reject { id, lifetime, suppress, comment } => {
            let (choice, time) = match suppress {
                Some(time) => (Choice::Suppress, Some(time)),
                None => (Choice::Ignore, lifetime),
            };
            let answered = client.answer_question(request(id, choice, None, None, time, comment)).await?;
            said(&answered, out)?;
        }
        ReviewCmd::Undo { id } => {
            let undone = client.undo_answer(id).await?;
            if out.json() {
                out.object(&serde_json::json!({ "question": undone.question, "lifted": undone.lifted }))?;
            } else {
                let open = undone.question.is_some_and(|q| q.state == "open");
                let open = if open { "it is open again" } else { "its time is over" };
                let lifted = if undone.lifted.is_empty() { "nothing was to be lifted" } else { &undone.lifted };
                out.text(&format!("the answer to question {id} is taken back: {}; {open}\n", clean(lifted)))?;
            }
        }
    }
    Ok(())
}

pub(super) fn request(
    id: u64,
    choice: Choice,
    width: Option<Width>,
    limit: Option<RateLimit>,
    lifetime: Option<Duration>,
    comment: String,
) -> pb::AnswerQuestionRequest {
    pb::AnswerQuestionRequest {
        id,
        choice: choice_out(choice) as i32,
        width: width_out(width) as i32,
        limit: limit.map(Into::into),
        lifetime_us: lifetime.map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX)),
        comment,
    }
}

fn said(q: &pb::Question, out: &Output) -> io::Result<()> {
    if out.json() { out.object(q) } else { out.text(&format!("question {}: {}\n", q.id, clean(&q.came_to))) }
}

fn table(questions: &[pb::Question], now: TimeUs) -> String {
    if questions.is_empty() {
        return "no open questions\n".into();
    }
    let mut t = Table::new(&["ID", "ASKED", "PROPOSED", "FOR", ">TIMES", "STATE", "WHY", "EVIDENCE"]);
    for q in questions {
        let state = match q.state.as_str() {
            "open" => format!("open, {} {}", ends(q), relative(q.expires_us, now)),
            _ => format!("{}: {}", q.state, q.came_to),
        };
        t.row(vec![
            q.id.to_string(),
            relative(q.asked_us, now),
            format!("{} {}", q.action, q.target),
            duration_words(q.ttl_us),
            q.count.to_string(),
            state,
            q.why.clone(),
            q.evidence.clone(),
        ]);
    }
    t.render()
}

/// What happens where nobody answers.
fn ends(q: &pb::Question) -> &'static str {
    if q.unanswered == "act" { "done unanswered" } else { "lapses" }
}

fn show(d: &pb::QuestionDetail, now: TimeUs) -> String {
    let mut out = String::new();
    let Some(q) = &d.question else { return "the agent told of no question\n".into() };
    let (action, target) = (clean(&q.action), clean(&q.target));
    let _ = writeln!(out, "question {}: {action} {target} for {}?", q.id, duration_words(q.ttl_us));
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<9} {}", clean(&value));
    };
    line("seen", format!("{}: {}", q.source, q.evidence));
    line("asked", format!("{}, {} time{}", relative(q.asked_us, now), q.count, if q.count == 1 { "" } else { "s" }));
    line("because", q.why.clone());
    if q.alert_id > 0 {
        line("alert", format!("{0}; `weir alerts show {0}` has its flows", q.alert_id));
    }
    if q.state == "open" {
        line("until", format!("{} {}", ends(q), relative(q.expires_us, now)));
    } else {
        line("state", format!("{}: {}", q.state, q.came_to));
    }
    if !d.reasons.is_empty() {
        out += "why it is strange, the most telling first\n";
        for (i, r) in d.reasons.iter().enumerate() {
            let _ = writeln!(out, "  {}. {}", i + 1, clean(r));
        }
    }
    if q.state == "open" {
        out += "what you may answer\n";
        for o in &d.options {
            out += &option(o);
        }
        let _ = writeln!(out, "predicted from {}", clean(&d.basis));
    }
    out
}

fn option(o: &pb::QuestionOption) -> String {
    let mut text = format!("  {}. {} [{}]\n", o.number, clean(&o.words), duration_words(o.ttl_us));
    let did = match o.choice.as_str() {
        "watch" => "counted",
        "limit" => "slowed down",
        _ => "cut",
    };
    if let Some(c) = &o.collateral {
        let _ = writeln!(text, "       would have {did}: {}", clean(&c.words));
    }
    if !o.refused.is_empty() {
        let _ = writeln!(text, "       would be refused: {}", clean(&o.refused));
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn question() -> pb::Question {
        pb::Question {
            id: 3,
            source: "203.0.113.66".into(),
            why: "mode review".into(),
            target: "203.0.113.66".into(),
            action: "drop".into(),
            ttl_us: 3_600_000_000,
            evidence: "evidence 23.1 \x1b[2Jfrom proven flows".into(),
            alert_id: 12,
            asked_us: 1_700_000_000_000_000,
            last_us: 1_700_000_000_000_000,
            count: 2,
            expires_us: 1_700_003_600_000_000,
            unanswered: "nothing".into(),
            state: "open".into(),
            ..pb::Question::default()
        }
    }

    pub fn detail() -> pb::QuestionDetail {
        let option = |number, choice: &str, width: &str, words: &str, cut: Option<&str>| pb::QuestionOption {
            number,
            choice: choice.into(),
            width: width.into(),
            words: words.into(),
            ttl_us: 3_600_000_000,
            collateral: cut.map(|words| pb::Collateral { words: words.into(), ..pb::Collateral::default() }),
            ..pb::QuestionOption::default()
        };
        pb::QuestionDetail {
            question: Some(question()),
            reasons: vec!["flows started 60 (usually 1 to 9)".into()],
            options: vec![
                option(1, "ignore", "", "ignore: do nothing", None),
                option(2, "limit", "host", "limit 203.0.113.66 to 10 packets/s", Some("no established flow")),
                option(
                    3,
                    "drop",
                    "host",
                    "block the host 203.0.113.66",
                    Some("3 flows that are established, 1 of them SSH"),
                ),
            ],
            basis: "the flows that are alive".into(),
        }
    }

    #[test]
    fn a_question_says_what_was_seen_why_and_what_each_answer_would_have_cut() {
        let text = show(&detail(), 1_700_000_060_000_000);
        for part in [
            "question 3: drop 203.0.113.66 for 1h?\n",
            "seen      203.0.113.66: evidence 23.1 \u{fffd}[2Jfrom proven flows\n",
            "asked     1m ago, 2 times\n",
            "until     lapses in 59m\n",
            "1. flows started 60",
            "3. block the host 203.0.113.66 [1h]\n       would have cut: 3 flows that are established, 1 of them SSH\n",
            "would have slowed down: no established flow\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        assert!(table(&[question()], 1_700_000_060_000_000).contains("open, lapses in 59m"));
    }
}
