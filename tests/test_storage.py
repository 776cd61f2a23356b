"""Kills, overlapping runs, full disks, denied and damaged files, against the real program as a process."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from site_kit import BEGIN
from site_kit import LOG_NAME
from site_kit import LONG
from site_kit import PLAIN_USER
from site_kit import TIMEOUT
from site_kit import Pen
from site_kit import Site
from site_kit import assert_one_clear_line
from site_kit import kill_group

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = 300 if LONG else 20


def run_as_plain_user(site: Site, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the program as somebody for whom the modes of files count."""
    return subprocess.run(
        PLAIN_USER + site.command(*options), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def test_16_kill_9_at_random_moments(site: Site, pen: Pen, tmp_path: Path) -> None:
    undisturbed = Site(tmp_path / "undisturbed")
    for number in range(3):
        site.write(pen.sessions(1500, prefix=b"old%d-" % number) + pen.queries(5000))
        site.rotate(keep=99, width=2)
    begin = time.monotonic()
    undisturbed.collect(path=site.logs)
    duration = time.monotonic() - begin
    killed = runs = 0
    while killed < KILLS and runs < 5 * KILLS:
        site.write(pen.sessions(40, prefix=b"kill%d-" % (runs % 50)))
        if runs % 3 == 0:
            site.rotate(keep=999, width=2 if KILLS < 90 else 3)
        runs += 1
        process = site.start()
        time.sleep(random.random() * duration)
        alive = process.poll() is None
        duration *= 1.02 if alive else 0.9  # later runs have less to do
        killed += alive
        kill_group(process)
        if site.database.exists() and site.database.stat().st_size:
            assert site.rows("PRAGMA integrity_check") == [("ok",)]
    print(f"runs: {runs}, killed: {killed}")
    site.collect()
    undisturbed.collect(path=site.logs)
    assert killed == KILLS
    assert site.facts() == undisturbed.facts()
    assert site.logins() == pen.truth
    assert site.gaps() == []


def test_17_overlapping_runs(site: Site, pen: Pen) -> None:
    for _ in range(4):
        site.write(pen.sessions(3000) + pen.queries(30_000, 300))
        site.rotate()
    runs = [subprocess.Popen(site.command(), stderr=subprocess.PIPE) for _ in range(4)]
    results = [(run.communicate(timeout=TIMEOUT)[1], run.returncode) for run in runs]
    assert results == [(b"", 0)] * 4
    assert site.logins() == pen.truth


def holds_the_lock(process: subprocess.Popen[bytes], path: Path) -> bool:
    """Tell whether a process has locked a file, without trying to lock it: that could get in its way."""
    if not path.exists():
        return False
    held = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    inode = f":{path.stat().st_ino}"
    return any(lock[1] == "FLOCK" and lock[4] == str(process.pid) and lock[5].endswith(inode) for lock in held)


def test_17_the_second_run_leaves_while_the_first_works(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(10))
    site.collect()
    site.write(pen.sessions(10, prefix=b"new"))
    for _ in range(8):
        site.write(pen.queries(10_000, 400))  # so that the first run is at work for a while
    before, last_run = site.logins(), site.last_run()
    first = site.start("--max-workers", "1")
    try:
        while not holds_the_lock(first, site.database):
            assert first.poll() is None
        os.killpg(first.pid, signal.SIGSTOP)
        assert holds_the_lock(first, site.database)
        site.collect()
        assert (site.logins(), site.last_run()) == (before, last_run)
    finally:
        if first.poll() is None:
            os.killpg(first.pid, signal.SIGCONT)
    assert first.wait(TIMEOUT) == 0
    assert site.logins() == pen.truth


def test_18_a_newer_database_is_refused_and_left_alone(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(5))
    site.collect()
    with closing(sqlite3.connect(site.database)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = site.database.read_bytes()
    site.write(pen.sessions(5, prefix=b"new"))
    assert_one_clear_line(site.run(), str(site.database))
    assert site.database.read_bytes() == before


def test_18_the_older_tools_database_is_taken_over(site: Site, pen: Pen) -> None:
    with closing(sqlite3.connect(site.database)) as connection, connection:
        connection.execute("CREATE TABLE Accounts(name TEXT, host TEXT, last_seen TIMESTAMP, PRIMARY KEY (name, host))")
        connection.executemany(
            "INSERT INTO Accounts VALUES (?,?,?)",
            [
                ("gone", "old.example.com", "2024-10-14 13:23:57+02:00"),
                ("app0", "localhost", "2030-01-01 00:00:00+00:00"),
                ("app1", "app1.example.com", "2020-01-01 00:00:00+00:00"),
            ],
        )
    site.write(pen.sessions(30))
    site.collect()
    rows = {(name, host): seen for name, host, seen in site.rows("SELECT name, host, last_seen FROM Accounts")}
    assert rows["gone", "old.example.com"] == "2024-10-14 11:23:57+00:00"
    assert rows["app0", "localhost"] == "2030-01-01 00:00:00+00:00"
    last = pen.truth[b"app1", b"app1.example.com"][1]
    assert rows["app1", "app1.example.com"] == time.strftime("%Y-%m-%d %H:%M:%S+00:00", time.gmtime(last))


def ten_logs(site: Site, pen: Pen) -> None:
    """Write ten rotated logs; the accounts of each are its own."""
    for number in range(10, 0, -1):
        site.write(pen.sessions(10, prefix=b"log%d-" % number), f"{LOG_NAME}.{number:02d}")


def test_24_one_of_ten_logs_is_not_readable(site: Site, pen: Pen) -> None:
    ten_logs(site, pen)
    denied = site.logs / f"{LOG_NAME}.04"
    denied.chmod(0)
    assert_one_clear_line(run_as_plain_user(site), f"{LOG_NAME}.04")
    readable = {account: seen for account, seen in pen.truth.items() if not account[0].startswith(b"log4-")}
    assert site.logins() == readable
    assert site.last_run() is None
    denied.chmod(0o640)
    site.collect()
    assert site.logins() == pen.truth
    assert site.last_run()


def test_24_the_folder_is_not_readable_or_missing(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(10))
    site.collect()
    before = site.last_run()
    site.logs.chmod(0)
    try:
        assert_one_clear_line(run_as_plain_user(site), str(site.logs))
    finally:
        site.logs.chmod(0o755)
    missing = site.folder / "nowhere"
    assert_one_clear_line(site.run(path=missing), str(missing))
    assert site.last_run() == before
    assert site.logins() == pen.truth


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """Mount a tiny file system; None where that is not allowed."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False).returncode == 0
    yield place if mounted else None
    if mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def no_more_than_64_kb() -> None:
    """Let no file of this process grow: what a quota does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))


