//! `weir config check` and `show`.

use std::path::PathBuf;

use super::output::Output;
use crate::config::{Config, DEFAULT_PATH};

/// A file that is asked about must be there, the default one too.
fn load(file: Option<PathBuf>) -> anyhow::Result<(PathBuf, Config)> {
    let file = file.unwrap_or_else(|| DEFAULT_PATH.into());
    let config = Config::load(Some(&file))?;
    Ok((file, config))
}

pub fn check(out: &Output, file: Option<PathBuf>) -> anyhow::Result<()> {
    let (file, config) = load(file)?;
    let changed: Vec<_> = Config::default().diff(&config).into_iter().map(|k| k.path).collect();
    let warnings = config.warnings();
    if out.json() {
        let rules = config.policy.rules.iter().map(|r| serde_json::json!({ "name": r.name, "words": r.to_string() }));
        return Ok(out.object(&serde_json::json!({
            "file": file, "valid": true, "set": changed, "rules": rules.collect::<Vec<_>>(), "warnings": warnings,
        }))?);
    }
    let set = match changed.len() {
        0 => "every key has its default".into(),
        1 => format!("differs from the defaults in {}", changed[0]),
        n => format!("differs from the defaults in {n} keys: {}", changed.join(", ")),
    };
    let warned: String = warnings.iter().map(|w| format!("warning: {w}\n")).collect();
    let warned = if warned.is_empty() { warned } else { format!("\n{warned}") };
    Ok(out.text(&format!("{}: fine; {set}\n\n{}\n{warned}", file.display(), config.summary()))?)
}

pub fn show(out: &Output, file: Option<PathBuf>) -> anyhow::Result<()> {
    // Without a file: the defaults, as a start.
    let config = match file {
        Some(_) => load(file)?.1,
        None => Config::load(None)?,
    };
    if out.json() { Ok(out.object(&config.to_json())?) } else { Ok(out.text(&config.to_yaml())?) }
}
