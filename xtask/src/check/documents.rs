//! ARCHITECTURE.md names the test that holds each invariant; a test that is gone holds nothing.

/// Names of tests in the section on invariants: words in backquotes that read like a test's name.
pub fn named_tests(page: &str) -> Vec<&str> {
    let section = page.lines().skip_while(|l| *l != "## Invariants").skip(1).take_while(|l| !l.starts_with("## "));
    section.flat_map(|l| l.split('`').skip(1).step_by(2)).filter(|w| reads_like_a_test(w)).collect()
}

fn reads_like_a_test(word: &str) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    plain && word.matches('_').count() >= 2
}

/// Those that no source has.
pub fn missing<'a>(named: &[&'a str], sources: &[String]) -> Vec<&'a str> {
    let has = |name: &str| {
        let defined = format!("fn {name}(");
        sources.iter().any(|s| s.contains(&defined))
    };
    named.iter().copied().filter(|n| !has(n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_gone_is_missed_and_other_words_are_not() {
        let page = "# x\n`not_in_section_one`\n## Invariants\n| a | `held_by_this_one`, `and_this_one_too`, \
                    `weir-core`, `FlowStats::merge` |\n## After\n`nor_this_one_here`\n";
        let named = named_tests(page);
        assert_eq!(named, ["held_by_this_one", "and_this_one_too"]);
        let sources = ["fn held_by_this_one() {".to_owned(), "fn and_this_one_too_long() {".to_owned()];
        assert_eq!(missing(&named, &sources), ["and_this_one_too"]);
    }
}
