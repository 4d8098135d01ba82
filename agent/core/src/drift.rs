//! Drift: whether what is seen now is still what the bundle was calibrated on.
//!
//! - Per calibrated role: p-values of benign traffic are uniform, or a threshold is no false-alarm rate. What counts is
//!   the *effect*: by how much more of the sources than there should be lie at small p-values (the one-sided
//!   Kolmogorov-Smirnov distance, 0 to 1). P-values that became larger blind nobody into a drop. How much is too much
//!   depends on how many sources the bundle was calibrated on as well: few of them foretell others badly from the first day
//!   on, and that is no drift.
//! - Per feature: which share of the sources lies outside the usual range, or on one side of the usual median.
//!
//! **Each source has one vote**: one observation of it, drawn at random among its latest; so a busy source weighs no more than
//! a quiet one. **Sources with evidence against them have none**, or an attack would switch drops off. In roles that drops rest
//! on, only proven flows and those of home hosts going out vote: anything else can be forged in anybody's name. One exception:
//! where at least as many sources that were known long before have evidence as have none, it is the traffic that has changed,
//! and they vote. Sources that are new cannot bring that about, however many they are.
//!
//! Votes fade with a half-life. Memory: [`DriftConfig::max_voters`] sources per role and profile, an unbiased sample of
//! all, at most 64 bytes each.

mod features;
mod votes;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::addr::Addr;
use crate::profile::ProfileId;
use crate::record::{FlowRecord, TimeUs};
use crate::role::{Direction, ProtoClass, Role};
use crate::window::SourceWindow;
use features::{Sides, moved, sides};
use votes::{Votes, mix};

/// Fewer sources say nothing about a role.
pub const MIN_VOTERS: usize = 10;
/// A role has drifted from this effect on, where many sources vote and were calibrated on.
pub const BAD_EFFECT: f64 = 0.25;
/// A role that has drifted is fine again below this share of the effect that is too much.
const FINE: f64 = 0.6;
/// `2 n effect²` above this is chance in fewer than one case in 400 (Smirnov's one-sided bound), with `1/n = 1/a + 1/b` where
/// samples of `a` and `b` are compared.
const SIGNIFICANT: f64 = 6.0;
const BINS: usize = 20;
/// Votes older than so many half-lives are gone.
const HALF_LIVES: u64 = 4;

#[derive(Clone, Debug, PartialEq)]
pub struct DriftConfig {
    /// Chooses which sources are looked at where there are too many: nobody should be able to foretell it.
    pub seed: u64,
    pub max_voters: usize,
    /// Of a vote's weight, µs.
    pub half_life_us: u64,
    /// Sources known so long before there was evidence against them keep their say where most of them have some, µs.
    pub settled_us: u64,
    /// How often votes are counted, µs.
    pub every_us: u64,
    /// Sources that the bundle was calibrated on; 0: that is not known.
    pub calibrated_on: u64,
}

impl Default for DriftConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            max_voters: 2048,
            half_life_us: 3_600_000_000,
            settled_us: 1_800_000_000,
            every_us: 10_000_000,
            calibrated_on: 0,
        }
    }
}

/// Quantiles 1%, 50% and 99% of a feature in the bundle's benign rows, raw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UsualRange {
    pub low: f32,
    pub median: f32,
    pub high: f32,
}

/// Which calibration is meant: roles of different profiles have tables of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    #[serde(serialize_with = "by_name")]
    pub profile: ProfileId,
    pub role: Role,
}

