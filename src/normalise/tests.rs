//! The engine from raw record to leg, with cards of a vendor that does not exist.

use super::{ClockWatch, Engine};
use crate::record::card::{Card, Evidence, Family, Match, Told};
use crate::record::cdr::{Direction, Disposition, Leg, Precision, TextColumn};
use crate::record::document::{DateOrder, Dialect, Layout, RowKind, ZoneRule};
use crate::record::field::Field;
use crate::record::origin::Origin;
use crate::record::outcome::{Reason, Rejection};
use crate::record::port::Derive;
use crate::record::raw::{Position, RawRecord};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

static CARD: Card = Card {
    id: "quill-csv",
    system: "quill",
    title: "Quill PBX",
    version: 1,
    evidence: Evidence::Documented,
    versions: &[],
    notes: &[],
    outcome: Told::Word,
    fidelity: 50,
    headers: &[
        ("rowid", Field::RecordId),
        ("id", Field::UniqueId),
        ("began", Field::Start),
        ("answered", Field::Answer),
        ("ended", Field::End),
        ("length", Field::Duration),
        ("talk", Field::Talk),
        ("ring", Field::Ring),
        ("result", Field::Disposition),
        ("kind", Field::CallType),
        ("from", Field::CallerNumber),
        ("fromname", Field::CallerName),
        ("clid", Field::CallerId),
        ("to", Field::CalleeNumber),
        ("context", Field::Context),
        ("app", Field::LastApp),
        ("action", Field::ActionType),
        ("ourphone", Field::ChannelExtension),
        ("theirphone", Field::DstChannelExtension),
        ("cause", Field::HangupCause),
        ("released", Field::ReleasedBy),
        ("files", Field::Recordings),
    ],
    families: &[
        Family {
            name: "quill",
            matched: &[Match::Time(Field::Start)],
            sure: None,
            instance: None,
            exact: &[],
            near: &[],
            minute: false,
            events: &[],
        },
        Family {
            name: "quill-minute",
            matched: &[Match::Time(Field::Start)],
            sure: None,
            instance: None,
            exact: &[],
            near: &[],
            minute: true,
            events: &[],
        },
    ],
    links: &[],
    dispositions: &[
        ("ANSWERED", Disposition::Answered),
        ("NO ANSWER", Disposition::NoAnswer),
        ("BUSY", Disposition::Busy),
    ],
    directions: &[("IN", Direction::Inbound), ("OUT", Direction::Outbound)],
    contexts: &[("from-trunk", Direction::Inbound), ("from-internal", Direction::Internal)],
    voicemail: &[(Field::LastApp, "VOICEMAIL")],
    bracketed: &[(Field::ActionType, "QUEUE", TextColumn::Queue)],
    recording_separator: '@',
    epoch_in: Some(Field::UniqueId),
};

fn engine(zone: &str) -> Engine {
    let origin = |name: &str, time_zone, country: Option<&str>| Origin {
        name: name.to_owned(),
        key: format!("{name}-key"),
        tenant: None,
        time_zone,
        country: country.map(str::to_owned),
    };
    let zone = TimeZone::get(zone).expect("a zone of the IANA database");
    let origins = vec![origin("here", zone, Some("DE")), origin("there", TimeZone::UTC, None)];
    Engine::new(
        origins,
        HashMap::from([("utc-file".to_owned(), TimeZone::UTC)]),
        |name| TimeZone::get(name).ok(),
        vec![&CARD],
    )
}

fn record(dialect: Dialect, columns: &[(&str, &str)]) -> RawRecord {
    let headers = columns.iter().map(|(header, _)| (*header).to_owned());
    let layout = Layout::new(&CARD, RowKind::Leg, headers, dialect).expect("each test has a start column");
    RawRecord::from_values(Arc::new(layout), Position::default(), columns.iter().map(|(_, value)| *value))
}

fn derive(zone: &str, columns: &[(&str, &str)]) -> Result<Leg, Box<Rejection>> {
    engine(zone).derive(record(Dialect::default(), columns), "here", "inbox")
}

fn leg(columns: &[(&str, &str)]) -> Leg {
    derive("Europe/Berlin", columns).expect("a leg")
}

fn epoch_ms(text: &str) -> i64 {
    text.parse::<Timestamp>().expect("a time stamp").as_millisecond()
}

