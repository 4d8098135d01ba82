//! Files that the configuration names: read again at their interval, when they change, and on request.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::Sender;
use weir_core::decisions::lists::{Draft, From};

use super::format::{self, Parsed};
use super::{Arrived, Brought, fill, rule};
use crate::clock::wall_us;
use crate::config::Source;

/// How often a file is looked at for a change.
const LOOK: Duration = Duration::from_secs(2);
/// A file that was written so lately may not be whole yet.
const SETTLE: Duration = Duration::from_secs(1);
/// Bytes of a file; more is no list.
const MAX_BYTES: u64 = 2 << 30;

/// Dropped: the thread ends.
#[derive(Debug)]
pub struct Handle(mpsc::Sender<()>);

impl Handle {
    /// Reads again now.
    pub fn poke(&self) {
        let _ = self.0.send(());
    }
}

pub fn start(source: Source, to: Sender<Arrived>) -> io::Result<Handle> {
    let (poke, poked) = mpsc::channel();
    std::thread::Builder::new().name("weir-source".into()).spawn(move || watch(&source, &to, &poked))?;
    Ok(Handle(poke))
}

/// What a file looks like from outside: another one, or a changed one, looks different.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Looks {
    inode: u64,
    size: u64,
    mtime: (i64, i64),
}

fn looks(source: &Source) -> io::Result<Looks> {
    let m = std::fs::metadata(&source.path)?;
    Ok(Looks { inode: m.ino(), size: m.size(), mtime: (m.mtime(), m.mtime_nsec()) })
}

/// Whether it was written just now.
fn fresh(source: &Source) -> bool {
    let modified = std::fs::metadata(&source.path).and_then(|m| m.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < SETTLE))
}

fn watch(source: &Source, to: &Sender<Arrived>, poked: &mpsc::Receiver<()>) {
    let mut seen: Option<Looks> = None;
    let mut read_at: Option<Instant> = None;
    let mut asked = true;
    loop {
        let now = looks(source).ok();
        let due = read_at.is_none_or(|at| at.elapsed() >= source.interval);
        if (asked || due || now != seen) && !fresh(source) {
            let what = read(source).map(Some);
            // What was read is what is there now, if nobody wrote meanwhile.
            let after = looks(source).ok();
            let changed = after != now && what.is_ok();
            if !changed {
                (seen, read_at, asked) = (now, Some(Instant::now()), false);
                if to.blocking_send(Arrived { name: source.name.clone(), what }).is_err() {
                    return;
                }
            }
        }
        match poked.recv_timeout(LOOK.min(source.interval)) {
            Ok(()) => asked = true,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The list as the file has it.
pub fn read(source: &Source) -> Result<Brought, String> {
    let path = source.path.display();
    let now = wall_us();
    let open = || -> io::Result<Result<Parsed, format::ReadError>> {
        let file = File::open(&source.path)?;
        if file.metadata()?.len() > MAX_BYTES {
            return Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
        }
        let (reader, _) = weir_source::input::decompressed(file)?;
        Ok(format::read(BufReader::new(reader), source.format, now))
    };
    let parsed = match open() {
        Ok(Ok(parsed)) => parsed,
        Ok(Err(e)) => return Err(format!("{path}: {e}")),
        Err(e) => return Err(format!("{path}: {e}")),
    };
    if parsed.entries.is_empty() {
        return Err(format!("{path} holds no entries"));
    }
    let left_out = left_out(&parsed);
    let mut draft = Draft::new(source.name.clone(), From::Source(path.to_string()), format!("from {path}"));
    let ttl_us = source.lifetime.map(|d| d.as_micros() as u64);
    fill(&mut draft, parsed, rule(source.action), ttl_us, false, now);
    Ok(Brought { draft, max_shrink: Some(source.max_shrink), left_out, warning: Some(String::new()) })
}

/// "3 lines are none of a list; line 7: `x`: is no address".
pub fn left_out(parsed: &Parsed) -> String {
    match parsed.named.first() {
        Some(first) => format!("{} lines are no entries; the first is {first}", parsed.bad),
        None => String::new(),
    }
}
