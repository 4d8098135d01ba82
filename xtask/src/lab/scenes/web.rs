//! The web page in a real browser, beside the agent. A script of agent/dashboard/e2e drives the browser as a person would, and
//! asks this scene for what a person cannot do at a page: attacks, knocks at the door, links to log in.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::hands::knock;
use super::{attack, point};
use crate::host::Host;
use crate::lab::plan;
use crate::lab::proc::{Proc, tail};
use crate::lab::report::Verdict;
use crate::lab::scene::{Scene, Skip};
use crate::lab::story::{Lab, plain};

pub const DASHBOARD: Scene = Scene {
    name: "web",
    about: "in a browser a person learns, promotes and rolls back, keeps lists, sees a scan come in, blocks it and takes that back; then load",
    // Every flow is an event: the last lines of the configuration are those about the log.
    site: |site| crate::lab::agent::Site { mode: "review", more: "  flows: true\n".to_owned(), ..site },
    play,
};

/// Attempts a second while the page is under load; each is a flow, and an event.
const LOAD: u64 = 1000;
/// By so much the agent may grow under load, bytes: flows that have not ended, and what waits to be written.
const MAX_GROWTH: u64 = 256 << 20;
/// The whole script without its load, which comes twice and takes a while to be told; with the default one, five minutes.
const LIMIT: Duration = Duration::from_secs(270);
const LIMIT_BY_LOAD: u32 = 3;

fn play(lab: &mut Lab) -> Result<Vec<Verdict>> {
    let host = Host::this();
    let chromium = host.which("chromium").map_err(|e| Skip(format!("{e:#}")))?;
    crate::dashboard::ready()?.map_err(Skip)?;
    let shots = crate::sh::target_dir().join("dashboard-shots");
    let mut command = Command::new(host.which("node")?);
    command
        .arg("e2e/lab.mjs")
        .current_dir(crate::dashboard::folder())
        .env("WEIR_CHROMIUM", chromium)
        .env("WEIR_SHOTS", &shots)
        .env("WEIR_LOAD_SECONDS", lab.load_seconds.to_string())
        .env("WEIR_SCANNER", plan::SCANNER.to_string())
        .env("WEIR_NEIGHBOUR", plan::GUESSER.to_string());
    let log = lab.net.dir.join("browser.log");
    let mut browser = Proc::talking("the browser's script", command, &lab.net.host("server"), File::create(&log)?)?;
    let points = serve(lab, &mut browser).map_err(|e| {
        if e.is::<Skip>() { e } else { e.context(format!("the browser's log ends with:\n{}", tail(&log, 30))) }
    })?;
    lab.screen.line(&format!("pictures of every page: {}", shots.display()));
    Ok(points)
}

/// Does what the script asks for, until it has done.
fn serve(lab: &mut Lab, browser: &mut Proc) -> Result<Vec<Verdict>> {
    let limit = LIMIT + Duration::from_secs(lab.load_seconds) * LIMIT_BY_LOAD;
    let until = Instant::now() + limit;
    let mut points = Vec::new();
    loop {
        lab.wait(Duration::from_millis(20))?;
        let ended = browser.has_ended()?;
        for said in browser.reports() {
            let text = |key: &str| said.get(key).map(plain).unwrap_or_default();
            if let Some(p) = said.get("point") {
                let verdict = point(&plain(&p["what"]), p["good"] == true, plain(&p["result"]));
                lab.screen.line(&format!(
                    "{} {}: {}",
                    if verdict.good { "ok  " } else { "BAD " },
                    verdict.what,
                    verdict.result
                ));
                points.push(verdict);
            } else if let Some(why) = said.get("skip") {
                return Err(Skip(plain(why)).into());
            } else if said.get("done").is_some() {
                return Ok(points);
            } else if let Some(heading) = said.get("heading") {
                lab.screen.heading(&plain(heading));
            } else {
                let answer = act(lab, &text("do"), &said).unwrap_or_else(|e| json!({ "error": format!("{e:#}") }));
                browser.tell(&answer.to_string())?;
            }
        }
        if ended {
            bail!("the browser's script ended before it had done");
        }
        if Instant::now() >= until {
            bail!("the browser's script had not done after {} s", limit.as_secs());
        }
    }
}

