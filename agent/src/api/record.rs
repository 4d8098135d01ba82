//! What happened, as messages and back; and the client's side of asking for it.

use weir_core::decision::Target;
use weir_core::record::TimeUs;
use weir_core::render::Rfc3339;

use super::client::{Client, ClientError};
use crate::proto as pb;
use crate::store::{AuditLine, HistoryLine, ProofLine, Which};

/// 0 means all.
pub(super) fn limit(asked: u32) -> usize {
    if asked == 0 { usize::MAX } else { asked as usize }
}

impl From<HistoryLine> for pb::DecisionHistory {
    fn from(h: HistoryLine) -> Self {
        Self {
            time_us: h.time.0,
            decision_id: h.decision_id,
            change: h.change,
            target: h.target,
            action: h.action,
            origin: h.origin,
            mode: h.mode,
            expires_us: h.expires.map(|e| e.0),
            packets: h.packets,
            bytes: h.bytes,
            reason: h.reason,
            note: h.note,
            alert_id: h.alert_id,
        }
    }
}

impl From<pb::DecisionHistory> for HistoryLine {
    fn from(h: pb::DecisionHistory) -> Self {
        Self {
            time: Rfc3339(h.time_us),
            decision_id: h.decision_id,
            change: h.change,
            target: h.target,
            action: h.action,
            origin: h.origin,
            mode: h.mode,
            expires: h.expires_us.map(Rfc3339),
            packets: h.packets,
            bytes: h.bytes,
            reason: h.reason,
            note: h.note,
            alert_id: h.alert_id,
        }
    }
}

impl From<AuditLine> for pb::AuditEntry {
    fn from(a: AuditLine) -> Self {
        let AuditLine { time, caller, call, subject, ok, result } = a;
        Self { time_us: time.0, caller, call, subject, ok, result }
    }
}

impl From<pb::AuditEntry> for AuditLine {
    fn from(a: pb::AuditEntry) -> Self {
        let pb::AuditEntry { time_us, caller, call, subject, ok, result } = a;
        Self { time: Rfc3339(time_us), caller, call, subject, ok, result }
    }
}

impl From<ProofLine> for pb::EvidenceSummary {
    fn from(p: ProofLine) -> Self {
        let ProofLine { id, time, source, alert_id, decision_id, bytes } = p;
        Self { id, time_us: time.0, source, alert_id, decision_id, bytes }
    }
}

impl From<pb::EvidenceSummary> for ProofLine {
    fn from(p: pb::EvidenceSummary) -> Self {
        let pb::EvidenceSummary { id, time_us, source, alert_id, decision_id, bytes } = p;
        Self { id, time: Rfc3339(time_us), source, alert_id, decision_id, bytes }
    }
}

impl Client {
    /// The latest first; `limit` 0 means all.
    pub async fn decision_history(
        &mut self,
        target: Option<Target>,
        since_us: TimeUs,
        limit: u32,
    ) -> Result<Vec<HistoryLine>, ClientError> {
        let target = target.map(|t| t.to_string()).unwrap_or_default();
        let request = pb::ListDecisionHistoryRequest { target, since_us, limit };
        let answer = self.grpc().list_decision_history(request).await?.into_inner();
        Ok(answer.entries.into_iter().map(Into::into).collect())
    }

    /// The latest first; `limit` 0 means all.
    pub async fn audit(&mut self, since_us: TimeUs, limit: u32) -> Result<Vec<AuditLine>, ClientError> {
        let answer = self.grpc().list_audit(pb::ListAuditRequest { since_us, limit }).await?.into_inner();
        Ok(answer.entries.into_iter().map(Into::into).collect())
    }

    /// The latest first; `limit` 0 means all.
    pub async fn evidence(&mut self, since_us: TimeUs, limit: u32) -> Result<Vec<ProofLine>, ClientError> {
        let answer = self.grpc().list_evidence(pb::ListEvidenceRequest { since_us, limit }).await?.into_inner();
        Ok(answer.entries.into_iter().map(Into::into).collect())
    }

    /// The document, as it was sealed.
    pub async fn get_evidence(&mut self, which: Which) -> Result<String, ClientError> {
        let request = pb::GetEvidenceRequest { id: which.to_string() };
        Ok(self.grpc().get_evidence(request).await?.into_inner().json)
    }
}
