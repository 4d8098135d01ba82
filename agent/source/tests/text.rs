//! The text formats over public corpora, against plain counts made here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use weir_core::record::{FlowRecord, FlowState, Have};
use weir_source::profiles::{Offer, Profile, Told};
use weir_source::{Flows, Format, Input, Observation, Options, Report, SourceError};

/// A file or folder of the corpora. Prints a visible SKIP where it is absent.
fn corpus(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("WEIR_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let path = root.join(name);
    if !path.exists() {
        eprintln!("SKIP: no {} (WEIR_CORPUS names the folder of corpora)", path.display());
        return None;
    }
    Some(path)
}

/// All files below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn try_read(path: &Path, format: Option<Format>) -> Result<(Format, Vec<Observation>, Report), SourceError> {
    let options = Options { format, ..Options::default() };
    let input = Input::open(path, &options)?;
    let format = input.format();
    let mut flows = Vec::new();
    let (report, result) = input.read(
        &options,
        &mut Flows::new(Default::default(), false, |flow| {
            flows.push(flow);
            Ok(())
        }),
    );
    result.map(|()| (format, flows, report))
}

fn read(path: &Path) -> (Format, Vec<Observation>, Report) {
    try_read(path, None).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

fn labels(flows: &[Observation]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for flow in flows {
        *counts.entry(flow.label.as_deref().unwrap_or_default().to_owned()).or_default() += 1;
    }
    counts
}

fn told(flows: &[Observation]) -> Told {
    let mut told = Told::default();
    flows.iter().for_each(|f| told.add(&f.record));
    told
}

fn offered(flows: &[Observation], format: Format) -> Vec<Profile> {
    let offers = told(flows).explain(format);
    offers.into_iter().filter(|(_, o, _)| matches!(o, Offer::Offered { .. })).map(|(p, _, _)| p).collect()
}

/// Seconds to microseconds, digit by digit on the text.
fn us(seconds: &str) -> u64 {
    let (whole, part) = seconds.split_once('.').unwrap_or((seconds, ""));
    format!("{whole}{:0<6.6}", part).parse().unwrap()
}

#[test]
fn every_zeek_log_is_read_row_by_row() {
    let Some(folder) = corpus("zeek") else { return };
    let mut logs = 0;
    for path in files(&folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.contains("conn") && !name.ends_with(".csv") {
            continue;
        }
        let content = text(&path);
        let lines: Vec<&str> = content.lines().filter(|l| !l.trim().is_empty()).collect();
        let conn = lines.iter().any(|l| l.starts_with("#fields") || l.starts_with('{') || l.starts_with("ts,"));
        if !conn {
            // Prose, and a log without its header: nothing to go by, and said so.
            assert!(try_read(&path, None).is_err(), "{}", path.display());
            continue;
        }
        let (format, flows, report) = read(&path);
        let header = usize::from(format == Format::ZeekCsv);
        let rows: Vec<&str> = lines.iter().filter(|l| !l.trim_start().starts_with('#')).skip(header).copied().collect();
        assert_eq!(report.read as usize, rows.len(), "{}", path.display());
        // A cut log ends in the middle of a line, and a port that does not fit 16 bits is none; nothing else may be missing.
        let cut = usize::from(report.truncated);
        let no_port = |l: &&str| {
            let value: serde_json::Value = serde_json::from_str(l).unwrap_or_default();
            ["id.orig_p", "id.resp_p"].iter().any(|p| value[p].as_u64().is_some_and(|v| v > 65_535))
        };
        let (bad, rows): (Vec<&str>, Vec<&str>) = rows.into_iter().partition(no_port);
        assert_eq!(flows.len() + cut, rows.len(), "{}: {:?}", path.display(), report.left_out);
        assert_eq!(report.left_out.get("port that is none").copied().unwrap_or(0), bad.len() as u64);
        assert_eq!(report.left_out.values().sum::<u64>(), (cut + bad.len()) as u64, "{report}");
        assert!(cut == 0 || path.to_string_lossy().contains("truncated"), "{}", path.display());
        assert!(flows.windows(2).all(|w| w[0].record.flow_id < w[1].record.flow_id));
        logs += 1;

        for (flow, row) in flows.iter().zip(&rows) {
            match format {
                Format::ZeekJson => same_as_json(&flow.record, row),
                Format::ZeekTsv => same_as_columns(&flow.record, &row.split('\t').collect::<Vec<_>>()),
                _ => same_as_columns(&flow.record, &row.split(',').collect::<Vec<_>>()),
            }
        }
        let expected = [Profile::Core, Profile::Source];
        assert_eq!(offered(&flows, format), expected, "{}", path.display());
    }
    assert!(logs >= 18, "{logs}");
}

/// Zeek's standard order of columns, which all TSV and CSV files of the corpus have.
fn same_as_columns(r: &FlowRecord, c: &[&str]) {
    let number = |i: usize| c[i].parse::<u64>().ok();
    assert_eq!(r.start_us, us(c[0]));
    assert_eq!((r.client, r.server), (c[2].parse().unwrap(), c[4].parse().unwrap()));
    assert_eq!((u64::from(r.client_port), u64::from(r.server_port)), (number(3).unwrap(), number(5).unwrap()));
    assert_eq!((Some(r.fwd.packets), Some(r.fwd.bytes)), (number(16), number(17)));
    assert_eq!((Some(r.bwd.packets), Some(r.bwd.bytes)), (number(18), number(19)));
    if c[8].starts_with(|d: char| d.is_ascii_digit()) {
        assert_eq!(r.duration_us(), us(c[8]));
        assert!(r.have.has(Have::DURATION));
    } else {
        assert_eq!(r.have.has(Have::DURATION), r.fwd.packets + r.bwd.packets <= 1);
    }
    assert_eq!(number(9).zip(number(10)), r.have.has(Have::PAYLOAD).then_some((r.fwd.payload, r.bwd.payload)));
    if c[11] == "REJ" {
        assert_eq!(r.state, FlowState::Rejected);
    }
    // Zeek's S0 is one without a SYN-ACK; ACKs may have come back nevertheless.
    if c[11] == "S0" && number(18) == Some(0) {
        assert_eq!(r.state, FlowState::Unanswered);
    }
}

fn same_as_json(r: &FlowRecord, row: &str) {
    let v: serde_json::Value = serde_json::from_str(row).unwrap();
    let f = |k: &str| v[k].as_f64();
    // To the microsecond, also by way of a float.
    assert_eq!(r.start_us, (f("ts").unwrap() * 1e6).round() as u64);
    assert_eq!(
        r.client.to_string().parse::<std::net::IpAddr>().unwrap(),
        v["id.orig_h"].as_str().unwrap().parse::<std::net::IpAddr>().unwrap()
    );
    assert_eq!(v["id.resp_p"].as_u64(), Some(r.server_port.into()));
    assert_eq!((v["orig_pkts"].as_u64(), v["resp_ip_bytes"].as_u64()), (Some(r.fwd.packets), Some(r.bwd.bytes)));
    match f("duration") {
        Some(d) => assert_eq!(r.duration_us(), (d * 1e6).round() as u64),
        None => assert_eq!(r.have.has(Have::DURATION), r.fwd.packets + r.bwd.packets <= 1),
    }
}

#[test]
fn zeek_labels_are_those_of_the_columns() {
    for name in [
        "001-zeek-scenario-malicious/labeled-conn.log",
        "008-zeek-mixed/data/conn.log.labeled",
        "010-zeek-mixed/data/conn.log.labeled",
    ] {
        let Some(path) = corpus(&format!("zeek/stratosphere/{name}")) else { return };
        let mut plain = BTreeMap::<String, usize>::new();
        for row in text(&path).lines().filter(|l| !l.starts_with('#')) {
            let columns: Vec<&str> = row.split('\t').collect();
            let [.., label, detail] = columns.as_slice() else { panic!("{row}") };
            let joined =
                if matches!(*detail, "(empty)" | "-") { (*label).to_owned() } else { format!("{label}/{detail}") };
            *plain.entry(joined).or_default() += 1;
        }
        assert_eq!(labels(&read(&path).1), plain, "{name}");
    }
    let Some(path) = corpus("zeek/iot23-csv/CTU-Honeypot-Capture-5-1-labeled.csv") else { return };
    let rows = text(&path).lines().count() - 1;
    assert_eq!(labels(&read(&path).1), BTreeMap::from([("benign".to_owned(), rows)]));
}

/// Rows of a CSV file by the names of its columns, blanks trimmed; of columns with one name the first.
fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let content = text(path);
    let mut lines = content.trim_start_matches('\u{feff}').lines();
    let names: Vec<String> = lines.next().unwrap().split(',').map(|n| n.trim().to_owned()).collect();
    lines
        .map(|l| {
            let values: Vec<String> = l.split(',').map(|v| v.trim().to_owned()).collect();
            names.iter().cloned().zip(values).rev().collect()
        })
        .collect()
}

