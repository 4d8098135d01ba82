//! How sinks go, as it is shown and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;
use weir_core::record::TimeUs;

use super::TestReply;
use super::queue::Queue;
use super::settings::SinkConfig;
use crate::clock::wall_us;
use crate::command::NamedCount;

/// Why an event was not delivered and will not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    QueueFull,
    /// The receiver refused it for what it is.
    Refused,
    TooLarge,
    /// The queue on disk could not be written or read.
    Disk,
    /// Torn or changed on disk.
    Damaged,
}

impl Dropped {
    pub const ALL: [(Dropped, &str); 5] = [
        (Dropped::QueueFull, "queue full"),
        (Dropped::Refused, "refused by the receiver"),
        (Dropped::TooLarge, "too large"),
        (Dropped::Disk, "disk"),
        (Dropped::Damaged, "damaged on disk"),
    ];
}

/// Of events that found no room in memory: the disk of the queues was too slow for them.
pub const MISSED: &str = "not taken in time";

/// A sink as it is now. Counts begin with the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkState {
    pub name: String,
    /// "eve", "syslog", "journald", "webhook", "kafka" or "cef".
    pub kind: String,
    /// Where it goes, without anything secret.
    pub destination: String,
    pub delivered: u64,
    /// Attempts that failed and were made again.
    pub retried: u64,
    /// Events that wait, and the bytes of the queue's files.
    pub queued: u64,
    pub queued_bytes: u64,
    pub queue_size: u64,
    /// Never to be delivered, by reason; only what has happened.
    pub dropped: Vec<NamedCount>,
    /// Repetitions that were counted into one event.
    pub deduplicated: u64,
    /// Not queued because of the rate; a summary says how many.
    pub held_back: u64,
    /// The last attempt failed.
    pub failing: bool,
    /// Of the last failure; empty: there was none.
    pub last_error: String,
    /// Wall clock; 0: never.
    pub last_error_us: TimeUs,
    pub last_success_us: TimeUs,
    /// When the next attempt is, where the last one failed; 0: at once.
    pub next_attempt_us: TimeUs,
}

#[derive(Debug, Default)]
struct Progress {
    config: Option<SinkConfig>,
    queue: Option<Arc<Queue>>,
    failing: bool,
    last_error: String,
    last_error_us: TimeUs,
    last_success_us: TimeUs,
    next_attempt_us: TimeUs,
    /// Said in the log since the last success.
    told_of_drops: bool,
}

/// What the threads of one sink have in common.
#[derive(Debug)]
pub struct Shared {
    pub name: String,
    delivered: AtomicU64,
    retried: AtomicU64,
    deduplicated: AtomicU64,
    held_back: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    progress: Mutex<Progress>,
    tests: Mutex<Vec<(u64, Instant, TestReply)>>,
    /// Something is in the queue.
    pub wake: Notify,
}

impl Shared {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            delivered: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            deduplicated: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
            dropped: Default::default(),
            progress: Mutex::default(),
            tests: Mutex::default(),
            wake: Notify::new(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn configured(&self, config: &SinkConfig, queue: Option<Arc<Queue>>) {
        let mut progress = self.progress();
        progress.config = Some(config.clone());
        progress.queue = queue;
    }

    pub fn delivered(&self, n: u64) {
        self.delivered.fetch_add(n, Ordering::Relaxed);
    }

    pub fn gate(&self, deduplicated: u64, held_back: u64) {
        self.deduplicated.store(deduplicated, Ordering::Relaxed);
        self.held_back.store(held_back, Ordering::Relaxed);
    }

    pub fn dropped(&self, why: Dropped, n: u64) {
        if n == 0 {
            return;
        }
        self.dropped[why as usize].fetch_add(n, Ordering::Relaxed);
        if !std::mem::replace(&mut self.progress().told_of_drops, true) {
            let (name, words) = (&self.name, Dropped::ALL[why as usize].1);
            log::warn!("the sink {name} loses events: {words}; `weir sinks list` counts them");
        }
    }

    /// An attempt has delivered everything.
    pub fn succeeded(&self) {
        let mut progress = self.progress();
        progress.last_success_us = wall_us();
        (progress.next_attempt_us, progress.told_of_drops) = (0, false);
        if std::mem::take(&mut progress.failing) {
            log::info!("the sink {} delivers again", self.name);
        }
    }

    /// An attempt has failed; `pause`: until the next one, where the same is tried again.
    pub fn failed(&self, why: &str, pause: Option<Duration>) {
        let now = wall_us();
        let mut progress = self.progress();
        progress.last_error = why.to_owned();
        progress.last_error_us = now;
        if let Some(pause) = pause {
            self.retried.fetch_add(1, Ordering::Relaxed);
            progress.next_attempt_us = now + pause.as_micros() as u64;
            if !std::mem::replace(&mut progress.failing, true) {
                log::warn!(
                    "the sink {} does not deliver: {why}; its events wait on disk, and it is tried again",
                    self.name
                );
            }
        }
    }

    /// Somebody waits for this number.
    pub fn await_test(&self, number: u64, since: Instant, reply: TestReply) {
        self.tests().push((number, since, reply));
    }

    fn tests(&self) -> MutexGuard<'_, Vec<(u64, Instant, TestReply)>> {
        self.tests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything before this number is delivered.
    pub fn answer_tests(&self, before: u64) {
        let mut tests = self.tests();
        for i in (0..tests.len()).rev() {
            if tests[i].0 < before {
                let (_, since, reply) = tests.swap_remove(i);
                // Whoever asked may have hung up.
                let _ = reply.send(Ok(since.elapsed()));
            }
        }
    }

    /// What waits will not come soon.
    pub fn fail_tests(&self, why: &str) {
        for (_, _, reply) in std::mem::take(&mut *self.tests()) {
            let _ = reply.send(Err(why.to_owned()));
        }
    }

    /// This one alone will never come.
    pub fn refuse_test(&self, number: u64, why: &str) {
        let mut tests = self.tests();
        if let Some(i) = tests.iter().position(|t| t.0 == number) {
            let _ = tests.swap_remove(i).2.send(Err(why.to_owned()));
        }
    }

    /// `missed`: events of these kinds that never came as far as a queue.
    pub fn state(&self, missed: impl Fn(u32) -> u64) -> SinkState {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let progress = self.progress();
        let Some(config) = &progress.config else {
            return SinkState { name: self.name.clone(), ..SinkState::default() };
        };
        let (queued, queued_bytes) = progress.queue.as_ref().map(|q| q.waiting()).unwrap_or_default();
        let counted = Dropped::ALL.iter().map(|(why, name)| (*name, get(&self.dropped[*why as usize])));
        let missed = std::iter::once((MISSED, missed(config.rules().kinds)));
        let dropped = counted.chain(missed).filter(|(_, n)| *n > 0);
        SinkState {
            name: self.name.clone(),
            kind: config.to.name().to_owned(),
            destination: config.to.words(),
            delivered: get(&self.delivered),
            retried: get(&self.retried),
            queued,
            queued_bytes,
            queue_size: config.queue_size,
            dropped: dropped.map(|(name, count)| NamedCount { name: name.to_owned(), count }).collect(),
            deduplicated: get(&self.deduplicated),
            held_back: get(&self.held_back),
            failing: progress.failing,
            last_error: progress.last_error.clone(),
            last_error_us: progress.last_error_us,
            last_success_us: progress.last_success_us,
            next_attempt_us: progress.next_attempt_us,
        }
    }

    pub fn is_failing(&self) -> bool {
        self.progress().failing
    }
}
