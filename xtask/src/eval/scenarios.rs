//! Sources: captures and logs of attacks and of normal use, judged as an agent would have, by models trained on benign traffic
//! of other captures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::sh::{sh, target_dir};

/// A part of the corpora.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Corpus {
    File(&'static str),
    /// Every capture in a folder, and below it, that is benign by its name.
    Captures(&'static str),
}

/// Benign by what its maker says of it. Of what is labelled, attacks teach nothing.
const BENIGN: [Corpus; 11] = [
    Corpus::File(NORMAL_008),
    Corpus::File(NORMAL_010),
    Corpus::File(IOT[0]),
    Corpus::File(IOT[1]),
    Corpus::File(IOT[2]),
    Corpus::Captures(NDPI),
    Corpus::Captures("pcap/zeek-btest"),
    Corpus::Captures("pcap/arkime"),
    Corpus::Captures("pcap/ipfixprobe"),
    Corpus::Captures("pcap/joy"),
    // Not its SSH: nobody says what 38 connections of one client in a row are.
    Corpus::File("pcap/try-zeek/manager/static/pcaps/http.pcap"),
];

const NORMAL_008: &str = "zeek/stratosphere/008-zeek-mixed/data/conn.log.labeled";
const NORMAL_010: &str = "zeek/stratosphere/010-zeek-mixed/data/conn.log.labeled";
const NDPI: &str = "pcap/ndpi/pcap";
const IOT: [&str; 3] = [
    "zeek/iot23-csv/CTU-Honeypot-Capture-4-1-labeled.csv",
    "zeek/iot23-csv/CTU-Honeypot-Capture-5-1-labeled.csv",
    "zeek/iot23-csv/CTU-Honeypot-Capture-7-1-labeled.csv",
];
const HYDRA: &str = "pcap/joy/test/pcaps/kali-password-attack_hydra.pcap";
const SSH: &str = "pcap/joy/test/pcaps/kali-normal-ssh.pcap";

/// Words in the names of captures that hold an attack, or were damaged on purpose: neither is normal use.
const NOT_BENIGN: [&str; 24] = [
    "scan",
    "attack",
    "exploit",
    "webattack",
    "injection",
    "xss",
    "dns-exf",
    "dns_exf",
    "tunnel-iodine",
    "dns2tcp",
    "icmp-tunnel",
    "bot.pcap",
    "dos_win98",
    "bad-dns",
    "badpackets",
    "fuzz",
    "crash",
    "segv",
    "overflow",
    "garbage",
    "malformed",
    "manipulated",
    "malicious",
    "invalid_reads",
];

/// What is asked of a scenario.
#[derive(Clone, Copy)]
struct Asked {
    /// Every malicious source is alerted about.
    all_alerted: bool,
    /// So many malicious flows at most until a source is.
    within_flows: Option<u64>,
    /// False blocks at most.
    false_blocks: u64,
}

struct Scenario {
    name: &'static str,
    judged: &'static [Corpus],
    /// Sources that are malicious by the scenario's description, where rows have no labels.
    malicious: &'static [&'static str],
    /// The networks that it was recorded in, where they are not private ones.
    home: Option<&'static str>,
    asked: Asked,
    note: &'static str,
}

const ATTACK: Asked = Asked { all_alerted: true, within_flows: None, false_blocks: 0 };
const FAST: Asked = Asked { within_flows: Some(50), ..ATTACK };
const QUIET: Asked = Asked { all_alerted: false, within_flows: None, false_blocks: 1 };

