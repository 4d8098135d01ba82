//! `FlowStats` is a monoid over time.

use proptest::prelude::*;
use weir_common::flow::{A_TO_B, B_TO_A, Cells, DirStats, FlowStats, Packet, seen, tcp_flag, update_cells};

use tcp_flag::{ACK, FIN, RST, SYN};

fn fold(packets: &[Packet]) -> FlowStats {
    let mut stats = FlowStats::EMPTY;
    for p in packets {
        stats.update(p);
    }
    stats
}

fn merged(parts: &[&[Packet]]) -> FlowStats {
    let mut stats = FlowStats::EMPTY;
    for part in parts {
        stats.merge(&fold(part));
    }
    stats
}

/// Any packet: super-packets, any flags, time that also runs backward, few different sequence numbers so that proofs occur.
fn packet() -> impl Strategy<Value = Packet> {
    let flags = prop_oneof![
        Just(0u8),
        Just(SYN),
        Just(SYN | ACK),
        Just(ACK),
        Just(ACK | FIN),
        Just(RST),
        Just(RST | ACK),
        any::<u8>()
    ];
    let time = prop_oneof![0..5_000_000u64, 0..20_000_000_000u64];
    let size = prop_oneof![40..1500u32, 0..10_000u32];
    (time, 0..2u32, 1..50u32, size, 0..1500u32, 0..3u32, (0..4u32, 0..4u32), flags, (any::<bool>(), any::<bool>()))
        .prop_map(|(now_us, dir, segs, seg_len, last_len, payload, (seq, ack), tcp_flags, (fragment, outside))| {
            Packet {
                now_us,
                dir,
                segs: if segs > 40 { segs } else { 1 },
                seg_len: if segs > 40 { seg_len } else { last_len },
                last_len,
                payload: payload * last_len,
                seq,
                ack,
                tcp_flags,
                fragment: u8::from(fragment && tcp_flags == 0),
                from_outside: u8::from(outside && dir == 0),
                ..Packet::default()
            }
        })
}

/// Whether the documented exception may apply in direction `d` for this split: more than one acknowledgement lies behind it
/// before anything sent there answers, so that the one that proves was not the one kept.
fn proof_may_be_missed(later: &[Packet], d: usize) -> bool {
    let acks = later
        .iter()
        .filter(|p| p.dir as usize == d && p.tcp_flags & (SYN | ACK | RST) == ACK)
        .map(|p| p.ack)
        .collect::<std::collections::BTreeSet<_>>();
    acks.len() > 1
}

fn without_proof(mut s: FlowStats) -> FlowStats {
    for d in &mut s.dir {
        d.seen &= !seen::PROVEN;
    }
    s
}

