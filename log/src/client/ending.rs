//! How a session ends, and how much of that was the server's doing.

use std::time::Duration;

use gapless_world::{calls::code_name, error_chain};
use tonic::{Code, Status};

use super::{
    connection::Connection,
    error::ClientError,
    retry::{Cure, cure, leader, pushback},
};
use crate::dial::Trouble;

/// The longest pushback that is honoured, so that a wild value cannot silence an outbox for good. A server that asks
/// for no retry at all gets this wait too.
const PUSHBACK_MAX: Duration = Duration::from_secs(60);

/// Why a session ended.
pub(super) enum End {
    /// Nothing has been owed for a while: the lane is closed, and the connection may stay.
    Idle,
    /// The connection is to be replaced, without a failure.
    Renew,
    /// Delivery starts again at the lowest sequence, at once.
    GoBack,
    /// Another server leads.
    Elsewhere { leader: String, pushback: Option<Duration> },
    /// The server has no room. It is asked again after a wait, over the same connection.
    Busy { why: String, pushback: Option<Duration> },
    /// Something failed. It is tried again after a wait.
    Failed { cure: Cure, why: String, pushback: Option<Duration> },
    /// The log has another entry under the lowest sequence: the outbox was put back to an earlier state.
    RolledBack,
    /// The client is being closed, or the owner of the outbox is gone.
    Stop,
    /// The disk failed.
    Broken(ClientError),
}

impl From<ClientError> for End {
    fn from(error: ClientError) -> End {
        End::Broken(error)
    }
}

pub(super) fn ended_early() -> End {
    End::Failed { cure: Cure::Time, why: "the server ended the stream".to_owned(), pushback: None }
}

pub(super) fn failed(status: &Status, connection: &Connection) -> End {
    let pushback = pushback(status, PUSHBACK_MAX).map(|wait| wait.min(PUSHBACK_MAX));
    if let Some(leader) = leader(status) {
        return End::Elsewhere { leader, pushback };
    }
    let trouble = connection.trouble();
    if status.code() == Code::ResourceExhausted && trouble.is_none() {
        mark!("told-to-wait");
        return End::Busy { why: format!("{}: {}", code_name(status.code()), error_text(status)), pushback };
    }
    let mut why = format!("{}: {}", code_name(status.code()), error_text(status));
    if let Some(Trouble::Credentials(what)) = &trouble {
        why = what.clone();
    }
    End::Failed { cure: cure(status, trouble.as_ref()), why, pushback }
}

/// Returns the message followed by its causes, without repeating itself.
fn error_text(status: &Status) -> String {
    match std::error::Error::source(status).map(error_chain) {
        Some(chain) if chain.starts_with(status.message()) => chain,
        Some(chain) => format!("{}: {chain}", status.message()),
        None => status.message().to_owned(),
    }
}
