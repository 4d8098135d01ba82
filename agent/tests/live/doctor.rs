//! `weir doctor` and `weir support dump` on hosts with something wrong.

use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::raw;
use crate::site::*;
use crate::support::*;

const PEER: &str = "10.77.0.66";

/// A report: the object, and the exit status.
struct Report(Value, Option<i32>);

impl Report {
    fn of(out: &Output) -> Self {
        let object = serde_json::from_slice(&out.stdout);
        Self(object.unwrap_or_else(|e| panic!("{e}: {}{}", text(&out.stdout), text(&out.stderr))), out.status.code())
    }

    fn all(&self, id: &str) -> Vec<&Value> {
        self.0["findings"].as_array().unwrap().iter().filter(|f| f["id"] == id).collect()
    }

    #[track_caller]
    fn one(&self, id: &str) -> &Value {
        let all = self.all(id);
        assert_eq!(all.len(), 1, "{id}: {:#}", self.0);
        all[0]
    }

    /// The one that names `words`.
    fn naming(&self, id: &str, words: &str) -> Option<&Value> {
        self.all(id).into_iter().find(|f| f["seen"].as_str().unwrap().contains(words))
    }
}

fn arguments(site: &Site, more: &str) -> Vec<String> {
    let mut all = vec!["doctor".to_owned(), "-o".into(), "json".into()];
    all.extend(["--config".into(), site.path("weir.yaml").display().to_string()]);
    all.extend(more.split_whitespace().map(str::to_owned));
    all
}

fn doctor(site: &Site, more: &str) -> Report {
    Report::of(&site.server.command(WEIR).args(arguments(site, more)).output().unwrap())
}

/// The same behind what a shell does first, in a mount namespace of its own.
fn doctor_behind(site: &Site, first: &str) -> Report {
    let mut command = site.server.command("unshare");
    command.args(["--mount", "sh", "-c", &format!("{first} && exec \"$0\" \"$@\""), WEIR]);
    Report::of(&command.args(arguments(site, "")).output().unwrap())
}

fn severity(f: &Value) -> (&str, &str) {
    (f["severity"].as_str().unwrap(), f["command"].as_str().unwrap_or_default())
}

#[test]
fn a_foreign_program_on_the_interface_is_named_with_what_takes_it_off() {
    if !ready("a_foreign_program_on_the_interface_is_named_with_what_takes_it_off") {
        return;
    }
    const XDP_PASS: u32 = 2;
    let site = Site::new(&[PEER]);
    let report = doctor(&site, "");
    assert_eq!(severity(report.one("programs.xdp")), ("ok", ""));
    // The namespace does not show the setting: it is tried.
    assert_eq!(severity(report.one("kernel.jit")), ("ok", ""));
    let stranger = raw::xdp_return("stranger", XDP_PASS).unwrap();
    let pinned = format!("/sys/fs/bpf/weir-doctor-{}", site.server.inode());
    raw::pin(stranger.as_raw_fd(), &pinned).unwrap();
    // Not `ip -n`, which mounts a sysfs without our pins.
    let attach = format!("link set dev {INTERFACE} xdpgeneric pinned {pinned}");
    let attached = site.server.command("ip").args(attach.split_whitespace()).output().unwrap();
    std::fs::remove_file(&pinned).unwrap();
    assert!(attached.status.success(), "{}", text(&attached.stderr));
    let report = doctor(&site, "");
    let found = report.one("programs.xdp");
    assert_eq!(severity(found), ("error", "ip link set dev weir0 xdpgeneric off"), "{found}");
    let seen = found["seen"].as_str().unwrap();
    assert!(seen.contains("`stranger`") && seen.ends_with("generic"), "{seen}");
    assert_eq!((report.1, &report.0["worst"]), (Some(4), &"error".into()));
    // The refusal of the agent leads here, and the command mends it.
    assert!(site.refused().1.contains("`weir doctor -i weir0`"));
    let mended = site.server.command("sh").args(["-c", found["command"].as_str().unwrap()]).status().unwrap();
    assert!(mended.success());
    assert_eq!(severity(doctor(&site, "").one("programs.xdp")), ("ok", ""));
    let tc = site.server.enter(|| {
        let index = weir_kernel::link::index_of(INTERFACE).unwrap();
        weir_kernel::strangers::filters(index).unwrap()
    });
    assert_eq!(tc, [], "nothing of ours is left behind");
}

