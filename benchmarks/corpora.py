"""Seeded audit logs for the benchmarks: realistic, reproducible, about 100 MB a second and core.

A corpus is a folder of files named as the audit plugin names its rotations (the highest number is the
oldest). Everything is built as latin-1 text, block by block, and encoded once a block.
"""

from __future__ import annotations

import calendar
import gzip
import itertools
import multiprocessing
import random
import shutil
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Callable

if TYPE_CHECKING:
    from collections.abc import Iterator

MEGABYTE = 1_000_000
SERVER = "db01"
START = 1_780_000_000  # an instant in 2026; the oldest file begins here
FILE_SPAN = 86_400  # each file holds about a day
LOG_NAME = "server_audit.log"
DONE = "complete"

# Names that a parser must not fall over: commas, quotes, controls, UTF-8 cut in mid-character (as the server
# itself mangles long names).
HOSTILE_ACCOUNTS = (
    "com,ma,localhost",
    "quo'te,localhost",
    'dq"name,app1.example.com',
    "back\\slash,localhost",
    "ta\tb,app2.example.com",
    "a,localhost,1,0,CONNECT,,,0,localhost",
    "\xc3\xa9\xe2\x82\xac,localhost",
    "\xe2\x82\xac" * 44 + "\xb4,localhost",
    "CONNECT,localhost",
    ",localhost",
)
QUERIES = (
    "select 1",
    "SELECT id, name, price FROM shop.articles WHERE category = 17 AND price < 200 ORDER BY price LIMIT 50",
    "UPDATE stock SET amount = amount - 1 WHERE article = 4711 AND warehouse = \\'Z\\xfcrich\\'",
    "INSERT INTO events (at, kind, payload) VALUES (now(), \\'CONNECT\\', \\'{\"n\":1}\\')",
    "select concat(a,0,CONNECT,b) from t",
    "update db1.t set s=\\'20260101 00:00:00,h,root,localhost,1,0,CONNECT,,,0\\' where i=1",
    "SELECT o.id, o.created, c.name, sum(l.price * l.amount) AS total FROM orders o JOIN customers c ON "
    "c.id = o.customer JOIN lines l ON l.order_id = o.id WHERE o.created > \\'2026-01-01\\' AND o.state IN "
    "(\\'new\\',\\'paid\\') GROUP BY o.id, o.created, c.name HAVING total > 100 ORDER BY total DESC LIMIT 20",
    "commit",
    "SET NAMES utf8mb4",
    "show status like \\'Threads%\\'",
)
QUERY_WEIGHTS = (15, 20, 20, 12, 1, 1, 25, 10, 3, 3)


@dataclass(frozen=True)
class Shape:
    """What one log file holds."""

    failed: float = 0.04  # share of the sessions that are refused
    forged: float = 0.001  # share of the refused that forge records
    flood: str = ""  # a name that all of these forge with, instead of several; {id} and {odd} differ each time
    ports: bool = False  # hosts are logged with a port, as from 12.0.1 on
    queries: int = 0  # QUERY records per session
    open: int = 0  # sessions that are open at a time; else each ends with the next record
    accounts: int = 400
    distinct: int = 0  # as many different user@host in turn, instead of the skewed choice
    block: int = 4_000  # sessions formatted at once


SHAPES = {
    "dense": Shape(),
    "mixed": Shape(queries=40, block=200),
    "brute": Shape(failed=0.96, forged=0),
    "brute-forged": Shape(failed=0.96, forged=0.01),
    "flood-one": Shape(failed=0.5, forged=1, flood=f"root,localhost,5,0,CONNECT,,,0\n20260601 00:00:00,{SERVER},z"),
    "flood-distinct": Shape(
        failed=0.5, forged=1, flood=f"u{{odd}},localhost,{{id}},0,CONNECT,,,0\n20260601 00:00:00,{SERVER},z"
    ),
    "flood-stamps": Shape(
        failed=0.5, forged=1, flood=f"x,h,5,0,CONNECT,,,0\n2026{{odd:04d}} 12:{{odd:02d}}:00,{SERVER},z{{odd}}"
    ),
    "ports": Shape(ports=True),
    "overlap": Shape(open=500),
    "million": Shape(distinct=1_000_000),
}


