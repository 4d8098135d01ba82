//! What a source hands on, and to whom.

use std::sync::Arc;

use weir_common::flow::{FlowKey, FlowStats};
use weir_core::record::FlowRecord;
use weir_core::table::FlowTable;

/// Nobody wants more (a closed pipe, Ctrl-C): the source ends quietly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

/// One flow as its source tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub record: FlowRecord,
    /// As in the input.
    pub label: Option<Arc<str>>,
    /// Interface, sensor or exporter it was seen at, where the input tells.
    pub seen_at: Option<Arc<str>>,
    /// One in so many packets was looked at; packets and bytes are scaled by it already. 1: every one.
    pub sampling: u32,
}

impl From<FlowRecord> for Observation {
    fn from(record: FlowRecord) -> Self {
        Self { record, label: None, seen_at: None, sampling: 1 }
    }
}

/// Who takes what a source gives. Order is that of the input.
pub trait Sink {
    /// The packets of one epoch, as the kernel drains them: each key at most once. `end_us` is event time, not before any
    /// packet in `drained`, and never goes back. An epoch without packets may be left out. The sink may take the contents
    /// of `drained` and need not empty it.
    fn epoch(&mut self, end_us: u64, drained: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop>;

    /// The table that the sink's epochs go through, if they do nothing else: packets may be counted in it as they come
    /// ([`FlowTable::count`]), and are then not among what their epoch has drained.
    fn table(&mut self) -> Option<&mut FlowTable> {
        None
    }

    /// A flow that another tool counted: its `flow_id` is 0, the sink numbers flows. One of Weir's own files brings its number.
    fn flow(&mut self, flow: Observation) -> Result<(), Stop>;

    /// The input has ended: what is open is over. Called once per input, also after an error.
    fn end(&mut self) -> Result<(), Stop>;
}
