//! Addresses and names of hosts, replaced by pseudonyms: the same one has the same pseudonym throughout, and nothing of it or its
//! network can be read off that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ring::hmac;
use serde_json::Value;

/// Top-level domains by which a word is taken for the name of a host: those that are common, and those of private networks.
const DOMAINS: [&str; 24] = [
    "com", "net", "org", "edu", "gov", "mil", "int", "info", "biz", "io", "dev", "app", "cloud", "eu", "local", "lan",
    "home", "internal", "intranet", "corp", "arpa", "example", "test", "invalid",
];

/// Makes pseudonyms under a key that is made anew each time and kept nowhere.
pub struct Mask {
    key: hmac::Key,
    /// In lower case, the longest first.
    names: Vec<String>,
    /// With a dot before.
    domains: Vec<String>,
}

/// What says nothing of anybody: the unspecified addresses and this host's own.
fn is_kept(ip: IpAddr) -> bool {
    ip.is_unspecified() || ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || ip == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'-' || b == b'.'
}

impl Mask {
    /// `names` are those of hosts that are known to occur, `domains` those whose hosts are masked whatever they are called.
    pub fn new(
        names: impl IntoIterator<Item = String>,
        domains: impl IntoIterator<Item = String>,
    ) -> Result<Self, String> {
        let mut secret = [0u8; 32];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut secret)
            .map_err(|_| "the system gives no random bytes".to_owned())?;
        // The product's own name says nothing.
        let plain = ["localhost", "weir"];
        let known = |n: &String| n.parse::<IpAddr>().is_err() && !n.is_empty() && !plain.contains(&n.as_str());
        let mut names: Vec<_> =
            names.into_iter().map(|n| n.trim_matches('.').to_ascii_lowercase()).filter(known).collect();
        names.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        names.dedup();
        let domains = domains
            .into_iter()
            .map(|d| format!(".{}", d.trim_matches('.').to_ascii_lowercase()))
            .filter(|d| d.len() > 1);
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), names, domains: domains.collect() })
    }

    fn pseudonym(&self, kind: &str, of: &[u8]) -> String {
        let tag = hmac::sign(&self.key, &[kind.as_bytes(), &[0], of].concat());
        let hex: String = tag.as_ref().iter().take(5).map(|b| format!("{b:02x}")).collect();
        format!("{kind}-{hex}")
    }

    fn address(&self, ip: IpAddr) -> Option<String> {
        match ip.to_canonical() {
            ip if is_kept(ip) => None,
            IpAddr::V4(v4) => Some(self.pseudonym("ipv4", &v4.octets())),
            IpAddr::V6(v6) => Some(self.pseudonym("ipv6", &v6.octets())),
        }
    }

    /// Strings of the value, and keys of its objects.
    pub fn json(&self, value: Value) -> Value {
        match value {
            Value::String(s) => Value::String(self.text(&s)),
            Value::Array(all) => all.into_iter().map(|v| self.json(v)).collect(),
            Value::Object(all) => Value::Object(all.into_iter().map(|(k, v)| (self.text(&k), self.json(v))).collect()),
            other => other,
        }
    }

    pub fn text(&self, text: &str) -> String {
        self.hosts(&self.addresses(text))
    }

    fn addresses(&self, text: &str) -> String {
        let bytes = text.as_bytes();
        let mut out = String::with_capacity(text.len());
        let (mut at, mut copied) = (0, 0);
        while at < bytes.len() {
            if let Some((from, to, with)) = self.match_at(text, at) {
                if let Some(with) = with {
                    out.push_str(&text[copied..from]);
                    out.push_str(&with);
                    copied = to;
                }
                at = to;
            } else {
                at += 1;
            }
        }
        out.push_str(&text[copied..]);
        out
    }

    /// An address that begins at `at`: from where to where, and what takes its place (`None`: it is kept).
    fn match_at(&self, text: &str, at: usize) -> Option<(usize, usize, Option<String>)> {
        let bytes = text.as_bytes();
        let before = at.checked_sub(1).map(|i| bytes[i]);
        if let Some(len) = mac(&bytes[at..], before) {
            let digits: Vec<u8> =
                bytes[at..at + len].iter().filter(|b| b.is_ascii_hexdigit()).map(u8::to_ascii_lowercase).collect();
            let said = digits.iter().any(|d| *d != b'0') && digits.iter().any(|d| *d != b'f');
            return Some((at, at + len, said.then(|| self.pseudonym("mac", &digits))));
        }
        if let Some((len, ip)) = v6(text, at, before) {
            return Some((at, at + len, self.address(IpAddr::V6(ip))));
        }
        let (len, ip) = v4(text, at, before)?;
        Some((at, at + len, self.address(IpAddr::V4(ip))))
    }

    /// Names of hosts: known ones, of known domains, in URLs, and what looks like one.
    fn hosts(&self, text: &str) -> String {
        let bytes = text.as_bytes();
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            if !is_name(bytes[at]) {
                let Some(c) = text[at..].chars().next() else { break };
                out.push(c);
                at += c.len_utf8();
                continue;
            }
            let end = bytes[at..].iter().position(|b| !is_name(*b)).map_or(text.len(), |n| at + n);
            // A sentence ends with a dot as well.
            let word = text[at..end].trim_end_matches(['.', '-']);
            let in_url = out.ends_with("://") || out.ends_with('@');
            match (!word.is_empty() && !ends_in_word(&out, bytes.get(at + word.len()).copied()))
                .then(|| self.host(word, in_url))
                .flatten()
            {
                Some(masked) => {
                    out.push_str(&masked);
                    at += word.len();
                }
                None => {
                    out.push_str(&text[at..end]);
                    at = end;
                }
            }
        }
        out
    }

    fn host(&self, word: &str, in_url: bool) -> Option<String> {
        let lower = word.to_ascii_lowercase();
        let ours = ["ipv4-", "ipv6-", "mac-", "host-"].iter().any(|p| lower.starts_with(p));
        if ours || lower == "localhost" || lower.parse::<IpAddr>().is_ok() {
            return None;
        }
        let whole = self.names.contains(&lower);
        let last = lower.rsplit('.').next().unwrap_or_default();
        let looks = lower.contains('.') && DOMAINS.contains(&last) && !lower.starts_with('.');
        let below = self.domains.iter().any(|d| lower.ends_with(d.as_str()));
        if whole || looks || below || in_url {
            return Some(self.pseudonym("host", lower.as_bytes()));
        }
        // A known name with something before or behind: `sensor1.pcap`, `logs.sensor1`, `eth0-sensor1`.
        let inner = self.names.iter().find_map(|n| {
            let from = lower.find(n.as_str())?;
            let edge = |b: Option<&u8>| b.is_none_or(|b| !is_word(*b));
            let bytes = lower.as_bytes();
            let free = edge(from.checked_sub(1).map(|i| &bytes[i])) && edge(bytes.get(from + n.len()));
            free.then(|| (from, from + n.len(), n))
        });
        let (from, to, name) = inner?;
        Some(format!("{}{}{}", &word[..from], self.pseudonym("host", name.as_bytes()), &word[to..]))
    }
}

