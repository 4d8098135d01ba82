//! Reports as tables and words. Pure: the time is an argument.

use std::fmt::Write;

use weir_core::decision::{Action, Decision, Origin, Sides};
use weir_core::record::TimeUs;

use super::output::{Table, clean, relative};
use crate::command::{
    AllowAdded, AllowReport, BundleReport, ChallengerReport, DecisionReport, InterfaceReport, LearnReport, NamedCount,
    RecordReport, ReloadReport, StatusReport, XdpMode,
};
use crate::default_bundle;
use crate::human::{bytes, grouped, micros, rough};

pub fn action(a: Action) -> &'static str {
    match a {
        Action::Shadow => "shadow",
        Action::Limit => "limit",
        Action::Drop => "drop",
    }
}

fn origin(o: Origin) -> &'static str {
    match o {
        Origin::Manual => "by hand",
        Origin::Automatic => "automatic",
        Origin::List => "list",
    }
}

fn sides(s: Sides) -> &'static str {
    match s {
        Sides::In => "in",
        Sides::Out => "out",
        Sides::Both => "both",
    }
}

fn until(expires: Option<TimeUs>, now: TimeUs) -> String {
    expires.map_or_else(|| "never".into(), |at| relative(at, now))
}

fn interfaces(all: &[InterfaceReport]) -> String {
    let mut t = Table::new(&["INTERFACE", ">IFINDEX", "PROGRAM", "LINK", ">MTU", ">PASSED", ">DROPPED", ">LIMITED"]);
    for i in all {
        let program = match (i.protected, i.xdp_mode) {
            (true, Some(XdpMode::Generic)) => "generic",
            (true, _) => "native",
            (false, _) => "NOT PROTECTED",
        };
        let link = match (i.ifindex, i.up) {
            (0, _) => "missing",
            (_, true) => "up",
            (_, false) => "down",
        };
        t.row(vec![
            clean(&i.name),
            i.ifindex.to_string(),
            program.to_owned(),
            link.to_owned(),
            i.mtu.to_string(),
            grouped(i.packets_passed),
            grouped(i.packets_dropped),
            grouped(i.packets_limited),
        ]);
    }
    t.render()
}

pub fn status(s: &StatusReport) -> String {
    let mut out = String::new();
    let interface = match (clean(&s.interface), s.interfaces.as_slice()) {
        (none, _) if none.is_empty() => "without an interface".to_owned(),
        (_, several) if several.len() > 1 => {
            let protected = several.iter().filter(|i| i.protected).count();
            format!("on {protected} of {} interfaces", several.len())
        }
        (interface, _) if s.ifindex == 0 => format!("on {interface}"),
        (interface, _) => format!("on {interface} (ifindex {})", s.ifindex),
    };
    let _ = writeln!(out, "weir {} {interface}, up {}", s.version, rough(micros(s.uptime_us)));
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<10} {}", clean(&value));
    };
    let mut mode = s.mode_effective.name().to_owned();
    if s.mode_configured != s.mode_effective {
        let _ = write!(mode, " (configured: {}", s.mode_configured.name());
        let _ = write!(mode, "{}{})", if s.mode_reason.is_empty() { "" } else { "; " }, s.mode_reason);
    }
    line("mode", mode);
    line(
        "program",
        match s.xdp_mode {
            None => "not attached".into(),
            Some(XdpMode::Native) => "native".into(),
            Some(XdpMode::Generic) if s.xdp_cause.is_empty() => "generic".into(),
            Some(XdpMode::Generic) => format!("generic ({})", s.xdp_cause),
        },
    );
    line(
        "model",
        match &s.bundle {
            None => "none; `weir learn` makes one".into(),
            Some(b) if b.id == default_bundle::ID => format!("{} ({})", b.id, b.origin),
            Some(b) if b.promoted => format!("{} ({}, promoted)", b.id, b.origin),
            Some(b) => format!("{} ({}, not promoted: alerts and shadow entries only)", b.id, b.origin),
        },
    );
    if let Some(c) = &s.challenger {
        line("challenger", challenger(c));
    }
    if let Some(l) = &s.learning {
        line("learning", learning(l));
    }
    line(
        "flows",
        format!(
            "{} live, {} in the last of {} epochs",
            grouped(s.flows_live),
            grouped(s.flows_last_epoch),
            grouped(s.epochs)
        ),
    );
    line("drain", format!("{} last, {} longest", rough(micros(s.drain_last_us)), rough(micros(s.drain_max_us))));
    let decisions: Vec<_> = s
        .decisions
        .iter()
        .filter(|d| d.count > 0)
        .map(|d| format!("{} {} {}", grouped(d.count), action(d.action), origin(d.origin)))
        .collect();
    line("decisions", if decisions.is_empty() { "none".into() } else { decisions.join(", ") });
    if let Some(r) = &s.record {
        line("record", record(r));
    }
    line(
        "drift",
        if s.drifted.is_empty() { "none".into() } else { format!("{}; see `weir model drift`", s.drifted.join(", ")) },
    );
    line("memory", format!("{} of kernel maps", bytes(s.maps.iter().map(|m| m.bytes).sum())));
    if let Some(n) = &s.netflow {
        let from = if n.allowed.is_empty() { "anybody".to_owned() } else { n.allowed.join(", ") };
        let counts =
            [(n.datagrams, "datagrams"), (n.records, "records"), (n.flows, "flows"), (n.unscored, "not scored")];
        let counts = counts.map(|(n, what)| format!("{} {what}", grouped(n))).join(", ");
        line("netflow", format!("{} from {from}: {counts}", n.listen));
        line(
            "exporters",
            format!(
                "{} with {} templates; {} records and {} of data wait; {} of memory",
                grouped(n.exporters),
                grouped(n.templates),
                grouped(n.unpaired),
                bytes(n.waiting_bytes),
                bytes(n.memory)
            ),
        );
        line("left out", counted(&n.dropped));
    }
    line("lost", counted(&s.lost));
    if s.interfaces.len() > 1 {
        let words = format!("{} packets seen at a second interface", grouped(s.seen_twice.packets));
        line("once", words);
        let _ = write!(out, "\n{}", interfaces(&s.interfaces));
    }
    if !s.counters.is_empty() {
        let mut t = Table::new(&["REASON", ">PACKETS", ">BYTES"]);
        for c in &s.counters {
            t.row(vec![c.name.clone(), grouped(c.packets), grouped(c.bytes)]);
        }
        let _ = write!(out, "\n{}", t.render());
    }
    if !s.maps.is_empty() {
        let mut t = Table::new(&["MAP", ">ENTRIES", ">OF", ">MEMORY"]);
        for m in &s.maps {
            t.row(vec![m.name.clone(), grouped(m.entries), grouped(m.max_entries), bytes(m.bytes)]);
        }
        let _ = write!(out, "\n{}", t.render());
    }
    for (i, w) in s.warnings.iter().enumerate() {
        let _ = writeln!(out, "{}warning: {}", if i == 0 { "\n" } else { "" }, clean(w));
    }
    out
}

