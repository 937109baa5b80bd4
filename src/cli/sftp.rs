//! `cdrd sftp`: accounts of the SFTP server. Never prints a password that it did not make, and never writes one down.

use super::screen::Screen;
use super::{Exit, Loaded, WrongUsage};
use crate::config::{SftpConfig, SourceConfig, SourceKind};
use crate::sources::sftp::{self, PasswordHash};
use anyhow::{Context as _, bail};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make an account: writes its stanza into config.d and prints what to type into the PBX
    #[command(after_help = "Example: cdrd sftp add-account pbx-hq --source push --origin pbx")]
    AddAccount(AddAccount),
    /// Read a password from standard input and print its hash, for password_hash
    #[command(after_help = "Example: cdrd sftp hash-password")]
    HashPassword,
}

#[derive(Debug, clap::Args)]
struct AddAccount {
    /// Name to log in with
    user: String,
    /// SFTP source that it belongs to; may be absent while there is at most one
    #[arg(long)]
    source: Option<String>,
    /// Origin of what it sends; may be absent while there is only one
    #[arg(long)]
    origin: Option<String>,
    /// File with its public key; then no password is made
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Args {
    /// Whether it can be done without a configuration.
    pub const fn needs_no_configuration(&self) -> bool {
        matches!(self.command, Command::HashPassword)
    }
}

/// Runs what needs a configuration.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    match &args.command {
        Command::AddAccount(wish) => add_account(wish, loaded, screen),
        Command::HashPassword => hash_password(screen),
    }
}

/// Reads one line and prints the hash of it.
pub fn hash_password(screen: &mut Screen) -> anyhow::Result<Exit> {
    if std::io::stdin().is_terminal() {
        // Shown while it is typed: a terminal without echo needs more than is worth it here.
        eprint_line("password (it shows while you type): ")?;
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("the password cannot be read")?;
    let password = line.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        bail!("no password came; write it on standard input");
    }
    let hash =
        PasswordHash::of(password).context("no hash can be made of this password; choose a shorter one")?;
    screen.line(hash.text())?;
    Ok(Exit::Done)
}

fn eprint_line(text: &str) -> std::io::Result<()> {
    let mut errors = std::io::stderr().lock();
    errors.write_all(text.as_bytes())?;
    errors.flush()
}

/// The source, the name of the file to write, and what is printed.
fn add_account(wish: &AddAccount, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let config = &loaded.config;
    let servers: Vec<(&SourceConfig, &SftpConfig)> = config.sources.iter().filter_map(server).collect();
    let chosen = match (&wish.source, &servers[..]) {
        (Some(name), _) => servers.iter().find(|(source, _)| source.name == *name).copied(),
        (None, [only]) => Some(*only),
        (None, _) => None,
    };
    if chosen.is_none()
        && !(servers.is_empty()
            && config.sources.iter().all(|other| wish.source.as_ref() != Some(&other.name)))
    {
        return Err(WrongUsage("--source: name one of the sources of kind \"sftp\"".to_owned()).into());
    }
    let origin = origin_of(wish, loaded)?;
    if let Some((source, server)) = chosen {
        if server.accounts.iter().any(|account| account.user == wish.user) {
            return Err(WrongUsage(format!(
                "{}: source {} has an account of this name",
                wish.user, source.name
            ))
            .into());
        }
        let file = config_file(&source.place);
        return append(wish, &origin, &file, server.listen[0].port(), screen);
    }
    let name = wish.source.clone().unwrap_or_else(|| "sftp".to_owned());
    let file = config.file.with_file_name("config.d").join(format!("sftp-{name}.toml"));
    let stanza = format!(
        "[[source]]\nname = \"{name}\"\nkind = \"sftp\"\nlisten = \"0.0.0.0:2022\"\norigin = \"{origin}\"\n"
    );
    write_new(&file, &stanza)?;
    screen.line(&format!("wrote {}: source {name}, an SFTP server on port 2022", file.display()))?;
    append(wish, &origin, &file, 2022, screen)
}

