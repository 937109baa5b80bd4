//! Formats of stanzas: how they recognise and read, and what must hold whatever they read.

use super::{
    ColumnConfig, DelimitedConfig, IdentityConfig, LayoutConfig, MappingConfig, NamesConfig, PatternConfig,
    SkipConfig, StepConfig, SyntaxConfig, TestConfig,
};
use crate::formats::{Claim, Formats, Head, Row, Verdict};
use crate::record::cdr::Disposition;
use crate::record::document::{DateOrder, Dialect, Encoding, LengthUnit};
use crate::record::field::Field;
use crate::record::outcome::{Reason, VERBATIM_CAP};
use proptest::prelude::*;
use std::io::Read;

const DELIMITED: DelimitedConfig =
    DelimitedConfig { separator: ',', quote: Some('"'), widths: None, skip_lines: 0, recognise: None };

fn any(field: Field, names: &[&str]) -> ColumnConfig {
    ColumnConfig { field, names: NamesConfig::Any(names.iter().map(ToString::to_string).collect()) }
}

/// A carrier's list of calls: date and time apart, a name that changed, titles, totals.
fn carrier(syntax: SyntaxConfig) -> MappingConfig {
    let joined = NamesConfig::Joined(vec!["Date".to_owned(), "Time".to_owned()]);
    let columns = match &syntax {
        SyntaxConfig::Delimited(DelimitedConfig { widths: Some(_), .. }) => vec![
            ColumnConfig {
                field: Field::Start,
                names: NamesConfig::Joined(vec!["1".to_owned(), "2".to_owned()]),
            },
            any(Field::CallerNumber, &["3"]),
            any(Field::CalleeNumber, &["4"]),
            any(Field::Duration, &["5"]),
        ],
        _ => vec![
            ColumnConfig { field: Field::Start, names: joined },
            any(Field::CallerNumber, &["From", "from.number"]),
            any(Field::CalleeNumber, &["To", "Called"]),
            any(Field::Duration, &["Minutes"]),
            any(Field::Disposition, &["Result"]),
        ],
    };
    MappingConfig {
        id: "carrier".to_owned(),
        title: "A carrier".to_owned(),
        system: "carrier".to_owned(),
        syntax,
        columns,
        constants: vec![(Field::Currency, "EUR".to_owned())],
        encoding: None,
        times: vec![LayoutConfig::new("%d.%m.%y %H:%M").expect("a layout")],
        date_order: None,
        time_zone: Some("UTC".to_owned()),
        lengths: LengthUnit::Minutes,
        identity: IdentityConfig {
            matched: vec![Field::Start, Field::CallerNumber, Field::CalleeNumber],
            near: vec![Field::Duration],
            ..IdentityConfig::default()
        },
        links: Vec::new(),
        dispositions: vec![("ok".to_owned(), Disposition::Answered)],
        directions: Vec::new(),
        skip: vec![
            SkipConfig { column: None, test: TestConfig::Begins(vec!["#".to_owned()]) },
            SkipConfig {
                column: Some("To".to_owned()),
                test: TestConfig::Matches(PatternConfig::new("sum*")),
            },
        ],
        recording_separator: ',',
    }
}

fn numbered(widths: &[usize]) -> SyntaxConfig {
    SyntaxConfig::Delimited(DelimitedConfig { widths: Some(widths.to_vec()), ..DELIMITED })
}

fn json(path: &str) -> SyntaxConfig {
    let steps = path.split('.').flat_map(|part| {
        let name = part.trim_end_matches("[]");
        let member = (!name.is_empty()).then(|| StepConfig::Member(name.to_owned()));
        member.into_iter().chain(part.ends_with("[]").then_some(StepConfig::Each))
    });
    SyntaxConfig::Json(Some(steps.collect()))
}

fn head(bytes: &[u8]) -> Head<'_> {
    Head { bytes, complete: true, name: "a" }
}

fn asked(config: MappingConfig, bytes: &[u8], pinned: bool) -> Verdict {
    let formats = Formats::with([config]);
    let format = formats.by_id("carrier").expect("it was added");
    if pinned { format.recognise_pinned(&head(bytes)) } else { format.recognise(&head(bytes)) }
}

