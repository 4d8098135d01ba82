//! `sources` and `crowdsec`: lists that come from elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use weir_core::decisions::lists::is_name;
use weir_core::rate::RateLimit;

use super::setting::{Item, Setting, Shown, Word, unknown};
use super::tree::{Kind, Node};
use super::{Config, Problem};
use crate::lists::format::Form;

/// What is done to the members of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Drop,
    Shadow,
    Limit(RateLimit),
}

/// A file with a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub name: String,
    pub path: PathBuf,
    pub format: Form,
    pub action: Act,
    /// Of entries that say nothing of it; `None`: until the list changes.
    pub lifetime: Option<Duration>,
    pub interval: Duration,
    /// The list may lose this share of its entries at once.
    pub max_shrink: f64,
}

/// A local API of CrowdSec, asked as a bouncer asks.
#[derive(Clone, Debug, PartialEq)]
pub struct CrowdSec {
    /// `None`: it is not asked.
    pub url: Option<String>,
    pub api_key: Option<String>,
    pub api_key_file: Option<String>,
    /// PEM file with the authorities that are trusted for https; `None`: those of this host.
    pub ca_file: Option<PathBuf>,
    pub interval: Duration,
    pub actions: Remedies,
    /// Origins whose decisions are taken; empty: all.
    pub origins: Vec<String>,
    pub max_shrink: f64,
}

/// What becomes of each type of decision; `None`: it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remedies {
    pub ban: Option<Act>,
    pub captcha: Option<Act>,
    pub throttle: Option<Act>,
    pub other: Option<Act>,
    /// Decisions that CrowdSec only simulates.
    pub simulated: Option<Act>,
}

pub const MAX_SHRINK: f64 = 0.5;

impl Default for CrowdSec {
    fn default() -> Self {
        Self {
            url: None,
            api_key: None,
            api_key_file: None,
            ca_file: None,
            interval: Duration::from_secs(10),
            actions: Remedies {
                ban: Some(Act::Drop),
                captcha: Some(Act::Shadow),
                throttle: Some(Act::Shadow),
                other: None,
                simulated: Some(Act::Shadow),
            },
            origins: Vec::new(),
            max_shrink: MAX_SHRINK,
        }
    }
}

impl Word for Act {
    const EXPECTED: &'static str = "drop, shadow, or a rate such as 100pps";
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "drop" => Ok(Act::Drop),
            "shadow" => Ok(Act::Shadow),
            rate => match rate.parse() {
                Ok(limit) => Ok(Act::Limit(limit)),
                Err(_) => Err(format!("`{text}` is not allowed; expected {}", Self::EXPECTED)),
            },
        }
    }
    fn word(&self) -> String {
        match self {
            Act::Drop => "drop".to_owned(),
            Act::Shadow => "shadow".to_owned(),
            Act::Limit(limit) => {
                let unit = match limit.unit() {
                    weir_core::rate::RateUnit::Packets => "pps",
                    weir_core::rate::RateUnit::Bytes => "Bps",
                };
                format!("{}{unit}", limit.per_second())
            }
        }
    }
}

impl Word for Form {
    const EXPECTED: &'static str = "auto, plain, csv or json";
    fn parse(text: &str) -> Result<Self, String> {
        let found = Form::ALL.iter().find(|(n, _)| *n == text).map(|(_, f)| *f);
        found.ok_or_else(|| format!("`{text}` is not allowed; expected {}", Self::EXPECTED))
    }
    fn word(&self) -> String {
        Form::ALL.iter().find(|(_, f)| f == self).map_or_else(String::new, |(n, _)| (*n).to_owned())
    }
}

/// Reads the keys of a mapping one by one; says what is none of them.
pub(super) fn fields(
    node: &Node,
    path: &str,
    names: &[&str],
    problems: &mut Vec<Problem>,
    mut take: impl FnMut(&str, &Node, &str, &mut Vec<Problem>),
) {
    let Kind::Map(entries) = &node.kind else {
        let message = format!("expected a mapping with the keys {}; found {}", names.join(", "), node.describe());
        return problems.push(Problem::new(node.at, path, message));
    };
    for (key, at, value) in entries {
        if names.contains(&key.as_str()) {
            take(key, value, &format!("{path}.{key}"), problems);
        } else {
            problems.push(unknown(*at, &format!("{path}.{key}"), names, key));
        }
    }
}

