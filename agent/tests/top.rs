//! `weir top` as a user has it: the program on a terminal, before an agent whose names are hostile.

mod common;
#[path = "common/pty.rs"]
mod pty;

use std::convert::Infallible;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use common::{WEIR, text};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use nix::sys::signal::Signal;
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use pty::Pty;
use tokio::net::UnixListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;
use weir_agent::proto as pb;

/// Clears the screen, sets the title, rings, changes colours the other way, turns the writing around, moves the cursor.
const HOSTILE: &str = "\x1b[2J\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\u{9b}31m\u{202e}evil\r\n\x1b[1;1Hx";
/// The same on the emulated terminal, which leaves replacement characters out.
const SEEN: &str = "[2J]0;owned";
/// What is left of it to look at.
const INERT: &str = "\u{fffd}[2J\u{fffd}]0;owned";

/// The agent's side of the protocol, with what it was asked to change.
#[derive(Clone, Default)]
struct Double(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    changed: Vec<String>,
    answered: bool,
    gone: bool,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

fn question(answered: bool) -> pb::Question {
    pb::Question {
        id: 3,
        source: "203.0.113.66".into(),
        why: HOSTILE.into(),
        target: "203.0.113.66".into(),
        action: "drop".into(),
        ttl_us: 3_600_000_000,
        evidence: format!("evidence 23.1 {HOSTILE}"),
        asked_us: now() - 60_000_000,
        expires_us: now() + 600_000_000,
        unanswered: "nothing".into(),
        state: if answered { "answered" } else { "open" }.into(),
        came_to: if answered { format!("blocked {HOSTILE}") } else { String::new() },
        ..pb::Question::default()
    }
}

fn alert() -> pb::Alert {
    let reason = pb::AlertReason { words: format!("distinct ports contacted 47 {HOSTILE}"), ..Default::default() };
    pb::Alert {
        id: 12,
        time_us: now() - 5_000_000,
        source: "203.0.113.66".into(),
        severity: "high".into(),
        evidence: 23.1,
        evidence_proven: 23.1,
        profile: "source".into(),
        role: "source-proven".into(),
        outcome: format!("a person is asked {HOSTILE}"),
        mode: "review".into(),
        reasons: vec![reason],
        ..pb::Alert::default()
    }
}

fn option(number: u32, choice: &str, width: &str, words: &str) -> pb::QuestionOption {
    let (choice, width, words) = (choice.into(), width.into(), format!("{words} {HOSTILE}"));
    pb::QuestionOption { number, choice, width, words, ttl_us: 3_600_000_000, ..Default::default() }
}

impl Double {
    fn answer(&self, call: &str, message: &[u8]) -> Result<Vec<u8>, Status> {
        let mut world = self.0.lock().unwrap();
        if world.gone {
            return Err(Status::unavailable(format!("the agent is stopping {HOSTILE}")));
        }
        let point = |n: u64| pb::TrafficPoint {
            time_us: now() - n * 1_000_000,
            interval_us: 1_000_000,
            packets_passed: 4_200,
            bytes_passed: 1_000_000,
            packets_dropped: 17,
            flows_live: 99,
            ..Default::default()
        };
        let source = |address: &str, evidence| pb::TopSource {
            source: address.into(),
            evidence,
            flows: 60,
            last_us: now(),
            ports: vec![22],
            ..Default::default()
        };
        Ok(match call {
            "Status" => pb::StatusResponse {
                version: "1".into(),
                interface: format!("eth0{HOSTILE}"),
                mode_configured: pb::Mode::Review as i32,
                mode_effective: pb::Mode::Review as i32,
                xdp_mode: pb::XdpMode::Native as i32,
                warnings: vec![HOSTILE.into()],
                ..Default::default()
            }
            .encode_to_vec(),
            "Traffic" => {
                let since = pb::TrafficRequest::decode(message).unwrap().since_us;
                let points = (0..20).rev().map(point).filter(|p| p.time_us > since + 500_000).collect();
                pb::TrafficResponse { points }.encode_to_vec()
            }
            "TopSources" => pb::TopSourcesResponse {
                sources: vec![source("203.0.113.66", 23.1), source(HOSTILE, 9.0)],
                alert_threshold: Some(10.0),
                drop_threshold: Some(15.0),
                known: 2,
            }
            .encode_to_vec(),
            "ListAlerts" => pb::ListAlertsResponse { alerts: vec![alert()] }.encode_to_vec(),
            "GetAlert" => pb::GetAlertResponse { alert: Some(alert()) }.encode_to_vec(),
            "ListQuestions" => {
                pb::ListQuestionsResponse { questions: vec![question(world.answered)], not_asked: 0 }.encode_to_vec()
            }
            "GetQuestion" => {
                let options = vec![option(1, "ignore", "", "ignore"), option(2, "drop", "host", "block the host")];
                let reasons = vec![HOSTILE.into()];
                let question = Some(question(world.answered));
                let detail = pb::QuestionDetail { question, reasons, options, basis: HOSTILE.into() };
                pb::GetQuestionResponse { question: Some(detail) }.encode_to_vec()
            }
            "AnswerQuestion" => {
                let r = pb::AnswerQuestionRequest::decode(message).unwrap();
                world.changed.push(format!("answer {} {:?} {:?}", r.id, r.choice(), r.width()));
                world.answered = true;
                pb::AnswerQuestionResponse { question: Some(question(true)) }.encode_to_vec()
            }
            "UndoAnswer" => {
                world.changed.push(format!("undo {}", pb::UndoAnswerRequest::decode(message).unwrap().id));
                world.answered = false;
                let lifted = HOSTILE.into();
                pb::UndoAnswerResponse { question: Some(question(false)), lifted }.encode_to_vec()
            }
            other => return Err(Status::unimplemented(other)),
        })
    }
}

/// A message as gRPC frames it.
fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    framed.freeze()
}

