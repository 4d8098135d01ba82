//! Man pages, made of the definition of the command line: `weir.1`, `weir-decisions.1`, `weir-decisions-add.1` and so on.

use std::path::Path;

use anyhow::Context as _;
use clap::Command;
use clap_mangen::Man;

/// What the program's own page says beyond its commands. In roff.
const FILES: &str = "\
.SH FILES
.TP
\\fI/etc/weir/weir.yaml\\fR
The agent's configuration; \\fBweir config show\\fR prints every key with its default.
.TP
\\fI/var/lib/weir\\fR
Decisions, allow list, models, alerts and recorded flows.
.TP
\\fI/run/weir/weir.sock\\fR
The agent's control socket.
.TP
\\fI/sys/fs/bpf/weir\\fR
Programs and maps of the kernel; \\fBweir unload \\-\\-all\\fR removes them.
";

/// Writes the pages of `command` and of all below it that are not hidden into `dir`, which is made.
pub fn write(command: Command, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    // Without `help` below every command.
    let mut command = command.disable_help_subcommand(true);
    // Names and usage lines of what is below.
    command.build();
    below(&command, dir, true)
}

fn below(command: &Command, dir: &Path, top: bool) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut page = Vec::new();
    let man = Man::new(command.clone()).title(name.to_uppercase()).manual("Weir");
    man.render(&mut page).with_context(|| format!("cannot make the man page {name}(1)"))?;
    if top {
        page.extend_from_slice(FILES.as_bytes());
    }
    let path = dir.join(format!("{name}.1"));
    std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    command.get_subcommands().filter(|c| !c.is_hide_set()).try_for_each(|c| below(c, dir, false))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::args::Cli;

    /// Commands that people see, as names of pages.
    fn names(command: &clap::Command, prefix: &str, all: &mut Vec<String>) {
        let name = format!("{prefix}{}", command.get_name());
        all.push(format!("{name}.1"));
        command.get_subcommands().filter(|c| !c.is_hide_set()).for_each(|c| names(c, &format!("{name}-"), all));
    }

    #[test]
    fn every_command_has_a_page_that_says_what_it_takes_and_no_other_has() {
        let dir = tempfile::tempdir().unwrap();
        super::write(Cli::command(), dir.path()).unwrap();
        let mut expected = Vec::new();
        names(&Cli::command(), "", &mut expected);
        expected.sort();
        let mut found: Vec<String> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        assert_eq!(found, expected);
        let page = std::fs::read_to_string(dir.path().join("weir-decisions-add.1")).unwrap();
        for words in ["confirm\\-within", "Block a target", "weir decisions add"] {
            assert!(page.contains(words), "{words} is missing in {page}");
        }
        // As man reads them.
        match std::process::Command::new("man")
            .args(["--warnings", "--encoding=utf8", "-l"])
            .arg(dir.path().join("weir.1"))
            .output()
        {
            Ok(out) => {
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                assert!(out.status.success() && said.is_empty(), "{said}");
                assert!(String::from_utf8_lossy(&out.stdout).contains("/var/lib/weir"));
            }
            Err(e) => println!("SKIP: the pages were not read by man: {e}"),
        }
        let top = std::fs::read_to_string(dir.path().join("weir.1")).unwrap();
        assert!(top.contains("/etc/weir/weir.yaml") && top.contains("weir\\-decisions(1)"), "{top}");
    }
}
