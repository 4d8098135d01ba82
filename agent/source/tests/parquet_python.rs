//! Parquet of `weir flows` is Parquet as others understand it: pandas, polars and DuckDB read it with its types, and what they
//! write from it reads back.
//!
//! Needs Python with the packages of `models/python/requirements.txt`: `WEIR_PYTHON`, or `venv/bin/python` in the target directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use weir_common::flow::{FlowKey, FlowStats, Packet};
use weir_core::table::TableConfig;
use weir_source::write::{Form, Row, Shape, writer};
use weir_source::{Flows, Input, Observation, Options, Sink};

const START: u64 = 1_735_689_600_000_000;

fn python() -> Result<PathBuf, String> {
    if let Some(p) = std::env::var_os("WEIR_PYTHON") {
        return Ok(p.into());
    }
    // target/debug/deps/this-test
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let target = exe.ancestors().nth(3).ok_or("the target directory cannot be told from the test's own path")?;
    let python = target.join("venv/bin/python");
    if python.exists() {
        Ok(python)
    } else {
        Err(format!("{} does not exist and WEIR_PYTHON is not set", python.display()))
    }
}

/// Flows as the flow table makes them, every third to port 443 and the others to 53; every fifth has a label.
fn flows() -> Vec<Observation> {
    let mut all = Vec::new();
    let mut table = Flows::new(TableConfig::default(), false, |flow| {
        all.push(flow);
        Ok(())
    });
    let mut drained = (0..90_u16)
        .map(|n| {
            let mut stats = FlowStats::EMPTY;
            for i in 0..u64::from(n % 7 + 1) {
                stats.update(&Packet {
                    now_us: START + u64::from(n) * 1000 + i * 100,
                    dir: (1 - i % 2) as u32,
                    segs: 1,
                    seg_len: 100 + u32::from(n),
                    last_len: 100 + u32::from(n),
                    payload: 50,
                    ..Packet::default()
                });
            }
            let key = FlowKey {
                addr_a: weir_common::flow::v4_mapped([10, 0, 0, 1]),
                addr_b: weir_common::flow::v4_mapped([192, 0, 2, n as u8]),
                port_a: if n % 3 == 0 { 443 } else { 53 },
                port_b: 40_000 + n,
                proto: 17,
                family: 4,
                ..FlowKey::default()
            };
            (key, stats)
        })
        .collect();
    table.epoch(START + 1_000_000, &mut drained).unwrap();
    table.end().unwrap();
    drop(table);
    for (i, flow) in all.iter_mut().enumerate() {
        flow.label = (i % 5 == 0).then(|| if i % 2 == 0 { "Benign".into() } else { "Bot, or so".into() });
    }
    all
}

fn read(path: &Path) -> Vec<Observation> {
    struct Kept(Vec<Observation>);
    impl Sink for Kept {
        fn epoch(&mut self, _: u64, _: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), weir_source::Stop> {
            panic!("flows come as flows");
        }
        fn flow(&mut self, flow: Observation) -> Result<(), weir_source::Stop> {
            self.0.push(flow);
            Ok(())
        }
        fn end(&mut self) -> Result<(), weir_source::Stop> {
            Ok(())
        }
    }
    let mut kept = Kept(Vec::new());
    let options = Options::default();
    let (report, result) = Input::open(path, &options).unwrap().read(&options, &mut kept);
    assert!(result.is_ok() && report.left_out.is_empty(), "{}: {result:?}, {report:?}", path.display());
    kept.0
}

#[test]
fn pandas_polars_and_duckdb_read_it_with_its_types_and_what_they_write_reads_back() {
    let skip = |why: String| eprintln!("SKIP parquet_python: {why}");
    let python = match python() {
        Ok(p) => p,
        Err(why) => return skip(why),
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flows.parquet");
    let flows = flows();
    assert_eq!(flows.len(), 90);
    let mut out = writer(Form::Parquet, Shape::default(), std::fs::File::create(&file).unwrap()).unwrap();
    for flow in &flows {
        out.write(&Row { flow, anomaly: None, anomaly_p: 0.0 }).unwrap();
    }
    out.finish().unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/check_parquet.py");
    let run = match Command::new(&python).arg(script).arg(&file).arg(dir.path()).output() {
        Ok(run) => run,
        Err(e) => return skip(format!("{} does not run: {e}", python.display())),
    };
    let stderr = String::from_utf8_lossy(&run.stderr);
    if run.status.code() == Some(3) {
        return skip(format!("{} lacks packages: {}", python.display(), stderr.trim()));
    }
    assert!(run.status.success(), "{stderr}");

    let bytes: u64 = flows.iter().map(|f| f.record.fwd.bytes).sum();
    let said: Vec<serde_json::Value> =
        String::from_utf8_lossy(&run.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let types = [
        [
            "timestamp[us, tz=UTC][pyarrow]",
            "uint16[pyarrow]",
            "uint8[pyarrow]",
            "uint64[pyarrow]",
            "bool[pyarrow]",
            "string[pyarrow]",
        ],
        ["Datetime(time_unit='us', time_zone='UTC')", "UInt16", "UInt8", "UInt64", "Boolean", "String"],
        ["TIMESTAMP WITH TIME ZONE", "USMALLINT", "UTINYINT", "UBIGINT", "BOOLEAN", "VARCHAR"],
    ];
    let https: Vec<_> = flows.iter().filter(|f| f.record.server_port == 443).cloned().collect();
    assert_eq!(https.len(), 30);
    for ((tool, types), said) in ["pandas", "polars", "duckdb"].into_iter().zip(types).zip(&said) {
        assert_eq!(said["tool"], tool);
        assert_eq!((said["rows"].as_u64(), said["bytes"].as_u64()), (Some(90), Some(bytes)), "{said}");
        let found: Vec<_> = said["types"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
        assert_eq!(found, types, "{tool}");
        assert_eq!(said["labels"], 2, "{said}");
        let first = &said["first"];
        assert!(*first == "2025-01-01T00:00:00+00:00" || *first == START, "{said}");
        let back = read(&dir.path().join(format!("{tool}.parquet")));
        assert!(back == https, "{tool}: {} of {} flows", back.len(), https.len());
    }
}
