//! Sinks as a whole, against receivers that fail, hang and lie.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::Instant;

use weir_core::event::{Level, Severity};

use super::queue::WhenFull;
use super::settings::{
    Address, Compress, Content, Destination, Facility, LogFile, Syslog, Template, Transport, Webhook,
};
use super::*;
use crate::tls_client::Trust;

struct Plain;
impl Render for Plain {
    fn json(&self, event: &Event) -> String {
        match event {
            Event::Agent { time_us, kind, message, .. } => {
                serde_json::json!({"n": time_us, "kind": kind, "message": message}).to_string()
            }
            _ => panic!("only news here"),
        }
    }
    fn line(&self, event: &Event) -> String {
        format!("{event:?}").replace(char::is_control, " ")
    }
}

fn news(n: u64) -> Arc<Event> {
    Arc::new(Event::Agent { time_us: n, level: Level::Warning, kind: "test", message: format!("news {n}") })
}

fn start(dir: &Path) -> Sinks {
    Sinks::start(dir.join("sinks"), None, Arc::new(Plain)).unwrap()
}

fn sink(name: &str, to: Destination) -> SinkConfig {
    SinkConfig {
        name: name.into(),
        kinds: Kind::USUAL.to_vec(),
        min_severity: Severity::Low,
        rate: None,
        dedup: Duration::ZERO,
        queue_size: 10_000_000,
        queue_full: WhenFull::DropOldest,
        retry_max: Duration::from_millis(300),
        to,
    }
}

fn file(path: &Path) -> Destination {
    let (max_size, max_age) = (0, Duration::ZERO);
    Destination::Eve(LogFile { path: path.into(), max_size, max_age, keep: 1, compress: Compress::None })
}

fn webhook(port: u16) -> Webhook {
    Webhook {
        url: Address::Url(format!("http://127.0.0.1:{port}/hook")),
        template: Template::Json,
        secret_file: None,
        token_file: None,
        key_file: None,
        trust: Trust::default(),
        timeout: Duration::from_millis(500),
    }
}

fn tcp(port: u16) -> Destination {
    let (host, transport, facility) = ("127.0.0.1".into(), Transport::Tcp, Facility(16));
    Destination::Syslog(Syslog { host, port, transport, facility, trust: Trust::default() }, Content::Json)
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn state(sinks: &Sinks, name: &str) -> SinkState {
    sinks.states().snapshot().into_iter().find(|s| s.name == name).unwrap_or_default()
}

fn dropped(s: &SinkState) -> u64 {
    s.dropped.iter().map(|d| d.count).sum()
}

fn test_of(sinks: &Sinks, name: &str) -> Result<Duration, String> {
    let (reply, answer) = oneshot::channel();
    sinks.test(name.to_owned(), reply);
    answer.blocking_recv().unwrap()
}

/// A port that refuses connections and that nobody else gets: it is taken, and nobody listens.
fn held_port() -> (std::os::fd::OwnedFd, u16) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};
    use std::os::fd::AsRawFd;
    let held = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(held.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let port = getsockname::<SockaddrIn>(held.as_raw_fd()).unwrap().port();
    (held, port)
}

/// The same until the tests end.
fn closed_port() -> u16 {
    let (held, port) = held_port();
    std::mem::forget(held);
    port
}

/// What an HTTP receiver does with a request.
#[derive(Clone, Copy, Debug)]
enum Do {
    Answer(u16),
    /// 429 with this many seconds.
    Later(u64),
    /// Reads and says nothing.
    Hang,
    /// Ends the connection in the middle of its answer.
    Cut,
    /// Says what is no HTTP.
    Lie,
    /// An answer without end, a byte at a time.
    Drip,
}

#[derive(Debug)]
struct Got {
    at: Instant,
    headers: Vec<String>,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|h| h.to_lowercase().starts_with(&format!("{name}: ")).then(|| &h[name.len() + 2..]))
    }
}

