//! Hostile and broken inputs, one file each in `tests/cases/FORMAT/NAME`: made by hand, or found by `cargo xtask fuzz`. They
//! are also what fuzzing starts from.

use std::path::Path;

use weir_core::table::TableConfig;
use weir_source::{Flows, Format, Input, Observation, Options};

#[test]
fn no_case_is_passed_over_in_silence_and_what_comes_before_the_fault_is_kept() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut read = 0;
    for (format, name) in Format::ALL {
        let Ok(entries) = std::fs::read_dir(folder.join(name)) else { continue };
        for path in entries.map(|e| e.unwrap().path()) {
            let case = path.strip_prefix(&folder).unwrap().display();
            for decap in [false, true] {
                let options = Options { format: Some(format), decap, ..Options::default() };
                let mut flows = 0u64;
                let mut sink = Flows::new(TableConfig::default(), false, |_: Observation| {
                    flows += 1;
                    Ok(())
                });
                let Ok(input) = Input::open(&path, &options) else { continue };
                let (report, result) = input.read(&options, &mut sink);
                drop(sink);
                let said =
                    result.is_err() || report.truncated || !report.left_out.is_empty() || !report.warnings.is_empty();
                assert!(said, "{case}: nothing is said of it: {report:?}");
                // The cases of these formats begin with a sound record.
                let begins_well = matches!(format, Format::Pcap | Format::PcapNg | Format::ZeekTsv | Format::Eve);
                assert!(!begins_well || flows > 0, "{case}: the record before the fault is lost: {report:?}");
            }
            read += 1;
        }
    }
    assert!(read >= 20, "only {read} cases in {}", folder.display());
}