/// "a1b2c3: 12,345 flows compared, 2 sources differ (`weir model compare`)".
fn challenger(c: &ChallengerReport) -> String {
    let behind = match c.epochs_left_out {
        0 => String::new(),
        n => format!(", {} epochs left out", grouped(n)),
    };
    let failed = if c.failed.is_empty() { String::new() } else { format!("; ended: {}", c.failed) };
    format!(
        "{}: {} flows compared in {} of processor time{behind}, {} sources differ{failed}",
        c.id,
        grouped(c.flows),
        rough(micros(c.cpu_us)),
        grouped(c.differing_sources)
    )
}

/// "3 epoch records, 1 event"; "nothing".
fn counted(all: &[NamedCount]) -> String {
    let some: Vec<_> = all
        .iter()
        .filter(|l| l.count > 0)
        .map(|l| format!("{} {}", grouped(l.count), l.name.replace('_', " ")))
        .collect();
    if some.is_empty() { "nothing".into() } else { some.join(", ") }
}

/// "collecting: 12m of 24h, 1,200 of 2,000 flows, 40 of 200 source windows".
pub fn learning(l: &LearnReport) -> String {
    format!(
        "{}: {} of {}, {} of {} flows, {} of {} source windows",
        l.phase,
        rough(micros(l.elapsed_us)),
        rough(micros(l.duration_us)),
        grouped(l.flows),
        grouped(l.min_flows),
        grouped(l.windows),
        grouped(l.min_windows)
    )
}

/// "1,500,000 flows of 1h in 123 MB (at most 1 GB, 7d)".
fn record(r: &RecordReport) -> String {
    let span = r.newest_us.unwrap_or(0).saturating_sub(r.oldest_us.unwrap_or(0));
    let mut text = format!(
        "{} flows of {} in {} (at most {} and {})",
        grouped(r.flows),
        rough(micros(span)),
        bytes(r.bytes),
        bytes(r.max_bytes),
        rough(micros(r.max_age_us))
    );
    if !r.enabled {
        text += ", turned off";
    }
    if r.lost > 0 {
        let _ = write!(text, ", {} lost", grouped(r.lost));
    }
    if !r.failing.is_empty() {
        let _ = write!(text, "; {}", r.failing);
    }
    text
}

