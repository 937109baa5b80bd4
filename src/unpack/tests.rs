//! Envelopes built in memory, whole, cut, damaged, hostile and far too large.

use super::{Broken, Found, Limits, UnpackError, is_archive, unpack};
use crate::record::outcome::{Actor, Reason};
use crate::record::port::{Scratch, ScratchFile};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

struct Memory;

impl Scratch for Memory {
    fn file(&self) -> io::Result<Box<dyn ScratchFile>> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }
}

/// A document or rejection as the visitor met it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Whole(String, Vec<u8>),
    /// The good bytes, and why no more came.
    Cut(String, Vec<u8>, Reason),
    Rejected(String, Reason),
}

fn whole(path: &str, bytes: &[u8]) -> Seen {
    Seen::Whole(path.to_owned(), bytes.to_vec())
}

fn rejected(path: &str, reason: Reason) -> Seen {
    Seen::Rejected(path.to_owned(), reason)
}

fn look(body: &[u8], name: &str, limits: Limits) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut visit = |found: Found<'_>| -> Result<(), String> {
        seen.push(match found {
            Found::Document { path, reader, .. } => {
                let mut bytes = Vec::new();
                match reader.read_to_end(&mut bytes) {
                    Ok(_) => Seen::Whole(path.to_owned(), bytes),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
                        let broken = Broken::of(&error).ok_or("every fault of an archive is typed")?;
                        Seen::Cut(path.to_owned(), bytes, broken.reason)
                    }
                }
            }
            Found::Rejected(path, rejection) => {
                assert!(rejection.position.row == 0 && !rejection.message.is_empty());
                Seen::Rejected(path.to_owned(), rejection.reason)
            }
        });
        Ok(())
    };
    unpack(&mut Cursor::new(body), name, &limits, &Memory, &mut visit).expect("memory does not fail");
    seen
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

fn zip_with(method: CompressionMethod, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = SimpleFileOptions::default().compression_method(method);
        if name.ends_with('/') {
            writer.add_directory(*name, options).expect("memory does not fail");
        } else {
            writer.start_file(*name, options).expect("memory does not fail");
            writer.write_all(bytes).expect("memory does not fail");
        }
    }
    writer.finish().expect("memory does not fail").into_inner()
}

fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    zip_with(CompressionMethod::Deflated, entries)
}

/// As a sender writes that cannot seek: lengths and checksum behind the data.
fn zip_streamed(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new_stream(Vec::new());
    for (name, bytes) in entries {
        writer.start_file(*name, SimpleFileOptions::default()).expect("memory does not fail");
        writer.write_all(bytes).expect("memory does not fail");
    }
    writer.finish().expect("memory does not fail").into_inner()
}

/// Text that packs neither to nothing nor badly.
fn rows(n: u32) -> Vec<u8> {
    (0..n).flat_map(|i| format!("{i},call {},{}\n", i % 7, i * 7919 % 1013).into_bytes()).collect()
}

#[test]
fn a_plain_body_is_its_own_document() {
    assert_eq!(look(b"a,b\n", "x.zip", Limits::default()), [whole("", b"a,b\n")]);
    assert_eq!(look(b"", "empty.csv", Limits::default()), [whole("", b"")]);
    assert!(
        is_archive(b"PK\x05\x06") && is_archive(b"\x1f\x8b\x08") && !is_archive(b"PK") && !is_archive(b"id,")
    );
}

#[test]
fn documents_come_in_archive_order_under_their_paths() {
    let inner = zipped(&[("c.csv", b"c"), ("empty.csv", b"")]);
    let packed = gz(b"d");
    let body = zipped(&[
        ("b/", b""),
        ("b/a.csv", b"a"),
        ("in.zip", &inner),
        ("d.csv.gz", &packed),
        ("__MACOSX/._a", b"m"),
    ]);
    assert_eq!(
        look(&body, "day.zip", Limits::default()),
        [
            whole("b/a.csv", b"a"),
            whole("in.zip!c.csv", b"c"),
            whole("in.zip!empty.csv", b""),
            whole("d.csv.gz!d.csv", b"d"),
            whole("__MACOSX/._a", b"m"),
        ]
    );
    assert_eq!(look(&gz(&inner), "x.zip.gz", Limits::default())[0], whole("x.zip!c.csv", b"c"));
    assert_eq!(look(&zipped(&[]), "none.zip", Limits::default()), []);
}

