"""A database that the Go program made is taken over, and one of the first release."""

from __future__ import annotations

import sqlite3
import subprocess
import tarfile
from pathlib import Path

import pytest
from site_kit import LOG_NAME
from site_kit import PROGRAM
from site_kit import Pen
from site_kit import Site

GO_ROWS = [
    ("mysql", "localhost", "2024-10-14 13:22:57+02:00"),
    ("root", "localhost", "2024-10-14 13:23:57+02:00"),
    ("user1", "example.com", "2024-10-13 09:11:57+02:00"),
    ("new", "10.0.0.1", "2030-01-01 00:00:00+01:00"),
    ("quo'te", "h", "2023-02-01 23:00:00+01:00"),
    ("strange", "h", "yesterday"),
    ("never", "h", "0001-01-01 00:00:00+00:00"),
    ("last", "h", "9999-12-31 23:59:59-05:00"),
]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a host with a database as the Go program leaves it, and a log."""
    site = Site(tmp_path)
    site.write(b"20241014 11:30:00,db,user1,example.com,7,0,CONNECT,,,0\n")
    site.write(b"20241014 11:30:00,db,new,10.0.0.1,8,0,CONNECT,,,0\n")
    site.write(b"20241014 11:30:01,db,mysql,localhost,9,0,CONNECT,,,0\n")
    with sqlite3.connect(site.database) as go:
        go.execute("CREATE TABLE Accounts (name TEXT, host TEXT, last_seen TIMESTAMP, PRIMARY KEY (name, host))")
        go.executemany("INSERT INTO Accounts VALUES (?, ?, ?)", GO_ROWS)
    go.close()
    return site


def accounts(site: Site) -> dict[tuple[str, str], str]:
    rows = sqlite3.connect(site.database).execute("SELECT name, host, last_seen FROM Accounts").fetchall()
    assert len(rows) == len({row[:2] for row in rows})
    return {(name, host): seen for name, host, seen in rows}


def test_no_row_is_lost_and_none_moved_back(site: Site) -> None:
    site.collect("--time-location", "Europe/Zurich", "--time-location-audit", "UTC")
    found = accounts(site)
    assert found["root", "localhost"] == "2024-10-14 13:23:57+02:00"
    assert found["user1", "example.com"] == "2024-10-14 13:30:00+02:00"
    assert found["new", "10.0.0.1"] == "2030-01-01 00:00:00+01:00"
    assert found["quo'te", "h"] == "2023-02-01 23:00:00+01:00"
    assert found["strange", "h"] == "yesterday"
    assert found["never", "h"] == "0001-01-01 00:00:00+00:00"
    assert found["last", "h"] == "9999-12-31 23:59:59-05:00"
    assert found["mysql", "localhost"] > "2024-10-14 13:22:57+02:00"
    assert len(found) == len(GO_ROWS)


def test_true_logins_of_mysql_are_kept_beside_the_bookmark(site: Site) -> None:
    site.collect()
    rows = sqlite3.connect(site.database).execute(
        "SELECT max(last_seen) FROM evidence WHERE kind = 'login' AND CAST(user AS TEXT) = 'mysql'"
    )
    assert rows.fetchone() == (1728905401,)


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.write(b"20241014 11:30:00,db,a,h,7,0,CONNECT,,,0\n")
    sqlite3.connect(site.database).execute("CREATE TABLE orders (id)").connection.close()
    done = site.run()
    assert done.returncode == 1
    assert "SqlitePath" in done.stderr
    names = sqlite3.connect(site.database).execute("SELECT name FROM sqlite_master").fetchall()
    assert names == [("orders",)]


def test_a_database_of_the_first_release_keeps_what_is_no_longer_in_the_logs(tmp_path: Path) -> None:
    site, pen = Site(tmp_path), Pen()
    with tarfile.open(PROGRAM.parent / "molecule/files/release-1.0.0.tgz") as release:
        member = release.extractfile("conntracker.py")
        assert member
        (tmp_path / "release.py").write_bytes(member.read())
    command = site.command()
    command[1] = str(tmp_path / "release.py")
    for number in range(2):
        site.write(pen.sessions(30, prefix=b"run%d-" % number))
        assert subprocess.run(command, check=True, capture_output=True).stderr == b""
        site.rotate()
    (site.logs / f"{LOG_NAME}.2").unlink()
    site.write(pen.sessions(30, prefix=b"new"))
    site.collect()
    assert site.logins() == pen.truth
    assert accounts(site).keys() >= {(user.decode(), host.decode()) for user, host in pen.truth}
