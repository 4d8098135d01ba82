//! JSON lines in a file that can be rotated away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
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
                Ok(file) => {
                    // A kill in the middle of a write leaves part of a line, too.
                    if !self.torn && ends_within_a_line(&self.path) {
                        text.insert(0, b'\n');
                        ends.iter_mut().for_each(|end| *end += 1);
                    }
                    none.insert(file)
                }
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

/// A file whose last byte cannot be read (a pipe, a device) ends nowhere.
fn ends_within_a_line(path: &Path) -> bool {
    let last = || -> io::Result<u8> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut byte = [b'\n'];
        if size > 0 {
            file.read_exact_at(&mut byte, size - 1)?;
        }
        Ok(byte[0])
    };
    // Not opened at all where it is no file: that may wait.
    fs::metadata(path).is_ok_and(|m| m.is_file()) && last().is_ok_and(|b| b != b'\n')
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
