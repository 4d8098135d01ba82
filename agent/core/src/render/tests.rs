use serde_json::Value;
use weir_common::flow::FlowStats;

use super::*;
use crate::decision::{Action, Decision, Origin, Sides};
use crate::event::{Alert, DecisionChange, Level, Mode, Reason, Severity};
use crate::record::{EndReason, FlowRecord, FlowState, Have, Totals};
use crate::role::{Direction, Role};
use crate::testkit::addr;

const T: u64 = 1_735_689_600_000_000;

fn anomaly() -> Anomaly {
    Anomaly {
        profile: "core",
        p_value: 0.004,
        autoencoder: 0.01,
        isolation_forest: 0.002,
        role: Role::SourceAll,
        actionable: true,
        extrapolated: false,
        default_bundle: false,
        reasons: vec![Reason {
            feature: "ports",
            words: "distinct ports contacted 47 (usually 1 to 3)".into(),
            observed: 47.0,
            usual_low: 1.0,
            usual_high: 3.0,
            nearest_usual: 3.0,
            share: 0.8,
            unless: vec![],
        }],
    }
}

fn flow(proto: u8, ports: (u16, u16)) -> Event {
    let record = FlowRecord {
        flow_id: 42,
        client: addr("128.232.110.120"),
        server: addr("66.35.250.204"),
        client_port: ports.0,
        server_port: ports.1,
        proto,
        vlan_outer: 7,
        vlan_inner: 0,
        start_us: T,
        end_us: T + 1_500_000,
        fwd: Totals { packets: 3, bytes: 400, payload: 280 },
        bwd: Totals { packets: 2, bytes: 3000, payload: 2900 },
        stats: FlowStats::EMPTY,
        state: FlowState::Closed,
        end_reason: EndReason::Ended,
        have: Have::ALL,
        direction: Direction::In,
        proven: true,
        first_record: true,
        context: None,
        seen_at: 0,
    };
    Event::Flow { record: Box::new(record), seen_at: None, anomaly: Some(anomaly()) }
}

fn decision(action: Action, instead_of: Option<Action>, mode: Mode) -> Event {
    let decision = Decision {
        limit: None,
        id: 9,
        target: "203.0.113.5".parse().unwrap(),
        action,
        sides: Sides::In,
        origin: Origin::Automatic,
        created_us: T,
        expires_us: Some(T + 3_600_000_000),
        reason: "evidence 20.0".into(),
        instead_of,
        alert_id: Some(3),
    };
    let change = DecisionChange::Added;
    Event::Decision { time_us: T, change, decision: Box::new(decision), mode, note: String::new() }
}

fn parsed(e: &Event) -> Value {
    let context = Context { in_iface: Some("eth0"), ..Context::default() };
    serde_json::from_str(&json(e, &context)).unwrap()
}

