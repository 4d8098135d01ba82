//! The interface as others see it: every call has a right and every field its words, and nothing that was published changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};

use super::super::rights::{RIGHTS, SERVICE};

const PROTO: &str = "weir/v1/weir.proto";
/// What was published: `WEIR_WRITE_SNAPSHOT=1 cargo test every_published_field` adds what is new, and removes nothing.
const SNAPSHOT: &str = "proto/weir/v1/weir.snapshot";

fn here(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn file() -> FileDescriptorProto {
    let mut compiler = protox::Compiler::new([here("proto")]).unwrap();
    let set = compiler.include_source_info(true).open_file(PROTO).unwrap().file_descriptor_set();
    set.file.into_iter().find(|f| f.name() == PROTO).unwrap()
}

#[test]
fn every_call_has_one_right_and_every_right_a_call() {
    let file = file();
    let calls: Vec<&str> = file.service.iter().flat_map(|s| &s.method).map(|m| m.name()).collect();
    assert_eq!(file.service.len(), 1);
    assert_eq!(format!("{}.{}", file.package(), file.service[0].name()), SERVICE);
    for call in &calls {
        let rights = RIGHTS.iter().filter(|(name, _)| name == call).count();
        assert_eq!(rights, 1, "{call} needs one line in RIGHTS of api/rights.rs, to say what it takes to call it");
    }
    for (name, _) in RIGHTS {
        assert!(calls.contains(name), "there is no call {name}");
    }
}

/// Walks every message and enumeration, with its path in the source information.
fn messages(file: &FileDescriptorProto) -> Vec<(String, Vec<i32>, &DescriptorProto)> {
    fn below<'a>(
        prefix: &str,
        path: &[i32],
        m: &'a DescriptorProto,
        all: &mut Vec<(String, Vec<i32>, &'a DescriptorProto)>,
    ) {
        let name = format!("{prefix}{}", m.name());
        all.push((name.clone(), path.to_vec(), m));
        for (i, nested) in m.nested_type.iter().enumerate() {
            below(&format!("{name}."), &[path, &[3, i as i32]].concat(), nested, all);
        }
    }
    let mut all = Vec::new();
    for (i, m) in file.message_type.iter().enumerate() {
        below("", &[4, i as i32], m, &mut all);
    }
    all
}

fn enums(file: &FileDescriptorProto) -> impl Iterator<Item = (Vec<i32>, &EnumDescriptorProto)> {
    file.enum_type.iter().enumerate().map(|(i, e)| (vec![5, i as i32], e))
}

fn snake(name: &str) -> bool {
    !name.is_empty()
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.contains("__")
        && !name.ends_with('_')
}

fn pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// `XdpMode` as `XDP_MODE`.
fn screaming(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.char_indices() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

/// The rules of buf's STANDARD and COMMENTS categories that apply to one file.
fn faults(file: &FileDescriptorProto) -> Vec<String> {
    let mut faults = Vec::new();
    let said: BTreeSet<&[i32]> = file
        .source_code_info
        .iter()
        .flat_map(|i| &i.location)
        .filter(|l| l.leading_comments.as_ref().is_some_and(|c| !c.trim().is_empty()))
        .map(|l| l.path.as_slice())
        .collect();
    let mut silent = |path: &[i32], what: String| {
        if !said.contains(path) {
            faults.push(format!("{what} has no comment above it"));
        }
    };
    for (name, path, m) in messages(file) {
        silent(&path, name.clone());
        for (i, f) in m.field.iter().enumerate() {
            silent(&[&path[..], &[2, i as i32]].concat(), format!("{name}.{}", f.name()));
        }
    }
    for (path, e) in enums(file) {
        silent(&path, e.name().to_owned());
        for (i, v) in e.value.iter().enumerate() {
            silent(&[&path[..], &[2, i as i32]].concat(), v.name().to_owned());
        }
    }
    for (s, service) in file.service.iter().enumerate() {
        silent(&[6, s as i32], service.name().to_owned());
        for (i, m) in service.method.iter().enumerate() {
            silent(&[6, s as i32, 2, i as i32], m.name().to_owned());
        }
    }
    let version = file.package().rsplit('.').next().and_then(|v| v.strip_prefix('v'));
    if version.is_none_or(|v| v.parse::<u32>().is_err()) {
        faults.push(format!("the package {} has no version", file.package()));
    }
    let folder = file.name().rsplit_once('/').map_or("", |(folder, _)| folder);
    if folder.replace('/', ".") != file.package() {
        faults.push(format!("the package {} lies in {folder}", file.package()));
    }
    for (name, _, m) in messages(file) {
        if !pascal(m.name()) {
            faults.push(format!("{name} is not in PascalCase"));
        }
        let names = m
            .field
            .iter()
            .map(|f| f.name())
            .chain(m.oneof_decl.iter().map(|o| o.name()).filter(|o| !o.starts_with('_')));
        faults.extend(names.filter(|n| !snake(n)).map(|n| format!("{name}.{n} is not in snake_case")));
    }
    for (_, e) in enums(file) {
        let prefix = screaming(e.name()) + "_";
        for v in &e.value {
            if !v.name().starts_with(&prefix) {
                faults.push(format!("{} does not begin with {prefix}", v.name()));
            }
            if (v.number() == 0) != (v.name() == format!("{prefix}UNSPECIFIED")) {
                faults.push(format!("{} = {}: 0 is {prefix}UNSPECIFIED, and only that", v.name(), v.number()));
            }
        }
    }
    let mut used = BTreeMap::new();
    for m in file.service.iter().flat_map(|s| &s.method) {
        for (given, wanted) in [(m.input_type(), "Request"), (m.output_type(), "Response")] {
            let standard = format!(".{}.{}{wanted}", file.package(), m.name());
            if given != standard {
                faults.push(format!("{} has {given}, not {standard}", m.name()));
            }
            if let Some(other) = used.insert(given, m.name()) {
                faults.push(format!("{given} is of {other} and of {}", m.name()));
            }
        }
    }
    faults
}

#[test]
fn names_follow_the_rules_and_everything_has_a_comment() {
    let faults = faults(&file());
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_rules_find_what_breaks_them() {
    let dir = tempfile::tempdir().unwrap();
    let text = "syntax = \"proto3\";\npackage weir.x;\nenum Kind { ON = 0; KIND_UNSPECIFIED = 1; }\n\
                message bad_name { int32 camelCase = 1; }\n// One.\nmessage Ask {}\nservice S { rpc Do(Ask) returns (Ask); }\n";
    std::fs::write(dir.path().join("x.proto"), text).unwrap();
    let mut compiler = protox::Compiler::new([dir.path()]).unwrap();
    let set = compiler.include_source_info(true).open_file("x.proto").unwrap().file_descriptor_set();
    let found = faults(&set.file[0]).join("\n");
    for words in [
        "Kind has no comment",
        "ON has no comment",
        "bad_name.camelCase has no comment",
        "Do has no comment",
        "weir.x has no version",
        "weir.x lies in ",
        "bad_name is not in PascalCase",
        "bad_name.camelCase is not in snake_case",
        "ON does not begin with KIND_",
        "KIND_UNSPECIFIED = 1: 0 is",
        "Do has .weir.x.Ask, not .weir.x.DoRequest",
        ".weir.x.Ask is of Do and of Do",
    ] {
        assert!(found.contains(words), "{words}: {found}");
    }
    assert!(!found.contains("\nAsk has no comment"), "{found}");
}

/// One line for everything that clients rely on, by its number.
fn published(file: &FileDescriptorProto) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, _, m) in messages(file) {
        for f in &m.field {
            let kind = match f.r#type() {
                Type::Message | Type::Enum => f.type_name().to_owned(),
                scalar => format!("{scalar:?}").to_lowercase(),
            };
            let label = match f.label() {
                Label::Repeated => "repeated ",
                _ if f.proto3_optional() => "optional ",
                _ if f.oneof_index.is_some() => "oneof ",
                _ => "",
            };
            all.insert(format!("{name} {}", f.number()), format!("{label}{kind} {}", f.name()));
        }
        for r in &m.reserved_range {
            (r.start()..r.end()).for_each(|n| drop(all.insert(format!("{name} {n}"), "reserved".into())));
        }
    }
    for (_, e) in enums(file) {
        for v in &e.value {
            all.insert(format!("{} {}", e.name(), v.number()), v.name().to_owned());
        }
        for r in &e.reserved_range {
            (r.start()..=r.end()).for_each(|n| drop(all.insert(format!("{} {n}", e.name()), "reserved".into())));
        }
    }
    for m in file.service.iter().flat_map(|s| &s.method) {
        let stream = |yes: bool| if yes { "stream " } else { "" };
        let (from, to) = (stream(m.client_streaming()), stream(m.server_streaming()));
        all.insert(format!("rpc {}", m.name()), format!("{from}{} -> {to}{}", m.input_type(), m.output_type()));
    }
    all
}