impl Setting for Remedies {
    fn read(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let mut all = CrowdSec::default().actions;
        let before = problems.len();
        fields(
            node,
            path,
            &["ban", "captcha", "throttle", "other", "simulated"],
            problems,
            |key, value, path, problems| {
                let act = match &value.kind {
                    Kind::Scalar(text, _) if text == "none" => Some(None),
                    _ => Act::read(value, path, problems).map(Some),
                };
                let Some(act) = act else { return };
                match key {
                    "ban" => all.ban = act,
                    "captcha" => all.captcha = act,
                    "throttle" => all.throttle = act,
                    "simulated" => all.simulated = act,
                    _ => all.other = act,
                }
            },
        );
        (problems.len() == before).then_some(all)
    }
    fn show(&self) -> Shown {
        let word = |a: &Option<Act>| Shown::Scalar(a.as_ref().map_or_else(|| "none".to_owned(), Word::word));
        Shown::Map(vec![
            ("ban", word(&self.ban)),
            ("captcha", word(&self.captcha)),
            ("throttle", word(&self.throttle)),
            ("other", word(&self.other)),
            ("simulated", word(&self.simulated)),
        ])
    }
}

const FIELDS: [&str; 7] = ["name", "path", "format", "action", "for", "interval", "max_shrink"];

impl Item for Source {
    fn item(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let before = problems.len();
        let (mut name, mut file) = (None, None);
        let mut s = Source {
            name: String::new(),
            path: PathBuf::new(),
            format: Form::Auto,
            action: Act::Drop,
            lifetime: None,
            interval: Duration::from_secs(3600),
            max_shrink: MAX_SHRINK,
        };
        fields(node, path, &FIELDS, problems, |key, value, path, problems| match key {
            "name" => name = Option::<String>::read(value, path, problems).flatten(),
            "path" => file = PathBuf::read(value, path, problems),
            "format" => s.format = Form::read(value, path, problems).unwrap_or_default(),
            "action" => s.action = Act::read(value, path, problems).unwrap_or(Act::Drop),
            "for" => match &value.kind {
                Kind::Scalar(text, _) if text == "ever" => s.lifetime = None,
                _ => s.lifetime = Duration::read(value, path, problems),
            },
            "interval" => s.interval = Duration::read(value, path, problems).unwrap_or(s.interval),
            _ => s.max_shrink = f64::read(value, path, problems).unwrap_or(s.max_shrink),
        });
        let mut wrong =
            |key: &str, message: String| problems.push(Problem::new(node.at, &format!("{path}.{key}"), message));
        if s.lifetime == Some(Duration::ZERO) {
            wrong("for", "0 would end at once; for no end write `ever`".into());
        }
        if s.interval < Duration::from_secs(1) {
            wrong("interval", "expected at least 1s".into());
        }
        if !(0.0..=1.0).contains(&s.max_shrink) {
            wrong("max_shrink", "expected a share between 0 and 1, or of 0% to 100%".into());
        }
        match &name {
            Some(n) if !is_name(n) || n == crate::lists::crowdsec::LIST => {
                wrong(
                    "name",
                    format!(
                        "`{n}` cannot be the name of a source: at most 64 letters, digits, `.`, `_` and `-`, and not `crowdsec`"
                    ),
                );
            }
            None if problems.len() == before => {
                problems.push(Problem::new(node.at, path, "`name` is missing; it names the list".into()))
            }
            _ => {}
        }
        if file.is_none() && problems.len() == before {
            problems.push(Problem::new(node.at, path, "`path` is missing; it names the file".into()));
        }
        (s.name, s.path) = (name?, file?);
        (problems.len() == before).then_some(s)
    }
    fn show_item(&self) -> Shown {
        Shown::Map(vec![
            ("name", Shown::Scalar(self.name.clone())),
            ("path", self.path.show()),
            ("format", self.format.show()),
            ("action", self.action.show()),
            ("for", self.lifetime.map_or_else(|| Shown::Scalar("ever".into()), |d| d.show())),
            ("interval", self.interval.show()),
            ("max_shrink", self.max_shrink.show()),
        ])
    }
}

impl Item for String {
    fn item(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        Option::<String>::read(node, path, problems).flatten()
    }
    fn show_item(&self) -> Shown {
        Shown::Scalar(self.clone())
    }
}

impl Config {
    /// What the feeds say wrongly together.
    pub(super) fn check_feeds(&self, mut wrong: impl FnMut(&'static str, String)) {
        for (i, s) in self.sources.iter().enumerate() {
            if self.sources[..i].iter().any(|o| o.name == s.name) {
                wrong("sources", format!("two sources have the name {}; lists are told apart by their names", s.name));
            }
        }
        let c = &self.crowdsec;
        let Some(url) = &c.url else { return };
        if let Err(why) = crate::lists::crowdsec::check_url(url) {
            wrong("crowdsec.url", why);
        }
        if c.api_key.is_none() && c.api_key_file.is_none() {
            let words = "crowdsec.api_key or crowdsec.api_key_file is needed; `cscli bouncers add weir` makes a key";
            wrong("crowdsec.url", words.into());
        }
    }
}