/// Whether a word goes on at either side with what is in no name: `_`.
fn ends_in_word(before: &str, after: Option<u8>) -> bool {
    before.ends_with('_') || after == Some(b'_')
}

/// `aa:bb:cc:dd:ee:ff`, with dashes, or `aabb.ccdd.eeff`.
fn mac(bytes: &[u8], before: Option<u8>) -> Option<usize> {
    let part = |b: u8| b.is_ascii_hexdigit() || b == b':' || b == b'-';
    if before.is_some_and(|b| part(b) && b != b':' && b != b'-') {
        return None;
    }
    let shaped = |group: usize, groups: usize, between: u8| {
        let len = groups * (group + 1) - 1;
        let all = bytes.get(..len)?;
        let fits = all
            .iter()
            .enumerate()
            .all(|(i, b)| if i % (group + 1) == group { *b == between } else { b.is_ascii_hexdigit() });
        let ends = bytes.get(len).is_none_or(|b| !b.is_ascii_hexdigit() && *b != between);
        (fits && ends && before != Some(between)).then_some(len)
    };
    shaped(2, 6, b':').or_else(|| shaped(2, 6, b'-')).or_else(|| shaped(4, 3, b'.'))
}

fn v4(text: &str, at: usize, before: Option<u8>) -> Option<(usize, Ipv4Addr)> {
    let bytes = text.as_bytes();
    if !bytes[at].is_ascii_digit() || before.is_some_and(|b| b.is_ascii_digit()) {
        return None;
    }
    let longer = before == Some(b'.') && at >= 2 && bytes[at - 2].is_ascii_digit();
    let (mut end, mut dots) = (at, 0);
    while let Some(b) = bytes.get(end) {
        match b {
            b'.' if dots < 3 && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) => dots += 1,
            b if b.is_ascii_digit() => {}
            _ => break,
        }
        end += 1;
    }
    let goes_on = bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
    if longer || goes_on || dots != 3 {
        return None;
    }
    let mut parts = text[at..end].split('.').map(|p| p.parse::<u8>().ok());
    let octets = [parts.next()??, parts.next()??, parts.next()??, parts.next()??];
    Some((end - at, octets.into()))
}

