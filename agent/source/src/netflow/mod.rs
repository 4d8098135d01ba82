//! NetFlow v5, v9 and IPFIX.

use std::io::BufRead;

use crate::Options;
use crate::report::{Halt, Report, SourceError};
use crate::sink::Sink;

pub(crate) fn read(
    _reader: &mut dyn BufRead,
    _options: &Options,
    _report: &mut Report,
    _sink: &mut dyn Sink,
) -> Result<(), Halt> {
    Err(SourceError::Unknown("cannot be read yet".into()).into())
}
