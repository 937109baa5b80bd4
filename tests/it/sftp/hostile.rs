//! A client that means harm, at the level of packets: it is answered or cut off, and nobody else notices.

use super::raw::{ANEW, packet, string};
use super::{PASSWORD, Served};
use crate::site::asterisk_rows;
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

const OPEN: u8 = 3;
const READ: u8 = 5;
const WRITE: u8 = 6;
const STAT: u8 = 17;
const BAD_MESSAGE: u32 = 5;

#[test]
fn packets_that_are_none_are_answered_and_the_next_is_understood() {
    let served = Served::new("", "");
    let mut daemon = served.start(None);
    let mut raw = served.raw();
    // Of kinds that do not exist, cut off inside, too large, and answers instead of questions.
    for (kind, rest) in [
        (0, vec![]),
        (99, vec![1, 2, 3]),
        (255, vec![0; 1000]),
        (OPEN, vec![0, 0, 0, 200, b'x']),
        (OPEN, string(b"no flags")),
        (READ, vec![0xff; 40]),
        (STAT, vec![0xff, 0xff, 0xff, 0xff]),
        (STAT, vec![]),
        (101, [&[0; 8][..], &string(b"x"), &string(b"x")].concat()),
        (104, vec![0xff; 8]),
        (200, string(b"nonsense@example.org")),
        (WRITE, vec![0; 300_000]),
    ] {
        let answer = raw.ask(kind, &rest);
        assert!(answer.code().is_some_and(|code| code != 0), "kind {kind}: {answer:?}");
    }
    let large = raw.ask(WRITE, &vec![0; 1_000_000]);
    assert_eq!(large.code(), Some(BAD_MESSAGE));
    assert_eq!(raw.upload("good.csv", asterisk_rows(0..20).as_bytes()), Some(0), "the session goes on");
    // A length that nobody means ends it, and nothing else.
    raw.send(&[0xff, 0xff, 0xff, 0xff, 3]);
    assert_eq!(raw.answer(), None);
    let mut raw = served.raw();
    raw.send(&[0, 0, 0, 0]);
    assert_eq!(raw.answer(), None);
    assert_eq!(served.calls(), 20);
    assert!(matches!(daemon.0.try_wait(), Ok(None)));
    served.site.stop(daemon);
}

#[test]
fn no_path_leads_out_of_an_account() {
    let served = Served::new("", "");
    let daemon = served.start(None);
    let mut raw = served.raw();
    assert_eq!(raw.upload("mine.csv", asterisk_rows(0..5).as_bytes()), Some(0));
    let mut other = served.raw_as("other");
    let paths = [
        "/etc/passwd",
        "../../etc/passwd",
        "../hq/mine.csv",
        "/mine.csv",
        "mine.csv",
        "/proc/self/environ",
        "\\\\..\\etc",
    ];
    for path in paths {
        assert_eq!(other.open(path, 1).code(), Some(2), "{path}");
        assert_eq!(other.ask(STAT, &string(path.as_bytes())).code(), Some(2), "{path}");
    }
    // Each is a name and nothing more, and is received under what it says.
    let names = [
        "../../../../tmp/cdrd-escaped.csv",
        "CON",
        "a\u{202e}vsc.exe",
        "x;rm -rf ~.csv",
        "<b>.csv",
        "'); DROP TABLE cdr;--",
    ];
    for (place, name) in names.iter().enumerate() {
        let first = 100 * (u32::try_from(place).expect("few") + 1);
        assert_eq!(other.upload(name, asterisk_rows(first..first + 3).as_bytes()), Some(0), "{name}");
    }
    // Letters that are no UTF-8 stay apart.
    for name in [&b"\xe4.csv"[..], b"\xe5.csv"] {
        let answer = other.ask(OPEN, &[&string(name)[..], &ANEW.to_be_bytes(), &[0; 4]].concat());
        assert_eq!(other.close(&answer.handle()).code(), Some(0));
    }
    assert_eq!(served.calls(), 5 + 18);
    assert!(!std::path::Path::new("/tmp/cdrd-escaped.csv").exists());
    let received = served.site.query("cdr.db", "SELECT account || ' ' || name FROM delivery ORDER BY id");
    assert_eq!(received[0], "hq mine.csv");
    assert_eq!(received[1], "other tmp/cdrd-escaped.csv");
    assert!(received.contains(&"other a\\u{202e}vsc.exe".to_owned()), "{received:?}");
    assert!(
        received.contains(&"other \\xe4.csv".to_owned()) && received.contains(&"other \\xe5.csv".to_owned())
    );
    for file in crate::site::files_below(&served.site.path("var/sftp")) {
        let name = file.file_name().and_then(|name| name.to_str()).expect("ours").to_owned();
        assert!(
            ["ed25519", "ecdsa", "rsa"].contains(&name.as_str()) || name.len() == 26,
            "{}",
            file.display()
        );
    }
    served.site.stop(daemon);
}

