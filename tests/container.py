"""What happens to the package inside the container; see tests/container. Every call that is sent must be stored once."""

import ctypes
import os
import pwd
import sqlite3
import stat
import subprocess
import threading
import time

INBOX, STATE, CONFIG = "/srv/cdrd/inbox", "/var/lib/cdrd", "/etc/cdrd/config.toml"
sent = 0
lock = threading.Lock()


def say(text):
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


def run(*command, code=0, user=None):
    if user:
        command = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *command)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if code is not None and done.returncode != code:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def rows(count):
    """The next calls, none of them ever sent before."""
    global sent
    with lock:
        first, sent = sent, sent + count
    text = ""
    for call in range(first, first + count):
        start = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(1741600800 + call))
        text += (
            f'"","0301234567","201","from-trunk","""A"" <0301234567>","PJSIP/trunk-{call:08x}","PJSIP/201-{call:08x}",'
            f'"Dial","PJSIP/201,20","{start}","{start}","{start}",9,9,"ANSWERED","DOCUMENTATION","pbx-{1741600800 + call}.{call}",""\n'
        )
    return text


DROP = "import os,sys; os.umask(0o022); open(sys.argv[1]+'/.tmp-'+sys.argv[2],'w').write(sys.stdin.read()); os.rename(sys.argv[1]+'/.tmp-'+sys.argv[2], sys.argv[1]+'/'+sys.argv[2])"


def drop(count, folder=INBOX):
    """A file from another user of the group."""
    text = rows(count)
    name = f"calls-{sent}-{threading.get_ident()}.csv"
    command = ["setpriv", "--reuid=dropper", "--regid=dropper", "--init-groups", "python3", "-c", DROP, folder, name]
    subprocess.run(command, input=text, text=True, check=True)


def stored():
    try:
        with sqlite3.connect(f"file:{STATE}/cdr.db?mode=ro", uri=True, timeout=20) as db:
            return db.execute("SELECT count(*), count(DISTINCT unique_id) FROM cdr").fetchone()
    except sqlite3.OperationalError:
        return (-1, -1)


def wait(what, done, seconds=120):
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise SystemExit(
                f"{what} did not come: sent {sent}, stored {stored()}\n"
                + run("systemctl", "status", "--no-pager", "-n40", "cdrd", code=None)
                + run("cdrd", "status", code=None)
            )
        time.sleep(0.1)


def exact(what):
    wait(f"every call ({what})", lambda: stored() == (sent, sent), 240)
    say(f"{what}: {sent} calls sent, {sent} stored, none twice")


def show(name):
    return run("systemctl", "show", "-P", name, "cdrd").strip()


class Load:
    """Somebody who keeps sending meanwhile."""

    def __init__(self, calls=7):
        self.calls = calls

    def __enter__(self):
        self.on = True
        self.thread = threading.Thread(target=self.send)
        self.thread.start()
        return self

    def send(self):
        while self.on:
            drop(self.calls)

    def __exit__(self, *_):
        self.on = False
        self.thread.join()


def drop_in(text):
    os.makedirs("/etc/systemd/system/cdrd.service.d", exist_ok=True)
    with open("/etc/systemd/system/cdrd.service.d/proof.conf", "w") as file:
        file.write("[Service]\n" + text)
    run("systemctl", "daemon-reload")


def install():
    # Small, so that it can be filled; above the reserve.
    os.makedirs(STATE)
    run("mount", "-t", "tmpfs", "-o", "size=760m,mode=0750", "tmpfs", STATE)
    print(run("dpkg", "-i", "/proof/cdrd_0.1.0_amd64.deb"))
    user = pwd.getpwnam("cdrd")
    found = os.stat(INBOX)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (user.pw_uid, user.pw_gid, 0o2770), found
    assert run("systemctl", "is-enabled", "cdrd", code=None).strip() == "disabled"
    run("useradd", "--no-create-home", "--groups", "cdrd", "dropper")
    run("useradd", "--no-create-home", "stranger")
    for page in ["/usr/share/man/man1/cdrd.1.gz", "/usr/share/bash-completion/completions/cdrd"]:
        # A minimal Debian leaves manual pages out.
        assert os.path.exists(page) or "man" in page, page
    # A fast program stores so much while it is hung and killed that the usual reserve would be reached.
    with open("/etc/cdrd/config.d/keep.toml", "w") as file:
        file.write('[keep]\nreserve = "64MiB"\n')
    drop_in("WatchdogSec=15s\nRestartSec=1s\n")
    run("systemctl", "start", "cdrd")
    assert show("ActiveState") == "active"
    say(f"installed and started: {show('StatusText')}")
    say("sandbox: " + run("systemd-analyze", "security", "cdrd", code=None).strip().splitlines()[-1])


