"""What a run without an inventory has lost stays lost: the next heartbeat of a real server does not prove that time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from mariadb_server import MariaDBServer
from mariadb_server import need_server
from site_kit import Site

import conntracker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINE_END = b"a\nb"


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDBServer]:
    need_server()
    running = MariaDBServer()
    try:
        running.start()
        grants = conntracker.grants_sql("conntracker@localhost").replace("VIA unix_socket", "BY 'secret'")
        statements = [line.rstrip(";") for line in grants.splitlines()]
        running.sql(
            *statements,
            "CREATE USER app@localhost",
            "CREATE USER pool@localhost",
            f"CREATE USER '{LINE_END.decode()}'@localhost",
        )
        yield running
    finally:
        running.stop()


@pytest.fixture
def watching(server: MariaDBServer, tmp_path: Path) -> Site:
    """Return a host whose tracker has had its first heartbeat."""
    site = Site(tmp_path)
    defaults = server.client_file("conntracker", "secret")
    site.config.write_text(f"[default]\nInventory = mariadb\nInventoryDefaultsFile = {defaults}\n")
    run(server, site)
    return site


def run(server: MariaDBServer, site: Site, *options: str) -> str:
    """Collect, and return what is said."""
    return site.run("--log-level", "WARN", *options, path=server.log_path).stderr


def proofs(site: Site) -> list[str]:
    return [proof for (proof,) in site.rows("SELECT proof FROM watched")]


def test_two_heartbeats_with_every_id_between_them(server: MariaDBServer, watching: Site) -> None:
    server.connect_as("app").close()
    assert "client not found" in run(server, watching, "--inventory", "no-such-client")
    server.connect_as("app").close()
    run(server, watching)
    assert proofs(watching) == [conntracker.BY_IDS]


def test_a_log_that_was_lost_meanwhile(server: MariaDBServer, watching: Site) -> None:
    server.connect_as("app").close()
    server.sql("SET GLOBAL server_audit_file_rotate_now = 1")
    (server.data / "server_audit.log.1").unlink()
    server.connect_as("app").close()
    assert "gap from" in run(server, watching, "--inventory", "no-such-client")
    run(server, watching)
    assert proofs(watching) == []


def test_a_login_that_was_not_readable_meanwhile(server: MariaDBServer, watching: Site) -> None:
    server.connect_as(LINE_END).close()
    assert "lines not understood" in run(server, watching, "--inventory", "no-such-client")
    server.connect_as("app").close()
    run(server, watching)
    assert proofs(watching) == []


def test_the_user_statistics_answer_a_change_of_user_without_a_query(server: MariaDBServer, watching: Site) -> None:
    def change() -> None:
        time.sleep(1.1)  # what falls into the second of an inventory is answered by the next one
        with server.connect_as("pool") as session:
            session.change_user(b"app")
        time.sleep(1.1)
        run(server, watching)

    def kinds(user: bytes) -> set[str]:
        rows = watching.rows("SELECT kind, CAST(user AS BLOB) FROM evidence")
        return {kind for kind, name in rows if name == user}

    server.sql("SET GLOBAL userstat = 1")
    try:
        run(server, watching)
        change()
        assert "user statistics" in kinds(b"app")
        assert kinds(b"") == set()
    finally:
        server.sql("SET GLOBAL userstat = 0")
    change()
    assert kinds(b"") == {"change user"}


@pytest.mark.parametrize(
    "statement",
    [
        "set global server_audit_logging=off",
        "SET @@GLOBAL.SERVER_AUDIT_LOGGING=0",
        "Set Global Server_Audit_Logging=Off",
        "",
    ],
)
def test_auditing_was_off_before_a_restart_among_many_queries(tmp_path: Path, statement: str) -> None:
    need_server()
    audited = MariaDBServer("--server-audit-events=CONNECT,QUERY")
    queries = [f"SELECT '{'x' * 900}'"] * 40
    try:
        audited.start()
        site = Site(tmp_path)
        options = audited.client_file("root")
        site.config.write_text(f"[default]\nInventory = mariadb\nInventoryDefaultsFile = {options}\n")
        run(audited, site)
        audited.sql(*queries, *([statement] if statement else ()))
        audited.connect_as("root").close()
        audited.end()
        audited.start()
        audited.sql(*queries)
        run(audited, site)
        assert proofs(site) == ([] if statement else [conntracker.BY_SETTINGS])
    finally:
        audited.stop()


def test_what_came_by_syslog_is_proven_by_ids_alone(tmp_path: Path) -> None:
    need_server()
    audited = MariaDBServer()
    site = Site(tmp_path)
    client = tmp_path / "client"
    try:
        audited.start()
        file, syslog = b"file".hex().upper(), b"syslog".hex().upper()
        client.write_text(f'#!/bin/sh\nmariadb "$@" | sed s/\\\\b{file}\\\\b/{syslog}/I\n')
        client.chmod(0o755)
        site.config.write_text(
            f"[default]\nInventory = {client}\nInventoryDefaultsFile = {audited.client_file('root')}\n"
        )
        run(audited, site)
        audited.connect_as("root").close()
        run(audited, site)
        assert proofs(site) == [conntracker.BY_IDS]
        audited.end()
        audited.start()
        run(audited, site)
        assert proofs(site) == [conntracker.BY_IDS]
    finally:
        audited.stop()
