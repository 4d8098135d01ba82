use super::*;
use crate::sinks::notice::{Head, Kind};
use crate::sinks::settings::Facility;
use crate::tls_client::Trust;

/// Texts that would like to be records of their own.
pub const HOSTILE: [&str; 6] = [
    "a\n<0>1 2024-01-01T00:00:00Z evil weir 1 alert - forged",
    "b\"] [forged@32473 severity=\"high\"] x",
    "c\\\"] d",
    "e\r\n12 <0>1 forged",
    "f\0g\u{7f}\u{85}h\u{2028}",
    "i|j=k CEF:0|Weir|Weir|1|alert|forged|10|",
];

fn notice(reason: &str, line: &str) -> Notice {
    let head = Head {
        time_us: 1_700_000_000_000_000,
        kind: Kind::Alert,
        severity: Severity::High,
        source: "192.0.2.1".into(),
        reason: reason.into(),
        repeated: 2,
    };
    let event = serde_json::json!({ "event_type": "alert", "src_ip": "192.0.2.1", "alert": { "outcome": line } });
    Notice { head, line: line.into(), event: event.to_string() }
}

fn sender(content: Option<Content>) -> Sender {
    let to = Syslog {
        host: "127.0.0.1".into(),
        port: 514,
        transport: Transport::Udp,
        facility: Facility(16),
        trust: Trust::default(),
    };
    Sender::new(to, content, Origin { host: "gate1".into(), interface: None })
}

/// Takes a record of RFC 5424 apart as its grammar says: header words, parameters, message.
fn parse(record: &str) -> (Vec<String>, Vec<(String, String)>, String) {
    let mut rest = record;
    let mut header = Vec::new();
    for _ in 0..6 {
        let (word, behind) = rest.split_once(' ').unwrap();
        header.push(word.to_owned());
        rest = behind;
    }
    let mut chars = rest.strip_prefix('[').unwrap().chars();
    let id: String = chars.by_ref().take_while(|c| *c != ' ').collect();
    assert_eq!(id, SD_ID);
    let mut parameters = Vec::new();
    loop {
        let name: String = chars.by_ref().take_while(|c| *c != '=').collect();
        assert!(name.bytes().all(|b| b.is_ascii_alphabetic()), "{name:?} in {record:?}");
        assert_eq!(chars.next(), Some('"'));
        let mut value = String::new();
        loop {
            match chars.next().unwrap() {
                '\\' => value.push(chars.next().unwrap()),
                '"' => break,
                ']' => panic!("unescaped in {record:?}"),
                c => value.push(c),
            }
        }
        parameters.push((name, value));
        match chars.next().unwrap() {
            ' ' => {}
            ']' => break,
            c => panic!("{c:?} behind a parameter of {record:?}"),
        }
    }
    assert_eq!(chars.next(), Some(' '));
    (header, parameters, chars.collect())
}

#[test]
fn a_record_is_what_the_grammar_says_and_no_text_leaves_its_place() {
    for hostile in HOSTILE {
        for content in [Some(Content::Line), Some(Content::Json), None] {
            let record = sender(content).message(&notice(hostile, hostile));
            assert!(!record.contains(char::is_control), "{record:?}");
            let (header, parameters, message) = parse(&record);
            assert_eq!(header[0], "<130>1");
            assert_eq!(header[1..4], ["2023-11-14T22:13:20.000000Z", "gate1", "weir"]);
            assert_eq!((header[4].as_str(), header[5].as_str()), (std::process::id().to_string().as_str(), "alert"));
            let names: Vec<&str> = parameters.iter().map(|(n, _)| n.as_str()).collect();
            assert_eq!(names, ["severity", "source", "reason", "repeated"]);
            assert_eq!(parameters[0].1, "high");
            assert_eq!(parameters[2].1, hostile.replace(char::is_control, " "));
            match content {
                Some(Content::Json) => {
                    let event: serde_json::Value = serde_json::from_str(&message).unwrap();
                    assert_eq!(event["alert"]["outcome"], hostile, "JSON loses nothing");
                }
                Some(Content::Line) => assert_eq!(message, hostile.replace(char::is_control, " ")),
                None => assert_eq!(cef_fields(&message)["cs1"], as_cef_reads(hostile)),
            }
        }
    }
}

/// Header and extension of a line of CEF, taken apart as ArcSight does.
fn cef_fields(line: &str) -> std::collections::BTreeMap<String, String> {
    let mut parts = vec![String::new()];
    let mut chars = line.chars();
    while parts.len() < 8 {
        match chars.next().unwrap_or_else(|| panic!("{line:?} ends in the header")) {
            '\\' => parts.last_mut().unwrap().push(chars.next().unwrap()),
            '|' => parts.push(String::new()),
            c => parts.last_mut().unwrap().push(c),
        }
    }
    assert_eq!(parts[..3], ["CEF:0", "Weir", "Weir"]);
    assert_eq!((parts[4].as_str(), parts[6].as_str()), ("alert", "9"));
    let extension: String = chars.collect();
    // Keys are what stands before an `=` that is not escaped, back to the space before.
    let bytes = extension.as_bytes();
    let equals: Vec<usize> = (0..bytes.len())
        .filter(|i| bytes[*i] == b'=' && bytes[..*i].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 0)
        .collect();
    let begins: Vec<usize> = equals.iter().map(|e| extension[..*e].rfind(' ').map_or(0, |s| s + 1)).collect();
    let mut fields = std::collections::BTreeMap::new();
    for (i, (begin, equal)) in begins.iter().zip(&equals).enumerate() {
        let end = begins.get(i + 1).map_or(extension.len(), |b| b - 1);
        let mut value = String::new();
        let mut chars = extension[equal + 1..end].chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next().unwrap() {
                    'n' => value.push('\n'),
                    'r' => value.push('\r'),
                    c => value.push(c),
                },
                c => value.push(c),
            }
        }
        assert!(fields.insert(extension[*begin..*equal].to_owned(), value).is_none(), "{line:?}");
    }
    fields
}

fn as_cef_reads(text: &str) -> String {
    let plain = |c: char| match c {
        '\n' | '\r' => c,
        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => ' ',
        c => c,
    };
    text.chars().map(plain).collect()
}

#[test]
fn cef_has_its_fields_and_hostile_texts_add_none() {
    let expected =
        ["act", "cnt", "cs1", "cs1Label", "cs2", "cs2Label", "cs3", "cs3Label", "dvchost", "msg", "rt", "src"];
    for hostile in HOSTILE {
        let line = cef::render(&notice(hostile, hostile), &Origin { host: "gate1".into(), interface: None });
        assert!(!line.contains(char::is_control), "{line:?}");
        let fields = cef_fields(&line);
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        assert_eq!(names, expected, "{line:?}");
        for key in ["msg", "cs1", "act"] {
            assert_eq!(fields[key], as_cef_reads(hostile));
        }
        assert_eq!((fields["src"].as_str(), fields["cnt"].as_str()), ("192.0.2.1", "3"));
    }
}
