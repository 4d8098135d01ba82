//! One program takes over from another while packets come.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::hands::{Beside, Door, knock};
use super::point;
use crate::lab::plan;
use crate::lab::report::Verdict;
use crate::lab::scene::Scene;
use crate::lab::story::Lab;

pub const UNDER_LOAD: Scene = Scene {
    name: "upgrade",
    about: "five times another program takes over under load: no packet of a blocked host passes, no honest request fails",
    site: |site| site,
    play,
};

const BLOCKED: IpAddr = IpAddr::V4(plan::ATTACKER);
const TIMES: usize = 5;

fn play(lab: &mut Lab) -> Result<Vec<Verdict>> {
    let program = lab.agent()?.program().to_owned();
    lab.agent()?.ask(&["decisions", "add", &BLOCKED.to_string(), "--for", "10m", "--reason", "before the upgrade"])?;
    lab.wait(Duration::from_secs(1))?;
    let before = knock(lab, BLOCKED)?;
    lab.screen.heading("A blocked host goes on trying");
    let beside = Beside::start(lab, "persist", &[BLOCKED], 20, 25)?;
    for round in 0..TIMES {
        let next = lab.net.dir.join(format!("weir-{round}"));
        std::fs::copy(&program, &next).context("cannot copy the program")?;
        lab.agent_mut()?.stop();
        lab.wait(Duration::from_millis(700))?;
        lab.agent_mut()?.start_again(&next)?;
        lab.screen.line(&format!("{} has taken over", next.display()));
        lab.wait(Duration::from_secs(2))?;
    }
    let (tries, answered) = beside.end(lab, Duration::from_secs(40))?;
    let kept = lab
        .agent()?
        .ask(&["decisions", "list"])?
        .iter()
        .any(|d| d["reason"].to_string().contains("before the upgrade"));
    let status = lab.agent()?.ask_one(&["status"])?;
    let promoted = status["mode_effective"] == "enforce";
    lab.agent()?.ask(&["decisions", "delete", &BLOCKED.to_string()])?;
    lab.wait(Duration::from_secs(1))?;
    let after = knock(lab, BLOCKED)?;
    Ok(vec![
        point(
            "the blocked host",
            before == Door::Shut && answered == 0 && tries > 50 && after == Door::Open,
            format!(
                "{answered} of {tries} tries answered during {TIMES} upgrades; after the block was lifted: {after:?}"
            ),
        ),
        point(
            "decisions and models",
            kept && promoted,
            format!("decision kept: {kept}; effective mode {}", status["mode_effective"]),
        ),
    ])
}
