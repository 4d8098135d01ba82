//! What an evaluation says of sources and of drift, in lines.

use std::fmt::Write as _;

use super::drift::Drift;
use super::sources::{Sources, Spread};
use crate::human::grouped;

/// Means over runs need not be whole.
pub fn count(v: f64) -> String {
    if v.fract() == 0.0 { grouped(v as u64) } else { format!("{v:.1}") }
}

fn until(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |s| {
        format!(
            "; until then median {} flows and {:.0} s, at worst {} flows and {:.0} s",
            count(s.flows_median),
            s.seconds_median,
            grouped(s.flows_worst),
            s.seconds_worst
        )
    })
}

/// What an agent would have said and done about sources.
pub fn sources(s: &Sources) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:.3} days; {} malicious sources, {} benign ones ({} of them without any label) with {} flows",
        s.days,
        count(s.malicious),
        count(s.benign),
        count(s.unlabelled),
        count(s.benign_flows)
    );
    let _ = writeln!(
        out,
        "malicious sources alerted about: {} of {}{}",
        count(s.alerted),
        count(s.malicious),
        until(s.until_alerted)
    );
    if s.alerted_before > 0.0 {
        let _ = writeln!(out, "  of these before their first malicious flow: {}", count(s.alerted_before));
    }
    let _ = writeln!(
        out,
        "malicious sources blocked: {} of {}{}",
        count(s.blocked),
        count(s.malicious),
        until(s.until_blocked)
    );
    let _ = writeln!(
        out,
        "false alerts: {} ({:.2} a day) about {} of {} benign sources",
        count(s.false_alerts),
        s.false_alerts_per_day,
        count(s.falsely_alerted),
        count(s.benign)
    );
    let _ = writeln!(
        out,
        "false blocks: {} ({:.2} a day, {:.4} per benign source) of {} benign sources",
        count(s.false_blocks),
        s.false_blocks_per_day,
        s.false_blocks_per_benign_source,
        count(s.falsely_blocked)
    );
    out
}

/// Features that have moved by so much are named.
const TELLING: f64 = 0.1;
const MOST: usize = 5;

pub fn drift(drifts: &[Drift]) -> String {
    let moved = || drifts.iter().filter(|d| d.distance >= TELLING);
    let named: Vec<_> = moved().take(MOST).map(|d| format!("{} {:.2}", d.feature, d.distance)).collect();
    match (drifts.len(), moved().count()) {
        (0, _) => String::new(),
        (_, 0) => format!("drift: no feature of the benign flows has moved by {TELLING} or more since training\n"),
        (all, n) => format!(
            "drift: {n} of {all} features of the benign flows have moved by {TELLING} or more since training (distance of \
             the distributions, at least): {}\n",
            named.join(", ")
        ),
    }
}
