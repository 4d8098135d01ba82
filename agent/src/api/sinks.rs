//! Calls about sinks.

use tonic::{Request, Response, Status};

use super::service::{Service, caller};
use crate::command::{Command, SinkTest, SinksCommand};
use crate::proto as pb;
use crate::sinks::state::SinkState;

pub(super) async fn list(s: &Service) -> Result<Response<pb::ListSinksResponse>, Status> {
    let sinks = s.ask(|reply| Command::Sinks(SinksCommand::List { reply })).await?;
    Ok(Response::new(pb::ListSinksResponse { sinks: sinks.into_iter().map(Into::into).collect() }))
}

pub(super) async fn test(
    s: &Service,
    request: Request<pb::TestSinkRequest>,
) -> Result<Response<pb::TestSinkResponse>, Status> {
    let by = caller(&request)?;
    let name = request.into_inner().name;
    let test = s.ask(|reply| Command::Sinks(SinksCommand::Test { name, by, reply })).await?;
    let SinkTest { delivered, elapsed_us, error } = test;
    Ok(Response::new(pb::TestSinkResponse { delivered, elapsed_us, error }))
}

impl From<pb::TestSinkResponse> for SinkTest {
    fn from(t: pb::TestSinkResponse) -> Self {
        let pb::TestSinkResponse { delivered, elapsed_us, error } = t;
        Self { delivered, elapsed_us, error }
    }
}

macro_rules! same_fields {
    ($a:ty, $b:ty, [$($f:ident),+]) => {
        impl From<$a> for $b {
            fn from(s: $a) -> Self {
                Self { dropped: s.dropped.into_iter().map(Into::into).collect(), $($f: s.$f),+ }
            }
        }
        impl From<$b> for $a {
            fn from(s: $b) -> Self {
                Self { dropped: s.dropped.into_iter().map(Into::into).collect(), $($f: s.$f),+ }
            }
        }
    };
}
same_fields!(
    SinkState,
    pb::SinkState,
    [
        name,
        kind,
        destination,
        delivered,
        retried,
        queued,
        queued_bytes,
        queue_size,
        deduplicated,
        held_back,
        failing,
        last_error,
        last_error_us,
        last_success_us,
        next_attempt_us
    ]
);
