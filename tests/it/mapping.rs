//! Formats that the configuration describes, from the file to the table: each column as an independent eye expects it.

use crate::site::Site;
use serde_json::{Value, json};
use std::fs;

fn fixture(name: &str) -> Vec<u8> {
    let path = crate::site::repository("fixtures/formats/mapping").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A site that knows these stanzas.
fn site(stanzas: &str) -> Site {
    let site = Site::new("Europe/Berlin", "DE");
    let config = fs::read_to_string(site.path("config.toml")).expect("our file");
    fs::write(site.path("config.toml"), format!("{config}{stanzas}")).expect("our file");
    site
}

fn stanza(name: &str) -> String {
    String::from_utf8(fixture(name)).expect("UTF-8")
}

fn import(site: &Site, name: &str, bytes: &[u8]) -> Option<i32> {
    fs::write(site.path(name), bytes).expect("the folder is writable");
    site.cdrd(&["import", name]).status.code()
}

/// What a row says, blank columns, labels and lineage left out.
fn rows(site: &Site) -> Vec<Value> {
    const WITHOUT: &str = "id key_day identity leg origin source call_group call_head delivery_id document_id row_number \
                           byte_offset byte_length versions version_hash stated change_seq stored_at";
    let names = site.query("cdr.db", "SELECT name FROM pragma_table_info('cdr')");
    let names = names.iter().filter(|name| !WITHOUT.split(' ').any(|other| other == *name));
    let members: Vec<String> = names
        .map(|name| match name.as_str() {
            "extra" | "recordings" => format!("'{name}', json({name})"),
            _ => format!("'{name}', {name}"),
        })
        .collect();
    let sql = format!("SELECT json_object({}) FROM cdr ORDER BY row_number", members.join(", "));
    let lines = site.query("cdr.db", &sql);
    let row = |line: &String| {
        let mut row: Value = serde_json::from_str(line).expect("sqlite writes JSON");
        row.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        row
    };
    lines.iter().map(row).collect()
}

#[test]
fn a_carriers_list_column_by_column() {
    let site = site(&stanza("carrier.toml"));
    assert_eq!(import(&site, "list.csv", &fixture("carrier.csv")), Some(3));
    let all = json!({
        "system": "carrier-x", "format": "carrier-x", "utc_offset_min": 0, "time_precision": "second",
        "time_ambiguous": 0, "direction": "outbound", "currency": "EUR", "trunk_out": "carrier x",
    });
    let with = |row: Value| {
        let mut whole = all.clone();
        whole.as_object_mut().expect("an object").extend(row.as_object().expect("an object").clone());
        whole
    };
    assert_eq!(
        rows(&site),
        [
            with(json!({
                "started_at": "2026-03-02 10:15:00.000", "started_local": "02.03.2026 10:15:00",
                "ended_at": "2026-03-02 10:17:05.000", "duration_s": 125, "talk_s": 118, "disposition": "answered",
                "caller": "+493023125001", "caller_number": "030 23125001", "callee": "+441632960123",
                "callee_number": "+441632960123", "callee_name": "Doe; Jörg", "linked_id": "a1", "cost": "0,12",
                "extra": { "Tarif": "Standard" },
            })),
            with(json!({
                "started_at": "2026-03-02 10:16:30.000", "started_local": "02.03.2026 10:16:30",
                "ended_at": "2026-03-02 10:16:45.000", "duration_s": 15, "talk_s": 0, "ring_s": 15,
                "disposition": "busy", "caller": "+493023125001", "caller_number": "030 23125001",
                "callee": "+49891234567", "callee_number": "089 1234567", "linked_id": "a1", "cost": "0",
            })),
            with(json!({
                "started_at": "2026-03-29 00:59:59.000", "started_local": "29.03.2026 00:59:59",
                "ended_at": "2026-03-29 01:59:59.000", "duration_s": 3600, "talk_s": 3540, "disposition": "answered",
                "callee": "+498007236000", "callee_number": "0800 7236000", "callee_name": "Hotline",
                "extra": { "Tarif": "Frei" },
            })),
        ]
    );
    // Legs of one call are joined; titles and totals are no calls; what cannot be a call says why.
    assert_eq!(
        site.query("cdr.db", "SELECT count(DISTINCT call_group) FROM cdr WHERE linked_id = 'a1'"),
        ["1"]
    );
    assert_eq!(
        site.query("cdr.db", "SELECT rows_read, stored, skipped, rejected FROM delivery"),
        ["8|3|3|2"]
    );
    assert_eq!(
        site.query("cdr.db", "SELECT row_number, reason FROM rejected ORDER BY row_number"),
        ["7|start_invalid", "8|columns_mismatch"]
    );
    // Another list that repeats a call, with the column's other name.
    let again =
        String::from_utf8_lossy(&fixture("carrier.csv")).lines().take(3).collect::<Vec<_>>().join("\n");
    let again = again
        .replace(";Von;", ";Anrufer;")
        .replace("Gespr\u{fffd}ch", "Gespräch")
        .replace("J\u{fffd}rg", "Jo");
    let again = again.replace("Gespräch", "X") + "\n";
    assert_eq!(import(&site, "again.csv", again.as_bytes()), Some(0));
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["3"]);
}

