//! The sink that makes records of everything: epochs go through the flow table.

use weir_common::flow::{FlowKey, FlowStats};
use weir_core::record::EndReason;
use weir_core::table::{EpochOutput, FlowTable, TableConfig, Touched};

use crate::sink::{Observation, Sink, Stop};

/// Who takes what [`Flows`] makes.
pub trait Taker {
    fn record(&mut self, flow: Observation) -> Result<(), Stop>;

    /// An epoch of packets has ended, in which these flows had some. Its records follow. Inputs that tell of flows instead of
    /// packets have no epochs.
    fn epoch(&mut self, _end_us: u64, _touched: &[Touched]) {}

    /// The input has ended, and its last records were given.
    fn end(&mut self) {}
}

impl<F: FnMut(Observation) -> Result<(), Stop>> Taker for F {
    fn record(&mut self, flow: Observation) -> Result<(), Stop> {
        self(flow)
    }
}

/// Runs epochs through a [`FlowTable`] and gives each record to the taker.
///
/// Checkpoints (records of flows that go on) are made only where they are asked for: a reader of files wants each flow
/// once.
pub struct Flows<T> {
    table: FlowTable,
    config: TableConfig,
    next_id: u64,
    /// Added to identifiers that an input brings, so that those of several inputs differ.
    id_base: u64,
    keeps_numbers: bool,
    out: EpochOutput,
    taker: T,
}

impl<F: FnMut(Observation) -> Result<(), Stop>> Flows<F> {
    /// Each record goes to `each`.
    pub fn new(config: TableConfig, checkpoints: bool, each: F) -> Self {
        Self::with(TableConfig { touched: false, ..config }, checkpoints, each)
    }
}

impl<T: Taker> Flows<T> {
    pub fn with(mut config: TableConfig, checkpoints: bool, taker: T) -> Self {
        if !checkpoints {
            // None that would only be thrown away; so each flow's one record is its first as well.
            config.checkpoints = [u64::MAX; 3];
            config.active_us = u64::MAX;
        }
        let next_id = config.first_flow_id;
        Self {
            table: FlowTable::new(config.clone()),
            config,
            next_id,
            id_base: next_id.wrapping_sub(1),
            keeps_numbers: false,
            out: EpochOutput::default(),
            taker,
        }
    }

    /// Numbers that inputs bring stay as they are: the inputs are parts of one recording.
    #[must_use]
    pub fn keep_numbers(mut self) -> Self {
        self.keeps_numbers = true;
        self
    }

    fn pass_on(&mut self) -> Result<(), Stop> {
        for record in self.out.records.drain(..) {
            self.taker.record(record.into())?;
        }
        self.out.clear();
        Ok(())
    }
}

impl<T: Taker> Sink for Flows<T> {
    fn epoch(&mut self, end_us: u64, drained: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        self.table.epoch_of(end_us, 0, drained, &mut self.out);
        self.taker.epoch(end_us, &self.out.touched);
        self.pass_on()
    }

    fn table(&mut self) -> Option<&mut FlowTable> {
        Some(&mut self.table)
    }

    fn flow(&mut self, mut flow: Observation) -> Result<(), Stop> {
        // Weir's own files have numbers, and a checkpoint has that of its flow.
        if flow.record.flow_id == 0 {
            flow.record.flow_id = self.next_id;
        } else if !self.keeps_numbers {
            flow.record.flow_id = flow.record.flow_id.wrapping_add(self.id_base);
        }
        self.next_id = self.next_id.max(flow.record.flow_id.wrapping_add(1));
        self.taker.record(flow)
    }

    fn end(&mut self) -> Result<(), Stop> {
        let (mut passed, taker) = (Ok(()), &mut self.taker);
        self.table.flush_each(EndReason::Idle, |record| {
            if passed.is_ok() {
                passed = taker.record(record.into());
            }
        });
        self.taker.end();
        // The next input has a clock of its own.
        let first_flow_id = self.table.next_flow_id().max(self.next_id);
        self.next_id = first_flow_id;
        self.id_base = first_flow_id.wrapping_sub(1);
        self.table = FlowTable::new(TableConfig { first_flow_id, ..self.config.clone() });
        passed
    }
}
