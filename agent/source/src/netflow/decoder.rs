//! Datagrams in, flows of exporters out.

use std::net::SocketAddr;
use std::sync::Arc;

use super::bytes::Bytes;
use super::exporters::{Domain, Exporter, Exporters};
use super::field::Field;
use super::record::{Clock, ExportedFlow, NoFlow, Raw};
use super::sampling::{Rate, Sampled};
use super::sequence::Sequence;
use super::template::{Builder, Kind, Refused, Template};
use super::waiting::{Waiting, Wanted};
use super::{Limits, Version, v5};

/// What a decoder has met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub datagrams: u64,
    /// Records that tell of flows, whether or not they were handed on.
    pub records: u64,
    /// Records that tell of the exporter itself: samplers, interfaces, applications.
    pub option_records: u64,
    /// Templates taken.
    pub templates: u64,
    /// Neither NetFlow v5 or v9 nor IPFIX.
    pub not_netflow: u64,
    /// Datagrams with a fault. What came before it was taken.
    pub malformed: u64,
    /// Templates refused: more fields than allowed, records without bytes, too many templates.
    pub templates_refused: u64,
    /// Sets of a kind that nothing is known of.
    pub unknown_sets: u64,
    /// Records left out, by reason.
    pub without_ip: u64,
    pub events: u64,
    pub empty: u64,
    /// Records of a sampler that no options record has described: handed on with their counts as they are.
    pub sampler_unknown: u64,
    /// Data sets that waited for their template, and were read when it came.
    pub sets_late: u64,
    /// The records in those.
    pub records_late: u64,
}

/// Decodes the datagrams of many exporters. Pure: time is an argument, and memory is bounded by its [`Limits`].
pub struct Decoder {
    limits: Limits,
    exporters: Exporters,
    waiting: Waiting,
    counts: Counts,
}

/// Bytes of an IPFIX message's header.
const IPFIX_HEADER: usize = 16;

/// A fault in a datagram: reading of it ends there.
struct Malformed;

/// What is at hand while one datagram is read.
struct Message<'d> {
    limits: &'d Limits,
    waiting: &'d mut Waiting,
    counts: &'d mut Counts,
    out: &'d mut Vec<ExportedFlow>,
    now_us: u64,
    tick: u64,
    version: Version,
    domain: u32,
    clock: Clock,
    /// Data records so far; `None` where some could not be counted.
    held: Option<u32>,
}

impl Decoder {
    pub fn new(limits: Limits) -> Self {
        Self { limits, exporters: Exporters::default(), waiting: Waiting::default(), counts: Counts::default() }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }
    /// Data sets given up because their template did not come, or too many waited.
    pub fn sets_dropped(&self) -> u64 {
        self.waiting.dropped
    }
    /// Bytes of memory that exporters and waiting sets take, by the decoder's own account.
    pub fn memory(&self) -> usize {
        self.exporters.memory() + self.waiting.memory()
    }
    pub fn exporters(&self) -> usize {
        self.exporters.len()
    }
    /// Templates that are known now.
    pub fn templates(&self) -> usize {
        self.exporters.templates()
    }
    /// Bytes of data sets that wait for their template.
    pub fn waiting(&self) -> usize {
        self.waiting.memory()
    }
    /// Exporters pushed out by others.
    pub fn exporters_forgotten(&self) -> u64 {
        self.exporters.forgotten
    }
    /// Of each exporter that lost anything: its address, flow records lost, datagrams lost (v9 numbers only those).
    pub fn losses(&self) -> impl Iterator<Item = (Option<&Arc<str>>, u64, u64)> {
        self.exporters
            .iter()
            .filter(|e| e.lost_records + e.lost_datagrams > 0)
            .map(|e| (e.name.as_ref(), e.lost_records, e.lost_datagrams))
    }

    /// Takes a datagram that came from `from` at `now_us`, and adds the flows in it to `out`. Faults are counted.
    pub fn datagram(&mut self, from: Option<SocketAddr>, now_us: u64, bytes: &[u8], out: &mut Vec<ExportedFlow>) {
        self.counts.datagrams += 1;
        self.waiting.expire(now_us, &self.limits);
        let Some(header) = Header::read(bytes) else {
            self.counts.not_netflow += 1;
            return;
        };
        let Self { limits, exporters, waiting, counts } = self;
        exporters.with(from, limits, |exporter, tick| {
            let clock = Clock { exported_us: header.exported_us, boot_us: None };
            let mut message = Message {
                limits,
                waiting,
                counts,
                out,
                now_us,
                tick,
                version: header.version,
                domain: header.domain,
                clock,
                held: Some(0),
            };
            if message.read(exporter, &header).is_err() {
                message.counts.malformed += 1;
            }
        });
    }

