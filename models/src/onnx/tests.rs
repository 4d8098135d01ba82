//! Exported graphs in tract against the definitions, and crafted files.

use ndarray::Array2;
use prost::Message;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto};
use weir_core::profile::Transform;

use super::forest::FILLED;
use super::*;
use crate::autoencoder::{Autoencoder, AutoencoderConfig};
use crate::bundle::{ProfileModels, RawRow};
use crate::isolation::{ForestConfig, IsolationForest, grow};
use crate::normalise::Normaliser;
use crate::rng::Rng;
use crate::runner::Runner;

const WIDTH: usize = 6;

struct Made {
    normaliser: Normaliser,
    net: Autoencoder,
    forest: IsolationForest,
    rows: Vec<f32>,
}

/// Models of 400 rows of six correlated features, every other one logarithmic.
fn made() -> Made {
    let mut rng = Rng::new(3, "test");
    let rows: Vec<f32> = (0..400)
        .flat_map(|_| {
            let u = rng.unit() as f32;
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0].map(|k: f32| (u * k * k + rng.unit() as f32) * (1.0 + k * 40.0))
        })
        .collect();
    let transforms = (0..WIDTH).map(|j| if j % 2 == 0 { Transform::Identity } else { Transform::Log1p }).collect();
    let mut normaliser = Normaliser { transforms, mean: vec![], std: vec![], fill: vec![] };
    for j in 0..WIDTH {
        let v: Vec<f32> = rows
            .iter()
            .skip(j)
            .step_by(WIDTH)
            .map(|x| crate::normalise::transform(normaliser.transforms[j], *x))
            .collect();
        let mean = v.iter().sum::<f32>() / v.len() as f32;
        normaliser.mean.push(mean);
        normaliser.std.push((v.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / v.len() as f32).sqrt());
        normaliser.fill.push(crate::normalise::inverse(normaliser.transforms[j], f64::from(mean)) as f32);
    }
    let mut z = Vec::new();
    rows.chunks(WIDTH).for_each(|r| normaliser.apply(r, u64::MAX, &mut z));
    let z = Array2::from_shape_vec((400, WIDTH), z).expect("400 rows");
    let config = AutoencoderConfig { parts: 5, ..AutoencoderConfig::default() };
    let (net, _) = Autoencoder::fit(&z, &z, &config, &mut rng, &mut |_, _| {});
    let forest = grow(&rows, &normaliser.transforms, ForestConfig::default(), &mut rng);
    Made { normaliser, net, forest, rows }
}

#[test]
fn tract_gives_what_the_definitions_give() {
    let m = made();
    let files = [export_autoencoder(&m.normaliser, &m.net), export_forest(&m.normaliser, &m.forest)];
    let (models, _) =
        ProfileModels::compile(("a", &files[0]), ("f", &files[1]), &m.normaliser.fill).expect("our own models compile");
    let mut rows = m.rows.clone();
    rows.extend([0.0; WIDTH]);
    rows.extend([1e6, 1e6, -1e6, -3.0, 1e30, 0.5]);
    let present = |i: usize| if i.is_multiple_of(3) { 0b10_1101 >> (i % 4) } else { 0b11_1111 };
    let given = rows.chunks(WIDTH).enumerate().map(|(i, features)| RawRow { features, present: present(i) });
    let scores = models.run(given).expect("runs");
    for (i, row) in rows.chunks(WIDTH).enumerate() {
        let (mut z, mut filled) = (Vec::new(), Vec::new());
        m.normaliser.apply(row, present(i), &mut z);
        m.normaliser.fill(row, present(i), &mut filled);
        let (score, expected_errors) = m.net.score(&z, present(i));
        let expected = [score, m.forest.score(&filled)];
        let got = [scores[i].autoencoder, scores[i].isolation_forest].map(f64::from);
        for (e, g) in expected.into_iter().zip(got) {
            assert!((e - g).abs() <= 1e-5 * e.max(1.0), "row {i}: {g} instead of {e}");
        }
        let errors = models.errors(RawRow { features: row, present: present(i) }).expect("runs");
        for (j, (e, g)) in expected_errors.into_iter().zip(errors.iter().map(|v| f64::from(*v))).enumerate() {
            assert!((e - g).abs() <= 1e-4 * e.max(1.0), "row {i}, feature {j}: an error of {g} instead of {e}");
            assert!(present(i) >> j & 1 == 1 || g == 0.0, "a missing value has an error");
        }
    }
}

