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

/// Which rows are explained: each takes a run of both models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explain {
    /// P-values up to this.
    pub up_to: f32,
    /// At most so many rows; counts down.
    pub left: usize,
    /// At most so many of them are told what would have made them no anomaly, which takes some hundred runs; counts down.
    pub unless_left: usize,
}

impl Explain {
    pub const NOTHING: Self = Self { up_to: 0.0, left: 0, unless_left: 0 };
}

/// An anomaly for every row, in order.
pub fn anomalies(bundle: &Bundle, matrix: &FeatureMatrix, explain: &mut Explain) -> Result<Vec<Anomaly>, ScoreError> {
    // Most epochs of a quiet night, and models would run on padding.
    if matrix.is_empty() {
        return Ok(Vec::new());
    }
    let scored = bundle.score(matrix)?;
    scored.iter().enumerate().map(|(i, s)| anomaly(bundle, matrix, i, s, explain)).collect()
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

fn anomaly(
    bundle: &Bundle,
    matrix: &FeatureMatrix,
    row: usize,
    s: &Scored,
    explain: &mut Explain,
) -> Result<Anomaly, ScoreError> {
    let profile = matrix.profile();
    let mut reasons = Vec::new();
    if s.p <= explain.up_to && explain.left > 0 {
        explain.left -= 1;
        let (values, present) = (matrix.row(row), matrix.present(row));
        let all = bundle.explain(profile, values, present)?;
        let telling = |c: &&Contribution| c.share >= MIN_SHARE;
        // What lies within the usual range explains nothing to a person; it is said only where nothing else is.
        let mut said: Vec<_> = all.iter().filter(telling).filter(|c| c.is_unusual()).take(MAX_REASONS).collect();
        if said.is_empty() {
            said = all.iter().filter(telling).take(MAX_REASONS).collect();
        }
        reasons = said.into_iter().map(|c| reason(profile, c)).collect();
        let search = explain.unless_left > 0;
        explain.unless_left -= usize::from(search);
        let role = matrix.role(row);
        let found = if search { bundle.unless(profile, values, present, role, explain.up_to, &all)? } else { None };
        if let Some(unless) = found {
            reasons.extend(all.iter().find(|c| c.feature == unless.changes[0].feature).map(|c| Reason {
                words: unless_words(&unless, profile),
                unless: unless.changes.iter().map(|c| otherwise(profile, c)).collect(),
                ..reason(profile, c)
            }));
        }
    }
    Ok(Anomaly {
        profile: profile.name(),
        p_value: s.p,
        autoencoder: s.p_autoencoder,
        isolation_forest: s.p_isolation_forest,
        role: s.role,
        actionable: s.actionable,
        extrapolated: s.extrapolated,
        // Whoever serves one says so.
        default_bundle: false,
        reasons,
    })
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
