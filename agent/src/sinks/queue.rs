//! A bounded queue of records on disk that outlives a kill.
//!
//! Segments (`NUMBER.queue`, named by their first record) are only ever appended to and removed. A record is its length, a checksum
//! over its number and contents, and the contents; whatever is not whole at the end of a segment is cut off when the queue is opened.
//! `cursor` holds the number of the first record that was not delivered. It is written after a delivery, so a kill in between
//! delivers again: at least once.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::crc32c::crc32c;

/// Length and checksum, before each record.
const HEAD: u64 = 8;
/// Segments that a full queue has, about: dropping the oldest drops so much of it.
const SEGMENTS: u64 = 8;
const LARGEST_SEGMENT: u64 = 8 << 20;
/// Longer records are refused.
pub const MAX_RECORD: usize = 1 << 20;

/// What happens to a record that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest records make room.
    DropOldest,
    /// The record itself is given up.
    DropNewest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all segments.
    pub size: u64,
    pub full: WhenFull,
}

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the queue under this number; so many older ones had to go.
    Queued {
        number: u64,
        dropped: u64,
    },
    /// There was no room.
    Full,
    TooLarge,
}

/// A record and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub number: u64,
    pub body: Vec<u8>,
}

#[derive(Debug)]
struct Segment {
    first: u64,
    path: PathBuf,
    file: File,
    /// Where each record ends.
    ends: Vec<u64>,
}

impl Segment {
    fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }
    /// The number behind its last record.
    fn end(&self) -> u64 {
        self.first + self.ends.len() as u64
    }
    fn start_of(&self, i: usize) -> u64 {
        if i == 0 { 0 } else { self.ends[i - 1] }
    }
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    bounds: Bounds,
    segments: VecDeque<Segment>,
    /// Of the first record that was not delivered.
    head: u64,
    next: u64,
    cursor: File,
    /// Appended to since the last [`Queue::sync`].
    unsynced: bool,
}

/// Shared by who appends and who delivers; each call takes one or a few file operations.
#[derive(Debug)]
pub struct Queue(Mutex<Inner>);

/// What was found wrong when a queue was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// In words, each with the file.
    pub words: Vec<String>,
    /// Records that are known to be missing.
    pub records: u64,
}

impl Queue {
    /// Opens the queue in this folder, which is made where it is missing.
    pub fn open(dir: &Path, bounds: Bounds) -> io::Result<(Self, Damage)> {
        fs::create_dir_all(dir)?;
        let mut damage = Damage::default();
        let mut names: Vec<(u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let number = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".queue"));
            if let Some(first) = number.and_then(|n| n.parse().ok()) {
                names.push((first, path));
            }
        }
        names.sort();
        let cursor = open(&dir.join("cursor"))?;
        let known = read_cursor(&cursor)?;
        if known.is_none() && !names.is_empty() {
            let words = "where delivery stood is not known: everything that is queued is delivered, some of it again";
            damage.words.push(format!("{}: {words}", dir.join("cursor").display()));
        }
        let mut segments: VecDeque<Segment> = VecDeque::new();
        for (first, path) in names {
            let segment = read_segment(first, path, &mut damage)?;
            let expected = segments.back().map_or(first, Segment::end);
            if first < expected {
                // Numbers are never given twice: this is no segment of ours.
                damage.words.push(format!("{}: it overlaps the one before it; left alone", segment.path.display()));
                continue;
            }
            damage.records += first - expected;
            if segment.ends.is_empty() {
                fs::remove_file(&segment.path)?;
            } else {
                segments.push_back(segment);
            }
        }
        let next = segments.back().map_or(0, Segment::end).max(known.unwrap_or(0));
        let head = known.unwrap_or(0).max(segments.front().map_or(next, |s| s.first));
        let mut inner = Inner { dir: dir.to_owned(), bounds, segments, head, next, cursor, unsynced: false };
        inner.forget_delivered();
        Ok((Self(Mutex::new(inner)), damage))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_bounds(&self, bounds: Bounds) {
        self.inner().bounds = bounds;
    }

    pub fn append(&self, body: &[u8]) -> io::Result<Appended> {
        self.inner().append(body)
    }

    /// The first records that were not delivered, at most so many and so many bytes, though at least one. Records that
    /// cannot be read any more are passed over; how many comes with them.
    pub fn peek(&self, records: usize, bytes: usize) -> io::Result<(Vec<Record>, u64)> {
        self.inner().peek(records, bytes)
    }

    /// Records before this number are delivered, or given up. How many of those were still in the queue.
    pub fn advance(&self, to: u64) -> io::Result<u64> {
        self.inner().advance(to)
    }

    /// Records and bytes that wait. The bytes are those of the files.
    pub fn waiting(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.next - inner.head, inner.segments.iter().map(Segment::len).sum())
    }

    /// What was appended is on the disk afterwards, and outlives a loss of power. Others append meanwhile.
    pub fn sync(&self) -> io::Result<()> {
        let file = {
            let mut inner = self.inner();
            if !std::mem::take(&mut inner.unsynced) {
                return Ok(());
            }
            inner.segments.back().map(|s| s.file.try_clone()).transpose()?
        };
        file.map_or(Ok(()), |f| f.sync_data())
    }
}

impl Inner {
    fn size(&self) -> u64 {
        self.segments.iter().map(Segment::len).sum()
    }

