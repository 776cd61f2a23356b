#!/usr/bin/env python3
"""Fuzz the tracker against the slow reference: no exception, no hang, the same facts.

    python3 tests/fuzz.py                          1,000,000 records, 3,000 logs and 1,000 attacks, in minutes
    python3 tests/fuzz.py --records N --logs N --attacks N --seed N

Three kinds of input: single records, mutated from those of real captures and of random logs, through the
grammar; whole logs, mutated as well, cut at random points (also within lines) between runs of `collect`, with
random sizes of chunks; and logs of a server under attack by clients without an account, of which no forged login
may count and no true one may be lost. Prints the number of inputs; a difference is printed with the seed that
shows it again.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import gzip
import lzma
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from datetime import timezone
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Optional

from random_logs import Attack
from random_logs import cut
from random_logs import random_log
from reference import facts_of
from reference import read_line
from site_kit import LOG_NAME
from site_kit import PROGRAM
from site_kit import Account
from site_kit import Site

sys.path.insert(0, str(PROGRAM.parent))
import conntracker

if TYPE_CHECKING:
    from collections.abc import Sequence

CAPTURES = Path(__file__).resolve().parent / "data" / "captures"
PACKERS = ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress))
ALWAYS_DENSE, NEVER_DENSE = 0.0, 1e9  # marks per KB of text from which a chunk is read whole
NOTHING_UNDERSTOOD = re.compile(r"^status 256: conntracker: ERROR: .*: not one line is understood; ", re.MULTILINE)
HANG = 20  # seconds; then the child is killed by SIGALRM
TOKENS = (
    b",",
    b",,",
    b"\0",
    b"\r",
    b"'",
    b"`",
    b":",
    b"-",
    b"\xff",
    b",0,CONNECT,",
    b",0,FAILED_CONNECT,",
    b",0,CONNECT,,,0",
    b"20260302 08:00:00,",
    b"20260302 08:00:00,db01,",
    b",localhost,7,0,CONNECT,,,0",
    b"9" * 20,
)


def corpus() -> list[bytes]:
    """Return records to begin with."""
    texts = [path.read_bytes() for path in sorted(CAPTURES.glob("*.log")) if "syslog" not in path.name]
    texts += [random_log(seed, 300) for seed in range(20)]
    lines = {line for text in texts for line in text.split(b"\n")}
    return sorted(line for line in lines if len(line) < 2000 and not line.startswith(b"2026-"))  # none of syslog


def mutate(rng: random.Random, data: bytes, most: int, tokens: Sequence[bytes] = TOKENS) -> bytes:
    """Change a few bytes, delete, repeat or insert a piece."""
    for _ in range(rng.randrange(most + 1)):
        at = rng.randrange(len(data) + 1)
        end = at + rng.choice((0, 1, 1, 2, 5, 20))
        piece = rng.choice((b"", rng.choice(tokens), data[at:end] * 2, bytes([rng.randrange(256)])))
        data = data[:at] + piece + data[end:]
    return data


Told = Optional[tuple[object, ...]]


def told_by_the_reference(text: bytes) -> Told:
    """Read a line by the grammar of the reference."""
    line = read_line(text)
    if not line:
        return None
    if not line.record:
        return line.number, line.operation
    return (*line.record.account, line.number, line.operation, line.record.code, line.record.instant)


def told_by_the_program(text: bytes, clock: conntracker.Clock) -> Told:
    """Read a line by the program's grammar: the one place here that knows its names."""
    line = conntracker.read_line(text, clock)
    if not line or line.operation not in (b"CONNECT", b"FAILED_CONNECT", b"DISCONNECT"):
        return None
    if line.stamp is None:
        return line.number, line.operation
    return line.user, line.host, line.number, line.operation, line.code, clock.find(line.stamp)


def program_clock() -> conntracker.Clock:
    """Return what the program reads stamps with."""
    return conntracker.Clock(conntracker.TimeFormat("20060102 15:04:05"), timezone.utc)


def fuzz_records(count: int, seed: int) -> list[str]:
    """Read mutated lines by the program's grammar and by the reference's."""
    rng = random.Random(seed)
    lines = corpus()
    clock = program_clock()
    troubles = []
    for _ in range(count):
        line = mutate(rng, rng.choice(lines), 3).replace(b"\n", b"")
        found, expected = told_by_the_program(line, clock), told_by_the_reference(line)
        if found != expected:
            troubles.append(f"record {line!r}: {found}, expected {expected}")
    return troubles


