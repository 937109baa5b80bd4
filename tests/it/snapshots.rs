//! What every command shows, to a pipe and to a terminal, errors included: on one store made from fixtures, compared with
//! the files in `tests/it/snapshots`. `CDRD_UPDATE_SNAPSHOTS=1` writes them anew; look at the difference before you keep
//! it.

mod again;

use crate::site::Site;
use cdrd::cli::screen::Screen;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{Cursor, Read as _, Seek as _, Write as _};
use std::path::PathBuf;

/// The site of all snapshots: five deliveries, of which one comes twice, one is an archive in an archive and one is no
/// calls.
fn desk() -> Site {
    let site = Site::new("Europe/London", "GB");
    for (name, path) in [
        ("ucm-export.csv", "tour/ucm-export.csv"),
        ("Master.csv", "tour/Master.csv"),
        ("api.json", "desk/api.json"),
        ("later.csv", "desk/later.csv"),
        ("notes.txt", "desk/notes.txt"),
    ] {
        std::fs::copy(fixture(path), site.path(name)).expect("the fixture is there");
    }
    let inner = zipped(&[("later.csv", &read(&site, "later.csv")), ("notes.txt", &read(&site, "notes.txt"))]);
    // The same calls in other bytes: a document whose bytes are known has no rows.
    let again = [read(&site, "api.json").as_slice(), b"\n"].concat();
    let outer = zipped(&[("inner.zip", &inner), ("api.json", &again)]);
    std::fs::write(site.path("outer.zip"), outer).expect("the folder is writable");
    site
}

fn stored() -> Site {
    let site = desk();
    for name in ["ucm-export.csv", "Master.csv", "api.json", "ucm-export.csv", "outer.zip"] {
        let output = command(&site, &["import", name]);
        assert!(output.status.code().is_some_and(|code| code == 0 || code == 3), "{output:?}");
    }
    site
}

fn fixture(path: &str) -> PathBuf {
    crate::site::repository("fixtures").join(path)
}

fn read(site: &Site, name: &str) -> Vec<u8> {
    std::fs::read(site.path(name)).expect("it was copied")
}

fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let plain = zip::write::SimpleFileOptions::default();
        archive.start_file(*name, plain).expect("an entry begins");
        archive.write_all(bytes).expect("it is in memory");
    }
    archive.finish().expect("it is in memory").into_inner()
}

fn command(site: &Site, arguments: &[&str]) -> std::process::Output {
    let mut command = site.command(arguments);
    command.env("TZ", "Europe/London").env_remove("NO_COLOR").env("CDRD_LOG", "error");
    command.output().expect("the binary runs")
}

/// A command as a pipe gets it: what was typed, what was printed, what was said beside that, and the exit code.
fn piped(site: &Site, arguments: &[&str]) -> String {
    let output = command(site, arguments);
    let mut text = format!("$ cdrd {}\n", typed(arguments));
    text.push_str(&String::from_utf8_lossy(&output.stdout));
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        let _ = writeln!(text, "! {line}");
    }
    if let Some(code) = output.status.code().filter(|code| *code != 0) {
        let _ = writeln!(text, "[exit code {code}]");
    }
    text.push('\n');
    text
}

