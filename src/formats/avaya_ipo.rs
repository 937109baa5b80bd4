//! Avaya IP Office SMDR: one line for each segment of a call, without header, or with the header that capture tools write.
//!
//! Must never take the call id for unique: it repeats over the segments of a call and after a restart.

use super::dates::is_time;
use super::sheet::{Cells, Order, Sheet, is_length, none_skipped};
use crate::record::card::{Card, Evidence, Family, Link, Match, Told, Topic};
use crate::record::cdr::{Direction, TextColumn};
use crate::record::document::{LengthUnit, ZoneRule};
use crate::record::field::Field;
use std::sync::OnceLock;

const fn family(name: &'static str, minute: bool) -> Family {
    Family {
        name,
        matched: &[
            Match::Text(Field::UniqueId),
            Match::Time(Field::Start),
            Match::Text(Field::Channel),
            Match::Text(Field::DstChannel),
        ],
        sure: None,
        instance: None,
        exact: &[Field::CallerNumber, Field::CalleeNumber, Field::DialledNumber, Field::AccountCode],
        near: &[Field::Talk, Field::Ring],
        minute,
        events: &[],
    }
}

static CARD: Card = Card {
    id: "avaya-ip-office-smdr",
    system: "avaya-ip-office",
    title: "Avaya IP Office SMDR",
    version: 1,
    evidence: Evidence::Seen,
    versions: &[
        ("34 and 35 fields without header (R9 to R11)", Evidence::Seen),
        ("30 and 37 fields without header", Evidence::Documented),
        ("header of a capture tool", Evidence::Documented),
    ],
    notes: &[
        (Topic::Specification, "Avaya, IP Office SMDR, SMDR fields"),
        (Topic::Zone, "wall clock of the system"),
        (
            Topic::Identity,
            "the call id with the start and both devices: the id repeats over the segments of a call and begins again after a \
             restart. Segments between the same devices differ in their parties or their lengths; equal lines of one file are as \
             many segments",
        ),
        (
            Topic::Legs,
            "a line for each segment, written when it ends, so that lines are out of order; all segments of a call have its \
             call id and its start. Continuation 1 says that another follows",
        ),
        (Topic::Quirk, "Connected Time is how long it was connected: 00:00:00 is a call that nobody took"),
        (Topic::Quirk, "Direction is that of the trunk; Is Internal 1 makes a call internal"),
        (
            Topic::Sending,
            "Manager, System, SMDR: output SMDR only, to the address and port of a capture tool that writes lines to a file in a \
             watched folder",
        ),
    ],
    outcome: Told::Answer,
    fidelity: 60,
    headers: &[
        ("callstart", Field::Start),
        ("connectedtime", Field::Talk),
        ("ringtime", Field::Ring),
        ("caller", Field::CallerNumber),
        ("callednumber", Field::CalleeNumber),
        ("dialednumber", Field::DialledNumber),
        ("diallednumber", Field::DialledNumber),
        ("account", Field::AccountCode),
        ("callid", Field::UniqueId),
        ("party1device", Field::Channel),
        ("party1name", Field::UserName),
        ("party2device", Field::DstChannel),
        ("callcharge", Field::Cost),
        ("currency", Field::Currency),
        ("legdirection", Field::CallType),
        ("session", Field::LinkedId),
    ],
    families: &[family("avaya-ip-office", false), family("avaya-ip-office-minute", true)],
    links: &[Link { kind: "call", column: TextColumn::LinkedId }],
    dispositions: &[],
    directions: &[("I", Direction::Inbound), ("O", Direction::Outbound), ("INTERNAL", Direction::Internal)],
    contexts: &[],
    voicemail: &[(Field::Channel, "V9"), (Field::DstChannel, "V9")],
    bracketed: &[],
    recording_separator: ',',
    epoch_in: None,
};

const FIELDS: [&str; 37] = [
    "Call Start",
    "Connected Time",
    "Ring Time",
    "Caller",
    "Call Direction",
    "Called Number",
    "Dialled Number",
    "Account",
    "Is Internal",
    "Call ID",
    "Continuation",
    "Party1Device",
    "Party1Name",
    "Party2Device",
    "Party2Name",
    "Hold Time",
    "Park Time",
    "AuthValid",
    "AuthCode",
    "User Charged",
    "Call Charge",
    "Currency",
    "Amount at Last User Change",
    "Call Units",
    "Units at Last User Change",
    "Cost per Unit",
    "Mark Up",
    "External Targeting Cause",
    "External Targeter Id",
    "External Targeted Number",
    "Calling Party Server IP",
    "Unique Call ID Caller",
    "Called Party Server IP",
    "Unique Call ID Called",
    "SMDR Record Time",
    "Caller Consent Directive",
    "Calling Number Verification",
];

/// SMDR.
pub(super) static SMDR: &Sheet = &SMDR_SHEET;

static SMDR_SHEET: Sheet = Sheet {
    card: &CARD,
    separators: &[',', ';', '\t'],
    quote: Some('"'),
    header: &["callstart", "connectedtime", "ringtime", "callid", "party1device", "party2device"],
    orders: &[
        Order { name: "30 fields", columns: FIELDS.split_at(30).0 },
        Order { name: "34 fields", columns: FIELDS.split_at(34).0 },
        Order { name: "35 fields", columns: FIELDS.split_at(35).0 },
        Order { name: "37 fields", columns: &FIELDS },
    ],
    checks: &[
        ("callstart", is_time),
        ("connectedtime", |text| text.contains(':') && is_length(text)),
        ("ringtime", |text| !text.is_empty() && is_length(text)),
        ("calldirection", |text| matches!(text, "I" | "O")),
        ("isinternal", is_flag),
        ("callid", |text| !text.is_empty() && is_length(text)),
        ("continuation", is_flag),
        ("party1device", is_device),
        ("party2device", is_device),
        ("holdtime", is_length),
        ("parktime", is_length),
        ("uniquecallidcalled", |text| !text.contains(':')),
        ("smdrrecordtime", is_time),
    ],
    zone: ZoneRule::Origin,
    times: &[],
    lengths: LengthUnit::Seconds,
    clean: None,
    made: &[("leg direction", direction), ("session", session)],
    skip: none_skipped,
    advice: "have it captured with call id, start and both devices",
    known: OnceLock::new(),
};

fn is_flag(text: &str) -> bool {
    matches!(text, "" | "0" | "1")
}

/// A letter, or a word of a capture tool, and a number; nothing where no second party was.
fn is_device(text: &str) -> bool {
    text.is_empty() || text.starts_with(|first: char| first.is_ascii_alphabetic())
}

/// The segments of a call share its id and start; the id alone comes again after a restart.
fn session(cells: &Cells<'_>) -> String {
    format!("{}/{}", cells.get("callid"), cells.get("callstart"))
}

fn direction(cells: &Cells<'_>) -> String {
    if cells.get("isinternal") == "1" {
        return "INTERNAL".to_owned();
    }
    let stated = cells.get("calldirection");
    if stated.is_empty() { cells.get("direction").into_owned() } else { stated.into_owned() }
}