#[test]
fn sizes_are_hinted() {
    let mut hints = Vec::new();
    for body in [b"four".to_vec(), zipped(&[("a", b"four")]), zip_streamed(&[("a", b"four")]), gz(b"four")] {
        let mut visit = |found: Found<'_>| -> Result<(), String> {
            if let Found::Document { size_hint, .. } = found {
                hints.push(size_hint);
            }
            Ok(())
        };
        unpack(&mut Cursor::new(body), "x", &Limits::default(), &Memory, &mut visit)
            .expect("memory does not fail");
    }
    assert_eq!(hints, [Some(4), Some(4), Some(4), None]);
}

#[test]
fn gzip_members_are_one_document_and_padding_is_none() {
    let mut body = gz(b"one,");
    body.extend(gz(b""));
    body.extend(gz(b"two"));
    assert_eq!(look(&body, "x.csv.gz", Limits::default()), [whole("x.csv", b"one,two")]);
    body.extend([0; 700]);
    assert_eq!(look(&body, "x.csv.gz", Limits::default()), [whole("x.csv", b"one,two")]);
    body.extend(b"more");
    let cut = Seen::Cut("x.csv".to_owned(), b"one,two".to_vec(), Reason::ArchiveBroken);
    assert_eq!(look(&body, "x.csv.gz", Limits::default()), [cut]);
    assert_eq!(look(b"\x1f\x8bnonsense", "x.gz", Limits::default()), [rejected("x", Reason::ArchiveBroken)]);
}

#[test]
fn entries_of_one_name_are_all_there() {
    let mut body = zipped(&[("a.csv", b"first"), ("b.csv", b"second")]);
    for place in 0..body.len() - 5 {
        if body[place..].starts_with(b"b.csv") {
            body[place] = b'a';
        }
    }
    assert_eq!(
        look(&body, "x.zip", Limits::default()),
        [whole("a.csv", b"first"), whole("a.csv", b"second")]
    );
}

#[test]
fn office_documents_are_one_document() {
    for mark in ["[Content_Types].xml", "META-INF/MANIFEST.MF"] {
        let body = zipped(&[("xl/a.xml", b"<a/>"), (mark, b"x")]);
        assert_eq!(look(&body, "x.xlsx", Limits::default()), [whole("", &body)]);
        let outer = zipped(&[("x.xlsx", &body), ("a.csv", b"a")]);
        assert_eq!(look(&outer, "x.zip", Limits::default()), [whole("x.xlsx", &body), whole("a.csv", b"a")]);
    }
}

/// Sets bit 0 of the flags of the entry of this name, in its header, in the list, or in both.
fn encrypt(body: &mut [u8], name: &[u8], header: bool, list: bool) {
    for place in 0..body.len() {
        if header && body[place..].starts_with(b"PK\x03\x04") && body[place + 30..].starts_with(name) {
            body[place + 6] |= 1;
        }
        if list && body[place..].starts_with(b"PK\x01\x02") && body[place + 46..].starts_with(name) {
            body[place + 8] |= 1;
        }
    }
}

#[test]
fn encrypted_entries_are_rejected_and_their_siblings_go_on() {
    for (header, list) in [(true, true), (true, false), (false, true)] {
        let mut body = zipped(&[("a.csv", b"a"), ("secret.csv", b"s"), ("z.csv", b"z")]);
        encrypt(&mut body, b"secret", header, list);
        let expected =
            [whole("a.csv", b"a"), rejected("secret.csv", Reason::ArchiveEncrypted), whole("z.csv", b"z")];
        assert_eq!(look(&body, "x.zip", Limits::default()), expected);
    }
}

