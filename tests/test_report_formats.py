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
from verdict_kit import NOW
from verdict_kit import OLD

import conntracker as v
from conntracker import DAY
from conntracker import Account
from conntracker import AccountRow
from conntracker import Evidence
from conntracker import Fleet
from conntracker import Gap
from conntracker import Knowledge
from conntracker import Report
from conntracker import Suspect
from conntracker import Terms
from conntracker import Watched

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
        watched=(Watched(OLD, NOW - 60, v.BY_IDS),),
        first_heartbeat=OLD,
        tracking_since=OLD,
        last_record=NOW - 60,
        last_run=NOW - 60,
        inventory_at=NOW - 3600,
        sessions_complete=True,
    )
    return v.assess(knowledge, NOW)


def alone(report: Report) -> Fleet:
    """Return the report on a server that stands alone, as its readers get it."""
    database = v.Database("db1", "db1", report.knowledge)
    return v.judge([database], {}, report.now, report.terms)


def table(report: Report) -> str:
    return v.table_report(alone(report))


def comma_separated(report: Report) -> str:
    return v.csv_report(alone(report), groups=False)


def lock(report: Report) -> str:
    return v.lock_sql(alone(report), "db1")


def unlock(report: Report) -> str:
    return v.unlock_sql(alone(report), "db1")


def drop(report: Report) -> str:
    return v.drop_sql(alone(report), "db1")


def mixed() -> Report:
    accounts = [
        Account(b"active", b"10.%", known_since=OLD),
        Account(b"never", b"%", known_since=OLD, locked=True),
        Account(b"stale", b"%", known_since=OLD),
        Account(b"fresh", b"%", known_since=NOW - DAY),
        Account(b"root", b"localhost", known_since=OLD),
        Account(b"reader", b"", is_role=True, known_since=OLD),
        Account(b"writer", b"", is_role=True, known_since=OLD),
    ]
    evidence = [
        Evidence("login", b"stale", b"10.1.1.1", OLD, NOW - 100 * DAY),
        *(Evidence("login", b"active", b"10.1.1.%d" % i, OLD, NOW - i * DAY) for i in range(8)),
    ]
    base = make().knowledge
    knowledge = base._replace(
        accounts=tuple(accounts), evidence=tuple(evidence), gaps=(Gap(OLD, OLD + 9, "rotated\naway"),)
    )
    return v.assess(knowledge, NOW)


def test_the_table_says_what_may_go_first_and_what_it_rests_on() -> None:
    text = table(mixed())
    assert max(map(len, text.splitlines())) <= 100
    assert "server: db1, 10.11.19-MariaDB" in text
    assert "tracking: since 2025-12-11 08:00, until 2027-01-15 07:59 (UTC)" in text
    assert "window: 90 days, since 2026-10-17 08:00" in text
    assert "watched: 100.0% of the window; holes in it: none" in text
    assert "inventory: of the server, 1 h old" in text
    names = re.findall(r"^[* ] (\w+@\S+)", text, re.MULTILINE)
    assert names == ["never@%", "stale@%", "root@localhost", "fresh@%", "active@10.%"]
    assert re.findall(r"^\* (\S+)", text, re.MULTILINE) == ["never@%", "stale@%"]
    assert "and 3 more" in text
    assert "5 accounts: 2 never, 1 stale, 1 unknown, 1 active; 2 removable (*)" in text
    assert text.endswith("\nroles, which cannot log in: reader, writer\n")


def test_the_table_tells_a_problem_of_all_accounts_once() -> None:
    report = v.assess(mixed().knowledge._replace(sessions_complete=False), NOW)
    text = table(report)
    assert text.count("GRANT PROCESS ON *.*") == 1
    assert "problem: other accounts' open sessions are not visible" in text
    why = "why: the account is known only since 2027-01-14: it can be decided on 2027-04-14; the problems above"
    assert why in " ".join(text.split())
    # What holds for all of them stands once: an account with nothing of its own needs no line.
    assert re.search(r"(?m)^  never@% .*\n      is: locked$", text)
    assert " ".join(text.split()).count("the problems above") == 1


WRITERS = {
    "table": table,
    "json": v.json_report,
    "csv": comma_separated,
    "prometheus": v.prometheus_report,
    "sql": lock,
    "undo": unlock,
    "drop": drop,
}


