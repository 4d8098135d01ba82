//! Inputs that have nothing to do with each other, such as captures of many networks and years, laid end to end.
//!
//! - Each input is one source in one block of time to the split: its rows are fitted to or calibrated by, never both, since a
//!   model that comes from elsewhere will meet networks that it has not seen.
//! - One input begins where the one before it ended, so that a day is a day of traffic that was watched: the years between two
//!   captures are none in which no false alarm came. Nor are those within one that was put together of several.
//! - One address in two inputs is two sources.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use weir_core::addr::Addr;
use weir_core::evidence::ObservationKind;
use weir_core::record::TimeUs;
use weir_models::RowInfo;

use super::rows::{Origin, Recorded};

/// A longer silence within an input is none that was watched: it was put together of several recordings.
const SILENCE_US: u64 = 600_000_000;

fn hash(what: impl Hash) -> u64 {
    let mut h = DefaultHasher::new();
    what.hash(&mut h);
    h.finish()
}

/// A source of one input under a name of its own. Addresses of one /64 stay in one.
fn renamed(source: Addr, input: u32) -> Addr {
    if source.is_v4() {
        return IpAddr::V4(Ipv4Addr::from_bits(hash((input, source)) as u32)).into();
    }
    let mut bytes = source.0;
    let network = hash((input, &bytes[..8]));
    bytes[..8].copy_from_slice(&network.to_be_bytes());
    Addr(bytes)
}

fn time(o: &Origin) -> Option<TimeUs> {
    o.observation.as_ref().map(|o| o.time_us).or(o.place.map(|p| p.time_us))
}

/// A piece of an input without a long silence: where it begins, and where it is moved to.
struct Piece {
    from: TimeUs,
    to: TimeUs,
}

/// Lays the inputs end to end, the first at time 0. Gives the end of each that has a time, in order.
pub fn lay_apart(recorded: &mut Recorded, window_us: u64) -> Vec<TimeUs> {
    let window_us = window_us.max(1);
    let mut times: BTreeMap<u32, Vec<TimeUs>> = BTreeMap::new();
    for o in recorded.profiles.iter().flat_map(|rows| &rows.origins) {
        times.entry(o.input).or_default().extend(time(o));
    }
    let (mut pieces, mut ends, mut begin) = (BTreeMap::new(), Vec::new(), 0);
    for (input, times) in &mut times {
        times.sort_unstable();
        let mut of = Vec::new();
        for piece in times.chunk_by(|a, b| b - a <= SILENCE_US.max(4 * window_us)) {
            // Whole windows, so that rows stay in theirs; two, since a window may begin before its row is known.
            let from = (piece[0] / window_us).saturating_sub(2) * window_us;
            of.push(Piece { from, to: begin });
            let length = piece[piece.len() - 1] - from;
            ends.push((*input, begin + length));
            begin += (length / window_us + 1) * window_us;
        }
        pieces.insert(*input, of);
    }
    // Where each input lies.
    let starts: BTreeMap<u32, TimeUs> =
        pieces.iter().map(|(i, of): (&u32, &Vec<Piece>)| (*i, of.first().map_or(0, |p| p.to))).collect();
    for o in recorded.profiles.iter_mut().flat_map(|rows| &mut rows.origins) {
        // Known or not, where a row comes from is known here: from this input.
        o.place = Some(RowInfo { time_us: starts.get(&o.input).copied().unwrap_or(0), group: hash(o.input) });
        o.source = o.source.map(|s| renamed(s, o.input));
        let Some(seen) = &mut o.observation else { continue };
        seen.source = renamed(seen.source, o.input);
        let of = pieces.get(&o.input).map_or(&[][..], Vec::as_slice);
        let Some(piece) = of[..of.partition_point(|p| p.from <= seen.time_us)].last() else { continue };
        let moved = |t: TimeUs| t.saturating_sub(piece.from) + piece.to;
        seen.time_us = moved(seen.time_us);
        if let ObservationKind::Window { start_us, .. } = &mut seen.kind {
            *start_us = moved(*start_us);
        }
    }
    ends.chunk_by(|a, b| a.0 == b.0).filter_map(|of| of.last()).map(|(_, end)| *end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::profile::ProfileId;
    use weir_core::role::Role;
    use weir_core::window::{SourceSummary, SourceWindow};

    const S: u64 = 1_000_000;

    fn window(source: &str, start_us: u64) -> SourceWindow {
        SourceWindow {
            source: source.parse().unwrap(),
            remote: true,
            role: Role::SourceAll,
            start_us,
            end_us: start_us + 10 * S,
            early: false,
            summary: SourceSummary { flows: 1, sampled: 1, ..SourceSummary::default() },
            ports: vec![80],
        }
    }

    #[test]
    fn a_capture_that_was_put_together_has_no_years_in_between() {
        let mut recorded = Recorded::new(&[ProfileId::Source], 10 * S);
        for start in [0, 40 * S, 2_000_000_000 * S] {
            recorded.add_windows(start + 11 * S, &[window("192.0.2.1", start)]);
        }
        assert_eq!(lay_apart(&mut recorded, 10 * S), [81 * S]);
        let seen: Vec<_> = recorded.profiles[0].origins.iter().map(|o| o.observation.clone().unwrap()).collect();
        let times: Vec<_> = seen.iter().map(|o| o.time_us).collect();
        assert_eq!(times, [11 * S, 51 * S, 81 * S]);
        assert!(seen.iter().all(|o| o.source == seen[0].source), "of one input");
        assert!(recorded.profiles[0].origins.iter().all(|o| o.place == recorded.profiles[0].origins[0].place));
    }

    #[test]
    fn years_between_captures_are_no_time_watched_and_one_address_is_two_sources() {
        let mut recorded = Recorded::new(&[ProfileId::Source], 10 * S);
        let (early, late) = (1_100_000_000 * S, 1_700_000_003 * S);
        for (at, sources) in [(late, ["192.0.2.1", "2001:db8::1"]), (early, ["192.0.2.1", "2001:db8::2"])] {
            for n in 0..3 {
                for source in sources {
                    let start = at / (10 * S) * 10 * S + n * 10 * S;
                    recorded.add_windows(start + 11 * S, &[window(source, start)]);
                }
            }
            recorded.next_input();
        }
        let ends = lay_apart(&mut recorded, 10 * S);
        assert_eq!(ends, [41 * S, 91 * S], "half a minute each, and the grace before it");
        let origins = &recorded.profiles[0].origins;
        let seen: Vec<_> = origins.iter().map(|o| o.observation.clone().unwrap()).collect();
        assert!(seen.iter().all(|o| o.time_us <= 91 * S), "{seen:?}");
        for o in &seen {
            let ObservationKind::Window { start_us, .. } = o.kind else { panic!() };
            assert_eq!((o.time_us - start_us, start_us % (10 * S)), (11 * S, 0));
        }
        assert_ne!(seen[0].source, seen[6].source, "one address, two networks");
        assert_eq!(seen[0].source, seen[2].source, "one source stays one");
        assert!(seen[0].source.is_v4() && !seen[1].source.is_v4());
        assert!(seen.iter().all(|o| !["192.0.2.1", "2001:db8::1"].contains(&o.source.to_string().as_str())));
        let places: Vec<_> = origins.iter().map(|o| o.place.unwrap()).collect();
        assert!(places[..6].iter().all(|p| *p == places[0]) && places[6..].iter().all(|p| *p == places[6]));
        assert_ne!(places[0].group, places[6].group);
    }
}