#[test]
fn a_method_that_is_not_supported_is_named() {
    let mut body = zipped(&[("a.csv", b"a"), ("b.csv", b"b")]);
    for place in 0..body.len() {
        if body[place..].starts_with(b"PK\x03\x04") && body[place + 30..].starts_with(b"a.csv") {
            body[place + 8] = 12;
        }
        if body[place..].starts_with(b"PK\x01\x02") && body[place + 46..].starts_with(b"a.csv") {
            body[place + 10] = 12;
        }
    }
    let mut messages = Vec::new();
    let mut visit = |found: Found<'_>| -> Result<(), String> {
        if let Found::Rejected(path, rejection) = found {
            messages.push((path.to_owned(), rejection.reason, rejection.message));
        }
        Ok(())
    };
    unpack(&mut Cursor::new(body), "x.zip", &Limits::default(), &Memory, &mut visit)
        .expect("memory does not fail");
    assert_eq!((messages.len(), messages[0].0.as_str(), messages[0].1), (1, "a.csv", Reason::ArchiveBroken));
    assert!(messages[0].2.contains("method 12"), "{}", messages[0].2);
}

#[test]
fn damage_comes_after_the_good_bytes() {
    let text = rows(20_000);
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let mut body = zip_with(method, &[("a.csv", &text), ("b.csv", b"b")]);
        let middle = body.len() / 2;
        body[middle] ^= 0xff;
        let seen = look(&body, "x.zip", Limits::default());
        let Seen::Cut(path, good, Reason::ArchiveBroken) = &seen[0] else { panic!("{method}: not noticed") };
        assert!(path == "a.csv" && good.len() > text.len() / 3 && good[..1000] == text[..1000], "{method}");
        assert_eq!(seen[1..], [whole("b.csv", b"b")]);
    }
}

/// What is left of `documents` when a body is cut must be: each whole, or a beginning of it and a word why.
fn check_cut(seen: &[Seen], documents: &[(&str, &[u8])], complete: usize) {
    let mut expected = documents.iter();
    let mut told = false;
    for (number, item) in seen.iter().enumerate() {
        match item {
            Seen::Whole(path, bytes) => {
                assert_eq!(
                    expected.next().map(|(path, bytes)| (*path, *bytes)),
                    Some((path.as_str(), bytes.as_slice()))
                );
            }
            Seen::Cut(path, good, reason) => {
                let (name, bytes) = expected.next().expect("no more documents than were packed");
                assert!(path == name && bytes.starts_with(good) && *reason == Reason::ArchiveBroken);
                told = true;
            }
            Seen::Rejected(_, reason) => {
                assert_eq!(*reason, Reason::ArchiveBroken);
                told = true;
            }
        }
        assert!(number >= complete || matches!(item, Seen::Whole(..)), "a document before the cut was lost");
    }
    assert!(told, "the cut must be told");
}

#[test]
fn a_zip_cut_anywhere_keeps_the_documents_before_the_cut() {
    let (a, b, c) = (rows(30), rows(10), rows(20));
    let documents: [(&str, &[u8]); 3] = [("a.csv", &a), ("b.csv", &b), ("c.csv", &c)];
    for (kind, body) in [
        ("deflated", zipped(&documents)),
        ("stored", zip_with(CompressionMethod::Stored, &documents)),
        ("streamed", zip_streamed(&documents)),
    ] {
        let starts: Vec<usize> = (0..body.len())
            .filter(|place| {
                body[*place..].starts_with(b"PK\x03\x04") || body[*place..].starts_with(b"PK\x01\x02")
            })
            .collect();
        for cut in 4..body.len() {
            let complete = starts.iter().skip(1).take(3).filter(|start| **start <= cut).count();
            let seen = look(&body[..cut], "x.zip", Limits::default());
            check_cut(&seen, &documents, complete);
            assert!(seen.len() >= complete, "{kind} cut at {cut}");
        }
        assert_eq!(look(&body, "x.zip", Limits::default()).len(), 3, "{kind}");
    }
}

