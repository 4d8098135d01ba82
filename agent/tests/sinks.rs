//! Sinks of a running agent, against receivers that others wrote: rsyslog and librdkafka's broker; and kills.
//! The agent collects NetFlow and has no interface, so none of this needs root.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const WEIR: &str = env!("CARGO_BIN_EXE_weir");
const PATIENCE: Duration = Duration::from_secs(60);

fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(t) = attempt() {
            return t;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Agent {
    dir: PathBuf,
    netflow: u16,
    process: Option<Process>,
}

impl Agent {
    /// `config`: what stands in the file beside where things are.
    fn start(dir: &Path, config: &str) -> Self {
        let mut agent = Self { dir: dir.to_owned(), netflow: free_port(), process: None };
        agent.configure(config);
        agent.run();
        agent
    }

    fn configure(&self, config: &str) {
        let dir = self.dir.display();
        let text = format!(
            "state_dir: {dir}/state\nsocket: {dir}/weir.sock\nnetflow: {{listen: 127.0.0.1:{}}}\n\
             default_model: off\nrecord: {{enabled: false}}\n{config}\n",
            self.netflow
        );
        fs::write(self.dir.join("weir.yaml"), text).unwrap();
    }

    fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = Command::new(WEIR);
        command.arg("run").arg("-c").arg(self.dir.join("weir.yaml"));
        let command = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(Process(command.spawn().unwrap()));
        wait_for("the agent to answer", || self.try_ask("status"));
    }

    fn kill(&mut self) {
        // SIGKILL, and then it is gone.
        self.process = None;
    }

    fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(process.0.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(process.0.wait().unwrap().success(), "{}", self.log());
    }

    fn command(&self, words: &str) -> std::process::Output {
        let mut command = Command::new(WEIR);
        command.arg("--socket").arg(self.dir.join("weir.sock")).args(words.split(' ')).args(["-o", "json"]);
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn try_ask(&self, words: &str) -> Option<Vec<Value>> {
        let out = self.command(words);
        let lines = String::from_utf8_lossy(&out.stdout).into_owned();
        out.status.success().then(|| lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect())
    }

    fn ask(&self, words: &str) -> Vec<Value> {
        self.try_ask(words).unwrap_or_else(|| {
            panic!("{words}: {}\n{}", String::from_utf8_lossy(&self.command(words).stderr), self.log())
        })
    }

    fn sink(&self, name: &str) -> Value {
        let all = self.ask("sinks list");
        all.into_iter().find(|s| s["name"] == name).unwrap_or_else(|| panic!("no sink {name}"))
    }

    /// Sends a test event, which must be delivered.
    fn test(&self, name: &str) {
        let out = self.command(&format!("sinks test {name}"));
        assert!(out.status.success(), "{name}: {}\n{}", String::from_utf8_lossy(&out.stdout), self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

/// rsyslog as a process of its own on loopback, which writes what it understood as lines of JSON.
struct Rsyslog {
    out: PathBuf,
    _process: Process,
}

impl Rsyslog {
    fn start(test: &str, dir: &Path, name: &str, inputs: &str) -> Option<Self> {
        if Command::new("rsyslogd").arg("-v").output().is_err() {
            eprintln!("SKIP {test}: rsyslogd is not installed (cargo xtask setup test)");
            return None;
        }
        let (out, conf) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.conf")));
        let fields = [
            ("pri", "pri"),
            ("version", "protocol-version"),
            ("time", "timereported\" dateFormat=\"rfc3339"),
            ("host", "hostname"),
            ("app", "app-name"),
            ("msgid", "msgid"),
            ("sd", "structured-data"),
            ("msg", "msg"),
        ];
        let mut template = String::from("template(name=\"json\" type=\"list\" option.jsonf=\"on\") {\n");
        for (key, property) in fields {
            template += &format!("  property(outname=\"{key}\" name=\"{property}\" format=\"jsonf\")\n");
        }
        template += "}\n";
        let text = format!(
            "global(workDirectory=\"{}\" maxMessageSize=\"256k\")\n{inputs}\n{template}\naction(type=\"omfile\" file=\"{}\" \
             template=\"json\")\n",
            dir.display(),
            out.display()
        );
        fs::write(&conf, text).unwrap();
        let errors = File::create(dir.join(format!("{name}.log"))).unwrap();
        let mut command = Command::new("rsyslogd");
        command.args(["-n", "-f"]).arg(&conf).arg("-i").arg(dir.join(format!("{name}.pid")));
        let child = command.stdin(Stdio::null()).stdout(errors.try_clone().unwrap()).stderr(errors).spawn().unwrap();
        Some(Self { out, _process: Process(child) })
    }

    fn messages(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.out).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }
}

#[test]
fn rsyslog_understands_what_comes_over_udp_tcp_and_tls() {
    let test = "rsyslog_understands_what_comes_over_udp_tcp_and_tls";
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let tls = dir.join("tls");
    let made = |args: &[&str]| {
        let out = Command::new(WEIR).arg("tls").args(args).arg("--dir").arg(&tls).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    made(&["init", "--name", "127.0.0.1"]);
    made(&["client", "logger", "--role", "viewer"]);
    let (udp, tcp, secure) =
        (UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(), free_port(), free_port());
    let plain = format!(
        "module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{udp}\")\nmodule(load=\"imtcp\")\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{tcp}\")"
    );
    let file = |name: &str| tls.join(name).display().to_string();
    let with_tls = format!(
        "global(DefaultNetstreamDriverCAFile=\"{}\" DefaultNetstreamDriverCertFile=\"{}\" DefaultNetstreamDriverKeyFile=\"{}\")\n\
         module(load=\"imtcp\" StreamDriver.Name=\"gtls\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"x509/certvalid\")\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{secure}\")",
        file("ca.pem"),
        file("server.pem"),
        file("server.key")
    );
    let Some(plain) = Rsyslog::start(test, dir, "plain", &plain) else { return };
    let Some(with_tls) = Rsyslog::start(test, dir, "tls", &with_tls) else { return };
    wait_for("rsyslog to listen", || std::net::TcpStream::connect(("127.0.0.1", tcp)).ok());
    wait_for("rsyslog to listen for TLS", || std::net::TcpStream::connect(("127.0.0.1", secure)).ok());
    let agent = Agent::start(
        dir,
        &format!(
            "sinks:\n\
             - {{name: udp, type: syslog, server: 127.0.0.1:{udp}, kinds: [alert]}}\n\
             - {{name: tcp, type: syslog, server: 127.0.0.1:{tcp}, transport: tcp, content: line, kinds: [alert]}}\n\
             - {{name: cef, type: cef, server: 127.0.0.1:{tcp}, transport: tcp, facility: daemon, kinds: [alert]}}\n\
             - {{name: tls, type: syslog, server: 127.0.0.1:{secure}, transport: tls, ca_file: {ca}, cert: {cert}, key: {key}, kinds: [alert]}}\n\
             - {{name: stranger, type: syslog, server: 127.0.0.1:{secure}, transport: tls, ca_file: {ca}, kinds: [alert]}}\n",
            ca = file("ca.pem"),
            cert = file("logger.pem"),
            key = file("logger.key"),
        ),
    );
    for name in ["udp", "tcp", "cef", "tls"] {
        agent.test(name);
    }
    let all = wait_for("the messages", || Some(plain.messages()).filter(|m| m.len() == 3));
    let of = |words: &str| all.iter().find(|m| m["msg"].as_str().unwrap().contains(words)).unwrap();
    let (json, line, cef) = (of("\"event_type\":\"agent\""), of(" agent info sink_test: "), of("CEF:0|Weir|Weir|"));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for m in [json, line, cef] {
        assert_eq!(
            (m["version"].as_str(), m["app"].as_str(), m["msgid"].as_str()),
            (Some("1"), Some("weir"), Some("agent"))
        );
        assert_eq!(m["host"], host.trim());
        let sd = m["sd"].as_str().unwrap();
        assert!(sd.starts_with("[weir@32473 severity=\"low\" reason=\"sink_test: a test of the sink "), "{sd}");
    }
    let parsed: Value = serde_json::from_str(json["msg"].as_str().unwrap().trim()).unwrap();
    assert_eq!(parsed["agent"]["kind"], "sink_test");
    // local0 and daemon, both informational.
    assert_eq!((json["pri"].as_str(), cef["pri"].as_str()), (Some("134"), Some("30")));
    let secure = wait_for("the message over TLS", || with_tls.messages().pop());
    assert_eq!(secure["msgid"], "agent");
    // Who shows no certificate is refused, and that is not taken for delivered.
    let out = agent.command("sinks test stranger");
    assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stdout));
    assert_eq!(agent.sink("stranger")["delivered"], 0);
}

/// Messages with octet counting, for as long as the connection lasts.
fn frames(listener: TcpListener) -> std::sync::mpsc::Receiver<String> {
    let (to, messages) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            loop {
                let mut length = Vec::new();
                if reader.read_until(b' ', &mut length).unwrap_or(0) == 0 {
                    break;
                }
                let length: usize = std::str::from_utf8(&length).unwrap().trim().parse().unwrap();
                let mut frame = vec![0; length];
                if reader.read_exact(&mut frame).is_err() {
                    break;
                }
                if to.send(String::from_utf8(frame).unwrap()).is_err() {
                    return;
                }
            }
        }
    });
    messages
}