fn claimed(config: MappingConfig, bytes: &[u8]) -> Claim {
    match asked(config, bytes, true) {
        Verdict::Claimed(claim) => claim,
        other => panic!("{other:?}"),
    }
}

/// Rows as text: fields of records, reasons of faults.
fn read(config: &MappingConfig, dialect: &Dialect, input: impl Read) -> Vec<(u64, String)> {
    let formats = Formats::with([config.clone()]);
    let format = formats.by_id("carrier").expect("it was added");
    let mut reader = format.open(dialect, Box::new(input));
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row().expect("memory cannot fail") {
        let at = row.position();
        let length = usize::try_from(at.length).expect("short").min(VERBATIM_CAP);
        assert_eq!(reader.verbatim().len(), length, "row {}", at.row);
        assert_eq!(at.row, rows.len() as u64 + 1);
        let told = match row {
            Row::Record(record) => {
                let values = record.columns().filter(|(_, _, value)| !value.is_empty());
                values.map(|(header, _, value)| format!("{header}={value}")).collect::<Vec<_>>().join(" | ")
            }
            Row::Skipped { why, .. } => format!("skipped {why:?}"),
            Row::Fault(fault) => fault.reason.code().to_owned(),
        };
        rows.push((at.offset, told));
    }
    rows
}

fn told(config: &MappingConfig, bytes: &[u8]) -> Vec<String> {
    let claim = claimed(config.clone(), bytes);
    read(config, &claim.dialect, bytes).into_iter().map(|(_, told)| told).collect()
}

#[test]
fn by_the_names_in_a_header_behind_titles() {
    let text = "Calls of March\n\nTo,date,FROM,time,Minutes,Result,Note\n\"22, 3\",02.03.26,11,10:00,2,ok,x\n# end of page\n\
                Sum of 1,,,,2,,\n1,2\nTo,date,FROM,time,Minutes,Result,Note\n,,,,1,ok,\n";
    let config = carrier(SyntaxConfig::Delimited(DELIMITED));
    assert_eq!(
        told(&config, text.as_bytes()),
        [
            "skipped Title",
            "skipped Blank",
            "To=22, 3 | date + time=02.03.26 10:00 | FROM=11 | Minutes=2 | Result=ok | Note=x | constant currency=EUR",
            "skipped NoCall",
            "skipped NoCall",
            "columns_mismatch",
            "skipped RepeatedHeader",
            "row_empty",
        ]
    );
    let claim = claimed(config, text.as_bytes());
    assert_eq!((claim.certainty, claim.dialect.minute), (55, true));
}

#[test]
fn a_header_that_lacks_what_identity_needs_is_not_claimed() {
    let config = carrier(SyntaxConfig::Delimited(DELIMITED));
    for text in ["Date,Time,From,Minutes,Result\n02.03.26,10:00,1,2,ok\n", "From,To\n1,2\n", "", "\0\0", "{}"]
    {
        assert!(matches!(asked(config.clone(), text.as_bytes(), true), Verdict::Refused { .. }), "{text}");
    }
}

#[test]
fn by_the_numbers_of_columns_where_fixed_or_where_the_first_line_looks_so() {
    let text = "02.03.26;10:00;11;22;2\n02.03.26;10:01;11;22;2;x\n02.03.26;10:02;11;22\n";
    let mut config = carrier(numbered(&[5, 6]));
    let SyntaxConfig::Delimited(syntax) = &mut config.syntax else { panic!("delimited") };
    syntax.separator = ';';
    assert!(matches!(asked(config.clone(), text.as_bytes(), false), Verdict::Refused { .. }));
    assert_eq!(
        told(&config, text.as_bytes()),
        [
            "start=02.03.26 10:00 | caller_number=11 | callee_number=22 | duration=2 | constant currency=EUR",
            "start=02.03.26 10:01 | caller_number=11 | callee_number=22 | duration=2 | column 6=x | constant currency=EUR",
            "columns_mismatch",
        ]
    );
    let SyntaxConfig::Delimited(syntax) = &mut config.syntax else { panic!("delimited") };
    syntax.recognise = Some(PatternConfig::new("??.??.??;*"));
    assert!(matches!(asked(config.clone(), text.as_bytes(), false), Verdict::Claimed(_)));
    assert!(matches!(asked(config, b"x;2;3;4;5\n", false), Verdict::Refused { .. }));
}