#[test]
fn a_gzip_cut_anywhere_gives_a_beginning() {
    let text = rows(200);
    let body = gz(&text);
    for cut in 2..body.len() {
        check_cut(&look(&body[..cut], "a.csv.gz", Limits::default()), &[("a.csv", &text)], 0);
    }
}

#[test]
fn a_zip_in_a_cut_zip_is_read_as_far_as_it_goes() {
    let text = rows(3000);
    let inner = zip_with(CompressionMethod::Stored, &[("a.csv", b"a"), ("b.csv", &text)]);
    let outer = zip_with(CompressionMethod::Stored, &[("in.zip", &inner)]);
    let seen = look(&outer[..outer.len() / 2], "x.zip", Limits::default());
    assert_eq!(seen[0], whole("in.zip!a.csv", b"a"));
    assert!(
        matches!(&seen[1], Seen::Cut(path, good, Reason::ArchiveBroken) if path == "in.zip!b.csv" && text.starts_with(good))
    );
    // The inner archive, the entry that it was, and the outer archive each lack something.
    assert_eq!(seen[2..], ["in.zip", "in.zip", ""].map(|path| rejected(path, Reason::ArchiveBroken)));
}

#[test]
fn nesting_ends_at_the_limit() {
    let mut body = zipped(&[("deep.csv", b"deep")]);
    for _ in 0..3 {
        body = zipped(&[("in.zip", &body), ("beside.csv", b"b")]);
    }
    assert_eq!(look(&body, "x.zip", Limits::default())[0], whole("in.zip!in.zip!in.zip!deep.csv", b"deep"));
    body = gz(&body);
    let seen = look(&body, "x.zip.gz", Limits::default());
    assert_eq!(seen[0], rejected("x.zip!in.zip!in.zip!in.zip", Reason::ArchiveTooDeep));
    assert_eq!(seen.len(), 4, "what lies beside it goes on");
}

#[test]
fn a_bomb_ends_by_ratio_and_its_sibling_lives() {
    let zeros = vec![b'0'; 40 << 20];
    let noise: Vec<u8> =
        (0..40_000_u32).flat_map(|i| blake3::hash(&i.to_le_bytes()).as_bytes()[..8].to_vec()).collect();
    let body = zipped(&[("bomb.csv", &zeros), ("noise.csv", &noise), ("a.csv", b"a")]);
    let limits = Limits { ratio: 500, ..Limits::default() };
    let seen = look(&body, "x.zip", limits);
    let Seen::Cut(path, good, Reason::ArchiveTooLarge) = &seen[0] else { panic!("the bomb was not stopped") };
    assert!(path == "bomb.csv" && good.len() <= (40 << 20) && good.len() >= (15 << 20));
    assert_eq!(seen[1..], [whole("noise.csv", &noise), whole("a.csv", b"a")]);
    assert_eq!(look(&body, "x.zip", Limits { ratio: 5000, ..limits }).len(), 3, "believable when allowed");
    // Packed twice the layers multiply; each alone looks harmless.
    let twice = gz(&gz(&zeros));
    let Some(Seen::Cut(_, _, Reason::ArchiveTooLarge)) = look(&twice, "x.gz.gz", Limits::default()).pop()
    else {
        panic!("the nested bomb was not stopped")
    };
}

