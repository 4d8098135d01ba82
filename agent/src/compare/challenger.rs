//! The challenger of a running agent: a comparison on a thread of its own, which gets what the serving pipeline has scored.
//!
//! The event loop never waits for it. Epochs that come while it is behind are left out, for both sides, and counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use weir_core::guard::Guard;
use weir_core::record::TimeUs;
use weir_core::suppression::Suppressions;

use super::{Comparison, Epoch, Settings};
use crate::command::{ChallengerReport, CommandError, Reply};
use crate::pipeline::{Model, Scored};
use crate::priority;
use crate::proto as pb;

/// Messages that may wait for the thread.
const WAITING: usize = 4;
/// Records of one epoch; more are left out with it. Bounds the memory of what waits.
const MAX_RECORDS: usize = 100_000;

enum Message {
    Epoch(Box<Epoch>),
    Guard(Guard),
    Suppressions(Box<Suppressions>),
    Report(Reply<pb::Comparison>),
}

/// What the thread tells while it works.
#[derive(Default)]
struct Shared {
    flows: AtomicU64,
    left_out: AtomicU64,
    cpu_us: AtomicU64,
    differing: AtomicU64,
    stop: AtomicBool,
    failed: Mutex<String>,
}

impl Shared {
    fn failed(&self) -> String {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Ends the comparison when dropped.
pub struct Challenger {
    /// As the store knows it.
    id: String,
    since_us: TimeUs,
    model: Model,
    to: SyncSender<Message>,
    shared: Arc<Shared>,
    /// Who must never be stopped, as the thread knows it.
    guard: Guard,
    /// [`Suppressions::changes`] of what the thread knows.
    suppressions: u64,
}

impl Challenger {
    /// `serving` scores; `model` challenges it. `names` are those of both in the store, by which people know them.
    pub fn start(
        names: [String; 2],
        model: Model,
        serving: Model,
        settings: &Settings,
        now: TimeUs,
    ) -> std::io::Result<Challenger> {
        let (to, from) = sync_channel(WAITING);
        let shared = Arc::new(Shared::default());
        let serves_by_default = serving.is_default;
        let comparison = Comparison::new(serving, model.clone(), settings);
        let there = shared.clone();
        std::thread::Builder::new().name("weir-challenger".into()).spawn({
            let names = names.clone();
            move || work(comparison, &names, serves_by_default, &from, &there)
        })?;
        let [_, id] = names;
        let suppressions = settings.suppressions.changes();
        Ok(Self { id, since_us: now, model, to, shared, guard: settings.guard.clone(), suppressions })
    }

    pub fn id(&self) -> &str {
        &self.id
    }
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Passes on what the serving model has scored in an epoch.
    pub fn epoch(&mut self, now: TimeUs, scored: Scored, guard: &Guard, suppressions: &Suppressions) {
        if self.guard != *guard && self.to.try_send(Message::Guard(guard.clone())).is_ok() {
            self.guard = guard.clone();
        }
        let changes = suppressions.changes();
        if self.suppressions != changes {
            let message = Message::Suppressions(Box::new(suppressions.clone()));
            if self.to.try_send(message).is_ok() {
                self.suppressions = changes;
            }
        }
        let small = scored.records.len() <= MAX_RECORDS;
        if !small || self.to.try_send(Message::Epoch(Box::new(Epoch::of(now, scored)))).is_err() {
            self.left_out();
        }
    }

    /// An epoch that could not be compared.
    pub fn left_out(&self) {
        self.shared.left_out.fetch_add(1, Ordering::Relaxed);
    }

    /// Has the thread answer with the comparison so far.
    pub fn compare(&self, reply: Reply<pb::Comparison>) {
        if let Err(e) = self.to.try_send(Message::Report(reply)) {
            let (TrySendError::Full(message) | TrySendError::Disconnected(message)) = e;
            if let Message::Report(reply) = message {
                let words = "the comparison is behind the traffic; try again in a moment";
                drop(reply.send(Err(CommandError::Full(words.to_owned()))));
            }
        }
    }

    pub fn report(&self) -> ChallengerReport {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        ChallengerReport {
            id: self.id.clone(),
            since_us: self.since_us,
            flows: of(&self.shared.flows),
            epochs_left_out: of(&self.shared.left_out),
            cpu_us: of(&self.shared.cpu_us),
            differing_sources: of(&self.shared.differing),
            failed: self.shared.failed(),
        }
    }
}

impl Drop for Challenger {
    fn drop(&mut self) {
        // What waits is not worth finishing.
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// How far a comparison gives way to everything else.
const NICE: i32 = 10;

fn work(mut comparison: Comparison, names: &[String; 2], default: bool, from: &Receiver<Message>, shared: &Shared) {
    // Counting packets and acting on them goes first.
    priority::nice(NICE);
    while let Ok(message) = from.recv() {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        match message {
            Message::Epoch(epoch) if shared.failed().is_empty() => {
                if let Err(why) = comparison.epoch(*epoch) {
                    log::warn!("the challenger compares no more: {why}");
                    *shared.failed.lock().unwrap_or_else(PoisonError::into_inner) = why;
                }
                shared.flows.store(comparison.flows(), Ordering::Relaxed);
                shared.cpu_us.store(comparison.cpu_us(), Ordering::Relaxed);
                shared.differing.store(comparison.differing(), Ordering::Relaxed);
            }
            Message::Epoch(_) => {}
            Message::Guard(guard) => comparison.set_guard(&guard),
            Message::Suppressions(wanted) => comparison.set_suppressions(&wanted),
            Message::Report(reply) => {
                let mut report = comparison.report("live traffic");
                report.epochs_left_out = shared.left_out.load(Ordering::Relaxed);
                report.notes.extend(notes(&shared.failed(), default));
                for (side, name) in [&mut report.a, &mut report.b].into_iter().zip(names) {
                    side.iter_mut().for_each(|side| side.id.clone_from(name));
                }
                // Whoever asked may have hung up.
                let _ = reply.send(Ok(report));
            }
        }
    }
}

fn notes(failed: &str, default: bool) -> Vec<String> {
    let stopped = "what is really dropped meanwhile never comes in again, so neither side sees more of it";
    let mut notes = vec![stopped.to_owned()];
    if default {
        notes.push("A is the default bundle, which came with the program and was not learned here".to_owned());
    }
    if !failed.is_empty() {
        notes.insert(0, format!("the comparison ended: {failed}"));
    }
    notes
}
