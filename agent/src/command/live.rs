//! What goes on, what was recorded of it, and how it is configured; and logins to the web page.

use super::{Caller, Reply, Role};
use crate::live::search::{Found, Query};
use crate::proto as pb;

#[derive(Debug)]
pub enum LiveCommand {
    /// The most evidence first.
    TopSources {
        limit: usize,
        reply: Reply<pb::TopSourcesResponse>,
    },
    /// Answered from a thread that reads the record.
    SearchFlows {
        query: Query,
        reply: Reply<Found>,
    },
    ShowConfig {
        reply: Reply<pb::ShowConfigResponse>,
    },
    ModelCalibration {
        reply: Reply<pb::ModelCalibrationResponse>,
    },
    /// Somebody may log in to the web page once.
    WebLogin {
        /// Empty: the caller's user name.
        name: String,
        /// `None`: as configured, and no more than the caller.
        role: Option<Role>,
        by: Caller,
        reply: Reply<WebLogin>,
    },
}

/// A login that is to come.
#[derive(Clone, Debug, PartialEq)]
pub struct WebLogin {
    /// Where to go, with the code.
    pub url: String,
    pub expires_us: u64,
    pub name: String,
    pub role: Role,
}
