//! Requests, answers and record batches as bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sinks::crc32c::crc32c;

/// Key and version of each request.
pub const PRODUCE: (i16, i16) = (0, 3);
pub const METADATA: (i16, i16) = (3, 1);
pub const SASL_HANDSHAKE: (i16, i16) = (17, 1);
pub const API_VERSIONS: (i16, i16) = (18, 0);
pub const SASL_AUTHENTICATE: (i16, i16) = (36, 0);

pub const MESSAGE_TOO_LARGE: i16 = 10;
pub const RECORD_LIST_TOO_LARGE: i16 = 18;
pub const INVALID_RECORD: i16 = 87;

/// The codes that people meet; the protocol's own names.
const ERRORS: &[(i16, &str)] = &[
    (-1, "UNKNOWN_SERVER_ERROR"),
    (2, "CORRUPT_MESSAGE"),
    (3, "UNKNOWN_TOPIC_OR_PARTITION: there is no such topic, and the broker makes none"),
    (5, "LEADER_NOT_AVAILABLE"),
    (6, "NOT_LEADER_OR_FOLLOWER"),
    (7, "REQUEST_TIMED_OUT"),
    (8, "BROKER_NOT_AVAILABLE"),
    (10, "MESSAGE_TOO_LARGE"),
    (17, "INVALID_TOPIC_EXCEPTION"),
    (18, "RECORD_LIST_TOO_LARGE"),
    (19, "NOT_ENOUGH_REPLICAS"),
    (20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND"),
    (29, "TOPIC_AUTHORIZATION_FAILED: this user may not write there"),
    (31, "CLUSTER_AUTHORIZATION_FAILED"),
    (33, "UNSUPPORTED_SASL_MECHANISM"),
    (34, "ILLEGAL_SASL_STATE"),
    (35, "UNSUPPORTED_VERSION"),
    (58, "SASL_AUTHENTICATION_FAILED"),
    (87, "INVALID_RECORD"),
];

pub fn error_words(code: i16) -> String {
    match ERRORS.iter().find(|(c, _)| *c == code) {
        Some((_, name)) => format!("the broker says {name}"),
        None => format!("the broker says error {code}"),
    }
}

#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn i16(&mut self, v: i16) -> &mut Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }
    fn i32(&mut self, v: i32) -> &mut Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }
    fn i64(&mut self, v: i64) -> &mut Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }
    fn string(&mut self, s: &str) -> &mut Self {
        self.i16(s.len() as i16);
        self.0.extend_from_slice(s.as_bytes());
        self
    }
    fn bytes(&mut self, b: &[u8]) -> &mut Self {
        self.i32(b.len() as i32);
        self.0.extend_from_slice(b);
        self
    }
    /// Zigzag, seven bits a byte.
    fn varint(&mut self, v: i64) -> &mut Self {
        let mut z = (v << 1 ^ v >> 63) as u64;
        while z >= 0x80 {
            self.0.push(z as u8 | 0x80);
            z >>= 7;
        }
        self.0.push(z as u8);
        self
    }
    fn var_bytes(&mut self, b: &[u8]) -> &mut Self {
        self.varint(b.len() as i64);
        self.0.extend_from_slice(b);
        self
    }
}

/// What an answer says, read from the front. `None`: it ends too early.
struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }
    fn i8(&mut self) -> Option<i8> {
        self.take(1).map(|b| b[0] as i8)
    }
    fn i16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }
    fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }
    fn i64(&mut self) -> Option<i64> {
        self.take(8)?.try_into().ok().map(i64::from_be_bytes)
    }
    /// Null is empty.
    fn string(&mut self) -> Option<String> {
        let n = usize::try_from(self.i16()?.max(0)).ok()?;
        self.take(n).map(|b| String::from_utf8_lossy(b).into_owned())
    }
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = usize::try_from(self.i32()?.max(0)).ok()?;
        self.take(n)
    }
    /// How many items follow; no more than there are bytes.
    fn array(&mut self) -> Option<usize> {
        let n = usize::try_from(self.i32()?.max(0)).ok()?;
        (n <= self.0.len()).then_some(n)
    }
}

