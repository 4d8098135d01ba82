//! The event log. It runs on a thread of its own: a slow or full disk must never hold up enforcement.

pub mod file;
pub mod journald;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_core::event::Event;

use crate::config::EventTarget;
use file::JsonLines;
use journald::Journal;

/// How an event is written.
pub trait Render: Send + Sync {
    /// One JSON object on one line, without its line feed.
    fn json(&self, event: &Event) -> String;
    /// One line for a person.
    fn line(&self, event: &Event) -> String;
}

/// Events that may wait for the disk.
pub const QUEUE: usize = 16_384;
/// Written in one go at most.
const BATCH_BYTES: usize = 256 * 1024;
/// How long [`Sink::close`] waits for what is still queued.
const CLOSE: Duration = Duration::from_secs(2);

enum Message {
    Event(Arc<Event>),
    Reopen,
    Configure { target: EventTarget, flows: bool },
    Stop(SyncSender<()>),
}

/// The sending end. Nothing here waits, and nothing fails: what could not be written is counted.
pub struct Sink {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
    queued: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Starts the thread. A file that cannot be opened is warned about and tried again.
    pub fn start(target: EventTarget, flows: bool, render: Arc<dyn Render>) -> io::Result<Sink> {
        let (queue, messages) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let queued = Arc::new(AtomicU64::new(0));
        let writer =
            Writer { out: Out::new(target), flows, render, lost: lost.clone(), queued: queued.clone(), failing: None };
        let thread = std::thread::Builder::new().name("weir-sink".into()).spawn(move || writer.run(&messages))?;
        Ok(Sink { queue, lost, queued, thread: Some(thread) })
    }

    pub fn write(&self, event: Arc<Event>) {
        // Before it is taken, or the count could fall below nothing.
        self.queued.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(Message::Event(event)) {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew, as log rotation asks with SIGHUP. Waits only while the queue is full.
    pub fn reopen(&self) {
        // A gone thread has nothing to reopen.
        let _ = self.queue.send(Message::Reopen);
    }

    pub fn configure(&self, target: EventTarget, flows: bool) {
        let _ = self.queue.send(Message::Configure { target, flows });
    }

    /// Events that were not written: the queue was full, or the disk.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Events that wait for the thread.
    pub fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Writes what is queued, within [`CLOSE`].
    pub fn close(mut self) {
        let (done, finished) = sync_channel(1);
        let sent = self.queue.try_send(Message::Stop(done)).is_ok();
        if sent && finished.recv_timeout(CLOSE).is_ok() {
            if let Some(thread) = self.thread.take() {
                let _ = thread.join();
            }
        } else {
            log::warn!("the event log did not take what was queued within {CLOSE:?}; the rest is lost");
        }
    }
}

enum Out {
    File(JsonLines),
    Journal(Journal),
    Stderr,
    None,
}

impl Out {
    fn new(target: EventTarget) -> Self {
        match target {
            EventTarget::File(path) => Out::File(JsonLines::new(path)),
            EventTarget::Journald => Out::Journal(Journal::new(Path::new(journald::SOCKET))),
            EventTarget::Stderr => Out::Stderr,
            EventTarget::None => Out::None,
        }
    }
    fn name(&self) -> String {
        match self {
            Out::File(f) => f.path().display().to_string(),
            Out::Journal(_) => "the journal".into(),
            Out::Stderr => "stderr".into(),
            Out::None => "nowhere".into(),
        }
    }
}

struct Writer {
    out: Out,
    flows: bool,
    render: Arc<dyn Render>,
    lost: Arc<AtomicU64>,
    queued: Arc<AtomicU64>,
    /// Since when writing fails: the count of lost events then.
    failing: Option<u64>,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        let mut batch = Vec::new();
        while let Ok(first) = messages.recv() {
            let mut next = Some(first);
            let mut bytes = 0;
            // Gather what is queued, so that many events cost one write.
            while let Some(message) = next.take() {
                match message {
                    Message::Event(event) => {
                        self.queued.fetch_sub(1, Ordering::Relaxed);
                        if self.wants(&event) {
                            let json = self.render.json(&event);
                            bytes += json.len();
                            batch.push((event, json));
                        }
                    }
                    Message::Reopen => {
                        self.flush(&mut batch);
                        if let Out::File(f) = &mut self.out {
                            f.close();
                        }
                    }
                    Message::Configure { target, flows } => {
                        self.flush(&mut batch);
                        self.out = Out::new(target);
                        self.flows = flows;
                    }
                    Message::Stop(done) => {
                        self.flush(&mut batch);
                        let _ = done.send(());
                        return;
                    }
                }
                if bytes < BATCH_BYTES {
                    next = messages.try_recv().ok();
                }
            }
            self.flush(&mut batch);
        }
    }

    fn wants(&self, event: &Event) -> bool {
        !matches!(self.out, Out::None) && (self.flows || !matches!(event, Event::Flow { .. }))
    }

    fn flush(&mut self, batch: &mut Vec<(Arc<Event>, String)>) {
        if batch.is_empty() {
            return;
        }
        let result = match &mut self.out {
            Out::None => Ok(()),
            Out::File(f) => f.write(batch.iter().map(|(_, json)| json.as_str())),
            Out::Stderr => {
                let mut text = String::new();
                for (_, json) in batch.iter() {
                    text.push_str(json);
                    text.push('\n');
                }
                io::stderr().write_all(text.as_bytes()).map_err(|e| (batch.len() as u64, e))
            }
            Out::Journal(j) => {
                let mut failed = None;
                for (event, json) in batch.iter() {
                    if let Err(e) = j.send_event(event, &self.render.line(event), json) {
                        failed = Some((failed.map_or(0, |(n, _)| n) + 1, e));
                    }
                }
                failed.map_or(Ok(()), Err)
            }
        };
        batch.clear();
        match result {
            Ok(()) => {
                if let Some(before) = self.failing.take() {
                    let lost = self.lost.load(Ordering::Relaxed) - before;
                    log::warn!("the event log ({}) is written again; {lost} events are missing in it", self.out.name());
                }
            }
            Err((lost, e)) => {
                let before = self.lost.fetch_add(lost, Ordering::Relaxed);
                if self.failing.is_none() {
                    self.failing = Some(before);
                    log::warn!(
                        "cannot write the event log ({}): {e}; enforcement goes on, events are counted as lost until it \
                         can be written",
                        self.out.name()
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
