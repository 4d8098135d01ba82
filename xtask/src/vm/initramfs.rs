//! The guest's file system: busybox, `ip` and `tc`, modules, the agent and its tests, with the libraries that they need.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::Host;
use crate::sh::sh;

use super::packages::Unpacked;

/// Modules that the tests need, behind those that they need themselves. What a kernel has built in, or not at all, is left out.
const MODULES: &[&str] = &[
    "failover",
    "net_failover",
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_net",
    "veth",
    "sch_ingress",
    "cls_bpf",
    "llc",
    "stp",
    "mrp",
    "garp",
    "8021q",
    "tls",
    "bonding",
];

/// Programs of the host that the tests call; without ethtool some of them skip themselves.
const TOOLS: &[&str] = &["ip", "tc", "ethtool"];

/// A program for the guest: where it lies there, and here.
pub struct Program {
    pub at: String,
    pub from: PathBuf,
}

/// Writes the file system of a guest to `to`. `plan` lies in it as `/plan`.
pub fn write(to: &Path, kernel: &Unpacked, busybox: &Path, programs: &[Program], plan: &str) -> Result<()> {
    let out = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut fs = Cpio::new(BufWriter::new(out));
    for dir in ["proc", "sys", "dev", "tmp", "run", "root", "etc", "modules", "var/lib", "bin"] {
        fs.dirs(dir)?;
    }
    fs.device("dev/console", 5, 1)?;
    fs.file("init", 0o755, include_bytes!("init.sh"))?;
    fs.file("plan", 0o644, plan.as_bytes())?;
    fs.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
    fs.file("etc/group", 0o644, b"root:x:0:\n")?;
    fs.file("bin/busybox", 0o755, &read(busybox)?)?;
    let host = Host::this();
    let tools = TOOLS.iter().filter_map(|t| Some(Program { at: format!("bin/{t}"), from: host.which(t).ok()? }));
    let mut libraries = BTreeSet::new();
    for program in tools {
        libraries.extend(libraries_of(&program.from)?);
        fs.file(&program.at, 0o755, &read(&program.from)?)?;
    }
    for program in programs {
        libraries.extend(libraries_of(&program.from)?);
        fs.file(program.at.trim_start_matches('/'), 0o755, &stripped(&program.from)?)?;
    }
    for library in libraries {
        fs.file(library.to_string_lossy().trim_start_matches('/'), 0o755, &read(&library)?)?;
    }
    for (n, module) in MODULES.iter().enumerate() {
        if let Some(found) = module_file(&kernel.modules, module)? {
            fs.file(&format!("modules/{n:02}-{module}.ko"), 0o644, &module_bytes(&found, busybox)?)?;
        }
    }
    fs.finish()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Shared libraries and the loader that a program names, as they lie here.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    Ok(paths_in(&sh("ldd", [program]).output()?))
}

/// Paths in what `ldd` prints.
fn paths_in(ldd: &str) -> Vec<PathBuf> {
    ldd.split_whitespace().filter(|w| w.starts_with('/')).map(PathBuf::from).collect()
}

/// A program without what only debuggers want: it is four fifths of it.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let to = super::packages::folder().join(format!("stripped-{}", std::process::id()));
    sh("strip", ["-o".as_ref(), to.as_os_str(), program.as_os_str()]).run()?;
    let bytes = read(&to)?;
    std::fs::remove_file(&to)?;
    Ok(bytes)
}

fn module_file(dir: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            if let Some(found) = module_file(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|n| {
            n.to_string_lossy().split_once('.').is_some_and(|(n, rest)| n == name && rest.starts_with("ko"))
        }) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// A module as the kernel takes it.
fn module_bytes(file: &Path, busybox: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|e| e != "xz") {
        return read(file);
    }
    let out = std::process::Command::new(busybox).args(["xz", "-dc"]).arg(file).output()?;
    anyhow::ensure!(out.status.success(), "busybox xz cannot unpack {}", file.display());
    Ok(out.stdout)
}

/// An archive in cpio's "new ASCII" format, which the kernel unpacks as its first file system.
struct Cpio<W: Write> {
    out: W,
    inode: u32,
    made: BTreeSet<String>,
}

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_600;

impl<W: Write> Cpio<W> {
    fn new(out: W) -> Self {
        Self { out, inode: 0, made: BTreeSet::new() }
    }

    /// A folder and those above it.
    fn dirs(&mut self, path: &str) -> Result<()> {
        let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
        for end in ends {
            if self.made.insert(path[..end].to_owned()) {
                self.entry(&path[..end], DIRECTORY, (0, 0), &[])?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, permissions: u32, data: &[u8]) -> Result<()> {
        if let Some((dir, _)) = path.rsplit_once('/') {
            self.dirs(dir)?;
        }
        self.entry(path, REGULAR | permissions, (0, 0), data)
    }

    fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.entry(path, CHARACTER, (major, minor), &[])
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(data.len()).with_context(|| format!("{path} is too large for cpio"))?;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let name = path.len() as u32 + 1;
        // inode, mode, user, group, links, time, size, device, device of the node, length of the name, checksum
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name, 0];
        let mut header = String::from("070701");
        header.extend(fields.iter().map(|f| format!("{f:08X}")));
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header.len() + name as usize)?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    fn pad(&mut self, len: usize) -> Result<()> {
        Ok(self.out.write_all(&[0; 3][..len.next_multiple_of(4) - len])?)
    }

    fn finish(mut self) -> Result<()> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_each_folder_once_and_everything_on_words() {
        let mut bytes = Vec::new();
        let mut fs = Cpio::new(&mut bytes);
        fs.file("a/b/x", 0o755, b"12345").unwrap();
        fs.file("a/y", 0o644, b"").unwrap();
        fs.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 5, "a, a/b, a/b/x, a/y and the trailer: {text}");
        let x = text.find("a/b/x\0").unwrap();
        let header = &text[x - 110..x];
        assert_eq!((&header[14..22], &header[54..62], &header[94..102]), ("000081ED", "00000005", "00000006"));
        assert_eq!((x - 110) % 4, 0);
        assert_eq!(text.find("12345").unwrap() % 4, 0);
    }

    #[test]
    fn the_libraries_of_a_program_are_those_with_a_path() {
        let ldd =
            "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(paths_in(ldd), [Path::new("/lib/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")]);
    }
}
