//! The shipped `config.toml` says what the program does: it names every key, and each default that it states is true.

use cdrd::config::keys::{KEYS, Table};
use cdrd::config::{Config, FolderConfig, SourceKind, Surroundings, ZoneWish, load};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const SHIPPED: &str = include_str!("../../config.toml");

fn loaded(folder: &Path, text: &str) -> Result<Config, Box<dyn std::error::Error>> {
    let file = folder.join("config.toml");
    std::fs::write(&file, text)?;
    let config = load(&file, &Surroundings { state_directory: None, formats: &["asterisk-cdr-csv"] })?;
    // What it means, not how it is written.
    Ok(Config { written: [0; 32], ..config })
}

/// Table, key, value and whether the line is commented out, for each line that states a key.
fn statements() -> Vec<(Table, &'static str, &'static str, bool)> {
    let mut table = Table::Top;
    let mut statements = Vec::new();
    for line in SHIPPED.lines() {
        match line {
            "[store]" => table = Table::Store,
            "[http]" => table = Table::Http,
            "[keep]" => table = Table::Keep,
            "[[origin]]" => table = Table::Origin,
            "[[source]]" => table = Table::Source,
            "# [[source]]" => table = Table::Sftp,
            "#   kind = \"ucm\"" => table = Table::Ucm,
            "# [[source.account]]" => table = Table::Account,
            "# [[format]]" => table = Table::Format,
            _ if line.starts_with("# [format.columns]") => break,
            _ => {}
        }
        let statement = line.strip_prefix("# ").unwrap_or(line);
        let Some((key, rest)) = statement.split_once(" = ") else { continue };
        if key.contains(' ') {
            continue;
        }
        let value = rest.split("  #").next().unwrap_or(rest).trim();
        statements.push((table, key, value, line.starts_with('#')));
    }
    statements
}

#[test]
fn it_names_each_key_once_and_states_its_true_default() {
    let statements = statements();
    for key in KEYS {
        let here: Vec<_> =
            statements.iter().filter(|(table, name, ..)| (*table, *name) == (key.table, key.name)).collect();
        assert_eq!(here.len(), 1, "{:?} {} stands {} times in config.toml", key.table, key.name, here.len());
        if let Some(default) = key.default {
            assert_eq!(here[0].2, default, "{:?} {}", key.table, key.name);
        }
    }
    assert_eq!(statements.len(), KEYS.len(), "config.toml states a key that the program does not know");
}

#[test]
fn it_loads_to_the_first_start_that_needs_no_edit() -> Result<(), Box<dyn std::error::Error>> {
    let folder = TempDir::new()?;
    let config = loaded(folder.path(), SHIPPED)?;
    assert_eq!(config.state_dir, folder.path().join("var"));
    assert_eq!(config.store.sqlite, folder.path().join("var/cdr.db"));
    assert_eq!(config.origins.len(), 1);
    assert_eq!((config.origins[0].name.as_str(), &config.origins[0].time_zone), ("pbx", &ZoneWish::Auto));
    assert_eq!(config.sources.len(), 1);
    assert_eq!((config.sources[0].name.as_str(), config.sources[0].origin.as_str()), ("inbox", "pbx"));
    assert_eq!(
        config.sources[0].kind,
        SourceKind::Folder(FolderConfig {
            path: folder.path().join("inbox"),
            keep: false,
            recursive: true,
            marker: None,
            settle: Duration::from_secs(5),
            rescan: Duration::from_mins(1),
            append: Vec::new(),
        })
    );
    Ok(())
}

