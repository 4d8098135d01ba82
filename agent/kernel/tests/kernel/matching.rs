//! The kernel's verdicts against a plain reading of what entries mean: random lists, random packets.

use std::cmp::Reverse;
use std::net::IpAddr;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use weir_common::counters::Reason;
use weir_common::entry::{Entry, FOREVER, FlowTarget, action, side};
use weir_common::limit::Unit;
use weir_kernel::lists::{Key, List};
use weir_kernel::sys;

use crate::frames::*;
use crate::support::*;

/// An end of a packet.
type End = (IpAddr, u16);

/// What an entry is about, in the words of a person.
#[derive(Clone, Copy, Debug, PartialEq)]
enum About {
    Net(IpAddr, u8),
    Port(IpAddr, u8, u16),
    FarPort(IpAddr, u8, u16),
    Flow(u8, End, End),
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    about: About,
    allow: bool,
    action: u8,
    sides: u8,
    ended: bool,
}

/// A packet as it is seen from the protected host.
#[derive(Clone, Copy, Debug)]
struct Packet {
    out: bool,
    proto: u8,
    far: End,
    ours: End,
    later_fragment: bool,
    tag: Option<u16>,
}

fn bits(ip: IpAddr) -> (u128, u32) {
    match ip {
        IpAddr::V4(a) => (u128::from(a.to_bits()) << 96, 32),
        IpAddr::V6(a) => (a.to_bits(), 128),
    }
}

fn covers(net: IpAddr, len: u8, ip: IpAddr) -> bool {
    let ((a, width), (b, other)) = (bits(net), bits(ip));
    width == other && (len == 0 || a >> (128 - u32::from(len)) == b >> (128 - u32::from(len)))
}

impl Rule {
    /// How narrow it is where it matches the packet: smaller is narrower.
    fn matches(&self, p: &Packet) -> Option<(u8, Reverse<u8>)> {
        let side = if p.out { side::OUT } else { side::IN };
        if self.ended || self.sides & side == 0 {
            return None;
        }
        let (rank, len, yes) = match self.about {
            About::Flow(proto, far, ours) => {
                (0, 0, !p.later_fragment && (proto, far, ours) == (p.proto, p.far, p.ours))
            }
            About::Port(ip, proto, port) => {
                (1, 0, !p.later_fragment && (ip, proto, port) == (p.far.0, p.proto, p.ours.1))
            }
            About::FarPort(ip, proto, port) => {
                (2, 0, !p.later_fragment && (ip, proto, port) == (p.far.0, p.proto, p.far.1))
            }
            About::Net(net, len) => (3, len, covers(net, len, p.far.0)),
        };
        yes.then_some((rank, Reverse(len)))
    }

    fn key(&self) -> Key {
        match self.about {
            About::Net(ip, len) => net(ip, len),
            About::Port(ip, proto, port) => Key::port(mapped(ip), proto, port),
            About::FarPort(ip, proto, port) => Key::far_port(mapped(ip), proto, port),
            About::Flow(proto, far, ours) => Key::Flow(FlowTarget {
                remote: mapped(far.0),
                ours: mapped(ours.0),
                far_port: far.1,
                port: ours.1,
                proto,
            }),
        }
    }

    fn entry(&self) -> Entry {
        // A limit that is never reached: what it stops is measured elsewhere, here it is only to win or to lose.
        let base =
            if self.action == action::LIMIT { limiting(Unit::Packets, 1, 1_000_000) } else { entry(self.action) };
        Entry { sides: self.sides, expires_ns: if self.ended { 1 } else { FOREVER }, ..base }
    }
}

