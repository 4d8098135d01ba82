use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("this `weir` was built without its kernel programs; run `cargo xtask build-ebpf` and build again")]
    NoObject,
    #[error("there is no interface `{0}` in this network namespace; `ip link` lists those there are")]
    NoInterface(String),
    #[error(
        "interface {interface} already runs another XDP program ({program}); Weir never replaces one. \
         Detach it first (`ip link set dev {interface} xdp off`, or `xdpgeneric off`, or stop its owner) or choose another interface; \
         `weir doctor -i {interface}` says what runs there"
    )]
    ForeignXdp { interface: String, program: String },
    #[error(
        "the pins in {} belong to {found}; this weir has {expected}. \
         Remove them with `weir unload -i {interface}` (blocks are written again at the next start)", dir.display()
    )]
    ForeignPins { dir: PathBuf, interface: String, found: String, expected: String },
    #[error("{} is no bpf file system; mount one with `mount -t bpf bpf /sys/fs/bpf`; \
         `weir doctor` says what else is missing", path.display())]
    NoBpffs { path: PathBuf },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the kernel refused {what}: {source}{}", hint(source))]
    Refused { what: String, source: io::Error },
    #[error("the kernel did not take the programs: {0}; `weir doctor` says what this kernel lacks")]
    Load(String),
    #[error(
        "Linux {running} is too old for Weir's programs, which need {oldest} or later: it has no {missing}. \
         Boot a newer kernel; `weir run --netflow` and `weir replay` load no programs"
    )]
    TooOld { running: String, oldest: String, missing: String },
    #[error("cannot attach to {interface}: {cause}; `weir doctor -i {interface}` says what stands in the way")]
    Attach { interface: String, cause: String },
    #[error("the {list} map is full ({capacity} entries); raise `capacity.{key}` in weir.yaml")]
    Full { list: &'static str, capacity: u32, key: &'static str },
    #[error(
        "the table of entries has room for {room}, and {entries} are to lie in it; raise `capacity.blocks` in weir.yaml"
    )]
    TooSmall { entries: usize, room: u32 },
    #[error(
        "there are entries for {max} single flows, the most that can be; block hosts or ports instead, or delete some"
    )]
    TooManyFlows { max: u32 },
    #[error("the table of entries is too crowded for one more; raise `capacity.blocks` in weir.yaml")]
    Crowded,
    #[error(
        "{family} prefixes of more than {max} different lengths are on the {list} list; \
         merge some before adding one of length {len}"
    )]
    TooManyLengths { family: &'static str, list: &'static str, max: usize, len: u8 },
}

/// What usually mends it.
fn hint(e: &io::Error) -> &'static str {
    match e.raw_os_error() {
        Some(libc::EPERM) => {
            " (run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; `weir doctor` names what is missing)"
        }
        Some(libc::ENOMEM) => " (not enough memory: lower `capacity.flows` or `capacity.blocks` in weir.yaml)",
        _ => "",
    }
}

impl KernelError {
    pub(crate) fn refused(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Refused { what, source }
    }
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
