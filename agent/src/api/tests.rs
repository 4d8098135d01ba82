//! The server over a real socket, with a task in place of the event loop.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use weir_core::addr::Prefix;
use weir_core::decision::{Action, Decision, Origin, Sides, Target};
use weir_core::event::{Event, Level};

use super::client::{Client, ClientError};
use super::*;
use crate::command::*;
use crate::proto::watch_events_response::Item;
use crate::proto::{self as pb, EventKind, event};

struct Plain;
impl Render for Plain {
    fn json(&self, event: &Event) -> String {
        match event {
            Event::Agent { time_us, .. } => format!("{{\"n\":{time_us}}}"),
            _ => "{}".into(),
        }
    }
    fn line(&self, _: &Event) -> String {
        "line".into()
    }
}

struct Agent {
    _dir: tempfile::TempDir,
    path: PathBuf,
    bus: EventBus,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Agent {
    async fn client(&self) -> Client {
        Client::connect(&self.path).await.unwrap()
    }
    async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), self.server).await.expect("it stops").unwrap().unwrap();
        assert!(!self.path.exists(), "the socket is removed");
    }
}

/// A server whose commands `answer` handles, one after the other.
fn agent(mut answer: impl FnMut(Command) + Send + 'static) -> Agent {
    let (commands, mut waiting) = queue();
    tokio::spawn(async move {
        while let Some(command) = waiting.recv().await {
            answer(command);
        }
    });
    agent_with(commands)
}

fn agent_with(commands: mpsc::Sender<Command>) -> Agent {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/weir.sock");
    let socket = ControlSocket::bind(&path, None).unwrap();
    let bus = EventBus::new(8);
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(serve(socket, commands, bus.clone(), Arc::new(Plain), async {
        let _ = stopped.await;
    }));
    Agent { _dir: dir, path, bus, stop, server }
}

fn message(e: &ClientError) -> (tonic::Code, String) {
    let ClientError::Status(s) = e else { panic!("{e}") };
    (s.code(), s.message().to_owned())
}

fn decision(new: &NewDecision) -> Decision {
    Decision {
        limit: None,
        id: 7,
        target: new.target,
        action: new.action,
        sides: new.sides,
        origin: Origin::Manual,
        created_us: 1_000_000,
        expires_us: new.lifetime.map(|d| 1_000_000 + d.as_micros() as u64),
        reason: new.reason_with_caller(),
        instead_of: Some(Action::Drop),
        alert_id: None,
    }
}

pub(crate) fn full_status() -> StatusReport {
    StatusReport {
        version: "1.2.3".into(),
        interface: "eth0".into(),
        ifindex: 2,
        mode_configured: weir_core::event::Mode::Enforce,
        mode_effective: weir_core::event::Mode::Shadow,
        mode_reason: "no promoted bundle".into(),
        xdp_mode: Some(XdpMode::Generic),
        xdp_cause: "the driver has no native XDP".into(),
        uptime_us: 11_520_000_000,
        bundle: Some(BundleReport {
            id: "learned-1".into(),
            promoted: false,
            origin: "learned here".into(),
            created_us: 1_000_000,
            flows: 2500,
            windows: 300,
            profiles: vec!["full".into(), "source".into()],
            current: true,
            hash: "0123456789ab".into(),
            bytes: 1_234_567,
            challenger: false,
            steps_back: Some(0),
            since_us: Some(2_000_000),
        }),
        learning: Some(LearnReport {
            started_us: 5,
            duration_us: 86_400_000_000,
            elapsed_us: 720_000_000,
            flows: 1200,
            min_flows: 2000,
            windows: 40,
            min_windows: 200,
            phase: "collecting".into(),
            from: "live traffic".into(),
        }),
        flows_live: 1234,
        flows_last_epoch: 321,
        epochs: 11_520,
        drain_last_us: 8_240,
        drain_max_us: 12_000,
        lost: vec![
            NamedCount { name: "epoch_records".into(), count: 3 },
            NamedCount { name: "events".into(), count: 0 },
        ],
        counters: vec![
            Counter { name: "passed".into(), packets: 72_300_114, bytes: 9_000_000_000 },
            Counter { name: "dropped_block".into(), packets: 12, bytes: 720 },
        ],
        decisions: vec![DecisionCount { action: Action::Drop, origin: Origin::Automatic, count: 3 }],
        maps: vec![MapUse { name: "blocks".into(), entries: 3, max_entries: 1_000_000, bytes: 520_000_000 }],
        warnings: vec!["generic XDP: super-packets are counted as one".into()],
        netflow: Some(NetflowReport {
            listen: "127.0.0.1:2055".into(),
            allowed: vec!["192.0.2.1".into(), "198.51.100.0/24".into()],
            datagrams: 12_345,
            records: 300_000,
            flows: 150_000,
            unscored: 7,
            exporters: 2,
            templates: 5,
            unpaired: 1_200,
            waiting_bytes: 0,
            memory: 90_000,
            dropped: vec![NamedCount { name: "set of unknown kind".into(), count: 4 }],
        }),
        challenger: Some(ChallengerReport {
            id: "a1b2c3d4e5f6".into(),
            since_us: 3_000_000,
            flows: 12_345,
            epochs_left_out: 2,
            cpu_us: 1_500_000,
            differing_sources: 4,
            failed: String::new(),
        }),
        record: Some(RecordReport {
            enabled: true,
            dir: "/var/lib/weir/flows".into(),
            files: 12,
            bytes: 123_000_000,
            max_bytes: 1_000_000_000,
            max_age_us: 604_800_000_000,
            oldest_us: Some(7),
            newest_us: Some(3_600_000_007),
            flows: 1_500_000,
            windows: 90_000,
            lost: 3,
            failing: "no room".into(),
        }),
        drifted: vec!["tcp/in/web (core)".into()],
    }
}

