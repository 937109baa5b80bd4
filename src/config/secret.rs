//! Passwords and tokens: the configuration says where one is, never what it is.
//!
//! Must never let a secret into a message, a log line or the configuration's own text.

use super::fault::Fault;
use super::keys::{self, Table};
use super::stanza::{Spotted, Stanza};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A secret. Shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for whoever must send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(...)")
    }
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// `{ credential = "name" }`: what systemd gives by `LoadCredential=name:...`.
    Credential(String),
    /// `{ file = "path" }`.
    File(PathBuf),
    /// `{ env = "NAME" }`.
    Env(String),
}

/// Where a secret is, and the key that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretConfig {
    /// Where it is.
    pub keeper: Keeper,
    /// File, line and key, for messages.
    pub place: String,
}

/// Why a secret cannot be had; names its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct SecretError {
    place: String,
    message: String,
}

/// Where the process finds what is given to it.
#[derive(Clone, Copy)]
pub struct Given<'g> {
    /// `$CREDENTIALS_DIRECTORY` as systemd sets it.
    pub credentials: Option<&'g Path>,
    /// A variable of the environment.
    pub env: &'g dyn Fn(&str) -> Option<String>,
}

/// Reads `key = { credential = ".." }`, `{ file = ".." }` or `{ env = ".." }`; a path starts at `base`.
pub fn read(stanza: &mut Stanza<'_, '_>, key: &'static str, base: &Path) -> Option<SecretConfig> {
    let place = stanza.place_of(key)?;
    if !stanza.is_table(key) {
        // What stands there may be the secret itself: it is not repeated.
        stanza.faults.push(literal(&place, key));
        return None;
    }
    let mut table = stanza.table(key, Table::Secret)?;
    let keepers: Vec<Keeper> = [
        table.text(keys::CREDENTIAL).and_then(|name| credential(name, table.faults)),
        table.path(keys::FILE, base).map(|path| Keeper::File(path.value)),
        table.text(keys::ENV).map(|name| Keeper::Env(name.value)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let written = [keys::CREDENTIAL, keys::FILE, keys::ENV].iter().filter(|key| table.has(key)).count();
    table.unknown_keys();
    if written != 1 {
        let message =
            format!("must say one place; write {key} = {{ credential = \"{key}\" }}, or file or env");
        stanza.faults.push(place.fault(message));
        return None;
    }
    let keeper = keepers.into_iter().next()?;
    Some(SecretConfig { keeper, place: place.shown() })
}

fn literal(place: &Spotted<()>, key: &str) -> Fault {
    place.fault(format!(
        "a secret is never written here; put it into a file that only cdrd may read and write {key} = {{ file = \
         \"/etc/cdrd/{key}\" }}, or {{ credential = \"{key}\" }} with LoadCredential= in the unit, or {{ env = \"...\" }}"
    ))
}

/// A credential is a name, not a path.
fn credential(name: Spotted<String>, faults: &mut Vec<Fault>) -> Option<Keeper> {
    if name.value.contains('/') || name.value.starts_with('.') {
        faults.push(name.fault("must be the name in LoadCredential=NAME:PATH, without a path".to_owned()));
        return None;
    }
    Some(Keeper::Credential(name.value))
}

impl SecretConfig {
    /// The secret as this process was given it: from systemd's credentials, its environment, or a file.
    pub fn of_process(&self) -> Result<Secret, SecretError> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let env = |name: &str| std::env::var(name).ok();
        self.value(Given { credentials: credentials.as_deref(), env: &env })
    }

    /// The secret, without the line end of its file.
    pub fn value(&self, given: Given<'_>) -> Result<Secret, SecretError> {
        let text = match &self.keeper {
            Keeper::Credential(name) => {
                let folder = given.credentials.ok_or_else(|| {
                    self.fault(format!(
                        "credential {name:?} is given by systemd alone; start it as a service with LoadCredential={name}:..., \
                         or name a file"
                    ))
                })?;
                self.text_of(&folder.join(name), &format!("add LoadCredential={name}:... to the unit"))?
            }
            Keeper::File(path) => self.text_of(path, "write it there, for the user that runs cdrd alone")?,
            Keeper::Env(name) => (given.env)(name).ok_or_else(|| {
                self.fault(format!("the environment has no {name}; set it for the service"))
            })?,
        };
        let secret = text.strip_suffix('\n').map_or(text.as_str(), |text| text.trim_end_matches('\r'));
        if secret.is_empty() {
            return Err(self.fault("is empty; put the secret there".to_owned()));
        }
        Ok(Secret(secret.to_owned()))
    }

    fn text_of(&self, path: &Path, mend: &str) -> Result<String, SecretError> {
        std::fs::read_to_string(path)
            .map_err(|cause| self.fault(format!("{} cannot be read: {cause}; {mend}", path.display())))
    }

    /// What is unsafe about where it is.
    pub fn warning(&self) -> Option<String> {
        let Keeper::File(path) = &self.keeper else { return None };
        let mode = std::fs::metadata(path).ok()?.permissions().mode();
        (mode & 0o007 != 0).then(|| {
            format!("{}: everybody may read {}; chmod o= {}", self.place, path.display(), path.display())
        })
    }

    fn fault(&self, message: String) -> SecretError {
        SecretError { place: self.place.clone(), message }
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Parsed;
    use super::*;

    fn parsed(text: &str) -> (Option<SecretConfig>, Vec<String>) {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let file = dir.path().join("c.toml");
        std::fs::write(&file, text).expect("it is writable");
        let texts = super::super::place::read_all(&file).expect("it is there");
        let mut faults = Vec::new();
        let parsed = Parsed::new(&texts[0], &mut faults).expect("TOML");
        let secret = read(&mut Stanza::top(&parsed, &mut faults), "password", Path::new("/base"));
        (secret, faults.iter().map(ToString::to_string).collect())
    }

    fn keeper(text: &str) -> Keeper {
        let (secret, faults) = parsed(text);
        assert!(faults.is_empty(), "{faults:?}");
        secret.expect("a secret").keeper
    }

    #[test]
    fn a_secret_is_named_and_never_written() {
        assert_eq!(keeper("password = { credential = \"mail\" }"), Keeper::Credential("mail".to_owned()));
        assert_eq!(keeper("password = { file = \"p\" }"), Keeper::File("/base/p".into()));
        assert_eq!(keeper("password = { env = \"P\" }"), Keeper::Env("P".to_owned()));
        for wrong in [
            "password = \"hunter2\"",
            "password = 4711",
            "password = {}",
            "password = { file = \"a\", env = \"B\" }",
            "password = { literal = \"hunter2\" }",
            "password = { credential = \"../hunter2\" }",
        ] {
            let (secret, faults) = parsed(wrong);
            assert_eq!(secret, None, "{wrong}");
            assert!(
                !faults.is_empty() && faults.iter().all(|fault| fault.contains("c.toml:1: ")),
                "{faults:?}"
            );
            assert!(!faults.iter().any(|fault| fault.contains("hunter2")), "{faults:?}");
        }
        assert!(parsed("").1.is_empty());
    }

    #[test]
    fn it_is_had_from_where_it_is_and_a_missing_one_is_named_by_its_key() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("mail"), "hunter2\n")?;
        std::fs::write(dir.path().join("empty"), "\n")?;
        let env = |name: &str| (name == "P").then(|| "from the environment".to_owned());
        let given = Given { credentials: Some(dir.path()), env: &env };
        let at = |keeper| SecretConfig { keeper, place: "c.toml:7: source.password".to_owned() };
        let value = |keeper| at(keeper).value(given);
        let shown = |keeper| value(keeper).expect_err("it is not there").to_string();
        let mail = value(Keeper::Credential("mail".to_owned())).expect("it is there");
        assert_eq!(mail.reveal(), "hunter2");
        assert_eq!(format!("{mail:?}"), "Secret(...)");
        assert_eq!(value(Keeper::File(dir.path().join("mail"))), Ok(mail));
        assert!(value(Keeper::Env("P".to_owned())).is_ok());
        for missing in [
            Keeper::Credential("gone".to_owned()),
            Keeper::File(dir.path().join("gone")),
            Keeper::File(dir.path().join("empty")),
            Keeper::Env("Q".to_owned()),
        ] {
            assert!(shown(missing).starts_with("c.toml:7: source.password: "));
        }
        let outside = Given { credentials: None, env: &env };
        let error = at(Keeper::Credential("mail".to_owned())).value(outside).expect_err("no systemd");
        assert!(error.to_string().contains("LoadCredential=mail:"), "{error}");
        let file = at(Keeper::File(dir.path().join("mail")));
        std::fs::set_permissions(dir.path().join("mail"), std::fs::Permissions::from_mode(0o644))?;
        assert!(file.warning().is_some_and(|text| text.contains("chmod o=")));
        std::fs::set_permissions(dir.path().join("mail"), std::fs::Permissions::from_mode(0o640))?;
        assert_eq!(file.warning(), None);
        Ok(())
    }

    /// The environment of a process is its own: this test runs itself once more, as systemd would start it.
    #[test]
    fn a_process_has_what_systemd_gives_it() -> std::io::Result<()> {
        const OWN: &str = "config::secret::tests::a_process_has_what_systemd_gives_it";
        let mail = Keeper::Credential("cdrd-test-mail".to_owned());
        let mail = SecretConfig { keeper: mail, place: "c.toml:7: source.password".to_owned() };
        if std::env::var_os("CDRD_TEST_CREDENTIAL").is_some() {
            assert_eq!(mail.of_process().map(|secret| secret.0), Ok("hunter2".to_owned()));
            return Ok(());
        }
        assert!(mail.of_process().is_err(), "nobody gave it");
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("cdrd-test-mail"), "hunter2\n")?;
        let given = std::process::Command::new(std::env::current_exe()?)
            .args(["--exact", OWN])
            .env("CREDENTIALS_DIRECTORY", dir.path())
            .env("CDRD_TEST_CREDENTIAL", "1")
            .output()?;
        let said = String::from_utf8_lossy(&given.stdout).into_owned();
        assert!(given.status.success() && said.contains("1 passed"), "{said}");
        Ok(())
    }
}