fn act(lab: &mut Lab, what: &str, of: &Value) -> Result<Value> {
    let from = || of.get("from").map(plain).context("from where?")?.parse::<IpAddr>().context("no address");
    let number = |key: &str| of.get(key).and_then(Value::as_u64).with_context(|| format!("no {key}"));
    Ok(match what {
        "login" => json!({ "url": lab.agent()?.web_login(&of.get("role").map(plain).unwrap_or_default())? }),
        "scan" => {
            let outcome = attack(lab, "scan", &[from()?], number("rate")?, number("seconds")?)?;
            json!({ "tries": outcome.tries, "answered": outcome.answered })
        }
        "knock" => json!({ "door": format!("{:?}", knock(lab, from()?)?) }),
        "load" => load(lab, number("seconds")?)?,
        "ask" => {
            let words = of.get("words").and_then(Value::as_array).context("no words")?;
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            json!({ "answer": lab.agent()?.ask(&words)? })
        }
        "import" => {
            let file = lab.net.dir.join("list.txt");
            std::fs::write(&file, format!("{}\n", from()?)).context("cannot write a list")?;
            let file = file.display().to_string();
            lab.agent()?.ask(&["decisions", "import", &file, "--list", "lab", "--for", "10m"])?;
            json!({})
        }
        "stop" => {
            lab.agent_mut()?.stop();
            json!({})
        }
        "start" => {
            let program = lab.agent()?.program().to_owned();
            lab.agent_mut()?.start_again(&program)?;
            json!({})
        }
        other => bail!("the script asked for {other:?}, which the scene cannot do"),
    })
}

/// Many flows a second, and whether each of them is in the event log and in the record, each alert and change of a decision in the
/// store, and nothing was lost.
fn load(lab: &mut Lab, seconds: u64) -> Result<Value> {
    let source = IpAddr::from(plan::FLOODER);
    let before = lab.agent()?.resident()?;
    let outcome = attack(lab, "scan", &[source], LOAD, seconds)?;
    let loaded = lab.agent()?.resident()?;
    // Flows that were reset are told after their linger; the last epoch, and the writers.
    lab.wait(Duration::from_secs(5))?;
    let status = lab.agent()?.ask_one(&["status"])?;
    let agent = lab.agent()?;
    // What is told meanwhile is in the store too, so the store is asked last.
    let logged = Logged::read(&agent.events, source)?;
    let recorded: HashSet<u64> = agent
        .ask(&["flows", "--recorded"])?
        .iter()
        .filter(|f| f["src_ip"] == source.to_string().as_str())
        .filter_map(|f| f["flow_id"].as_u64())
        .collect();
    let alerts = agent.ask(&["alerts", "list", "--limit", "0"])?;
    let alerts: HashSet<u64> = alerts.iter().filter_map(|a| a["alert"]["id"].as_u64()).collect();
    let changes = agent.ask(&["decisions", "history", "--limit", "0"])?;
    let changes: HashSet<(u64, String)> =
        changes.iter().filter_map(|c| Some((c["decision_id"].as_u64()?, plain(&c["change"])))).collect();
    Ok(json!({
        "tries": outcome.tries,
        "per_second": outcome.tries / seconds.max(1),
        "told": logged.flows.len(),
        "unrecorded": logged.flows.difference(&recorded).count(),
        "alerts": logged.alerts.len(),
        "alerts_not_stored": logged.alerts.difference(&alerts).count(),
        "changes": logged.changes.len(),
        "changes_not_stored": logged.changes.difference(&changes).count(),
        "lost": losses(&status),
        "grown": loaded.saturating_sub(before),
        "max_grown": MAX_GROWTH,
        "resident": loaded,
    }))
}

