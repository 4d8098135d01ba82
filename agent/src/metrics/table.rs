//! Every metric: its name, type, labels and meaning, and how many series it may have.

use weir_common::counters::Reason;
use weir_core::event::Severity;
use weir_core::profile::ProfileId;

use super::histogram::{P_VALUES, SECONDS};
use super::tally::{ACTIONS, CALLS, CHANGES, CallOutcome, KINDS, ORIGINS, QUESTIONS};
use crate::config::MODES;
use crate::fleet::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram(usize),
    /// What there is to say stands in the labels; the value is 1.
    Info,
}

#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// Combinations of labels, at most.
    pub most: usize,
    pub help: &'static str,
}

impl Metric {
    /// Series at most: a histogram has one for each bound, one for all, a sum and a count.
    pub const fn series(&self) -> usize {
        match self.kind {
            Kind::Histogram(bounds) => self.most * (bounds + 3),
            _ => self.most,
        }
    }
}

macro_rules! metrics {
    ($($id:ident: $kind:expr, $name:literal [$($label:literal),*] $most:expr, $help:literal;)+) => {
        $(pub static $id: Metric =
            Metric { name: $name, kind: $kind, labels: &[$($label),*], most: $most, help: $help };)+
        /// In the order in which they are served.
        pub static ALL: &[&Metric] = &[$(&$id),+];
    };
}

use Kind::{Counter, Gauge, Info};

const TIMES: Kind = Kind::Histogram(SECONDS.len());
const REASONS: usize = Reason::ALL.len();
/// Roles of flows, and those of source windows with what both fall back to.
pub const PLACES: usize = 77 + 3;
const PROFILES: usize = ProfileId::ALL.len();
/// Names of losses: they are the program's own words.
pub const LOSSES: usize = 40;
/// Sinks that are told apart.
pub const SINKS: usize = 33;
/// Interfaces that are told apart, by name.
pub const INTERFACES: usize = 12;
/// What becomes of packets.
const VERDICTS: usize = 3;
/// Kernel maps that are told apart.
const MAPS: usize = 8;

