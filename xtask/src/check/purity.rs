//! The pure crates stay pure: no files, no network, no clock, no threads, and nothing that brings these along.

/// Folders whose code takes time and data as arguments.
pub const FOLDERS: [&str; 2] = ["common/src/", "agent/core/src/"];

const FORBIDDEN: [&str; 12] = [
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "std::time::Instant",
    "SystemTime",
    "Instant::now",
    "TcpStream",
    "UdpSocket",
    "tokio",
];

/// Whether the rule is for this file; tests may do as they like.
pub fn concerns(name: &str) -> bool {
    FOLDERS.iter().any(|f| name.starts_with(f)) && !name.ends_with("tests.rs") && !name.ends_with("testkit.rs")
}

/// Line numbers with what they use, up to the file's test module.
pub fn breaches(text: &str) -> Vec<(usize, &'static str)> {
    let code = text.lines().take_while(|l| l.trim_end() != "#[cfg(test)]");
    code.enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .filter_map(|(at, line)| FORBIDDEN.iter().find(|f| line.contains(**f)).map(|f| (at + 1, *f)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_found_and_words_about_it_are_not() {
        let text = "// SystemTime is an argument\nuse std::time::SystemTime;\n#[cfg(test)]\nuse std::fs;\n";
        assert_eq!(breaches(text), [(2, "SystemTime")]);
        assert!(concerns("agent/core/src/table.rs") && !concerns("agent/core/src/table/tests.rs"));
        assert!(!concerns("agent/src/store/file.rs"));
    }
}
