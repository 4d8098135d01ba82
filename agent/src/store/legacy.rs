//! What versions before the store kept in files: `state.json` and `alerts.jsonl`. They are read once and moved out of the way.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{State, StoreError, file, io_error};
use crate::command::AlertReport;

/// The only schema that those versions wrote.
const SCHEMA: u32 = 1;
/// Longest line of an alert, bytes.
const MAX_LINE: u64 = 256 << 10;

#[derive(Deserialize)]
struct Document {
    schema: u32,
    #[serde(flatten)]
    rest: serde_json::Value,
}

/// The old state; inside, why it cannot be read. `None`: there is none.
pub fn state(dir: &Path) -> Result<Option<Result<State, String>>, StoreError> {
    let path = dir.join("state.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error("read", &path)(e)),
    };
    let read = serde_json::from_slice::<Document>(&bytes).map_err(|e| e.to_string());
    if let Ok(Document { schema, .. }) = read
        && schema > SCHEMA
    {
        return Err(StoreError::Newer { path, found: schema });
    }
    Ok(Some(read.and_then(|d| serde_json::from_value(d.rest).map_err(|e| e.to_string()))))
}

/// The old alerts, in their order; lines that are none are left out.
pub fn alerts(dir: &Path) -> io::Result<Vec<AlertReport>> {
    let mut lines = match fs::File::open(dir.join("alerts.jsonl")) {
        Ok(file) => BufReader::new(file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let (mut line, mut all) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if io::Read::take(&mut lines, MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(all);
        }
        all.extend(serde_json::from_slice::<AlertReport>(&line));
    }
}

/// Moves a file out of the way once what it held is in the store.
pub fn imported(dir: &Path, name: &str) -> Result<Option<PathBuf>, StoreError> {
    let path = dir.join(name);
    if !path.exists() {
        return Ok(None);
    }
    let to = file::move_aside(&path, "imported").map_err(io_error("set aside", &path))?;
    Ok(Some(to))
}
