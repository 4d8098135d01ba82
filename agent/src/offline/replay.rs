//! Scoring what was read: in batches, each row by the profile that its origin can supply, never by imputed values.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use weir_core::event::Anomaly;
use weir_core::profile::ProfileId;
use weir_core::record::{FlowRecord, Have};
use weir_models::{Bundle, ScoreError};
use weir_source::Observation;

use super::output::{percent, share};
use super::train::counter;
use crate::human::grouped;
use crate::learn::flow_matrix;
use crate::scoring::{Depth, anomalies, explain, housekeeping};

/// Rows scored at once: the largest batch that models are compiled for.
pub const BATCH: usize = 1024;

/// What profiles of flows there are, the richest first.
fn flow_profiles() -> impl Iterator<Item = ProfileId> {
    ProfileId::ALL.into_iter().rev().filter(|p| *p != ProfileId::Source)
}

/// DHCP and neighbour discovery, as far as the record tells.
pub fn is_housekeeping(r: &FlowRecord) -> bool {
    r.have.has(Have::PROTO.with(Have::SERVER_PORT)) && housekeeping(r.client, r.proto, r.client_port, r.server_port)
}

pub struct Replay {
    bundle: Bundle,
    /// Those that may be used, the richest first.
    profiles: Vec<ProfileId>,
    threshold: f32,
    explain: bool,
    /// The bundle came with the program, which each anomaly says.
    pub is_default: bool,
    pub counts: Counts,
}

/// What scoring came to.
#[derive(Debug, Default)]
pub struct Counts {
    pub scored: u64,
    pub anomalies: u64,
    by_profile: BTreeMap<&'static str, u64>,
    unscored: BTreeMap<String, u64>,
    /// Rows and anomalies of each label.
    labels: BTreeMap<String, (u64, u64)>,
}

impl Replay {
    /// `profile`: no other; else the richest that the bundle has and a row's origin can supply.
    pub fn new(bundle: Bundle, profile: Option<ProfileId>, threshold: f32, explain: bool) -> anyhow::Result<Self> {
        let has: Vec<_> = bundle.profiles().collect();
        let profiles: Vec<_> =
            flow_profiles().filter(|p| has.contains(p) && profile.is_none_or(|wanted| wanted == *p)).collect();
        if profiles.is_empty() {
            let wanted = profile.map_or("flows".to_owned(), |p| format!("profile `{p}`"));
            let has: Vec<_> = has.iter().map(|p| p.name()).collect();
            anyhow::bail!("bundle {} cannot score {wanted}: it has {}", bundle.id(), has.join(", "));
        }
        Ok(Self { bundle, profiles, threshold, explain, is_default: false, counts: Counts::default() })
    }

    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// The anomaly of each flow, in order; `None` for those that cannot be scored, which are counted by reason.
    pub fn score(&mut self, flows: &[Observation]) -> Result<Vec<Option<Anomaly>>, ScoreError> {
        let chosen: Vec<Result<ProfileId, String>> = flows.iter().map(|f| self.choose(&f.record)).collect();
        let mut out: Vec<Option<Anomaly>> = vec![None; flows.len()];
        for profile in &self.profiles {
            let rows: Vec<usize> = (0..flows.len()).filter(|i| chosen[*i].as_ref() == Ok(profile)).collect();
            if rows.is_empty() {
                continue;
            }
            let matrix = flow_matrix(*profile, rows.iter().map(|i| &flows[*i].record));
            let mut scored = anomalies(&self.bundle, &matrix)?;
            for (i, a) in scored.iter_mut().enumerate().filter(|(_, a)| self.explain && a.p_value <= self.threshold) {
                explain(&self.bundle, &matrix, i, a, (self.threshold, Depth::Unless))?;
            }
            for (i, mut a) in rows.into_iter().zip(scored) {
                a.default_bundle = self.is_default;
                out[i] = Some(a);
            }
        }
        for ((flow, chosen), anomaly) in flows.iter().zip(chosen).zip(&out) {
            self.counts.add(flow, chosen, anomaly.as_ref().map(|a| a.p_value <= self.threshold));
        }
        Ok(out)
    }

    /// By which profile a record is scored, or why it cannot be.
    fn choose(&self, r: &FlowRecord) -> Result<ProfileId, String> {
        if is_housekeeping(r) {
            return Err("DHCP and neighbour discovery are never scored".into());
        }
        if let Some(p) = self.profiles.iter().find(|p| r.have.has(p.needs())) {
            return Ok(*p);
        }
        let Some(last) = self.profiles.last() else { return Err("no profile".into()) };
        let lacks: Vec<_> = last.needs().without(r.have).names().collect();
        Err(format!("profile `{last}` needs what the input does not tell: {}", lacks.join(", ")))
    }
}

impl Counts {
    fn add(&mut self, flow: &Observation, chosen: Result<ProfileId, String>, anomalous: Option<bool>) {
        match chosen {
            Err(why) => *self.unscored.entry(why).or_default() += 1,
            Ok(profile) => {
                self.scored += 1;
                *self.by_profile.entry(profile.name()).or_default() += 1;
            }
        }
        let anomalous = u64::from(anomalous == Some(true));
        self.anomalies += anomalous;
        if let Some(label) = &flow.label {
            let (flows, odd) = counter(&mut self.labels, label);
            *flows += 1;
            *odd += anomalous;
        }
    }

    /// Lines for stderr.
    pub fn summary(&self, threshold: f32) -> String {
        let mut out = String::new();
        for (why, n) in &self.unscored {
            let _ = writeln!(out, "not scored: {} flows: {why}", grouped(*n));
        }
        let profiles: Vec<_> = self.by_profile.keys().copied().collect();
        let by = if profiles.is_empty() { String::new() } else { format!(" by profile {}", profiles.join(" and ")) };
        let _ = writeln!(
            out,
            "{} flows scored{by}, {} anomalies: {} of them, {} asked for of normal traffic",
            grouped(self.scored),
            grouped(self.anomalies),
            percent(self.anomalies, self.scored),
            share(f64::from(threshold)),
        );
        for (label, (flows, odd)) in &self.labels {
            let (n, a) = (grouped(*flows), grouped(*odd));
            let _ = writeln!(out, "label {label}: {n} flows, {a} anomalies ({})", percent(*odd, *flows));
        }
        super::output::clean_lines(&out)
    }
}
