use std::time::{Duration, Instant};

use weir_core::profile::ProfileId;
use weir_core::record::{EndReason, FlowRecord, FlowState, Have, Totals};
use weir_core::role::{Direction, Role};
use weir_core::window::SourceSummary;

use super::read::Span;
use super::*;
use crate::clock::wall_us;
use crate::config::Config;
use crate::exported::FIRST_ID;

const S: u64 = 1_000_000;
const SINK: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

pub(crate) fn record(id: u64, start_us: u64, end_us: u64) -> FlowRecord {
    FlowRecord {
        flow_id: id,
        client: SINK[id as usize % 2].parse().unwrap(),
        server: "10.0.0.1".parse().unwrap(),
        client_port: 40_000,
        server_port: 443,
        proto: 6,
        vlan_outer: 0,
        vlan_inner: 0,
        start_us,
        end_us,
        fwd: Totals { packets: 5 + id % 7, bytes: 500 + id % 1000, payload: 200 },
        bwd: Totals { packets: 6, bytes: 5_000 + 3 * (id % 999), payload: 4_000 },
        stats: weir_common::flow::FlowStats::EMPTY,
        state: FlowState::Closed,
        end_reason: EndReason::Reused,
        have: Have::ALL.without(Have::STATS),
        direction: Direction::In,
        proven: true,
        first_record: true,
        context: None,
        seen_at: 0,
    }
}

fn flow(id: u64, at: u64) -> Observation {
    Observation { seen_at: Some("eth0".into()), ..record(id, at - S / 10, at).into() }
}

fn window(source: &str, end_us: u64) -> SourceWindow {
    SourceWindow {
        source: source.parse().unwrap(),
        remote: true,
        role: Role::SourceAll,
        start_us: end_us - S,
        end_us,
        early: false,
        summary: SourceSummary { flows: 3, sampled: 3, hosts: 1, ports: 1, ..SourceSummary::default() },
        ports: vec![443],
    }
}

fn batch(now: u64, flows: u64) -> Batch {
    let flows = (0..flows).map(|i| flow(now / 1000 * 1000 + i, now)).collect();
    Batch { since: now - S, now, flows, windows: vec![window(SINK[0], now), window(SINK[1], now)], ..Batch::default() }
}

fn config() -> Record {
    Record { enabled: true, max_size: 1 << 30, max_age: Duration::from_secs(7 * 86_400) }
}

fn flushed(a: &Archive) -> Contents {
    a.flusher().flush().unwrap();
    a.contents()
}

fn read(dir: &Path) -> Vec<Observation> {
    struct All(Vec<Observation>);
    impl weir_source::Sink for All {
        fn epoch(
            &mut self,
            _: u64,
            _: &mut Vec<(weir_source::FlowKey, weir_source::FlowStats)>,
        ) -> Result<(), weir_source::Stop> {
            panic!("there are no packets in it")
        }
        fn flow(&mut self, flow: Observation) -> Result<(), weir_source::Stop> {
            self.0.push(flow);
            Ok(())
        }
        fn end(&mut self) -> Result<(), weir_source::Stop> {
            Ok(())
        }
    }
    let mut all = All(Vec::new());
    for segment in files::list(&dir.join(FOLDER)).unwrap() {
        let options = weir_source::Options::default();
        weir_source::Input::open(&segment.path, &options).unwrap().read(&options, &mut all).1.unwrap();
    }
    all.0
}

fn span(dir: &Path, since_us: u64, until_us: u64) -> Span {
    Span::new(&Config::default(), &dir.join(FOLDER), since_us, until_us)
}