fn proven(s: &FlowStats, d: usize) -> bool {
    s.dir[d].seen & seen::PROVEN != 0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 10 } else { 4000 }, ..ProptestConfig::default() })]

    #[test]
    fn merging_any_contiguous_split_gives_the_whole(
        packets in prop::collection::vec(packet(), 0..40),
        at in any::<prop::sample::Index>(),
    ) {
        let (xs, ys) = packets.split_at(at.index(packets.len() + 1));
        let (whole, parts) = (fold(&packets), merged(&[xs, ys]));
        prop_assert_eq!(without_proof(parts), without_proof(whole));
        for d in [A_TO_B, B_TO_A] {
            prop_assert!(proven(&whole, d) || !proven(&parts, d), "a proof was invented");
            if !proof_may_be_missed(ys, d) {
                prop_assert_eq!(proven(&parts, d), proven(&whole, d));
            }
        }
    }

    #[test]
    fn merging_is_associative_over_any_number_of_epochs(
        packets in prop::collection::vec(packet(), 0..40),
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
    ) {
        let (mut i, mut j) = (a.index(packets.len() + 1), b.index(packets.len() + 1));
        if i > j {
            std::mem::swap(&mut i, &mut j);
        }
        let (x, y, z) = (fold(&packets[..i]), fold(&packets[i..j]), fold(&packets[j..]));
        let mut left = x;
        left.merge(&y);
        left.merge(&z);
        let mut right = y;
        right.merge(&z);
        let mut all = x;
        all.merge(&right);
        prop_assert_eq!(without_proof(left), without_proof(all));
        let whole = fold(&packets);
        for d in [A_TO_B, B_TO_A] {
            prop_assert!(proven(&whole, d) || !(proven(&left, d) || proven(&all, d)), "a proof was invented");
        }
    }

    #[test]
    fn nothing_is_neutral(packets in prop::collection::vec(packet(), 0..20)) {
        let whole = fold(&packets);
        let (mut left, mut right) = (FlowStats::EMPTY, whole);
        left.merge(&whole);
        right.merge(&FlowStats::EMPTY);
        prop_assert_eq!(left, whole);
        prop_assert_eq!(right, whole);
    }

    #[test]
    fn sums_are_those_of_the_packets(packets in prop::collection::vec(packet(), 1..40)) {
        let s = fold(&packets);
        for d in [A_TO_B, B_TO_A] {
            let mine: Vec<&Packet> = packets.iter().filter(|p| p.dir as usize == d).collect();
            let sizes: Vec<u64> = mine
                .iter()
                .flat_map(|p| {
                    let full = std::iter::repeat_n(u64::from(p.seg_len), p.segs as usize - 1);
                    full.chain([u64::from(p.last_len)])
                })
                .collect();
            let stats = &s.dir[d];
            prop_assert_eq!(stats.packets, sizes.len() as u64);
            prop_assert_eq!(stats.bytes, sizes.iter().sum::<u64>());
            prop_assert_eq!(stats.size_sq, sizes.iter().map(|s| s * s).sum::<u64>());
            prop_assert_eq!(stats.payload, mine.iter().map(|p| u64::from(p.payload)).sum::<u64>());
            for (bin, (low, high)) in [(0, 128), (129, 512), (513, 1024)].into_iter().enumerate() {
                prop_assert_eq!(stats.size_bins[bin], sizes.iter().filter(|s| (low..=high).contains(*s)).count() as u64);
            }
            prop_assert_eq!(stats.gaps(), (mine.len() as u64).saturating_sub(1));
            let gaps = mine.windows(2).map(|w| w[1].now_us.saturating_sub(w[0].now_us).min(u64::from(u32::MAX)));
            prop_assert_eq!(u64::from(stats.gap_max), gaps.clone().max().unwrap_or(0));
            prop_assert_eq!(stats.gap_sq, gaps.map(|g| g * g).fold(0, u64::saturating_add));
            if let (Some(first), Some(last)) = (mine.first(), mine.last()) {
                prop_assert_eq!((stats.first_us, stats.last_us), (first.now_us, last.now_us));
                prop_assert_eq!(u64::from(stats.size_max), *sizes.iter().max().unwrap());
            }
        }
        let opener = packets[0].dir as usize;
        prop_assert!(s.dir[opener].seen & seen::OPENER != 0 && s.dir[1 - opener].seen & seen::OPENER == 0);
    }
}

/// A step of a handshake: the client is `a`, the server `b`.
fn step(dir: usize, tcp_flags: u8, seq: u32, ack: u32) -> Packet {
    Packet { dir: dir as u32, segs: 1, seg_len: 40, last_len: 40, tcp_flags, seq, ack, ..Packet::default() }
}

fn handshake() -> [Packet; 3] {
    [step(A_TO_B, SYN, 9, 0), step(B_TO_A, SYN | ACK, u32::MAX, 10), step(A_TO_B, ACK, 10, 0)]
}

#[test]
fn a_handshake_proves_its_client_and_only_it() {
    // The sequence number wraps.
    let s = fold(&handshake());
    assert!(proven(&s, A_TO_B) && !proven(&s, B_TO_A));
    // Wherever it is cut.
    for i in 0..=3 {
        for j in i..=3 {
            let h = handshake();
            let s = merged(&[&h[..i], &h[i..j], &h[j..]]);
            assert!(proven(&s, A_TO_B) && !proven(&s, B_TO_A), "{i} {j}");
        }
    }
}

