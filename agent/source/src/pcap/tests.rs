//! Small captures made byte by byte.

mod build;
mod clock;
mod files;
mod links;
mod tunnels;

use build::*;

use super::*;
use crate::flows::Flows;
use crate::report::SourceError;
use crate::sink::Observation;
use crate::{Format, Input};
use weir_core::table::TableConfig;

/// What reading `file` gave: the final records, the report, the error.
pub(super) fn read_file(file: &[u8], decap: bool) -> (Vec<Observation>, Report, Result<(), SourceError>) {
    let options = Options { decap, ..Options::default() };
    let mut records = Vec::new();
    let mut sink = Flows::new(TableConfig::default(), false, |o| {
        records.push(o);
        Ok(())
    });
    let input = Input::new(std::io::Cursor::new(file.to_vec()), "test".into(), None, &options).unwrap();
    assert!(matches!(input.format(), Format::Pcap | Format::PcapNg));
    let (report, result) = input.read(&options, &mut sink);
    drop(sink);
    (records, report, result)
}

pub(super) type Captured = (u64, u32, Vec<u8>, u32);

/// The packets of `file` as (µs, link type, captured bytes, wire length), and whether the file is cut.
pub(super) fn packets_of(file: &[u8]) -> Result<(Vec<Captured>, bool), SourceError> {
    let mut packets = Packets::new(file)?;
    let mut found = Vec::new();
    while let Some(p) = packets.next_packet()? {
        found.push((p.at_us, p.link.0, p.data.to_vec(), p.wire_len));
    }
    Ok((found, packets.truncated()))
}