/// A start in a zone: the instant, the offset in minutes, whether it stayed ambiguous.
fn started(zone: &str, began: &str, id: &str) -> (String, i32, bool) {
    let leg = derive(zone, &[("Began", began), ("Id", id)]).expect("a leg");
    let at = Timestamp::from_millisecond(leg.cdr.started_at).expect("in range").to_string();
    (at, leg.cdr.utc_offset_min.expect("always set"), leg.cdr.time_ambiguous)
}

fn id_at(time: &str) -> String {
    format!("quill-1-{}.7", epoch_ms(time) / 1000)
}

#[test]
fn the_hour_that_does_not_exist_is_taken_before_the_jump() {
    for (zone, began, at, offset) in [
        ("Europe/Berlin", "2025-03-30 02:30:00", "2025-03-30T01:30:00Z", 60),
        ("America/New_York", "2025-03-09 02:30:00", "2025-03-09T07:30:00Z", -300),
        ("Australia/Lord_Howe", "2025-10-05 02:15:00", "2025-10-04T15:45:00Z", 630),
    ] {
        assert_eq!(started(zone, began, ""), (at.to_owned(), offset, true), "{zone}");
    }
    assert!(!started("Europe/Berlin", "2025-03-30 01:59:59", "").2);
    assert_eq!(
        started("Europe/Berlin", "2025-03-30 03:00:00", ""),
        ("2025-03-30T01:00:00Z".to_owned(), 120, false)
    );
}

#[test]
fn the_repeated_hour_follows_the_id_or_is_marked() {
    for (zone, began, earlier, later, offsets) in [
        ("Europe/Berlin", "2025-10-26 02:30:00", "2025-10-26T00:30:00Z", "2025-10-26T01:30:00Z", (120, 60)),
        (
            "America/New_York",
            "2025-11-02 01:30:00",
            "2025-11-02T05:30:00Z",
            "2025-11-02T06:30:00Z",
            (-240, -300),
        ),
        (
            "Australia/Lord_Howe",
            "2025-04-06 01:45:00",
            "2025-04-05T14:45:00Z",
            "2025-04-05T15:15:00Z",
            (660, 630),
        ),
    ] {
        assert_eq!(started(zone, began, ""), (earlier.to_owned(), offsets.0, true), "{zone} without id");
        assert_eq!(
            started(zone, began, "17"),
            (earlier.to_owned(), offsets.0, true),
            "{zone} with an id without time"
        );
        assert_eq!(
            started(zone, began, &id_at(earlier)),
            (earlier.to_owned(), offsets.0, false),
            "{zone} earlier"
        );
        assert_eq!(started(zone, began, &id_at(later)), (later.to_owned(), offsets.1, false), "{zone} later");
        // The id is made a moment after the start was read, still the same hour.
        let soon = Timestamp::from_millisecond(epoch_ms(later) + 40_000).expect("in range").to_string();
        assert_eq!(
            started(zone, began, &id_at(&soon)),
            (later.to_owned(), offsets.1, false),
            "{zone} tolerance"
        );
        // An id from after both: the clocks disagree, nothing is decided.
        let far = Timestamp::from_millisecond(epoch_ms(later) + 7_200_000).expect("in range").to_string();
        assert_eq!(
            started(zone, began, &id_at(&far)),
            (earlier.to_owned(), offsets.0, true),
            "{zone} undecided"
        );
    }
}

#[test]
fn an_end_outside_the_repeated_hour_tells_which_hour_it_began_in() {
    let of = |ended, length| {
        let leg = leg(&[("Began", "2025-10-26 02:50:00"), ("Ended", ended), ("Length", length)]);
        (leg.cdr.started_at, leg.cdr.time_ambiguous)
    };
    assert_eq!(of("2025-10-26 03:10:00", "1200"), (epoch_ms("2025-10-26T01:50:00Z"), false));
    assert_eq!(of("2025-10-26 03:10:00", "4800"), (epoch_ms("2025-10-26T00:50:00Z"), false));
    assert_eq!(of("2025-10-26 03:10:00", "9"), (epoch_ms("2025-10-26T00:50:00Z"), true), "fits neither");
    assert_eq!(
        of("2025-10-26 02:55:00", "300"),
        (epoch_ms("2025-10-26T00:50:00Z"), true),
        "the end repeats, too"
    );
}

