//! Days of an agent's life in a minute, by clocks that a test moves: what ends, rotates, is kept for a time or learned anew, does so, and
//! neither memory nor files grow with the days. `WEIR_SOAK_DAYS` asks for more of them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use weir_core::decision::{Action, Origin, Sides};
use weir_core::decisions::NewDecision as Wanted;
use weir_core::event::Mode;
use weir_kernel::flows::DrainReport;

use super::*;
use crate::clock;
use crate::command::{
    Caller, CommandError, DecisionRef, FeedbackCommand, Identity, LabelScope, LearnFrom, Reply, Role, StatusReport,
};
use crate::config::{DefaultModel, EventTarget, Learn, Log, Record, Store as Kept};
use crate::offline::decide::tests::{Wire, config as quiet, model};

const S: u64 = 1_000_000;
const HOUR: u64 = 3600 * S;
const DAY: u64 = 24 * HOUR;
/// The first days fill what is bounded: learning, the record, the store, the logs.
const WARM: usize = 2;
const DAYS: usize = 4;
/// What a run of so many days may take over the first full one: the allocator's slack, and the sawtooth of what is rotated.
const SLACK_BYTES: u64 = 24 << 20;
const MAX_RECORD: u64 = 16_000_000;
const MAX_STORE: u64 = 8_000_000;
/// SQLite cuts its log of changes back to this.
const MAX_WAL: u64 = 16 << 20;
const ROTATIONS: usize = 1;

/// At the end of a day.
#[derive(Debug, Default)]
struct Measured {
    resident: u64,
    record: u64,
    store: u64,
    wal: u64,
    log: u64,
    decisions: u64,
    alerts: u64,
    bundles: usize,
    flows_live: u64,
    threads: usize,
    files: usize,
}

fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let kib = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}

/// Bytes below a path.
fn bytes(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    if !meta.is_dir() {
        return meta.len();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|e| bytes(&e.path())).sum()
}

fn count(path: impl AsRef<Path>) -> usize {
    fs::read_dir(path).map_or(0, |entries| entries.count())
}

struct Life {
    agent: Agent,
    finished: mpsc::Receiver<Finished>,
    state: std::path::PathBuf,
    logs: std::path::PathBuf,
    /// Monotonic, µs: where the last epoch ended.
    at: u64,
    expired: usize,
    learned: usize,
    watch: crate::bus::Subscription,
}

fn operator() -> Caller {
    Caller { who: Identity::Local { uid: 0, user: None, pid: None }, role: Role::Operator }
}

impl Life {
    fn begin(dir: &Path) -> Self {
        let (state, logs) = (dir.join("state"), dir.join("log"));
        let default = quiet();
        let config = Config {
            mode: Mode::Enforce,
            state_dir: state.clone(),
            default_model: DefaultModel::Off,
            learn: Learn { duration: Duration::from_secs(6 * 3600), min_flows: 1_500, min_windows: 200 },
            record: Record { enabled: true, max_size: MAX_RECORD, max_age: Duration::from_secs(86_400) },
            store: Kept { max_size: MAX_STORE, max_age: Duration::from_secs(86_400) },
            log: Log { events: EventTarget::File(logs.join("events.json")), flows: true, ..default.log.clone() },
            ..default
        };
        let file = dir.join("weir.yaml");
        fs::write(&file, config.to_yaml()).unwrap();
        let (tell, finished) = mpsc::channel(4);
        let bus = EventBus::new(1 << 14);
        let watch = bus.subscribe();
        let render = Arc::new(Rendered { interface: None });
        let agent = Agent::new(Start {
            options: RunOptions { config: Some(file), ..RunOptions::default() },
            opened: Store::open(&config.state_dir, wall_us()).unwrap(),
            sink: Sink::start(config.log.events.clone(), true, render).unwrap(),
            config,
            kernel: None,
            collector: None,
            bus,
            finished: tell,
            access: Arc::default(),
            live: Arc::default(),
        });
        let at = monotonic_ns() / 1000 / S * S;
        Self { agent: agent.unwrap(), finished, state, logs, at, expired: 0, learned: 0, watch }
    }

    /// Until that moment, in which `flows` were counted.
    fn epoch(&mut self, end_us: u64, flows: Vec<(weir_common::flow::FlowKey, weir_common::flow::FlowStats)>) {
        let now = monotonic_ns() / 1000;
        clock::pass(Duration::from_micros(end_us.saturating_sub(now)));
        self.at = end_us;
        let report = DrainReport { flows: flows.len(), end_us, ..DrainReport::default() };
        self.agent.epoch(&Epoch { flows, report, wall_offset_us: crate::drain::offset_us(), ..Epoch::default() });
        self.agent.second();
        while let Ok(finished) = self.finished.try_recv() {
            self.agent.finished(finished);
        }
    }

