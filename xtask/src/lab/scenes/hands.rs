//! What scenes do with their own hands: attacks in the background, and knocks at the door.

use std::fs::File;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::attack;
use crate::lab::proc::Proc;
use crate::lab::story::Lab;

pub fn attack_words(kind: &str, from: &[IpAddr], rate: u64, seconds: u64) -> Vec<String> {
    let also: Vec<String> = from.iter().skip(1).map(ToString::to_string).collect();
    let mut words = ["attack", "--kind", kind, "--from"].map(str::to_owned).to_vec();
    words.extend(from.first().map(ToString::to_string));
    if !also.is_empty() {
        words.extend(["--also".to_owned(), also.join(",")]);
    }
    words.extend(["--rate".to_owned(), rate.to_string(), "--seconds".to_owned(), seconds.to_string()]);
    words
}

/// An attack that goes on beside the scene.
pub struct Beside(Proc);

impl Beside {
    pub fn start(lab: &Lab, kind: &str, from: &[IpAddr], rate: u64, seconds: u64) -> Result<Self> {
        let words = attack_words(kind, from, rate, seconds);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let log = File::create(lab.net.dir.join("beside.log")).context("cannot make a log file")?;
        Ok(Self(Proc::role(&words, &lab.net.host("attacker"), log)?))
    }

    /// Its report, once it has ended by itself: tries and those that were answered.
    pub fn end(self, lab: &mut Lab, limit: Duration) -> Result<(u64, u64)> {
        let until = Instant::now() + limit;
        loop {
            lab.wait(Duration::from_millis(100))?;
            let Some(report) = self.0.reports().pop() else {
                anyhow::ensure!(Instant::now() < until, "an attack beside the scene did not end in time");
                continue;
            };
            let number = |key: &str| report.pointer(key).and_then(Value::as_u64).unwrap_or_default();
            if report.get("done").is_some() {
                return Ok((number("/done/tries"), number("/done/answered")));
            }
        }
    }
}

/// A few requests in the name of an address: whether all of them, or none, were answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    Shut,
    /// Some were answered and some not.
    Ajar,
}

pub fn knock(lab: &mut Lab, from: IpAddr) -> Result<Door> {
    let outcome = attack(lab, "flood", &[from], 4, 1)?;
    Ok(match outcome.answered {
        0 => Door::Shut,
        n if n == outcome.tries => Door::Open,
        _ => Door::Ajar,
    })
}