/// The graph in plain operators, as others run it, and with our own operator in their place.
#[test]
fn the_operator_for_all_parts_gives_what_the_plain_ones_give() {
    let m = made();
    let file = export_autoencoder(&m.normaliser, &m.net);
    let graph = parse(&file, WIDTH, &[OUTPUT_SCORE, OUTPUT_ERRORS]).expect("our own file");
    let operators =
        |p: &ModelProto| -> Vec<String> { p.graph.iter().flat_map(|g| &g.node).map(|n| n.op_type.clone()).collect() };
    let mut score = only(&graph.proto, &[OUTPUT_SCORE]);
    assert!(!operators(&score).contains(&"LessOrEqual".to_owned()), "what only errors need is left out");
    fuse(&mut score);
    assert_eq!(operators(&score).last().map(String::as_str), Some(crate::parts::OPERATOR));
    let mut all = only(&graph.proto, &[OUTPUT_SCORE, OUTPUT_ERRORS]);
    let before = all.clone();
    fuse(&mut all);
    assert_eq!(all, before, "steps whose results are wanted otherwise stay");
    let fused = Runner::new(&graph, &[(OUTPUT_SCORE, 1)], &m.normaliser.fill).expect("compiles");
    let both = [(OUTPUT_SCORE, 1), (OUTPUT_ERRORS, WIDTH)];
    let plain = Runner::new(&graph, &both, &m.normaliser.fill).expect("compiles");
    let present: Vec<f32> = (0..m.rows.len()).map(|i| if i % 11 == 0 { 0.0 } else { 1.0 }).collect();
    let fused = fused.run(&m.rows, &present).expect("runs");
    let plain = plain.run(&m.rows, &present).expect("runs");
    for (f, p) in fused[0].iter().zip(&plain[0]) {
        assert!((f - p).abs() <= 1e-5 * p.max(1.0), "{f} instead of {p}");
    }
    // A foreign graph that looks like it in part is left alone.
    for spoil in [
        (|g| g.node.iter_mut().find(|n| n.op_type == "ReduceMin").expect("a step").op_type = "ReduceMax".into())
            as fn(&mut GraphProto),
        |g| g.node.iter_mut().find(|n| n.op_type == "ReduceSum").expect("a step").attribute[0].i = 1,
        |g| g.initializer.iter_mut().find(|t| t.name == "by_part").expect("a shape").raw_data[16] = 2,
        |g| g.node.iter_mut().find(|n| n.output[0] == "squared").expect("a step").input[1] = "normalised".into(),
    ] {
        let mut other = only(&graph.proto, &[OUTPUT_SCORE]);
        spoil(other.graph.as_mut().expect("a graph"));
        let before = other.clone();
        fuse(&mut other);
        assert_eq!(other, before);
    }
}

#[test]
fn paths_point_at_the_feature_that_isolates() {
    let m = made();
    let files = [export_autoencoder(&m.normaliser, &m.net), export_forest(&m.normaliser, &m.forest)];
    let (models, _) = ProfileModels::compile(("a", &files[0]), ("f", &files[1]), &m.normaliser.fill).expect("compiles");
    let mut row = m.normaliser.fill.clone();
    row[5] = 1e5;
    let shortening = models.shortening(RawRow { features: &row, present: u64::MAX }).expect("our own forest has paths");
    let largest = (0..WIDTH).max_by(|a, b| shortening[*a].total_cmp(&shortening[*b]));
    assert_eq!(largest, Some(5), "{shortening:?}");
}

/// Our forest's file, changed.
fn crafted(change: impl FnOnce(&mut GraphProto)) -> Vec<u8> {
    let m = made();
    let mut proto = ModelProto::decode(&*export_forest(&m.normaliser, &m.forest)).expect("our own file");
    change(proto.graph.as_mut().expect("a graph"));
    proto.encode_to_vec()
}

fn refusal(change: impl FnOnce(&mut GraphProto)) -> String {
    match parse(&crafted(change), WIDTH, &[OUTPUT_SCORE]) {
        Err(e) => e.to_string(),
        Ok(graph) => match Runner::new(&graph, &[(OUTPUT_SCORE, 1)], &[0.0; WIDTH]) {
            Err(e) => e.to_string(),
            Ok(_) => panic!("a crafted graph was accepted"),
        },
    }
}

fn trees(g: &mut GraphProto) -> &mut NodeProto {
    g.node.iter_mut().find(|n| n.op_type == "TreeEnsembleRegressor").expect("the forest")
}
fn attribute<'a>(g: &'a mut GraphProto, name: &str) -> &'a mut AttributeProto {
    trees(g).attribute.iter_mut().find(|a| a.name == name).expect("an attribute")
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is missing in: {message}");
    }
}

