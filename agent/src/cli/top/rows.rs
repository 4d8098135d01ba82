//! What is shown, taken from the agent's answers. Texts are inert from here on: they may be names that others chose.

use serde::Serialize;
use weir_core::record::TimeUs;

use super::super::output::clean;
use crate::command::{AlertReport, StatusReport, XdpMode};
use crate::human;
use crate::proto as pb;

/// Rates over an interval, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Packets and bytes a second.
    pub passed: [f64; 2],
    pub dropped: [f64; 2],
    pub limited: [f64; 2],
    /// Of the passed, what shadow entries would have stopped.
    pub shadowed: [f64; 2],
    pub flows_new: f64,
    pub flows_live: u64,
}

impl Rates {
    /// Over the points, the latest last; nothing went by where there are none.
    pub fn over(points: &[pb::TrafficPoint]) -> Self {
        let seconds = points.iter().map(|p| p.interval_us).sum::<u64>() as f64 / 1e6;
        let per = |count: fn(&pb::TrafficPoint) -> u64| match seconds {
            s if s > 0.0 => points.iter().map(count).sum::<u64>() as f64 / s,
            _ => 0.0,
        };
        Self {
            passed: [per(|p| p.packets_passed), per(|p| p.bytes_passed)],
            dropped: [per(|p| p.packets_dropped), per(|p| p.bytes_dropped)],
            limited: [per(|p| p.packets_limited), per(|p| p.bytes_limited)],
            shadowed: [per(|p| p.packets_shadowed), per(|p| p.bytes_shadowed)],
            flows_new: per(|p| p.flows_new),
            flows_live: points.last().map_or(0, |p| p.flows_live),
        }
    }
}

/// A source by its evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Source {
    pub source: String,
    pub evidence: f64,
    pub evidence_proven: f64,
    pub flows: u64,
    pub ports: Vec<u32>,
    pub last_us: TimeUs,
    /// What is decided about it; empty: nothing.
    pub decided: String,
}

