//! The fields of one connection, and the record they make.

use weir_common::flow::ip_proto;
use weir_core::record::{FlowRecord, Have, Totals};

use super::state;
use crate::Observation;
use crate::report::Halt;
use crate::text::rows::{Bad, Rows, blank, icmp};
use crate::text::{numbers, protocols};

/// Fields of `conn.log` that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Field {
    Ts,
    OrigH,
    OrigP,
    RespH,
    RespP,
    Proto,
    IpProto,
    Duration,
    OrigBytes,
    RespBytes,
    ConnState,
    History,
    OrigPkts,
    OrigIpBytes,
    RespPkts,
    RespIpBytes,
    Vlan,
    InnerVlan,
    Label,
    Detail,
}

pub(super) const FIELDS: usize = Field::Detail as usize + 1;

/// The field of a column's name, in the spellings that are about.
pub(super) fn field(name: &[u8]) -> Option<Field> {
    Some(match name {
        b"ts" => Field::Ts,
        b"id.orig_h" | b"id_orig_h" => Field::OrigH,
        b"id.orig_p" | b"id_orig_p" => Field::OrigP,
        b"id.resp_h" | b"id_resp_h" => Field::RespH,
        b"id.resp_p" | b"id_resp_p" => Field::RespP,
        b"proto" => Field::Proto,
        b"ip_proto" => Field::IpProto,
        b"duration" => Field::Duration,
        b"orig_bytes" => Field::OrigBytes,
        b"resp_bytes" => Field::RespBytes,
        b"conn_state" => Field::ConnState,
        b"history" => Field::History,
        b"orig_pkts" => Field::OrigPkts,
        b"orig_ip_bytes" => Field::OrigIpBytes,
        b"resp_pkts" => Field::RespPkts,
        b"resp_ip_bytes" => Field::RespIpBytes,
        b"vlan" => Field::Vlan,
        b"inner_vlan" => Field::InnerVlan,
        b"label" => Field::Label,
        b"detailed-label" | b"detailedlabel" | b"detailed_label" => Field::Detail,
        _ => return None,
    })
}

/// Whether columns of these fields can be those of `conn.log`: every Zeek log has addresses and times, this one counts.
pub(super) fn counts(fields: &[Field]) -> bool {
    [Field::ConnState, Field::OrigPkts, Field::OrigBytes].iter().any(|f| fields.contains(f))
}

/// The text of each field, empty where it is missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conn<'a>(pub(super) [&'a [u8]; FIELDS]);

impl<'a> Conn<'a> {
    pub(super) const EMPTY: Self = Self([&[]; FIELDS]);

