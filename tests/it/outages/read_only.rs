//! Disks that become read-only under the running daemon, by the kernel's own hand: it says so, nothing is lost, and it goes on
//! when they can be written again.

use super::{Rig, Small};
use crate::site::{Site, asterisk_rows, files_below};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn runs(command: &str, arguments: &[&std::ffi::OsStr]) -> bool {
    let mut command = Command::new(command);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Mounts it otherwise; a file that is just being written must be closed first.
fn remount(path: &Path, how: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !runs("mount", &["-o".as_ref(), how.as_ref(), path.as_ref()]) {
        assert!(Instant::now() < deadline, "{how} {}", path.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn originals_and_bodies_on_a_disk_that_is_mounted_read_only_wait_until_it_is_not() {
    let site = Site::new("UTC", "DE");
    let Some(originals) = Small::at(site.path("var/originals"), "size=16m") else { return };
    let Some(spool) = Small::at(site.path("var/spool"), "size=16m") else { return };
    let mut rig = Rig::on(site, "", &[]);
    rig.send(3);
    rig.stored();
    let said = rig.site.log().len();
    for small in [&originals, &spool] {
        remount(&small.0, "remount,ro");
    }
    rig.send(3);
    rig.send(2000);
    rig.until("told", |rig| {
        let log = rig.site.log();
        let told = |line: &str| line.contains("var/originals") && line.contains("is mounted read-only");
        log[said..].lines().any(told)
    });
    // A body that must be copied is refused: whoever sends it keeps it.
    let import = rig.site.path("import.csv");
    fs::write(&import, asterisk_rows(rig.calls..rig.calls + 2000)).expect("our folder");
    let refused = rig.site.cdrd(&["import", "import.csv"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains("var/spool") && words.contains("is mounted read-only"), "{words}");
    for small in [&originals, &spool] {
        remount(&small.0, "remount,rw");
    }
    rig.stored();
    rig.well();
    assert!(rig.site.cdrd(&["import", "import.csv"]).status.success(), "{}", rig.site.log());
    rig.calls += 2000;
    rig.stored();
    rig.site.stop(rig.daemon);
    assert!(files_below(&rig.site.path("var/spool")).is_empty());
    assert_eq!(files_below(&rig.site.path("var/originals")).len(), 4);
}

/// What ext4 does when it finds itself damaged. Only a check of the file system that is not mounted makes it writable.
#[test]
fn a_file_system_that_the_kernel_makes_read_only_loses_nothing() {
    let site = Site::new("UTC", "DE");
    let aside = tempfile::tempdir().expect("a temporary folder can be made");
    let image = aside.path().join("disk");
    fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("there is room");
    if !runs("mkfs.ext4", &["-q".as_ref(), image.as_ref()]) {
        eprintln!("not tried: there is no mkfs.ext4");
        return;
    }
    let image = image.to_string_lossy().into_owned();
    let Some(disk) = Small::mounted(site.path("var"), &["-o", "loop,errors=remount-ro", &image]) else {
        return;
    };
    let mut rig = Rig::on(site, "[keep]\nreserve = \"1MiB\"\n", &[]);
    rig.send(3);
    rig.stored();
    // One that is acknowledged and not stored when it happens.
    let other = super::Other::runs(&rig.site.path("var/cdr.db"), "BEGIN IMMEDIATE;");
    rig.send(3);
    rig.until("received", |rig| rig.waiting() == "1");
    let said = rig.site.log().len();
    let mounts = fs::read_to_string("/proc/mounts").expect("Linux");
    let place = disk.0.to_string_lossy().into_owned();
    let device = mounts.lines().rfind(|line| line.contains(&place)).and_then(|line| line.split(' ').next());
    let device = device.and_then(|device| device.rsplit('/').next()).expect("it is mounted");
    if fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").is_err() {
        eprintln!("not tried: this kernel cannot be asked to find its ext4 damaged");
        return;
    }
    drop(other);
    rig.send(3);
    rig.until("told", |rig| rig.site.log()[said..].contains("read-only"));
    std::thread::sleep(Duration::from_secs(2));
    rig.until("still there", |rig| rig.health()["status"].is_string());
    assert!(rig.site.path("inbox/00006.csv").exists(), "what was not received stays with its sender");
    let Rig { site, daemon, calls } = rig;
    site.stop(daemon);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !runs("umount", &[disk.0.as_ref()]) {
        assert!(Instant::now() < deadline, "somebody still uses it");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!site.path("var/cdr.db").exists(), "it is not mounted");
    // 1: it found errors and mended them.
    let checked = Command::new("e2fsck").args(["-fy", &image]).output().expect("it comes with mkfs.ext4");
    assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
    let again = ["-o".as_ref(), "loop".as_ref(), image.as_ref(), disk.0.as_os_str()];
    assert!(runs("mount", &again), "it was mounted before");
    let daemon = site.start_with(&[]);
    let mut rig = Rig { site, daemon, calls };
    rig.stored();
    for database in ["cdr.db", "spool.db"] {
        assert_eq!(rig.site.query(database, "PRAGMA integrity_check"), ["ok"], "{database}");
    }
    rig.site.stop(rig.daemon);
}
