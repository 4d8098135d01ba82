use weir_core::record::{EndReason, FlowState, Have, Totals};

use crate::text::testkit::{labels, read, read_as};
use crate::{Format, SourceError};

const FIELDS: &str = "#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\tresp_bytes\tconn_state\tlocal_orig\tlocal_resp\tmissed_bytes\thistory\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\ttunnel_parents";
const HEAD: &str = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n";
const WEB: &str = "1517336042.090842\tCi85\t10.55.182.100\t14291\t192.0.2.5\t80\ttcp\thttp\t3.000158\t100\t2000\tSF\tT\tF\t0\tShADadfF\t6\t412\t5\t2260\t(empty)";
const NTP: &str = "1517336043.000001\tCi86\t10.55.182.100\t123\t192.0.2.9\t123\tudp\t-\t-\t-\t-\tS0\tT\tF\t0\tD\t1\t76\t0\t0\t(empty)";

fn log(rows: &[&str]) -> String {
    format!("{HEAD}{FIELDS}\n{}\n", rows.join("\n"))
}

fn refused(input: &str) -> String {
    match read(input) {
        (flows, _, Err(SourceError::Unknown(why))) if flows.is_empty() => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_row_becomes_a_record() {
    let (flows, report, result) = read(log(&[WEB, NTP]));
    assert!(result.is_ok());
    assert_eq!((report.read, report.flows, report.left_out.len(), report.warnings.len()), (2, 2, 0, 0));
    let r = &flows[0].record;
    assert_eq!((r.client.to_string(), r.client_port), ("10.55.182.100".into(), 14291));
    assert_eq!((r.server.to_string(), r.server_port, r.proto), ("192.0.2.5".into(), 80, 6));
    assert_eq!((r.start_us, r.end_us), (1_517_336_042_090_842, 1_517_336_045_091_000));
    assert_eq!(r.fwd, Totals { packets: 6, bytes: 412, payload: 100 });
    assert_eq!(r.bwd, Totals { packets: 5, bytes: 2260, payload: 2000 });
    assert_eq!((r.state, r.end_reason), (FlowState::Closed, EndReason::Exported));
    assert_eq!(r.have, Have::ALL.without(Have::STATS));
    let r = &flows[1].record;
    assert!(r.have.has(Have::DURATION.with(Have::PACKETS)), "one packet lasts no time");
    assert!(!r.have.has(Have::PAYLOAD));
    assert_eq!((r.duration_us(), r.state), (0, FlowState::Unanswered));
    assert_eq!(flows[1].label, None);
}

#[test]
fn a_duration_that_is_not_told_is_not_made_up() {
    let (flows, _, _) = read(log(&[&WEB.replace("3.000158", "-")]));
    assert!(!flows[0].record.have.has(Have::DURATION));
    assert!(flows[0].record.have.has(Have::TIME));
}

#[test]
fn columns_come_in_any_order_and_change_in_the_middle() {
    let second = "#close\t2018-01-30\n#fields\tconn_state\tproto\tid.resp_p\tid.orig_p\tid.resp_h\tid.orig_h\tts\nREJ\ttcp\t22\t5000\t192.0.2.1\t10.0.0.7\t5.25\n";
    let (flows, report, result) = read(log(&[WEB]) + second);
    assert!(result.is_ok() && report.left_out.is_empty());
    let r = &flows[1].record;
    assert_eq!((r.client.to_string(), r.client_port, r.server_port), ("10.0.0.7".into(), 5000, 22));
    assert_eq!((r.start_us, r.state), (5_250_000, FlowState::Rejected));
    assert!(!r.have.has(Have::PACKETS) && !r.have.has(Have::BYTES) && !r.have.has(Have::DURATION));
    assert!(r.have.has(Have::STATE.with(Have::SIDES)));
}

#[test]
fn separators_and_marks_are_those_of_the_header() {
    let head = "#separator \\x7c\\x7c\n#set_separator||;\n#unset_field||NIL\n#empty_field||NONE\n#path||conn\n";
    let fields =
        "#fields||ts||id.orig_h||id.orig_p||id.resp_h||id.resp_p||proto||duration||orig_pkts||resp_pkts||orig_bytes\n";
    let row = "1.5||10.0.0.1||1||10.0.0.2||2||udp||NIL||1||0||NONE\n";
    let (flows, report, result) = read(format!("{head}{fields}{row}"));
    assert!(result.is_ok() && report.left_out.is_empty(), "{report:?}");
    assert_eq!(flows[0].record.start_us, 1_500_000);
    assert_eq!(flows[0].record.fwd.packets, 1);
    assert!(!flows[0].record.have.has(Have::PAYLOAD));

    let commas = "#separator ,\n#path,conn\n#fields,ts,id.orig_h,id.resp_h,proto,orig_pkts,resp_pkts\n2,10.0.0.1,10.0.0.2,tcp,3,4\n";
    assert_eq!(read(commas).0[0].record.bwd.packets, 4);
    // Nothing told the separator but the line itself.
    let blanks = "#fields ts id.orig_h id.resp_h proto orig_pkts resp_pkts\n2 10.0.0.1 10.0.0.2 tcp 3 4\n";
    assert_eq!(read(blanks).0[0].record.bwd.packets, 4);
    let broken = log(&[WEB]).replace("\\x09", "\\xzz");
    let (flows, report, _) = read(broken);
    assert_eq!(flows.len(), 1);
    assert!(report.warnings[0].contains("#separator"), "{:?}", report.warnings);
}

#[test]
fn other_logs_are_refused_by_name() {
    let dns = "#separator \\x09\n#path\tdns\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tquery\n1\tC\t1.1.1.1\t1\t2.2.2.2\t53\tudp\ta\n";
    assert_eq!(refused(dns), "is Zeek's log `dns`; flows are in conn.log");
    assert!(refused(&dns.replace("#path\tdns\n", "")).contains("conn_state"));
    let json = r#"{"_path":"dns","ts":1.5,"id.orig_h":"1.1.1.1","id.resp_h":"2.2.2.2","proto":"udp"}"#;
    assert_eq!(refused(&format!("{json}\n")), "is Zeek's log `dns`; flows are in conn.log");
    // Behind a conn.log, as when a folder is poured into one stream, its rows are counted.
    let (flows, report, result) = read(log(&[WEB]) + dns + &log(&[NTP]));
    assert!(result.is_ok());
    assert_eq!((flows.len(), report.left_out["row of another Zeek log"]), (2, 1));
}

#[test]
fn rows_without_a_header_are_refused() {
    let (flows, report, result) = read_as(Some(Format::ZeekTsv), format!("{WEB}\n{NTP}\n"));
    assert!(flows.is_empty());
    assert_eq!(report.left_out["row before a line `#fields`"], 2);
    assert!(result.unwrap_err().to_string().contains("#fields"));
}

#[test]
fn labels_are_read_from_columns_and_from_blanks_in_the_last_one() {
    let tabs = log(&[&format!("{WEB}\tMalicious\tC&C"), &format!("{NTP}\tBenign\t(empty)"), &format!("{NTP}\t-\t-")])
        .replace("tunnel_parents", "tunnel_parents\tlabel\tdetailedlabel");
    let (flows, report, _) = read(&tabs);
    assert_eq!(labels(&flows), ["Malicious/C&C", "Benign", "-"]);
    assert!(report.left_out.is_empty());
    let blanks = log(&[&format!("{WEB}   Malicious   PartOfAHorizontalPortScan"), &format!("{NTP}   benign   -")])
        .replace("tunnel_parents", "tunnel_parents   label   detailed-label");
    let (flows, report, _) = read(&blanks);
    assert_eq!(labels(&flows), ["Malicious/PartOfAHorizontalPortScan", "benign"]);
    assert!(report.left_out.is_empty());
    // Names in tabs, values in blanks.
    let mixed =
        log(&[&format!("{WEB}   Malicious   C&C")]).replace("tunnel_parents", "tunnel_parents\tlabel\tdetailed-label");
    assert_eq!(labels(&read(&mixed).0), ["Malicious/C&C"]);
}

#[test]
fn json_keeps_every_digit() {
    let row = |ts: &str, duration: &str| {
        format!(
            r#"{{"ts":{ts},"uid":"C","id.orig_h":"fe80::1","id.orig_p":135,"id.resp_h":"ff02::2","id.resp_p":136,"proto":"icmp","duration":{duration},"conn_state":"OTH","orig_pkts":2,"orig_ip_bytes":144,"resp_pkts":0,"resp_ip_bytes":0}}"#
        )
    };
    let input = [
        row("1504224631.090842", "0.09628199999999865"),
        row("\"2018-01-30T18:14:02.090842Z\"", "9.059906005859375e-06"),
        row("1.5", "1.5").replace(
            "\"conn_state\":\"OTH\"",
            "\"label\":\"Malicious\",\"detailedlabel\":\"Probe \\u0031\",\"conn_state\":\"OTH\"",
        ),
    ]
    .join("\n");
    let (flows, report, result) = read(input + "\n");
    assert!(result.is_ok() && report.left_out.is_empty(), "{report:?}");
    let r = &flows[0].record;
    assert_eq!((r.start_us, r.duration_us()), (1_504_224_631_090_842, 96_282));
    assert_eq!((r.proto, r.client_port, r.server_port), (58, 135, 136));
    assert!(r.have.has(Have::STATE.with(Have::SIDES)));
    let r = &flows[1].record;
    assert_eq!((r.start_us, r.duration_us()), (1_517_336_042_090_842, 9));
    assert_eq!(labels(&flows), ["-", "-", "Malicious/Probe 1"]);
}

#[test]
fn csv_is_read_by_its_header() {
    let input = "ts,uid,id.orig_h,id.orig_p,id.resp_h,id.resp_p,proto,duration,orig_bytes,resp_bytes,conn_state,history,orig_pkts,orig_ip_bytes,resp_pkts,resp_ip_bytes,label,detailed-label\n\
        1540469303,C,192.168.1.132,58687,216.239.35.4,123.0,udp,0.114184,48,48,SF,Dd,1,76,1,76,benign,-\n\
        1540469303.5,C,192.168.1.132,\"58687\",216.239.35.4,123,udp,,,,S0,D,1,76,0,0,Malicious,DDoS\n\
        ts,uid,id.orig_h,id.orig_p,id.resp_h,id.resp_p,proto,duration,orig_bytes,resp_bytes,conn_state,history,orig_pkts,orig_ip_bytes,resp_pkts,resp_ip_bytes,label,detailed-label\n\
        1,C\n";
    let (flows, report, result) = read(input);
    assert!(result.is_ok());
    assert_eq!(labels(&flows), ["benign", "Malicious/DDoS"]);
    assert_eq!(flows[0].record.server_port, 123);
    assert_eq!(flows[1].record.start_us, 1_540_469_303_500_000);
    assert_eq!(report.left_out["row with fewer columns than the header"], 1);
}

#[test]
fn bad_rows_are_counted_and_stop_nothing() {
    let rows = [
        WEB.replace("10.55.182.100", "10.55.182"),
        WEB.replace("14291", "142910"),
        WEB.replace("1517336042.090842", "yesterday"),
        WEB.replace("\t412\t", "\t-412\t"),
        WEB.replace("3.000158", "nan"),
        "1\t2\t3".to_owned(),
        format!("{WEB}\tmore"),
        WEB.replace("tcp", "xyz"),
        WEB.replace("192.0.2.5", "10.55.182"),
        "-\t".repeat(2000),
    ];
    let mut rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    rows.push(NTP);
    let (flows, report, result) = read(log(&rows));
    assert!(result.is_ok());
    assert_eq!((flows.len(), report.read), (1, 11));
    let expected = [
        ("address that is none", 2),
        ("bytes that are no number", 1),
        ("duration that is no number of seconds", 1),
        ("port that is none", 1),
        ("protocol that is none", 1),
        ("row with fewer columns than #fields", 1),
        ("row with more columns than #fields", 1),
        ("row with too many columns", 1),
        ("time that is none", 1),
    ];
    assert_eq!(report.left_out.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(report.warnings[0], "left out, first at line 7: address that is none (`10.55.182`)");
}

#[test]
fn a_cut_file_gives_what_is_before_the_cut() {
    let whole = log(&[WEB, NTP]);
    let (flows, report, result) = read(&whole[..whole.len() - 12]);
    assert!(result.is_ok());
    assert_eq!((flows.len(), report.truncated), (1, true));
    assert_eq!(report.left_out["line cut short at the end of the input"], 1);
    let (flows, report, _) = read(whole.trim_end());
    assert_eq!((flows.len(), report.truncated), (2, false), "a whole last line needs no end");
}

#[test]
fn an_endless_line_is_one_bad_row() {
    let (flows, report, result) = read(log(&[WEB, &"x".repeat(3 << 20), NTP]));
    assert!(result.is_ok());
    assert_eq!((flows.len(), report.left_out["line longer than 1 MiB"]), (2, 1));
}

#[test]
fn vlans_and_newer_columns_are_read() {
    let row = r#"{"ts":1.0,"id.orig_h":"10.0.0.1","id.orig_p":0,"id.resp_h":"10.0.0.2","id.resp_p":0,"proto":"unknown_transport","ip_proto":89,"vlan":7,"inner_vlan":9,"conn_state":"OTH","orig_pkts":1,"orig_ip_bytes":64,"resp_pkts":1,"resp_ip_bytes":64}"#;
    let (flows, _, _) = read(format!("{row}\n{}\n", row.replace("\"ip_proto\":89,", "")));
    let r = &flows[0].record;
    assert_eq!((r.proto, r.vlan_outer, r.vlan_inner, r.state), (89, 7, 9, FlowState::Established));
    assert!(!r.have.has(Have::DURATION), "two packets without a duration");
    assert!(!flows[1].record.have.has(Have::PROTO));
}
