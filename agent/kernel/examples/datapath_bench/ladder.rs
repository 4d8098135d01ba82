//! What the steps of the paths cost by themselves: programs of a few instructions that take one step more each, on the maps
//! that the whole program uses. What such a step costs, no arrangement of the rest can save.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use weir_common::entry::{EntryKey, LiveLists, kind};
use weir_common::flow::{FlowKey, FlowRecord, FlowStats};
use weir_common::hash::Seed;
use weir_common::names::{self, Sizes};
use weir_common::parse::{PacketMeta, parse_into};
use weir_common::table::SLOTS;
use weir_kernel::pins::Capacity;
use weir_kernel::sys;

use crate::raw::{address_at, hash, insn, xdp_of};
use crate::{Bench, Failure, frame};

/// Steps with their names. What they look things up in must outlive the measurement.
pub struct Ladder {
    pub steps: Vec<(&'static str, Program)>,
    pub maps: Vec<OwnedFd>,
}

/// A table as the steps reach it.
#[derive(Clone, Copy)]
struct Table<'a> {
    index: BorrowedFd<'a>,
    records: BorrowedFd<'a>,
    first: u32,
    lines: u32,
    mask: u32,
}

/// Steps of the known-flow path, for the first `count` addresses.
pub fn flows(bench: &Bench, count: u32) -> Result<Ladder, Failure> {
    let (index, records) = (bench.pins.open(names::FLOW_INDEX)?, bench.pins.open(names::FLOW_RECORDS)?);
    let seed = bench.pins.meta()?.ok_or("no META")?.seed;
    let sizes = Sizes::of(&Capacity { flows: count, blocks: 1024, allows: 1024 });
    let table = Table {
        index: index.as_fd(),
        records: records.as_fd(),
        first: 0,
        lines: sizes.flow_lines,
        mask: sizes.flow_mask,
    };
    let kernels = flow_hash(count)?;
    let key = || Program::new().flow_key();
    let found = || key().hash(6, &seed).line(table).record(table, 6, 144);
    let steps = vec![
        ("the packet's address", Program::new()),
        ("the clock", Program::new().clock()),
        ("its key", key()),
        ("its key's hash", key().hash(6, &seed)),
        ("and the line of the index", key().hash(6, &seed).line(table)),
        ("and the record", found()),
        ("and eight additions", found().add(8)),
        ("the record, and the clock", found().clock()),
        ("a kernel hash, 44-byte key", key().look_up(kernels.as_fd(), KEY)),
    ];
    Ok(Ladder { steps, maps: vec![index, records, kernels] })
}

/// Steps of the drop path, IPv4.
pub fn drops(bench: &Bench, count: u32) -> Result<Ladder, Failure> {
    let (bitmap, index) = (bench.pins.open(names::V4_BITMAP)?, bench.pins.open(names::ENTRY_INDEX)?);
    let (records, lists) = (bench.pins.open(names::ENTRIES)?, bench.pins.open(names::LISTS)?);
    let seed = bench.pins.meta()?.ok_or("no META")?.seed;
    let live: LiveLists = sys::lookup(lists.as_fd(), &0u32)?.ok_or("no LISTS")?;
    let live = live.lists[(live.live & 1) as usize];
    let mask = Sizes::of(&Capacity { flows: 1024, blocks: count, allows: 1024 }).entry_mask;
    let table = Table { index: index.as_fd(), records: records.as_fd(), first: live.first, lines: live.lines, mask };
    let kernels = entry_hash(count)?;
    let line = |p: Program| p.entry_key().hash(3, &seed).line(table);
    let steps = vec![
        ("the packet's address", Program::new()),
        ("the bitmap's word", Program::new().bitmap(bitmap.as_fd())),
        ("its key's hash", Program::new().entry_key().hash(3, &seed)),
        ("and the line of the index", line(Program::new())),
        ("and the entry", line(Program::new()).record(table, 3, 0)),
        ("and its hits", line(Program::new()).record(table, 3, 0).hits()),
        ("the word, and all of it", line(Program::new().bitmap(bitmap.as_fd())).record(table, 3, 0).hits()),
        ("a kernel hash, 8-byte key", Program::new().small_key().look_up(kernels.as_fd(), KEY)),
    ];
    Ok(Ladder { steps, maps: vec![bitmap, index, records, kernels] })
}

