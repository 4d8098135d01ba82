//! The bundle host: training on a thread, checking a bundle in a child process, loading it.

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use weir_models::{Bundle, BundleError, ChildLimits, verify_in_child};

use crate::learn::{Learned, Recording};
use crate::priority;

/// Hidden subcommand that loads the bundle named behind it.
pub const CHECK_COMMAND: &str = "check-bundle";

/// What a thread has finished.
pub enum Finished {
    /// A bundle lies ready in the staging folder, or the reason why none does.
    Training(Result<(Learned, PathBuf, Bundle), String>),
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
        let _ = done.blocking_send(Finished::Training(result));
    })?;
    Ok(())
}

/// Loads a bundle and runs its golden vectors in a child process: a model that hangs or eats all memory harms nobody.
pub fn check(dir: &Path) -> Result<(), BundleError> {
    let exe = std::env::current_exe()
        .map_err(|e| BundleError::Child { dir: dir.to_owned(), cause: format!("the path of this program: {e}") })?;
    verify_in_child(&exe, &[CHECK_COMMAND], dir, ChildLimits::default())
}

/// Loads a bundle in this process.
pub fn load_here(dir: &Path) -> Result<Bundle, BundleError> {
    Bundle::load(dir)
}
