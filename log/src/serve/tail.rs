//! Follows the log: every committed leaf from an index on, then each new one as it is committed.
//!
//! The stream holds no more leaves than one read returns, and reads on only when those were taken. So a slow reader
//! costs the log no more than its share of the memory, and nothing if there is no memory to share. The room of a leaf
//! is free again as soon as that leaf is taken. The stream never skips: a reader that resumes names the next index, and
//! gets exactly that leaf. Each batch says how new the log was from which it was read.

use std::{collections::VecDeque, pin::Pin};

use bytes::Bytes;
use futures::{Stream, stream::unfold};
use tokio::sync::watch;
use tonic::Status;

use super::{
    bounds,
    caller::Caller,
    status::{damaged, not_answered, not_appended},
};
use crate::{
    budget::Held,
    cluster::Node,
    wire::{Bound, TailResponse},
};

/// Leaves and bytes that are read at once.
const READ_AHEAD: (u32, usize) = (256, 256 * 1024);

/// The leaves of one tail.
pub(super) type Leaves = Pin<Box<dyn Stream<Item = Result<TailResponse, Status>> + Send>>;

/// Follows the log from `start`. Past the end it waits: a replica that lags will get there.
pub(super) fn leaves(node: Node, caller: Caller, start: u64) -> Leaves {
    let committed = node.committed_changes();
    let (ahead, bound) = (VecDeque::new(), None);
    let tail = Tail { node, caller, committed, next: start, ahead, bound, over: false };
    Box::pin(unfold(tail, |mut tail| async move { Some((tail.next().await?, tail)) }))
}

struct Tail {
    node: Node,
    caller: Caller,
    committed: watch::Receiver<u64>,
    /// Index of the next leaf that the reader gets.
    next: u64,
    /// Leaves from `next` on, each with its part of the memory for all tails.
    ahead: VecDeque<(Bytes, Held)>,
    /// How new the log was when these leaves were read, until this is sent with the first of them.
    bound: Option<Bound>,
    over: bool,
}

impl Tail {
    async fn next(&mut self) -> Option<Result<TailResponse, Status>> {
        if self.over {
            return None;
        }
        let ready = if self.ahead.is_empty() { self.read_on().await } else { Ok(()) };
        // Checked last: a reader that waited long for a leaf may have outlived its certificate.
        if let Err(status) = ready.and_then(|()| self.caller.still_certified()) {
            self.over = true;
            return Some(Err(status));
        }
        // A read of committed leaves returns at least one leaf. If it does not, the tail ends and is resumed.
        let (leaf, _room) = self.ahead.pop_front()?;
        let index = self.next;
        self.next += 1;
        Some(Ok(TailResponse { index, leaf, bound: self.bound.take() }))
    }

    /// Waits until there is something to read, and reads it.
    async fn read_on(&mut self) -> Result<(), Status> {
        let next = self.next;
        if next >= self.node.committed()
            && let Some(damaged) = damaged(&self.node)
        {
            return Err(damaged);
        }
        let reached = tokio::select! {
            biased;
            () = self.caller.closed() => false,
            reached = self.committed.wait_for(|committed| *committed > next) => reached.is_ok(),
        };
        if !reached {
            return Err(Status::unavailable(
                "the server is winding up: resume over another connection at the next index",
            ));
        }
        self.bound = Some(bounds::now(&self.node));
        let tails = &self.node.memory().tails;
        // A quarter, so that one reader never takes all of it.
        let bytes = READ_AHEAD.1.min(tails.limit_len() / 4);
        let read = self.node.read(next, READ_AHEAD.0, bytes).await.map_err(|why| not_answered(&why))?;
        let found = !read.is_empty();
        // As many as there is room for; the others are read again.
        self.ahead = read.into_iter().map_while(|leaf| tails.hold(leaf.len()).map(|room| (leaf, room))).collect();
        if found && self.ahead.is_empty() {
            // Other readers are slow and hold all of it. This reader comes back and loses nothing.
            return Err(not_appended(self.node.shed()));
        }
        Ok(())
    }
}
