//! The evaluator: eight bytes a node, no branch that depends on data, several rows in flight at once.

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

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tree {
    pub(super) start: u32,
    pub(super) nodes: u32,
    pub(super) depth: u32,
}

/// A validated tree ensemble of one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    pub(super) nodes: Vec<Node>,
    /// Leaf weights, by node; 0 elsewhere.
    pub(super) values: Vec<f32>,
    pub(super) trees: Vec<Tree>,
    pub(super) width: usize,
    aggregate: Aggregate,
    base_value: f32,
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

impl Forest {
    pub(super) fn empty(aggregate: Aggregate, base_value: f32) -> Self {
        Self { nodes: Vec::new(), values: Vec::new(), trees: Vec::new(), width: 0, aggregate, base_value }
    }

    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    /// Largest feature index that is read, plus one.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The ensemble's value for each row of `x`, row-major `[rows, width]`, no NaN. A row's value does not depend on the rows
    /// beside it.
    pub fn predict(&self, x: &[f32], width: usize) -> Result<Vec<f32>, TreeError> {
        if width < self.width {
            return Err(TreeError::Width { got: width, feature: self.width - 1 });
        }
        if width == 0 || !x.len().is_multiple_of(width) {
            // Trees without a split read nothing, yet the number of rows must be known.
            return Err(TreeError::Shape { got: x.len(), width });
        }
        if let Some(at) = x.iter().position(|v| v.is_nan()) {
            return Err(TreeError::NanInput { row: at / width, feature: at % width });
        }
        let rows = x.len() / width;
        let mut out = vec![0.0f32; rows];
        let whole = rows - rows % LANES;
        for (x, out) in x[..whole * width].chunks(BLOCK * width).zip(out.chunks_mut(BLOCK)) {
            self.block(x, width, out);
        }
        if whole < rows {
            let mut rest = vec![0.0f32; LANES * width];
            rest[..(rows - whole) * width].copy_from_slice(&x[whole * width..]);
            let mut padded = [0.0f32; LANES];
            self.block(&rest, width, &mut padded);
            out[whole..].copy_from_slice(&padded[..rows - whole]);
        }
        let scale = match self.aggregate {
            Aggregate::Sum => 1.0,
            Aggregate::Average => 1.0 / self.trees.len() as f32,
        };
        for v in &mut out {
            *v = *v * scale + self.base_value;
        }
        Ok(out)
    }

    /// Adds every tree's value for the rows of `x` to `out`; `out.len()` is a multiple of [`LANES`].
    fn block(&self, x: &[f32], width: usize, out: &mut [f32]) {
        for tree in &self.trees {
            let range = tree.start as usize..(tree.start + tree.nodes) as usize;
            let (nodes, values) = (&self.nodes[range.clone()], &self.values[range]);
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
                    *out += values[at as usize];
                }
            }
        }
    }

    /// Calls `f` with every split that `row` passes, tree by tree. `row` has at least [`Forest::width`] values, none NaN.
    pub fn walk(&self, row: &[f32], mut f: impl FnMut(Step)) {
        for tree in &self.trees {
            let start = tree.start as usize;
            let mut at = start;
            for _ in 0..tree.depth {
                let node = self.nodes[at];
                let left = start + usize::from(node.left);
                if left == at {
                    break;
                }
                let feature = usize::from(node.feature);
                let to = left + usize::from(row[feature] > node.threshold);
                f(Step { feature, from: at, to });
                at = to;
            }
        }
    }

    /// Per node, the mean leaf value below it, leaves weighted by `weight(depth, leaf value)`.
    pub fn node_means(&self, weight: impl Fn(usize, f32) -> f64) -> Vec<f32> {
        let mut means = vec![0.0f32; self.nodes.len()];
        for tree in &self.trees {
            let start = tree.start as usize;
            let n = tree.nodes as usize;
            let mut depth = vec![0usize; n];
            for i in 0..n {
                let left = usize::from(self.nodes[start + i].left);
                if left != i {
                    depth[left] = depth[i] + 1;
                    depth[left + 1] = depth[i] + 1;
                }
            }
            // Children come after their parent in breadth-first order: going backward, they are done first.
            let mut sums = vec![(0.0f64, 0.0f64); n];
            for i in (0..n).rev() {
                let left = usize::from(self.nodes[start + i].left);
                sums[i] = if left == i {
                    let v = self.values[start + i];
                    let w = weight(depth[i], v);
                    (w, w * f64::from(v))
                } else {
                    (sums[left].0 + sums[left + 1].0, sums[left].1 + sums[left + 1].1)
                };
                means[start + i] = if sums[i].0 > 0.0 { (sums[i].1 / sums[i].0) as f32 } else { 0.0 };
            }
        }
        means
    }
}
