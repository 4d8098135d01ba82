//! What `cargo xtask fuzz` drives: parsers of what others wrote, with what they promise, and the API with a whole agent behind it.
//!
//! Only built with `--cfg fuzzing`. A broken promise is a panic, which the fuzzer takes for a crash.

mod samples;
mod site;

use std::io::Cursor;

use rustls::pki_types::CertificateDer;
use weir_core::decision::{Action, Sides};
use weir_core::decisions::lists::{Draft, From, Rule};

use crate::api::x509::Holder;
use crate::clock::wall_us;
use crate::config::Config;
use crate::lists::format::{self, Form};
pub use samples::{grpc as grpc_samples, rest as rest_samples};
pub use site::Site;

/// `weir.yaml`: what is taken is written out as a file that reads back as the same.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text) {
        Ok(config) => {
            let written = config.to_yaml();
            match Config::parse(&written) {
                Ok(again) => assert_eq!(again, config, "written as\n{written}"),
                Err(problems) => panic!("what was taken is refused as it is written: {problems:?}\n{written}"),
            }
            config.warnings();
            config.summary();
        }
        Err(problems) => assert!(!problems.is_empty(), "refused without a reason"),
    }
}

/// A list of targets; the first byte chooses the form.
pub fn list(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let (_, form) = Form::ALL[usize::from(*choice) % Form::ALL.len()];
    let now = wall_us();
    let Ok(parsed) = format::read(Cursor::new(data), form, now) else { return };
    assert!(parsed.named.len() as u64 <= parsed.bad && parsed.named.len() <= format::NAMED);
    assert!(parsed.entries.iter().all(|e| usize::from(e.why) < parsed.reasons.len()), "an entry without its reason");
    let entries = parsed.entries.len();
    let mut draft = Draft::new("fuzz".into(), From::Import, String::new());
    crate::lists::fill(
        &mut draft,
        parsed,
        Rule { action: Action::Drop, limit: None, sides: Sides::Both },
        None,
        false,
        now,
    );
    assert!(draft.members.len() <= entries, "more members than entries");
}

/// Answers of a CrowdSec local API, one on a line, the first to the question for everything.
pub fn crowdsec(data: &[u8]) {
    crate::lists::crowdsec::fuzz(data.split(|b| *b == b'\n').take(8));
}

/// What a Kafka broker answers.
pub fn kafka(data: &[u8]) {
    crate::sinks::outlet::kafka::fuzz(data);
}

/// A certificate in DER.
pub fn certificate(data: &[u8]) {
    let der = CertificateDer::from(data);
    let Some(holder) = Holder::of(&der) else { return };
    assert_eq!(Holder::common_name(&der), holder.names.into_iter().next());
}

/// A certificate with names and a unit.
pub fn certificate_samples() -> Vec<Vec<u8>> {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut of = rcgen::CertificateParams::new(vec!["agent.example".to_owned()]).expect("a name");
    of.distinguished_name.push(rcgen::DnType::CommonName, "operator");
    of.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, "weir-operator");
    vec![of.self_signed(&key).expect("a certificate").der().to_vec()]
}
