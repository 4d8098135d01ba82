//! Bytes made to hurt: no panic, no endless loop, bounded memory, and what came before is kept.

use std::time::{Duration, Instant};

use super::build::*;
use super::{address, corpus_or_skip, datagrams_of};
use crate::netflow::{Collector, Decoder, Limits};

fn datagrams() -> Vec<Vec<u8>> {
    let flow = set(0, &template(256, &FLOW));
    let mut all = vec![
        ASK.v5(0, 0),
        v9(0, 0, &[flow, set(256, &[ASK.record(), ASK.answer().record()].concat())]),
        ipfix(0, 0, &[set(2, &template(256, &FLOW)), set(256, &ASK.record())]),
        ipfix(0, 0, &[set(2, &template(257, &[(8, 4), (96, 65_535)])), set(257, &[1, 2, 3, 4, 2, 5, 6])]),
    ];
    let Some(dir) = corpus_or_skip("datagrams of vendors: made-up ones only") else { return all };
    let mut files: Vec<_> = std::fs::read_dir(dir.join("datagrams")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    all.extend(files.iter().filter(|f| f.extension().is_some_and(|e| e == "dat")).map(|f| std::fs::read(f).unwrap()));
    all.extend(["synscan.v9.dgrams", "ssh-bruteforce.v10.dgrams"].iter().flat_map(|name| {
        let file = std::fs::read(dir.join("from-attacks").join(name)).unwrap();
        datagrams_of(&file).into_iter().take(3).map(<[u8]>::to_vec).collect::<Vec<_>>()
    }));
    all
}

fn collector() -> Collector {
    Collector::new(Limits::default(), weir_core::home::Home::default())
}

#[test]
fn a_datagram_may_be_cut_anywhere() {
    let all = datagrams();
    let (mut collector, mut flows, mut cuts) = (collector(), Vec::new(), 0u64);
    for (n, datagram) in all.iter().enumerate() {
        let decoded = |bytes| {
            let (mut decoder, mut out) = (Decoder::new(Limits::default()), Vec::new());
            decoder.datagram(address(1), 0, bytes, &mut out);
            out
        };
        let whole = decoded(datagram);
        for cut in 0..datagram.len() {
            let part = decoded(&datagram[..cut]);
            assert_eq!(part[..], whole[..part.len()], "datagram {n} cut at {cut}: nothing is made up");
            collector.ingest(&datagram[..cut], address(n as u32), 0, &mut flows);
            cuts += 1;
        }
        flows.clear();
    }
    eprintln!("{} datagrams, {cuts} prefixes", all.len());
}

#[test]
fn everything_before_a_cut_is_kept() {
    let mut three = ASK.v5(0, 0);
    three[3] = 3;
    for _ in 0..2 {
        let record = three[24..72].to_vec();
        three.extend(record);
    }
    let mut flows = Vec::new();
    let mut decoder = Decoder::new(Limits::default());
    decoder.datagram(address(1), 0, &three[..24 + 2 * 48 + 47], &mut flows);
    assert_eq!((flows.len(), decoder.counts().malformed), (2, 1));
    let good = [set(0, &template(256, &FLOW)), set(256, &ASK.record())].concat();
    for bad in [vec![1, 0, 0, 0, 9], vec![1, 0, 0, 3], vec![1, 0, 0xff, 0xff, 1], vec![7]] {
        flows.clear();
        let mut decoder = Decoder::new(Limits::default());
        decoder.datagram(address(1), 0, &v9(0, 0, &[good.clone(), bad.clone()]), &mut flows);
        assert_eq!((flows.len(), decoder.counts().malformed), (1, 1), "{bad:?}");
    }
}

#[test]
fn changed_datagrams_do_no_harm() {
    let all = datagrams();
    let (mut collector, mut flows) = (collector(), Vec::new());
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below.max(1) as u64) as usize
    };
    let began = Instant::now();
    let mut n = 0u32;
    while n < 200_000 {
        let mut d = all[random(all.len())].clone();
        for _ in 0..=random(6) {
            if d.is_empty() {
                break;
            }
            let at = random(d.len());
            match random(5) {
                0 => d[at] = random(256) as u8,
                1 => d[at] ^= 1 << random(8),
                2 => d.truncate(at),
                // Lengths and counts lie in pairs of bytes.
                3 => d[at & !1] = [0, 0xff, 1][random(3)],
                _ => {
                    let piece = all[random(all.len())].clone();
                    let from = random(piece.len());
                    d.splice(at.., piece[from..].iter().copied());
                }
            }
        }
        collector.ingest(&d, address(random(2000) as u32), u64::from(n) * 1000, &mut flows);
        flows.clear();
        n += 1;
    }
    let limits = Limits::default();
    assert!(collector.decoder().memory() <= limits.state_bytes + limits.waiting_bytes);
    assert!(collector.decoder().exporters() <= limits.exporters);
    eprintln!("{n} changed datagrams in {:?}: {:?}", began.elapsed(), collector.counts());
}

