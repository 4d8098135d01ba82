//! Numbers, times and addresses out of bytes: exact, and `None` for whatever is none.

use std::net::{IpAddr, Ipv4Addr};

use weir_core::addr::Addr;
use weir_core::record::TimeUs;

/// Digits that a 64-bit mantissa surely holds.
const DIGITS: u32 = 19;

/// A count: digits, also with zeros behind a point as spreadsheets write them (`600.0`).
pub(crate) fn count(text: &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    let mut digits = 0_u32;
    for (i, &b) in text.iter().enumerate() {
        match b {
            b'0'..=b'9' => {
                value = value.checked_mul(10)?.checked_add(u64::from(b - b'0'))?;
                digits += 1;
            }
            b'.' if digits > 0 => return text[i + 1..].iter().all(|&b| b == b'0').then_some(value),
            _ => return None,
        }
    }
    (digits > 0).then_some(value)
}

pub(crate) fn port(text: &[u8]) -> Option<u16> {
    count(text).and_then(|v| u16::try_from(v).ok())
}

/// Seconds in decimal, also with an exponent (`9.06e-06`), as microseconds: exact, rounded half up behind the sixth
/// decimal. `None` for what is negative, infinite, no number, or too large.
pub(crate) fn micros(text: &[u8]) -> Option<u64> {
    let mut mantissa = 0_u64;
    let mut significant = 0_u32;
    let mut scale = 0_i32;
    let mut any = false;
    let mut point = false;
    let mut bytes = text.iter();
    let mut exponent = 0_i32;
    while let Some(&b) = bytes.next() {
        match b {
            b'0'..=b'9' => {
                any = true;
                if significant < DIGITS {
                    mantissa = mantissa * 10 + u64::from(b - b'0');
                    significant += u32::from(mantissa > 0);
                    scale -= i32::from(point);
                } else if !point {
                    return None;
                }
            }
            b'.' if !point => point = true,
            b'e' | b'E' if any => {
                exponent = std::str::from_utf8(bytes.as_slice()).ok()?.parse().ok()?;
                if !(-400..=400).contains(&exponent) {
                    return None;
                }
                break;
            }
            _ => return None,
        }
    }
    if !any {
        return None;
    }
    let shift = exponent + scale + 6;
    let power = |n: i32| 10_u64.checked_pow(n.unsigned_abs());
    if mantissa == 0 || shift == 0 {
        Some(mantissa)
    } else if shift > 0 {
        mantissa.checked_mul(power(shift)?)
    } else {
        // Beyond 10^19 nothing of a 19-digit mantissa is left.
        Some(power(shift).map_or(0, |p| mantissa / p + u64::from(mantissa % p >= p.div_ceil(2))))
    }
}

/// A point in time: seconds since 1970 in decimal, or ISO 8601 (with `Z`, an offset, or UTC where there is neither).
pub(crate) fn time(text: &[u8]) -> Option<TimeUs> {
    micros(text).or_else(|| iso(text))
}

/// ISO 8601 with `T` or a space; offsets as `+01:00` or `+0100`.
pub(crate) fn iso(text: &[u8]) -> Option<TimeUs> {
    plain_iso(text).or_else(|| any_iso(text))
}