fn alert() -> AlertReport {
    AlertReport {
        id: 3,
        time_us: 5,
        source: "2001:db8::7".parse().unwrap(),
        severity: "high".into(),
        evidence: 12.5,
        evidence_proven: 3.25,
        alert_threshold: 10.0,
        drop_threshold: 15.0,
        profile: "source".into(),
        role: "source-proven".into(),
        p_value: 0.001,
        ports: vec![22, 65_535],
        flows: 31,
        since_us: 4,
        outcome: "blocked for 1h".into(),
        mode: "enforce".into(),
        reasons: vec![AlertReason {
            feature: "ports".into(),
            words: "47 ports".into(),
            observed: 47.0,
            usual_low: 1.0,
            usual_high: 3.0,
            share: 0.5,
            nearest_usual: "3".into(),
        }],
        unless: "9 ports".into(),
        history: vec![EvidencePoint { time_us: 6, all: 13.0, proven: 4.0 }],
        json: "{}".into(),
    }
}

fn drifting() -> DriftStatus {
    let role = RoleDriftReport { role: "tcp/in/web".into(), state: "bad".into(), voters: 24, ..Default::default() };
    let feature = FeatureDriftReport { feature: "flows".into(), moved: true, effect: 0.5, ..Default::default() };
    DriftStatus { bundle: Some("b".into()), roles: vec![role], features: vec![feature] }
}

#[tokio::test]
async fn a_status_arrives_as_it_was_given() {
    let agent = agent(|c| match c {
        Command::Status { reply } => drop(reply.send(Ok(full_status()))),
        other => panic!("{other:?}"),
    });
    assert_eq!(agent.client().await.status().await.unwrap(), full_status());
    agent.stop().await;
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_group_and_one_agent() {
    let agent = agent(drop);
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&agent.path), 0o660);
    let refused = ControlSocket::bind(&agent.path, None).unwrap_err().to_string();
    assert!(refused.contains(&format!("is in use by process {}", std::process::id())), "{refused}");
    // The refused one has not harmed the first.
    agent.client().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_other_files_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weir.sock");
    // As a killed agent leaves it: the file is there, nobody listens.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let stale = Client::connect(&path).await.err().expect("nobody listens").to_string();
    assert!(stale.contains("no agent answers at") && stale.contains("weir run"), "{stale}");
    let socket = ControlSocket::bind(&path, None).unwrap();
    assert_eq!(socket.path(), path);
    tokio::net::UnixStream::connect(&path).await.unwrap();

    let file = dir.path().join("notes.txt");
    std::fs::write(&file, "mine").unwrap();
    let refused = ControlSocket::bind(&file, None).unwrap_err().to_string();
    assert!(refused.contains("exists and is no socket"), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");

    let group = nix::unistd::Group::from_gid(nix::unistd::getgid()).unwrap().expect("our group has a name");
    let _socket = ControlSocket::bind(&dir.path().join("g.sock"), Some(&group.name)).unwrap();
    let meta = std::fs::metadata(dir.path().join("g.sock")).unwrap();
    assert_eq!((meta.gid(), meta.permissions().mode() & 0o777), (group.gid.as_raw(), 0o660));

    let refused = ControlSocket::bind(&dir.path().join("x.sock"), Some("no-such-group-here")).unwrap_err().to_string();
    assert!(refused.contains("there is no group `no-such-group-here`"), "{refused}");
    let refused = ControlSocket::bind(&dir.path().join("y".repeat(120)), None).unwrap_err().to_string();
    assert!(refused.contains("too long"), "{refused}");
}