metrics! {
    BUILD: Info, "weir_build_info" ["version", "abi"] 1, "The program's version, and that of its side of the kernel maps.";
    MODE: Gauge, "weir_mode" ["kind", "mode"] 2 * MODES.len(), "1 for the mode that is configured, and for the one that is in force.";
    WARNINGS: Gauge, "weir_warnings" [] 1, "Warnings in `weir status`.";
    XDP_MODE: Gauge, "weir_xdp_mode" ["interface", "mode"] 2 * INTERFACES, "1 for how the XDP program is attached: native, or generic (slower, and behind GRO).";
    INTERFACE_UP: Gauge, "weir_interface_up" ["interface"] INTERFACES, "1 where the programs are on an interface; 0 where they are to be and are not: it is not protected. Those come first where there are more than can be told apart.";
    INTERFACE_COUNT: Gauge, "weir_interfaces" ["state"] 3, "Interfaces that are to be watched, all of them: protected, unprotected, or missing (named, and not there).";
    INTERFACE_PACKETS: Counter, "weir_interface_packets_total" ["interface", "verdict"] VERDICTS * INTERFACES, "Packets at an interface by what became of them. A forwarded packet is seen at two.";
    ATTACHED: Counter, "weir_interface_attachments_total" [] 1, "Interfaces that were attached to.";
    ATTACHED_AGAIN: Counter, "weir_interface_reattachments_total" [] 1, "Times that programs were attached again because somebody had taken them off.";
    LET_GO: Counter, "weir_interface_departures_total" [] 1, "Interfaces that are gone: deleted, moved to another network namespace, or left out by their new name.";
    ATTACH_FAILED: Counter, "weir_interface_attach_failures_total" ["cause"] Failure::ALL.len(), "Attempts to attach that failed. It is tried again.";
    SEEN_TWICE_PACKETS: Counter, "weir_seen_twice_packets_total" [] 1, "Packets that an interface counted which another had counted: flows leave them out.";
    SEEN_TWICE_BYTES: Counter, "weir_seen_twice_bytes_total" [] 1, "The same, in bytes of the IP layer.";

    PACKETS: Counter, "weir_packets_total" ["interface", "verdict", "reason"] REASONS, "Packets by what became of them. Each packet counts once: `sum` over all is every packet seen. Of several interfaces, `interface` is `all`, and a forwarded packet counts where it comes in and where it goes out.";
    BYTES: Counter, "weir_bytes_total" ["interface", "verdict", "reason"] REASONS, "The same, in bytes of the IP layer (of the frame, where it is not IP).";
    MARKED_PACKETS: Counter, "weir_marked_packets_total" ["interface", "reason"] REASONS, "Packets of `weir_packets_total` about which there is more to say: allowed, shadowed, exempt, lapsed, contended, address_only.";
    MARKED_BYTES: Counter, "weir_marked_bytes_total" ["interface", "reason"] REASONS, "The same, in bytes.";

    FLOWS: Gauge, "weir_flow_table_flows" [] 1, "Flows that are alive.";
    FLOWS_CAPACITY: Gauge, "weir_flow_table_capacity" [] 1, "Flows that may be alive; beyond that the oldest end early, and are counted as lost.";
    MAP_ENTRIES: Gauge, "weir_kernel_map_entries" ["map"] MAPS, "Entries of a kernel map; of flow maps, in the last epoch.";
    MAP_CAPACITY: Gauge, "weir_kernel_map_capacity" ["map"] MAPS, "Entries that it has room for. Packets of flows beyond it have the reasons in_overflow and out_overflow.";
    MAP_BYTES: Gauge, "weir_kernel_map_bytes" ["map"] MAPS, "Memory of it and of what belongs to it.";
    EPOCHS: Counter, "weir_epochs_total" [] 1, "Epochs that were drained.";
    EPOCHS_FAILED: Counter, "weir_epochs_failed_total" [] 1, "Epochs that could not be read from the kernel.";
    DRAINED: Counter, "weir_drained_flows_total" [] 1, "Flow records read from the kernel, one for each flow and epoch.";
    DRAIN: TIMES, "weir_drain_seconds" [] 1, "How long the kernel's counts took to swap and read, by epoch.";
    EPOCH: TIMES, "weir_epoch_seconds" [] 1, "How long the event loop took for an epoch, all in all.";
    LOST: Counter, "weir_lost_total" ["what"] LOSSES, "What was lost, or left out to stay within bounds, by what it was.";

    FEATURES: TIMES, "weir_features_seconds" [] 1, "How long features took, by epoch with rows.";
    SCORING: TIMES, "weir_scoring_seconds" [] 1, "How long scoring and explaining took, by epoch with rows.";
    POLICY: TIMES, "weir_policy_seconds" [] 1, "How long evidence, drift and policy took, by epoch with rows.";
    SCORED: Counter, "weir_scored_rows_total" ["profile"] PROFILES, "Rows that were scored: flows by profile core, windows of sources by profile source.";
    P_VALUE: Kind::Histogram(P_VALUES.len()), "weir_p_value" ["profile", "role"] PLACES, "P-values of everything scored, attacks among it. Of benign traffic, a share of at most p lies at or below p.";
    DRIFT_EFFECT: Gauge, "weir_drift_effect_ratio" ["profile", "role"] PLACES, "By how much more sources than expected lie at small p-values, 0 to 1; each source has one vote.";
    DRIFT_VOTERS: Gauge, "weir_drift_voters" ["profile", "role"] PLACES, "Sources that voted; fewer than 10 say nothing.";
    DRIFTED: Gauge, "weir_drifted" ["profile", "role"] PLACES, "1: what is normal has drifted, and no new automatic drops rest on this role.";
    FALSE_ALARM: Gauge, "weir_false_alarm_ratio" ["profile", "role"] PLACES, "Realised false-alarm rate: share of the voting sources, against whom there is no evidence, with a p-value of at most 5%. 0.05 was asked for.";
    BUDGET: Gauge, "weir_alert_budget_per_day" [] 1, "False alerts a day that were asked for.";
    ALERTS_DAY: Gauge, "weir_alerts_last_day" [] 1, "Alerts of the last 24 hours, of the last 1000.";
    FALSE_DAY: Gauge, "weir_false_alarms_last_day" [] 1, "Of these, those that a person has called a false alarm.";

    EVENTS: Counter, "weir_events_total" ["kind"] KINDS.len(), "Events of the agent, as the log and `weir watch` have them.";
    ALERTS: Counter, "weir_alerts_total" ["severity"] Severity::NAMES.len(), "Alerts.";
    DECISIONS: Counter, "weir_decisions_total" ["change", "origin", "action"] CHANGES.len() * ORIGINS.len() * ACTIONS.len(), "What happened to decisions. Members of lists come and go without.";
    QUESTIONS_COUNT: Counter, "weir_questions_total" ["change"] QUESTIONS.len(), "Questions to people, and what became of them.";
    QUESTIONS_OPEN: Gauge, "weir_questions_open" [] 1, "Questions that wait for an answer.";
    BREAKER: Gauge, "weir_breaker_tripped" [] 1, "1: there were so many automatic decisions that they are shadow entries for now.";

    ENTRIES: Gauge, "weir_entries" ["origin", "action"] ORIGINS.len() * ACTIONS.len(), "What is wanted of the kernel: decisions, and members of lists.";
    KERNEL_ENTRIES: Gauge, "weir_kernel_entries" ["list"] 2, "Entries in the kernel, by list: block, allow.";
    WRITTEN: Counter, "weir_reconciled_entries_total" ["change"] 2, "Entries that were written to the kernel, and taken out.";
    RECONCILE_FAILED: Counter, "weir_reconcile_failures_total" [] 1, "Times that entries could not be written or read back.";
    DRIFT: Counter, "weir_reconcile_drift_total" [] 1, "Entries that were not in the kernel as they had been written: somebody else changed them. They were repaired.";
    LEASE_AGE: Gauge, "weir_lease_age_seconds" [] 1, "Since the agent's last sign of life to the kernel programs.";
    LEASE_TIMEOUT: Gauge, "weir_lease_timeout_seconds" [] 1, "Silence after which entries do as `lease.lapse` says.";

    SINK_QUEUE: Gauge, "weir_sink_queue" ["sink"] SINKS, "Events that wait to be written.";
    SINK_FILL: Gauge, "weir_sink_queue_fill_ratio" ["sink"] SINKS, "How full its queue is, 0 to 1.";
    SINK_DELIVERED: Counter, "weir_sink_delivered_total" ["sink"] SINKS, "Events that their receiver has.";
    SINK_RETRIED: Counter, "weir_sink_retried_total" ["sink"] SINKS, "Attempts that failed and were made again.";
    SINK_FAILING: Gauge, "weir_sink_failing" ["sink"] SINKS, "1: the last attempt failed.";
    SINK_LOST: Counter, "weir_sink_lost_total" ["sink"] SINKS, "Events that were not written.";
    STORE_QUEUE: Gauge, "weir_store_queue" [] 1, "Rows of alerts, evidence, history and audit that wait for the disk.";
    STORE_LOST: Counter, "weir_store_lost_total" ["what"] LOSSES, "Rows that the store had no room for, or the disk did not take.";
    WATCHERS: Gauge, "weir_watchers" [] 1, "Who follows events.";
    RECORD_BYTES: Gauge, "weir_record_bytes" [] 1, "The record of flows on disk.";
    RECORD_FLOWS: Gauge, "weir_record_flows" [] 1, "Flows in it.";

    API_CALLS: Counter, "weir_api_calls_total" ["call", "outcome"] CALLS * CallOutcome::ALL.len(), "Calls of the API that have ended. Refused: by what the caller is or asked for; failed: by the agent.";

    BUNDLE: Info, "weir_bundle_info" ["use", "id", "hash"] 2, "The bundle that serves, and the one that challenges it.";
    BUNDLE_PROMOTED: Gauge, "weir_bundle_promoted" [] 1, "1: a person has promoted the bundle that serves, so that it may lead to drops.";
    BUNDLE_CREATED: Gauge, "weir_bundle_created_seconds" [] 1, "When the bundle that serves was made, seconds since 1970.";
    LEARNING: Gauge, "weir_learning" [] 1, "1 while the agent learns.";

    NETFLOW_DATAGRAMS: Counter, "weir_netflow_datagrams_total" [] 1, "Datagrams of exporters.";
    NETFLOW_RECORDS: Counter, "weir_netflow_records_total" [] 1, "Records in them, often one for each direction.";
    NETFLOW_FLOWS: Counter, "weir_netflow_flows_total" [] 1, "Flows made of them.";
    NETFLOW_UNSCORED: Counter, "weir_netflow_unscored_total" [] 1, "Of these, those that told too little to be scored.";
    NETFLOW_LOST: Counter, "weir_netflow_lost_total" ["what"] LOSSES, "What was given up or never came.";
    NETFLOW_EXPORTERS: Gauge, "weir_netflow_exporters" [] 1, "Exporters that are known.";

    CPU: Counter, "process_cpu_seconds_total" [] 1, "Processor time of the agent.";
    RESIDENT: Gauge, "process_resident_memory_bytes" [] 1, "Memory that the agent holds; kernel maps are apart.";
    VIRTUAL: Gauge, "process_virtual_memory_bytes" [] 1, "Address space of the agent.";
    FDS: Gauge, "process_open_fds" [] 1, "Open file descriptors.";
    MAX_FDS: Gauge, "process_max_fds" [] 1, "File descriptors that may be open.";
    THREADS: Gauge, "process_threads" [] 1, "Threads.";
    STARTED: Gauge, "process_start_time_seconds" [] 1, "When the agent started, seconds since 1970.";
    LEFT_OUT: Gauge, "weir_series_left_out" [] 1, "Series that this page had no room for; anything but 0 is a mistake in Weir.";
}

/// Series of one agent stay below this, whatever it is told to do.
const MAX_SERIES: usize = 2000;

const _: () = {
    let (mut all, mut i) = (0, 0);
    while i < ALL.len() {
        all += ALL[i].series();
        i += 1;
    }
    assert!(all < MAX_SERIES, "too many series");
};
