//! What a scrape asks of the event loop, and the samples that it becomes.

use std::time::Duration;

use weir_common::counters::Reason;
use weir_core::drift::{DriftReport, DriftState, Place};
use weir_core::event::Mode;
use weir_core::profile::ProfileId;

use super::histogram::{Histogram, PValues};
use super::process::Process;
use super::samples::Samples;
use super::table as t;
use super::tally::{ACTIONS, Counted, ORIGINS};
use crate::command::{InterfaceReport, NamedCount, StatusReport, XdpMode};

/// A sink as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkUse {
    /// As the configuration names it; the event log is `log:events`.
    pub name: String,
    pub queued: u64,
    /// How full its queue is, 0 to 1.
    pub fill: f64,
    pub lost: u64,
    /// `None` for the event log, which goes to a file here.
    pub delivery: Option<Delivery>,
}

/// How deliveries to others go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub delivered: u64,
    pub retried: u64,
    /// The last attempt failed.
    pub failing: bool,
}

/// What was done to entries in the kernel since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    pub written: u64,
    pub removed: u64,
    /// Others had changed them.
    pub drift: u64,
    pub failures: u64,
}

/// How often programs were attached since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachments {
    pub attached: u64,
    pub again: u64,
    pub let_go: u64,
    /// By cause, those included that never were.
    pub failed: Vec<(&'static str, u64)>,
}

/// The agent as it stands, in plain values: what it shows in its status, and what is only measured.
#[derive(Debug)]
pub struct Reading {
    pub status: StatusReport,
    /// The interface, where it is one for good.
    pub sole: Option<String>,
    /// `None`: no interface is to be watched.
    pub attachments: Option<Attachments>,
    pub counted: Counted,
    pub drained_flows: u64,
    pub epochs_failed: u64,
    pub flows_capacity: u64,
    pub drain: Histogram,
    pub epoch: Histogram,
    pub features: Histogram,
    pub scoring: Histogram,
    pub policy: Histogram,
    pub p_values: PValues,
    pub drift: DriftReport,
    /// Everything that is counted as lost, whether any was or not.
    pub lost: Vec<NamedCount>,
    pub store_lost: Vec<NamedCount>,
    pub store_queue: u64,
    pub sinks: Vec<SinkUse>,
    pub watchers: u64,
    pub entries: Entries,
    /// In the kernel: block, allow; `None`: there is no interface.
    pub kernel_entries: Option<[u64; 2]>,
    pub lease: Option<(Duration, Duration)>,
    pub questions_open: u64,
    pub breaker_tripped: bool,
    pub alert_budget_per_day: f64,
    /// Of the last day: alerts, and those that people called false.
    pub alerts_last_day: [u64; 2],
}

/// Packets of which verdict and counting are told by this reason alone, and what became of them. Other reasons are about packets
/// that one of these has counted.
pub fn verdict(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::InPass
        | Reason::OutPass
        | Reason::InOverflow
        | Reason::OutOverflow
        | Reason::InNotIp
        | Reason::OutNotIp
        | Reason::InMalformed
        | Reason::OutMalformed => Some("pass"),
        Reason::InDropped | Reason::OutDropped => Some("drop"),
        Reason::InLimited | Reason::OutLimited => Some("limit"),
        Reason::InAllowed
        | Reason::OutAllowed
        | Reason::InContended
        | Reason::OutContended
        | Reason::InLapsed
        | Reason::OutLapsed
        | Reason::InShadowed
        | Reason::OutShadowed
        | Reason::InExempt
        | Reason::OutExempt
        | Reason::InAddressOnly
        | Reason::OutAddressOnly => None,
    }
}

/// A loss's words as a label: "events not written to the log" is `events_not_written_to_the_log`.
fn label(words: &str) -> String {
    let mut name = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_lowercase()),
            _ if !name.ends_with('_') => name.push('_'),
            _ => {}
        }
    }
    name.trim_matches('_').to_owned()
}

impl Reading {
    /// With what the process itself takes, and the calls of the API so far.
    pub(super) fn samples(&self, process: &Process, calls: &[(&'static str, &'static str, u64)]) -> Samples {
        let mut s = Samples::new();
        self.agent(&mut s);
        self.packets(&mut s);
        self.interfaces(&mut s);
        self.epochs(&mut s);
        self.scores(&mut s);
        self.decisions(&mut s);
        self.records(&mut s);
        for (call, outcome, n) in calls {
            s.put(&t::API_CALLS, [call, outcome], *n);
        }
        s.put_some(&t::CPU, process.cpu_seconds);
        s.put_some(&t::RESIDENT, process.resident_bytes);
        s.put_some(&t::VIRTUAL, process.virtual_bytes);
        s.put_some(&t::FDS, process.open_fds);
        s.put_some(&t::MAX_FDS, process.max_fds);
        s.put_some(&t::THREADS, process.threads);
        s.put_some(&t::STARTED, process.start_seconds);
        let left_out = s.left_out();
        s.put(&t::LEFT_OUT, [], left_out);
        s
    }

