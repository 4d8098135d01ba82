use std::net::SocketAddr;

use super::corpus_or_skip;
use crate::netflow::{Decoder, ExportedFlow, Limits};

fn exporter() -> Option<SocketAddr> {
    Some("192.0.2.1:2055".parse().unwrap())
}

#[test]
fn vendors_datagrams_give_the_records_that_another_decoder_found() {
    let Some(dir) = corpus_or_skip("vendors_datagrams_give_the_records_that_another_decoder_found") else { return };
    let expected = std::fs::read_to_string(dir.join("expected.tsv")).unwrap();
    for line in expected.lines().filter(|l| !l.starts_with('#')) {
        let mut columns = line.split('\t');
        let (case, files, want) = (columns.next().unwrap(), columns.next().unwrap(), columns.next().unwrap());
        let mut decoder = Decoder::new(Limits::default());
        let mut flows: Vec<ExportedFlow> = Vec::new();
        for file in files.split(',') {
            let bytes = std::fs::read(dir.join("datagrams").join(file)).unwrap();
            decoder.datagram(exporter(), 1, &bytes, &mut flows);
        }
        let c = decoder.counts();
        let got = (c.records + c.option_records).to_string();
        eprintln!("{} {case}: want {want} got {got} {c:?}", if got == want || want == "-" { "ok" } else { "DIFF" });
        for f in flows.iter().take(2) {
            eprintln!("   {f:?}");
        }
    }
}
