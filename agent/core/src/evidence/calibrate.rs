//! Thresholds on evidence, from benign observations replayed through the very engine that runs live.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::{Evidence, EvidenceConfig, Observation, ObservationKind, SURPRISE_CAP};
use crate::addr::Addr;
use crate::busy::Carrier;
use crate::record::TimeUs;

/// Bounds of the allowance per window, nats. The lower one keeps the sum of a source with uniform p-values (0.1 nats
/// per window: e^-3 each from flows and from rows) returning to zero; the upper one leaves half of what an attack
/// shows at p-values of 1 in 400 (3 nats each from flows and from rows).
pub const MIN_ALLOWANCE: f64 = 0.5;
pub const MAX_ALLOWANCE: f64 = 3.0;
/// No alert below this, nats: more than a window shows at a p-value of 1 in 1,000. Above it, the budget alone decides: whoever
/// accepts ten alerts a day of some thousand benign windows has one window in a few hundred to spend, and a scan of five
/// seconds is two windows.
pub const MIN_ALERT: f64 = 4.0;
/// No automatic drop below this, nats: more than one window can give, so that one window never blocks anyone.
pub const MIN_DROP: f64 = 2.0 * SURPRISE_CAP + 0.5;

/// How much higher than the alert threshold, or than the largest benign peak, an automatic drop lies.
const DROP_MARGIN: f64 = 1.25;
/// How much higher than the largest benign peak an alert lies while the budget cannot be certified.
const PEAK_MARGIN: f64 = 1.25;
/// A budget is certified where the calibration data would have spent at least this many alerts.
const CERTIFYING_ALERTS: f64 = 3.0;
/// Peaks are taken per source and this span, µs: 10 minutes, the fast half-life.
const BLOCK_US: u64 = 600_000_000;
/// Bounds of the fitted tail's scale, nats per e-fold. The surprise of a uniform p-value falls off by 1 per e-fold; a
/// lighter tail than that is an accident of a small sample.
const SCALE: (f64, f64) = (1.0, 3.0);
/// Allowance as a multiple of what the windows of the most surprising benign source show on average.
const ALLOWANCE_PER_MEAN: f64 = 1.5;
const MAX_STRANGE: usize = 100;
const DAY_US: f64 = 86_400e6;
/// A silence of more windows than this was watched for as long as these take, not for as long as it was: between recordings of
/// different days nobody watched, and the benign did not show how quiet they can be.
const SILENT_WINDOWS: u64 = 6;
/// The same, at least, µs.
const SILENCE_US: u64 = 60_000_000;

#[derive(Clone, Debug, PartialEq)]
pub struct CalibrationConfig {
    /// Length of a window, µs.
    pub window_us: u64,
    /// False alerts about sources that the operator accepts per day.
    pub alerts_per_day: f64,
    pub max_sources: usize,
}

/// When evidence leads to something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// On the sum over all flows, nats.
    pub alert: f64,
    /// On the sum over proven flows, nats. Not below `alert`.
    pub drop: f64,
    /// Allowance per active window of the sums [all, proven], nats.
    pub allowance: [f64; 2],
    /// The calibration data was long enough to show the budget; else the thresholds are extrapolated.
    pub certified: bool,
    /// Source windows in the calibration data.
    pub benign_windows: u64,
    pub benign_sources: u64,
    /// Sources that were unusual throughout and are left out of the thresholds. They raise alerts, and a person decides.
    #[serde(default)]
    pub strange: Vec<Addr>,
    /// Who carried much of the baseline: [`crate::busy::carriers`].
    #[serde(default)]
    pub carriers: Vec<Carrier>,
    /// How the thresholds came about, in words.
    pub note: String,
}

impl Thresholds {
    /// What holds before anything was learned: policy takes no action on it.
    pub fn uncalibrated() -> Self {
        Self {
            alert: 20.0,
            drop: 30.0,
            allowance: [1.0; 2],
            certified: false,
            benign_windows: 0,
            benign_sources: 0,
            strange: Vec::new(),
            carriers: Vec::new(),
            note: "no benign observations to calibrate on: nothing leads to an action".to_owned(),
        }
    }

