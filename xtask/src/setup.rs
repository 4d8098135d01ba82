//! Installing what is missing, saying what and why.

pub mod venv;

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::needs::{Install, NEEDS, Need, Use};
use crate::sh::{sh, sh_as_root};

/// Says for each need whether it is there; an error if one is missing.
pub fn report() -> Result<()> {
    let host = Host::this();
    let mut missing = 0;
    for need in NEEDS {
        match (need.probe)(&host) {
            Ok(found) => println!("found    {:<20} {found}", need.name),
            Err(e) => {
                missing += 1;
                println!("missing  {:<20} {e:#}", need.name);
            }
        }
    }
    if missing > 0 {
        bail!("{missing} of {} needs are missing; `cargo xtask setup` installs them", NEEDS.len());
    }
    Ok(())
}

/// Makes sure that everything the given tasks need is there.
pub fn ensure(tasks: &[Use]) -> Result<()> {
    let host = Host::this();
    let mut apt = Apt { updated: false };
    for need in NEEDS.iter().filter(|n| n.used_by.iter().any(|u| tasks.contains(u))) {
        let Err(missing) = (need.probe)(&host) else { continue };
        let tasks: Vec<&str> = need.used_by.iter().map(|u| u.name()).collect();
        eprintln!("setup: {} is missing ({missing:#})", need.name);
        eprintln!("       needed by {}: {}", tasks.join(", "), need.why);
        if let Err(e) = install(need, &host, &mut apt).with_context(|| format!("cannot install {}", need.name)) {
            if need.optional {
                eprintln!("setup: SKIPPED: {e:#}; what needs it will be skipped");
                continue;
            }
            return Err(e);
        }
        let found = (need.probe)(&Host::this())
            .with_context(|| format!("{} is still not usable after its installation", need.name));
        match found {
            Ok(found) => eprintln!("setup: {}: {found}", need.name),
            Err(e) if need.optional => eprintln!("setup: SKIPPED: {e:#}; what needs it will be skipped"),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn install(need: &Need, host: &Host, apt: &mut Apt) -> Result<()> {
    match need.install {
        Install::Apt(packages) => apt.install(host, packages),
        Install::Cargo { name, version } => {
            sh("cargo", ["install", name, "--version", version, "--locked"]).without_cargo_env().loud().run()
        }
        Install::RustupComponents(names) => sh("rustup", ["component", "add"].iter().chain(names)).loud().run(),
        Install::BpfCompiler => bpf_compiler(host, apt),
        Install::BpfFs => sh_as_root("mount", ["-t", "bpf", "bpf", "/sys/fs/bpf"]).loud().run().context(
            "the kernel programs cannot be pinned without it; in a container, mount /sys/fs/bpf from the host",
        ),
        Install::Venv(venv) => venv.install(host, apt),
        Install::Miri => {
            let words = ["component", "add", "--toolchain", "nightly", "miri", "rust-src"];
            host.says("rustc", &["+nightly", "--version"]).context("there is no nightly of rustup")?;
            host.command("rustup", &words)?.loud().run()
        }
        Install::Node => node(host, apt),
    }
}

/// A nightly of rustup that only lacks the source of `core` gets it; without one, or without a network for rustup,
/// Debian's compiler does as well.
fn bpf_compiler(host: &Host, apt: &mut Apt) -> Result<()> {
    if host.says("rustc", &["+nightly", "--version"]).is_ok() {
        let added = host.command("rustup", &["component", "add", "rust-src", "--toolchain", "nightly"])?.loud().run();
        match added {
            Ok(()) => return Ok(()),
            Err(e) => eprintln!("setup: {e:#}; trying Debian's compiler instead"),
        }
    }
    apt.install(host, &["rustc-web", "rust-web-src"])
        .context("neither rustup's nightly with rust-src nor Debian's rustc-web could be had; `rustup toolchain install nightly --component rust-src` is the other way")
}

/// Debian's Node, unless it is too old to be of use.
fn node(host: &Host, apt: &mut Apt) -> Result<()> {
    let policy = host.command("apt-cache", &["policy", "nodejs"])?.output().unwrap_or_default();
    let candidate = policy.lines().find_map(|l| l.trim().strip_prefix("Candidate: ")).unwrap_or("(none)");
    if crate::dashboard::too_old(candidate) {
        bail!(
            "the nodejs that apt would install is {candidate}, and the web page needs {} or later; install it from \
             https://nodejs.org",
            crate::dashboard::NODE_WORDS
        );
    }
    apt.install(host, &["nodejs", "npm"])
}

/// Installs Debian packages that one task alone wants.
pub fn apt(host: &Host, packages: &[&str]) -> Result<()> {
    Apt { updated: false }.install(host, packages)
}

/// A virtual environment that one task alone wants.
pub fn venv(host: &Host, venv: &venv::Venv) -> Result<()> {
    if venv.probe(host).is_ok() { Ok(()) } else { venv.install(host, &mut Apt { updated: false }) }
}

/// apt-get, with its lists brought up to date at most once.
pub struct Apt {
    updated: bool,
}

impl Apt {
    pub fn install(&mut self, host: &Host, packages: &[&str]) -> Result<()> {
        if host.which("apt-get").is_err() {
            bail!("no apt-get here; install the equivalent of {} by hand", packages.join(" "));
        }
        if !self.updated {
            sh_as_root("apt-get", ["update", "-qq"]).loud().run()?;
            self.updated = true;
        }
        let words = ["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends"];
        sh_as_root("env", words.iter().chain(packages)).loud().run()
    }
}
