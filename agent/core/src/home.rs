//! What is being protected, and who is therefore the offender of a flow.

use crate::addr::{Addr, Prefix};
use crate::record::FlowRecord;
use crate::role::Direction;

/// The networks being protected. Groups (multicast, limited broadcast) count as home when they are spoken to: a home
/// host that announces itself on its own link is not talking to a remote one.
///
/// An empty home makes every flow [`Direction::Lateral`], and then nobody is an offender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    prefixes: Vec<Prefix>,
}

impl Home {
    /// Sorted and without duplicates, so that equal homes compare equal.
    pub fn new(prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        let mut prefixes: Vec<Prefix> = prefixes.into_iter().collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        Self { prefixes }
    }

    pub fn prefixes(&self) -> &[Prefix] {
        &self.prefixes
    }

    pub fn contains(&self, addr: Addr) -> bool {
        self.prefixes.iter().any(|p| p.contains(addr))
    }

    pub fn direction(&self, client: Addr, server: Addr) -> Direction {
        match (self.contains(client), self.contains(server) || is_group(server)) {
            (false, true) => Direction::In,
            (true, false) => Direction::Out,
            _ => Direction::Lateral,
        }
    }

    /// Whom a decision may stop because of this flow: the remote client of an incoming flow. `None` for flows that a
    /// home host opened and for lateral ones: those are alerts about the client, never blocks.
    pub fn offender(&self, record: &FlowRecord) -> Option<Addr> {
        (self.direction(record.client, record.server) == Direction::In).then_some(record.client)
    }
}

/// Multicast of either family (RFC 5771, RFC 4291) or the limited broadcast address.
fn is_group(addr: Addr) -> bool {
    match addr.ip() {
        std::net::IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        std::net::IpAddr::V6(v6) => v6.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a(s: &str) -> Addr {
        s.parse().unwrap()
    }

    #[test]
    fn direction_is_seen_from_home() {
        let home = Home::new(["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
        assert_eq!(home.direction(a("192.0.2.1"), a("10.0.0.5")), Direction::In);
        assert_eq!(home.direction(a("10.0.0.5"), a("192.0.2.1")), Direction::Out);
        assert_eq!(home.direction(a("10.0.0.5"), a("10.0.0.6")), Direction::Lateral);
        assert_eq!(home.direction(a("192.0.2.1"), a("192.0.2.2")), Direction::Lateral);
        assert_eq!(home.direction(a("2001:db9::1"), a("2001:db8::1")), Direction::In);
        assert_eq!(home.direction(a("10.0.0.5"), a("224.0.0.251")), Direction::Lateral);
        assert_eq!(home.direction(a("192.0.2.1"), a("ff02::1")), Direction::In);
    }

    #[test]
    fn without_a_home_nothing_is_incoming() {
        assert_eq!(Home::default().direction(a("192.0.2.1"), a("10.0.0.5")), Direction::Lateral);
    }
}