    fn append(&mut self, body: &[u8]) -> io::Result<Appended> {
        let room = HEAD + body.len() as u64;
        if body.is_empty() || body.len() > MAX_RECORD || room > self.bounds.size {
            return Ok(Appended::TooLarge);
        }
        let mut dropped = 0;
        while self.size() + room > self.bounds.size {
            if self.bounds.full == WhenFull::DropNewest {
                return Ok(Appended::Full);
            }
            let Some(oldest) = self.segments.front() else { break };
            let end = oldest.end();
            dropped += end - self.head.max(oldest.first).min(end);
            self.remove_oldest();
            self.head = self.head.max(end);
        }
        let largest = (self.bounds.size / SEGMENTS).clamp(1, LARGEST_SEGMENT);
        if self.segments.back().is_none_or(|s| s.len() + room > largest && !s.ends.is_empty()) {
            self.begin()?;
        }
        let number = self.next;
        let Some(segment) = self.segments.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        let mut bytes = Vec::with_capacity(room as usize);
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&checksum(number, body).to_le_bytes());
        bytes.extend_from_slice(body);
        let at = segment.len();
        // At a place, not at the end: what a failed write left is written over.
        segment.file.write_all_at(&bytes, at)?;
        segment.ends.push(at + room);
        self.next += 1;
        self.unsynced = true;
        Ok(Appended::Queued { number, dropped })
    }

    /// Begins a new segment.
    fn begin(&mut self) -> io::Result<()> {
        self.unsynced = false;
        if let Some(last) = self.segments.back() {
            last.file.sync_data()?;
        }
        let path = self.dir.join(format!("{:020}.queue", self.next));
        let file = open(&path)?;
        file.set_len(0)?;
        self.segments.push_back(Segment { first: self.next, path, file, ends: Vec::new() });
        self.forget_delivered();
        Ok(())
    }

    fn remove_oldest(&mut self) {
        if let Some(segment) = self.segments.pop_front()
            && let Err(e) = fs::remove_file(&segment.path)
        {
            log::warn!("{} cannot be removed: {e}; it is delivered again after a restart", segment.path.display());
        }
    }

    /// Whole segments that are delivered go, save the one that is appended to.
    fn forget_delivered(&mut self) {
        while self.segments.len() > 1 && self.segments[0].end() <= self.head {
            self.remove_oldest();
        }
        // Nothing waits: the last one begins anew, so that an idle queue takes no room.
        if self.head == self.next && self.segments.front().is_some_and(|s| !s.ends.is_empty()) {
            self.remove_oldest();
        }
    }

    fn peek(&mut self, records: usize, bytes: usize) -> io::Result<(Vec<Record>, u64)> {
        let (mut found, mut taken, mut unreadable) = (Vec::new(), 0, 0);
        for segment in &self.segments {
            let from = self.head.saturating_sub(segment.first) as usize;
            for i in from..segment.ends.len() {
                let (start, end) = (segment.start_of(i), segment.ends[i]);
                let length = (end - start - HEAD) as usize;
                if !found.is_empty() && (found.len() >= records || taken + length > bytes) {
                    return Ok((found, unreadable));
                }
                let number = segment.first + i as u64;
                match read_record(&segment.file, start, number)? {
                    Some(body) => {
                        taken += length;
                        found.push(Record { number, body });
                    }
                    // At the head, so that it is not met again.
                    None if found.is_empty() => {
                        self.head = number + 1;
                        unreadable += 1;
                    }
                    None => return Ok((found, unreadable)),
                }
            }
        }
        Ok((found, unreadable))
    }

    fn advance(&mut self, to: u64) -> io::Result<u64> {
        let to = to.min(self.next);
        if to <= self.head {
            return Ok(0);
        }
        let gone = to - self.head;
        self.head = to;
        self.forget_delivered();
        write_cursor(&self.cursor, to)?;
        Ok(gone)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn checksum(number: u64, body: &[u8]) -> u32 {
    crc32c(crc32c(0, &number.to_le_bytes()), body)
}

fn read_cursor(file: &File) -> io::Result<Option<u64>> {
    let mut bytes = [0; 12];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let (number, sum) = bytes.split_at(8);
    let sound = crc32c(0, number).to_le_bytes() == sum;
    Ok(sound.then(|| u64::from_le_bytes(number.try_into().expect("eight bytes"))))
}

fn write_cursor(file: &File, number: u64) -> io::Result<()> {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let sum = crc32c(0, &bytes[..8]);
    bytes[8..].copy_from_slice(&sum.to_le_bytes());
    file.write_all_at(&bytes, 0)
}

/// The record at this place; `None`: what is there is not whole, or is another.
fn read_record(file: &File, at: u64, number: u64) -> io::Result<Option<Vec<u8>>> {
    let whole = |bytes: &mut [u8], at: u64| match file.read_exact_at(bytes, at) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    };
    let mut head = [0; HEAD as usize];
    if !whole(&mut head, at)? {
        return Ok(None);
    }
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let sum = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if length == 0 || length > MAX_RECORD {
        return Ok(None);
    }
    let mut body = vec![0; length];
    Ok((whole(&mut body, at + HEAD)? && checksum(number, &body) == sum).then_some(body))
}

/// Reads which records a segment has, and cuts off what is behind the last whole one.
fn read_segment(first: u64, path: PathBuf, damage: &mut Damage) -> io::Result<Segment> {
    let file = open(&path)?;
    let length = file.metadata()?.len();
    let mut segment = Segment { first, path, file, ends: Vec::new() };
    while segment.len() < length {
        match read_record(&segment.file, segment.len(), segment.end())? {
            Some(body) => segment.ends.push(segment.len() + HEAD + body.len() as u64),
            None => {
                let (whole, torn) = (segment.len(), length - segment.len());
                segment.file.set_len(whole)?;
                let (path, n) = (segment.path.display(), segment.ends.len());
                damage.words.push(format!("{path}: {torn} bytes behind {n} whole records are torn; they are cut off"));
                break;
            }
        }
    }
    Ok(segment)
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
