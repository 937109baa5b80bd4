//! What a page of the CDR API says to whoever asks for the next one: how many elements it has, which legs, and whether it
//! is an answer at all.
//!
//! Must never decide what a leg becomes: the page itself goes the way of every document.

use super::json;
use crate::formats::syntax::json::{Event, Json, Kind};
use crate::record::document::Encoding;
use crate::record::field::Field;

/// A page.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// `status`, outside or inside of `response`.
    pub status: Option<i64>,
    /// Elements of `cdr_root`: what `offset` and `numRecords` count. Each holds one leg or many.
    pub elements: usize,
    /// The legs, wherever they are nested.
    pub legs: Vec<Leg>,
    /// It is JSON from its beginning to its end, and an object or array.
    pub whole: bool,
}

/// A leg, as far as asking goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// `AcctId`.
    pub id: String,
    /// Its start as written, the device's wall clock.
    pub start: String,
    /// Its end as written.
    pub end: String,
    /// Hash of everything that it says.
    pub content: [u8; 16],
}

/// An object or array that is being read.
#[derive(Default)]
struct Frame {
    holds_calls: bool,
    id: String,
    start: String,
    end: String,
    content: blake3::Hasher,
}

/// Reads a page.
pub fn page(bytes: &[u8]) -> Page {
    let mut json = Json::new(Box::new(bytes), Encoding::Utf8);
    let (mut page, mut frames, mut key) = (Page::default(), Vec::<Frame>::new(), String::new());
    let mut calls_seen = false;
    // What is in memory cannot fail to be read.
    while let Ok(Some(event)) = json.read() {
        let counted = frames.last().is_some_and(|frame| frame.holds_calls);
        match event {
            Event::Begin(kind) => {
                page.elements += usize::from(counted);
                let named = frames.is_empty() || matches!(key.as_str(), "cdr_root" | "cdr");
                let holds_calls = kind == Kind::Array && named && !calls_seen;
                calls_seen |= holds_calls;
                frames.push(Frame { holds_calls, ..Frame::default() });
                key.clear();
            }
            Event::End(_) => {
                let Some(frame) = frames.pop() else { break };
                page.whole = frames.is_empty();
                if !frame.id.trim().is_empty() && !frame.start.trim().is_empty() {
                    page.legs.push(frame.leg());
                }
            }
            Event::Key => json.text().clone_into(&mut key),
            Event::Scalar | Event::Null | Event::TooLong => {
                page.elements += usize::from(counted);
                let text = if event == Event::Scalar { json.text() } else { "" };
                if key == "status" && !calls_seen | (frames.len() == 1) {
                    page.status = page.status.or(text.parse().ok());
                }
                if let Some(frame) = frames.last_mut() {
                    frame.hear(&key, text);
                }
            }
            Event::Broken(_) => {
                page.whole = false;
                break;
            }
        }
    }
    page.whole &= frames.is_empty();
    page
}

impl Frame {
    fn hear(&mut self, key: &str, text: &str) {
        for part in [key, text] {
            self.content.update(&part.len().to_le_bytes());
            self.content.update(part.as_bytes());
        }
        match json::field_of(key) {
            Some(Field::RecordId) => text.clone_into(&mut self.id),
            Some(Field::Start) => text.clone_into(&mut self.start),
            Some(Field::End) => text.clone_into(&mut self.end),
            _ => {}
        }
    }

    fn leg(self) -> Leg {
        let mut content = [0; 16];
        content.copy_from_slice(&self.content.finalize().as_bytes()[..16]);
        Leg { id: self.id, start: self.start, end: self.end, content }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEG: &str = r#"{"AcctId":"7","start":"2026-03-02 09:43:58","end":"2026-03-02 09:44:00","src":"1"}"#;

    fn ids(page: &Page) -> Vec<&str> {
        page.legs.iter().map(|leg| leg.id.as_str()).collect()
    }

    #[test]
    fn legs_are_found_in_every_envelope_and_nesting() {
        for (text, elements, status) in [
            (format!(r#"{{"cdr_root":[{LEG}]}}"#), 1, None),
            (format!(r#"{{"cdr_root":[null,{LEG},{{}}],"status":0}}"#), 3, Some(0)),
            (format!(r#"{{"response":{{"cdr_root":[{LEG}]}},"status":0}}"#), 1, Some(0)),
            (format!(r#"{{"status":"0","cdr":[{LEG}]}}"#), 1, Some(0)),
            (
                format!(
                    r#"{{"cdr_root":[{{"cdr":"","main_cdr":{{"AcctId":"","start":"x"}},"sub_cdr_1":{LEG}}}]}}"#
                ),
                1,
                None,
            ),
            (format!(r#"{{"cdr_root":[{{"main_cdr":{{"sub_cdr_0":[{LEG}]}}}}]}}"#), 1, None),
        ] {
            let page = page(text.as_bytes());
            assert_eq!(
                (page.elements, page.status, page.whole, ids(&page)),
                (elements, status, true, vec!["7"]),
                "{text}"
            );
        }
    }

    #[test]
    fn an_answer_without_calls_is_told_from_none_and_from_half_of_one() {
        for (text, whole, status) in [
            (r#"{"cdr_root":[]}"#, true, None),
            (r#"{"cdr_root":null,"status":0}"#, true, Some(0)),
            (r#"{"response":{},"status":-6}"#, true, Some(-6)),
            (r#"{"response":{"error_msg":"Invalid parameters!","status":-1}}"#, true, Some(-1)),
            ("", false, None),
            ("<html>", false, None),
            ("AcctId,accountcode", false, None),
            (&format!(r#"{{"cdr_root":[{LEG},{}"#, &LEG[..30]), false, None),
        ] {
            let page = page(text.as_bytes());
            assert_eq!((page.whole, page.status), (whole, status), "{text}");
        }
    }

    #[test]
    fn what_a_leg_says_is_its_hash() {
        let of = |text: &str| page(format!("[{text}]").as_bytes()).legs.remove(0).content;
        assert_eq!(of(LEG), of(&LEG.replace(',', " , ")));
        assert_ne!(of(LEG), of(&LEG.replace(r#""src":"1""#, r#""src":"2""#)));
    }
}