/// The common case: `2018-01-30T18:14:02.090842+0000`, with or without decimals (at most nine) and offset, of the years 1971 to 9998.
/// `None` says nothing of other notations.
fn plain_iso(text: &[u8]) -> Option<TimeUs> {
    let two = |a: u8, b: u8| {
        (a.is_ascii_digit() && b.is_ascii_digit()).then(|| u64::from(a - b'0') * 10 + u64::from(b - b'0'))
    };
    let (&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b' ', h1, h2, b':', i1, i2, b':', s1, s2], mut rest) =
        text.split_first_chunk::<19>()?
    else {
        return None;
    };
    let (year, month, day) = (two(y1, y2)? * 100 + two(y3, y4)?, two(m1, m2)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(i1, i2)?, two(s1, s2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1971..=9998).contains(&year) || !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut micros = 0;
    if let Some(decimals) = rest.strip_prefix(b".") {
        let n = decimals.iter().position(|b| !b.is_ascii_digit()).unwrap_or(decimals.len());
        if !(1..=9).contains(&n) {
            return None;
        }
        // Finer than µs: rounded down.
        micros = (0..6).fold(0, |us, i| us * 10 + if i < n { u64::from(decimals[i] - b'0') } else { 0 });
        rest = &decimals[n..];
    }
    let offset = match *rest {
        [] | [b'Z'] => 0,
        [b'+' | b'-', h1, h2, m1, m2] | [b'+' | b'-', h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(h1, h2)?, two(m1, m2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * 60
        }
        _ => return None,
    };
    // Days since 1970: years begin in March, so that the leap day is the last (H. Hinnant, days_from_civil).
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let local = days * 86_400 + hour * 3600 + minute * 60 + second;
    let utc = if rest.first() == Some(&b'-') { local + offset } else { local - offset };
    Some(utc * 1_000_000 + micros)
}

fn any_iso(text: &[u8]) -> Option<TimeUs> {
    use jiff::fmt::temporal::DateTimeParser;
    static PARSER: DateTimeParser = DateTimeParser::new();
    let zoned = matches!(text.last(), Some(b'Z' | b'z')) || text.iter().skip(10).any(|b| matches!(b, b'+' | b'-'));
    let timestamp = if zoned {
        PARSER.parse_timestamp(text).ok()?
    } else {
        jiff::tz::TimeZone::UTC.to_timestamp(PARSER.parse_datetime(text).ok()?).ok()?
    };
    u64::try_from(timestamp.as_microsecond()).ok()
}

/// An address; the zone of a link-local one (`fe80::1%eth0`) is left out.
pub(crate) fn addr(text: &[u8]) -> Option<Addr> {
    if let Some(v4) = v4(text) {
        return Some(IpAddr::V4(v4).into());
    }
    let text = memchr::memchr(b'%', text).map_or(text, |at| &text[..at]);
    std::str::from_utf8(text).ok()?.parse::<IpAddr>().ok().map(Addr::from)
}

/// The common case, four times as fast as by way of `str`.
fn v4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut parts = 0_usize;
    let (mut value, mut digits) = (0_u32, 0_u32);
    for &b in text.iter().chain(b".") {
        match b {
            b'0'..=b'9' if digits < 3 && !(digits > 0 && value == 0) => {
                value = value * 10 + u32::from(b - b'0');
                digits += 1;
            }
            b'.' if digits > 0 => {
                *octets.get_mut(parts)? = u8::try_from(value).ok()?;
                parts += 1;
                (value, digits) = (0, 0);
            }
            _ => return None,
        }
    }
    (parts == 4).then(|| octets.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_become_microseconds_exactly() {
        for (text, us) in [
            ("1504224631.090842", 1_504_224_631_090_842),
            ("11.5", 11_500_000),
            ("0", 0),
            ("0.000000", 0),
            (".5", 500_000),
            ("7.", 7_000_000),
            ("0.09628199999999865", 96_282),
            ("0.20696377754211426", 206_964),
            ("9.059906005859375e-06", 9),
            ("1e-06", 1),
            ("5e-07", 1),
            ("4.9e-07", 0),
            ("1e-300", 0),
            ("1.5E3", 1_500_000_000),
            ("1664462456.7552990913391113281", 1_664_462_456_755_299),
            ("0.0000000000000000000000000000005", 0),
            ("0012.000001", 12_000_001),
        ] {
            assert_eq!(micros(text.as_bytes()), Some(us), "{text}");
        }
        for text in [
            "",
            "-",
            ".",
            "-1",
            "+1",
            "nan",
            "NaN",
            "inf",
            "Infinity",
            "1e",
            "1e999",
            "e5",
            "1.2.3",
            "0x1",
            "1 ",
            "99999999999999999999",
        ] {
            assert_eq!(micros(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn times_are_read_in_each_notation() {
        let expected = Some(1_517_336_042_090_842);
        for text in [
            "1517336042.090842",
            "2018-01-30T18:14:02.090842Z",
            "2018-01-30T18:14:02.090842+00:00",
            "2018-01-30T19:14:02.090842+0100",
            "2018-01-30 18:14:02.090842",
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(time(b"2018-02-30T18:14:02Z"), None);
        assert_eq!(time(b"1969-12-31T23:59:59Z"), None);
        assert_eq!(time(b"yesterday"), None);
    }

    #[test]
    fn common_times_are_those_of_any() {
        for text in [
            "2018-01-30T18:14:02.090842+0000",
            "2018-01-30 18:14:02",
            "2024-02-29T00:00:00Z",
            "2000-02-29T23:59:59.999999999-23:59",
            "1971-01-01T00:00:00.1+2359",
            "9998-12-31T23:59:59.999999",
            "2100-03-01T00:00:00.000001Z",
        ] {
            assert!(plain_iso(text.as_bytes()).is_some(), "{text}");
            assert_eq!(plain_iso(text.as_bytes()), any_iso(text.as_bytes()), "{text}");
        }
        for text in [
            "2023-02-29T00:00:00Z",
            "2018-13-01T00:00:00",
            "2018-01-30T24:00:00",
            "2018-01-30T18:14:02.",
            "1960-01-01T00:00:00Z",
        ] {
            assert_eq!(plain_iso(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn counts_and_ports_are_whole_numbers_in_range() {
        assert_eq!(count(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(count(b"600.0"), Some(600));
        assert_eq!(port(b"65535"), Some(65535));
        for text in ["", "-1", "1.5", "18446744073709551616", "0x10", ".0", "1e3"] {
            assert_eq!(count(text.as_bytes()), None, "{text}");
        }
        assert_eq!(port(b"65536"), None);
    }

    #[test]
    fn addresses_are_those_of_the_standard_library() {
        for text in ["1.2.3.4", "255.255.255.255", "0.0.0.0", "fe80::1", "::ffff:1.2.3.4", "2001:db8::7"] {
            assert_eq!(addr(text.as_bytes()), text.parse().ok(), "{text}");
        }
        assert_eq!(addr(b"fe80::1%eth0"), "fe80::1".parse().ok());
        for text in ["1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1..2.3", "", "::g", "1.2.3.4 "] {
            assert_eq!(addr(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_number_or_none(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (micros(&text), count(&text), time(&text), addr(&text));
        }

        #[test]
        fn a_common_time_is_that_of_any(
            text in "(19[5-9]|2[0-4][0-9])[0-9]-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|[+-][0-2][0-9]:?[0-5][0-9])?"
        ) {
            if let Some(time) = plain_iso(text.as_bytes()) {
                prop_assert_eq!(Some(time), any_iso(text.as_bytes()));
            }
        }

        #[test]
        fn six_decimals_come_back(s in 0_u64..10_000_000_000, us in 0_u64..1_000_000) {
            prop_assert_eq!(micros(format!("{s}.{us:06}").as_bytes()), Some(s * 1_000_000 + us));
        }

        #[test]
        fn v4_agrees_with_std(text in "[0-9.]{5,15}") {
            prop_assert_eq!(v4(text.as_bytes()), text.parse().ok());
        }
    }
}
