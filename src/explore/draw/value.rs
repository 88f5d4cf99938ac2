//! Values of parameters: mostly from the range in which they matter in a run of a minute, and now and then from
//! everything that the catalogue allows, both ends included. Only a length of time that a run waits for has a smaller
//! maximum here.

use std::time::Duration;

use super::dice::Dice;
use crate::fault::{Fault, Kind, Need, Parameter, Per, Rate, RevisionRole, Value};

/// The range in which a parameter matters in a run of a minute, in its smallest unit (milliseconds, bytes, events a
/// second).
struct Usual {
    fault: &'static str,
    parameter: &'static str,
    least: u64,
    most: u64,
}

const fn usual(fault: &'static str, parameter: &'static str, least: u64, most: u64) -> Usual {
    Usual { fault, parameter, least, most }
}

/// Parameters that are not listed here are drawn from everything that is allowed.
static USUAL: &[Usual] = &[
    usual("churn", "every", 300, 8_000),
    usual("churn", "down", 10, 4_000),
    usual("rewind", "down", 10, 20_000),
    usual("fsync-error", "nth", 1, 40),
    usual("disk-full", "free", 0, 1 << 20),
    usual("slow-disk", "latency", 1, 2_000),
    usual("torn-write", "nth", 1, 40),
    usual("bit-rot", "bits", 1, 64),
    usual("misdirected-write", "nth", 1, 40),
    usual("latency", "delay", 1, 500),
    usual("latency", "jitter", 0, 250),
    usual("slow-reader", "bytes", 512, 2 << 20),
    usual("bit-flip", "every", 50, 5_000),
    usual("ca-rotate", "overlap", 0, 10_000),
    usual("clock-skew", "offset", 10, 600_000),
    usual("clock-drift", "offset", 10, 600_000),
    usual("clock-jump", "by", 10, 600_000),
    usual("rolling-upgrade", "pause", 0, 5_000),
    usual("memory-pressure", "budget", 256 << 10, 8 << 20),
    usual("surge", "appends", 20, 1_000),
];

/// The lengths of time for which a run waits before it ends, and the maximum of each in a drawn scenario. A run of
/// hours takes as long as a hundred others, and in nearly all of its time nothing happens.
const WAITED_FOR: [(&str, &str); 5] =
    [("ca-rotate", "overlap"), ("churn", "down"), ("churn", "every"), ("rewind", "down"), ("rolling-upgrade", "pause")];
const WAITED_FOR_MAX: Duration = Duration::from_secs(120);

