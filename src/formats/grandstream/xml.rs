//! XML of the CDR API (`format=xml`): the members of the JSON answer as elements, in whatever envelope.
//!
//! Must never go by the names of the elements that hold legs: no document says them. An element that holds AcctId, src, dst
//! and start is a leg, whatever it is called.

use super::legs::{Reader, is_leg};
use super::{API_HEADERS, BRACKETED, CONTEXTS, DIRECTIONS, DISPOSITIONS, FAMILIES, LINKS, SYSTEM, VOICEMAIL};
use crate::formats::enclosure::Enclosure;
use crate::formats::syntax::encoding;
use crate::formats::syntax::json::Event;
use crate::formats::syntax::xml::Xml;
use crate::formats::{Claim, Format, Head, RowReader, Verdict};
use crate::record::card::{Card, Evidence, Told};
use crate::record::document::{Dialect, Encoding};
use crate::record::field::Field;
use std::io::Read;

/// The format.
pub struct CdrapiXml;

static CARD: Card = Card {
    id: "grandstream-cdrapi-xml",
    system: SYSTEM,
    title: "Grandstream UCM, XML of the CDR API",
    version: 1,
    evidence: Evidence::Documented,
    versions: &[],
    notes: &[],
    outcome: Told::Word,
    fidelity: 85,
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

impl Format for CdrapiXml {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn recognise(&self, head: &Head<'_>) -> Verdict {
        if encoding::detect(head.bytes) != Encoding::Utf8 {
            return Verdict::refused("it is UTF-16, in which no device writes XML");
        }
        let begins = usize::try_from(encoding::mark(Encoding::Utf8, head.bytes)).unwrap_or(0);
        let first = head.bytes[begins..].iter().find(|byte| !byte.is_ascii_whitespace());
        if first != Some(&b'<') {
            return Verdict::refused("it is no XML");
        }
        let seen = Seen::of(head);
        let (certainty, why) = match seen.root.as_str() {
            _ if seen.leg => (90, "an element has AcctId, src, dst, start and more of a UCM leg"),
            // As in JSON: an answer without calls is an answer.
            "cdr_root" if seen.empty => (80, "an answer without calls"),
            _ => return Verdict::refused("no element has AcctId, src, dst and start"),
        };
        let generation = format!("envelope {}", crate::record::delivery::printable(seen.root.as_bytes()));
        let why = format!("{why}: {generation}");
        Verdict::Claimed(Claim { certainty, why, dialect: Dialect { generation, ..Dialect::default() } })
    }

    fn enclosure(&self, _: &Dialect) -> Enclosure {
        Enclosure::element("cdr_root")
    }

    fn open<'a>(&self, dialect: &Dialect, input: Box<dyn Read + 'a>) -> Box<dyn RowReader + 'a> {
        Box::new(Reader::new(Xml::new(input), &CARD, dialect))
    }
}

/// What the head of a document shows.
#[derive(Default)]
struct Seen {
    /// Name of the outermost element.
    root: String,
    leg: bool,
    /// The outermost element holds nothing.
    empty: bool,
}

impl Seen {
    fn of(head: &Head<'_>) -> Self {
        let mut xml = Xml::new(Box::new(head.bytes));
        let mut seen = Self { empty: true, ..Self::default() };
        let mut members: Vec<Vec<Field>> = Vec::new();
        while let Ok(Some(event)) = xml.read() {
            if seen.root.is_empty() {
                xml.element().clone_into(&mut seen.root);
            }
            match event {
                Event::Begin(_) => members.push(Vec::new()),
                Event::End(_) => {
                    seen.leg |= members.pop().is_some_and(|members| is_leg(&members));
                }
                Event::Key => {
                    seen.empty = false;
                    members.last_mut().into_iter().for_each(|seen| seen.extend(CARD.field_of(xml.text())));
                }
                // Also the only leg of a document may be broken off.
                Event::Broken(_) => {
                    seen.leg |= head.complete && members.iter().any(|members| is_leg(members));
                }
                Event::Scalar | Event::Null | Event::TooLong => {}
            }
        }
        seen
    }
}