#[test]
fn answer_and_end_in_the_repeated_hour_agree_with_the_lengths() {
    let leg = leg(&[
        ("Began", "2025-10-26 01:59:00"),
        ("Answered", "2025-10-26 02:10:00"),
        ("Ended", "2025-10-26 02:20:00"),
        ("Length", "4860"),
        ("Talk", "600"),
        ("Result", "ANSWERED"),
    ]);
    assert_eq!(leg.cdr.answered_at, Some(epoch_ms("2025-10-26T01:10:00Z")));
    assert_eq!(leg.cdr.ended_at, Some(epoch_ms("2025-10-26T01:20:00Z")));
    let brief = self::leg(&[("Began", "2025-10-26 01:59:00"), ("Ended", "2025-10-26 02:20:00")]);
    assert_eq!(brief.cdr.ended_at, Some(epoch_ms("2025-10-26T00:20:00Z")), "the nearest after the start");
    assert_eq!(brief.cdr.duration_ms, Some(1_260_000));
    let second_pass = self::leg(&[
        ("Id", &id_at("2025-10-26T01:30:00Z")),
        ("Began", "2025-10-26 02:30:00"),
        ("Ended", "2025-10-26 02:31:00"),
    ]);
    assert_eq!(second_pass.cdr.ended_at, Some(epoch_ms("2025-10-26T01:31:00Z")), "never before the start");
}

#[test]
fn whose_clock_a_document_shows() {
    let columns = [("Began", "2025-07-01 12:00:00")];
    let at = |dialect: Dialect, origin: &str, source: &str| {
        let leg = engine("Europe/Berlin").derive(record(dialect, &columns), origin, source).expect("a leg");
        (leg.cdr.started_at, leg.cdr.utc_offset_min)
    };
    let utc = Dialect { zone: ZoneRule::Utc, ..Dialect::default() };
    let (noon, ten) = (epoch_ms("2025-07-01T12:00:00Z"), epoch_ms("2025-07-01T10:00:00Z"));
    assert_eq!(at(Dialect::default(), "here", "inbox"), (ten, Some(120)));
    assert_eq!(
        at(Dialect::default(), "here-key", "inbox"),
        (ten, Some(120)),
        "rows of an origin since renamed"
    );
    assert_eq!(at(Dialect::default(), "here", "utc-file"), (noon, Some(0)));
    assert_eq!(at(Dialect::default(), "there", "inbox"), (noon, Some(0)));
    assert_eq!(at(utc, "here", "inbox"), (noon, Some(0)));
    let carried = leg(&[("Began", "2025-07-01T12:00:00-03:30")]);
    assert_eq!((carried.cdr.started_at, carried.cdr.utc_offset_min), (noon + 12_600_000, Some(-210)));
    let wrong = engine("UTC").derive(record(Dialect::default(), &columns), "nowhere", "inbox");
    assert_eq!(wrong.map_err(|rejection| rejection.reason).err(), Some(Reason::StartInvalid));
}

#[test]
fn starts_to_the_minute_say_so() {
    let minute = Dialect { minute: true, date_order: DateOrder::DayFirst, ..Dialect::default() };
    let leg =
        engine("UTC").derive(record(minute, &[("Began", "1/7/2025 9:05")]), "here", "inbox").expect("a leg");
    assert_eq!(leg.cdr.time_precision, Precision::Minute);
    assert_eq!(leg.cdr.started_at, epoch_ms("2025-07-01T09:05:00Z"));
    assert_eq!(self::leg(&[("Began", "2025-07-01 09:05:00")]).cdr.time_precision, Precision::Second);
}

#[test]
fn a_start_that_is_none_rejects_and_tells_no_secret() {
    let missing = derive("UTC", &[("Began", "0000-00-00 00:00:00")]).expect_err("no start");
    assert_eq!((missing.reason, missing.field.as_deref()), (Reason::StartMissing, Some("Began")));
    let invalid = derive("UTC", &[("Began", "Ada 2025-02-30"), ("From", "4930901820")]).expect_err("no time");
    assert_eq!((invalid.reason, invalid.field.as_deref()), (Reason::StartInvalid, Some("Began")));
    assert!(invalid.message.contains("aaa 9999-99-99"), "{}", invalid.message);
    assert!(!invalid.message.contains("Ada"));
}

#[test]
fn an_answered_leg() {
    let leg = leg(&[
        ("Began", "2025-07-01 12:00:00"),
        ("Answered", "2025-07-01 12:00:08"),
        ("Ended", "2025-07-01 12:01:08"),
        ("Result", " answered "),
    ]);
    let at = |seconds: i64| Some(epoch_ms("2025-07-01T10:00:00Z") + seconds * 1000);
    assert_eq!((leg.cdr.answered_at, leg.cdr.ended_at), (at(8), at(68)));
    assert_eq!(
        (leg.cdr.duration_ms, leg.cdr.talk_ms, leg.cdr.ring_ms),
        (Some(68_000), Some(60_000), Some(8_000))
    );
    assert_eq!(leg.cdr.disposition, Disposition::Answered);
    assert_eq!(leg.answer_local.map(|local| local.to_string()).as_deref(), Some("2025-07-01T12:00:08"));
}

