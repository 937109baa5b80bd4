//! Each wrong configuration is answered with file, line, key and mend, and all that is wrong with it is said at once.

use cdrd::config::{ConfigError, Surroundings, load};
use std::path::Path;
use tempfile::TempDir;

const ORIGIN: &str = "[[origin]]\nname = \"hq\"\n";
const SOURCE: &str = "[[source]]\nname = \"inbox\"\nkind = \"folder\"\npath = \"inbox\"\n";

/// What the program says about this file, without the folder's name.
fn said(text: &str) -> Result<String, Box<dyn std::error::Error>> {
    let folder = TempDir::new()?;
    let file = folder.path().join("config.toml");
    std::fs::write(&file, text)?;
    let surroundings = Surroundings { state_directory: None, formats: &["asterisk-cdr-csv"] };
    match load(&file, &surroundings) {
        Ok(config) => Ok(format!("accepted: {config:?}")),
        Err(error) => Ok(error.to_string().replace(&format!("{}/", folder.path().display()), "")),
    }
}

#[track_caller]
fn assert_said(text: &str, expected: &str) {
    assert_eq!(said(text).expect("a temporary folder can be written"), expected, "for:\n{text}");
}

#[test]
fn no_file_at_all() {
    let missing = Path::new("/nonexistent/config.toml");
    let error = load(missing, &Surroundings::default()).expect_err("the file does not exist");
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert_eq!(
        error.to_string(),
        "/nonexistent/config.toml: cannot be read: No such file or directory (os error 2); check the path given with \
         --config and that this user may read it"
    );
}

#[test]
fn what_is_no_toml() {
    assert_said(
        "state_dir = var\n",
        "config.toml:1: syntax: this is no TOML: string values must be quoted, expected literal string; text values \
         stand in \"quotes\"",
    );
}

#[test]
fn a_key_twice_and_what_is_no_utf_8() -> Result<(), Box<dyn std::error::Error>> {
    assert_said(
        "state_dir = \"a\"\nstate_dir = \"b\"\n",
        "config.toml:2: syntax: this is no TOML: duplicate key; it stands here for the second time in one stanza, take \
         one of the two away",
    );
    let folder = TempDir::new()?;
    let file = folder.path().join("config.toml");
    std::fs::write(&file, b"[[origin]]\nname = \"M\xfcnchen\"\n")?;
    let error = load(&file, &Surroundings::default()).expect_err("it is Latin-1");
    assert_eq!(
        error.to_string(),
        format!(
            "{}:2: syntax: there are letters here that are no UTF-8; save the file as UTF-8",
            file.display()
        )
    );
    Ok(())
}

#[test]
fn keys_and_tables_that_do_not_exist() {
    assert_said(
        "state_dir = 5\nstatedir = \"x\"\n",
        "config.toml:1: state_dir: must be text in quotes, not a number; write state_dir = \"...\"\n\
         config.toml:2: statedir: there is no such key; did you mean state_dir?",
    );
    assert_said(
        "[mail]\nhost = \"imap.example\"\n",
        "config.toml:1: mail: there is no such key; known here: state_dir, store, http, keep, origin, source, format",
    );
    assert_said(
        "[origin]\nname = \"x\"",
        "config.toml:1: origin: must be a list of stanzas, not a table; write [[origin]]",
    );
}

const SERVER: &str = "[[source]]\nname = \"push\"\nkind = \"sftp\"\nlisten = \"127.0.0.1:2022\"\n";

#[test]
fn an_sftp_server_that_nobody_could_reach_or_use() {
    assert_said(
        &format!("{ORIGIN}[[source]]\nname = \"push\"\nkind = \"sftp\"\npath = \"inbox\"\n"),
        "config.toml:3: source.account: is missing: nobody could log in; `cdrd sftp add-account` writes a [[source.account]] \
         stanza\nconfig.toml:3: source.listen: is missing; say where the server listens, listen = \"0.0.0.0:2022\"\n\
         config.toml:6: source.path: there is no such key; known here: listen, feedback, marker, show_days, partial_days, idle, \
         connections, connections_per_address, legacy_algorithms, name, kind, origin, time_zone, format, expect_every, account",
    );
    assert_said(
        &format!("{ORIGIN}{SERVER}[[source.account]]\nuser = \"../pbx\"\nnetworks = \"pbx.example\"\n"),
        "config.toml:7: source.account.password_hash: is missing, and so is authorized_keys: nobody could log in; `cdrd sftp \
         hash-password` makes a hash\nconfig.toml:8: source.account.user: may hold letters from a to z, digits, '-', '_' and '.' \
         only, 64 at most; choose such a name\nconfig.toml:9: source.account.networks: \"pbx.example\" is no network; write it \
         like \"192.0.2.0/24\" or \"192.0.2.7\"",
    );
}