#[test]
fn an_mtu_that_is_too_large_for_the_driver_is_named_and_one_that_is_not_is_fine() {
    if !ready("an_mtu_that_is_too_large_for_the_driver_is_named_and_one_that_is_not_is_fine") {
        return;
    }
    let site = Site::new(&[PEER]);
    let server = site.server.name();
    // A veth hands frames over in several buffers, a tap in one.
    ip_command(&format!("-n {server} link set dev {INTERFACE} mtu 9000"));
    if !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!(
            "SKIP an_mtu_that_is_too_large_for_the_driver_is_named_and_one_that_is_not_is_fine: no /dev/net/tun for a tap"
        );
        return;
    }
    ip_command(&format!("-n {server} tuntap add dev tap0 mode tap"));
    ip_command(&format!("-n {server} link set dev tap0 mtu 9000"));
    let report = doctor(&site, "-i weir0 -i tap0 -i nosuch0");
    let mtu = report.all("interface.mtu");
    assert_eq!(severity(mtu[0]).0, "ok", "{}", mtu[0]);
    assert_eq!(severity(mtu[1]), ("warning", "ip link set dev tap0 mtu 3498"), "{}", mtu[1]);
    assert_eq!(mtu[1]["interface"], "tap0");
    let missing = report.naming("interface.exists", "no `nosuch0`").unwrap();
    assert!(severity(missing).0 == "error" && missing["seen"].as_str().unwrap().contains("weir0, tap0"), "{missing}");
    // The command does what it says.
    let mended = site.server.command("sh").args(["-c", severity(mtu[1]).1]).status().unwrap();
    assert!(mended.success());
    assert_eq!(severity(doctor(&site, "-i tap0").one("interface.mtu")).0, "ok");
}

#[test]
fn a_missing_bpf_file_system_and_a_full_disk_are_errors() {
    if !ready("a_missing_bpf_file_system_and_a_full_disk_are_errors") {
        return;
    }
    let site = Site::new(&[PEER]);
    let here = doctor(&site, "");
    assert_eq!(severity(here.one("bpf.filesystem")), ("ok", ""));
    assert_eq!(severity(here.one("kernel.programs")).0, "ok", "{}", here.one("kernel.programs"));
    let cost = here.one("clock.cost");
    assert!(cost["seen"].as_str().unwrap().ends_with("ns a call") && severity(cost).0 != "unknown", "{cost}");
    let without = doctor_behind(&site, "umount /sys/fs/bpf");
    assert_eq!(severity(without.one("bpf.filesystem")), ("error", "mount -t bpf bpf /sys/fs/bpf"));
    assert_eq!(without.1, Some(4));
    let mended = doctor_behind(&site, "umount /sys/fs/bpf && mount -t bpf bpf /sys/fs/bpf");
    assert_eq!(severity(mended.one("bpf.filesystem")).0, "ok");

    let state = site.path("state");
    std::fs::create_dir_all(&state).unwrap();
    let full = doctor_behind(&site, &format!("mount -t tmpfs -o size=1m tmpfs {}", state.display()));
    let found = full.naming("disk.space", "(state_dir)").unwrap();
    assert_eq!(severity(found).0, "error", "{found}");
    let closed = doctor_behind(&site, &format!("mount -t tmpfs -o ro tmpfs {}", state.display()));
    let found = closed.naming("disk.space", "read-only").unwrap();
    assert!(severity(found).1.starts_with("mount -o remount,rw"), "{found}");
}

#[test]
fn pins_of_an_interface_that_is_gone_are_found_and_the_command_removes_them() {
    if !ready("pins_of_an_interface_that_is_gone_are_found_and_the_command_removes_them") {
        return;
    }
    let site = Site::new(&[PEER]);
    let dir = site.pins().display().to_string();
    let agent = site.start();
    assert_eq!(doctor(&site, "").naming("pins.stale", &dir), None, "in use");
    agent.stop();
    let left = doctor(&site, "");
    let found = left.naming("pins.stale", &dir).unwrap();
    assert!(severity(found).0 == "note" && severity(found).1.contains("weir unload -i weir0"), "{found}");
    ip_command(&format!("-n {} link del {INTERFACE}", site.server.name()));
    let gone = doctor(&site, "");
    let found = gone.naming("pins.stale", &dir).unwrap();
    assert_eq!(severity(found), ("warning", &*format!("rm -r {dir}")), "{found}");
    assert!(Command::new("sh").args(["-c", severity(found).1]).status().unwrap().success());
    assert_eq!(doctor(&site, "").naming("pins.stale", &dir), None);
}

#[test]
fn a_flow_map_that_is_nearly_full_is_warned_about_with_a_larger_capacity() {
    if !ready("a_flow_map_that_is_nearly_full_is_warned_about_with_a_larger_capacity") {
        return;
    }
    const CAPACITY: u16 = 1024;
    let site = Site::new(&[PEER]);
    let config = std::fs::read_to_string(site.path("weir.yaml")).unwrap();
    let small = config.replace("flows: 8192", &format!("flows: {CAPACITY}")).replace("epoch: 200ms", "epoch: 1s");
    std::fs::write(site.path("weir.yaml"), small).unwrap();
    let agent = site.start();
    let quiet = doctor(&site, "");
    assert_eq!(severity(quiet.one("agent.running")).0, "ok");
    assert_eq!(severity(quiet.one("capacity.flows")).0, "ok", "{}", quiet.one("capacity.flows"));
    assert_eq!(severity(quiet.one("xdp.mode")).0, "ok", "{}", quiet.one("xdp.mode"));
    // The peer sends to nine tenths as many ports as there is room for, twice an epoch, for a bounded time.
    let socket = site.peer.udp(SocketAddr::new(PEER.parse().unwrap(), 0));
    let stop = AtomicBool::new(false);
    let found = std::thread::scope(|s| {
        s.spawn(|| {
            let end = Instant::now() + PATIENCE;
            while !stop.load(Ordering::Relaxed) && Instant::now() < end {
                for n in 0..CAPACITY * 9 / 10 {
                    // Refusals that come back for ports that nobody has are no matter.
                    let _ = socket.send_to(b"x", SocketAddr::new(SERVER_V4.parse().unwrap(), 20_000 + n));
                }
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for("a map that is nearly full", PATIENCE, || {
                let report = doctor(&site, "");
                let found = report.one("capacity.flows").clone();
                (severity(&found).0 == "warning").then_some(found)
            })
        }));
        stop.store(true, Ordering::Relaxed);
        found.unwrap_or_else(|p| std::panic::resume_unwind(p))
    });
    assert!(found["seen"].as_str().unwrap().contains("of 1,024 in the last epoch"), "{found}");
    assert!(severity(&found).1.contains("capacity: {flows: "), "{found}");
    agent.stop();
}

