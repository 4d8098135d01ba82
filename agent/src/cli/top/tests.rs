//! What a user sees and what keys do, on a terminal that only a test looks at.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::rows::*;
use super::state::*;
use super::*;
use crate::cli::review;
use crate::proto as pb;

const NOW: u64 = 1_700_000_000_000_000;

fn source(address: &str, evidence: f64, proven: f64, flows: u64) -> Source {
    Source::from(pb::TopSource {
        source: address.into(),
        evidence,
        evidence_proven: proven,
        flows,
        last_us: NOW - 3_000_000,
        ports: vec![22, 3389],
        ..pb::TopSource::default()
    })
}

fn alert(id: u64, severity: &str, source: &str) -> Alert {
    Alert {
        id,
        time_us: NOW - id * 1_000_000,
        severity: severity.into(),
        source: source.into(),
        evidence: 12.0 + id as f64,
        outcome: format!("outcome {id}"),
        lines: vec!["flows started 60 (usually 1 to 9)".into()],
    }
}

fn question(id: u64, state: &str) -> Question {
    let mut q = review::tests::question();
    (q.id, q.state, q.came_to) = (id, state.into(), "blocked by uid 0 (root)".into());
    q.expires_us = NOW + 600_000_000;
    Question::from(&q)
}

fn point(n: u64) -> pb::TrafficPoint {
    pb::TrafficPoint {
        time_us: NOW - (300 - n) * 1_000_000,
        interval_us: 1_000_000,
        packets_passed: 12_300,
        bytes_passed: 9_800_000,
        packets_dropped: 40,
        bytes_dropped: 2_400,
        packets_limited: 0,
        bytes_limited: 0,
        packets_shadowed: 7,
        bytes_shadowed: 420,
        flows_new: 25,
        flows_live: 1_234,
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        time_us: NOW,
        about: About::from(&crate::api::tests::full_status()),
        traffic: (0..300).map(point).collect(),
        sources: vec![
            source("203.0.113.9", 8.0, 1.0, 400),
            source("203.0.113.66", 23.1, 23.1, 60),
            source("198.51.100.7", 9.5, 2.0, 7),
        ],
        sources_known: 345,
        alert_threshold: Some(10.0),
        alerts: vec![
            alert(1, "low", "203.0.113.9"),
            alert(2, "high", "203.0.113.66"),
            alert(3, "medium", "198.51.100.7"),
        ],
        questions: vec![question(2, "answered"), question(3, "open")],
    }
}

fn state() -> State {
    let mut state = State::default();
    state.update(snapshot());
    state
}

/// The screen, line by line.
fn shown(state: &mut State, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, state)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

fn has(lines: &[String], part: &str) -> bool {
    lines.iter().any(|l| l.contains(part))
}

#[track_caller]
fn assert_has(lines: &[String], part: &str) {
    assert!(has(lines, part), "{part:?} is missing in\n{}", lines.join("\n"));
}

fn place(lines: &[String], part: &str) -> usize {
    lines
        .iter()
        .position(|l| l.contains(part))
        .unwrap_or_else(|| panic!("{part:?} is missing in\n{}", lines.join("\n")))
}

#[test]
fn one_screen_shows_rates_sources_alerts_and_questions() {
    let lines = shown(&mut state(), 120, 40);
    for part in [
        "weir top",
        "eth0  mode shadow (configured: enforce)  XDP generic  bundle learned-1",
        "passed         12.3k      9.8 MB/s",
        "dropped           40      2.4 kB/s",
        "would drop       7.0       420 B/s",
        "flows          1,234          25/s",
        "1 Sources: 3 of 345 with evidence, by evidence",
        "203.0.113.66",
        "3s ago",
        "2 Alerts: the last 3, by time",
        "outcome 2",
        "3 Questions: 1 open, by asked",
        "drop 203.0.113.66",
        "open, ends in 10m",
        "answered: blocked by uid 0 (root)",
        "? help  q quit",
    ] {
        assert_has(&lines, part);
    }
    assert!(place(&lines, "23.1") < place(&lines, "9.5"), "the most evidence first");
    // Columns that are cut are cut at their ends, and borders stay whole.
    for (w, h) in [(40, 12), (60, 20), (80, 24), (200, 60)] {
        let lines = shown(&mut state(), w, h);
        assert_eq!(lines.len(), usize::from(h));
        assert_has(&lines, "1 Sources");
        let corners = lines.iter().flat_map(|l| l.chars()).filter(|c| "┌┐└┘".contains(*c)).count();
        assert!(corners >= 4 && corners % 4 == 0, "{w}x{h}: {corners}\n{}", lines.join("\n"));
    }
    let small = shown(&mut state(), 30, 6);
    assert_has(&small, "40 columns and 12 lines");
    // Nothing yet is said, not left empty.
    let nothing = shown(&mut State::default(), 100, 30);
    for words in ["no evidence against anyone", "no alerts", "no questions", "1 Sources: 0 of 0"] {
        assert_has(&nothing, words);
    }
}