#[test]
fn an_unanswered_leg_has_no_answer_whatever_the_device_fills_in() {
    let leg = leg(&[
        ("Began", "2025-07-01 12:00:00"),
        ("Answered", "2025-07-01 12:00:30"),
        ("Length", "0:30"),
        ("Talk", "30"),
        ("Result", "NO ANSWER"),
    ]);
    assert_eq!((leg.cdr.answered_at, leg.cdr.talk_ms, leg.cdr.ring_ms), (None, Some(0), Some(30_000)));
    assert_eq!(leg.cdr.ended_at, Some(epoch_ms("2025-07-01T10:00:30Z")), "counted from the duration");
    assert!(leg.answer_local.is_some(), "identity compares what was written");
    let unknown = self::leg(&[("Began", "2025-07-01 12:00:00"), ("Length", "30"), ("Result", "")]);
    assert_eq!((unknown.cdr.disposition, unknown.cdr.ring_ms), (Disposition::Unknown, None));
}

#[test]
fn voicemail_only_takes_answered_calls() {
    let of = |result| {
        leg(&[("Began", "2025-07-01 12:00:00"), ("Result", result), ("App", "VoiceMail")]).cdr.disposition
    };
    assert_eq!(of("ANSWERED"), Disposition::Voicemail);
    assert_eq!(of("BUSY"), Disposition::Busy);
}

#[test]
fn what_gives_no_value_stays_in_extra_in_column_order() {
    let leg = leg(&[
        ("Zeta", "last \"word\""),
        ("Began", "2025-07-01 12:00:00"),
        ("Ended", "later"),
        ("Length", "-5"),
        ("Result", "MAYBE"),
        ("Kind", "Sideways"),
        ("Cause", "999"),
        ("App", "Dial"),
        ("Blank", "  "),
        ("Row id", "17"),
    ]);
    assert_eq!(
        leg.cdr.text.get(TextColumn::Extra),
        r#"{"Zeta":"last \"word\"","Ended":"later","Length":"-5","Result":"MAYBE","Kind":"Sideways","Cause":"999","last_app":"Dial","record_id":"17"}"#
    );
    assert_eq!((leg.cdr.ended_at, leg.cdr.duration_ms, leg.cdr.hangup_cause_q850), (None, None, None));
    assert_eq!((leg.cdr.disposition, leg.cdr.direction), (Disposition::Unknown, Direction::Unknown));
    let plain = self::leg(&[("Began", "2025-07-01 12:00:00"), ("Cause", "16"), ("Result", "BUSY")]);
    assert_eq!(plain.cdr.text.get(TextColumn::Extra), "");
    assert_eq!(plain.cdr.hangup_cause_q850, Some(16));
}

#[test]
fn directions_by_word_by_context_and_by_length_inside() {
    let of = |kind, context, from, to| {
        leg(&[
            ("Began", "2025-07-01 12:00:00"),
            ("Kind", kind),
            ("Context", context),
            ("From", from),
            ("To", to),
        ])
        .cdr
        .direction
    };
    assert_eq!(of("Out", "from-trunk", "", ""), Direction::Outbound, "the word wins");
    assert_eq!(of("", "From-Trunk-3", "0301234567", "204"), Direction::Inbound);
    assert_eq!(of("", "from-internal-xfer", "203", "204"), Direction::Internal);
    assert_eq!(of("", "from-internal", "203", "0301234567"), Direction::Outbound);
    assert_eq!(
        of("", "from-internal", "203", "*72*1234*8584"),
        Direction::Internal,
        "a feature code goes nowhere"
    );
    assert_eq!(of("", "lab", "203", "204"), Direction::Unknown);
}

