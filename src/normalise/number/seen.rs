//! Numbers that were met before and what they came to: companies call the same ones all day.
//!
//! Must never grow: what a sender can write without end is forgotten, not kept.

use super::{LONGEST, SHORTEST};

/// A number as dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialled {
    /// Four bits each.
    digits: u128,
    /// How many, leading zeros too; never none.
    count: u8,
    /// A `+` leads them.
    plus: bool,
}

impl Dialled {
    /// The digits, with a leading `+` if there is one, without the usual punctuation. `None` when there is anything
    /// else, or too few or too many digits.
    pub(super) fn read(written: &str) -> Option<Self> {
        let bytes = written.as_bytes();
        let plus = bytes.first() == Some(&b'+');
        // "+49 (0) 30 ...": the zero in brackets is for callers inside the country.
        let trunk_zero = if plus { bytes.windows(3).position(|three| three == b"(0)") } else { None };
        let (mut digits, mut count) = (0_u128, 0);
        let most = LONGEST - usize::from(plus);
        for (place, byte) in bytes.iter().enumerate().skip(usize::from(plus)) {
            match byte {
                b'0' if trunk_zero.is_some_and(|zero| place == zero + 1) => {}
                b'0'..=b'9' if usize::from(count) == most => return None,
                b'0'..=b'9' => {
                    digits = digits << 4 | u128::from(byte & 0x0f);
                    count += 1;
                }
                b' ' | b'-' | b'.' | b'/' | b'(' | b')' => {}
                _ => return None,
            }
        }
        (usize::from(count) >= SHORTEST).then_some(Self { digits, count, plus })
    }

    /// The digits behind the `+`, if there is one.
    pub(super) fn text(self) -> String {
        let digit = |place: u8| char::from(b'0' + ((self.digits >> (place * 4)).to_le_bytes()[0] & 0x0f));
        self.plus.then_some('+').into_iter().chain((0..self.count).rev().map(digit)).collect()
    }

    /// What tells it from every other; not zeros.
    fn words(self) -> [u64; 2] {
        let all = self.digits | u128::from(self.count) << 96 | u128::from(self.plus) << 104;
        let [low, high] = *all.to_le_bytes().as_chunks::<8>().0 else { return [0; 2] };
        [u64::from_le_bytes(low), u64::from_le_bytes(high)]
    }
}

/// What a number came to: the digits of E.164, four bits each, and how many in the highest four; zero stands for "as
/// written".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer(u64);

impl Answer {
    /// Of `+` and at most fifteen digits, or as written.
    pub(super) fn new(e164: Option<&str>) -> Self {
        let digits = e164.and_then(|text| text.strip_prefix('+')).unwrap_or_default().as_bytes();
        Self(
            digits.iter().fold(0, |all, byte| all << 4 | u64::from(byte & 0x0f))
                | (digits.len() as u64) << 60,
        )
    }

    /// Appends the number; `false`, and nothing is appended, where it stays as written.
    pub(super) fn write(self, out: &mut String) -> bool {
        let count = usize::from((self.0 >> 60).to_le_bytes()[0]);
        if count == 0 {
            return false;
        }
        let mut text = [b'+'; 16];
        let mut rest = self.0;
        for place in text[1..=count].iter_mut().rev() {
            *place = b'0' + (rest.to_le_bytes()[0] & 0x0f);
            rest >>= 4;
        }
        out.push_str(str::from_utf8(&text[..=count]).unwrap_or_default());
        true
    }
}

/// Numbers whose places are the same are kept together, so that a new one forgets the eldest of few.
const TOGETHER: usize = 4;
/// A power of two. With four numbers each they take 768 KiB when all are in use.
const SETS: usize = 8 * 1024;
/// Words of a number and what it came to.
const WORDS: usize = 3;

/// Answers found before.
pub(super) struct Seen {
    /// For each set its numbers, the youngest first; zeros where there is none. Plain words, so that the system gives
    /// memory only for what is in use.
    words: Vec<u64>,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self { words: vec![0; SETS * TOGETHER * WORDS] }
    }

    fn set(dialled: Dialled) -> std::ops::Range<usize> {
        let [low, high] = dialled.words();
        // Fibonacci hashing: the highest bits of the product depend on all digits.
        let mixed = (low ^ high.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let set = usize::try_from(mixed >> (u64::BITS - SETS.trailing_zeros())).unwrap_or(0);
        let start = set * TOGETHER * WORDS;
        start..start + TOGETHER * WORDS
    }

    /// What this number came to, if that is still known.
    pub(super) fn get(&self, dialled: Dialled) -> Option<Answer> {
        let words = dialled.words();
        let set = &self.words[Self::set(dialled)];
        set.as_chunks::<WORDS>()
            .0
            .iter()
            .find(|[low, high, _]| [*low, *high] == words)
            .map(|found| Answer(found[2]))
    }

    /// Keeps it, in place of the eldest of its set.
    pub(super) fn keep(&mut self, dialled: Dialled, Answer(answer): Answer) {
        let [low, high] = dialled.words();
        let set = &mut self.words[Self::set(dialled)];
        set.rotate_right(WORDS);
        set[..WORDS].copy_from_slice(&[low, high, answer]);
    }
}

impl std::fmt::Debug for Seen {
    /// Numbers are private.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_bounded_and_forgets_nothing_recent() {
        let mut seen = Seen::new();
        let (words, answer) = (seen.words.len(), Answer::new(Some("+4930901820")));
        let number = |n: usize| Dialled::read(&format!("{:09}", n + 1_000_000)).expect("nine digits");
        for n in 0..SETS * TOGETHER * 3 {
            seen.keep(number(n), answer);
        }
        assert_eq!(seen.words.len(), words);
        let last = SETS * TOGETHER * 3 - SETS / 2..SETS * TOGETHER * 3;
        assert!(last.clone().filter(|n| seen.get(number(*n)) == Some(answer)).count() > last.len() * 9 / 10);
        assert_eq!(seen.get(number(SETS * TOGETHER * 3)), None);
    }

    #[test]
    fn numbers_that_differ_only_in_leading_zeros_or_plus_are_different() {
        let mut seen = Seen::new();
        seen.keep(Dialled::read("0309018200").expect("ten digits"), Answer::new(None));
        for other in ["309018200", "00309018200", "+0309018200"] {
            assert_eq!(seen.get(Dialled::read(other).expect("enough digits")), None, "{other}");
        }
        assert_eq!(seen.get(Dialled::read("030 / 9018200").expect("ten digits")), Some(Answer::new(None)));
    }

    proptest! {
        #[test]
        fn digits_come_back(plus in any::<bool>(), digits in "[0-9]{7,20}") {
            let text = format!("{}{digits}", if plus { "+" } else { "" });
            prop_assert_eq!(Dialled::read(&text).map(Dialled::text), Some(text));
        }

        #[test]
        fn answers_come_back(digits in "[0-9]{7,15}") {
            let (e164, mut out) = (format!("+{digits}"), "x".to_owned());
            prop_assert!(Answer::new(Some(&e164)).write(&mut out));
            prop_assert_eq!(out, format!("x{e164}"));
        }
    }
}
