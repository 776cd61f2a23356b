#!/usr/bin/env python3
"""Half a year in minutes: a real server whose clock is moved on, clients, administrators, mishaps, and the tracker.

    python3 tests/timelapse.py --steps 300 --days 20

Starts a mariadbd of its own in a temporary folder (needs mariadb-server and faketime; nothing of the system's server
is touched) and lets half a day pass with each step. Clients log in, change the user of a pooled session, keep sessions
open for weeks and are refused; accounts are made, dropped, made again and locked; the server restarts; logs rotate.
Quiet times, long enough for a verdict, are followed by rough ones, in which auditing is switched off in every way that
there is, also in between two runs of the tracker, and a log is lost before it was read. After each run of the tracker
its report is held against what really happened (see `Truth`):

 1. no account that was used within the window is removable;
 2. accounts that were not used through a window that was watched without a hole should be removable: they are counted;
 3. no moment of a connection that left no record lies in a stretch that the report calls watched.

Prints what was counted; exit code 1 if 1 or 3 was violated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections import defaultdict
from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import mariadb_server
from mariadb_server import MariaDBServer
from rawclient import RawClient
from rawclient import ServerError
from site_kit import PROGRAM
from site_kit import stamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Sequence

DAY = 86400.0
STEP = DAY / 2
# The clock of the server and of this process are read at different moments, and stamps are cut to the second.
NEAR = 2.0
PASSWORD = "correct horse"
TRACKER = "conntracker"
GRANTS = (
    f"grant process, show view, trigger on *.* to {TRACKER}@localhost",
    f"grant select (host, user, priv) on mysql.global_priv to {TRACKER}@localhost",
    f"grant select on mysql.proxies_priv to {TRACKER}@localhost",
    f"grant select on mysql.proc to {TRACKER}@localhost",
    f"grant select on mysql.event to {TRACKER}@localhost",
)
POOL, APPS, OFFICE, KIOSK = "127.0.4.1", "127.0.3.1", "127.0.5.1", "127.0.9.1"
# These refusals come after the right password only.
RIGHT_PASSWORD = frozenset((1040, 1044, 1102, 1203, 1226, 1862, 4151))
WRONG_PASSWORD = frozenset((1045, 1698))
AUDIT = {"logging": "ON", "events": "CONNECT", "file_rotate_size": "20000", "file_rotations": "99"}

# Python sleeps until a monotonic instant from 3.11 on; libfaketime 0.9.10 moves that instant, and the call fails.
LAUNCH = """
import runpy, select, sys, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""

Row = tuple[str, str]


# ---------------------------------------------------------------------------------------------------------
# What really happened
# ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """An account was used from `began` to `ended`, which are one and the same but for sessions."""

    row: Row
    began: float
    ended: float
    how: str


@dataclass
class Connection:
    """A client connected, whatever came of it. `unseen` says why no record of it can be read, if so."""

    run: int  # of the server, counted from 1; its connection ids begin anew with each
    number: int | None  # the connection id, if the client came to know it
    at: float
    unseen: str


@dataclass
class Session:
    """An open session, whose it is now, since when, and until when it is meant to last."""

    client: RawClient
    row: Row
    began: float
    until: float = 0.0


@dataclass
class Blind:
    """A stretch of time whose connections left no record that can be read."""

    why: str
    began: float
    ended: float


@dataclass
class Truth:
    """All that a verdict is held against, as known to those who did it.

    Instants are those of the moved clock, in seconds. A row is an account as the server has it: name and host pattern;
    where several rows could be meant, it is the server's own word (CURRENT_USER()) which of them a client was given.
    """

    uses: dict[Row, list[Use]] = field(default_factory=dict)
    open: list[Session] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    blind: list[Blind] = field(default_factory=list)
    born: dict[Row, float] = field(default_factory=dict)  # the accounts that there are, and since when
    collected: list[float] = field(default_factory=list)  # when the tracker ran

    def use(self, row: Row, how: str, began: float, ended: float | None = None) -> None:
        """Note a use."""
        self.uses.setdefault(row, []).append(Use(row, began, began if ended is None else ended, how))

    def last_use(self, row: Row, now: float) -> Use | None:
        """Return the newest use of a row; an open session is one until now."""
        still = [Use(row, session.began, now, "session") for session in self.open if session.row == row]
        return max([*self.uses.get(row, ()), *still], key=lambda use: use.ended, default=None)

    def unseen(self) -> list[Connection]:
        """Return the connections of which no record can be read."""
        return [connection for connection in self.connections if connection.unseen]

    def watched(self, since: float, until: float) -> bool:
        """Tell if all records from `since` to `until` could be read, and the tracker ran before and after."""
        seen = self.collected and self.collected[0] <= since and self.collected[-1] >= until - NEAR
        return bool(seen) and not any(hole.began <= until and hole.ended >= since for hole in self.blind)