#[tokio::test]
async fn a_missing_agent_is_named_with_what_starts_it() {
    let e = Client::connect(Path::new("/nowhere/weir.sock")).await.err().unwrap().to_string();
    assert!(e.contains("/nowhere/weir.sock") && e.contains("weir run -i"), "{e}");
}

#[tokio::test]
async fn decisions_carry_who_made_them() {
    let agent = agent(|c| match c {
        Command::AddDecision { new, reply } => {
            let report = DecisionReport {
                decision: decision(&new),
                enforced: true,
                awaiting_confirmation: new.confirm_within.is_some(),
                packets: 1,
                bytes: 2,
                last_hit_us: Some(3),
                note: "n".into(),
            };
            drop(reply.send(Ok(report)));
        }
        other => panic!("{other:?}"),
    });
    let target: Target = "192.0.2.7/tcp/22".parse().unwrap();
    let lifetime = Some(Duration::from_secs(90));
    let mut client = agent.client().await;
    let added =
        client.add_decision(target, (Action::Shadow, None), Sides::In, lifetime, "scans", (None, false)).await.unwrap();
    let uid = nix::unistd::Uid::current();
    let user = nix::unistd::User::from_uid(uid).unwrap();
    let by = user.map_or(format!("uid {uid}"), |u| format!("uid {uid} ({})", u.name));
    assert_eq!(added.decision.reason, format!("scans, by {by}"));
    assert_eq!(
        (added.decision.target, added.decision.action, added.decision.sides),
        (target, Action::Shadow, Sides::In)
    );
    assert_eq!(added.decision.expires_us, Some(91_000_000));
    assert_eq!(
        (added.enforced, added.packets, added.bytes, added.last_hit_us, added.note.as_str()),
        (true, 1, 2, Some(3), "n")
    );
    let forever = client
        .add_decision(target, (Action::Drop, None), Sides::Both, None, "", (Some(Duration::from_secs(30)), false))
        .await
        .unwrap();
    assert!(forever.awaiting_confirmation && !added.awaiting_confirmation);
    assert_eq!((forever.decision.expires_us, forever.decision.reason), (None, format!("by {by}")));
    agent.stop().await;
}

