//! Cisco Unified Communications Manager: call detail records (CDR) and the quality reports beside them (CMR), as its
//! repository sends them.
//!
//! Must never read columns by their place where the file names them: releases append and sites reorder.

mod columns;

use super::sheet::{Cells, Order, Sheet, is_uuid, is_whole};
use crate::record::card::{Card, Evidence, Family, Link, Match, Told, Topic};
use crate::record::cdr::TextColumn;
use crate::record::document::{LengthUnit, ZoneRule};
use crate::record::field::Field;
use crate::record::outcome::Skip;
use std::sync::OnceLock;

const BY_PKID: &[Match] = &[Match::Text(Field::UniqueId), Match::Time(Field::Start)];

const fn family(name: &'static str, minute: bool) -> Family {
    Family {
        name,
        matched: BY_PKID,
        sure: Some(Field::UniqueId),
        instance: None,
        exact: &[],
        near: &[],
        minute,
        events: &[],
    }
}

static CDR_CARD: Card = Card {
    id: "cisco-cucm-cdr",
    system: "cisco-cucm",
    title: "Cisco Unified CM, CDR",
    version: 1,
    evidence: Evidence::Seen,
    versions: &[
        ("133 columns with header and type row", Evidence::Seen),
        ("129 columns with header and type row, or without both", Evidence::Seen),
        ("112 and 94 columns", Evidence::Documented),
    ],
    notes: &[
        (
            Topic::Specification,
            "Cisco, Call Reporting and Billing Administration Guide, CDR field descriptions",
        ),
        (Topic::Zone, "all times are seconds since 1970 in UTC; 0 says that it did not happen"),
        (
            Topic::Identity,
            "pkid is a GUID that CUCM makes once for each record; it is the same in a file that is sent again and in every \
             server that gets it. dateTimeOrigination stands beside it only so that keys are led by the day",
        ),
        (
            Topic::Legs,
            "one record for each segment; transfers, conferences and forwards give several with the same call id, which are \
             one call. A call id wraps, so that the day of origination is a part of it: a call whose later legs begin after \
             midnight UTC is two",
        ),
        (
            Topic::Legs,
            "a forwarded call has another finalCalledPartyNumber than originalCalledPartyNumber; lastRedirectDn is who \
                       forwarded it where a reason stands beside it",
        ),
        (
            Topic::Quirk,
            "lastRedirectDn is the called number where nobody forwarded, so that it is no redirecting number then",
        ),
        (Topic::Quirk, "addresses are signed little-endian numbers: origIpAddr 1912717066 is 10.191.1.114"),
        (
            Topic::Quirk,
            "records made for a recorder (redirected on behalf of 27) are no calls and are skipped",
        ),
        (
            Topic::Quirk,
            "calls that were never answered are missing unless \"CDR Log Calls with Zero Duration Flag\" is true",
        ),
        (
            Topic::Quirk,
            "direction stays unknown: nothing in the record tells a trunk from a phone for certain",
        ),
        (
            Topic::Sending,
            "Service Parameters: CDR Enabled Flag true on every node; Unified Serviceability, Tools, CDR Management: add a \
             billing application server (SFTP, host, user, folder) and leave \"Resend on Failure\" on",
        ),
    ],
    outcome: Told::Answer,
    fidelity: 80,
    headers: &[
        ("pkid", Field::UniqueId),
        ("session", Field::LinkedId),
        ("datetimeorigination", Field::Start),
        ("datetimeconnect", Field::Answer),
        ("datetimedisconnect", Field::End),
        ("duration", Field::Talk),
        ("callingpartynumber", Field::CallerNumber),
        ("finalcalledpartynumber", Field::CalleeNumber),
        ("originalcalledpartynumber", Field::DialledNumber),
        ("redirectedby", Field::RedirectingNumber),
        ("callingpartyunicodeloginuserid", Field::UserName),
        ("origdevicename", Field::Channel),
        ("destdevicename", Field::DstChannel),
        ("huntpilotdn", Field::Queue),
        ("clientmattercode", Field::AccountCode),
        ("cause", Field::HangupCause),
        ("clearedby", Field::ReleasedBy),
    ],
    families: &[family("cisco-cucm", false), family("cisco-cucm-minute", true)],
    links: &[Link { kind: "session", column: TextColumn::LinkedId }],
    dispositions: &[],
    directions: &[],
    contexts: &[],
    voicemail: &[],
    bracketed: &[],
    recording_separator: ',',
    epoch_in: None,
};

/// Call detail records.
pub(super) static CDR: &Sheet = &CDR_SHEET;

