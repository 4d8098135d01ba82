use weir_core::decision::Target;

use super::*;
use crate::api::tests::full_status;
use crate::enforce::HitCourse;

const NOW: TimeUs = 1_800_000_000_000_000;
const MINUTE: u64 = 60_000_000;

fn report(id: u64, target: &str) -> DecisionReport {
    let target: Target = target.parse().unwrap();
    DecisionReport {
        decision: Decision {
            limit: None,
            id,
            target,
            action: Action::Drop,
            sides: Sides::In,
            origin: Origin::Automatic,
            created_us: NOW - MINUTE,
            expires_us: Some(NOW + 59 * MINUTE + 500_000),
            reason: "47 distinct ports".into(),
            instead_of: None,
            alert_id: Some(3),
        },
        enforced: true,
        awaiting_confirmation: false,
        packets: 1_234,
        bytes: 74_040,
        last_hit_us: Some(NOW - 3_000_000),
        note: String::new(),
        course: Some(HitCourse { start_us: NOW - MINUTE, packets: vec![1_200, 34] }),
    }
}

fn shadowed() -> DecisionReport {
    let mut r = report(12, "2001:db8::/64");
    r.decision.action = Action::Shadow;
    r.decision.origin = Origin::Manual;
    r.decision.sides = Sides::Both;
    r.decision.expires_us = None;
    r.decision.instead_of = Some(Action::Drop);
    DecisionReport {
        enforced: false,
        packets: 0,
        bytes: 0,
        last_hit_us: None,
        note: "the map is full".into(),
        course: None,
        ..r
    }
}

#[test]
fn status_is_readable() {
    let expected = "\
weir 1.2.3 on eth0 (ifindex 2), up 3h12m
  mode       shadow (configured: enforce; no promoted bundle)
  program    generic (the driver has no native XDP)
  model      learned-1 (learned here, not promoted: alerts and shadow entries only)
  challenger a1b2c3d4e5f6: 12,345 flows compared in 1s of processor time, 2 epochs left out, 4 sources differ
  learning   collecting: 12m of 1d, 1,200 of 2,000 flows, 40 of 200 source windows
  flows      1,234 live, 321 in the last of 11,520 epochs
  drain      8.2ms last, 12ms longest
  decisions  3 drop automatic
  record     1,500,000 flows of 1h in 123 MB (at most 1.0 GB and 7d), 3 lost; no room
  drift      tcp/in/web (core); see `weir model drift`
  memory     520 MB of kernel maps
  netflow    127.0.0.1:2055 from 192.0.2.1, 198.51.100.0/24: 12,345 datagrams, 300,000 records, 150,000 flows, 7 not scored
  exporters  2 with 5 templates; 1,200 records and 0 B of data wait; 90 kB of memory
  left out   4 set of unknown kind
  lost       3 epoch records

REASON            PACKETS          BYTES
passed         72,300,114  9,000,000,000
dropped_block          12            720

MAP     ENTRIES         OF  MEMORY
blocks        3  1,000,000  520 MB

warning: generic XDP: super-packets are counted as one
";
    assert_eq!(status(&full_status()), expected);
}

#[test]
fn interfaces_are_listed_where_there_are_several_and_who_is_not_protected_stands_out() {
    let mut several = full_status();
    let first = several.interfaces.remove(0);
    several.interfaces = vec![
        InterfaceReport { xdp_mode: Some(XdpMode::Native), cause: String::new(), ..first.clone() },
        InterfaceReport { name: "veth7".into(), ifindex: 9, protected: false, xdp_mode: None, up: false, ..first },
        InterfaceReport { name: "eth1".into(), ..InterfaceReport::default() },
    ];
    let text = status(&several);
    assert!(text.starts_with("weir 1.2.3 on 1 of 3 interfaces, up 3h12m\n"), "{text}");
    let table = "\
INTERFACE  IFINDEX  PROGRAM        LINK      MTU      PASSED  DROPPED  LIMITED
eth0             2  native         up       1500  72,300,114       12        3
veth7            9  NOT PROTECTED  down     1500  72,300,114       12        3
eth1             0  NOT PROTECTED  missing     0           0        0        0
";
    assert!(text.contains(table), "{text}");
    assert!(text.contains("  once       5 packets seen at a second interface\n"), "{text}");
}

#[test]
fn a_quiet_agent_says_so() {
    let quiet = StatusReport {
        mode_configured: weir_core::event::Mode::Shadow,
        xdp_mode: Some(XdpMode::Native),
        bundle: None,
        learning: None,
        lost: Vec::new(),
        counters: Vec::new(),
        decisions: Vec::new(),
        maps: Vec::new(),
        warnings: Vec::new(),
        netflow: None,
        challenger: None,
        record: None,
        drifted: Vec::new(),
        ..full_status()
    };
    let text = status(&quiet);
    for line in [
        "  mode       shadow\n",
        "  program    native\n",
        "  model      none; `weir learn` makes one\n",
        "  lost       nothing\n",
        "  drift      none\n",
    ] {
        assert!(text.contains(line), "{line:?} is missing in:\n{text}");
    }
    assert!(!text.contains("learning") && !text.contains("warning") && !text.contains("netflow"));
    let alone = StatusReport { interface: String::new(), ifindex: 0, xdp_mode: None, ..quiet };
    let text = status(&alone);
    assert!(text.starts_with("weir 1.2.3 without an interface, up 3h12m\n") && text.contains("not attached"), "{text}");
}