#[test]
fn cic_ids2017_gives_each_row_or_its_reason() {
    for (folder, columns) in
        [("cicids2017-improved", 91), ("cicids2017-trafficlabelling85", 85), ("cicids2017-mlcve79", 79)]
    {
        let Some(folder) = corpus(folder) else { return };
        for path in files(&folder) {
            let plain = if path.extension().is_some_and(|e| e == "csv") { rows(&path) } else { continue };
            let (format, flows, report) = read(&path);
            assert_eq!(format, Format::CicIds2017);
            let left_out: u64 = report.left_out.values().sum();
            assert_eq!((report.read as usize, flows.len() + left_out as usize), (plain.len(), plain.len()));
            eprintln!("{}: {report}", path.file_name().unwrap().to_string_lossy());
            if plain.is_empty() {
                continue;
            }
            assert_eq!(text(&path).lines().next().unwrap().split(',').count(), columns);
            // What is left out is what the sets have wrong, and little of it.
            assert!(left_out * 25 <= report.read, "{}: {report}", path.display());
            if left_out == 0 {
                let mut by_label = BTreeMap::<String, usize>::new();
                for row in &plain {
                    *by_label.entry(row["Label"].replace('\u{fffd}', "-")).or_default() += 1;
                }
                assert_eq!(labels(&flows), by_label);
            }
            let expected: &[Profile] = if columns == 91 { &[Profile::Core, Profile::Source] } else { &[Profile::Core] };
            assert_eq!(offered(&flows, format), expected, "{}", path.display());
        }
    }
}

