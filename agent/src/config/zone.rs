//! Time zones by name, from the system's database, as tables that the policy can read by itself.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use weir_core::policy::time::Zone;

/// Zones are known up to here, in seconds since 1970: the end of the century. Later, the last offset holds.
const UNTIL_S: i64 = 4_102_444_800;

/// `UTC`, a name such as `Europe/Berlin`, or an offset such as `+02:00`.
pub fn zone(name: &str) -> Result<Zone, String> {
    if name == "UTC" {
        return Ok(Zone::utc());
    }
    if let Some(seconds) = offset(name) {
        return Ok(Zone::new(name, vec![(0, seconds)]));
    }
    let bad = |e: &dyn std::fmt::Display| {
        format!(
            "`{name}` is no time zone that this machine knows ({e}); write UTC, +02:00 or a name such as Europe/Berlin"
        )
    };
    let zone = TimeZone::get(name).map_err(|e| bad(&e))?;
    let first = (0, zone.to_offset(Timestamp::UNIX_EPOCH).seconds());
    let changes = zone.following(Timestamp::UNIX_EPOCH).take_while(|t| t.timestamp().as_second() < UNTIL_S);
    let changes = changes.map(|t| (t.timestamp().as_microsecond().unsigned_abs(), t.offset().seconds()));
    Ok(Zone::new(name, std::iter::once(first).chain(changes).collect()))
}

/// Seconds ahead of UTC of `+02:00` and the like.
fn offset(text: &str) -> Option<i32> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (h, m) = text[1..].split_once(':')?;
    let of = |s: &str, below: i32| s.parse::<i32>().ok().filter(|n| s.len() == 2 && (0..below).contains(n));
    Some(sign * (of(h, 15)? * 3600 + of(m, 60)? * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_their_winters_and_summers() {
        let at = |zone: &Zone, text: &str| {
            let at: Timestamp = text.parse().unwrap();
            zone.offset(at.as_microsecond() as u64) / 3600
        };
        let berlin = zone("Europe/Berlin").unwrap();
        assert_eq!((at(&berlin, "2026-01-15T12:00:00Z"), at(&berlin, "2026-07-15T12:00:00Z")), (1, 2));
        assert_eq!((at(&berlin, "2026-03-29T00:59:59Z"), at(&berlin, "2026-03-29T01:00:00Z")), (1, 2));
        assert_eq!((at(&berlin, "1975-07-15T12:00:00Z"), at(&berlin, "2099-07-15T12:00:00Z")), (1, 2));
        let york = zone("America/New_York").unwrap();
        assert_eq!(at(&york, "2026-11-27T12:00:00Z"), -5);
        assert_eq!(at(&zone("+02:00").unwrap(), "2026-01-15T12:00:00Z"), 2);
        assert_eq!(at(&zone("-03:00").unwrap(), "2026-01-15T12:00:00Z"), -3);
        assert_eq!(at(&zone("UTC").unwrap(), "2026-01-15T12:00:00Z"), 0);
        for wrong in ["Mars/Olympus", "", "+2", "+25:00", "../etc/passwd", "+é:00"] {
            assert!(zone(wrong).unwrap_err().contains("is no time zone"), "{wrong}");
        }
    }
}
