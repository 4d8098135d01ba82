//! The agent's own log, through the `log` crate: to stderr or to the journal. What the kernel programs log comes the
//! same way.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::config::LogTarget;
use crate::sink::journald::{self, Journal, Priority};

struct Logger {
    out: Out,
}

enum Out {
    /// With times, unless a person types: then only what matters.
    Stderr {
        times: bool,
    },
    Journal(Mutex<Journal>),
}

/// Sets the log up for an agent. Later changes of the level go through [`set_level`].
pub fn init(level: LevelFilter, target: LogTarget) {
    let journal = match target {
        LogTarget::Stderr => false,
        LogTarget::Journald => true,
        LogTarget::Auto => stderr_is_the_journal(),
    };
    let out = if journal && Path::new(journald::SOCKET).exists() {
        Out::Journal(Mutex::new(Journal::new(Path::new(journald::SOCKET))))
    } else {
        Out::Stderr { times: true }
    };
    install(Logger { out }, level);
    if journal && !Path::new(journald::SOCKET).exists() {
        log::warn!("the log goes to stderr: there is no journal at {}", journald::SOCKET);
    }
}

/// For short commands: warnings to stderr, nothing else.
pub fn init_cli() {
    install(Logger { out: Out::Stderr { times: false } }, LevelFilter::Warn);
}

pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

fn install(logger: Logger, level: LevelFilter) {
    // A second call (in tests) keeps the first logger.
    let _ = log::set_boxed_logger(Box::new(logger));
    log::set_max_level(level);
}

/// systemd names the device and inode of the stream that it connected to stderr.
fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|m| stream == format!("{}:{}", m.dev(), m.ino()))
}

/// Libraries are heard from warnings on.
fn wanted(metadata: &Metadata<'_>) -> bool {
    metadata.level() <= log::max_level() && (metadata.level() <= Level::Warn || metadata.target().starts_with("weir"))
}

fn line(record: &Record<'_>, times: bool, colour: bool) -> String {
    let level = match (record.level(), colour) {
        (Level::Error, true) => "\x1b[31mERROR\x1b[0m",
        (Level::Warn, true) => "\x1b[33mWARN\x1b[0m ",
        (Level::Error, false) => "ERROR",
        (Level::Warn, false) => "WARN ",
        (Level::Info, _) => "INFO ",
        (Level::Debug, _) => "DEBUG",
        (Level::Trace, _) => "TRACE",
    };
    // One record, one line, whatever a message holds.
    let message = record.args().to_string().replace('\n', "\n    ");
    if times {
        format!("{} {level} {message}\n", weir_core::render::Rfc3339(crate::clock::wall_us()))
    } else {
        format!("{}: {message}\n", level.trim_end().to_lowercase())
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        wanted(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !wanted(record.metadata()) {
            return;
        }
        match &self.out {
            Out::Stderr { times } => {
                let mut stderr = std::io::stderr().lock();
                let colour = *times && stderr.is_terminal();
                // A log that cannot be written is no reason to stop.
                let _ = stderr.write_all(line(record, *times, colour).as_bytes());
            }
            Out::Journal(journal) => {
                let priority = match record.level() {
                    Level::Error => Priority::Error,
                    Level::Warn => Priority::Warning,
                    Level::Info => Priority::Info,
                    Level::Debug | Level::Trace => Priority::Debug,
                };
                let message = record.args().to_string();
                let mut journal = journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let sent = journal.send(priority, &[("MESSAGE", &message), ("WEIR_MODULE", record.target())]);
                if sent.is_err() {
                    let _ = std::io::stderr().write_all(line(record, true, false).as_bytes());
                }
            }
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_time_level_and_message() {
        let record = |level| Record::builder().level(level).target("weir_agent").args(format_args!("a\nb")).build();
        let text = line(&record(Level::Warn), true, false);
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.len() == 27 && time.starts_with("20") && time.ends_with('Z'), "{time}");
        assert_eq!(rest, "WARN  a\n    b\n");
        assert_eq!(line(&record(Level::Error), false, false), "error: a\n    b\n");
    }

    #[test]
    fn libraries_are_heard_from_warnings_on() {
        log::set_max_level(LevelFilter::Debug);
        let wanted = |level, target| wanted(&Metadata::builder().level(level).target(target).build());
        assert!(wanted(Level::Debug, "weir_agent::app") && wanted(Level::Info, "weir_ebpf"));
        assert!(!wanted(Level::Debug, "h2::codec") && wanted(Level::Warn, "h2::codec"));
        assert!(!wanted(Level::Trace, "weir_agent"));
    }
}
