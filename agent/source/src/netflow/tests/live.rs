//! A collector on a real socket, on the loopback address.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use weir_core::home::Home;

use super::build::*;
use crate::netflow::{Limits, ListenOptions, Listener};

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