# ---------------------------------------------------------------------------------------------------------
# The machinery
# ---------------------------------------------------------------------------------------------------------


def preload() -> str:
    """Return the path of the library that moves a process's clock, or nothing."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return str(found[0]) if found else ""


def why_not() -> str:
    """Say why the time-lapse cannot run here, or nothing."""
    return mariadb_server.why_not() or ("" if preload() else "faketime is not installed")


class Clock:
    """The clock of all child processes: the true one and an offset, which they read from a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.offset = 0
        self.advance(0)
        os.environ.update(
            LD_PRELOAD=preload(),
            FAKETIME_TIMESTAMP_FILE=str(file),
            FAKETIME_NO_CACHE="1",
            # With a monotonic clock that jumps, or one that stands still, the server hangs.
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            DONT_FAKE_MONOTONIC="1",
        )

    def now(self) -> float:
        """Return the time that the child processes see."""
        return time.time() + self.offset

    def advance(self, seconds: float) -> None:
        """Move the clock on. The file is never seen empty: that would be the true time."""
        self.offset += int(seconds)
        new = self.file.with_suffix(".new")
        new.write_text(f"+{self.offset}\n")
        new.chmod(0o644)
        new.replace(self.file)


class Server(MariaDBServer):
    """A server that reads an option file, or is started without it and does not audit then."""

    def __init__(self, *, userstat: bool) -> None:
        super().__init__()
        self.options = self.folder / "my.cnf"
        lines = ["[mariadb]", "plugin_load_add=server_audit", f"userstat={int(userstat)}"]
        lines += [f"server_audit_{name}={value}" for name, value in AUDIT.items()]
        self.options.write_text("\n".join([*lines, ""]))
        self.options.chmod(0o644)
        self.run = 0

    def start(self, *, with_options: bool = True) -> None:
        """Make the data directory on the first call, and start the server."""
        if not self.data.exists():
            self._install()
        self.run += 1
        defaults = f"--defaults-file={self.options}" if with_options else "--no-defaults"
        self.launch(defaults, "--skip-name-resolve", "--max-connect-errors=999999")

    def wait_for_end(self) -> None:
        """Wait until a server that was told to shut down is gone."""
        assert self._process
        self._process.wait(mariadb_server.START_SECONDS)


@dataclass
class Account:
    """An account and its habits: `every` is the mean number of days between two uses, 0 is never."""

    user: str
    host: str
    source: str  # the loopback address from which it is used; nothing is the socket
    every: float
    habit: str = "login"
    options: str = ""
    database: str = ""
    locked: bool = False

    @property
    def row(self) -> Row:
        """Name and host pattern."""
        return (self.user, self.host)

    @property
    def sql(self) -> str:
        """The account as SQL names it."""
        return f"'{self.user}'@'{self.host}'"


