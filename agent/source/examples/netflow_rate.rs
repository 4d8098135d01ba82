//! How many records a second one thread turns into flows: `cargo run --release -p weir-source --example netflow_rate FILE...`
//!
//! Each file holds datagrams behind their lengths. They are decoded again and again, from one exporter after the other, so
//! that each pass gives new flows; with pairing and all, as the collector does it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use weir_source::netflow::{Collector, Limits};

const PASSES: u32 = 500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        return Err("which files? For example netflow/from-attacks/synscan.v9.dgrams of the corpus".into());
    }
    for file in files {
        let bytes = std::fs::read(&file)?;
        let mut datagrams = Vec::new();
        let mut rest = &bytes[..];
        while let Some((length, body)) = rest.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let (datagram, after) = body.split_at_checked(length).ok_or("the file is cut short")?;
            datagrams.push(datagram);
            rest = after;
        }
        let mut collector = Collector::new(Limits::default(), weir_core::home::Home::default());
        let (mut out, mut flows) = (Vec::new(), 0);
        let (began, cpu_before) = (Instant::now(), cpu_seconds());
        for pass in 0..PASSES {
            let from = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + pass % 100), 2055));
            for datagram in &datagrams {
                // A pass a second: what is not answered within half a minute comes out.
                collector.ingest(datagram, Some(from), u64::from(pass) * 1_000_000, &mut out);
                flows += out.len();
                out.clear();
            }
        }
        let memory = collector.memory();
        collector.finish(&mut out);
        flows += out.len();
        let (seconds, records) = (began.elapsed().as_secs_f64(), collector.counts().records);
        println!(
            "{file}: {records} records, {flows} flows in {seconds:.2} s: {:.0} records/s ({:.0} per second of CPU), {:.1} MB held",
            records as f64 / seconds,
            records as f64 / (cpu_seconds() - cpu_before),
            memory as f64 / 1e6
        );
    }
    Ok(())
}

/// What this thread has had of the CPU, s (Linux): on a busy machine the clock on the wall measures the neighbours. NaN where
/// the system does not tell.
fn cpu_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    told.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(f64::NAN, |ns| ns / 1e9)
}
