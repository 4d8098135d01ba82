use super::*;
use crate::testkit::{S, addr};

/// SplitMix64: the same numbers on every run.
struct Rng(u64);
impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    /// A conformal p-value of a benign observation, calibrated on `n`.
    fn p(&mut self, n: u64) -> f64 {
        (1 + self.below(n + 1)) as f64 / (n + 1) as f64
    }
}

const W: u64 = 2 * S;

fn flow(t: u64, source: Addr, flow_id: u64, p: f64, proven: bool) -> Observation {
    let kind = ObservationKind::Flow { flow_id, proto: 6, port: 443, proven, first_record: true };
    Observation { time_us: t, source, p, actionable: true, kind }
}

fn row(t: u64, source: Addr, p: f64, role: Role) -> Observation {
    let kind = ObservationKind::Window { role, start_us: (t - 1) / W * W, early: false };
    Observation { time_us: t, source, p, actionable: true, kind }
}

fn host(i: u64) -> Addr {
    addr(&format!("198.18.{}.{}", i / 256, i % 256))
}

/// Benign sources: a few flows each per second, the first `busy` ones forty, and a row of each role per window.
fn benign(rng: &mut Rng, n: u64, sources: u64, busy: u64, seconds: u64, t0: u64) -> Vec<Observation> {
    uneven(rng, n, sources, busy, seconds, t0, 0.0)
}

/// The same where sources differ: each one's p-values are raised to a power between `1 - by` and `1 + by`, so that
/// some are persistently stranger than others.
fn uneven(rng: &mut Rng, n: u64, sources: u64, busy: u64, seconds: u64, t0: u64, by: f64) -> Vec<Observation> {
    let p = |rng: &mut Rng, i: u64| {
        let power = 1.0 + by * (2.0 * (i as f64 + 0.5) / sources as f64 - 1.0);
        rng.p(n).powf(power).max(1.0 / (n + 1) as f64)
    };
    let mut obs = Vec::new();
    for s in 1..=seconds {
        let t = t0 + s * S;
        for i in 0..sources {
            for _ in 0..if i < busy { 40 } else { rng.below(4) } {
                let id = rng.next();
                obs.push(flow(t, host(i), id, p(rng, i), true));
            }
            if s.is_multiple_of(2) {
                obs.push(row(t, host(i), p(rng, i), Role::SourceAll));
                obs.push(row(t, host(i), p(rng, i), Role::SourceProven));
            }
        }
    }
    obs
}

fn engine(allowance: [f64; 2]) -> Evidence {
    Evidence::new(EvidenceConfig { window_us: W, allowance, max_sources: 1000 })
}

fn learn(rng: &mut Rng, n: u64, by: f64) -> Thresholds {
    let config = CalibrationConfig { window_us: W, alerts_per_day: 5.0, max_sources: 1000 };
    calibrate(uneven(rng, n, 64, 2, 60, 1_000 * S, by), &config)
}

/// Seconds of benign traffic and an attack beside it until the attacker crosses the drop threshold, and the largest
/// benign level [all, proven] meanwhile and for ten minutes more.
fn attack(rng: &mut Rng, n: u64, by: f64, t: &Thresholds) -> (u64, [f64; 2]) {
    let mut e = engine(t.allowance);
    let (mut crossed, mut worst) = (0, [0.0f64; 2]);
    let attacker = addr("203.0.113.9");
    let floor = 1.0 / (n + 1) as f64;
    let t0 = 5_000 * S;
    let quiet = uneven(rng, n, 64, 2, 600, t0, by);
    for batch in quiet.chunk_by(|a, b| a.time_us == b.time_us) {
        let now = batch[0].time_us;
        let s = (now - t0) / S;
        batch.iter().for_each(|o| e.observe(o));
        if s <= 20 {
            for _ in 0..3 {
                let id = rng.next();
                e.observe(&flow(now, attacker, id, floor * (1 + rng.below(3)) as f64, true));
            }
            if s.is_multiple_of(2) {
                e.observe(&row(now, attacker, floor, Role::SourceAll));
                e.observe(&row(now, attacker, floor, Role::SourceProven));
            }
            if crossed == 0 && e.values(attacker, now)[1] >= t.drop {
                crossed = s;
            }
        }
        for i in 0..64 {
            let v = e.values(host(i), now);
            worst = [worst[0].max(v[0]), worst[1].max(v[1])];
        }
    }
    (crossed, worst)
}

