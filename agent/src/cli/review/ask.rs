//! One question after another, over plain lines.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use weir_core::policy::duration_words;
use weir_core::question::{Choice, Width};
use weir_core::rate::RateLimit;

use super::{clean, request, show};
use crate::api::client::Client;
use crate::clock::wall_us;
use crate::human;
use crate::proto as pb;

/// What was typed at a prompt for an answer.
#[derive(Debug, PartialEq)]
enum Typed {
    /// By place in the list.
    Option(usize),
    Skip,
    Quit,
    Again,
}

fn typed(line: &str, options: usize) -> Typed {
    match line.trim() {
        "" | "s" | "skip" => Typed::Skip,
        "q" | "quit" => Typed::Quit,
        number => match number.parse::<usize>() {
            Ok(n) if n >= 1 && n <= options => Typed::Option(n - 1),
            _ => Typed::Again,
        },
    }
}

/// `None`: nobody types any more.
fn prompt(input: &mut dyn BufRead, out: &mut dyn Write, text: &str) -> io::Result<Option<String>> {
    write!(out, "{text}")?;
    out.flush()?;
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        writeln!(out)?;
        return Ok(None);
    }
    Ok(Some(line.trim().to_owned()))
}

/// Asks until it can be read; Enter takes what is offered.
fn value<T>(
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    text: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> io::Result<Option<Option<T>>> {
    loop {
        match prompt(input, out, text)? {
            None => return Ok(None),
            Some(line) if line.is_empty() => return Ok(Some(None)),
            Some(line) => match read(&line) {
                Ok(v) => return Ok(Some(Some(v))),
                Err(e) => writeln!(out, "{}", clean(&e))?,
            },
        }
    }
}

/// An answer by its names; an empty width is that of what was proposed. `None`: one of them is not known here.
pub fn named(choice: &str, width: &str) -> Option<(Choice, Option<Width>)> {
    let choice = Choice::NAMES.iter().find(|(n, _)| *n == choice).map(|(_, c)| *c)?;
    let known = Width::NAMES.iter().find(|(n, _)| *n == width).map(|(_, w)| *w);
    // One that this version does not know must not be taken for what was proposed.
    (width.is_empty() || known.is_some()).then_some((choice, known))
}

/// How long, how much and why; `None`: nobody types any more.
fn answer(
    id: u64,
    o: &pb::QuestionOption,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> io::Result<Option<pb::AnswerQuestionRequest>> {
    let Some((choice, width)) = named(&o.choice, &o.width) else {
        writeln!(out, "this `weir` does not know that answer; the agent is newer")?;
        return Ok(None);
    };
    let limit = if choice == Choice::Limit {
        let rate = |s: &str| s.parse::<RateLimit>().map_err(|e| e.to_string());
        let Some(limit) = value(input, out, "at most [10pps]: ", rate)? else { return Ok(None) };
        limit
    } else {
        None
    };
    let offered = format!("for how long [{}]: ", duration_words(o.ttl_us));
    let time = |s: &str| match human::parse_duration(s) {
        Ok(Duration::ZERO) => Err("0 would end at once".to_owned()),
        other => other.map_err(|e| e.to_string()),
    };
    let Some(lifetime) = value(input, out, &offered, time)? else { return Ok(None) };
    let lifetime = lifetime.unwrap_or_else(|| human::micros(o.ttl_us));
    let Some(comment) = prompt(input, out, "comment [none]: ")? else { return Ok(None) };
    Ok(Some(request(id, choice, width, limit, Some(lifetime), comment)))
}

/// Every open question, the oldest first.
pub async fn all(client: &mut Client, input: &mut dyn BufRead, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut open = client.list_questions(false).await?.questions;
    open.reverse();
    if open.is_empty() {
        writeln!(out, "no open questions")?;
        return Ok(());
    }
    let all = open.len();
    for (i, q) in open.into_iter().enumerate() {
        let detail = match client.get_question(q.id).await {
            Ok(detail) if detail.question.as_ref().is_some_and(|q| q.state == "open") => detail,
            Ok(_) => {
                writeln!(out, "question {} was answered meanwhile", q.id)?;
                continue;
            }
            Err(e) => {
                writeln!(out, "{}", clean(&e.to_string()))?;
                continue;
            }
        };
        writeln!(out, "({} of {all})", i + 1)?;
        write!(out, "{}", show(&detail, wall_us()))?;
        loop {
            let text = format!("answer [1-{}, s: skip, q: quit]: ", detail.options.len());
            let Some(line) = prompt(input, out, &text)? else { return Ok(()) };
            let at = match typed(&line, detail.options.len()) {
                Typed::Quit => return Ok(()),
                Typed::Skip => break,
                Typed::Again => {
                    writeln!(out, "`{}` is none of them", clean(&line))?;
                    continue;
                }
                Typed::Option(at) => at,
            };
            let Some(request) = answer(q.id, &detail.options[at], input, out)? else { return Ok(()) };
            match client.answer_question(request).await {
                Ok(q) => writeln!(out, "question {}: {}", q.id, clean(&q.came_to))?,
                // Another answer may do: a guard refuses a target, not the question.
                Err(e) => {
                    writeln!(out, "not done: {}", clean(&e.to_string()))?;
                    continue;
                }
            }
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::detail;
    use super::*;

    #[test]
    fn numbers_skip_and_quit_are_understood_and_nothing_else_answers() {
        assert_eq!(typed("3\n", 3), Typed::Option(2));
        assert_eq!((typed("", 3), typed(" s ", 3), typed("q", 3)), (Typed::Skip, Typed::Skip, Typed::Quit));
        for other in ["0", "4", "-1", "drop", "1 2", "99999999999999999999"] {
            assert_eq!(typed(other, 3), Typed::Again, "{other}");
        }
    }

    #[test]
    fn enter_takes_what_is_offered_and_mistakes_are_asked_again() {
        let mut out = Vec::new();
        let d = detail();
        let mut input = io::Cursor::new("\n\nour backup\n");
        let a = answer(3, &d.options[2], &mut io::Cursor::new("\nour backup\n"), &mut out).unwrap().unwrap();
        assert_eq!((a.id, a.choice, a.width), (3, pb::AnswerChoice::Drop as i32, pb::AnswerWidth::Host as i32));
        assert_eq!((a.lifetime_us, a.comment.as_str()), (Some(3_600_000_000), "our backup"));
        let a = answer(3, &d.options[1], &mut input, &mut out).unwrap().unwrap();
        assert_eq!((a.choice, a.limit), (pb::AnswerChoice::Limit as i32, None));
        let mut input = io::Cursor::new("fast\n5pps\nsoon\n10m\n\n");
        let a = answer(3, &d.options[1], &mut input, &mut out).unwrap().unwrap();
        assert_eq!((a.limit.unwrap().per_second, a.lifetime_us), (5, Some(600_000_000)));
        let said = String::from_utf8(out).unwrap();
        assert!(said.contains("`fast` is no rate") && said.contains("is no length of time"), "{said}");
        let mut out = Vec::new();
        assert_eq!(answer(3, &d.options[2], &mut io::Cursor::new("1h\n"), &mut out).unwrap(), None, "nobody types on");
    }
}
