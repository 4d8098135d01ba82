//! The book in `docs/`: every command in it is run, its reference pages are what the program says of itself, every alert has its
//! section, and every link leads somewhere.
//!
//! What the pages leave to the reader, the test stands in for, and nothing else: see [`host`]. Named in running text alone, and so held by
//! their words only: commands of `weir` (each with its options must be in the reference of the command line); `cargo xtask dist` and
//! `pip install ./models/python`, which build and install on the reader's machine; `systemctl reload weir` and `ssh -L`.

#[path = "../common/mod.rs"]
mod common;
mod host;
mod pages;
mod reference;

use std::collections::{BTreeMap, BTreeSet};

use pages::{Page, anchors, repository};

fn runs(page: &Page) -> bool {
    page.blocks.iter().any(|b| b.language() == "sh")
}

#[test]
fn every_command_of_the_book_does_what_the_page_says() {
    const TEST: &str = "every_command_of_the_book_does_what_the_page_says";
    if let Err(missing) = host::ready() {
        eprintln!("SKIP {TEST}: {missing}");
        return;
    }
    let all = Page::all();
    let mut pages: Vec<&Page> = all.iter().filter(|p| runs(p)).collect();
    // Whoever waits longest begins first.
    pages.sort_by_key(|p| !p.needs().contains("question"));
    assert!(pages.len() >= 14, "{} pages with commands", pages.len());
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                while let Some(page) = pages.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let begun = std::time::Instant::now();
                    match host::play(page) {
                        Ok(skipped) => {
                            for what in skipped {
                                eprintln!("SKIP {TEST}: {what}");
                            }
                            eprintln!("{}: {:.1} s", page.name, begun.elapsed().as_secs_f32());
                        }
                        Err(e) => failures.lock().unwrap().push(e),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn a_command_that_fails_is_found_with_its_line() {
    if let Err(missing) = host::ready() {
        eprintln!("SKIP a_command_that_fails_is_found_with_its_line: {missing}");
        return;
    }
    let page = |text: &str| Page::parse("made.md", text);
    let error = host::play(&page("# A\n\n```sh\ntrue\n```\n\n```sh\nfalse\necho later\n```\n")).unwrap_err();
    assert!(error.contains("made.md:7") && !error.contains("later"), "{error}");
    let error = host::play(&page("# A\n```sh,follows\nsleep 0.1; false\n```\n")).unwrap_err();
    assert!(error.contains("made.md:2"), "{error}");
    let error = host::play(&page("# A\n```sh,background\nfalse\n```\n```sh\nsleep 1\n```\n")).unwrap_err();
    assert!(error.contains("ended before the page did"), "{error}");
    assert!(host::play(&page("# A\n```sh,follows\nsleep 60\n```\n```sh,background\nsleep 60\n```\n")).is_ok());
}

#[test]
fn every_block_says_what_it_is_and_settings_are_settings() {
    for page in Page::all() {
        for block in &page.blocks {
            let at = format!("{}:{}", page.name, block.line);
            match block.language() {
                "sh" => {
                    let known = ["background", "follows", "python"];
                    assert!(block.words().iter().all(|w| known.contains(w)), "{at}: {}", block.info);
                }
                "text" => {}
                "yaml" => {
                    let read = weir_agent::config::Config::parse(&block.text);
                    assert!(read.is_ok(), "{at}: {:?}", read.err());
                }
                other => {
                    panic!("{at}: a block of {other:?}; commands are `sh`, what they print `text`, settings `yaml`")
                }
            }
        }
    }
}

#[test]
fn the_reference_is_what_the_program_says_of_itself() {
    let write = std::env::var_os("WEIR_WRITE_SNAPSHOT").is_some();
    for (name, text) in
        [("configuration", reference::configuration()), ("api", reference::api()), ("cli", reference::command_line())]
    {
        let path = pages::source().join(format!("reference/{name}.md"));
        if write {
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = kept.lines().zip(text.lines()).find(|(a, b)| a != b);
        assert!(
            kept == text,
            "{} is another one: write it anew with WEIR_WRITE_SNAPSHOT=1; the first line that differs: {differs:?}",
            path.display()
        );
    }
}

#[test]
fn the_reference_has_bounds_rights_and_every_key() {
    let configuration = reference::configuration();
    for key in weir_agent::config::KEYS {
        assert!(configuration.contains(&format!("| `{}` |", key.path)), "{}", key.path);
    }
    let line = |key: &str| configuration.lines().find(|l| l.starts_with(&format!("| `{key}` |"))).unwrap().to_owned();
    assert!(line("epoch").contains("100ms to 1m") && line("epoch").contains("restart"), "{}", line("epoch"));
    assert!(line("policy.busy_share").contains("0 to 1"), "{}", line("policy.busy_share"));
    assert!(line("mode").contains("observe, shadow, review or enforce") && line("mode").contains("reload"));
    let api = reference::api();
    assert!(api.contains("### rpc AddDecision\n") && api.contains("`POST /api/v1/decisions`"), "{}", &api[..2000]);
}

#[test]
fn every_alert_has_its_section_in_the_runbook() {
    let rules = std::fs::read_to_string(repository().join("deploy/prometheus/alerts.yml")).unwrap();
    let alerts: BTreeSet<&str> = rules.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in &alerts {
        let leads = format!("/docs/src/runbook.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&leads), "{alert} does not lead to its section: no runbook_url that ends in {leads}");
    }
    let pages = Page::all();
    let runbook = pages.iter().find(|p| p.name == "runbook.md").unwrap();
    let sections: BTreeSet<&str> = runbook.text.lines().filter_map(|l| l.strip_prefix("## ")).collect();
    let missing: Vec<_> = alerts.difference(&sections).collect();
    let left: Vec<_> = sections.difference(&alerts).collect();
    assert!(missing.is_empty() && left.is_empty(), "without a section: {missing:?}; without an alert: {left:?}");
    for section in runbook.text.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap();
        for part in ["**Meaning.**", "**Look at**", "```sh\n", "**Do.**"] {
            assert!(section.contains(part), "{name} has no {part}");
        }
    }
}

#[test]
fn every_link_leads_somewhere_and_every_page_is_in_the_summary() {
    let pages: BTreeMap<String, Page> = Page::all().into_iter().map(|p| (p.name.clone(), p)).collect();
    let summary = &pages["SUMMARY.md"];
    let listed: BTreeSet<String> = summary.links().into_iter().map(|(_, to)| to).collect();
    let there: BTreeSet<String> = pages.keys().filter(|n| *n != "SUMMARY.md").cloned().collect();
    assert_eq!(listed, there, "listed in SUMMARY.md, and there");
    let mut count = 0;
    for page in pages.values() {
        for (line, to) in page.links() {
            let at = format!("{}:{line}: {to}", page.name);
            if to.starts_with("https://") {
                continue;
            }
            let (path, anchor) = to.split_once('#').unwrap_or((&to, ""));
            let name = if path.is_empty() { page.name.clone() } else { page.beside(path) };
            let target = pages.get(&name).unwrap_or_else(|| panic!("{at} leads nowhere"));
            assert!(anchor.is_empty() || anchors(&target.text).contains(anchor), "{at}: there is no such heading");
            count += 1;
        }
        for include in page.includes() {
            let file = pages::source().join(&page.name).parent().unwrap().join(&include);
            assert!(file.exists(), "{}: {include} is not there", page.name);
        }
    }
    assert!(count > 50, "{count} links");
}

#[test]
fn commands_in_running_text_are_in_the_reference() {
    let reference = reference::command_line();
    let sections: BTreeMap<&str, &str> =
        reference.split("\n## ").skip(1).map(|s| s.split_once('\n').unwrap()).collect();
    let everywhere = reference.split("\n## ").next().unwrap();
    let mut count = 0;
    for page in Page::all().iter().filter(|p| !p.name.starts_with("reference/")) {
        for command in page.inline().into_iter().filter(|c| c.starts_with("weir ")) {
            let mut name = "weir".to_owned();
            let words: Vec<&str> = command.split_whitespace().skip(1).collect();
            let plain = |w: &str| w.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !w.starts_with('-');
            for word in words.iter().take_while(|w| plain(w)) {
                let longer = format!("{name} {word}");
                let group = sections.keys().any(|k| k.starts_with(&format!("{name} ")));
                match sections.contains_key(longer.as_str()) {
                    true => name = longer,
                    false if group => panic!("{}: `{command}`: there is no `{longer}`", page.name),
                    false => break,
                }
            }
            assert_ne!(name, "weir", "{}: `{command}`", page.name);
            for option in words.iter().filter(|w| w.starts_with("--")) {
                let known = [sections[name.as_str()], everywhere].iter().any(|s| s.contains(option));
                assert!(known, "{}: `{command}`: `{name}` has no {option}", page.name);
            }
            count += 1;
        }
    }
    assert!(count > 20, "{count} commands");
}
