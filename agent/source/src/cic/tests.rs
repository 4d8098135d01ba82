use weir_core::record::{FlowState, Have, Totals};

use crate::Format;
use crate::text::testkit::{labels, read, read_as};

/// The columns that matter, named as in the set of 79.
const OLD: &str = " Destination Port, Flow Duration, Total Fwd Packets, Total Backward Packets,Total Length of Fwd Packets, Total Length of Bwd Packets,Flow Bytes/s, Fwd Header Length, Bwd Header Length,FIN Flag Count, SYN Flag Count, ACK Flag Count, Fwd Header Length,Init_Win_bytes_forward, Label";
/// As in the corrected set.
const NEW: &str = "id,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Flow Duration,Total Fwd Packet,Total Bwd packets,Total Length of Fwd Packet,Total Length of Bwd Packet,Fwd RST Flags,Bwd RST Flags,Fwd Header Length,Bwd Header Length,FIN Flag Count,SYN Flag Count,ICMP Code,ICMP Type,Label,Attempted Category";

fn old(rows: &[&str]) -> String {
    format!("{OLD}\n{}\n", rows.join("\n"))
}
fn new(rows: &[&str]) -> String {
    format!("{NEW}\n{}\n", rows.join("\n"))
}

#[test]
fn bytes_are_payload_and_headers() {
    let (flows, report, result) = read(old(&[
        "80,640,7,4,440,358,1246875,164,104,0,0,1,164,8192,BENIGN",
        "53,245,2,2,70,102,Infinity,40,64,0,0,0,40,-1,BENIGN",
    ]));
    assert!(result.is_ok() && report.left_out.is_empty(), "{report:?}");
    let r = &flows[0].record;
    assert_eq!((r.proto, r.server_port, r.duration_us()), (6, 80, 640));
    assert_eq!((r.fwd.packets, r.fwd.bytes), (7, 440 + 164 + 7 * 20));
    assert_eq!((r.bwd.packets, r.bwd.bytes), (4, 358 + 104 + 4 * 20));
    let core = Have::PROTO.with(Have::DURATION).with(Have::PACKETS).with(Have::BYTES).with(Have::STATE);
    assert_eq!(r.have, core.with(Have::SERVER_PORT));
    let r = &flows[1].record;
    assert_eq!(r.proto, 17, "no TCP window and no flags, whatever the headers say");
    assert_eq!((r.fwd.bytes, r.bwd.bytes), (70 + 2 * 28, 102 + 2 * 28));
    assert_eq!(r.state, FlowState::Established);
}

#[test]
fn rows_that_cannot_be_are_counted_by_reason() {
    let (flows, report, result) = read(old(&[
        "0,119719148,231,0,0,0,NaN,0,0,0,0,0,0,-1,BENIGN",
        "80,-1,7,4,440,358,1,164,104,0,0,1,164,8192,BENIGN",
        "80,10,7,4,440,358,1,-1929349973,104,0,0,1,1,8192,BENIGN",
        "80,10,7,4,440,358,1,164,1040000,0,0,1,1,8192,BENIGN",
        "80,10,7,4,440,358,1,20,104,0,0,1,1,8192,BENIGN",
        "80,10,7,4,-440,358,1,164,104,0,0,1,1,8192,BENIGN",
        "80,10,7,4,440,358,1,164,104,0,0,0,1,8192,BENIGN",
        ",,,,,,,,,,,,,,",
        "80,10,7",
        "99999,10,7,4,440,358,1,164,104,0,0,1,1,8192,BENIGN",
        OLD,
        "80,10,1,0,0,0,1,20,0,0,1,0,1,8192,PortScan",
    ]));
    assert!(result.is_ok());
    assert_eq!((labels(&flows), report.read), (vec!["PortScan"], 11));
    assert_eq!(
        report.left_out.into_iter().collect::<Vec<_>>(),
        [
            ("TCP headers of a length that cannot be", 3),
            ("duration that is negative or no number", 1),
            ("empty row", 1),
            ("payload that is negative or no number", 1),
            ("port that is none", 1),
            ("row with another number of columns than the header", 1),
            ("row without a protocol that its columns tell", 2),
        ]
    );
    assert_eq!(flows[0].record.state, FlowState::Unanswered);
}

