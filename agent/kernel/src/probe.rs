//! What this kernel can do, and what it costs: tried, without leaving anything behind.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use aya::EbpfLoader;
use aya::programs::{SchedClassifier, Xdp};
use bytemuck::{Pod, Zeroable};
use weir_common::hash::Seed;
use weir_common::names::{
    Capacity, GLOBAL_SEED, GLOBAL_SIZES, GLOBAL_USE_TEST_CLOCK, MAPS, PROGRAM_TC, PROGRAM_XDP, Sizes,
};

use crate::programs::{chain, program};
use crate::{KernelError, object, sys};

/// Loads the programs with small maps, attaches them to nothing, and drops them. Instructions that the verifier processed:
/// XDP, TC.
pub fn load() -> Result<[Option<u32>; 2], KernelError> {
    let object = object::EBPF_OBJECT.ok_or(KernelError::NoObject)?;
    let capacity = Capacity { flows: 1024, blocks: 64, allows: 64 };
    let (seed, sizes): (Seed, _) = (Seed::zeroed(), Sizes::of(&capacity));
    let mut loader = EbpfLoader::new();
    loader.override_global(GLOBAL_SEED, bytemuck::bytes_of(&seed), true);
    loader.override_global(GLOBAL_SIZES, bytemuck::bytes_of(&sizes), true);
    loader.override_global(GLOBAL_USE_TEST_CLOCK, &0u8, true);
    for spec in &MAPS {
        loader.map_max_entries(spec.name, spec.max_entries(&capacity));
    }
    let mut ebpf = loader.load(object).map_err(|e| KernelError::Load(chain(&e)))?;
    let failed = |name: &str, e: &dyn std::error::Error| KernelError::Load(format!("{name}: {}", chain(e)));
    let xdp: &mut Xdp = program(&mut ebpf, PROGRAM_XDP)?;
    xdp.load().map_err(|e| failed(PROGRAM_XDP, &e))?;
    let first = xdp.info().ok().and_then(|i| i.verified_instruction_count());
    let tc: &mut SchedClassifier = program(&mut ebpf, PROGRAM_TC)?;
    tc.load().map_err(|e| failed(PROGRAM_TC, &e))?;
    let second = tc.info().ok().and_then(|i| i.verified_instruction_count());
    Ok([first, second])
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct LoadAttr {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
}

/// An XDP program that does `what` so many times (RFC 9669).
fn repeated(what: u64, times: usize) -> io::Result<OwnedFd> {
    const PROG_LOAD: u32 = 5;
    const XDP: u32 = 6;
    const PASS: u64 = 2 << 32 | 0xb7;
    const EXIT: u64 = 0x95;
    let mut code = vec![what; times];
    code.extend([PASS, EXIT]);
    let mut attr = LoadAttr {
        kind: XDP,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
    };
    let fd = sys::bpf(PROG_LOAD, &mut attr)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// It does nothing.
const NOTHING: u64 = 0xb7;

/// Whether this kernel compiles programs to machine code.
pub fn compiles() -> io::Result<bool> {
    sys::is_compiled(repeated(NOTHING, 1)?.as_fd())
}

/// What a program pays to know the time (`bpf_ktime_get_ns`), nanoseconds a call: the least of a few rounds.
pub fn clock_cost() -> io::Result<f64> {
    const CALLS: usize = 64;
    const RUNS: u32 = 20_000;
    const ROUNDS: u32 = 4;
    // Calls of the helper, and as many assignments.
    const KTIME: u64 = 5 << 32 | 0x85;
    let (calls, floor) = (repeated(KTIME, CALLS)?, repeated(NOTHING, CALLS)?);
    let mut least = [u32::MAX; 2];
    for _ in 0..ROUNDS {
        for (program, least) in [&calls, &floor].into_iter().zip(&mut least) {
            *least = (*least).min(sys::test_run(program.as_fd(), &[0; 64], &[], RUNS, 0)?.ns);
        }
    }
    Ok(f64::from(least[0].saturating_sub(least[1])) / CALLS as f64)
}
