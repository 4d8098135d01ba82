use weir_core::record::{FlowState, Have, Totals};

use crate::text::testkit::{labels, read};
use crate::{Format, Input, Options};

const HEADER_45: &str = "id,dur,proto,service,state,spkts,dpkts,sbytes,dbytes,rate,synack,attack_cat,label\n";
const RAW: &str = "59.166.0.0,1390,149.171.126.6,53,udp,CON,0.001055,132,164,31,29,0,0,dns,500473.9375,621800.9375,2,2,0,0,0,0,66,82,0,0,0,0,1421927414,1421927414,0.017,0.013,0,0,0,0,0,0,0,0,3,7,1,3,1,1,1,,0";

#[test]
fn the_partition_is_read_by_its_header() {
    let input = format!(
        "\u{feff}{HEADER_45}\
        1,0.000011,udp,-,INT,2,0,496,0,90909.0902,0,Normal,0\r\n\
        2,0.121478,tcp,http,FIN,6,4,258,172,74.08749,0.07, Fuzzers ,1\r\n\
        3,0.5,tcp,-,RST,1,1,40,40,1,0,Backdoors,1\r\n\
        4,0.5,tcp,-,RST,5,4,400,400,1,0.1,DoS,1\r\n\
        5,0.5,unas,-,INT,5,0,400,0,1,0,,1\r\n"
    );
    let (flows, report, result) = read(input);
    assert!(result.is_ok() && report.left_out.is_empty(), "{report:?}");
    assert_eq!(labels(&flows), ["Normal", "Fuzzers", "Backdoor", "DoS", "Attack"]);
    let r = &flows[0].record;
    assert_eq!((r.duration_us(), r.fwd), (11, Totals { packets: 2, bytes: 496, payload: 0 }));
    assert!(!r.have.has(Have::TIME) && !r.have.has(Have::ADDRESSES) && !r.have.has(Have::PAYLOAD));
    let states: Vec<FlowState> = flows.iter().map(|f| f.record.state).collect();
    use FlowState::{Closed, Rejected, Reset, Unanswered};
    assert_eq!(states, [Unanswered, Closed, Rejected, Reset, Unanswered]);
    let sides: Vec<bool> = flows.iter().map(|f| f.record.have.has(Have::SIDES)).collect();
    assert_eq!(sides, [true, true, false, true, false]);
    assert!(!flows[4].record.have.has(Have::PROTO));
}

#[test]
fn the_raw_set_needs_no_header() {
    let icmp = RAW.replace(",udp,", ",icmp,").replace(",1390,", ",0x0303,");
    let arp = RAW.replace(",udp,", ",arp,");
    let attack = RAW.replace(",,0", ",Exploits ,1");
    let (flows, report, result) = read(format!("{RAW}\n{icmp}\n{arp}\n{attack}\n1,2,3\n"));
    assert!(result.is_ok());
    assert_eq!(labels(&flows), ["Normal", "Normal", "Exploits"]);
    assert_eq!(report.left_out["flow that is not IP"], 1);
    assert_eq!(report.left_out["row with another number of columns than the others"], 1);
    let r = &flows[0].record;
    assert_eq!((r.client.to_string(), r.client_port, r.server_port), ("59.166.0.0".into(), 1390, 53));
    assert_eq!((r.start_us, r.end_us), (1_421_927_414_000_000, 1_421_927_414_001_055));
    assert_eq!((r.fwd.bytes, r.bwd.bytes, r.state), (132, 164, FlowState::Established));
    assert!(!flows[1].record.have.has(Have::CLIENT_PORT));
}

#[test]
fn what_is_no_such_set_is_refused() {
    let options = Options { format: Some(Format::UnswNb15), ..Options::default() };
    let input = Input::new(b"a,b\n1,2\n".as_slice(), "x".into(), None, &options).unwrap();
    let mut kept = crate::text::testkit::Kept::default();
    assert!(input.read(&options, &mut kept).1.unwrap_err().to_string().contains("49 columns"));
}

#[test]
fn bad_rows_are_counted() {
    let input = format!(
        "{HEADER_45}1,x,udp,-,INT,2,0,496,0,1,0,Normal,0\n2,1,udp,-,INT,-2,0,496,0,1,0,Normal,0\n3,1,udp,-,INT,2,0,1e3,0,1,0,Normal,0\n"
    );
    let (flows, report, result) = read(input);
    assert!(result.is_ok() && flows.is_empty());
    assert_eq!(report.left_out.len(), 3, "{:?}", report.left_out);
    assert_eq!(report.read, 3);
}
