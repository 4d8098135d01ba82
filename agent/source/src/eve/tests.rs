use weir_core::record::{FlowState, Have};

use crate::text::testkit::read;

const FLOW: &str = r#"{"timestamp":"2017-04-07T22:24:37.251547+0100","flow_id":586497171462735,"in_iface":"eth0","event_type":"flow","src_ip":"192.168.3.131","src_port":53381,"dest_ip":"74.125.136.99","dest_port":80,"proto":"TCP","app_proto":"http","flow":{"pkts_toserver":6,"pkts_toclient":5,"bytes_toserver":500,"bytes_toclient":4000,"start":"2017-04-07T22:24:36.000001+0100","end":"2017-04-07T22:24:37.251547+0100","age":1,"state":"closed","reason":"timeout","alerted":false},"tcp":{"tcp_flags":"1b","tcp_flags_ts":"1b","tcp_flags_tc":"1b","syn":true,"fin":true}}"#;

fn netflow(id: u64, src: (&str, u16), dst: (&str, u16), pkts: u64, flags: &str) -> String {
    format!(
        r#"{{"timestamp":"2017-04-07T22:24:38.000000+0000","flow_id":{id},"event_type":"netflow","src_ip":"{}","src_port":{},"dest_ip":"{}","dest_port":{},"proto":"TCP","netflow":{{"pkts":{pkts},"bytes":{},"start":"2017-04-07T22:24:36.000000+0000","end":"2017-04-07T22:24:37.500000+0000","age":1,"min_ttl":64,"max_ttl":64}},"tcp":{{"tcp_flags":"{flags}"}}}}"#,
        src.0,
        src.1,
        dst.0,
        dst.1,
        pkts * 74
    )
}

#[test]
fn a_flow_event_becomes_a_record() {
    let (flows, report, result) = read(format!("{FLOW}\n"));
    assert!(result.is_ok() && report.left_out.is_empty(), "{report:?}");
    let r = &flows[0].record;
    assert_eq!((r.client.to_string(), r.client_port, r.server_port), ("192.168.3.131".into(), 53381, 80));
    assert_eq!((r.start_us, r.end_us), (1_491_600_276_000_001, 1_491_600_277_251_547));
    assert_eq!((r.fwd.packets, r.fwd.bytes), (6, 500 - 6 * 14), "frames lose their Ethernet headers");
    assert_eq!((r.bwd.packets, r.bwd.bytes), (5, 4000 - 5 * 14));
    assert_eq!(r.state, FlowState::Closed);
    assert!(r.have.has(Have::SIDES) && !r.have.has(Have::PAYLOAD) && !r.have.has(Have::STATS));
    assert_eq!(flows[0].seen_at.as_deref(), Some("eth0"));
    assert!(report.warnings[0].contains("Ethernet header"), "{:?}", report.warnings);
}

#[test]
fn tags_are_taken_off_and_impossible_bytes_are_missing() {
    let tagged = FLOW.replace("\"event_type\"", "\"vlan\":[7,9],\"event_type\"");
    let tiny = FLOW.replace("\"bytes_toserver\":500", "\"bytes_toserver\":200");
    let (flows, report, _) = read(format!("{tagged}\n{tiny}\n"));
    let r = &flows[0].record;
    assert_eq!((r.vlan_outer, r.vlan_inner, r.fwd.bytes), (7, 9, 500 - 6 * 22));
    assert!(!flows[1].record.have.has(Have::BYTES));
    assert_eq!(report.warnings.len(), 2);
}

#[test]
fn states_follow_from_flags() {
    let with = |ts: &str, tc: &str, back: u64| {
        let line = FLOW
            .replace(
                "\"tcp_flags_ts\":\"1b\",\"tcp_flags_tc\":\"1b\"",
                &format!("\"tcp_flags_ts\":\"{ts}\",\"tcp_flags_tc\":\"{tc}\""),
            )
            .replace("\"pkts_toclient\":5", &format!("\"pkts_toclient\":{back}"));
        let flows = read(line + "\n").0;
        (flows[0].record.state, flows[0].record.have.has(Have::SIDES))
    };
    assert_eq!(with("02", "14", 1), (FlowState::Rejected, true));
    assert_eq!(with("1e", "1a", 5), (FlowState::Reset, true));
    assert_eq!(with("1a", "1a", 5), (FlowState::Established, true));
    assert_eq!(with("02", "00", 0), (FlowState::Unanswered, true));
    assert_eq!(with("18", "18", 5), (FlowState::Established, false));
    let worded = FLOW.split(",\"tcp\"").next().unwrap().to_owned() + "}\n";
    assert_eq!(read(worded).0[0].record.state, FlowState::Closed);
}

