//! A validated ensemble in its flat form: eight bytes a node, and the walks through it.

use super::ranked::Ranked;
use super::simd::Simd;
use super::{Aggregate, TreeError};

/// A node of the flat form. At a leaf the threshold is infinite and `left` the node itself, so that walking on stays there.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub(super) struct Node {
    /// To `left` if `x <= threshold`, else to `left + 1`.
    pub(super) threshold: f32,
    pub(super) feature: u16,
    /// Index within the tree.
    pub(super) left: u16,
}

impl Node {
    /// The left child of node number `i` of a tree; `None` at a leaf.
    pub(super) fn children(&self, i: usize) -> Option<usize> {
        Some(usize::from(self.left)).filter(|left| *left != i)
    }
}

/// Flag of a node: to `left` if `x == threshold`, else to `left + 1`.
pub(super) const EQUALITY: u8 = 1;
/// Flag of a node: NaN goes to `left`; else to `left + 1`.
pub(super) const NAN_LEFT: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tree {
    pub(super) start: u32,
    pub(super) nodes: u32,
    pub(super) depth: u32,
}

/// A validated tree ensemble.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    pub(super) nodes: Vec<Node>,
    /// By node.
    pub(super) flags: Vec<u8>,
    /// By node: the leaf's row of `values`; 0 elsewhere.
    pub(super) leaf_of: Vec<u32>,
    /// Row-major `[leaves, targets]`. With `Min` and `Max`, NaN where a leaf says nothing about a target; else 0.
    pub(super) values: Vec<f32>,
    pub(super) trees: Vec<Tree>,
    pub(super) width: usize,
    pub(super) has_equality: bool,
    aggregate: Aggregate,
    /// One per target.
    base_values: Vec<f32>,
    ranked: Option<Ranked>,
}

/// One split on the way of a row through a tree; see [`Forest::walk`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub feature: usize,
    /// The node split, and the child that the row went to; indices into [`Forest::node_means`].
    pub from: usize,
    pub to: usize,
}

/// Rows that are walked through a tree in step.
const LANES: usize = 16;
/// Rows that stay in the nearest cache while all trees pass over them.
const BLOCK: usize = 64;
/// Fewer rows than this are walked one by one.
const FEW_ROWS: usize = 5;
/// From this many rows on, testing all of them at every node takes less time than following each.
const RANKED_ROWS: usize = 32;

impl Forest {
    pub(super) fn empty(aggregate: Aggregate, base_values: Vec<f32>) -> Self {
        Self {
            nodes: vec![],
            flags: vec![],
            leaf_of: vec![],
            values: vec![],
            trees: vec![],
            width: 0,
            has_equality: false,
            aggregate,
            base_values,
            ranked: None,
        }
    }

    /// To be called when all trees are there.
    pub(super) fn finish(mut self) -> Self {
        if matches!(self.aggregate, Aggregate::Sum | Aggregate::Average) {
            self.ranked = Ranked::of(&self);
        }
        self
    }

    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    /// Values per row.
    pub fn targets(&self) -> usize {
        self.base_values.len()
    }

    /// Largest feature index that is read, plus one.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether the fastest evaluator can take it: one target, sums or means, at most 240 leaves a tree and 256 features.
    pub fn is_ranked(&self) -> bool {
        self.ranked.is_some()
    }

    /// A tree's nodes, and their entries of `leaf_of`.
    pub(super) fn tree(&self, tree: usize) -> (&[Node], &[u32]) {
        let tree = self.trees[tree];
        let range = tree.start as usize..(tree.start + tree.nodes) as usize;
        (&self.nodes[range.clone()], &self.leaf_of[range])
    }

    /// The ensemble's values for each row of `x`, row-major `[rows, width]`: `[rows, targets]`. NaN is a missing value. A row's
    /// values do not depend on the rows beside it.
    pub fn predict(&self, x: &[f32], width: usize) -> Result<Vec<f32>, TreeError> {
        self.predict_with(Simd::best(), x, width)
    }

    /// Like [`Forest::predict`], with the instructions of choice; the result is the same.
    pub fn predict_with(&self, simd: Simd, x: &[f32], width: usize) -> Result<Vec<f32>, TreeError> {
        if width < self.width {
            return Err(TreeError::Width { got: width, feature: self.width - 1 });
        }
        if width == 0 || !x.len().is_multiple_of(width) {
            // Trees without a split read nothing, yet the number of rows must be known.
            return Err(TreeError::Shape { got: x.len(), width });
        }
        let rows = x.len() / width;
        let targets = self.targets();
        let mut out = vec![0.0f32; rows * targets];
        // Only single values that are added up, without surprises, are looked at by many rows at once.
        let plain = targets == 1 && matches!(self.aggregate, Aggregate::Sum | Aggregate::Average) && !self.has_equality;
        let careful = |x: &[f32], out: &mut [f32], which: fn(&[f32]) -> bool| {
            for (x, out) in x.chunks(width).zip(out.chunks_mut(targets)).filter(|(x, _)| which(x)) {
                out.fill(0.0);
                self.row(x, out);
            }
        };
        if !plain || rows < FEW_ROWS {
            careful(x, &mut out, |_| true);
        } else {
            match &self.ranked {
                Some(ranked) if rows >= RANKED_ROWS => ranked.add(simd, x, width, &mut out),
                _ => self.in_step(x, width, &mut out),
            }
            if x.iter().fold(false, |nan, v| nan | v.is_nan()) {
                careful(x, &mut out, |x| x.iter().any(|v| v.is_nan()));
            }
        }
        let scale = match self.aggregate {
            Aggregate::Average => 1.0 / self.trees.len() as f32,
            _ => 1.0,
        };
        for out in out.chunks_mut(targets) {
            for (v, base) in out.iter_mut().zip(&self.base_values) {
                *v = *v * scale + base;
            }
        }
        Ok(out)
    }

