"""The configuration file and the command line."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from site_kit import PLAIN_USER
from site_kit import PROGRAM
from site_kit import Pen
from site_kit import Site
from site_kit import assert_one_clear_line

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


GIVEN = {
    "--audit-log-path": "/a",
    "--audit-log-name": "a.log",
    "--syslog-identifier": "mariadb",
    "--server-host": "db1,db2",
    "--group": "shop",
    "--replicas-ignored": "backup1",
    "--sqlite-path": "/a.sqlite",
    "--time-format-audit": "%Y-%m-%d %H:%M:%S",
    "--time-format-db": "%d.%m.%Y %H:%M:%S",
    "--time-location": "Europe/Zurich",
    "--time-location-audit": "Asia/Tokyo",
    "--max-workers": "2",
    "--log-level": "INFO",
    "--inventory": "mariadb",
    "--inventory-defaults-file": "/a.cnf",
    "--inventory-timeout": "7",
    "--watched-since": "2026-08-01",
    "--tolerate-holes": "10",
    "--exclude": "app@10.%",
    "--days": "30",
    "--drop-after": "60",
}
OWN = {
    "report": (
        ("--format", "json"),
        ("--verdict", "stale"),
        ("--accounts", "a.json"),
        ("--output", "b"),
        ("--stage", "drop"),
    ),
    "accounts": (("--format", "csv"),),
    "status": (("--format", "nagios"),),
    "grants": (("--user", "a@localhost"),),
}
WORDS = {"sql": ["SELECT 1"], "snapshot": ["copy"]}


def test_every_option_is_tried() -> None:
    assert list(GIVEN) == [option.flag for option in conntracker.OPTIONS]


@pytest.mark.parametrize("command", conntracker.COMMANDS)
@pytest.mark.parametrize("equals", [False, True])
def test_every_option_works_before_and_after_the_command(command: str, equals: bool) -> None:
    words = WORDS.get(command, [])
    for flag, value in [*GIVEN.items(), ("--config", "/a.ini"), *OWN.get(command, ())]:
        given = [f"{flag}={value}"] if equals else [flag, value]
        before = conntracker.read_arguments([*given, command, *words])
        after = conntracker.read_arguments([command, *given, *words])
        name = flag[2:].replace("-", "_")
        assert before == after
        assert before["command"] == command
        assert before[name] in (value, [value])
        if command == "collect":
            assert conntracker.read_arguments(given) == before


@pytest.mark.parametrize("value", conntracker.COMMANDS)
def test_a_value_that_is_a_command_s_name_is_a_value(value: str) -> None:
    for words in (["--config", value, "report"], ["report", "--config", value], [f"--config={value}", "report"]):
        got = conntracker.read_arguments(words)
        assert (got["command"], got["config"]) == ("report", value)


def test_no_command_is_collect(site: Site) -> None:
    assert conntracker.read_arguments([])["command"] == "collect"
    assert conntracker.read_arguments(["--days", "3"])["command"] == "collect"
    site.collect()
    alone = site.rows("SELECT count(*) FROM evidence")
    site.collect("collect")
    assert site.rows("SELECT count(*) FROM evidence") == alone == [(1,)]


def test_options_given_again(tmp_path: Path) -> None:
    path = tmp_path / "empty.ini"
    path.touch()
    line = f"--config {path} report --exclude a --exclude b,c --days 3 --days 4 --verdict stale --verdict never"
    config = conntracker.configure(conntracker.read_arguments(line.split()))
    assert (config.exclude, config.days, config.verdict) == (("a", "b", "c"), 4, ["stale", "never"])


@pytest.mark.parametrize(
    ("words", "about"),
    [
        (["collect", "--format", "json"], "--format"),
        (["--format", "json"], "--format"),
        (["accounts", "--stage", "drop"], "--stage"),
        (["status", "--verdict", "never"], "--verdict"),
        (["--output", "a", "status"], "--output"),
        (["accounts", "--format", "sql"], "sql"),
        (["status", "--format", "prometheus"], "prometheus"),
        (["report", "--user", "a"], "--user"),
        (["report", "--verdict", "good"], "good"),
        (["sql"], "SELECT"),
        (["snapshot"], "FILE"),
        (["snapshot", "a", "b"], "b"),
        (["report", "json"], "json"),
        (["--config"], "--config"),
        (["--day", "3"], "--day"),
    ],
)
def test_an_option_of_another_command_is_refused_in_one_line(words: list[str], about: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("conntracker: ERROR: ")
    assert about in done.stderr
    assert "--help" in done.stderr


@pytest.mark.parametrize("command", ["", *conntracker.COMMANDS])
def test_help_of_every_command(command: str) -> None:
    done = run(*filter(None, [command]), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: conntracker")


def test_help_may_stand_behind_options_without_a_command() -> None:
    done = run("--days", "3", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: conntracker")


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
        ("[default]\nWatchedSince = soon\n", ["WatchedSince", "soon", "ISO 8601"]),
        ("[default]\nTolerateHoles = -1\n", ["TolerateHoles", "0 to 9999"]),
        ("[default]\nDropAfter = 0\n", ["DropAfter", "1 to 9999"]),
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


def test_a_config_that_may_not_be_read_is_named(site: Site) -> None:
    site.config.chmod(0)
    for words in ([], ["report"], ["status"]):
        done = subprocess.run(
            [*PLAIN_USER, *site.command(*words)], capture_output=True, text=True, timeout=60, check=False
        )
        assert_one_clear_line(done, str(site.config), 2)
        assert "Permission denied" in done.stderr
    assert not site.database.exists()


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
    for words in (
        ["version"],
        ["--version"],
        ["--version", "--days", "3"],
        ["report", "--version"],
        ["--version", "sql", "x"],
    ):
        done = run(*words)
        assert (done.returncode, done.stdout, done.stderr) == (
            0,
            f"conntracker version {conntracker.__version__}\n",
            "",
        )


@pytest.mark.parametrize(
    ("text", "zone", "instant"),
    [
        ("2026-08-01", "UTC", 1785542400),
        ("2026-08-01", "Europe/Zurich", 1785542400 - 7200),
        ("2026-08-01T06:00:00Z", "Europe/Zurich", 1785542400 + 6 * 3600),
        ("2026-08-01 06:00:00+02:00", "UTC", 1785542400 + 4 * 3600),
    ],
)
def test_watched_since_is_in_the_zone_that_it_states_or_in_time_location(
    tmp_path: Path, text: str, zone: str, instant: int
) -> None:
    path = tmp_path / "a.ini"
    path.write_text(f"[default]\nTimeLocation = {zone}\nWatchedSince = {text}\nTolerateHoles = 10\n")
    config = conntracker.configure(conntracker.read_arguments(["--config", str(path), "report"]))
    assert conntracker.terms_of(config) == conntracker.Terms(90, (), instant, 600, 30)


def test_second_run_at_once_leaves_quietly(site: Site) -> None:
    site.write(Pen(number=100).sessions(1000))
    runs = [subprocess.Popen(site.command(), stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(8)]
    assert {(done.communicate(timeout=60), done.returncode) for done in runs} == {((b"", b""), 0)}


def test_grants_are_the_statements_that_the_inventory_needs() -> None:
    done = run("grants")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "CREATE USER IF NOT EXISTS conntracker@localhost IDENTIFIED VIA unix_socket;"
    assert all(line.endswith(" TO conntracker@localhost;") for line in lines[1:])
    assert "GRANT PROCESS, SHOW VIEW, TRIGGER, SLAVE MONITOR ON *.* TO conntracker@localhost;" in lines
    for user, account in (("watch", "watch@localhost"), ("a@b@10.%", "`a@b`@`10.%`"), ("a`b@h", "`a``b`@h")):
        assert account in run("grants", "--user", user).stdout


def test_sql_prints_what_a_select_returns_and_can_change_nothing(site: Site) -> None:
    site.write(b"20241014 13:24:00,db,e\x1bsc,localhost,8,0,CONNECT,,,0\n")
    site.collect()
    rows = "SELECT name, host, NULL FROM Accounts ORDER BY name"
    assert site.run("sql", rows).stdout == "e\\x1bsc|localhost|\nmysql|localhost|\nroot|localhost|\n"
    before = site.database.read_bytes()
    for statement in (
        "DELETE FROM evidence",
        "DROP TABLE meta",
        "CREATE TABLE x (y)",
        "SELECT nonsense",
        "",
        "SELECT 1; SELECT 2",
    ):
        done = site.run("sql", statement)
        if statement:
            assert_one_clear_line(done, str(site.database))
        assert "Traceback" not in done.stderr
    assert site.database.read_bytes() == before


def test_sql_shows_names_that_are_bytes_as_text(site: Site) -> None:
    site.collect()
    assert site.run("sql", "SELECT user, host FROM evidence").stdout == "root|localhost\n"


def test_snapshot_is_a_whole_copy_that_only_its_group_may_read(site: Site, tmp_path: Path) -> None:
    site.collect()
    copy = tmp_path / "copy.sqlite"
    done = site.run("snapshot", str(copy))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT * FROM evidence").fetchall()
    assert rows == site.rows("SELECT * FROM evidence")
    before = copy.read_bytes()
    assert_one_clear_line(site.run("snapshot", str(copy)), str(copy))
    assert copy.read_bytes() == before
    assert_one_clear_line(site.run("snapshot", str(tmp_path / "no" / "copy")), "No such file")


@pytest.mark.parametrize("words", [["report"], ["accounts"], ["status"], ["sql", "SELECT 1"], ["snapshot", "x"]])
def test_a_reading_command_without_a_database_says_so(site: Site, words: list[str]) -> None:
    done = site.run(*words)
    if words == ["status"]:
        assert (done.returncode, done.stderr) == (2, "")
        assert done.stdout.startswith("CRITICAL database: ")
    else:
        assert_one_clear_line(done, str(site.database))
    assert not site.database.exists()


def test_status_for_nagios(site: Site) -> None:
    done = site.run("status", "--format", "nagios")
    assert done.returncode == 2
    assert re.fullmatch(r"CONNTRACKER CRITICAL - database: .*no database.* \| .*\n", done.stdout)
    site.collect()  # of logins of long ago
    done = site.run("status", "--format", "nagios")
    assert done.returncode == 1
    shape = r"CONNTRACKER WARNING - logins: the newest 2024-10-14 13:23 \| accounts=1 suspects=0 unparsed=0\n"
    assert re.fullmatch(shape, done.stdout)
    site.log.unlink()
    site.write(Pen(int(time.time()) - 60, 500).sessions(20))
    site.collect()
    site.database.write_bytes(b"no database at all\n" * 500)
    done = site.run("status", "--format", "nagios")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.startswith("CONNTRACKER UNKNOWN - database: ")


PRINTING = [
    ["report"],
    ["report", "--format", "json"],
    ["report", "--format", "csv"],
    ["report", "--format", "prometheus"],
    ["report", "--format", "sql"],
    ["report", "--format", "sql", "--stage", "drop"],
    ["accounts"],
    ["status"],
    ["grants"],
    ["sql", "SELECT * FROM Accounts"],
    ["version"],
]


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_output_to_a_full_disk_is_told_in_one_line(site: Site, words: list[str]) -> None:
    site.collect()
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            site.command(*words), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "conntracker: ERROR: output: stdout: No space left on device\n"


def test_help_to_a_full_disk_is_no_traceback() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, str(PROGRAM), "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 1


def test_a_reader_that_leaves_ends_it_quietly(site: Site) -> None:
    site.write(b"".join(b"20241014 13:24:00,db,app%d,h,%d,0,CONNECT,,,0\n" % (i, 8 + i) for i in range(5000)))
    site.collect()
    for words in (["accounts"], ["report"], ["report", "--format", "json"], ["sql", "SELECT * FROM evidence"]):
        shell = shlex.join(site.command(*words)) + " | head -n 1"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", shell], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), words
        assert done.stdout.count("\n") == 1


def test_a_closed_output_is_no_traceback(site: Site) -> None:
    closed = shlex.join(site.command("version")) + " >&-"
    done = subprocess.run(["bash", "-c", closed], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", PRINTING[:7], ids=" ".join)
def test_an_output_that_knows_only_ascii_gets_escapes(site: Site, words: list[str]) -> None:
    site.write("20241014 13:24:00,db,caf\u00e9\u20ac,localhost,8,0,CONNECT,,,0\n".encode())
    site.collect()
    site.listed("caf\u00e9\u20ac".encode(), b"root")
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(site.command(*words), capture_output=True, env=env, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    if "sql" in words:
        assert done.stdout.decode("utf-8")  # a script for the client, whatever the terminal is
    else:
        assert done.stdout.isascii()
        assert b"caf" in done.stdout or b"conntracker_" in done.stdout
