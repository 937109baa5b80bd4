//! The README's tour, run as written: each `sh` block with the built executable, each `text` block compared with what
//! the block before it prints.

use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const README: &str = include_str!("../../README.md");
const TYPED: &str = "cargo run --release --";

/// How long a step may take until it shows what the README says.
const PATIENCE: Duration = Duration::from_mins(1);

type Tested = Result<(), Box<dyn std::error::Error>>;

/// A fenced block: its language and its text.
fn blocks() -> Vec<(&'static str, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in README.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(language), None) => open = Some((language, String::new())),
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some((language, text))) => open = Some((language, format!("{text}{line}\n"))),
            (None, None) => {}
        }
    }
    blocks
}

/// A daemon that does not outlive its test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn shell(folder: &Path, script: &str) -> Command {
    let script = script.replace(TYPED, concat!("'", env!("CARGO_BIN_EXE_cdrd"), "'"));
    let mut command = Command::new("sh");
    command
        .args(["-euc", &script])
        .current_dir(folder)
        .env_remove("STATE_DIRECTORY")
        .env("TZ", "Europe/London");
    command
}

/// Runs a block that must end well and gives what it printed.
fn printed(folder: &Path, script: &str) -> Result<String, Box<dyn std::error::Error>> {
    let output = shell(folder, script).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{script}ended with {}: {said}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Starts the daemon and waits until its folder is there.
fn start(folder: &Path, script: &str) -> Result<Daemon, Box<dyn std::error::Error>> {
    // With `exec` the shell becomes the daemon, so that it gets the signal.
    let daemon = Daemon(shell(folder, &format!("exec {script}")).stdout(Stdio::null()).spawn()?);
    let status = format!("{TYPED} status\n");
    until(|| {
        let ready = printed(folder, &status)?.contains("daemon     running") && folder.join("inbox").is_dir();
        if ready { Ok(()) } else { Err("the daemon does not get ready".into()) }
    })?;
    Ok(daemon)
}

/// Repeats a step until it holds.
fn until(mut step: impl FnMut() -> Tested) -> Tested {
    let begun = Instant::now();
    loop {
        match step() {
            Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(100)),
            ended => return ended,
        }
    }
}

/// The cells of a table, however it is drawn: a README shows it as a terminal does, a pipe gets tabs.
fn cells(table: &str) -> Vec<Vec<String>> {
    table
        .lines()
        .map(|line| line.replace('\t', "  ").to_lowercase())
        .map(|line| {
            line.split("  ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
        })
        .filter(|row: &Vec<String>| !row.is_empty())
        .collect()
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

#[test]
fn every_step_of_the_readmes_tour_does_what_it_says() -> Tested {
    let repository = crate::site::repository("");
    let folder = TempDir::new()?;
    std::fs::copy(repository.join("config.toml"), folder.path().join("config.toml"))?;
    copy(&repository.join("fixtures/tour"), &folder.path().join("fixtures/tour"))?;

    let mut daemon = None;
    let blocks = blocks();
    for (place, (language, script)) in blocks.iter().enumerate() {
        if *language != "sh" {
            continue;
        }
        if script.trim() == format!("{TYPED} run") {
            daemon = Some(start(folder.path(), script)?);
            continue;
        }
        let Some((_, expected)) = blocks.get(place + 1).filter(|(language, _)| *language == "text") else {
            printed(folder.path(), script)?;
            continue;
        };
        until(|| {
            let shown = printed(folder.path(), script)?;
            if cells(&shown) == cells(expected) {
                return Ok(());
            }
            Err(format!("{script}shows\n{shown}and the README says\n{expected}").into())
        })?;
    }

    let mut daemon = daemon.ok_or("the tour starts the daemon")?;
    let pid =
        i32::try_from(daemon.0.id()).ok().and_then(Pid::from_raw).ok_or("a pid is a positive number")?;
    kill_process(pid, Signal::TERM)?;
    assert_eq!(daemon.0.wait()?.code(), Some(0), "a daemon that is told to stop has done its work");
    Ok(())
}

#[test]
fn the_readme_names_the_two_commands_and_only_files_that_exist() {
    assert!(README.contains("\n    cargo run --release -- run "));
    assert!(README.contains("\n    tests/run "));
    let repository = crate::site::repository("");
    let links: Vec<&str> = README.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 5);
    for link in links {
        assert!(repository.join(link).exists(), "{link} is linked and not there");
    }
}
