//! Getting a bundle ready to score, on a thread: checked in a child process, loaded, and moved into the store if it came from
//! elsewhere. What serves meanwhile goes on serving, and epochs go on being drained.

use std::fs;

use tokio::sync::mpsc;
use weir_models::{Bundle, ChildLimits, FileState, Inspected};

use super::{Catalogue, Finished, KEEP, Staging, Summary, check_within, fits_an_agent, load_here};
use crate::command::{BundleReport, Caller, CommandError, Reply};
use crate::pipeline::Model;
use crate::store::{BundleDir, Bundles};

/// Where the bundle is.
#[derive(Debug)]
pub enum Lies {
    Staged(Staging),
    Stored(BundleDir),
}

/// What it is to do.
#[derive(Debug)]
pub enum Then {
    Serve {
        promote: bool,
        by: Caller,
        reply: Reply<BundleReport>,
    },
    /// Serve again; what serves now must still do.
    RollBack {
        steps: usize,
        instead_of: String,
        by: Caller,
        reply: Reply<BundleReport>,
    },
    Challenge {
        by: Caller,
        reply: Reply<BundleReport>,
    },
    /// Challenge as it did when the agent before ended.
    Resume,
}

impl Then {
    /// Nothing comes of it. Whoever asked may have hung up, which is no error.
    pub fn refuse(self, why: CommandError) {
        match self {
            Then::Serve { reply, .. } | Then::RollBack { reply, .. } | Then::Challenge { reply, .. } => {
                drop(reply.send(Err(why)));
            }
            Then::Resume => log::warn!("the challenger does not go on: {why}"),
        }
    }
}

/// A bundle that may score.
pub struct Ready {
    pub dir: BundleDir,
    pub model: Model,
}

pub struct Prepared {
    pub then: Then,
    pub result: Result<Ready, CommandError>,
}

/// Starts the thread; whether that was possible. `window_us`: of the agent.
pub fn prepare(
    from: Lies,
    then: Then,
    bundles: Bundles,
    catalogue: Catalogue,
    window_us: u64,
    done: mpsc::Sender<Finished>,
) -> bool {
    let work = move || {
        let result = ready(from, &bundles, &catalogue, window_us);
        // Nobody listens any more: the agent is stopping.
        let _ = done.blocking_send(Finished::Prepared(Box::new(Prepared { then, result })));
    };
    // A thread that cannot be started drops what it was to do, and with it the reply: whoever asked is told that no answer came.
    let started = std::thread::Builder::new().name("weir-models".into()).spawn(work);
    started.inspect_err(|e| log::error!("a bundle cannot be checked: no thread can be started: {e}")).is_ok()
}

fn ready(from: Lies, bundles: &Bundles, catalogue: &Catalogue, window_us: u64) -> Result<Ready, CommandError> {
    let path = match &from {
        Lies::Staged(staging) => staging.path().to_owned(),
        Lies::Stored(dir) => dir.path.clone(),
    };
    let refused = |why: String| match &from {
        Lies::Staged(_) => CommandError::Refused(format!("the bundle is refused: {why}")),
        Lies::Stored(dir) => CommandError::Refused(format!("bundle {} is refused: {why}", dir.id)),
    };
    check_within(&path, ChildLimits::QUICK).map_err(|e| refused(e.reason()))?;
    let bundle = load_here(&path).map_err(|e| refused(e.reason()))?;
    fits_an_agent(&bundle, Some(window_us)).map_err(refused)?;
    let dir = match from {
        Lies::Stored(dir) => dir,
        Lies::Staged(staging) => keep(&bundle, &staging, bundles)?,
    };
    catalogue.put(&dir.id, Summary::of(&bundle, &dir.path));
    bundles.prune(KEEP, Some(&dir.id))?;
    Ok(Ready { dir, model: Model::new(bundle) })
}

/// Moves a checked bundle into the store, under the id that its contents give it.
fn keep(bundle: &Bundle, staging: &Staging, bundles: &Bundles) -> Result<BundleDir, CommandError> {
    if let Ok(there) = bundles.get(bundle.id()) {
        let whole = |i: &Inspected| i.id == bundle.id() && i.files.iter().all(|f| f.state == FileState::Matches);
        if Inspected::read(&there.path).is_ok_and(|i| whole(&i)) {
            return Ok(there);
        }
        // What lies there was damaged, and this is what it was.
        fs::remove_dir_all(&there.path)
            .map_err(|e| CommandError::Failed(format!("cannot remove the damaged {}: {e}", there.path.display())))?;
    }
    Ok(bundles.install_from(staging.path(), bundle.id())?)
}