#[test]
fn a_guess_proves_nothing() {
    let [syn, answer, ack] = handshake();
    for wrong in [
        // Blind acknowledgement of another number, of the SYN-ACK itself, in a RST, in a SYN.
        Packet { ack: 77, ..ack },
        Packet { ack: u32::MAX, ..ack },
        Packet { tcp_flags: ACK | RST, ..ack },
        Packet { tcp_flags: ACK | SYN, ..ack },
        // Without ACK the field means nothing.
        Packet { tcp_flags: FIN, ..ack },
    ] {
        for cut in 0..=3 {
            let h = [syn, answer, wrong];
            assert!(!proven(&merged(&[&h[..cut], &h[cut..]]), A_TO_B), "{wrong:?}");
        }
    }
    // The right number, before there was anything to acknowledge.
    assert!(!proven(&fold(&[syn, ack, answer]), A_TO_B));
    // A SYN-ACK from outside is as easily forged as what it answers.
    let forged = Packet { from_outside: 1, ..answer };
    for cut in 0..=3 {
        let h = [syn, forged, ack];
        assert!(!proven(&merged(&[&h[..cut], &h[cut..]]), A_TO_B));
    }
}

#[test]
fn a_proof_behind_a_split_and_a_wrong_ack_is_missed_and_the_next_handshake_proves_again() {
    let [syn, answer, ack] = handshake();
    let wrong = Packet { ack: 77, ..ack };
    // In one epoch the wrong one does no harm.
    assert!(proven(&fold(&[syn, answer, wrong, ack]), A_TO_B));
    // Only the first ACK behind a split is kept: the documented exception.
    let split = merged(&[&[syn, answer], &[wrong, ack]]);
    assert!(!proven(&split, A_TO_B));
    // A retransmitted SYN-ACK in the later epoch gives it back.
    assert!(proven(&merged(&[&[syn, answer], &[wrong, answer, ack]]), A_TO_B));
    // Wrong behind right takes nothing away.
    assert!(proven(&merged(&[&[syn, answer], &[ack, wrong]]), A_TO_B));
}

/// Cells as the kernel's programs write them, but for the processors that share them.
struct Shared;

// SAFETY: plain reads and writes through pointers that the trait's contract makes valid.
unsafe impl Cells for Shared {
    unsafe fn add64(cell: *mut u64, v: u64) {
        // SAFETY: the trait's contract, here and below.
        unsafe { *cell = (*cell).saturating_add(v) }
    }
    unsafe fn add32(cell: *mut u32, v: u32) {
        // SAFETY: as above.
        unsafe { *cell = (*cell).saturating_add(v) }
    }
    unsafe fn or32(cell: *mut u32, v: u32) {
        // SAFETY: as above.
        unsafe { *cell |= v }
    }
    unsafe fn swap32(cell: *mut u32, old: u32, new: u32) -> u32 {
        // SAFETY: as above.
        unsafe { std::mem::replace(&mut *cell, if *cell == old { new } else { *cell }) }
    }
    unsafe fn swap64(cell: *mut u64, old: u64, new: u64) -> u64 {
        // SAFETY: as above.
        unsafe { std::mem::replace(&mut *cell, if *cell == old { new } else { *cell }) }
    }
}

proptest! {
    #[test]
    fn one_owner_counts_as_those_who_share(packets in proptest::collection::vec(packet(), 0..40)) {
        let mut shared = FlowStats::EMPTY;
        for p in &packets {
            // SAFETY: `shared` is borrowed by nobody else.
            unsafe { update_cells::<Shared>(&mut shared, p) }
        }
        let shared = FlowStats { dir: shared.dir.map(DirStats::completed) };
        prop_assert_eq!(fold(&packets), shared);
    }
}
