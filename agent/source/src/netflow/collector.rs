//! Datagrams in, flow records out.

use std::net::SocketAddr;

use weir_core::home::Home;

use super::Limits;
use super::clocks::{Clocks, Settler};
use super::decoder::{Counts, Decoder};
use super::observe::observe;
use super::pair::{Paired, Pairer};
use super::record::ExportedFlow;
use crate::report::Report;
use crate::sink::Observation;

/// A whole collector but for its socket: pure, with time as an argument and memory within [`Limits`].
pub struct Collector {
    decoder: Decoder,
    pairer: Pairer,
    home: Home,
    /// Set where `now_us` is the time of day.
    clocks: Option<Settler>,
    decoded: Vec<ExportedFlow>,
    paired: Vec<Paired>,
}

impl Collector {
    pub fn new(limits: Limits, home: Home) -> Self {
        let pairer = Pairer::new(&limits);
        Self { decoder: Decoder::new(limits), pairer, home, clocks: None, decoded: Vec::new(), paired: Vec::new() }
    }

    /// A collector of what comes right now: `now_us` is the time of day, and exporters' clocks are held against it. Times
    /// of its flows are never later than 5 minutes ahead, nor more than 31 days back.
    pub fn live(limits: Limits, home: Home) -> Self {
        Self { clocks: Some(Settler::default()), ..Self::new(limits, home) }
    }

    /// Takes a datagram that came from `from` (`None`: nobody knows) at `now_us`, and adds to `out` the flows that are
    /// complete by now. `now_us` must not go back by much; its zero is free.
    pub fn ingest(&mut self, datagram: &[u8], from: Option<SocketAddr>, now_us: u64, out: &mut Vec<Observation>) {
        self.decoder.datagram(from, now_us, datagram, &mut self.decoded);
        for mut flow in self.decoded.drain(..) {
            if let Some(clocks) = &mut self.clocks {
                clocks.settle(&mut flow, now_us);
            }
            self.pairer.push(flow, now_us, &mut self.paired);
        }
        self.flush(now_us, out);
    }

    /// Adds to `out` the flows whose other direction has had its time to come: to be called now and then while no
    /// datagrams arrive.
    pub fn flush(&mut self, now_us: u64, out: &mut Vec<Observation>) {
        self.pairer.expire(now_us, &mut self.paired);
        self.hand_on(out);
    }

    /// The input has ended: everything that waits comes out.
    pub fn finish(&mut self, out: &mut Vec<Observation>) {
        self.decoder.finish();
        self.pairer.finish(&mut self.paired);
        self.hand_on(out);
    }

    fn hand_on(&mut self, out: &mut Vec<Observation>) {
        out.extend(self.paired.drain(..).map(|p| observe(p, &self.home)));
    }

    /// Replaces the protected networks, from the next flow on.
    pub fn set_home(&mut self, home: Home) {
        self.home = home;
    }
    pub fn counts(&self) -> Counts {
        self.decoder.counts()
    }
    /// What was done about exporters' clocks; nothing but for [`Collector::live`].
    pub fn clocks(&self) -> Clocks {
        self.clocks.as_ref().map(|s| s.counts).unwrap_or_default()
    }
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }
    pub fn pairer(&self) -> &Pairer {
        &self.pairer
    }
    /// Bytes of memory that lasts from datagram to datagram, by its own account.
    pub fn memory(&self) -> usize {
        self.decoder.memory() + self.pairer.memory()
    }

    /// What was left out so far, by reason in words; reasons that did not occur are 0.
    pub fn left_out(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let c = self.counts();
        [
            ("neither NetFlow v5, v9 nor IPFIX", c.not_netflow),
            ("rest of a malformed datagram", c.malformed),
            ("template of too many fields, without bytes, or too many of them", c.templates_refused),
            ("set of unknown kind", c.unknown_sets),
            ("record about the exporter itself", c.option_records),
            ("record without IP addresses", c.without_ip),
            ("event without counts", c.events),
            ("record of no packets", c.empty),
            ("data set whose template did not come", self.decoder.sets_dropped()),
        ]
        .into_iter()
    }

    /// Adds what was left out, and what a person should know. To be called once, at the end.
    pub fn report(&self, report: &mut Report) {
        for (reason, n) in self.left_out().filter(|(_, n)| *n > 0) {
            *report.left_out.entry(reason).or_default() += n;
        }
        for (exporter, records, datagrams) in self.decoder.losses() {
            let who = exporter.map_or("the exporter", |name| &**name);
            if records > 0 {
                report.warn(format!("{who}: {records} flow records were lost on the way, by its own numbering"));
            }
            if datagrams > 0 {
                report.warn(format!("{who}: {datagrams} datagrams were lost on the way, by its own numbering"));
            }
        }
        let unknown = self.counts().sampler_unknown;
        if unknown > 0 {
            report.warn(format!(
                "{unknown} records name a sampler that no options record describes: counted as they are"
            ));
        }
        if self.decoder.exporters_forgotten() > 0 {
            let n = self.decoder.exporters_forgotten();
            report.warn(format!("{n} exporters were forgotten to make room for others: too many addresses send"));
        }
        if self.pairer.crowded_out > 0 {
            let n = self.pairer.crowded_out;
            report.warn(format!("{n} flows did not wait for their other direction, because too many waited"));
        }
    }
}
