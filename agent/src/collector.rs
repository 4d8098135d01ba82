//! The collector of NetFlow and IPFIX in a running agent: a socket, the thread that reads it, and what came between two
//! epochs.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::mpsc::Receiver;

use nix::sys::socket::{setsockopt, sockopt};
use weir_core::home::Home;
use weir_source::Observation;
use weir_source::netflow::{Limits, ListenOptions, Listener};

use crate::command::{NamedCount, NetflowReport};
use crate::config::NetFlow;

/// Room for datagrams that wait for the thread, bytes: exporters send in bursts.
const SOCKET_BUFFER: usize = 8 << 20;

pub struct Collector {
    listener: Listener,
    from_thread: Receiver<Vec<Observation>>,
    /// What came since the last epoch; at most `room`.
    waiting: Vec<Observation>,
    room: usize,
    /// Flows beyond the room.
    beyond: u64,
    /// As `/proc/net/udp` names the socket.
    inode: Option<String>,
}

impl Collector {
    /// Listens as `config` says. `room`: flows of one epoch.
    ///
    /// # Errors
    /// The address cannot be bound, or no thread be started.
    pub fn start(config: &NetFlow, home: Home, room: usize) -> io::Result<Self> {
        let socket = UdpSocket::bind(config.listen)?;
        // More than the system's limit takes CAP_NET_ADMIN; without it, as much as may be.
        if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
            let _ = setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER);
        }
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd()));
        let inode = link.ok().and_then(|l| Some(l.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()));
        let options = ListenOptions {
            listen: config.listen,
            exporters: config.exporters.clone(),
            home,
            limits: Limits::default(),
        };
        let (listener, from_thread) = Listener::on(socket, options)?;
        Ok(Self { listener, from_thread, waiting: Vec::new(), room, beyond: 0, inode })
    }

    /// Takes what the thread has, so that it need not wait for the epoch's end.
    pub fn collect(&mut self) {
        for batch in self.from_thread.try_iter() {
            let room = self.room.saturating_sub(self.waiting.len());
            self.beyond += batch.len().saturating_sub(room) as u64;
            self.waiting.extend(batch.into_iter().take(room));
        }
    }

    /// The flows that came since this was called last.
    pub fn take(&mut self) -> Vec<Observation> {
        self.collect();
        std::mem::take(&mut self.waiting)
    }

    /// Takes other exporters and another home into account from now on.
    pub fn configure(&self, config: &NetFlow, home: Home) {
        self.listener.configure(config.exporters.clone(), home);
    }

    /// Flows beyond the room of an epoch, so far.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Ends it. What waited for its other direction comes out too.
    pub fn stop(mut self) -> Vec<Observation> {
        self.collect();
        let Self { listener, from_thread, mut waiting, .. } = self;
        listener.stop();
        waiting.extend(from_thread.try_iter().flatten());
        waiting
    }

    /// What an operator should know about the exporters, each with the subject of the warning.
    pub fn warnings(&self) -> Vec<(&'static str, String)> {
        let tally = self.listener.tally();
        let mut all = Vec::new();
        if tally.clocks.moved > 0 {
            all.push((
                "netflow clock",
                "an exporter's clock is off by more than 5 minutes: its flows are moved to the time they came at"
                    .into(),
            ));
        }
        if tally.clocks.absurd > 0 {
            all.push(("netflow times", "an exporter tells times that cannot be: they are given up".into()));
        }
        if tally.sampler_unknown > 0 {
            let words = "an exporter samples and does not say how: its packets and bytes are counted as they are";
            all.push(("netflow sampler", words.into()));
        }
        if tally.sampling > 1 {
            let n = tally.sampling;
            all.push((
                "netflow sampling",
                format!("an exporter looks at one in {n} packets: its flows are estimates, and short ones are missing"),
            ));
        }
        all
    }

    /// `unscored`: flows that told too little to be scored.
    pub fn report(&self, config: &NetFlow, unscored: u64) -> NetflowReport {
        let tally = self.listener.tally();
        let count = |(name, count): (&str, u64)| NamedCount { name: name.to_owned(), count };
        let more = [
            ("flow beyond the room of an epoch (capacity.flows)", self.beyond),
            ("datagram that the socket had no room for", self.socket_drops()),
        ];
        NetflowReport {
            listen: self.listener.local_addr().to_string(),
            allowed: config.exporters.iter().map(ToString::to_string).collect(),
            datagrams: tally.datagrams,
            records: tally.records,
            flows: tally.flows,
            unscored,
            exporters: tally.exporters as u64,
            templates: tally.templates as u64,
            unpaired: tally.unpaired as u64,
            waiting_bytes: tally.waiting_bytes as u64,
            memory: tally.memory as u64,
            dropped: tally.dropped.into_iter().chain(more.into_iter().filter(|(_, n)| *n > 0)).map(count).collect(),
        }
    }

    /// Datagrams that came faster than they were read, as the kernel counts them.
    fn socket_drops(&self) -> u64 {
        let Some(inode) = &self.inode else { return 0 };
        ["/proc/self/net/udp", "/proc/self/net/udp6"]
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .find_map(|text| drops_of(&text, inode))
            .unwrap_or(0)
    }
}

