//! A disk that takes a moment to open an existing file, and to complete a read that was submitted: time for something
//! else to happen to what is read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use gapless_world::{Disk, File, OpenMode, Pending};
use tokio::time::sleep;

use crate::meddled::{Meddled, Meddler};

const MOMENT: Duration = Duration::from_millis(5);

/// Counts the reads of a slow disk.
#[derive(Clone, Default)]
pub(in crate::cluster) struct Slow(Arc<AtomicUsize>);

impl Slow {
    /// Slows a disk down. Returns it, and the counter of its reads.
    pub(in crate::cluster) fn down(disk: Arc<dyn Disk>) -> (Arc<dyn Disk>, Arc<AtomicUsize>) {
        let slow = Slow::default();
        let reads = slow.0.clone();
        (Arc::new(Meddled::new(disk, slow)), reads)
    }
}

impl Meddler for Slow {
    fn opening<F>(&self, mode: OpenMode, open: F) -> Pending<Arc<dyn File>>
    where
        F: FnOnce() -> Pending<Arc<dyn File>> + Send + 'static,
    {
        Box::pin(async move {
            if mode == OpenMode::Existing {
                sleep(MOMENT).await;
            }
            open().await
        })
    }

    fn reading(&self, read: Pending<Bytes>) -> Pending<Bytes> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            sleep(MOMENT).await;
            read.await
        })
    }
}
