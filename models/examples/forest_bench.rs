//! Microseconds per row of the tree evaluator: 100 trees of 256 samples, 32 features, batches of 4096, one thread.
//!
//! `cargo run --release -p weir-models --example forest_bench`

use std::hint::black_box;
use std::time::Instant;

use weir_models::trees::{Aggregate, Mode, TreeArrays};

const TREES: i64 = 100;
const SAMPLES: usize = 256;
const WIDTH: usize = 32;
const BATCH: usize = 4096;

struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }
}

fn main() {
    let mut dice = Dice(1);
    let mut a = TreeArrays::default();
    for tree in 0..TREES {
        let rows: Vec<[f32; WIDTH]> = (0..SAMPLES).map(|_| std::array::from_fn(|_| dice.unit())).collect();
        grow(&mut a, tree, rows, 0, &mut dice, &mut 0);
    }
    let forest = match a.build() {
        Ok(f) => f,
        Err(e) => return eprintln!("the benchmark's forest is refused: {e}"),
    };
    let x: Vec<f32> = (0..BATCH * WIDTH).map(|_| dice.unit()).collect();
    let mut best = f64::INFINITY;
    for _ in 0..50 {
        let start = Instant::now();
        let scores = forest.predict(black_box(&x), WIDTH);
        let took = start.elapsed().as_secs_f64() * 1e6 / BATCH as f64;
        if black_box(scores).is_ok() {
            best = best.min(took);
        }
    }
    println!("{} nodes, {best:.2} us per row (best of 50)", a.nodes_nodeids.len());
}

/// An isolation tree; returns its root's id.
fn grow(a: &mut TreeArrays, tree: i64, rows: Vec<[f32; WIDTH]>, depth: u32, dice: &mut Dice, next: &mut i64) -> i64 {
    let id = *next;
    *next += 1;
    let at = a.nodes_nodeids.len();
    a.nodes_treeids.push(tree);
    a.nodes_nodeids.push(id);
    for list in [&mut a.nodes_featureids, &mut a.nodes_truenodeids, &mut a.nodes_falsenodeids] {
        list.push(0);
    }
    a.nodes_values.push(0.0);
    if depth == SAMPLES.ilog2() || rows.len() < 2 {
        a.nodes_modes.push(Mode::Leaf);
        a.target_treeids.push(tree);
        a.target_nodeids.push(id);
        a.target_weights.push(depth as f32 + (rows.len() as f32).ln());
        return id;
    }
    a.nodes_modes.push(Mode::Leq);
    let j = (dice.unit() * WIDTH as f32) as usize;
    let (min, max) = rows.iter().fold((f32::MAX, f32::MIN), |(a, b), r| (a.min(r[j]), b.max(r[j])));
    a.nodes_featureids[at] = j as i64;
    a.nodes_values[at] = min + (max - min) * dice.unit();
    let (yes, no) = rows.into_iter().partition(|r| r[j] <= a.nodes_values[at]);
    a.nodes_truenodeids[at] = grow(a, tree, yes, depth + 1, dice, next);
    a.nodes_falsenodeids[at] = grow(a, tree, no, depth + 1, dice, next);
    id
}
