//! People decide: what is asked, and what they say was a false alarm.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::hands::{Door, knock};
use super::{attack, dropped, point};
use crate::lab::agent::Site;
use crate::lab::plan;
use crate::lab::report::Verdict;
use crate::lab::scene::Scene;
use crate::lab::story::{Lab, plain};

pub const REVIEW: Scene = Scene {
    name: "review",
    about: "in mode review a scan is asked about and nothing is dropped; a person approves by command line, and takes it back",
    site: |site| Site { mode: "review", ..site },
    play: review,
};

pub const FALSE_ALARM: Scene = Scene {
    name: "false-alarm",
    about: "a drop is labelled a false alarm: it is lifted, and the same traffic raises no alert again, while another scanner is dropped",
    site: |site| site,
    play: false_alarm,
};

const SCANNER: IpAddr = IpAddr::V4(plan::SCANNER);
const NEIGHBOUR: IpAddr = IpAddr::V4(plan::FLOODER);

fn find(lab: &Lab, verb: &[&str], holds: impl Fn(&Value) -> bool) -> Result<Option<Value>> {
    Ok(lab.agent()?.ask(verb)?.into_iter().find(holds))
}

fn review(lab: &mut Lab) -> Result<Vec<Verdict>> {
    lab.screen.heading("A scan, of which nothing is dropped");
    let outcome = attack(lab, "scan", &[SCANNER], 150, 8)?;
    let of_scanner = |q: &Value| q["source"] == plan::SCANNER.to_string().as_str();
    let until = Instant::now() + Duration::from_secs(10);
    let question = loop {
        match find(lab, &["review", "list"], of_scanner)? {
            Some(question) => break question,
            None if Instant::now() >= until => {
                return Ok(vec![point("a question", false, "nobody was asked".to_owned())]);
            }
            None => lab.wait(Duration::from_millis(200))?,
        }
    };
    let id = question.get("id").map(plain).context("a question without a number")?;
    let quiet = outcome.answered == outcome.tries && !dropped(lab, SCANNER)?;
    let mut points = vec![point(
        "the question",
        quiet,
        format!("question {id} after {} tries, {} answered", outcome.tries, outcome.answered),
    )];

    lab.screen.heading(&format!("weir review approve {id}"));
    lab.agent()?.ask(&["review", "approve", &id, "--for", "10m", "--comment", "a scan"])?;
    lab.wait(Duration::from_secs(1))?;
    let doors = [knock(lab, SCANNER)?, knock(lab, NEIGHBOUR)?];
    points.push(point(
        "approved",
        doors == [Door::Shut, Door::Open],
        format!("the scanner: {:?}, its neighbour: {:?}", doors[0], doors[1]),
    ));

    lab.screen.heading(&format!("weir review undo {id}"));
    lab.agent()?.ask(&["review", "undo", &id])?;
    lab.wait(Duration::from_secs(1))?;
    let door = knock(lab, SCANNER)?;
    points.push(point("taken back", door == Door::Open, format!("the scanner: {door:?}")));
    Ok(points)
}

fn false_alarm(lab: &mut Lab) -> Result<Vec<Verdict>> {
    lab.screen.heading("A scan is dropped");
    attack(lab, "scan", &[SCANNER], 150, 25)?;
    lab.wait(Duration::from_secs(2))?;
    let before = dropped(lab, SCANNER)?;
    let source = SCANNER.to_string();
    let alerts = |lab: &Lab| -> Result<Vec<Value>> { lab.agent()?.ask(&["alerts", "list", &source]) };
    let raised = alerts(lab)?;
    let id = raised.first().and_then(|a| a.pointer("/alert/id")).map(plain).context("no alert was raised")?;

    lab.screen.heading(&format!("A person says that it was the scanner of the house: weir alerts label {id} false"));
    lab.agent()?.ask(&[
        "alerts",
        "label",
        &id,
        "false",
        "--scope",
        "source,any-feature",
        "--comment",
        "our own scanner",
    ])?;
    lab.wait(Duration::from_secs(1))?;
    let door = knock(lab, SCANNER)?;
    let lifted = !dropped(lab, SCANNER)? && door == Door::Open;
    let mut points = vec![point("the drop", before && lifted, format!("there before: {before}; lifted: {lifted}"))];

    lab.screen.heading("It scans again");
    let outcome = attack(lab, "scan", &[SCANNER], 150, 10)?;
    lab.wait(Duration::from_secs(2))?;
    let more = alerts(lab)?.len() - raised.len();
    let counted = lab.agent()?.ask(&["suppressions", "list"])?;
    let suppressed = counted.first().and_then(|s| s["alerts"].as_u64()).unwrap_or_default();
    points.push(point(
        "the same again",
        more == 0 && suppressed > 0 && outcome.answered == outcome.tries && !dropped(lab, SCANNER)?,
        format!("{more} alerts, {suppressed} suppressed; {} of {} tries answered", outcome.answered, outcome.tries),
    ));

    lab.screen.heading("The control: somebody else scans");
    let outcome = attack(lab, "scan", &[NEIGHBOUR], 150, 25)?;
    lab.wait(Duration::from_secs(2))?;
    let good = dropped(lab, NEIGHBOUR)? && outcome.blocked_us.is_some();
    points.push(point("another scanner", good, format!("{} tries, {} answered", outcome.tries, outcome.answered)));
    Ok(points)
}
