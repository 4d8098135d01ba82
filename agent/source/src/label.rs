//! What the labels of data sets say: the one place that decides what is benign.

/// What is known of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Labelled as normal traffic.
    Benign,
    /// Nobody said: no label, an empty one, or one that says as much (`-`, `Background`, `Unknown`).
    Unlabelled,
    /// Any other label names an attack.
    Attack,
}

/// Letters of any case. CIC: `BENIGN`; UNSW: `Normal`, or 0; IoT-23 and Stratosphere: `Benign`, behind a slash the detail.
const BENIGN: [&str; 5] = ["benign", "normal", "legitimate", "clean", "0"];
const UNLABELLED: [&str; 6] = ["", "-", "(empty)", "background", "unknown", "unlabeled"];

/// What a label says, if there is one.
pub fn verdict(label: Option<&str>) -> Verdict {
    let Some(label) = label else { return Verdict::Unlabelled };
    let class = label.split('/').next().unwrap_or(label).trim();
    let is = |names: &[&str]| names.iter().any(|n| class.eq_ignore_ascii_case(n));
    if is(&BENIGN) {
        Verdict::Benign
    } else if is(&UNLABELLED) {
        Verdict::Unlabelled
    } else {
        Verdict::Attack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_of_the_data_sets_are_understood() {
        for label in ["BENIGN", "Benign", "benign", "Normal", " normal ", "Benign/Google", "0"] {
            assert_eq!(verdict(Some(label)), Verdict::Benign, "{label}");
        }
        for label in ["", "-", "Background", "(empty)", "-/-"] {
            assert_eq!(verdict(Some(label)), Verdict::Unlabelled, "{label}");
        }
        assert_eq!(verdict(None), Verdict::Unlabelled);
        for label in
            ["DoS Hulk", "Malicious/CC", "Web Attack - XSS", "1", "Abnormal", "DoS Hulk - Attempted", "Benignware"]
        {
            assert_eq!(verdict(Some(label)), Verdict::Attack, "{label}");
        }
    }
}
