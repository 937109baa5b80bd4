//! Direction words and dial-plan contexts to directions, by the card.
//!
//! Must never guess from numbers alone: how long an extension is differs from PBX to PBX. The one exception is a
//! context for calls from inside, which says nothing about where they go.

use super::disposition::{begins, look_up};
use crate::record::card::Card;
use crate::record::cdr::Direction;
use crate::record::field::Field;
use crate::record::raw::{RawRecord, trimmed};

/// Digits that an extension has at most.
const EXTENSION_DIGITS: usize = 6;

/// The context in which Asterisk and its descendants run calls of the PBX's own phones, wherever they go.
const FROM_INSIDE: &str = "from-internal";

/// Both ends of a leg, as written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parties<'r> {
    pub(super) caller: &'r str,
    pub(super) callee: &'r str,
}

/// The direction, and whether a word was there that the card does not know.
pub(super) fn read(raw: &RawRecord, card: &Card, parties: Parties<'_>) -> (Direction, bool) {
    let word = raw.trimmed(Field::CallType);
    let known = if word.is_empty() { None } else { look_up(card.directions, word) };
    if let Some(direction) = known {
        return (direction, false);
    }
    let context = raw.trimmed(Field::Context);
    let longest = card
        .contexts
        .iter()
        .filter(|(start, _)| begins(context, start))
        .max_by_key(|(start, _)| start.len())
        .map(|(start, direction)| refine(start, *direction, parties));
    (longest.unwrap_or_default(), !word.is_empty())
}

fn refine(start: &str, direction: Direction, parties: Parties<'_>) -> Direction {
    if !begins(start, FROM_INSIDE) {
        return direction;
    }
    if digits(parties.callee) > EXTENSION_DIGITS {
        Direction::Outbound
    } else if digits(parties.caller) <= EXTENSION_DIGITS {
        Direction::Internal
    } else {
        direction
    }
}

/// Digits of a number. A feature code (`*72...`) counts none: it is dialled at the PBX itself, however long it is.
fn digits(number: &str) -> usize {
    let number = trimmed(number);
    if number.starts_with(['*', '#']) {
        return 0;
    }
    number.bytes().filter(u8::is_ascii_digit).count()
}
