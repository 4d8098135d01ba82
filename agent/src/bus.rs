//! Events on their way from the event loop to everyone who watches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use weir_core::event::Event;

/// The last events, each with its number. Publishing never waits for a reader: one that reads too slowly, or comes back too
/// late, is told how many events it missed.
#[derive(Clone, Debug)]
pub struct EventBus {
    ring: Arc<Mutex<Ring>>,
    /// The number of the next event; its senders are the buses.
    news: watch::Sender<u64>,
    missed: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    capacity: usize,
    /// Of the event that comes next.
    next: u64,
}

impl Ring {
    /// The number of the oldest event that is kept.
    fn oldest(&self) -> u64 {
        self.next - self.events.len() as u64
    }

    /// Event `n`, or the number of events from it on that are gone; `None`: it has not happened yet.
    fn get(&self, n: u64) -> Option<Result<Arc<Event>, u64>> {
        let oldest = self.oldest();
        if n < oldest {
            return Some(Err(oldest - n));
        }
        self.events.get((n - oldest) as usize).cloned().map(Ok)
    }
}

#[derive(Clone, Debug)]
pub enum Item {
    /// An event and its number; they count up by one from the first of a run.
    Event(u64, Arc<Event>),
    /// So many events were left out here.
    Missed(u64),
}

pub struct Subscription {
    ring: Arc<Mutex<Ring>>,
    news: watch::Receiver<u64>,
    next: u64,
    missed: Arc<AtomicU64>,
}

impl EventBus {
    /// Room for `capacity` events that the slowest subscriber has not read yet.
    pub fn new(capacity: usize) -> Self {
        let ring = Ring { events: VecDeque::with_capacity(capacity), capacity, next: 1 };
        Self { ring: Arc::new(Mutex::new(ring)), news: watch::Sender::new(1), missed: Arc::default() }
    }

    pub fn publish(&self, event: impl Into<Arc<Event>>) {
        let (next, old) = {
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            let old = if ring.events.len() == ring.capacity { ring.events.pop_front() } else { None };
            ring.events.push_back(event.into());
            ring.next += 1;
            (ring.next, old)
        };
        drop(old);
        self.news.send_replace(next);
    }

    /// Events from now on.
    pub fn subscribe(&self) -> Subscription {
        let next = self.ring.lock().unwrap_or_else(PoisonError::into_inner).next;
        self.subscribe_from(next)
    }

    /// Events from number `n` on; those that are not kept any more come as [`Item::Missed`]. A number that was not given yet
    /// is that of the next event.
    pub fn subscribe_from(&self, n: u64) -> Subscription {
        let next = n.clamp(1, self.ring.lock().unwrap_or_else(PoisonError::into_inner).next);
        Subscription { ring: self.ring.clone(), news: self.news.subscribe(), next, missed: self.missed.clone() }
    }

    pub fn subscribers(&self) -> usize {
        self.news.receiver_count()
    }

    /// Events that subscribers missed, in all.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Subscription {
    /// The number of the last event that was given or missed.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// The next item; `None` when the agent stops.
    pub async fn next(&mut self) -> Option<Item> {
        loop {
            // What is published from here on wakes us below.
            self.news.borrow_and_update();
            let found = self.ring.lock().unwrap_or_else(PoisonError::into_inner).get(self.next);
            match found {
                Some(Ok(event)) => {
                    self.next += 1;
                    return Some(Item::Event(self.next - 1, event));
                }
                Some(Err(gone)) => {
                    self.next += gone;
                    self.missed.fetch_add(gone, Ordering::Relaxed);
                    return Some(Item::Missed(gone));
                }
                None => self.news.changed().await.ok()?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::event::Level;

    fn news(n: u64) -> Event {
        Event::Agent { time_us: n, level: Level::Info, kind: "test", message: String::new() }
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_missed_and_goes_on() {
        let bus = EventBus::new(4);
        bus.publish(news(0));
        let mut sub = bus.subscribe();
        for n in 1..=10 {
            bus.publish(news(n));
        }
        assert!(matches!(sub.next().await, Some(Item::Missed(6))));
        for n in 7..=10 {
            let Some(Item::Event(_, e)) = sub.next().await else { panic!("event {n} is missing") };
            assert_eq!(*e, news(n));
        }
        assert_eq!(bus.missed(), 6);
        drop(bus);
        assert!(sub.next().await.is_none());
    }

    #[tokio::test]
    async fn who_comes_back_gets_what_it_missed_as_far_as_it_is_kept() {
        let bus = EventBus::new(4);
        (1..=3).for_each(|n| bus.publish(news(n)));
        let mut back = bus.subscribe_from(2);
        assert!(matches!(back.next().await, Some(Item::Event(2, e)) if *e == news(2)));
        (4..=9).for_each(|n| bus.publish(news(n)));
        assert!(matches!(back.next().await, Some(Item::Missed(3))), "3 to 5 are gone");
        assert!(matches!(back.next().await, Some(Item::Event(6, _))));
        // A number from nowhere skips nothing that comes.
        let mut wild = bus.subscribe_from(u64::MAX);
        bus.publish(news(10));
        assert!(matches!(wild.next().await, Some(Item::Event(10, _))));
    }
}
