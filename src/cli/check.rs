//! `cdrd check`: the configuration is already parsed; this looks at what it names on this host. Changes nothing.

use super::screen::{Screen, Tone};
use super::{Exit, Loaded, owner};
use crate::config::{
    Config, FolderConfig, PasswordConfig, SftpConfig, SourceConfig, SourceKind, UcmConfig, ZoneWish,
};
use crate::daemon;
use crate::record::remote::Trust;
use crate::sources::sftp;
use crate::store::query::{Query as _, QueryError, StoredOrigin};
use jiff::tz::TimeZone;
use rustix::fs::{Access, access};
use std::path::Path;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Fail too where what is remote, or mounted, is down; else that is a warning
    #[arg(long)]
    remote: bool,
}

/// What was found, and how many faults.
struct Findings<'s> {
    screen: &'s mut Screen,
    wrong: usize,
    warnings: usize,
    /// What is remote and down counts as wrong.
    remote: bool,
}

impl Findings<'_> {
    fn good(&mut self, text: &str) -> std::io::Result<()> {
        self.screen.toned((Tone::Good, "ok      "), (Tone::Plain, text))
    }

    /// Works, but probably not as meant.
    fn warning(&mut self, text: &str) -> std::io::Result<()> {
        self.warnings += 1;
        self.screen.toned((Tone::Warning, "warning "), (Tone::Plain, text))
    }

    /// May come back by itself: a mount, a right, another host.
    fn away(&mut self, text: &str) -> std::io::Result<()> {
        if self.remote { self.wrong(text) } else { self.warning(text) }
    }

    fn wrong(&mut self, text: &str) -> std::io::Result<()> {
        self.wrong += 1;
        self.screen.toned((Tone::Bad, "wrong   "), (Tone::Plain, text))
    }
}

/// Looks at everything and prints what was found.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let config = &loaded.config;
    // What root may do is not what the daemon may.
    owner::become_owner(&config.state_dir)?;
    let mut findings = Findings { screen, wrong: 0, warnings: 0, remote: args.remote };
    findings.good(&format!("{} has no faults", config.file.display()))?;
    readable(config, &mut findings)?;
    state_dir(config, &mut findings)?;
    let here = running(config, &mut findings)?;
    listening(config, here, &mut findings)?;
    let runtime = super::runtime()?;
    let (stored, stuck) = match loaded.query(&runtime) {
        Ok(query) => (query.origins(), query.stuck()),
        Err(error) => (Err(error), Vec::new()),
    };
    zones(config, stored.as_deref().unwrap_or_default(), &mut findings)?;
    for source in &config.sources {
        match &source.kind {
            SourceKind::Folder(folder) => inbox(source, folder, &mut findings)?,
            SourceKind::Sftp(server) => sftp_server(config, source, server, here, &mut findings)?,
            SourceKind::Ucm(ucm) => asked(source, ucm, &mut findings)?,
        }
    }
    if config.sources.is_empty() {
        findings.warning(&format!(
            "{}: no [[source]]: nothing will be collected; `cdrd import` works without",
            config.file.display()
        ))?;
    }
    match &stored {
        Ok(stored) => stored_origins(config, stored, &mut findings)?,
        Err(QueryError::Missing(_)) => {}
        Err(error) => findings.wrong(&error.to_string())?,
    }
    if stored.is_ok() {
        let layouts = daemon::stored_layouts(config, runtime.handle())?;
        if let Err(error) = daemon::formats_kept(config, &loaded.formats, &layouts) {
            findings.wrong(&error.to_string())?;
        }
    }
    for trouble in stuck {
        findings.warning(&format!("{} (so it was when they were last tried)", trouble.message))?;
    }
    for format in &config.formats {
        let mapping = &format.mapping;
        findings.good(&format!("format {}: {} columns mapped", mapping.id, mapping.columns.len()))?;
    }
    let Findings { wrong, warnings, .. } = findings;
    screen.line(&format!("{}: {wrong} wrong, {warnings} warnings", config.file.display()))?;
    Ok(if wrong == 0 { Exit::Done } else { Exit::Usage })
}

