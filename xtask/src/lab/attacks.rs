//! The attacks of the lab, and what must become of each.

use std::net::IpAddr;

use super::plan;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A drop entry, soon enough that the attacker itself notices.
    Dropped,
    /// An alert or a shadow entry; a drop would let anyone cut off anyone else.
    OnlyNoticed,
}

#[derive(Clone, Copy, Debug)]
pub struct Attack {
    pub name: &'static str,
    /// As the attacking process calls it.
    pub kind: &'static str,
    /// Where it comes from, or pretends to come from.
    pub source: IpAddr,
    pub rate: u64,
    pub seconds: u64,
    pub expected: Expected,
}

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "port scan",
        kind: "scan",
        source: IpAddr::V4(plan::SCANNER),
        rate: 150,
        seconds: 25,
        expected: Expected::Dropped,
    },
    Attack {
        name: "port scan, IPv6",
        kind: "scan",
        source: IpAddr::V6(plan::SCANNER6),
        rate: 150,
        seconds: 25,
        expected: Expected::Dropped,
    },
    Attack {
        name: "password guessing",
        kind: "guess",
        source: IpAddr::V4(plan::GUESSER),
        rate: 8,
        seconds: 25,
        expected: Expected::Dropped,
    },
    Attack {
        name: "HTTP flood",
        kind: "flood",
        source: IpAddr::V4(plan::FLOODER),
        rate: 200,
        seconds: 25,
        expected: Expected::Dropped,
    },
    Attack {
        name: "SYN scan, forged source",
        kind: "forged-syn",
        source: IpAddr::V4(plan::NOBODY),
        rate: 300,
        seconds: 8,
        expected: Expected::OnlyNoticed,
    },
    Attack {
        name: "blind ACKs in a client's name",
        kind: "blind-ack",
        source: IpAddr::V4(plan::VICTIM),
        rate: 150,
        seconds: 8,
        expected: Expected::OnlyNoticed,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_sources_are_not_the_attackers_own_and_the_others_are() {
        for attack in ATTACKS {
            let own = plan::attackers().contains(&attack.source);
            assert_eq!(own, attack.expected == Expected::Dropped, "{}", attack.name);
        }
        let mut sources: Vec<_> = ATTACKS.iter().map(|a| a.source).collect();
        sources.sort();
        sources.dedup();
        assert_eq!(sources.len(), ATTACKS.len(), "each attack has a source of its own");
    }
}
