//! Metrics of a running agent: what was sent is what is counted, whoever scrapes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::site::*;
use crate::support::*;

const BAD: &str = "10.77.0.66";
const GOOD: &str = "10.77.0.67";
const PORT: u16 = 7200;
const METRICS: &str = "127.0.0.1:9470";

/// Samples of a scrape from inside, by what stands in front of the value.
fn scrape(site: &Site) -> Option<BTreeMap<String, f64>> {
    let page = site.server.enter(|| -> std::io::Result<String> {
        let mut stream = TcpStream::connect(METRICS)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: weir\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    });
    let page = page.ok()?;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    let samples = body.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    let samples = samples.map(|l| l.rsplit_once(' ').unwrap());
    Some(samples.map(|(name, v)| (name.to_owned(), v.parse().unwrap_or_else(|e| panic!("{name} {v}: {e}")))).collect())
}

/// The same, later than the values that an earlier scrape may have left.
fn fresh(site: &Site) -> Option<BTreeMap<String, f64>> {
    std::thread::sleep(Duration::from_millis(250));
    scrape(site)
}

fn packets(samples: &BTreeMap<String, f64>, what: &str, verdict: &str, reason: &str) -> f64 {
    samples[&format!("weir_{what}_total{{interface=\"{INTERFACE}\",verdict=\"{verdict}\",reason=\"{reason}\"}}")]
}

/// Datagrams of 4 bytes, one after the other: slowly enough for any ring.
fn send(site: &Site, from: &str, count: u32) {
    let sender = site.peer.udp(SocketAddr::new(from.parse().unwrap(), 0));
    for n in 0..count {
        sender.send_to(&n.to_be_bytes(), (SERVER_V4, PORT)).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn counters_are_what_was_sent_and_no_scraper_holds_up_the_agent() {
    if !ready("counters_are_what_was_sent_and_no_scraper_holds_up_the_agent") {
        return;
    }
    let site = Site::new(&[BAD, GOOD]);
    let agent = site.start();
    // Somebody listens, so that nothing is answered; and the addresses are resolved.
    let _receiver = site.server.udp(SocketAddr::new(SERVER_V4.parse().unwrap(), PORT));
    send(&site, BAD, 1);
    send(&site, GOOD, 1);
    site.ok(&format!("decisions add {BAD} --for 1h"));
    let settled = |last: &mut Option<BTreeMap<String, f64>>| {
        let now = fresh(&site)?;
        let total = |s: &BTreeMap<String, f64>| -> f64 {
            s.iter().filter(|(k, _)| k.starts_with("weir_packets_total")).map(|(_, v)| v).sum()
        };
        let before = last.replace(now.clone());
        before.filter(|b| total(b) == total(&now)).map(|_| now)
    };
    let mut last = None;
    let before = wait_for("silence", PATIENCE, || settled(&mut last));
    send(&site, BAD, 70);
    send(&site, GOOD, 50);
    let after = fresh(&site).unwrap();
    let more = |what, verdict, reason| packets(&after, what, verdict, reason) - packets(&before, what, verdict, reason);
    assert_eq!(more("packets", "drop", "in_dropped"), 70.0);
    // Of IP header, UDP header and 4 bytes.
    assert_eq!(more("bytes", "drop", "in_dropped"), 70.0 * 32.0);
    // Neighbour discovery of the hosts may come in between.
    let passed = more("packets", "pass", "in_pass");
    assert!((50.0..=54.0).contains(&passed), "{passed} of 50");
    assert_eq!(more("packets", "limit", "in_limited"), 0.0);

    // The same as the status says, and the kernel's entry.
    let status = site.status();
    let counter = status["counters"].as_array().unwrap().iter().find(|c| c["name"] == "in_dropped").unwrap();
    assert_eq!(counter["packets"].as_f64().unwrap(), packets(&after, "packets", "drop", "in_dropped"));
    assert_eq!(after["weir_entries{origin=\"manual\",action=\"drop\"}"], 1.0);
    assert_eq!(after["weir_kernel_entries{list=\"block\"}"], 1.0);
    assert_eq!(after["weir_decisions_total{change=\"added\",origin=\"manual\",action=\"drop\"}"], 1.0);
    assert!(after["weir_api_calls_total{call=\"AddDecision\",outcome=\"ok\"}"] >= 1.0);
    assert_eq!(after["weir_mode{kind=\"configured\",mode=\"enforce\"}"], 1.0);
    let modes =
        ["native", "generic"].map(|m| after[&format!("weir_xdp_mode{{interface=\"{INTERFACE}\",mode=\"{m}\"}}")]);
    assert_eq!(modes.iter().sum::<f64>(), 1.0, "{modes:?}");
    assert!(after["weir_lease_age_seconds"] < 5.0 && after["weir_drain_seconds_count"] >= 1.0);
    assert!(after["process_resident_memory_bytes"] > 1e6 && after["weir_epochs_total"] >= 1.0);
    assert_eq!(after["weir_series_left_out"], 0.0);
    let page: String = after.keys().map(String::as_str).collect();
    assert!(!page.contains("10.77.") && !page.contains("2001:db8"), "an address is on the page");
    assert!(!site.fails("decisions delete 10.77.0.99").is_empty());
    let refused = fresh(&site).unwrap()["weir_api_calls_total{call=\"DeleteDecision\",outcome=\"refused\"}"];
    assert_eq!(refused, 1.0);

    // Scrapers that never finish, and many that do: epochs go on, and commands are answered.
    let slow: Vec<TcpStream> = site.server.enter(|| {
        let connect = |_| {
            let mut stream = TcpStream::connect(METRICS).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
            stream
        };
        (0..12).map(connect).collect()
    });
    let epochs = site.status()["epochs"].as_u64().unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    let mut scrapes = 0;
    while Instant::now() < end {
        scrapes += u32::from(scrape(&site).is_some());
    }
    let gone_by = site.status()["epochs"].as_u64().unwrap() - epochs;
    assert!(scrapes >= 10 && gone_by >= 5, "{scrapes} scrapes, {gone_by} epochs of 200 ms in 2 s");
    for mut stream in slow {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let cut = stream.read_to_end(&mut Vec::new());
        assert!(cut.is_ok() || cut.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    }
    agent.stop();
}

#[test]
fn an_address_that_is_taken_costs_metrics_and_nothing_else() {
    if !ready("an_address_that_is_taken_costs_metrics_and_nothing_else") {
        return;
    }
    let site = Site::new(&[BAD, GOOD]);
    let taken = site.server.enter(|| std::net::TcpListener::bind(METRICS).unwrap());
    let agent = site.start();
    let warnings = site.status()["warnings"].to_string();
    assert!(warnings.contains("cannot listen on 127.0.0.1:9470") && warnings.contains("metrics.listen"), "{warnings}");
    site.ok(&format!("decisions add {BAD} --for 1h"));
    assert!(!site.passes(BAD, PORT) && site.passes(GOOD, PORT));
    agent.stop();
    drop(taken);
    site.configure("enforce", "metrics: {enabled: false}\n");
    let agent = site.start();
    assert!(scrape(&site).is_none(), "nobody listens");
    agent.stop();
}
