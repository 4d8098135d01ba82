//! Packets in the names of others.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{attack, dropped, drops, point};
use crate::lab::net::UPLINK;
use crate::lab::plan;
use crate::lab::proc;
use crate::lab::report::Verdict;
use crate::lab::scene::Scene;
use crate::lab::story::Lab;

pub const SPOOFED_FLOOD: Scene = Scene {
    name: "spoofed-flood",
    about: "SYNs, blind ACKs and UDP in ten thousand names, those of clients, gateway and operator among them: nobody is dropped, a real scan still is",
    site: |site| crate::lab::agent::Site { operator: Some(IpAddr::V4(plan::GUESSER)), ..site },
    play,
};

/// The way to everybody else; nothing answers there.
const GATEWAY: &str = "198.51.100.254";

fn play(lab: &mut Lab) -> Result<Vec<Verdict>> {
    let mut route = Command::new("ip");
    route.args(["-n", &lab.net.host("server"), "route", "add", "default", "via", GATEWAY, "dev", UPLINK]);
    proc::output(route, None, Duration::from_secs(5))?;
    // The agent looks at its surroundings on a reload too.
    lab.agent()?.ask(&["config", "reload"])?;
    lab.wait(Duration::from_secs(3))?;

    let mut names: Vec<IpAddr> = vec![plan::GUESSER.into(), GATEWAY.parse()?];
    names.extend(plan::clients().into_iter().filter(IpAddr::is_ipv4));
    lab.screen.heading("30,000 forged packets in 10,000 names and in those of everybody who is known here");
    let outcome = attack(lab, "crowd", &names, 3000, 10)?;
    lab.wait(Duration::from_secs(4))?;
    let wrong = drops(lab)?;
    let noticed = names.iter().filter(|&&n| lab.book.was_noticed(n)).count();
    let mut points = vec![point(
        "forged packets",
        wrong.is_empty() && outcome.tries >= 25_000,
        format!("{} sent; {noticed} of {} known names noticed; dropped: {}", outcome.tries, names.len(), wrong.len()),
    )];

    lab.screen.heading("The control: a scan with real connections");
    let scanner = IpAddr::from(plan::SCANNER);
    let outcome = attack(lab, "scan", &[scanner], 150, 25)?;
    lab.wait(Duration::from_secs(2))?;
    let good = dropped(lab, scanner)? && outcome.blocked_us.is_some();
    points.push(point("a real scan after it", good, format!("{} tries, {} answered", outcome.tries, outcome.answered)));
    Ok(points)
}