#[test]
fn crafted_graphs_are_refused() {
    says(&refusal(|g| g.output[0].name = "other".into()), &["other", "made by no node"]);
    says(&refusal(|g| g.output.clear()), &["outputs", "score"]);
    says(&refusal(|g| g.input[0].name = "x".into()), &["reads `features`"]);
    says(&refusal(|g| g.input.truncate(1)), &["reads `present`"]);
    says(&refusal(|g| g.node.reverse()), &["nothing before it makes"]);
    says(&refusal(|g| g.node[0].input[0] = "score".into()), &["reads `score`"]);
    says(&refusal(|g| g.node[1].output[0] = "is_present".into()), &["is_present", "twice"]);
    says(&refusal(|g| g.node[0].op_type = "Loop".into()), &["`Loop`", "not supported"]);
    says(&refusal(|g| g.node[0].op_type = "TreeEnsembleClassifier".into()), &["two labels"]);
    says(
        &refusal(|g| {
            let body = AttributeProto { name: "body".into(), g: Some(GraphProto::default()), ..Default::default() };
            g.node[0].attribute.push(body);
        }),
        &["subgraph"],
    );
    let tensor = |g: &mut GraphProto, f: fn(&mut TensorProto)| f(&mut g.initializer[0]);
    says(&refusal(|g| tensor(g, |t| t.dims = vec![1 << 40, 1 << 40])), &["half", "fits in memory"]);
    says(&refusal(|g| tensor(g, |t| t.dims = vec![-1])), &["half", "[-1]"]);
    says(&refusal(|g| tensor(g, |t| t.dims = vec![1_000_000])), &["half", "4000000 bytes", "has 4"]);
    says(&refusal(|g| tensor(g, |t| t.data_type = 8)), &["half", "STRING"]);
    says(&refusal(|g| tensor(g, |t| t.data_type = 99)), &["half"]);
    let outside = |t: &mut TensorProto| {
        t.external_data = vec![StringStringEntryProto { key: "location".into(), value: "secrets".into() }];
    };
    says(&refusal(|g| tensor(g, outside)), &["half", "another file"]);
}

#[test]
fn crafted_forests_are_refused() {
    says(&refusal(|g| attribute(g, "nodes_truenodeids").ints[0] = 0), &["tree 0", "cycle"]);
    says(&refusal(|g| attribute(g, "nodes_falsenodeids").ints[0] = 1 << 40), &["tree 0", "child 1099511627776"]);
    says(&refusal(|g| attribute(g, "nodes_values").floats[0] = f32::NAN), &["threshold", "NaN"]);
    says(&refusal(|g| shorten(&mut attribute(g, "nodes_values").floats)), &["nodes_values", "entries"]);
    says(&refusal(|g| attribute(g, "nodes_featureids").ints[0] = 1000), &["reads feature 1000", "6 columns"]);
    says(
        &refusal(|g| attribute(g, "nodes_modes").strings[0] = b"BRANCH_MEMBER".to_vec()),
        &["BRANCH_MEMBER", "BRANCH_EQ"],
    );
    says(&refusal(|g| attribute(g, "nodes_modes").strings[0] = vec![0xff; 3]), &["nodes_modes"]);
    says(&refusal(|g| attribute(g, "n_targets").i = 1 << 60), &["1152921504606846976 targets", "1024"]);
    says(&refusal(|g| attribute(g, "target_ids").ints[0] = 7), &["target 7", "0..1"]);
    says(&refusal(|g| attribute(g, "target_nodeids").ints[0] = -9), &["node -9", "no leaf"]);
    says(&refusal(|g| attribute(g, "aggregate_function").s = b"MEDIAN".to_vec()), &["MEDIAN", "SUM, AVERAGE"]);
    says(&refusal(|g| attribute(g, "post_transform").s = b"PROBIT".to_vec()), &["PROBIT", "NONE"]);
    says(
        &refusal(|g| attribute(g, "nodes_values").name = "nodes_values_as_tensor".into()),
        &["nodes_values_as_tensor"],
    );
    says(&refusal(|g| trees(g).attribute.clear()), &["without nodes"]);
    says(&refusal(|g| trees(g).input.push("features".into())), &["does not compile"]);
}

#[test]
fn a_model_without_presence_gets_missing_values_filled() {
    let m = made();
    let whole = crafted(|_| {});
    let bare = crafted(|g| {
        g.input.truncate(1);
        g.node.drain(..2);
        trees(g).input[0] = INPUT_FEATURES.into();
    });
    let [whole, bare] = [whole, bare].map(|bytes| {
        let graph = parse(&bytes, WIDTH, &[OUTPUT_SCORE]).expect("a fine graph");
        Runner::new(&graph, &[(OUTPUT_SCORE, 1)], &m.normaliser.fill).expect("compiles")
    });
    let present: Vec<f32> = (0..m.rows.len()).map(|i| if i % 7 == 0 { 0.0 } else { 1.0 }).collect();
    assert_eq!(whole.run(&m.rows, &present), bare.run(&m.rows, &present));
}

