//! Of the kernel and its clocks.

use nix::sys::resource::{Resource, getrlimit};
use weir_kernel::{KernelError, object, pins, probe};

use super::{failed, is_root, text};
use crate::config::Config;
use crate::doctor::clock;
use crate::doctor::finding::Read;
use crate::doctor::kernel::{Capabilities, Load, Reading};

fn number(path: &str) -> Read<u32> {
    text(path)?.parse().map_err(|_| format!("{path} holds no number"))
}

fn release() -> Read<String> {
    text("/proc/sys/kernel/osrelease")
}

fn programs() -> Read<Load> {
    if object::EBPF_OBJECT.is_none() {
        return Err(KernelError::NoObject.to_string());
    }
    if !is_root() {
        return Err("loading programs takes root".into());
    }
    match probe::load() {
        Ok(sizes) => Ok(Load::Taken(sizes)),
        Err(KernelError::Load(why)) => Ok(Load::Refused(why)),
        Err(e) => Err(e.to_string()),
    }
}

/// Tried, since a network namespace does not show net.core.bpf_jit_enable.
fn jit() -> Read<bool> {
    match is_root() {
        true => probe::compiles().map_err(|e| failed("a program that does nothing", &e)),
        false => number("/proc/sys/net/core/bpf_jit_enable").map(|n| n > 0),
    }
}

fn lockdown() -> Read<Option<String>> {
    let path = "/sys/kernel/security/lockdown";
    match std::fs::read_to_string(path) {
        // "none [integrity] confidentiality"
        Ok(text) => {
            let mode = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(mode, _)| mode.to_owned());
            mode.map(Some).ok_or_else(|| format!("{path} is `{}`", text.trim()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            match std::fs::read_dir("/sys/kernel/security").is_ok_and(|files| files.count() > 0) {
                true => Ok(None),
                false => Err("no securityfs is mounted at /sys/kernel/security".into()),
            }
        }
        Err(e) => Err(failed(path, &e)),
    }
}

fn capabilities() -> Read<Capabilities> {
    let status = text("/proc/self/status")?;
    let set = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    match (set("CapEff:"), set("CapBnd:")) {
        (Some(effective), Some(bounding)) => Ok(Capabilities { effective, bounding }),
        _ => Err("/proc/self/status names no capabilities".into()),
    }
}

fn memory(config: &Config) -> Read<(u64, u64)> {
    let info = text("/proc/meminfo")?;
    let kib = info
        .lines()
        .find_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let free = kib.ok_or("/proc/meminfo does not say how much is available")? << 10;
    Ok((free, pins::memory(&crate::app::capacity(config))))
}

fn bpffs() -> Read<bool> {
    const MAGIC: u64 = 0xcafe_4a11;
    let path = "/sys/fs/bpf";
    match nix::sys::statfs::statfs(path) {
        Ok(s) => Ok(s.filesystem_type().0 as u64 == MAGIC),
        Err(nix::errno::Errno::ENOENT) => Ok(false),
        Err(e) => Err(failed(path, &e.into())),
    }
}

pub fn read(config: &Config, agent_runs: bool) -> Reading {
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(|e| failed("RLIMIT_MEMLOCK", &e.into()));
    Reading {
        release: release(),
        programs: programs(),
        btf: std::fs::exists("/sys/kernel/btf/vmlinux").map_err(|e| failed("/sys/kernel/btf", &e)),
        jit: jit(),
        hardening: number("/proc/sys/net/core/bpf_jit_harden"),
        unprivileged: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        lockdown: lockdown(),
        capabilities: capabilities(),
        memlock: limit.map(|(soft, _)| (soft != libc::RLIM_INFINITY).then_some(soft)),
        memory: memory(config),
        bpffs: bpffs(),
        agent_runs,
    }
}

/// Whether something keeps the clock right (adjtimex(2)), and by how much it may be off, milliseconds.
fn synchronised() -> Read<(bool, u64)> {
    // SAFETY: all bytes zero is a valid value, and asks to change nothing.
    let mut t: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: writes one structure.
    if unsafe { libc::adjtimex(&raw mut t) } < 0 {
        return Err(failed("adjtimex", &std::io::Error::last_os_error()));
    }
    let kept = t.status & libc::STA_UNSYNC == 0;
    Ok((kept, u64::try_from(t.maxerror).unwrap_or(0) / 1000))
}

pub fn clock() -> clock::Reading {
    let dir = "/sys/devices/system/clocksource/clocksource0";
    let source = text(format!("{dir}/current_clocksource")).map(|used| {
        let all = text(format!("{dir}/available_clocksource")).unwrap_or_default();
        (used, all.split_whitespace().map(str::to_owned).collect())
    });
    let cost = match is_root() {
        true => probe::clock_cost().map_err(|e| failed("a program that asks for the time", &e)),
        false => Err("measuring it takes root".into()),
    };
    clock::Reading { source, cost, sync: synchronised() }
}
