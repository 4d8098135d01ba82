//! The kernel programs, as the build embedded them.

/// Aligned as the ELF parser needs it.
#[cfg(weir_ebpf)]
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

#[cfg(weir_ebpf)]
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/weir-ebpf.o")));

/// `None`: this binary was built before `cargo xtask build-ebpf` had made the object.
#[cfg(weir_ebpf)]
pub const EBPF_OBJECT: Option<&[u8]> = Some(&OBJECT.0);
/// `None`: this binary was built before `cargo xtask build-ebpf` had made the object.
#[cfg(not(weir_ebpf))]
pub const EBPF_OBJECT: Option<&[u8]> = None;
