//! FreeSWITCH `mod_cdr_csv` (`Master.csv` and its copies per account), in the templates that it is shipped with.
//!
//! Must never read a template that a site wrote itself: what stands where is only in its configuration, and a
//! `[[format]]` says it.

use super::dates::is_time;
use super::sheet::{Order, Sheet, is_time_or_blank, is_uuid, is_whole, none_skipped};
use crate::record::card::{Card, Evidence, Family, Link, Match, Told, Topic};
use crate::record::cdr::{Disposition, TextColumn};
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

/// Causes of legs that were not answered.
const CAUSES: &[(&str, Disposition)] = &[
    ("NORMAL_CLEARING", Disposition::NoAnswer),
    ("ORIGINATOR_CANCEL", Disposition::NoAnswer),
    ("NO_ANSWER", Disposition::NoAnswer),
    ("NO_USER_RESPONSE", Disposition::NoAnswer),
    ("ALLOTTED_TIMEOUT", Disposition::NoAnswer),
    ("LOSE_RACE", Disposition::NoAnswer),
    ("PICKED_OFF", Disposition::NoAnswer),
    ("USER_BUSY", Disposition::Busy),
    ("NONE", Disposition::Unknown),
    ("CALL_REJECTED", Disposition::Failed),
    ("UNALLOCATED_NUMBER", Disposition::Failed),
    ("NO_ROUTE_DESTINATION", Disposition::Failed),
    ("NO_ROUTE_TRANSIT_NET", Disposition::Failed),
    ("USER_NOT_REGISTERED", Disposition::Failed),
    ("SUBSCRIBER_ABSENT", Disposition::Failed),
    ("DESTINATION_OUT_OF_ORDER", Disposition::Failed),
    ("INVALID_NUMBER_FORMAT", Disposition::Failed),
    ("NORMAL_UNSPECIFIED", Disposition::Failed),
    ("NORMAL_CIRCUIT_CONGESTION", Disposition::Failed),
    ("NORMAL_TEMPORARY_FAILURE", Disposition::Failed),
    ("NETWORK_OUT_OF_ORDER", Disposition::Failed),
    ("SWITCH_CONGESTION", Disposition::Failed),
    ("OUTGOING_CALL_BARRED", Disposition::Failed),
    ("INCOMING_CALL_BARRED", Disposition::Failed),
    ("BEARERCAPABILITY_NOTAUTH", Disposition::Failed),
    ("BEARERCAPABILITY_NOTAVAIL", Disposition::Failed),
    ("INCOMPATIBLE_DESTINATION", Disposition::Failed),
    ("RECOVERY_ON_TIMER_EXPIRE", Disposition::Failed),
    ("MEDIA_TIMEOUT", Disposition::Failed),
    ("GATEWAY_DOWN", Disposition::Failed),
    ("EXCHANGE_ROUTING_ERROR", Disposition::Failed),
    ("SERVICE_UNAVAILABLE", Disposition::Failed),
    ("INTERWORKING", Disposition::Failed),
    ("PROTOCOL_ERROR", Disposition::Failed),
];

static CARD: Card = Card {
    id: "freeswitch-cdr-csv",
    system: "freeswitch",
    title: "FreeSWITCH mod_cdr_csv (Master.csv)",
    version: 1,
    evidence: Evidence::Seen,
    versions: &[
        ("template example, 15 columns", Evidence::Seen),
        ("templates sql, linksys, asterisk and snom, 13, 17, 18 and 20 columns", Evidence::Documented),
    ],
    notes: &[
        (Topic::Specification, "the templates of cdr_csv.conf.xml as FreeSWITCH ships it"),
        (Topic::Zone, "times are the wall clock of the switch, without offset"),
        (
            Topic::Identity,
            "uuid names one leg for ever; the start beside it only leads keys by the day. A row that comes twice in one file, \
             as spreadsheets leave it, is one leg",
        ),
        (
            Topic::Legs,
            "one row for each leg that `legs` in the configuration asks for (a, b or ab); bleg_uuid joins a row to the other \
             leg's",
        ),
        (
            Topic::Quirk,
            "nothing is escaped: a name with quotes is kept as it stands, one with quote and comma rejects its row",
        ),
        (
            Topic::Quirk,
            "a hangup cause is no outcome: NORMAL_CLEARING without answer is a call that nobody took",
        ),
        (
            Topic::Quirk,
            "template opencdrrate writes no start and no template of a site's own says what its columns are: describe them in \
             a [[format]]",
        ),
        (
            Topic::Sending,
            "load mod_cdr_csv; follow log/cdr-csv/Master.csv with mode = \"append\", and not its copies per account beside it",
        ),
    ],
    outcome: Told::Answer,
    fidelity: 60,
    headers: &[
        ("calleridname", Field::CallerName),
        ("calleridnumber", Field::CallerNumber),
        ("callerid", Field::CallerId),
        ("destinationnumber", Field::CalleeNumber),
        ("context", Field::Context),
        ("startstamp", Field::Start),
        ("answerstamp", Field::Answer),
        ("endstamp", Field::End),
        ("duration", Field::Duration),
        ("billsec", Field::Talk),
        ("hangupcause", Field::HangupText),
        ("uuid", Field::UniqueId),
        ("bleguuid", Field::LinkedId),
        ("accountcode", Field::AccountCode),
        ("readcodec", Field::Codec),
        ("channelname", Field::Channel),
        ("bridgechannel", Field::DstChannel),
        ("lastapp", Field::LastApp),
        ("lastarg", Field::LastData),
        ("sofiarecordfile", Field::Recordings),
    ],
    families: &[family("freeswitch", false), family("freeswitch-minute", true)],
    links: &[
        Link { kind: "id", column: TextColumn::UniqueId },
        Link { kind: "id", column: TextColumn::LinkedId },
    ],
    dispositions: CAUSES,
    directions: &[],
    contexts: &[],
    voicemail: &[(Field::LastApp, "VOICEMAIL")],
    bracketed: &[],
    recording_separator: ',',
    epoch_in: None,
};

