//! Checking a bundle in a child process with limits, so that a model that eats memory or never ends costs the agent nothing.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::error::BundleError;

/// Limits of the child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildLimits {
    /// Of processor time, and likewise of elapsed time.
    pub seconds: u64,
    /// Of address space.
    pub memory_bytes: u64,
}

impl Default for ChildLimits {
    fn default() -> Self {
        Self { seconds: 30, memory_bytes: 2 << 30 }
    }
}

impl ChildLimits {
    /// For bundles from elsewhere: a bundle that Weir trained takes a fraction of a second, and whoever gave another one waits.
    pub const QUICK: Self = Self { seconds: 3, memory_bytes: 2 << 30 };
}

/// The exit status by which a child says that the bundle is refused, with the reason on its error output.
pub const REFUSED: i32 = 1;

/// How much of the child's error output is kept.
const MAX_STDERR: u64 = 16 << 10;

/// Runs `exe ARGS dir`, which must call [`super::Bundle::load`] on its last argument and exit with 0 if that succeeds, else with
/// [`REFUSED`] and the reason as its error output. Fails with that, or with the limit that it hit.
pub fn verify_in_child(
    exe: &Path,
    args_before_dir: &[&str],
    dir: &Path,
    limits: ChildLimits,
) -> Result<(), BundleError> {
    let failed = |cause: String| BundleError::Child { dir: dir.to_owned(), cause };
    let mut command = Command::new(exe);
    command.args(args_before_dir).arg(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let set = move || {
        limit(libc::RLIMIT_AS, limits.memory_bytes, limits.memory_bytes)?;
        // At the soft limit comes a signal that tells what happened, at the hard one a kill.
        limit(libc::RLIMIT_CPU, limits.seconds.max(1), limits.seconds.max(1) + 1)?;
        limit(libc::RLIMIT_CORE, 0, 0)
    };
    // SAFETY: between fork and exec only setrlimit is called, which is async-signal-safe, and nothing allocates.
    unsafe { command.pre_exec(set) };
    let mut child = command.spawn().map_err(|e| failed(format!("{} does not start: {e}", exe.display())))?;
    // Read on a thread of its own: a child that fills the pipe must not block, nor the wait for it.
    let reader = child.stderr.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let kept = pipe.by_ref().take(MAX_STDERR).read_to_end(&mut text);
            let rest = io::copy(&mut pipe, &mut io::sink());
            // What arrived before a read error is still worth showing.
            let _ = (kept, rest);
            String::from_utf8_lossy(&text).trim().to_owned()
        })
    });
    let deadline = Instant::now() + Duration::from_secs(limits.seconds.max(1));
    let mut pause = Duration::from_millis(2);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() >= deadline => {
                // It may have ended just now; waiting is what matters.
                let _ = child.kill();
                child.wait().map_err(|e| failed(e.to_string()))?;
                break None;
            }
            Ok(None) => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Err(e) => return Err(failed(e.to_string())),
        }
    };
    let Some(status) = status else {
        // A grandchild could hold the pipe open, so the reader is left alone here.
        return Err(failed(format!(
            "it took more than {} s and was killed (if this machine was busy with other work, try again)",
            limits.seconds.max(1)
        )));
    };
    if status.success() {
        return Ok(());
    }
    let stderr = reader.and_then(|r| r.join().ok()).unwrap_or_default();
    if status.code() == Some(REFUSED) && !stderr.is_empty() {
        // What panicked on the way was caught, and is part of the verdict.
        let verdict = stderr.rfind("error: ").map_or(stderr.as_str(), |at| &stderr[at + "error: ".len()..]);
        let mut reason = verdict.lines().next().unwrap_or_default().to_owned();
        if reason.contains("failed to allocate") {
            reason += &format!(" (at most {} MiB of memory are allowed)", limits.memory_bytes >> 20);
        }
        return Err(BundleError::Refused { dir: dir.to_owned(), reason });
    }
    let how = match (status.code(), status.signal()) {
        (_, Some(libc::SIGXCPU | libc::SIGKILL)) => {
            format!("it used more than {} s of processor time", limits.seconds.max(1))
        }
        // What Rust says before it aborts.
        (_, Some(libc::SIGABRT)) if stderr.contains("memory allocation of") => {
            format!("it needs more than {} MiB of memory", limits.memory_bytes >> 20)
        }
        (_, Some(signal)) => {
            format!("it was ended by signal {signal} (at most {} MiB of memory are allowed)", limits.memory_bytes >> 20)
        }
        (Some(code), _) => format!("it exited with code {code}"),
        (None, None) => "it ended".to_owned(),
    };
    Err(failed(if stderr.is_empty() { how } else { format!("{how}: {stderr}") }))
}

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn limit(which: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let value = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the struct is initialised and lives through the call.
    if unsafe { libc::setrlimit(which, &value) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
