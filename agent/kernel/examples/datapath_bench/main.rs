//! What a packet costs, and a drain: `cargo xtask bench datapath`, or
//! `cargo run --release -p weir-kernel --example datapath_bench [-- --quick | --drain | --ladder]`.
//!
//! Method. `BPF_PROG_TEST_RUN` repeats a program on one buffer and gives the mean time of a run. One packet again and again
//! would keep its flow or entry in the nearest cache, so a few instructions in front of the program (the rotor) move the
//! packet on to its next address and jump to it by tail call. The addresses are spread over the whole space (every entry in a
//! /24, for IPv6 a /48, of its own) and come in an order that has nothing to do with the order in memory. The floor is the
//! same rotor in front of a program that only returns XDP_PASS or XDP_DROP, measured in turn with the case. `hot` is one
//! packet without rotor, over the floor of its own kind. Every figure is the median of several runs; the best one stands
//! beside it, since others may share the machine.

#[path = "../../tests/kernel/raw.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod raw;

mod ladder;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use ladder::Ladder;
use raw::{Rotation, address_at, rotor, xdp_return};
use weir_common::entry::{Entry, action, origin, side};
use weir_common::flow::v4_mapped;
use weir_common::limit::Limit;
use weir_common::names;
use weir_kernel::lists::{Key, List};
use weir_kernel::pins::{Capacity, Pins};
use weir_kernel::{Datapath, Options, datapath, sys};

type Failure = Box<dyn std::error::Error>;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// Runs of one measurement, and how often it is repeated.
#[derive(Clone, Copy)]
struct Effort {
    runs: u32,
    rounds: usize,
    quick: bool,
    /// The single steps as well.
    ladder: bool,
}

/// A datapath of its own, on no interface; its pins go with it.
struct Bench {
    datapath: Datapath,
    pins: Pins,
    xdp: OwnedFd,
}

impl Bench {
    fn new(capacity: Capacity) -> Result<Self, Failure> {
        let pins = Pins::named(&format!("bench-{}", std::process::id()));
        let opened = Datapath::load(pins.clone(), "none", 0, Options { capacity, ..Options::default() })
            .and_then(|mut d| d.programs().map(|(xdp, _)| (d, xdp)));
        match opened {
            Ok((datapath, xdp)) => Ok(Self { datapath, pins, xdp }),
            Err(e) => {
                let _ = datapath::unload(&pins);
                Err(e.into())
            }
        }
    }

    /// Memory of maps, from what the kernel says of their descriptors.
    fn memory(&self, maps: &[&str]) -> Result<u64, Failure> {
        maps.iter().map(|name| memlock(self.pins.open(name)?.as_fd())).sum()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Err(e) = datapath::unload(&self.pins) {
            eprintln!("{e}");
        }
    }
}

fn memlock(fd: BorrowedFd<'_>) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let line = text.lines().find_map(|l| l.strip_prefix("memlock:")).ok_or("no memlock in fdinfo")?;
    Ok(line.trim().parse()?)
}

