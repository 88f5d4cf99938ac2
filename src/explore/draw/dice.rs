//! Choices from a seed, in whole numbers only, so that they are the same on every machine and in every build.

use rand_chacha::{ChaCha8Rng, rand_core::RngCore};

use crate::seam;

/// The stream of a seed from which scenarios are drawn. The run itself uses other streams.
const PURPOSE: u64 = 0x6578_706c_6f72_6500;

/// The source of the choices of one draw.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// Returns the choices of `seed` for one part of a scenario. Another part has other choices, no matter how many
    /// this one takes.
    pub(super) fn new(seed: u64, part: u64) -> Self {
        Self(seam::stream(seed, PURPOSE + part))
    }

    /// Returns a number from 0 to `n - 1`, each with equal chance (up to an error of 2⁻⁶⁴ · n); 0 for `n` = 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(n);
        (wide >> 64) as u64
    }

    /// Returns a number from `least` to `most`, both included, each with equal chance.
    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        match most.saturating_sub(least).checked_add(1) {
            Some(count) => least + self.below(count),
            None => self.0.next_u64(),
        }
    }

    /// Returns a number from `least` to `most`, both included. Each power of two has an equal chance, so that small
    /// values come as often as large ones.
    pub(super) fn magnitude(&mut self, least: u64, most: u64) -> u64 {
        let bits = |value: u64| u64::from(u64::BITS - value.leading_zeros());
        let width = self.between(bits(least), bits(most.max(least)));
        let (from, to) = match width {
            0 => (0, 0),
            64.. => (1 << 63, u64::MAX),
            width => (1 << (width - 1), (1 << width) - 1),
        };
        self.between(from.max(least), to.min(most.max(least)))
    }

    /// Returns true once in `n` times.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns one of these, each with equal chance, or `None` if there are none.
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(usize::try_from(self.below(from.len() as u64)).ok()?)
    }

    /// Returns `count` of these in their order, or all if there are fewer.
    pub(super) fn some<T: Clone>(&mut self, from: &[T], count: usize) -> Vec<T> {
        let mut left: Vec<(usize, T)> = from.iter().cloned().enumerate().collect();
        let mut taken = Vec::new();
        while taken.len() < count && !left.is_empty() {
            taken.push(left.remove(self.below(left.len() as u64) as usize));
        }
        taken.sort_by_key(|(at, _)| *at);
        taken.into_iter().map(|(_, value)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_range_come_up_and_nothing_beyond() {
        for (least, most) in [(0, 1), (1, 1), (3, 12), (0, 0), (5, 1 << 40)] {
            let mut dice = Dice::new(7, 0);
            let drawn: Vec<u64> = (0..4_000).map(|_| dice.magnitude(least, most)).collect();
            assert!(drawn.iter().all(|value| (least..=most).contains(value)), "{least} to {most}");
            assert!(most > 1 << 20 || (drawn.contains(&least) && drawn.contains(&most)), "{least} to {most}");
        }
        let mut dice = Dice::new(7, 0);
        assert!((0..1_000).all(|_| (2..=4).contains(&dice.between(2, 4))) && dice.below(0) == 0);
        assert!(dice.magnitude(u64::MAX, u64::MAX) == u64::MAX && dice.between(0, u64::MAX) > 0);
    }

    #[test]
    fn parts_of_a_seed_have_choices_of_their_own() {
        let mut first = Dice::new(1, 0);
        let mut second = Dice::new(1, 1);
        assert_ne!(first.below(u64::MAX), second.below(u64::MAX));
        assert_eq!(Dice::new(1, 1).below(1_000_000), Dice::new(1, 1).below(1_000_000));
    }

    #[test]
    fn some_of_a_list_keep_its_order_and_none_comes_twice() {
        let mut dice = Dice::new(3, 0);
        for count in 0..6 {
            let some = dice.some(&[1, 2, 3, 4], count);
            assert!(some.len() == count.min(4) && some.is_sorted_by(|a, b| a < b), "{some:?}");
        }
    }
}
