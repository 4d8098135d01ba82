//! Everything that the tasks need on a machine beyond cargo itself, in one table: what it is, who uses it, how to tell
//! that it is there, and how it gets there.

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::setup::venv::{self, Venv};

/// Tasks, as far as they need different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    BuildEbpf,
    Test,
    Lab,
    Check,
    Fuzz,
    Sanitize,
    Dashboard,
    Vm,
    Dist,
}

impl Use {
    pub const ALL: &[Use] = &[
        Use::BuildEbpf,
        Use::Test,
        Use::Lab,
        Use::Check,
        Use::Fuzz,
        Use::Sanitize,
        Use::Dashboard,
        Use::Vm,
        Use::Dist,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Use::BuildEbpf => "build-ebpf",
            Use::Test => "test",
            Use::Lab => "lab",
            Use::Check => "check",
            Use::Fuzz => "fuzz",
            Use::Sanitize => "sanitize",
            Use::Dashboard => "dashboard",
            Use::Vm => "vm",
            Use::Dist => "dist",
        }
    }
}

/// How something missing gets onto the machine.
#[derive(Clone, Copy, Debug)]
pub enum Install {
    /// Packages of Debian (or a system made from it).
    Apt(&'static [&'static str]),
    /// `cargo install NAME --version VERSION --locked`.
    Cargo { name: &'static str, version: &'static str },
    /// Components of the toolchain in use.
    RustupComponents(&'static [&'static str]),
    /// `rustup component add rust-src` for a nightly that is there, else Debian's compiler with its source.
    BpfCompiler,
    /// `mount -t bpf`.
    BpfFs,
    /// A Python virtual environment below `target`.
    Venv(&'static Venv),
    /// `rustup component add miri rust-src` for a nightly that is there.
    Miri,
    /// Debian's `nodejs` and `npm`, where they are new enough.
    Node,
}

pub struct Need {
    pub name: &'static str,
    pub why: &'static str,
    pub used_by: &'static [Use],
    /// What was found, or why it does not count as there.
    pub probe: fn(&Host) -> Result<String>,
    pub install: Install,
    /// Without it, what uses it is skipped, and says so; the rest goes on.
    pub optional: bool,
}

pub const BPF_LINKER: &str = "0.10.3";
pub const CARGO_DENY: &str = "0.20.2";
pub const MDBOOK: &str = "0.5.4";

