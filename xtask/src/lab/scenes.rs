//! The scenes that there are, by what they are about.

mod attacks;
mod crowdsec;
mod forged;
mod hands;
mod lease;
mod operator;
mod people;
mod upgrade;
mod web;

use std::net::IpAddr;

use anyhow::Result;

use super::events::covers;
use super::report::{Outcome, Verdict};
use super::scene::Scene;
use super::story::Lab;

pub const ALL: &[Scene] = &[
    forged::SPOOFED_FLOOD,
    attacks::SLOW_SCAN,
    attacks::GUESSING_OVER_IPV6,
    operator::IN_THE_LINE_OF_FIRE,
    lease::KILLED_AND_STOPPED,
    upgrade::UNDER_LOAD,
    people::REVIEW,
    people::FALSE_ALARM,
    crowdsec::BOUNCER,
    web::DASHBOARD,
];

fn point(what: &str, good: bool, result: String) -> Verdict {
    Verdict { what: what.to_owned(), result, good }
}

/// An attack of a role's kind.
fn attack(lab: &mut Lab, kind: &str, from: &[IpAddr], rate: u64, seconds: u64) -> Result<Outcome> {
    attack_in_turns(lab, kind, from, rate, seconds, 1)
}

/// Each address makes so many attempts before it is the next one's turn.
fn attack_in_turns(lab: &mut Lab, kind: &str, from: &[IpAddr], rate: u64, seconds: u64, turn: u64) -> Result<Outcome> {
    let mut words = hands::attack_words(kind, from, rate, seconds);
    words.extend(["--turn".to_owned(), turn.to_string()]);
    lab.role_attack(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Targets of drops in force.
fn drops(lab: &Lab) -> Result<Vec<String>> {
    let decisions = lab.agent()?.ask(&["decisions", "list"])?;
    let drops = decisions.iter().filter(|d| d["action"] == "drop");
    drops.map(|d| super::agent::target(d).map(str::to_owned)).collect()
}

fn dropped(lab: &Lab, address: IpAddr) -> Result<bool> {
    Ok(drops(lab)?.iter().any(|t| covers(t, address)))
}
