//! An agent without interfaces, whose calls are made in memory: through the gate, as those that come over a socket.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tower::ServiceExt as _;

use crate::agent::{Agent, Start};
use crate::api::access::{Access, Peer};
use crate::api::rights::RIGHTS;
use crate::api::{self, Inner};
use crate::app::RunOptions;
use crate::bus::EventBus;
use crate::clock::{boottime_us, monotonic_ns, wall_us};
use crate::command::{Caller, Command, Identity, Role, queue};
use crate::config::{Config, DefaultModel, EventTarget, Web};
use crate::drain::{Epoch, offset_us};
use crate::live::Live;
use crate::render::Rendered;
use crate::sink::Sink;
use crate::store::Store;
use crate::web::{self, Connection};

/// A call that is not answered within this hangs.
const PATIENCE: Duration = Duration::from_secs(8);
/// Parts of an answer that are read.
const PARTS: usize = 64;
/// After so many requests an epoch passes, and after so many epochs everything begins anew.
const PER_EPOCH: u64 = 64;
const EPOCHS: u64 = 256;
const AT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8470);

/// See the module.
pub struct Site {
    live: Option<Running>,
    requests: u64,
}

struct Running {
    agent: Agent,
    commands: mpsc::Receiver<Command>,
    inner: Inner,
    router: Router,
    peer: Peer,
    cookie: String,
    csrf: String,
    runtime: Runtime,
    _stop: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

impl Default for Site {
    fn default() -> Self {
        Self { live: Some(Running::new()), requests: 0 }
    }
}

impl Site {
    /// A call of gRPC: its number among all calls, how the rest is put into messages, and the rest. 0: one message; 1: several,
    /// each behind its length in two bytes; 2: as it comes, frames and all.
    pub fn grpc(&mut self, data: &[u8]) {
        let [call, how, rest @ ..] = data else { return };
        let body = match how % 3 {
            0 => frame(rest),
            1 => messages(rest),
            _ => rest.to_vec(),
        };
        let path = RIGHTS.get(usize::from(*call)).map_or("Nothing", |(name, _)| *name);
        self.next().grpc(path, body);
    }

    /// A request of REST by an operator who is logged in: `VERB path?query` on the first line, path and query behind `/api/v1/`; lines that
    /// begin with `>` are headers; the rest is the body.
    pub fn rest(&mut self, data: &[u8]) {
        let mut lines = data.splitn(2, |b| *b == b'\n');
        let (Some(first), mut body) = (lines.next(), lines.next().unwrap_or_default()) else { return };
        let Ok(first) = std::str::from_utf8(first) else { return };
        let (verb, path) = first.split_once(' ').unwrap_or(("GET", first));
        let Ok(method) = Method::from_bytes(verb.as_bytes()) else { return };
        let mut headers = Vec::new();
        while let Some(line) = body.strip_prefix(b">") {
            let end = line.iter().position(|b| *b == b'\n').unwrap_or(line.len());
            headers.push(&line[..end]);
            body = line.get(end + 1..).unwrap_or_default();
        }
        self.next().rest(method, path, &headers, body);
    }

    fn next(&mut self) -> &mut Running {
        self.requests += 1;
        if self.requests.is_multiple_of(PER_EPOCH * EPOCHS) {
            // The directory is locked by the one before until it is gone.
            self.live = None;
        }
        let running = self.live.get_or_insert_with(Running::new);
        if self.requests.is_multiple_of(PER_EPOCH) {
            running.epoch();
        }
        running
    }
}

/// One message as gRPC frames it.
fn frame(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

fn messages(mut data: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some((len, rest)) = data.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
        all.extend(frame(message));
        data = rest;
    }
    all
}

/// In memory, where there is such a place: every change is written and waited for.
fn state_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.expect("a folder for the state")
}

fn config(dir: &Path) -> Config {
    let default = Config::default();
    Config {
        interface: Some("weir-none".into()),
        state_dir: dir.join("state"),
        default_model: DefaultModel::Off,
        log: crate::config::Log { events: EventTarget::None, ..default.log },
        store: crate::config::Store { max_size: 8 << 20, ..default.store },
        record: crate::config::Record { max_size: 8 << 20, ..default.record },
        capacity: crate::config::Capacity { blocks: 1_000, allow: 1_000, ..default.capacity },
        ..Config::default()
    }
}

