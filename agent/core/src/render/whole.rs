//! The object `weir` of a flow: what its EVE-like part leaves out, so that the record reads back as it was.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use weir_common::flow::{DirStats, FlowStats, ip_proto};

use crate::context;
use crate::record::{FlowRecord, Have};
use crate::stat_fields::STAT_FIELDS;

/// Version of the object; a reader refuses others.
pub const WHOLE_VERSION: u32 = 1;

/// What a record does not know of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// One in so many packets was looked at. 1: every one.
    pub sampling: u32,
}

/// Absent parts are left out. What the record's origin could not tell is 0 in the record, and is left out as well.
#[derive(Serialize)]
pub(super) struct WholePart {
    version: u32,
    /// Bits of [`Have`].
    have: u16,
    start_us: u64,
    end_us: u64,
    direction: &'static str,
    first_record: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampling: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_toserver: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_toclient: Option<u64>,
    /// ICMP: what stands in the ports of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<[u16; 2]>,
    /// Where there is no outer tag before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan_inner: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<StatsPart>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<ContextPart>,
}

#[derive(Serialize)]
struct StatsPart {
    toserver: DirPart,
    toclient: DirPart,
}

/// The numbers that differ from those of a direction without packets.
struct DirPart(DirStats);

impl Serialize for DirPart {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        for f in STAT_FIELDS {
            let value = (f.get)(&self.0);
            if value != f.empty {
                map.serialize_entry(f.name, &value)?;
            }
        }
        map.end()
    }
}

#[derive(Serialize)]
struct ContextPart {
    flows: u32,
    ports: u32,
    hosts: u32,
    unanswered: u32,
    same_service: u32,
}

pub(super) fn whole_part(r: &FlowRecord, whole: Whole) -> WholePart {
    let has = |what| r.have.has(what);
    let icmp = matches!(r.proto, ip_proto::ICMP | ip_proto::ICMPV6);
    let [toserver, toclient] = r.stats.dir.map(DirPart);
    WholePart {
        version: WHOLE_VERSION,
        have: r.have.bits(),
        start_us: r.start_us,
        end_us: r.end_us,
        direction: r.direction.name(),
        first_record: r.first_record,
        sampling: (whole.sampling != 1).then_some(whole.sampling),
        payload_toserver: has(Have::PAYLOAD).then_some(r.fwd.payload),
        payload_toclient: has(Have::PAYLOAD).then_some(r.bwd.payload),
        ports: icmp.then_some([r.client_port, r.server_port]),
        vlan_inner: (r.vlan_outer == 0 && r.vlan_inner != 0).then_some(r.vlan_inner),
        stats: (r.stats != FlowStats::EMPTY).then_some(StatsPart { toserver, toclient }),
        context: r.context.map(|c| {
            let context::Context { flows, ports, hosts, unanswered, same_service } = c;
            ContextPart { flows, ports, hosts, unanswered, same_service }
        }),
    }
}