#[test]
fn all_bytes_together_have_a_limit() {
    let limits = Limits { bytes: 10, ..Limits::default() };
    let body = zip_with(
        CompressionMethod::Stored,
        &[("a", b"12345678"), ("b", b"12345678"), ("c", b"c"), ("d", b"d")],
    );
    let cut = |seen: &Seen| matches!(seen, Seen::Cut(path, _, Reason::ArchiveTooLarge) if path == "b");
    let seen = look(&body, "x.zip", limits);
    assert!(
        seen[0] == whole("a", b"12345678")
            && (cut(&seen[1]) || seen[1] == rejected("b", Reason::ArchiveTooLarge))
    );
    assert_eq!(seen[2..], [rejected("", Reason::ArchiveTooLarge)], "the rest is told once");
    let nested = zipped(&[("in.zip", &body), ("z", b"z")]);
    let seen = look(&nested, "x.zip", limits);
    assert_eq!(seen, [rejected("in.zip", Reason::ArchiveTooLarge), rejected("", Reason::ArchiveTooLarge)]);
}

#[test]
fn all_entries_together_have_a_limit() {
    let limits = Limits { entries: 3, ..Limits::default() };
    let inner = zipped(&[("1", b"1"), ("2", b"2"), ("3", b"3"), ("4", b"4")]);
    let expected =
        [whole("1", b"1"), whole("2", b"2"), whole("3", b"3"), rejected("", Reason::ArchiveTooManyEntries)];
    assert_eq!(look(&inner, "x.zip", limits), expected);
    let outer = zipped(&[("in.zip", &inner), ("beside", b"b")]);
    assert_eq!(
        look(&outer, "x.zip", limits),
        [
            whole("in.zip!1", b"1"),
            whole("in.zip!2", b"2"),
            rejected("in.zip", Reason::ArchiveTooManyEntries),
            rejected("", Reason::ArchiveTooManyEntries),
        ]
    );
}

/// A zip whose list names its only entry this many times.
fn listed_often(entry: &[u8], times: u16) -> Vec<u8> {
    let mut body = zipped(&[("o.csv", entry)]);
    let list = (0..body.len()).rfind(|at| body[*at..].starts_with(b"PK\x01\x02")).expect("one entry");
    let end = (0..body.len()).rfind(|at| body[*at..].starts_with(b"PK\x05\x06")).expect("one end");
    let (one, mut tail) = (body[list..end].to_vec(), body[end..].to_vec());
    body.truncate(list);
    body.extend(one.repeat(usize::from(times)));
    let length = u32::try_from(one.len()).expect("short") * u32::from(times);
    tail[8..10].copy_from_slice(&times.to_le_bytes());
    tail[10..12].copy_from_slice(&times.to_le_bytes());
    tail[12..16].copy_from_slice(&length.to_le_bytes());
    body.extend(tail);
    body
}

#[test]
fn overlapping_entries_end_by_the_whole() {
    let seen = look(&listed_often(&vec![b'0'; 4 << 20], 300), "x.zip", Limits::default());
    assert!((4..40).contains(&seen.len()), "{} times four megabytes from a few kilobytes", seen.len());
    assert_eq!(seen.last(), Some(&rejected("", Reason::ArchiveTooLarge)));
    assert_eq!(look(&listed_often(b"o", 3), "x.zip", Limits::default()).len(), 3);
    let hidden = [whole("o.csv", b"o"), rejected("", Reason::ArchiveBroken)];
    assert_eq!(
        look(&listed_often(b"o", 0), "x.zip", Limits::default()),
        hidden,
        "a list that hides its entries"
    );
}

#[test]
fn hostile_names_are_only_shown() {
    let long = "n".repeat(5000);
    let names =
        ["../../etc/passwd", "/abs.csv", "a\nb\x1b[2J.csv", "x\u{202e}vsc", "c:\\x.csv", long.as_str()];
    let body = zipped(&names.map(|name| (name, b"x".as_slice())));
    let seen = look(&body, "x.zip", Limits::default());
    assert_eq!(seen.len(), names.len());
    for item in seen {
        let Seen::Whole(path, bytes) = item else { panic!("a name is no reason") };
        assert!(
            bytes == b"x" && path.chars().count() <= 301 && !path.contains(['\n', '\x1b', '\u{202e}']),
            "{path}"
        );
    }
}

