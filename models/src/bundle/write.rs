//! Writing: a reader sees the old bundle or the new one, never a mixture.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::BundleError;
use super::load::MANIFEST_FILE;

fn io_at(path: &Path) -> impl Fn(io::Error) -> BundleError + use<> {
    let path = path.to_owned();
    move |source| BundleError::Io { path: path.clone(), source }
}

/// Whether a bundle may be written to `dir`: it is absent, empty or a bundle. For those who are about to work long for one.
pub fn check_vacant(dir: &Path) -> Result<(), BundleError> {
    if dir.exists() && !dir.join(MANIFEST_FILE).is_file() {
        let empty = dir.is_dir() && fs::read_dir(dir).map_err(io_at(dir))?.next().is_none();
        if !empty {
            return Err(BundleError::Occupied { path: dir.to_owned() });
        }
    }
    Ok(())
}

/// Writes the files beside `dir` and swaps the two. `dir` may be absent, empty or a bundle.
pub(crate) fn write(dir: &Path, manifest: &[u8], files: &BTreeMap<String, Vec<u8>>) -> Result<(), BundleError> {
    check_vacant(dir)?;
    let exists = dir.exists();
    let parent = match dir.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(io_at(parent))?;
    let temporary = tempfile::Builder::new().prefix(".weir-bundle-").tempdir_in(parent).map_err(io_at(parent))?;
    let all = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).chain([(MANIFEST_FILE, manifest)]);
    for (name, bytes) in all {
        let path = temporary.path().join(name);
        let put = || -> io::Result<()> {
            let mut f = File::create(&path)?;
            f.write_all(bytes)?;
            f.sync_all()
        };
        put().map_err(io_at(&path))?;
    }
    fs::set_permissions(temporary.path(), Permissions::from_mode(0o755)).map_err(io_at(temporary.path()))?;
    if exists {
        // What is dropped with `temporary` afterwards is the old bundle.
        exchange(temporary.path(), dir).map_err(io_at(dir))?;
    } else {
        let path = temporary.keep();
        if let Err(source) = fs::rename(&path, dir) {
            let _ = fs::remove_dir_all(&path);
            return Err(BundleError::Io { path: dir.to_owned(), source });
        }
    }
    File::open(parent).and_then(|d| d.sync_all()).map_err(io_at(parent))
}

/// Swaps two directories in one step.
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    let text = |p: &Path| CString::new(p.as_os_str().as_bytes()).map_err(io::Error::other);
    let (a, b) = (text(a)?, text(b)?);
    // SAFETY: both strings are NUL-terminated and live through the call.
    let rc = unsafe { libc::renameat2(libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), libc::RENAME_EXCHANGE) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