#[tokio::test]
async fn every_call_becomes_its_command() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let entry = |prefix: Prefix| AllowReport { prefix, comment: "c".into(), origin: "o".into(), removable: true };
    let agent = agent(move |c| {
        let mut words = format!("{c:?}");
        words.truncate(words.find(['{', ' ']).unwrap_or(words.len()));
        log.lock().unwrap().push(words);
        match c {
            Command::ListDecisions { reply } => drop(reply.send(Ok(Vec::new()))),
            Command::DeleteDecision { which, reply, .. } => {
                drop(reply.send(Err(CommandError::NotFound(format!("there is no {which}")))));
            }
            Command::ConfirmDecision { id, reply, .. } => {
                drop(reply.send(Err(weir_core::decisions::Refusal::NotAwaiting(id).into())));
            }
            Command::AllowList { reply } => drop(reply.send(Ok(vec![entry("10.0.0.0/8".parse().unwrap())]))),
            Command::AllowAdd { prefix, comment, reply, .. } => {
                let entry = AllowReport { comment, ..entry(prefix) };
                drop(reply.send(Ok(AllowAdded { entry, lifted: Vec::new() })));
            }
            Command::AllowRemove { prefix, reply, .. } => drop(reply.send(Ok(entry(prefix)))),
            Command::AllowCheck { prefix, reply } => drop(reply.send(Ok(vec![entry(prefix)]))),
            Command::Learn { duration, min_flows, reply, .. } => {
                let mut progress = full_status().learning.unwrap();
                progress.duration_us = duration.unwrap().as_micros() as u64;
                progress.min_flows = min_flows.unwrap_or(1);
                drop(reply.send(Ok(progress)));
            }
            Command::ModelStatus { reply } => drop(reply.send(Ok(vec![full_status().bundle.unwrap()]))),
            Command::ModelPromote { id, reply, .. } => {
                let bundle = full_status().bundle.unwrap();
                assert_eq!(id, None);
                drop(reply.send(Ok(BundleReport { promoted: true, ..bundle })));
            }
            Command::ModelRollBack { steps, reply, .. } => {
                let bundle = full_status().bundle.unwrap();
                drop(reply.send(Ok(BundleReport { steps_back: Some(steps as u32), ..bundle })));
            }
            Command::ModelChallenge { id, reply, .. } => {
                let bundle = full_status().bundle.unwrap();
                drop(reply.send(Ok(BundleReport { id, challenger: true, ..bundle })));
            }
            Command::ModelUnchallenge { reply, .. } => drop(reply.send(Ok("a1b2".into()))),
            Command::ModelInspect { id, reply } => {
                drop(reply.send(Ok(crate::proto::BundleDetail { hash: id, ..Default::default() })));
            }
            Command::ModelCompare { reply } => {
                let over = "live traffic".into();
                drop(reply.send(Ok(crate::proto::Comparison { over, ..Default::default() })));
            }
            Command::ListAlerts { within, since_us, limit, reply } => {
                assert_eq!((within, since_us, limit), (Some("2001:db8::/32".parse().unwrap()), 5, 7));
                drop(reply.send(Ok(vec![alert()])));
            }
            Command::GetAlert { id, reply } => drop(reply.send(Ok(AlertReport { id, ..alert() }))),
            Command::ModelDrift { reply } => drop(reply.send(Ok(drifting()))),
            Command::FlushRecord { reply } => drop(reply.send(Ok(full_status().record.unwrap()))),
            Command::ReloadConfig { reply, .. } => {
                let report = ReloadReport { applied: vec!["mode".into()], needs_restart: vec!["socket".into()] };
                drop(reply.send(Ok(report)));
            }
            other => panic!("{other:?}"),
        }
    });
    let mut c = agent.client().await;
    let prefix: Prefix = "2001:db8::/32".parse().unwrap();
    assert!(c.list_decisions().await.unwrap().is_empty());
    let e = c.delete_decision(DecisionRef::Id(5)).await.unwrap_err();
    assert_eq!(message(&e), (tonic::Code::NotFound, "there is no decision 5".into()));
    let e = c.delete_decision(DecisionRef::Target("10.0.0.1".parse().unwrap())).await.unwrap_err();
    assert_eq!(message(&e).1, "there is no 10.0.0.1");
    let e = c.confirm_decision(6).await.unwrap_err();
    assert_eq!(message(&e), (tonic::Code::FailedPrecondition, "decision 6 awaits no confirmation".into()));
    assert_eq!(c.list_allow().await.unwrap()[0].origin, "o");
    assert_eq!(c.add_allow(prefix, "mine").await.unwrap().entry.comment, "mine");
    assert_eq!(c.remove_allow(prefix).await.unwrap().prefix, prefix);
    assert!(c.check_allow(prefix).await.unwrap()[0].removable);
    assert_eq!(
        c.learn(Some(Duration::from_secs(2)), Some(9), LearnFrom::Record { since: None }).await.unwrap().min_flows,
        9
    );
    assert_eq!(c.model_status().await.unwrap()[0].profiles, ["full", "source"]);
    assert!(c.promote_model(None).await.unwrap().promoted);
    assert_eq!(c.rollback_model(2).await.unwrap().steps_back, Some(2));
    assert!(c.challenge_model(Some("a1b2")).await.unwrap().is_some_and(|b| b.challenger && b.id == "a1b2"));
    assert_eq!(c.challenge_model(None).await.unwrap(), None);
    assert_eq!(c.inspect_model("a1b2").await.unwrap().hash, "a1b2");
    assert_eq!(c.compare_models().await.unwrap().over, "live traffic");
    assert_eq!(c.list_alerts(Some(prefix), 5, 7).await.unwrap(), [alert()]);
    assert_eq!(c.get_alert(9).await.unwrap(), AlertReport { id: 9, ..alert() });
    assert_eq!(c.model_drift().await.unwrap(), drifting());
    assert_eq!(c.flush_record().await.unwrap(), full_status().record.unwrap());
    assert_eq!(c.reload_config().await.unwrap().needs_restart, ["socket"]);
    let expected = [
        "ListDecisions",
        "DeleteDecision",
        "DeleteDecision",
        "ConfirmDecision",
        "AllowList",
        "AllowAdd",
        "AllowRemove",
        "AllowCheck",
        "Learn",
        "ModelStatus",
        "ModelPromote",
        "ModelRollBack",
        "ModelChallenge",
        "ModelUnchallenge",
        "ModelInspect",
        "ModelCompare",
        "ListAlerts",
        "GetAlert",
        "ModelDrift",
        "FlushRecord",
        "ReloadConfig",
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
    agent.stop().await;
}

