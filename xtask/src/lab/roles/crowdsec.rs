//! A local API of CrowdSec as far as bouncers see it, over real sockets: keys, `/v1/decisions/stream` with start-up and deltas, each
//! delta said once; and every way in which such an API fails or lies.
//!
//! The live tests of the agent use this file as it is.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Honest,
    /// An HTTP status with a page.
    Status(u16),
    /// A page with status 200.
    Page,
    /// JSON that breaks off.
    Broken,
    /// Says that nothing is decided at all.
    Empty,
    /// `null` for both lists.
    Null,
    /// Takes the question, counts it as answered, and hangs up.
    HangUp,
}

#[derive(Debug)]
struct State {
    mood: Mood,
    key: String,
    next_id: i64,
    active: BTreeMap<i64, (Value, Instant)>,
    /// What a bouncer has not been told yet.
    new: Vec<i64>,
    deleted: Vec<Value>,
    /// Questions: all, and those for everything.
    asked: [u64; 2],
    refused: u64,
    user_agent: String,
}

/// The API, on a thread, as long as the process lives.
#[derive(Clone, Debug)]
pub struct LocalApi {
    at: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl LocalApi {
    /// Listens; the socket is of the network namespace that this is called in.
    pub fn start(at: SocketAddr, key: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(at)?;
        let state = State {
            mood: Mood::Honest,
            key: key.to_owned(),
            next_id: 1,
            active: BTreeMap::new(),
            new: Vec::new(),
            deleted: Vec::new(),
            asked: [0; 2],
            refused: 0,
            user_agent: String::new(),
        };
        let api = Self { at: listener.local_addr()?, state: Arc::new(Mutex::new(state)) };
        let serving = api.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let api = serving.clone();
                // A bouncer that goes away is no error here.
                std::thread::spawn(move || drop(api.serve(stream)));
            }
        });
        Ok(api)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    pub fn mood(&self, mood: Mood) {
        self.with(|s| s.mood = mood);
    }

    /// Decides something, as a scenario or a person does.
    pub fn decide(&self, kind: &str, scope: &str, value: &str, duration: Duration, more: &[(&str, Value)]) -> i64 {
        self.with(|s| {
            let id = s.next_id;
            s.next_id += 1;
            let mut d = json!({
                "id": id, "uuid": format!("00000000-0000-0000-0000-{id:012}"), "origin": "cscli", "type": kind, "scope": scope,
                "value": value, "scenario": "crowdsecurity/ssh-bf",
            });
            for (field, value) in more {
                d[*field] = value.clone();
            }
            s.active.insert(id, (d, Instant::now() + duration));
            s.new.push(id);
            id
        })
    }

    pub fn ban(&self, ip: &str) -> i64 {
        self.decide("ban", "Ip", ip, Duration::from_secs(4 * 3600), &[])
    }

    /// `cscli decisions delete --id`.
    pub fn delete(&self, id: i64) {
        self.with(|s| {
            if let Some((d, _)) = s.active.remove(&id) {
                s.deleted.push(d);
                s.new.retain(|n| *n != id);
            }
        });
    }

    /// Questions so far: all, and those for everything.
    pub fn asked(&self) -> [u64; 2] {
        self.with(|s| s.asked)
    }
    /// Questions with a wrong key or none.
    pub fn refused(&self) -> u64 {
        self.with(|s| s.refused)
    }
    pub fn user_agent(&self) -> String {
        self.with(|s| s.user_agent.clone())
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        let (mut key, mut user_agent) = (String::new(), String::new());
        for line in lines {
            let line = line?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("x-api-key") => key = value.trim().to_owned(),
                Some((name, value)) if name.eq_ignore_ascii_case("user-agent") => user_agent = value.trim().to_owned(),
                Some(_) => {}
                None => break,
            }
        }
        let whole = request.contains("startup=true");
        let answer = self.with(|s| {
            s.user_agent = user_agent;
            if key != s.key {
                s.refused += 1;
                return Some((403, json!({"message": "access forbidden"}).to_string()));
            }
            if !request.starts_with("GET /v1/decisions/stream") {
                return Some((404, json!({"message": "page or method not found"}).to_string()));
            }
            s.asked[0] += 1;
            s.asked[1] += u64::from(whole);
            match s.mood {
                Mood::Honest => Some((200, s.answer(whole))),
                Mood::Status(code) => Some((code, "<html><body>Gateway Time-out</body></html>".to_owned())),
                Mood::Page => Some((200, "<html><body>maintenance</body></html>".to_owned())),
                Mood::Broken => Some((200, s.answer(whole)[..10].to_owned())),
                Mood::Empty => Some((200, json!({"new": [], "deleted": []}).to_string())),
                Mood::Null => Some((200, json!({"new": null, "deleted": null}).to_string())),
                // As far as it knows, it has said it.
                Mood::HangUp => {
                    drop(s.answer(whole));
                    None
                }
            }
        });
        let Some((code, body)) = answer else { return Ok(()) };
        let mut out = stream;
        write!(
            out,
            "HTTP/1.1 {code} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }
}

impl State {
    /// What a bouncer is told; what is told once is not told again.
    fn answer(&mut self, whole: bool) -> String {
        let now = Instant::now();
        let ended: Vec<i64> = self.active.iter().filter(|(_, (_, end))| *end <= now).map(|(id, _)| *id).collect();
        for id in ended {
            self.deleted.extend(self.active.remove(&id).map(|(d, _)| d));
        }
        let new = std::mem::take(&mut self.new);
        let told = |(id, (d, end)): (&i64, &(Value, Instant))| {
            let left = end.saturating_duration_since(now).as_secs_f64();
            let (hours, rest) = ((left / 3600.0).floor(), left % 3600.0);
            let mut d = d.clone();
            d["duration"] = format!("{hours}h{}m{:.9}s", (rest / 60.0).floor(), rest % 60.0).into();
            (whole || new.contains(id)).then_some(d)
        };
        let new: Vec<Value> = self.active.iter().filter_map(told).collect();
        let deleted = std::mem::take(&mut self.deleted).into_iter().map(|mut d| {
            d["duration"] = "-1m2.5s".into();
            d
        });
        let list = |all: Vec<Value>| if all.is_empty() { Value::Null } else { Value::Array(all) };
        let deleted = list(deleted.collect());
        json!({"deleted": deleted, "new": if whole { Value::Array(new) } else { list(new) }}).to_string()
    }
}