    fn agent(&self, s: &mut Samples) {
        let status = &self.status;
        s.put(&t::BUILD, [&status.version, &weir_common::ABI_VERSION.to_string()], 1u64);
        for (kind, mode) in [("configured", status.mode_configured), ("effective", status.mode_effective)] {
            for m in [Mode::Observe, Mode::Shadow, Mode::Review, Mode::Enforce] {
                s.put(&t::MODE, [kind, m.name()], m == mode);
            }
        }
        s.put(&t::WARNINGS, [], status.warnings.len());
        if let Some(b) = &status.bundle {
            s.put(&t::BUNDLE, ["serving", &b.id, &b.hash], 1u64);
            s.put(&t::BUNDLE_CREATED, [], b.created_us as f64 / 1e6);
        }
        if let Some(c) = &status.challenger {
            s.put(&t::BUNDLE, ["challenger", &c.id, ""], 1u64);
        }
        s.put(&t::BUNDLE_PROMOTED, [], status.bundle.as_ref().is_some_and(|b| b.promoted));
        s.put(&t::LEARNING, [], status.learning.is_some());
    }

    fn packets(&self, s: &mut Samples) {
        let interface = self.sole.as_deref().unwrap_or("all");
        for counter in &self.status.counters {
            let Some(reason) = Reason::ALL.iter().find(|r| r.name() == counter.name) else { continue };
            let reason = (*reason, reason.name());
            match verdict(reason.0) {
                Some(verdict) => {
                    s.put(&t::PACKETS, [interface, verdict, reason.1], counter.packets);
                    s.put(&t::BYTES, [interface, verdict, reason.1], counter.bytes);
                }
                None => {
                    s.put(&t::MARKED_PACKETS, [interface, reason.1], counter.packets);
                    s.put(&t::MARKED_BYTES, [interface, reason.1], counter.bytes);
                }
            }
        }
    }

    fn interfaces(&self, s: &mut Samples) {
        let mut all: Vec<&InterfaceReport> = self.status.interfaces.iter().collect();
        // Where not all have a place, those that want looking at have.
        all.sort_by_key(|i| i.protected);
        let mut named = std::collections::BTreeSet::new();
        let count = |of: fn(&&&InterfaceReport) -> bool| all.iter().filter(of).count();
        s.put(&t::INTERFACE_COUNT, ["protected"], count(|i| i.protected));
        s.put(&t::INTERFACE_COUNT, ["unprotected"], count(|i| !i.protected && i.ifindex != 0));
        s.put(&t::INTERFACE_COUNT, ["missing"], count(|i| i.ifindex == 0));
        // A name may have gone from one to another while they were read.
        for i in all.into_iter().filter(|i| named.insert(i.name.as_str())).take(t::INTERFACES) {
            let name = i.name.as_str();
            s.put(&t::INTERFACE_UP, [name], i.protected);
            if let Some(mode) = i.xdp_mode {
                s.put(&t::XDP_MODE, [name, "native"], mode == XdpMode::Native);
                s.put(&t::XDP_MODE, [name, "generic"], mode == XdpMode::Generic);
            }
            let verdicts = [("pass", i.packets_passed), ("drop", i.packets_dropped), ("limit", i.packets_limited)];
            for (verdict, packets) in verdicts {
                s.put(&t::INTERFACE_PACKETS, [name, verdict], packets);
            }
        }
        if let Some(a) = &self.attachments {
            s.put(&t::ATTACHED, [], a.attached);
            s.put(&t::ATTACHED_AGAIN, [], a.again);
            s.put(&t::LET_GO, [], a.let_go);
            for (cause, n) in &a.failed {
                s.put(&t::ATTACH_FAILED, [cause], *n);
            }
        }
        s.put(&t::SEEN_TWICE_PACKETS, [], self.status.seen_twice.packets);
        s.put(&t::SEEN_TWICE_BYTES, [], self.status.seen_twice.bytes);
    }

    fn epochs(&self, s: &mut Samples) {
        let status = &self.status;
        s.put(&t::FLOWS, [], status.flows_live);
        s.put(&t::FLOWS_CAPACITY, [], self.flows_capacity);
        for m in &status.maps {
            s.put(&t::MAP_ENTRIES, [&m.name], m.entries);
            s.put(&t::MAP_CAPACITY, [&m.name], m.max_entries);
            s.put(&t::MAP_BYTES, [&m.name], m.bytes);
        }
        s.put(&t::EPOCHS, [], status.epochs);
        s.put(&t::EPOCHS_FAILED, [], self.epochs_failed);
        s.put(&t::DRAINED, [], self.drained_flows);
        s.put(&t::DRAIN, [], &self.drain);
        s.put(&t::EPOCH, [], &self.epoch);
        for l in &self.lost {
            s.put(&t::LOST, [&label(&l.name)], l.count);
        }
    }

