use super::*;
use crate::hash::{Seed, hash};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::collections::{HashMap, HashSet};

/// Miri runs everything, a thousand times slower.
const MIRI: bool = cfg!(miri);

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn seed(&mut self) -> Seed {
        core::array::from_fn(|_| self.next())
    }
}

/// Index and records in ordinary memory.
struct Table {
    lines: Vec<[AtomicU32; SLOTS as usize]>,
    mask: u32,
    keys: Vec<[AtomicU64; 3]>,
    counts: Vec<AtomicU64>,
    used: AtomicU32,
    seed: Seed,
}

// SAFETY: every slot is an atomic of the vector.
unsafe impl Index for Table {
    fn lines(&self) -> u32 {
        self.lines.len() as u32
    }
    fn mask(&self) -> u32 {
        self.mask
    }
    fn line(&self, line: u32) -> Option<*mut u32> {
        self.lines.get(line as usize).map(|l| l.as_ptr().cast::<u32>().cast_mut())
    }
    unsafe fn load(slot: *const u32) -> u32 {
        // SAFETY: the trait's contract.
        unsafe { AtomicU32::from_ptr(slot.cast_mut()) }.load(Ordering::Acquire)
    }
    unsafe fn swap(slot: *mut u32, old: u32, new: u32) -> u32 {
        // SAFETY: the trait's contract.
        let slot = unsafe { AtomicU32::from_ptr(slot) };
        slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).unwrap_or_else(|held| held)
    }
}

// SAFETY: as above, in release order.
unsafe impl Owned for Table {
    unsafe fn store(slot: *mut u32, value: u32) {
        // SAFETY: the trait's contract.
        unsafe { AtomicU32::from_ptr(slot) }.store(value, Ordering::Release);
    }
}

impl Table {
    fn new(capacity: u32, lines: u32, seed: Seed) -> Self {
        Self {
            lines: (0..lines).map(|_| Default::default()).collect(),
            mask: mask_for(capacity),
            keys: (0..capacity).map(|_| Default::default()).collect(),
            counts: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
            used: AtomicU32::new(0),
            seed,
        }
    }

    fn hash(&self, key: &[u64; 3]) -> u64 {
        hash(&self.seed, key)
    }

    fn is(&self, record: u32, key: &[u64; 3]) -> bool {
        self.keys
            .get(record as usize)
            .is_some_and(|held| held.iter().zip(key).all(|(a, b)| a.load(Ordering::Relaxed) == *b))
    }

    fn find(&self, key: &[u64; 3]) -> Option<u32> {
        find(self, self.hash(key), |r| self.is(r, key).then_some(r))
    }

    /// What a glance says must be what a search would find.
    fn check_glance(&self, key: &[u64; 3]) {
        let held = glance(self, self.hash(key));
        match record(held, self.mask) {
            n if self.is(n, key) => assert_eq!(self.find(key), Some(n)),
            _ if held == 0 => assert_eq!(self.find(key), None),
            _ => {}
        }
    }

    fn find_or_insert(&self, key: &[u64; 3]) -> u32 {
        let make = || {
            let taken = self.used.fetch_add(1, Ordering::Relaxed);
            if taken as usize >= self.keys.len() {
                return NONE;
            }
            for (cell, word) in self.keys[taken as usize].iter().zip(key) {
                cell.store(*word, Ordering::Relaxed);
            }
            taken
        };
        find_or_insert(self, self.hash(key), |r| self.is(r, key), make)
    }

    fn slots(&self) -> impl Iterator<Item = u32> {
        self.lines.iter().flatten().map(|s| s.load(Ordering::Acquire))
    }
}

fn key(n: u64) -> [u64; 3] {
    [n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n, 6]
}

