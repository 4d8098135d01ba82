//! The sink that makes records of everything: epochs go through the flow table.

use weir_common::flow::{FlowKey, FlowStats};
use weir_core::record::EndReason;
use weir_core::table::{EpochOutput, FlowTable, TableConfig};

use crate::sink::{Observation, Sink, Stop};

/// Runs epochs through a [`FlowTable`] and gives each record to `each`.
///
/// Checkpoints (records of flows that go on) are made only where they are asked for: a reader of files wants each flow
/// once.
pub struct Flows<F> {
    table: FlowTable,
    config: TableConfig,
    next_id: u64,
    /// Added to identifiers that an input brings, so that those of several inputs differ.
    id_base: u64,
    out: EpochOutput,
    each: F,
}

impl<F: FnMut(Observation) -> Result<(), Stop>> Flows<F> {
    pub fn new(mut config: TableConfig, checkpoints: bool, each: F) -> Self {
        if !checkpoints {
            // None that would only be thrown away; so each flow's one record is its first as well.
            config.checkpoints = [u64::MAX; 3];
            config.active_us = u64::MAX;
        }
        config.touched = false;
        let next_id = config.first_flow_id;
        Self {
            table: FlowTable::new(config.clone()),
            config,
            next_id,
            id_base: next_id.wrapping_sub(1),
            out: EpochOutput::default(),
            each,
        }
    }

    fn pass_on(&mut self) -> Result<(), Stop> {
        for record in self.out.records.drain(..) {
            (self.each)(record.into())?;
        }
        self.out.clear();
        Ok(())
    }
}

impl<F: FnMut(Observation) -> Result<(), Stop>> Sink for Flows<F> {
    fn epoch(&mut self, end_us: u64, drained: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        self.table.epoch_of(end_us, 0, drained, &mut self.out);
        self.pass_on()
    }

    fn flow(&mut self, mut flow: Observation) -> Result<(), Stop> {
        // Weir's own files have numbers, and a checkpoint has that of its flow.
        if flow.record.flow_id == 0 {
            flow.record.flow_id = self.next_id;
        } else {
            flow.record.flow_id = flow.record.flow_id.wrapping_add(self.id_base);
        }
        self.next_id = self.next_id.max(flow.record.flow_id.wrapping_add(1));
        (self.each)(flow)
    }

    fn end(&mut self) -> Result<(), Stop> {
        let mut passed = Ok(());
        self.table.flush_each(EndReason::Idle, |record| {
            if passed.is_ok() {
                passed = (self.each)(record.into());
            }
        });
        // The next input has a clock of its own.
        let first_flow_id = self.table.next_flow_id().max(self.next_id);
        self.next_id = first_flow_id;
        self.id_base = first_flow_id.wrapping_sub(1);
        self.table = FlowTable::new(TableConfig { first_flow_id, ..self.config.clone() });
        passed
    }
}
