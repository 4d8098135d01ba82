//! A tar file, compressed with gzip.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;

pub struct Archive {
    path: PathBuf,
    time: u64,
    tar: tar::Builder<GzEncoder<File>>,
    finished: bool,
}

/// The folder in which everything lies.
const FOLDER: &str = "weir-support";

impl Archive {
    /// `time`: of all parts, seconds since the Unix epoch. A file that is there stays as it is.
    pub fn create(path: &Path, time: u64) -> anyhow::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("cannot make {}; name another file with --out", path.display()))?;
        let tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Self { path: path.to_owned(), time, tar, finished: false })
    }

    pub fn add(&mut self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        let name = format!("{FOLDER}/{name}");
        self.tar.append_data(&mut header, name, bytes).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Bytes of the file.
    pub fn finish(mut self) -> anyhow::Result<u64> {
        let said = || format!("cannot write {}", self.path.display());
        self.tar.finish().with_context(said)?;
        self.tar.get_mut().try_finish().with_context(said)?;
        self.tar.get_mut().flush().with_context(said)?;
        self.finished = true;
        Ok(std::fs::metadata(&self.path)?.len())
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if !self.finished {
            // Half an archive helps nobody.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