/// The flows of the bench in a hash of the kernel's.
fn flow_hash(count: u32) -> Result<OwnedFd, Failure> {
    let map = hash(size_of::<FlowKey>() as u32, size_of::<FlowStats>() as u32, count)?;
    for position in 0..count {
        let mut packet = frame(false);
        packet[26..30].copy_from_slice(&address_at(position));
        let mut meta = PacketMeta::EMPTY;
        parse_into(&packet[..], packet.len() as u32, 0, &mut meta).map_err(|_| "the bench's frame is none")?;
        sys::update(map.as_fd(), &meta.key().0, &FlowStats::EMPTY, sys::ANY)?;
    }
    Ok(map)
}

/// The entries of the bench in a hash of the kernel's: address and prefix length, 24 bytes of value.
fn entry_hash(count: u32) -> Result<OwnedFd, Failure> {
    let map = hash(8, 24, count)?;
    for position in 0..count {
        let mut key = [0u8; 8];
        key[..4].copy_from_slice(&address_at(position));
        key[4] = 32;
        sys::update(map.as_fd(), &key, &[0u64; 3], sys::ANY)?;
    }
    Ok(map)
}

const FP: u8 = 10;
/// Where a key is put together, on the stack.
const KEY: i16 = -64;
/// The key's hash.
const HASH: u8 = 6;
/// The packet, while the program runs.
const DATA: u8 = 7;
/// The address that the rotor changes.
const ADDRESS: u8 = 9;

const LOOKUP: i32 = 1;
const KTIME_GET_NS: i32 = 5;

/// A program under construction, in the instructions of RFC 9669. Jumps to its end are filled in when it is finished.
pub struct Program {
    code: Vec<u64>,
    exits: Vec<usize>,
}

impl Program {
    /// Checks the frame's length and reads the address that the rotor changes, IPv4.
    fn new() -> Self {
        let mut p = Self { code: Vec::new(), exits: Vec::new() };
        p.push(0x61, DATA, 1, 0, 0); // data
        p.push(0x61, 8, 1, 4, 0); // data_end
        p.push(0xbf, 2, DATA, 0, 0);
        p.push(0x07, 2, 0, 0, 64);
        p.leave(0x2d, 2, 8, 0);
        p.push(0x61, ADDRESS, DATA, 26, 0);
        p
    }

    fn push(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        self.code.push(insn(code, dst, src, off, imm));
    }

    fn leave(&mut self, code: u8, dst: u8, src: u8, imm: i32) {
        self.exits.push(self.code.len());
        self.push(code, dst, src, 0, imm);
    }

    /// Looks the key up that lies at `at` on the stack; the program ends here where it is not there.
    fn look_up(mut self, map: BorrowedFd<'_>, at: i16) -> Self {
        self.push(0x18, 1, 1, 0, map.as_raw_fd());
        self.code.push(0);
        self.push(0xbf, 2, FP, 0, 0);
        self.push(0x07, 2, 0, 0, i32::from(at));
        self.push(0x85, 0, 0, 0, LOOKUP);
        self.leave(0x15, 0, 0, 0);
        self
    }

    fn wide(&mut self, register: u8, value: u64) {
        self.push(0x18, register, 0, 0, value as u32 as i32);
        self.code.push(insn(0, 0, 0, 0, (value >> 32) as i32));
    }

    /// One word of the bitmap of occupied /24s.
    fn bitmap(mut self, map: BorrowedFd<'_>) -> Self {
        self.push(0xbf, 2, ADDRESS, 0, 0);
        self.push(0xdc, 2, 0, 0, 32);
        self.push(0x77, 2, 0, 0, 8 + 5);
        self.push(0x63, FP, 2, -4, 0);
        let mut p = self.look_up(map, -4);
        p.push(0x79, 1, 0, 0, 0);
        p.leave(0x15, 1, 0, 0);
        p
    }

