//! `weir support dump`: what a maintainer needs to understand a host, in one archive, without secrets and on request without addresses.

mod archive;
mod collect;
mod mask;
mod secrets;

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weir_core::render::Rfc3339;

use crate::clock::wall_us;
use crate::doctor::{self, Asked};
use archive::Archive;
use mask::Mask;
use secrets::Secrets;

/// What is to be collected, and where it goes.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub asked: Asked,
    /// `None`: a name with the time, in this folder.
    pub out: Option<PathBuf>,
    /// Replace addresses and names of hosts.
    pub mask: bool,
}

/// One part of the archive.
struct Part {
    name: String,
    /// For the manifest.
    what: &'static str,
    body: Body,
}

enum Body {
    Json(Value),
    /// Lines, each of which may be an object of JSON.
    Lines(String),
}

/// What could not be collected, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    pub name: String,
    pub why: String,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Dumped {
    pub file: PathBuf,
    pub bytes: u64,
    pub masked: bool,
    pub parts: usize,
    pub missing: Vec<Missing>,
}

/// Takes secrets out of everything, and addresses where asked for.
struct Cleaner {
    secrets: Secrets,
    mask: Option<Mask>,
}

impl Cleaner {
    fn json(&self, value: Value) -> Value {
        let value = self.secrets.json(value);
        match &self.mask {
            Some(mask) => mask.json(value),
            None => value,
        }
    }

    fn text(&self, text: &str) -> String {
        let text = self.secrets.text(text);
        match &self.mask {
            Some(mask) => mask.text(&text),
            None => text,
        }
    }

    /// Objects are cleaned as such: what is escaped in them is read first.
    fn lines(&self, text: &str) -> String {
        // Keys go over lines.
        let text = &secrets::without_keys(text);
        let objects = |l: &str| l.starts_with('{').then(|| serde_json::from_str::<Value>(l).ok()).flatten();
        if !text.lines().any(|l| objects(l).is_some()) {
            return self.text(text);
        }
        let clean = |l: &str| match objects(l) {
            Some(object) => self.json(object).to_string(),
            None => self.text(l),
        };
        text.lines().map(|l| clean(l) + "\n").collect()
    }

    fn body(&self, body: Body) -> Vec<u8> {
        match body {
            // Of plain values, which always have a form.
            Body::Json(value) => serde_json::to_vec_pretty(&self.json(value)).unwrap_or_default(),
            Body::Lines(text) => self.lines(&text).into_bytes(),
        }
    }
}

/// Collects everything and writes the archive, which only its owner can read.
pub async fn dump(options: &Options) -> anyhow::Result<Dumped> {
    let mut examined = doctor::examine(&options.asked).await;
    let (parts, missing) = collect::all(&mut examined).await;
    let config = &examined.config;
    let mask = match options.mask {
        true => {
            let (names, domains) = collect::known_hosts(config);
            Some(Mask::new(names, domains).map_err(anyhow::Error::msg)?)
        }
        false => None,
    };
    let cleaner = Cleaner { secrets: Secrets::of(config, examined.configuration.text.as_deref()), mask };
    let now = wall_us();
    let file = options.out.clone().unwrap_or_else(|| {
        let stamp: String = Rfc3339(now).to_string().chars().take(19).filter(|c| c.is_ascii_alphanumeric()).collect();
        format!("weir-support-{stamp}Z.tar.gz").into()
    });
    let mut archive = Archive::create(&file, now / 1_000_000)?;
    let mut listed = Vec::new();
    for part in parts {
        let name = cleaner.text(&part.name);
        let bytes = cleaner.body(part.body);
        let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        listed.push(json!({ "name": name, "what": part.what, "bytes": bytes.len(), "sha256": hash }));
        archive.add(&name, &bytes)?;
    }
    let missing: Vec<_> = missing.into_iter().map(|m| Missing { name: m.name, why: cleaner.text(&m.why) }).collect();
    let manifest = json!({
        "made_by": concat!("weir ", env!("CARGO_PKG_VERSION")),
        "time": Rfc3339(now).to_string(),
        "secrets": "removed",
        "addresses": if options.mask { "masked: the same one has the same pseudonym in all parts" } else { "as they are" },
        "parts": listed,
        "missing": missing,
    });
    archive.add("MANIFEST.json", &serde_json::to_vec_pretty(&manifest)?)?;
    let bytes = archive.finish()?;
    Ok(Dumped { file, bytes, masked: options.mask, parts: listed.len(), missing })
}
