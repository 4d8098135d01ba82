//! Decisions on what is read, as an agent would have taken them: packets epoch by epoch, and flows of other tools in the order
//! of time. Everything from the flow table to the entries in force is the code that runs live.
//!
//! Captures are read as they come. Flows that others counted are in no order in their files (most are written as they end,
//! and windows want them as they began), so they wait: all of them where there are few, else the older half makes room.

pub mod book;
mod entries;
mod site;
#[cfg(test)]
pub(crate) mod tests;
pub(super) mod told;

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_common::flow::{FlowKey, FlowStats};
use weir_core::decision::{Action, Flow};
use weir_core::event::Event;
use weir_core::profile::ProfileId;
use weir_core::record::{EndReason, FlowRecord, FlowState, Have, TimeUs};
use weir_core::table::Touched;
use weir_source::label::verdict;
use weir_source::{Observation, Sink, Stop};

use super::progress::Progress;
use super::replay::is_housekeeping;
use super::tally;
use crate::pipeline::Model;
pub use entries::Cut;
pub use site::{EPOCH_US, Judged, Settings, Site};
use told::Waiting;

/// Who is told what is replayed. `now` is the end of the epoch, wall clock of what was recorded.
pub trait Watcher {
    /// A flow began in the epoch.
    fn began(&mut self, now: TimeUs, flow: &Touched, label: Option<&Arc<str>>);
    /// What followed from the epoch.
    fn happened(&mut self, now: TimeUs, event: Event) -> Result<(), Stop>;
    /// What comes is another time or place than what came before: nothing known of anyone counts on.
    fn afresh(&mut self) {}
}

/// What was replayed, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub read: tally::Counts,
    /// Of the flows, those that another tool counted.
    pub told: u64,
    /// Of these, TCP flows that were answered but not shown to be proven.
    pub unproven: u64,
    /// Flows that no source can answer for, by what they do not tell.
    pub lacking: BTreeMap<String, u64>,
    pub housekeeping: u64,
    /// Flows told of after their time was over: they counted when they came.
    pub late: u64,
    /// Times that began before the one before had ended: each was replayed on its own.
    pub timelines: u64,
    /// Time that was replayed, µs; of a silence at most a minute.
    pub span_us: u64,
    /// Epochs that could not be scored, with the last reason.
    pub failed: Option<(u64, String)>,
    /// Packets that entries met, by decision.
    pub met: BTreeMap<u64, u64>,
    /// What the entries of each decision met and would have cut.
    pub cuts: BTreeMap<u64, Cut>,
    /// What the rules came to.
    pub judged: Judged,
}

/// Of a silence, so much counts as time that was watched, µs: as where thresholds are calibrated.
const SILENCE_US: u64 = 60_000_000;

/// Takes what is read. [`Deciding::close`] is to follow.
pub struct Deciding<'w> {
    settings: Settings,
    model: Model,
    site: Site,
    /// Something of this timeline was read.
    began: bool,
    waiting: Waiting,
    watcher: &'w mut dyn Watcher,
    progress: Option<&'w Progress>,
    /// Added to numbers that an input brings, so that those of several inputs differ.
    id_base: u64,
    next_id: u64,
    pub counts: Counts,
}

/// Why a bundle cannot decide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "bundle {bundle} cannot decide about sources: it has no profile `{lacks}`; train one on traffic that tells when flows \
     were and who began them (`weir train`)"
)]
pub struct CannotDecide {
    bundle: String,
    lacks: ProfileId,
}

/// Decisions take what the agent scores by.
pub fn can_decide(bundle: &weir_models::Bundle) -> Result<(), CannotDecide> {
    let lacks = [ProfileId::Core, ProfileId::Source].into_iter().find(|p| !bundle.profiles().any(|has| has == *p));
    lacks.map_or(Ok(()), |lacks| Err(CannotDecide { bundle: bundle.id().to_owned(), lacks }))
}

impl<'w> Deciding<'w> {
    pub fn new(
        settings: Settings,
        model: Model,
        watcher: &'w mut dyn Watcher,
        progress: Option<&'w Progress>,
    ) -> Result<Self, CannotDecide> {
        can_decide(&model.bundle)?;
        let site = Site::new(&settings, model.clone(), 1, [1, 1]);
        Ok(Self {
            settings,
            model,
            site,
            began: false,
            waiting: Waiting::default(),
            watcher,
            progress,
            id_base: 0,
            next_id: 1,
            counts: Counts::default(),
        })
    }

    /// Everything was read: what waits is replayed, and what goes on is followed to its end.
    pub fn close(mut self) -> Result<Counts, Stop> {
        self.hand_on(TimeUs::MAX)?;
        self.finish()?;
        Ok(self.counts)
    }

    /// An epoch is about to be replayed: what lies before it passes. One that goes back is of another capture.
    fn go_to(&mut self, end_us: TimeUs) -> Result<(), Stop> {
        if end_us < self.site.now_us {
            self.finish()?;
            let flow_id = self.counts.read.flows.saturating_add(1);
            self.site = Site::new(&self.settings, self.model.clone(), flow_id, self.site.next_ids());
            self.began = false;
            self.watcher.afresh();
        }
        if !self.began {
            self.counts.timelines += 1;
            self.began = true;
        }
        // A silence between captures of different days is no time in which anyone was watched.
        let before = if self.site.now_us == 0 { end_us - EPOCH_US.min(end_us) } else { self.site.now_us };
        self.counts.span_us += (end_us - before).min(SILENCE_US);
        let mut passed = Vec::new();
        self.site.pass(end_us, &mut |events| passed.extend(events));
        self.tell(passed)
    }

