//! Which interfaces are watched: names, shell-style patterns, and what is left out again.

use std::fmt;

use glob::Pattern;

use super::Config;
use super::setting::{Item, Shown, Word};
use super::tree::{Kind, Node};

/// Bytes of a name (IFNAMSIZ with its terminating zero).
const MAX_NAME: usize = 15;
/// Bytes of a pattern: classes such as `[0-9]` make it longer than what it matches.
const MAX_PATTERN: usize = 64;

/// `eth0`, `veth*`, `!veth-lab*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    text: String,
    excludes: bool,
    pattern: Pattern,
}

impl Selector {
    /// It names one interface.
    fn outright(&self) -> bool {
        !self.excludes && !self.text.contains(['*', '?', '['])
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for Selector {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.strip_prefix('!').unwrap_or(text);
        let excludes = wanted.len() < text.len();
        let plain = !wanted.contains(['*', '?', '[']);
        if wanted.is_empty() || wanted.contains(['/', ' ']) || wanted.contains(char::is_control) {
            return Err(format!("`{text}` is no interface name: at most {MAX_NAME} bytes, without `/` and spaces"));
        }
        if wanted.len() > if plain { MAX_NAME } else { MAX_PATTERN } {
            return Err(format!("`{text}` is no interface name: at most {MAX_NAME} bytes, without `/` and spaces"));
        }
        let pattern = Pattern::new(wanted).map_err(|e| {
            format!(
                "`{text}` is no pattern of interface names: {} at {}; such are eth*, veth?, enp[0-9]s0",
                e.msg, e.pos
            )
        })?;
        Ok(Self { text: text.to_owned(), excludes, pattern })
    }
}

impl Word for Selector {
    const EXPECTED: &'static str = "the name of an interface or a pattern such as eth0, veth* or !veth-lab*";
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
    }
    fn word(&self) -> String {
        self.text.clone()
    }
}

impl Item for Selector {
    fn item(node: &Node, path: &str, problems: &mut Vec<super::Problem>) -> Option<Self> {
        let read = match &node.kind {
            Kind::Scalar(text, _) => Self::parse(text),
            _ => Err(format!("expected {}, found {}", Self::EXPECTED, node.describe())),
        };
        read.map_err(|message| problems.push(super::Problem::new(node.at, path, message))).ok()
    }
    fn show_item(&self) -> Shown {
        Shown::Scalar(self.word())
    }
}

/// Everything that is to be watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection(Vec<Selector>);

impl Selection {
    /// Nothing is to be watched.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|s| s.excludes)
    }

    /// Those that are named outright, and must be there.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|s| s.outright()).map(|s| s.text.as_str())
    }

    /// There may be more than those.
    pub fn has_patterns(&self) -> bool {
        self.0.iter().any(|s| !s.excludes && !s.outright())
    }

    /// The interface, where it is one and will be no other.
    pub fn sole(&self) -> Option<&str> {
        match self.0.as_slice() {
            [one] if one.outright() => Some(&one.text),
            _ => None,
        }
    }

    /// Whether an interface of this name is to be watched. Loopback is where it is named outright alone.
    pub fn wants(&self, name: &str, loopback: bool) -> bool {
        let named = self.names().any(|n| n == name);
        let matches = |s: &&Selector| s.pattern.matches(name);
        let mut matched = self.0.iter().filter(|s| !s.excludes).filter(matches);
        (named || (!loopback && matched.next().is_some())) && !self.excludes(name)
    }

    /// Whether it is left out, whatever else matches it.
    pub fn excludes(&self, name: &str) -> bool {
        self.0.iter().any(|s| s.excludes && s.pattern.matches(name))
    }
}

/// `eth0, veth* but not veth-lab*`.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |excludes: bool| -> Vec<&str> {
            let of = self.0.iter().filter(|s| s.excludes == excludes);
            of.map(|s| s.text.trim_start_matches('!')).collect()
        };
        let (wanted, left_out) = (listed(false), listed(true));
        f.write_str(&wanted.join(", "))?;
        if left_out.is_empty() { Ok(()) } else { write!(f, " but not {}", left_out.join(", ")) }
    }
}

impl Config {
    /// `interface` and `interfaces` together.
    pub fn watched(&self) -> Selection {
        let short = self.interface.iter().filter_map(|text| text.parse().ok());
        let mut all: Vec<Selector> = Vec::new();
        for selector in short.chain(self.interfaces.iter().cloned()) {
            if !all.contains(&selector) {
                all.push(selector);
            }
        }
        Selection(all)
    }

    /// What `weir run -i` says goes before the file.
    pub fn watch(&mut self, selectors: &[Selector]) {
        (self.interface, self.interfaces) = match selectors {
            [one] => (Some(one.to_string()), Vec::new()),
            several => (None, several.to_vec()),
        };
    }
}

/// Whether there is anything in a list but what is left out.
#[expect(clippy::ptr_arg, reason = "the table of keys gives what it has read")]
pub(super) fn some_wanted(selectors: &Vec<Selector>) -> Result<(), String> {
    if !selectors.is_empty() && selectors.iter().all(|s| s.excludes) {
        return Err("only leaves interfaces out; name one to be watched, or a pattern such as eth*".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(texts: &[&str]) -> Selection {
        Selection(texts.iter().map(|t| t.parse().unwrap()).collect())
    }

    #[test]
    fn names_patterns_and_what_is_left_out() {
        let s = selection(&["eth0", "veth*", "!veth-lab*"]);
        let wanted: Vec<_> =
            ["eth0", "eth1", "veth0", "veth-lab7", "lo"].into_iter().filter(|n| s.wants(n, *n == "lo")).collect();
        assert_eq!(wanted, ["eth0", "veth0"]);
        assert_eq!((s.names().collect::<Vec<_>>(), s.has_patterns(), s.sole()), (vec!["eth0"], true, None));
        assert_eq!(s.to_string(), "eth0, veth* but not veth-lab*");
        assert_eq!(selection(&["eth0"]).sole(), Some("eth0"));
        // Everything is every interface that leads anywhere.
        assert!(!selection(&["*"]).wants("lo", true) && selection(&["lo"]).wants("lo", true));
        assert!(selection(&["!eth0"]).is_empty());
    }

    #[test]
    fn what_is_no_name_is_refused_with_what_is() {
        for (text, why) in [
            ("a-name-that-is-too-long", "at most 15 bytes"),
            ("a/b", "without `/`"),
            ("!", "is no interface name"),
            ("eth[0", "is no pattern"),
        ] {
            let e = text.parse::<Selector>().unwrap_err();
            assert!(e.contains(why), "{e}");
        }
    }
}
