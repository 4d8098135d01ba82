//! A host for each page: network, process and mount namespaces with `eth0` (a veth, whose other end is a neighbour), empty `/etc/weir`,
//! `/var/lib/weir`, `/run/weir` and `/var/log/weir`, a bpf file system, `weir` on the path, and what the page says is there.
//!
//! What stands in for the reader, and is asked for in the page's first line:
//!
//! - `agent`: one runs already, as the page assumes (its configuration is [`CONFIG`]); `bare`: none does, and there is no file.
//! - `learned`: where the page starts the agent, a bundle that was trained on files is loaded right then, for the day that it would learn,
//!   and a neighbour's connections are recorded.
//! - `question`: a neighbour has scanned and tried passwords until the agent, in mode `review`, asks about it. A bundle that was trained on
//!   files was promoted, and windows are a second long.
//! - `stopped`: an agent has run and was stopped.
//! - `files`: flows and a model in the folder that the page is played in ([`Files`]).
//! - `curl`, `systemctl`: the program; of `systemctl` a stand-in that knows `status weir` alone, for no service manager runs here.
//!
//! `sudo` runs its arguments. Blocks that are `python` run with the packages of `models/python`, or are skipped where there are none.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use weir_source::Observation;
use weir_source::write::Form;

use crate::common::{WEIR, file, ok, run, str, strange, usual};
use crate::pages::{Block, Page, repository};

/// However busy the machine is.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long what goes on by itself is looked at.
const FOLLOWED: &str = "2";
const SERVER: &str = "10.0.0.1";
const PEER: &str = "10.0.0.254";
const BAD: &str = "198.51.100.66";
const PORT: u16 = 8080;
const CONFIG: &str = "interface: eth0\nmode: enforce\ncapacity: {flows: 8192, blocks: 16k}\n";
const ASKS: &str = "interface: eth0\nmode: review\nepoch: 200ms\nwindow: 1s\nalert_budget_per_day: 1000\nflow: {linger: 0s}\n\
                    policy: {busy_share: 100%}\ncapacity: {flows: 8192, blocks: 16k}\n";
/// The same model for windows of a second, so that no test waits for longer ones; for no page to see.
const QUICK: &str = ".quick";

/// Or what is missing to play a page.
pub fn ready() -> Result<(), String> {
    if weir_kernel::object::EBPF_OBJECT.is_none() {
        return Err("built without the kernel programs (cargo xtask build-ebpf makes them)".into());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root".into());
    }
    for tool in ["unshare", "nsenter", "ip", "timeout", "bash"] {
        if which(tool).is_none() {
            return Err(format!("needs {tool}"));
        }
    }
    Ok(())
}

fn which(tool: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|p| p.join(tool)).find(|p| p.is_file())
}

/// Flows and a model, made once: `office.pcap` (one connection), `monday.parquet` (normal), `tuesday.parquet` (with floods of one source),
/// `labelled.parquet`, and `model`, trained on the first of these.
struct Files(tempfile::TempDir);

impl Files {
    fn get() -> &'static Path {
        static MADE: OnceLock<Files> = OnceLock::new();
        MADE.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let at = dir.path();
            std::fs::write(at.join("office.pcap"), capture()).unwrap();
            let monday = file(at, "monday.parquet", Form::Parquet, (0..3_000).map(usual));
            let tuesday = (10_000..14_000).map(usual).chain((10_000..14_000).step_by(20).map(flood));
            file(at, "tuesday.parquet", Form::Parquet, tuesday);
            file(
                at,
                "labelled.parquet",
                Form::Parquet,
                (20_000..21_500).map(usual).chain((20_000..20_040).map(strange)),
            );
            ok(&run(&["train", str(&monday), "--out", str(&at.join("model")), "--checkpoints"]));
            ok(&run(&["train", str(&monday), "--out", str(&at.join(QUICK)), "--checkpoints", "--window", "1s"]));
            Files(dir)
        })
        .0
        .path()
    }
}

/// A connection that floods, of one source whatever the number.
fn flood(n: u64) -> Observation {
    let mut flow = strange(n);
    flow.record.client = BAD.parse().unwrap();
    flow
}

