//! What must never leave the host: keys, tokens and passwords, wherever they turn up.

use std::path::Path;

use serde_json::Value;

use crate::config::Config;
use crate::config::tree::{self, Kind, Node};
use crate::sinks::settings::{Address, Destination};

const REMOVED: &str = "(secret removed)";
/// Shorter ones would take words out that are none.
const SHORTEST: usize = 4;
/// More of a file is no secret of the kind that is meant.
const LARGEST: u64 = 64 << 10;

/// Words before `=` or `:` that say that a secret follows.
const BEFORE: [&str; 9] =
    ["password", "passwd", "passphrase", "secret", "api_key", "apikey", "access_token", "private_key", "authorization"];
/// And names of keys of JSON that hold one.
const KEYS: [&str; 6] = ["token", "resume_token", "csrf", "cookie", "integration_key", "routing_key"];

/// Values that are known to be secret.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// The longest first.
    values: Vec<String>,
}

impl Secrets {
    /// Of the configuration and of the files that it names; `text` is the file, which may be one that cannot be read as a whole.
    pub fn of(config: &Config, text: Option<&str>) -> Self {
        let mut values = Vec::new();
        if let Some(root) = text.and_then(|t| tree::parse(t).ok()) {
            written(&root, "", &mut values);
        }
        values.extend(config.crowdsec.api_key.clone());
        for sink in &config.sinks {
            if let Destination::Webhook(w) = &sink.to
                && let Address::Url(url) = &w.url
            {
                values.extend(parts_of(url));
            }
        }
        for (_, path) in crate::doctor::host::files::secrets(config) {
            values.extend(contents(&path));
        }
        Self::from(values)
    }

    fn from(values: Vec<String>) -> Self {
        let mut values: Vec<_> =
            values.into_iter().map(|v| v.trim().to_owned()).filter(|v| v.len() >= SHORTEST).collect();
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        Self { values }
    }

    pub fn text(&self, text: &str) -> String {
        let mut out = without_keys(text);
        for value in &self.values {
            if out.contains(value.as_str()) {
                out = out.replace(value.as_str(), REMOVED);
            }
        }
        for word in BEFORE {
            out = without_value(&out, word, true);
        }
        out = without_value(&out, "bearer ", false);
        without_users(&out)
    }

    pub fn json(&self, value: Value) -> Value {
        let secret = |key: &str| {
            let key = key.to_ascii_lowercase();
            KEYS.contains(&key.as_str()) || BEFORE.iter().any(|b| key.ends_with(b))
        };
        match value {
            Value::String(s) => Value::String(self.text(&s)),
            Value::Array(all) => all.into_iter().map(|v| self.json(v)).collect(),
            Value::Object(all) => {
                let each = all.into_iter().map(|(k, v)| match v {
                    Value::String(s) if secret(&k) && !s.is_empty() => (k, REMOVED.into()),
                    v => (self.text(&k), self.json(v)),
                });
                Value::Object(each.collect())
            }
            other => other,
        }
    }
}

/// What stands in a configuration under keys that hold secrets, or names of files with secrets; whether it makes sense or not.
fn written(node: &Node, key: &str, values: &mut Vec<String>) {
    match &node.kind {
        Kind::Null => {}
        Kind::List(items) => items.iter().for_each(|i| written(i, key, values)),
        Kind::Map(entries) => entries.iter().for_each(|(k, _, v)| written(v, k, values)),
        Kind::Scalar(value, _) => {
            let secret = BEFORE.iter().chain(&["token"]).any(|b| key.ends_with(b));
            let file = key.ends_with("_file") && key != "ca_file" || key == "key";
            if file && value.starts_with('/') {
                values.extend(contents(Path::new(value)));
            } else if key == "url" {
                values.extend(parts_of(value));
            } else if secret || file {
                values.push(value.clone());
            }
        }
    }
}

/// Of the address of a webhook, the path is secret: as a whole, and what of it looks like a key (not `services` or `v2`).
fn parts_of(url: &str) -> Vec<String> {
    let Some((_, path)) = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')) else { return Vec::new() };
    let looks = |p: &&str| p.len() >= 16 || p.len() >= 8 && p.bytes().any(|b| b.is_ascii_digit());
    let keys = path.split(['/', '?', '&', '=']).filter(looks).map(str::to_owned);
    keys.chain([path.to_owned()]).collect()
}

/// A file's text as a whole, and each of its lines.
fn contents(path: &Path) -> Vec<String> {
    let small = std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= LARGEST);
    let Ok(text) = (if small { std::fs::read_to_string(path) } else { Ok(String::new()) }) else { return Vec::new() };
    let lines = text.lines().filter(|l| !l.starts_with("-----"));
    let mut all: Vec<_> = lines.map(str::to_owned).collect();
    let urls: Vec<_> = all.iter().flat_map(|l| parts_of(l)).collect();
    all.extend(urls);
    all.push(text);
    all
}

