//! What a decision targets, and how that is written.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use weir_common::flow::ip_proto;

use crate::addr::{Addr, Prefix};
use crate::record::FlowRecord;

/// What a decision targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A host (full-length prefix) or network.
    Net(Prefix),
    /// One protocol and port of ours, for one remote host: `192.0.2.7/tcp/22`.
    Port { host: Addr, proto: u8, port: u16 },
    /// One protocol and port of the remote host's own: `192.0.2.7/udp/from/53`.
    FarPort { host: Addr, proto: u8, port: u16 },
    /// One flow with a remote host: `tcp:198.51.100.4:5555-203.0.113.1:443`.
    Flow(Flow),
}

/// A flow, both directions, whatever its VLAN. Ports are those of flow keys: of ICMP the type and code as Community ID v1
/// maps them, 0 for a protocol without ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flow {
    pub proto: u8,
    /// The far end: the source of what comes in.
    pub remote: Addr,
    pub remote_port: u16,
    /// The protected end; of the same family.
    pub ours: Addr,
    pub port: u16,
}

impl Flow {
    /// The flow of a record whose client is the far end.
    pub fn of(r: &FlowRecord) -> Self {
        Self { proto: r.proto, remote: r.client, remote_port: r.client_port, ours: r.server, port: r.server_port }
    }

    /// The same flow with its ends named the other way round.
    pub fn reversed(self) -> Self {
        Self { remote: self.ours, remote_port: self.port, ours: self.remote, port: self.remote_port, ..self }
    }
}

impl Target {
    /// The remote addresses that the target covers.
    pub fn prefix(self) -> Prefix {
        match self {
            Target::Net(p) => p,
            Target::Port { host, .. } | Target::FarPort { host, .. } => Prefix::host(host),
            Target::Flow(flow) => Prefix::host(flow.remote),
        }
    }

    /// The same target with the remote end of a flow first, where one of its ends alone is `near`.
    pub fn oriented(self, near: impl Fn(Addr) -> bool) -> Self {
        match self {
            Target::Flow(flow) if near(flow.remote) && !near(flow.ours) => Target::Flow(flow.reversed()),
            other => other,
        }
    }
}

/// A protocol as it is written in targets.
struct Proto(u8);

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ip_proto::TCP => f.write_str("tcp"),
            ip_proto::UDP => f.write_str("udp"),
            n => n.fmt(f),
        }
    }
}

impl FromStr for Proto {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        Ok(Proto(match s {
            "tcp" => ip_proto::TCP,
            "udp" => ip_proto::UDP,
            "icmp" => ip_proto::ICMP,
            "icmpv6" => ip_proto::ICMPV6,
            n => n.parse().map_err(drop)?,
        }))
    }
}

/// One end of a flow: `198.51.100.4:5555` or `[2001:db8::4]:5555`.
struct End(Addr, u16);

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.ip() {
            IpAddr::V4(ip) => write!(f, "{ip}:{}", self.1),
            IpAddr::V6(ip) => write!(f, "[{ip}]:{}", self.1),
        }
    }
}

impl FromStr for End {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        let (addr, port) = s.rsplit_once(':').ok_or(())?;
        let ip: IpAddr = match addr.strip_prefix('[') {
            Some(rest) => IpAddr::V6(rest.strip_suffix(']').ok_or(())?.parse().map_err(drop)?),
            None => IpAddr::V4(addr.parse().map_err(drop)?),
        };
        Ok(End(ip.into(), port.parse().map_err(drop)?))
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (far, near) = (End(self.remote, self.remote_port), End(self.ours, self.port));
        write!(f, "{}:{far}-{near}", Proto(self.proto))
    }
}

