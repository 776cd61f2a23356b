"""The 24 ways in which a log reader goes wrong, each against the real program as a process."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from calendar import timegm
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from site_kit import BEGIN
from site_kit import LOG_NAME
from site_kit import TIMEOUT
from site_kit import Pen
from site_kit import Site
from site_kit import kill_group
from site_kit import peak_memory
from site_kit import record
from site_kit import stamp

import conntracker

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path

LONG = bool(os.environ.get("CONNTRACKER_LONG"))
KILLS = 300 if LONG else 20
# root may read everything; without these two capabilities the modes of files count for root as well
PLAIN_USER = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    if os.geteuid() == 0
    else []
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return an empty host."""
    return Site(tmp_path)


@pytest.fixture
def pen() -> Pen:
    """Return the server's pen."""
    return Pen()


def run_as_plain_user(site: Site, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the program as somebody for whom the modes of files count."""
    return subprocess.run(
        PLAIN_USER + site.command(*options), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def assert_one_clear_line(done: subprocess.CompletedProcess[str], word: str, code: int = 1) -> None:
    """Hold a failed run to what is documented: its exit code and one line that names the thing."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("conntracker: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert word in done.stderr


# 1 ------------------------------------------------------------------------------------------------


def test_01_a_partial_last_line_counts_when_it_is_complete(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(10))
    before = dict(pen.truth)
    last = pen.session((b"late", b"localhost"))
    for end in (9, 30, last.index(b"\n")):  # the last cut is a whole record that lacks only its line end
        site.log.write_bytes(site.log.read_bytes()[: site.log.read_bytes().rindex(b"\n") + 1] + last[:end])
        site.collect()
        assert site.logins() == before
    site.write(last[last.index(b"\n") :])
    site.collect()
    assert site.logins() == pen.truth


def test_01_a_record_that_grows_is_not_taken_for_its_own_beginning(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(3))
    whole = record(pen.instant, (b"a,localhost,1,0,CONNECT,,,0", b"localhost"), 9)
    cut = whole.index(b",,,0") + len(b",,,0")
    site.write(whole[:cut])  # reads like a login of "a"
    site.collect()
    site.write(whole[cut:])
    site.collect()
    assert (b"a", b"localhost") not in site.logins()
    assert (b"a,localhost,1,0,CONNECT,,,0", b"localhost") in site.logins()


# 2 3 4 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotations", [1, 2, 5])
def test_02_03_rename_rotations_between_runs(site: Site, pen: Pen, rotations: int) -> None:
    site.write(pen.sessions(50))
    site.collect()
    for number in range(rotations):
        site.write(pen.sessions(10, prefix=b"before%d" % number))
        site.rotate()
        site.write(pen.sessions(10, prefix=b"after%d" % number))
    site.collect()
    assert site.logins() == pen.truth
    assert site.gaps() == []


def test_03_the_base_name_is_missing_for_a_moment(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(50))
    site.collect()
    site.write(pen.sessions(10, prefix=b"unread"))
    site.log.rename(site.logs / f"{LOG_NAME}.1")
    site.collect()
    assert site.logins() == pen.truth
    site.write(pen.sessions(10, prefix=b"new"))
    site.collect()
    assert site.logins() == pen.truth
    assert site.gaps() == []


def test_04_lost_records_leave_a_gap(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(50))
    site.collect()
    last_read = pen.instant
    kept = dict(pen.truth)
    site.write(pen.sessions(10, prefix=b"lost"))
    site.rotate()
    (site.logs / f"{LOG_NAME}.1").unlink()
    pen.truth = kept
    site.write(pen.sessions(10, prefix=b"new"))
    done = site.run("--log-level", "WARN")
    assert done.returncode == 0
    assert "gap" in done.stderr or "lost" in done.stderr
    assert site.logins() == pen.truth
    [(began, ended)] = site.gaps()
    assert (began, ended) == (last_read, pen.instant - 9)
    site.collect("--log-level", "WARN")  # told once
    assert len(site.gaps()) == 1


def test_04_a_rotated_log_that_was_read_to_its_end_may_vanish(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(50))
    site.rotate()
    site.write(pen.sessions(5))
    site.collect()
    (site.logs / f"{LOG_NAME}.1").unlink()
    site.write(pen.sessions(5))
    site.collect("--log-level", "WARN")
    assert site.gaps() == []
    assert site.logins() == pen.truth


# 5 ------------------------------------------------------------------------------------------------


def test_05_rotation_while_reading(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(100))
    stop = threading.Event()

    def server() -> None:
        for number in range(60 if not LONG else 600):
            for _ in range(3):
                site.write(pen.sessions(60, prefix=b"round%d-" % number))
                time.sleep(0.005)
            site.rotate(keep=999, width=3)
        stop.set()

    writer = threading.Thread(target=server)
    writer.start()
    while not stop.is_set():
        site.collect()
    writer.join()
    site.collect()
    assert site.logins() == pen.truth
    assert site.gaps() == []


# 6 7 8 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 3])
def test_06_zero_padded_suffixes(site: Site, pen: Pen, width: int) -> None:
    for number in range(4):
        site.write(pen.sessions(20, prefix=b"file%d-" % number))
        site.rotate(keep=10**width - 1, width=width)
    site.collect()
    assert site.logins() == pen.truth


def test_06_the_suffix_changes_its_width(site: Site, pen: Pen) -> None:
    for number in range(3):
        site.write(pen.sessions(20, prefix=b"narrow%d-" % number))
        site.rotate(keep=9, width=1)
    site.collect()
    for number in range(3):
        site.write(pen.sessions(20, prefix=b"wide%d-" % number))
        site.rotate(keep=20, width=2)
    site.collect("--log-level", "WARN")
    assert {path.name for path in site.logs.iterdir()} >= {f"{LOG_NAME}.1", f"{LOG_NAME}.01"}
    assert site.logins() == pen.truth
    assert site.gaps() == []


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def pack(path: Path, suffix: str) -> None:
    """Compress a log as logrotate does: the time of the file is kept."""
    packed = path.with_name(f"{path.name}.{suffix}")
    packed.write_bytes(PACKERS[suffix](path.read_bytes()))
    shutil.copystat(path, packed)
    path.unlink()


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("delayed", [False, True])
def test_07_dateext_and_compression(site: Site, pen: Pen, suffix: str, delayed: bool) -> None:
    previous = None
    for day in range(4):
        site.write(pen.sessions(30, prefix=b"day%d-" % day))
        if day % 2:
            site.collect("--log-level", "WARN")
        site.write(pen.sessions(30, prefix=b"evening%d-" % day))
        rotated = site.logs / f"{LOG_NAME}-2026030{day + 1}"
        site.log.rename(rotated)
        site.log.touch()
        if not delayed:
            pack(rotated, suffix)
        elif previous:
            pack(previous, suffix)
        previous = rotated
    site.write(pen.sessions(5))
    site.collect("--log-level", "WARN")
    assert site.logins() == pen.truth
    assert site.gaps() == []


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("unread", [0, 25])
def test_08_a_log_that_was_read_is_compressed(site: Site, pen: Pen, suffix: str, unread: int) -> None:
    site.write(pen.sessions(40))
    site.rotate()
    site.write(pen.sessions(5))
    site.collect()
    (site.logs / f"{LOG_NAME}.1").rename(site.logs / f"{LOG_NAME}.2")
    site.write(pen.sessions(unread, prefix=b"unread"))
    site.log.rename(site.logs / f"{LOG_NAME}.1")
    pack(site.logs / f"{LOG_NAME}.1", suffix)
    pack(site.logs / f"{LOG_NAME}.2", suffix)
    site.write(pen.sessions(5, prefix=b"new"))
    site.collect("--log-level", "WARN")
    assert site.logins() == pen.truth
    assert site.gaps() == []


def test_08_a_compressed_log_that_is_still_being_written(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(4000))
    site.rotate()
    site.write(pen.sessions(5, prefix=b"new"))
    whole = gzip.compress((site.logs / f"{LOG_NAME}.1").read_bytes())
    (site.logs / f"{LOG_NAME}.1").unlink()
    packed = site.logs / f"{LOG_NAME}.1.gz"
    packed.write_bytes(whole[: len(whole) // 2])
    assert_one_clear_line(site.run(), f"{LOG_NAME}.1.gz")
    assert site.last_run() is None
    kept = {**site.logins(), **site.suspects()}
    assert set(kept) == set(pen.truth)  # what was readable is kept
    packed.write_bytes(whole)
    site.collect()
    assert site.logins() == pen.truth


def renamed(pen: Pen) -> bytes:
    """Write the log of a host that was renamed; one of its first records bears the new name, and is suspect."""
    begun, odd, later = pen.sessions(3), pen.session((b"odd", b"h")), pen.sessions(20)
    del pen.truth[b"odd", b"h"]
    return begun + odd.replace(b",db01,", b",new,") + later + pen.sessions(3000).replace(b",db01,", b",new,")


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("suffix", ["gz", "xz"])
def test_08_a_log_is_just_being_compressed(site: Site, suffix: str, quarters: int) -> None:
    pen = Pen(number=70_000)
    site.write(renamed(pen))
    site.rotate()
    site.write(pen.sessions(5, prefix=b"later"))
    original, packed = site.logs / f"{LOG_NAME}.1", site.logs / f"{LOG_NAME}.1.{suffix}"
    whole = PACKERS[suffix](original.read_bytes())
    packed.write_bytes(whole[: len(whole) * quarters // 4])
    site.collect("--log-level", "WARN")
    assert site.logins() == pen.truth
    packed.write_bytes(whole)
    site.collect("--log-level", "WARN")
    original.unlink()
    site.collect("--log-level", "WARN")
    assert site.logins() == pen.truth
    assert set(site.suspects()) == {(b"odd", b"h")}
    assert site.gaps() == []


@pytest.mark.parametrize("damage", ["garbage behind", "a byte in the middle", "no such format", "empty"])
@pytest.mark.parametrize("suffix", PACKERS)
def test_08_a_compressed_log_is_damaged(site: Site, pen: Pen, suffix: str, damage: str) -> None:
    site.write(pen.sessions(400))
    older = dict(pen.truth)
    site.rotate()
    site.write(pen.sessions(5, prefix=b"new"))
    whole = PACKERS[suffix]((site.logs / f"{LOG_NAME}.1").read_bytes())
    (site.logs / f"{LOG_NAME}.1").unlink()
    middle = len(whole) // 2
    packed = site.logs / f"{LOG_NAME}.1.{suffix}"
    packed.write_bytes(
        {
            "garbage behind": whole + b"garbage" * 9,
            "a byte in the middle": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
            "no such format": b"these are my notes",
            "empty": b"",
        }[damage]
    )
    done = site.run()
    if done.returncode:  # each compression bears another damage: .gz is well when empty, the others ignore garbage
        assert_one_clear_line(done, packed.name)
    assert bool(site.last_run()) == (done.returncode == 0)
    assert done.returncode or damage in ("empty", "garbage behind")
    assert {
        account: seen for account, seen in pen.truth.items() if account not in older
    }.items() <= site.logins().items()
    if damage == "garbage behind":  # what is near the damage is kept apart: nobody knows what followed
        last = {account: last for account, (_, last) in site.logins().items()}
        assert {**last, **site.suspects()} == {account: last for account, (_, last) in pen.truth.items()}
    packed.write_bytes(whole)
    site.collect()
    assert site.logins() == pen.truth
    assert damage == "a byte in the middle" or not site.suspects()  # what was no text may have looked like a login


def test_08_a_forged_login_before_the_damage_is_not_believed(site: Site) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(30))
    forged = pen.session((b"root,localhost,331,0,CONNECT,,,0\n20260302 08:00:31,db01,z", b"h"), b"FAILED_CONNECT", 1045)
    text = site.log.read_bytes() + forged
    (site.logs / f"{LOG_NAME}.1.gz").write_bytes(
        gzip.compress(text[: text.index(b",0,CONNECT,,,0\n20260302 08:00:31") + 15])[:-8]
    )
    site.log.write_bytes(Pen(BEGIN + 5000, 5000).sessions(5))
    site.run()
    assert (b"root", b"localhost") not in site.logins()
    assert (b"root", b"localhost") in site.suspects()


# 9 10 11 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [3, 200])
def test_09_10_copytruncate_smaller_or_already_grown_past_the_offset(site: Site, pen: Pen, later: int) -> None:
    site.write(pen.sessions(60))
    site.collect()
    site.write(pen.sessions(10, prefix=b"unread"))
    shutil.copy2(site.log, site.logs / f"{LOG_NAME}.1")
    os.truncate(site.log, 0)
    site.write(pen.sessions(later, prefix=b"new"))
    site.collect("--log-level", "WARN")
    assert site.logins() == pen.truth
    assert site.gaps() == []


def test_11_truncation_during_the_read(site: Site, pen: Pen) -> None:
    filler = pen.queries(40_000, 300)
    for _ in range(30 if LONG else 6):
        site.log.write_bytes(pen.sessions(50) + filler)
        process = site.start()
        time.sleep(random.uniform(0.03, 0.1))
        os.truncate(site.log, random.choice((0, 100, 100_000)))
        assert process.wait(TIMEOUT) == 0
    # What the file held in the end is found; nothing was asked of what was cut away unread.
    os.truncate(site.log, 0)
    pen.truth.clear()
    site.write(pen.sessions(10, prefix=b"after"))
    site.collect()
    assert pen.truth.items() <= site.logins().items()


# 12 13 14 15 --------------------------------------------------------------------------------------


def take_inode(path: Path, inode: int) -> None:
    """Make a file that has this inode number, if the file system hands it out again."""
    spare = path.with_name("spare")
    spare.mkdir()
    for number in range(200):
        made = spare / str(number)
        made.touch()
        if made.stat().st_ino == inode:
            made.rename(path)
            break
    shutil.rmtree(spare)


@pytest.mark.parametrize("count", [5, 60, 300])
def test_12_13_the_same_inode_is_another_file(site: Site, pen: Pen, count: int) -> None:
    site.write(pen.sessions(60))
    site.collect()
    inode = site.log.stat().st_ino
    kept = site.log.read_bytes()
    site.log.unlink()
    take_inode(site.log, inode)
    site.write(kept, f"{LOG_NAME}.1")
    site.write(pen.sessions(count, prefix=b"new"))
    site.collect("--log-level", "WARN")
    assert site.logins() == pen.truth
    assert site.gaps() == []


def test_13_rewritten_in_place_with_the_same_size(site: Site) -> None:
    first, second = Pen(), Pen()
    site.log.write_bytes(first.sessions(50, prefix=b"old"))
    site.collect()
    with site.log.open("rb+") as log:
        log.write(second.sessions(50, prefix=b"new"))
    site.collect()
    assert site.logins() == {**first.truth, **second.truth}


def test_14_same_first_lines_empty_and_tiny_files(site: Site, pen: Pen) -> None:
    common = pen.sessions(40)
    site.write(common, f"{LOG_NAME}.3")
    site.write(pen.sessions(5, prefix=b"third"), f"{LOG_NAME}.3")
    site.write(common, f"{LOG_NAME}.2")
    site.write(pen.sessions(5, prefix=b"second"), f"{LOG_NAME}.2")
    site.write(b"", f"{LOG_NAME}.1")
    site.write(b"\n", f"{LOG_NAME}.4")
    site.write(b"2", f"{LOG_NAME}.5")
    site.write(pen.session((b"tiny", b"h")))
    site.collect()
    site.write(pen.sessions(5, prefix=b"more"))
    site.write(pen.sessions(5, prefix=b"other"), f"{LOG_NAME}.2")
    site.collect()
    # What stands in two logs is contradicted by itself: apart, and not lost.
    assert set(pen.truth) == {*site.logins(), *site.suspects()}


@pytest.mark.parametrize("step", ["before", "between"])
def test_14_a_copy_beside_the_log(site: Site, pen: Pen, step: str) -> None:
    site.write(pen.sessions(60))
    if step == "between":
        site.collect()
        site.write(pen.sessions(10, prefix=b"new"))
    shutil.copy2(site.log, site.logs / f"{LOG_NAME}.1")  # as in the moment between copy and truncate
    site.collect()
    assert site.logins() == pen.truth
    site.write(pen.sessions(10, prefix=b"later"))
    site.collect()
    assert site.logins() == pen.truth


@pytest.mark.parametrize("quarters", [1, 2, 3, 4])
def test_14_a_log_is_just_being_copied(site: Site, quarters: int) -> None:
    pen = Pen(number=70_000)
    site.write(renamed(pen))
    whole = site.log.read_bytes()
    copy = site.logs / f"{LOG_NAME}.1"
    copy.write_bytes(whole[: len(whole) * quarters // 4])
    site.collect()
    assert site.logins() == pen.truth
    copy.write_bytes(whole)
    site.log.write_bytes(pen.sessions(5, prefix=b"later"))
    site.collect("--log-level", "WARN")
    assert site.logins() == pen.truth
    assert set(site.suspects()) == {(b"odd", b"h")}
    assert site.gaps() == []


def test_15_a_moved_and_a_restored_datadir(site: Site, pen: Pen, tmp_path: Path) -> None:
    site.write(pen.sessions(60))
    site.rotate()
    site.write(pen.sessions(20))
    backup = tmp_path / "backup"
    shutil.copytree(site.logs, backup)
    site.write(pen.sessions(20, prefix=b"after-backup"))
    site.collect()
    moved = tmp_path / "moved"
    shutil.copytree(site.logs, moved)
    with (moved / LOG_NAME).open("ab") as log:
        log.write(pen.sessions(5, prefix=b"moved"))
    site.collect("--log-level", "WARN", path=moved)
    assert site.logins() == pen.truth
    assert site.gaps() == []
    with (backup / LOG_NAME).open("ab") as log:
        log.write(pen.sessions(5, prefix=b"restored"))
    site.collect(path=backup)
    assert site.logins() == pen.truth


def test_15_a_database_restored_from_an_old_backup(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(60))
    site.collect()
    old = site.database.read_bytes()
    site.write(pen.sessions(20, prefix=b"later"))
    site.rotate()
    site.write(pen.sessions(20, prefix=b"new"))
    site.collect()
    for part in site.database.parent.iterdir():
        part.unlink()
    site.database.write_bytes(old)
    site.collect("--log-level", "WARN")
    assert site.logins() == pen.truth
    assert site.gaps() == []


# 16 17 18 -----------------------------------------------------------------------------------------


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


def test_17_the_second_run_leaves_while_the_first_works(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(10))
    site.collect()
    site.write(pen.sessions(10, prefix=b"new"))
    first = site.start()
    os.killpg(first.pid, signal.SIGSTOP)
    try:
        time.sleep(0.05)
        site.collect()
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert first.wait(TIMEOUT) == 0
    site.collect()
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


# 19 20 --------------------------------------------------------------------------------------------


def line(stamp: str, user: str, number: int) -> bytes:
    """Write a login with the stamp as given."""
    return f"{stamp},db01,{user},localhost,{number},0,CONNECT,,,0\n".encode()


def zurich(site: Site, *options: str) -> None:
    """Collect as in Zurich; the later option wins over the one of the test kit."""
    site.collect("--time-location", "Europe/Zurich", *options)


def test_19_the_hour_that_comes_twice(site: Site) -> None:
    site.write(line("20261025 01:59:59", "before", 3))
    site.write(line("20261025 02:30:00", "summer", 4))
    site.write(line("20261025 02:59:59", "both", 5))
    site.write(line("20261025 02:00:00", "both", 6))
    site.write(line("20261025 02:30:00", "winter", 7))
    site.write(line("20261025 03:00:00", "after", 8))
    zurich(site)
    times = {user: seen for (user, _), seen in site.logins().items()}
    at = timegm((2026, 10, 25, 0, 0, 0))
    assert times[b"before"] == (at - 1, at - 1)
    assert times[b"summer"] == (at + 1800, at + 1800)
    assert times[b"both"] == (at + 3599, at + 3600)
    assert times[b"winter"] == (at + 5400, at + 5400)
    assert times[b"after"] == (at + 7200, at + 7200)


def test_19_the_hour_that_comes_twice_over_two_runs(site: Site) -> None:
    site.write(line("20261025 02:59:59", "both", 5))
    zurich(site)
    site.write(line("20261025 02:00:00", "both", 6))
    site.write(line("20261025 02:30:00", "winter", 7))
    zurich(site)
    times = {user: seen for (user, _), seen in site.logins().items()}
    at = timegm((2026, 10, 25, 0, 0, 0))
    assert times[b"both"] == (at + 3599, at + 3600)
    assert times[b"winter"] == (at + 5400, at + 5400)


def test_19_the_hour_that_is_missing(site: Site) -> None:
    site.write(line("20260329 01:59:59", "a", 3) + line("20260329 03:00:00", "a", 4))
    zurich(site)
    at = timegm((2026, 3, 29, 1, 0, 0))
    assert site.logins() == {(b"a", b"localhost"): (at - 1, at)}


def test_19_another_zone_shows_the_same_instants(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(10))
    site.collect()
    [(shown,)] = site.rows("SELECT last_seen FROM Accounts WHERE name = 'app0' AND host = 'localhost'")
    site.write(pen.sessions(10, prefix=b"new"))
    site.collect("--time-location", "Europe/Zurich", "--time-location-audit", "UTC")
    assert site.logins() == pen.truth
    [(moved,)] = site.rows("SELECT last_seen FROM Accounts WHERE name = 'app0' AND host = 'localhost'")
    assert shown.endswith("+00:00")
    assert moved.endswith("+01:00")


def test_19_the_clock_steps_back_and_forth(site: Site) -> None:
    pen = Pen()
    site.write(pen.sessions(20, prefix=b"right"))
    pen.instant += 400 * 86400
    site.write(pen.sessions(20, prefix=b"future"))
    pen.instant -= 400 * 86400 + 3600
    site.write(pen.sessions(20, prefix=b"back"))
    site.collect()
    found = {user for user, _ in {**site.logins(), **site.suspects()}}
    assert {user for user, _ in pen.truth} <= found
    first_back = (b"back3", b"localhost")
    assert site.logins()[first_back] == pen.truth[first_back]


def test_19_impossible_stamps_are_no_logins(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(5))
    for number, when in enumerate(("20261332 25:61:61", "00000000 00:00:00", "99999999 99:99:99", "20260230 10:00:00")):
        site.write(line(when, "never", 500 + number))
    site.write(pen.sessions(5))
    site.collect()
    assert site.logins() == pen.truth


def test_20_out_of_order_and_ties(site: Site) -> None:
    lines = []
    for number, offset in enumerate((5, 4, 5, 5, 3, 6, 5)):
        lines.append(record(BEGIN + offset, (b"u", b"h"), 10 + number))
        lines.append(record(BEGIN + offset, (b"v%d" % number, b"h"), 30 + number))
    site.write(b"".join(lines))
    site.collect()
    assert site.logins()[b"u", b"h"] == (BEGIN + 3, BEGIN + 6)
    assert len(site.logins()) == 8


# 21 22 23 -----------------------------------------------------------------------------------------


def test_21_bytes_that_are_not_utf8(site: Site, pen: Pen) -> None:
    names = (
        b"caf\xe9",
        b"\xff\xfe",
        b"\xe2\x82\xac" * 44 + b"\xb4",
        b"\x85\xa0",
        b"\xe2\x80\xa8x",
        b"v\x0bt\x0cf\x1cs",
    )
    for name in names:
        site.write(pen.session((name, b"localhost")))
    site.write(b"20260302 08:00:20,db01,app,localhost,20,7,QUERY,,'select \\'a\x00\x01\x0b\x1a\xff\xe9\x85\\'',0\n")
    site.collect()
    assert site.logins() == pen.truth
    shown = site.run("accounts", "--format", "csv").stdout
    assert "caf\\xe9" in shown


def test_21_nul_holes_and_torn_records(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(5))
    site.write(b"\0" * 70_000 + b"\n")
    site.write(pen.sessions(5, prefix=b"hole"))
    site.write(b"20260302 08:00:11,db01,torn,localhos\n")
    site.write(pen.sessions(5, prefix=b"torn"))
    site.write(b"20260302 08:00:11,db01,app0,localhost,9,12,QUERY,,'\0\0\0\n")
    site.write(pen.sessions(5, prefix=b"last"))
    site.collect()
    # A line that breaks off may be a name with a line end: the login behind it is kept apart, not lost.
    behind = {(b"torn0", b"localhost"), (b"last0", b"localhost")}
    assert site.logins() == {account: seen for account, seen in pen.truth.items() if account not in behind}
    assert site.suspects() == {account: pen.truth[account][1] for account in behind}


def test_21_a_record_glued_to_a_torn_one_is_not_lost(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(5))
    kept = dict(pen.truth)
    site.write(b"20260302 08:00:05,db01,a,localhost" + pen.session((b"glued", b"localhost")))
    site.write(b"20260302 08:00:05,db01,q,localhost,8,12,QUERY,,'" + pen.session((b"sql", b"localhost")))
    site.collect()
    logins, suspects = site.logins(), site.suspects()
    for account in ((b"glued", b"localhost"), (b"sql", b"localhost")):
        seen = suspects.get(account) or logins.get(account, (0, 0))[1]
        assert seen == pen.truth[account][1], account
    assert kept.items() <= logins.items()
    # The line as a whole could be the login of a very odd name: that is kept apart as well.
    assert {account for account in suspects if b"2026" not in account[0]} | set(logins) == set(pen.truth)


def test_21_line_ends_of_another_system(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(20).replace(b"\n", b"\r\n"))
    site.collect()
    assert site.logins() == pen.truth


@pytest.mark.parametrize("newline", [b"\n", b""])
def test_21_a_line_of_100_mb_within_bounded_memory(site: Site, pen: Pen, newline: bytes) -> None:
    site.write(pen.sessions(20))
    with site.log.open("ab") as log:
        log.write(b"20260302 08:00:20,db01,app0,localhost,9,12,QUERY,,'")
        for _ in range(100):
            log.write(b"0,CONNECT,,0, " * 75_000)
        log.write(b"',0" + newline)
    if newline:
        site.write(pen.sessions(20, prefix=b"after"))
    process = site.start()
    peak = peak_memory(process)
    assert process.returncode == 0
    assert site.logins() == pen.truth
    assert peak < 64_000_000
    if not newline:  # the line is complete only now
        site.write(b"\n" + pen.sessions(20, prefix=b"after"))
        site.collect()
        assert site.logins() == pen.truth


@pytest.mark.parametrize("packed", [False, True])
def test_21_many_logs_take_no_more_memory_than_few(site: Site, pen: Pen, packed: bool) -> None:
    peaks = []
    for count in (5, 30):
        for log in site.logs.iterdir():
            log.unlink()
        for number in range(count, 0, -1):
            text = pen.sessions(6000)
            path = site.logs / f"{LOG_NAME}.{number}{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(text, 1) if packed else text)
        site.write(pen.sessions(20))
        site.database.unlink(missing_ok=True)
        process = site.start("--max-workers", "1")
        peaks.append(peak_memory(process))
        assert process.returncode == 0
    assert peaks[1] < peaks[0] + 6_000_000


def test_22_hostile_names_are_stored_raw_and_shown_inert(site: Site, pen: Pen) -> None:
    names = (
        b"com,ma",
        b"quo'te",
        b'"dq"',
        b"back\\slash",
        b"ta\tb",
        b"c\rr",
        b" lead",
        b"\x1b[31mred",
        b"a,localhost,1,0,CONNECT,,,0",
        b"'; DROP TABLE Accounts; --",
        b"=cmd|' /C calc'!A0",
        b"",
        b"%",
        b"CONNECT",
        b"NULL",
    )
    for name in names:
        site.write(pen.session((name, b"localhost")))
    site.collect()
    assert site.logins() == pen.truth
    for style in ("table", "csv", "json"):
        shown = site.run("accounts", "--format", style).stdout
        assert not any(ord(letter) < 32 and letter != "\n" for letter in shown.replace("\r\n", "\n")), style


def test_22_a_forged_pair_is_not_believed(site: Site) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(20))
    forged = b"root,localhost,5,0,CONNECT,,,0\n20260302 10:30:00,h,z"
    site.write(pen.session((forged, b"203.0.113.9"), b"FAILED_CONNECT", 1698))
    site.write(pen.sessions(20))
    site.collect()
    assert site.logins() == pen.truth
    assert (b"root", b"localhost") in site.suspects()


@pytest.mark.parametrize("rest", [b"2026x", b"z", b"20260302 10:30:00,h,z", b"20260302 10:30:00,db01,z"])
@pytest.mark.parametrize("number", [5, 360])
def test_22_a_flood_of_one_forged_name(site: Site, rest: bytes, number: int) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(20))
    name = b"root,localhost,%d,0,CONNECT,,,0\n%b" % (number, rest)
    for _ in range(40):
        site.write(pen.session((name, b"203.0.113.9"), b"FAILED_CONNECT", 1698))
        pen.instant -= 1
    pen.number += 500
    site.write(pen.sessions(20))
    site.collect()
    assert (b"root", b"localhost") not in site.logins()
    assert (b"root", b"localhost") in site.suspects()


def sessions_with(odd: bytes, *, after: int = 30) -> bytes:
    """Write thirty sessions, something odd, and thirty more."""
    pen = Pen(number=300)
    before = pen.sessions(30)
    pen.instant, pen.number = pen.instant + 2, pen.number + 20
    return before + odd + pen.sessions(after)


ODD_AT = BEGIN + 31  # the second and the id that come next there
ODD_ID = 331
VICTIM = (b"victim", b"localhost")
LOGIN = record(ODD_AT, VICTIM, ODD_ID)
CONTRADICTIONS = {
    "its connection id stands in two logins": LOGIN + record(ODD_AT, (b"other", b"h"), ODD_ID),
    "its connection id stands in two logins, to the byte": LOGIN * 2,
    "its connection id was also refused": LOGIN + record(ODD_AT, (b"x", b"h"), ODD_ID, b"FAILED_CONNECT", code=1045),
    "it names another server host than its neighbours": record(ODD_AT, VICTIM, ODD_ID, server=b"h"),
    "its time is not between those of its neighbours": record(ODD_AT + 86400, VICTIM, ODD_ID),
    "its connection id is far from those of its neighbours": record(ODD_AT, VICTIM, 99_999),
    "the line after it is the rest of a name": LOGIN + b"z,203.0.113.9,331,0,CHANGEUSER,,,1045\n",
    "the line before it breaks off": LOGIN[:23] + b"new\n" + LOGIN,
    "it is glued to a torn record, or breaks off": LOGIN[:-20] + LOGIN,
    "it is glued to a torn record, or breaks off, alone": LOGIN[: LOGIN.index(b",CONNECT,") + 9] + b"\n",
}


@pytest.mark.parametrize("reason", CONTRADICTIONS)
def test_22_what_the_log_contradicts_is_kept_apart(site: Site, reason: str) -> None:
    site.write(sessions_with(CONTRADICTIONS[reason]))
    site.collect()
    assert VICTIM not in site.logins()
    [(path, offset, why)] = site.rows("SELECT file, \"offset\", reason FROM suspect WHERE user = X'76696374696D'")
    assert path == str(site.log)
    assert b",victim," in site.log.read_bytes()[offset : offset + 40]
    assert reason.startswith(why)
    # A login that nothing contradicts makes it certain, but what was odd stays known if it is newer.
    site.write(record(BEGIN + 63, VICTIM, 383))
    site.collect()
    assert site.logins()[VICTIM] == (BEGIN + 63, BEGIN + 63)
    assert (VICTIM in site.suspects()) == (reason == "its time is not between those of its neighbours")


NOT_INERT = (
    b"esc\x1b[2Jred",
    b"bell\x07",
    b"c1\xc2\x9b31m",
    b"\xe2\x80\xaertl",
    b"sep\xe2\x80\xa8line",
    b"zero\xe2\x80\x8bwidth",
    b"tab\there",
    b"c\rr",
    b"\xff\xfe",
    b"=cmd|' /C calc'!A0",
    b"'; DROP TABLE Accounts; --",
    b'x"} 1\\nconntracker_forged 1',
)


def listed(site: Site, *users: bytes) -> None:
    """Store what an inventory of the server would: these accounts, known for a long time."""
    now = int(time.time())
    settings = {"version": "10.11.19-MariaDB", "hostname": "db01", "audit_plugin": "ACTIVE"}
    settings |= {"server_audit_logging": "ON", "server_audit_events": "CONNECT", "server_audit_active": "ON"}
    accounts = tuple(conntracker.Account(user, b"%") for user in users)
    inventory = conntracker.Inventory(
        source="server",
        taken_at=now,
        accounts=accounts,
        settings=settings,
        sessions_complete=True,
        definers={},
        proxies=(),
    )
    with closing(sqlite3.connect(site.database, isolation_level=None)) as db:
        conntracker.store_inventory(db, inventory, now - 200 * 86400)
        conntracker.store_inventory(db, inventory, now)


def watched(site: Site, odd: bytes = b"") -> None:
    """Write and collect half a year of log, up to now."""
    now = int(time.time())
    past = Pen(now - 180 * 86400, 5)
    site.write(past.sessions(30))
    pen = Pen(now - 100, 1000)
    site.write(pen.sessions(30) + odd)
    pen.number += 50
    site.write(pen.sessions(30))
    site.collect()


def test_22_a_suspect_account_is_shown_and_never_removable(site: Site) -> None:
    number = 1035
    watched(site, record(int(time.time()) - 70, VICTIM, number) * 2)
    listed(site, b"victim", b"unused")
    assert VICTIM in site.suspects()
    shown = json.loads(site.run("accounts", "--format", "json").stdout)["accounts"]
    [row] = [row for row in shown if row["user"] == "victim"]
    assert row["source"] == "suspect"
    assert re.fullmatch(re.escape(str(site.log)) + r":\d+: its connection id stands in two logins", row["note"])
    report = json.loads(site.run("report", "--format", "json").stdout)
    verdicts = {item["user"]: item for item in report["accounts"]}
    assert verdicts["unused"]["removable"] is True  # nothing else stands in the way
    assert verdicts["victim"]["removable"] is False
    assert "named by a suspect record" in verdicts["victim"]["keep_reasons"]
    assert "suspect" in site.run("report").stdout
    assert "victim" not in site.run("report", "--format", "sql").stdout
    status = site.run("status")
    assert status.returncode == 1
    assert re.search(r"suspect records.*\b1\b", status.stdout)


def test_22_names_are_inert_in_every_output(site: Site) -> None:
    now = int(time.time())
    # Certain, suspect and unused accounts of each name.
    odd = b"".join(record(now - 69, (name, b"h"), 1031 + number) for number, name in enumerate(NOT_INERT))
    odd += b"".join(record(now - 69, (b"2" + name, b"h"), 1050) for name in NOT_INERT)
    watched(site, odd)
    listed(site, *NOT_INERT, *(b"3" + name for name in NOT_INERT))
    assert len([user for user, _ in site.logins() if user in NOT_INERT]) == len(NOT_INERT)
    outputs = [("accounts", form) for form in ("table", "csv", "json")]
    outputs += [("report", form) for form in ("table", "csv", "json", "prometheus", "sql")]
    outputs += [("status", form) for form in ("table", "json")]
    for command, form in outputs:
        done = site.run(command, "--format", form)
        assert done.returncode == (1 if command == "status" else 0), (command, form, done.stderr)
        assert done.stderr == ""
        assert done.stdout
        for text in done.stdout.replace("\r\n", "\n").split("\n"):
            assert text.isprintable(), (command, form, text)
        assert "\nconntracker_forged" not in done.stdout
        assert form != "csv" or not re.search(r"(?m)(^|,)\"?=cmd", done.stdout)


def test_22_messages_are_inert(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(5))
    site.write(b"20260302 08:00:05,db01,\x1b[2J,0,CONNECT,\xff\n" + pen.sessions(5))
    hostile = site.logs / "server_audit.log\x1b[2J\nconntracker: forged"
    hostile.write_bytes(b"x")
    hostile.chmod(0)
    command = PLAIN_USER + site.command("--log-level", "DEBUG")
    command[command.index("--audit-log-path") + 1] = str(site.logs / "server_audit.log*")
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1
    for text in done.stderr.splitlines():
        assert text.isprintable(), text
        assert text.startswith("conntracker: ")
    assert "conntracker: forged" not in [text[:19] for text in done.stderr.splitlines()]
    assert "lines not understood" in done.stderr


def cpu_seconds(site: Site) -> float:
    """Collect; return the processor time that it took."""
    before = os.times()
    site.collect()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def flood(pen: Pen, name: bytes, count: int) -> bytes:
    """Write refused logins of one name."""
    return b"".join(pen.session((name, b"203.0.113.9"), b"FAILED_CONNECT", 1045) for _ in range(count))


ATTACKS: dict[str, Callable[[Pen], bytes]] = {
    "a flood of one forged name": lambda pen: flood(
        pen, b"root,localhost,5,0,CONNECT,,,0\n20260302 10:30:00,h,z", 12_000
    ),
    "stamps of all times": lambda pen: b"".join(
        pen.sessions(600) + record(when, (b"root", b"h"), 7) for when in (86400, 250_000_000_000) * 10
    ),
    "stamps that are no times": lambda pen: pen.sessions(20_000).replace(b"20260302", b"20260399"),
    "a line full of marks": lambda pen: (
        (
            b"%b,db01,app0,localhost,%d,0,QUERYX,," % (stamp(pen.instant), pen.number)
            + b",,7,0,CONNECT,,," * 15_000
            + b"x\n"
        )
        * 4
    ),
    "a line full of stamps": lambda pen: (
        (
            (b"%b,db01,app0,localhost,%d,0,QUERYX,," % (stamp(pen.instant), pen.number))
            + b",20260302 08:00:00,x,0,CONNECT,,,0" * 7000
            + b"\n"
        )
        * 4
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_22_hostile_input_does_not_take_time_without_bound(site: Site, pen: Pen, attack: str) -> None:
    site.write(pen.sessions(20) + ATTACKS[attack](pen))
    site.write(pen.sessions(20, prefix=b"after"))
    assert cpu_seconds(site) < 6
    assert {account for account in pen.truth if account[0].startswith(b"after")} <= {*site.logins(), *site.suspects()}
    assert (b"root", b"localhost") not in site.logins()


def test_23_the_format_changes_in_mid_file(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(10))
    new = b"20260302 09:%02d:00,db01,app0,%b,%d,0,CONNECT,mysql,TLSv1.3,0%b\n"
    site.write(new % (1, b"192.168.1.24:54312", 30, b""))
    site.write(new % (2, b"192.168.1.24:54313", 31, b""))
    site.write(new % (3, b"192.168.1.25:54312", 32, b",TLSv1.3"))
    site.write(new.replace(b"TLSv1.3", b"") % (4, b"localhost", 33, b""))
    site.collect()
    logins = site.logins()
    nine = BEGIN + 3600
    assert logins[b"app0", b"192.168.1.24"] == (nine + 60, nine + 120)
    assert logins[b"app0", b"192.168.1.25"] == (nine + 180, nine + 180)
    assert logins[b"app0", b"localhost"][1] == nine + 240
    assert not [host for _, host in logins if b":" in host]


# 24 -----------------------------------------------------------------------------------------------


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
