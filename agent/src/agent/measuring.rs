//! What is measured for metrics, and the answer to a scrape.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_core::label::Truth;

use super::Agent;
use crate::clock::wall_us;
use crate::command::{CommandError, NamedCount};
use crate::drain::Epoch;
use crate::enforce::Pass;
use crate::metrics::{Delivery, Entries, Histogram, Reading, SinkUse, Tally};
use crate::pipeline::Took;
use crate::traces::{Span, Value};

const DAY_US: u64 = 86_400_000_000;

/// Counts since the start, and how long things took.
pub(super) struct Measures {
    pub tally: Arc<Tally>,
    drained_flows: u64,
    epochs_failed: u64,
    drain: Histogram,
    epoch: Histogram,
    features: Histogram,
    scoring: Histogram,
    policy: Histogram,
    entries: Entries,
}

impl Measures {
    pub fn new() -> Self {
        let seconds = Histogram::seconds;
        Self {
            tally: Arc::default(),
            drained_flows: 0,
            epochs_failed: 0,
            drain: seconds(),
            epoch: seconds(),
            features: seconds(),
            scoring: seconds(),
            policy: seconds(),
            entries: Entries::default(),
        }
    }

    pub fn drained(&mut self, epoch: &Epoch) {
        self.drained_flows += epoch.report.flows as u64;
        self.drain.add((epoch.report.settle + epoch.report.read).as_secs_f64());
    }

    pub fn drain_failed(&mut self) {
        self.epochs_failed += 1;
    }

    /// What the pipeline took for an epoch; without rows there is nothing to measure.
    pub fn pipeline(&mut self, took: &Took) {
        if took.rows == 0 {
            return;
        }
        let seconds = |d: Duration| d.as_secs_f64();
        self.features.add(seconds(took.features));
        self.scoring.add(seconds(took.scoring));
        self.policy.add(seconds(took.policy));
    }

    pub fn epoch_since(&mut self, began: Instant) {
        self.epoch.add(began.elapsed().as_secs_f64());
    }

    pub fn reconciled<E>(&mut self, pass: Result<&Pass, &E>) {
        let e = &mut self.entries;
        match pass {
            Ok(pass) => {
                e.written += pass.written as u64;
                e.removed += pass.removed as u64;
                e.drift += pass.drift as u64;
            }
            Err(_) => e.failures += 1,
        }
    }
}

impl Agent {
    /// The event log, and the sinks of the configuration.
    fn sinks_in_use(&self) -> Vec<SinkUse> {
        let (queued, capacity) = (self.sink.queued(), crate::sink::QUEUE as f64);
        let log = SinkUse {
            // No sink can be called that.
            name: "log:events".to_owned(),
            queued,
            fill: queued as f64 / capacity,
            lost: self.sink.lost(),
            delivery: None,
        };
        let others = self.sinks.states().snapshot().into_iter().map(|s| SinkUse {
            queued: s.queued,
            fill: s.queued_bytes as f64 / s.queue_size.max(1) as f64,
            lost: s.dropped.iter().map(|d| d.count).sum(),
            delivery: Some(Delivery { delivered: s.delivered, retried: s.retried, failing: s.failing }),
            name: s.name,
        });
        std::iter::once(log).chain(others).collect()
    }

    /// An epoch as spans: its drain, what was made of it, and when that was in the kernel. Features and scores come by turns; they are shown one
    /// after the other, each as long as it took in all.
    pub(super) fn trace(&self, epoch: &Epoch, began: Instant, took: Took, (writing, enforced): (Instant, Duration)) {
        let tracer = &self.access.tracer;
        if !tracer.is_on() {
            return;
        }
        let us = |d: Duration| d.as_micros() as u64;
        let drained_us = epoch.report.end_us.saturating_add_signed(epoch.wall_offset_us);
        let began_us = wall_us().saturating_sub(us(began.elapsed()));
        let drain = epoch.report.settle + epoch.report.read;
        let whole = Duration::from_micros(wall_us().saturating_sub(drained_us));
        let whole = Span::new("epoch", drained_us, whole)
            .with("flows", Value::Int(epoch.report.flows as u64))
            .with("rows", Value::Int(took.rows as u64));
        tracer.record(whole.part("drain", drained_us, drain));
        let mut at_us = began_us;
        for (name, took) in [("features", took.features), ("scoring", took.scoring), ("policy", took.policy)] {
            tracer.record(whole.part(name, at_us, took));
            at_us += us(took);
        }
        let writing_us = began_us + us(writing.saturating_duration_since(began));
        tracer.record(whole.part("enforcement", writing_us, enforced));
        tracer.record(whole);
    }

    /// What a status costs, and copies of a few hundred numbers.
    pub(super) fn reading(&self) -> Result<Box<Reading>, CommandError> {
        let m = &self.measures;
        let since = wall_us().saturating_sub(DAY_US);
        let wrong = |l: &&weir_core::label::Label| l.truth == Truth::FalseAlarm;
        let false_alarms: std::collections::HashSet<u64> =
            self.review.labels.live().filter(wrong).map(|l| l.alert_id).collect();
        let alerts = self.alerts.since(since);
        let (all, wrong) =
            alerts.fold([0, 0], |[all, wrong], a| [all + 1, wrong + u64::from(false_alarms.contains(&a.id))]).into();
        let named = |(n, count): (&str, u64)| NamedCount { name: n.to_owned(), count };
        Ok(Box::new(Reading {
            status: self.status()?,
            sole: self.config.watched().sole().map(str::to_owned),
            attachments: self.attachments(),
            counted: m.tally.read(),
            drained_flows: m.drained_flows,
            epochs_failed: m.epochs_failed,
            flows_capacity: self.pipeline.max_flows() as u64,
            drain: m.drain.clone(),
            epoch: m.epoch.clone(),
            features: m.features.clone(),
            scoring: m.scoring.clone(),
            policy: m.policy.clone(),
            p_values: self.pipeline.p_values.clone(),
            drift: self.pipeline.drift().report().clone(),
            lost: self.all_losses().into_iter().map(named).collect(),
            store_lost: self.store.journal().lost().into_iter().map(named).collect(),
            store_queue: self.store.journal().waiting() as u64,
            sinks: self.sinks_in_use(),
            watchers: self.bus.subscribers() as u64,
            entries: m.entries,
            kernel_entries: self.kernel.as_ref().map(|k| k.enforcer.entries().map(|n| n as u64)),
            lease: self.kernel.as_ref().and_then(|k| Some((k.lease.age()?, self.config.lease.timeout))),
            questions_open: self.review.questions.open() as u64,
            breaker_tripped: self.pipeline.policy.tripped(),
            alert_budget_per_day: self.config.alert_budget_per_day,
            alerts_last_day: [all, wrong],
        }))
    }
}
