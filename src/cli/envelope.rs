//! What lies in an archive, drawn as a tree: which document is where, and what became of it in a word.

use super::screen::{Screen, Tone};
use crate::pipeline::DocumentPreview;

/// A document with the names around it, from the outside in.
struct Leaf<'d> {
    names: Vec<&'d str>,
    number: usize,
    document: &'d DocumentPreview,
}

/// Draws the body and everything in it.
pub fn show(name: &str, documents: &[DocumentPreview], screen: &mut Screen) -> std::io::Result<()> {
    let leaves: Vec<Leaf<'_>> = (1..)
        .zip(documents)
        .map(|(number, document)| Leaf { names: document.path.split('!').collect(), number, document })
        .collect();
    screen.line(&screen.paint(Tone::Heading, name))?;
    branches(&leaves.iter().collect::<Vec<_>>(), 0, "", screen)?;
    screen.line("")
}

/// What lies `depth` archives deep; neighbours in one archive share a branch.
fn branches(leaves: &[&Leaf<'_>], depth: usize, indent: &str, screen: &mut Screen) -> std::io::Result<()> {
    let same = |one: &&Leaf<'_>, other: &&Leaf<'_>| {
        let inside = |leaf: &Leaf<'_>| leaf.names.len() > depth + 1;
        inside(one) && inside(other) && one.names.get(depth) == other.names.get(depth)
    };
    let mut parts = leaves.chunk_by(same).peekable();
    while let Some(part) = parts.next() {
        let (turn, below) = if parts.peek().is_some() { ("├─ ", "│  ") } else { ("└─ ", "   ") };
        let name = part[0].names.get(depth).copied().unwrap_or_default();
        if part[0].names.len() > depth + 1 {
            screen.line(&format!("{indent}{turn}{name}"))?;
            branches(part, depth + 1, &format!("{indent}{below}"), screen)?;
            continue;
        }
        let (tone, fate) = fate(part[0].document);
        let start = format!("{indent}{turn}{name}  ");
        screen.toned((Tone::Plain, &start), (tone, &format!("document {}, {fate}", part[0].number)))?;
    }
    Ok(())
}

/// What became of a document.
fn fate(document: &DocumentPreview) -> (Tone, String) {
    let Some((format, ..)) = document.chosen.as_ref().filter(|_| document.rejection.is_none()) else {
        return match &document.rejection {
            Some(rejection) => (Tone::Bad, format!("rejected: {}", rejection.reason.code())),
            None => (Tone::Faint, "empty".to_owned()),
        };
    };
    // Nothing is stored yet, so that only rows and their faults are counted.
    match (document.counts.rows_read, document.counts.rejected) {
        (rows, 0) => (Tone::Plain, format!("{format}, rows {rows}")),
        (rows, rejected) => (Tone::Warning, format!("{format}, rows {rows}, of them rejected {rejected}")),
    }
}
