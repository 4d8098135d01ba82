//! The tree evaluator against the definition, and what it refuses.

use proptest::prelude::*;
use weir_models::trees::{
    Aggregate, Forest, MAX_DEPTH, MAX_FEATURES, MAX_TREE_NODES, Mode, Simd, TreeArrays, TreeError,
};

const WIDTH: usize = 5;

fn empty() -> TreeArrays {
    TreeArrays::default()
}

#[allow(clippy::too_many_arguments, reason = "one argument per array")]
fn node(a: &mut TreeArrays, tree: i64, id: i64, mode: Mode, feature: i64, value: f32, yes: i64, no: i64) {
    a.nodes_treeids.push(tree);
    a.nodes_nodeids.push(id);
    a.nodes_featureids.push(feature);
    a.nodes_modes.push(mode);
    a.nodes_values.push(value);
    a.nodes_truenodeids.push(yes);
    a.nodes_falsenodeids.push(no);
}

fn leaf(a: &mut TreeArrays, tree: i64, id: i64, weight: f32) {
    node(a, tree, id, Mode::Leaf, 0, 0.0, 0, 0);
    a.target_treeids.push(tree);
    a.target_nodeids.push(id);
    a.target_weights.push(weight);
}

/// One split and two leaves, `x[1] <= 0.5 ? 1 : 2`.
fn stump() -> TreeArrays {
    let mut a = empty();
    node(&mut a, 0, 0, Mode::Leq, 1, 0.5, 1, 2);
    leaf(&mut a, 0, 1, 1.0);
    leaf(&mut a, 0, 2, 2.0);
    a
}

/// The definition, straight from the arrays.
fn naive(a: &TreeArrays, x: &[f32]) -> Vec<f64> {
    let mut trees = a.nodes_treeids.clone();
    trees.dedup();
    let targets = a.n_targets.max(1) as usize;
    let mut found = vec![vec![]; targets];
    for tree in &trees {
        let find = |id: i64| {
            (0..a.nodes_nodeids.len())
                .find(|i| a.nodes_treeids[*i] == *tree && a.nodes_nodeids[*i] == id)
                .expect("a node")
        };
        let children: Vec<i64> = (0..a.nodes_nodeids.len())
            .filter(|i| a.nodes_treeids[*i] == *tree && a.nodes_modes[*i] != Mode::Leaf)
            .flat_map(|i| [a.nodes_truenodeids[i], a.nodes_falsenodeids[i]])
            .collect();
        let mut at = (0..a.nodes_nodeids.len())
            .find(|i| a.nodes_treeids[*i] == *tree && !children.contains(&a.nodes_nodeids[*i]))
            .expect("a root");
        loop {
            let (v, t) = (x[a.nodes_featureids[at] as usize], a.nodes_values[at]);
            let yes = match a.nodes_modes[at] {
                Mode::Leq => v <= t,
                Mode::Lt => v < t,
                Mode::Gte => v >= t,
                Mode::Gt => v > t,
                Mode::Eq => v == t,
                Mode::Neq => v != t,
                Mode::Leaf => break,
            };
            let yes = yes || v.is_nan() && a.nodes_missing_value_tracks_true.get(at).is_some_and(|m| *m != 0);
            at = find(if yes { a.nodes_truenodeids[at] } else { a.nodes_falsenodeids[at] });
        }
        for (target, found) in found.iter_mut().enumerate() {
            let of_leaf: Vec<f64> = (0..a.target_nodeids.len())
                .filter(|i| a.target_treeids[*i] == *tree && a.target_nodeids[*i] == a.nodes_nodeids[at])
                .filter(|i| a.target_ids.get(*i).copied().unwrap_or(0) == target as i64)
                .map(|i| f64::from(a.target_weights[i]))
                .collect();
            if !of_leaf.is_empty() {
                found.push(of_leaf.iter().sum::<f64>());
            }
        }
    }
    let one = |(target, found): (usize, &Vec<f64>)| {
        let value = match a.aggregate {
            Aggregate::Sum => found.iter().sum(),
            Aggregate::Average => found.iter().sum::<f64>() / trees.len() as f64,
            Aggregate::Min => found.iter().copied().reduce(f64::min).unwrap_or(0.0),
            Aggregate::Max => found.iter().copied().reduce(f64::max).unwrap_or(0.0),
        };
        let base = a.base_values.get(target).or(a.base_values.first());
        value + f64::from(base.copied().unwrap_or(0.0))
    };
    found.iter().enumerate().map(one).collect()
}

