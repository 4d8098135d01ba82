//! How far a long read is, on stderr where that is a terminal.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_source::input::Position;

use crate::human::{bytes, grouped};

const EVERY: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Shared {
    flows: AtomicU64,
    done: AtomicBool,
    input: Mutex<Option<(String, Option<u64>, Position)>>,
    /// What is done now that everything was read.
    stage: Mutex<Option<String>>,
}

/// The line on the terminal; gone when dropped.
#[derive(Default)]
pub struct Progress {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Shows nothing where stderr is no terminal, or `busy`: where the results go to it as well.
    pub fn new(busy: bool) -> Self {
        let mut progress = Self::default();
        if std::io::stderr().is_terminal() && !busy {
            let shared = progress.shared.clone();
            progress.thread = Some(std::thread::spawn(move || show(&shared)));
        }
        progress
    }

    pub fn begin(&self, name: &str, size: Option<u64>, at: Position) {
        let mut input = self.shared.input.lock().unwrap_or_else(PoisonError::into_inner);
        *input = Some((name.to_owned(), size, at));
    }

    /// Says what is done, in place of how far reading is.
    pub fn stage(&self, words: &str) {
        *self.shared.stage.lock().unwrap_or_else(PoisonError::into_inner) = Some(words.to_owned());
    }

    pub fn flow(&self) {
        self.shared.flows.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn show(shared: &Shared) {
    let begin = Instant::now();
    let mut shown = false;
    loop {
        std::thread::park_timeout(EVERY);
        let mut stderr = std::io::stderr();
        if shared.done.load(Ordering::Relaxed) {
            if shown {
                let _ = stderr.write_all(b"\r\x1b[K");
            }
            return;
        }
        let stage = shared.stage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let input = shared.input.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = input.as_ref().map(|(name, size, at)| {
            line(name, at.bytes(), *size, shared.flows.load(Ordering::Relaxed), begin.elapsed())
        });
        if let Some(line) = stage.or(reading) {
            shown = true;
            let _ = write!(stderr, "\r\x1b[K{line}");
            let _ = stderr.flush();
        }
    }
}

/// " 45%  x.pcap: 1.2 GB of 2.6 GB, 1,234,567 flows, 210,000/s".
fn line(name: &str, at: u64, size: Option<u64>, flows: u64, time: Duration) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    let rate = flows as f64 / time.as_secs_f64().max(0.001);
    let (share, of) = match size {
        Some(size) if size > 0 => {
            (format!("{:3.0}%  ", 100.0 * (at as f64 / size as f64).min(1.0)), format!(" of {}", bytes(size)))
        }
        _ => (String::new(), String::new()),
    };
    format!("{share}{name}: {}{of}, {} flows, {}/s", bytes(at), grouped(flows), grouped(rate as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is() {
        let line = line("x.pcap", 1_200_000_000, Some(2_400_000_000), 10_000, Duration::from_secs(2));
        assert_eq!(line, " 50%  x.pcap: 1.2 GB of 2.4 GB, 10,000 flows, 5,000/s");
        assert_eq!(super::line("-\x1b", 5, None, 0, Duration::ZERO), "-: 5 B, 0 flows, 0/s");
    }
}
