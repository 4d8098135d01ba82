//! Files of datagrams: each behind its length in 4 bytes, big-endian.

use std::io::{BufRead, ErrorKind, Read};

use super::decoder::Header;
use super::{Collector, Limits};
use crate::Options;
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
    let done = datagrams(reader, &mut run, report, sink);
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
