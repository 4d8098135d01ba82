//! The interfaces that are watched: what is said of them, and what follows where they change.

use std::sync::MutexGuard;

use weir_common::counters::{Counter, Reason};
use weir_core::event::Level;
use weir_core::policy::PolicyConfig;
use weir_core::record::TimeUs;
use weir_kernel::{AttachedMode, KernelError};

use super::{Agent, home};
use crate::command::{InterfaceReport, XdpMode};
use crate::fleet::{Change, Member, Whole};
use crate::metrics::Attachments;

/// Of the events.
const KIND: &str = "interface";

impl Agent {
    fn roster(&self) -> Option<MutexGuard<'_, Whole>> {
        self.kernel.as_ref().map(|k| k.fleet.roster.look())
    }

    /// Their names, for people.
    pub fn interfaces(&self) -> String {
        let Some(roster) = self.roster() else { return String::new() };
        let there: Vec<&str> = roster.members.values().filter(|m| m.state.is_ok()).map(|m| &*m.name).collect();
        match (self.config.watched().sole(), there.as_slice()) {
            (Some(name), _) => name.to_owned(),
            (None, []) => format!("no interface yet; waiting for {}", self.config.watched()),
            (None, there) => there.join(", "),
        }
    }

    /// There is an interface on which entries are in force.
    pub(super) fn protects_any(&self) -> bool {
        self.roster().is_some_and(|roster| roster.members.values().any(|m| m.state.is_ok()))
    }

    /// As they were found at the start.
    pub(super) fn tell_of_the_interfaces(&mut self, now: TimeUs) {
        let Some(roster) = self.roster() else { return };
        let sole = self.config.watched().sole().is_some();
        let warnings = roster.warnings(sole);
        let names: Vec<_> = roster.members.iter().map(|(i, m)| (*i, m.name.clone())).collect();
        drop(roster);
        for (interface, name) in names {
            self.pipeline.places.name(interface, &name);
        }
        for words in warnings {
            self.news(now, Level::Warning, KIND, words);
        }
    }

    /// An interface has come, gone or changed.
    pub fn interface_changed(&mut self, change: Change) {
        if let Some((level, message)) = change.said {
            let now = self.now();
            self.news(now, level, KIND, message);
        }
        if let Some((interface, name)) = change.named {
            self.pipeline.places.name(interface, &name);
        }
        // With it may have come networks that are home, and addresses that must stay reachable. Many come together.
        self.moved = true;
    }

    /// Where interfaces or their addresses have changed since the last time, or may have.
    pub(super) fn follow_surroundings(&mut self, now: TimeUs) {
        self.moved = false;
        let home = home(&self.config);
        self.pipeline.set_home(home.clone());
        let config = PolicyConfig { home, ..self.pipeline.policy.config().clone() };
        self.pipeline.policy.set_config(config);
        if let Some(collector) = &self.collector {
            collector.configure(&self.config.netflow, self.pipeline.policy.config().home.clone());
        }
        self.set_safe(now);
    }

    /// Totals of all interfaces by reason; nothing where there is none.
    pub(super) fn counted(&self) -> Result<Vec<(Reason, Counter)>, KernelError> {
        self.roster().map_or(Ok(Vec::new()), |roster| roster.counted())
    }

    pub(super) fn interface_warnings(&self) -> Vec<String> {
        let sole = self.config.watched().sole().is_some();
        self.roster().map(|roster| roster.warnings(sole)).unwrap_or_default()
    }

    /// Flows per epoch that there is room for, and what that takes.
    pub(super) fn flow_room(&self) -> Vec<u32> {
        self.roster().map(|r| r.members.values().map(|m| m.flows).filter(|f| *f > 0).collect()).unwrap_or_default()
    }

    pub(super) fn attachments(&self) -> Option<Attachments> {
        self.roster().map(|r| Attachments {
            attached: r.attached,
            again: r.reattached,
            let_go: r.left,
            failed: r.failures().collect(),
        })
    }

    pub(super) fn interface_reports(&self) -> Vec<InterfaceReport> {
        let Some(roster) = self.roster() else { return Vec::new() };
        let there = roster.members.iter().map(|(ifindex, member)| report(*ifindex, member));
        let missing = roster.missing.iter().map(|name| InterfaceReport {
            name: name.clone(),
            cause: "there is no such interface".to_owned(),
            ..InterfaceReport::default()
        });
        there.chain(missing).collect()
    }
}

fn report(ifindex: u32, member: &Member) -> InterfaceReport {
    let (xdp_mode, cause) = match &member.state {
        Ok(AttachedMode::Native) => (Some(XdpMode::Native), String::new()),
        Ok(AttachedMode::Generic(cause)) => (Some(XdpMode::Generic), cause.clone()),
        Err(why) => (None, why.clone()),
    };
    let mut report = InterfaceReport {
        name: member.name.to_string(),
        ifindex,
        protected: member.state.is_ok(),
        xdp_mode,
        cause,
        up: member.up,
        mtu: member.mtu,
        flows: member.flows,
        reattached: member.reattached,
        ..InterfaceReport::default()
    };
    let Some(Ok(counted)) = member.counted() else { return report };
    for (reason, n) in counted {
        match crate::metrics::verdict(reason) {
            Some("pass") => report.packets_passed += n.packets,
            Some("drop") => report.packets_dropped += n.packets,
            Some("limit") => report.packets_limited += n.packets,
            _ => {}
        }
    }
    report
}