#[tokio::test]
async fn refusals_keep_their_words_and_get_the_right_code() {
    use tonic::Code;
    let cases = [
        (CommandError::Invalid("i".into()), Code::InvalidArgument),
        (CommandError::Exists("e".into()), Code::AlreadyExists),
        (CommandError::Refused("covers the gateway 10.0.0.1".into()), Code::FailedPrecondition),
        (CommandError::Full("f".into()), Code::ResourceExhausted),
        (CommandError::Failed("x".into()), Code::Internal),
    ];
    let mut errors = cases.clone().map(|(e, _)| e).into_iter();
    let agent = agent(move |c| match c {
        Command::Status { reply } => drop(reply.send(Err(errors.next().unwrap()))),
        other => panic!("{other:?}"),
    });
    let mut client = agent.client().await;
    for (error, code) in cases {
        let e = client.status().await.unwrap_err();
        assert_eq!(message(&e), (code, error.to_string()));
        assert_eq!(e.is_usage(), code == Code::InvalidArgument);
    }
    agent.stop().await;
}

#[tokio::test]
async fn nonsense_never_reaches_the_event_loop() {
    let agent = agent(|c| panic!("{c:?}"));
    let mut client = agent.client().await;
    let target: Target = "10.0.0.1".parse().unwrap();
    for (reason, words) in [("x".repeat(501), "longer than 500"), ("a\nb".into(), "control characters")] {
        let e = client
            .add_decision(target, (Action::Drop, None), Sides::In, None, &reason, (None, false))
            .await
            .unwrap_err();
        let (code, text) = message(&e);
        assert!(code == tonic::Code::InvalidArgument && text.contains(words), "{text}");
    }
    let e = client
        .add_decision(target, (Action::Drop, None), Sides::In, Some(Duration::ZERO), "", (None, false))
        .await
        .unwrap_err();
    assert!(message(&e).1.contains("lifetime_us"));
    agent.stop().await;
}

#[tokio::test]
async fn a_full_queue_and_a_stopping_agent_are_told_apart() {
    // Nobody takes the commands: the first one fills the queue.
    let (commands, waiting) = mpsc::channel(1);
    let agent = agent_with(commands.clone());
    let mut first = agent.client().await;
    let pending = tokio::spawn(async move { first.status().await });
    while commands.capacity() > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let busy = agent.client().await.status().await.unwrap_err();
    let (code, words) = message(&busy);
    assert!(code == tonic::Code::ResourceExhausted && words.contains("try again"), "{words}");
    drop(waiting);
    let e = pending.await.unwrap().unwrap_err();
    assert_eq!(message(&e), (tonic::Code::Unavailable, "the agent is stopping".into()));
    agent.stop().await;
}

/// Messages as a client sends them that is not ours.
fn sent(parts: Vec<pb::load_model_request::Part>) -> impl tokio_stream::Stream<Item = pb::LoadModelRequest> + Send {
    tokio_stream::iter(parts.into_iter().map(|part| pb::LoadModelRequest { part: Some(part) }))
}

