//! Ctrl-C during a long read: finish what is being written, then end as the signal would have it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, raise};

/// What was received; 0: nothing.
static RECEIVED: AtomicI32 = AtomicI32::new(0);
/// The unfinished file.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// How long a read that waits for its input is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

const SIGNALS: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];

/// Those that whoever started this program has not told it to ignore: a blocked one would come all the same.
fn heeded() -> SigSet {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    SIGNALS.into_iter().filter(|s| ignored >> (*s as u32 - 1) & 1 == 0).collect()
}

/// The bits of ignored signals, the first in the lowest bit (proc(5)).
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

pub fn received() -> Option<Signal> {
    Signal::try_from(RECEIVED.load(Ordering::Relaxed)).ok()
}

/// The file that goes where the program is ended in the middle.
pub fn unfinished(path: Option<PathBuf>) {
    *UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner) = path;
}

/// From now on signals are noted instead of ending the program at once. A second one, or a read that does not come
/// back, ends it.
pub fn watch() -> nix::Result<()> {
    let set = heeded();
    set.thread_block()?;
    std::thread::spawn(move || {
        let Ok(signal) = set.wait() else { return };
        RECEIVED.store(signal as i32, Ordering::Relaxed);
        std::thread::sleep(PATIENCE);
        end_by(signal);
    });
    Ok(())
}

/// Ends the program as the signal does by default, so that a shell knows. Without a half-written file.
pub fn end_by(signal: Signal) {
    if let Some(path) = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = std::fs::remove_file(path);
    }
    let _ = SIGNALS.into_iter().collect::<SigSet>().thread_unblock();
    let _ = raise(signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_proc() {
        assert_eq!(ignored("Name:\tweir\nSigIgn:\t0000000000001002\nSigCgt:\t0\n"), 0x1002);
        assert_eq!(ignored(""), 0);
    }
}
