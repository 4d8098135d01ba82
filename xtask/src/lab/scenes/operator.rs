//! Who is logged in is never cut off.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;

use super::{attack, dropped, point};
use crate::lab::agent::Site;
use crate::lab::plan;
use crate::lab::report::Verdict;
use crate::lab::scene::Scene;
use crate::lab::story::Lab;

pub const IN_THE_LINE_OF_FIRE: Scene = Scene {
    name: "operator",
    about: "the operator's own address guesses passwords and scans, and people try to block it: it stays reachable, another guesser is dropped",
    site: |site| Site { operator: Some(OPERATOR), ..site },
    play,
};

const OPERATOR: IpAddr = IpAddr::V4(plan::GUESSER);
const OTHER: IpAddr = IpAddr::V4(plan::ATTACKER);

fn play(lab: &mut Lab) -> Result<Vec<Verdict>> {
    lab.screen.heading("The address of the session that started Weir guesses passwords");
    let guessed = attack(lab, "guess", &[OPERATOR], 8, 15)?;
    lab.screen.heading("... and scans");
    let scanned = attack(lab, "scan", &[OPERATOR], 100, 5)?;
    lab.wait(Duration::from_secs(2))?;
    let answered = guessed.answered + scanned.answered;
    let tries = guessed.tries + scanned.tries;
    let noticed = lab.book.was_noticed(OPERATOR);
    let mut points = vec![point(
        "the operator's address",
        !dropped(lab, OPERATOR)? && answered == tries && noticed,
        format!("{answered} of {tries} tries answered; {}", if noticed { "alerted about" } else { "UNNOTICED" }),
    )];

    lab.screen.heading("A person tries to block it, alone and with its network");
    for target in [OPERATOR.to_string(), "198.51.100.0/24".to_owned(), format!("{OPERATOR}/tcp/22")] {
        let answer = lab.agent()?.ask(&["decisions", "add", &target, "--for", "1m"]);
        let (good, said) = match answer {
            Ok(_) => (false, "ACCEPTED".to_owned()),
            Err(e) => {
                let said = format!("{e:#}");
                (said.contains("must stay reachable"), said.lines().last().unwrap_or_default().to_owned())
            }
        };
        points.push(point(&format!("decisions add {target}"), good, said));
    }

    lab.screen.heading("The control: somebody else guesses");
    let outcome = attack(lab, "guess", &[OTHER], 8, 25)?;
    lab.wait(Duration::from_secs(2))?;
    let good = dropped(lab, OTHER)? && outcome.blocked_us.is_some();
    points.push(point("another guesser", good, format!("{} tries, {} answered", outcome.tries, outcome.answered)));
    Ok(points)
}