#[test]
fn keys_move_sort_and_stay_with_what_is_chosen() {
    let mut s = state();
    let names = |s: &State| s.snapshot.sources.iter().map(|x| x.source.clone()).collect::<Vec<_>>();
    assert_eq!(names(&s), ["203.0.113.66", "198.51.100.7", "203.0.113.9"]);
    assert_eq!(s.key(Key::Char('s')), None);
    assert_has(&shown(&mut s, 120, 40), "by proven");
    s.key(Key::Char('s'));
    assert_eq!(names(&s)[0], "203.0.113.9", "the most flows");
    s.key(Key::Char('r'));
    assert_eq!(names(&s)[0], "198.51.100.7", "the fewest");
    assert_has(&shown(&mut s, 120, 40), "by flows, reversed");
    s.key(Key::Char('s'));
    s.key(Key::Char('s'));
    assert_eq!(names(&s), ["198.51.100.7", "203.0.113.9", "203.0.113.66"], "as numbers, not as words");
    // Chosen by name, wherever a newer snapshot puts it.
    s.key(Key::End);
    assert_eq!(s.snapshot.sources[s.list(Pane::Sources).chosen].source, "203.0.113.66");
    let mut next = snapshot();
    next.sources.push(source("203.0.113.200", 50.0, 0.0, 1));
    s.update(next);
    assert_eq!(s.snapshot.sources[s.list(Pane::Sources).chosen].source, "203.0.113.66");
    // Fewer rows than before leave nothing chosen that is not there.
    s.update(Snapshot { sources: vec![source("192.0.2.1", 1.0, 0.0, 1)], ..snapshot() });
    assert_eq!(s.list(Pane::Sources).chosen, 0);
    for key in [Key::Down, Key::PageDown, Key::Char('j'), Key::Up, Key::Home, Key::PageUp] {
        s.key(key);
        assert_eq!(s.list(Pane::Sources).chosen, 0);
    }
    s.key(Key::Tab);
    assert_eq!(s.focus, Pane::Alerts);
    s.key(Key::Char('s'));
    assert_eq!(s.snapshot.alerts.iter().map(|a| a.id).collect::<Vec<_>>(), [2, 3, 1], "by severity");
    s.key(Key::BackTab);
    s.key(Key::BackTab);
    assert_eq!(s.focus, Pane::Questions);
    assert_eq!(s.snapshot.questions[0].id, 3, "what is open comes first");
    // Held still, nothing moves under one's hands.
    s.key(Key::Char('p'));
    s.update(Snapshot::default());
    assert_eq!(s.snapshot.questions.len(), 2);
    assert_has(&shown(&mut s, 120, 40), "HELD STILL");
    s.key(Key::Char('p'));
    s.update(Snapshot::default());
    assert!(s.snapshot.questions.is_empty());
}