def cast(days: float, rng: random.Random) -> list[Account]:
    """Return the accounts, of which some are used about once in a window of so many days."""
    accounts = [Account(f"daily{number}", "127.0.3.%", APPS, 1) for number in range(5)]
    accounts += [Account(f"weekly{number}", "%", rng.choice((APPS, OFFICE)), days / 3) for number in range(3)]
    accounts += [Account(f"rare{number}", "%", OFFICE, days * (0.6 + number / 3)) for number in range(4)]
    accounts += [Account("several", "%", OFFICE, days), Account("several", "127.0.3.%", APPS, 2)]
    accounts += [Account("several", "localhost", "", 0), Account("console", "localhost", "", days / 2)]
    accounts += [Account("dead0", "%", APPS, 0), Account("dead1", "127.0.3.%", APPS, 0)]
    accounts += [Account("dead2", "localhost", "", 0), Account("dead3", "10.%", APPS, 0)]
    accounts += [Account(f"passing{number}", "127.0.3.%", APPS, 1, "retires") for number in range(3)]
    accounts += [Account("pool", "127.0.4.%", POOL, 1)]
    accounts += [
        Account(f"pooled{number}", "127.0.4.%", POOL, every, "pooled") for number, every in enumerate((1, 5, days, 0))
    ]
    accounts += [Account(f"holder{number}", "127.0.5.%", OFFICE, days / 2, "hold") for number in range(2)]
    accounts += [Account("locked", "127.0.5.%", OFFICE, 3, options="account lock", locked=True)]
    accounts += [Account("closed", "127.0.3.%", APPS, 0, options="account lock", locked=True)]
    accounts += [Account("nobase", "127.0.3.%", APPS, days / 3, database="mysql")]
    accounts += [Account("expired", "127.0.5.%", OFFICE, days / 2, options="password expire")]
    accounts += [Account("", "127.0.9.%", KIOSK, 3)]
    return accounts


