//! Recognition, and each format's reader up to the normalised leg.

use crate::Target;
use crate::syntax::Pieces;
use cdrd::config::{Surroundings, load};
use cdrd::formats::{Format, Formats, Head, Row, Verdict};
use cdrd::normalise::Engine;
use cdrd::record::document::Dialect;
use cdrd::record::origin::Origin;
use cdrd::record::port::Derive;
use std::collections::HashMap;
use std::io::Read;
use std::sync::OnceLock;

/// Formats look at so much of a document.
const HEAD: usize = 64 * 1024;

fn head(bytes: &[u8]) -> Head<'_> {
    Head { bytes: &bytes[..bytes.len().min(HEAD)], complete: bytes.len() < HEAD, name: "fuzz" }
}

/// Those of the program, and those that the stanzas beside the fixtures describe.
pub fn formats() -> &'static Formats {
    static FORMATS: OnceLock<Formats> = OnceLock::new();
    FORMATS.get_or_init(|| {
        let described = ["carrier", "calls"].map(|name| {
            let file = format!("fixtures/formats/mapping/{name}.toml");
            let config = load(file.as_ref(), &Surroundings::default()).expect("run it where fixtures/ is");
            config.formats.into_iter().map(|format| format.mapping)
        });
        Formats::with(described.into_iter().flatten())
    })
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let named = |name: &str| jiff::tz::TimeZone::get(name).ok();
        let zone = named("Europe/Berlin").expect("the system knows it");
        let origin = Origin {
            name: "pbx".to_owned(),
            key: "pbx".to_owned(),
            tenant: None,
            time_zone: zone,
            country: Some("DE".to_owned()),
        };
        Engine::new(vec![origin], HashMap::new(), named, formats().cards().collect())
    })
}

fn rows(format: &dyn Format, dialect: &Dialect, input: Box<dyn Read + '_>, bytes: &[u8]) -> Vec<Row> {
    let mut reader = format.open(dialect, input);
    let mut all = Vec::new();
    let mut last = 0;
    while let Some(row) = reader.next_row().expect("memory does not fail") {
        let at = row.position();
        assert_eq!(at.row, last + 1, "rows are counted without a gap");
        last = at.row;
        let start = usize::try_from(at.offset).expect("inputs are small");
        let verbatim = reader.verbatim();
        assert_eq!(verbatim, &bytes[start..][..verbatim.len()], "row {last} lies elsewhere");
        all.push(row);
    }
    all
}

fn read(format: &dyn Format, dialect: &Dialect, bytes: &[u8]) {
    let whole = rows(format, dialect, Box::new(bytes), bytes);
    // A hash of the input chooses the size, so that no byte of a document is taken for a setting.
    let size = usize::from(blake3::hash(bytes).as_bytes()[0]);
    let in_pieces = rows(format, dialect, Box::new(Pieces::new(bytes, size)), bytes);
    assert_eq!(whole, in_pieces);
    for row in whole {
        if let Row::Record(record) = row {
            // Whatever stands in a field: a leg or a rejection.
            let _ = engine().derive(record, "pbx", "fuzz");
        }
    }
}

/// Who claims it; whoever does must be able to read it.
pub fn recognise(bytes: &[u8]) {
    if let Ok((format, claim)) = formats().recognise(&head(bytes), None).chosen {
        read(format, &claim.dialect, bytes);
    }
}

/// The reader of one format, asked alone.
pub fn of_format(id: &str) -> Option<Target> {
    let format = formats().by_id(id)?;
    Some(Box::new(move |bytes| {
        if let Verdict::Claimed(claim) = format.recognise_pinned(&head(bytes)) {
            read(format, &claim.dialect, bytes);
        }
    }))
}