#[test]
fn a_flow_reads_like_eve() {
    let v = parsed(&flow(6, (34855, 80)));
    assert_eq!(v["timestamp"], "2025-01-01T00:00:01.500000Z");
    assert_eq!(v["event_type"], "flow");
    assert_eq!(v["community_id"], "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
    assert_eq!((&v["src_ip"], &v["src_port"]), (&"128.232.110.120".into(), &34855.into()));
    assert_eq!((&v["dest_ip"], &v["dest_port"], &v["proto"]), (&"66.35.250.204".into(), &80.into(), &"tcp".into()));
    assert_eq!((&v["in_iface"], &v["vlan"]), (&"eth0".into(), &serde_json::json!([7])));
    let f = &v["flow"];
    assert_eq!((f["duration_us"].as_u64(), f["pkts_toserver"].as_u64()), (Some(1_500_000), Some(3)));
    assert_eq!((&f["state"], &f["end_reason"]), (&"closed".into(), &"ended".into()));
    let a = &v["anomaly"];
    assert!((a["score"].as_f64().unwrap() - 0.996).abs() < 1e-6);
    assert_eq!((&a["is_anomaly"], &a["profile"]), (&true.into(), &"core".into()));
    assert!(a["detectors"]["isolation_forest"].as_f64().unwrap() < 0.003);
    assert!(a["reasons"][0]["words"].as_str().unwrap().contains("47"));
}

#[test]
fn icmp_shows_type_and_code_instead_of_ports() {
    let v = parsed(&flow(1, (8, 0)));
    assert_eq!((v["icmp_type"].as_u64(), v["icmp_code"].as_u64()), (Some(8), Some(0)));
    assert!(v.get("src_port").is_none());
    let unreachable = parsed(&flow(1, (3, 1)));
    assert_eq!(unreachable["icmp_code"].as_u64(), Some(1));
}

#[test]
fn everything_decided_under_shadow_says_so() {
    let e = decision(Action::Shadow, Some(Action::Drop), Mode::Shadow);
    let v = parsed(&e);
    assert_eq!((&v["decision"]["shadow"], &v["decision"]["mode"]), (&true.into(), &"shadow".into()));
    assert_eq!((&v["decision"]["instead_of"], &v["src_ip"]), (&"drop".into(), &"203.0.113.5".into()));
    let text = line(&e);
    assert!(text.contains("drops nothing") && text.contains("[mode shadow]"), "{text}");
    let hits = Event::Hits {
        time_us: T,
        decision_id: 9,
        target: "203.0.113.5".parse().unwrap(),
        action: Action::Shadow,
        packets: 5,
        bytes: 1500,
    };
    assert!(line(&hits).contains("would have dropped (shadow) 5 packets, 1.5 kB"), "{}", line(&hits));
    assert_eq!(parsed(&hits)["hits"]["shadow"], true);

    let real = decision(Action::Drop, None, Mode::Enforce);
    assert_eq!(parsed(&real)["decision"]["shadow"], false);
    assert!(!line(&real).contains("shadow"), "{}", line(&real));
}

#[test]
fn an_alert_says_who_why_and_what_is_done() {
    let alert = Alert {
        id: 3,
        time_us: T,
        source: addr("203.0.113.5"),
        severity: Severity::High,
        evidence: 20.04,
        evidence_proven: 16.0,
        alert_threshold: 10.0,
        drop_threshold: 15.0,
        anomaly: anomaly(),
        ports: vec![22, 23],
        flows: 31,
        since_us: T - 5_000_000,
        outcome: "shadow only (mode shadow): it would be blocked for 1h".into(),
        mode: Mode::Shadow,
    };
    let e = Event::Alert(Box::new(alert));
    let text = line(&e);
    for part in
        ["ALERT 3 high 203.0.113.5", "proven 16.0 (drop at 15.0)", "31 flows to port 22, 23", "47", "would be blocked"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let v = parsed(&e);
    assert_eq!((&v["alert"]["severity"], &v["alert"]["shadow"]), (&"high".into(), &true.into()));
    assert_eq!(v["alert"]["since"], "2024-12-31T23:59:55.000000Z");
    assert_eq!(v["anomaly"]["role"], "source");
}

#[test]
fn other_peoples_text_cannot_break_the_line_or_the_terminal() {
    let e = Event::Agent {
        time_us: T,
        level: Level::Warning,
        kind: "test",
        message: "two\nlines and \u{1b}[31mred".into(),
    };
    assert!(!line(&e).contains(char::is_control));
    assert!(!json(&e, &Context::default()).contains('\n'));
    assert_eq!(parsed(&e)["agent"]["level"], "warning");
}

#[test]
fn ipv6_endpoints_can_be_told_from_ports() {
    let mut e = flow(17, (5353, 53));
    if let Event::Flow { record, .. } = &mut e {
        record.client = addr("2001:db8::7");
    }
    assert!(line(&e).contains("[2001:db8::7]:5353 -> 66.35.250.204:53 udp"), "{}", line(&e));
}
