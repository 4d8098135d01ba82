//! Bundles and comparisons of bundles as tables and words. Pure: the time is an argument.

use std::fmt::Write;

use weir_core::record::TimeUs;

use super::output::{Table, clean, relative};
use crate::human::{bytes, carriers, grouped, micros, rough};
use crate::offline::output::share;
use crate::proto as pb;

/// A bundle in full.
pub fn detail(b: &pb::BundleDetail, now: TimeUs) -> String {
    let mut out = format!("bundle {} (version {}, {})\n", clean(&b.hash), b.bundle_version, bytes(b.bytes));
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<11} {}", clean(&value));
    };
    line("origin", b.source.clone());
    let when = b.trained_at_us.map_or_else(|| "at an unknown time".to_owned(), |t| relative(t, now));
    line("trained", format!("{when} by Weir {}, seed {}", b.weir_version, b.seed));
    if b.last_us > 0 {
        line("rows over", rough(micros(b.last_us.saturating_sub(b.first_us))));
    }
    line("windows", format!("{} long", rough(micros(b.window_us))));
    for c in &b.corpora {
        line("corpus", format!("{}, {} ({}), {} flows", c.name, c.licence, c.from, grouped(c.rows)));
    }
    match &b.evidence {
        Some(e) => {
            let vouched = if e.certified { "shown" } else { "extrapolated" };
            line(
                "evidence",
                format!(
                    "alert at {:.1}, drop at {:.1} (proven); allowance {:.1} and {:.1}; {} alerts a day asked for, {vouched}",
                    e.alert,
                    e.drop,
                    e.allowance.first().copied().unwrap_or_default(),
                    e.allowance.get(1).copied().unwrap_or_default(),
                    e.budget_per_day
                ),
            );
            line(
                "rests on",
                format!("{} benign windows of {} sources", grouped(e.benign_windows), grouped(e.benign_sources)),
            );
            line("", e.note.clone());
            if !e.strange.is_empty() {
                line("strange", format!("{}: never dropped automatically", e.strange.join(", ")));
            }
            if !e.carriers.is_empty() {
                line("carry much", carriers(e.carriers.iter().map(|c| (&c.net, c.share))));
            }
        }
        None => line("evidence", "no thresholds: nothing that it finds leads to an action".to_owned()),
    }
    if b.unfit.is_empty() {
        line("for", "an agent (`weir model load`) and files (`weir replay`)".to_owned());
    } else {
        line("for", format!("no agent: {}", b.unfit));
    }
    for p in &b.profiles {
        profile(&mut out, p);
    }
    out
}

fn profile(out: &mut String, p: &pb::ProfileDetail) {
    let _ = writeln!(
        out,
        "\nprofile {}: {} features, {} golden vectors",
        clean(&p.name),
        p.features.len(),
        p.golden_vectors
    );
    if let Some(t) = &p.training {
        let made = if t.epochs == 0 { ", models from elsewhere".to_owned() } else { format!(", {} epochs", t.epochs) };
        let _ = writeln!(
            out,
            "  {} rows: {} to fit ({} duplicates, {} recurring, {} surplus left out), {} to stop, {} + {} to calibrate{made}",
            grouped(t.rows),
            grouped(t.fit_rows),
            grouped(t.fit_duplicates),
            grouped(t.fit_recurring),
            grouped(t.fit_left_out),
            grouped(t.early_stop_rows),
            grouped(t.calibration_1_rows),
            grouped(t.calibration_2_rows)
        );
    }
    let mut table = Table::new(&["MODEL", "FILE", ">SIZE", ">OPSET", "SHA-256"]);
    for m in &p.models {
        let hash = if m.problem.is_empty() { m.sha256.clone() } else { format!("{} ({})", m.sha256, m.problem) };
        table.row(vec![m.detector.clone(), m.file.clone(), bytes(m.bytes), m.opset.to_string(), hash]);
    }
    out.push_str(&indented(&table.render()));
    let mut table = Table::new(&["ROLE", ">CALIBRATED ON", ">SMALLEST RATE", "MAY LEAD TO AN ACTION"]);
    for r in &p.roles {
        table.row(vec![
            r.role.clone(),
            format!("{} + {}", grouped(r.calibration_1), grouped(r.calibration_2)),
            share(r.smallest_rate),
            if r.actionable { "yes" } else { "no: too few rows" }.to_owned(),
        ]);
    }
    out.push_str(&indented(&table.render()));
}

fn indented(text: &str) -> String {
    text.lines().map(|l| format!("  {l}\n")).collect()
}