def use():
    for _ in range(20):
        drop(10)
    exact("files of another user of the group")
    assert run("cdrd", "sql", "SELECT count(*) FROM cdr", user="dropper").split()[-1] == str(sent)
    assert "unable to open" in run("sqlite3", "-readonly", f"{STATE}/cdr.db", "SELECT 1", user="stranger", code=None)
    with open("/tmp/import.csv", "w") as file:
        file.write(rows(11))
    run("cdrd", "import", "/tmp/import.csv", user="dropper")
    assert "only root" in run("cdrd", "replay", "--all", user="dropper", code=1)
    print(run("cdrd", "replay", "--all"))
    exact("imported by one of the group, replayed by root")
    roots = run("find", STATE, "-mindepth", "1", "!", "-user", "cdrd")
    assert roots == "", roots


def upgrade():
    before = show("MainPID")
    with Load():
        time.sleep(1)
        print(run("dpkg", "-i", "/proof/cdrd_0.1.1_amd64.deb"))
        time.sleep(1)
    assert show("ActiveState") == "active" and show("MainPID") != before
    exact("upgraded under load")


def kill():
    with Load():
        for _ in range(5):
            time.sleep(1)
            pid = int(show("MainPID"))
            if pid:
                os.kill(pid, 9)
            wait("the restart", lambda: show("ActiveState") == "active" and show("MainPID") != str(pid))
    exact("killed five times under load")


def bitten(writer, restarted, load):
    """Whether the watchdog bites; a thread that is traced is buried by its tracer."""
    mark, began = "the store's writer", time.monotonic()
    said = False
    while time.monotonic() < began + (80 if said else 20):
        if not said and mark in run("journalctl", "-u", "cdrd", "--no-pager", "-o", "cat"):
            # Enough was sent; the rest is waiting.
            said, load.on = True, False
        try:
            os.waitpid(writer, 0x40000000 | os.WNOHANG)
        except ChildProcessError:
            pass
        if restarted():
            return True
        time.sleep(0.2)
    return False


