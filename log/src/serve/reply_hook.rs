//! A hook on a server's responses to appends, after they are encoded and before they are encrypted. There a rehearsal
//! flips a bit, as failing memory would. A server in production has no such hook.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

/// The length of the prefix of a gRPC message: a flag and four bytes of length. The prefix stays as it is.
const PREFIX_BYTES: usize = 5;

type Change = dyn Fn(&mut [u8]) -> bool + Send + Sync;

/// Changes an encoded message in place, without changing its length, and returns whether it did.
#[derive(Clone)]
pub struct ReplyHook(Arc<Change>);

impl ReplyHook {
    /// Makes a hook that calls `change` for each message of each response to an append.
    pub fn new(change: impl Fn(&mut [u8]) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    /// Returns whether responses to this path are about appends: receipts, and what a member answers to its leader.
    pub(super) fn is_for(path: &str) -> bool {
        path.ends_with("/Append") || path.ends_with("/AppendStream")
    }

    /// Returns the same body with the hook on each of its messages.
    pub(super) fn on(&self, body: Body) -> Body {
        Body::new(Hooked { body, hook: self.clone() })
    }
}

impl fmt::Debug for ReplyHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyHook(..)")
    }
}

struct Hooked {
    body: Body,
    hook: ReplyHook,
}

impl http_body::Body for Hooked {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        frame.map(|frame| {
            frame.map(|frame| {
                frame.map(|frame| {
                    frame.map_data(|data| {
                        let mut changed = data.to_vec();
                        let message = changed.get_mut(PREFIX_BYTES..).unwrap_or_default();
                        if (self.hook.0)(message) { changed.into() } else { data }
                    })
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
