use super::*;

const NOW: TimeUs = 1_800_000_000_000_000;
const MINUTE: u64 = 60_000_000;

fn outcome(outcome: &str, reasons: &[&str]) -> pb::SourceOutcome {
    pb::SourceOutcome {
        outcome: outcome.into(),
        alerted_us: (!reasons.is_empty()).then_some(NOW - MINUTE),
        severity: if reasons.is_empty() { "" } else { "high" }.into(),
        evidence: 31.25,
        ports: vec![22, 23],
        reasons: reasons.iter().map(|r| (*r).to_owned()).collect(),
        ..Default::default()
    }
}

#[test]
fn a_comparison_is_readable() {
    let bundle = |id: &str, alerts| pb::ComparedBundle { id: id.into(), alerts, drops: 1, ..Default::default() };
    let rate = pb::RealisedRate {
        asked: 0.01,
        a: 0.0125,
        a_low: 0.01,
        a_high: 0.02,
        b: 0.5,
        b_low: 0.4,
        b_high: 0.6,
        a_certified: true,
        b_certified: false,
    };
    let profile = pb::ComparedProfile {
        name: "core".into(),
        rows: 1_000,
        anomalies_b: 40,
        shift: 0.25,
        rates: vec![rate],
        attacks: 7,
        attacks_a: 5,
        ..Default::default()
    };
    let source = |a, b| pb::SourceDifference { source: "192.0.2.9\u{1b}".into(), a: Some(a), b: Some(b) };
    let c = pb::Comparison {
        over: "live traffic".into(),
        first_us: NOW - 90 * MINUTE,
        last_us: NOW,
        a: Some(bundle("aaaa", 3)),
        b: Some(bundle("bbbb", 4)),
        profiles: vec![profile],
        sources: Some(pb::SourceCounts { alerted_a: 1, alerted_b: 2, differing: 3, ..Default::default() }),
        differences: vec![source(outcome("nothing", &[]), outcome("drop", &["212 distinct ports; usual: 1 to 4"]))],
        more_differences: 2,
        epochs_left_out: 5,
        cpu_us: 2_500_000,
        notes: vec!["mind the gap".into()],
        ..Default::default()
    };
    assert_eq!(
        comparison(&c, NOW),
        "\
A: bundle aaaa
B: bundle bbbb
over live traffic, 1h30m; 2s of processor time
note: mind the gap
note: 5 epochs are in neither share, since the comparison was behind

WHAT WOULD BE DONE     A  B  BOTH
sources alerted about  1  2     0
sources dropped        0  0     0
alerts                 3  4     -
drops                  1  1     -
shadow entries         0  0     -

profile core: 1,000 flow records
  RATE ASKED       A  95 % INTERVAL     B  95 % INTERVAL
         1 %  1.25 %     1 % to 2 %  50 %   40 % to 60 %  beyond B's calibration
  p-values at most 1 %: 0 by both, 0 by A alone, 40 by B alone
  distance of the p-values of A and B 0.250; from uniform ones 0.000 and 0.000 (0: the same, 1: apart)
  labelled as attacks, in none of these rates: 7, of which A finds 5 and B 0 at 1 %

Sources about which they differ: 3
SOURCE      A        B     FIRST   EVIDENCE  PORTS  WHY
192.0.2.9\u{fffd}  nothing  drop  1m ago      31.2  22,23  212 distinct ports; usual: 1 to 4
and 2 more
"
    );
    let same = pb::Comparison { sources: None, differences: Vec::new(), ..c };
    assert!(comparison(&same, NOW).ends_with("About every source both would do the same.\n"));
}

#[test]
fn a_bundle_is_readable() {
    let b = pb::BundleDetail {
        hash: "0123456789ab".into(),
        bundle_version: 1,
        weir_version: "1.2.3".into(),
        seed: 7,
        source: "1000 flows of files".into(),
        trained_at_us: Some(NOW - 90 * MINUTE),
        first_us: 1,
        last_us: 1 + 30 * MINUTE,
        window_us: 10_000_000,
        bytes: 1_500,
        unfit: "it has no profile source, which an agent scores by".into(),
        profiles: vec![pb::ProfileDetail {
            name: "core".into(),
            golden_vectors: 16,
            roles: vec![pb::RoleDetail {
                role: "all".into(),
                calibration_1: 150,
                calibration_2: 199,
                smallest_rate: 0.005,
                actionable: false,
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(
        detail(&b, NOW),
        "\
bundle 0123456789ab (version 1, 1.5 kB)
  origin      1000 flows of files
  trained     1h30m ago by Weir 1.2.3, seed 7
  rows over   30m
  windows     10s long
  evidence    no thresholds: nothing that it finds leads to an action
  for         no agent: it has no profile source, which an agent scores by

profile core: 0 features, 16 golden vectors
  MODEL  FILE  SIZE  OPSET  SHA-256
  ROLE  CALIBRATED ON  SMALLEST RATE  MAY LEAD TO AN ACTION
  all       150 + 199          0.5 %  no: too few rows
"
    );
}
