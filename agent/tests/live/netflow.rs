//! The collector in a running agent: exporters over real UDP, alone and beside an interface.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::site::*;
use crate::support::*;

const COLLECTOR: &str = "127.0.0.1:2055";
/// What the agent learns: web traffic, told by an exporter, and enough of it for p-values that lead to something.
const LEARN: &str = "  flows: true\nlearn:\n  duration: 12s\n  min_flows: 5000\n  min_windows: 2500\n";
const CLIENTS: u8 = 240;
const SYN: u8 = 0x02;
const RST: u8 = 0x14;
const WHOLE: u8 = 0x1b;

/// One direction of a flow as NetFlow v5 has it.
#[derive(Clone, Copy)]
struct Way {
    from: ([u8; 4], u16),
    to: ([u8; 4], u16),
    flags: u8,
    packets: u32,
    bytes: u32,
    /// How long ago, ms.
    began: u32,
    ended: u32,
}

/// A v5 datagram of a router that exports right now.
fn v5(ways: &[Way], sequence: u32) -> Vec<u8> {
    const UPTIME: u32 = 1_000_000_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut d = vec![0, 5, 0, ways.len() as u8];
    for word in [UPTIME, now.as_secs() as u32, now.subsec_nanos(), sequence, 0] {
        d.extend(word.to_be_bytes());
    }
    for w in ways {
        d.extend([w.from.0, w.to.0].concat());
        d.extend([0; 8]);
        d.extend([w.packets, w.bytes, UPTIME - w.began, UPTIME - w.ended].iter().flat_map(|v| v.to_be_bytes()));
        d.extend([w.from.1.to_be_bytes(), w.to.1.to_be_bytes()].concat());
        d.extend([0, w.flags, 6, 0]);
        d.extend([0; 8]);
    }
    d
}

/// An exporter in the agent's own namespace.
struct Exporter {
    socket: UdpSocket,
    sequence: u32,
}

impl Exporter {
    fn new(site: &Site, from: &str) -> Self {
        let socket = site.server.udp(SocketAddr::new(from.parse().unwrap(), 0));
        socket.connect(COLLECTOR).unwrap();
        Self { socket, sequence: 0 }
    }

    /// Connections, each with its answer.
    fn tell(&mut self, ways: &[Way]) {
        for some in ways.chunks(30) {
            self.socket.send(&v5(some, self.sequence)).unwrap();
            self.sequence += some.len() as u32;
        }
    }
}

fn answered(from: [u8; 4], port: u16, to: ([u8; 4], u16), n: u32) -> [Way; 2] {
    let ask = Way {
        from: (from, port),
        to,
        flags: WHOLE,
        packets: 5 + n % 3,
        bytes: 400 + n * 37 % 500,
        began: 3000 + n % 700,
        ended: 2000 + n % 300,
    };
    let answer = Way {
        from: ask.to,
        to: ask.from,
        packets: 4 + n % 5,
        bytes: 900 + n * 113 % 9000,
        began: ask.began - 1,
        ended: ask.ended,
        ..ask
    };
    [ask, answer]
}

fn refused(from: [u8; 4], port: u16, to: ([u8; 4], u16)) -> [Way; 2] {
    let ask = Way { from: (from, port), to, flags: SYN, packets: 1, bytes: 40, began: 1000, ended: 1000 };
    [ask, Way { from: to, to: (from, port), flags: RST, began: 999, ended: 999, ..ask }]
}

const WEB: ([u8; 4], u16) = ([10, 77, 0, 1], 443);

/// Web traffic of many clients, told until there is a model, which is promoted then.
fn learn(site: &Site, exporter: &mut Exporter) {
    let began = Instant::now();
    for n in 0u32.. {
        let web: Vec<Way> = (0..CLIENTS)
            .filter(|c| (u32::from(*c) * 7 + n) % 5 == 0)
            .flat_map(|c| answered([198, 51, 100, c], (20_000 + n) as u16, WEB, n * 31 + u32::from(c)))
            .collect();
        exporter.tell(&web);
        std::thread::sleep(Duration::from_millis(100));
        if n % 20 == 0 && !site.status()["bundle"].is_null() {
            break;
        }
        assert!(began.elapsed() < 4 * PATIENCE, "no model: {}\n{}", site.ok("status"), site.log());
    }
    site.ok("model promote");
}

fn events(site: &Site) -> Vec<Value> {
    let log = std::fs::read_to_string(site.path("events.json")).unwrap_or_default();
    // The last line may still be on its way.
    log.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
}

