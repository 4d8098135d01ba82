//! Honest clients: a thread per address, each with habits of its own, mostly waiting.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::random::Random;
use super::server::PASSWORD;
use super::wire::{Lines, connect, now_us, say};
use crate::lab::plan;

/// What is not answered in this time has failed: no healthy server takes so long.
const LIMIT: Duration = Duration::from_secs(10);
const STACK: usize = 128 * 1024;

#[derive(Default)]
struct Count {
    ok: u64,
    failed: u64,
    slowest_ms: u64,
}

type Counts = Arc<Mutex<BTreeMap<&'static str, Count>>>;

pub fn run() -> Result<()> {
    let counts = Counts::default();
    for (index, address) in plan::clients().into_iter().enumerate() {
        let client = Client::new(index as u64, address, counts.clone());
        thread::Builder::new().stack_size(STACK).spawn(move || client.live())?;
    }
    loop {
        thread::sleep(Duration::from_millis(250));
        let counts = counts.lock().unwrap_or_else(|e| e.into_inner());
        let tally: serde_json::Map<_, _> = counts
            .iter()
            .map(|(kind, c)| {
                ((*kind).to_owned(), json!({ "ok": c.ok, "failed": c.failed, "slowest_ms": c.slowest_ms }))
            })
            .collect();
        say(&json!({ "tally": tally }));
    }
}

struct Client {
    address: IpAddr,
    server: IpAddr,
    random: Random,
    /// Mean time between activities, in seconds.
    pause: f64,
    /// How likely each activity is, in the order of `act`.
    weights: [f64; 5],
    counts: Counts,
}

impl Client {
    fn new(index: u64, address: IpAddr, counts: Counts) -> Self {
        let mut habits = Random::from_seed(index + 1);
        // Everyone browses and looks up names; some also work on the server, some send mail, some fetch much.
        let mut some = |share: f64, weight: f64| if habits.chance(share) { weight } else { weight * 0.06 };
        let weights = [1.0, 0.5, some(0.25, 0.5), some(0.2, 0.35), some(0.2, 0.3)];
        let pause = habits.real(0.9, 3.2);
        Self {
            address,
            server: plan::server_for(address),
            random: Random::from_seed(super::random::seed() ^ index),
            pause,
            weights,
            counts,
        }
    }

    fn live(mut self) {
        thread::sleep(Duration::from_secs_f64(self.random.real(0.0, 3.0)));
        loop {
            self.act();
            let pause = self.random.exponential(self.pause).clamp(0.05, 15.0);
            thread::sleep(Duration::from_secs_f64(pause));
        }
    }

    fn act(&mut self) {
        let mut point = self.random.unit() * self.weights.iter().sum::<f64>();
        let chosen = self.weights.iter().position(|w| {
            point -= w;
            point < 0.0
        });
        match chosen {
            Some(1) => self.look_up(3),
            Some(2) => self.work(),
            Some(3) => self.send_mail(),
            Some(4) => self.fetch_much(),
            _ => self.browse(),
        }
    }

    /// Counts one request, and names it if it failed.
    fn count(&self, kind: &'static str, since: Instant, result: std::io::Result<()>) -> bool {
        let took = since.elapsed().as_millis() as u64;
        let mut counts = self.counts.lock().unwrap_or_else(|e| e.into_inner());
        let count = counts.entry(kind).or_default();
        match result {
            Ok(()) => {
                count.ok += 1;
                count.slowest_ms = count.slowest_ms.max(took);
                true
            }
            Err(e) => {
                count.failed += 1;
                drop(counts);
                let client = self.address.to_string();
                say(&json!({ "failure": {
                    "kind": kind, "client": client, "error": e.to_string(), "after_ms": took, "at_us": now_us(),
                }}));
                false
            }
        }
    }

    fn nap(&mut self, low_ms: f64, high_ms: f64) {
        thread::sleep(Duration::from_secs_f64(self.random.real(low_ms, high_ms) / 1000.0));
    }

    fn open(&self, port: u16) -> std::io::Result<Lines> {
        Lines::new(connect(self.address, SocketAddr::new(self.server, port), LIMIT)?, LIMIT)
    }

    fn browse(&mut self) {
        if self.random.chance(0.6) {
            self.look_up(1);
        }
        let port = if self.random.chance(0.4) { plan::HTTPS } else { plan::HTTP };
        // Mostly one connection, at times a burst of them.
        let connections = self.random.pareto(1.0, 1.6, 4.9) as u64;
        for _ in 0..connections {
            self.visit(port);
            self.nap(5.0, 250.0);
        }
    }

