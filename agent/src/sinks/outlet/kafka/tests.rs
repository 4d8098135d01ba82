//! Against a broker of our own that takes the protocol at its word, and one that does not keep to it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use weir_core::event::Severity;

use super::*;
use crate::sinks::notice::{Head, Kind, Notice};
use crate::sinks::outlet::Then;

const PARTITIONS: i32 = 4;

#[derive(Clone, Copy, Debug)]
enum Do {
    Take,
    Code(i16),
    /// Answers another request.
    Other,
    /// Says that more follows than anybody has.
    Huge,
    Hang,
    Cut,
}

#[derive(Default)]
struct Broker {
    /// What becomes of the next batches; then they are taken.
    script: Vec<Do>,
    /// Partition, key and value of the records taken.
    taken: Vec<(i32, Vec<u8>, Vec<u8>)>,
    asked_who_leads: usize,
}

fn broker(script: &[Do]) -> (u16, Arc<Mutex<Broker>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let broker = Arc::new(Mutex::new(Broker { script: script.iter().rev().copied().collect(), ..Broker::default() }));
    let of = broker.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let of = of.clone();
            std::thread::spawn(move || serve(stream.unwrap(), port, &of));
        }
    });
    (port, broker)
}

struct Reader<'a>(&'a [u8]);
impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }
    fn int(&mut self, n: usize) -> i64 {
        let bytes = self.take(n);
        let negative = bytes[0] & 0x80 != 0;
        bytes.iter().fold(if negative { -1 } else { 0 }, |v, b| v << 8 | i64::from(*b))
    }
    fn string(&mut self) -> String {
        let n = self.int(2);
        String::from_utf8(self.take(n as usize).to_vec()).unwrap()
    }
    fn varint(&mut self) -> i64 {
        let (mut z, mut shift) = (0u64, 0);
        loop {
            let b = self.take(1)[0];
            z |= u64::from(b & 0x7f) << shift;
            shift += 7;
            if b & 0x80 == 0 {
                return (z >> 1) as i64 ^ -((z & 1) as i64);
            }
        }
    }
    fn var_bytes(&mut self) -> Vec<u8> {
        match self.varint() {
            -1 => Vec::new(),
            n => self.take(n as usize).to_vec(),
        }
    }
}

fn serve(mut stream: TcpStream, port: u16, broker: &Mutex<Broker>) {
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut request = vec![0; i32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request).unwrap();
        let mut read = Reader(&request);
        let (key, version, id) = (read.int(2), read.int(2), read.int(4) as i32);
        assert_eq!(read.string(), "weir");
        let int = |v: i32| v.to_be_bytes().to_vec();
        let string = |s: &str| [&(s.len() as i16).to_be_bytes()[..], s.as_bytes()].concat();
        let answer = match (key, version) {
            (18, 0) => [&[0, 0][..], &int(2), &[0, 0, 0, 3, 0, 9], &[0, 3, 0, 0, 0, 9]].concat(),
            (3, 1) => {
                assert_eq!((read.int(4), read.string().as_str(), read.0.len()), (1, "weir", 0));
                broker.lock().unwrap().asked_who_leads += 1;
                let here = [int(7), string("127.0.0.1"), int(i32::from(port)), vec![0xff, 0xff]].concat();
                let partition = |i| [vec![0, 0], int(i), int(7), int(1), int(7), int(1), int(7)].concat();
                let partitions: Vec<u8> = (0..PARTITIONS).flat_map(partition).collect();
                let topic = [vec![0, 0], string("weir"), vec![0], int(PARTITIONS), partitions].concat();
                [int(1), here, int(7), int(1), topic].concat()
            }
            (0, 3) => {
                let records = read_produce(&mut read);
                let what = broker.lock().unwrap().script.pop().unwrap_or(Do::Take);
                let code = match what {
                    Do::Take => 0i16,
                    Do::Code(code) => code,
                    Do::Other => {
                        stream.write_all(&[int(4), int(id + 1)].concat()).unwrap();
                        continue;
                    }
                    Do::Huge => {
                        stream.write_all(&int(i32::MAX)).unwrap();
                        continue;
                    }
                    Do::Hang => {
                        let _ = stream.read(&mut [0; 1]);
                        return;
                    }
                    Do::Cut => return,
                };
                let partitions: std::collections::BTreeSet<i32> = records.iter().map(|r| r.0).collect();
                if code == 0 {
                    broker.lock().unwrap().taken.extend(records);
                }
                let one = |p: &i32| [&int(*p)[..], &code.to_be_bytes(), &[0; 16]].concat();
                let all: Vec<u8> = partitions.iter().flat_map(one).collect();
                [int(1), string("weir"), int(partitions.len() as i32), all, int(0)].concat()
            }
            other => panic!("asked for {other:?}"),
        };
        stream.write_all(&[int(answer.len() as i32 + 4), int(id), answer].concat()).unwrap();
    }
}

