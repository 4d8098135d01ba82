//! The status report.

use weir_common::names::{self, MAPS};
use weir_core::decision::{Action, Origin};
use weir_core::event::Mode;
use weir_kernel::pins::{Capacity, bytes, flow_bytes};

use super::Agent;
use crate::app::capacity;
use crate::archive::Archive;
use crate::clock::wall_us;
use crate::command::{CommandError, Counter, DecisionCount, MapUse, Packets, StatusReport, XdpMode};

impl Agent {
    pub(super) fn status(&self) -> Result<StatusReport, CommandError> {
        let now = wall_us();
        let interfaces = self.interface_reports();
        let counters = self.counted().map_err(|e| CommandError::Failed(e.to_string()))?;
        // Of several, the mode of those that are slowest.
        let slowest = interfaces.iter().filter(|i| i.protected).max_by_key(|i| i.xdp_mode == Some(XdpMode::Generic));
        let (xdp_mode, xdp_cause) = slowest.map(|i| (i.xdp_mode, i.cause.clone())).unwrap_or_default();
        let ifindex = match interfaces.as_slice() {
            [one] => one.ifindex,
            _ => 0,
        };
        let effective = self.mode();
        let mode_reason = if effective == self.config.mode {
            String::new()
        } else if self.kernel.is_none() {
            "no interface: what is found leads to alerts alone".to_owned()
        } else if self.pipeline.default_model().is_some() {
            "nothing was learned here yet; `default_model` allows no more".to_owned()
        } else if self.pipeline.model().is_none() {
            "nothing was learned yet".to_owned()
        } else {
            "the bundle has not been promoted: `weir model promote`".to_owned()
        };
        Ok(StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            interface: self.interfaces(),
            ifindex,
            mode_configured: self.config.mode,
            mode_effective: effective,
            mode_reason,
            xdp_mode,
            xdp_cause,
            uptime_us: now.saturating_sub(self.started_us),
            bundle: self.serving_report().or_else(|| self.describe_default().filter(|b| b.current)),
            learning: self.learning(now),
            flows_live: self.pipeline.live_flows() as u64,
            flows_last_epoch: self.epochs.flows_last,
            epochs: self.epochs.count,
            drain_last_us: self.epochs.drain_last_us,
            drain_max_us: self.epochs.drain_max_us,
            lost: self.losses(),
            counters: counters
                .into_iter()
                .map(|(reason, c)| Counter { name: reason.name().to_owned(), packets: c.packets, bytes: c.bytes })
                .collect(),
            decisions: self.decision_counts(),
            maps: self.maps(),
            warnings: self.all_warnings(),
            record: self.archive.as_ref().map(Archive::report),
            drifted: self.drifted.iter().map(ToString::to_string).collect(),
            netflow: self.collector.as_ref().map(|c| c.report(&self.config.netflow, self.pipeline.unscored())),
            interfaces,
            seen_twice: {
                let twice = self.pipeline.seen_twice();
                Packets { packets: twice.packets, bytes: twice.bytes }
            },
            challenger: self.models.challenger.as_ref().map(|c| c.report()),
        })
    }

    fn all_warnings(&self) -> Vec<String> {
        let mut all: Vec<String> = self.warnings.values().cloned().chain(self.lists.warnings()).collect();
        all.extend(self.interface_warnings());
        all.extend(self.access.web().problem().map(|why| format!("the web page is not served: {why}")));
        all.extend(self.sinks.warnings());
        if self.config.mode == Mode::Enforce && self.pipeline.policy.tripped() {
            all.push(
                "the breaker has tripped: automatic decisions are shadow entries until the hour's are fewer".into(),
            );
        }
        all
    }

    fn decision_counts(&self) -> Vec<DecisionCount> {
        let mut counts = Vec::new();
        for action in [Action::Drop, Action::Limit, Action::Shadow] {
            for origin in [Origin::Automatic, Origin::Manual] {
                let count = self.decisions.iter().filter(|d| (d.action, d.origin) == (action, origin)).count() as u64;
                if count > 0 {
                    counts.push(DecisionCount { action, origin, count });
                }
            }
        }
        let mut listed = std::collections::BTreeMap::<Action, u64>::new();
        for list in self.decisions.lists() {
            for m in list.members().iter() {
                if let Some(rule) = list.rules.get(usize::from(m.rule)) {
                    *listed.entry(rule.action).or_default() += 1;
                }
            }
        }
        counts.extend(listed.into_iter().map(|(action, count)| DecisionCount { action, origin: Origin::List, count }));
        counts
    }

    fn maps(&self) -> Vec<MapUse> {
        let Some(kernel) = &self.kernel else { return Vec::new() };
        let capacity = capacity(&self.config);
        let rooms = self.flow_room();
        let [blocks, allows] = kernel.enforcer.entries();
        MAPS.iter()
            .filter_map(|spec| {
                let (entries, max_entries) = match spec.sized {
                    names::Sized::FlowRecords => (self.epochs.flows_last, rooms.iter().sum()),
                    names::Sized::EntryRecords => (blocks as u64 + allows as u64, capacity.entries()),
                    _ => return None,
                };
                // With what belongs to them.
                let of = |s: &&names::MapSpec| match spec.sized.holds_flows() {
                    true => s.sized.holds_flows(),
                    false => s.sized.holds_entries(),
                };
                Some(MapUse {
                    name: spec.name.to_owned(),
                    entries,
                    max_entries: max_entries.into(),
                    bytes: match spec.sized.holds_flows() {
                        true => rooms.iter().map(|&flows| flow_bytes(&Capacity { flows, ..capacity })).sum(),
                        false => MAPS.iter().filter(of).map(|s| bytes(s, &capacity)).sum(),
                    },
                })
            })
            .collect()
    }
}