/// Whether the user that runs cdrd may read what was read just now.
fn readable(config: &Config, findings: &mut Findings<'_>) -> std::io::Result<()> {
    if access(&config.file, Access::READ_OK).is_err() {
        findings.wrong(&format!(
            "{}: the owner of {} may not read it; chgrp it to the group of cdrd and chmod g+r",
            config.file.display(),
            config.state_dir.display()
        ))?;
    }
    Ok(())
}

/// Whether a daemon runs here. That it holds the lock and the port is no fault.
fn running(config: &Config, findings: &mut Findings<'_>) -> std::io::Result<bool> {
    let Some(here) = daemon::who(&config.state_dir) else { return Ok(false) };
    let pid = here.pid;
    if here.runs_by(config) {
        findings.good(&format!("daemon runs as process {pid}, by this configuration"))?;
    } else {
        findings.good(&format!(
            "daemon runs as process {pid}, by another configuration than is written here; systemctl reload cdrd has it read \
             this one"
        ))?;
    }
    Ok(true)
}

/// Whether health and metrics can be asked for.
fn listening(config: &Config, here: bool, findings: &mut Findings<'_>) -> std::io::Result<()> {
    let Some(address) = config.http else { return Ok(()) };
    match std::net::TcpListener::bind(address) {
        Ok(_) => findings.good(&format!("http {address} is free")),
        Err(cause) if here && cause.kind() == std::io::ErrorKind::AddrInUse => {
            findings.good(&format!("http {address} is in use, as it should be while the daemon runs"))
        }
        // Collecting goes on without.
        Err(cause) => findings.warning(&format!(
            "{}: http.listen: cannot listen on {address}: {cause}; free the port, or name another; until then nobody can \
             ask for health",
            config.file.display()
        )),
    }
}

fn state_dir(config: &Config, findings: &mut Findings<'_>) -> std::io::Result<()> {
    let shown = config.state_dir.display();
    let key = format!("{}: state_dir", config.file.display());
    match writable(&config.state_dir) {
        Found::Writable => findings.good(&format!("state_dir {shown} is writable")),
        Found::Creatable => findings.good(&format!("state_dir {shown} does not exist; `cdrd run` creates it")),
        Found::ReadOnly | Found::Unreadable => findings.wrong(&format!(
            "{key}: this user may not write to {shown}; give it to the user that runs cdrd, or name another folder"
        )),
        Found::NotAFolder => findings.wrong(&format!("{key}: {shown} is no folder; name another")),
        Found::Missing => {
            findings.wrong(&format!("{key}: {shown} does not exist and cannot be created; create its parent folder"))
        }
    }
}

fn zones(config: &Config, stored: &[StoredOrigin], findings: &mut Findings<'_>) -> std::io::Result<()> {
    for origin in &config.origins {
        let place = format!("{}: origin.time_zone", origin.place);
        if let ZoneWish::Named(_) = origin.time_zone {
            findings.good(&format!("origin {}: zone {}", origin.name, origin.time_zone.name()))?;
            continue;
        }
        if let Some(zone) = daemon::recorded_zone(origin, stored) {
            let name = zone.iana_name().unwrap_or("UTC");
            findings.good(&format!(
                "origin {}: zone {name}, this host's when it was first started",
                origin.name
            ))?;
            continue;
        }
        match TimeZone::try_system().ok().as_ref().and_then(TimeZone::iana_name) {
            None => findings.warning(&format!(
                "{place}: \"auto\", but this host's zone has no name: UTC would be used; write the PBX's zone, like \
                 \"Europe/Berlin\""
            ))?,
            Some(zone @ ("UTC" | "Etc/UTC" | "Etc/UCT" | "UCT" | "Zulu" | "Etc/Zulu")) => {
                findings.warning(&format!(
                    "{place}: \"auto\" is {zone} on this host; if the PBX shows local time, write its zone, like \
                     \"Europe/Berlin\""
                ))?;
            }
            Some(zone) => findings.good(&format!("origin {}: zone {zone}, this host's", origin.name))?,
        }
    }
    Ok(())
}

