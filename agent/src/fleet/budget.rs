//! How many flows each interface has room for in an epoch: all of them share what one alone would have.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An interface has room for so many, whatever the others take: 3 MiB.
const LEAST: u32 = 4096;
/// Where more interfaces may come than are there at the start, each of those has this part of everything, as long as there is any left.
const LATER: u32 = 16;

/// Flows per epoch that are divided.
#[derive(Clone, Debug, Default)]
pub struct Budget(Arc<Mutex<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    total: u32,
    left: u32,
    first: u32,
    later: u32,
}

impl Budget {
    /// `total` flows for `interfaces` that are there at the start, and where it is `open`, for others that come.
    pub fn new(total: u32, interfaces: usize, open: bool) -> Self {
        let given = if open { total / 2 } else { total };
        let count = u32::try_from(interfaces).unwrap_or(u32::MAX).max(1);
        let least = LEAST.min(total);
        let first = (given / count).max(least);
        let later = if open { (total / LATER).max(least) } else { first };
        Self(Arc::new(Mutex::new(Parts { total, left: total, first, later })))
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The share of one more.
    pub fn take(&self, at_the_start: bool) -> u32 {
        let mut p = self.parts();
        let wanted = if at_the_start { p.first } else { p.later };
        let share = if wanted <= p.left { wanted } else { LEAST.min(p.total) };
        p.left = p.left.saturating_sub(share);
        share
    }

    /// It is gone.
    pub fn give_back(&self, share: u32) {
        let mut p = self.parts();
        p.left = p.left.saturating_add(share).min(p.total);
    }

    pub fn total(&self) -> u32 {
        self.parts().total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_interface_has_everything_and_many_share_it() {
        assert_eq!(Budget::new(128_000, 1, false).take(true), 128_000);
        assert_eq!(Budget::new(1024, 1, false).take(true), 1024);
        let two = Budget::new(128_000, 2, false);
        assert_eq!([two.take(true), two.take(true)], [64_000; 2]);
        // Half is for who comes later, and what it takes comes back.
        let open = Budget::new(128_000, 1, true);
        assert_eq!([open.take(true), open.take(false)], [64_000, 8000]);
        open.give_back(8000);
        // However many there are, the rest is bounded by the least.
        let all: u32 = (0..50).map(|_| open.take(false)).sum();
        assert!(all <= 64_000 + 50 * LEAST && open.take(false) == LEAST, "{all}");
    }
}
