//! Keeps the newest signed checkpoint on disk, so that the next start can detect a log that was rolled back.
//!
//! This runs beside the write path and delays no receipt. In a cluster of one a receipt does not need it: the leaves
//! that a checkpoint covers are durable before it is signed and the tree is a function of the leaves, so a life that
//! finds an older checkpoint can only sign the same roots again. A checkpoint that is kept late only delays detection:
//! a folder rolled back by less than the pace below is caught by the clients, which keep checkpoints of their own.
//! (In a larger cluster a member cosigns only what is durable on its own disk; `checkpoints` sees to that.)
//!
//! The latest checkpoint wins. A crash during a store leaves the older one, because a cell has two slots.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use super::{super::store::Cell, identity::FolderLock, ledger::Ledger};

/// At most one store in this time: each costs a sync on the disk that the batches use.
const PACE: Duration = Duration::from_millis(200);

/// Stores the newest checkpoint whenever its turn comes, until `stop` says so or its sender is gone. Then stores the
/// last one and releases the lock.
pub(super) async fn keep(mut cell: Cell, ledger: Arc<Ledger>, mut stop: watch::Receiver<bool>, _lock: FolderLock) {
    let mut newest = ledger.checkpoint();
    let mut kept = newest.borrow_and_update().as_ref().map_or(0, |signed| signed.checkpoint.size);
    loop {
        let stopping = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => true,
            changed = newest.changed() => changed.is_err(),
        };
        let signed = newest.borrow_and_update().clone();
        if let Some(signed) = signed.filter(|signed| signed.checkpoint.size > kept) {
            if let Err(error) = cell.store(signed.note.into_bytes().into()).await {
                return ledger.fail(format!("the checkpoint cannot be kept: {error}"));
            }
            kept = signed.checkpoint.size;
        }
        if stopping {
            return;
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = sleep(PACE) => {}
        }
    }
}
