//! The commands that only read, on a database and a spool made by hand: what they print, to a pipe and as JSON.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

type Tested = Result<(), Box<dyn std::error::Error>>;

const LEGS: &str = include_str!("../../migrations/sqlite/0001_legs.sql");

/// What the commands rely on in spool.db.
const SPOOL: &str = "
    CREATE TABLE receipt (id TEXT PRIMARY KEY, state TEXT, origin TEXT, source TEXT, account TEXT, peer TEXT, name TEXT,
        received_at TEXT, bytes INTEGER);
    CREATE TABLE source_state (source TEXT PRIMARY KEY, health TEXT, message TEXT, since TEXT, updated_at TEXT,
        heard_at TEXT, silent_since TEXT);
    INSERT INTO receipt VALUES ('01JQ00000000000000000000B2', 'claiming', 'pbx', 'inbox', NULL, NULL, 'late.csv',
        '2025-03-31 10:00:00.000', 2048);
    INSERT INTO source_state VALUES ('inbox', 'stopped', 'the folder is gone; mount it again',
        '2025-03-31 10:00:01.000', '2025-03-31 10:00:01.000', NULL, NULL);";

const ROWS: &str = "
    INSERT INTO origin (name, key, time_zone, clock_fault, created_at) VALUES ('pbx', 'pbx', 'Europe/Berlin', 'calls seem to start 1 h 00 min after', '2025-03-31 08:00:00.000');
    INSERT INTO delivery (id, source, origin, name, bytes, received_at, state, rows_read, stored, rejected)
        VALUES ('01JQ00000000000000000000A1', 'inbox', 'pbx', 'first' || char(27) || '[2J.csv', 300,
                '2025-03-31 09:00:00.000', 'done_with_rejects', 2, 1, 1);
    INSERT INTO layout (id, hash, format, kind, dialect, headers, places)
        VALUES (1, x'00', 'asterisk-cdr-csv', 'leg', '{\"separator\":\",\"}', '[\"src\",\"start\",\"dst\"]', '[]');
    INSERT INTO document (id, delivery_id, number, run, path, format, state, next_row, claim, rows_read, stored, rejected,
                          legs_added)
        VALUES (7, '01JQ00000000000000000000A1', 1, 1, '', 'asterisk-cdr-csv', 'done', 3, 'c', 2, 1, 1, 1);
    INSERT INTO rejected VALUES (17, 7, 2, 120, 27, CAST('201,31 February,0301234' AS BLOB), 'start', 'start_invalid',
        'the start is no time; mend the row and send it again', NULL);
    INSERT INTO cdr (key_day, identity, leg, origin, source, system, format, call_group, call_head, started_at,
                     utc_offset_min, time_precision, time_ambiguous, talk_s, direction, disposition, caller, caller_name,
                     callee, delivery_id, document_id, row_number, byte_offset, byte_length, versions, version_hash,
                     change_seq, stored_at)
        VALUES (20178, x'0102', 0, 'pbx', 'inbox', 'asterisk', 'asterisk-cdr-csv', 'g', 1, '2025-03-31 08:15:00.000',
                120, 'second', 0, 75, 'outbound', 'answered', '201', 'Ada' || char(10) || 'Muster', '+49301234567',
                '01JQ00000000000000000000A1', 7, 1, 0, 40, 1, x'00', 1, '2025-03-31 09:00:01.000');";

/// A folder with a configuration and, if wished, a database and a spool.
fn place(stored: bool) -> Result<TempDir, Box<dyn std::error::Error>> {
    let folder = TempDir::new()?;
    std::fs::write(folder.path().join("config.toml"), include_str!("../../config.toml"))?;
    if stored {
        std::fs::create_dir(folder.path().join("var"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            for (file, statements) in [("cdr.db", [LEGS, ROWS]), ("spool.db", [SPOOL, ""])] {
                let path = folder.path().join("var").join(file);
                let mut connection =
                    SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await?;
                for statement in statements {
                    connection.execute(sqlx::raw_sql(statement)).await?;
                }
                connection.close().await?;
            }
            Ok::<_, sqlx::Error>(())
        })?;
    }
    Ok(folder)
}

