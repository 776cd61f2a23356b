"""One verdict over several servers: who shares accounts with whom, and what one server's database changes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from datetime import timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from site_kit import PROGRAM
from site_kit import Pen
from site_kit import Site
from verdict_kit import NOW
from verdict_kit import OLD

import conntracker as v
from conntracker import DAY
from conntracker import Account
from conntracker import Database
from conntracker import Evidence
from conntracker import Fleet
from conntracker import Knowledge
from conntracker import Source
from conntracker import Terms
from conntracker import Topology
from conntracker import Watched

SETTINGS = {
    "version": "10.11.19-MariaDB",
    "audit_plugin": "ACTIVE",
    "server_audit_logging": "ON",
    "server_audit_events": "CONNECT",
}
USERS = ("a", "b", "c")
FORM = v.TimeFormat("2006-01-02 15:04:05-07:00")


def account(user: str, **changes: Any) -> Account:
    return Account(user.encode(), b"%", known_since=OLD)._replace(**changes)


def knows(number: int, *accounts: Account, **changes: Any) -> Knowledge:
    """Return what a server db<number> with this server_id knows, which has watched everything for long."""
    base = Knowledge(
        source="server",
        accounts=accounts or tuple(map(account, USERS)),
        definers={},
        settings={**SETTINGS, "hostname": f"db{number}", "server_id": str(number)},
        watched=(Watched(OLD, NOW - 60, v.BY_IDS),),
        first_heartbeat=OLD,
        tracking_since=OLD,
        last_record=NOW - 60,
        last_run=NOW - 60,
        inventory_at=NOW - 60,
        sessions_complete=True,
    )
    return base._replace(**changes)


def primary_of(*hosts: str, sources: tuple[Source, ...] = ()) -> Topology:
    return Topology(sources, len(sources), hosts, dict.fromkeys(hosts, NOW - 60))


def replica_of(number: int, *, running: int = 1) -> Topology:
    return Topology((Source(f"10.0.0.{number}", "3306", str(number)),), running)


def judged(*servers: Knowledge, group: str = "shop", missing: dict[str, str] | None = None, **terms: Any) -> Fleet:
    databases = [Database(v.server_name(one), group, one) for one in servers]
    return v.judge(databases, missing or {}, NOW, Terms(**terms))


def going(fleet: Fleet) -> set[str]:
    return {item.account.user.decode() for item in fleet.accounts if item.removable}


# Who is missing


CHAIN = (
    knows(1, topology=primary_of("db2.example.com")),
    knows(2, topology=primary_of("10.0.0.3", sources=(Source("db1", "3306", "1"),))),
    knows(3, topology=replica_of(2)),
)


def test_a_chain_of_three_is_whole_and_lacks_each_of_its_links_by_name() -> None:
    assert going(judged(*CHAIN)) == set(USERS)
    first, middle, last = CHAIN
    for servers, names in (
        ((middle, last), ["db1:3306, the primary of db2"]),
        ((first, last), ["db2.example.com, a replica of db1, is missing", "10.0.0.2:3306, the primary of db3"]),
        ((first, middle), ["10.0.0.3, a replica of db2, is missing"]),
    ):
        fleet = judged(*servers)
        assert going(fleet) == set()
        assert len(fleet.problems) == len(names)
        for problem, name in zip(fleet.problems, names):
            assert problem.startswith(name)
            assert "ReplicasIgnored" in problem
        assert all(problem in item.reasons for item in fleet.accounts for problem in fleet.problems)


def test_a_replica_that_was_seen_within_the_window_is_missing_though_it_is_not_connected() -> None:
    for days, missing in ((3, True), (89, True), (91, False)):
        gone = Topology(replicas={"db2": NOW - days * DAY})
        assert going(judged(knows(1, topology=gone))) == (set() if missing else set(USERS))
    assert going(judged(knows(1, topology=Topology(replicas={"db2": NOW - DAY})), ignored=("DB2",))) == set(USERS)


def test_a_replica_that_is_gone_is_missing_by_its_name_whoever_else_is_given() -> None:
    seen = knows(1, topology=Topology(replicas={"db9.example.com": NOW - DAY}))
    assert judged(seen, knows(2)).problems[0].startswith("db9.example.com, a replica of db1, is missing")
    assert going(judged(seen, knows(9))) == set(USERS)


def test_a_primary_that_is_not_known_is_missing() -> None:
    fleet = judged(knows(1, topology=primary_of("db2")), knows(2, topology=Topology(None, 1)))
    assert going(fleet) == set()
    assert "db2 replicates, it is not known from where (needed: GRANT SLAVE MONITOR ON *.*)" in fleet.problems


def test_a_known_replica_that_is_stopped_does_not_stand_for_an_unknown_one() -> None:
    first = knows(1, topology=primary_of("10.0.0.9"))
    assert going(judged(first, knows(2, topology=replica_of(1)))) == set(USERS)
    assert going(judged(first, knows(2, topology=replica_of(1, running=0)))) == set()
    # Stopped, but it is the one that was seen.
    seen = knows(1, topology=Topology(replicas={"db2.example.com": NOW - DAY}))
    assert going(judged(seen, knows(2, topology=replica_of(1, running=0)))) == set(USERS)


def test_after_a_failover_the_old_primary_still_knows_its_replicas() -> None:
    replicas = dict.fromkeys(("10.0.0.2", "db3.example.com"), NOW - DAY)
    old = knows(1, topology=Topology(replica_of(2).sources, 1, (), replicas))
    new = knows(2, topology=primary_of("10.0.0.1", "10.0.0.3"))
    third = knows(3, topology=replica_of(2))
    assert going(judged(old, new, third)) == set(USERS)
    for name in ("10.0.0.9", "db9"):
        left = old._replace(topology=old.topology._replace(replicas={**replicas, name: NOW - DAY}))
        assert f"1 of the 3 replicas of db1 (10.0.0.2, {name}) is missing" in "; ".join(
            judged(left, new, third).problems
        )


def test_replicas_of_one_address_are_counted() -> None:
    first = knows(1, topology=primary_of("proxy", "proxy"))
    second, third = knows(2, topology=replica_of(1)), knows(3, topology=replica_of(1))
    assert going(judged(first, second, third)) == set(USERS)
    assert "proxy, a replica of db1, is missing" in judged(first, second).problems[0]


def test_nodes_of_a_cluster_are_known_by_its_uuid_and_counted() -> None:
    def node(number: int, cluster: str = "u", **sizes: int) -> Knowledge:
        return knows(number, topology=Topology(nodes={k[1:]: at for k, at in sizes.items()}, cluster=cluster))

    three = [node(number, _3=NOW - DAY, _2=NOW) for number in (1, 2, 3)]
    assert going(judged(*three)) == set(USERS)
    assert going(judged(*three[:2])) == set()
    assert "1 of the 3 nodes of the Galera cluster of db1 is missing" in judged(*three[:2]).problems[0]
    assert going(judged(*three[:2], node(3, "other"))) == set()
    assert going(judged(*(node(number, _3=NOW - 91 * DAY, _2=NOW) for number in (1, 2)))) == set(USERS)
    assert going(judged(*three, ignored=("db3",))) == set(USERS)


def test_an_arbitrator_is_no_node_with_accounts() -> None:
    settings = {"wsrep_cluster_size": "3", "wsrep_incoming_addresses": "10.0.0.1:3306,AUTO,"}
    inventory = v.Inventory("server", NOW, (), settings)
    three = Topology(nodes={"3": OLD})
    assert three.seen(inventory, NOW).nodes == {"3": OLD, "2": NOW}


def test_what_inventories_saw_is_kept_as_it_was(tmp_path: Path) -> None:
    path = stored(tmp_path, "db1")
    source = Source("10.0.0.1", "3306", "7")
    for sources, replicas in (((source,), ("db2", "db2")), (None, ("db3",))):
        store = v.Store(str(path), FORM, timezone.utc, write=True)
        settings = {"slaves_running": "1"}
        store.put_inventory(v.Inventory("server", NOW, (), settings, sources=sources, replicas=replicas), NOW)
        store.commit()
        known = store.knowledge().topology
        assert (known.sources, known.running, known.connected) == (sources, 1, replicas)
    assert known.replicas == {"db2": NOW, "db3": NOW}


def test_who_serves_no_clients_is_shown_and_its_holes_do_not_matter() -> None:
    first = knows(1, topology=primary_of("db2"))
    second = knows(2, topology=replica_of(1), watched=())
    assert going(judged(first, second)) == set()
    fleet = judged(first, second, ignored=("db2",))
    assert going(fleet) == set(USERS)
    assert [server["ignored"] for server in v.fleet_data(fleet)["servers"]] == [False, True]
    assert "serves no clients (ReplicasIgnored)" in " ".join(v.table_report(fleet).split())
    used = second._replace(evidence=(Evidence("login", b"a", b"h", None, NOW - DAY),))
    assert going(judged(first, used, ignored=("db2",))) == {"b", "c"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "none", "accounts": ()}, "db2: the server was never asked for its accounts"),
        ({"inventory_at": NOW - 30 * DAY}, "db2: the inventory is of"),
        ({"last_run": NOW - 30 * DAY}, "db2: the last successful run was"),
    ],
)
def test_a_server_whose_accounts_are_not_known_may_have_seen_those_of_the_others(
    changes: dict[str, Any], words: str
) -> None:
    seen = (Evidence("login", b"a", b"10.1.1.1", None, NOW - 40 * DAY),)
    fleet = judged(knows(1), knows(2, account("other"), evidence=seen, **changes))
    assert going(fleet) == set()
    assert sum(problem.startswith(words) for problem in fleet.problems) == 1


def test_what_the_servers_themselves_ignore_is_ignored_and_said() -> None:
    database = Database("db1", "shop", knows(1, topology=primary_of("db2")), ("db2",))
    fleet = v.judge([database], {"db2": ""}, NOW, Terms())
    assert going(fleet) == set(USERS)
    assert "note: not needed, as they serve no clients (ReplicasIgnored): db2" in v.table_report(fleet)
    shown = v.fleet_data(fleet)["servers"][1]
    assert (shown["name"], shown["missing"], shown["ignored"]) == ("db2", True, True)


def test_who_serves_no_clients_decides_nothing_alone() -> None:
    report = v.assess(knows(2), NOW, Terms(ignored=("db2",)))
    assert not v.removable(report.accounts)
    assert "db2 serves no clients" in report.accounts[0].reasons[0]


def test_a_missing_server_stops_its_group_or_all_if_that_is_not_known() -> None:
    assert going(judged(knows(1), missing={"db5": ""})) == set()
    assert going(judged(knows(1), missing={"db5": "shop"})) == set()
    assert going(judged(knows(1), missing={"db5": "crm"})) == set(USERS)
    assert going(judged(knows(1), missing={"db5": ""}, ignored=("db5",))) == set(USERS)


def test_locked_long_enough_on_one_server_is_not_droppable_if_another_is_missing_or_was_asked() -> None:
    locked = account("a", locked=True, locked_since=NOW - 50 * DAY)
    servers = [knows(1, locked, topology=primary_of("db2")), knows(2, locked, topology=replica_of(1))]
    assert [item.droppable for item in judged(*servers).accounts] == [True]
    assert "DROP USER 'a'@'%';" in v.drop_sql(judged(*servers), "shop")
    assert [item.droppable for item in judged(servers[0]).accounts] == [False]
    asked = Evidence("refused 4151", b"a", b"h", None, NOW - DAY)
    servers[1] = servers[1]._replace(evidence=(asked,))
    assert [item.droppable for item in judged(*servers).accounts] == [False]


# One answer


@st.composite
def servers(draw: st.DrawFn) -> list[Knowledge]:
    """Return some servers of which each has some accounts, uses and holes, and perhaps something to keep."""
    made = []
    for number in range(1, draw(st.integers(2, 4)) + 1):
        users = {"z", *draw(st.sets(st.sampled_from(USERS)))}
        ages = st.integers(-2, 200)
        evidence = tuple(
            Evidence("login", user.encode(), b"10.1.1.1", None, NOW - draw(ages) * DAY)
            for user in sorted(draw(st.sets(st.sampled_from(USERS))))
        )
        hole = draw(st.one_of(st.none(), st.integers(1, 200)))
        ends = [OLD, *([NOW - hole * DAY, NOW - hole * DAY + 3600] if hole else []), NOW - 60]
        watched = tuple(Watched(began, ended, v.BY_IDS) for began, ended in zip(ends[::2], ends[1::2]))
        changes: Any = draw(
            st.sampled_from([{}, {"definers": {v.AccountRow(b"a", b"%"): 1}}, {"sessions_complete": False}])
        )
        made.append(knows(number, *map(account, sorted(users)), evidence=evidence, watched=watched, **changes))
    return made


@given(servers())
def test_a_server_more_never_makes_an_account_more_removable(found: list[Knowledge]) -> None:
    *before, _ = found
    listed = {item.account.user.decode() for item in judged(*before).accounts}
    assert going(judged(*found)) & listed <= going(judged(*before))


@given(servers(), st.data())
def test_what_may_go_is_objected_to_by_no_server_whatever_the_topology(
    found: list[Knowledge], data: st.DataObject
) -> None:
    drawn = [
        one._replace(
            topology=Topology(
                data.draw(st.sampled_from([None, (), (Source("db1", "3306", "1"),), (Source("x", "3306", "9"),)])),
                data.draw(st.integers(0, 1)),
                tuple(data.draw(st.lists(st.sampled_from(["db2", "db9"])))),
            )
        )
        for one in found
    ]
    may_go = going(judged(*drawn))
    assert may_go <= going(judged(*found))
    for one in found:
        alone = judged(one)
        assert not may_go & ({item.account.user.decode() for item in alone.accounts} - going(alone))


def test_a_reason_that_all_servers_give_stands_once_and_any_other_with_the_server_s_name() -> None:
    first = knows(1, account("a"), topology=primary_of("db2"))
    second = knows(2, account("a"), topology=replica_of(1))
    said = f"no use since {v.utc(OLD)[:10]}, the window all watched"
    assert judged(first, second).accounts[0].reasons == (said,)
    blind = judged(first, second._replace(sessions_complete=False)).accounts[0]
    assert blind.verdict == "unknown"
    assert blind.reasons == ("db2: other accounts' open sessions are not visible (needed: GRANT PROCESS ON *.*)",)


@given(servers())
def test_every_form_names_the_same_accounts_once(found: list[Knowledge]) -> None:
    fleet = judged(*found)
    wanted = going(fleet)
    table, csv = v.table_report(fleet), v.csv_report(fleet, groups=True)
    script = v.lock_sql(fleet, "shop")
    for user in USERS:
        assert table.count(f"* {user}@%") == (user in wanted)
        assert (f"\r\n{user},%,never,yes" in csv or f"\r\n{user},%,stale,yes" in csv) == (user in wanted)
        assert script.partition("-- To undo")[0].count(f"ALTER USER '{user}'@'%' ACCOUNT LOCK;") == (user in wanted)


def test_the_script_leaves_out_what_the_server_on_which_it_runs_has_not() -> None:
    first = knows(1, account("a"), topology=primary_of("db2"))
    fleet = judged(first, knows(2, account("a"), account("b"), topology=replica_of(1)))
    lines = v.lock_sql(fleet, "shop").splitlines()
    assert lines[0] == "-- conntracker: lock 2 unused accounts of shop, to be run on db1 alone"
    assert "ALTER USER 'a'@'%' ACCOUNT LOCK;" in [line.partition(" -- ")[0] for line in lines]
    assert "-- not on db1, but on db2: ALTER USER 'b'@'%' ACCOUNT LOCK;" in "\n".join(lines)


def test_a_group_s_name_stays_on_its_line() -> None:
    group = "shop\nDROP USER root@localhost; -- \x1b[2J"
    fleet = judged(knows(1, topology=primary_of("db2")), knows(2, topology=replica_of(1)), group=group)
    for text in (v.lock_sql(fleet, group), v.table_report(fleet)):
        assert "shop\\x0aDROP USER" in text
        assert "\nDROP" not in text
        assert "\x1b" not in text


@pytest.mark.parametrize("sql", [v.lock_sql, v.unlock_sql, v.drop_sql])
def test_a_script_runs_on_the_one_that_can_be_written_to(sql: Any) -> None:
    read_only = {**knows(1).settings, "read_only": "ON"}
    circle = [
        knows(2, topology=primary_of("db1", sources=replica_of(1).sources or ())),
        knows(1, topology=primary_of("db2", sources=replica_of(2).sources or ()), settings=read_only),
    ]
    assert "to be run on db2 alone" in sql(judged(*circle), "shop")


# By the command line


def stored(folder: Path, name: str, group: str = "") -> Path:
    """Make the database of a server and return its path; the server's name is what stands before a hyphen."""
    site = Site(folder / name)
    site.database.touch()
    site.listed(b"dead")
    store = v.Store(str(site.database), FORM, timezone.utc, write=True)
    now = int(time.time())
    store.set(hostname=name.partition("-")[0], datadir=f"/{name}", server_group=group, tracking_since=OLD, last_run=now)
    store.commit()
    store.db.close()
    return site.database


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), "report", "--config", os.devnull, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("form", ["table", "json", "csv", "sql", "html"])
def test_a_tracker_that_never_asked_its_server_reports_too(site: Site, pen: Pen, form: str) -> None:
    site.write(pen.sessions(30))
    site.collect()
    for options in ((), ("--from", str(site.database))):
        done = site.run("report", "--format", form, *options)
        assert (done.returncode, done.stderr) == (0, "")
        assert v.__version__ not in done.stdout  # what the tracker is must not pass for what the server is


