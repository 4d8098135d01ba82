//! Lines of a stream, none of them longer than [`MAX_LINE`].

use std::io::{self, BufRead};

use crate::report::Halt;

/// Longest line that is read, bytes. A longer one is passed over.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// One line without its end (LF or CR LF).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// Empty where the line is too long.
    pub(crate) text: &'a [u8],
    /// From 1.
    pub(crate) number: u64,
    pub(crate) too_long: bool,
    /// False for a last line without an end: the input may be cut there.
    pub(crate) complete: bool,
}

/// Gives every line to `each`. A byte order mark at the very start is left out.
///
/// # Errors
/// Those of `reader` and of `each`.
pub(crate) fn each_line(
    reader: &mut dyn BufRead,
    mut each: impl FnMut(Line<'_>) -> Result<(), Halt>,
) -> Result<(), Halt> {
    let mut carry: Vec<u8> = Vec::new();
    let mut too_long = false;
    let mut number = 0_u64;
    let mut give = |text: &[u8], too_long: bool, complete: bool| {
        number += 1;
        let text = if number == 1 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text };
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        each(Line { text: if too_long { &[] } else { text }, number, too_long, complete })
    };
    loop {
        let chunk = match reader.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            got => got?,
        };
        if chunk.is_empty() {
            break;
        }
        let used = chunk.len();
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if carry.is_empty() && !too_long {
                give(line, line.len() > MAX_LINE, true)?;
            } else {
                too_long |= carry.len() + line.len() > MAX_LINE;
                if !too_long {
                    carry.extend_from_slice(line);
                }
                give(&carry, too_long, true)?;
                carry.clear();
                too_long = false;
            }
            rest = after;
        }
        too_long |= carry.len() + rest.len() > MAX_LINE;
        if too_long {
            carry.clear();
        } else {
            carry.extend_from_slice(rest);
        }
        reader.consume(used);
    }
    if too_long || !carry.is_empty() { give(&carry, too_long, false) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn lines(input: &[u8], buffer: usize) -> Vec<(String, u64, bool, bool)> {
        let mut out = Vec::new();
        let mut reader = BufReader::with_capacity(buffer, input);
        each_line(&mut reader, |l| {
            out.push((String::from_utf8_lossy(l.text).into_owned(), l.number, l.too_long, l.complete));
            Ok(())
        })
        .unwrap();
        out
    }

    #[test]
    fn lines_are_the_same_however_the_input_comes() {
        let input = b"\xef\xbb\xbfone\r\n\ntwo\nthree";
        let expected = vec![
            ("one".to_owned(), 1, false, true),
            (String::new(), 2, false, true),
            ("two".to_owned(), 3, false, true),
            ("three".to_owned(), 4, false, false),
        ];
        for buffer in 1..input.len() + 2 {
            assert_eq!(lines(input, buffer), expected, "{buffer}");
        }
        assert_eq!(lines(b"", 8), vec![]);
        assert_eq!(lines(b"a\n", 8), vec![("a".into(), 1, false, true)]);
    }

    #[test]
    fn a_line_without_end_costs_no_memory_and_the_next_one_is_read() {
        let mut input = vec![b'x'; MAX_LINE + 1];
        input.extend_from_slice(b"\nnext\n");
        for buffer in [4096, 1 << 22] {
            assert_eq!(lines(&input, buffer), vec![(String::new(), 1, true, true), ("next".into(), 2, false, true)]);
        }
        let mut fits = vec![b'x'; MAX_LINE];
        fits.push(b'\n');
        assert_eq!(lines(&fits, 4096)[0].0.len(), MAX_LINE);
        assert_eq!(lines(&vec![b'x'; MAX_LINE * 2], 4096), vec![(String::new(), 1, true, false)]);
    }
}
