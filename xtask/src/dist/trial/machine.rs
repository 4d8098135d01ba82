//! A Debian of its own, booted by systemd-nspawn in a network namespace of its own; gone at the end.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::dist::Release;
use crate::sh::{sh, target_dir};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the system has beside the least.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,adduser,procps";

pub struct Machine {
    pub root: PathBuf,
    /// Network namespaces: of the machine, and of its neighbour.
    pub inside: String,
    pub peer: String,
    bpffs: PathBuf,
    log: PathBuf,
    nspawn: Option<Child>,
    leader: u32,
}

impl Machine {
    pub fn boot(release: &Release) -> Result<Self> {
        let base = target_dir().join("dist-debian");
        if !base.join("made").exists() {
            let _ = std::fs::remove_dir_all(&base);
            sh("debootstrap", ["--variant=minbase", &format!("--include={PACKAGES}"), "bookworm"])
                .arg(base.join("root"))
                .loud()
                .run()?;
            super::super::write(&base.join("made"), "")?;
        }
        let dir = release.scratch("trial")?;
        sh("cp", ["-a"]).arg(base.join("root")).arg(dir.join("root")).run()?;
        let me = std::process::id();
        let mut machine = Self {
            root: dir.join("root"),
            inside: format!("weir-try-{me}"),
            peer: format!("weir-try-{me}-peer"),
            bpffs: dir.join("bpf"),
            log: dir.join("console.log"),
            nspawn: None,
            leader: 0,
        };
        machine.network().context("cannot make the trial's network")?;
        std::fs::create_dir_all(&machine.bpffs).context("cannot make a place for the bpf file system")?;
        sh("mount", ["-t", "bpf", "bpf"]).arg(&machine.bpffs).run()?;
        let log = std::fs::File::create(&machine.log).context("cannot make the console's log")?;
        let nspawn = Command::new("systemd-nspawn")
            .args([
                "--quiet",
                "--boot",
                "--register=no",
                "--keep-unit",
                "--console=pipe",
                "--capability=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN",
            ])
            .args(["--system-call-filter=bpf perf_event_open", &format!("--machine=weir-try-{me}")])
            .arg(format!("--network-namespace-path=/run/netns/{}", machine.inside))
            .arg(format!("--bind={}:/sys/fs/bpf", machine.bpffs.display()))
            .arg(format!("--directory={}", machine.root.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start systemd-nspawn")?;
        let pid = nspawn.id();
        machine.nspawn = Some(nspawn);
        let begin = Instant::now();
        while machine.leader == 0 {
            if begin.elapsed() > PATIENCE {
                bail!("the system did not boot: {}", machine.console());
            }
            std::thread::sleep(Duration::from_millis(200));
            machine.leader = leader(pid).unwrap_or(0);
        }
        machine.wait("the system's start", "systemctl is-system-running | grep -E 'running|degraded'")?;
        Ok(machine)
    }

    fn network(&self) -> Result<()> {
        let ip = |words: String| sh("ip", words.split(' ')).run();
        for netns in [&self.inside, &self.peer] {
            ip(format!("netns add {netns}"))?;
            ip(format!("-n {netns} link set lo up"))?;
        }
        let (inside, peer) = (&self.inside, &self.peer);
        ip(format!("link add weir0 netns {inside} type veth peer name weir0 netns {peer}"))?;
        ip(format!("-n {inside} addr add 10.79.0.1/24 dev weir0"))?;
        for address in [super::BAD, super::traffic::GOOD] {
            ip(format!("-n {peer} addr add {address}/24 dev weir0"))?;
        }
        ip(format!("-n {inside} link set weir0 up"))?;
        ip(format!("-n {peer} link set weir0 up"))
    }

    /// Runs a line of shell inside; what it printed, or an error with all that it said.
    pub fn run(&self, line: &str) -> Result<String> {
        let leader = self.leader.to_string();
        let out = Command::new("nsenter")
            .args([
                "--target", &leader, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd=/",
                "--",
            ])
            .args([
                "env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL=C.UTF-8",
                "DEBIAN_FRONTEND=noninteractive",
            ])
            .args(["sh", "-c", &format!("exec 2>&1; {line}")])
            .stdin(Stdio::null())
            .output()
            .context("cannot start nsenter")?;
        let said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        if !out.status.success() {
            bail!(
                "in the trial's system, `{line}` failed ({}): {said} {}",
                out.status,
                String::from_utf8_lossy(&out.stderr).trim()
            );
        }
        Ok(said)
    }

    /// Runs a line until it succeeds.
    pub fn wait(&self, what: &str, line: &str) -> Result<()> {
        let begin = Instant::now();
        loop {
            let tried = self.run(line);
            match tried {
                Ok(_) => return Ok(()),
                Err(e) if begin.elapsed() > PATIENCE => return Err(e.context(format!("waited in vain for {what}"))),
                Err(_) => std::thread::sleep(Duration::from_millis(300)),
            }
        }
    }

    pub fn configure(&self, on_stop: &str) -> Result<()> {
        let text = format!(
            "interface: weir0\nmode: enforce\non_stop: {on_stop}\nepoch: 200ms\nwindow: 10s\ncapacity: {{flows: 8192, blocks: 1024, allow: 256}}\ngroup: weir\n"
        );
        super::super::write(&self.root.join("etc/weir/weir.yaml"), &text)
    }

    pub fn console(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

/// The first process of the system that systemd-nspawn started: its child is that, or has it for a child.
fn leader(nspawn: u32) -> Option<u32> {
    let children = |pid: u32| -> Vec<u32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|w| w.parse().ok()).collect()
    };
    let named = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == "systemd");
    let mut open = children(nspawn);
    while let Some(pid) = open.pop() {
        if named(&pid) {
            return Some(pid);
        }
        open.extend(children(pid));
    }
    None
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(nspawn) = &mut self.nspawn {
            if self.leader != 0 {
                // Asked to power off; what is left then is ended.
                // SAFETY: a plain system call; the process is this machine's first one, which ends with nspawn.
                unsafe { libc::kill(self.leader as i32, libc::SIGRTMIN() + 4) };
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_secs(20) && nspawn.try_wait().is_ok_and(|s| s.is_none()) {
                    std::thread::sleep(Duration::from_millis(100));
                }
                // SAFETY: as above.
                unsafe { libc::kill(self.leader as i32, libc::SIGKILL) };
            }
            let _ = nspawn.kill();
            let _ = nspawn.wait();
        }
        let _ = sh("umount", ["-l"]).arg(&self.bpffs).run();
        for netns in [&self.inside, &self.peer] {
            let _ = sh("ip", ["netns", "del", netns]).run();
        }
    }
}