/// Serves one connection after the other, each request by the next of these, then by 200.
fn receiver(mut script: Vec<Do>) -> (u16, mpsc::Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (to, got) = mpsc::channel();
    script.reverse();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            while let Some(request) = read_request(&stream) {
                let what = script.pop().unwrap_or(Do::Answer(200));
                if to.send(request).is_err() {
                    return;
                }
                let mut out = &stream;
                let sent = match what {
                    Do::Answer(status) => write!(out, "HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok"),
                    Do::Later(s) => write!(out, "HTTP/1.1 429 X\r\nRetry-After: {s}\r\nContent-Length: 0\r\n\r\n"),
                    Do::Lie => write!(out, "220 this is mail\r\n"),
                    Do::Cut => write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
                    Do::Hang => {
                        let _ = (&stream).read(&mut [0; 1]);
                        Ok(())
                    }
                    Do::Drip => (0..u64::MAX).try_for_each(|_| {
                        std::thread::sleep(Duration::from_millis(20));
                        write!(out, "H")
                    }),
                };
                if sent.is_err() || !matches!(what, Do::Answer(_) | Do::Later(_)) {
                    break;
                }
            }
        }
    });
    (port, got)
}

fn read_request(stream: &TcpStream) -> Option<Got> {
    let mut reader = BufReader::new(stream);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => headers.push(line.to_owned()),
        }
    }
    let length = headers.iter().find_map(|h| h.to_lowercase().strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Got { at: Instant::now(), headers, body: String::from_utf8(body).ok()? })
}

#[test]
fn a_webhook_that_fails_hangs_cuts_and_lies_gets_every_event_in_order_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "hush hush\n").unwrap();
    let script = [500, 503, 401, 302].map(Do::Answer).into_iter();
    let script = script.chain([Do::Hang, Do::Answer(200), Do::Cut, Do::Lie, Do::Later(1), Do::Answer(200), Do::Drip]);
    let (port, got) = receiver(script.collect());
    let sinks = start(dir.path());
    // Long enough for an answer from a busy machine: one that is late would be asked for once more.
    let timeout = Duration::from_secs(2);
    let to = Webhook { secret_file: Some(secret), timeout, ..webhook(port) };
    sinks.configure(&[sink("hook", Destination::Webhook(to))]);
    for n in 1..=3 {
        sinks.write(&news(n));
    }
    let mut all: Vec<Got> = Vec::new();
    while all.len() < 12 {
        all.push(got.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|e| panic!("{e}: {all:#?}")));
    }
    let numbers: Vec<u64> = all
        .iter()
        .map(|g| serde_json::from_str::<serde_json::Value>(&g.body).unwrap()["event"]["n"].as_u64().unwrap())
        .collect();
    // The first until it is taken, then the second, then the third; one that was cut off is sent again.
    assert_eq!(numbers, [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3][..], "{numbers:?}");
    let waited = all[9].at - all[8].at;
    assert!(waited >= Duration::from_millis(990), "Retry-After was not respected: {waited:?}");
    until("all is delivered", || state(&sinks, "hook").queued == 0);
    let s = state(&sinks, "hook");
    assert_eq!((s.delivered, s.retried, dropped(&s), s.failing), (3, 9, 0, false), "{s:?}");
    for g in &all {
        let seconds = g.header("x-weir-timestamp").unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"hush hush");
        let hex = g.header("x-weir-signature").unwrap().strip_prefix("v1=").unwrap();
        let tag: Vec<u8> = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
        ring::hmac::verify(&key, format!("{seconds}.{}", g.body).as_bytes(), &tag).unwrap();
        assert!(!format!("{g:?}").contains("hush"));
    }
    let deliveries =
        |r: std::ops::Range<usize>| all[r].iter().map(|g| g.header("x-weir-delivery").unwrap()).collect::<Vec<_>>();
    assert!(deliveries(0..6).windows(2).all(|w| w[0] == w[1]) && deliveries(5..7)[0] != deliveries(5..7)[1]);
    sinks.close();
}

