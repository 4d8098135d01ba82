//! Small kernel programs assembled by hand (RFC 9669): something to measure against, and strangers to meet.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction.
pub const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    code as u64 | (dst as u64) << 8 | (src as u64) << 12 | (off as u16 as u64) << 16 | (imm as u32 as u64) << 32
}

const MOV_IMM: u8 = 0xb7;
const MOV_REG: u8 = 0xbf;
const ADD_IMM: u8 = 0x07;
const MUL32_IMM: u8 = 0x24;
const ADD32_IMM: u8 = 0x04;
const MOD32_IMM: u8 = 0x94;
const LOAD32: u8 = 0x61;
const STORE32: u8 = 0x63;
const JUMP_GT_REG: u8 = 0x2d;
const LOAD_IMM64: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// An XDP program of these instructions.
pub fn xdp_of(name: &str, code: &[u64]) -> io::Result<OwnedFd> {
    load(PROG_TYPE_XDP, name, code)
}

/// A TC program of these instructions.
pub fn tc_of(name: &str, code: &[u64]) -> io::Result<OwnedFd> {
    load(PROG_TYPE_SCHED_CLS, name, code)
}

const PROG_TYPE_SCHED_CLS: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const XDP_HAS_FRAGS: u32 = 1 << 5;
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PROG_ARRAY: u32 = 3;
const TAIL_CALL: i32 = 12;
const SKB_VLAN_PUSH: i32 = 18;

#[repr(C)]
struct ProgAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

fn load(prog_type: u32, name: &str, code: &[u64]) -> io::Result<OwnedFd> {
    let mut log = vec![0u8; 64 << 10];
    let xdp = prog_type == PROG_TYPE_XDP;
    let mut prog_name = [0u8; 16];
    prog_name[..name.len().min(15)].copy_from_slice(&name.as_bytes()[..name.len().min(15)]);
    let attr = ProgAttr {
        prog_type,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log_buf: log.as_mut_ptr() as u64,
        kern_version: 0,
        prog_flags: if xdp { XDP_HAS_FRAGS } else { 0 },
        prog_name,
        prog_ifindex: 0,
        expected_attach_type: if xdp { ATTACH_XDP } else { 0 },
    };
    // SAFETY: BPF_PROG_LOAD with a valid attribute; everything it points to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, 5, &raw const attr, size_of::<ProgAttr>()) };
    if fd < 0 {
        let e = io::Error::last_os_error();
        let text = String::from_utf8_lossy(&log);
        return Err(io::Error::new(e.kind(), format!("{e}: {}", text.trim_end_matches('\0'))));
    }
    // SAFETY: a fresh descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// An XDP program that only returns `verdict`: the floor.
pub fn xdp_return(name: &str, verdict: u32) -> io::Result<OwnedFd> {
    load(PROG_TYPE_XDP, name, &[insn(MOV_IMM, 0, 0, 0, verdict as i32), insn(EXIT, 0, 0, 0, 0)])
}

/// A TC program that only returns `verdict`.
pub fn tc_return(verdict: i32) -> io::Result<OwnedFd> {
    load(PROG_TYPE_SCHED_CLS, "return", &[insn(MOV_IMM, 0, 0, 0, verdict), insn(EXIT, 0, 0, 0, 0)])
}

/// A TC program that gives every packet the VLAN tag `id` in its metadata and lets the next filter decide.
pub fn tc_push_vlan(id: u16) -> io::Result<OwnedFd> {
    load(
        PROG_TYPE_SCHED_CLS,
        "push_vlan",
        &[
            insn(MOV_IMM, 2, 0, 0, i32::from(0x8100u16.to_be())),
            insn(MOV_IMM, 3, 0, 0, i32::from(id)),
            insn(CALL, 0, 0, 0, SKB_VLAN_PUSH),
            insn(MOV_IMM, 0, 0, 0, -1),
            insn(EXIT, 0, 0, 0, 0),
        ],
    )
}

/// How a [`rotor`] changes the packet from one run to the next.
#[derive(Clone, Copy)]
pub struct Rotation {
    /// Where the 32 changing bits of the address lie.
    pub address_at: i16,
    /// Four bytes of the packet that hold the position between runs.
    pub state_at: i16,
    /// Different addresses, from this position on.
    pub first: u32,
    pub count: u32,
    /// From one position to the next, modulo `count`.
    pub stride: u32,
}

/// Odd, so that every position has an address of its own, and spread evenly (Knuth, TAOCP 3, 6.4).
const SPREAD: u32 = 0x9e37_79b1;

/// The changing part of the address at `position`, network byte order.
pub fn address_at(position: u32) -> [u8; 4] {
    position.wrapping_mul(SPREAD).to_be_bytes()
}

/// Makes a map of this type, key size, value size and capacity.
fn create_map(of: [u32; 4]) -> io::Result<OwnedFd> {
    let mut attr = [0u32; 18];
    attr[..4].copy_from_slice(&of);
    // SAFETY: BPF_MAP_CREATE with a valid attribute; the descriptor is fresh.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, 0, attr.as_ptr(), size_of_val(&attr));
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as i32)) }
    }
}

