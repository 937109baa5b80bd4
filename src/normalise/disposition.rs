//! Told words to outcomes, by the card.
//!
//! Must never invent an outcome: a word that the card lacks is `unknown`, and the caller keeps the word.

use crate::record::card::{Card, Told};
use crate::record::cdr::Disposition;
use crate::record::field::Field;
use crate::record::raw::RawRecord;

/// The outcome, or `None` when a word is there that the card does not know. `answered`: an answer or talk is stated.
pub(super) fn read(raw: &RawRecord, card: &Card, answered: bool) -> Option<Disposition> {
    let mut word = raw.trimmed(Field::Disposition);
    if word.is_empty() && card.outcome == Told::Answer {
        word = raw.trimmed(Field::HangupText);
    }
    let known = match card.outcome {
        Told::Answer if answered => Disposition::Answered,
        Told::Answer if word.is_empty() => by_cause(raw.trimmed(Field::HangupCause)),
        Told::Word if word.is_empty() => return Some(Disposition::Unknown),
        Told::Answer | Told::Word => look_up(card.dispositions, word)?,
    };
    let voicemail =
        || card.voicemail.iter().any(|(field, start)| begins(raw.get(*field).trim_start(), start));
    // Only an answered leg: a device names the mailbox of a call that never reached it, too.
    Some(if known == Disposition::Answered && voicemail() { Disposition::Voicemail } else { known })
}

/// Why a leg was not answered, by its Q.850 cause. Vendors' own causes lie above 127 and say nothing here.
fn by_cause(cause: &str) -> Disposition {
    match cause.parse::<u32>() {
        // Without a cause all that is known is that nobody took it; 16 is a caller who gave up.
        Err(_) if cause.is_empty() => Disposition::NoAnswer,
        Ok(0 | 16 | 18 | 19) => Disposition::NoAnswer,
        Ok(17) => Disposition::Busy,
        Ok(1..=127) => Disposition::Failed,
        Ok(_) | Err(_) => Disposition::Unknown,
    }
}

/// Looks a word up in a list whose words are upper case.
pub(super) fn look_up<T: Copy>(words: &[(&str, T)], word: &str) -> Option<T> {
    let plain = words.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
    if plain.is_some() || word.is_ascii() {
        return plain.map(|(_, value)| *value);
    }
    let upper = word.to_uppercase();
    words.iter().find(|(known, _)| *known == upper).map(|(_, value)| *value)
}

/// Whether a text begins like this, whatever the case.
#[inline]
pub(super) fn begins(text: &str, start: &str) -> bool {
    let start = start.as_bytes();
    let Some(head) = text.as_bytes().get(..start.len()) else { return false };
    // Words of a list begin alike and end differently.
    let last = |word: &[u8]| word.last().map(u8::to_ascii_lowercase);
    last(head) == last(start) && head.eq_ignore_ascii_case(start)
}

#[cfg(test)]
mod tests {
    use super::{begins, by_cause, look_up};
    use crate::record::cdr::Disposition;

    #[test]
    fn causes_of_a_leg_without_answer() {
        for (cause, outcome) in [
            ("", Disposition::NoAnswer),
            ("16", Disposition::NoAnswer),
            ("17", Disposition::Busy),
            ("19", Disposition::NoAnswer),
            ("38", Disposition::Failed),
            ("393216", Disposition::Unknown),
            ("none", Disposition::Unknown),
        ] {
            assert_eq!(by_cause(cause), outcome, "{cause}");
        }
    }

    #[test]
    fn words_are_found_whatever_their_case() {
        let words = [("ANSWERED", 1), ("GESPRÄCH", 2)];
        assert_eq!(look_up(&words, "answered"), Some(1));
        assert_eq!(look_up(&words, "Gespräch"), Some(2));
        assert_eq!(look_up(&words, "ANSWERED?"), None);
        assert_eq!(look_up(&words, "ÄÖ"), None);
    }

    #[test]
    fn beginnings_may_end_inside_a_letter_without_harm() {
        assert!(begins("voicemail(77)", "VOICEMAIL"));
        assert!(!begins("vä", "VA"));
        assert!(!begins("V", "VM"));
    }
}
