//! Weir in the server's namespace: its configuration, its process, and the command line that asks it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::net::{Net, UPLINK};
use super::plan;
use super::proc::{self, Proc};
use super::stop;

pub struct Agent {
    weir: PathBuf,
    namespace: String,
    pub socket: PathBuf,
    pub log: PathBuf,
    pub events: PathBuf,
    process: Proc,
    unloaded: bool,
}

impl Agent {
    pub fn start(weir: &Path, net: &Net, learn: u64) -> Result<Self> {
        let config = net.dir.join("weir.yaml");
        let socket = net.dir.join("weir.sock");
        let events = net.dir.join("events.json");
        let log = net.dir.join("weir.log");
        std::fs::write(&config, configuration(&net.dir, &socket, &events, learn))?;
        proc::output(words(weir, &["config", "check"], Some(&config)), None, Duration::from_secs(20))
            .context("Weir does not accept the lab's configuration")?;
        let namespace = net.host("server");
        let run = words(weir, &["run", "-i", UPLINK, "--config"], Some(&config));
        let process = Proc::start("weir run", run, &namespace, File::create(&log)?)?;
        let mut agent = Self { weir: weir.to_owned(), namespace, socket, log, events, process, unloaded: false };
        agent.wait_until_it_answers()?;
        Ok(agent)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            self.must_run()?;
            if self.socket.exists() {
                match self.ask(&["status"]) {
                    Ok(_) => return Ok(()),
                    Err(e) if Instant::now() >= until => return Err(e),
                    Err(_) => {}
                }
            }
            if Instant::now() >= until {
                bail!("no {} after 30 s; Weir's log ends with:\n{}", self.socket.display(), proc::tail(&self.log, 20));
            }
            stop::sleep(Duration::from_millis(100))?;
        }
    }

    pub fn program(&self) -> &Path {
        &self.weir
    }

    /// An error with the end of its log if it ended.
    pub fn must_run(&mut self) -> Result<()> {
        self.process.must_run().map_err(|e| e.context(format!("its log ends with:\n{}", proc::tail(&self.log, 20))))
    }

    /// A command of the CLI, answered in JSON: one value per line, or one for all.
    pub fn ask(&self, verb: &[&str]) -> Result<Vec<Value>> {
        let mut command = words(&self.weir, verb, None);
        command.args(["-o", "json", "--socket"]).arg(&self.socket);
        let text = proc::output(command, None, Duration::from_secs(20))?;
        let mut values = Vec::new();
        for value in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
            match value.with_context(|| format!("`weir {} -o json` is no JSON: {text}", verb.join(" ")))? {
                Value::Array(all) => values.extend(all),
                one => values.push(one),
            }
        }
        Ok(values)
    }

    /// The same where there is one value.
    pub fn ask_one(&self, verb: &[&str]) -> Result<Value> {
        let mut values = self.ask(verb)?;
        if values.len() != 1 {
            bail!("`weir {}` answered {} values, not one", verb.join(" "), values.len());
        }
        Ok(values.remove(0))
    }

    /// Stops the agent and takes Weir out of the kernel again.
    pub fn unload(&mut self) -> Result<()> {
        self.process.stop();
        if std::mem::replace(&mut self.unloaded, true) {
            return Ok(());
        }
        let command = words(&self.weir, &["unload", "-i", UPLINK], None);
        // On a signal too: this is the cleaning up.
        net_output(command, &self.namespace)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Err(e) = self.unload() {
            eprintln!("lab: {e:#}; its pins are removed by hand");
        }
    }
}

/// What a listed decision targets, in the words of `weir decisions add`.
pub fn target(decision: &Value) -> Result<&str> {
    let target = decision.get("target").and_then(Value::as_str);
    target.with_context(|| format!("a listed decision has no `target` in words: {decision}"))
}

fn net_output(mut command: Command, namespace: &str) -> Result<()> {
    proc::confine(&mut command, Some(namespace))?;
    let out = command.output().context("cannot start `weir unload`")?;
    if !out.status.success() {
        bail!("`weir unload` failed ({}): {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

fn words(weir: &Path, verb: &[&str], path: Option<&Path>) -> Command {
    let mut command = Command::new(weir);
    command.args(verb).args(path);
    command
}

/// Short windows and times, so that a minute holds enough to learn from; the mode is `enforce`, and what holds Weir back
/// while it learns is that nobody has promoted what it learned.
fn configuration(dir: &Path, socket: &Path, events: &Path, learn: u64) -> String {
    format!(
        "mode: enforce
home: [{}/32, {}/128]
state_dir: {}
socket: {}
epoch: 500ms
window: 2s
alert_budget_per_day: 100
flow:
  idle: 5s
  active: 10s
  linger: 1s
learn:
  duration: {learn}s
  min_flows: 300
  min_windows: 200
policy:
  drop_ttl: 10m
log:
  to: stderr
  events: {}
",
        plan::SERVER4,
        plan::SERVER6,
        dir.join("state").display(),
        socket.display(),
        events.display(),
    )
}
