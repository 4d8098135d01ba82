//! The Debian package, made of `deploy/deb`, `deploy/systemd` and what the program says of itself.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Made, Release, install, same_times, write};
use crate::host::Host;
use crate::sh::{root, sh};

/// Scripts of the package manager.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

pub fn make(release: &Release) -> Result<Made> {
    for program in ["dpkg-deb", "dpkg-shlibdeps"] {
        if Host::this().which(program).is_err() {
            return Ok(Made::Skipped(format!("no {program} here (packages dpkg and dpkg-dev)")));
        }
    }
    let package = package(release, &release.version, &release.out, 6)?;
    let mut made = vec![package.clone()];
    if Host::this().which("lintian").is_ok() {
        // Judged, not obeyed: no Debian archive takes this package as it is.
        let said =
            sh("lintian", ["--no-tag-display-limit", "--fail-on", "none", "--allow-root"]).arg(&package).output()?;
        let path = release.out.join("lintian.txt");
        write(&path, &format!("{said}\n"))?;
        made.push(path);
    }
    Ok(Made::Files(made))
}

/// The package of the program in `target/dist`, as `version`, put into `out`. `level`: how much work is spent on compressing, 0 to 9.
pub fn package(release: &Release, version: &str, out: &Path, level: u32) -> Result<PathBuf> {
    let arch = sh("dpkg", ["--print-architecture"]).output()?;
    let tree = release.scratch("deb")?.join("tree");
    let deploy = root().join("deploy");
    let program = release.binary();
    install(&program, &tree.join("usr/bin/weir"), 0o755)?;
    install(&deploy.join("weir.yaml"), &tree.join("etc/weir/weir.yaml"), 0o640)?;
    install(&deploy.join("systemd/collector.yaml"), &tree.join("etc/weir/collector.yaml"), 0o644)?;
    for unit in ["weir.service", "weir@.service", "weir-collector.service"] {
        install(&deploy.join("systemd").join(unit), &tree.join("lib/systemd/system").join(unit), 0o644)?;
    }
    install(&deploy.join("systemd/weir.sysusers"), &tree.join("usr/lib/sysusers.d/weir.conf"), 0o644)?;
    let doc = tree.join("usr/share/doc/weir");
    for (from, to) in [
        (root().join("README.md"), "README.md"),
        (root().join("CHANGELOG.md"), "NEWS.md"),
        (deploy.join("METRICS.md"), "METRICS.md"),
        (deploy.join("policy-limits.yaml"), "examples/policy-limits.yaml"),
        (deploy.join("prometheus/alerts.yml"), "examples/prometheus-alerts.yml"),
        (deploy.join("grafana/weir.json"), "examples/grafana-weir.json"),
    ] {
        install(&from, &doc.join(to), 0o644)?;
    }
    let licences = release.out.join("THIRD-PARTY-LICENCES");
    if licences.exists() {
        install(&licences, &doc.join("THIRD-PARTY-LICENCES"), 0o644)?;
    }
    let maintainer = maintainer();
    let when = sh("date", ["-u", "-R", "-d", &format!("@{}", release.epoch)]).env("LC_ALL", "C").output()?;
    let changes = "What has changed is told in NEWS.md.gz beside this file.";
    let entry = format!("weir ({version}) unstable; urgency=medium\n\n  * {changes}\n\n -- {maintainer}  {when}\n");
    write(&doc.join("changelog"), &entry)?;
    install(&deploy.join("deb/lintian-overrides"), &tree.join("usr/share/lintian/overrides/weir"), 0o644)?;
    let read =
        |path: PathBuf| std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()));
    let mit = read(root().join("LICENSE-MIT"))?;
    let mit: Vec<String> = mit.lines().map(|l| if l.is_empty() { " .".to_owned() } else { format!(" {l}") }).collect();
    write(&doc.join("copyright"), &read(deploy.join("deb/copyright"))?.replace("@MIT@", &mit.join("\n")))?;
    generated(&program, &tree)?;
    compress(&tree)?;

    let size: u64 =
        sh("du", ["-sk", "--apparent-size"]).arg(&tree).output()?.split_whitespace().next().unwrap_or("0").parse()?;
    let control = read(deploy.join("deb/control"))?
        .replace("@VERSION@", version)
        .replace("@MAINTAINER@", &maintainer)
        .replace("@ARCH@", &arch)
        .replace("@DEPENDS@", &libraries(release, &program)?)
        .replace("@HOMEPAGE@", "https://github.com/weir-project/weir")
        .replace("@SIZE@", &size.to_string());
    write(&tree.join("DEBIAN/control"), &control)?;
    install(&deploy.join("deb/conffiles"), &tree.join("DEBIAN/conffiles"), 0o644)?;
    for script in SCRIPTS {
        install(&deploy.join("deb").join(script), &tree.join("DEBIAN").join(script), 0o755)?;
    }
    let sums = "cd \"$0\" && find . -type f ! -path './DEBIAN/*' -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 md5sum";
    write(&tree.join("DEBIAN/md5sums"), &format!("{}\n", sh("sh", ["-c", sums]).arg(&tree).output()?))?;
    sh("chmod", ["-R", "u=rwX,go+rX,go-w"]).arg(&tree).run()?;
    sh("chmod", ["0640"]).arg(tree.join("etc/weir/weir.yaml")).run()?;
    same_times(release, &tree)?;
    let path = out.join(format!("weir_{version}_{arch}.deb"));
    sh("dpkg-deb", ["--root-owner-group", "-Zxz", &format!("-z{level}"), "--build"])
        .arg(&tree)
        .arg(&path)
        .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
        .run()?;
    Ok(path)
}

