//! The lab from beginning to end.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::agent::{self, Agent, Site};
use super::attacks::{ATTACKS, Attack, Expected};
use super::book::Book;
use super::events::{Follower, covers};
use super::net::Net;
use super::proc::{Proc, tail};
use super::report::{self, Outcome, Screen, Verdict};
use super::tally::{Count, Tally};
use super::{Options, plan, stop};

pub fn run(options: &Options, weir: Option<&Path>) -> Result<()> {
    stop::install();
    let mut lab = Lab::open(weir, &Site::learning(options.seconds))?;
    let told = lab.tell(options);
    let closed = lab.close();
    let verdicts = told?;
    closed?;
    let bad = verdicts.iter().filter(|v| !v.good).count();
    if bad > 0 {
        bail!("{bad} of {} points of the lab failed", verdicts.len());
    }
    Ok(())
}

/// What runs. The order is that of taking down: Weir, the traffic, the network.
pub struct Lab {
    agent: Option<(Agent, Follower)>,
    clients: Proc,
    server: Proc,
    pub(super) screen: Screen,
    pub(super) tally: Tally,
    pub(super) book: Book,
    phases: Vec<(String, BTreeMap<String, Count>)>,
    phase_began: Tally,
    pub(super) net: Net,
    /// How long scenes put load on.
    pub(super) load_seconds: u64,
}

impl Lab {
    pub(super) fn open(weir: Option<&Path>, site: &Site) -> Result<Self> {
        let mut screen = Screen::new();
        screen.heading("Three hosts: a server with Weir on its uplink, honest clients, an attacker");
        let net = Net::make()?;
        let errors = |name: &str| File::create(net.dir.join(name)).context("cannot make a log file");
        let mut server = Proc::role(&["server"], &net.host("server"), errors("server.log")?)?;
        server
            .next_report(Duration::from_secs(10))
            .with_context(|| format!("the services did not start: {}", tail(&net.dir.join("server.log"), 5)))?;
        net.wait_until_up()?;
        screen.line(&format!("network namespaces {}-server, -clients, -attacker, joined by a bridge", net.name));
        let agent = match weir {
            None => {
                screen.line("control run: Weir is not started, every attack must get through");
                None
            }
            Some(weir) => {
                let agent = Agent::start(weir, &net, site)?;
                let follower = Follower::new(agent.events.clone());
                screen.line(&format!("weir run -i {} (pid in {})", super::net::UPLINK, net.host("server")));
                Some((agent, follower))
            }
        };
        let clients = Proc::role(&["clients"], &net.host("clients"), errors("clients.log")?)?;
        let count = plan::clients().len();
        screen.line(&format!("{count} honest clients, IPv4 and IPv6: web, names, logins, mail, downloads"));
        Ok(Self {
            agent,
            clients,
            server,
            screen,
            tally: Tally::default(),
            book: Book::default(),
            phases: Vec::new(),
            phase_began: Tally::default(),
            net,
            load_seconds: 10,
        })
    }

    /// Stops everything in order; what drop would do as well, with a word if something of Weir stayed.
    pub(super) fn close(mut self) -> Result<()> {
        if let Some((mut agent, _)) = self.agent.take() {
            agent.unload()?;
            let left = self.net.left_pinned();
            if !left.is_empty() {
                bail!("`weir unload` left pins behind: {left:?}");
            }
        }
        Ok(())
    }

    fn tell(&mut self, options: &Options) -> Result<Vec<Verdict>> {
        if self.agent.is_some() {
            self.screen.heading("Weir learns what is normal");
            self.learn(options.seconds)?;
            self.phase("learning");
            self.screen.heading("A person promotes what was learned; from now on, mode enforce holds");
            self.promote()?;
            self.wait(Duration::from_secs(10))?;
            self.phase("promoted, no attack");
        } else {
            self.wait(Duration::from_secs(10))?;
            self.phase("no attack");
        }
        let mut verdicts = Vec::new();
        for attack in ATTACKS {
            self.screen.heading(&format!("Attack: {}, {} a second", attack.name, attack.rate));
            let outcome = self.attack(attack)?;
            let verdict = report::judge_attack(attack, &outcome, &self.book, self.agent.is_some());
            self.screen.line(&verdict.result);
            verdicts.push(verdict);
            self.phase(attack.name);
        }
        if self.agent.is_some() {
            self.screen.heading("A person lifts a block");
            verdicts.push(self.undo()?);
        }
        self.wait(Duration::from_secs(3))?;
        self.phase("afterwards");
        verdicts.push(report::judge_clients(&self.tally, &plan::clients(), &self.book));
        if self.agent.is_some() {
            verdicts.push(self.kernel_drops_no_client()?);
        }
        self.summary(&verdicts);
        if options.keep {
            self.keep()?;
        }
        Ok(verdicts)
    }

