use super::*;
use crate::sinks::notice::{Head, Kind};

const S: u64 = 1_000_000;

fn rules() -> Rules {
    Rules { kinds: Kind::Alert.bit() | Kind::Agent.bit(), min_severity: Severity::Medium, window_us: 0, rate: None }
}

fn notice(kind: Kind, severity: Severity, source: &str, reason: &str) -> Notice {
    let head = Head { time_us: 0, kind, severity, source: source.into(), reason: reason.into(), repeated: 0 };
    Notice { head, line: "line".into(), event: "{\"a\":1}".into() }
}

fn alert(source: &str) -> Notice {
    notice(Kind::Alert, Severity::High, source, "ports")
}

/// How many notices came out, how many more they stand for, and what was said to be held back.
fn counts(out: &[Passed]) -> (usize, u64, u64) {
    out.iter().fold((0, 0, 0), |(n, more, held), p| match p {
        Passed::Notice(notice) => (n + 1, more + notice.head.repeated, held),
        Passed::HeldBack(h) => (n, more, held + h),
    })
}

#[test]
fn kinds_and_severities_pass_as_configured() {
    let gate = Gate::new(rules(), 0);
    assert!(gate.wants(&alert("a")) && gate.wants(&notice(Kind::Agent, Severity::Medium, "", "x")));
    assert!(!gate.wants(&notice(Kind::Agent, Severity::Low, "", "x")), "too little");
    assert!(!gate.wants(&notice(Kind::Decision, Severity::High, "a", "x")), "another kind");
}

#[test]
fn the_same_of_the_same_source_comes_once_and_then_with_a_count() {
    let mut gate = Gate::new(Rules { window_us: 60 * S, ..rules() }, 0);
    let mut out = Vec::new();
    for i in 0..10 {
        gate.offer(&alert("192.0.2.1"), i * S, &mut out);
    }
    gate.offer(&alert("192.0.2.2"), 3 * S, &mut out);
    gate.offer(&notice(Kind::Alert, Severity::High, "192.0.2.1", "bytes"), 3 * S, &mut out);
    assert_eq!(counts(&out), (3, 0, 0), "another source and another reason are others");
    gate.tick(59 * S, &mut out);
    assert_eq!(out.len(), 3);
    gate.tick(60 * S, &mut out);
    assert_eq!((counts(&out), gate.repetitions), ((4, 9, 0), 9));
    let Some(Passed::Notice(last)) = out.last() else { panic!("{out:?}") };
    assert_eq!(
        (last.event.as_str(), last.line.as_str()),
        ("{\"a\":1,\"repeated\":9}", "line (and 9 more of the same)")
    );
    // A new window.
    gate.offer(&alert("192.0.2.1"), 61 * S, &mut out);
    gate.offer(&alert("192.0.2.1"), 62 * S, &mut out);
    assert_eq!(counts(&out), (5, 9, 0));
    gate.close(&mut out);
    assert_eq!(counts(&out), (6, 10, 0), "what waits is not lost at the end");
}

#[test]
fn a_rate_lets_no_more_through_and_says_how_many_it_held_back() {
    let mut gate = Gate::new(Rules { rate: Some((10, 60 * S)), ..rules() }, 0);
    let (mut out, mut now) = (Vec::new(), 0);
    for i in 0..600 {
        now = i * S / 2;
        gate.offer(&alert(&i.to_string()), now, &mut out);
        gate.tick(now, &mut out);
    }
    let (sent, _, said) = counts(&out);
    let summaries = out.len() - sent;
    // 10 at once, then 10 in each of 5 minutes, summaries included.
    assert!(out.len() <= 60 && sent >= 50 && (1..=5).contains(&summaries), "{sent} {summaries}");
    assert_eq!(gate.held_back + sent as u64, 600);
    gate.tick(now + 120 * S, &mut out);
    let (_, _, said_at_last) = counts(&out);
    assert!(said < said_at_last);
    assert_eq!(said_at_last, gate.held_back, "each that was held back is in a summary");
}

#[test]
fn forged_sources_take_bounded_memory_and_are_all_told_of() {
    let mut gate = Gate::new(Rules { window_us: 600 * S, ..rules() }, 0);
    let mut out = Vec::new();
    for i in 0..3 * MAX_KNOWN {
        gate.offer(&alert(&i.to_string()), S, &mut out);
        gate.offer(&alert(&i.to_string()), S, &mut out);
        assert!(gate.known.len() <= MAX_KNOWN && gate.ends.len() <= MAX_KNOWN);
    }
    gate.close(&mut out);
    let (n, more, _) = counts(&out);
    assert_eq!((n, more), (6 * MAX_KNOWN, 3 * MAX_KNOWN as u64));
}