    fn scores(&self, s: &mut Samples) {
        s.put(&t::FEATURES, [], &self.features);
        s.put(&t::SCORING, [], &self.scoring);
        s.put(&t::POLICY, [], &self.policy);
        for profile in [ProfileId::Core, ProfileId::Source] {
            s.put(&t::SCORED, [profile.name()], self.p_values.rows(profile));
        }
        for (profile, role, p_values) in self.p_values.iter() {
            s.put(&t::P_VALUE, [profile.name(), &role.to_string()], p_values);
        }
        for r in &self.drift.roles {
            let Place { profile, role } = r.place;
            let (profile, role) = (profile.name(), role.to_string());
            s.put(&t::DRIFT_EFFECT, [profile, &role], r.effect);
            s.put(&t::DRIFT_VOTERS, [profile, &role], r.voters);
            s.put(&t::DRIFTED, [profile, &role], r.state == DriftState::Bad);
            // Few sources say nothing, and a share of them less.
            if r.state != DriftState::Unknown {
                s.put(&t::FALSE_ALARM, [profile, &role], r.at_5_percent);
            }
        }
        s.put(&t::BUDGET, [], self.alert_budget_per_day);
        s.put(&t::ALERTS_DAY, [], self.alerts_last_day[0]);
        s.put(&t::FALSE_DAY, [], self.alerts_last_day[1]);
    }

    fn decisions(&self, s: &mut Samples) {
        let counted = &self.counted;
        for (kind, n) in &counted.kinds {
            s.put(&t::EVENTS, [kind], *n);
        }
        for (severity, n) in &counted.alerts {
            s.put(&t::ALERTS, [severity], *n);
        }
        for (labels, n) in &counted.decisions {
            s.put(&t::DECISIONS, *labels, *n);
        }
        for (change, n) in &counted.questions {
            s.put(&t::QUESTIONS_COUNT, [change], *n);
        }
        s.put(&t::QUESTIONS_OPEN, [], self.questions_open);
        s.put(&t::BREAKER, [], self.breaker_tripped);
        for (origin, o) in ORIGINS {
            for (action, a) in ACTIONS {
                let here = self.status.decisions.iter().filter(|d| (d.origin, d.action) == (origin, action));
                s.put(&t::ENTRIES, [o, a], here.map(|d| d.count).sum::<u64>());
            }
        }
        if let Some([block, allow]) = self.kernel_entries {
            s.put(&t::KERNEL_ENTRIES, ["block"], block);
            s.put(&t::KERNEL_ENTRIES, ["allow"], allow);
            s.put(&t::WRITTEN, ["written"], self.entries.written);
            s.put(&t::WRITTEN, ["removed"], self.entries.removed);
            s.put(&t::RECONCILE_FAILED, [], self.entries.failures);
            s.put(&t::DRIFT, [], self.entries.drift);
        }
        if let Some((age, timeout)) = self.lease {
            s.put(&t::LEASE_AGE, [], age.as_secs_f64());
            s.put(&t::LEASE_TIMEOUT, [], timeout.as_secs_f64());
        }
    }

    fn records(&self, s: &mut Samples) {
        for sink in &self.sinks {
            s.put(&t::SINK_QUEUE, [&sink.name], sink.queued);
            s.put(&t::SINK_FILL, [&sink.name], sink.fill);
            if let Some(d) = &sink.delivery {
                s.put(&t::SINK_DELIVERED, [&sink.name], d.delivered);
                s.put(&t::SINK_RETRIED, [&sink.name], d.retried);
                s.put(&t::SINK_FAILING, [&sink.name], u64::from(d.failing));
            }
            s.put(&t::SINK_LOST, [&sink.name], sink.lost);
        }
        s.put(&t::STORE_QUEUE, [], self.store_queue);
        for l in &self.store_lost {
            s.put(&t::STORE_LOST, [&label(&l.name)], l.count);
        }
        s.put(&t::WATCHERS, [], self.watchers);
        if let Some(record) = &self.status.record {
            s.put(&t::RECORD_BYTES, [], record.bytes);
            s.put(&t::RECORD_FLOWS, [], record.flows);
        }
        if let Some(n) = &self.status.netflow {
            s.put(&t::NETFLOW_DATAGRAMS, [], n.datagrams);
            s.put(&t::NETFLOW_RECORDS, [], n.records);
            s.put(&t::NETFLOW_FLOWS, [], n.flows);
            s.put(&t::NETFLOW_UNSCORED, [], n.unscored);
            s.put(&t::NETFLOW_EXPORTERS, [], n.exporters);
            for l in &n.dropped {
                s.put(&t::NETFLOW_LOST, [&label(&l.name)], l.count);
            }
        }
    }
}
