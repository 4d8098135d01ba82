//! The plain case of JSON, read in one pass and without copies.
//!
//! [`Plain`] takes what loggers write: objects, strings without escapes, whole numbers. Whatever else there is (escapes,
//! control characters, exponents, deep nesting, mistakes) gives `None`, and the caller asks `serde_json`, which also has the
//! word for what is wrong. What [`Plain`] does take means the same to `serde_json`
//! (`what_is_read_at_once_is_what_serde_reads`).

/// Nesting followed.
const DEPTH: u32 = 8;

/// A reader of one value after the other.
pub(crate) struct Plain<'a> {
    rest: &'a [u8],
}

impl<'a> Plain<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// The next byte that is no white space.
    #[inline(always)]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.rest.first()? {
                b' ' | b'\t' | b'\n' | b'\r' => self.rest = &self.rest[1..],
                b => return Some(b),
            }
        }
    }

    #[inline(always)]
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.rest = &self.rest[1..])
    }

    /// Nothing but white space is left.
    pub(crate) fn is_over(&mut self) -> bool {
        self.peek().is_none()
    }

    /// An object; `each` takes the value of every key off.
    #[inline(always)]
    pub(crate) fn object(&mut self, mut each: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            return self.take(b'}');
        }
        loop {
            let key = self.text()?;
            self.take(b':')?;
            each(self, key)?;
            match self.peek()? {
                b',' => self.rest = &self.rest[1..],
                b'}' => {
                    self.rest = &self.rest[1..];
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// An array; `each` takes every value off.
    pub(crate) fn array(&mut self, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(b'[')?;
        if self.peek()? == b']' {
            return self.take(b']');
        }
        loop {
            each(self)?;
            match self.peek()? {
                b',' => self.rest = &self.rest[1..],
                b']' => {
                    self.rest = &self.rest[1..];
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// A string of ASCII.
    #[inline(always)]
    fn text(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let end = self.rest.iter().position(|&b| b == b'"' || b == b'\\' || !(0x20..0x80).contains(&b))?;
        let text = &self.rest[..end];
        self.rest = self.rest[end..].strip_prefix(b"\"")?;
        Some(text)
    }

    /// A string of ASCII.
    #[inline]
    pub(crate) fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.text()?).ok()
    }

    /// A whole number.
    #[inline]
    pub(crate) fn number<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.peek()?;
        let digits = self.digits();
        let value = match digits {
            [] | [b'0', _, ..] => return None,
            // Nineteen digits fit.
            _ if digits.len() > 19 => return None,
            _ => digits.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')),
        };
        match self.rest.first() {
            Some(b'.' | b'e' | b'E') => None,
            _ => T::try_from(value).ok(),
        }
    }

    #[inline(always)]
    fn digits(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits
    }

    /// Passes over a value of any kind.
    pub(crate) fn skip(&mut self) -> Option<()> {
        self.skip_within(DEPTH)
    }

    fn skip_within(&mut self, depth: u32) -> Option<()> {
        match self.peek()? {
            b'"' => self.text().map(drop),
            b'{' => self.object(|v, _| v.skip_within(depth.checked_sub(1)?)),
            b'[' => self.array(|v| v.skip_within(depth.checked_sub(1)?)),
            b'0'..=b'9' => {
                if matches!(self.digits(), [b'0', _, ..]) {
                    return None;
                }
                if self.rest.first() == Some(&b'.') {
                    self.rest = &self.rest[1..];
                    if self.digits().is_empty() {
                        return None;
                    }
                }
                (!matches!(self.rest.first(), Some(b'e' | b'E'))).then_some(())
            }
            _ => {
                let word = [&b"true"[..], b"false", b"null"].into_iter().find(|w| self.rest.starts_with(w))?;
                self.rest = &self.rest[word.len()..];
                Some(())
            }
        }
    }
}
