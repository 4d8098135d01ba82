//! Who has a management session open right now: connections to this host's login services, whoever they are. That makes nobody
//! safe, but a person who would cut one is asked to confirm.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_core::addr::Addr;
use weir_core::role::ServiceClass;

/// State of an established connection in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// Peers of established connections to a login port of this host.
pub fn management_peers() -> Vec<Addr> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let mut peers: Vec<Addr> = tables.iter().flat_map(|t| peers(t)).filter(|a| !a.ip().is_loopback()).collect();
    peers.sort_unstable();
    peers.dedup();
    peers
}

/// `/proc/net/tcp` and `tcp6`: number, local address and port, remote ones, state; addresses as words of the host's byte order.
fn peers(table: &str) -> impl Iterator<Item = Addr> {
    table.lines().skip(1).filter_map(|line| {
        let mut f = line.split_ascii_whitespace().skip(1);
        let (_, port) = end(f.next()?)?;
        let (peer, _) = end(f.next()?)?;
        let login = ServiceClass::of_port(port) == ServiceClass::Login;
        (f.next()? == ESTABLISHED && login).then_some(peer)
    })
}

fn end(text: &str) -> Option<(Addr, u16)> {
    let (addr, port) = text.split_once(':')?;
    let word = |i: usize| u32::from_str_radix(addr.get(8 * i..8 * i + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match addr.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (i, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(i)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some((ip.to_canonical().into(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn peers_are_those_of_established_logins() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
             0: 0100000A:0016 0A7100CB:C001 01 00000000:00000000\n\
             1: 0100000A:0016 0B7100CB:C001 06 00000000:00000000\n\
             2: 0100000A:01BB 0C7100CB:C001 01 00000000:00000000\n\
             3: 00000000:0016 00000000:0000 0A 00000000:00000000\n";
        let said: Vec<String> = peers(table).map(|a| a.to_string()).collect();
        assert_eq!(said, ["203.0.113.10"], "not the one that closed, nor the web client");
        let six = "head\n 0: B80D0120000000000000000001000000:0016 B80D0120660000000000000007000000:C001 01 0\n\
             1: 0000000000000000FFFF00000100000A:0016 0000000000000000FFFF00000A7100CB:C001 01 0\n";
        let said: Vec<String> = peers(six).map(|a| a.to_string()).collect();
        assert_eq!(said, ["2001:db8:0:66::7", "203.0.113.10"]);
    }
}
