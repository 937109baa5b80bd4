//! Where log lines go: to the journal with their fields when standard error is the journal, else to standard error.

use super::screen::colours_are_welcome;
use crate::telemetry;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

/// Names the level or a filter: `CDRD_LOG=debug`, `CDRD_LOG=info,cdrd::intake=trace`.
const LEVEL: &str = "CDRD_LOG";

/// Sets up logging for the rest of the process. A second call changes nothing.
pub fn start() {
    // sqlx reports every statement at debug, and slow ones at warn: our own lines say what matters.
    set_up("info,sqlx=error", std::io::stderr);
}

/// For a command that draws a bar on a terminal and then tells how each file ended: only what it does not tell is said.
pub fn start_beside_a_bar() {
    if !std::io::stderr().is_terminal() {
        return start();
    }
    set_up("error,sqlx=off", || {
        let mut terminal = std::io::stderr();
        // Where the bar stands; it is drawn again below.
        let _ = terminal.write_all(b"\r\x1b[2K");
        terminal
    });
}

fn set_up<W>(usual: &str, writer: W)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let fallback = || EnvFilter::new(usual);
    let filter = std::env::var(LEVEL)
        .ok()
        .filter(|wish| !wish.is_empty())
        .and_then(|wish| EnvFilter::try_new(wish).ok())
        .unwrap_or_else(fallback);
    let registry = tracing_subscriber::registry().with(filter);
    let journal = is_journal().then(|| tracing_journald::layer().ok()).flatten();
    let colour = std::io::stderr().is_terminal() && colours_are_welcome();
    let started = match journal {
        // The journal's own names: without the prefix, `message_id` becomes MESSAGE_ID.
        Some(layer) => {
            registry.with(layer.with_field_prefix(None).with_syslog_identifier("cdrd".to_owned())).try_init()
        }
        None => registry.with(lines(writer, colour)).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was already set up");
    }
}

/// Plain lines: the time on a terminal too, because a person compares it with the PBX.
fn lines<S, W>(writer: W, colour: bool) -> impl tracing_subscriber::Layer<S>
where
    W: for<'w> MakeWriter<'w> + 'static,
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(colour)
        .with_target(false)
        // What the journal filters by is in the message already, or says nothing to a reader.
        .fmt_fields(tracing_subscriber::fmt::format::debug_fn(|writer, field, value| match field.name() {
            "message" => write!(writer, "{value:?}"),
            name if name == telemetry::MESSAGE_ID || name.starts_with(telemetry::PREFIX) => Ok(()),
            name => write!(writer, " {name}={value:?}"),
        }))
}

/// Whether standard error leads to the journal: systemd names the device and inode of the stream that it set up, so
/// that a redirected child does not mistake itself for a service.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|found| stream == format!("{}:{}", found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};
    use std::sync::Arc;
    use tracing_subscriber::prelude::*;

    #[test]
    fn a_line_has_its_fields_escaped_and_not_those_of_the_journal() -> std::io::Result<()> {
        let file = Arc::new(tempfile::tempfile()?);
        let subscriber = tracing_subscriber::registry().with(super::lines(Arc::clone(&file), false));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(
                cdrd_source = "inbox",
                message_id = crate::telemetry::STARTED,
                file = "a\nb",
                rows = 5,
                "read"
            );
        });
        let mut line = String::new();
        (&*file).rewind()?;
        (&*file).read_to_string(&mut line)?;
        assert!(line.ends_with(" INFO read file=\"a\\nb\" rows=5\n"), "{line}");
        Ok(())
    }
}