impl NamedService for Double {
    const NAME: &'static str = "weir.v1.Weir";
}

impl Service<Request<Body>> for Double {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let double = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let call = parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
            let body = body.collect().await.unwrap().to_bytes();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let done = http_body::Frame::trailers(trailers);
            let body = if call == "WatchEvents" {
                let event = pb::Event { line: HOSTILE.into(), kind: pb::EventKind::Agent as i32, ..Default::default() };
                let item = Some(pb::watch_events_response::Item::Event(event));
                let first = pb::WatchEventsResponse { item, ..Default::default() }.encode_to_vec();
                let first = tokio_stream::once(Ok::<_, Status>(http_body::Frame::data(frame(&first))));
                Body::new(StreamBody::new(first.chain(tokio_stream::pending())))
            } else {
                match double.answer(&call, body.get(5..).unwrap_or_default()) {
                    Ok(message) => {
                        let data = http_body::Frame::data(frame(&message));
                        Body::new(StreamBody::new(tokio_stream::iter([Ok::<_, Status>(data), Ok(done)])))
                    }
                    Err(status) => return Ok(status.into_http()),
                }
            };
            let mut response = Response::new(body);
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            Ok(response)
        })
    }
}

/// The double on a socket, until the end of the test.
struct Agent {
    double: Double,
    dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Agent {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let agent = Self { double: Double::default(), dir: tempfile::tempdir().unwrap(), _runtime: runtime };
        let (socket, double) = (agent.socket(), agent.double.clone());
        let listener = agent._runtime.block_on(async { UnixListener::bind(socket).unwrap() });
        agent._runtime.spawn(async move {
            let server = tonic::transport::Server::builder().add_service(double);
            server.serve_with_incoming(UnixListenerStream::new(listener)).await
        });
        agent
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("weir.sock")
    }

    fn changed(&self) -> Vec<String> {
        self.double.0.lock().unwrap().changed.clone()
    }

    fn command(&self, args: &str) -> Command {
        command(&self.socket(), args)
    }

    fn run(&self, args: &str) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }
}

fn command(socket: &Path, args: &str) -> Command {
    let mut command = Command::new(WEIR);
    command.env_remove("WEIR_CONTEXT").env("XDG_CONFIG_HOME", "/nonexistent").env_remove("NO_COLOR");
    command.arg("--socket").arg(socket).args(args.split_whitespace());
    command
}

#[track_caller]
fn nothing_got_through(terminal: &Pty) {
    assert_eq!(terminal.asked(), [0, 0, 0], "titles, bells, copies");
    let raw = String::from_utf8_lossy(&terminal.raw()).into_owned();
    for part in ["\x1b]0;owned", "\x1b]52", "\u{9b}31m", "\u{202e}", "\x07"] {
        assert!(!raw.contains(part), "{part:?} reached the terminal");
    }
}

#[track_caller]
fn given_back(terminal: &Pty, before: &[u64]) {
    terminal.wait_for("the screen of before", |s| !s.alternate_screen() && !s.hide_cursor());
    assert_eq!(terminal.modes(), before, "lines are edited and echoed as before");
}

