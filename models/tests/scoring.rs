//! What a trained bundle says about traffic it has not seen.

mod common;

use common::{TRAINED, benign, scans, trained};
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::role::Role;
use weir_core::suppose::suppose;
use weir_models::{Change, ROLE_MIN_ROWS, Unless, unless_words, words};

/// Share of rows with `p` at most `alpha`.
fn rate(p: &[f32], alpha: f32) -> f64 {
    p.iter().filter(|p| **p <= alpha).count() as f64 / p.len() as f64
}

#[test]
fn benign_p_values_are_uniform_and_scans_get_the_smallest() {
    // Enough for every role to have a calibration of its own: rows that fall back to a wider role are a selection from it.
    let bundle = trained(18_000);
    let bundle = bundle.bundle();
    for profile in TRAINED {
        let fresh = benign(profile, 20_000, 77).matrix;
        let scored = bundle.score(&fresh).expect("scores");
        assert!(scored.iter().all(|s| s.p > 0.0 && s.p <= 1.0 && s.p.is_finite() && s.actionable));
        let p: Vec<f32> = scored.iter().map(|s| s.p).collect();
        for alpha in [0.5, 0.1, 0.05, 0.01] {
            let realised = rate(&p, alpha);
            // Three standard deviations of a calibration set of 1,080 rows, and of the test's own rows.
            let slack = 3.0 * (f64::from(alpha) * (1.0 - f64::from(alpha)) * (1.0 / 1_080.0 + 1.0 / 20_000.0)).sqrt();
            assert!((realised - f64::from(alpha)).abs() < slack, "{profile}: realised rate {realised} at {alpha}");
        }
    }
    let scored = bundle.score(&scans(200, 5)).expect("scores");
    let floor = 1.0 / 3_601.0;
    assert!(scored.iter().all(|s| s.p < 3.0 * floor), "scans: {:?}", scored.iter().map(|s| s.p).fold(0.0, f32::max));
    assert!(scored.iter().all(|s| s.score().get() > 0.998));
}

#[test]
fn roles_with_few_rows_use_their_parent() {
    let trained = trained(8_000);
    let summary: Vec<_> = trained.summary().collect();
    let (_, core) = summary.iter().find(|(n, _)| *n == "core").expect("core was trained");
    let web_share = core.roles[&common::WEB] as f64 / core.rows as f64;
    assert!((0.6..0.8).contains(&web_share));
    let fresh = benign(ProfileId::Core, 500, 3).matrix;
    let scored = trained.bundle().score(&fresh).expect("scores");
    for (i, s) in scored.iter().enumerate() {
        // 70% of 1,600 calibration rows are web, so name queries are below the minimum at every level of their own.
        let expected = if fresh.role(i) == common::WEB { common::WEB } else { Role::All };
        assert!(s.role == expected, "a row of {} was compared with {}", fresh.role(i), s.role);
    }
    assert!(core.calibration_1_rows as usize > ROLE_MIN_ROWS);

    // Windows over all flows and over proven ones have 800 rows each: both fall back to the two pooled.
    let fresh = benign(ProfileId::Source, 100, 3).matrix;
    assert!(trained.bundle().score(&fresh).expect("scores").iter().all(|s| s.role == Role::All && s.actionable));
}

#[test]
fn with_under_200_calibration_rows_nothing_is_actionable() {
    let trained = trained(600);
    let scored = trained.bundle().score(&scans(10, 5)).expect("scores");
    assert!(scored.iter().all(|s| !s.actionable && s.role == Role::All && s.p < 0.05));
}

#[test]
fn a_row_scores_the_same_in_any_batch() {
    let trained = trained(2_000);
    for profile in TRAINED {
        let rows = benign(profile, 1_025, 9).matrix;
        let all = trained.bundle().score(&rows).expect("scores");
        assert_eq!(all.len(), 1_025);
        for n in [1, 2, 63, 64, 65, 1_025] {
            // The last n rows, so that they lie elsewhere in their batches than before.
            let mut some = FeatureMatrix::new(profile);
            (1_025 - n..1_025).for_each(|i| some.push_from(&rows, i));
            let scored = trained.bundle().score(&some).expect("scores");
            for (s, a) in scored.iter().zip(&all[1_025 - n..]) {
                assert_eq!((s.p, s.p_autoencoder, s.p_isolation_forest), (a.p, a.p_autoencoder, a.p_isolation_forest));
                assert_eq!(
                    (s.role, s.actionable, s.raw_isolation_forest),
                    (a.role, a.actionable, a.raw_isolation_forest)
                );
                // Matrix products of another shape may round otherwise.
                assert!(
                    (s.raw_autoencoder - a.raw_autoencoder).abs() <= 2e-6 * a.raw_autoencoder,
                    "{profile}, {n}: {s:?} {a:?}"
                );
            }
        }
    }
    assert!(trained.bundle().score(&FeatureMatrix::new(ProfileId::Core)).expect("scores").is_empty());
}

