//! Benign rows of what is read: what is used for training and what is not, counted by the reason.

use std::collections::BTreeMap;

use weir_core::addr::Addr;
use weir_core::profile::ProfileId;
use weir_core::record::{EndReason, Have, TimeUs};
use weir_core::table::Touched;
use weir_core::window::SourceWindow;
use weir_source::label::{Verdict, verdict};
use weir_source::{Observation, Stop, Taker};

use super::replay::is_housekeeping;
use super::windows::Windows;
use crate::human::grouped;
use crate::learn::{Baseline, MODEL_SHARE, Recorded, Rows, lay_apart};

/// Flows turned into rows at once.
const BATCH: usize = 1024;
/// Labels counted one by one; the rest together.
const MAX_LABELS: usize = 50;
/// Fewest rows that a model is made of.
pub const MIN_ROWS: usize = 200;

/// What was used, and what was not. Flows that go on are counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Flows labelled as benign.
    pub benign: u64,
    /// Flows of which nobody said what they are: taken as benign.
    pub unlabelled: u64,
    /// Flows left out, by the label that names an attack.
    pub attacks: BTreeMap<String, u64>,
    /// Flows of DHCP and neighbour discovery.
    pub housekeeping: u64,
    /// Flows that a profile could not have, by what they lack.
    pub lacking: BTreeMap<(ProfileId, String), u64>,
    /// Source windows.
    pub windows: u64,
}

impl Used {
    pub fn flows(&self) -> u64 {
        self.benign + self.unlabelled
    }

    /// Decides about a flow; `None` where it is left out.
    fn sort(&mut self, flow: &Observation) -> Option<()> {
        let once = u64::from(flow.record.end_reason != EndReason::Checkpoint);
        if is_housekeeping(&flow.record) {
            self.housekeeping += once;
            return None;
        }
        match verdict(flow.label.as_deref()) {
            Verdict::Benign => self.benign += once,
            Verdict::Unlabelled => self.unlabelled += once,
            Verdict::Attack => {
                *counter(&mut self.attacks, flow.label.as_deref().unwrap_or_default()) += once;
                return None;
            }
        }
        Some(())
    }

    fn lack(&mut self, profile: ProfileId, have: Have, once: u64) {
        let lacks: Vec<_> = profile.needs().without(have).names().collect();
        *self.lacking.entry((profile, lacks.join(", "))).or_default() += once;
    }

    /// Why there are no rows of a profile.
    pub fn why_none(&self, profile: ProfileId) -> String {
        let lacking = || self.lacking.iter().filter(|((p, _), _)| *p == profile);
        let all: u64 = lacking().map(|(_, n)| n).sum();
        match lacking().max_by_key(|(_, n)| **n) {
            None => "there are no benign flows".to_owned(),
            Some(((_, what), n)) if *n == all => format!("{} flows do not tell {what}", grouped(all)),
            Some(((_, what), n)) => {
                let (all, n) = (grouped(all), grouped(*n));
                format!("{all} flows do not tell all that it needs, {n} of them not {what}")
            }
        }
    }
}

/// The count of a label, of which a bounded number are told apart.
pub fn counter<'m, T: Default>(counts: &'m mut BTreeMap<String, T>, label: &str) -> &'m mut T {
    let known = counts.len() < MAX_LABELS || counts.contains_key(label);
    counts.entry(if known { label } else { "(other labels)" }.to_owned()).or_default()
}

/// Whose flows teach.
pub type Teachers = Box<dyn Fn(Addr) -> bool>;

/// Takes what is read.
pub struct Gathering {
    /// `None`: everybody's.
    only: Option<Teachers>,
    wanted: Vec<ProfileId>,
    recorded: Recorded,
    windows: Windows,
    /// With the times at which they became known.
    batch: Vec<(Option<TimeUs>, Observation)>,
    /// End of the epoch, where packets are read.
    now: Option<TimeUs>,
    window_us: u64,
    /// Inputs have nothing to do with each other: see [`lay_apart`].
    apart: bool,
    pub used: Used,
}

impl Gathering {
    pub fn new(wanted: &[ProfileId], window_us: u64) -> Self {
        Self {
            only: None,
            wanted: wanted.to_vec(),
            recorded: Recorded::new(wanted, window_us),
            windows: Windows::new(window_us),
            batch: Vec::with_capacity(BATCH),
            now: None,
            window_us,
            apart: false,
            used: Used::default(),
        }
    }

    /// For inputs that have nothing to do with each other: see [`lay_apart`].
    pub fn apart(wanted: &[ProfileId], window_us: u64) -> Self {
        Self { apart: true, ..Self::new(wanted, window_us) }
    }

    /// Flows of other sources are passed over, and so are those of which it is not known whose they are.
    pub fn of(self, only: Teachers) -> Self {
        Self { only: Some(only), ..self }
    }

