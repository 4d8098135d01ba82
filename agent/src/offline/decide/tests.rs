use std::path::Path;
use std::sync::OnceLock;

use tokio::sync::mpsc;
use weir_common::flow::{Packet, tcp_flag};
use weir_core::addr::Addr;
use weir_core::event::{DecisionChange, Mode};
use weir_core::table::TableConfig;
use weir_source::{Flows, Taker};

use super::book::Book;
use super::*;
use crate::agent::{self, Agent, Start};
use crate::app::RunOptions;
use crate::bus::{EventBus, Item};
use crate::config::{Config, EventTarget};
use crate::drain::Epoch;
use crate::evidence::{Document, Refused, judge};
use crate::offline::train::Gathering;
use crate::render::Rendered;
use crate::sink::Sink as Log;
use crate::store::{Store, read};
use weir_core::policy::PolicyConfig;

const S: u64 = 1_000_000;
const T0: u64 = 1_700_000_000 * S;
const SERVER: &str = "10.0.0.1";

fn addr(s: &str) -> Addr {
    s.parse().unwrap()
}

/// Second by second, what a kernel would drain.
#[derive(Default)]
pub(crate) struct Wire(BTreeMap<u64, BTreeMap<FlowKey, FlowStats>>);

impl Wire {
    fn put(&mut self, at: u64, ends: [(Addr, u16); 2], flags: u8, len: u32) {
        let [from, to] = ends;
        let (a, b, dir) = if from <= to { (from, to, 0) } else { (to, from, 1) };
        let key = FlowKey {
            addr_a: a.0.0,
            addr_b: b.0.0,
            port_a: a.1,
            port_b: b.1,
            proto: 6,
            family: 4,
            ..FlowKey::default()
        };
        let server = to.1 > 1024;
        let packet = Packet {
            now_us: at,
            dir,
            segs: 1,
            seg_len: len,
            last_len: len,
            payload: len.saturating_sub(40),
            seq: if server { 7_000 } else { 1 },
            ack: if server { 2 } else { 7_001 },
            tcp_flags: flags,
            ..Packet::default()
        };
        self.0.entry(at / S).or_default().entry(key).or_insert(FlowStats::EMPTY).update(&packet);
    }

    /// A web request like others.
    fn request(&mut self, at: u64, client: &str, port: u16, size: u32) {
        let (c, s) = ((addr(client), port), (addr(SERVER), 443));
        let (syn, ack, fin) = (tcp_flag::SYN, tcp_flag::ACK, tcp_flag::FIN | tcp_flag::ACK);
        self.put(at, [c, s], syn, 60);
        self.put(at + 100, [s, c], syn | ack, 60);
        self.put(at + 200, [c, s], ack, 52);
        self.put(at + 300, [c, s], ack, 300 + size);
        (0..4).for_each(|i| self.put(at + 1_000 + i * 900, [s, c], ack, 900 + size));
        self.put(at + 9_000, [c, s], fin, 52);
        self.put(at + 9_100, [s, c], fin, 52);
        self.put(at + 9_200, [c, s], ack, 52);
    }

    /// Forty clients for some seconds, each with a request or two every few seconds.
    pub(crate) fn benign(&mut self, from: u64, seconds: u64, salt: u64) {
        let dice =
            |n: u64, k: u64| ((n ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ k.wrapping_mul(0xbf58_476d)) >> 40;
        for s in 0..seconds {
            for c in 0..40 {
                let n = s * 40 + c;
                if dice(n, 1) % 3 == 0 {
                    let client = format!("192.0.2.{}", 10 + c);
                    let at = from + s * S + dice(n, 2) % 900_000;
                    self.request(at, &client, 20_000 + (n % 40_000) as u16, (dice(n, 3) % 400) as u32);
                }
            }
        }
    }

    /// Logins that each look like others, many of them.
    pub(crate) fn guesses(&mut self, from: u64, seconds: u64, source: &str, per_second: u64) {
        for n in 0..seconds * per_second {
            let at = from + n * (S / per_second) + 17;
            self.request(at, source, 2_000 + (n % 60_000) as u16, 3);
        }
    }

    pub(crate) fn epochs(&self) -> impl Iterator<Item = (u64, Vec<(FlowKey, FlowStats)>)> {
        self.0.iter().map(|(s, flows)| ((s + 1) * S, flows.iter().map(|(k, v)| (*k, *v)).collect()))
    }
}

pub(crate) fn config() -> Config {
    let default = Config::default();
    Config {
        interface: Some("weir-none".into()),
        policy: crate::config::Policy { drop_ttl: std::time::Duration::from_secs(300), ..default.policy },
        home: vec!["10.0.0.0/8".parse().unwrap()],
        log: crate::config::Log { events: EventTarget::None, ..default.log },
        // These flows are of a time long ago.
        store: crate::config::Store { max_age: std::time::Duration::from_secs(20 * 365 * 86_400), ..default.store },
        ..Config::default()
    }
}

fn settings(mode: Mode) -> Settings {
    let config = config();
    Settings {
        table: agent::table(&config, agent::home(&config), 1),
        policy: PolicyConfig { mode, ..agent::policy(&config, true) },
        allow: Vec::new(),
        safe: Vec::new(),
        max_decisions: 1_000,
    }
}

struct Lent<'g>(&'g mut Gathering);

