//! `weir evidence`: what alerts and automatic decisions rest on, out of the store, and computed again.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;
use weir_core::record::TimeUs;
use weir_models::{Bundle, Inspected};

use super::args::EvidenceCmd;
use super::history::since_us;
use super::output::{Output, Table, relative};
use crate::api::client::Client;
use crate::clock::wall_us;
use crate::config::Config;
use crate::evidence::{Document, FORMAT, Judged, Models, Report, VERSION, judge};
use crate::human::bytes;
use crate::offline::output::whole;
use crate::store::ProofLine;
use crate::{default_bundle, model};

/// No document is longer, bytes.
const MAX_DOCUMENT: u64 = 64 << 20;

pub async fn run(client: &mut Client, command: EvidenceCmd, out: &Output) -> anyhow::Result<()> {
    match command {
        EvidenceCmd::List(span) => {
            let now = wall_us();
            let lines = client.evidence(since_us(&span, now), span.limit).await?;
            out.list(&lines, |l| table(l, now))?;
        }
        EvidenceCmd::Export { id, out: to } => {
            let text = client.get_evidence(id).await? + "\n";
            whole(to.as_deref(), &text)?;
        }
        EvidenceCmd::Verify { .. } => unreachable!("handled without an agent"),
    }
    Ok(())
}

fn table(lines: &[ProofLine], now: TimeUs) -> String {
    if lines.is_empty() {
        return "no evidence is kept\n".into();
    }
    let mut t = Table::new(&[">ID", "WHEN", "SOURCE", "ALERT", "DECISION", ">SIZE"]);
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    for p in lines {
        t.row(vec![
            p.id.to_string(),
            relative(p.time.0, now),
            p.source.clone(),
            number(p.alert_id),
            number(p.decision_id),
            bytes(p.bytes),
        ]);
    }
    t.render()
}

/// A judged row on one line.
#[derive(Serialize)]
struct Line {
    row: usize,
    kind: String,
    profile: String,
    agrees: bool,
    p_value: f32,
    p_value_computed: f32,
    autoencoder: f32,
    autoencoder_computed: f32,
    isolation_forest: f32,
    isolation_forest_computed: f32,
}

impl From<&Judged> for Line {
    fn from(j: &Judged) -> Self {
        Self {
            row: j.row,
            kind: j.kind.clone(),
            profile: j.profile.clone(),
            agrees: j.agrees,
            p_value: j.told.p_value,
            p_value_computed: j.computed.p_value,
            autoencoder: j.told.autoencoder,
            autoencoder_computed: j.computed.autoencoder,
            isolation_forest: j.told.isolation_forest,
            isolation_forest_computed: j.computed.isolation_forest,
        }
    }
}

pub fn verify(file: &Path, bundle: Option<PathBuf>, out: &Output) -> anyhow::Result<ExitCode> {
    let (document, text) = read(file)?;
    let report = judge(&document, Document::is_intact(&text), &find(&document.models, bundle)?)?;
    if out.json() {
        out.object(&serde_json::json!({
            "agrees": report.agrees(), "intact": report.intact, "bundle": report.bundle, "rows": report.rows
        }))?;
    } else {
        let lines: Vec<Line> = report.rows.iter().map(Line::from).collect();
        out.list(&lines, |_| told(&document, &report))?;
    }
    Ok(if report.agrees() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(file: &Path) -> anyhow::Result<(Document, String)> {
    let at = || format!("cannot read {}", file.display());
    let size = fs::metadata(file).with_context(at)?.len();
    anyhow::ensure!(size <= MAX_DOCUMENT, "{} is no evidence: {} are more than any has", file.display(), bytes(size));
    let text = fs::read_to_string(file).with_context(at)?;
    // The version first: another one may have other fields.
    let head: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no evidence: it is no JSON", file.display()))?;
    anyhow::ensure!(
        head["format"] == FORMAT,
        "{} is no evidence: `weir evidence export` writes documents whose `format` is {FORMAT:?}",
        file.display()
    );
    anyhow::ensure!(
        head["version"] == VERSION,
        "{} is evidence of version {}, and this program knows version {VERSION}",
        file.display(),
        head["version"]
    );
    let document = serde_json::from_value(head).with_context(|| format!("{} is no whole evidence", file.display()))?;
    Ok((document, text))
}

/// The bundle that was named, or the one that the evidence names.
fn find(wanted: &Models, named: Option<PathBuf>) -> anyhow::Result<Bundle> {
    if let Some(dir) = named {
        return load(&dir);
    }
    let state = Config::load(None).map_or_else(|_| Config::default().state_dir, |c| c.state_dir);
    let bundles = fs::read_dir(state.join("bundles")).into_iter().flatten().flatten().map(|e| e.path());
    let mut bundles: Vec<PathBuf> =
        bundles.filter(|p| !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'))).collect();
    bundles.sort();
    for dir in bundles {
        // What a manifest says is enough to look for; loading it is not for nothing.
        if Inspected::read(&dir).is_ok_and(|i| i.id == wanted.bundle) {
            return load(&dir);
        }
    }
    if wanted.default_bundle {
        let bundle = default_bundle::load()?;
        if bundle.id() == wanted.bundle {
            return Ok(bundle);
        }
    }
    anyhow::bail!(
        "bundle {} is neither in {} nor the one that came with this program; name its folder with --bundle DIR",
        wanted.bundle,
        state.join("bundles").display()
    )
}

fn load(dir: &Path) -> anyhow::Result<Bundle> {
    // Compiling and running a model is what can hang: that is tried elsewhere first.
    model::check(dir)?;
    Ok(model::load_here(dir)?)
}

fn told(document: &Document, report: &Report) -> String {
    let mut out = String::new();
    let about = match (&document.decision, &document.alert) {
        (Some(d), _) => format!("decision {} on {}", d.id, d.target),
        (None, Some(a)) => format!("alert {}", a["alert"]["id"]),
        (None, None) => "no decision".to_owned(),
    };
    let _ = writeln!(out, "evidence of {} against {}: {about}", document.time, document.source);
    let _ = writeln!(out, "bundle {}: the same models", report.bundle);
    if document.rows_left_out > 0 {
        let _ = writeln!(out, "{} rows more were evidence too and are not in it", document.rows_left_out);
    }
    let mut t = Table::new(&[">ROW", "KIND", "PROFILE", ">P", ">COMPUTED", "AGREES"]);
    for r in &report.rows {
        let says = if r.agrees { "yes" } else { "NO" };
        let p = |v: f32| format!("{v:.6}");
        t.row(vec![
            r.row.to_string(),
            r.kind.clone(),
            r.profile.clone(),
            p(r.told.p_value),
            p(r.computed.p_value),
            says.to_owned(),
        ]);
    }
    out += &t.render();
    let wrong = report.rows.iter().filter(|r| !r.agrees).count();
    let _ = match (wrong, report.intact) {
        (0, true) => writeln!(out, "all {} rows agree, and the document is as it was sealed", report.rows.len()),
        (0, false) => {
            writeln!(out, "all {} rows agree, but the document was CHANGED since it was sealed", report.rows.len())
        }
        (n, true) => writeln!(out, "{n} of {} rows DO NOT AGREE", report.rows.len()),
        (n, false) => {
            writeln!(
                out,
                "{n} of {} rows DO NOT AGREE, and the document was CHANGED since it was sealed",
                report.rows.len()
            )
        }
    };
    out
}