/// What two bundles would do differently.
pub fn comparison(c: &pb::Comparison, now: TimeUs) -> String {
    let (none, counts) = (pb::ComparedBundle::default(), c.sources.unwrap_or_default());
    let (a, b) = (c.a.as_ref().unwrap_or(&none), c.b.as_ref().unwrap_or(&none));
    let mut out = format!("A: bundle {}\nB: bundle {}\n", clean(&a.id), clean(&b.id));
    let span = rough(micros(c.last_us.saturating_sub(c.first_us)));
    let _ = write!(out, "over {}, {span}", clean(&c.over));
    let _ = writeln!(out, "; {} of processor time", rough(micros(c.cpu_us)));
    for note in &c.notes {
        let _ = writeln!(out, "note: {}", clean(note));
    }
    if c.epochs_left_out > 0 {
        let _ = writeln!(
            out,
            "note: {} epochs are in neither share, since the comparison was behind",
            grouped(c.epochs_left_out)
        );
    }

    let mut t = Table::new(&["WHAT WOULD BE DONE", ">A", ">B", ">BOTH"]);
    let mut row = |name: &str, a: u64, b: u64, both: Option<u64>| {
        t.row(vec![name.to_owned(), grouped(a), grouped(b), both.map_or_else(|| "-".to_owned(), grouped)]);
    };
    row("sources alerted about", counts.alerted_a, counts.alerted_b, Some(counts.alerted_both));
    row("sources dropped", counts.dropped_a, counts.dropped_b, Some(counts.dropped_both));
    row("alerts", a.alerts, b.alerts, None);
    row("drops", a.drops, b.drops, None);
    if a.limits + b.limits > 0 {
        row("limits", a.limits, b.limits, None);
    }
    row("shadow entries", a.shadows, b.shadows, None);
    let _ = write!(out, "\n{}", t.render());

    for p in &c.profiles {
        spread(&mut out, p);
    }
    differences(&mut out, c, counts.differing, now);
    out
}

fn spread(out: &mut String, p: &pb::ComparedProfile) {
    let what = if p.name == "source" { "source windows" } else { "flow records" };
    let _ = writeln!(out, "\nprofile {}: {} {what}", clean(&p.name), grouped(p.rows));
    if p.rows > 0 {
        let mut t = Table::new(&[">RATE ASKED", ">A", ">95 % INTERVAL", ">B", ">95 % INTERVAL", ""]);
        for r in &p.rates {
            let beyond = match (r.a_certified, r.b_certified) {
                (true, true) => "",
                (false, true) => "beyond A's calibration",
                (true, false) => "beyond B's calibration",
                (false, false) => "beyond both calibrations",
            };
            t.row(vec![
                share(r.asked),
                share(r.a),
                format!("{} to {}", share(r.a_low), share(r.a_high)),
                share(r.b),
                format!("{} to {}", share(r.b_low), share(r.b_high)),
                beyond.to_owned(),
            ]);
        }
        out.push_str(&indented(&t.render()));
        let _ = writeln!(
            out,
            "  p-values at most 1 %: {} by both, {} by A alone, {} by B alone",
            grouped(p.anomalies_both),
            grouped(p.anomalies_a),
            grouped(p.anomalies_b)
        );
        let _ = writeln!(
            out,
            "  distance of the p-values of A and B {:.3}; from uniform ones {:.3} and {:.3} (0: the same, 1: apart)",
            p.shift, p.shift_a, p.shift_b
        );
    }
    if p.attacks > 0 {
        let _ = writeln!(
            out,
            "  labelled as attacks, in none of these rates: {}, of which A finds {} and B {} at 1 %",
            grouped(p.attacks),
            grouped(p.attacks_a),
            grouped(p.attacks_b)
        );
    }
}

fn differences(out: &mut String, c: &pb::Comparison, differing: u64, now: TimeUs) {
    if differing == 0 {
        out.push_str("\nAbout every source both would do the same.\n");
        return;
    }
    let _ = writeln!(out, "\nSources about which they differ: {}", grouped(differing));
    let mut t = Table::new(&["SOURCE", "A", "B", "FIRST", ">EVIDENCE", "PORTS", "WHY"]);
    let nothing = pb::SourceOutcome::default();
    for d in &c.differences {
        let (a, b) = (d.a.as_ref().unwrap_or(&nothing), d.b.as_ref().unwrap_or(&nothing));
        // The side that found more says why.
        let said = if a.reasons.is_empty() && a.severity.is_empty() || b.outcome == "drop" { b } else { a };
        let first = [a.alerted_us, b.alerted_us, a.decided_us, b.decided_us].into_iter().flatten().min();
        let ports: Vec<_> = said.ports.iter().take(5).map(ToString::to_string).collect();
        let why = if said.reasons.is_empty() { said.note.clone() } else { said.reasons.join("; ") };
        t.row(vec![
            d.source.clone(),
            a.outcome.clone(),
            b.outcome.clone(),
            first.map_or_else(|| "-".to_owned(), |at| relative(at, now)),
            format!("{:.1}", said.evidence),
            ports.join(","),
            why,
        ]);
    }
    out.push_str(&t.render());
    if c.more_differences > 0 {
        let _ = writeln!(out, "and {} more", grouped(c.more_differences));
    }
    if c.sources_left_out > 0 {
        let _ = writeln!(out, "there was no room for {} others", grouped(c.sources_left_out));
    }
}

#[cfg(test)]
#[path = "render_model_tests.rs"]
mod tests;