#[test]
fn what_was_queued_is_delivered_after_a_kill_and_a_torn_tail_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (held, port) = held_port();
    let config =
        format!("sinks: [{{name: collector, type: syslog, server: 127.0.0.1:{port}, transport: tcp, kinds: [alert]}}]");
    let mut agent = Agent::start(dir.path(), &config);
    for _ in 0..5 {
        let out = agent.command("sinks test collector");
        assert_eq!(out.status.code(), Some(1));
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(said.contains("efused") && said.contains("waits in the queue"), "{said}");
    }
    let s = agent.sink("collector");
    assert_eq!(
        (s["queued"].as_u64(), s["delivered"].as_u64(), s["state"].as_str()),
        (Some(5), Some(0), Some("failing"))
    );
    let status = agent.ask("status");
    assert!(status[0]["warnings"].to_string().contains("the sink collector does not deliver (5 wait)"), "{status:?}");
    agent.kill();
    // As if the kill had come in the middle of a write.
    let queue = dir.path().join("state/sinks/collector");
    let segment =
        fs::read_dir(&queue).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "queue"));
    File::options().append(true).open(segment.unwrap()).unwrap().write_all(b"\x40\0\0\0torn").unwrap();
    drop(held);
    let messages = frames(TcpListener::bind(("127.0.0.1", port)).unwrap());
    agent.run();
    for n in 0..5 {
        let m = messages.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{n}: {e}\n{}", agent.log()));
        assert!(m.contains("sink_test"), "{m}");
    }
    wait_for("the count", || (agent.sink("collector")["delivered"] == 5).then_some(()));
    assert!(agent.log().contains("8 bytes behind 5 whole records are torn; they are cut off"), "{}", agent.log());
    agent.test("collector");
    assert!(messages.recv_timeout(PATIENCE).is_ok() && messages.try_recv().is_err(), "each came once");
    agent.stop();
}

