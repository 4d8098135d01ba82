//! The binary as people run it: against an agent whose event loop is a small task, and without any agent.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output, Stdio};
use std::sync::Arc;

use weir_agent::api::{ControlSocket, serve};
use weir_agent::bus::EventBus;
use weir_agent::command::{
    AllowReport, BundleReport, Command, CommandError, DecisionReport, LearnReport, ListsCommand, ReloadReport,
    StatusReport, queue,
};
use weir_agent::sink::Render;
use weir_core::decision::{Decision, Origin};
use weir_core::event::{Event, Level, Mode};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

struct Plain;
impl Render for Plain {
    fn json(&self, event: &Event) -> String {
        match event {
            Event::Agent { time_us, .. } => format!("{{\"n\":{time_us}}}"),
            _ => "{}".into(),
        }
    }
    fn line(&self, event: &Event) -> String {
        match event {
            Event::Agent { time_us, .. } => format!("news {time_us}\x1b[2J"),
            _ => String::new(),
        }
    }
}

/// Serves until the test ends.
struct Agent {
    dir: tempfile::TempDir,
    bus: EventBus,
    _runtime: tokio::runtime::Runtime,
}

impl Agent {
    fn start() -> Agent {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let bus = EventBus::new(64);
        let _context = runtime.enter();
        let socket = ControlSocket::bind(&dir.path().join("weir.sock"), None).unwrap();
        let (commands, mut waiting) = queue();
        runtime.spawn(serve(socket, commands, bus.clone(), Arc::new(Plain), std::future::pending()));
        runtime.spawn(async move {
            let mut state = Loop::default();
            while let Some(command) = waiting.recv().await {
                state.answer(command);
            }
        });
        drop(_context);
        Agent { dir, bus, _runtime: runtime }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("weir.sock")
    }

    fn weir(&self, args: &str) -> Output {
        weir(&self.socket(), args)
    }

    /// What it prints where all is well.
    fn ok(&self, args: &str) -> String {
        let out = self.weir(args);
        assert!(out.status.success(), "weir {args}: {}", text(&out.stderr));
        text(&out.stdout)
    }
}