@pytest.mark.parametrize("form", ["table", "csv", "prometheus", "sql", "undo", "drop"])
def test_hostile_names_stay_on_their_line_and_cannot_reach_the_terminal(form: str) -> None:
    text = WRITERS[form](make(*HOSTILE, b"bad\xffutf8", b"x" * 300))
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
    (watched,) = data["watched"]
    assert watched["proof"] == "every id has its record"
    assert (watched["began"], watched["ended"]) == ("2025-12-11T08:00:00Z", "2027-01-15T07:59:00Z")
    assert (data["holes"], data["watched_share"], data["holes_tolerated"]) == ([], 1.0, False)
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
    text = comma_separated(make(*names))
    assert text.count("\r\n") == text.count("\n") == len(names) + 1
    lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert lines[0][:4] == ["user", "host", "verdict", "removable"]
    assert {line[0].removeprefix("'") for line in lines[1:]} == {v.visible(name) for name in names}
    assert not any(value[:1] in set("=+-@|\t\r") and value for line in lines for value in line)


def test_the_csv_quotes_a_host_that_looks_like_a_formula() -> None:
    (line,) = list(csv.reader(io.StringIO(comma_separated(make(b"app", host=b"-1.%")))))[1:]
    assert line[1] == "'-1.%"


def test_prometheus_has_one_type_and_help_a_metric_and_few_series() -> None:
    few, many = v.prometheus_report(mixed()), v.prometheus_report(make(*[b"u%d" % i for i in range(500)]))
    for text in (few, many):
        names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert names == [line.split()[2] for line in text.splitlines() if line.startswith("# HELP")]
        assert len(names) == len(set(names))
        samples = [line for line in text.splitlines() if not line.startswith("#")]
        assert all(re.fullmatch(r'conntracker_[a-z_]+(\{verdict="\w+"\})? -?\d+(\.\d+)?', line) for line in samples)
        assert {re.split("[{ ]", line)[0] for line in samples} == set(names)
        assert text.endswith("\n")
    assert len(few.splitlines()) == len(many.splitlines())
    assert 'conntracker_accounts{verdict="never"} 2\n' in few
    assert "conntracker_accounts_removable 2\n" in few
    assert "conntracker_accounts_locked 1\n" in few
    assert "conntracker_watched_ratio 1.0\n" in few
    assert "conntracker_holes 0\n" in few
    assert f"conntracker_last_run_timestamp_seconds {NOW - 60}\n" in few


def test_sql_locks_the_removable_accounts_only_and_undoes_no_lock_that_was_there() -> None:
    report = mixed()
    text, undo = lock(report), unlock(report)
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
    report = make(user.encode(), host=host.encode())
    locked = report.accounts[0].account._replace(locked=True, locked_since=NOW - 40 * DAY)
    droppable = v.assess(report.knowledge._replace(accounts=(locked,)), NOW)
    text = lock(report) + unlock(report) + drop(droppable)
    assert droppable.accounts[0].droppable or droppable.accounts[0].keep_reasons
    for line in text.splitlines():
        assert re.match(
            r"--( |$)|SET NAMES utf8mb4;$|(ALTER|DROP) USER ['`]|EXECUTE IMMEDIATE CONVERT\(x'[0-9a-f]+' |$", line
        )


@pytest.mark.parametrize("row", [AccountRow(b"bad\xff", b"%"), AccountRow(b"a", b""), AccountRow(b"a ", b"%")])
def test_a_name_that_sql_would_take_for_another_is_not_made_into_sql(row: AccountRow) -> None:
    assert v.sql_on(row, "ALTER USER {} ACCOUNT LOCK").startswith("-- ")
    locked = Account(row.user, row.host, locked=True, known_since=OLD, locked_since=OLD)
    report = v.assess(make().knowledge._replace(accounts=(locked,)), NOW)
    assert report.accounts[0].droppable
    for line in drop(report).splitlines():
        assert line == "SET NAMES utf8mb4;" or line.startswith("-- ")


def locked_report() -> Report:
    """Return a report on four locked accounts: one asked for, one not, one with a hostile name, one locked lately."""
    accounts = [
        Account(b"asked", b"%", locked=True, known_since=OLD, locked_since=NOW - 40 * DAY),
        Account(b"silent", b"%", locked=True, known_since=OLD, locked_since=NOW - 40 * DAY),
        Account(b"q'uo`te\n", b"10.%", locked=True, known_since=OLD, locked_since=NOW - 31 * DAY),
        Account(b"lately", b"%", locked=True, known_since=OLD, locked_since=NOW - 3 * DAY),
    ]
    evidence = (
        Evidence("refused 4151", b"asked", b"app3", NOW - 30 * DAY, NOW - 8 * DAY),
        Evidence("login", b"silent", b"app4", OLD, NOW - 120 * DAY),
    )
    return v.assess(make().knowledge._replace(accounts=tuple(accounts), evidence=evidence), NOW)