#[test]
fn an_event_that_a_receiver_refuses_is_given_up_and_the_next_ones_come() {
    let dir = tempfile::tempdir().unwrap();
    let (port, got) = receiver(vec![Do::Answer(400), Do::Answer(200), Do::Answer(422)]);
    let sinks = start(dir.path());
    sinks.configure(&[sink("hook", Destination::Webhook(webhook(port)))]);
    (1..=4).for_each(|n| sinks.write(&news(n)));
    until("all is over", || state(&sinks, "hook").delivered == 2);
    let s = state(&sinks, "hook");
    assert_eq!((s.queued, dropped(&s), s.dropped[0].name.as_str()), (0, 2, "refused by the receiver"));
    assert_eq!(got.try_iter().count(), 4);
}

#[test]
fn what_a_receiver_says_back_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let (token, url) = (dir.path().join("token"), dir.path().join("url"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    fs::write(&token, "TOKEN-123").unwrap();
    fs::write(&url, format!("http://127.0.0.1:{port}/services/PATH-456")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let Some(got) = read_request(&stream) else { continue };
            let said = got.headers.join(" ");
            assert!(said.contains("TOKEN-123") && said.contains("PATH-456"));
            let _ = write!(&stream, "HTTP/1.1 500 X\r\nContent-Length: {}\r\n\r\n{said}", said.len());
        }
    });
    let sinks = start(dir.path());
    let to = Webhook { url: Address::File(url), token_file: Some(token), ..webhook(port) };
    let config = sink("hook", Destination::Webhook(to));
    sinks.configure(std::slice::from_ref(&config));
    sinks.write(&news(1));
    until("it failed", || state(&sinks, "hook").failing);
    let shown = format!("{:?} {:?} {:?}", state(&sinks, "hook"), sinks.warnings(), test_of(&sinks, "hook"));
    assert!(shown.contains("500") && shown.contains("[secret]"), "{shown}");
    assert!(!shown.contains("TOKEN-123") && !shown.contains("PATH-456"), "{shown}");
}

