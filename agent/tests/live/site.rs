//! A host with the agent and a neighbour with many addresses, joined by a veth pair; and the agent itself.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::join::Join;
use crate::support::*;

pub const WEIR: &str = env!("CARGO_BIN_EXE_weir");
pub const INTERFACE: &str = "weir0";
/// The agent's host; the neighbour is every other address of the networks that a test asks for.
pub const SERVER_V4: &str = "10.77.0.1";
pub const SERVER_V6: &str = "2001:db8:77::1";
/// How long an agent may take to start or to do as it was told: these machines are busy, or emulated.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How long a packet that must not arrive is waited for.
const SILENCE: Duration = Duration::from_millis(120);

pub struct Site {
    pub server: Netns,
    pub peer: Netns,
    dir: tempfile::TempDir,
    by: Join,
}

impl Site {
    /// `addresses` are those of the neighbour.
    pub fn new(addresses: &[&str]) -> Self {
        Self::joined(Join::Veth, addresses).unwrap_or_else(|missing| panic!("{missing}"))
    }

    /// Joined in another way; an error says what is missing for it here.
    pub fn joined(by: Join, addresses: &[&str]) -> Result<Self, String> {
        let (server, peer) = (Netns::new("server"), Netns::new("peer"));
        let site = Self { server, peer, dir: tempfile::tempdir().unwrap(), by };
        let device = by.make(&site.server, &site.peer)?;
        for (netns, all) in [(site.server.name(), &[SERVER_V4, SERVER_V6][..]), (site.peer.name(), addresses)] {
            for address in all {
                let rest = if address.contains(':') { "/64 nodad" } else { "/24" };
                let (len, flags) = rest.split_once(' ').unwrap_or((rest, ""));
                ip_command(&format!("-n {netns} addr add {address}{len} dev {device} {flags}"));
            }
        }
        site.configure("enforce", "");
        Ok(site)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn configure(&self, mode: &str, more: &str) {
        let dir = self.dir.path().display();
        let text = format!(
            "interface: {INTERFACE}\nmode: {mode}\nstate_dir: {dir}/state\nsocket: {dir}/weir.sock\nepoch: 200ms\nwindow: 1s\n\
             capacity:\n  flows: 8192\n  blocks: 1024\n  allow: 256\n\
             log:\n  to: stderr\n  events: {dir}/events.json\n{more}"
        );
        std::fs::write(self.path("weir.yaml"), text).unwrap();
    }

    /// Starts an agent and does not wait for it. What it logs is appended to `agent.log`.
    pub fn spawn(&self) -> Agent {
        self.spawn_by(self.server.command(WEIR))
    }

    /// The same behind what a shell does first, in a mount namespace of its own.
    pub fn spawn_behind(&self, first: &str) -> Agent {
        let mut command = self.server.command("unshare");
        command.args(["--mount", "sh", "-c", &format!("{first} && exec \"$0\" \"$@\""), WEIR]);
        self.spawn_by(command)
    }

    /// An agent that answers, with more in its environment.
    pub fn spawn_with(&self, environment: &[(&str, &Path)]) -> Agent {
        let mut command = self.server.command(WEIR);
        command.envs(environment.iter().copied());
        let mut agent = self.spawn_by(command);
        agent.wait_until_running();
        agent
    }

    fn spawn_by(&self, mut command: Command) -> Agent {
        let log = File::options().create(true).append(true).open(self.path("agent.log")).unwrap();
        let seen = log.metadata().unwrap().len() as usize;
        command.args(["run", "--config"]).arg(self.path("weir.yaml"));
        // The session that runs the tests is none of this host's.
        command.env_remove("WEIR_SOCKET").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Agent { child: command.spawn().unwrap(), log: self.path("agent.log"), seen }
    }

    /// Starts an agent that answers.
    pub fn start(&self) -> Agent {
        let mut agent = self.spawn();
        agent.wait_until_running();
        agent
    }

    /// An agent that is expected to end by itself: exit status and log.
    pub fn refused(&self) -> (Option<i32>, String) {
        let mut agent = self.spawn();
        (agent.ends(), agent.own_log())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    pub fn weir(&self, args: &str) -> Output {
        let mut command = self.server.command(WEIR);
        command.arg("--socket").arg(self.path("weir.sock")).args(args.split_whitespace());
        command.output().unwrap()
    }

    pub fn ok(&self, args: &str) -> String {
        let out = self.weir(args);
        assert!(out.status.success(), "weir {args}: {}\n{}", text(&out.stderr), self.log());
        text(&out.stdout)
    }

    /// Standard error of a command that is refused with exit status 1.
    pub fn fails(&self, args: &str) -> String {
        let out = self.weir(args);
        assert_eq!(out.status.code(), Some(1), "weir {args}: {}{}", text(&out.stdout), text(&out.stderr));
        text(&out.stderr)
    }

    pub fn json(&self, args: &str) -> Vec<Value> {
        let out = self.ok(&format!("{args} -o json"));
        out.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }

    pub fn status(&self) -> Value {
        self.json("status").remove(0)
    }

    /// The one decision on a target.
    pub fn decision(&self, target: &str) -> Value {
        let mut on: Vec<Value> = self.json("decisions list").into_iter().filter(|d| d["target"] == target).collect();
        assert_eq!(on.len(), 1, "decisions on {target}: {on:?}");
        on.remove(0)
    }

    /// Whether a datagram gets from an address of the neighbour to a port of the host.
    pub fn passes(&self, from: &str, port: u16) -> bool {
        let to = SocketAddr::new(server_of(from), port);
        let receiver = self.server.udp(to);
        arrives(&self.peer.udp(SocketAddr::new(from.parse().unwrap(), 0)), to, &receiver)
    }

    /// Whether a datagram gets from the host to an address of the neighbour.
    pub fn leaves(&self, to: &str) -> bool {
        let to = SocketAddr::new(to.parse().unwrap(), 5353);
        let receiver = self.peer.udp(to);
        arrives(&self.server.udp(SocketAddr::new(server_of(&to.ip().to_string()), 0)), to, &receiver)
    }

    /// The XDP program on the host's interface, as the kernel tells.
    pub fn xdp(&self) -> Option<u32> {
        self.server.enter(|| {
            let index = weir_kernel::link::index_of(INTERFACE).unwrap();
            weir_kernel::link::query(index).unwrap().xdp.first().map(|x| x.program)
        })
    }

    /// How many egress programs are on the host's interface: of TCX, and filters of ours on clsact.
    pub fn egress_programs(&self) -> usize {
        const PROG_QUERY: i32 = 16;
        const TCX_EGRESS: u32 = 47;
        const COUNT: usize = 6;
        let tcx = self.server.enter(|| {
            let mut attr = [0u32; 16];
            attr[0] = weir_kernel::link::index_of(INTERFACE).unwrap();
            attr[1] = TCX_EGRESS;
            // SAFETY: a query without room for ids writes the count into the attribute, which is valid for its length.
            let r = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, attr.as_mut_ptr(), size_of_val(&attr)) };
            let refused = std::io::Error::last_os_error();
            // What a kernel without TCX says.
            assert!(r == 0 || refused.raw_os_error() == Some(libc::EINVAL), "{refused}");
            if r == 0 { attr[COUNT] as usize } else { 0 }
        });
        tcx + self.tc("filter show dev weir0 egress").matches("name weir_tc").count()
    }

