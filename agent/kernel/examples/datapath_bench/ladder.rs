//! What the steps of the paths cost by themselves: programs of a few instructions that take one step more each, on the maps
//! that the whole program uses. What such a step costs, no arrangement of the rest can save.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use weir_common::flow::FlowStats;
use weir_common::names;
use weir_kernel::sys;

use crate::raw::{address_at, hash, insn, xdp_of};
use crate::{Bench, Failure};

/// Steps with their names. What they look things up in must outlive the measurement.
pub struct Ladder {
    pub steps: Vec<(&'static str, Program)>,
    pub maps: Vec<OwnedFd>,
}

/// Steps of the known-flow path, for the first `count` addresses.
pub fn flows(bench: &Bench, count: u32) -> Result<Ladder, Failure> {
    let flows = bench.pins.open(names::FLOWS_0)?;
    let small = small_keys(count)?;
    let flow = || Program::new().flow(flows.as_fd());
    let steps = vec![
        ("the packet's address", Program::new()),
        ("the clock", Program::new().clock()),
        ("the hash lookup", flow()),
        ("the lookup, and the clock", flow().clock()),
        ("the lookup, and eight additions", flow().add(8)),
        ("a lookup with a key of 16 bytes", Program::new().small_flow(small.as_fd())),
    ];
    Ok(Ladder { steps, maps: vec![flows, small] })
}

/// Steps of the drop path, IPv4.
pub fn drops(bench: &Bench) -> Result<Ladder, Failure> {
    let (bitmap, block) = (bench.pins.open(names::V4_BITMAP)?, bench.pins.open(names::V4_BLOCK)?);
    let hits = bench.pins.open(names::HITS)?;
    let steps = vec![
        ("the packet's address", Program::new()),
        ("the bitmap's word", Program::new().bitmap(bitmap.as_fd())),
        ("the hash lookup", Program::new().entry(block.as_fd())),
        ("the word, then the lookup", Program::new().bitmap(bitmap.as_fd()).entry(block.as_fd())),
        ("the lookup, then the hits", Program::new().entry(block.as_fd()).hits(hits.as_fd())),
        ("all three", Program::new().bitmap(bitmap.as_fd()).entry(block.as_fd()).hits(hits.as_fd())),
    ];
    Ok(Ladder { steps, maps: vec![bitmap, block, hits] })
}

/// The flows of the bench in a hash of the same size, under the shortest key that tells IPv4 flows apart: two addresses, two
/// ports, the protocol (and room for two VLAN tags).
fn small_keys(count: u32) -> Result<OwnedFd, Failure> {
    let map = hash(16, size_of::<FlowStats>() as u32, count)?;
    for position in 0..count {
        let mut key = [0u8; 16];
        key[..4].copy_from_slice(&address_at(position));
        key[4..12].copy_from_slice(&[192, 0, 2, 1, 0x9c, 0x40, 0x01, 0xbb]);
        key[12] = 6;
        sys::update(map.as_fd(), &key, &FlowStats::EMPTY, sys::ANY)?;
    }
    Ok(map)
}

const FP: u8 = 10;
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
    fn look_up(&mut self, map: BorrowedFd<'_>, at: i16) {
        self.push(0x18, 1, 1, 0, map.as_raw_fd());
        self.code.push(0);
        self.push(0xbf, 2, FP, 0, 0);
        self.push(0x07, 2, 0, 0, i32::from(at));
        self.push(0x85, 0, 0, 0, LOOKUP);
        self.leave(0x15, 0, 0, 0);
    }

    /// One word of the bitmap of occupied /24s.
    fn bitmap(mut self, map: BorrowedFd<'_>) -> Self {
        self.push(0xbf, 2, ADDRESS, 0, 0);
        self.push(0xdc, 2, 0, 0, 32);
        self.push(0x77, 2, 0, 0, 8 + 5);
        self.push(0x63, FP, 2, -4, 0);
        self.look_up(map, -4);
        self.push(0x79, 1, 0, 0, 0);
        self.leave(0x15, 1, 0, 0);
        self
    }

    /// The entry of the /32 in a block hash, and its expiry.
    fn entry(mut self, map: BorrowedFd<'_>) -> Self {
        self.push(0x63, FP, ADDRESS, -16, 0);
        self.push(0x62, FP, 0, -12, 32);
        self.look_up(map, -16);
        self.push(0x79, 1, 0, 0, 0);
        self.leave(0x15, 1, 0, 0);
        self
    }

    /// The entry's hit counters, once the entry is found.
    fn hits(mut self, map: BorrowedFd<'_>) -> Self {
        self.push(0x61, 1, 0, 8, 0);
        self.push(0x63, FP, 1, -4, 0);
        self.look_up(map, -4);
        self.push(0xb7, 1, 0, 0, 46);
        self.push(0xdb, 0, 1, 0, 0);
        self.push(0xdb, 0, 1, 8, 0);
        self
    }

    /// The clock.
    fn clock(mut self) -> Self {
        self.push(0x85, 0, 0, 0, KTIME_GET_NS);
        self
    }

    /// The packet's flow, as the bench's own frame has it: from the changing address to 192.0.2.1.
    fn flow(mut self, map: BorrowedFd<'_>) -> Self {
        const KEY: i16 = -48;
        self.push(0xb7, 1, 0, 0, 0);
        for at in [0, 16] {
            self.push(0x7b, FP, 1, KEY + at, 0);
        }
        self.push(0x62, FP, 0, KEY + 8, 0xffff_0000u32 as i32);
        self.push(0x62, FP, 0, KEY + 24, 0xffff_0000u32 as i32);
        self.push(0x62, FP, 0, KEY + 36, 0);
        self.push(0x62, FP, 0, KEY + 40, 6 | 4 << 8);
        // Which of the two is the smaller.
        self.push(0x61, 2, DATA, 30, 0);
        self.push(0x61, 3, DATA, 34, 0);
        self.push(0xbf, 4, ADDRESS, 0, 0);
        self.push(0xbf, 5, 2, 0, 0);
        self.push(0xdc, 4, 0, 0, 32);
        self.push(0xdc, 5, 0, 0, 32);
        self.push(0xdc, 3, 0, 0, 32);
        self.push(0x2d, 4, 5, 6, 0);
        for (address, other, port) in [(12, 28, 34), (28, 12, 32)] {
            self.push(0x63, FP, ADDRESS, KEY + address, 0);
            self.push(0x63, FP, 2, KEY + other, 0);
            self.push(0x6b, FP, 3, KEY + port, 0);
            self.push(0x77, 3, 0, 0, 16);
            self.push(0x6b, FP, 3, KEY + 66 - port, 0);
            if address == 12 {
                self.push(0x05, 0, 0, 5, 0);
            }
        }
        self.look_up(map, KEY);
        self
    }

    /// The packet's flow in a hash of [`small_keys`].
    fn small_flow(mut self, map: BorrowedFd<'_>) -> Self {
        self.push(0x63, FP, ADDRESS, -16, 0);
        for (from, to) in [(30, -12), (34, -8)] {
            self.push(0x61, 2, DATA, from, 0);
            self.push(0x63, FP, 2, to, 0);
        }
        self.push(0x62, FP, 0, -4, 6);
        self.look_up(map, -16);
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
