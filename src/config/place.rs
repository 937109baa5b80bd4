//! The files themselves: which there are, their text, the line of a byte, and where their relative paths start.

use super::fault::{ConfigError, Fault};
use super::stanza::Spotted;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::DeTable;

/// A file as read.
#[derive(Debug)]
pub struct Text {
    /// The file as it was named.
    pub path: PathBuf,
    content: String,
}

/// A file that is well-formed TOML.
#[derive(Debug)]
pub struct Parsed<'a> {
    /// Its text.
    pub text: &'a Text,
    /// Its content, with the place of every key and value.
    pub table: Spanned<DeTable<'a>>,
}

impl Text {
    fn read(path: PathBuf) -> Result<Self, ConfigError> {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(cause) => return Err(ConfigError::Unreadable { path, cause }),
        };
        String::from_utf8(bytes).map(|content| Self { path: path.clone(), content }).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            ConfigError::wrong(vec![Fault {
                file: path,
                line: 1 + memchr::memchr_iter(b'\n', before).count(),
                key: "syntax".to_owned(),
                message: "there are letters here that are no UTF-8; save the file as UTF-8".to_owned(),
            }])
        })
    }

    /// The line on which a byte lies, from 1.
    pub fn line(&self, span: &Range<usize>) -> usize {
        let before = self.content.as_bytes().get(..span.start).unwrap_or_default();
        1 + memchr::memchr_iter(b'\n', before).count()
    }
}

impl<'a> Parsed<'a> {
    /// Parses a file; what is no TOML is noted.
    pub fn new(text: &'a Text, faults: &mut Vec<Fault>) -> Option<Self> {
        let (table, errors) = DeTable::parse_recoverable(&text.content);
        for error in &errors {
            faults.push(Fault {
                file: text.path.clone(),
                line: text.line(&error.span().unwrap_or_default()),
                key: "syntax".to_owned(),
                message: syntax(&one_line(error.message())),
            });
        }
        errors.is_empty().then_some(Self { text, table })
    }
}

fn syntax(cause: &str) -> String {
    let mend = if cause.contains("duplicate key") {
        "it stands here for the second time in one stanza, take one of the two away"
    } else if cause.contains("quoted") {
        "text values stand in \"quotes\""
    } else {
        "write it as the shipped config.toml does"
    };
    format!("this is no TOML: {cause}; {mend}")
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The file and the `config.d/*.toml` beside it, in the order of their names.
pub fn read_all(file: &Path) -> Result<Vec<Text>, ConfigError> {
    let mut texts = vec![Text::read(file.to_owned())?];
    let folder = file.with_file_name("config.d");
    let unreadable = |cause| ConfigError::Unreadable { path: folder.clone(), cause };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(texts),
        Err(cause) => return Err(unreadable(cause)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|ending| ending == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        texts.push(Text::read(path)?);
    }
    Ok(texts)
}

/// Hash of what the files say, in the order in which they are read.
pub fn hash(texts: &[Text]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&(text.content.len() as u64).to_le_bytes());
        hasher.update(text.content.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// The folder at which relative paths start: the main file's, also for those written in `config.d`.
pub fn folder_of(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// The file that a store's URL names, relative to the state directory.
pub fn sqlite_path(url: &Spotted<String>, faults: &mut Vec<Fault>) -> PathBuf {
    let path = url.value.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
    match path {
        Some(path) if !path.is_empty() && !path.starts_with(':') && !path.contains('?') => {
            PathBuf::from(path)
        }
        _ => {
            faults.push(url.fault(format!(
                "\"{}\" names no database that this version can use; write \"sqlite:FILE\", FILE relative to state_dir",
                // A URL of another system may hold a password.
                url.value.split(':').next().unwrap_or_default()
            )));
            PathBuf::new()
        }
    }
}