#[test]
fn ten_thousand_handles_and_a_storm_of_nothing_do_not_disturb_others() {
    let served = Served::new("", "");
    let mut daemon = served.start(None);
    let mut hostile = served.raw();
    let opened =
        (0..10_000).take_while(|number| hostile.open(&format!("h{number}"), ANEW).code().is_none()).count();
    assert_eq!(opened, 128);
    // Requests without waiting for an answer.
    let storm: Vec<u8> = (0..5_000).flat_map(|id| packet(STAT, id, &string(b"/nothing"))).collect();
    hostile.send(&storm);
    let mut good = served.raw();
    assert_eq!(good.upload("good.csv", asterisk_rows(0..20).as_bytes()), Some(0));
    for id in 0..5_000 {
        assert_eq!(hostile.answer().map(|answer| answer.id), Some(id), "each is answered, in order");
    }
    // Bytes before the log-in, of every kind.
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff", &[0; 5000]] {
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", served.port)).expect("it listens");
        let _ = socket.write_all(bytes);
    }
    drop(hostile);
    assert_eq!(served.calls(), 20);
    assert!(matches!(daemon.0.try_wait(), Ok(None)));
    served.site.stop(daemon);
}

#[test]
fn who_guesses_passwords_is_turned_away() {
    let served = Served::new("connections_per_address = 5", "");
    let daemon = served.start(None);
    let open: Vec<_> = (0..8)
        .map(|_| std::net::TcpStream::connect(("127.0.0.1", served.port)).expect("it listens"))
        .collect();
    // What is one too many is closed without a word.
    let silent = |socket: &std::net::TcpStream| {
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("it is ours");
        let mut letter = [0; 1];
        matches!(
            {
                let mut reader = socket;
                reader.read(&mut letter)
            },
            Ok(0) | Err(_)
        )
    };
    let turned_away = open.iter().filter(|socket| silent(socket)).count();
    // The one that found out whether the server listens may not have gone yet.
    assert!((3..=4).contains(&turned_away), "{turned_away}");
    drop(open);
    let deadline = Instant::now() + Duration::from_mins(1);
    while !served.site.log().contains("failed too often and is turned away for 5 minutes") {
        assert!(Instant::now() < deadline, "{}", served.site.log());
        let _ = guess(&served, "wrong");
    }
    let refused = served.site.log().matches("SFTP log-in refused for account hq from 127.0.0.1").count();
    assert_eq!(refused, 10, "{}", served.site.log());
    assert!(guess(&served, PASSWORD).is_none(), "not even with the right one");
    served.site.stop(daemon);
}

/// Whether the password is right; `None` where nobody listens to it.
fn guess(served: &Served, password: &str) -> Option<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = std::sync::Arc::new(russh::client::Config::default());
        let session = russh::client::connect(config, ("127.0.0.1", served.port), super::raw::AnyServer).await;
        let mut session = session.ok()?;
        let mut good = false;
        for _ in 0..5 {
            good |= session.authenticate_password(super::USER, password).await.ok()?.success();
        }
        Some(good)
    })
}
