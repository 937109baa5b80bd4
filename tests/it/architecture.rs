//! The import rules: which module may import which, and what some may never touch. Reads `src/` as text.
//! It must never be weakened to let a change through: a new edge is a decision, listed here with the change that needs it.

mod lexer;
mod resolver;
#[cfg(test)]
mod tests;

use resolver::{Mention, Scan, SourceFile};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Module -> what it may import; everything not listed is forbidden. `a::B` allows that item only.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("record", &[]),
    ("telemetry", &[]),
    ("crash_point", &[]),
    // Every thread that is watched beats.
    ("pulse", &[]),
    // The door's database and the store's have nothing in common but how statements run on them.
    ("sqlite", &["pulse"]),
    ("unpack", &["record"]),
    ("formats", &["record"]),
    ("normalise", &["record"]),
    ("dedup", &["record"]),
    ("intake", &["record", "sqlite", "telemetry", "crash_point", "pulse"]),
    ("store", &["record", "dedup", "sqlite", "telemetry", "crash_point", "pulse"]),
    (
        "pipeline",
        &[
            "record",
            "intake",
            "unpack",
            "formats",
            "normalise",
            "dedup",
            "store",
            "telemetry",
            "crash_point",
            "pulse",
        ],
    ),
    ("sources", &["record", "intake", "telemetry", "crash_point", "pulse"]),
    ("sinks", &["record", "intake", "store::Query", "telemetry"]),
    ("api", &["record", "intake", "store::Query", "telemetry"]),
    // And the Config struct of every module: see `allowed`.
    ("config", &["record", "telemetry"]),
    ("daemon", &EVERYTHING_BELOW_DAEMON),
    ("cli", &EVERYTHING_BELOW_CLI),
    ("main", &EVERYTHING),
];

const EVERYTHING_BELOW_DAEMON: [&str; 15] = [
    "record",
    "telemetry",
    "crash_point",
    "pulse",
    "unpack",
    "formats",
    "normalise",
    "dedup",
    "intake",
    "store",
    "pipeline",
    "sources",
    "sinks",
    "api",
    "config",
];
const EVERYTHING_BELOW_CLI: [&str; 16] = with(EVERYTHING_BELOW_DAEMON, "daemon");
const EVERYTHING: [&str; 17] = with(EVERYTHING_BELOW_CLI, "cli");

/// Edges that only one file may have: a poller may call pure functions of its vendor's format.
const LISTED_EDGES: &[(&str, &str)] = &[
    // How many elements a page has, and which legs: what the next request goes by.
    ("sources::poll::ucm", "formats::grandstream::page"),
];

/// Modules of `sources` that every source may use.
const SHARED_BY_SOURCES: &[&str] = &["polling"];

/// Modules without I/O, clock or database.
const PURE: &[&str] = &["record", "formats", "normalise", "dedup", "unpack"];

/// What pure modules never name: beginnings of paths.
const IMPURE: &[&[&str]] = &[
    &["tokio"],
    &["sqlx"],
    &["libsqlite3_sys"],
    &["rustix"],
    &["notify"],
    &["sd_notify"],
    &["std", "fs"],
    &["std", "net"],
    &["std", "env"],
    &["std", "process"],
    &["std", "os"],
];

/// Modules that know cards, not vendors.
const VENDOR_BLIND: &[&str] = &["pipeline", "normalise", "dedup", "store"];
const VENDORS: &[&str] = &[
    "grandstream",
    "asterisk",
    "freepbx",
    "freeswitch",
    "cisco",
    "cucm",
    "avaya",
    "panasonic",
    "mitel",
    "webex",
    "sippy",
    "3cx",
    "twilio",
    "broadworks",
    "fritzbox",
    "kamailio",
];

/// Names that say nothing.
const FORBIDDEN_NAMES: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "types", "models", "core", "manager", "handler"];

