//! Words of the command line, as values.

use std::net::SocketAddr;
use std::time::Duration;

use weir_core::addr::Prefix;
use weir_core::decision::{Action, Origin, Sides, Target};
use weir_core::event::Mode;
use weir_core::profile::ProfileId;
use weir_core::rate::RateLimit;

use super::files::ProfileChoice;
use crate::api::events::KINDS;
use crate::command::DecisionRef;
use crate::config::{LEVELS, MODES};
use crate::human;
use crate::proto::EventKind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    Ever,
    For(Duration),
}

impl Lifetime {
    /// `None`: for ever.
    pub fn time(self) -> Option<Duration> {
        match self {
            Lifetime::Ever => None,
            Lifetime::For(d) => Some(d),
        }
    }
}

pub fn lifetime(s: &str) -> Result<Lifetime, String> {
    match s {
        "ever" | "forever" => Ok(Lifetime::Ever),
        _ => match human::parse_duration(s) {
            Ok(Duration::ZERO) => Err("0 would end at once; for no end write `ever`".into()),
            Ok(d) => Ok(Lifetime::For(d)),
            Err(e) => Err(e.to_string()),
        },
    }
}

pub fn confirm_within(s: &str) -> Result<Duration, String> {
    match lifetime(s)? {
        Lifetime::For(d) => Ok(d),
        Lifetime::Ever => Err("a time is needed, for example 30s".into()),
    }
}

pub(super) fn named<T: Copy>(s: &str, all: &[(&str, T)]) -> Result<T, String> {
    all.iter().find(|(n, _)| *n == s).map(|(_, v)| *v).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|(n, _)| *n).collect();
        format!("expected one of {}", names.join(", "))
    })
}

pub fn source_format(s: &str) -> Result<weir_source::Format, String> {
    let all = weir_source::Format::ALL.map(|(f, name)| (name, f));
    named(s, &all)
}
pub fn flow_profile(s: &str) -> Result<ProfileId, String> {
    let all: Vec<_> = ProfileId::ALL.into_iter().filter(|p| *p != ProfileId::Source).map(|p| (p.name(), p)).collect();
    named(s, &all)
}
pub fn train_profile(s: &str) -> Result<ProfileChoice, String> {
    let one = ProfileId::ALL.map(|p| (p.name(), ProfileChoice(Some(p))));
    let all: Vec<_> = one.into_iter().chain([("all", ProfileChoice(None))]).collect();
    named(s, &all)
}
pub fn train_share(s: &str) -> Result<f64, String> {
    match s.parse() {
        Ok(v) if v > 0.0 && v < 1.0 => Ok(v),
        _ => Err("expected a number between 0 and 1, for example 0.75".into()),
    }
}
pub fn window(s: &str) -> Result<Duration, String> {
    match human::parse_duration(s) {
        Ok(d) if d >= Duration::from_secs(1) => Ok(d),
        Ok(_) => Err("expected at least 1s, the length of an epoch".into()),
        Err(e) => Err(e.to_string()),
    }
}
pub fn budget(s: &str) -> Result<f64, String> {
    match s.parse() {
        Ok(n) if n > 0.0 && f64::is_finite(n) => Ok(n),
        _ => Err("expected a number above 0, for example 2".into()),
    }
}
pub fn p_value(s: &str) -> Result<f32, String> {
    match s.parse() {
        Ok(p) if p > 0.0 && p <= 1.0 => Ok(p),
        _ => Err("expected a number above 0 and at most 1, for example 0.01".into()),
    }
}
pub fn listen(s: &str) -> Result<SocketAddr, String> {
    crate::config::parse_listen(s)
}
pub fn mode(s: &str) -> Result<Mode, String> {
    named(s, MODES)
}
pub fn level(s: &str) -> Result<log::LevelFilter, String> {
    named(s, LEVELS)
}
pub fn kind(s: &str) -> Result<EventKind, String> {
    named(s, &KINDS)
}
pub fn action(s: &str) -> Result<Action, String> {
    named(s, &[("drop", Action::Drop), ("shadow", Action::Shadow)])
}
pub fn rate(s: &str) -> Result<RateLimit, String> {
    s.parse().map_err(|e: weir_core::rate::RateError| e.to_string())
}
pub fn sides(s: &str) -> Result<Sides, String> {
    named(s, &[("in", Sides::In), ("out", Sides::Out), ("both", Sides::Both)])
}
pub fn target(s: &str) -> Result<Target, String> {
    s.parse().map_err(|e: weir_core::decision::TargetError| e.to_string())
}
pub fn prefix(s: &str) -> Result<Prefix, String> {
    s.parse().map_err(|e: weir_core::addr::PrefixError| e.to_string())
}
pub fn decision_ref(s: &str) -> Result<DecisionRef, String> {
    if s.chars().all(|c| c.is_ascii_digit()) && !s.is_empty() {
        return s.parse().map(DecisionRef::Id).map_err(|_| format!("`{s}` is too large for the number of a decision"));
    }
    target(s).map(DecisionRef::Target)
}
pub fn origin(s: &str) -> Result<Origin, String> {
    named(s, &[("manual", Origin::Manual), ("automatic", Origin::Automatic), ("list", Origin::List)])
}
pub fn list_form(s: &str) -> Result<crate::lists::format::Form, String> {
    named(s, &crate::lists::format::Form::ALL)
}
