//! What a guest reports, line by line (`init.sh` writes it), and what becomes of a test by it.

/// A line of the report.
#[derive(Debug, PartialEq)]
pub enum Line {
    /// The release of the kernel that runs.
    Kernel(String),
    Test {
        program: String,
        name: String,
    },
    Passed(f64),
    Failed(f64, String),
    Skipped(f64, String),
    /// A line of what a failed test printed.
    Said(String),
    /// Instructions that the verifier looked at: XDP, TC.
    Verified([u32; 2]),
    Done,
}

impl Line {
    /// `None` where it is no line of ours.
    pub fn of(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("WEIR ")?;
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let timed = || {
            let (seconds, why) = rest.split_once(' ').unwrap_or((rest, ""));
            Some((seconds.parse().ok()?, why.to_owned()))
        };
        Some(match word {
            "kernel" => Self::Kernel(rest.to_owned()),
            "test" => {
                let (program, name) = rest.split_once(' ')?;
                Self::Test { program: program.to_owned(), name: name.to_owned() }
            }
            "passed" => Self::Passed(timed()?.0),
            "failed" => timed().map(|(t, why)| Self::Failed(t, why))?,
            "skipped" => timed().map(|(t, why)| Self::Skipped(t, why))?,
            "|" => Self::Said(rest.to_owned()),
            "verified" => {
                let (xdp, tc) = rest.split_once(' ')?;
                Self::Verified([xdp.parse().ok()?, tc.parse().ok()?])
            }
            "done" => Self::Done,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_lines_are_read_and_others_are_not() {
        assert_eq!(Line::of("WEIR kernel 6.1.0-56"), Some(Line::Kernel("6.1.0-56".into())));
        let test = Line::Test { program: "kernel".into(), name: "a::b".into() };
        assert_eq!(Line::of("WEIR test kernel a::b"), Some(test));
        assert_eq!(Line::of("WEIR passed 1.5"), Some(Line::Passed(1.5)));
        assert_eq!(Line::of("WEIR failed 2.0 status 101"), Some(Line::Failed(2.0, "status 101".into())));
        assert_eq!(Line::of("WEIR skipped 0.1 no bonding"), Some(Line::Skipped(0.1, "no bonding".into())));
        assert_eq!(Line::of("WEIR verified 12 34"), Some(Line::Verified([12, 34])));
        assert_eq!(Line::of("WEIR | said"), Some(Line::Said("said".into())));
        assert_eq!(Line::of("WEIR done"), Some(Line::Done));
        for other in ["", "WEIR", "WEIR passed", "WEIR verified 1", "[    1.0] bonding: up"] {
            assert_eq!(Line::of(other), None, "{other}");
        }
    }
}
