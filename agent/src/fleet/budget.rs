//! How many flows each interface has room for in an epoch: all of them share what one alone would have.

/// An interface has room for so many, whatever the others take: 3 MiB.
const LEAST: u32 = 4096;

/// Flows per epoch that are to be divided.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    total: u32,
    left: u32,
    /// There may be more interfaces than those at the start.
    open: bool,
    first: u32,
}

impl Budget {
    /// `total` flows for `interfaces` that are there at the start, and where it is `open`, for others that come.
    pub fn new(total: u32, interfaces: usize, open: bool) -> Self {
        let given = if open { total / 2 } else { total };
        let first = given / u32::try_from(interfaces).unwrap_or(u32::MAX).max(1);
        Self { total, left: total, open, first: first.max(LEAST.min(total)) }
    }

    /// The share of one more: an equal one of those at the start, and of who comes later a quarter of what is left.
    pub fn take(&mut self, at_the_start: bool) -> u32 {
        let share = match at_the_start || !self.open {
            true => self.first,
            false => self.left / 4,
        };
        let share = share.max(LEAST.min(self.total));
        self.left = self.left.saturating_sub(share);
        share
    }

    /// It is gone.
    pub fn give_back(&mut self, share: u32) {
        self.left = self.left.saturating_add(share).min(self.total);
    }

    pub fn total(&self) -> u32 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_interface_has_everything_and_many_share_it() {
        assert_eq!(Budget::new(128_000, 1, false).take(true), 128_000);
        assert_eq!(Budget::new(1024, 1, false).take(true), 1024);
        let mut two = Budget::new(128_000, 2, false);
        assert_eq!([two.take(true), two.take(true)], [64_000; 2]);
        // Half is for who comes later, and what it takes comes back.
        let mut open = Budget::new(128_000, 1, true);
        assert_eq!([open.take(true), open.take(false)], [64_000, 16_000]);
        open.give_back(16_000);
        assert_eq!(open.take(false), 16_000);
        // However many there are, the rest is bounded by the least.
        let all: u32 = (0..50).map(|_| open.take(false)).sum();
        assert!(all < 48_000 + 50 * LEAST && open.take(false) == LEAST, "{all}");
    }
}
