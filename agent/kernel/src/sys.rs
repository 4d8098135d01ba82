//! The bpf system call, as far as aya does not issue it: single operations on plain values.
//!
//! linux/bpf.h, `union bpf_attr`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};

mod cmd {
    pub const MAP_CREATE: u32 = 0;
    pub const MAP_LOOKUP_ELEM: u32 = 1;
    pub const MAP_UPDATE_ELEM: u32 = 2;
    pub const OBJ_PIN: u32 = 6;
    pub const OBJ_GET: u32 = 7;
    pub const OBJ_GET_INFO_BY_FD: u32 = 15;
    pub const PROG_TEST_RUN: u32 = 10;
    pub const LINK_DETACH: u32 = 34;
}

/// Whatever is there: insert or replace.
pub const ANY: u64 = 0;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ElemAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ObjAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// First part of what BPF_MAP_CREATE takes.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct MapAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
    ifindex: u32,
}

/// First part of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct MapInfo {
    pub map_type: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

pub(crate) fn bpf<T: Pod>(cmd: u32, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` is a prefix of the union as linux/bpf.h has it for `cmd`; the pointers inside come from references
    // that the callers below keep alive for the call.
    let r = unsafe { libc::syscall(libc::SYS_bpf, cmd, std::ptr::from_mut(attr), size_of::<T>()) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(r) }
}

fn fd_of(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

/// Opens a pinned object.
pub fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjAttr { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    let fd = bpf(cmd::OBJ_GET, &mut attr)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Makes a map whose values are zero. The name is for those who list maps.
pub fn map_create(name: &str, of: &MapInfo) -> io::Result<OwnedFd> {
    let mut attr = MapAttr {
        map_type: of.map_type,
        key_size: of.key_size,
        value_size: of.value_size,
        max_entries: of.max_entries,
        map_flags: of.map_flags,
        ..MapAttr::zeroed()
    };
    // The last byte stays zero.
    for (to, from) in attr.name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    map_of(attr)
}

fn map_of(mut attr: MapAttr) -> io::Result<OwnedFd> {
    let fd = bpf(cmd::MAP_CREATE, &mut attr)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Pins an object in a bpf file system, beside where it may be pinned already. Nothing may be at `path`.
pub fn obj_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjAttr { pathname: path.as_ptr() as u64, bpf_fd: fd_of(fd), file_flags: 0 };
    bpf(cmd::OBJ_PIN, &mut attr).map(drop)
}

fn info_into<T: Pod>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr =
        InfoAttr { bpf_fd: fd_of(fd), info_len: size_of::<T>() as u32, info: std::ptr::from_mut(info) as u64 };
    bpf(cmd::OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

pub fn map_info(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    info_into(fd, &mut info)?;
    Ok(info)
}

pub fn link_program_id(fd: BorrowedFd<'_>) -> io::Result<u32> {
    link_info(fd).map(|info| info.program)
}

/// What a link of XDP or TCX holds together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    pub program: u32,
    /// In the network namespace where the interface is now; 0: it is gone, or the link was detached.
    pub ifindex: u32,
}

/// `struct bpf_link_info`: type, link id, program id, and behind eight bytes of alignment the interface (XDP and TCX alike).
pub fn link_info(fd: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = [0u32; 16];
    info_into(fd, &mut info)?;
    Ok(LinkInfo { program: info[2], ifindex: info[4] })
}

/// Whether a program was compiled to machine code (`struct bpf_prog_info`: type, id, tag of eight bytes, length of the code).
pub fn is_compiled(program: BorrowedFd<'_>) -> io::Result<bool> {
    let mut info = [0u32; 16];
    info_into(program, &mut info)?;
    Ok(info[4] != 0)
}

/// Takes the link's program off its interface now. (Removing the last pin does so a little later.)
pub fn link_detach(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = [fd_of(fd)];
    bpf(cmd::LINK_DETACH, &mut attr).map(drop)
}

/// The value under `key`, `None` where there is none.
pub fn lookup<K: NoUninit, V: AnyBitPattern + NoUninit>(fd: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    let mut attr = ElemAttr {
        map_fd: fd_of(fd),
        pad: 0,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_mut(&mut value) as u64,
        flags: 0,
    };
    match bpf(cmd::MAP_LOOKUP_ELEM, &mut attr) {
        Ok(_) => Ok(Some(value)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// One value per possible processor of a per-CPU map whose values are multiples of 8 bytes.
pub fn lookup_percpu<V: AnyBitPattern + NoUninit>(fd: BorrowedFd<'_>, index: u32, cpus: usize) -> io::Result<Vec<V>> {
    let mut values = vec![V::zeroed(); cpus];
    let mut attr = ElemAttr {
        map_fd: fd_of(fd),
        pad: 0,
        key: std::ptr::from_ref(&index) as u64,
        value: values.as_mut_ptr() as u64,
        flags: 0,
    };
    bpf(cmd::MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(values)
}

/// Fills `bytes` with random ones of the kernel's.
pub fn random<T: Pod>() -> io::Result<T> {
    let mut value = T::zeroed();
    let bytes = bytemuck::bytes_of_mut(&mut value);
    // SAFETY: writes at most so many bytes there.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match got {
        // Up to 256 bytes come whole.
        n if n == bytes.len() as isize => Ok(value),
        n if n < 0 => Err(io::Error::last_os_error()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

pub fn update<K: NoUninit, V: NoUninit>(fd: BorrowedFd<'_>, key: &K, value: &V, flags: u64) -> io::Result<()> {
    let mut attr = ElemAttr {
        map_fd: fd_of(fd),
        pad: 0,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_ref(value) as u64,
        flags,
    };
    bpf(cmd::MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Waits until no program that was running at the call is still running.
pub fn wait_for_programs() -> io::Result<()> {
    // Refused where processors run without ticks (`nohz_full`), and by some containers.
    membarrier().or_else(|refused| wait_by_map().map_err(|_| refused))
}

/// membarrier(2), MEMBARRIER_CMD_GLOBAL.
fn membarrier() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;
    // SAFETY: takes two integers.
    let r = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Changing a map of maps returns once all programs that may use the old value have ended (kernel/bpf/syscall.c,
/// `maybe_wait_bpf_programs`).
fn wait_by_map() -> io::Result<()> {
    const ARRAY: u32 = 2;
    const ARRAY_OF_MAPS: u32 = 12;
    let create = |map_type, inner: u32| {
        map_of(MapAttr {
            map_type,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
            inner_map_fd: inner,
            ..MapAttr::zeroed()
        })
    };
    let inner = create(ARRAY, 0)?;
    let outer = create(ARRAY_OF_MAPS, fd_of(inner.as_fd()))?;
    update(outer.as_fd(), &0u32, &fd_of(inner.as_fd()), ANY)
}

/// CLOCK_MONOTONIC, ns: the clock of `bpf_ktime_get_ns`.
pub fn monotonic_ns() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec. This clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Processors that a per-CPU map has values for.
pub fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit([',', '-']).next().and_then(|n| n.parse::<usize>().ok());
    last.map(|n| n + 1).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("cpu/possible is `{text}`")))
}

/// What a test run of a program gave.
#[derive(Clone, Copy, Debug)]
pub struct TestRun {
    pub verdict: u32,
    /// Mean time of one run, ns.
    pub ns: u32,
}

/// Sends the packet on, or drops it, for real (XDP only; `BPF_F_TEST_XDP_LIVE_FRAMES`).
pub const LIVE_FRAMES: u32 = 2;

/// Runs a program on a packet (`BPF_PROG_TEST_RUN`). `context` is a `struct xdp_md` or `struct __sk_buff`, or empty.
pub fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    context: &[u8],
    repeat: u32,
    flags: u32,
) -> io::Result<TestRun> {
    let mut attr = TestRunAttr {
        prog_fd: fd_of(program),
        data_size_in: packet.len() as u32,
        data_in: packet.as_ptr() as u64,
        repeat,
        ctx_size_in: context.len() as u32,
        ctx_in: if context.is_empty() { 0 } else { context.as_ptr() as u64 },
        flags,
        ..TestRunAttr::zeroed()
    };
    bpf(cmd::PROG_TEST_RUN, &mut attr)?;
    Ok(TestRun { verdict: attr.retval, ns: attr.duration })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_can_be_waited_for_without_membarrier() {
        match wait_by_map() {
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => eprintln!("SKIP: needs root"),
            done => done.unwrap(),
        }
    }
}
