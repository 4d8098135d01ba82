//! The evaluator for forests of many small trees: every test of a tree on 64 or 128 rows at once.
//!
//! A tree of 256 samples has some 60 tests, of which a row passes 6 to 8. Following each row costs a chain of loads per step;
//! testing all rows at every node, bottom up, costs one compare and one blend of bytes for 64 of them. For that, thresholds
//! become ranks: a value's rank among the thresholds of its feature says as much about it as the value itself, and fits a byte as
//! long as a group of trees has at most 255 thresholds per feature. Leaves are numbered within their tree, so they fit a byte too.

use super::flat::{Forest, Node};
use super::simd::{Kernel, Portable, Simd};

/// Numbers below are leaves of a tree, the rest of a byte's are results of tests that still wait for their sibling.
const MAX_LEAVES: usize = 240;
/// A column number is a byte.
const MAX_COLUMNS: usize = 256;
/// Thresholds of a feature in one group.
const MAX_THRESHOLDS: usize = 255;

/// One test: `if column > threshold { right } else { left }`, where `left` and `right` are rows of the board (a leaf's number or an
/// earlier result) and `into` is the row of the board that takes the result. Packed, because one load is cheaper than five.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Test(u64);

impl Test {
    fn new(threshold: u8, column: u8, left: u8, right: u8, into: u8) -> Self {
        Self(u64::from_le_bytes([threshold, column, left, right, into, 0, 0, 0]))
    }
    #[inline(always)]
    fn part(self, at: u32) -> u8 {
        (self.0 >> (8 * at)) as u8
    }
}

#[derive(Clone, Debug, PartialEq)]
struct RankedTree {
    tests: std::ops::Range<u32>,
    /// Row of the board that holds the leaves' numbers in the end.
    root: u8,
    /// Start of the tree's leaf values in [`Ranked::values`], and how many lie there: a power of two of at least 16.
    values: u32,
    leaves: u16,
}

/// Trees that share ranks.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    trees: std::ops::Range<usize>,
    columns: Vec<Column>,
}

/// The thresholds of one feature as a search tree in the order of Eytzinger: the root at 1, the children of `i` at `2 i` and `2 i + 1`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub(super) feature: u16,
    /// Levels of the search tree, at most 8.
    pub(super) levels: u32,
    pub(super) search: Vec<f32>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ranked {
    tests: Vec<Test>,
    trees: Vec<RankedTree>,
    groups: Vec<Group>,
    /// Leaf values of one target, padded with zeros; see [`RankedTree::values`].
    values: Vec<f32>,
    /// Largest number of leaves of a tree.
    leaves: usize,
}

impl Ranked {
    /// `None` for forests that this form can't hold: a tree of more than 240 leaves, or more than 256 features.
    pub(super) fn of(forest: &Forest) -> Option<Self> {
        if forest.width > MAX_COLUMNS || forest.targets() != 1 || forest.has_equality {
            return None;
        }
        let mut out = Self { tests: vec![], trees: vec![], groups: vec![], values: vec![], leaves: 0 };
        let mut first = 0;
        while first < forest.trees.len() {
            let (last, thresholds) = group(forest, first)?;
            for tree in first..last {
                out.add_tree(forest, tree, &thresholds)?;
            }
            let columns = thresholds.iter().enumerate().filter(|(_, t)| !t.is_empty());
            let columns = columns.map(|(feature, t)| Column::new(feature as u16, t)).collect();
            out.groups.push(Group { trees: first..last, columns });
            first = last;
        }
        Some(out)
    }