fn weir(socket: &Path, args: &str) -> Output {
    Process::new(WEIR).arg("--socket").arg(socket).args(args.split_whitespace()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Just enough of an event loop.
#[derive(Default)]
struct Loop {
    decisions: Vec<Decision>,
    learning: Option<LearnReport>,
    asked: u32,
}

fn bundle(id: &str) -> BundleReport {
    BundleReport {
        id: id.into(),
        promoted: false,
        origin: "learned here".into(),
        created_us: 0,
        flows: 1,
        windows: 1,
        profiles: vec!["full".into()],
        current: true,
        hash: "0123456789ab".into(),
        bytes: 1,
        challenger: false,
        steps_back: Some(0),
        since_us: None,
    }
}

impl Loop {
    fn answer(&mut self, command: Command) {
        match command {
            Command::Status { reply } => {
                // Learning ends when somebody has asked for the second time.
                self.asked += u32::from(self.learning.is_some());
                let done = self.asked > 1;
                drop(reply.send(Ok(StatusReport {
                    version: "0".into(),
                    interface: "veth0".into(),
                    ifindex: 9,
                    mode_configured: Mode::Shadow,
                    mode_effective: Mode::Shadow,
                    mode_reason: String::new(),
                    xdp_mode: None,
                    xdp_cause: String::new(),
                    uptime_us: 0,
                    bundle: Some(bundle(if done { "new" } else { "old" })),
                    learning: self.learning.clone().filter(|_| !done),
                    flows_live: 0,
                    flows_last_epoch: 0,
                    epochs: 0,
                    drain_last_us: 0,
                    drain_max_us: 0,
                    lost: Vec::new(),
                    counters: Vec::new(),
                    decisions: Vec::new(),
                    maps: Vec::new(),
                    warnings: Vec::new(),
                    netflow: None,
                    challenger: None,
                    record: None,
                    drifted: Vec::new(),
                    interfaces: Vec::new(),
                    seen_twice: weir_agent::command::Packets::default(),
                })));
            }
            Command::ListDecisions { reply } => {
                drop(reply.send(Ok(self.decisions.iter().cloned().map(report).collect())));
            }
            Command::AddDecision { new, reply } => {
                if new.target.prefix().contains("10.0.0.1".parse().unwrap()) {
                    let words = "10.0.0.1 is the gateway".to_owned();
                    return drop(reply.send(Err(CommandError::Refused(words))));
                }
                let d = Decision {
                    limit: None,
                    id: self.decisions.len() as u64 + 1,
                    target: new.target,
                    action: new.action,
                    sides: new.sides,
                    origin: Origin::Manual,
                    created_us: 0,
                    expires_us: new.lifetime.map(|l| weir_agent::clock::wall_us() + l.as_micros() as u64),
                    reason: new.reason_with_caller(),
                    instead_of: None,
                    alert_id: None,
                };
                self.decisions.push(d.clone());
                drop(reply.send(Ok(report(d))));
            }
            Command::AllowCheck { prefix, reply } => {
                let by = AllowReport {
                    prefix,
                    comment: String::new(),
                    origin: "gateway of veth0".into(),
                    removable: false,
                    expires_us: None,
                };
                drop(reply.send(Ok(vec![by])));
            }
            Command::Learn { duration, min_flows, reply, .. } => {
                let l = LearnReport {
                    started_us: 0,
                    duration_us: duration.map_or(1, |d| d.as_micros() as u64),
                    elapsed_us: 0,
                    flows: 0,
                    min_flows: min_flows.unwrap_or(2000),
                    windows: 0,
                    min_windows: 0,
                    phase: "collecting".into(),
                    from: "live traffic".into(),
                };
                self.learning = Some(l.clone());
                drop(reply.send(Ok(l)));
            }
            Command::Lists(ListsCommand::List { reply }) => drop(reply.send(Ok(Vec::new()))),
            Command::ReloadConfig { reply, .. } => drop(reply.send(Ok(ReloadReport::default()))),
            other => panic!("{other:?}"),
        }
    }
}

fn report(decision: Decision) -> DecisionReport {
    DecisionReport {
        decision,
        enforced: true,
        awaiting_confirmation: false,
        packets: 0,
        bytes: 0,
        last_hit_us: None,
        note: String::new(),
        course: None,
    }
}

#[test]
fn decisions_are_added_listed_and_refused() {
    let agent = Agent::start();
    assert_eq!(agent.ok("decisions list"), "no decisions\n");
    assert_eq!(agent.ok("decisions list -o json"), "");
    let added = agent.ok("decisions add 192.0.2.7/tcp/22 --for 4h --reason scans");
    assert!(added.starts_with("decision 1: drop 192.0.2.7/tcp/22, expires in "), "{added}");
    agent.ok("decisions add 192.0.2.8 --action shadow --for ever");
    let list = agent.ok("decisions list");
    assert!(list.lines().nth(1).unwrap().contains("scans, by uid "), "{list}");
    let json: Vec<serde_json::Value> =
        agent.ok("decisions list -o json").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((json[1]["target"].as_str(), json[1]["action"].as_str()), (Some("192.0.2.8"), Some("shadow")));
    assert!(json[1]["expires"].is_null());

    let refused = agent.weir("decisions add 10.0.0.0/8");
    assert_eq!((refused.status.code(), text(&refused.stderr).as_str()), (Some(1), "error: 10.0.0.1 is the gateway\n"));
    let wrong = agent.weir("decisions add 10.0.0.300");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("is no target"), "{}", text(&wrong.stderr));
}

#[test]
fn other_commands_print_for_people_and_programs() {
    let agent = Agent::start();
    assert!(agent.ok("status").starts_with("weir 0 on veth0 (ifindex 9), up 0s\n  mode       shadow\n"));
    let status: serde_json::Value = serde_json::from_str(&agent.ok("status -o json")).unwrap();
    assert_eq!((status["mode_effective"].as_str(), status["bundle"]["id"].as_str()), (Some("shadow"), Some("old")));
    assert_eq!(agent.ok("allowlist check 10.0.0.1"), "10.0.0.1 is protected by 10.0.0.1 (gateway of veth0)\n");
    assert_eq!(agent.ok("config reload"), "nothing has changed\n");
    assert_eq!(
        agent.ok("learn --duration 90s --min-flows 5k"),
        "learning for 1m30s and until 5,000 flows were seen; `weir status` shows the progress\n"
    );
}

#[test]
fn learning_can_be_waited_for() {
    let agent = Agent::start();
    assert_eq!(agent.ok("learn --wait"), "new serves now; `weir model promote` lets it lead to drops\n");
}

#[test]
fn events_are_followed_and_a_closed_pipe_is_no_error() {
    let agent = Agent::start();
    let mut child = Process::new(WEIR)
        .args(["watch", "--kind", "agent", "--socket"])
        .arg(agent.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while agent.bus.subscribers() == 0 {
        assert_eq!(child.try_wait().unwrap(), None, "it ended before anything was published");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let news = |n| Event::Agent { time_us: n, level: Level::Info, kind: "test", message: String::new() };
    agent.bus.publish(news(1));
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "news 1\u{fffd}[2J\n", "the terminal is not steered by events");
    // The reader goes away, as `head` does.
    drop(lines);
    // More than once: a process that another test is just starting may still hold the other end.
    let ended = (2..2000).find_map(|n| {
        agent.bus.publish(news(n));
        std::thread::sleep(std::time::Duration::from_millis(5));
        child.try_wait().unwrap()
    });
    let _ = child.kill();
    assert_eq!(ended.expect("it goes on although nobody reads").code(), Some(0));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
}

#[test]
fn without_an_agent_the_message_says_what_starts_one() {
    let out = weir(Path::new("/nowhere/weir.sock"), "status");
    assert_eq!(out.status.code(), Some(1));
    let words = text(&out.stderr);
    assert!(words.contains("/nowhere/weir.sock") && words.contains("weir run -i INTERFACE"), "{words}");
}

#[test]
fn a_configuration_is_checked_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weir.yaml");
    std::fs::write(&file, "mode: block\npolicy:\n  drop_ttl: 4\nhom: []\n").unwrap();
    let name = file.display();
    let out = weir(&dir.path().join("s"), &format!("config check {name}"));
    assert_eq!(out.status.code(), Some(2));
    let words = text(&out.stderr);
    let places: Vec<_> = words.lines().map(|l| l.split(": ").take(2).collect::<Vec<_>>().join(": ")).collect();
    assert_eq!(
        places,
        [format!("{name}:1:7: mode"), format!("{name}:3:13: policy.drop_ttl"), format!("{name}:4:1: hom")]
    );

    // A run with the same file ends the same way.
    let run = weir(&dir.path().join("s"), &format!("run -i lo --config {name}"));
    assert_eq!((run.status.code(), text(&run.stderr)), (Some(2), words));

    std::fs::write(&file, "mode: enforce\n").unwrap();
    let out = weir(&dir.path().join("s"), &format!("config check {name}"));
    assert!(out.status.success() && text(&out.stdout).contains("fine; differs from the defaults in mode\n"));
    let shown = text(&weir(&dir.path().join("s"), &format!("config show {name}")).stdout);
    assert!(shown.contains("\nmode: enforce\n"), "{shown}");
    std::fs::write(&file, shown).unwrap();
    assert!(weir(&dir.path().join("s"), &format!("config check {name}")).status.success());

    let out = weir(&dir.path().join("s"), "config check /nowhere.yaml");
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("cannot read the configuration /nowhere.yaml"));
    let out = weir(&dir.path().join("s"), &format!("run --config {name}"));
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("weir run -i INTERFACE"), "{}", text(&out.stderr));
}

