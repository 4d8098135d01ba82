//! Attackers who take their time, or have many addresses.

use std::net::{IpAddr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::hands::Beside;
use super::{attack_in_turns, drops, point};
use crate::lab::events::covers;
use crate::lab::net::UPLINK;
use crate::lab::plan;
use crate::lab::proc;
use crate::lab::report::Verdict;
use crate::lab::scene::Scene;
use crate::lab::story::Lab;

pub const SLOW_SCAN: Scene = Scene {
    name: "slow-scan",
    about: "a port scan of two connections a second is noticed within seconds; most of it proves nothing, so it is counted and not dropped",
    site: |site| site,
    play: slow_scan,
};

pub const GUESSING_OVER_IPV6: Scene = Scene {
    name: "guessing-ipv6",
    about: "passwords guessed over IPv6 by somebody who changes the address every three seconds: the /64 is dropped, the clients' is not",
    site: |site| site,
    play: guessing,
};

fn slow_scan(lab: &mut Lab) -> Result<Vec<Verdict>> {
    lab.screen.heading("Two ports a second, for a minute at most");
    let scanner = IpAddr::from(plan::SCANNER);
    let beside = Beside::start(lab, "scan", &[scanner], 2, 30)?;
    let began = Instant::now();
    while lab.book.score_of(scanner).is_none() && began.elapsed() < Duration::from_secs(30) {
        lab.wait(Duration::from_millis(100))?;
    }
    let alerted = began.elapsed().as_secs_f64();
    let (tries, answered) = beside.end(lab, Duration::from_secs(40))?;
    lab.wait(Duration::from_secs(1))?;
    let score = lab.book.score_of(scanner);
    let counted = lab.book.packets(scanner, "shadow") + lab.book.packets(scanner, "drop");
    let said = score.map_or("no alert".to_owned(), |s| format!("alert after {alerted:.1} s, score {s:.4}"));
    let good = score.is_some() && alerted <= 15.0 && counted > 0;
    Ok(vec![point(
        "slow scan",
        good,
        format!("{said}; {tries} tries, {answered} answered; its entry met {counted} packets"),
    )])
}

/// Addresses of one /64, which the attacker has all.
fn many() -> Vec<Ipv6Addr> {
    (0..16).map(|i| Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0xa, 0, 0, 0x1000 + i * 77, i + 1)).collect()
}

fn guessing(lab: &mut Lab) -> Result<Vec<Verdict>> {
    for address in many() {
        let mut add = Command::new("ip");
        add.args(["-n", &lab.net.host("attacker"), "addr", "add", &format!("{address}/128"), "dev", UPLINK, "nodad"]);
        proc::output(add, None, Duration::from_secs(5))?;
    }
    lab.screen.heading("Eight guesses a second, each address for three seconds");
    let from: Vec<IpAddr> = many().into_iter().map(IpAddr::V6).collect();
    let outcome = attack_in_turns(lab, "guess", &from, 8, 45, 24)?;
    lab.wait(Duration::from_secs(2))?;
    let drops = drops(lab)?;
    let all = drops.iter().any(|t| from.iter().all(|&a| covers(t, a)));
    let clients = plan::clients().into_iter().any(|c| drops.iter().any(|t| covers(t, c)));
    let result = format!("{} tries, {} answered; dropped: {}", outcome.tries, outcome.answered, drops.join(", "));
    Ok(vec![point("passwords from one /64", all && !clients && outcome.blocked_us.is_some(), result)])
}