#[test]
fn a_user_sees_what_goes_on_answers_a_question_and_takes_that_back() {
    let agent = Agent::start();
    let mut terminal = Pty::start(&mut agent.command("top --interval 200ms"), 120, 40);
    let before = terminal.modes_before();
    for words in ["weir top", "mode review  XDP native", "4.2k", "203.0.113.66", "a person is asked", "1 open", SEEN] {
        terminal.wait_for_words(words);
    }
    assert!(terminal.screen().alternate_screen());
    assert_ne!(terminal.modes(), before);
    // Another size: everything is drawn anew, and fits.
    terminal.resize(70, 20);
    terminal.wait_for("the frame of the lists at the new size", |s| {
        let corner = |row: u16| s.cell(row, 69).is_some_and(|c| c.contents() == "┐");
        (0..20).any(corner) && s.contents().contains("Tab pane")
    });
    terminal.resize(120, 40);
    // The question, from the list.
    terminal.keys("3");
    terminal.keys("\r");
    terminal.wait_for_words("Question 3 (open)");
    terminal.wait_for_words("  2  block the host");
    terminal.keys("2");
    terminal.wait_for_words("y: yes, any other key: no");
    assert!(agent.changed().is_empty(), "nothing is done before yes");
    terminal.keys("y");
    terminal.wait_for_words("question 3: blocked");
    assert_eq!(agent.changed(), ["answer 3 Drop Host"]);
    terminal.wait_for_words("answered: blocked");
    terminal.keys("u");
    terminal.wait_for_words("take the answer to question 3 back?");
    terminal.keys("y");
    terminal.wait_for_words("is taken back");
    assert_eq!(agent.changed()[1..], ["undo 3"]);
    // An alert, with its reasons.
    terminal.keys("2");
    terminal.keys("\r");
    terminal.wait_for_words("distinct ports contacted 47");
    terminal.keys("q");
    // An agent that ends is said, and what was known stays in sight.
    agent.double.0.lock().unwrap().gone = true;
    terminal.wait_for_words("the agent does not answer");
    assert!(terminal.screen().contents().contains("203.0.113.66"));
    agent.double.0.lock().unwrap().gone = false;
    terminal.wait_for("the agent again", |s| !s.contents().contains("does not answer"));
    terminal.keys("q");
    assert_eq!(terminal.wait().code(), Some(0));
    given_back(&terminal, &before);
    nothing_got_through(&terminal);
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    let agent = Agent::start();
    for (how, end) in [
        ("Ctrl-C", (|t: &mut Pty| t.keys("\x03")) as fn(&mut Pty)),
        ("SIGTERM", |t| t.signal(Signal::SIGTERM)),
        ("SIGHUP", |t| t.signal(Signal::SIGHUP)),
        ("SIGINT", |t| t.signal(Signal::SIGINT)),
    ] {
        let mut terminal = Pty::start(&mut agent.command("top"), 100, 30);
        let before = terminal.modes_before();
        terminal.wait_for_words("q quit");
        end(&mut terminal);
        assert_eq!(terminal.wait().code(), Some(0), "{how}");
        given_back(&terminal, &before);
    }
}

#[test]
fn without_an_agent_the_screen_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = Pty::start(&mut command(&dir.path().join("weir.sock"), "top"), 100, 30);
    let before = terminal.modes_before();
    assert_eq!(terminal.wait().code(), Some(1));
    terminal.wait_for_words("no agent is running here");
    given_back(&terminal, &before);
}

#[test]
fn pipes_get_blocks_of_lines_without_anything_that_steers() {
    let agent = Agent::start();
    let out = agent.run("top --count 2 --interval 200ms");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let lines = text(&out.stdout);
    assert_eq!(lines.matches("passed 4.2k pps 1.0 MB/s").count(), 2, "{lines}");
    for part in
        ["203.0.113.66  evidence 23.1", "alerts 1\n  12  ", "questions 1\n  3  drop 203.0.113.66 for 1h?", INERT]
    {
        assert!(lines.contains(part), "{part:?} is missing in\n{lines}");
    }
    assert!(!lines.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{lines:?}");

    let out = agent.run("top -n 2 --interval 200ms -o json");
    let objects: Vec<serde_json::Value> = text(&out.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[0]["rates"]["dropped"][0], 17.0);
    assert_eq!(objects[0]["questions"][0]["id"], 3);
    assert!(!text(&out.stdout).contains('\x1b'));

    // Without an end it goes on until whoever reads has enough.
    let mut child = agent.command("top --interval 200ms").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let first = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    assert!(first.contains("mode review"), "{first}");
    assert_eq!(child.wait().unwrap().code(), Some(0));

    for (args, words) in [
        ("top --interval 50ms", "too often"),
        ("top --interval 1h", "at most 5m"),
        ("top --count 0", "count"),
        ("top -o csv", "cannot write csv"),
    ] {
        let out = agent.run(args);
        assert_eq!(out.status.code(), Some(2), "{args}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains(words), "{args}: {}", text(&out.stderr));
    }
}
