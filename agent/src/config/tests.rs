use super::*;
use crate::command::Role;

fn parse(text: &str) -> Config {
    Config::parse(text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// The errors as a user sees them.
fn errors(text: &str) -> Vec<String> {
    let problems = Config::parse(text).expect_err("should be refused");
    let shown = ConfigError::Invalid { path: "weir.yaml".into(), problems }.to_string();
    shown.lines().map(str::to_owned).collect()
}

const EVERYTHING: &str = r#"
interface: eth0.100
interfaces: [eth1, "veth*", "!veth-lab*"]
mode: enforce
home: [10.0.0.0/8, "2001:db8::/32"]
state_dir: /srv/weir
socket: /run/w.sock
group: weir
read_group: weir-read
epoch: 2s
window: 20s
alert_budget_per_day: 2.5
allow:
  - 192.0.2.1
  - {target: 198.51.100.0/24, comment: "the office, both lines"}
capacity: {flows: 1M, blocks: 64Ki, allow: 500}
flow: {idle: 60s, active: 30s, linger: 1s}
learn: {duration: 1h30m, min_flows: 5000, min_windows: 300}
default_model: shadow
record: {enabled: false, max_size: 20M, max_age: 3d}
store: {max_size: 30M, max_age: 9d}
policy:
  drop_ttl: 4h
  shadow_ttl: 90s
  max_decisions_per_hour: 7
  busy_share: 10%
  rules:
    - name: password guessing
      when:
        evidence: 1.5x drop
        proven_evidence: 20
        severity: high
        proven: true
        detectors: both
        role: [tcp/in/login, source]
        direction: in
        source: [0.0.0.0/0]
        port: [22, 8000-8100]
        time: 22:00-06:00
        days: [mon-fri, sun]
        zone: Europe/Berlin
        interface: eth0.100
      action: drop
      target: {v4: 26}
      escalate: [10m, 1h, 1d]
      within: 3d
      ask: {within: 30m, then: act}
      notify: always
      mode: review
    - {when: {proven: false, port: 53}, action: limit 100pps burst 200, target: port, for: 5m}
    - {action: shadow, notify: never, ask: yes}
review: {ttl: 30m, unanswered: act}
log: {level: debug, to: stderr, events: journald, flows: true}
lease: {lapse: pass, timeout: 10s}
on_stop: unload
xdp: {mode: generic}
netflow: {listen: "[::]:9995", exporters: [192.0.2.1, "2001:db8:1::/48"]}
sources:
  - {name: drop, path: /a/drop.txt, format: plain, action: shadow, for: 1d, interval: 30s, max_shrink: 20%}
crowdsec:
  url: http://127.0.0.1:8080
  api_key: abc
  api_key_file: /a/key
  ca_file: /a/ca.pem
  interval: 30s
  actions: {ban: shadow, captcha: 100pps, throttle: none, other: drop, simulated: none}
  origins: [CAPI, cscli]
  max_shrink: 10%
api:
  listen: [10.0.0.1, "[::]:8999"]
  tls: {cert: /t/server.pem, key: /t/server.key, client_ca: /t/ca.pem, roles: {alice: operator, "true": viewer}}
web:
  enabled: false
  listen: "[::]:8080"
  tls: {cert: /w/page.pem, key: /w/page.key}
  hosts: [weir.example.net, "2001:db8::1"]
  session: 8h
  idle: 30m
  role: viewer
metrics: {enabled: false, listen: 10.0.0.1}
sinks:
  - {name: eve, type: eve, path: /l/eve.json, max_size: 10M, max_age: 1h, keep: 3, compress: zstd}
  - name: siem
    type: syslog
    server: "[2001:db8::9]"
    transport: tls
    facility: daemon
    content: line
    ca_file: /t/ca.pem
    cert: /t/c.pem
    key: /t/c.key
    kinds: [alert, question]
    min_severity: medium
    rate: 60/m
    dedup: 5m
    queue_size: 1M
    queue_full: drop_newest
    retry_max: 10s
  - {name: journal, type: journald}
  - {name: slack, type: webhook, template: slack, url_file: /s/slack, timeout: 3s}
  - {name: own, type: webhook, url: "https://hooks.example.net/weir", secret_file: /s/hmac, token_file: /s/token, ca_file: /t/ca.pem}
  - {name: duty, type: webhook, template: pagerduty, key_file: /s/duty}
  - {name: bus, type: kafka, brokers: [k1, "k2:9999"], topic: weir, tls: true, ca_file: /t/ca.pem, user: weir, password_file: /s/k}
  - {name: arcsight, type: cef, server: 192.0.2.9, transport: tcp}
  - {name: cef-file, type: cef, path: /l/weir.cef}
tracing: {otlp: "https://otel.example.net:4317", ca_file: /t/otel.pem}
"#;

fn sinks() -> Vec<SinkConfig> {
    use crate::sinks::notice::Kind;
    use crate::sinks::queue::WhenFull;
    use crate::sinks::settings::*;
    use crate::tls_client::Trust;
    use weir_core::event::Severity;
    let s = Duration::from_secs;
    let plain = |name: &str, to: Destination| SinkConfig {
        name: name.into(),
        kinds: vec![Kind::Alert, Kind::Decision, Kind::Question, Kind::Agent],
        min_severity: Severity::Low,
        rate: None,
        dedup: Duration::ZERO,
        queue_size: 64_000_000,
        queue_full: WhenFull::DropOldest,
        retry_max: s(60),
        to,
    };
    let ca = || Trust { ca_file: Some("/t/ca.pem".into()), identity: None };
    let siem = Syslog {
        host: "2001:db8::9".into(),
        port: 6514,
        transport: Transport::Tls,
        facility: Facility(3),
        trust: Trust { identity: Some(("/t/c.pem".into(), "/t/c.key".into())), ..ca() },
    };
    let webhook = |url: Address, template: Template| Webhook {
        url,
        template,
        secret_file: None,
        token_file: None,
        key_file: None,
        trust: Trust::default(),
        timeout: s(10),
    };
    let url = |u: &str| Address::Url(u.into());
    let log = |path: &str| LogFile {
        path: path.into(),
        max_size: 100_000_000,
        max_age: s(86_400),
        keep: 7,
        compress: Compress::None,
    };
    let eve =
        LogFile { max_size: 10_000_000, max_age: s(3600), keep: 3, compress: Compress::Zstd, ..log("/l/eve.json") };
    let arcsight = Syslog {
        host: "192.0.2.9".into(),
        port: 601,
        transport: Transport::Tcp,
        facility: Facility(16),
        trust: Trust::default(),
    };
    let login = Login { mechanism: Mechanism::ScramSha256, user: "weir".into(), password_file: "/s/k".into() };
    let bus = Kafka {
        brokers: vec![("k1".into(), 9093), ("k2".into(), 9999)],
        topic: "weir".into(),
        trust: Some(ca()),
        login: Some(login),
        timeout: s(10),
    };
    let slack = Webhook { timeout: s(3), ..webhook(Address::File("/s/slack".into()), Template::Slack) };
    let own = Webhook {
        secret_file: Some("/s/hmac".into()),
        token_file: Some("/s/token".into()),
        trust: ca(),
        ..webhook(url("https://hooks.example.net/weir"), Template::Json)
    };
    let duty = Webhook {
        key_file: Some("/s/duty".into()),
        ..webhook(url("https://events.pagerduty.com/v2/enqueue"), Template::PagerDuty)
    };
    vec![
        plain("eve", Destination::Eve(eve)),
        SinkConfig {
            kinds: vec![Kind::Alert, Kind::Question],
            min_severity: Severity::Medium,
            rate: Some(EventRate { events: 60, per: s(60) }),
            dedup: s(300),
            queue_size: 1_000_000,
            queue_full: WhenFull::DropNewest,
            retry_max: s(10),
            ..plain("siem", Destination::Syslog(siem, Content::Line))
        },
        plain("journal", Destination::Journald("/run/systemd/journal/socket".into())),
        plain("slack", Destination::Webhook(slack)),
        plain("own", Destination::Webhook(own)),
        plain("duty", Destination::Webhook(duty)),
        plain("bus", Destination::Kafka(bus)),
        plain("arcsight", Destination::CefSyslog(arcsight)),
        plain("cef-file", Destination::CefFile(log("/l/weir.cef"))),
    ]
}

fn rules() -> Vec<Rule> {
    use weir_core::policy::rule::*;
    use weir_core::policy::time::{ALL_DAYS, Hours};
    use weir_core::question::Unanswered;
    let s = |s: u64| s * 1_000_000;
    let guessing = When {
        evidence: Some(Measure::Drop(1.5)),
        proven_evidence: Some(Measure::Nats(20.0)),
        severity: Some(weir_core::event::Severity::High),
        proven: Some(true),
        detectors: Some(Detectors::Both),
        roles: vec!["tcp/in/login".parse().unwrap(), "source".parse().unwrap()],
        direction: Some(Way::In),
        sources: vec!["0.0.0.0/0".parse().unwrap()],
        ports: vec![(22, 22), (8000, 8100)],
        hours: Some(Hours {
            span: Some((22 * 60, 6 * 60)),
            days: ALL_DAYS & !(1 << 5),
            zone: zone::zone("Europe/Berlin").unwrap(),
        }),
        interfaces: vec!["eth0.100".into()],
    };
    let then = Then {
        width: Width::Net { v4: 26, v6: 64 },
        lasts: Some(Lasts { steps_us: vec![s(600), s(3600), s(86_400)], within_us: s(3 * 86_400) }),
        ask: Some(Ask { ttl_us: s(1800), unanswered: Unanswered::Act }),
        notify: Notify::Always,
        mode: Some(Mode::Review),
        ..Then::new(Act::Drop)
    };
    let limit = weir_core::rate::RateLimit::new(weir_core::rate::RateUnit::Packets, 100, Some(200)).unwrap();
    let name = When { proven: Some(false), ports: vec![(53, 53)], ..When::default() };
    let second = Then { width: Width::Port, lasts: Some(Lasts::once(s(300))), ..Then::new(Act::Limit(limit)) };
    let ask = Some(Ask { ttl_us: s(3600), unanswered: Unanswered::Nothing });
    vec![
        Rule { name: "password guessing".into(), when: guessing, then },
        Rule { name: "rule 2".into(), when: name, then: second },
        Rule {
            name: "rule 3".into(),
            when: When::default(),
            then: Then { notify: Notify::Never, ask, ..Then::new(Act::Shadow) },
        },
    ]
}

#[test]
fn every_key_can_be_set() {
    let c = parse(EVERYTHING);
    let s = Duration::from_secs;
    let expected = Config {
        interface: Some("eth0.100".into()),
        interfaces: ["eth1", "veth*", "!veth-lab*"].map(|s| s.parse().unwrap()).into(),
        mode: Mode::Enforce,
        home: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        state_dir: "/srv/weir".into(),
        socket: "/run/w.sock".into(),
        group: Some("weir".into()),
        read_group: Some("weir-read".into()),
        epoch: s(2),
        window: s(20),
        alert_budget_per_day: 2.5,
        allow: vec![
            AllowRule { target: "192.0.2.1".parse().unwrap(), comment: String::new() },
            AllowRule { target: "198.51.100.0/24".parse().unwrap(), comment: "the office, both lines".into() },
        ],
        capacity: Capacity { flows: 1_000_000, blocks: 65_536, allow: 500 },
        flow: FlowTimes { idle: s(60), active: s(30), linger: s(1) },
        learn: Learn { duration: s(5400), min_flows: 5000, min_windows: 300 },
        default_model: DefaultModel::Shadow,
        record: Record { enabled: false, max_size: 20_000_000, max_age: s(3 * 86_400) },
        store: Store { max_size: 30_000_000, max_age: s(9 * 86_400) },
        policy: Policy {
            drop_ttl: s(14_400),
            shadow_ttl: s(90),
            max_decisions_per_hour: 7,
            busy_share: 0.1,
            rules: rules(),
        },
        review: Review { ttl: s(1800), unanswered: Unanswered::Act },
        log: Log { level: log::LevelFilter::Debug, to: LogTarget::Stderr, events: EventTarget::Journald, flows: true },
        lease: Lease { lapse: Lapse::Pass, timeout: s(10) },
        on_stop: OnStop::Unload,
        xdp: Xdp { mode: XdpChoice::Generic },
        netflow: NetFlow {
            enabled: true,
            listen: "[::]:9995".parse().unwrap(),
            exporters: vec!["192.0.2.1".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()],
        },
        sources: vec![Source {
            name: "drop".into(),
            path: "/a/drop.txt".into(),
            format: crate::lists::format::Form::Plain,
            action: Act::Shadow,
            lifetime: Some(s(86_400)),
            interval: s(30),
            max_shrink: 0.2,
        }],
        crowdsec: CrowdSec {
            url: Some("http://127.0.0.1:8080".into()),
            api_key: Some("abc".into()),
            api_key_file: Some("/a/key".into()),
            ca_file: Some("/a/ca.pem".into()),
            interval: s(30),
            actions: Remedies {
                ban: Some(Act::Shadow),
                captcha: Some(Act::Limit("100pps".parse().unwrap())),
                throttle: None,
                other: Some(Act::Drop),
                simulated: None,
            },
            origins: vec!["CAPI".into(), "cscli".into()],
            max_shrink: 0.1,
        },
        api: Api {
            listen: vec![api::Listen("10.0.0.1:8471".parse().unwrap()), api::Listen("[::]:8999".parse().unwrap())],
            tls: Some(ApiTls {
                cert: "/t/server.pem".into(),
                key: "/t/server.key".into(),
                client_ca: "/t/ca.pem".into(),
                roles: vec![("alice".into(), Role::Operator), ("true".into(), Role::Viewer)],
            }),
        },
        web: Web {
            enabled: false,
            listen: WebListen("[::]:8080".parse().unwrap()),
            tls: Some(WebTls { cert: "/w/page.pem".into(), key: "/w/page.key".into() }),
            hosts: vec!["weir.example.net".into(), "2001:db8::1".into()],
            session: s(8 * 3600),
            idle: s(1800),
            role: Role::Viewer,
        },
        tracing: Tracing { otlp: Some("https://otel.example.net:4317".into()), ca_file: Some("/t/otel.pem".into()) },
        metrics: Metrics { enabled: false, listen: MetricsAt("10.0.0.1:9470".parse().unwrap()) },
        sinks: sinks(),
    };
    assert_eq!(c, expected);
    // And it was every key: none shows its default.
    for key in KEYS {
        assert_ne!((key.show)(&c), (key.show)(&Config::default()), "`{}` is not covered by this test", key.path);
    }
}

#[test]
fn what_is_shown_reads_back_as_the_same() {
    for text in ["", EVERYTHING, "group: 'true'\ninterface: '0'\nlog: {events: /tmp/a b.json}"] {
        let c = parse(text);
        assert_eq!(parse(&c.to_yaml()), c, "{}", c.to_yaml());
    }
}

#[test]
fn every_mistake_is_named_with_its_place_at_once() {
    let text = "\
mode: block
hom: [10.0.0.0/8]
policy:
  drop_ttl: 4
  busy_share: 7
  drop_tll: 1h
allow:
  - 10.0.0.0/33
  - {comment: lonely}
  - {target: nowhere, colour: red}
capacity:
  flows: many
log: stderr
";
    assert_eq!(
        errors(text),
        [
            "weir.yaml:1:7: mode: `block` is not allowed; expected one of observe, shadow, review, enforce",
            "weir.yaml:2:1: hom: unknown key; did you mean `home`?",
            "weir.yaml:4:13: policy.drop_ttl: `4` is no length of time; write a number with a unit (ms, s, m, h, d, w), for example 90s, 4h or 1h30m",
            "weir.yaml:5:15: policy.busy_share: 7 is out of range; allowed are 0 to 1",
            "weir.yaml:6:3: policy.drop_tll: unknown key; did you mean `drop_ttl`?",
            "weir.yaml:8:5: allow[0]: prefix length 33 of `10.0.0.0/33` is too large; at most 32",
            "weir.yaml:9:5: allow[1]: `target` is missing; add an address or prefix",
            "weir.yaml:10:14: allow[2].target: `nowhere` is no IP address or prefix; expected for example 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
            "weir.yaml:10:23: allow[2].colour: unknown key; allowed here: target, comment",
            "weir.yaml:12:10: capacity.flows: `many` is no count; write a whole number, with k, M or G for thousands, for example 2000, 128k or 1M",
            "weir.yaml:13:6: log: expected a mapping with the keys level, to, events, flows; found `stderr`",
        ]
    );
}

#[test]
fn broken_yaml_and_doubled_keys_are_refused() {
    assert_eq!(errors("mode: shadow\nmode: enforce\n"), ["weir.yaml:2:1: mode: set twice; the first is in line 1"]);
    let broken = errors("mode: shadow\nhome: [10.0.0.0/8\nepoch: 1s\n");
    assert!(broken.len() == 1 && broken[0].contains("not valid YAML"), "{broken:?}");
    assert!(
        errors("- mode\n")[0]
            .starts_with("weir.yaml:1:1: expected a mapping with the keys interface, interfaces, mode")
    );
    assert_eq!(errors("flow.idle: 3s\n")[0].split("; ").next(), Some("weir.yaml:1:1: flow.idle: unknown key"));
}

#[test]
fn values_must_fit_together() {
    assert_eq!(errors("epoch: 3s\n"), ["weir.yaml:1:8: epoch: window (10s) must be a whole number of epochs (3s)"]);
    assert_eq!(errors("flow: {idle: 10s}\nepoch: 15s\nwindow: 15s\n").len(), 1);
}

#[test]
fn paths_and_names_are_checked() {
    assert!(errors("state_dir: here")[0].contains("no absolute path"));
    assert!(errors("interface: far-too-long-a-name")[0].contains("at most 15 bytes"));
    assert!(errors("log: {events: here.json}")[0].contains("an absolute path, journald, stderr or none"));
    assert!(errors("home: 10.0.0.0/8")[0].contains("expected a list, found `10.0.0.0/8`"));
}

#[test]
fn an_empty_value_means_the_default() {
    assert_eq!(parse("home:\npolicy:\n  drop_ttl:\nlog:\n"), Config::default());
}

#[test]
fn naming_the_section_turns_the_collector_on_loopback_unless_told_otherwise() {
    let listen = |text: &str| Some(parse(text).netflow).filter(|n| n.enabled).map(|n| n.listen.to_string());
    assert_eq!(listen(""), None);
    assert_eq!(listen("netflow:\n"), None, "an empty value means the default");
    assert_eq!(listen("netflow: {}").as_deref(), Some("127.0.0.1:2055"));
    assert_eq!(listen("netflow: {exporters: [192.0.2.1]}").as_deref(), Some("127.0.0.1:2055"));
    assert_eq!(listen("netflow: {enabled: false, listen: 9995}"), None);
    for (text, at) in [
        ("9995", "127.0.0.1:9995"),
        ("192.0.2.7", "192.0.2.7:2055"),
        ("192.0.2.7:6343", "192.0.2.7:6343"),
        ("'::1'", "[::1]:2055"),
        ("'[::1]:99'", "[::1]:99"),
    ] {
        assert_eq!(listen(&format!("netflow: {{listen: {text}}}")).as_deref(), Some(at), "{text}");
    }
    for wrong in ["localhost:2055", "0", "127.0.0.1:0", "70000"] {
        assert!(errors(&format!("netflow: {{listen: '{wrong}'}}"))[0].contains("is nowhere to listen"), "{wrong}");
    }
    let alone = parse("netflow: {}").summary();
    assert!(alone.contains("alerts alone") && alone.contains("private networks"), "{alone}");
    assert!(!alone.contains("not authenticated") && !alone.contains("twice"), "{alone}");
}

#[test]
fn a_collector_of_traces_has_a_host_and_a_port() {
    for wrong in [
        "127.0.0.1:4317",
        "http://127.0.0.1",
        "ftp://127.0.0.1:4317",
        "http://a:4317/v1/traces",
        "http://a:0",
        "https://u@a:1",
    ] {
        let said = errors(&format!("tracing: {{otlp: '{wrong}'}}"));
        assert!(said[0].contains("is no collector of traces: expected http://HOST:PORT"), "{said:?}");
    }
    let said = parse("tracing: {otlp: 'https://a:4317'}").summary();
    assert!(said.contains("https://a:4317, encrypted"), "{said}");
    assert!(parse("tracing: {otlp: 'http://a:4317'}").summary().contains("without encryption"));
}

#[test]
fn a_missing_file_is_an_error_only_where_it_was_named() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone.yaml");
    let e = Config::load(Some(&gone)).unwrap_err().to_string();
    assert!(e.contains("gone.yaml") && e.contains("cannot read"), "{e}");
}

#[test]
fn a_reload_keeps_what_needs_a_restart() {
    let old = Config::default();
    let new = parse(EVERYTHING);
    let kept = old.reloaded(&new);
    let restart = old.diff_needs_restart(&new);
    assert!(restart.contains(&"capacity.flows") && restart.contains(&"interface"));
    assert!(!restart.contains(&"mode") && !restart.contains(&"policy.drop_ttl"));
    // What is in force after the reload differs from the file in exactly those keys.
    assert_eq!(kept.diff_needs_restart(&new), restart);
    assert!(kept.diff(&new).iter().all(|k| k.apply == Apply::Restart));
    assert!(old.diff(&kept).iter().all(|k| k.apply == Apply::Reload));
    assert_eq!(kept.mode, Mode::Enforce);
    assert!(old.diff(&old).is_empty());
}

#[test]
fn the_summary_says_what_happens() {
    let words = parse(EVERYTHING).summary();
    for part in [
        "the interfaces eth0.100, eth1, veth* but not veth-lab* in mode enforce",
        "10.0.0.0/8, 2001:db8::/32",
        "last 4h",
        "the journal",
        "Once the agent is silent for 10s, entries do nothing",
        "Collects NetFlow and IPFIX on [::]:9995 from 192.0.2.1, 2001:db8:1::/48.",
        "not authenticated",
        "counted twice",
    ] {
        assert!(words.contains(part), "{part:?} is missing in:\n{words}");
    }
}

#[test]
fn every_mistake_in_a_rule_is_named_with_its_place() {
    let text = "\
policy:
  rules:
    - name: a
      when:
        evidence: 0.5x alert
        provn: yes
        port: [22, 99999, 30-20]
        time: 25:00-26:00
        days: [mon, funday]
        zone: Mars/Olympus
        source: []
      action: block
      target: {v4: 4}
      for: 1h
      escalate: [1h, 10m]
    - {action: limit 0pps, target: floe, ask: {than: act}, within: 3d}
    - {name: b}
    - drop
";
    // Why the zone is not known is the database's own word.
    let said: Vec<String> = errors(text).iter().map(|e| e.split(" (").next().unwrap_or_default().to_owned()).collect();
    assert_eq!(
        said,
        [
            "weir.yaml:5:19: policy.rules[0].when.evidence: `0.5x alert` lies below the threshold, where nobody is judged; write 1x or more",
            "weir.yaml:6:9: policy.rules[0].when.provn: unknown key; did you mean `proven`?",
            "weir.yaml:7:20: policy.rules[0].when.port[1]: `99999` is no port; write a number such as 22, or a range such as 8000-8100",
            "weir.yaml:7:27: policy.rules[0].when.port[2]: `30-20` goes backward; write 20-30",
            "weir.yaml:8:15: policy.rules[0].when.time: `25:00-26:00` is no span of the day; write for example 22:00-06:00",
            "weir.yaml:9:21: policy.rules[0].when.days[1]: `funday` is no day; expected mon, tue, wed, thu, fri, sat, sun, or a range such as mon-fri",
            "weir.yaml:10:15: policy.rules[0].when.zone: `Mars/Olympus` is no time zone that this machine knows",
            "weir.yaml:11:17: policy.rules[0].when.source: an empty list matches nothing; leave the key out",
            "weir.yaml:12:15: policy.rules[0].action: `block` is no action; expected none, alert, shadow, drop, or limit RATE [burst COUNT]",
            "weir.yaml:13:20: policy.rules[0].target.v4: `4` is no length of a prefix here; expected 8 to 32",
            "weir.yaml:14:12: policy.rules[0].for: `escalate` says how long; leave one of the two out",
            "weir.yaml:15:17: policy.rules[0].escalate: each time must be at least as long as the one before",
            "weir.yaml:16:16: policy.rules[1].action: a rate of 0 a second cannot be held; allowed are 1 to 137,438,953,472",
            "weir.yaml:16:36: policy.rules[1].target: `floe` is no target; expected auto, host, port, flow, net, or lengths such as {v4: 22, v6: 56}",
            "weir.yaml:16:48: policy.rules[1].ask.than: unknown key; did you mean `then`?",
            "weir.yaml:16:68: policy.rules[1].within: it says how long `escalate` remembers, and there is none",
            "weir.yaml:17:7: policy.rules[2]: `action` is missing; add none, alert, shadow, drop, or limit RATE",
            "weir.yaml:18:7: policy.rules[3]: expected a mapping with the keys name, when, action, target, for, escalate, within, ask, notify, mode; found `drop`",
        ]
        .map(str::to_owned)
        .to_vec()
    );
    assert!(errors("policy: {rules: [{name: a, action: drop}, {name: a, action: drop}]}")[0].contains("called `a`"));
}

#[test]
fn rules_are_explained_and_what_does_nothing_is_said() {
    let text = "\
interface: eth0
mode: shadow
lease: {timeout: 60s}
policy:
  drop_ttl: 4h
  rules:
    - {name: guests, when: {source: 192.0.2.0/24, proven: true}, action: drop, for: 1h}
    - {name: guests at night, when: {source: 192.0.2.7, proven: true, time: 22:00-06:00}, action: alert}
    - {when: {proven: false}, action: limit 100pps, mode: enforce, for: 10m}
";
    let c = parse(text);
    let words = c.summary();
    for part in [
        "  1. guests: If proven flows alone reach the drop threshold and the source is in 192.0.2.0/24: drop the host (the \
         /64 where several of its addresses offend) for 1h.",
        "  3. rule 3: If proven flows alone do not reach the drop threshold: limit the host",
    ] {
        assert!(words.contains(part), "{part:?} is missing in:\n{words}");
    }
    assert_eq!(
        c.warnings(),
        [
            "policy.rules[1] (guests at night) can never match: rule `guests` before it matches all of it",
            "policy.rules[2] (rule 3) `mode: enforce` does nothing: the agent is in mode shadow",
            "policy.drop_ttl does nothing: every rule says how long it drops or limits",
            "lease.timeout does nothing: lease.lapse is keep",
        ]
    );
    assert_eq!(Config::default().warnings(), Vec::<String>::new());
    let plain = include_str!("../../../deploy/weir.yaml");
    // What is commented out there is valid as well.
    let rules = plain.find("  # rules:").expect("the example rules");
    let end = plain[rules..].find("\n\n").expect("their end");
    let shown = plain[rules..rules + end].replace("\n  # ", "\n  ").replacen("  # ", "  ", 1);
    let all = plain.replace(&plain[rules..rules + end], &shown);
    assert_eq!(parse(&all).policy.rules.len(), 5, "{all}");
    for example in [plain, &all, include_str!("../../../deploy/policy-limits.yaml")] {
        assert_eq!(parse(example).warnings(), Vec::<String>::new());
    }
}

#[test]
fn lists_from_elsewhere_are_read_shown_and_checked_with_their_places() {
    let text = "sources:\n  - {name: drop, path: /a/drop.txt}\n  - {name: slow, path: /a/slow.csv, format: csv, action: 100pps, for: 1d, \
                interval: 30s, max_shrink: 20%}\ncrowdsec:\n  url: http://127.0.0.1:8080\n  api_key_file: /a/key\n  actions: {captcha: none, ban: shadow}\n  origins: [CAPI]\n";
    let config = Config::parse(text).unwrap();
    assert_eq!((config.sources.len(), config.sources[1].max_shrink), (2, 0.2));
    assert_eq!((config.sources[0].action, config.crowdsec.actions.captcha), (Act::Drop, None));
    assert_eq!(config.crowdsec.actions.ban, Some(Act::Shadow));
    assert_eq!(Config::parse(&config.to_yaml()).unwrap(), config);
    let bad = "sources:\n  - {name: a/b, path: /a}\n  - {path: /a}\n  - {name: x, path: rel, acton: drop, for: 0s}\ncrowdsec:\n  interval: 10s\n  actions: {ban: dorp}\n";
    let problems = Config::parse(bad).unwrap_err();
    let problems: Vec<String> =
        problems.into_iter().map(|p| format!("{} {}: {}", p.at.line, p.path, p.message)).collect();
    for words in [
        "2 sources[0].name: `a/b`",
        "3 sources[1]: `name` is missing",
        "sources[2].path: `rel`",
        "did you mean `action`?",
        "sources[2].for: 0",
        "crowdsec.actions.ban: `dorp`",
    ] {
        assert!(problems.iter().any(|p| p.contains(words)), "{words}: {problems:#?}");
    }
    for (bad, words) in [
        ("crowdsec: {url: 'http://127.0.0.1:8080'}\n", "api_key_file is needed"),
        ("crowdsec: {url: '127.0.0.1:8080', api_key: x}\n", "cannot be asked"),
        ("sources: [{name: a, path: /a}, {name: a, path: /b}]\n", "two sources have the name a"),
    ] {
        let problems = Config::parse(bad).unwrap_err();
        assert!(problems[0].message.contains(words), "{problems:?}");
    }
}

#[test]
fn tcp_without_certificates_on_both_sides_cannot_be_configured() {
    for listen in ["127.0.0.1:8471", "10.0.0.1", "\"[::1]:9\""] {
        let refused = errors(&format!("api: {{listen: [{listen}]}}"));
        assert!(refused[0].contains("api.listen: TCP is for mutual TLS alone: add `api.tls`"), "{refused:?}");
    }
    assert_eq!(
        errors("api: {listen: [everywhere], tls: {cert: a.pem, key: /k, roles: {x: admin, \"\": viewer}, ca: /c}}"),
        [
            "weir.yaml:1:16: api.listen[0]: `everywhere` is nowhere to listen; write an address and port such as 10.0.0.1:8471, [2001:db8::1]:8471 or 10.0.0.1",
            "weir.yaml:1:34: api.tls: `client_ca` is missing; add the path of a PEM file",
            "weir.yaml:1:41: api.tls.cert: `a.pem` is no absolute path; start it with `/`",
            "weir.yaml:1:68: api.tls.roles.x: `admin` is not allowed; expected one of viewer, operator",
            "weir.yaml:1:75: api.tls.roles: a role is for a name; this one is empty",
            "weir.yaml:1:88: api.tls.ca: unknown key; allowed here: cert, key, client_ca, roles",
        ]
    );
}

#[test]
fn the_page_is_not_served_beyond_loopback_without_tls() {
    let found = errors("web: {listen: 192.0.2.7}\n");
    let words = "web.listen: beyond loopback the page is served with TLS alone";
    assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
    for fine in ["", "web: {listen: '[::1]:9000'}", "web: {listen: 0.0.0.0, enabled: false}"] {
        parse(fine);
    }
    let c = parse("web: {listen: 0.0.0.0, tls: {cert: /a/c.pem, key: /a/k.pem}, hosts: [weir.example.net]}");
    assert!(c.web.reachable() && c.web.listen.0.port() == 8470);
    for (bad, words) in [
        ("web: {hosts: ['https://weir.example.net']}", "no host name"),
        ("web: {idle: 13h}", "would end nothing"),
        ("web: {tls: {cert: /a/c.pem}}", "`key` is missing"),
        ("web: {role: admin}", "viewer, operator"),
        ("web: {listen: nowhere}", "nowhere to listen"),
    ] {
        let found = errors(bad);
        assert!(found.iter().any(|e| e.contains(words)), "{bad}: {found:?}");
    }
}

#[test]
fn sinks_that_cannot_be_are_refused_with_their_places() {
    for (sink, words) in [
        ("{type: eve, path: /a}", "sinks[0].name: `name` is missing"),
        ("{name: a b, type: eve, path: /a}", "`a b` cannot be the name of a sink"),
        ("{name: a, path: /a}", "`type` is missing; write one of eve, syslog"),
        ("{name: a, type: mail}", "expected one of eve, syslog, journald, webhook, kafka, cef; found `mail`"),
        ("{name: a, type: eve}", "`path` is missing"),
        ("{name: a, type: eve, path: /a, server: x}", "sinks[0].server: unknown key; allowed here: name, type"),
        ("{name: a, type: eve, path: /a, kind: [alert]}", "did you mean `kinds`?"),
        ("{name: a, type: eve, path: /a, kinds: []}", "an empty list would send nothing"),
        ("{name: a, type: eve, path: /a, kinds: [alarm]}", "`alarm` is not allowed; expected one of flow, source"),
        ("{name: a, type: eve, path: /a, rate: 10}", "`10` is no rate"),
        ("{name: a, type: eve, path: /a, rate: 0/s}", "to send none, remove the sink"),
        ("{name: a, type: eve, path: /a, queue_size: 1k}", "allowed are 64k to 1T"),
        ("{name: a, type: syslog}", "`server` is missing"),
        ("{name: a, type: syslog, server: 'h:0'}", "`h:0` names no server"),
        ("{name: a, type: syslog, server: h, ca_file: /c}", "certificates are for `transport: tls`"),
        ("{name: a, type: syslog, server: h, transport: tls, cert: /c}", "`cert` needs the `key`"),
        ("{name: a, type: webhook}", "`url` or `url_file` is missing"),
        ("{name: a, type: webhook, url: 'http://u:SECRET@h/'}", "it holds a user or key"),
        ("{name: a, type: webhook, url: 'http://h/', template: pagerduty}", "PagerDuty wants `key_file`"),
        ("{name: a, type: webhook, url: 'http://h/', key_file: /k}", "is for `template: pagerduty`"),
        ("{name: a, type: kafka, topic: t}", "`brokers` is missing"),
        ("{name: a, type: kafka, brokers: [h], topic: 'a b'}", "`a b` is no topic"),
        (
            "{name: a, type: kafka, brokers: [h], topic: t, user: u, password_file: /p, mechanism: plain}",
            "it needs `tls: true`",
        ),
        ("{name: a, type: kafka, brokers: [h], topic: t, user: u}", "belong together"),
        ("{name: a, type: cef}", "either a `path` or a `server`"),
        ("{name: a, type: eve, path: /a}, {name: a, type: journald}", "two sinks have the name a"),
        ("{name: a, type: eve, path: /a}, {name: b, type: cef, path: /a}", "two sinks write to /a"),
    ] {
        let refused = errors(&format!("sinks: [{sink}]"));
        assert!(refused.len() == 1 && refused[0].contains(words), "{sink}: {refused:#?}");
        assert!(!refused[0].contains("SECRET"), "{refused:?}");
    }
}