    fn tell(&mut self, events: Vec<Event>) -> Result<(), Stop> {
        events.into_iter().try_for_each(|e| self.watcher.happened(e.time_us(), e))
    }

    /// The end of a timeline.
    fn finish(&mut self) -> Result<(), Stop> {
        let mut rest = Vec::new();
        self.site.finish(&mut |events| rest.extend(events));
        self.counts.met.append(&mut self.site.met);
        self.counts.cuts.append(&mut std::mem::take(&mut self.site.ledger).close());
        self.counts.judged.join(std::mem::take(&mut self.site.judged));
        if let Some((n, why)) = self.site.failed.take() {
            let before = self.counts.failed.as_ref().map_or(0, |(n, _)| *n);
            self.counts.failed = Some((before + n, why));
        }
        self.tell(rest)
    }

    fn packets(&mut self, end_us: TimeUs, drained: &[(FlowKey, FlowStats)]) -> Result<(), Stop> {
        self.go_to(end_us)?;
        let opened = self.site.pipeline.opened();
        let events = self.site.packets(end_us, drained);
        let new = self.site.pipeline.opened() - opened;
        self.counts.read.flows += new;
        self.counts.read.packets += drained.iter().flat_map(|(_, s)| &s.dir).map(|d| d.packets).sum::<u64>();
        for flow in self.site.pipeline.touched().iter().filter(|t| t.new) {
            self.watcher.began(end_us, flow, None);
        }
        if let Some(progress) = self.progress {
            (0..new).for_each(|_| progress.flow());
        }
        self.tell(events)
    }

    /// Replays the flows of other tools up to a time.
    fn hand_on(&mut self, until_us: TimeUs) -> Result<(), Stop> {
        let turns = self.waiting.until(until_us);
        // Flows follow packets only where their time does.
        if let (Some(first), true) = (turns.first(), self.waiting.is_first()) {
            self.go_to(first.second_us)?;
        }
        for turn in &turns {
            let end_us = turn.second_us.max(self.site.now_us);
            self.go_to(end_us)?;
            let (entries, ledger) = (&self.site.entries, &mut self.site.ledger);
            let mut met = site::Met::new();
            let step = self.waiting.take(turn, |r, label| {
                let Some(e) = entries.on(&Flow::of(r)) else { return false };
                *met.entry(e.id).or_default() += r.fwd.packets;
                let both = r.bwd.packets > 0 && !matches!(r.state, FlowState::Unanswered | FlowState::Rejected);
                ledger.told(e, r, verdict(label.map(|l| &**l)), both, end_us);
                e.action == Action::Drop
            });
            let ended = step.ended.into_iter().map(|(record, _)| record).collect();
            let (begun, labels): (Vec<_>, Vec<_>) = step.begun.into_iter().unzip();
            for (flow, label) in begun.iter().zip(&labels) {
                self.watcher.began(end_us, flow, label.as_ref());
            }
            let events = self.site.told(end_us, ended, begun, met);
            self.tell(events)?;
        }
        self.waiting.clear();
        Ok(())
    }

    fn number(&mut self, record: &mut FlowRecord) {
        // Weir's own files have numbers, and a checkpoint has that of its flow.
        record.flow_id = match record.flow_id {
            0 => self.next_id,
            own => own.wrapping_add(self.id_base),
        };
        self.next_id = self.next_id.max(record.flow_id.wrapping_add(1));
    }
}

impl Sink for Deciding<'_> {
    fn epoch(&mut self, end_us: u64, drained: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        self.packets(end_us, drained)
    }

    fn flow(&mut self, mut flow: Observation) -> Result<(), Stop> {
        let r = &mut flow.record;
        self.number(r);
        self.counts.read.add_record(r);
        if let Some(progress) = self.progress {
            progress.flow();
        }
        self.counts.told += u64::from(r.end_reason != EndReason::Checkpoint);
        if is_housekeeping(r) {
            self.counts.housekeeping += 1;
            return Ok(());
        }
        let needs = ProfileId::Source.needs();
        if !r.have.has(needs) {
            let lacks: Vec<_> = needs.without(r.have).names().collect();
            *self.counts.lacking.entry(lacks.join(", ")).or_default() += 1;
            return Ok(());
        }
        self.counts.unproven += u64::from(!r.proven && answered(r));
        self.counts.late += u64::from(self.waiting.is_late(r));
        if self.waiting.push(flow) {
            let until = self.waiting.middle();
            self.hand_on(until)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stop> {
        self.id_base = self.next_id.wrapping_sub(1);
        Ok(())
    }
}

/// A TCP connection that both sides took part in.
fn answered(r: &FlowRecord) -> bool {
    r.proto == weir_common::flow::ip_proto::TCP && !matches!(r.state, FlowState::Unanswered | FlowState::Rejected)
}

/// Whether a flow of another tool reads like a TCP connection whose client heard the server: its opening was seen, and it
/// went on behind the answer. That is no proof, since logs have no sequence numbers.
pub fn looks_proven(r: &FlowRecord) -> bool {
    let needs = Have::SIDES.with(Have::PACKETS).with(Have::STATE);
    let went_on = match r.state {
        FlowState::Closed => true,
        // SYN and ACK.
        FlowState::Established => r.fwd.packets >= 2,
        // More than SYN and RST.
        FlowState::Reset => r.fwd.packets >= 3,
        FlowState::Unanswered | FlowState::Rejected => false,
    };
    r.proto == weir_common::flow::ip_proto::TCP && r.have.has(needs) && r.bwd.packets > 0 && went_on
}