/// In the order in which they are installed.
pub const NEEDS: &[Need] = &[
    Need {
        name: "iproute2",
        why: "`ip` makes the network namespaces of tests and lab",
        used_by: &[Use::Test, Use::Lab, Use::Vm],
        probe: |host| host.says("ip", &["-V"]),
        install: Install::Apt(&["iproute2"]),
        optional: false,
    },
    Need {
        name: "ethtool",
        why: "tests switch the offloads of their links",
        used_by: &[Use::Test],
        probe: |host| host.says("ethtool", &["--version"]),
        install: Install::Apt(&["ethtool"]),
        optional: true,
    },
    Need {
        name: "bpffs",
        why: "programs and maps are pinned below /sys/fs/bpf",
        used_by: &[Use::Test, Use::Lab],
        probe: bpffs,
        install: Install::BpfFs,
        optional: false,
    },
    Need {
        name: "BPF compiler",
        why: "the kernel programs need a compiler that can build `core` for bpfel-unknown-none",
        used_by: &[Use::BuildEbpf, Use::Test, Use::Lab, Use::Vm, Use::Dist],
        probe: |host| crate::ebpf::find_compiler(host, crate::ebpf::Choice::Auto).map(|c| c.to_string()),
        install: Install::BpfCompiler,
        optional: false,
    },
    Need {
        name: "bpf-linker",
        why: "links the kernel programs into one object with BTF",
        used_by: &[Use::BuildEbpf, Use::Test, Use::Lab, Use::Vm, Use::Dist],
        probe: |host| version(host, "bpf-linker", &["--version"], BPF_LINKER),
        install: Install::Cargo { name: "bpf-linker", version: BPF_LINKER },
        optional: false,
    },
    Need {
        name: "rustfmt and clippy",
        why: "formatting and lints",
        used_by: &[Use::Check],
        probe: |host| {
            let fmt = host.says("cargo", &["fmt", "--version"])?;
            Ok(format!("{fmt}, {}", host.says("cargo", &["clippy", "--version"])?))
        },
        install: Install::RustupComponents(&["rustfmt", "clippy"]),
        optional: false,
    },
    Need {
        name: "cargo-deny",
        why: "licences, sources and known vulnerabilities of the dependencies",
        used_by: &[Use::Check],
        probe: |host| version(host, "cargo-deny", &["--version"], CARGO_DENY),
        install: Install::Cargo { name: "cargo-deny", version: CARGO_DENY },
        optional: false,
    },
    Need {
        name: "mdbook",
        why: "makes pages of the book in docs/",
        used_by: &[Use::Check],
        probe: |host| version(host, "mdbook", &["--version"], MDBOOK),
        install: Install::Cargo { name: "mdbook", version: MDBOOK },
        optional: true,
    },
    Need {
        name: "C++ compiler",
        why: "libFuzzer is built from its source",
        used_by: &[Use::Test, Use::Fuzz],
        probe: |host| host.says("c++", &["--version"]),
        install: Install::Apt(&["g++"]),
        optional: false,
    },
    Need {
        name: "valgrind",
        why: "watches what system calls read and write, in tests",
        used_by: &[Use::Test, Use::Sanitize],
        probe: |host| host.says("valgrind", &["--version"]),
        install: Install::Apt(&["valgrind"]),
        optional: true,
    },
    Need {
        name: "miri",
        why: "finds undefined behaviour of unsafe code",
        used_by: &[Use::Test, Use::Sanitize],
        probe: |host| host.says("cargo", &["+nightly", "miri", "--version"]),
        install: Install::Miri,
        optional: true,
    },
    Need {
        name: "qemu",
        why: "boots Debian's older kernels, whose packages and busybox are unpacked below target/vm and never installed",
        used_by: &[Use::Test, Use::Vm],
        probe: |host| host.says("qemu-system-x86_64", &["--version"]),
        install: Install::Apt(&["qemu-system-x86"]),
        optional: true,
    },
    Need {
        name: "binutils",
        why: "`strip` takes from the guests' programs what only debuggers want",
        used_by: &[Use::Test, Use::Vm],
        probe: |host| host.says("strip", &["--version"]),
        install: Install::Apt(&["binutils"]),
        optional: true,
    },
    Need {
        name: "promtool",
        why: "checks the alert rules, and the page of metrics as Prometheus reads it, in tests",
        used_by: &[Use::Test],
        probe: |host| {
            host.says("promtool", &["--version"]).map(|said| said.lines().next().unwrap_or_default().to_owned())
        },
        install: Install::Apt(&["prometheus"]),
        optional: true,
    },
    Need {
        name: "rsyslog",
        why: "receives what sinks send over UDP, TCP and TLS, in tests; its own processes, on loopback",
        used_by: &[Use::Test],
        probe: |host| host.says("rsyslogd", &["-v"]),
        install: Install::Apt(&["rsyslog", "rsyslog-gnutls"]),
        optional: true,
    },
    Need {
        name: "python venv",
        why: "onnx.checker and onnxruntime judge the exported models, pandas, polars and DuckDB the Parquet, librdkafka what sinks \
              send, in tests",
        used_by: &[Use::Test],
        probe: |host| venv::MODELS.probe(host),
        install: Install::Venv(&venv::MODELS),
        optional: true,
    },
    Need {
        name: "node and npm",
        why: "the web page is built with them; without it the agent says so where the page would be",
        used_by: &[Use::Dashboard, Use::Test, Use::Lab, Use::Check, Use::Dist],
        probe: crate::dashboard::node,
        install: Install::Node,
        optional: true,
    },
    Need {
        name: "chromium",
        why: "tests of the web page run in a browser",
        used_by: &[Use::Test],
        probe: |host| host.says("chromium", &["--version"]),
        install: Install::Apt(&["chromium"]),
        optional: true,
    },
    Need {
        name: "python venv of deploy",
        why: "Helm's engine and the schemas of Kubernetes and CycloneDX judge the chart and the bill of materials",
        used_by: &[Use::Test, Use::Dist],
        probe: |host| venv::DEPLOY.probe(host),
        install: Install::Venv(&venv::DEPLOY),
        optional: true,
    },
    Need {
        name: "systemd-analyze",
        why: "judges the units, in tests",
        used_by: &[Use::Test, Use::Dist],
        probe: |host| host.says("systemd-analyze", &["--version"]),
        install: Install::Apt(&["systemd"]),
        optional: true,
    },
    Need {
        name: "man-db",
        why: "reads the man pages, in tests",
        used_by: &[Use::Test],
        probe: |host| host.says("man", &["--version"]),
        install: Install::Apt(&["man-db"]),
        optional: true,
    },
    Need {
        name: "dpkg-dev",
        why: "finds the libraries that the Debian package depends on",
        used_by: &[Use::Dist],
        probe: |host| host.says("dpkg-shlibdeps", &["--version"]),
        install: Install::Apt(&["dpkg-dev"]),
        optional: true,
    },
    Need {
        name: "lintian",
        why: "judges the Debian package",
        used_by: &[Use::Dist],
        probe: |host| host.says("lintian", &["--version"]),
        install: Install::Apt(&["lintian"]),
        optional: true,
    },
    Need {
        name: "buildah",
        why: "builds the container image",
        used_by: &[Use::Dist],
        probe: |host| host.says("buildah", &["--version"]),
        install: Install::Apt(&["buildah"]),
        optional: true,
    },
    Need {
        name: "debootstrap",
        why: "makes the system in which `dist --try` installs the package",
        used_by: &[Use::Dist],
        probe: |host| host.which("debootstrap").map(|p| p.display().to_string()),
        install: Install::Apt(&["debootstrap"]),
        optional: true,
    },
    Need {
        name: "systemd-nspawn",
        why: "boots that system",
        used_by: &[Use::Dist],
        probe: |host| host.says("systemd-nspawn", &["--version"]),
        install: Install::Apt(&["systemd-container"]),
        optional: true,
    },
];

