//! Lines in a file that is rotated by size and age.
//!
//! The file that is written to always has its configured name; one that is full is renamed to `NAME-TIME`, compressed, and removed once
//! enough newer ones are there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_core::render::rfc3339;

use super::Failed;
use crate::clock::wall_us;
use crate::sink::file::JsonLines;
use crate::sinks::settings::{Compress, LogFile};

pub struct Rotated {
    config: LogFile,
    file: JsonLines,
    /// What is known of the file that is open: its bytes, and when it was begun (wall clock, µs).
    open: Option<(u64, u64)>,
    /// What went wrong with rotated files, said once.
    said: String,
}

impl Rotated {
    pub fn new(config: LogFile) -> Self {
        Self { file: JsonLines::new(config.path.clone()), config, open: None, said: String::new() }
    }

    pub fn write(&mut self, lines: &[String]) -> Result<(), Failed> {
        let mut done = 0;
        while done < lines.len() {
            self.rotate_if_due(lines[done].len() as u64 + 1);
            let (bytes, begun) = self.state();
            // As many as the file has room for.
            let mut room =
                if self.config.max_size == 0 { u64::MAX } else { self.config.max_size.saturating_sub(bytes) };
            let mut n = 0;
            for line in &lines[done..] {
                let needs = line.len() as u64 + 1;
                if n > 0 && needs > room {
                    break;
                }
                room = room.saturating_sub(needs);
                n += 1;
            }
            let part = &lines[done..done + n];
            if let Err((lost, e)) = self.file.write(part.iter().map(String::as_str)) {
                self.open = None;
                let done = done + n - lost as usize;
                return Err(Failed::retry(done, format!("{} cannot be written: {e}", self.config.path.display())));
            }
            let written: u64 = part.iter().map(|l| l.len() as u64 + 1).sum();
            self.open = Some((bytes + written, begun));
            done += n;
        }
        Ok(())
    }

    /// The next write opens the path anew.
    pub fn reopen(&mut self) {
        self.file.close();
        self.open = None;
    }

    /// Rotates a file that nothing is written to, once it is old enough.
    pub fn look_at_age(&mut self) {
        self.rotate_if_due(0);
    }

    /// Bytes and beginning of the file at the path.
    fn state(&mut self) -> (u64, u64) {
        *self.open.get_or_insert_with(|| match fs::metadata(&self.config.path) {
            Ok(meta) => {
                let begun = meta.created().or_else(|_| meta.modified()).ok();
                let begun = begun.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
                (meta.len(), begun.map_or_else(wall_us, |d| d.as_micros() as u64))
            }
            Err(_) => (0, wall_us()),
        })
    }

    /// `next`: bytes that are about to be written.
    fn rotate_if_due(&mut self, next: u64) {
        let (bytes, begun) = self.state();
        let now = wall_us();
        let large = self.config.max_size != 0 && bytes + next > self.config.max_size;
        let old = self.config.max_age != Duration::ZERO
            && now.saturating_sub(begun) >= self.config.max_age.as_micros() as u64;
        // An empty file is not worth a name of its own.
        if bytes == 0 || !(large || old) {
            return;
        }
        match self.rotate(now) {
            Ok(()) => self.said.clear(),
            Err(e) => self.say(format!("{} was not rotated as it should be: {e}", self.config.path.display())),
        }
    }

    fn rotate(&mut self, now: u64) -> io::Result<()> {
        // Seconds are enough for a name; several in one second are counted.
        let stamp: String = rfc3339(now).chars().take(19).filter(|c| c.is_ascii_digit() || *c == 'T').collect();
        // Behind the last one of this second, whatever has been removed since.
        let last = rotated(&self.config.path)?.into_iter().rfind(|r| r.time == stamp);
        let to = match last {
            None => format!("-{stamp}"),
            Some(last) => format!("-{stamp}.{}", last.count + 1),
        };
        let to = with_suffix(&self.config.path, &to);
        fs::rename(&self.config.path, &to)?;
        self.reopen();
        // Whatever fails from here on costs no event.
        let packed = match self.config.compress {
            Compress::None => Ok(()),
            how => pack(&to, how),
        };
        self.remove_old()?;
        packed
    }

    fn remove_old(&self) -> io::Result<()> {
        let rotated = rotated(&self.config.path)?;
        for old in rotated.iter().take(rotated.len().saturating_sub(self.config.keep as usize)) {
            fs::remove_file(&old.path)?;
        }
        Ok(())
    }

    fn say(&mut self, words: String) {
        if self.said != words {
            log::warn!("{words}");
            self.said = words;
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    path.with_file_name(name)
}

const PACKED: [&str; 2] = [".gz", ".zst"];

/// A file that was rotated away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Old {
    /// `20241127T065346`.
    time: String,
    /// Among those of one second.
    count: u64,
    path: PathBuf,
}

/// Files that were rotated away from this path, the oldest first. Other people's files are none.
fn rotated(path: &Path) -> io::Result<Vec<Old>> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let file = entry.file_name();
        let stamp = file.to_str().and_then(|f| f.strip_prefix(name)).and_then(|f| f.strip_prefix('-'));
        let Some((time, count)) = stamp.and_then(taken_apart) else { continue };
        found.push(Old { time, count, path: entry.path() });
    }
    found.sort();
    Ok(found)
}

/// `20241127T065346.2.gz`, the number and the last part being optional.
fn taken_apart(stamp: &str) -> Option<(String, u64)> {
    let stamp = PACKED.iter().find_map(|p| stamp.strip_suffix(p)).unwrap_or(stamp);
    let (time, count) = stamp.split_once('.').unwrap_or((stamp, "0"));
    let (day, second) = time.split_once('T')?;
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    (day.len() == 8 && second.len() == 6 && digits(day) && digits(second)).then_some(())?;
    Some((time.to_owned(), count.parse().ok()?))
}

/// Replaces the file by its compressed form, in one step.
fn pack(path: &Path, how: Compress) -> io::Result<()> {
    let suffix = if how == Compress::Gzip { PACKED[0] } else { PACKED[1] };
    let (whole, part) = (with_suffix(path, suffix), with_suffix(path, ".part"));
    let packed = (|| {
        let mut from = File::open(path)?;
        let to = std::os::unix::fs::OpenOptionsExt::mode(
            fs::OpenOptions::new().write(true).create(true).truncate(true),
            0o640,
        )
        .open(&part)?;
        let file = match how {
            Compress::Gzip => {
                let mut to = flate2::write::GzEncoder::new(to, flate2::Compression::default());
                io::copy(&mut from, &mut to)?;
                to.finish()?
            }
            _ => {
                let mut to = zstd::stream::write::Encoder::new(to, 3)?;
                io::copy(&mut from, &mut to)?;
                to.finish()?
            }
        };
        file.sync_data()?;
        fs::rename(&part, &whole)
    })();
    match packed {
        Ok(()) => fs::remove_file(path),
        Err(e) => {
            // The file itself is still there.
            let _ = fs::remove_file(&part);
            Err(e)
        }
    }
}

#[cfg(test)]
#[path = "eve_tests.rs"]
mod tests;
