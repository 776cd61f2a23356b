"""The inventory, the match and the reports against a real server."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import timezone
from pathlib import Path

import pytest
from mariadb_server import MariaDBServer
from mariadb_server import need_server
from rawclient import ServerError

import conntracker as v
from conntracker import DAY
from conntracker import Account
from conntracker import AccountMatcher
from conntracker import AccountRow
from conntracker import Evidence
from conntracker import Inventory

HOSTILE = [
    "new\nline",
    "q'uote",
    'd"quote',
    "back`tick",
    "back\\slash",
    "end\\",
    "a`b'c\\",
    "tab\t",
    "\u202ertl",
]
HOSTILE += [
    "",
    "x'@'%'; DROP DATABASE db1; -- x",
    "a@b",
    "NULL",
    "$(id)",
    "\u20ac",
    " lead",
    "#x",
    "/*!50000 x*/",
]
GRANTS = (
    "GRANT PROCESS, SHOW VIEW, TRIGGER, SLAVE MONITOR ON *.* TO conntracker@localhost",
    "GRANT SELECT (Host, User, Priv) ON mysql.global_priv TO conntracker@localhost",
    "GRANT SELECT ON mysql.proxies_priv TO conntracker@localhost",
    "GRANT SELECT ON mysql.proc TO conntracker@localhost",
    "GRANT SELECT ON mysql.event TO conntracker@localhost",
)


def quoted(name: str) -> str:
    return "'" + name.replace("\\", "\\\\").replace("'", "''") + "'"


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDBServer]:
    need_server()
    running = MariaDBServer("--event-scheduler=ON")
    try:
        running.start()
        running.sql(
            "CREATE DATABASE db1",
            "CREATE TABLE db1.t (a INT)",
            "CREATE USER conntracker@localhost IDENTIFIED BY 'secret'",
            *GRANTS,
            "CREATE USER app@'127.0.1.%'",
            "CREATE USER app@'%'",
            "CREATE USER app@'127.0.1.7'",
            "CREATE USER far@'10.%'",
            "CREATE USER locked@localhost ACCOUNT LOCK",
            "CREATE USER expired@localhost PASSWORD EXPIRE",
            "CREATE USER twoways@localhost IDENTIFIED VIA unix_socket OR mysql_native_password",
            "CREATE USER definer@localhost",
            "CREATE USER pool@'127.%'",
            "CREATE USER ''@localhost",
            "CREATE USER ext@'%'",
            "CREATE USER realu@localhost",
            "GRANT PROXY ON realu@localhost TO ext@'%'",
            "CREATE ROLE reader",
            "CREATE DEFINER=definer@localhost VIEW db1.v AS SELECT * FROM db1.t",
            "CREATE DEFINER=definer@localhost TRIGGER db1.tr BEFORE INSERT ON db1.t FOR EACH ROW SET @a=1",
            "CREATE DEFINER=definer@localhost PROCEDURE db1.p() SELECT 1",
            "CREATE DEFINER=definer@localhost EVENT db1.e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
            *(f"CREATE USER {quoted(name)}@'127.0.9.%'" for name in HOSTILE),
        )
        yield running
    finally:
        running.stop()


def ask(server: MariaDBServer, user: str = "conntracker", password: str = "secret") -> Inventory:
    return v.ask_server("mariadb", server.client_file(user, password), 20, want_definers=True)


def by_row(inventory: Inventory) -> dict[str, Account]:
    return {f"{item.user.decode()}@{item.host.decode()}": item for item in inventory.accounts}


def test_all_is_read_with_just_the_documented_privileges(server: MariaDBServer) -> None:
    inventory = ask(server)
    accounts = by_row(inventory)
    listed = {(row[0], row[1]) for row in server.sql("SELECT User, Host FROM mysql.global_priv")}
    assert {(item.user, item.host) for item in inventory.accounts} == listed
    assert {name.encode() for name in HOSTILE} <= {item.user for item in inventory.accounts}
    assert [name for name, item in accounts.items() if item.is_role] == ["reader@"]
    assert [name for name, item in accounts.items() if item.locked] == [
        "mariadb.sys@localhost",
        "locked@localhost",
    ]
    assert accounts["expired@localhost"].expired
    assert accounts["twoways@localhost"].plugin == "unix_socket or mysql_native_password"
    assert inventory.missing == ()
    assert inventory.sessions_complete
    assert inventory.definers is not None
    assert inventory.definers[AccountRow(b"definer", b"localhost")] == 4
    proxy = v.Proxy(AccountRow(b"ext", b"%"), AccountRow(b"realu", b"localhost"))
    assert inventory.proxies == (proxy,)
    assert inventory.own_account == AccountRow(b"conntracker", b"localhost")


def test_the_server_s_settings(server: MariaDBServer) -> None:
    settings = ask(server).settings
    assert settings["hostname"] == socket.gethostname()
    assert settings["datadir"].rstrip("/") == str(server.data)
    assert settings["skip_name_resolve"] == "OFF"
    assert (settings["audit_plugin"], settings["server_audit_logging"]) == ("ACTIVE", "ON")
    assert (settings["server_audit_events"], settings["server_audit_writes_failed"]) == ("CONNECT", "0")
    assert settings["server_audit_current_log"] == "server_audit.log"
    assert settings["utc_offset"] == str(time.localtime().tm_gmtoff)
    assert int(settings["uptime"]) >= 0


def test_open_sessions_but_not_its_own(server: MariaDBServer) -> None:
    with contextlib.ExitStack() as stack:
        for source in ("", "127.0.1.7"):
            stack.enter_context(server.connect_as("app", source=source))
        stack.enter_context(server.connect_as("pool", source="127.0.0.2")).change_user(b"ext")
        # A client that has said nothing yet is nobody's session.
        silent = socket.create_connection(("127.0.0.1", server.port))
        sessions = sorted(ask(server).sessions)
        silent.close()
    assert (b"app", b"127.0.1.7") in sessions
    assert (b"app", b"localhost") in sessions
    assert (b"ext", b"127.0.0.2") in sessions
    assert not {user for user, _ in sessions} & {
        b"conntracker",
        b"pool",
        b"unauthenticated user",
        b"event_scheduler",
        b"system user",
    }


@pytest.mark.parametrize(
    "option",
    [
        "safe-updates\nselect_limit=3\npager=cat\nsilent",
        "auto-vertical-output",
        "vertical",
        "html",
        "xml",
        "table",
        "line-numbers",
        "show-warnings",
        "comments",
        "delimiter=//",
        "column-names",
        "column-type-info",
        "force=0",
        "default-character-set=latin1",
        "abort-source-on-error",
        "binary-mode",
        "init-command=SET sql_mode=ANSI",
        "verbose",
        "verbose\nverbose",
        "tee=/dev/null",
    ],
)
@pytest.mark.parametrize("group", ["mysql", "mariadb-client"])
def test_no_setting_of_the_client_s_file_changes_the_answer(server: MariaDBServer, group: str, option: str) -> None:
    path = Path(server.client_file("conntracker", "secret"))
    path.write_text(path.read_text() + f"[{group}]\n{option}\n")
    wide = v.ask_server("mariadb", str(path), 20, want_definers=True)
    assert len(wide.accounts) > len(HOSTILE)
    assert wide.definers
    assert wide.missing == ()


def test_missing_privileges_are_named_and_nothing_is_called_complete(server: MariaDBServer) -> None:
    server.sql("CREATE USER bare@localhost IDENTIFIED BY 'x'")
    try:
        with pytest.raises(v.InventoryError, match=r"GRANT SELECT \(Host, User, Priv\) ON mysql.global_priv"):
            ask(server, "bare", "x")
        server.sql("GRANT SELECT ON mysql.user TO bare@localhost")
        with server.connect_as("app"):
            inventory = ask(server, "bare", "x")
        assert {item.locked for item in inventory.accounts} == {None}
        assert [item.user for item in inventory.accounts if item.is_role] == [b"reader"]
        assert (inventory.sessions, inventory.sessions_complete) == ((), False)
        assert (inventory.definers, inventory.proxies) == (None, None)
        words = "\n".join(inventory.missing)
        for grant in ("PROCESS ON *.*", "SELECT ON mysql.proxies_priv", "SELECT ON mysql.proc"):
            assert f"needed: GRANT {grant}" in words
        assert "locked accounts not known" in words
        server.sql("GRANT SELECT ON mysql.proc TO bare@localhost", "GRANT SELECT ON mysql.event TO bare@localhost")
        assert "views: not all are visible; needed: GRANT SHOW VIEW ON *.*" in ask(server, "bare", "x").missing
        server.sql("GRANT SHOW VIEW ON *.* TO bare@localhost")
        assert "triggers: not all are visible; needed: GRANT TRIGGER ON *.*" in ask(server, "bare", "x").missing
    finally:
        server.sql("DROP USER bare@localhost")


def test_what_can_go_wrong_is_told_in_words(server: MariaDBServer, tmp_path: Path) -> None:
    with pytest.raises(v.InventoryError, match="client not found: no-such-client"):
        v.ask_server("no-such-client", "", 5, False)
    with pytest.raises(v.InventoryError, match="cannot read the client's defaults file"):
        v.ask_server("mariadb", str(tmp_path / "none.cnf"), 5, False)
    with pytest.raises(v.InventoryError, match="refused the login: error 1045"):
        ask(server, "conntracker", "wrong")
    down = tmp_path / "down.cnf"
    down.write_text(f"[client]\nsocket={tmp_path}/none.sock\n")
    with pytest.raises(v.InventoryError, match="cannot be reached: error 2002"):
        v.ask_server("mariadb", str(down), 5, False)
    with pytest.raises(v.InventoryError, match="the client failed"):
        v.ask_server("false", "", 5, False)


def test_a_client_that_hangs_is_ended(tmp_path: Path) -> None:
    client = tmp_path / "client"
    client.write_text("#!/bin/sh\nexec sleep 60\n")
    client.chmod(0o755)
    began = time.monotonic()
    with pytest.raises(v.InventoryError, match="did not answer within 1 s"):
        v.ask_server(str(client), "", 1, False)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "answer",
    [
        "account\t61\t25\n",
        "account\t6\t25\t\t\t\t\t\n",
        "account\tzz\t25\t\t\t\t\t\n",
        "x y\n",
        "clock\t0\t61",
        "<html>\n",
    ],
)
def test_an_answer_that_is_not_exactly_as_asked_for_is_refused(tmp_path: Path, answer: str) -> None:
    client = tmp_path / "client"
    (tmp_path / "answer").write_text(answer)
    client.write_text(f"#!/bin/sh\nexec cat {tmp_path}/answer\n")
    client.chmod(0o755)
    with pytest.raises(v.InventoryError, match="answer"):
        v.ask_server(str(client), "", 5, False)


def log_evidence(server: MariaDBServer) -> list[Evidence]:
    """The least that a reader of the log knows: names and hosts of CONNECT and PROXY_CONNECT records."""
    now = int(time.time())
    found = []
    for line in server.log_path.read_bytes().split(b"\n"):
        fields = line.split(b",")
        if len(fields) == 10 and fields[6] == b"CONNECT":
            found.append(Evidence("login", fields[2], fields[3], now, now))
    return found


def test_the_report_of_a_server_in_use(server: MariaDBServer, tmp_path: Path) -> None:
    server.connect_as("app", source="127.0.1.8").close()
    server.connect_as("whoever").close()
    with server.connect_as("ext", source="127.0.0.2"):
        inventory = ask(server)
    later = int(time.time()) + 1
    evidence = log_evidence(server)
    evidence = [item for item in evidence if item.user not in (b"app", b"pool")]
    evidence += [
        Evidence("login", b"app", b"127.0.1.8", later - 9, later - 9),
        Evidence("login", b"far", b"10.1.1.1", later - 200 * DAY, later - 200 * DAY),
        Evidence("change user", b"", b"127.0.0.2", later - DAY, later - DAY),
    ]
    path = tmp_path / "audit.sqlite"
    path.touch()
    store = v.Store(str(path), v.TimeFormat(v.DEFAULT_STAMP), timezone.utc, write=True)
    store.put_inventory(inventory, later - 100 * DAY)
    store.put_inventory(inventory, later)
    store.add_watched(later - 100 * DAY, later, v.BY_IDS, "")
    store.set(first_heartbeat=later - 100 * DAY)
    store.commit()
    known = store.knowledge()
    known = known._replace(
        evidence=(*known.evidence, *evidence),
        tracking_since=later - 300 * DAY,
        last_run=later,
        last_record=later,
    )
    report = v.assess(known, later)
    got = {item.name: item for item in report.accounts}
    verdicts = {name: item.verdict for name, item in got.items()}
    assert verdicts["app@127.0.1.%"] == "active"
    assert verdicts["app@127.0.1.7"] == "never"
    assert verdicts["far@10.%"] == "stale"
    assert verdicts["app@%"] == "unknown"
    assert verdicts["ext@%"] == "active"
    assert "open session" in got["ext@%"].evidence
    assert verdicts["realu@localhost"] == "active"
    assert verdicts["pool@127.%"] == "unknown"
    assert verdicts["conntracker@localhost"] == "active"
    assert verdicts["@localhost"] == "active"
    assert got["definer@localhost"].keep_reasons == ("definer of 4 objects",)
    assert got["reader@"].keep_reasons == ("role",)
    assert {name for name, item in got.items() if item.removable} >= {
        "app@127.0.1.7",
        "far@10.%",
        "locked@localhost",
    }
    assert not [
        n for n in ("app@127.0.1.%", "ext@%", "realu@localhost", "pool@127.%", "@localhost") if got[n].removable
    ]


@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "ORACLE", "PIPES_AS_CONCAT"])
def test_the_script_locks_every_hostile_name_and_the_undo_unlocks_it(server: MariaDBServer, mode: str) -> None:
    inventory = ask(server)
    now = int(time.time())
    known = v.Knowledge(
        source="server",
        accounts=tuple(item._replace(known_since=now - 300 * DAY) for item in inventory.accounts),
        definers=inventory.definers,
        settings=inventory.settings,
        watched=(v.Watched(now - 300 * DAY, now, v.BY_IDS),),
        first_heartbeat=now - 300 * DAY,
        tracking_since=now - 300 * DAY,
        last_record=now,
        last_run=now,
        inventory_at=now,
        sessions_complete=True,
    )
    terms = v.Terms(excludes=("app", "far", "conntracker", "twoways", "expired"))
    fleet = v.judge([v.Database("db", "db", known)], {}, now, terms)
    lock = v.lock_sql(fleet, "db")
    removable = {item.account.row for item in fleet.accounts if item.removable}
    assert {name.encode() for name in HOSTILE} <= {row.user for row in removable}
    before = locked(server)
    run_script(server, f"SET SESSION sql_mode='{mode}';\n" + lock)
    assert locked(server) == before | removable
    run_script(server, f"SET SESSION sql_mode='{mode}';\n" + v.unlock_sql(fleet, "db"))
    assert locked(server) == before
    undo = lock.partition("-- To undo:\n")[2]
    run_script(server, lock)
    run_script(server, "SET NAMES utf8mb4;\n" + "\n".join(line[3:] for line in undo.splitlines()))
    assert locked(server) == before


@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "ORACLE"])
def test_the_script_drops_every_hostile_name_and_nobody_else(server: MariaDBServer, mode: str) -> None:
    names = [name for name in HOSTILE if name and not name.endswith(" ")]
    server.sql(*(f"CREATE USER IF NOT EXISTS {quoted(name)}@'127.0.8.%' ACCOUNT LOCK" for name in names))
    inventory, now = ask(server), int(time.time())
    accounts = tuple(
        item._replace(known_since=now - 300 * DAY, locked_since=now - 50 * DAY if item.host == b"127.0.8.%" else None)
        for item in inventory.accounts
    )
    known = v.Knowledge(
        source="server",
        accounts=accounts,
        definers=inventory.definers,
        settings=inventory.settings,
        watched=(v.Watched(now - 300 * DAY, now, v.BY_IDS),),
        tracking_since=now - 300 * DAY,
        last_run=now,
        inventory_at=now,
        sessions_complete=True,
    )
    fleet = v.judge([v.Database("db", "db", known)], {}, now, v.Terms())
    before = listed(server)
    run_script(server, f"SET SESSION sql_mode='{mode}';\n" + v.drop_sql(fleet, "db"))
    assert before - listed(server) == {AccountRow(name.encode(), b"127.0.8.%") for name in names}


def listed(server: MariaDBServer) -> set[AccountRow]:
    return {
        AccountRow(user or b"", host or b"") for user, host in server.sql("SELECT User, Host FROM mysql.global_priv")
    }


def test_the_grants_that_are_printed_are_enough(server: MariaDBServer) -> None:
    script = v.grants_sql("watch@localhost").replace("IDENTIFIED VIA unix_socket", "IDENTIFIED BY 'x'")
    run_script(server, script)
    try:
        inventory = ask(server, "watch", "x")
        assert inventory.missing == ()
        assert inventory.definers
        assert inventory.sessions_complete
    finally:
        server.sql("DROP USER watch@localhost")


def test_the_session_that_asks_tells_its_own_id_and_name(server: MariaDBServer) -> None:
    before = server.sql("SELECT CONNECTION_ID()")[0][0]
    inventory = ask(server)
    assert inventory.own_id > int(before or 0)
    assert inventory.own_name == b"conntracker,localhost"
    assert abs(inventory.taken_at - time.time()) < 5
    assert inventory.origins["server_audit_logging"] == "COMMAND-LINE"
    server.sql("SET GLOBAL server_audit_logging=ON")
    assert ask(server).origins["server_audit_logging"] == "SQL"


def test_user_statistics_are_asked_where_they_are_on(server: MariaDBServer) -> None:
    assert ask(server).statistics is None
    server.sql("SET GLOBAL userstat=1")
    try:
        ask(server)
        before = ask(server).statistics
        server.connect_as("app", source="127.0.1.8").close()
        after = ask(server).statistics
    finally:
        server.sql("SET GLOBAL userstat=0")
    assert before is not None
    assert after is not None
    assert b"app" not in before or before[b"app"] != after[b"app"]
    assert v._moved(before.get(b"app"), after[b"app"])


def locked(server: MariaDBServer) -> set[AccountRow]:
    rows = server.sql("SELECT User, Host FROM mysql.global_priv WHERE JSON_VALUE(Priv, '$.account_locked') = 1")
    return {AccountRow(user or b"", host or b"") for user, host in rows}


def run_script(server: MariaDBServer, script: str) -> None:
    client = shutil.which("mariadb")
    assert client
    subprocess.run(
        [client, "--no-defaults", "--user=root", f"--socket={server.socket_path}"],
        input=script.encode(),
        check=True,
        capture_output=True,
    )


SOURCES = [
    "127.0.0.1",
    "127.0.0.2",
    "127.0.1.7",
    "127.0.1.8",
    "127.0.1.10",
    "127.0.1.77",
    "127.1.1.1",
    "127.10.1.1",
]


def some_pattern(chance: random.Random) -> str:
    """A host pattern that may admit some of SOURCES: an address with some characters made wildcards."""
    address = chance.choice(SOURCES)
    kind = chance.random()
    if kind < 0.1:
        return chance.choice(["localhost", "%", "l%", "loc_lhost", "_%", "", "::1", "%.%", socket.gethostname()])
    if kind < 0.25:
        mask = chance.choice(["255.0.0.0", "255.255.0.0", "255.255.255.0", "255.255.255.248", "255.255.255.254"])
        parts = zip(address.split("."), mask.split("."))
        return ".".join(str(int(a) & int(b)) for a, b in parts) + "/" + mask
    if kind < 0.5:
        return address[: chance.randrange(len(address))] + "%"
    change = {"same": 0.75, "_": 0.12, "%": 0.06, "": 0.04, "\\": 0.03}
    picks = chance.choices(list(change), weights=list(change.values()), k=len(address))
    return "".join({"same": char, "\\": "\\" + char}.get(pick, pick) for char, pick in zip(address, picks))


@pytest.mark.parametrize("skip_name_resolve", [False, True])
def test_the_match_is_the_server_s_for_random_overlapping_patterns(skip_name_resolve: bool) -> None:
    need_server()
    chance = random.Random(11)
    server = MariaDBServer(*(["--skip-name-resolve"] if skip_name_resolve else []))
    try:
        server.start()
        right = hidden = 0
        for _ in range(40):
            names = ["app"] * chance.randint(1, 8) + [""] * chance.choice([0, 0, 1, 3])
            accounts = {(name, some_pattern(chance)) for name in names}
            server.sql(
                "DELETE FROM mysql.global_priv WHERE User IN ('app', '')",
                *(f"CREATE OR REPLACE USER {quoted(name)}@{quoted(host)}" for name, host in accounts),
                "FLUSH PRIVILEGES",
            )
            rows = server.sql("SELECT User, Host FROM mysql.global_priv")
            matcher = AccountMatcher([AccountRow(user or b"", host or b"") for user, host in rows], skip_name_resolve)
            for source in ["", *SOURCES]:
                for user in ("app", "zed"):
                    try:
                        with server.connect_as(user, source=source) as session:
                            ((shown, chosen),) = session.query("SELECT USER(), CURRENT_USER()")
                    except ServerError:
                        continue
                    client_host = (shown or b"").rpartition(b"@")[2]
                    name, _, host = (chosen or b"").rpartition(b"@")
                    match = matcher.match(user.encode(), client_host)
                    assert AccountRow(name, host) in match.rows
                    exact = match == v.Match((AccountRow(name, host),), True)
                    assert exact or (client_host == b"localhost" and not skip_name_resolve)
                    right += exact
                    hidden += not exact
        assert right > 300
        assert (hidden > 0) is not skip_name_resolve
    finally:
        server.stop()
