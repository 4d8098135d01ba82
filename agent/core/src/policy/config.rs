//! What the policy goes by.

use std::sync::Arc;

use super::rule::{self, Rule, Then};
use super::{HOUR_US, MAX_UNPROVEN_TTL_US};
use crate::event::Mode;
use crate::home::Home;
use crate::question::Unanswered;

#[derive(Clone, Debug, PartialEq)]
pub struct PolicyConfig {
    pub mode: Mode,
    /// Empty: the built-in ones, [`rule::default_rules`].
    pub rules: Arc<[Rule]>,
    /// What is watched, where it is one interface; rules may be about some interfaces alone.
    pub interface: Option<String>,
    /// Who lies here is never stopped, nor with a network around a remote host.
    pub home: Home,
    /// A person promoted the bundle that scores; until then the mode is at most shadow.
    pub promoted: bool,
    /// The bundle that scores came with the program: everything that it leads to says so.
    pub default_bundle: bool,
    /// That bundle leads to alerts alone.
    pub alerts_only: bool,
    /// There are kernel programs to enter anything into; without, the mode is observe.
    pub enters: bool,
    /// Lifetime of an automatic drop or limit where the rule gives none, µs.
    pub drop_ttl_us: u64,
    /// Lifetime of a shadow entry where the rule gives none, µs; for unproven evidence at most [`MAX_UNPROVEN_TTL_US`].
    pub unproven_ttl_us: u64,
    /// Automatic decisions per hour before the breaker trips.
    pub max_per_hour: usize,
    /// A source with more than this share of recent benign proven flows, or of those of the baseline, is never stopped automatically.
    pub busy_share: f64,
    /// How long a question waits for an answer, µs, and what happens then; rules may say otherwise.
    pub question_ttl_us: u64,
    pub unanswered: Unanswered,
    /// A source is alerted about again after this long, or when it gets worse, µs.
    pub realert_us: u64,
    /// Thresholds from fewer benign source windows lead to alerts alone.
    pub min_benign_windows: u64,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Shadow,
            rules: [].into(),
            interface: None,
            home: Home::default(),
            promoted: false,
            default_bundle: false,
            alerts_only: false,
            enters: true,
            drop_ttl_us: HOUR_US,
            unproven_ttl_us: MAX_UNPROVEN_TTL_US,
            max_per_hour: 100,
            busy_share: 0.05,
            question_ttl_us: HOUR_US,
            unanswered: Unanswered::Nothing,
            realert_us: HOUR_US,
            min_benign_windows: 200,
        }
    }
}

impl PolicyConfig {
    /// The mode that holds: observe where nothing can be entered, at most shadow until a person has promoted the bundle.
    pub fn effective_mode(&self) -> Mode {
        if !self.enters {
            return Mode::Observe;
        }
        if self.mode == Mode::Enforce && !self.promoted { Mode::Shadow } else { self.mode }
    }

    /// The mode for what a rule leads to: the weaker of its own and the agent's.
    pub(super) fn mode_of(&self, then: &Then) -> Mode {
        let ours = self.effective_mode();
        then.mode.filter(|m| m.strength() < ours.strength()).unwrap_or(ours)
    }

    /// The rules in force.
    pub fn rules_in_force(&self) -> Arc<[Rule]> {
        if self.rules.is_empty() { rule::default_rules().into() } else { self.rules.clone() }
    }
}