/// Who answers for the package: as Debian's own tools are told.
fn maintainer() -> String {
    match (std::env::var("DEBFULLNAME"), std::env::var("DEBEMAIL")) {
        (Ok(name), Ok(mail)) => format!("{name} <{mail}>"),
        _ => {
            eprintln!("nobody is named as the package's maintainer: set DEBFULLNAME and DEBEMAIL to give it to others");
            "The Weir project <maintainers@weir.invalid>".to_owned()
        }
    }
}

/// Man pages and completions, as the program makes them.
pub fn generated(program: &Path, tree: &Path) -> Result<()> {
    sh(program, ["man-pages"]).arg(tree.join("usr/share/man/man1")).run()?;
    for (shell, to) in [
        ("bash", "usr/share/bash-completion/completions/weir"),
        ("zsh", "usr/share/zsh/vendor-completions/_weir"),
        ("fish", "usr/share/fish/vendor_completions.d/weir.fish"),
    ] {
        write(&tree.join(to), &format!("{}\n", sh(program, ["completions", shell]).output()?))?;
    }
    Ok(())
}

/// As Debian's policy wants it, without names and times inside.
fn compress(tree: &Path) -> Result<()> {
    let find = "find \"$0/usr/share/man\" -type f -exec gzip -9n {} +; gzip -9n \"$0/usr/share/doc/weir/changelog\"; \
                for f in THIRD-PARTY-LICENCES METRICS.md NEWS.md; do if [ -f \"$0/usr/share/doc/weir/$f\" ]; then gzip -9n \"$0/usr/share/doc/weir/$f\"; fi; done";
    sh("sh", ["-ec", find]).arg(tree).run()
}

/// Packages with the shared libraries that the program needs, with their versions.
fn libraries(release: &Release, program: &Path) -> Result<String> {
    let dir = release.scratch("shlibs")?;
    // dpkg-shlibdeps works inside a source package.
    write(&dir.join("debian/control"), "Source: weir\n\nPackage: weir\nArchitecture: any\nDescription: weir\n")?;
    let said = sh("dpkg-shlibdeps", ["-O"]).arg(program).dir(&dir).output()?;
    let depends = said.lines().find_map(|l| l.strip_prefix("shlibs:Depends="));
    Ok(depends.with_context(|| format!("dpkg-shlibdeps says {said:?}"))?.to_owned())
}