/// A whole request.
pub fn framed(key: i16, version: i16, id: i32, body: &[u8]) -> Vec<u8> {
    let mut head = Out::default();
    head.i16(key).i16(version).i32(id).string("weir");
    let mut out = Out::default();
    out.i32((head.0.len() + body.len()) as i32);
    out.0.extend_from_slice(&head.0);
    out.0.extend_from_slice(body);
    out.0
}

/// The broker takes the versions that we speak.
pub fn check_versions(answer: &[u8]) -> Result<(), String> {
    let mut read = In(answer);
    let ranges = (|| {
        let code = read.i16()?;
        let n = read.array()?;
        let ranges: Option<Vec<_>> = (0..n).map(|_| Some((read.i16()?, read.i16()?, read.i16()?))).collect();
        Some((code, ranges?))
    })();
    let (code, ranges) = ranges.ok_or("what answers there does not speak Kafka's protocol")?;
    if code != 0 {
        return Err(error_words(code));
    }
    for (key, version) in [PRODUCE, METADATA] {
        if !ranges.iter().any(|(k, low, high)| *k == key && (*low..=*high).contains(&version)) {
            return Err(format!("the broker does not take version {version} of request {key}; Kafka 0.11 to 4 do"));
        }
    }
    Ok(())
}

pub fn metadata(topic: &str) -> Vec<u8> {
    let mut out = Out::default();
    out.i32(1).string(topic);
    out.0
}

#[derive(Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Number, host and port.
    pub brokers: Vec<(i32, String, u16)>,
    /// Of each partition, in order.
    pub leaders: Vec<i32>,
}

pub fn read_metadata(answer: &[u8], topic: &str) -> Result<Metadata, String> {
    let mut read = In(answer);
    let nonsense = "its answer makes no sense";
    let mut brokers = Vec::new();
    for _ in 0..read.array().ok_or(nonsense)? {
        let broker = (|| {
            let (id, host, port) = (read.i32()?, read.string()?, read.i32()?);
            // The rack.
            read.string()?;
            Some((id, host, u16::try_from(port).ok()?))
        })();
        brokers.push(broker.ok_or(nonsense)?);
    }
    // The controller.
    read.i32().ok_or(nonsense)?;
    for _ in 0..read.array().ok_or(nonsense)? {
        let head = (|| Some((read.i16()?, read.string()?, read.i8()?, read.array()?)))();
        let (code, name, _, partitions) = head.ok_or(nonsense)?;
        let mut leaders = BTreeMap::new();
        for _ in 0..partitions {
            let partition = (|| {
                let (code, index, leader) = (read.i16()?, read.i32()?, read.i32()?);
                for _ in 0..2 {
                    let n = read.array()?;
                    read.take(n.checked_mul(4)?)?;
                }
                Some((code, index, leader))
            })();
            let (_, index, leader) = partition.ok_or(nonsense)?;
            leaders.insert(index, leader);
        }
        if name != topic {
            continue;
        }
        if code != 0 {
            return Err(error_words(code));
        }
        let whole = leaders.keys().enumerate().all(|(i, k)| i as i32 == *k);
        return match leaders.values().find(|l| **l < 0) {
            _ if leaders.is_empty() || !whole => Err("the topic's partitions are not all there".into()),
            Some(_) => Err("a partition of the topic has no leader".into()),
            None => Ok(Metadata { brokers, leaders: leaders.into_values().collect() }),
        };
    }
    Err(nonsense.into())
}

/// What stands in a record; `kind` goes into a header of this name.
pub struct Record<'a> {
    pub time_ms: i64,
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub kind: &'a [u8],
}

