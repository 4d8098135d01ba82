//! The thread that writes the record.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir_core::addr::Prefix;
use weir_core::record::TimeUs;
use weir_source::write::{Form, Row, Shape, Writer as Rows, writer};

use super::files::{self, Segment};
use super::side::{Line, SideWriter, Window};
use super::{Batch, Contents, MAX_AGAINST, Message};
use crate::clock::wall_us;
use crate::config::Record;
use crate::priority;

/// A file is closed after this: a crash loses no more.
pub const ROTATE: Duration = Duration::from_secs(300);
/// The record is cut off in so many steps.
const PARTS: u64 = 16;
/// Bounds of a file's size.
const FILE_BYTES: (u64, u64) = (64 << 10, 128 << 20);
/// What a record takes, roughly: rows wait in memory before they are written.
const RECORD_BYTES: u64 = 100;
/// Rows that are handed to the file's writer together.
const ROWS_AT_ONCE: usize = 1024;
/// After a failed write.
const PAUSE_US: u64 = 10_000_000;
/// Others go first: this is only a record.
const NICE: i32 = 10;

pub(super) struct Writer {
    dir: PathBuf,
    config: Record,
    contents: Arc<Mutex<Contents>>,
    waiting: Arc<AtomicUsize>,
    segments: Vec<Segment>,
    open: Option<Open>,
    lost: u64,
    failing: Option<String>,
    /// Not before.
    again_us: TimeUs,
    /// What is not noted yet because nothing could be written.
    unnoted: Option<(TimeUs, TimeUs)>,
}

/// A file without its name yet.
struct Open {
    begin_us: TimeUs,
    end_us: TimeUs,
    rows: Box<dyn Rows>,
    file: File,
    written: Arc<AtomicU64>,
    side: SideWriter,
    /// Records, and of these the first ones of their flow.
    records: u64,
    flows: u64,
    windows: u64,
    against: HashSet<Prefix>,
    paths: [PathBuf; 2],
}

/// Counts what goes through.
struct Counted {
    file: File,
    written: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buf)?;
        self.written.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

impl Open {
    fn new(dir: &Path, begin_us: TimeUs) -> io::Result<Self> {
        let paths = ["parquet", "side"].map(|kind| dir.join(format!(".{begin_us}.{kind}.tmp")));
        let (file, side) = (create(&paths[0])?, create(&paths[1])?);
        let written = Arc::new(AtomicU64::new(0));
        let counted = Counted { file: file.try_clone()?, written: written.clone() };
        Ok(Self {
            begin_us,
            end_us: begin_us,
            rows: writer(Form::Parquet, Shape::default(), counted)?,
            file,
            written,
            side: SideWriter::new(side)?,
            records: 0,
            flows: 0,
            windows: 0,
            against: HashSet::new(),
            paths,
        })
    }

    fn add(&mut self, batch: &Batch) -> io::Result<()> {
        self.end_us = self.end_us.max(batch.now);
        for flows in batch.flows.chunks(ROWS_AT_ONCE) {
            let rows: Vec<Row<'_>> = flows.iter().map(|flow| Row { flow, anomaly: None, anomaly_p: 0.0 }).collect();
            self.rows.write_all(&rows)?;
            self.flows += flows.iter().map(|flow| u64::from(flow.record.first_record)).sum::<u64>();
        }
        self.records += batch.flows.len() as u64;
        for window in Window::of(batch.now, &batch.windows) {
            self.side.write(&Line::Window(window))?;
            self.windows += 1;
        }
        for prefix in &batch.against {
            if self.against.len() == MAX_AGAINST {
                let why = "more sources had evidence against them than could be noted".to_owned();
                self.side.write(&Line::Degraded { from_us: self.begin_us, to_us: batch.now, why })?;
            } else if self.against.insert(*prefix) {
                self.side.write(&Line::Against(*prefix))?;
            }
        }
        if let Some(why) = &batch.degraded {
            self.side.write(&Line::Degraded { from_us: batch.since, to_us: batch.now, why: why.clone() })?;
        }
        Ok(())
    }

    /// Both files on the disk, then named: the one that stands for both comes last.
    fn close(self, dir: &Path) -> io::Result<Segment> {
        let Self { begin_us, end_us, mut rows, file, side, flows, windows, paths, .. } = self;
        rows.finish()?;
        drop(rows);
        file.sync_all()?;
        side.finish()?.sync_all()?;
        let mut stem = Segment::stem(begin_us, end_us, flows, windows);
        if dir.join(format!("{stem}.parquet")).exists() {
            // The clock was set back, and the same moment came again.
            stem = Segment::stem(begin_us, end_us + 1, flows, windows);
        }
        let path = dir.join(format!("{stem}.parquet"));
        let bytes = file.metadata()?.len();
        let mut segment = Segment { begin_us, end_us, flows, windows, bytes, path };
        fs::rename(&paths[1], segment.side())?;
        fs::rename(&paths[0], &segment.path)?;
        File::open(dir)?.sync_all()?;
        segment.bytes += fs::metadata(segment.side())?.len();
        Ok(segment)
    }
}