fn version(host: &Host, program: &str, args: &[&str], wanted: &str) -> Result<String> {
    let said = host.says(program, args)?;
    if !said.split_whitespace().any(|word| word.trim_start_matches('v') == wanted) {
        bail!("`{program}` is {said:?}, wanted {wanted}");
    }
    Ok(said)
}

fn bpffs(host: &Host) -> Result<String> {
    let path = host.file("/proc/self/mounts")?;
    let mounts = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mounted = mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some("/sys/fs/bpf") && words.next() == Some("bpf")
    });
    if !mounted {
        bail!("no bpf file system is mounted at /sys/fs/bpf");
    }
    Ok("/sys/fs/bpf is mounted".to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use super::*;

    /// A folder that is gone afterwards.
    struct Scratch(PathBuf);
    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("weir-needs-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
        fn program(&self, name: &str, script: &str, mode: u32) {
            let path = self.0.join("bin").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        fn host(&self) -> Host {
            Host::at(&self.0, vec![self.0.join("bin")])
        }
    }
    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn need(name: &str) -> &'static Need {
        NEEDS.iter().find(|n| n.name == name).unwrap()
    }

    #[test]
    fn on_an_empty_machine_every_need_is_reported_missing() {
        let scratch = Scratch::new("empty");
        // The requirements are in the repository, so an empty machine has them too.
        for folder in ["workspace/models/python", "workspace/deploy/python"] {
            let python = scratch.0.join(folder);
            std::fs::create_dir_all(&python).unwrap();
            std::fs::write(python.join("requirements.txt"), "onnx\n").unwrap();
        }
        let host = Host::at(&scratch.0, Vec::new());
        for need in NEEDS {
            let found = (need.probe)(&host);
            assert!(found.is_err(), "{} was found on an empty machine: {found:?}", need.name);
        }
    }

    #[test]
    fn every_task_that_builds_the_kernel_programs_installs_their_tools() {
        for task in [Use::BuildEbpf, Use::Test, Use::Lab] {
            for name in ["BPF compiler", "bpf-linker"] {
                assert!(need(name).used_by.contains(&task), "{name} is not installed for {}", task.name());
            }
        }
    }

    #[test]
    fn another_version_does_not_count_and_the_right_one_does() {
        let scratch = Scratch::new("version");
        scratch.program("bpf-linker", "echo bpf-linker 0.9.15", 0o755);
        let e = (need("bpf-linker").probe)(&scratch.host()).unwrap_err().to_string();
        assert!(e.contains("0.9.15") && e.contains(BPF_LINKER), "{e}");
        scratch.program("bpf-linker", &format!("echo bpf-linker {BPF_LINKER}"), 0o755);
        assert!((need("bpf-linker").probe)(&scratch.host()).is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_no_program() {
        let scratch = Scratch::new("mode");
        scratch.program("ip", "echo ip utility", 0o644);
        assert!((need("iproute2").probe)(&scratch.host()).is_err());
        scratch.program("ip", "echo ip utility", 0o755);
        assert_eq!((need("iproute2").probe)(&scratch.host()).unwrap(), "ip utility");
    }

    #[test]
    fn bpffs_counts_only_where_it_is_mounted_at_its_place() {
        let scratch = Scratch::new("bpffs");
        let mounts = scratch.0.join("proc/self/mounts");
        std::fs::create_dir_all(mounts.parent().unwrap()).unwrap();
        let host = Host::at(Path::new(&scratch.0), Vec::new());
        for (text, counts) in [
            ("tmpfs /sys/fs/bpf tmpfs rw 0 0\n", false),
            ("bpf /mnt/bpf bpf rw 0 0\n", false),
            ("none /sys/fs/bpf bpf rw,mode=700 0 0\n", true),
        ] {
            std::fs::write(&mounts, text).unwrap();
            assert_eq!((need("bpffs").probe)(&host).is_ok(), counts, "{text}");
        }
    }
}