#[test]
fn after_a_minute_of_learning_an_attack_is_caught_in_seconds_and_nobody_else() {
    for n in [400, 800, 1500] {
        for seed in 0..6 {
            let mut rng = Rng(seed * 1000 + n);
            let t = learn(&mut rng, n, 0.0);
            assert!(!t.certified && t.note.contains("too short"), "{}", t.note);
            assert_eq!((t.benign_windows, t.benign_sources), (64 * 30 * 2, 64));
            let (crossed, worst) = attack(&mut rng, n, 0.0, &t);
            assert!((3..=8).contains(&crossed), "n {n} seed {seed}: crossed after {crossed} s, {t:?}");
            assert!(worst[0] < t.alert, "n {n} seed {seed}: a benign source reached {worst:?}, {t:?}");
        }
    }
}

#[test]
fn where_some_sources_are_stranger_than_others_none_of_them_is_dropped() {
    for n in [400, 1500] {
        for seed in 0..6 {
            let mut rng = Rng(seed * 77 + n);
            let t = learn(&mut rng, n, 0.4);
            let (crossed, worst) = attack(&mut rng, n, 0.4, &t);
            assert!((3..=12).contains(&crossed), "n {n} seed {seed}: crossed after {crossed} s, {t:?}");
            assert!(worst[1] < t.drop, "n {n} seed {seed}: a benign source reached {worst:?}, {t:?}");
        }
    }
}

#[test]
fn days_of_data_certify_the_budget_and_keep_it() {
    let mut rng = Rng(7);
    let day = |rng: &mut Rng, t0: u64| {
        // 20 sources with a flow and a row each minute, for three days.
        let mut obs = Vec::new();
        for m in 1..=3 * 1440 {
            for i in 0..20 {
                let (t, id) = (t0 + m * 60 * S, rng.next());
                obs.push(flow(t, host(i), id, rng.p(2000), true));
                obs.push(row(t, host(i), rng.p(2000), Role::SourceAll));
                obs.push(row(t, host(i), rng.p(2000), Role::SourceProven));
            }
        }
        obs
    };
    let config = CalibrationConfig { window_us: W, alerts_per_day: 2.0, max_sources: 100 };
    let t = calibrate(day(&mut rng, 0), &config);
    assert!(t.certified, "{t:?}");
    let mut e = engine(t.allowance);
    let mut alerts = BTreeSet::new();
    for o in day(&mut rng, 0) {
        e.observe(&o);
        if e.values(o.source, o.time_us)[0] >= t.alert {
            alerts.insert((o.source, o.time_us / (600 * S)));
        }
    }
    assert!(alerts.len() <= 12, "budget 6 in three days, got {} ({t:?})", alerts.len());
}

#[test]
fn evidence_does_not_grow_with_activity_alone() {
    let mut rng = Rng(3);
    let mut e = engine([MIN_ALLOWANCE; 2]);
    let (mut peak, mut largest_only) = (0.0f64, 0.0);
    // One source with 200 benign flows per second for half an hour.
    for s in 1..=1800 {
        let mut best = 0.0f64;
        for _ in 0..200 {
            let (id, p) = (rng.next(), rng.p(1000));
            best = best.max(surprise(p));
            e.observe(&flow(s * S, host(1), id, p, true));
        }
        largest_only += best / 2.0;
        peak = peak.max(e.values(host(1), s * S)[0]);
    }
    assert!(peak < MIN_DROP, "{peak}");
    assert!(
        largest_only > 1000.0,
        "adding the largest surprise of each window would have convicted it: {largest_only}"
    );
}

