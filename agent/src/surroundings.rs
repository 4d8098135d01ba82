//! What the host itself tells: which networks are home, and who must never be stopped.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use weir_core::addr::{Addr, Prefix};
use weir_core::guard::Safe;

/// Private networks (RFC 1918, RFC 3927, RFC 4193, RFC 4291): home where nobody says which, and no interface tells.
pub fn private_networks() -> impl Iterator<Item = Prefix> {
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"]
        .iter()
        .filter_map(|p| p.parse().ok())
}

/// Own addresses, each with the prefix that its interface is connected to.
fn own_addresses() -> Vec<(String, Addr, Prefix)> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    all.filter_map(|i| {
        let ip = ip_of(i.address.as_ref()?)?;
        let mask = i.netmask.as_ref().and_then(ip_of);
        let len = match mask {
            Some(IpAddr::V4(m)) => u32::from(m).count_ones() as u8,
            Some(IpAddr::V6(m)) => u128::from(m).count_ones() as u8,
            None => 128,
        };
        let addr = Addr::from(ip);
        Some((i.interface_name, addr, Prefix::new(addr, len)))
    })
    .collect()
}

fn ip_of(s: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    s.as_sockaddr_in().map(|a| IpAddr::V4(a.ip())).or_else(|| s.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}

/// Own and connected networks of the interfaces with these names, and every own address.
pub fn home(watched: impl Fn(&str) -> bool) -> Vec<Prefix> {
    let mut home = BTreeSet::new();
    for (name, addr, prefix) in own_addresses() {
        home.insert(Prefix::host(addr));
        // A point-to-point or catch-all mask would make the whole internet home.
        if watched(&name) && prefix.len() >= if prefix.is_v4() { 8 } else { 32 } {
            home.insert(prefix);
        }
    }
    home.into_iter().collect()
}

/// Everybody who must stay reachable, each with the reason. Sessions count where somebody has logged in: whoever merely
/// connects must not become safe by it.
pub fn safe_set() -> Vec<Safe> {
    let mut safe = Vec::new();
    let mut seen = BTreeSet::new();
    let mut add = |addr: Addr, why: String| {
        let unspecified = addr.ip().is_unspecified();
        if !unspecified && seen.insert(addr) {
            safe.push(Safe { prefix: Prefix::host(addr), why });
        }
    };
    for (name, addr, _) in own_addresses() {
        add(addr, format!("own address on {name}"));
    }
    for (name, addr) in read("/proc/net/route").map(|t| gateways_v4(&t)).unwrap_or_default() {
        add(addr, format!("gateway on {name}"));
    }
    for (name, addr) in read("/proc/net/ipv6_route").map(|t| gateways_v6(&t)).unwrap_or_default() {
        add(addr, format!("gateway on {name}"));
    }
    for file in ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] {
        for addr in read(file).map(|t| addresses_after(&t, &["nameserver"])).unwrap_or_default() {
            add(addr, format!("name server of {file}"));
        }
    }
    for file in ["/etc/ntp.conf", "/etc/chrony/chrony.conf", "/etc/chrony.conf", "/etc/systemd/timesyncd.conf"] {
        let words = ["server", "pool", "peer", "NTP=", "FallbackNTP="];
        for addr in read(file).map(|t| addresses_after(&t, &words)).unwrap_or_default() {
            add(addr, format!("time server of {file}"));
        }
    }
    for addr in dhcp_servers() {
        add(addr, "DHCP server of a lease".to_owned());
    }
    for (user, addr) in logged_in() {
        add(addr, format!("login session of {user}"));
    }
    for (session, addr) in logind_sessions(Path::new("/run/systemd/sessions")) {
        add(addr, format!("login session {session}"));
    }
    if let Some(addr) = starting_session() {
        add(addr, "the session that started this agent".to_owned());
    }
    safe
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    // Absent files are the normal case.
    fs::read_to_string(path).ok()
}

/// `/proc/net/route`: interface, destination, gateway, flags in hexadecimal, host byte order.
fn gateways_v4(text: &str) -> Vec<(String, Addr)> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut f = line.split_ascii_whitespace();
            let name = f.next()?.to_owned();
            let gateway = u32::from_str_radix(f.nth(1)?, 16).ok()?;
            Some((name, Addr::from(IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes())))))
        })
        .filter(|(_, a)| !a.ip().is_unspecified())
        .collect()
}

/// `/proc/net/ipv6_route`: destination, length, source, length, next hop, ..., interface.
fn gateways_v6(text: &str) -> Vec<(String, Addr)> {
    text.lines()
        .filter_map(|line| {
            let f: Vec<&str> = line.split_ascii_whitespace().collect();
            let hop = u128::from_str_radix(f.get(4)?, 16).ok()?;
            Some(((*f.last()?).to_owned(), Addr::from(IpAddr::V6(Ipv6Addr::from(hop)))))
        })
        .filter(|(_, a)| !a.ip().is_unspecified())
        .collect()
}

/// Addresses on lines that begin with one of `words`. Names are left out: nothing here asks the network.
fn addresses_after(text: &str, words: &[&str]) -> Vec<Addr> {
    text.lines()
        .filter_map(|l| words.iter().find_map(|w| l.trim_start().strip_prefix(w)))
        .flat_map(|rest| rest.split([' ', '\t', ',']))
        .filter_map(|w| w.split('%').next()?.parse().ok())
        .collect()
}

