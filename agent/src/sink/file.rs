//! JSON lines in a file that can be rotated away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub struct JsonLines {
    path: PathBuf,
    file: Option<File>,
    /// A failed write left part of a line: the next one starts on a new line.
    torn: bool,
}

impl JsonLines {
    /// Opened at the first write.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, torn: false }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next write opens the path anew.
    pub fn close(&mut self) {
        self.file = None;
        self.torn = false;
    }

    /// Appends the lines. On failure: how many of them are not in the file as a whole.
    pub fn write<'a>(&mut self, lines: impl Iterator<Item = &'a str>) -> Result<(), (u64, io::Error)> {
        let mut text = Vec::new();
        // Where each line ends.
        let mut ends = Vec::new();
        if self.torn {
            text.push(b'\n');
        }
        for line in lines {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
            ends.push(text.len());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => match open(&self.path) {
                Ok(file) => none.insert(file),
                Err(e) => return Err((ends.len() as u64, e)),
            },
        };
        let mut written = 0;
        while written < text.len() {
            match file.write(&text[written..]) {
                Ok(0) => return Err(self.stopped(&text, &ends, written, io::ErrorKind::WriteZero.into())),
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.stopped(&text, &ends, written, e)),
            }
        }
        self.torn = false;
        Ok(())
    }

    fn stopped(&mut self, text: &[u8], ends: &[usize], written: usize, e: io::Error) -> (u64, io::Error) {
        if written > 0 {
            self.torn = text[written - 1] != b'\n';
        }
        (ends.iter().filter(|end| **end > written).count() as u64, e)
    }
}

fn open(path: &Path) -> io::Result<File> {
    let append = || OpenOptions::new().append(true).create(true).mode(0o640).open(path);
    match (append(), path.parent()) {
        (Err(e), Some(parent)) if e.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(parent)?;
            append()
        }
        (result, _) => result,
    }
}
