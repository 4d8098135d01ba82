//! Where rows go: standard output, or a file that appears when it is whole.

use std::fs::{File, Permissions};
use std::io::{self, IsTerminal, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::NamedTempFile;
use weir_source::write::{Form, Row, Shape, Writer, writer};

use super::signals;

pub struct Output {
    rows: Box<dyn Writer>,
    /// Until it is whole, under another name.
    file: Option<(NamedTempFile, PathBuf)>,
}

impl Output {
    /// `None` is standard output.
    pub fn open(to: Option<&Path>, form: Form, shape: Shape) -> anyhow::Result<Self> {
        let Some(path) = to.filter(|p| *p != Path::new("-")) else {
            return Ok(Self { rows: writer(form, shape, io::stdout())?, file: None });
        };
        let said = || format!("cannot write {}", path.display());
        // A pipe or a device cannot be renamed to.
        if path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            let device = File::options().write(true).open(path).with_context(said)?;
            return Ok(Self { rows: writer(form, shape, device)?, file: None });
        }
        let temporary = temporary(path)?;
        let rows = writer(form, shape, temporary.as_file().try_clone()?)?;
        Ok(Self { rows, file: Some((temporary, path.to_owned())) })
    }

    pub fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        self.rows.write(row)
    }

    /// Makes the output whole, and gives a file its name.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.rows.finish()?;
        if let Some((file, path)) = self.file.take() {
            file.persist(&path).map_err(|e| e.error).with_context(|| format!("cannot write {}", path.display()))?;
            signals::unfinished(None);
        }
        Ok(())
    }
}

/// A file beside `path`, to be given its name once it is whole.
fn temporary(path: &Path) -> anyhow::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let temporary = tempfile::Builder::new()
        .prefix(".weir-")
        .suffix(".tmp")
        // As any new file: the umask takes from it.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .with_context(|| format!("cannot write {}", path.display()))?;
    signals::unfinished(Some(temporary.path().to_owned()));
    Ok(temporary)
}

/// Writes a text as a whole. `None` is standard output.
pub fn whole(to: Option<&Path>, text: &str) -> anyhow::Result<()> {
    let Some(path) = to.filter(|p| *p != Path::new("-")) else {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        return Ok(out.flush()?);
    };
    let said = || format!("cannot write {}", path.display());
    // A pipe or a device cannot be renamed to.
    if path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        return std::fs::write(path, text).with_context(said);
    }
    let mut file = temporary(path)?;
    file.write_all(text.as_bytes()).with_context(said)?;
    file.persist(path).map_err(|e| e.error).with_context(said)?;
    signals::unfinished(None);
    Ok(())
}

/// Whether rows would go to a person's terminal.
pub fn to_terminal(to: Option<&Path>) -> bool {
    to.is_none_or(|p| p == Path::new("-")) && io::stdout().is_terminal()
}

/// Lines without what could steer a terminal: names and warnings come from inputs.
pub fn clean_lines(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

pub fn percent(part: u64, of: u64) -> String {
    share(if of == 0 { 0.0 } else { part as f64 / of as f64 })
}

/// "1.25 %", "0.001 %".
pub fn share(v: f64) -> String {
    let percent = 100.0 * v;
    if percent > 0.0 && percent < 0.01 {
        format!("{percent:.4} %")
    } else {
        format!("{} %", (percent * 100.0).round() / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_short_and_never_round_to_nothing() {
        assert_eq!((share(0.01), share(0.0125), share(1.0)), ("1 %".into(), "1.25 %".into(), "100 %".into()));
        assert_eq!((share(0.00001), percent(0, 0)), ("0.0010 %".into(), "0 %".into()));
    }
}
