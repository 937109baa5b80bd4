//! Completions and manual pages are made from the arguments: they must have every command and every option.

use crate::site::CDRD;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// What a command line prints, which must end well.
fn said(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output =
        Command::new(CDRD).args(arguments).current_dir(folder.path()).output().expect("the binary runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}

/// The first words below `Commands:` of a help text.
fn commands(help: &str) -> Vec<String> {
    let lines =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let words = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    words
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| *word != "help")
        .map(str::to_owned)
        .collect()
}

/// Every command by its words, with its long options.
fn all(words: &[String], found: &mut Vec<(Vec<String>, BTreeSet<String>)>) {
    let mut line: Vec<&str> = words.iter().map(String::as_str).collect();
    line.push("--help");
    let help = said(&line);
    let starts = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
    let options = starts
        .map(|word| word.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect::<String>());
    // A note of exit codes or an example names options of other commands too.
    let own =
        |option: &String| help.contains(&format!("  --{option}")) || help.contains(&format!(", --{option}"));
    found.push((words.to_vec(), options.filter(own).collect()));
    for command in commands(&help) {
        all(&[words, &[command]].concat(), found);
    }
}

#[test]
fn completions_and_manual_pages_have_every_command_and_option() {
    let mut found = Vec::new();
    all(&[], &mut found);
    assert!(
        found.iter().any(|(words, options)| words == &["rejected", "list"] && options.contains("limit")),
        "{found:?}"
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pages = folder.path().to_str().expect("temporary folders have plain names");
    said(&["man", pages]);
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completions", shell]);
        for (words, options) in &found {
            assert!(words.iter().all(|word| script.contains(word.as_str())), "{shell} lacks {words:?}");
            for option in options.iter().filter(|option| !["help", "version"].contains(&option.as_str())) {
                let written = if shell == "fish" { format!("-l {option}") } else { format!("--{option}") };
                assert!(script.contains(&written), "{shell} lacks --{option} of {words:?}");
            }
        }
    }
    for (words, options) in &found {
        let name = [&["cdrd".to_owned()], words.as_slice()].concat().join("-");
        let page =
            std::fs::read_to_string(Path::new(pages).join(format!("{name}.1"))).expect("there is a page");
        let page = page.replace("\\-", "-");
        for option in options {
            assert!(page.contains(&format!("--{option}")), "{name}.1 lacks --{option}");
        }
        assert!(words.is_empty() || holds_others(&found, words) || page.contains("Example: "), "{name}.1");
    }
    let find = std::fs::read_to_string(Path::new(pages).join("cdrd-find.1")).expect("there is a page");
    assert!(
        find.contains(concat!("\"cdrd ", env!("CARGO_PKG_VERSION"), "\"")),
        "its foot names the program: {find}"
    );
    assert!(find.contains("[\\fB\\-\\-config\\fR \\fIFILE\\fR]"), "an option has its value: {find}");
    let count = std::fs::read_dir(pages).expect("our folder").count();
    assert_eq!(count, found.len(), "no page of a command that there is not");
}

/// Whether a command only holds others.
fn holds_others(found: &[(Vec<String>, BTreeSet<String>)], words: &[String]) -> bool {
    found.iter().any(|(other, _)| other.len() > words.len() && other.starts_with(words))
}

#[test]
fn the_scripts_are_good_for_their_shell() {
    let script = said(&["completions", "bash"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("cdrd.bash");
    std::fs::write(&path, script).expect("our folder");
    let asked = format!(
        ". '{}'; COMP_WORDS=(cdrd rejec); COMP_CWORD=1; _cdrd cdrd rejec cdrd; echo \"${{COMPREPLY[*]}}\"",
        path.display()
    );
    let output = Command::new("bash").args(["-c", &asked]).output().expect("bash is there");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "rejected",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The help of a command and of those below it, as a pipe gets it.
fn helps(words: &[String], text: &mut String) {
    let mut line: Vec<&str> = words.iter().map(String::as_str).collect();
    line.push("--help");
    let help = said(&line);
    let _ = writeln!(text, "$ cdrd {}\n{help}", line.join(" "));
    for word in commands(&help) {
        helps(&[words, &[word]].concat(), text);
    }
}

#[test]
fn the_help_of_each_command_is_as_it_was() {
    let mut text = String::new();
    helps(&[], &mut text);
    crate::snapshots::compare("help", &text);
}
