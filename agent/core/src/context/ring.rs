//! Counts of the last ten seconds, one per second.

/// Seconds that a ring holds.
pub(super) const SPAN: usize = 10;

/// Counts of the [`SPAN`] seconds up to `at`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ring {
    at: u64,
    /// Sum of the counts.
    total: u64,
    counts: [u32; SPAN],
}

const fn place(second: u64) -> usize {
    (second % SPAN as u64) as usize
}

impl Ring {
    /// Makes `now` the last second of the ring. `now` never goes back.
    fn roll(&mut self, now: u64) {
        if now.saturating_sub(self.at) >= SPAN as u64 {
            *self = Self { at: now, ..Self::default() };
        }
        while self.at < now {
            self.at += 1;
            let over = std::mem::take(&mut self.counts[place(self.at)]);
            self.total -= u64::from(over);
        }
    }

    /// One more in `second`, which lies in the ring that ends with `now`.
    pub(super) fn add(&mut self, now: u64, second: u64) {
        self.roll(now);
        let n = &mut self.counts[place(second)];
        if *n < u32::MAX {
            *n += 1;
            self.total += 1;
        }
    }

    /// One less in `second`, if that is not over yet.
    pub(super) fn take_away(&mut self, now: u64, second: u64) {
        self.roll(now);
        if second + SPAN as u64 > now {
            let n = &mut self.counts[place(second)];
            if *n > 0 {
                *n -= 1;
                self.total -= 1;
            }
        }
    }

    /// All of the seconds up to `now` that are not over.
    pub(super) fn sum(&self, now: u64) -> u32 {
        let over = now.saturating_sub(self.at);
        if over >= SPAN as u64 {
            return 0;
        }
        // The oldest counts lie behind the latest, in order.
        let oldest = place(self.at) + 1;
        let gone = (0..over as usize).fold(0, |sum, i| {
            let at = oldest + i;
            sum + u64::from(self.counts[if at >= SPAN { at - SPAN } else { at }])
        });
        u32::try_from(self.total - gone).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_counts_until_ten_have_passed() {
        let mut r = Ring::default();
        for second in 100..125 {
            (0..second).for_each(|_| r.add(second, second));
        }
        assert_eq!(r.sum(124), (115..=124).sum::<u64>() as u32);
        for later in 0..12 {
            assert_eq!(r.sum(124 + later), (115 + later..=124).sum::<u64>() as u32, "{later} s later");
        }
        r.take_away(128, 124);
        r.take_away(128, 118);
        assert_eq!(r.sum(128), (119..=124).sum::<u64>() as u32 - 1);
        r.add(1000, 995);
        assert_eq!((r.sum(1000), r.sum(1004), r.sum(1005)), (1, 1, 0));
    }
}
