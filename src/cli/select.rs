//! The scenarios and the seeds to which a command applies.

use std::{ops::Range, path::PathBuf, str::FromStr, sync::Arc};

use super::{Exit, Home, Stop};
use crate::{
    report::Layout,
    scenario::{self, DiscoverError, ReadError, Scenario, render},
};

/// A range of seeds, `A..B`, without B.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seeds(pub Range<u64>);

/// The most runs per scenario that one command may ask for. A larger number is taken for a typing error.
pub(super) const SEEDS_MAX: u64 = 10_000_000;

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a range of seeds; write A..B, for example 0..100 (B is not run)");
        let (from, to) = text.split_once("..").ok_or_else(bad)?;
        let (from, to): (u64, u64) = (from.parse().map_err(|_| bad())?, to.parse().map_err(|_| bad())?);
        if from >= to {
            return Err(format!("`{text}` contains no seed; write A..B with A less than B"));
        }
        if to - from > SEEDS_MAX {
            return Err(format!("`{text}` asks for more than {SEEDS_MAX} seeds"));
        }
        Ok(Seeds(from..to))
    }
}

/// One shard of all runs, `K/N`, with K from 1 to N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shard {
    pub k: usize,
    pub n: usize,
}

impl Shard {
    /// Returns how many of `total` runs are in this shard. It takes every N-th run, so that each shard has some runs of
    /// every scenario.
    pub(super) fn share(self, total: usize) -> usize {
        (total + self.n - self.k) / self.n
    }

    /// Returns the number, among all runs, of the `index`-th run of this shard.
    pub(super) fn index(self, index: usize) -> usize {
        index * self.n + self.k - 1
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((k, n)) if 1 <= k && k <= n => Ok(Shard { k, n }),
            _ => Err(format!("`{text}` is not a shard; write K/N with 1 ≤ K ≤ N, for example 3/16")),
        }
    }
}

/// Returns the scenario files at these paths, parsed. All errors of all files are reported at once.
pub(super) fn scenarios(home: &Home, paths: &[PathBuf], layout: Layout) -> Result<Vec<Scenario>, Stop> {
    let mut good = Vec::new();
    let mut bad = String::new();
    let mut problems = 0;
    let mut unreadable = false;
    for path in files(home, paths)? {
        match scenario::read(&path, &home.sizes) {
            Ok(scenario) => good.push(scenario),
            Err(ReadError::Invalid { path, text, problems: found }) => {
                problems += found.len();
                bad.push_str(&render::problems_within(&path, &text, &found, layout.columns()));
            }
            Err(error) => {
                unreadable = true;
                bad.push_str(&format!("error: {error}\n"));
            }
        }
    }
    if problems == 0 && !unreadable {
        return Ok(good);
    }
    Err(Stop::With(Exit::InvalidScenario, bad.trim_end().to_owned()))
}

/// Returns the files at these paths or with these names. A folder stands for all `*.toml` files below it.
pub(super) fn files(home: &Home, paths: &[PathBuf]) -> Result<Vec<PathBuf>, Stop> {
    let folder = &home.scenarios;
    if paths.is_empty() && !folder.exists() {
        let message = format!(
            "error: nothing selected: there is no folder `{}` here; name scenario files or folders",
            folder.display()
        );
        return Err(Stop::With(Exit::NothingSelected, message));
    }
    let paths: Vec<PathBuf> =
        if paths.is_empty() { vec![folder.clone()] } else { paths.iter().map(|word| home.path(word)).collect() };
    scenario::discover(&paths)
        .map_err(|error: DiscoverError| Stop::With(Exit::NothingSelected, format!("error: {error}")))
}

/// Returns the text of a scenario, to be passed to the process of a run.
pub(super) fn text(scenario: &Scenario) -> Arc<str> {
    scenario.source.clone()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shards_cover_every_run_exactly_once(total in 0_usize..200, n in 1_usize..40) {
            let mut all: Vec<usize> = (1..=n)
                .flat_map(|k| (0..Shard { k, n }.share(total)).map(move |index| Shard { k, n }.index(index)))
                .collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..total).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_shard_is_k_of_n() {
        assert_eq!("3/16".parse(), Ok(Shard { k: 3, n: 16 }));
        for bad in ["", "3", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }

    #[test]
    fn seeds_are_a_range_without_its_end() {
        assert_eq!("3..5".parse(), Ok(Seeds(3..5)));
        for bad in ["", "3", "5..3", "3..3", "..3", "0..99999999999", "-1..3", "0..=3", "0..18446744073709551616"] {
            assert!(bad.parse::<Seeds>().is_err(), "{bad}");
        }
    }
}