    /// One look at everything that runs: news is shown, and something that died is an error.
    fn pump(&mut self) -> Result<()> {
        stop::check()?;
        self.server.must_run().with_context(|| tail(&self.net.dir.join("server.log"), 5))?;
        self.clients.must_run().with_context(|| tail(&self.net.dir.join("clients.log"), 5))?;
        for report in self.clients.reports() {
            if let Some(failure) = self.tally.take(&report) {
                self.screen.line(&format!("FAILED  an honest request: {failure}"));
            }
        }
        if let Some((agent, follower)) = &mut self.agent {
            agent.must_run()?;
            for (at, event) in follower.poll()? {
                if let Some(line) = self.book.note(at, event) {
                    self.screen.line(&line);
                }
            }
        }
        Ok(())
    }

    pub(super) fn wait(&mut self, how_long: Duration) -> Result<()> {
        let until = Instant::now() + how_long;
        while Instant::now() < until {
            self.pump()?;
            self.screen.progress(&self.service());
            stop::sleep(Duration::from_millis(50))?;
        }
        self.pump()
    }

    fn service(&self) -> String {
        format!("honest clients: {} requests served, {} failed", self.tally.ok(), self.tally.failed())
    }

    fn phase(&mut self, name: &str) {
        self.phases.push((name.to_owned(), self.tally.since(&self.phase_began)));
        self.phase_began = self.tally.clone();
    }

    pub(super) fn agent(&self) -> Result<&Agent> {
        self.agent.as_ref().map(|(agent, _)| agent).context("Weir does not run in this lab")
    }

    pub(super) fn agent_mut(&mut self) -> Result<&mut Agent> {
        self.agent.as_mut().map(|(agent, _)| agent).context("Weir does not run in this lab")
    }

