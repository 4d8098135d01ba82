//! Files of datagrams, each behind its length in 4 bytes, big-endian; and captures of export traffic.
//!
//! A capture is read for the exports in it where the format is named (`netflow`): by its content alone it is a capture as
//! any other, and its packets are flows too. Whatever UDP port exports go to, they are recognised by their form.

use std::io::{BufRead, ErrorKind, Read};
use std::net::SocketAddr;

use weir_common::flow::ip_proto::UDP;
use weir_core::addr::Addr;

use super::decoder::{Header, looks_like_export};
use super::{Collector, Limits};
use crate::Options;
use crate::input::Format;
use crate::pcap::{Layers, Packet, Packets};
use crate::report::{Halt, Report, SourceError};
use crate::sink::{Observation, Sink};

/// The longest UDP payload, with room.
const MAX_DATAGRAM: u32 = 65_535;
/// Such files have no arrival times, so the headers' times of export are the clock. None of them moves it on by more, µs:
/// one wrong header would let everything expire that waits.
const MAX_STEP_US: u64 = 60_000_000;

pub(crate) fn read(
    reader: &mut dyn BufRead,
    options: &Options,
    report: &mut Report,
    sink: &mut dyn Sink,
) -> Result<(), Halt> {
    let mut run = Run::new(options);
    let capture = matches!(crate::recognise::recognise(reader.fill_buf()?), Ok(Format::Pcap | Format::PcapNg));
    let done = if capture {
        capture_of_exports(reader, options, &mut run, report, sink)
    } else {
        datagrams(reader, &mut run, report, sink)
    };
    if let Err(Halt::Stopped) = done {
        run.collector.report(report);
        return done;
    }
    let ended = run.end(report, sink);
    done.and(ended)
}

/// A collector over an input, and its clock.
pub(super) struct Run {
    pub collector: Collector,
    out: Vec<Observation>,
    clock_us: u64,
}

impl Run {
    pub fn new(options: &Options) -> Self {
        let collector = Collector::new(Limits::default(), options.home.clone());
        Self { collector, out: Vec::new(), clock_us: 0 }
    }

    /// The clock after a datagram without a time of arrival.
    fn by_header(&mut self, datagram: &[u8]) -> u64 {
        if let Some(header) = Header::read(datagram) {
            let at = header.exported_us;
            let most = if self.clock_us == 0 { at } else { self.clock_us.saturating_add(MAX_STEP_US) };
            self.clock_us = self.clock_us.max(at.min(most));
        }
        self.clock_us
    }

    pub fn hand_on(&mut self, report: &mut Report, sink: &mut dyn Sink) -> Result<(), Halt> {
        for flow in self.out.drain(..) {
            report.flows += 1;
            sink.flow(flow)?;
        }
        Ok(())
    }

    pub fn end(&mut self, report: &mut Report, sink: &mut dyn Sink) -> Result<(), Halt> {
        self.collector.finish(&mut self.out);
        self.collector.report(report);
        self.hand_on(report, sink)
    }
}

fn datagrams(reader: &mut dyn BufRead, run: &mut Run, report: &mut Report, sink: &mut dyn Sink) -> Result<(), Halt> {
    let mut datagram = Vec::new();
    let mut offset = 0u64;
    loop {
        let mut length = [0; 4];
        let got = fill(reader, &mut length)?;
        if got == 0 {
            return Ok(());
        }
        let length = u32::from_be_bytes(length);
        if got == 4 && length > MAX_DATAGRAM {
            let why = format!("a datagram of {length} bytes; a datagram has at most {MAX_DATAGRAM}");
            return Err(SourceError::Corrupt { what: "length of a datagram", offset, why }.into());
        }
        datagram.clear();
        if got == 4 {
            reader.take(u64::from(length)).read_to_end(&mut datagram)?;
        }
        if got < 4 || datagram.len() < length as usize {
            report.truncated = true;
            report.warn(format!("the input ends in the middle of a datagram, at byte {offset}"));
        }
        if got < 4 {
            return Ok(());
        }
        report.read += 1;
        let now_us = run.by_header(&datagram);
        run.collector.ingest(&datagram, None, now_us, &mut run.out);
        run.hand_on(report, sink)?;
        offset += 4 + datagram.len() as u64;
    }
}

/// The exports among the packets of a capture, at the times of their arrival.
fn capture_of_exports(
    reader: &mut dyn BufRead,
    options: &Options,
    run: &mut Run,
    report: &mut Report,
    sink: &mut dyn Sink,
) -> Result<(), Halt> {
    let mut packets = Packets::new(reader)?;
    while let Some(packet) = packets.next_packet()? {
        report.read += 1;
        let layers = if options.decap { Layers::innermost(&packet) } else { Layers::of(&packet) };
        match layers.map(|l| export(&packet, &l)) {
            Ok(Some((from, datagram))) => {
                run.collector.ingest(datagram, Some(from), packet.at_us, &mut run.out);
                run.hand_on(report, sink)?;
            }
            Ok(None) => report.leave_out("packet without NetFlow or IPFIX"),
            Err(why) => report.leave_out(why.reason()),
        }
    }
    if packets.truncated() {
        report.truncated = true;
        report.warn(format!("the capture is cut short at byte {}: what comes before is complete", packets.offset()));
    }
    Ok(())
}

/// The datagram of an exporter, and its address.
fn export<'a>(packet: &Packet<'a>, layers: &Layers) -> Option<(SocketAddr, &'a [u8])> {
    let meta = &layers.meta;
    if meta.proto != UDP || meta.fragment != 0 {
        return None;
    }
    let datagram = layers.payload(packet);
    let cut = (packet.data.len() as u64) < u64::from(packet.wire_len);
    looks_like_export(datagram, cut).then(|| ((Addr(meta.src.bytes()).ip(), meta.src_port).into(), datagram))
}

/// As many bytes as there are.
fn fill(reader: &mut dyn BufRead, buf: &mut [u8]) -> Result<usize, Halt> {
    let mut got = 0;
    while let Some(rest) = buf.get_mut(got..).filter(|r| !r.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(got)
}