/// The column `drops` of the socket with this inode.
fn drops_of(text: &str, inode: &str) -> Option<u64> {
    text.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        (fields.get(9) == Some(&inode)).then(|| fields.last()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn config() -> NetFlow {
        NetFlow { enabled: true, listen: "127.0.0.1:0".parse().unwrap(), exporters: Vec::new() }
    }

    #[test]
    fn datagrams_that_the_socket_had_no_room_for_are_counted() {
        let text = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            0: 0100007F:0807 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 12\n\
            1: 0100007F:0808 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0\n";
        assert_eq!((drops_of(text, "4711"), drops_of(text, "4712"), drops_of(text, "12")), (Some(12), Some(0), None));
        // And the socket of a collector is found there.
        let collector = Collector::start(&config(), Home::default(), 8).unwrap();
        let table = std::fs::read_to_string("/proc/self/net/udp").unwrap();
        assert_eq!(drops_of(&table, collector.inode.as_deref().unwrap()), Some(0), "{table}");
    }

    /// A v5 datagram of one flow between 10.0.0.1 and 192.0.2.`n`.
    fn v5(n: u8) -> Vec<u8> {
        let mut d = vec![0, 5, 0, 1];
        d.extend([0; 20]);
        d.extend([[10, 0, 0, 1], [192, 0, 2, n]].concat());
        d.resize(24 + 16, 0);
        d.extend([1u32, 40, 0, 0].iter().flat_map(|v| v.to_be_bytes()));
        d.extend([0x9c, 0x40, 0, 53, 0, 0, 17]);
        d.resize(24 + 48, 0);
        d
    }

    #[test]
    fn flows_beyond_an_epochs_room_are_counted_and_the_next_epoch_has_room_again() {
        let mut collector = Collector::start(&config(), Home::default(), 2).unwrap();
        let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = collector.listener.local_addr();
        for n in 0..5 {
            exporter.send_to(&v5(n), to).unwrap();
        }
        let began = Instant::now();
        while collector.listener.datagrams() < 5 && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(collector.take().is_empty(), "they wait for their other directions");
        // Both sides of three of them.
        for n in 0..3 {
            let mut back = v5(n);
            let (there, rest) = back[24..].split_at_mut(4);
            there.swap_with_slice(&mut rest[..4]);
            back[24 + 32..24 + 36].copy_from_slice(&[0, 53, 0x9c, 0x40]);
            exporter.send_to(&back, to).unwrap();
        }
        while collector.beyond == 0 && began.elapsed() < Duration::from_secs(20) {
            collector.collect();
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(collector.beyond, 1);
        assert_eq!(collector.take().len(), 2);
        let dropped = collector.report(&config(), 0).dropped;
        assert!(dropped.iter().any(|d| d.count == 1 && d.name.contains("capacity.flows")), "{dropped:?}");
        // What still waits comes out at the end.
        assert_eq!(collector.stop().len(), 2);
    }
}