    pub(super) fn learn(&mut self, seconds: u64) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(seconds + 60);
        loop {
            let status = self.agent()?.ask_one(&["status"])?;
            // The one that comes with the program was not learned.
            if status.get("bundle").is_some_and(|b| !b.is_null() && b["id"] != "default") {
                break;
            }
            let number = |key: &str| status.pointer(key).and_then(Value::as_u64).unwrap_or_default();
            let phase = status.pointer("/learning/phase").and_then(Value::as_str).unwrap_or("starting").to_owned();
            let elapsed = number("/learning/elapsed_us") / 1_000_000;
            self.screen.progress(&format!(
                "{phase}: {elapsed} of {seconds} s, {} flows, {} source windows; {}",
                number("/learning/flows"),
                number("/learning/windows"),
                self.service()
            ));
            if Instant::now() >= until {
                let log = tail(&self.agent()?.log, 10);
                bail!("Weir has not finished learning 60 s after its time; its log ends with:\n{log}");
            }
            let next = Instant::now() + Duration::from_millis(500);
            while Instant::now() < next {
                self.pump()?;
                stop::sleep(Duration::from_millis(50))?;
            }
        }
        for bundle in self.agent()?.ask(&["model", "status"])? {
            let text = |key: &str| bundle.get(key).map(plain).unwrap_or_default();
            self.screen.line(&format!(
                "learned {}: {} flows, {} source windows; profiles {}; promoted: {}",
                text("id"),
                text("flows"),
                text("windows"),
                text("profiles"),
                text("promoted"),
            ));
        }
        Ok(())
    }

    pub(super) fn promote(&mut self) -> Result<()> {
        self.screen.line("weir model promote");
        self.agent()?.ask(&["model", "promote"])?;
        let status = self.agent()?.ask_one(&["status"])?;
        let mode = status.get("mode_effective").map(plain).unwrap_or_default();
        if mode != "enforce" {
            let why = status.get("mode_reason").map(plain).unwrap_or_default();
            bail!("after the promotion the effective mode is {mode:?}, not enforce: {why}");
        }
        self.screen.line("effective mode: enforce");
        Ok(())
    }

    pub(super) fn attack(&mut self, attack: &Attack) -> Result<Outcome> {
        // Without Weir nothing ends an attack early; a few seconds show that it gets through.
        let seconds = if self.agent.is_some() { attack.seconds } else { attack.seconds.min(5) };
        let (rate, seconds, source) = (attack.rate.to_string(), seconds.to_string(), attack.source.to_string());
        let words = ["attack", "--kind", attack.kind, "--from", &source, "--rate", &rate, "--seconds", &seconds];
        let outcome = self.role_attack(&words)?;
        if outcome.broken > 0 {
            self.screen.line(&format!("{} attempts failed on the attacker's own side", outcome.broken));
        }
        match attack.expected {
            // The last figures of its entry, and a moment for everyone else.
            Expected::Dropped => self.wait(Duration::from_secs(2))?,
            Expected::OnlyNoticed if self.agent.is_none() => {}
            Expected::OnlyNoticed => {
                let until = Instant::now() + Duration::from_secs(6);
                while !self.book.was_noticed(attack.source) && Instant::now() < until {
                    self.wait(Duration::from_millis(200))?;
                }
                // A wrong drop would follow the alert.
                self.wait(Duration::from_secs(3))?;
            }
        }
        Ok(outcome)
    }

    /// Runs an attacking process to its end.
    pub(super) fn role_attack(&mut self, words: &[&str]) -> Result<Outcome> {
        let log = self.net.dir.join("attack.log");
        let mut process = Proc::role(words, &self.net.host("attacker"), File::create(&log)?)?;
        let mut outcome = Outcome::default();
        let (mut done, mut silent) = (false, 0);
        while !done {
            let ended = process.has_ended()?;
            let reports = process.reports();
            // Its last lines may still be on the way to us.
            silent = if ended && reports.is_empty() { silent + 1 } else { 0 };
            if silent > 20 {
                bail!("the attack ended without a word: {}", tail(&log, 5));
            }
            for report in reports {
                let number = |key: &str| report.pointer(key).and_then(Value::as_u64);
                outcome.started_us = number("/started_us").unwrap_or(outcome.started_us);
                if report.get("done").is_some() {
                    done = true;
                    outcome.tries = number("/done/tries").or(number("/done/sent")).unwrap_or_default();
                    outcome.answered = number("/done/answered").unwrap_or_default();
                    outcome.blocked_us = number("/done/first_unanswered_us");
                    outcome.broken = number("/done/broken").or(number("/done/refused")).unwrap_or_default();
                }
            }
            self.wait(Duration::from_millis(50))?;
        }
        Ok(outcome)
    }

    /// `weir decisions delete`, and the door is open again.
    fn undo(&mut self) -> Result<Verdict> {
        let what = "a lifted block lets through again".to_owned();
        let guesser = std::net::IpAddr::from(plan::GUESSER);
        let decisions = self.agent()?.ask(&["decisions", "list"])?;
        let on_guesser = |d: &&Value| d["action"] == "drop" && agent::target(d).is_ok_and(|t| covers(t, guesser));
        let Some(id) = decisions.iter().find(on_guesser).and_then(|d| d.get("id")).map(plain) else {
            return Ok(Verdict { what, result: format!("there is no decision on {guesser} to lift"), good: false });
        };
        self.agent()?.ask(&["decisions", "delete", &id])?;
        self.screen.line(&format!("weir decisions delete {id} ({guesser})"));
        self.wait(Duration::from_millis(500))?;
        let source = guesser.to_string();
        let once = ["attack", "--kind", "guess", "--from", &source, "--rate", "2", "--seconds", "1"];
        let outcome = self.role_attack(&once)?;
        let good = outcome.tries > 0 && outcome.answered == outcome.tries;
        Ok(Verdict { what, result: format!("{} of {} tries answered", outcome.answered, outcome.tries), good })
    }

    /// What Weir lists at the end, apart from what it said on the way.
    fn kernel_drops_no_client(&mut self) -> Result<Verdict> {
        let mut drops = Vec::new();
        let mut hurt = Vec::new();
        for decision in self.agent()?.ask(&["decisions", "list"])? {
            let target = agent::target(&decision)?.to_owned();
            if decision.get("action").map(plain).as_deref() != Some("drop") {
                continue;
            }
            if plan::clients().iter().any(|&c| covers(&target, c)) {
                hurt.push(target.clone());
            }
            drops.push(target);
        }
        let alerts = self.book.alerts_among(&plan::clients());
        let victim = self.book.alerts_about(plan::VICTIM.into()).count();
        let result = format!(
            "{} drops in force, {} on honest clients; alerts about honest clients: {} (and {victim} in the name of {})",
            drops.len(),
            hurt.len(),
            alerts - victim,
            plan::VICTIM
        );
        Ok(Verdict { what: "decisions list".to_owned(), result, good: hurt.is_empty() })
    }

    fn summary(&mut self, verdicts: &[Verdict]) {
        self.screen.heading("Honest clients, phase by phase");
        self.screen.plain(&report::phases(&self.phases));
        self.screen.heading(&format!("Summary after {:.0} s", self.screen.seconds()));
        self.screen.plain(&report::summary(verdicts));
    }

    /// Leaves everything running until a signal.
    fn keep(&mut self) -> Result<()> {
        self.screen.heading("The lab stays. Try, in another terminal (as root):");
        let mut lines = Vec::new();
        if let Some((agent, _)) = &self.agent {
            let weir = agent.program().display().to_string();
            let socket = agent.socket.display().to_string();
            for verb in ["status", "decisions list", "decisions add 198.51.100.11 --for 1m", "model status", "watch"] {
                lines.push(format!("  {weir} {verb} --socket {socket}"));
            }
            lines.push(format!("  tail -f {}", agent.events.display()));
        }
        let attacker = format!("nsenter --net=/run/netns/{}", self.net.host("attacker"));
        lines.push(format!("  {attacker} curl --interface {} http://{}/600", plan::ATTACKER, plan::SERVER4));
        lines.push(format!("  nsenter --net=/run/netns/{} ip addr", self.net.host("server")));
        self.screen.plain(&lines.join("\n"));
        self.screen.plain("\nCtrl-C ends it and removes everything.");
        let kept = loop {
            if let Err(e) = self.pump() {
                break e;
            }
            self.screen.progress(&self.service());
            std::thread::sleep(Duration::from_millis(100));
        };
        // A signal is the way to end it.
        if stop::check().is_err() { Ok(()) } else { Err(kept) }
    }
}

/// A JSON value as a word: strings without their quotes, lists with commas.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