#[test]
fn many_threads_insert_the_same_and_other_keys_and_no_count_is_lost() {
    const THREADS: u64 = 4;
    const KEYS: u64 = if MIRI { 40 } else { 400 };
    const TIMES: u64 = if MIRI { 3 } else { 30 };
    let mut random = Random(1);
    for round in 0..if MIRI { 2 } else { 40 } {
        // A tight index, so that keys meet in every line; records for the losers of races as well.
        let table = Table::new((THREADS * KEYS) as u32, lines_for(KEYS as u32 * 3 / 2), random.seed());
        let barrier = std::sync::Barrier::new(THREADS as usize);
        std::thread::scope(|s| {
            for t in 0..THREADS {
                let (table, barrier) = (&table, &barrier);
                s.spawn(move || {
                    barrier.wait();
                    for time in 0..TIMES {
                        for i in 0..KEYS {
                            // Half the threads go the other way round.
                            let i = if t % 2 == 0 { i } else { KEYS - 1 - i };
                            let k = key((i + time) % KEYS);
                            let found = table.find(&k).unwrap_or_else(|| table.find_or_insert(&k));
                            assert_ne!(found, NONE, "round {round}: no room for a key in a table that is not full");
                            table.counts[found as usize].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let mut counts = HashMap::new();
        for (record, count) in table.counts.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                let k = table.keys[record].each_ref().map(|w| w.load(Ordering::Relaxed));
                assert!(counts.insert(k, count).is_none(), "round {round}: a key with two records");
            }
        }
        assert_eq!(counts.len() as u64, KEYS);
        assert!(counts.values().all(|c| *c == THREADS * TIMES), "round {round}: {counts:?}");
    }
}

#[test]
fn a_full_table_finds_room_for_every_key() {
    let mut random = Random(2);
    let sizes = [(1, 50), (4, 50), (100, 300), (5_000, 40), (60_000, 8), (200_000, 2)];
    for (records, rounds) in if MIRI { &[(1, 2), (100, 1)][..] } else { &sizes } {
        let (records, rounds) = (*records, *rounds);
        for _ in 0..rounds {
            let table = Table::new(records, lines_for(records), random.seed());
            for n in 0..u64::from(records) {
                assert_ne!(table.find_or_insert(&key(n)), NONE, "key {n} of {records}");
            }
            assert_eq!(table.find_or_insert(&key(u64::MAX)), NONE, "no record is left");
            let mut glances = 0;
            for n in 0..u64::from(records) {
                assert_eq!(table.find(&key(n)), Some(n as u32));
                table.check_glance(&key(n));
                table.check_glance(&key(n + u64::from(records)));
                glances += u32::from(record(glance(&table, table.hash(&key(n))), table.mask) == n as u32);
            }
            assert!(glances >= records * 95 / 100, "a glance told of {glances} of {records}");
        }
    }
}

#[test]
fn keys_that_fill_their_lines_are_refused_and_hide_nobody() {
    // One table of as few lines as there are: all keys share them.
    let table = Table::new(1000, LINES, Random(3).seed());
    let room = u64::from(LINES * SLOTS);
    for n in 0..room {
        assert_ne!(table.find_or_insert(&key(n)), NONE);
    }
    assert_eq!(table.find_or_insert(&key(room)), NONE);
    assert!((0..room).all(|n| table.find(&key(n)).is_some()));
    assert_eq!(table.find(&key(room)), None);
    assert!(!put(&table, table.hash(&key(room)), 999));
}

#[test]
fn what_is_put_and_taken_out_in_any_order_is_found_as_a_set_would_have_it() {
    let mut random = Random(4);
    for round in 0..if MIRI { 2 } else { 60 } {
        let records = 24 + round * 4;
        let table = Table::new(records, lines_for(records), random.seed());
        for n in 0..records {
            for (cell, word) in table.keys[n as usize].iter().zip(key(u64::from(n))) {
                cell.store(word, Ordering::Relaxed);
            }
        }
        let mut there = HashSet::new();
        for _ in 0..if MIRI { 200 } else { 20_000 } {
            let n = (random.next() % u64::from(records)) as u32;
            let h = table.hash(&key(u64::from(n)));
            if there.remove(&n) {
                assert!(is_put(&table, h, n) && take_out(&table, h, n));
                assert!(!is_put(&table, h, n) && !take_out(&table, h, n));
                assert_eq!(table.find(&key(u64::from(n))), None);
            } else {
                assert_eq!(table.find(&key(u64::from(n))), None);
                // Tombstones may fill lines; whoever owns the index then writes it anew.
                if put(&table, h, n) {
                    there.insert(n);
                    assert_eq!(table.find(&key(u64::from(n))), Some(n));
                }
            }
        }
        for n in 0..records {
            assert_eq!(table.find(&key(u64::from(n))).is_some(), there.contains(&n));
            table.check_glance(&key(u64::from(n)));
        }
        for n in there {
            assert!(take_out(&table, table.hash(&key(u64::from(n))), n));
        }
        assert!(table.slots().all(|s| s == 0 || s == TOMBSTONE));
    }
}

#[test]
fn a_reader_finds_what_stays_whatever_is_put_and_taken_out_around_it() {
    const STAY: u64 = 50;
    const COME: u64 = 70;
    let table = Table::new((STAY + COME) as u32, lines_for((STAY + COME) as u32), Random(5).seed());
    for n in 0..STAY + COME {
        for (cell, word) in table.keys[n as usize].iter().zip(key(n)) {
            cell.store(word, Ordering::Relaxed);
        }
    }
    let stop = AtomicU32::new(0);
    std::thread::scope(|s| {
        // Some come before what stays, so that it lies behind them.
        for n in (STAY..STAY + COME).step_by(2).chain(0..STAY) {
            assert!(put(&table, table.hash(&key(n)), n as u32));
        }
        for _ in 0..2 {
            s.spawn(|| {
                let mut looked = 0u64;
                while stop.load(Ordering::Relaxed) == 0 {
                    for n in 0..STAY {
                        assert_eq!(table.find(&key(n)), Some(n as u32), "after {looked} searches");
                        looked += 1;
                    }
                }
            });
        }
        let mut random = Random(6);
        for _ in 0..if MIRI { 50 } else { 300_000 } {
            let n = STAY + random.next() % COME;
            let h = table.hash(&key(n));
            if !take_out(&table, h, n as u32) {
                put(&table, h, n as u32);
            }
        }
        stop.store(1, Ordering::Relaxed);
    });
}

#[test]
#[cfg_attr(miri, ignore = "counts, and no unsafe code; too long for Miri")]
fn keys_in_a_row_spread_as_random_ones_do() {
    // Sums of squares of the lines' numbers of keys, for keys that count up in either word.
    const KEYS: u64 = 1 << 16;
    let lines = lines_for(KEYS as u32);
    let mean = KEYS as f64 / f64::from(lines);
    for shift in [0u32, 8, 16, 32, 40, 48] {
        let mut worst = 0f64;
        for round in 0..5 {
            let seed = Random(100 + round).seed();
            let mut held = vec![0u32; lines as usize];
            for n in 0..KEYS {
                held[start(hash(&seed, &[n << shift, 1, 2]), lines).line as usize] += 1;
            }
            let variance = held.iter().map(|h| (f64::from(*h) - mean).powi(2)).sum::<f64>() / f64::from(lines);
            worst = worst.max(variance / mean);
        }
        // 1 for a random choice; 0 for an even spread.
        assert!(worst < 3.0, "variance over mean {worst:.2} where keys count up from bit {shift}");
    }
}
