//! The local API of CrowdSec as a process: steered by lines on standard input, until that ends.

use std::io::BufRead as _;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::json;

use super::crowdsec::{LocalApi, Mood};

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    #[arg(long, default_value = "lab")]
    key: String,
}

/// `ban ADDRESS`, `delete ID`, `mood honest|empty|null|page|broken|hang-up|STATUS`; each is answered with a line of JSON.
pub fn run(options: &Options) -> Result<()> {
    let api = LocalApi::start(options.listen, &options.key)
        .with_context(|| format!("cannot listen at {}", options.listen))?;
    println!("{}", json!({"listening": api.url()}));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let said = match line.split_once(' ') {
            Some(("ban", ip)) => json!({"banned": ip, "id": api.ban(ip)}),
            Some(("delete", id)) => {
                api.delete(id.parse().with_context(|| format!("`{id}` is no number of a decision"))?);
                json!({"deleted": id})
            }
            Some(("mood", mood)) => {
                api.mood(match mood {
                    "honest" => Mood::Honest,
                    "empty" => Mood::Empty,
                    "null" => Mood::Null,
                    "page" => Mood::Page,
                    "broken" => Mood::Broken,
                    "hang-up" => Mood::HangUp,
                    status => Mood::Status(status.parse().with_context(|| format!("`{status}` is no mood"))?),
                });
                json!({"mood": mood})
            }
            _ => anyhow::bail!("`{line}` is none of ban ADDRESS, delete ID and mood NAME"),
        };
        println!("{}", json!({"done": said, "asked": api.asked(), "refused": api.refused(), "by": api.user_agent()}));
    }
    Ok(())
}
