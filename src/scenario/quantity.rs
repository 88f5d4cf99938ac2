//! Quantities with their units: lengths of time, rates, sizes.
//!
//! Every quantity in a scenario file is a string with its unit, so that no reader has to guess. All arithmetic is
//! checked: a value that does not fit is a problem with a message, never a wrapped number.

use std::{fmt, time::Duration};

use crate::fault::{Per, Rate, Value};

/// The shortest length of most quantities.
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

/// The longest time that a scenario file may give.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The units of time with their milliseconds, largest first.
const TIME_UNITS: &[(&str, u64)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is not the quantity that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// A bare number.
    #[error("it has no unit")]
    NoUnit,
    /// A sign where none is allowed.
    #[error("it is negative")]
    Negative,
    /// No sign where one is needed.
    #[error("nothing says in which direction")]
    NoSign,
    /// A decimal point.
    #[error("fractions are not allowed: use a smaller unit")]
    Fraction,
    /// A rate of nothing.
    #[error("it is zero")]
    Zero,
    /// A rate above [`Rate::PER_SECOND_MAX`].
    #[error("it is more than {} per second", Rate::PER_SECOND_MAX)]
    TooFast,
    /// Larger than any bound.
    #[error("it is far too large")]
    TooLarge,
    /// A unit that does not exist, or that this quantity does not have.
    #[error("its unit is unknown")]
    UnknownUnit,
    /// Units that are not from large to small, or a unit twice.
    #[error("its units are not in order, from large to small and each once")]
    UnitOrder,
    /// Anything else.
    #[error("it is not a number with a unit")]
    Garbage,
}