fn inbox(source: &SourceConfig, folder: &FolderConfig, findings: &mut Findings<'_>) -> std::io::Result<()> {
    let shown = folder.path.display();
    let name = &source.name;
    let place = format!("{}: source.path", source.place);
    if !folder.append.is_empty() {
        return followed(source, folder, findings);
    }
    match (writable(&folder.path), folder.keep) {
        (Found::Writable, _) | (Found::ReadOnly, true) => findings.good(&format!("source {name}: folder {shown}")),
        (Found::Creatable, _) => {
            findings.good(&format!("source {name}: folder {shown} does not exist; `cdrd run` creates it"))
        }
        (Found::ReadOnly, false) => findings.warning(&format!(
            "{place}: this user may not write to {shown}: files are copied and stay there; write keep = true if that is \
             meant, else give the folder to the group cdrd"
        )),
        // What may come back (a mount, a right) must not keep the other sources from starting.
        (Found::Unreadable, _) => findings.away(&format!(
            "{place}: this user may not read {shown}; make it readable for the user that runs cdrd, until then this \
             source is stopped"
        )),
        (Found::NotAFolder, _) => findings.wrong(&format!("{place}: {shown} is no folder; name the folder")),
        (Found::Missing, _) => findings.away(&format!(
            "{place}: {shown} does not exist and cannot be created; create it, or mount what holds it, until then this \
             source is stopped"
        )),
    }
}

/// Whether the server can listen, and who could log in.
fn sftp_server(
    config: &Config,
    source: &SourceConfig,
    server: &SftpConfig,
    here: bool,
    findings: &mut Findings<'_>,
) -> std::io::Result<()> {
    let name = &source.name;
    for address in &server.listen {
        match std::net::TcpListener::bind(address) {
            Ok(_) => findings.good(&format!("source {name}: SFTP on {address}, which is free"))?,
            Err(cause) if here && cause.kind() == std::io::ErrorKind::AddrInUse => findings.good(&format!(
                "source {name}: SFTP on {address}, which is in use, as it should be while the daemon runs"
            ))?,
            Err(cause) => findings.away(&format!(
                "{}: source.listen: cannot listen on {address}: {cause}; free the port, or name another; as a service a port \
                 below 1024 needs AmbientCapabilities=CAP_NET_BIND_SERVICE",
                source.place
            ))?,
        }
    }
    match sftp::fingerprints(&config.state_dir) {
        Ok(keys) if keys.is_empty() => {
            findings.good(&format!("source {name}: `cdrd run` makes the host keys"))?;
        }
        Ok(keys) => {
            for key in keys {
                findings.good(&format!("source {name}: host key {key}"))?;
            }
        }
        Err(error) => findings.wrong(&error.to_string())?,
    }
    for account in &server.accounts {
        let mut trouble = Vec::new();
        let (password, keys) = daemon::credentials(account, &mut trouble);
        for words in &trouble {
            findings.wrong(words)?;
        }
        if let Some(PasswordConfig::Kept(secret)) = &account.password
            && let Some(words) = secret.warning()
        {
            findings.warning(&words)?;
        }
        if trouble.is_empty() {
            let how = match (password.is_some(), keys.len()) {
                (true, 0) => "password".to_owned(),
                (true, keys) => format!("password or one of {keys} keys"),
                (false, 1) => "1 key".to_owned(),
                (false, keys) => format!("one of {keys} keys"),
            };
            findings.good(&format!(
                "source {name}: account {} for origin {} logs in by {how}",
                account.user, account.origin
            ))?;
        }
    }
    if server.legacy_algorithms {
        findings.warning(&format!(
            "{}: source.legacy_algorithms: others can break what is offered; only for PBXes that know nothing newer",
            source.place
        ))?;
    }
    Ok(())
}

