//! `cargo xtask test`: every test of the workspace, with what was skipped listed at the end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::needs::Use;
use crate::sh::{root, sh, sh_as_root};

pub fn run(args: &[String]) -> Result<()> {
    // Asked for now: the build of the tests may put another file in this one's place.
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    crate::setup::ensure(&[Use::Test])?;
    crate::ebpf::build(crate::ebpf::Choice::Auto)?;
    crate::dashboard::build_or_say()?;
    let mut command = sh("cargo", ["test", "--workspace", "--no-fail-fast", "--", "--show-output"]).dir(root());
    for arg in args {
        command = command.arg(arg);
    }
    let host = crate::host::Host::this();
    let python = crate::setup::venv::MODELS.python(&host);
    if python.exists() {
        command = command.env("WEIR_PYTHON", python);
    }
    if let Some((name, value)) = crate::bench::runner() {
        command = command.env(&name, value);
    }
    eprintln!("+ {}", command.words());
    let mut child = command
        .into_command()
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start `cargo test`; is cargo in PATH?")?;
    let mut report = Report::default();
    let mut out = std::io::stdout().lock();
    let lines = lines(child.stdout.take().context("no output of cargo test")?);
    loop {
        let line = match lines.recv_timeout(HUNG) {
            Ok(line) => line.context("cannot read what cargo test prints")?,
            // Before the first test the compiler is at work.
            Err(RecvTimeoutError::Timeout) if report.programs == 0 => continue,
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("no test has ended in the last {} minutes; what runs is ended", HUNG.as_secs() / 60);
                end_children(child.id());
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let line = String::from_utf8_lossy(&line);
        if report.line(&line) {
            writeln!(out, "{line}")?;
        }
    }
    let status = child.wait()?;
    for skip in &report.skips {
        writeln!(out, "{skip}")?;
    }
    drop(out);
    let mut worst = Ok(());
    // A filter asks for certain tests.
    if args.is_empty() {
        let played = |report: &mut Report| scenes(&program, report);
        let parts: [&Part<'_>; 4] = [&fuzzed, &sanitized, &played, &kernels];
        for part in parts {
            if let Err(e) = part(&mut report) {
                eprintln!("{e:#}");
                worst = worst.and(Err(e));
            }
        }
    }
    println!("\n{}", report.closing());
    if !status.success() {
        bail!("tests failed ({status})");
    }
    worst?;
    if report.passed + report.failed == 0 {
        bail!("no test ran; does a test's name contain {:?}?", args.join(" "));
    }
    Ok(())
}

/// What belongs to the tests besides `cargo test`.
type Part<'a> = dyn Fn(&mut Report) -> Result<()> + 'a;

/// A test program that prints nothing for so long hangs; the others are still to run.
const HUNG: Duration = Duration::from_secs(600);

fn lines(from: ChildStdout) -> Receiver<std::io::Result<Vec<u8>>> {
    let (to, lines) = channel();
    std::thread::spawn(move || BufReader::new(from).split(b'\n').try_for_each(|line| to.send(line)));
    lines
}

/// Ends the processes that `parent` started, by which it knows that they failed.
fn end_children(parent: u32) {
    let of = format!("/proc/{parent}/task/{parent}/children");
    for pid in std::fs::read_to_string(of).unwrap_or_default().split_whitespace() {
        let _ = sh_as_root("kill", [pid]).loud().run();
    }
}

/// The short form of `cargo xtask vm`: what older kernels are first to break.
fn kernels(report: &mut Report) -> Result<()> {
    eprintln!("+ cargo xtask vm --short");
    let tally = report.done(crate::vm::short())?;
    report.tell(tally.passed, tally.failed, &tally.skips);
    if tally.failed > 0 {
        bail!("{} tests failed on older kernels", tally.failed);
    }
    Ok(())
}

/// The scenes of the lab. Each counts as a test; what they tell is shown where one fails.
fn scenes(program: &Path, report: &mut Report) -> Result<()> {
    eprintln!("+ cargo xtask lab --scene all");
    // What the tests were built with; another build would choose other features and take minutes.
    let weir = crate::sh::target_dir().join("debug/weir");
    let weir = weir.canonicalize().with_context(|| format!("the tests left no {}", weir.display()))?;
    let out = std::process::Command::new(program)
        .args(["lab", "--scene", "all", "--weir"])
        .arg(weir)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start the lab")?;
    let text = String::from_utf8_lossy(&out.stdout);
    let counts = text.lines().find_map(|l| l.strip_prefix("scenes: ")).and_then(scene_counts);
    let (passed, failed) = counts.unwrap_or((0, 1));
    let skips: Vec<String> = text.lines().filter(|l| l.starts_with("SKIP scene ")).map(str::to_owned).collect();
    report.add(passed, failed, skips);
    if !out.status.success() || failed > 0 || passed == 0 {
        print!("{text}");
        bail!("the lab's scenes failed ({})", out.status);
    }
    let summary = text.rfind("##### Scenes").unwrap_or_default();
    print!("{}", &text[summary..]);
    Ok(())
}

/// "6 passed, 1 failed"
fn scene_counts(words: &str) -> Option<(u64, u64)> {
    let (passed, failed) = words.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.strip_suffix(" failed")?.parse().ok()?))
}

