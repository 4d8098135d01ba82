//! The kernel: version, BTF, JIT, lockdown, capabilities, locked memory, bpffs, and whether it takes the programs.

use super::finding::{Check, Finding, Read};

const RELEASE: Check = Check {
    id: "kernel.release",
    title: "kernel",
    why: "the programs need atomic operations (Linux 5.12); before 6.6 there is no TCX, and the classic TC hook is used",
};
const PROGRAMS: Check = Check {
    id: "kernel.programs",
    title: "Weir's programs",
    why: "what the kernel's verifier does not take cannot count or drop anything",
};
const BTF: Check = Check {
    id: "kernel.btf",
    title: "BTF of the kernel",
    why: "Weir's programs run without it; tools that show what programs do, and those of others, need it",
};
const JIT: Check = Check {
    id: "kernel.jit",
    title: "compiler of BPF programs",
    why: "without it every packet is interpreted, which costs several times as much",
};
const HARDENING: Check = Check {
    id: "kernel.jit_hardening",
    title: "hardening of compiled programs",
    why: "constants that are blinded for root's programs as well make each packet dearer",
};
const UNPRIVILEGED: Check = Check {
    id: "kernel.unprivileged_bpf",
    title: "BPF for everybody",
    why: "Weir needs no programs of users without rights, and attackers on this host do",
};
const LOCKDOWN: Check = Check {
    id: "kernel.lockdown",
    title: "lockdown",
    why: "in mode confidentiality the kernel keeps programs from reading its memory; Weir's read packets and maps alone",
};
const CAPABILITIES: Check = Check {
    id: "kernel.capabilities",
    title: "capabilities",
    why: "loading programs takes CAP_BPF and CAP_PERFMON, attaching them CAP_NET_ADMIN",
};
const MEMLOCK: Check = Check {
    id: "kernel.memlock",
    title: "limit of locked memory",
    why: "before Linux 5.11 maps count against it, and starting fails with EPERM",
};
const MEMORY: Check =
    Check { id: "kernel.memory", title: "memory for maps", why: "Weir's maps take all of their memory at once" };
const BPFFS: Check = Check {
    id: "bpf.filesystem",
    title: "bpf file system",
    why: "programs and maps are pinned there, so that what is blocked stays blocked without the agent",
};

/// Rights of a process, as sets of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    pub effective: u64,
    /// What it, and whatever it starts, can have at most.
    pub bounding: u64,
}

/// Whether the kernel took the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// Instructions that were verified: XDP, TC.
    Taken([Option<u32>; 2]),
    Refused(String),
}

#[derive(Clone, Debug)]
pub struct Reading {
    /// As `uname -r` has it.
    pub release: Read<String>,
    pub programs: Read<Load>,
    pub btf: Read<bool>,
    /// Programs are compiled.
    pub jit: Read<bool>,
    pub hardening: Read<u32>,
    pub unprivileged: Read<u32>,
    /// The mode in force; `None`: this kernel has no lockdown.
    pub lockdown: Read<Option<String>>,
    pub capabilities: Read<Capabilities>,
    /// Bytes; `None`: no limit.
    pub memlock: Read<Option<u64>>,
    /// Bytes that are free, and bytes that maps of the configured capacity take.
    pub memory: Read<(u64, u64)>,
    pub bpffs: Read<bool>,
    /// An agent runs, and has its maps.
    pub agent_runs: bool,
}

/// Each with its number in linux/capability.h.
const NEEDED: [(&str, u64); 3] = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

/// Major and minor.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