#[test]
fn dead_slow_and_lying_sinks_cost_the_one_who_writes_nothing_and_each_other_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Accepts and never reads.
    let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
    let (hanging, _got) = receiver(vec![Do::Hang; 1000]);
    let good = dir.path().join("good.json");
    let sinks = start(dir.path());
    sinks.configure(&[
        sink("dead", Destination::Webhook(webhook(closed_port()))),
        sink("hanging", Destination::Webhook(webhook(hanging))),
        sink("stuck", tcp(stuck.local_addr().unwrap().port())),
        sink("full", file(Path::new("/dev/full"))),
        sink("journal", Destination::Journald(dir.path().join("no-socket"))),
        sink("good", file(&good)),
    ]);
    until("all are there", || sinks.states().snapshot().len() == 6);
    const N: u64 = 20_000;
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    for n in 0..N {
        let event = news(n);
        let begun = Instant::now();
        sinks.write(&event);
        slowest = slowest.max(begun.elapsed());
        if n % 1000 == 999 {
            // 1,000 events in an epoch, and the next one.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let all = begun.elapsed();
    println!("{N} events in {all:?}; the slowest call took {slowest:?}");
    assert!(slowest < Duration::from_millis(100), "a call took {slowest:?}");
    until("the good one has all", || state(&sinks, "good").delivered == N);
    assert_eq!(fs::read_to_string(&good).unwrap().lines().count() as u64, N);
    for name in ["dead", "hanging", "full", "journal"] {
        let s = state(&sinks, name);
        assert_eq!((s.delivered, s.queued + dropped(&s)), (0, N), "{s:?}");
        assert!(s.queued_bytes <= s.queue_size);
    }
    let before = Instant::now();
    sinks.close();
    assert!(before.elapsed() < Duration::from_secs(3), "what is dead holds up no end");
}

#[test]
fn what_was_queued_for_a_dead_sink_is_bounded_outlives_the_agent_and_comes_when_it_lives() {
    let dir = tempfile::tempdir().unwrap();
    let (held, port) = held_port();
    let mut config = sink("collector", tcp(port));
    config.queue_size = 100_000;
    let sinks = start(dir.path());
    sinks.configure(std::slice::from_ref(&config));
    (0..5000).for_each(|n| sinks.write(&news(n)));
    until("all is taken", || {
        let s = state(&sinks, "collector");
        s.queued + dropped(&s) == 5000
    });
    let before = state(&sinks, "collector");
    assert!(before.queued > 100 && before.queued_bytes <= 100_000, "{before:?}");
    let on_disk: u64 =
        fs::read_dir(dir.path().join("sinks/collector")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk <= 100_000 + 12);
    // No farewell.
    std::mem::forget(sinks);
    drop(held);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let sinks = start(&dir.path().join("again"));
    fs::create_dir_all(dir.path().join("again/sinks")).unwrap();
    copy(&dir.path().join("sinks/collector"), &dir.path().join("again/sinks/collector"));
    sinks.configure(&[config]);
    let lines = frames(listener.accept().unwrap().0, before.queued as usize);
    assert!(
        lines.last().unwrap().contains("news 4999") && lines[0].contains(&format!("news {}", 5000 - before.queued))
    );
    until("all is delivered", || state(&sinks, "collector").delivered == before.queued);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Messages with octet counting.
fn frames(stream: TcpStream, n: usize) -> Vec<String> {
    let mut reader = BufReader::new(stream);
    let mut all = Vec::new();
    while all.len() < n {
        let mut length = Vec::new();
        reader.read_until(b' ', &mut length).unwrap();
        let length: usize = std::str::from_utf8(&length).unwrap().trim().parse().unwrap();
        let mut frame = vec![0; length];
        reader.read_exact(&mut frame).unwrap();
        all.push(String::from_utf8(frame).unwrap());
    }
    all
}

#[test]
fn a_receiver_that_goes_and_comes_back_gets_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sinks = start(dir.path());
    sinks.configure(&[sink("collector", tcp(listener.local_addr().unwrap().port()))]);
    let mut seen = Vec::new();
    for round in 0..5 {
        (0..10).for_each(|n| sinks.write(&news(round * 10 + n)));
        let stream = listener.accept().unwrap().0;
        until("all of the round is there", || state(&sinks, "collector").delivered >= (round + 1) * 10);
        seen.extend(frames(stream.try_clone().unwrap(), 10));
        drop(stream);
    }
    for n in 0..50 {
        assert!(seen.iter().any(|f| f.contains(&format!("news {n}\""))), "{n} is missing");
    }
}

#[test]
fn a_reload_changes_adds_and_removes_sinks_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.json"), dir.path().join("two.json"));
    let sinks = start(dir.path());
    let dead = sink("a", tcp(closed_port()));
    sinks.configure(std::slice::from_ref(&dead));
    (0..10).for_each(|n| sinks.write(&news(n)));
    until("it fails", || state(&sinks, "a").failing && state(&sinks, "a").queued == 10);
    // The same name, elsewhere: what waits goes there.
    sinks.configure(&[sink("a", file(&one)), sink("b", file(&two))]);
    (10..20).for_each(|n| sinks.write(&news(n)));
    let lines = |p: &Path| fs::read_to_string(p).unwrap_or_default().lines().count();
    until("both have what is theirs", || (lines(&one), lines(&two)) == (20, 10));
    // What was written and not yet taken out of the queue would come again.
    until("it is done with", || ["a", "b"].iter().all(|name| state(&sinks, name).queued == 0));
    // Away, and back: what waited is still there.
    sinks.configure(&[sink("b", tcp(closed_port()))]);
    sinks.write(&news(20));
    // What was at work still may have taken it.
    until("it waits or is there", || state(&sinks, "b").queued == 1 || lines(&two) >= 11);
    sinks.configure(&[]);
    sinks.write(&news(21));
    sinks.configure(&[sink("b", file(&two))]);
    until("it came", || lines(&two) >= 11 && state(&sinks, "b").queued == 0);
    let got: std::collections::BTreeSet<String> =
        fs::read_to_string(&two).unwrap().lines().map(str::to_owned).collect();
    assert_eq!((lines(&one), got.len()), (20, 11), "nothing is lost, and what nobody wanted did not come: {got:?}");
    sinks.close();
}

