//! The columns of a flow: one list from which CSV and Parquet are written and Parquet is read.

use std::borrow::Cow;
use std::sync::Arc;

use weir_common::flow::{DirStats, FlowStats};
use weir_core::addr::Addr;
use weir_core::community_id::community_id;
use weir_core::context::Context;
use weir_core::event::Anomaly;
use weir_core::record::{EndReason, FlowRecord, FlowState, Have, Totals};
use weir_core::render::{proto_name, score};
use weir_core::role::Direction;
use weir_core::stat_fields::{STAT_FIELDS, StatField};

use crate::sink::Observation;
use crate::write::Values;

/// One row of an output.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub flow: &'a Observation,
    /// `None` where it was not scored.
    pub anomaly: Option<&'a Anomaly>,
    /// P-values up to this are called anomalies.
    pub anomaly_p: f32,
}

impl Row<'_> {
    pub fn is_anomaly(&self) -> Option<bool> {
        self.anomaly.map(|a| a.p_value <= self.anomaly_p)
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    U8,
    U16,
    U32,
    U64,
    F64,
    /// Microseconds since the Unix epoch, UTC.
    Time,
    Text,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(u64),
    Real(f64),
    Time(u64),
    Text(Cow<'a, str>),
    /// An address, as text.
    Ip(Addr),
}

/// Why a row of a file is none that Weir wrote.
pub(crate) type Wrong = &'static str;

type Get = for<'a> fn(&Row<'a>) -> Cell<'a>;
type Set = fn(&mut Draft, &Cell<'_>) -> Result<(), Wrong>;
/// Takes the cells of many rows, as `Get` gives them.
type Fill = fn(&[Row<'_>], &mut Values);

/// How a cell is taken from a row, and from many.
struct Taken {
    get: Get,
    fill: Fill,
}

/// [`Taken`] of what gives a cell of a row: the loop over rows is compiled for this column alone.
macro_rules! taken {
    ($kind:ident, $get:expr) => {
        Taken {
            get: $get,
            fill: |rows, to| {
                let get: Get = $get;
                for row in rows {
                    to.push(Kind::$kind, get(row));
                }
            },
        }
    };
}

enum Access {
    /// Written only.
    Shown(Taken),
    Whole(Taken, Set),
    Stat {
        dir: usize,
        field: &'static StatField,
    },
}

pub(crate) struct Column {
    pub(crate) name: Cow<'static, str>,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    access: Access,
}

impl Column {
    pub(crate) fn get<'a>(&self, row: &Row<'a>) -> Cell<'a> {
        match self.access {
            Access::Shown(ref taken) | Access::Whole(ref taken, _) => (taken.get)(row),
            Access::Stat { dir, field } => statistic(&row.flow.record.stats, dir, field),
        }
    }

    /// Takes the cells of many rows.
    pub(crate) fn fill(&self, rows: &[Row<'_>], to: &mut Values) {
        match self.access {
            Access::Shown(ref taken) | Access::Whole(ref taken, _) => (taken.fill)(rows, to),
            Access::Stat { dir, field } if field.narrow => {
                rows.iter().for_each(|r| to.push(Kind::U32, statistic(&r.flow.record.stats, dir, field)));
            }
            Access::Stat { dir, field } => {
                rows.iter().for_each(|r| to.push(Kind::U64, statistic(&r.flow.record.stats, dir, field)));
            }
        }
    }

    /// Whether reading a record back needs it.
    pub(crate) fn is_read(&self) -> bool {
        !matches!(self.access, Access::Shown(_))
    }

    /// Whether it is one number of the packet statistics.
    pub(crate) fn is_statistic(&self) -> bool {
        matches!(self.access, Access::Stat { .. })
    }

    pub(crate) fn set(&self, draft: &mut Draft, cell: &Cell<'_>) -> Result<(), Wrong> {
        if *cell == Cell::Null {
            return if self.nullable { Ok(()) } else { Err("row without a value that every row has") };
        }
        match self.access {
            Access::Shown(_) => Ok(()),
            Access::Whole(_, set) => set(draft, cell),
            Access::Stat { dir, field } => {
                let stats: &mut DirStats = &mut draft.flow.record.stats.dir[dir];
                (field.set)(stats, int(cell)?).map_err(|_| "row with a number out of range")
            }
        }
    }
}

fn statistic<'a>(stats: &FlowStats, dir: usize, field: &StatField) -> Cell<'a> {
    let value = (field.get)(&stats.dir[dir]);
    // Who has no packet has no statistics: most rows show that by the first number.
    let none = || stats.dir.iter().all(|d| d.packets == 0) && *stats == FlowStats::EMPTY;
    if (field.empty != 0 && value == field.empty) || none() { Cell::Null } else { Cell::Int(value) }
}

/// A record while its cells come in.
pub(crate) struct Draft {
    flow: Observation,
    duration_us: u64,
    clock_us: u64,
    /// Words seen before, so that equal ones share their memory.
    words: Words,
}

/// The last label and sensor that were read.
#[derive(Clone, Default)]
pub(crate) struct Words {
    label: Option<Arc<str>>,
    seen_at: Option<Arc<str>>,
}

fn shared(last: &mut Option<Arc<str>>, text: &str) -> Arc<str> {
    match last {
        Some(same) if **same == *text => same.clone(),
        _ => {
            let new: Arc<str> = text.into();
            *last = Some(new.clone());
            new
        }
    }
}

/// A record of which nothing is known.
pub(crate) fn blank() -> Observation {
    let nobody = Addr([0; 16]);
    FlowRecord {
        flow_id: 0,
        client: nobody,
        server: nobody,
        client_port: 0,
        server_port: 0,
        proto: 0,
        vlan_outer: 0,
        vlan_inner: 0,
        start_us: 0,
        end_us: 0,
        fwd: Totals::default(),
        bwd: Totals::default(),
        stats: FlowStats::EMPTY,
        state: FlowState::Unanswered,
        end_reason: EndReason::Exported,
        have: Have::NONE,
        direction: Direction::Lateral,
        proven: false,
        first_record: true,
        context: None,
        seen_at: 0,
    }
    .into()
}

impl Draft {
    pub(crate) fn new(words: Words) -> Self {
        Self { flow: blank(), duration_us: 0, clock_us: 0, words }
    }

    pub(crate) fn finish(self) -> (Observation, Words) {
        let Self { mut flow, duration_us, clock_us, words } = self;
        if !flow.record.have.has(Have::TIME) {
            flow.record.start_us = clock_us;
            flow.record.end_us = clock_us.saturating_add(duration_us);
        }
        (flow, words)
    }
}

fn int(cell: &Cell<'_>) -> Result<u64, Wrong> {
    match cell {
        Cell::Int(v) | Cell::Time(v) => Ok(*v),
        _ => Err("row with a value of another type"),
    }
}
fn narrow<T: TryFrom<u64>>(cell: &Cell<'_>) -> Result<T, Wrong> {
    T::try_from(int(cell)?).map_err(|_| "row with a number out of range")
}
fn text<'c>(cell: &'c Cell<'_>) -> Result<&'c str, Wrong> {
    match cell {
        Cell::Text(t) => Ok(t),
        _ => Err("row with a value of another type"),
    }
}
fn boolean(cell: &Cell<'_>) -> Result<bool, Wrong> {
    match cell {
        Cell::Bool(b) => Ok(*b),
        _ => Err("row with a value of another type"),
    }
}
fn address(cell: &Cell<'_>) -> Result<Addr, Wrong> {
    text(cell)?.parse().map_err(|_| "row with an address that is none")
}

/// What a record's origin could not tell is null.
fn told<'a>(row: &Row<'a>, what: Have, cell: impl FnOnce(&'a Observation) -> Cell<'a>) -> Cell<'a> {
    if row.flow.record.have.has(what) { cell(row.flow) } else { Cell::Null }
}
fn or_null<'a>(value: u64) -> Cell<'a> {
    if value == 0 { Cell::Null } else { Cell::Int(value) }
}
fn word(text: &str) -> Cell<'_> {
    Cell::Text(Cow::Borrowed(text))
}

