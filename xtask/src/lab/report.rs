//! What the lab prints, and its verdict.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::time::Instant;

use super::attacks::{Attack, Expected};
use super::book::Book;
use super::tally::{Count, Tally};

/// Lines with the time since the lab began; on a terminal, one line of progress below them.
pub struct Screen {
    begin: Instant,
    terminal: bool,
    progress: bool,
    last_plain_progress: Option<Instant>,
}

impl Screen {
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { begin: Instant::now(), terminal, progress: false, last_plain_progress: None }
    }

    pub fn line(&mut self, text: &str) {
        self.clear();
        println!("{:7.1} s  {text}", self.begin.elapsed().as_secs_f64());
    }

    pub fn heading(&mut self, text: &str) {
        self.clear();
        println!("\n=== {text}");
    }

    pub fn plain(&mut self, text: &str) {
        self.clear();
        println!("{text}");
    }

    /// Overwritten by what comes next; without a terminal, a line every ten seconds.
    pub fn progress(&mut self, text: &str) {
        if self.terminal {
            print!("\r\x1b[K{:7.1} s  {text}", self.begin.elapsed().as_secs_f64());
            // Nothing is lost if a progress line is.
            let _ = std::io::stdout().flush();
            self.progress = true;
        } else if self.last_plain_progress.is_none_or(|t| t.elapsed().as_secs() >= 10) {
            self.last_plain_progress = Some(Instant::now());
            self.line(text);
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.progress) {
            print!("\r\x1b[K");
        }
    }

    pub fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }
}

/// What an attacking process said at its end.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub started_us: u64,
    pub tries: u64,
    pub answered: u64,
    /// The attacker's own view: three attempts in a row without an answer, and when the first of them began.
    pub blocked_us: Option<u64>,
    /// Attempts that failed on the attacker's side, which prove nothing.
    pub broken: u64,
}

/// One line of the summary.
pub struct Verdict {
    pub what: String,
    pub result: String,
    pub good: bool,
}

pub fn judge_attack(attack: &Attack, outcome: &Outcome, book: &Book, with_weir: bool) -> Verdict {
    let seconds = |at: u64| at.saturating_sub(outcome.started_us) as f64 / 1e6;
    let noticed = book.score_of(attack.source).map_or("no alert".to_owned(), |s| format!("alert, score {s:.4}"));
    let dropped = book.packets(attack.source, "drop");
    let (good, result) = match (with_weir, attack.expected) {
        (false, Expected::Dropped) => {
            let good = outcome.blocked_us.is_none() && outcome.answered > 0;
            (good, format!("{} tries, {} answered, as it must be without Weir", outcome.tries, outcome.answered))
        }
        (false, Expected::OnlyNoticed) => (outcome.tries > 0, format!("{} packets sent", outcome.tries)),
        (true, Expected::Dropped) => match (outcome.blocked_us, book.dropped_at(attack.source)) {
            (Some(blocked), Some(_)) => {
                let line =
                    format!("{noticed}; dropped after {:.1} s ({} tries answered", seconds(blocked), outcome.answered);
                // Without a counted packet, something else than the entry stopped it.
                (dropped > 0, format!("{line}, then {dropped} packets dropped)"))
            }
            (Some(_), None) => (false, format!("{noticed}; it stopped getting answers, but Weir dropped nothing")),
            (None, Some(at)) => {
                (false, format!("{noticed}; an entry after {:.1} s, and yet answers went on", seconds(at)))
            }
            (None, None) => {
                (false, format!("{noticed}; NOT BLOCKED: {} of {} tries answered", outcome.answered, outcome.tries))
            }
        },
        (true, Expected::OnlyNoticed) => {
            let shadow = match book.packets(attack.source, "shadow") {
                0 if book.was_decided(attack.source, "shadow") => "; shadow entry".to_owned(),
                0 => String::new(),
                n => format!("; shadow entry, {n} packets would have been dropped"),
            };
            if book.was_decided(attack.source, "drop") {
                (false, format!("{noticed}{shadow}; A FORGED SOURCE WAS DROPPED"))
            } else if !book.was_noticed(attack.source) {
                (false, format!("went UNNOTICED ({} packets sent)", outcome.tries))
            } else {
                (true, format!("{noticed}{shadow}; not dropped ({} packets sent)", outcome.tries))
            }
        }
    };
    Verdict { what: format!("{} ({})", attack.name, attack.source), result, good }
}

