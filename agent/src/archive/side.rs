//! What lies beside the flows of a file: the source windows as they were, and what must not be learned from. JSON lines,
//! compressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use weir_core::addr::{Addr, Prefix};
use weir_core::evidence::{Observation, ObservationKind};
use weir_core::feature::source_matrix;
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::record::TimeUs;
use weir_core::role::Role;
use weir_core::window::SourceWindow;

/// Longest line read.
const MAX_LINE: u64 = 64 << 10;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The columns of every window behind it. Another list is another version's: its windows are not learned from.
    Features(Vec<String>),
    Window(Window),
    /// Something was held against these addresses.
    Against(Prefix),
    /// What was counted in this time is not all that there was.
    Degraded {
        from_us: TimeUs,
        to_us: TimeUs,
        why: String,
    },
}

/// A row of profile `source`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// When it was given.
    pub known_us: TimeUs,
    pub source: Addr,
    pub role: Role,
    pub start_us: TimeUs,
    pub early: bool,
    /// Raw values; null is a missing one.
    pub row: Vec<Option<f32>>,
}

impl Window {
    /// The rows of these windows, given at `now`.
    pub fn of(now: TimeUs, windows: &[SourceWindow]) -> Vec<Self> {
        let matrix = source_matrix(windows);
        let value = |i: usize, j: usize| (matrix.present(i) >> j & 1 == 1).then(|| matrix.row(i)[j]);
        let each = windows.iter().enumerate().map(|(i, w)| Self {
            known_us: now,
            source: w.source,
            role: w.role,
            start_us: w.start_us,
            early: w.early,
            row: (0..ProfileId::Source.width()).map(|j| value(i, j)).collect(),
        });
        each.collect()
    }

    /// Appends it to rows of profile `source`; what evidence needs of it. `None`: it is no such row.
    pub fn add_to(&self, matrix: &mut FeatureMatrix) -> Option<Observation> {
        matrix.push(&self.row, self.role).ok()?;
        let kind = ObservationKind::Window { role: self.role, start_us: self.start_us, early: self.early };
        Some(Observation { time_us: self.known_us, source: self.source, p: 1.0, actionable: true, kind })
    }
}

pub fn columns() -> Vec<String> {
    ProfileId::Source.features().iter().map(|f| f.name.to_owned()).collect()
}

/// Writes lines; [`SideWriter::finish`] makes the file whole.
pub struct SideWriter {
    out: BufWriter<zstd::stream::write::Encoder<'static, File>>,
}

impl SideWriter {
    pub fn new(file: File) -> io::Result<Self> {
        let mut new = Self { out: BufWriter::new(zstd::stream::write::Encoder::new(file, 1)?) };
        new.write(&Line::Features(columns()))?;
        Ok(new)
    }

    pub fn write(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }

    pub fn finish(self) -> io::Result<File> {
        self.out.into_inner().map_err(io::IntoInnerError::into_error)?.finish()
    }
}

/// Gives every line to `each`. Windows of other columns than today's are left out, and counted.
pub fn read(path: &Path, each: &mut dyn FnMut(Line)) -> io::Result<u64> {
    let mut lines = BufReader::new(zstd::stream::read::Decoder::new(File::open(path)?)?);
    let (mut known, mut strange, mut line) = (false, 0, String::new());
    loop {
        line.clear();
        if io::Read::take(&mut lines, MAX_LINE).read_line(&mut line)? == 0 {
            return Ok(strange);
        }
        match serde_json::from_str(&line)? {
            Line::Features(names) => known = names == columns(),
            Line::Window(_) if !known => strange += 1,
            other => each(other),
        }
    }
}
