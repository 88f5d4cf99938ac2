//! Linearizable reads: what a leader may answer once a quorum has confirmed, after the question came, that it still
//! leads.
//!
//! A leader that was cut off and replaced does not know it, so its own opinion counts for nothing. It has Raft send a
//! round of heartbeats (Ongaro's dissertation, section 6.4, "ReadIndex"): the answers of a quorum prove that no other
//! leader had been elected at that moment. A reader that asks while a round is under way shares the next one, never one
//! that began before its question.

use std::time::Duration;

use openraft::{
    Raft,
    error::{CheckIsLeaderError, RaftError},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{AppendError, Node, leadership::Leadership, types::TypeConfig};

/// How often, while a round is under way, this node checks that it still leads.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The longest that one round may take. A leader that nobody answers ends it long before.
const ROUND_MAX: Duration = Duration::from_secs(20);
/// Readers that may wait for a round; more are turned away.
const ASKING_MAX: usize = 1024;

/// The Raft index up to which the log has to be shown.
type Confirmed = Result<u64, AppendError>;

/// Where readers ask for a round.
pub(super) struct Confirmations(mpsc::Sender<oneshot::Sender<Confirmed>>);

impl Confirmations {
    /// Starts the task that answers. It ends when this is dropped.
    pub(super) fn start(raft: Raft<TypeConfig>, leadership: Leadership) -> Self {
        let (asks, asked) = mpsc::channel(ASKING_MAX);
        tokio::spawn(confirm(raft, leadership, asked));
        Self(asks)
    }
}

async fn confirm(
    raft: Raft<TypeConfig>,
    leadership: Leadership,
    mut asked: mpsc::Receiver<oneshot::Sender<Confirmed>>,
) {
    while let Some(first) = asked.recv().await {
        let mut asking = vec![first];
        while let Ok(other) = asked.try_recv() {
            asking.push(other);
        }
        mark!("readers-shared-a-round", asking.len() > 1);
        let confirmed = round(&raft, &leadership).await;
        // A reader that is gone needs no answer.
        asking.into_iter().for_each(|reader| drop(reader.send(confirmed.clone())));
    }
}

/// Returns a Raft index up to which everything is committed, and which covers all that was committed when this was
/// called. Succeeds where this node leads and a quorum confirms it.
pub(super) async fn round(raft: &Raft<TypeConfig>, leadership: &Leadership) -> Confirmed {
    // A leader that nobody answers counts as none.
    let nobody = AppendError::NotLeader { leader: None };
    let unheard = async {
        while leadership.check().is_ok() {
            sleep(LOOK_EVERY).await;
        }
    };
    let asked = async {
        tokio::select! {
            biased;
            read = raft.get_read_log_id() => Ok(read),
            () = unheard => Err(()),
        }
    };
    match timeout(ROUND_MAX, asked).await.unwrap_or(Err(())) {
        Ok(Ok((read, _))) => read.map(|read| read.index).ok_or(nobody),
        Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to)))) => {
            Err(AppendError::NotLeader { leader: to.leader_node.map(|member| member.name) })
        }
        Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)))) | Err(_) => {
            mark!("leader-not-confirmed");
            Err(nobody)
        }
        Ok(Err(RaftError::Fatal(fatal))) => Err(AppendError::Failed(format!("Raft ended: {fatal}"))),
    }
}

impl Node {
    /// Waits until everything that was acknowledged to anybody before this call is shown here. The wait is bounded by
    /// the round under way, one more round, and the time that a quorum may take to cosign.
    ///
    /// # Errors
    /// [`AppendError::NotLeader`] where this node does not lead, or no quorum confirms it; [`AppendError::Busy`] where
    /// too many ask; [`AppendError::Damaged`] where the log is damaged.
    pub async fn linearizable(&self) -> Result<(), AppendError> {
        let led = self.leadership().check()?;
        let (answer, answered) = oneshot::channel();
        self.confirmations().0.try_send(answer).map_err(|_| self.shed())?;
        let raft_index = answered.await.unwrap_or(Err(AppendError::ShuttingDown))?;
        let nobody = AppendError::NotLeader { leader: None };
        let size = self.ledger().end(raft_index).ok_or(nobody.clone())?;
        // What other leaders acknowledged is in the log that this leader began with; what it acknowledged itself, it
        // had shown.
        self.shown(led.size.max(size)).await.map_err(|_| nobody)
    }
}
