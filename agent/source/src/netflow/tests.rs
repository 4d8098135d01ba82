//! Against the public datagrams and exports, and against bytes made to hurt.

mod build;
mod corpus;
mod edges;
mod files;
mod hurt;
mod live;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use weir_core::table::TableConfig;

use crate::{Flows, Input, Observation, Options};

/// The folder of NetFlow data, or a visible word that the test cannot run.
fn corpus_or_skip(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("WEIR_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from)
        .join("netflow");
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIP {test}: no {} (WEIR_CORPUS names the folder of captures)", path.display());
    None
}

/// The nth exporter.
fn address(n: u32) -> Option<SocketAddr> {
    Some((std::net::Ipv4Addr::from(0xc000_0200 + n), 2055).into())
}

/// The datagrams of a file, each behind its length.
fn datagrams_of(file: &[u8]) -> Vec<&[u8]> {
    let (mut all, mut rest) = (Vec::new(), file);
    while let Some((length, body)) = rest.split_first_chunk::<4>() {
        let (datagram, after) = body.split_at(u32::from_be_bytes(*length) as usize);
        all.push(datagram);
        rest = after;
    }
    all
}

fn read_file(path: &Path, options: &Options) -> Vec<Observation> {
    let mut all = Vec::new();
    let config = TableConfig { home: options.home.clone(), ..TableConfig::default() };
    let mut sink = Flows::new(config, false, |o| {
        all.push(o);
        Ok(())
    });
    let input = Input::open(path, options).unwrap();
    let (report, result) = input.read(options, &mut sink);
    result.unwrap();
    assert!(report.warnings.is_empty(), "{}: {:?}", path.display(), report.warnings);
    all
}
