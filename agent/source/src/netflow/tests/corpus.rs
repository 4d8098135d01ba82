//! Truth of others: the records that another decoder finds in vendors' datagrams, and the flows of two captures.

use std::collections::BTreeMap;
use std::path::Path;

use weir_core::addr::Addr;
use weir_core::record::{EndReason, Have, Totals};

use super::{address, corpus_or_skip, read_file};
use crate::netflow::{Counts, Decoder, ExportedFlow, Limits};
use crate::{Observation, Options};

/// Why a case gives other numbers here.
fn rule(case: &str, want: u64, c: &Counts) -> Option<&'static str> {
    let got = c.records + c.option_records;
    if got == want {
        return Some("equal");
    }
    if got - c.records_late == want {
        return Some("records that came before their template are read when it comes; the other decoder drops them");
    }
    // The other decoder's test states no number for these, only that it does not fail.
    if case.contains("invalid") && want == 0 && c.malformed == 0 {
        return Some("called invalid, but every byte of it follows RFC 3954");
    }
    None
}

#[test]
fn vendors_datagrams_give_the_records_that_another_decoder_found() {
    let Some(dir) = corpus_or_skip("vendors_datagrams_give_the_records_that_another_decoder_found") else { return };
    let expected = std::fs::read_to_string(dir.join("expected.tsv")).unwrap();
    let (mut table, mut compared, mut unexplained) = (BTreeMap::<&str, u64>::new(), 0, Vec::new());
    for line in expected.lines().filter(|l| !l.starts_with('#')) {
        let mut columns = line.split('\t');
        let (case, files, want) = (columns.next().unwrap(), columns.next().unwrap(), columns.next().unwrap());
        let mut decoder = Decoder::new(Limits::default());
        let mut flows: Vec<ExportedFlow> = Vec::new();
        for file in files.split(',') {
            let bytes = std::fs::read(dir.join("datagrams").join(file)).unwrap();
            decoder.datagram(address(1), 1, &bytes, &mut flows);
        }
        let c = decoder.counts();
        assert_eq!(flows.len() as u64 + c.without_ip + c.events + c.empty, c.records, "{case}: nothing is silent");
        if want == "-" {
            *table.entry("not stated").or_default() += 1;
            continue;
        }
        compared += 1;
        match rule(case, want.parse().unwrap(), &c) {
            Some(rule) => *table.entry(rule).or_default() += 1,
            None => unexplained.push(format!("{case}: expected {want}, got {c:?}")),
        }
    }
    eprintln!("{compared} cases compared");
    for (rule, n) in &table {
        eprintln!("{n:>6}  {rule}");
    }
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    assert!(compared >= 40, "only {compared} cases");
}

type Ends = (Addr, u16, Addr, u16, u8);

/// By client and server; one flow each in these captures.
fn by_ends(flows: Vec<Observation>) -> BTreeMap<Ends, Observation> {
    let n = flows.len();
    let all: BTreeMap<_, _> = flows
        .into_iter()
        .map(|o| ((o.record.client, o.record.client_port, o.record.server, o.record.server_port, o.record.proto), o))
        .collect();
    assert_eq!(all.len(), n, "a 5-tuple occurs twice");
    all
}

fn exports(dir: &Path, name: &str, version: &str) -> BTreeMap<Ends, Observation> {
    let path = dir.join("from-attacks").join(format!("{name}.{version}.dgrams"));
    // Recognised by its content.
    by_ends(read_file(&path, &Options::default()))
}

const EVERYTHING: Have = Have::ALL.without(Have::STATS).without(Have::PAYLOAD);

#[test]
fn the_three_formats_tell_the_same_flows() {
    let Some(dir) = corpus_or_skip("the_three_formats_tell_the_same_flows") else { return };
    for (name, flows) in [("synscan", 1994), ("ssh-bruteforce", 67)] {
        let [v5, v9, ipfix] = ["v5", "v9", "v10"].map(|version| exports(&dir, name, version));
        assert_eq!((v5.len(), v9.len(), ipfix.len()), (flows, flows, flows), "{name}");
        for (ends, a) in &v5 {
            for b in [&v9[ends], &ipfix[ends]] {
                let (a, b) = (&a.record, &b.record);
                assert_eq!((a.fwd, a.bwd, a.state, a.have), (b.fwd, b.bwd, b.state, b.have), "{name} {ends:?}");
                // Milliseconds, rounded by each run on its own.
                assert!(a.duration_us().abs_diff(b.duration_us()) <= 2000, "{name} {ends:?}");
                // v9 tells the time of day in whole seconds; each export ran on its own, within seconds.
                assert!(a.start_us.abs_diff(b.start_us) < 10_000_000, "{name} {ends:?}: {} {}", a.start_us, b.start_us);
                assert!(a.have.has(EVERYTHING.without(Have::SIDES)), "{name} {:?}", a.have);
                assert!(!a.proven && a.end_reason == EndReason::Exported);
            }
        }
    }
}

/// Why an exporter's bytes of one direction differ from those of the capture.
fn bytes_rule(exported: Totals, captured: Totals) -> Option<&'static str> {
    if exported == (Totals { payload: exported.payload, ..captured }) {
        return Some("equal");
    }
    // 60 bytes are the least that an Ethernet frame has; 14 of them are its header.
    let extra = exported.bytes.checked_sub(captured.bytes)?;
    (exported.packets == captured.packets && extra <= captured.packets * (60 - 14 - 40))
        .then_some("softflowd counts the padding of short Ethernet frames as IP bytes")
}

#[test]
fn a_scan_exported_by_softflowd_gives_the_flows_of_its_capture() {
    let test = "a_scan_exported_by_softflowd_gives_the_flows_of_its_capture";
    let Some(dir) = corpus_or_skip(test) else { return };
    let capture = dir.join("../pcap/ndpi/pcap/synscan.pcap");
    if !capture.exists() {
        return eprintln!("SKIP {test}: no {}", capture.display());
    }
    let captured = by_ends(read_file(&capture, &Options::default()));
    for version in ["v5", "v9", "v10"] {
        let exported = exports(&dir, "synscan", version);
        let mut table = BTreeMap::<&str, u64>::new();
        assert!(exported.keys().eq(captured.keys()), "{version}: who is client of whom");
        for (ends, flow) in &exported {
            let (e, c) = (&flow.record, &captured[ends].record);
            assert_eq!(e.state, c.state, "{version} {ends:?}");
            let rules = [bytes_rule(e.fwd, c.fwd), bytes_rule(e.bwd, c.bwd)];
            let [Some(a), Some(b)] = rules else { panic!("{version} {ends:?}: {e:?} is not {c:?}") };
            *table.entry(if a == "equal" { b } else { a }).or_default() += 1;
            // softflowd tells milliseconds, rounded each on its own.
            assert!(e.duration_us().abs_diff(c.duration_us()) <= 2000, "{version} {ends:?}");
        }
        eprintln!("synscan {version}: {} flows compared, {table:?}", exported.len());
        assert!(table["equal"] >= 1980, "{table:?}");
    }
}