#[test]
fn other_quotes_and_none_and_another_encoding() {
    let mut config = carrier(SyntaxConfig::Delimited(DelimitedConfig { quote: Some('\''), ..DELIMITED }));
    let text = "Date,Time,From,To,Minutes,Result\n02.03.26,10:00,'1,''2','\"3\"',2,ok\n";
    assert!(told(&config, text.as_bytes())[0].contains("From=1,'2 | To=\"3\" |"));
    config.syntax = SyntaxConfig::Delimited(DelimitedConfig { quote: None, ..DELIMITED });
    let text = b"Date,Time,From,To,Minutes,Result\n02.03.26,10:00,\"1,M\xC3\xBCller,2,ok\n";
    assert!(told(&config, text)[0].contains("From=\"1 | To=Müller |"));
    config.encoding = Some(Encoding::Windows1252);
    assert!(told(&config, text)[0].contains("From=\"1 | To=MÃ¼ller |"));
}

#[test]
fn json_at_a_path_with_members_inside_members() {
    let config = carrier(json("data.calls[]"));
    let text = r#"{"page": 1, "data": {"calls": [
        {"Date": "02.03.26", "Time": "10:00", "from": {"number": 11, "name": "A"}, "Called": "22", "Minutes": 2, "tags": ["x", {"y": 1}]},
        null, 5, {}, {"Date": "02.03.26", "Time": "10:01", "To": "23", "Result": null},
        {"To": "Sum of all"}, {"Minutes": 3}
    ], "more": [{"Date": "02.03.26", "Time": "11:00", "To": "9"}]}}"#;
    assert_eq!(
        told(&config, text.as_bytes()),
        [
            "Date + Time=02.03.26 10:00 | from.number=11 | from.name=A | Called=22 | Minutes=2 | tags=[\"x\", {\"y\": 1}] | constant currency=EUR",
            "skipped Blank",
            "columns_unusable",
            "skipped Blank",
            "Date + Time=02.03.26 10:01 | To=23 | constant currency=EUR",
            "skipped NoCall",
            "row_empty",
        ]
    );
    let elsewhere = text.replace("\"calls\"", "\"cells\"");
    assert!(matches!(asked(config.clone(), elsewhere.as_bytes(), true), Verdict::Refused { .. }));
    let empty = br#"{"data": {"calls": []}}"#;
    assert!(matches!(asked(config.clone(), empty, false), Verdict::Refused { .. }));
    assert!(matches!(asked(config, empty, true), Verdict::Claimed(_)));
}

