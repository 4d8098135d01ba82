//! Records per second of the readers of files.
//!
//! ```text
//! cargo run --release -p weir-source --example records -- --make zeek 2000000 > /tmp/conn.log
//! cargo run --release -p weir-source --example records -- /tmp/conn.log
//! ```
//! `--make` writes rows of `zeek`, `zeek-json`, `zeek-csv`, `eve`, `cic-ids2017` (85 columns), `cic-ids2017-91` or
//! `unsw-nb15` (the raw 49 columns).

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use weir_source::profiles::Told;
use weir_source::{Flows, Input, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, kind, rows] = args.as_slice()
        && flag == "--make"
    {
        return Ok(make(kind, rows.parse()?)?);
    }
    for path in &args {
        measure(path)?;
    }
    Ok(())
}

fn measure(path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::default();
    let input = Input::open(Path::new(path), &options)?;
    let (format, size) = (input.format(), input.size);
    let (mut told, mut packets, mut bytes) = (Told::default(), 0_u64, 0_u64);
    let (began, cpu_before) = (Instant::now(), cpu_seconds());
    let (report, result) = input.read(
        &options,
        &mut Flows::new(Default::default(), false, |flow| {
            packets = packets.wrapping_add(flow.record.fwd.packets).wrapping_add(flow.record.bwd.packets);
            bytes = bytes.wrapping_add(flow.record.fwd.bytes).wrapping_add(flow.record.bwd.bytes);
            told.add(&flow.record);
            Ok(())
        }),
    );
    let seconds = began.elapsed().as_secs_f64();
    result?;
    let megabytes = size.map_or(0.0, |s| s as f64 / 1e6);
    println!("{path}: {format}, {report}");
    for warning in &report.warnings {
        println!("  {warning}");
    }
    println!("  {} flows, {packets} packets, {bytes} bytes", told.records());
    println!(
        "  {:.0} records/s ({:.0} per second of CPU), {:.0} MB/s, {seconds:.2} s",
        report.read as f64 / seconds,
        report.read as f64 / (cpu_seconds() - cpu_before),
        megabytes / seconds
    );
    for (profile, offer, complete) in told.explain(format) {
        println!("  {profile}: {offer} ({complete} flows complete)");
    }
    Ok(())
}

/// What this thread has had of the CPU, s (Linux): on a busy machine the clock on the wall measures the neighbours. NaN where
/// the system does not tell.
fn cpu_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    told.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(f64::NAN, |ns| ns / 1e9)
}