def test_the_table_tells_how_locked_accounts_stand() -> None:
    text = table(locked_report())
    assert "is: locked 40 days, asked for from 1 client, last refused 4151 2027-01-07 from app3" in text
    assert "is: locked 40 days\n" in text
    assert "is: locked 3 days\n" in text


def test_the_program_s_reader_gets_the_stages() -> None:
    by_user = {item["user"]: item for item in json.loads(v.json_report(locked_report()))["accounts"]}
    assert {user: item["droppable"] for user, item in by_user.items()} == {
        "asked": False,
        "silent": True,
        "q'uo`te\n": True,
        "lately": False,
    }
    assert by_user["silent"]["locked_since"] == "2026-12-06T08:00:00Z"
    assert by_user["asked"]["stage"].startswith("locked 40 days, asked for")
    lines = list(csv.DictReader(io.StringIO(comma_separated(locked_report()))))
    assert {line["user"]: line["stage"] for line in lines}["silent"] == "locked 40 days"


def test_the_script_that_drops_begins_with_the_backup_and_has_the_evidence_beside_each_statement() -> None:
    lines = drop(locked_report()).splitlines()
    assert "drop 2 unused accounts of db1" in lines[0]
    code = [line for line in lines if line and not line.startswith("--")]
    hidden = b"DROP USER `q'uo``te\n`@`10.%`".hex()
    assert {line.partition(" -- ")[0] for line in code} == {
        "SET NAMES utf8mb4;",
        "DROP USER 'silent'@'%';",
        f"EXECUTE IMMEDIATE CONVERT(x'{hidden}' USING utf8mb4);",
    }
    (silent,) = [line for line in code if "'silent'" in line]
    for words in ("locked 40 days since 2026-12-06", "never asked for", "last use 2026-09-17 08:00"):
        assert words in silent
    backup = next(number for number, line in enumerate(lines) if "mariadb-dump --system=users" in line)
    assert backup < min(number for number, line in enumerate(lines) if re.match("DROP|EXECUTE", line))
    assert "asked@" not in "".join(lines)


def stated(*gaps: Gap) -> Report:
    """Return a report that rests on the operator's word for most of the window."""
    began = NOW - 10 * DAY
    watched = (Watched(began, NOW - 60, v.BY_IDS),)
    knowledge = make(b"app").knowledge._replace(watched=watched, first_heartbeat=began, gaps=gaps)
    return v.assess(knowledge, NOW, Terms(stated_since=NOW - 100 * DAY))


def tells(text: str, word: str) -> bool:
    """Tell whether a line has a word, but for the help of Prometheus and what is none or false."""
    lines = [line for line in text.lower().splitlines() if not line.startswith("#")]
    return any(word in line and not re.search(r" (0|0\.0|false),?$", line) for line in lines)


@pytest.mark.parametrize("form", ["table", "json", "csv", "prometheus", "sql"])
def test_every_form_tells_what_rests_on_the_operator_s_word(form: str) -> None:
    assert stated().accounts[0].removable
    proven = v.assess(make(b"app").knowledge, NOW)
    assert tells(WRITERS[form](stated()), "stated")
    assert not tells(WRITERS[form](proven), "stated")


@pytest.mark.parametrize("form", ["table", "json", "csv", "prometheus", "sql"])
def test_every_form_tells_what_was_tolerated(form: str) -> None:
    watched = (Watched(OLD, NOW - 50 * DAY, v.BY_IDS), Watched(NOW - 50 * DAY + 600, NOW - 60, v.BY_IDS))
    report = v.assess(make(b"app").knowledge._replace(watched=watched), NOW, Terms(tolerated=600))
    assert report.accounts[0].removable
    assert tells(WRITERS[form](report), "tolerated")


