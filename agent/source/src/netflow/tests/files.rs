//! Files of datagrams, and captures of export traffic.

use std::io::Cursor;

use weir_core::table::TableConfig;

use super::build::*;
use crate::{Flows, Format, Input, Observation, Options, Report, SourceError};

fn read(file: Vec<u8>, format: Option<Format>) -> (Vec<Observation>, Report, Result<(), SourceError>) {
    let options = Options { format, ..Options::default() };
    let mut all = Vec::new();
    let mut sink = Flows::new(TableConfig::default(), false, |o| {
        all.push(o);
        Ok(())
    });
    let (report, result) =
        Input::new(Cursor::new(file), "test".into(), None, &options).unwrap().read(&options, &mut sink);
    (all, report, result)
}

fn framed(datagrams: &[Vec<u8>]) -> Vec<u8> {
    datagrams.iter().flat_map(|d| [&(d.len() as u32).to_be_bytes(), &d[..]].concat()).collect()
}

#[test]
fn a_file_may_end_anywhere() {
    let file = framed(&[ASK.v5(0, 0), ASK.answer().v5(1, 0)]);
    let whole = file.len();
    for cut in 5..whole {
        let (flows, report, result) = read(file[..cut].to_vec(), Some(Format::NetFlow));
        result.unwrap();
        assert_eq!(flows.len(), usize::from(cut >= whole / 2), "cut at {cut}");
        assert_eq!(report.truncated, cut != whole / 2, "cut at {cut}");
    }
    let (flows, report, _) = read(file, None);
    assert_eq!((flows.len(), report.read, report.flows, report.truncated), (1, 2, 1, false));
    assert_eq!(flows[0].record.flow_id, 1);
}

#[test]
fn a_length_that_no_datagram_has_ends_the_file_with_an_error_and_keeps_what_came_before() {
    let mut file = framed(&[ASK.v5(0, 0)]);
    file.extend([0xff, 0xff, 0xff, 0xff, 0, 5]);
    let (flows, _, result) = read(file, None);
    assert_eq!(flows.len(), 1);
    let error = result.unwrap_err().to_string();
    assert_eq!(error, "length of a datagram at byte 76: a datagram of 4294967295 bytes; a datagram has at most 65535");
}

/// An Ethernet frame of UDP from 192.0.2.9:4000.
fn frame(payload: &[u8], port: u16) -> Vec<u8> {
    let mut f = [[0; 12].as_slice(), &[8, 0, 0x45, 0]].concat();
    f.extend((payload.len() as u16 + 28).to_be_bytes());
    f.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 9, 192, 0, 2, 10]);
    f.extend([4000u16, port, payload.len() as u16 + 8, 0].map(u16::to_be_bytes).concat());
    f.extend(payload);
    f
}

fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = [0xa1b2_c3d4u32, 0x0002_0004, 0, 0, 65_535, 1].map(u32::to_be_bytes).concat();
    for f in frames {
        file.extend([EXPORTED, 0, f.len() as u32, f.len() as u32].map(u32::to_be_bytes).concat());
        file.extend(f);
    }
    file
}

#[test]
fn exports_in_a_capture_are_read_where_that_is_asked_for() {
    // An answer to a name query whose identifier is 9 looks like v9 for two bytes.
    let dns = [&[0, 9, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0][..], b"\x07example\x03com\0\0\x01\0\x01"].concat();
    let exports = [frame(&ASK.v5(0, 0), 2055), frame(&dns, 53), frame(&ASK.answer().v5(1, 0), 9996)];
    let (flows, report, result) = read(pcap(&exports), Some(Format::NetFlow));
    result.unwrap();
    assert_eq!((flows.len(), report.read), (1, 3));
    assert_eq!(report.left_out["packet without NetFlow or IPFIX"], 1);
    assert_eq!(flows[0].seen_at.as_deref(), Some("192.0.2.9"));
    assert_eq!(flows[0].record.client.to_string(), "10.0.0.1");
    // Otherwise its packets are flows.
    let (flows, ..) = read(pcap(&exports), None);
    assert!(flows.iter().all(|f| f.record.client.to_string() == "192.0.2.9"));
}