#[test]
fn a_question_is_answered_only_after_yes_and_can_be_taken_back() {
    let mut s = state();
    assert_eq!(s.key(Key::Char('a')), None);
    assert_has(&shown(&mut s, 120, 40), "choose a question first");
    s.key(Key::Char('3'));
    s.key(Key::Char('a'));
    assert_has(&shown(&mut s, 120, 40), "question 3: drop 203.0.113.66 for 1h?  y: yes, any other key: no");
    assert_eq!(s.key(Key::Enter), None, "Enter is not yes");
    assert_has(&shown(&mut s, 120, 40), "nothing was done");
    s.key(Key::Char('a'));
    let approved = Answer { id: 3, choice: "drop".into(), width: String::new() };
    assert_eq!(s.key(Key::Char('y')), Some(Act::Answer(approved)));
    s.key(Key::Char('n'));
    let rejected = Answer { id: 3, choice: "ignore".into(), width: String::new() };
    assert_eq!(s.key(Key::Char('y')), Some(Act::Answer(rejected)));
    // Nothing was answered here yet, and the chosen question is open.
    s.key(Key::Char('u'));
    assert!(s.said.contains("nothing was answered"), "{}", s.said);
    take(&mut s, Update::Done { words: "question 3: blocked".into(), answered: Some(3) });
    assert_has(&shown(&mut s, 120, 40), "question 3: blocked");
    s.key(Key::Char('u'));
    assert_has(&shown(&mut s, 120, 40), "take the answer to question 3 back?");
    assert_eq!(s.key(Key::Char('y')), Some(Act::Undo(3)));
    // One that is answered is taken back where it is chosen, and not answered again.
    s.key(Key::Down);
    s.key(Key::Char('a'));
    assert!(s.said.contains("question 2 is not open"), "{}", s.said);
    s.key(Key::Char('u'));
    assert_eq!(s.key(Key::Char('Y')), Some(Act::Undo(2)));
}

#[test]
fn what_is_opened_shows_why_and_offers_its_answers() {
    let mut s = state();
    s.key(Key::Char('3'));
    assert_eq!(s.key(Key::Enter), Some(Act::OpenQuestion(3)));
    let mut detail = review::tests::detail();
    detail.options[1].refused = "it reaches the gateway".into();
    take(&mut s, Update::Opened(View::Question(Box::new(Opened::from(&detail)))));
    let lines = shown(&mut s, 120, 40);
    for part in [
        "Question 3 (open)",
        "drop 203.0.113.66 for 1h?",
        "1. flows started 60 (usually 1 to 9)",
        "  3  block the host 203.0.113.66 - it would have met: 3 flows that are established",
        "would be refused: it reaches the gateway",
        "1-9 answer",
    ] {
        assert_has(&lines, part);
    }
    s.key(Key::Char('2'));
    assert!(s.said.contains("reaches the gateway") && s.pending.is_none());
    s.key(Key::Char('9'));
    assert!(s.said.contains("no answer 9"));
    s.key(Key::Char('3'));
    let picked = Answer { id: 3, choice: "drop".into(), width: "host".into() };
    assert_eq!(s.key(Key::Char('y')), Some(Act::Answer(picked)));
    take(&mut s, Update::Done { words: "done".into(), answered: Some(3) });
    assert_eq!(s.view, View::Lists, "it is answered, so it closes");

    s.key(Key::Char('2'));
    s.key(Key::Down);
    assert_eq!(s.key(Key::Enter), Some(Act::OpenAlert(2)));
    take(&mut s, Update::Opened(View::Alert(Box::new(alert(2, "high", "203.0.113.66")))));
    assert_has(&shown(&mut s, 100, 30), "flows started 60 (usually 1 to 9)");
    // Scrolling ends with the text, and Esc leads back.
    (0..50).for_each(|_| assert_eq!(s.key(Key::Down), None));
    assert_has(&shown(&mut s, 100, 30), "Alert 2");
    assert_eq!(s.key(Key::Escape), None);
    s.key(Key::Char('1'));
    s.key(Key::Enter);
    let lines = shown(&mut s, 100, 30);
    assert_has(&lines, "evidence  23.1, of proven flows 23.1");
    assert_has(&lines, "2 2s ago (high): outcome 2");
    assert_eq!(s.key(Key::Char('q')), None, "q closes what is open first");
    s.key(Key::Char('?'));
    assert_has(&shown(&mut s, 100, 40), "take the answer to the chosen question back");
    s.key(Key::Char('q'));
    assert_eq!(s.key(Key::Char('q')), Some(Act::Quit));
    assert_eq!(state().key(Key::Interrupt), Some(Act::Quit));
}

