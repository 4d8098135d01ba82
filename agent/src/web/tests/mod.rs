//! The page over real sockets, with a task in place of the event loop: what it answers, and what abuse comes to.

mod abuse;
mod calls;
mod events;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use weir_core::event::Event;

use crate::api::access::Access;
use crate::api::{ControlSocket, Doors};
use crate::bus::EventBus;
use crate::command::{Caller, Command, Identity, Role, queue};
use crate::config::{Web, WebListen, WebTls};
use crate::live::Live;
use crate::sink::Render;

struct Plain;
impl Render for Plain {
    fn json(&self, _: &Event) -> String {
        "{}".into()
    }
    fn line(&self, _: &Event) -> String {
        "line".into()
    }
}

struct Site {
    _dir: tempfile::TempDir,
    at: SocketAddr,
    access: Arc<Access>,
    live: Arc<Live>,
    bus: EventBus,
    _stop: oneshot::Sender<()>,
}

/// Somebody who is logged in.
struct User {
    cookie: String,
    csrf: String,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
    fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|l| l.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, v)| v)
    }
    fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// A page whose commands `answer` handles, one after the other.
async fn site(answer: impl FnMut(Command) + Send + 'static) -> Site {
    site_with(Web::default(), 64, answer).await
}

async fn site_with(config: Web, events: usize, mut answer: impl FnMut(Command) + Send + 'static) -> Site {
    let (commands, mut waiting) = queue();
    tokio::spawn(async move {
        while let Some(command) = waiting.recv().await {
            answer(command);
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let socket = ControlSocket::bind(&dir.path().join("run/weir.sock"), None).unwrap();
    let mut doors = Doors::from(socket);
    let config = Web { listen: WebListen("127.0.0.1:0".parse().unwrap()), ..config };
    doors.access.web().configure(config.clone());
    doors.web = Some(config);
    let (access, live, bus) = (doors.access.clone(), doors.live.clone(), EventBus::new(events));
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(crate::api::serve(doors, commands, bus.clone(), Arc::new(Plain), async {
        let _ = stopped.await;
    }));
    let mut tries = 0;
    let at = loop {
        // Where it listens is told with a link.
        match access.web().issue("probe", None, &root()) {
            Ok(login) => break login.url.split('/').nth(2).unwrap().parse().unwrap(),
            Err(e) if tries > 200 => panic!("{e}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        tries += 1;
    };
    Site { _dir: dir, at, access, live, bus, _stop: stop }
}

fn root() -> Caller {
    Caller { who: Identity::Local { uid: 0, user: Some("root".into()), pid: None }, role: Role::Operator }
}

impl Site {
    fn code(&self, role: Role) -> String {
        let login = self.access.web().issue("alice", Some(role), &root()).unwrap();
        login.url.rsplit_once("code=").unwrap().1.to_owned()
    }

    async fn log_in(&self, role: Role) -> User {
        let answer = self.get(&format!("/login?code={}", self.code(role)), &[]).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/"), "{answer:?}");
        let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
        let session = self.get("/api/v1/session", &[("cookie", &cookie)]).await.json();
        assert_eq!((&session["name"], &session["role"]), (&"alice".into(), &role.name().into()));
        User { csrf: session["csrf"].as_str().unwrap().to_owned(), cookie }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, headers, "").await
    }

    /// As the page does it.
    async fn as_user(&self, user: &User, method: &str, path: &str, body: &str) -> Answer {
        let origin = format!("http://{}", self.at);
        let mut headers = vec![("cookie", user.cookie.as_str())];
        if method != "GET" {
            headers.extend([
                ("origin", origin.as_str()),
                ("x-weir-csrf", &user.csrf),
                ("content-type", "application/json"),
            ]);
        }
        self.ask(method, path, &headers, body).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(n, _)| *n == "host") {
            text += &format!("host: {}\r\n", self.at);
        }
        if !body.is_empty() {
            text += &format!("content-length: {}\r\n", body.len());
        }
        headers.iter().for_each(|(n, v)| text += &format!("{n}: {v}\r\n"));
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(format!("{text}\r\n{body}").as_bytes()).await.unwrap();
        read(&mut stream).await
    }
}

/// Until the other end closes.
async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    let whole = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut bytes)).await;
    whole.expect("it is answered").ok();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// From an address of this host that is not the common one.
async fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// A certificate for localhost in files, and itself.
fn certificate(dir: &std::path::Path) -> (WebTls, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let write = |name: &str, text: String| -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let tls = WebTls { cert: write("c.pem", made.pem()), key: write("k.pem", key.serialize_pem()) };
    (tls, made.der().to_vec())
}
