//! One line cut into fields.

/// Most columns that a row may have.
pub(crate) const MAX_COLUMNS: usize = 1024;

/// Cuts lines at a separator without copying; keeps its buffers from line to line.
pub(crate) struct Cutter {
    separator: Vec<u8>,
    /// Whether `"` encloses a field (RFC 4180). Fields do not go over the end of a line.
    quotes: bool,
    bounds: Vec<(u32, u32)>,
    unquoted: Vec<u8>,
    /// Whether the bounds are those of `unquoted`.
    in_unquoted: bool,
    ends: Vec<usize>,
}

/// The fields of one line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    text: &'a [u8],
    bounds: &'a [(u32, u32)],
}

impl<'a> Fields<'a> {
    /// Without blanks around it; `None` behind the last field.
    pub(crate) fn get(&self, index: usize) -> Option<&'a [u8]> {
        let &(start, end) = self.bounds.get(index)?;
        self.text.get(start as usize..end as usize).map(<[u8]>::trim_ascii)
    }
    pub(crate) fn len(&self) -> usize {
        self.bounds.len()
    }
    pub(crate) fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.len()).filter_map(move |i| self.get(i))
    }
}

/// The row has more than [`MAX_COLUMNS`] columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Cutter {
    /// `separator` is not empty.
    pub(crate) fn new(separator: &[u8], quotes: bool) -> Self {
        debug_assert!(!separator.is_empty());
        Self {
            separator: separator.to_vec(),
            quotes,
            bounds: Vec::new(),
            unquoted: Vec::new(),
            in_unquoted: false,
            ends: Vec::new(),
        }
    }

    pub(crate) fn comma() -> Self {
        Self::new(b",", true)
    }

    pub(crate) fn separator(&self) -> &[u8] {
        &self.separator
    }

    /// `line` is at most 4 GiB long (see [`super::lines::MAX_LINE`]).
    pub(crate) fn cut<'a>(&'a mut self, line: &'a [u8]) -> Result<Fields<'a>, TooMany> {
        self.bounds.clear();
        self.in_unquoted = false;
        if self.quotes && memchr::memchr(b'"', line).is_some() {
            return self.unquote(line);
        }
        let mut start = 0_usize;
        let width = self.separator.len();
        match *self.separator {
            [byte] => {
                for at in memchr::memchr_iter(byte, line) {
                    self.bounds.push((start as u32, at as u32));
                    start = at + 1;
                }
            }
            _ => {
                for at in memchr::memmem::find_iter(line, &self.separator) {
                    self.bounds.push((start as u32, at as u32));
                    start = at + width;
                }
            }
        }
        self.bounds.push((start as u32, line.len() as u32));
        if self.bounds.len() > MAX_COLUMNS {
            return Err(TooMany);
        }
        Ok(self.fields(line))
    }

    /// The fields of `line`, which was the last one cut.
    pub(crate) fn fields<'a>(&'a self, line: &'a [u8]) -> Fields<'a> {
        Fields { text: if self.in_unquoted { &self.unquoted } else { line }, bounds: &self.bounds }
    }

    /// Cuts the last field of `line`, which was the last one cut, at runs of blanks. Whether that gives `want` fields.
    pub(crate) fn cut_last(&mut self, line: &[u8], want: usize) -> bool {
        let Some((start, end)) = self.bounds.pop() else { return false };
        let mut at = start;
        for word in line.get(start as usize..end as usize).unwrap_or_default().split(|b| b.is_ascii_whitespace()) {
            if !word.is_empty() {
                self.bounds.push((at, at + word.len() as u32));
            }
            at += word.len() as u32 + 1;
        }
        self.bounds.len() == want
    }

    fn unquote<'a>(&'a mut self, line: &'a [u8]) -> Result<Fields<'a>, TooMany> {
        let mut reader = csv_core::ReaderBuilder::new().delimiter(*self.separator.first().unwrap_or(&b',')).build();
        self.unquoted.resize(line.len() + 1, 0);
        self.ends.resize(MAX_COLUMNS + 1, 0);
        // An unclosed quote ends with the line.
        let (mut read, mut written, mut ended) = (0, 0, 0);
        loop {
            let (result, r, w, e) =
                reader.read_record(&line[read..], &mut self.unquoted[written..], &mut self.ends[ended..]);
            (read, written, ended) = (read + r, written + w, ended + e);
            match result {
                // Called once more without input: the end.
                csv_core::ReadRecordResult::InputEmpty => {}
                csv_core::ReadRecordResult::Record | csv_core::ReadRecordResult::End => break,
                csv_core::ReadRecordResult::OutputFull | csv_core::ReadRecordResult::OutputEndsFull => {
                    return Err(TooMany);
                }
            }
        }
        let mut start = 0_u32;
        for &end in &self.ends[..ended] {
            self.bounds.push((start, end as u32));
            start = end as u32;
        }
        if ended > MAX_COLUMNS {
            return Err(TooMany);
        }
        self.in_unquoted = true;
        Ok(self.fields(line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(separator: &[u8], quotes: bool, line: &str) -> Vec<String> {
        let mut cutter = Cutter::new(separator, quotes);
        let fields = cutter.cut(line.as_bytes()).unwrap();
        fields.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect()
    }

    #[test]
    fn fields_lie_between_separators() {
        assert_eq!(cut(b",", true, "a, b ,,c"), ["a", "b", "", "c"]);
        assert_eq!(cut(b"\t", false, "a\t\"b\t"), ["a", "\"b", ""]);
        assert_eq!(cut(b"||", false, "a||b|c||"), ["a", "b|c", ""]);
        assert_eq!(cut(b",", true, ""), [""]);
    }

    #[test]
    fn quotes_hide_separators() {
        assert_eq!(cut(b",", true, r#""a,b","c ""d""",e"#), ["a,b", "c \"d\"", "e"]);
        assert_eq!(cut(b",", true, r#"a,"open,to the end"#), ["a", "open,to the end"]);
        assert_eq!(cut(b",", true, r#""a","""#), ["a", ""]);
    }

    #[test]
    fn the_last_column_may_hold_several() {
        let line = b"1\t2\t(empty)   Malicious   C&C";
        let mut cutter = Cutter::new(b"\t", false);
        assert_eq!(cutter.cut(line).unwrap().len(), 3);
        assert!(cutter.cut_last(line, 5));
        assert_eq!(
            cutter.fields(line).iter().collect::<Vec<_>>(),
            [b"1".as_slice(), b"2", b"(empty)", b"Malicious", b"C&C"]
        );
        cutter.cut(line).unwrap();
        assert!(!cutter.cut_last(line, 6));
    }

    #[test]
    fn a_row_of_endless_columns_is_refused() {
        let row = ",".repeat(MAX_COLUMNS);
        assert_eq!(Cutter::comma().cut(row.as_bytes()).map(|f| f.len()), Err(TooMany));
        assert_eq!(Cutter::comma().cut(format!("\"{row}").as_bytes()).map(|f| f.len()), Ok(1));
        assert_eq!(Cutter::comma().cut(format!("\"\"{row}").as_bytes()).map(|f| f.len()), Err(TooMany));
        assert_eq!(Cutter::comma().cut(&row.as_bytes()[1..]).map(|f| f.len()), Ok(MAX_COLUMNS));
    }

    proptest! {
        #[test]
        fn any_line_is_cut(line in proptest::collection::vec(prop_oneof![Just(b','), Just(b'"'), any::<u8>()], 0..64)) {
            for want in 0..4 {
                let mut cutter = Cutter::comma();
                let _ = cutter.cut(&line).map(|f| f.iter().count());
                let _ = cutter.cut_last(&line, want);
            }
        }

        #[test]
        fn without_quotes_it_is_split(line in "[a-z,]{0,40}") {
            let expected: Vec<&str> = line.split(',').collect();
            prop_assert_eq!(cut(b",", true, &line), expected);
        }
    }
}
