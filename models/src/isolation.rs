//! Isolation forest (Liu, Ting, Zhou: "Isolation Forest", ICDM 2008).

use weir_core::profile::Transform;

use crate::normalise::{inverse, transform};
use crate::rng::Rng;
use crate::trees::{Mode, TreeArrays};

/// Size of a forest; the defaults are those of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForestConfig {
    pub trees: usize,
    /// Rows that each tree is grown from, without replacement.
    pub samples: usize,
}

impl Default for ForestConfig {
    fn default() -> Self {
        Self { trees: 100, samples: 256 }
    }
}

/// `c(n)`: mean path length of an unsuccessful search in a binary search tree of `n` points.
pub(crate) fn mean_path(n: usize) -> f64 {
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let n = n as f64;
            2.0 * ((n - 1.0).ln() + 0.577_215_664_901_532_9) - 2.0 * (n - 1.0) / n
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum IsolationNode {
    Split {
        feature: usize,
        threshold: f32,
        left: usize,
        right: usize,
    },
    /// Depth plus `c(n)` of the rows that ended here.
    Leaf {
        path: f32,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IsolationForest {
    pub(crate) trees: Vec<Vec<IsolationNode>>,
    /// Rows per tree that `c` normalises by.
    samples: usize,
}

/// Grows a forest from raw rows `[n, transforms.len()]`, missing values replaced. Split values are uniform in *transformed*
/// units and kept in raw ones.
pub(crate) fn grow(rows: &[f32], transforms: &[Transform], config: ForestConfig, rng: &mut Rng) -> IsolationForest {
    let width = transforms.len();
    let n = rows.len() / width;
    let samples = config.samples.min(n).max(1);
    let mut grower =
        Grower { rows, transforms, rng, limit: (samples as f64).log2().ceil() as usize, nodes: Vec::new() };
    let trees = (0..config.trees)
        .map(|_| {
            let mut members = grower.rng.sample(n, samples);
            grower.split(&mut members, 0);
            std::mem::take(&mut grower.nodes)
        })
        .collect();
    IsolationForest { trees, samples }
}

struct Grower<'a> {
    rows: &'a [f32],
    transforms: &'a [Transform],
    rng: &'a mut Rng,
    limit: usize,
    nodes: Vec<IsolationNode>,
}

impl Grower<'_> {
    /// Grows the subtree of `members`, returns its root.
    fn split(&mut self, members: &mut [usize], depth: usize) -> usize {
        let at = self.nodes.len();
        let path = (depth as f64 + mean_path(members.len())) as f32;
        self.nodes.push(IsolationNode::Leaf { path });
        if depth >= self.limit || members.len() <= 1 {
            return at;
        }
        let width = self.transforms.len();
        let range = |j: usize| {
            members
                .iter()
                .map(|i| self.rows[i * width + j])
                .fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(v), b.max(v)))
        };
        let candidates: Vec<(usize, f32, f32)> =
            (0..width).map(|j| (j, range(j))).filter(|(_, (a, b))| a < b).map(|(j, (a, b))| (j, a, b)).collect();
        if candidates.is_empty() {
            return at;
        }
        let (feature, min, max) = candidates[self.rng.below(candidates.len())];
        let t = self.transforms[feature];
        let (low, high) = (f64::from(transform(t, min)), f64::from(transform(t, max)));
        let mut threshold = inverse(t, low + (high - low) * self.rng.unit()) as f32;
        // Rounding must leave a row on each side.
        if !(min..max).contains(&threshold) {
            threshold = min;
        }
        let middle = partition(members, |i| self.rows[i * width + feature] <= threshold);
        let (below, above) = members.split_at_mut(middle);
        let left = self.split(below, depth + 1);
        let right = self.split(above, depth + 1);
        self.nodes[at] = IsolationNode::Split { feature, threshold, left, right };
        at
    }
}

/// Moves what satisfies `f` to the front, returns how many do.
fn partition(items: &mut [usize], f: impl Fn(usize) -> bool) -> usize {
    let mut n = 0;
    for i in 0..items.len() {
        if f(items[i]) {
            items.swap(i, n);
            n += 1;
        }
    }
    n
}

impl IsolationForest {
    /// What the sum of path lengths is multiplied by to give the exponent of 2.
    pub(crate) fn exponent_scale(&self) -> f32 {
        // One sample per tree has c = 0, and paths of length 0 whatever they are multiplied by.
        let c = if self.samples > 1 { mean_path(self.samples) } else { 1.0 };
        (-1.0 / (self.trees.len() as f64 * c)) as f32
    }

    /// The forest in the arrays of an ONNX tree ensemble.
    pub(crate) fn arrays(&self) -> TreeArrays {
        let mut a = TreeArrays::default();
        for (t, tree) in self.trees.iter().enumerate() {
            for (i, node) in tree.iter().enumerate() {
                a.nodes_treeids.push(t as i64);
                a.nodes_nodeids.push(i as i64);
                let (mode, feature, value, yes, no) = match *node {
                    IsolationNode::Split { feature, threshold, left, right } => {
                        (Mode::Leq, feature, threshold, left, right)
                    }
                    IsolationNode::Leaf { path } => {
                        a.target_treeids.push(t as i64);
                        a.target_nodeids.push(i as i64);
                        a.target_weights.push(path);
                        (Mode::Leaf, 0, 0.0, 0, 0)
                    }
                };
                a.nodes_modes.push(mode);
                a.nodes_featureids.push(feature as i64);
                a.nodes_values.push(value);
                a.nodes_truenodeids.push(yes as i64);
                a.nodes_falsenodeids.push(no as i64);
            }
        }
        a
    }

    /// The score of one row without missing values, straight from the definition.
    #[cfg(test)]
    pub(crate) fn score(&self, row: &[f32]) -> f64 {
        let total: f64 = self
            .trees
            .iter()
            .map(|tree| {
                let mut at = 0;
                loop {
                    match tree[at] {
                        IsolationNode::Leaf { path } => return f64::from(path),
                        IsolationNode::Split { feature, threshold, left, right } => {
                            at = if row[feature] <= threshold { left } else { right };
                        }
                    }
                }
            })
            .sum();
        let c = mean_path(self.samples);
        if c > 0.0 { 2f64.powf(-total / self.trees.len() as f64 / c) } else { 1.0 }
    }
}
