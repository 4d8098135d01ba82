//! Rows of what happened: how they are written, and read again.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;
use weir_core::addr::{Addr, Prefix};
use weir_core::decision::{Decision, Target};
use weir_core::record::TimeUs;
use weir_core::render::Rfc3339;

use crate::command::{AlertReport, EvidencePoint};

/// One row.
#[derive(Clone, Debug)]
pub enum Row {
    Alert(Box<AlertReport>),
    /// Evidence went on behind an alert.
    Course {
        alert_id: u64,
        point: EvidencePoint,
    },
    History(Box<Happened>),
    Audit(Audited),
    Evidence(Box<Proof>),
}

/// Something that happened to a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    pub time_us: TimeUs,
    /// "added", "enforced", "extended", "expired", "deleted", "superseded", "refused".
    pub change: String,
    pub decision: Decision,
    pub mode: String,
    pub note: String,
    /// Packets and bytes that its entry had met until then, where that is known.
    pub hits: Option<[u64; 2]>,
}

/// A call that changes something, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Audited {
    pub time_us: TimeUs,
    /// Who called, in words.
    pub caller: String,
    /// Which call: "decisions add".
    pub call: String,
    /// What about.
    pub subject: String,
    pub ok: bool,
    /// What came of it, in words.
    pub result: String,
}

/// The evidence behind an alert or a decision, as one document.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    pub time_us: TimeUs,
    pub source: String,
    pub alert_id: Option<u64>,
    pub decision_id: Option<u64>,
    pub body: String,
}

/// A line of `weir decisions history`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HistoryLine {
    pub time: Rfc3339,
    pub decision_id: u64,
    pub change: String,
    pub target: String,
    pub action: String,
    pub origin: String,
    pub mode: String,
    pub expires: Option<Rfc3339>,
    pub packets: Option<u64>,
    pub bytes: Option<u64>,
    pub reason: String,
    pub note: String,
    pub alert_id: Option<u64>,
}

/// A line of `weir audit list`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditLine {
    pub time: Rfc3339,
    pub caller: String,
    pub call: String,
    pub subject: String,
    pub ok: bool,
    pub result: String,
}

/// A line of `weir evidence list`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProofLine {
    pub id: u64,
    pub time: Rfc3339,
    pub source: String,
    pub alert_id: Option<u64>,
    pub decision_id: Option<u64>,
    pub bytes: u64,
}

/// Which evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Id(u64),
    Alert(u64),
    Decision(u64),
}

impl std::str::FromStr for Which {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let number =
            |n: &str| n.parse::<u64>().map_err(|_| format!("`{s}` is no evidence: a number, alert:N or decision:N"));
        match s.split_once(':') {
            Some(("alert", n)) => number(n).map(Which::Alert),
            Some(("decision", n)) => number(n).map(Which::Decision),
            _ => number(s).map(Which::Id),
        }
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Which::Id(n) => write!(f, "{n}"),
            Which::Alert(n) => write!(f, "alert:{n}"),
            Which::Decision(n) => write!(f, "decision:{n}"),
        }
    }
}

fn json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
}

