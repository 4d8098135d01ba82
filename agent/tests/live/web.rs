//! The web page's API on a running agent: what people do there is what the kernel holds, and what goes by is seen there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::site::*;
use crate::support::*;

const HONEST: &str = "10.77.0.5";
const BAD: &str = "10.77.0.66";
const PAGE: &str = "127.0.0.1:8470";

/// A browser that is logged in.
struct Browser<'a> {
    site: &'a Site,
    cookie: String,
    csrf: String,
}

/// Status, head and body.
fn ask(site: &Site, request: &str) -> (u16, String, String) {
    let at: SocketAddr = PAGE.parse().unwrap();
    let text = site.server.enter(|| {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
}

impl<'a> Browser<'a> {
    fn log_in(site: &'a Site, args: &str) -> Self {
        let login: Value = serde_json::from_str(&site.ok(&format!("-o json web login {args}"))).unwrap();
        let url = login["url"].as_str().unwrap();
        let path = url.strip_prefix(&format!("http://{PAGE}")).unwrap_or_else(|| panic!("{url}"));
        let request = format!("GET {path} HTTP/1.1\r\nhost: {PAGE}\r\nconnection: close\r\n\r\n");
        let (status, head, _) = ask(site, &request);
        assert_eq!(status, 303, "{head}");
        let cookie = head.lines().find_map(|l| l.strip_prefix("set-cookie: ")).unwrap();
        let mut browser = Self { site, cookie: cookie.split(';').next().unwrap().to_owned(), csrf: String::new() };
        browser.csrf = browser.call("GET", "session", "").1["csrf"].as_str().unwrap().to_owned();
        browser
    }

    fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, _, text) = ask(
            self.site,
            &format!(
                "{method} /api/v1/{path} HTTP/1.1\r\nhost: {PAGE}\r\nconnection: close\r\ncookie: {}\r\norigin: http://{PAGE}\r\n\
                 x-weir-csrf: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                self.cookie,
                self.csrf,
                body.len()
            ),
        );
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn get(&self, path: &str) -> Value {
        let (status, json) = self.call("GET", path, "");
        assert_eq!(status, 200, "{path}: {json}");
        json
    }
}

#[test]
fn what_is_blocked_in_the_page_is_dropped_by_the_kernel_and_seen_there_until_it_is_lifted() {
    if !ready("what_is_blocked_in_the_page_is_dropped_by_the_kernel_and_seen_there_until_it_is_lifted") {
        return;
    }
    let site = Site::new(&[HONEST, BAD]);
    let _agent = site.start();
    let browser = Browser::log_in(&site, "--name alice");
    assert_eq!(browser.get("session")["role"], "operator");
    assert!(site.passes(BAD, 9000) && site.passes(HONEST, 9000));

    let body = format!("{{\"target\":\"{BAD}\",\"action\":\"ACTION_DROP\",\"reason\":\"scan\",\"no_confirm\":true}}");
    let (status, added) = browser.call("POST", "decisions", &body);
    assert_eq!((status, &added["decision"]["enforced"]), (200, &true.into()), "{added}");
    let id = added["decision"]["decision"]["id"].as_u64().unwrap();
    assert!(!site.passes(BAD, 9000) && site.passes(HONEST, 9000), "it is dropped, and its neighbour is not");
    let dropped = wait_for("the drop in the rates", PATIENCE, || {
        let points = browser.get("traffic")["points"].as_array().unwrap().clone();
        points.into_iter().find(|p| p["packets_dropped"].as_u64().unwrap() > 0)
    });
    let interval = dropped["interval_us"].as_u64().unwrap();
    assert!((500_000..60_000_000).contains(&interval), "{dropped}");

    assert_eq!(browser.call("DELETE", &format!("decisions/{id}"), "").0, 200);
    assert!(site.passes(BAD, 9000), "lifted");
    let audit = browser.get("audit");
    let entries: Vec<String> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| format!("{} {}", e["caller"].as_str().unwrap(), e["call"].as_str().unwrap()))
        .collect();
    for call in ["decisions delete", "decisions add"] {
        assert!(entries.iter().any(|e| e == &format!("web:alice, from 127.0.0.1 {call}")), "{entries:?}");
    }
    assert!(entries.iter().any(|e| e.contains("uid 0") && e.ends_with("web login")), "{entries:?}");
}

#[test]
fn flows_are_found_in_the_record_and_the_configuration_is_shown_without_secrets() {
    if !ready("flows_are_found_in_the_record_and_the_configuration_is_shown_without_secrets") {
        return;
    }
    let site = Site::new(&[HONEST, BAD]);
    let more = "flow: {idle: 1s, active: 1s}\ncrowdsec: {url: 'http://127.0.0.1:9', api_key: very-secret}\n";
    site.configure("shadow", more);
    let _agent = site.start();
    let viewer = Browser::log_in(&site, "--role viewer");
    assert!(site.passes(HONEST, 9000) && site.passes(BAD, 9000));
    let found = wait_for("the flow in the record", PATIENCE, || {
        let found = viewer.get(&format!("flows?address={HONEST}"));
        (!found["flows"].as_array().unwrap().is_empty()).then_some(found)
    });
    let flows = found["flows"].as_array().unwrap();
    assert!(flows.iter().all(|f| f["client"] == HONEST || f["server"] == HONEST), "{found}");
    assert!(flows[0]["flow_id"].is_string(), "{found}");

    let config = viewer.get("config");
    let yaml = config["yaml"].as_str().unwrap();
    assert!(yaml.contains("mode: shadow") && !config.to_string().contains("very-secret"), "{yaml}");
    assert!(config["summary"][0].as_str().unwrap().contains("in mode shadow"), "{config}");
    for path in
        ["status", "sources", "scores", "model", "model/calibration", "questions", "labels", "lists", "evidence"]
    {
        viewer.get(path);
    }
    let (status, refused) = viewer.call("POST", "config/reload", "{}");
    assert_eq!((status, &refused["error"]["code"]), (403, &"permission_denied".into()));
    assert_eq!(viewer.call("DELETE", "session", "").0, 204);
    assert_eq!(viewer.call("GET", "status", "").0, 401);
}

#[test]
fn a_port_that_is_taken_keeps_no_agent_from_running_and_is_told() {
    if !ready("a_port_that_is_taken_keeps_no_agent_from_running_and_is_told") {
        return;
    }
    let site = Site::new(&[HONEST]);
    let taken = site.server.enter(|| std::net::TcpListener::bind(PAGE).unwrap());
    let _agent = site.start();
    let told =
        |site: &Site| site.status()["warnings"].to_string().contains("the web page is not served: cannot listen on");
    wait_for("the warning", PATIENCE, || told(&site).then_some(()));
    let out = site.weir("web login");
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("is not served"), "{out:?}");
    drop(taken);
    wait_for("the page, once the port is free", PATIENCE, || (!told(&site)).then_some(()));
    Browser::log_in(&site, "");
}
