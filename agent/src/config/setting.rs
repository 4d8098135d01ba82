//! How each type of setting is read from the tree and written back.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use weir_core::addr::Prefix;
use weir_core::event::Mode;
use weir_core::question::Unanswered;
use weir_kernel::lease::Lapse;

use super::tree::{At, Kind, Node};
use super::{AllowRule, DEFAULT_NETFLOW, DefaultModel, EventTarget, LogTarget, OnStop, Problem, XdpChoice};
use crate::human;

/// A value on its way to YAML, JSON or a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    Null,
    Scalar(String),
    List(Vec<Shown>),
    Map(Vec<(&'static str, Shown)>),
    /// By names that people choose.
    Named(Vec<(String, String)>),
}

pub trait Setting: Sized {
    /// Reads the value; what is wrong with it goes to `problems`.
    fn read(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self>;
    fn show(&self) -> Shown;
}

/// A setting written as one word.
pub trait Word: Sized {
    const EXPECTED: &'static str;
    fn parse(text: &str) -> Result<Self, String>;
    fn word(&self) -> String;
}

impl<T: Word> Setting for T {
    fn read(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let result = match &node.kind {
            Kind::Scalar(text, _) => T::parse(text),
            _ => Err(format!("expected {}, found {}", T::EXPECTED, node.describe())),
        };
        result.map_err(|message| problems.push(Problem::new(node.at, path, message))).ok()
    }
    fn show(&self) -> Shown {
        Shown::Scalar(self.word())
    }
}

impl Word for Duration {
    const EXPECTED: &'static str = "a length of time such as 90s or 4h";
    fn parse(text: &str) -> Result<Self, String> {
        human::parse_duration(text).map_err(|e| e.to_string())
    }
    fn word(&self) -> String {
        human::duration(*self)
    }
}

impl Word for u64 {
    const EXPECTED: &'static str = "a count such as 2000 or 128k";
    fn parse(text: &str) -> Result<Self, String> {
        human::parse_count(text).map_err(|e| e.to_string())
    }
    fn word(&self) -> String {
        human::count(*self)
    }
}

impl Word for u32 {
    const EXPECTED: &'static str = u64::EXPECTED;
    fn parse(text: &str) -> Result<Self, String> {
        let n = u64::parse(text)?;
        u32::try_from(n).map_err(|_| format!("{text} is too large; at most {}", u32::MAX))
    }
    fn word(&self) -> String {
        human::count(u64::from(*self))
    }
}

impl Word for f64 {
    const EXPECTED: &'static str = "a number such as 10 or 0.05";
    fn parse(text: &str) -> Result<Self, String> {
        let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |n| (n, 0.01));
        match number.trim().parse::<f64>() {
            Ok(v) if v.is_finite() => Ok(v * scale),
            _ => Err(format!("`{text}` is no number; expected {}", Self::EXPECTED)),
        }
    }
    fn word(&self) -> String {
        self.to_string()
    }
}

impl Word for bool {
    const EXPECTED: &'static str = "true or false";
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" | "yes" | "on" => Ok(true),
            "false" | "no" | "off" => Ok(false),
            _ => Err(format!("`{text}` is neither true nor false")),
        }
    }
    fn word(&self) -> String {
        self.to_string()
    }
}

impl Word for PathBuf {
    const EXPECTED: &'static str = "an absolute path";
    fn parse(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        if path.is_absolute() { Ok(path) } else { Err(format!("`{text}` is no absolute path; start it with `/`")) }
    }
    fn word(&self) -> String {
        self.display().to_string()
    }
}

/// The value named `text` among `all`, or what would have been allowed.
pub fn choice<T: Copy>(text: &str, all: &[(&str, T)]) -> Result<T, String> {
    all.iter().find(|(name, _)| *name == text).map(|(_, v)| *v).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|(n, _)| *n).collect();
        format!("`{text}` is not allowed; expected one of {}", names.join(", "))
    })
}

pub fn name_of<T: PartialEq>(v: &T, all: &[(&str, T)]) -> String {
    all.iter().find(|(_, x)| x == v).map_or_else(String::new, |(n, _)| (*n).to_owned())
}

/// Settings that are one of a few names.
macro_rules! choices {
    ($t:ty, $expected:literal, [$(($name:literal, $value:expr)),+]) => {
        impl $t {
            const CHOICES: &[(&str, $t)] = &[$(($name, $value)),+];
        }
        choices!(impl $t, $expected, <$t>::CHOICES);
    };
    (impl $t:ty, $expected:literal, $all:expr) => {
        impl Word for $t {
            const EXPECTED: &'static str = $expected;
            fn parse(text: &str) -> Result<Self, String> {
                choice(text, $all)
            }
            fn word(&self) -> String {
                name_of(self, $all)
            }
        }
    };
}

