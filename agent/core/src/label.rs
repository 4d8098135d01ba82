//! What people said about alerts: an attack, a false alarm, or not sure. Who, when and why is kept, also once it is taken back.
//!
//! Memory: [`MAX_LABELS`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::addr::Addr;
use crate::record::TimeUs;

/// Labels that are kept. Those taken back go first; where all hold, one more is refused.
pub const MAX_LABELS: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truth {
    /// The alert was right.
    Attack,
    FalseAlarm,
    Unsure,
}

impl Truth {
    /// As people type it.
    pub const WORDS: [(&'static str, Truth); 3] =
        [("true", Self::Attack), ("false", Self::FalseAlarm), ("unsure", Self::Unsure)];

    pub const fn name(self) -> &'static str {
        match self {
            Truth::Attack => "attack",
            Truth::FalseAlarm => "false alarm",
            Truth::Unsure => "unsure",
        }
    }
    /// What a flow behind it is called where models are trained: see `weir train`. `None`: nobody knows.
    pub const fn flow_label(self) -> Option<&'static str> {
        match self {
            Truth::Attack => Some("Attack"),
            Truth::FalseAlarm => Some("Benign"),
            Truth::Unsure => None,
        }
    }
}

/// A label to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewLabel {
    pub alert_id: u64,
    pub source: Addr,
    /// The time that is meant: from the first flow in the evidence to the last known one.
    pub from_us: TimeUs,
    pub to_us: TimeUs,
    /// Server ports that are meant; empty: any.
    pub ports: Vec<u16>,
    pub truth: Truth,
    pub comment: String,
    /// Who, in words.
    pub by: String,
    pub suppression_id: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Unique and never used again, also over restarts.
    pub id: u64,
    pub alert_id: u64,
    pub source: Addr,
    pub from_us: TimeUs,
    pub to_us: TimeUs,
    pub ports: Vec<u16>,
    pub truth: Truth,
    pub comment: String,
    pub by: String,
    pub at_us: TimeUs,
    /// The suppression that it made.
    pub suppression_id: Option<u64>,
    pub undone: Option<Undone>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    pub by: String,
    pub at_us: TimeUs,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error("there are {MAX_LABELS} labels, the most that are kept; `weir labels export` and undo some")]
    Full,
    #[error("alert {alert_id} was labelled already: {truth}, by {by}; `weir labels undo {id}` takes that back", truth = .truth.name())]
    Labelled { id: u64, alert_id: u64, truth: Truth, by: String },
    #[error("there is no label {0}; `weir labels list` shows all")]
    Unknown(u64),
    #[error("label {id} was taken back already by {by}")]
    Undone { id: u64, by: String },
}

/// What is stored of [`Labels`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabelsSnapshot {
    pub next_id: u64,
    pub labels: Vec<Label>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Labels {
    next_id: u64,
    all: BTreeMap<u64, Label>,
    changes: u64,
}

impl Default for Labels {
    fn default() -> Self {
        Self { next_id: 1, all: BTreeMap::new(), changes: 0 }
    }
}

impl Labels {
    /// By number, those taken back included.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Label> {
        self.all.values()
    }
    /// Those that hold.
    pub fn live(&self) -> impl DoubleEndedIterator<Item = &Label> {
        self.iter().filter(|l| l.undone.is_none())
    }
    /// Rises with every change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Why an alert cannot be labelled now, if so.
    pub fn check(&self, alert_id: u64) -> Result<(), LabelError> {
        if let Some(l) = self.live().find(|l| l.alert_id == alert_id) {
            return Err(LabelError::Labelled { id: l.id, alert_id, truth: l.truth, by: l.by.clone() });
        }
        if self.live().count() >= MAX_LABELS { Err(LabelError::Full) } else { Ok(()) }
    }

    pub fn add(&mut self, new: NewLabel, now: TimeUs) -> Result<Label, LabelError> {
        self.check(new.alert_id)?;
        if self.all.len() >= MAX_LABELS
            && let Some(id) = self.all.values().find(|l| l.undone.is_some()).map(|l| l.id)
        {
            self.all.remove(&id);
        }
        let label = Label {
            id: self.next_id,
            alert_id: new.alert_id,
            source: new.source,
            from_us: new.from_us,
            to_us: new.to_us,
            ports: new.ports,
            truth: new.truth,
            comment: new.comment,
            by: new.by,
            at_us: now,
            suppression_id: new.suppression_id,
            undone: None,
        };
        self.next_id += 1;
        self.changes += 1;
        self.all.insert(label.id, label.clone());
        Ok(label)
    }

    pub fn undo(&mut self, id: u64, by: String, now: TimeUs) -> Result<Label, LabelError> {
        let label = self.all.get_mut(&id).ok_or(LabelError::Unknown(id))?;
        if let Some(undone) = &label.undone {
            return Err(LabelError::Undone { id, by: undone.by.clone() });
        }
        label.undone = Some(Undone { by, at_us: now });
        self.changes += 1;
        Ok(label.clone())
    }

    pub fn snapshot(&self) -> LabelsSnapshot {
        LabelsSnapshot { next_id: self.next_id, labels: self.all.values().cloned().collect() }
    }

    pub fn restore(snapshot: LabelsSnapshot) -> Self {
        let all: BTreeMap<u64, Label> = snapshot.labels.into_iter().map(|l| (l.id, l)).collect();
        let after = all.keys().next_back().map_or(1, |id| id + 1);
        Self { next_id: snapshot.next_id.max(after), all, changes: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(alert_id: u64, truth: Truth) -> NewLabel {
        NewLabel {
            alert_id,
            source: "192.0.2.7".parse().unwrap(),
            from_us: 10,
            to_us: 20,
            ports: Vec::new(),
            truth,
            comment: "backup".into(),
            by: "uid 0 (root)".into(),
            suppression_id: None,
        }
    }

    #[test]
    fn an_alert_has_one_label_until_it_is_taken_back_and_who_said_so_is_kept() {
        let mut labels = Labels::default();
        let first = labels.add(new(7, Truth::FalseAlarm), 100).unwrap();
        let again = labels.add(new(7, Truth::Attack), 101).unwrap_err().to_string();
        assert!(again.contains("labelled already: false alarm, by uid 0 (root); `weir labels undo 1`"), "{again}");
        labels.undo(first.id, "uid 7".into(), 200).unwrap();
        assert_eq!(
            labels.undo(first.id, "uid 8".into(), 201).unwrap_err().to_string(),
            "label 1 was taken back already by uid 7"
        );
        let second = labels.add(new(7, Truth::Attack), 300).unwrap();
        assert_eq!((second.id, labels.live().count(), labels.iter().count()), (2, 1, 2));
        let mut restored = Labels::restore(labels.snapshot());
        assert_eq!(restored.snapshot(), labels.snapshot());
        assert_eq!(restored.add(new(8, Truth::Unsure), 400).unwrap().id, 3, "numbers are never used twice");
    }

    #[test]
    fn labels_are_bounded_and_those_taken_back_go_first() {
        let mut labels = Labels::default();
        for i in 0..MAX_LABELS as u64 {
            labels.add(new(i, Truth::Attack), i).unwrap();
        }
        assert_eq!(labels.add(new(1 << 40, Truth::Attack), 9), Err(LabelError::Full));
        labels.undo(5, "me".into(), 10).unwrap();
        labels.add(new(1 << 40, Truth::Attack), 11).unwrap();
        assert_eq!(labels.iter().count(), MAX_LABELS);
        assert!(labels.iter().all(|l| l.id != 5));
    }
}
