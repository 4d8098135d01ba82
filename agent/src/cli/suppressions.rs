//! What people called normal, for commands that judge without an agent.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;
use weir_core::suppression::{Scope, Suppressions};

use super::configured_socket;
use crate::api::client::{Client, ClientError};

/// Those of a file that `weir suppressions list -o json` wrote: an object per line.
pub fn of_file(path: &Path) -> anyhow::Result<Suppressions> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let scopes = lines.map(|(n, line)| {
        let whole = || format!("{}, line {}", path.display(), n + 1);
        scope(&serde_json::from_str(line).with_context(whole)?).with_context(whole)
    });
    let scopes = scopes.collect::<anyhow::Result<Vec<_>>>()?;
    Suppressions::throughout(scopes).with_context(|| path.display().to_string())
}

/// Those of the agent on this machine, or in words that they are not known.
pub fn of_agent(socket: Option<&Path>) -> anyhow::Result<(Suppressions, Option<String>)> {
    let at = socket.map_or_else(configured_socket, Path::to_owned);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async { Client::connect(&at).await?.list_suppressions().await });
    match asked {
        Ok(list) => {
            let scopes = list.iter().map(|s| scope(&serde_json::to_value(s)?)).collect::<anyhow::Result<Vec<_>>>()?;
            Ok((Suppressions::throughout(scopes)?, None))
        }
        // One that was named is meant.
        Err(ClientError::NotRunning(_) | ClientError::Stale(_)) if socket.is_none() => {
            let words =
                "no agent runs that could tell its suppressions: none holds here; --suppressions FILE names them";
            Ok((Suppressions::default(), Some(words.to_owned())))
        }
        Err(e) => Err(e.into()),
    }
}

/// What one is about, as it is listed.
fn scope(listed: &Value) -> anyhow::Result<Scope> {
    let list = |key: &str| listed[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let word = |v: &Value| v.as_str().map(str::to_owned).with_context(|| format!("{v} is no text"));
    let port = |v: &Value| {
        let number = v.as_u64().and_then(|p| u16::try_from(p).ok());
        number.with_context(|| format!("{v} is no port; expected 0 to 65535"))
    };
    let prefix = listed["prefix"].as_str().context("`prefix` is missing: whom the suppression is about")?;
    let role = listed["role"].as_str().filter(|r| !r.is_empty());
    Ok(Scope {
        prefix: prefix.parse()?,
        ports: list("ports").iter().map(port).collect::<anyhow::Result<_>>()?,
        role: role.map(|r| r.parse().map_err(|e| anyhow::anyhow!("{e}"))).transpose()?,
        features: list("features").iter().map(word).collect::<anyhow::Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_as_it_was_written_and_a_mistake_is_named_with_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let wrote = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            of_file(file.path())
        };
        let line =
            r#"{"id":3,"prefix":"192.0.2.9/32","ports":[80,443],"role":"source","features":["flows"],"comment":""}"#;
        let all = wrote(&format!("{line}\n\n{{\"prefix\":\"2001:db8::/64\"}}\n")).unwrap();
        let scopes: Vec<_> = all.live().iter().map(|s| s.scope.clone()).collect();
        assert_eq!(
            (scopes[0].ports.as_slice(), scopes[0].features.as_slice()),
            (&[80, 443][..], &["flows".to_owned()][..])
        );
        assert!(scopes[0].role.is_some() && scopes[1].role.is_none() && scopes.len() == 2);
        assert!(all.live().iter().all(|s| s.expires_us == u64::MAX), "they hold whenever it was");
        for (text, words) in [
            ("{}", "`prefix` is missing"),
            (r#"{"prefix":"192.0.2.9","ports":[70000]}"#, "70000 is no port"),
            (r#"{"prefix":"10.0.0.0/8"}"#, "too wide"),
            ("\nnothing", "line 2"),
        ] {
            let said = format!("{:#}", wrote(text).unwrap_err());
            assert!(said.contains(words), "{said}");
        }
    }
}
