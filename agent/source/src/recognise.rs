//! Which format the first bytes of an input show.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::input::Format;
use crate::report::SourceError;
use crate::text::fields::Cutter;

/// The format of an input that begins with `head` (decompressed; up to 64 KiB of it).
pub fn recognise(head: &[u8]) -> Result<Format, SourceError> {
    let found = match head {
        [] => return Err(SourceError::Unknown("is empty".into())),
        [0xa1, 0xb2, 0xc3 | 0x3c, 0xd4 | 0x4d, ..] | [0xd4 | 0x4d, 0xc3 | 0x3c, 0xb2, 0xa1, ..] => Some(Format::Pcap),
        [0x0a, 0x0d, 0x0d, 0x0a, ..] => Some(Format::PcapNg),
        [b'P', b'A', b'R', b'1', ..] => Some(Format::WeirParquet),
        _ => text(head).or_else(|| length_before_netflow(head)),
    };
    found.ok_or_else(|| {
        let names: Vec<_> = Format::ALL.iter().map(|(_, n)| *n).collect();
        SourceError::Unknown(format!("is none of the formats {} (name one with --format)", names.join(", ")))
    })
}

/// What the first lines are: directives of Zeek, objects, a header row, or rows of the one set that has no header.
fn text(head: &[u8]) -> Option<Format> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    match head.first()? {
        b'#' => {
            let directives: [&[u8]; 6] =
                [b"#separator", b"#set_separator", b"#empty_field", b"#unset_field", b"#path", b"#fields"];
            directives.iter().any(|d| head.starts_with(d)).then_some(Format::ZeekTsv)
        }
        b'{' => objects(head),
        _ => {
            let line = head.split(|b| *b == b'\n').next()?;
            let mut cutter = Cutter::comma();
            let row = cutter.cut(line.strip_suffix(b"\r").unwrap_or(line)).ok()?;
            if crate::cic::is_header(&row) {
                Some(Format::CicIds2017)
            } else if crate::unsw::is_header(&row) || crate::unsw::is_raw_row(&row) {
                Some(Format::UnswNb15)
            } else {
                row.iter().any(|name| name == b"id.orig_h").then_some(Format::ZeekCsv)
            }
        }
    }
}

/// The keys that tell one kind of JSON lines from another.
#[derive(Deserialize)]
struct Keys<'a> {
    #[serde(borrow)]
    event_type: Option<Cow<'a, str>>,
    #[serde(rename = "id.orig_h", alias = "id_orig_h")]
    orig_h: Option<IgnoredAny>,
    flow: Option<FlowKeys>,
}

#[derive(Deserialize)]
struct FlowKeys {
    end_reason: Option<IgnoredAny>,
}

/// Weir's lines look like Suricata's, but for why a flow ended: the first flow decides, or else the first event that only
/// one of the two has.
fn objects(head: &[u8]) -> Option<Format> {
    let mut so_far = None;
    for line in head.split(|b| *b == b'\n') {
        if crate::own::is_ours(line) {
            return Some(Format::WeirJson);
        }
        // A broken line, and a last one that the look ends in, tell nothing.
        let Ok(keys) = serde_json::from_slice::<Keys<'_>>(line) else { continue };
        match keys.event_type.as_deref() {
            None if keys.orig_h.is_some() => return Some(Format::ZeekJson),
            None => {}
            Some("flow") if keys.flow.is_some_and(|f| f.end_reason.is_some()) => return Some(Format::WeirJson),
            Some("flow" | "netflow") => return Some(Format::Eve),
            Some("source" | "decision" | "hits" | "agent") => so_far = so_far.or(Some(Format::WeirJson)),
            // Both have alerts.
            Some("alert") => {}
            Some(_) => so_far = so_far.or(Some(Format::Eve)),
        }
    }
    so_far.or_else(|| memchr::memmem::find(head, b"\"event_type\"").map(|_| Format::Eve))
}

/// A length that fits, and behind it version 5, 9 or 10.
fn length_before_netflow(head: &[u8]) -> Option<Format> {
    let [a, b, c, d, 0, version, ..] = *head else { return None };
    let length = u32::from_be_bytes([a, b, c, d]);
    ((4..=65_535).contains(&length) && matches!(version, 5 | 9 | 10)).then_some(Format::NetFlow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(head: &str) -> Option<Format> {
        recognise(head.as_bytes()).ok()
    }

    #[test]
    fn text_is_recognised_by_what_it_says() {
        assert_eq!(is("#separator \\x09\n#fields\tts\n"), Some(Format::ZeekTsv));
        assert_eq!(is("\u{feff}\t#separator \\x09\n"), Some(Format::ZeekTsv));
        assert_eq!(is("#fields ts uid\n"), Some(Format::ZeekTsv));
        assert_eq!(is("# a remark\n1 2 3\n"), None);
        assert_eq!(is("{\"ts\":1.5,\"id.orig_h\":\"10.0.0.1\"}\n"), Some(Format::ZeekJson));
        assert_eq!(is("{\"a\":1}\n"), None);
        assert_eq!(is("ts,uid,id.orig_h,id.orig_p\n"), Some(Format::ZeekCsv));
        assert_eq!(is("\"ts\",\"uid\",\"id.orig_h\"\r\n"), Some(Format::ZeekCsv));
        assert_eq!(is(" Flow Duration, Total Fwd Packets,Flow Bytes/s, Label\n"), Some(Format::CicIds2017));
        assert_eq!(is("id,dur,proto,service,state,spkts,dpkts,sbytes,dbytes,label\n"), Some(Format::UnswNb15));
        assert_eq!(is("a,b,c\n1,2,3\n"), None);
        assert_eq!(is("Lorem ipsum dolor sit amet\n"), None);
        assert_eq!(is(" \n\n"), None);
    }

    #[test]
    fn weirs_own_lines_are_told_from_suricatas() {
        let weir = r#"{"event_type":"flow","flow_id":1,"flow":{"pkts_toserver":1,"end_reason":"idle"}}"#;
        let eve = r#"{"event_type":"flow","flow_id":1,"flow":{"pkts_toserver":1,"reason":"timeout"}}"#;
        let alert = r#"{"event_type":"alert","flow":{"pkts_toserver":1}}"#;
        let stats = r#"{"event_type":"stats","stats":{}}"#;
        let decision = r#"{"event_type":"decision"}"#;
        assert_eq!(is(weir), Some(Format::WeirJson));
        assert_eq!(is(eve), Some(Format::Eve));
        assert_eq!(is(&format!("{alert}\n{weir}\n")), Some(Format::WeirJson));
        assert_eq!(is(&format!("{stats}\n{alert}\n{eve}\n")), Some(Format::Eve));
        assert_eq!(is(stats), Some(Format::Eve));
        assert_eq!(is(decision), Some(Format::WeirJson));
        assert_eq!(is(alert), Some(Format::Eve));
        assert_eq!(is(&format!("{{broken\n{eve}\n{{\"event_type\":\"fl")), Some(Format::Eve));
    }
}
