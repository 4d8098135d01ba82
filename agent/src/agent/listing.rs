//! Lists: taken, restored, shown and ended.

use std::collections::BTreeSet;

use tokio::sync::mpsc;
use weir_core::decision::Target;
use weir_core::decisions::lists::{Change, Draft, From, List, Remasked, Take};
use weir_core::event::{DecisionChange, Level, Mode};
use weir_core::record::TimeUs;

use super::Agent;
use crate::command::{Caller, CommandError, DecisionReport, ListReport, ListTaken, ListsCommand, Reply};
use crate::human::grouped;
use crate::lists::store::Keeper;
use crate::lists::{self, Arrived, Brought, FeedState, Feeds};
use crate::store::Saved;

/// Members that are shown in one answer.
pub const SHOWN: usize = 5_000;

/// What an agent has of lists beside the wanted state.
pub struct Lists {
    /// `None`: the folder cannot be written.
    keeper: Option<Keeper>,
    feeds: Feeds,
    /// What feeds bring, until the event loop takes it.
    arriving: Option<mpsc::Receiver<Arrived>>,
}

impl Lists {
    pub fn new() -> Self {
        let (feeds, arriving) = Feeds::new();
        Self { keeper: None, feeds, arriving: Some(arriving) }
    }

    /// Of feeds that fail.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let failing = |(name, s): (&String, &FeedState)| {
            (!s.error.is_empty()).then(|| format!("the list {name} stays as it was: {}", s.error))
        };
        self.feeds.states.iter().filter_map(failing)
    }

    pub fn close(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.close();
        }
    }
}

impl Agent {
    /// Takes over what an earlier agent left on disk, before anything is written to the kernel.
    pub(super) fn restore_lists(&mut self, now: TimeUs) {
        let (keeper, stored, wrong) = Keeper::open(&self.config.state_dir);
        for words in wrong {
            self.news(now, Level::Error, "lists", words.clone());
            self.warnings.insert("lists", words);
        }
        match keeper {
            Ok(keeper) => self.lists.keeper = Some(keeper),
            Err(e) => self.warn("lists", format!("lists cannot be stored and will not outlive this agent: {e}")),
        }
        let wanted: BTreeSet<String> = lists::wanted(&self.config).iter().map(|w| w.name().to_owned()).collect();
        for (list, saved) in stored {
            let name = list.draft.name.clone();
            if list.draft.from != From::Import && !wanted.contains(&name) {
                self.forget_list(&name, now);
                continue;
            }
            let elapsed = Saved::now().ok().and_then(|n| saved.elapsed_us(&n));
            match self.decisions.restore_list(list, now, elapsed) {
                Ok(n) => self.news(
                    now,
                    Level::Info,
                    "lists",
                    format!("took over the list {name} with {} entries", grouped(n as u64)),
                ),
                Err(e) => self.warn("lists", format!("the stored list {name} is not in force: {e}")),
            }
        }
    }

    /// A list that the configuration named goes from the disk.
    fn forget_list(&mut self, name: &str, now: TimeUs) {
        self.news(now, Level::Info, "lists", format!("the list {name} is gone: the configuration names it no more"));
        self.keep_list(name, None);
    }

    /// What feeds bring from now on; once.
    pub fn feeds(&mut self) -> Option<mpsc::Receiver<Arrived>> {
        let arriving = self.lists.arriving.take();
        self.configure_feeds();
        arriving
    }

    /// Runs what the configuration names, and ends what it names no more.
    pub(super) fn configure_feeds(&mut self) {
        let wanted = lists::wanted(&self.config);
        let now = self.now();
        let named: BTreeSet<&str> = wanted.iter().map(|w| w.name()).collect();
        let fed = self.decisions.lists().iter().filter(|l| l.from != From::Import && !named.contains(l.name.as_str()));
        let gone: Vec<String> = fed.map(|l| l.name.clone()).collect();
        for name in gone {
            if self.decisions.remove_list(&name).is_ok() {
                self.unwritten = true;
                self.forget_list(&name, now);
            }
        }
        let decisions = &self.decisions;
        let held = |name: &str| {
            let l = decisions.list(name)?;
            let mut draft = Draft::new(l.name.clone(), l.from.clone(), l.comment.clone());
            (draft.rules, draft.reasons) = (l.rules.to_vec(), l.reasons.to_vec());
            draft.members = l.members().iter().chain(l.masked().iter()).copied().collect();
            Some(draft)
        };
        self.lists.feeds.configure(wanted, held);
    }

    /// Something came from a feed.
    pub fn list_arrived(&mut self, arrived: Arrived) {
        let now = self.now();
        let Arrived { name, what } = arrived;
        // The configuration has changed meanwhile.
        if !self.lists.feeds.states.contains_key(&name) {
            return;
        }
        let taken = what.and_then(|brought| match brought {
            Some(brought) => self.take_brought(&name, brought, now),
            None => Ok(None),
        });
        let state = self.lists.feeds.states.entry(name.clone()).or_default();
        let before = std::mem::take(&mut state.error);
        match taken {
            Ok(warning) => {
                state.last_success_us = Some(now);
                // What was said of a full answer holds until the next one.
                state.error = warning.unwrap_or_else(|| before.clone());
            }
            Err(why) => state.error = why,
        }
        let error = state.error.clone();
        if error != before {
            match error.as_str() {
                "" => self.news(now, Level::Info, "lists", format!("the list {name} is read again")),
                why => self.news(now, Level::Warning, "lists", format!("the list {name} stays as it was: {why}")),
            }
        }
        self.settle(now);
    }