    /// For thresholds that go elsewhere: the sources that were unusual throughout, or carried much, mean nothing there, and are
    /// nobody's business.
    pub fn forget_sources(&mut self) {
        self.note = self.note.replace(&format!(" ({})", named(&self.strange)), "");
        self.strange.clear();
        self.carriers.clear();
    }
}

/// The first of the sources that were unusual throughout.
fn named(strange: &[Addr]) -> String {
    strange.iter().take(5).map(Addr::to_string).collect::<Vec<_>>().join(", ")
}

/// Derives thresholds from held-back benign observations. They are sorted by time here; those of one instant are one
/// batch, as live.
///
/// Two passes: the first finds how much the windows of the most surprising benign source show on average, which sets
/// the allowance; the second finds the peak evidence per source and block of time. Where the data would have spent at
/// least three alerts of the budget, the threshold is the peak that spends it. Else an exponential tail is fitted to
/// the largest quarter of the peaks and followed to the budget, and the result is never below the largest peak and a
/// quarter.
///
/// Sources that no allowance would keep down (at most 5% of them, and 100) are left out and named in
/// [`Thresholds::strange`]: one odd device, or an attack under way while learning, must not blind the agent to all
/// others.
///
/// [`Thresholds::carriers`] is left to who has the whole baseline.
pub fn calibrate(observations: impl IntoIterator<Item = Observation>, config: &CalibrationConfig) -> Thresholds {
    let mut obs: Vec<Observation> = observations.into_iter().filter(|o| o.actionable).collect();
    obs.sort_by_key(|o| o.time_us);
    let (Some(first), Some(last)) = (obs.first(), obs.last()) else { return Thresholds::uncalibrated() };
    let (start_us, span_us) = (first.time_us, last.time_us.saturating_sub(first.time_us).max(config.window_us).max(1));
    let windows = obs.iter().filter(|o| matches!(o.kind, ObservationKind::Window { early: false, .. })).count();
    let sources: BTreeSet<Addr> = obs.iter().map(|o| o.source).collect();

    let engine = |allowance| {
        let max_sources = config.max_sources.max(2 * sources.len());
        Evidence::new(EvidenceConfig { window_us: config.window_us, allowance, max_sources })
    };
    let mut plain = engine([0.0; 2]);
    obs.iter().for_each(|o| plain.observe(o));
    let mut means = plain.means();
    means.sort_by(|a, b| largest(b.1).total_cmp(&largest(a.1)).then(a.0.cmp(&b.0)));
    let at_most = (sources.len() / 20).min(MAX_STRANGE);
    let unruly = |m: &&(Addr, [f64; 2])| ALLOWANCE_PER_MEAN * largest(m.1) > MAX_ALLOWANCE;
    let strange: Vec<Addr> = means.iter().take_while(unruly).take(at_most).map(|m| m.0).collect();
    let allowance = [0, 1].map(|i| {
        let mean = means[strange.len()..].iter().map(|m| m.1[i]).fold(0.0, f64::max);
        (ALLOWANCE_PER_MEAN * mean).clamp(MIN_ALLOWANCE, MAX_ALLOWANCE)
    });
    obs.retain(|o| !strange.contains(&o.source));

    let peaks = peaks(engine(allowance), &obs, start_us, span_us);
    let watched_us = watched(&obs, config.window_us);
    let days = watched_us as f64 / DAY_US;
    let budget = config.alerts_per_day.max(1e-3);
    let [all, proven] = [0, 1].map(|i| Tail::of(peaks.iter().map(|p| p[i])));

    let certified = budget * days >= CERTIFYING_ALERTS;
    let (alert, drop) = if certified {
        let alert = all.spending(budget * days).max(MIN_ALERT);
        (alert, DROP_MARGIN * alert.max(proven.max()))
    } else {
        let alert = all.extrapolated(budget * days).max(PEAK_MARGIN * all.max()).max(MIN_ALERT);
        (alert, DROP_MARGIN * proven.extrapolated(budget * days).max(PEAK_MARGIN * proven.max()))
    };
    let drop = drop.max(alert).max(MIN_DROP);

    let mut note = format!(
        "{windows} benign source windows of {} sources over {:.0} s; largest peak {:.1} (proven {:.1})",
        sources.len(),
        watched_us as f64 / 1e6,
        all.max(),
        proven.max(),
    );
    if !certified {
        note += &format!(
            "; too short to show {budget} false alerts a day, which takes {:.1} days: thresholds follow a fitted tail \
             ({:.2} nats per e-fold)",
            CERTIFYING_ALERTS / budget,
            all.scale(),
        );
    }
    if !strange.is_empty() {
        note += &format!(
            "; {} of the sources ({}) were unusual throughout, are left out, and will raise alerts: allow those \
             that are benign",
            strange.len(),
            named(&strange),
        );
    }
    Thresholds {
        alert,
        drop,
        allowance,
        certified,
        benign_windows: windows as u64,
        benign_sources: sources.len() as u64,
        strange,
        carriers: Vec::new(),
        note,
    }
}