#[test]
fn a_visitor_may_stop_reading_or_stop_altogether() {
    let text = rows(5000);
    for body in [
        zipped(&[("a", &text), ("b", &text), ("c", b"c")]),
        zip_streamed(&[("a", &text), ("b", &text), ("c", b"c")]),
    ] {
        let mut heads = Vec::new();
        let mut visit = |found: Found<'_>| -> Result<(), String> {
            let Found::Document { path, reader, .. } = found else { return Ok(()) };
            let mut head = [0; 1];
            reader.read_exact(&mut head).map_err(|error| error.to_string())?;
            heads.push((path.to_owned(), head[0]));
            if path == "b" { Err("enough".to_owned()) } else { Ok(()) }
        };
        let cut = &body[..body.len() - 30];
        for body in [body.as_slice(), cut] {
            let ended = unpack(&mut Cursor::new(body), "x", &Limits::default(), &Memory, &mut visit);
            assert!(matches!(ended, Err(UnpackError::Visit(why)) if why == "enough"));
        }
        assert_eq!(heads[..2], [("a".to_owned(), b'0'), ("b".to_owned(), b'0')]);
        assert_eq!(heads[2..], heads[..2]);
    }
}

/// A disk that fails when this byte is read.
struct Failing {
    bytes: Cursor<Vec<u8>>,
    at: u64,
}

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.at.saturating_sub(self.bytes.position());
        if left == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "sector unreadable"));
        }
        let most = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.bytes.read(&mut buf[..most])
    }
}

impl Seek for Failing {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

#[test]
fn a_failing_disk_is_never_taken_for_a_damaged_archive() {
    let text = rows(50_000);
    let inner = zip_with(CompressionMethod::Stored, &[("c", &text)]);
    for body in
        [text.clone(), gz(&text), zipped(&[("a", &text), ("b", &text)]), zipped(&[("in.zip", &inner)])]
    {
        let step = body.len() / 25;
        for at in (0..body.len()).step_by(step) {
            let mut disk = Failing { bytes: Cursor::new(body.clone()), at: at as u64 };
            let mut faults = Vec::new();
            let mut visit = |found: Found<'_>| -> Result<(), String> {
                match found {
                    // Takes errors for ends, as a careless reader would.
                    Found::Document { reader, .. } => {
                        if let Err(error) = io::copy(reader, &mut io::sink()) {
                            faults.push(error.kind());
                        }
                    }
                    Found::Rejected(path, rejection) => return Err(format!("{path}: {}", rejection.message)),
                }
                Ok(())
            };
            let ended = unpack(&mut disk, "x.gz", &Limits::default(), &Memory, &mut visit);
            let Err(error) = ended else { panic!("the failure at {at} went unnoticed") };
            assert!(matches!(&error, UnpackError::Io(_)), "{error}");
            assert_eq!(error.actor(|_| Actor::Broken), Actor::Transient);
            assert!(!faults.contains(&io::ErrorKind::InvalidData));
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_damage_never_panics_and_never_grows(
        place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(), streamed in any::<bool>(),
    ) {
        let (text, inner) = (rows(50), zipped(&[("c.csv", b"c")]));
        let entries: [(&str, &[u8]); 3] = [("a.csv", &text), ("in.zip", &inner), ("z.csv", b"z")];
        let mut body = if streamed { zip_streamed(&entries) } else { zipped(&entries) };
        let damaged = place.index(body.len());
        body[damaged] = byte;
        body.truncate(cut.index(body.len()) + 1);
        prop_assert!(look(&body, "x.zip", Limits::default()).len() <= 20);
    }

    #[test]
    fn arbitrary_bytes_behind_a_magic_never_panic(
        magic in prop_oneof![Just(b"PK\x03\x04".to_vec()), Just(b"PK\x05\x06".to_vec()), Just(b"\x1f\x8b\x08".to_vec())],
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let body = [magic, rest].concat();
        prop_assert!(look(&body, "x", Limits::default()).len() <= 20);
    }
}
