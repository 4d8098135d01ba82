//! Which decisions of people are confirmed before they last: those that could lock somebody out who did nothing.

use std::time::Duration;

use weir_core::addr::{Addr, Prefix};
use weir_core::decision::{Action, Target};
use weir_core::policy::is_wide;
use weir_core::role::ServiceClass;

use super::Agent;
use crate::command::NewDecision;
use crate::human;
use crate::sessions::management_peers;

/// How long a risky decision holds unless it is confirmed.
const CONFIRM_WITHIN: Duration = Duration::from_secs(60);

/// Why stopping a target is a risk; `None` where it is none that is known. `share`: of what is normal, what the target
/// carries, and what is too much.
fn risk(target: Target, peers: &[Addr], share: (f64, f64)) -> Option<String> {
    let prefix = target.prefix();
    if is_wide(prefix) {
        return Some(format!("{prefix} is wide"));
    }
    let covers_logins = match target {
        Target::Port { port, .. } | Target::FarPort { port, .. } => ServiceClass::of_port(port) == ServiceClass::Login,
        Target::Flow(flow) => ServiceClass::of_port(flow.port) == ServiceClass::Login,
        Target::Net(_) => true,
    };
    if let Some(peer) = peers.iter().find(|p| covers_logins && prefix.contains(**p)) {
        return Some(format!("{peer} has a management session open"));
    }
    (share.0 > share.1).then(|| format!("{prefix} carries {:.0}% of what is normal here", 100.0 * share.0))
}

impl Agent {
    /// Has a risky decision lapse unless it is confirmed, where its maker said nothing of that; and says so.
    pub(super) fn confirm_risky(&self, new: &mut NewDecision) -> Option<String> {
        if new.no_confirm || new.confirm_within.is_some() || new.action == Action::Shadow {
            return None;
        }
        let prefix: Prefix = new.target.prefix();
        let share = (self.pipeline.share_within(prefix), self.config.policy.busy_share);
        let why = risk(new.target, &management_peers(), share)?;
        new.confirm_within = Some(CONFIRM_WITHIN);
        Some(format!("{why}, so it lapses in {} unless it is confirmed", human::duration(CONFIRM_WITHIN)))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn wide_targets_open_sessions_and_busy_sources_are_risks_and_their_neighbours_are_not() {
        let peers = ["203.0.113.7".parse().unwrap()];
        let risk = |t: &str, share| super::risk(t.parse().unwrap(), &peers, (share, 0.05));
        for (target, share, why) in [
            ("203.0.112.0/23", 0.0, Some("203.0.112.0/23 is wide")),
            ("2001:db8::/47", 0.0, Some("2001:db8::/47 is wide")),
            ("198.51.100.0/24", 0.0, None),
            ("2001:db8::/48", 0.0, None),
            ("203.0.113.7", 0.0, Some("203.0.113.7 has a management session open")),
            ("203.0.113.0/24", 0.0, Some("203.0.113.7 has a management session open")),
            ("203.0.113.7/tcp/22", 0.0, Some("203.0.113.7 has a management session open")),
            ("203.0.113.7/tcp/443", 0.0, None),
            ("203.0.113.8", 0.0, None),
            ("203.0.113.8", 0.3, Some("203.0.113.8 carries 30% of what is normal here")),
            ("203.0.113.8", 0.05, None),
        ] {
            assert_eq!(risk(target, share).as_deref(), why, "{target}");
        }
    }
}
