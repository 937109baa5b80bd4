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
    Ok(load(&file, &Surroundings { state_directory: None, formats: &["asterisk-cdr-csv"] })?)
}

/// Table, key, value and whether the line is commented out, for each line that states a key.
fn statements() -> Vec<(Table, &'static str, &'static str, bool)> {
    let mut table = Table::Top;
    let mut statements = Vec::new();
    for line in SHIPPED.lines() {
        match line {
            "[store]" => table = Table::Store,
            "[[origin]]" => table = Table::Origin,
            "[[source]]" => table = Table::Source,
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
