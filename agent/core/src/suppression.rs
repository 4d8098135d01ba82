//! What a person said is normal here, for a time: it is not held against anyone, but counted.
//!
//! A suppression takes observations out of the evidence, not alerts out of the list: what else the same source does counts
//! as before, and nothing has piled up in silence when the suppression ends. Its influence is bounded:
//!
//! - at most [`MAX_LIVE`] hold at a time, each for at most [`MAX_TTL_US`] and for at most a /16 or /48;
//! - it covers an observation only where all of it is meant: every port, the calibration role, and, where the suppression
//!   names features, the feature that the observation is strange by the most. A window that also reached another port, or a
//!   flow that is strange in another way, is evidence;
//! - thresholds, scores and everybody else stay as they were.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::addr::{Addr, Prefix};
use crate::decisions::remaining_us;
use crate::event::Anomaly;
use crate::record::TimeUs;
use crate::role::Role;
use crate::window::SourceWindow;

/// Suppressions that hold at a time.
pub const MAX_LIVE: usize = 256;
/// Ended ones that are remembered, since what they covered must not be learned from; the oldest goes first.
pub const MAX_ENDED: usize = 1000;
/// The longest, µs: 90 days.
pub const MAX_TTL_US: u64 = 90 * 86_400_000_000;
/// Where nobody says, µs: 30 days.
pub const DEFAULT_TTL_US: u64 = 30 * 86_400_000_000;
/// The widest.
pub const MIN_LEN_V4: u8 = 16;
pub const MIN_LEN_V6: u8 = 48;
/// Ports and features of one suppression.
pub const MAX_PORTS: usize = 16;
pub const MAX_FEATURES: usize = 32;

/// A source whose alerts are counted is not counted again within this, µs: as an alert would not be raised again.
const RECOUNT_US: u64 = 3_600_000_000;
/// Sources that are remembered for that.
const MAX_COUNTED: usize = 4096;

/// What is meant by a suppression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    pub prefix: Prefix,
    /// Server ports; empty: any.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// The calibration role or one above it; `None`: any.
    #[serde(default)]
    pub role: Option<Role>,
    /// Names of features that may be the strangest; empty: any.
    #[serde(default)]
    pub features: Vec<String>,
}

/// A suppression to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSuppression {
    pub scope: Scope,
    /// µs from now.
    pub ttl_us: u64,
    pub comment: String,
    /// Who, in words.
    pub by: String,
    /// The label or the question that it came of, in words; empty: made by itself.
    pub came_of: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suppression {
    /// Unique and never used again, also over restarts.
    pub id: u64,
    pub scope: Scope,
    pub created_us: TimeUs,
    pub expires_us: TimeUs,
    pub comment: String,
    pub by: String,
    pub came_of: String,
    /// Observations that were not held against anyone because of it.
    pub observations: u64,
    /// Alerts that would have been raised.
    pub alerts: u64,
    pub last_us: Option<TimeUs>,
    /// It was taken back before its time, or ended by itself.
    pub ended_us: Option<TimeUs>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuppressionError {
    #[error("{prefix} is too wide: at most a /{min} may be suppressed; say which part of it is normal")]
    TooWide { prefix: Prefix, min: u8 },
    #[error("a suppression holds for 1s to 90d")]
    Time,
    #[error("a suppression has at most {MAX_PORTS} ports and {MAX_FEATURES} features")]
    TooMany,
    #[error(
        "there are {MAX_LIVE} suppressions, the most that are kept; `weir suppressions remove` makes room, and `weir learn` teaches what is normal for good"
    )]
    Full,
    #[error("no suppression has the number {0}; `weir suppressions list` shows those that hold")]
    Unknown(u64),
}

/// What is stored of [`Suppressions`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SuppressionsSnapshot {
    /// Wall clock, µs.
    pub taken_us: TimeUs,
    pub next_id: u64,
    pub live: Vec<Suppression>,
    pub ended: VecDeque<Suppression>,
}

/// Something about a source that is about to become evidence.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub source: Addr,
    /// Every server port of it; `None`: not all are known.
    pub ports: Option<&'a [u16]>,
    pub anomaly: &'a Anomaly,
    /// At most this p-value is explained.
    pub explained_p: f32,
}