/// Times and counts fit: 2^63 µs are 292,000 years.
fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Row {
    /// Memory that it takes while it waits, bytes, roughly.
    pub fn size(&self) -> usize {
        let own = size_of::<Self>();
        own + match self {
            Row::Alert(a) => size_of::<AlertReport>() + a.json.len() + 200 * a.reasons.len(),
            Row::Course { .. } => 0,
            Row::History(h) => size_of::<Happened>() + h.decision.reason.len() + h.note.len(),
            Row::Audit(a) => a.caller.len() + a.call.len() + a.subject.len() + a.result.len(),
            Row::Evidence(p) => size_of::<Proof>() + p.body.len(),
        }
    }

    /// What an operator reads in the status when it could not be written.
    pub fn lost_as(&self) -> &'static str {
        match self {
            Row::Alert(_) | Row::Course { .. } => "alerts not stored",
            Row::History(_) => "history of decisions not stored",
            Row::Audit(_) => "audit of calls not stored",
            Row::Evidence(_) => "evidence not stored",
        }
    }

    pub fn write(&self, to: &Transaction<'_>) -> rusqlite::Result<()> {
        match self {
            Row::Alert(a) => {
                to.prepare_cached("INSERT OR REPLACE INTO alert VALUES (?1, ?2, ?3, ?4)")?.execute(params![
                    int(a.id),
                    int(a.time_us),
                    a.source.0,
                    json(&AlertReport { history: Vec::new(), ..(**a).clone() })?
                ])?;
                a.history.iter().try_for_each(|p| course(to, a.id, p))
            }
            Row::Course { alert_id, point } => course(to, *alert_id, point),
            Row::History(h) => {
                let d = &h.decision;
                to.prepare_cached(
                    "INSERT INTO history (time_us, decision_id, change, target, mode, note, packets, bytes, body) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![
                    int(h.time_us),
                    int(d.id),
                    h.change,
                    d.target.to_string(),
                    h.mode,
                    h.note,
                    h.hits.map(|h| int(h[0])),
                    h.hits.map(|h| int(h[1])),
                    json(d)?
                ])
                .map(drop)
            }
            Row::Audit(a) => to
                .prepare_cached(
                    "INSERT INTO audit (time_us, caller, call, subject, ok, result) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![int(a.time_us), a.caller, a.call, a.subject, a.ok, a.result])
                .map(drop),
            Row::Evidence(p) => to
                .prepare_cached(
                    "INSERT INTO evidence (time_us, source, alert_id, decision_id, body) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![int(p.time_us), p.source, p.alert_id.map(int), p.decision_id.map(int), p.body])
                .map(drop),
        }
    }
}

