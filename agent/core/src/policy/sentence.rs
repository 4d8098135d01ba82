//! Rules in plain words, and what about them cannot work as it is written.

use std::fmt;

use super::rule::{Act, Detectors, Measure, Notify, Rule, Then, Way, When, Width};
use super::target::WIDE_LENS;
use super::{MAX_UNPROVEN_TTL_US, duration_words};
use crate::event::{Mode, Severity};
use crate::question::Unanswered;

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Measure::Nats(n) => write!(f, "{n} nats"),
            Measure::Alert(1.0) => f.write_str("the alert threshold"),
            Measure::Drop(1.0) => f.write_str("the drop threshold"),
            Measure::Alert(n) => write!(f, "{n} times the alert threshold"),
            Measure::Drop(n) => write!(f, "{n} times the drop threshold"),
        }
    }
}

fn listed<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for When {
    /// "proven flows of a remote host, evidence of at least 20 nats, port 22".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match self.proven {
            Some(true) => parts.push("proven flows alone reach the drop threshold".to_owned()),
            Some(false) => parts.push("proven flows alone do not reach the drop threshold".to_owned()),
            None => {}
        }
        parts.extend(self.evidence.map(|m| format!("the evidence reaches {m}")));
        parts.extend(self.proven_evidence.map(|m| format!("the evidence from proven flows reaches {m}")));
        parts.extend(self.severity.map(|s| match s {
            Severity::Low => "the severity is low or more".to_owned(),
            Severity::Medium => "the severity is medium or high".to_owned(),
            Severity::High => "the severity is high".to_owned(),
        }));
        parts.extend(self.detectors.map(|d| match d {
            Detectors::Autoencoder => "the autoencoder says so".to_owned(),
            Detectors::IsolationForest => "the isolation forest says so".to_owned(),
            Detectors::Both => "both detectors say so".to_owned(),
        }));
        parts.extend(self.direction.map(|w| match w {
            Way::In => "it comes from a remote host".to_owned(),
            Way::Out => "it comes from a host at home".to_owned(),
        }));
        if !self.roles.is_empty() {
            parts.push(format!("the role is {}", listed(&self.roles)));
        }
        if !self.sources.is_empty() {
            parts.push(format!("the source is in {}", listed(&self.sources)));
        }
        if !self.ports.is_empty() {
            let range = |(a, b): &(u16, u16)| if a == b { a.to_string() } else { format!("{a}-{b}") };
            parts.push(format!("it went for port {}", listed(&self.ports.iter().map(range).collect::<Vec<_>>())));
        }
        if !self.interfaces.is_empty() {
            parts.push(format!("it is seen on {}", listed(&self.interfaces)));
        }
        parts.extend(self.hours.as_ref().map(ToString::to_string));
        if parts.is_empty() { f.write_str("whatever it is") } else { write!(f, "if {}", parts.join(" and ")) }
    }
}

impl fmt::Display for Then {
    /// "drop the host for 1h".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.width {
            Width::Auto => "the host (the /64 where several of its addresses offend)".to_owned(),
            Width::Host => "the host".to_owned(),
            Width::Port => "what the host sends to the port it went for".to_owned(),
            Width::Flow => "the strange flow that still goes on, where there is one".to_owned(),
            Width::Net { v4, v6 } => {
                format!("the /{v4} (IPv6: /{v6}) where several of its addresses offend, else the host")
            }
        };
        let lasts = match self.lasts.as_ref().map(|l| (&l.steps_us[..], l.within_us)) {
            None => String::new(),
            Some(([one], _)) => format!(" for {}", duration_words(*one)),
            Some((steps, within)) => {
                let steps: Vec<String> = steps.iter().map(|s| duration_words(*s)).collect();
                format!(" for {}, each time longer within {}", steps.join(", then "), duration_words(within))
            }
        };
        let did = match self.act {
            Act::None => "do nothing and tell nobody".to_owned(),
            Act::Alert => "alert only".to_owned(),
            Act::Shadow => format!("count what {what} sends{lasts}"),
            Act::Limit(rate) => format!("limit {what} to {rate}{lasts}"),
            Act::Drop => format!("drop {what}{lasts}"),
        };
        let mut parts = vec![did];
        parts.extend(self.ask.map(|a| {
            let then = match a.unanswered {
                Unanswered::Nothing => "nothing is done",
                Unanswered::Act => "it is done",
            };
            format!("but ask a person first; without an answer within {} {then}", duration_words(a.ttl_us))
        }));
        parts.extend(self.mode.map(|m| format!("in mode {} at most", m.name())));
        match self.notify {
            Notify::Once => {}
            Notify::Always => parts.push("with an alert each time".to_owned()),
            Notify::Never => parts.push("without an alert".to_owned()),
        }
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Rule {
    /// One sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = self.when.to_string();
        write!(f, "{}{}: {}.", when[..1].to_uppercase(), &when[1..], self.then)
    }
}