/// One connection with a request and an answer, in the classic format.
fn capture() -> Vec<u8> {
    const CLIENT: [u8; 4] = [192, 0, 2, 7];
    const SERVER: [u8; 4] = [10, 0, 0, 1];
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        out.extend(word.to_le_bytes());
    }
    let (mut client, mut server) = (1_000_u32, 9_000_u32);
    // Who sends, flags, bytes of payload.
    let packets = [
        (true, 0x02, 0),
        (false, 0x12, 0),
        (true, 0x10, 0),
        (true, 0x18, 120),
        (false, 0x18, 1_200),
        (true, 0x10, 0),
        (true, 0x11, 0),
        (false, 0x11, 0),
        (true, 0x10, 0),
    ];
    for (n, (from_client, flags, payload)) in packets.into_iter().enumerate() {
        let mut frame = vec![0_u8; 12];
        frame.extend([8, 0]);
        let total = 40 + payload as u16;
        frame.extend([0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, n as u8, 0x40, 0, 64, 6, 0, 0]);
        let (from, to, ports) = match from_client {
            true => (CLIENT, SERVER, [40_000_u16, 443]),
            false => (SERVER, CLIENT, [443, 40_000]),
        };
        frame.extend(from);
        frame.extend(to);
        ports.iter().for_each(|p| frame.extend(p.to_be_bytes()));
        let (seq, ack) = if from_client { (&mut client, server) } else { (&mut server, client) };
        frame.extend(seq.to_be_bytes());
        frame.extend(if flags == 0x02 { 0 } else { ack }.to_be_bytes());
        frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.resize(frame.len() + payload, b'x');
        *seq += payload as u32 + u32::from(flags & 0x03 != 0);
        let time_us = 1_735_689_600_000_000_u64 + n as u64 * 5_000;
        for word in [(time_us / 1_000_000) as u32, (time_us % 1_000_000) as u32, frame.len() as u32, frame.len() as u32]
        {
            out.extend(word.to_le_bytes());
        }
        out.extend(frame);
    }
    out
}

/// A process that holds a network namespace.
struct Netns(Child);

impl Netns {
    fn new() -> Self {
        let child = Command::new("unshare").args(["--net", "sleep", "600"]).stdin(Stdio::null()).spawn().unwrap();
        let netns = Self(child);
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let begun = Instant::now();
        while std::fs::read_link(netns.path()).map_or(true, |p| p == own) {
            assert!(begun.elapsed() < PATIENCE, "no network namespace");
            std::thread::sleep(Duration::from_millis(5));
        }
        netns.ip("link set lo up");
        netns
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }

