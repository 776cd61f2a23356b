"""Whatever way the bytes take through the program, the facts are the same, and those of the reference."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING
from typing import Any

import pytest
from fuzz import ALWAYS_DENSE
from fuzz import NEVER_DENSE
from fuzz import Collector
from random_logs import LogMaker
from random_logs import cut
from reference import facts_of
from site_kit import LOG_NAME
from site_kit import PROGRAM
from site_kit import SERVER
from site_kit import TIMEOUT
from site_kit import Pen
from site_kit import Site
from site_kit import assert_one_clear_line
from site_kit import record

if TYPE_CHECKING:
    from pathlib import Path

# The program as it is, but for sizes that choose between its ways: each way must lead to the same facts.
FORCED = """
import sys
sys.path.insert(0, {folder!r})
import conntracker
constants = set(vars(conntracker))
{settings}
assert set(vars(conntracker)) == constants, "a constant of the program was renamed"
raise SystemExit(conntracker.main(sys.argv[1:]))
"""
WAYS = {
    "as it is": "",
    "one worker": "sys.argv += ['--max-workers', '1']",
    "small chunks": "conntracker.CHUNK = 3000",
    "tiny chunks": "conntracker.CHUNK = 700",
    "always dense": f"conntracker.DENSE = {ALWAYS_DENSE}",
    "never dense": f"conntracker.DENSE = {NEVER_DENSE}",
    "never dense, tiny chunks": f"conntracker.DENSE = {NEVER_DENSE}; conntracker.CHUNK = 700",
    "two processes": "conntracker.PARALLEL_FROM = 0\nsys.argv += ['--max-workers', '2']",
    "four processes": "conntracker.PARALLEL_FROM = 0; conntracker.CHUNK = 2000\n"
    "conntracker.os.sched_getaffinity = lambda number: range(4)",
    "few names in memory": "conntracker.MANY_NAMES = 3",
    "few names in memory, tiny chunks": "conntracker.MANY_NAMES = 3; conntracker.CHUNK = 700",
}
LOGS = 4


def run(site: Site, way: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run the program on one of its ways."""
    program = FORCED.format(folder=str(PROGRAM.parent), settings=way)
    command = [python, "-c", program, *site.command()[2:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def collect(site: Site, way: str = "", python: str = sys.executable) -> None:
    """Run it, and expect no word."""
    done = run(site, way, python)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def make_log(seed: int) -> bytes:
    """Return a log with odd, dense and sparse stretches."""
    maker = LogMaker(random.Random(seed))
    maker.server = SERVER
    # Rotated logs are put in order by their stamps: a clock that is set back would change their order.
    maker.odd = tuple(event for event in maker.odd if event != maker.jump)
    begin = maker.log(600)
    pen = Pen(maker.instant + 5, 2)  # the server was started again
    middle = pen.sessions(600, users=50) + pen.queries(400) + pen.sessions(10) + pen.queries(600)
    maker.instant, maker.number, maker.server = pen.instant + 5, pen.number, SERVER
    return begin + middle + maker.log(300)


@pytest.fixture(scope="module", params=range(LOGS))
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any]:
    """Return a log and the facts that one undisturbed run stores."""
    log = make_log(request.param)
    site = Site(tmp_path_factory.mktemp("undisturbed"))
    site.write(log)
    collect(site)
    return log, site.facts()


def test_the_reference_agrees(tmp_path: Path, told: tuple[bytes, Any]) -> None:
    log, _ = told
    site = Site(tmp_path)
    site.write(log)
    collect(site)
    certain, suspects = facts_of([log])
    assert site.logins() == certain
    assert site.suspects() == suspects


@pytest.mark.parametrize("way", WAYS)
def test_every_way_through_the_program(tmp_path: Path, told: tuple[bytes, Any], way: str) -> None:
    log, facts = told
    site = Site(tmp_path)
    site.write(log)
    collect(site, WAYS[way])
    assert site.facts() == facts


def behind(head: str, log: bytes) -> bytes:
    """Write the lines of a log behind another head than their stamp, or with something behind them."""
    if head.startswith(","):
        return log.replace(b"\n", head.encode() + b"\n")
    lines = [line.partition(b",") for line in log.splitlines(keepends=True)]
    moments = [datetime.strptime(stamp.decode(), "%Y%m%d %H:%M:%S") for stamp, _, _ in lines]
    return b"".join(
        moment.strftime(head).replace("FRACTION", f"{number * 7919 % 10**6:06d}").encode() + rest
        for number, (moment, (_, _, rest)) in enumerate(zip(moments, lines))
    )


@pytest.mark.parametrize(
    "head",
    [
        "%b %e %H:%M:%S db01 mysql-server_auditing: ",
        "<13>%b %e %H:%M:%S db01 mariadbd[712]:  ",
        "%Y-%m-%dT%H:%M:%S.FRACTION+00:00 db01 mysql-server_auditing: ",
        "<13>1 %Y-%m-%dT%H:%M:%SZ db01 mariadbd 712 - - ",
        "%Y-%m-%dT%H:%M:%S+00:00,",
        ",TLSv1.3",
    ],
)
def test_a_long_log_behind_another_head(tmp_path: Path, head: str) -> None:
    pen = Pen(number=300)
    log = pen.sessions(1500) + record(pen.instant, (b"twin", b"localhost"), pen.number)
    log += pen.session((b"com,ma", b"localhost")) + pen.sessions(1500)
    log += b"".join(pen.session((b"guess", b"10.1.2.3"), b"FAILED_CONNECT", 1045) for _ in range(300))
    opened = record(pen.instant, (b"pool", b"10.1.2.3"), pen.number + 1)
    pen.number, pen.instant = pen.number + 1, pen.instant + 7000
    log += opened + pen.sessions(1500) + record(pen.instant, (b"pool", b"10.1.2.3"), pen.number - 1500, b"DISCONNECT")
    pen.number = 2  # the server was started again
    log += pen.sessions(1500)
    facts = []
    for name, text in (("file", log), ("other", behind(head, log))):
        site = Site(tmp_path / name)
        site.write(text)
        os.utime(site.log, (pen.instant, pen.instant))
        collect(site)
        facts.append(site.facts())
    assert facts[0] == facts[1]
    assert {kind for kind, *_ in facts[0]["evidence"]} == {"login", "session end"}
    assert [user for user, *_ in facts[0]["suspect"]] == [b"twin"]


@pytest.mark.parametrize("way", ["two processes", "four processes"])
def test_the_ids_are_known_behind_a_stretch_of_queries(tmp_path: Path, way: str) -> None:
    pen = Pen(number=300)
    site = Site(tmp_path)
    site.write(pen.sessions(500) + pen.queries(10_000))  # their text holds the marks of logins
    collect(site, WAYS[way])
    dead = (b"dead", b"10.0.0.9")
    site.write(b"".join(pen.forged_once(dead, pen.number - 5)) + pen.sessions(50))
    collect(site)
    assert site.logins() == pen.truth
    assert dead in site.suspects()


@pytest.mark.parametrize("way", ["two processes", "four processes"])
def test_a_damaged_archive_before_another_process_s_part(tmp_path: Path, way: str) -> None:
    pen = Pen(number=300)
    site = Site(tmp_path)
    site.write(pen.sessions(4000))
    site.rotate()
    site.write(pen.sessions(4000, prefix=b"new"))
    whole = gzip.compress((site.logs / f"{LOG_NAME}.1").read_bytes())
    (site.logs / f"{LOG_NAME}.1").unlink()
    (site.logs / f"{LOG_NAME}.1.gz").write_bytes(whole[: len(whole) // 2])
    assert_one_clear_line(run(site, WAYS[way]), f"{LOG_NAME}.1.gz")
    assert {**site.logins(), **site.suspects()}.keys() == pen.truth.keys()


def test_a_first_login_behind_suspect_ones_is_found(tmp_path: Path) -> None:
    account = (b"burst", b"localhost")
    pen = Pen(number=100)
    log = pen.sessions(20)
    # Each id twice: a block of them holds no certain login of this account, which later ones do.
    log += b"".join(2 * record(pen.instant, account, pen.number + number) for number in range(1, 31))
    pen.number += 40
    log += b"".join(pen.session(account) + pen.sessions(3, users=9) for _ in range(40))
    site = Site(tmp_path)
    site.write(log)
    collect(site, WAYS["few names in memory, tiny chunks"])
    assert site.logins() == facts_of([log])[0] == pen.truth


@pytest.mark.parametrize("at_lines", [True, False])
def test_in_steps_or_in_one_go(tmp_path: Path, told: tuple[bytes, Any], at_lines: bool) -> None:
    log, facts = told
    site = Site(tmp_path)
    for piece in cut(random.Random(len(log)), log, 12, at_lines=at_lines):
        site.write(piece)
        collect(site)
    assert site.facts() == facts


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("stepwise", [False, True])
def test_rotated_and_compressed(tmp_path: Path, told: tuple[bytes, Any], packed: bool, stepwise: bool) -> None:
    log, facts = told
    site = Site(tmp_path)
    for piece in cut(random.Random(len(log)), log, 6, at_lines=True):
        site.write(piece)
        if stepwise:
            collect(site)
        for path in site.logs.glob(f"{LOG_NAME}.?.gz"):
            shutil.move(path, path.with_name("moved-" + path.name))
        for path in site.logs.glob("moved-*"):
            number = int(path.name.split(".")[-2])
            path.rename(site.logs / f"{LOG_NAME}.{number + 1}.gz")
        site.rotate()
        if packed:
            first = site.logs / f"{LOG_NAME}.1"
            (site.logs / f"{LOG_NAME}.1.gz").write_bytes(gzip.compress(first.read_bytes()))
            shutil.copystat(first, site.logs / f"{LOG_NAME}.1.gz")
            first.unlink()
    collect(site)
    assert site.facts() == facts


def pythons() -> list[str]:
    """Return the other interpreters that can run here."""
    found = []
    for minor in range(9, 15):
        path = shutil.which(f"python3.{minor}")
        works = path and not subprocess.run([path, "-c", "import sqlite3"], capture_output=True, check=False).returncode
        if path and works:
            found.append(path)
    return found


@pytest.mark.parametrize("python", pythons())
def test_every_interpreter(tmp_path: Path, told: tuple[bytes, Any], python: str) -> None:
    log, facts = told
    site = Site(tmp_path)
    site.write(log)
    collect(site, python=python)
    assert site.facts() == facts


def stamped(number: int, rest: bytes) -> bytes:
    """Write a line of the server at some second."""
    return b"20260302 %02d:%02d:%02d,db01,%b\n" % (8 + number // 3600, number // 60 % 60, number % 60, rest)


def sessions_from(number: int, count: int) -> bytes:
    """Write logins of a few accounts, an id and a second each."""
    return b"".join(stamped(n, b"app%d,localhost,%d,0,CONNECT,,,0" % (n % 5, n)) for n in range(number, number + count))


# Lines that one way of looking takes for another thing than the grammar does.
ODD_LOGS = {
    "a name that holds a stamp which is no time": sessions_from(10, 9)
    + stamped(19, b"app,localhost20261399 99:99:99,db01,x,localhost,19,0,CONNECT,,,0")
    + sessions_from(20, 9),
    "a torn record, its rest gone, and the next glued to it": sessions_from(10, 9)
    + stamped(19, b"torn,localhost20260302 08:00:19,db01,x,localhost,19,0,CONNECT,,,0")
    + sessions_from(20, 9),
    "a login that was torn off, before a query": sessions_from(10, 9)
    + stamped(19, b"torn,localhost,19,0,CONNECT,d")[:-1]
    + stamped(20, b"app0,localhost,10,7,QUERY,,'select \\'x,0,CONNECT,y\\'',0")
    + stamped(20, b"app0,localhost,10,8,QUERY,,'20260302 08:00:00,db01,never,h,7,0,CONNECT,,,0',0")
    + sessions_from(21, 9),
    "a login that was torn off, before the end of a session": sessions_from(10, 9)
    + stamped(19, b"torn,localhost,19,0,CONNECT,")[:-1]
    + stamped(20, b"app0,localhost,10,0,DISCONNECT,,,0")
    + sessions_from(21, 9),
    "a host and an id that are as long as the other ids": sessions_from(10_010, 9)
    + stamped(10_019, b"com,ma,::1,1,0,CONNECT,,,0")
    + stamped(10_020, b"com,ma2,h,23,0,CONNECT,,,0")
    + sessions_from(10_020, 9),
    "a hole before a login": sessions_from(10, 9) + b"\0" * 50 + sessions_from(19, 9),
    "the mark in the name of a database": sessions_from(10, 9)
    + stamped(19, b"db,::1,19,0,CONNECT,,0,CONNECT,,,0,,0")
    + stamped(20, b"db2,h,20,0,CONNECT,x,0,CONNECT,y,,0")
    + sessions_from(21, 9),
    "the mark in a name": sessions_from(10, 9)
    + stamped(19, b"x,0,CONNECT,yyyyyyyyyyyyyyyyy,db01,root,localhost,19,0,CONNECT,,,0")
    + stamped(20, b"x,0,CONNECT,yyyyyyyyyyyyyyyyy,db01,root,localhost,20,0,FAILED_CONNECT,,,1045")
    + sessions_from(21, 9),
    "two marks in a line, and each looks like a login of somebody known": sessions_from(10, 90)
    + stamped(100, b"app0,localhost,7,0,CONNECT,20260302 08:01:40,db01,app1,localhost,100,0,CONNECT,,,0")
    + sessions_from(101, 90),
    "a record that breaks off, before logins of a name that looks so": sessions_from(990, 3)
    + stamped(993, b"a,localhost,7,0,CONNECT,")
    + sessions_from(994, 26)
    + stamped(1020, b"a,localhost,1234,0,CONNECT,,,0,h,1020,0,CONNECT,,,0")
    + sessions_from(1021, 9),
}


ODD_WAYS: dict[str, dict[str, object]] = {
    "as it is": {},
    "tiny chunks": {"CHUNK": 700},
    "always dense": {"DENSE": ALWAYS_DENSE},
    "never dense": {"DENSE": NEVER_DENSE},
}


@pytest.mark.parametrize("way", ODD_WAYS)
@pytest.mark.parametrize("odd", ODD_LOGS)
def test_odd_lines(tmp_path: Path, odd: str, way: str) -> None:
    site = Site(tmp_path)
    site.write(ODD_LOGS[odd])
    collector = Collector(tmp_path)
    collector.way = ODD_WAYS[way]
    assert collector.collect(site) == ""
    expected = facts_of([ODD_LOGS[odd]])
    assert (site.logins(), site.suspects()) == expected
    torn = (b"torn", b"localhost")
    assert torn not in expected[0]
    assert (torn in expected[1]) == ("torn off" in odd)
