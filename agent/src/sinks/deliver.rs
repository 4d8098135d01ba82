//! The thread of one sink: takes from its queue, attempts, and goes forward or waits.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use super::notice::Notice;
use super::outlet::{Failed, Numbered, Origin, Outlet, Then};
use super::queue::Queue;
use super::settings::SinkConfig;
use super::state::{Dropped, Shared};

/// Bytes of a batch, about.
const BATCH_BYTES: usize = 1 << 20;
/// No attempt takes longer, whatever the receiver does.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(900);
/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How often an outlet with nothing to do is looked after.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default)]
struct Orders {
    stop: bool,
    reopened: u64,
    poked: u64,
}

/// Dropped: it stops, and what it has not delivered stays in the queue.
pub struct Delivery {
    orders: watch::Sender<Orders>,
    /// Joined by whoever delivers from the same queue next.
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Delivery {
    /// Begins to deliver, once `before` has ended.
    pub fn start(
        config: &SinkConfig,
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        origin: &Origin,
        before: Option<Delivery>,
    ) -> Option<Self> {
        let (orders, receiver) = watch::channel(Orders::default());
        let (config, origin) = (config.clone(), origin.clone());
        let told = shared.clone();
        let body = move || {
            if let Some(mut before) = before {
                before.stop();
                if let Some(thread) = before.thread.take() {
                    // One that panicked delivers no more either.
                    let _ = thread.join();
                }
            }
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let worker = Worker {
                        outlet: Outlet::new(&config, &origin),
                        origin,
                        queue,
                        orders: receiver,
                        config,
                        shared,
                    };
                    runtime.block_on(worker.run());
                    // A name that is being looked up must not hold up the end.
                    runtime.shutdown_background();
                }
                Err(e) => shared.failed(&format!("it cannot be run: {e}"), Some(IDLE)),
            }
        };
        match std::thread::Builder::new().name("weir-sink-out".into()).spawn(body) {
            Ok(thread) => Some(Self { orders, thread: Some(thread) }),
            Err(e) => {
                told.failed(&format!("its thread cannot be started: {e}"), Some(IDLE));
                None
            }
        }
    }

    /// What it has not delivered stays in the queue.
    pub fn stop(&self) {
        self.orders.send_modify(|o| o.stop = true);
    }

    pub fn is_stopped(&self) -> bool {
        self.orders.borrow().stop
    }

    pub fn reopen(&self) {
        self.orders.send_modify(|o| o.reopened += 1);
    }

    /// Tries now what would be tried later.
    pub fn poke(&self) {
        self.orders.send_modify(|o| o.poked += 1);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Worker {
    config: SinkConfig,
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    outlet: Outlet,
    origin: Origin,
    orders: watch::Receiver<Orders>,
}

/// What ended a wait.
enum Woken {
    Time,
    Poked,
    Stop,
}

impl Worker {
    async fn run(mut self) {
        let mut failures = 0u32;
        let mut reopened = 0;
        loop {
            let orders = self.orders.borrow_and_update().clone();
            if orders.stop {
                return;
            }
            if orders.reopened != reopened {
                reopened = orders.reopened;
                self.outlet.reopen();
            }
            let batch = match self.next() {
                Ok(batch) => batch,
                Err(e) => {
                    self.shared.failed(&format!("its queue cannot be read: {e}"), Some(IDLE));
                    tokio::time::sleep(IDLE).await;
                    continue;
                }
            };
            let (Some(first), Some(last)) = (batch.first().map(|n| n.number), batch.last().map(|n| n.number)) else {
                self.outlet.idle();
                tokio::select! {
                    () = self.shared.wake.notified() => {}
                    () = tokio::time::sleep(IDLE) => {}
                    _ = self.orders.changed() => {}
                }
                continue;
            };
            let attempt = tokio::time::timeout(LONGEST_ATTEMPT, self.outlet.deliver(&batch, &self.origin));
            let result = tokio::select! {
                biased;
                result = attempt => result,
                () = stopped(&mut self.orders) => return,
            };
            let result = result.unwrap_or_else(|_| Err(Failed::retry(0, format!("no end within {LONGEST_ATTEMPT:?}"))));
            match result {
                Ok(()) => {
                    failures = 0;
                    self.forward(last + 1, None);
                    self.shared.succeeded();
                }
                Err(failed) => {
                    let done = batch.get(failed.done).map_or(first, |n| n.number);
                    self.forward(done, None);
                    if failed.done > 0 {
                        failures = 0;
                    }
                    if !self.after(&failed, done, &mut failures).await {
                        return;
                    }
                }
            }
        }
    }

    /// What comes next, as far as it can be read.
    fn next(&self) -> std::io::Result<Vec<Numbered>> {
        loop {
            let (records, unreadable) = self.queue.peek(self.outlet.batch(), BATCH_BYTES)?;
            self.shared.dropped(Dropped::Damaged, unreadable);
            let mut batch = Vec::with_capacity(records.len());
            let mut foreign = None;
            for record in records {
                match Notice::decode(&record.body) {
                    Some(notice) => batch.push(Numbered { number: record.number, notice }),
                    None => {
                        foreign = Some(record.number);
                        break;
                    }
                }
            }
            match foreign {
                // Another version has written it.
                Some(number) if batch.is_empty() => self.forward(number + 1, Some(Dropped::Damaged)),
                _ => return Ok(batch),
            }
        }
    }

    /// Goes forward in the queue; `why`: what is passed over is dropped.
    fn forward(&self, to: u64, why: Option<Dropped>) {
        match self.queue.advance(to) {
            Ok(gone) => match why {
                Some(why) => self.shared.dropped(why, gone),
                None => {
                    self.shared.delivered(gone);
                    self.shared.answer_tests(to);
                }
            },
            // It goes on from there in memory; only a restart delivers again.
            Err(e) => log::warn!("the queue of the sink {} cannot note what is delivered: {e}", self.shared.name),
        }
    }

    /// What is done after a failure. `false`: stop.
    async fn after(&mut self, failed: &Failed, number: u64, failures: &mut u32) -> bool {
        let backed_off = pause(*failures, self.config.retry_max);
        let (wait, bidden) = match failed.then {
            Then::GiveUp => {
                self.shared.failed(&failed.why, None);
                self.shared.refuse_test(number, &failed.why);
                self.forward(number + 1, Some(Dropped::Refused));
                return true;
            }
            Then::Retry => (backed_off, false),
            Then::RetryAfter(bidden) => (bidden.max(backed_off), true),
        };
        *failures = failures.saturating_add(1);
        self.shared.failed(&failed.why, Some(wait));
        self.shared.fail_tests(&format!("{}; it waits in the queue and is tried again", failed.why));
        let until = tokio::time::Instant::now() + wait;
        loop {
            let woken = tokio::select! {
                () = tokio::time::sleep_until(until) => Woken::Time,
                changed = self.orders.changed() => match changed {
                    Ok(()) if !self.orders.borrow().stop => Woken::Poked,
                    _ => Woken::Stop,
                },
            };
            match woken {
                Woken::Time => return true,
                Woken::Stop => return false,
                // What the receiver has asked for holds.
                Woken::Poked if bidden => {
                    self.shared.fail_tests(&format!("{}; it has asked to be left alone for {wait:?}", failed.why));
                }
                Woken::Poked => return true,
            }
        }
    }
}

async fn stopped(orders: &mut watch::Receiver<Orders>) {
    // A sender that is gone means stop as well.
    let _ = orders.wait_for(|o| o.stop).await;
}

/// Between half and all of a pause that doubles: many agents that lost the same receiver do not come back at once.
fn pause(failures: u32, most: Duration) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failures.min(20)).min(most);
    longest.mul_f64(SmallRng::from_os_rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_differ() {
        let most = Duration::from_secs(60);
        for (failures, longest) in [(0, 500), (1, 1000), (4, 8000), (9, 60_000), (u32::MAX, 60_000)] {
            let all: Vec<Duration> = (0..100).map(|_| pause(failures, most)).collect();
            let longest = Duration::from_millis(longest);
            assert!(all.iter().all(|p| *p >= longest / 2 && *p <= longest), "{failures}: {all:?}");
            assert!(all.windows(2).any(|w| w[0] != w[1]));
        }
    }
}
