//! The shim between the daemon and the C library: compiled once, told by a file what is to fail.

use crate::site::{Site, repository};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The compiled shim.
pub fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cdrd-faults.so");
        // Several test processes may build it at once; a rename is whole.
        let beside = built.with_extension(format!("{}.so", std::process::id()));
        let source = repository("tests/it/faults/shim.c");
        let status = Command::new("cc")
            .args(["-O1", "-Wall", "-shared", "-fPIC", "-pthread", "-o"])
            .arg(&beside)
            .arg(source)
            .arg("-ldl")
            .status()
            .expect("cc is installed by tests/run");
        assert!(status.success(), "the shim does not compile");
        fs::rename(beside, &built).expect("the target folder is writable");
        built
    })
}

/// What fails in the daemon of a site, while it runs.
pub struct Faults {
    control: PathBuf,
    replaced: u32,
}

impl Faults {
    /// Of this site, nothing fails yet.
    pub fn of(site: &Site) -> Self {
        let control = site.path("faults");
        fs::write(&control, "").expect("the folder is writable");
        Self { control, replaced: 0 }
    }

    /// What the daemon is started with.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![("LD_PRELOAD", library().clone()), ("CDRD_FAULTS", self.control.clone())]
    }

    /// From now on these rules hold: operation, pattern, fault, how many pass, how many fail.
    pub fn set(&mut self, rules: &[(&str, &str, &str, u32, i32)]) {
        self.replaced += 1;
        let mut lines = String::new();
        for (op, pattern, fault, skip, times) in rules {
            let _ = writeln!(lines, "{op} {pattern} {fault} {skip} {times}");
        }
        let beside = self.control.with_extension(self.replaced.to_string());
        fs::write(&beside, lines).expect("the folder is writable");
        let _ = fs::remove_file(self.hits_file());
        fs::rename(beside, &self.control).expect("the folder is writable");
    }

    /// Nothing fails any more.
    pub fn clear(&mut self) {
        self.set(&[]);
    }

    /// What was made to fail since the rules were set, a line each.
    pub fn hits(&self) -> Vec<String> {
        fs::read_to_string(self.hits_file()).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn hits_file(&self) -> PathBuf {
        self.control.with_extension("hits")
    }
}