/// Records by partition, to be acknowledged by all replicas that are in sync.
pub fn produce(topic: &str, timeout: Duration, records: &BTreeMap<i32, Vec<Record<'_>>>) -> Vec<u8> {
    let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let mut out = Out::default();
    // No transaction; acks=all.
    out.i16(-1).i16(-1).i32(timeout).i32(1).string(topic).i32(records.len() as i32);
    for (partition, records) in records {
        out.i32(*partition).bytes(&batch(records));
    }
    out.0
}

/// A record batch of version 2, uncompressed.
fn batch(records: &[Record<'_>]) -> Vec<u8> {
    let base = records.iter().map(|r| r.time_ms).min().unwrap_or(0);
    let last = records.iter().map(|r| r.time_ms).max().unwrap_or(0);
    let mut body = Out::default();
    // Attributes, last offset, times, then producer, epoch and sequence of one that is not idempotent.
    body.i16(0).i32(records.len() as i32 - 1).i64(base).i64(last).i64(-1).i16(-1).i32(-1).i32(records.len() as i32);
    for (i, r) in records.iter().enumerate() {
        let mut record = Out::default();
        record.0.push(0);
        record.varint(r.time_ms - base).varint(i as i64);
        // An event about nobody has no key.
        if r.key.is_empty() {
            record.varint(-1)
        } else {
            record.var_bytes(r.key)
        };
        record.var_bytes(r.value).varint(1).var_bytes(b"kind").var_bytes(r.kind);
        body.var_bytes(&record.0);
    }
    let mut out = Out::default();
    // Offset, length from the epoch on, epoch, magic, checksum from the attributes on.
    out.i64(0).i32(4 + 1 + 4 + body.0.len() as i32).i32(-1);
    out.0.push(2);
    out.0.extend_from_slice(&crc32c(0, &body.0).to_be_bytes());
    out.0.extend_from_slice(&body.0);
    out.0
}

/// Why a batch was not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered {
    Code(i16),
    Nonsense,
}

/// All partitions have taken what they were sent.
pub fn read_produced(answer: &[u8], topic: &str, partitions: usize) -> Result<(), Answered> {
    let mut read = In(answer);
    let codes = (|| {
        let mut codes = Vec::new();
        for _ in 0..read.array()? {
            let name = read.string()?;
            for _ in 0..read.array()? {
                let (_, code, _, _) = (read.i32()?, read.i16()?, read.i64()?, read.i64()?);
                if name == topic {
                    codes.push(code);
                }
            }
        }
        Some(codes)
    })();
    let codes = codes.ok_or(Answered::Nonsense)?;
    match codes.iter().find(|c| **c != 0) {
        Some(code) => Err(Answered::Code(*code)),
        None if codes.len() == partitions => Ok(()),
        None => Err(Answered::Nonsense),
    }
}

pub fn sasl_handshake(mechanism: &str) -> Vec<u8> {
    let mut out = Out::default();
    out.string(mechanism);
    out.0
}

pub fn read_sasl_handshake(answer: &[u8]) -> Result<(), String> {
    let mut read = In(answer);
    let code = read.i16().ok_or("its answer makes no sense")?;
    if code == 0 {
        return Ok(());
    }
    let offered: Option<Vec<String>> = (|| (0..read.array()?).map(|_| read.string()).collect())();
    Err(format!("{}; it offers {}", error_words(code), offered.unwrap_or_default().join(", ")))
}

pub fn sasl_authenticate(token: &[u8]) -> Vec<u8> {
    let mut out = Out::default();
    out.bytes(token);
    out.0
}

pub fn read_sasl_authenticate(answer: &[u8]) -> Result<Vec<u8>, String> {
    let mut read = In(answer);
    let parts = (|| Some((read.i16()?, read.string()?, read.bytes()?)))();
    match parts.ok_or("its answer makes no sense")? {
        (0, _, token) => Ok(token.to_vec()),
        (code, words, _) if words.is_empty() => Err(error_words(code)),
        (code, words, _) => Err(format!("{}: {}", error_words(code), words.replace(char::is_control, " "))),
    }
}