/// What all templates but `asterisk` begin with, and those of 20 columns end with.
const SNOM: [&str; 20] = [
    "caller_id_name",
    "caller_id_number",
    "destination_number",
    "context",
    "start_stamp",
    "answer_stamp",
    "end_stamp",
    "duration",
    "billsec",
    "hangup_cause",
    "uuid",
    "bleg_uuid",
    "accountcode",
    "read_codec",
    "write_codec",
    "sip_user_agent",
    "call_clientcode",
    "sip_rtp_rxstat",
    "sip_rtp_txstat",
    "sofia_record_file",
];

const LINKSYS: [&str; 17] = [
    SNOM[0],
    SNOM[1],
    SNOM[2],
    SNOM[3],
    SNOM[4],
    SNOM[5],
    SNOM[6],
    SNOM[7],
    SNOM[8],
    SNOM[9],
    SNOM[10],
    SNOM[11],
    SNOM[12],
    SNOM[13],
    SNOM[14],
    SNOM[15],
    "sip_p_rtp_stat",
];

const ASTERISK: [&str; 18] = [
    "accountcode",
    "caller_id_number",
    "destination_number",
    "context",
    "caller_id",
    "channel_name",
    "bridge_channel",
    "last_app",
    "last_arg",
    "start_stamp",
    "answer_stamp",
    "end_stamp",
    "duration",
    "billsec",
    "hangup_cause",
    "amaflags",
    "uuid",
    "userfield",
];

/// `mod_cdr_csv`.
pub(super) static CDR_CSV: &Sheet = &CDR_CSV_SHEET;

static CDR_CSV_SHEET: Sheet = Sheet {
    card: &CARD,
    separators: &[',', ';', '\t'],
    quote: Some('"'),
    header: &[],
    orders: &[
        Order { name: "template example", columns: SNOM.split_at(15).0 },
        Order { name: "template sql", columns: SNOM.split_at(13).0 },
        Order { name: "template linksys", columns: &LINKSYS },
        Order { name: "template asterisk", columns: &ASTERISK },
        Order { name: "template snom", columns: &SNOM },
    ],
    checks: &[
        ("startstamp", is_time),
        ("answerstamp", is_time_or_blank),
        ("endstamp", is_time_or_blank),
        ("duration", is_whole),
        ("billsec", is_whole),
        ("hangupcause", |text| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        }),
        ("uuid", is_uuid),
        ("bleguuid", |text| text.is_empty() || is_uuid(text)),
    ],
    zone: ZoneRule::Origin,
    times: &[],
    lengths: LengthUnit::Seconds,
    clean: Some(bare),
    made: &[],
    skip: none_skipped,
    advice: "use one of the shipped templates, or describe yours in a [[format]]",
    known: OnceLock::new(),
};

/// Without what template `sql` encloses a row with, and without quotes behind a blank.
fn bare(text: &str) -> &str {
    let text = text.strip_prefix("INSERT INTO cdr VALUES (").unwrap_or(text);
    let text = text.strip_suffix(");").filter(|_| text.contains('"')).unwrap_or(text);
    let trimmed = text.trim();
    let inner = trimmed.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(text)
}
