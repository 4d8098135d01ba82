//! Sources in two parts: the benign flows of one train a model, the sources of the other are judged by it.

use std::hash::{DefaultHasher, Hash, Hasher};

use weir_core::addr::{Addr, Prefix};
use weir_core::profile::ProfileId;

use super::WINDOW_US;
use crate::config::DEFAULT_ALERT_BUDGET;
use crate::offline::Reading;
use crate::offline::progress::Progress;
use crate::offline::tally::Tally;
use crate::offline::train::{Gathering, MIN_ROWS};
use crate::pipeline::Model;

/// Whether a source is in the part that is trained on; the same seed divides the same.
pub fn teaches(source: Addr, share: f64, seed: u64) -> bool {
    let mut h = DefaultHasher::new();
    (seed, source).hash(&mut h);
    ((h.finish() >> 11) as f64 / (1_u64 << 53) as f64) < share
}

/// A model of the benign flows of the sources that teach, malicious ones left out.
pub fn train(
    reading: &Reading,
    malicious: &[Prefix],
    share: f64,
    seed: u64,
    progress: &Progress,
) -> anyhow::Result<Model> {
    let malicious = malicious.to_vec();
    let only = move |s: Addr| teaches(s, share, seed) && !malicious.iter().any(|p| p.contains(s));
    let mut gathering = Gathering::new(&[ProfileId::Core, ProfileId::Source], WINDOW_US).of(Box::new(only));
    // As agents score.
    let reading = Reading { checkpoints: true, ..reading.clone() };
    reading.read_into(progress, &mut Tally::default(), &mut gathering);
    let (baseline, used, _) = gathering.close(DEFAULT_ALERT_BUDGET);
    for rows in &baseline.profiles {
        let (profile, n) = (rows.profile(), baseline.model_rows(rows));
        if rows.is_empty() {
            anyhow::bail!("profile `{profile}` cannot be trained: {}", used.why_none(profile));
        }
        if n < MIN_ROWS {
            anyhow::bail!(
                "profile `{profile}` cannot be trained: {n} benign rows are too few, at least {MIN_ROWS} are needed"
            );
        }
    }
    let (trained, _) = baseline.train(seed, &mut |p| {
        progress.stage(&format!("sources, seed {seed}, profile {}: {} {} of {}", p.profile, p.stage, p.done, p.total));
    })?;
    Ok(Model::new(trained.into_bundle()))
}
