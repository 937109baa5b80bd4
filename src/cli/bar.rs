//! How far something long has come, on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on a terminal; elsewhere the pipeline says a line every few seconds.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Draws it until it is finished.
    pub(super) fn start(bytes: u64) -> Self {
        // indicatif draws on standard error and hides itself where that is no terminal.
        let bar = ProgressBar::new(bytes);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {msg} {elapsed}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// How far it has come. A file that is read a second time does not pass its end.
    pub(super) fn set(&self, bytes: u64, rows: u64) {
        self.0.set_position(self.0.length().map_or(bytes, |length| bytes.min(length)));
        self.0.set_message(format!("{rows} rows"));
    }

    /// So much is to be read.
    pub(super) fn begin(&self, bytes: u64) {
        self.0.set_length(bytes);
    }

    /// Says something above the bar.
    pub(super) fn beside(&self, say: impl FnOnce()) {
        self.0.suspend(say);
    }

    /// Takes it away.
    pub(super) fn finish(self) {
        self.0.finish_and_clear();
    }
}