    /// An hour: half a minute of traffic second by second, and quiet for the rest, minute by minute.
    fn hour(&mut self, n: u64) {
        let from = self.at + S;
        let mut wire = Wire::default();
        wire.benign(from, 40, n);
        // One that comes every hour, and one that is new.
        wire.guesses(from + 3 * S, 25, "203.0.113.66", 12);
        wire.guesses(from + 5 * S, 25, &format!("203.0.{}.{}", 114 + n / 250 % 100, 1 + n % 250), 12);
        let mut drained: BTreeMap<u64, Vec<_>> = wire.epochs().collect();
        let (mut next, end) = (from, self.at + HOUR);
        while self.at < end {
            let flows = drained.remove(&next).unwrap_or_default();
            self.epoch(next, flows);
            next = if drained.is_empty() { (next + 60 * S).min(end) } else { next + S };
        }
        self.agent.care();
        // What writes has the lowest priority, and no hour to do it in.
        self.write_record();
        self.wait_for_training();
        self.heard();
    }

    fn write_record(&self) {
        let (to, from) = std::sync::mpsc::channel();
        self.agent.archive.as_ref().unwrap().flush(move |done| to.send(done).unwrap());
        from.recv().unwrap().expect("the record is written");
    }

    /// A training takes real time, of which little passes here.
    fn wait_for_training(&mut self) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.agent.training.is_some() {
            assert!(Instant::now() < until, "a training does not end");
            match self.finished.try_recv() {
                Ok(finished) => self.agent.finished(finished),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Counts what is told of.
    fn heard(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            while let Ok(Some(item)) = tokio::time::timeout(Duration::ZERO, self.watch.next()).await {
                let crate::bus::Item::Event(_, event) = item else { continue };
                match &*event {
                    Event::Decision { change: DecisionChange::Expired, .. } => self.expired += 1,
                    Event::Agent { kind: "learned", .. } => self.learned += 1,
                    _ => {}
                }
            }
        });
    }

    fn ask<T>(&mut self, make: impl FnOnce(Reply<T>) -> Command) -> Result<T, CommandError> {
        let (to, from) = tokio::sync::oneshot::channel();
        self.agent.command(make(to));
        from.blocking_recv().expect("every command is answered")
    }

    /// As a person does it, who may think better of it. (The command wants an interface.)
    fn block(&mut self, target: &str, lifetime: Duration, taken_back: bool) {
        let now = self.agent.now();
        let wanted = Wanted {
            target: target.parse().unwrap(),
            action: Action::Drop,
            limit: None,
            sides: Sides::Both,
            origin: Origin::Manual,
            ttl_us: Some(lifetime.as_micros() as u64),
            reason: operator().sign("of a list"),
            instead_of: None,
            alert_id: None,
            confirm_within_us: None,
        };
        let added = self.agent.decisions.add(wanted, now).expect("it is added").decision().clone();
        let id = added.id;
        self.agent.decided(now, DecisionChange::Added, added, String::new());
        self.agent.settle(now);
        if taken_back {
            let which = DecisionRef::Id(id);
            self.ask(|reply| Command::DeleteDecision { which, by: operator(), reply }).expect("it is deleted");
        }
    }

    /// What people do in a day: they block, allow, call something normal, take some of it back, and have the log rotated.
    fn people(&mut self, day: u64) {
        for n in 0..20u64 {
            self.block(&format!("198.51.{}.{n}", 100 + day % 100), Duration::from_secs(3600 * (1 + n)), n % 4 == 0);
        }
        let prefix = format!("198.18.{}.0/24", day % 250).parse().unwrap();
        let lifetime = Some(Duration::from_secs(7200));
        let comment = || "a test".to_owned();
        self.ask(|reply| Command::AllowAdd { prefix, comment: comment(), lifetime, by: operator(), reply })
            .expect("it is allowed");
        let scope = LabelScope { prefix: Some(prefix), any_feature: true, ..LabelScope::default() };
        let suppress = |reply| FeedbackCommand::Suppress { scope, lifetime, comment: comment(), by: operator(), reply };
        self.ask(|reply| Command::Feedback(suppress(reply))).expect("it is suppressed");
        let again = LearnFrom::Live;
        let learn = |reply| Command::Learn { duration: None, min_flows: None, from: again, by: operator(), reply };
        self.ask(learn).expect("it is learned anew");
        self.rotate();
    }