    fn visit(&mut self, port: u16) {
        let since = Instant::now();
        let mut server = match self.open(port) {
            Ok(server) => server,
            Err(e) => {
                self.count("web", since, Err(e));
                return;
            }
        };
        let requests = self.random.between(1, 3);
        for number in 1..=requests {
            let bytes = self.random.pareto(500.0, 0.9, 200_000.0) as u64;
            let padding = "a".repeat(self.random.between(40, 600) as usize);
            let keep = if number == requests { "close" } else { "keep-alive" };
            let request =
                format!("GET /{bytes} HTTP/1.1\r\nHost: lab\r\nX-Pad: {padding}\r\nConnection: {keep}\r\n\r\n");
            let since = Instant::now();
            let result = exchange(&mut server, &request);
            if !self.count("web", since, result) {
                return;
            }
            if number < requests {
                self.nap(20.0, 900.0);
            }
        }
    }

    fn look_up(&mut self, at_most: u64) {
        for _ in 0..self.random.between(1, at_most) {
            let since = Instant::now();
            let result = self.ask_name();
            self.count("dns", since, result);
            self.nap(1.0, 60.0);
        }
    }

    fn ask_name(&mut self) -> std::io::Result<()> {
        let socket = UdpSocket::bind((self.address, 0))?;
        socket.connect((self.server, plan::DNS))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut question = vec![0u8; self.random.between(28, 60) as usize];
        question[..2].copy_from_slice(&(self.random.next() as u16).to_be_bytes());
        question[2..4].copy_from_slice(&(self.random.between(70, 400) as u16).to_be_bytes());
        let mut answer = [0u8; 512];
        let mut last = None;
        for _ in 0..3 {
            socket.send(&question)?;
            match socket.recv(&mut answer) {
                Ok(n) if n >= 12 && answer[..2] == question[..2] => return Ok(()),
                Ok(_) => last = Some(std::io::Error::other("an answer to another question")),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| std::io::Error::other("no answer")))
    }

    /// A login, rarely with a mistyped password first, and a few seconds of typing.
    fn work(&mut self) {
        if self.random.chance(0.06) {
            let since = Instant::now();
            let result = self.log_in("corect-horse").and_then(|(_, said)| match said.as_str() {
                "denied" => Ok(()),
                other => Err(std::io::Error::other(format!("a wrong password was answered with {other:?}"))),
            });
            self.count("login", since, result);
            self.nap(800.0, 2500.0);
        }
        let since = Instant::now();
        let result = self.log_in(PASSWORD).and_then(|(server, said)| match said.as_str() {
            "ok" => self.type_commands(server),
            other => Err(std::io::Error::other(format!("the right password was answered with {other:?}"))),
        });
        self.count("login", since, result);
    }

    fn log_in(&mut self, password: &str) -> std::io::Result<(Lines, String)> {
        let mut server = self.open(plan::SSH)?;
        server.read()?;
        server.write("SSH-2.0-client_1.0\r\n")?;
        server.read()?;
        server.write(&format!("{}\r\n", "k".repeat(self.random.between(500, 700) as usize)))?;
        self.nap(100.0, 1500.0);
        server.write(&format!("user {password}\r\n"))?;
        let said = server.read()?;
        Ok((server, said))
    }

    fn type_commands(&mut self, mut server: Lines) -> std::io::Result<()> {
        for _ in 0..self.random.between(4, 30) {
            self.nap(30.0, 400.0);
            server.write(&format!("{}\r\n", "c".repeat(self.random.between(30, 90) as usize)))?;
            server.read()?;
        }
        server.write("exit\r\n")?;
        server.read().map(drop)
    }

    fn send_mail(&mut self) {
        let since = Instant::now();
        let body = format!("{}\r\n", "m".repeat(120)).repeat(self.random.pareto(4.0, 1.1, 300.0) as usize);
        let result = self.open(plan::SMTP).and_then(|mut server| {
            server.read()?;
            for line in ["EHLO client", "MAIL FROM:<a@lab>", "RCPT TO:<b@lab>", "DATA"] {
                server.write(&format!("{line}\r\n"))?;
                server.read()?;
            }
            server.write(&format!("{body}.\r\n"))?;
            server.read()?;
            server.write("QUIT\r\n")?;
            server.read().map(drop)
        });
        self.count("mail", since, result);
    }

    /// A download of several seconds.
    fn fetch_much(&mut self) {
        let since = Instant::now();
        let rate = self.random.between(100_000, 400_000);
        let bytes = (rate as f64 * self.random.real(2.0, 7.0)) as u64;
        let request = format!("GET /{bytes}/{rate} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n");
        let result = self.open(plan::BULK).and_then(|mut server| exchange(&mut server, &request));
        self.count("download", since, result);
    }
}

/// One request and its whole answer.
fn exchange(server: &mut Lines, request: &str) -> std::io::Result<()> {
    server.write(request)?;
    let status = server.read()?;
    if !status.starts_with("HTTP/1.1 200") {
        return Err(std::io::Error::other(format!("answered {status:?}")));
    }
    let mut length = 0;
    loop {
        let header = server.read()?;
        if header.is_empty() {
            return server.skip(length);
        }
        if let Some(value) = header.strip_prefix("Content-Length: ") {
            length = value.parse().map_err(|_| std::io::Error::other(format!("a bad length {value:?}")))?;
        }
    }
}
