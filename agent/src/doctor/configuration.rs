//! The configuration: whether it can be read, what of it does nothing, and whether the agent runs with it.

use std::path::{Path, PathBuf};

use super::finding::{Check, Finding};
use super::storage::quoted;
use crate::config::{Config, ConfigError, tree};

/// About the file itself: of mistakes in it, with what was found there.
pub const CONFIG_FILE: &str = "config.file";

const FILE: Check = Check {
    id: CONFIG_FILE,
    title: "configuration",
    why: "the agent does not start, and does not take changes, with a configuration that it cannot read",
};
const USELESS: Check = Check {
    id: "config.useless",
    title: "configuration that does nothing",
    why: "whoever wrote it expects something of it",
};
const PENDING: Check = Check {
    id: "config.pending",
    title: "configuration in force",
    why: "what was changed in the file holds after a reload or a restart",
};

/// A configuration as it lies in a file; without one, the defaults.
#[derive(Debug)]
pub struct Reading {
    pub path: PathBuf,
    /// `None`: there is no file, and none was named.
    pub text: Option<String>,
    pub config: Result<Config, ConfigError>,
}

impl Reading {
    pub fn load(path: Option<&Path>) -> Self {
        let config = Config::load(path);
        let path = path.unwrap_or(Path::new(crate::config::DEFAULT_PATH)).to_owned();
        Self { text: std::fs::read_to_string(&path).ok(), config, path }
    }

    /// What to go on with.
    pub fn config(&self) -> Config {
        self.config.as_ref().cloned().unwrap_or_default()
    }
}

fn edit(path: &Path, line: usize) -> String {
    format!("${{EDITOR:-vi}} +{line} {}", quoted(path))
}

/// `agent`: the configuration in force, as YAML, where an agent told.
pub fn judge(r: &Reading, agent: Option<&str>) -> Vec<Finding> {
    let at = r.path.display();
    let config = match &r.config {
        Ok(config) => config,
        Err(ConfigError::Invalid { problems, .. }) => {
            let one = |p: &crate::config::Problem| {
                let key = if p.path.is_empty() { String::new() } else { format!("{}: ", p.path) };
                let seen = format!("{at}:{}:{}: {key}{}", p.at.line, p.at.column, p.message);
                FILE.error(seen).mend(edit(&r.path, p.at.line))
            };
            return problems.iter().map(one).collect();
        }
        Err(ConfigError::Read { cause, .. }) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
            return vec![FILE.unknown(format!("{at}: {cause}")).mend("sudo weir doctor")];
        }
        Err(e) => return vec![FILE.error(e.to_string()).mend(format!("ls -l {}", quoted(&r.path)))],
    };
    let mut all = vec![match &r.text {
        Some(_) => FILE.ok(format!("{at} is valid")),
        None => FILE.ok(format!("there is no {at}: every key has its default")),
    }];
    let root = r.text.as_deref().and_then(|t| tree::parse(t).ok());
    let useless: Vec<_> = config
        .useless()
        .into_iter()
        .map(|u| {
            let line = root.as_ref().map_or(1, |root| root.place(&u.path).line);
            USELESS.warning(format!("{at}:{line}: {}", u.words)).mend(edit(&r.path, line))
        })
        .collect();
    match useless.is_empty() {
        true => all.push(USELESS.ok("none")),
        false => all.extend(useless),
    }
    if let Some(running) = agent.and_then(|yaml| Config::parse(yaml).ok()) {
        all.push(pending(&running, &config.without_secrets()));
    }
    all
}

fn pending(running: &Config, file: &Config) -> Finding {
    let differ = running.diff(file);
    let restart = running.diff_needs_restart(file);
    let names = differ.iter().map(|k| k.path).collect::<Vec<_>>().join(", ");
    match (differ.is_empty(), restart.is_empty()) {
        (true, _) => PENDING.ok("the agent runs with what the file says"),
        (false, true) => PENDING.note(format!("differs from the file in {names}")).mend("weir config reload"),
        (false, false) => PENDING
            .note(format!("differs from the file, or from what `weir run` was told, in {names}"))
            .mend("systemctl restart weir"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{self, *};
    use super::*;

    fn judged(text: &str, agent: Option<&str>) -> Vec<(&'static str, Severity, String, Option<String>)> {
        let path = PathBuf::from("/w.yaml");
        let config = Config::parse(text).map_err(|problems| ConfigError::Invalid { path: path.clone(), problems });
        let all = judge(&Reading { path, text: Some(text.into()), config }, agent);
        all.into_iter().map(|f| (f.id, f.severity, f.seen, f.command)).collect()
    }

    #[test]
    fn mistakes_and_what_does_nothing_are_named_with_their_lines() {
        let good = judged("mode: shadow\n", None);
        assert!(good.iter().all(|(_, s, ..)| *s == Ok), "{good:?}");
        let bad = judged("mode: shadow\nepoch: 1\nhom: []\n", None);
        assert_eq!(bad.len(), 2, "{bad:?}");
        assert!(bad.iter().all(|(id, s, ..)| *id == "config.file" && *s == Error), "{bad:?}");
        assert!(bad[0].2.starts_with("/w.yaml:2:8: epoch:"), "{bad:?}");
        assert_eq!(bad[1].3.as_deref(), Some("${EDITOR:-vi} +3 /w.yaml"));
        let idle = judged("mode: shadow\n\nlease:\n  timeout: 45s\n", None);
        assert_eq!((idle[1].0, idle[1].1), ("config.useless", Warning));
        assert!(idle[1].2.starts_with("/w.yaml:4: lease.timeout does nothing"), "{idle:?}");
    }

    #[test]
    fn what_the_agent_runs_with_is_held_against_the_file() {
        let running = |text: &str| Config::parse(text).unwrap().without_secrets().to_yaml();
        let of = |text: &str, run: &str| judged(text, Some(&running(run))).pop().unwrap();
        let secret = "crowdsec: {url: 'http://127.0.0.1:8080', api_key: abc}\n";
        assert_eq!(of(secret, secret).1, Ok);
        assert_eq!(of("mode: enforce\n", "mode: shadow\n").3.as_deref(), Some("weir config reload"));
        assert_eq!(of("epoch: 2s\n", "mode: shadow\n").3.as_deref(), Some("systemctl restart weir"));
    }
}
