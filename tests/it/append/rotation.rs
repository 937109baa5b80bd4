//! Every way in which a followed file leaves its name, seen and not seen.

use super::{Bench, LATER, append, bare, numbers, row, rows, site};
use crate::site::gzip_of;
use cdrd::intake::SourceHealth;
use std::fs;

/// How a file is rotated.
type Rotate = fn(&Bench);

/// Renamed, by number and by date, and copied.
const WAYS: &[(&str, Rotate)] = &[
    ("renamed", |bench| bench.rename("Master.csv", "Master.csv.1")),
    ("renamed by date", |bench| bench.rename("Master.csv", "Master.csv-20250311")),
    ("renamed before its ending", |bench| bench.rename("Master.csv", "Master-20250311.csv")),
    ("renamed to .old", |bench| bench.rename("Master.csv", "Master.csv.old")),
    ("copied and truncated", |bench| bench.copy_and_truncate("Master.csv.1")),
    ("renamed and packed", |bench| {
        bench.rename("Master.csv", "Master.csv.1");
        pack(bench, "Master.csv.1");
    }),
    ("renamed and packed otherwise", |bench| {
        bench.rename("Master.csv", "Master.csv.1");
        let bytes = fs::read(bench.file("Master.csv.1")).expect("it was renamed");
        let packed = zstd::encode_all(bytes.as_slice(), 3).expect("in memory");
        fs::write(bench.file("Master.csv.1.zst"), packed).expect("the folder is writable");
        fs::remove_file(bench.file("Master.csv.1")).expect("the folder is writable");
    }),
];

/// What gzip does: the packed file keeps the time of the plain one.
fn pack(bench: &Bench, name: &str) {
    let (plain, packed) = (bench.file(name), bench.file(&format!("{name}.gz")));
    let written = fs::metadata(&plain).and_then(|metadata| metadata.modified()).expect("it is there");
    fs::write(&packed, gzip_of(&fs::read(&plain).expect("it is there"))).expect("the folder is writable");
    let file = fs::File::options().write(true).open(&packed).expect("it was just written");
    file.set_modified(written).expect("it is ours");
    fs::remove_file(plain).expect("the folder is writable");
}