fn typed(arguments: &[&str]) -> String {
    let quoted = arguments.iter().map(|word| {
        if word.contains(' ') || word.is_empty() { format!("'{word}'") } else { (*word).to_owned() }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A command as a person sees it on a terminal so wide, in colour.
fn on_terminal(site: &Site, width: usize, arguments: &[&str]) -> String {
    let config = site.path("config.toml");
    let mut line: Vec<OsString> = vec!["cdrd".into(), "--config".into(), config.into()];
    line.extend(arguments.iter().map(OsString::from));
    let mut shown = tempfile::tempfile().expect("a temporary file");
    let sink = shown.try_clone().expect("a second handle");
    let ended = cdrd::cli::shown_on(&mut Screen::like_a_terminal(Box::new(sink), width, true), line);
    let mut text = String::new();
    shown.rewind().expect("it is a file");
    shown.read_to_string(&mut text).expect("it is text");
    // A rejected row is shown as it was sent.
    let whole = arguments.contains(&"show");
    for line in text.lines().filter(|_| !whole) {
        assert!(plain(line).chars().count() <= width, "{line}");
    }
    let ended = ended.map_or_else(|error| format!("! {error:#}\n"), |_| String::new());
    format!("$ cdrd {}    (a terminal of {width} columns)\n{text}{ended}\n", typed(arguments))
}

/// Without what sets colours.
fn plain(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

/// What differs from run to run, by words that do not: ids of deliveries by their order, today's times, sizes, folders.
fn settled(site: &Site, text: &str) -> String {
    let mut text =
        text.replace(&site.dir.path().display().to_string(), "/site").replace('\u{1b}', "\u{241b}");
    if site.path("var/cdr.db").exists() {
        let ids = site.query("cdr.db", "SELECT id FROM delivery ORDER BY id");
        for (number, id) in (1..).zip(ids) {
            text = text.replace(&id, &format!("01DELIVERY{number:016}"));
        }
    }
    let mut settled = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let length = today(rest);
        if length > 0 {
            settled.push_str(&"2026-01-01 00:00:00.000"[..length]);
            rest = &rest[length..];
            continue;
        }
        let bytes = "\"database_bytes\":";
        if let Some(after) = rest.strip_prefix(bytes) {
            settled.push_str(bytes);
            settled.push('0');
            rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            continue;
        }
        let inside = settled.ends_with(|c: char| c.is_ascii_digit() || c == '.');
        if let Some(length) = size(rest).filter(|_| !inside) {
            settled.push_str("1.0 MiB");
            rest = &rest[length..];
            continue;
        }
        settled.push(c);
        rest = &rest[c.len_utf8()..];
    }
    settled
}

/// How long a time of this year or later is that stands here; those of the fixtures are of 2025.
fn today(text: &str) -> usize {
    let shape = "9999-99-99 99:99:99.999";
    let fits = |length: usize| {
        text.len() >= length
            && text.bytes().zip(shape.bytes()).take(length).all(|(byte, shape)| match shape {
                b'9' => byte.is_ascii_digit(),
                _ => byte == shape,
            })
    };
    let length = [23, 19].into_iter().find(|length| fits(*length)).unwrap_or(0);
    if length > 0 && ("2026".."2999").contains(&&text[..4]) { length } else { 0 }
}

/// How long a size in KiB or MiB is that stands here.
fn size(text: &str) -> Option<usize> {
    let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|length| *length > 0)?;
    [" KiB", " MiB"].iter().find(|unit| text[number..].starts_with(**unit)).map(|unit| number + unit.len())
}

/// Compares with the file of this name, or writes it.
fn check(site: &Site, name: &str, parts: &[String]) {
    compare(name, &settled(site, &parts.concat()));
}

pub fn compare(name: &str, text: &str) {
    let path = crate::site::repository("tests/it/snapshots").join(format!("{name}.txt"));
    if std::env::var_os("CDRD_UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("the repository is writable");
        std::fs::write(&path, text).expect("the repository is writable");
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = (1..).zip(kept.lines().zip(text.lines())).find(|(_, (kept, now))| kept != now);
    if let Some((line, (kept, now))) = differs {
        panic!("{}:{line} differs\nkept: {kept}\nnow:  {now}\nin\n{text}", path.display());
    }
    assert_eq!(kept.lines().count(), text.lines().count(), "{}\n{text}", path.display());
}

fn all_piped(site: &Site, lines: &[&[&str]]) -> Vec<String> {
    lines.iter().map(|arguments| piped(site, arguments)).collect()
}

#[test]
fn calls() {
    let site = stored();
    let mut parts = all_piped(
        &site,
        &[
            &["calls"],
            &["calls", "--limit", "1", "--json"],
            &["calls", "--number", "020 7946 0456"],
            &["calls", "--direction", "inbound", "--disposition", "busy"],
            &["calls", "--origin", "elsewhere"],
            &["calls", "--since", "2025-03-13", "--until", "2025-03-14", "--csv"],
            &["calls", "--since", "2025-03-13", "--until", "2025-03-14", "--csv", "--raw"],
            &["calls", "1741770131.17", "--lineage"],
            &["calls", "1741770131.17", "--lineage", "--json"],
            &["calls", "12", "--lineage"],
            &["calls", "1741770131.17", "--since", "2025-03-20"],
            &["calls", "4711"],
            &["calls", "--since", "yesterday"],
            &["calls", "--csv", "--json"],
        ],
    );
    parts.push(on_terminal(&site, 80, &["calls"]));
    parts.push(on_terminal(&site, 120, &["calls"]));
    parts.push(on_terminal(&site, 80, &["calls", "1741770131.17", "--lineage"]));
    check(&site, "calls", &parts);
}

#[test]
fn find() {
    let site = stored();
    let mut parts = all_piped(
        &site,
        &[
            &["find", "+44 20 7946 0456"],
            &["find", "02079460456", "--around", "2025-03-13 16:00", "--deep"],
            &["find", "201", "--around", "2025-03-12 09:00", "--within", "2h", "--deep", "--json"],
            &["find", "203", "--around", "2025-03-12 09:15", "--within", "10m", "--deep"],
            &["find", "Harbour"],
            &["find", "999", "--around", "2025-03-12 09:10"],
            &["find", "999", "--around", "2025-03-12 23:00", "--json"],
            &["find", "999"],
            &["find", " "],
            &["find", "999", "--deep"],
        ],
    );
    let originals = site.path("var/originals");
    std::fs::rename(&originals, site.path("elsewhere")).expect("the folder is writable");
    parts.push("(the originals are moved away)\n".to_owned());
    parts.push(piped(&site, &["find", "203", "--around", "2025-03-12 09:15", "--within", "10m", "--deep"]));
    parts.push(on_terminal(&site, 80, &["find", "02079460456", "--around", "2025-03-13T16:00Z"]));
    parts.push(on_terminal(&site, 120, &["find", "999", "--around", "2025-03-12T23:00Z"]));
    check(&site, "find", &parts);
}

#[test]
fn rejected() {
    let site = stored();
    let mut parts = all_piped(
        &site,
        &[
            &["rejected", "list"],
            &["rejected", "list", "--reason", "format_unknown", "--json"],
            &["rejected", "list", "--all"],
            &["rejected", "list", "--all", "--limit", "1", "--json"],
            &["rejected", "show", "1"],
            &["rejected", "show", "4711"],
            &["rejected", "export", "--json", "--reason", "start_invalid"],
            &["rejected", "export"],
            &["rejected", "export", "--output", "to-mend"],
            &["rejected", "export", "--output", "to-mend"],
        ],
    );
    let mut files = crate::site::files_below(&site.path("to-mend"));
    files.sort();
    for file in files {
        let name = file.display().to_string();
        parts.push(format!("{name}:\n{}\n", std::fs::read_to_string(&file).expect("it is text")));
    }
    std::fs::rename(site.path("var/originals"), site.path("elsewhere")).expect("the folder is writable");
    parts.push("(the originals are moved away)\n".to_owned());
    parts.push(piped(&site, &["rejected", "export", "--output", "kept", "--reason", "start_invalid"]));
    parts.push(on_terminal(&site, 80, &["rejected", "list", "--all"]));
    parts.push(on_terminal(&site, 80, &["rejected", "show", "1"]));
    check(&site, "rejected", &parts);
}

#[test]
fn explain() {
    let site = desk();
    let mut parts = all_piped(
        &site,
        &[
            &["explain", "outer.zip"],
            &["explain", "notes.txt"],
            &["explain", "api.json", "--rows", "1", "--json"],
            &["explain", "Master.csv", "--format", "grandstream-web-csv"],
            &["explain", "nowhere.csv"],
        ],
    );
    // Where the test runs is the repository, so that the name needs no folder.
    parts.push(on_terminal(&site, 80, &["explain", "fixtures/tour/Master.csv", "--rows", "1"]));
    parts.push(on_terminal(&site, 120, &["explain", "fixtures/desk/later.csv"]));
    check(&site, "explain", &parts);
}

#[test]
fn the_others() {
    let site = desk();
    let mut parts = all_piped(
        &site,
        &[
            &["status"],
            &["calls"],
            &["find", "201"],
            &["original", "01JQ8Z6T5Z9M3V0X4C2B1A7K8D"],
            &["import", "Master.csv"],
            &["import", "ucm-export.csv"],
            &["import", "ucm-export.csv"],
            &["status"],
            &["status", "--json"],
            &["check"],
            &["deliveries"],
            &["deliveries", "--limit", "1", "--json"],
            &["formats"],
            &["formats", "--json"],
            &["sql", "SELECT direction, count(*) AS legs FROM cdr GROUP BY 1"],
            &["sql", "DELETE FROM cdr"],
            &["replay", "--rederive"],
            &["original", "nonsense"],
            &["rejected", "show", "1"],
            &["nonsense"],
            &["completions", "tcsh"],
            &["man", "nowhere"],
        ],
    );
    parts.push(on_terminal(&site, 120, &["deliveries"]));
    parts.push(on_terminal(&site, 80, &["formats"]));
    std::fs::write(site.path("config.toml"), "[[origin]]\nname = \"pbx\"\ntime_zoen = \"UTC\"\n")
        .expect("ours");
    parts.extend(all_piped(&site, &[&["check"], &["run"], &["find", "201"]]));
    check(&site, "others", &parts);
}
