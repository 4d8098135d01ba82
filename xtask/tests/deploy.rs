//! What is deployed, judged by the tools that will read it: units by systemd, the chart by Helm's engine and Kubernetes' schemas, man
//! pages by man. What needs a release build is `cargo xtask dist`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn deploy(path: &str) -> PathBuf {
    root().join("deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap_or_else(|e| panic!("deploy/{path}: {e}"))
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        println!("SKIP: no {program} in PATH");
    }
    found
}

/// Standard output and error of a command, and whether it succeeded.
fn says(command: &mut Command) -> (bool, String) {
    let out = command.output().unwrap();
    (out.status.success(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}

const UNITS: [&str; 3] = ["weir.service", "weir@.service", "weir-collector.service"];

/// A root folder with the units and what they start, as systemd looks for these.
fn installed() -> tempdir::Dir {
    let dir = tempdir::Dir::new();
    for unit in UNITS {
        let to = dir.0.join("etc/systemd/system").join(unit);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(deploy("systemd").join(unit), to).unwrap();
    }
    dir
}

mod tempdir {
    /// Gone at the end.
    pub struct Dir(pub std::path::PathBuf);
    impl Dir {
        pub fn new() -> Self {
            static N: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
            let n = N.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("weir-deploy-{}-{n}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }
    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[test]
fn systemd_takes_the_units_and_finds_little_exposed() {
    if !has("systemd-analyze") {
        return;
    }
    let dir = installed();
    // In tenths, as systemd-analyze takes it; the agent needs what the collector does not.
    for (unit, most) in [("weir.service", 28), ("weir@.service", 28), ("weir-collector.service", 17)] {
        let path = dir.0.join("etc/systemd/system").join(unit);
        let (_, said) = says(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path));
        // The program is not installed on the machine that judges.
        let wrong: Vec<&str> = said
            .lines()
            .filter(|l| {
                l.contains("weir")
                    && !l.contains("/usr/bin/weir is not executable")
                    && !l.contains("Command /usr/bin/weir")
            })
            .collect();
        assert!(wrong.is_empty(), "{unit}: {wrong:?}");
        let threshold = format!("--threshold={most}");
        let mut judge = Command::new("systemd-analyze");
        let (fine, said) = says(judge.args(["security", "--offline=true", "--no-pager", &threshold]).arg(&path));
        let overall = said.lines().find(|l| l.contains("Overall exposure")).unwrap_or(&said);
        assert!(fine, "{unit}: more than {most} tenths: {overall}");
        println!("{overall}");
    }
}

#[test]
fn the_unit_per_interface_has_the_same_sandbox() {
    let sandbox = |unit: &str| {
        let text = read(&format!("systemd/{unit}"));
        let at = text.find("# The user is root").unwrap_or_else(|| panic!("{unit} has no sandbox"));
        text[at..].to_owned()
    };
    let weir = sandbox("weir.service");
    assert_eq!(sandbox("weir@.service"), weir);
    assert!(
        weir.contains("CapabilityBoundingSet=CAP_BPF CAP_NET_ADMIN CAP_PERFMON\n")
            && weir.contains("SystemCallFilter=")
    );
}

#[test]
fn the_chart_renders_what_kubernetes_takes_and_refuses_what_means_nothing() {
    let python = root().join("target/venv-deploy/bin/python");
    if !python.exists() {
        println!("SKIP: no Helm engine in target/venv-deploy (cargo xtask test makes it)");
        return;
    }
    let (fine, said) = says(Command::new(python).arg(deploy("python/chart.py")).arg(deploy("helm/weir")));
    assert!(fine, "{said}");
    assert!(said.contains("refused"), "{said}");
}

#[test]
fn workflows_are_what_github_takes() {
    let judge = root().join("target/venv-deploy/bin/check-jsonschema");
    if !judge.exists() {
        println!("SKIP: no check-jsonschema in target/venv-deploy (cargo xtask test makes it)");
        return;
    }
    let files = root().join(".github/workflows");
    let (fine, said) = says(
        Command::new(judge)
            .args(["--builtin-schema", "vendor.github-workflows"])
            .args([files.join("ci.yml"), files.join("release.yml")]),
    );
    assert!(fine, "{said}");
}

#[test]
fn the_chart_and_the_workspace_have_one_version() {
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = workspace.lines().find_map(|l| l.strip_prefix("version = \"")?.strip_suffix('"')).unwrap();
    let chart = read("helm/weir/Chart.yaml");
    for line in [format!("version: {version}"), format!("appVersion: {version}")] {
        assert!(chart.lines().any(|l| l == line), "deploy/helm/weir/Chart.yaml lacks `{line}`");
    }
}

#[test]
fn scripts_of_the_package_are_shell_and_every_configuration_file_is_named() {
    for script in ["postinst", "prerm", "postrm"] {
        let (fine, said) = says(Command::new("sh").arg("-n").arg(deploy("deb").join(script)));
        assert!(fine, "{script}: {said}");
    }
    assert_eq!(read("deb/conffiles").lines().collect::<Vec<_>>(), ["/etc/weir/weir.yaml", "/etc/weir/collector.yaml"]);
}