    /// The clock.
    fn clock(mut self) -> Self {
        self.push(0x85, 0, 0, 0, KTIME_GET_NS);
        self
    }

    /// The key of the packet's flow, as the bench's own frame has it: from the changing address to 192.0.2.1. By words.
    fn flow_key(mut self) -> Self {
        for (at, word) in [(0, 0), (16, 0), (40, 6 | 4 << 8)] {
            self.push(0x7a, FP, 0, KEY + at, word);
        }
        self.push(0x61, 2, DATA, 30, 0);
        self.push(0x61, 3, DATA, 34, 0);
        self.push(0xdc, 3, 0, 0, 32);
        // Which of the two is the smaller.
        self.push(0xbf, 4, ADDRESS, 0, 0);
        self.push(0xbf, 5, 2, 0, 0);
        self.push(0xdc, 4, 0, 0, 32);
        self.push(0xdc, 5, 0, 0, 32);
        self.wide(1, 0xffff_0000);
        self.push(0xbf, 0, ADDRESS, 0, 0);
        for r in [0, 2] {
            self.push(0x67, r, 0, 0, 32);
            self.push(0x4f, r, 1, 0, 0);
        }
        self.push(0x2d, 4, 5, 8, 0);
        self.push(0x7b, FP, 0, KEY + 8, 0);
        self.push(0x7b, FP, 2, KEY + 24, 0);
        self.push(0xbf, 1, 3, 0, 0);
        self.push(0x77, 1, 0, 0, 16);
        self.push(0x57, 3, 0, 0, 0xffff);
        self.push(0x67, 3, 0, 0, 16);
        self.push(0x4f, 3, 1, 0, 0);
        self.push(0x05, 0, 0, 2, 0);
        self.push(0x7b, FP, 2, KEY + 8, 0);
        self.push(0x7b, FP, 0, KEY + 24, 0);
        self.push(0x7b, FP, 3, KEY + 32, 0);
        self
    }

    /// The key of the packet's host on the block list.
    fn entry_key(mut self) -> Self {
        let key = EntryKey::net(0, 0, kind::V4, 128);
        self.push(0x7a, FP, 0, KEY, 0);
        self.push(0xbf, 1, ADDRESS, 0, 0);
        self.push(0xdc, 1, 0, 0, 32);
        self.wide(2, 0xffff_0000_0000);
        self.push(0x4f, 1, 2, 0, 0);
        self.push(0x7b, FP, 1, KEY + 8, 0);
        self.push(0x7a, FP, 0, KEY + 16, key.words()[2] as i32);
        self
    }

    /// The address and a length of 32, as a hash of the kernel's would take them.
    fn small_key(mut self) -> Self {
        self.wide(1, 32 << 32);
        self.push(0x4f, 1, ADDRESS, 0, 0);
        self.push(0x7b, FP, 1, KEY, 0);
        self
    }

    /// The hash of the key's first `words`.
    fn hash(mut self, words: i16, seed: &Seed) -> Self {
        self.wide(HASH, seed[0]);
        for i in 0..words {
            self.push(0x79, 1, FP, KEY + 8 * i, 0);
            self.push(0xbf, 2, 1, 0, 0);
            self.push(0x77, 2, 0, 0, 32);
            self.push(0xbc, 1, 1, 0, 0);
            for (r, n) in [(1, 1), (2, 2)] {
                self.wide(3, seed[2 * i as usize + n]);
                self.push(0x0f, r, 3, 0, 0);
            }
            self.push(0x2f, 1, 2, 0, 0);
            self.push(0x0f, HASH, 1, 0, 0);
        }
        self.fold();
        self.wide(1, 0x9e37_79b9_7f4a_7c15);
        self.push(0x2f, HASH, 1, 0, 0);
        self.fold();
        self
    }