class World:
    """The server, its clients and its administrators; it does things and notes the truth."""

    def __init__(self, server: Server, clock: Clock, days: float, rng: random.Random) -> None:
        self.server, self.clock, self.days, self.rng = server, clock, days, rng
        self.truth = Truth()
        self.accounts: list[Account] = []
        self.dropped: list[Account] = []
        self.unseen = ""  # why a connection made now leaves no record that could be read
        self.counts: Counter[str] = Counter()
        self.troubles: list[str] = []
        self.named = 0
        self.ages: dict[int, int] = {}

    # Time

    def pass_time(self, seconds: float) -> None:
        """Move the clock on; the logs get the times of modification that they would have had."""
        instant = int(self.clock.now() * 1e9)
        for path in self.server.data.glob("server_audit.log*"):
            with contextlib.suppress(FileNotFoundError):  # it was renamed just now
                status = path.stat()
                if self.ages.get(status.st_ino) != status.st_mtime_ns:
                    os.utime(path, ns=(instant, instant))
                    self.ages[status.st_ino] = instant
        self.clock.advance(seconds)

    # Connections

    def connect(self, user: str, source: str, password: str = PASSWORD, database: str = "") -> RawClient:
        """Connect, and note that it happened whatever comes of it."""
        made = Connection(self.server.run, None, self.clock.now(), self.unseen)
        self.truth.connections.append(made)
        client = self.server.connect_as(user, password, source, database)
        made.number = client.connection_id
        return client

    def log_in(self, account: Account) -> Session | None:
        """Log in with the right password; a refusal that only the right password gets is a use, too."""
        user, password = account.user or f"visitor{self.rng.randrange(9)}", PASSWORD if account.user else ""
        try:
            client = self.connect(user, account.source, password, account.database)
        except ServerError as error:
            self.counts["refused with the right password"] += 1
            if error.code not in RIGHT_PASSWORD:
                self.troubles.append(f"{account.sql} was refused: {error}")
            self.truth.use(account.row, f"refused with the right password, {error.code}", self.clock.now())
            return None
        self.counts["logins"] += 1
        return self.opened(client, account)

    def opened(self, client: RawClient, account: Account) -> Session:
        """Note a session, under the account that the server says it has chosen."""
        row = account.row
        # A session with an expired password may ask nothing.
        if not account.options and (not account.user or sum(it.user == account.user for it in self.accounts) > 1):
            [[answer]] = client.query("select current_user()")
            user, _, host = (answer or b"").decode().rpartition("@")
            row = (user, host)
        if row != account.row:
            self.troubles.append(f"{account.sql} from {account.source} became {row}")
        session = Session(client, row, self.clock.now())
        self.truth.use(row, "login", session.began)
        self.truth.open.append(session)
        return session

    def leave(self, session: Session) -> None:
        """End a session."""
        self.truth.open.remove(session)
        session.client.close()
        self.truth.use(session.row, "session", session.began, self.clock.now())

    def become(self, session: Session, account: Account) -> None:
        """Change the user of a session."""
        session.client.change_user(account.user.encode(), PASSWORD.encode())
        self.counts["changes of user"] += 1
        self.truth.use(session.row, "session", session.began, self.clock.now())
        session.row, session.began = account.row, self.clock.now()
        self.truth.use(session.row, "change of user", session.began)

    def be_refused(self, user: str, source: str) -> None:
        """Try a wrong password, or a name that there is not."""
        self.counts["refused with a wrong password"] += 1
        try:
            self.connect(user, source, "wrong").close()
        except ServerError as error:
            if error.code not in WRONG_PASSWORD:
                self.troubles.append(f"{user!r} with a wrong password: {error}")
        else:
            self.troubles.append(f"{user!r} was let in with a wrong password")

    @contextlib.contextmanager
    def root(self) -> Iterator[Callable[[str], list[list[bytes | None]]]]:
        """Be the administrator."""
        client = self.connect("root", "", "")
        self.truth.use(("root", "localhost"), "login", self.clock.now())
        try:
            yield client.query
        finally:
            client.close()

    def sql(self, *statements: str) -> None:
        """Run statements as the administrator."""
        with self.root() as query:
            for statement in statements:
                query(statement)

    # What clients do

    def act(self, account: Account) -> None:
        """Use an account as it is used to be."""
        if account.habit == "pooled":
            self.use_pool(account)
        elif account.habit == "hold":
            self.hold(account)
        elif session := self.log_in(account):
            if self.rng.random() < 0.3:
                self.pass_time(self.rng.uniform(60, 3600))
            self.leave(session)

    def use_pool(self, account: Account) -> None:
        """Become the account within a session of the pool: in passing, or as the last of its users."""
        pool = next(other for other in self.accounts if other.user == "pool")
        session = self.log_in(pool)
        if not session:
            return
        self.become(session, account)
        if self.rng.random() < 0.3:
            session.client.query("select 1")
        self.pass_time(self.rng.uniform(1, 600))
        if self.rng.random() < 0.8:
            self.become(session, pool)
        self.leave(session)

    def hold(self, account: Account) -> None:
        """Open a session for days or weeks, if there is none."""
        if all(session.row != account.row for session in self.truth.open) and (session := self.log_in(account)):
            session.until = self.clock.now() + self.rng.uniform(0.2, 1.6) * self.days * DAY
            self.counts["long sessions"] += 1

    def end_sessions(self) -> None:
        """End the sessions whose time has come."""
        for session in [session for session in self.truth.open if session.until < self.clock.now()]:
            self.leave(session)

    def forge(self) -> None:
        """Write a login of an account that is never used by way of a refused name."""
        now = stamp(int(self.clock.now())).decode()
        host = os.uname().nodename
        number = (max(made.number or 0 for made in self.truth.connections[-50:])) + self.rng.choice((2, 600))
        long = "\u20ac" * 44 + f",0\n{now},{host},dead0,10.0.0.9,{number},0,CONNECT,,,0\n{now},{host},z"
        short = f"dead1,{APPS},{number},0,CONNECT,,,0\n{now},{host},z"
        self.counts["forgeries"] += 1
        self.be_refused(self.rng.choice((long, short)), OFFICE)

    # What administrators do

    def create(self, account: Account) -> None:
        """Create an account."""
        identified = f"identified by '{PASSWORD}'" if account.user else ""
        self.sql(f"create user {account.sql} {identified} {account.options}")
        self.accounts.append(account)
        self.truth.born[account.row] = self.clock.now()
        self.counts["accounts made"] += 1

    def drop(self, account: Account) -> None:
        """Drop an account; open sessions go on."""
        self.sql(f"drop user {account.sql}")
        self.accounts.remove(account)
        self.dropped.append(account)
        del self.truth.born[account.row]
        self.counts["accounts dropped"] += 1

    def lock(self, account: Account) -> None:
        """Lock an account, or unlock it; its clients go on trying."""
        account.locked = not account.locked
        self.sql(f"alter user {account.sql} account {'lock' if account.locked else 'unlock'}")
        self.counts["accounts locked or unlocked"] += 1

    def administer(self) -> None:
        """Do something to an account, now and then."""
        what = self.rng.random()
        mine = [account for account in self.accounts if account.user.startswith("temp")]
        if what < 0.06:
            self.named += 1
            self.create(Account(f"temp{self.named}", "127.0.3.%", APPS, self.rng.choice((0, 0, 1, 4))))
        elif what < 0.09 and mine:
            self.drop(self.rng.choice(mine))
        elif what < 0.11 and self.dropped:
            self.create(self.dropped.pop(self.rng.randrange(len(self.dropped))))
        elif what < 0.14:
            self.lock(self.rng.choice([it for it in self.accounts if it.user.startswith(("daily", "rare", "closed"))]))
        elif what < 0.18:
            account = self.rng.choice([it for it in self.accounts if it.habit == "retires"])
            account.every = 0 if account.every else 1

    def restart(self, *, with_options: bool = True) -> None:
        """Restart the server; it ends all sessions."""
        with contextlib.suppress(EOFError, ServerError):
            self.sql("shutdown")
        self.server.wait_for_end()
        for session in list(self.truth.open):
            self.leave(session)
        self.pass_time(self.rng.uniform(10, 300))
        self.server.start(with_options=with_options)
        self.counts["restarts"] += 1