def hang():
    """Stops one thread only, the one that writes the database, in the middle of its work."""
    libc = ctypes.CDLL(None, use_errno=True)
    attach, detach = 16, 17
    pid, restarts = int(show("MainPID")), int(show("NRestarts"))

    def comm(task):
        with open(f"/proc/{pid}/task/{task}/comm") as file:
            return file.read().strip()

    writer = next(int(task) for task in os.listdir(f"/proc/{pid}/task") if comm(task) == "cdrd-writer")

    def state():
        with open(f"/proc/{pid}/task/{writer}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]

    with Load(300) as load:
        until = time.monotonic() + 180
        while True:
            # Between two pieces of work it may stand still as long as it likes.
            if state() == "R":
                if libc.ptrace(attach, writer, 0, 0) != 0:
                    raise SystemExit(f"ptrace: {os.strerror(ctypes.get_errno())}")
                os.waitpid(writer, 0x40000000)
                if bitten(writer, lambda: int(show("NRestarts")) > restarts, load):
                    break
                libc.ptrace(detach, writer, 0, 0)
            if time.monotonic() > until:
                raise SystemExit("the writer was never caught inside its work")
    journal = run("journalctl", "-u", "cdrd", "--no-pager", "-o", "cat")
    assert "the store's writer does not come round any more" in journal, journal[-4000:]
    assert "Watchdog timeout" in journal, journal[-4000:]
    wait("the restart", lambda: show("ActiveState") == "active")
    exact("the writer stood still until the watchdog bit")


def fill():
    with Load():
        room = os.statvfs(STATE)
        with open(f"{STATE}/filler", "wb") as file:
            left = room.f_bavail * room.f_frsize
            try:
                while left > 0:
                    file.write(bytes(min(left, 1 << 20)))
                    left -= 1 << 20
            except OSError as error:
                say(f"the disk is full: {error}")
        wait("the complaint", lambda: "free" in show("StatusText"))
        say(f"status: {show('StatusText')[:160]}")
        time.sleep(2)
        assert show("ActiveState") == "active"
        os.unlink(f"{STATE}/filler")
    exact("the disk was full for a while")


def a_day_on():
    with open("/run/clock", "w") as file:
        file.write("+0d")
    library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
    drop_in(
        f"WatchdogSec=15s\nRestartSec=1s\nEnvironment=LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE=/run/clock "
        "FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1\n"
    )
    run("systemctl", "restart", "cdrd")
    drop(30)
    exact("under a clock that can be set")
    with Load():
        time.sleep(1)
        with open("/run/clock", "w") as file:
            file.write("+1d")
        time.sleep(2)
    assert show("ActiveState") == "active"
    exact("the clock set a day on while it ran")
    with sqlite3.connect(f"file:{STATE}/cdr.db?mode=ro", uri=True) as db:
        days = db.execute("SELECT count(DISTINCT substr(received_at, 1, 10)) FROM delivery").fetchone()
    assert days[0] >= 2, days
    drop_in("WatchdogSec=15s\nRestartSec=1s\n")
    run("systemctl", "restart", "cdrd")
    drop(30)
    exact("and back")


def break_and_mend():
    with open(CONFIG) as file:
        good = file.read()
    pid = show("MainPID")
    with Load():
        with open(CONFIG, "w") as file:
            file.write(good.replace("[[source]]", "[[source]]\nsetle = 1"))
        run("systemctl", "reload", "cdrd", code=1)
        os.kill(int(pid), 1)
        wait("the refusal", lambda: "was not read again" in show("StatusText"))
        assert show("ActiveState") == "active"
        with open(CONFIG, "w") as file:
            file.write(good)
        os.makedirs("/srv/cdrd/second")
        run("chown", "cdrd:cdrd", "/srv/cdrd/second")
        os.chmod("/srv/cdrd/second", 0o2770)
        with open("/etc/cdrd/config.d/second.toml", "w") as file:
            file.write('[[source]]\nname = "second"\nkind = "folder"\norigin = "pbx"\npath = "/srv/cdrd/second"\n')
        run("systemctl", "reload", "cdrd")
        wait("the new source", lambda: "second" in run("cdrd", "status") and "was not" not in show("StatusText"))
    drop(5, "/srv/cdrd/second")
    assert show("MainPID") == pid
    exact("a wrong configuration refused, a right one read, by the same process")
    # A start by a wrong one fails until somebody mends it.
    with open(CONFIG, "w") as file:
        file.write(good.replace("[[source]]", "[[source]]\nsetle = 1"))
    run("systemctl", "restart", "cdrd", code=1)
    drop(5)
    with open(CONFIG, "w") as file:
        file.write(good)
    wait("the start", lambda: show("ActiveState") == "active")
    exact("started by itself when the configuration was mended")


def remove():
    print(run("dpkg", "--remove", "cdrd"))
    assert not os.path.exists("/usr/bin/cdrd") and os.path.exists(CONFIG)
    assert stored() == (sent, sent)
    told = run("dpkg", "--purge", "cdrd")
    assert "are kept in /var/lib/cdrd" in told and not os.path.exists(CONFIG), told
    assert stored() == (sent, sent)
    drop(5)
    run("dpkg", "-i", "/proof/cdrd_0.1.1_amd64.deb")
    run("systemctl", "start", "cdrd")
    exact("removed, purged and installed again over the data")
    with sqlite3.connect(f"file:{STATE}/cdr.db?mode=ro", uri=True) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        odd = "SELECT count(*) FROM document WHERE rows_read <> stored + duplicate + amended + rejected + skipped + held"
        assert db.execute(odd).fetchone() == (0,)
        # A dead process may have left a delivery to be read again; no row of it counts twice.
        assert db.execute("SELECT sum(legs_added - legs_withdrawn) FROM document").fetchone() == (sent,)


BEGAN = time.monotonic()
for step in [install, use, upgrade, kill, hang, fill, a_day_on, break_and_mend, remove]:
    say(f"-- {step.__name__}")
    step()
print("the package passed", flush=True)