const SCENARIOS: [Scenario; 11] = [
    Scenario {
        name: "001 NjRAT",
        judged: &[Corpus::File("zeek/stratosphere/001-zeek-scenario-malicious/labeled-conn.log")],
        malicious: &[],
        home: None,
        asked: ATTACK,
        note: "labels",
    },
    Scenario {
        name: "002 nmap in three networks",
        judged: &[Corpus::File("zeek/stratosphere/002-zeek-scenario-port-scanning/conn.log")],
        malicious: &["172.16.1.11"],
        home: None,
        asked: FAST,
        note: "README: one client scans, 53 flows within one second behind seven in 40 minutes",
    },
    Scenario {
        name: "003 AndroidTester RAT",
        judged: &[Corpus::File("zeek/stratosphere/003-zeek-scenario-malicious/conn.log")],
        malicious: &["10.8.0.61"],
        home: None,
        asked: ATTACK,
        note: "README: the phone that connects to port 1337",
    },
    Scenario {
        name: "005 Simda botnet",
        judged: &[Corpus::File("zeek/stratosphere/005-zeek-scenario-malicious/conn.log")],
        malicious: &["192.168.1.116", "fd77:48a1:c0bb:0:b96c:506d:6c7f:e8be"],
        home: None,
        asked: ATTACK,
        note: "README: DGA connections of one infected host over both families; over IPv4 it is two windows at p = 0.007",
    },
    Scenario {
        name: "008 a day of normal use under attack",
        judged: &[Corpus::File(NORMAL_008)],
        malicious: &[],
        home: Some("147.32.0.0/16"),
        asked: ATTACK,
        note: "labels; most of these sources sent one or two SYNs in a day",
    },
    Scenario {
        name: "010 another day of it",
        judged: &[Corpus::File(NORMAL_010)],
        malicious: &[],
        home: Some("147.32.0.0/16"),
        asked: ATTACK,
        note: "labels; most of these sources sent one or two SYNs in a day",
    },
    Scenario {
        name: "hydra against SSH",
        judged: &[Corpus::File(HYDRA)],
        malicious: &["192.168.1.2"],
        home: None,
        asked: FAST,
        note: "seven guesses in 2.5 s, each a whole connection: to a model of windows that is a browser's burst",
    },
    Scenario {
        name: "normal SSH",
        judged: &[Corpus::File(SSH)],
        malicious: &[],
        home: None,
        asked: Asked { false_blocks: 0, ..QUIET },
        note: "no attack",
    },
    Scenario {
        name: "synscan",
        judged: &[Corpus::File("pcap/ndpi/pcap/synscan.pcap")],
        malicious: &["172.16.0.8"],
        home: None,
        asked: FAST,
        note: "1,994 ports in 5 s: 96 before the first epoch ends",
    },
    Scenario {
        name: "tcp_scan",
        judged: &[Corpus::File("pcap/ndpi/pcap/tcp_scan.pcapng")],
        malicious: &["192.168.1.178"],
        home: None,
        asked: FAST,
        note: "one host, seven flows",
    },
    Scenario {
        name: "IoT-23 honeypots",
        judged: &[Corpus::File(IOT[0]), Corpus::File(IOT[1]), Corpus::File(IOT[2])],
        malicious: &[],
        home: None,
        asked: QUIET,
        note: "labels: all benign",
    },
];

const BENIGN_CAPTURES: Scenario = Scenario {
    name: "benign captures of nDPI",
    judged: &[Corpus::Captures(NDPI)],
    malicious: &[],
    home: None,
    asked: QUIET,
    note: "by their names",
};

/// Prints the table; gives how many floors were missed, and how many scenarios were judged.
pub fn run(weir: &Path, corpus: &Path, only: Option<&str>, seed: u64) -> Result<(usize, usize)> {
    println!(
        "\nSources, as an agent in mode enforce would judge them (weir eval). Each scenario is judged by a model of benign traffic \
         of other captures\nand logs; flows until alerted count from a source's first malicious flow, and seconds to the end of the \
         epoch of 1 s at which it was decided.\nBehind the slash: flows before that epoch. An epoch's end is the first moment at which anything is \
         decided: where the flow that a floor names began in the\ndeciding epoch, the floor is met at that epoch's end, however many flows \
         began in it. Where a log has no\nsequence numbers nothing is proven, so nothing is blocked: the second line of a scenario is with \
         complete handshakes taken for proof\n(--trust-sources, in training too). In brackets: of the sources with ten \
         malicious flows or more.\n"
    );
    row(&[
        "scenario",
        "malicious",
        "alerted",
        "flows until",
        "s until",
        "benign",
        "false alerts",
        "false blocks",
        "floor",
    ]);
    let mut bundles: BTreeMap<Vec<PathBuf>, PathBuf> = BTreeMap::new();
    let mut said_of: Option<Vec<PathBuf>> = None;
    let (mut missed, mut count) = (0, 0);
    let mut blocks = 0.0;
    let wanted = |s: &&Scenario| only.is_none_or(|word| s.name.contains(word));
    for scenario in SCENARIOS.iter().chain([&BENIGN_CAPTURES]).filter(wanted) {
        let judged = files(corpus, scenario.judged)?;
        if let Some(absent) = judged.iter().find(|f| !f.exists()) {
            println!(
                "SKIP {}: {} is not there; WEIR_CORPUS names the folder of corpora",
                scenario.name,
                absent.display()
            );
            continue;
        }
        count += 1;
        // Never what is judged, and none of the captures that belong to a scenario.
        let kept: Vec<Corpus> = BENIGN.into_iter().filter(|c| !scenario.judged.contains(c)).collect();
        let mut taught = files(corpus, &kept)?;
        taught.retain(|f| f.exists() && !judged.contains(f) && *f != corpus.join(SSH));
        let mut ok = true;
        for trust in [false, true] {
            let mut key = taught.clone();
            key.push(if trust { "trust".into() } else { "plain".into() });
            let n = bundles.len();
            let bundle = match bundles.get(&key) {
                Some(bundle) => bundle.clone(),
                None => {
                    let bundle = target_dir().join(format!("eval/scenario-{n}"));
                    train(weir, &taught, (trust, seed), &bundle)?;
                    bundles.insert(key, bundle.clone());
                    bundle
                }
            };
            let said = judge(weir, &judged, scenario, trust, &bundle)?;
            let s = &said["sources"];
            if s.is_null() {
                bail!("{}: sources are not judged: {}", scenario.name, said["sources_not_judged"]);
            }
            let met = floor(scenario.asked, s);
            ok &= !met.starts_with(MISSED);
            if matches!(scenario.asked, Asked { false_blocks: 1, .. }) && trust {
                blocks += s["false_blocks"].as_f64().unwrap_or(0.0);
            }
            print(scenario, trust, s, &met);
        }
        missed += usize::from(!ok);
        let trained = match &said_of {
            Some(before) if *before == taught => "trained on the same".to_owned(),
            _ => format!("trained on captures and logs of {}", taught_words(corpus, &taught)),
        };
        println!("    ({}; {trained})", scenario.note);
        said_of = Some(taught);
    }
    if blocks > 1.0 {
        println!("IoT-23 and the benign captures: {blocks} false blocks in all, at most 1 is asked for");
        missed += 1;
    }
    Ok((missed, count))
}

