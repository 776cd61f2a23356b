"""Compressed logs: whole, half written and damaged, against the real program as a process."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
from typing import TYPE_CHECKING

import pytest
from site_kit import BEGIN
from site_kit import LOG_NAME
from site_kit import Pen
from site_kit import Site
from site_kit import assert_one_clear_line
from site_kit import renamed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


@pytest.mark.parametrize("hours", [1, 24])
def test_08_what_is_read_again_is_no_forgery(site: Site, pen: Pen, hours: int) -> None:
    site.write(pen.sessions(500))
    site.rotate()
    whole = gzip.compress((site.logs / f"{LOG_NAME}.1").read_bytes())
    (site.logs / f"{LOG_NAME}.1").unlink()
    (site.logs / f"{LOG_NAME}.1.gz").write_bytes(whole[: len(whole) * 9 // 10])
    pen.instant += hours * 3600
    site.write(pen.sessions(50, prefix=b"later"))
    assert site.run().returncode == 1
    known = site.logins()
    for number in range(3):
        site.write(pen.sessions(50, prefix=b"run%d-" % number))
        assert site.run().returncode == 1
        logins = site.logins()
        assert known.items() <= logins.items()
        assert all(logins[account] == seen for account, seen in pen.truth.items() if not account[0].startswith(b"app"))
    assert site.gaps() == []


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("suffix", ["gz", "xz"])
def test_08_a_log_is_just_being_compressed(site: Site, suffix: str, quarters: int) -> None:
    pen = Pen(number=70_000)
    site.write(renamed(pen))
    site.rotate()
    site.write(pen.sessions(5, prefix=b"later").replace(b",db01,", b",new,"))
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
    if (
        damage == "a byte in the middle"
    ):  # what was no text has looked like records: ids that stand twice are kept apart
        assert set(pen.truth) <= set(site.logins()) | set(site.suspects())
        return
    assert site.logins() == pen.truth
    assert not site.suspects()


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
