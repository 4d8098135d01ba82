//! Which agent a command is for, and reaching it.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use super::args::{
    AlertsCmd, AllowCmd, Cli, Cmd, DecisionsCmd, LabelsCmd, ListsCmd, ModelCmd, RemoteArgs, ReviewArgs, ReviewCmd,
    SuppressionsCmd,
};
use super::context::{self, Contexts};
use super::output::Output;
use super::{configured_socket, usage};
use crate::api::client::{Client, ClientError, Remote};
use crate::config::api_port;

/// An agent.
#[derive(Clone, Debug, PartialEq)]
pub enum To {
    Socket(PathBuf),
    Remote(Remote),
}

impl To {
    /// What was said on the command line goes before `WEIR_CONTEXT`, and that before the context in use. A socket that was
    /// named goes before contexts.
    pub fn find(args: &RemoteArgs, socket: Option<PathBuf>) -> anyhow::Result<To> {
        if let Some(remote) = remote(args)? {
            if args.context.is_some() {
                return Err(usage("--host and --context name two agents; leave one out"));
            }
            return Ok(To::Remote(remote));
        }
        let named = args.context.clone();
        if let (None, Some(socket)) = (&named, socket) {
            return Ok(To::Socket(socket));
        }
        let named = named.or_else(|| std::env::var("WEIR_CONTEXT").ok().filter(|n| !n.is_empty()));
        let local = || To::Socket(configured_socket());
        let Some(file) = context::file() else {
            return match named {
                Some(name) => {
                    Err(usage(format!("there is no context `{name}`: neither XDG_CONFIG_HOME nor HOME is set")))
                }
                None => Ok(local()),
            };
        };
        let all = Contexts::load(&file)?;
        match named.or_else(|| all.current.clone()) {
            Some(name) if name != "-" => Ok(all.get(&name)?.clone().into()),
            _ => Ok(local()),
        }
    }

    pub async fn client(&self) -> Result<Client, ClientError> {
        match self {
            To::Socket(path) => Client::connect(path).await,
            To::Remote(remote) => Client::connect_tls(remote).await,
        }
    }

    /// `None`: the agent is on another host, and so are its files.
    pub fn socket(&self) -> Option<&Path> {
        match self {
            To::Socket(path) => Some(path),
            To::Remote(_) => None,
        }
    }
}

/// What the command line says of an agent on another host.
pub fn remote(args: &RemoteArgs) -> anyhow::Result<Option<Remote>> {
    let files = [("--cert", &args.cert), ("--key", &args.key), ("--ca", &args.ca)];
    let Some(host) = &args.host else {
        return match files.iter().find(|(_, f)| f.is_some()) {
            Some((name, _)) => Err(usage(format!("{name} is for an agent on another host; add --host HOST"))),
            None => Ok(None),
        };
    };
    let (host, port) = parse_host(host).map_err(usage)?;
    let missing: Vec<_> = files.iter().filter(|(_, f)| f.is_none()).map(|(n, _)| *n).collect();
    let (Some(cert), Some(key), Some(ca)) = (&args.cert, &args.key, &args.ca) else {
        return Err(usage(format!(
            "{} is missing: TCP is for certificates on both sides; `weir tls client NAME --role viewer` on the agent's host \
             makes them",
            missing.join(", ")
        )));
    };
    Ok(Some(Remote { host, port, cert: cert.clone(), key: key.clone(), ca: ca.clone() }))
}

/// HOST, HOST:PORT, `[IPV6]:PORT` or a bare IPv6 address.
fn parse_host(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("`{text}` is no host; write HOST, HOST:PORT, ADDRESS or [IPV6]:PORT");
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Ok((text.to_owned(), api_port()));
    }
    let (host, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(api_port()), |p| p.parse().ok().filter(|p| *p != 0).ok_or_else(wrong))?;
    match rustls::pki_types::ServerName::try_from(host) {
        Ok(_) => Ok((host.to_owned(), port)),
        Err(_) => Err(wrong()),
    }
}

/// Whether showing it again and again makes sense.
fn is_shown(command: &Cmd) -> bool {
    matches!(
        command,
        Cmd::Status
            | Cmd::Decisions(DecisionsCmd::List(_))
            | Cmd::Lists(ListsCmd::List | ListsCmd::Show { .. })
            | Cmd::Review(ReviewArgs { command: Some(ReviewCmd::List { .. } | ReviewCmd::Show { .. }), .. })
            | Cmd::Labels(LabelsCmd::List)
            | Cmd::Suppressions(SuppressionsCmd::List)
            | Cmd::Allowlist(AllowCmd::List | AllowCmd::Check { .. })
            | Cmd::Alerts(AlertsCmd::List { .. })
            | Cmd::Model(ModelCmd::List | ModelCmd::Drift)
    )
}

/// Asks the agent, once or again and again.
pub fn run(cli: Cli, out: &Output) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let to = To::find(&cli.remote, cli.socket)?;
    match cli.remote.watch {
        None => runtime.block_on(super::ask_at(&to, cli.command, out)),
        Some(_) if !is_shown(&cli.command) => {
            Err(usage("--watch is for status and for lists; `weir watch` follows events"))
        }
        Some(every) => runtime.block_on(repeat(&to, every, cli.command, out)),
    }
}

/// Redraws a terminal; elsewhere, what would be drawn follows in turn.
async fn repeat(to: &To, every: Duration, first: Cmd, out: &Output) -> anyhow::Result<ExitCode> {
    let draws = std::io::stdout().is_terminal() && !out.json();
    let mut command = Some(first);
    let mut shown = false;
    loop {
        // The same words mean the same.
        let next = match command.take() {
            Some(command) => command,
            None => Cli::try_parse()?.command,
        };
        if draws {
            let now = weir_core::render::Rfc3339(crate::clock::wall_us());
            out.text(&format!("\x1b[H\x1b[2Jevery {}, {now}; Ctrl-C ends it\n\n", crate::human::duration(every)))?;
        } else if shown && !out.json() {
            out.text("\n")?;
        }
        match super::ask_at(to, next, out).await {
            Ok(_) => shown = true,
            // Later ones may pass: an agent restarts.
            Err(e) if shown && e.is::<ClientError>() => eprintln!("error: {e:#}"),
            Err(e) => return Err(e),
        }
        tokio::time::sleep(every).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_understood_with_and_without_a_port() {
        for (text, host, port) in [
            ("sensor.example", "sensor.example", 8471),
            ("sensor.example:9000", "sensor.example", 9000),
            ("192.0.2.1", "192.0.2.1", 8471),
            ("192.0.2.1:9", "192.0.2.1", 9),
            ("2001:db8::1", "2001:db8::1", 8471),
            ("[2001:db8::1]:9", "2001:db8::1", 9),
            ("[2001:db8::1]", "2001:db8::1", 8471),
        ] {
            assert_eq!(parse_host(text), Ok((host.to_owned(), port)), "{text}");
        }
        for bad in ["", "host:", "host:0", "host:99999", "[::1]9", "a b", "https://host"] {
            assert!(parse_host(bad).is_err_and(|e| e.contains("is no host")), "{bad}");
        }
    }

    #[test]
    fn certificates_are_asked_for_by_name() {
        let args = RemoteArgs { host: Some("h".into()), key: Some("k".into()), ..Default::default() };
        let refused = remote(&args).unwrap_err().to_string();
        assert!(refused.starts_with("--cert, --ca is missing") && refused.contains("weir tls client"), "{refused}");
        let args = RemoteArgs { ca: Some("c".into()), ..Default::default() };
        assert!(remote(&args).unwrap_err().to_string().contains("add --host"));
    }
}
