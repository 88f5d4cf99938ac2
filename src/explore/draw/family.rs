//! Families of faults, and swarms of them.
//!
//! A run with a bit of everything seldom has much of anything: a fault that ends processes hides one that needs a
//! process to run for long. So each run leaves out some families at random, and another run leaves out others (Groce et
//! al., "Swarm Testing", ISSTA 2012).

use super::dice::Dice;
use crate::fault::{CATALOGUE, Fault};

/// Faults that have a cause in common.
#[derive(Debug)]
pub(super) struct Family {
    /// The group of its faults in the catalogue, and its name in the story of a drawn scenario.
    pub(super) name: &'static str,
    /// How often its faults are drawn, relative to those of other families in the run. The weight is largest for faults
    /// that make a log change its course, because these bring to light what others have hidden.
    pub(super) weight: usize,
}

impl Family {
    /// Returns its faults, in the order of the catalogue.
    pub(super) fn faults(&self) -> impl Iterator<Item = &'static Fault> {
        CATALOGUE.iter().copied().filter(|fault| fault.group == self.name)
    }
}

/// The families. Every fault of the catalogue is in one of them.
pub(super) static FAMILIES: &[Family] = &[
    Family { name: "processes", weight: 3 },
    Family { name: "power", weight: 3 },
    Family { name: "cut lines", weight: 3 },
    Family { name: "slow lines", weight: 2 },
    Family { name: "failing disks", weight: 2 },
    Family { name: "lying disks", weight: 3 },
    Family { name: "memory that lies", weight: 1 },
    Family { name: "lost machines", weight: 3 },
    Family { name: "certificates", weight: 2 },
    Family { name: "clocks", weight: 1 },
    Family { name: "releases", weight: 2 },
    Family { name: "load", weight: 2 },
];

/// Draws the families of one run. Each has an equal chance of being in it or not, and there is at least one.
pub(super) fn swarm(dice: &mut Dice) -> Vec<&'static Family> {
    let all: Vec<&'static Family> = FAMILIES.iter().collect();
    let some: Vec<_> = all.iter().copied().filter(|_| dice.one_in(2)).collect();
    if some.is_empty() { dice.some(&all, 1) } else { some }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_the_catalogue_is_in_one_family() {
        let mut named: Vec<&str> = FAMILIES.iter().flat_map(Family::faults).map(|fault| fault.name).collect();
        let mut known: Vec<&str> = CATALOGUE.iter().map(|fault| fault.name).collect();
        named.sort_unstable();
        known.sort_unstable();
        assert_eq!(named, known);
    }

    #[test]
    fn a_swarm_leaves_out_families_and_never_all() {
        let sizes: Vec<usize> = (0..300).map(|seed| swarm(&mut Dice::new(seed, 0)).len()).collect();
        assert!(sizes.iter().all(|size| (1..=FAMILIES.len()).contains(size)));
        assert!(sizes.contains(&1) || sizes.contains(&2), "seldom few");
        assert!(sizes.iter().max() > Some(&8), "seldom many");
    }
}
