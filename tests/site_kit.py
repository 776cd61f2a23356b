"""What the tests of the tracker share: logs, a database, the program as a process, and a server's pen."""

from __future__ import annotations

import calendar
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import timezone
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).resolve().parent.parent / "conntracker.py"
sys.path.insert(0, str(PROGRAM.parent))
LOG_NAME = "server_audit.log"
SERVER = b"db01"
BEGIN = calendar.timegm((2026, 3, 2, 8, 0, 0))
TIMEOUT = 120
LONG = bool(os.environ.get("CONNTRACKER_LONG"))
# root may read everything; without these two capabilities the modes of files count for root as well
PLAIN_USER = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    if os.geteuid() == 0
    else []
)

Account = tuple[bytes, bytes]
Seen = tuple[int, int]
Truth = dict[Account, Seen]


def stamp(instant: int) -> bytes:
    """Write an instant as a server in UTC does."""
    return time.strftime("%Y%m%d %H:%M:%S", time.gmtime(instant)).encode()


def record(
    instant: int,
    account: Account,
    number: int,
    operation: bytes = b"CONNECT",
    *,
    database: bytes = b"",
    code: int = 0,
    server: bytes = SERVER,
) -> bytes:
    """Write one record of a connection."""
    user, host = account
    return b"%b,%b,%b,%b,%d,0,%b,%b,,%d\n" % (
        stamp(instant),
        server,
        user,
        host,
        number,
        operation,
        database,
        code,
    )


def cut_name(name: bytes, kept: int = 132) -> bytes:
    """Cut a long name as the server does in all records but DISCONNECT: 132 bytes, 64 in 10.5, and one more byte."""
    return name if len(name) <= kept else name[:kept] + bytes([len(name) & 255])


class Pen:
    """Writes what one server would: ids and time go on, and every true login is remembered."""

    def __init__(self, instant: int = BEGIN, number: int = 3) -> None:
        self.instant = instant
        self.number = number
        self.truth: Truth = {}

    def note(self, account: Account, instant: int) -> None:
        """Remember a true login."""
        first, last = self.truth.get(account, (instant, instant))
        self.truth[account] = (min(first, instant), max(last, instant))

    def session(self, account: Account, operation: bytes = b"CONNECT", code: int = 0) -> bytes:
        """Write one session; only a CONNECT is a login."""
        self.number += 1
        self.instant += 1
        if operation == b"CONNECT":
            self.note(account, self.instant)
        opened = record(self.instant, account, self.number, operation, code=code)
        return opened + record(self.instant, account, self.number, b"DISCONNECT")

    def refusal(self, name: bytes, host: bytes = b"203.0.113.9") -> list[bytes]:
        """Write the two records of a refused login; only the second one has the whole of a long name."""
        assert len(name.decode()) <= 128  # the server cuts off the rest
        self.number += 1
        self.instant += 1
        opened = record(self.instant, (cut_name(name), host), self.number, b"FAILED_CONNECT", code=1045)
        return [opened, record(self.instant, (name, host), self.number, b"DISCONNECT")]

    def forged_once(self, account: Account, number: int, age: int = 0) -> list[bytes]:
        """Write what whoever reaches the port can do: a login that stands only in the record with the whole name."""
        now = self.instant + 1
        name = "\u20ac".encode() * 44 + b",0\n" + record(now - age, account, number) + stamp(now) + b",%b,z" % SERVER
        return self.refusal(name)

    def sessions(self, count: int, users: int = 7, prefix: bytes = b"app") -> bytes:
        """Write many sessions of a few accounts."""
        hosts = (b"localhost", b"app1.example.com", b"10.1.2.3")
        return b"".join(
            self.session((b"%b%d" % (prefix, number % users), hosts[number % len(hosts)])) for number in range(count)
        )

    def queries(self, count: int, width: int = 200) -> bytes:
        """Write QUERY records of one session whose SQL text looks like logins."""
        text = b"select \\'20260101 00:00:00,db01,forged,localhost,1,0,CONNECT,,,0\\'".ljust(width, b"x")
        line = b"%b,db01,app0,localhost,%d,%d,QUERY,db1,'%b',0\n"
        return b"".join(line % (stamp(self.instant), self.number, number + 1, text) for number in range(count))


AUDITED = {
    "version": "10.11.19-MariaDB",
    "hostname": "db01",
    "audit_plugin": "ACTIVE",
    "server_audit_logging": "ON",
    "server_audit_events": "CONNECT",
    "server_audit_active": "ON",
}


def renamed(pen: Pen) -> bytes:
    """Write the log of a renamed host: the server learns the name when it starts, and one record before is suspect."""
    begun, odd, later = pen.sessions(3), pen.session((b"odd", b"h")), pen.sessions(20)
    del pen.truth[b"odd", b"h"]
    pen.instant, pen.number = pen.instant + 5, 2
    return begun + odd.replace(b",db01,", b",new,") + later + pen.sessions(3000).replace(b",db01,", b",new,")


