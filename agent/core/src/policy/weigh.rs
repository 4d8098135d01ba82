//! What the evidence asks for, and what holds already.

use super::rule::{self, Act, Width};
use super::{Asked, Bench, Case, NET_OFFENDERS};
use crate::addr::Prefix;
use crate::decision::{Sides, Target};
use crate::decisions::Held;
use crate::event::Severity;
use crate::evidence::{NET6_LEN, Thresholds};

/// What the rule asks for, as far as the evidence bears it: what is unproven may be forged in anyone's name.
pub(super) fn bounded(b: &Bench<'_>) -> Act {
    if b.then.act == Act::Drop && !b.asked.proven { Act::Shadow } else { b.then.act }
}

pub(super) fn within(ranges: &[(u16, u16)], port: u16) -> bool {
    ranges.is_empty() || ranges.iter().any(|(from, to)| (*from..=*to).contains(&port))
}

/// The live decision that makes another one needless, if there is one: on the target, on its host, or on a network around it
/// that rules may be about.
pub(super) fn held(b: &Bench<'_>, done: Act, meant: Act) -> Option<(Target, Held)> {
    let prefix = b.target.prefix();
    let (net4, net6) = match b.then.width {
        Width::Net { v4, v6 } => (v4, v6),
        _ => rule::NET_LENS,
    };
    let nets = if prefix.is_v4() { [net4, 32] } else { [net6, NET6_LEN] };
    let around =
        nets.into_iter().filter(|len| *len <= prefix.len()).map(|len| Target::Net(Prefix::new(prefix.addr(), len)));
    let (done_as, meant_as) = (done.action(), meant.action());
    let strict = |(_, d): &(Target, Held)| {
        let as_meant = Some(d.instead_of.unwrap_or(d.action).max(d.action)) >= meant_as;
        let as_done = Some(d.action) >= done_as;
        let looser = match (done, d.limit) {
            (Act::Limit(new), Some(old)) => new.stricter_than(old),
            _ => false,
        };
        // What only stops what goes out stops nobody from coming in.
        as_done && as_meant && !looser && d.sides != Sides::Out
    };
    let on = |t: Target| Some((t, b.decisions.wanted_on(t, b.now)?));
    [b.target, Target::Net(prefix)].into_iter().chain(around).filter_map(on).find(strict)
}

/// What the evidence asks for; `None` below the alert threshold. A /64 that carries more than `busy_share` of what is normal gives
/// way to a host of it that has earned a drop by itself: nobody need be asked about that one.
pub(super) fn ask(case: &Case<'_>, t: &Thresholds, busy_share: f64) -> Option<Asked> {
    let own = |proven| Asked { proven, all: case.level.all, proven_level: case.level.proven, net: false };
    let alone = || {
        case.level.proven >= t.drop
            && case.busy.is_some_and(|b| b.share_within(Prefix::new(case.source, NET6_LEN)) > busy_share)
    };
    if let Some(net) = case.net.filter(|_| !alone()) {
        let whole = |proven| Asked { proven, all: net.all, proven_level: net.proven, net: true };
        if net.proven >= t.drop && net.offenders[1] >= NET_OFFENDERS {
            return Some(whole(true));
        }
        let strongest = case.level.proven < t.drop;
        if net.all >= t.alert && net.offenders[0] >= NET_OFFENDERS && strongest {
            return Some(whole(false));
        }
    }
    if case.level.proven >= t.drop {
        return Some(own(true));
    }
    (case.level.all >= t.alert || case.level.proven >= t.alert).then(|| own(false))
}

pub(super) fn severity(asked: &Asked, t: &Thresholds) -> Severity {
    if asked.proven {
        Severity::High
    } else if asked.all >= 2.0 * t.alert || asked.proven_level >= t.alert {
        Severity::Medium
    } else {
        Severity::Low
    }
}
