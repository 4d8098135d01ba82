//! One JSON object per line.

use std::io::BufRead;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::conn::{Conn, Field};
use crate::report::{Halt, SourceError};
use crate::text::json::{Text, from_line};
use crate::text::lines::each_line;
use crate::text::rows::{Bad, Rows};

/// Numbers are kept as they are written: a time loses nothing on the way through a float.
#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, rename = "_path")]
    path: Option<Text<'a>>,
    #[serde(borrow)]
    ts: Option<&'a RawValue>,
    #[serde(borrow, rename = "id.orig_h", alias = "id_orig_h")]
    orig_h: Option<Text<'a>>,
    #[serde(borrow, rename = "id.orig_p", alias = "id_orig_p")]
    orig_p: Option<&'a RawValue>,
    #[serde(borrow, rename = "id.resp_h", alias = "id_resp_h")]
    resp_h: Option<Text<'a>>,
    #[serde(borrow, rename = "id.resp_p", alias = "id_resp_p")]
    resp_p: Option<&'a RawValue>,
    #[serde(borrow)]
    proto: Option<Text<'a>>,
    #[serde(borrow)]
    ip_proto: Option<&'a RawValue>,
    #[serde(borrow)]
    duration: Option<&'a RawValue>,
    #[serde(borrow)]
    orig_bytes: Option<&'a RawValue>,
    #[serde(borrow)]
    resp_bytes: Option<&'a RawValue>,
    #[serde(borrow)]
    conn_state: Option<Text<'a>>,
    #[serde(borrow)]
    history: Option<Text<'a>>,
    #[serde(borrow)]
    orig_pkts: Option<&'a RawValue>,
    #[serde(borrow)]
    orig_ip_bytes: Option<&'a RawValue>,
    #[serde(borrow)]
    resp_pkts: Option<&'a RawValue>,
    #[serde(borrow)]
    resp_ip_bytes: Option<&'a RawValue>,
    #[serde(borrow)]
    vlan: Option<&'a RawValue>,
    #[serde(borrow)]
    inner_vlan: Option<&'a RawValue>,
    #[serde(borrow)]
    label: Option<Text<'a>>,
    #[serde(borrow, rename = "detailedlabel", alias = "detailed-label", alias = "detailed_label")]
    detail: Option<Text<'a>>,
}

impl Object<'_> {
    fn counts(&self) -> bool {
        self.conn_state.is_some() || self.orig_pkts.is_some() || self.orig_bytes.is_some()
    }

    fn conn(&self) -> Conn<'_> {
        let mut conn = Conn::EMPTY;
        let numbers = [
            (Field::Ts, self.ts),
            (Field::OrigP, self.orig_p),
            (Field::RespP, self.resp_p),
            (Field::IpProto, self.ip_proto),
            (Field::Duration, self.duration),
            (Field::OrigBytes, self.orig_bytes),
            (Field::RespBytes, self.resp_bytes),
            (Field::OrigPkts, self.orig_pkts),
            (Field::OrigIpBytes, self.orig_ip_bytes),
            (Field::RespPkts, self.resp_pkts),
            (Field::RespIpBytes, self.resp_ip_bytes),
            (Field::Vlan, self.vlan),
            (Field::InnerVlan, self.inner_vlan),
        ];
        for (field, value) in numbers {
            conn.set(field, value.map_or(&[], bare));
        }
        let words = [
            (Field::OrigH, &self.orig_h),
            (Field::RespH, &self.resp_h),
            (Field::Proto, &self.proto),
            (Field::ConnState, &self.conn_state),
            (Field::History, &self.history),
            (Field::Label, &self.label),
            (Field::Detail, &self.detail),
        ];
        for (field, value) in words {
            conn.set(field, present(value.as_deref().unwrap_or_default().as_bytes()));
        }
        conn
    }
}

/// A number, or what is between the quotes of a time or number in quotes.
fn bare(value: &RawValue) -> &[u8] {
    let text = value.get().as_bytes();
    present(text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")).unwrap_or(text))
}

fn present(text: &[u8]) -> &[u8] {
    if matches!(text, b"-" | b"(empty)") { &[] } else { text }
}

pub(super) fn read(reader: &mut dyn BufRead, mut rows: Rows<'_>) -> Result<(), Halt> {
    let mut scratch = Vec::new();
    let mut any_conn = false;
    let mut other: Option<String> = None;
    each_line(reader, |line| {
        if !rows.readable(&line) {
            return Ok(());
        }
        rows.report.read += 1;
        let object = match from_line::<Object<'_>>(line.text) {
            Ok(object) => object,
            Err(e) => {
                let reason = if e.is_data() { "JSON that is no connection" } else { "line that is no JSON" };
                rows.leave_out(&line, Bad::new(reason, e.to_string().as_bytes()));
                return Ok(());
            }
        };
        if !object.path.as_deref().is_none_or(|p| p.contains("conn")) || !object.counts() {
            other.get_or_insert_with(|| object.path.as_deref().unwrap_or_default().to_owned());
            rows.leave_out(&line, Bad::new("record of another Zeek log", line.text));
            return Ok(());
        }
        any_conn = true;
        if let Err(bad) = object.conn().hand_on(&mut rows, &mut scratch)? {
            rows.leave_out(&line, bad);
        }
        Ok(())
    })?;
    match other {
        Some(path) if !any_conn => {
            let log = if path.is_empty() { "another log of Zeek's".to_owned() } else { format!("Zeek's log `{path}`") };
            Err(SourceError::Unknown(format!("is {log}; flows are in conn.log")).into())
        }
        _ => Ok(()),
    }
}
