//! Weir as a bouncer of CrowdSec, whose local API is a double that speaks the public protocol.

use std::fs::File;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::hands::{Door, knock};
use super::point;
use crate::lab::agent::Site;
use crate::lab::plan;
use crate::lab::proc::Proc;
use crate::lab::report::Verdict;
use crate::lab::scene::Scene;
use crate::lab::story::{Lab, plain};

pub const BOUNCER: Scene = Scene {
    name: "crowdsec",
    about: "bans of a local API of CrowdSec hold and end; failing and lying it lifts nothing, over a kill of the agent too",
    site: |site| Site { more: format!("crowdsec:\n  url: http://{API}\n  api_key: lab\n  interval: 1s\n"), ..site },
    play,
};

const API: &str = "127.0.0.1:8081";
const BANNED: IpAddr = IpAddr::V4(plan::ATTACKER);
const NEIGHBOUR: IpAddr = IpAddr::V4(plan::FLOODER);

/// Says a word to the API, and waits for its answer.
fn tell(lab: &mut Lab, api: &mut Proc, words: &str) -> Result<Value> {
    lab.screen.line(&format!("local API: {words}"));
    api.tell(words)?;
    api.next_report(Duration::from_secs(5))
}

/// Waits until the door is so.
fn until(lab: &mut Lab, door: Door) -> Result<bool> {
    let end = Instant::now() + Duration::from_secs(25);
    while Instant::now() < end {
        if knock(lab, BANNED)? == door {
            return Ok(true);
        }
    }
    Ok(false)
}

fn play(lab: &mut Lab) -> Result<Vec<Verdict>> {
    let log = File::create(lab.net.dir.join("local-api.log")).context("cannot make a log file")?;
    let mut api = Proc::told(&["local-api", "--listen", API, "--key", "lab"], &lab.net.host("server"), log)?;
    api.next_report(Duration::from_secs(5)).context("the local API did not start")?;
    let before = knock(lab, BANNED)?;
    let banned = tell(lab, &mut api, &format!("ban {BANNED}"))?;
    let id = banned.pointer("/done/id").map(plain).context("the local API gave no number")?;
    for n in 1..9 {
        tell(lab, &mut api, &format!("ban 203.0.113.{n}"))?;
    }
    let shut = until(lab, Door::Shut)?;
    let neighbour = knock(lab, NEIGHBOUR)?;
    let mut points = vec![point(
        "a ban",
        before == Door::Open && shut && neighbour == Door::Open,
        format!("before: {before:?}; then shut: {shut}; its neighbour: {neighbour:?}"),
    )];
    for mood in ["504", "page", "hang-up"] {
        tell(lab, &mut api, &format!("mood {mood}"))?;
        lab.wait(Duration::from_secs(3))?;
        let door = knock(lab, BANNED)?;
        points.push(point(
            &format!("the API answers with {mood}"),
            door == Door::Shut,
            format!("the banned host: {door:?}"),
        ));
    }
    tell(lab, &mut api, "mood empty")?;
    lab.agent_mut()?.kill();
    let weir = lab.agent()?.program().to_owned();
    lab.agent_mut()?.start_again(&weir)?;
    lab.wait(Duration::from_secs(4))?;
    let door = knock(lab, BANNED)?;
    points.push(point(
        "a kill, and an API that knows of nothing",
        door == Door::Shut,
        format!("the banned host: {door:?}"),
    ));
    tell(lab, &mut api, "mood honest")?;
    tell(lab, &mut api, &format!("delete {id}"))?;
    let open = until(lab, Door::Open)?;
    points.push(point("the ban is deleted", open, format!("open again: {open}")));
    Ok(points)
}
