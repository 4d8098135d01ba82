//! The server over a real socket, with a task in place of the event loop.

mod abuse;
mod calls;
mod contract;
mod events;
mod remote;
mod socket;
mod upload;

use std::path::{Path, PathBuf};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use weir_core::addr::Prefix;
use weir_core::decision::{Action, Decision, Origin, Sides, Target};
use weir_core::event::Event;

use super::client::{Client, ClientError};
use super::*;
use crate::command::*;
use crate::proto::{self as pb, EventKind};

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
    serving(dir, path, socket.into(), commands)
}

fn serving(dir: tempfile::TempDir, path: PathBuf, doors: Doors, commands: mpsc::Sender<Command>) -> Agent {
    let bus = EventBus::new(8);
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(serve(doors, commands, bus.clone(), Arc::new(Plain), async {
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
        interfaces: vec![crate::command::InterfaceReport {
            name: "eth0".into(),
            ifindex: 2,
            protected: true,
            xdp_mode: Some(XdpMode::Generic),
            cause: "the driver has no native XDP".into(),
            up: true,
            mtu: 1500,
            flows: 128_000,
            reattached: 1,
            packets_passed: 72_300_114,
            packets_dropped: 12,
            packets_limited: 3,
        }],
        seen_twice: crate::command::Packets { packets: 5, bytes: 300 },
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

async fn raw_client(path: &Path) -> pb::weir_client::WeirClient<tonic::transport::Channel> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://weir.invalid");
    pb::weir_client::WeirClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}
