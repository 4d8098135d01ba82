//! `weir model drift`.

use std::fmt::Write;

use serde_json::{Value, json};

use super::args::Format;
use super::output::{Output, Table};
use crate::command::{DriftStatus, FeatureDriftReport};

/// Features shown where none has moved.
const AT_LEAST: usize = 5;

pub fn write(d: &DriftStatus, out: &Output) -> std::io::Result<()> {
    match out.format {
        Format::Json => out.object(d),
        Format::Csv => out.list(&rows(d), |_| String::new()),
        Format::Table | Format::Parquet => out.text(&table(d)),
    }
}

/// Roles and features in one table.
fn rows(d: &DriftStatus) -> Vec<Value> {
    let kind = |kind: &str, mut row: Value| {
        row["kind"] = json!(kind);
        row
    };
    let roles = d.roles.iter().filter_map(|r| serde_json::to_value(r).ok()).map(|r| kind("role", r));
    let features = d.features.iter().filter_map(|f| serde_json::to_value(f).ok()).map(|f| kind("feature", f));
    roles.chain(features).collect()
}

fn percent(v: f64) -> String {
    format!("{:.0}%", 100.0 * v)
}

fn table(d: &DriftStatus) -> String {
    let Some(bundle) = &d.bundle else {
        return "no model serves, so nothing can drift; `weir learn` makes one\n".into();
    };
    if d.roles.is_empty() {
        return format!("bundle {bundle}: nothing to say yet; ask again when flows were scored for 10 s\n");
    }
    let mut out = format!("bundle {bundle}; each source has one vote, those with evidence against them none\n\n");
    let mut t = Table::new(&[
        "ROLE",
        "PROFILE",
        "STATE",
        ">SOURCES",
        ">LEFT OUT",
        ">EFFECT",
        ">TOO MUCH",
        ">P UP TO 5%",
        "DROPS",
    ]);
    for r in &d.roles {
        let drops = match (r.leads_to_drops, r.state == "bad") {
            (true, true) => "suspended",
            (true, false) => "may rest on it",
            (false, _) => "never rest on it",
        };
        t.row(vec![
            r.role.clone(),
            r.profile.clone(),
            r.state.clone(),
            r.voters.to_string(),
            r.withheld.to_string(),
            format!("{:.2}", r.effect),
            format!("{:.2}", r.too_much),
            percent(r.at_5_percent),
            drops.into(),
        ]);
    }
    out += &t.render();
    let shown: Vec<&FeatureDriftReport> = d.features.iter().filter(|f| f.moved).collect();
    let nothing = shown.is_empty();
    let shown = match nothing {
        true => d.features.iter().filter(|f| f.voters > 0).take(AT_LEAST).collect(),
        false => shown,
    };
    let _ = write!(
        out,
        "\n{}\n",
        if nothing { "no feature has moved; the furthest:" } else { "features that have moved:" }
    );
    let mut t = Table::new(&[
        "FEATURE",
        "PROFILE",
        ">SOURCES",
        ">BELOW USUAL",
        ">ABOVE USUAL",
        ">BELOW MEDIAN",
        ">ABOVE MEDIAN",
    ]);
    for f in shown {
        t.row(vec![
            f.words.clone(),
            f.profile.clone(),
            f.voters.to_string(),
            percent(f.below_usual),
            percent(f.above_usual),
            percent(f.below_median),
            percent(f.above_median),
        ]);
    }
    out += &t.render();
    if d.roles.iter().any(|r| r.state == "bad") {
        out += "\nlearn anew with `weir learn`: from the record where it holds enough, else from now on\n";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::RoleDriftReport;

    #[test]
    fn a_role_that_drifted_says_what_follows_and_what_to_do() {
        let role = |role: &str, state: &str, leads_to_drops| RoleDriftReport {
            profile: "core".into(),
            role: role.into(),
            state: state.into(),
            voters: 24,
            withheld: 1,
            effect: 0.412,
            too_much: 0.25,
            at_5_percent: 0.46,
            leads_to_drops,
        };
        let feature = |words: &str, moved| FeatureDriftReport {
            words: words.into(),
            moved,
            voters: 24,
            above_median: 0.96,
            ..FeatureDriftReport::default()
        };
        let mut d = DriftStatus {
            bundle: Some("20261126T220000".into()),
            roles: vec![role("tcp/in/web", "bad", true), role("udp/in/name", "fine", false)],
            features: vec![feature("bytes per second", true), feature("duration", false)],
        };
        let text = table(&d);
        for part in
            ["tcp/in/web", "suspended", "never rest on it", "0.41", "46%", "bytes per second", "96%", "weir learn"]
        {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(!text.contains("duration"), "{text}");
        d.roles.remove(0);
        d.features.remove(0);
        let text = table(&d);
        assert!(text.contains("no feature has moved") && text.contains("duration") && !text.contains("anew"), "{text}");
        assert_eq!(rows(&d).len(), 2);
    }
}
