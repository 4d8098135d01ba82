//! Traces of the agent itself, sent by OTLP over gRPC, with TLS or without, to a collector where one is configured: how long the parts of an epoch take, and calls
//! of the API. Spans hold no addresses of traffic.
//!
//! Who records never waits: spans go into a bounded queue, and what finds no room, or no collector, is counted as lost.

mod export;
mod wire;

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::wall_us;

/// Spans that may wait for the collector.
const QUEUE: usize = 4096;

/// What a span says beside its name.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(u64),
    Word(&'static str),
}

/// Something that took a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    trace: u128,
    id: u64,
    /// 0: none.
    parent: u64,
    name: String,
    /// It answers somebody outside.
    served: bool,
    /// Since 1970, ns.
    start_ns: u64,
    end_ns: u64,
    failed: bool,
    attributes: Vec<(&'static str, Value)>,
}

impl Span {
    /// A trace of its own. `start_us` since 1970.
    pub fn new(name: impl Into<String>, start_us: u64, took: Duration) -> Self {
        let start_ns = start_us.saturating_mul(1000);
        let end_ns = start_ns.saturating_add(took.as_nanos() as u64);
        let trace = u128::from(number()) << 64 | u128::from(number());
        let name = name.into();
        Self {
            trace,
            id: number(),
            parent: 0,
            name,
            served: false,
            start_ns,
            end_ns,
            failed: false,
            attributes: vec![],
        }
    }

    /// One that has just ended.
    pub fn ended(name: impl Into<String>, took: Duration) -> Self {
        Self::new(name, wall_us().saturating_sub(took.as_micros() as u64), took)
    }

    /// A part of this one.
    pub fn part(&self, name: &'static str, start_us: u64, took: Duration) -> Self {
        Self { trace: self.trace, parent: self.id, ..Self::new(name, start_us, took) }
    }

    pub fn served(self) -> Self {
        Self { served: true, ..self }
    }

    pub fn failed(self, failed: bool) -> Self {
        Self { failed, ..self }
    }

    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        self.attributes.push((name, value));
        self
    }
}

/// A number that no other span is likely to have; never 0.
fn number() -> u64 {
    RandomState::new().hash_one(0).max(1)
}

/// Takes spans. Clones feed the same queue.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Sender>>);

#[derive(Debug)]
struct Sender {
    queue: mpsc::Sender<Span>,
    lost: Arc<AtomicU64>,
}

impl Tracer {
    /// Sends to the collector at this address, `http://HOST:PORT` or `https://HOST:PORT`, from a task of the runtime that this is called
    /// in. `ca_file` (PEM) names the authorities that are trusted; `None`: those of this host.
    ///
    /// The error says what is wrong with the address or the file.
    pub fn to(url: &str, ca_file: Option<&Path>) -> Result<Self, String> {
        let channel = export::channel(url, ca_file)?;
        let (queue, spans) = mpsc::channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        tokio::spawn(export::run(channel, url.to_owned(), spans, lost.clone()));
        Ok(Self(Some(Arc::new(Sender { queue, lost }))))
    }

    /// Whether anybody wants spans.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub fn record(&self, span: Span) {
        if let Some(sender) = &self.0
            && sender.queue.try_send(span).is_err()
        {
            sender.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Spans that no collector got; `None`: none was to be sent.
    pub fn lost(&self) -> Option<u64> {
        self.0.as_ref().map(|s| s.lost.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