fn cdrd(folder: &Path, arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_cdrd"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("STATE_DIRECTORY")
        .env("TZ", "Europe/Berlin")
        .output()
}

/// Standard output of a command that must end well.
fn shown(folder: &Path, arguments: &[&str]) -> Result<String, Box<dyn std::error::Error>> {
    let output = cdrd(folder, arguments)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), errors.as_ref()), (Some(0), ""), "{arguments:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn legs_are_listed_on_the_clock_of_the_pbx_and_safe_for_a_terminal() -> Tested {
    let folder = place(true)?;
    assert_eq!(
        shown(folder.path(), &["calls"])?,
        "started\tdirection\tdisposition\tcaller\tcallee\ttalk\torigin\n\
         2025-03-31 10:15:00 +02:00\toutbound\tanswered\t201 (Ada\\x0aMuster)\t+49301234567\t1:15\tpbx\n"
    );
    assert_eq!(shown(folder.path(), &["calls", "--until", "2025-03-31 10:15", "--json"])?, "");
    let json: serde_json::Value =
        serde_json::from_str(&shown(folder.path(), &["calls", "--json", "--since", "2025-03-31 10:15"])?)?;
    assert_eq!(json["caller_name"], "Ada\nMuster");
    assert_eq!(json["row_number"], 1);
    Ok(())
}

#[test]
fn deliveries_include_those_that_wait_at_the_door() -> Tested {
    let folder = place(true)?;
    assert_eq!(
        shown(folder.path(), &["deliveries"])?,
        "id\treceived\tsource\tname\tstate\trows\tbytes\tstored\tduplicate\tamended\trejected\tskipped\theld\n\
         01JQ00000000000000000000B2\t2025-03-31 10:00:00Z\tinbox\tlate.csv\twaiting\t0\t2048\t0\t0\t0\t0\t0\t0\n\
         01JQ00000000000000000000A1\t2025-03-31 09:00:00Z\tinbox\tfirst\\x1b[2J.csv\tdone_with_rejects\t2\t300\t1\t0\
         \t0\t1\t0\t0\n"
    );
    Ok(())
}

#[test]
fn the_status_tells_health_backlog_and_what_is_rejected() -> Tested {
    let folder = place(true)?;
    let status = shown(folder.path(), &["status"])?;
    for line in [
        "daemon     not running; what follows is as it was left",
        "waiting    deliveries 1, 2.0 KiB, the oldest from 2025-03-31 10:00:00Z",
        "rejected   1 open: `cdrd rejected list` says why",
        "source     inbox: stopped since 2025-03-31 10:00:01Z: the folder is gone; mount it again",
        "clock      origin pbx: calls seem to start 1 h 00 min after",
    ] {
        assert!(status.lines().any(|shown| shown == line), "{line:?} is missing in:\n{status}");
    }
    let json: serde_json::Value = serde_json::from_str(&shown(folder.path(), &["status", "--json"])?)?;
    assert_eq!(
        (&json["legs"], &json["pid"], &json["waiting"]["deliveries"]),
        (&1.into(), &serde_json::Value::Null, &1.into())
    );
    assert_eq!(json["origins"][0]["clock_fault"], "calls seem to start 1 h 00 min after");
    Ok(())
}

