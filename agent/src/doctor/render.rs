//! Findings for people.

use super::Report;
use super::finding::{Finding, Severity};

fn heading(f: &Finding) -> String {
    match &f.interface {
        Some(name) => format!("{name}: {}", f.title),
        None => f.title.to_owned(),
    }
}

/// What is wrong first, with why and what mends it; what is fine afterwards, a line each.
pub fn table(r: &Report) -> String {
    let mut text = String::new();
    for severity in Severity::ALL.into_iter().rev() {
        for f in r.findings.iter().filter(|f| f.severity == severity) {
            text += &format!("{:<8} {}: {}\n", severity.name(), heading(f), f.seen.replace('\n', " "));
            if severity == Severity::Ok {
                continue;
            }
            text += &format!("         why: {}\n", f.why);
            if let Some(command) = &f.command {
                text += &format!("         run: {command}\n");
            }
        }
    }
    if r.interfaces.is_empty() {
        text += "\nno interface was looked at: name one with -i, or set `interface` in the configuration\n";
    }
    text + &format!("\n{}\n", summary(r))
}

/// "1 error, 2 warnings; 30 are fine".
fn summary(r: &Report) -> String {
    let count = |s: Severity| r.findings.iter().filter(|f| f.severity == s).count();
    let plural = |n: usize, one: &str, many: &str| (n > 0).then(|| format!("{n} {}", if n == 1 { one } else { many }));
    let parts: Vec<_> = [
        plural(count(Severity::Error), "error", "errors"),
        plural(count(Severity::Warning), "warning", "warnings"),
        plural(count(Severity::Unknown), "could not be checked", "could not be checked"),
        plural(count(Severity::Note), "note", "notes"),
        plural(count(Severity::Ok), "is fine", "are fine"),
    ]
    .into_iter()
    .flatten()
    .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Check;
    use super::*;

    #[test]
    fn what_is_wrong_comes_first_with_why_and_what_mends_it() {
        let check = Check { id: "a.b", title: "thing", why: "it matters" };
        let findings = vec![
            check.ok("good"),
            check.warning("bad\nvery").mend("mend it").on("eth0"),
            check.error("worse"),
            check.error("w2"),
        ];
        let r = Report {
            version: "1",
            time: String::new(),
            interfaces: vec!["eth0".into()],
            agent_runs: false,
            worst: Severity::Error,
            findings,
        };
        let text = table(&r);
        assert_eq!(
            text,
            "error    thing: worse\n         why: it matters\nerror    thing: w2\n         why: it matters\n\
             warning  eth0: thing: bad very\n         why: it matters\n         run: mend it\n\
             ok       thing: good\n\n2 errors, 1 warning, 1 is fine\n"
        );
    }
}