#[test]
fn web_attack_labels_come_out_clean() {
    let Some(path) = corpus("cicids2017-mlcve79/th1.csv") else { return };
    let counts = labels(&read(&path).1);
    let attacks: Vec<_> = counts.iter().filter(|(l, _)| *l != "BENIGN").map(|(l, n)| (l.as_str(), *n)).collect();
    assert_eq!(attacks, [("Web Attack - Brute Force", 2), ("Web Attack - Sql Injection", 2), ("Web Attack - XSS", 3)]);
}

#[test]
fn corrected_cic_rows_have_the_values_of_the_file() {
    for (name, protocol) in [("Portscan_2500.csv", 6), ("BENIGN_5000.csv", 17)] {
        let Some(path) = corpus(&format!("cicids2017-improved/{name}")) else { return };
        let (_, flows, report) = read(&path);
        let mut flows = flows.iter();
        let mut compared = 0;
        let mut passed_over = 0;
        for row in rows(&path) {
            let n = |k: &str| row[k].parse::<i64>().unwrap();
            if n("Protocol") == 0 || n("Fwd Header Length") < 0 {
                passed_over += 1;
                continue;
            }
            let r = &flows.next().unwrap().record;
            assert_eq!((r.client.to_string(), r.server.to_string()), (row["Src IP"].clone(), row["Dst IP"].clone()));
            assert_eq!((i64::from(r.proto), r.duration_us() as i64), (n("Protocol"), n("Flow Duration")));
            if n("Protocol") == protocol {
                let (packets, length, header) =
                    (n("Total Fwd Packet"), n("Total Length of Fwd Packet"), n("Fwd Header Length"));
                assert_eq!(r.fwd.packets as i64, packets);
                assert_eq!(r.fwd.bytes as i64, length + header + 20 * packets);
                assert_eq!(r.bwd.payload as i64, n("Total Length of Bwd Packet"));
                compared += 1;
            }
        }
        assert_eq!(report.left_out.values().sum::<u64>(), passed_over);
        assert!(compared > 2000, "{compared}");
    }
    let Some(path) = corpus("cicids2017-improved/Portscan_2500.csv") else { return };
    let flows = read(&path).1;
    // "2017-07-07 18:08:57.763666", as `date -u -d` says it.
    assert_eq!(flows[0].record.start_us, 1_499_450_937_763_666);
    let rejected = flows.iter().filter(|f| f.record.state == FlowState::Rejected).count();
    assert!(rejected * 10 > flows.len() * 9, "a scan is mostly rejected: {rejected}");
}

