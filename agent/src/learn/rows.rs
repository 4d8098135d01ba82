//! Benign rows as they are recorded: features, where each comes from, and what evidence needs of it.

use std::hash::{DefaultHasher, Hash, Hasher};

use weir_core::addr::Addr;
use weir_core::evidence::Observation;
use weir_core::feature::{core_matrix, full_matrix, source_matrix};
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::record::{FlowRecord, Have, TimeUs};
use weir_core::role::Direction;
use weir_core::window::SourceWindow;
use weir_models::RowInfo;

use crate::exported::ACCOUNTABLE;

/// Rows kept per profile. Beyond that, whole blocks of sources are left out at random, and the rest stays as it was.
pub const MAX_ROWS: usize = 400_000;
/// Windows of one source that are kept or left out together.
const BLOCK_WINDOWS: u64 = 60;

/// Rows of flows of a profile; windows have their own.
pub fn flow_matrix<'a>(profile: ProfileId, records: impl IntoIterator<Item = &'a FlowRecord>) -> FeatureMatrix {
    match profile {
        ProfileId::Core | ProfileId::Source => core_matrix(records),
        ProfileId::Full => full_matrix(records),
    }
}

/// A number that stays the same over runs.
fn hash(what: impl Hash) -> u64 {
    let mut h = DefaultHasher::new();
    what.hash(&mut h);
    h.finish()
}

/// Which rows are kept or left out together: whole blocks of a source stay together, so that evidence is gathered over them
/// as it would have been.
pub fn sample_of(source: Addr, time_us: TimeUs, window_us: u64) -> u64 {
    hash((source, time_us / (BLOCK_WINDOWS * window_us.max(1))))
}

/// What is known of a row beside its features.
#[derive(Clone, Debug)]
pub struct Origin {
    /// `None` where time or source is not known.
    pub place: Option<RowInfo>,
    pub source: Option<Addr>,
    /// Where somebody answers for it.
    pub observation: Option<Observation>,
    /// Number of the input that it was read from; 0 of live traffic.
    pub input: u32,
    /// The first record of a proven flow towards home: by them it is counted who carries what is normal.
    pub carried: bool,
    sample: u64,
}

impl Origin {
    fn new(time_us: Option<TimeUs>, source: Option<Addr>, observation: Option<Observation>, window_us: u64) -> Self {
        let known = time_us.zip(source);
        Self {
            input: 0,
            carried: false,
            place: known.map(|(time_us, source)| RowInfo { time_us, group: hash(source) }),
            source,
            observation,
            sample: known.map_or(0, |(time_us, source)| sample_of(source, time_us, window_us)),
        }
    }
}

/// One profile's rows.
pub struct Rows {
    pub matrix: FeatureMatrix,
    pub origins: Vec<Origin>,
}

impl Rows {
    pub fn new(profile: ProfileId) -> Self {
        Self { matrix: FeatureMatrix::new(profile), origins: Vec::new() }
    }

    pub fn profile(&self) -> ProfileId {
        self.matrix.profile()
    }
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    fn push_from(&mut self, matrix: &FeatureMatrix, i: usize, origin: Origin) {
        self.matrix.push_from(matrix, i);
        self.origins.push(origin);
    }

    /// The rows whose numbers `keep` says.
    pub fn part(&self, keep: impl Fn(usize) -> bool) -> Rows {
        let mut kept = Rows::new(self.profile());
        for (i, o) in self.origins.iter().enumerate().filter(|(i, _)| keep(*i)) {
            kept.push_from(&self.matrix, i, o.clone());
        }
        kept
    }

    /// Keeps the rows that `keep` says; gives how many have gone.
    pub fn retain(&mut self, keep: impl Fn(&Origin) -> bool) -> usize {
        let kept = self.part(|i| keep(&self.origins[i]));
        let gone = self.len() - kept.len();
        *self = kept;
        gone
    }
}

/// The rows of every profile that is recorded, within bounds.
pub struct Recorded {
    pub profiles: Vec<Rows>,
    window_us: u64,
    /// One block of a source in this many is kept.
    thinning: u64,
    /// Rows without a place so far.
    alone: u64,
    input: u32,
}

