//! `policy.rules`: how rules are read, with the place of every mistake, and written back.

use std::time::Duration;

use weir_core::addr::Prefix;
use weir_core::event::{Mode, Severity};
use weir_core::policy::rule::{
    Act, Ask, Detectors, Lasts, MAX_RULES, Measure, NET_LENS, Notify, REPEAT_WITHIN_US, Rule, Then, Way, When, Width,
};
use weir_core::policy::time::{ALL_DAYS, DAYS, Hours};
use weir_core::question::Unanswered;
use weir_core::rate::{RateLimit, RateUnit};
use weir_core::role::Role;

use super::Problem;
use super::setting::{Item, Setting, Shown, Word, unknown};
use super::tree::{At, Kind, Node};
use super::zone::zone;
use crate::human;

const RULE: &[&str] = &["name", "when", "action", "target", "for", "escalate", "within", "ask", "notify", "mode"];
const WHEN: &[&str] = &[
    "evidence",
    "proven_evidence",
    "severity",
    "proven",
    "detectors",
    "role",
    "direction",
    "source",
    "port",
    "time",
    "days",
    "zone",
    "interface",
];
const SEVERITIES: &[(&str, Severity)] = &Severity::NAMES;
const DETECTORS: &[(&str, Detectors)] = &[
    ("autoencoder", Detectors::Autoencoder),
    ("isolation_forest", Detectors::IsolationForest),
    ("both", Detectors::Both),
];
const WAYS: &[(&str, Way)] = &[("in", Way::In), ("out", Way::Out)];
const NOTIFY: &[(&str, Notify)] = &[("once", Notify::Once), ("always", Notify::Always), ("never", Notify::Never)];
const UNANSWERED: &[(&str, Unanswered)] = &[("nothing", Unanswered::Nothing), ("act", Unanswered::Act)];
/// How long a question waits where a rule does not say.
const ASK_FOR: Duration = Duration::from_secs(3600);
/// The longest time in a rule, s: a year.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
/// Networks that an automatic target may be made of at all, by family: the shortest and the longest prefix.
const NET4: (u8, u8) = (8, 32);
const NET6: (u8, u8) = (19, 128);

/// How many there may be, and that each has a name of its own.
#[allow(clippy::ptr_arg, reason = "the table of keys gives the value as it is kept")]
pub fn fit(rules: &Vec<Rule>) -> Result<(), String> {
    if rules.len() > MAX_RULES {
        return Err(format!("{} rules are too many; at most {MAX_RULES}", rules.len()));
    }
    let named = |i: usize| rules.get(i).filter(|r| !r.name.is_empty()).map(|r| &r.name);
    match (0..rules.len()).find(|i| named(*i).is_some_and(|n| rules[..*i].iter().any(|r| r.name == *n))) {
        Some(i) => Err(format!("two rules are called `{}`; a name tells them apart", rules[i].name)),
        None => Ok(()),
    }
}

/// Rules without a name are called by their place.
pub fn name(rules: &mut [Rule]) {
    for (i, r) in rules.iter_mut().enumerate().filter(|(_, r)| r.name.is_empty()) {
        r.name = format!("rule {}", i + 1);
    }
}

/// A mapping with known keys.
struct Fields<'n> {
    entries: &'n [(String, At, Node)],
    path: String,
}

