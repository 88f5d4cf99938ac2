//! The leaves of the frames most recently appended or read. The oldest are evicted first.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use crate::budget::Account;

/// See the module.
#[derive(Default)]
pub(super) struct Recent {
    frames: BTreeMap<u64, Arc<[Bytes]>>,
    order: VecDeque<u64>,
    pub(super) bytes: usize,
}

impl Recent {
    pub(super) fn get(&self, raft_index: u64) -> Option<Arc<[Bytes]>> {
        self.frames.get(&raft_index).cloned()
    }

    pub(super) fn insert(&mut self, raft_index: u64, leaves: Arc<[Bytes]>, account: &Account) {
        self.bytes += weight(&leaves);
        match self.frames.insert(raft_index, leaves) {
            Some(before) => self.bytes -= weight(&before),
            None => self.order.push_back(raft_index),
        }
        self.evict(account.limit_len());
        account.holds(self.bytes);
    }

    /// Keeps at most `bytes_max` bytes. A frame that alone is larger is read from the disk when it is wanted.
    pub(super) fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.frames.remove(&oldest).map_or(0, |leaves| weight(&leaves));
        }
    }

    pub(super) fn forget_from(&mut self, raft_index: u64) {
        self.bytes -= self.frames.split_off(&raft_index).values().map(|leaves| weight(leaves)).sum::<usize>();
        self.order.retain(|index| *index < raft_index);
    }
}

fn weight(leaves: &[Bytes]) -> usize {
    leaves.iter().map(Bytes::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_in_memory_stay_within_their_bytes() {
        let (mut recent, account) = (Recent::default(), super::super::tests::ledger().cache.clone());
        for index in 0..100 {
            recent.insert(index, vec![Bytes::from(vec![0; 1 << 20])].into(), &account);
            recent.insert(index, vec![Bytes::from(vec![1; 1 << 20])].into(), &account);
        }
        assert_eq!((recent.bytes, recent.frames.len(), recent.order.len()), (8 << 20, 8, 8));
        recent.forget_from(96);
        assert_eq!((recent.bytes, recent.frames.len(), recent.order.len()), (4 << 20, 4, 4));
        recent.evict((2 << 20) - 1);
        assert_eq!((recent.bytes, recent.frames.len(), recent.order.len()), (1 << 20, 1, 1));
        recent.evict(0);
        assert_eq!((recent.bytes, recent.frames.len(), recent.order.len()), (0, 0, 0));
    }
}
