use super::*;
use crate::decision::{Action, Origin, Sides, Target};

const S: u64 = 1_000_000;

fn new(source: &str) -> NewQuestion {
    let source: Addr = source.parse().unwrap();
    NewQuestion {
        source,
        flow: None,
        proposed: NewDecision {
            target: Target::Net(crate::addr::Prefix::host(source)),
            action: Action::Drop,
            limit: None,
            sides: Sides::In,
            origin: Origin::Automatic,
            ttl_us: Some(3600 * S),
            reason: "evidence 23.1".into(),
            instead_of: None,
            alert_id: Some(12),
            confirm_within_us: None,
        },
        why: "mode review".into(),
        ttl_us: 600 * S,
        unanswered: Unanswered::Nothing,
    }
}

fn answer(choice: Choice, width: Option<Width>) -> Answer {
    Answer { choice, width, limit: None, ttl_us: None, comment: "our backup".into(), by: "uid 0 (root)".into() }
}

fn given(at_us: u64, quiet_until_us: u64) -> Given {
    Given {
        at_us,
        answer: answer(Choice::Ignore, None),
        came_to: "ignored".into(),
        decision_id: None,
        made: false,
        suppression_id: None,
        quiet_until_us,
    }
}

fn ask(questions: &mut Questions, source: &str, now: u64) -> u64 {
    match questions.ask(new(source), &[22, 80], now) {
        Asked::New(q) => q.id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn asking_again_updates_the_open_question_and_numbers_are_never_used_twice() {
    let mut all = Questions::default();
    assert_eq!(ask(&mut all, "192.0.2.7", S), 1);
    let mut stronger = new("192.0.2.7");
    stronger.proposed.reason = "evidence 40.0".into();
    assert_eq!(all.ask(stronger, &[], 2 * S), Asked::Again);
    let q = all.get(1).unwrap();
    assert_eq!((q.count, q.asked_us, q.last_us, q.proposed.reason.as_str()), (2, S, 2 * S, "evidence 40.0"));
    assert_eq!((q.expires_us, &q.ports[..]), (601 * S, &[22, 80][..]), "asking on does not put off the end");
    assert_eq!(ask(&mut all, "192.0.2.8", 3 * S), 2);
    all.lapse(1, 601 * S, None, String::new());
    assert_eq!(ask(&mut all, "192.0.2.7", 700 * S), 3);
    let mut restored = Questions::restore(all.snapshot(700 * S), 700 * S, None);
    assert_eq!(restored.snapshot(700 * S), all.snapshot(700 * S));
    assert_eq!((ask(&mut restored, "192.0.2.9", 701 * S), restored.open()), (4, 3));
}

#[test]
fn the_second_answer_is_told_of_the_first() {
    let mut all = Questions::default();
    let id = ask(&mut all, "192.0.2.7", S);
    all.answer(id, given(2 * S, 2 * S)).unwrap();
    let second = all.answer(id, given(3 * S, 3 * S)).unwrap_err().to_string();
    assert!(
        second.contains("answered 1970-01-01T00:00:02") && second.contains("ignored; `weir review undo 1`"),
        "{second}"
    );
    assert_eq!(all.answerable(9, S), Err(QuestionError::Unknown(9)));
    assert_eq!(all.open(), 0);
}

#[test]
fn who_was_ignored_is_not_asked_about_until_that_is_over() {
    let mut all = Questions::default();
    let id = ask(&mut all, "192.0.2.7", S);
    all.answer(id, given(2 * S, 100 * S)).unwrap();
    assert_eq!(all.ask(new("192.0.2.7"), &[], 99 * S), Asked::Quiet);
    assert_eq!(ask(&mut all, "192.0.2.8", 99 * S), 2, "others are asked about");
    assert_eq!(ask(&mut all, "192.0.2.7", 100 * S), 3);
}

#[test]
fn what_nobody_answers_is_due_at_its_time_and_cannot_be_answered_after_it() {
    let mut all = Questions::default();
    let id = ask(&mut all, "192.0.2.7", 0);
    assert_eq!(all.due(600 * S - 1), []);
    assert_eq!(all.due(600 * S).len(), 1);
    assert!(all.answer(id, given(600 * S, 0)).unwrap_err().to_string().contains("nobody answered until"));
    all.lapse(id, 600 * S, Some(5), "dropped".into());
    assert_eq!((all.due(u64::MAX), all.get(id).unwrap().came_to()), (vec![], "dropped".into()));
    assert!(all.answerable(id, 601 * S).is_err());
}

#[test]
fn undoing_reopens_while_there_is_time_and_closes_after_it() {
    let mut all = Questions::default();
    let id = ask(&mut all, "192.0.2.7", 0);
    assert_eq!(all.undo(id, "me", S), Err(QuestionError::NotAnswered(id)));
    all.answer(id, given(S, S)).unwrap();
    assert!(all.undo(id, "me", 2 * S).unwrap().is_open());
    assert_eq!(all.open(), 1);
    all.answer(id, given(3 * S, 3 * S)).unwrap();
    let closed = all.undo(id, "me", 600 * S).unwrap();
    assert_eq!((closed.state_name(), closed.came_to()), ("undone", "the answer was taken back by me".to_owned()));
    // Asked anew meanwhile: one open question per target.
    let second = ask(&mut all, "192.0.2.7", 700 * S);
    all.answer(second, given(701 * S, 701 * S)).unwrap();
    let third = ask(&mut all, "192.0.2.7", 702 * S);
    assert!(!all.undo(second, "me", 703 * S).unwrap().is_open() && all.get(third).unwrap().is_open());
    assert_eq!(all.open(), 1);
}

#[test]
fn open_questions_are_bounded_and_closed_ones_are_forgotten_oldest_first() {
    let mut all = Questions::default();
    let source = |i: usize| format!("10.{}.{}.{}", i >> 16, i >> 8 & 255, i & 255);
    for i in 0..MAX_OPEN {
        ask(&mut all, &source(i), S);
    }
    assert_eq!((all.ask(new("192.0.2.7"), &[], S), all.not_asked()), (Asked::Full, 1));
    assert_eq!(all.ask(new(&source(0)), &[], S), Asked::Again, "those that are open go on");
    for i in 0..MAX_CLOSED + 10 {
        let id = ask_after_closing(&mut all, i);
        assert!(id > MAX_OPEN as u64);
    }
    assert_eq!(all.iter().filter(|q| !q.is_open()).count(), MAX_CLOSED);
    assert!(all.open() <= MAX_OPEN);
}

fn ask_after_closing(all: &mut Questions, i: usize) -> u64 {
    let open = all.iter().find(|q| q.is_open()).unwrap().id;
    all.answer(open, given(2 * S, 0)).unwrap();
    ask(all, &format!("172.16.{}.{}", i >> 8, i & 255), 3 * S)
}

#[test]
fn over_a_restart_the_time_that_passed_counts_by_a_clock_that_nobody_sets() {
    let mut all = Questions::default();
    let id = ask(&mut all, "192.0.2.7", 1000 * S);
    let stored = all.snapshot(1100 * S);
    // The wall clock was set back by far; 50 s passed.
    let restored = Questions::restore(stored.clone(), 10 * S, Some(50 * S));
    assert_eq!(restored.get(id).unwrap().expires_us, 10 * S + 450 * S);
    // After a reboot the smaller remainder holds.
    let restored = Questions::restore(stored, 1400 * S, None);
    assert_eq!(restored.get(id).unwrap().expires_us, 1600 * S);
}

#[test]
fn every_offer_can_be_answered_and_a_single_flow_is_not_offered_where_none_can_be_stopped() {
    let mut all = Questions::default();
    for (source, prefix) in [("192.0.2.7", "192.0.2.0/24"), ("2001:db8:1:2::7", "2001:db8:1:2::/64")] {
        let id = ask(&mut all, source, S);
        let q = all.get(id).unwrap();
        let offered = offers(q);
        let targets: Vec<String> = offered.iter().filter_map(|o| o.target).map(|t| t.to_string()).collect();
        let port = format!("{source}/tcp/22");
        assert_eq!(targets, [source, source, &port, source, prefix]);
        for o in &offered {
            let resolved = resolve(q, &answer(o.choice, o.width)).unwrap();
            match resolved {
                Resolved::Decide(d) => {
                    assert_eq!((Some(d.target), d.origin, d.alert_id), (o.target, Origin::Manual, Some(12)));
                    assert_eq!(d.action == Action::Limit, d.limit.is_some());
                    assert!(
                        d.reason.starts_with(&format!("answer to question {id}, alert 12: our backup, by uid 0")),
                        "{}",
                        d.reason
                    );
                }
                Resolved::Suppress { prefix, .. } => assert_eq!(prefix.to_string(), source),
                Resolved::Ignore { .. } => assert_eq!(o.choice, Choice::Ignore),
            }
        }
        let flow = resolve(q, &answer(Choice::Block, Some(Width::Flow))).unwrap_err().to_string();
        assert!(flow.contains("no flow can be meant by question"), "{flow}");
    }
    let mut going_on = new("192.0.2.8");
    let flow = "tcp:192.0.2.8:5555-203.0.113.1:22";
    going_on.flow = match flow.parse() {
        Ok(Target::Flow(f)) => Some(f),
        other => panic!("{other:?}"),
    };
    let Asked::New(q) = all.ask(going_on, &[22], S) else { panic!("not asked") };
    let offer = offers(&q).into_iter().find(|o| o.width == Some(Width::Flow)).unwrap();
    assert_eq!(offer.words, format!("block the flow {flow}"));
    let Ok(Resolved::Decide(d)) = resolve(&q, &answer(Choice::Block, Some(Width::Flow))) else { panic!("no decision") };
    assert_eq!(d.target.to_string(), flow);
    let mut unknown = all.get(1).unwrap().clone();
    unknown.ports.clear();
    assert!(resolve(&unknown, &answer(Choice::Block, Some(Width::Port))).is_err());
}

#[test]
fn answers_without_sense_are_refused() {
    let mut all = Questions::default();
    let id = ask(&mut all, "192.0.2.7", S);
    let q = all.get(id).unwrap();
    let rate = "5pps".parse().ok();
    let wrong = Answer { limit: rate, ..answer(Choice::Block, None) };
    assert_eq!(resolve(q, &wrong), Err(AnswerError::Rate("drop")));
    for (choice, ttl_us) in
        [(Choice::Block, 0), (Choice::Block, MAX_ANSWER_US + 1), (Choice::Suppress, 91 * 86_400 * S)]
    {
        let wrong = Answer { ttl_us: Some(ttl_us), ..answer(choice, None) };
        assert!(matches!(resolve(q, &wrong), Err(AnswerError::Time { .. })), "{choice:?} {ttl_us}");
    }
    let said = AnswerError::Time { max_us: MAX_ANSWER_US }.to_string();
    assert_eq!(said, "an answer holds for 1s to 365d");
}

#[test]
fn a_clock_that_steps_by_a_day_neither_ends_nor_prolongs_anything() {
    const DAY: i64 = 86_400 * S as i64;
    for step in [DAY, -DAY] {
        let start = 10 * DAY as u64;
        let mut all = Questions::default();
        let (open, quiet) = (ask(&mut all, "192.0.2.7", start), ask(&mut all, "192.0.2.8", start));
        all.answer(quiet, given(start, start + 300 * S)).unwrap();
        all.clock_stepped(step);
        let now = start.saturating_add_signed(step);
        assert!(all.answerable(open, now + 599 * S).is_ok() && all.due(now + 599 * S).is_empty(), "by {step}");
        assert_eq!(all.due(now + 600 * S).len(), 1, "by {step}");
        assert_eq!(all.ask(new("192.0.2.8"), &[], now + 299 * S), Asked::Quiet, "by {step}");
        assert!(matches!(all.ask(new("192.0.2.8"), &[], now + 300 * S), Asked::New(_)), "by {step}");
    }
}
