//! Processes of the lab: each in a process group of its own, in the namespace it belongs to, and gone with us.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::stop;

/// Prepares `command` to run in the network namespace of that name, in its own process group, and to be killed if this
/// process dies without cleaning up. To be called from the main thread: the kernel ties the last to the thread.
pub fn confine(command: &mut Command, namespace: Option<&str>) -> Result<()> {
    let file = match namespace {
        Some(name) => Some(open_namespace(name)?),
        None => None,
    };
    let parent = std::process::id();
    command.process_group(0);
    // SAFETY: between fork and exec only system calls are made, which are async-signal-safe; nothing allocates, and an
    // error is returned as the number that the kernel gave.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            if libc::getppid() as u32 != parent {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            if let Some(file) = &file
                && libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) != 0
            {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    Ok(())
}

pub fn open_namespace(name: &str) -> Result<File> {
    let path = format!("/run/netns/{name}");
    File::open(&path).with_context(|| format!("cannot open the namespace {path}"))
}

/// Runs a command to its end, at most so long, stopping it on a signal; returns its standard output.
pub fn output(mut command: Command, namespace: Option<&str>, limit: Duration) -> Result<String> {
    let words = words(&command);
    confine(&mut command, namespace)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start `{words}`"))?;
    let readers = (reader(child.stdout.take()), reader(child.stderr.take()));
    let status = wait(&mut child, limit, true);
    let text =
        |r: std::thread::JoinHandle<Vec<u8>>| String::from_utf8_lossy(&r.join().unwrap_or_default()).into_owned();
    match status {
        Ok(Some(status)) => {
            let (out, err) = (text(readers.0), text(readers.1));
            if !status.success() {
                let said = if err.trim().is_empty() { out } else { err };
                bail!("`{words}` failed ({status}): {}", said.trim());
            }
            Ok(out)
        }
        Ok(None) => {
            kill_group(&mut child);
            bail!("`{words}` did not end within {} s", limit.as_secs())
        }
        Err(e) => {
            kill_group(&mut child);
            Err(e)
        }
    }
}

fn reader(from: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What was read before an error is what there is to show.
            let _ = from.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn words(command: &Command) -> String {
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    all.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// `None`: it still runs.
fn wait(child: &mut Child, limit: Duration, heed_signals: bool) -> Result<Option<ExitStatus>> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if heed_signals {
            stop::check()?;
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal_group(child: &Child, signal: libc::c_int) {
    // SAFETY: kill takes no pointers; the group is the child's own, and the child has not been reaped.
    unsafe { libc::kill(-(child.id() as libc::pid_t), signal) };
}

fn kill_group(child: &mut Child) {
    signal_group(child, libc::SIGKILL);
    let _ = child.wait();
}

fn this_program(role: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program's own file")?);
    command.arg("lab-role").args(role);
    Ok(command)
}

/// A process that runs beside us and reports in JSON lines on its standard output.
pub struct Proc {
    name: String,
    child: Child,
    /// Where it is told something; closed where it is told nothing.
    input: Option<ChildStdin>,
    lines: Receiver<Value>,
    ended: bool,
}

impl Proc {
    /// Starts it. What it writes on standard error goes to `errors`.
    pub fn start(name: &str, command: Command, namespace: &str, errors: File) -> Result<Self> {
        Self::spawn(name, command, namespace, errors, Stdio::null())
    }

    fn spawn(name: &str, mut command: Command, namespace: &str, errors: File, input: Stdio) -> Result<Self> {
        confine(&mut command, Some(namespace))?;
        command.stdin(input).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("cannot start {name} (`{}`)", words(&command)))?;
        let (sender, lines) = channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if let Ok(value) = serde_json::from_str(&line)
                        && sender.send(value).is_err()
                    {
                        break;
                    }
                }
            });
        }
        let input = child.stdin.take();
        Ok(Self { name: name.to_owned(), child, input, lines, ended: false })
    }

    /// A process of this program in another role.
    pub fn role(role: &[&str], namespace: &str, errors: File) -> Result<Self> {
        Self::start(role[0], this_program(role)?, namespace, errors)
    }

    /// The same, for one that is told what to do.
    pub fn told(role: &[&str], namespace: &str, errors: File) -> Result<Self> {
        Self::spawn(role[0], this_program(role)?, namespace, errors, Stdio::piped())
    }

    /// Another program that reports and is told.
    pub fn talking(name: &str, command: Command, namespace: &str, errors: File) -> Result<Self> {
        Self::spawn(name, command, namespace, errors, Stdio::piped())
    }

    /// Bytes of memory that it holds now.
    pub fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let kib = text.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.map(|k| k * 1024).with_context(|| format!("{path} has no VmRSS"))
    }

    /// A line on its standard input.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().with_context(|| format!("{} takes no words", self.name))?;
        writeln!(input, "{line}").and_then(|()| input.flush()).with_context(|| format!("cannot speak to {}", self.name))
    }

    /// What it has reported since the last call.
    pub fn reports(&self) -> Vec<Value> {
        self.lines.try_iter().collect()
    }

    /// Waits for its next report.
    pub fn next_report(&mut self, limit: Duration) -> Result<Value> {
        let until = Instant::now() + limit;
        loop {
            stop::check()?;
            if let Ok(value) = self.lines.recv_timeout(Duration::from_millis(50)) {
                return Ok(value);
            }
            self.must_run()?;
            if Instant::now() >= until {
                bail!("{} said nothing for {} s", self.name, limit.as_secs());
            }
        }
    }

    /// An error if it ended by itself.
    pub fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            self.ended = true;
            bail!("{} ended too early ({status})", self.name);
        }
        Ok(())
    }

    pub fn has_ended(&mut self) -> Result<bool> {
        self.ended |= self.child.try_wait()?.is_some();
        Ok(self.ended)
    }

    pub fn signal(&self, signal: libc::c_int) {
        if !self.ended {
            signal_group(&self.child, signal);
        }
    }

    /// SIGKILL to the whole group.
    pub fn kill(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            kill_group(&mut self.child);
        }
    }

    /// SIGTERM, then SIGKILL, to the whole group.
    pub fn stop(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        signal_group(&self.child, libc::SIGTERM);
        // One that was stopped hears it only then.
        signal_group(&self.child, libc::SIGCONT);
        if !matches!(wait(&mut self.child, Duration::from_secs(5), false), Ok(Some(_))) {
            kill_group(&mut self.child);
        }
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The last lines of a log.
pub fn tail(path: &std::path::Path, lines: usize) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(path) {
        let _ = file.read_to_string(&mut text);
    }
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