/// Values from a small set, so that equality with a threshold is common.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => (-4i8..5).prop_map(|v| f32::from(v) * 0.5),
        1 => -1e6f32..1e6,
        1 => prop_oneof![Just(0.0), Just(-0.0), Just(f32::MAX), Just(f32::MIN), Just(1e-45)],
    ]
}

/// The same, and some are missing.
fn value_or_gap() -> impl Strategy<Value = f32> {
    prop_oneof![9 => value(), 1 => Just(f32::NAN)]
}

/// Comparisons by which the fastest evaluator works.
const ORDER: [Mode; 4] = [Mode::Leq, Mode::Lt, Mode::Gte, Mode::Gt];

/// Grows trees out of lists of choices, ids and entries in a scrambled order, with up to `splits` splits a tree.
fn forest_of(modes: &'static [Mode], splits: usize, trees: usize, targets: i64) -> impl Strategy<Value = TreeArrays> {
    let split = (0..modes.len(), 0..WIDTH as i64, value(), any::<u16>(), -10f32..10.0);
    let tree = prop::collection::vec(split, 0..splits);
    let trees = prop::collection::vec(tree, 1..trees);
    let aggregates = if targets == 1 { 2usize } else { 4 };
    (trees, 0..aggregates, 1..targets + 1, -2f32..2.0, any::<u64>()).prop_map(
        move |(trees, aggregate, n_targets, base, seed)| {
            let aggregate = [Aggregate::Sum, Aggregate::Average, Aggregate::Min, Aggregate::Max][aggregate];
            let base_values = [vec![], vec![base], vec![base; n_targets as usize]][seed as usize % 3].clone();
            let mut a = TreeArrays { base_values, aggregate, n_targets, ..empty() };
            for (t, splits) in trees.iter().enumerate() {
                let tree = 7 * t as i64 + 3;
                let id = |n: usize| ((n as u64).wrapping_mul(0x9e37_79b1) ^ seed & 0xffff) as i64;
                let mut nodes = vec![None];
                let mut leaves = vec![0];
                for (mode, feature, value, pick, _) in splits {
                    let at = leaves.swap_remove(usize::from(*pick) % leaves.len());
                    nodes[at] = Some((modes[*mode], *feature, *value, nodes.len(), nodes.len() + 1));
                    leaves.extend([nodes.len(), nodes.len() + 1]);
                    nodes.extend([None, None]);
                }
                let mut order: Vec<usize> = (0..nodes.len()).collect();
                order.rotate_left(seed as usize % nodes.len());
                for i in order {
                    match nodes[i] {
                        Some((mode, feature, value, yes, no)) => {
                            node(&mut a, tree, id(i), mode, feature, value, id(yes), id(no));
                        }
                        None => {
                            leaf(&mut a, tree, id(i), splits.first().map_or(0.5, |s| s.4) + i as f32);
                            a.target_ids.push(i as i64 % n_targets);
                        }
                    }
                    a.nodes_missing_value_tracks_true.push((seed >> (i % 64) & 1) as i64);
                }
            }
            a
        },
    )
}