/// Leases of systemd-networkd, dhclient and NetworkManager.
fn dhcp_servers() -> Vec<Addr> {
    let mut found = Vec::new();
    for dir in ["/run/systemd/netif/leases", "/var/lib/dhcp", "/var/lib/dhclient", "/var/lib/NetworkManager"] {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Some(text) = read(entry.path()) else { continue };
            for line in text.lines() {
                let line = line.trim();
                let value = line
                    .strip_prefix("SERVER_ADDRESS=")
                    .or_else(|| line.strip_prefix("option dhcp-server-identifier "))
                    .map(|v| v.trim_end_matches(';'));
                found.extend(value.and_then(|v| v.parse::<Addr>().ok()));
            }
        }
    }
    found
}

/// Remote hosts of the users whom utmp(5) has as logged in.
fn logged_in() -> Vec<(String, Addr)> {
    let mut found = Vec::new();
    // SAFETY: the utmp functions keep static state; nothing else in this process calls them.
    unsafe {
        libc::setutxent();
        while let Some(u) = libc::getutxent().as_ref() {
            if u.ut_type != libc::USER_PROCESS {
                continue;
            }
            let words: [i32; 4] = u.ut_addr_v6;
            let ip = if words[1..] == [0; 3] {
                IpAddr::V4(Ipv4Addr::from(words[0].to_ne_bytes()))
            } else {
                let mut bytes = [0u8; 16];
                for (b, w) in bytes.chunks_exact_mut(4).zip(words) {
                    b.copy_from_slice(&w.to_ne_bytes());
                }
                IpAddr::V6(Ipv6Addr::from(bytes))
            };
            let user: Vec<u8> = u.ut_user.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
            if !ip.is_unspecified() {
                found.push((String::from_utf8_lossy(&user).into_owned(), Addr::from(ip)));
            }
        }
        libc::endutxent();
    }
    found
}

/// logind's session files with a remote host.
fn logind_sessions(dir: &Path) -> Vec<(String, Addr)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Some(text) = read(entry.path()) else { continue };
        let value = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        // "closing" and "opening" are not logged in.
        let there = matches!(value("STATE"), Some("active" | "online")) && value("REMOTE") == Some("1");
        if let Some(addr) = value("REMOTE_HOST").filter(|_| there).and_then(|h| h.parse().ok()) {
            found.push((entry.file_name().to_string_lossy().into_owned(), addr));
        }
    }
    found
}

/// The client's address in `SSH_CONNECTION` of this process or of one that it was started from: sudo takes the variable
/// out of the environment.
fn starting_session() -> Option<Addr> {
    let mut pid = std::process::id();
    for _ in 0..32 {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let connection = environ.split(|b| *b == 0).find_map(|v| v.strip_prefix(b"SSH_CONNECTION="));
        if let Some(addr) = connection.and_then(|c| std::str::from_utf8(c).ok()?.split(' ').next()?.parse().ok()) {
            return Some(addr);
        }
        let stat = read(format!("/proc/{pid}/stat"))?;
        // The command's name is in brackets and may hold anything.
        pid = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
        if pid <= 1 {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a(s: &str) -> Addr {
        s.parse().unwrap()
    }

    #[test]
    fn gateways_are_read_from_the_routing_tables() {
        let v4 =
            "Iface\tDestination\tGateway \tFlags\neth0\t00000000\t0100000A\t0003\neth0\t0000000A\t00000000\t0001\n";
        assert_eq!(gateways_v4(v4), [("eth0".to_owned(), a("10.0.0.1"))]);
        let v6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                  fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
                  20010db8000000000000000000000000 40 00000000000000000000000000000000 00 \
                  00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n";
        assert_eq!(gateways_v6(v6), [("eth0".to_owned(), a("fe80::1"))]);
        assert!(gateways_v4("garbage").is_empty() && gateways_v6("a b c").is_empty());
    }

    #[test]
    fn only_addresses_of_configured_servers_count() {
        let text = "# nameserver 1.1.1.1\nnameserver 9.9.9.9\nnameserver fe80::1%eth0\nsearch 8.8.8.8\nserver ntp.example iburst\n";
        assert_eq!(addresses_after(text, &["nameserver"]), [a("9.9.9.9"), a("fe80::1")]);
        assert!(addresses_after(text, &["server"]).is_empty());
        assert_eq!(addresses_after("NTP=192.0.2.1 192.0.2.2\n", &["NTP="]), [a("192.0.2.1"), a("192.0.2.2")]);
    }

    #[test]
    fn only_an_open_remote_session_makes_its_host_safe() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("1", "USER=alice\nSTATE=active\nREMOTE=1\nREMOTE_HOST=192.0.2.7\n");
        write("2", "USER=bob\nSTATE=closing\nREMOTE=1\nREMOTE_HOST=192.0.2.8\n");
        write("3", "USER=eve\nSTATE=active\nREMOTE=0\nREMOTE_HOST=192.0.2.9\n");
        write("4.ref", "");
        assert_eq!(logind_sessions(dir.path()), [("1".to_owned(), a("192.0.2.7"))]);
    }

    #[test]
    fn own_addresses_are_home_and_safe() {
        let lo = a("127.0.0.1");
        assert!(home(|name| name == "lo").iter().any(|p| p.contains(lo)));
        assert!(safe_set().iter().any(|s| s.prefix.contains(lo) && s.why == "own address on lo"));
    }
}