#[test]
fn forged_traffic_in_an_honest_name_stays_out_of_the_proven_sum() {
    let mut e = engine([MIN_ALLOWANCE; 2]);
    let honest = host(1);
    for s in 1..=120 {
        // The honest client's own flows are normal; a forger sends a thousand SYNs a second in its name.
        e.observe(&flow(s * S, honest, s, 0.4, true));
        (0..1000).for_each(|i| e.observe(&flow(s * S, honest, s * 10_000 + i, 1e-4, false)));
        if s % 2 == 0 {
            e.observe(&row(s * S, honest, 1e-4, Role::SourceAll));
            e.observe(&row(s * S, honest, 0.5, Role::SourceProven));
        }
    }
    let [all, proven] = e.values(honest, 120 * S);
    assert!(all > 100.0, "{all}");
    assert_eq!(proven, 0.0);
}

#[test]
fn a_flow_counts_once_however_many_records_it_gives() {
    let mut e = engine([0.0; 2]);
    for s in 1..=10 {
        e.observe(&flow(s * W, host(1), 77, 1e-3, true));
    }
    let once = surprise(1e-3);
    assert!((e.values(host(1), 10 * W)[1] - once).abs() < 0.1, "{:?}", e.values(host(1), 10 * W));
    // A later, stranger record adds the difference.
    e.observe(&flow(11 * W, host(1), 77, 1e-4, true));
    assert!((e.values(host(1), 11 * W)[1] - surprise(1e-4)).abs() < 0.2);
}

#[test]
fn early_and_final_rows_of_a_window_count_as_the_larger() {
    let mut e = engine([0.0; 2]);
    let early = Observation {
        kind: ObservationKind::Window { role: Role::SourceAll, start_us: 0, early: true },
        ..row(S, host(1), 1e-3, Role::SourceAll)
    };
    e.observe(&early);
    e.observe(&row(2 * S, host(1), 1e-4, Role::SourceAll));
    assert!((e.values(host(1), 2 * S)[0] - surprise(1e-4)).abs() < 0.01);
    // Also where the final one arrives in the next window.
    let late = Observation { time_us: 2 * S + 1, ..row(2 * S, host(2), 1e-4, Role::SourceAll) };
    e.observe(&Observation { source: host(2), ..early });
    e.observe(&late);
    assert!((e.values(host(2), 2 * S + 1)[0] - surprise(1e-4)).abs() < 0.02);
}

#[test]
fn what_is_not_actionable_counts_nothing() {
    let mut e = engine([0.0; 2]);
    for s in 1..100 {
        e.observe(&Observation { actionable: false, ..row(s * W, host(1), 1e-9, Role::SourceProven) });
    }
    assert!(e.is_empty());
    assert!(e.take_changed().is_empty());
}

#[test]
fn evidence_fades_with_two_half_lives() {
    let mut e = engine([0.0; 2]);
    for w in 1..=10 {
        e.observe(&row(w * W, host(1), 1e-4, Role::SourceProven));
    }
    let at = 10 * W;
    let v = e.values(host(1), at)[1];
    let in_10_min = e.values(host(1), at + 600 * S)[1];
    assert!((in_10_min / v - 0.5).abs() < 0.02, "the fast memory has halved: {v} -> {in_10_min}");
    let in_an_hour = e.values(host(1), at + 3600 * S)[1];
    assert!((in_an_hour / v - 0.5).abs() < 0.05, "the slow one counts half and holds: {in_an_hour}");
    let in_two_days = e.values(host(1), at + 2 * 86_400 * S)[1];
    assert!((in_two_days / v - 0.125).abs() < 0.02, "{in_two_days}");
}

#[test]
fn a_slow_attacker_is_caught_within_the_day() {
    let mut e = engine([MIN_ALLOWANCE; 2]);
    let mut crossed = None;
    // One strange window every twenty minutes: the fast memory forgets three quarters in between.
    for i in 1..72 {
        let t = i * 1200 * S;
        e.observe(&row(t, host(1), 1.0 / 1001.0, Role::SourceProven));
        if crossed.is_none() && e.values(host(1), t)[1] >= 18.0 {
            crossed = Some(i / 3);
        }
    }
    assert!(crossed.is_some_and(|h| h <= 8), "{crossed:?}");
}

