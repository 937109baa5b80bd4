//! Webex Calling: the "Detailed Call History" report of Control Hub as CSV.
//!
//! Must never read columns by their place: they are appended over time, and a report may leave some out.

use super::sheet::{Cells, Sheet, is_length, none_skipped};
use crate::record::card::{Card, Evidence, Family, Link, Match, Told, Topic};
use crate::record::cdr::{Direction, Disposition, TextColumn};
use crate::record::document::{LengthUnit, ZoneRule};
use crate::record::field::Field;
use std::sync::OnceLock;

const fn family(name: &'static str, minute: bool) -> Family {
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

static CARD: Card = Card {
    id: "webex-calling-csv",
    system: "webex-calling",
    title: "Webex Calling, Detailed Call History (CSV)",
    version: 1,
    evidence: Evidence::Documented,
    versions: &[(
        "83 columns, and any choice of them that has Report ID and Start time",
        Evidence::Documented,
    )],
    notes: &[
        (
            Topic::Specification,
            "Cisco, Control Hub report templates, Detailed Call History; the names are those of the cdr_feed API",
        ),
        (Topic::Zone, "UTC, written with Z"),
        (
            Topic::Identity,
            "Report ID is made for de-duplication: one for each record, the same in every report and in the API. Start time \
             beside it only leads keys by the day",
        ),
        (
            Topic::Legs,
            "every call gives an ORIGINATING and a TERMINATING record, hunt groups and queues one for each agent; Correlation ID \
             joins them",
        ),
        (
            Topic::Legs,
            "forwards show in Redirecting number with Redirect reason, transfers in Transfer related call ID",
        ),
        (Topic::Quirk, "NA and a blank both say nothing"),
        (
            Topic::Quirk,
            "direction is that of the call where Call type tells it, else unknown: Direction is that of the record",
        ),
        (
            Topic::Sending,
            "Control Hub, Reports, Detailed Call History: download, and drop the file (also zipped) in a watched folder",
        ),
    ],
    outcome: Told::Word,
    fidelity: 70,
    headers: &[
        ("reportid", Field::UniqueId),
        ("correlationid", Field::LinkedId),
        ("starttime", Field::Start),
        ("answertime", Field::Answer),
        ("releasetime", Field::End),
        ("duration", Field::Talk),
        ("ringduration", Field::Ring),
        ("callingnumber", Field::CallerNumber),
        ("callednumber", Field::CalleeNumber),
        ("callinglineid", Field::CallerName),
        ("calledlineid", Field::CalleeName),
        ("dialeddigits", Field::DialledNumber),
        ("redirectingnumber", Field::RedirectingNumber),
        ("user", Field::UserName),
        ("usernumber", Field::Extension),
        ("location", Field::Location),
        ("inboundtrunk", Field::TrunkIn),
        ("outboundtrunk", Field::TrunkOut),
        ("authorizationcode", Field::AccountCode),
        ("releasingparty", Field::ReleasedBy),
        ("calloutcomereason", Field::HangupText),
        ("calltype", Field::CallType),
        ("outcome", Field::Disposition),
    ],
    families: &[family("webex-calling", false), family("webex-calling-minute", true)],
    links: &[Link { kind: "correlation", column: TextColumn::LinkedId }],
    dispositions: &[
        ("ANSWERED", Disposition::Answered),
        ("NORMAL", Disposition::NoAnswer),
        ("SUCCESS", Disposition::NoAnswer),
        ("NOANSWER", Disposition::NoAnswer),
        ("USERBUSY", Disposition::Busy),
        ("BUSY", Disposition::Busy),
        ("REFUSAL", Disposition::Failed),
        ("FAILURE", Disposition::Failed),
        ("CALLREJECTED", Disposition::Failed),
        ("UNASSIGNEDNUMBER", Disposition::Failed),
    ],
    directions: &[
        ("SIP_ENTERPRISE", Direction::Internal),
        ("SIP_INBOUND", Direction::Inbound),
        ("SIP_NATIONAL", Direction::Outbound),
        ("SIP_INTERNATIONAL", Direction::Outbound),
        ("SIP_MOBILE", Direction::Outbound),
        ("SIP_TOLLFREE", Direction::Outbound),
        ("SIP_PREMIUM", Direction::Outbound),
        ("SIP_SHAREDCOST", Direction::Outbound),
        ("SIP_OPERATOR", Direction::Outbound),
        ("SIP_EMERGENCY", Direction::Outbound),
    ],
    contexts: &[],
    voicemail: &[],
    bracketed: &[],
    recording_separator: ',',
    epoch_in: None,
};

/// The report.
pub(super) static DETAILED_CALL_HISTORY: &Sheet = &DETAILED_CALL_HISTORY_SHEET;

static DETAILED_CALL_HISTORY_SHEET: Sheet = Sheet {
    card: &CARD,
    separators: &[',', ';', '\t'],
    quote: Some('"'),
    header: &["starttime", "correlationid", "callingnumber", "callednumber", "answered"],
    orders: &[],
    checks: &[
        ("starttime", super::dates::is_time),
        ("answertime", super::sheet::is_time_or_blank),
        ("releasetime", super::sheet::is_time_or_blank),
        ("duration", is_length),
        ("ringduration", is_length),
        ("answered", |text| {
            ["", "true", "false", "yes", "no"].iter().any(|known| known.eq_ignore_ascii_case(text))
        }),
    ],
    zone: ZoneRule::Utc,
    times: &[],
    lengths: LengthUnit::Seconds,
    clean: Some(|text| if text.trim() == "NA" { "" } else { text }),
    made: &[("outcome", outcome)],
    skip: none_skipped,
    advice: "download the report with Report ID and Start time",
    known: OnceLock::new(),
};

/// Answered, or the reason why not.
fn outcome(cells: &Cells<'_>) -> String {
    let answered = cells.get("answered").to_ascii_lowercase();
    if matches!(&*answered, "true" | "yes") {
        return "ANSWERED".to_owned();
    }
    let reason = cells.get("calloutcomereason");
    if reason.is_empty() { cells.get("calloutcome").into_owned() } else { reason.into_owned() }
}