#[test]
fn broken_dashes_of_labels_are_mended() {
    for dash in [b"\x96".as_slice(), b"\xef\xbf\xbd", "\u{2013}".as_bytes(), b"-", b"\xc3\xa2\xe2\x82\xac\xe2\x80\x9c"]
    {
        let row = [b"80,10,1,0,0,0,1,20,0,0,1,0,1,8192,Web Attack ", dash, b" Brute Force\n"].concat();
        let input = [old(&[]).trim_end().as_bytes(), b"\n", &row].concat();
        assert_eq!(labels(&read(input).0), ["Web Attack - Brute Force"], "{dash:?}");
    }
}

#[test]
fn the_corrected_set_tells_time_sides_and_ends() {
    let row = |proto: &str, packets: &str, payload: &str, rst: &str, header: &str, flags: &str, icmp: &str| {
        format!(
            "7,172.16.0.1,41249,192.168.10.50,2042,{proto},2017-07-07 18:08:57.763666,10,{packets},{payload},{rst},{header},{flags},{icmp},Portscan,-1"
        )
    };
    let rows = [
        row("6", "1,1", "0,0", "0,1", "24,20", "0,1", "-1,-1"),
        row("6", "5,5", "9,9", "0,0", "100,100", "2,2", "-1,-1"),
        row("6", "5,5", "9,9", "1,0", "100,100", "1,2", "-1,-1"),
        row("6", "5,5", "9,9", "0,0", "100,100", "0,0", "-1,-1"),
        row("6", "5,0", "9,0", "0,0", "100,0", "0,1", "-1,-1"),
        row("17", "1,1", "30,60", "0,0", "8,8", "0,0", "-1,-1"),
        row("1", "3,0", "0,0", "0,0", "0,0", "0,0", "0,8"),
        row("0", "3,0", "0,0", "0,0", "0,0", "0,0", "-1,-1"),
    ];
    let (flows, report, _) = read(new(&rows.each_ref().map(String::as_str)));
    assert_eq!(report.left_out.into_iter().collect::<Vec<_>>(), [("flow that is not IP", 1)]);
    use FlowState::{Closed, Established, Rejected, Reset, Unanswered};
    let states: Vec<_> = flows.iter().map(|f| f.record.state).collect();
    assert_eq!(states, [Rejected, Closed, Reset, Established, Unanswered, Established, Unanswered]);
    let sides: Vec<_> = flows.iter().map(|f| f.record.have.has(Have::SIDES)).collect();
    assert_eq!(sides, [true, true, true, false, true, true, true]);
    let r = &flows[0].record;
    assert_eq!((r.start_us, r.end_us), (1_499_450_937_763_666, 1_499_450_937_763_676));
    assert_eq!(r.fwd, Totals { packets: 1, bytes: 44, payload: 0 });
    assert_eq!(flows[5].record.bwd, Totals { packets: 1, bytes: 88, payload: 60 });
    let r = &flows[6].record;
    assert_eq!((r.client_port, r.server_port), (8, 0));
    assert!(!r.have.has(Have::BYTES), "lengths of ICMP are not in the set");
}

#[test]
fn the_85_columns_have_days_first_and_minutes() {
    let input = "Flow ID, Source IP, Source Port, Destination IP, Destination Port, Protocol, Timestamp, Flow Duration, Total Fwd Packets, Total Backward Packets,Total Length of Fwd Packets, Total Length of Bwd Packets, Fwd Header Length, Bwd Header Length,SYN Flag Count,Init_Win_bytes_forward, Label\n\
        x-1,192.168.10.5,54865,104.16.207.165,443,6,7/7/2017 3:30,3,2,0,12,0,40,0,0,33,DDoS\n";
    let (flows, report, result) = read(input);
    assert!(result.is_ok());
    let r = &flows[0].record;
    assert_eq!(weir_core::render::rfc3339(r.start_us), "2017-07-07T18:30:00.000000Z");
    assert!(r.have.has(Have::TIME.with(Have::ADDRESSES)) && !r.have.has(Have::SIDES) && !r.have.has(Have::PAYLOAD));
    assert_eq!(report.warnings, ["times are in whole minutes, as this set has them"]);
}

#[test]
fn what_lacks_columns_is_refused() {
    let (_, _, result) = read("Flow Duration,Total Fwd Packets,Label\n1,2,x\n");
    assert!(result.unwrap_err().to_string().contains("`total backward packets`"));
    let (_, _, result) = read_as(Some(Format::CicIds2017), "1,2,3\n");
    assert!(result.is_err());
}
