//! A collector on a real socket, on the loopback address.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use weir_core::home::Home;

use super::build::*;
use crate::netflow::{Clocks, Limits, ListenOptions, Listener, Tally};

const PATIENCE: Duration = Duration::from_secs(20);

fn options(exporters: &[&str]) -> ListenOptions {
    ListenOptions {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        exporters: exporters.iter().map(|p| p.parse().unwrap()).collect(),
        home: Home::default(),
        limits: Limits::default(),
    }
}

fn sender(listener: &Listener) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(listener.local_addr()).unwrap();
    socket
}

#[test]
fn flows_come_out_of_a_socket_and_what_waits_comes_out_at_the_end() {
    let (listener, flows) = Listener::start(options(&["127.0.0.0/8"])).unwrap();
    let exporter = sender(&listener);
    exporter.send(&ASK.v5(0, 0)).unwrap();
    exporter.send(&ASK.answer().v5(1, 0)).unwrap();
    let pair = flows.recv_timeout(PATIENCE).unwrap();
    assert_eq!((pair.len(), pair[0].record.bwd.packets), (1, 4));
    assert_eq!(pair[0].seen_at.as_deref(), Some("127.0.0.1"));
    // This one waits for its answer; the next ends before it comes.
    exporter.send(&Flow { from: (7, 7), ..ASK }.v5(5, 0)).unwrap();
    let began = std::time::Instant::now();
    while listener.datagrams() < 3 && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let report = listener.stop();
    assert_eq!(flows.recv_timeout(PATIENCE).unwrap()[0].record.client_port, 7);
    assert_eq!((report.read, report.flows), (3, 2));
    assert!(report.warnings[0].contains("3 flow records were lost"), "{:?}", report.warnings);
}

#[test]
fn only_exporters_that_are_allowed_are_heard() {
    let (listener, flows) = Listener::start(options(&["192.0.2.0/24"])).unwrap();
    sender(&listener).send(&ASK.v5(0, 0)).unwrap();
    let began = std::time::Instant::now();
    while listener.refused() < 1 && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let report = listener.stop();
    assert_eq!((report.read, report.left_out["datagram of a sender that is not allowed"]), (0, 1));
    assert!(flows.recv().is_err(), "no flow, and the thread has ended");
}

/// The tally once it says so.
fn tally(listener: &Listener, what: &str, says: impl Fn(&Tally) -> bool) -> Tally {
    let began = std::time::Instant::now();
    loop {
        let tally = listener.tally();
        if says(&tally) {
            return tally;
        }
        assert!(began.elapsed() < PATIENCE, "waited for {what}: {tally:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_came_and_what_was_dropped_is_told_while_it_listens() {
    let (listener, flows) = Listener::start(options(&["127.0.0.1"])).unwrap();
    let exporter = sender(&listener);
    exporter.send(b"hello").unwrap();
    exporter.send(&ASK.v5(0, 10)).unwrap();
    exporter.send(&ASK.answer().v5(3, 10)).unwrap();
    let t = tally(&listener, "three datagrams", |t| t.datagrams == 3);
    assert_eq!((t.records, t.flows, t.exporters, t.unpaired, t.sampling), (2, 1, 1, 0, 10));
    assert_eq!(t.dropped["neither NetFlow v5, v9 nor IPFIX"], 1);
    assert_eq!(t.dropped["record lost on the way, by the exporter's numbering"], 2);
    // The messages of these tests are of the year 2023.
    assert_eq!(t.clocks, Clocks { moved: 2, absurd: 0 });
    let now_us = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64;
    let flow = flows.recv_timeout(PATIENCE).unwrap().remove(0).record;
    assert!(flow.end_us <= now_us && flow.end_us + 60_000_000 > now_us, "{flow:?}");
    assert_eq!(flow.duration_us(), 1_000_000);

    listener.configure(vec!["192.0.2.0/24".parse().unwrap()], Home::default());
    let t = tally(&listener, "a refusal", |t| {
        exporter.send(&ASK.v5(9, 0)).unwrap();
        t.dropped.contains_key("datagram of a sender that is not allowed")
    });
    assert_eq!(t.datagrams, 3, "nobody else is heard any more");
}

#[test]
fn a_flood_of_templates_stays_within_bounds_and_shuts_nobody_out() {
    let limits = Limits { templates_per_exporter: 64, ..Limits::default() };
    let (listener, flows) = Listener::start(ListenOptions { limits, ..options(&[]) }).unwrap();
    let (flooder, honest) = (sender(&listener), sender(&listener));
    for n in 0..2000u16 {
        let set = set(0, &template(256 + n, &FLOW));
        flooder.send(&v9(u32::from(n), 7, &[set])).unwrap();
        if n % 32 == 0 {
            // The socket's buffer is short.
            let sent = u64::from(n) + 1;
            tally(&listener, "the flood to be read", |_| listener.datagrams() >= sent);
        }
    }
    honest.send(&v9(0, 1, &[set(0, &template(300, &FLOW)), set(300, &ASK.record())])).unwrap();
    honest.send(&v9(1, 1, &[set(300, &ASK.answer().record())])).unwrap();
    let t = tally(&listener, "all", |t| t.datagrams == 2002);
    assert_eq!((t.exporters, t.templates), (2, 65));
    assert_eq!(t.dropped["template of too many fields, without bytes, or too many of them"], 2000 - 64);
    assert!(t.memory < 4 << 20, "{t:?}");
    assert_eq!(flows.recv_timeout(PATIENCE).unwrap().len(), 1, "the other exporter is heard all the same");
}
