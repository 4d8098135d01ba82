//! VLAN tags in the keys of what an interface has counted.
//!
//! A network card that strips tags shows its programs packets without them, while what goes out has its tag beside the data: one
//! flow would be two halves. So such an interface keys without tags.

use std::ops::Range;

use foldhash::HashMap;
use weir_common::flow::{FlowKey, FlowStats, VLAN_NONE, seen};
use weir_kernel::flows::Drained;

/// What becomes of the tags that an interface saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tags {
    #[default]
    AsSeen,
    /// A VLAN device whose parent is watched too: there, its packets bear this tag.
    Device(u16),
    /// Not every packet has shown its own.
    Without,
}

impl Tags {
    /// Changes the keys of these flows, and joins those that are one then. Says how many there are left.
    pub(super) fn change(self, flows: &mut Drained, of: Range<usize>) -> usize {
        match self {
            Self::AsSeen => of.len(),
            Self::Device(tag) => {
                for (key, _) in &mut flows[of.clone()] {
                    (key.vlan_outer, key.vlan_inner) = (tag, key.vlan_outer);
                }
                of.len()
            }
            Self::Without => without(flows, of),
        }
    }
}

fn without(flows: &mut Drained, of: Range<usize>) -> usize {
    let part = &mut flows[of.clone()];
    if part.iter().all(|(key, _)| key.vlan_outer == VLAN_NONE) {
        return of.len();
    }
    let mut first: HashMap<FlowKey, usize> = HashMap::default();
    let mut left = 0;
    for at in 0..part.len() {
        let (mut key, stats) = part[at];
        (key.vlan_outer, key.vlan_inner) = (VLAN_NONE, VLAN_NONE);
        match first.entry(key) {
            std::collections::hash_map::Entry::Occupied(known) => join(&mut part[*known.get()].1, &stats),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(left);
                part[left] = (key, stats);
                left += 1;
            }
        }
    }
    flows.drain(of.start + left..of.end);
    left
}

/// Two halves of a flow in one epoch. A SYN-ACK comes before the ACK that proves it.
fn join(half: &mut FlowStats, other: &FlowStats) {
    let answered = |s: &FlowStats| s.dir.iter().any(|d| d.seen & seen::SYN_ACK_SENT != 0);
    if answered(other) && !answered(half) {
        let later = std::mem::replace(half, *other);
        half.merge(&later);
    } else {
        half.merge(other);
    }
    weir_core::table::say_who_opened(half);
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_common::flow::Packet;

    fn key(vlans: [u16; 2]) -> FlowKey {
        FlowKey {
            port_a: 40_000,
            port_b: 22,
            proto: 6,
            vlan_outer: vlans[0],
            vlan_inner: vlans[1],
            ..FlowKey::default()
        }
    }

    fn stats(packets: &[Packet]) -> FlowStats {
        packets.iter().fold(FlowStats::EMPTY, |mut all, p| {
            all.update(p);
            all
        })
    }

    const SYN: u8 = 2;
    const ACK: u8 = 16;

    fn handshake() -> [Packet; 4] {
        let p = |dir, now_us, tcp_flags, seq, ack| Packet {
            dir,
            now_us,
            segs: 1,
            seg_len: 60,
            last_len: 60,
            tcp_flags,
            seq,
            ack,
            ..Packet::default()
        };
        [p(0, 10, SYN, 100, 0), p(1, 20, SYN | ACK, 500, 101), p(0, 30, ACK, 101, 501), p(1, 40, ACK, 501, 101)]
    }

    #[test]
    fn halves_of_a_flow_whose_tag_was_stripped_one_way_are_what_the_whole_would_be() {
        let all = handshake();
        let half = |dir| all.iter().filter(|p| p.dir == dir).copied().collect::<Vec<_>>();
        let whole = stats(&all);
        for (first, second) in [(0, 1), (1, 0)] {
            let tags = |dir| if dir == 0 { [VLAN_NONE; 2] } else { [5, VLAN_NONE] };
            let other = FlowKey { port_a: 40_001, ..key([VLAN_NONE; 2]) };
            let mut flows: Drained = vec![
                (other, whole),
                (key(tags(first)), stats(&half(first))),
                (key(tags(second)), stats(&half(second))),
                (key([7, 9]), FlowStats::EMPTY),
                (other, whole),
            ];
            assert_eq!(Tags::Without.change(&mut flows, 1..4), 1);
            let proven = |s: &FlowStats| s.dir[0].seen & seen::PROVEN != 0;
            assert!(proven(&whole));
            assert_eq!(flows, [(other, whole), (key([VLAN_NONE; 2]), whole), (other, whole)], "{first} first");
        }
    }

    #[test]
    fn the_tag_of_a_device_is_put_before_those_that_its_packets_have() {
        let mut flows: Drained = vec![(key([9, VLAN_NONE]), FlowStats::EMPTY), (key([VLAN_NONE; 2]), FlowStats::EMPTY)];
        assert_eq!(Tags::AsSeen.change(&mut flows, 0..2), 2);
        assert_eq!(Tags::Device(5).change(&mut flows, 0..2), 2);
        let tags = |n: usize| [flows[n].0.vlan_outer, flows[n].0.vlan_inner];
        assert_eq!([tags(0), tags(1)], [[5, 9], [5, VLAN_NONE]]);
    }
}
