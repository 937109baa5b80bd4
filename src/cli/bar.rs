//! How far something long has come, on a terminal.

use crate::pipeline::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A bar on a terminal; elsewhere the pipeline says a line every few seconds.
pub(super) struct Bar {
    drawn: ProgressBar,
    stop: Arc<AtomicBool>,
    redraw: Option<std::thread::JoinHandle<()>>,
}

impl Bar {
    /// Draws it until it is finished.
    pub(super) fn start(progress: Arc<Progress>, bytes: u64) -> Self {
        // indicatif draws on standard error and hides itself where that is no terminal.
        let bar = ProgressBar::new(bytes);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {msg} {elapsed}") {
            bar.set_style(style);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (shown, told) = (bar.clone(), stop.clone());
        let redraw = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                shown.set_position(progress.bytes());
                shown.set_message(format!("{} rows", progress.rows()));
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { drawn: bar, stop, redraw: Some(redraw) }
    }

    /// Takes it away.
    pub(super) fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(redraw) = self.redraw.take() {
            let _ = redraw.join();
        }
        self.drawn.finish_and_clear();
    }
}
