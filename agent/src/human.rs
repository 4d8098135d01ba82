//! Lengths of time, counts and sizes as people write and read them.

use std::time::Duration;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HumanError {
    #[error("`{0}` is no length of time; write a number with a unit (ms, s, m, h, d, w), for example 90s, 4h or 1h30m")]
    Duration(String),
    #[error("`{0}` is no count; write a whole number, with k, M or G for thousands, for example 2000, 128k or 1M")]
    Count(String),
}

const UNITS: [(&str, u64); 8] = [
    ("w", 7 * 86_400_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
    ("µs", 1),
];

/// Reads `4h`, `90s`, `1h30m`, `1.5s`. A bare number is refused, save 0: nobody agrees on its unit.
pub fn parse_duration(text: &str) -> Result<Duration, HumanError> {
    let bad = || HumanError::Duration(text.to_owned());
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(bad)?.1;
        let micros = decimal(number, scale).ok_or_else(bad)?;
        total = total.checked_add(micros).ok_or_else(bad)?;
        rest = tail;
    }
    Ok(Duration::from_micros(total))
}

/// `number` times `scale`, exact where it is whole; `None` where it isn't a number or too large.
fn decimal(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut value = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let mut unit = scale;
    for c in fraction.chars() {
        unit /= 10;
        value = value.checked_add(u64::from(c.to_digit(10)?) * unit)?;
    }
    (!number.ends_with('.')).then_some(value)
}

/// The shortest exact form that [`parse_duration`] reads back: `4h`, `1h30m`, `500ms`.
pub fn duration(d: Duration) -> String {
    let mut micros = u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    if micros == 0 {
        return "0s".into();
    }
    let mut out = String::new();
    // Weeks read worse than days.
    for (unit, scale) in &UNITS[1..7] {
        if micros >= *scale {
            out += &format!("{}{unit}", micros / scale);
            micros %= scale;
        }
    }
    out
}

/// Two units at most, for reading: `59m`, `1h30m`, `3d4h`, `12s`, `8.2ms`.
pub fn rough(d: Duration) -> String {
    if d < Duration::from_secs(1) {
        let us = d.as_micros();
        return match us {
            0 => "0s".into(),
            1..1000 => format!("{us}us"),
            _ => format!("{:.1}ms", us as f64 / 1e3).replace(".0ms", "ms"),
        };
    }
    let s = d.as_secs();
    let two = |a: u64, ua: &str, b: u64, ub: &str| if b == 0 { format!("{a}{ua}") } else { format!("{a}{ua}{b}{ub}") };
    match s {
        0..60 => format!("{s}s"),
        60..600 => two(s / 60, "m", s % 60, "s"),
        600..3600 => format!("{}m", s / 60),
        3600..86_400 => two(s / 3600, "h", s % 3600 / 60, "m"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

pub fn micros(us: u64) -> Duration {
    Duration::from_micros(us)
}

const SCALES: [(&str, u64); 8] = [
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
    ("K", 1_000),
    ("", 1),
];

/// Reads `2000`, `128k`, `1M`, `1.5M`, `64Ki`.
pub fn parse_count(text: &str) -> Result<u64, HumanError> {
    let bad = || HumanError::Count(text.to_owned());
    let t = text.trim();
    let (suffix, scale) = SCALES.iter().find(|(s, _)| t.ends_with(s)).ok_or_else(bad)?;
    let number = t[..t.len() - suffix.len()].trim_end().replace('_', "");
    if *scale == 1 && number.contains('.') {
        return Err(bad());
    }
    decimal(&number, *scale).ok_or_else(bad)
}

/// The shortest exact form that [`parse_count`] reads back.
pub fn count(n: u64) -> String {
    for (suffix, scale) in &SCALES[3..6] {
        if n >= *scale && n.is_multiple_of(*scale) {
            return format!("{}{suffix}", n / scale);
        }
    }
    n.to_string()
}

/// A count for reading, in groups of three: `72,300,114`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A size for reading: `520 MB`, `1.2 GB`.
pub fn bytes(n: u64) -> String {
    let (unit, scale) = match n {
        0..1_000 => return format!("{n} B"),
        1_000..1_000_000 => ("kB", 1e3),
        1_000_000..1_000_000_000 => ("MB", 1e6),
        _ => ("GB", 1e9),
    };
    let v = n as f64 / scale;
    if v < 9.95 { format!("{v:.1} {unit}") } else { format!("{v:.0} {unit}") }
}

/// Who carried much of a baseline, `(who, share)` in descending order of share: the first five in words, and what comes of it.
pub fn carriers<N: std::fmt::Display>(all: impl Iterator<Item = (N, f64)>) -> String {
    let all: Vec<String> = all.map(|(who, share)| format!("{who} ({:.0}%)", 100.0 * share)).collect();
    let (named, others) = all.split_at(all.len().min(5));
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    format!("{}{more}; above `policy.busy_share`, never dropped automatically", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, us) in [
            ("4h", 14_400_000_000),
            ("90s", 90_000_000),
            ("2s", 2_000_000),
            ("1d", 86_400_000_000),
            ("1h30m", 5_400_000_000),
            ("500ms", 500_000),
            ("1.5s", 1_500_000),
            ("0", 0),
            ("2w", 1_209_600_000_000),
            (" 10 s ", 10_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_micros(us)), "{text}");
        }
        for text in ["", "5", "h", "4x", "-1s", "1.s", "1s2", "99999999999w", "1,5s", "1e3s"] {
            assert!(parse_duration(text).is_err(), "{text} should be refused");
        }
    }

    #[test]
    fn durations_and_counts_read_back_as_they_are_written() {
        for us in [0, 1, 999, 1_000, 90_000_000, 5_400_000_000, 86_400_000_001, 9 * 86_400_000_000] {
            let d = Duration::from_micros(us);
            assert_eq!(parse_duration(&duration(d)), Ok(d), "{}", duration(d));
        }
        for n in [0, 7, 1_000, 1_001, 128_000, 1_000_000, 131_072, 3_000_000_000] {
            assert_eq!(parse_count(&count(n)), Ok(n));
        }
        assert_eq!((duration(Duration::from_secs(5400)), count(128_000)), ("1h30m".into(), "128k".into()));
    }

    #[test]
    fn counts_take_thousands_and_binary_units() {
        for (text, n) in [
            ("2000", 2000),
            ("128k", 128_000),
            ("1M", 1_000_000),
            ("1.5M", 1_500_000),
            ("64Ki", 65_536),
            ("1_000", 1000),
        ] {
            assert_eq!(parse_count(text), Ok(n), "{text}");
        }
        for text in ["", "k", "-1", "1.5", "0x10", "1kk", "99999999999G"] {
            assert!(parse_count(text).is_err(), "{text} should be refused");
        }
    }

    #[test]
    fn rough_forms_are_short() {
        let r = |s: u64| rough(Duration::from_secs(s));
        assert_eq!(
            [r(0), r(59), r(61), r(3599), r(3600), r(5400), r(90_000)],
            ["0s", "59s", "1m1s", "59m", "1h", "1h30m", "1d1h"]
        );
        assert_eq!(rough(Duration::from_micros(8_240)), "8.2ms");
        assert_eq!((grouped(0), grouped(72_300_114), grouped(100)), ("0".into(), "72,300,114".into(), "100".into()));
        assert_eq!((bytes(520_000_000), bytes(1_234), bytes(12)), ("520 MB".into(), "1.2 kB".into(), "12 B".into()));
    }
}
