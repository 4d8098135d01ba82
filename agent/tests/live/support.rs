//! Network namespaces, and what is needed to run anything here.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};

/// What every test here needs. `false`, and said so, where it is not there.
pub fn ready(test: &str) -> bool {
    let missing = if weir_kernel::object::EBPF_OBJECT.is_none() {
        "built without the kernel programs (cargo xtask build-ebpf makes them)"
    } else if !nix::unistd::geteuid().is_root() {
        "needs root"
    } else if !is_bpffs(Path::new("/sys/fs/bpf")) {
        "no bpf file system (mount -t bpf bpf /sys/fs/bpf)"
    } else {
        return true;
    };
    eprintln!("SKIP {test}: {missing}");
    false
}

fn is_bpffs(path: &Path) -> bool {
    const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
    nix::sys::statfs::statfs(path).is_ok_and(|s| s.filesystem_type().0 as u64 == BPF_FS_MAGIC)
}

/// Tries until it gives something; panics with `what` when it takes too long.
pub fn wait_for<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(t) = attempt() {
            return t;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A network namespace; gone at the end.
pub struct Netns {
    name: String,
}

pub fn ip_command(arguments: &str) {
    ip_tried(arguments).unwrap_or_else(|said| panic!("ip {arguments}: {said}"));
}

/// What `ip` says where it fails.
pub fn ip_tried(arguments: &str) -> Result<(), String> {
    let out = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

impl Netns {
    pub fn new(role: &str) -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-{role}-{}-{}", std::process::id(), N.fetch_add(1, Ordering::Relaxed));
        ip_command(&format!("netns add {name}"));
        let netns = Self { name };
        ip_command(&format!("-n {} link set lo up", netns.name));
        netns
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn file(&self) -> File {
        File::open(self.path()).unwrap()
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// As in the names of locks and pins.
    pub fn inode(&self) -> u64 {
        std::fs::metadata(self.path()).unwrap().ino()
    }

    /// A command that will run inside. Its mounts stay those of outside, and with them the pins.
    pub fn command(&self, program: &str) -> Command {
        let namespace = self.file();
        let mut command = Command::new(program);
        // SAFETY: setns is a plain system call.
        unsafe {
            command.pre_exec(move || Ok(setns(&namespace, CloneFlags::CLONE_NEWNET)?));
        }
        command
    }

    /// Runs `f` on a thread inside. Sockets made there stay inside.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let namespace = self.file();
        std::thread::scope(|s| {
            let inside = s.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                f()
            });
            inside.join().unwrap_or_else(|p| std::panic::resume_unwind(p))
        })
    }

    pub fn udp(&self, at: SocketAddr) -> UdpSocket {
        // A process that another test is just starting holds what is closed here until it has become another program.
        const TRIES: u32 = 500;
        let bound = (0..TRIES).find_map(|n| match self.enter(|| UdpSocket::bind(at)) {
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && n + 1 < TRIES => {
                std::thread::sleep(Duration::from_millis(10));
                None
            }
            other => Some(other),
        });
        bound.expect("the last try counts").unwrap_or_else(|e| panic!("{at} in {}: {e}", self.name))
    }

    /// Packets that the interface's other end had no room for.
    pub fn ring_drops(&self, interface: &str) -> u64 {
        let out = Command::new("ip").args(["-n", &self.name, "-s", "-j", "link", "show", interface]).output().unwrap();
        let links: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        links[0]["stats64"]["tx"]["dropped"].as_u64().unwrap()
    }
}

/// For a thread that is inside already.
pub fn connect_from(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(fd.into())
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}
