//! What can be asked about sinks.

use serde::Serialize;

use super::{Caller, Reply};
use crate::sinks::state::SinkState;

#[derive(Debug)]
pub enum SinksCommand {
    List {
        reply: Reply<Vec<SinkState>>,
    },
    /// Sends a marked event and says what came of it.
    Test {
        name: String,
        by: Caller,
        reply: Reply<SinkTest>,
    },
}

/// What a test of a sink came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SinkTest {
    pub delivered: bool,
    /// Until it was delivered, or until it was known that it was not.
    pub elapsed_us: u64,
    /// Why it was not delivered; empty where it was.
    pub error: String,
}