#[test]
fn a_rejected_row_is_shown_with_place_mend_and_marked_field() -> Tested {
    let folder = place(true)?;
    assert_eq!(
        shown(folder.path(), &["rejected", "list"])?,
        "count\treason\tformat\tsource\tlatest\tlatest id\n\
         1\tstart_invalid\tasterisk-cdr-csv\tinbox\t2025-03-31 09:00:00Z\t17\n"
    );
    assert_eq!(
        shown(folder.path(), &["rejected", "show", "17"])?,
        "delivery  01JQ00000000000000000000A1 first\\x1b[2J.csv from inbox\n\
         document  1 (the whole body)\n\
         format    asterisk-cdr-csv\n\
         place     row 2, bytes 120 to 147\n\
         reason    start_invalid\n\
         field     start\n\
         message   the start is no time; mend the row and send it again\n\
         retry     cdrd rejected retry 17 (once the cause is mended)\n\
         original  cdrd original 01JQ00000000000000000000A1 --document 1\n\
         \n\
         201,>>>31 February<<<,0301234\n"
    );
    let output = cdrd(folder.path(), &["rejected", "show", "18"])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no rejection 18"));
    Ok(())
}

#[test]
fn sql_reads_database_and_spool_and_writes_neither() -> Tested {
    let folder = place(true)?;
    let sql = |statement| shown(folder.path(), &["sql", statement]);
    assert_eq!(sql("SELECT caller, talk_s FROM cdr")?, "caller\ttalk_s\n201\t75\n");
    assert_eq!(sql("SELECT caller FROM cdr WHERE 0")?, "caller\n");
    assert_eq!(sql("SELECT name FROM spool.receipt")?, "name\nlate.csv\n");
    assert_eq!(
        shown(folder.path(), &["sql", "--json", "SELECT identity, null AS n, 1.5 AS r FROM cdr"])?,
        "{\"identity\":\"0102\",\"n\":null,\"r\":1.5}\n"
    );
    for write in [
        "DELETE FROM cdr",
        "UPDATE spool.receipt SET state = 'x'",
        "PRAGMA query_only = OFF; DELETE FROM cdr",
        "CREATE TABLE t (a)",
        "vacuum into 'copy.db'",
        "SELECT 1; ATTACH 'other.db' AS o",
    ] {
        let output = cdrd(folder.path(), &["sql", write])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{write}");
        assert!(said.contains("only reads, write a SELECT"), "{write}: {said}");
    }
    let output = cdrd(folder.path(), &["sql", "SELEC 1"])?;
    assert_eq!(
        String::from_utf8(output.stderr)?,
        "cdrd: the database refuses this: near \"SELEC\": syntax error; mend the statement, or check the file with \
         `sqlite3 FILE 'PRAGMA integrity_check'`\n"
    );
    assert_eq!(sql("SELECT count(*) AS n FROM cdr")?, "n\n1\n");
    Ok(())
}

#[test]
fn without_a_database_each_command_says_what_creates_it() -> Tested {
    let folder = place(false)?;
    for arguments in [&["calls"][..], &["deliveries"], &["rejected", "list"], &["sql", "SELECT 1"]] {
        let output = cdrd(folder.path(), arguments)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(said.contains("there is no database yet at") && said.contains("cdrd run"), "{said}");
    }
    assert!(shown(folder.path(), &["status"])?.contains("none yet at"));
    assert!(!folder.path().join("var").exists(), "looking creates nothing");
    Ok(())
}

#[test]
fn check_says_what_it_found_and_exits_2_on_faults() -> Tested {
    let folder = place(false)?;
    let said = shown(folder.path(), &["check"])?;
    assert!(said.contains("ok      origin pbx: zone Europe/Berlin, this host's"), "{said}");
    assert!(said.contains("inbox does not exist; `cdrd run` creates it"), "{said}");
    assert!(said.ends_with("config.toml: 0 wrong, 0 warnings\n"), "{said}");

    std::fs::write(folder.path().join("inbox"), "a file")?;
    let output = cdrd(folder.path(), &["check"])?;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stdout)?;
    let config = std::fs::read_to_string(folder.path().join("config.toml"))?;
    let line = 1 + config.lines().position(|line| line == "[[source]]").ok_or("no source")?;
    assert!(said.contains(&format!("wrong   config.toml:{line}: source.path: ")), "{said}");
    assert!(said.contains("inbox is no folder; name the folder"), "{said}");

    std::fs::write(folder.path().join("config.toml"), "nonsense = 1\n")?;
    let output = cdrd(folder.path(), &["check"])?;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr)?.contains("config.toml:1: nonsense: there is no such key"));
    Ok(())
}

