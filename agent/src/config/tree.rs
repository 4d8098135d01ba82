//! YAML as a tree that remembers where everything stood.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// A place in the file: line and column, both counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub line: usize,
    pub column: usize,
}

impl From<Span> for At {
    fn from(span: Span) -> Self {
        At { line: span.start.line(), column: span.start.col() + 1 }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub at: At,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Nothing written: the default holds.
    Null,
    /// The text, and whether it was quoted.
    Scalar(String, bool),
    List(Vec<Node>),
    /// Keys with their places, in the order written.
    Map(Vec<(String, At, Node)>),
}

impl Node {
    /// Whether this is a mapping with a mapping under `name`.
    pub fn has_section(&self, name: &str) -> bool {
        let Kind::Map(entries) = &self.kind else { return false };
        entries.iter().any(|(n, _, v)| n == name && matches!(v.kind, Kind::Map(_)))
    }

    /// Where the key of a path such as `policy.rules[2].name` stands, or the nearest around it that is written.
    pub fn place(&self, path: &str) -> At {
        let mut at = self.at;
        let mut node = self;
        for part in path.split(['.', '[']).filter(|p| !p.is_empty()) {
            let below = match (&node.kind, part.strip_suffix(']').and_then(|n| n.parse::<usize>().ok())) {
                (Kind::List(items), Some(i)) => items.get(i).map(|n| (n.at, n)),
                (Kind::Map(entries), None) => entries.iter().find(|(k, ..)| k == part).map(|(_, at, n)| (*at, n)),
                _ => None,
            };
            let Some(found) = below else { break };
            (at, node) = found;
        }
        at
    }

    /// What it is, for messages.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".into(),
            Kind::Scalar(s, _) => format!("`{s}`"),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a mapping".into(),
        }
    }
}

/// Deeper than any configuration; keeps crafted files from exhausting the stack.
const MAX_DEPTH: usize = 32;

/// An unfinished collection.
enum Open {
    List(At, Vec<Node>),
    Map(At, Vec<(String, At, Node)>, Option<(String, At)>),
}

/// Reads one document. An error is where the text stops being YAML that we take.
pub fn parse(text: &str) -> Result<Node, (At, String)> {
    let mut stack: Vec<Open> = Vec::new();
    let mut root = Node { at: At { line: 1, column: 1 }, kind: Kind::Null };
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| {
            let at = At { line: e.marker().line(), column: e.marker().col() + 1 };
            (at, format!("this is not valid YAML: {}", e.info()))
        })?;
        let at = At::from(span);
        let done = match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err((at, "a second document starts here; only one is allowed".into()));
                }
                None
            }
            Event::Alias(_) => return Err((at, "aliases (`*name`) are not supported; write the value out".into())),
            Event::Scalar(_, _, _, Some(tag))
            | Event::SequenceStart(_, Some(tag))
            | Event::MappingStart(_, Some(tag)) => {
                return Err((at, format!("tags are not supported; remove `{tag}`")));
            }
            Event::Scalar(s, style, ..) => {
                let quoted = style != ScalarStyle::Plain;
                let null = !quoted && matches!(&*s, "" | "~" | "null" | "Null" | "NULL");
                let kind = if null { Kind::Null } else { Kind::Scalar(s.into_owned(), quoted) };
                Some(Node { at, kind })
            }
            Event::SequenceStart(..) => {
                stack.push(Open::List(at, Vec::new()));
                None
            }
            Event::MappingStart(..) => {
                stack.push(Open::Map(at, Vec::new(), None));
                None
            }
            Event::SequenceEnd | Event::MappingEnd => stack.pop().map(|open| match open {
                Open::List(at, items) => Node { at, kind: Kind::List(items) },
                Open::Map(at, entries, _) => Node { at, kind: Kind::Map(entries) },
            }),
            _ => None,
        };
        if stack.len() > MAX_DEPTH {
            return Err((at, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let Some(node) = done else { continue };
        match stack.last_mut() {
            None => root = node,
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, pending)) => match pending.take() {
                Some((key, key_at)) => entries.push((key, key_at, node)),
                None => match node.kind {
                    Kind::Scalar(key, _) => *pending = Some((key, node.at)),
                    _ => return Err((node.at, format!("{} can be no key; expected a name", node.describe()))),
                },
            },
        }
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_knows_its_place() {
        let root = parse("# head\na: 1\nb:\n  - x\n  - \"y z\"\nc: {d: ~}\n").unwrap();
        let Kind::Map(entries) = &root.kind else { panic!("{root:?}") };
        let places: Vec<_> = entries.iter().map(|(k, at, n)| (k.as_str(), (at.line, at.column), n.at.line)).collect();
        assert_eq!(places, [("a", (2, 1), 2), ("b", (3, 1), 4), ("c", (6, 1), 6)]);
        let Kind::List(items) = &entries[1].2.kind else { panic!() };
        assert_eq!(items[1], Node { at: At { line: 5, column: 5 }, kind: Kind::Scalar("y z".into(), true) });
        let Kind::Map(inner) = &entries[2].2.kind else { panic!() };
        assert_eq!(inner[0].2.kind, Kind::Null);
    }

    #[test]
    fn a_path_leads_to_its_line_or_to_the_nearest_around_it() {
        let root = parse("a: 1\nb:\n  c:\n    - x\n    - {d: 2}\n").unwrap();
        for (path, line) in
            [("a", 1), ("b", 2), ("b.c", 3), ("b.c[1]", 5), ("b.c[1].d", 5), ("b.c[7]", 3), ("b.z.q", 2), ("z", 1)]
        {
            assert_eq!(root.place(path).line, line, "{path}");
        }
    }

    #[test]
    fn what_we_do_not_take_is_refused_where_it_stands() {
        for (text, line, words) in [
            ("a: [1, 2\nb: 3\n", 2, "not valid YAML"),
            ("a: &x 1\nb: *x\n", 2, "aliases"),
            ("a: !!int 1\n", 1, "tags"),
            ("a: 1\n---\nb: 2\n", 2, "second document"),
            ("? [a]\n: b\n", 1, "can be no key"),
        ] {
            let (at, message) = parse(text).unwrap_err();
            assert!(message.contains(words), "{text:?}: {message}");
            assert_eq!(at.line, line, "{text:?}: {message}");
        }
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(parse(&deep).unwrap_err().1.contains("levels deep"));
    }

    #[test]
    fn an_empty_file_is_an_empty_configuration() {
        for text in ["", "# nothing\n", "---\n", "~"] {
            assert_eq!(parse(text).unwrap().kind, Kind::Null, "{text:?}");
        }
    }
}