fn row(cells: &[&str]) {
    let widths = [40, 10, 10, 24, 16, 8, 13, 13, 0];
    let line: String = cells.iter().zip(widths).map(|(c, w)| format!("{c:<w$} ")).collect();
    println!("{}", line.trim_end());
}

fn print(scenario: &Scenario, trust: bool, s: &Value, met: &str) {
    let number = |key: &str| s[key].as_f64().unwrap_or(0.0);
    let spread = |of: &str| {
        let u = &s["until_alerted"];
        match (u[format!("{of}_median")].as_f64(), u[format!("{of}_worst")].as_f64()) {
            (Some(median), Some(worst)) => format!("{median:.0}, worst {worst:.0}"),
            _ => "-".to_owned(),
        }
    };
    let name = if trust { "  with handshakes taken for proof".to_owned() } else { scenario.name.to_owned() };
    row(&[
        &name,
        &format!("{:.0}", number("malicious")),
        &alerted(s),
        &match s["until_alerted"]["flows_before_worst"].as_u64() {
            Some(before) => format!("{} / {before}", spread("flows")),
            None => spread("flows"),
        },
        &spread("seconds"),
        &format!("{:.0}", number("benign")),
        &format!("{:.0}", number("false_alerts")),
        &format!("{:.0} ({:.0} true)", number("false_blocks"), number("blocked")),
        met,
    ]);
}

/// Flows from which on a source is more than a visitor.
const BUSY: u64 = 10;

/// Sources alerted about, and of those with many malicious flows where there are others.
fn alerted(s: &Value) -> String {
    let all: Vec<_> = s["each_malicious"].as_array().into_iter().flatten().collect();
    let busy: Vec<_> = all.iter().filter(|m| m["malicious_flows"].as_u64() >= Some(BUSY)).collect();
    let found = busy.iter().filter(|m| m["alerted"].is_object()).count();
    let n = s["alerted"].as_f64().unwrap_or(0.0);
    if busy.len() == all.len() || busy.is_empty() {
        return format!("{n:.0}");
    }
    format!("{n:.0} ({found}/{})", busy.len())
}

/// How it begins where something is missed.
const MISSED: &str = "MISSED: ";

/// Whether everything asked for is met, or what is missed, in words.
fn floor(asked: Asked, s: &Value) -> String {
    let number = |key: &str| s[key].as_f64().unwrap_or(0.0);
    let (mut missed, mut met) = (Vec::new(), "met");
    if asked.all_alerted && number("alerted") < number("malicious") {
        missed.push(format!("{:.0} not alerted about", number("malicious") - number("alerted")));
    }
    if let Some(most) = asked.within_flows
        && let Some(worst) = s["until_alerted"]["flows_worst"].as_f64()
        && worst > most as f64
    {
        // The flow that was asked for began in the epoch at whose end it was decided.
        match s["until_alerted"]["flows_before_worst"].as_f64() {
            Some(before) if before < most as f64 => met = "met at the end of the epoch",
            _ => missed.push(format!("more than {most} flows")),
        }
    }
    if number("false_blocks") > asked.false_blocks as f64 {
        missed.push("blocks the benign".to_owned());
    }
    if missed.is_empty() { met.to_owned() } else { format!("{MISSED}{}", missed.join(", ")) }
}