#[test]
fn explain_shows_each_field_beside_the_columns_that_it_becomes() -> Tested {
    let folder = place(false)?;
    let file = crate::site::repository("fixtures/tour/Master.csv");
    let output = cdrd(folder.path(), &["explain", "--rows", "1", &file.display().to_string()])?;
    assert_eq!(output.status.code(), Some(3), "one row would be rejected");
    let said = String::from_utf8(output.stdout)?;
    for line in [
        "  dialect  16 columns, UTF-8, separator ','; dates year first, times in the origin's zone",
        "    src          301                  caller, caller_number",
        "    start        2025-03-12 10:20:01  started_at 2025-03-12 09:20:01.000, utc_offset_min 60, started_local",
        "    computed  ring_s 5, direction internal",
        "    kept      lastapp Dial, lastdata PJSIP/302,30, amaflags DOCUMENTATION",
    ] {
        assert!(said.lines().any(|shown| shown == line), "{line:?} is missing in:\n{said}");
    }
    std::fs::write(folder.path().join("notes.txt"), "no calls in here\n")?;
    let output = cdrd(folder.path(), &["explain", "notes.txt"])?;
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stdout)?;
    assert!(said.contains("format_unknown: no format claims this document; if it holds calls"), "{said}");
    assert_eq!(said.matches("asterisk-cdr-csv").count(), 1, "each refusal is said once:\n{said}");
    Ok(())
}

#[test]
fn the_zone_of_an_auto_origin_is_the_hosts_at_first_start() -> Tested {
    let folder = place(false)?;
    let fixtures = crate::site::repository("fixtures/tour");
    for (file, zone, code) in [("ucm-export.csv", "Europe/Berlin", 0), ("Master.csv", "America/New_York", 3)]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_cdrd"))
            .arg("import")
            .arg(fixtures.join(file))
            .current_dir(folder.path())
            .env_remove("STATE_DIRECTORY")
            .env("TZ", zone)
            .output()?;
        let log = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(code), "{log}");
        // One line for the delivery, and in it nobody's name or number.
        assert!(log.contains(&format!("{file} from import: done")) && log.contains(" stored"), "{log}");
        for secret in ["Workshop", "Reception", "01632960", "\"301\""] {
            assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
        }
    }
    assert_eq!(
        shown(folder.path(), &["sql", "SELECT utc_offset_min AS m, count(*) AS n FROM cdr GROUP BY 1"])?,
        "m\tn\n60\t6\n"
    );
    assert!(
        shown(folder.path(), &["check"])?
            .contains("zone Europe/Berlin, this host's when it was first started")
    );
    Ok(())
}

#[test]
fn a_clock_fault_is_shown_until_the_zone_is_mended() -> Tested {
    let folder = place(false)?;
    let config = |zone: &str| {
        let text = include_str!("../../config.toml").replace("\"auto\" ", &format!("\"{zone}\" "));
        std::fs::write(folder.path().join("config.toml"), text)
    };
    // A start at 12:00 in a zone two hours east of UTC, by the second in the channel's id.
    let import = |name: &str, id: i64| {
        let row = format!(
            "\"\",\"201\",\"202\",\"internal\",\"\",\"SIP/201-1\",\"SIP/202-2\",\"Dial\",\"x\",\"2025-07-01 12:00:{id:02}\",\
             \"2025-07-01 12:00:30\",\"2025-07-01 12:01:00\",60,30,\"ANSWERED\",\"DOCUMENTATION\",\"{}.1\",\"\"\n",
            1_751_364_000 + id
        );
        std::fs::write(folder.path().join(name), row)?;
        cdrd(folder.path(), &["import", name])
    };
    config("UTC")?;
    let log = String::from_utf8(import("first.csv", 1)?.stderr)?;
    assert!(log.contains("origin \"pbx\" is misconfigured: calls seem to start 2 h 00 min after"), "{log}");
    assert!(shown(folder.path(), &["status"])?.contains("clock      origin pbx: calls seem to start 2 h"));
    let log = String::from_utf8(import("second.csv", 2)?.stderr)?;
    assert!(!log.contains("misconfigured"), "said once:\n{log}");
    config("Europe/Berlin")?;
    import("third.csv", 3)?;
    assert!(!shown(folder.path(), &["status"])?.contains("clock "));
    Ok(())
}