def test_metrics_of_several_servers_count_the_accounts_of_a_group_once(tmp_path: Path) -> None:
    one, other, alone = stored(tmp_path, "db1", "shop"), stored(tmp_path, "db2", "shop"), stored(tmp_path, "db3")
    done = run("--from", str(one), "--from", str(other), "--from", str(alone), "--format", "prometheus")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(set(lines))  # no series twice
    assert "conntracker_servers_missing 0" in lines
    per_server = [line for line in lines if line.startswith("conntracker_watched_ratio{")]
    assert [re.findall(r'"([^"]*)"', line) for line in per_server] == [["shop", "db1"], ["shop", "db2"], ["db3", "db3"]]
    per_group = [line for line in lines if line.startswith("conntracker_accounts{")]
    single = run("--from", str(alone), "--format", "prometheus").stdout.splitlines()
    expected = [line for line in single if line.startswith("conntracker_accounts{")]
    assert sorted(per_group) == sorted([*expected, *(line.replace('group="db3"', 'group="shop"') for line in expected)])


def test_two_servers_of_one_name_are_two_and_two_databases_of_one_are_one(tmp_path: Path) -> None:
    one, other = stored(tmp_path, "db1-a", "shop"), stored(tmp_path, "db1-b", "shop")
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(one.read_bytes())
    done = run("--from", str(one), "--from", str(copy), "--from", str(other))
    assert done.returncode == 0, done.stderr
    assert "server: db1, 10.11.19-MariaDB, group shop" in done.stdout
    assert f"server: db1 ({other})" in done.stdout.replace("\n        ", " ")
    assert done.stdout.count("\nserver: ") == 2
    assert done.stdout.count("note: an older database of it was left out") == 1


