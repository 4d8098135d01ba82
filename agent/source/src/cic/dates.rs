//! The times of the sets.
//!
//! The 91 columns have ISO times in UTC, to the microsecond. The 85 columns have day, month and year, and the local time of
//! Fredericton (UTC-3 in July) on a clock of twelve hours, without saying which half of the day: 3:30 is 15:30. The
//! capture ran from 8:55 to after 17:00 on each day, so that hours before 8 are in the afternoon. Both agree then: the DDoS
//! attack of 7 July, for one, is at 15:56 to 16:16 local time in the set's description, at 3:56 to 4:16 in the 85 columns
//! and at 18:56 to 19:16 in the 91. Times of other days come from other uses of CICFlowMeter and are taken as they stand.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use weir_core::record::TimeUs;

use crate::text::numbers;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) us: TimeUs,
    /// Whether seconds are told.
    pub(super) seconds: bool,
}

pub(super) fn read(text: &[u8]) -> Option<Read> {
    if memchr::memchr(b'/', text).is_none() {
        return numbers::iso(text).map(|us| Read { us, seconds: true });
    }
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let (date, clock, half) = (words.next()?, words.next()?, words.next());
    let mut parts = date.split('/');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let date = Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()?;
    let mut parts = clock.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next());
    let mut hour: i8 = hour.parse().ok()?;
    let of_the_set = date.year() == 2017 && date.month() == 7 && (3..=7).contains(&date.day());
    match half {
        Some(h) if h.eq_ignore_ascii_case("pm") && (1..=11).contains(&hour) => hour += 12,
        Some(h) if h.eq_ignore_ascii_case("am") && hour == 12 => hour = 0,
        Some(h) if h.eq_ignore_ascii_case("am") || h.eq_ignore_ascii_case("pm") => {}
        Some(_) => return None,
        None if of_the_set && (1..8).contains(&hour) => hour += 12,
        None => {}
    }
    let time = Time::new(hour, minute.parse().ok()?, second.map_or(Some(0), |s| s.parse().ok())?, 0).ok()?;
    let utc = TimeZone::UTC.to_timestamp(date.to_datetime(time)).ok()?;
    let us = u64::try_from(utc.as_microsecond()).ok()?;
    const ZONE_US: TimeUs = 3 * 3_600_000_000;
    Some(Read { us: if of_the_set { us.saturating_add(ZONE_US) } else { us }, seconds: second.is_some() })
}

#[cfg(test)]
mod tests {
    use weir_core::render::rfc3339;

    use super::*;

    #[test]
    fn days_come_first_and_afternoons_are_told_by_the_hour() {
        for (text, expected, seconds) in [
            ("7/7/2017 3:30", "2017-07-07T18:30:00.000000Z", false),
            ("5/7/2017 8:42", "2017-07-05T11:42:00.000000Z", false),
            ("03/07/2017 08:55:58", "2017-07-03T11:55:58.000000Z", true),
            ("03/07/2017 12:00:01", "2017-07-03T15:00:01.000000Z", true),
            ("03/07/2017 05:02:11", "2017-07-03T20:02:11.000000Z", true),
            ("14/02/2018 08:31:01", "2018-02-14T08:31:01.000000Z", true),
            ("22/02/2018 12:11:58 AM", "2018-02-22T00:11:58.000000Z", true),
            ("22/02/2018 06:11:58 pm", "2018-02-22T18:11:58.000000Z", true),
            ("2017-07-06 12:39:06.818901", "2017-07-06T12:39:06.818901Z", true),
        ] {
            let read = read(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((rfc3339(read.us).as_str(), read.seconds), (expected, seconds), "{text}");
        }
        for text in [
            "",
            "7/7",
            "31/02/2017 3:30",
            "7/13/2017 3:30",
            "7/7/2017 25:00",
            "7/7/2017 3:30 XX",
            "1/1/1950 3:30",
            "7/7/2017 127:30 PM",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }
}
