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
import hashlib
import os
import pwd
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from site_kit import LOG_NAME
from site_kit import Account
from site_kit import Site
from site_kit import kill_group
from site_kit import stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

PASSWORD = b"correct horse"
# A stamp is cut to the second and may come from a clock that is 5 ms late.
EARLIER = 1.005
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


class RefusedError(Exception):
    """The server said no."""


class Client:
    """A bare protocol client: it sends any bytes as a name and can change the user."""

    def __init__(self, port: int, source: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20, (source, 0))
        self.sequence = 0
        greeting = self.receive()
        if greeting[0] == 0xFF:
            raise RefusedError(greeting)
        at = greeting.index(b"\0", 1) + 1
        (self.number,) = struct.unpack("<I", greeting[at : at + 4])
        self.salt = greeting[at + 4 : at + 12] + greeting[at + 31 : at + 43]

    def read(self, count: int) -> bytes:
        """Read exactly so many bytes."""
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise RefusedError("closed")
            data += more
        return data

    def receive(self) -> bytes:
        """Read one packet."""
        head = self.read(4)
        self.sequence = (head[3] + 1) & 255
        return self.read(int.from_bytes(head[:3], "little"))

    def send(self, packet: bytes) -> None:
        """Write one packet."""
        self.socket.sendall(len(packet).to_bytes(3, "little") + bytes([self.sequence]) + packet)
        self.sequence = (self.sequence + 1) & 255

    def scrambled(self, password: bytes, salt: bytes) -> bytes:
        """Answer the server's challenge (mysql_native_password)."""
        once = hashlib.sha1(password).digest()
        mask = hashlib.sha1(salt + hashlib.sha1(once).digest()).digest()
        return bytes(a ^ b for a, b in zip(once, mask))

    def finish(self, password: bytes) -> None:
        """Answer until the server has decided."""
        while True:
            packet = self.receive()
            if packet[0] == 0x00:
                return
            if packet[0] == 0xFF:
                raise RefusedError(packet[3:])
            end = packet.index(b"\0", 1)
            self.send(self.scrambled(password, packet[end + 1 : end + 21]))

    def login(self, user: bytes, password: bytes) -> None:
        """Log in, or be refused."""
        answer = self.scrambled(password, self.salt)
        # long password, protocol 4.1, transactions, secure connection, pluggable authentication; utf8mb4
        head = struct.pack("<IIB23x", 0x1 | 0x200 | 0x2000 | 0x8000 | 0x80000, 1 << 24, 45)
        self.send(head + user + b"\0" + bytes([len(answer)]) + answer + b"mysql_native_password\0")
        self.finish(password)

    def change_user(self, user: bytes, password: bytes) -> None:
        """Become another user in the same session."""
        self.sequence = 0
        answer = self.scrambled(password, self.salt)
        packet = b"\x11" + user + b"\0" + bytes([len(answer)]) + answer + b"\0" + struct.pack("<H", 45)
        self.send(packet + b"mysql_native_password\0")
        self.finish(password)

    def client_host(self) -> bytes:
        """Ask under which host name the server knows this client."""
        self.sequence = 0
        self.send(b"\x03select substring_index(user(), '@', -1)")
        for _ in range(3):
            self.receive()
        row = self.receive()
        self.receive()
        return row[1 : 1 + row[0]]

    def leave(self) -> None:
        """End the session."""
        self.sequence = 0
        self.send(b"\x01")
        self.socket.close()


