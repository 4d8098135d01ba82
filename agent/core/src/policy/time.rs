//! Times of day and days of the week, in a zone whose transitions are given: the policy reads no clock and no file.

use std::fmt;
use std::sync::Arc;

use crate::record::TimeUs;

const DAY_MINUTES: i64 = 24 * 60;
/// Names of the days, Monday first.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A time zone: from when on local time is so many seconds ahead of UTC.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    name: Arc<str>,
    /// Ascending by time; before the first, its own offset holds.
    offsets: Arc<[(TimeUs, i32)]>,
}

impl Zone {
    pub fn utc() -> Self {
        Self { name: "UTC".into(), offsets: [].into() }
    }

    /// `offsets`: seconds that local time is ahead of UTC, each with the time from which on it is.
    pub fn new(name: &str, mut offsets: Vec<(TimeUs, i32)>) -> Self {
        offsets.sort_unstable();
        Self { name: name.into(), offsets: offsets.into() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Seconds that local time is ahead of UTC.
    pub fn offset(&self, at: TimeUs) -> i32 {
        let after = self.offsets.partition_point(|(from, _)| *from <= at);
        self.offsets.get(after.saturating_sub(1)).map_or(0, |(_, offset)| *offset)
    }

    /// Minutes since local midnight, and the day of the week, Monday 0.
    fn local(&self, at: TimeUs) -> (u16, u8) {
        let seconds = i64::try_from(at / 1_000_000).unwrap_or(i64::MAX).saturating_add(i64::from(self.offset(at)));
        let minutes = seconds.div_euclid(60);
        let day = minutes.div_euclid(DAY_MINUTES);
        // The first day of 1970 was a Thursday.
        (minutes.rem_euclid(DAY_MINUTES) as u16, (day + 3).rem_euclid(7) as u8)
    }
}

/// Spans of the week.
#[derive(Clone, Debug, PartialEq)]
pub struct Hours {
    /// From this minute of the day to that one, the latter not included; over midnight where it is the smaller one.
    /// `None`: the whole day.
    pub span: Option<(u16, u16)>,
    /// Bit 0 is Monday. Of a span over midnight, the day on which it began.
    pub days: u8,
    pub zone: Zone,
}

/// Every day of the week.
pub const ALL_DAYS: u8 = 0x7f;

impl Hours {
    pub fn holds(&self, at: TimeUs) -> bool {
        let (minute, day) = self.zone.local(at);
        self.at(minute, day)
    }

    fn at(&self, minute: u16, day: u8) -> bool {
        let on = |day: u8| self.days >> (day % 7) & 1 == 1;
        match self.span {
            None => on(day),
            Some((from, to)) if from < to => minute >= from && minute < to && on(day),
            Some((from, to)) => (minute >= from && on(day)) || (minute < to && on(day + 6)),
        }
    }

    /// Whether these hold whenever `other` does; of other zones nothing is said.
    pub fn covers(&self, other: &Hours) -> bool {
        if self.zone != other.zone {
            return self.span.is_none() && self.days == ALL_DAYS;
        }
        let minutes = 0..DAY_MINUTES as u16;
        (0..7).all(|day| minutes.clone().all(|minute| !other.at(minute, day) || self.at(minute, day)))
    }

    /// They hold at no time.
    pub fn never(&self) -> bool {
        self.days & ALL_DAYS == 0
    }
}

impl fmt::Display for Hours {
    /// "on mon, tue from 22:00 to 06:00 (Europe/Berlin)".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<&str> = (0..7).filter(|d| self.days >> d & 1 == 1).map(|d| DAYS[d as usize]).collect();
        let mut parts = Vec::new();
        if self.days & ALL_DAYS != ALL_DAYS {
            parts.push(format!("on {}", named.join(", ")));
        }
        if let Some((from, to)) = self.span {
            let clock = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
            parts.push(format!("from {} to {}", clock(from), clock(to)));
        }
        if parts.is_empty() {
            parts.push("at any time".to_owned());
        }
        write!(f, "{} ({})", parts.join(" "), self.zone.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;
    const HOUR: u64 = 3_600 * S;
    /// A Monday, 0:00 UTC: 2023-11-13.
    const MONDAY: TimeUs = 1_699_833_600 * S;

    fn hours(span: Option<(u16, u16)>, days: u8, zone: Zone) -> Hours {
        Hours { span, days, zone }
    }

    #[test]
    fn a_span_over_midnight_belongs_to_the_day_on_which_it_began() {
        let night = hours(Some((22 * 60, 6 * 60)), 1 << 4, Zone::utc());
        let at = |day: u64, hour: u64| night.holds(MONDAY + day * 24 * HOUR + hour * HOUR);
        assert!(at(4, 22) && at(5, 5), "Friday night");
        assert!(!at(4, 21) && !at(5, 6) && !at(5, 22) && !at(4, 5) && !at(3, 23));
    }

    #[test]
    fn a_zone_has_its_own_midnight_and_changes_when_it_says() {
        // Two hours ahead until Wednesday noon UTC, then one.
        let zone = Zone::new("Test/Zone", vec![(0, 7_200), (MONDAY + 60 * HOUR, 3_600)]);
        let monday = hours(None, 1, zone.clone());
        assert!(monday.holds(MONDAY - 2 * HOUR) && !monday.holds(MONDAY - 2 * HOUR - 1));
        assert!(monday.holds(MONDAY + 22 * HOUR - 1) && !monday.holds(MONDAY + 22 * HOUR));
        let noon = hours(Some((12 * 60, 13 * 60)), ALL_DAYS, zone);
        assert!(noon.holds(MONDAY + 10 * HOUR) && !noon.holds(MONDAY + 11 * HOUR));
        assert!(noon.holds(MONDAY + 5 * 24 * HOUR + 11 * HOUR) && !noon.holds(MONDAY + 5 * 24 * HOUR + 10 * HOUR));
    }

    #[test]
    fn covering_is_being_true_whenever_the_other_is() {
        let z = Zone::utc;
        let day = hours(Some((6 * 60, 22 * 60)), ALL_DAYS, z());
        let noon = hours(Some((12 * 60, 13 * 60)), 1, z());
        assert!(day.covers(&noon) && !noon.covers(&day));
        assert!(hours(None, ALL_DAYS, z()).covers(&hours(Some((1, 2)), 3, Zone::new("X", vec![(0, 60)]))));
        assert!(!day.covers(&hours(Some((12 * 60, 13 * 60)), 1, Zone::new("X", vec![(0, 60)]))));
        assert_eq!(noon.to_string(), "on mon from 12:00 to 13:00 (UTC)");
    }
}
