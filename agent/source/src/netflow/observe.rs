//! From what exporters told of a flow to a flow record: who is the client, how far it got, what is known.
//!
//! Who opened the flow, the first of these that tells:
//! 1. the exporter itself (`biflowDirection`, a firewall's initiator, the source of a record of both directions);
//! 2. ICMP: the side that asks, by type;
//! 3. TCP: the side that sent a SYN and never an ACK, where the other did not; the receiver of a lone SYN-ACK;
//! 4. the side whose first packet was earlier, where the record holds the beginning of the flow (TCP: a SYN);
//! 5. a guess, and then `Have::SIDES` is not claimed: the side with the port of 1024 and above, where the other's is
//!    below; the earlier one; the one reported first.
//!
//! Flags are unions over all packets of a direction, so the state is what they allow: a flow of which only one direction
//! was reported is unanswered; refused where the answers were nothing but RST. Where packets were sampled, silence says
//! nothing, and no state is claimed.

use weir_common::flow::FlowStats;
use weir_common::flow::ip_proto::{ICMP, ICMPV6, TCP, UDP};
use weir_common::flow::tcp_flag::{ACK, FIN, RST, SYN};
use weir_core::addr::Addr;
use weir_core::home::Home;
use weir_core::record::{EndReason, FlowRecord, FlowState, Have, Totals};

use super::pair::Paired;
use super::record::{ExportedFlow, Opener, Way};
use crate::sink::Observation;

/// Ports below are opened by services.
const PRIVILEGED: u16 = 1024;
/// IP and TCP headers without payload, of the larger family.
const BARE_SEGMENT: u64 = 60;

/// One side's part in a flow.
struct Side {
    addr: Option<Addr>,
    port: Option<u16>,
    sent: Way,
    first_us: Option<u64>,
}

pub(super) fn observe(paired: Paired, home: &Home) -> Observation {
    let Paired { one, other, settled } = paired;
    let both = other.is_some() || one.back.is_some();
    let told = other.is_some() || one.back.is_some_and(|b| b.packets.or(b.bytes).or(b.payload).is_some());
    let sent_back = other.as_ref().map(|o| o.there).or(one.back);
    let x = Side { addr: one.source, port: one.source_port, sent: one.there, first_us: one.start_us };
    let y = Side {
        addr: one.destination,
        port: one.destination_port,
        // Nothing was reported: nothing was sent, as far as is known.
        sent: sent_back.unwrap_or(Way {
            packets: one.there.packets.map(|_| 0),
            bytes: one.there.bytes.map(|_| 0),
            payload: one.there.payload.map(|_| 0),
            tcp_flags: None,
        }),
        first_us: other.as_ref().and_then(|o| o.start_us),
    };
    let (client_is_x, sure) = client(&one, &x, &y, other.is_some(), home);
    let (client, server) = if client_is_x { (x, y) } else { (y, x) };

    let sampling = one.sampling.max(other.as_ref().map_or(1, |o| o.sampling));
    let silence_tells = told || (!both && settled && sampling <= 1);
    let state = state(one.proto, &client.sent, &server.sent);
    let state_known = silence_tells
        && (one.proto.is_some_and(|p| p != TCP) || !both || client.sent.tcp_flags.or(server.sent.tcp_flags).is_some());

    let given = |known: bool, what: Have| if known { what } else { Have::NONE };
    let no_ports = one.proto.is_some_and(|p| !matches!(p, TCP | UDP | ICMP | ICMPV6));
    let times: Vec<&ExportedFlow> = [Some(&one), other.as_ref()].into_iter().flatten().collect();
    let timed = times.iter().all(|f| f.start_us.is_some() && f.end_us.is_some());
    let start_us = times.iter().filter_map(|f| f.start_us).min();
    let end_us = times.iter().filter_map(|f| f.end_us).max();
    let untimed_us = times.iter().filter_map(|f| f.duration_us).max();
    let all = |of: fn(&Way) -> Option<u64>| of(&client.sent).is_some() && of(&server.sent).is_some();
    let have = Have::NONE
        .with(given(client.addr.is_some() && server.addr.is_some(), Have::ADDRESSES))
        .with(given(client.port.is_some() || no_ports, Have::CLIENT_PORT))
        .with(given(server.port.is_some() || no_ports, Have::SERVER_PORT))
        .with(given(one.proto.is_some(), Have::PROTO))
        .with(given(timed, Have::TIME))
        .with(given(times.iter().all(|f| f.duration_us.is_some()), Have::DURATION))
        .with(given(all(|w| w.packets), Have::PACKETS))
        .with(given(all(|w| w.bytes), Have::BYTES))
        .with(given(all(|w| w.payload), Have::PAYLOAD))
        .with(given(state_known, Have::STATE))
        .with(given(sure, Have::SIDES));

    // Without a clock of the flow itself, the time of its export stands for its end.
    let end_us = end_us.or(start_us).unwrap_or(one.exported_us);
    let start_us = start_us.unwrap_or(end_us.saturating_sub(untimed_us.unwrap_or(0)));
    let (from, to) = (client.addr.unwrap_or(Addr([0; 16])), server.addr.unwrap_or(Addr([0; 16])));
    let totals = |w: &Way| Totals {
        packets: w.packets.unwrap_or(0),
        bytes: w.bytes.unwrap_or(0),
        payload: w.payload.unwrap_or(0),
    };
    Observation {
        record: FlowRecord {
            flow_id: 0,
            client: from,
            server: to,
            client_port: client.port.unwrap_or(0),
            server_port: server.port.unwrap_or(0),
            proto: one.proto.unwrap_or(0),
            vlan_outer: one.vlan_outer,
            vlan_inner: one.vlan_inner,
            start_us,
            end_us,
            fwd: totals(&client.sent),
            bwd: totals(&server.sent),
            stats: FlowStats::EMPTY,
            state,
            end_reason: EndReason::Exported,
            have,
            direction: home.direction(from, to),
            proven: false,
            first_record: true,
            context: None,
            seen_at: 0,
        },
        label: None,
        seen_at: one.seen_at,
        sampling,
    }
}

