//! The record of flows, and learning from it.

use std::time::Duration;

use weir_common::counters::Reason;
use weir_core::event::Level;
use weir_core::record::TimeUs;

use super::Agent;
use super::learning::Training;
use crate::archive::read::Span;
use crate::archive::{Archive, Batch};
use crate::command::{Caller, CommandError, LearnFrom, LearnReport, RecordReport, Reply};
use crate::human::{grouped, rough};
use crate::learn::Labelled;
use crate::model;
use crate::pipeline::Outcome;

/// Share of the time that must be recorded to learn from it without being asked to.
const COVERED: f64 = 0.9;
/// Live decisions whose targets are not learned from.
const MAX_DECISIONS: usize = 100_000;

impl Agent {
    pub(super) fn start_record(&mut self) {
        match Archive::start(&self.config.state_dir, self.config.record.clone()) {
            Ok(archive) => {
                self.pipeline.keep = archive.enabled();
                self.archive = Some(archive);
            }
            Err(e) => self.warn("record", format!("flows are not recorded: {e}")),
        }
    }

    pub(super) fn configure_record(&mut self) {
        if let Some(archive) = &mut self.archive {
            archive.configure(&self.config.record);
            self.pipeline.keep = archive.enabled();
        }
    }

    /// Hands an epoch over to be recorded.
    pub(super) fn record(&mut self, now: TimeUs, outcome: &mut Outcome) {
        let mut against = std::mem::take(&mut self.against);
        // What a bundle finds strange that was not learned here may be normal here, and is to be learned.
        if self.pipeline.default_model().is_none() {
            against.extend(outcome.against.iter().map(|(source, _)| source.subject()));
        }
        let Some(archive) = &mut self.archive else { return };
        archive.add(Batch {
            since: outcome.since,
            now,
            flows: std::mem::take(&mut outcome.kept),
            windows: std::mem::take(&mut outcome.windows),
            against,
            degraded: outcome.degraded.take(),
        });
    }

    /// Why the epoch that has just been drained does not hold all that there was.
    pub(super) fn overflowed(&mut self) -> Option<String> {
        let told = self.collector.as_ref().map_or(0, |c| c.beyond());
        let counted = match self.counted() {
            Ok(all) => all
                .iter()
                .filter(|(r, _)| matches!(r, Reason::InOverflow | Reason::OutOverflow))
                .map(|(_, c)| c.packets)
                .sum(),
            Err(_) => self.overflow.map_or(0, |(counted, _)| counted),
        };
        let before = self.overflow.replace((counted, told)).unwrap_or((counted, told));
        let mut words = Vec::new();
        if counted > before.0 {
            words.push(format!("{} packets were not counted: the flow map was full", counted - before.0));
        }
        if told > before.1 {
            words.push(format!("{} flows of exporters found no room", told - before.1));
        }
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// The drain failed: what the epoch held may be lost.
    pub fn drain_failed(&mut self, e: &weir_kernel::KernelError) {
        self.measures.drain_failed();
        self.pipeline.degraded = Some("an epoch could not be read".to_owned());
        self.warn("drain", format!("an epoch could not be read: {e}"));
    }

    /// Closes the open file, so that everything recorded can be read; the answer comes from the thread that writes.
    pub(super) fn flush_record(&self, reply: Reply<RecordReport>) {
        let Some(archive) = &self.archive else {
            return drop(reply.send(Err(CommandError::Refused("this agent records no flows".to_owned()))));
        };
        archive.flush(move |done| drop(reply.send(done.map_err(CommandError::Failed))));
    }

    /// What a person asked for: from the record, from now on, or whichever does.
    pub(super) fn learn_anew(
        &mut self,
        duration: Option<Duration>,
        min_flows: Option<u64>,
        from: LearnFrom,
        by: &Caller,
        now: TimeUs,
    ) -> Result<LearnReport, CommandError> {
        if self.training.is_some() {
            return Err(CommandError::Refused("a training is under way; try again when it has ended".to_owned()));
        }
        let span = duration.unwrap_or(self.config.learn.duration);
        let wanted = match from {
            LearnFrom::Live => None,
            LearnFrom::Record { since } => Some(since.unwrap_or(span)),
            LearnFrom::Auto => {
                let min_flows = min_flows.unwrap_or(self.config.learn.min_flows);
                self.record_suffices(span, min_flows, now).then_some(span)
            }
        };
        let Some(wanted) = wanted else {
            self.start_learning(duration, min_flows);
            self.news(now, Level::Info, "learn", by.sign("learning anew what is normal here"));
            return self.learning(now).ok_or_else(|| CommandError::Failed("the recording did not start".to_owned()));
        };
        self.learn_from_record(wanted, by, now)
    }

    /// Enough is recorded to learn as from live traffic.
    fn record_suffices(&self, span: Duration, min_flows: u64, now: TimeUs) -> bool {
        let Some(archive) = &self.archive else { return false };
        let span_us = span.as_micros() as u64;
        let (covered, flows, windows) = archive.contents().since(now.saturating_sub(span_us));
        covered as f64 >= COVERED * span_us as f64 && flows >= min_flows && windows >= self.config.learn.min_windows
    }

    fn learn_from_record(&mut self, span: Duration, by: &Caller, now: TimeUs) -> Result<LearnReport, CommandError> {
        let refused = |words: &str| CommandError::Refused(words.to_owned());
        let archive = self.archive.as_ref().ok_or_else(|| refused("this agent records no flows"))?;
        let since = now.saturating_sub(span.as_micros() as u64);
        let (covered, flows, windows) = archive.contents().since(since);
        if flows == 0 && windows == 0 {
            return Err(refused(&format!(
                "nothing is recorded of the last {}: see `record` in the configuration, or learn from now on with \
                 `weir learn --live`",
                rough(span)
            )));
        }
        let report = LearnReport {
            started_us: since,
            duration_us: span.as_micros() as u64,
            elapsed_us: covered,
            flows,
            min_flows: 0,
            windows,
            min_windows: 0,
            phase: "training".to_owned(),
            from: format!("the record of the last {}", rough(span)),
        };
        let mut wanted = Span::new(&self.config, archive.dir(), since, now);
        wanted.against = self.decisions.iter().take(MAX_DECISIONS).map(|d| d.target.prefix()).collect();
        wanted.labelled = Labelled::new(&self.review.labels, &self.pipeline.suppressions);
        let flusher = archive.flusher();
        let make = move || {
            if let Err(e) = flusher.flush() {
                log::warn!("what is not in a file yet is not learned from: {e}");
            }
            wanted.recording()
        };
        let id = super::learning::new_id(now);
        let started = self
            .store
            .bundles()
            .stage(&id)
            .map_err(|e| e.to_string())
            .and_then(|dir| model::train(make, dir, now, self.finished.clone()).map_err(|e| e.to_string()));
        started.map_err(|e| CommandError::Failed(format!("training could not be started: {e}")))?;
        let words = format!(
            "learning from the record of the last {}: {} flows and {} source windows",
            rough(span),
            grouped(flows),
            grouped(windows)
        );
        self.news(now, Level::Info, "learn", by.sign(&words));
        self.training = Some(Training { id, report: report.clone(), from_record: true });
        Ok(report)
    }
}
