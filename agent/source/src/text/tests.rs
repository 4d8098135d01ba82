//! Every text format over damaged input.

use proptest::prelude::*;

use super::testkit::read_as;
use crate::Format;

const ZEEK: &str = "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tduration\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\thistory   label\n1.5\t10.0.0.1\t1\t10.0.0.2\t2\ttcp\t0.1\t1\t40\t1\t40\tSr   Benign\n2.5\tfe80::1\t1\tff02::2\t2\tudp\t-\t1\t40\t0\t0\tD   Malicious\n";
const ZEEK_JSON: &str = "{\"ts\":1.5,\"id.orig_h\":\"10.0.0.1\",\"id.orig_p\":1,\"id.resp_h\":\"10.0.0.2\",\"id.resp_p\":2,\"proto\":\"tcp\",\"conn_state\":\"S0\",\"orig_pkts\":1,\"resp_pkts\":0}\n{\"ts\":\"2018-01-30T18:14:02Z\",\"id.orig_h\":\"10.0.0.1\",\"proto\":\"icmp\",\"conn_state\":\"OTH\",\"duration\":1e-06}\n";
const ZEEK_CSV: &str = "ts,id.orig_h,id.resp_h,proto,orig_pkts,resp_pkts,label\n1.5,10.0.0.1,10.0.0.2,udp,1,1,benign\n1.5,10.0.0.1,\"10.0.0.2\",udp,1,1,\"be,nign\"\n";
const EVE: &str = "{\"event_type\":\"flow\",\"flow_id\":1,\"src_ip\":\"10.0.0.1\",\"src_port\":1,\"dest_ip\":\"10.0.0.2\",\"dest_port\":2,\"proto\":\"TCP\",\"vlan\":[1,2],\"flow\":{\"pkts_toserver\":1,\"pkts_toclient\":1,\"bytes_toserver\":74,\"bytes_toclient\":74,\"start\":\"2018-01-30T18:14:02.000001+0100\",\"end\":\"2018-01-30T18:14:03.000001+0100\"},\"tcp\":{\"tcp_flags_ts\":\"02\",\"tcp_flags_tc\":\"14\"}}\n{\"event_type\":\"netflow\",\"flow_id\":1,\"src_ip\":\"10.0.0.1\",\"dest_ip\":\"10.0.0.2\",\"proto\":\"ICMP\",\"icmp_type\":8,\"icmp_code\":0,\"netflow\":{\"pkts\":1,\"bytes\":98}}\n";
const CIC: &str = "Source IP,Destination IP,Destination Port,Protocol,Timestamp,Flow Duration,Total Fwd Packets,Total Backward Packets,Total Length of Fwd Packets,Total Length of Bwd Packets,Fwd Header Length,Bwd Header Length,Label\n10.0.0.1,10.0.0.2,80,6,7/7/2017 3:30,10,1,1,0,0,20,20,BENIGN\n10.0.0.1,10.0.0.2,80,17,22/02/2018 06:11:58 PM,10,1,1,0,0,20,20,Web \u{2013} XSS\n";
const UNSW: &str = "59.166.0.0,1390,149.171.126.6,53,udp,CON,0.001055,132,164,31,29,0,0,dns,500473.9,621800.9,2,2,0,0,0,0,66,82,0,0,0,0,1421927414,1421927414,0.017,0.013,0,0,0,0,0,0,0,0,3,7,1,3,1,1,1,,0\n59.166.0.0,1390,149.171.126.6,53,tcp,RST,0.1,132,164,31,29,0,0,-,1,1,2,2,0,0,0,0,66,82,0,0,0,0,1421927414,1421927414,0.017,0.013,0,0,0,0,0,0,0,0,3,7,1,3,1,1,1,DoS,1\n";

const ALL: [(Format, &str); 6] = [
    (Format::ZeekTsv, ZEEK),
    (Format::ZeekJson, ZEEK_JSON),
    (Format::ZeekCsv, ZEEK_CSV),
    (Format::Eve, EVE),
    (Format::CicIds2017, CIC),
    (Format::UnswNb15, UNSW),
];

#[test]
fn each_sample_is_recognised_and_whole() {
    for (format, sample) in ALL {
        let (flows, report, result) = super::testkit::read(sample);
        assert!(result.is_ok() && report.left_out.is_empty(), "{format}: {report:?}");
        assert_eq!(flows.len(), 2, "{format}");
        assert_eq!(crate::recognise::recognise(sample.as_bytes()).unwrap(), format);
    }
}

/// A byte that matters to some format, or any.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![proptest::sample::select(b"\t\n\r,\"#\\ -.:{}[]0129eE%/\xff\x00".to_vec()), any::<u8>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damage_is_counted_and_nothing_panics(
        which in 0..ALL.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), byte(), 0..3_u8), 0..12),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let (format, sample) = ALL[which];
        let mut input = sample.as_bytes().repeat(2);
        for (at, byte, how) in changes {
            let at = at.index(input.len());
            match how {
                0 => input[at] = byte,
                1 => input.insert(at, byte),
                _ => { input.remove(at); }
            }
        }
        if let Some(cut) = cut {
            input.truncate(cut.index(input.len()));
        }
        let (flows, report, _) = read_as(Some(format), &input);
        let left_out: u64 = report.left_out.values().sum();
        prop_assert_eq!(report.flows, flows.len() as u64);
        // Two halves of a `netflow` flow are two rows.
        let at_most = if format == Format::Eve { flows.len() as u64 } else { 0 };
        prop_assert!(report.read >= report.flows + left_out && report.read <= report.flows + left_out + at_most);
        for flow in &flows {
            prop_assert!(flow.record.end_us >= flow.record.start_us);
        }
        let _ = crate::recognise::recognise(&input);
    }
}