/// Whether `x` is the client, and whether that was seen or told.
fn client(one: &ExportedFlow, x: &Side, y: &Side, two_records: bool, home: &Home) -> (bool, bool) {
    match one.opener {
        Opener::Source => return (true, true),
        Opener::Destination => return (false, true),
        Opener::Unknown => {}
    }
    let tcp = one.proto == Some(TCP);
    if let Some(asks) = icmp_asks(one.proto, x.port, y.port, two_records) {
        return (asks, true);
    }
    let flags = |s: &Side| s.sent.tcp_flags.unwrap_or(0);
    let bare = |s: &Side| flags(s) & (SYN | ACK) == SYN;
    if tcp {
        match (bare(x), bare(y)) {
            (true, false) => return (true, true),
            (false, true) => return (false, true),
            _ => {}
        }
        let lone_syn_ack = !two_records && one.back.is_none() && one.there.packets == Some(1);
        if lone_syn_ack && flags(x) & (SYN | ACK) == SYN | ACK {
            return (false, true);
        }
    }
    let has_flags = x.sent.tcp_flags.or(y.sent.tcp_flags).is_some();
    let middle = tcp && has_flags && (flags(x) | flags(y)) & SYN == 0;
    if middle && let Some(x_is_client) = by_port(x, y) {
        // One direction alone: only a home service is taken to go on with a connection, or anyone could turn a flow
        // around by sending from a low port.
        if two_records || one.back.is_some() || x_is_client || x.addr.is_some_and(|a| home.contains(a)) {
            return (x_is_client, false);
        }
    }
    if !two_records {
        return (true, !middle);
    }
    match (x.first_us, y.first_us) {
        (Some(a), Some(b)) if a != b => (a < b, !middle),
        _ => (by_port(x, y).unwrap_or(true), false),
    }
}

/// Whether `x` asks and `y` answers, where the ICMP types of both tell them apart.
fn icmp_asks(proto: Option<u8>, x: Option<u16>, y: Option<u16>, both_sent: bool) -> Option<bool> {
    let asks: &[u16] = match proto {
        Some(ICMP) => &[8, 10, 13, 15, 17],
        Some(ICMPV6) => &[128, 130, 133, 135, 139, 144],
        _ => return None,
    };
    match (asks.contains(&x?), asks.contains(&y?)) {
        (true, false) => Some(true),
        (false, true) if both_sent => Some(false),
        // A lone answer is a flow of its sender: the other side was not seen to ask.
        _ => None,
    }
}

fn by_port(x: &Side, y: &Side) -> Option<bool> {
    match (x.port? < PRIVILEGED, y.port? < PRIVILEGED) {
        (true, false) => Some(false),
        (false, true) => Some(true),
        _ => None,
    }
}

fn state(proto: Option<u8>, fwd: &Way, bwd: &Way) -> FlowState {
    let silent = |w: &Way| w.packets.or(w.bytes).or(w.payload).unwrap_or(0) == 0 && w.tcp_flags.unwrap_or(0) == 0;
    if silent(bwd) {
        return FlowState::Unanswered;
    }
    if proto != Some(TCP) {
        return if silent(fwd) { FlowState::Unanswered } else { FlowState::Established };
    }
    let (f, b) = (fwd.tcp_flags.unwrap_or(0), bwd.tcp_flags.unwrap_or(0));
    let no_data = match (bwd.packets, bwd.bytes) {
        (Some(packets), Some(bytes)) => bytes <= packets.saturating_mul(BARE_SEGMENT),
        _ => true,
    };
    if b & RST != 0 && b & !(RST | ACK) == 0 && no_data {
        return FlowState::Rejected;
    }
    if f & b & FIN != 0 {
        return FlowState::Closed;
    }
    if (f | b) & RST != 0 {
        return FlowState::Reset;
    }
    if silent(fwd) { FlowState::Unanswered } else { FlowState::Established }
}