/// Time in which something could be seen of anyone, µs. Observations are in the order of time.
fn watched(obs: &[Observation], window_us: u64) -> u64 {
    let silence = (SILENT_WINDOWS * window_us).max(SILENCE_US);
    let gaps = obs.windows(2).map(|o| (o[1].time_us - o[0].time_us).min(silence));
    gaps.sum::<u64>().max(window_us).max(1)
}

/// Peak levels [all, proven] per source (and /64) and block in which it was active.
fn peaks(mut engine: Evidence, obs: &[Observation], start_us: TimeUs, span_us: u64) -> Vec<[f64; 2]> {
    let block_us = BLOCK_US.min(span_us.saturating_add(1));
    let mut peaks: HashMap<(Addr, bool, u64), [f64; 2]> = HashMap::new();
    for batch in obs.chunk_by(|a, b| a.time_us == b.time_us) {
        let now = batch[0].time_us;
        let block = (now - start_us) / block_us;
        batch.iter().for_each(|o| engine.observe(o));
        let touched: BTreeSet<Addr> = batch.iter().map(|o| o.source).collect();
        for source in touched {
            let mut note = |key, values: [f64; 2]| {
                let peak = peaks.entry(key).or_default();
                *peak = [peak[0].max(values[0]), peak[1].max(values[1])];
            };
            note((source, false, block), engine.values(source, now));
            if let Some(net) = source.net6() {
                note((net, true, block), engine.net_values(source, now));
            }
        }
    }
    peaks.into_values().collect()
}

fn largest([a, b]: [f64; 2]) -> f64 {
    a.max(b)
}

/// Peaks in descending order.
struct Tail(Vec<f64>);

impl Tail {
    fn of(peaks: impl Iterator<Item = f64>) -> Self {
        let mut peaks: Vec<f64> = peaks.collect();
        peaks.sort_unstable_by(|a, b| b.total_cmp(a));
        Self(peaks)
    }

    fn max(&self) -> f64 {
        self.0.first().copied().unwrap_or(0.0)
    }

    /// The level that at most `alerts` of the peaks exceed.
    fn spending(&self, alerts: f64) -> f64 {
        self.0.get(alerts as usize).copied().unwrap_or(0.0)
    }

    /// Where the tail starts, and how many peaks lie in it: the largest quarter, at least 5, at most 500.
    fn start(&self) -> (f64, usize) {
        let n = (self.0.len() / 4).clamp(5, 500).min(self.0.len());
        (self.0.get(n).copied().unwrap_or(0.0), n)
    }

    /// Mean excess over the start of the tail, and its own standard error on top.
    fn scale(&self) -> f64 {
        let (start, n) = self.start();
        if n == 0 {
            return SCALE.0;
        }
        let mean = self.0[..n].iter().map(|p| p - start).sum::<f64>() / n as f64;
        (mean * (1.0 + 1.0 / (n as f64).sqrt())).clamp(SCALE.0, SCALE.1)
    }

    /// The level that the fitted tail exceeds `alerts` times in the span of the data.
    fn extrapolated(&self, alerts: f64) -> f64 {
        let (start, n) = self.start();
        start + self.scale() * (n as f64 / alerts.max(f64::MIN_POSITIVE)).ln().max(0.0)
    }
}