    fn add_batch(&mut self) {
        for &profile in self.wanted.iter().filter(|p| **p != ProfileId::Source) {
            let complete = |(_, f): &&(Option<TimeUs>, Observation)| f.record.have.has(profile.needs());
            self.recorded.add_flows(profile, self.batch.iter().filter(complete).map(|(t, f)| (*t, &f.record)));
        }
        self.batch.clear();
    }

    /// Everything was read: the rows, ready to be trained on. `alert_budget_per_day` is in source alerts.
    pub fn close(mut self, alert_budget_per_day: f64) -> (Baseline, Used, u64) {
        self.add_batch();
        let (recorded, used) = (&mut self.recorded, &mut self.used);
        self.windows.end(&mut |now, rows| add_windows(recorded, used, now, rows));
        let thinning = self.recorded.thinning();
        let origin = origin(&self.used);
        let ends = if self.apart { lay_apart(&mut self.recorded, self.window_us) } else { Vec::new() };
        let cut = cut(&self.recorded.profiles);
        let baseline = Baseline {
            // Not in the middle of an input.
            cut: cut.map(|cut| ends.into_iter().find(|end| *end >= cut).unwrap_or(cut)),
            profiles: self.recorded.profiles,
            window_us: self.window_us,
            alert_budget_per_day,
            origin,
            // The same input gives the same bytes, whenever that is.
            trained_at_us: None,
        };
        (baseline, self.used, thinning)
    }
}

fn add_windows(recorded: &mut Recorded, used: &mut Used, now: TimeUs, rows: &[SourceWindow]) {
    used.windows += rows.len() as u64;
    recorded.add_windows(now, rows);
}

impl Taker for Gathering {
    fn record(&mut self, flow: Observation) -> Result<(), Stop> {
        let known = flow.record.have.has(Have::ADDRESSES);
        if self.only.as_ref().is_some_and(|only| !known || !only(flow.record.client)) {
            return Ok(());
        }
        if self.used.sort(&flow).is_none() {
            return Ok(());
        }
        let (r, once) = (&flow.record, u64::from(flow.record.end_reason != EndReason::Checkpoint));
        for &profile in &self.wanted {
            if !r.have.has(profile.needs()) {
                self.used.lack(profile, r.have, once);
            } else if profile == ProfileId::Source && self.now.is_none() && r.first_record {
                self.windows.told(r);
            }
        }
        let known = self.now.or(r.have.has(Have::TIME).then_some(r.end_us));
        self.batch.push((known, flow));
        if self.batch.len() >= BATCH {
            self.add_batch();
        }
        Ok(())
    }

    fn epoch(&mut self, end_us: u64, touched: &[Touched]) {
        self.now = Some(end_us);
        if self.wanted.contains(&ProfileId::Source) {
            let (recorded, used) = (&mut self.recorded, &mut self.used);
            let of_teachers: Vec<Touched>;
            let touched = match &self.only {
                None => touched,
                Some(only) => {
                    of_teachers = touched.iter().filter(|t| only(t.client)).copied().collect();
                    &of_teachers
                }
            };
            self.windows.epoch(end_us, touched, &mut |now, rows| add_windows(recorded, used, now, rows));
        }
    }

    fn end(&mut self) {
        let (recorded, used) = (&mut self.recorded, &mut self.used);
        if self.apart {
            let windows = std::mem::replace(&mut self.windows, Windows::new(self.window_us));
            windows.end(&mut |now, rows| add_windows(recorded, used, now, rows));
            self.add_batch();
            self.recorded.next_input();
        } else {
            self.windows.end_of_input(&mut |now, rows| add_windows(recorded, used, now, rows));
        }
        self.now = None;
    }
}

/// The time up to which lies the share of the rows that makes the models. Recordings of several days have gaps: it goes by
/// rows, not by the clock. `None` where evidence can rest on no row.
fn cut(profiles: &[Rows]) -> Option<TimeUs> {
    let times = |rows: &Rows| -> Vec<TimeUs> {
        rows.origins.iter().filter_map(|o| o.observation.as_ref()).map(|o| o.time_us).collect()
    };
    let mut times = profiles.iter().map(times).find(|t| !t.is_empty())?;
    times.sort_unstable();
    times.get(((times.len() as f64 * MODEL_SHARE) as usize).saturating_sub(1)).copied()
}

/// For the manifest: who serves a model should know what it was taught by.
fn origin(used: &Used) -> String {
    let mut of = format!("{} flows and {} source windows of files", used.flows(), used.windows);
    let attacks: u64 = used.attacks.values().sum();
    if used.benign > 0 {
        of += &format!(", {} of the flows labelled as benign", used.benign);
    } else {
        of += ", without labels";
    }
    if attacks > 0 {
        of += &format!("; {attacks} labelled as attacks left out");
    }
    of
}
