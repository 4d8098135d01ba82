//! What the policy says to people.

use super::rule::Act;
use crate::evidence::{Level, Thresholds};

/// A duration as people type it: `90s`, `10m`, `1h30m`, `2d`.
pub fn duration_words(us: u64) -> String {
    let s = us.div_ceil(1_000_000);
    if s < 120 {
        return format!("{s}s");
    }
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = s;
    let mut text = String::new();
    let mut parts = 0;
    for (size, unit) in units {
        if rest >= size && parts < 2 {
            text += &format!("{}{unit}", rest / size);
            rest %= size;
            parts += 1;
        }
    }
    text
}

/// What is done, or would be: "blocked", "limited to 100 packets/s, 100 at once".
pub(super) fn done(act: Act) -> String {
    match act {
        Act::Drop => "blocked".to_owned(),
        Act::Limit(rate) => format!("limited to {rate}"),
        Act::Shadow => "counted".to_owned(),
        Act::Alert | Act::None => "left alone".to_owned(),
    }
}

/// The reason that a decision carries.
pub(super) fn reason(level: &Level, all: f64, proven: f64, t: &Thresholds, by_proven: bool) -> String {
    let mut text = if by_proven {
        format!("evidence {proven:.1} from proven flows (drop at {:.1})", t.drop)
    } else {
        format!("evidence {all:.1} (alert at {:.1}), {proven:.1} of it proven", t.alert)
    };
    let flows = level.flows;
    text += &format!(", {flows} flow{}", if flows == 1 { "" } else { "s" });
    if let [first, rest @ ..] = &level.ports[..] {
        let more = rest.iter().take(3).map(|p| format!(", {p}")).collect::<String>();
        text += &format!(" to port {first}{more}");
    }
    if let Some(reason) = level.worst.as_ref().and_then(|a| a.reasons.first()) {
        text += &format!("; {}", reason.words);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::duration_words;

    #[test]
    fn durations_read_as_people_write_them() {
        for (s, text) in [(45, "45s"), (90, "90s"), (600, "10m"), (3600, "1h"), (5400, "1h30m"), (172_800, "2d")] {
            assert_eq!(duration_words(s * 1_000_000), text);
        }
    }
}