    fn fold(&mut self) {
        self.push(0xbf, 1, HASH, 0, 0);
        self.push(0x77, 1, 0, 0, 32);
        self.push(0xaf, HASH, 1, 0, 0);
    }

    /// The slot of the hash, in its line of the index.
    fn line(mut self, table: Table<'_>) -> Self {
        self.push(0xbf, 1, HASH, 0, 0);
        self.push(0x77, 1, 0, 0, 32);
        self.wide(2, u64::from(table.lines * SLOTS));
        self.push(0x2f, 1, 2, 0, 0);
        self.push(0x77, 1, 0, 0, 32);
        self.push(0xbf, 8, 1, 0, 0);
        self.push(0x77, 1, 0, 0, 4);
        self.push(0x07, 1, 0, 0, table.first as i32);
        self.push(0x63, FP, 1, -4, 0);
        let mut p = self.look_up(table.index, -4);
        let mut found = Vec::new();
        for i in 0..SLOTS {
            p.push(0xbf, 1, 8, 0, 0);
            p.push(0x07, 1, 0, 0, i as i32);
            p.push(0x57, 1, 0, 0, 15);
            p.push(0x67, 1, 0, 0, 2);
            p.push(0xbf, 2, 0, 0, 0);
            p.push(0x0f, 2, 1, 0, 0);
            p.push(0x61, 3, 2, 0, 0);
            p.push(0xbc, 1, 3, 0, 0);
            p.push(0xac, 1, HASH, 0, 0);
            p.push(0x54, 1, 0, 0, !table.mask as i32);
            found.push(p.code.len());
            p.push(0x15, 1, 0, 0, 0);
        }
        p.leave(0x05, 0, 0, 0);
        let here = p.code.len();
        for at in found {
            p.code[at] |= ((here - at - 1) as u64) << 16;
        }
        p
    }

    /// The record of the slot, whose key, `at` so many bytes behind its begin, must be the packet's.
    fn record(mut self, table: Table<'_>, words: i16, at: i16) -> Self {
        debug_assert!(at == 0 || at as usize == std::mem::offset_of!(FlowRecord, key));
        self.push(0x54, 3, 0, 0, table.mask as i32);
        self.push(0x04, 3, 0, 0, -1);
        self.push(0x63, FP, 3, -4, 0);
        let mut p = self.look_up(table.records, -4);
        for i in 0..words {
            p.push(0x79, 1, 0, at + 8 * i, 0);
            p.push(0x79, 2, FP, KEY + 8 * i, 0);
            p.leave(0x5d, 1, 2, 0);
        }
        p
    }

    /// The entry's verdict, and its hit counters.
    fn hits(mut self) -> Self {
        self.push(0x79, 1, 0, 24, 0);
        self.leave(0x15, 1, 0, 0);
        self.push(0xb7, 1, 0, 0, 46);
        self.push(0xdb, 0, 1, 32, 0);
        self.push(0xdb, 0, 1, 40, 0);
        self
    }

    /// `adds` atomic additions to the value that was found, a word apart.
    fn add(mut self, adds: i16) -> Self {
        self.push(0xb7, 1, 0, 0, 0);
        for i in 0..adds {
            self.push(0xdb, 0, 1, i * 8, 0);
        }
        self
    }

    /// `met` where every step found what it looked for, else XDP_ABORTED, which the measurement refuses.
    pub fn finish(mut self, met: u32) -> Result<OwnedFd, Failure> {
        self.push(0xb7, 0, 0, 0, met as i32);
        self.push(0x95, 0, 0, 0, 0);
        let end = self.code.len();
        self.push(0xb7, 0, 0, 0, 0);
        self.push(0x95, 0, 0, 0, 0);
        for at in self.exits {
            let off = (end - at - 1) as u64;
            self.code[at] |= off << 16;
        }
        Ok(xdp_of("rung", &self.code)?)
    }
}