impl<'a> Seen<'a> {
    pub fn window(w: &'a SourceWindow, anomaly: &'a Anomaly, explained_p: f32) -> Self {
        let all = w.summary.ports <= w.ports.len() as u64;
        Self { source: w.source, ports: all.then_some(&w.ports), anomaly, explained_p }
    }
}

impl Scope {
    fn covers(&self, seen: &Seen<'_>) -> bool {
        if !self.prefix.contains(seen.source) {
            return false;
        }
        let meant = |p: &u16| self.ports.contains(p);
        let ports = self.ports.is_empty() || seen.ports.is_some_and(|of| !of.is_empty() && of.iter().all(meant));
        let role = self.role.is_none_or(|r| seen.anomaly.role.ancestry().any(|a| a == r));
        ports && role && self.features_cover(seen)
    }

    /// What is only a little strange is not explained, and goes with the rest; what is very strange and was not explained may
    /// be strange in any way.
    fn features_cover(&self, seen: &Seen<'_>) -> bool {
        if self.features.is_empty() {
            return true;
        }
        let a = seen.anomaly;
        match a.reasons.iter().filter(|r| r.unless.is_empty()).max_by(|x, y| x.share.total_cmp(&y.share)) {
            Some(strangest) => self.features.iter().any(|f| f == strangest.feature),
            None => a.p_value > seen.explained_p,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Suppressions {
    next_id: u64,
    live: Vec<Suppression>,
    ended: VecDeque<Suppression>,
    counted: HashMap<Addr, TimeUs>,
    changes: u64,
}

impl Default for Suppressions {
    fn default() -> Self {
        Self { next_id: 1, live: Vec::new(), ended: VecDeque::new(), counted: HashMap::new(), changes: 0 }
    }
}

impl Suppressions {
    /// Suppressions that hold over whatever time is looked at: of what is over, none has ended.
    pub fn throughout(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, SuppressionError> {
        let mut all = Self::default();
        for scope in scopes {
            let nobody = String::new;
            let new = NewSuppression { scope, ttl_us: MAX_TTL_US, comment: nobody(), by: nobody(), came_of: nobody() };
            all.add(new, 0)?;
        }
        all.live.iter_mut().for_each(|s| s.expires_us = TimeUs::MAX);
        Ok(all)
    }

    /// Those that hold, by number.
    pub fn live(&self) -> &[Suppression] {
        &self.live
    }
    /// Those that ended, the latest last.
    pub fn ended(&self) -> impl DoubleEndedIterator<Item = &Suppression> {
        self.ended.iter()
    }
    pub fn get(&self, id: u64) -> Option<&Suppression> {
        self.live.iter().find(|s| s.id == id)
    }
    /// Rises with every change that is worth storing at once; counts alone are none.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub fn add(&mut self, new: NewSuppression, now: TimeUs) -> Result<&Suppression, SuppressionError> {
        let NewSuppression { mut scope, ttl_us, comment, by, came_of } = new;
        let min = if scope.prefix.is_v4() { MIN_LEN_V4 } else { MIN_LEN_V6 };
        if scope.prefix.len() < min {
            return Err(SuppressionError::TooWide { prefix: scope.prefix, min });
        }
        if !(1_000_000..=MAX_TTL_US).contains(&ttl_us) {
            return Err(SuppressionError::Time);
        }
        scope.ports.sort_unstable();
        scope.ports.dedup();
        scope.features.sort_unstable();
        scope.features.dedup();
        if scope.ports.len() > MAX_PORTS || scope.features.len() > MAX_FEATURES {
            return Err(SuppressionError::TooMany);
        }
        if self.live.len() >= MAX_LIVE {
            return Err(SuppressionError::Full);
        }
        let made = Suppression {
            id: self.next_id,
            scope,
            created_us: now,
            expires_us: now.saturating_add(ttl_us),
            comment,
            by,
            came_of,
            observations: 0,
            alerts: 0,
            last_us: None,
            ended_us: None,
        };
        self.next_id += 1;
        self.changes += 1;
        let at = self.live.len();
        self.live.push(made);
        Ok(&self.live[at])
    }

    pub fn remove(&mut self, id: u64, now: TimeUs) -> Result<Suppression, SuppressionError> {
        let at = self.live.iter().position(|s| s.id == id).ok_or(SuppressionError::Unknown(id))?;
        Ok(self.end(at, now))
    }

    /// Becomes what `wanted` is, but for whose alerts were counted here; gives what one of the two alone covered.
    pub fn follow(&mut self, wanted: &Self) -> Vec<Prefix> {
        let differ = |a: &Self, b: &Self| {
            let not_in = |s: &&Suppression| !b.live.iter().any(|o| (o.id, &o.scope) == (s.id, &s.scope));
            a.live.iter().filter(not_in).map(|s| s.scope.prefix).collect::<Vec<_>>()
        };
        let mut changed = differ(self, wanted);
        changed.extend(differ(wanted, self));
        let mut counted = std::mem::take(&mut self.counted);
        counted.retain(|source, _| !changed.iter().any(|p| p.contains(*source)));
        *self = Self { counted, ..wanted.clone() };
        changed
    }

    /// Takes out what has expired by `now`.
    pub fn expire(&mut self, now: TimeUs) -> Vec<Suppression> {
        let mut gone = Vec::new();
        while let Some(at) = self.live.iter().position(|s| s.expires_us <= now) {
            gone.push(self.end(at, now));
        }
        gone
    }

    /// The wall clock was set by `step_us`, µs: what is left of each one's time stays what it was.
    pub fn clock_stepped(&mut self, step_us: i64) {
        for s in &mut self.live {
            s.expires_us = s.expires_us.saturating_add_signed(step_us);
        }
        self.counted.values_mut().for_each(|at| *at = at.saturating_add_signed(step_us));
        self.changes += u64::from(!self.live.is_empty());
    }

    fn end(&mut self, at: usize, now: TimeUs) -> Suppression {
        let mut s = self.live.remove(at);
        s.ended_us = Some(now.min(s.expires_us));
        self.ended.push_back(s.clone());
        if self.ended.len() > MAX_ENDED {
            self.ended.pop_front();
        }
        self.counted.retain(|a, _| !s.scope.prefix.contains(*a));
        self.changes += 1;
        s
    }

    /// Whether this is not to be held against its source; then it is counted.
    pub fn covers(&mut self, seen: &Seen<'_>, now: TimeUs) -> bool {
        let Some(s) = narrowest(&mut self.live, now, |s| s.covers(seen)) else { return false };
        s.observations += 1;
        s.last_us = Some(now);
        true
    }

    /// An alert about this source would have been raised; the suppression that it is counted for, unless it was counted of late.
    pub fn alert(&mut self, source: Addr, now: TimeUs) -> Option<&Suppression> {
        if self.counted.get(&source).is_some_and(|at| at.saturating_add(RECOUNT_US) > now) {
            return None;
        }
        let s = narrowest(&mut self.live, now, |s| s.prefix.contains(source))?;
        s.alerts += 1;
        if self.counted.len() >= MAX_COUNTED {
            self.counted.clear();
        }
        self.counted.insert(source, now);
        Some(s)
    }

    pub fn snapshot(&self, now: TimeUs) -> SuppressionsSnapshot {
        SuppressionsSnapshot {
            taken_us: now,
            next_id: self.next_id,
            live: self.live.clone(),
            ended: self.ended.clone(),
        }
    }

    /// As stored, with what is left of each one's time: see [`remaining_us`].
    pub fn restore(snapshot: SuppressionsSnapshot, now: TimeUs, elapsed_us: Option<u64>) -> Self {
        let taken_us = snapshot.taken_us;
        let live = snapshot.live.into_iter().map(|mut s| {
            let stored = s.expires_us.saturating_sub(taken_us);
            let left = remaining_us(Some(stored), Some(s.expires_us), now, elapsed_us).unwrap_or(0);
            s.expires_us = now.saturating_add(left);
            s
        });
        Self { next_id: snapshot.next_id.max(1), live: live.collect(), ended: snapshot.ended, ..Self::default() }
    }
}

fn narrowest(live: &mut [Suppression], now: TimeUs, covers: impl Fn(&Scope) -> bool) -> Option<&mut Suppression> {
    live.iter_mut().filter(|s| s.expires_us > now && covers(&s.scope)).max_by_key(|s| s.scope.prefix.len())
}

#[cfg(test)]
mod tests;
