//! The attacks. Those with real connections end as soon as they are blocked; all are bounded in rate and time.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::random::Random;
use super::wire::{Lines, connect, now_us, say};
use super::{raw, server};
use crate::lab::plan;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[arg(long, value_enum)]
    pub kind: Kind,
    /// The address it comes from, or pretends to come from
    #[arg(long)]
    pub from: IpAddr,
    /// More of them, which take turns with the first
    #[arg(long, value_delimiter = ',')]
    pub also: Vec<IpAddr>,
    /// So many attempts before it is the next one's turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub turn: u64,
    /// Attempts (or packets) a second
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=5000))]
    pub rate: u64,
    /// At most so long
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// connect() to one port after another, coming back to the open ones
    Scan,
    /// Passwords, one after another
    Guess,
    /// Many short requests
    Flood,
    /// Bare SYNs with a source that is nobody's
    ForgedSyn,
    /// SYN and a guessed ACK in the name of an honest client
    BlindAck,
    /// Bare SYNs, SYNs with a guessed ACK, and UDP, in the names of ten thousand hosts and of the other addresses
    Crowd,
    /// Requests at the rate for the whole time, answered or not
    Persist,
}

impl Options {
    /// Whose turn it is.
    pub fn whose(&self, number: u64) -> IpAddr {
        match (number / self.turn % (self.also.len() as u64 + 1)) as usize {
            0 => self.from,
            n => self.also[n - 1],
        }
    }
}

/// Without an answer for so long, an attempt counts as unanswered.
const LIMIT: Duration = Duration::from_millis(1000);
/// So many in a row, and the attacker is blocked.
const IN_A_ROW: u64 = 3;

pub fn run(options: &Options) -> Result<()> {
    match options.kind {
        Kind::ForgedSyn | Kind::BlindAck | Kind::Crowd => raw::run(options),
        Kind::Scan => {
            let ports = ports();
            attempts(options, 4, |number| knock(options.whose(number), ports[number as usize % ports.len()]))
        }
        Kind::Guess => attempts(options, 4, |number| guess(options.whose(number), number)),
        Kind::Flood => attempts(options, 12, |number| request(options.whose(number))),
        Kind::Persist => attempts(options, 24, |number| request(options.whose(number))),
    }
}

/// Every port below 1025 in random order, with an open one after each dozen.
fn ports() -> Vec<u16> {
    let mut closed: Vec<u16> = (1..=1024).filter(|p| !plan::OPEN_TCP.contains(p)).collect();
    Random::new().shuffle(&mut closed);
    let mut open = plan::OPEN_TCP.iter().cycle();
    closed.chunks(12).flat_map(|some| some.iter().copied().chain(open.next().copied())).collect()
}

/// A refused connection is an answer too.
fn knock(from: IpAddr, port: u16) -> std::io::Result<()> {
    let to = SocketAddr::new(plan::server_for(from), port);
    match connect(from, to, LIMIT) {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => other.map(drop),
    }
}

fn guess(from: IpAddr, number: u64) -> std::io::Result<()> {
    let to = SocketAddr::new(plan::server_for(from), plan::SSH);
    let mut server = Lines::new(connect(from, to, LIMIT)?, LIMIT)?;
    server.read()?;
    server.write("SSH-2.0-client_1.0\r\n")?;
    server.read()?;
    server.write(&format!("{}\r\n", "k".repeat(600)))?;
    let password = format!("guess{number}");
    assert_ne!(password, server::PASSWORD);
    server.write(&format!("root {password}\r\n"))?;
    match server.read()?.as_str() {
        "denied" => Ok(()),
        other => Err(std::io::Error::other(format!("a wrong password was answered with {other:?}"))),
    }
}