    fn add_tree(&mut self, forest: &Forest, tree: usize, thresholds: &[Vec<f32>]) -> Option<()> {
        let (nodes, leaf_of) = forest.tree(tree);
        // How many results wait at once below each node, if the side that needs more goes first (Sethi and Ullman 1970).
        let mut need = vec![0u8; nodes.len()];
        for (i, left) in nodes.iter().enumerate().rev().filter_map(|(i, n)| Some((i, n.children(i)?))) {
            let (a, b) = (need[left], need[left + 1]);
            need[i] = if a == b { a + 1 } else { a.max(b) };
        }
        let tests = self.tests.len() as u32;
        let values = self.values.len() as u32;
        let mut place = Place { nodes, need, thresholds, tests: &mut self.tests, leaves: vec![] };
        let root = place.place(0, 0)?;
        let leaves = place.leaves;
        self.leaves = self.leaves.max(leaves.len());
        let padded = leaves.len().next_power_of_two().max(16);
        self.values.extend(leaves.iter().map(|i| forest.values[leaf_of[*i] as usize]));
        self.values.resize(values as usize + padded, 0.0);
        self.trees.push(RankedTree { tests: tests..self.tests.len() as u32, root, values, leaves: padded as u16 });
        Some(())
    }

    /// Adds every tree's value to `out`, one per row of `x`, which is row-major with `width` columns and has no NaN.
    pub(super) fn add(&self, simd: Simd, x: &[f32], width: usize, out: &mut [f32]) {
        let wide = out.len() / (2 * LANES) * (2 * LANES);
        let (out, rest) = out.split_at_mut(wide);
        let (x, rest_x) = x.split_at(wide * width);
        for (x, width, out, wide) in [(x, width, out, true), (rest_x, width, rest, false)] {
            if out.is_empty() {
                continue;
            }
            match simd {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: a `Simd` other than `Portable` exists only where the processor has those instructions.
                Simd::Avx512 => unsafe { self.avx512(x, width, out, wide) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Simd::Avx2 => unsafe { self.avx2(x, width, out, wide) },
                _ => self.portable(x, width, out, wide),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi2")]
    fn avx512(&self, x: &[f32], width: usize, out: &mut [f32], wide: bool) {
        use super::simd::Avx512;
        if wide {
            self.blocks::<Avx512, { 2 * LANES }>(x, width, out);
        } else {
            self.blocks::<Avx512, LANES>(x, width, out);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi2")]
    fn avx2(&self, x: &[f32], width: usize, out: &mut [f32], wide: bool) {
        self.portable(x, width, out, wide);
    }

    #[inline(always)]
    fn portable(&self, x: &[f32], width: usize, out: &mut [f32], wide: bool) {
        if wide {
            self.blocks::<Portable, { 2 * LANES }>(x, width, out);
        } else {
            self.blocks::<Portable, LANES>(x, width, out);
        }
    }

    /// The body of all three, compiled for each set of instructions. `L` rows at a time, the last block padded.
    #[inline(always)]
    fn blocks<K: Kernel, const L: usize>(&self, x: &[f32], width: usize, out: &mut [f32]) {
        let mut board = [Aligned([0u8; L]); 256];
        for (i, row) in board.iter_mut().enumerate().take(self.leaves) {
            row.0 = [i as u8; L];
        }
        // Indices of one byte into 256 rows need no check.
        let mut ranks = [Aligned([0u8; L]); MAX_COLUMNS];
        let mut column = [0.0f32; L];
        for (x, out) in x.chunks(L * width).zip(out.chunks_mut(L)) {
            let mut sums = [0.0f32; L];
            sums[..out.len()].copy_from_slice(out);
            for group in &self.groups {
                for c in &group.columns {
                    let feature = usize::from(c.feature);
                    for (v, x) in column.iter_mut().zip(x[feature..].iter().step_by(width)) {
                        *v = *x;
                    }
                    K::rank(c, &column, &mut ranks[feature].0);
                }
                for tree in &self.trees[group.trees.clone()] {
                    for test in &self.tests[tree.tests.start as usize..tree.tests.end as usize] {
                        let threshold = test.part(0);
                        let ranks = &ranks[usize::from(test.part(1))].0;
                        let left = board[usize::from(test.part(2))].0;
                        let right = board[usize::from(test.part(3))].0;
                        let into = &mut board[usize::from(test.part(4))].0;
                        for i in 0..L {
                            let mask = 0u8.wrapping_sub(u8::from(ranks[i] > threshold));
                            into[i] = right[i] & mask | left[i] & !mask;
                        }
                    }
                    let values = &self.values[tree.values as usize..][..usize::from(tree.leaves)];
                    K::add_values(&board[usize::from(tree.root)].0, values, &mut sums);
                }
            }
            out.copy_from_slice(&sums[..out.len()]);
        }
    }
}

/// Rows that go through a test together: one AVX-512 register of bytes. Twice as many where there are as many rows.
const LANES: usize = 64;

/// Vectors that straddle cache lines take twice as long.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Aligned<T>(T);

/// How many trees from `first` on may share ranks, and their thresholds by feature, sorted and distinct.
fn group(forest: &Forest, first: usize) -> Option<(usize, Vec<Vec<f32>>)> {
    let mut thresholds: Vec<Vec<f32>> = vec![vec![]; forest.width];
    for tree in first..forest.trees.len() {
        let (nodes, _) = forest.tree(tree);
        // Two leaves a node fewer.
        if nodes.len() > 2 * MAX_LEAVES {
            return None;
        }
        let before = thresholds.clone();
        for (_, node) in nodes.iter().enumerate().filter(|(i, n)| n.children(*i).is_some()) {
            let list = &mut thresholds[usize::from(node.feature)];
            let at = list.partition_point(|t| *t < node.threshold);
            if list.get(at) != Some(&node.threshold) {
                list.insert(at, node.threshold);
            }
        }
        // A tree alone has fewer than 240.
        if thresholds.iter().any(|t| t.len() > MAX_THRESHOLDS) {
            return Some((tree, before));
        }
    }
    Some((forest.trees.len(), thresholds))
}

impl Column {
    fn new(feature: u16, sorted: &[f32]) -> Self {
        let levels = (sorted.len() + 1).next_power_of_two().ilog2();
        let n = 1usize << levels;
        // Nothing is above infinity, so padding never adds to a rank. A vector at a time may be read.
        let mut search = vec![f32::INFINITY; n.max(16)];
        for level in 0..levels {
            let step = n >> (level + 1);
            for i in 0..1usize << level {
                search[(1 << level) + i] = sorted.get((2 * i + 1) * step - 1).copied().unwrap_or(f32::INFINITY);
            }
        }
        Self { feature, levels, search }
    }
}

/// Puts the tests of one tree in an order in which few results wait.
struct Place<'a> {
    nodes: &'a [Node],
    need: Vec<u8>,
    thresholds: &'a [Vec<f32>],
    tests: &'a mut Vec<Test>,
    /// The nodes that are leaves, by number.
    leaves: Vec<usize>,
}

impl Place<'_> {
    /// Appends the tests below node `i`; `waiting` results are kept meanwhile. Returns the row of the board with the outcome. As deep
    /// as the tree, which building has limited.
    fn place(&mut self, i: usize, waiting: u8) -> Option<u8> {
        let node = self.nodes[i];
        let Some(left) = node.children(i) else {
            self.leaves.push(i);
            return (self.leaves.len() <= MAX_LEAVES).then(|| (self.leaves.len() - 1) as u8);
        };
        let first = if self.need[left] >= self.need[left + 1] { left } else { left + 1 };
        let second = 2 * left + 1 - first;
        let a = self.place(first, waiting)?;
        let b = self.place(second, waiting + u8::from(self.need[first] > 0))?;
        let (left, right) = if first == left { (a, b) } else { (b, a) };
        let thresholds = &self.thresholds[usize::from(node.feature)];
        let rank = thresholds.partition_point(|t| *t < node.threshold) as u8;
        let into = (MAX_LEAVES as u8).checked_add(waiting)?;
        self.tests.push(Test::new(rank, node.feature as u8, left, right, into));
        Some(into)
    }
}
