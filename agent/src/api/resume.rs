//! Tokens by which a watcher that was cut off goes on where it was.

use tonic::Status;

/// The event with this number was the last that came.
pub fn token(run: &str, last: u64) -> String {
    format!("{run}.{last}")
}

/// The run and the number; `None`: it begins now.
pub fn parse(token: &str) -> Result<Option<(&str, u64)>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let parts = token.split_once('.').and_then(|(run, last)| Some((run, last.parse().ok()?)));
    parts.map(Some).ok_or_else(|| {
        Status::invalid_argument("`resume_token` is none that WatchEvents gave; leave it out to watch from now on")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back_and_others_are_refused() {
        assert_eq!(parse(&token("5f", 17)).unwrap(), Some(("5f", 17)));
        assert_eq!(parse("").unwrap(), None);
        for bad in ["17", "5f.", "5f.-1", "5f.1.2"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
