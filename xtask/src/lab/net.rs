//! Four network namespaces: the server, the honest clients, the attacker, and a switch (a bridge) between them.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::plan;
use super::proc::open_namespace;

const PREFIX: &str = "weir-lab-";
/// The interface that each host has.
pub const UPLINK: &str = "uplink";

/// The lab's folder, its namespaces, and what Weir may have pinned in them; all removed on drop.
pub struct Net {
    /// weir-lab-XXXXXXXX
    pub name: String,
    pub dir: PathBuf,
    /// Held as long as this lab lives: a lab whose lock is free was killed, and the next one removes what it left.
    _lock: std::fs::File,
}

impl Net {
    pub fn make() -> Result<Self> {
        remove_stale();
        let name = format!("{PREFIX}{:08x}", crate::lab::roles::random::seed() as u32);
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let lock = std::fs::File::create(dir.join("lock")).context("cannot make the lab's lock")?;
        lock.try_lock().context("cannot take the lab's lock")?;
        // From here on, drop removes what was made, however far this gets.
        let net = Self { name, dir, _lock: lock };
        net.build()
            .context("cannot build the lab's network; are network namespaces, veth and bridge in this kernel?")?;
        Ok(net)
    }

    pub fn host(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    fn build(&self) -> Result<()> {
        for host in ["switch", "server", "clients", "attacker"] {
            ip(&["netns", "add", &self.host(host)])?;
        }
        let switch = self.host("switch");
        batch(
            &switch,
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 addrgenmode none\nlink set br0 up\n",
        )?;
        for host in ["server", "clients", "attacker"] {
            let inside = self.host(host);
            in_namespace(&inside, || {
                // No duplicate address detection, which would take seconds, and no address that nobody asked for.
                sysctl("net/ipv6/conf/default/accept_dad", "0")?;
                sysctl("net/ipv6/conf/default/accept_ra", "0")
            })??;
            let mut lines = format!("link add port-{host} type veth peer name {UPLINK} netns {inside}\n");
            lines += &format!("link set port-{host} addrgenmode none\nlink set port-{host} master br0 up\n");
            batch(&switch, &lines)?;
            let mut lines = format!("link set lo up\nlink set {UPLINK} addrgenmode none\nlink set {UPLINK} up\n");
            for address in addresses(host) {
                lines +=
                    &format!("addr add {address} dev {UPLINK}{}\n", if address.contains(':') { " nodad" } else { "" });
            }
            for route in routes(host) {
                lines += &format!("route add {route} dev {UPLINK}\n");
            }
            batch(&inside, &lines)?;
        }
        in_namespace(&self.host("server"), || {
            // Floods and scans open many connections at once; the server is not what is being tested.
            sysctl("net/ipv4/tcp_max_syn_backlog", "8192")?;
            sysctl("net/core/somaxconn", "8192")
        })??;
        in_namespace(&self.host("clients"), || sysctl("net/ipv4/ip_local_port_range", "20000 65000"))??;
        in_namespace(&self.host("attacker"), || sysctl("net/ipv4/ip_local_port_range", "20000 65000"))??;
        Ok(())
    }

    /// Waits until both ends of each link pass packets.
    pub fn wait_until_up(&self) -> Result<()> {
        for (host, from) in [("clients", plan::clients()), ("attacker", plan::attackers())] {
            for family in [true, false] {
                let Some(&from) = from.iter().find(|a| a.is_ipv4() == family) else { continue };
                let to = plan::server_for(from);
                in_namespace(&self.host(host), || reach(from, to))?
                    .with_context(|| format!("the {host} cannot reach the server {to} from {from}"))?;
            }
        }
        Ok(())
    }

    /// What is pinned for interfaces of the server's namespace.
    fn pins(&self) -> Vec<PathBuf> {
        self.of_server("/sys/fs/bpf/weir")
    }

    /// What Weir names after the server's namespace in a folder.
    fn of_server(&self, folder: &str) -> Vec<PathBuf> {
        let Ok(meta) = std::fs::metadata(format!("/run/netns/{}", self.host("server"))) else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let start = format!("{}-", meta.ino());
        entries
            .filter_map(Result::ok)
            .filter(|e| e.file_name().to_string_lossy().starts_with(&start))
            .map(|e| e.path())
            .collect()
    }

    /// Paths that an orderly `weir unload` should have removed.
    pub fn left_pinned(&self) -> Vec<PathBuf> {
        self.pins()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for pins in self.pins() {
            report(std::fs::remove_dir_all(&pins).with_context(|| format!("cannot remove {}", pins.display())));
        }
        // Lock files of agents that have ended, and of interfaces that are about to go.
        for lock in self.of_server("/run/weir") {
            report(std::fs::remove_file(&lock).with_context(|| format!("cannot remove {}", lock.display())));
        }
        for host in ["server", "clients", "attacker", "switch"] {
            let name = self.host(host);
            if Path::new("/run/netns").join(&name).exists() {
                report(ip(&["netns", "del", &name]));
            }
        }
        report(std::fs::remove_dir_all(&self.dir).with_context(|| format!("cannot remove {}", self.dir.display())));
    }
}

fn report(result: Result<()>) {
    if let Err(e) = result {
        eprintln!("lab: {e:#}; please remove it by hand");
    }
}

/// Removes namespaces and folders of labs that were killed before they could.
fn remove_stale() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) {
            continue;
        }
        let dir = entry.path();
        let Ok(lock) = std::fs::File::open(dir.join("lock")) else { continue };
        if lock.try_lock().is_ok() {
            eprintln!("lab: removing what a killed lab left behind ({name})");
            drop(Net { name, dir, _lock: lock });
        }
    }
}

