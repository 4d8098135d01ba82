//! What a list of a million entries costs beside the kernel: `cargo run --release --example lists_bench [ENTRIES]`.
//!
//! Each step of an import in turn, with the time it took and the memory that it left behind. What the kernel's side takes is measured by
//! `cargo xtask bench datapath`.

use std::fmt::Write as _;
use std::time::Instant;

use weir_agent::config::Act;
use weir_agent::lists::format::{Form, read};
use weir_agent::lists::{fill, rule, store};
use weir_agent::store::Saved;
use weir_core::decisions::lists::{Draft, From, Member, Take};
use weir_core::decisions::{Decisions, Limits};
use weir_core::guard::Guard;

const NOW: u64 = 1_800_000_000_000_000;

/// MiB in memory, of `/proc/self/status`.
fn memory() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = text.lines().find_map(|l| l.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn step<T>(what: &str, f: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = f();
    println!("{what:<44} {:>8.1} ms   {:>7.1} MiB in memory", begin.elapsed().as_secs_f64() * 1e3, memory());
    done
}

fn main() -> anyhow::Result<()> {
    let n: u32 = std::env::args().nth(1).map(|a| a.parse()).transpose()?.unwrap_or(1_000_000);
    let file = |seed: u32| {
        let mut text = String::new();
        for i in 0..n {
            // Spread over the address space, each once.
            let ip = std::net::Ipv4Addr::from((i ^ seed).wrapping_mul(2_654_435_761));
            let _ = writeln!(text, "{ip}");
        }
        text
    };
    let (first, second) = (file(0), file(1 << 22));
    let limits = Limits { max: 2 * n as usize, ..Limits::default() };
    let mut decisions = Decisions::new(limits, Guard::default(), 1);
    println!("{n} entries; {} bytes of a member", size_of::<Member>());
    for (what, text) in [("first", &first), ("again the same", &first), ("others in its place", &second)] {
        println!("{what}:");
        let parsed = step("  read", || read(text.as_bytes(), Form::Auto, NOW))?;
        let mut draft = Draft::new("bench".into(), From::Import, String::new());
        step("  put in order", || fill(&mut draft, parsed, rule(Act::Drop), None, false, NOW));
        let change = step("  taken into the wanted state", || decisions.take_list(draft, Take::Replace, NOW))?;
        println!("  {} new, {} as before, {} gone", change.added, change.kept, change.removed);
    }
    let wanted = step("walked through", || decisions.wanted(NOW).count());
    let list = decisions.list("bench").ok_or_else(|| anyhow::anyhow!("the list is not there"))?;
    let bytes = step("written for the disk", || store::encode(list, NOW, Saved::default()))?;
    println!("{wanted} targets; {:.1} bytes an entry on disk", bytes.len() as f64 / wanted as f64);
    let read = step("read from the disk", || store::decode(&bytes)).map_err(anyhow::Error::msg)?;
    anyhow::ensure!(read.0.draft.members.len() == list.len(), "it reads back otherwise");
    Ok(())
}
