#!/usr/bin/env python3
"""Torture: a real MariaDB server, clients that log in, rotations, and a tracker that is killed all the time.

    python3 tests/torture.py --logins 5000

Starts a mariadbd of its own in a temporary folder (needs mariadb-server installed; nothing of the system's
server is touched). Several clients log in at once: good and bad passwords, hostile names, forged records in
names, changed users. The log is rotated by size and by command, copied and truncated once, and the server is
restarted once. In the end every login that a client saw accepted must be in the database with the right time,
and none that was refused. Prints what was counted; exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from mariadb_server import MariaDBServer
from rawclient import RawClient
from rawclient import ServerError
from site_kit import LOG_NAME
from site_kit import Account
from site_kit import Site
from site_kit import kill_group
from site_kit import stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

PASSWORD = b"correct horse"
# A stamp is cut to the second and comes from a clock that moves in steps, late ones on a busy machine.
EARLIER = 1.05
USERS = [b"app%02d" % number for number in range(20)]
HOSTILE = [
    b"com,ma",
    b"quo'te",
    b'"dq"',
    b"back\\slash",
    b"ta\tb",
    b"c\rr",
    b" lead",
    b"CONNECT",
    b"%",
    "é€ü".encode(),
    b"a,localhost,1,0,CONNECT,,,0",
    b"'; drop table Accounts; --",
]
LATE = [b"late%d" % number for number in range(3)]  # reached by a change of user only
NEVER = [b"victim%d" % number for number in range(4)]  # exist, and nobody logs in
# The mean pause of a client between two logins gives rotations and restarts the time to happen.
PAUSE = 0.03
SOURCES = ("127.0.0.1", "127.0.3.1", "127.0.3.2")


def quoted(name: bytes) -> str:
    """Return a name as SQL."""
    return "'" + name.decode().replace("\\", "\\\\").replace("'", "''") + "'"


@dataclass
class Tally:
    """What the clients saw."""

    accepted: dict[Account, list[tuple[float, float]]] = field(default_factory=dict)
    refused: Counter[bytes] = field(default_factory=Counter)
    changed: int = 0
    forged: int = 0

    @property
    def logins(self) -> int:
        """How many logins were accepted."""
        return sum(map(len, self.accepted.values()))


class Torture:
    """The server, its clients, the rotations and the tracker."""

    def __init__(self, folder: Path, logins: int, clients: int, seed: int) -> None:
        self.server = MariaDBServer(
            "--server_audit_file_rotate_size=60000",
            "--server_audit_file_rotations=999",
            "--max-connect-errors=999999",
            "--skip-log-bin",
        )
        self.server.start()
        self.site = Site(folder)
        self.site.logs, self.site.log = self.server.data, self.server.log_path
        self.goal = logins
        self.clients = clients
        self.rng = random.Random(seed)
        self.tally = Tally()
        self.lock = threading.Lock()  # guards the tally
        self.hosts: dict[str, bytes] = {}
        # Clients wait at the gate while the log is cut or the server restarts.
        self.gate = threading.Condition()
        self.closed = False
        self.inside = 0
        self.done = threading.Event()
        self.runs = self.killed = 0
        self.copied = self.restarted = False
        self.newest_id = 0
        self.troubles: list[str] = []

    def prepare(self) -> None:
        """Create the accounts, and learn how the server names the clients."""
        names = [*USERS, *HOSTILE, *LATE, *NEVER]
        password = f"identified by '{PASSWORD.decode()}'"
        self.server.sql(*(f"create user {quoted(name)}@'%' {password}" for name in names))
        for source in SOURCES:
            client, moments = self.attempt(source, USERS[0])
            [[host]] = client.query("select substring_index(user(), '@', -1)")
            self.hosts[source] = host or b""
            self.note(USERS[0], source, moments)
            client.close()

    def attempt(self, source: str, user: bytes, password: bytes = PASSWORD) -> tuple[RawClient, tuple[float, float]]:
        """Log in; return the session and the moments before and after."""
        begin = time.time()
        client = RawClient(user, password, host="127.0.0.1", port=self.server.port, source=source)
        self.newest_id = client.connection_id
        return client, (begin, time.time())

    def note(self, user: bytes, source: str, moments: tuple[float, float]) -> None:
        """Count an accepted login."""
        with self.lock:
            self.tally.accepted.setdefault((user, self.hosts[source]), []).append(moments)

    def log_in(self, rng: random.Random, source: str) -> None:
        """Log in well, and now and then change the user."""
        user = rng.choice(HOSTILE) if rng.random() < 0.2 else rng.choice(USERS)
        client, moments = self.attempt(source, user)
        self.note(user, source, moments)
        if rng.random() < 0.1:
            client.change_user(rng.choice(LATE), PASSWORD)
            with self.lock:
                self.tally.changed += 1
        client.close()

    def be_refused(self, rng: random.Random, source: str) -> None:
        """Log in with a bad password, an unknown name or a forged record as the name."""
        forge = rng.random() < 0.3
        name = rng.choice([*NEVER, b"nobody", b"x,host,1,0,CONNECT,,,0"])
        if forge:
            # A careful forger takes an id that comes soon, the right time and the right name of the server.
            now = stamp(int(time.time()))
            number = rng.choice((2, self.newest_id + 700))
            server = socket.gethostname().encode() if rng.random() < 0.5 else b"h"
            name = b"%b,localhost,%d,0,CONNECT,,,0\n%b,%b,z" % (rng.choice(NEVER), number, now, server)
        try:
            self.attempt(source, name, b"wrong")
        except ServerError:
            with self.lock:
                self.tally.refused[name.split(b",")[0]] += 1
                self.tally.forged += forge
        else:
            self.troubles.append(f"the server accepted {name!r} with a wrong password")

    def client(self, seed: int) -> None:
        """Log in until there are enough logins."""
        rng = random.Random(seed)
        while self.tally.logins < self.goal:
            time.sleep(rng.uniform(0, 2 * PAUSE))
            with self.gate:
                self.gate.wait_for(lambda: not self.closed)
                self.inside += 1
            try:
                action = self.be_refused if rng.random() < 0.25 else self.log_in
                action(rng, rng.choice(SOURCES))
            except (OSError, EOFError, ServerError) as error:
                self.troubles.append(f"a client failed: {error!r}")
                return
            finally:
                with self.gate:
                    self.inside -= 1
                    self.gate.notify_all()

    def alone(self, *, close: bool) -> None:
        """Keep the clients out, or let them in again."""
        with self.gate:
            self.closed = close
            self.gate.notify_all()
            if close:
                self.gate.wait_for(lambda: not self.inside)

    def disturb(self) -> None:
        """Rotate by command; copy and truncate once; restart the server once."""
        while not self.done.wait(self.rng.uniform(0.1, 0.6)):
            share = self.tally.logins / self.goal
            if share > 0.3 and not self.copied:
                self.copied = True
                self.alone(close=True)
                time.sleep(0.3)  # the ends of the last sessions are written a moment later
                shutil.copy2(self.site.log, self.site.logs / f"{LOG_NAME}-20260101")
                os.truncate(self.site.log, 0)
                self.alone(close=False)
            elif share > 0.6 and not self.restarted:
                self.restarted = True
                self.alone(close=True)
                self.restart()
                self.alone(close=False)
            else:
                self.server.sql("set global server_audit_file_rotate_now = 1")

    def restart(self) -> None:
        """Stop the server and start it again; ids begin anew."""
        with contextlib.suppress(EOFError, ServerError):
            self.server.sql("shutdown")
        while (self.server.folder / "pid").exists():
            time.sleep(0.05)
        time.sleep(2)
        self.server.start()

    def track(self) -> None:
        """Run the tracker again and again; kill about half of the runs."""
        while not self.done.is_set():
            self.runs += 1
            process = self.site.start()
            if self.rng.random() < 0.6:
                time.sleep(self.rng.uniform(0, 0.25))
                self.killed += process.poll() is None
                kill_group(process)
            elif process.wait(60):
                self.troubles.append(f"a run ended with exit code {process.returncode}")
            time.sleep(0.02)

    def run(self) -> None:
        """Let everything happen at once."""
        self.prepare()
        clients = [threading.Thread(target=self.client, args=(self.rng.random(),)) for _ in range(self.clients)]
        others = [threading.Thread(target=self.disturb), threading.Thread(target=self.track)]
        for thread in (*clients, *others):
            thread.start()
        for thread in clients:
            thread.join()
        self.done.set()
        for thread in others:
            thread.join()
        time.sleep(0.3)
        done = self.site.run()
        if (done.returncode, done.stderr) != (0, ""):
            self.troubles.append(f"the last run: exit code {done.returncode}: {done.stderr}")

    def judge(self) -> tuple[int, int]:
        """Compare the database with what the clients saw; count the stored logins, certain and suspect.

        A forger may claim an account's first login, which is then suspect; the next one is the first that is certain.
        """
        stored, suspects = self.site.logins(), self.site.suspects()
        certain = suspect = 0
        for account, moments in self.tally.accepted.items():
            tried, accepted = max(moments)
            first, last = stored.get(account, (0, 0))
            if any(t - EARLIER <= first <= a for t, a in moments) and tried - EARLIER <= last <= accepted:
                certain += len(moments)
            elif account in suspects:
                suspect += len(moments)
            else:
                seen = f"{min(moments)} .. {max(moments)}"
                self.troubles.append(f"{account}: stored {first} .. {last}, logged in {seen}")
        root = {(b"root", b"localhost")}
        for account in set(stored) - set(self.tally.accepted) - root:
            self.troubles.append(f"{account} is stored as certain and never logged in")
        if not (self.copied and self.restarted):
            self.troubles.append("too few logins: the log was not copied, or the server not restarted")
        if self.site.gaps():
            self.troubles.append(f"gaps: {self.site.gaps()}")
        return certain, suspect

    def report(self) -> str:
        """Return the counts."""
        certain, suspect = self.judge()
        refused = sum(self.tally.refused.values())
        false = sum(user in {user for user, _ in self.site.logins()} for user in NEVER)
        files = len(list(self.site.logs.iterdir()))
        lines = [
            f"logins accepted: {self.tally.logins}; "
            f"in the database with the right time: {certain}, only as suspect: {suspect}",
            f"logins refused: {refused}, of these with a forged record in the name: {self.tally.forged}; "
            f"accounts stored as certain because of them: {false}",
            f"users changed in a session: {self.tally.changed}; log files: {files}; "
            f"tracker runs: {self.runs}, killed: {self.killed}",
        ]
        return "\n".join([*lines, *self.troubles[:20]])


def main(argv: Sequence[str] | None = None) -> int:
    """Torture once and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logins", type=int, default=5000, help="how many accepted logins")
    parser.add_argument("--clients", type=int, default=6, help="how many at once")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    os.environ["TZ"] = "UTC"
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        torture = Torture(Path(name), options.logins, options.clients, options.seed)
        try:
            torture.run()
            print(torture.report())
        finally:
            torture.server.stop()
    return 1 if torture.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