fn addresses(host: &str) -> Vec<String> {
    let single = |a: IpAddr| format!("{a}/{}", if a.is_ipv4() { 32 } else { 128 });
    match host {
        "server" => vec![single(plan::SERVER4.into()), single(plan::SERVER6.into())],
        "clients" => plan::clients().into_iter().map(single).collect(),
        _ => plan::attackers().into_iter().map(single).collect(),
    }
}

/// Everyone is on the same link; each side only knows the way to those it talks with.
fn routes(host: &str) -> Vec<String> {
    match host {
        "server" => {
            vec!["198.51.100.0/24".into(), "2001:db8:77:c::/64".into(), "2001:db8:77:a::/64".into()]
        }
        _ => vec![format!("{}/32", plan::SERVER4), format!("{}/128", plan::SERVER6)],
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(args);
    run_plain(command, None)
}

fn batch(namespace: &str, lines: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-n", namespace, "-batch", "-"]);
    run_plain(command, Some(lines))
}

/// Runs to its end even when a signal came: also used for cleaning up.
fn run_plain(mut command: Command, input: Option<&str>) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    let shown = format!("{command:?}");
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).with_context(|| format!("cannot write to {shown}"))?;
    }
    let out = child.wait_with_output()?;
    if !out.status.success() {
        bail!("{shown} failed: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

fn sysctl(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{key}");
    std::fs::write(&path, value).with_context(|| format!("cannot set {path} to {value}"))
}

/// Runs `work` on a thread of its own that has entered the namespace.
pub fn in_namespace<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let file = open_namespace(namespace)?;
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: setns takes no pointers and changes this thread only, which ends with the closure.
                if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                    return Err(std::io::Error::last_os_error()).context("cannot enter the namespace");
                }
                Ok(work())
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// One packet out and an answer back: a refused connection is an answer.
fn reach(from: IpAddr, to: IpAddr) -> Result<()> {
    let closed = 9;
    let mut last = None;
    for _ in 0..20 {
        match crate::lab::roles::wire::connect(from, (to, closed).into(), Duration::from_millis(250)) {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => return Ok(()),
            Err(e) => last = Some(e),
        }
        super::stop::sleep(Duration::from_millis(100))?;
    }
    bail!("no answer ({})", last.map(|e| e.to_string()).unwrap_or_default())
}
