use super::*;

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
mode: enforce
home: [10.0.0.0/8, "2001:db8::/32"]
state_dir: /srv/weir
socket: /run/w.sock
group: weir
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
log: {level: debug, to: stderr, events: journald, flows: true}
lease: {lapse: pass, timeout: 10s}
xdp: {mode: generic}
netflow: {listen: "[::]:9995", exporters: [192.0.2.1, "2001:db8:1::/48"]}
"#;

#[test]
fn every_key_can_be_set() {
    let c = parse(EVERYTHING);
    let s = Duration::from_secs;
    let expected = Config {
        interface: Some("eth0.100".into()),
        mode: Mode::Enforce,
        home: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        state_dir: "/srv/weir".into(),
        socket: "/run/w.sock".into(),
        group: Some("weir".into()),
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
        policy: Policy { drop_ttl: s(14_400), shadow_ttl: s(90), max_decisions_per_hour: 7, busy_share: 0.1 },
        log: Log { level: log::LevelFilter::Debug, to: LogTarget::Stderr, events: EventTarget::Journald, flows: true },
        lease: Lease { lapse: Lapse::Pass, timeout: s(10) },
        xdp: Xdp { mode: XdpChoice::Generic },
        netflow: NetFlow {
            enabled: true,
            listen: "[::]:9995".parse().unwrap(),
            exporters: vec!["192.0.2.1".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()],
        },
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
    assert!(errors("- mode\n")[0].starts_with("weir.yaml:1:1: expected a mapping with the keys interface, mode"));
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
        "interface eth0.100 in mode enforce",
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