impl Recorded {
    pub fn new(profiles: &[ProfileId], window_us: u64) -> Self {
        let profiles = profiles.iter().map(|p| Rows::new(*p)).collect();
        Self { profiles, window_us, thinning: 1, alone: 0, input: 0 }
    }

    /// What is added from now on was read from another input.
    pub fn next_input(&mut self) {
        self.input += 1;
    }

    /// One block of a source in this many is kept.
    pub fn thinning(&self) -> u64 {
        self.thinning
    }

    /// Flows with the times at which they became known, which must tell what `profile` needs.
    pub fn add_flows<'a>(
        &mut self,
        profile: ProfileId,
        flows: impl Iterator<Item = (Option<TimeUs>, &'a FlowRecord)> + Clone,
    ) {
        let matrix = flow_matrix(profile, flows.clone().map(|(_, r)| r));
        let window_us = self.window_us;
        let origins = flows.map(|(time_us, r)| {
            let source = r.have.has(Have::ADDRESSES).then_some(r.client);
            let observation =
                time_us.filter(|_| r.have.has(ACCOUNTABLE)).map(|t| Observation::of_flow(t, r, 1.0, true));
            let carried = r.proven && r.direction == Direction::In && r.first_record;
            Origin { carried, ..Origin::new(time_us, source, observation, window_us) }
        });
        self.add(profile, &matrix, origins);
    }

    /// Source windows that closed at `now`.
    pub fn add_windows(&mut self, now: TimeUs, windows: &[SourceWindow]) {
        let matrix = source_matrix(windows);
        let window_us = self.window_us;
        let origins = windows.iter().map(|w| {
            let o = Observation::of_window(now, w, 1.0, true);
            Origin::new(Some(now), Some(w.source), Some(o), window_us)
        });
        self.add(ProfileId::Source, &matrix, origins);
    }

    /// Rows of profile `source` whose observations are known already.
    pub fn add_observed(&mut self, matrix: &FeatureMatrix, observations: Vec<Observation>) {
        let window_us = self.window_us;
        let origins =
            observations.into_iter().map(|o| Origin::new(Some(o.time_us), Some(o.source), Some(o), window_us));
        self.add(ProfileId::Source, matrix, origins);
    }

    /// Rows that people vouched for, with time and source of each: they make models and p-values, and no threshold rests on them.
    pub fn add_vouched(&mut self, matrix: &FeatureMatrix, places: &[(TimeUs, Addr)]) {
        let window_us = self.window_us;
        let origins = places.iter().map(|(at, source)| Origin::new(Some(*at), Some(*source), None, window_us));
        self.add(matrix.profile(), matrix, origins);
    }

    /// Rows of a profile so far.
    pub fn rows(&self, profile: ProfileId) -> usize {
        self.profiles.iter().find(|r| r.profile() == profile).map_or(0, Rows::len)
    }

    fn add(&mut self, profile: ProfileId, matrix: &FeatureMatrix, origins: impl Iterator<Item = Origin>) {
        let Some(rows) = self.profiles.iter_mut().find(|r| r.profile() == profile) else { return };
        for (i, mut o) in origins.enumerate() {
            o.input = self.input;
            if o.place.is_none() {
                self.alone += 1;
                o.sample = hash(self.alone);
            }
            if o.sample.is_multiple_of(self.thinning) {
                rows.push_from(matrix, i, o);
            }
        }
        while self.profiles.iter().any(|r| r.len() > MAX_ROWS) {
            self.thinning *= 2;
            for rows in &mut self.profiles {
                rows.retain(|o| o.sample.is_multiple_of(self.thinning));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_whole_blocks_of_a_source() {
        const S: u64 = 1_000_000;
        let block = BLOCK_WINDOWS * 2 * S;
        let source = |i: u32| Addr::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(0xc633_6400 + i)));
        let kept = |i, at| sample_of(source(i), at, 2 * S).is_multiple_of(4);
        let mut share = 0;
        for i in 0..50 {
            for b in 0..4 {
                assert!((0..60).all(|w| kept(i, b * block + w * 2 * S) == kept(i, b * block)));
                share += u32::from(kept(i, b * block));
            }
        }
        assert!((30..70).contains(&share), "a quarter of 200 blocks, not {share}");
    }
}
