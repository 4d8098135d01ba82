//! The command line: `weir run` starts an agent, everything else asks a running one.

mod alerts;
mod args;
mod audit;
mod config;
mod connect;
mod context;
mod decisions;
mod doctor;
mod drift;
mod eval;
mod evidence;
mod flows;
mod foreign;
mod history;
mod import;
mod labels;
mod learn;
mod lists;
mod man;
mod model;
mod output;
mod policy;
mod recorded;
mod render;
mod render_model;
mod review;
mod sinks;
mod suppressions;
mod tls;
mod top;
mod train;
mod watch;
mod web;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::api::client::{Client, ClientError};
use crate::app::{self, RunOptions, UnloadScope};
use crate::clock::wall_us;
use crate::config::{Config, ConfigError, DEFAULT_SOCKET};
use args::{AllowCmd, Cli, Cmd, ConfigCmd, DecisionsCmd, EvidenceCmd, LabelsCmd, ModelCmd};
use connect::To;
use output::Output;
use weir_core::decision::Action;
use weir_core::rate::RateLimit;

const USAGE: u8 = 2;

/// What was asked for cannot be: ends with status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

fn usage(words: impl Into<String>) -> anyhow::Error {
    UsageError(words.into()).into()
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(code) => code,
        Err(e) => report(&e),
    }
}

/// Says what went wrong and chooses the exit status.
fn report(e: &anyhow::Error) -> ExitCode {
    if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
        // Whoever reads us (`head`) has seen enough.
        return ExitCode::SUCCESS;
    }
    let mut text = format!("error: {e:#}\n");
    let mut code = ExitCode::FAILURE;
    if let Some(e) = e.downcast_ref::<ConfigError>() {
        code = USAGE.into();
        if let ConfigError::Invalid { .. } = e {
            // Lines that editors and people jump by.
            text = format!("{e}\n");
        }
    } else if e.is::<UsageError>() || e.downcast_ref::<ClientError>().is_some_and(ClientError::is_usage) {
        code = USAGE.into();
    }
    // Nobody is left to tell where stderr is closed.
    let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
    code
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let out = Output { format: cli.format().map_err(usage)? };
    if !matches!(cli.command, Cmd::Run(_)) {
        crate::logging::init_cli();
    }
    if works_here(&cli.command) && (cli.remote.host.is_some() || cli.remote.context.is_some()) {
        return Err(usage("this command works on this host alone; leave --host and --context out"));
    }
    if works_here(&cli.command) && cli.remote.watch.is_some() {
        return Err(usage("--watch is for status and for lists; `weir watch` follows events"));
    }
    match cli.command {
        Cmd::Run(run) => {
            return app::run(RunOptions {
                config: run.config,
                interfaces: run.interfaces,
                mode: run.mode,
                netflow: run.netflow,
                state_dir: run.state_dir,
                socket: cli.socket,
                log_level: run.log_level,
            });
        }
        Cmd::Unload(u) => return app::unload(u.interface.map_or(UnloadScope::All, UnloadScope::Interface)),
        Cmd::CheckBundle { dir } => return app::check_bundle(&dir),
        Cmd::Flows(mut args) => {
            args.input.socket = cli.socket;
            return flows::flows(args, cli.output);
        }
        Cmd::Replay(mut args) => {
            args.input.socket = cli.socket;
            return flows::replay(args, cli.output);
        }
        Cmd::Train(mut args) => {
            args.input.socket = cli.socket;
            return train::run(args, &out);
        }
        Cmd::Eval(mut args) => {
            args.input.socket = cli.socket;
            return eval::run(args, &out);
        }
        Cmd::Labels(LabelsCmd::Export { out: to }) => return labels::export(cli.socket, to, cli.output),
        Cmd::Model(ModelCmd::Verify { path }) => return model::verify(&path, &out),
        Cmd::Model(ModelCmd::Inspect { which }) if model::is_path(&which) => model::inspect(which.as_ref(), &out)?,
        Cmd::Model(ModelCmd::Compare(args)) if args.is_offline() => return model::compare_over(args, cli.socket, &out),
        Cmd::Model(ModelCmd::Features(args)) => return foreign::features(args, &out),
        Cmd::Model(ModelCmd::Calibrate(args)) => return foreign::calibrate(args, &out),
        Cmd::Policy(command) => return policy::run(command, cli.socket, &out),
        Cmd::Evidence(EvidenceCmd::Verify { file, bundle }) => return evidence::verify(&file, bundle, &out),
        Cmd::Config(ConfigCmd::Check { file }) => config::check(&out, file)?,
        Cmd::Config(ConfigCmd::Show { file }) => config::show(&out, file)?,
        Cmd::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
            out.text(&String::from_utf8_lossy(&script))?;
        }
        Cmd::Doctor(args) => return doctor::run(args, cli.socket, &out),
        Cmd::Support(command) => return doctor::support(command, cli.socket, &out),
        Cmd::ManPages { dir } => man::write(Cli::command(), &dir)?,
        Cmd::Context(command) => context::run(command, &cli.remote, cli.socket, &out)?,
        Cmd::Tls(command) => tls::run(command, &out)?,
        _ => return connect::run(cli, &out),
    }
    Ok(ExitCode::SUCCESS)
}

