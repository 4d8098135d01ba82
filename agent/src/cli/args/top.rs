//! `weir top`.

use std::time::Duration;

use clap::Args;

use super::words::kind;
use crate::human;
use crate::proto::EventKind;

#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// How often it is brought up to date
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// A block of lines every interval, as where standard output is no terminal
    #[arg(short, long)]
    pub plain: bool,
    /// End after so many of them; with it, --plain goes without saying
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// Only these kinds: flow, source, alert, decision, hits, agent, question
    #[arg(short, long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    pub kind: Vec<EventKind>,
    /// End with an error when the agent stops or cannot be reached any more, instead of waiting for it
    #[arg(long)]
    pub no_reconnect: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    match human::parse_duration(text).map_err(|e| e.to_string())? {
        d if d < Duration::from_millis(200) => Err(format!("`{text}` is too often; at least 200ms")),
        d if d > Duration::from_secs(300) => Err(format!("`{text}` is longer than rates are kept; at most 5m")),
        d => Ok(d),
    }
}
