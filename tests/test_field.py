"""Inputs in the shapes that people have: each with its right value (tests/data/field/README.md)."""

from __future__ import annotations

import ast
import calendar
import json
import os
import pwd
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import timezone
from pathlib import Path

import pytest
from mariadb_server import MariaDBServer
from mariadb_server import need_server
from site_kit import LOG_NAME
from site_kit import TIMEOUT
from site_kit import Pen
from site_kit import Site
from site_kit import assert_one_clear_line
from site_kit import stamp

import conntracker as v
from conntracker import DAY

FIELD = Path(__file__).resolve().parent / "data" / "field"
# The inputs were made for this day: the window of 90 days begins on 2026-08-30.
NOW = calendar.timegm((2026, 11, 28, 12, 0, 0))
WINDOW = NOW - 90 * DAY
LOGIN_AT = calendar.timegm((2026, 11, 27, 14, 7, 5))


def given(site: Site, *parts: str) -> Path:
    """Copy an input into a host; its files were last written on the day before."""
    source = FIELD.joinpath(*parts)
    target = site.logs / source.name
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    for path in (target, *target.rglob("*")):
        os.utime(path, (NOW, NOW))
    return target


def open_store(site: Site) -> v.Store:
    return v.Store(str(site.database), v.TimeFormat(v.DEFAULT_STAMP), timezone.utc, write=True)


def verdicts_of_file(site: Site, folder: str) -> dict[str, v.AccountVerdict]:
    """Collect an input and return the verdicts on the accounts of its file, on the day that it was made for."""
    site.collect(path=given(site, folder, LOG_NAME))
    store = open_store(site)
    path = FIELD / folder / "accounts.json"
    known = store.knowledge(store.put_accounts_file(v.load_accounts_file(str(path), NOW), NOW))
    report = v.assess(known._replace(last_run=NOW), NOW)
    done = site.run("report", "--accounts", str(path), "--format", "json", "--days", "9999")
    assert (done.returncode, done.stderr) == (0, "")
    shown = {f"{item['user']}@{item['host']}": item["verdict"] for item in json.loads(done.stdout)["accounts"]}
    active = {item.name for item in report.accounts if item.verdict == "active"}
    assert active <= {name for name, verdict in shown.items() if verdict == "active"}
    return {item.name: item for item in report.accounts}


def test_enterprise_writes_unavailable_for_sockets(site: Site) -> None:
    got = verdicts_of_file(site, "enterprise-123-unavailable")
    assert {name: item.verdict for name, item in got.items()} == {
        "root@localhost": "active",
        "app@10.22.1.%": "active",
        "backup@localhost": "active",
        "six@2001:db8::7": "active",
    }
    assert got["backup@localhost"].client_hosts == (b"localhost",)
    assert got["app@10.22.1.%"].client_hosts == (b"10.22.1.7",)


def test_enterprise_names_the_new_user_of_a_session(site: Site) -> None:
    got = verdicts_of_file(site, "enterprise-v2-change-user")
    active = {name for name, item in got.items() if item.verdict == "active"}
    assert active == {"app@10.0.0.%", "rep@10.0.0.%", "mid@10.0.0.9"}
    # each change has its name, so nobody else is in doubt for it
    assert not any("changed its user" in reason for item in got.values() for reason in item.reasons)


def test_an_ipv6_address_with_a_port_of_four_digits(site: Site) -> None:
    got = verdicts_of_file(site, "ipv6-short-port")
    assert {item.verdict for item in got.values()} == {"active"}
    assert len(got) == 4
    assert got["v4@10.0.0.7"].client_hosts == (b"10.0.0.7",)


@pytest.mark.parametrize("accounts", ["enterprise-123-unavailable", "enterprise-v2-change-user"])
def test_accounts_of_a_file_need_the_operator_s_word_to_be_unused(site: Site, accounts: str) -> None:
    site.collect(path=given(site, accounts, LOG_NAME))
    store = open_store(site)
    path = site.folder / "accounts.json"
    path.write_text('{"accounts": [{"user": "gone", "host": "192.168.7.7", "known_since": "2026-01-01T00:00:00Z"}]}')
    known = store.knowledge(store.put_accounts_file(v.load_accounts_file(str(path), NOW), NOW))._replace(last_run=NOW)
    (item,) = v.assess(known, NOW).accounts
    assert item.verdict == "unknown"
    (item,) = v.assess(known, NOW, v.Terms(stated_since=WINDOW)).accounts
    assert (item.verdict, item.removable) == ("never", False)


