//! JSON lines with the object `weir` (see `weir_core::render`).

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use weir_common::flow::{DirStats, FlowStats, ip_proto};
use weir_core::context::Context;
use weir_core::record::{EndReason, FlowState, Have};
use weir_core::render::WHOLE_VERSION;
use weir_core::role::Direction;
use weir_core::stat_fields::STAT_FIELDS;

use crate::columns::blank;
use crate::report::{Halt, Report, SourceError};
use crate::sink::{Observation, Sink};
use crate::text::lines::each_line;

/// Whether this line is one of ours: an object with the object `weir` in it.
pub(crate) fn is_ours(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    line.starts_with(b"{")
        && memchr::memmem::find_iter(line, b"\"weir\"").any(|at| {
            let after = line.get(at + 6..).unwrap_or_default().trim_ascii_start();
            after.strip_prefix(b":").is_some_and(|v| v.trim_ascii_start().starts_with(b"{"))
        })
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    flow_id: Option<u64>,
    #[serde(borrow)]
    in_iface: Option<Cow<'a, str>>,
    #[serde(default)]
    vlan: Vec<u16>,
    #[serde(borrow)]
    src_ip: Option<Cow<'a, str>>,
    src_port: Option<u16>,
    #[serde(borrow)]
    dest_ip: Option<Cow<'a, str>>,
    dest_port: Option<u16>,
    #[serde(borrow)]
    proto: Option<Cow<'a, str>>,
    #[serde(borrow)]
    flow: Option<Flow<'a>>,
    #[serde(borrow)]
    label: Option<Cow<'a, str>>,
    #[serde(borrow)]
    weir: Option<Whole<'a>>,
}

#[derive(Deserialize)]
struct Flow<'a> {
    pkts_toserver: Option<u64>,
    pkts_toclient: Option<u64>,
    bytes_toserver: Option<u64>,
    bytes_toclient: Option<u64>,
    #[serde(borrow)]
    state: Option<Cow<'a, str>>,
    #[serde(borrow)]
    end_reason: Cow<'a, str>,
    proven: bool,
}

#[derive(Deserialize)]
struct Whole<'a> {
    version: u32,
    have: u16,
    start_us: u64,
    end_us: u64,
    #[serde(borrow)]
    direction: Cow<'a, str>,
    first_record: bool,
    sampling: Option<u32>,
    payload_toserver: Option<u64>,
    payload_toclient: Option<u64>,
    ports: Option<[u16; 2]>,
    vlan_inner: Option<u16>,
    stats: Option<Stats>,
    context: Option<ContextPart>,
}

#[derive(Deserialize)]
struct Stats {
    toserver: Dir,
    toclient: Dir,
}

#[derive(Deserialize)]
struct ContextPart {
    flows: u32,
    ports: u32,
    hosts: u32,
    unanswered: u32,
    same_service: u32,
}

struct Dir(DirStats);

impl<'de> Deserialize<'de> for Dir {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl<'de> Visitor<'de> for Numbers {
            type Value = Dir;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the packet statistics of one direction")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Dir, A::Error> {
                let mut stats = DirStats::EMPTY;
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    let value = map.next_value::<u64>()?;
                    if let Some(field) = STAT_FIELDS.iter().find(|f| f.name == name) {
                        (field.set)(&mut stats, value).map_err(serde::de::Error::custom)?;
                    }
                }
                Ok(Dir(stats))
            }
        }
        d.deserialize_map(Numbers)
    }
}

/// The last label and sensor, to share their memory.
#[derive(Default)]
struct Words {
    label: Option<Arc<str>>,
    seen_at: Option<Arc<str>>,
}

pub(super) fn read(reader: &mut dyn BufRead, report: &mut Report, sink: &mut dyn Sink) -> Result<(), Halt> {
    let mut words = Words::default();
    let done = each_line(reader, |line| {
        if line.text.trim_ascii().is_empty() && !line.too_long {
            return Ok(());
        }
        report.read += 1;
        if line.too_long {
            report.leave_out("line longer than 1 MiB");
            return Ok(());
        }
        match flow(line.text, &mut words) {
            Ok(flow) => {
                report.flows += 1;
                sink.flow(flow)?;
            }
            // Cut in the middle, not wrong.
            Err(Wrong::Syntax) if !line.complete => {
                report.truncated = true;
                report.warn(format!("line {} is cut short", line.number));
            }
            Err(Wrong::Syntax) => report.leave_out("line that is no flow of Weir"),
            Err(Wrong::Value(why)) => report.leave_out(why),
            Err(Wrong::Version(v)) => {
                let why =
                    format!("line {}: version {v}, expected {WHOLE_VERSION}: read it with a newer weir", line.number);
                return Err(SourceError::Unknown(why).into());
            }
        }
        Ok(())
    });
    match done {
        // A compressed file that ends in the middle.
        Err(Halt::Failed(SourceError::Io(e))) if e.kind() == io::ErrorKind::UnexpectedEof => {
            report.truncated = true;
            report.warn("the file is cut short");
            Ok(())
        }
        done => done,
    }
}