#[test]
fn icmp_is_keyed_by_type_and_code() {
    let line = r#"{"event_type":"flow","flow_id":1,"src_ip":"10.0.0.1","dest_ip":"10.0.0.2","proto":"ICMP","icmp_type":8,"icmp_code":0,"response_icmp_type":0,"response_icmp_code":0,"flow":{"pkts_toserver":1,"pkts_toclient":1,"bytes_toserver":98,"bytes_toclient":98,"start":"2017-04-07T22:24:36.000001Z","end":"2017-04-07T22:24:36.000901Z"}}"#;
    let r = read(format!("{line}\n")).0[0].record.clone();
    assert_eq!((r.proto, r.client_port, r.server_port, r.fwd.bytes), (1, 8, 0, 84));
    assert_eq!((r.state, r.duration_us()), (FlowState::Established, 900));
}

#[test]
fn halves_meet_whatever_lies_between() {
    let (a, b, c) = (("10.0.0.1", 4000), ("10.0.0.2", 80), ("10.0.0.3", 22));
    let lines = [
        netflow(1, a, b, 5, "1b"),
        netflow(2, a, c, 3, "02"),
        FLOW.to_owned(),
        netflow(1, b, a, 4, "1b"),
        netflow(3, a, c, 1, "02"),
        netflow(3, c, a, 1, "14"),
    ];
    let (flows, report, result) = read(lines.join("\n") + "\n");
    assert!(result.is_ok() && report.left_out.is_empty());
    assert_eq!((report.read, report.flows), (6, 4));
    let seen: Vec<_> = flows
        .iter()
        .map(|f| (f.record.server_port, f.record.fwd.packets, f.record.bwd.packets, f.record.state))
        .collect();
    assert_eq!(
        seen,
        [
            (80, 5, 4, FlowState::Closed),
            (22, 3, 0, FlowState::Unanswered),
            (80, 6, 5, FlowState::Closed),
            (22, 1, 1, FlowState::Rejected),
        ]
    );
    assert_eq!(flows[0].record.bwd.bytes, 4 * 60);
    assert!(flows.iter().all(|f| f.record.have.has(Have::SIDES.with(Have::STATE))));
    assert_eq!(flows[0].record.stats, weir_common::flow::FlowStats::EMPTY);
}

#[test]
fn halves_that_stay_alone_cost_bounded_memory() {
    let lines: String =
        (0..10_000).map(|i| netflow(i, ("10.0.0.1", (i % 60_000) as u16), ("10.0.0.2", 80), 1, "02") + "\n").collect();
    let (flows, _, _) = read(lines);
    assert_eq!(flows.len(), 10_000);
    assert!(flows.iter().enumerate().all(|(i, f)| f.record.client_port == i as u16), "in the order of the lines");
}

#[test]
fn other_events_are_counted_by_type() {
    let lines = [
        FLOW,
        r#"{"event_type":"dns","flow_id":1,"dns":{}}"#,
        r#"{"event_type":"alert","flow":{"pkts_toserver":"x"}}"#,
        r#"{"event_type":"modbus"}"#,
        r#"{"event_type":"flow"}"#,
        r#"{"event_type":"flow","src_ip":"1.1.1.1","dest_ip":"2.2.2.2","flow":{"pkts_toserver":-1}}"#,
        r#"{"event_type":"fl"#,
        "[]",
    ];
    let (flows, report, result) = read(lines.join("\n") + "\n");
    assert!(result.is_ok());
    assert_eq!((flows.len(), report.read), (1, 8));
    let expected = [
        ("address that is none", 1),
        ("event of another type", 1),
        ("event of type alert", 1),
        ("event of type dns", 1),
        ("event that cannot be read", 2),
        ("line that is no JSON", 1),
    ];
    assert_eq!(report.left_out.into_iter().collect::<Vec<_>>(), expected);
}

proptest::proptest! {
    /// Lines as Suricata writes them, with bytes changed here and there.
    #[test]
    fn what_is_read_at_once_is_what_serde_reads(
        netflow_line in proptest::bool::ANY,
        changes in proptest::collection::vec((0usize..1000, proptest::sample::select(b"\"\\{}[]:,. 019-eEtfnull\x00\x1f\xc3\xa9x".to_vec())), 0..4),
    ) {
        let line = if netflow_line { netflow(7, ("10.0.0.1", 5), ("10.0.0.2", 80), 3, "1b") } else {
            FLOW.replace("\"proto\"", "\"vlan\":[10, 20],\"x\":[null,{\"y\":1.5}],\"proto\"")
        };
        let mut line = line.into_bytes();
        for (at, byte) in changes {
            let at = at % line.len();
            line[at] = byte;
        }
        if let Some(event) = super::Event::plain(&line) {
            proptest::prop_assert_eq!(event, serde_json::from_slice::<super::Event<'_>>(&line).unwrap());
        }
    }
}

#[test]
fn what_suricata_writes_is_read_at_once() {
    assert!(super::Event::plain(FLOW.as_bytes()).is_some());
    assert!(super::Event::plain(netflow(1, ("10.0.0.1", 5), ("10.0.0.2", 80), 3, "1b").as_bytes()).is_some());
}
