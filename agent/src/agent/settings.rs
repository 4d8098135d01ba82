//! What the configuration and the host say, in the terms of the parts that need it.

use std::time::Duration;

use weir_core::addr::{Addr, Prefix};
use weir_core::decision::Target;
use weir_core::guard::Safe;
use weir_core::home::Home;
use weir_core::policy::PolicyConfig;
use weir_core::table::TableConfig;

use crate::api::access::Access;
use crate::command::ReloadReport;
use crate::config::Config;
use crate::surroundings;

/// The safe set: what the host tells, and the allow list of the configuration, which no command takes anything out of.
pub(super) fn safe_set(config: &Config, access: &Access) -> Vec<Safe> {
    let mut safe = surroundings::safe_set();
    // Only those who have shown a certificate with a role.
    safe.extend(access.clients().into_iter().map(|(ip, name)| Safe {
        prefix: Prefix::host(Addr::from(ip)),
        why: format!("an API client with the certificate {name}"),
    }));
    safe.extend(access.web().clients().into_iter().map(|(ip, name)| Safe {
        prefix: Prefix::host(Addr::from(ip)),
        why: format!("{name} is logged in to the web page from there"),
    }));
    safe.extend(config.allow.iter().map(|rule| {
        let why = match rule.comment.as_str() {
            "" => "`allow` of the configuration".to_owned(),
            comment => format!("`allow` of the configuration: {comment}"),
        };
        Safe { prefix: rule.target, why }
    }));
    safe
}

/// Without an interface that tells which networks are near: this host, and the private ones.
pub fn home(config: &Config) -> Home {
    let watched = config.watched();
    let networks: Vec<Prefix> = match watched.is_empty() {
        _ if !config.home.is_empty() => config.home.clone(),
        false => surroundings::home(|name| watched.wants(name, false)),
        true => surroundings::home(|_| false).into_iter().chain(surroundings::private_networks()).collect(),
    };
    Home::new(networks)
}

/// How flows live, whatever counts their packets. `first_flow_id`: a number that was not given yet.
pub fn table(config: &Config, home: Home, first_flow_id: u64) -> TableConfig {
    TableConfig {
        idle_us: config.flow.idle.as_micros() as u64,
        active_us: config.flow.active.as_micros() as u64,
        linger_us: config.flow.linger.as_micros() as u64,
        home,
        // Twice what one epoch may hold: flows outlive epochs.
        max_flows: 2 * config.capacity.flows as usize,
        first_flow_id,
        ..TableConfig::default()
    }
}

pub fn policy(config: &Config, promoted: bool) -> PolicyConfig {
    let us = |d: Duration| d.as_micros() as u64;
    PolicyConfig {
        mode: config.mode,
        promoted,
        rules: config.policy.rules.clone().into(),
        interface: config.watched().sole().map(str::to_owned),
        home: home(config),
        enters: !config.watched().is_empty(),
        drop_ttl_us: us(config.policy.drop_ttl),
        unproven_ttl_us: us(config.policy.shadow_ttl),
        max_per_hour: config.policy.max_decisions_per_hour as usize,
        busy_share: config.policy.busy_share,
        question_ttl_us: us(config.review.ttl),
        unanswered: config.review.unanswered,
        ..PolicyConfig::default()
    }
}

pub(super) fn report_words(report: &ReloadReport) -> String {
    let mut words = match report.applied.as_slice() {
        [] => "configuration read again: nothing changed".to_owned(),
        keys => format!("configuration read again; in force: {}", keys.join(", ")),
    };
    if !report.needs_restart.is_empty() {
        words += &format!("; a restart is needed for {}", report.needs_restart.join(", "));
    }
    words
}

/// The host of a target, where it is about one.
pub(super) fn host_of(target: Target) -> Option<Addr> {
    Some(target.prefix()).filter(|p| p.is_host()).map(Prefix::addr)
}