#[test]
fn a_password_in_plain_text_is_refused_and_not_repeated() {
    assert_said(
        &format!("{ORIGIN}{SERVER}[[source.account]]\nuser = \"hq\"\npassword_hash = \"hunter2\"\n"),
        "config.toml:9: source.account.password_hash: is no argon2 hash; never write the password itself: `cdrd sftp \
         hash-password` makes the hash of it",
    );
    assert_said(
        &format!(
            "{ORIGIN}{SERVER}[[source.account]]\nuser = \"hq\"\nauthorized_keys = \"ssh-rsa nonsense\"\n"
        ),
        "config.toml:9: source.account.authorized_keys: is no public key; copy the one line of the .pub file, or name a file of \
         such lines",
    );
}

#[test]
fn two_servers_on_one_address_and_two_accounts_of_one_name() {
    let account = "[[source.account]]\nuser = \"hq\"\npassword_hash = { env = \"H\" }\n";
    assert_said(
        &format!("{ORIGIN}{SERVER}{account}{account}"),
        "config.toml:11: source.account.user: \"hq\" is taken by the account at config.toml:7; choose another name",
    );
    assert_said(
        &format!("{ORIGIN}{SERVER}{account}{}{account}", SERVER.replace("push", "second")),
        "config.toml:10: source.listen: sources \"push\" and \"second\" would both listen on 127.0.0.1:2022; put the accounts \
         into one of them, or name another port",
    );
}

#[test]
fn a_database_that_cannot_be_used_and_no_password_in_the_answer() {
    assert_said(
        "[store]\nurl = \"mysql://me:secret@db/cdr\"\nuri = 1",
        "config.toml:2: store.url: \"mysql\" names no database that this version can use; write \"sqlite:FILE\", FILE \
         relative to state_dir\n\
         config.toml:3: store.uri: there is no such key; did you mean url?",
    );
}

#[test]
fn origins() {
    assert_said(
        "[[origin]]\ntime_zone = \"Europe/Belin\"\ncountry = \"UK\"\ntimezone = \"x\"",
        "config.toml:1: origin.name: is missing; give the stanza a name, name = \"...\"\n\
         config.toml:2: origin.time_zone: \"Europe/Belin\" is no time zone that this host knows; did you mean \
         \"Europe/Berlin\"?\n\
         config.toml:3: origin.country: \"UK\" is no country whose numbers are known; the United Kingdom is \"GB\"\n\
         config.toml:4: origin.timezone: there is no such key; did you mean time_zone?",
    );
    assert_said(
        &format!("{ORIGIN}country = \"de\"\ntime_zone = \"Moon\"\n{ORIGIN}country = \"Germany\""),
        "config.toml:3: origin.country: \"de\" is no country whose numbers are known; write it in capitals, \"DE\"\n\
         config.toml:4: origin.time_zone: \"Moon\" is no time zone that this host knows; write a name like \
         \"Europe/Berlin\", or \"auto\" for this host's zone\n\
         config.toml:6: origin.name: \"hq\" is taken by the stanza at config.toml:1; choose another name\n\
         config.toml:7: origin.country: \"Germany\" is no country whose numbers are known; write the two letters of \
         ISO 3166, like \"DE\" or \"GB\"",
    );
    assert_said(
        "[[origin]]\nname = \"a b\"\n[[origin]]\nname = \"b\"\nformerly = \"c\"\n[[origin]]\nname = \"c\"\n",
        "config.toml:2: origin.name: may hold letters, digits, '-', '_' and '.' only, 64 at most; choose such a name\n\
         config.toml:5: origin.formerly: \"c\" is still the name of an origin (config.toml:6); an origin that was \
         renamed has one stanza, take the other away",
    );
}