#[test]
fn json_of_an_api_column_by_column() {
    let site = site(&stanza("calls.toml"));
    assert_eq!(import(&site, "calls.json", &fixture("calls.json")), Some(3));
    assert_eq!(
        rows(&site),
        [
            json!({
                "system": "softswitch-y", "format": "softswitch-y", "started_at": "2026-03-02 09:15:00.250",
                "answered_at": "2026-03-02 09:15:08.000", "ended_at": "2026-03-02 09:17:00.250",
                "started_local": "1772442900250", "utc_offset_min": 0, "time_precision": "second",
                "time_ambiguous": 0, "duration_s": 120, "talk_s": 112.25, "ring_s": 7.75,
                "direction": "transit", "disposition": "answered", "caller": "203", "caller_number": "203",
                "caller_name": "Mira \"M\" Berg", "callee": "+441632960124", "callee_number": "+441632960124",
                "sip_call_id": "abc@192.0.2.7", "hangup_cause_q850": 16, "recordings": ["a.wav", "b.wav"],
                "extra": { "record_id": "y-1", "kind": "call", "sip.via": "[\"192.0.2.7\", \"192.0.2.8\"]" },
            }),
            json!({
                "system": "softswitch-y", "format": "softswitch-y", "started_at": "2026-03-02 10:20:00.500",
                "ended_at": "2026-03-02 10:20:20.500", "started_local": "2026-03-02T11:20:00.5+01:00",
                "utc_offset_min": 60, "time_precision": "second", "time_ambiguous": 0, "duration_s": 20,
                "talk_s": 0, "ring_s": 20, "direction": "transit", "disposition": "no_answer", "caller": "204",
                "caller_number": "204", "callee": "9", "callee_number": "9",
                "extra": { "record_id": "y-2", "kind": "call", "cause": "none" },
            }),
        ]
    );
    assert_eq!(
        site.query("cdr.db", "SELECT row_number, reason FROM rejected ORDER BY row_number"),
        ["4|row_empty", "5|start_invalid"]
    );
}