class Site:
    """One host: its logs, its database and the program run on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.log = self.logs / LOG_NAME
        self.database = folder / "state" / "audit.sqlite"
        self.database.parent.mkdir(exist_ok=True)
        self.config = folder / "conntracker.ini"
        self.config.write_text("[default]\n")

    def write(self, data: bytes, name: str = LOG_NAME) -> None:
        """Append to a log as the server does."""
        with (self.logs / name).open("ab") as log:
            log.write(data)

    def rotate(self, keep: int = 9, width: int = 1) -> None:
        """Rename as the audit plugin does; the oldest is overwritten."""
        for number in range(keep - 1, 0, -1):
            source = self.logs / f"{LOG_NAME}.{number:0{width}d}"
            if source.exists():
                source.rename(self.logs / f"{LOG_NAME}.{number + 1:0{width}d}")
        self.log.rename(self.logs / f"{LOG_NAME}.{1:0{width}d}")
        self.log.touch()

    def command(self, *options: str, path: Path | None = None) -> list[str]:
        """Return the command line of a run."""
        command = [sys.executable, str(PROGRAM), "--config", str(self.config)]
        command += ["--audit-log-path", str(path or self.logs), "--sqlite-path", str(self.database)]
        return [*command, "--time-location", "UTC", *options]

    def run(self, *options: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the program whatever comes out."""
        return subprocess.run(
            self.command(*options, path=path),
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=TIMEOUT,
            check=False,
        )

    def collect(self, *options: str, path: Path | None = None) -> None:
        """Run and hold it to its promise: it works and says nothing."""
        done = self.run(*options, path=path)
        said = (done.returncode, done.stdout, done.stderr[-3000:])
        assert said == (0, "", ""), said

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a run in a process group of its own, so that it can be killed with all its children."""
        return subprocess.Popen(
            self.command(*options),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        """Ask the database."""
        with closing(sqlite3.connect(self.database, timeout=30)) as connection:
            return connection.execute(query, values).fetchall()

    def listed(self, *users: bytes, days: int = 200) -> None:
        """Store what inventories since some days would: these accounts at any host, and all the time watched."""
        import conntracker

        now = int(time.time())
        began = now - days * 86400
        inventory = conntracker.Inventory(
            source="server",
            taken_at=now,
            accounts=tuple(conntracker.Account(user, b"%") for user in users),
            settings=AUDITED,
            sessions_complete=True,
            definers={},
            proxies=(),
        )
        form = conntracker.TimeFormat("2006-01-02 15:04:05-07:00")
        store = conntracker.Store(str(self.database), form, timezone.utc, write=True)
        store.put_inventory(inventory, began)
        store.put_inventory(inventory, now)
        store.add_watched(began, now, conntracker.BY_IDS, "")
        store.set(first_heartbeat=began)
        store.commit()
        store.db.close()

    def logins(self) -> Truth:
        """Return first and last certain login of every account."""
        rows = self.rows(
            "SELECT user, host, MIN(first_seen), MAX(last_seen) FROM evidence WHERE kind = 'login' GROUP BY user, host"
        )
        return {(bytes(user), bytes(host)): (first, last) for user, host, first, last in rows}

    def suspects(self, but: str = "") -> dict[Account, int]:
        """Return the newest suspect login of every account that has one, but for the reasons that begin so."""
        chosen = "instr(reason, ?) <> 1" if but else "reason <> ?"
        rows = self.rows(f"SELECT user, host, MAX(seen) FROM suspect WHERE {chosen} GROUP BY user, host", but)
        return {(bytes(user), bytes(host)): seen for user, host, seen in rows}

    def gaps(self) -> list[tuple[Any, ...]]:
        """Return the times for which records were lost."""
        return self.rows("SELECT began, ended FROM gap")

    def facts(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all that is stored about accounts, in a form that can be compared."""
        return {
            "evidence": self.rows(
                # Which ends of sessions without a login are plausible depends on how far the ids are known just then.
                "SELECT kind, user, host, MIN(first_seen), MAX(last_seen) FROM evidence "
                "WHERE kind <> 'earlier session' GROUP BY kind, user, host ORDER BY kind, user, host"
            ),
            "suspect": self.rows("SELECT user, host, MAX(seen) FROM suspect GROUP BY user, host ORDER BY user, host"),
            "accounts": self.rows(
                "SELECT name, host, last_seen FROM Accounts "
                "WHERE NOT (name = 'mysql' AND host = 'localhost') ORDER BY name, host"
            ),
        }

    def last_run(self) -> Any:
        """Return the instant of the last good run."""
        rows = self.rows("SELECT value FROM meta WHERE key = 'last_run'")
        return rows[0][0] if rows else None


def assert_one_clear_line(done: subprocess.CompletedProcess[str], word: str, code: int = 1) -> None:
    """Hold a failed run to what is documented: its exit code and one line that names the thing."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("conntracker: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert word in done.stderr


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a run that was started by `Site.start`, and its children, at once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def peak_memory(process: subprocess.Popen[bytes]) -> int:
    """Wait for a run; return the largest sum of Pss of it and all its descendants."""
    peak = 0
    while process.poll() is None:
        total = 0
        waiting = [process.pid]
        while waiting:
            number = waiting.pop()
            try:
                waiting += map(int, Path(f"/proc/{number}/task/{number}/children").read_text().split())
                rollup = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue  # it ended between two looks
            total += sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))
        peak = max(peak, total)
        time.sleep(0.002)
    return peak
