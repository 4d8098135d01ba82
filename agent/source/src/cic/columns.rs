//! CICFlowMeter's columns, whose names differ from version to version.

use crate::text::fields::Fields;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Column {
    SrcIp,
    SrcPort,
    DstIp,
    DstPort,
    Protocol,
    Timestamp,
    Duration,
    FwdPackets,
    BwdPackets,
    FwdPayload,
    BwdPayload,
    FwdHeader,
    BwdHeader,
    Window,
    Fin,
    Syn,
    Rst,
    Psh,
    Ack,
    Urg,
    FwdRst,
    BwdRst,
    IcmpType,
    IcmpCode,
    Label,
}

const COUNT: usize = Column::Label as usize + 1;

/// In the order of [`Column`]; blanks around names and upper case do not matter.
const NAMES: [&[&str]; COUNT] = [
    &["src ip", "source ip"],
    &["src port", "source port"],
    &["dst ip", "destination ip"],
    &["dst port", "destination port"],
    &["protocol"],
    &["timestamp"],
    &["flow duration"],
    &["total fwd packets", "total fwd packet", "tot fwd pkts"],
    &["total backward packets", "total bwd packets", "tot bwd pkts"],
    &["total length of fwd packets", "total length of fwd packet", "totlen fwd pkts"],
    &["total length of bwd packets", "total length of bwd packet", "totlen bwd pkts"],
    &["fwd header length", "fwd header len"],
    &["bwd header length", "bwd header len"],
    &["init_win_bytes_forward", "fwd init win bytes", "init fwd win byts"],
    &["fin flag count", "fin flag cnt"],
    &["syn flag count", "syn flag cnt"],
    &["rst flag count", "rst flag cnt"],
    &["psh flag count", "psh flag cnt"],
    &["ack flag count", "ack flag cnt"],
    &["urg flag count", "urg flag cnt"],
    &["fwd rst flags"],
    &["bwd rst flags"],
    &["icmp type"],
    &["icmp code"],
    &["label"],
];

pub(super) struct Columns {
    width: usize,
    at: [Option<usize>; COUNT],
}

impl Columns {
    /// Of columns with one name, the first counts.
    pub(super) fn of_header(row: &Fields<'_>) -> Self {
        let at = NAMES.map(|names| row.iter().position(|n| names.iter().any(|m| n.eq_ignore_ascii_case(m.as_bytes()))));
        Self { width: row.len(), at }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Empty where there is no such column.
    pub(super) fn get<'a>(&self, row: &Fields<'a>, column: Column) -> &'a [u8] {
        self.at[column as usize].and_then(|at| row.get(at)).unwrap_or_default()
    }

    fn has(&self, column: Column) -> bool {
        self.at[column as usize].is_some()
    }

    /// Whether this looks like CICFlowMeter at all.
    pub(super) fn is_flows(&self) -> bool {
        self.has(Column::Duration) && (self.has(Column::FwdPackets) || self.has(Column::BwdPackets))
    }

    /// A column that has to be there and is not.
    pub(super) fn lacks(&self) -> Option<&'static str> {
        use Column::{BwdHeader, BwdPackets, BwdPayload, FwdHeader, FwdPackets, FwdPayload, Protocol, Window};
        let needed = [FwdPackets, BwdPackets, FwdPayload, BwdPayload, FwdHeader, BwdHeader];
        let either = [Protocol, Window];
        let missing = needed.into_iter().find(|&c| !self.has(c));
        missing
            .or_else(|| either.iter().all(|&c| !self.has(c)).then_some(Protocol))
            .and_then(|c| NAMES[c as usize].first().copied())
    }

    /// Whether the set is the corrected one: it alone counts resets by direction.
    pub(super) fn corrected(&self) -> bool {
        self.has(Column::FwdRst) && self.has(Column::BwdRst)
    }
}
