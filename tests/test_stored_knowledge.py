"""What the verdict rests on is kept in the database from run to run."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from verdict_kit import GOOD_SETTINGS
from verdict_kit import NOW
from verdict_kit import OLD
from verdict_kit import account
from verdict_kit import assess
from verdict_kit import know
from verdict_kit import open_store
from verdict_kit import use

import conntracker as v
from conntracker import DAY
from conntracker import Account
from conntracker import AccountRow
from conntracker import Gap
from conntracker import Proxy
from conntracker import Store
from conntracker import Suspect
from conntracker import Watched


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as opened:
        yield opened


def inventory(*accounts: Account, **more: Any) -> v.Inventory:
    values: dict[str, Any] = {
        "settings": GOOD_SETTINGS,
        "sessions_complete": True,
        "definers": {},
        "proxies": (),
    }
    return v.Inventory(**{"source": "server", "taken_at": NOW, "accounts": accounts, **values, **more})


def test_the_database_keeps_everything_that_the_verdict_rests_on(store: Store) -> None:
    store.set(tracking_since=OLD, last_run=NOW, last_record=NOW, first_heartbeat=OLD + 9, heartbeat_error="why")
    store.add_evidence([("login", b"app", b"h", 5, 6)])
    store.add_evidence([("login", b"app", b"h", 4, 7)], settled=False)
    facts = v.Facts()
    facts.doubt(b"app,h", 8, "a.log", 0, "odd")
    store.add_facts(facts)
    store.add_gap(OLD, OLD + 5, "lost")
    store.add_watched(OLD, OLD + 9, v.BY_IDS, "")
    app = account("app@%", None, locked=True, plugin="ed25519")
    proxy = Proxy(AccountRow(b"app", b"%"), AccountRow(b"b", b"%"))
    store.put_inventory(
        inventory(
            app,
            account("b@%", None),
            sessions=((b"b", b"web1"), (b"b", b"web1")),
            definers={AccountRow(b"b", b"%"): 2},
            proxies=(proxy,),
            own_account=AccountRow(b"c", b"localhost"),
        ),
        OLD,
    )
    store.commit()
    with contextlib.closing(sqlite3.connect(store.path)) as written:
        assert written.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    known = Store(store.path, store.form, store.zone, write=False).knowledge()
    assert known == store.knowledge()
    assert known.source == "server"
    assert set(known.accounts) == {
        app._replace(known_since=OLD, locked_since=OLD),
        account("b@%", OLD)._replace(locked=None),
    }
    assert set(known.evidence) == {use("login", "app", "h", 7, 4), use("open session", "b", "web1", OLD, OLD)}
    assert (known.definers, known.proxies) == ({AccountRow(b"b", b"%"): 2}, (proxy,))
    assert (known.own_account, known.sessions_complete) == (AccountRow(b"c", b"localhost"), True)
    assert known.settings == GOOD_SETTINGS
    assert known.appeared == {}
    assert known.suspects == (Suspect(b"app", b"h", 8),)
    assert (known.gaps, known.watched) == ((Gap(OLD, OLD + 5, "lost"),), (Watched(OLD, OLD + 9, v.BY_IDS),))
    assert (known.first_heartbeat, known.heartbeat_error, known.inventory_at) == (OLD + 9, "why", OLD)
    assert (known.tracking_since, known.last_run, known.last_record) == (OLD, NOW, NOW)


def test_watched_times_and_gaps_that_go_on_grow(store: Store) -> None:
    store.add_watched(10, 20, v.BY_IDS, "")
    store.add_watched(20, 30, v.BY_IDS, "")
    store.add_watched(30, 40, v.BY_SETTINGS, "3 ids")
    store.add_watched(50, 60, v.BY_SETTINGS, "3 ids")
    for began, ended, reason in (
        (10, 20, "off"),
        (20, 30, "off"),
        (30, 40, "lost"),
        (50, 60, "lost"),
        (50, 60, "lost"),
    ):
        store.add_gap(began, ended, reason)
    known = store.knowledge()
    assert known.watched == (
        Watched(10, 30, v.BY_IDS),
        Watched(30, 40, v.BY_SETTINGS, "3 ids"),
        Watched(50, 60, v.BY_SETTINGS, "3 ids"),
    )
    assert known.gaps == (Gap(10, 30, "off"), Gap(30, 40, "lost"), Gap(50, 60, "lost"))
    shown = store.select("SELECT began, ended, proof, detail FROM Watched_intervals")
    assert shown[0] == ("1970-01-01T00:00:10Z", "1970-01-01T00:00:30Z", v.BY_IDS, "")
    assert len(shown) == 3


def test_an_account_that_came_back_is_new_and_one_that_stayed_is_not(store: Store) -> None:
    store.put_inventory(inventory(account("app@%", None), account("b@%", None)), OLD)
    store.put_inventory(inventory(account("b@%", None)), OLD + 1)
    store.put_inventory(inventory(account("app@%", None), account("b@%", None)), OLD + 2)
    known = store.knowledge()
    assert known.appeared == {AccountRow(b"app", b"%"): OLD + 2}
    assert {item.user: item.known_since for item in known.accounts} == {b"app": OLD + 2, b"b": OLD}


def test_since_when_an_account_is_locked(store: Store) -> None:
    wanted = ((False, None), (True, 2), (True, 2), (False, None), (True, 5), (None, None), (True, 7))
    for at, (is_locked, since) in enumerate(wanted, 1):
        store.put_inventory(inventory(account("app@%", None, locked=is_locked)), OLD + at)
        (app,) = store.knowledge().accounts
        assert (app.locked, app.locked_since) == (is_locked, since and OLD + since)
    store.put_inventory(inventory(account("b@%", None)), OLD + 8)
    store.put_inventory(inventory(account("app@%", None, locked=True)), OLD + 9)
    (app,) = store.knowledge().accounts  # it was made again
    assert app.locked_since == OLD + 9


def test_definers_not_asked_today_stay_as_they_were(store: Store) -> None:
    store.put_inventory(inventory(account("app@%", None), definers={AccountRow(b"app", b"%"): 2}), OLD)
    store.put_inventory(inventory(account("app@%", None), definers=None), OLD + 9)
    assert store.knowledge().definers == {AccountRow(b"app", b"%"): 2}


def test_definers_of_days_ago_are_not_known(store: Store) -> None:
    store.put_inventory(inventory(account("app@%", None)), OLD)
    store.put_inventory(inventory(account("app@%", None), definers=None), OLD + 3 * DAY)
    assert store.knowledge().definers is None


def kept(store: Store, at: int, **more: Any) -> list[str]:
    """Keep what an inventory says whose own login is in no log; return what is said."""
    said: list[str] = []
    asked = inventory(account("app@%", None), taken_at=OLD + at, **more)
    v.Proof(store, asked, {}, lambda _, text: said.append(text)).keep()
    return said


def test_a_time_without_auditing_stays_known_as_a_gap(store: Store) -> None:
    off = {**GOOD_SETTINGS, "server_audit_logging": "OFF"}
    for at, found in ((10, GOOD_SETTINGS), (20, off), (30, off), (40, GOOD_SETTINGS), (50, GOOD_SETTINGS)):
        kept(store, at, settings=found)
    assert store.knowledge().gaps == (Gap(OLD + 10, OLD + 40, "server_audit_logging is OFF"),)


def test_a_server_first_seen_without_auditing_is_a_gap_from_then_on(store: Store) -> None:
    kept(store, 0, settings={**GOOD_SETTINGS, "audit_plugin": ""})
    kept(store, 10)
    assert store.knowledge().gaps == (Gap(OLD, OLD + 10, "the audit plugin is not active on the server"),)


def test_a_heartbeat_that_is_in_no_log_proves_nothing_and_says_what_to_look_at(store: Store) -> None:
    (said,) = kept(store, 0, own_id=77)
    for words in ("nothing is watched", "connection id 77", "AuditLogPath", "TimeFormatAudit", "server_audit_events"):
        assert words in said
    known = store.knowledge()
    assert (known.watched, known.first_heartbeat) == ((), None)
    assert said.endswith(known.heartbeat_error)


def test_a_change_of_name_resolution_is_remembered(store: Store) -> None:
    skipping = {**GOOD_SETTINGS, "skip_name_resolve": "ON"}
    for at, found in ((1, GOOD_SETTINGS), (2, GOOD_SETTINGS), (3, skipping), (4, skipping)):
        store.put_inventory(inventory(account("app@%", None), settings=found), OLD + at)
        assert store.knowledge().skip_since == (OLD + 3 if at > 2 else 0)


def test_a_failed_inventory_counts_until_the_next_good_one(store: Store) -> None:
    store.put_inventory(inventory(account("app@%", None)), NOW)
    store.set(inventory_error="no answer")
    assert store.knowledge().inventory_error == "no answer"
    store.put_inventory(inventory(account("app@%", None)), NOW)
    assert store.knowledge().inventory_error == ""


def test_user_statistics_move_or_begin_anew(store: Store) -> None:
    on = {**GOOD_SETTINGS, "userstat": "ON", "uptime": "1000"}
    said = [
        {b"app": "1 1 0", b"b": "1 5 0"},
        {b"app": "1 1 0", b"b": "1 6 0"},  # b was used
        {b"app": "1 1 0", b"b": "1 6 0", b"new": "1 0 0"},  # new was used
        {b"b": "1 1 0"},  # flushed: what is lower tells nothing
        {b"b": "1 2 0"},  # b was used
    ]
    for at, counters in enumerate(said, 1):
        kept(store, at, settings={**on, "uptime": str(1000 + at)}, statistics=counters)
    moved = {item.user: (item.first_seen, item.last_seen) for item in store.knowledge().evidence}
    assert moved == {b"b": (OLD + 1, OLD + 5), b"new": (OLD + 2, OLD + 3)}
    assert {item.kind for item in store.knowledge().evidence} == {"user statistics"}


def test_user_statistics_without_a_reset_answer_nameless_changes_of_user(store: Store) -> None:
    on = {**GOOD_SETTINGS, "userstat": "ON", "uptime": "1000"}

    def changes() -> set[str]:
        return {
            item.kind for item in store.knowledge().evidence if item.kind.endswith("change") or "change " in item.kind
        }

    kept(store, 1, settings=on, statistics={b"app": "1 1"})
    store.add_evidence([("recent change", b"", b"10.1.1.1", OLD + 2, OLD + 2)])
    kept(store, 3, settings=on, statistics={b"app": "1 1"})
    assert changes() == set()
    for at, counters in ((5, {b"app": "0 1"}), (7, None)):  # a reset, and userstat off
        store.add_evidence([("recent change", b"", b"10.1.1.%d" % at, OLD + at - 1, OLD + at - 1)])
        kept(store, at, settings=on, statistics=counters)
        assert changes() == {"change user"}


def test_the_views_show_the_verdicts_while_they_are_fresh(store: Store) -> None:
    report = assess(know(account("app@%"), account("root@localhost")))
    store.put_verdicts(report)
    ((real_now,),) = store.select("SELECT CAST(strftime('%s', 'now') AS INTEGER)")
    assert {row[0] for row in store.select("SELECT verdict FROM Verdicts")} == {"unknown"}
    assert store.select("SELECT * FROM Unused") == []
    store.put_verdicts(report._replace(now=real_now))
    assert store.select("SELECT account, verdict, removable FROM Unused") == [("app@%", "never", 1)]
    assert store.select("SELECT count(*) FROM Verdicts") == [(2,)]
