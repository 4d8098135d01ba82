//! One input of the target that `WEIR_FUZZ_TARGET` names: a format of flows, the packet parser, or whatever else of Weir reads what others
//! wrote.
//!
//! Beyond "does not panic, hang or eat memory" (libFuzzer's own limits), what each promises is checked. With `WEIR_FUZZ_PLANT`, the program
//! writes the inputs that it knows to mean something into that folder, and ends.

#![no_main]

mod formats;
#[path = "../../../common/tests/frames/mod.rs"]
#[expect(dead_code, reason = "the parser's tests use the rest")]
mod frames;
mod packet;
#[path = "../../kernel/tests/kernel/reference.rs"]
#[expect(dead_code, reason = "the test of the kernel's parser counts by rule")]
mod reference;

use std::cell::RefCell;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use weir_agent::fuzzing::{self, Site};
use weir_source::Format;

type Run = fn(&[u8]);

/// All but the formats, which go by their own names.
const TARGETS: &[(&str, Run)] = &[
    ("packet", packet::run),
    ("grpc", |data| SITE.with_borrow_mut(|site| site.grpc(data))),
    ("rest", |data| SITE.with_borrow_mut(|site| site.rest(data))),
    ("config", fuzzing::config),
    ("list", fuzzing::list),
    ("crowdsec", fuzzing::crowdsec),
    ("kafka", fuzzing::kafka),
    ("certificate", fuzzing::certificate),
    ("manifest", |data| drop(weir_models::Manifest::parse(data))),
    ("onnx", |data| weir_models::fuzzing::model(data, 16)),
];

thread_local! {
    static SITE: RefCell<Site> = RefCell::default();
}

static TARGET: LazyLock<Run> = LazyLock::new(|| {
    let name = std::env::var("WEIR_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(n, _)| *n == name).map(|(_, run)| *run);
    let format = || Format::from_name(&name).map(|_| formats::run as Run);
    found.or_else(format).unwrap_or_else(|| panic!("WEIR_FUZZ_TARGET is {name:?}, which is no target"))
});

/// Inputs that no file holds.
fn plant(into: &Path) -> std::io::Result<()> {
    let name = std::env::var("WEIR_FUZZ_TARGET").unwrap_or_default();
    let inputs = match name.as_str() {
        "grpc" => fuzzing::grpc_samples(),
        "rest" => fuzzing::rest_samples(),
        "packet" => packet::samples(),
        "certificate" => fuzzing::certificate_samples(),
        _ => Vec::new(),
    };
    inputs.iter().enumerate().try_for_each(|(n, input)| std::fs::write(into.join(format!("sample-{n:03}")), input))
}

fuzz_target!(
    init: {
        if let Some(into) = std::env::var_os("WEIR_FUZZ_PLANT") {
            let done = plant(Path::new(&into));
            std::process::exit(i32::from(done.is_err()));
        }
    },
    |data: &[u8]| TARGET(data)
);
