//! Events on their way from the event loop to everyone who watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast;
use weir_core::event::Event;

/// Publishing never waits: a subscriber that reads too slowly is told how many events it missed.
#[derive(Clone, Debug)]
pub struct EventBus {
    sender: broadcast::Sender<Arc<Event>>,
    missed: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
pub enum Item {
    Event(Arc<Event>),
    /// So many events were left out here.
    Missed(u64),
}

pub struct Subscription {
    receiver: broadcast::Receiver<Arc<Event>>,
    missed: Arc<AtomicU64>,
}

impl EventBus {
    /// Room for `capacity` events that the slowest subscriber has not read yet.
    pub fn new(capacity: usize) -> Self {
        Self { sender: broadcast::channel(capacity).0, missed: Arc::default() }
    }

    pub fn publish(&self, event: impl Into<Arc<Event>>) {
        // No subscriber is no error.
        let _ = self.sender.send(event.into());
    }

    /// Events from now on.
    pub fn subscribe(&self) -> Subscription {
        Subscription { receiver: self.sender.subscribe(), missed: self.missed.clone() }
    }

    pub fn subscribers(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Events that subscribers missed, in all.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Subscription {
    /// The next item; `None` when the agent stops.
    pub async fn next(&mut self) -> Option<Item> {
        match self.receiver.recv().await {
            Ok(event) => Some(Item::Event(event)),
            Err(broadcast::error::RecvError::Lagged(n)) => {
                self.missed.fetch_add(n, Ordering::Relaxed);
                Some(Item::Missed(n))
            }
            Err(broadcast::error::RecvError::Closed) => None,
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
            let Some(Item::Event(e)) = sub.next().await else { panic!("event {n} is missing") };
            assert_eq!(*e, news(n));
        }
        assert_eq!(bus.missed(), 6);
        drop(bus);
        assert!(sub.next().await.is_none());
    }
}