const fn column(name: &'static str, kind: Kind, nullable: bool, access: Access) -> Column {
    Column { name: Cow::Borrowed(name), kind, nullable, access }
}

/// A column that is read back: name, kind, whether it may be null, the cell of a row, and what a cell sets in a draft.
macro_rules! whole {
    ($name:literal, $kind:ident, $null:ident, $get:expr, $d:ident, $c:ident => $set:expr) => {
        column($name, Kind::$kind, whole!(@$null), Access::Whole(taken!($kind, $get), |$d, $c| {
            $set;
            Ok(())
        }))
    };
    // Null where the origin could not tell.
    ($name:literal, $kind:ident, $have:ident: $cell:expr, $d:ident, $c:ident => $set:expr) => {
        whole!($name, $kind, null, |r| {
            let cell: for<'a> fn(&'a FlowRecord) -> Cell<'a> = $cell;
            told(r, Have::$have, |o| cell(&o.record))
        }, $d, $c => $set)
    };
    (@null) => { true };
    (@never) => { false };
}

macro_rules! total {
    ($name:literal, $have:ident, $side:ident . $field:ident) => {
        whole!($name, U64, $have: |f| Cell::Int(f.$side.$field), d, c => d.flow.record.$side.$field = int(c)?)
    };
}

macro_rules! context {
    ($name:literal, $field:ident) => {
        whole!($name, U32, null, |r| r.flow.record.context.map_or(Cell::Null, |c| Cell::Int(c.$field.into())),
            d, c => d.flow.record.context.get_or_insert_with(Context::default).$field = narrow(c)?)
    };
}