    /// What `tc` prints inside the host.
    pub fn tc(&self, arguments: &str) -> String {
        text(&self.server.command("tc").args(arguments.split_whitespace()).output().unwrap().stdout)
    }

    /// Where the pins of the host's interface lie.
    pub fn pins(&self) -> PathBuf {
        self.server.enter(|| {
            let index = weir_kernel::link::index_of(INTERFACE).unwrap();
            weir_kernel::pins::Pins::of(index).unwrap().dir().to_owned()
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let out = self.weir("unload --all");
        if !out.status.success() {
            eprintln!("unload: {}", text(&out.stderr));
        }
        self.by.part(&self.server, &self.peer);
        if std::thread::panicking() {
            eprintln!("the agents' log:\n{}", self.log());
        }
        let ours = format!("{}-", self.server.inode());
        for lock in std::fs::read_dir("/run/weir").into_iter().flatten().flatten() {
            if lock.file_name().to_string_lossy().starts_with(&ours) {
                let _ = std::fs::remove_file(lock.path());
            }
        }
    }
}

fn server_of(neighbour: &str) -> IpAddr {
    if neighbour.contains(':') { SERVER_V6 } else { SERVER_V4 }.parse().unwrap()
}

fn arrives(sender: &UdpSocket, to: SocketAddr, receiver: &UdpSocket) -> bool {
    receiver.set_read_timeout(Some(SILENCE)).unwrap();
    // More than one: a ring that was full once must not look like a block. At egress a drop is reported to the sender.
    (0..3).any(|_| sender.send_to(b"weir", to).is_ok() && receiver.recv(&mut [0; 16]).is_ok())
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A started agent; killed at the end.
pub struct Agent {
    child: Child,
    log: PathBuf,
    seen: usize,
}

impl Agent {
    /// Waits until it has ended by itself: its exit status.
    pub fn ends(&mut self) -> Option<i32> {
        wait_for("the agent's end", PATIENCE, || self.child.try_wait().unwrap()).code()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What this agent has logged, and none before it.
    pub fn own_log(&self) -> String {
        read(&self.log).split_off(self.seen)
    }

    pub fn wait_until_running(&mut self) {
        wait_for("the agent's start", PATIENCE, || {
            let log = self.own_log();
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the agent ended with {status}: {log}");
            }
            log.contains("running on").then_some(())
        });
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As an operator ends it.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = wait_for("the agent's end", PATIENCE, || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.own_log());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let _ = File::open(path).and_then(|mut f| f.read_to_end(&mut bytes));
    text(&bytes)
}