/// Whether the packet is stopped, which rule is credited, and what is counted beside that it passed.
fn judge(rules: &[Rule], p: &Packet) -> (bool, Option<usize>, Option<Reason>) {
    let matching = |allow: bool| rules.iter().enumerate().filter(move |(_, r)| r.allow == allow);
    if matching(true).any(|(_, r)| r.matches(p).is_some()) {
        return (false, None, Some(Reason::InAllowed));
    }
    let strongest = matching(false)
        .filter_map(|(n, r)| r.matches(p).map(|narrow| ((Reverse(r.action), narrow), n, r.action)))
        .min_by_key(|(order, _, _)| *order);
    match strongest {
        None => (false, None, None),
        Some((_, n, action::DROP)) => (true, Some(n), Some(Reason::InDropped)),
        Some((_, n, action::SHADOW)) => (false, Some(n), Some(Reason::InShadowed)),
        Some(_) => (false, None, None),
    }
}

impl Packet {
    fn frame(&self) -> Vec<u8> {
        let (from, to) = if self.out { (self.ours, self.far) } else { (self.far, self.ours) };
        let l4 = if self.proto == TCP { tcp(from.1, to.1, ACK, 1, 1, 1) } else { udp(from.1, to.1, 1) };
        let packet = match (from.0, to.0, self.later_fragment) {
            (IpAddr::V4(f), IpAddr::V4(t), true) => {
                ipv4_with(f, t, self.proto, &l4, &V4 { fragment: 100, ..V4::default() })
            }
            (IpAddr::V6(f), IpAddr::V6(t), true) => {
                ipv6_with(f, t, &[(44, fragment_header(100, true))], self.proto, &l4)
            }
            (f, t, _) => ip(f, t, self.proto, &l4),
        };
        let tags: Vec<(u16, u16)> = self.tag.map(|id| (0x8100, id)).into_iter().collect();
        frame(&tags, &packet)
    }
}

/// Few addresses and ports, so that rules meet packets and one another.
struct World {
    rng: StdRng,
}