pub fn decisions(list: &[DecisionReport], now: TimeUs) -> String {
    if list.is_empty() {
        return "no decisions\n".into();
    }
    let mut t = Table::new(&[
        "ID", "TARGET", "ACTION", "SIDE", "ORIGIN", "EXPIRES", ">PACKETS", ">BYTES", "LAST HIT", "REASON",
    ]);
    for r in list {
        let d = &r.decision;
        let state = match (r.enforced, r.awaiting_confirmation) {
            (false, _) => " (not in force)",
            (true, true) => " (unconfirmed)",
            (true, false) => "",
        };
        let mut reason = d.reason.clone();
        if let Some(a) = d.instead_of {
            let _ = write!(reason, " [mode enforce: {}]", action(a));
        }
        if !r.note.is_empty() {
            let _ = write!(reason, " [{}]", r.note);
        }
        t.row(vec![
            d.id.to_string(),
            d.target.to_string(),
            format!("{}{state}", what(d)),
            sides(d.sides).into(),
            origin(d.origin).into(),
            until(d.expires_us, now),
            grouped(r.packets),
            grouped(r.bytes),
            r.last_hit_us.map_or_else(|| "-".into(), |at| relative(at, now)),
            reason,
        ]);
    }
    t.render()
}

/// "drop", "limit 100 packets/s, 100 at once".
fn what(d: &Decision) -> String {
    match d.limit {
        Some(limit) => format!("{} {limit}", action(d.action)),
        None => action(d.action).into(),
    }
}

/// "decision 7: drop 192.0.2.7, expires in 4h".
pub fn decision_line(d: &Decision, now: TimeUs) -> String {
    let expires = d.expires_us.map_or_else(|| "until deleted".into(), |at| format!("expires {}", relative(at, now)));
    format!("decision {}: {} {}, {expires}", d.id, what(d), d.target)
}

pub fn decision_added(r: &DecisionReport, now: TimeUs) -> String {
    let mut out = decision_line(&r.decision, now);
    if !r.enforced {
        out += ", not in force yet";
    }
    if !r.note.is_empty() {
        let _ = write!(out, " ({})", clean(&r.note));
    }
    if r.awaiting_confirmation {
        let _ = write!(out, "\nit lapses then unless you keep it: weir decisions confirm {}", r.decision.id);
    }
    out + "\n"
}

pub fn decisions_deleted(list: &[Decision]) -> String {
    list.iter().map(|d| format!("deleted decision {} ({} {})\n", d.id, action(d.action), d.target)).collect()
}

pub fn allow_list(list: &[AllowReport], now: TimeUs) -> String {
    if list.is_empty() {
        return "nobody is on the allow list\n".into();
    }
    let mut t = Table::new(&["PREFIX", "EXPIRES", "ORIGIN", "COMMENT"]);
    for a in list {
        t.row(vec![a.prefix.to_string(), until(a.expires_us, now), a.origin.clone(), a.comment.clone()]);
    }
    t.render()
}

pub fn allow_added(r: &AllowAdded, now: TimeUs) -> String {
    let ends = r.entry.expires_us.map_or_else(String::new, |at| format!(", which ends {}", relative(at, now)));
    let mut out = format!("{} is never blocked from now on{ends}\n", r.entry.prefix);
    for d in &r.lifted {
        let _ = writeln!(out, "lifted decision {} ({} {})", d.id, action(d.action), d.target);
    }
    out
}

pub fn allow_check(asked: &str, by: &[AllowReport]) -> String {
    if by.is_empty() {
        return format!("{asked} is not protected: it can be blocked\n");
    }
    let mut out = String::new();
    for a in by {
        let comment = if a.comment.is_empty() { String::new() } else { format!(": {}", clean(&a.comment)) };
        let _ = writeln!(out, "{asked} is protected by {} ({}{comment})", a.prefix, clean(&a.origin));
    }
    out
}

pub fn bundles(list: &[BundleReport], now: TimeUs) -> String {
    if list.is_empty() {
        return "no models yet; `weir learn` makes one\n".into();
    }
    let mut t = Table::new(&["ID", "STATE", "ORIGIN", "CREATED", ">FLOWS", ">WINDOWS", "PROFILES"]);
    for b in list {
        let mut state = match (b.current, b.promoted, b.challenger) {
            (true, ..) if b.id == default_bundle::ID => "serves until one is learned".to_owned(),
            (true, true, _) => "serves, promoted".to_owned(),
            (true, false, _) => "serves, not promoted".to_owned(),
            (_, _, true) => "challenges".to_owned(),
            _ => "-".to_owned(),
        };
        if let (false, Some(steps @ 1..)) = (b.current, b.steps_back) {
            let promoted = if b.promoted { ", promoted then" } else { "" };
            let back = format!("{steps} back{promoted}");
            state = if b.challenger { format!("{state}; {back}") } else { back };
        }
        t.row(vec![
            b.id.clone(),
            state,
            b.origin.clone(),
            if b.created_us == 0 { "-".into() } else { relative(b.created_us, now) },
            grouped(b.flows),
            grouped(b.windows),
            b.profiles.join(", "),
        ]);
    }
    t.render()
}

pub fn reloaded(r: &ReloadReport) -> String {
    let mut out = match r.applied.as_slice() {
        [] if r.needs_restart.is_empty() => "nothing has changed\n".into(),
        [] => String::new(),
        keys => format!("in force now: {}\n", keys.join(", ")),
    };
    if !r.needs_restart.is_empty() {
        let _ = writeln!(out, "changed, but in force only after a restart: {}", r.needs_restart.join(", "));
    }
    out
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