/// Without private keys in PEM.
pub fn without_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let label_end = rest[at + BEGIN.len()..].find("-----").map(|n| at + BEGIN.len() + n);
        let private = label_end.is_some_and(|end| rest[at..end].ends_with("PRIVATE KEY"));
        let Some(end) = label_end.filter(|_| private) else {
            out.push_str(&rest[..at + BEGIN.len()]);
            rest = &rest[at + BEGIN.len()..];
            continue;
        };
        out.push_str(&rest[..at]);
        out.push_str(REMOVED);
        let behind = &rest[end + 5..];
        rest = match behind.find("-----END ").and_then(|n| behind[n + 9..].find("-----").map(|m| n + 9 + m + 5)) {
            Some(n) => &behind[n..],
            // It was cut off: so is what follows.
            None => "",
        };
    }
    out + rest
}

/// Takes away what follows a word, behind `=` or `:` where `assigned`.
fn without_value(text: &str, word: &str, assigned: bool) -> String {
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(at) = lower[from..].find(word).map(|n| from + n + word.len()) {
        let rest = &text[at..];
        let mut value = rest;
        if assigned {
            value = value.trim_start_matches(['"', '\'', '\\', ' ']);
            match value.strip_prefix(['=', ':']) {
                Some(behind) => value = behind.trim_start_matches(['"', '\'', '\\', ' ']),
                None => {
                    out.push_str(&text[from..at]);
                    from = at;
                    continue;
                }
            }
        }
        // The scheme is no secret, and what follows it is.
        for scheme in ["bearer ", "basic "] {
            if word == "authorization" && value.get(..scheme.len()).is_some_and(|v| v.eq_ignore_ascii_case(scheme)) {
                value = value[scheme.len()..].trim_start();
            }
        }
        let begin = at + (rest.len() - value.len());
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | ',' | '}' | ']');
        let len = value.find(ends).unwrap_or(value.len());
        out.push_str(&text[from..begin]);
        // What was removed already, or says that there is none.
        if len < SHORTEST || value.starts_with('(') {
            out.push_str(&value[..len]);
        } else {
            out.push_str(REMOVED);
        }
        from = begin + len;
    }
    out + &text[from..]
}

/// `scheme://user:password@host`.
fn without_users(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://").map(|n| n + 3) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | ',')).unwrap_or(rest.len());
        if let Some(user) = rest[..end].rfind('@') {
            out.push_str(REMOVED);
            rest = &rest[user..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_to_be_secret_or_is_said_to_be_goes_wherever_it_stands() {
        let secrets = Secrets::from(vec!["hunter2-known".into(), "abc".into()]);
        for (text, gone) in [
            ("x hunter2-known y", "hunter2"),
            ("password=swordfish next", "swordfish"),
            ("{\"api_key\": \"swordfish\", \"n\": 1}", "swordfish"),
            ("Authorization: Bearer swordfish", "swordfish"),
            ("curl -H 'authorization: basic swordfish'", "swordfish"),
            ("http://me:swordfish@host/x", "swordfish"),
            ("a -----BEGIN EC PRIVATE KEY-----\nswordfish\n-----END EC PRIVATE KEY----- b", "swordfish"),
            ("-----BEGIN PRIVATE KEY-----\nswordfish", "swordfish"),
        ] {
            let out = secrets.text(text);
            assert!(!out.contains(gone) && out.contains(REMOVED), "{text} -> {out}");
        }
        let json =
            serde_json::json!({ "token": "swordfish", "client_secret": "swordfish", "why": ["hunter2-known", 3] });
        let out = secrets.json(json).to_string();
        assert!(!out.contains("swordfish") && !out.contains("hunter2"), "{out}");
    }

    #[test]
    fn a_configuration_that_makes_no_sense_hides_its_secrets_as_well() {
        let text = "crowdsec: {api_key: swordfish1, nonsense: 3}\nsinks: [{token_file: swordfish2}]\nmode: plainword\n";
        let secrets = Secrets::of(&Config::default(), Some(text));
        assert_eq!(secrets.text("swordfish1 swordfish2 plainword"), format!("{REMOVED} {REMOVED} plainword"));
    }

    #[test]
    fn a_key_of_a_webhook_goes_without_its_path_as_well() {
        assert_eq!(parts_of("https://h/services/T0AB12CD3/x"), ["T0AB12CD3", "services/T0AB12CD3/x"]);
    }

    #[test]
    fn what_is_no_secret_stays() {
        let secrets = Secrets::from(vec!["abc".into()]);
        for text in [
            "abc is too short to be taken for one",
            "secret_file: /etc/weir/hook.secret",
            "api_key: (set, not shown)",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "http://127.0.0.1:8080/v1",
            "password guessing on port 22",
        ] {
            assert_eq!(secrets.text(text), text);
        }
    }
}