fn forest() -> impl Strategy<Value = TreeArrays> {
    prop_oneof![forest_of(&ORDER, 40, 12, 1), forest_of(&Mode::ALL.as_slice()[..6], 40, 12, 3)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn evaluates_as_defined(
        a in forest(),
        x in (0usize..70).prop_flat_map(|n| prop::collection::vec(value_or_gap(), n * WIDTH)),
    ) {
        let forest = a.build().expect("a proper forest");
        let targets = forest.targets();
        let got = forest.predict(&x, WIDTH).expect("rows of the right width");
        prop_assert_eq!(got.len(), x.len() / WIDTH * targets);
        for (row, got) in x.chunks(WIDTH).zip(got.chunks(targets)) {
            for (got, expected) in got.iter().zip(naive(&a, row)) {
                let off = (f64::from(*got) - expected).abs();
                prop_assert!(off <= 1e-5 * expected.abs().max(1.0), "{got} instead of {expected}");
            }
            // The same row alone gives the same bits, and its path ends at its leaf.
            prop_assert_eq!(forest.predict(row, WIDTH).expect("one row"), got);
            let mut last = Vec::new();
            forest.walk(row, |s| last.push(s));
            prop_assert!(last.windows(2).all(|w| w[0].from != w[1].from));
        }
    }

    /// Trees of up to some 300 leaves, so that both of the evaluators for many rows have their share, on every set of instructions.
    #[test]
    fn all_instructions_give_the_same_bits(
        a in prop_oneof![forest_of(&ORDER, 200, 40, 1), forest_of(&ORDER, 300, 5, 1)],
        x in (32usize..400).prop_flat_map(|n| prop::collection::vec(value_or_gap(), n * WIDTH)),
    ) {
        let forest = a.build().expect("a proper forest");
        let alone: Vec<f32> = x.chunks(WIDTH).flat_map(|row| forest.predict(row, WIDTH).expect("one row")).collect();
        for simd in Simd::available() {
            let together = forest.predict_with(simd, &x, WIDTH).expect("rows of the right width");
            prop_assert_eq!(&together, &alone, "{:?}, ranked: {}", simd, forest.is_ranked());
        }
    }

    #[test]
    fn never_panics_on_arrays_at_random(
        ids in prop::collection::vec((0i64..4, -1i64..8, -2i64..6, 0usize..7, any::<f32>(), -1i64..8, -1i64..8), 0..16),
        targets in prop::collection::vec((0i64..4, -1i64..8, any::<f32>()), 0..8),
        cut in 0usize..3,
    ) {
        let mut a = empty();
        for (tree, id, feature, mode, value, yes, no) in ids {
            node(&mut a, tree, id, Mode::ALL[mode], feature, value, yes, no);
        }
        for (tree, id, weight) in targets {
            a.target_treeids.push(tree);
            a.target_nodeids.push(id);
            a.target_weights.push(weight);
        }
        a.nodes_values.truncate(a.nodes_values.len().saturating_sub(cut / 2));
        if let Ok(forest) = a.build() {
            let _ = forest.predict(&[0.0; 3 * 8], 8);
        }
    }
}

fn refused(change: impl FnOnce(&mut TreeArrays)) -> TreeError {
    let mut a = stump();
    change(&mut a);
    a.build().expect_err("a spoilt ensemble is refused")
}

#[test]
fn refuses_what_is_no_forest() {
    assert_eq!(stump().build().expect("a stump").predict(&[9.0, 0.5, 9.0, 0.6], 2), Ok(vec![1.0, 2.0]));

    assert_eq!(empty().build(), Err(TreeError::Empty));
    assert_eq!(refused(|a| a.nodes_truenodeids[0] = 9), TreeError::NoSuchChild { tree: 0, node: 0, child: 9 });
    assert_eq!(refused(|a| a.nodes_falsenodeids[0] = 1), TreeError::TwoParents { tree: 0, node: 1 });
    // A root that is its own child leaves its former child without a parent.
    assert_eq!(refused(|a| a.nodes_truenodeids[0] = 0), TreeError::Unreachable { tree: 0, reached: 1, nodes: 3 });
    assert_eq!(refused(|a| a.nodes_nodeids[2] = 1), TreeError::DuplicateNode { tree: 0, node: 1 });
    assert_eq!(
        refused(|a| a.nodes_featureids[0] = -1),
        TreeError::Feature { tree: 0, node: 0, feature: -1, max: MAX_FEATURES }
    );
    assert_eq!(
        refused(|a| a.nodes_featureids[0] = i64::MAX),
        TreeError::Feature { tree: 0, node: 0, feature: i64::MAX, max: MAX_FEATURES }
    );
    assert!(matches!(refused(|a| a.nodes_values[0] = f32::NAN), TreeError::NotFinite { what: "the threshold", .. }));
    assert!(matches!(
        refused(|a| a.target_weights[0] = f32::INFINITY),
        TreeError::NotFinite { what: "the leaf weight", .. }
    ));
    assert!(matches!(refused(|a| a.base_values = vec![f32::NAN]), TreeError::NotFinite { what: "the base value", .. }));
    assert_eq!(refused(|a| a.target_nodeids[0] = 0), TreeError::NoSuchLeaf { tree: 0, node: 0 });
    assert_eq!(refused(|a| a.target_treeids[1] = 5), TreeError::NoSuchLeaf { tree: 5, node: 2 });
    let target = |a: &mut TreeArrays, target| a.target_ids = vec![0, target];
    assert_eq!(refused(|a| target(a, 1)), TreeError::Target { tree: 0, node: 2, target: 1, targets: 1 });
    assert_eq!(refused(|a| target(a, -1)), TreeError::Target { tree: 0, node: 2, target: -1, targets: 1 });
    assert!(matches!(refused(|a| a.n_targets = i64::MAX), TreeError::TooLarge { what: "targets", .. }));
    for (change, array) in [
        ((|a| shorten(&mut a.nodes_values)) as fn(&mut TreeArrays), "nodes_values"),
        (|a| a.nodes_modes.push(Mode::Leaf), "nodes_modes"),
        (|a| shorten(&mut a.nodes_treeids), "nodes_treeids"),
        (|a| shorten(&mut a.nodes_featureids), "nodes_featureids"),
        (|a| shorten(&mut a.nodes_truenodeids), "nodes_truenodeids"),
        (|a| shorten(&mut a.nodes_falsenodeids), "nodes_falsenodeids"),
        (|a| shorten(&mut a.target_weights), "target_weights"),
        (|a| shorten(&mut a.target_treeids), "target_treeids"),
        (|a| a.target_ids = vec![0], "target_ids"),
        (|a| a.nodes_missing_value_tracks_true = vec![1], "nodes_missing_value_tracks_true"),
        (|a| a.base_values = vec![0.0; 2], "base_values"),
    ] {
        match refused(change) {
            TreeError::Length { array: named, got, expected, .. } => {
                assert_eq!(named, array);
                assert_ne!(got, expected);
            }
            other => panic!("{array}: {other}"),
        }
    }
}

#[test]
fn refuses_cycles_beside_a_tree() {
    let mut a = stump();
    node(&mut a, 0, 10, Mode::Leq, 0, 0.0, 11, 12);
    node(&mut a, 0, 11, Mode::Leq, 0, 0.0, 10, 13);
    leaf(&mut a, 0, 12, 0.0);
    leaf(&mut a, 0, 13, 0.0);
    assert_eq!(a.build(), Err(TreeError::Unreachable { tree: 0, reached: 3, nodes: 7 }));
    // Two trees under one id.
    let mut a = stump();
    leaf(&mut a, 0, 10, 0.0);
    assert_eq!(a.build(), Err(TreeError::Roots { tree: 0, roots: 2 }));
    // Nothing but a cycle.
    let mut a = empty();
    node(&mut a, 0, 0, Mode::Leq, 0, 0.0, 1, 2);
    node(&mut a, 0, 1, Mode::Leq, 0, 0.0, 0, 3);
    leaf(&mut a, 0, 2, 0.0);
    leaf(&mut a, 0, 3, 0.0);
    assert_eq!(a.build(), Err(TreeError::Roots { tree: 0, roots: 0 }));
}

/// A tree that goes left only.
fn chain(levels: i64) -> TreeArrays {
    let mut a = empty();
    for i in 0..levels {
        node(&mut a, 0, 2 * i, Mode::Gt, 0, i as f32, 2 * i + 2, 2 * i + 1);
        leaf(&mut a, 0, 2 * i + 1, i as f32);
    }
    leaf(&mut a, 0, 2 * levels, levels as f32);
    a
}

#[test]
fn sizes_are_capped() {
    let deepest = chain(MAX_DEPTH as i64).build().expect("as deep as allowed");
    assert_eq!(deepest.predict(&[3.5, 1e9], 1), Ok(vec![4.0, MAX_DEPTH as f32]));
    assert!(matches!(chain(MAX_DEPTH as i64 + 1).build(), Err(TreeError::TooLarge { what: "levels in one tree", .. })));
    assert!(matches!(
        chain(40_000).build(),
        Err(TreeError::TooLarge { what: "nodes in one tree", max: MAX_TREE_NODES, .. })
    ));
    let mut a = empty();
    (0..10_001).for_each(|t| leaf(&mut a, t, 0, 1.0));
    assert!(matches!(a.build(), Err(TreeError::TooLarge { what: "trees", got: 10_001, .. })));
    // Many leaves and many targets are each allowed, not both.
    let mut a = TreeArrays { n_targets: 1024, ..empty() };
    (0..20_000i64).for_each(|i| leaf(&mut a, i / 100, i % 100, 1.0));
    assert!(matches!(a.build(), Err(TreeError::TooLarge { what: "leaf values", .. })));
}

#[test]
fn inputs_that_do_not_fit_are_errors() {
    let forest: Forest = stump().build().expect("a stump");
    // Neither `NaN <= 0.5` nor a flag sends it to the true child.
    assert_eq!(forest.predict(&[0.0, f32::NAN], 2), Ok(vec![2.0]));
    assert_eq!(forest.predict(&[0.0], 1), Err(TreeError::Width { got: 1, feature: 1 }));
    assert_eq!(forest.predict(&[0.0; 3], 2), Err(TreeError::Shape { got: 3, width: 2 }));
    assert_eq!(forest.predict(&[0.0, f32::INFINITY, 0.0, f32::NEG_INFINITY], 2), Ok(vec![2.0, 1.0]));
}

fn shorten<T>(list: &mut Vec<T>) {
    list.truncate(list.len() - 1);
}