/// What no agent is asked for, or one on this host.
fn works_here(command: &Cmd) -> bool {
    match command {
        Cmd::Run(_) | Cmd::Unload(_) | Cmd::CheckBundle { .. } | Cmd::Completions { .. } => true,
        Cmd::ManPages { .. } | Cmd::Tls(_) => true,
        Cmd::Flows(_) | Cmd::Replay(_) | Cmd::Train(_) | Cmd::Eval(_) | Cmd::Doctor(_) | Cmd::Support(_) => true,
        Cmd::Policy(_) | Cmd::Evidence(EvidenceCmd::Verify { .. }) => true,
        Cmd::Config(command) => !matches!(command, ConfigCmd::Reload),
        Cmd::Model(command) => match command {
            ModelCmd::Verify { .. } | ModelCmd::Features(_) | ModelCmd::Calibrate(_) => true,
            ModelCmd::Inspect { which } => model::is_path(which),
            ModelCmd::Compare(args) => !args.over.is_empty(),
            _ => false,
        },
        _ => false,
    }
}

/// Asks an agent, once.
async fn ask_at(to: &To, command: Cmd, out: &Output) -> anyhow::Result<ExitCode> {
    let mut client = to.client().await?;
    match command {
        Cmd::Alerts(command) => alerts::run(&mut client, command, to.socket(), out).await.map(|()| ExitCode::SUCCESS),
        Cmd::Watch(args) => watch::run(to, client, &args, out).await,
        command => ask(client, command, out).await,
    }
}

/// The socket of the default configuration; one that cannot be read or is wrong is no reason to stop here.
fn configured_socket() -> PathBuf {
    Config::load(None).map_or_else(|_| DEFAULT_SOCKET.into(), |c| c.socket)
}