def short(accounts: set[Account]) -> set[Account]:
    """Leave out names that no server writes (a glued line of many kilobytes read as one)."""
    return {account for account in accounts if len(account[0]) <= 1000}


def unforeseen(said: str) -> bool:
    """Return whether a run said anything, unless it understood not one line of a mutated log."""
    return bool(said.strip()) and not NOTHING_UNDERSTOOD.search(said)


def random_way(rng: random.Random, longest: int) -> dict[str, object]:
    """Choose sizes that decide which way the bytes take through the program; the facts must not depend on it.

    Of a line longer than a chunk only the end is read, so a chunk holds the longest line.
    """
    return {
        "CHUNK": max(longest, rng.choice((256 * 1024, 256 * 1024, 700, 1000, 4000, 20_000))),
        "PARALLEL_FROM": rng.choice((24 << 20, 24 << 20, 24 << 20, 0)),
        "MANY_NAMES": rng.choice((50_000, 50_000, 3)),
        "DENSE": rng.choice((1.0, 1.0, ALWAYS_DENSE, NEVER_DENSE)),
    }


def take_way(way: dict[str, object]) -> None:
    """Set the sizes of a way in this process: constants of the program, by their names."""
    for name, value in way.items():
        getattr(conntracker, name)  # a constant that was renamed must not go unnoticed
        setattr(conntracker, name, value)


def in_another_shape(rng: random.Random, log: bytes) -> bytes:
    """Write a log as it comes through syslog, or by a plugin that adds an 11th field; mostly as it is."""
    chance = rng.random()
    if chance < 0.2:
        head = rb"\1-\2-\3T\4.%06d+00:00 dbx mariadbd[%d]:  \5" % (rng.randrange(10**6), rng.randrange(10**5))
        server = log.partition(b",")[2].partition(b",")[0]  # several in one syslog would have to be told apart
        return re.sub(rb"(?m)^(\d{4})(\d\d)(\d\d) ([\d:]{8}),(%b,)" % re.escape(server), head, log)
    if chance < 0.3:
        return re.sub(rb"(?m)(CONNECT,[^,']*,[^,']*,\d+)$", rb"\1,TLSv1.3", log)
    return log