impl<'n> Fields<'n> {
    fn of(node: &'n Node, path: &str, allowed: &[&str], problems: &mut Vec<Problem>) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            let keys = allowed.join(", ");
            let words = format!("expected a mapping with the keys {keys}; found {}", node.describe());
            problems.push(Problem::new(node.at, path, words));
            return None;
        };
        for (i, (key, at, _)) in entries.iter().enumerate() {
            let place = format!("{path}.{key}");
            if !allowed.contains(&key.as_str()) {
                problems.push(unknown(*at, &place, allowed, key));
            } else if let Some((_, first, _)) = entries[..i].iter().find(|(k, ..)| k == key) {
                problems.push(Problem::new(*at, &place, format!("set twice; the first is in line {}", first.line)));
            }
        }
        Some(Self { entries, path: path.to_owned() })
    }

    /// What stands under a key, unless it is empty.
    fn get(&self, key: &str) -> Option<(&'n Node, String)> {
        let (_, _, node) = self.entries.iter().find(|(k, _, n)| k == key && n.kind != Kind::Null)?;
        Some((node, format!("{}.{key}", self.path)))
    }

    fn at(&self, key: &str) -> Option<At> {
        self.get(key).map(|(node, _)| node.at)
    }

    /// One value as text, understood by `parse`.
    fn one<T>(&self, key: &str, problems: &mut Vec<Problem>, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let (node, path) = self.get(key)?;
        scalar(node, &path, problems, &parse)
    }

    /// One value, or a list of them.
    fn some<T>(&self, key: &str, problems: &mut Vec<Problem>, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some((node, path)) = self.get(key) else { return Vec::new() };
        match &node.kind {
            Kind::List(items) if items.is_empty() => {
                problems.push(Problem::new(node.at, &path, "an empty list matches nothing; leave the key out".into()));
                Vec::new()
            }
            Kind::List(items) => {
                let each = items.iter().enumerate();
                each.filter_map(|(i, n)| scalar(n, &format!("{path}[{i}]"), problems, &parse)).collect()
            }
            _ => scalar(node, &path, problems, &parse).into_iter().collect(),
        }
    }
}

fn scalar<T>(
    node: &Node,
    path: &str,
    problems: &mut Vec<Problem>,
    parse: &impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let parsed = match &node.kind {
        Kind::Scalar(text, _) => parse(text.trim()),
        _ => Err(format!("expected one value, found {}", node.describe())),
    };
    parsed.map_err(|words| problems.push(Problem::new(node.at, path, words))).ok()
}

fn choice<T: Copy>(all: &'static [(&'static str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| super::setting::choice(text, all)
}