/// Zero tolerance: nothing failed, and nobody honest was ever dropped.
pub fn judge_clients(tally: &Tally, clients: &[IpAddr], book: &Book) -> Verdict {
    let dropped: Vec<String> =
        clients.iter().filter(|&&c| book.was_decided(c, "drop")).map(ToString::to_string).collect();
    let kinds: Vec<String> =
        tally.kinds().map(|k| format!("{k} {} (slowest {} ms)", tally.of(k).ok, tally.slowest_ms(k))).collect();
    let mut result = format!("{} requests served, {} failed: {}", tally.ok(), tally.failed(), kinds.join(", "));
    if !dropped.is_empty() {
        result += &format!("; {} were DROPPED: {}", dropped.len(), dropped[..dropped.len().min(4)].join(", "));
    }
    let good = tally.failed() == 0 && dropped.is_empty() && tally.ok() > 0;
    Verdict { what: format!("{} honest clients", clients.len()), result, good }
}

/// Requests of the honest clients, phase by phase.
pub fn phases(phases: &[(String, BTreeMap<String, Count>)]) -> String {
    let mut kinds: Vec<&str> = phases.iter().flat_map(|(_, p)| p.keys().map(String::as_str)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut text = format!("{:<32}", "served (failed)");
    for kind in &kinds {
        text += &format!("{kind:>14}");
    }
    for (name, counts) in phases {
        text += &format!("\n{name:<32}");
        for kind in &kinds {
            let count = counts.get(*kind).copied().unwrap_or_default();
            text += &format!("{:>14}", format!("{} ({})", count.ok, count.failed));
        }
    }
    text
}

pub fn summary(verdicts: &[Verdict]) -> String {
    let width = verdicts.iter().map(|v| v.what.len()).max().unwrap_or_default();
    let line = |v: &Verdict| format!("{}  {:<width$}  {}", if v.good { "ok  " } else { "FAIL" }, v.what, v.result);
    verdicts.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lab::attacks::ATTACKS;
    use crate::lab::events::parse;

    fn book(attack: &Attack, action: &str, packets: u64) -> Book {
        let mut book = Book::default();
        let target = attack.source.to_string();
        let decision = json!({"event_type": "decision",
            "decision": {"id": 1, "change": "added", "target": target, "action": action}});
        book.note(2_000_000, parse(&decision).unwrap());
        if packets > 0 {
            let hits = json!({"event_type": "hits",
                "hits": {"decision_id": 1, "target": target, "action": action, "packets": packets}});
            book.note(2_500_000, parse(&hits).unwrap());
        }
        book
    }

    fn attack(expected: Expected) -> &'static Attack {
        ATTACKS.iter().find(|a| a.expected == expected).unwrap()
    }

    fn outcome(blocked: bool) -> Outcome {
        let blocked_us = blocked.then_some(4_000_000);
        Outcome { started_us: 1_000_000, tries: 300, answered: 280, blocked_us, broken: 0 }
    }

    #[test]
    fn a_real_attack_must_be_dropped_by_weir_and_feel_it() {
        let attack = attack(Expected::Dropped);
        let good = judge_attack(attack, &outcome(true), &book(attack, "drop", 5), true);
        assert!(good.good && good.result.contains("dropped after 3.0 s"), "{}", good.result);
        assert!(!judge_attack(attack, &outcome(true), &book(attack, "drop", 0), true).good, "no packet was dropped");
        assert!(!judge_attack(attack, &outcome(true), &book(attack, "shadow", 5), true).good, "only a shadow");
        assert!(!judge_attack(attack, &outcome(false), &book(attack, "drop", 5), true).good, "answers went on");
        assert!(!judge_attack(attack, &outcome(false), &Book::default(), true).good);
    }

    #[test]
    fn forged_traffic_must_be_noticed_and_never_dropped() {
        let attack = attack(Expected::OnlyNoticed);
        assert!(judge_attack(attack, &outcome(false), &book(attack, "shadow", 9), true).good);
        assert!(!judge_attack(attack, &outcome(false), &book(attack, "drop", 9), true).good);
        assert!(!judge_attack(attack, &outcome(false), &Book::default(), true).good, "unnoticed");
    }

    #[test]
    fn without_weir_an_attack_must_get_through() {
        let attack = attack(Expected::Dropped);
        assert!(judge_attack(attack, &outcome(false), &Book::default(), false).good);
        assert!(!judge_attack(attack, &outcome(true), &Book::default(), false).good);
    }

    #[test]
    fn one_failed_request_or_one_drop_hurts_the_clients() {
        let mut tally = Tally::default();
        tally.take(&json!({"tally": {"web": {"ok": 10, "failed": 0, "slowest_ms": 7}}}));
        let attack = attack(Expected::Dropped);
        let book = book(attack, "drop", 5);
        assert!(judge_clients(&tally, &["198.51.100.10".parse().unwrap()], &book).good);
        assert!(!judge_clients(&tally, &[attack.source], &book).good);
        tally.take(&json!({"failure": {"kind": "web", "client": "::1", "error": "reset", "after_ms": 3}}));
        assert!(!judge_clients(&tally, &["198.51.100.10".parse().unwrap()], &book).good);
        assert!(!judge_clients(&Tally::default(), &[], &Book::default()).good, "no traffic proves nothing");
    }
}
