//! `weir context`: agents that are known by a name.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::args::{ContextCmd, RemoteArgs};
use super::connect::{self, To};
use super::output::{Output, Table, clean};
use super::usage;
use crate::api::client::Remote;

/// The file as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Contexts {
    /// What commands are for; none: the socket of this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    pub contexts: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Entry {
    Remote(Remote),
    Local { socket: PathBuf },
}

impl From<Entry> for To {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Remote(remote) => To::Remote(remote),
            Entry::Local { socket } => To::Socket(socket),
        }
    }
}

/// `$XDG_CONFIG_HOME/weir/contexts.yaml`; `None`: nobody's home is known.
pub fn file() -> Option<PathBuf> {
    let dir = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = dir("XDG_CONFIG_HOME").or_else(|| Some(dir("HOME")?.join(".config")))?;
    Some(base.join("weir/contexts.yaml"))
}

impl Contexts {
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        match std::fs::read_to_string(file) {
            Ok(text) if text.trim().is_empty() => Ok(Self::default()),
            Ok(text) => serde_yaml::from_str(&text)
                .with_context(|| format!("{} is not as `weir context` writes it; mend or remove it", file.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// The file is the old or the new one at every moment.
    fn save(&self, file: &Path) -> anyhow::Result<()> {
        let dir = file.parent().context("the file of contexts has no folder")?;
        let write = || -> anyhow::Result<()> {
            std::fs::create_dir_all(dir)?;
            let mut new = tempfile::NamedTempFile::new_in(dir)?;
            new.write_all(serde_yaml::to_string(self)?.as_bytes())?;
            new.as_file().sync_all()?;
            new.persist(file)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", file.display()))
    }

    pub fn get(&self, name: &str) -> anyhow::Result<&Entry> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
            usage(match known.as_slice() {
                [] => format!("there is no context `{name}`; `weir context add {name} --host ...` makes one"),
                known => format!("there is no context `{name}`; there are {}", known.join(", ")),
            })
        })
    }
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    agent: String,
    certificate: String,
    current: bool,
}

pub fn run(command: ContextCmd, remote: &RemoteArgs, socket: Option<PathBuf>, out: &Output) -> anyhow::Result<()> {
    let file = file().context("neither XDG_CONFIG_HOME nor HOME says where contexts are kept")?;
    let mut all = Contexts::load(&file)?;
    match command {
        ContextCmd::List => {
            let rows: Vec<_> = all
                .contexts
                .iter()
                .map(|(name, entry)| {
                    let (agent, certificate) = match entry {
                        Entry::Remote(r) => (r.at(), r.cert.display().to_string()),
                        Entry::Local { socket } => (socket.display().to_string(), String::new()),
                    };
                    Row { name, agent, certificate, current: all.current.as_ref() == Some(name) }
                })
                .collect();
            out.list(&rows, |rows| {
                let mut table = Table::new(&["", "NAME", "AGENT", "CERTIFICATE"]);
                for r in rows {
                    let mark = if r.current { "*" } else { "" };
                    table.row(vec![mark.into(), r.name.into(), r.agent.clone(), r.certificate.clone()]);
                }
                table.render()
            })?;
            return Ok(());
        }
        ContextCmd::Add { name, use_it } => {
            if name.is_empty() || name == "-" || name.contains(char::is_control) {
                return Err(usage(format!("`{}` is no name for a context", clean(&name))));
            }
            let entry = match (connect::remote(remote)?, socket) {
                (Some(remote), _) => Entry::Remote(remote.absolute()?),
                (None, Some(socket)) => Entry::Local { socket: std::path::absolute(socket)? },
                (None, None) => {
                    return Err(usage("which agent? add --host HOST with --cert, --key and --ca, or --socket PATH"));
                }
            };
            if all.contexts.contains_key(&name) {
                anyhow::bail!("there is a context `{name}` already; `weir context remove {name}` forgets it");
            }
            all.contexts.insert(name.clone(), entry);
            if use_it {
                all.current = Some(name.clone());
            }
            all.save(&file)?;
            let hint = if use_it { "in use" } else { "`weir --context NAME ...` or `weir context use NAME`" };
            out.text(&format!("{name} is known now; {}\n", hint.replace("NAME", &name)))?;
        }
        ContextCmd::Use { name } if name == "-" => {
            all.current = None;
            all.save(&file)?;
            out.text("commands are for the agent of this host\n")?;
        }
        ContextCmd::Use { name } => {
            all.get(&name)?;
            all.current = Some(name.clone());
            all.save(&file)?;
            out.text(&format!("commands are for {name} from now on\n"))?;
        }
        ContextCmd::Remove { name } => {
            all.get(&name)?;
            all.contexts.remove(&name);
            let used = all.current.as_ref() == Some(&name);
            if used {
                all.current = None;
            }
            all.save(&file)?;
            let then = if used { "; commands are for the agent of this host" } else { "" };
            out.text(&format!("{name} is forgotten{then}\n"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_read_back_as_they_were_and_mistakes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("weir/contexts.yaml");
        assert_eq!(Contexts::load(&file).unwrap(), Contexts::default());
        let remote = Remote {
            host: "2001:db8::1".into(),
            port: 8471,
            cert: "/c.pem".into(),
            key: "/c.key".into(),
            ca: "/ca.pem".into(),
        };
        let all = Contexts {
            current: Some("edge".into()),
            contexts: [
                ("edge".to_owned(), Entry::Remote(remote)),
                ("here".to_owned(), Entry::Local { socket: "/s".into() }),
            ]
            .into(),
        };
        all.save(&file).unwrap();
        assert_eq!(Contexts::load(&file).unwrap(), all);
        let refused = all.get("nowhere").unwrap_err().to_string();
        assert_eq!(refused, "there is no context `nowhere`; there are edge, here");
        std::fs::write(&file, "contexts: {edge: {hosts: x}}").unwrap();
        let refused = format!("{:#}", Contexts::load(&file).unwrap_err());
        assert!(refused.contains("contexts.yaml is not as `weir context` writes it"), "{refused}");
    }
}