def test_two_servers_of_one_host_in_one_syslog(site: Site) -> None:
    path = given(site, "two-instances-one-syslog", "mariadb-audit.log")
    done = site.run(path=path)
    if done.returncode:
        assert_one_clear_line(done, "mariadb-3306")
        assert "mariadb-3307" in done.stderr
        assert site.rows("SELECT count(*) FROM evidence") == [(0,)]
    for ident, prefix, count in (("mariadb-3306", b"app", 7), ("mariadb-3307", b"shop", 5)):
        one = Site(site.folder / ident)
        one.collect("--syslog-identifier", ident, path=path)
        assert len(one.logins()) == count
        assert {user.rstrip(b"0123456789") for user, _ in one.logins()} == {prefix}
        assert one.suspects() == {}
    if not done.returncode:
        assert len(site.logins()) == 12
        assert site.suspects() == {}


def test_a_syslog_head_before_a_record_of_the_file_format(site: Site) -> None:
    done = site.run(path=given(site, "syslog-wrapped-file", "audit-forwarded.log"))
    assert (done.returncode, done.stderr) == (0, "")
    assert {**site.logins(), **site.suspects()}.keys() == {(b"app", b"10.22.1.7"), (b"dba", b"10.22.1.9")}
    assert not any(b"," in user for (user,) in site.rows("SELECT user FROM evidence"))


def test_syslog_with_a_priority_and_no_host(site: Site) -> None:
    site.collect(path=given(site, "syslog-pri", "mariadb.log"))
    seen = {**site.logins(), **site.suspects()}
    assert seen.keys() == {(b"user1", b"172.18.0.3"), (b"user2", b"172.18.0.1")}
    first = calendar.timegm((2026, 11, 27, 14, 41, 3))
    assert site.logins()[b"user1", b"172.18.0.3"] == (first, first)


def test_stamps_in_microseconds_since_1970(site: Site) -> None:
    path = given(site, "aurora-epoch", "audit.log")
    done = site.run(path=path)
    if done.returncode:
        assert_one_clear_line(done, str(path))
    else:
        assert site.logins().keys() == {(b"admin", b"203.0.113.81"), (b"app", b"192.0.2.109")}
        assert site.logins()[b"admin", b"203.0.113.81"][0] == 1795788428


@pytest.mark.parametrize("form", ["all", "csv", "json", "xml"])
def test_another_vendor_s_log_is_refused_in_one_line(site: Site, form: str) -> None:
    path = given(site, "percona-audit", "audit.log")
    whole = path.read_text()
    begins = {"all": "", "csv": '"Connect', "json": "{", "xml": "<AUDIT"}[form]
    ends = {"all": "", "csv": "{", "json": "<AUDIT", "xml": ""}[form]
    text = whole[whole.index(begins) :]
    path.write_text(text[: text.index(ends)] if ends else text)
    assert_one_clear_line(site.run(path=path), str(path))
    assert site.rows("SELECT count(*) FROM evidence") == [(0,)]
    assert site.last_run() is None


def test_three_logs_of_a_glob_are_each_replaced(site: Site) -> None:
    folder = given(site, "glob-three-instances")
    pattern = folder / "*" / LOG_NAME
    site.collect(path=pattern)
    assert {user for user, _ in site.logins()} == {b"appa", b"appb", b"appc"}
    for number, one in enumerate(sorted(folder.iterdir())):
        (one / LOG_NAME).unlink()
        pen = Pen(NOW - 3600 + number, 3)
        (one / "new").write_bytes(pen.sessions(3).replace(b",db01,", b",db%b," % one.name.encode()))
        (one / "new").rename(one / LOG_NAME)
    done = site.run("--log-level", "WARN", path=pattern)
    told = [line for line in done.stderr.splitlines() if "gap from" in line]
    assert len(told) == 3, done.stderr
    for name in "abc":
        assert sum(f"/{name}/" in line for line in told) == 1
    assert len(site.gaps()) == 3


