//! Places at which a test can kill the process, so that every line of the crash table is tried on the real binary, or hold
//! a thread.
//!
//! `CDRD_CRASH=NAME` or `NAME:N` kills with SIGKILL when the place is reached for the first or N-th time. `CDRD_HANG=NAME`
//! holds the thread there, for ever or until the file named by `CDRD_HANG_UNTIL` exists; one beside it, `.held`, says that it
//! is held. Debug builds only: a release
//! build compiles to nothing.

/// Dies or hangs here if the environment says so.
#[inline]
pub fn reached(name: &str) {
    #[cfg(debug_assertions)]
    armed::reached(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Trap {
        name: String,
        left: AtomicU64,
    }

    struct Hold {
        name: String,
        until: Option<PathBuf>,
    }

    fn trap() -> Option<&'static Trap> {
        static TRAP: OnceLock<Option<Trap>> = OnceLock::new();
        TRAP.get_or_init(|| {
            let wish = std::env::var("CDRD_CRASH").ok()?;
            let (name, times) = wish.split_once(':').unwrap_or((&wish, "1"));
            Some(Trap { name: name.to_owned(), left: AtomicU64::new(times.parse().unwrap_or(1)) })
        })
        .as_ref()
    }

    fn hold() -> Option<&'static Hold> {
        static HOLD: OnceLock<Option<Hold>> = OnceLock::new();
        HOLD.get_or_init(|| {
            let name = std::env::var("CDRD_HANG").ok()?;
            Some(Hold { name, until: std::env::var_os("CDRD_HANG_UNTIL").map(PathBuf::from) })
        })
        .as_ref()
    }

    pub(super) fn reached(name: &str) {
        if let Some(hold) = hold().filter(|hold| hold.name == name) {
            if let Some(until) = &hold.until {
                // A test that cannot see it fails by itself.
                let _ = std::fs::write(until.with_extension("held"), "");
            }
            while hold.until.as_ref().is_none_or(|until| !until.exists()) {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        let Some(trap) = trap().filter(|trap| trap.name == name) else { return };
        if trap.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // SIGKILL, not abort: no destructor, no atexit, no flush may help.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            std::thread::sleep(std::time::Duration::from_mins(1));
        }
    }
}