class Server:
    """A MariaDB server of our own."""

    def __init__(self, folder: Path, logs: Path, rotate_size: int) -> None:
        self.folder = folder
        self.socket = folder / "s"
        self.logs = logs
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        user = [f"--user={'mysql' if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name}"]
        if os.geteuid() == 0:
            shutil.chown(folder, "mysql", "mysql")
            shutil.chown(logs, "mysql", "mysql")
        data = f"--datadir={folder / 'data'}"
        small = ["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M"]
        install = ["mariadb-install-db", "--no-defaults", data, *small, *user, "--skip-test-db"]
        subprocess.run(
            [*install, "--auth-root-authentication-method=socket"], check=True, stdout=subprocess.DEVNULL
        )
        self.command = ["mariadbd", "--no-defaults", data, *small, *user, f"--socket={self.socket}"]
        self.command += [f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-log-bin", "--console"]
        self.command += [f"--pid-file={folder / 'pid'}", "--plugin-load-add=server_audit"]
        self.command += [
            "--server_audit_logging=ON",
            "--server_audit_events=CONNECT",
            "--max-connect-errors=999999",
        ]
        self.command += [f"--server_audit_file_path={logs / LOG_NAME}", "--server_audit_file_rotations=999"]
        self.command += [f"--server_audit_file_rotate_size={rotate_size}"]
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        output = (self.folder / "server.log").open("ab")
        environment = {**os.environ, "TZ": "UTC"}
        self.process = subprocess.Popen(self.command, stdout=output, stderr=output, env=environment)
        output.close()
        for _ in range(300):
            if self.socket.exists() and self.sql("select 1", check=False):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError((self.folder / "server.log").read_text())

    def stop(self) -> None:
        """Stop the server in order."""
        self.process.terminate()
        self.process.wait(60)

    def sql(self, text: str, *, check: bool = True) -> bool:
        """Run SQL as the server's root."""
        client = ["mariadb", "--no-defaults", f"--socket={self.socket}", "--user=root", "--batch", "-e", text]
        done = subprocess.run(client, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(done.stderr)
        return done.returncode == 0


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
        self.site = Site(folder / "host")
        (folder / "server").mkdir()
        self.server = Server(folder / "server", self.site.logs, 60_000)
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
        self.troubles: list[str] = []

    def prepare(self) -> None:
        """Create the accounts, and learn how the server names the clients."""
        names = [*USERS, *HOSTILE, *LATE, *NEVER]
        password = f"identified by '{PASSWORD.decode()}'"
        self.server.sql("; ".join(f"create user {quoted(name)}@'%' {password}" for name in names))
        for source in SOURCES:
            client, moments = self.attempt(source, USERS[0])
            self.hosts[source] = client.client_host()
            self.note(USERS[0], source, moments)
            client.leave()

    def attempt(
        self, source: str, user: bytes, password: bytes = PASSWORD
    ) -> tuple[Client, tuple[float, float]]:
        """Log in; return the session and the moments before and after."""
        begin = time.time()
        client = Client(self.server.port, source)
        client.login(user, password)
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
        client.leave()

    def be_refused(self, rng: random.Random, source: str) -> None:
        """Log in with a bad password, an unknown name or a forged record as the name."""
        client = Client(self.server.port, source)
        forge = rng.random() < 0.3
        name = rng.choice([*NEVER, b"nobody", b"x,host,1,0,CONNECT,,,0"])
        if forge:
            now = stamp(int(time.time()))
            number = rng.choice((5, client.number))
            server = socket.gethostname().encode() if rng.random() < 0.5 else b"h"
            name = b"%b,localhost,%d,0,CONNECT,,,0\n%b,%b,z" % (rng.choice(NEVER), number, now, server)
        try:
            client.login(name, b"wrong")
        except RefusedError:
            with self.lock:
                self.tally.refused[name.split(b",")[0]] += 1
                self.tally.forged += forge
        else:
            self.troubles.append(f"the server accepted {name!r} with a wrong password")
        client.socket.close()

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
            except (OSError, RefusedError) as error:
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
                self.server.stop()
                time.sleep(2.0)
                self.server.start()
                self.alone(close=False)
            else:
                self.server.sql("set global server_audit_file_rotate_now = 1")

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
        clients = [
            threading.Thread(target=self.client, args=(self.rng.random(),)) for _ in range(self.clients)
        ]
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
        """Compare the database with what the clients saw; count the stored logins, certain and suspect."""
        stored, suspects = self.site.logins(), self.site.suspects()
        certain = suspect = 0
        for account, moments in self.tally.accepted.items():
            tried, accepted = zip(*moments)
            first, last = stored.get(account, (0, 0))
            if min(tried) - EARLIER <= first <= min(accepted) and max(tried) - EARLIER <= last <= max(
                accepted
            ):
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--logins", type=int, default=5000, help="how many accepted logins")
    parser.add_argument("--clients", type=int, default=6, help="how many at once")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    # Under /tmp itself: the path of a socket must be short, and the server's user must reach it.
    with tempfile.TemporaryDirectory(prefix="torture-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        torture = Torture(Path(name), options.logins, options.clients, options.seed)
        try:
            torture.run()
            print(torture.report())
        finally:
            torture.server.process.send_signal(signal.SIGTERM)
            torture.server.process.wait(60)
    return 1 if torture.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