    pub(super) fn set(&mut self, field: Field, text: &'a [u8]) {
        self.0[field as usize] = text;
    }
    fn get(&self, field: Field) -> &'a [u8] {
        self.0[field as usize]
    }

    /// `None` where the field is missing; a value that is none of its kind makes the row a bad one.
    fn parse<T>(
        &self,
        field: Field,
        parse: fn(&[u8]) -> Option<T>,
        reason: &'static str,
    ) -> Result<Option<T>, Bad<'a>> {
        match self.get(field) {
            [] => Ok(None),
            text => parse(text).map(Some).ok_or(Bad::new(reason, text)),
        }
    }

    fn pair<T>(
        &self,
        fields: (Field, Field),
        parse: fn(&[u8]) -> Option<T>,
        reason: &'static str,
    ) -> Result<Option<(T, T)>, Bad<'a>> {
        Ok(self.parse(fields.0, parse, reason)?.zip(self.parse(fields.1, parse, reason)?))
    }

    pub(super) fn record(&self) -> Result<FlowRecord, Bad<'a>> {
        let mut r = blank();
        let mut have = Have::NONE;
        let mut tell = |what: Have, told: bool| have = if told { have.with(what) } else { have };

        let addresses = self.pair((Field::OrigH, Field::RespH), numbers::addr, "address that is none")?;
        if let Some((client, server)) = addresses {
            (r.client, r.server) = (client, server);
        }
        tell(Have::ADDRESSES, addresses.is_some());
        let proto = self.protocol(addresses.is_none_or(|(client, _)| client.is_v4()))?;
        r.proto = proto.unwrap_or(0);
        tell(Have::PROTO, proto.is_some());
        for (field, what) in [(Field::OrigP, Have::CLIENT_PORT), (Field::RespP, Have::SERVER_PORT)] {
            let port = self.parse(field, numbers::port, "port that is none")?;
            tell(what, port.is_some());
            *if field == Field::OrigP { &mut r.client_port } else { &mut r.server_port } = port.unwrap_or(0);
        }

        let packets = self.pair((Field::OrigPkts, Field::RespPkts), numbers::count, "packets that are no number")?;
        let bytes = self.pair((Field::OrigIpBytes, Field::RespIpBytes), numbers::count, "bytes that are no number")?;
        let payload = self.pair((Field::OrigBytes, Field::RespBytes), numbers::count, "payload that is no number")?;
        tell(Have::PACKETS, packets.is_some());
        tell(Have::BYTES, bytes.is_some());
        tell(Have::PAYLOAD, payload.is_some());
        let ((fp, bp), (fb, bb)) = (packets.unwrap_or((0, 0)), bytes.unwrap_or((0, 0)));
        let (fl, bl) = payload.unwrap_or((0, 0));
        r.fwd = Totals { packets: fp, bytes: fb, payload: fl };
        r.bwd = Totals { packets: bp, bytes: bb, payload: bl };

        let start = self.parse(Field::Ts, numbers::time, "time that is none")?;
        let duration = self
            .parse(Field::Duration, numbers::micros, "duration that is no number of seconds")?
            .or_else(|| packets.filter(|(f, b)| f.saturating_add(*b) <= 1).map(|_| 0));
        tell(Have::TIME, start.is_some());
        tell(Have::DURATION, duration.is_some());
        r.start_us = start.unwrap_or(0);
        r.end_us = r.start_us.saturating_add(duration.unwrap_or(0));

        for (field, vlan) in [(Field::Vlan, &mut r.vlan_outer), (Field::InnerVlan, &mut r.vlan_inner)] {
            *vlan = self.parse(field, numbers::port, "VLAN that is none")?.unwrap_or(0);
        }
        let (conn_state, history) = (self.get(Field::ConnState), self.get(Field::History));
        let state = state::state(proto, packets, conn_state, history);
        tell(Have::STATE, state.is_some());
        r.state = state.unwrap_or(r.state);
        tell(Have::SIDES, state::sides(proto, conn_state, history));
        if have == Have::NONE {
            return Err(Bad::new("row that tells nothing of a flow", b""));
        }
        r.have = have;
        Ok(r)
    }

    /// Zeek says `icmp` for both families, and `unknown_transport` with the number beside it in newer versions.
    fn protocol(&self, v4: bool) -> Result<Option<u8>, Bad<'a>> {
        Ok(match self.get(Field::Proto) {
            b"tcp" => Some(ip_proto::TCP),
            b"udp" => Some(ip_proto::UDP),
            b"icmp" => Some(icmp(v4)),
            [] | b"unknown_transport" => {
                self.parse(Field::IpProto, numbers::count, "protocol that is none")?.and_then(|n| u8::try_from(n).ok())
            }
            name => Some(protocols::number(name).ok_or(Bad::new("protocol that is none", name))?),
        })
    }

    /// `scratch` is a buffer to join the two labels in.
    pub(super) fn hand_on(&self, rows: &mut Rows<'_>, scratch: &mut Vec<u8>) -> Result<Result<(), Bad<'a>>, Halt> {
        let record = match self.record() {
            Ok(record) => record,
            Err(bad) => return Ok(Err(bad)),
        };
        let label = match (self.get(Field::Label), self.get(Field::Detail)) {
            (label, []) => rows.labels.get(label),
            ([], detail) => rows.labels.get(detail),
            (label, detail) => {
                scratch.clear();
                scratch.extend_from_slice(label);
                scratch.push(b'/');
                scratch.extend_from_slice(detail);
                rows.labels.get(scratch)
            }
        };
        rows.hand_on(Observation { label, ..record.into() })?;
        Ok(Ok(()))
    }
}
