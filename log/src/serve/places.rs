//! How many connections there may be, and whose: nobody may hold so many that others find no place.
//!
//! A name is known only once its handshake is over, so this module counts established connections; connections that
//! still shake hands have separate places ([`Doorstep`](gapless_world::doorstep)). Members of a cluster have places of
//! their own, because a log that its members cannot reach serves nobody.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The minimum number of places of each name, however few there are.
const PER_NAME_MIN: usize = 8;

/// The places of one server.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Places for all names together.
    for_all: usize,
    /// Places for all names that are no members.
    for_others: usize,
    per_name: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    by_name: BTreeMap<Arc<str>, usize>,
    by_all: usize,
    by_others: usize,
}

/// One place, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    name: Arc<str>,
    is_member: bool,
}

impl Places {
    /// Makes places for this many connections in all, of which `per_name` may be of one name; by default, a sixteenth.
    /// In a cluster, an eighth is kept for its members.
    pub(super) fn new(connections_max: usize, per_name: Option<usize>, is_clustered: bool) -> Places {
        let kept = if is_clustered { connections_max / 8 } else { 0 };
        let per_name = per_name.unwrap_or((connections_max / 16).max(PER_NAME_MIN));
        Places(Arc::new(Inner {
            for_all: connections_max,
            for_others: connections_max - kept,
            per_name,
            taken: Mutex::default(),
        }))
    }

    /// Takes a place for one more connection of this name. `None` if the name has its share, or if the others have
    /// taken theirs.
    pub(super) fn take(&self, name: &str, is_member: bool) -> Option<Place> {
        let Inner { for_all, for_others, per_name, .. } = &*self.0;
        let mut taken = self.lock();
        let of_name = taken.by_name.get(name).copied().unwrap_or(0);
        let none_left = taken.by_all >= *for_all || (!is_member && taken.by_others >= *for_others);
        if none_left || of_name >= *per_name {
            return None;
        }
        let name: Arc<str> = name.into();
        taken.by_name.insert(name.clone(), of_name + 1);
        taken.by_all += 1;
        taken.by_others += usize::from(!is_member);
        Some(Place { places: self.clone(), name, is_member })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Each update is complete before anything could panic.
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.by_all -= 1;
        taken.by_others -= usize::from(!self.is_member);
        if let Some(of_name) = taken.by_name.get_mut(&self.name) {
            *of_name -= 1;
            if *of_name == 0 {
                taken.by_name.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many places as the name gets.
    fn all(places: &Places, name: &str, is_member: bool) -> Vec<Place> {
        std::iter::from_fn(|| places.take(name, is_member)).collect()
    }

    #[test]
    fn no_name_holds_more_than_its_share() {
        let places = Places::new(1_024, None, false);
        let held = all(&places, "client-1", false);
        assert_eq!((held.len(), all(&places, "client-2", false).len()), (64, 64));
        drop(held);
        assert_eq!(all(&places, "client-1", false).len(), 64);
        assert!(places.lock().by_name.is_empty(), "who has gone is forgotten");
    }

    #[test]
    fn all_others_together_leave_the_places_of_the_members() {
        let places = Places::new(1_024, None, true);
        let others: Vec<Place> = (0..100).flat_map(|n| all(&places, &format!("client-{n}"), false)).collect();
        assert_eq!(others.len(), 896);
        assert_eq!(all(&places, "server-2", true).len(), 64);
    }

    #[test]
    fn members_hold_no_more_than_there_is() {
        let places = Places::new(100, Some(30), true);
        let members: Vec<Place> = (0..5).flat_map(|n| all(&places, &format!("server-{n}"), true)).collect();
        assert_eq!((members.len(), all(&places, "client-1", false).len()), (100, 0));
        drop(members);
        assert_eq!(all(&places, "client-1", false).len(), 30);
    }

    #[test]
    fn both_ends_of_what_may_be_configured_work() {
        assert_eq!(all(&Places::new(1, Some(1), true), "client-1", false).len(), 1);
        assert_eq!(all(&Places::new(4, None, false), "client-1", false).len(), 4);
        assert_eq!(all(&Places::new(usize::MAX, Some(3), true), "client-1", false).len(), 3);
    }
}
