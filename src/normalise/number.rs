//! Telephone numbers to E.164, where they can be.
//!
//! Must never invent a number: what is no public number (extensions, `s`, `anonymous`, feature codes) stays as written.
//! Numbers are private: none may reach a log or an error.

mod seen;

use crate::record::raw::trimmed;
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, Region};
use seen::{Answer, Dialled, Seen};
use std::sync::{Mutex, PoisonError};

/// Below this a number is an extension, a short code or an emergency number.
const SHORTEST: usize = 7;

/// E.164 allows fifteen digits; dialling prefixes come on top.
const LONGEST: usize = 15 + 6;

/// Normalises the numbers of the origins of one country.
#[derive(Debug)]
pub(super) struct Numbers {
    country: Option<Region>,
    seen: Mutex<Seen>,
}

impl Numbers {
    /// For an ISO 3166 country; without one only numbers written internationally are normalised. A country that the
    /// library does not know counts as none.
    pub(super) fn new(country: Option<&str>) -> Self {
        let country = country.and_then(|code| code.trim().to_ascii_uppercase().parse().ok());
        Self { country, seen: Mutex::new(Seen::new()) }
    }

    /// Appends the number in E.164, or as written when it is not that kind of number.
    pub(super) fn write(&self, written: &str, out: &mut String) {
        let written = trimmed(written);
        let Some(dialled) = Dialled::read(written) else {
            out.push_str(written);
            return;
        };
        let known = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(dialled);
        let answer = known.unwrap_or_else(|| {
            // Not under the lock: the library takes microseconds.
            let answer = Answer::new(self.e164(&dialled.text()).as_deref());
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).keep(dialled, answer);
            answer
        });
        if !answer.write(out) {
            out.push_str(written);
        }
    }

    fn e164(&self, dialled: &str) -> Option<Box<str>> {
        if let Some(digits) = dialled.strip_prefix('+') {
            return international(digits);
        }
        if let Some(country) = self.country
            && let Ok(number) = PhoneNumber::parse(dialled, Some(country))
            && number.is_valid()
        {
            return formatted(&number);
        }
        dialled.strip_prefix("00").and_then(international)
    }
}

/// A number with its country code. One of a numbering plan newer than the library's data is kept as it is, if the
/// country code exists.
///
/// Written like E.164 already, it is not parsed: the library keeps megabytes of compiled expressions for each country
/// whose numbers it has met.
fn international(digits: &str) -> Option<Box<str>> {
    let mut plus = String::with_capacity(digits.len() + 1);
    plus.push('+');
    plus.push_str(digits);
    if (SHORTEST..=15).contains(&digits.len())
        && national_part(digits).is_some_and(|part| !part.starts_with('0'))
    {
        return Some(plus.into_boxed_str());
    }
    let number = PhoneNumber::parse(&plus, None).ok()?;
    if number.is_valid() {
        return formatted(&number);
    }
    (SHORTEST..=15).contains(&digits.len()).then(|| plus.into_boxed_str())
}

/// What follows the country code; `None` when no such code exists.
fn national_part(digits: &str) -> Option<&str> {
    (1..=3).find_map(|length| {
        let (code, part) = digits.split_at_checked(length)?;
        PHONE_NUMBER_UTIL.get_region_for_country_code(code.parse().ok()?).map(|_| part)
    })
}

fn formatted(number: &PhoneNumber) -> Option<Box<str>> {
    let text = number.format_as(PhoneNumberFormat::E164);
    let digits = text.strip_prefix('+')?;
    let sound = (SHORTEST..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    sound.then(|| text.into_owned().into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::Numbers;
    use proptest::prelude::*;

    fn in_country(country: Option<&str>, written: &str) -> String {
        let mut out = String::new();
        Numbers::new(country).write(written, &mut out);
        out
    }

    #[test]
    fn numbers_written_internationally_need_no_country() {
        assert_eq!(in_country(None, "+49 30 901820"), "+4930901820");
        assert_eq!(in_country(None, "+49 (0) 30 901820"), "+4930901820");
        assert_eq!(in_country(None, "0049-30-901820"), "+4930901820");
        assert_eq!(in_country(None, "030 901820"), "030 901820");
        assert_eq!(in_country(None, "+999123456789"), "+999123456789", "no such country code: as written");
    }

    #[test]
    fn national_numbers_follow_the_country() {
        assert_eq!(in_country(Some("DE"), "030 901820"), "+4930901820");
        assert_eq!(in_country(Some("de"), "0049 30 901820"), "+4930901820");
        assert_eq!(in_country(Some("US"), "(202) 456-1111"), "+12024561111");
        assert_eq!(in_country(Some("US"), "011 49 30 901820"), "+4930901820");
        assert_eq!(in_country(Some("US"), "00 49 30 901820"), "+4930901820");
        assert_eq!(in_country(Some("AU"), "0011 49 30 901820"), "+4930901820");
        assert_eq!(in_country(Some("IT"), "06 6982"), "06 6982", "too short to tell from an extension");
        assert_eq!(in_country(Some("IT"), "06 69812345"), "+390669812345", "Italy keeps its zero");
        assert_eq!(in_country(Some("XX"), "030 901820"), "030 901820");
    }

    #[test]
    fn what_is_no_public_number_stays_as_written() {
        for text in [
            "",
            "204",
            "s",
            "anonymous",
            "*72*1234*8584",
            "*7212345678",
            "12345678901234567890123",
            "0301234x567",
        ] {
            assert_eq!(in_country(Some("DE"), text), text);
        }
        assert_eq!(in_country(Some("DE"), " 204 "), "204");
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_kept_or_becomes_plus_and_digits(
            text in prop_oneof!["\\PC*", "[+]?[0-9 ()/.-]{0,24}", "(00|011|0|[+])[0-9]{5,18}"],
            country in prop_oneof![Just(None), Just(Some("DE")), Just(Some("US")), Just(Some("IT")), Just(Some("BR"))],
        ) {
            let numbers = Numbers::new(country);
            let mut out = String::new();
            numbers.write(&text, &mut out);
            let sound = out.strip_prefix('+').is_some_and(|digits| {
                (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
            });
            prop_assert!(sound || out == text.trim());
            let mut again = String::new();
            numbers.write(&text, &mut again);
            prop_assert_eq!(again, out, "the cache changes nothing");
        }
    }
}
