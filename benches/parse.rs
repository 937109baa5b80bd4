//! How fast a file is read, recognised rows split and normalised on one thread, beside the bare splitting of the crate
//! `csv`: `cargo bench --bench parse -- FILE`, with a file that `benches/generate` made. Nothing is stored.

#![expect(clippy::print_stdout, reason = "a bench says what it measured")]

use cdrd::formats::{Formats, Head, Row};
use cdrd::normalise::Engine;
use cdrd::record::origin::Origin;
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::io::Cursor;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo test --benches` and `cargo bench` without a file have nothing to measure.
    let Some(path) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else {
        return Ok(());
    };
    let bytes = std::fs::read(&path)?;
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let (rows, bare) = split(&bytes)?;
        let (legs, whole) = normalise(&bytes)?;
        assert_eq!(rows, legs, "both read every row");
        ratios.push(bare.as_secs_f64() / whole.as_secs_f64());
        println!("{rows} rows: csv {bare:.2?}, parse and normalise {whole:.2?}");
    }
    ratios.sort_by(f64::total_cmp);
    println!("parse and normalise: {:.0} % of the bare rate (aim 50 %)", ratios[ROUNDS / 2] * 100.0);
    Ok(())
}

/// Splits with the crate `csv` into byte records.
fn split(bytes: &[u8]) -> Result<(usize, Duration), csv::Error> {
    let began = Instant::now();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut record = csv::ByteRecord::new();
    let mut rows = 0;
    while reader.read_byte_record(&mut record)? {
        rows += 1;
    }
    Ok((rows, began.elapsed()))
}

/// Reads as the pipeline does, up to the leg.
fn normalise(bytes: &[u8]) -> Result<(usize, Duration), Box<dyn std::error::Error>> {
    let origin = Origin {
        name: "pbx".to_owned(),
        key: "pbx".to_owned(),
        tenant: None,
        time_zone: TimeZone::UTC,
        country: Some("DE".to_owned()),
    };
    let formats = Formats::built_in();
    let engine = Engine::new(vec![origin], HashMap::new(), |_| None, formats.cards().collect());
    let head = Head { bytes: &bytes[..bytes.len().min(64 * 1024)], complete: false, name: "bench.csv" };
    let (format, claim) = formats.recognise(&head, None).chosen.map_err(|rejection| rejection.message)?;
    let began = Instant::now();
    let mut derivation = engine.derivation("pbx", "inbox");
    let mut rows = format.open(&claim.dialect, Box::new(Cursor::new(bytes)));
    let mut legs = 0;
    while let Some(row) = rows.next_row()? {
        let Row::Record(raw) = row else { continue };
        std::hint::black_box(derivation.derive(raw).map_err(|rejection| rejection.message)?);
        legs += 1;
    }
    Ok((legs, began.elapsed()))
}