fn word<T: Copy + PartialEq>(v: T, all: &[(&'static str, T)]) -> Shown {
    Shown::Scalar(super::setting::name_of(&v, all))
}

/// `20`, `alert`, `2x alert`, `1.5x drop`.
fn measure(text: &str) -> Result<Measure, String> {
    let bad = || {
        format!("`{text}` is no level of evidence; write nats such as 20, alert, drop, or a multiple such as 2x alert")
    };
    let number = |s: &str| s.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(bad);
    let (times, of) = match text.split_once('x') {
        Some((n, of)) => (number(n.trim())?, of.trim()),
        None => (1.0, text),
    };
    if times < 1.0 {
        return Err(format!("`{text}` lies below the threshold, where nobody is judged; write 1x or more"));
    }
    match of {
        "alert" => Ok(Measure::Alert(times)),
        "drop" => Ok(Measure::Drop(times)),
        _ => number(text).map(Measure::Nats),
    }
}

fn show_measure(m: Measure) -> Shown {
    let of = |times: f64, name: &str| if times == 1.0 { name.to_owned() } else { format!("{times}x {name}") };
    Shown::Scalar(match m {
        Measure::Nats(n) => n.to_string(),
        Measure::Alert(times) => of(times, "alert"),
        Measure::Drop(times) => of(times, "drop"),
    })
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let bad = || format!("`{text}` is no port; write a number such as 22, or a range such as 8000-8100");
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let of = |s: &str| s.trim().parse::<u16>().map_err(|_| bad());
    let (from, to) = (of(from)?, of(to)?);
    if from <= to { Ok((from, to)) } else { Err(format!("`{text}` goes backward; write {to}-{from}")) }
}

/// `22:00-06:00`, in minutes.
fn span(text: &str) -> Result<(u16, u16), String> {
    let bad = || format!("`{text}` is no span of the day; write for example 22:00-06:00");
    let of = |s: &str| {
        let (h, m) = s.trim().split_once(':')?;
        let (h, m) = (h.parse::<u16>().ok()?, m.parse::<u16>().ok()?);
        (m < 60 && (h < 24 || (h, m) == (24, 0))).then_some(h * 60 + m)
    };
    let (from, to) = text.split_once('-').ok_or_else(bad)?;
    let (from, to) = (of(from).ok_or_else(bad)? % 1440, of(to).ok_or_else(bad)?);
    if from == to { Err(format!("`{text}` is no time at all; for the whole day leave it out")) } else { Ok((from, to)) }
}

/// `mon`, `mon-fri`, as bits.
fn days(text: &str) -> Result<u8, String> {
    let bad = || format!("`{text}` is no day; expected {}, or a range such as mon-fri", DAYS.join(", "));
    let of = |s: &str| DAYS.iter().position(|d| *d == s.trim()).ok_or_else(bad);
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (of(from)?, of(to)?);
    let length = (to + 7 - from) % 7;
    Ok((0..=length).fold(0, |bits, i| bits | 1 << ((from + i) % 7)))
}

fn interface(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 15 || text.contains(['/', ' ']) || text.contains(char::is_control) {
        return Err(format!("`{text}` is no interface name: at most 15 bytes, without `/` and spaces"));
    }
    Ok(text.to_owned())
}

/// `none`, `alert`, `shadow`, `drop`, `limit 100pps`, `limit 2MBps burst 5M`.
fn action(text: &str) -> Result<Act, String> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    match words[..] {
        ["none"] => Ok(Act::None),
        ["alert"] => Ok(Act::Alert),
        ["shadow"] => Ok(Act::Shadow),
        ["drop"] => Ok(Act::Drop),
        ["limit", rate] => rate.parse().map(Act::Limit).map_err(|e: weir_core::rate::RateError| e.to_string()),
        ["limit", rate, "burst", burst] => {
            let rate: RateLimit = rate.parse().map_err(|e: weir_core::rate::RateError| e.to_string())?;
            let burst = human::parse_count(burst).map_err(|e| e.to_string())?;
            RateLimit::new(rate.unit(), rate.per_second(), Some(burst)).map(Act::Limit).map_err(|e| e.to_string())
        }
        _ => Err(format!("`{text}` is no action; expected none, alert, shadow, drop, or limit RATE [burst COUNT]")),
    }
}

fn show_action(act: Act) -> Shown {
    let text = match act {
        Act::None => "none".to_owned(),
        Act::Alert => "alert".to_owned(),
        Act::Shadow => "shadow".to_owned(),
        Act::Drop => "drop".to_owned(),
        Act::Limit(r) => {
            let unit = if r.unit() == RateUnit::Packets { "pps" } else { "Bps" };
            format!("limit {}{unit} burst {}", r.per_second(), r.burst())
        }
    };
    Shown::Scalar(text)
}

fn lifetime(text: &str) -> Result<Duration, String> {
    match Duration::parse(text)? {
        Duration::ZERO => Err("0 would never hold; give a longer time, such as 10m".into()),
        d if d > LONGEST => Err(format!("{text} is too long; at most {}", human::duration(LONGEST))),
        d => Ok(d),
    }
}

fn us(d: Duration) -> u64 {
    d.as_micros() as u64
}

fn show_us(us: u64) -> Shown {
    Shown::Scalar(human::duration(human::micros(us)))
}

fn when(node: &Node, path: &str, problems: &mut Vec<Problem>) -> When {
    let Some(f) = Fields::of(node, path, WHEN, problems) else { return When::default() };
    let span = f.one("time", problems, span);
    let named_days = f.some("days", problems, days);
    let in_zone = f.one("zone", problems, zone);
    if let (Some(at), None, true) = (f.at("zone"), f.at("time"), f.at("days").is_none()) {
        let words = "a zone alone says nothing; add `time` or `days`".to_owned();
        problems.push(Problem::new(at, &format!("{path}.zone"), words));
    }
    let bits = named_days.iter().fold(0, |all, d| all | d);
    let hours = (span.is_some() || bits != 0).then(|| Hours {
        span,
        days: if bits == 0 { ALL_DAYS } else { bits },
        zone: in_zone.unwrap_or_else(weir_core::policy::time::Zone::utc),
    });
    When {
        evidence: f.one("evidence", problems, measure),
        proven_evidence: f.one("proven_evidence", problems, measure),
        severity: f.one("severity", problems, choice(SEVERITIES)),
        proven: f.one("proven", problems, bool::parse),
        detectors: f.one("detectors", problems, choice(DETECTORS)),
        roles: f.some("role", problems, |t| t.parse::<Role>().map_err(|e| e.to_string())),
        direction: f.one("direction", problems, choice(WAYS)),
        sources: f.some("source", problems, Prefix::parse),
        ports: f.some("port", problems, ports),
        hours,
        interfaces: f.some("interface", problems, interface),
    }
}

fn width(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Width {
    if let Kind::Map(_) = node.kind {
        let Some(f) = Fields::of(node, path, &["v4", "v6"], problems) else { return Width::Auto };
        let length = |(low, high): (u8, u8)| {
            move |text: &str| match text.trim_start_matches('/').parse::<u8>() {
                Ok(n) if n >= low && n <= high => Ok(n),
                _ => Err(format!("`{text}` is no length of a prefix here; expected {low} to {high}")),
            }
        };
        let v4 = f.one("v4", problems, length(NET4)).unwrap_or(NET_LENS.0);
        return Width::Net { v4, v6: f.one("v6", problems, length(NET6)).unwrap_or(NET_LENS.1) };
    }
    let parse = |text: &str| match text {
        "host" => Ok(Width::Host),
        "port" => Ok(Width::Port),
        "net" => Ok(Width::Net { v4: NET_LENS.0, v6: NET_LENS.1 }),
        "auto" => Ok(Width::Auto),
        "flow" => Ok(Width::Flow),
        _ => Err(format!(
            "`{text}` is no target; expected auto, host, port, flow, net, or lengths such as {{v4: 22, v6: 56}}"
        )),
    };
    scalar(node, path, problems, &parse).unwrap_or_default()
}

fn show_width(width: Width) -> Option<Shown> {
    let word = |w: &str| Some(Shown::Scalar(w.to_owned()));
    match width {
        Width::Auto => None,
        Width::Flow => word("flow"),
        Width::Port => word("port"),
        Width::Host => word("host"),
        Width::Net { v4, v6 } => {
            let length = |n: u8| Shown::Scalar(n.to_string());
            Some(Shown::Map(vec![("v4", length(v4)), ("v6", length(v6))]))
        }
    }
}

fn ask(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Ask> {
    let default = Ask { ttl_us: us(ASK_FOR), unanswered: Unanswered::Nothing };
    let Kind::Map(_) = node.kind else {
        return scalar(node, path, problems, &bool::parse)?.then_some(default);
    };
    let f = Fields::of(node, path, &["within", "then"], problems)?;
    let ttl_us = f.one("within", problems, lifetime).map_or(default.ttl_us, us);
    Some(Ask { ttl_us, unanswered: f.one("then", problems, choice(UNANSWERED)).unwrap_or_default() })
}

fn lasts(f: &Fields<'_>, problems: &mut Vec<Problem>) -> Option<Lasts> {
    let once = f.one("for", problems, lifetime);
    let steps = f.some("escalate", problems, lifetime);
    let within = f.one("within", problems, lifetime);
    let mut wrong = |key: &str, words: &str| {
        let at = f.at(key).unwrap_or_default();
        problems.push(Problem::new(at, &format!("{}.{key}", f.path), words.to_owned()));
    };
    if f.at("for").is_some() && f.at("escalate").is_some() {
        wrong("for", "`escalate` says how long; leave one of the two out");
    }
    if f.at("within").is_some() && f.at("escalate").is_none() {
        wrong("within", "it says how long `escalate` remembers, and there is none");
    }
    if !steps.is_sorted() {
        wrong("escalate", "each time must be at least as long as the one before");
    }
    if steps.len() > 16 {
        wrong("escalate", "at most 16 times are remembered");
    }
    let within_us = within.map_or(REPEAT_WITHIN_US, us);
    match once {
        Some(d) => Some(Lasts::once(us(d))),
        None if steps.is_empty() => None,
        None => Some(Lasts { steps_us: steps.into_iter().map(us).collect(), within_us }),
    }
}

impl Item for Rule {
    fn item(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let before = problems.len();
        let f = Fields::of(node, path, RULE, problems)?;
        if !f.entries.iter().any(|(k, ..)| k == "action") {
            let words = "`action` is missing; add none, alert, shadow, drop, or limit RATE".to_owned();
            problems.push(Problem::new(node.at, path, words));
        }
        let name = f.one("name", problems, |t| match t {
            "" => Err("an empty name is none; leave it out".to_owned()),
            t if t.len() > 64 || t.contains(char::is_control) => Err("at most 64 bytes in one line".to_owned()),
            t => Ok(t.to_owned()),
        });
        let when = f.get("when").map(|(n, p)| when(n, &p, problems)).unwrap_or_default();
        let act = f.one("action", problems, action);
        let width = f.get("target").map(|(n, p)| width(n, &p, problems)).unwrap_or_default();
        let lasts = lasts(&f, problems);
        let ask = f.get("ask").and_then(|(n, p)| ask(n, &p, problems));
        let notify = f.one("notify", problems, choice(NOTIFY)).unwrap_or_default();
        let mode = f.one("mode", problems, Mode::parse);
        let then = Then { width, lasts, ask, notify, mode, ..Then::new(act.unwrap_or(Act::Alert)) };
        (problems.len() == before).then(|| Rule { name: name.unwrap_or_default(), when, then })
    }

    fn show_item(&self) -> Shown {
        let (w, t) = (&self.when, &self.then);
        fn all<T: ToString>(items: &[T]) -> Option<Shown> {
            (!items.is_empty()).then(|| Shown::List(items.iter().map(|i| Shown::Scalar(i.to_string())).collect()))
        }
        let ranges: Vec<_> =
            w.ports.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect();
        let clock = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
        let hours = w.hours.as_ref();
        let span = hours.and_then(|h| h.span).map(|(a, b)| Shown::Scalar(format!("{}-{}", clock(a), clock(b))));
        let named = hours.filter(|h| h.days != ALL_DAYS || h.span.is_none()).and_then(|h| {
            all(&(0..7).filter(|d| h.days >> d & 1 == 1).filter_map(|d| DAYS.get(d as usize)).collect::<Vec<_>>())
        });
        let conditions = [
            ("evidence", w.evidence.map(show_measure)),
            ("proven_evidence", w.proven_evidence.map(show_measure)),
            ("severity", w.severity.map(|s| word(s, SEVERITIES))),
            ("proven", w.proven.map(|p| p.show())),
            ("detectors", w.detectors.map(|d| word(d, DETECTORS))),
            ("role", all(&w.roles)),
            ("direction", w.direction.map(|d| word(d, WAYS))),
            ("source", all(&w.sources)),
            ("port", all(&ranges)),
            ("time", span),
            ("days", named),
            ("zone", hours.map(|h| Shown::Scalar(h.zone.name().to_owned()))),
            ("interface", all(&w.interfaces)),
        ];
        let when = map(conditions);
        let steps = t.lasts.as_ref().map(|l| &l.steps_us[..]);
        let escalates = t.lasts.as_ref().filter(|l| l.steps_us.len() > 1);
        let asks = |a: Ask| Shown::Map(vec![("within", show_us(a.ttl_us)), ("then", word(a.unanswered, UNANSWERED))]);
        map([
            ("name", Some(Shown::Scalar(self.name.clone()))),
            ("when", when),
            ("action", Some(show_action(t.act))),
            ("target", show_width(t.width)),
            ("for", steps.and_then(|s| if let [one] = s { Some(show_us(*one)) } else { None })),
            ("escalate", escalates.map(|l| Shown::List(l.steps_us.iter().map(|s| show_us(*s)).collect()))),
            ("within", escalates.map(|l| show_us(l.within_us))),
            ("ask", t.ask.map(asks)),
            ("notify", (t.notify != Notify::Once).then(|| word(t.notify, NOTIFY))),
            ("mode", t.mode.map(|m| m.show())),
        ])
        .unwrap_or(Shown::Null)
    }
}

/// The keys that are set; `None` where none is.
fn map<const N: usize>(fields: [(&'static str, Option<Shown>); N]) -> Option<Shown> {
    let set: Vec<_> = fields.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
    (!set.is_empty()).then_some(Shown::Map(set))
}