#[test]
fn sources_without_their_origin() {
    assert_said(
        SOURCE,
        "config.toml:1: source.origin: is missing; write an [[origin]] stanza for the PBX and name it here",
    );
    assert_said(
        &format!("{ORIGIN}{SOURCE}origin = \"nobody\"\n"),
        "config.toml:7: source.origin: no origin is called \"nobody\"; name one of: hq",
    );
    assert_said(
        &format!("{ORIGIN}[[origin]]\nname = \"branch\"\n{SOURCE}origin = \"brunch\""),
        "config.toml:9: source.origin: no origin is called \"brunch\"; did you mean \"branch\"?",
    );
    assert_said(
        &format!("{ORIGIN}[[origin]]\nname = \"branch\"\n{SOURCE}"),
        "config.toml:5: source.origin: is missing; name one of: hq, branch",
    );
}

#[test]
fn kinds_of_sources() {
    assert_said(
        &format!(
            "{ORIGIN}[[source]]\nname = \"m\"\nkind = \"pigeon\"\nloft = \"roof\"\n[[source]]\nname = \"n\"\n"
        ),
        "config.toml:5: source.kind: \"pigeon\" is no kind of source; this version knows: folder, sftp, ucm\n\
         config.toml:7: source.kind: is missing; this version knows the kinds: folder, sftp, ucm",
    );
}

#[test]
fn every_fault_of_a_ucm_at_once_and_none_repeats_a_password() {
    let head = "[[origin]]\nname = \"hq\"\n[[source]]\nname = \"u\"\nkind = \"ucm\"\n";
    assert_said(
        head,
        "config.toml:3: source.url: is missing; write where its web page is, url = \"https://ucm.example.org:8089\"\n\
         config.toml:3: source.user: is missing; write the user of the device's API page, user = \"cdrapi\"\n\
         config.toml:3: source.password: is missing; write where it is, password = { file = \"/etc/cdrd/ucm-password\" }",
    );
    let wrong = "url = \"https://cdrapi:hunter2@ucm:8089\"\nuser = \"cdrapi\"\npassword = \"hunter2\"\ntls = \"pin:sha256:00\"\n\
                 every = \"0.5s\"\npage_size = 2000\npath = \"inbox\"\n";
    assert_said(
        &format!("{head}{wrong}"),
        "config.toml:6: source.url: holds a user or password; write those into user and password\n\
         config.toml:8: source.password: a secret is never written here; put it into a file that only cdrd may read and \
         write password = { file = \"/etc/cdrd/password\" }, or { credential = \"password\" } with LoadCredential= in the \
         unit, or { env = \"...\" }\n\
         config.toml:9: source.tls: must be \"verify\", \"pin:sha256:\" with the 64 hex digits of its certificate's fingerprint \
         (`cdrd poll test` shows it), or \"insecure\"\n\
         config.toml:10: source.every: must be at least \"1s\"\n\
         config.toml:11: source.page_size: must be one number from 1 to 1000\n\
         config.toml:12: source.path: there is no such key; known here: url, user, password, tls, every, days_back, overlap, \
         timeout, page_size, name, kind, origin, time_zone, format, expect_every",
    );
    for (url, words) in [
        ("http://ucm:8089", "must begin with https://: the device asks for TLS"),
        ("https://ucm:8089/cdrapi", "must end after the port, or in /api"),
        ("https://ucm:0", "must be like \"https://ucm.example.org:8089\""),
    ] {
        let rest = "user = \"a\"\npassword = { env = \"P\" }\n";
        assert_said(
            &format!("{head}url = \"{url}\"\n{rest}"),
            &format!("config.toml:6: source.url: {words}"),
        );
    }
}

#[test]
fn every_fault_of_a_folder_at_once() {
    let wrong = "keep = \"yes\"\nsettle = 5\nrescan = \"5 parsecs\"\nmarker = \"x/y\"\nformat = \"asterisk-csv\"\n\
                 time_zone = \"Moon\"\nrecursiv = true\n";
    assert_said(
        &format!("{ORIGIN}{SOURCE}{wrong}"),
        "config.toml:7: source.keep: must be true or false, not text; write keep = true\n\
         config.toml:8: source.settle: must be a length of time in quotes, not a number; write settle = \"5s\"\n\
         config.toml:9: source.rescan: \"5 parsecs\" is no length of time between \"1ms\" and \"24h\"; write it like \
         \"5s\" or \"1m 30s\"\n\
         config.toml:10: source.marker: \"x/y\" is no ending of a file name; write it like \".FIN\", for NAME.csv.FIN \
         beside NAME.csv\n\
         config.toml:11: source.format: \"asterisk-csv\" is no format; did you mean \"asterisk-cdr-csv\"?\n\
         config.toml:12: source.time_zone: \"Moon\" is no time zone that this host knows; write a name like \
         \"Europe/Berlin\"\n\
         config.toml:13: source.recursiv: there is no such key; did you mean recursive?",
    );
}

