//! The chart, judged and packaged by Helm's engine.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Made, Release};
use crate::host::Host;
use crate::sh::{root, sh};

pub fn make(release: &Release) -> Result<Made> {
    let host = Host::this();
    if let Err(why) = crate::setup::venv::DEPLOY.probe(&host) {
        return Ok(Made::Skipped(format!("no Helm engine: {why:#}")));
    }
    let out = sh(crate::setup::venv::DEPLOY.python(&host), [root().join("deploy/python/chart.py")])
        .arg(root().join("deploy/helm/weir"))
        .arg(&release.out)
        .output()?;
    println!("{out}");
    let package = out.lines().last().map(PathBuf::from).filter(|p| p.exists());
    Ok(Made::Files(vec![package.context("the chart was not packaged")?]))
}