pub(super) use choices;

pub const MODES: &[(&str, Mode)] =
    &[("observe", Mode::Observe), ("shadow", Mode::Shadow), ("review", Mode::Review), ("enforce", Mode::Enforce)];
pub const LEVELS: &[(&str, log::LevelFilter)] = &[
    ("error", log::LevelFilter::Error),
    ("warn", log::LevelFilter::Warn),
    ("info", log::LevelFilter::Info),
    ("debug", log::LevelFilter::Debug),
    ("trace", log::LevelFilter::Trace),
];
choices!(impl Mode, "observe, shadow, review or enforce", MODES);
choices!(impl log::LevelFilter, "error, warn, info, debug or trace", LEVELS);
choices!(
    XdpChoice,
    "auto, native or generic",
    [("auto", XdpChoice::Auto), ("native", XdpChoice::Native), ("generic", XdpChoice::Generic)]
);
choices!(impl Unanswered, "nothing or act", UNANSWERED);
pub const UNANSWERED: &[(&str, Unanswered)] = &[("nothing", Unanswered::Nothing), ("act", Unanswered::Act)];
choices!(impl Lapse, "keep, shadow or pass", LAPSES);
pub const LAPSES: &[(&str, Lapse)] = &[("keep", Lapse::Keep), ("shadow", Lapse::Shadow), ("pass", Lapse::Pass)];
choices!(
    DefaultModel,
    "alert, shadow, enforce or off",
    [
        ("alert", DefaultModel::Alert),
        ("shadow", DefaultModel::Shadow),
        ("enforce", DefaultModel::Enforce),
        ("off", DefaultModel::Off)
    ]
);
choices!(OnStop, "keep or unload", [("keep", OnStop::Keep), ("unload", OnStop::Unload)]);
choices!(
    LogTarget,
    "auto, stderr or journald",
    [("auto", LogTarget::Auto), ("stderr", LogTarget::Stderr), ("journald", LogTarget::Journald)]
);

impl Word for EventTarget {
    const EXPECTED: &'static str = "an absolute path, journald, stderr or none";
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "journald" => Ok(EventTarget::Journald),
            "stderr" => Ok(EventTarget::Stderr),
            "none" => Ok(EventTarget::None),
            path if path.starts_with('/') => Ok(EventTarget::File(path.into())),
            _ => Err(format!("`{text}` is not allowed; expected {}", Self::EXPECTED)),
        }
    }
    fn word(&self) -> String {
        match self {
            EventTarget::File(path) => path.display().to_string(),
            EventTarget::Journald => "journald".into(),
            EventTarget::Stderr => "stderr".into(),
            EventTarget::None => "none".into(),
        }
    }
}

/// Where to listen: what is left out of ADDRESS:PORT is that of `default`.
pub fn endpoint(text: &str, default: SocketAddr, expected: &str) -> Result<SocketAddr, String> {
    let at = text.parse().ok();
    let at = at.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, default.port())));
    let at = at.or_else(|| Some(SocketAddr::new(default.ip(), text.parse::<u16>().ok()?)));
    let at = at.filter(|at| at.port() != 0);
    at.ok_or_else(|| format!("`{text}` is nowhere to listen; write {expected}"))
}

/// Others than this host's own processes can reach it.
pub fn beyond_loopback(at: SocketAddr) -> bool {
    !at.ip().to_canonical().is_loopback()
}

impl Word for SocketAddr {
    const EXPECTED: &'static str = "an address and port such as 127.0.0.1:2055, [::1]:2055, 192.0.2.7 or 9995";
    fn parse(text: &str) -> Result<Self, String> {
        endpoint(text, DEFAULT_NETFLOW, Self::EXPECTED)
    }
    fn word(&self) -> String {
        self.to_string()
    }
}

