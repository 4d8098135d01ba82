//! What Weir said during the lab, kept by source, and how it reads.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::events::{Alert, Decision, Event, covers};

#[derive(Clone, Debug)]
pub struct Hits {
    pub target: String,
    pub action: String,
    pub packets: u64,
}

#[derive(Default)]
pub struct Book {
    alerts: Vec<Alert>,
    /// With when each was seen.
    decisions: Vec<(u64, Decision)>,
    /// The latest figures of each decision.
    hits: BTreeMap<u64, Hits>,
}

impl Book {
    /// Keeps an event; what a person should see of it is returned.
    pub fn note(&mut self, at_us: u64, event: Event) -> Option<String> {
        match event {
            Event::Alert(alert) => {
                let source = alert.source.map_or("?".to_owned(), |s| s.to_string());
                let mut line = format!("ALERT   {source}  score {:.4}  {}", alert.score, alert.severity);
                for reason in alert.reasons.iter().take(4) {
                    line += &format!("\n                  {reason}");
                }
                if !alert.outcome.is_empty() {
                    line += &format!("\n                  -> {}", alert.outcome);
                }
                self.alerts.push(alert);
                Some(line)
            }
            Event::Decision(decision) => {
                let Decision { change, target, action, reason, note, .. } = &decision;
                let label = match action.as_str() {
                    "drop" => "BLOCK ",
                    "limit" => "LIMIT ",
                    _ => "SHADOW",
                };
                let because = if note.is_empty() { reason } else { note };
                let line = (change != "extended").then(|| format!("{label}  {target}  {change}: {because}"));
                self.decisions.push((at_us, decision));
                line
            }
            Event::Hits { decision_id, target, action, packets } => {
                let first = !self.hits.contains_key(&decision_id);
                let verb = if action == "drop" { "dropped" } else { "would have been dropped" };
                let line = first.then(|| format!("HITS    {target}  its first {packets} packets {verb}"));
                self.hits.insert(decision_id, Hits { target, action, packets });
                line
            }
            Event::News { level, message } => {
                (level != "info" || !message.is_empty()).then(|| format!("weir    {level}: {message}"))
            }
        }
    }

    pub fn alerts_about(&self, source: IpAddr) -> impl Iterator<Item = &Alert> {
        self.alerts.iter().filter(move |a| a.source == Some(source))
    }

    /// The highest score of the alerts about it.
    pub fn score_of(&self, source: IpAddr) -> Option<f64> {
        self.alerts_about(source).map(|a| a.score).reduce(f64::max)
    }

    /// Decisions of that action that took effect on the address, with when they were seen.
    fn decisions_on<'a>(&'a self, source: IpAddr, action: &'a str) -> impl Iterator<Item = &'a (u64, Decision)> {
        self.decisions.iter().filter(move |(_, d)| {
            ["added", "enforced", "extended"].contains(&d.change.as_str())
                && d.action == action
                && covers(&d.target, source)
        })
    }

    pub fn was_decided(&self, source: IpAddr, action: &str) -> bool {
        self.decisions_on(source, action).next().is_some()
    }

    /// When the first drop of the address was seen.
    pub fn dropped_at(&self, source: IpAddr) -> Option<u64> {
        self.decisions_on(source, "drop").map(|(at, _)| *at).min()
    }

    pub fn packets(&self, source: IpAddr, action: &str) -> u64 {
        self.hits.values().filter(|h| h.action == action && covers(&h.target, source)).map(|h| h.packets).sum()
    }

    /// Whether an alert or a shadow entry is about the address.
    pub fn was_noticed(&self, source: IpAddr) -> bool {
        self.alerts_about(source).next().is_some() || self.was_decided(source, "shadow")
    }

    pub fn alerts_among(&self, sources: &[IpAddr]) -> usize {
        self.alerts.iter().filter(|a| a.source.is_some_and(|s| sources.contains(&s))).count()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lab::events::parse;

    fn noted(values: &[serde_json::Value]) -> Book {
        let mut book = Book::default();
        for (at, value) in values.iter().enumerate() {
            book.note(at as u64, parse(value).unwrap());
        }
        book
    }

    #[test]
    fn only_decisions_that_took_effect_count() {
        let decision = |change: &str, action: &str| {
            json!({"event_type": "decision", "decision": {
                "id": 1, "change": change, "target": "198.51.100.201/32", "action": action, "reason": "r", "note": ""}})
        };
        let source: IpAddr = "198.51.100.201".parse().unwrap();
        let book = noted(&[decision("refused", "drop"), decision("added", "shadow")]);
        assert_eq!(book.dropped_at(source), None);
        assert!(book.was_noticed(source) && !book.was_noticed("198.51.100.202".parse().unwrap()));
        let book = noted(&[decision("added", "drop"), decision("enforced", "drop")]);
        assert_eq!(book.dropped_at(source), Some(0));
    }

    #[test]
    fn hits_are_totals_not_increments() {
        let hits = |packets: u64| {
            json!({"event_type": "hits", "hits": {
                "decision_id": 4, "target": "198.51.100.201", "action": "drop", "packets": packets}})
        };
        let book = noted(&[hits(3), hits(9)]);
        assert_eq!(book.packets("198.51.100.201".parse().unwrap(), "drop"), 9);
        assert_eq!(book.packets("198.51.100.201".parse().unwrap(), "shadow"), 0);
    }
}
