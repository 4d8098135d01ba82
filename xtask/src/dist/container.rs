//! The container image, built without a network from the program and the libraries that it is linked with.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Made, Release, install, same_times, write};
use crate::host::Host;
use crate::sh::{root, sh, sh_as_root};

pub fn make(release: &Release) -> Result<Made> {
    if Host::this().which("buildah").is_err() {
        return Ok(Made::Skipped("no buildah here (package buildah)".to_owned()));
    }
    let context = release.scratch("container")?;
    let tree = context.join("rootfs");
    install(&release.binary(), &tree.join("usr/bin/weir"), 0o755)?;
    for library in libraries(&release.binary())? {
        install(&library, &tree.join(library.strip_prefix("/").unwrap_or(&library)), 0o755)?;
    }
    let users = "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\nweir:x:65532:65532:Weir:/:/sbin/nologin\n";
    write(&tree.join("etc/passwd"), users)?;
    write(&tree.join("etc/group"), "root:x:0:\nnogroup:x:65534:\nweir:x:65532:\n")?;
    write(&tree.join("etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n")?;
    // Authorities that sinks and CrowdSec over TLS are checked by.
    let authorities = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if authorities.exists() {
        install(authorities, &tree.join("etc/ssl/certs/ca-certificates.crt"), 0o644)?;
    }
    for dir in ["etc/weir", "run/weir", "var/lib/weir", "tmp"] {
        std::fs::create_dir_all(tree.join(dir)).with_context(|| format!("cannot create {dir}"))?;
    }
    same_times(release, &tree)?;
    let image = format!("localhost/weir:{}", release.version);
    let storage = context.join("storage");
    let buildah = |args: &[&str]| {
        let storage = storage.display();
        let places =
            [format!("--root={storage}/root"), format!("--runroot={storage}/run"), "--storage-driver=vfs".to_owned()];
        // Without a network for certain: with isolation by chroot, which works inside containers too, buildah knows only the host's.
        let words =
            ["--net", "buildah"].into_iter().chain(places.iter().map(String::as_str)).chain(args.iter().copied());
        sh_as_root("unshare", words).dir(&context)
    };
    let file = root().join("deploy/container/Containerfile").display().to_string();
    let time = format!("--timestamp={}", release.epoch);
    buildah(&["bud", "--isolation=chroot", "--pull=never", &time, "-f", &file, "-t", &image, "."]).run()?;
    // It starts, as the user that it names, and judges a configuration.
    let made = buildah(&["from", "--pull-never", &image]).output()?;
    let said =
        buildah(&["run", "--isolation=chroot", "--user=65532:65532", made.trim(), "--", "/usr/bin/weir", "--version"])
            .output();
    let _ = buildah(&["rm", made.trim()]).output();
    let said = said.context("the image does not start")?;
    if said != format!("weir {}", release.version) {
        bail!("the image says that it is {said:?}");
    }
    println!("the image runs without privileges and says: {said}");
    let archive = release.out.join(format!("weir-{}.oci.tar", release.version));
    let _ = std::fs::remove_file(&archive);
    buildah(&["push", &image, &format!("oci-archive:{}:{image}", archive.display())]).run()?;
    sh_as_root("rm", ["-rf".as_ref(), storage.as_os_str()]).run()?;
    Ok(Made::Files(vec![archive]))
}

/// Shared libraries and the loader, as the loader finds them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let said = sh("ldd", [program]).output()?;
    Ok(said.lines().filter_map(|l| l.split_whitespace().find(|w| w.starts_with('/'))).map(PathBuf::from).collect())
}
