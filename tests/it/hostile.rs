//! Names and contents that try to break out, to hang or to fill memory. Each gets a clear end; nothing else suffers.

use crate::site::{Site, files_below, gzip_of, zip_of};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

const GOOD: &str = "\"\",\"0301234567\",\"201\",\"from-trunk\",\"\"\"A\"\" <0301234567>\",\"PJSIP/trunk-1\",\
    \"PJSIP/201-2\",\"Dial\",\"PJSIP/201,20\",\"2025-03-10 10:00:00\",\"2025-03-10 10:00:05\",\"2025-03-10 10:01:00\",\
    60,55,\"ANSWERED\",\"DOCUMENTATION\",\"1741600800.1\",\"\"\n";

fn good(call: u32) -> String {
    GOOD.replace("1741600800.1", &format!("1741600800.{call}"))
}

#[test]
fn hostile_names_stay_names() {
    let site = Site::new("UTC", "DE");
    let names: [&[u8]; 5] = [b"a\nb.csv", b"\xff\xfe.csv", b"\x1b[2J.csv", b"-rf.csv", b"$(touch x);'\".csv"];
    for (call, name) in names.iter().enumerate() {
        let path = site.path("inbox").join(OsStr::from_bytes(name));
        fs::write(path, good(u32::try_from(call).expect("few"))).expect("the inbox is writable");
    }
    let long = "n".repeat(251) + ".csv";
    fs::write(site.path("inbox").join(&long), good(90)).expect("the inbox is writable");
    let deep = "x".repeat(4096);
    let inside = [good(91), good(92), good(93)];
    site.drop_file(
        "names.zip",
        &zip_of(&[
            ("../../etc/x", inside[0].as_bytes()),
            ("/abs\nolute", inside[1].as_bytes()),
            (deep.as_str(), inside[2].as_bytes()),
        ]),
    );
    site.run_to_end();
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["9"], "{}", site.log());
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM delivery WHERE name LIKE 'a\\x0ab.csv'"), ["1"]);
    assert!(!site.log().contains('\u{1b}'), "the log holds an escape sequence");
    // Nothing was written outside the site's own folders.
    let mut below: Vec<String> = fs::read_dir(site.dir.path())
        .expect("our folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    below.sort();
    assert_eq!(below, ["config.toml", "inbox", "log.txt", "var"]);
    assert_eq!(site.cdrd(&["deliveries"]).status.code(), Some(0));
}

#[test]
fn links_and_special_files_are_left_alone() {
    let site = Site::new("UTC", "DE");
    let secret = site.path("secret.csv");
    fs::write(&secret, good(1)).expect("our folder");
    std::os::unix::fs::symlink(&secret, site.path("inbox/link.csv")).expect("our folder");
    std::os::unix::fs::symlink("/", site.path("inbox/root")).expect("our folder");
    let made = std::process::Command::new("mkfifo").arg(site.path("inbox/pipe.csv")).status();
    assert!(made.is_ok_and(|status| status.success()));
    site.drop_file("good.csv", good(2).as_bytes());
    let daemon = site.start(None);
    let started = std::time::Instant::now();
    let done = "SELECT count(*) FROM delivery WHERE state='done'";
    while site.query_now("cdr.db", done).as_deref() != Some("1") {
        assert!(started.elapsed().as_secs() < 30, "{}", site.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    site.stop(daemon);
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["1"]);
    assert!(
        site.path("inbox/link.csv").is_symlink() && site.path("inbox/pipe.csv").exists() && secret.exists()
    );
}

#[test]
fn bombs_and_broken_contents_end_with_a_reason_and_harm_nobody() {
    let site = Site::new("UTC", "DE");
    // It begins like a file of calls, so that somebody reads on.
    let zeros = [good(30).as_bytes(), &vec![b'0'; 64 << 20]].concat();
    let line = [b"\"a\",".as_slice(), &vec![b'x'; 48 << 20], b"\n"].concat();
    let mut nested = zip_of(&[("deep.csv", good(1).as_bytes())]);
    for _ in 0..12 {
        nested = zip_of(&[("again.zip", &nested)]);
    }
    site.drop_file("bomb.gz", &gzip_of(&zeros));
    site.drop_file("bomb.zip", &zip_of(&[("zeros.csv", &zeros), ("good.csv", good(10).as_bytes())]));
    site.drop_file("deep.zip", &nested);
    site.drop_file("long-line.csv", &[good(11).as_bytes(), &line, good(12).as_bytes()].concat());
    site.drop_file("nuls.csv", &[good(13).as_bytes(), &[0; 5000], b"\n", good(14).as_bytes()].concat());
    let unbalanced = good(15).replace("\"from-trunk\"", "\"from-trunk");
    let torn = good(20).replace("\"DOCUMENTATION\"", "\"DOCUMENTATION");
    site.drop_file("torn.csv", &[torn.as_bytes(), good(21).as_bytes(), good(22).as_bytes()].concat());
    let quote = [good(16), unbalanced, "three,columns,only\n".to_owned(), good(17)].concat();
    site.drop_file("quote.csv", quote.as_bytes());
    let cut = zip_of(&[("one.csv", good(18).as_bytes()), ("two.csv", good(19).repeat(2000).as_bytes())]);
    site.drop_file("cut.zip", &cut[..cut.len() - 40]);
    site.drop_file("json-depth.json", &vec![b'['; 100_000]);
    let mut daemon = site.start(None);
    site.wait_drained(&mut daemon);
    let peak = fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).expect("it runs");
    let peak_kib: u64 = peak
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .expect("the kernel counts");
    site.stop(daemon);
    assert!(peak_kib < 128 << 10, "peak memory {peak_kib} KiB");
    for call in [10, 11, 12, 13, 14, 16, 17, 21, 22] {
        let sql = format!("SELECT count(*) FROM cdr WHERE unique_id = '1741600800.{call}'");
        assert_eq!(site.query("cdr.db", &sql), ["1"], "call {call}\n{}", site.log());
    }
    let reasons = site.query("cdr.db", "SELECT DISTINCT reason FROM rejected ORDER BY 1");
    for reason in [
        "archive_too_large",
        "archive_too_deep",
        "archive_broken",
        "record_too_long",
        "columns_mismatch",
        "quote_unbalanced",
    ] {
        assert!(reasons.iter().any(|found| found == reason), "{reason} is missing in {reasons:?}");
    }
    assert!(files_below(&site.path("var/spool")).is_empty());
    let sums = "SELECT count(*) FROM document WHERE rows_read <> stored + duplicate + amended + rejected + skipped + held";
    assert_eq!(site.query("cdr.db", sums), ["0"]);
}