#[test]
fn decisions_are_a_table() {
    let expected = "\
ID  TARGET            ACTION                 SIDE  ORIGIN     EXPIRES  PACKETS   BYTES  LAST HIT  REASON
7   192.0.2.7/tcp/22  drop                   in    automatic  in 59m     1,234  74,040  3s ago    47 distinct ports
12  2001:db8::/64     shadow (not in force)  both  by hand    never          0       0  -         47 distinct ports [mode enforce: drop] [the map is full]
";
    assert_eq!(decisions(&[report(7, "192.0.2.7/tcp/22"), shadowed()], NOW), expected);
    assert_eq!(decisions(&[], NOW), "no decisions\n");
}

#[test]
fn decisions_are_json_objects_flat_but_for_how_hits_went() {
    let json = serde_json::to_string(&report(7, "192.0.2.7/tcp/22")).unwrap();
    assert_eq!(
        json,
        "{\"id\":7,\"target\":\"192.0.2.7/tcp/22\",\"action\":\"drop\",\"limit\":null,\"direction\":\"in\",\"origin\":\"automatic\",\
         \"created\":\"2027-01-15T07:59:00.000000Z\",\"expires\":\"2027-01-15T08:59:00.500000Z\",\"reason\":\"47 distinct ports\",\
         \"instead_of\":null,\"alert_id\":3,\"enforced\":true,\"awaiting_confirmation\":false,\"packets\":1234,\"bytes\":74040,\
         \"last_hit\":\"2027-01-15T07:59:57.000000Z\",\"note\":\"\",\
         \"hits\":{\"from\":\"2027-01-15T07:59:00.000000Z\",\"step_s\":30,\"packets\":[1200,34]}}"
    );
}

#[test]
fn changes_are_confirmed_in_words() {
    let mut r = report(7, "192.0.2.7");
    assert_eq!(decision_added(&r, NOW), "decision 7: drop 192.0.2.7, expires in 59m\n");
    r.enforced = false;
    r.decision.expires_us = None;
    assert_eq!(decision_added(&r, NOW), "decision 7: drop 192.0.2.7, until deleted, not in force yet\n");
    let mut unconfirmed = report(7, "192.0.2.7");
    unconfirmed.awaiting_confirmation = true;
    assert_eq!(
        decision_added(&unconfirmed, NOW),
        "decision 7: drop 192.0.2.7, expires in 59m\nit lapses then unless you keep it: weir decisions confirm 7\n"
    );
    assert!(decisions(&[unconfirmed], NOW).contains("drop (unconfirmed)"));
    assert_eq!(decisions_deleted(&[r.decision.clone()]), "deleted decision 7 (drop 192.0.2.7)\n");

    let entry = AllowReport {
        prefix: "192.0.2.0/24".parse().unwrap(),
        comment: "office".into(),
        origin: "added by uid 0 (root)".into(),
        removable: true,
        expires_us: Some(NOW + 3600 * 1_000_000),
    };
    let added = AllowAdded { entry: entry.clone(), lifted: vec![r.decision] };
    let words = "192.0.2.0/24 is never blocked from now on, which ends in 1h\nlifted decision 7 (drop 192.0.2.7)\n";
    assert_eq!(allow_added(&added, NOW), words);
    assert_eq!(
        allow_check("192.0.2.9", std::slice::from_ref(&entry)),
        "192.0.2.9 is protected by 192.0.2.0/24 (added by uid 0 (root): office)\n"
    );
    assert_eq!(allow_check("192.0.3.1", &[]), "192.0.3.1 is not protected: it can be blocked\n");
    assert_eq!(
        allow_list(&[entry], NOW),
        "PREFIX        EXPIRES  ORIGIN                 COMMENT\n192.0.2.0/24  in 1h    added by uid 0 (root)  office\n"
    );
}

#[test]
fn models_and_reloads_are_shown() {
    let bundle = BundleReport { created_us: NOW - 90 * MINUTE, ..full_status().bundle.unwrap() };
    let was = |id: &str, steps_back, promoted, challenger| {
        let text = bundles(
            &[BundleReport { id: id.into(), current: false, promoted, challenger, steps_back, ..bundle.clone() }],
            NOW,
        );
        text.lines().nth(1).unwrap().split("  ").nth(1).unwrap().trim().to_owned()
    };
    assert_eq!(was("b", Some(2), true, false), "2 back, promoted then");
    assert_eq!(was("b", Some(1), false, true), "challenges; 1 back");
    assert_eq!(was("b", None, false, false), "-");
    assert_eq!(
        bundles(std::slice::from_ref(&bundle), NOW),
        "ID         STATE                 ORIGIN        CREATED    FLOWS  WINDOWS  PROFILES\n\
         learned-1  serves, not promoted  learned here  1h30m ago  2,500      300  full, source\n"
    );
    let r = |applied: &[&str], needs: &[&str]| {
        let own = |v: &[&str]| v.iter().map(|s| (*s).to_owned()).collect();
        reloaded(&ReloadReport { applied: own(applied), needs_restart: own(needs) })
    };
    assert_eq!(r(&[], &[]), "nothing has changed\n");
    assert_eq!(
        r(&["mode", "home"], &["socket"]),
        "in force now: mode, home\nchanged, but in force only after a restart: socket\n"
    );
}