macro_rules! scored {
    ($name:literal, $kind:ident, $get:expr) => {
        column(
            $name,
            Kind::$kind,
            true,
            Access::Shown(taken!($kind, |r| {
                let get: for<'a> fn(&'a Anomaly) -> Cell<'a> = $get;
                r.anomaly.map_or(Cell::Null, get)
            })),
        )
    };
}

/// Sides of the packet statistics: index, and how the columns are called.
const SIDES: [(usize, &str); 2] = [(0, "toserver"), (1, "toclient")];

/// All columns of a flow, in order; with `scored` those of its score as well.
pub(crate) fn columns(scored: bool) -> Vec<Column> {
    let mut all = vec![
        whole!("flow_id", U64, never, |r| Cell::Int(r.flow.record.flow_id), d, c => d.flow.record.flow_id = int(c)?),
        whole!("start", Time, TIME: |f| Cell::Time(f.start_us), d, c => d.flow.record.start_us = int(c)?),
        whole!("end", Time, TIME: |f| Cell::Time(f.end_us), d, c => d.flow.record.end_us = int(c)?),
        whole!("duration_us", U64, DURATION: |f| Cell::Int(f.duration_us()), d, c => d.duration_us = int(c)?),
        whole!("src_ip", Text, ADDRESSES: |f| Cell::Ip(f.client), d, c => d.flow.record.client = address(c)?),
        whole!("src_port", U16, CLIENT_PORT: |f| Cell::Int(f.client_port.into()),
            d, c => d.flow.record.client_port = narrow(c)?),
        whole!("dest_ip", Text, ADDRESSES: |f| Cell::Ip(f.server), d, c => d.flow.record.server = address(c)?),
        whole!("dest_port", U16, SERVER_PORT: |f| Cell::Int(f.server_port.into()),
            d, c => d.flow.record.server_port = narrow(c)?),
        whole!("proto", U8, PROTO: |f| Cell::Int(f.proto.into()), d, c => d.flow.record.proto = narrow(c)?),
        column("proto_name", Kind::Text, true, Access::Shown(taken!(Text, proto))),
        whole!("vlan_outer", U16, null, |r| or_null(r.flow.record.vlan_outer.into()),
            d, c => d.flow.record.vlan_outer = narrow(c)?),
        whole!("vlan_inner", U16, null, |r| or_null(r.flow.record.vlan_inner.into()),
            d, c => d.flow.record.vlan_inner = narrow(c)?),
        column("community_id", Kind::Text, true, Access::Shown(taken!(Text, community))),
        whole!("direction", Text, never, |r| word(r.flow.record.direction.name()),
            d, c => d.flow.record.direction = Direction::from_name(text(c)?).ok_or("row with an unknown direction")?),
        total!("pkts_toserver", PACKETS, fwd.packets),
        total!("pkts_toclient", PACKETS, bwd.packets),
        total!("bytes_toserver", BYTES, fwd.bytes),
        total!("bytes_toclient", BYTES, bwd.bytes),
        total!("payload_toserver", PAYLOAD, fwd.payload),
        total!("payload_toclient", PAYLOAD, bwd.payload),
        whole!("state", Text, STATE: |f| word(f.state.name()),
            d, c => d.flow.record.state = FlowState::from_name(text(c)?).ok_or("row with an unknown state")?),
        whole!("end_reason", Text, never, |r| word(r.flow.record.end_reason.name()),
            d, c => d.flow.record.end_reason = EndReason::from_name(text(c)?).ok_or("row with an unknown end reason")?),
        whole!("proven", Bool, never, |r| Cell::Bool(r.flow.record.proven), d, c => d.flow.record.proven = boolean(c)?),
        whole!("in_iface", Text, null, |r| r.flow.seen_at.as_deref().map_or(Cell::Null, word),
            d, c => d.flow.seen_at = Some(shared(&mut d.words.seen_at, text(c)?))),
        whole!("label", Text, null, |r| r.flow.label.as_deref().map_or(Cell::Null, word),
            d, c => d.flow.label = Some(shared(&mut d.words.label, text(c)?))),
        whole!("sampling", U32, never, |r| Cell::Int(r.flow.sampling.into()), d, c => d.flow.sampling = narrow(c)?),
        whole!("first_record", Bool, never, |r| Cell::Bool(r.flow.record.first_record),
            d, c => d.flow.record.first_record = boolean(c)?),
        whole!("have", U16, never, |r| Cell::Int(r.flow.record.have.bits().into()),
            d, c => d.flow.record.have = Have::from_bits(narrow(c)?)),
        whole!("clock_us", U64, null, clock, d, c => d.clock_us = int(c)?),
        context!("context_flows", flows),
        context!("context_ports", ports),
        context!("context_hosts", hosts),
        context!("context_unanswered", unanswered),
        context!("context_same_service", same_service),
    ];
    if scored {
        all.extend([
            scored!("score", F64, |a| Cell::Real(score(a).into())),
            scored!("p_value", F64, |a| Cell::Real(a.p_value.into())),
            column(
                "is_anomaly",
                Kind::Bool,
                true,
                Access::Shown(taken!(Bool, |r| r.is_anomaly().map_or(Cell::Null, Cell::Bool))),
            ),
            scored!("profile", Text, |a| word(a.profile)),
            scored!("role", Text, |a| Cell::Text(a.role.to_string().into())),
            scored!("p_autoencoder", F64, |a| Cell::Real(a.autoencoder.into())),
            scored!("p_isolation_forest", F64, |a| Cell::Real(a.isolation_forest.into())),
            scored!("actionable", Bool, |a| Cell::Bool(a.actionable)),
            scored!("extrapolated", Bool, |a| Cell::Bool(a.extrapolated)),
            scored!("reasons", Text, |a| Cell::Text(reasons(a).into())),
        ]);
    }
    for (dir, side) in SIDES {
        all.extend(STAT_FIELDS.iter().map(|field| Column {
            name: format!("stats_{side}_{}", field.name).into(),
            kind: if field.narrow { Kind::U32 } else { Kind::U64 },
            nullable: true,
            access: Access::Stat { dir, field },
        }));
    }
    all
}

fn proto<'a>(row: &Row<'a>) -> Cell<'a> {
    told(row, Have::PROTO, |o| Cell::Text(proto_name(o.record.proto)))
}

fn community<'a>(row: &Row<'a>) -> Cell<'a> {
    let all = Have::ADDRESSES.with(Have::CLIENT_PORT).with(Have::SERVER_PORT).with(Have::PROTO);
    told(row, all, |Observation { record: f, .. }| {
        Cell::Text(community_id((f.client, f.client_port), (f.server, f.server_port), f.proto).into())
    })
}

/// The start where it is no time of day.
fn clock<'a>(row: &Row<'a>) -> Cell<'a> {
    let r = &row.flow.record;
    if r.have.has(Have::TIME) { Cell::Null } else { or_null(r.start_us) }
}

/// "distinct ports contacted 47 (usually 1 to 3); ...".
pub(crate) fn reasons(a: &Anomaly) -> String {
    let words: Vec<_> = a.reasons.iter().map(|r| r.words.as_str()).collect();
    words.join("; ")
}
