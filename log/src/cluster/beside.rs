//! Tells a far member of commits beside the entries that are on their way to it.
//!
//! Raft makes one call to a member at a time. If the call that tells of a commit, and asks for the cosignature over it,
//! were among those, the entries after it would have to wait until it is answered: over a far line each batch would
//! take two round trips instead of one. Nearby that costs little, and batches that wait are larger, which spares the
//! processors of all members; so only a far member has its calls side by side.
//!
//! Such a call carries no entries and says nothing about the order of the log, so it may overtake entries and be
//! overtaken by them (Raft paper, section 5.3: a follower's commit index only grows, and is bounded by what its log
//! holds). It goes over a stream of its own, and Raft is answered at once.
//!
//! The member's answer comes back with Raft's next call. At the first answer other than a success these calls end, and
//! Raft's next call is made for real.

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::{
    sync::{
        oneshot::{self, error::TryRecvError},
        watch,
    },
    task::AbortHandle,
};
use tonic::Status;

use super::{
    courier::{Answer, Courier, failed},
    types::TypeConfig,
};

type Request = AppendEntriesRequest<TypeConfig>;
type Response = AppendEntriesResponse<u64>;

/// See the module. Dropping it ends the telling.
pub(super) struct Beside {
    newest: watch::Sender<Request>,
    /// Whether a call is under way. It is a sign of life, so that a heartbeat would add nothing.
    busy: watch::Receiver<bool>,
    ended: oneshot::Receiver<Answer<Response>>,
    task: AbortHandle,
}

impl Beside {
    /// Begins with this request, which carries no entries.
    pub(super) fn start(courier: Courier, request: Request) -> Self {
        let newest = watch::Sender::new(request);
        let (set_busy, busy) = watch::channel(true);
        let (end, ended) = oneshot::channel();
        let requests = newest.subscribe();
        let telling = tokio::spawn(async move {
            let answer = tell(courier, requests, set_busy).await;
            // If this fails, nobody asks any more.
            end.send(answer).ok();
        });
        Self { newest, busy, ended, task: telling.abort_handle() }
    }

    /// Tells the member the next request, which carries no entries.
    pub(super) fn tell(&self, request: Request) {
        self.newest.send_if_modified(|newest| {
            let news = newest.leader_commit != request.leader_commit;
            *newest = request;
            news || !*self.busy.borrow()
        });
    }

    /// How the telling ended, if it did: what the member answered other than a success, or that there was no answer.
    pub(super) fn ended(&mut self) -> Option<Answer<Response>> {
        match self.ended.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Closed) => Some(Err(failed(&Status::unavailable("the telling of commits has ended")))),
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Makes one call after the other, each with the newest request. A new request starts the next call, and so does a
/// checkpoint to be cosigned that the member was not asked for yet.
async fn tell(
    mut courier: Courier,
    mut requests: watch::Receiver<Request>,
    busy: watch::Sender<bool>,
) -> Answer<Response> {
    loop {
        let request = requests.borrow_and_update().clone();
        let along = courier.along(&request).await;
        match courier.ask(&request, along).await?.response {
            Response::Success => {}
            response => return Ok(response),
        }
        busy.send_replace(false);
        let votes = courier.votes();
        tokio::select! {
            biased;
            changed = requests.changed() => if changed.is_err() {
                return Ok(Response::Success); // nobody wants to know any more
            },
            () = courier.word.round_begun(), if votes => {}
        }
        busy.send_replace(true);
    }
}
