//! An agent that is silent: what its entries do meanwhile.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;

use super::hands::{Door, knock};
use super::point;
use crate::lab::agent::Site;
use crate::lab::plan;
use crate::lab::report::Verdict;
use crate::lab::scene::Scene;
use crate::lab::story::Lab;

pub const KILLED_AND_STOPPED: Scene = Scene {
    name: "lease",
    about: "the agent is stopped and killed under each lease policy: entries go on, only count, or let pass, and hold again with the agent",
    site: |site| with(site, "keep"),
    play,
};

const BLOCKED: IpAddr = IpAddr::V4(plan::ATTACKER);
const NEIGHBOUR: IpAddr = IpAddr::V4(plan::FLOODER);

fn with(site: Site, lapse: &str) -> Site {
    Site { more: format!("lease:\n  lapse: {lapse}\n  timeout: 2s\n"), ..site }
}

fn play(lab: &mut Lab) -> Result<Vec<Verdict>> {
    let mut points = Vec::new();
    let site = lab.agent()?.site().clone();
    lab.agent()?.ask(&["decisions", "add", &BLOCKED.to_string(), "--for", "10m"])?;
    lab.wait(Duration::from_secs(1))?;
    for (lapse, meanwhile) in [("keep", Door::Shut), ("shadow", Door::Open), ("pass", Door::Open)] {
        lab.screen.heading(&format!("lease.lapse: {lapse}"));
        let next = with(site.clone(), lapse);
        lab.agent_mut()?.reconfigure(next)?;
        lab.wait(Duration::from_secs(1))?;
        let mut seen = vec![knock(lab, BLOCKED)?];
        lab.agent_mut()?.freeze();
        lab.wait(Duration::from_secs(3))?;
        seen.push(knock(lab, BLOCKED)?);
        lab.agent_mut()?.thaw();
        lab.wait(Duration::from_secs(2))?;
        seen.push(knock(lab, BLOCKED)?);
        lab.agent_mut()?.kill();
        lab.wait(Duration::from_secs(3))?;
        seen.push(knock(lab, BLOCKED)?);
        let neighbour = knock(lab, NEIGHBOUR)?;
        let weir = lab.agent()?.program().to_owned();
        lab.agent_mut()?.start_again(&weir)?;
        lab.wait(Duration::from_secs(1))?;
        seen.push(knock(lab, BLOCKED)?);
        let wanted = [Door::Shut, meanwhile, Door::Shut, meanwhile, Door::Shut];
        let names = ["before", "stopped", "going on", "killed", "started again"];
        let words: Vec<String> = names.iter().zip(&seen).map(|(n, d)| format!("{n}: {d:?}")).collect();
        points.push(point(
            &format!("the blocked host, {lapse}"),
            seen == wanted && neighbour == Door::Open,
            format!("{}; its neighbour: {neighbour:?}", words.join(", ")),
        ));
    }
    Ok(points)
}