impl Writer {
    pub(super) fn new(dir: PathBuf, config: Record, contents: Arc<Mutex<Contents>>, waiting: Arc<AtomicUsize>) -> Self {
        Self {
            dir,
            config,
            contents,
            waiting,
            segments: Vec::new(),
            open: None,
            lost: 0,
            failing: None,
            again_us: 0,
            unnoted: None,
        }
    }

    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        priority::nice(NICE);
        let begun = self.begin();
        self.said(begun);
        self.tell();
        while let Ok(message) = messages.recv() {
            match message {
                Message::Batch(batch) => {
                    self.batch(&batch);
                    self.waiting.fetch_sub(batch.flows.len(), Ordering::AcqRel);
                }
                Message::Configure(config) => {
                    self.config = config;
                    if !self.config.enabled {
                        // What went wrong was said.
                        let _ = self.close();
                    }
                    let pruned = self.prune(wall_us());
                    self.said(pruned);
                }
                Message::Flush(tell) => {
                    let done = self.close();
                    self.tell();
                    tell(done);
                }
                Message::Stop(done) => {
                    // What went wrong was said, and the agent is ending.
                    let _ = self.close();
                    let _ = done.send(());
                    return;
                }
            }
            self.tell();
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        files::sweep(&self.dir)?;
        self.segments = files::list(&self.dir)?;
        self.prune(wall_us())
    }

    fn max_file(&self) -> u64 {
        (self.config.max_size / PARTS).clamp(FILE_BYTES.0, FILE_BYTES.1)
    }

    fn prune(&mut self, now: TimeUs) -> io::Result<()> {
        // Room for the one that is open.
        let max = self.config.max_size.saturating_sub(if self.config.enabled { self.max_file() } else { 0 });
        files::prune(&mut self.segments, now.saturating_sub(self.config.max_age.as_micros() as u64), max)
    }

    fn batch(&mut self, batch: &Batch) {
        let nothing = batch.flows.is_empty() && batch.windows.is_empty() && batch.against.is_empty();
        if !self.config.enabled || self.open.is_none() && nothing && batch.degraded.is_none() {
            return;
        }
        let done = self.write(batch);
        if done.is_err() {
            self.give_up(batch.now);
            self.again_us = batch.now.saturating_add(PAUSE_US);
            self.lost += batch.flows.len() as u64;
            let from = self.unnoted.map_or(batch.since, |(from, _)| from.min(batch.since));
            self.unnoted = Some((from, batch.now));
        }
        self.said(done);
    }

    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        if self.open.is_none() {
            if batch.now < self.again_us {
                return Err(io::Error::other(self.failing.clone().unwrap_or_default()));
            }
            let mut open = Open::new(&self.dir, batch.since)?;
            if let Some((from_us, to_us)) = self.unnoted {
                open.side.write(&Line::Degraded { from_us, to_us, why: "flows could not be written".to_owned() })?;
            }
            self.open = Some(open);
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.add(batch)?;
        let written = open.written.load(Ordering::Relaxed).max(open.records * RECORD_BYTES);
        let begin_us = open.begin_us;
        let old = batch.now.saturating_sub(begin_us) >= ROTATE.as_micros() as u64 || batch.now < begin_us;
        if old || written >= self.max_file() { self.end_file(batch.now) } else { Ok(()) }
    }

    fn end_file(&mut self, now: TimeUs) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let (paths, records) = (open.paths.clone(), open.records);
        match open.close(&self.dir) {
            Ok(segment) => {
                self.segments.push(segment);
                self.segments.sort();
                self.unnoted = None;
                self.prune(now)
            }
            Err(e) => {
                self.lost += records;
                remove(&paths);
                Err(e)
            }
        }
    }

    /// The open file gets its name.
    fn close(&mut self) -> Result<(), String> {
        let done = self.end_file(wall_us());
        let answer = done.as_ref().copied().map_err(|e| format!("{}: {e}", self.dir.display()));
        self.said(done);
        answer
    }

    /// What is in the open file is lost.
    fn give_up(&mut self, now: TimeUs) {
        let Some(open) = self.open.take() else { return };
        self.lost += open.records;
        self.unnoted = Some((open.begin_us, now));
        remove(&open.paths);
    }

    fn said(&mut self, done: io::Result<()>) {
        match done {
            Ok(()) => {
                if self.failing.take().is_some() {
                    log::warn!("flows are recorded again in {}; {} are missing", self.dir.display(), self.lost);
                }
            }
            Err(_) if self.failing.is_some() => {}
            Err(e) => {
                let words = format!("cannot record flows in {}: {e}", self.dir.display());
                log::warn!("{words}; everything else goes on, and what is not recorded is counted");
                self.failing = Some(words);
            }
        }
    }

    fn tell(&self) {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        contents.segments.clone_from(&self.segments);
        contents.segments.extend(self.open.as_ref().map(|o| Segment {
            begin_us: o.begin_us,
            end_us: o.end_us,
            flows: o.flows,
            windows: o.windows,
            bytes: o.written.load(Ordering::Relaxed),
            path: o.paths[0].clone(),
        }));
        contents.lost = self.lost;
        contents.failing.clone_from(&self.failing);
    }
}

fn remove(paths: &[PathBuf]) {
    for path in paths {
        // What is left is swept at the next start.
        let _ = fs::remove_file(path);
    }
}