#[test]
fn completions_know_the_commands() {
    let out = weir(Path::new("/s"), "completions bash");
    assert!(out.status.success() && text(&out.stdout).contains("allowlist"));
}

/// Without an agent, and with a home of its own.
fn at_home(home: &Path, args: &str) -> Output {
    let mut command = Process::new(WEIR);
    command.env_remove("WEIR_SOCKET").env_remove("WEIR_CONTEXT").env("XDG_CONFIG_HOME", home);
    command.args(args.split_whitespace()).output().unwrap()
}

#[test]
fn certificates_are_made_for_each_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("tls");
    let run = |args: &str| at_home(dir.path(), &args.replace("DIR", tls.to_str().unwrap()));
    let out = run("tls init --dir DIR --name sensor.example --name 192.0.2.1");
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("client_ca: ") && text(&out.stdout).contains("sensor.example, 192.0.2.1"));
    let out = run("tls client alice --role viewer --dir DIR");
    assert!(text(&out.stdout).contains("made a certificate for alice, viewer"), "{}", text(&out.stderr));
    let before: Vec<_> =
        ["ca", "server", "alice"].map(|n| std::fs::read(tls.join(n).with_extension("key")).unwrap()).into();
    for name in ["ca.key", "server.key", "alice.key"] {
        let mode = std::fs::metadata(tls.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    for (args, words) in [
        ("tls init --dir DIR", "ca.pem is there already, and nothing is overwritten"),
        ("tls client alice --role operator --dir DIR", "alice.pem is there already"),
        ("tls server --dir DIR", "server.pem is there already"),
        ("tls client bob --role viewer --dir DIR/none", "no authority in "),
    ] {
        let out = run(args);
        assert_eq!(out.status.code(), Some(1), "{args}");
        assert!(text(&out.stderr).contains(words), "{args}: {}", text(&out.stderr));
    }
    let out = run("tls client ../x --role viewer --dir DIR");
    assert_eq!((out.status.code(), text(&out.stderr).contains("is no name for a certificate")), (Some(2), true));
    let after: Vec<_> =
        ["ca", "server", "alice"].map(|n| std::fs::read(tls.join(n).with_extension("key")).unwrap()).into();
    assert_eq!(before, after);
    // A key of another authority signs nothing.
    assert!(run("tls init --dir DIR/other").status.success());
    std::fs::copy(tls.join("other/ca.key"), tls.join("ca.key")).unwrap();
    let out = run("tls client carol --role viewer --dir DIR");
    assert!(text(&out.stderr).contains("does not fit its key"), "{}", text(&out.stderr));
    assert!(!tls.join("carol.pem").exists());
}

#[test]
fn agents_are_known_by_a_name() {
    let agent = Agent::start();
    let home = agent.dir.path().join("home");
    let socket = agent.socket();
    let run = |args: &str| at_home(&home, args);
    let out = run(&format!("context add here --socket {} --use", socket.display()));
    assert!(out.status.success(), "{}", text(&out.stderr));
    let out = run("context add far --host sensor.example:9000 --cert a.pem --key a.key --ca ca.pem");
    assert_eq!(text(&out.stdout), "far is known now; `weir --context far ...` or `weir context use far`\n");
    let listed = text(&run("context list").stdout);
    assert!(listed.lines().any(|l| l.starts_with("*  here")) && listed.contains("sensor.example:9000"), "{listed}");
    // The one in use is asked, and another by its name.
    assert!(text(&run("status").stdout).contains("eth0"));
    let out = run("--context nowhere status");
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("there is no context `nowhere`; there are far, here"), "{}", text(&out.stderr));
    for (args, words) in [
        ("status --host x", "--cert, --key, --ca is missing"),
        ("status --cert x", "add --host HOST"),
        ("flows x.pcap --context here", "works on this host alone"),
        ("watch --watch", "--watch is for status and for lists"),
    ] {
        let out = run(args);
        assert_eq!(out.status.code(), Some(2), "{args}");
        assert!(text(&out.stderr).contains(words), "{args}: {}", text(&out.stderr));
    }
    assert!(run("context remove here").status.success());
    assert!(!text(&run("context list").stdout).contains("here"));
}

#[test]
fn the_status_is_shown_again_and_again() {
    let agent = Agent::start();
    let mut child = Process::new(WEIR)
        .arg("--socket")
        .arg(agent.socket())
        .args(["status", "--watch=100ms"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let heads: Vec<_> = lines.filter(|l| l.starts_with("weir 0 on veth0")).take(3).collect();
    assert_eq!(heads.len(), 3, "it repeats, without steering a terminal that is none: {heads:?}");
    assert!(!heads.iter().any(|h| h.contains('\x1b')));
    child.kill().unwrap();
    child.wait().unwrap();
}
