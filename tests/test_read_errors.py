"""What could not be read to its end is read on by the next run: no login is lost, none counted twice."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from calendar import timegm
from typing import TYPE_CHECKING

import pytest
from site_kit import PROGRAM
from site_kit import Pen
from site_kit import Site

sys.path.insert(0, str(PROGRAM.parent))
import conntracker

if TYPE_CHECKING:
    from pathlib import Path

JOURNALCTL = """#!/usr/bin/env python3
import json, sys
entries = [json.loads(line) for line in open({path!r})]
after = [word.partition("=")[2] for word in sys.argv if word.startswith("--after-cursor=")]
begin = 1 + int(after[0]) if after else 0
for entry in entries[begin:]:
    if entry == "broken":
        sys.exit("the journal is damaged")
    print(json.dumps(entry))
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_disk_that_fails_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(3000))
    site.collect()
    site.write(pen.sessions(9000, prefix=b"new") + pen.sessions(3000, prefix=b"last"))
    read, fails_from = conntracker._Raw.read, site.log.stat().st_size - 600_000

    def failing(file: conntracker._Raw, size: int | None = -1) -> bytes:
        if file.tell() > fails_from:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(file, size)

    options = site.command()[2:]
    monkeypatch.setattr(conntracker._Raw, "read", failing)
    monkeypatch.setattr(conntracker, "_last_line_end", lambda file: file.stored_size)
    assert conntracker.main(options) == 1
    monkeypatch.undo()
    between = site.logins()
    assert 0 < sum(user.startswith(b"new") for user, _ in between) < len(pen.truth)
    site.write(pen.sessions(1500, prefix=b"later"))
    site.collect()
    assert site.logins() == pen.truth
    assert site.suspects() == {}
    assert site.gaps() == []


def test_a_journal_that_cannot_be_read_to_its_end(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pen, path = Pen(number=300), tmp_path / "journal"
    entries: list[dict[str, str]] = []
    program = tmp_path / "journalctl"
    program.write_text(JOURNALCTL.format(path=str(path)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def log(count: int, prefix: bytes) -> None:
        for line in pen.sessions(count, prefix=prefix).splitlines():
            written, _, message = line.decode().partition(",")
            stamp = f"{timegm(time.strptime(written, '%Y%m%d %H:%M:%S'))}000000"
            entries.append({"__CURSOR": str(len(entries)), "__REALTIME_TIMESTAMP": stamp, "_HOSTNAME": "db01"})
            entries[-1].update({"SYSLOG_IDENTIFIER": "mysql-server_auditing", "MESSAGE": message})

    def collect(*more: str) -> int:
        path.write_text("".join(json.dumps(entry) + "\n" for entry in [*entries, *more]))
        return site.run("--audit-log-path", "journal:").returncode

    log(300, b"app")
    assert collect() == 0
    log(300, b"some")
    log(3, b"doubtful")  # nobody knows what follows these
    assert collect("broken") == 1
    log(1500, b"more")
    assert collect() == 0
    doubtful = {account for account in pen.truth if account[0].startswith(b"doubtful")}
    assert site.logins() == {account: seen for account, seen in pen.truth.items() if account not in doubtful}
    assert site.suspects().keys() == doubtful
