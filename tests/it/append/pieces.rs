//! A file that is read in pieces is read as if it had come whole, wherever the pieces end.

use super::Bench;
use cdrd::record::delivery::{Body, Delivery};
use std::fs;
use std::path::PathBuf;

/// Every fixture that is written in lines. In UTF-16 a line end is no byte.
fn fixtures() -> Vec<PathBuf> {
    let files = crate::site::files_below(&crate::site::repository("fixtures/formats"));
    let is_lines = |path: &PathBuf| {
        path.extension().is_some_and(|ending| ending == "csv") && !path.to_string_lossy().contains("utf16")
    };
    let mut files: Vec<PathBuf> = files.into_iter().filter(is_lines).collect();
    files.sort();
    files
}

/// Everything that was read: rows with their places, rejections, counts.
fn read(bench: &Bench) -> Vec<String> {
    [
        "SELECT format, state, rows_read, stored, duplicate, amended, rejected, skipped, flags FROM document",
        "SELECT hex(version_hash), leg, row_number, byte_offset, byte_length FROM cdr_version ORDER BY 1, 2",
        "SELECT row_number, byte_offset, byte_length, hex(verbatim), field, reason, message FROM rejected ORDER BY 1",
    ]
    .into_iter()
    .flat_map(|sql| bench.sql(sql))
    .collect()
}

/// As it is read when it comes whole.
fn whole(bytes: &[u8], name: &str) -> Vec<String> {
    let bench = Bench::new();
    let works = bench.works.as_ref().expect("started");
    let delivery = Delivery {
        origin: "pbx".to_owned(),
        source: "pbx-file".to_owned(),
        account: None,
        peer: None,
        name: name.to_owned(),
        received_at: jiff::Timestamp::UNIX_EPOCH,
        pinned_format: None,
        time_zone: None,
        reading: [0; 16],
        body: Body::Bytes(bytes.to_vec()),
    };
    let receipts = works.storing.intake.accept(vec![delivery], None).expect("there is room");
    assert!(receipts.iter().all(Result::is_ok));
    bench.store();
    read(&bench)
}

#[test]
fn wherever_the_pieces_end_the_rows_are_those_of_the_whole_file() {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut read_in_pieces = 0;
    for path in fixtures() {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let bytes = fs::read(&path).expect("it is there");
        let expected = whole(&bytes, &name);
        // In the tests of its format; a document nobody claims has no rows.
        if expected.first().is_none_or(|document| document.starts_with("|rejected")) {
            continue;
        }
        let mut bench = Bench::new();
        let (mut from, mut cuts) = (0, Vec::new());
        while from < bytes.len() {
            // xorshift: any spread will do.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            // Of a line or less, or of several.
            let most = if seed & 64 == 0 { 40 } else { bytes.len() / 3 + 1 };
            let length = 1 + usize::try_from(seed >> 8 & 0xffff).unwrap_or(0) % most;
            let to = (from + length).min(bytes.len());
            cuts.push(to);
            super::append(&bench.file("Master.csv"), &bytes[from..to]);
            match seed & 7 {
                // Not looked at in between.
                0 => {}
                // Received, and stored with the next piece.
                1 => bench.look_only(),
                2 => {
                    bench.look();
                    bench.start();
                }
                _ => bench.look(),
            }
            from = to;
        }
        bench.rename("Master.csv", "Master.csv.1");
        bench.settle();
        assert_eq!(read(&bench), expected, "{name}, cut at {cuts:?}");
        assert_eq!(bench.originals(), [bytes], "{name}");
        read_in_pieces += 1;
    }
    assert!(read_in_pieces > 40, "only {read_in_pieces} fixtures were read");
}

#[test]
fn a_long_file_is_read_on_and_not_again() {
    let mut bench = Bench::new();
    // More than the head that recognition looks at, and more than one step of copying.
    let first = super::rows(0..9000);
    assert!(first.len() > 1 << 20);
    bench.append(&first);
    bench.look();
    assert_eq!(bench.deliveries(), ["growing|9000|9000|0|0"]);
    bench.append(&super::rows(9000..9003));
    bench.look();
    assert_eq!(bench.deliveries(), ["growing|9003|9003|0|0"]);
    let last = super::rows(0..9002).len().to_string();
    assert_eq!(bench.sql("SELECT max(byte_offset) FROM cdr"), std::slice::from_ref(&last));
    assert_eq!(bench.sql("SELECT resume_offset FROM document"), [last]);
    assert_eq!(bench.originals(), [super::rows(0..9003).into_bytes()]);
}
