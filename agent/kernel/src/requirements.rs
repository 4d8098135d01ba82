//! What the programs need of the kernel, said where one is too old for them.

use aya::util::KernelVersion;

use crate::KernelError;

/// Features that Weir cannot do without, with the version of Linux that brought them, oldest first.
const NEEDED: [((u8, u8), &str); 7] = [
    ((5, 5), "memory-mapped arrays"),
    ((5, 8), "ring buffers"),
    ((5, 9), "links of XDP programs"),
    ((5, 11), "coarse clock for programs (bpf_ktime_get_coarse_ns)"),
    ((5, 12), "atomic exchange in programs"),
    ((5, 17), "loops of programs (bpf_loop)"),
    ((5, 18), "XDP on frames of several buffers (xdp.frags)"),
];

/// TCX, without which egress goes through a clsact filter.
const TCX: (u8, u8) = (6, 6);

fn at_least(running: KernelVersion, (major, minor): (u8, u8)) -> bool {
    running >= KernelVersion::new(major, minor, 0)
}

/// Whether this kernel has TCX. Unknown counts as not.
pub fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|v| at_least(v, TCX))
}

/// What a kernel that refused the programs lacks; `refused` where it lacks nothing by its version. Asked only then:
/// distributions carry features back, and a kernel that takes the programs is new enough, whatever it calls itself.
pub fn explain(refused: KernelError) -> KernelError {
    match KernelVersion::current().ok().map(|v| too_old(v, release())) {
        Some(Some(e)) => e,
        _ => refused,
    }
}

fn too_old(version: KernelVersion, running: String) -> Option<KernelError> {
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(since, _)| !at_least(version, *since)).map(|(_, what)| *what).collect();
    let (major, minor) = NEEDED.last()?.0;
    if missing.is_empty() {
        return None;
    }
    Some(KernelError::TooOld { running, oldest: format!("{major}.{minor}"), missing: missing.join(", no ") })
}

/// As `uname -r` says.
fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_told_what_it_lacks_and_a_new_one_nothing() {
        let words = |major, minor| {
            too_old(KernelVersion::new(major, minor, 200), format!("{major}.{minor}.200-test")).map(|e| e.to_string())
        };
        let old = words(5, 10).unwrap();
        assert!(old.contains("Linux 5.10.200-test") && old.contains("need 5.18 or later"), "{old}");
        assert!(old.contains("no coarse clock") && old.contains("no loops") && !old.contains("links of"), "{old}");
        let nearly = words(5, 17).unwrap();
        assert!(nearly.contains("it has no XDP on frames of several buffers (xdp.frags). "), "{nearly}");
        assert_eq!((words(5, 18), words(6, 1)), (None, None));
    }
}