/// What the import of a file says: state and counts.
fn imported(site: &Site, name: &str, bytes: &[u8]) -> String {
    fs::write(site.path(name), bytes).expect("the folder is writable");
    let output = site.cdrd(&["import", name]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().last().map(|line| line.replace(&format!("{name}\t"), "")).unwrap_or_default()
}

#[test]
fn what_comes_before_damage_is_kept_however_little() {
    let site = Site::new("UTC", "DE");
    let rows: String = (0..200).map(good).collect();
    let packed = gzip_of(rows.as_bytes());
    let said = imported(&site, "cut.csv.gz", &packed[..packed.len() * 4 / 5]);
    let legs: u32 = site.query("cdr.db", "SELECT count(*) FROM cdr")[0].parse().expect("a number");
    assert!(said.starts_with("done_with_rejects"), "{said}");
    assert!((50..200).contains(&legs), "{legs} legs");
    assert_eq!(site.query("cdr.db", "SELECT DISTINCT reason FROM rejected"), ["archive_broken"]);
    // Nothing can be known of a few bytes.
    let said = imported(&site, "shorter.csv.gz", &packed[..40]);
    assert!(said.starts_with("rejected"), "{said}");
    let reasons = site.query("cdr.db", "SELECT reason, row_number FROM rejected ORDER BY id DESC LIMIT 1");
    assert_eq!(reasons, ["archive_broken|0"]);
    // The whole file comes after all.
    assert!(imported(&site, "whole.csv.gz", &packed).starts_with("done\t200"));
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["200"]);
}

/// The header of a tar: name, and the mark at its end.
fn tar_of(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut archive = vec![0; 512];
    archive[..name.len()].copy_from_slice(name.as_bytes());
    archive[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
    archive[257..263].copy_from_slice(b"ustar\0");
    archive.extend_from_slice(bytes);
    archive
}

#[test]
fn archives_that_cannot_be_opened_are_named_and_never_read_as_rows() {
    let site = Site::new("UTC", "DE");
    let rows: String = (0..20).map(good).collect();
    let tar = tar_of("Master.csv", rows.as_bytes());
    for (name, bytes) in [
        ("a.tar", tar.clone()),
        ("a.tar.gz", gzip_of(&tar)),
        ("a.zip", zip_of(&[("a.tar", &tar)])),
        ("a.xz", b"\xfd7zXZ\0 and so on".to_vec()),
        ("a.7z", b"7z\xbc\xaf\x27\x1c and so on".to_vec()),
    ] {
        assert!(imported(&site, name, &bytes).starts_with("rejected"), "{name}");
        let last = site.query("cdr.db", "SELECT reason, message FROM rejected ORDER BY id DESC LIMIT 1");
        assert!(
            last[0].starts_with("archive_unsupported|a ") && last[0].contains("in a zip or gzip"),
            "{last:?}"
        );
    }
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["0"]);
}

#[test]
fn a_header_that_somebody_wrote_costs_no_row() {
    let site = Site::new("UTC", "DE");
    let header = "accountcode,src,dst,dcontext,callerid,channel,dstchannel,lastapp,lastdata,start,answer,end,duration,\
                  billsec,disposition,amaflags,uniqueid,userfield\n";
    let rows: String = (0..20).map(good).collect();
    let said = imported(&site, "headed.csv", format!("{header}{rows}").as_bytes());
    assert!(said.starts_with("done_with_rejects\t21\t20"), "{said}");
}

#[test]
fn the_column_at_fault_is_named() {
    let site = Site::new("UTC", "DE");
    for (place, (good_value, wrong, field)) in (0..).zip([
        ("60,55,", "abc,55,", "duration"),
        ("2025-03-10 10:00:05", "25:00:01", "answer"),
        ("\"DOCUMENTATION\"", "\"WHAT\"", "amaflags"),
    ]) {
        let rows: String = (place * 30..place * 30 + 20).map(good).collect();
        imported(&site, &format!("{place}.csv"), rows.replacen(good_value, wrong, 1).as_bytes());
        let last = site.query("cdr.db", "SELECT reason, field FROM rejected ORDER BY id DESC LIMIT 1");
        assert_eq!(last, [format!("columns_mismatch|{field}")]);
    }
}
