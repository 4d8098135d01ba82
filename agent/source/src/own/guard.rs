//! The parquet crate asserts on some damaged files where it could return an error. A file is no reason for a program to
//! end, so that such an assertion becomes an error of that file.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use parquet::errors::ParquetError;

use crate::report::SourceError;

thread_local! {
    /// This thread is inside the crate: its panics are told as errors, not on stderr.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// What `step` gives; its error or panic in words. After either, what it worked on is not used again.
pub(super) fn guarded<T>(step: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, SourceError> {
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    QUIET.set(true);
    let done = catch_unwind(AssertUnwindSafe(step));
    QUIET.set(false);
    let why = match done {
        Ok(Ok(v)) => return Ok(v),
        Ok(Err(e)) => e.to_string(),
        Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(s), _) => s.clone(),
            (_, Some(s)) => (*s).to_owned(),
            _ => "its contents contradict each other".to_owned(),
        },
    };
    Err(SourceError::Unknown(format!("is a damaged Parquet file: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_inside_is_an_error() {
        let v: Vec<u8> = Vec::new();
        let e = guarded(|| Ok(v[std::hint::black_box(3)])).unwrap_err();
        assert!(e.to_string().starts_with("is a damaged Parquet file: index out of bounds"), "{e}");
        assert_eq!(guarded(|| Ok(1)).unwrap(), 1);
    }
}