    /// One row through all trees, whatever they are; `out` has one entry per target.
    fn row(&self, row: &[f32], out: &mut [f32]) {
        let targets = out.len();
        match self.aggregate {
            Aggregate::Sum | Aggregate::Average => {
                for tree in &self.trees {
                    let leaf = self.leaf_of[self.leaf(*tree, row, |_| ())] as usize;
                    for (out, v) in out.iter_mut().zip(&self.values[leaf * targets..]) {
                        *out += v;
                    }
                }
            }
            Aggregate::Min | Aggregate::Max => {
                let better = |new: f32, old: f32| if self.aggregate == Aggregate::Min { new < old } else { new > old };
                out.fill(f32::NAN);
                for tree in &self.trees {
                    let leaf = self.leaf_of[self.leaf(*tree, row, |_| ())] as usize;
                    for (out, v) in out.iter_mut().zip(&self.values[leaf * targets..]) {
                        if out.is_nan() || better(*v, *out) {
                            *out = *v;
                        }
                    }
                }
                // A target that no tree spoke of.
                out.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = 0.0);
            }
        }
    }

    /// The leaf that a row comes to, as an index into `nodes`; `step` sees the way there.
    fn leaf(&self, tree: Tree, row: &[f32], mut step: impl FnMut(Step)) -> usize {
        let start = tree.start as usize;
        let mut at = 0;
        // A path is no longer than its tree is deep.
        while let Some(left) = self.nodes[start + at].children(at) {
            let node = self.nodes[start + at];
            let flags = self.flags[start + at];
            let v = row[usize::from(node.feature)];
            let right = if v.is_nan() {
                flags & NAN_LEFT == 0
            } else if flags & EQUALITY != 0 {
                v != node.threshold
            } else {
                v > node.threshold
            };
            let to = left + usize::from(right);
            step(Step { feature: usize::from(node.feature), from: start + at, to: start + to });
            at = to;
        }
        start + at
    }

    /// Adds every tree's value to `out`, sixteen rows in flight at once and without a branch that depends on data: for large trees.
    fn in_step(&self, x: &[f32], width: usize, out: &mut [f32]) {
        let whole = out.len() - out.len() % LANES;
        let (out, rest_out) = out.split_at_mut(whole);
        let (x, rest_x) = x.split_at(whole * width);
        for (x, out) in x.chunks(BLOCK * width).zip(out.chunks_mut(BLOCK)) {
            self.block(x, width, out);
        }
        if !rest_out.is_empty() {
            let mut rest = vec![0.0f32; LANES * width];
            rest[..rest_x.len()].copy_from_slice(rest_x);
            let mut padded = [0.0f32; LANES];
            self.block(&rest, width, &mut padded);
            rest_out.copy_from_slice(&padded[..rest_out.len()]);
        }
    }

    /// `out.len()` is a multiple of [`LANES`].
    fn block(&self, x: &[f32], width: usize, out: &mut [f32]) {
        for (i, tree) in self.trees.iter().enumerate() {
            let (nodes, leaf_of) = self.tree(i);
            for (x, out) in x.chunks_exact(LANES * width).zip(out.chunks_exact_mut(LANES)) {
                let mut at = [0u32; LANES];
                for _ in 0..tree.depth {
                    for (lane, at) in at.iter_mut().enumerate() {
                        let node = nodes[*at as usize];
                        let v = x[lane * width + usize::from(node.feature)];
                        *at = u32::from(node.left) + u32::from(v > node.threshold);
                    }
                }
                for (out, at) in out.iter_mut().zip(at) {
                    *out += self.values[leaf_of[at as usize] as usize];
                }
            }
        }
    }

    /// Calls `f` with every split that `row` passes, tree by tree. `row` has at least [`Forest::width`] values.
    pub fn walk(&self, row: &[f32], mut f: impl FnMut(Step)) {
        for tree in &self.trees {
            self.leaf(*tree, row, &mut f);
        }
    }

    /// Per node, the mean value of the first target below it, leaves weighted by `weight(depth, leaf value)`.
    pub fn node_means(&self, weight: impl Fn(usize, f32) -> f64) -> Vec<f32> {
        let mut means = vec![0.0f32; self.nodes.len()];
        for (number, tree) in self.trees.iter().enumerate() {
            let (nodes, leaf_of) = self.tree(number);
            let start = tree.start as usize;
            let mut depth = vec![0usize; nodes.len()];
            for (i, left) in nodes.iter().enumerate().filter_map(|(i, n)| Some((i, n.children(i)?))) {
                depth[left] = depth[i] + 1;
                depth[left + 1] = depth[i] + 1;
            }
            // Children come after their parent in breadth-first order: going backward, they are done first.
            let mut sums = vec![(0.0f64, 0.0f64); nodes.len()];
            for i in (0..nodes.len()).rev() {
                sums[i] = if let Some(left) = nodes[i].children(i) {
                    (sums[left].0 + sums[left + 1].0, sums[left].1 + sums[left + 1].1)
                } else {
                    let v = self.values[leaf_of[i] as usize * self.targets()];
                    let w = weight(depth[i], v);
                    (w, w * f64::from(v))
                };
                means[start + i] = if sums[i].0 > 0.0 { (sums[i].1 / sums[i].0) as f32 } else { 0.0 };
            }
        }
        means
    }
}
