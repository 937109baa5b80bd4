//! The `[[source]]` stanzas, and what only shows when all of them are seen together.

use super::expectation;
use super::fault::Fault;
use super::keys::{self, Table};
use super::origin::{name, zone};
use super::stanza::{Spotted, Stanza, Stanzas};
use super::{Config, FolderConfig, OriginConfig, SourceConfig, SourceKind, sftp, ucm};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SETTLE: Duration = Duration::from_secs(5);
const RESCAN: Duration = Duration::from_mins(1);
const FOLLOWED: &str = "Master.csv";

/// All sources that are right.
pub fn read_all(
    stanzas: &Stanzas<'_>,
    origins: &[OriginConfig],
    base: &Path,
    formats: &[&str],
    faults: &mut Vec<Fault>,
) -> Vec<SourceConfig> {
    let mut sources: Vec<SourceConfig> = Vec::new();
    for stanza in stanzas {
        let Some(mut stanza) = Stanza::of(*stanza, Table::Source, faults) else { continue };
        let name =
            name(&mut stanza, sources.iter().map(|source| (source.name.as_str(), source.place.as_str())));
        let kind = kind(&mut stanza);
        let accounts =
            if kind == Some("sftp") { sftp::accounts(&mut stanza, origins, base) } else { Vec::new() };
        let origin = match accounts.first() {
            // Each account says it for itself.
            Some(first) if !stanza.has(keys::ORIGIN) => Some(first.origin.clone()),
            _ => origin(&mut stanza, origins),
        };
        let time_zone = stanza.text(keys::TIME_ZONE).and_then(|text| zone(&text, false, stanza.faults));
        let pinned_format = stanza.text(keys::FORMAT).and_then(|text| format(&text, formats, stanza.faults));
        let served = origins.iter().find(|known| origin.as_ref() == Some(&known.name));
        let expect = expectation::read(&mut stanza, time_zone.as_ref(), served);
        // The keys of a kind that does not exist cannot be judged.
        let kind = match kind {
            Some("sftp") => sftp::read(&mut stanza, accounts).map(SourceKind::Sftp),
            Some("ucm") => {
                stanza.becomes(Table::Ucm);
                ucm::read(&mut stanza, base).map(SourceKind::Ucm)
            }
            Some(_) => {
                let folder = folder(&mut stanza, base);
                stanza.unknown_keys();
                folder.map(SourceKind::Folder)
            }
            None => None,
        };
        let place = stanza.place();
        if let (Some(name), Some(origin), Some(kind)) = (name, origin, kind) {
            sources.push(SourceConfig { name, origin, time_zone, pinned_format, expect, kind, place });
        }
    }
    sources
}

fn kind(stanza: &mut Stanza<'_, '_>) -> Option<&'static str> {
    let known = keys::SOURCE_KINDS.join(", ");
    let Some(text) = stanza.text(keys::KIND) else {
        if !stanza.has(keys::KIND) {
            stanza.lack(keys::KIND, format!("is missing; this version knows the kinds: {known}"));
        }
        return None;
    };
    let found = keys::SOURCE_KINDS.iter().find(|kind| **kind == text.value);
    if let Some(kind) = found {
        return Some(kind);
    }
    stanza
        .faults
        .push(text.fault(format!("{:?} is no kind of source; this version knows: {known}", text.value)));
    None
}

/// The origin that a stanza names; the only one where it names none.
pub(super) fn origin(stanza: &mut Stanza<'_, '_>, origins: &[OriginConfig]) -> Option<String> {
    let names = || origins.iter().map(|origin| origin.name.as_str());
    let Some(text) = stanza.text(keys::ORIGIN) else {
        if stanza.has(keys::ORIGIN) {
            return None;
        }
        if let [only] = origins {
            return Some(only.name.clone());
        }
        let mend = if origins.is_empty() {
            "write an [[origin]] stanza for the PBX and name it here".to_owned()
        } else {
            format!("name one of: {}", names().collect::<Vec<_>>().join(", "))
        };
        stanza.lack(keys::ORIGIN, format!("is missing; {mend}"));
        return None;
    };
    if names().any(|name| name == text.value) {
        return Some(text.value);
    }
    let mend = match keys::nearest(&text.value, names()) {
        Some(nearest) => format!("did you mean \"{nearest}\"?"),
        None if origins.is_empty() => format!("write [[origin]] name = \"{}\"", text.value),
        None => format!("name one of: {}", names().collect::<Vec<_>>().join(", ")),
    };
    stanza.faults.push(text.fault(format!("no origin is called {:?}; {mend}", text.value)));
    None
}

fn format(text: &Spotted<String>, formats: &[&str], faults: &mut Vec<Fault>) -> Option<String> {
    if formats.contains(&text.value.as_str()) {
        return Some(text.value.clone());
    }
    let mend = keys::nearest(&text.value, formats.iter().copied()).map_or_else(
        || "`cdrd formats` lists them".to_owned(),
        |nearest| format!("did you mean \"{nearest}\"?"),
    );
    faults.push(text.fault(format!("{:?} is no format; {mend}", text.value)));
    None
}