impl Taker for Lent<'_> {
    fn record(&mut self, flow: Observation) -> Result<(), Stop> {
        self.0.record(flow)
    }
    fn epoch(&mut self, end_us: u64, touched: &[Touched]) {
        self.0.epoch(end_us, touched);
    }
    fn end(&mut self) {
        self.0.end();
    }
}

/// Trained once for all tests of this file.
pub(crate) fn model() -> Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    let made = || {
        let mut wire = Wire::default();
        wire.benign(T0, 240, 1);
        let mut gathering = Gathering::new(&[ProfileId::Core, ProfileId::Source], 10 * S);
        let config = TableConfig { home: agent::home(&config()), ..TableConfig::default() };
        let mut flows = Flows::with(config, true, Lent(&mut gathering));
        wire.epochs().for_each(|(end, mut drained)| flows.epoch(end, &mut drained).unwrap());
        flows.end().unwrap();
        drop(flows);
        let (baseline, ..) = gathering.close(2.0);
        Model::new(baseline.train(1, &mut |_| {}).unwrap().0.into_bundle())
    };
    MODEL.get_or_init(made).clone()
}

fn replay(wire: &Wire, mode: Mode) -> (Book, Counts) {
    let mut book = Book::new(true);
    let mut deciding = Deciding::new(settings(mode), model(), &mut book, None).unwrap();
    wire.epochs().for_each(|(end, mut drained)| deciding.epoch(end, &mut drained).unwrap());
    let counts = deciding.close().unwrap();
    book.met(&counts.met);
    (book, counts)
}

/// An event without the numbers that it was given.
fn said(event: &Event) -> Option<String> {
    match event {
        Event::Alert(a) => {
            let what = (a.source, a.severity, a.evidence, a.evidence_proven, a.flows, a.since_us, &a.ports);
            Some(format!("{} {what:?} {:?} {}", a.time_us, a.anomaly, a.outcome))
        }
        Event::Decision { time_us, change, decision: d, mode, note } if *change != DecisionChange::Enforced => {
            let what = (change, d.target, d.action, d.instead_of, d.created_us, d.expires_us, mode);
            Some(format!("{time_us} {what:?} {} {note}", d.reason))
        }
        _ => None,
    }
}

/// The running agent, given the same epochs one a second, as its drainer gives them.
fn live(dir: &Path, wire: &Wire, last_us: u64) -> Vec<String> {
    let config = config();
    let opened = Store::open(dir, T0).unwrap();
    let bus = EventBus::new(1 << 16);
    let mut watch = bus.subscribe();
    let log = Log::start(EventTarget::None, false, std::sync::Arc::new(Rendered { interface: None })).unwrap();
    let mut agent = Agent::new(Start {
        live: Default::default(),
        options: RunOptions::default(),
        config,
        kernel: None,
        collector: None,
        opened,
        bus,
        sink: log,
        finished: mpsc::channel(1).0,
        access: Default::default(),
    })
    .unwrap();
    agent.serve_promoted(model());
    let mut drained: BTreeMap<u64, Vec<(FlowKey, FlowStats)>> = wire.epochs().collect();
    let first = *drained.keys().next().unwrap();
    for end_us in (first..=last_us).step_by(S as usize) {
        let flows = drained.remove(&end_us).unwrap_or_default();
        let report = weir_kernel::flows::DrainReport { flows: flows.len(), end_us, ..Default::default() };
        agent.epoch(&Epoch { flows, report, ..Epoch::default() });
    }
    drop(agent);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut all = Vec::new();
    while let Some(item) = runtime.block_on(watch.next()) {
        let Item::Event(_, event) = item else { panic!("events were missed") };
        all.extend(said(&event));
    }
    all
}

struct Said(Vec<String>, u64);