impl FromStr for Flow {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        let (proto, ends) = s.split_once(':').ok_or(())?;
        let (far, near) = ends.split_once('-').ok_or(())?;
        let (Proto(proto), End(remote, remote_port), End(ours, port)) = (proto.parse()?, far.parse()?, near.parse()?);
        if remote.is_v4() != ours.is_v4() {
            return Err(());
        }
        Ok(Self { proto, remote, remote_port, ours, port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Target::Net(p) => p.fmt(f),
            Target::Port { host, proto, port } => write!(f, "{host}/{}/{port}", Proto(proto)),
            Target::FarPort { host, proto, port } => write!(f, "{host}/{}/from/{port}", Proto(proto)),
            Target::Flow(flow) => flow.fmt(f),
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no target; expected ADDRESS, ADDRESS/LENGTH, ADDRESS/tcp|udp/PORT (a port of ours), ADDRESS/tcp|udp/from/PORT \
     (the port that it sends from), or a flow, its far end first: tcp|udp:ADDRESS:PORT-ADDRESS:PORT, IPv6 as [ADDRESS]:PORT"
)]
pub struct TargetError(pub String);

impl FromStr for Target {
    type Err = TargetError;
    fn from_str(s: &str) -> Result<Self, TargetError> {
        let bad = || TargetError(s.to_owned());
        if s.contains('-') {
            return s.parse().map(Target::Flow).map_err(|()| bad());
        }
        let parts: Vec<&str> = s.split('/').collect();
        let service = |host: &str, proto: &str, port: &str| {
            let Proto(proto) = proto.parse().map_err(|()| bad())?;
            let host: Addr = host.parse().map_err(|_| bad())?;
            Ok((host, proto, port.parse::<u16>().map_err(|_| bad())?))
        };
        match parts[..] {
            [_] | [_, _] => s.parse().map(Target::Net).map_err(|_| bad()),
            [host, proto, port] => {
                service(host, proto, port).map(|(host, proto, port)| Target::Port { host, proto, port })
            }
            [host, proto, "from", port] => {
                service(host, proto, port).map(|(host, proto, port)| Target::FarPort { host, proto, port })
            }
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn every_kind_of_target_reads_back_as_it_is_written() {
        for text in [
            "192.0.2.7",
            "192.0.2.0/24",
            "2001:db8::/32",
            "192.0.2.7/tcp/22",
            "2001:db8::7/47/0",
            "192.0.2.7/udp/from/53",
            "2001:db8::7/tcp/from/443",
            "tcp:198.51.100.4:5555-203.0.113.1:443",
            "udp:[2001:db8::4]:5555-[2001:db8::1]:443",
            "1:198.51.100.4:8-203.0.113.1:0",
        ] {
            assert_eq!(target(text).to_string(), text);
        }
        assert_eq!(target("icmp:198.51.100.4:8-203.0.113.1:0").to_string(), "1:198.51.100.4:8-203.0.113.1:0");
        let Target::Flow(flow) = target("udp:[2001:db8::4]:5555-[2001:db8::1]:443") else { panic!("no flow") };
        assert_eq!((flow.proto, flow.remote_port, flow.port), (17, 5555, 443));
        assert_eq!((flow.remote, flow.ours), ("2001:db8::4".parse().unwrap(), "2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_target_is_refused_with_what_is_one() {
        for text in [
            "192.0.2.7/from/53",
            "192.0.2.7/udp/to/53",
            "192.0.2.0/24/udp/from/53",
            "192.0.2.7/udp/from/65536",
            "tcp:198.51.100.4-203.0.113.1",
            "198.51.100.4:5555-203.0.113.1:443",
            "tcp:198.51.100.4:5555-[2001:db8::1]:443",
            "tcp:2001:db8::4:5555-2001:db8::1:443",
            "tcp:[198.51.100.4]:5555-203.0.113.1:443",
            "quic:198.51.100.4:5555-203.0.113.1:443",
            "tcp:198.51.100.4:5555-203.0.113.1:443-1",
            "10.0.0.1-10.0.0.9",
            "",
        ] {
            let e = text.parse::<Target>().unwrap_err().to_string();
            assert!(e.starts_with(&format!("`{text}` is no target")) && e.contains("/from/PORT"), "{e}");
        }
    }

    #[test]
    fn decisions_that_were_stored_before_there_were_flows_are_still_read() {
        let stored = r#"[{"net":"192.0.2.0/24"},{"port":{"host":"192.0.2.7","proto":6,"port":22}}]"#;
        let read: Vec<Target> = serde_json::from_str(stored).unwrap();
        assert_eq!(read, [target("192.0.2.0/24"), target("192.0.2.7/tcp/22")]);
        assert_eq!(serde_json::to_string(&read).unwrap(), stored);
    }

    #[test]
    fn a_flow_is_turned_so_that_its_far_end_comes_first() {
        let near = |a: Addr| a == "203.0.113.1".parse().unwrap();
        let right = target("tcp:198.51.100.4:5555-203.0.113.1:443");
        assert_eq!(target("tcp:203.0.113.1:443-198.51.100.4:5555").oriented(near), right);
        assert_eq!(right.oriented(near), right);
        // Where both ends are near, or neither, it stays as it was given.
        assert_eq!(right.oriented(|_| true), right);
        assert_eq!(right.oriented(|_| false), right);
        assert_eq!(right.prefix().to_string(), "198.51.100.4");
    }

    fn addr(v4: bool) -> impl Strategy<Value = Addr> {
        any::<u128>().prop_map(move |bits| {
            let ip = if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) };
            Addr::from(ip)
        })
    }

    fn any_target() -> impl Strategy<Value = Target> {
        any::<bool>().prop_flat_map(|v4| (0..4u8, addr(v4), addr(v4), any::<(u8, u16, u16, u8)>())).prop_map(
            |(kind, host, ours, (proto, port, remote_port, len))| match kind {
                0 => Target::Net(Prefix::new(host, len)),
                1 => Target::Port { host, proto, port },
                2 => Target::FarPort { host, proto, port },
                _ => Target::Flow(Flow { proto, remote: host, remote_port, ours, port }),
            },
        )
    }

    proptest! {
        #[test]
        fn any_target_reads_back_from_its_text_and_from_what_is_stored(target in any_target()) {
            prop_assert_eq!(target.to_string().parse::<Target>(), Ok(target));
            let stored = serde_json::to_string(&target).unwrap();
            prop_assert_eq!(serde_json::from_str::<Target>(&stored).unwrap(), target);
        }

        #[test]
        fn no_text_makes_reading_a_target_panic(text in "[0-9a-f:./\\[\\]tcpudrom-]{0,60}") {
            let _ = text.parse::<Target>();
        }
    }
}
