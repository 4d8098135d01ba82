//! A program run to its end: how long, how much of the processor, how much memory, and what it said.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::sh::Sh;

/// What a run took.
pub struct Taken {
    /// By the clock on the wall.
    pub seconds: f64,
    /// Of all processors, in the program and for it in the kernel.
    pub cpu_seconds: f64,
    pub peak_kib: u64,
    pub said: String,
}

/// Runs a command to its end and measures it.
pub fn measure(command: Sh) -> Result<Taken> {
    measure_reading(command, Stdio::null())
}

/// [`measure`], with a standard input.
pub fn measure_reading(command: Sh, input: Stdio) -> Result<Taken> {
    let words = command.words();
    let mut command = command.into_command();
    command.stdin(input);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // Forked: where it is spawned in our memory, as is usual, it begins with our own peak for its.
    // SAFETY: nothing is done between fork and exec.
    unsafe { command.pre_exec(|| Ok(())) };
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start `{words}`"))?;
    // Both pipes are read at once: a full one would stop the program.
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = std::io::Read::read_to_end(&mut pipe, &mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = read(out.map(|p| Box::new(p) as _));
    let err = read(err.map(|p| Box::new(p) as _));
    let (status, usage) = wait(child.id())?;
    let seconds = start.elapsed().as_secs_f64();
    let said = out.join().unwrap_or_default() + &err.join().unwrap_or_default();
    if !status.success() {
        bail!("`{words}` failed ({status}): {}", said.lines().last().unwrap_or_default());
    }
    let cpu = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    let cpu_seconds = cpu(usage.ru_utime) + cpu(usage.ru_stime);
    Ok(Taken { seconds, cpu_seconds, peak_kib: usage.ru_maxrss as u64, said })
}

/// Waits for a child of ours; its status and what it used.
fn wait(pid: u32) -> Result<(ExitStatus, libc::rusage)> {
    let mut status = 0;
    // SAFETY: plain data that the call fills; zero is a valid value of each field.
    let (done, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid as libc::pid_t, &mut status, 0, &mut usage), usage)
    };
    if done < 0 {
        return Err(std::io::Error::last_os_error()).context("cannot wait for a program");
    }
    Ok((ExitStatus::from_raw(status), usage))
}
