//! Which neighbourhoods any entry touches, as the kernel's bitmaps say it.

use std::collections::BTreeSet;

use foldhash::{HashMap, HashMapExt};
use weir_common::entry::{CELLS_PER_WORD, cell};

use crate::lists::List;
use crate::mapped::Mapped;

/// A bitmap of the kernel, and how many entries mark each cell.
#[derive(Debug)]
pub(crate) struct Neighbourhood {
    map: Mapped<u64>,
    words: Vec<u64>,
    /// Whether the kernel's words are these: see [`Neighbourhood::publish`].
    published: bool,
    /// Entries per cell: block, allow.
    marks: HashMap<u32, [u32; 2]>,
    /// IPv4 prefixes of several cells: block, allow.
    wide: [BTreeSet<(u32, u32)>; 2],
}

const fn bit(list: List) -> u64 {
    match list {
        List::Block => cell::BLOCK,
        List::Allow => cell::ALLOW,
    }
}

impl Neighbourhood {
    pub fn new(map: Mapped<u64>, cells: u32) -> Self {
        let words = vec![0; (cells / CELLS_PER_WORD) as usize];
        Self { map, words, published: false, marks: HashMap::new(), wide: Default::default() }
    }

    fn write(&mut self, at: u32, list: List, set: bool) {
        let (word, shift) = (at / CELLS_PER_WORD, (at % CELLS_PER_WORD) * 2);
        let w = &mut self.words[word as usize];
        let new = if set { *w | (bit(list) << shift) } else { *w & !(bit(list) << shift) };
        if new != *w {
            *w = new;
            if self.published {
                self.map.store(word, new);
            }
        }
    }

    fn covered(&self, at: u32, list: List) -> bool {
        self.marks.get(&at).is_some_and(|m| m[list as usize] > 0)
            || self.wide[list as usize].iter().any(|&(from, to)| from <= at && at <= to)
    }

    pub fn mark(&mut self, at: u32, list: List) {
        self.marks.entry(at).or_default()[list as usize] += 1;
        self.write(at, list, true);
    }

    pub fn unmark(&mut self, at: u32, list: List) {
        if let Some(m) = self.marks.get_mut(&at) {
            m[list as usize] = m[list as usize].saturating_sub(1);
            if *m == [0, 0] {
                self.marks.remove(&at);
            }
        }
        if !self.covered(at, list) {
            self.write(at, list, false);
        }
    }

    pub fn mark_range(&mut self, from: u32, to: u32, list: List) {
        self.wide[list as usize].insert((from, to));
        for at in from..=to {
            self.write(at, list, true);
        }
    }

    pub fn unmark_range(&mut self, from: u32, to: u32, list: List) {
        self.wide[list as usize].remove(&(from, to));
        for at in from..=to {
            if !self.covered(at, list) {
                self.write(at, list, false);
            }
        }
    }

    /// Makes every word of the kernel what it should be, whatever it was, and from now on with every change. Not before what
    /// is there is marked: the programs that run meanwhile go by the old marks.
    pub fn publish(&mut self) {
        for (at, word) in (0..).zip(&self.words) {
            self.map.store(at, *word);
        }
        self.published = true;
    }
}
