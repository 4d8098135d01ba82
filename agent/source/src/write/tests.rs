use weir_core::event::{Anomaly, Reason};
use weir_core::record::Have;
use weir_core::role::Role;

use super::*;
use crate::testkit::{flows, plain, written};

fn anomaly(p_value: f32) -> Anomaly {
    Anomaly {
        profile: "core",
        p_value,
        autoencoder: 0.5,
        isolation_forest: 0.25,
        role: Role::All,
        actionable: true,
        extrapolated: false,
        default_bundle: false,
        reasons: vec![Reason {
            feature: "duration",
            words: "duration 3 h (usually 1 s to 2 s)".into(),
            observed: 1.0,
            usual_low: 1.0,
            usual_high: 2.0,
            nearest_usual: 2.0,
            share: 0.9,
            unless: vec![],
        }],
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn csv_quotes_what_needs_it_and_has_a_row_per_flow() {
    let mut odd = plain(1);
    odd.label = Some("say \"no\",\nnow".into());
    let bytes = flows(Form::Csv, &[odd, plain(2)]);
    let mut reader = ::csv::Reader::from_reader(bytes.as_slice());
    let header = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().collect::<Result<_, _>>().unwrap();
    let get = |i: usize, name: &str| rows[i].get(header.iter().position(|h| h == name).unwrap()).unwrap().to_owned();
    assert_eq!(rows.len(), 2);
    assert_eq!((get(0, "label"), get(1, "label")), ("say \"no\",\nnow".into(), "Benign".into()));
    assert_eq!((get(0, "start"), get(0, "src_ip")), ("2025-01-01T00:00:00.000001Z".into(), "192.0.2.7".into()));
    assert_eq!((get(0, "bytes_toclient"), get(0, "vlan_outer")), ("3000".into(), String::new()));
    assert!(text(bytes).starts_with("flow_id,start,end,"));
}

#[test]
fn the_scored_table_has_the_six_columns() {
    let (strange, usual) = (anomaly(0.004), anomaly(0.4));
    let (a, b, c) = (plain(1), plain(2), plain(3));
    let rows = [(&a, Some(&strange)), (&b, Some(&usual)), (&c, None)];
    let rows = rows.map(|(flow, anomaly)| Row { flow, anomaly, anomaly_p: 0.01 });
    let plain = text(written(Form::Table, Shape { scored: true, explained: false }, &rows));
    assert_eq!(
        plain,
        "Timestamp                    Src IP     Dst IP    Protocol   Score  Anomaly\n\
         2025-01-01T00:00:00.000001Z  192.0.2.7  10.0.0.1  tcp       0.9960  yes\n\
         2025-01-01T00:00:00.000002Z  192.0.2.7  10.0.0.1  tcp       0.6000  no\n\
         2025-01-01T00:00:00.000003Z  192.0.2.7  10.0.0.1  tcp            -  -\n"
    );
    let why = text(written(Form::Table, Shape { scored: true, explained: true }, &rows));
    assert!(why.lines().nth(1).unwrap().ends_with("  yes      duration 3 h (usually 1 s to 2 s)"), "{why}");
    assert!(why.lines().nth(2).unwrap().ends_with("  no"), "{why}");
}

#[test]
fn a_table_goes_on_in_its_columns_and_cannot_steer_the_terminal() {
    let mut all: Vec<_> = (1..700).map(plain).collect();
    all[650].label = Some("a\x1b[2Jb".into());
    all[660].record.have = Have::NONE;
    let table = text(flows(Form::Table, &all));
    assert_eq!(table.lines().count(), 700);
    assert!(table.contains("a\u{fffd}[2Jb") && !table.contains('\x1b'));
    let column = |line: &str| line.find("10.0.0.1");
    let lines: Vec<_> = table.lines().collect();
    assert_eq!((column(lines[1]), column(lines[699])), (lines[0].find("Dst IP"), lines[0].find("Dst IP")));
    assert!(lines[661].starts_with("-   "), "{}", lines[661]);
}

#[test]
fn an_empty_output_still_has_its_head() {
    assert!(text(flows(Form::Table, &[])).starts_with("Timestamp"));
    assert!(text(flows(Form::Csv, &[])).starts_with("flow_id,"));
    assert_eq!(text(flows(Form::Json, &[])), "");
    assert!(flows(Form::Parquet, &[]).starts_with(b"PAR1"));
}

#[test]
fn json_of_a_scored_flow_has_the_anomaly_and_what_reading_back_needs() {
    let (flow, strange) = (plain(1), anomaly(0.004));
    let row = Row { flow: &flow, anomaly: Some(&strange), anomaly_p: 0.01 };
    let bytes = written(Form::Json, Shape { scored: true, explained: true }, &[row]);
    let v: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&v["anomaly"]["is_anomaly"], &v["label"]), (&true.into(), &"Benign".into()));
    assert_eq!(v["weir"]["stats"]["toclient"]["packets"], 2);
    let (back, _, _) = crate::testkit::read_back(&bytes);
    assert_eq!(back, [flow]);
}

#[test]
fn scored_parquet_reads_back_as_flows() {
    let (flow, strange) = (plain(1), anomaly(0.004));
    let row = Row { flow: &flow, anomaly: Some(&strange), anomaly_p: 0.01 };
    let bytes = written(Form::Parquet, Shape { scored: true, explained: true }, &[row]);
    assert_eq!(crate::testkit::read_back(&bytes).0, [flow]);
}

#[test]
fn the_schema_document_names_every_column() {
    let document = include_str!("../../SCHEMA.md");
    for c in crate::columns::columns(true) {
        let field =
            c.name.strip_prefix("stats_toserver_").or(c.name.strip_prefix("stats_toclient_")).unwrap_or(&c.name);
        assert!(document.contains(&format!("| `{field}` |")), "SCHEMA.md lacks `{field}`");
    }
}

#[test]
fn rows_at_once_are_written_as_one_by_one_also_across_row_groups() {
    let mut all: Vec<_> = (1..70_000).map(plain).collect();
    for (i, flow) in all.iter_mut().enumerate() {
        // More sources than are kept to be shared, and columns with and without values.
        flow.record.client = std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0b00_0000 + i as u32 % 9_000)).into();
        flow.label = (i % 3 == 0).then(|| format!("label {}", i % 10).into());
        if i % 5 == 0 {
            flow.record.stats = weir_common::flow::FlowStats::EMPTY;
            flow.record.have = flow.record.have.without(Have::STATS);
        }
    }
    let rows: Vec<_> = all.iter().map(|flow| Row { flow, anomaly: None, anomaly_p: 0.0 }).collect();
    let together = |sizes: &[usize]| {
        let out = crate::testkit::Memory::default();
        let mut to = writer(Form::Parquet, Shape::default(), out.clone()).unwrap();
        let (mut rest, mut sizes) = (rows.as_slice(), sizes.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            to.write_all(now).unwrap();
            rest = later;
        }
        to.finish().unwrap();
        drop(to);
        out.0.lock().unwrap().clone()
    };
    let one_by_one = flows(Form::Parquet, &all);
    assert!(together(&[70_000]) == one_by_one && together(&[1, 1000, 77]) == one_by_one, "the same files");
    assert!(crate::testkit::read_back(&one_by_one).0 == all, "and they read back as the flows were");
}