#[test]
fn a_reload_brings_sinks_and_a_hangup_opens_their_files_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (eve, cef) = (dir.path().join("eve.json"), dir.path().join("weir.cef"));
    let mut agent = Agent::start(dir.path(), "");
    assert!(agent.ask("sinks list").is_empty());
    let one = format!("sinks:\n- {{name: eve, type: eve, path: {}}}\n", eve.display());
    agent.configure(&format!("{one}- {{name: cef, type: cef, path: {}}}\n", cef.display()));
    agent.ask("config reload");
    assert_eq!(agent.ask("sinks list").len(), 2);
    agent.test("eve");
    agent.test("cef");
    let read = |p: &Path| fs::read_to_string(p).unwrap_or_default();
    assert!(read(&eve).contains("\"kind\":\"reloaded\"") && read(&eve).contains("sink_test"));
    assert!(read(&cef).lines().all(|l| l.starts_with("CEF:0|Weir|Weir|")) && read(&cef).contains("sink_test"));
    // Rotated by somebody else.
    fs::rename(&eve, dir.path().join("moved")).unwrap();
    let pid = nix::unistd::Pid::from_raw(agent.process.as_ref().unwrap().0.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    wait_for("the new file", || {
        agent.test("eve");
        eve.exists().then_some(())
    });
    agent.configure(&one);
    agent.ask("config reload");
    assert_eq!(agent.ask("sinks list").len(), 1);
    let out = agent.command("sinks test cef");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("no sink is called cef; there are eve"), "{said}");
    assert!(
        agent.ask("audit list").iter().any(|a| a["call"] == "sinks test" || a["action"] == "sinks test"),
        "{:?}",
        agent.ask("audit list")
    );
    agent.stop();
}