def accounts(count: int) -> tuple[list[str], list[float]]:
    """Return `user,host` texts and their weights: Zipf-like, with hostile and very rare ones at the end."""
    departments = ("billing", "shop", "report", "crm", "wiki", "backup", "mail", "monitor")
    hosts = (
        "localhost",
        "app1.example.com",
        "app2.example.com",
        "10.20.30.40",
        "10.20.30.41",
        "2001:db8::17",
    )
    names = [
        f"{departments[number % 8]}_{number // 8:02d},{hosts[number * 7 % 6]}"
        for number in range(count - len(HOSTILE_ACCOUNTS) - 6)
    ]
    weights = [1 / (rank + 1) ** 1.1 for rank in range(len(names))]
    names += HOSTILE_ACCOUNTS
    weights += [0.0005] * len(HOSTILE_ACCOUNTS)
    names += [f"yearly_job_{number},10.9.8.{number}" for number in range(6)]
    weights += [0.000005] * 6
    return names, weights


def forged_names(stamp: str) -> list[str]:
    """Return what attackers send as a name; the last two forge whole records."""
    return [
        "root,203.0.113.9",
        "admin,203.0.113.9",
        "test,198.51.100.77",
        "x,host,1,0,CONNECT,,,0,203.0.113.9",
        f"root,localhost,5,0,CONNECT,,,0\n{stamp},{SERVER},z,203.0.113.9",
        f"q,localhost,9,0,CONNECT,,,0\n{stamp},{SERVER},victim,localhost,9,0,CONNECT,,,0\n{stamp},{SERVER},z,"
        "203.0.113.9",
    ]


def refused(shape: Shape, rng: random.Random, stamp: str, session: int) -> str:
    """Return the `user,host` of one refused login."""
    if rng.random() < shape.forged:
        if shape.flood:
            return shape.flood.format(id=session + rng.randrange(2000), odd=rng.randrange(10_000)) + ",203.0.113.9"
        return rng.choice(forged_names(stamp))
    if shape.failed <= 0.5:
        return f"wrong{rng.randrange(30)},10.20.30.40"
    guesses = ("root", "admin", "mysql", "test", "user", "wordpress", "backup", "oracle")
    return f"{rng.choice(guesses)}{rng.randrange(100)},203.0.113.{rng.randrange(250)}"


def queries(rng: random.Random, account: str, session: int, stamp: str, count: int) -> str:
    """Return the QUERY records of one session."""
    begin = f"{stamp},{SERVER},{account},{session},"
    first = session * (count + 2)
    texts = rng.choices(QUERIES, QUERY_WEIGHTS, k=count)
    return "".join([f"{begin}{first + number},QUERY,db1,'{text}',0\n" for number, text in enumerate(texts)])


def names_of(shape: Shape, rng: random.Random, session: int) -> list[str]:
    """Return the account of each session in the block that begins with this one."""
    if shape.distinct:
        # A stride that shares no factor with the count visits every pair once before any comes again.
        numbers = [(session + n) * 390_001 % shape.distinct for n in range(shape.block)]
        return [f"user{number // 1000:04d},host{number % 1000:03d}.example.com" for number in numbers]
    population, weights = accounts(shape.accounts)
    return rng.choices(population, weights, k=shape.block)


