//! Files of `weir flows`: JSON lines and Parquet read back as they were.

mod guard;
mod json;
mod parquet;

use std::fs::File;
use std::io::{self, BufRead, Seek};

use crate::Options;
use crate::input::Format;
use crate::report::{Halt, Report};
use crate::sink::Sink;

pub(crate) use json::is_ours;

/// `file` is the input itself where it is a plain file: Parquet begins at its end.
pub(crate) fn read(
    reader: &mut dyn BufRead,
    file: Option<File>,
    format: Format,
    _options: &Options,
    report: &mut Report,
    sink: &mut dyn Sink,
) -> Result<(), Halt> {
    if format != Format::WeirParquet {
        return json::read(reader, report, sink);
    }
    let file = match file {
        Some(file) => file,
        None => {
            // A pipe, or compressed: the footer cannot be gone to.
            let mut whole = tempfile::tempfile()?;
            io::copy(reader, &mut whole)?;
            whole.rewind()?;
            whole
        }
    };
    parquet::read(file, report, sink)
}

#[cfg(test)]
mod tests;
