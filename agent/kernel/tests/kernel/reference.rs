//! What etherparse makes of a frame, in Weir's terms. Every header is decoded by etherparse; only the order of headers and
//! the meaning of what is missing are written here, again and differently.

use etherparse::{
    Ethernet2HeaderSlice, Icmpv4Slice, Icmpv6Slice, IpAuthHeaderSlice, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice,
    Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, SingleVlanHeaderSlice, TcpHeaderSlice, UdpHeaderSlice,
};
use weir_common::parse::{Depth, MAX_EXTENSIONS, NotParsed, PacketMeta};

/// Frames on which Weir and the reference differ by definition, and how the comparison deals with it.
#[derive(Debug, Default)]
pub struct ByDefinition {
    /// More than two VLAN tags: Weir takes the frame as not IP, the reference would go on.
    pub third_tag: u64,
    /// An IPv4 header length below 20 bytes: Weir uses the addresses, the reference gives up. Decoded with 20 bytes.
    pub short_ihl: u64,
    /// IPv4 options, an extension header or a layer-4 header end after the frame does: Weir reads only what it needs, the
    /// reference wants the whole header. Decoded with zeros behind the frame's end.
    pub padded: u64,
    /// An authentication header that says it has less than its fixed 12 bytes: Weir believes it, the reference gives up.
    pub short_auth: u64,
    /// More extension headers than Weir follows.
    pub endless: u64,
}

