//! Which bundle serves, and which one challenges it. Whatever takes long is done on threads: the loop only swaps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use weir_core::event::Level;
use weir_core::record::TimeUs;

use super::Agent;
use super::learning::unpromoted;
use crate::clock::wall_us;
use crate::command::{BundleReport, Caller, CommandError, Purpose, Reply};
use crate::compare::Settings;
use crate::compare::challenger::Challenger;
use crate::model::{self, Catalogue, Lies, Prepared, Ready, Staging, Summary, Then, inspect};
use crate::pipeline::{Model, Scored};
use crate::proto as pb;
use crate::store::BundleDir;

/// Bundles that may be on their way into the store at once.
const MAX_STAGED: usize = 4;
/// Lists and descriptions of bundles that may be read at once.
const MAX_READERS: usize = 4;

/// What the agent knows of bundles besides the store.
#[derive(Default)]
pub(super) struct Models {
    /// The one that serves, whatever was chosen.
    serving: Option<String>,
    pub(super) challenger: Option<Challenger>,
    catalogue: Catalogue,
    /// A bundle is being checked.
    preparing: bool,
    /// Folders that bundles are written into: each has a copy.
    slots: Arc<()>,
    staged: u64,
    readers: Arc<AtomicUsize>,
}

/// What a thread answers that reads bundles: it counts against [`MAX_READERS`] until it is dropped.
struct Reader(Arc<AtomicUsize>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Agent {
    /// Checks, loads and serves a bundle, waiting for all of that: for the start, when nothing is drained yet.
    pub(super) fn load_and_serve(&mut self, dir: &BundleDir) -> Result<(), weir_models::BundleError> {
        model::check(&dir.path)?;
        let bundle = model::load_here(&dir.path)?;
        let fits = model::fits_an_agent(&bundle, Some(self.config.window.as_micros() as u64));
        self.take_service(dir, Model::new(bundle));
        if let Err(why) = fits {
            self.warn("model", format!("bundle {} serves, but {why}", dir.id));
        }
        Ok(())
    }

    /// Puts a bundle into service that was checked and chosen.
    pub(super) fn take_service(&mut self, dir: &BundleDir, model: Model) {
        if self.models.catalogue.get(&dir.id).is_none() {
            self.models.catalogue.put(&dir.id, Summary::of(&model.bundle, &dir.path));
        }
        self.pipeline.serve(model);
        self.models.serving = Some(dir.id.clone());
        self.set_promoted(dir.promoted);
        self.warnings.remove("model");
        // A comparison is with what serves: it begins anew. What serves challenges nobody.
        if let Some(old) = self.models.challenger.take() {
            self.pipeline.tap = false;
            if old.id() != dir.id {
                self.start_challenge(old.id().to_owned(), old.model().clone());
            }
        }
    }

    fn set_promoted(&mut self, promoted: bool) {
        let config = super::policy(&self.config, promoted);
        self.pipeline.policy.set_config(config);
    }

    /// The bundle that serves.
    pub(super) fn serving_report(&self) -> Option<BundleReport> {
        let current = self.store.bundles().current()?;
        let report = self.models.catalogue.describe(&current, self.models.serving.as_deref());
        report.current.then_some(report)
    }

    fn describe(&self, dir: &BundleDir) -> BundleReport {
        self.models.catalogue.describe(dir, self.models.serving.as_deref())
    }

    /// Starts a thread that reads bundles and answers.
    fn on_a_thread<T: Send + 'static>(
        &self,
        reply: Reply<T>,
        work: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
    ) {
        let readers = self.models.readers.clone();
        if readers.fetch_add(1, Ordering::AcqRel) >= MAX_READERS {
            drop(Reader(readers));
            let words = format!("{MAX_READERS} others are asking about models; try again in a moment");
            return drop(reply.send(Err(CommandError::Full(words))));
        }
        let reader = Reader(readers);
        let spawned = std::thread::Builder::new().name("weir-inspect".into()).spawn(move || {
            let _reader = reader;
            // Whoever asked may have hung up.
            let _ = reply.send(work());
        });
        if let Err(e) = spawned {
            // The reply went with the thread: whoever asked is told that no answer came.
            log::error!("no thread can be started to look at models: {e}");
        }
    }

    /// Every bundle, the chosen one first.
    pub(super) fn bundles(&self, reply: Reply<Vec<BundleReport>>) {
        let dirs = match self.store.bundles().list() {
            Ok(dirs) => dirs,
            Err(e) => return drop(reply.send(Err(e.into()))),
        };
        let (catalogue, serving) = (self.models.catalogue.clone(), self.models.serving.clone());
        let built_in = self.describe_default().filter(|b| b.current);
        self.on_a_thread(reply, move || {
            catalogue.read_all(&dirs);
            Ok(dirs.iter().map(|dir| catalogue.describe(dir, serving.as_deref())).chain(built_in).collect())
        });
    }

    pub(super) fn inspect(&self, id: &str, reply: Reply<pb::BundleDetail>) {
        match self.find(id) {
            Ok(dir) => self.on_a_thread(reply, move || {
                inspect::inspect(&dir.path)
                    .map_err(|e| CommandError::Failed(format!("bundle {}: {}", dir.id, e.reason())))
            }),
            Err(e) => drop(reply.send(Err(e))),
        }
    }

    /// A bundle by its id, or by the beginning of it where that is no other's.
    fn find(&self, id: &str) -> Result<BundleDir, CommandError> {
        let bundles = self.store.bundles();
        let exact = bundles.get(id);
        if let (Err(_), Ok(all)) = (&exact, bundles.list()) {
            let mut alike = all.into_iter().filter(|b| id.len() >= 4 && b.id.starts_with(id));
            if let (Some(one), None) = (alike.next(), alike.next()) {
                return Ok(one);
            }
        }
        Ok(exact?)
    }

    /// A folder that a bundle from elsewhere can be written into.
    pub(super) fn stage(&mut self) -> Result<Staging, CommandError> {
        if Arc::strong_count(&self.models.slots) > MAX_STAGED {
            let words = format!("{MAX_STAGED} bundles are being loaded already; try again in a moment");
            return Err(CommandError::Full(words));
        }
        self.models.staged += 1;
        let path = self.store.bundles().stage(&format!("upload-{}", self.models.staged))?;
        Ok(Staging::new(path, self.models.slots.clone()))
    }

    /// Has a bundle checked and loaded, and goes on in [`Agent::prepared`].
    fn prepare(&mut self, from: Lies, then: Then) {
        if self.models.preparing {
            let words = "another bundle is being checked, which takes a few seconds; try again then";
            return then.refuse(CommandError::Refused(words.to_owned()));
        }
        let window_us = self.config.window.as_micros() as u64;
        let (bundles, catalogue) = (self.store.bundles().clone(), self.models.catalogue.clone());
        self.models.preparing = model::prepare(from, then, bundles, catalogue, window_us, self.finished.clone());
    }

    pub(super) fn load(&mut self, staged: Staging, purpose: Purpose, by: Caller, reply: Reply<BundleReport>) {
        let then = match purpose {
            Purpose::Serve => Then::Serve { promote: false, by, reply },
            Purpose::Promote => Then::Serve { promote: true, by, reply },
            Purpose::Challenge => Then::Challenge { by, reply },
        };
        self.prepare(Lies::Staged(staged), then);
    }

    /// A person wants this bundle (the one that serves, unless named) to serve and to lead to actions.
    pub(super) fn promote(&mut self, id: Option<&str>, by: Caller, reply: Reply<BundleReport>) {
        let found = match id {
            Some(id) => self.find(id),
            None => self.store.bundles().current().ok_or_else(|| {
                CommandError::NotFound("there is no bundle yet; `weir status` shows how far learning is".to_owned())
            }),
        };
        match found {
            Ok(dir) if self.models.serving.as_ref() == Some(&dir.id) => {
                drop(reply.send(self.promote_serving(&dir, &by)))
            }
            Ok(dir) => self.prepare(Lies::Stored(dir), Then::Serve { promote: true, by, reply }),
            Err(e) => drop(reply.send(Err(e))),
        }
    }

    fn promote_serving(&mut self, dir: &BundleDir, by: &Caller) -> Result<BundleReport, CommandError> {
        let dir = self.store.bundles().promote(&dir.id)?;
        self.set_promoted(true);
        self.tell_of_promotion(&dir, by);
        Ok(self.describe(&dir))
    }

    fn tell_of_promotion(&self, dir: &BundleDir, by: &Caller) {
        let words = by.sign(&format!("bundle {} is promoted; mode {} holds", dir.id, self.mode().name()));
        self.news(wall_us(), Level::Info, "promoted", words);
    }

    pub(super) fn roll_back(&mut self, steps: usize, by: Caller, reply: Reply<BundleReport>) {
        let bundles = self.store.bundles();
        let found = bundles.back(steps).and_then(|step| bundles.get(&step.id));
        let current = bundles.current().map(|c| c.id).unwrap_or_default();
        match found {
            Ok(dir) => self.prepare(Lies::Stored(dir), Then::RollBack { steps, instead_of: current, by, reply }),
            Err(e) => drop(reply.send(Err(e.into()))),
        }
    }

    pub(super) fn challenge(&mut self, id: &str, by: Caller, reply: Reply<BundleReport>) {
        match self.find(id) {
            Ok(dir) => self.prepare(Lies::Stored(dir), Then::Challenge { by, reply }),
            Err(e) => drop(reply.send(Err(e))),
        }
    }

    pub(super) fn unchallenge(&mut self, by: &Caller) -> Result<String, CommandError> {
        let Some(old) = self.models.challenger.take() else {
            let words = "no bundle challenges the one that serves; `weir model challenge ID|PATH` lets one do so";
            return Err(CommandError::NotFound(words.to_owned()));
        };
        self.pipeline.tap = false;
        self.store.bundles().set_challenger(None)?;
        self.news(wall_us(), Level::Info, "model", by.sign(&format!("bundle {} challenges no more", old.id())));
        Ok(old.id().to_owned())
    }

    pub(super) fn compare(&self, reply: Reply<pb::Comparison>) {
        match &self.models.challenger {
            Some(challenger) => challenger.compare(reply),
            None => {
                let words = "no bundle challenges the one that serves: `weir model challenge ID|PATH` lets one do so, and \
                             `weir model compare A B --over INPUT` compares two over recorded flows";
                drop(reply.send(Err(CommandError::NotFound(words.to_owned()))));
            }
        }
    }

    /// A bundle was checked: it does what it was loaded for, or somebody is told why not.
    pub(super) fn prepared(&mut self, prepared: Prepared) {
        self.models.preparing = false;
        let Prepared { then, result } = prepared;
        let ready = match result {
            Ok(ready) => ready,
            Err(why) => {
                self.news(wall_us(), Level::Warning, "model", format!("{why}; what served before goes on"));
                return then.refuse(why);
            }
        };
        match then {
            Then::Serve { promote, by, reply } => drop(reply.send(self.serve_ready(ready, promote, &by))),
            Then::RollBack { steps, instead_of, by, reply } => {
                drop(reply.send(self.serve_again(ready, steps, &instead_of, &by)));
            }
            Then::Challenge { by, reply } => drop(reply.send(self.challenge_ready(ready, &by))),
            Then::Resume => {
                self.start_challenge(ready.dir.id, ready.model);
            }
        }
    }

    fn serve_ready(&mut self, ready: Ready, promote: bool, by: &Caller) -> Result<BundleReport, CommandError> {
        let bundles = self.store.bundles();
        let id = &ready.dir.id;
        let again = self.models.serving.as_ref() == Some(id);
        let dir = if promote { bundles.promote(id)? } else { bundles.activate(id)? };
        if !again {
            if self.models.serving.is_none() && self.pipeline.take_recorder().is_some() {
                // It was begun for want of a model, and its own would take the place of the one that a person chose.
                let words = "learning ends, since a bundle was loaded; `weir learn` begins it anew";
                self.news(wall_us(), Level::Info, "learn", words.to_owned());
            }
            self.take_service(&dir, ready.model);
            let words = by.sign(&format!("bundle {} serves{}", dir.id, unpromoted(&dir)));
            self.news(wall_us(), Level::Info, "model", words);
        }
        if promote {
            self.set_promoted(true);
            self.tell_of_promotion(&dir, by);
        }
        Ok(self.describe(&dir))
    }

    fn serve_again(
        &mut self,
        ready: Ready,
        steps: usize,
        instead_of: &str,
        by: &Caller,
    ) -> Result<BundleReport, CommandError> {
        let bundles = self.store.bundles();
        let same = bundles.current().is_some_and(|c| c.id == instead_of)
            && bundles.back(steps).is_ok_and(|step| step.id == ready.dir.id);
        if !same {
            let words = "what serves has changed meanwhile; look at `weir model list` and try again";
            return Err(CommandError::Refused(words.to_owned()));
        }
        let dir = bundles.roll_back(steps)?;
        self.take_service(&dir, ready.model);
        let words = by.sign(&format!("bundle {} serves again instead of {instead_of}{}", dir.id, unpromoted(&dir)));
        self.news(wall_us(), Level::Info, "model", words);
        Ok(self.describe(&dir))
    }

    fn challenge_ready(&mut self, ready: Ready, by: &Caller) -> Result<BundleReport, CommandError> {
        let Ready { dir, model } = ready;
        let Some(serving) = self.pipeline.serving() else {
            let words =
                "no bundle serves yet, so there is nothing to compare with: `weir model load` lets this one serve";
            return Err(CommandError::Refused(words.to_owned()));
        };
        if self.models.serving.as_ref() == Some(&dir.id) || serving.bundle.id() == model.bundle.id() {
            let words = format!("bundle {} serves already: it would be compared with itself", dir.id);
            return Err(CommandError::Refused(words));
        }
        self.store.bundles().set_challenger(Some(&dir.id))?;
        self.start_challenge(dir.id.clone(), model);
        let words = by.sign(&format!("bundle {} challenges: it scores silently, `weir model compare` tells", dir.id));
        self.news(wall_us(), Level::Info, "model", words);
        Ok(self.describe(&self.store.bundles().get(&dir.id)?))
    }

    /// Begins a comparison with what serves; one under way is given up.
    fn start_challenge(&mut self, id: String, model: Model) {
        let Some(serving) = self.pipeline.serving().cloned() else { return };
        let settings = Settings {
            window_us: self.config.window.as_micros() as u64,
            policy: super::policy(&self.config, true),
            guard: self.decisions.guard().clone(),
            suppressions: self.pipeline.suppressions.clone(),
        };
        let serves = self.models.serving.clone().unwrap_or_else(|| crate::default_bundle::ID.to_owned());
        let names = [serves, id];
        match Challenger::start(names, model, serving, &settings, wall_us()) {
            Ok(challenger) => {
                self.models.challenger = Some(challenger);
                self.pipeline.tap = true;
            }
            Err(e) => self.warn("challenger", format!("no thread can be started for the challenger: {e}")),
        }
    }

    /// Nothing serves any more that could be challenged. Whoever did so does again once something serves.
    pub(super) fn pause_challenge(&mut self) {
        if let Some(old) = self.models.challenger.take() {
            self.pipeline.tap = false;
            let words = format!("bundle {} waits to challenge until a bundle serves", old.id());
            self.news(wall_us(), Level::Info, "model", words);
        }
    }

    /// The bundle that challenged when the agent before ended, or until nothing served, does so again.
    pub(super) fn resume_challenge(&mut self) {
        if let Some(dir) = self.store.bundles().challenger()
            && self.pipeline.serving().is_some()
            && self.models.challenger.is_none()
        {
            self.prepare(Lies::Stored(dir), Then::Resume);
        }
    }

    pub(super) fn pass_to_challenger(&mut self, now: TimeUs, scored: Option<Box<Scored>>) {
        let Some(challenger) = &mut self.models.challenger else { return };
        match scored {
            Some(scored) => challenger.epoch(now, *scored, self.decisions.guard(), &self.pipeline.suppressions),
            // The serving bundle could not score it.
            None => challenger.left_out(),
        }
    }
}
