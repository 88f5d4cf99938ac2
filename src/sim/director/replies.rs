//! Faults of replies: whose replies are changed, and how often that happened.

use std::sync::PoisonError;

use super::{Director, family::Family};
use crate::fault::ReplyFault;

/// A step that changes replies.
#[derive(Debug)]
pub(super) struct Replies {
    fault: ReplyFault,
    /// The number of changed replies that were counted as moments.
    counted: u64,
}

impl Replies {
    pub(super) fn new(fault: ReplyFault) -> Self {
        Self { fault, counted: 0 }
    }
}

impl Family for Replies {
    fn begin(&mut self, director: &mut Director<'_>, index: usize) {
        let ReplyFault::BitFlip { every } = self.fault;
        for host in &director.steps[index].hosts {
            if let Some(actor) = director.stage.actor(host) {
                let mut flips = actor.flips.lock().unwrap_or_else(PoisonError::into_inner);
                flips.active.insert(index, (every, director.now));
            }
        }
    }

    /// Counts each flipped reply as a moment: `STEP:2` is the second.
    fn go_on(&mut self, director: &mut Director<'_>, index: usize) -> bool {
        while self.counted < flips(director, index) {
            self.counted += 1;
            director.count(index, u32::try_from(self.counted).unwrap_or(u32::MAX));
        }
        false
    }

    fn end(&mut self, director: &mut Director<'_>, index: usize) {
        for host in &director.steps[index].hosts {
            if let Some(actor) = director.stage.actor(host) {
                actor.flips.lock().unwrap_or_else(PoisonError::into_inner).active.remove(&index);
            }
        }
    }

    fn evidence(&self, director: &Director<'_>, index: usize) -> Option<String> {
        let flipped = flips(director, index);
        (flipped > 0).then(|| format!("{flipped} replies with a flipped bit"))
    }
}

fn flips(director: &Director<'_>, index: usize) -> u64 {
    let flips = director.stage.actors.iter().map(|actor| &actor.flips);
    flips.filter_map(|flips| flips.lock().unwrap_or_else(PoisonError::into_inner).done.get(&index).copied()).sum()
}