#[test]
fn a_new_line_is_a_row_and_a_half_one_is_none_yet() {
    let mut bench = Bench::new();
    bench.look();
    assert_eq!(bench.health().0, SourceHealth::Retrying, "it is not there");
    bench.append(&rows(0..3));
    bench.look();
    assert_eq!(bench.deliveries(), ["growing|3|3|0|0"]);
    assert_eq!(bench.health(), (SourceHealth::Ok, String::new()));
    let (half, rest) = (row(3)[..20].to_owned(), row(3)[20..].to_owned());
    bench.append(&half);
    bench.look();
    assert_eq!(bench.deliveries(), ["growing|3|3|0|0"]);
    assert_eq!(bench.originals(), [format!("{}{half}", rows(0..3)).into_bytes()], "but it is durable");
    bench.append(&(rest + &row(4)));
    bench.look();
    assert_eq!(bench.deliveries(), ["growing|5|5|0|0"]);
    assert_eq!(bench.originals(), [rows(0..5).into_bytes()]);
    let places = "SELECT row_number, byte_offset FROM cdr ORDER BY row_number";
    let expected: Vec<String> = (0..5).map(|call| format!("{}|{}", call + 1, rows(0..call).len())).collect();
    assert_eq!(bench.sql(places), expected, "places are those in the file");
    // Nothing new: nothing happens.
    bench.look();
    assert_eq!(bench.deliveries(), ["growing|5|5|0|0"]);
    let output = bench.site.cdrd(&["status"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("Master.csv from pbx-file since"), "{said}");
    assert!(said.contains("waiting    nothing"), "{said}");
    let works = bench.works.as_ref().expect("started");
    let waiting = works.storing.intake.waiting().expect("the spool is ours");
    assert_eq!(waiting, [], "all of it is stored");
}

#[test]
fn check_tells_what_is_followed_and_what_is_missing() {
    let bench = Bench::new();
    let said = || String::from_utf8_lossy(&bench.site.cdrd(&["check"]).stdout).into_owned();
    assert!(said().contains("Master.csv is not there; it is followed when it comes"), "{}", said());
    bench.append(&row(0));
    assert!(said().contains("ok      source pbx-file: follows"), "{}", said());
    fs::rename(bench.file("Master.csv"), bench.file("real")).expect("the folder is writable");
    std::os::unix::fs::symlink(bench.file("real"), bench.file("Master.csv")).expect("the folder is writable");
    assert!(said().contains("is a link or no file"), "{}", said());
    let mut bench = bench;
    bench.look();
    let (health, words) = bench.health();
    assert_eq!(health, SourceHealth::Retrying);
    assert!(words.contains("it is a link; name the file itself"), "{words}");
}

#[test]
fn each_way_of_rotating_ends_one_delivery_and_begins_the_next() {
    for (way, rotate) in WAYS {
        for (seen, up) in [(true, true), (false, true), (false, false)] {
            let told = format!("{way}, up {up}, the end seen before {seen}");
            let mut bench = Bench::new();
            bench.append(&rows(0..40));
            bench.look();
            if !up {
                bench.stop();
            }
            // Written after the last look, and rotated before the next.
            bench.append(&rows(40..45));
            if seen {
                bench.look();
            }
            rotate(&bench);
            bench.append(&rows(45..70));
            if !up {
                bench.start();
            }
            bench.settle();
            assert_eq!(bench.callees(), numbers(0..70), "{told}");
            assert_eq!(bench.deliveries(), ["done|45|45|0|0", "growing|25|25|0|0"], "{told}");
            assert_eq!(bench.originals(), [rows(0..45).into_bytes(), rows(45..70).into_bytes()], "{told}");
            assert_eq!(bench.health(), (SourceHealth::Ok, String::new()), "{told}");
            let left = bench.site.query("spool.db", "SELECT state FROM receipt");
            assert_eq!(left, ["unfinished"], "{told}: only what grows is left at the door");
            let seen = bench.site.query("spool.db", "SELECT count(*) FROM seen");
            assert_eq!(seen, ["0"], "{told}: equal bytes of a stream are other calls");
        }
    }
}

#[test]
fn rotations_that_were_missed_are_read_in_their_order() {
    let mut bench = Bench::new();
    bench.append(&rows(0..30));
    bench.look();
    bench.stop();
    bench.append(&rows(30..35));
    bench.rename("Master.csv", "Master.csv.1");
    for life in 1..=3 {
        for number in (1..=life).rev() {
            let name = |number| {
                let packed = format!("Master.csv.{number}.gz");
                if bench.file(&packed).exists() { packed } else { format!("Master.csv.{number}") }
            };
            let from = name(number);
            bench.rename(&from, &from.replace(&format!(".{number}"), &format!(".{}", number + 1)));
        }
        if life == 1 {
            pack(&bench, "Master.csv.2");
        }
        append(&bench.file("Master.csv.1"), rows(35 * life..35 * life + 35).as_bytes());
    }
    bench.append(&rows(140..150));
    bench.start();
    bench.settle();
    assert_eq!(bench.callees(), numbers(0..150));
    let expected =
        ["done|35|35|0|0", "done|35|35|0|0", "done|35|35|0|0", "done|35|35|0|0", "growing|10|10|0|0"];
    assert_eq!(bench.deliveries(), expected);
    let starts: Vec<u32> =
        bench.originals().iter().map(|bytes| bytes.len().try_into().unwrap_or(0)).collect();
    assert_eq!(starts.len(), 5);
}

#[test]
fn what_a_writer_adds_to_a_renamed_file_still_counts() {
    let mut bench = Bench::new();
    bench.append(&rows(0..5));
    bench.look();
    let mut held = fs::OpenOptions::new().append(true).open(bench.file("Master.csv")).expect("it is there");
    bench.rename("Master.csv", "Master.csv.1");
    // The new file is there and empty, as logrotate leaves it: the old one stays open until the PBX is told.
    bench.append("");
    bench.settle();
    std::io::Write::write_all(&mut held, rows(5..8).as_bytes()).expect("it is open");
    bench.settle();
    assert_eq!(bench.callees(), numbers(0..8));
    assert_eq!(bench.deliveries(), ["growing|8|8|0|0"]);
    drop(held);
    bench.append(&rows(8..9));
    bench.settle();
    assert_eq!(bench.deliveries(), ["done|8|8|0|0", "growing|1|1|0|0"]);
    assert_eq!(bench.callees(), numbers(0..9));
}

#[test]
fn a_file_that_an_editor_saved_or_that_moved_away_and_back_goes_on() {
    let mut bench = Bench::new();
    bench.append(&rows(0..20));
    bench.look();
    let inode = |bench: &Bench| {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(bench.file("Master.csv")).map(|metadata| metadata.ino()).expect("it is there")
    };
    let before = inode(&bench);
    fs::write(bench.file("Master.csv.tmp"), rows(0..21)).expect("the folder is writable");
    bench.rename("Master.csv.tmp", "Master.csv");
    assert_ne!(before, inode(&bench));
    bench.settle();
    assert_eq!(bench.deliveries(), ["growing|21|21|0|0"], "nothing is read again");

    // Away, to where nobody looks: red, and nothing ends.
    fs::rename(bench.file("Master.csv"), bench.site.path("elsewhere")).expect("the folder is writable");
    bench.settle();
    let (health, words) = bench.health();
    assert_eq!(health, SourceHealth::Retrying);
    assert!(words.contains("Master.csv is gone"), "{words}");
    assert_eq!(bench.deliveries(), ["growing|21|21|0|0"]);
    fs::rename(bench.site.path("elsewhere"), bench.file("Master.csv")).expect("the folder is writable");
    bench.append(&row(21));
    bench.settle();
    assert_eq!(bench.deliveries(), ["growing|22|22|0|0"]);
    assert_eq!(bench.health().0, SourceHealth::Ok);
}

#[test]
fn a_file_that_was_emptied_or_changed_without_a_copy_is_read_from_its_beginning() {
    let mut bench = Bench::new();
    bench.append(&(rows(0..10) + &bare(10) + &bare(10)));
    bench.look();
    // An editor took a line out: what is left is known.
    fs::write(bench.file("Master.csv"), rows(1..10) + &bare(10) + &bare(10)).expect("the folder is writable");
    bench.look();
    assert_eq!(bench.deliveries(), ["growing|12|12|0|0"], "it may be a moment in the middle of saving");
    bench.settle();
    assert_eq!(bench.deliveries(), ["done|12|12|0|0", "growing|11|0|11|0"], "no call counts twice");
    // Emptied, and longer than before at the next look.
    bench.now += LATER;
    fs::write(bench.file("Master.csv"), rows(20..60)).expect("the folder is writable");
    bench.settle();
    assert_eq!(bench.deliveries()[2], "growing|40|40|0|0");
    assert_eq!(bench.callees().len(), 52);
}

#[test]
fn equal_lines_are_counted_on_across_looks_restarts_and_rotation() {
    let mut bench = Bench::new();
    bench.append(&(bare(1) + &bare(2) + &bare(1)));
    bench.look();
    bench.append(&bare(1));
    bench.look();
    bench.start();
    bench.append(&bare(1));
    bench.look();
    assert_eq!(bench.callees(), ["1", "1", "1", "1", "2"]);
    // The same lines in the next life are other calls: a stream is never seen before.
    bench.rename("Master.csv", "Master.csv.1");
    bench.append(&(bare(2) + &bare(1).repeat(4)));
    bench.settle();
    assert_eq!(bench.deliveries(), ["done|5|5|0|0", "growing|5|5|0|0"]);
    assert_eq!(bench.callees(), ["1", "1", "1", "1", "1", "1", "1", "1", "2", "2"]);
    // For two days.
    bench.stop();
    let old = "UPDATE copies SET seen_at = datetime(seen_at, '-49 hours')";
    let changed = std::process::Command::new("sqlite3").arg(bench.site.path("var/cdr.db")).arg(old).status();
    assert!(changed.is_ok_and(|status| status.success()));
    bench.start();
    bench.append(&bare(2));
    bench.look();
    assert_eq!(bench.deliveries()[1], "growing|6|5|1|0", "an equal line long after is the same call");
    // What stood at the beginning of a life is kept, so that reading it again counts the same.
    let kept = "SELECT before FROM copies WHERE document_id = 2 ORDER BY before";
    assert_eq!(bench.sql(kept), ["1", "4"]);
}

#[test]
fn a_life_that_is_read_again_counts_equal_lines_as_it_did() {
    let mut bench = Bench::new();
    bench.append(&(bare(1) + &bare(1) + &bare(2)));
    bench.look();
    bench.rename("Master.csv", "Master.csv.2");
    bench.append(&(bare(2) + &bare(1)));
    bench.settle();
    bench.rename("Master.csv", "Master.csv.1");
    bench.append(&bare(3));
    bench.settle();
    let table = bench.callees();
    assert_eq!(table, ["1", "1", "1", "2", "2", "3"]);
    let id = bench.sql("SELECT id FROM delivery ORDER BY id LIMIT 1 OFFSET 1").remove(0);
    let growing = bench.sql("SELECT id FROM delivery ORDER BY id DESC LIMIT 1").remove(0);
    bench.stop();
    let output = bench.site.cdrd(&["replay", &id]);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(bench.callees(), table, "{said}");
    // What still grows is not read again: its end is not known.
    assert!(!bench.site.cdrd(&["replay", &growing]).status.success());
    bench.start();
    bench.append(&bare(4));
    bench.look();
    assert_eq!(bench.callees(), ["1", "1", "1", "2", "2", "3", "4"]);
}

#[test]
fn one_leg_that_began_long_after_its_call_says_nothing_about_the_clock() {
    let mut bench = Bench::new();
    bench.append(&rows(0..30));
    bench.look();
    let fault = "SELECT clock_fault FROM origin";
    assert_eq!(bench.sql(fault), [""]);
    // Its id is of eleven minutes before.
    bench.append(&row(30).replace(&format!("{}.30", 1_741_593_630), &format!("{}.30", 1_741_592_970)));
    bench.look();
    assert_eq!(bench.sql(fault), [""]);
    assert_eq!(bench.callees().len(), 31);
    // Twenty of them do: here the clock was set wrong.
    for call in 31..60 {
        let (id, late) = (1_741_593_600 + call, 1_741_590_000 + call);
        bench.append(&row(call).replace(&format!("{id}.{call}"), &format!("{late}.{call}")));
        bench.look();
    }
    assert!(
        bench.sql(fault)[0].contains("after the time in the PBX's own call ids"),
        "{:?}",
        bench.sql(fault)
    );
}

#[test]
fn two_lives_may_begin_with_the_same_line() {
    // Seen and not seen.
    for looks in [true, false] {
        let mut bench = Bench::new();
        bench.append(&bare(1));
        bench.look();
        for _ in 0..2 {
            bench.rename(
                "Master.csv",
                &format!("Master.csv-2025031{}", fs::read_dir(bench.file("")).map_or(0, Iterator::count)),
            );
            bench.append(&bare(1));
            if looks {
                bench.settle();
            }
        }
        bench.append(&bare(2));
        bench.settle();
        assert_eq!(bench.callees(), ["1", "1", "1", "2"], "looks {looks}");
    }
}

#[test]
fn a_copy_that_somebody_made_is_no_life_of_its_own() {
    let mut bench = Bench::new();
    bench.append(&rows(0..4));
    bench.look();
    bench.stop();
    bench.rename("Master.csv", "Master.csv-20250310");
    bench.append(&(4..12).map(bare).collect::<String>());
    // A backup every night, named like a rotation.
    fs::copy(bench.file("Master.csv"), bench.file("Master.csv-20250311")).expect("the folder is writable");
    bench.append(&bare(12));
    fs::copy(bench.file("Master.csv"), bench.file("Master.csv-20250312")).expect("the folder is writable");
    bench.append(&bare(13));
    bench.start();
    bench.settle();
    assert_eq!(bench.callees(), numbers(0..14));
    assert_eq!(bench.deliveries(), ["done|4|4|0|0", "growing|10|10|0|0"]);
}

#[test]
fn a_rotated_file_that_cannot_be_unpacked_does_not_hold_up_the_others() {
    let mut bench = Bench::new();
    bench.append(&rows(0..4));
    bench.look();
    bench.stop();
    bench.rename("Master.csv", "Master.csv.3");
    let whole = gzip_of(rows(4..900).as_bytes());
    fs::write(bench.file("Master.csv.2.gz"), &whole[..whole.len() / 2]).expect("the folder is writable");
    fs::write(bench.file("Master.csv.1.gz"), "no gzip at all").expect("the folder is writable");
    bench.append(&rows(900..904));
    bench.start();
    bench.settle();
    bench.settle();
    let found = bench.callees();
    assert!(numbers(0..4).iter().chain(&numbers(900..904)).all(|call| found.contains(call)), "{found:?}");
    assert!(
        bench.deliveries().last().is_some_and(|last| last == "growing|4|4|0|0"),
        "{:?}",
        bench.deliveries()
    );
}

#[test]
fn the_last_line_counts_where_it_is_certain_to_be_whole() {
    let mut bench = Bench::new();
    // Ends in a closed quote: nothing can be missing but the line end.
    bench.append(&(rows(0..3) + row(3).trim_end()));
    bench.look();
    assert_eq!(bench.deliveries(), ["growing|3|3|0|0"]);
    bench.rename("Master.csv", "Master.csv.1");
    bench.append(&(rows(4..6) + &row(6)[..120]));
    bench.settle();
    assert_eq!(bench.deliveries(), ["done|4|4|0|0", "growing|2|2|0|0"]);
    bench.rename("Master.csv", "Master.csv.2");
    bench.rename("Master.csv.1", "Master.csv.3");
    bench.append(&row(7));
    bench.settle();
    let expected = ["done|4|4|0|0", "done_with_rejects|3|2|0|1", "growing|1|1|0|0"];
    assert_eq!(bench.deliveries(), expected, "half a line is listed, not lost");
}

#[test]
fn zeros_that_a_file_server_shows_for_bytes_on_their_way_are_not_read() {
    let mut bench = Bench::new();
    bench.append(&rows(0..2));
    append(&bench.file("Master.csv"), &[0; 100]);
    bench.look();
    assert_eq!(bench.originals(), [rows(0..2).into_bytes()]);
    let (whole, part) = (rows(0..3), rows(0..2).len());
    fs::write(bench.file("Master.csv"), &whole).expect("the folder is writable");
    assert!(whole.len() > part);
    bench.settle();
    assert_eq!(bench.deliveries(), ["growing|3|3|0|0"]);
}

#[test]
fn what_is_not_recognised_waits_and_what_has_no_lines_is_refused() {
    let mut bench = Bench::new();
    bench.append("Asterisk was started\n");
    bench.look();
    assert_eq!(bench.deliveries(), ["growing|0|0|0|0"]);
    bench.append(&rows(0..30));
    bench.look();
    assert_eq!(bench.callees(), numbers(0..30), "the line is passed over, or listed");
    assert_eq!(bench.sql("SELECT rows_read - stored FROM delivery"), ["1"]);

    let mut bench = Bench::new();
    let json = include_str!("../../../fixtures/formats/grandstream-cdrapi-json/bare-array.json");
    fs::write(bench.file("Master.csv"), json).expect("the folder is writable");
    bench.look();
    bench.rename("Master.csv", "Master.csv.1");
    bench.append(&rows(0..1));
    bench.settle();
    assert_eq!(bench.deliveries()[0], "rejected|0|0|0|0");
    let why = bench.sql("SELECT message FROM rejected");
    assert!(why.len() == 1 && why[0].contains("cannot be followed"), "{why:?}");
}

#[test]
fn once_reads_on_and_leaves_the_file_where_it_is() {
    let site = site();
    let master = site.path("inbox/Master.csv");
    for (place, calls) in [0..3, 3..5].into_iter().enumerate() {
        append(&master, rows(calls.clone()).as_bytes());
        let output = site.cdrd(&["run", "--once"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "look {place}: {said}");
        assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), [calls.end.to_string()]);
    }
    assert_eq!(fs::read(&master).expect("it stays"), rows(0..5).as_bytes());
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM delivery"), ["1"], "one life, one delivery");
}