#[test]
fn parties_are_normalised_beside_what_was_written() {
    let columns = [
        ("Began", "2025-07-01 12:00:00"),
        ("Kind", "IN"),
        ("From", " 030 901820"),
        ("From name", ""),
        ("Clid", "\"Ada Byron\" <030901820>"),
        ("To", "204"),
        ("Our phone", "trunk_1"),
        ("Their phone", "204"),
        ("Action", "QUEUE[6500]"),
        ("Released", "caller"),
        ("Files", "2025-07/a.wav@2025-07/b.wav@"),
    ];
    let leg = leg(&columns);
    for (column, text) in [
        (TextColumn::StartedLocal, "2025-07-01 12:00:00"),
        (TextColumn::Caller, "+4930901820"),
        (TextColumn::CallerNumber, " 030 901820"),
        (TextColumn::CallerName, "Ada Byron"),
        (TextColumn::Callee, "204"),
        (TextColumn::CalleeNumber, "204"),
        (TextColumn::Extension, "204"),
        (TextColumn::Queue, "6500"),
        (TextColumn::ReleasedBy, "caller"),
        (TextColumn::Recordings, r#"["2025-07/a.wav","2025-07/b.wav"]"#),
    ] {
        assert_eq!(leg.cdr.text.get(column), text, "{}", column.name());
    }
    let outbound = self::leg(&[
        ("Began", "2025-07-01 12:00:00"),
        ("Kind", "OUT"),
        ("Our phone", "trunk_1"),
        ("Files", "@"),
    ]);
    assert_eq!(outbound.cdr.text.get(TextColumn::Extension), "", "a trunk is no extension");
    assert_eq!(outbound.cdr.text.get(TextColumn::Recordings), "");
    let by_id = self::leg(&[("Began", "2025-07-01 12:00:00"), ("From", ""), ("Clid", "<+44 1632 960001>")]);
    assert_eq!(by_id.cdr.text.get(TextColumn::CallerNumber), "", "as written: nothing");
    assert!(by_id.cdr.text.get(TextColumn::Caller).starts_with("+44"));
}

#[test]
fn a_wrong_zone_is_noticed_over_the_document_not_at_one_leg() {
    let watch = |zone: &str, legs: &[(&str, &str)]| {
        let mut watch = ClockWatch::new();
        for (began, id) in legs {
            watch.see(&derive(zone, &[("Began", began), ("Id", &id_at(id))]).expect("a leg"));
        }
        watch.verdict()
    };
    let legs =
        [("2025-07-01 12:00:03", "2025-07-01T10:00:01Z"), ("2025-07-01 12:40:00", "2025-07-01T10:00:01Z")];
    assert_eq!(watch("Europe/Berlin", &legs), None, "a transferred leg may start long after its channel");
    let fault = watch("UTC", &legs).expect("two hours off");
    assert_eq!((fault.difference_s, fault.fits.as_deref()), (7202, Some("+02:00")));
    assert!(fault.to_string().contains("time_zone") && fault.to_string().contains("+02:00"));
    let adrift =
        watch("Europe/Berlin", &[("2025-07-01 12:24:10", "2025-07-01T10:00:00Z")]).expect("a clock off");
    assert_eq!((adrift.difference_s, adrift.fits.clone()), (1450, None));
    assert!(adrift.to_string().contains("clock of the PBX"));
    assert_eq!(ClockWatch::new().verdict(), None);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics_and_derives_the_same_twice(
        began in "2025-(03-30|10-26) 0[0-3]:[0-5][0-9]:00|\\PC{0,24}",
        values in proptest::collection::vec("\\PC{0,16}|[0-9:. -]{0,20}|\"[a-z]*\" <[0-9]*>", 21),
    ) {
        let mut columns = vec![("Began", began.as_str())];
        let headers = ["Row id", "Id", "Answered", "Ended", "Length", "Talk", "Ring", "Result", "Kind", "From", "From name",
            "Clid", "To", "Context", "App", "Action", "Our phone", "Their phone", "Cause", "Files", "Unmapped"];
        columns.extend(headers.into_iter().zip(values.iter().map(String::as_str)));
        let engine = engine("Europe/Berlin");
        let first = engine.derive(record(Dialect::default(), &columns), "here", "inbox");
        let second = engine.derive(record(Dialect::default(), &columns), "here", "inbox");
        prop_assert_eq!(&first, &second);
        if let Ok(leg) = first {
            let extra = leg.cdr.text.get(TextColumn::Extra);
            prop_assert!(extra.is_empty() || serde_json::from_str::<serde_json::Value>(extra).is_ok());
            prop_assert_eq!(leg.cdr.text.get(TextColumn::CallerNumber), leg.raw.get(Field::CallerNumber));
            prop_assert!(leg.cdr.talk_ms.is_none_or(|ms| ms >= 0) && leg.cdr.ring_ms.is_none_or(|ms| ms >= 0));
        }
    }
}