    fn take_brought(&mut self, name: &str, brought: Brought, now: TimeUs) -> Result<Option<String>, String> {
        let held = self.decisions.list(name).map_or(0, List::len);
        let comes = brought.draft.members.len();
        if let Some(most) = brought.max_shrink
            && held > 0
            && (comes as f64) < held as f64 * (1.0 - most)
        {
            return Err(format!(
                "it would shrink from {} to {} entries, and at most {}% may go at once (if that is right: `weir lists remove {name}`)",
                grouped(held as u64),
                grouped(comes as u64),
                (most * 100.0).round()
            ));
        }
        let change = self.decisions.take_list(brought.draft, Take::Replace, now).map_err(|e| e.to_string())?;
        let state = self.lists.feeds.states.entry(name.to_owned()).or_default();
        state.left_out = brought.left_out;
        if change.added + change.removed > 0 {
            self.list_changed(now, name, &change, None);
        }
        self.keep_list(name, None);
        Ok(brought.warning)
    }

    /// Tells of it, and remembers what the kernel lacks.
    fn list_changed(&mut self, now: TimeUs, name: &str, change: &Change, by: Option<&Caller>) {
        self.unwritten = true;
        self.unsaved = true;
        let mut words = format!(
            "list {name}: {} entries, {} new, {} gone",
            grouped(change.members as u64),
            grouped(change.added as u64),
            grouped(change.removed as u64)
        );
        if change.protected + change.too_wide > 0 {
            words += &format!(
                "; not enforced: {} protected, {} too wide",
                grouped(change.protected as u64),
                grouped(change.too_wide as u64)
            );
        }
        let words = by.map_or(words.clone(), |by| by.sign(&words));
        self.news(now, Level::Info, "lists", words);
        for (new, d) in change.told.clone() {
            let what = if new { DecisionChange::Added } else { DecisionChange::Deleted };
            self.decided(now, what, d, String::new());
        }
    }

    /// Stores a list as it is now, or that it is gone.
    fn keep_list(&mut self, name: &str, then: Option<Box<dyn FnOnce(std::io::Result<()>) + Send>>) {
        let list = self.decisions.list(name).cloned();
        match (&self.lists.keeper, then) {
            (Some(keeper), then) => keeper.keep(name, list, then),
            (None, Some(then)) => then(Err(std::io::Error::other("the state directory cannot be written"))),
            (None, None) => {}
        }
    }

    pub(super) fn lists_command(&mut self, command: ListsCommand) {
        match command {
            ListsCommand::Take { draft, take, dry_run, by, reply } => self.import(draft, take, dry_run, &by, reply),
            ListsCommand::List { reply } => drop(reply.send(Ok(self.list_reports()))),
            ListsCommand::Show { name, after, reply } => drop(reply.send(self.show_list(&name, after))),
            ListsCommand::Remove { name, by, reply } => self.remove_list(&name, &by, reply),
        }
    }

    fn import(&mut self, mut draft: Draft, take: Take, dry_run: bool, by: &Caller, reply: Reply<ListTaken>) {
        if self.kernel.is_none() {
            let words = "this agent has no interface, so it can stop nothing; set `interface`, or run it with -i";
            return drop(reply.send(Err(CommandError::Refused(words.to_owned()))));
        }
        let now = self.now();
        let name = draft.name.clone();
        draft.comment = by.sign(&draft.comment);
        let done = match dry_run {
            true => self.decisions.plan_list(draft, take, now),
            false => self.decisions.take_list(draft, take, now),
        };
        let change = match done {
            Ok(change) => change,
            Err(e) => return drop(reply.send(Err(e.into()))),
        };
        let mut taken = taken(&change);
        if dry_run {
            return drop(reply.send(Ok(taken)));
        }
        self.list_changed(now, &name, &change, Some(by));
        self.settle(now);
        let note = match self.config.mode {
            _ if self.unwritten => {
                "the kernel does not hold the list yet; `weir status` says why, and it is tried again"
            }
            Mode::Review | Mode::Enforce => "",
            Mode::Shadow => "mode shadow: it counts what it would have dropped, and drops nothing",
            Mode::Observe => "mode observe: nothing is entered",
        };
        taken.note = note.to_owned();
        let then = move |stored: std::io::Result<()>| {
            if let Err(e) = stored {
                taken.note += &format!(" (it could not be stored and will not outlive this agent: {e})");
            }
            drop(reply.send(Ok(taken)));
        };
        self.keep_list(&name, Some(Box::new(then)));
    }