/// The files of some corpora, in order. Folders that are not there have none.
fn files(corpus: &Path, of: &[Corpus]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for c in of {
        match c {
            Corpus::File(name) => all.push(corpus.join(name)),
            Corpus::Captures(folder) => captures(&corpus.join(folder), &mut all)?,
        }
    }
    Ok(all)
}

fn captures(folder: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.with_context(|| format!("reading {}", folder.display()))?.path());
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            captures(&path, out)?;
        } else if is_benign(&path) {
            out.push(path);
        }
    }
    Ok(())
}

fn is_benign(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let capture = [".pcap", ".pcapng", ".cap"].iter().any(|e| name.ends_with(e));
    capture && !NOT_BENIGN.iter().any(|w| name.contains(w))
}

fn train(weir: &Path, files: &[PathBuf], (trust, seed): (bool, u64), bundle: &Path) -> Result<()> {
    if let Some(parent) = bundle.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut args: Vec<String> =
        ["train", "--checkpoints", "--profile", "core,source", "-o", "json", "--out"].map(String::from).into();
    args.extend([bundle.display().to_string(), "--seed".into(), seed.to_string()]);
    if trust {
        args.push("--trust-sources".into());
    }
    args.extend(files.iter().map(|f| f.display().to_string()));
    sh(weir, args).output().map(drop)
}

fn judge(weir: &Path, files: &[PathBuf], scenario: &Scenario, trust: bool, bundle: &Path) -> Result<Value> {
    let mut args: Vec<String> = ["eval", "-o", "json", "--bundle"].map(String::from).into();
    args.push(bundle.display().to_string());
    if trust {
        args.push("--trust-sources".into());
    }
    if let Some(home) = scenario.home {
        args.extend(["--home".into(), home.into()]);
    }
    for m in scenario.malicious {
        args.extend(["--malicious".into(), (*m).into()]);
    }
    args.extend(files.iter().map(|f| f.display().to_string()));
    // Status 1 where a capture is cut short, which some are: what comes before is judged.
    let out = sh(weir, args).into_command().output().context("running weir eval")?;
    serde_json::from_slice(&out.stdout)
        .with_context(|| format!("`weir eval -o json` gave no JSON: {}", String::from_utf8_lossy(&out.stderr)))
}

/// By folder of the corpora, with the number of files.
fn taught_words(corpus: &Path, files: &[PathBuf]) -> String {
    let mut by_folder: BTreeMap<String, usize> = BTreeMap::new();
    for f in files {
        let inside = f.strip_prefix(corpus).unwrap_or(f);
        let folder: Vec<_> = inside.iter().take(2).map(|c| c.to_string_lossy()).collect();
        *by_folder.entry(folder.join("/")).or_default() += 1;
    }
    by_folder.iter().map(|(f, n)| format!("{f}: {n}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_name_what_is_missed() {
        let s = |alerted: u64, worst: u64, blocks: u64| {
            serde_json::json!({
                "malicious": 2.0, "alerted": alerted, "false_blocks": blocks,
                "until_alerted": { "flows_worst": worst, "flows_before_worst": worst - 10 },
            })
        };
        assert_eq!(floor(FAST, &s(2, 50, 0)), "met");
        assert_eq!(floor(FAST, &s(2, 51, 0)), "met at the end of the epoch", "the 50th began in it");
        assert_eq!(floor(FAST, &s(2, 60, 0)), "MISSED: more than 50 flows", "50 had begun before");
        assert_eq!(floor(ATTACK, &s(1, 900, 1)), "MISSED: 1 not alerted about, blocks the benign");
        assert_eq!(floor(QUIET, &s(0, 900, 1)), "met");
    }

    #[test]
    fn what_is_no_normal_use_teaches_nothing() {
        let benign = |name: &str| is_benign(Path::new(name));
        assert!(benign("x/ssh.pcap") && benign("x/bittorrent.pcap") && benign("quic-v2.pcapng"));
        for name in [
            "synscan.pcap",
            "bot.pcap",
            "log4j-webapp-exploit.pcap",
            "fuzz-2021.pcap",
            "README.txt",
            "kali-password-attack_hydra.pcap",
        ] {
            assert!(!benign(name), "{name}");
        }
    }
}