/// The set of 85 columns names the protocol: without that column it has to come out the same.
#[test]
fn the_protocol_of_the_79_columns_is_found_as_the_85_tell_it() {
    let Some(path) = corpus("cicids2017-trafficlabelling85/first299.csv") else { return };
    let (_, known, _) = read(&path);
    let drop = [0, 1, 2, 3, 5, 6];
    let stripped: String = text(&path)
        .lines()
        .map(|l| {
            let kept: Vec<&str> = l.split(',').enumerate().filter(|(i, _)| !drop.contains(i)).map(|(_, v)| v).collect();
            assert_eq!(kept.len(), 79);
            kept.join(",") + "\n"
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), stripped).unwrap();
    let (_, found, report) = read(file.path());
    assert!(report.left_out.is_empty(), "{report}");
    let of = |flows: &[Observation]| -> Vec<(u8, u64, u64)> {
        flows.iter().map(|f| (f.record.proto, f.record.fwd.bytes, f.record.bwd.bytes)).collect()
    };
    assert_eq!(of(&found), of(&known));
    let udp = known.iter().filter(|f| f.record.proto == 17).count();
    let misleading = rows(&path).iter().filter(|r| r["Protocol"] == "17" && r["Fwd Header Length"] != "8").count();
    assert_eq!((udp, misleading), (16, 16), "headers per packet would have called them all TCP");
}

#[test]
fn unsw_nb15_gives_each_ip_flow() {
    for (name, columns) in [("unsw_nb15_45col_dedup.csv", 45), ("UNSW-NB15_1_first3000_49col.csv", 50)] {
        let Some(path) = corpus(&format!("unsw-nb15/{name}")) else { return };
        let plain = rows(&path);
        let (format, flows, report) = read(&path);
        assert_eq!(format, Format::UnswNb15);
        assert_eq!(text(&path).lines().next().unwrap().split(',').count(), columns);
        let arp = plain.iter().filter(|r| r["proto"] == "arp").count();
        assert_eq!(report.left_out.into_iter().collect::<Vec<_>>(), [("flow that is not IP", arp as u64)]);
        assert_eq!((report.read as usize, flows.len()), (plain.len(), plain.len() - arp));
        let mut by_label = BTreeMap::<String, usize>::new();
        let column =
            |row: &BTreeMap<String, String>, names: [&str; 2]| names.iter().find_map(|n| row.get(*n)).unwrap().clone();
        for (row, flow) in plain.iter().filter(|r| r["proto"] != "arp").zip(&flows) {
            let label = if row["attack_cat"].is_empty() { "Normal" } else { &row["attack_cat"] };
            *by_label.entry(label.to_owned()).or_default() += 1;
            let r = &flow.record;
            assert_eq!(r.fwd.bytes, row["sbytes"].parse::<u64>().unwrap());
            assert_eq!(r.bwd.packets, column(row, ["dpkts", "Dpkts"]).parse::<u64>().unwrap());
            if !row["dur"].contains('e') {
                assert_eq!(r.duration_us(), us(&row["dur"]), "{}", row["dur"]);
            }
            // The reason why bytes are taken as IP's: frames would have 54 bytes at least.
            assert!(r.proto != 6 || r.fwd.bytes >= 40 * r.fwd.packets);
        }
        assert_eq!(labels(&flows), by_label);
        let below_a_frame =
            flows.iter().filter(|f| f.record.proto == 6 && f.record.fwd.bytes < 54 * f.record.fwd.packets).count();
        assert!(below_a_frame > 0);
        let expected: &[Profile] = if columns == 45 { &[Profile::Core] } else { &[Profile::Core, Profile::Source] };
        assert_eq!(offered(&flows, format), expected);
    }
}