#[test]
fn names_of_others_steer_nothing_and_lie_about_nothing() {
    let hostile = "\x1b[2J\x1b]0;owned\x07\u{9b}31m\u{202e}66.311\r\n\t";
    let s = Source::from(pb::TopSource { source: hostile.into(), ..pb::TopSource::default() });
    let mut q = review::tests::question();
    (q.target, q.why, q.state, q.came_to) = (hostile.into(), hostile.into(), "answered".into(), hostile.into());
    let mut state = State::default();
    state.update(Snapshot {
        time_us: NOW,
        sources: vec![s],
        questions: vec![Question::from(&q)],
        alerts: vec![Alert { outcome: crate::cli::output::clean(hostile), ..alert(1, "high", "203.0.113.9") }],
        ..Snapshot::default()
    });
    take(&mut state, Update::Happened(crate::cli::output::clean(hostile)));
    let mut block = plain::block(&state.snapshot, Rates::default());
    block += &serde_json::to_string(&plain::object(&state.snapshot, Rates::default())).unwrap();
    let lines = shown(&mut state, 160, 40);
    for text in lines.iter().chain([&block]) {
        let steering = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!text.chars().any(steering), "{text:?}");
    }
    assert_has(&lines, "\u{fffd}[2J");
}

#[test]
fn an_agent_that_does_not_answer_is_said_and_forgiven() {
    let mut s = state();
    take(&mut s, Update::Trouble("no agent is running here: there is no socket".into()));
    let lines = shown(&mut s, 120, 40);
    assert_has(&lines, "the agent does not answer: no agent is running here");
    assert_has(&lines, "203.0.113.66");
    take(&mut s, Update::Snapshot(Box::new(snapshot())));
    assert!(!has(&shown(&mut s, 120, 40), "does not answer"));
}

#[test]
fn rates_are_over_the_time_that_was_measured() {
    let mut points: Vec<_> = (0..3).map(point).collect();
    points[2].interval_us = 2_000_000;
    let r = Rates::over(&points);
    assert_eq!(r.passed, [3.0 * 12_300.0 / 4.0, 3.0 * 9_800_000.0 / 4.0]);
    assert_eq!((r.flows_live, Rates::over(&[]).passed), (1_234, [0.0, 0.0]));
    let words = [0.0, 0.26, 7.31, 412.4, 12_345.0, 2_500_000.0, 3e9].map(rate);
    assert_eq!(words, ["0", "0.3", "7.3", "412", "12.3k", "2.5M", "3.0G"]);
}

#[test]
fn pipes_get_a_block_of_lines() {
    let mut s = state();
    s.update(snapshot());
    let block = plain::block(&s.snapshot, Rates::over(&s.snapshot.traffic));
    for part in [
        "2023-11-14T22:13:20",
        "passed 12.3k pps 9.8 MB/s  dropped 40 pps 2.4 kB/s",
        "sources 345\n  203.0.113.66  evidence 23.1, proven 23.1  flows 60  ports 22 3389  3s ago\n",
        "alerts 3\n  1  1s ago  low",
        "questions 1\n  3  drop 203.0.113.66 for 1h?  ends in 10m",
    ] {
        assert!(block.contains(part), "{part:?} is missing in\n{block}");
    }
    let object = serde_json::to_value(plain::object(&s.snapshot, Rates::over(&s.snapshot.traffic))).unwrap();
    assert_eq!(object["rates"]["passed"][0], 12_300.0);
    assert_eq!(object["questions"].as_array().unwrap().len(), 1, "those that wait");
}

/// What [`a_panic_gives_the_terminal_back`] runs on a terminal of its own.
#[test]
fn panics_on_a_full_screen() {
    if std::env::var_os("WEIR_TEST_PANIC").is_none() {
        return;
    }
    let _screen = Screen::open().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    panic!("as the test wants");
}

#[expect(dead_code, reason = "the tests of the program use the rest")]
#[path = "../../../tests/common/pty.rs"]
mod pty;

#[test]
fn a_panic_gives_the_terminal_back() {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "cli::top::tests::panics_on_a_full_screen", "--nocapture", "--test-threads=1"]);
    let mut terminal = pty::Pty::start(command.env("WEIR_TEST_PANIC", "1").env("RUST_BACKTRACE", "0"), 80, 24);
    let before = terminal.modes_before();
    terminal.wait_for("the full screen", |s| s.alternate_screen());
    assert_ne!(terminal.modes(), before, "keys come at once, and are not echoed");
    assert!(!terminal.wait().success());
    terminal.wait_for("the words of the panic", |s| s.contents().contains("as the test wants"));
    assert!(!terminal.screen().alternate_screen() && !terminal.screen().hide_cursor());
    assert_eq!(terminal.modes(), before);
}
