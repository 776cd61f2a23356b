"""The reports as their readers get them: people, programs, spreadsheets, Prometheus, and the SQL client."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import conntracker as v
from conntracker import DAY
from conntracker import Account
from conntracker import AccountRow
from conntracker import Evidence
from conntracker import Gap
from conntracker import Knowledge
from conntracker import Report
from conntracker import Suspect

NOW = 1_800_000_000
OLD = NOW - 400 * DAY
SETTINGS = {
    "version": "10.11.19-MariaDB",
    "hostname": "db1",
    "audit_plugin": "ACTIVE",
    "server_audit_logging": "ON",
    "server_audit_events": "CONNECT",
}
HOSTILE = [
    b"new\nline",
    b"esc\x1b[2Jred",
    b"\xe2\x80\xaertl",
    b"sep\xe2\x80\xa8line",
    b"q'uote",
    b'd"quote',
    b"back`tick",
    b"back\\slash",
    b"trailing\\",
    b"a`b'c\\",
    b"x'; DROP DATABASE mysql; -- ",
    b" lead",
    b"tab\there",
    "caf\u00e9".encode(),
    b"=cmd|' /C calc'!A0",
    b"+1",
    b"-1",
    b"@x",
    b"a,b",
    b"",
]
PLAIN_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def make(*names: bytes, host: bytes = b"10.%") -> Report:
    knowledge = Knowledge(
        source="server",
        accounts=tuple(Account(name, host, known_since=OLD) for name in names),
        definers={},
        settings=SETTINGS,
        tracking_since=OLD,
        last_record=NOW - 60,
        last_run=NOW - 60,
        inventory_at=NOW - 3600,
        sessions_complete=True,
    )
    return v.judge(knowledge, NOW, 90)


def mixed() -> Report:
    accounts = [
        Account(b"active", b"10.%", known_since=OLD),
        Account(b"never", b"%", known_since=OLD, locked=True),
        Account(b"stale", b"%", known_since=OLD),
        Account(b"fresh", b"%", known_since=NOW - DAY),
        Account(b"root", b"localhost", known_since=OLD),
    ]
    evidence = [
        Evidence("login", b"stale", b"10.1.1.1", OLD, NOW - 100 * DAY),
        *(Evidence("login", b"active", b"10.1.1.%d" % i, OLD, NOW - i * DAY) for i in range(8)),
    ]
    base = make().knowledge
    knowledge = base._replace(
        accounts=tuple(accounts), evidence=tuple(evidence), gaps=(Gap(OLD, OLD + 9, "rotated\naway"),)
    )
    return v.judge(knowledge, NOW, 90)


def test_the_table_says_what_may_go_first_and_what_it_rests_on() -> None:
    text = v.table_report(mixed())
    assert max(map(len, text.splitlines())) <= 100
    assert "server: db1 10.11.19-MariaDB" in text
    assert "tracking: since 2025-12-11 08:00, until 2027-01-15 07:59 (UTC)" in text
    assert "window: 90 days, since 2026-10-17 08:00" in text
    assert "gaps in the window: none" in text
    assert "inventory: of the server, 1 h old" in text
    names = re.findall(r"^[* ] (\w+@\S+)", text, re.MULTILINE)
    assert names == ["never@%", "stale@%", "root@localhost", "fresh@%", "active@10.%"]
    assert re.findall(r"^\* (\S+)", text, re.MULTILINE) == ["never@%", "stale@%"]
    assert "and 3 more" in text
    assert "5 accounts: 2 never, 1 stale, 1 unknown, 1 active; 2 removable (*)" in text


def test_the_table_tells_a_problem_of_all_accounts_once() -> None:
    report = v.judge(mixed().knowledge._replace(sessions_complete=False), NOW, 90)
    text = v.table_report(report)
    assert text.count("GRANT PROCESS ON *.*") == 1
    assert "problem: other accounts' open sessions are not visible" in text
    assert "why: the account is known only since 2027-01-14; the problems above" in text
    assert "why: the problems above" in text


@pytest.mark.parametrize("form", ["table", "csv", "prometheus", "sql"])
def test_hostile_names_stay_on_their_line_and_cannot_reach_the_terminal(form: str) -> None:
    text = v.write_report(make(*HOSTILE, b"bad\xffutf8", b"x" * 300), form)
    assert not re.search("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]", text)
    lines = text.replace("\r\n", "\n").split("\n")
    assert not any(line.startswith("line@") for line in lines)
    if form == "table":
        assert max(map(len, lines)) <= 100
        assert "new\\x0aline@10.%" in text
        assert "bad\\xffutf8@10.%" in text
        assert "\\u202ertl@10.%" in text
        assert "\\x20lead@10.%" in text


def test_json_has_the_schema() -> None:
    data = json.loads(v.json_report(mixed()))
    assert (data["schema"], data["window_days"]) == (1, 90)
    assert data["server"]["version"] == "10.11.19-MariaDB"
    assert data["tracking"]["since"] == "2025-12-11T08:00:00Z"
    assert data["tracking"]["until"] == "2027-01-15T07:59:00Z"
    assert [sorted(gap) for gap in data["tracking"]["gaps"]] == [["began", "ended", "reason"]]
    by_user = {item["user"]: item for item in data["accounts"]}
    stale = by_user["stale"]
    assert (stale["host"], stale["verdict"], stale["removable"]) == ("%", "stale", True)
    assert (stale["last_seen"], stale["first_seen"]) == ("2026-10-07T08:00:00Z", "2025-12-11T08:00:00Z")
    assert (stale["evidence"], stale["keep_reasons"]) == (["login"], [])
    assert stale["client_hosts"] == {"count": 1, "newest": ["10.1.1.1"]}
    assert by_user["root"]["keep_reasons"] == ["system account"]
    assert by_user["never"]["last_seen"] is None
    assert all(item["reasons"] for item in data["accounts"])


@given(PLAIN_NAMES)
def test_json_gives_every_name_as_it_is(name: str) -> None:
    (item,) = json.loads(v.json_report(make(name.encode())))["accounts"]
    assert (item["user"], item["host"]) == (name, "10.%")


def test_json_gives_bytes_that_are_no_text_in_hex() -> None:
    (item,) = json.loads(v.json_report(make(b"bad\xff")))["accounts"]
    assert (item["user"], item["user_hex"]) == ("bad\\xff", "626164ff")


def test_csv_is_read_back_and_holds_no_formula() -> None:
    names = [*HOSTILE, b"bad\xff"]
    text = v.csv_report(make(*names))
    assert text.count("\r\n") == text.count("\n") == len(names) + 1
    lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert lines[0][:4] == ["user", "host", "verdict", "removable"]
    assert {line[0].removeprefix("'") for line in lines[1:]} == {v.visible(name) for name in names}
    assert not any(value[:1] in set("=+-@|\t\r") and value for line in lines for value in line)


def test_the_csv_quotes_a_host_that_looks_like_a_formula() -> None:
    (line,) = list(csv.reader(io.StringIO(v.csv_report(make(b"app", host=b"-1.%")))))[1:]
    assert line[1] == "'-1.%"


def test_prometheus_has_one_type_and_help_a_metric_and_few_series() -> None:
    few, many = v.prometheus_report(mixed()), v.prometheus_report(make(*[b"u%d" % i for i in range(500)]))
    for text in (few, many):
        names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert names == [line.split()[2] for line in text.splitlines() if line.startswith("# HELP")]
        assert len(names) == len(set(names))
        samples = [line for line in text.splitlines() if not line.startswith("#")]
        assert all(re.fullmatch(r'conntracker_[a-z_]+(\{verdict="\w+"\})? -?\d+', line) for line in samples)
        assert {re.split("[{ ]", line)[0] for line in samples} == set(names)
        assert text.endswith("\n")
    assert len(few.splitlines()) == len(many.splitlines())
    assert 'conntracker_accounts{verdict="never"} 2\n' in few
    assert "conntracker_accounts_removable 2\n" in few
    assert f"conntracker_last_run_timestamp_seconds {NOW - 60}\n" in few


def test_sql_locks_the_removable_accounts_only_and_undoes_no_lock_that_was_there() -> None:
    report = mixed()
    text, undo = v.sql_report(report), v.sql_undo_report(report)
    code = [line for line in text.splitlines() if line and not line.startswith("--")]
    assert [line.split(" -- ")[0] for line in code] == [
        "SET NAMES utf8mb4;",
        "ALTER USER 'stale'@'%' ACCOUNT LOCK;",
    ]
    assert "login 2026-10-07 from 10.1.1.1" in code[1]
    assert "-- already locked: never@%" in text
    assert "-- ALTER USER 'stale'@'%' ACCOUNT UNLOCK; -- stale@%" in text
    assert "ALTER USER 'stale'@'%' ACCOUNT UNLOCK;" in undo
    assert "never" not in undo


@given(PLAIN_NAMES, PLAIN_NAMES)
def test_every_line_of_the_script_is_one_statement_or_a_comment(user: str, host: str) -> None:
    text = v.sql_report(make(user.encode(), host=host.encode()))
    for line in text.splitlines():
        assert re.match(r"--( |$)|SET NAMES utf8mb4;$|ALTER USER ['`]|EXECUTE IMMEDIATE CONVERT\(x'[0-9a-f]+' |$", line)


@pytest.mark.parametrize("row", [AccountRow(b"bad\xff", b"%"), AccountRow(b"a", b""), AccountRow(b"a ", b"%")])
def test_a_name_that_sql_would_take_for_another_is_not_made_into_sql(row: AccountRow) -> None:
    assert v.sql_statement(row, "LOCK").startswith("-- ")


def test_only_some_verdicts() -> None:
    assert {item.verdict for item in mixed().only(["never", "active"]).accounts} == {"never", "active"}
    assert len(mixed().only([]).accounts) == 5


def test_output_is_replaced_in_one_step_and_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "conntracker.prom"
    path.write_text("old")
    before = path.stat().st_ino
    old = os.umask(0o077)
    try:
        v.write_atomically(str(path), "new\n")
    finally:
        os.umask(old)
    assert path.read_text() == "new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.stat().st_ino != before
    assert os.listdir(tmp_path) == ["conntracker.prom"]


def test_an_output_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(v.ConntrackerError, match="No such file"):
        v.write_atomically(str(tmp_path / "no" / "x"), "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(v.ConntrackerError, match="output: "):
        v.write_atomically(str(tmp_path / "folder"), "")
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize(
    ("change", "code", "check", "words"),
    [
        ({}, 0, "last run", "0 h ago"),
        ({"last_run": None}, 2, "last run", "never"),
        ({"last_run": NOW - 3 * DAY}, 2, "last run", "3 d ago"),
        ({"last_run": NOW - 30 * 3600}, 1, "last run", "1 d ago"),
        ({"last_run": NOW + DAY}, 1, "last run", "in the future"),
        ({"tracking_since": None}, 1, "tracking", "never"),
        ({"evidence": ()}, 1, "logins", "none was ever seen"),
        (
            {"evidence": (Evidence("login", b"a", b"h", None, NOW - 4 * DAY),)},
            1,
            "logins",
            "newest 2027-01-11",
        ),
        ({"gaps": (Gap(NOW - DAY, NOW, "lost"),)}, 1, "gaps", "1, the newest"),
        ({"gaps": (Gap(NOW - 90 * DAY, NOW - 89 * DAY),)}, 0, "gaps", "1, the newest"),
        ({"suspects": (Suspect(b"a", b"h", NOW),)}, 1, "suspect records", "1"),
        ({"unparsed": 7}, 1, "unparsed records", "7"),
        ({"settings": {**SETTINGS, "server_audit_logging": "OFF"}}, 2, "audit settings", "logging is OFF"),
        ({"source": "none", "inventory_at": None}, 1, "inventory", "never asked"),
        ({"inventory_error": "x"}, 1, "inventory", "failed (x)"),
        ({"definers": None}, 1, "inventory", "definers are not known"),
    ],
)
def test_status_is_fit_for_a_monitoring_check(change: dict[str, object], code: int, check: str, words: str) -> None:
    knowledge = make().knowledge._replace(evidence=(Evidence("login", b"a", b"h", None, NOW - 60),))
    status = v.tracker_status(knowledge._replace(**change), NOW, asked=True)  # type: ignore[arg-type]
    assert status.code == code, status
    words = words.replace("0 h", "1 min")
    assert any(name == check and words in text for name, _, text in status.checks), status
    data = json.loads(status.json())
    assert (data["schema"], data["code"], len(data["checks"])) == (1, code, len(status.checks))
    assert len(status.text().splitlines()) == len(status.checks)
    assert status.text().startswith(("OK", "WARNING", "CRITICAL")[code])
