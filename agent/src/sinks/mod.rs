//! Sinks: other systems that are told of what happens.
//!
//! The event loop hands events to a bounded buffer in memory and goes on. A thread takes them from there, decides for each sink what
//! passes ([`gate`]) and puts that into the sink's queue on disk ([`queue`]). A thread per sink delivers from its queue
//! ([`deliver`], [`outlet`]) and goes forward in it once the receiver has what was sent. So a sink that is dead, slow or
//! lies costs its own queue and nothing else.

mod crc32c;
mod deliver;
mod dispatch;
pub mod gate;
pub mod notice;
pub mod outlet;
pub mod queue;
pub mod settings;
pub mod state;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use weir_core::event::Event;

use crate::sink::Render;
use notice::Kind;
use outlet::Origin;
use settings::SinkConfig;
use state::{Shared, SinkState};

/// Events that may wait for the queues' disk.
const BUFFER: usize = 16_384;
/// How long [`Sinks::close`] lets sinks deliver what is queued; the rest stays on disk.
const CLOSE: Duration = Duration::from_secs(2);

/// What a test of a sink came to: after how long the receiver had it, or why it does not.
pub type TestReply = oneshot::Sender<Result<Duration, String>>;

enum Control {
    Configure(Vec<SinkConfig>),
    Reopen,
    List(oneshot::Sender<Vec<SinkState>>),
    Test { name: String, reply: TestReply },
    Stop(SyncSender<()>),
}

enum Message {
    Event(Arc<Event>),
    Control(Control),
}

/// In the order in which it came: a sink gets what happens from when it is configured.
#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    events: usize,
}

/// Between the event loop and the thread that fills the queues.
#[derive(Default)]
struct Intake {
    waiting: Mutex<Waiting>,
    news: Condvar,
    /// Bits of the kinds that any sink wants.
    wanted: AtomicU32,
    /// Events that found no room, by kind.
    missed: [AtomicU64; Kind::ALL.len()],
}

impl Intake {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missed(&self, kinds: u32) -> u64 {
        let of = |(i, n): (usize, &AtomicU64)| if kinds & 1 << i == 0 { 0 } else { n.load(Ordering::Relaxed) };
        self.missed.iter().enumerate().map(of).sum()
    }
}

/// What sinks there are, for whoever shows or counts them.
#[derive(Clone, Default)]
pub struct States {
    intake: Arc<Intake>,
    all: Arc<Mutex<Vec<Arc<Shared>>>>,
}

impl States {
    /// Every sink as it is now, in the order of the configuration. Waits for nobody.
    pub fn snapshot(&self) -> Vec<SinkState> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.iter().map(|s| s.state(|kinds| self.intake.missed(kinds))).collect()
    }

    fn set(&self, all: Vec<Arc<Shared>>) {
        *self.all.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

/// The event loop's end. Nothing here waits, and nothing fails.
pub struct Sinks {
    intake: Arc<Intake>,
    states: States,
    thread: Option<JoinHandle<()>>,
}

impl Sinks {
    /// Starts the thread, with no sinks. Queues lie below `dir`.
    pub fn start(dir: PathBuf, interface: Option<String>, render: Arc<dyn Render>) -> io::Result<Self> {
        let states = States::default();
        let intake = states.intake.clone();
        let origin = Origin::here(interface);
        let dispatcher = dispatch::Dispatcher::new(dir, intake.clone(), states.clone(), render, origin);
        let thread = std::thread::Builder::new().name("weir-sinks".into()).spawn(move || dispatcher.run())?;
        Ok(Self { intake, states, thread: Some(thread) })
    }

    pub fn write(&self, event: &Arc<Event>) {
        let kind = Kind::of(event);
        if self.intake.wanted.load(Ordering::Relaxed) & kind.bit() == 0 {
            return;
        }
        let mut waiting = self.intake.lock();
        if waiting.events >= BUFFER {
            self.intake.missed[kind as usize].fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.events += 1;
        waiting.messages.push_back(Message::Event(event.clone()));
        drop(waiting);
        self.intake.news.notify_one();
    }

    fn control(&self, control: Control) {
        self.intake.lock().messages.push_back(Message::Control(control));
        self.intake.news.notify_one();
    }

    /// From now on these are the sinks. What waits in the queue of one that is named no more stays on disk.
    pub fn configure(&self, sinks: &[SinkConfig]) {
        let wanted = sinks.iter().flat_map(|s| &s.kinds).fold(0, |all, k| all | k.bit());
        self.intake.wanted.store(wanted, Ordering::Relaxed);
        self.control(Control::Configure(sinks.to_vec()));
    }

    /// Files are opened anew, as log rotation asks with SIGHUP.
    pub fn reopen(&self) {
        self.control(Control::Reopen);
    }

    /// Every sink, once what was asked before has been done.
    pub fn list(&self, reply: oneshot::Sender<Vec<SinkState>>) {
        self.control(Control::List(reply));
    }

    /// Sends a marked event through a sink's queue; the reply comes once the receiver has it, or an attempt has failed.
    pub fn test(&self, name: String, reply: TestReply) {
        self.control(Control::Test { name, reply });
    }

    pub fn states(&self) -> &States {
        &self.states
    }

    /// What an operator should know: sinks that do not deliver.
    pub fn warnings(&self) -> Vec<String> {
        let failing = |s: SinkState| {
            s.failing.then(|| format!("the sink {} does not deliver ({} wait): {}", s.name, s.queued, s.last_error))
        };
        self.states.snapshot().into_iter().filter_map(failing).collect()
    }

    /// Queues everything and delivers for a moment.
    pub fn close(mut self) {
        let (done, finished) = sync_channel(1);
        self.control(Control::Stop(done));
        if finished.recv_timeout(CLOSE + Duration::from_secs(1)).is_ok() {
            if let Some(thread) = self.thread.take() {
                let _ = thread.join();
            }
        } else {
            log::warn!("the sinks' queues could not be written in time; what was not on disk yet is lost");
        }
    }
}

#[cfg(test)]
mod tests;
