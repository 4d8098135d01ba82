//! Reference pages, made of what the program says of itself: its keys, its interface and its help.

use std::collections::HashMap;
use std::fmt::Write;

use prost::Message;
use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use weir_agent::api::rights::{RIGHTS, Right};
use weir_agent::config::{Apply, Config, KEYS, Shown};

use crate::common::{WEIR, text};
use crate::pages::repository;

/// As a cell of a table.
fn cell(words: &str) -> String {
    // What is quoted stays as it is; outside of that `<` would begin markup.
    let parts = words.split('`').enumerate();
    let clean = parts.map(|(n, p)| if n % 2 == 0 { p.replace('<', "&lt;") } else { p.to_owned() });
    clean.collect::<Vec<_>>().join("`").replace('|', "\\|").replace('\n', " ")
}

fn shown(value: &Shown) -> String {
    match value {
        Shown::Null => "none".into(),
        Shown::Scalar(s) => s.clone(),
        Shown::List(all) => format!("[{}]", all.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Shown::Map(all) => {
            format!("{{{}}}", all.iter().map(|(k, v)| format!("{k}: {}", shown(v))).collect::<Vec<_>>().join(", "))
        }
        Shown::Named(all) => {
            format!("{{{}}}", all.iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>().join(", "))
        }
    }
}

/// What is said of a value of a key, if anything is wrong with it.
fn told(path: &str, value: &str) -> Option<String> {
    let depth = path.split('.').count();
    let parts = path.split('.').enumerate();
    let nested = parts.map(|(n, part)| {
        let end = if n + 1 == depth { format!(" {value}") } else { "\n".into() };
        format!("{}{part}:{end}", "  ".repeat(n))
    });
    let problems = Config::parse(&format!("{}\n", nested.collect::<String>())).err()?;
    problems.into_iter().find(|p| p.path.starts_with(path)).map(|p| p.message)
}

/// What a value looks like and its bounds, as the one who gets it wrong is told.
fn expected(path: &str, default: &Shown) -> String {
    let beyond = ["0", "0s", "99999d", "4294967295", "1000000000000000000", "-1", "1e300"];
    let bounds = beyond.iter().find_map(|v| Some(told(path, v)?.split_once("allowed are ")?.1.to_owned()));
    let shape = ["[[]]", "{}", "{no: {such: thing}}", "no-such-value"].iter().find_map(|v| {
        let message = told(path, v)?;
        let rest = message.split_once("expected ")?.1;
        let rest = rest.trim_start_matches("one of ");
        let end = [", found ", "; found "].iter().filter_map(|w| rest.find(w)).min().unwrap_or(rest.len());
        Some(rest[..end].to_owned())
    });
    let shape = shape.map(|s| if s == "a name" { "text".into() } else { s });
    let shape = match (shape, default) {
        (Some(each), Shown::List(_)) if each != "a list" => Some(format!("a list, each {each}")),
        (shape, _) => shape,
    };
    [shape, bounds].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

pub fn configuration() -> String {
    let mut out = String::from(
        "# Configuration\n\nThe file is `/etc/weir/weir.yaml`; every key may be left out. `weir config check FILE` names every mistake with its line, \
         `weir config show` prints all that is in force, and `weir config reload` (or SIGHUP) brings changes into force where the table says \
         \"reload\"; the others wait for a restart. Lengths of time are written as `90s`, `4h`, `1d`; counts as `2000`, `128k`, `1G`; shares as \
         `0.05` or `5%`.\n\nThis page is made of the program's own table by the test that holds it (`WEIR_WRITE_SNAPSHOT=1` writes it anew). Allowed \
         values are those that the program names to who gets one wrong.\n",
    );
    let default = Config::default();
    let of = |path: &'static str| path.split_once('.').map_or("The agent", |(section, _)| section);
    let mut sections: Vec<&str> = Vec::new();
    for key in KEYS {
        if !sections.contains(&of(key.path)) {
            sections.push(of(key.path));
        }
    }
    for section in sections {
        let head = "| key | default | in force | allowed | what it means |\n|---|---|---|---|---|\n";
        let _ = write!(out, "\n## {section}\n\n{head}");
        for key in KEYS.iter().filter(|k| of(k.path) == section) {
            let apply = match key.apply {
                Apply::Reload => "reload",
                Apply::Restart => "restart",
            };
            let value = (key.show)(&default);
            let (allowed, help) = (cell(&expected(key.path, &value)), cell(key.help));
            let value = shown(&value).replace('|', "\\|");
            let _ = writeln!(out, "| `{}` | `{value}` | {apply} | {allowed} | {help} |", key.path);
        }
    }
    out
}

struct Api {
    comments: HashMap<Vec<i32>, String>,
    routes: HashMap<String, Vec<String>>,
}

impl Api {
    fn of(&self, path: &[i32]) -> String {
        cell(self.comments.get(path).map_or("", String::as_str))
    }
    fn kind(&self, field: &FieldDescriptor) -> String {
        let link = |name: &str| format!("[{}](#{})", short(name), short(name).to_lowercase().replace('.', ""));
        let name = match field.kind() {
            Kind::Message(m) if field.is_map() => {
                let value = m.map_entry_value_field();
                return format!("map of {}", self.kind(&value));
            }
            Kind::Message(m) if m.full_name().starts_with("weir.") => link(m.full_name()),
            Kind::Enum(e) => link(e.full_name()),
            Kind::Message(m) => m.full_name().to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        match field.is_list() {
            true => format!("{name}, repeated"),
            false if field.supports_presence() && !matches!(field.kind(), Kind::Message(_)) => {
                format!("{name}, optional")
            }
            false => name,
        }
    }
    fn message(&self, m: &MessageDescriptor, out: &mut String) {
        let _ = write!(out, "\n### {}\n\n{}\n", short(m.full_name()), self.of(m.path()));
        if m.fields().len() > 0 {
            let _ = write!(out, "\n| field | type | what it is |\n|---|---|---|\n");
        }
        for field in m.fields() {
            let _ = writeln!(out, "| `{}` | {} | {} |", field.name(), self.kind(&field), self.of(field.path()));
        }
    }
    fn choice(&self, e: &EnumDescriptor, out: &mut String) {
        let _ = write!(
            out,
            "\n### {}\n\n{}\n\n| value | what it is |\n|---|---|\n",
            short(e.full_name()),
            self.of(e.path())
        );
        for value in e.values() {
            let _ = writeln!(out, "| `{}` | {} |", value.name(), self.of(value.path()));
        }
    }
}

fn short(full: &str) -> &str {
    full.strip_prefix("weir.v1.").unwrap_or(full)
}

fn routes() -> HashMap<String, Vec<String>> {
    let file = repository().join("agent/dashboard/openapi.json");
    let document: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut routes: HashMap<String, Vec<String>> = HashMap::new();
    for (path, verbs) in document["paths"].as_object().unwrap() {
        for (verb, operation) in verbs.as_object().unwrap() {
            // The second way to a call is named after both.
            let id = operation["operationId"].as_str().unwrap().trim_end_matches("DELETE");
            routes.entry(id.to_owned()).or_default().push(format!("`{} {path}`", verb.to_uppercase()));
        }
    }
    routes.values_mut().for_each(|r| r.sort());
    routes
}

pub fn api() -> String {
    let mut compiler = protox::Compiler::new([repository().join("agent/proto")]).unwrap();
    let set = compiler.include_source_info(true).open_file("weir/v1/weir.proto").unwrap().file_descriptor_set();
    let pool = DescriptorPool::decode(set.encode_to_vec().as_slice()).unwrap();
    let service = pool.services().next().expect("the service");
    let file = service.parent_file();
    let located = file.file_descriptor_proto().source_code_info.iter().flat_map(|i| &i.location);
    let comments = located.filter_map(|l| {
        let words: Vec<&str> = l.leading_comments.as_deref()?.trim().lines().map(str::trim).collect();
        Some((l.path.clone(), words.join(" ")))
    });
    let api = Api { comments: comments.collect(), routes: routes() };
    let mut out = String::from(
        "# API\n\nThe agent speaks gRPC on `/run/weir/weir.sock`, and over TCP with certificates on both sides (`api.listen`). The calls are also \
         REST below `/api/v1/` of the web page (`web.listen`), described by `/api/v1/openapi.json`. Times are microseconds since the Unix epoch, lengths of \
         time microseconds. *Viewers* may look, *operators* may change things too.\n\nThis page is made of `weir.proto` by the test that holds it \
         (`WEIR_WRITE_SNAPSHOT=1` writes it anew).\n\n## Calls\n",
    );
    for rpc in service.methods() {
        let link = |m: MessageDescriptor, stream: bool| {
            let name = short(m.full_name()).to_owned();
            format!("{}[{name}](#{})", if stream { "a stream of " } else { "" }, name.to_lowercase())
        };
        let right = RIGHTS.iter().find(|(name, _)| *name == rpc.name()).map(|(_, r)| r);
        let who = if matches!(right, Some(Right::Read)) { "viewers" } else { "operators" };
        let rest = api.routes.get(rpc.name()).map_or_else(|| "none".into(), |r| r.join(", "));
        let _ = write!(
            out,
            "\n### rpc {}\n\n{}\n\nTakes {}, gives {}. For {who}. REST: {rest}.\n",
            rpc.name(),
            api.of(rpc.path()),
            link(rpc.input(), rpc.is_client_streaming()),
            link(rpc.output(), rpc.is_server_streaming()),
        );
    }
    out += "\n## Messages\n";
    // Those within others as well; entries of maps are no messages of their own.
    let mut messages: Vec<_> =
        pool.all_messages().filter(|m| m.package_name() == "weir.v1" && !m.is_map_entry()).collect();
    messages.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    messages.iter().for_each(|m| api.message(m, &mut out));
    out += "\n## Enumerations\n";
    let mut choices: Vec<_> = pool.all_enums().filter(|e| e.package_name() == "weir.v1").collect();
    choices.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    choices.iter().for_each(|e| api.choice(e, &mut out));
    out
}

fn help(words: &[String]) -> String {
    let mut command = std::process::Command::new(WEIR);
    command.args(words).arg("--help").env("COLUMNS", "110").env_remove("WEIR_SOCKET").env("NO_COLOR", "1");
    let out = command.stdin(std::process::Stdio::null()).output().unwrap();
    assert!(out.status.success(), "weir {words:?} --help: {}", text(&out.stderr));
    text(&out.stdout)
}

/// A help text, line by line, without the options that every command has.
fn own(help: &str, global: &[&str]) -> String {
    let mut out = String::new();
    let (mut left_out, mut of_another) = (false, false);
    for line in help.lines() {
        let words = line.trim_start();
        let indent = line.len() - words.len();
        if !line.is_empty() && indent == 0 {
            of_another = line == "Which agent:";
            left_out = false;
        } else if words.starts_with('-') && indent <= 6 {
            let long = words.split([' ', ',', '=', '[']).find(|w| w.starts_with("--")).unwrap_or_default();
            left_out = global.contains(&long);
        }
        if !left_out && !of_another {
            out += line.trim_end();
            out.push('\n');
        }
    }
    let out = out.trim().strip_suffix("Options:").unwrap_or(out.trim()).trim().to_owned();
    // Where a paragraph went, one empty line stays.
    let mut lines: Vec<&str> = out.lines().collect();
    lines.dedup_by(|a, b| a.is_empty() && b.is_empty());
    lines.join("\n")
}

fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
    let named = lines.filter(|l| l.starts_with("  ") && !l.starts_with("   "));
    named.filter_map(|l| l.split_whitespace().next().map(str::to_owned)).filter(|n| n != "help").collect()
}

fn describe(words: &mut Vec<String>, out: &mut String) {
    const GLOBAL: &[&str] = &["--socket", "--output", "--watch", "--help"];
    let all = help(words);
    if !words.is_empty() {
        let _ = write!(out, "\n## weir {}\n\n```text\n{}\n```\n", words.join(" "), own(&all, GLOBAL));
    }
    for name in subcommands(&all) {
        words.push(name);
        describe(words, out);
        words.pop();
    }
}

pub fn command_line() -> String {
    let top = help(&[]);
    let mut out = format!(
        "# Command line\n\nWhat `--help` says of every command; `weir completions SHELL` makes a shell complete them. This page is made of it by \
         the test that holds it (`WEIR_WRITE_SNAPSHOT=1` writes it anew). Options of every command stand here alone:\n\n```text\n{}\n```\n",
        top.trim().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    );
    describe(&mut Vec::new(), &mut out);
    out
}