#[test]
fn a_stated_default_changes_nothing_and_each_example_is_valid() -> Result<(), Box<dyn std::error::Error>> {
    let folder = TempDir::new()?;
    let shipped = loaded(folder.path(), SHIPPED)?;
    for (table, key, value, commented) in statements() {
        if matches!(table, Table::Format | Table::Sftp | Table::Account | Table::Ucm) {
            continue;
        }
        let has_default =
            KEYS.iter().any(|known| (known.table, known.name) == (table, key) && known.default.is_some());
        let uncommented = SHIPPED.replacen(&format!("# {key} = {value}"), &format!("{key} = {value}"), 1);
        let line = format!("{key} = {value}");
        // Lines keep their numbers, so that the places in the configuration stay equal.
        let removed: Vec<&str> = SHIPPED.lines().map(|l| if l.starts_with(&line) { "" } else { l }).collect();
        let removed = removed.join("\n");
        match (commented, has_default) {
            (true, true) => assert_eq!(loaded(folder.path(), &uncommented)?, shipped, "{key} stated"),
            (true, false) => assert_ne!(loaded(folder.path(), &uncommented)?, shipped, "{key} has no effect"),
            (false, true) => assert_eq!(loaded(folder.path(), &removed)?, shipped, "{key} removed"),
            // A name without default: it stands because it is required, or because it says more than its absence.
            (false, false) => {
                let other = SHIPPED.replacen(&line, &format!("{key} = \"other\""), 1);
                let other = loaded(folder.path(), &other);
                assert!(other.is_err() || other.is_ok_and(|config| config != shipped), "{key} has no effect");
            }
        }
    }
    Ok(())
}

/// A server with one account and these lines more.
fn server(folder: &Path, of_source: &str, of_account: &str) -> Result<Config, Box<dyn std::error::Error>> {
    let required = |lines: &str, name: &str, text: &str| {
        if lines.starts_with(&format!("{name} =")) { String::new() } else { format!("{text}\n") }
    };
    let listen = required(of_source, "listen", "listen = \"127.0.0.1:2022\"");
    let user = required(of_account, "user", "user = \"someone\"");
    let hash = required(of_account, "password_hash", "password_hash = { env = \"HASH\" }");
    let text = format!(
        "[[origin]]\nname = \"other\"\n[[origin]]\nname = \"pbx\"\n[[source]]\nname = \"push\"\nkind = \"sftp\"\norigin = \"other\"\n\
         {listen}{of_source}\n[[source.account]]\n{user}{hash}{of_account}\n"
    );
    loaded(folder, &text)
}

#[test]
fn each_key_of_the_sftp_server_is_valid_as_it_is_shown() -> Result<(), Box<dyn std::error::Error>> {
    let folder = TempDir::new()?;
    let plain = server(folder.path(), "", "")?;
    let shown: Vec<_> = statements()
        .into_iter()
        .filter(|(table, ..)| matches!(table, Table::Sftp | Table::Account))
        .collect();
    assert!(shown.len() > 15, "{shown:?}");
    for (table, key, value, _) in shown {
        let line = format!("{key} = {value}");
        let (source, account) = if table == Table::Sftp { (line.as_str(), "") } else { ("", line.as_str()) };
        let with = server(folder.path(), source, account).map_err(|error| format!("{line}: {error}"))?;
        let has_default =
            KEYS.iter().any(|known| (known.table, known.name) == (table, key) && known.default.is_some());
        assert_eq!(with.sources[0].kind == plain.sources[0].kind, has_default, "{line}");
    }
    Ok(())
}

#[test]
fn each_key_of_a_ucm_is_valid_as_it_is_shown() -> Result<(), Box<dyn std::error::Error>> {
    let folder = TempDir::new()?;
    let needed = ["url = \"https://a\"", "user = \"b\"", "password = { env = \"C\" }"];
    let with = |key: &str, line: &str| {
        let others = needed.iter().filter(|other| !other.starts_with(&format!("{key} ")));
        let lines: Vec<&str> = others.copied().chain([line]).collect();
        let head = "[[origin]]\nname = \"pbx\"\n[[source]]\nname = \"ucm\"\nkind = \"ucm\"\n";
        loaded(folder.path(), &format!("{head}{}\n", lines.join("\n")))
    };
    let plain = with("", "")?;
    for (_, key, value, _) in statements().into_iter().filter(|(table, ..)| *table == Table::Ucm) {
        let stated =
            with(key, &format!("{key} = {value}")).map_err(|error| format!("{key} = {value}: {error}"))?;
        let has_default = KEYS
            .iter()
            .any(|known| (known.table, known.name) == (Table::Ucm, key) && known.default.is_some());
        assert_eq!(stated.sources[0].kind == plain.sources[0].kind, has_default, "{key} = {value}");
    }
    Ok(())
}

