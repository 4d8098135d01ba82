//! Weir in the server's namespace: its configuration, its process, and the command line that asks it.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::net::{Net, UPLINK};
use super::plan;
use super::proc::{self, Proc};
use super::stop;

/// How Weir is set up in the lab.
#[derive(Clone, Debug)]
pub struct Site {
    pub mode: &'static str,
    /// Seconds that it learns, where it has nothing learned.
    pub learn: u64,
    /// What an earlier lab learned and promoted.
    pub learned: Option<PathBuf>,
    /// More of the configuration: whole sections.
    pub more: String,
    /// Who is logged in on the session that starts Weir.
    pub operator: Option<IpAddr>,
}

impl Site {
    /// As the story has it.
    pub fn learning(seconds: u64) -> Self {
        Self { mode: "enforce", learn: seconds, learned: None, more: String::new(), operator: None }
    }
}

pub struct Agent {
    weir: PathBuf,
    site: Site,
    config: PathBuf,
    state: PathBuf,
    namespace: String,
    pub socket: PathBuf,
    pub log: PathBuf,
    pub events: PathBuf,
    process: Proc,
    /// Somebody stopped or killed it on purpose.
    resting: bool,
    unloaded: bool,
}

impl Agent {
    pub fn start(weir: &Path, net: &Net, site: &Site) -> Result<Self> {
        let (config, state) = (net.dir.join("weir.yaml"), net.dir.join("state"));
        let socket = net.dir.join("weir.sock");
        let events = net.dir.join("events.json");
        let log = net.dir.join("weir.log");
        std::fs::write(&config, configuration(site, &state, &socket, &events))?;
        if let Some(learned) = &site.learned {
            copy_folder(learned, &state).context("cannot take over what was learned")?;
        }
        proc::output(words(weir, &["config", "check"], Some(&config)), None, Duration::from_secs(20))
            .context("Weir does not accept the lab's configuration")?;
        let namespace = net.host("server");
        let process = Proc::start("weir run", run(weir, site, &config), &namespace, File::create(&log)?)?;
        let mut agent = Self {
            weir: weir.to_owned(),
            site: site.clone(),
            config,
            state,
            namespace,
            socket,
            log,
            events,
            process,
            resting: false,
            unloaded: false,
        };
        agent.wait_until_it_answers()?;
        Ok(agent)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            self.process.must_run()?;
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
        if self.resting {
            return Ok(());
        }
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

    /// Bytes of memory that it holds now.
    pub fn resident(&self) -> Result<u64> {
        self.process.resident()
    }

    /// A link that logs in to its web page once.
    pub fn web_login(&self, role: &str) -> Result<String> {
        let login = self.ask_one(&["web", "login", "--role", role])?;
        let url = login.get("url").and_then(Value::as_str).map(str::to_owned);
        url.context("`weir web login` answered no `url`")
    }

    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Writes another configuration and has the running agent read it.
    pub fn reconfigure(&mut self, site: Site) -> Result<()> {
        self.site = site;
        std::fs::write(&self.config, configuration(&self.site, &self.state, &self.socket, &self.events))?;
        self.ask(&["config", "reload"]).map(drop)
    }

    /// SIGSTOP: it does nothing any more, and does not know.
    pub fn freeze(&mut self) {
        self.resting = true;
        self.process.signal(libc::SIGSTOP);
    }

    pub fn thaw(&mut self) {
        self.process.signal(libc::SIGCONT);
        self.resting = false;
    }

    /// SIGKILL: the kernel goes on alone.
    pub fn kill(&mut self) {
        self.resting = true;
        self.process.kill();
    }

    /// Stops it as an upgrade does, and enforcement stays.
    pub fn stop(&mut self) {
        self.resting = true;
        self.process.stop();
    }

    /// Starts it again, by this program from now on.
    pub fn start_again(&mut self, weir: &Path) -> Result<()> {
        self.weir = weir.to_owned();
        let log = File::options().append(true).open(&self.log)?;
        self.process = Proc::start("weir run", run(weir, &self.site, &self.config), &self.namespace, log)?;
        self.resting = false;
        self.wait_until_it_answers()
    }

    /// Models that it has learned, with what was promoted, for another lab.
    pub fn keep_learned(&self, to: &Path) -> Result<()> {
        for name in ["models.json", "bundles"] {
            let from = self.state.join(name);
            if !from.exists() {
                continue;
            }
            if from.is_dir() {
                copy_folder(&from, &to.join(name))?;
            } else {
                std::fs::create_dir_all(to)?;
                std::fs::copy(&from, to.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
            }
        }
        Ok(())
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

fn run(weir: &Path, site: &Site, config: &Path) -> Command {
    let mut run = words(weir, &["run", "-i", UPLINK, "--config"], Some(config));
    run.env_remove("SSH_CONNECTION");
    if let Some(operator) = site.operator {
        run.env("SSH_CONNECTION", format!("{operator} 40022 {} {}", plan::server_for(operator), plan::SSH));
    }
    run
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, &to)?;
        } else {
            std::fs::copy(entry.path(), &to).with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
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
fn configuration(site: &Site, state: &Path, socket: &Path, events: &Path) -> String {
    let Site { mode, learn, more, .. } = site;
    format!(
        "mode: {mode}
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
{more}",
        plan::SERVER4,
        plan::SERVER6,
        state.display(),
        socket.display(),
        events.display(),
    )
}
