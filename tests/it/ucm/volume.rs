//! A month of a busy site at once.

use super::site_of;
use crate::ucm_double::{Device, Shape, leg};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::fs;

#[test]
#[ignore = "takes minutes: tests/soak runs it"]
fn a_month_of_many_calls_is_read_in_flat_memory() {
    let mut peaks = Vec::new();
    for count in [20_000_usize, 100_000] {
        let zone = TimeZone::get("Europe/Berlin").expect("a zone");
        let now = Timestamp::now();
        let first = now - SignedDuration::from_hours(24 * 29);
        let step = SignedDuration::from_secs(24 * 28 * 3600) / i32::try_from(count).expect("small");
        let rows = (0..count).map(|number| {
            let start = (first + step * i32::try_from(number).expect("small")).to_zoned(zone.clone());
            leg(number, &start.strftime("%Y-%m-%d %H:%M:%S").to_string(), 60)
        });
        let device = Device::start("Europe/Berlin", rows.collect());
        device.state().shape = Shape { grouped: true, ..Shape::default() };
        let site = site_of(&device, "page_size = 1000\ndays_back = 30\nevery = \"10m\"\n");
        let began = std::time::Instant::now();
        let daemon = site.start(None);
        while site.rows_stored() < count {
            assert!(site.health_of("ucm").is_none_or(|(health, _)| health != "stopped"), "{}", site.log());
            assert!(began.elapsed().as_secs() < 1800, "{}", site.log());
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells");
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        let state = device.state();
        let runs = site.query("spool.db", "SELECT sum(requests), sum(pages), sum(records) FROM source_run");
        eprintln!(
            "{count} legs: peak {peak} KiB, {} log-ins, runs {runs:?}, {:?}",
            state.times("login"),
            began.elapsed()
        );
        assert_eq!(state.times("login"), 1);
        peaks.push(peak);
        drop(state);
        site.stop(daemon);
    }
    assert!(peaks[1] < peaks[0] * 5 / 4, "{peaks:?} KiB");
}
