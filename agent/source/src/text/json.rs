//! The plain case of JSON, read in one pass and without copies.
//!
//! [`Plain`] takes what loggers write: objects, strings without escapes, whole numbers. Whatever else there is (escapes,
//! control characters, exponents, deep nesting, mistakes) gives `None`, and the caller asks `serde_json`, which also has the
//! word for what is wrong. What [`Plain`] does take means the same to `serde_json`
//! (`what_is_read_at_once_is_what_serde_reads`).

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Nesting followed.
const DEPTH: u32 = 8;

/// A reader of one value after the other.
pub(crate) struct Plain<'a> {
    text: &'a str,
    /// Its end that is still to be read.
    rest: &'a [u8],
}

impl<'a> Plain<'a> {
    /// `None` where it is no UTF-8.
    pub(crate) fn new(text: &'a [u8]) -> Option<Self> {
        Some(Self { text: std::str::from_utf8(text).ok()?, rest: text })
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
    pub(crate) fn object(&mut self, mut each: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            return self.take(b'}');
        }
        loop {
            let key = self.str()?;
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

    /// A string.
    #[inline(always)]
    pub(crate) fn str(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let end = unusual(self.rest)?;
        let start = self.text.len() - self.rest.len();
        self.rest = self.rest[end..].strip_prefix(b"\"")?;
        self.text.get(start..start + end)
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
            b'"' => self.str().map(drop),
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

/// Where the first quote, backslash or control character is.
#[inline(always)]
fn unusual(text: &[u8]) -> Option<usize> {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = EACH << 7;
    // Eight bytes at a time: the high bit of a byte is set where it is one, and perhaps above the lowest of them.
    let zero = |x: u64| x.wrapping_sub(EACH) & !x;
    let mut at = 0;
    while let Some(eight) = text.get(at..).and_then(|t| t.first_chunk()) {
        let x = u64::from_le_bytes(*eight);
        let control = x.wrapping_sub(EACH * 0x20) & !x;
        let found = (zero(x ^ (EACH * 0x22)) | zero(x ^ (EACH * 0x5c)) | control) & HIGH;
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let last = text.get(at..)?.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20)?;
    Some(at + last)
}

/// A string for serde, borrowed where it has no escapes: of an `Option<Cow<str>>` serde always makes a copy.
#[derive(Debug, PartialEq)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(text.into())
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Words)
    }
}

/// Out of a line of JSON; faster where that is UTF-8 as a whole.
pub(crate) fn from_line<'a, T: Deserialize<'a>>(line: &'a [u8]) -> serde_json::Result<T> {
    std::str::from_utf8(line).map_or_else(|_| serde_json::from_slice(line), serde_json::from_str)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_unusual_byte_is_found(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(unusual(&text), text.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20));
        }

        #[test]
        fn a_text_is_the_string_it_stands_for(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(&*from_line::<Text<'_>>(json.as_bytes()).unwrap(), &*text);
            if let Some(plain) = Plain::new(json.as_bytes()).unwrap().str() {
                prop_assert_eq!(plain, text);
            }
        }
    }
}
