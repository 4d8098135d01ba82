//! The files of the record, by their names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use weir_core::record::TimeUs;

/// Flows of a span of time, in a file that is whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// End of the epoch before the first one, and of the last one: when flows became known, not when they began.
    pub begin_us: TimeUs,
    pub end_us: TimeUs,
    /// Each flow once, however many records it gave.
    pub flows: u64,
    pub windows: u64,
    /// Of both files.
    pub bytes: u64,
    pub path: PathBuf,
}

impl Segment {
    /// The name without its extension.
    pub fn stem(begin_us: TimeUs, end_us: TimeUs, flows: u64, windows: u64) -> String {
        // 16 digits last until the year 2286, and sort as the times do.
        format!("{begin_us:016}-{end_us:016}-{flows}-{windows}")
    }

    fn parse(path: PathBuf) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".parquet")?;
        let mut numbers = stem.split('-').map(|n| n.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        let (begin_us, end_us, flows, windows) = (next()?, next()?, next()?, next()?);
        if numbers.next().is_some() || end_us < begin_us || stem != Self::stem(begin_us, end_us, flows, windows) {
            return None;
        }
        Some(Self { begin_us, end_us, flows, windows, bytes: 0, path })
    }

    /// The file with windows and notes.
    pub fn side(&self) -> PathBuf {
        self.path.with_extension("side.zst")
    }

    fn measured(mut self) -> Self {
        let size = |p: &Path| fs::metadata(p).map_or(0, |m| m.len());
        self.bytes = size(&self.path) + size(&self.side());
        self
    }

    pub fn remove(&self) -> io::Result<()> {
        // First what cannot be read without the other.
        for path in [self.path.clone(), self.side()] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Every file that is whole, by time. A folder that is not there holds none.
pub fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all = Vec::new();
    for entry in entries {
        all.extend(Segment::parse(entry?.path()).map(Segment::measured));
    }
    all.sort();
    Ok(all)
}

/// Removes what a killed agent left: files without their name, and companions of none.
pub fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let alone = name.strip_suffix(".side.zst").is_some_and(|stem| !dir.join(format!("{stem}.parquet")).exists());
        if alone || name.starts_with('.') && name.ends_with(".tmp") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Removes the oldest until all are younger than `oldest_us` and take at most `max_bytes`.
pub fn prune(segments: &mut Vec<Segment>, oldest_us: TimeUs, max_bytes: u64) -> io::Result<()> {
    let mut bytes: u64 = segments.iter().map(|s| s.bytes).sum();
    while let Some(first) = segments.first() {
        if first.end_us >= oldest_us && bytes <= max_bytes {
            break;
        }
        first.remove()?;
        bytes -= first.bytes;
        segments.remove(0);
    }
    Ok(())
}