HEADS = [line.split("\t") for line in (FIELD / "heads.txt").read_text(encoding="utf-8").splitlines()]
APP = (b"app", b"10.1.1.7")


def test_the_heads_are_all_there() -> None:
    assert len(HEADS) == 38


@pytest.mark.parametrize(("name", "literal"), HEADS, ids=[name for name, _ in HEADS])
def test_a_record_behind_many_heads_is_read_or_refused_in_words(site: Site, name: str, literal: str) -> None:
    head = ast.literal_eval(literal)
    lines = [head.replace(",821,", f",{821 + number},") + "\n" for number in range(40)]
    lines[20:20] = [lines[0].replace("app,", "dba,").replace(",821,", ",820,")]
    for count in (1, len(lines)):
        one = Site(site.folder / str(count))
        one.log.write_bytes("".join(lines[:count]).encode())
        os.utime(one.log, (NOW, NOW))
        done = one.run(path=one.log)
        if done.returncode:
            assert_one_clear_line(done, str(one.log))
            assert one.rows("SELECT count(*) FROM evidence") == [(0,)]
            assert one.last_run() is None
            continue
        assert done.stderr == ""
        dba = {(b"dba", b"10.1.1.7")} if count > 1 else set()
        assert {*one.logins(), *one.suspects()} == {APP} | dba
        at = LOGIN_AT - 20 * DAY if "1-digit" in name else LOGIN_AT
        assert one.logins()[APP] == (at, at)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("02/01/2006 15:04:05", "01/11/2026 14:07:05"),
        ("%d.%m.%Y %H:%M:%S", "01.11.2026 14:07:05"),
        ("02-Jan-2006 15:04:05", "01-Nov-2026 14:07:05"),
        ("%Y-%m-%dT%H:%M:%S.%f", "2026-11-01T14:07:05.481161"),
        ("%Y%m%d %H:%i:%s", "20261101 14:07:05"),
    ],
)
def test_other_forms_of_stamps(site: Site, form: str, text: str) -> None:
    at = calendar.timegm((2026, 11, 1, 14, 7, 5))
    site.write(b"".join(b"%b,db1,app,10.1.1.7,%d,0,CONNECT,shop,,0\n" % (text.encode(), i) for i in range(10, 30)))
    site.collect("--time-format-audit", form)
    assert site.logins() == {APP: (at, at)}
    site.config.write_text(f"[default]\nTimeFormatAudit = {form}\n")
    again = Site(site.folder / "again")
    again.config.write_text(site.config.read_text())
    again.collect(path=site.logs)
    assert again.logins() == {APP: (at, at)}


def test_a_letter_of_the_servers_that_is_not_known_is_refused(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(3))
    done = site.run("--time-format-audit", "%Y%m%d %H:%i %B")
    assert done.returncode == 2
    assert "%B of DATE_FORMAT is not known here" in done.stderr