/// A hash, preallocated.
pub fn hash(key_size: u32, value_size: u32, capacity: u32) -> io::Result<OwnedFd> {
    create_map([HASH, key_size, value_size, capacity])
}

/// An array of 64-bit counters.
pub fn counters(capacity: u32) -> io::Result<OwnedFd> {
    create_map([ARRAY, 4, 8, capacity])
}

/// Instructions that add one to the counter whose number is in `r7`, with `map` an array of counters; they use `r0` to `r2`.
pub fn count(map: &OwnedFd) -> [u64; 9] {
    [
        insn(STORE32, 10, 7, -4, 0),
        insn(MOV_REG, 2, 10, 0, 0),
        insn(ADD_IMM, 2, 0, 0, -4),
        insn(LOAD_IMM64, 1, 1, 0, map.as_raw_fd()),
        0,
        insn(CALL, 0, 0, 0, LOOKUP),
        // None of this number: nothing is counted.
        insn(JUMP_EQ_IMM, 0, 0, 2, 0),
        insn(MOV_IMM, 1, 0, 0, 1),
        insn(ATOMIC_ADD64, 0, 1, 0, 0),
    ]
}

const JUMP_EQ_IMM: u8 = 0x15;
const ATOMIC_ADD64: u8 = 0xdb;
const LOOKUP: i32 = 1;

/// An XDP program that moves the packet on to its next address, then jumps to `target`. The test run repeats one buffer, so
/// what a run writes is there in the next. The tail call's table comes along: it must outlive the runs.
pub fn rotor(rotation: Rotation, target: BorrowedFd<'_>) -> io::Result<(OwnedFd, OwnedFd)> {
    let table = create_map([PROG_ARRAY, 4, 4, 1])?;
    let Rotation { address_at, state_at, first, count, stride } = rotation;
    let code = [
        insn(MOV_REG, 6, 1, 0, 0),
        insn(LOAD32, 7, 1, 0, 0),
        insn(LOAD32, 8, 1, 4, 0),
        insn(MOV_REG, 2, 7, 0, 0),
        insn(ADD_IMM, 2, 0, 0, i32::from(state_at) + 4),
        insn(JUMP_GT_REG, 2, 8, 15, 0),
        insn(LOAD32, 3, 7, state_at, 0),
        insn(ADD32_IMM, 3, 0, 0, (stride % count) as i32),
        insn(MOD32_IMM, 3, 0, 0, count as i32),
        insn(STORE32, 7, 3, state_at, 0),
        insn(ADD32_IMM, 3, 0, 0, first as i32),
        insn(MUL32_IMM, 3, 0, 0, SPREAD as i32),
        // To network byte order.
        insn(0xdc, 3, 0, 0, 32),
        insn(STORE32, 7, 3, address_at, 0),
        insn(MOV_REG, 1, 6, 0, 0),
        insn(LOAD_IMM64, 2, 1, 0, table.as_raw_fd()),
        0,
        insn(MOV_IMM, 3, 0, 0, 0),
        insn(CALL, 0, 0, 0, TAIL_CALL),
        insn(MOV_IMM, 0, 0, 0, 0),
        insn(EXIT, 0, 0, 0, 0),
        insn(MOV_IMM, 0, 0, 0, 0),
        insn(EXIT, 0, 0, 0, 0),
    ];
    let program = load(PROG_TYPE_XDP, "rotor", &code)?;
    weir_kernel::sys::update(
        std::os::fd::AsFd::as_fd(&table),
        &0u32,
        &(target.as_raw_fd() as u32),
        weir_kernel::sys::ANY,
    )?;
    Ok((program, table))
}

/// Pins a program (`BPF_OBJ_PIN`).
pub fn pin(program: i32, path: &str) -> io::Result<()> {
    let path = std::ffi::CString::new(path)?;
    let attr = [path.as_ptr() as u64, program as u64];
    // SAFETY: a path and a descriptor, valid for the call.
    let r = unsafe { libc::syscall(libc::SYS_bpf, 6, attr.as_ptr(), size_of_val(&attr)) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts a program in the place of a link's (`BPF_LINK_UPDATE`).
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = [link.as_raw_fd() as u32, program.as_raw_fd() as u32, 0, 0];
    // SAFETY: BPF_LINK_UPDATE with a valid attribute.
    let r = unsafe { libc::syscall(libc::SYS_bpf, 29, attr.as_ptr(), size_of_val(&attr)) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Attaches an XDP program in native mode for as long as the descriptor lives (`BPF_LINK_CREATE`).
pub fn attach_xdp(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    let attr = [program.as_raw_fd() as u32, ifindex, ATTACH_XDP, 0, 0, 0, 0, 0];
    // SAFETY: BPF_LINK_CREATE with a valid attribute; the descriptor is fresh.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, 28, attr.as_ptr(), size_of_val(&attr));
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as i32)) }
    }
}
