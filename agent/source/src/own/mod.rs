//! Files of `weir flows`: JSON lines and Parquet read back as they were.

mod guard;
mod json;
mod metadata;
mod parquet;
mod thrift;

use std::fs::File;
use std::io::{self, BufRead, Seek};

use crate::Options;
use crate::input::Format;
use crate::report::{Halt, Report};
use crate::sink::{Observation, Sink};

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

/// What no writer of ours ever wrote: a file can be edited, or damaged where it still parses.
fn sound(flow: &Observation) -> Result<(), &'static str> {
    match flow {
        o if o.record.end_us < o.record.start_us => Err("flow that ends before it begins"),
        o if o.sampling == 0 => Err("flow of which one in 0 packets was looked at"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
