//! Numbers that need not be secret: xorshift64*, seeded by the kernel.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

/// The standard library seeds its hash maps from the kernel's random numbers.
pub fn seed() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}

pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self(seed())
    }

    pub fn from_seed(seed: u64) -> Self {
        // Neighbouring seeds must not start alike.
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// In 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// From `low` to `high`, both possible.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub fn real(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    /// Waiting times between independent events.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Heavy-tailed: mostly near `low`, now and then far above.
    pub fn pareto(&mut self, low: f64, shape: f64, high: f64) -> f64 {
        (low / (1.0 - self.unit()).powf(1.0 / shape)).min(high)
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.between(0, i as u64) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_in_their_ranges_and_differ() {
        let mut random = Random::from_seed(7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..2000 {
            assert!((0.0..1.0).contains(&random.unit()));
            let n = random.between(3, 6);
            assert!((3..=6).contains(&n));
            seen.insert(n);
            let p = random.pareto(500.0, 1.2, 200_000.0);
            assert!((500.0..=200_000.0).contains(&p));
            assert!(random.exponential(2.0) >= 0.0);
        }
        assert_eq!(seen.len(), 4);
        assert_ne!(Random::from_seed(1).next(), Random::from_seed(2).next());
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u16> = (1..=1000).collect();
        Random::from_seed(3).shuffle(&mut items);
        assert!(items.windows(2).any(|w| w[0] > w[1]));
        items.sort_unstable();
        assert!(items.into_iter().eq(1..=1000));
    }
}