fn folder(stanza: &mut Stanza<'_, '_>, base: &Path) -> Option<FolderConfig> {
    let path: Option<PathBuf> = stanza.path(keys::PATH, base).map(|path| path.value);
    if path.is_none() && !stanza.has(keys::PATH) {
        stanza.lack(keys::PATH, "is missing; name the folder to watch, path = \"inbox\"".to_owned());
    }
    let marker = marker(stanza);
    let append = append(stanza);
    let folder = FolderConfig {
        path: path.unwrap_or_default(),
        keep: stanza.flag(keys::KEEP, false),
        recursive: stanza.flag(keys::RECURSIVE, true) && append.is_empty(),
        marker,
        settle: stanza.duration(keys::SETTLE, SETTLE),
        rescan: stanza.duration(keys::RESCAN, RESCAN),
        append,
    };
    (!folder.path.as_os_str().is_empty()).then_some(folder)
}

/// The ending of a marker.
pub(super) fn marker(stanza: &mut Stanza<'_, '_>) -> Option<String> {
    let text = stanza.text(keys::MARKER)?;
    if text.value.contains('/') || text.value.trim() != text.value {
        stanza.faults.push(text.fault(format!(
            "{:?} is no ending of a file name; write it like \".FIN\", for NAME.csv.FIN beside NAME.csv",
            text.value
        )));
    }
    Some(text.value)
}

/// The files that are followed; none where whole files are taken.
fn append(stanza: &mut Stanza<'_, '_>) -> Vec<String> {
    let mode = stanza.text(keys::MODE);
    if let Some(mode) = mode.as_ref().filter(|mode| !keys::FOLDER_MODES.contains(&mode.value.as_str())) {
        let known = keys::FOLDER_MODES.join("\" and \"");
        stanza
            .faults
            .push(mode.fault(format!("{:?} is no mode of a folder; there are \"{known}\"", mode.value)));
        return Vec::new();
    }
    let follows = mode.is_some_and(|mode| mode.value == "append");
    let files = stanza.texts(keys::FILES);
    if !follows {
        // The default may stand there as it does in the shipped file.
        let stated = files.filter(|files| !matches!(files.as_slice(), [only] if only.value == FOLLOWED));
        if let Some(first) = stated.as_ref().and_then(|files| files.first()) {
            let message =
                "only says which files mode = \"append\" follows; add that line or take this one away";
            stanza.faults.push(first.fault(message.to_owned()));
        }
        return Vec::new();
    }
    for key in [keys::KEEP, keys::RECURSIVE, keys::MARKER] {
        if stanza.has(key) {
            let message =
                "does not apply to mode = \"append\", which leaves files where they are; take the line away";
            stanza.lack(key, message.to_owned());
        }
    }
    if !stanza.has(keys::FILES) {
        return vec![FOLLOWED.to_owned()];
    }
    let files = files.unwrap_or_default();
    let is_name = |name: &String| {
        !name.is_empty()
            && name.trim() == name
            && !name.contains(['/', '*', '?', '\0'])
            && name != "."
            && name != ".."
    };
    if let Some(name) = files.iter().find(|name| !is_name(&name.value)) {
        let message = format!(
            "{:?} is no name of a file; write the names of files in the folder, without wildcards: rotated ones are found by \
             themselves",
            name.value
        );
        stanza.faults.push(name.fault(message));
    }
    files.into_iter().map(|name| name.value).collect()
}

/// Folders that would take each other's files, or the daemon's own.
pub fn check_together(config: &Config, faults: &mut Vec<Fault>) {
    let file = std::path::absolute(&config.file).unwrap_or_else(|_| config.file.clone());
    for (number, source) in config.sources.iter().enumerate() {
        let mut wrong_at = |key: &str, message: String| {
            let (file, line) = source.place.rsplit_once(':').unwrap_or((&source.place, "1"));
            let key = format!("{}.{key}", keys::SOURCE);
            faults.push(Fault { file: file.into(), line: line.parse().unwrap_or(1), key, message });
        };
        let folder = match &source.kind {
            SourceKind::Folder(folder) => folder,
            SourceKind::Sftp(server) => {
                sftp::check_listeners(server, source, &config.sources[..number], &mut |message| {
                    wrong_at(keys::LISTEN, message);
                });
                continue;
            }
            SourceKind::Ucm(_) => continue,
        };
        let mut wrong = |message| wrong_at(keys::PATH, message);
        let own = [
            (folder.reaches(&config.state_dir), &config.state_dir, "state_dir"),
            (folder.reaches_file(&config.store.sqlite), &config.store.sqlite, "the database"),
            (folder.reaches_file(&file), &file, "the configuration"),
        ];
        if let Some((_, place, what)) = own.iter().find(|(reached, _, _)| *reached) {
            wrong(format!(
                "source {:?} would collect cdrd's own files: {what} {} lies in its folder; choose another folder",
                source.name,
                place.display()
            ));
        }
        for other in &config.sources[..number] {
            let SourceKind::Folder(earlier) = &other.kind else { continue };
            let apart = !folder.append.is_empty()
                && !earlier.append.is_empty()
                && folder.append.iter().all(|name| !earlier.append.contains(name));
            if (folder.reaches(&earlier.path) || earlier.reaches(&folder.path)) && !apart {
                wrong(format!(
                    "sources {:?} and {:?} would take each other's files; give them folders outside each other, or \
                     the outer one recursive = false",
                    other.name, source.name
                ));
            }
        }
    }
}

impl FolderConfig {
    /// Whether a walk meets the files of this folder.
    fn reaches(&self, folder: &Path) -> bool {
        if self.recursive { folder.starts_with(&self.path) } else { folder == self.path }
    }

    /// Whether a walk meets this file.
    fn reaches_file(&self, file: &Path) -> bool {
        file.parent().is_some_and(|folder| self.reaches(folder))
    }
}