/// Draws a value for a parameter of a fault. `paths` are the files that the fault may single out.
pub(super) fn value(
    dice: &mut Dice,
    fault: &Fault,
    parameter: &Parameter,
    paths: &[&'static str],
    roles: &[RevisionRole],
) -> Value {
    if let Need::Default(default) = &parameter.need
        && dice.one_in(4)
    {
        return default.clone();
    }
    let mut number = |least: u64, most: u64| number(dice, fault, parameter, least, most);
    let milliseconds = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    match kind(fault, parameter) {
        Kind::Duration { min, max } => {
            Value::Duration(Duration::from_millis(number(milliseconds(min), milliseconds(max))))
        }
        Kind::Offset { most } => {
            let ms = i64::try_from(number(1, milliseconds(most))).unwrap_or(i64::MAX);
            Value::Offset(if dice.one_in(2) { ms } else { -ms })
        }
        Kind::Drift { most } => {
            let ppm = i32::try_from(number(1, u64::from(most.unsigned_abs()))).unwrap_or(most);
            Value::Drift(if dice.one_in(2) { ppm } else { -ppm })
        }
        Kind::Size { min, max } => Value::Size(number(min, max)),
        Kind::Count { min, max } => Value::Count(number(min, max)),
        Kind::Rate => {
            let count = u32::try_from(number(1, u64::from(Rate::PER_SECOND_MAX))).unwrap_or(Rate::PER_SECOND_MAX);
            Value::Rate(Rate { count, per: Per::Second })
        }
        Kind::Word(words) => {
            // This log cannot be asked to run a revision that it does not have.
            let known = |word: &&'static str| RevisionRole::read(word).is_none_or(|role| roles.contains(&role));
            let words: Vec<&'static str> = words.iter().map(|(word, _)| *word).filter(known).collect();
            Value::Word(dice.pick(&words).copied().unwrap_or_default())
        }
        // An open connection presents no certificate, so in most cases it has to be opened again.
        Kind::Flag => Value::Flag(!dice.one_in(if parameter.name == "reconnect" { 3 } else { 2 })),
        Kind::Path => Value::Path(dice.pick(paths).copied().unwrap_or_default().to_owned()),
    }
}

/// Returns from what a parameter is drawn: from everything that is allowed, except that no wait is too long.
fn kind(fault: &Fault, parameter: &Parameter) -> Kind {
    match parameter.kind {
        Kind::Duration { min, max } if WAITED_FOR.contains(&(fault.name, parameter.name)) => {
            Kind::Duration { min, max: max.min(WAITED_FOR_MAX) }
        }
        kind => kind,
    }
}

/// Draws a number: seven times in eight from the usual range, otherwise from everything that is allowed, half of the
/// time at one of the ends.
fn number(dice: &mut Dice, fault: &Fault, parameter: &Parameter, least: u64, most: u64) -> u64 {
    let usual = USUAL.iter().find(|usual| usual.fault == fault.name && usual.parameter == parameter.name);
    match (usual, dice.below(16)) {
        (_, 0) => dice.pick(&[least, most]).copied().unwrap_or(least),
        (Some(usual), 2..) => dice.magnitude(usual.least.clamp(least, most), usual.most.clamp(least, most)),
        _ => dice.magnitude(least, most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{CATALOGUE, find};

    #[test]
    fn what_a_run_waits_for_is_a_length_of_time_that_may_be_longer() {
        for (fault, parameter) in WAITED_FOR {
            let parameters = find(fault).map_or(&[][..], |fault| fault.parameters);
            let kind = parameters.iter().find(|of| of.name == parameter).map(|parameter| parameter.kind);
            let is_longer = matches!(kind, Some(Kind::Duration { max, .. }) if max > WAITED_FOR_MAX);
            assert!(is_longer, "{fault} {parameter}: {kind:?}");
        }
    }

    #[test]
    fn what_is_usual_is_a_parameter_of_that_fault_and_allowed() {
        for usual in USUAL {
            let parameters = find(usual.fault).map_or(&[][..], |fault| fault.parameters);
            let parameter = parameters.iter().find(|parameter| parameter.name == usual.parameter);
            let kind = parameter.unwrap_or_else(|| panic!("{} {}", usual.fault, usual.parameter)).kind;
            let ms = |length: Duration| length.as_millis() as u64;
            let (least, most) = match kind {
                Kind::Duration { min, max } => (ms(min), ms(max)),
                Kind::Offset { most } => (1, ms(most)),
                Kind::Size { min, max } | Kind::Count { min, max } => (min, max),
                Kind::Rate => (1, u64::from(Rate::PER_SECOND_MAX)),
                other => panic!("{} {}: {other:?} has no usual range", usual.fault, usual.parameter),
            };
            assert!(least <= usual.least && usual.least < usual.most && usual.most <= most, "{}", usual.parameter);
        }
    }

    /// Returns the values that stand for all others of a parameter: its ends, or every word.
    fn telling(kind: Kind, paths: &[&str]) -> Vec<Value> {
        match kind {
            Kind::Duration { min, max } => vec![Value::Duration(min), Value::Duration(max)],
            Kind::Offset { most } => {
                let most = most.as_millis() as i64;
                [-most, -1, 1, most].map(Value::Offset).to_vec()
            }
            Kind::Drift { most } => [-most, -1, 1, most].map(Value::Drift).to_vec(),
            Kind::Size { min, max } => vec![Value::Size(min), Value::Size(max)],
            Kind::Count { min, max } => vec![Value::Count(min), Value::Count(max)],
            Kind::Rate => [1, Rate::PER_SECOND_MAX].map(|count| Value::Rate(Rate { count, per: Per::Second })).to_vec(),
            Kind::Word(words) => words.iter().map(|(word, _)| Value::Word(word)).collect(),
            Kind::Flag => vec![Value::Flag(false), Value::Flag(true)],
            Kind::Path => paths.iter().map(|path| Value::Path((*path).to_owned())).collect(),
        }
    }

    #[test]
    fn both_ends_of_every_parameter_and_every_word_come_up() {
        let paths = ["journal/", "outbox/"];
        let roles: Vec<RevisionRole> =
            RevisionRole::WORDS.iter().filter_map(|(word, _)| RevisionRole::read(word)).collect();
        for fault in CATALOGUE {
            for parameter in fault.parameters {
                let mut dice = Dice::new(1, 0);
                let mut missing = telling(kind(fault, parameter), &paths);
                for _ in 0..2_000 {
                    let drawn = value(&mut dice, fault, parameter, &paths, &roles);
                    missing.retain(|value| *value != drawn);
                }
                assert!(missing.is_empty(), "{} {}: never {missing:?}", fault.name, parameter.name);
            }
        }
    }

    #[test]
    fn a_revision_that_the_log_does_not_have_is_never_drawn() {
        let upgrade = find("upgrade").expect("in the catalogue");
        let mut dice = Dice::new(1, 0);
        let roles = [RevisionRole::Current, RevisionRole::Next];
        let drawn: Vec<Value> =
            (0..200).map(|_| value(&mut dice, upgrade, &upgrade.parameters[0], &[], &roles)).collect();
        assert!(drawn.iter().all(|value| matches!(value, Value::Word("current" | "next"))));
    }
}