#[test]
fn a_test_says_what_came_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eve.json");
    let (port, got) = receiver(vec![Do::Answer(422), Do::Later(60)]);
    let sinks = start(dir.path());
    let mut quiet = sink("file", file(&path));
    // A test comes through whatever is configured.
    (quiet.kinds, quiet.min_severity) = (vec![Kind::Alert], Severity::High);
    sinks.configure(&[quiet, sink("hook", Destination::Webhook(webhook(port))), sink("dead", tcp(closed_port()))]);
    assert!(test_of(&sinks, "file").unwrap() < Duration::from_secs(5));
    assert!(fs::read_to_string(&path).unwrap().contains("\"kind\":\"sink_test\""));
    let refused = test_of(&sinks, "hook").unwrap_err();
    assert!(refused.contains("it answers 422"), "{refused}");
    let later = test_of(&sinks, "hook").unwrap_err();
    assert!(later.contains("it answers 429") && later.contains("tried again"), "{later}");
    let asked = test_of(&sinks, "hook").unwrap_err();
    assert!(asked.contains("asked to be left alone"), "{asked}");
    assert_eq!(got.try_iter().count(), 2, "it was left alone");
    for _ in 0..3 {
        let refused = test_of(&sinks, "dead").unwrap_err();
        assert!(refused.contains("refused") && refused.contains("waits in the queue"), "{refused}");
    }
    assert_eq!(state(&sinks, "dead").queued, 3);
    assert!(test_of(&sinks, "nobody").unwrap_err().contains("there are file, hook, dead"));
}

#[test]
fn the_journal_gets_its_fields_and_large_events_as_a_sealed_file() {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    use std::os::fd::{AsRawFd, FromRawFd};
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("journal");
    let server = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let sinks = start(dir.path());
    sinks.configure(&[sink("journal", Destination::Journald(socket))]);
    let large = "x".repeat(300_000);
    for message in ["small\nWEIR_KIND=forged", &large] {
        let message = message.to_owned();
        sinks.write(&Arc::new(Event::Agent { time_us: 1, level: Level::Error, kind: "test", message }));
    }
    let mut entries = Vec::new();
    let mut files = 0;
    for _ in 0..2 {
        let mut buffer = vec![0; 1 << 20];
        let mut space = nix::cmsg_space!(std::os::fd::RawFd);
        let mut iov = [std::io::IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<()>(server.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::empty()).unwrap();
        let mut file = None;
        for c in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(fds) = c {
                // SAFETY: the descriptor was just received and is nobody else's.
                file = fds.first().map(|fd| unsafe { fs::File::from_raw_fd(*fd) });
            }
        }
        let n = message.bytes;
        entries.push(match file {
            None => buffer[..n].to_vec(),
            Some(file) => {
                files += 1;
                assert_eq!(n, 0);
                let seals = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GET_SEALS).unwrap();
                assert_eq!(seals & 0xf, 0xf, "nobody can change it");
                let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
                std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
                bytes
            }
        });
    }
    assert_eq!(files, 1);
    // As the journal reads them: `NAME=value` to the end of the line, or a name alone, a length and so many bytes.
    let fields = |entry: &[u8], wanted: &str| {
        let (mut rest, mut found) = (entry, Vec::new());
        while !rest.is_empty() {
            let end = rest.iter().position(|b| *b == b'\n').unwrap();
            let line = std::str::from_utf8(&rest[..end]).unwrap();
            rest = &rest[end + 1..];
            let (name, value) = match line.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => {
                    let (length, behind) = rest.split_at(8);
                    let (value, behind) = behind.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
                    rest = behind.strip_prefix(b"\n").unwrap();
                    (line, String::from_utf8(value.to_vec()).unwrap())
                }
            };
            if name == wanted {
                found.push(value);
            }
        }
        found
    };
    for entry in &entries {
        assert_eq!(fields(entry, "WEIR_KIND"), ["agent"], "nothing forges a field");
        assert_eq!(
            (fields(entry, "PRIORITY"), fields(entry, "SYSLOG_IDENTIFIER")),
            (vec!["3".into()], vec!["weir".into()])
        );
    }
    let event: serde_json::Value = serde_json::from_str(&fields(&entries[1], "WEIR_EVENT")[0]).unwrap();
    assert_eq!(event["message"], large);
    until("both are counted", || state(&sinks, "journal").delivered == 2);
}