/// A 64-byte TCP segment (ACK, 6 bytes of data), IPv4, or its IPv6 counterpart.
fn frame(v6: bool) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if v6 {
        f.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 26, 6, 64]);
        f.extend([0x2a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        f.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    } else {
        f.extend([8, 0, 0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
    }
    f.extend([0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    f.extend([0; 10]);
    f
}

fn rotation(v6: bool, count: u32, stride: u32) -> Rotation {
    // Bytes 2 to 5 of the IPv6 source: the prefix of another /48 each.
    if v6 {
        Rotation { address_at: 24, state_at: 76, first: 0, count, stride }
    } else {
        Rotation { address_at: 26, state_at: 56, first: 0, count, stride }
    }
}

/// Coprime to every count used here.
const FAR: u32 = 618_033_989;

fn key(v6: bool, position: u32) -> Key {
    let a = address_at(position);
    if v6 {
        let mut addr = [0u8; 16];
        addr[..6].copy_from_slice(&[0x2a, 0, a[0], a[1], a[2], a[3]]);
        addr[15] = 1;
        Key::net(addr, 128)
    } else {
        Key::net(v4_mapped(a), 32)
    }
}

/// Median and best, ns per run.
#[derive(Clone, Copy)]
struct Cost {
    median: u32,
    best: u32,
}

fn cost(mut ns: Vec<u32>) -> Cost {
    ns.sort_unstable();
    Cost { median: ns[ns.len() / 2], best: ns[0] }
}

/// Floor and case in turn, so that whatever else the machine does hits both.
fn measure(
    floor: BorrowedFd<'_>,
    case: BorrowedFd<'_>,
    frame: &[u8],
    verdict: u32,
    e: Effort,
) -> Result<[Cost; 2], Failure> {
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for _ in 0..e.rounds {
        for (fd, ns) in [(floor, &mut low), (case, &mut high)] {
            let run = sys::test_run(fd, frame, &[], e.runs, 0)?;
            if run.verdict != verdict {
                return Err(
                    format!("verdict {} instead of {verdict}: this would measure something else", run.verdict).into()
                );
            }
            ns.push(run.ns);
        }
    }
    Ok([cost(low), cost(high)])
}

fn row(what: &str, [floor, case]: [Cost; 2], hot: Option<[Cost; 2]>, aim: Option<u32>, memory: u64) {
    let over = case.median.saturating_sub(floor.median);
    let best = case.best.saturating_sub(floor.best);
    let hot = hot.map_or("-".to_owned(), |[f, c]| c.median.saturating_sub(f.median).to_string());
    let (aim, met) = match aim {
        Some(aim) if over <= aim => (aim.to_string(), "met"),
        Some(aim) if best <= aim => (aim.to_string(), "met by the best"),
        Some(aim) => (aim.to_string(), "MISSED"),
        None => ("-".to_owned(), ""),
    };
    println!(
        "{what:<34} {:>5} {:>7} {over:>8} {best:>6} {hot:>5} {aim:>5}  {met:<15} {:>8.1}",
        floor.median,
        case.median,
        memory as f64 / 1e6
    );
}

fn header() {
    println!(
        "{:<34} {:>5} {:>7} {:>8} {:>6} {:>5} {:>5}  {:<15} {:>8}",
        "ns per packet", "floor", "packet", "over it", "best", "hot", "aim", "", "MB"
    );
}

/// One packet again and again.
fn hot(bench: &Bench, v6: bool, verdict: u32, e: Effort) -> Result<[Cost; 2], Failure> {
    let floor = xdp_return("floor", verdict)?;
    let mut packet = frame(v6);
    let at = rotation(v6, 1, 0).address_at as usize;
    packet[at..at + 4].copy_from_slice(&address_at(0));
    measure(floor.as_fd(), bench.xdp.as_fd(), &packet, verdict, e)
}

fn rotating(bench: &Bench, v6: bool, count: u32, verdict: u32, e: Effort) -> Result<[Cost; 2], Failure> {
    let nothing = xdp_return("floor", verdict)?;
    let (floor, _keep) = rotor(rotation(v6, count, FAR), nothing.as_fd())?;
    let (case, _keep2) = rotor(rotation(v6, count, FAR), bench.xdp.as_fd())?;
    let e = Effort { runs: e.runs.max(count), ..e };
    measure(floor.as_fd(), case.as_fd(), &frame(v6), verdict, e)
}

/// The steps of a path by themselves, one line each.
fn climb(ladder: Ladder, count: u32, verdict: u32, e: Effort) -> Result<(), Failure> {
    let nothing = xdp_return("floor", verdict)?;
    let mut same = frame(false);
    same[26..30].copy_from_slice(&address_at(0));
    let Ladder { steps, maps } = ladder;
    for (what, step) in steps {
        let step = step.finish(verdict)?;
        let (floor, _keep) = rotor(rotation(false, count, FAR), nothing.as_fd())?;
        let (case, _keep2) = rotor(rotation(false, count, FAR), step.as_fd())?;
        let far = Effort { runs: e.runs.max(count), ..e };
        let far = measure(floor.as_fd(), case.as_fd(), &frame(false), verdict, far)?;
        let hot = measure(nothing.as_fd(), step.as_fd(), &same, verdict, e)?;
        row(&format!("  {what}"), far, Some(hot), None, 0);
    }
    drop(maps);
    Ok(())
}

fn known_flow(count: u32, aim: Option<u32>, e: Effort) -> Result<Bench, Failure> {
    let bench = Bench::new(Capacity { flows: count, blocks: 1024, allows: 1024 })?;
    // In the order of their addresses: measured is another one.
    let (fill, _keep) = rotor(rotation(false, count, 1), bench.xdp.as_fd())?;
    sys::test_run(fill.as_fd(), &frame(false), &[], count, 0)?;
    let figures = rotating(&bench, false, count, XDP_PASS, e)?;
    let hot = hot(&bench, false, XDP_PASS, e)?;
    let memory = bench.memory(&[names::FLOW_INDEX, names::FLOW_RECORDS])?;
    row(&format!("known flow, {count} flows"), figures, Some(hot), aim, memory);
    if e.ladder {
        climb(ladder::flows(&bench, count)?, count, XDP_PASS, e)?;
    }
    Ok(bench)
}

fn drop_path(v6: bool, count: u32, aim: Option<u32>, e: Effort) -> Result<(), Failure> {
    let mut bench = Bench::new(Capacity { flows: STRANGERS, blocks: count, allows: 1024 })?;
    // With an expiry, as what a running agent writes.
    let entry = Entry {
        expires_ns: sys::monotonic_ns() + 3_600_000_000_000,
        reason: 0,
        action: action::DROP,
        sides: side::IN | side::OUT,
        origin: origin::MANUAL,
        limit: Limit::NONE,
    };
    let entries: Vec<(Key, Entry)> = (0..count).map(|i| (key(v6, i), entry)).collect();
    let start = Instant::now();
    bench.datapath.lists.set(List::Block, &entries)?;
    let written = start.elapsed();
    let figures = rotating(&bench, v6, count, XDP_DROP, e)?;
    let hot = hot(&bench, v6, XDP_DROP, e)?;
    let bitmap = if v6 { names::V6_BITMAP } else { names::V4_BITMAP };
    let maps = [names::ENTRIES, names::ENTRY_INDEX, bitmap];
    let family = if v6 { "IPv6" } else { "IPv4" };
    row(&format!("drop, {count} {family} entries"), figures, Some(hot), aim, bench.memory(&maps)?);
    if e.ladder && !v6 {
        climb(ladder::drops(&bench, count)?, count, XDP_DROP, e)?;
    }
    eprintln!("  (entries written in {:.2} s)", written.as_secs_f64());
    // Most packets belong to nobody on the list: what they cost beyond a known flow without a list is the list's.
    let strangers = rotating_strangers(&bench, v6, count, e)?;
    row(&format!("  4096 known flows beside {count}"), strangers, None, None, 0);
    Ok(())
}

/// Packets of 4,096 known flows that no entry means, beside a full list; their addresses lie between those of the list.
fn rotating_strangers(bench: &Bench, v6: bool, entries: u32, e: Effort) -> Result<[Cost; 2], Failure> {
    let strangers = |stride| Rotation { first: entries, ..rotation(v6, STRANGERS, stride) };
    let (fill, _keep) = rotor(strangers(1), bench.xdp.as_fd())?;
    sys::test_run(fill.as_fd(), &frame(v6), &[], STRANGERS, 0)?;
    let nothing = xdp_return("floor", XDP_PASS)?;
    let (floor, _keep2) = rotor(strangers(FAR), nothing.as_fd())?;
    let (case, _keep3) = rotor(strangers(FAR), bench.xdp.as_fd())?;
    measure(floor.as_fd(), case.as_fd(), &frame(v6), XDP_PASS, e)
}

const STRANGERS: u32 = 4096;

fn drain(bench: &mut Bench, count: u32) -> Result<(), Failure> {
    // The agent drains into the buffer of an earlier epoch, whose memory is there already.
    let mut out = Vec::with_capacity(count as usize);
    out.resize(count as usize, bytemuck::Zeroable::zeroed());
    out.clear();
    let start = Instant::now();
    let report = bench.datapath.epochs.drain(&mut out)?;
    let took = start.elapsed();
    if out.len() != count as usize {
        return Err(format!("{} flows drained instead of {count}", out.len()).into());
    }
    // 0.6 s for a million.
    const AIM_NS: f64 = 600.0;
    let each = took.as_nanos() as f64 / f64::from(count);
    println!(
        "drain of {count} flows: {:.3} s, programs settled in {:.1} ms; {each:.0} ns per flow, aim {AIM_NS:.0}: {}",
        took.as_secs_f64(),
        report.settle.as_secs_f64() * 1e3,
        if each <= AIM_NS { "met" } else { "MISSED" }
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    let quick = std::env::args().any(|a| a == "--quick");
    let ladder = std::env::args().any(|a| a == "--ladder");
    let e = if quick {
        Effort { runs: 20_000, rounds: 9, quick, ladder }
    } else {
        Effort { runs: 100_000, rounds: 41, quick, ladder }
    };
    if weir_kernel::object::EBPF_OBJECT.is_none() {
        return Err("built without the kernel programs: `cargo xtask build-ebpf` makes them".into());
    }
    if std::env::args().any(|a| a == "--drain") {
        let mut bench = known_flow(1 << 20, None, Effort { runs: 1, rounds: 1, quick, ladder })?;
        return drain(&mut bench, 1 << 20);
    }
    header();
    known_flow(4096, Some(90), e)?;
    let many = if e.quick { 1 << 17 } else { 1 << 20 };
    let mut bench = known_flow(many, None, e)?;
    drain(&mut bench, many)?;
    drop(bench);
    header();
    drop_path(false, 10_000, Some(25), e)?;
    drop_path(false, 100_000, None, e)?;
    if !e.quick {
        drop_path(false, 1_000_000, Some(110), e)?;
    }
    drop_path(true, 100_000, None, e)
}
