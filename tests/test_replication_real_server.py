"""One answer for servers that share their accounts: a real primary with a real replica, and a pair of Galera nodes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mariadb_server import MariaDBServer
from mariadb_server import _free_port
from mariadb_server import need_server
from rawclient import ServerError
from site_kit import Site

import conntracker

GALERA = Path("/usr/lib/galera/libgalera_smm.so")
DAYS_WATCHED = 200
USERS = ("app", "reader", "dead")


class Host:
    """A server and its tracker, which has watched it for a long time."""

    def __init__(self, folder: Path, server: MariaDBServer, group: str) -> None:
        self.server, self.site = server, Site(folder)
        defaults = server.client_file("conntracker", "secret")
        self.site.config.write_text(
            f"[default]\nInventory = mariadb\nInventoryDefaultsFile = {defaults}\nGroup = {group}\n"
            "WatchedSince = 2020-01-01\n"
        )
        self.name = f"{os.uname().nodename}:{server.port}"

    def collect(self) -> None:
        """Collect, and make the accounts old: as if they had been listed since long ago."""
        self.site.collect(path=self.server.log_path)
        with closing(sqlite3.connect(self.site.database)) as database, database:
            database.execute(
                "UPDATE account SET known_since = min(known_since, ?)", (time.time() - DAYS_WATCHED * 86400,)
            )
        self.site.collect(path=self.server.log_path)

    def used(self, *users: str) -> None:
        """Log in."""
        for user in users:
            self.server.connect_as(user).close()


def make_accounts(server: MariaDBServer) -> None:
    grants = conntracker.grants_sql("conntracker@localhost").replace("VIA unix_socket", "BY 'secret'")
    server.sql(
        "CREATE USER repl@'%' IDENTIFIED BY 'secret'",
        "GRANT REPLICATION SLAVE ON *.* TO repl@'%'",
        *(line.rstrip(";") for line in grants.splitlines()),
        *(f"CREATE USER {user}@localhost" for user in USERS),
    )


def wait_for(server: MariaDBServer, user: str, present: str = "1") -> None:
    """Wait until an account has come (or been locked) by replication; a node that joins answers nothing at first."""
    ends = time.monotonic() + 90
    while time.monotonic() < ends:
        with contextlib.suppress(ServerError):
            if server.sql(f"SELECT COUNT(*) FROM mysql.global_priv WHERE User = '{user}' AND {present}") == [[b"1"]]:
                return
        time.sleep(0.1)
    pytest.fail(f"{user} did not come")


def report(databases: list[Path], *options: str) -> Any:
    """Return what a report over databases says, as JSON."""
    return json.loads(run_report(databases, "--format", "json", *options))


def run_report(databases: list[Path], *options: str) -> str:
    command = [str(conntracker.__file__), "report", "--config", "/dev/null", "--watched-since", "2020-01-01", *options]
    command += [word for path in databases for word in ("--from", str(path))]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def of_user(data: Any, user: str) -> Any:
    (item,) = [item for item in data["accounts"] if item["user"] == user]
    return item


def removable(data: Any) -> set[str]:
    return {item["user"] for item in data["accounts"] if item["removable"]}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    """Give a primary and its replica; `app` is used on the primary, `reader` on the replica, `dead` nowhere."""
    need_server()
    options = ("--log-bin=binlog", "--log-slave-updates", "--gtid-strict-mode=ON")
    servers = [MariaDBServer(f"--server-id={number}", *options) for number in (1, 2)]
    try:
        for server in servers:
            server.start()
            server.sql("RESET MASTER")  # what its installation wrote
        make_accounts(servers[0])
        servers[1].sql(
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={servers[0].port}, MASTER_USER='repl',"
            " MASTER_PASSWORD='secret', MASTER_USE_GTID=slave_pos",
            "START SLAVE",
        )
        wait_for(servers[1], "dead")
        primary, replica = (
            Host(tmp_path_factory.mktemp(name), server, "shop") for name, server in zip(("primary", "replica"), servers)
        )
        primary.used("app")
        replica.used("reader")
        primary.collect()
        replica.collect()
        yield primary, replica
    finally:
        for server in servers:
            server.stop()


@pytest.fixture
def snapshots(pair: tuple[Host, Host], tmp_path: Path) -> list[Path]:
    """Give copies of the databases of both."""
    paths = [tmp_path / f"{number}.sqlite" for number in range(2)]
    for host, path in zip(pair, paths):
        assert host.site.run("snapshot", str(path)).returncode == 0
    return paths


def test_used_anywhere_is_used_and_used_nowhere_may_go(pair: tuple[Host, Host], snapshots: list[Path]) -> None:
    primary, replica = pair
    data = report(snapshots)
    assert data["problems"] == []
    assert removable(data) == {"dead"}
    verdicts = {user: of_user(data, user)["verdict"] for user in (*USERS, "repl")}
    assert verdicts == {"app": "active", "reader": "active", "dead": "never", "repl": "active"}
    assert of_user(data, "reader")["last_server"] == replica.name
    assert of_user(data, "dead")["servers"] == [primary.name, replica.name]
    said = {server["name"]: server["replication"] for server in data["servers"]}
    assert said == {primary.name: "primary of localhost", replica.name: f"replica of 127.0.0.1:{primary.server.port}"}
    assert data["groups"][0]["run_on"] == primary.name


def test_a_server_without_its_partner_is_not_judged(pair: tuple[Host, Host], snapshots: list[Path]) -> None:
    primary, replica = pair
    for path, words in (
        (snapshots[0], f"localhost, a replica of {primary.name}, is missing"),
        (snapshots[1], f"127.0.0.1:{primary.server.port}, the primary of {replica.name}, is missing"),
    ):
        data = report([path])
        assert removable(data) == set()
        assert [problem for problem in data["problems"] if words in problem]
        assert words in "; ".join(of_user(data, "dead")["reasons"])


def test_the_report_of_one_server_and_its_views_say_so_too(pair: tuple[Host, Host]) -> None:
    for host, words in zip(pair, ("a replica of", "127.0.0.1:")):
        data = json.loads(host.site.run("report", "--format", "json").stdout)
        assert removable(data) == set()
        assert [problem for problem in data["problems"] if words in problem and "missing" in problem]
        assert "ALTER USER" not in host.site.run("report", "--format", "sql").stdout
        assert host.site.rows("SELECT * FROM Unused") == []
        assert words in host.site.rows("SELECT reasons FROM Verdicts WHERE account = 'dead@localhost'")[0][0]


def test_a_replica_named_as_ignored_is_not_needed(pair: tuple[Host, Host], snapshots: list[Path]) -> None:
    assert removable(report(snapshots[:1], "--replicas-ignored", "other")) == set()
    assert removable(report(snapshots[:1], "--replicas-ignored", "other, localhost")) == {"reader", "dead"}
    # The name that the report gives it: what was used there is used all the same.
    both = report(snapshots, "--replicas-ignored", f"localhost,{pair[1].name}")
    assert removable(both) == {"dead"}
    assert [server["ignored"] for server in both["servers"]] == [False, True]


def test_every_form_gives_one_answer(pair: tuple[Host, Host], snapshots: list[Path]) -> None:
    primary, replica = pair
    table = run_report(snapshots)
    assert re.findall(r"(?m)^\* (\S+)", table) == ["dead@localhost"]
    assert f"on: {primary.name}, {replica.name} (group shop); last used on {replica.name}" in " ".join(table.split())
    rows = list(csv.DictReader(io.StringIO(run_report(snapshots, "--format", "csv"))))
    assert [row["user"] for row in rows if row["removable"] == "yes"] == ["dead"]
    assert {row["group"] for row in rows} == {"shop"}
    assert {row["user"]: row["last_server"] for row in rows}["reader"] == replica.name
    script = run_report(snapshots, "--format", "sql")
    assert script.count("ALTER USER 'dead'@'localhost' ACCOUNT LOCK;") == 1
    assert f"of shop, to be run on {primary.name} alone" in script


def test_the_script_runs_on_the_primary_and_reaches_the_replica(
    pair: tuple[Host, Host], snapshots: list[Path], tmp_path: Path
) -> None:
    primary, replica = pair
    folder = tmp_path / "sql"
    folder.mkdir()
    run_report(snapshots, "--format", "sql", "--output", str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["shop.sql", "shop.sql.undo"]
    client = ["mariadb", "--no-defaults", "--user=root", f"--socket={primary.server.socket_path}"]
    locked = "JSON_VALUE(Priv, '$.account_locked') = 1"
    for name, present in (("shop.sql", locked), ("shop.sql.undo", f"NOT {locked}")):
        subprocess.run(client, input=(folder / name).read_bytes(), check=True)
        wait_for(replica.server, "dead", present)


def ask_with(replica: Host, option: str) -> conntracker.Inventory:
    """Ask the replica by a client whose options file has an option more."""
    path = Path(replica.server.client_file("conntracker", "secret"))
    plain = path.read_text()
    path.write_text(f"{plain}[mariadb-client]\n{option}\n")
    try:
        return conntracker.ask_server("mariadb", str(path), 20, want_definers=False)
    finally:
        path.write_text(plain)


@pytest.mark.parametrize("option", ["raw", "verbose\nverbose", "vertical", "skip-column-names", "xml", "table"])
def test_no_setting_of_the_client_s_file_hides_the_primary(pair: tuple[Host, Host], option: str) -> None:
    primary, replica = pair
    inventory = ask_with(replica, option)
    assert inventory.sources == (conntracker.Source("127.0.0.1", str(primary.server.port), "1"),)
    assert inventory.missing == ()


def test_an_answer_without_the_names_of_its_columns_is_none(pair: tuple[Host, Host]) -> None:
    inventory = ask_with(pair[1], "silent\nsilent")
    assert inventory.sources is None
    assert inventory.missing == ("inventory: the client's answer was not understood: replication",)


def test_without_the_privilege_it_is_said_and_nothing_is_removable(
    pair: tuple[Host, Host], snapshots: list[Path], tmp_path: Path
) -> None:
    _, replica = pair
    replica.server.sql("SET SESSION sql_log_bin = 0", "REVOKE SLAVE MONITOR ON *.* FROM conntracker@localhost")
    try:
        replica.collect()
        status = replica.site.run("status").stdout
        assert replica.site.run("snapshot", str(tmp_path / "blind.sqlite")).returncode == 0
    finally:
        replica.server.sql("SET SESSION sql_log_bin = 0", "GRANT SLAVE MONITOR ON *.* TO conntracker@localhost")
        replica.collect()
    assert "it is not known from where it replicates (needed: GRANT SLAVE MONITOR ON *.*)" in status
    data = report([snapshots[0], tmp_path / "blind.sqlite"])
    assert removable(data) == set()
    assert f"{replica.name} replicates, it is not known from where" in "; ".join(data["problems"])


def test_replication_that_is_stopped_still_counts(pair: tuple[Host, Host], tmp_path: Path) -> None:
    primary, replica = pair
    replica.server.sql("STOP SLAVE")
    try:
        for row in primary.server.sql("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'repl'"):
            primary.server.sql(f"KILL {int(row[0] or 0)}")
        time.sleep(0.5)
        paths = []
        for number, host in enumerate(pair):
            host.collect()
            paths.append(tmp_path / f"{number}.stopped.sqlite")
            assert host.site.run("snapshot", str(paths[-1])).returncode == 0
    finally:
        replica.server.sql("START SLAVE")
    assert removable(report(paths[:1])) == removable(report(paths[1:])) == set()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    """Give two nodes of a Galera cluster; `app` is used on one, `reader` on the other."""
    need_server()
    if not GALERA.exists():
        if os.environ.get("CI"):
            pytest.fail("galera-4 is not installed")
        pytest.skip("galera-4 is not installed")
    ports = [_free_port() for _ in range(6)]
    servers = []
    for number in range(2):
        mine = ports[number * 3 : number * 3 + 3]
        provider = f"gmcast.listen_addr=tcp://127.0.0.1:{mine[0]};ist.recv_addr=127.0.0.1:{mine[1]};gcache.size=8M"
        servers.append(
            MariaDBServer(
                "--log-bin=binlog",
                "--binlog-format=ROW",
                "--innodb-autoinc-lock-mode=2",
                "--wsrep-on=ON",
                f"--wsrep-provider={GALERA}",
                f"--wsrep-provider-options={provider}",
                f"--wsrep-cluster-address=gcomm://{f'127.0.0.1:{ports[0]}' if number else ''}",
                "--wsrep-node-address=127.0.0.1",
                f"--wsrep-sst-receive-address=127.0.0.1:{mine[2]}",
                "--wsrep-sst-method=rsync",
            )
        )
    try:
        servers[0].start()
        wait_for(servers[0], "mariadb.sys")
        make_accounts(servers[0])
        servers[1].start()
        wait_for(servers[1], "dead")
        hosts = [Host(tmp_path_factory.mktemp("node"), server, "cluster") for server in servers]
        for host, user in zip(hosts, ("app", "reader")):
            host.used(user)
        for host in hosts:
            host.collect()
        yield hosts
    finally:
        for server in reversed(servers):
            server.stop()


def test_a_cluster_is_judged_by_all_its_nodes(nodes: list[Host], tmp_path: Path) -> None:
    paths = [tmp_path / f"node{number}.sqlite" for number in range(2)]
    for host, path in zip(nodes, paths):
        assert host.site.run("snapshot", str(path)).returncode == 0
    data = report(paths)
    assert data["problems"] == []
    assert removable(data) == {"dead", "repl"}
    assert {server["replication"] for server in data["servers"]} == {"one of 2 Galera nodes"}
    script = run_report(paths, "--format", "sql")
    assert script.count("ALTER USER 'dead'@'localhost' ACCOUNT LOCK;") == 1
    client = ["mariadb", "--no-defaults", "--user=root", f"--socket={nodes[0].server.socket_path}"]
    subprocess.run(client, input=script.encode(), check=True)
    wait_for(nodes[1].server, "dead", "JSON_VALUE(Priv, '$.account_locked') = 1")
    for path, host in zip(paths, nodes):
        alone = report([path])
        assert removable(alone) == set()
        words = f"1 of the 2 nodes of the Galera cluster of {host.name} is missing"
        assert words in "; ".join(of_user(alone, "dead")["reasons"])


def test_a_node_that_is_down_is_still_missing(nodes: list[Host], tmp_path: Path) -> None:
    nodes[1].server.end()
    nodes[0].collect()
    assert nodes[0].server.sql("SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'") == [[b"wsrep_cluster_size", b"1"]]
    data = json.loads(nodes[0].site.run("report", "--format", "json").stdout)
    assert removable(data) == set()
    assert "1 of the 2 nodes of the Galera cluster" in "; ".join(data["problems"])
