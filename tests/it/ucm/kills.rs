//! Killed between every two steps of a cycle, it goes on where it was: every leg once, and no page is lost.

use super::{assert_table, assert_well_asked, expected, read_all, site_of, sixty};
use crate::ucm_double::Device;
use std::os::unix::process::ExitStatusExt as _;

/// What comes after each step, and how many times a start is killed there.
const POINTS: [(&str, u64); 6] = [
    // There is a session.
    ("poll-logged-in", 0),
    // A page is in hand.
    ("poll-answered", 1),
    // It is durable, and with the last one the bookmark.
    ("accept-durable", 1),
    ("poll-accepted", 2),
    // A window ends.
    ("poll-window", 1),
    // Rows are being stored.
    ("commit-inside", 1),
];

#[test]
fn a_kill_between_any_two_steps_of_a_cycle_changes_nothing() {
    for (point, step) in POINTS {
        let device = Device::start("Europe/Berlin", sixty());
        device.state().shape.grouped = true;
        let site = site_of(&device, "page_size = 3\n");
        let mut kills = 0;
        for hit in 0..6 {
            let mut daemon = site.start(Some(&format!("{point}:{}", 1 + hit * step)));
            let mut ended = None;
            site.until("killed or read", || {
                ended = daemon.0.try_wait().expect("the child is ours");
                ended.is_some() || (site.rows_stored() == 60 && site.nothing_waits())
            });
            let Some(status) = ended else { break };
            assert_eq!(status.signal(), Some(9), "{point}: {}", site.log());
            kills += 1;
        }
        assert!(kills > 0, "{point} was never reached");
        let daemon = read_all(&site);
        site.stop(daemon);
        assert_table(&site, expected(), point);
        assert_well_asked(&device.state());
        let odd = "SELECT name, state FROM delivery WHERE state NOT IN ('done', 'repeated')";
        assert_eq!(site.query("cdr.db", odd), [""; 0], "{point}");
        let sums = "SELECT sum(legs_added - legs_withdrawn) FROM document";
        assert_eq!(site.query("cdr.db", sums), ["60"], "{point}");
    }
}
