//! Which profiles an input can honestly supply, and why not the others.

use std::collections::BTreeMap;
use std::fmt;

pub use weir_core::profile::ProfileId as Profile;
use weir_core::record::{FlowRecord, Have};

use crate::input::Format;

/// Whether a profile can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    Offered {
        /// What to know about its values, if anything.
        note: Option<&'static str>,
    },
    NotOffered {
        /// In words: what is not told.
        why: String,
    },
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Offer::Offered { note: None } => f.write_str("offered"),
            Offer::Offered { note: Some(note) } => write!(f, "offered; {note}"),
            Offer::NotOffered { why } => write!(f, "not offered: {why}"),
        }
    }
}

/// What of records that tell `have`, read from `format`, can be made. In the order of [`Profile::ALL`].
pub fn explain(format: Format, have: Have) -> Vec<(Profile, Offer)> {
    Profile::ALL.map(|profile| (profile, offer(profile, format, have))).into()
}

fn offer(profile: Profile, format: Format, have: Have) -> Offer {
    let lacks: Vec<String> =
        profile.needs().without(have).names().map(|what| format!("{what} ({})", meaning(what))).collect();
    if lacks.is_empty() {
        Offer::Offered { note: note(format, have) }
    } else {
        Offer::NotOffered { why: format!("{format} does not tell {}", lacks.join(", ")) }
    }
}

/// A part of [`Have`] in more words.
fn meaning(what: &'static str) -> &'static str {
    match what {
        "addresses" => "who talked to whom",
        "protocol" => "TCP, UDP, ICMP",
        "time" => "when a flow began",
        "duration" => "how long a flow took",
        "packets" => "how many each way",
        "bytes" => "IP bytes each way",
        "payload" => "bytes above TCP and UDP",
        "state" => "how far a flow got",
        "packet statistics" => "sizes, gaps and flags of single packets",
        "client and server" => "who opened the flow, seen and not guessed",
        _ => "not in the records",
    }
}

fn note(format: Format, have: Have) -> Option<&'static str> {
    Some(match format {
        Format::Eve => {
            "bytes are those of frames less 14 per packet for an assumed Ethernet header, 4 for each VLAN tag"
        }
        Format::CicIds2017 if !have.has(Have::SIDES) => {
            "how a flow ended is known only as answered or not, and short packets count up to 6 bytes of padding"
        }
        _ => return None,
    })
}

/// What the records of one input told: an input may tell more of some flows than of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Records by what they had.
    records: BTreeMap<u16, u64>,
}

impl Told {
    pub fn add(&mut self, record: &FlowRecord) {
        *self.records.entry(record.have.bits()).or_default() += 1;
    }

    pub fn records(&self) -> u64 {
        self.records.values().sum()
    }

    /// What at least one record told.
    pub fn any(&self) -> Have {
        Have::from_bits(self.records.keys().fold(0, |a, b| a | b))
    }

    /// What every record told.
    pub fn every(&self) -> Have {
        Have::from_bits(self.records.keys().fold(Have::ALL.bits(), |a, b| a & b))
    }

    /// How many records have all that the profile needs. The others have missing values in it.
    pub fn complete(&self, profile: Profile) -> u64 {
        let needs = profile.needs();
        self.records.iter().filter(|(bits, _)| Have::from_bits(**bits).has(needs)).map(|(_, n)| n).sum()
    }

    /// [`explain`] for an input that has been read, with how many of its flows are complete in each profile.
    ///
    /// A profile is offered where at least one flow in a hundred is complete: a single lucky row makes no profile.
    pub fn explain(&self, format: Format) -> Vec<(Profile, Offer, u64)> {
        Profile::ALL
            .map(|profile| {
                let complete = self.complete(profile);
                let enough = complete > 0 && complete.saturating_mul(100) >= self.records();
                let have = if enough { profile.needs().with(self.every()) } else { self.mostly() };
                let offer = match offer(profile, format, have) {
                    Offer::Offered { .. } if !enough => {
                        Offer::NotOffered { why: format!("{complete} of {} flows have all of it", self.records()) }
                    }
                    offer => offer,
                };
                (profile, offer, complete)
            })
            .into()
    }

    /// What at least one record in a hundred told.
    fn mostly(&self) -> Have {
        let all = self.records();
        let told = |bit: u16| self.records.iter().filter(|(b, _)| **b & bit != 0).map(|(_, n)| *n).sum::<u64>();
        let bits = (0..16).map(|i| 1_u16 << i).filter(|b| told(*b) > 0 && told(*b).saturating_mul(100) >= all);
        Have::from_bits(bits.fold(0, |a, b| a | b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::rows::blank;

    fn told(haves: &[(Have, u64)]) -> Told {
        let mut told = Told::default();
        for &(have, n) in haves {
            for _ in 0..n {
                told.add(&FlowRecord { have, ..blank() });
            }
        }
        told
    }

    #[test]
    fn a_capture_offers_everything() {
        assert!(explain(Format::Pcap, Have::ALL).iter().all(|(_, o)| *o == Offer::Offered { note: None }));
    }

    #[test]
    fn what_is_missing_is_named() {
        let zeek = Have::ALL.without(Have::STATS);
        let offers = explain(Format::ZeekTsv, zeek);
        assert_eq!(offers[0].1.to_string(), "offered");
        assert_eq!(
            offers[1].1.to_string(),
            "not offered: zeek does not tell packet statistics (sizes, gaps and flags of single packets)"
        );
        assert_eq!(offers[2].1.to_string(), "offered");
        let cic = Profile::Core.needs();
        assert!(matches!(explain(Format::CicIds2017, cic)[0].1, Offer::Offered { note: Some(_) }));
        let source = explain(Format::CicIds2017, cic)[2].1.to_string();
        assert!(source.contains("time (when a flow began)") && source.contains("addresses"), "{source}");
    }

    #[test]
    fn an_input_is_judged_by_its_flows() {
        let full = Have::ALL.without(Have::STATS);
        let t = told(&[(full, 98), (full.without(Have::SIDES), 1), (full.without(Have::DURATION), 1)]);
        let offers = t.explain(Format::ZeekTsv);
        assert_eq!((offers[0].2, offers[1].2, offers[2].2), (99, 0, 98));
        assert!(matches!(offers[0].1, Offer::Offered { .. }) && matches!(offers[2].1, Offer::Offered { .. }));
        let t = told(&[(full, 1), (full.without(Have::TIME), 500)]);
        assert_eq!(
            t.explain(Format::ZeekTsv)[2].1.to_string(),
            "not offered: zeek does not tell time (when a flow began)"
        );
        assert!(
            Told::default()
                .explain(Format::Eve)
                .iter()
                .all(|(_, o, n)| matches!(o, Offer::NotOffered { .. }) && *n == 0)
        );
        assert_eq!(t.any(), full);
        assert_eq!(t.every(), full.without(Have::TIME));
    }
}
