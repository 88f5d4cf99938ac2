//! Breaks a disk: its syncs can be made to fail.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use gapless_world::Pending;

use crate::meddled::Meddler;

/// Breaks a disk, for good.
#[derive(Clone, Default)]
pub(super) struct Switch(Arc<AtomicBool>);

impl Switch {
    /// From this call on, no file can be synced.
    pub(super) fn break_syncs(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Meddler for Switch {
    fn syncing(&self, sync: impl FnOnce() -> Pending<()>) -> Pending<()> {
        match self.0.load(Ordering::SeqCst) {
            true => Box::pin(std::future::ready(Err(io::Error::other("the disk is broken")))),
            false => sync(),
        }
    }
}