def test_24_the_disk_is_full(site: Site, pen: Pen, small_disk: Path | None) -> None:
    if small_disk:
        site.database = small_disk / "audit.sqlite"
    site.write(pen.sessions(10))
    site.collect()
    before, facts = site.last_run(), site.logins()
    site.write(b"".join(pen.session((b"user%d" % number, b"h")) for number in range(20_000)))
    done = subprocess.run(
        site.command(),
        capture_output=True,
        text=True,
        preexec_fn=None if small_disk else no_more_than_64_kb,
        timeout=TIMEOUT,
        check=False,
    )
    assert_one_clear_line(done, str(site.database))
    assert site.logins() == facts
    assert site.last_run() == before
    if small_disk:
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    site.collect()
    assert site.logins() == pen.truth


def test_24_the_database_cannot_be_written(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(10))
    site.collect()
    before, facts = site.last_run(), site.logins()
    site.write(pen.sessions(10, prefix=b"new"))
    files = list(site.database.parent.iterdir())
    for path in files:
        path.chmod(0o444)
    site.database.parent.chmod(0o555)
    try:
        assert_one_clear_line(run_as_plain_user(site), str(site.database))
    finally:
        site.database.parent.chmod(0o755)
        for path in files:
            path.chmod(0o640)
    assert (site.last_run(), site.logins()) == (before, facts)
    site.collect()
    assert site.logins() == pen.truth