fn server(source: &SourceConfig) -> Option<(&SourceConfig, &SftpConfig)> {
    match &source.kind {
        SourceKind::Sftp(server) => Some((source, server)),
        SourceKind::Folder(_) | SourceKind::Ucm(_) => None,
    }
}

fn origin_of(wish: &AddAccount, loaded: &Loaded) -> anyhow::Result<String> {
    let origins = &loaded.config.origins;
    match (&wish.origin, &origins[..]) {
        (Some(name), _) if loaded.config.origin(name).is_some() => Ok(name.clone()),
        (None, [only]) => Ok(only.name.clone()),
        _ => {
            let names: Vec<&str> = origins.iter().map(|origin| origin.name.as_str()).collect();
            Err(WrongUsage(format!("--origin: name one of: {}", names.join(", "))).into())
        }
    }
}

/// The file of a place.
fn config_file(place: &str) -> PathBuf {
    PathBuf::from(place.rsplit_once(':').map_or(place, |(file, _)| file))
}

/// Writes the account behind the stanza of its source, which must be the last one in its file.
fn append(
    wish: &AddAccount,
    origin: &str,
    file: &Path,
    port: u16,
    screen: &mut Screen,
) -> anyhow::Result<Exit> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if wish.user.is_empty()
        || wish.user.len() > 64
        || wish.user.starts_with('.')
        || !wish.user.chars().all(plain)
    {
        return Err(WrongUsage(format!(
            "{:?}: a name has letters from a to z, digits, '-', '_' and '.' only",
            wish.user
        ))
        .into());
    }
    let (line, secret) = if let Some(path) = &wish.key {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let key = text.lines().find(|line| sftp::public_key(line).is_some());
        let key =
            key.with_context(|| format!("{} holds no public key; name the .pub file", path.display()))?;
        (format!("authorized_keys = {:?}", key.trim()), None)
    } else {
        let password = made_password();
        let hash = PasswordHash::of(&password).context("no hash can be made")?;
        (format!("password_hash = '{}'", hash.text()), Some(password))
    };
    let before =
        std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let last = before.rfind("\n[").map_or(0, |place| place + 1);
    let header = before[last..].lines().next().unwrap_or_default();
    let stanza = format!("\n[[source.account]]\nuser = \"{}\"\norigin = \"{origin}\"\n{line}\n", wish.user);
    if !matches!(header.trim(), "[[source]]" | "[[source.account]]") {
        bail!(
            "{}: other stanzas follow its source; add this below the last line of the source yourself:\n{stanza}",
            file.display()
        );
    }
    replace(file, &format!("{}{stanza}", before.trim_end_matches('\n').to_owned() + "\n"))?;
    screen.line(&format!("wrote {}: account {} for origin {origin}", file.display(), wish.user))?;
    screen.line("type into the PBX:")?;
    screen.line(&format!("  host      this host's name or address\n  port      {port}\n  protocol  SFTP"))?;
    screen.line(&format!("  user      {}", wish.user))?;
    match secret {
        Some(password) => screen.line(&format!(
            "  password  {password}   (it is written nowhere; this is the only time that it shows)"
        ))?,
        None => screen.line("  key       the private key beside the public one")?,
    }
    screen.line("  folder    /")?;
    screen.line("then: cdrd check && systemctl reload cdrd")?;
    Ok(Exit::Done)
}

/// 121 random bits in letters and digits that every PBX takes.
fn made_password() -> String {
    use rand::RngExt as _;
    let letters = b"abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut random = rand::rng();
    (0..21).map(|_| char::from(letters[random.random_range(0..letters.len())])).collect()
}

fn write_new(file: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut made =
        std::fs::File::create_new(file).with_context(|| format!("cannot create {}", file.display()))?;
    made.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))
}

/// Whole or not at all, with the rights that it had.
fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let temporary = file.with_extension("toml.new");
    let permissions = std::fs::metadata(file)?.permissions();
    let write = || {
        std::fs::write(&temporary, text)?;
        std::fs::set_permissions(&temporary, permissions.clone())?;
        std::fs::rename(&temporary, file)
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}