/// A stanza with nothing but what is needed and this line, with what the line needs.
fn described(folder: &Path, key: &str, line: &str) -> Result<Config, Box<dyn std::error::Error>> {
    let numbered = "start = 1\ncaller_number = 2\ncallee_number = 3\nrecord_id = 4\ndst_channel = 5\n\
                    disposition = 6\nduration = 7\ntalk = 8\nlinked_id = 9\nrow_kind = 10\n";
    let named = numbered.replace("= ", "= \"column ").replace('\n', "\"\n");
    let required = |name: &str, text: &str| if key == name { String::new() } else { format!("{text}\n") };
    let (with, columns) = match key {
        "path" => ("syntax = \"json\"\n", named.as_str()),
        "width" => ("header = false\n", numbered),
        _ => ("", named.as_str()),
    };
    let id = required("id", "id = \"another\"");
    let matched = required("match", "match = [\"start\", \"caller_number\"]");
    let text = format!("[[format]]\n{id}{matched}{with}{line}\n[format.columns]\n{columns}");
    loaded(folder, &text)
}

#[test]
fn each_key_of_a_format_is_valid_as_it_is_shown() -> Result<(), Box<dyn std::error::Error>> {
    let folder = TempDir::new()?;
    let plain = described(folder.path(), "", "")?;
    for (_, key, value, _) in statements().into_iter().filter(|(table, ..)| *table == Table::Format) {
        let with = described(folder.path(), key, &format!("{key} = {value}"))
            .map_err(|error| format!("{key} = {value}: {error}"))?;
        let same = with.formats[0].mapping == plain.formats[0].mapping;
        let has_default = KEYS
            .iter()
            .any(|known| (known.table, known.name) == (Table::Format, key) && known.default.is_some());
        // A linked id joins legs, said or not.
        assert_eq!(same, has_default || key == "links", "{key} = {value}");
    }
    Ok(())
}

#[test]
fn the_format_that_is_shown_loads_as_a_whole() -> Result<(), Box<dyn std::error::Error>> {
    let folder = TempDir::new()?;
    let (_, shown) = SHIPPED.split_once("# [[format]]").ok_or("the stanza is there")?;
    // Those that belong to another syntax, to files without header, or to rows that are events; columns that lists name.
    let without = ["# path", "# width", "# events"];
    let lines = shown.lines().filter(|line| without.iter().all(|key| !line.starts_with(key)));
    let text: Vec<&str> = lines.map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
    let more = "[format.columns]\nrecord_id = \"Id\"\ndst_channel = \"Channel\"\ndisposition = \"Result\"\n\
                duration = \"Seconds\"\ntalk = \"Billed\"\nlinked_id = \"Call\"";
    let heads: Vec<&str> = text.iter().copied().filter(|line| line.starts_with("[format.columns]")).collect();
    let text = format!("[[format]]{}", text.join("\n")).replace(heads[0], more);
    let mapping = &loaded(folder.path(), &text)?.formats[0].mapping;
    assert_eq!(mapping.id, "carrier-x");
    assert_eq!(mapping.skip.len(), 2);
    Ok(())
}

#[test]
fn files_in_config_d_add_stanzas_in_the_order_of_their_names_and_override_single_keys()
-> Result<(), Box<dyn std::error::Error>> {
    let folder = TempDir::new()?;
    std::fs::create_dir(folder.path().join("config.d"))?;
    let second =
        "[[source]]\nname = \"second\"\nkind = \"folder\"\norigin = \"pbx\"\npath = \"/srv/second\"\n";
    std::fs::write(folder.path().join("config.d/20-second.toml"), second)?;
    std::fs::write(folder.path().join("config.d/10-state.toml"), "state_dir = \"elsewhere\"\n")?;
    std::fs::write(folder.path().join("config.d/30-not-this.toml.bak"), "nonsense")?;
    let config = loaded(folder.path(), SHIPPED)?;
    assert_eq!(config.state_dir, folder.path().join("elsewhere"), "relative to the main file's folder");
    let names: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["inbox", "second"]);
    Ok(())
}

#[test]
fn the_service_managers_state_directory_wins() -> Result<(), Box<dyn std::error::Error>> {
    let folder = TempDir::new()?;
    let file = folder.path().join("config.toml");
    std::fs::write(&file, SHIPPED)?;
    let given = PathBuf::from("/var/lib/cdrd");
    let config =
        load(&file, &Surroundings { state_directory: Some(given.clone()), formats: &["asterisk-cdr-csv"] })?;
    assert_eq!(config.store.sqlite, given.join("cdr.db"));
    assert_eq!(config.state_dir, given);
    Ok(())
}