def test_a_script_per_group_whatever_the_groups_are_called(tmp_path: Path) -> None:
    groups = ["a/b", "a_b", "..", "shop"]
    databases = [stored(tmp_path, f"db{number}", group) for number, group in enumerate(groups)]
    folder = tmp_path / "sql"
    folder.mkdir()
    sources = [word for path in databases for word in ("--from", str(path))]
    done = run(*sources, "--format", "sql", "--output", str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    scripts = [path for path in folder.iterdir() if path.suffix == ".sql"]
    assert len(scripts) == len(groups)
    assert (folder / "shop.sql").read_text().startswith("-- conntracker: lock 1 unused accounts of db3")
    assert len(list(folder.iterdir())) == 2 * len(groups)


def test_a_missing_server_is_named_with_its_group(tmp_path: Path) -> None:
    path = str(stored(tmp_path, "db1", "shop"))
    for missing, words in (("db5", "db5 is missing"), ("db5=shop", "db5 is missing"), ("db5=", "db5 is missing")):
        assert f"problem: {words}: no database of it was given" in run("--from", path, "--missing", missing).stdout
    assert "is missing" not in run("--from", path, "--missing", "db5=crm").stdout


def test_only_some_verdicts_over_several_servers(tmp_path: Path) -> None:
    path = str(stored(tmp_path, "db1"))
    assert "dead@%" in run("--from", path, "--verdict", "never").stdout
    assert "dead@%" not in run("--from", path, "--verdict", "active").stdout
