//! What `conn_state` and `history` say of a flow.

use weir_common::flow::ip_proto;
use weir_core::record::FlowState;

use crate::text::rows::answered;

/// The state as the flow table would give it, had it seen the same packets.
///
/// `packets` are those of originator and responder; letters of `history` in upper case are the originator's: `s` SYN, `h`
/// SYN-ACK, `a` ACK, `d` data, `f` FIN, `r` RST. Without either, `conn_state` alone must do.
pub(super) fn state(
    proto: Option<u8>,
    packets: Option<(u64, u64)>,
    conn_state: &[u8],
    history: &[u8],
) -> Option<FlowState> {
    let Some((fwd, bwd)) = packets else { return by_name(proto?, conn_state) };
    if bwd == 0 || proto? != ip_proto::TCP {
        return Some(answered(fwd, bwd));
    }
    let has = |letter: u8| history.contains(&letter);
    let only_rejected = has(b'r') && ![b's', b'h', b'a', b'd', b'f'].iter().any(|&l| has(l));
    Some(match conn_state {
        b"REJ" => FlowState::Rejected,
        _ if only_rejected => FlowState::Rejected,
        _ if has(b'F') && has(b'f') => FlowState::Closed,
        b"SF" => FlowState::Closed,
        _ if has(b'R') || has(b'r') => FlowState::Reset,
        b"RSTO" | b"RSTR" | b"RSTRH" => FlowState::Reset,
        _ => answered(fwd, bwd),
    })
}

fn by_name(proto: u8, conn_state: &[u8]) -> Option<FlowState> {
    Some(match conn_state {
        b"S0" | b"SH" | b"RSTOS0" | b"SHR" => FlowState::Unanswered,
        b"S1" | b"S2" | b"S3" => FlowState::Established,
        b"SF" if proto == ip_proto::TCP => FlowState::Closed,
        b"SF" => FlowState::Established,
        b"REJ" => FlowState::Rejected,
        b"RSTO" | b"RSTR" | b"RSTRH" => FlowState::Reset,
        _ => return None,
    })
}

/// Whether who opened the flow was seen: for TCP a SYN of the originator or a SYN-ACK of the responder. Other protocols
/// have no opening: there the sender of the first packet did. `^` says that Zeek guessed the other way round by ports.
pub(super) fn sides(proto: Option<u8>, conn_state: &[u8], history: &[u8]) -> bool {
    match proto {
        Some(ip_proto::TCP) if history.is_empty() => {
            matches!(conn_state, b"S0" | b"REJ" | b"RSTOS0" | b"SH" | b"SHR" | b"RSTRH")
        }
        Some(ip_proto::TCP) => history.contains(&b'S') || history.contains(&b'h'),
        Some(_) => !history.contains(&b'^'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: Option<u8> = Some(6);
    const UDP: Option<u8> = Some(17);

    #[test]
    fn history_and_packets_say_how_far_it_got() {
        let s = |p, packets, conn: &str, history: &str| state(p, Some(packets), conn.as_bytes(), history.as_bytes());
        assert_eq!(s(TCP, (2, 0), "S0", "S"), Some(FlowState::Unanswered));
        assert_eq!(s(TCP, (1, 1), "REJ", "Sr"), Some(FlowState::Rejected));
        assert_eq!(s(TCP, (1, 1), "OTH", "Dr"), Some(FlowState::Rejected));
        assert_eq!(s(TCP, (5, 5), "SF", "ShADadfF"), Some(FlowState::Closed));
        assert_eq!(s(TCP, (5, 5), "OTH", "DdAaFf"), Some(FlowState::Closed));
        assert_eq!(s(TCP, (5, 5), "RSTR", "ShADadRr"), Some(FlowState::Reset));
        assert_eq!(s(TCP, (3, 1), "RSTO", "ShAR"), Some(FlowState::Reset));
        assert_eq!(s(TCP, (3, 2), "S1", "ShADad"), Some(FlowState::Established));
        assert_eq!(s(TCP, (0, 2), "SHR", "^hf"), Some(FlowState::Unanswered));
        assert_eq!(s(TCP, (2, 0), "RSTOS0", "SR"), Some(FlowState::Unanswered));
        assert_eq!(s(UDP, (1, 1), "SF", "Dd"), Some(FlowState::Established));
        assert_eq!(s(UDP, (0, 1), "SHR", "Cd"), Some(FlowState::Unanswered));
        assert_eq!(s(None, (1, 1), "OTH", ""), None);
    }

    #[test]
    fn without_packets_the_name_of_the_state_must_do() {
        assert_eq!(state(TCP, None, b"SF", b""), Some(FlowState::Closed));
        assert_eq!(state(UDP, None, b"SF", b""), Some(FlowState::Established));
        assert_eq!(state(Some(1), None, b"OTH", b""), None);
        assert_eq!(state(TCP, None, b"", b""), None);
    }

    #[test]
    fn a_guess_of_who_opened_is_not_taken_for_knowledge() {
        assert!(sides(TCP, b"SF", b"ShADadfF"));
        assert!(sides(TCP, b"SHR", b"^hf"), "the responder's SYN-ACK was seen");
        assert!(!sides(TCP, b"SF", b"DdAaFf"));
        assert!(!sides(TCP, b"OTH", b"^dA"));
        assert!(!sides(TCP, b"SF", b""));
        assert!(sides(TCP, b"S0", b""));
        assert!(sides(UDP, b"SF", b"Dd"));
        assert!(!sides(UDP, b"S0", b"D^"));
        assert!(!sides(None, b"SF", b"Dd"));
    }
}
