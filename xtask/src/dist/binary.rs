//! The program: one file with the kernel programs, the default bundle and the web page inside.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Made, Release, install};
use crate::host::Host;
use crate::sh::{root, sh, target_dir};

/// Of `cargo xtask dist` alone: its paths are mapped, which cargo does not see.
pub const TARGET: &str = "dist-build";

pub fn make(release: &Release) -> Result<Made> {
    crate::ebpf::build(crate::ebpf::Choice::Auto)?;
    crate::dashboard::build_or_say()?;
    let built = build(root(), &target_dir().join(TARGET))?;
    let (program, symbols) = (release.binary(), release.out.join("weir.debug"));
    // Symbols are for those who look into a crash: `gdb -s weir.debug weir`.
    sh("objcopy", ["--only-keep-debug"]).arg(&built).arg(&symbols).run()?;
    install(&built, &program, 0o755)?;
    sh("strip", ["--strip-all"]).arg(&program).run()?;
    let leaks = leaks(&program)?;
    if !leaks.is_empty() {
        bail!("the program names folders of this machine: {}", leaks.join(", "));
    }
    report(release, &program)?;
    Ok(Made::Files(vec![program, symbols]))
}

/// A release build of the workspace at `workspace`, whose kernel programs and page are built already.
pub fn build(workspace: &Path, target: &Path) -> Result<PathBuf> {
    let sysroot = Host::this().says("rustc", &["--print", "sysroot"])?;
    // The whole workspace, as everywhere else: features are those of the tests.
    let words = ["build", "--release", "--workspace", "--bin", "weir", "--locked"];
    let cargo = sh("cargo", words).dir(workspace).without_cargo_env().env("CARGO_TARGET_DIR", target);
    let cargo = crate::remap::at(cargo, workspace, &sysroot, target);
    cargo.env("CFLAGS", crate::remap::c_flags(workspace, target)).loud().run()?;
    Ok(target.join("release/weir"))
}

/// Folders of this machine that the program names.
fn leaks(program: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let home = std::env::var("HOME").unwrap_or_default();
    let folders = [root().display().to_string(), format!("{home}/.cargo"), format!("{home}/.rustup")];
    let named = |f: &String| f.len() > 3 && bytes.windows(f.len()).any(|w| w == f.as_bytes());
    Ok(folders.into_iter().filter(named).collect())
}

/// Size and times of a start: until the program says who it is, and until an agent is ready.
fn report(release: &Release, program: &Path) -> Result<()> {
    let size = std::fs::metadata(program)?.len();
    let best = |f: &dyn Fn() -> Result<Duration>| -> Result<Duration> {
        let times = (0..5).map(|_| f()).collect::<Result<Vec<_>>>()?;
        times.into_iter().min().context("no time was taken")
    };
    let says = best(&|| {
        let began = Instant::now();
        sh(program, ["--version"]).output()?;
        Ok(began.elapsed())
    })?;
    let ready = best(&|| start(release, program))?;
    println!(
        "weir {}: {:.1} MiB; `weir --version` takes {:.0} ms, a collector is ready after {:.0} ms (best of 5)",
        release.version,
        size as f64 / f64::from(1 << 20),
        says.as_secs_f64() * 1e3,
        ready.as_secs_f64() * 1e3
    );
    Ok(())
}

/// Time until an agent that collects flows on loopback tells the service manager that it is ready.
fn start(release: &Release, program: &Path) -> Result<Duration> {
    let dir = release.scratch("start")?;
    // A socket's path has at most 107 bytes.
    let link = std::env::temp_dir().join(format!("weir-dist-{}", std::process::id()));
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&dir, &link).context("cannot make a short path")?;
    let config = "web: {enabled: false}\nmetrics: {enabled: false}\nlog: {to: stderr, events: none, level: warn}\n";
    super::write(&dir.join("weir.yaml"), config)?;
    let manager = UnixDatagram::bind(link.join("notify")).context("cannot listen as a service manager does")?;
    manager.set_read_timeout(Some(Duration::from_secs(30)))?;
    // One that was free a moment ago.
    let free = UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).context("no free port on loopback")?;
    let began = Instant::now();
    let mut agent = Command::new(program)
        .arg("--socket")
        .arg(link.join("weir.sock"))
        .args(["run", &format!("--netflow={free}"), "--config"])
        .arg(link.join("weir.yaml"))
        .arg("--state-dir")
        .arg(link.join("state"))
        .env("NOTIFY_SOCKET", link.join("notify"))
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut buffer = [0; 4096];
    let heard = manager.recv(&mut buffer);
    let took = began.elapsed();
    let _ = agent.kill();
    let _ = agent.wait();
    let _ = std::fs::remove_file(&link);
    let heard = heard.context("the agent did not say within 30 s that it is ready")?;
    if !buffer[..heard].starts_with(b"READY=1") {
        bail!("the agent said {:?} before it was ready", String::from_utf8_lossy(&buffer[..heard]));
    }
    Ok(took)
}