pub fn judge(r: &Reading) -> Vec<Finding> {
    let release = RELEASE.of(&r.release, |text| match version(text) {
        None => RELEASE.unknown(format!("`{text}` is no version")),
        Some(v) if v < (5, 12) => RELEASE.error(format!("{text}, which is too old")),
        Some(v) if v < (6, 6) => {
            RELEASE.note(format!("{text}: the classic TC hook is used, and this version is not tested"))
        }
        Some(_) => RELEASE.ok(text.clone()),
    });
    let programs = PROGRAMS.of(&r.programs, |load| match load {
        Load::Refused(why) => PROGRAMS.error(why.clone()),
        Load::Taken(sizes) => {
            let words: Vec<_> = sizes.iter().flatten().map(|n| crate::human::grouped(u64::from(*n))).collect();
            let verified = if words.is_empty() {
                String::new()
            } else {
                format!(" ({} instructions verified)", words.join(" and "))
            };
            PROGRAMS.ok(format!("the kernel takes both{verified}"))
        }
    });
    let btf = BTF.of(&r.btf, |there| match there {
        true => BTF.ok("/sys/kernel/btf/vmlinux"),
        false => {
            BTF.note("there is no /sys/kernel/btf/vmlinux").mend("grep CONFIG_DEBUG_INFO_BTF /boot/config-$(uname -r)")
        }
    });
    let jit = JIT.of(&r.jit, |compiles| match compiles {
        false => JIT.warning("programs are interpreted").mend("sysctl -w net.core.bpf_jit_enable=1"),
        true => JIT.ok("programs are compiled to machine code"),
    });
    let hardening = HARDENING.of(&r.hardening, |value| match value {
        2 => HARDENING
            .note("net.core.bpf_jit_harden is 2: for everybody's programs")
            .mend("sysctl -w net.core.bpf_jit_harden=1"),
        n => HARDENING.ok(format!("net.core.bpf_jit_harden is {n}")),
    });
    let unprivileged = UNPRIVILEGED.of(&r.unprivileged, |value| match value {
        0 => UNPRIVILEGED
            .note("kernel.unprivileged_bpf_disabled is 0: everybody may load programs")
            .mend("sysctl -w kernel.unprivileged_bpf_disabled=2"),
        n => UNPRIVILEGED.ok(format!("not allowed (kernel.unprivileged_bpf_disabled is {n})")),
    });
    let lockdown = match &r.lockdown {
        Ok(None) => LOCKDOWN.ok("this kernel has none"),
        Ok(Some(mode)) if mode == "confidentiality" => LOCKDOWN.note(mode.clone()),
        Ok(Some(mode)) => LOCKDOWN.ok(mode.clone()),
        Err(why) => LOCKDOWN.unknown(why.clone()).mend("mount -t securityfs securityfs /sys/kernel/security"),
    };
    vec![
        release,
        programs,
        btf,
        jit,
        hardening,
        unprivileged,
        lockdown,
        CAPABILITIES.of(&r.capabilities, |c| capabilities(*c)),
        memlock(r),
        MEMORY.of(&r.memory, |m| memory(*m, r.agent_runs)),
        BPFFS.of(&r.bpffs, |mounted| match mounted {
            true => BPFFS.ok("mounted at /sys/fs/bpf"),
            false => BPFFS.error("/sys/fs/bpf is none").mend("mount -t bpf bpf /sys/fs/bpf"),
        }),
    ]
}

fn capabilities(c: Capabilities) -> Finding {
    let lacks =
        |set: u64| NEEDED.iter().filter(|(_, bit)| set & 1 << bit == 0).map(|(name, _)| *name).collect::<Vec<_>>();
    let never = lacks(c.bounding);
    if !never.is_empty() {
        let seen = format!(
            "nobody here can have {}, not even root: this is a container or a confined service",
            never.join(", ")
        );
        let add: Vec<_> = never.iter().map(|n| format!("--cap-add {}", n.trim_start_matches("CAP_"))).collect();
        return CAPABILITIES.error(seen).mend(format!("docker run {} ...", add.join(" ")));
    }
    match lacks(c.effective) {
        some if some.is_empty() => CAPABILITIES.ok("this process has all three"),
        // Whoever looks is not who runs the agent.
        some => CAPABILITIES
            .unknown(format!("this process lacks {}, so what takes them was not looked at", some.join(", ")))
            .mend("sudo weir doctor"),
    }
}

fn memlock(r: &Reading) -> Finding {
    let counted = r.release.as_ref().ok().and_then(|t| version(t)).is_some_and(|v| v < (5, 11));
    MEMLOCK.of(&r.memlock, |limit| match (limit, &r.memory) {
        (None, _) => MEMLOCK.ok("none"),
        (Some(n), _) if !counted => {
            MEMLOCK.ok(format!("{}, which this kernel does not hold against maps", crate::human::bytes(*n)))
        }
        (Some(n), Ok((_, wanted))) if n >= wanted => MEMLOCK.ok(crate::human::bytes(*n)),
        (Some(n), _) => {
            MEMLOCK.error(format!("{} is less than the maps take", crate::human::bytes(*n))).mend("ulimit -l unlimited")
        }
    })
}

