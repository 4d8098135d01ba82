//! Opening an input: decompress, then recognise the format by its first bytes.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::report::{Halt, Report, SourceError};
use crate::sink::Sink;
use crate::{Options, Stop};

/// Bytes looked at to recognise a format.
const LOOK: usize = 64 * 1024;
/// Bytes read from a file at a time.
pub(crate) const BUFFER: usize = 128 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Pcap,
    PcapNg,
    /// `conn.log`, tab- or otherwise separated, with `#fields`.
    ZeekTsv,
    ZeekJson,
    /// Fields of `conn.log` as CSV with a header row (IoT-23).
    ZeekCsv,
    /// NetFlow v5, v9 or IPFIX datagrams, each behind its length in 4 bytes, big-endian.
    NetFlow,
    /// Suricata.
    Eve,
    CicIds2017,
    UnswNb15,
    /// JSON lines of `weir flows`.
    WeirJson,
    WeirParquet,
}

impl Format {
    pub const ALL: [(Format, &'static str); 11] = [
        (Format::Pcap, "pcap"),
        (Format::PcapNg, "pcapng"),
        (Format::ZeekTsv, "zeek"),
        (Format::ZeekJson, "zeek-json"),
        (Format::ZeekCsv, "zeek-csv"),
        (Format::NetFlow, "netflow"),
        (Format::Eve, "eve"),
        (Format::CicIds2017, "cic-ids2017"),
        (Format::UnswNb15, "unsw-nb15"),
        (Format::WeirJson, "weir-json"),
        (Format::WeirParquet, "weir-parquet"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(f, _)| *f == self).map_or("?", |(_, n)| n)
    }
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(f, _)| *f)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An input that is open and recognised.
pub struct Input {
    reader: Box<dyn BufRead + Send>,
    format: Format,
    name: String,
    /// The input itself where it is a plain file, not compressed: for formats that begin at the end.
    file: Option<File>,
    compressed: bool,
    /// Bytes of the file, where that is known before.
    pub size: Option<u64>,
    read: Arc<AtomicU64>,
}

/// How far the reader is, in bytes of the file: for a progress bar on another thread.
#[derive(Clone, Debug)]
pub struct Position(Arc<AtomicU64>);

impl Position {
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// What comes behind the bytes that the format was recognised by.
struct Rest {
    /// Reading them ended with this.
    failed: Option<io::Error>,
    inner: Box<dyn BufRead + Send>,
}

impl Read for Rest {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.failed.take().map_or_else(|| self.inner.read(buf), Err)
    }
}

impl BufRead for Rest {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.failed.take() {
            Some(e) => Err(e),
            None => self.inner.fill_buf(),
        }
    }
    fn consume(&mut self, n: usize) {
        self.inner.consume(n);
    }
}

/// What is in a stream of bytes, unpacked where its first bytes are those of gzip or zstd; and whether they are.
pub fn decompressed(stream: impl Read + Send + 'static) -> io::Result<(Box<dyn BufRead + Send>, bool)> {
    let mut reader: Box<dyn BufRead + Send> = Box::new(BufReader::with_capacity(BUFFER, stream));
    Ok(match reader.fill_buf()? {
        [0x1f, 0x8b, ..] => {
            (Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(reader))), true)
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            (Box::new(BufReader::with_capacity(BUFFER, zstd::stream::Decoder::with_buffer(reader)?)), true)
        }
        _ => (reader, false),
    })
}

impl Input {
    /// `-` is standard input.
    pub fn open(path: &Path, options: &Options) -> Result<Self, SourceError> {
        if path == Path::new("-") {
            return Self::new(io::stdin(), "standard input".into(), None, options);
        }
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Err(SourceError::Unknown("is a directory; name the files in it".into()));
        }
        let size = meta.is_file().then_some(meta.len());
        let again = file.try_clone()?;
        let mut input = Self::new(file, path.display().to_string(), size, options)?;
        input.file = (size.is_some() && !input.compressed).then_some(again);
        Ok(input)
    }

    /// Any stream of bytes, compressed or not.
    pub fn new(
        stream: impl Read + Send + 'static,
        name: String,
        size: Option<u64>,
        options: &Options,
    ) -> Result<Self, SourceError> {
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: stream, read: read.clone() };
        let (mut reader, compressed) = decompressed(counted)?;
        // A pipe may give its first bytes in crumbs.
        let mut head = Vec::with_capacity(LOOK);
        let failed = match (&mut reader).take(LOOK as u64).read_to_end(&mut head) {
            Ok(_) => None,
            Err(e) if head.is_empty() => return Err(e.into()),
            // A short compressed file that was cut: what there is comes first.
            Err(e) => Some(e),
        };
        let format = match options.format {
            Some(f) => f,
            None => crate::recognise::recognise(&head)?,
        };
        let reader = Box::new(io::Cursor::new(head).chain(Rest { failed, inner: reader }));
        Ok(Self { reader, format, name, file: None, compressed, size, read })
    }

    pub fn format(&self) -> Format {
        self.format
    }
    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn position(&self) -> Position {
        Position(self.read.clone())
    }

    /// Reads to the end and hands everything to `sink`. The report counts what was read also where reading failed.
    pub fn read(self, options: &Options, sink: &mut dyn Sink) -> (Report, Result<(), SourceError>) {
        let mut report = Report::default();
        let mut reader = self.reader;
        let (r, out) = (&mut reader, &mut report);
        let done = match self.format {
            Format::Pcap | Format::PcapNg => crate::pcap::read(r, options, out, sink),
            Format::ZeekTsv | Format::ZeekJson | Format::ZeekCsv => {
                crate::zeek::read(r, self.format, options, out, sink)
            }
            Format::NetFlow => crate::netflow::read(r, options, out, sink),
            Format::Eve => crate::eve::read(r, options, out, sink),
            Format::CicIds2017 => crate::cic::read(r, options, out, sink),
            Format::UnswNb15 => crate::unsw::read(r, options, out, sink),
            Format::WeirJson | Format::WeirParquet => crate::own::read(r, self.file, self.format, options, out, sink),
        };
        let ended = sink.end();
        let result = match (done, ended) {
            (Err(Halt::Failed(e)), _) => Err(e),
            (Err(Halt::Stopped) | Ok(()), Ok(()) | Err(Stop)) => Ok(()),
        };
        (report, result)
    }
}
