//! Reading small inputs in tests.

use std::io::Cursor;

use crate::{Format, Input, Observation, Options, Report, Sink, SourceError, Stop};

/// Keeps what it is given.
#[derive(Default)]
pub(crate) struct Kept(pub(crate) Vec<Observation>);

impl Sink for Kept {
    fn epoch(
        &mut self,
        _: u64,
        _: &mut Vec<(weir_common::flow::FlowKey, weir_common::flow::FlowStats)>,
    ) -> Result<(), Stop> {
        panic!("text has no packets")
    }
    fn flow(&mut self, flow: Observation) -> Result<(), Stop> {
        self.0.push(flow);
        Ok(())
    }
    fn end(&mut self) -> Result<(), Stop> {
        Ok(())
    }
}

/// Everything that `input` gives, recognised by its content.
pub(crate) fn read(input: impl AsRef<[u8]>) -> (Vec<Observation>, Report, Result<(), SourceError>) {
    read_as(None, input)
}

pub(crate) fn read_as(
    format: Option<Format>,
    input: impl AsRef<[u8]>,
) -> (Vec<Observation>, Report, Result<(), SourceError>) {
    let options = Options { format, ..Options::default() };
    let stream = Cursor::new(input.as_ref().to_vec());
    let input = match Input::new(stream, "test".into(), None, &options) {
        Ok(input) => input,
        Err(e) => return (Vec::new(), Report::default(), Err(e)),
    };
    let mut kept = Kept::default();
    let (report, result) = input.read(&options, &mut kept);
    (kept.0, report, result)
}

/// The labels of observations, `-` where there is none.
pub(crate) fn labels(flows: &[Observation]) -> Vec<&str> {
    flows.iter().map(|f| f.label.as_deref().unwrap_or("-")).collect()
}