fn alert(site: &Site, source: &str) -> Option<Value> {
    events(site).into_iter().find(|e| e["event_type"] == "alert" && e["src_ip"] == source)
}

/// A scan and what looks like password guessing with whole connections, until there is an alert about it.
fn attack(site: &Site, exporter: &mut Exporter, from: [u8; 4], source: &str) -> Value {
    let mut n = 0u16;
    wait_for("an alert", 2 * PATIENCE, || {
        let scan = (0..40).flat_map(|i| refused(from, 30_000 + i, ([10, 77, 0, 1], 1 + (n * 40 + i) % 20_000)));
        let guesses = (0..20).flat_map(|i| answered(from, 40_000 + n % 500 * 20 + i, ([10, 77, 0, 1], 22), 7));
        let all: Vec<Way> = scan.chain(guesses).collect();
        exporter.tell(&all);
        n += 1;
        std::thread::sleep(Duration::from_millis(200));
        alert(site, source)
    })
}

fn no_drop_anywhere(site: &Site) {
    for d in site.json("decisions list") {
        assert_ne!(d["action"], "drop", "{d}");
    }
    for e in events(site) {
        assert_ne!(e["decision"]["action"], "drop", "{e}");
        assert_ne!(e["flow"]["proven"], true, "{e}");
    }
}

fn configure_alone(site: &Site, netflow: &str, more: &str) {
    site.configure("enforce", more);
    let config = std::fs::read_to_string(site.path("weir.yaml")).unwrap();
    let alone = config.replace(&format!("interface: {INTERFACE}\n"), &format!("netflow: {netflow}\n"));
    std::fs::write(site.path("weir.yaml"), alone).unwrap();
}