#[test]
fn explanations_name_what_is_strange() {
    let trained = trained(4_000);
    let bundle = trained.bundle();
    for profile in TRAINED {
        let rows = benign(profile, 60, 21).matrix;
        let plant = |name: &str, value: f32| {
            let j = profile.features().iter().position(|f| f.name == name).expect("a feature of the profile");
            let mut found = 0;
            for i in 0..rows.len() {
                let mut row = rows.row(i).to_vec();
                row[j] = value;
                let c = bundle.explain(profile, &row, rows.present(i) | 1 << j).expect("explains");
                let total: f32 = c.iter().map(|c| c.share).sum();
                assert!((total - 1.0).abs() < 1e-4, "shares sum to {total}");
                assert!(c.windows(2).all(|w| w[0].share >= w[1].share));
                assert!(
                    c.iter().all(|c| (rows.present(i) | 1 << j) >> c.feature & 1 == 1),
                    "a missing value was blamed"
                );
                found += usize::from(c[0].feature == j);
            }
            assert!(found >= 55, "{profile}: `{name}` came first in {found} of 60 rows");
        };
        match profile {
            ProfileId::Core | ProfileId::Full => plant("fwd_mean_size", 40_000.0),
            ProfileId::Source => {
                plant("ports", 300.0);
                // Always 0 in benign data, so that the forest never splits on it.
                plant("icmp_share", 1.0);
            }
        }
    }
    let c = bundle.explain(ProfileId::Source, scans(1, 5).row(0), (1 << 18) - 1).expect("explains");
    let ports = c.iter().find(|c| c.feature == 2).expect("ports are present");
    let text = words(ports, ProfileId::Source);
    assert!(text.starts_with("distinct ports contacted ") && text.ends_with("(usually 1 to 3)"), "{text}");
}

#[test]
fn what_would_have_made_it_no_anomaly_is_true_and_small() {
    const P: f32 = 0.02;
    let trained = trained(8_000);
    let bundle = trained.bundle();
    let mut found = [0; 2];
    for profile in TRAINED {
        let column = |name: &str| profile.features().iter().position(|f| f.name == name).expect("a feature");
        let rows = benign(profile, 60, 21).matrix;
        for i in 0..rows.len() {
            let (mut row, present, role) = (rows.row(i).to_vec(), rows.present(i), rows.role(i));
            // All else as usual: a source that tries hundreds of ports, a client that sends packets as large as no other's.
            let planted = if profile == ProfileId::Source {
                suppose(profile, &mut row, present, column("ports"), 300.0);
                vec!["flows", "ports", "host_ports", "hosts"]
            } else {
                suppose(profile, &mut row, present, column("fwd_mean_size"), 40_000.0);
                vec!["fwd_mean_size", "fwd_bytes", "fwd_packets", "byte_ratio", "bytes_per_s"]
            };
            let p = |row: &[f32]| {
                let mut m = FeatureMatrix::new(profile);
                let row: Vec<_> = row.iter().enumerate().map(|(j, v)| (present >> j & 1 == 1).then_some(*v)).collect();
                m.push(&row, role).expect("finite");
                bundle.score(&m).expect("scores")[0].p
            };
            if p(&row) > P {
                continue;
            }
            let all = bundle.explain(profile, &row, present).expect("explains");
            let unless = bundle.unless(profile, &row, present, role, P, &all).expect("scores");
            let Some(unless) = unless else { continue };
            // It is as was said.
            let mut otherwise = row.clone();
            for c in &unless.changes {
                assert_eq!(c.observed, row[c.feature]);
                assert!(c.to != c.observed && suppose(profile, &mut otherwise, present, c.feature, c.to));
            }
            assert!(unless.p > P && p(&otherwise) == unless.p, "{unless:?}: {}", p(&otherwise));
            let names: Vec<_> = unless.changes.iter().map(|c| profile.features()[c.feature].name).collect();
            found[0] += 1;
            found[1] += usize::from(names.len() == 1 && planted.contains(&names[0]));
            let text = unless_words(&unless, profile);
            assert!(text.starts_with("with ") && text.ends_with(" it would not have been an anomaly"), "{text}");
        }
    }
    assert!(found[0] >= 80 && found[1] * 10 >= found[0] * 7, "{found:?}");
    let ports = Change { feature: 2, observed: 212.0, to: 14.0 };
    let text = unless_words(&Unless { changes: vec![ports], p: 0.02 }, ProfileId::Source);
    assert_eq!(text, "with at most 14 distinct ports contacted it would not have been an anomaly");
}

#[test]
fn reasons_have_sensible_units() {
    let say = |profile: ProfileId, name: &str, observed: f32, low: f32, high: f32| {
        let feature = profile.features().iter().position(|f| f.name == name).expect("a feature of the profile");
        let (usual_low, usual_median, usual_high) = (low, low, high);
        let c = weir_models::Contribution { feature, share: 1.0, observed, usual_low, usual_median, usual_high };
        words(&c, profile)
    };
    use ProfileId::{Core, Source};
    assert_eq!(say(Source, "ports", 47.0, 1.0, 3.0), "distinct ports contacted 47 (usually 1 to 3)");
    assert_eq!(
        say(Source, "unanswered_share", 0.93, 0.0, 0.125),
        "share of flows without an answer 93 % (usually 0 % to 12.5 %)"
    );
    assert_eq!(
        say(Core, "fwd_bytes", 2_500_000.0, 40.0, 9_000.0),
        "bytes sent by the client 2.5 MB (usually 40 bytes to 9 kB)"
    );
    assert_eq!(say(Core, "duration", 0.25, 0.000_02, 60.0), "duration 250 ms (usually 20 µs to 60 s)");
    assert_eq!(say(Core, "proto_udp", 1.0, 0.0, 0.0), "is UDP yes (usually no)");
    assert_eq!(say(Core, "end_state", 4.0, 1.0, 2.0), "how the flow ended rejected (usually established to closed)");
}