#[test]
fn what_was_recorded_reads_back_as_it_was_over_several_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Archive::start(dir.path(), config()).unwrap();
    let now = wall_us();
    let mut told = flow(FIRST_ID + 7, now + S);
    (told.seen_at, told.sampling) = (Some("198.51.100.1".into()), 100);
    let expected: Vec<Observation> = (0..50).map(|i| flow(1 + i, now)).chain([told.clone()]).collect();
    a.add(Batch { since: now - S, now, flows: expected[..50].to_vec(), ..Batch::default() });
    assert_eq!(flushed(&a).segments.len(), 1);
    a.add(Batch {
        since: now,
        now: now + S,
        flows: vec![told],
        windows: vec![window(SINK[0], now)],
        ..Batch::default()
    });
    let contents = flushed(&a);
    assert_eq!(contents.segments.iter().map(|s| (s.flows, s.windows)).collect::<Vec<_>>(), [(50, 0), (1, 1)]);
    assert_eq!(contents.since(now), (S, 1, 1));
    assert_eq!(read(dir.path()), expected);
    let report = a.report();
    assert_eq!((report.files, report.flows, report.lost, report.failing.as_str()), (2, 51, 0, ""));
    assert_eq!((report.oldest_us, report.newest_us), (Some(now - S), Some(now + S)));
    a.close();
}

#[test]
fn a_kill_loses_the_open_file_alone_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    let mut a = Archive::start(dir.path(), config()).unwrap();
    a.add(batch(wall_us(), 10));
    flushed(&a);
    a.add(batch(wall_us(), 10));
    wait("the open file", || a.contents().segments.len() == 2);
    // As a kill leaves it: nobody closes anything.
    std::mem::forget(a);
    let names = || std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(names().len(), 4, "{:?}", names());
    std::fs::write(folder.join("0000000000000001-0000000000000002-3-4.side.zst"), b"").unwrap();
    let again = Archive::start(dir.path(), config()).unwrap();
    assert_eq!(flushed(&again).segments.len(), 1);
    assert_eq!((names().len(), read(dir.path()).len()), (2, 10), "{:?}", names());
}

fn wait(what: &str, mut there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_oldest_goes_first_by_size_and_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let now = wall_us();
    let small = Record { max_size: 1_000_000, ..config() };
    let mut a = Archive::start(dir.path(), small.clone()).unwrap();
    for i in 0..40 {
        // Numbers whose differences are dissimilar as well, so that they take room.
        let mixed = |n: u64, by: u64| {
            let product = n.wrapping_mul(by);
            (product ^ (product >> 32)).wrapping_mul(by)
        };
        let mut b = batch(now + i * S, 2_000);
        for (n, o) in b.flows.iter_mut().enumerate() {
            o.record.fwd.bytes = mixed(n as u64 + i, 0x9e37_79b9_7f4a_7c15);
            o.record.bwd.bytes = mixed(n as u64 + i, 0xbf58_476d_1ce4_e5b9);
        }
        a.add(b);
        flushed(&a);
    }
    let contents = a.contents();
    let bytes: u64 = contents.segments.iter().map(|s| s.bytes).sum();
    assert!(bytes <= small.max_size && contents.segments.len() > 3, "{bytes} in {}", contents.segments.len());
    assert_eq!(contents.segments.last().unwrap().end_us, now + 39 * S);
    assert!(contents.segments[0].begin_us > now, "the first ones are gone");
    a.configure(&Record { max_age: Duration::from_secs(60), ..small.clone() });
    let segments = flushed(&a).segments.len();
    // A restart finds the limits as they are.
    a.close();
    let old = now - 3600 * S;
    let folder = dir.path().join(FOLDER);
    for ext in ["parquet", "side.zst"] {
        let stem = files::Segment::stem(old, old + S, 1, 1);
        std::fs::write(folder.join(format!("{stem}.{ext}")), b"old").unwrap();
    }
    let again = Archive::start(dir.path(), Record { max_age: Duration::from_secs(60), ..small }).unwrap();
    assert_eq!(flushed(&again).segments.len(), segments);
    assert!(again.contents().segments[0].begin_us > old);
}

#[test]
fn a_disk_that_cannot_be_written_costs_recordings_which_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    // No folder can be made where a file is.
    std::fs::write(dir.path().join(FOLDER), b"in the way").unwrap();
    let mut a = Archive::start(dir.path(), config()).unwrap();
    let now = wall_us();
    a.add(batch(now, 10));
    a.add(batch(now + S, 20));
    wait("the count", || a.lost() == 30);
    assert!(a.report().failing.contains("cannot record flows"), "{:?}", a.report());
    std::fs::remove_file(dir.path().join(FOLDER)).unwrap();
    std::fs::create_dir(dir.path().join(FOLDER)).unwrap();
    a.add(batch(now + 60 * S, 5));
    assert_eq!(flushed(&a).segments.len(), 1, "{:?}", a.report());
    assert_eq!((a.lost(), a.report().failing.as_str()), (30, ""));
    // And that something is missing is known to whoever learns from it.
    let recording = span(dir.path(), now - S, now + 61 * S).recording().unwrap();
    assert_eq!((recording.flows, recording.left_out.degraded_us), (5, 2 * S));
}

