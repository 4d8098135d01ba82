//! The record: flows that the agent saw, kept in files for learning, comparison and evidence.
//!
//! ```text
//! <state_dir>/flows/BEGIN-END-FLOWS-WINDOWS.parquet   flows, as `weir flows` writes them: agent/source/SCHEMA.md
//! <state_dir>/flows/BEGIN-END-FLOWS-WINDOWS.side.zst  source windows, and what must not be learned from: JSON lines
//! ```
//!
//! It is bounded by total size and age; the oldest goes first. It is written on a thread of its own behind a bounded queue: a
//! slow or full disk costs recordings, which are counted, and never holds up the agent. A file gets its name when it is whole;
//! a crash loses the one that is open, at most five minutes of flows.

pub mod files;
pub mod read;
pub mod side;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_core::addr::Prefix;
use weir_core::record::TimeUs;
use weir_core::window::SourceWindow;
use weir_source::Observation;

use crate::command::RecordReport;
use crate::config::Record;
use files::Segment;

/// Folder of the state directory.
pub const FOLDER: &str = "flows";
/// Flows that may wait for the disk, some 0.75 KiB each.
pub const MAX_WAITING: usize = 200_000;
/// Epochs that may wait for it.
const MAX_BATCHES: usize = 256;
/// Names kept for the next epoch where one was not taken.
const MAX_AGAINST: usize = 65_536;
/// How long the end waits for what is still queued.
const CLOSE: Duration = Duration::from_secs(5);
/// How long a training waits for what is still queued.
const FLUSH: Duration = Duration::from_secs(60);

/// What one epoch leaves.
#[derive(Debug, Default)]
pub struct Batch {
    /// End of the epoch before, and of this one.
    pub since: TimeUs,
    pub now: TimeUs,
    pub flows: Vec<Observation>,
    pub windows: Vec<SourceWindow>,
    /// Whom something was held against in this epoch.
    pub against: Vec<Prefix>,
    /// Why what was counted in this epoch is not all that there was.
    pub degraded: Option<String>,
}

/// What the files hold right now.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// By time. The file that is open comes last, under the name that it will have.
    pub segments: Vec<Segment>,
    pub lost: u64,
    /// Why nothing can be written, if so.
    pub failing: Option<String>,
}

impl Contents {
    /// Of the time from `since` on: how much is recorded, µs, how many flows and how many source windows.
    pub fn since(&self, since: TimeUs) -> (u64, u64, u64) {
        let later = self.segments.iter().filter(|s| s.end_us > since);
        later.fold((0, 0, 0), |(us, flows, windows), s| {
            (us + (s.end_us - s.begin_us.max(since).min(s.end_us)), flows + s.flows, windows + s.windows)
        })
    }
}

type Told = Box<dyn FnOnce(Result<(), String>) + Send>;

enum Message {
    Batch(Batch),
    Configure(Record),
    /// Gives the open file its name.
    Flush(Told),
    Stop(SyncSender<()>),
}

/// Asks for the open file to be closed, from any thread.
#[derive(Clone)]
pub struct Flusher {
    queue: SyncSender<Message>,
}

impl Flusher {
    /// Waits until everything that was handed over is in files that can be read.
    pub fn flush(&self) -> Result<(), String> {
        let (done, finished) = sync_channel(1);
        let tell: Told = Box::new(move |r| drop(done.send(r)));
        self.queue.try_send(Message::Flush(tell)).map_err(|e| match e {
            TrySendError::Full(_) => BUSY.to_owned(),
            TrySendError::Disconnected(_) => GONE.to_owned(),
        })?;
        match finished.recv_timeout(FLUSH) {
            Ok(done) => done,
            Err(RecvTimeoutError::Timeout) => Err(BUSY.to_owned()),
            Err(RecvTimeoutError::Disconnected) => Err(GONE.to_owned()),
        }
    }
}

const GONE: &str = "the thread that records flows has ended";
const BUSY: &str = "the disk is slow, and the record has much to write; try again in a moment";