static CDR_SHEET: Sheet = Sheet {
    card: &CDR_CARD,
    separators: &[',', ';', '\t'],
    quote: Some('"'),
    header: &["globalcallidcallid", "datetimeorigination", "datetimedisconnect", "finalcalledpartynumber"],
    orders: &[
        Order { name: "133 columns", columns: &columns::ALL },
        Order { name: "129 columns", columns: columns::ALL.split_at(129).0 },
        Order { name: "112 columns", columns: columns::ALL.split_at(112).0 },
        Order { name: "94 columns", columns: columns::ALL.split_at(94).0 },
    ],
    checks: &[
        ("cdrrecordtype", |text| text == "1"),
        ("globalcallidcallid", |text| !text.is_empty() && is_whole(text)),
        ("datetimeorigination", is_epoch),
        ("datetimeconnect", is_epoch),
        ("datetimedisconnect", is_epoch),
        ("pkid", is_uuid),
        ("duration", is_whole),
        ("origcausevalue", is_whole),
        ("destcausevalue", is_whole),
        ("joinonbehalfof", is_whole),
        ("origmediacapbandwidth", is_whole),
        ("destmediacapbandwidth", is_whole),
        ("origvideocapcodecchannel2", is_whole),
        ("destvideochannelrolechannel2", is_whole),
        ("incomingprotocolid", is_whole),
        ("calledpartypatternusage", is_whole),
        ("totalwaittimeinqueue", is_whole),
        ("mobilecalltype", is_whole),
    ],
    zone: ZoneRule::Utc,
    times: &["epoch"],
    lengths: LengthUnit::Seconds,
    clean: None,
    made: &[
        ("session", session),
        ("redirectedBy", redirected_by),
        ("cause", |cells| clearing(cells).0),
        ("clearedBy", |cells| clearing(cells).1.to_owned()),
        ("origAddress", |cells| address(&cells.get("origipaddr"))),
        ("destAddress", |cells| address(&cells.get("destipaddr"))),
    ],
    skip: |cells| {
        let recorder = ["origcalledpartyredirectonbehalfof", "lastredirectredirectonbehalfof"];
        let is_recorder = || recorder.into_iter().any(|name| cells.get(name) == "27");
        if is_type_row(cells) {
            Some(Skip::Mark)
        } else if cells.get("cdrrecordtype") == "1" && is_recorder() {
            Some(Skip::Recorder)
        } else {
            None
        }
    },
    advice: "have it sent with its columns pkid and dateTimeOrigination, as CUCM writes it",
    known: OnceLock::new(),
};

static CMR_CARD: Card = Card {
    id: "cisco-cucm-cmr",
    title: "Cisco Unified CM, CMR (quality reports)",
    versions: &[("44 to 48 columns with header", Evidence::Seen)],
    notes: &[
        (
            Topic::Specification,
            "Cisco, Call Reporting and Billing Administration Guide, CMR field descriptions",
        ),
        (
            Topic::Legs,
            "a CMR tells the voice quality of one end of a leg and is no call: every row is counted as skipped, and the file is \
             kept as the original of its delivery. Nothing of it is in the tables; `cdrd original` gives it back",
        ),
        (
            Topic::Sending,
            "Service Parameters: \"Call Diagnostics Enabled\"; it comes the same way as the CDRs",
        ),
    ],
    headers: &[("pkid", Field::UniqueId), ("datetimestamp", Field::Start)],
    families: &[family("cisco-cucm-cmr", false), family("cisco-cucm-cmr-minute", true)],
    links: &[],
    ..CDR_CARD
};

/// Quality reports.
pub(super) static CMR: &Sheet = &CMR_SHEET;

static CMR_SHEET: Sheet = Sheet {
    card: &CMR_CARD,
    separators: &[',', ';', '\t'],
    quote: Some('"'),
    header: &["globalcallidcallid", "callidentifier", "datetimestamp", "numberpacketslost", "jitter"],
    orders: &[],
    checks: &[],
    zone: ZoneRule::Utc,
    times: &["epoch"],
    lengths: LengthUnit::Seconds,
    clean: None,
    made: &[],
    skip: |cells| Some(if is_type_row(cells) { Skip::Mark } else { Skip::Quality }),
    advice: "have it sent as CUCM writes it",
    known: OnceLock::new(),
};

/// Seconds since 1970 in the years of CUCM, or 0.
fn is_epoch(text: &str) -> bool {
    text == "0" || (text.len() == 10 && is_whole(text))
}

/// `INTEGER,VARCHAR(50),...`: what SQL would call the columns.
fn is_type_row(cells: &Cells<'_>) -> bool {
    const TYPES: [&str; 6] = ["INTEGER", "VARCHAR", "STRING", "UNIQUEIDENTIFIER", "FLOAT", "BIGINT"];
    let is_type = |text: &str| {
        TYPES.iter().any(|known| {
            text.strip_prefix(known)
                .is_some_and(|rest| rest.is_empty() || (rest.starts_with('(') && rest.ends_with(')')))
        })
    };
    cells.len() > 1 && cells.texts().all(|text| is_type(text.trim()))
}

/// Cluster, node, call and day of origination: what the legs of a call share, unique although call ids wrap.
fn session(cells: &Cells<'_>) -> String {
    let day = cells.get("datetimeorigination").parse::<i64>().map_or(0, |epoch| epoch.div_euclid(86_400));
    let (node, call) = (cells.get("globalcallidcallmanagerid"), cells.get("globalcallidcallid"));
    // Every node counts its own calls.
    if node.is_empty() || call == "0" {
        return String::new();
    }
    format!("{}/{node}/{call}/{day}", cells.get("globalcallidclusterid"))
}

fn redirected_by(cells: &Cells<'_>) -> String {
    let reason = cells.get("lastredirectredirectreason");
    if matches!(&*reason, "" | "0") { String::new() } else { cells.get("lastredirectdn").into_owned() }
}

/// The cause and which end cleared: the other end has none.
fn clearing(cells: &Cells<'_>) -> (String, &'static str) {
    let (orig, dest) = (cells.get("origcausevalue"), cells.get("destcausevalue"));
    let none = |cause: &str| matches!(cause, "" | "0");
    match (none(&orig), none(&dest)) {
        (false, true) => (orig.into_owned(), "caller"),
        (true, false) => (dest.into_owned(), "callee"),
        (false, false) if orig == dest => (orig.into_owned(), ""),
        _ => (String::new(), ""),
    }
}

/// The address behind a signed little-endian number.
fn address(number: &str) -> String {
    match number.parse::<i32>() {
        Ok(number) if number != 0 => number.to_le_bytes().map(|byte| byte.to_string()).join("."),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_are_little_endian_and_signed() {
        assert_eq!(address("1912717066"), "10.191.1.114");
        assert_eq!(address("-1509834998"), "10.191.1.166");
        assert_eq!(address("0"), "");
        assert_eq!(address("none"), "");
    }
}