def test_1100_rotations_with_few_open_files(site: Site, pen: Pen) -> None:
    for number in range(1100, 0, -1):
        site.write(pen.session((b"app%d" % (number % 7), b"localhost")), f"{LOG_NAME}.{number:03d}")
    site.write(pen.sessions(3))

    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    for _ in range(2):
        done = subprocess.run(
            site.command(), capture_output=True, text=True, preexec_fn=few_files, timeout=TIMEOUT, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert site.logins() == pen.truth
        site.write(pen.sessions(3))
    assert site.gaps() == []


# --- with a server -----------------------------------------------------------------------------------------


class Host:
    """A real server whose live log begins with an input, and a tracker beside it."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)
        self.server = MariaDBServer()

    def start(self, logs: Path, *accounts: str) -> None:
        """Put the logs into the data directory, start the server and make accounts."""
        self.server._install()
        for path in logs.glob(f"{LOG_NAME}*"):
            copied = self.server.data / path.name
            shutil.copyfile(path, copied)
            os.utime(copied, (NOW, NOW))
            if os.geteuid() == 0:
                os.chown(copied, pwd.getpwnam("mysql").pw_uid, -1)
        self.server.start()
        self.server.sql(*(f"CREATE USER {account} IDENTIFIED BY 'x'" for account in accounts))

    def collect(self, *options: str) -> str:
        """Collect with an inventory; return what is said."""
        client = ("--inventory", "mariadb", "--inventory-defaults-file", self.server.client_file("root"))
        done = self.site.run("--log-level", "WARN", *client, *options, path=self.server.data)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def report(self, stated_since: int | None = None) -> v.Report:
        """Return the verdicts for the window that begins where it did on the day of the inputs."""
        now = int(time.time())
        terms = v.Terms(days=(now - WINDOW) // DAY, stated_since=stated_since)
        return v.assess(open_store(self.site).knowledge(), now, terms)

    def script(self, *options: str) -> str:
        """Return the script that locks what may go."""
        days = str((int(time.time()) - WINDOW) // DAY)
        done = self.site.run("report", "--format", "sql", "--days", days, *options)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    need_server()
    monkeypatch.setenv("TZ", "UTC")
    made = Host(tmp_path)
    try:
        yield made
    finally:
        made.server.stop()


def verdict(report: v.Report, name: str) -> v.AccountVerdict:
    return next(item for item in report.accounts if item.name == name)


def test_a_left_over_rotation_beside_a_log_that_begins_today(host: Host) -> None:
    host.start(FIELD / "leftover-rotation" / "logs", "batch@localhost")
    for _ in range(2):
        host.collect()
    report = host.report()
    item = verdict(report, "batch@localhost")
    assert (item.verdict, item.removable) == ("unknown", False)
    assert v.utc(item.last_seen)[:10] == "2026-02-01"
    assert report.coverage.holes
    assert "batch" not in host.script()


def test_weeks_of_stamps_in_another_form(host: Host) -> None:
    host.start(FIELD / "stretch-not-understood" / "logs", "batch@localhost")
    said = host.collect()
    assert "lines not understood" in said
    host.collect()
    report = host.report()
    assert (verdict(report, "batch@localhost").verdict, report.coverage.holes != []) == ("unknown", True)
    assert "batch" not in host.script()
    # What was not understood is a known loss: it breaks the operator's word.
    word = calendar.timegm((2026, 5, 1, 0, 0, 0))
    broken = host.report(word)
    item = verdict(broken, "batch@localhost")
    assert (item.verdict, item.removable) == ("unknown", False)
    began, ended = calendar.timegm((2026, 9, 1, 12, 0, 0)), calendar.timegm((2026, 10, 1, 12, 0, 0))
    assert any(hole.began < ended and hole.ended > began for hole in broken.coverage.holes)
    assert "'batch'" not in host.script("--watched-since", "2026-05-01")


def test_a_session_that_began_before_the_window_and_ended_within_it(host: Host) -> None:
    host.start(FIELD / "long-session", "pool@10.0.0.6", "idle@10.0.0.7")
    for _ in range(2):
        host.collect()
    report = host.report(calendar.timegm((2026, 5, 1, 0, 0, 0)))
    item = verdict(report, "pool@10.0.0.6")
    assert (item.verdict, item.removable) == ("active", False)
    assert v.utc(item.last_seen)[:10] == "2026-11-20"
    assert "pool" not in host.script("--watched-since", "2026-05-01")


def test_a_heartbeat_proves_the_time_between_two_inventories(host: Host) -> None:
    host.start(FIELD / "long-session", "pool@10.0.0.6")
    assert "nothing is watched" not in host.collect()
    first = open_store(host.site).knowledge()
    assert (first.heartbeat_error, first.watched) == ("", ())
    assert first.first_heartbeat
    time.sleep(1.1)
    host.server.connect_as("root").close()
    host.collect()
    known = open_store(host.site).knowledge()
    (one,) = known.watched
    assert one.began == first.first_heartbeat == known.first_heartbeat
    assert one.ended == known.inventory_at
    assert one.proof == v.BY_IDS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--time-location-audit", "Asia/Tokyo"), "hours off"),
        (("--audit-log-path", "{elsewhere}"), "is not in the log"),
    ],
)
def test_a_heartbeat_that_does_not_fit_proves_nothing(host: Host, options: tuple[str, str], words: str) -> None:
    elsewhere = host.site.folder / "elsewhere.log"
    elsewhere.write_bytes(Pen(int(time.time()) - 60).sessions(20))
    host.start(FIELD / "long-session", "pool@10.0.0.6")
    for _ in range(2):
        said = host.collect(*(option.format(elsewhere=elsewhere) for option in options))
        assert "nothing is watched" in said
        assert words in said
    known = open_store(host.site).knowledge()
    assert (known.watched, known.first_heartbeat) == ((), None)


@pytest.mark.parametrize("before", ["", "long-session", "leftover-rotation/logs"])
@pytest.mark.parametrize("switch", ["server_audit_logging=OFF", "server_audit_events='QUERY_DCL'"])
def test_a_switch_of_auditing_between_two_inventories_is_a_hole(host: Host, before: str, switch: str) -> None:
    host.start(FIELD / before if before else host.site.logs, "pool@10.0.0.6")
    host.collect()
    time.sleep(1.1)
    host.server.sql("SET GLOBAL " + switch)
    with host.server.connect_as("root"):
        pass
    host.server.sql("SET GLOBAL server_audit_logging=ON", "SET GLOBAL server_audit_events='CONNECT'")
    for _ in range(3):
        host.collect()
        known = open_store(host.site).knowledge()
        assert not [one for one in known.watched if one.began == known.first_heartbeat]
        time.sleep(1.1)
    # the two inventories after it prove the time between them again
    assert known.watched


def test_a_restart_between_two_inventories_is_no_hole_by_itself(host: Host) -> None:
    host.start(host.site.logs, "pool@10.0.0.6")
    host.collect()
    assert host.server._process
    host.server._process.terminate()
    host.server._process.wait(60)
    host.server.start()
    time.sleep(1.1)
    host.collect()
    known = open_store(host.site).knowledge()
    (one,) = known.watched
    assert (one.began, one.proof) == (known.first_heartbeat, v.BY_SETTINGS)
    assert one.ended == known.inventory_at
    assert "started again" in one.detail


def test_ids_that_threads_of_the_server_take_leave_no_hole_while_auditing_was_on(host: Host) -> None:
    host.start(host.site.logs, "pool@10.0.0.6")
    host.server.sql(
        "CREATE DATABASE db1",
        "CREATE TABLE db1.t (a INT)",
        "SET GLOBAL event_scheduler=ON",
        "CREATE EVENT db1.e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO db1.t VALUES (1)",
    )
    host.collect()
    time.sleep(3.2)
    host.collect()
    known = open_store(host.site).knowledge()
    (one,) = known.watched
    assert (one.began, one.proof) == (known.first_heartbeat, v.BY_SETTINGS)
    assert "connection ids have no record" in one.detail


def test_a_locked_account_that_is_asked_for_is_in_use(host: Host) -> None:
    host.start(FIELD / "long-session", "app@'127.%'")
    host.server.sql("ALTER USER app@'127.%' ACCOUNT LOCK", "CREATE USER wrong@'127.%' IDENTIFIED BY 'x'")
    host.collect()
    for user, password in (("app", "x"), ("wrong", "y")):
        with pytest.raises(Exception, match=r"locked|denied"):
            host.server.connect_as(user, password, source="127.0.0.1")
    time.sleep(1.1)
    host.collect()
    report = host.report()
    item = verdict(report, "app@127.%")
    assert (item.verdict, item.evidence) == ("active", ("refused 4151",))
    assert item.stage.startswith("locked 0 days, asked for from 1 client")
    assert verdict(report, "wrong@127.%").evidence == ()


def test_records_are_stamped_as_the_tests_think() -> None:
    assert stamp(LOGIN_AT) == b"20261127 14:07:05"