impl From<pb::TopSource> for Source {
    fn from(s: pb::TopSource) -> Self {
        let decided = s.decided.map(|d| {
            let action = pb::Action::try_from(d.action).map(|a| a.as_str_name()).unwrap_or_default();
            let action = action.trim_start_matches("ACTION_").to_ascii_lowercase();
            // The network or the port, where it is not simply the source.
            match d.target == s.source {
                true => action,
                false => format!("{action} {}", d.target),
            }
        });
        Self {
            source: clean(&s.source),
            evidence: s.evidence,
            evidence_proven: s.evidence_proven,
            flows: s.flows,
            ports: s.ports,
            last_us: s.last_us,
            decided: clean(&decided.unwrap_or_default()),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Alert {
    pub id: u64,
    pub time_us: TimeUs,
    pub severity: String,
    pub source: String,
    pub evidence: f64,
    pub outcome: String,
    /// For who opens it: what is said of it, line by line.
    #[serde(skip)]
    pub lines: Vec<String>,
}

/// Low is less.
pub fn severity_rank(severity: &str) -> u8 {
    ["low", "medium", "high"].iter().position(|s| *s == severity).map_or(0, |i| i as u8 + 1)
}

impl From<&AlertReport> for Alert {
    fn from(a: &AlertReport) -> Self {
        let ports: Vec<String> = a.ports.iter().map(u16::to_string).collect();
        let mut lines = vec![
            format!("source    {}", a.source),
            format!("severity  {} (evidence {:.1}, of proven flows {:.1})", a.severity, a.evidence, a.evidence_proven),
            format!("limits    alert from {:.1}, drop from {:.1}", a.alert_threshold, a.drop_threshold),
            format!("done      {} (mode {})", a.outcome, a.mode),
            format!("flows     {}{}", human::grouped(a.flows), of_ports(&ports)),
            format!("judged    profile {}, role {}, p-value {}", a.profile, a.role, a.p_value),
            String::new(),
            "why it is strange, the most telling first".to_owned(),
        ];
        lines.extend(a.reasons.iter().enumerate().map(|(i, r)| format!("  {}. {}", i + 1, r.words)));
        if !a.unless.is_empty() {
            lines.push(format!("  {}", a.unless));
        }
        if let (Some(first), Some(last)) = (a.history.first(), a.history.last()) {
            lines.push(String::new());
            lines.push(format!("evidence since then: {:.1} at first, {:.1} at last", first.all, last.all));
        }
        Self {
            id: a.id,
            time_us: a.time_us,
            severity: clean(&a.severity),
            source: a.source.to_string(),
            evidence: a.evidence,
            outcome: clean(&a.outcome),
            lines: lines.iter().map(|l| clean(l)).collect(),
        }
    }
}

fn of_ports(ports: &[String]) -> String {
    match ports {
        [] => String::new(),
        some => format!(" to port {}", some.join(", ")),
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Question {
    pub id: u64,
    pub asked_us: TimeUs,
    /// "drop 203.0.113.66".
    pub proposed: String,
    /// The proposed answer as the agent names it.
    pub action: String,
    pub ttl_us: u64,
    pub source: String,
    pub why: String,
    /// As the agent has it: "open", "answered", "unanswered", "undone".
    pub state: String,
    pub came_to: String,
    pub expires_us: TimeUs,
}

impl From<&pb::Question> for Question {
    fn from(q: &pb::Question) -> Self {
        Self {
            id: q.id,
            asked_us: q.asked_us,
            proposed: clean(&format!("{} {}", q.action, q.target)),
            action: q.action.clone(),
            ttl_us: q.ttl_us,
            source: clean(&q.source),
            why: clean(&q.why),
            state: clean(&q.state),
            came_to: clean(&q.came_to),
            expires_us: q.expires_us,
        }
    }
}

impl Question {
    pub fn is_open(&self) -> bool {
        self.state == "open"
    }

    pub fn is_answered(&self) -> bool {
        self.state == "answered"
    }
}

/// What may be answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    pub number: u32,
    pub words: String,
    /// The answer's names, as the agent gave them.
    pub choice: String,
    pub width: String,
    pub refused: String,
}

/// A question that was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opened {
    pub question: Question,
    pub lines: Vec<String>,
    pub choices: Vec<Choice>,
}

impl From<&pb::QuestionDetail> for Opened {
    fn from(d: &pb::QuestionDetail) -> Self {
        let q = d.question.clone().unwrap_or_default();
        let mut lines = vec![format!("seen      {}: {}", q.source, q.evidence), format!("because   {}", q.why)];
        if q.alert_id > 0 {
            lines.push(format!("alert     {}", q.alert_id));
        }
        if q.state != "open" {
            lines.push(format!("state     {}: {}", q.state, q.came_to));
        }
        if !d.reasons.is_empty() {
            lines.push("why it is strange, the most telling first".to_owned());
            lines.extend(d.reasons.iter().enumerate().map(|(i, r)| format!("  {}. {r}", i + 1)));
        }
        if !d.basis.is_empty() {
            lines.push(format!("predicted from {}", d.basis));
        }
        let choice = |o: &pb::QuestionOption| {
            let cut = o.collateral.as_ref().map(|c| format!(" - it would have met: {}", c.words)).unwrap_or_default();
            Choice {
                number: o.number,
                words: clean(&format!("{}{cut}", o.words)),
                choice: o.choice.clone(),
                width: o.width.clone(),
                refused: clean(&o.refused),
            }
        };
        Self {
            question: Question::from(&q),
            lines: lines.iter().map(|l| clean(l)).collect(),
            choices: d.options.iter().map(choice).collect(),
        }
    }
}

/// The agent itself, in a few words.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct About {
    pub interface: String,
    /// The mode in force, and the configured one where that is another.
    pub mode: String,
    pub xdp: String,
    pub bundle: String,
    pub uptime_us: u64,
    pub warnings: Vec<String>,
    pub entries: u64,
}

impl From<&StatusReport> for About {
    fn from(s: &StatusReport) -> Self {
        let mode = match s.mode_effective == s.mode_configured {
            true => s.mode_effective.name().to_owned(),
            false => format!("{} (configured: {})", s.mode_effective.name(), s.mode_configured.name()),
        };
        let bundle = match (&s.bundle, &s.learning) {
            (Some(b), _) if b.promoted => format!("{} (promoted)", b.id),
            (Some(b), _) => b.id.clone(),
            (None, Some(_)) => "learning".to_owned(),
            (None, None) => "none".to_owned(),
        };
        Self {
            interface: match s.interface.as_str() {
                "" => "exported flows".to_owned(),
                name => clean(name),
            },
            mode,
            xdp: match s.xdp_mode {
                Some(XdpMode::Native) => "native".to_owned(),
                Some(XdpMode::Generic) => "generic".to_owned(),
                None => "none".to_owned(),
            },
            bundle: clean(&bundle),
            uptime_us: s.uptime_us,
            warnings: s.warnings.iter().map(|w| clean(w)).collect(),
            entries: s.decisions.iter().map(|d| d.count).sum(),
        }
    }
}

/// Everything as it stood at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub time_us: TimeUs,
    pub about: About,
    /// Of the last minutes, the oldest first.
    pub traffic: Vec<pb::TrafficPoint>,
    pub sources: Vec<Source>,
    /// Sources that there is any evidence of.
    pub sources_known: u64,
    pub alert_threshold: Option<f64>,
    pub alerts: Vec<Alert>,
    pub questions: Vec<Question>,
}

/// Packets a second for reading: `0`, `7.3`, `412`, `12.3k`.
pub fn rate(v: f64) -> String {
    match v {
        v if v <= 0.0 => "0".to_owned(),
        v if v < 10.0 => format!("{v:.1}"),
        v if v < 1e3 => format!("{v:.0}"),
        v if v < 1e6 => format!("{:.1}k", v / 1e3),
        v if v < 1e9 => format!("{:.1}M", v / 1e6),
        v => format!("{:.1}G", v / 1e9),
    }
}

pub fn bytes_rate(v: f64) -> String {
    format!("{}/s", human::bytes(v.max(0.0) as u64))
}
