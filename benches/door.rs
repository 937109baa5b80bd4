//! Durable receipts at the door: 64 callers with bodies of 2 KiB against a file that is flushed after each body. Both take
//! turns on the disk of the folder given; `benches/run door` calls it.

#![expect(clippy::print_stdout, reason = "a bench says what it measured")]

use cdrd::intake::{Config, Intake};
use cdrd::record::delivery::{Body, Delivery};
use jiff::Timestamp;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

const CALLERS: usize = 64;
const EACH: usize = 200;
const BODY: usize = 2048;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo bench` adds `--bench`.
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    // `cargo test --benches` and `cargo bench` without a folder have nothing to measure.
    let Some(folder) = given.map(PathBuf::from) else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    println!("| round | one flush each, a second | 1 caller | 64 callers | receipts a flush | ratio |");
    println!("|---|---|---|---|---|---|");
    let mut ratios = Vec::new();
    for round in 1..=5 {
        let flushed = one_flush_each(&folder.join("flushed"))?;
        let state = folder.join(format!("state-{round}"));
        let intake = Intake::open(&state, Config::default(), runtime.handle().clone())?;
        let (alone, _) = receipts(&intake, 1, 500);
        let (together, shared) = receipts(&intake, CALLERS, EACH);
        intake.close();
        std::fs::remove_dir_all(&state)?;
        let ratio = together / flushed;
        println!("| {round} | {flushed:.0} | {alone:.0} | {together:.0} | {shared:.1} | {ratio:.1} |");
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("times as many receipts as flushes one by one: {:.1} (aim 20)", ratios[ratios.len() / 2]);
    Ok(())
}

/// Bodies a second when each is appended and flushed.
fn one_flush_each(path: &Path) -> std::io::Result<f64> {
    let mut file = File::create(path)?;
    let began = Instant::now();
    for n in 0..500 {
        file.write_all(&body(0, n))?;
        file.sync_all()?;
    }
    let rate = 500.0 / began.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}

/// Receipts a second, and how many shared a flush.
#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn receipts(intake: &Intake, callers: usize, each: usize) -> (f64, f64) {
    let (began, flushes) = (Instant::now(), intake.flushes());
    std::thread::scope(|scope| {
        for caller in 0..callers {
            scope.spawn(move || {
                for n in 0..each {
                    let answers = intake.accept(vec![delivery(body(caller + 1, n))], None);
                    let answers = answers.expect("the door is open");
                    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
                }
            });
        }
    });
    let all = (callers * each) as f64;
    (all / began.elapsed().as_secs_f64(), all / (intake.flushes() - flushes) as f64)
}

/// Bytes that differ from every other body's.
fn body(caller: usize, n: usize) -> Vec<u8> {
    let mut bytes = vec![b'x'; BODY];
    bytes[..8].copy_from_slice(&caller.to_le_bytes());
    bytes[8..16].copy_from_slice(&n.to_le_bytes());
    bytes
}

fn delivery(body: Vec<u8>) -> Delivery {
    Delivery {
        origin: "pbx".to_owned(),
        source: "push".to_owned(),
        account: None,
        peer: Some("192.0.2.7".to_owned()),
        name: "hook".to_owned(),
        received_at: Timestamp::now(),
        pinned_format: None,
        time_zone: None,
        reading: [0; 16],
        body: Body::Bytes(body),
    }
}
