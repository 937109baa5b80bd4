//! JSON of the CDR API (`action=cdrapi`, `/cdrapi?format=json`), in every envelope and nesting that devices send.
//!
//! Must never claim another system's objects: some have some members of a leg, none has all.

use super::legs::{LEG_PER_VALUE, Reader, is_leg};
use super::{API_HEADERS, BRACKETED, CONTEXTS, DIRECTIONS, DISPOSITIONS, FAMILIES, LINKS, SYSTEM, VOICEMAIL};
use crate::formats::syntax::encoding;
use crate::formats::syntax::json::{Event, Json, Kind};
use crate::formats::{Claim, Format, Head, RowReader, Verdict};
use crate::record::card::{Card, Evidence, Told};
use crate::record::document::{Dialect, Encoding};
use crate::record::field::Field;
use std::io::Read;

/// The format.
pub struct CdrapiJson;

static CARD: Card = Card {
    id: "grandstream-cdrapi-json",
    system: SYSTEM,
    title: "Grandstream UCM, JSON of the CDR API",
    version: 1,
    evidence: Evidence::Seen,
    versions: &[],
    notes: &[],
    outcome: Told::Word,
    fidelity: 90,
    headers: API_HEADERS,
    families: FAMILIES,
    links: LINKS,
    dispositions: DISPOSITIONS,
    directions: DIRECTIONS,
    contexts: CONTEXTS,
    voicemail: VOICEMAIL,
    bracketed: BRACKETED,
    recording_separator: '@',
    epoch_in: Some(Field::UniqueId),
};

/// What a member of a leg is called.
pub(super) fn field_of(key: &str) -> Option<Field> {
    CARD.field_of(key)
}

impl Format for CdrapiJson {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn recognise(&self, head: &Head<'_>) -> Verdict {
        let encoding = encoding::detect(head.bytes);
        let marks = match Marks::of(head, encoding) {
            Ok(marks) => marks,
            Err(why) => return Verdict::refused(why),
        };
        let (certainty, generation, why) = match (&marks.leg, &marks.envelope, &marks.status) {
            (Some(leg), envelope, _) => {
                let generation = match (envelope, leg.outermost) {
                    (Some(envelope), _) => format!("envelope {envelope}"),
                    (None, true) => LEG_PER_VALUE.to_owned(),
                    (None, false) => "bare array".to_owned(),
                };
                (90, generation, "an object has AcctId, src, dst, start and more of a UCM leg")
            }
            (None, Some(envelope), None | Some(0)) if marks.empty => {
                let certainty = if envelope == "cdr_root" { 80 } else { 50 };
                (certainty, format!("envelope {envelope}"), "an answer without calls")
            }
            (None, _, Some(status)) => {
                return Verdict::refused(format!("an API answer with status {status} and no calls"));
            }
            (None, _, None) => return Verdict::refused("no object has AcctId, src, dst and start"),
        };
        let why = format!("{why}: {generation}");
        Verdict::Claimed(Claim {
            certainty,
            why,
            dialect: Dialect { encoding, generation, ..Dialect::default() },
        })
    }

    fn open<'a>(&self, dialect: &Dialect, input: Box<dyn Read + 'a>) -> Box<dyn RowReader + 'a> {
        Box::new(Reader::new(Json::new(input, dialect.encoding), &CARD, dialect))
    }
}

/// What the head of a document shows.
#[derive(Default)]
struct Marks {
    leg: Option<LegMark>,
    /// The member of the envelope that holds the calls.
    envelope: Option<String>,
    /// That member is an empty array or null.
    empty: bool,
    status: Option<i64>,
}

struct LegMark {
    outermost: bool,
}

impl Marks {
    fn of(head: &Head<'_>, encoding: Encoding) -> std::result::Result<Self, &'static str> {
        let mut json = Json::new(Box::new(head.bytes), encoding);
        let mut marks = Self::default();
        let mut names: Vec<Vec<Field>> = Vec::new();
        let (mut key, mut opened, mut envelope_depth) = (String::new(), false, usize::MAX);
        while let Ok(Some(event)) = json.read() {
            match event {
                Event::Begin(kind) => {
                    marks.empty &= names.len() < envelope_depth;
                    if kind == Kind::Array
                        && marks.envelope.is_none()
                        && matches!(key.as_str(), "cdr_root" | "cdr")
                    {
                        marks.envelope = Some(key.clone());
                        marks.empty = true;
                        envelope_depth = names.len() + 1;
                    }
                    opened = true;
                    names.push(Vec::new());
                    key.clear();
                }
                Event::End(_) => {
                    let seen = names.pop().unwrap_or_default();
                    if is_leg(&seen) && marks.leg.is_none() {
                        marks.leg = Some(LegMark { outermost: json.depth() == 0 });
                    }
                }
                Event::Key => {
                    json.text().clone_into(&mut key);
                    names.iter_mut().last().into_iter().for_each(|seen| seen.extend(CARD.field_of(&key)));
                }
                Event::Scalar if !opened => return Err("the outermost value is neither object nor array"),
                Event::Scalar if names.len() == envelope_depth => marks.empty = false,
                Event::Scalar if key == "status" && marks.status.is_none() => {
                    marks.status = json.text().parse().ok();
                }
                Event::Null if key == "cdr_root" && marks.envelope.is_none() => {
                    marks.envelope = Some(key.clone());
                    marks.empty = true;
                }
                Event::Broken(_) if !opened => return Err("it is no JSON"),
                Event::Broken(_) if head.complete && marks.leg.is_none() => {
                    // Also the only leg of a document may be broken off.
                    let leg = names.iter().any(|seen| is_leg(seen));
                    marks.leg = leg.then_some(LegMark { outermost: names.len() == 1 });
                }
                Event::Scalar | Event::Null | Event::TooLong | Event::Broken(_) => {}
            }
        }
        if opened { Ok(marks) } else { Err("it holds no JSON object") }
    }
}