#[test]
fn addresses_of_one_64_add_up() {
    let mut e = engine([MIN_ALLOWANCE; 2]);
    let member = |i: u64| addr(&format!("2001:db8:66:1::{i:x}"));
    for w in 1..=8 {
        // A fresh address for every window.
        e.observe(&flow(w * W, member(w), w, 1e-4, true));
        e.observe(&row(w * W, member(w), 1e-4, Role::SourceProven));
        e.observe(&row(w * W, member(w), 1e-4, Role::SourceAll));
    }
    let now = 8 * W;
    let (own, net) = (e.level(member(8), now).unwrap(), e.net_level(member(8), now).unwrap());
    assert!(own.proven < MIN_DROP && net.proven > 3.0 * MIN_DROP, "{own:?} {net:?}");
    assert_eq!((net.offenders, own.offenders), ([8, 8], [0, 0]));
    assert_eq!(e.take_changed().len(), 8);
    assert!(e.net_level(host(1), now).is_none());
    e.forget(member(8));
    assert!(e.net_level(member(8), now).is_none());
}

#[test]
fn a_flood_of_sources_forgets_those_with_the_least_evidence() {
    let mut e = Evidence::new(EvidenceConfig { window_us: W, allowance: [MIN_ALLOWANCE; 2], max_sources: 64 });
    for w in 1..=5 {
        e.observe(&row(w * W, host(0), 1e-4, Role::SourceProven));
        e.observe(&row(w * W, host(0), 1e-4, Role::SourceAll));
    }
    for i in 1..10_000 {
        e.observe(&flow(5 * W + i, host(i), i, 1e-4, false));
    }
    assert!(e.len() <= 64 && e.evicted() > 9_000);
    assert!(e.values(host(0), 6 * W)[1] > 20.0);
    assert_eq!(e.top(1, 6 * W)[0].0, host(0));
}

#[test]
fn one_window_never_reaches_the_drop_threshold() {
    let mut e = engine([MIN_ALLOWANCE; 2]);
    for id in 0..1000 {
        e.observe(&flow(W, host(1), id, 0.0, true));
    }
    e.observe(&row(W, host(1), 0.0, Role::SourceProven));
    e.observe(&row(W, host(1), 0.0, Role::SourceAll));
    assert!(e.values(host(1), W)[1] < MIN_DROP);
}

#[test]
fn a_benign_source_that_is_always_strange_is_named_and_left_out() {
    let mut rng = Rng(5);
    let mut obs = benign(&mut rng, 800, 64, 0, 60, 0);
    for s in (2..=60).step_by(2) {
        obs.push(row(s * S, addr("192.0.2.99"), 1e-4, Role::SourceAll));
    }
    let t = calibrate(obs, &CalibrationConfig { window_us: W, alerts_per_day: 5.0, max_sources: 1000 });
    assert!(t.note.contains("192.0.2.99"), "{}", t.note);
    assert_eq!(t.strange, [addr("192.0.2.99")]);
    assert!(t.alert < 20.0 && t.allowance[0] < 1.0, "it does not blind the agent to others: {t:?}");
    let mut elsewhere = t.clone();
    elsewhere.forget_sources();
    assert!(elsewhere.strange.is_empty() && !elsewhere.note.contains("192.0.2.99"), "{}", elsewhere.note);
    assert!(elsewhere.note.contains("1 of the sources were unusual throughout"), "{}", elsewhere.note);
}

#[test]
fn nothing_learned_gives_no_calibration() {
    let t = calibrate([], &CalibrationConfig { window_us: W, alerts_per_day: 5.0, max_sources: 10 });
    assert_eq!(t, Thresholds::uncalibrated());
}

#[test]
fn the_rows_of_a_window_count_once_though_the_next_window_speaks_in_between() {
    let level = |rows: &[(u64, bool)]| {
        let mut e = Evidence::new(EvidenceConfig { window_us: W, allowance: [0.0; 2], max_sources: 8 });
        for &(start_us, early) in rows {
            let kind = ObservationKind::Window { role: Role::SourceAll, start_us, early };
            e.observe(&Observation { time_us: W + S, source: host(1), p: 1e-3, actionable: true, kind });
        }
        e.values(host(1), W + S)[ALL]
    };
    let expected = level(&[(0, false), (W, false)]);
    assert_eq!(level(&[(0, true), (W, true), (0, false), (W, false)]), expected);
    assert!(expected > level(&[(0, true), (0, false)]));
}