enum Wrong {
    Syntax,
    Value(&'static str),
    Version(u32),
}
impl From<&'static str> for Wrong {
    fn from(why: &'static str) -> Self {
        Wrong::Value(why)
    }
}

fn shared(last: &mut Option<Arc<str>>, text: Cow<'_, str>) -> Arc<str> {
    match last {
        Some(same) if **same == *text => same.clone(),
        _ => last.insert(text.as_ref().into()).clone(),
    }
}

fn flow(line: &[u8], words: &mut Words) -> Result<Observation, Wrong> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|_| Wrong::Syntax)?;
    if line.event_type != "flow" {
        return Err("event that is no flow".into());
    }
    let (Some(flow), Some(whole)) = (line.flow, line.weir) else {
        return Err("flow without the object `weir` (an event of the agent, not of `weir flows`)".into());
    };
    if whole.version != WHOLE_VERSION {
        return Err(Wrong::Version(whole.version));
    }
    let address = |text: Option<Cow<'_, str>>| match text {
        Some(t) => t.parse().map_err(|_| Wrong::Value("flow with an address that is none")),
        None => Ok(blank().record.client),
    };
    let mut out = blank();
    out.sampling = whole.sampling.unwrap_or(1);
    out.label = line.label.map(|t| shared(&mut words.label, t));
    out.seen_at = line.in_iface.map(|t| shared(&mut words.seen_at, t));
    let r = &mut out.record;
    r.flow_id = line.flow_id.unwrap_or(0);
    r.client = address(line.src_ip)?;
    r.server = address(line.dest_ip)?;
    r.proto = line.proto.map_or(Ok(0), |p| proto(&p).ok_or("flow with an unknown protocol"))?;
    [r.client_port, r.server_port] = whole.ports.unwrap_or([line.src_port.unwrap_or(0), line.dest_port.unwrap_or(0)]);
    match *line.vlan.as_slice() {
        [] => {}
        [inner] if whole.vlan_inner == Some(inner) => r.vlan_inner = inner,
        [outer] => r.vlan_outer = outer,
        [outer, inner] => (r.vlan_outer, r.vlan_inner) = (outer, inner),
        _ => return Err("flow with more than two VLAN tags".into()),
    }
    (r.start_us, r.end_us) = (whole.start_us, whole.end_us);
    r.fwd.packets = flow.pkts_toserver.unwrap_or(0);
    r.bwd.packets = flow.pkts_toclient.unwrap_or(0);
    r.fwd.bytes = flow.bytes_toserver.unwrap_or(0);
    r.bwd.bytes = flow.bytes_toclient.unwrap_or(0);
    r.fwd.payload = whole.payload_toserver.unwrap_or(0);
    r.bwd.payload = whole.payload_toclient.unwrap_or(0);
    if let Some(s) = whole.stats {
        r.stats = FlowStats { dir: [s.toserver.0, s.toclient.0] };
    }
    if let Some(s) = flow.state {
        r.state = FlowState::from_name(&s).ok_or("flow with an unknown state")?;
    }
    r.end_reason = EndReason::from_name(&flow.end_reason).ok_or("flow with an unknown end reason")?;
    r.direction = Direction::from_name(&whole.direction).ok_or("flow with an unknown direction")?;
    r.have = Have::from_bits(whole.have);
    r.proven = flow.proven;
    r.first_record = whole.first_record;
    r.context = whole.context.map(|c| {
        let ContextPart { flows, ports, hosts, unanswered, same_service } = c;
        Context { flows, ports, hosts, unanswered, same_service }
    });
    super::sound(&out)?;
    Ok(out)
}

/// As `weir_core::render::proto_name` names them.
fn proto(name: &str) -> Option<u8> {
    Some(match name {
        "tcp" => ip_proto::TCP,
        "udp" => ip_proto::UDP,
        "icmp" => ip_proto::ICMP,
        "icmpv6" => ip_proto::ICMPV6,
        number => number.parse().ok()?,
    })
}
