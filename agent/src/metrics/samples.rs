//! The values of one scrape.

use super::histogram::Histogram;
use super::table::{ALL, Metric};

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(u64),
    Float(f64),
    Histogram(Histogram),
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Value::Int(n)
    }
}
impl From<usize> for Value {
    fn from(n: usize) -> Self {
        Value::Int(n as u64)
    }
}
impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Value::Int(u64::from(b))
    }
}
impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Value::Float(v)
    }
}
impl From<&Histogram> for Value {
    fn from(h: &Histogram) -> Self {
        Value::Histogram(h.clone())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// In the order of the metric's labels.
    pub labels: Vec<String>,
    pub value: Value,
}

/// Samples by metric, in the order of the table.
#[derive(Debug)]
pub struct Samples {
    by_metric: Vec<Vec<Sample>>,
    left_out: u64,
}

impl Samples {
    pub fn new() -> Self {
        Self { by_metric: ALL.iter().map(|_| Vec::new()).collect(), left_out: 0 }
    }

    /// Adds a sample, unless the metric has as many as it may, which is counted.
    pub fn put<const N: usize>(&mut self, metric: &'static Metric, labels: [&str; N], value: impl Into<Value>) {
        debug_assert_eq!(N, metric.labels.len(), "{}", metric.name);
        let Some(at) = ALL.iter().position(|m| m.name == metric.name) else {
            debug_assert!(false, "{} is not in the table", metric.name);
            return;
        };
        let samples = &mut self.by_metric[at];
        if samples.len() >= metric.most {
            self.left_out += 1;
            return;
        }
        let labels = labels.map(str::to_owned).to_vec();
        debug_assert!(samples.iter().all(|s| s.labels != labels), "{} {labels:?} twice", metric.name);
        samples.push(Sample { labels, value: value.into() });
    }

    /// Where there is a value.
    pub fn put_some(&mut self, metric: &'static Metric, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(metric, [], value);
        }
    }

    /// Samples that found no place.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static Metric, &[Sample])> {
        ALL.iter().copied().zip(self.by_metric.iter().map(Vec::as_slice))
    }
}
