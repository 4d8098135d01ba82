//! The lab: three hosts in network namespaces, honest traffic, five attacks, and Weir between them.
//!
//! Nothing leaves the namespaces that the lab made, everything is bounded in count and time, and all of it is gone when
//! the lab ends, however it ends.

pub mod agent;
mod attacks;
mod book;
mod events;
pub mod net;
mod page;
mod plan;
mod proc;
mod report;
pub mod roles;
mod scene;
mod scenes;
mod stop;
mod story;
mod tally;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::needs::Use;
use crate::sh::{is_root, root, sh, sudo_words};

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Leave it running afterwards, with the commands to look around in it, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// How long Weir learns
    #[arg(long, value_name = "N", default_value_t = 75, value_parser = clap::value_parser!(u64).range(10..=3600))]
    pub seconds: u64,
    /// One scene instead of the story; more than one may be named, and `all` names all of them
    #[arg(long, value_name = "NAME", conflicts_with_all = ["keep", "without_weir"])]
    pub scene: Vec<String>,
    /// Print the scenes and what each shows
    #[arg(long)]
    pub list_scenes: bool,
    /// Serve the web page of a lab with what an earlier lab learned, print a link to it, and attack now and then until Ctrl-C
    #[arg(long, conflicts_with_all = ["keep", "without_weir", "scene"])]
    pub web: bool,
    /// Seconds of load in the scene `web`
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(5..=60))]
    pub load_seconds: u64,
    /// The control: the same traffic and attacks without Weir; every attack must get through
    #[arg(long)]
    pub without_weir: bool,
    /// The agent to use, instead of building it
    #[arg(long, value_name = "PATH", hide = true, conflicts_with = "without_weir")]
    pub weir: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<()> {
    if options.list_scenes {
        print!("{}", scene::list());
        return Ok(());
    }
    let scenes = scene::named(&options.scene)?;
    let weir = match &options.weir {
        Some(path) => Some(path.clone()),
        None if options.without_weir => {
            crate::setup::ensure(&[Use::Lab])?;
            None
        }
        None => {
            crate::setup::ensure(&[Use::Lab])?;
            crate::ebpf::build(crate::ebpf::Choice::Auto)?;
            crate::dashboard::build_or_say()?;
            Some(build_agent()?)
        }
    };
    match weir {
        _ if !is_root() => again_as_root(options, weir),
        Some(weir) if options.web => page::run(options, &weir),
        Some(weir) if !scenes.is_empty() => scene::run(options, &weir, &scenes),
        weir => story::run(options, weir.as_deref()),
    }
}

fn build_agent() -> Result<PathBuf> {
    sh("cargo", ["build", "--workspace", "--bin", "weir"]).dir(root()).loud().run()?;
    let path = crate::sh::target_dir().join("debug/weir");
    path.canonicalize().with_context(|| format!("the build left no {}", path.display()))
}

/// Namespaces and XDP need root; what was built stays the caller's own.
fn again_as_root(options: &Options, weir: Option<PathBuf>) -> Result<()> {
    let mut words = sudo_words();
    words.push(std::env::current_exe().context("cannot find this program's own file")?.into());
    words.extend(["lab", "--seconds"].map(OsString::from));
    words.push(options.seconds.to_string().into());
    if options.keep {
        words.push("--keep".into());
    }
    for scene in &options.scene {
        words.extend(["--scene", scene].map(OsString::from));
    }
    if options.web {
        words.push("--web".into());
    }
    words.extend(["--load-seconds".into(), options.load_seconds.to_string().into()]);
    if options.without_weir {
        words.push("--without-weir".into());
    }
    if let Some(weir) = weir {
        words.push("--weir".into());
        words.push(weir.into());
    }
    use std::os::unix::process::CommandExt as _;
    let error = std::process::Command::new(&words[0]).args(&words[1..]).exec();
    Err(error).context("the lab needs root, and sudo could not be started")
}
