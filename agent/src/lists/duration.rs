//! Lengths of time as programs write them: `3h59m58.9s`, `-5m3s`, `1h0m0.5s`, `4h`, or whole seconds.

/// Microseconds; `None` where it is none. What is over already is 0 or less. Lengths beyond what can be counted are the longest.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    if let Ok(seconds) = rest.parse::<u64>() {
        total = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        rest = "";
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        // Nanoseconds of a unit.
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 7 * 86_400_000_000_000,
            _ => return None,
        };
        total = total.saturating_add(i64::try_from(nanos(number, scale)? / 1000).unwrap_or(i64::MAX));
        rest = tail;
    }
    Some(if negative { -total } else { total })
}

/// `number`, with a decimal point or without, times `scale`.
fn nanos(number: &str, scale: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Digits beyond the twelfth say nothing here.
    let fraction = fraction.get(..fraction.len().min(12))?;
    let parts: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = u128::from(scale);
    whole.checked_mul(scale)?.checked_add(parts * scale / 10u128.pow(fraction.len() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_go_and_people_write_them() {
        for (text, us) in [
            ("3h59m58.9s", Some(14_398_900_000)),
            ("-5m3s", Some(-303_000_000)),
            ("1h0m0.000000001s", Some(3_600_000_000)),
            ("59.923456789s", Some(59_923_456)),
            ("1.5h", Some(5_400_000_000)),
            ("120ms", Some(120_000)),
            ("7d", Some(604_800_000_000)),
            ("3600", Some(3_600_000_000)),
            ("0s", Some(0)),
            ("99999999999h", Some(i64::MAX)),
            ("", None),
            ("h", None),
            ("-", None),
            ("4 hours", None),
            ("1h2", None),
            ("1..5s", None),
        ] {
            assert_eq!(parse(text), us, "{text}");
        }
    }
}