#[test]
fn what_does_not_go_with_following_files() {
    assert_said(
        &format!("{ORIGIN}{SOURCE}mode = \"tail\"\n"),
        "config.toml:7: source.mode: \"tail\" is no mode of a folder; there are \"whole\" and \"append\"",
    );
    assert_said(
        &format!("{ORIGIN}{SOURCE}files = [\"a.csv\"]\n"),
        "config.toml:7: source.files: only says which files mode = \"append\" follows; add that line or take this one away",
    );
    assert_said(
        &format!("{ORIGIN}{SOURCE}mode = \"append\"\nfiles = [\"*.csv\"]\nkeep = true\nmarker = \".FIN\"\n"),
        "config.toml:3: source.keep: does not apply to mode = \"append\", which leaves files where they are; take the line \
         away\n\
         config.toml:3: source.marker: does not apply to mode = \"append\", which leaves files where they are; take the line \
         away\n\
         config.toml:8: source.files: \"*.csv\" is no name of a file; write the names of files in the folder, without \
         wildcards: rotated ones are found by themselves",
    );
    assert_said(
        &format!("{ORIGIN}{SOURCE}mode = \"append\"\nfiles = [7]\n"),
        "config.toml:8: source.files: must be a list of texts in quotes, not a number; write files = [\"...\"]",
    );
    let other = SOURCE.replace("\"inbox\"\nkind", "\"other\"\nkind");
    let both = format!(
        "{ORIGIN}{SOURCE}mode = \"append\"\nfiles = [\"a.csv\", \"b.csv\"]\n{other}mode = \"append\"\nfiles = [\"b.csv\"]\n"
    );
    assert_said(
        &both,
        "config.toml:9: source.path: sources \"inbox\" and \"other\" would take each other's files; give them folders outside \
         each other, or the outer one recursive = false",
    );
}

#[test]
fn folders_that_are_missing_or_would_take_what_is_not_theirs() {
    assert_said(
        &format!("{ORIGIN}[[source]]\nname = \"m\"\nkind = \"folder\"\n"),
        "config.toml:3: source.path: is missing; name the folder to watch, path = \"inbox\"",
    );
    assert_said(
        &format!("{ORIGIN}{}", SOURCE.replace("path = \"inbox\"", "path = \"\"")),
        "config.toml:6: source.path: is empty; give it a value or take the line away",
    );
    assert_said(
        &format!("{ORIGIN}{}", SOURCE.replace("path = \"inbox\"", "path = \".\"")),
        "config.toml:3: source.path: source \"inbox\" would collect cdrd's own files: state_dir var lies in its folder; \
         choose another folder",
    );
    assert_said(
        &format!("{ORIGIN}{SOURCE}{}", SOURCE.replace("name = \"inbox\"", "name = \"second\"")),
        "config.toml:7: source.path: sources \"inbox\" and \"second\" would take each other's files; give them folders \
         outside each other, or the outer one recursive = false",
    );
}

#[test]
fn expectations_and_addresses_that_make_no_sense() {
    let config = |lines: &str| format!("{ORIGIN}{SOURCE}{lines}");
    assert_said(
        &config("expect_every = \"often\"\n"),
        "config.toml:7: source.expect_every: \"often\" is no length of time between \"1s\" and \"366d\"; write it like \
         \"2h\" or \"1d 6h, Mon-Fri\"",
    );
    for part in ["Mon-Fry", "18:00-08:00", "Europe/Nowhere", ""] {
        assert_said(
            &config(&format!("expect_every = \"2h, Sat-Mon, {part}\"\n")),
            &format!(
                "config.toml:7: source.expect_every: {part:?} is no day, no hours of one day and no time zone; write them \
                 like \"Mon-Fri\", \"08:00-18:00\" (until midnight: \"18:00-24:00\") and \"Europe/Berlin\""
            ),
        );
    }
    assert_said(
        &format!("[http]\nlisten = \"0.0.0.0:8380\"\n{ORIGIN}"),
        "config.toml:2: http.listen: is open to other hosts, and there is no log-in; write \"127.0.0.1:8380\" and let a \
         proxy ask for one",
    );
    assert_said(
        &format!("[http]\nlisten = \"8380\"\n{ORIGIN}"),
        "config.toml:2: http.listen: \"8380\" is no address with port; write \"127.0.0.1:8380\", or \"off\"",
    );
}