/// Flows of NetFlow v5, 30 a datagram.
fn send_flows(port: u16, stop: &std::sync::atomic::AtomicBool) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    let mut sent = 0u32;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        for _ in 0..4 {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            let uptime = 1_000_000_000u32;
            let mut d = vec![0, 5, 0, 30];
            for word in [uptime, now.as_secs() as u32, now.subsec_nanos(), sent, 0] {
                d.extend(word.to_be_bytes());
            }
            // Both directions: half a flow waits for the other half.
            for i in 0..30 {
                let n = sent + i / 2;
                let client = ([198, 51, (n >> 8) as u8, n as u8], (1024 + n % 60_000) as u16);
                let server = ([10, 0, 0, 1], 443);
                let (from, to) = if i % 2 == 0 { (client, server) } else { (server, client) };
                d.extend([from.0, to.0].concat());
                d.extend([0; 8]);
                d.extend([5u32, 500, uptime - 2000, uptime - 1000].iter().flat_map(|v| v.to_be_bytes()));
                d.extend([from.1, to.1].iter().flat_map(|v| v.to_be_bytes()));
                d.extend([0, 0x1b, 6, 0]);
                d.extend([0; 8]);
            }
            if socket.send(&d).is_ok() {
                sent += 30;
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    u64::from(sent)
}

#[test]
fn the_loop_keeps_its_pace_while_every_sink_is_dead() {
    // Accepts, and neither reads nor answers.
    let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
    let stuck_port = stuck.local_addr().unwrap().port();
    let (_held, dead) = held_port();
    let sinks = format!(
        "sinks:\n\
         - {{name: refused, type: syslog, server: 127.0.0.1:{dead}, transport: tcp, kinds: [flow], queue_size: 1M}}\n\
         - {{name: stuck, type: syslog, server: 127.0.0.1:{stuck_port}, transport: tcp, kinds: [flow], queue_size: 1M}}\n\
         - {{name: hook, type: webhook, url: 'http://127.0.0.1:{stuck_port}/', kinds: [flow], queue_size: 1M}}\n\
         - {{name: kafka, type: kafka, brokers: ['127.0.0.1:{stuck_port}'], topic: t, kinds: [flow], queue_size: 1M}}\n\
         - {{name: full, type: eve, path: /dev/full, max_size: 0, max_age: 0, kinds: [flow], queue_size: 1M, queue_full: drop_newest}}\n\
         - {{name: nowhere, type: syslog, server: 'no-such-host.invalid', kinds: [flow], queue_size: 1M}}\n"
    );
    let mut measured = Vec::new();
    for sinks in ["", &sinks] {
        let dir = tempfile::tempdir().unwrap();
        let base = "epoch: 100ms\nwindow: 10s\nlog: {flows: true, events: none}\n";
        let mut agent = Agent::start(dir.path(), &format!("{base}{sinks}"));
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|s| {
            let sender = s.spawn(|| send_flows(agent.netflow, &stop));
            std::thread::sleep(Duration::from_secs(1));
            let epochs = || agent.ask("status")[0]["epochs"].as_u64().unwrap();
            let (before, begun) = (epochs(), Instant::now());
            std::thread::sleep(Duration::from_secs(8));
            let pace = (epochs() - before) as f64 / begun.elapsed().as_secs_f64();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            let sent = sender.join().unwrap();
            println!("{} sinks: {pace:.2} epochs/s of 10, {sent} flows", if sinks.is_empty() { "no" } else { "dead" });
            measured.push(pace);
        });
        for s in agent.ask("sinks list") {
            let of = |k: &str| s[k].as_u64().unwrap();
            assert!(of("queued") > 100 && of("queued_bytes") <= 1_000_000, "{s}");
            // What the stuck one's kernel took before its buffers were full is all that syslog can tell.
            let most = if s["name"] == "stuck" { 2000 } else { 0 };
            assert!(of("delivered") <= most && of("dropped") > 1000, "{s}");
        }
        agent.stop();
    }
    assert!(measured[1] > 0.9 * measured[0], "{measured:?}");
}

