//! Asks every format about a document and lets the most certain one have it.
//!
//! Must never decide a tie or prefer a format by its place in the list: a wrong reader stores wrong calls.

use super::{Claim, Format, Formats, Head, Verdict};
use crate::record::delivery::printable;
use crate::record::outcome::{Reason, Rejection, WHAT_OTHERS_SAY};
use crate::record::raw::Position;

/// What one format thinks of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    /// Id of the format.
    pub format: &'static str,
    /// What it thinks.
    pub verdict: Verdict,
}

/// Who reads a document, and why the others do not.
pub struct Recognition {
    /// Everybody asked, in the order of the list.
    pub opinions: Vec<Opinion>,
    /// The format that has it, or why none has.
    pub chosen: Result<(&'static dyn Format, Claim), Box<Rejection>>,
}

impl Formats {
    /// Who reads this document. With `pinned` only that format is asked; it may still refuse.
    pub fn recognise(&self, head: &Head<'_>, pinned: Option<&str>) -> Recognition {
        let asked: Vec<&'static dyn Format> = match pinned {
            None => self.all().to_vec(),
            Some(id) => match self.by_id(id) {
                Some(format) => vec![format],
                None => {
                    return Recognition {
                        opinions: Vec::new(),
                        chosen: Err(Box::new(self.no_such_format(id))),
                    };
                }
            },
        };
        let ask = |format: &dyn Format| match pinned {
            None => format.recognise(head),
            Some(_) => format.recognise_pinned(head),
        };
        let opinions: Vec<Opinion> =
            asked.iter().map(|format| Opinion { format: format.card().id, verdict: ask(*format) }).collect();
        let chosen = choose(&asked, &opinions, pinned.is_some());
        Recognition { opinions, chosen }
    }

    fn no_such_format(&self, id: &str) -> Rejection {
        let known: Vec<&str> = self.cards().map(|card| card.id).collect();
        let message = format!(
            "the pinned format \"{}\" does not exist; write one of {}",
            printable(id.as_bytes()),
            known.join(", ")
        );
        rejection(Reason::FormatUnknown, message)
    }
}

fn choose(
    asked: &[&'static dyn Format],
    opinions: &[Opinion],
    pinned: bool,
) -> Result<(&'static dyn Format, Claim), Box<Rejection>> {
    let claims: Vec<(&'static dyn Format, &Claim)> = asked
        .iter()
        .zip(opinions)
        .filter_map(|(format, opinion)| match &opinion.verdict {
            Verdict::Claimed(claim) => Some((*format, claim)),
            Verdict::Refused { .. } | Verdict::Undecided { .. } => None,
        })
        .collect();
    let Some(best) = claims.iter().map(|(_, claim)| claim.certainty).max() else {
        return Err(Box::new(nobody(opinions, pinned)));
    };
    let top: Vec<_> = claims.into_iter().filter(|(_, claim)| claim.certainty == best).collect();
    match top.as_slice() {
        [(format, claim)] => Ok((*format, (*claim).clone())),
        tied => {
            let names: Vec<&str> = tied.iter().map(|(format, _)| format.card().id).collect();
            let message = format!(
                "{} claim this document with the same certainty; pin one of them for the source (`format`), or give it to import (`--format`)",
                names.join(" and ")
            );
            Err(Box::new(rejection(Reason::FormatAmbiguous, message)))
        }
    }
}

fn nobody(opinions: &[Opinion], pinned: bool) -> Rejection {
    let undecided = opinions.iter().find_map(|opinion| match &opinion.verdict {
        Verdict::Undecided { reason, message } => Some((opinion.format, *reason, message)),
        Verdict::Claimed(_) | Verdict::Refused { .. } => None,
    });
    if let Some((format, reason, message)) = undecided {
        return rejection(reason, format!("{format}: {message}"));
    }
    // What a person wrote or fixed comes first: it is what they can mend.
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for opinion in opinions {
        if let Verdict::Refused { why } = &opinion.verdict {
            let list = if pinned || !Formats::is_built_in(opinion.format) { &mut own } else { &mut others };
            list.push(format!("{}: {why}", opinion.format));
        }
    }
    let own = if own.is_empty() { String::new() } else { format!(" ({})", own.join("; ")) };
    let others =
        if others.is_empty() { String::new() } else { format!("{WHAT_OTHERS_SAY}{}", others.join("; ")) };
    let advice = if pinned {
        "remove the pinned format to let all formats look at it"
    } else {
        "if it holds calls, pin its format or ask for the format to be added; if not, send it elsewhere"
    };
    rejection(Reason::FormatUnknown, format!("no format claims this document{own}; {advice}{others}"))
}

/// A rejection of the document as a whole; its bytes are kept as the delivery's original.
fn rejection(reason: Reason, message: String) -> Rejection {
    let (position, verbatim) = (Position::default(), Vec::new());
    Rejection { position, field: None, reason, message, verbatim }
}