/// A mapping with a PEM file under each of `names`, none of which may be missing. What stands under the `others` goes to `other`.
pub fn pem_files<const N: usize>(
    node: &Node,
    path: &str,
    names: [&'static str; N],
    others: &[&'static str],
    problems: &mut Vec<Problem>,
    mut other: impl FnMut(&Node, &str, &mut Vec<Problem>),
) -> Option<[PathBuf; N]> {
    let keys = [&names[..], others].concat();
    let Kind::Map(entries) = &node.kind else {
        let message = format!("expected a mapping with the keys {}; found {}", keys.join(", "), node.describe());
        problems.push(Problem::new(node.at, path, message));
        return None;
    };
    let mut files = [const { None }; N];
    let before = problems.len();
    for (i, (key, at, value)) in entries.iter().enumerate() {
        let below = format!("{path}.{key}");
        if entries[..i].iter().any(|(k, ..)| k == key) {
            problems.push(Problem::new(*at, &below, "set twice".into()));
            continue;
        }
        match keys.iter().position(|k| k == key) {
            Some(i) if i < N => files[i] = PathBuf::read(value, &below, problems),
            Some(_) => other(value, &below, problems),
            None => problems.push(unknown(*at, &below, &keys, key)),
        }
    }
    for name in names {
        if !entries.iter().any(|(k, ..)| k == name) {
            let message = format!("`{name}` is missing; add the path of a PEM file");
            problems.push(Problem::new(node.at, path, message));
        }
    }
    let all: Option<Vec<PathBuf>> = files.into_iter().collect();
    all.filter(|_| problems.len() == before)?.try_into().ok()
}

impl Word for Prefix {
    const EXPECTED: &'static str = "an address or prefix such as 192.0.2.7 or 10.0.0.0/8";
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: weir_core::addr::PrefixError| e.to_string())
    }
    fn word(&self) -> String {
        self.to_string()
    }
}

/// A name that may be left out.
impl Setting for Option<String> {
    fn read(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        match &node.kind {
            Kind::Scalar(text, _) if !text.trim().is_empty() => Some(Some(text.clone())),
            Kind::Null => Some(None),
            _ => {
                problems.push(Problem::new(node.at, path, format!("expected a name, found {}", node.describe())));
                None
            }
        }
    }
    fn show(&self) -> Shown {
        self.as_ref().map_or(Shown::Null, |s| Shown::Scalar(s.clone()))
    }
}

impl Setting for Option<PathBuf> {
    fn read(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        match &node.kind {
            Kind::Null => Some(None),
            _ => PathBuf::read(node, path, problems).map(Some),
        }
    }
    fn show(&self) -> Shown {
        self.as_ref().map_or(Shown::Null, Setting::show)
    }
}

/// What a list is made of.
pub trait Item: Sized {
    fn item(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self>;
    fn show_item(&self) -> Shown;
}

impl<T: Item> Setting for Vec<T> {
    fn read(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            problems.push(Problem::new(node.at, path, format!("expected a list, found {}", node.describe())));
            return None;
        };
        // Every item is read, so that every mistake is named.
        let read: Vec<_> =
            items.iter().enumerate().map(|(i, n)| T::item(n, &format!("{path}[{i}]"), problems)).collect();
        read.into_iter().collect()
    }
    fn show(&self) -> Shown {
        Shown::List(self.iter().map(Item::show_item).collect())
    }
}

impl Item for Prefix {
    fn item(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        Setting::read(node, path, problems)
    }
    fn show_item(&self) -> Shown {
        self.show()
    }
}

impl Item for AllowRule {
    fn item(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            return Prefix::read(node, path, problems).map(|target| AllowRule { target, comment: String::new() });
        };
        let (mut target, mut comment, mut seen_target) = (None, String::new(), false);
        for (key, at, value) in entries {
            match key.as_str() {
                "target" => {
                    seen_target = true;
                    target = Prefix::read(value, &format!("{path}.target"), problems);
                }
                "comment" => match &value.kind {
                    Kind::Scalar(text, _) => comment.clone_from(text),
                    Kind::Null => {}
                    _ => problems.push(Problem::new(
                        value.at,
                        &format!("{path}.comment"),
                        format!("expected text, found {}", value.describe()),
                    )),
                },
                _ => problems.push(unknown(*at, &format!("{path}.{key}"), &["target", "comment"], key)),
            }
        }
        if !seen_target {
            problems.push(Problem::new(node.at, path, "`target` is missing; add an address or prefix".into()));
        }
        target.map(|target| AllowRule { target, comment })
    }
    fn show_item(&self) -> Shown {
        if self.comment.is_empty() {
            return self.target.show();
        }
        Shown::Map(vec![("target", self.target.show()), ("comment", Shown::Scalar(self.comment.clone()))])
    }
}

/// The problem of a key that is none, with the nearest one that is.
pub fn unknown(at: At, path: &str, allowed: &[&str], key: &str) -> Problem {
    let nearest = allowed.iter().map(|a| (distance(a, key), *a)).min().filter(|(d, _)| *d <= 2);
    let hint = match nearest {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("allowed here: {}", allowed.join(", ")),
    };
    Problem::new(at, path, format!("unknown key; {hint}"))
}

/// Edits between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