#[test]
fn a_queue_that_is_full_is_no_reason_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    // The disk stands still: nobody takes anything out of the queue.
    let (queue, messages) = sync_channel(MAX_BATCHES);
    let mut a = Archive {
        dir: dir.path().join(FOLDER),
        config: config(),
        queue,
        waiting: Arc::new(AtomicUsize::new(0)),
        contents: Arc::default(),
        missed: Missed::default(),
        untold: false,
        lost: 0,
        thread: None,
    };
    let now = wall_us();
    for i in 0..5 {
        let mut b = batch(now + i * S, 60_000);
        b.against = vec![format!("203.0.113.{i}").parse().unwrap()];
        a.add(b);
    }
    assert_eq!((a.lost(), a.waiting.load(Ordering::Acquire)), (2 * 60_000, 180_000));
    // With room again, the next one tells what is missing, and whose flows those were.
    for _ in 0..3 {
        assert!(matches!(messages.try_recv(), Ok(Message::Batch(_))));
    }
    a.waiting.store(0, Ordering::Release);
    a.add(batch(now + 5 * S, 1));
    let Ok(Message::Batch(b)) = messages.try_recv() else { panic!("it was taken") };
    assert_eq!((b.since, b.degraded.as_deref()), (now + 2 * S, Some("120000 flows were not recorded")));
    assert_eq!(b.against.len(), 2);
}

#[test]
fn what_must_not_be_learned_is_left_out_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Archive::start(dir.path(), config()).unwrap();
    let t0 = wall_us() / S * S;
    for i in 0..100 {
        let mut b = batch(t0 + i * S, 4);
        if i == 10 {
            b.against = vec![SINK[0].parse().unwrap()];
        }
        if (50..60).contains(&i) {
            b.degraded = Some("packets were not counted".into());
        }
        let mut exported = flow(FIRST_ID + i, t0 + i * S);
        exported.record.client = "198.51.100.9".parse().unwrap();
        exported.seen_at = Some("198.51.100.1".into());
        b.flows.push(exported);
        if i == 30 {
            // Another file from here on.
            flushed(&a);
        }
        a.add(b);
    }
    flushed(&a);
    let from = span(dir.path(), t0 - S, t0 + 100 * S);
    let recording = from.recording().unwrap();
    let out = &recording.left_out;
    // Of four flows an epoch two are of each source; eleven epochs of flows and twelve windows reach into what is degraded.
    assert_eq!((out.sources, out.rows), (1, 300), "{out:?}");
    assert_eq!((out.degraded_us, out.exported), (10 * S, 89), "{out:?}");
    assert_eq!((recording.flows, recording.windows, out.degraded_rows), (200 - 22, 100 - 12, 33 + 12), "{out:?}");
    let words = out.words().join(", ");
    assert!(words.contains("300 rows of 1 source with evidence against it"), "{words}");
    assert!(words.contains("89 rows told by exporters that are not listened to any more"), "{words}");

    // Whose exports are taken today are learned from, and decisions of today count as well.
    let taken = Span { exporters: Some(vec!["198.51.100.0/28".parse().unwrap()]), ..from.clone() };
    let recording = taken.recording().unwrap();
    assert_eq!(recording.left_out.exported, 0, "{:?}", recording.left_out);
    let decided = Span { against: vec!["192.0.2.0/24".parse().unwrap()], ..taken };
    let recording = decided.recording().unwrap();
    assert_eq!((recording.left_out.sources, recording.windows), (2, 0));

    // Only of the time that is asked for; and what was held against a source long before is past.
    let late = Span { since_us: t0 + 80 * S, ..from };
    assert_eq!(late.recording().unwrap().windows, 2 * 19);
    let words = Span { since_us: t0 + 200 * S, until_us: t0 + 300 * S, ..late }.recording().err().unwrap();
    assert!(words.starts_with("nothing of that time is recorded"), "{words}");
    a.close();
}