    fn inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id()));
        command
    }

    fn ip(&self, arguments: &str) {
        ok(&self.inside().arg("ip").args(arguments.split_whitespace()).output().unwrap());
    }

    fn enter(&self) {
        setns(std::fs::File::open(self.path()).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connect_from(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(fd.into())
}

/// A neighbour asks something now and then, or, from when the page's agent runs until it has asked about it, scans and tries passwords.
fn neighbour(server: &Netns, peer: &Netns, folder: &Path, stop: &AtomicBool, attacks: bool) {
    let to: IpAddr = SERVER.parse().unwrap();
    let from: IpAddr = if attacks { BAD } else { PEER }.parse().unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            server.enter();
            let listener = TcpListener::bind(SocketAddr::new(to, PORT)).unwrap();
            listener.set_nonblocking(true).unwrap();
            while !stop.load(Ordering::Acquire) {
                drop(listener.accept());
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        s.spawn(|| {
            peer.enter();
            for n in 0_u16.. {
                if stop.load(Ordering::Acquire) || folder.join("asked").exists() {
                    return;
                }
                if !attacks {
                    drop(connect_from(from, SocketAddr::new(to, PORT)).and_then(|mut s| s.write_all(b"hello")));
                } else if folder.join("attack").exists() {
                    for k in 0..20 {
                        let port = if k % 2 == 0 { PORT } else { 9_000 + (n.wrapping_mul(10) + k) % 2_000 };
                        if let Ok(mut stream) = connect_from(from, SocketAddr::new(to, port)) {
                            let _ = stream.write_all(b"root:123456");
                        }
                    }
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
    });
}

fn executable(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn python() -> Result<PathBuf, String> {
    let beside = || Some(Path::new(WEIR).ancestors().nth(2)?.join("venv/bin/python"));
    let python = std::env::var_os("WEIR_PYTHON").map(PathBuf::from).or_else(beside).filter(|p| p.exists());
    let python = python.ok_or("no target/venv/bin/python, and WEIR_PYTHON is not set")?;
    let mut command = Command::new(&python);
    let tried =
        command.args(["-c", "import weir_models"]).env("PYTHONPATH", repository().join("models/python")).output();
    match tried {
        Ok(out) if out.status.success() => Ok(python),
        _ => Err(format!("{} lacks the packages of models/python", python.display())),
    }
}

const FUNCTIONS: &str = r#"
wait_for() { for i in $(seq 600); do if eval "$1" > /dev/null 2>&1; then return 0; fi; sleep 0.1; done; echo "waited in vain for: $1" >&2; return 1; }
follows() { set +e; timeout --kill-after 5 "$1" bash -e "$2"; code=$?; set -e; [ $code -eq 0 ] || [ $code -eq 124 ]; }
background=()
"#;

/// The page as one script.
fn script(page: &Page, folder: &Path, skipped: &mut Vec<String>) -> std::io::Result<String> {
    let (needs, at) = (page.needs(), folder.display());
    let mut out = format!(
        "set -e\nmount --make-rprivate /\nmkdir {at}/etc && cp -a /etc/. {at}/etc && rm -rf {at}/etc/weir && mount --bind {at}/etc /etc\n\
         mount -t sysfs sysfs /sys && mount -t bpf bpf /sys/fs/bpf\n\
         for d in /var/lib /var/log /run; do mount -t tmpfs tmpfs $d; done\n\
         mkdir -p /etc/weir /var/lib/weir /var/log/weir /run/weir\n\
         export HOME={at} PATH={at}/bin:$PATH\ncd {at}/page\n{FUNCTIONS}"
    );
    let agent = "weir run > ../agent.log 2>&1 &\nagent=$!\nwait_for 'weir status' || { cat ../agent.log; exit 1; }\n";
    let question = needs.contains("question");
    if ["agent", "stopped"].iter().any(|n| needs.contains(n)) {
        out += &format!("cat > /etc/weir/weir.yaml <<'END'\n{}END\n{agent}", if question { ASKS } else { CONFIG });
    }
    if question {
        out += &format!("weir model load {}/{QUICK} --promote\n", Files::get().display());
        out += &format!(
            "touch {at}/attack\nwait_for '[ -n \"$(weir review list -o json)\" ]' || {{ weir status; weir alerts list; exit 1; }}\ntouch {at}/asked\n"
        );
    }
    if needs.contains("stopped") {
        out += "kill -INT $agent && wait $agent\n";
    }
    for (n, block) in page.blocks.iter().enumerate().filter(|(_, b)| b.language() == "sh") {
        out += &part(page, n, block, &at.to_string(), skipped)?;
        std::fs::write(folder.join(format!("{n}.sh")), &block.text)?;
    }
    out += "echo '### the end' >&2\nfor p in \"${background[@]}\"; do kill -0 $p || { echo 'what was to run in the background ended before the page did' >&2; exit 1; }; done\n";
    Ok(out)
}

fn part(page: &Page, n: usize, block: &Block, at: &str, skipped: &mut Vec<String>) -> std::io::Result<String> {
    let mut out = format!("echo '### {}:{}' >&2\n", page.name, block.line);
    let words = block.words();
    if words.contains(&"python")
        && let Err(why) = python()
    {
        skipped.push(format!("{}:{}: {why}", page.name, block.line));
        return Ok(String::new());
    }
    if words.contains(&"background") {
        out += &format!("bash -e {at}/{n}.sh > {at}/{n}.log 2>&1 &\nbackground+=($!)\n");
        if block.text.contains("weir run") {
            out += &format!("wait_for 'weir status' || {{ cat {at}/{n}.log; exit 1; }}\n");
            if page.needs().contains("learned") {
                out += &format!("weir model load {}/model\n", Files::get().display());
                out += "wait_for 'weir flows --recorded --since 1d -o json | grep -q flow'\n";
            }
        }
    } else if words.contains(&"follows") {
        out += &format!("follows {FOLLOWED} {at}/{n}.sh\n");
    } else {
        out += &block.text;
    }
    Ok(out)
}

/// Plays a page from its first block to its last. What was left out and why, or what failed where.
pub fn play(page: &Page) -> Result<Vec<String>, String> {
    let needs = page.needs();
    let known = ["agent", "bare", "learned", "question", "stopped", "files", "curl", "systemctl", "python"];
    if let Some(other) = needs.iter().find(|n| !known.contains(n)) {
        return Err(format!("{}: nothing stands for {other:?}", page.name));
    }
    if needs.contains("curl") && which("curl").is_none() {
        return Ok(vec![format!("{}: needs curl", page.name)]);
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let bin = folder.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir(folder.join("page")).unwrap();
    symlink(WEIR, bin.join("weir")).unwrap();
    executable(&bin.join("sudo"), "#!/bin/sh\nexec \"$@\"\n");
    if needs.contains("systemctl") {
        let text = "#!/bin/sh\n[ \"$1 $2\" = 'status weir' ] || exit 4\necho '* weir.service - Weir'\n";
        executable(&bin.join("systemctl"), text);
    }
    if needs.contains("python")
        && let Ok(python) = python()
    {
        let package = repository().join("models/python");
        let words = format!("PYTHONPATH={} PYTHONDONTWRITEBYTECODE=1 exec {}", package.display(), python.display());
        executable(&bin.join("python"), &format!("#!/bin/sh\n{words} \"$@\"\n"));
    }
    if needs.contains("files") {
        for entry in std::fs::read_dir(Files::get()).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with(QUICK) {
                continue;
            }
            symlink(&path, folder.join("page").join(path.file_name().unwrap())).unwrap();
        }
    }
    if needs.contains("learned") {
        Files::get();
    }
    let mut skipped = Vec::new();
    let text = script(page, folder, &mut skipped).unwrap();
    std::fs::write(folder.join("page.sh"), text).unwrap();

    let (server, peer) = (Netns::new(), Netns::new());
    server.ip(&format!("link add eth0 type veth peer name eth0 netns {}", peer.0.id()));
    for (netns, address) in [(&server, SERVER), (&peer, PEER)] {
        netns.ip("link set eth0 up");
        netns.ip(&format!("addr add {address}/24 dev eth0"));
    }
    peer.ip(&format!("addr add {BAD}/32 dev lo"));
    server.ip(&format!("route add default via {PEER}"));
    let log = folder.join("out");
    let out = std::fs::File::create(&log).unwrap();
    let mut command = server.inside();
    command
        .args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"])
        .arg(folder.join("page.sh"));
    command.env_remove("WEIR_SOCKET").env_remove("SSH_CONNECTION").stdin(Stdio::null());
    command.stdout(out.try_clone().unwrap()).stderr(out);
    let stop = AtomicBool::new(false);
    let code = std::thread::scope(|s| {
        let attacks = needs.contains("question");
        if attacks || needs.contains("learned") {
            let (server, peer, stop) = (&server, &peer, &stop);
            s.spawn(move || neighbour(server, peer, folder, stop, attacks));
        }
        let mut child = command.spawn().unwrap();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if begun.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        stop.store(true, Ordering::Release);
        status
    });
    if code.is_some_and(|c| c.success()) {
        return Ok(skipped);
    }
    let said = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    let last = said
        .lines()
        .rfind(|l| l.starts_with("### "))
        .unwrap_or("### before the first block")
        .trim_start_matches("### ");
    let tail: Vec<&str> = said.lines().rev().take(25).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    let agent = std::fs::read_to_string(folder.join("agent.log")).unwrap_or_default();
    let agent = agent.lines().rev().take(5).collect::<Vec<_>>().join("\n");
    let how = code.map_or_else(|| format!("took longer than {PATIENCE:?}"), |c| c.to_string());
    Err(format!("{last} of {}: {how}\n{}\nagent, last first: {agent}", page.name, tail.join("\n")))
}
