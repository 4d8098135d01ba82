//! Files that are either the old or the new version, never half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// Replaces the file: written beside it, on the disk, then renamed, the rename on the disk too.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let tmp = temporary(path);
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&tmp, path)
    };
    write().inspect_err(|_| {
        // A leftover is harmless: nothing reads it, the next write starts it anew.
        let _ = fs::remove_file(&tmp);
    })?;
    sync_parent(path)
}

/// Makes a rename in the folder of `path` last.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Moves a file that cannot be read out of the way, under a name that is free.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    move_aside(path, "corrupt")
}

/// Moves a file out of the way, under a name with `word` that is free.
pub fn move_aside(path: &Path, word: &str) -> io::Result<PathBuf> {
    for n in 1.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{word}-{n}"));
        let aside = PathBuf::from(name);
        if !aside.exists() {
            fs::rename(path, &aside)?;
            sync_parent(path)?;
            return Ok(aside);
        }
    }
    unreachable!("some number is free")
}
