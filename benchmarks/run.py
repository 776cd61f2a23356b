#!/usr/bin/env python3
"""Measure the tracker beside mawk, cat, zcat and the interpreter's own start; print a Markdown table.

The tracker is measured as the role installs it, kept compiled by Python behind a short command; its later runs also
as a bare script, which Python compiles anew at each start.

    python3 benchmarks/run.py                 the full size: about 3 GB of logs in the temporary folder
    python3 benchmarks/run.py --size small    a few megabytes, once, to see that everything runs
    python3 benchmarks/run.py --size huge     the full size and the memory for 10 GB

The contestants run in turn, round after round; a figure is the median of its rounds. Before each measured
run the logs are read once, so that the page cache is warm for everyone. Times are the wall clock and user +
system time of the process and of all children it waited for. Memory is measured in runs of its own, because
looking at it costs time: the sum of Pss (/proc/PID/smaps_rollup: shared pages counted once) over the process
and all its descendants, sampled every 5 ms, and its maximum. A shorter peak can be missed.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

import corpora

if TYPE_CHECKING:
    from collections.abc import Sequence

MEGABYTE = corpora.MEGABYTE
PROGRAM = Path(__file__).resolve().parent.parent / "conntracker.py"
# The least that an answer can cost: split at commas, keep the last stamp of each pair.
MAWK = ("mawk", "-F,", '$7=="CONNECT" && $10==0{a[$3","$4]=$1} END{for(k in a) n++; print n}')
START = (sys.executable, "-c", "import argparse, configparser, re, sqlite3, zoneinfo")
SAMPLE_EVERY = 0.005
# Of mawk's time: wall with the default workers, CPU with one.
TARGETS = {
    "dense": ("<= 0.60", "<= 1.15"),
    "mixed": ("<= 0.25", "<= 0.40"),
    "brute": ("", "<= 1.5"),
    "brute-forged": ("", "<= 3"),
    "flood-one": ("", "<= 4"),
    "flood-distinct": ("", "<= 4"),
    "flood-stamps": ("", "<= 4"),
    "ports": ("", "<= 2"),
    "overlap": ("", ""),
}
FLOODS = tuple(TARGETS)[2:]
MEMORY = {"dense: tracker": 40, "mixed: tracker": 40, "dense 10 GB: tracker": 40, "million: tracker": 200}


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    file_size: int
    files: int
    live: tuple[int, int]
    million: int
    packed: int
    flood: int
    huge: bool = False


SIZES = {
    "small": Size(1, MEGABYTE, 3, (MEGABYTE, 3 * MEGABYTE), MEGABYTE, 2, MEGABYTE),
    "full": Size(5, 100 * MEGABYTE, 10, (100 * MEGABYTE, 1000 * MEGABYTE), 500 * MEGABYTE, 9, 50 * MEGABYTE),
    "huge": Size(5, 100 * MEGABYTE, 10, (100 * MEGABYTE, 1000 * MEGABYTE), 500 * MEGABYTE, 9, 50 * MEGABYTE, huge=True),
}


@dataclass
class Figures:
    """The rounds of one contestant."""

    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)
    memory: float = 0.0

    @property
    def wall(self) -> float:
        """The median wall time."""
        return statistics.median(self.walls)

    @property
    def cpu(self) -> float:
        """The median of user + system time."""
        return statistics.median(self.cpus)


@dataclass
class Contestant:
    """One command over one set of logs."""

    name: str
    command: Sequence[str]
    logs: Sequence[Path] = ()
    database: Path | None = None
    keep_database: bool = False
    grow: Path | None = None  # a live log that gets 1 MB before each run
    figures: Figures = field(default_factory=Figures)
    grown: int = 0

    def prepare(self) -> None:
        """Bring logs, database and page cache into the state that is measured."""
        if self.database and not self.keep_database:
            for old in self.database.parent.glob(self.database.name + "*"):
                old.unlink()
        if self.grow:
            self.grown += 1
            corpora.grow(self.grow, self.grown, MEGABYTE)
        warm(self.logs)

    def measure(self) -> None:
        """Run once and note the times."""
        self.prepare()
        begin = time.perf_counter()
        child = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        self.figures.walls.append(time.perf_counter() - begin)
        child.returncode = os.waitstatus_to_exitcode(status)
        self.figures.cpus.append(usage.ru_utime + usage.ru_stime)
        self.check(child.returncode)

    def measure_memory(self) -> None:
        """Run once more and note the largest sum of Pss of all its processes."""
        self.prepare()
        child = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        while child.poll() is None:
            self.figures.memory = max(self.figures.memory, tree_memory(child.pid))
            time.sleep(SAMPLE_EVERY)
        self.check(child.returncode)

    def check(self, code: int) -> None:
        """Refuse to report the time of something that failed."""
        if code:
            raise SystemExit(f"{self.name}: exit code {code}: {' '.join(self.command)}")


def warm(logs: Sequence[Path]) -> None:
    """Bring the files into the page cache."""
    buffer = bytearray(1 << 20)
    for path in logs:
        with path.open("rb", buffering=0) as log:
            while log.readinto(buffer):
                pass


def tree_memory(root: int) -> float:
    """Return the megabytes (10^6) of a process and all its descendants, shared pages counted once."""
    total = 0
    waiting = [root]
    while waiting:
        process = waiting.pop()
        try:
            for task in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{task}/children", encoding="ascii") as children:
                    waiting += [int(child) for child in children.read().split()]
            with open(f"/proc/{process}/smaps_rollup", encoding="ascii") as rollup:
                total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        except (OSError, ValueError):
            continue  # it ended between two looks
    return total * 1024 / MEGABYTE


class Benchmark:
    """All contestants, their corpora and the table."""

    def __init__(self, size: Size, root: Path, scratch: Path, python: str, older: Path | None) -> None:
        self.size = size
        self.root = root
        self.scratch = scratch
        self.python = python
        self.contestants: dict[str, Contestant] = {}
        self.installed = {"tracker": self.install(PROGRAM, "tracker")}
        if older:
            self.installed["older"] = self.install(older, "older")

    def install(self, program: Path, name: str) -> Path:
        """Install a program as the role does; return the command's path."""
        library, command = self.scratch / f"{name}-library", self.scratch / name
        library.mkdir()
        shutil.copy(program, library / "conntracker.py")
        subprocess.run([self.python, "-m", "compileall", "-q", str(library)], check=True)
        start = f"import sys\n\nsys.path.insert(0, {str(library)!r})\n\nimport conntracker\n\n"
        command.write_text(f"#!{shutil.which(self.python)} -IS\n{start}sys.exit(conntracker.main())\n")
        command.chmod(0o755)
        return command

    def tracker(self, folder: Path, name: str, options: Sequence[str] = (), program: Path | None = None) -> Contestant:
        """Return the tracker over a folder with a database of its own; a name with "older" is the older one's."""
        database = self.scratch / f"{name}.sqlite"
        installed = self.installed["older" if "older" in name else "tracker"]
        command = [self.python, str(program)] if program else [str(installed)]
        command += ["--config", str(self.scratch / "empty.ini")]
        command += ["--audit-log-path", str(folder), "--sqlite-path", str(database), *options]
        return Contestant(name, command, sorted(folder.iterdir()), database)

    def add(self, contestant: Contestant) -> None:
        """Take one more contestant into the rounds."""
        self.contestants[contestant.name] = contestant

    def first_runs(self, shape: str, count: int, size: int, *, beside_mawk: bool = True) -> Path:
        """Add the first run over a corpus, with the default workers and with one."""
        folder = corpora.plain(self.root, shape, count, size)
        logs = sorted(folder.iterdir())
        paths = [str(path) for path in logs]
        for name in self.installed:
            self.add(self.tracker(folder, f"{shape}: {name}"))
            if beside_mawk:
                self.add(self.tracker(folder, f"{shape}: {name}, MaxWorkers 1", ("--max-workers", "1")))
        if beside_mawk:
            self.add(Contestant(f"{shape}: mawk", (*MAWK, *paths), logs))
            self.add(Contestant(f"{shape}: cat", ("cat", *paths), logs))
        return folder

    def packed(self, dense: Path) -> None:
        """Add the first run over compressed logs and zcat of the same."""
        folder = corpora.compressed(self.root, dense, self.size.packed)
        logs = sorted(folder.iterdir())
        for name in self.installed:
            self.add(self.tracker(folder, f"gz: {name}"))
        self.add(Contestant("gz: zcat", ("zcat", *map(str, logs)), logs))

    def later_runs(self, size: int) -> None:
        """Add the later runs over one live log: nothing new, and 1 MB new."""
        label = f"live {size // MEGABYTE} MB"
        source = corpora.live(self.root, size)
        for form, program in ((label, None), (f"{label}, bare script", PROGRAM)):
            growing = self.scratch / form
            shutil.copytree(source, growing)
            for kind, folder in (("nothing new", source), ("1 MB new", growing)):
                contestant = self.tracker(folder, f"{form}: {kind}", program=program)
                contestant.grow = growing / corpora.LOG_NAME if folder == growing else None
                contestant.measure()  # the first run fills the database
                contestant.figures = Figures()
                contestant.keep_database = True
                self.add(contestant)

    def build(self) -> None:
        """Make the corpora and the list of contestants."""
        (self.scratch / "empty.ini").write_text("[default]\n")
        size = self.size
        dense = self.first_runs("dense", size.files, size.file_size)
        self.first_runs("mixed", size.files, size.file_size)
        for shape in FLOODS:
            self.first_runs(shape, 1, size.flood)
        self.first_runs("million", 5, size.million // 5, beside_mawk=False)
        self.packed(dense)
        for live_size in size.live:
            self.later_runs(live_size)
        self.add(Contestant("interpreter's start", (self.python, *START[1:])))
        if size.huge:
            folder = corpora.plain(self.root, "dense", 100, size.file_size)
            self.add(self.tracker(folder, "dense 10 GB: tracker"))

    def run(self, only: Sequence[str]) -> None:
        """Measure the chosen contestants in turn, then their memory."""
        chosen = [one for name, one in self.contestants.items() if not only or any(text in name for text in only)]
        self.contestants = {one.name: one for one in chosen}
        for _ in range(self.size.rounds):
            for contestant in chosen:
                contestant.measure()
        for contestant in chosen:
            contestant.measure_memory()

    def ratio(self, ours: str, theirs: str, *, cpu: bool = False) -> str:
        """Return our time as a part of theirs."""
        if ours not in self.contestants or theirs not in self.contestants:
            return ""
        mine, other = self.contestants[ours].figures, self.contestants[theirs].figures
        value = mine.cpu / other.cpu if cpu else mine.wall / other.wall
        return f"{value:.2f}"

    def targets(self) -> list[tuple[str, str, str, str]]:
        """Return what was promised: work, figure, the older program's figure, target."""
        rows = []
        for shape, (wall, cpu) in TARGETS.items():
            mawk = f"{shape}: mawk"
            ours, older = (self.ratio(f"{shape}: {name}", mawk) for name in ("tracker", "older"))
            rows.append((f"{shape}: first run / mawk, wall", ours, older, wall))
            single = (f"{shape}: {name}, MaxWorkers 1" for name in ("tracker", "older"))
            ours, older = (self.ratio(name, mawk, cpu=True) for name in single)
            rows.append((f"{shape}: MaxWorkers 1 / mawk, CPU", ours, older, cpu))
        for size in self.size.live:
            for form, limit in (("", "<= 2.0"), (", bare script", "<= 4.5")):
                for kind in ("nothing new", "1 MB new"):
                    name = f"live {size // MEGABYTE} MB{form}: {kind}"
                    rows.append((f"{name} / interpreter's start", self.ratio(name, "interpreter's start"), "", limit))
        for kind in ("nothing new", "1 MB new"):
            small, large = (f"live {size // MEGABYTE} MB: {kind}" for size in self.size.live)
            rows.append((f"{kind}: large / small live log, wall", self.ratio(large, small), "", "0.90 .. 1.10"))
        ours, older = (self.ratio(f"gz: {name}", "gz: zcat") for name in ("tracker", "older"))
        rows.append(("gz: first run / zcat, wall", ours, older, "<= 1.3"))
        for name, most in MEMORY.items():
            if name in self.contestants:
                reached = f"{self.contestants[name].figures.memory:.1f}"
                rows.append((f"{name}: peak memory, MB", reached, "", f"<= {most}"))
        return [row for row in rows if row[1]]

    def report(self) -> str:
        """Return both tables in Markdown."""
        version = subprocess.run(
            [self.python, "-c", "import platform; print(platform.python_version())"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        lines = [
            f"{cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
            f"Python {version}; median of {self.size.rounds}, page cache warm.",
            "",
            "| contestant | wall s | CPU s | peak memory MB |",
            "|---|---|---|---|",
        ]
        for name, contestant in self.contestants.items():
            figures = contestant.figures
            lines.append(f"| {name} | {figures.wall:.3f} | {figures.cpu:.3f} | {figures.memory:.1f} |")
        lines += ["", "| what | reached | older program | target |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(row) + " |" for row in self.targets()]
        return "\n".join(lines)


def cpu_model() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main(argv: Sequence[str] | None = None) -> int:
    """Make the corpora, measure, print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="only the contestants with a TEXT in the name")
    parser.add_argument("--rounds", type=int, help="how often each one runs")
    parser.add_argument("--corpus", type=Path, help="folder for the logs; kept for the next run")
    parser.add_argument("--python", default="/usr/bin/python3", help="the interpreter to measure")
    parser.add_argument("--beside", type=Path, metavar="PROGRAM", help="measure an older program in the same rounds")
    options = parser.parse_args(argv)
    size = SIZES[options.size]
    if options.rounds:
        size = Size(**{**size.__dict__, "rounds": options.rounds})
    root = options.corpus or Path(tempfile.gettempdir()) / "conntracker-benchmark"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=root) as scratch:
        benchmark = Benchmark(size, root, Path(scratch), options.python, options.beside)
        benchmark.build()
        benchmark.run(options.only or ())
        print(benchmark.report())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
