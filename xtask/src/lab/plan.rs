//! Who has which address, and what the server offers. Addresses are those set aside for documentation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const SERVER4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);

/// Honest clients: so many with IPv4, so many with IPv6.
pub const CLIENTS4: u8 = 48;
pub const CLIENTS6: u16 = 16;

pub const HTTP: u16 = 80;
pub const HTTPS: u16 = 443;
pub const SSH: u16 = 22;
pub const SMTP: u16 = 25;
pub const DNS: u16 = 53;
pub const BULK: u16 = 8080;
/// What a scan finds open.
pub const OPEN_TCP: [u16; 5] = [SSH, SMTP, HTTP, HTTPS, BULK];

pub const SCANNER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 201);
pub const GUESSER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 202);
pub const FLOODER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 203);
pub const SCANNER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0xa, 0, 0, 0, 0x201);
/// No host has this one: it only stands in forged packets.
pub const NOBODY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 250);
/// The honest client in whose name the blind flood comes.
pub const VICTIM: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The attacker's own address, from which nothing is ever sent to the server.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);

pub fn clients() -> Vec<IpAddr> {
    let v4 = (0..CLIENTS4).map(|i| IpAddr::from(Ipv4Addr::new(198, 51, 100, 10 + i)));
    let v6 = (0..CLIENTS6).map(|i| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0xc, 0, 0, 0, 0x10 + i)));
    v4.chain(v6).collect()
}

pub fn attackers() -> Vec<IpAddr> {
    vec![ATTACKER.into(), SCANNER.into(), GUESSER.into(), FLOODER.into(), SCANNER6.into()]
}

/// The server's address of the same family.
pub fn server_for(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => SERVER4.into(),
        IpAddr::V6(_) => SERVER6.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_64_clients_and_no_address_is_given_twice() {
        let clients = clients();
        assert!(clients.len() >= 64);
        assert!(clients.contains(&IpAddr::from(VICTIM)));
        let mut all: Vec<IpAddr> = clients.into_iter().chain(attackers()).collect();
        all.extend([IpAddr::from(SERVER4), SERVER6.into(), NOBODY.into()]);
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn attackers_and_clients_share_no_ipv6_prefix_that_could_be_blocked() {
        let prefix = |a: IpAddr| match a {
            IpAddr::V6(a) => Some(a.segments()[..4].to_vec()),
            IpAddr::V4(_) => None,
        };
        for attacker in attackers().into_iter().filter_map(prefix) {
            assert!(!clients().into_iter().filter_map(prefix).any(|c| c == attacker));
        }
    }
}
