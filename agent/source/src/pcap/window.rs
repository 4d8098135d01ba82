//! A stream seen through a buffer of fixed size.

use std::io::{self, ErrorKind, Read};

/// Bytes that can be looked at together.
pub(super) const ROOM: usize = 512 * 1024;
/// Bytes read at a time: as many as the reader before buffers, so that it passes them on without a copy, and few enough
/// that they are still in the processor's cache when they are parsed.
const READ: usize = crate::input::BUFFER;

pub(super) struct Window<R> {
    reader: R,
    buf: Box<[u8]>,
    start: usize,
    end: usize,
    /// Where `buf[0]` lies in the stream.
    base: u64,
    /// The stream broke off in the middle of something: a compressed file that was cut, bytes to skip that are not there.
    broken: bool,
}

impl<R: Read> Window<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buf: vec![0; ROOM].into_boxed_slice(), start: 0, end: 0, base: 0, broken: false }
    }

    /// Makes `n` bytes (at most [`ROOM`]) available. `false`: the stream ends before.
    #[inline]
    pub(super) fn fill(&mut self, n: usize) -> io::Result<bool> {
        if self.end - self.start >= n { Ok(true) } else { self.refill(n) }
    }

    #[cold]
    fn refill(&mut self, n: usize) -> io::Result<bool> {
        debug_assert!(n <= ROOM);
        self.buf.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        while self.end < n.min(ROOM) {
            let to = (self.end + READ).min(ROOM);
            match self.reader.read(&mut self.buf[self.end..to]) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
                    self.broken = true;
                    return Ok(false);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// What is available.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// The bytes at `at` of what is available, if they are.
    #[inline]
    pub(super) fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes().get(at..)?.first_chunk().copied()
    }

    /// Goes on by `n` bytes that are available. Returns where they lie, for [`Window::taken`].
    #[inline]
    pub(super) fn consume(&mut self, n: usize) -> usize {
        let was = self.start;
        self.start = (self.start + n).min(self.end);
        was
    }

    /// Bytes that were consumed; good until the next [`Window::fill`] or [`Window::skip`].
    #[inline]
    pub(super) fn taken(&self, from: usize, len: usize) -> &[u8] {
        self.buf.get(from..from.saturating_add(len)).unwrap_or_default()
    }

    /// Goes on by any number of bytes. `false`: the stream ends before.
    pub(super) fn skip(&mut self, mut n: u64) -> io::Result<bool> {
        loop {
            let here = (self.end - self.start) as u64;
            if n <= here {
                self.start += n as usize;
                return Ok(true);
            }
            n -= here;
            self.start = self.end;
            if !self.fill(1)? {
                self.broken = true;
                return Ok(false);
            }
        }
    }

    /// Bytes of the stream consumed.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Whether the stream ended inside something, seen from where it was to end.
    pub(super) fn cut(&self) -> bool {
        self.broken || self.start < self.end
    }
}