/// `cargo xtask sanitize`; each of its watchers counts as a test.
fn sanitized(report: &mut Report) -> Result<()> {
    eprintln!("+ cargo xtask sanitize");
    let tally = report.done(crate::sanitize::run_all(&crate::sanitize::Options::ALL))?;
    report.tell(tally.passed.len() as u64, tally.failed.len() as u64, &tally.skips);
    if !tally.failed.is_empty() {
        bail!("{}", tally.failed.join("\n"));
    }
    Ok(())
}

/// Seconds of fuzzing per target; `cargo xtask fuzz` takes longer.
const FUZZ_SECONDS: u64 = 10;

/// Counts as one test.
fn fuzzed(report: &mut Report) -> Result<()> {
    report.done(crate::fuzz::run(&crate::fuzz::Options::all(FUZZ_SECONDS)))?;
    report.add(1, 0, Vec::new());
    Ok(())
}

/// What is known so far from the lines of `cargo test -- --show-output`. A test that cannot run says `SKIP: ` and what
/// was missing; what passing tests print besides that is left out.
#[derive(Default)]
struct Report {
    passed: u64,
    failed: u64,
    ignored: u64,
    skips: Vec<String>,
    /// Test programs begun.
    programs: u64,
    /// Inside the output of passed tests; the test whose output it is.
    within: Option<String>,
}

impl Report {
    /// What could not be done at all counts as one that failed.
    fn done<T>(&mut self, result: Result<T>) -> Result<T> {
        result.inspect_err(|_| self.failed += 1)
    }

    /// Skips are counted as the test harness does: as passed, and taken off at the end.
    fn add(&mut self, passed: u64, failed: u64, skips: Vec<String>) {
        self.passed += passed + skips.len() as u64;
        self.failed += failed;
        self.skips.extend(skips);
    }

    /// The same, saying what was skipped.
    fn tell(&mut self, passed: u64, failed: u64, skips: &[String]) {
        let skips: Vec<String> = skips.iter().map(|s| format!("SKIP {s}")).collect();
        skips.iter().for_each(|skip| println!("{skip}"));
        self.add(passed, failed, skips);
    }

    /// Takes one line; says whether it is to be shown.
    fn line(&mut self, line: &str) -> bool {
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.within = None;
            let mut words = rest.split([' ', ';']).filter(|w| !w.is_empty()).peekable();
            while let Some(word) = words.next() {
                let (Ok(n), Some(what)) = (word.parse::<u64>(), words.peek()) else { continue };
                match *what {
                    "passed" => self.passed += n,
                    "failed" => self.failed += n,
                    "ignored" => self.ignored += n,
                    _ => {}
                }
            }
            return true;
        }
        if line.starts_with("running ") && line.trim_end_matches('s').ends_with(" test") {
            self.programs += 1;
        }
        if line == "failures:" {
            self.within = None;
            return true;
        }
        if line == "successes:" {
            self.within.get_or_insert_default();
            return false;
        }
        if let Some(test) = &mut self.within {
            if let Some(name) = line.strip_prefix("---- ").and_then(|l| l.strip_suffix(" stdout ----")) {
                *test = name.to_owned();
            } else if let Some(why) = line.trim_start().strip_prefix("SKIP") {
                self.skips.push(format!("SKIP {test}{why}"));
            }
            return false;
        }
        // Written past the test harness, straight to standard output.
        if line.starts_with("SKIP") {
            self.skips.push(line.to_owned());
        }
        true
    }

    /// One line with the sums of all test programs; a skipped test has not passed.
    fn closing(&self) -> String {
        let skipped = self.skips.len() as u64 + self.ignored;
        let passed = self.passed.saturating_sub(self.skips.len() as u64);
        format!("{passed} passed, {} failed, {skipped} skipped", self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a ... ok
test b ... FAILED
test c ... ok

successes:

---- a stdout ----
chatter
SKIP: no python3 in PATH

---- c stdout ----
more chatter

successes:
    a
    c

failures:

---- b stdout ----
panicked here

failures:
    b

test result: FAILED. 2 passed; 1 failed; 4 ignored; 0 measured; 7 filtered out; finished in 0.00s

running 1 test
test d ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn what_the_scenes_say_is_counted() {
        assert_eq!(scene_counts("6 passed, 1 failed"), Some((6, 1)));
        assert_eq!(scene_counts("no scene ran"), None);
    }

    #[test]
    fn sums_run_over_all_programs_and_a_skip_is_no_pass() {
        let mut report = Report::default();
        let shown: Vec<&str> = OUTPUT.lines().filter(|l| report.line(l)).collect();
        assert_eq!(report.closing(), "2 passed, 1 failed, 5 skipped");
        assert_eq!(report.programs, 2);
        assert_eq!(report.skips, ["SKIP a: no python3 in PATH"]);
        assert!(shown.contains(&"panicked here"), "a failure's output is shown");
        assert!(!shown.iter().any(|l| l.contains("chatter")), "a success's output is not");
        assert!(shown.iter().any(|l| l.starts_with("test result: ok. 1 passed")));
    }
}