    /// As logrotate does.
    fn rotate(&mut self) {
        let file = |n: usize| self.logs.join(if n == 0 { "events.json".into() } else { format!("events.json.{n}") });
        for n in (0..ROTATIONS).rev() {
            // The oldest is overwritten; at first there is none.
            let _ = fs::rename(file(n), file(n + 1));
        }
        self.agent.hangup();
    }

    fn measured(&mut self) -> Measured {
        // What is under way to the disk is there.
        self.write_record();
        let until = Instant::now() + Duration::from_secs(20);
        while self.agent.store.journal().waiting() > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let status: StatusReport = self.ask(|reply| Command::Status { reply }).unwrap();
        let alerts = |reply| Command::ListAlerts { within: None, since_us: 0, limit: usize::MAX, reply };
        let alerts = self.ask(alerts).unwrap();
        Measured {
            resident: resident(),
            record: bytes(&self.state.join("flows")),
            store: bytes(&self.state.join("weir.db")),
            wal: bytes(&self.state.join("weir.db-wal")),
            log: bytes(&self.logs),
            decisions: status.decisions.iter().map(|d| d.count).sum(),
            alerts: alerts.len() as u64,
            bundles: count(self.state.join("bundles")),
            flows_live: status.flows_live,
            threads: count("/proc/self/task"),
            files: count("/proc/self/fd"),
        }
    }
}

/// What [`days_in_a_minute_end_expire_and_rotate_what_they_should_and_nothing_grows`] runs in a process of its own: its clocks are moved.
#[test]
fn days_of_a_soak() {
    let Ok(days) = std::env::var("WEIR_SOAK") else { return };
    let days: usize = days.parse().expect("a number of days");
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let mut life = Life::begin(dir.path());
    life.agent.serve_promoted(model());
    let mut all: Vec<Measured> = Vec::new();
    for day in 0..days as u64 {
        let (expired, learned, began) = (life.expired, life.learned, life.at);
        life.people(day);
        for hour in 0..24 {
            life.hour(day * 24 + hour);
        }
        assert_eq!(life.at - began, DAY, "a day is a day");
        let now = life.measured();
        eprintln!("day {:>3}: {now:?}, {} ended, {} learned", day + 1, life.expired - expired, life.learned - learned);
        // A day like any other: it is not for want of anything to do that nothing grows.
        assert!(life.expired - expired >= 15, "decisions end");
        assert!(now.alerts > 0, "attacks are alerted about");
        assert!(life.learned > learned, "a model is learned anew");
        assert!(now.record > 0 && now.store > 0 && now.log > 0 && now.flows_live == 0, "{now:?}");
        all.push(now);
    }
    let lost: Vec<_> = life.agent.losses();
    assert!(lost.iter().all(|l| l.name != "flows not recorded"), "{lost:?}");
    let (base, last) = (&all[WARM - 1], &all[WARM..]);
    for (n, m) in last.iter().enumerate() {
        let day = WARM + n + 1;
        assert!(
            m.resident <= base.resident + SLACK_BYTES,
            "day {day}: memory grew from {} to {}",
            base.resident,
            m.resident
        );
        // A day of each is kept, whatever the bounds of size would allow.
        assert!(m.record <= (base.record + base.record / 2).min(MAX_RECORD), "day {day}: {m:?} after {base:?}");
        assert!(
            m.store <= (base.store + base.store / 2).min(MAX_STORE) && m.wal <= MAX_WAL,
            "day {day}: {m:?} after {base:?}"
        );
        assert!(m.log <= base.log + base.log / 2, "day {day}: the logs grew from {} to {}", base.log, m.log);
        assert!(m.decisions <= base.decisions + 20, "day {day}: {} decisions", m.decisions);
        assert!(m.bundles <= base.bundles.max(crate::model::KEEP + 1), "day {day}: {} bundles", m.bundles);
        assert!(m.threads <= base.threads + 1 && m.files <= base.files + 2, "day {day}: {m:?} after {base:?}");
    }
    drop(life);
}

#[test]
fn days_in_a_minute_end_expire_and_rotate_what_they_should_and_nothing_grows() {
    let days = std::env::var("WEIR_SOAK_DAYS").ok().and_then(|d| d.parse().ok()).unwrap_or(DAYS).max(WARM + 1);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "agent::soak_tests::days_of_a_soak", "--nocapture", "--test-threads=1"]);
    let out = child.env("WEIR_SOAK", days.to_string()).env("MALLOC_ARENA_MAX", "2").output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    let lines: Vec<&str> = said.lines().filter(|l| l.starts_with("day ")).collect();
    assert!(out.status.success() && lines.len() == days, "{}\n{said}", String::from_utf8_lossy(&out.stdout));
    eprintln!("{}", lines.join("\n"));
}
