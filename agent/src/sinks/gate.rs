//! What reaches a sink: its kinds and severities, each source and reason once in a while, and no more than its rate.
//!
//! Pure: time comes as an argument.

use std::collections::{HashMap, VecDeque};

use weir_core::event::Severity;

use super::notice::Notice;

/// Sources and reasons that are remembered at once; the one that came first makes room.
const MAX_KNOWN: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Bits of the kinds that pass.
    pub kinds: u32,
    pub min_severity: Severity,
    /// µs; 0: nothing is held back as a repetition.
    pub window_us: u64,
    /// So many in so many µs; `None`: any number.
    pub rate: Option<(u64, u64)>,
}

/// What is to be queued.
#[derive(Debug, PartialEq)]
pub enum Passed {
    Notice(Notice),
    /// So many were held back by the rate since the last time.
    HeldBack(u64),
}

#[derive(Debug)]
struct Known {
    repeated: u64,
    /// The last of the repetitions.
    last: Option<Notice>,
}

#[derive(Debug)]
pub struct Gate {
    rules: Rules,
    known: HashMap<String, Known>,
    /// When the window of each ends, in order.
    ends: VecDeque<(u64, String)>,
    /// Tokens, times the µs that one of them takes; and when they were counted.
    tokens: u128,
    counted_us: u64,
    unsaid: u64,
    said_us: u64,
    /// In all.
    pub repetitions: u64,
    pub held_back: u64,
}

impl Gate {
    pub fn new(rules: Rules, now: u64) -> Self {
        let tokens = full(&rules);
        Self {
            rules,
            known: HashMap::new(),
            ends: VecDeque::new(),
            tokens,
            counted_us: now,
            unsaid: 0,
            said_us: now,
            repetitions: 0,
            held_back: 0,
        }
    }

    pub fn set_rules(&mut self, rules: Rules, now: u64) {
        if rules.rate != self.rules.rate {
            (self.tokens, self.counted_us) = (full(&rules), now);
        }
        self.rules = rules;
    }

    pub fn wants(&self, notice: &Notice) -> bool {
        self.rules.kinds & notice.head.kind.bit() != 0 && notice.head.severity >= self.rules.min_severity
    }

    /// Takes what happened; what is to be queued now goes to `out`.
    pub fn offer(&mut self, notice: &Notice, now: u64, out: &mut Vec<Passed>) {
        if !self.wants(notice) {
            return;
        }
        if self.rules.window_us > 0 {
            let key = notice.key();
            if let Some(known) = self.known.get_mut(&key) {
                self.repetitions += 1;
                known.repeated += 1;
                known.last = Some(notice.clone());
                return;
            }
            if self.known.len() >= MAX_KNOWN {
                self.end_first(now, out);
            }
            self.ends.push_back((now.saturating_add(self.rules.window_us), key.clone()));
            self.known.insert(key, Known { repeated: 0, last: None });
        }
        self.let_through(notice.clone(), now, out);
    }

    /// Windows that have ended say how often it happened; so does the rate, once it lets something through again.
    pub fn tick(&mut self, now: u64, out: &mut Vec<Passed>) {
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            self.end_first(now, out);
        }
        self.summarise(now, out);
    }

    /// What was held back is said once in the rate's time, before anything else takes what the rate lets through.
    fn summarise(&mut self, now: u64, out: &mut Vec<Passed>) {
        let period = self.rules.rate.map_or(0, |(_, us)| us);
        if self.unsaid > 0 && now >= self.said_us.saturating_add(period) && self.take(now) {
            self.said_us = now;
            out.push(Passed::HeldBack(std::mem::take(&mut self.unsaid)));
        }
    }

    /// Everything that waits for its window to end, since nobody will be there then.
    pub fn close(&mut self, out: &mut Vec<Passed>) {
        while let Some((_, key)) = self.ends.pop_front() {
            if let Some(Known { repeated, last: Some(last) }) = self.known.remove(&key) {
                out.push(Passed::Notice(last.repeated(repeated)));
            }
        }
        if self.unsaid > 0 {
            out.push(Passed::HeldBack(std::mem::take(&mut self.unsaid)));
        }
    }

    fn end_first(&mut self, now: u64, out: &mut Vec<Passed>) {
        let Some((_, key)) = self.ends.pop_front() else { return };
        if let Some(Known { repeated, last: Some(last) }) = self.known.remove(&key) {
            self.let_through(last.repeated(repeated), now, out);
        }
    }

    fn let_through(&mut self, notice: Notice, now: u64, out: &mut Vec<Passed>) {
        self.summarise(now, out);
        if self.rules.rate.is_some() && !self.take(now) {
            if self.unsaid == 0 {
                self.said_us = now;
            }
            let stands_for = 1 + notice.head.repeated;
            self.unsaid += stands_for;
            self.held_back += stands_for;
            return;
        }
        out.push(Passed::Notice(notice));
    }

    /// Takes a token, if there is one: no more than the rate's number are ever there.
    fn take(&mut self, now: u64) -> bool {
        let Some((n, us)) = self.rules.rate else { return true };
        let gained = u128::from(now.saturating_sub(self.counted_us)) * u128::from(n);
        self.counted_us = self.counted_us.max(now);
        self.tokens = (self.tokens + gained).min(full(&self.rules));
        let one = u128::from(us);
        if self.tokens < one {
            return false;
        }
        self.tokens -= one;
        true
    }
}

fn full(rules: &Rules) -> u128 {
    rules.rate.map_or(0, |(n, us)| u128::from(n) * u128::from(us))
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
