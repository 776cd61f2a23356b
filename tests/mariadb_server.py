"""A real MariaDB server on a temporary data directory, with the audit plugin writing its log."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from rawclient import RawClient

START_SECONDS = 60


def why_not() -> str:
    """Say why no server can be started here, or nothing."""
    for program in ("mariadbd", "mariadb-install-db", "mariadb"):
        if not shutil.which(program, path=_search_path()):
            return f"{program} is not installed"
    return ""


def need_server() -> None:
    """Skip the test where there is no server to start; fail where one is promised (CI is set)."""
    reason = why_not()
    if reason and os.environ.get("CI"):
        pytest.fail(f"no real server in CI: {reason}")
    if reason:
        pytest.skip(f"no real server: {reason}")


def _search_path() -> str:
    return os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


def _program(name: str) -> str:
    path = shutil.which(name, path=_search_path())
    assert path, name
    return path


def _free_port() -> int:
    # Below the range from which the kernel gives ports to clients, one of which could be first.
    while True:
        port = random.randint(20000, 32000)
        with contextlib.suppress(OSError), contextlib.closing(socket.socket()) as probe:
            probe.bind(("", port))
            return port


class MariaDBServer:
    """Started by start(), asked by sql() as root, ended by stop(), which removes its files."""

    def __init__(self, *options: str) -> None:
        self._options = options
        # Not pytest's tmp_path: a socket's path must be short and its folder open to the server's user.
        self.folder = Path(tempfile.mkdtemp(prefix="conntracker-"))
        self.data = self.folder / "data"
        self.socket_path = str(self.folder / "s.sock")
        self.log_path = self.data / "server_audit.log"
        self.port = _free_port()
        self._user = "mysql" if os.geteuid() == 0 else ""
        self._process: subprocess.Popen[bytes] | None = None

    def _as_user(self) -> list[str]:
        return [f"--user={self._user}"] if self._user else []

    def start(self) -> None:
        """Make the data directory on the first call, and start the server."""
        if not self.data.exists():
            self._install()
        audit = ("--loose-server-audit-logging=ON", "--loose-server-audit-events=CONNECT")
        self.launch("--no-defaults", "--plugin-load-add=server_audit", *audit, *self._options)

    def launch(self, defaults: str, *options: str) -> None:
        """Start a server on the data directory; `defaults` says which option files it reads."""
        command = [
            _program("mariadbd"),
            defaults,
            *self._as_user(),
            f"--datadir={self.data}",
            f"--socket={self.socket_path}",
            f"--port={self.port}",
            f"--pid-file={self.folder}/pid",
            "--bind-address=127.0.0.1",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=16M",
            *options,
        ]
        with open(self.folder / "error.log", "ab") as errors:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        self._wait()

    def _install(self) -> None:
        self.data.mkdir()
        if self._user:
            account = pwd.getpwnam(self._user)
            for path in (self.folder, self.data):
                os.chown(path, account.pw_uid, account.pw_gid)
        subprocess.run(
            [
                _program("mariadb-install-db"),
                "--no-defaults",
                *self._as_user(),
                f"--datadir={self.data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            check=True,
            capture_output=True,
        )

    def _wait(self) -> None:
        assert self._process
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError, EOFError), RawClient(b"root", socket_path=self.socket_path):
                return
            time.sleep(0.05)
        pytest.fail("mariadbd did not start:\n" + (self.folder / "error.log").read_text(errors="replace")[-3000:])

    def sql(self, *statements: str) -> list[list[bytes | None]]:
        """Run statements as root in one session, and give the rows of the last one."""
        rows: list[list[bytes | None]] = []
        with RawClient(b"root", socket_path=self.socket_path) as session:
            for statement in statements:
                rows = session.query(statement)
        return rows

    def connect_as(self, user: str | bytes, password: str = "", source: str = "", database: str = "") -> RawClient:
        """Open a session: from the loopback address `source` over TCP, else over the socket."""
        name = user.encode() if isinstance(user, str) else user
        return RawClient(
            name,
            password.encode(),
            socket_path=self.socket_path,
            host="127.0.0.1" if source else "",
            port=self.port,
            source=source,
            database=database.encode() if database else None,
        )

    def client_file(self, user: str, password: str = "") -> str:
        """Write a defaults file for the mariadb client and give its path."""
        path = self.folder / f"{user}.cnf"
        path.write_text(f"[client]\nuser={user}\npassword={password}\nsocket={self.socket_path}\n")
        path.chmod(0o600)
        return str(path)

    def end(self) -> None:
        """End the server."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the server and remove its files."""
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)
