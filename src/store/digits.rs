//! Numbers that stand in the bytes of a rejected row, of which nobody knows the columns: enough to find the row again by
//! a number, however it was written.
//!
//! Must never leave a number out silently: a row with too many says so.

use std::collections::BTreeSet;

/// Digits by which a number is looked up: national and international spelling of a number share its last ones.
const TAIL: usize = 7;
/// Fewer digits than this are no number: they would list every minute and second.
const SHORTEST: usize = 2;
/// Numbers listed of one row; a row is up to 1 MiB long.
const MOST: usize = 64;

/// What a number is looked up by: its last seven digits, or all where it has fewer. Empty where there is no digit.
pub fn tail(written: &str) -> String {
    let digits: Vec<u8> = written.bytes().filter(u8::is_ascii_digit).collect();
    digits[digits.len().saturating_sub(TAIL)..].iter().copied().map(char::from).collect()
}

/// The tails of all numbers of a row; `None` where they are too many to list.
pub fn tails(row: &[u8]) -> Option<BTreeSet<String>> {
    let mut tails = BTreeSet::new();
    for number in numbers(row) {
        tails.insert(tail(&number));
        if tails.len() > MOST {
            return None;
        }
    }
    Some(tails)
}

/// Whether a number with this tail stands in the row.
pub fn has_tail(row: &[u8], wished: &str) -> bool {
    numbers(row).any(|number| tail(&number) == wished)
}

/// Everything in a row that may be a number, as written: runs of digits with the usual punctuation, and each run of
/// digits in it by itself.
pub fn numbers(row: &[u8]) -> impl Iterator<Item = String> + '_ {
    // Between the bytes of UTF-16 stand zeros, which are in no other text.
    row.split(|byte| !is_of_number(*byte)).flat_map(|run| {
        let text: String = run.iter().filter(|byte| **byte != 0).copied().map(char::from).collect();
        let text = text.trim().to_owned();
        let parts: Vec<String> = text
            .split(|c: char| !c.is_ascii_digit())
            .filter(|part| *part != text)
            .map(str::to_owned)
            .collect();
        std::iter::once(text).chain(parts).filter(|text| digits(text) >= SHORTEST)
    })
}

fn digits(text: &str) -> usize {
    text.bytes().filter(u8::is_ascii_digit).count()
}

const fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b' ' | b'(' | b')' | b'.' | b'/' | b'-' | 0)
}

#[cfg(test)]
mod tests {
    use super::{has_tail, numbers, tail, tails};
    use proptest::prelude::*;

    #[test]
    fn a_number_is_found_by_its_last_digits_however_it_is_written() {
        for written in ["+441632960123", "01632 960123", "0044 (1632) 960-123", "2960123"] {
            assert_eq!(tail(written), "2960123", "{written}");
        }
        assert_eq!((tail("204"), tail("s")), ("204".to_owned(), String::new()));
    }

    #[test]
    fn a_row_lists_its_numbers_and_parts_of_them() {
        let found: Vec<String> = numbers(b"\"Ada\" <01632 960-123>,204;s,7").collect();
        assert_eq!(found, ["01632 960-123", "01632", "960", "123", "204"]);
        let wide: Vec<u8> = "204,x".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(has_tail(&wide, "204") && !has_tail(&wide, "20"));
    }

    #[test]
    fn a_row_with_very_many_numbers_says_so() {
        let many: Vec<String> = (100..300).map(|number| number.to_string()).collect();
        assert_eq!(tails(many.join(",").as_bytes()), None);
        assert_eq!(tails(b"no digit").map(|tails| tails.len()), Some(0));
    }

    proptest! {
        #[test]
        fn whatever_stands_beside_a_number_it_is_found(
            number in "[0-9]{2,15}", before in "([^0-9]{0,9}[,;\"<])?", after in "([,;\">][^0-9]{0,9})?",
        ) {
            let row = format!("{before}{number}{after}");
            let wished = tail(&number);
            prop_assert!(has_tail(row.as_bytes(), &wished));
            prop_assert!(tails(row.as_bytes()).is_some_and(|tails| tails.contains(&wished)));
        }
    }
}