/// What the event log tells.
#[derive(Debug, Default)]
struct Logged {
    /// Of one source.
    flows: HashSet<u64>,
    alerts: HashSet<u64>,
    /// Of decisions: which, and what became of it.
    changes: HashSet<(u64, String)>,
}

impl Logged {
    fn read(events: &Path, source: IpAddr) -> Result<Self> {
        let of = format!("\"src_ip\":\"{source}\"");
        let mut logged = Self::default();
        // What was rotated away is beside it.
        let mut files: Vec<PathBuf> = Vec::new();
        let name = events.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        for entry in std::fs::read_dir(events.parent().context("the log lies in no folder")?)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&name)) {
                files.push(path);
            }
        }
        for file in files {
            let file = File::open(&file).with_context(|| format!("cannot open {}", file.display()))?;
            for line in BufReader::new(file).lines() {
                let line = line.context("cannot read the event log")?;
                let flow = line.contains("\"event_type\":\"flow\"");
                if (flow && !line.contains(&of)) || line.contains("\"event_type\":\"source\"") {
                    continue;
                }
                let event: Value = serde_json::from_str(&line).context("a line of the event log is no JSON")?;
                logged.take(&event);
            }
        }
        Ok(logged)
    }

    fn take(&mut self, event: &Value) {
        match event["event_type"].as_str() {
            Some("flow") => self.flows.extend(event["flow_id"].as_u64()),
            Some("alert") => self.alerts.extend(event["alert"]["id"].as_u64()),
            Some("decision") => {
                let id = event["decision"]["id"].as_u64();
                self.changes.extend(id.map(|id| (id, plain(&event["decision"]["change"]))));
            }
            _ => {}
        }
    }
}

/// What the agent says that it lost, in words.
fn losses(status: &Value) -> Vec<String> {
    let counts = status.get("lost").and_then(Value::as_array).into_iter().flatten();
    let mut lost: Vec<String> = counts
        .filter(|c| c["count"].as_u64().unwrap_or_default() > 0)
        .map(|c| format!("{} {}", plain(&c["count"]), plain(&c["name"])))
        .collect();
    if let Some(n) = status.pointer("/record/lost").and_then(Value::as_u64).filter(|n| *n > 0) {
        lost.push(format!("{n} of the record"));
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_named_and_zeros_are_none() {
        let status = json!({ "lost": [{ "name": "events", "count": 0 }, { "name": "epoch records", "count": 3 }], "record": { "lost": 2 } });
        assert_eq!(losses(&status), ["3 epoch records", "2 of the record"]);
        assert!(losses(&json!({})).is_empty());
    }

    #[test]
    fn what_the_log_tells_is_counted_once_each_and_flows_by_their_source_alone() {
        let dir = std::env::temp_dir().join(format!("weir-told-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let line = |id: u64, ip: &str, kind: &str| {
            format!("{{\"event_type\":\"{kind}\",\"flow_id\":{id},\"src_ip\":\"{ip}\"}}\n")
        };
        let text = [line(1, "192.0.2.1", "flow"), line(1, "192.0.2.1", "flow"), line(2, "192.0.2.1", "flow")].concat()
            + &line(3, "192.0.2.9", "flow")
            + "{\"event_type\":\"alert\",\"src_ip\":\"192.0.2.9\",\"alert\":{\"id\":4}}\n"
            + "{\"event_type\":\"decision\",\"decision\":{\"id\":5,\"change\":\"added\"}}\n"
            + "{\"event_type\":\"decision\",\"decision\":{\"id\":5,\"change\":\"enforced\"}}\n";
        std::fs::write(dir.join("events.json"), text).unwrap();
        std::fs::write(dir.join("events.json.1"), line(7, "192.0.2.1", "flow")).unwrap();
        let logged = Logged::read(&dir.join("events.json"), "192.0.2.1".parse().unwrap()).unwrap();
        assert_eq!((logged.flows, logged.alerts), (HashSet::from([1, 2, 7]), HashSet::from([4])));
        assert_eq!(logged.changes, HashSet::from([(5, "added".to_owned()), (5, "enforced".to_owned())]));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