#[test]
fn a_template_of_65535_fields_is_refused_and_the_next_one_taken() {
    // More than fit into a datagram: the rest is cut off.
    let mut monster = vec![1, 0, 0xff, 0xff];
    monster.extend([0, 8, 0, 4].repeat(16_000));
    let mut decoder = Decoder::new(Limits::default());
    let mut flows = Vec::new();
    decoder.datagram(address(1), 0, &v9(0, 0, &[set(0, &monster)]), &mut flows);
    assert_eq!((decoder.counts().malformed, decoder.counts().templates), (1, 0));
    // As many as fit: refused, and read over.
    monster[2..4].copy_from_slice(&16_000u16.to_be_bytes());
    monster.extend(template(257, &FLOW));
    let before = decoder.memory();
    decoder.datagram(address(1), 0, &v9(1, 0, &[set(0, &monster), set(257, &ASK.record())]), &mut flows);
    assert_eq!((decoder.counts().templates_refused, decoder.counts().templates, flows.len()), (1, 1, 1));
    assert!(decoder.memory() < before + 4096, "{} {before}", decoder.memory());
}

#[test]
fn records_without_bytes_make_no_endless_loop() {
    let mut decoder = Decoder::new(Limits::default());
    let mut flows = Vec::new();
    for fields in [vec![(8, 0)], vec![(8, 0), (12, 0)], vec![(8, 40_000), (12, 40_000)]] {
        let datagram = ipfix(0, 0, &[set(2, &template(256, &fields)), set(256, &[1; 64])]);
        decoder.datagram(address(1), 0, &datagram, &mut flows);
    }
    assert_eq!((decoder.counts().templates_refused, decoder.counts().templates, flows.len()), (3, 0, 0));
    // One byte each is the least.
    let mut decoder = Decoder::new(Limits::default());
    let datagram = ipfix(0, 0, &[set(2, &template(256, &[(4, 1)])), set(256, &[1; 64])]);
    decoder.datagram(address(1), 0, &datagram, &mut flows);
    assert_eq!((decoder.counts().records, decoder.counts().without_ip), (64, 64));
}

