//! The bundle host: training on a thread, checking a bundle in a child process, loading it. What may take long is done on
//! threads of their own; the event loop gets what they [`Finished`].

mod catalogue;
pub mod inspect;
mod prepare;
mod staging;

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use weir_models::{Bundle, BundleError, ChildLimits, verify_in_child};

use crate::learn::{Learned, Recording};
use crate::priority;
pub use catalogue::{Catalogue, Summary};
pub use prepare::{Lies, Prepared, Ready, Then, prepare};
pub use staging::{MAX_BUNDLE_BYTES, MAX_FILES, Staging, max_bytes};

/// Hidden subcommand that loads the bundle named behind it.
pub const CHECK_COMMAND: &str = "check-bundle";

/// Bundles that are kept besides those that serve, served within the remembered steps, or challenge.
pub const KEEP: usize = 3;

/// What a thread has finished.
pub enum Finished {
    /// A bundle lies ready in the staging folder, or the reason why none does.
    Training(Box<Result<(Learned, PathBuf, Bundle), String>>),
    /// A bundle was checked and loaded, or the reason why not.
    Prepared(Box<Prepared>),
}

/// How far training gives way to everything else.
const NICE: i32 = 19;

/// Makes the recording, trains, then checks the result in a child process with limits on time and memory, on a thread of its own that
/// gives way to all others.
pub fn train(
    recording: impl FnOnce() -> Result<Recording, String> + Send + 'static,
    dir: PathBuf,
    seed: u64,
    done: mpsc::Sender<Finished>,
) -> std::io::Result<()> {
    std::thread::Builder::new().name("weir-train".into()).spawn(move || {
        priority::nice(NICE);
        let trained = recording().and_then(|r| r.train(dir.clone(), seed).map_err(|e| e.to_string()));
        // What is left takes little, and has limits on elapsed time.
        priority::nice(0);
        let result = trained.and_then(|learned| {
            check(&dir).map_err(|e| e.to_string())?;
            let bundle = load_here(&dir).map_err(|e| e.to_string())?;
            Ok((learned, dir, bundle))
        });
        // Nobody listens any more: the agent is stopping.
        let _ = done.blocking_send(Finished::Training(Box::new(result)));
    })?;
    Ok(())
}

/// Loads a bundle and runs its golden vectors in a child process: a model that hangs or eats all memory harms nobody.
pub fn check(dir: &Path) -> Result<(), BundleError> {
    check_within(dir, ChildLimits::default())
}

/// [`check`] with limits of one's own.
pub fn check_within(dir: &Path, limits: ChildLimits) -> Result<(), BundleError> {
    let exe = std::env::current_exe()
        .map_err(|e| BundleError::Child { dir: dir.to_owned(), cause: format!("the path of this program: {e}") })?;
    verify_in_child(&exe, &[CHECK_COMMAND], dir, limits)
}

/// Loads a bundle in this process.
pub fn load_here(dir: &Path) -> Result<Bundle, BundleError> {
    Bundle::load(dir)
}

/// Whether an agent could serve a bundle, whose models are fine; else what is wrong, and what to do.
pub fn fits_an_agent(bundle: &Bundle, window_us: Option<u64>) -> Result<(), String> {
    use weir_core::profile::ProfileId;
    let has: Vec<ProfileId> = bundle.profiles().collect();
    let lacks: Vec<_> = [ProfileId::Core, ProfileId::Source].into_iter().filter(|p| !has.contains(p)).collect();
    if !lacks.is_empty() {
        let names = |all: &[ProfileId]| all.iter().map(|p| p.name()).collect::<Vec<_>>().join(" and ");
        return Err(format!(
            "it has the profiles {}, and an agent scores flows by core and sources by source: train it on flows with times and \
             addresses, with `weir train --checkpoints`, without --profile",
            names(&has)
        ));
    }
    let trained = bundle.manifest().provenance.window_us;
    match window_us {
        Some(window_us) if window_us != trained => {
            let (theirs, ours) = (
                crate::human::duration(crate::human::micros(trained)),
                crate::human::duration(crate::human::micros(window_us)),
            );
            Err(format!(
                "its source windows are {theirs} long and this agent's `window` is {ours}, so its rates of false alarms would not \
                 hold: train it with `--window {ours}`, or set `window: {theirs}`"
            ))
        }
        _ => Ok(()),
    }
}
