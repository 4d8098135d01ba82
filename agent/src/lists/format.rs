//! Lists as files have them: one target a line, CSV with a header, or JSON. What a line says that is none is counted and named; a
//! file that breaks off is an error as a whole.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, Read};

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use weir_core::addr::Prefix;
use weir_core::decisions::lists::MAX_REASONS;

use super::duration;
use super::range;

/// Bad lines that are named.
pub const NAMED: usize = 5;
/// Entries of one list.
pub const MAX_ENTRIES: usize = 16_000_000;
/// A longer line is none of a list.
const MAX_LINE: u64 = 64 << 10;
/// Characters kept of a reason, and shown of a bad value.
const MAX_REASON: usize = 200;
const SHOWN: usize = 60;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// By what the file begins with.
    #[default]
    Auto,
    Plain,
    Csv,
    Json,
}

impl Form {
    pub const ALL: [(&'static str, Form); 4] =
        [("auto", Form::Auto), ("plain", Form::Plain), ("csv", Form::Csv), ("json", Form::Json)];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub prefix: Prefix,
    /// µs; `None`: it says nothing.
    pub ttl_us: Option<u64>,
    /// It only counts, whatever the list does.
    pub shadow: bool,
    /// Index of its reason.
    pub why: u16,
}

/// A line that is no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Line of a text, number of an entry of JSON.
    pub line: u64,
    pub value: String,
    pub why: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}`: {}", self.line, self.value, self.why)
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub entries: Vec<Entry>,
    /// The first is empty.
    pub reasons: Vec<String>,
    pub bad: u64,
    /// The first of them.
    pub named: Vec<Bad>,
    /// Entries whose time was over.
    pub over: u64,
    known: HashMap<String, u16>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no JSON to its end: {0}")]
    Json(#[from] serde_json::Error),
    #[error("no CSV to its end: {0}")]
    Csv(#[from] csv::Error),
    #[error("no column of the header holds targets; one of {} is needed", TARGET.join(", "))]
    NoTarget,
    #[error("more than {MAX_ENTRIES} entries")]
    TooMany,
    #[error("this is no list: {bad} of its lines are none of one, and {good} are; {first}")]
    NoList { good: usize, bad: u64, first: Bad },
}

const TARGET: [&str; 17] = [
    "target",
    "ip",
    "value",
    "address",
    "cidr",
    "prefix",
    "network",
    "subnet",
    "ip_address",
    "ipaddress",
    "ip_range",
    "range",
    "src_ip",
    "source",
    "source_ip",
    "indicator",
    "start_ip",
];
const END: [&str; 3] = ["end_ip", "end", "last"];
const DURATION: [&str; 4] = ["duration", "ttl", "lifetime", "remaining"];
const EXPIRES: [&str; 4] = ["expires", "expires_at", "expiration", "until"];
const REASON: [&str; 5] = ["reason", "scenario", "comment", "description", "label"];
const ACTION: [&str; 3] = ["action", "type", "remediation"];

impl Default for Parsed {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            reasons: vec![String::new()],
            bad: 0,
            named: Vec::new(),
            over: 0,
            known: HashMap::from([(String::new(), 0)]),
        }
    }
}

/// An entry as it is written.
#[derive(Default)]
struct Raw<'a> {
    target: &'a str,
    end: Option<&'a str>,
    scope: &'a str,
    duration: &'a str,
    expires: &'a str,
    reason: &'a str,
    action: &'a str,
    simulated: bool,
}

impl Parsed {
    /// The index of a reason. Where there are too many, that of none.
    fn why(&mut self, reason: &str) -> u16 {
        if let Some(known) = self.known.get(reason) {
            return *known;
        }
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
        if let Some(known) = self.known.get(&reason) {
            return *known;
        }
        if self.reasons.len() >= MAX_REASONS {
            return 0;
        }
        let at = self.reasons.len() as u16;
        self.reasons.push(reason.clone());
        self.known.insert(reason, at);
        at
    }

    fn bad(&mut self, line: u64, value: &str, why: impl Into<String>) {
        self.bad += 1;
        if self.named.len() < NAMED {
            let value = value.trim().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(SHOWN).collect();
            self.named.push(Bad { line, value, why: why.into() });
        }
    }

    fn take(&mut self, line: u64, raw: &Raw<'_>, now_us: u64) -> Result<(), ReadError> {
        if let Err(why) = self.try_take(raw, now_us) {
            self.bad(line, raw.target, why);
        }
        if self.entries.len() > MAX_ENTRIES { Err(ReadError::TooMany) } else { Ok(()) }
    }

    fn try_take(&mut self, raw: &Raw<'_>, now_us: u64) -> Result<(), String> {
        if !["", "ip", "range", "net", "network"].contains(&raw.scope.to_ascii_lowercase().as_str()) {
            return Err(format!("its scope is {}; only Ip and Range can be enforced", raw.scope));
        }
        let shadow = match raw.action.to_ascii_lowercase().as_str() {
            "" | "drop" | "ban" | "block" | "deny" => raw.simulated,
            "shadow" => true,
            other => return Err(format!("its action is {other}; entries that drop or shadow are taken")),
        };
        let ttl_us = match (raw.duration, raw.expires) {
            ("" | "null", "" | "null") => None,
            ("" | "null", at) => {
                let at: jiff::Timestamp =
                    at.parse().map_err(|_| format!("`{at}` is no time such as 2026-01-31T12:00:00Z"))?;
                Some(at.as_microsecond().saturating_sub_unsigned(now_us))
            }
            (duration, _) => {
                Some(duration::parse(duration).ok_or_else(|| format!("`{duration}` is no length of time"))?)
            }
        };
        if ttl_us.is_some_and(|t| t <= 0) {
            self.over += 1;
            return Ok(());
        }
        let ttl_us = ttl_us.map(i64::unsigned_abs);
        let why = self.why(raw.reason.trim());
        let mut push = |prefix| self.entries.push(Entry { prefix, ttl_us, shadow, why });
        match raw.end {
            Some(end) => range::prefixes(raw.target, end)?.into_iter().for_each(push),
            None => push(target(raw.target)?),
        }
        Ok(())
    }
}

fn target(text: &str) -> Result<Prefix, String> {
    text.parse().map_err(|_| match text.split('/').count() {
        3.. => "lists hold addresses and networks; single ports: `weir decisions add`".to_owned(),
        _ => "is no address and no network".to_owned(),
    })
}

/// Reads a list. `now_us` is the wall clock: some write when an entry ends.
pub fn read(mut reader: impl BufRead, form: Form, now_us: u64) -> Result<Parsed, ReadError> {
    let mut parsed = Parsed::default();
    // A mark of byte order at the beginning says nothing here.
    if reader.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    let mut line = 0;
    let form = match form {
        Form::Auto => recognise(&mut reader, &mut line)?,
        form => form,
    };
    match form {
        Form::Json => json(reader, &mut parsed, now_us)?,
        Form::Csv => csv_rows(reader, &mut parsed, now_us, line)?,
        Form::Plain | Form::Auto => plain(reader, &mut parsed, now_us, line)?,
    }
    match parsed.named.first() {
        // A page that says "busy" is no list with some mistakes.
        Some(first) if parsed.bad > parsed.entries.len() as u64 + parsed.over => {
            Err(ReadError::NoList { good: parsed.entries.len(), bad: parsed.bad, first: first.clone() })
        }
        _ => Ok(parsed),
    }
}

/// Passes over what comes before the first line that says something, and says what that looks like.
fn recognise(reader: &mut impl BufRead, line: &mut u64) -> io::Result<Form> {
    loop {
        let look = reader.fill_buf()?;
        let Some(first) = look.iter().position(|b| !b.is_ascii_whitespace()) else {
            let n = look.len();
            if n == 0 {
                return Ok(Form::Plain);
            }
            *line += look.iter().filter(|b| **b == b'\n').count() as u64;
            reader.consume(n);
            continue;
        };
        match look[first] {
            b'[' | b'{' => return Ok(Form::Json),
            b'n' if look[first..].starts_with(b"null") => return Ok(Form::Json),
            b'#' | b';' => {
                let end = look[first..].iter().position(|b| *b == b'\n').map(|n| first + n + 1);
                let n = end.unwrap_or(look.len());
                let passed = look[..n].iter().filter(|b| **b == b'\n').count() as u64;
                // A comment that goes on beyond what is there.
                let open = end.is_none();
                reader.consume(n);
                *line += passed;
                if open {
                    reader.take(MAX_LINE).skip_until(b'\n')?;
                    *line += 1;
                }
            }
            _ => {
                let text = &look[first..];
                let end = text.iter().position(|b| *b == b'\n').unwrap_or(text.len());
                let header = String::from_utf8_lossy(&text[..end]).to_ascii_lowercase();
                let column = |c: &str| TARGET.contains(&c.trim().trim_matches('"'));
                return Ok(if header.split([',', ';', '\t']).any(column) { Form::Csv } else { Form::Plain });
            }
        }
    }
}

fn plain(mut reader: impl BufRead, parsed: &mut Parsed, now_us: u64, mut line: u64) -> Result<(), ReadError> {
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        line += 1;
        if (&mut reader).take(MAX_LINE).read_until(b'\n', &mut buffer)? == 0 {
            return Ok(());
        }
        if buffer.len() as u64 == MAX_LINE {
            parsed.bad(line, &String::from_utf8_lossy(&buffer), "the line is too long");
            reader.skip_until(b'\n')?;
            continue;
        }
        let text = String::from_utf8_lossy(&buffer);
        let text = text.trim();
        if text.is_empty() || text.starts_with(['#', ';']) {
            continue;
        }
        // What stands behind the target is said about it: a comment, a count.
        let end = text.find(|c: char| c.is_whitespace() || "#;,".contains(c)).unwrap_or(text.len());
        let (first, rest) = text.split_at(end);
        let rest = rest.trim_start();
        let (target, last) = match (first.split_once('-'), rest.strip_prefix('-')) {
            (Some((first, last)), _) if !last.is_empty() => (first, Some(last)),
            (None, Some(last)) => (first, Some(last.trim_start())),
            _ => (first, None),
        };
        let last = last.map(|l| l.split(|c: char| c.is_whitespace() || "#;,".contains(c)).next().unwrap_or(l));
        let raw = Raw { target, end: last, ..Raw::default() };
        parsed.take(line, &raw, now_us)?;
    }
}

fn csv_rows(reader: impl BufRead, parsed: &mut Parsed, now_us: u64, passed: u64) -> Result<(), ReadError> {
    let mut reader = reader;
    let head = reader.fill_buf()?;
    let first = &head[..head.iter().position(|b| *b == b'\n').unwrap_or(head.len())];
    let count = |c: u8| first.iter().filter(|b| **b == c).count();
    let delimiter = [b',', b';', b'\t'].into_iter().max_by_key(|c| (count(*c), *c == b',')).unwrap_or(b',');
    let mut rows = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(reader);
    let header = rows.headers()?.clone();
    let column = |names: &[&str]| {
        names.iter().find_map(|name| header.iter().position(|h| h.trim_matches('"').eq_ignore_ascii_case(name)))
    };
    let target = column(&TARGET).ok_or(ReadError::NoTarget)?;
    let [end, scope, duration, expires, reason, action, simulated] =
        [&END[..], &["scope"], &DURATION, &EXPIRES, &REASON, &ACTION, &["simulated"]].map(column);
    let mut row = csv::StringRecord::new();
    while rows.read_record(&mut row)? {
        let line = passed + row.position().map_or(0, csv::Position::line);
        let field = |at: Option<usize>| at.and_then(|at| row.get(at)).unwrap_or_default();
        // `cscli decisions list -o csv` and others write `Ip:192.0.2.7`.
        let value = field(Some(target));
        let (prefixed, value) = match value.split_once(':') {
            Some((scope, value)) if scope.eq_ignore_ascii_case("ip") || scope.eq_ignore_ascii_case("range") => {
                (scope, value)
            }
            _ => ("", value),
        };
        let scope = if prefixed.is_empty() { field(scope) } else { prefixed };
        let (value, last) = match field(end) {
            "" => value.split_once('-').map_or((value, None), |(a, b)| (a.trim(), Some(b.trim()))),
            end => (value, Some(end)),
        };
        let raw = Raw {
            target: value,
            end: last,
            scope,
            duration: field(duration),
            expires: field(expires),
            reason: field(reason),
            action: field(action),
            simulated: field(simulated) == "true",
        };
        parsed.take(line, &raw, now_us)?;
    }
    Ok(())
}

fn json(reader: impl BufRead, parsed: &mut Parsed, now_us: u64) -> Result<(), ReadError> {
    let mut de = serde_json::Deserializer::from_reader(reader);
    let mut items = Items { parsed, now_us, n: 0, full: false };
    while let Err(e) = de.end() {
        if e.is_io() {
            return Err(ReadError::Io(e.into()));
        }
        items.deserialize_into(&mut de)?;
        if items.full {
            return Err(ReadError::TooMany);
        }
    }
    Ok(())
}

/// Takes each entry as it comes, however many: a list of them, or one on each line.
struct Items<'a> {
    parsed: &'a mut Parsed,
    now_us: u64,
    n: u64,
    full: bool,
}

impl Items<'_> {
    fn deserialize_into<'de, R: serde_json::de::Read<'de>>(
        &mut self,
        de: &mut serde_json::Deserializer<R>,
    ) -> Result<(), serde_json::Error> {
        (&mut *self).deserialize(de)
    }

    fn item(&mut self, value: &Value) {
        let nested = |key: &str| value.get(key).filter(|v| v.is_array());
        // An alert of CrowdSec with its decisions, or an answer of its API.
        if let Some(Value::Array(inner)) = nested("decisions").or_else(|| nested("new")) {
            inner.iter().for_each(|v| self.item(v));
            return;
        }
        self.n += 1;
        let field =
            |names: &[&str]| names.iter().find_map(|n| value.get(n)).and_then(Value::as_str).unwrap_or_default();
        let raw = match value {
            Value::String(target) => Raw { target, ..Raw::default() },
            Value::Object(_) => Raw {
                target: field(&TARGET),
                end: None,
                scope: field(&["scope"]),
                duration: field(&DURATION),
                expires: field(&EXPIRES),
                reason: field(&REASON),
                action: field(&ACTION),
                simulated: value.get("simulated").and_then(Value::as_bool).unwrap_or(false),
            },
            _ => return self.parsed.bad(self.n, &value.to_string(), "is neither a target nor an object with one"),
        };
        if raw.target.is_empty() {
            return self.parsed.bad(
                self.n,
                &value.to_string(),
                format!("names no target: none of {}", TARGET.join(", ")),
            );
        }
        self.full |= self.parsed.take(self.n, &raw, self.now_us).is_err();
    }
}

impl<'de> DeserializeSeed<'de> for &mut Items<'_> {
    type Value = ();
    fn deserialize<D: de::Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Items<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("targets, or objects with them")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, s: &str) -> Result<(), E> {
        self.item(&Value::String(s.to_owned()));
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<Value>()? {
            if !self.full {
                self.item(&value);
            }
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut object = serde_json::Map::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            object.insert(key, value);
        }
        self.item(&Value::Object(object));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
