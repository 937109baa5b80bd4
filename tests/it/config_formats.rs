//! Each wrong `[[format]]` stanza is refused with line, key and mend, and all that is wrong with it is said at once.

use cdrd::config::{Surroundings, load};
use tempfile::TempDir;

const COLUMNS: &str =
    "[format.columns]\nstart = \"Date\"\ncaller_number = \"From\"\ncallee_number = \"To\"\n";

/// What the program says about this file, without the folder's name.
fn said(text: &str) -> String {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("config.toml");
    std::fs::write(&file, text).expect("the folder is writable");
    let surroundings = Surroundings { state_directory: None, formats: &["asterisk-cdr-csv"] };
    match load(&file, &surroundings) {
        Ok(config) => format!("accepted: {:?}", config.formats),
        Err(error) => error.to_string().replace(&format!("{}/", folder.path().display()), ""),
    }
}

#[track_caller]
fn assert_said(text: &str, expected: &str) {
    assert_eq!(said(text), expected, "for:\n{text}");
}

/// These lines after the id, before the columns.
fn with(lines: &str) -> String {
    format!("[[format]]\nid = \"x\"\n{lines}\n{COLUMNS}")
}

fn matched(lines: &str) -> String {
    with(&format!("match = [\"start\", \"From\"]\n{lines}"))
}

#[test]
fn what_is_missing() {
    assert_said(
        "[[format]]\n",
        "config.toml:1: format.id: is missing; give the format an id, id = \"carrier-x\"\n\
         config.toml:1: format.columns: is missing; say what the columns mean, [format.columns] start = \"...\"\n\
         config.toml:1: format.match: is missing; name the columns that tell calls apart, match = [\"start\", \
         \"caller_number\", \"callee_number\"]",
    );
    assert_said(
        "[[format]]\nid = \"x\"\nmatch = \"record_id\"\n[format.columns]\nrecord_id = \"Number\"\n",
        "config.toml:4: format.columns.start: is missing; without its start no call can be placed, start = \"...\"",
    );
}

#[test]
fn ids() {
    assert_said(
        &matched("").replace("\"x\"", "\"Carrier X\""),
        "config.toml:2: format.id: may hold lower-case letters, digits and '-' only, 64 at most; choose such an id",
    );
    assert_said(
        &matched("").replace("\"x\"", "\"asterisk-cdr-csv\""),
        "config.toml:2: format.id: \"asterisk-cdr-csv\" is a format of this program; choose another id",
    );
    assert_said(
        &format!("{}{}", matched(""), matched("")),
        "config.toml:10: format.id: \"x\" is taken by the stanza at config.toml:1; choose another id",
    );
    let source = "[[origin]]\nname = \"a\"\n[[source]]\nname = \"b\"\nkind = \"folder\"\npath = \"c\"\nformat = \"y\"\n";
    assert_said(
        &format!("{source}{}", matched("")),
        "config.toml:7: source.format: \"y\" is no format; `cdrd formats` lists them",
    );
    assert!(said(&format!("{}{}", source.replace("\"y\"", "\"x\""), matched(""))).starts_with("accepted"));
}

#[test]
fn keys_that_do_not_exist() {
    assert_said(
        &matched("seperator = \";\"\nduration_units = \"s\""),
        "config.toml:4: format.seperator: there is no such key; did you mean separator?\n\
         config.toml:5: format.duration_units: there is no such key; did you mean duration_unit?",
    );
    assert_said(
        &format!("{}callee_nmber = \"B\"\n[format.constants]\ncurency = \"EUR\"\n", matched("")),
        "config.toml:9: format.columns.callee_nmber: there is no such key; did you mean callee_number?\n\
         config.toml:11: format.constants.curency: there is no such key; did you mean currency?",
    );
}

#[test]
fn separators_quotes_and_syntax() {
    assert_said(
        &matched("separator = \"ab\"\nquote = 5\nsyntax = \"csv\""),
        "config.toml:6: format.syntax: \"csv\" is not known here; write one of \"delimited\", \"json\"",
    );
    assert_said(
        &matched("separator = \"ab\"\nquote = 5"),
        "config.toml:4: format.separator: \"ab\" is not one ASCII character that is no letter or digit; write one like \
         \";\" or \"tab\"\n\
         config.toml:5: format.quote: must be text in quotes, not a number; write quote = \"...\"",
    );
    assert_said(
        &matched("separator = \";\"\nquote = \";\""),
        "config.toml:5: format.quote: is separator and quote at once; write another, or quote = \"none\"",
    );
    assert_said(
        &matched("syntax = \"json\"\nseparator = \";\"\nrecognise = \"a*\"\npath = \"a..b\""),
        "config.toml:5: format.separator: belongs to syntax = \"delimited\" only; take the line away, or write that \
         syntax\n\
         config.toml:6: format.recognise: belongs to syntax = \"delimited\" only; take the line away, or write that \
         syntax\n\
         config.toml:7: format.path: \"a..b\" is no path; write names with dots between them and [] behind an array, like \
         \"data.calls[]\"",
    );
    assert_said(
        &matched("path = \"a[]\"\nencoding = \"latin-1\"\nskip_lines = -1"),
        "config.toml:4: format.path: belongs to syntax = \"json\" only; take the line away, or write that syntax\n\
         config.toml:5: format.encoding: \"latin-1\" is not known here; write one of \"auto\", \"utf-8\", \"utf-16le\", \
         \"utf-16be\", \"windows-1252\", \"iso-8859-1\"\n\
         config.toml:6: format.skip_lines: must be a whole number between 0 and 10000; write skip_lines = 12",
    );
}