fn memory((free, wanted): (u64, u64), agent_runs: bool) -> Finding {
    let bytes = crate::human::bytes;
    let seen = format!("the maps take {}, and {} are free", bytes(wanted), bytes(free));
    if agent_runs {
        return MEMORY.ok(format!("the agent has its maps, {}", bytes(wanted)));
    }
    let mend = "${EDITOR:-vi} /etc/weir/weir.yaml   # lower capacity.flows or capacity.blocks";
    match wanted {
        w if w >= free => MEMORY.error(seen).mend(mend),
        w if w * 2 > free => MEMORY.warning(seen).mend(mend),
        _ => MEMORY.ok(seen),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn good() -> Reading {
        Reading {
            release: Ok("6.18.0-1-amd64".into()),
            programs: Ok(Load::Taken([Some(10_000), Some(9000)])),
            btf: Ok(true),
            jit: Ok(true),
            hardening: Ok(0),
            unprivileged: Ok(2),
            lockdown: Ok(None),
            capabilities: Ok(Capabilities { effective: u64::MAX, bounding: u64::MAX }),
            memlock: Ok(None),
            memory: Ok((1 << 30, 100 << 20)),
            bpffs: Ok(true),
            agent_runs: false,
        }
    }

    #[track_caller]
    fn is(change: impl FnOnce(&mut Reading), id: &str, severity: Severity, command: Option<&str>) {
        let mut reading = good();
        change(&mut reading);
        let all = judge(&reading);
        let found = all.iter().find(|f| f.id == id).unwrap();
        assert_eq!((found.severity, found.command.as_deref()), (severity, command), "{found:?}");
        let others = all.iter().filter(|f| f.id != id && f.severity != Severity::Ok);
        assert_eq!(others.count(), 0, "{all:?}");
    }

    #[test]
    fn a_good_kernel_is_fine() {
        assert!(judge(&good()).iter().all(|f| f.severity == Severity::Ok), "{:?}", judge(&good()));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_mends_it() {
        use Severity::{Error, Note, Unknown, Warning};
        is(|r| r.release = Ok("5.10.0-8".into()), "kernel.release", Error, None);
        is(|r| r.release = Ok("6.1.0".into()), "kernel.release", Note, None);
        is(|r| r.release = Ok("linux".into()), "kernel.release", Unknown, None);
        is(|r| r.programs = Ok(Load::Refused("too complex".into())), "kernel.programs", Error, None);
        is(|r| r.jit = Ok(false), "kernel.jit", Warning, Some("sysctl -w net.core.bpf_jit_enable=1"));
        is(|r| r.hardening = Ok(2), "kernel.jit_hardening", Note, Some("sysctl -w net.core.bpf_jit_harden=1"));
        is(
            |r| r.unprivileged = Ok(0),
            "kernel.unprivileged_bpf",
            Note,
            Some("sysctl -w kernel.unprivileged_bpf_disabled=2"),
        );
        is(|r| r.lockdown = Ok(Some("integrity".into())), "kernel.lockdown", Severity::Ok, None);
        is(|r| r.lockdown = Ok(Some("confidentiality".into())), "kernel.lockdown", Note, None);
        is(|r| r.bpffs = Ok(false), "bpf.filesystem", Error, Some("mount -t bpf bpf /sys/fs/bpf"));
        is(|r| r.btf = Ok(false), "kernel.btf", Note, Some("grep CONFIG_DEBUG_INFO_BTF /boot/config-$(uname -r)"));
        is(|r| r.bpffs = Err("no".into()), "bpf.filesystem", Unknown, None);
        let mount = "mount -t securityfs securityfs /sys/kernel/security";
        is(|r| r.lockdown = Err("not mounted".into()), "kernel.lockdown", Unknown, Some(mount));
        let without = |bit: u64| !(1u64 << bit);
        is(
            |r| r.capabilities = Ok(Capabilities { effective: without(39), bounding: u64::MAX }),
            "kernel.capabilities",
            Unknown,
            Some("sudo weir doctor"),
        );
        is(
            |r| r.capabilities = Ok(Capabilities { effective: without(12), bounding: without(12) }),
            "kernel.capabilities",
            Error,
            Some("docker run --cap-add NET_ADMIN ..."),
        );
    }

    #[test]
    fn memory_counts_where_no_agent_has_it_yet_and_its_limit_on_old_kernels() {
        let all = |change: fn(&mut Reading)| {
            let mut r = good();
            change(&mut r);
            judge(&r).into_iter().filter(|f| f.id.contains("mem")).map(|f| f.severity).collect::<Vec<_>>()
        };
        use Severity::{Error, Ok as Fine, Warning};
        assert_eq!(all(|r| r.memory = Ok((150 << 20, 100 << 20))), [Fine, Warning]);
        assert_eq!(all(|r| r.memory = Ok((50 << 20, 100 << 20))), [Fine, Error]);
        assert_eq!(all(|r| (r.memory, r.agent_runs) = (Ok((50 << 20, 100 << 20)), true)), [Fine, Fine]);
        assert_eq!(all(|r| (r.release, r.memlock) = (Ok("5.4.0".into()), Ok(Some(8 << 20)))), [Error, Fine]);
        assert_eq!(all(|r| r.memlock = Ok(Some(8 << 20))), [Fine, Fine]);
        assert_eq!(all(|r| (r.release, r.memlock) = (Ok("5.4.0".into()), Ok(None))), [Fine, Fine]);
    }
}
