//! Models that no agent should serve, written byte by byte: ONNX as its protobuf definition has it (onnx.proto3).
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};

use super::{ok, run, str};

/// A protobuf message being written.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.0.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.0.push(v as u8);
    }
    fn int(mut self, field: u64, v: i64) -> Self {
        self.varint(field << 3);
        self.varint(v as u64);
        self
    }
    fn bytes(mut self, field: u64, v: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(v.len() as u64);
        self.0.extend_from_slice(v);
        self
    }
    fn text(self, field: u64, v: &str) -> Self {
        self.bytes(field, v.as_bytes())
    }
    fn message(self, field: u64, m: Message) -> Self {
        self.bytes(field, &m.0)
    }
}

fn tensor(name: &str, kind: i64, dims: &[i64], raw: Vec<u8>) -> Message {
    let shape = dims.iter().fold(Message::default(), |m, d| m.int(1, *d));
    shape.int(2, kind).text(8, name).bytes(9, &raw)
}
fn floats(name: &str, dims: &[i64], values: &[f32]) -> Message {
    tensor(name, 1, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}
fn ints(name: &str, values: &[i64]) -> Message {
    tensor(name, 7, &[values.len() as i64], values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn node(op: &str, inputs: &[&str], output: &str) -> Message {
    let m = inputs.iter().fold(Message::default(), |m, i| m.text(1, i));
    m.text(2, output).text(3, output).text(4, op)
}

/// `features`, `present`, `score`, ...: float32 [N, columns].
fn value(name: &str, columns: usize) -> Message {
    let dims = Message::default()
        .message(1, Message::default().text(2, "N"))
        .message(1, Message::default().int(1, columns as i64));
    let kind = Message::default().int(1, 1).message(2, dims);
    Message::default().text(1, name).message(2, Message::default().message(1, kind))
}

fn model(nodes: Vec<Message>, constants: Vec<Message>, inputs: Vec<Message>, outputs: Vec<Message>) -> Vec<u8> {
    let mut graph = nodes.into_iter().fold(Message::default(), |g, n| g.message(1, n)).text(2, "crafted");
    for (field, all) in [(5, constants), (11, inputs), (12, outputs)] {
        graph = all.into_iter().fold(graph, |g, m| g.message(field, m));
    }
    let sets = [("", 17), ("ai.onnx.ml", 3)].map(|(domain, v)| Message::default().text(1, domain).int(2, v));
    let model = Message::default().int(1, 8).message(7, graph);
    sets.into_iter().fold(model, |m, s| m.message(8, s)).0
}

fn autoencoder(width: usize, nodes: Vec<Message>, constants: Vec<Message>) -> Vec<u8> {
    model(nodes, constants, vec![value("features", width)], vec![value("score", 1), value("feature_errors", width)])
}

/// Whatever goes in, no number comes out.
pub fn giving_nan(width: usize) -> Vec<u8> {
    let wide = width as i64;
    let nan = floats("nan", &[1, wide], &vec![f32::NAN; width]);
    let ones = floats("ones", &[wide, 1], &vec![1.0; width]);
    let nodes =
        vec![node("Mul", &["features", "nan"], "feature_errors"), node("MatMul", &["feature_errors", "ones"], "score")];
    autoencoder(width, nodes, vec![nan, ones])
}

/// Thousands of millions of hyperbolic tangents for each row.
pub fn endless(width: usize) -> Vec<u8> {
    const EACH: usize = 20_000;
    let constants =
        vec![ints("last", &[2]), ints("columns", &[1]), floats("spread", &[1, 1, EACH as i64], &vec![0.5; EACH])];
    let mut nodes = vec![node("Unsqueeze", &["features", "last"], "deep"), node("Add", &["deep", "spread"], "t0")];
    for i in 0..2_000 {
        nodes.push(node("Tanh", &[&format!("t{i}")], &format!("t{}", i + 1)));
    }
    // Reduced without keeping the axis.
    let keep = Message::default().text(1, "keepdims").int(3, 0).int(20, 2);
    nodes.push(node("ReduceSum", &["t2000", "last"], "feature_errors").message(5, keep));
    nodes.push(node("ReduceSum", &["feature_errors", "columns"], "score"));
    autoencoder(width, nodes, constants)
}

/// Every row by itself takes more memory than there may be.
pub fn greedy(width: usize) -> Vec<u8> {
    const EACH: usize = 1_000_000;
    let constants =
        vec![ints("last", &[2]), ints("columns", &[1]), floats("spread", &[1, 1, EACH as i64], &vec![0.5; EACH])];
    let keep = Message::default().text(1, "keepdims").int(3, 0).int(20, 2);
    let nodes = vec![
        node("Unsqueeze", &["features", "last"], "deep"),
        node("Add", &["deep", "spread"], "wide"),
        node("ReduceSum", &["wide", "last"], "feature_errors").message(5, keep),
        node("ReduceSum", &["feature_errors", "columns"], "score"),
    ];
    autoencoder(width, nodes, constants)
}

/// A tree of one test whose child on the true side is `child`: 0 is a cycle, and there are three nodes.
pub fn tree(width: usize, child: i64) -> Vec<u8> {
    let list = |name: &str, values: &[i64]| {
        values.iter().fold(Message::default().text(1, name), |m, v| m.int(8, *v)).int(20, 7)
    };
    let numbers = |name: &str, values: &[f32]| {
        let packed: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Message::default().text(1, name).bytes(7, &packed).int(20, 6)
    };
    let words = |name: &str, values: &[&str]| {
        values.iter().fold(Message::default().text(1, name), |m, v| m.text(9, v)).int(20, 8)
    };
    let trees = [
        list("nodes_treeids", &[0, 0, 0]),
        list("nodes_nodeids", &[0, 1, 2]),
        list("nodes_featureids", &[0, 0, 0]),
        words("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        numbers("nodes_values", &[1.0, 0.0, 0.0]),
        list("nodes_truenodeids", &[child, 0, 0]),
        list("nodes_falsenodeids", &[2, 0, 0]),
        list("target_treeids", &[0, 0]),
        list("target_nodeids", &[1, 2]),
        list("target_ids", &[0, 0]),
        numbers("target_weights", &[1.0, 2.0]),
        Message::default().text(1, "n_targets").int(3, 1).int(20, 2),
    ];
    let ensemble = node("TreeEnsembleRegressor", &["features"], "score").text(7, "ai.onnx.ml");
    let ensemble = trees.into_iter().fold(ensemble, |n, a| n.message(5, a));
    model(vec![ensemble], Vec::new(), vec![value("features", width)], vec![value("score", 1)])
}

/// A copy of a bundle.
pub fn copy(bundle: &Path, to: PathBuf) -> PathBuf {
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(bundle).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to
}

/// Changes the text of the manifest.
pub fn edit(bundle: &Path, change: impl FnOnce(String) -> String) {
    let path = bundle.join("manifest.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let new = change(text.clone());
    assert_ne!(text, new, "the edit changed nothing");
    std::fs::write(path, new).unwrap();
}

/// No evidence is ever enough for an alert.
pub fn deafen(bundle: &Path) {
    edit(bundle, |t| {
        let lines = t.lines().map(|l| match l.split_once(": ") {
            Some((key @ ("  alert" | "  drop"), _)) => format!("{key}: 1000000.0\n"),
            _ => format!("{l}\n"),
        });
        lines.collect()
    });
}

/// Puts another model into a bundle, with the hash that the manifest then needs.
pub fn replace(bundle: &Path, file: &str, bytes: &[u8]) {
    std::fs::write(bundle.join(file), bytes).unwrap();
    let found: serde_json::Value =
        serde_json::from_str(&ok(&run(&["model", "inspect", str(bundle), "-o", "json"]))).unwrap();
    let profiles = found["profiles"].as_array().unwrap().iter();
    let models = profiles.flat_map(|p| p["models"].as_array().unwrap());
    let model = models.into_iter().find(|m| m["file"] == file).unwrap();
    let (old, problem) = (model["sha256"].as_str().unwrap(), model["problem"].as_str().unwrap());
    let new = problem.split_whitespace().nth(3).unwrap().trim_end_matches(',');
    assert!(new.len() == 64, "{problem}");
    edit(bundle, |text| text.replace(old, new));
}

/// What it is, how a copy of a good bundle becomes one, and what is said of it.
pub type Refused = (&'static str, Box<dyn Fn(&Path)>, &'static [&'static str]);

/// Every class of bundle that is refused.
pub fn refused() -> Vec<Refused> {
    const AUTOENCODER: &str = "core.autoencoder.onnx";
    const FOREST: &str = "core.isolation_forest.onnx";
    const WIDTH: usize = 16;
    vec![
        (
            "corrupt",
            Box::new(|b| {
                let path = b.join(AUTOENCODER);
                let mut bytes = std::fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(path, bytes).unwrap();
            }),
            &[AUTOENCODER, "SHA-256", "changed"],
        ),
        ("looping", Box::new(|b| replace(b, FOREST, &tree(WIDTH, 0))), &[FOREST, "cycle"]),
        ("endless", Box::new(|b| replace(b, AUTOENCODER, &endless(WIDTH))), &["more than 3 s"]),
        ("out of bounds", Box::new(|b| replace(b, FOREST, &tree(WIDTH, 1 << 40))), &[FOREST, "child 1099511627776"]),
        ("NaN", Box::new(|b| replace(b, AUTOENCODER, &giving_nan(WIDTH))), &[AUTOENCODER, "NaN", "finite"]),
        ("greedy", Box::new(|b| replace(b, AUTOENCODER, &greedy(WIDTH))), &["at most 2048 MiB of memory"]),
        (
            "huge",
            Box::new(|b| {
                let file = std::fs::File::options().write(true).open(b.join(AUTOENCODER)).unwrap();
                file.set_len((64 << 20) + 1).unwrap();
            }),
            &[AUTOENCODER, "67108865 bytes", "at most 67108864"],
        ),
        (
            "foreign",
            Box::new(|b| replace(b, AUTOENCODER, &std::fs::read(b.join("source.autoencoder.onnx")).unwrap())),
            &[AUTOENCODER, "[N, 18]", "[N, 16]"],
        ),
        (
            "no manifest",
            Box::new(|b| std::fs::remove_file(b.join("manifest.yaml")).unwrap()),
            &["manifest.yaml", "No such file"],
        ),
        (
            "another version",
            Box::new(|b| edit(b, |t| t.replace("bundle_version: 2", "bundle_version: 9"))),
            &["version 9", "version 2", "train"],
        ),
    ]
}
