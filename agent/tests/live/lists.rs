//! Lists: imported, from files, from CrowdSec; replaced and ended as a whole, and never flushed by what fails.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::crowdsec::{LocalApi, Mood};
use crate::site::*;
use crate::support::*;

const BAD: &str = "10.77.0.66";
const ALSO_BAD: &str = "10.77.0.68";
const GOOD: &str = "10.77.0.67";
const PORT: u16 = 7300;

fn until_stopped(site: &Site, who: &str) {
    wait_for("the block", PATIENCE, || (!site.passes(who, PORT)).then_some(()));
}
fn until_passing(site: &Site, who: &str) {
    wait_for("the end of the block", PATIENCE, || site.passes(who, PORT).then_some(()));
}
fn list(site: &Site, name: &str) -> Value {
    let all = site.json("lists list");
    all.iter().find(|l| l["name"] == name).unwrap_or_else(|| panic!("{name}: {all:?}")).clone()
}
fn write(site: &Site, name: &str, text: &str) -> String {
    let path = site.path(name);
    let part = site.path(&format!("{name}.part"));
    std::fs::write(&part, text).unwrap();
    std::fs::rename(part, &path).unwrap();
    path.display().to_string()
}

#[test]
fn a_list_blocks_its_members_alone_is_replaced_as_a_whole_outlives_a_kill_and_ends() {
    if !ready("a_list_blocks_its_members_alone_is_replaced_as_a_whole_outlives_a_kill_and_ends") {
        return;
    }
    let site = Site::new(&[BAD, ALSO_BAD, GOOD]);
    let agent = site.start();
    assert!(site.passes(BAD, PORT) && site.passes(GOOD, PORT), "before");
    let file = write(
        &site,
        "bad.txt",
        &format!("# ours\n{BAD}\n203.0.113.0/24 ; a network\n10.77.0.300\n{SERVER_V4}\n0.0.0.0/0\n"),
    );
    let planned = site.weir(&format!("decisions import {file} --list ours --dry-run"));
    assert!(
        planned.status.success() && text(&planned.stdout).contains("would have: 2 entries"),
        "{}",
        text(&planned.stdout)
    );
    assert!(site.passes(BAD, PORT), "a dry run changes nothing");
    let out = site.weir(&format!("decisions import {file} --list ours"));
    let said = text(&out.stderr);
    assert!(out.status.success(), "{said}");
    for words in ["line 4: `10.77.0.300`", SERVER_V4, "too wide", "1 protected"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!site.passes(BAD, PORT), "it holds when it is answered");
    assert!(site.passes(ALSO_BAD, PORT) && site.passes(GOOD, PORT), "the neighbours");
    let shown = site.json("decisions list --list ours");
    assert_eq!((shown.len(), shown[0]["target"].as_str(), shown[0]["origin"].as_str()), (2, Some(BAD), Some("list")));
    assert_eq!(shown[0]["enforced"].as_bool(), Some(true));
    assert!(site.json("decisions list").is_empty(), "a list is not a heap of single decisions");
    let refused = site.fails(&format!("decisions delete {BAD}"));
    assert!(refused.contains("on the list ours"), "{refused}");
    agent.kill();
    assert!(!site.passes(BAD, PORT), "without an agent");
    let agent = site.start();
    assert!(!site.passes(BAD, PORT) && site.passes(GOOD, PORT), "over a kill");
    assert_eq!(site.json("lists show ours").len(), 2);
    // By hand and by another list as well: it holds as long as any does.
    site.ok(&format!("decisions add {BAD} --for 1h"));
    let other = write(&site, "other.json", &format!("[\"{BAD}\", {{\"ip\": \"{ALSO_BAD}\", \"duration\": \"2h\"}}]"));
    site.ok(&format!("decisions import {other} --list other"));
    let file = write(&site, "bad.txt", "203.0.113.7\n");
    let replaced = site.ok(&format!("decisions import {file} --list ours --replace"));
    // The protected one was on it as well.
    assert!(replaced.contains("1 entries, 1 new") && replaced.contains("3 gone"), "{replaced}");
    site.ok(&format!("decisions delete {BAD}"));
    assert!(!site.passes(BAD, PORT) && !site.passes(ALSO_BAD, PORT), "the other list holds them");
    // Whoever is allowed passes, and is stopped again when no more.
    site.ok(&format!("allowlist add {BAD}"));
    assert!(site.passes(BAD, PORT) && !site.passes(ALSO_BAD, PORT));
    assert_eq!(list(&site, "other")["protected"].as_u64(), Some(1));
    site.ok(&format!("allowlist remove {BAD}"));
    assert!(!site.passes(BAD, PORT));
    site.ok("lists remove other");
    assert!(site.passes(BAD, PORT) && site.passes(ALSO_BAD, PORT), "gone as a whole");
    agent.kill();
    let _agent = site.start();
    assert!(site.passes(BAD, PORT), "what was ended stays ended");
    assert_eq!(site.json("lists list").len(), 1);
}