fn by_name<S: serde::Serializer>(profile: &ProfileId, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(profile.name())
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.profile, self.role) {
            (_, Role::SourceAll | Role::SourceProven) => write!(f, "{}", self.role),
            (profile, role) => write!(f, "{role} ({profile})"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftState {
    /// Too few sources to say.
    Unknown,
    Fine,
    Bad,
}

/// One role as it stood when votes were counted last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoleDrift {
    #[serde(flatten)]
    pub place: Place,
    pub state: DriftState,
    /// Sources that voted.
    pub voters: u64,
    /// Sources without a vote, for the evidence against them.
    pub withheld: u64,
    /// By how much more sources than expected lie at small p-values, 0 to 1.
    pub effect: f64,
    /// From this effect on it is drift.
    pub too_much: f64,
    /// Share of the sources with a p-value of at most 5%.
    pub at_5_percent: f64,
    /// Automatic drops may rest on it.
    pub leads_to_drops: bool,
}

/// One feature as it stood when votes were counted last. Shares are of the sources.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureDrift {
    pub profile: &'static str,
    pub feature: &'static str,
    /// The feature in words.
    pub words: &'static str,
    pub moved: bool,
    pub voters: u64,
    /// Below the usual 1% quantile; at most 1% is expected.
    pub below_usual: f64,
    /// Above the usual 99% quantile; at most 1% is expected.
    pub above_usual: f64,
    /// Below the usual median; at most half is expected.
    pub below_median: f64,
    /// Above it; at most half is expected.
    pub above_median: f64,
    /// The largest excess over what is expected, 0 to 1.
    pub effect: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DriftReport {
    pub roles: Vec<RoleDrift>,
    pub features: Vec<FeatureDrift>,
}

/// A role went bad, or is fine again.
#[derive(Clone, Debug, PartialEq)]
pub struct DriftChange {
    pub place: Place,
    pub bad: bool,
    /// For a person.
    pub words: String,
}

/// See the module.
pub struct Drift {
    config: DriftConfig,
    usual: BTreeMap<ProfileId, Vec<UsualRange>>,
    roles: BTreeMap<Place, Votes<f32>>,
    features: BTreeMap<ProfileId, Votes<Sides>>,
    bad: BTreeSet<Place>,
    report: DriftReport,
    dice: u64,
    counted_us: TimeUs,
}

/// Whether drops rest on p-values of the role: then a vote takes proof.
fn leads_to_drops(place: Place) -> bool {
    match (place.profile, place.role) {
        (ProfileId::Source, role) => matches!(role, Role::SourceProven | Role::All),
        (_, role) => matches!(
            role,
            Role::All
                | Role::Proto(ProtoClass::Tcp)
                | Role::ProtoDir(ProtoClass::Tcp, Direction::In)
                | Role::Flow(ProtoClass::Tcp, Direction::In, _)
        ),
    }
}

impl Drift {
    /// For a bundle with these usual ranges: of each profile one per feature, in order.
    pub fn new(config: DriftConfig, usual: BTreeMap<ProfileId, Vec<UsualRange>>) -> Self {
        let dice = config.seed | 1;
        let config = DriftConfig { max_voters: config.max_voters.max(MIN_VOTERS), ..config };
        Self {
            config,
            usual,
            roles: BTreeMap::new(),
            features: BTreeMap::new(),
            bad: BTreeSet::new(),
            report: DriftReport::default(),
            dice,
            counted_us: 0,
        }
    }

    /// A scored flow. `role` is the one whose calibration gave `p`; `row` is raw, as wide as `profile`.
    #[expect(clippy::too_many_arguments, reason = "a scored row, as it comes from the models")]
    pub fn flow(
        &mut self,
        now: TimeUs,
        record: &FlowRecord,
        profile: ProfileId,
        role: Role,
        p: f32,
        row: &[f32],
        present: u64,
    ) {
        let place = Place { profile, role };
        let vouched = record.proven || record.direction == Direction::Out;
        if vouched || !leads_to_drops(place) {
            self.vote(now, record.client, place, p, row, present);
        }
    }

    /// A scored source window, likewise.
    pub fn window(&mut self, now: TimeUs, window: &SourceWindow, role: Role, p: f32, row: &[f32], present: u64) {
        let place = Place { profile: ProfileId::Source, role };
        // The hosts of a network have votes already.
        if !window.source.subject().is_host() {
            return;
        }
        if window.role == Role::SourceProven || !leads_to_drops(place) {
            self.vote(now, window.source, place, p, row, present);
        }
    }

    fn vote(&mut self, now: TimeUs, source: Addr, place: Place, p: f32, row: &[f32], present: u64) {
        let mixed = mix(source, self.config.seed);
        let max = self.config.max_voters;
        let roll = self.roll();
        self.roles.entry(place).or_default().put(mixed, source, now, roll, max, || p);
        if let Some(usual) = self.usual.get(&place.profile) {
            let votes = self.features.entry(place.profile).or_default();
            votes.put(mixed, source, now, roll, max, || sides(usual, row, present));
        }
    }

    fn roll(&mut self) -> u64 {
        // Xorshift (Marsaglia 2003): which of the latest observations votes.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }

    /// Whether it is time to count.
    pub fn is_due(&self, now: TimeUs) -> bool {
        now.saturating_sub(self.counted_us) >= self.config.every_us
    }

    /// Counts the votes. `against` says since when there is evidence against a source, if there is.
    pub fn count(&mut self, now: TimeUs, mut against: impl FnMut(Addr) -> Option<TimeUs>) -> Vec<DriftChange> {
        self.counted_us = now;
        let oldest = now.saturating_sub(HALF_LIVES * self.config.half_life_us);
        let mut report = DriftReport::default();
        let mut changes = Vec::new();
        for (&place, votes) in &mut self.roles {
            votes.forget_before(oldest);
            let (voting, withheld) = votes.voting(&self.config, &mut against);
            let mut tally = Tally::default();
            for v in &voting {
                tally.add(v.vote, weight(now, v.last_us, self.config.half_life_us));
            }
            let effect = tally.effect();
            let limit = too_much(self.config.calibrated_on, tally.sources());
            let enough = voting.len() >= MIN_VOTERS;
            let was_bad = self.bad.contains(&place);
            let bad = match was_bad {
                // Silence is no recovery.
                true => !(enough && effect < FINE * too_much(self.config.calibrated_on, f64::INFINITY)),
                false => enough && effect >= limit,
            };
            let state = match (bad, enough) {
                (true, _) => DriftState::Bad,
                (false, true) => DriftState::Fine,
                (false, false) => DriftState::Unknown,
            };
            let row = RoleDrift {
                place,
                state,
                voters: voting.len() as u64,
                withheld: withheld as u64,
                effect,
                too_much: limit,
                at_5_percent: tally.share_at(1),
                leads_to_drops: leads_to_drops(place),
            };
            if bad != was_bad {
                changes.push(DriftChange { place, bad, words: words(&row) });
                if bad {
                    self.bad.insert(place)
                } else {
                    self.bad.remove(&place)
                };
            }
            report.roles.push(row);
        }
        self.roles.retain(|place, votes| !votes.is_empty() || self.bad.contains(place));
        for (&profile, votes) in &mut self.features {
            votes.forget_before(oldest);
            let (voting, _) = votes.voting(&self.config, &mut against);
            let weighted: Vec<_> =
                voting.iter().map(|v| (v.vote, weight(now, v.last_us, self.config.half_life_us))).collect();
            report.features.extend(moved(profile, &weighted));
        }
        let moved: Vec<&FeatureDrift> = report.features.iter().filter(|f| f.moved).collect();
        for change in changes.iter_mut().filter(|c| c.bad) {
            let of = |f: &&&FeatureDrift| f.profile == change.place.profile.name();
            let named: Vec<&str> = moved.iter().filter(of).take(3).map(|f| f.words).collect();
            if !named.is_empty() {
                change.words += &format!("; what moved most: {}", named.join(", "));
            }
        }
        self.report = report;
        changes
    }

    /// As votes were counted last.
    pub fn report(&self) -> &DriftReport {
        &self.report
    }

    /// Roles that have drifted.
    pub fn bad(&self) -> impl Iterator<Item = Place> + '_ {
        self.bad.iter().copied()
    }
}

/// The effect that is neither small nor chance where so many sources vote, after so many were calibrated on.
fn too_much(calibrated_on: u64, voters: f64) -> f64 {
    let few = if calibrated_on > 0 { 1.0 / calibrated_on as f64 } else { 0.0 };
    (0.5 * SIGNIFICANT * (few + 1.0 / voters)).sqrt().max(BAD_EFFECT)
}

/// "p-values of 12 sources ...".
fn words(r: &RoleDrift) -> String {
    let percent = 100.0 * r.at_5_percent;
    let (place, voters) = (r.place, r.voters);
    match r.state {
        DriftState::Bad => format!(
            "what is normal has drifted in role {place}: {percent:.0}% of {voters} sources are as strange as 5% should be \
             (effect {:.2}, {:.2} is too much)",
            r.effect, r.too_much
        ),
        _ => format!("role {place} is as it was learned again: effect {:.2} over {voters} sources", r.effect),
    }
}

fn weight(now: TimeUs, at: TimeUs, half_life_us: u64) -> f64 {
    (-(now.saturating_sub(at) as f64) / half_life_us.max(1) as f64).exp2()
}

/// P-values of the voters.
#[derive(Default)]
struct Tally {
    bins: [f64; BINS],
    sum: f64,
    squares: f64,
}

impl Tally {
    fn add(&mut self, p: f32, weight: f64) {
        let bin = ((f64::from(p) * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        self.bins[bin] += weight;
        self.sum += weight;
        self.squares += weight * weight;
    }

    /// How many sources of full weight the votes are worth.
    fn sources(&self) -> f64 {
        if self.squares > 0.0 { self.sum * self.sum / self.squares } else { 0.0 }
    }

    /// Share of the weight in the first `n` bins.
    fn share_at(&self, n: usize) -> f64 {
        if self.sum > 0.0 { self.bins[..n].iter().sum::<f64>() / self.sum } else { 0.0 }
    }

    fn effect(&self) -> f64 {
        if self.sum <= 0.0 {
            return 0.0;
        }
        (1..=BINS).map(|n| self.share_at(n) - n as f64 / BINS as f64).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests;