fn course(to: &Transaction<'_>, alert_id: u64, p: &EvidencePoint) -> rusqlite::Result<()> {
    to.prepare_cached("INSERT OR REPLACE INTO course VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![int(alert_id), int(p.time_us), p.all, p.proven])
        .map(drop)
}

fn alert(db: &Connection, body: &str) -> rusqlite::Result<Option<AlertReport>> {
    // One that cannot be read any more is left out: the rest is worth showing.
    let Ok(mut a) = serde_json::from_str::<AlertReport>(body) else { return Ok(None) };
    let mut points =
        db.prepare_cached("SELECT time_us, evidence, proven FROM course WHERE alert_id = ?1 ORDER BY time_us")?;
    let points = points.query_map([int(a.id)], |r| {
        Ok(EvidencePoint { time_us: r.get::<_, i64>(0)? as u64, all: r.get(1)?, proven: r.get(2)? })
    })?;
    a.history = points.collect::<Result<_, _>>()?;
    Ok(Some(a))
}

pub fn get_alert(db: &Connection, id: u64) -> rusqlite::Result<Option<AlertReport>> {
    let body = db.query_row("SELECT body FROM alert WHERE id = ?1", [int(id)], |r| r.get::<_, String>(0)).optional()?;
    body.map_or(Ok(None), |b| alert(db, &b))
}

/// The latest first.
pub fn alerts(
    db: &Connection,
    within: Option<Prefix>,
    since_us: TimeUs,
    limit: usize,
) -> rusqlite::Result<Vec<AlertReport>> {
    let mut found = Vec::new();
    let (low, high) = within.map_or(([0; 16], [0xff; 16]), |p| (p.addr().0, last_of(p).0));
    let mut rows = db.prepare_cached(
        "SELECT body FROM alert WHERE source BETWEEN ?1 AND ?2 AND time_us >= ?3 ORDER BY id DESC LIMIT ?4",
    )?;
    let mut rows = rows.query(params![low, high, int(since_us), i64::try_from(limit).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        found.extend(alert(db, &row.get::<_, String>(0)?)?);
    }
    Ok(found)
}

/// The last address of a prefix.
fn last_of(p: Prefix) -> Addr {
    let mut bytes = p.addr().0;
    let bits = usize::from(p.len()) + if p.is_v4() { 96 } else { 0 };
    for bit in bits..128 {
        bytes[bit / 8] |= 0x80 >> (bit % 8);
    }
    Addr(bytes)
}

/// What happened to decisions on targets within `within`, or on exactly that target; the latest first.
pub fn history(
    db: &Connection,
    target: Option<Target>,
    since_us: TimeUs,
    limit: usize,
) -> rusqlite::Result<Vec<HistoryLine>> {
    let of = |text: &str| match target {
        None => true,
        Some(wanted) => text.parse::<Target>().is_ok_and(|t| covers(wanted, t)),
    };
    let mut lines = Vec::new();
    let mut rows = db.prepare_cached(
        "SELECT time_us, change, target, mode, note, packets, bytes, body FROM history WHERE time_us >= ?1 \
         ORDER BY seq DESC",
    )?;
    let mut rows = rows.query([int(since_us)])?;
    while let Some(row) = rows.next()?
        && lines.len() < limit
    {
        let target: String = row.get(2)?;
        if !of(&target) {
            continue;
        }
        let Ok(d) = serde_json::from_str::<Decision>(&row.get::<_, String>(7)?) else { continue };
        let word = |v: serde_json::Result<serde_json::Value>| {
            v.ok().and_then(|v| Some(v.as_str()?.to_owned())).unwrap_or_default()
        };
        lines.push(HistoryLine {
            time: Rfc3339(row.get::<_, i64>(0)? as u64),
            decision_id: d.id,
            change: row.get(1)?,
            target,
            action: word(serde_json::to_value(d.action)),
            origin: word(serde_json::to_value(d.origin)),
            mode: row.get(3)?,
            expires: d.expires_us.map(Rfc3339),
            packets: row.get::<_, Option<i64>>(5)?.map(|n| n as u64),
            bytes: row.get::<_, Option<i64>>(6)?.map(|n| n as u64),
            reason: d.reason,
            note: row.get(4)?,
            alert_id: d.alert_id,
        });
    }
    Ok(lines)
}

fn covers(wanted: Target, t: Target) -> bool {
    match wanted {
        Target::Net(p) => p.overlaps(t.prefix()) && p.len() <= t.prefix().len(),
        exactly => exactly == t,
    }
}

/// The latest first.
pub fn audit(db: &Connection, since_us: TimeUs, limit: usize) -> rusqlite::Result<Vec<AuditLine>> {
    let mut rows = db.prepare_cached(
        "SELECT time_us, caller, call, subject, ok, result FROM audit WHERE time_us >= ?1 ORDER BY seq DESC LIMIT ?2",
    )?;
    let rows = rows.query_map(params![int(since_us), i64::try_from(limit).unwrap_or(i64::MAX)], |r| {
        Ok(AuditLine {
            time: Rfc3339(r.get::<_, i64>(0)? as u64),
            caller: r.get(1)?,
            call: r.get(2)?,
            subject: r.get(3)?,
            ok: r.get(4)?,
            result: r.get(5)?,
        })
    })?;
    rows.collect()
}

/// The latest first.
pub fn proofs(db: &Connection, since_us: TimeUs, limit: usize) -> rusqlite::Result<Vec<ProofLine>> {
    let mut rows = db.prepare_cached(
        "SELECT id, time_us, source, alert_id, decision_id, length(body) FROM evidence WHERE time_us >= ?1 \
         ORDER BY id DESC LIMIT ?2",
    )?;
    let rows = rows.query_map(params![int(since_us), i64::try_from(limit).unwrap_or(i64::MAX)], |r| {
        let id = |n| Ok::<_, rusqlite::Error>(r.get::<_, Option<i64>>(n)?.map(|n| n as u64));
        Ok(ProofLine {
            id: r.get::<_, i64>(0)? as u64,
            time: Rfc3339(r.get::<_, i64>(1)? as u64),
            source: r.get(2)?,
            alert_id: id(3)?,
            decision_id: id(4)?,
            bytes: r.get::<_, i64>(5)? as u64,
        })
    })?;
    rows.collect()
}

/// The document; of several about one alert or decision the first: what led to it.
pub fn proof(db: &Connection, which: Which) -> rusqlite::Result<Option<String>> {
    let (column, n) = match which {
        Which::Id(n) => ("id", n),
        Which::Alert(n) => ("alert_id", n),
        Which::Decision(n) => ("decision_id", n),
    };
    db.query_row(&format!("SELECT body FROM evidence WHERE {column} = ?1 ORDER BY id LIMIT 1"), [int(n)], |r| r.get(0))
        .optional()
}