/// Rows that differ in addresses, ports, times and counts, and are the same in each run.
fn make(kind: &str, rows: u64) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let zeek = "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto service duration orig_bytes resp_bytes conn_state local_orig local_resp missed_bytes history orig_pkts orig_ip_bytes resp_pkts resp_ip_bytes tunnel_parents";
    let cic_85 = "Flow ID, Source IP, Source Port, Destination IP, Destination Port, Protocol, Timestamp, Flow Duration, Total Fwd Packets, Total Backward Packets,Total Length of Fwd Packets, Total Length of Bwd Packets, Fwd Header Length, Bwd Header Length,SYN Flag Count,Init_Win_bytes_forward";
    let cic_91 = "id,Flow ID,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Flow Duration,Total Fwd Packet,Total Bwd packets,Total Length of Fwd Packet,Total Length of Bwd Packet,Fwd RST Flags,Bwd RST Flags,Fwd Header Length,Bwd Header Length,FIN Flag Count,SYN Flag Count";
    // The columns that are not read are as many, and as wide, as in the sets.
    let filler = |n: usize, word: &str| format!(",{word}").repeat(n);
    match kind {
        "zeek" => writeln!(out, "#separator \\x09\n#path\tconn\n#fields\t{}", zeek.replace(' ', "\t"))?,
        "zeek-csv" => writeln!(out, "{},label", zeek.replace(' ', ","))?,
        "cic-ids2017" => writeln!(out, "{cic_85}{}, Label", filler(68, " Idle Mean"))?,
        "cic-ids2017-91" => writeln!(out, "{cic_91}{},Label", filler(71, "Idle Mean"))?,
        _ => {}
    }
    let mut state = 1_u64;
    for i in 0..rows {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let r = state >> 16;
        let (s, us, port) = (1_517_336_042 + i / 1000, i % 1000 * 1000 + r % 1000, 1024 + r % 60_000);
        let (a, b, d) =
            (format!("10.55.{}.{}", r % 256, r / 256 % 256), format!("192.0.2.{}", r % 250 + 1), r % 9_000_000);
        let (fp, bp) = (r % 50 + 1, r / 50 % 40 + 1);
        let (fl, bl) = (r % 5000, r / 7 % 90_000);
        let (fb, bb) = (fl + 40 * fp, bl + 40 * bp);
        let (whole, part) = (d / 1_000_000, d % 1_000_000);
        let row = format!(
            "{s}.{us:06} C{r:015x} {a} {port} {b} 443 tcp ssl {whole}.{part:06} {fl} {bl} SF T F 0 ShADadfF {fp} {fb} {bp} {bb} (empty)"
        );
        match kind {
            "zeek" => writeln!(out, "{}", row.replace(' ', "\t"))?,
            "zeek-csv" => writeln!(out, "{},benign", row.replace(' ', ","))?,
            "zeek-json" => writeln!(
                out,
                r#"{{"ts":{s}.{us:06},"uid":"C{r:015x}","id.orig_h":"{a}","id.orig_p":{port},"id.resp_h":"{b}","id.resp_p":443,"proto":"tcp","service":"ssl","duration":{whole}.{part:06},"orig_bytes":{fl},"resp_bytes":{bl},"conn_state":"SF","local_orig":true,"local_resp":false,"missed_bytes":0,"history":"ShADadfF","orig_pkts":{fp},"orig_ip_bytes":{fb},"resp_pkts":{bp},"resp_ip_bytes":{bb}}}"#
            )?,
            "eve" => writeln!(
                out,
                r#"{{"timestamp":"2018-01-30T18:14:02.{us:06}+0000","flow_id":{r},"in_iface":"eth0","event_type":"flow","src_ip":"{a}","src_port":{port},"dest_ip":"{b}","dest_port":443,"proto":"TCP","app_proto":"tls","flow":{{"pkts_toserver":{fp},"pkts_toclient":{bp},"bytes_toserver":{},"bytes_toclient":{},"start":"2018-01-30T18:14:02.{us:06}+0000","end":"2018-01-30T18:15:02.{us:06}+0000","age":60,"state":"closed","reason":"timeout","alerted":false}},"tcp":{{"tcp_flags":"1b","tcp_flags_ts":"1b","tcp_flags_tc":"1b","syn":true,"fin":true,"psh":true,"ack":true,"state":"closed"}}}}"#,
                fb + 14 * fp,
                bb + 14 * bp
            )?,
            "cic-ids2017" => writeln!(
                out,
                "{a}-{b}-{port}-443-6,{a},{port},{b},443,6,7/7/2017 3:{:02},{d},{fp},{bp},{fl},{bl},{},{},1,8192{},BENIGN",
                i % 60,
                20 * fp,
                20 * bp,
                filler(68, "12.5")
            )?,
            "cic-ids2017-91" => writeln!(
                out,
                "{i},{a}-{b}-{port}-443-6,{a},{port},{b},443,6,2017-07-07 18:{:02}:57.{us:06},{d},{fp},{bp},{fl},{bl},0,0,{},{},2,2{},BENIGN",
                i % 60,
                20 * fp,
                20 * bp,
                filler(71, "12.5")
            )?,
            "unsw-nb15" => writeln!(
                out,
                "{a},{port},{b},443,tcp,FIN,{whole}.{part:06},{fb},{bb},31,29,0,0,-,500473.9375,621800.9375,{fp},{bp},255,255,1,2,66,82,0,0,0.1,0.2,{s},{s},0.017,0.013,0.1,0.05,0.05,0,0,0,0,0,3,7,1,3,1,1,1,,0"
            )?,
            other => return Err(io::Error::other(format!("`{other}` is no kind of rows"))),
        }
    }
    out.flush()
}