#[test]
fn a_scan_that_an_exporter_tells_of_raises_an_alert_and_stops_nobody() {
    if !ready("a_scan_that_an_exporter_tells_of_raises_an_alert_and_stops_nobody") {
        return;
    }
    let site = Site::new(&["10.77.0.66"]);
    configure_alone(&site, "{}", LEARN);
    let agent = site.start();
    assert!(site.xdp().is_none(), "no program is loaded");
    let mut exporter = Exporter::new(&site, "127.0.0.1");
    learn(&site, &mut exporter);
    let status = site.status();
    assert_eq!((&status["mode_configured"], &status["mode_effective"]), (&"enforce".into(), &"observe".into()));
    assert_eq!(status["mode_reason"], "no interface: what is found leads to alerts alone");
    let origin = site.json("model status").remove(0)["origin"].as_str().unwrap().to_owned();
    assert!(origin.ends_with("told by exporters"), "{origin}");

    let alert = attack(&site, &mut exporter, [203, 0, 113, 66], "203.0.113.66");
    let outcome = alert["alert"]["outcome"].as_str().unwrap();
    assert_eq!(outcome, "no interface, so nothing can be stopped here: alert only", "{alert}");
    assert_eq!(alert["alert"]["evidence_proven"], 0.0, "{alert}");
    for _ in 0..10 {
        attack(&site, &mut exporter, [203, 0, 113, 66], "203.0.113.66");
    }
    no_drop_anywhere(&site);
    assert!(site.json("decisions list").is_empty());
    let told: Vec<Value> = events(&site).into_iter().filter(|e| e["src_ip"] == "198.51.100.7").collect();
    let flow = told.iter().find(|e| e["event_type"] == "flow").expect("flows are events");
    assert_eq!((&flow["in_iface"], &flow["dest_port"]), (&"127.0.0.1".into(), &443.into()), "{flow}");
    assert!(flow["flow_id"].as_u64().unwrap() >= 1 << 63, "{flow}");

    // It can be looked up, with the flows behind it.
    let id = alert["alert"]["id"].as_u64().unwrap();
    let listed = site.json("alerts list -n 0");
    let of = |a: &&Value| a["alert"]["id"] == id && a["src_ip"] == "203.0.113.66";
    assert!(listed.iter().any(|a| of(&a) && a["reasons"][0]["words"].is_string()), "{listed:?}");
    assert!(site.json("alerts list 10.77.0.0/24").is_empty());
    let shown = site.ok(&format!("alerts show {id}"));
    for part in
        ["203.0.113.66", "what was strange", "1. ", "flows behind it, the last 10 of", "10.77.0.1:", "alert only"]
    {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
    assert!(site.fails("alerts show 999999").contains("there is no alert 999999"));
    assert!(site.ok("alerts list -o csv").starts_with("alert_threshold,"));

    let words = site.fails("decisions add 203.0.113.66");
    assert!(words.contains("has no interface"), "{words}");
    let status = site.ok("status");
    assert!(status.contains("without an interface") && status.contains("not attached"), "{status}");
    assert!(status.contains(&format!("{COLLECTOR} from anybody")), "{status}");
    let records = u64::from(exporter.sequence);
    let netflow =
        wait_for("the tally", PATIENCE, || Some(site.status()["netflow"].take()).filter(|n| n["records"] == records));
    assert_eq!((&netflow["records"], &netflow["flows"]), (&records.into(), &(records / 2).into()), "{netflow}");
    assert_eq!((&netflow["exporters"], &netflow["dropped"]), (&1.into(), &Value::Array(Vec::new())), "{netflow}");
    agent.kill();
    let agent = site.start();
    assert!(site.json("alerts list -n 0").iter().any(|a| a["alert"]["id"] == id), "alerts outlive a kill");
    agent.stop();
    assert!(site.xdp().is_none());
}

#[test]
fn beside_an_interface_what_exporters_tell_leads_to_no_drop_even_when_enforcing() {
    if !ready("beside_an_interface_what_exporters_tell_leads_to_no_drop_even_when_enforcing") {
        return;
    }
    let bad = "10.77.0.66";
    let site = Site::new(&[bad]);
    // The neighbour is remote then: somebody who could be stopped.
    site.configure("enforce", &format!("{LEARN}home: [{SERVER_V4}]\nnetflow: {{listen: {COLLECTOR}}}\n"));
    let agent = site.start();
    assert!(agent.own_log().contains("are counted twice"), "{}", agent.own_log());
    let mut exporter = Exporter::new(&site, "127.0.0.1");
    learn(&site, &mut exporter);
    assert_eq!(site.status()["mode_effective"], "enforce");

    let alert = attack(&site, &mut exporter, [10, 77, 0, 66], bad);
    assert_eq!(alert["alert"]["evidence_proven"], 0.0, "{alert}");
    let outcome = alert["alert"]["outcome"].as_str().unwrap();
    assert!(outcome.contains("unproven traffic may be forged in anyone's name and is not dropped"), "{alert}");
    for _ in 0..10 {
        attack(&site, &mut exporter, [10, 77, 0, 66], bad);
    }
    no_drop_anywhere(&site);
    assert!(site.passes(bad, 22), "nobody can have another one blocked by telling stories");
    // The control: it is not that nothing can be blocked here.
    site.ok(&format!("decisions add {bad}"));
    assert!(!site.passes(bad, 22));
    site.ok(&format!("decisions delete {bad}"));
    assert!(site.passes(bad, 22));
    agent.stop();
}

#[test]
fn strangers_and_floods_are_counted_and_harm_nobody() {
    if !ready("strangers_and_floods_are_counted_and_harm_nobody") {
        return;
    }
    let site = Site::new(&[]);
    ip_command(&format!("-n {} addr add 192.0.2.9/32 dev lo", site.server.name()));
    configure_alone(&site, "{listen: 2055, exporters: [127.0.0.0/8]}", "  flows: true\n");
    let agent = site.start();
    // An exporter is recognised by its source address.
    let mut stranger = Exporter::new(&site, "192.0.2.9");
    stranger.tell(&answered([203, 0, 113, 1], 1, WEB, 1));

    // v9 templates without end, of ever new numbers and domains; a v5 clock of 1970, and one of 2106.
    let flooder = Exporter::new(&site, "127.0.0.2");
    for n in 0..6000u32 {
        let mut d = [[0, 9, 0, 1].as_slice(), &[0; 4], &1_900_000_000u32.to_be_bytes(), &n.to_be_bytes()].concat();
        d.extend((n / 1000).to_be_bytes());
        d.extend([[0, 0, 0, 12].as_slice(), &(256 + n as u16).to_be_bytes(), &[0, 1, 0, 8, 0, 4]].concat());
        flooder.socket.send(&d).unwrap();
        if n % 100 == 0 {
            // No faster than one thread reads: what the socket drops is counted, but not what this test is about.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    for (n, seconds) in [0u32, u32::MAX].into_iter().enumerate() {
        let mut d = v5(&answered([198, 51, 100, 1 + n as u8], 5, WEB, 2), 2 * n as u32);
        d[8..12].copy_from_slice(&seconds.to_be_bytes());
        flooder.socket.send(&d).unwrap();
    }
    let mut exporter = Exporter::new(&site, "127.0.0.1");
    exporter.tell(&answered([198, 51, 100, 7], 5, WEB, 3));
    let flows = wait_for("flows of three", PATIENCE, || {
        let all: BTreeMap<String, Value> = events(&site)
            .into_iter()
            .filter(|e| e["event_type"] == "flow")
            .map(|e| (e["src_ip"].as_str().unwrap().to_owned(), e))
            .collect();
        (all.len() == 3).then_some(all)
    });
    assert_eq!(flows.keys().collect::<Vec<_>>(), ["198.51.100.1", "198.51.100.2", "198.51.100.7"]);
    let today = flows["198.51.100.7"]["timestamp"].as_str().unwrap().split('T').next().unwrap();
    for f in flows.values() {
        assert!(f["timestamp"].as_str().unwrap().starts_with(today), "{f}");
        assert!(f["flow"]["duration_us"].as_u64().unwrap() < 2_000_000, "{f}");
    }
    let status = wait_for("the tally", PATIENCE, || Some(site.status()).filter(|s| s["netflow"]["datagrams"] == 6003));
    let netflow = &status["netflow"];
    let dropped = |name: &str| {
        let all = netflow["dropped"].as_array().unwrap();
        all.iter().find(|d| d["name"].as_str().unwrap().contains(name)).map_or(0, |d| d["count"].as_u64().unwrap())
    };
    assert_eq!(dropped("sender that is not allowed"), 1, "{netflow}");
    assert_eq!(
        (netflow["templates"].as_u64(), dropped("template of too many")),
        (Some(2048), 6000 - 2048),
        "{netflow}"
    );
    assert!(netflow["memory"].as_u64().unwrap() < 32 << 20, "{netflow}");
    let text = site.ok("status");
    assert!(text.contains("1 datagram of a sender that is not allowed"), "{text}");
    agent.stop();
}

/// A folder of public captures, where there is one.
fn corpus() -> PathBuf {
    std::env::var_os("WEIR_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from)
}

/// What is told of flows, but for when: the collector's clock is not that of the file.
fn told<'a>(events: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let mut all: Vec<String> = events
        .into_iter()
        .filter(|e| e["event_type"] == "flow")
        .map(|e| {
            let mut flow = e["flow"].clone();
            for when in ["start", "end"] {
                flow.as_object_mut().unwrap().remove(when);
            }
            format!("{} {} {} {} {} {flow}", e["src_ip"], e["src_port"], e["dest_ip"], e["dest_port"], e["proto"])
        })
        .collect();
    all.sort();
    all
}

#[test]
fn the_same_exports_over_the_wire_and_from_a_file_are_the_same_flows() {
    let test = "the_same_exports_over_the_wire_and_from_a_file_are_the_same_flows";
    if !ready(test) {
        return;
    }
    for name in
        ["ssh-bruteforce.v5.dgrams", "ssh-bruteforce.v9.dgrams", "ssh-bruteforce.v10.dgrams", "synscan.v9.dgrams"]
    {
        let path = corpus().join("netflow/from-attacks").join(name);
        let Ok(bytes) = std::fs::read(&path) else {
            eprintln!("SKIP {test}: no {} (WEIR_CORPUS names the folder of captures)", path.display());
            continue;
        };
        let file = site_less(&["flows", path.to_str().unwrap(), "-o", "json"]);
        let file: Vec<Value> = file.lines().map(|l| serde_json::from_str(l).unwrap()).collect();

        let site = Site::new(&[]);
        configure_alone(&site, "{}", "  flows: true\n");
        let agent = site.start();
        let exporter = Exporter::new(&site, "127.0.0.1");
        let (mut rest, mut sent) = (bytes.as_slice(), 0);
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            let (datagram, more) = more.split_at(u32::from_be_bytes(*length) as usize);
            exporter.socket.send(datagram).unwrap();
            (rest, sent) = (more, sent + 1);
            if sent % 16 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        wait_for("every datagram", PATIENCE, || (site.status()["netflow"]["datagrams"] == sent).then_some(()));
        // What waits for its other direction comes out at the end.
        agent.stop();
        let (live, file) = (told(&events(&site)), told(&file));
        assert_eq!(live.len(), file.len(), "{name}");
        assert_eq!(live, file, "{name}");
        eprintln!("{name}: {sent} datagrams, {} flows equal", live.len());
        assert!(live.len() >= 67, "{name}");
    }
}

fn site_less(args: &[&str]) -> String {
    let out = std::process::Command::new(WEIR).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout)
}
