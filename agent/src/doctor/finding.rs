//! What a check found.

use serde::Serialize;

/// How bad it is. The order is that of [`Severity::exit_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Ok,
    /// Worth knowing; nothing to be done.
    Note,
    /// Could not be checked.
    Unknown,
    /// Weir works, and worse than it could.
    Warning,
    /// Weir does not work, or not as it was told to.
    Error,
}

impl Severity {
    pub const ALL: [Severity; 5] =
        [Severity::Ok, Severity::Note, Severity::Unknown, Severity::Warning, Severity::Error];

    pub fn name(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Unknown => "unknown",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }

    /// Exit status of `weir doctor` where nothing is worse. 1 and 2 are those of a doctor that failed itself.
    pub fn exit_code(self) -> u8 {
        match self {
            Severity::Ok | Severity::Note => 0,
            Severity::Unknown => 5,
            Severity::Warning => 3,
            Severity::Error => 4,
        }
    }
}

/// What a host told, or why it did not.
pub type Read<T> = Result<T, String>;

/// Something that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// For programs: `kernel.jit`.
    pub id: &'static str,
    pub title: &'static str,
    /// Why it matters for Weir.
    pub why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub id: &'static str,
    /// `None`: it is about the host as a whole.
    pub interface: Option<String>,
    pub severity: Severity,
    pub title: &'static str,
    /// The value, in words; of what could not be checked, why.
    pub seen: String,
    pub why: &'static str,
    /// What mends it, to be pasted into a shell; `None`: nothing is to be done, or nothing that a command could.
    pub command: Option<String>,
}

impl Check {
    pub fn found(&self, severity: Severity, seen: impl Into<String>) -> Finding {
        let (id, title, why) = (self.id, self.title, self.why);
        Finding { id, interface: None, severity, title, seen: seen.into(), why, command: None }
    }
    pub fn ok(&self, seen: impl Into<String>) -> Finding {
        self.found(Severity::Ok, seen)
    }
    pub fn note(&self, seen: impl Into<String>) -> Finding {
        self.found(Severity::Note, seen)
    }
    pub fn warning(&self, seen: impl Into<String>) -> Finding {
        self.found(Severity::Warning, seen)
    }
    pub fn error(&self, seen: impl Into<String>) -> Finding {
        self.found(Severity::Error, seen)
    }
    /// It could not be checked, and why.
    pub fn unknown(&self, reason: impl Into<String>) -> Finding {
        self.found(Severity::Unknown, reason)
    }
    /// What could be read is judged.
    pub fn of<T>(&self, read: &Read<T>, judge: impl FnOnce(&T) -> Finding) -> Finding {
        match read {
            Ok(value) => judge(value),
            Err(why) => self.unknown(why.clone()),
        }
    }
}

impl Finding {
    pub fn mend(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }
    pub fn on(mut self, interface: &str) -> Self {
        self.interface = Some(interface.to_owned());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_say_the_worst_and_none_is_that_of_a_failure() {
        let codes = Severity::ALL.map(Severity::exit_code);
        assert_eq!(codes, [0, 0, 5, 3, 4]);
        assert!(codes.iter().all(|c| !matches!(c, 1 | 2)));
        assert!(Severity::ALL.is_sorted());
    }
}
