//! Microsoft Teams: the PSTN usage reports of the admin centre as CSV, Calling Plans and Direct Routing.
//!
//! Must never take the call id for unique: Microsoft says that it is not. Numbers may be masked and stay as they are.

use super::sheet::{Cells, Sheet, is_length, is_time_or_blank, none_skipped};
use crate::record::card::{Card, Evidence, Family, Link, Match, Told, Topic};
use crate::record::cdr::{Direction, TextColumn};
use crate::record::document::{LengthUnit, ZoneRule};
use crate::record::field::Field;
use std::sync::OnceLock;

const fn plan(name: &'static str, minute: bool) -> Family {
    Family {
        name,
        matched: &[Match::Text(Field::UniqueId), Match::Time(Field::Start)],
        sure: Some(Field::UniqueId),
        instance: None,
        exact: &[],
        near: &[],
        minute,
        events: &[],
    }
}

const fn routed(name: &'static str, minute: bool) -> Family {
    Family {
        name,
        matched: &[
            Match::Text(Field::LinkedId),
            Match::Time(Field::Start),
            Match::Text(Field::CallerNumber),
            Match::Text(Field::CalleeNumber),
        ],
        sure: None,
        instance: None,
        exact: &[Field::CallType, Field::End, Field::UserName],
        near: &[Field::Talk],
        minute,
        events: &[],
    }
}

const DIRECTIONS: &[(&str, Direction)] = &[
    ("USER_IN", Direction::Inbound),
    ("CONF_IN", Direction::Inbound),
    ("UCAP_IN", Direction::Inbound),
    ("USER_OUT", Direction::Outbound),
    ("USER_OUT_CONF", Direction::Outbound),
    ("USER_OUT_TRANSFER", Direction::Outbound),
    ("USER_OUT_FORWARDING", Direction::Outbound),
    ("CONF_OUT", Direction::Outbound),
    ("UCAP_OUT", Direction::Outbound),
    ("DR_IN", Direction::Inbound),
    ("DR_IN_UCAP", Direction::Inbound),
    ("DR_OUT", Direction::Outbound),
    ("DR_OUT_USER_CONF", Direction::Outbound),
    ("DR_OUT_USER_FORWARDING", Direction::Outbound),
    ("DR_OUT_USER_TRANSFER", Direction::Outbound),
    ("DR_OUT_UCAP", Direction::Outbound),
    ("DR_EMERGENCY_OUT", Direction::Outbound),
];

static PSTN_CARD: Card = Card {
    id: "teams-pstn-csv",
    system: "microsoft-teams",
    title: "Microsoft Teams, PSTN usage (Calling Plans)",
    version: 1,
    evidence: Evidence::Documented,
    versions: &[("export with UsageId", Evidence::Documented)],
    notes: &[
        (
            Topic::Specification,
            "Microsoft Learn, PSTN usage report; Graph pstnCallLogRow says what is unique",
        ),
        (Topic::Zone, "UTC"),
        (
            Topic::Identity,
            "UsageId, the id of the row: Microsoft says of the call id that it is not guaranteed to be unique",
        ),
        (
            Topic::Legs,
            "a row for each charged leg; transfers and forwards have a row of their own, of type user_out_transfer",
        ),
        (Topic::Quirk, "an outcome is not written: a row without duration is a call that nobody took"),
        (
            Topic::Sending,
            "Teams admin centre, Analytics, Usage reports, PSTN usage: download and drop the file, also zipped",
        ),
    ],
    outcome: Told::Answer,
    fidelity: 60,
    headers: &[
        ("usageid", Field::UniqueId),
        ("callid", Field::LinkedId),
        ("starttime", Field::Start),
        ("endtime", Field::End),
        ("durationseconds", Field::Talk),
        ("callerid", Field::CallerNumber),
        ("destinationnumber", Field::CalleeNumber),
        ("calltype", Field::CallType),
        ("userdisplayname", Field::UserName),
        ("userlocation", Field::Location),
        ("charge", Field::Cost),
        ("currency", Field::Currency),
    ],
    families: &[plan("teams-pstn", false), plan("teams-pstn-minute", true)],
    links: &[Link { kind: "call", column: TextColumn::LinkedId }],
    dispositions: &[],
    directions: DIRECTIONS,
    contexts: &[],
    voicemail: &[],
    bracketed: &[],
    recording_separator: ',',
    epoch_in: None,
};

