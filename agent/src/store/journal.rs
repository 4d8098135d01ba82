//! What happened, on its way to the disk: a bounded queue, and a thread that empties it.
//!
//! The event loop hands over and goes on, whatever the disk does. What finds no room is counted by kind. While the disk fails, what was
//! taken stays in memory, and writing is tried again every second.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::db::{Db, Durability};
use super::retention::{self, Bounds};
use super::rows::Row;
use crate::clock::{boottime_us, wall_us};

/// Rows, and bytes of them, that may wait for the disk.
const MAX_ROWS: usize = 16_384;
const MAX_BYTES: usize = 16 << 20;
/// Questions that may wait for their answers.
const MAX_QUESTIONS: usize = 64;
/// Rows per transaction: the event loop's own writes wait no longer than for these.
const BATCH: usize = 256;
const RETRY: Duration = Duration::from_secs(1);
/// How often what is too old or too much is removed.
const PRUNE: Duration = Duration::from_secs(60);
/// Rows after which it is looked at in any case.
const PRUNE_ROWS: u64 = 5_000;

/// What is asked of the file; `Err`: why it cannot be read.
type Question = Box<dyn FnOnce(Result<&Connection, String>) + Send>;

#[derive(Default)]
struct Queue {
    rows: VecDeque<Row>,
    bytes: usize,
    questions: VecDeque<Question>,
    /// `None`: nobody has said yet how much is kept.
    bounds: Option<Bounds>,
    lost: BTreeMap<&'static str, u64>,
    failing: String,
    closing: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole at every moment, also where a thread that held it ended.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queue's near end. Clones feed the same thread.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}

/// The thread; ends, with what it has written, when dropped.
#[derive(Debug)]
pub struct Writer {
    journal: Journal,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Hands a row over. Never waits.
    pub fn add(&self, row: Row) {
        let size = row.size();
        let mut queue = self.0.lock();
        if queue.rows.len() >= MAX_ROWS || queue.bytes + size > MAX_BYTES || queue.closing {
            *queue.lost.entry(row.lost_as()).or_default() += 1;
            return;
        }
        queue.bytes += size;
        queue.rows.push_back(row);
        drop(queue);
        self.0.wake.notify_one();
    }

    /// Asks the file, once all that was handed over until now is in it, or cannot be. Where too many ask already, the answer is an error.
    pub fn ask(&self, question: impl FnOnce(Result<&Connection, String>) + Send + 'static) {
        let mut queue = self.0.lock();
        if queue.questions.len() >= MAX_QUESTIONS || queue.closing {
            drop(queue);
            return question(Err("too many ask the store already; try again in a moment".to_owned()));
        }
        queue.questions.push_back(Box::new(question));
        drop(queue);
        self.0.wake.notify_one();
    }

    /// Rows that were lost, by kind.
    pub fn lost(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().lost.clone()
    }

    /// Rows that wait for the disk.
    pub fn waiting(&self) -> usize {
        self.0.lock().rows.len()
    }

    /// Why nothing can be written at present; empty: it can.
    pub fn failing(&self) -> String {
        self.0.lock().failing.clone()
    }

    pub fn set_bounds(&self, bounds: Bounds) {
        self.0.lock().bounds = Some(bounds);
        self.0.wake.notify_one();
    }
}

impl Writer {
    pub fn start(path: &Path) -> std::io::Result<Self> {
        let journal = Journal(Arc::new(Shared { queue: Mutex::default(), wake: Condvar::new() }));
        let shared = journal.0.clone();
        let path = path.to_owned();
        let thread = thread::Builder::new().name("weir-store".into()).spawn(move || run(&shared, path))?;
        Ok(Self { journal, thread: Some(thread) })
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.journal.0.lock().closing = true;
        self.journal.0.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, path: PathBuf) {
    let mut db = Db::new(&path, Durability::Normal);
    let mut batch: Vec<Row> = Vec::with_capacity(BATCH);
    let (mut pruned, mut since, mut bounds) = (None::<u64>, 0, None);
    loop {
        let (questions, closing) = {
            let mut queue = shared.lock();
            while batch.is_empty() && queue.rows.is_empty() && queue.questions.is_empty() && !queue.closing {
                let (back, timeout) = shared.wake.wait_timeout(queue, PRUNE).unwrap_or_else(PoisonError::into_inner);
                queue = back;
                if timeout.timed_out() || queue.bounds != bounds {
                    break;
                }
            }
            if batch.is_empty() {
                let n = queue.rows.len().min(BATCH);
                batch.extend(queue.rows.drain(..n));
                queue.bytes -= batch.iter().map(Row::size).sum::<usize>();
            }
            if queue.bounds != bounds {
                (bounds, pruned) = (queue.bounds, None);
            }
            // Who asks wants to read what was handed over before.
            let all_taken = queue.rows.is_empty() || !queue.failing.is_empty();
            let questions = if all_taken { std::mem::take(&mut queue.questions) } else { VecDeque::new() };
            (questions, queue.closing && queue.rows.is_empty())
        };
        let mut outcome = write(&mut db, &batch);
        if outcome.is_ok() {
            since += batch.len() as u64;
            batch.clear();
            if let Some(bounds) = bounds
                && (pruned.is_none_or(|at| boottime_us().saturating_sub(at) >= PRUNE.as_micros() as u64)
                    || since >= PRUNE_ROWS)
            {
                outcome = db.with(|db| retention::prune(db, bounds, wall_us()));
                (pruned, since) = (Some(boottime_us()), 0);
            }
        }
        note(shared, outcome.as_ref().err());
        for question in questions {
            answer(&mut db, question);
        }
        if outcome.is_err() {
            let mut queue = shared.lock();
            if queue.closing {
                for row in batch.drain(..).chain(std::mem::take(&mut queue.rows)) {
                    *queue.lost.entry(row.lost_as()).or_default() += 1;
                }
                let lost: u64 = queue.lost.values().sum();
                log::warn!("{lost} rows of the store are lost: {}", queue.failing);
                return;
            }
            // An operator may want the file system for himself meanwhile.
            db.close();
            let until = Instant::now() + RETRY;
            while !queue.closing
                && queue.questions.is_empty()
                && let Some(left) = until.checked_duration_since(Instant::now())
            {
                (queue, _) = shared.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
            }
        } else if closing {
            return;
        }
    }
}

fn write(db: &mut Db, batch: &[Row]) -> rusqlite::Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    db.with(|db| {
        let change = db.transaction()?;
        for row in batch {
            row.write(&change)?;
        }
        change.commit()
    })
}

/// Tells of the beginning and of the end of a failure.
fn note(shared: &Shared, failed: Option<&rusqlite::Error>) {
    let why = failed.map(ToString::to_string).unwrap_or_default();
    let mut queue = shared.lock();
    if queue.failing == why {
        return;
    }
    match (queue.failing.is_empty(), why.is_empty()) {
        (true, _) => log::warn!("the store cannot be written: {why}; what is blocked stays blocked"),
        (_, true) => log::info!("the store can be written again"),
        _ => {}
    }
    queue.failing = why;
}

fn answer(db: &mut Db, question: Question) {
    let mut question = Some(question);
    let asked = db.with(|db| {
        if let Some(question) = question.take() {
            question(Ok(db));
        }
        Ok(())
    });
    if let (Err(e), Some(question)) = (asked, question) {
        question(Err(format!("the store cannot be read: {e}")));
    }
}
