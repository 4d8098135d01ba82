//! What this process takes of the machine, as /proc tells.

use std::fs;

/// Fields that could not be read are `None` and left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
    pub virtual_bytes: Option<u64>,
    pub open_fds: Option<u64>,
    pub max_fds: Option<u64>,
    /// Since 1970.
    pub start_seconds: Option<f64>,
    pub threads: Option<u64>,
}

impl Process {
    pub fn read() -> Self {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().filter(|t| *t > 0);
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // Behind the name in parentheses; the first field there is the third.
        let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        let field = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        let seconds = |t: u64| ticks.map(|per| t as f64 / per as f64);
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = boot.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse::<f64>().ok());
        let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
        Self {
            cpu_seconds: field(14).zip(field(15)).and_then(|(user, system)| seconds(user + system)),
            resident_bytes: field(24).zip(page).and_then(|(pages, size)| Some(pages * u64::try_from(size).ok()?)),
            virtual_bytes: field(23),
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|d| d.count() as u64),
            max_fds: limit.ok().map(|(soft, _)| soft),
            start_seconds: boot.zip(field(22).and_then(seconds)).map(|(boot, since)| boot + since),
            threads: field(20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_some_of_everything() {
        let p = Process::read();
        assert!(p.resident_bytes > Some(1 << 20) && p.virtual_bytes >= p.resident_bytes, "{p:?}");
        assert!(p.open_fds >= Some(3) && p.max_fds >= p.open_fds && p.threads >= Some(1), "{p:?}");
        assert!(p.cpu_seconds.is_some_and(|s| s >= 0.0), "{p:?}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(p.start_seconds.is_some_and(|s| (now - 86_400.0..now + 2.0).contains(&s)), "{p:?} {now}");
    }
}