#[test]
fn records_behind_what_may_be_looked_at_are_read_where_a_person_says_so() {
    let mut config = carrier(json("calls[]"));
    let begin = Head { bytes: br#" {"users": ["a", "b", "#, complete: false, name: "a" };
    let verdict = |config: &MappingConfig, pinned: bool| {
        let formats = Formats::with([config.clone()]);
        let format = formats.by_id("carrier").expect("it was added");
        if pinned { format.recognise_pinned(&begin) } else { format.recognise(&begin) }
    };
    assert!(matches!(verdict(&config, false), Verdict::Refused { .. }));
    assert!(matches!(verdict(&config, true), Verdict::Claimed(_)));
    // Nothing shows the order of their dates.
    config.times.clear();
    let undecided = Reason::DateOrderUnknown;
    assert!(matches!(verdict(&config, true), Verdict::Undecided { reason, .. } if reason == undecided));
    config.date_order = Some(DateOrder::DayFirst);
    assert!(matches!(verdict(&config, true), Verdict::Claimed(_)));
}

#[test]
fn json_one_after_another_or_in_one_array_and_broken_in_between() {
    let config = carrier(SyntaxConfig::Json(None));
    let record = |to: u32| {
        format!(
            r#"{{"Date": "02.03.26", "Time": "10:00", "From": "1", "To": "{to}", "Minutes": 2, "in": {{"a": 1}}}}"#
        )
    };
    let count = |text: &str| {
        let all = told(&config, text.as_bytes());
        (all.iter().filter(|told| told.contains("To=")).count(), all.len())
    };
    assert_eq!(count(&format!("{}\n{}\n", record(1), record(2))), (2, 2));
    assert_eq!(count(&format!("[{}, {}]", record(1), record(2))), (2, 2));
    assert_eq!(count(&format!("{}\n{{\"To\": \n{}\n", record(1), record(2))), (2, 3));
    // What is broken inside an inner object gives up the whole record, and no other.
    let torn = record(2).replace("\"a\": 1", "\"a\" 1");
    assert_eq!(count(&format!("[{}, {torn}, {}]", record(1), record(3))), (2, 3));
}

#[test]
fn an_empty_array_among_records_is_a_row_without_a_call() {
    let record = r#"{"Date": "02.03.26", "Time": "10:00", "From": "1", "To": "2", "Minutes": 2}"#;
    let leg = "Date + Time=02.03.26 10:00 | From=1 | To=2 | Minutes=2 | constant currency=EUR";
    let told = |config: MappingConfig, text: &str| told(&config, text.as_bytes());
    let nested = format!("[[{record}],{record},[],[[]],[5]]");
    let rows = [leg, leg, "skipped Blank", "skipped Blank", "columns_unusable"];
    assert_eq!(told(carrier(SyntaxConfig::Json(None)), &nested), rows);
    let text = format!("{{\"calls\":[{record},[],{record}],\"more\":[[]]}}");
    assert_eq!(told(carrier(json("calls[]")), &text), [leg, "skipped Blank", leg]);
    assert!(told(carrier(json("calls[]")), r#"{"calls":[]}"#).is_empty());
}

#[test]
fn a_line_that_is_no_json_is_kept_from_its_first_word() {
    let config = carrier(SyntaxConfig::Json(None));
    let record = r#"{"Date": "02.03.26", "Time": "10:00", "From": "1", "To": "2", "Minutes": 2}"#;
    for broken in ["not json", "-", "nope{\"To\":\"3\"}", "} x"] {
        let text = format!("{record}\n{broken}\n{record}\n");
        let formats = Formats::with([config.clone()]);
        let format = formats.by_id("carrier").expect("it was added");
        let mut reader = format.open(&config.dialect(Encoding::Utf8), Box::new(text.as_bytes()));
        let mut rows = Vec::new();
        while let Some(row) = reader.next_row().expect("memory cannot fail") {
            rows.push(row);
        }
        let [Row::Record(_), Row::Fault(fault), Row::Record(_)] = rows.as_slice() else {
            panic!("{broken}: {rows:?}")
        };
        assert_eq!(String::from_utf8_lossy(&fault.verbatim), broken);
        assert_eq!(fault.position.offset, record.len() as u64 + 1, "{broken}");
    }
}

#[test]
fn a_stanza_claims_no_more_surely_than_a_format_of_the_program() {
    let mut config = carrier(SyntaxConfig::Delimited(DELIMITED));
    config.columns = vec![
        any(Field::Start, &["Start Time"]),
        any(Field::CallerNumber, &["Caller Number"]),
        any(Field::CalleeNumber, &["Callee Number"]),
    ];
    config.times.clear();
    let text = "Caller Number,Callee Number,Start Time,Call Status\n1,2,2026-03-02 10:00:00,ANSWERED\n";
    let formats = Formats::with([config.clone(), MappingConfig { id: "other".to_owned(), ..config }]);
    let chosen = |pinned: Option<&str>| formats.recognise(&head(text.as_bytes()), pinned).chosen;
    assert_eq!(chosen(None).map(|(format, _)| format.card().id).ok(), Some("grandstream-web-csv"));
    assert_eq!(chosen(Some("carrier")).map(|(format, _)| format.card().id).ok(), Some("carrier"));
    let unlike = text.replace(",Call Status", ",Rate");
    let tied = formats.recognise(&head(unlike.as_bytes()), None).chosen.err();
    assert_eq!(tied.map(|rejection| rejection.reason), Some(Reason::FormatAmbiguous));
}

#[test]
fn days_and_months_that_nothing_decides_are_not_guessed() {
    let mut config = carrier(SyntaxConfig::Delimited(DELIMITED));
    config.columns[0] = any(Field::Start, &["Date"]);
    config.times.clear();
    let text = b"Date,From,To,Minutes,Result\n02/03/2026 10:00:00,1,2,3,ok\n";
    let Verdict::Undecided { reason, message } = asked(config.clone(), text, true) else {
        panic!("undecided")
    };
    assert_eq!(reason, Reason::DateOrderUnknown);
    assert!(message.contains("dates = \"day-first\""));
    config.date_order = Some(DateOrder::MonthFirst);
    assert!(matches!(asked(config, text, true), Verdict::Claimed(_)));
}

#[test]
fn the_version_changes_with_every_word_of_the_stanza() {
    let config = carrier(SyntaxConfig::Delimited(DELIMITED));
    let mut other = config.clone();
    other.skip.pop();
    assert_ne!(config.version(), other.version());
    assert_eq!(config.version(), carrier(SyntaxConfig::Delimited(DELIMITED)).version());
}

/// Every syntax, with a document of it: rows begin after the header.
fn documents() -> Vec<(MappingConfig, String, String)> {
    let row = |number: u32| format!("02.03.26,10:{number:02},\"1{number}\",2{number},3,ok\n");
    let rows: String = (10..18).map(row).collect();
    let object = |number: u32| {
        format!(
            r#"{{"Date":"02.03.26","Time":"10:{number}","From":"1{number}","To":"2{number}","Minutes":3}}"#
        ) + "\n"
    };
    let lines: String = (10..18).map(object).collect();
    let array = lines.trim_end().replace('\n', ",\n");
    vec![
        (
            carrier(SyntaxConfig::Delimited(DELIMITED)),
            "Date,Time,From,To,Minutes,Result\n".to_owned(),
            rows.clone(),
        ),
        (carrier(numbered(&[6])), String::new(), rows),
        (carrier(SyntaxConfig::Json(None)), String::new(), lines),
        (carrier(json("calls[]")), "{\"calls\":[".to_owned(), format!("{array}]}}")),
    ]
}

#[test]
fn a_byte_that_changes_in_one_row_changes_no_other() {
    for (config, start, rows) in documents() {
        let whole = format!("{start}{rows}").into_bytes();
        let dialect = claimed(config.clone(), &whole).dialect;
        let before = read(&config, &dialect, whole.as_slice());
        for at in start.len()..whole.len() {
            for byte in *b"\",\n{}[]:x" {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                let after = read(&config, &dialect, bytes.as_slice());
                let line =
                    whole[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1) as u64;
                let end =
                    whole[at..].iter().position(|byte| *byte == b'\n').map_or(whole.len(), |far| at + far)
                        as u64;
                for (offset, told) in &before {
                    // The line end itself may be gone, and with it where the next row begins.
                    let touched = (line..=end + 1).contains(offset);
                    // The brackets around all records belong to none of them.
                    let outside = at + 2 >= whole.len();
                    if !touched && !outside {
                        let same = after.iter().any(|(other, now)| other == offset && now == told);
                        assert!(same, "{} at {at}: {told} {after:?}", String::from_utf8_lossy(&bytes));
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_read_has_its_place_and_nothing_panics(
        scraps in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![
                "\"", "'", ",", "\n", "\r", "{", "}", "[", "]", ":", "null", "\\", "\0", "#",
                "Date,Time,From,To,Minutes,Result\n", "02.03.26,10:00,1,2,3,ok\n", "\"calls\":[",
                "{\"Date\":\"02.03.26\",\"Time\":\"10:00\",\"From\":\"1\",\"To\":\"2\",\"Minutes\":3}",
            ]).prop_map(|scrap| scrap.as_bytes().to_vec()),
            prop::collection::vec(proptest::num::u8::ANY, 0..4),
        ], 0..30),
    ) {
        let bytes = scraps.concat();
        for (config, ..) in documents() {
            asked(config.clone(), &bytes, true);
            for encoding in [Encoding::Utf8, Encoding::Utf16Le, Encoding::Windows1252] {
                read(&config, &config.dialect(encoding), bytes.as_slice());
            }
        }
    }
}