def test_24_a_read_only_file_system(site: Site, pen: Pen, small_disk: Path | None) -> None:
    if small_disk is None:
        pytest.skip("mounting a file system needs root")
    site.write(pen.sessions(10))
    site.database = small_disk / "audit.sqlite"
    site.collect()
    site.write(pen.sessions(10, prefix=b"new"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert_one_clear_line(site.run(), str(site.database))
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    site.collect()
    assert site.logins() == pen.truth


def test_24_the_database_is_locked(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(10))
    site.collect()
    before, facts = site.last_run(), site.logins()
    site.write(pen.sessions(10, prefix=b"new"))
    with closing(sqlite3.connect(site.database)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert_one_clear_line(site.run(), str(site.database))
    assert (site.last_run(), site.logins()) == (before, facts)
    site.collect()
    assert site.logins() == pen.truth


def test_24_a_reader_is_never_kept_out(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(2000))
    site.collect()
    slowest = 0.0
    site.write(pen.sessions(20_000, prefix=b"new") + pen.queries(20_000))
    run = site.start()
    with closing(sqlite3.connect(site.database, timeout=5)) as reader:
        while run.poll() is None:
            begin = time.monotonic()
            reader.execute("SELECT count(*) FROM Accounts").fetchall()
            slowest = max(slowest, time.monotonic() - begin)
    assert run.returncode == 0
    assert slowest < 1


@pytest.mark.parametrize("damage", ["text", "noise", "header", "truncated"])
def test_24_the_database_is_damaged_or_none(site: Site, pen: Pen, damage: str) -> None:
    site.write(b"".join(pen.session((b"user%d" % number, b"h")) for number in range(2000)))
    site.collect()
    whole = site.database.read_bytes()
    noise = random.Random(1).randbytes
    spoilt = {
        "text": b"these are my notes\n" * 500,
        "noise": whole[:4096] + noise(len(whole) - 4096),
        "header": noise(100) + whole[100:],
        "truncated": whole[: len(whole) // 2],
    }[damage]
    for part in site.database.parent.iterdir():
        part.unlink()
    site.database.write_bytes(spoilt)
    site.write(pen.sessions(5))
    assert_one_clear_line(site.run(), str(site.database))
    assert site.database.read_bytes() == spoilt
    for part in site.database.parent.iterdir():
        part.unlink()
    site.collect()  # what the message told to do: put it aside
    assert site.logins() == pen.truth


def test_24_the_database_is_a_folder(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(5))
    site.database.mkdir()
    assert_one_clear_line(site.run(), str(site.database))


def test_24_things_that_are_no_files(site: Site, pen: Pen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write(pen.sessions(10))
    os.mkfifo(site.logs / f"{LOG_NAME}.1")
    (site.logs / f"{LOG_NAME}.2").symlink_to(f"{LOG_NAME}.2")
    (site.logs / f"{LOG_NAME}.3").mkdir()
    (site.logs / f"{LOG_NAME}.4").symlink_to("/dev/zero")
    (site.logs / f"{LOG_NAME}.5").symlink_to("vanished")
    monkeypatch.chdir(site.logs)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{LOG_NAME}.6")
    outside = tmp_path / "elsewhere.log"
    outside.write_bytes(pen.sessions(10, prefix=b"linked"))
    (site.logs / f"{LOG_NAME}.7").symlink_to(outside)
    begin = time.monotonic()
    done = site.run()
    assert time.monotonic() - begin < 20
    assert "Traceback" not in done.stderr
    assert site.logins() == pen.truth


def test_24_logs_that_come_and_go(site: Site) -> None:
    pen = Pen(number=5000)
    site.write(pen.sessions(10))
    content = Pen(BEGIN - 1000).sessions(20, prefix=b"flicker")
    stop = threading.Event()

    def flicker() -> None:
        while not stop.is_set():
            for number in range(1, 6):
                path = site.logs / f"{LOG_NAME}.{number}"
                path.write_bytes(content[: random.choice((0, 40, 500))])
            for number in range(1, 6):
                (site.logs / f"{LOG_NAME}.{number}").unlink()

    thread = threading.Thread(target=flicker)
    thread.start()
    try:
        for _ in range(10):
            site.collect()
            assert pen.truth.items() <= site.logins().items()
            site.write(pen.sessions(3))
    finally:
        stop.set()
        thread.join()
    site.collect()
    assert pen.truth.items() <= site.logins().items()


def test_24_a_folder_of_10000_files(site: Site, pen: Pen) -> None:
    for number in range(8000):
        (site.logs / f"table{number}.ibd").write_bytes(b"20260302 08:00:00,db01,never,h,3,0,CONNECT,,,0\n")
    for number in range(2000):
        site.write(pen.session((b"app", b"localhost")), f"{LOG_NAME}.{2000 - number:04d}")
    begin = time.monotonic()
    site.collect()
    assert time.monotonic() - begin < 30
    assert site.logins() == pen.truth
    site.write(pen.sessions(1))
    site.collect()
    assert site.logins() == pen.truth


def test_24_no_logs_at_all_is_told(site: Site) -> None:
    assert_one_clear_line(site.run(), str(site.logs))


def test_24_no_login_for_days_is_a_warning(site: Site) -> None:
    site.write(Pen(int(time.time()) - 9 * 86400).sessions(20))
    site.collect()
    status = site.run("status")
    assert status.returncode == 1
    assert re.search(r"(?m)^.*logins.*the newest", status.stdout)
    site.write(Pen(int(time.time()) - 60, 500).sessions(20))
    site.collect()
    assert site.run("status").returncode == 0


def test_24_the_data_files_beside_the_log_are_not_read(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(5))
    alien = Pen().session((b"alien", b"localhost"))
    for name in (
        "ibdata1",
        "db1.ibd",
        "error.log",
        "server_audit.log.bak",
        "xserver_audit.log",
        "server_audit.logx",
    ):
        site.write(alien, name)
    site.collect()
    assert site.logins() == pen.truth