/// librdkafka's broker, and a consumer that prints what it holds as lines of JSON. The first line says where it listens.
const BROKER: &str = r#"
import json, sys
from confluent_kafka import Consumer, TopicPartition
c = Consumer({"test.mock.num.brokers": 3, "bootstrap.servers": "", "group.id": "g", "check.crcs": True, "auto.offset.reset": "earliest"})
at = [f"{b.host}:{b.port}" for b in c.list_topics(timeout=20).brokers.values()]
print(json.dumps(at), flush=True)
topic = sys.stdin.readline().strip()
parts = c.list_topics(topic, timeout=20).topics[topic].partitions
c.assign([TopicPartition(topic, p, 0) for p in parts])
while True:
    m = c.poll(1.0)
    if m is None or m.error():
        continue
    print(json.dumps({"key": (m.key() or b"").decode(), "value": json.loads(m.value()), "kind": dict(m.headers())["kind"].decode()}), flush=True)
"#;

#[test]
fn the_broker_of_librdkafka_takes_what_is_sent_and_its_consumer_reads_it() {
    let test = "the_broker_of_librdkafka_takes_what_is_sent_and_its_consumer_reads_it";
    let python = std::env::var_os("WEIR_PYTHON")
        .map_or_else(|| Path::new(WEIR).ancestors().nth(2).unwrap().join("venv/bin/python"), PathBuf::from);
    let there = Command::new(&python).args(["-c", "import confluent_kafka"]).output().is_ok_and(|o| o.status.success());
    if !there {
        return eprintln!("SKIP {test}: {} has no confluent_kafka (cargo xtask setup test)", python.display());
    }
    let dir = tempfile::tempdir().unwrap();
    let errors = File::create(dir.path().join("broker.log")).unwrap();
    let mut command = Command::new(&python);
    let command = command.args(["-c", BROKER]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
    let mut broker = Process(command.spawn().unwrap());
    let mut lines = BufReader::new(broker.0.stdout.take().unwrap()).lines();
    let said = || fs::read_to_string(dir.path().join("broker.log")).unwrap();
    let at: Vec<String> = serde_json::from_str(&lines.next().unwrap_or_else(|| panic!("{}", said())).unwrap()).unwrap();
    let mut agent = Agent::start(
        dir.path(),
        &format!("sinks: [{{name: bus, type: kafka, brokers: [{}], topic: weir-events}}]", at.join(", ")),
    );
    for _ in 0..3 {
        agent.test("bus");
    }
    writeln!(broker.0.stdin.as_mut().unwrap(), "weir-events").unwrap();
    let mut tests = 0;
    while tests < 3 {
        let line: Value = serde_json::from_str(&lines.next().unwrap_or_else(|| panic!("{}", said())).unwrap()).unwrap();
        assert_eq!((line["kind"].as_str(), line["value"]["event_type"].as_str()), (Some("agent"), Some("agent")));
        tests += usize::from(line["value"]["agent"]["kind"] == "sink_test");
    }
    agent.stop();
}