#[test]
fn a_million_templates_of_made_up_exporters_leave_a_real_one_alone() {
    let limits = Limits { exporters: 256, state_bytes: 4 << 20, ..Limits::default() };
    let mut decoder = Decoder::new(limits.clone());
    let mut flows = Vec::new();
    let real = v9(0, 0, &[set(0, &template(256, &FLOW)), set(256, &ASK.record())]);
    decoder.datagram(address(0), 0, &real, &mut flows);
    let began = Instant::now();
    let mut most = 0;
    for n in 1..=10_000u32 {
        let templates: Vec<u8> = (0..100).flat_map(|k| template(256 + (n % 50) as u16 * 100 + k, &FLOW)).collect();
        decoder.datagram(address(n), 0, &v9(0, n, &[set(0, &templates)]), &mut flows);
        most = most.max(decoder.memory());
    }
    eprintln!("1,000,000 templates in {:?}, at most {most} bytes", began.elapsed());
    assert_eq!(decoder.counts().templates, 1_000_001);
    assert!(most <= limits.state_bytes && decoder.exporters() <= 256, "{most}");
    assert!(decoder.exporters_forgotten() > 9000);
    flows.clear();
    decoder.datagram(address(0), 0, &v9(1, 0, &[set(256, &ASK.record())]), &mut flows);
    assert_eq!(flows.len(), 1, "its template is still known");
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn one_exporter_cannot_have_templates_or_domains_without_end() {
    let limits = Limits { templates_per_exporter: 100, domains_per_exporter: 10, ..Limits::default() };
    let mut decoder = Decoder::new(limits);
    let mut flows = Vec::new();
    for n in 0..1000u32 {
        let t = set(0, &template(256 + n as u16, &FLOW));
        decoder.datagram(address(1), 0, &v9(0, 0, &[t]), &mut flows);
    }
    assert_eq!((decoder.counts().templates, decoder.counts().templates_refused), (100, 900));
    let one = decoder.memory();
    for n in 0..1000u32 {
        decoder.datagram(address(1), 0, &v9(0, n, &[]), &mut flows);
    }
    assert!(decoder.memory() < one + 10_000, "{} {one}", decoder.memory());
    // The oldest domain went, and its templates with it: there is room again.
    decoder.datagram(address(1), 0, &v9(0, 5000, &[set(0, &template(256, &FLOW))]), &mut flows);
    assert_eq!(decoder.counts().templates, 101);
    assert!(decoder.memory() < one);
}

#[test]
fn option_lists_that_go_round_or_never_end_cost_what_they_are_long_and_what_follows_is_read() {
    let good = [set(0, &template(256, &FLOW)), set(256, &ASK.record())].concat();
    let options = |id: u16, scope: u16, rest: u16, fields: &[(u64, u16)]| {
        [id.to_be_bytes(), scope.to_be_bytes(), rest.to_be_bytes()].concat().into_iter().chain(specs(fields)).collect()
    };
    // Claims of lists without an end, of nothing at all, and of less than one field.
    let endless: [Vec<u8>; 5] = [
        options(300, 0xffff, 0xffff, &[(1, 4), (34, 4)]),
        options(300, 4, 0xfffc, &[(1, 4), (34, 4)]),
        options(300, 0, 0, &[]),
        options(300, 3, 3, &[(1, 4)]),
        options(300, 4, 4, &[(1, 0), (34, 0)]),
    ];
    for bad in endless {
        let (mut decoder, mut flows) = (Decoder::new(Limits::default()), Vec::new());
        let datagram = v9(0, 0, &[good.clone(), set(1, &bad), set(300, &[0; 64])]);
        decoder.datagram(address(1), 0, &datagram, &mut flows);
        assert_eq!(flows.len(), 1, "{bad:?}: what came before is kept");
        let counts = decoder.counts();
        assert_eq!((counts.malformed + counts.templates_refused, counts.option_records), (1, 0), "{bad:?}");
        decoder.datagram(address(1), 0, &v9(1, 0, &[set(256, &ASK.record())]), &mut flows);
        assert_eq!(flows.len(), 2, "{bad:?}: the next datagram is read");
    }
    // Round in circles: data of a list that the data before redefine, as often as a datagram has room for.
    let list = |id: u16| set(1, &options(id, 4, 4, &[(1, 4), (34, 4)]));
    let sets: Vec<Vec<u8>> =
        (0..2000u16).flat_map(|n| [list(300 + n % 2), set(300 + (n + 1) % 2, &[0, 0, 0, 1, 0, 0, 0, 100])]).collect();
    let (mut decoder, mut flows) = (Decoder::new(Limits::default()), Vec::new());
    let began = Instant::now();
    for round in 0..100 {
        decoder.datagram(address(1), 0, &v9(round, 0, &[sets.concat(), good.clone()]), &mut flows);
    }
    assert_eq!(flows.len(), 100);
    assert!(decoder.counts().option_records >= 199_000, "{}", decoder.counts().option_records);
    assert!(decoder.memory() < 1 << 20 && began.elapsed() < Duration::from_secs(20), "{}", decoder.memory());
}