#[test]
fn described_formats_are_listed_and_may_be_fixed_for_a_source() {
    let site = site(&stanza("calls.toml"));
    let output = site.cdrd(&["formats", "--json"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let listed: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("one object per line")).collect();
    let ours = listed.iter().find(|format| format["id"] == "softswitch-y").expect("it is listed");
    assert_eq!(ours["title"], "Softswitch Y, API");
    assert_eq!(ours["rests on"].as_str().or(ours["evidence"].as_str()), Some("your configuration"));
    let config = fs::read_to_string(site.path("config.toml")).expect("our file");
    let fixed = config.replace("settle = \"150ms\"\n", "settle = \"150ms\"\nformat = \"softswitch-y\"\n");
    fs::write(site.path("config.toml"), fixed).expect("our file");
    site.drop_file("calls.json", &fixture("calls.json"));
    site.drop_file("list.csv", &fixture("carrier.csv"));
    site.run_to_end();
    assert_eq!(
        site.query("cdr.db", "SELECT name, state, stored FROM delivery ORDER BY name"),
        ["calls.json|done_with_rejects|2", "list.csv|rejected|0"]
    );
    let usage = site.cdrd(&["import", "--format", "softswitch-z", "config.toml"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn a_corrected_stanza_reads_the_same_bytes_again_and_corrects_stored_rows() {
    let text = stanza("carrier.toml");
    let site = site(&text);
    assert_eq!(import(&site, "list.csv", &fixture("carrier.csv")), Some(3));
    let config = fs::read_to_string(site.path("config.toml")).expect("our file");
    let corrected = config
        .replace("time_zone = \"utc\"", "time_zone = \"Europe/Berlin\"")
        .replace("besetzt = \"busy\"", "besetzt = \"failed\"")
        .replace("skip = [", "skip = [{ column = \"Datum\", equals = \"31.02.2026\" }, ");
    fs::write(site.path("config.toml"), corrected).expect("our file");
    // The rejected row is no call now; nothing is stored twice.
    assert_eq!(import(&site, "list.csv", &fixture("carrier.csv")), Some(3));
    let counts = "SELECT stored, duplicate, skipped, rejected FROM delivery ORDER BY id DESC LIMIT 1";
    assert_eq!(site.query("cdr.db", counts), ["0|3|4|1"]);
    let before = "SELECT started_at, disposition FROM cdr ORDER BY row_number LIMIT 2";
    assert_eq!(
        site.query("cdr.db", before),
        ["2026-03-02 10:15:00.000|answered", "2026-03-02 10:16:30.000|busy"]
    );
    let output = site.cdrd(&["replay", "--rederive"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().nth(1), Some("pbx\tEurope/Berlin\t3"));
    assert_eq!(
        site.query("cdr.db", before),
        ["2026-03-02 09:15:00.000|answered", "2026-03-02 09:16:30.000|failed"]
    );
    // Stored anew under the corrected stanza, the table is the same.
    let anew = self::site("");
    fs::copy(site.path("config.toml"), anew.path("config.toml")).expect("our file");
    assert_eq!(import(&anew, "list.csv", &fixture("carrier.csv")), Some(3));
    assert_eq!(site.table(), anew.table());
}

#[test]
fn a_zone_that_a_stanza_forgot_corrects_stored_rows() {
    let right = stanza("carrier.toml");
    let zone = "time_zone = \"utc\"\n";
    assert!(right.contains(zone), "the fixture names its zone");
    let site = site(&right.replace(zone, ""));
    assert_eq!(import(&site, "list.csv", &fixture("carrier.csv")), Some(3));
    let config = fs::read_to_string(site.path("config.toml")).expect("our file");
    let mended = config.replace("id = \"carrier-x\"\n", &format!("id = \"carrier-x\"\n{zone}"));
    fs::write(site.path("config.toml"), mended).expect("our file");
    let output = site.cdrd(&["replay", "--rederive"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().nth(1), Some("pbx\tEurope/Berlin\t3"));
    let anew = self::site(&right);
    assert_eq!(import(&anew, "list.csv", &fixture("carrier.csv")), Some(3));
    assert_eq!(site.table(), anew.table());
}

#[test]
fn identity_lists_never_change_once_rows_exist() {
    let site = site(&stanza("carrier.toml"));
    let config = fs::read_to_string(site.path("config.toml")).expect("our file");
    let change = |from: &str, to: &str| {
        assert!(config.contains(from), "{from}");
        fs::write(site.path("config.toml"), config.replace(from, to)).expect("our file");
    };
    change("exact = [\"disposition\"]", "exact = [\"linked_id\"]");
    assert_eq!(site.cdrd(&["check"]).status.code(), Some(0), "no rows yet");
    change("exact", "exact");
    assert_eq!(import(&site, "list.csv", &fixture("carrier.csv")), Some(3));
    for (from, to) in [
        ("match = [\"start\", \"Von\", \"callee_number\"]", "match = [\"start\", \"Von\"]"),
        ("near = [\"duration\"]", "near = [\"talk\"]"),
        ("exact = [\"disposition\"]", "sure = \"linked_id\""),
        ("callee_number = \"Nach\"", "callee_number = \"Anderes\""),
        (
            "callee_number = \"Nach\"\ncallee_name = \"Ziel\"",
            "callee_number = \"Ziel\"\ncallee_name = \"Nach\"",
        ),
        ("id = \"carrier-x\"", "id = \"carrier-z\""),
    ] {
        change(from, to);
        let checked = site.cdrd(&["check"]);
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert_eq!(checked.status.code(), Some(2), "{to}: {said}");
        assert!(said.contains("carrier-x") && said.contains("has rows in the database"), "{said}");
        let run = site.cdrd(&["run"]);
        assert_eq!(run.status.code(), Some(2), "{to}");
    }
    // What is no part of identity may change, and a column may get a further name.
    for (from, to) in [
        ("callee_number = \"Nach\"", "callee_number = [\"Nach\", \"An\"]"),
        ("cost = \"Betrag\"\n", ""),
        ("title = \"Carrier X, daily list\"\n", ""),
    ] {
        change(from, to);
        assert_eq!(site.cdrd(&["check"]).status.code(), Some(0), "{to}");
    }
}

#[test]
fn rows_that_are_events_of_a_leg_become_one_row_in_any_order() {
    let text = "[[format]]\nid = \"events\"\nmatch = \"unique_id\"\nevents = [\"START\", \"TALK\", \"END\"]\n\
                [format.columns]\nrow_kind = \"Event\"\nunique_id = \"Id\"\nstart = \"Began\"\nanswer = \"Answered\"\n\
                caller_number = \"From\"\ncallee_number = \"To\"\nduration = \"Seconds\"\ntalk = \"Talk\"\ndisposition = \"Result\"\n";
    let lines = [
        "START,c1,2026-03-02 10:00:00,,203,305,,,",
        "TALK,c1,2026-03-02 10:00:00,2026-03-02 10:00:04,203,306,,,",
        "END,c1,2026-03-02 10:00:00,2026-03-02 10:00:04,203,,64,60,ANSWERED",
        "START,c2,2026-03-02 10:00:00,,203,305,,,",
    ];
    let mut tables = Vec::new();
    for order in [[0, 1, 2, 3], [2, 1, 0, 3], [3, 2, 0, 1], [1, 3, 0, 2]] {
        let site = site(text);
        for (number, line) in order.iter().enumerate() {
            let file = format!("Event,Id,Began,Answered,From,To,Seconds,Talk,Result\n{}\n", lines[*line]);
            assert_eq!(import(&site, &format!("{number}.csv"), file.as_bytes()), Some(0));
        }
        let told = "SELECT unique_id, callee_number, answered_at, talk_s, disposition, versions FROM cdr ORDER BY unique_id";
        assert_eq!(
            site.query("cdr.db", told),
            ["c1|306|2026-03-02 09:00:04.000|60|answered|3", "c2|305||0|unknown|1"],
            "{order:?}"
        );
        tables.push(site.table());
    }
    assert!(tables.windows(2).all(|pair| pair[0] == pair[1]));
    // A word that nobody named, or none, is no leg without a word.
    let site = site(text);
    let rows = "Event,Id,Began,Answered,From,To,Seconds,Talk,Result\nSTART,c1,2026-03-02 10:00:00,,203,305,,,\n\
                HOLD,c1,2026-03-02 10:00:00,,203,305,,,\n,c1,2026-03-02 10:00:00,,203,305,,,\n";
    assert_eq!(import(&site, "words.csv", rows.as_bytes()), Some(3));
    assert_eq!(site.query("cdr.db", "SELECT versions FROM cdr"), ["1"]);
    let rejected = site.query("cdr.db", "SELECT row_number, reason FROM rejected ORDER BY row_number");
    assert_eq!(rejected, ["2|event_unknown", "3|event_unknown"]);
}

#[test]
fn the_legs_of_a_call_are_found_by_their_linked_id() {
    let site = site(
        "[[format]]\nid = \"linked\"\nmatch = [\"start\", \"caller_number\"]\ndates = \"year-first\"\n\
         [format.columns]\nstart = \"Began\"\ncaller_number = \"From\"\nlinked_id = \"Call\"\n",
    );
    let rows =
        "Began,From,Call\n2026-03-02 10:00:00,1,a'b\n2026-03-02 10:01:00,2,a'b\n2026-03-02 10:02:00,3,c\n";
    assert_eq!(import(&site, "linked.csv", rows.as_bytes()), Some(0));
    let said = |arguments: &[&str]| {
        let output = site.cdrd(arguments);
        (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (legs, _) = said(&["calls", "a'b", "--json"]);
    let callers: Vec<bool> = legs.lines().map(|leg| leg.contains("\"caller_number\":\"2\"")).collect();
    assert_eq!(callers, [true, false], "the latest first: {legs}");
    let (_, filtered) = said(&["calls", "a'b", "--since", "2026-03-03"]);
    assert!(filtered.contains("the other options leave it out"), "{filtered}");
    let (_, unknown) = said(&["calls", "a"]);
    assert!(unknown.contains("there is no such leg"), "{unknown}");
}

#[test]
fn the_report_and_the_log_of_one_asterisk_are_the_same_legs() {
    let report = "calldate,clid,src,dst,dcontext,channel,dstchannel,lastapp,lastdata,duration,billsec,disposition,amaflags,\
                  accountcode,uniqueid,userfield\n\
                  2026-03-02 12:41:10,\"Mira\" <203>,203,305,from-internal,SIP/203-1,SIP/305-2,Dial,\"SIP/305,60,rI\",8,6,\
                  ANSWERED,3,,1772451670.17,\n\
                  2026-03-02 12:41:10,\"Mira\" <203>,203,305,from-internal,SIP/203-1,SIP/306-3,Dial,\"SIP/306,60,rI\",8,0,\
                  NO ANSWER,3,,1772451670.17,\n";
    // The log is written in UTC.
    let log = "\"\",\"203\",\"305\",\"from-internal\",\"\"\"Mira\"\" <203>\",\"SIP/203-1\",\"SIP/305-2\",\"Dial\",\"SIP/305,60,rI\",\
               \"2026-03-02 11:41:10\",\"2026-03-02 11:41:12\",\"2026-03-02 11:41:18\",8,6,\"ANSWERED\",\"DOCUMENTATION\",\
               \"1772451670.17\",\"\"\n";
    let mut tables = Vec::new();
    for order in [["report.csv", "Master.csv"], ["Master.csv", "report.csv"]] {
        let site = Site::new("Europe/Berlin", "DE");
        for name in order {
            let (text, zone) = if name == "Master.csv" { (log, "UTC") } else { (report, "Europe/Berlin") };
            fs::write(site.path(name), text).expect("the folder is writable");
            let output = site.cdrd(&["import", "--time-zone", zone, name]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let told =
            "SELECT dst_channel, started_at, answered_at, format, versions FROM cdr ORDER BY dst_channel";
        assert_eq!(
            site.query("cdr.db", told),
            [
                "SIP/305-2|2026-03-02 11:41:10.000|2026-03-02 11:41:12.000|asterisk-cdr-csv|2",
                "SIP/306-3|2026-03-02 11:41:10.000||freepbx-report-csv|1",
            ],
            "{order:?}"
        );
        tables.push(site.table());
    }
    assert_eq!(tables[0], tables[1]);
}

/// The blocks of a page that stand between these marks.
fn block<'p>(page: &'p str, kind: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("```{kind}\n")).unwrap_or_else(|| panic!("no block {kind}"));
    rest.split("```").next().unwrap_or_default()
}

#[test]
fn the_example_of_the_manual_does_what_it_says() {
    let page = include_str!("../../docs/mapping.md");
    let site = Site::new("Europe/Berlin", "GB");
    fs::create_dir(site.path("config.d")).expect("the folder is writable");
    fs::write(site.path("config.d/carrier-x.toml"), block(page, "toml")).expect("the folder is writable");
    fs::write(site.path("calls.csv"), block(page, "csv")).expect("the folder is writable");
    let mut said = String::new();
    for line in block(page, "sh").lines() {
        let (program, rest) = line.split_once(' ').expect("a command");
        assert_eq!(program, "cdrd");
        let (verb, rest) = rest.split_once(' ').expect("an argument");
        let output = site.cdrd(&[verb, rest.trim_matches('\'')]);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        said = String::from_utf8_lossy(&output.stdout).into_owned();
    }
    assert_eq!(said, block(page, "text"));
    assert_eq!(site.query("cdr.db", "SELECT skipped, rejected FROM delivery"), ["2|0"]);
}

const PLAIN: &str = "[[format]]\nid = \"plain\"\nseparator = \";\"\ndates = \"month-first\"\n\
    match = [\"start\", \"caller_number\", \"callee_number\"]\n[format.columns]\nstart = \"When\"\n\
    caller_number = \"From\"\ncallee_number = \"To\"\nduration = \"Secs\"\n";

fn rewrite(site: &Site, from: &str, to: &str) {
    let config = fs::read_to_string(site.path("config.toml")).expect("our file");
    assert!(config.contains(from), "{config}");
    fs::write(site.path("config.toml"), config.replace(from, to)).expect("our file");
}

#[test]
fn rejected_rows_of_a_document_that_reads_otherwise_now_are_not_stored_beside_the_others() {
    let site = site(PLAIN);
    let list = "When;From;To;Secs\n05/06/2025 10:00:00;201;300;5\n25/06/2025 10:00:01;201;301;5\n";
    assert_eq!(import(&site, "list.csv", list.as_bytes()), Some(3));
    assert_eq!(site.query("cdr.db", "SELECT substr(started_at, 1, 7) FROM cdr"), ["2025-05"]);
    rewrite(&site, "month-first", "day-first");
    site.cdrd(&["rejected", "retry", "--all"]);
    assert_eq!(
        site.query("cdr.db", "SELECT count(*) FROM cdr"),
        ["1"],
        "half May, half June is nobody's list"
    );
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM rejected WHERE resolved_at IS NULL"), ["1"]);
    let id = site.query("cdr.db", "SELECT id FROM delivery").remove(0);
    assert_eq!(site.cdrd(&["replay", &id]).status.code(), Some(0));
    let months = site.query("cdr.db", "SELECT substr(started_at, 1, 10) FROM cdr ORDER BY 1");
    assert_eq!(months, ["2025-06-05", "2025-06-25"]);
}

#[test]
fn a_followed_file_that_reads_otherwise_is_told_and_passes_nothing_over() {
    let site = site(PLAIN);
    rewrite(&site, "path = \"inbox\"", "path = \"inbox\"\nmode = \"append\"\nfiles = [\"M.csv\"]");
    let row = |call: u32| format!("05/06/2025 10:00:{call:02};201;{};5\n", 300 + call);
    let file = site.path("inbox/M.csv");
    let mut text = "When;From;To;Secs\n".to_owned() + &(0..10).map(row).collect::<String>();
    fs::write(&file, &text).expect("the folder is writable");
    assert_eq!(site.cdrd(&["run", "--once"]).status.code(), Some(0));
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["10"]);
    text += &(10..20).map(row).collect::<String>();
    fs::write(&file, &text).expect("the folder is writable");
    fs::rename(&file, site.path("inbox/M.csv.1")).expect("it is rotated");
    fs::write(&file, "").expect("the folder is writable");
    rewrite(&site, "separator = \";\"", "separator = \",\"");
    let output = site.cdrd(&["run", "--once"]);
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("reads otherwise than when it was begun"), "{said}");
    rewrite(&site, "separator = \",\"", "separator = \";\"");
    site.cdrd(&["run", "--once"]);
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["20"], "nothing was passed over");
}
