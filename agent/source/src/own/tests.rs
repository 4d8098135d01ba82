use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::report::SourceError;
use crate::testkit::{Kept, flows, observation, plain, read_back};
use crate::write::Form;
use crate::{Input, Observation, Stop};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn json_reads_back_as_it_was(all in proptest::collection::vec(observation(), 1..6)) {
        let (back, report, result) = read_back(&flows(Form::Json, &all));
        prop_assert!(result.is_ok(), "{result:?}");
        prop_assert_eq!(&back, &all);
        prop_assert_eq!((report.flows, report.left_out.len()), (all.len() as u64, 0));
    }
}
proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn parquet_reads_back_as_it_was(all in proptest::collection::vec(observation(), 0..40)) {
        let (back, report, result) = read_back(&flows(Form::Parquet, &all));
        prop_assert!(result.is_ok(), "{result:?}");
        prop_assert_eq!(&back, &all);
        prop_assert_eq!(report.flows, all.len() as u64);
    }

    #[test]
    fn damaged_parquet_gives_an_error_or_whole_rows(at: prop::sample::Index, with: u8, cut: Option<prop::sample::Index>) {
        let all: Vec<_> = (1..50).map(plain).collect();
        let mut bytes = flows(Form::Parquet, &all);
        let n = bytes.len();
        bytes[at.index(n)] ^= with;
        if let Some(cut) = cut {
            bytes.truncate(cut.index(n));
        }
        let (back, _, _) = read_back(&bytes);
        prop_assert!(back.len() <= all.len());
    }
}

#[test]
fn many_row_groups_are_one_file() {
    let all: Vec<_> = (1..150_000).map(plain).collect();
    let bytes = flows(Form::Parquet, &all);
    let (back, _, result) = read_back(&bytes);
    assert!(result.is_ok(), "{result:?}");
    assert!(back == all, "{} of {} flows", back.len(), all.len());
}

#[test]
fn a_file_is_read_where_it_lies_and_a_compressed_one_too() {
    let all: Vec<_> = (1..9).map(plain).collect();
    let dir = tempfile::tempdir().unwrap();
    for form in [Form::Json, Form::Parquet] {
        let bytes = flows(form, &all);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&bytes).unwrap();
        for contents in [&bytes, &gz.finish().unwrap(), &zstd::encode_all(bytes.as_slice(), 1).unwrap()] {
            let path = dir.path().join("input");
            std::fs::write(&path, contents).unwrap();
            let mut kept = Kept::default();
            let options = Options::default();
            let (_, result) = Input::open(&path, &options).unwrap().read(&options, &mut kept);
            assert!(result.is_ok(), "{result:?}");
            assert_eq!(kept.0, all);
        }
    }
}

#[test]
fn json_cut_short_gives_what_was_whole_and_says_so() {
    let all: Vec<_> = (1..4).map(plain).collect();
    let bytes = flows(Form::Json, &all);
    let (back, report, result) = read_back(&bytes[..bytes.len() - 20]);
    assert!(result.is_ok());
    assert_eq!(back, all[..2]);
    assert!(report.truncated && report.warnings == ["line 3 is cut short"], "{report:?}");

    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let many: Vec<_> = (1..20_000).map(plain).collect();
    gz.write_all(&flows(Form::Json, &many)).unwrap();
    let gz = gz.finish().unwrap();
    let (back, report, result) = read_back(&gz[..gz.len() * 3 / 4]);
    assert!(result.is_ok(), "{result:?}");
    assert!(!back.is_empty() && back == many[..back.len()] && report.truncated, "{report:?}");
}

#[test]
fn other_lines_are_left_out_by_reason() {
    let mut bytes = flows(Form::Json, &[plain(1)]);
    let whole = String::from_utf8(bytes.clone()).unwrap();
    for line in [
        r#"{"event_type":"alert","weir":{}}"#.to_owned(),
        "no JSON".into(),
        whole.trim_end().replace("192.0.2.7", "192.0.2.777"),
        whole.trim_end().replace(r#""state":"closed""#, r#""state":"shut""#),
        whole.trim_end().replace(r#""packets":3"#, r#""gap_min":4294967296"#),
    ] {
        assert!(!whole.contains(&line), "{line}");
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    }
    let (back, report, result) = read_back(&bytes);
    assert!(result.is_ok() && back == [plain(1)], "{result:?}");
    let left_out: Vec<_> = report.left_out.into_iter().collect();
    assert_eq!(
        left_out,
        [
            ("flow with an address that is none", 1),
            ("flow with an unknown state", 1),
            ("line that is no flow of Weir", 3),
        ]
    );
}

#[test]
fn another_version_is_refused() {
    let text = String::from_utf8(flows(Form::Json, &[plain(1)])).unwrap();
    let (_, _, result) = read_back(text.replace(r#""version":1"#, r#""version":2"#).as_bytes());
    assert!(matches!(&result, Err(SourceError::Unknown(why)) if why.contains("version 2, expected 1")), "{result:?}");
}

#[test]
fn suricata_is_not_taken_for_weir() {
    assert!(is_ours(br#" {"event_type":"flow","weir" : {"version":1}}"#));
    assert!(!is_ours(br#"{"event_type":"flow","host":"weir"}"#));
    assert!(!is_ours(br#"{"event_type":"flow","weir":3}"#));
    assert!(!is_ours(b"weir"));
}

/// Takes so many flows.
struct Few(usize);
impl Sink for Few {
    fn epoch(
        &mut self,
        _: u64,
        _: &mut Vec<(weir_common::flow::FlowKey, weir_common::flow::FlowStats)>,
    ) -> Result<(), Stop> {
        Ok(())
    }
    fn flow(&mut self, _: Observation) -> Result<(), Stop> {
        self.0 = self.0.checked_sub(1).ok_or(Stop)?;
        Ok(())
    }
    fn end(&mut self) -> Result<(), Stop> {
        Ok(())
    }
}

#[test]
fn a_sink_that_has_enough_ends_the_reading_without_an_error() {
    let all: Vec<_> = (1..9).map(plain).collect();
    for form in [Form::Json, Form::Parquet] {
        let options = Options::default();
        let input = Input::new(io::Cursor::new(flows(form, &all)), "test".into(), None, &options).unwrap();
        let (report, result) = input.read(&options, &mut Few(3));
        assert!(result.is_ok() && report.flows == 4, "{report:?}");
    }
}