impl Watcher for Said {
    fn began(&mut self, _: u64, _: &Touched, _: Option<&Arc<str>>) {}
    fn happened(&mut self, now: u64, event: Event) -> Result<(), Stop> {
        self.0.extend(said(&event));
        self.1 = now;
        Ok(())
    }
}

#[test]
fn a_replay_decides_as_the_running_agent_does_epoch_by_epoch() {
    let mut wire = Wire::default();
    wire.benign(T0 + 1_000 * S, 60, 2);
    wire.guesses(T0 + 1_020 * S, 30, "203.0.113.66", 12);
    // Silence, in which flows, windows and decisions end, and another one.
    wire.benign(T0 + 1_800 * S, 60, 3);
    wire.guesses(T0 + 1_810 * S, 30, "203.0.113.99", 20);

    let mut replayed = Said(Vec::new(), 0);
    let mut deciding = Deciding::new(settings(Mode::Shadow), model(), &mut replayed, None).unwrap();
    wire.epochs().for_each(|(end, mut drained)| deciding.epoch(end, &mut drained).unwrap());
    let now_us = deciding.site.now_us;
    deciding.close().unwrap();
    let dir = tempfile::tempdir().unwrap();
    // As long as the replay follows what the input began.
    let live = live(dir.path(), &wire, now_us + 130 * S);
    let of = |words: &str| live.iter().filter(|l| l.contains(words)).count();
    assert!(of("203.0.113.66") > 1 && of("203.0.113.99") > 1 && of("Expired") >= 1, "{live:#?}");
    assert_eq!(of("192.0.2."), 0, "{live:#?}");
    assert_eq!(replayed.0, live);
}

#[test]
fn who_is_dropped_is_gone_from_then_on_and_stays_blocked_while_it_goes_on() {
    let mut wire = Wire::default();
    wire.benign(T0 + 1_000 * S, 700, 4);
    wire.guesses(T0 + 1_020 * S, 680, "203.0.113.66", 10);
    let (book, counts) = replay(&wire, Mode::Enforce);
    let drops: Vec<_> = book.lines.iter().filter(|l| l.action == "drop").collect();
    assert_eq!(drops.len(), 1, "{:#?}", book.lines);
    let d = drops[0];
    assert_eq!((d.source.as_str(), d.proven), ("203.0.113.66", true));
    // It never stops, so the five minutes of the block are extended; what it sent meanwhile was met and not counted.
    assert!(d.extended >= 1 && d.seconds > Some(300), "{d:?}");
    assert!(d.packets_met > 20_000, "{d:?}");
    assert!(!book.lines.iter().any(|l| l.source.starts_with("192.0.2.") && l.action == "drop"), "{:#?}", book.lines);
    assert_eq!(counts.timelines, 1);
    assert!(book.json.iter().any(|j| j.contains("\"event_type\":\"decision\"") && j.contains("\"action\":\"drop\"")));
}

#[test]
fn allowed_sources_are_alerted_about_and_never_stopped() {
    let mut wire = Wire::default();
    wire.benign(T0 + 1_000 * S, 60, 5);
    wire.guesses(T0 + 1_010 * S, 40, "203.0.113.66", 20);
    let allow = weir_core::guard::Allow {
        prefix: "203.0.113.0/24".parse().unwrap(),
        created_us: 0,
        expires_us: None,
        comment: "ours".into(),
    };
    let settings = Settings { allow: vec![allow], ..settings(Mode::Enforce) };
    let mut book = Book::new(false);
    let mut deciding = Deciding::new(settings, model(), &mut book, None).unwrap();
    wire.epochs().for_each(|(end, mut drained)| deciding.epoch(end, &mut drained).unwrap());
    deciding.close().unwrap();
    let line = book.lines.iter().find(|l| l.source == "203.0.113.66").expect("it is alerted about");
    assert!(line.action == "alert" && line.outcome.contains("on the allow list"), "{line:?}");
    assert!(book.lines.iter().all(|l| l.action == "alert"), "{:#?}", book.lines);
}

#[test]
fn a_capture_of_an_earlier_time_is_replayed_on_its_own() {
    let mut wire = Wire::default();
    wire.guesses(T0 + 1_000 * S, 20, "203.0.113.66", 20);
    let mut watch = Said(Vec::new(), 0);
    let mut deciding = Deciding::new(settings(Mode::Shadow), model(), &mut watch, None).unwrap();
    for _ in 0..2 {
        wire.epochs().for_each(|(end, mut drained)| deciding.epoch(end, &mut drained).unwrap());
        deciding.end().unwrap();
    }
    let counts = deciding.close().unwrap();
    assert_eq!((counts.timelines, counts.span_us), (2, 40 * S));
    let (first, second) = watch.0.split_at(watch.0.len() / 2);
    assert!(!first.is_empty());
    assert_eq!(first, second, "nothing known of anyone counts on");
}

