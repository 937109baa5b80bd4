"""What programs do with the SFTP server: upload with verifying, rename, times, modes, append, many open files."""
import sys
import paramiko

port, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect("127.0.0.1", port, user, password, allow_agent=False, look_for_keys=False)
sftp = client.open_sftp()

# Stats what it wrote and compares sizes.
sftp.put("a.csv", "a.csv")
sftp.chmod("a.csv", 0o644)
sftp.utime("a.csv", (1741600800, 1741600800))
assert sftp.stat("a.csv").st_mtime == 1741600800

# Written elsewhere, moved in: once refused, because there is one, once replacing it.
sftp.put("b.csv", "b.csv.tmp")
try:
    sftp.rename("b.csv.tmp", "a.csv")
    raise SystemExit("a file was replaced")
except OSError:
    pass
sftp.posix_rename("b.csv.tmp", "b.csv")
assert sftp.listdir() == ["a.csv", "b.csv"], sftp.listdir()

# Reads what it sent, whole and from the middle.
with sftp.open("b.csv", "rb") as there, open("b.csv", "rb") as here:
    whole = here.read()
    assert there.read() == whole
    there.seek(1000)
    assert there.read(100) == whole[1000:1100]

# A zero-byte probe, and its removal.
sftp.open("probe", "w").close()
sftp.remove("probe")

# Same rows once more, in pieces out of order, with a cut.
with sftp.open("again.csv", "w") as there:
    there.seek(500)
    there.write(whole[500:])
    there.seek(0)
    there.write(whole[:500])
    there.write(b"")
    there.truncate(len(whole))
assert sftp.stat("again.csv").st_size == len(whole)

# Many at once.
files = [sftp.open("many-%d.csv" % number, "w") for number in range(50)]
for file in files:
    file.write(whole[:256])
for number, file in enumerate(files):
    file.close()
    sftp.remove("many-%d.csv" % number)

# What cannot be is refused and does no harm.
for refused in (
    lambda: sftp.symlink("/etc/passwd", "link"),
    lambda: sftp.open("../../../../etc/passwd"),
    lambda: sftp.stat("/etc/passwd"),
    lambda: sftp.remove("nothing"),
    lambda: sftp.rmdir("/"),
    lambda: sftp.mkdir("a.csv"),
    lambda: sftp.open("x" * 300, "w"),
):
    try:
        refused()
        raise SystemExit("something was not refused")
    except OSError:
        pass

# No shell, no command, no forwarding: an answer, at once.
for ask in (lambda channel: channel.exec_command("id"), lambda channel: channel.invoke_shell(), lambda channel: channel.get_pty()):
    channel = client.get_transport().open_session(timeout=20)
    try:
        ask(channel)
        raise SystemExit("a command was not refused")
    except paramiko.SSHException:
        pass
try:
    client.get_transport().open_channel("direct-tcpip", ("127.0.0.1", 22), ("127.0.0.1", 1), timeout=20)
    raise SystemExit("forwarding was not refused")
except paramiko.SSHException:
    pass
client.close()

# Clients that only know how to be asked.
asked = paramiko.Transport(("127.0.0.1", port))
asked.start_client(timeout=20)
asked.auth_interactive(user, lambda title, text, prompts: [password for _ in prompts])
assert asked.is_authenticated()
assert paramiko.SFTPClient.from_transport(asked).listdir() == ["a.csv", "again.csv", "b.csv"]
asked.close()
print("all is well")
