//! What a sender is told of its files: `NAME.ok` or `NAME.err` beside them. Counts, places, fields and reasons; never a
//! word of a row.

use super::account::Account;
use super::path;
use crate::record::outcome::DeliveryOutcome;
use crate::record::port::Feedback;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// The notes of a source.
pub(super) struct Notes<'a>(pub &'a HashMap<String, Arc<Account>>);

impl Feedback for Notes<'_> {
    fn tell(&mut self, outcome: &DeliveryOutcome) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // An account that is gone cannot be told.
        let account = outcome.account.as_ref().and_then(|user| self.0.get(user));
        let (Some(account), Some(path)) = (account, path::resolve(&outcome.name)) else { return Ok(()) };
        let end = if outcome.verdict.is_clean() { "ok" } else { "err" };
        let other = if end == "ok" { "err" } else { "ok" };
        // What was said of an earlier file of this name is no longer true.
        account.take_note(&format!("{path}.{other}"));
        account.leave_note(&format!("{path}.{end}"), &words(outcome))?;
        Ok(())
    }
}

/// The text of a note.
fn words(outcome: &DeliveryOutcome) -> String {
    let verdict = &outcome.verdict;
    let mut text = format!(
        "file {}\ndelivery {}\nstate {}\nrows {}\n",
        outcome.name, outcome.delivery, verdict.state, verdict.counts
    );
    if verdict.rejected_documents > 0 {
        let _ = writeln!(text, "rejected documents {}", verdict.rejected_documents);
    }
    for note in &verdict.rejections {
        let document =
            if note.document.is_empty() { String::new() } else { format!(" of {}", note.document) };
        let field = note.field.as_ref().map_or_else(String::new, |field| format!(" field {field}"));
        let _ = writeln!(
            text,
            "row {}{document} at byte {}:{field} {}: {}",
            note.row, note.offset, note.reason, note.message
        );
    }
    text
}
