//! Card numbers: 13 to 19 digits, in groups or not, with a right check digit.
//!
//! Owns where in a run of digits a number may begin and end: at the run's ends and at what parts its groups.

use std::ops::Range;

const DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

pub(super) fn find(text: &[u8], from: usize, found: &mut Vec<Range<usize>>) {
    let mut at = from;
    while let Some(start) = text[at..].iter().position(u8::is_ascii_digit).map(|n| at + n) {
        let end = end_of_group(text, start);
        // A number never begins amid digits, nor in a word.
        let inside = start.checked_sub(1).is_some_and(|n| text[n].is_ascii_alphanumeric());
        match (!inside).then(|| longest(text, start)).flatten() {
            Some(end) => {
                found.push(start..end);
                at = end;
            }
            None => at = end,
        }
    }
}

fn end_of_group(text: &[u8], start: usize) -> usize {
    text[start..].iter().position(|b| !b.is_ascii_digit()).map_or(text.len(), |n| start + n)
}

/// The end of the longest number that begins here.
fn longest(text: &[u8], start: usize) -> Option<usize> {
    let mut digits = Vec::with_capacity(*DIGITS.end());
    let (mut at, mut found) = (start, None);
    loop {
        let end = end_of_group(text, at);
        if end == at || digits.len() + (end - at) > *DIGITS.end() {
            return found;
        }
        digits.extend(text[at..end].iter().map(|b| b - b'0'));
        let follows = text.get(end).is_some_and(u8::is_ascii_alphanumeric);
        if !follows && DIGITS.contains(&digits.len()) && is_issued(&digits) && checks(&digits) {
            found = Some(end);
        }
        match text.get(end) {
            Some(b' ' | b'-') => at = end + 1,
            _ => return found,
        }
    }
}

/// Whether cards begin so.
fn is_issued(digits: &[u8]) -> bool {
    let first = digits[..4].iter().fold(0u32, |n, d| n * 10 + u32::from(*d));
    matches!(first / 1000, 4) || matches!(first, 2221..=2720 | 3000..=3999 | 5000..=5999 | 6000..=6999)
}

/// The check digit of ISO/IEC 7812.
fn checks(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(n, d)| match (n % 2, u32::from(*d)) {
            (0, d) => d,
            (_, d) if d > 4 => 2 * d - 9,
            (_, d) => 2 * d,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_checks_is_a_card_wherever_it_stands() {
        for (text, expected) in [
            ("4111111111111111", vec!["4111111111111111"]),
            ("4111111111111112", vec![]),
            ("pan: 5500-0055-5555-5559, cvc 123", vec!["5500-0055-5555-5559"]),
            ("12 25 4111 1111 1111 1111 2027", vec!["4111 1111 1111 1111"]),
            ("3782 822463 10005", vec!["3782 822463 10005"]),
            ("x4111111111111111 41111111111111110", vec![]),
            ("4111111111111111 5500005555555559", vec!["4111111111111111", "5500005555555559"]),
            ("0000000000000000", vec![]),
        ] {
            let mut found = Vec::new();
            find(text.as_bytes(), 0, &mut found);
            let found: Vec<&str> = found.into_iter().map(|r| &text[r]).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
