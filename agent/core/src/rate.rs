//! Rate limits as people write and read them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use weir_common::limit::{Limit, LimitError, Unit};

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateUnit {
    Packets,
    /// IP-layer bytes.
    Bytes,
}

/// At most `per_second` units a second, and `burst` at once. Only what the kernel can hold to: see [`Limit::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Plain")]
pub struct RateLimit {
    unit: RateUnit,
    per_second: u64,
    burst: u64,
}

#[derive(Deserialize)]
struct Plain {
    unit: RateUnit,
    per_second: u64,
    burst: u64,
}

impl TryFrom<Plain> for RateLimit {
    type Error = RateError;
    fn try_from(p: Plain) -> Result<Self, RateError> {
        Self::new(p.unit, p.per_second, Some(p.burst))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    #[error(
        "`{0}` is no rate; expected a whole number (k, M and G stand for thousands) and pps for packets or Bps for bytes a second, for example 100pps or 2MBps"
    )]
    Syntax(String),
    #[error("a rate of {0} a second cannot be held; allowed are 1 to 137,438,953,472")]
    Rate(u64),
    #[error("a burst of {burst} {unit} lets no packet pass; at least {least} are needed")]
    BurstTooSmall { burst: u64, unit: &'static str, least: u64 },
    #[error("a burst of {0} would take more than half a year to be allowed again at this rate; give a smaller one")]
    BurstTooLarge(u64),
}

impl RateLimit {
    /// `None` for the burst: what comes in a second, and enough for ten packets.
    pub fn new(unit: RateUnit, per_second: u64, burst: Option<u64>) -> Result<Self, RateError> {
        let least = match unit {
            RateUnit::Packets => 10,
            RateUnit::Bytes => 10 * 65_535,
        };
        let limit = Self { unit, per_second, burst: burst.unwrap_or(per_second.max(least)) };
        limit.compact().map(|_| limit)
    }

    pub fn unit(self) -> RateUnit {
        self.unit
    }
    pub fn per_second(self) -> u64 {
        self.per_second
    }
    pub fn burst(self) -> u64 {
        self.burst
    }

    fn compact(self) -> Result<Limit, RateError> {
        let (unit, name, least) = match self.unit {
            RateUnit::Packets => (Unit::Packets, "packets", 1),
            RateUnit::Bytes => (Unit::Bytes, "bytes", 65_535),
        };
        Limit::new(unit, self.per_second, self.burst).map_err(|e| match e {
            LimitError::Rate(rate) => RateError::Rate(rate),
            LimitError::BurstTooSmall(burst) => RateError::BurstTooSmall { burst, unit: name, least },
            LimitError::BurstTooLarge(burst) => RateError::BurstTooLarge(burst),
        })
    }

    /// As an entry in the kernel carries it.
    pub fn entry(self) -> Limit {
        // Checked when it was made.
        self.compact().unwrap_or_default()
    }

    /// The limit that an entry in the kernel carries; `None`: it carries none. A whole rate that gives the same entry is preferred.
    pub fn of_entry(limit: Limit) -> Option<Self> {
        let unit = match limit.unit() {
            Unit::Packets => RateUnit::Packets,
            Unit::Bytes => RateUnit::Bytes,
        };
        let make = |rate| Self::new(unit, rate, Some(limit.burst())).ok();
        // What is held to is never more than what was asked for: the rate was rounded down.
        make(limit.rate() + 1).filter(|l| l.entry() == limit).or_else(|| make(limit.rate()))
    }

    /// Whether this lets less through than the other, as far as that can be said: rates of one unit, then bursts.
    pub fn stricter_than(self, other: Self) -> bool {
        self.unit == other.unit && (self.per_second, self.burst) < (other.per_second, other.burst)
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            RateUnit::Packets => "packets",
            RateUnit::Bytes => "bytes",
        };
        write!(f, "{} {unit}/s, {} at once", self.per_second, self.burst)
    }
}

/// A rate alone, `100pps` or `2MBps`; the burst is that of [`RateLimit::new`] without one.
impl FromStr for RateLimit {
    type Err = RateError;
    fn from_str(s: &str) -> Result<Self, RateError> {
        let bad = || RateError::Syntax(s.to_owned());
        let (number, unit) = match (s.strip_suffix("pps"), s.strip_suffix("Bps")) {
            (Some(n), _) => (n, RateUnit::Packets),
            (_, Some(n)) => (n, RateUnit::Bytes),
            _ => return Err(bad()),
        };
        let digits = number.trim_end_matches(['k', 'M', 'G']);
        let times = match &number[digits.len()..] {
            "" => 1,
            "k" => 1000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            _ => return Err(bad()),
        };
        let per_second = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(times)).ok_or_else(bad)?;
        Self::new(unit, per_second, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_said() {
        let said = |s: &str| s.parse::<RateLimit>().map(|r| r.to_string()).map_err(|e| e.to_string());
        assert_eq!(said("100pps").unwrap(), "100 packets/s, 100 at once");
        assert_eq!(said("3pps").unwrap(), "3 packets/s, 10 at once");
        assert_eq!(said("2MBps").unwrap(), "2000000 bytes/s, 2000000 at once");
        assert_eq!(said("5Bps").unwrap(), "5 bytes/s, 655350 at once");
        for bad in ["", "pps", "100", "100bps", "1.5kpps", "-1pps", "1kkpps", "99999999999999999999pps"] {
            assert!(said(bad).unwrap_err().contains("is no rate"), "{bad}");
        }
        assert!(said("0pps").unwrap_err().contains("a rate of 0"));
        let small = RateLimit::new(RateUnit::Bytes, 1000, Some(1500)).unwrap_err().to_string();
        assert_eq!(small, "a burst of 1500 bytes lets no packet pass; at least 65535 are needed");
        let json = r#"{"unit":"packets","per_second":7,"burst":9}"#;
        let read: RateLimit = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
        assert!(serde_json::from_str::<RateLimit>(r#"{"unit":"packets","per_second":0,"burst":9}"#).is_err());
        let strict = |a: &str, b: &str| a.parse::<RateLimit>().unwrap().stricter_than(b.parse().unwrap());
        assert!(strict("1pps", "2pps") && !strict("2pps", "1pps") && !strict("1pps", "1kBps"));
    }
}