/// Reads `"90s"`, `"1m30s"`, `"250ms"`, `"2h"`: whole milliseconds, each unit at most once, from large to small. The
/// caller checks bounds; no value up to [`LONGEST`] comes near an overflow.
pub fn duration(text: &str) -> Result<Duration, QuantityError> {
    let mut rest = text;
    let mut total = 0u64;
    let mut smallest = u64::MAX;
    while !rest.is_empty() || smallest == u64::MAX {
        let (number, after) = number(rest)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let unit_ms = unit_size(unit, after, TIME_UNITS)?;
        if unit_ms >= smallest {
            return Err(QuantityError::UnitOrder);
        }
        smallest = unit_ms;
        let part = number.checked_mul(unit_ms).ok_or(QuantityError::TooLarge)?;
        total = total.checked_add(part).ok_or(QuantityError::TooLarge)?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// Writes a length of time as short as possible, in whole milliseconds: `1m30s`, `1s500ms`, `0s`.
pub fn print_duration(length: Duration) -> String {
    let mut left = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, size) in TIME_UNITS {
        if left >= *size {
            text.push_str(&format!("{}{unit}", left / size));
            left %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

impl Rate {
    /// The highest rate of a scenario file, in events per second.
    pub const PER_SECOND_MAX: u32 = 100_000;

    /// Reads `"60/s"`. The `count` of a returned rate is at least 1, and at most [`Rate::PER_SECOND_MAX`] per second.
    pub fn read(text: &str) -> Result<Rate, QuantityError> {
        let (count, unit) = number(text)?;
        let per = match unit {
            "/s" => Per::Second,
            "/m" => Per::Minute,
            "/h" => Per::Hour,
            "" => return Err(QuantityError::NoUnit),
            _ => return Err(fraction_or(unit, QuantityError::UnknownUnit)),
        };
        let count = u32::try_from(count).map_err(|_| QuantityError::TooLarge)?;
        let rate = Rate { count, per };
        if rate.per_second() > f64::from(Self::PER_SECOND_MAX) {
            return Err(QuantityError::TooFast);
        }
        if count == 0 {
            return Err(QuantityError::Zero);
        }
        Ok(rate)
    }

    /// Returns the events per second.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / self.per.length().as_secs_f64()
    }

    /// Returns the time from one event to the next, rounded down to whole nanoseconds.
    pub fn interval(self) -> Duration {
        self.per.length().checked_div(self.count).unwrap_or(self.per.length())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per {
            Per::Second => "s",
            Per::Minute => "m",
            Per::Hour => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// Reads `"+75s"`, `"-1m30s"`: a length of time with its sign, in milliseconds. Never zero.
pub(super) fn offset(text: &str) -> Result<i64, QuantityError> {
    let (negative, length) = signed(text)?;
    let ms = i64::try_from(duration(length)?.as_millis()).map_err(|_| QuantityError::TooLarge)?;
    match ms {
        0 => Err(QuantityError::Zero),
        ms => Ok(if negative { -ms } else { ms }),
    }
}

/// Reads `"+200ppm"`, `"-150ppm"`. Never zero.
pub(super) fn drift(text: &str) -> Result<i32, QuantityError> {
    let (negative, rest) = signed(text)?;
    let (count, unit) = number(rest)?;
    match unit {
        "ppm" => {}
        "" => return Err(QuantityError::NoUnit),
        _ => return Err(fraction_or(unit, QuantityError::UnknownUnit)),
    }
    match i32::try_from(count).map_err(|_| QuantityError::TooLarge)? {
        0 => Err(QuantityError::Zero),
        ppm => Ok(if negative { -ppm } else { ppm }),
    }
}

/// Splits off the sign, which must be there.
fn signed(text: &str) -> Result<(bool, &str), QuantityError> {
    match text.split_at_checked(1) {
        Some(("+", rest)) => Ok((false, rest)),
        Some(("-", rest)) => Ok((true, rest)),
        // If only the sign is missing, say that; else report what else is wrong.
        _ => Err(match duration(text) {
            Err(why) if !text.ends_with("ppm") => why,
            _ => QuantityError::NoSign,
        }),
    }
}

/// Written as in a scenario file, without quotes.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Duration(length) => f.write_str(&print_duration(*length)),
            Value::Offset(ms) => {
                let length = print_duration(Duration::from_millis(ms.unsigned_abs()));
                write!(f, "{}{length}", if *ms < 0 { "-" } else { "+" })
            }
            Value::Drift(ppm) => write!(f, "{ppm:+}ppm"),
            Value::Size(bytes) => f.write_str(&print_size(*bytes)),
            Value::Rate(rate) => rate.fmt(f),
            Value::Word(word) => f.write_str(word),
            Value::Flag(flag) => flag.fmt(f),
            Value::Count(count) => count.fmt(f),
            Value::Path(path) => f.write_str(path),
        }
    }
}

/// The units of size with their bytes, largest first.
const SIZE_UNITS: &[(&str, u64)] = &[("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `"256B"`, `"16KiB"`, `"1MiB"` as a number of bytes.
pub(super) fn size(text: &str) -> Result<u64, QuantityError> {
    let (number, unit) = number(text)?;
    let letters = unit.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (unit, after) = unit.split_at(letters);
    let unit_bytes = unit_size(unit, after, SIZE_UNITS)?;
    if !after.is_empty() {
        return Err(QuantityError::Garbage);
    }
    number.checked_mul(unit_bytes).ok_or(QuantityError::TooLarge)
}

/// Writes bytes in the largest unit that divides them.
pub fn print_size(bytes: u64) -> String {
    let (unit, size) =
        SIZE_UNITS.iter().find(|(_, size)| bytes != 0 && bytes.is_multiple_of(*size)).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / size)
}

/// Splits off leading digits. If there are none, the error depends on what stands there instead.
fn number(text: &str) -> Result<(u64, &str), QuantityError> {
    if text.starts_with('-') {
        return Err(QuantityError::Negative);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Err(fraction_or(rest, QuantityError::Garbage));
    }
    let number = number.parse().map_err(|_| QuantityError::TooLarge)?;
    Ok((number, rest))
}

fn unit_size(unit: &str, after: &str, units: &[(&str, u64)]) -> Result<u64, QuantityError> {
    if let Some((_, size)) = units.iter().find(|(name, _)| *name == unit) {
        return Ok(*size);
    }
    Err(match (unit.is_empty(), after.is_empty()) {
        (true, true) => QuantityError::NoUnit,
        (true, false) => fraction_or(after, QuantityError::Garbage),
        (false, _) => QuantityError::UnknownUnit,
    })
}

fn fraction_or(rest: &str, other: QuantityError) -> QuantityError {
    if rest.starts_with(['.', ',']) { QuantityError::Fraction } else { other }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, ms) in [("90s", 90_000), ("1m30s", 90_000), ("250ms", 250), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn durations_that_nobody_can_mean_are_refused_with_their_reason() {
        use QuantityError::*;
        for (text, why) in [
            ("", Garbage),
            ("90", NoUnit),
            ("-5s", Negative),
            ("1.5s", Fraction),
            ("99999999999999999999s", TooLarge),
            ("18446744073709551615h", TooLarge),
            ("5 s", Garbage),
            ("5d", UnknownUnit),
            ("30s1m", UnitOrder),
            ("1s1s", UnitOrder),
            ("1m30", NoUnit),
            ("soon", Garbage),
            ("5é", Garbage),
        ] {
            assert_eq!(duration(text), Err(why), "{text}");
        }
    }

    #[test]
    fn rates_and_sizes_know_their_bounds() {
        assert_eq!(Rate::read("60/s").map(|r| r.interval()), Ok(Duration::from_nanos(16_666_666)));
        assert_eq!(Rate::read("30/m").map(|r| r.interval()), Ok(Duration::from_secs(2)));
        assert_eq!(Rate::read("60"), Err(QuantityError::NoUnit));
        assert_eq!(Rate::read("0/s"), Err(QuantityError::Zero));
        assert_eq!(Rate::read("100001/s"), Err(QuantityError::TooFast));
        assert_eq!(size("16KiB"), Ok(16 * 1024));
        assert_eq!(size("16"), Err(QuantityError::NoUnit));
        assert_eq!(size("16KB"), Err(QuantityError::UnknownUnit));
        assert_eq!(size("99999999999999MiB"), Err(QuantityError::TooLarge));
    }

    #[test]
    fn an_offset_and_a_drift_have_a_sign() {
        use QuantityError::*;
        assert_eq!((offset("-1m30s"), offset("+250ms")), (Ok(-90_000), Ok(250)));
        assert_eq!((drift("+200ppm"), drift("-150ppm")), (Ok(200), Ok(-150)));
        for (text, why) in
            [("90s", NoSign), ("90", NoUnit), ("+90", NoUnit), ("+0s", Zero), ("", Garbage), ("+-5s", Negative)]
        {
            assert_eq!(offset(text), Err(why), "{text}");
        }
        for (text, why) in [("200ppm", NoSign), ("+200", NoUnit), ("+0ppm", Zero), ("+1.5ppm", Fraction)] {
            assert_eq!(drift(text), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_signed_quantity_reads_back(ms in -86_400_000i64..86_400_000, ppm in -100_000i32..100_000) {
            prop_assume!(ms != 0 && ppm != 0);
            prop_assert_eq!(offset(&Value::Offset(ms).to_string()), Ok(ms));
            prop_assert_eq!(drift(&Value::Drift(ppm).to_string()), Ok(ppm));
        }

        #[test]
        fn a_printed_quantity_reads_back(ms in 0u64..=86_400_000, bytes in 0u64..=1 << 30) {
            let length = Duration::from_millis(ms);
            prop_assert_eq!(duration(&print_duration(length)), Ok(length));
            prop_assert_eq!(size(&print_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_a_quantity_panic(text in ".{0,40}") {
            let _ = (duration(&text), Rate::read(&text), size(&text), offset(&text), drift(&text));
        }
    }
}