/// Takes a request to produce apart, and does not forgive anything.
fn read_produce(read: &mut Reader<'_>) -> Vec<(i32, Vec<u8>, Vec<u8>)> {
    assert_eq!((read.int(2), read.int(2)), (-1, -1), "no transaction, and all replicas are to have it");
    assert!(read.int(4) > 0);
    assert_eq!((read.int(4), read.string().as_str()), (1, "weir"));
    let mut records = Vec::new();
    for _ in 0..read.int(4) {
        let partition = read.int(4) as i32;
        let length = read.int(4) as usize;
        let mut batch = Reader(read.take(length));
        assert_eq!(batch.int(8), 0);
        assert_eq!(batch.int(4) as usize, batch.0.len());
        assert_eq!((batch.int(4), batch.int(1)), (-1, 2));
        let sum = batch.int(4) as u32;
        assert_eq!(sum, crc32c(0, batch.0));
        assert_eq!(batch.int(2), 0);
        let last = batch.int(4);
        let (base, most) = (batch.int(8), batch.int(8));
        assert_eq!((batch.int(8), batch.int(2), batch.int(4)), (-1, -1, -1));
        let n = batch.int(4);
        assert!(last == n - 1 && base <= most);
        for i in 0..n {
            let length = batch.varint() as usize;
            let mut record = Reader(batch.take(length));
            assert_eq!(record.int(1), 0);
            assert!((base..=most).contains(&(base + record.varint())));
            assert_eq!(record.varint(), i);
            let (key, value) = (record.var_bytes(), record.var_bytes());
            assert_eq!(
                (record.varint(), record.var_bytes(), record.var_bytes()),
                (1, b"kind".to_vec(), b"alert".to_vec())
            );
            assert!(record.0.is_empty());
            records.push((partition, key, value));
        }
        assert!(batch.0.is_empty());
    }
    assert!(read.0.is_empty());
    records
}

fn notices(n: usize, size: usize) -> Vec<Numbered> {
    let one = |i: usize| {
        let head = Head {
            time_us: 1_700_000_000_000_000 + i as u64 * 1500,
            kind: Kind::Alert,
            severity: Severity::High,
            source: if i.is_multiple_of(5) { String::new() } else { format!("192.0.2.{}", i % 7) },
            reason: "x".into(),
            repeated: 0,
        };
        let event = format!("{{\"n\":{i},\"x\":\"{}\"}}", "x".repeat(size));
        Numbered { number: i as u64, notice: Notice { head, line: String::new(), event } }
    };
    (0..n).map(one).collect()
}

fn producer(port: u16) -> Producer {
    let timeout = Duration::from_millis(300);
    let brokers = vec![("127.0.0.1".into(), port)];
    Producer::new(Kafka { brokers, topic: "weir".into(), trust: None, login: None, timeout })
}

fn run<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

#[test]
fn every_event_arrives_and_those_of_a_source_in_order_in_one_partition() {
    let (port, broker) = broker(&[]);
    let batch = notices(300, 5000);
    run(producer(port).deliver(&batch)).unwrap();
    let taken = std::mem::take(&mut broker.lock().unwrap().taken);
    assert_eq!(taken.len(), 300, "1.5 MB went as several batches");
    let mut by_key: BTreeMap<&[u8], Vec<(i32, &[u8])>> = BTreeMap::new();
    taken.iter().for_each(|(p, key, value)| by_key.entry(key).or_default().push((*p, value)));
    assert_eq!(by_key.len(), 8);
    for (key, records) in by_key {
        let expected: Vec<&[u8]> = batch
            .iter()
            .filter(|n| n.notice.head.source.as_bytes() == key)
            .map(|n| n.notice.event.as_bytes())
            .collect();
        assert_eq!(records.iter().map(|r| r.1).collect::<Vec<_>>(), expected);
        assert!(records.iter().all(|r| r.0 == records[0].0));
    }
}

#[test]
fn a_broker_that_fails_hangs_cuts_and_lies_gets_it_in_the_end() {
    let script = [Do::Code(6), Do::Code(19), Do::Other, Do::Huge, Do::Hang, Do::Cut];
    let (port, broker) = broker(&script);
    let batch = notices(1, 10);
    let mut producer = producer(port);
    let begun = Instant::now();
    run(async {
        let mut said = Vec::new();
        for _ in script {
            let failed = producer.deliver(&batch).await.unwrap_err();
            assert_eq!((failed.done, failed.then), (0, Then::Retry), "{failed:?}");
            said.push(failed.why);
        }
        for (said, words) in said.iter().zip([
            "NOT_LEADER_OR_FOLLOWER",
            "NOT_ENOUGH_REPLICAS",
            "it answers request",
            "does not speak Kafka",
            "no answer within",
            "broke off",
        ]) {
            assert!(said.contains(words), "{said}");
        }
        producer.deliver(&batch).await.unwrap();
    });
    assert!(begun.elapsed() < Duration::from_secs(5));
    let broker = broker.lock().unwrap();
    assert_eq!((broker.taken.len(), broker.asked_who_leads), (1, 7), "who leads is asked anew after each failure");
}

#[test]
fn what_is_too_large_is_found_and_given_up_alone() {
    let too_large = Do::Code(wire::MESSAGE_TOO_LARGE);
    // The batch, then the second of its events.
    let (port, broker) = broker(&[too_large, Do::Take, too_large]);
    let batch = notices(3, 10);
    let failed = run(producer(port).deliver(&batch)).unwrap_err();
    assert_eq!((failed.done, failed.then), (1, Then::GiveUp), "{failed:?}");
    assert_eq!(broker.lock().unwrap().taken.len(), 1);
}

#[test]
fn answers_that_end_early_or_claim_too_much_are_no_answers() {
    let nothing: [&[u8]; 4] = [&[], &[0; 3], &[0x7f, 0xff, 0xff, 0xff], &[0, 0, 0, 1, 0, 9, b'x']];
    for bytes in nothing {
        assert!(wire::read_metadata(bytes, "t").is_err());
        assert!(wire::check_versions(bytes).is_err());
        assert_eq!(wire::read_produced(bytes, "t", 1), Err(wire::Answered::Nonsense));
        assert!(wire::read_sasl_authenticate(bytes).is_err());
    }
    // No partition has answered: nothing is known to be taken.
    assert_eq!(wire::read_produced(&[0, 0, 0, 0], "t", 1), Err(wire::Answered::Nonsense));
}
