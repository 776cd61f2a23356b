"""The configuration file and the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from site_kit import PROGRAM
from site_kit import Pen
from site_kit import Site

import conntracker

GO_CONFIG = """\
[default]
AuditLogPath = {logs}
SqlitePath = {database}
TimeFormatAudit = "20060102 15:04:05"
TimeFormatDB = "2006-01-02 15:04:05-07:00"
TimeLocation = Europe/Zurich
MaxWorkers = 4
LogLevel = ERROR
"""


def run(*options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def query(site: Site, sql: str) -> str:
    done = subprocess.run(["sqlite3", str(site.database), sql], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a host with one login, at 20241014 13:23:57."""
    site = Site(tmp_path)
    site.write(b"20241014 13:23:57,db,root,localhost,7,0,CONNECT,,,0\n")
    return site


def test_config_of_the_go_program(site: Site) -> None:
    site.config.write_text(GO_CONFIG.format(logs=site.logs, database=site.database))
    done = run("--config", site.config)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    rows = query(site, "SELECT name, host, last_seen FROM Accounts WHERE name = 'root'")
    assert rows == "root|localhost|2024-10-14 13:23:57+02:00\n"


def test_command_line_overrides_the_file(site: Site) -> None:
    site.config.write_text(GO_CONFIG.format(logs="/nowhere", database="/nowhere/audit.sqlite"))
    options = ["--audit-log-path", site.logs, "--sqlite-path", site.database, "--time-location", "Asia/Kolkata"]
    done = run("--config", site.config, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "root|localhost|2024-10-14 13:23:57+05:30" in query(site, "SELECT * FROM Accounts")


@pytest.mark.parametrize(
    "words",
    [
        "",
        "collect",
        "--config a --days 3 --exclude a --exclude b",
        "collect --config a --config b --days 3 --days 4 --sqlite-path c",
        "--time-location  --exclude x@y,*",
        "--days=3 --config=a",
        "--days 3 collect",
        "report --format json --verdict stale --verdict never --accounts a --output b",
        "--version --days 3",
    ],
)
def test_the_quick_reading_of_a_command_line_is_that_of_argparse(words: str) -> None:
    line = words.split(" ") if words else []
    assert conntracker.read_arguments(line) == vars(conntracker.parser().parse_args(line))


def test_no_config_at_all(site: Site) -> None:
    done = run("--audit-log-path", site.log, "--sqlite-path", site.database)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert query(site, "SELECT count(*) FROM Accounts") == "2\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[default]\nLogLvl = ERROR\n", ["LogLvl", "AuditLogPath"]),
        ("[default]\nLogLevel = LOUD\n", ["LogLevel", "LOUD", "DEBUG, INFO, WARN, ERROR"]),
        ("[default]\nMaxWorkers = 0\n", ["MaxWorkers", "1 to 9999"]),
        ("[default]\nMaxWorkers = many\n", ["MaxWorkers", "many"]),
        ("[default]\nTimeLocation = Europe/Nowhere\n", ["TimeLocation", "Europe/Zurich"]),
        ("[default]\nTimeFormatDB = never\n", ["TimeFormatDB", "Go reference layout"]),
        ("[default]\nTimeFormatAudit = %Q\n", ["TimeFormatAudit", "%Q"]),
        ("[other]\nLogLevel = ERROR\n", ["[other]"]),
        ("LogLevel = ERROR\n", ["[default]"]),
        ("[default]\nno key\n", ["[default]"]),
        ("[default]\nAuditLogPath =\n", ["AuditLogPath", "a folder, a file or a glob"]),
    ],
)
def test_bad_config_is_told_in_one_line(site: Site, text: str, words: list[str]) -> None:
    site.config.write_text(text)
    done = run("--config", site.config)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in [str(site.config), *words])


def test_missing_and_unreadable_config(tmp_path: Path) -> None:
    for path in (tmp_path / "none.ini", tmp_path):
        done = run("--config", path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert str(path) in done.stderr


@pytest.mark.parametrize("options", [["--nonsense"], ["destroy"], ["--max-workers", "x"], ["--format", "xml"]])
def test_bad_options(options: list[str]) -> None:
    done = run(*options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("quote", ['"', "'", "`", ""])
def test_values_may_be_quoted_and_percent_is_plain(site: Site, quote: str) -> None:
    site.config.write_text(
        f"[default]\nSqlitePath = {quote}{site.database}{quote}\nAuditLogPath = {site.logs}\n"
        f"TimeFormatDB = {quote}%d.%m.%Y %H:%M{quote} ; German\nTimeLocation = {quote}UTC{quote}\n"
    )
    assert run("--config", site.config).stderr == ""
    assert "root|localhost|14.10.2024 13:23" in query(site, "SELECT * FROM Accounts")


def test_new_format_is_used_for_what_is_stored(site: Site) -> None:
    site.collect()
    site.collect("--time-format-db", "Jan _2 2006 3:04 PM", "--time-location", "America/New_York")
    assert "root|localhost|Oct 14 2024 9:23 AM" in query(site, "SELECT * FROM Accounts")


def test_log_in_another_zone(site: Site) -> None:
    site.collect("--time-location", "Europe/Zurich", "--time-location-audit", "Asia/Tokyo")
    assert "root|localhost|2024-10-14 06:23:57+02:00" in query(site, "SELECT * FROM Accounts")


@pytest.mark.parametrize(
    ("layout", "stamp"),
    [
        ("2006-01-02T15:04:05.000000-0700", "2024-10-14T13:23:57.123456+0000"),
        ("02/Jan/2006 15.04.05", "14/Oct/2024 13.23.57"),
        ("%Y%m%dT%H:%M:%S%f%z", "20241014T15:23:57.000000+0200"),
        ("20060102 03:04:05PM", "20241014 01:23:57PM"),
        ("20060102 15:04:05", "2024-10-14T13:23:57+00:00"),
    ],
)
def test_stamps_in_other_forms(tmp_path: Path, layout: str, stamp: str) -> None:
    site = Site(tmp_path)
    site.write(stamp.encode() + b",db,root,localhost,7,0,CONNECT,,,0\n")
    site.collect("--time-format-audit", layout)
    assert "root|localhost|2024-10-14 13:23:57+00:00" in query(site, "SELECT * FROM Accounts")


def test_version() -> None:
    for option in ("version", "--version"):
        assert run(option).stdout == f"conntracker version {conntracker.__version__}\n"


def test_second_run_at_once_leaves_quietly(site: Site) -> None:
    site.write(Pen(number=100).sessions(1000))
    runs = [subprocess.Popen(site.command(), stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(8)]
    assert {(done.communicate(timeout=60), done.returncode) for done in runs} == {((b"", b""), 0)}
