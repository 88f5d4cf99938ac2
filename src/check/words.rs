//! Formats figures for a sentence: times, spans, counts and lists of entries.

use std::time::Duration;

use crate::history::EntryId;

/// Formats a moment of the run to the millisecond: `41.207s`.
pub(crate) fn time(at: Duration) -> String {
    format!("{}.{:03}s", at.as_secs(), at.subsec_millis())
}

/// Formats a length of time for people: `0.1s`, `58.2s`, `6m 04s`, `1h 52m`. It rounds down.
pub(crate) fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..60 => format!("{seconds}.{}s", length.subsec_millis() / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Formats a count with spaces between the thousands: `14 981`.
pub(crate) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Formats a count with its noun: `1 entry`, `912 entries`.
pub(crate) fn count(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// Lists entries and names the client where it changes: `client-2 #418, #419, client-3 #7 and 12 more`. `total` also
/// counts entries that are not in `entries`.
pub(crate) fn entries(entries: &[EntryId], total: u64) -> String {
    const SHOWN: usize = 6;
    let mut text = String::new();
    for (n, entry) in entries.iter().take(SHOWN).enumerate() {
        if n > 0 {
            text.push_str(", ");
        }
        if n == 0 || entries[n - 1].client != entry.client {
            text.push_str(&entry.client);
            text.push(' ');
        }
        text.push('#');
        text.push_str(&entry.number.to_string());
    }
    let shown = entries.len().min(SHOWN) as u64;
    if total > shown {
        text.push_str(&format!(" and {} more", number(total - shown)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(time(Duration::from_micros(41_207_900)), "41.207s");
        assert_eq!(span(Duration::from_millis(58_290)), "58.2s");
        assert_eq!(span(Duration::from_secs(364)), "6m 04s");
        assert_eq!(span(Duration::from_secs(6_725)), "1h 52m");
        assert_eq!(number(14_981), "14 981");
        assert_eq!(number(981), "981");
        assert_eq!(number(1_000_000), "1 000 000");
        assert_eq!(count(1, "entry", "entries"), "1 entry");
    }

    #[test]
    fn a_list_names_each_client_once_and_counts_the_rest() {
        let entry = |client: &str, number| EntryId { client: client.into(), number };
        let some = [entry("client-2", 418), entry("client-2", 419), entry("client-3", 7)];
        assert_eq!(entries(&some, 3), "client-2 #418, #419, client-3 #7");
        assert_eq!(entries(&some, 15), "client-2 #418, #419, client-3 #7 and 12 more");
    }
}
