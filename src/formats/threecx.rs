//! 3CX call detail records as its CDR service writes them to a file (v16 to v20): one line for each call, in the order of
//! fields that an administrator chose.
//!
//! Must never guess an order: only the full list and its shorter form of older versions are known by their content.

use super::dates::is_time;
use super::sheet::{Cells, Order, Sheet, is_length, is_time_or_blank, none_skipped};
use crate::record::card::{Card, Evidence, Family, Match, Told, Topic};
use crate::record::cdr::{Direction, Disposition};
use crate::record::document::{LengthUnit, ZoneRule};
use crate::record::field::Field;
use std::sync::OnceLock;

const fn family(name: &'static str, minute: bool) -> Family {
    Family {
        name,
        matched: &[Match::Text(Field::RecordId), Match::Text(Field::UniqueId), Match::Time(Field::Start)],
        sure: None,
        instance: None,
        exact: &[Field::CallerNumber, Field::CalleeNumber, Field::Channel, Field::DstChannel, Field::End],
        near: &[Field::Talk],
        minute,
        events: &[],
    }
}

static CARD: Card = Card {
    id: "3cx-cdr",
    system: "3cx",
    title: "3CX CDR file",
    version: 1,
    evidence: Evidence::Seen,
    versions: &[
        ("all 27 fields in the usual order (v18, v20)", Evidence::Seen),
        ("20 fields, up to chain (v16)", Evidence::Documented),
    ],
    notes: &[
        (Topic::Specification, "3CX, CDR guide; the fields of the template in the console"),
        (Topic::Zone, "UTC"),
        (
            Topic::Identity,
            "historyid and callid together: callid alone comes again. Neither is promised to be unique for a line, so that lines \
             of one pair whose parties or end differ are legs of their own",
        ),
        (
            Topic::Legs,
            "one line for each call; chain names all who took part, final-number who had it at last",
        ),
        (
            Topic::Quirk,
            "nothing is quoted: a comma in a display name makes a field too many, and the line is rejected",
        ),
        (Topic::Quirk, "extensions are written Ext.100; they are read without Ext."),
        (
            Topic::Quirk,
            "not answered is told by the blank time-answered alone; words differ from version to version",
        ),
        (
            Topic::Quirk,
            "another order or choice of fields is described in a [[format]]: header = false, width, numbers",
        ),
        (
            Topic::Sending,
            "Settings, CDR: output to a single file or one for each call, all fields in the order in which they are listed; send \
             the folder by SFTP, or follow the single file with mode = \"append\"",
        ),
    ],
    outcome: Told::Answer,
    fidelity: 60,
    headers: &[
        ("historyid", Field::RecordId),
        ("callid", Field::UniqueId),
        ("duration", Field::Talk),
        ("timestart", Field::Start),
        ("timeanswered", Field::Answer),
        ("timeend", Field::End),
        ("reasonterminated", Field::HangupText),
        ("fromno", Field::CallerNumber),
        ("tono", Field::CalleeNumber),
        ("fromdn", Field::Channel),
        ("todn", Field::DstChannel),
        ("dialno", Field::DialledNumber),
        ("finalnumber", Field::AnsweredBy),
        ("billcode", Field::AccountCode),
        ("billcost", Field::Cost),
        ("fromdispname", Field::CallerName),
        ("todispname", Field::CalleeName),
        ("legdirection", Field::CallType),
    ],
    families: &[family("3cx", false), family("3cx-minute", true)],
    links: &[],
    dispositions: &[
        ("TERMINATEDBYSRC", Disposition::NoAnswer),
        ("TERMINATEDBYDST", Disposition::NoAnswer),
        ("SRC_PARTICIPANT_TERMINATED", Disposition::NoAnswer),
        ("DST_PARTICIPANT_TERMINATED", Disposition::NoAnswer),
        ("NO_ANSWER", Disposition::NoAnswer),
        ("FAILED_NOANSWER", Disposition::NoAnswer),
        ("BUSY", Disposition::Busy),
        ("LINE_BUSY", Disposition::Busy),
        ("FAILED_BUSY", Disposition::Busy),
        ("REJECTED", Disposition::Failed),
        ("NO_ROUTE", Disposition::Failed),
        ("FAILED", Disposition::Failed),
    ],
    directions: &[
        ("INBOUND", Direction::Inbound),
        ("OUTBOUND", Direction::Outbound),
        ("INTERNAL", Direction::Internal),
        ("TRANSIT", Direction::Transit),
    ],
    contexts: &[],
    voicemail: &[],
    bracketed: &[],
    recording_separator: ',',
    epoch_in: None,
};

const FIELDS: [&str; 27] = [
    "historyid",
    "callid",
    "duration",
    "time-start",
    "time-answered",
    "time-end",
    "reason-terminated",
    "from-no",
    "to-no",
    "from-dn",
    "to-dn",
    "dial-no",
    "reason-changed",
    "final-number",
    "final-dn",
    "bill-code",
    "bill-rate",
    "bill-cost",
    "bill-name",
    "chain",
    "from-type",
    "to-type",
    "final-type",
    "from-dispname",
    "to-dispname",
    "final-dispname",
    "missed-queue-calls",
];

/// The CDR file.
pub(super) static CDR: &Sheet = &CDR_SHEET;

static CDR_SHEET: Sheet = Sheet {
    card: &CARD,
    separators: &[',', ';', '\t'],
    quote: None,
    header: &[],
    orders: &[
        Order { name: "27 fields", columns: &FIELDS },
        Order { name: "20 fields", columns: FIELDS.split_at(20).0 },
    ],
    checks: &[
        ("historyid", |text| !text.is_empty() && is_number(text.strip_prefix("Call ").unwrap_or(text))),
        ("callid", |text| !text.is_empty() && !text.contains(['/', ' '])),
        ("duration", |text| text.is_empty() || (text.contains(':') && is_length(text))),
        ("timestart", is_time),
        ("timeanswered", is_time_or_blank),
        ("timeend", is_time_or_blank),
        ("reasonterminated", is_word),
        ("reasonchanged", is_word),
        ("chain", |text| text.is_empty() || text.starts_with("Chain:")),
        ("fromtype", is_word),
        ("totype", is_word),
        ("finaltype", is_word),
    ],
    zone: ZoneRule::Utc,
    times: &[],
    lengths: LengthUnit::Seconds,
    clean: Some(|text| text.strip_prefix("Ext.").unwrap_or(text)),
    made: &[("leg direction", direction)],
    skip: none_skipped,
    advice: "have all fields written in the order in which the console lists them",
    known: OnceLock::new(),
};

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Where the call came from and went to, by the types of both ends. Blank where they do not tell.
fn direction(cells: &Cells<'_>) -> String {
    let is_line = |text: &str| match text.to_ascii_lowercase().as_str() {
        "line" | "externalline" | "external_line" | "provider" => Some(true),
        "extension" | "queue" | "ivr" | "vmail" | "ringgroup" | "ring_group" | "voicemail" => Some(false),
        _ => None,
    };
    match (is_line(&cells.get("fromtype")), is_line(&cells.get("totype"))) {
        (Some(true), Some(false)) => "INBOUND",
        (Some(false), Some(true)) => "OUTBOUND",
        (Some(false), Some(false)) => "INTERNAL",
        (Some(true), Some(true)) => "TRANSIT",
        _ => "",
    }
    .to_owned()
}
