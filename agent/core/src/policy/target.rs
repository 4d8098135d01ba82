//! From the width that a rule asks for to a target: the one place that makes automatic targets.

use crate::addr::{Addr, Prefix};
use crate::decision::{Flow, Target};
use crate::evidence::NET6_LEN;
use crate::role::{ProtoClass, Role};
use weir_common::flow::ip_proto;

use super::rule::Width;

/// Targets at least this long need nobody's confirmation; shorter ones are wide, IPv4 and IPv6.
pub const WIDE_LENS: (u8, u8) = (24, 48);

/// Whether a prefix takes in so many hosts that stopping it is a risk of its own.
pub fn is_wide(prefix: Prefix) -> bool {
    prefix.len() < if prefix.is_v4() { WIDE_LENS.0 } else { WIDE_LENS.1 }
}

/// What a target is made of.
pub(super) struct Aim<'a> {
    pub source: Addr,
    /// The evidence is that of the /64 as a whole.
    pub net64: bool,
    /// Ports the source went for, most used first, that the rule is about.
    pub ports: &'a [u16],
    /// Proven flows alone reach the drop threshold: the flows are TCP.
    pub proven: bool,
    /// Of all its flows.
    pub proto: Option<u8>,
    /// Of the worst observation.
    pub role: Option<Role>,
    /// A strange flow of it that is going on; a proven one where the rest is.
    pub flow: Option<Flow>,
    /// Several addresses of a network offend.
    pub several: &'a dyn Fn(Prefix) -> bool,
}

/// The target, or why there is none of that width.
pub(super) fn make(width: Width, aim: &Aim<'_>) -> Result<Target, &'static str> {
    let subject = aim.source.subject();
    let host = Target::Net(subject);
    let net64 = || Target::Net(Prefix::new(aim.source, NET6_LEN));
    match width {
        Width::Auto if aim.net64 => Ok(net64()),
        Width::Auto | Width::Host => Ok(host),
        Width::Net { v4, v6 } => {
            let net = Prefix::new(aim.source, if aim.source.is_v4() { v4 } else { v6 });
            let offends = (aim.net64 && net.len() >= NET6_LEN) || (aim.several)(net);
            Ok(if offends { Target::Net(net) } else { host })
        }
        Width::Port if !subject.is_host() => Err("it is the network as a whole that is strange, and no one host of it"),
        Width::Port => {
            let port = *aim.ports.first().ok_or("it went for no port that could be the target")?;
            let proto = proto(aim).ok_or("its flows are of several protocols, so a port alone cannot be the target")?;
            Ok(Target::Port { host: aim.source, proto, port })
        }
        Width::Flow => aim.flow.map(Target::Flow).ok_or("none of the flows that were strange is known to go on"),
    }
}

fn proto(aim: &Aim<'_>) -> Option<u8> {
    if aim.proven {
        return Some(ip_proto::TCP);
    }
    if let Some(proto) = aim.proto.filter(|p| [ip_proto::TCP, ip_proto::UDP].contains(p)) {
        return Some(proto);
    }
    let class = match aim.role? {
        Role::Proto(p) | Role::ProtoDir(p, _) | Role::Flow(p, ..) => p,
        Role::All | Role::SourceAll | Role::SourceProven => return None,
    };
    match class {
        ProtoClass::Tcp => Some(ip_proto::TCP),
        ProtoClass::Udp => Some(ip_proto::UDP),
        ProtoClass::Icmp | ProtoClass::Other => None,
    }
}