/// The one file that may be unsafe: it calls SQLite itself.
const UNSAFE_FILE: &str = "sqlite/raw.rs";

const fn with<const N: usize, const M: usize>(
    list: [&'static str; N],
    one: &'static str,
) -> [&'static str; M] {
    let mut longer = [one; M];
    let mut place = 0;
    while place < N {
        longer[place] = list[place];
        place += 1;
    }
    longer
}

#[test]
fn src_keeps_the_import_rules() -> std::io::Result<()> {
    let root = crate::site::repository("src");
    let mut files = Vec::new();
    read_folder(&root, &root, &mut files)?;
    assert!(files.iter().any(|file| file.name == "lib.rs"), "no lib.rs below {}", root.display());
    let found = violations(&files);
    assert!(found.is_empty(), "{} violations of the architecture:\n{}", found.len(), found.join("\n"));
    Ok(())
}

fn read_folder(root: &Path, folder: &Path, files: &mut Vec<SourceFile>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_folder(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            files.push(SourceFile { name, text: std::fs::read_to_string(&path)? });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(())
}

/// All violations, each with its place.
fn violations(files: &[SourceFile]) -> Vec<String> {
    let scans: Vec<Scan> = files.iter().map(SourceFile::scan).collect();
    let test_modules: Vec<&Vec<String>> = scans.iter().flat_map(|scan| &scan.test_modules).collect();
    let modules: BTreeSet<Vec<String>> = files.iter().map(SourceFile::module).collect();
    let mut found = Vec::new();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, scan) in files.iter().zip(&scans) {
        check_text(file, &mut found);
        for (what, line) in &scan.blind_spots {
            found.push(format!("{}:{line}: {what} hides code from these rules", at(file)));
        }
        let module = file.module();
        if test_modules.iter().any(|test| module.starts_with(test)) {
            continue;
        }
        let unit = unit_of(file);
        if MAY_IMPORT.iter().all(|(known, _)| *known != unit) && unit != "lib" {
            found.push(format!("{}: module {unit} has no row in MAY_IMPORT", at(file)));
        }
        for mention in &scan.mentions {
            check_import(file, mention, &modules, &mut found);
            if PURE.contains(&unit) {
                check_pure(file, mention, &mut found);
            }
            if let Some(target) = target_of(mention)
                && target != unit
            {
                edges.entry(unit).or_default().insert(target);
            }
        }
        check_vendors(file, scan, &mut found);
    }
    if let Some(cycle) = cycle(&edges) {
        found.push(format!("import cycle: {}", cycle.join(" -> ")));
    }
    found
}

fn at(file: &SourceFile) -> String {
    format!("src/{}", file.name)
}

/// The top-level module of a file; `lib` and `main` for the roots.
fn unit_of(file: &SourceFile) -> &str {
    file.name.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// The top-level module that a mention leads to, if it leads into this crate.
fn target_of(mention: &Mention) -> Option<&str> {
    (mention.path[0] == "crate").then(|| mention.path.get(1).map_or("the crate root", String::as_str))
}

fn check_text(file: &SourceFile, found: &mut Vec<String>) {
    if !file.text.trim_start().starts_with("//!") {
        found.push(format!("{}: does not open with //! saying what it is for", at(file)));
    }
    for name in file.name.trim_end_matches(".rs").split('/').filter(|name| FORBIDDEN_NAMES.contains(name)) {
        found.push(format!("{}: a module called {name} says nothing", at(file)));
    }
    if file.name != UNSAFE_FILE {
        for (_, line) in lexer::tokens(&file.text).iter().filter(|(token, _)| token.is("unsafe")) {
            found.push(format!("{}:{line}: unsafe outside {UNSAFE_FILE}", at(file)));
        }
    }
}

fn check_import(
    file: &SourceFile,
    mention: &Mention,
    modules: &BTreeSet<Vec<String>>,
    found: &mut Vec<String>,
) {
    let (unit, place) = (unit_of(file), format!("{}:{}", at(file), mention.line));
    let Some(target) = target_of(mention) else { return };
    if unit == target {
        if unit == "sources" && !same_source(file, mention, modules) {
            found.push(format!("{place}: sources may not import each other ({})", mention.path.join("::")));
        }
    } else if !allowed(file, unit, mention) {
        found.push(format!("{place}: {unit} may not import {target} ({})", mention.path.join("::")));
    }
}

fn allowed(file: &SourceFile, unit: &str, mention: &Mention) -> bool {
    let path = mention.path[1..].join("::");
    let below =
        |rule: &str| path == rule || path.strip_prefix(rule).is_some_and(|rest| rest.starts_with("::"));
    let listed = MAY_IMPORT.iter().filter(|(module, _)| *module == unit).flat_map(|(_, rules)| *rules);
    let module = file.module().join("::");
    let config_struct = unit == "config"
        && mention.path.len() > 2
        && !matches!(mention.path[1].as_str(), "cli" | "daemon")
        && mention.path.iter().any(|word| word.ends_with("Config"));
    listed.copied().any(below)
        || config_struct
        || LISTED_EDGES.iter().any(|(from, to)| *from == module && below(to))
}

/// A source may import what all share (items of `sources` itself, listed modules) and its own sub-modules.
fn same_source(file: &SourceFile, mention: &Mention, modules: &BTreeSet<Vec<String>>) -> bool {
    let family = |path: &[String]| {
        // The pollers live one level down, as siblings of each other.
        let depth = if path.get(1).is_some_and(|word| word == "poll") { 3 } else { 2 };
        path.get(..depth).map(<[String]>::to_vec)
    };
    let (Some(own), Some(other)) = (family(&file.module()), family(&mention.path[1..])) else { return true };
    own == other || !modules.contains(&other) || SHARED_BY_SOURCES.contains(&other[1].as_str())
}

fn check_pure(file: &SourceFile, mention: &Mention, found: &mut Vec<String>) {
    let words: Vec<&str> = mention.path.iter().map(String::as_str).collect();
    let names_impure = IMPURE.iter().any(|start| words.starts_with(start));
    // `std` by itself could be given another name.
    let tells_time =
        words.contains(&"SystemTime") || words.len() > 1 && words.ends_with(&["now"]) || words == ["std"];
    let asks_host =
        words.windows(2).any(|pair| matches!(pair, ["TimeZone", "system" | "get"] | ["tz", "db"]));
    if names_impure || tells_time || asks_host {
        let (unit, path) = (unit_of(file), words.join("::"));
        found.push(format!(
            "{}:{}: {unit} has no I/O, clock or database of its own ({path})",
            at(file),
            mention.line
        ));
    }
}

fn check_vendors(file: &SourceFile, scan: &Scan, found: &mut Vec<String>) {
    if !VENDOR_BLIND.contains(&unit_of(file)) {
        return;
    }
    for (word, line) in &scan.words {
        let lower = word.to_lowercase();
        if let Some(vendor) = VENDORS.iter().find(|vendor| lower.contains(**vendor)) {
            found.push(format!("{}:{line}: knows the vendor {vendor}; let its card say it", at(file)));
        }
    }
}

/// A cycle, first module repeated at its end.
fn cycle<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    fn walk<'a>(
        module: &'a str,
        edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
        trail: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<&'a str>> {
        if let Some(start) = trail.iter().position(|earlier| *earlier == module) {
            return Some([&trail[start..], &[module]].concat());
        }
        if done.contains(module) {
            return None;
        }
        trail.push(module);
        let found = edges.get(module).into_iter().flatten().find_map(|next| walk(next, edges, trail, done));
        trail.pop();
        done.insert(module);
        found
    }
    let mut done = BTreeSet::new();
    edges.keys().find_map(|module| walk(module, edges, &mut Vec::new(), &mut done))
}
