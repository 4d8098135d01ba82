//! From rows of features to anomalies with reasons: live traffic and files take the same way.

use weir_common::entry::exempt;
use weir_common::flow::ip_proto;
use weir_core::addr::Addr;
use weir_core::event::{Anomaly, Otherwise, Reason};
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_models::{Bundle, Change, Contribution, ScoreError, Scored, unless_words, words};

/// P-values up to this are explained, and windows with them become events.
pub const ANOMALY_P: f32 = 0.01;
/// Reasons per observation, beside what would have made it none.
const MAX_REASONS: usize = 3;
/// A share below this explains nothing.
const MIN_SHARE: f32 = 0.05;

/// An anomaly for every row, in order, without reasons.
pub fn anomalies(bundle: &Bundle, matrix: &FeatureMatrix) -> Result<Vec<Anomaly>, ScoreError> {
    // Most epochs of a quiet night, and models would run on padding.
    if matrix.is_empty() {
        return Ok(Vec::new());
    }
    Ok(bundle.score(matrix)?.iter().map(|s| anomaly(matrix.profile(), s)).collect())
}

/// How much is said of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What was strange: a run of both models.
    Reasons,
    /// Also what would have made it no anomaly: some hundred runs.
    Unless,
}

/// Gives a row's anomaly its reasons; `up_to`: the p-value that makes one.
pub fn explain(
    bundle: &Bundle,
    matrix: &FeatureMatrix,
    row: usize,
    anomaly: &mut Anomaly,
    (up_to, depth): (f32, Depth),
) -> Result<(), ScoreError> {
    let (profile, values, present) = (matrix.profile(), matrix.row(row), matrix.present(row));
    let all = bundle.explain(profile, values, present)?;
    let telling = |c: &&Contribution| c.share >= MIN_SHARE;
    // What lies within the usual range explains nothing to a person; it is said only where nothing else is.
    let mut said: Vec<_> = all.iter().filter(telling).filter(|c| c.is_unusual()).take(MAX_REASONS).collect();
    if said.is_empty() {
        said = all.iter().filter(telling).take(MAX_REASONS).collect();
    }
    anomaly.reasons = said.into_iter().map(|c| reason(profile, c)).collect();
    if depth == Depth::Unless
        && let Some(unless) = bundle.unless(profile, values, present, matrix.role(row), up_to, &all)?
    {
        anomaly.reasons.extend(all.iter().find(|c| c.feature == unless.changes[0].feature).map(|c| Reason {
            words: unless_words(&unless, profile),
            unless: unless.changes.iter().map(|c| otherwise(profile, c)).collect(),
            ..reason(profile, c)
        }));
    }
    Ok(())
}

/// Neither learned nor held against anyone: what no entry ever stops (see [`weir_common::entry::exempt`]), and reports of
/// multicast membership, which no router passes on. Hosts send either when links come and go, and never get an answer: one of
/// them in a short baseline makes scans look usual.
pub fn housekeeping(client: Addr, proto: u8, client_port: u16, server_port: u16) -> bool {
    exempt(proto, if client.is_v4() { 4 } else { 6 }, client_port, server_port, false)
        || multicast_membership(proto, client_port)
}

/// IGMP (RFC 3376); MLD and MLDv2 (RFC 2710, RFC 3810), whose type stands for the sender's port.
fn multicast_membership(proto: u8, client_port: u16) -> bool {
    proto == ip_proto::IGMP || proto == ip_proto::ICMPV6 && matches!(client_port, 130..=132 | 143)
}

fn anomaly(profile: ProfileId, s: &Scored) -> Anomaly {
    Anomaly {
        profile: profile.name(),
        p_value: s.p,
        autoencoder: s.p_autoencoder,
        isolation_forest: s.p_isolation_forest,
        role: s.role,
        actionable: s.actionable,
        extrapolated: s.extrapolated,
        // Whoever serves one says so.
        default_bundle: false,
        reasons: vec![],
    }
}

fn reason(profile: ProfileId, c: &Contribution) -> Reason {
    Reason {
        feature: profile.features()[c.feature].name,
        words: words(c, profile),
        observed: c.observed,
        usual_low: c.usual_low,
        usual_high: c.usual_high,
        nearest_usual: c.nearest_usual(),
        share: c.share,
        unless: vec![],
    }
}

fn otherwise(profile: ProfileId, c: &Change) -> Otherwise {
    Otherwise { feature: profile.features()[c.feature].name, value: c.to }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_network_going_is_neither_learned_nor_held_against_anyone() {
        let (v4, v6) = ("192.0.2.1".parse().unwrap(), "fe80::1".parse().unwrap());
        assert!(housekeeping(v4, ip_proto::UDP, 68, 67) && !housekeeping(v4, ip_proto::UDP, 68, 53));
        assert!(housekeeping(v4, ip_proto::IGMP, 0, 0));
        for kind in [130, 131, 132, 143, 133, 135, 136] {
            assert!(housekeeping(v6, ip_proto::ICMPV6, kind, 0), "type {kind}");
        }
        for kind in [1, 128, 129, 142, 144] {
            assert!(!housekeeping(v6, ip_proto::ICMPV6, kind, 0), "type {kind}");
        }
        assert!(!housekeeping(v4, ip_proto::TCP, 143, 22), "a port is no message type");
    }
}