/// The sending end. Nothing here waits.
pub struct Archive {
    dir: PathBuf,
    config: Record,
    queue: SyncSender<Message>,
    waiting: Arc<AtomicUsize>,
    contents: Arc<Mutex<Contents>>,
    /// Of batches that were not taken: they are told with the next one that is.
    missed: Missed,
    /// The thread does not know of the configuration yet.
    untold: bool,
    lost: u64,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Missed {
    since: Option<TimeUs>,
    flows: u64,
    against: HashSet<Prefix>,
    /// More than can be kept: what was recorded so far is not vetted.
    too_many: bool,
}

impl Archive {
    /// Starts the thread, which makes the folder and sweeps what a killed agent left half-written.
    pub fn start(state_dir: &Path, config: Record) -> io::Result<Self> {
        let dir = state_dir.join(FOLDER);
        let (queue, messages) = sync_channel(MAX_BATCHES);
        let waiting = Arc::new(AtomicUsize::new(0));
        let contents = Arc::new(Mutex::new(Contents::default()));
        let (to, limits, told, taken) = (dir.clone(), config.clone(), contents.clone(), waiting.clone());
        let run = move || writer::Writer::new(to, limits, told, taken).run(&messages);
        let thread = std::thread::Builder::new().name("weir-record".into()).spawn(run)?;
        let missed = Missed::default();
        Ok(Self { dir, config, queue, waiting, contents, missed, untold: false, lost: 0, thread: Some(thread) })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
    pub fn enabled(&self) -> bool {
        self.config.enabled
    }
    pub fn flusher(&self) -> Flusher {
        Flusher { queue: self.queue.clone() }
    }

    pub fn configure(&mut self, config: &Record) {
        if self.config == *config {
            return;
        }
        self.config = config.clone();
        self.untold = true;
        self.tell_config();
    }

    /// The thread hears of the configuration once there is room in its queue.
    fn tell_config(&mut self) {
        let full = |e| matches!(e, TrySendError::Full(_));
        self.untold = self.queue.try_send(Message::Configure(self.config.clone())).is_err_and(full);
    }

    /// Hands over an epoch. Where there is no room it is lost, and counted.
    pub fn add(&mut self, mut batch: Batch) {
        if self.untold {
            self.tell_config();
        }
        if !self.config.enabled {
            return;
        }
        let flows = batch.flows.len();
        let waiting = self.waiting.load(Ordering::Acquire);
        if waiting > 0 && waiting + flows > MAX_WAITING {
            return self.miss(batch);
        }
        let before = self.missed.join(&mut batch);
        self.waiting.fetch_add(flows, Ordering::AcqRel);
        if let Err(TrySendError::Full(Message::Batch(batch)) | TrySendError::Disconnected(Message::Batch(batch))) =
            self.queue.try_send(Message::Batch(batch))
        {
            self.waiting.fetch_sub(flows, Ordering::AcqRel);
            self.miss(batch);
            self.missed.flows += before.flows;
            self.missed.too_many |= before.too_many;
        }
    }

    fn miss(&mut self, batch: Batch) {
        self.lost += batch.flows.len() as u64;
        let m = &mut self.missed;
        m.since.get_or_insert(batch.since);
        m.flows += batch.flows.len() as u64;
        m.against.extend(batch.against);
        if m.against.len() > MAX_AGAINST {
            m.against.clear();
            m.too_many = true;
        }
    }

    pub fn contents(&self) -> Contents {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Flows that were not recorded: the queue was full, or the disk.
    pub fn lost(&self) -> u64 {
        self.lost + self.contents().lost
    }

    pub fn report(&self) -> RecordReport {
        report(&self.dir, &self.config, &self.contents(), self.lost)
    }

    /// Closes the open file, then gives the report to `tell`, on the thread that writes.
    pub fn flush(&self, tell: impl FnOnce(Result<RecordReport, String>) + Send + 'static) {
        let (dir, config, contents, lost) = (self.dir.clone(), self.config.clone(), self.contents.clone(), self.lost);
        let told: Told = Box::new(move |done| {
            let contents = contents.lock().unwrap_or_else(PoisonError::into_inner).clone();
            tell(done.map(|()| report(&dir, &config, &contents, lost)));
        });
        match self.queue.try_send(Message::Flush(told)) {
            Err(TrySendError::Full(Message::Flush(told))) => {
                told(Err(BUSY.to_owned()));
            }
            Err(TrySendError::Disconnected(Message::Flush(told))) => told(Err(GONE.to_owned())),
            _ => {}
        }
    }

    /// Writes what is queued and closes the file, within [`CLOSE`].
    pub fn close(mut self) {
        let (done, finished) = sync_channel(1);
        let sent = self.queue.try_send(Message::Stop(done)).is_ok();
        if sent && finished.recv_timeout(CLOSE).is_ok() {
            if let Some(thread) = self.thread.take() {
                // A panic there was reported there.
                let _ = thread.join();
            }
        } else {
            log::warn!("the record of flows did not take what was queued within {CLOSE:?}; the rest is lost");
        }
    }
}

fn report(dir: &Path, config: &Record, c: &Contents, lost: u64) -> RecordReport {
    RecordReport {
        enabled: config.enabled,
        dir: dir.display().to_string(),
        files: c.segments.len() as u64,
        bytes: c.segments.iter().map(|s| s.bytes).sum(),
        max_bytes: config.max_size,
        max_age_us: config.max_age.as_micros() as u64,
        oldest_us: c.segments.first().map(|s| s.begin_us),
        newest_us: c.segments.last().map(|s| s.end_us),
        flows: c.segments.iter().map(|s| s.flows).sum(),
        windows: c.segments.iter().map(|s| s.windows).sum(),
        lost: lost + c.lost,
        failing: c.failing.clone().unwrap_or_default(),
    }
}

impl Missed {
    /// What was missed goes with this batch; gives what that was.
    fn join(&mut self, batch: &mut Batch) -> Self {
        let Some(since) = self.since else { return Self::default() };
        let why = match self.too_many {
            true => "more sources had evidence against them than could be noted".to_owned(),
            false => format!("{} flows were not recorded", self.flows),
        };
        batch.since = since;
        batch.degraded = Some(match batch.degraded.take() {
            Some(other) => format!("{why}; {other}"),
            None => why,
        });
        batch.against.extend(self.against.drain());
        std::mem::take(self)
    }
}
