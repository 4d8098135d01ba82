//! What cumulative statistics say about a flow. Pure functions of the totals, so that they do not depend on how the
//! packets were cut into epochs.

use weir_common::flow::{A_TO_B, B_TO_A, DirStats, FlowKey, FlowStats, ip_proto, seen, tcp_flag};

use crate::addr::Addr;
use crate::home::Home;
use crate::record::FlowState;

/// How long after the first packet a SYN-ACK may still say who the server is, µs. A later one is noise or an attempt
/// to change sides.
const EARLY_SYN_ACK_US: u64 = 10_000_000;

/// Request types of ICMP and ICMPv6 that have an answer (the pairs of Community ID v1), as they lie in the port of
/// the endpoint that asks.
const ICMP_ASKS: [u16; 5] = [8, 10, 13, 15, 17];
const ICMPV6_ASKS: [u16; 6] = [128, 130, 133, 135, 139, 144];

/// Time of the first packet, µs. `u64::MAX` if there is none.
pub(super) fn first_us(s: &FlowStats) -> u64 {
    s.dir[A_TO_B].first_us.min(s.dir[B_TO_A].first_us)
}

/// Time of the last packet, µs.
pub(super) fn last_us(s: &FlowStats) -> u64 {
    s.dir[A_TO_B].last_us.max(s.dir[B_TO_A].last_us)
}

/// The direction whose sender is the client, [`A_TO_B`] or [`B_TO_A`].
///
/// TCP: an early SYN-ACK of one side alone makes the other side the client, unless that side only ever answered with
/// RST (a stray or forged SYN-ACK) or the sender of the SYN-ACK also sent a SYN. ICMP: who asked, if it was seen to.
/// Otherwise, who sent the first packet, but for a home service that resumes a connection.
pub(super) fn client_dir(key: &FlowKey, s: &FlowStats, home: &Home) -> usize {
    match key.proto {
        ip_proto::TCP => {
            for server in [A_TO_B, B_TO_A] {
                let (x, y) = (&s.dir[server], &s.dir[1 - server]);
                let only_rejected = y.packets > 0 && u64::from(y.rst) == y.packets;
                if x.seen & seen::SYN_ACK != 0
                    && x.seen & seen::SYN_ONLY == 0
                    && y.seen & seen::SYN_ACK == 0
                    && !only_rejected
                    && x.syn_us.saturating_sub(first_us(s)) <= EARLY_SYN_ACK_US
                {
                    return 1 - server;
                }
            }
        }
        ip_proto::ICMP | ip_proto::ICMPV6 => {
            let asks: &[u16] = if key.proto == ip_proto::ICMP { &ICMP_ASKS } else { &ICMPV6_ASKS };
            for (dir, port) in [(A_TO_B, key.port_a), (B_TO_A, key.port_b)] {
                let other = if dir == A_TO_B { key.port_b } else { key.port_a };
                if asks.contains(&port) && !asks.contains(&other) && s.dir[dir].packets > 0 {
                    return dir;
                }
            }
        }
        _ => {}
    }
    let opened = |d: usize| s.dir[d].seen & seen::OPENER != 0;
    let opener = match (opened(A_TO_B), opened(B_TO_A)) {
        (true, false) => A_TO_B,
        (false, true) => B_TO_A,
        _ if s.dir[B_TO_A].first_us < s.dir[A_TO_B].first_us => B_TO_A,
        _ => A_TO_B,
    };
    if resumed_by_a_service(key, s, opener, home) { 1 - opener } else { opener }
}

/// A home service goes on with a connection that was forgotten meanwhile: it retransmits to a client that is blocked or
/// gone, or speaks after a long pause. Only home's own word is taken for it, or anyone could turn a flow around by
/// sending from a low port.
fn resumed_by_a_service(key: &FlowKey, s: &FlowStats, opener: usize, home: &Home) -> bool {
    const PRIVILEGED: u16 = 1024;
    let (addr, port, other) = match opener {
        A_TO_B => (key.addr_a, key.port_a, key.port_b),
        _ => (key.addr_b, key.port_b, key.port_a),
    };
    let any_syn = (s.dir[0].seen | s.dir[1].seen) & (seen::SYN_ONLY | seen::SYN_ACK) != 0;
    key.proto == ip_proto::TCP && !any_syn && port < PRIVILEGED && other >= PRIVILEGED && home.contains(Addr(addr))
}

/// FIN from both sides, or RST.
pub(super) fn ended(key: &FlowKey, s: &FlowStats) -> bool {
    key.proto == ip_proto::TCP && ((s.dir[0].fin > 0 && s.dir[1].fin > 0) || s.dir[0].rst > 0 || s.dir[1].rst > 0)
}

/// Whether this span of packets opens a TCP connection.
pub(super) fn opens(key: &FlowKey, s: &FlowStats) -> bool {
    key.proto == ip_proto::TCP && (s.dir[0].seen | s.dir[1].seen) & seen::SYN_ONLY != 0
}

/// State of a flow by its two directions: client to server, server to client.
pub(super) fn state(proto: u8, fwd: &DirStats, bwd: &DirStats) -> FlowState {
    if bwd.packets == 0 {
        return FlowState::Unanswered;
    }
    if proto != ip_proto::TCP {
        return if fwd.packets == 0 { FlowState::Unanswered } else { FlowState::Established };
    }
    if u64::from(bwd.rst) == bwd.packets {
        return FlowState::Rejected;
    }
    if fwd.fin > 0 && bwd.fin > 0 {
        return FlowState::Closed;
    }
    if fwd.rst > 0 || bwd.rst > 0 {
        return FlowState::Reset;
    }
    if fwd.packets == 0 { FlowState::Unanswered } else { FlowState::Established }
}

/// Whether the client showed that it hears the server: it acknowledged the SYN-ACK's sequence number plus one.
/// Flags and packets alone prove nothing, because they can be sent blindly in anyone's name.
pub(super) fn proven(proto: u8, fwd: &DirStats, bwd: &DirStats) -> bool {
    proto == ip_proto::TCP
        && fwd.packets > 0
        && bwd.packets > 0
        && bwd.seen & seen::SYN_ACK != 0
        && fwd.seen & seen::PROVEN != 0
}

/// A SYN of the client and never an ACK from it.
pub(super) fn bare_syn(proto: u8, fwd: &DirStats) -> bool {
    proto == ip_proto::TCP && fwd.seen & seen::SYN_ONLY != 0 && fwd.seen & u32::from(tcp_flag::ACK) == 0
}
