//! Weir's kernel programs: XDP at ingress, TC at egress. A thin shell: parsing, statistics and the meaning of entries are
//! weir-common's, the same code that userspace runs.
#![no_std]
#![no_main]
#![feature(core_intrinsics, asm_experimental_arch)]
#![expect(internal_features, reason = "BPF atomics are reachable only as compiler intrinsics")]

mod account;
mod atomic;
mod count;
mod egress;
mod index;
mod ingress;
mod lists;
mod maps;
mod obey;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

#[xdp(frags)]
pub fn weir_xdp(ctx: XdpContext) -> u32 {
    ingress::run(&ctx)
}

#[classifier]
pub fn weir_tc(ctx: TcContext) -> i32 {
    egress::run(&ctx)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The verifier wants a GPL-compatible licence for some helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