#[tokio::test]
async fn a_bundle_arrives_file_by_file_and_nothing_stays_of_one_that_is_too_much() {
    use pb::load_model_request::Part;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let (got, mut loaded) = mpsc::unbounded_channel();
    let mut n = 0;
    let agent = agent(move |c| match c {
        Command::ModelStage { reply } => {
            n += 1;
            let path = root.join(format!("upload-{n}"));
            std::fs::create_dir(&path).unwrap();
            drop(reply.send(Ok(crate::model::Staging::new(path, Arc::new(())))));
        }
        Command::ModelLoad { staged, purpose, reply, .. } => {
            let read = |name: &str| std::fs::read(staged.path().join(name)).unwrap();
            got.send((purpose, read("manifest.yaml"), read("a.onnx"))).unwrap();
            drop(reply.send(Ok(full_status().bundle.unwrap())));
        }
        other => panic!("{other:?}"),
    });
    let mut client = raw_client(&agent.path).await;
    let start = Part::Start(pb::LoadModelStart { purpose: pb::LoadPurpose::Challenge.into() });
    let file = |name: &str| Part::File(name.into());
    let data = |bytes: &[u8]| Part::Data(bytes.to_vec());
    let good =
        vec![start.clone(), file("manifest.yaml"), data(b"bundle"), data(b"_version"), file("a.onnx"), data(b"x")];
    client.load_model(sent(good)).await.unwrap();
    assert_eq!(loaded.recv().await.unwrap(), (Purpose::Challenge, b"bundle_version".to_vec(), b"x".to_vec()));

    let chunk = vec![0u8; 1 << 20];
    let huge = [vec![start.clone(), file("a.onnx")], vec![data(&chunk); 65]].concat();
    let many: Vec<_> = (0..20).map(|i| file(&format!("{i}.onnx"))).collect();
    for (parts, words) in [
        (huge, "a.onnx has more than 67108864 bytes"),
        ([vec![start.clone()], many].concat(), "at most 16 files"),
        (vec![start.clone(), file("../../etc/passwd")], "plain names"),
        (vec![start.clone(), file("a"), file("a")], "File exists"),
        (vec![start.clone(), data(b"x")], "before the name"),
        (vec![file("a")], "the first message"),
        (vec![start.clone()], "no file came"),
        (Vec::new(), "no file came"),
    ] {
        let refused = client.load_model(sent(parts)).await.unwrap_err();
        assert!(refused.message().contains(words), "{words}: {refused}");
    }
    // Whoever asked is told before the folder goes.
    let empty = || std::fs::read_dir(dir.path()).unwrap().next().is_none();
    for _ in 0..500 {
        if empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(empty(), "nothing is left of what was refused, nor of what was used");
    drop(client);
    agent.stop().await;
}

async fn raw_client(path: &Path) -> pb::weir_client::WeirClient<tonic::transport::Channel> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://weir.invalid");
    pb::weir_client::WeirClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

fn news(n: u64) -> Event {
    Event::Agent { time_us: n, level: Level::Warning, kind: "test", message: "m".into() }
}

/// Publishing before the server has subscribed would be lost by design.
async fn subscribed(agent: &Agent, n: usize) {
    while agent.bus.subscribers() < n {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn watchers_get_the_kinds_they_asked_for() {
    let agent = agent(drop);
    let mut all = agent.client().await.watch(&[]).await.unwrap();
    let mut hits = agent.client().await.watch(&[EventKind::Hits]).await.unwrap();
    subscribed(&agent, 2).await;
    agent.bus.publish(news(1));
    let target = "10.0.0.1".parse().unwrap();
    agent.bus.publish(Event::Hits { time_us: 2, decision_id: 9, target, action: Action::Drop, packets: 5, bytes: 300 });
    let Some(Item::Event(e)) = all.message().await.unwrap().unwrap().item else { panic!() };
    assert_eq!(
        (e.kind, e.time_us, e.json.as_str(), e.line.as_str()),
        (EventKind::Agent as i32, 1, "{\"n\":1}", "line")
    );
    assert!(matches!(e.body, Some(event::Body::Agent(a)) if a.level == "warning" && a.message == "m"));
    let Some(Item::Event(e)) = hits.message().await.unwrap().unwrap().item else { panic!() };
    assert!(matches!(e.body, Some(event::Body::Hits(h)) if h.decision_id == 9 && h.target == "10.0.0.1"));
    // A watcher that hangs up is forgotten.
    drop(all);
    while agent.bus.subscribers() > 1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // And one that stays does not hold up the stop.
    agent.stop().await;
    assert!(hits.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_slow_watcher_is_told_how_many_events_it_missed() {
    let agent = agent(drop);
    let mut stream = agent.client().await.watch(&[]).await.unwrap();
    subscribed(&agent, 1).await;
    // Nobody else runs until the first await: the bus holds 8 of these.
    for n in 1..=100 {
        agent.bus.publish(news(n));
    }
    let (mut lost, mut last, mut got) = (0, 0, 0);
    while last < 100 {
        match stream.message().await.unwrap().unwrap().item {
            Some(Item::Event(e)) => (last, got) = (e.time_us, got + 1),
            Some(Item::Lost(n)) => lost += n,
            None => panic!("an empty message"),
        }
    }
    assert_eq!(lost + got, 100);
    assert_eq!((lost, agent.bus.missed()), (92, 92));
    agent.stop().await;
}
