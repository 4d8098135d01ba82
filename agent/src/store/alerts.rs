//! The last alerts, kept over restarts: `alerts.jsonl`, a line each, the latest last.
//!
//! An alert is appended as it is raised. When the file has twice as many lines as are kept it is written anew, and so it is
//! when the agent ends.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use weir_core::addr::{Addr, Prefix};
use weir_core::record::TimeUs;

use super::file;
use crate::command::{AlertReport, EvidencePoint};

/// Alerts that are kept.
pub const MAX_ALERTS: usize = 1000;
/// Points of an alert's course, and the time between two.
const MAX_POINTS: usize = 120;
const POINT_US: u64 = 5_000_000;
/// Longest line read, bytes.
const MAX_LINE: u64 = 256 << 10;

/// The alerts of one state directory.
#[derive(Debug)]
pub struct Alerts {
    path: PathBuf,
    kept: VecDeque<AlertReport>,
    /// The last alert about each source.
    last: HashMap<Addr, u64>,
    /// In the file.
    lines: usize,
    /// The file ends in the middle of a line.
    torn: bool,
}

impl Alerts {
    /// What the file holds. Lines that are none are left out: an alert is no reason not to start.
    pub fn open(state_dir: &Path) -> (Self, Option<String>) {
        let path = state_dir.join("alerts.jsonl");
        let mut alerts =
            Self { kept: VecDeque::new(), last: HashMap::new(), lines: 0, torn: false, path: path.clone() };
        let warning = match alerts.read() {
            Ok(0) => None,
            Ok(n) => Some(format!("{n} lines of {} are no alerts and are left out", path.display())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => Some(format!("alerts of before are missing: {} cannot be read: {e}", path.display())),
        };
        (alerts, warning)
    }

    fn read(&mut self) -> io::Result<u64> {
        let mut lines = BufReader::new(File::open(&self.path)?);
        let (mut line, mut wrong) = (Vec::new(), 0);
        loop {
            line.clear();
            if io::Read::take(&mut lines, MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(wrong);
            }
            self.lines += 1;
            self.torn = line.last() != Some(&b'\n');
            match serde_json::from_slice(&line) {
                Ok(alert) => self.keep(alert),
                Err(_) => wrong += 1,
            }
        }
    }

    fn keep(&mut self, alert: AlertReport) {
        self.last.insert(alert.source, alert.id);
        self.kept.push_back(alert);
        if self.kept.len() > MAX_ALERTS
            && let Some(old) = self.kept.pop_front()
            && self.last.get(&old.source) == Some(&old.id)
        {
            self.last.remove(&old.source);
        }
    }

    /// Keeps an alert, and appends it to the file.
    pub fn push(&mut self, alert: AlertReport) -> io::Result<()> {
        let mut line = if self.torn { vec![b'\n'] } else { Vec::new() };
        serde_json::to_writer(&mut line, &alert)?;
        line.push(b'\n');
        self.keep(alert);
        self.lines += 1;
        if self.lines > 2 * MAX_ALERTS {
            return self.save();
        }
        self.torn = true;
        let mut out = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        out.write_all(&line)?;
        self.torn = false;
        Ok(())
    }

    /// Evidence over all and over proven flows went on for a source that was alerted about.
    pub fn note(&mut self, source: Addr, time_us: TimeUs, [all, proven]: [f64; 2]) {
        let Some(id) = self.last.get(&source) else { return };
        let Some(alert) = self.kept.binary_search_by_key(id, |a| a.id).ok().and_then(|i| self.kept.get_mut(i)) else {
            return;
        };
        let due = alert.history.last().is_none_or(|p| time_us.saturating_sub(p.time_us) >= POINT_US);
        if due && alert.history.len() < MAX_POINTS {
            alert.history.push(EvidencePoint { time_us, all, proven });
        }
    }

    pub fn get(&self, id: u64) -> Option<&AlertReport> {
        self.kept.iter().find(|a| a.id == id)
    }

    /// The latest first.
    pub fn list(&self, within: Option<Prefix>, since_us: TimeUs, limit: usize) -> Vec<AlertReport> {
        let wanted = |a: &&AlertReport| a.time_us >= since_us && within.is_none_or(|p| p.contains(a.source));
        self.kept.iter().rev().filter(wanted).take(limit).cloned().collect()
    }

    /// The first and the last number that are kept.
    pub fn numbers(&self) -> Option<(u64, u64)> {
        Some((self.kept.front()?.id, self.kept.back()?.id))
    }

    /// Writes the file anew.
    pub fn save(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        for alert in &self.kept {
            serde_json::to_writer(&mut text, alert)?;
            text.push(b'\n');
        }
        file::replace(&self.path, &text)?;
        (self.lines, self.torn) = (self.kept.len(), false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(id: u64, source: &str) -> AlertReport {
        AlertReport { id, time_us: id * 1_000_000, source: source.parse().unwrap(), ..AlertReport::default() }
    }

    fn ids(a: &Alerts) -> Vec<u64> {
        a.list(None, 0, usize::MAX).iter().map(|a| a.id).collect()
    }

    #[test]
    fn the_last_alerts_outlive_a_kill_and_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let (mut a, warning) = Alerts::open(dir.path());
        assert_eq!(warning, None, "there was nothing before");
        a.push(alert(1, "192.0.2.1")).unwrap();
        a.push(alert(2, "192.0.2.2")).unwrap();
        drop(a);
        let path = dir.path().join("alerts.jsonl");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"id\":3,\"tim"].concat()).unwrap();
        let (mut a, warning) = Alerts::open(dir.path());
        assert!(warning.unwrap().starts_with("1 lines of"));
        a.push(alert(4, "192.0.2.2")).unwrap();
        let (a, _) = Alerts::open(dir.path());
        assert_eq!(ids(&a), [4, 2, 1], "the latest first");
        let of = a.list(Some("192.0.2.2".parse().unwrap()), 3_000_000, 9);
        assert_eq!(of.iter().map(|a| a.id).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn only_so_many_are_kept_in_memory_and_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (mut a, _) = Alerts::open(dir.path());
        let n = 3 * MAX_ALERTS as u64;
        for id in 1..=n {
            a.push(alert(id, "192.0.2.1")).unwrap();
        }
        assert_eq!(a.numbers(), Some((n - MAX_ALERTS as u64 + 1, n)));
        let lines = std::fs::read_to_string(dir.path().join("alerts.jsonl")).unwrap().lines().count();
        assert!(lines <= 2 * MAX_ALERTS, "{lines}");
        let (a, _) = Alerts::open(dir.path());
        assert_eq!((a.kept.len(), a.numbers().unwrap().1), (MAX_ALERTS, n));
    }

    #[test]
    fn the_course_of_evidence_is_kept_with_the_last_alert_of_the_source() {
        let dir = tempfile::tempdir().unwrap();
        let (mut a, _) = Alerts::open(dir.path());
        a.push(alert(1, "192.0.2.1")).unwrap();
        a.push(alert(2, "192.0.2.2")).unwrap();
        let source = "192.0.2.1".parse().unwrap();
        for t in 0..10_000 {
            a.note(source, 2_000_000 + t * 1_000_000, [12.0, 3.0]);
        }
        a.save().unwrap();
        let (a, _) = Alerts::open(dir.path());
        let history = &a.get(1).unwrap().history;
        assert_eq!((history.len(), history[1].time_us - history[0].time_us), (MAX_POINTS, POINT_US));
        assert!(a.get(2).unwrap().history.is_empty() && a.get(3).is_none());
    }
}