/// What of the published is not so any more. A field may go if its number is reserved.
fn broken(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let gone = |key: &String, was: &String| match now.get(key) {
        Some(is) if is == was || (is == "reserved" && !key.starts_with("rpc ")) => None,
        is => Some(format!("{key} was `{was}` and is {}", is.map_or("gone".into(), |is| format!("`{is}`")))),
    };
    before.iter().filter_map(|(key, was)| gone(key, was)).collect()
}

#[test]
fn every_published_field_and_call_is_still_what_it_was() {
    let now = published(&file());
    let text = std::fs::read_to_string(here(SNAPSHOT)).unwrap_or_default();
    let before: BTreeMap<String, String> = text
        .lines()
        .filter_map(|l| l.split_once(": "))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let broken = broken(&before, &now);
    assert!(broken.is_empty(), "clients that exist would break; reserve the number and take a new one: {broken:#?}");
    let new: Vec<_> = now.keys().filter(|k| before.get(*k) != now.get(*k)).collect();
    if std::env::var_os("WEIR_WRITE_SNAPSHOT").is_some() {
        let text: String = now.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        std::fs::write(here(SNAPSHOT), text).unwrap();
        return;
    }
    assert!(new.is_empty(), "new in the interface: write {SNAPSHOT} anew with WEIR_WRITE_SNAPSHOT=1: {new:?}");
}

#[test]
fn a_number_that_is_used_again_is_found() {
    let map = |all: &[(&str, &str)]| {
        all.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect::<BTreeMap<String, String>>()
    };
    let before = map(&[("A 1", "string x"), ("A 2", "uint64 y"), ("rpc Do", ".A -> .B"), ("E 1", "E_ONE")]);
    assert!(broken(&before, &before).is_empty());
    let now = map(&[("A 1", "string other"), ("A 2", "reserved"), ("E 1", "E_TWO")]);
    assert_eq!(
        broken(&before, &now),
        [
            "A 1 was `string x` and is `string other`",
            "E 1 was `E_ONE` and is `E_TWO`",
            "rpc Do was `.A -> .B` and is gone"
        ]
    );
}