#[test]
fn numbers_and_names_of_columns() {
    assert_said(
        &matched("header = false"),
        "config.toml:1: format.width: is missing; without a header, say how many columns a row has, width = 12 or width \
         = [12, 13]\n\
         config.toml:3: format.match: \"start\" is no column of this format; map it under [format.columns] first; an id \
         without a better name is record_id\n\
         config.toml:3: format.match: \"From\" is no column of this format; map it under [format.columns] first; an id \
         without a better name is record_id\n\
         config.toml:6: format.columns.start: without a header columns go by their number from 1; write it without quotes, like 3\n\
         config.toml:7: format.columns.caller_number: without a header columns go by their number from 1; write it without quotes, like \
         3\n\
         config.toml:8: format.columns.callee_number: without a header columns go by their number from 1; write it without quotes, like 3",
    );
    assert_said(
        "[[format]]\nid = \"x\"\nheader = false\nwidth = 3\nmatch = [\"start\", \"callee_number\"]\n[format.columns]\nstart = 1\ncallee_number = 2\ndid = 4\n",
        "config.toml:9: format.columns.did: there is no column 4: rows have 3 by width",
    );
    assert_said(
        &matched("width = 3").replace("\"To\"", "3"),
        "config.toml:4: format.width: is only for header = false; the header says how many columns there are\n\
         config.toml:8: format.columns.callee_number: must be the name in the header, in quotes; numbers are for header = \
         false",
    );
    assert_said(
        &matched("").replace("\"To\"", "\"from\""),
        "config.toml:8: format.columns.callee_number: column \"from\" is caller_number already; one column has one \
         meaning, take one of the two away",
    );
    assert_said(
        &matched("").replace("\"To\"", "[\"To\", \"t.o\"]"),
        "config.toml:8: format.columns.callee_number: \"t.o\" stands here twice; dots, blanks and capitals make no \
         difference",
    );
    assert_said(
        &matched("").replace("\"To\"", "{ join = [\"A\", \"B\"] }"),
        "config.toml:8: format.columns.callee_number: joins the date and the time of start, answer or end; write start = \
         { join = [\"Date\", \"Time\"] }",
    );
    assert_said(
        &format!("{}[format.constants]\ncallee_number = \"1\"\nend = \"now\"\n", matched("")),
        "config.toml:10: format.constants.callee_number: is a column already; take one of the two away\n\
         config.toml:11: format.constants.end: cannot be the same in every row; name its column under [format.columns]",
    );
}

#[test]
fn times_and_lengths() {
    assert_said(
        &matched("dates = \"dayfirst\"\ntime_zone = \"Europe/Belin\"\nduration_unit = \"sec\""),
        "config.toml:4: format.dates: \"dayfirst\" is not known here; did you mean \"day-first\"?\n\
         config.toml:5: format.time_zone: \"Europe/Belin\" is no time zone that this host knows; did you mean \
         \"Europe/Berlin\"?\n\
         config.toml:6: format.duration_unit: \"sec\" is not known here; write one of \"s\", \"ms\", \"min\", \
         \"hh:mm:ss\", \"hh:mm\"",
    );
    assert_said(
        &matched("dates = [\"epoch\", \"day-first\"]"),
        "config.toml:4: format.dates: \"day-first\" stands alone or not at all; write layouts only, or this only",
    );
    for layout in ["%d.%m.%Y", "%H:%M", "%d.%m.%Y %H:%M %Z", "%s", "%K", "%Y-%m-%d %I:%M"] {
        let said = said(&matched(&format!("dates = \"{layout}\"")));
        assert!(said.starts_with(&format!("config.toml:4: format.dates: {layout:?} is no layout")), "{said}");
    }
}

