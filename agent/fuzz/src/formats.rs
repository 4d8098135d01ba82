//! An input format, through the reader, the flow table and the features. What a source promises its sink is checked.

use std::collections::HashSet;
use std::io::Cursor;
use std::sync::LazyLock;

use weir_core::feature::core_matrix;
use weir_core::table::TableConfig;
use weir_source::{Flows, Format, Input, Observation, Options, Sink, Stop};

static FORMAT: LazyLock<Format> = LazyLock::new(|| {
    let name = std::env::var("WEIR_FUZZ_TARGET").unwrap_or_default();
    Format::from_name(&name).unwrap_or_else(|| panic!("WEIR_FUZZ_TARGET is {name:?}, which is no format"))
});

/// Checks what comes, and hands it on.
struct Judge<S> {
    inner: S,
    end_us: u64,
    flows: u64,
    ended: bool,
}

impl<S: Sink> Sink for Judge<S> {
    fn epoch(
        &mut self,
        end_us: u64,
        drained: &mut Vec<(weir_source::FlowKey, weir_source::FlowStats)>,
    ) -> Result<(), Stop> {
        assert!(!self.ended && end_us >= self.end_us, "the clock of epochs went back");
        self.end_us = end_us;
        let keys: HashSet<_> = drained.iter().map(|(k, _)| *k).collect();
        assert_eq!(keys.len(), drained.len(), "a key came twice in an epoch");
        assert!(drained.iter().all(|(_, s)| !s.is_empty()), "a flow without packets");
        self.inner.epoch(end_us, drained)
    }

    fn flow(&mut self, flow: Observation) -> Result<(), Stop> {
        assert!(!self.ended);
        let ours = matches!(*FORMAT, Format::WeirJson | Format::WeirParquet);
        assert!(ours || flow.record.flow_id == 0, "sinks number flows, but for those that Weir has numbered");
        assert!(flow.record.end_us >= flow.record.start_us && flow.sampling >= 1);
        self.flows += 1;
        self.inner.flow(flow)
    }

    fn end(&mut self) -> Result<(), Stop> {
        self.ended = true;
        self.inner.end()
    }
}

pub fn run(data: &[u8]) {
    // The first byte chooses what a person may choose.
    let Some((choice, data)) = data.split_first() else { return };
    let options = Options { decap: choice & 1 != 0, format: Some(*FORMAT), ..Options::default() };
    let Ok(input) = Input::new(Cursor::new(data.to_vec()), "fuzz".into(), None, &options) else { return };
    let table = TableConfig { max_flows: 10_000, ..TableConfig::default() };
    let mut records = 0u64;
    let flows = Flows::new(table, choice & 2 != 0, |o: Observation| {
        records += 1;
        // Fails on a value that is no number.
        core_matrix([&o.record]);
        Ok(())
    });
    let mut judge = Judge { inner: flows, end_us: 0, flows: 0, ended: false };
    let (report, _) = input.read(&options, &mut judge);
    assert!(judge.ended, "every input ends");
    assert_eq!(report.flows, judge.flows, "the report counts what was handed on");
}
