//! Messages, made by hand.

/// Time of export of every message, s.
pub const EXPORTED: u32 = 1_700_000_000;
/// Uptime of the exporter at that time, ms.
pub const UPTIME: u32 = 1_000_000;

pub fn set(id: u16, body: &[u8]) -> Vec<u8> {
    let mut s = id.to_be_bytes().to_vec();
    s.extend((body.len() as u16 + 4).to_be_bytes());
    s.extend(body);
    s
}

pub fn v9(sequence: u32, domain: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let mut m = vec![0, 9, 0, sets.len() as u8];
    for word in [UPTIME, EXPORTED, sequence, domain] {
        m.extend(word.to_be_bytes());
    }
    m.extend(sets.concat());
    m
}

pub fn ipfix(sequence: u32, domain: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let sets = sets.concat();
    let mut m = vec![0, 10];
    m.extend((sets.len() as u16 + 16).to_be_bytes());
    for word in [EXPORTED, sequence, domain] {
        m.extend(word.to_be_bytes());
    }
    m.extend(sets);
    m
}

/// Number and length of each field; numbers of 2^16 and above are (enterprise << 16 | number).
pub fn template(id: u16, fields: &[(u64, u16)]) -> Vec<u8> {
    let mut t = id.to_be_bytes().to_vec();
    t.extend((fields.len() as u16).to_be_bytes());
    t.extend(specs(fields));
    t
}

pub fn specs(fields: &[(u64, u16)]) -> Vec<u8> {
    let mut t = Vec::new();
    for &(field, len) in fields {
        let enterprise = (field >> 16) as u32;
        t.extend((field as u16 | if enterprise == 0 { 0 } else { 0x8000 }).to_be_bytes());
        t.extend(len.to_be_bytes());
        if enterprise != 0 {
            t.extend(enterprise.to_be_bytes());
        }
    }
    t
}

/// Addresses, ports, protocol, flags, packets, bytes, first and last packet by uptime.
pub const FLOW: [(u64, u16); 10] = [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (6, 1), (2, 4), (1, 4), (22, 4), (21, 4)];

#[derive(Clone, Copy)]
pub struct Flow {
    pub from: (u8, u16),
    pub to: (u8, u16),
    pub proto: u8,
    pub flags: u8,
    pub packets: u32,
    pub bytes: u32,
    /// Uptimes, ms.
    pub first: u32,
    pub last: u32,
}

/// A client's side of an HTTP request.
pub const ASK: Flow = Flow {
    from: (1, 40_000),
    to: (2, 80),
    proto: 6,
    flags: 0x1b,
    packets: 5,
    bytes: 500,
    first: UPTIME - 2000,
    last: UPTIME - 1000,
};

impl Flow {
    /// The other side, a little later.
    pub fn answer(self) -> Flow {
        Flow { from: self.to, to: self.from, packets: 4, bytes: 4000, first: self.first + 1, ..self }
    }
    /// As [`FLOW`] lays it out.
    pub fn record(&self) -> Vec<u8> {
        let mut r = vec![10, 0, 0, self.from.0, 10, 0, 0, self.to.0];
        r.extend([self.from.1.to_be_bytes(), self.to.1.to_be_bytes()].concat());
        r.extend([self.proto, self.flags]);
        for word in [self.packets, self.bytes, self.first, self.last] {
            r.extend(word.to_be_bytes());
        }
        r
    }
    /// A v5 message of this flow alone.
    pub fn v5(&self, sequence: u32, sampling: u16) -> Vec<u8> {
        let mut m = vec![0, 5, 0, 1];
        for word in [UPTIME, EXPORTED, 0, sequence] {
            m.extend(word.to_be_bytes());
        }
        m.extend([0, 0]);
        m.extend(sampling.to_be_bytes());
        let r = self.record();
        m.extend(&r[..8]);
        m.extend([0; 8]);
        m.extend(&r[14..30]);
        m.extend(&r[8..12]);
        m.extend([0, self.flags, self.proto]);
        m.extend([0; 9]);
        m
    }
}