async fn ask(mut client: Client, command: Cmd, out: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Cmd::Status => {
            let report = client.status().await?;
            if out.json() { out.object(&report)? } else { out.text(&render::status(&report))? }
        }
        Cmd::Top(args) => top::run(client, &args, out).await?,
        Cmd::Decisions(DecisionsCmd::List(args)) => lists::decisions(&mut client, args, out).await?,
        Cmd::Decisions(DecisionsCmd::Import(args)) => return import::run(&mut client, args, out).await,
        Cmd::Lists(command) => return lists::run(&mut client, command, out).await,
        Cmd::Sinks(command) => return sinks::run(&mut client, command, out).await,
        Cmd::Decisions(DecisionsCmd::History(args)) => history::run(&mut client, &args, out).await?,
        Cmd::Audit(command) => audit::run(&mut client, &command, out).await?,
        Cmd::Evidence(command) => evidence::run(&mut client, command, out).await?,
        Cmd::Decisions(DecisionsCmd::Add {
            target,
            action,
            limit,
            burst,
            lifetime,
            direction,
            reason,
            confirm_within,
            no_confirm,
        }) => {
            let limit = match (limit, burst) {
                (Some(l), Some(burst)) => Some(RateLimit::new(l.unit(), l.per_second(), Some(burst))?),
                (limit, _) => limit,
            };
            let action = if limit.is_some() { Action::Limit } else { action };
            let added = client
                .add_decision(
                    target,
                    (action, limit),
                    direction,
                    lifetime.time(),
                    &reason,
                    (confirm_within, no_confirm),
                )
                .await?;
            if out.json() { out.object(&added)? } else { out.text(&render::decision_added(&added, wall_us()))? }
        }
        Cmd::Decisions(DecisionsCmd::Confirm { id }) => {
            let confirmed = client.confirm_decision(id).await?;
            if out.json() { out.object(&confirmed)? } else { out.text(&render::decision_added(&confirmed, wall_us()))? }
        }
        Cmd::Decisions(DecisionsCmd::Delete { which }) => {
            let deleted = client.delete_decision(which).await?;
            if out.json() {
                for d in &deleted {
                    out.object(
                        &serde_json::json!({ "deleted": d.id, "target": d.target.to_string(), "action": d.action }),
                    )?;
                }
            } else {
                out.text(&render::decisions_deleted(&deleted))?;
            }
        }
        Cmd::Allowlist(AllowCmd::List) => {
            out.list(&client.list_allow().await?, |l| render::allow_list(l, wall_us()))?;
        }
        Cmd::Allowlist(AllowCmd::Add { prefix, comment, lifetime }) => {
            let added = client.add_allow(prefix, &comment, lifetime.time()).await?;
            if out.json() {
                let lifted: Vec<_> = added.lifted.iter().map(|d| d.id).collect();
                out.object(&serde_json::json!({ "added": added.entry, "lifted": lifted }))?;
            } else {
                out.text(&render::allow_added(&added, wall_us()))?;
            }
        }
        Cmd::Allowlist(AllowCmd::Remove { prefix }) => {
            let removed = client.remove_allow(prefix).await?;
            if out.json() {
                out.object(&serde_json::json!({ "removed": removed }))?;
            } else {
                out.text(&format!("{} is off the allow list\n", removed.prefix))?;
            }
        }
        Cmd::Allowlist(AllowCmd::Check { prefix }) => {
            let by = client.check_allow(prefix).await?;
            if out.json() {
                out.object(&serde_json::json!({ "prefix": prefix, "protected": !by.is_empty(), "protected_by": by }))?;
            } else {
                out.text(&render::allow_check(&prefix.to_string(), &by))?;
            }
        }
        Cmd::Review(args) => review::run(&mut client, args, out).await?,
        Cmd::Labels(command) => labels::run(&mut client, command, out).await?,
        Cmd::Suppressions(command) => labels::suppressions(&mut client, command, out).await?,
        Cmd::Web(command) => web::run(&mut client, command, out).await?,
        Cmd::Learn(args) => return learn::run(&mut client, &args, out).await,
        Cmd::Model(command) => return model::ask(&mut client, command, out).await,
        Cmd::Config(ConfigCmd::Reload) => {
            let report = client.reload_config().await?;
            if out.json() { out.object(&report)? } else { out.text(&render::reloaded(&report))? }
        }
        Cmd::Flows(_)
        | Cmd::Replay(_)
        | Cmd::Train(_)
        | Cmd::Eval(_)
        | Cmd::Alerts(_)
        | Cmd::Watch(_)
        | Cmd::Run(_)
        | Cmd::Unload(_)
        | Cmd::Completions { .. }
        | Cmd::Config(_)
        | Cmd::Policy(_)
        | Cmd::Context(_)
        | Cmd::Tls(_)
        | Cmd::Doctor(_)
        | Cmd::Support(_)
        | Cmd::ManPages { .. }
        | Cmd::CheckBundle { .. } => {
            unreachable!("handled without an agent")
        }
    }
    Ok(ExitCode::SUCCESS)
}