/// Something about a rule that does not work as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Its place among the rules.
    pub rule: usize,
    pub words: String,
}

/// What does not work as it is written, where the agent is in `mode` and watches `interface` (`None`: not known).
pub fn remarks(rules: &[Rule], mode: Mode, interface: Option<&str>) -> Vec<Remark> {
    let mut all = Vec::new();
    for (i, r) in rules.iter().enumerate() {
        let mut say = |words: String| all.push(Remark { rule: i, words });
        if let Some(why) = r.when.impossible() {
            say(format!("can never match: {why}"));
            continue;
        }
        if let Some(by) = rules[..i].iter().find(|earlier| earlier.when.covers(&r.when)) {
            say(format!("can never match: rule `{}` before it matches all of it", by.name));
            continue;
        }
        let named = interface
            .filter(|watched| !r.when.interfaces.is_empty() && !r.when.interfaces.iter().any(|i| i == watched));
        if let Some(watched) = named {
            say(format!("can never match: {watched} is watched, and nothing else"));
            continue;
        }
        outcome(r, mode, &mut say);
    }
    all
}

fn outcome(r: &Rule, mode: Mode, say: &mut dyn FnMut(String)) {
    let then = &r.then;
    let unproven = r.when.proven == Some(false);
    if then.act == Act::Drop && unproven {
        say("drops nothing: what is not proven may be forged, and is only counted, for 10 minutes at most".to_owned());
    }
    if let Some(asked) = then.mode.filter(|m| m.strength() > mode.strength()) {
        say(format!("`mode: {}` does nothing: the agent is in mode {}", asked.name(), mode.name()));
    }
    let entered = then.act.action().is_some();
    if !entered {
        let idle = [
            ("for` or `escalate", then.lasts.is_some()),
            ("target", then.width != Width::Auto),
            ("mode", then.mode.is_some()),
        ];
        for (key, _) in idle.iter().filter(|(_, set)| *set) {
            say(format!("`{key}` does nothing: nothing is entered"));
        }
    }
    if then.ask.is_some() && (!then.act.stops() || (then.act == Act::Drop && unproven)) {
        say("`ask` does nothing: nothing would stop packets".to_owned());
    }
    if r.when.direction == Some(Way::Out) && entered && then.ask.is_none() {
        say("stops nobody: hosts at home are alerted about and never stopped; `ask` has a person decide".to_owned());
    }
    if then.act == Act::None && then.notify != Notify::Once {
        say("`notify` does nothing: `action: none` tells nobody".to_owned());
    }
    let longest = then.lasts.as_ref().and_then(|l| l.steps_us.iter().max()).copied().unwrap_or(0);
    if entered && unproven && longest > MAX_UNPROVEN_TTL_US {
        say(format!("lasts 10m at most, not {}: what is not proven may be forged", duration_words(longest)));
    }
    if let Width::Net { v4, v6 } = then.width
        && then.act.stops()
        && (v4 < WIDE_LENS.0 || v6 < WIDE_LENS.1)
    {
        let (a, b) = WIDE_LENS;
        say(format!(
            "a person is asked about each network that is wider than /{a} (IPv6: /{b}), whatever the rule says"
        ));
    }
}