fn v6(text: &str, at: usize, before: Option<u8>) -> Option<(usize, Ipv6Addr)> {
    let bytes = text.as_bytes();
    let part = |b: u8| b.is_ascii_hexdigit() || b == b':' || b == b'.';
    // In the middle of a run nothing begins but behind a single colon, or behind an escaped letter.
    let escaped = at >= 2 && bytes[at - 2] == b'\\';
    if !part(bytes[at]) || before.is_some_and(|b| part(b) && b != b':' && !escaped) {
        return None;
    }
    let end = bytes[at..].iter().position(|b| !part(*b)).map_or(text.len(), |n| at + n);
    if !text[at..end].contains(':') || bytes.get(end).is_some_and(|b| is_word(*b)) {
        return None;
    }
    let run = text[at..end].trim_end_matches('.');
    // "fe80::1: unreachable" ends with a colon that is none of it.
    let shorter = run.strip_suffix(':').filter(|r| !r.ends_with(':'));
    [Some(run), shorter].into_iter().flatten().find_map(|r| r.parse().ok().map(|ip| (r.len(), ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask() -> Mask {
        Mask::new(["Sensor1".to_owned(), "sensor1.example".to_owned()], ["corp.site".to_owned()]).unwrap()
    }

    #[test]
    fn every_form_of_an_address_is_masked_wherever_it_stands() {
        let m = mask();
        for (text, secrets) in [
            ("from 198.51.100.7 to 203.0.113.1.", &["198.51.100.7", "203.0.113.1"][..]),
            ("tcp:198.51.100.7:5555-203.0.113.1:443", &["198.51", "203.0"]),
            ("[2001:db8::7]:22 and 2001:DB8:0::7/64", &["db8", "DB8"]),
            ("peer fe80::1%eth0: gone", &["fe80"]),
            ("fe80::1: gone", &["fe80"]),
            ("src=192.0.2.9,dst=\"192.0.2.10\"", &["192.0.2"]),
            (r#"{"a":"x\n192.0.2.1 \b2001:db8::5"}"#, &["192.0.2.1", "2001:db8"]),
            ("from:2001:db8::77", &["db8"]),
            ("link/ether aa:bb:cc:0d:EE:ff brd", &["aa:bb", "EE:ff"]),
            ("aabb.cc0d.eeff AA-BB-CC-0D-EE-FF", &["aabb", "AA-BB"]),
            ("v1.2.3.4 is masked too", &["1.2.3.4"]),
            ("::ffff:192.0.2.1", &["192.0.2.1", "ffff"]),
            ("host sensor1, Sensor1.pcap, ssh://SENSOR1.example/x", &["ensor1", "ENSOR1"]),
            ("https://hooks.example.net/a and mail.corp.site", &["hooks", "mail"]),
            ("cannot reach logs.example.org: refused", &["logs"]),
            ("ops@10.0.0.3 ops@db7", &["10.0.0.3", "db7"]),
        ] {
            let masked = m.text(text);
            assert!(secrets.iter().all(|s| !masked.contains(s)), "{text} -> {masked}");
        }
    }

    #[test]
    fn the_same_has_the_same_pseudonym_in_every_form_and_another_has_another() {
        let m = mask();
        let one = |t: &str| m.text(t);
        assert_eq!(one("2001:db8::7"), one("2001:0DB8:0:0::7"));
        assert_eq!(one("::ffff:192.0.2.1"), one("192.0.2.1"));
        assert_eq!(one("aa:bb:cc:0d:ee:ff"), one("AA-BB-CC-0D-EE-FF"));
        assert_eq!(one("sensor1"), one("SENSOR1"));
        assert_ne!(one("192.0.2.1"), one("192.0.2.2"));
        // Under another key, another one: nobody can compute them.
        assert_ne!(one("192.0.2.1"), mask().text("192.0.2.1"));
    }

    #[test]
    fn a_network_is_not_told_by_the_pseudonyms_of_its_hosts() {
        let m = mask();
        let near: std::collections::BTreeSet<_> = (0..64).map(|n| m.text(&format!("192.0.2.{n}"))).collect();
        assert_eq!(near.len(), 64);
        let heads: std::collections::BTreeSet<_> = near.iter().map(|p| p[..7].to_owned()).collect();
        assert!(heads.len() > 32, "what begins alike in its addresses begins alike in pseudonyms: {near:?}");
    }

    #[test]
    fn what_is_no_address_stays() {
        let m = mask();
        for text in [
            "127.0.0.1 and ::1 and 0.0.0.0 and ::",
            "kernel 6.18.0-1-amd64 at 10:18:04 on 2026-11-27",
            "OID 1.3.6.1.4.1.2",
            "std::net::IpAddr of weir_core::addr, deploy/weir.yaml",
            "0.97 of 1,234",
            "localhost: http://localhost:9470/metrics",
            "00:00:00:00:00:00",
            "policy.rules[2] events.json 4h1m",
        ] {
            assert_eq!(m.text(text), text);
        }
        assert!(m.text("198.51.100.0/24").ends_with("/24"), "lengths stay");
    }

    #[test]
    fn values_and_keys_of_json_are_masked_and_it_stays_json() {
        let m = mask();
        let masked = m.json(serde_json::json!({ "192.0.2.1": ["a 192.0.2.1", 7, { "x": "sensor1" }] }));
        let text = masked.to_string();
        assert!(!text.contains("192.0.2.1") && !text.contains("sensor1"), "{text}");
        let key = masked.as_object().unwrap().keys().next().unwrap();
        assert_eq!(masked[key][0], serde_json::json!(format!("a {key}")));
        assert_eq!(masked[key][1], 7);
    }
}