def blocks(shape: Shape, seed: int, first_session: int, begin: int) -> Iterator[bytes]:
    """Yield blocks of whole records for ever, from this connection id and instant on."""
    rng = random.Random(seed)
    session = first_session
    ends: deque[str] = deque()
    per_second = 60 if not shape.queries else 4
    for number in itertools.count():
        at = begin + number * shape.block // per_second
        stamps = [
            time.strftime("%Y%m%d %H:%M:%S", time.gmtime(at + second))
            for second in range(shape.block // per_second + 1)
        ]
        sessions = enumerate(names_of(shape, rng, session), session)
        draws = [rng.random() for _ in range(shape.block)]
        lines: list[str] = []
        for (identity, account), draw, place in zip(sessions, draws, range(shape.block)):
            stamp = stamps[place // per_second]
            if draw < shape.failed:
                name = f"{stamp},{SERVER},{refused(shape, rng, stamp, identity)},{identity},0,"
                lines.append(f"{name}FAILED_CONNECT,,,1045\n{name}DISCONNECT,,,0\n")
                continue
            port = f":{rng.randrange(10_000, 65_536)}" if shape.ports and "." in account[-14:] else ""
            name = f"{stamp},{SERVER},{account}{port},{identity},0,"
            text = queries(rng, account, identity, stamp, shape.queries) if shape.queries else ""
            ends.append(f"{name[len(stamp) :]}DISCONNECT,db1,,0\n")
            ended = f"{stamp}{ends.popleft()}" if len(ends) > shape.open else ""
            lines.append(f"{name}CONNECT,db1,,0\n{text}{ended}")
        session += shape.block
        yield "".join(lines).encode("latin-1")


def write_log(job: tuple[Path, str, int, int]) -> None:
    """Write one file of at least this size: path, shape's name, seed, size."""
    path, shape, seed, size = job
    written = 0
    with path.open("wb") as log:
        # Ids go on from file to file; 75 bytes is about the length of a record.
        for block in blocks(SHAPES[shape], seed, 3 + seed * (size // 75), START + seed * FILE_SPAN):
            log.write(block)
            written += len(block)
            if written >= size:
                return


def log_names(count: int) -> list[str]:
    """Return the names of a rotated log, the oldest first."""
    return [f"{LOG_NAME}.{number}" for number in range(count - 1, 0, -1)] + [LOG_NAME]


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Make the folder unless an earlier run has finished it."""
    if not (folder.parent / f"{folder.name}.{DONE}").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        (folder.parent / f"{folder.name}.{DONE}").touch()
    return folder


def plain(root: Path, shape: str, count: int, size: int) -> Path:
    """Return the folder with `count` log files of `size` bytes."""

    def make(folder: Path) -> None:
        jobs = [(folder / name, shape, seed, size) for seed, name in enumerate(log_names(count))]
        with multiprocessing.Pool(2) as pool:
            pool.map(write_log, jobs, chunksize=1)

    return once(root / f"{shape}-{count}x{size // MEGABYTE}", make)


def compress(job: tuple[Path, Path]) -> None:
    """Compress one file as logrotate does, at a level that is quick to make."""
    source, target = job
    with source.open("rb") as plain_log, gzip.open(target, "wb", compresslevel=3) as packed:
        shutil.copyfileobj(plain_log, packed, 1 << 20)


def compressed(root: Path, dense: Path, count: int) -> Path:
    """Return the folder with the first files of the dense corpus as .gz."""
    chosen = sorted(dense.glob(f"{LOG_NAME}.*"))[:count]

    def make(folder: Path) -> None:
        with multiprocessing.Pool(2) as pool:
            pool.map(compress, [(path, folder / f"{path.name}.gz") for path in chosen], chunksize=1)

    return once(root / f"{dense.name}-gz{count}", make)


def live(root: Path, size: int) -> Path:
    """Return the folder with one single log of this size."""

    def make(folder: Path) -> None:
        write_log((folder / LOG_NAME, "dense", 0, size))

    return once(root / f"live-{size // MEGABYTE}", make)


def grow(log: Path, seed: int, size: int) -> None:
    """Append about `size` bytes of dense records, with ids and stamps that go on where the log ends."""
    with log.open("rb+") as live_log:
        live_log.seek(-1000, 2)
        last = live_log.read().splitlines()[-1].decode("latin-1")
        at = calendar.timegm(time.strptime(last[:17], "%Y%m%d %H:%M:%S")) + 1
        source = blocks(SHAPES["dense"], 1000 + seed, int(last.split(",")[-6]) + 1, at)
        produced = b""
        while len(produced) < size:
            produced += next(source)
        live_log.write(produced[: produced.rindex(b"\n", 0, size) + 1])
