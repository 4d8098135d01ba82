//! The tree evaluator against the definition, and what it refuses.

use proptest::prelude::*;
use weir_models::trees::{Aggregate, Forest, MAX_DEPTH, MAX_FEATURES, MAX_TREE_NODES, Mode, TreeArrays, TreeError};

const WIDTH: usize = 5;

fn empty() -> TreeArrays {
    TreeArrays {
        nodes_treeids: vec![],
        nodes_nodeids: vec![],
        nodes_featureids: vec![],
        nodes_modes: vec![],
        nodes_values: vec![],
        nodes_truenodeids: vec![],
        nodes_falsenodeids: vec![],
        target_treeids: vec![],
        target_nodeids: vec![],
        target_weights: vec![],
        base_value: 0.0,
        aggregate: Aggregate::Sum,
    }
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
fn naive(a: &TreeArrays, x: &[f32]) -> f64 {
    let mut trees = a.nodes_treeids.clone();
    trees.dedup();
    let mut sum = 0.0;
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
                Mode::Leaf => break,
            };
            at = find(if yes { a.nodes_truenodeids[at] } else { a.nodes_falsenodeids[at] });
        }
        sum += (0..a.target_nodeids.len())
            .filter(|i| a.target_treeids[*i] == *tree && a.target_nodeids[*i] == a.nodes_nodeids[at])
            .map(|i| f64::from(a.target_weights[i]))
            .sum::<f64>();
    }
    let scale = if a.aggregate == Aggregate::Average { 1.0 / trees.len() as f64 } else { 1.0 };
    sum * scale + f64::from(a.base_value)
}

/// Values from a small set, so that equality with a threshold is common.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => (-4i8..5).prop_map(|v| f32::from(v) * 0.5),
        1 => -1e6f32..1e6,
        1 => prop_oneof![Just(0.0), Just(-0.0), Just(f32::MAX), Just(f32::MIN), Just(1e-45)],
    ]
}

/// Grows a tree out of a list of choices, ids and entries in a scrambled order.
fn forest() -> impl Strategy<Value = TreeArrays> {
    let split = (0..4usize, 0..WIDTH as i64, value(), any::<u16>(), -10f32..10.0);
    let tree = prop::collection::vec(split, 0..40);
    let trees = prop::collection::vec(tree, 1..12);
    (trees, any::<bool>(), -2f32..2.0, any::<u64>()).prop_map(|(trees, average, base_value, seed)| {
        let aggregate = if average { Aggregate::Average } else { Aggregate::Sum };
        let mut a = TreeArrays { base_value, aggregate, ..empty() };
        let modes = [Mode::Leq, Mode::Lt, Mode::Gte, Mode::Gt];
        for (t, splits) in trees.iter().enumerate() {
            let tree = 7 * t as i64 + 3;
            let id = |n: usize| ((n as u64).wrapping_mul(0x9e37_79b1) ^ seed & 0xffff) as i64;
            let mut nodes = vec![None];
            for (mode, feature, value, pick, _) in splits {
                let leaves: Vec<usize> = (0..nodes.len()).filter(|i| nodes[*i].is_none()).collect();
                let at = leaves[usize::from(*pick) % leaves.len()];
                nodes[at] = Some((modes[*mode], *feature, *value, nodes.len(), nodes.len() + 1));
                nodes.push(None);
                nodes.push(None);
            }
            let mut order: Vec<usize> = (0..nodes.len()).collect();
            let turn = seed as usize % nodes.len();
            order.rotate_left(turn);
            for i in order {
                match nodes[i] {
                    Some((mode, feature, value, yes, no)) => {
                        node(&mut a, tree, id(i), mode, feature, value, id(yes), id(no));
                    }
                    None => leaf(&mut a, tree, id(i), splits.first().map_or(0.5, |s| s.4) + i as f32),
                }
            }
        }
        a
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn evaluates_as_defined(
        a in forest(),
        x in (0usize..70).prop_flat_map(|n| prop::collection::vec(value(), n * WIDTH)),
    ) {
        let forest = a.build().expect("a proper forest");
        let got = forest.predict(&x, WIDTH).expect("finite rows");
        prop_assert_eq!(got.len(), x.len() / WIDTH);
        for (row, got) in x.chunks(WIDTH).zip(got) {
            let expected = naive(&a, row);
            prop_assert!((f64::from(got) - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{got} instead of {expected}");
            // The same row alone gives the same bits, and its path ends at its leaf.
            prop_assert_eq!(forest.predict(row, WIDTH).expect("finite"), [got]);
            let mut last = Vec::new();
            forest.walk(row, |s| last.push(s));
            prop_assert!(last.windows(2).all(|w| w[0].from != w[1].from));
        }
    }

    #[test]
    fn never_panics_on_arrays_at_random(
        ids in prop::collection::vec((0i64..4, -1i64..8, -2i64..6, 0usize..5, any::<f32>(), -1i64..8, -1i64..8), 0..16),
        targets in prop::collection::vec((0i64..4, -1i64..8, any::<f32>()), 0..8),
        cut in 0usize..3,
    ) {
        let mut a = empty();
        let modes = [Mode::Leq, Mode::Lt, Mode::Gte, Mode::Gt, Mode::Leaf];
        for (tree, id, feature, mode, value, yes, no) in ids {
            node(&mut a, tree, id, modes[mode], feature, value, yes, no);
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
    assert!(matches!(refused(|a| a.base_value = f32::NAN), TreeError::NotFinite { what: "the base value", .. }));
    assert_eq!(refused(|a| a.target_nodeids[0] = 0), TreeError::NoSuchLeaf { tree: 0, node: 0 });
    assert_eq!(refused(|a| a.target_treeids[1] = 5), TreeError::NoSuchLeaf { tree: 5, node: 2 });
    for (change, array) in [
        ((|a| shorten(&mut a.nodes_values)) as fn(&mut TreeArrays), "nodes_values"),
        (|a| a.nodes_modes.push(Mode::Leaf), "nodes_modes"),
        (|a| shorten(&mut a.nodes_treeids), "nodes_treeids"),
        (|a| shorten(&mut a.nodes_featureids), "nodes_featureids"),
        (|a| shorten(&mut a.nodes_truenodeids), "nodes_truenodeids"),
        (|a| shorten(&mut a.nodes_falsenodeids), "nodes_falsenodeids"),
        (|a| shorten(&mut a.target_weights), "target_weights"),
        (|a| shorten(&mut a.target_treeids), "target_treeids"),
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
}

#[test]
fn inputs_that_do_not_fit_are_errors() {
    let forest: Forest = stump().build().expect("a stump");
    assert_eq!(forest.predict(&[0.0, f32::NAN], 2), Err(TreeError::NanInput { row: 0, feature: 1 }));
    assert_eq!(forest.predict(&[0.0], 1), Err(TreeError::Width { got: 1, feature: 1 }));
    assert_eq!(forest.predict(&[0.0; 3], 2), Err(TreeError::Shape { got: 3, width: 2 }));
    assert_eq!(forest.predict(&[0.0, f32::INFINITY, 0.0, f32::NEG_INFINITY], 2), Ok(vec![2.0, 1.0]));
}

fn shorten<T>(list: &mut Vec<T>) {
    list.truncate(list.len() - 1);
}