#[test]
fn words_and_rules() {
    assert_said(
        &format!(
            "{}[format.dispositions]\nOK = \"answerd\"\n[format.directions]\nIN = \"up\"\n",
            matched("")
        ),
        "config.toml:10: format.dispositions.OK: \"answerd\" is not known here; did you mean \"answered\"?\n\
         config.toml:12: format.directions.IN: \"up\" is not known here; write one of \"unknown\", \"inbound\", \
         \"outbound\", \"internal\", \"transit\"",
    );
    assert_said(
        &matched(
            "skip = [\n{ column = \"A\" },\n{ equals = \"B\" },\n{ column = \"A\", blank = true, begins = \"#\" },\n{ colum = \"A\", blank = true }]",
        ),
        "config.toml:5: format.skip.equals: needs exactly one of equals, matches, blank and begins; write one rule for \
         each\n\
         config.toml:6: format.skip.column: is missing; name the column that is looked at, column = \"...\"\n\
         config.toml:7: format.skip.equals: needs exactly one of equals, matches, blank and begins; write one rule for \
         each\n\
         config.toml:8: format.skip.colum: there is no such key; did you mean column?\n\
         config.toml:8: format.skip.column: is missing; name the column that is looked at, column = \"...\"",
    );
}

#[test]
fn identity_lists() {
    assert_said(
        &with(
            "match = [\"start\", \"caller\"]\nsure = \"Id\"\nnear = [\"From\"]\nlinks = \"start\"\nexact = []",
        ),
        "config.toml:3: format.match: \"caller\" is no column of this format; did you mean \"caller_number\"?\n\
         config.toml:4: format.sure: \"Id\" is no column of this format; map it under [format.columns] first; an id \
         without a better name is record_id\n\
         config.toml:5: format.near: lists lengths that may differ by a second: duration and talk; put others under \
         exact\n\
         config.toml:7: format.exact: is empty; give it a value or take the line away",
    );
    assert_said(
        &matched("events = [\"START\"]\nexact = \"To\""),
        "config.toml:4: format.events: needs the column that names the event; write row_kind = \"...\" under \
         [format.columns]\n\
         config.toml:4: format.events: names one event; write all in the order in which they happen, [\"START\", \
         \"END\"]\n\
         config.toml:5: format.exact: has no meaning beside events, whose rows are one leg by match alone; take the line \
         away",
    );
}

/// These lines beside columns with an id and a length.
fn with_ids(lines: &str) -> String {
    let ids = "record_id = \"Id\"\nduration = \"Secs\"\n";
    with(lines) + ids
}

#[test]
fn identities_that_would_lose_calls() {
    assert_said(
        &with("match = [\"From\"]"),
        "config.toml:3: format.match: has neither start nor an id, so that a later call of the same numbers would take the \
         place of an earlier one; add \"start\"",
    );
    assert_said(
        &with("match = [\"start\"]"),
        "config.toml:3: format.match: has start alone, so that two calls of one second would be one; add the numbers, or the \
         id of the row",
    );
    assert_said(
        &matched("sure = \"start\"\ninstance = \"To\""),
        "config.toml:4: format.sure: is the one column that holds an id (record_id, unique_id, linked_id, sip_call_id), and \
         start is none: rows that are equal in it would be one call; list it under match or exact\n\
         config.toml:5: format.instance: is the one column that holds an id (record_id, unique_id, linked_id, sip_call_id), \
         and callee_number is none: rows that are equal in it would be one call; list it under match or exact",
    );
    assert_said(
        &with_ids("match = [\"start\", \"From\"]\nsure = \"Id\"\ninstance = \"Id\""),
        "config.toml:5: format.instance: is the column of sure too; take one of the two lines away",
    );
    assert!(said(&with_ids("match = [\"Id\"]")).starts_with("accepted"));
    assert!(said(&with_ids("match = [\"start\"]\nexact = [\"From\", \"To\"]")).starts_with("accepted"));
}

#[test]
fn columns_in_two_lists() {
    assert_said(
        &matched("exact = [\"start\"]"),
        "config.toml:4: format.exact: lists start, which match has already; take it away here",
    );
    assert_said(
        &with("match = [\"start\", \"From\", \"caller_number\"]"),
        "config.toml:3: format.match: \"caller_number\" stands here twice; take one of the two away",
    );
    assert_said(
        &with_ids("match = [\"start\", \"From\"]\nexact = [\"Secs\"]\nnear = [\"Secs\"]"),
        "config.toml:5: format.near: lists duration, which exact has already; take one of the two away",
    );
}

#[test]
fn what_would_skip_or_split_nothing() {
    assert_said(
        &matched("separator = '\"'"),
        "config.toml:4: format.separator: is separator and quote at once; write another, or quote = \"none\"",
    );
    assert_said(
        &(matched("") + "[[format.skip]]\ncolumn = \"To\"\nequals = []\n"),
        "config.toml:11: format.skip.equals: names no text, so that it would skip nothing; write the texts, or take the rule \
         away",
    );
}