/// A device that is asked. It is not asked here: a wrong password costs a try.
fn asked(source: &SourceConfig, ucm: &UcmConfig, findings: &mut Findings<'_>) -> std::io::Result<()> {
    let (name, authority) = (&source.name, ucm.endpoint.authority());
    match daemon::password(&ucm.password) {
        Ok(()) => {
            findings.good(&format!("source {name}: asks {authority}; `cdrd poll test {name}` tries it"))?;
        }
        // A credential is only there for the service.
        Err(error) => findings.away(&error)?,
    }
    if let Some(warning) = ucm.password.warning() {
        findings.warning(&warning)?;
    }
    if ucm.trust == Trust::Insecure {
        findings.warning(&format!(
            "{}: source.tls: the certificate of {authority} is not looked at: whoever is between can read the log-in and \
             change calls; `cdrd poll test {name}` shows its fingerprint: write tls = \"pin:sha256:...\"",
            source.place
        ))?;
    }
    Ok(())
}

/// Files that are followed are only read.
fn followed(
    source: &SourceConfig,
    folder: &FolderConfig,
    findings: &mut Findings<'_>,
) -> std::io::Result<()> {
    let (shown, name) = (folder.path.display(), &source.name);
    match writable(&folder.path) {
        Found::Writable | Found::ReadOnly => {}
        Found::NotAFolder => {
            return findings
                .wrong(&format!("{}: source.path: {shown} is no folder; name the folder", source.place));
        }
        Found::Unreadable | Found::Creatable | Found::Missing => {
            return findings.away(&format!(
                "{}: source.path: {shown} does not exist or this user may not read it; name the folder into which the PBX \
                 writes, and make it readable for the user that runs cdrd; until then this source is stopped",
                source.place
            ));
        }
    }
    for file in &folder.append {
        let path = folder.path.join(file);
        let place = format!("{}: source.files", source.place);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if !found.is_file() => findings.wrong(&format!(
                "{place}: {} is a link or no file; name the file itself and its folder",
                path.display()
            ))?,
            Ok(_) if access(&path, Access::READ_OK).is_err() => findings.away(&format!(
                "{place}: this user may not read {}; make it readable for the user that runs cdrd, also after rotation",
                path.display()
            ))?,
            Ok(_) => findings.good(&format!("source {name}: follows {}", path.display()))?,
            Err(_) => findings.away(&format!(
                "{place}: {} is not there; it is followed when it comes, if the name is right",
                path.display()
            ))?,
        }
    }
    Ok(())
}

/// An origin that has rows and lost its stanza: its next rows would belong to nobody.
fn stored_origins(
    config: &Config,
    stored: &[StoredOrigin],
    findings: &mut Findings<'_>,
) -> std::io::Result<()> {
    if let Err(error) = daemon::none_gone(config, stored) {
        findings.wrong(&error.to_string())?;
    }
    for words in daemon::zones_corrected(config, stored) {
        findings.warning(&format!("{}: {words}", config.file.display()))?;
    }
    Ok(())
}

enum Found {
    Writable,
    ReadOnly,
    Unreadable,
    NotAFolder,
    /// Is not there, but `run` can make it.
    Creatable,
    Missing,
}

fn writable(path: &Path) -> Found {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => Found::NotAFolder,
        Ok(_) if access(path, Access::READ_OK | Access::EXEC_OK).is_err() => Found::Unreadable,
        Ok(_) if access(path, Access::WRITE_OK).is_err() => Found::ReadOnly,
        Ok(_) => Found::Writable,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let existing = path.ancestors().skip(1).find(|folder| folder.exists());
            let may =
                |folder: &Path| folder.is_dir() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok();
            if existing.is_some_and(may) { Found::Creatable } else { Found::Missing }
        }
        Err(_) => Found::Unreadable,
    }
}