#[test]
fn outputs_of_another_shape_or_not_finite_are_errors() {
    let m = made();
    let error = |bytes: Vec<u8>| {
        let graph = parse(&bytes, WIDTH, &[OUTPUT_SCORE]).expect("a fine graph");
        let runner = Runner::new(&graph, &[(OUTPUT_SCORE, 1)], &m.normaliser.fill).expect("compiles");
        runner.run(&m.rows, &vec![1.0; m.rows.len()]).expect_err("no scores").to_string()
    };
    let wide = crafted(|g| g.output[0].name = FILLED.into());
    let graph = parse(&wide, WIDTH, &[FILLED]).expect("a fine graph");
    let runner = Runner::new(&graph, &[(FILLED, 1)], &m.normaliser.fill).expect("compiles");
    let wide = runner.run(&m.rows[..WIDTH], &[1.0; WIDTH]).expect_err("no scores").to_string();
    says(&wide, &["[1, 6]", "[1, 1]"]);
    let nan = crafted(|g| {
        let log = g.node.len() - 1;
        g.node[log].op_type = "Log".into();
        g.node[log].input = vec!["exponent".into()];
    });
    says(&error(nan), &["`score` is NaN for row 0"]);
}

#[test]
fn flipped_bytes_never_panic_or_hang() {
    let m = made();
    let mut rng = Rng::new(9, "flips");
    for file in [export_autoencoder(&m.normaliser, &m.net), export_forest(&m.normaliser, &m.forest)] {
        for _ in 0..150 {
            let mut bytes = file.clone();
            for _ in 0..1 + rng.below(3) {
                // Half of the flips hit the first kilobyte, where the structure is.
                let reach = if rng.below(2) == 0 { 1024 } else { bytes.len() };
                let at = rng.below(reach);
                bytes[at] = rng.next() as u8;
            }
            let Ok(graph) = parse(&bytes, WIDTH, &[OUTPUT_SCORE]) else { continue };
            if let Ok(runner) = Runner::new(&graph, &[(OUTPUT_SCORE, 1)], &m.normaliser.fill) {
                let present = vec![1.0; m.rows.len()];
                if let Ok(out) = runner.run(&m.rows, &present) {
                    assert!(out[0].iter().all(|v| v.is_finite()));
                }
            }
        }
    }
}