    /// The input has ended: what still waits for a template is given up.
    pub fn finish(&mut self) {
        self.waiting.give_up();
    }
}

/// What the three kinds of messages begin with.
pub(super) struct Header<'a> {
    pub version: Version,
    pub domain: u32,
    pub exported_us: u64,
    uptime_ms: u32,
    sequence: u32,
    /// v5 only.
    records: u16,
    rate: Option<Rate>,
    body: Bytes<'a>,
    /// The message says that it is longer than the datagram.
    cut: bool,
}

impl<'a> Header<'a> {
    /// `None` where this is no message of a known version.
    pub fn read(datagram: &'a [u8]) -> Option<Self> {
        let mut b = Bytes(datagram);
        let version = match b.u16()? {
            5 => Version::V5,
            9 => Version::V9,
            10 => Version::Ipfix,
            _ => return None,
        };
        let (mut records, mut rate, mut uptime_ms, mut nanos, mut cut) = (0, None, 0, 0, false);
        let length_or_count = b.u16()?;
        if version != Version::Ipfix {
            uptime_ms = b.u32()?;
        }
        let seconds = b.u32()?;
        if version == Version::V5 {
            nanos = b.u32()?;
        }
        let sequence = b.u32()?;
        let domain = match version {
            Version::V5 => {
                records = length_or_count;
                let engine = b.u16()?;
                // The upper two bits say how it samples, not how much.
                rate = Rate::one_in_n(u64::from(b.u16()? & 0x3fff));
                u32::from(engine)
            }
            Version::V9 | Version::Ipfix => b.u32()?,
        };
        if version == Version::Ipfix {
            let body = usize::from(length_or_count).checked_sub(IPFIX_HEADER)?;
            cut = body > b.len();
            b = Bytes(&b.0[..body.min(b.len())]);
        }
        let exported_us = u64::from(seconds) * 1_000_000 + u64::from(nanos.min(999_999_999) / 1000);
        Some(Self { version, domain, exported_us, uptime_ms, sequence, records, rate, body: b, cut })
    }
}

/// Whether bytes have the form of an export: the right version, and the lengths that follow from it. `cut`: they need not
/// be all that was sent.
pub(super) fn looks_like_export(datagram: &[u8], cut: bool) -> bool {
    let Some(header) = Header::read(datagram) else { return false };
    let mut body = header.body;
    match header.version {
        Version::V5 => {
            let records = usize::from(header.records);
            (1..=v5::MAX_RECORDS).contains(&header.records) && (cut || body.len() >= records * v5::RECORD)
        }
        Version::Ipfix => cut || (!header.cut && body.len() + IPFIX_HEADER == datagram.len()),
        Version::V9 => match (body.u16(), body.u16()) {
            (Some(0 | 1 | 256..), Some(len)) => len >= 4 && (cut || usize::from(len) <= body.len() + 4),
            _ => false,
        },
    }
}