/// Every part of an archive, by its name.
fn parts(path: &std::path::Path) -> std::collections::BTreeMap<String, String> {
    let file = std::fs::File::open(path).unwrap();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let read = |e: std::io::Result<tar::Entry<'_, _>>| {
        let mut e = e.unwrap();
        let name = e.path().unwrap().display().to_string();
        let mut body = String::new();
        Read::read_to_string(&mut e, &mut body).unwrap();
        (name.strip_prefix("weir-support/").unwrap().to_owned(), body)
    };
    tar.entries().unwrap().map(read).collect()
}

#[test]
fn a_support_archive_of_a_running_agent_is_whole_and_masked_it_names_nobody() {
    if !ready("a_support_archive_of_a_running_agent_is_whole_and_masked_it_names_nobody") {
        return;
    }
    let site = Site::new(&[PEER]);
    site.configure(
        "enforce",
        "allow: [{target: 10.77.0.67, comment: from 10.77.0.68}]\nmetrics: {listen: '127.0.0.1:9470'}\n",
    );
    let agent = site.start();
    site.ok(&format!("decisions add {PEER} --for 1h"));
    site.ok("decisions add 2001:db8:77::66 --for 1h");
    wait_for("events", PATIENCE, || {
        std::fs::read_to_string(site.path("events.json")).ok().filter(|e| e.contains("2001:db8:77::66"))
    });
    let dump = |name: &str, more: &str| {
        let file = site.path(name);
        let config = site.path("weir.yaml");
        let command = format!("support dump --config {} --out {} {more}", config.display(), file.display());
        let said = site.ok(&command);
        assert!(said.contains("secrets are removed"), "{said}");
        // What is there stays.
        assert!(site.fails(&command).contains("name another file with --out"));
        parts(&file)
    };
    let plain = dump("plain.tar.gz", "");
    for name in [
        "version.json",
        "doctor.json",
        "config.yaml",
        "agent/status.json",
        "agent/config.yaml",
        "agent/sinks.json",
        "metrics.txt",
        "logs/events.jsonl",
        "store.json",
        "kernel/maps.json",
        "kernel/interfaces.json",
    ] {
        assert!(plain.contains_key(name), "{name} is not in {:?}: {}", plain.keys(), plain["MANIFEST.json"]);
    }
    assert!(plain["logs/events.jsonl"].contains(PEER) && plain["config.yaml"].contains("10.77.0.67"));
    assert!(plain["metrics.txt"].contains("weir_packets_total"));
    let store: Value = serde_json::from_str(&plain["store.json"]).unwrap();
    assert!(store["rows"].as_object().unwrap().len() > 3 && store["schema"] == store["known_schema"], "{store}");
    let maps: Value = serde_json::from_str(&plain["kernel/maps.json"]).unwrap();
    let pinned = &maps[site.pins().display().to_string()];
    assert!(
        pinned["counters"]["in_pass"]["packets"].is_u64() && pinned["maps"]["COUNTERS"]["max_entries"].is_u64(),
        "{maps}"
    );
    let manifest: Value = serde_json::from_str(&plain["MANIFEST.json"]).unwrap();
    assert_eq!(manifest["parts"].as_array().unwrap().len(), plain.len() - 1);

    let masked = dump("masked.tar.gz", "--mask");
    assert_eq!(plain.keys().collect::<Vec<_>>(), masked.keys().collect::<Vec<_>>());
    let all: String = masked.values().map(String::as_str).collect();
    for told in ["10.77.0.", "2001:db8", "db8:77"] {
        assert!(!all.contains(told), "{told}: {:?}", masked.iter().find(|(_, t)| t.contains(told)));
    }
    // The same address has one name in the configuration, and in a comment in free text; events and their lines agree.
    let pseudonyms = |t: &str| {
        t.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .filter(|w| w.starts_with("ipv4-"))
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(pseudonyms(&masked["config.yaml"]).len(), 2, "{}", masked["config.yaml"]);
    assert_eq!(pseudonyms(&masked["config.yaml"]), pseudonyms(&masked["agent/config.yaml"]));
    for (name, body) in masked.iter().filter(|(n, _)| n.ends_with(".json")) {
        serde_json::from_str::<Value>(body).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    agent.stop();
}
