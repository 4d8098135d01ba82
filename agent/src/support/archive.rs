//! A tar file, compressed with gzip.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;

pub struct Archive {
    path: PathBuf,
    time: u64,
    /// `None`: it is finished.
    tar: Option<tar::Builder<GzEncoder<File>>>,
}

/// The folder in which everything lies.
const FOLDER: &str = "weir-support";

impl Archive {
    /// `time`: of all parts, seconds since the Unix epoch. A file that is there stays as it is.
    pub fn create(path: &Path, time: u64) -> anyhow::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("cannot make {}; name another file with --out", path.display()))?;
        let tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Self { path: path.to_owned(), time, tar: Some(tar) })
    }

    pub fn add(&mut self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        let name = format!("{FOLDER}/{name}");
        match &mut self.tar {
            Some(tar) => tar.append_data(&mut header, name, bytes).with_context(|| cannot_write(&self.path)),
            None => Ok(()),
        }
    }

    /// Bytes of the file.
    pub fn finish(mut self) -> anyhow::Result<u64> {
        if let Some(tar) = &mut self.tar {
            // Until it is whole, it is taken away again.
            tar.finish().and_then(|()| tar.get_mut().try_finish()).with_context(|| cannot_write(&self.path))?;
        }
        self.tar = None;
        Ok(std::fs::metadata(&self.path)?.len())
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

impl Drop for Archive {
    fn drop(&mut self) {
        if self.tar.is_some() {
            // Half an archive helps nobody.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