/// Calling Plans.
pub(super) static PSTN: &Sheet = &PSTN_SHEET;

static PSTN_SHEET: Sheet = Sheet {
    card: &PSTN_CARD,
    separators: &[',', ';', '\t'],
    quote: Some('"'),
    header: &["calltype", "starttime", "durationseconds", "destinationnumber", "callerid"],
    orders: &[],
    checks: &[
        ("starttime", super::dates::is_time),
        ("endtime", is_time_or_blank),
        ("durationseconds", is_length),
        ("calltype", is_call_type),
    ],
    zone: ZoneRule::Utc,
    times: &[],
    lengths: LengthUnit::Seconds,
    clean: None,
    made: &[],
    skip: none_skipped,
    advice: "download the report with UsageId and Start Time",
    known: OnceLock::new(),
};

static ROUTED_CARD: Card = Card {
    id: "teams-direct-routing-csv",
    title: "Microsoft Teams, PSTN usage (Direct Routing)",
    versions: &[("export with Correlation ID and Invite time", Evidence::Documented)],
    notes: &[
        (
            Topic::Specification,
            "Microsoft Learn, PSTN usage report, Direct Routing; Graph directRoutingLogRow",
        ),
        (Topic::Zone, "UTC"),
        (
            Topic::Identity,
            "the correlation id, which the legs of a call share, with invite time and both numbers; legs that are equal in all of \
             these differ in type, user or end",
        ),
        (Topic::Legs, "transfers and forwards have rows of their own with the same correlation id"),
        (
            Topic::Quirk,
            "a failed call has a failure time and no end; its start may be that of the invite, so that the invite is taken",
        ),
        (Topic::Quirk, "the last digits of outside numbers may be masked by stars and stay so"),
        (Topic::Quirk, "rows appear 24 to 48 hours after the call"),
        (
            Topic::Sending,
            "Teams admin centre, Analytics, Usage reports, PSTN usage, Direct Routing: download and drop the file",
        ),
    ],
    headers: &[
        ("correlationid", Field::LinkedId),
        ("invitetime", Field::Start),
        ("endtime", Field::End),
        ("duration", Field::Talk),
        ("durationseconds", Field::Talk),
        ("callernumber", Field::CallerNumber),
        ("calleenumber", Field::CalleeNumber),
        ("calltype", Field::CallType),
        ("displayname", Field::UserName),
        ("userdisplayname", Field::UserName),
        ("sbcfqdn", Field::TrunkOut),
        ("cause", Field::HangupCause),
    ],
    families: &[routed("teams-direct-routing", false), routed("teams-direct-routing-minute", true)],
    ..PSTN_CARD
};

/// Direct Routing.
pub(super) static DIRECT_ROUTING: &Sheet = &DIRECT_ROUTING_SHEET;

static DIRECT_ROUTING_SHEET: Sheet = Sheet {
    card: &ROUTED_CARD,
    separators: &[',', ';', '\t'],
    quote: Some('"'),
    header: &["correlationid", "invitetime", "calltype", "callernumber", "calleenumber"],
    orders: &[],
    checks: &[
        ("invitetime", super::dates::is_time),
        ("starttime", is_time_or_blank),
        ("failuretime", is_time_or_blank),
        ("endtime", is_time_or_blank),
        ("duration", is_length),
        ("durationseconds", is_length),
        ("finalsipcode", is_length),
        ("calltype", is_call_type),
    ],
    zone: ZoneRule::Utc,
    times: &[],
    lengths: LengthUnit::Seconds,
    clean: None,
    made: &[("cause", cause)],
    skip: none_skipped,
    advice: "download the report with Correlation ID, Invite time and both numbers",
    known: OnceLock::new(),
};

fn is_call_type(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The Q.850 cause that stands for the final SIP code (RFC 3398).
fn cause(cells: &Cells<'_>) -> String {
    match &*cells.get("finalsipcode") {
        "0" | "200" | "487" => "16",
        "480" => "18",
        "486" | "600" => "17",
        "408" => "19",
        "404" | "604" => "1",
        "403" | "603" => "21",
        "" => "",
        _ => "41",
    }
    .to_owned()
}