#[test]
fn templates_are_what_their_receivers_take_and_texts_are_no_markup() {
    use super::notice::{Head, Notice};
    use super::outlet::{Numbered, template};
    let hostile = "<!channel> [x](http://evil) *b* & \"q\" \u{7}";
    let head = Head {
        time_us: 1_700_000_000_000_000,
        kind: Kind::Alert,
        severity: Severity::High,
        source: "192.0.2.1".into(),
        reason: "distinct_ports".into(),
        repeated: 0,
    };
    let n = Numbered {
        number: 7,
        notice: Notice { head, line: hostile.into(), event: "{\"event_type\":\"alert\"}".into() },
    };
    let origin = Origin { host: "gate1".into(), interface: None };
    let body = |t| template::body(t, std::slice::from_ref(&n), "hook", &origin, "KEY");
    let generic = body(Template::Json);
    assert_eq!(
        (generic["kind"].as_str(), generic["severity"].as_str(), generic["number"].as_u64()),
        (Some("alert"), Some("high"), Some(7))
    );
    assert_eq!((generic["event"]["event_type"].as_str(), generic["text"].as_str()), (Some("alert"), Some(hostile)));
    let slack = body(Template::Slack);
    assert!(slack["text"].as_str().unwrap().contains("&lt;!channel&gt;"));
    for block in slack["blocks"].as_array().unwrap() {
        assert_eq!(block["text"]["type"], "plain_text");
    }
    let teams = body(Template::Teams);
    let card = &teams["attachments"][0]["content"];
    assert_eq!(
        (card["type"].as_str(), card["body"][1]["inlines"][0]["text"].as_str()),
        (Some("AdaptiveCard"), Some(hostile))
    );
    assert!(card["body"].as_array().unwrap().iter().all(|b| b["type"] == "RichTextBlock"));
    let duty = body(Template::PagerDuty);
    assert_eq!((duty["routing_key"].as_str(), duty["event_action"].as_str()), (Some("KEY"), Some("trigger")));
    assert_eq!(duty["dedup_key"], "weir/gate1/alert/192.0.2.1/distinct_ports");
    assert_eq!(
        (duty["payload"]["severity"].as_str(), duty["payload"]["source"].as_str()),
        (Some("critical"), Some("gate1"))
    );
    let manager = body(Template::Alertmanager);
    let alert = &manager[0];
    assert_eq!(
        (alert["labels"]["alertname"].as_str(), alert["labels"]["severity"].as_str()),
        (Some("Weir_alert"), Some("high"))
    );
    assert_eq!(alert["startsAt"], "2023-11-14T22:13:20.000000Z");
    // Labels are what makes an alert the same one: nothing that differs each time.
    assert_eq!(alert["labels"].as_object().unwrap().len(), 6);
}
