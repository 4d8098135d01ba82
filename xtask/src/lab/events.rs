//! Weir's events, as its event log tells them: what it noticed, decided and stopped, source by source.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::roles::wire::now_us;

/// One event, as far as the lab looks at it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Alert(Alert),
    Decision(Decision),
    Hits { decision_id: u64, target: String, action: String, packets: u64 },
    News { level: String, message: String },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub source: Option<IpAddr>,
    pub score: f64,
    pub severity: String,
    pub reasons: Vec<String>,
    pub outcome: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub id: u64,
    /// added, enforced, extended, expired, deleted, refused
    pub change: String,
    pub target: String,
    pub action: String,
    pub reason: String,
    pub note: String,
}

/// Reads an event; `None` for kinds that the lab does not look at.
pub fn parse(value: &Value) -> Option<Event> {
    let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |path: &str| value.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    match value.get("event_type")?.as_str()? {
        "alert" => Some(Event::Alert(Alert {
            source: text("/src_ip").parse().ok(),
            score: value.pointer("/anomaly/score").and_then(Value::as_f64).unwrap_or_default(),
            severity: text("/alert/severity"),
            reasons: value.pointer("/anomaly/reasons").and_then(Value::as_array).map(|r| words(r)).unwrap_or_default(),
            outcome: text("/alert/outcome"),
        })),
        "decision" => Some(Event::Decision(Decision {
            id: number("/decision/id"),
            change: text("/decision/change"),
            target: text("/decision/target"),
            action: text("/decision/action"),
            reason: text("/decision/reason"),
            note: text("/decision/note"),
        })),
        "hits" => Some(Event::Hits {
            decision_id: number("/hits/decision_id"),
            target: text("/hits/target"),
            action: text("/hits/action"),
            packets: number("/hits/packets"),
        }),
        "agent" => Some(Event::News { level: text("/agent/level"), message: text("/agent/message") }),
        _ => None,
    }
}

/// A reason is a sentence, alone or beside its figures.
fn words(reasons: &[Value]) -> Vec<String> {
    reasons.iter().filter_map(|r| r.as_str().or_else(|| r.get("words")?.as_str())).map(str::to_owned).collect()
}

/// Whether a decision's target (address, prefix, or address/protocol/port) covers an address.
pub fn covers(target: &str, address: IpAddr) -> bool {
    let mut parts = target.split('/');
    let Some(Ok(network)) = parts.next().map(str::parse::<IpAddr>) else { return false };
    let full = if network.is_ipv4() { 32 } else { 128 };
    // address/tcp/22 concerns the whole address.
    let length = parts.next().and_then(|l| l.parse::<u32>().ok()).unwrap_or(full).min(full);
    match (network, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) => length == 0 || (n.to_bits() ^ a.to_bits()) >> (32 - length) == 0,
        (IpAddr::V6(n), IpAddr::V6(a)) => length == 0 || (n.to_bits() ^ a.to_bits()) >> (128 - length) == 0,
        _ => false,
    }
}

/// Follows the event log as it grows.
pub struct Follower {
    path: PathBuf,
    read: u64,
    /// The beginning of a line whose end is not written yet.
    part: Vec<u8>,
}

impl Follower {
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: 0, part: Vec::new() }
    }

    /// Events since the last call, each with when it was seen here.
    pub fn poll(&mut self) -> Result<Vec<(u64, Event)>> {
        let Ok(mut file) = File::open(&self.path) else { return Ok(Vec::new()) };
        let context = || format!("cannot read {}", self.path.display());
        file.seek(SeekFrom::Start(self.read)).with_context(context)?;
        self.read += file.read_to_end(&mut self.part).with_context(context)? as u64;
        let Some(end) = self.part.iter().rposition(|&b| b == b'\n') else { return Ok(Vec::new()) };
        let rest = self.part.split_off(end + 1);
        let lines = std::mem::replace(&mut self.part, rest);
        let now = now_us();
        let mut events = Vec::new();
        for line in lines.split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
            let value: Value = serde_json::from_slice(line)
                .with_context(|| format!("an event is no JSON: {}", String::from_utf8_lossy(line)))?;
            events.extend(parse(&value).map(|e| (now, e)));
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn targets_cover_what_they_name() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        assert!(covers("198.51.100.7", ip("198.51.100.7")));
        assert!(covers("198.51.100.7/32", ip("198.51.100.7")));
        assert!(!covers("198.51.100.7/32", ip("198.51.100.6")));
        assert!(covers("198.51.100.0/24", ip("198.51.100.6")));
        assert!(!covers("198.51.101.0/24", ip("198.51.100.6")));
        assert!(covers("0.0.0.0/0", ip("198.51.100.6")));
        assert!(covers("198.51.100.7/tcp/22", ip("198.51.100.7")));
        assert!(covers("2001:db8:77:a::/64", ip("2001:db8:77:a::201")));
        assert!(!covers("2001:db8:77:a::/64", ip("2001:db8:77:c::10")));
        assert!(!covers("::/0", ip("198.51.100.6")));
        assert!(!covers("nonsense", ip("198.51.100.6")));
    }

    #[test]
    fn a_line_written_in_two_parts_is_read_once_and_whole() {
        let path = std::env::temp_dir().join(format!("weir-events-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        let mut follower = Follower::new(path.clone());
        file.write_all(b"{\"event_type\":\"agent\",\"agent\":{\"level\":\"info\",\"mess").unwrap();
        assert!(follower.poll().unwrap().is_empty());
        file.write_all(b"age\":\"hello\"}}\n{\"event_type\":\"flow\"}\n").unwrap();
        let events = follower.poll().unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].1, Event::News { level: "info".into(), message: "hello".into() });
        assert!(follower.poll().unwrap().is_empty());
        std::fs::remove_file(&path).unwrap();
    }
}