impl Running {
    fn new() -> Self {
        let dir = state_dir();
        let config = config(dir.path());
        // What a reload reads.
        let file = dir.path().join("weir.yaml");
        std::fs::write(&file, config.to_yaml()).expect("the configuration is written");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (to, commands) = queue();
        let bus = EventBus::new(256);
        let render = Arc::new(Rendered { interface: None });
        let (access, live) = (Arc::new(Access::default()), Arc::new(Live::default()));
        access.web().configure(Web::default());
        access.web().served(Ok(AT));
        let by = Caller { who: Identity::Local { uid: 0, user: None, pid: None }, role: Role::Operator };
        let login = access.web().issue("fuzz", Some(Role::Operator), &by).expect("a login");
        let code = login.url.rsplit_once("code=").map(|(_, code)| code).unwrap_or_default();
        let (token, session) = access.web().redeem(code).expect("the code is good");
        let peer = runtime.block_on(async {
            let (here, _there) = tokio::net::UnixStream::pair().expect("a pair of sockets");
            access.local(&here).expect("who is at the other end")
        });
        let sink = Sink::start(EventTarget::None, false, render.clone()).expect("the thread of the log");
        let agent = runtime.block_on(async {
            Agent::new(Start {
                options: RunOptions { config: Some(file), ..RunOptions::default() },
                opened: Store::open(&config.state_dir, wall_us()).expect("a store"),
                config,
                kernel: None,
                collector: None,
                bus: bus.clone(),
                sink,
                finished: mpsc::channel(4).0,
                access: access.clone(),
                live: live.clone(),
            })
        });
        let agent = agent.expect("an agent");
        let (inner, page, stop) = api::in_memory(to, bus, render, access, live);
        Self {
            agent,
            commands,
            inner,
            router: web::router(Arc::new(page)),
            peer,
            cookie: format!("weir_session={token}"),
            csrf: session.csrf.clone(),
            runtime,
            _stop: stop,
            _dir: dir,
        }
    }

    fn epoch(&mut self) {
        let report = weir_kernel::flows::DrainReport {
            end_us: monotonic_ns() / 1000,
            ..weir_kernel::flows::DrainReport::default()
        };
        let Self { agent, runtime, .. } = self;
        runtime.block_on(async {
            agent.epoch(&Epoch { report, wall_offset_us: offset_us(), ..Epoch::default() });
            agent.second();
        });
    }

    /// Runs `work`, with the agent carrying out what it asks for.
    fn drive<T>(&mut self, what: &str, work: impl Future<Output = T>) -> T {
        let Self { agent, commands, runtime, .. } = self;
        let began = boottime_us();
        runtime.block_on(async {
            let work = tokio::time::timeout(PATIENCE, work);
            tokio::pin!(work);
            loop {
                tokio::select! {
                    biased;
                    done = &mut work => {
                        return done.unwrap_or_else(|_| panic!("{what} was not answered in {} us", boottime_us() - began));
                    }
                    Some(command) = commands.recv() => {
                        // A model is tried in a child process, which would be this program again.
                        if !matches!(command, Command::ModelLoad { .. }) {
                            agent.command(command);
                        }
                    }
                }
            }
        })
    }

    fn grpc(&mut self, call: &str, body: Vec<u8>) {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://weir.invalid/weir.v1.Weir/{call}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .extension(self.peer.clone())
            .body(tonic::body::Body::new(Full::new(prost::bytes::Bytes::from(body))))
            .expect("a request");
        let inner = self.inner.clone();
        let endless = call == "WatchEvents";
        let code = self.drive(call, async move {
            let Ok(response) = inner.oneshot(request).await;
            let mut code = tonic::Status::from_header_map(response.headers()).map(|s| s.code());
            let mut body = response.into_body();
            for _ in 0..if endless { 0 } else { PARTS } {
                let Some(Ok(part)) = body.frame().await else { break };
                let trailers = part.trailers_ref().and_then(tonic::Status::from_header_map);
                code = trailers.map(|s| s.code()).or(code);
            }
            code
        });
        assert!(!matches!(code, Some(Code::Unknown | Code::DataLoss)), "{call} is answered with {code:?}");
    }

    fn rest(&mut self, method: Method, path: &str, headers: &[&[u8]], body: &[u8]) {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{path}"))
            .header("host", AT.to_string())
            .header("origin", format!("http://{AT}"))
            .header("cookie", &self.cookie)
            .header("x-weir-csrf", &self.csrf)
            .header("content-type", "application/json")
            .extension(Connection { from: SocketAddr::new(AT.ip(), 40_000), to: AT, tls: false });
        for line in headers {
            let mut parts = line.splitn(2, |b| *b == b':');
            request = request.header(parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        }
        let Ok(request) = request.body(Body::from(body.to_vec())) else { return };
        // Logging out would leave the rest to be refused; events never end.
        let (path, plain) = (request.uri().path().to_owned(), |end: &str| format!("/api/v1/{end}"));
        if path == plain("session") || path == plain("events") {
            return;
        }
        let router = self.router.clone();
        let status = self.drive(&path, async move {
            let Ok(response) = router.oneshot(request).await;
            let status = response.status();
            let mut parts = response.into_body().into_data_stream();
            while let Some(Ok(_)) = parts.next().await {}
            status
        });
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
    }
}
