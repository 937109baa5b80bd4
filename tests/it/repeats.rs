//! Documents that come again in another envelope: they are known before a row is read, and only if all is as it was.

use crate::site::{Site, asterisk_rows, gzip_of, zip_of};
use std::fs;

fn import(site: &Site, name: &str, bytes: &[u8]) -> String {
    fs::write(site.path(name), bytes).expect("the folder is writable");
    let output = site.cdrd(&["import", name]);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The documents of the delivery of this name: path, state, rows.
fn documents(site: &Site, name: &str) -> Vec<String> {
    site.query(
        "cdr.db",
        &format!(
            "SELECT d.path, d.state, d.rows_read, d.stored, d.duplicate FROM document d
               JOIN delivery l ON l.id = d.delivery_id WHERE l.name = '{name}' ORDER BY l.id, d.number"
        ),
    )
}

fn original(site: &Site, name: &str) -> Vec<u8> {
    let id = site
        .query("cdr.db", &format!("SELECT id FROM delivery WHERE name = '{name}' ORDER BY id DESC LIMIT 1"));
    let output = site.cdrd(&["original", &id[0]]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn legs(site: &Site) -> String {
    site.query("cdr.db", "SELECT count(*) FROM cdr").remove(0)
}

#[test]
fn a_document_in_another_archive_is_not_read_again() {
    let site = Site::new("UTC", "DE");
    let (one, two, three) = (asterisk_rows(0..20), asterisk_rows(20..50), asterisk_rows(50..55));
    import(&site, "a.zip", &zip_of(&[("one.csv", one.as_bytes()), ("two.csv", two.as_bytes())]));
    assert_eq!(documents(&site, "a.zip"), ["one.csv|done|20|20|0", "two.csv|done|30|30|0"]);

    let second = zip_of(&[
        ("x/two.csv", two.as_bytes()),
        ("three.csv", three.as_bytes()),
        ("empty.csv", b""),
        ("one.csv", one.as_bytes()),
    ]);
    let said = import(&site, "b.zip", &second);
    assert!(said.contains("b.zip\tdone\t5\t5\t0"), "{said}");
    let expected = ["x/two.csv|repeated|0|0|0", "three.csv|done|5|5|0", "one.csv|repeated|0|0|0"];
    assert_eq!(documents(&site, "b.zip"), expected);
    assert_eq!(legs(&site), "55");
    assert_eq!(original(&site, "b.zip"), second, "what came is kept, read or not");

    // An archive in an archive, and one that was packed anew.
    let third = zip_of(&[("in.csv.gz", &gzip_of(one.as_bytes())), ("b.zip", &second)]);
    let said = import(&site, "c.zip", &third);
    assert!(said.contains("c.zip\trepeated\t0"), "{said}");
    assert_eq!(documents(&site, "c.zip").len(), 4);
    assert!(documents(&site, "c.zip").iter().all(|document| document.contains("|repeated|0|0|0")));
    assert_eq!(original(&site, "c.zip"), third);
    assert_eq!(legs(&site), "55");
    let hashes =
        "SELECT count(DISTINCT content_hash) FROM document WHERE path LIKE '%one.csv' OR path LIKE '%in.csv'";
    assert_eq!(site.query("cdr.db", hashes), ["1"], "a repeated document says which bytes it had");
}

#[test]
fn packed_and_plain_are_the_same_document() {
    let site = Site::new("UTC", "DE");
    let rows = asterisk_rows(0..20);
    import(&site, "a.csv.gz", &gzip_of(rows.as_bytes()));
    let said = import(&site, "a.csv", rows.as_bytes());
    assert!(said.contains("a.csv\trepeated\t0"), "{said}");
    assert_eq!(documents(&site, "a.csv"), ["|repeated|0|0|0"]);
    assert_eq!(original(&site, "a.csv"), rows.as_bytes());

    // Now the door knows the bytes, and keeps no second copy.
    let said = import(&site, "b.csv", rows.as_bytes());
    assert!(said.contains("b.csv\trepeated\t0"), "{said}");
    assert!(documents(&site, "b.csv").is_empty());
    assert_eq!(original(&site, "b.csv"), rows.as_bytes());

    let said = import(&site, "c.csv.gz", &gzip_of((rows + &asterisk_rows(20..21)).as_bytes()));
    assert!(said.contains("c.csv.gz\tdone\t21\t1\t20"), "other bytes are read: {said}");
    assert_eq!(legs(&site), "21");
}

#[test]
fn what_had_a_rejection_or_is_read_otherwise_is_read_again() {
    let site = Site::new("UTC", "DE");
    let (good, bad) = (asterisk_rows(0..20), asterisk_rows(20..30).replacen("2025-03-10", "never", 1));
    import(&site, "a.zip", &zip_of(&[("good.csv", good.as_bytes()), ("bad.csv", bad.as_bytes())]));
    import(&site, "b.zip", &zip_of(&[("good.csv", good.as_bytes())]));
    assert_eq!(documents(&site, "b.zip"), ["good.csv|done|20|0|20"], "its delivery had a rejection");
    import(&site, "c.zip", &zip_of(&[("again.csv", good.as_bytes())]));
    assert_eq!(documents(&site, "c.zip"), ["again.csv|repeated|0|0|0"]);

    let config = fs::read_to_string(site.path("config.toml")).expect("the site has one");
    fs::write(site.path("config.toml"), config.replace("\"UTC\"", "\"Europe/Berlin\""))
        .expect("it is writable");
    import(&site, "d.zip", &zip_of(&[("other.csv", good.as_bytes())]));
    assert_eq!(documents(&site, "d.zip"), ["other.csv|done|20|0|20"], "another configuration reads it anew");

    for file in ["cdr.db", "cdr.db-wal", "cdr.db-shm"] {
        let _ = fs::remove_file(site.path("var").join(file));
    }
    import(&site, "e.zip", &zip_of(&[("lost.csv", good.as_bytes())]));
    assert_eq!(
        documents(&site, "e.zip"),
        ["lost.csv|done|20|20|0"],
        "the database lost what the spool knows"
    );
    assert_eq!(legs(&site), "20");
}

#[test]
fn a_kill_before_retiring_leaves_a_repeated_document_repeated() {
    let site = Site::new("UTC", "DE");
    let one = asterisk_rows(0..20);
    import(&site, "a.zip", &zip_of(&[("one.csv", one.as_bytes())]));
    for (place, point) in (1..).zip(["documents-done:1", "delivery-finished:1", "retire-linked:1"]) {
        let name = format!("{place}.zip");
        let fresh = asterisk_rows(20 * place..20 * (place + 1));
        let archive = zip_of(&[("one.csv", one.as_bytes()), ("fresh.csv", fresh.as_bytes())]);
        fs::write(site.path(&name), archive).expect("the folder is writable");
        let died = site.command(&["import", &name]).env("CDRD_CRASH", point).output().expect("it runs");
        assert_ne!(died.status.code(), Some(0), "{point} was reached");
        let mut daemon = site.start(None);
        site.wait_drained(&mut daemon);
        site.stop(daemon);
        assert_eq!(documents(&site, &name), ["one.csv|repeated|0|0|0", "fresh.csv|done|20|20|0"], "{point}");
        assert_eq!(legs(&site), (20 * (place + 1)).to_string(), "{point}");
    }
}

#[test]
fn zero_bytes_are_no_document_however_often_they_come() {
    let site = Site::new("UTC", "DE");
    import(&site, "e.csv", b"");
    assert!(import(&site, "e.zip", &zip_of(&[("e.csv", b"")])).contains("e.zip\tempty"));
    for file in ["cdr.db", "cdr.db-wal", "cdr.db-shm"] {
        let _ = fs::remove_file(site.path("var").join(file));
    }
    assert!(import(&site, "f.zip", &zip_of(&[("e.csv", b""), ("f.csv", b"")])).contains("f.zip\tempty"));
    assert!(site.query("cdr.db", "SELECT * FROM document").is_empty());
}
