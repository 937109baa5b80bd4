//! Whether each thread of the daemon still comes round to its loop: systemd's watchdog is fed only then.
//!
//! A thread enrols, beats in its loop and wherever something long makes progress, and says when it waits for something
//! outside: a disk, a lock, another thread that is watched itself. Must cost next to nothing where nobody watches, and must
//! never take a wait for outside as a fault.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A thread's heart.
#[derive(Debug)]
struct Heart {
    name: String,
    /// The kernel's number of the thread.
    thread: i32,
    beats: AtomicU64,
    waits: AtomicU32,
}

static HEARTS: Mutex<Vec<Arc<Heart>>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: RefCell<Option<Arc<Heart>>> = const { RefCell::new(None) };
}

fn hearts() -> MutexGuard<'static, Vec<Arc<Heart>>> {
    HEARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that is watched until this is dropped. One that panics stays enrolled, and never beats again.
#[derive(Debug)]
pub struct Enrolled(Arc<Heart>);

/// Has this thread watched.
pub fn enrol(name: &str) -> Enrolled {
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    let heart =
        Arc::new(Heart { name: name.to_owned(), thread, beats: AtomicU64::new(0), waits: AtomicU32::new(0) });
    hearts().push(heart.clone());
    OWN.with(|own| *own.borrow_mut() = Some(heart.clone()));
    Enrolled(heart)
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            hearts().retain(|heart| !Arc::ptr_eq(heart, &self.0));
        }
    }
}

/// This thread has come round.
pub fn beat() {
    with_own(|heart| {
        heart.beats.fetch_add(1, Ordering::Relaxed);
    });
}

/// This thread waits for something outside until what is returned is dropped.
pub fn waiting() -> Waiting {
    with_own(|heart| {
        heart.waits.fetch_add(1, Ordering::Relaxed);
    });
    Waiting(())
}

/// Waits for something outside.
#[derive(Debug)]
pub struct Waiting(());

impl Drop for Waiting {
    fn drop(&mut self) {
        with_own(|heart| {
            heart.beats.fetch_add(1, Ordering::Relaxed);
            heart.waits.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn with_own(change: impl FnOnce(&Heart)) {
    // A thread on its way out has none any more.
    let _ = OWN.try_with(|own| {
        if let Some(heart) = own.borrow().as_ref() {
            change(heart);
        }
    });
}

/// Listens to all hearts.
#[derive(Debug, Default)]
pub struct Listener {
    heard: HashMap<i32, (u64, Instant)>,
}

impl Listener {
    /// Threads that have not come round for so long, although they wait for nothing outside.
    pub fn late(&mut self, longest: Duration) -> Vec<String> {
        let now = Instant::now();
        let hearts = hearts();
        self.heard.retain(|thread, _| hearts.iter().any(|heart| heart.thread == *thread));
        let mut late = Vec::new();
        for heart in hearts.iter() {
            let beats = heart.beats.load(Ordering::Relaxed);
            let heard = self.heard.entry(heart.thread).or_insert((beats, now));
            let alive = heard.0 != beats || heart.waits.load(Ordering::Relaxed) > 0;
            if alive || (now.duration_since(heard.1) >= longest && in_disk_wait(heart.thread)) {
                *heard = (beats, now);
            } else if now.duration_since(heard.1) >= longest {
                late.push(heart.name.clone());
            }
        }
        late
    }
}

/// Whether the kernel has the thread wait for a disk or a file server.
fn in_disk_wait(thread: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    // The name before it may hold anything.
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('D'))
}

#[cfg(test)]
mod tests {
    use super::{Listener, beat, enrol, waiting};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    /// Others may be enrolled by tests beside this one.
    fn late(listener: &mut Listener, name: &str) -> bool {
        listener.late(Duration::ZERO).iter().any(|late| late == name)
    }

    #[test]
    fn who_neither_beats_nor_waits_outside_is_late() {
        let (step, steps) = channel::<&str>();
        let (done, dones) = channel();
        let thread = std::thread::spawn(move || {
            let enrolled = enrol("a thread of this test");
            let mut outside = None;
            for step in steps {
                match step {
                    "beat" => beat(),
                    "wait" => outside = Some(waiting()),
                    _ => outside = None,
                }
                done.send(()).expect("the test listens");
            }
            drop((outside, enrolled));
        });
        let go = |word| {
            step.send(word).expect("the thread listens");
            dones.recv().expect("it answers");
        };
        let (mut listener, name) = (Listener::default(), "a thread of this test");
        go("beat");
        late(&mut listener, name);
        assert!(late(&mut listener, name), "nothing came since");
        go("beat");
        assert!(!late(&mut listener, name));
        assert!(late(&mut listener, name));
        go("wait");
        assert!(!late(&mut listener, name) && !late(&mut listener, name), "as long as it takes");
        go("go on");
        assert!(!late(&mut listener, name));
        assert!(late(&mut listener, name));
        drop(step);
        thread.join().expect("it does not panic");
        assert!(!late(&mut listener, name), "it has ended");
    }

    #[test]
    fn who_panics_never_comes_round() {
        let name = "a thread that panics";
        let thread = std::thread::spawn(move || {
            let _enrolled = enrol(name);
            panic!("as it is meant to");
        });
        assert!(thread.join().is_err());
        let mut listener = Listener::default();
        late(&mut listener, name);
        assert!(late(&mut listener, name));
        super::hearts().retain(|heart| heart.name != name);
    }
}
