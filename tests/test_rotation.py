"""Rotated, truncated, copied, moved and vanishing logs, against the real program as a process.

The 24 ways in which a log reader goes wrong; the number stands in the names of the tests.

 1  a partial last line                                      test_odd_text.py
 2  more than one rotation between two runs                  test_rotation.py
 3  the base name is missing for a moment                    test_rotation.py
 4  records are lost before they are read                    test_rotation.py
 5  a rotation while reading                                 test_rotation.py
 6  suffixes with leading zeros, and of a new width          test_rotation.py
 7  rotations named by date, and compressed                  test_compression.py
 8  a log that was read is compressed, or just being so      test_compression.py
 9  copytruncate: the log is smaller than what was read      test_rotation.py
10  copytruncate: it has grown past that place again         test_rotation.py
11  a truncation while reading                               test_rotation.py
12  an inode number is used again                            test_rotation.py
13  a log is rewritten in place                              test_rotation.py
14  logs that begin alike, empty and tiny ones, copies       test_rotation.py
15  a moved datadir, a restored datadir or database          test_rotation.py
16  killed at any moment                                     test_storage.py
17  runs that overlap                                        test_storage.py
18  a database of a newer or an older program                test_storage.py
19  time: repeated and missing hours, zones, a set clock     test_time.py
20  records out of order, and ties                           test_time.py
21  bytes that are no text, holes, torn and endless lines    test_odd_text.py
22  hostile names and forged records                         test_forgery.py
23  the format changes in mid-file                           test_odd_text.py
24  what cannot be read or written, or is no log             test_storage.py
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from typing import TYPE_CHECKING

import pytest
from site_kit import LOG_NAME
from site_kit import LONG
from site_kit import TIMEOUT
from site_kit import Pen
from site_kit import Site
from site_kit import renamed

if TYPE_CHECKING:
    from pathlib import Path


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


def test_06_the_log_of_another_server_beside_it_is_no_rotation(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(20))
    site.write(Pen(pen.instant).sessions(20, prefix=b"theirs"), "server_audit-3307.log")
    site.write(Pen(pen.instant).sessions(20, prefix=b"theirs"), "server_audit.3308.log")
    site.collect()
    assert site.logins() == pen.truth


@pytest.mark.parametrize("form", ["-2026-11-22", "-20261122", "_20261122", "-2026112210", "-20261122-1763800000", ".1"])
@pytest.mark.parametrize("where", ["", "*"])
def test_06_names_of_rotations(site: Site, pen: Pen, form: str, where: str) -> None:
    place = ("--audit-log-path", str(site.logs / LOG_NAME) + where)
    site.write(pen.sessions(20))
    site.collect(*place)
    os.rename(site.log, f"{site.log}{form}")
    site.write(pen.sessions(20, prefix=b"new"))
    site.collect(*place)
    assert site.logins() == pen.truth
    assert site.gaps() == []
    assert site.rows("SELECT DISTINCT log FROM file") == [(str(site.log),)]


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


def test_06_a_date_behind_a_dot_is_no_number(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(20))
    site.collect()
    site.write(pen.sessions(5, prefix=b"late"))
    site.log.rename(site.logs / f"{LOG_NAME}.20260302")
    site.write(pen.sessions(5, prefix=b"new"))
    site.collect("--log-level", "WARN")
    assert site.logins() == pen.truth
    assert site.gaps() == []


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
    site.log.write_bytes(pen.sessions(5, prefix=b"later").replace(b",db01,", b",new,"))
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
