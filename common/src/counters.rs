//! What happened to packets, counted per reason in a per-CPU array.

/// One counter.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Counter {
    pub packets: u64,
    /// IP-layer bytes; frame bytes where the packet is not IP.
    pub bytes: u64,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Why a packet went where it went. The discriminant is the index into the counter map.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $variant,)+
        }

        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)+];
            pub const COUNT: u32 = Self::ALL.len() as u32;

            /// Name in status output and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// Passed at ingress and counted in its flow.
    InPass = "in_pass",
    /// Passed at egress and counted in its flow.
    OutPass = "out_pass",
    /// Passed because an allow entry covers the remote address (also in `in_pass` or `out_pass`).
    InAllowed = "in_allowed",
    OutAllowed = "out_allowed",
    /// Dropped by a block entry.
    InDropped = "in_dropped",
    OutDropped = "out_dropped",
    /// Dropped by a limit entry: beyond its rate.
    InLimited = "in_limited",
    OutLimited = "out_limited",
    /// Among the limited, those that other processors' packets kept from being counted in time.
    InContended = "in_contended",
    OutContended = "out_contended",
    /// Would have been dropped or held to a limit, had the agent's lease not lapsed (also in `in_pass` or `out_pass`).
    InLapsed = "in_lapsed",
    OutLapsed = "out_lapsed",
    /// Would have been dropped, had the entry not been a shadow one (also in `in_pass` or `out_pass`).
    InShadowed = "in_shadowed",
    OutShadowed = "out_shadowed",
    /// DHCP or neighbour discovery that a drop entry covers, passed all the same.
    InExempt = "in_exempt",
    OutExempt = "out_exempt",
    /// The epoch's flow map was full: the verdict stood, the flow was not counted.
    InOverflow = "in_overflow",
    OutOverflow = "out_overflow",
    /// Not IP (ARP, LLDP, a third VLAN tag...). Passed.
    InNotIp = "in_not_ip",
    OutNotIp = "out_not_ip",
    /// Ended before both IP addresses were read, or IP version and EtherType disagree. Passed.
    InMalformed = "in_malformed",
    OutMalformed = "out_malformed",
    /// Addresses were read, but what follows is cut short or malformed: counted in the flow of its address pair, ports 0.
    InAddressOnly = "in_address_only",
    OutAddressOnly = "out_address_only",
}

impl Reason {
    /// The same reason at egress. Reasons come in pairs, ingress first.
    pub const fn at_egress(self) -> Reason {
        Self::ALL[self as usize | 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_come_in_pairs() {
        assert_eq!(Reason::ALL.len() % 2, 0);
        for (i, r) in Reason::ALL.iter().enumerate() {
            assert_eq!(*r as usize, i);
            let (side, rest) = r.name().split_once('_').unwrap();
            assert_eq!(side, if i % 2 == 0 { "in" } else { "out" });
            assert_eq!(r.at_egress().name(), format!("out_{rest}"));
        }
    }
}