#[test]
fn label_encoders_look_numbers_up() {
    let ints = |name: &str, ints: Vec<i64>| AttributeProto { name: name.into(), ints, ..Default::default() };
    let floats = |name: &str, floats: Vec<f32>| AttributeProto { name: name.into(), floats, ..Default::default() };
    let encoder = |attribute: Vec<AttributeProto>| {
        crafted(move |g| {
            let node = |op: &str, input: &str, output: &str, attribute| NodeProto {
                op_type: op.into(),
                name: output.into(),
                input: vec![input.into()],
                output: vec![output.into()],
                attribute,
                ..Default::default()
            };
            g.node.pop();
            g.node.push(node("Floor", "path_lengths", "floor", vec![]));
            let to = AttributeProto { name: "to".into(), i: 7, r#type: 2, ..Default::default() };
            g.node.push(node("Cast", "floor", "key", vec![to]));
            g.node.push(node("LabelEncoder", "key", OUTPUT_SCORE, attribute));
        })
    };
    let compile = |bytes: &[u8]| {
        let graph = parse(bytes, WIDTH, &[OUTPUT_SCORE]).expect("a fine graph");
        Runner::new(&graph, &[(OUTPUT_SCORE, 1)], &[0.0; WIDTH])
    };
    let m = made();
    let lengths =
        parse(&crafted(|g| g.output[0].name = "path_lengths".into()), WIDTH, &["path_lengths"]).expect("fine");
    let lengths = Runner::new(&lengths, &[("path_lengths", 1)], &[0.0; WIDTH]).expect("compiles");
    let present = vec![1.0; m.rows.len()];
    let lengths = lengths.run(&m.rows, &present).expect("runs").swap_remove(0);
    let known = lengths[0].floor() as i64;
    let fallback = AttributeProto { name: "default_float".into(), f: 0.25, ..Default::default() };
    let table = vec![ints("keys_int64s", vec![known]), floats("values_floats", vec![0.75]), fallback];
    let got = compile(&encoder(table)).expect("compiles").run(&m.rows, &present).expect("runs").swap_remove(0);
    for (got, length) in got.iter().zip(lengths) {
        assert_eq!(*got, if length.floor() as i64 == known { 0.75 } else { 0.25 });
    }
    for (attributes, words) in [
        (vec![ints("keys_int64s", vec![1, 2]), floats("values_floats", vec![0.5])], "2 keys and 1 values"),
        (vec![floats("values_floats", vec![0.5])], "exactly one of `keys_floats`"),
        (vec![ints("keys_int64s", vec![1])], "exactly one of `values_floats`"),
        (vec![ints("keys_strings", vec![1])], "`keys_strings` is not supported"),
        (vec![floats("keys_floats", vec![1.0]), floats("values_floats", vec![0.5])], "F32 keys"),
    ] {
        says(&compile(&encoder(attributes)).expect_err("refused").to_string(), &[words]);
    }
}

fn shorten<T>(list: &mut Vec<T>) {
    list.truncate(list.len() - 1);
}

/// A `TreeEnsemble` of one comparison, `features[1] <= 0.5 ? 1 : 2`, in place of our forest.
fn version_5(change: impl FnOnce(&mut Vec<AttributeProto>)) -> Vec<u8> {
    let ints =
        |name: &str, ints: &[i64]| AttributeProto { name: name.into(), ints: ints.to_vec(), ..Default::default() };
    let tensor = |name: &str, data_type: i32, raw: &[u8], n: i64| {
        let t = TensorProto { dims: vec![n], data_type, raw_data: raw.to_vec(), ..Default::default() };
        AttributeProto { name: name.into(), t: Some(t), ..Default::default() }
    };
    let floats = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut attributes = vec![
        ints("tree_roots", &[0]),
        ints("nodes_featureids", &[1]),
        ints("nodes_truenodeids", &[0]),
        ints("nodes_falsenodeids", &[1]),
        ints("nodes_trueleafs", &[1]),
        ints("nodes_falseleafs", &[1]),
        ints("leaf_targetids", &[0, 0]),
        tensor("nodes_modes", 2, &[0], 1),
        tensor("nodes_splits", 1, &floats(&[0.5]), 1),
        tensor("leaf_weights", 1, &floats(&[1.0, 2.0]), 2),
    ];
    change(&mut attributes);
    crafted(move |g| {
        trees(g).attribute = attributes;
        trees(g).op_type = "TreeEnsemble".into();
    })
}

#[test]
fn crafted_ensembles_of_version_5_are_refused() {
    let compile = |bytes: &[u8]| match parse(bytes, WIDTH, &[OUTPUT_SCORE]) {
        Err(e) => Err(e.to_string()),
        Ok(graph) => Runner::new(&graph, &[(OUTPUT_SCORE, 1)], &[0.0; WIDTH]).map_err(|e| e.to_string()),
    };
    compile(&version_5(|_| ())).expect("a proper ensemble compiles");
    let refusal = |f: fn(&mut Vec<AttributeProto>)| compile(&version_5(f)).expect_err("refused");
    // A comparison that leads back to itself.
    says(&refusal(|a| a[4].ints[0] = 0), &["node 0", "more than one node"]);
    says(&refusal(|a| a[0].ints = vec![0, 0]), &["node 0", "more than one node"]);
    says(&refusal(|a| a[0].ints[0] = -1), &["child -1"]);
    says(&refusal(|a| a[0].ints[0] = 1 << 40), &["child 1099511627776"]);
    says(&refusal(|a| a[3].ints[0] = 2), &["child 2"]);
    says(&refusal(|a| a[6].ints[0] = 1), &["target 1", "0..1"]);
    says(&refusal(|a| a[1].ints[0] = 1000), &["reads feature 1000"]);
    says(&refusal(|a| a[1].ints.clear()), &["entries"]);
    says(&refusal(|a| a[0].ints.clear()), &["without nodes"]);
    says(&refusal(|a| a[7].t.as_mut().expect("modes").raw_data[0] = 6), &["BRANCH_MEMBER"]);
    says(&refusal(|a| a[8].t.as_mut().expect("splits").raw_data = f32::NAN.to_le_bytes().to_vec()), &["NaN"]);
    says(&refusal(|a| a[8].t.as_mut().expect("splits").data_type = 6), &["nodes_splits", "INT32"]);
    says(&refusal(|a| a[9].t.as_mut().expect("weights").raw_data.truncate(4)), &["4", "8 bytes"]);
}
