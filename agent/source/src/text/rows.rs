//! From rows to observations: what every text format does with a good row and with a bad one.

use std::collections::HashMap;
use std::io::BufRead;
use std::sync::Arc;

use weir_common::flow::ip_proto;
use weir_core::home::Home;
use weir_core::record::{FlowRecord, FlowState};

use super::fields::{Cutter, Fields, TooMany};
use super::lines::{Line, each_line};
use crate::report::{Halt, Report};
use crate::sink::{Observation, Sink};

/// Why a row is left out, and the value that is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad<'a> {
    pub(crate) reason: &'static str,
    pub(crate) value: &'a [u8],
}

impl<'a> Bad<'a> {
    pub(crate) const fn new(reason: &'static str, value: &'a [u8]) -> Self {
        Self { reason, value }
    }
}

/// Where rows go.
pub(crate) struct Rows<'a> {
    pub(crate) report: &'a mut Report,
    sink: &'a mut dyn Sink,
    home: &'a Home,
    pub(crate) labels: Names,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(home: &'a Home, report: &'a mut Report, sink: &'a mut dyn Sink) -> Self {
        Self { report, sink, home, labels: Names::default() }
    }

    pub(crate) fn hand_on(&mut self, mut flow: Observation) -> Result<(), Halt> {
        flow.record.direction = self.home.direction(flow.record.client, flow.record.server);
        self.report.flows += 1;
        Ok(self.sink.flow(flow)?)
    }

    /// Counts the row; the first of its kind is shown. A last line without its end is taken as cut.
    pub(crate) fn leave_out(&mut self, line: &Line<'_>, bad: Bad<'_>) {
        /// Of a value in a warning, bytes.
        const SHOWN: usize = 60;
        if !line.complete {
            self.report.truncated = true;
            self.report.leave_out("line cut short at the end of the input");
            self.report.warn(format!("line {}: the input ends in the middle of it", line.number));
            return;
        }
        if !self.report.left_out.contains_key(bad.reason) {
            let shown = String::from_utf8_lossy(bad.value.get(..SHOWN).unwrap_or(bad.value));
            let dots = if bad.value.len() > SHOWN { "..." } else { "" };
            self.report.warn(format!("left out, first at line {}: {} (`{shown}{dots}`)", line.number, bad.reason));
        }
        self.report.leave_out(bad.reason);
    }

    /// Whether there is a line to read at all: too long ones and blank ones end here.
    pub(crate) fn readable(&mut self, line: &Line<'_>) -> bool {
        if line.too_long {
            self.report.read += 1;
            self.leave_out(line, Bad::new("line longer than 1 MiB", b""));
        }
        !line.too_long && !line.text.trim_ascii().is_empty()
    }
}

/// Hands every row of comma-separated values to `each`, with its line. Lines that are none are left out.
pub(crate) fn each_row(
    reader: &mut dyn BufRead,
    rows: &mut Rows<'_>,
    mut each: impl FnMut(&mut Rows<'_>, &Line<'_>, Fields<'_>) -> Result<(), Halt>,
) -> Result<(), Halt> {
    let mut cutter = Cutter::comma();
    each_line(reader, |line| {
        if !rows.readable(&line) {
            return Ok(());
        }
        match cutter.cut(line.text) {
            Ok(row) => each(rows, &line, row),
            Err(TooMany) => {
                rows.report.read += 1;
                rows.leave_out(&line, Bad::new("row with too many columns", line.text));
                Ok(())
            }
        }
    })
}

/// Strings that come again and again, each kept once. Beyond its bounds a string is still given, but not kept.
#[derive(Default)]
pub(crate) struct Names {
    kept: HashMap<Box<[u8]>, Arc<str>>,
    last: Option<(Box<[u8]>, Arc<str>)>,
}

impl Names {
    const MOST: usize = 4096;
    const LONGEST: usize = 256;

    /// `None` for an empty name. Bytes that are no UTF-8 become U+FFFD.
    pub(crate) fn get(&mut self, name: &[u8]) -> Option<Arc<str>> {
        if name.is_empty() {
            return None;
        }
        if let Some((bytes, last)) = &self.last
            && **bytes == *name
        {
            return Some(last.clone());
        }
        let known = self.kept.get(name).cloned();
        let arc = known.unwrap_or_else(|| String::from_utf8_lossy(name).into());
        if name.len() <= Self::LONGEST {
            self.last = Some((name.into(), arc.clone()));
            if self.kept.len() < Self::MOST {
                self.kept.entry(name.into()).or_insert_with(|| arc.clone());
            }
        }
        Some(arc)
    }
}

/// A record of another tool in which nothing is told yet.
pub(crate) fn blank() -> FlowRecord {
    crate::columns::blank().record
}

/// State by packets alone: who is not known to have closed or reset is said to be established where both sides spoke.
pub(crate) fn answered(fwd_packets: u64, bwd_packets: u64) -> FlowState {
    if fwd_packets > 0 && bwd_packets > 0 { FlowState::Established } else { FlowState::Unanswered }
}

/// The number of ICMP for the address family.
pub(crate) fn icmp(v4: bool) -> u8 {
    if v4 { ip_proto::ICMP } else { ip_proto::ICMPV6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_the_store_is_bounded() {
        let mut names = Names::default();
        let first = names.get(b"DoS").unwrap();
        names.get(b"BENIGN").unwrap();
        assert!(Arc::ptr_eq(&first, &names.get(b"DoS").unwrap()));
        for i in 0..Names::MOST * 2 {
            assert_eq!(&*names.get(format!("label {i}").as_bytes()).unwrap(), format!("label {i}"));
        }
        let long = vec![b'x'; 10_000];
        assert_eq!(names.get(&long).unwrap().len(), 10_000);
        assert_eq!(names.kept.len(), Names::MOST);
        assert_eq!(names.get(b""), None);
        assert_eq!(&*names.get(b"a\x96b").unwrap(), "a\u{fffd}b");
    }
}