fn request(from: IpAddr) -> std::io::Result<()> {
    let to = SocketAddr::new(plan::server_for(from), plan::HTTP);
    let mut server = Lines::new(connect(from, to, LIMIT)?, LIMIT)?;
    server.write("GET /600 HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    while !server.read()?.is_empty() {}
    server.skip(600)
}

/// What became of the attempts so far.
#[derive(Clone, Debug, Default)]
struct Meter {
    tries: u64,
    answered: u64,
    unanswered: u64,
    /// Neither: an error on this side.
    broken: u64,
    last_error: Option<String>,
    /// The present run without answers: how many, and when the first of them began.
    row: u64,
    row_began_us: Option<u64>,
    /// When the latest answered attempt began.
    answered_us: u64,
}

impl Meter {
    fn note(&mut self, began_us: u64, result: &std::io::Result<()>) {
        self.tries += 1;
        match result {
            Ok(()) => {
                self.answered += 1;
                self.answered_us = self.answered_us.max(began_us);
                // An answer to an attempt from before the silence does not end it.
                if self.row_began_us.is_none_or(|row| row <= self.answered_us) {
                    (self.row, self.row_began_us) = (0, None);
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                self.unanswered += 1;
                if began_us > self.answered_us {
                    self.row += 1;
                    self.row_began_us = Some(self.row_began_us.map_or(began_us, |row| row.min(began_us)));
                }
            }
            Err(e) => {
                self.broken += 1;
                self.last_error = Some(e.to_string());
            }
        }
    }

    fn blocked(&self) -> bool {
        self.row >= IN_A_ROW
    }

    fn report(&self) -> Value {
        json!({
            "tries": self.tries, "answered": self.answered, "unanswered": self.unanswered, "broken": self.broken,
            "error": self.last_error, "blocked": self.blocked(),
            "first_unanswered_us": self.row_began_us.filter(|_| self.blocked()),
        })
    }
}

/// Makes attempts at the given rate from several threads until blocked or out of time.
fn attempts(options: &Options, threads: usize, attempt: impl Fn(u64) -> std::io::Result<()> + Sync) -> Result<()> {
    let meter = Mutex::new(Meter::default());
    let next = AtomicU64::new(0);
    let read = || meter.lock().unwrap_or_else(|e| e.into_inner()).clone();
    let limit = Duration::from_secs(options.seconds);
    let persists = options.kind == Kind::Persist;
    say(&json!({ "started_us": now_us() }));
    let begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while persists || !read().blocked() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let due = Duration::from_secs_f64(number as f64 / options.rate as f64);
                    if due >= limit || begin.elapsed() >= limit {
                        break;
                    }
                    thread::sleep(due.saturating_sub(begin.elapsed()));
                    let began_us = now_us();
                    let result = attempt(number);
                    meter.lock().unwrap_or_else(|e| e.into_inner()).note(began_us, &result);
                }
            });
        }
    });
    let mut report = read().report();
    report["ended_us"] = now_us().into();
    say(&json!({ "done": report }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence() -> std::io::Result<()> {
        Err(ErrorKind::TimedOut.into())
    }

    #[test]
    fn blocked_after_three_unanswered_in_a_row_and_not_before() {
        let mut meter = Meter::default();
        meter.note(10, &Ok(()));
        meter.note(20, &silence());
        meter.note(30, &silence());
        meter.note(40, &Ok(()));
        assert!(!meter.blocked());
        for began in [52, 51, 53] {
            assert!(!meter.blocked());
            meter.note(began, &silence());
        }
        assert!(meter.blocked());
        assert_eq!(meter.report()["first_unanswered_us"], 51);
    }

    #[test]
    fn a_late_answer_from_before_the_silence_does_not_end_it() {
        let mut meter = Meter::default();
        meter.note(50, &silence());
        meter.note(51, &silence());
        meter.note(49, &Ok(()));
        meter.note(52, &silence());
        assert!(meter.blocked());
    }

    #[test]
    fn errors_of_this_side_are_no_block() {
        let mut meter = Meter::default();
        for began in 0..9 {
            meter.note(began, &Err(ErrorKind::AddrNotAvailable.into()));
        }
        assert!(!meter.blocked());
        assert_eq!(meter.report()["broken"], 9);
    }

    #[test]
    fn a_scan_covers_every_port_once_and_meets_each_open_one_many_times() {
        let ports = ports();
        for port in 1..=1024u16 {
            let times = ports.iter().filter(|&&p| p == port).count();
            if plan::OPEN_TCP.contains(&port) { assert!(times >= 10, "{port}") } else { assert_eq!(times, 1, "{port}") }
        }
        assert!(ports[..60].contains(&plan::SSH));
    }
}
