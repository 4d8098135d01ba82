//! What the honest clients got, kind by kind, and how much of it in which phase.

use std::collections::BTreeMap;

use serde_json::Value;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub ok: u64,
    pub failed: u64,
    pub slowest_ms: u64,
}

/// Running totals, as the clients last reported them.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    kinds: BTreeMap<String, Count>,
    /// Failed requests in words.
    pub failures: Vec<String>,
}

impl Tally {
    /// Takes one report of the clients. What it is new to is returned for showing.
    pub fn take(&mut self, report: &Value) -> Option<&str> {
        if let Some(tally) = report.get("tally").and_then(Value::as_object) {
            for (kind, count) in tally {
                let number = |key| count.get(key).and_then(Value::as_u64).unwrap_or_default();
                let count = Count { ok: number("ok"), failed: number("failed"), slowest_ms: number("slowest_ms") };
                self.kinds.insert(kind.clone(), count);
            }
        }
        let failure = report.get("failure")?;
        let text = |key| failure.get(key).and_then(Value::as_str).unwrap_or("?");
        let after = failure.get("after_ms").and_then(Value::as_u64).unwrap_or_default();
        self.failures.push(format!("{} of {}: {} after {after} ms", text("kind"), text("client"), text("error")));
        self.failures.last().map(String::as_str)
    }

    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    pub fn of(&self, kind: &str) -> Count {
        self.kinds.get(kind).copied().unwrap_or_default()
    }

    pub fn ok(&self) -> u64 {
        self.kinds.values().map(|c| c.ok).sum()
    }

    pub fn failed(&self) -> u64 {
        // A failure is told before the next totals come.
        self.kinds.values().map(|c| c.failed).sum::<u64>().max(self.failures.len() as u64)
    }

    pub fn slowest_ms(&self, kind: &str) -> u64 {
        self.of(kind).slowest_ms
    }

    /// What came since `earlier`, kind by kind.
    pub fn since(&self, earlier: &Tally) -> BTreeMap<String, Count> {
        self.kinds
            .iter()
            .map(|(kind, now)| {
                let then = earlier.of(kind);
                let ok = now.ok.saturating_sub(then.ok);
                (kind.clone(), Count { ok, failed: now.failed.saturating_sub(then.failed), slowest_ms: now.slowest_ms })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_phase_holds_what_came_in_it_and_a_failure_counts_at_once() {
        let mut tally = Tally::default();
        tally.take(&json!({"tally": {"web": {"ok": 10, "failed": 0, "slowest_ms": 7}}}));
        let start = tally.clone();
        assert_eq!(tally.failed(), 0);
        let shown = tally.take(&json!({"failure": {"kind": "web", "client": "::1", "error": "reset", "after_ms": 3}}));
        assert!(shown.unwrap().contains("reset after 3 ms"));
        assert_eq!(tally.failed(), 1);
        tally.take(&json!({"tally": {"web": {"ok": 15, "failed": 1, "slowest_ms": 9}, "dns": {"ok": 2, "failed": 0}}}));
        assert_eq!((tally.failed(), tally.ok()), (1, 17));
        let phase = tally.since(&start);
        assert_eq!((phase["web"].ok, phase["web"].failed, phase["dns"].ok), (5, 1, 2));
    }
}
