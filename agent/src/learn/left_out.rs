//! What was not learned from, and how much.

use crate::human::{grouped, micros, rough};

/// Rows are those of flows and of source windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Sources that something was held against.
    pub sources: usize,
    pub rows: u64,
    /// Time in which the agent lost flows, or could not count or record them all, µs.
    pub degraded_us: u64,
    pub degraded_rows: u64,
    /// Rows that people labelled as those of an attack.
    pub attacks: u64,
    /// Rows that a suppression covered: nobody looked at them.
    pub suppressed: u64,
    /// Rows of false alarms beyond those that may teach.
    pub false_alarms: u64,
    /// Rows told by exporters that are not listened to any more.
    pub exported: u64,
    /// Windows of another version, with other features.
    pub other_columns: u64,
    /// Files of the record that could not be read.
    pub unreadable: u64,
}

impl LeftOut {
    /// For a person; nothing where nothing was.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let rows = |n: u64| format!("{} row{}", grouped(n), if n == 1 { "" } else { "s" });
        if self.sources > 0 {
            let (s, it) = if self.sources == 1 { ("", "it") } else { ("s", "them") };
            let n = grouped(self.sources as u64);
            words.push(format!("{} of {n} source{s} with evidence against {it}", rows(self.rows)));
        }
        if self.degraded_us > 0 || self.degraded_rows > 0 {
            let time = rough(micros(self.degraded_us));
            words.push(format!("{} of {time} in which not everything was counted", rows(self.degraded_rows)));
        }
        for (n, what) in [
            (self.attacks, "labelled as attacks"),
            (self.suppressed, "covered by a suppression"),
            (self.false_alarms, "of false alarms beyond the share that may teach"),
        ] {
            if n > 0 {
                words.push(format!("{} {what}", rows(n)));
            }
        }
        if self.exported > 0 {
            words.push(format!("{} told by exporters that are not listened to any more", rows(self.exported)));
        }
        if self.other_columns > 0 {
            words.push(format!("{} of another version of Weir", rows(self.other_columns)));
        }
        if self.unreadable > 0 {
            let s = if self.unreadable == 1 { "" } else { "s" };
            words.push(format!("{} file{s} that cannot be read", grouped(self.unreadable)));
        }
        words
    }
}