impl Message<'_> {
    fn read(&mut self, exporter: &mut Exporter, header: &Header<'_>) -> Result<(), Malformed> {
        let domain = exporter.domain((self.version, self.domain), self.tick, self.limits);
        self.clock.boot_us = match self.version {
            Version::Ipfix => domain.told_boot_us(),
            Version::V5 | Version::V9 => {
                let exported = i64::try_from(header.exported_us).unwrap_or(i64::MAX);
                Some(domain.boot_us(exported.saturating_sub(i64::from(header.uptime_ms) * 1000)))
            }
        };
        let read = match self.version {
            Version::V5 => self.v5(exporter, header),
            Version::V9 | Version::Ipfix => self.sets(exporter, header),
        };
        let held = if self.version == Version::V9 { Some(1) } else { self.held.filter(|_| read.is_ok()) };
        self.number(exporter, header.sequence, held);
        read
    }

    fn number(&mut self, exporter: &mut Exporter, sequence: u32, held: Option<u32>) {
        let domain = exporter.domain((self.version, self.domain), self.tick, self.limits);
        let missing = match (&mut domain.sequence, held) {
            (Some(s), Some(held)) => s.take(sequence, held),
            (slot, held) => {
                *slot = held.map(|held| Sequence::new(sequence, held));
                0
            }
        };
        let lost = if self.version == Version::V9 { &mut exporter.lost_datagrams } else { &mut exporter.lost_records };
        *lost = lost.saturating_add_signed(missing);
    }

    fn v5(&mut self, exporter: &mut Exporter, header: &Header<'_>) -> Result<(), Malformed> {
        if !(1..=v5::MAX_RECORDS).contains(&header.records) {
            return Err(Malformed);
        }
        let rate = header.rate.unwrap_or(Rate::ALL);
        let mut body = header.body;
        for _ in 0..header.records {
            let raw = v5::record(&mut body, &self.clock).ok_or(Malformed)?;
            exporter.proved = true;
            self.flow(exporter.id, &exporter.name, &raw, rate);
        }
        Ok(())
    }

    fn sets(&mut self, exporter: &mut Exporter, header: &Header<'_>) -> Result<(), Malformed> {
        let mut body = header.body;
        while !body.is_empty() {
            // Some exporters fill their datagrams up with zeros.
            if body.0.iter().all(|&b| b == 0) {
                break;
            }
            let id = body.u16().ok_or(Malformed)?;
            let len = usize::from(body.u16().ok_or(Malformed)?).checked_sub(4).ok_or(Malformed)?;
            let set = Bytes(body.take(len).ok_or(Malformed)?);
            match (self.version, id) {
                (Version::V9, 0) | (Version::Ipfix, 2) => self.templates(exporter, set, Kind::Flows)?,
                (Version::V9, 1) | (Version::Ipfix, 3) => self.templates(exporter, set, Kind::Options)?,
                (_, 256..) => self.data(exporter, id, set),
                _ => self.counts.unknown_sets += 1,
            }
        }
        if header.cut { Err(Malformed) } else { Ok(()) }
    }

    fn templates(&mut self, exporter: &mut Exporter, mut set: Bytes<'_>, kind: Kind) -> Result<(), Malformed> {
        // What is shorter than a template's head is padding.
        while set.len() >= 4 {
            if set.0.iter().all(|&b| b == 0) {
                break;
            }
            let id = set.u16().ok_or(Malformed)?;
            let count = set.u16().ok_or(Malformed)?;
            if self.version == Version::Ipfix && count == 0 {
                self.withdraw(exporter, id, kind);
                continue;
            }
            // Fields of scope and in all. v9 gives options in bytes: of the scope, then of the rest.
            let (scope, fields) = match (kind, self.version) {
                (Kind::Flows, _) => (0, count),
                (Kind::Options, Version::Ipfix) => (set.u16().ok_or(Malformed)?, count),
                (Kind::Options, _) => {
                    let options = set.u16().ok_or(Malformed)?;
                    (count / 4, (count / 4).saturating_add(options / 4))
                }
            };
            if id < 256 || fields == 0 {
                return Err(Malformed);
            }
            let kept = usize::from(fields) <= self.limits.fields_per_template;
            let mut builder = Builder::new();
            for n in 0..fields {
                let (field, len) = self.field(&mut set, n < scope).ok_or(Malformed)?;
                if kept {
                    builder.field(len, field);
                }
            }
            let template = if kept { builder.build(kind, self.now_us) } else { Err(Refused::Fields) };
            match template {
                Ok(template) => self.keep(exporter, id, template),
                Err(_) => self.counts.templates_refused += 1,
            }
        }
        Ok(())
    }

    /// What a field means and how long it is.
    fn field(&self, set: &mut Bytes<'_>, scope: bool) -> Option<((Field, bool), u16)> {
        let (id, len) = (set.u16()?, set.u16()?);
        let field = match self.version {
            Version::Ipfix if id & 0x8000 != 0 => Field::of(set.u32()?, id & 0x7fff),
            // Scopes of v9 have numbers of their own: system, interface, line card, cache, template.
            Version::V9 if scope && id <= 5 => (Field::Skip, false),
            _ => Field::of(0, id),
        };
        Some((field, len))
    }

    fn withdraw(&mut self, exporter: &mut Exporter, id: u16, kind: Kind) {
        let domain = exporter.domain((self.version, self.domain), self.tick, self.limits);
        let (templates, mut freed, mut gone) = (&mut domain.templates, 0, 0);
        // RFC 7011, 8.1: a withdrawal of the set's own number withdraws all of that kind.
        templates.retain(|&known, t| {
            let goes = known == id || (id < 256 && t.kind == kind);
            if goes {
                (freed, gone) = (freed + t.cost(), gone + 1);
            }
            !goes
        });
        exporter.templates = exporter.templates.saturating_sub(gone);
        exporter.charge(0, freed);
    }

    fn keep(&mut self, exporter: &mut Exporter, id: u16, template: Template) {
        let (limits, now_us) = (self.limits, self.now_us);
        if exporter.templates >= limits.templates_per_exporter {
            exporter.expire_templates(now_us, limits);
        }
        let full = exporter.templates >= limits.templates_per_exporter;
        let domain = exporter.domain((self.version, self.domain), self.tick, limits);
        if full && !domain.templates.contains_key(&id) {
            self.counts.templates_refused += 1;
            return;
        }
        self.counts.templates += 1;
        let (more, mut less, mut grown) = (template.cost(), 0, 1);
        if let Some(old) = domain.templates.insert(id, template) {
            (less, grown) = (old.cost(), 0);
        }
        exporter.templates += grown;
        exporter.charge(more, less);

        let wanted = Wanted { exporter: exporter.id, version: self.version, domain: self.domain, template: id };
        let clock = self.clock;
        for set in self.waiting.take(wanted) {
            self.counts.sets_late += 1;
            self.clock = set.clock;
            // They were numbered when they came.
            let (held, before) = (self.held, self.counts.records + self.counts.option_records);
            self.data(exporter, id, Bytes(&set.bytes));
            self.held = held;
            self.counts.records_late += self.counts.records + self.counts.option_records - before;
        }
        self.clock = clock;
    }

    fn data(&mut self, exporter: &mut Exporter, id: u16, mut set: Bytes<'_>) {
        let (exporter_id, name) = (exporter.id, exporter.name.clone());
        let (version, limits, now_us) = (self.version, self.limits, self.now_us);
        let (mut learnt, mut proved) = (0, false);
        let domain = exporter.domain((version, self.domain), self.tick, limits);
        let Domain { templates, samplers, .. } = &mut *domain;
        let known = templates.get(&id);
        let Some(template) = known.filter(|t| now_us.saturating_sub(t.announced_us) < limits.template_lifetime_us)
        else {
            self.held = None;
            let wanted = Wanted { exporter: exporter_id, version, domain: self.domain, template: id };
            self.waiting.push(wanted, self.clock, set.0, now_us, limits);
            return;
        };
        let mut boot = None;
        while set.len() >= template.min_len() {
            let mut raw = Raw::default();
            let clock = &self.clock;
            if !template.record(&mut set, |field, reverse, bytes| raw.set(field, reverse, bytes, clock)) {
                // A field of variable length that reaches beyond the set.
                if set.0.iter().any(|&b| b != 0) {
                    self.counts.malformed += 1;
                }
                break;
            }
            self.held = self.held.map(|n| n.saturating_add(1));
            proved = true;
            match template.kind {
                Kind::Options => {
                    self.counts.option_records += 1;
                    learnt += usize::from(samplers.learn(&raw.sampler));
                    boot = raw.system_init_us().or(boot);
                    if version == Version::Ipfix
                        && let Some(us) = boot
                    {
                        self.clock.boot_us = i64::try_from(us).ok();
                    }
                }
                Kind::Flows => {
                    let rate = match samplers.of(&raw.sampler) {
                        Sampled::Known(rate) => rate,
                        Sampled::Unknown => {
                            self.counts.sampler_unknown += 1;
                            Rate::ALL
                        }
                    };
                    self.flow(exporter_id, &name, &raw, rate);
                }
            }
        }
        if version == Version::Ipfix
            && let Some(us) = boot
        {
            domain.tell_boot_us(us);
        }
        exporter.proved |= proved;
        exporter.charge(learnt * 2 * size_of::<(u64, Rate)>(), 0);
    }

    fn flow(&mut self, exporter: u32, name: &Option<Arc<str>>, raw: &Raw, rate: Rate) {
        self.counts.records += 1;
        if self.version == Version::V5 {
            self.held = self.held.map(|n| n.saturating_add(1));
        }
        match raw.finish(&self.clock, rate, exporter, name) {
            Ok(flow) => self.out.push(flow),
            Err(NoFlow::NoIp) => self.counts.without_ip += 1,
            Err(NoFlow::Event) => self.counts.events += 1,
            Err(NoFlow::Empty) => self.counts.empty += 1,
        }
    }
}