impl World {
    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.rng.random_range(0..all.len())]
    }

    fn far(&mut self, six: bool) -> IpAddr {
        let n = self.rng.random_range(0..5u8);
        if six {
            v6(["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "2001:db9::1", "fe00::1"][usize::from(n)])
        } else {
            v4(["198.51.100.1", "198.51.100.2", "198.51.101.1", "198.52.0.1", "9.9.9.9"][usize::from(n)])
        }
    }

    fn ends(&mut self, six: bool) -> (End, End) {
        let ours = if six { [v6("fd00::1"), v6("fd00::2")] } else { [v4("192.0.2.1"), v4("192.0.2.2")] };
        let ports = [53, 443, 4000];
        ((self.far(six), self.of(&ports)), (self.of(&ours), self.of(&ports)))
    }

    fn rule(&mut self) -> Rule {
        let six = self.rng.random();
        let (far, ours) = self.ends(six);
        let proto = self.of(&[TCP, UDP]);
        let allow = self.rng.random_ratio(1, 12);
        let about = match self.rng.random_range(0..if allow { 3 } else { 9 }) {
            0..3 => {
                let len = if six {
                    self.of(&[0, 16, 32, 47, 48, 64, 127, 128])
                } else {
                    self.of(&[0, 7, 16, 23, 24, 31, 32])
                };
                About::Net(masked(far.0, len), len)
            }
            3 | 4 => About::Port(far.0, proto, ours.1),
            5 | 6 => About::FarPort(far.0, proto, far.1),
            _ => About::Flow(proto, far, ours),
        };
        Rule {
            about,
            allow,
            action: self.of(&[action::SHADOW, action::LIMIT, action::DROP]),
            sides: self.of(&[side::IN, side::OUT, side::IN | side::OUT]),
            ended: self.rng.random_ratio(1, 6),
        }
    }

    fn packet(&mut self) -> Packet {
        let six = self.rng.random();
        let (far, ours) = self.ends(six);
        Packet {
            out: self.rng.random(),
            proto: self.of(&[TCP, UDP]),
            far,
            ours,
            later_fragment: self.rng.random_ratio(1, 10),
            tag: self.rng.random_ratio(1, 5).then_some(7),
        }
    }
}

fn masked(ip: IpAddr, len: u8) -> IpAddr {
    let (all, _) = bits(ip);
    let kept = if len == 0 { 0 } else { all & (u128::MAX << (128 - u32::from(len))) };
    match ip {
        IpAddr::V4(_) => IpAddr::V4(((kept >> 96) as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(kept.into()),
    }
}

#[test]
fn random_packets_meet_random_lists_as_a_plain_reading_of_them_says() {
    let test = "random_packets_meet_random_lists_as_a_plain_reading_of_them_says";
    let Some(mut l) = loaded(test) else { return };
    const LISTS: u64 = 120;
    const PACKETS: usize = 150;
    let seed: u64 =
        std::env::var("WEIR_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| sys::random().unwrap());
    eprintln!("WEIR_SEED={seed}");
    let (mut stopped, mut credited) = (0, [0u32; 4]);
    for round in 0..LISTS {
        let mut world = World { rng: StdRng::seed_from_u64(seed.wrapping_add(round)) };
        let mut rules: Vec<Rule> = Vec::new();
        for _ in 0..world.rng.random_range(1..40) {
            let new = world.rule();
            rules.retain(|r| (r.about, r.allow) != (new.about, new.allow));
            rules.push(new);
        }
        for list in [List::Allow, List::Block] {
            let on: Vec<(Key, Entry)> =
                rules.iter().filter(|r| r.allow == (list == List::Allow)).map(|r| (r.key(), r.entry())).collect();
            // In both ways in which lists come about; what another round left is gone.
            if round % 2 == 0 {
                l.datapath.lists.replace(list, &on).unwrap();
            } else {
                let old: Vec<Key> =
                    l.datapath.lists.known().filter(|(of, ..)| *of == list).map(|(_, key, _)| *key).collect();
                l.datapath.lists.remove(list, &old).unwrap();
                l.datapath.lists.set(list, &on).unwrap();
            }
        }
        let hits = |l: &Loaded| rules.iter().map(|r| if r.allow { 0 } else { l.hits(r.key()) }).collect::<Vec<u64>>();
        let reasons = [Reason::InAllowed, Reason::InDropped, Reason::InShadowed];
        for n in 0..PACKETS {
            let p = world.packet();
            let counters = |l: &Loaded| reasons.map(|r| l.packets(if p.out { r.at_egress() } else { r }));
            let (before, counted) = (hits(&l), counters(&l));
            let got = if p.out { l.tc(&p.frame()) == TC_SHOT } else { l.xdp(&p.frame()) == XDP_DROP };
            let (expected, credit, reason) = judge(&rules, &p);
            let what = || format!("seed {seed}, list {round}, packet {n}: {p:?} against {rules:#?}");
            assert_eq!(got, expected, "{}", what());
            let after: Vec<u64> = hits(&l);
            for (i, (a, b)) in after.iter().zip(&before).enumerate() {
                assert_eq!(a - b, u64::from(credit == Some(i)), "hits of {:?}, {}", rules[i], what());
            }
            let now = counters(&l);
            for (i, r) in reasons.iter().enumerate() {
                assert_eq!(now[i] - counted[i], u64::from(reason == Some(*r)), "{r:?}, {}", what());
            }
            stopped += u32::from(got);
            if let Some(i) = credit {
                credited[match rules[i].about {
                    About::Flow(..) => 0,
                    About::Port(..) => 1,
                    About::FarPort(..) => 2,
                    About::Net(..) => 3,
                }] += 1;
            }
        }
    }
    // The lists did meet the packets.
    let all = LISTS as u32 * PACKETS as u32;
    assert!(stopped > all / 10 && stopped < all, "{stopped} of {all} stopped");
    assert!(credited.iter().all(|n| *n > all / 5000), "{credited:?} of {all}");
}
