//! The record of the agent on this machine, as an input like any other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use weir_core::record::TimeUs;

use super::configured_socket;
use crate::api::client::{Client, ClientError};
use crate::archive::{FOLDER, files};
use crate::clock::wall_us;
use crate::config::Config;
use crate::human::rough;

/// Files of the record, and the time from which on flows are meant.
#[derive(Debug)]
pub struct Recorded {
    pub files: Vec<PathBuf>,
    pub since_us: TimeUs,
}

/// The folder of the record. A running agent is asked to close the file that it writes; without one, that of the configuration.
pub fn folder(socket: Option<&Path>) -> anyhow::Result<PathBuf> {
    let at = socket.map_or_else(configured_socket, Path::to_owned);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async { Client::connect(&at).await?.flush_record().await });
    match asked {
        Ok(report) => Ok(report.dir.into()),
        // One that was named is meant.
        Err(ClientError::NotRunning(_) | ClientError::Stale(_)) if socket.is_none() => {
            Ok(Config::load(None).map_or_else(|_| Config::default().state_dir, |c| c.state_dir).join(FOLDER))
        }
        Err(e) => Err(e.into()),
    }
}

/// Everything that is recorded, or of the last `since` alone.
pub fn open(socket: Option<&Path>, since: Option<Duration>) -> anyhow::Result<Recorded> {
    let dir = folder(socket)?;
    let since_us = since.map_or(0, |d| wall_us().saturating_sub(d.as_micros() as u64));
    let segments = files::list(&dir).with_context(|| format!("cannot read the record in {}", dir.display()))?;
    let files: Vec<PathBuf> = segments.into_iter().filter(|s| s.end_us > since_us).map(|s| s.path).collect();
    if files.is_empty() {
        let of = since.map_or_else(String::new, |d| format!(" of the last {}", rough(d)));
        anyhow::bail!(
            "nothing{of} is recorded in {}: the agent records flows unless `record.enabled` is false",
            dir.display()
        );
    }
    Ok(Recorded { files, since_us })
}
