//! The thread that ends epochs. It holds the flow maps and nothing else; the event loop gets what it drains.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc;
use weir_core::table::Part;
use weir_kernel::KernelError;
use weir_kernel::flows::{DrainReport, Drained};

use crate::clock;
use crate::fleet::Counts;

/// Epochs that may wait for the event loop. Beyond that the next epoch simply gets longer: nothing is lost.
const WAITING: usize = 2;

/// An emptied buffer on its way back: its memory is already there, and a drain of a million flows need not ask for it page by
/// page.
type Spare = Arc<Mutex<Option<Drained>>>;

/// One epoch's flows.
#[derive(Default)]
pub struct Epoch {
    pub flows: Drained,
    /// Which of them are which interface's.
    pub parts: Vec<Part>,
    /// Interfaces that are gone, and count nothing after this.
    pub gone: Vec<u32>,
    pub report: DrainReport,
    /// Added to the kernel's monotonic times to give wall times, µs.
    pub wall_offset_us: i64,
}

/// Ends the thread when dropped; the epoch under way is still handed over.
pub struct Drainer {
    spare: Spare,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drainer {
    /// Ends an epoch at each multiple of `period` of wall time, so that source windows consist of whole epochs. `drain`
    /// empties the kernel's counts.
    pub fn start(
        mut drain: impl FnMut(&mut Counts) -> Result<DrainReport, KernelError> + Send + 'static,
        period: Duration,
    ) -> std::io::Result<(Drainer, mpsc::Receiver<Result<Epoch, KernelError>>)> {
        let (to_loop, from_here) = mpsc::channel(WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let spare = Spare::default();
        let refill = spare.clone();
        let thread = thread::Builder::new().name("weir-drain".into()).spawn(move || {
            loop {
                wait_for_multiple_of(period, &stopping);
                let last = stopping.load(Ordering::Acquire);
                let flows = refill.lock().ok().and_then(|mut s| s.take()).unwrap_or_default();
                let mut counts = Counts { flows, ..Counts::default() };
                let drained = drain(&mut counts).map(|report| {
                    let Counts { flows, parts, gone } = counts;
                    Epoch { flows, parts, gone, report, wall_offset_us: offset_us() }
                });
                if to_loop.blocking_send(drained).is_err() || last {
                    return;
                }
            }
        })?;
        Ok((Drainer { spare, stop, thread: Some(thread) }, from_here))
    }

    /// Takes back an epoch's buffer, unless it is far larger than what that epoch needed: a burst must not hold memory.
    pub fn recycle(&self, mut flows: Drained) {
        const SLACK: usize = 16;
        let fits = flows.capacity() <= SLACK * flows.len().max(1024);
        flows.clear();
        if let Ok(mut spare) = self.spare.lock()
            && fits
        {
            *spare = Some(flows);
        }
    }

    /// Asks for one last epoch; the channel closes behind it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Drainer {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

/// An epoch where there are no programs: time passes, and the kernel counted nothing.
pub fn nothing(_: &mut Counts) -> Result<DrainReport, KernelError> {
    Ok(DrainReport { end_us: clock::monotonic_ns() / 1000, ..DrainReport::default() })
}

/// Wall clock minus monotonic clock, µs.
pub fn offset_us() -> i64 {
    clock::wall_us() as i64 - (clock::monotonic_ns() / 1000) as i64
}

fn wait_for_multiple_of(period: Duration, stopping: &AtomicBool) {
    let period_us = period.as_micros().max(1) as u64;
    let due = (clock::wall_us() / period_us + 1) * period_us;
    loop {
        let now = clock::wall_us();
        // A clock that was set back must not stop the epochs.
        let left = due.saturating_sub(now).min(period_us);
        if left == 0 || due.saturating_sub(now) > period_us || stopping.load(Ordering::Acquire) {
            return;
        }
        thread::park_timeout(Duration::from_micros(left));
    }
}