#[test]
fn a_log_proves_nothing_unless_its_word_is_taken() {
    let record = |state, fwd, bwd| {
        let mut r = weir_source::Observation::from(super::told::tests::record(T0, state)).record;
        (r.fwd.packets, r.bwd.packets) = (fwd, bwd);
        r
    };
    assert!(looks_proven(&record(FlowState::Closed, 5, 5)));
    assert!(looks_proven(&record(FlowState::Established, 2, 1)));
    assert!(looks_proven(&record(FlowState::Reset, 3, 2)));
    // SYN, SYN-ACK, RST: a half-open scan.
    assert!(!looks_proven(&record(FlowState::Reset, 2, 1)));
    assert!(!looks_proven(&record(FlowState::Established, 1, 1)));
    assert!(!looks_proven(&record(FlowState::Unanswered, 9, 0)) && !looks_proven(&record(FlowState::Rejected, 3, 3)));
    let mut guessed = record(FlowState::Closed, 5, 5);
    guessed.have = guessed.have.without(Have::SIDES);
    assert!(!looks_proven(&guessed), "who opened it is a guess");
    let mut udp = record(FlowState::Established, 5, 5);
    udp.proto = 17;
    assert!(!looks_proven(&udp));
}

/// Every document of evidence in a state directory, the first one first.
fn proofs(dir: &Path) -> Vec<String> {
    let opened = Store::open(dir, T0).unwrap();
    let (tx, rx) = std::sync::mpsc::channel();
    opened.store.journal().ask(move |db| {
        let db = db.unwrap();
        let all = read::proofs(db, 0, usize::MAX).unwrap();
        let ids = all.iter().rev().map(|p| crate::store::Which::Id(p.id));
        tx.send(ids.map(|id| read::proof(db, id).unwrap().unwrap()).collect()).unwrap();
    });
    rx.recv().unwrap()
}

#[test]
fn evidence_of_every_alert_and_decision_is_kept_and_its_scores_are_what_the_models_give() {
    let mut wire = Wire::default();
    let start = T0 + 1_000 * S;
    wire.benign(start, 60, 2);
    wire.guesses(start + 5 * S, 40, "203.0.113.66", 12);
    let last = wire.epochs().last().unwrap().0 + 20 * S;
    let tmp = tempfile::tempdir().unwrap();
    live(tmp.path(), &wire, last);
    let texts = proofs(tmp.path());
    let documents: Vec<Document> = texts.iter().map(|t| serde_json::from_str(t).unwrap()).collect();
    assert!(documents.iter().any(|d| d.decision.is_some()), "{} documents", documents.len());
    let model = model();
    for (text, document) in texts.iter().zip(&documents) {
        assert!(Document::is_intact(text) && document.rows_left_out < 10_000);
        let report = judge(document, true, &model.bundle).unwrap();
        assert!(report.agrees() && !report.rows.is_empty(), "{report:?}");
        assert!(document.rows.iter().all(|r| r.source == addr("203.0.113.66")), "of the source alone");
        assert_eq!(document.thresholds.alert, model.thresholds.alert);
    }
    let about = documents.iter().find(|d| d.decision.is_some()).unwrap();
    assert_eq!(about.policy.settings["policy"]["drop_ttl"], "5m");
    assert!(about.rows.iter().any(|r| r.kind == "window" && !r.reasons.is_empty()), "with reasons");

    // One number is another.
    let mut forged = about.clone();
    let row = forged.rows.iter().position(|r| r.kind == "window").unwrap();
    let feature = forged.rows[row].features.iter_mut().find(|f| f.name.contains("flows")).unwrap();
    feature.value = Some(1.0);
    let report = judge(&forged, true, &model.bundle).unwrap();
    let wrong: Vec<usize> = report.rows.iter().filter(|r| !r.agrees).map(|r| r.row).collect();
    assert_eq!(wrong, [row + 1], "{report:?}");
    assert!(!Document::is_intact(&texts[0].replacen("\"p_value\":0.", "\"p_value\":0.1", 1)));

    // Other models.
    let mut other = about.clone();
    other.models.profiles[0].isolation_forest_sha256 = "0".repeat(64);
    let refused = judge(&other, true, &model.bundle).unwrap_err();
    assert!(matches!(&refused, Refused::OtherModel { model: "isolation forest", .. }), "{refused}");
}