class Collector:
    """Runs `collect` in this process, over logs in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.way: dict[str, object] = {}
        self.said = ""

    def collect(self, site: Site, *options: str) -> str:
        """Run once in a child, as a run of the program would; return what it said if anything went wrong."""
        said = self.folder / "said"
        child = os.fork()
        if not child:
            code = 70
            with said.open("w") as output, contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
                try:
                    signal.alarm(HANG)
                    take_way(self.way)
                    code = conntracker.main(site.command(*options)[2:])
                except BaseException:  # whatever it is, it is what is looked for
                    traceback.print_exc()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        text = said.read_text(errors="replace")
        return f"status {status}: {text}" if status or text else ""

    def write_in_steps(self, rng: random.Random, site: Site, log: bytes) -> list[bytes]:
        """Write a log piece by piece, with a run after each; return the files that it came to lie in."""
        self.said = ""
        files = [b""]
        # A window reaches over one border: the log is rotated once.  The server may go on writing to the old file.
        renamed = rng.random() < 0.2
        name = LOG_NAME
        for piece in cut(rng, log, rng.choice((1, 2, 4)), at_lines=False):
            site.write(piece, name)
            files[-1] += piece
            self.said += self.collect(site)
            if len(files) == 1 and name == LOG_NAME and rng.random() < 0.3 and files[0].endswith(b"\n"):
                if renamed:
                    site.rotate()
                    name = f"{LOG_NAME}.1"
                    continue
                if rng.random() < 0.3:
                    self.said += self.copy_and_truncate(rng, site)
                else:
                    site.rotate()
                files.append(b"")
                self.said += self.pack(rng, site)
        return files

    def copy_and_truncate(self, rng: random.Random, site: Site) -> str:
        """Rotate as copytruncate does; run while the copy is half written; return what went wrong."""
        copy, text, said = site.logs / f"{LOG_NAME}.1", site.log.read_bytes(), ""
        if rng.random() < 0.5:
            copy.write_bytes(text[: rng.randrange(len(text) + 1)])
            said = self.collect(site)
        copy.write_bytes(text)
        site.log.write_bytes(b"")
        return said

    def pack(self, rng: random.Random, site: Site) -> str:
        """Compress the rotated log, or not; run while it is half written; return what went wrong."""
        suffix, packer = rng.choice((("", bytes), *PACKERS))
        path = site.logs / f"{LOG_NAME}.1"
        packed = site.logs / f"{LOG_NAME}.1{suffix}"
        text = path.read_bytes()
        half = rng.randrange(len(text) + 1)  # in two members, as `cat a.gz b.gz` makes it
        whole = packer(text[:half]) + packer(text[half:])
        if not suffix or not text:
            return ""
        said = ""
        if rng.random() < 0.3:
            packed.write_bytes(whole[: rng.randrange(1, len(whole))])
            told = self.collect(site)
            if told and not (told.startswith("status 256: conntracker: ") and told.count("\n") == 1):
                said = told
        packed.write_bytes(whole)
        shutil.copystat(path, packed)
        path.unlink()
        return said

    def check(self, seed: int) -> str:
        """Collect a random log in random steps; return what differs from the reference."""
        rng = random.Random(seed)
        log = random_log(rng.randrange(1 << 30), rng.choice((3, 30, 30, 100)))
        if rng.random() < 0.2:
            paths = sorted(path for path in CAPTURES.glob("*.log") if "syslog" not in path.name)
            log = rng.choice(paths).read_bytes()
        if rng.random() < 0.5:
            log = mutate(rng, log, 6, (*TOKENS, b"\n", b"\n\n"))
        return self.compare(rng, seed, in_another_shape(rng, log))[0]

    def check_attack(self, seed: int) -> str:
        """Collect the log of a server under attack in random steps; return what is wrong with what was stored.

        In the first ids after a start nothing tells a restart from a forged one: there only a loss is a fault.
        """
        attack = Attack(seed)
        difference, stored, apart = self.compare(random.Random(seed), seed, attack.log())
        believed = [] if attack.young else sorted(account for account in stored if b"dead" in account[0])
        lost = sorted(attack.accounts - stored - apart)
        if believed or lost:
            return f"attack {seed}: believed {believed[:4]}, lost {lost[:4]}"
        return difference

    def compare(self, rng: random.Random, seed: int, log: bytes) -> tuple[str, set[Account], set[Account]]:
        """Collect a log in random steps; return what is wrong against the reference, and the accounts stored.

        Of a mutated log the program may doubt what the reference believes, and the other way round: it reads many
        lines at once and forgets old ids.  But no certain login may vanish, and none may come from nothing.
        """
        self.way = random_way(rng, max(map(len, log.split(b"\n"))) + 1)
        site = Site(self.folder / "site")
        files = self.write_in_steps(rng, site, log)
        said = self.said + self.collect(site)
        certain, suspects = facts_of(files)
        # The reference knows nothing of proxied logins.
        stored, apart = set(site.logins()), set(site.suspects(but="it is proxied"))
        shutil.rmtree(site.folder)
        where = f"seed {seed}: {self.way}: "
        if unforeseen(said):
            return where + said, stored, apart
        made_up, lost = short(stored - {*certain, *suspects}), short({*certain} - stored - apart)
        if made_up or lost:
            return where + f"made up {sorted(made_up)[:4]}, lost {sorted(lost)[:4]}", stored, apart
        return "", stored, apart


def fuzz_logs(count: int, seed: int, attacks: int = 0) -> list[str]:
    """Collect random logs, and those of attacks."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        collector = Collector(Path(name))
        troubles = [collector.check(seed + number) for number in range(count)]
        troubles += [collector.check_attack(seed + number) for number in range(attacks)]
    return [trouble for trouble in troubles if trouble]


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz and print the number of inputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--logs", type=int, default=3000)
    parser.add_argument("--attacks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    begin = time.monotonic()
    troubles = fuzz_records(options.records, options.seed) + fuzz_logs(options.logs, options.seed, options.attacks)
    print("\n".join(troubles[:20]))
    print(
        f"inputs: {options.records} records, {options.logs} logs, {options.attacks} attacks; "
        f"differences: {len(troubles)}; {time.monotonic() - begin:.0f} s"
    )
    return 1 if troubles else 0


if __name__ == "__main__":
    raise SystemExit(main())