/// Whoever may read the files but not write to their folder, like a member of the group while no daemon runs.
#[test]
fn who_may_only_read_can_ask_a_database_at_rest() -> Tested {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = place(true)?;
    let path = folder.path();
    // Root may write everywhere, so that it becomes somebody else, who needs a program that he can reach.
    let program = path.join("cdrd");
    std::fs::copy(env!("CARGO_BIN_EXE_cdrd"), &program)?;
    for database in ["var/cdr.db", "var/spool.db"] {
        let mode =
            Command::new("sqlite3").arg(path.join(database)).arg("PRAGMA journal_mode = WAL").output()?;
        assert!(mode.status.success(), "sqlite3 is installed by tests/run");
        std::fs::set_permissions(path.join(database), std::fs::Permissions::from_mode(0o444))?;
    }
    std::fs::set_permissions(path.join("var"), std::fs::Permissions::from_mode(0o555))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command
    } else {
        Command::new(&program)
    };
    let output = command.arg("status").current_dir(path).env_remove("STATE_DIRECTORY").output()?;
    std::fs::set_permissions(path.join("var"), std::fs::Permissions::from_mode(0o755))?;
    assert_eq!(String::from_utf8(output.stderr)?, "");
    let said = String::from_utf8(output.stdout)?;
    assert!(said.contains(" 1 legs") && said.contains("source     inbox: stopped"), "{said}");
    Ok(())
}

#[test]
fn an_origin_that_lost_its_stanza_is_missed() -> Tested {
    let folder = place(true)?;
    let renamed = include_str!("../../config.toml").replace("\"pbx\"", "\"hq\"");
    std::fs::write(folder.path().join("config.toml"), &renamed)?;
    let output = cdrd(folder.path(), &["check"])?;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stdout)?
            .contains("origin \"pbx\" has rows in the database but no [[origin]]")
    );
    let mended = renamed.replace("# formerly = \"old-name\"", "formerly = \"pbx\"");
    std::fs::write(folder.path().join("config.toml"), mended)?;
    shown(folder.path(), &["check"])?;
    Ok(())
}

#[test]
fn wrong_usage_is_2_and_help_is_0() -> Tested {
    let folder = TempDir::new()?;
    assert_eq!(cdrd(folder.path(), &["--help"])?.status.code(), Some(0));
    assert_eq!(cdrd(folder.path(), &["nonsense"])?.status.code(), Some(2));
    assert_eq!(cdrd(folder.path(), &["calls", "--since", "yesterday"])?.status.code(), Some(2));
    let site = place(false)?;
    for wrong in [["--origin", "nobody"], ["--format", "nonsense"], ["--time-zone", "Mars/Olympus"]] {
        for command in ["import", "explain"] {
            let output = cdrd(site.path(), &[&[command, "config.toml"], &wrong[..]].concat())?;
            assert_eq!(output.status.code(), Some(2), "{command} {wrong:?}");
            assert!(String::from_utf8(output.stderr)?.contains(wrong[1]), "{command} {wrong:?}");
        }
    }
    assert_eq!(cdrd(site.path(), &["import", "missing.csv"])?.status.code(), Some(1));
    // No configuration here; where the host has one, it is a good one or exit 2 as well.
    if !Path::new("/etc/cdrd/config.toml").exists() {
        let output = cdrd(folder.path(), &["status"])?;
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr)?.contains("--config FILE"));
    }
    Ok(())
}