    fn remove_list(&mut self, name: &str, by: &Caller, reply: Reply<u64>) {
        let now = self.now();
        let gone = match self.decisions.remove_list(name) {
            Ok(gone) => gone,
            Err(e) => return drop(reply.send(Err(e.into()))),
        };
        self.unwritten = true;
        self.news(
            now,
            Level::Info,
            "lists",
            by.sign(&format!("list {name} is gone, with {} entries", grouped(gone.len() as u64))),
        );
        self.settle(now);
        let members = gone.len() as u64;
        let then = move |stored: std::io::Result<()>| {
            let failed = |e: std::io::Error| {
                CommandError::Failed(format!(
                    "the list is gone, but its file is not and it would come back at a restart: {e}"
                ))
            };
            drop(reply.send(stored.map(|()| members).map_err(failed)));
        };
        self.keep_list(name, Some(Box::new(then)));
        self.lists.feeds.poke(name, true);
    }

    fn list_reports(&self) -> Vec<ListReport> {
        let states = &self.lists.feeds.states;
        let report = |l: &List| {
            let actions: BTreeSet<String> = l
                .rules
                .iter()
                .map(|r| r.limit.map_or_else(|| format!("{:?}", r.action).to_lowercase(), |l| format!("limit {l}")))
                .collect();
            let used: BTreeSet<u8> = l.members().iter().chain(l.masked().iter()).map(|m| m.rule).collect();
            let actions = if used.len() == l.rules.len() {
                actions
            } else {
                used.iter()
                    .filter_map(|r| l.rules.get(usize::from(*r)))
                    .map(|r| r.limit.map_or_else(|| format!("{:?}", r.action).to_lowercase(), |l| format!("limit {l}")))
                    .collect()
            };
            let state = states.get(&l.name).cloned().unwrap_or_default();
            ListReport {
                name: l.name.clone(),
                kind: kind(&l.from).to_owned(),
                comment: l.comment.clone(),
                members: l.members().len() as u64,
                protected: l.masked().len() as u64,
                actions: actions.into_iter().collect::<Vec<_>>().join(", "),
                created_us: l.created_us,
                replaced_us: l.replaced_us,
                last_success_us: state.last_success_us,
                error: state.error,
                left_out: state.left_out,
            }
        };
        let mut all: Vec<ListReport> = self.decisions.lists().iter().map(report).collect();
        // Nothing has come of it yet.
        for (name, state) in states.iter().filter(|(name, _)| self.decisions.list(name).is_none()) {
            let state = state.clone();
            let kind = if name == lists::crowdsec::LIST { "crowdsec" } else { "source" };
            all.push(ListReport {
                name: name.clone(),
                kind: kind.to_owned(),
                comment: String::new(),
                members: 0,
                protected: 0,
                actions: String::new(),
                created_us: 0,
                replaced_us: 0,
                last_success_us: state.last_success_us,
                error: state.error,
                left_out: state.left_out,
            });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn show_list(&self, name: &str, after: Option<Target>) -> Result<Vec<DecisionReport>, CommandError> {
        let list = self.decisions.list(name);
        let list = list
            .ok_or_else(|| CommandError::NotFound(format!("there is no list {name}; `weir lists list` shows all")))?;
        let from = after.map_or(0, |t| list.members().partition_point(|m| Target::Net(m.prefix) <= t));
        let behind = &list.members()[from..];
        // A target with several actions is not torn apart.
        let mut n = behind.len().min(SHOWN);
        while n > 0 && n < behind.len() && behind[n].prefix == behind[n - 1].prefix {
            n += 1;
        }
        let shown = behind[..n].iter().filter_map(|m| list.decision(m));
        Ok(shown.map(|d| self.report(d, String::new())).collect())
    }

    /// Lists whose members ended, or that the guard has changed.
    pub(super) fn look_at_lists(&mut self, now: TimeUs) {
        for (name, told, n) in self.decisions.expire_lists(now) {
            self.unwritten = true;
            if told.len() == n {
                told.into_iter().for_each(|d| self.decided(now, DecisionChange::Expired, d, String::new()));
            } else {
                self.news(
                    now,
                    Level::Info,
                    "lists",
                    format!("list {name}: the time of {} entries is over", grouped(n as u64)),
                );
            }
        }
        for Remasked { name, lifted, back } in self.decisions.take_remasked() {
            self.unwritten = true;
            let words = match (lifted, back) {
                (0, back) => format!(
                    "list {name}: {} entries are enforced again: nothing protects them any more",
                    grouped(back as u64)
                ),
                (lifted, _) => {
                    format!("list {name}: {} entries are not enforced: they are protected now", grouped(lifted as u64))
                }
            };
            self.news(now, Level::Info, "lists", words);
        }
    }
}

fn kind(from: &From) -> &'static str {
    match from {
        From::Import => "import",
        From::Source(_) => "source",
        From::CrowdSec(_) => "crowdsec",
    }
}

fn taken(c: &Change) -> ListTaken {
    ListTaken {
        members: c.members as u64,
        added: c.added as u64,
        removed: c.removed as u64,
        kept: c.kept as u64,
        protected: c.protected as u64,
        too_wide: c.too_wide as u64,
        named: c.named.iter().map(|(p, why)| format!("{p}: {why}")).collect(),
        note: String::new(),
    }
}