#[test]
fn a_source_follows_its_file_and_keeps_what_holds_when_that_fails() {
    if !ready("a_source_follows_its_file_and_keeps_what_holds_when_that_fails") {
        return;
    }
    let site = Site::new(&[BAD, ALSO_BAD, GOOD]);
    let others: String = (1..9).map(|n| format!("203.0.113.{n}\n")).collect();
    let file = write(&site, "feed.txt", &format!("{BAD}\n{others}"));
    site.configure("enforce", &format!("sources:\n  - {{name: feed, path: {file}, interval: 1s}}\n"));
    let agent = site.start();
    until_stopped(&site, BAD);
    assert!(site.passes(GOOD, PORT) && site.passes(ALSO_BAD, PORT));
    write(&site, "feed.txt", &format!("{ALSO_BAD}\n{others}"));
    until_passing(&site, BAD);
    assert!(!site.passes(ALSO_BAD, PORT));
    for (what, text) in [
        ("empty", Some(String::new())),
        ("a page", Some("<html>\n<body>504</body>\n</html>\n".to_owned())),
        ("most of it gone", Some("203.0.113.1\n".to_owned())),
        ("gone", None),
    ] {
        match text {
            Some(text) => drop(write(&site, "feed.txt", &text)),
            None => std::fs::remove_file(&file).unwrap(),
        }
        wait_for(what, PATIENCE, || (!list(&site, "feed")["error"].as_str().unwrap().is_empty()).then_some(()));
        assert!(!site.passes(ALSO_BAD, PORT), "{what}");
        assert!(site.status()["warnings"].to_string().contains("the list feed stays as it was"), "{what}");
        write(&site, "feed.txt", &format!("{ALSO_BAD}\n{others}"));
        wait_for("the list's return", PATIENCE, || (list(&site, "feed")["error"] == "").then_some(()));
    }
    // Half of a compressed file, and a start without any file.
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(format!("{GOOD}\n{others}").as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    std::fs::write(&file, &gz[..gz.len() / 2]).unwrap();
    wait_for("the broken file", PATIENCE, || (list(&site, "feed")["error"] != "").then_some(()));
    assert!(!site.passes(ALSO_BAD, PORT) && site.passes(GOOD, PORT));
    std::fs::remove_file(&file).unwrap();
    agent.kill();
    let agent = site.start();
    assert!(!site.passes(ALSO_BAD, PORT), "over a kill, without the file");
    std::fs::write(&file, &gz).unwrap();
    agent.signal(Signal::SIGHUP);
    until_stopped(&site, GOOD);
    until_passing(&site, ALSO_BAD);
    site.configure("enforce", "");
    site.ok("config reload");
    assert!(site.passes(GOOD, PORT), "the configuration names it no more");
    assert!(site.json("lists list").is_empty());
}

#[test]
fn crowdsecs_decisions_hold_and_end_and_no_failure_and_no_lie_lifts_any() {
    if !ready("crowdsecs_decisions_hold_and_end_and_no_failure_and_no_lie_lifts_any") {
        return;
    }
    let site = Site::new(&[BAD, ALSO_BAD, GOOD]);
    ip_command(&format!("-n {} link set lo up", site.server.name()));
    let api = site.server.enter(|| LocalApi::start(SocketAddr::from(([127, 0, 0, 1], 0)), "a-key").unwrap());
    std::fs::write(site.path("key"), "a-key\n").unwrap();
    site.configure(
        "enforce",
        &format!("crowdsec:\n  url: {}\n  api_key_file: {}\n  interval: 1s\n", api.url(), site.path("key").display()),
    );
    let id = api.ban(BAD);
    for n in 1..9 {
        api.ban(&format!("203.0.113.{n}"));
    }
    api.decide("ban", "Country", "XX", Duration::from_secs(3600), &[]);
    api.decide("ban", "Ip", GOOD, Duration::from_secs(3600), &[("simulated", true.into())]);
    let mut agent = site.start();
    until_stopped(&site, BAD);
    assert!(site.passes(ALSO_BAD, PORT) && site.passes(GOOD, PORT), "nobody else, and no simulation");
    assert!(api.user_agent().starts_with("weir/v"), "{}", api.user_agent());
    let state = list(&site, "crowdsec");
    assert_eq!((state["members"].as_u64(), state["kind"].as_str()), (Some(10), Some("crowdsec")));
    assert!(state["left_out"].as_str().unwrap().contains("1 of another scope"), "{state}");
    // Deltas: new, deleted, and made again.
    api.ban(ALSO_BAD);
    until_stopped(&site, ALSO_BAD);
    api.delete(id);
    until_passing(&site, BAD);
    assert!(!site.passes(ALSO_BAD, PORT));
    let again = api.ban(BAD);
    until_stopped(&site, BAD);
    // One of two on one target: the other holds it.
    api.ban(BAD);
    let [asked, _] = api.asked();
    wait_for("a question", PATIENCE, || (api.asked()[0] > asked + 1).then_some(()));
    api.delete(again);
    let [_, whole] = api.asked();
    wait_for("a question for everything", PATIENCE, || (api.asked()[1] > whole).then_some(()));
    assert!(!site.passes(BAD, PORT), "the other decision holds");
    for mood in [Mood::Status(504), Mood::Status(500), Mood::Page, Mood::Broken, Mood::HangUp] {
        api.mood(mood);
        wait_for("the failure", PATIENCE, || (list(&site, "crowdsec")["error"] != "").then_some(()));
        assert!(!site.passes(BAD, PORT) && !site.passes(ALSO_BAD, PORT), "{mood:?}");
        assert!(site.passes(GOOD, PORT), "{mood:?}: the neighbour");
        api.mood(Mood::Honest);
        site.ok("config reload");
        wait_for("its end", PATIENCE, || (list(&site, "crowdsec")["error"] == "").then_some(()));
    }
    // What was said into a broken connection is not lost.
    api.mood(Mood::HangUp);
    let late = api.ban("203.0.113.99");
    wait_for("the failure", PATIENCE, || (list(&site, "crowdsec")["error"] != "").then_some(()));
    api.mood(Mood::Honest);
    site.ok("config reload");
    let shows = |target: &str| site.json("lists show crowdsec").iter().any(|d| d["target"] == target);
    wait_for("the ban that was said to nobody", PATIENCE, || shows("203.0.113.99").then_some(()));
    api.delete(late);
    wait_for("its end", PATIENCE, || (!shows("203.0.113.99")).then_some(()));
    // Over a kill, with an API that says that there is nothing.
    for mood in [Mood::Empty, Mood::Null] {
        api.mood(mood);
        let before = api.asked()[1];
        agent.kill();
        agent = site.start();
        wait_for("a question for everything", PATIENCE, || (api.asked()[1] > before).then_some(()));
        wait_for("the doubt", PATIENCE, || (list(&site, "crowdsec")["error"] != "").then_some(()));
        assert!(!site.passes(BAD, PORT) && !site.passes(ALSO_BAD, PORT), "{mood:?}");
        assert!(list(&site, "crowdsec")["error"].as_str().unwrap().contains("a full answer held 0"));
    }
    // A person who knows better; then the API speaks the truth again.
    site.ok("lists remove crowdsec");
    until_passing(&site, BAD);
    api.mood(Mood::Honest);
    agent.stop();
    let _agent = site.start();
    until_stopped(&site, BAD);
    std::fs::write(site.path("key"), "another\n").unwrap();
    let refused = || list(&site, "crowdsec")["error"].as_str().unwrap().contains("refuses the key");
    wait_for("the refusal", PATIENCE, || refused().then_some(()));
    assert!(!site.passes(BAD, PORT) && api.refused() > 0);
}