impl ByDefinition {
    /// Each rule, and how many frames it explained.
    pub fn rules(&self) -> [(&'static str, u64); 5] {
        let Self { third_tag, short_ihl, padded, short_auth, endless } = *self;
        [
            ("third VLAN tag", third_tag),
            ("IPv4 header length below 20", short_ihl),
            ("header ends behind the frame", padded),
            ("authentication header below 12", short_auth),
            ("more extension headers than are followed", endless),
        ]
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub ports: (u16, u16),
    pub vlans: (u16, u16),
    pub ip_len: u32,
    pub proto: u8,
    pub family: u8,
    pub tcp: (u8, u32, u32),
    pub fragment: bool,
    pub full: bool,
    /// Lengths of the layer-3 and layer-4 headers, where parsing came so far.
    pub headers: (u32, u32),
}

impl Seen {
    pub fn of(m: &PacketMeta) -> Self {
        let full = m.depth == Depth::Full;
        Self {
            src: m.src.bytes(),
            dst: m.dst.bytes(),
            ports: (m.src_port, m.dst_port),
            vlans: (m.vlan_outer, m.vlan_inner),
            ip_len: m.ip_len,
            proto: m.proto,
            family: m.family,
            tcp: (m.tcp_flags, m.seq, m.ack),
            fragment: m.fragment != 0,
            full,
            headers: if full { (m.l3_len, m.l4_len) } else { (0, 0) },
        }
    }
}

/// `bytes` with zeros behind them, up to `len`.
fn padded(bytes: &[u8], len: usize, d: &mut ByDefinition) -> Vec<u8> {
    let mut v = bytes.to_vec();
    if v.len() < len {
        d.padded += 1;
        v.resize(len, 0);
    }
    v
}

pub fn parse(frame: &[u8], d: &mut ByDefinition) -> Result<Seen, NotParsed> {
    let ethernet = Ethernet2HeaderSlice::from_slice(frame).map_err(|_| NotParsed::Malformed)?;
    let mut ether_type = ethernet.ether_type().0;
    let mut rest = &frame[14..];
    let mut tags = Vec::new();
    while matches!(ether_type, 0x8100 | 0x88a8 | 0x9100) {
        if tags.len() == 2 {
            d.third_tag += 1;
            return Err(NotParsed::NotIp);
        }
        let tag = SingleVlanHeaderSlice::from_slice(rest).map_err(|_| NotParsed::Malformed)?;
        tags.push(tag.vlan_identifier().value());
        ether_type = tag.ether_type().0;
        rest = &rest[4..];
    }
    tags.resize(2, 0);
    let mut seen = match ether_type {
        0x0800 => ipv4(rest, d)?,
        0x86dd => ipv6(rest, d)?,
        _ => return Err(NotParsed::NotIp),
    };
    seen.vlans = (tags[0], tags[1]);
    Ok(seen)
}

fn nothing() -> Seen {
    Seen {
        src: [0; 16],
        dst: [0; 16],
        ports: (0, 0),
        vlans: (0, 0),
        ip_len: 0,
        proto: 0,
        family: 0,
        tcp: (0, 0, 0),
        fragment: false,
        full: false,
        headers: (0, 0),
    }
}

fn ipv4(rest: &[u8], d: &mut ByDefinition) -> Result<Seen, NotParsed> {
    if rest.len() < 20 || rest[0] >> 4 != 4 {
        assert!(Ipv4HeaderSlice::from_slice(rest).is_err(), "the reference takes {rest:?}");
        return Err(NotParsed::Malformed);
    }
    let short = rest[0] & 15 < 5;
    let mut whole = padded(rest, usize::from(rest[0] & 15) * 4, d);
    if short {
        d.short_ihl += 1;
        whole[0] = 0x45;
    }
    let h = Ipv4HeaderSlice::from_slice(&whole).expect("a whole header");
    let claimed = usize::from(h.total_len());
    let mut seen = Seen {
        src: h.source_addr().to_ipv6_mapped().octets(),
        dst: h.destination_addr().to_ipv6_mapped().octets(),
        ip_len: if claimed == 0 { rest.len() } else { claimed.min(rest.len()) } as u32,
        proto: h.protocol().0,
        family: 4,
        ..nothing()
    };
    if short {
        return Ok(seen);
    }
    seen.fragment = h.fragments_offset().value() != 0;
    let header = h.slice().len();
    layer4(rest.get(header..).unwrap_or_default(), header, &mut seen, d);
    Ok(seen)
}

fn ipv6(rest: &[u8], d: &mut ByDefinition) -> Result<Seen, NotParsed> {
    let h = Ipv6HeaderSlice::from_slice(rest).map_err(|_| NotParsed::Malformed)?;
    let claimed = usize::from(h.payload_length());
    let mut seen = Seen {
        src: h.source(),
        dst: h.destination(),
        proto: h.next_header().0,
        family: 6,
        ip_len: match (claimed, h.next_header().0) {
            (0, 0 | 6 | 17) => rest.len(),
            (0, _) => 40,
            _ => (claimed + 40).min(rest.len()),
        } as u32,
        ..nothing()
    };
    let (mut at, mut headers) = (40, 0);
    while matches!(seen.proto, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140) {
        if headers == MAX_EXTENSIONS {
            d.endless += 1;
            return Ok(seen);
        }
        headers += 1;
        let here = rest.get(at..).unwrap_or_default();
        if here.len() < 4 {
            return Ok(seen);
        }
        match seen.proto {
            44 => {
                let whole = padded(here, 8, d);
                let f = Ipv6FragmentHeaderSlice::from_slice(&whole).expect("a whole header");
                seen.fragment = f.fragment_offset().value() != 0;
                seen.proto = f.next_header().0;
                at += 8;
                if seen.fragment {
                    break;
                }
            }
            51 if here[1] == 0 => {
                d.short_auth += 1;
                seen.proto = here[0];
                at += 8;
            }
            51 => {
                let whole = padded(here, (usize::from(here[1]) + 2) * 4, d);
                let a = IpAuthHeaderSlice::from_slice(&whole).expect("a whole header");
                seen.proto = a.next_header().0;
                at += a.slice().len();
            }
            _ => {
                let whole = padded(here, (usize::from(here[1]) + 1) * 8, d);
                let e = Ipv6RawExtHeaderSlice::from_slice(&whole).expect("a whole header");
                seen.proto = e.next_header().0;
                at += e.slice().len();
            }
        }
    }
    layer4(rest.get(at..).unwrap_or_default(), at, &mut seen, d);
    Ok(seen)
}

fn layer4(here: &[u8], l3: usize, seen: &mut Seen, d: &mut ByDefinition) {
    let l4 = if seen.fragment { Some(0) } else { ports(here, seen, d) };
    if let Some(l4) = l4 {
        seen.full = true;
        seen.headers = (l3 as u32, l4);
    }
}

/// The layer-4 header's length; `None` where it is cut short or malformed.
fn ports(here: &[u8], seen: &mut Seen, d: &mut ByDefinition) -> Option<u32> {
    match (seen.proto, seen.family) {
        (6, _) => {
            if here.len() < 14 {
                return None;
            }
            let whole = padded(here, usize::from(here[12] >> 4) * 4, d);
            let whole = if whole.len() < 20 { padded(here, 20, d) } else { whole };
            let t = TcpHeaderSlice::from_slice(&whole).ok()?;
            let flags = [t.fin(), t.syn(), t.rst(), t.psh(), t.ack(), t.urg(), t.ece(), t.cwr()];
            let flags = flags.iter().enumerate().fold(0, |f, (bit, set)| f | u8::from(*set) << bit);
            seen.ports = (t.source_port(), t.destination_port());
            seen.tcp = (flags, t.sequence_number(), t.acknowledgment_number());
            Some(u32::from(t.data_offset()) * 4)
        }
        (17, _) => {
            let u = UdpHeaderSlice::from_slice(here).ok()?;
            seen.ports = (u.source_port(), u.destination_port());
            Some(8)
        }
        (1, 4) => {
            if here.len() < 4 {
                return None;
            }
            let whole = padded(here, 20, d);
            let i = Icmpv4Slice::from_slice(&whole[..whole.len().max(20)]).ok();
            let (kind, code) = i.map_or((here[0], here[1]), |i| (i.type_u8(), i.code_u8()));
            // Community ID v1, `icmp4_port_equivalents`.
            const PAIRS: [(u8, u8); 5] = [(8, 0), (13, 14), (15, 16), (17, 18), (10, 9)];
            seen.ports = icmp_ports(&PAIRS, kind, code);
            Some(8)
        }
        (58, 6) => {
            if here.len() < 4 {
                return None;
            }
            let whole = padded(here, 8, d);
            let i = Icmpv6Slice::from_slice(&whole).ok()?;
            // Community ID v1, `icmp6_port_equivalents`.
            const PAIRS: [(u8, u8); 6] = [(128, 129), (133, 134), (135, 136), (130, 131), (144, 145), (139, 140)];
            seen.ports = icmp_ports(&PAIRS, i.type_u8(), i.code_u8());
            Some(8)
        }
        _ => Some(0),
    }
}

fn icmp_ports(pairs: &[(u8, u8)], kind: u8, code: u8) -> (u16, u16) {
    let other = pairs.iter().find_map(|&(a, b)| match kind {
        k if k == a => Some(b),
        k if k == b => Some(a),
        _ => None,
    });
    (kind.into(), other.unwrap_or(code).into())
}