#[test]
fn what_people_said_decides_what_is_learned_and_false_alarms_are_a_small_part() {
    use crate::learn::{Labelled, MAX_SHARE};
    use weir_core::label::{Labels, NewLabel, Truth};
    use weir_core::suppression::Suppressions;
    let dir = tempfile::tempdir().unwrap();
    let mut a = Archive::start(dir.path(), config()).unwrap();
    let t0 = wall_us() / S * S;
    for i in 0..200 {
        let mut b = batch(t0 + i * S, 4);
        // Evidence against the one that a person vouches for.
        b.against = if i == 10 { vec![SINK[0].parse().unwrap()] } else { Vec::new() };
        a.add(b);
    }
    flushed(&a);
    let from = span(dir.path(), t0 - S, t0 + 200 * S);
    let plain = from.recording().unwrap();
    assert_eq!((plain.flows, plain.vouched, plain.left_out.rows), (400, 0, 600), "{:?}", plain.left_out);
    let said = |truth, source: usize| {
        let mut labels = Labels::default();
        let new = NewLabel {
            alert_id: 1,
            source: SINK[source].parse().unwrap(),
            from_us: t0 + 50 * S,
            to_us: t0 + 99 * S,
            ports: Vec::new(),
            truth,
            comment: String::new(),
            by: "me".into(),
            suppression_id: None,
        };
        labels.add(new, t0).unwrap();
        Span { labelled: Labelled::new(&labels, &Suppressions::default()), ..from.clone() }.recording().unwrap()
    };
    let vouched = said(Truth::FalseAlarm, 0);
    let others = vouched.flows + vouched.windows;
    assert_eq!(others, plain.flows + plain.windows, "others are learned from as before");
    assert!(vouched.vouched > 0 && vouched.vouched as f64 <= MAX_SHARE * (others + vouched.vouched) as f64 + 1.0);
    assert!(vouched.left_out.words().join(", ").contains("of false alarms beyond"), "{:?}", vouched.left_out);
    let attack = said(Truth::Attack, 1);
    assert!(attack.flows < plain.flows && attack.left_out.attacks > 100, "{:?}", attack.left_out);
    assert!(attack.left_out.words().join(", ").contains("labelled as attacks"));
    assert_eq!(said(Truth::Unsure, 1).flows, plain.flows, "who is not sure says nothing");
}

#[test]
fn files_whose_notes_are_gone_are_not_learned_from() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Archive::start(dir.path(), config()).unwrap();
    let now = wall_us();
    a.add(batch(now, 3));
    let side = flushed(&a).segments[0].side();
    a.add(batch(now + S, 5));
    flushed(&a);
    std::fs::write(side, b"damaged").unwrap();
    let recording = span(dir.path(), now - S, now + 2 * S).recording().unwrap();
    assert_eq!((recording.flows, recording.windows, recording.left_out.unreadable), (5, 2, 1));
}

#[test]
fn nothing_is_recorded_where_it_is_turned_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Archive::start(dir.path(), config()).unwrap();
    a.add(batch(wall_us(), 3));
    a.configure(&Record { enabled: false, ..config() });
    a.add(batch(wall_us() + S, 5));
    let contents = flushed(&a);
    assert_eq!(contents.segments.iter().map(|s| s.flows).collect::<Vec<_>>(), [3], "what was recorded stays");
    assert_eq!(a.lost(), 0);
}

/// Rows as they were live: a window's row is not made again from its flows.
#[test]
fn recorded_windows_are_the_rows_that_were_scored() {
    let windows = [window(SINK[0], 10 * S), SourceWindow { role: Role::SourceProven, ..window(SINK[1], 10 * S) }];
    let live = weir_core::feature::source_matrix(&windows);
    let mut again = weir_core::matrix::FeatureMatrix::new(ProfileId::Source);
    for w in side::Window::of(11 * S, &windows) {
        let line = serde_json::to_string(&side::Line::Window(w)).unwrap();
        let side::Line::Window(w) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
        let o = w.add_to(&mut again).unwrap();
        assert_eq!((o.time_us, o.actionable), (11 * S, true));
    }
    assert_eq!(again, live);
}
