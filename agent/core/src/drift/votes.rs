//! One vote per source.

use std::collections::BTreeMap;

use super::{DriftConfig, MIN_VOTERS};
use crate::addr::Addr;
use crate::record::TimeUs;

/// A vote is drawn from about so many of the latest observations of a source.
const LATEST: u32 = 8;

pub(super) struct Voter<T> {
    pub(super) addr: Addr,
    pub(super) vote: T,
    /// Observations so far, at most [`LATEST`].
    seen: u32,
    first_us: TimeUs,
    pub(super) last_us: TimeUs,
}

/// Sources by a number that only the seed tells; the largest leave.
pub(super) struct Votes<T>(BTreeMap<u64, Voter<T>>);

impl<T> Default for Votes<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// SplitMix64 over both halves of the address.
pub(super) fn mix(addr: Addr, seed: u64) -> u64 {
    let bits = u128::from_be_bytes(addr.0);
    let mut h = seed;
    for half in [(bits >> 64) as u64, bits as u64] {
        h = (h ^ half).wrapping_add(0x9e37_79b9_7f4a_7c15);
        h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        h ^= h >> 31;
    }
    h
}

impl<T: Copy> Votes<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
    /// Who was last seen before that has no vote.
    pub(super) fn forget_before(&mut self, oldest: TimeUs) {
        self.0.retain(|_, v| v.last_us >= oldest);
    }

    pub(super) fn put(&mut self, mixed: u64, addr: Addr, now: TimeUs, roll: u64, max: usize, vote: impl FnOnce() -> T) {
        let full = self.0.len() >= max;
        // Most sources of a large network are not looked at: they should cost little.
        if full && self.0.last_key_value().is_some_and(|(largest, _)| *largest < mixed) {
            return;
        }
        if let Some(v) = self.0.get_mut(&mixed) {
            v.last_us = now;
            v.seen = (v.seen + 1).min(LATEST);
            if roll.is_multiple_of(u64::from(v.seen)) {
                v.vote = vote();
            }
            return;
        }
        if full {
            self.0.pop_last();
        }
        self.0.insert(mixed, Voter { addr, vote: vote(), seen: 1, first_us: now, last_us: now });
    }

    /// Whose votes count, and how many do not.
    pub(super) fn voting(
        &self,
        config: &DriftConfig,
        against: &mut impl FnMut(Addr) -> Option<TimeUs>,
    ) -> (Vec<&Voter<T>>, usize) {
        let (mut voting, mut settled, mut withheld, mut free) = (Vec::new(), Vec::new(), 0, 0);
        for v in self.0.values() {
            let known_us = |until: TimeUs| until.saturating_sub(v.first_us);
            match against(v.addr) {
                None => {
                    free += usize::from(known_us(v.last_us) >= config.settled_us);
                    voting.push(v);
                }
                Some(since) if known_us(since) >= config.settled_us => settled.push(v),
                Some(_) => withheld += 1,
            }
        }
        if settled.len() >= MIN_VOTERS && settled.len() >= free {
            voting.append(&mut settled);
        }
        (voting, withheld + settled.len())
    }
}