def test_a_gap_in_what_was_stated_is_a_hole_in_every_form() -> None:
    report = stated(Gap(NOW - 50 * DAY, NOW - 49 * DAY, "rotated\naway"))
    hole = "not watched from 2026-11-26 08:00 to 2026-11-27 08:00 (rotated\\x0aaway)"
    text = " ".join(table(report).split())
    assert "watched: 98.9% of the window; holes in it: 1" in text
    assert text.count(hole) == 1
    assert "can be decided on 2027-02-25" in text
    data = json.loads(v.json_report(report))
    assert data["holes"] == [
        {"began": "2026-11-26T08:00:00Z", "ended": "2026-11-27T08:00:00Z", "reason": "rotated\\x0aaway"}
    ]
    assert (data["watched_share"], data["holes_tolerated"]) == (0.9889, False)
    assert [one["proof"] for one in data["watched"]] == ["stated by the operator"] * 2 + ["every id has its record"]
    (line,) = csv.DictReader(io.StringIO(comma_separated(report)))
    assert (line["verdict"], line["removable"]) == ("unknown", "no")
    assert hole in line["reasons"]
    figures = v.prometheus_report(report)
    assert "conntracker_holes 1\n" in figures
    assert "conntracker_watched_ratio 0.988889\n" in figures
    assert "ALTER USER" not in lock(report)


def test_a_report_full_of_unknown_is_short() -> None:
    names = [b"app%d" % number for number in range(300)]
    report = v.assess(make(*names).knowledge._replace(watched=()), NOW)
    text = table(report)
    assert text.count("proven to be watched") == 1
    assert len(text.splitlines()) < 300 + 20


def test_only_some_verdicts() -> None:
    accounts = mixed().accounts
    assert {item.verdict for item in v.only(accounts, ["never", "active"])} == {"never", "active"}
    assert v.only(accounts, []) == accounts


def test_output_is_replaced_in_one_step_and_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "conntracker.prom"
    path.write_text("old")
    before = path.stat().st_ino
    old = os.umask(0o077)
    try:
        v.emit("new\n", str(path))
    finally:
        os.umask(old)
    assert path.read_text() == "new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.stat().st_ino != before
    assert os.listdir(tmp_path) == ["conntracker.prom"]


def test_an_output_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(v.ConntrackerError, match="No such file"):
        v.emit("", str(tmp_path / "no" / "x"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(v.ConntrackerError, match="output: "):
        v.emit("", str(tmp_path / "folder"))
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
        ({"heartbeat_error": "not in the log"}, 1, "watched", "not in the log"),
        ({"watched": ()}, 0, "watched", "nothing proven yet"),
        ({}, 0, "watched", "until 2027-01-15 07:59"),
        ({"last_error": "no\nspace"}, 2, "last run", "it failed: no\\x0aspace"),
    ],
)
def test_status_is_fit_for_a_monitoring_check(change: dict[str, object], code: int, check: str, words: str) -> None:
    knowledge = make().knowledge._replace(evidence=(Evidence("login", b"a", b"h", None, NOW - 60),))
    known = knowledge._replace(**change)  # type: ignore[arg-type]
    checks = v.health(known, NOW, asked=True)
    assert max(one.code for one in checks) == code, checks
    words = words.replace("0 h", "1 min")
    assert any(one.name == check and words in one.text for one in checks), checks
    data = json.loads(v.status_text(checks, known, "json"))
    assert (data["schema"], data["code"], len(data["checks"])) == (1, code, len(checks))
    shown = v.status_text(checks, known, "table")
    assert len(shown.splitlines()) == len(checks)
    assert shown.startswith(("OK", "WARNING", "CRITICAL")[code])
    nagios = v.status_text(checks, known, "nagios")
    assert re.fullmatch(rf"CONNTRACKER {v.STATES[code]} - [^|\n]+ \| accounts=\d+ suspects=\d+ unparsed=\d+\n", nagios)
    assert code == 0 or f"{check}: " in nagios


def test_a_pipe_in_a_message_does_not_end_the_text_of_nagios() -> None:
    knowledge = make().knowledge._replace(last_error="a | b")
    text = v.status_text(v.health(knowledge, NOW, asked=True), knowledge, "nagios")
    assert text.count("|") == 1
    assert "it failed: a / b" in text


def test_what_is_not_asked_for_is_no_problem() -> None:
    knowledge = make().knowledge._replace(source="none", inventory_at=None, heartbeat_error="x", watched=())
    knowledge = knowledge._replace(evidence=(Evidence("login", b"a", b"h", None, NOW - 60),))
    checks = v.health(knowledge, NOW, asked=False)
    assert {check.code for check in checks} == {0}
    assert v.status_text(checks, knowledge, "nagios").startswith("CONNTRACKER OK - the tracker is well | accounts=1 ")