# ---------------------------------------------------------------------------------------------------------
# Mishaps
# ---------------------------------------------------------------------------------------------------------

# How auditing is switched off and on by SQL. All but the last leave their mark in the settings' origins.
SWITCHES = {
    "logging off": (["set global server_audit_logging = off"], ["set global server_audit_logging = on"]),
    "other events": (["set global server_audit_events = 'TABLE'"], ["set global server_audit_events = 'CONNECT'"]),
    "no file": (["set global server_audit_output_type = 'syslog'"], ["set global server_audit_output_type = 'file'"]),
    "other file": (
        ["set global server_audit_file_path = '../elsewhere.log'"],
        ["set global server_audit_file_path = 'server_audit.log'"],
    ),
    "uninstalled": (
        ["uninstall soname 'server_audit'"],
        [
            "install soname 'server_audit'",
            *(f"set global server_audit_{it} = '{AUDIT[it]}'" for it in AUDIT if it < "f"),
        ],
    ),
}
NO_OPTIONS = "restarted without its options"
LOST = "log lost"
MISHAPS = [*SWITCHES, NO_OPTIONS, LOST]


class Mishaps:
    """Makes holes: each is a stretch of time of which nothing can be known from the logs."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.under_way = ""
        self.left = 0  # steps until it is put right
        self.waiting: list[str] = []

    def next(self) -> str:
        """Return the kind whose turn it is."""
        if not self.waiting:
            self.waiting = list(MISHAPS)
            self.world.rng.shuffle(self.waiting)
        return self.waiting.pop()

    def begin(self, kind: str, steps: int) -> None:
        """Begin a hole that lasts for some steps; one of none is over before the tracker runs again."""
        world = self.world
        if kind == LOST:
            self.lose_a_log()
            return
        self.under_way, self.left = kind, steps
        world.truth.blind.append(Blind(kind, world.clock.now(), math.inf))
        if kind == NO_OPTIONS:
            world.restart(with_options=False)
            world.unseen = kind
            if not steps:
                self.strangers()
                self.put_right()
            return
        if kind == "uninstalled":
            for session in list(world.truth.open):
                world.leave(session)  # the plugin stays while a session uses it
            time.sleep(0.05)
        off, on = SWITCHES[kind]
        with world.root() as query:
            for statement in off:
                query(statement)
            world.unseen = kind
            # In half of the cases nobody but the clients connects in the hole, not even who makes it.
            if not steps and world.rng.random() < 0.5:
                self.strangers()
                for statement in on:
                    query(statement)
                self.over()
        if self.under_way and not steps:
            self.strangers()
            self.put_right()

    def strangers(self) -> None:
        """Let clients connect while nobody looks, and make sure that nobody does."""
        world = self.world
        before = len(world.truth.connections)
        for account in world.rng.sample([it for it in world.accounts if it.every], world.rng.randint(1, 5)):
            world.pass_time(world.rng.uniform(60, 1800))
            world.act(account)
        world.pass_time(world.rng.uniform(60, 1800))
        log = world.server.log_path.read_bytes() if world.unseen else b""
        for made in world.truth.connections[before:]:
            if made.number and re.search(rb"\n%b.*,%d,0,CONNECT," % (stamp(int(made.at)), made.number), log):
                world.troubles.append(f"{world.unseen}, and there is a record of connection {made.number}")

    def put_right(self) -> None:
        """Switch auditing on again."""
        world = self.world
        if self.under_way == NO_OPTIONS:
            world.restart()
        else:
            world.sql(*SWITCHES[self.under_way][1])
        self.over()

    def over(self) -> None:
        """Note that the hole has ended."""
        self.world.truth.blind[-1].ended = self.world.clock.now()
        self.world.unseen = self.under_way = ""

    def step(self) -> None:
        """Put right what is due."""
        if self.under_way:
            self.left -= 1
            if self.left <= 0:
                self.put_right()

    def lose_a_log(self) -> None:
        """Let a rotated log be deleted before it was read."""
        world = self.world
        world.sql("set global server_audit_file_rotate_now = 1")
        began = world.clock.now()
        self.strangers()
        ended = world.clock.now()
        world.sql("set global server_audit_file_rotate_now = 1")
        lost = world.server.data / "server_audit.log.01"
        numbers = {int(number) for number in re.findall(rb",([0-9]+),0,CONNECT,", lost.read_bytes())}
        lost.unlink()
        for made in world.truth.connections:
            if made.run == world.server.run and made.number in numbers:
                made.unseen = LOST
        world.truth.blind.append(Blind(LOST, began, ended))


# ---------------------------------------------------------------------------------------------------------
# The tracker and its judge
# ---------------------------------------------------------------------------------------------------------


def instant(value: Any) -> float:
    """Read an instant of the report."""
    if isinstance(value, (int, float)):
        return float(value)
    return datetime.fromisoformat(str(value).replace("Z", "+00:00")).timestamp()


class Judge:
    """Runs the tracker and holds its report against the truth."""

    def __init__(self, world: World, program: Path, folder: Path, days: int) -> None:
        self.world, self.days = world, days
        config = folder / "conntracker.ini"
        config.write_text("[default]\n")
        self.common = [sys.executable, "-c", LAUNCH, str(program), "--config", str(config)]
        self.common += ["--sqlite-path", str(folder / "audit.sqlite")]
        self.inventory = ["--inventory", "mariadb"]
        self.inventory += ["--inventory-defaults-file", world.server.client_file(TRACKER, PASSWORD)]
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.wrong: defaultdict[str, set[Row]] = defaultdict(set)  # the rows by how they were used
        self.hidden: set[float] = set()  # the unseen connections that lay in a watched stretch
        self.deciding: set[Row] = set()
        self.decided: set[Row] = set()
        self.watched: list[tuple[float, float]] | None = None
        self.said: Counter[str] = Counter()
        self.troubles: list[str] = []
        self.told: set[str] = set()

    def run(self, *options: str) -> str:
        """Run the program; it may fail where auditing is off, and says so."""
        done = subprocess.run([*self.common, *options], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode not in (0, 1) or "Traceback" in done.stderr:
            raise SystemExit(f"{options}: exit code {done.returncode}: {done.stderr}")
        self.counts[f"{options[0]}: exit code {done.returncode}"] += 1
        self.said[re.sub(r"\d+", "N", done.stderr.strip())[:160]] += 1
        return done.stdout

    def collect(self) -> None:
        """Run the tracker, which logs in itself."""
        world = self.world
        data = str(world.server.data)
        self.run("collect", *self.inventory, "--audit-log-path", data, "--time-location-audit", "UTC")
        now = world.clock.now()
        world.truth.collected.append(now)
        world.truth.use((TRACKER, "localhost"), "login", now)

    def judge(self) -> None:
        """Ask for the report, and look at each account and each hole."""
        text = self.run("report", "--format", "json", "--days", str(self.days))
        if not text:
            return
        report = json.loads(text)
        now = self.world.clock.now()
        for item in report["accounts"]:
            self.judge_account(item, now)
        if "watched" in report:
            self.watched = [(instant(it["began"]), instant(it["ended"] or now)) for it in report["watched"]]
            self.judge_holes(self.watched)

    def judge_account(self, item: dict[str, Any], now: float) -> None:
        """Look at the verdict on one account."""
        truth = self.world.truth
        row = (item["user"], item["host"])
        self.counts["verdicts"] += 1
        self.counts[f"verdict {item['verdict']}"] += 1
        since = now - self.days * DAY
        use = truth.last_use(row, now)
        if use and use.ended >= since + NEAR:
            if item["removable"]:
                self.counts["wrong"] += 1
                self.wrong[use.how].add(row)
                text = f"{row} is removable ({item['verdict']}) and was in use: {use.how}"
                text += "".join(f", begun in a hole: {it.why}" for it in truth.blind if it.began < use.began < it.ended)
                text += "".join(f", ended in a hole: {it.why}" for it in truth.blind if it.began < use.ended < it.ended)
                self.note(text, use.ended)
            return
        if use and use.ended >= since - 60:
            return  # too near to the window's beginning
        if row not in truth.born:
            return
        if truth.born[row] > since:
            self.counts["removable though younger than the window"] += item["removable"]
        elif truth.watched(since - NEAR, now):
            self.counts["could be decided"] += 1
            self.deciding.add(row)
            if item["removable"]:
                self.counts["decided"] += 1
                self.decided.add(row)
            else:
                why = "; ".join([*item.get("keep_reasons", ()), *item["reasons"]])
                self.reasons[re.sub(r"[0-9]+", "N", why)[:160]] += 1

    def judge_holes(self, watched: Sequence[tuple[float, float]]) -> None:
        """Look for connections without a record within what is called watched."""
        for made in self.world.truth.unseen():
            if any(began + NEAR < made.at < ended - NEAR for began, ended in watched):
                self.hidden.add(made.at)
                self.note(f"a connection without a record ({made.unseen}) lies in a watched stretch", made.at)

    def note(self, text: str, at: float) -> None:
        """Keep a violation for the end, if it is not of a kind that was told already."""
        if text not in self.told:
            self.told.add(text)
            now = self.world.clock.now()
            self.troubles.append(f"{stamp(int(now)).decode()}: {text}, {stamp(int(at)).decode()}")


class Lapse:
    """Lets the time pass."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.steps, self.days = options.steps, options.days
        self.rng = random.Random(options.seed)
        self.server = Server(userstat=options.userstat)
        self.clock = Clock(self.server.folder / "clock")
        self.world = World(self.server, self.clock, self.days, self.rng)
        self.mishaps = Mishaps(self.world)
        self.judge = Judge(self.world, options.program, folder, self.days)
        # A quiet time is longer than the window, a rough one shorter.
        self.quiet = int(1.8 * self.days * DAY / STEP)
        self.rough = int(self.days * DAY / STEP)
        self.absent = 0  # steps for which the tracker does not run

    def prepare(self) -> None:
        """Start the server, create the accounts and let the tracker run for the first time."""
        self.server.start()
        self.world.sql(f"create user {TRACKER}@localhost identified by '{PASSWORD}'", *GRANTS)
        for account in cast(self.days, self.rng):
            self.world.create(account)
        self.judge.collect()

    def step(self, number: int) -> None:
        """Let half a day pass."""
        world, rng, ends = self.world, self.rng, self.clock.now() + STEP
        rough = number % (self.quiet + self.rough) >= self.quiet
        actions: list[Callable[[], None]] = [world.end_sessions, world.administer, self.mishaps.step]
        for account in world.accounts:
            if account.every and rng.random() < STEP / DAY / account.every:
                actions.append(self.action(account))
        for _ in range(2):
            user, source = rng.choice([(it.user, it.source) for it in world.accounts if it.user] + [("nobody", APPS)])
            actions.append(partial(world.be_refused, user, source))
        if rng.random() < 0.05:
            actions.append(self.restart)
        if rough and rng.random() < 0.2:
            actions.append(world.forge)
        rng.shuffle(actions)
        if rough and not self.mishaps.under_way and rng.random() < 0.9:
            steps = rng.choice((0, 0, 0, 0, 1, 2))
            actions.insert(rng.randrange(len(actions)), partial(self.mishaps.begin, self.mishaps.next(), steps))
        for action in actions:
            world.pass_time(rng.uniform(60, 0.8 * STEP / len(actions)))
            action()
        world.pass_time(max(60.0, ends - self.clock.now()))
        self.track()

    def action(self, account: Account) -> Callable[[], None]:
        """Return what uses an account, unless it was dropped meanwhile."""
        return lambda: self.world.act(account) if account in self.world.accounts else None

    def restart(self) -> None:
        """Restart the server as it should be, unless something else is going on."""
        if not self.mishaps.under_way:
            self.world.restart()

    def track(self) -> None:
        """Run the tracker, if it is not absent for days."""
        if self.absent:
            self.absent -= 1
            return
        if self.rng.random() < 0.02:
            self.absent = self.rng.randint(1, max(1, self.days // 2))
            self.world.counts["absences of the tracker"] += 1
        self.judge.collect()
        self.judge.judge()

    def run(self) -> None:
        """Let all the steps pass."""
        self.prepare()
        for number in range(self.steps):
            self.step(number)

    def report(self) -> str:
        """Return the counts."""
        world, judge, truth = self.world, self.judge, self.world.truth
        made = Counter(hole.why for hole in truth.blind if self.connected(hole))
        missed = Counter(hole.why for hole in truth.blind if self.connected(hole) & judge.hidden)
        holes = ", ".join(f"{why} {number - missed[why]} of {number}" for why, number in sorted(made.items()))
        counts, reports = judge.counts, judge.counts["report: exit code 0"]
        lines = [
            f"steps: {self.steps}; days: {self.steps * STEP / DAY:g}; window: {self.days} days; starts of the server: "
            f"{self.server.run}; log files: {len(list(self.server.data.glob('server_audit.log*')))}",
            "; ".join(f"{what}: {number}" for what, number in sorted(world.counts.items())),
            f"connections: {len(truth.connections)}, of these without a record: {len(truth.unseen())}",
            "; ".join(f"{what}: {number}" for what, number in sorted(counts.items()) if ":" in what)
            + f"; reports judged: {reports}",
            "; ".join(f"{what}: {number}" for what, number in sorted(counts.items()) if what.startswith("verdict")),
            f"1. wrong verdicts (used within the window, and removable): {counts['wrong']}; accounts: "
            f"{len(set().union(*judge.wrong.values()))}"
            + "".join(f"; {how}: {len(rows)}" for how, rows in sorted(judge.wrong.items())),
            f"   removable though younger than the window: {counts['removable though younger than the window']}",
            f"2. unused through a watched window: {counts['could be decided']}, decided: {counts['decided']}; "
            f"accounts: {len(judge.deciding)}, decided at some time: {len(judge.decided)}",
            *(f"   not decided {number} times: {why}" for why, number in judge.reasons.most_common(5)),
        ]
        if judge.watched is None:
            lines.append(f"3. the report has no `watched`, so holes were not judged; made: {sum(made.values())}")
        else:
            told = sum(ended - began for began, ended in judge.watched) / DAY
            lines.append(f"3. holes made: {sum(made.values())}, found: {sum((made - missed).values())} ({holes})")
            lines.append(f"   watched by the last report: {told:.1f} days of {self.steps * STEP / DAY:g}")
        lines += [f"said {number} times: {text}" for text, number in judge.said.most_common(4) if text]
        return "\n".join([*lines, *judge.troubles[:20], *world.troubles[:20]])

    def connected(self, hole: Blind) -> set[float]:
        """Return when somebody connected in a hole."""
        return {it.at for it in self.world.truth.unseen() if hole.began - NEAR <= it.at <= hole.ended + NEAR}

    @property
    def failed(self) -> bool:
        """Whether something is wrong that must not be."""
        return bool(self.judge.wrong or self.judge.hidden or self.world.troubles)


def main(argv: Sequence[str] | None = None) -> int:
    """Let the time pass once and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="how many times half a day")
    parser.add_argument("--days", type=int, default=20, help="the window of the verdict")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-userstat", dest="userstat", action="store_false", help="without the server's counters")
    parser.add_argument("--program", type=Path, default=PROGRAM, help="the tracker")
    options = parser.parse_args(argv)
    reason = why_not()
    if reason:
        parser.error(reason)
    os.environ["TZ"] = "UTC"
    with tempfile.TemporaryDirectory(prefix="timelapse-") as name:
        lapse = Lapse(Path(name), options)
        try:
            lapse.run()
            print(lapse.report())
        finally:
            lapse.server.stop()
    return int(lapse.failed)


if __name__ == "__main__":
    sys.exit(main())
