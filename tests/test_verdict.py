"""Active, stale, never or unknown, and what keeps an account from being called removable."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
from collections.abc import Iterator
from datetime import timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

import conntracker as v
from conntracker import DAY
from conntracker import Account
from conntracker import AccountRow
from conntracker import AccountVerdict
from conntracker import Evidence
from conntracker import Gap
from conntracker import Knowledge
from conntracker import Proxy
from conntracker import Report
from conntracker import Store
from conntracker import Suspect
from conntracker import Terms
from conntracker import TimeFormat
from conntracker import Watched

NOW = 1_800_000_000
OLD = NOW - 400 * DAY
GOOD_SETTINGS = {
    "version": "10.11.19-MariaDB",
    "hostname": "db1",
    "skip_name_resolve": "OFF",
    "audit_plugin": "ACTIVE",
    "server_audit_logging": "ON",
    "server_audit_active": "ON",
    "server_audit_events": "CONNECT",
    "server_audit_writes_failed": "0",
}


def account(name: str, since: int | None = OLD, **more: Any) -> Account:
    user, host = name.rsplit("@", 1)
    return Account(user.encode(), host.encode(), known_since=since, **more)


def know(*accounts: Account, **more: Any) -> Knowledge:
    """A tracker that has provably watched everything for 400 days, up to now."""
    values: dict[str, Any] = {
        "source": "server",
        "accounts": accounts,
        "definers": {},
        "settings": GOOD_SETTINGS,
        "watched": (Watched(OLD, NOW - 60, v.BY_IDS),),
        "first_heartbeat": OLD,
        "tracking_since": OLD,
        "last_record": NOW - 60,
        "last_run": NOW - 60,
        "inventory_at": NOW - 60,
        "sessions_complete": True,
    }
    return Knowledge(**{**values, **more})


def use(kind: str, user: str, host: str, last: int, first: int | None = None) -> Evidence:
    return Evidence(kind, user.encode(), host.encode(), first, last)


def day(instant: int) -> str:
    return v.utc(instant)[:10]


def minute(instant: int) -> str:
    return v.utc(instant)[:16].replace("T", " ")


def assess(knowledge: Knowledge, **terms: Any) -> Report:
    return v.assess(knowledge, NOW, Terms(**terms))


def verdict(knowledge: Knowledge, name: str = "", **terms: Any) -> AccountVerdict:
    return next(item for item in assess(knowledge, **terms).accounts if not name or item.name == name)


def test_use_in_the_window_is_active() -> None:
    item = verdict(know(account("app@10.%"), evidence=(use("login", "app", "10.1.1.1", NOW - DAY, OLD),)))
    assert (item.verdict, item.removable, item.last_seen, item.first_seen) == (
        "active",
        False,
        NOW - DAY,
        OLD,
    )
    assert item.evidence == ("login",)
    assert item.client_hosts == (b"10.1.1.1",)
    assert item.last_seen_certain


def test_use_before_the_window_is_stale_and_no_use_is_never() -> None:
    knowledge = know(
        account("app@10.%"), account("gone@%"), evidence=(use("login", "app", "10.1.1.1", NOW - 91 * DAY),)
    )
    stale, never = verdict(knowledge, "app@10.%"), verdict(knowledge, "gone@%")
    assert (stale.verdict, stale.removable) == ("stale", True)
    assert (never.verdict, never.removable, never.last_seen) == ("never", True, None)
    assert never.reasons == (f"no use since {day(OLD)}, the window all watched",)
    assert stale.reasons == (
        f"no use since {day(NOW - 90 * DAY)}, all of it watched; login {day(NOW - 91 * DAY)} from 10.1.1.1",
    )


def test_the_window_s_first_second_counts() -> None:
    knowledge = know(account("app@%"), evidence=(use("login", "app", "h", NOW - 90 * DAY),))
    assert verdict(knowledge).verdict == "active"


def test_the_last_session_before_the_window_may_have_lasted_into_it() -> None:
    for seconds, wanted in ((1, "unknown"), (3600, "unknown"), (3601, "stale")):
        item = verdict(know(account("app@%"), evidence=(use("login", "app", "h", NOW - 90 * DAY - seconds),)))
        assert item.verdict == wanted
        assert item.removable == (wanted == "stale")
    before = use("login", "app", "h", NOW - 90 * DAY - 1)
    assert verdict(know(account("app@%"), evidence=(before,))).reasons == (
        "its last session may have lasted into the window",
    )


def test_possible_use_is_use() -> None:
    knowledge = know(
        account("app@10.%"), account("app@%"), evidence=(use("login", "app", "web1.example.com", NOW - DAY),)
    )
    for item in assess(knowledge).accounts:
        assert (item.verdict, item.evidence, item.last_seen_certain) == ("active", ("possible login",), False)


def test_the_more_specific_row_alone_is_used_when_the_log_tells_the_address() -> None:
    knowledge = know(account("app@10.%"), account("app@%"), evidence=(use("login", "app", "10.1.1.1", NOW - DAY),))
    assert verdict(knowledge, "app@10.%").verdict == "active"
    assert verdict(knowledge, "app@%").verdict == "never"


def test_a_row_made_after_the_login_does_not_take_the_use_from_the_older_row() -> None:
    rows = (account("app@10.%", NOW - DAY), account("app@%"))
    knowledge = know(
        *rows, evidence=(use("login", "app", "10.1.1.1", NOW - 5 * DAY),), appeared={rows[0].row: NOW - DAY}
    )
    assert not verdict(knowledge, "app@%").removable
    assert verdict(knowledge, "app@%").verdict == "active"


REFUSED_WITH_THE_RIGHT_PASSWORD = ["refused 4151", "refused 1226", "refused 1044"]


@pytest.mark.parametrize(
    "kind",
    [
        "session end",
        "open session",
        "changed user",
        "login",
        *REFUSED_WITH_THE_RIGHT_PASSWORD,
        "imported",
        "earlier session",
    ],
)
def test_other_kinds_of_use(kind: str) -> None:
    item = verdict(know(account("app@%"), evidence=(use(kind, "app", "10.1.1.1", NOW - DAY),)))
    assert (item.verdict, item.removable, item.evidence) == ("active", False, (kind,))
    # The Go program counted more than logins, and the record of a session's end alone may be forged.
    assert item.last_seen_certain == (kind not in ("imported", "earlier session"))
    assert item.reasons[0].startswith(f"{kind} {day(NOW - DAY)} from 10.1.1.1")


def test_a_session_end_of_several_possible_rows_is_possible_use_of_each() -> None:
    rows = (account("app@10.%"), account("app@%"))
    for kind in ("session end", "refused 4151"):
        knowledge = know(*rows, evidence=(use(kind, "app", "web1.example.com", NOW - DAY),))
        for item in assess(knowledge).accounts:
            assert (item.verdict, item.evidence, item.last_seen_certain) == ("active", (f"possible {kind}",), False)


# --- user statistics ---------------------------------------------------------------------------------------


def test_user_statistics_are_certain_for_one_row_and_possible_for_several() -> None:
    moved = use("user statistics", "app", "", NOW - DAY)
    one = verdict(know(account("App@10.%"), evidence=(moved,)))
    assert (one.verdict, one.evidence, one.last_seen_certain) == ("active", ("user statistics",), True)
    assert one.client_hosts == ()
    knowledge = know(account("App@10.%"), account("aPP@%"), account("other@%"), evidence=(moved,))
    for name in ("App@10.%", "aPP@%"):
        item = verdict(knowledge, name)
        assert (item.verdict, item.evidence, item.last_seen_certain) == (
            "active",
            ("possible user statistics",),
            False,
        )
    assert verdict(knowledge, "other@%").verdict == "never"


def test_user_statistics_fold_letter_case_and_accents_as_the_server_does() -> None:
    moved = use("user statistics", "caf\u00e9", "", NOW - DAY)
    for name in ("CAF\u00c9@%", "Cafe@%", "cafe\u0301@%"):
        assert verdict(know(account(name), evidence=(moved,))).verdict == "active", name
    assert verdict(know(account("cafes@%"), evidence=(moved,))).verdict == "never"


def test_user_statistics_of_no_account_are_no_login_of_the_anonymous_one() -> None:
    knowledge = know(account("@%"), account("app@%"), evidence=(use("user statistics", "gone", "", NOW - DAY),))
    assert {item.verdict for item in assess(knowledge).accounts} == {"never"}
    assert not [note for note in assess(knowledge).notes if "match no account" in note]


# --- an IPv6 address that may end in a port ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "wanted"),
    [
        ("2001:db8::7:8080", {"app@2001:db8::7": "active", "app@2001:db8::7:8080": "active"}),
        ("2001:db8::7", {"app@2001:db8::7": "active", "app@2001:db8::7:8080": "never"}),
        ("2001:db8::7:abcd", {"app@2001:db8::7": "never", "app@2001:db8::7:8080": "never"}),
    ],
)
def test_an_address_that_may_end_in_a_port_counts_for_both_readings(client: str, wanted: dict[str, str]) -> None:
    # Older servers log no port.
    settings = {**GOOD_SETTINGS, "version": "12.0.1-MariaDB"}
    knowledge = know(*map(account, wanted), evidence=(use("login", "app", client, NOW - DAY),), settings=settings)
    got = {item.name: item for item in assess(knowledge).accounts}
    assert {name: item.verdict for name, item in got.items()} == wanted
    if client.endswith(":8080"):
        assert {item.evidence for item in got.values()} == {("possible login",)}


# --- proxies and changes of user ---------------------------------------------------------------------------


def test_a_proxied_account_is_used_by_its_row() -> None:
    knowledge = know(account("real@localhost"), account("real@%"), evidence=(use("proxied", "real", "%", NOW - DAY),))
    assert verdict(knowledge, "real@%").verdict == "active"
    assert verdict(knowledge, "real@localhost").verdict == "never"


def test_an_open_session_of_a_proxy_may_be_use_of_the_proxied_account() -> None:
    ext, real = account("ext@%"), account("real@localhost")
    knowledge = know(ext, real, evidence=(use("open session", "ext", "10.1.1.1", NOW - 60),))
    assert verdict(knowledge, "real@localhost").removable
    item = verdict(knowledge._replace(proxies=(Proxy(ext.row, real.row),)), "real@localhost")
    assert (item.verdict, item.evidence) == ("active", ("possible open session",))


@pytest.mark.parametrize("kind", ["change user", "recent change"])
def test_a_nameless_change_of_user_leaves_only_accounts_undecided_that_admit_its_host(kind: str) -> None:
    knowledge = know(
        account("pool@10.%"),
        account("far@192.168.%"),
        account("used@10.%"),
        evidence=(use(kind, "", "10.1.1.1", NOW - DAY), use("login", "used", "10.1.1.1", NOW - DAY)),
    )
    assert verdict(knowledge, "pool@10.%").verdict == "unknown"
    assert "changed its user" in verdict(knowledge, "pool@10.%").reasons[0]
    assert verdict(knowledge, "far@192.168.%").verdict == "never"
    assert verdict(knowledge, "used@10.%").verdict == "active"


def test_a_nameless_change_of_user_is_no_login_of_the_nameless_account() -> None:
    item = verdict(know(account("@%"), evidence=(use("change user", "", "10.1.1.1", NOW - DAY),)))
    assert (item.verdict, item.last_seen, item.evidence) == ("unknown", None, ())


def test_a_nameless_change_of_user_from_an_unknown_host_leaves_all_undecided() -> None:
    knowledge = know(account("far@192.168.%"), evidence=(use("change user", "", "", NOW - DAY),))
    assert verdict(knowledge).verdict == "unknown"
    before = know(account("far@192.168.%"), evidence=(use("change user", "", "", NOW - 91 * DAY),))
    assert verdict(before).verdict == "never"


# --- what is watched ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"watched": (Watched(NOW - 89 * DAY, NOW - 60, v.BY_IDS),)}, "watched without a hole for 89 days"),
        ({"watched": ()}, "nothing of the window is proven to be watched"),
        ({"watched": (), "heartbeat_error": "its own login is not in the log"}, "(its own login is not in the log)"),
        (
            {"heartbeat_error": "the stamps are hours off"},
            "the last inventory proved nothing (the stamps are hours off)",
        ),
        ({"tracking_since": None}, "nothing was tracked"),
        ({"last_run": NOW - 3 * DAY}, "last successful run"),
        ({"last_run": NOW - 3 * DAY, "last_error": "the disk is full"}, "(the disk is full)"),
        ({"last_run": NOW + 5 * DAY}, "in the future"),
        ({"last_run": None}, "nothing was tracked"),
        ({"inventory_error": "the server cannot be reached"}, "cannot be reached"),
        ({"inventory_at": NOW - 3 * DAY}, "the inventory is of"),
        ({"inventory_at": NOW + 3 * DAY}, "the inventory is of"),
        ({"inventory_at": None}, "never asked"),
        ({"sessions_complete": False}, "PROCESS"),
        ({"settings": {**GOOD_SETTINGS, "audit_plugin": ""}}, "not active"),
        ({"settings": {**GOOD_SETTINGS, "server_audit_logging": "OFF"}}, "logging is OFF"),
        ({"settings": {**GOOD_SETTINGS, "server_audit_active": "OFF"}}, "cannot write"),
        ({"settings": {**GOOD_SETTINGS, "server_audit_events": "QUERY,TABLE"}}, "logins are not logged"),
    ],
)
def test_what_was_not_watched_is_unknown(change: dict[str, Any], words: str) -> None:
    watched = know(account("app@%"), account("used@%"), evidence=(use("login", "used", "h", NOW - DAY),))
    knowledge = watched._replace(**change)
    item = verdict(knowledge, "app@%")
    assert (item.verdict, item.removable) == ("unknown", False)
    assert words in "; ".join(item.reasons)
    assert verdict(knowledge, "used@%").verdict == "active"


def holed(began: int, ended: int, *gaps: Gap, **more: Any) -> Knowledge:
    """Return what is known where one stretch was not watched."""
    watched = (Watched(OLD, began, v.BY_IDS), Watched(ended, NOW - 60, v.BY_SETTINGS, "2 ids have no record"))
    return know(account("app@%"), watched=watched, gaps=gaps, **more)


def test_a_hole_before_the_window_does_not_matter() -> None:
    for ended in (NOW - 91 * DAY, NOW - 90 * DAY):
        report = assess(holed(NOW - 100 * DAY, ended, Gap(NOW - 100 * DAY, ended, "rotated away")))
        assert [(item.verdict, item.removable) for item in report.accounts] == [("never", True)]
        assert report.problems == ()
        assert report.coverage.holes == []
        assert report.coverage.share == 1


def test_a_hole_in_the_window_is_told_with_its_reason_and_the_date_of_decision() -> None:
    hole = Gap(NOW - 50 * DAY, NOW - 49 * DAY, "rotated away")
    report = assess(holed(hole.began, hole.ended, hole, Gap(OLD, OLD + DAY, "another")))
    (item,) = report.accounts
    assert (item.verdict, item.removable) == ("unknown", False)
    since, decided = day(hole.ended), day(hole.ended + 90 * DAY)
    told, where = report.problems
    assert told.startswith(
        f"watched without a hole for 49 days, since {since}: not seen in these, nor in the logs before, which reach"
        f" back to {day(OLD)}; can be decided on {decided}"
    )
    # The operator's word counts only for the time before the first heartbeat: it is no way out here.
    assert "WatchedSince" not in told
    assert where == f"not watched from {minute(hole.began)} to {minute(hole.ended)} (rotated away)"
    assert item.reasons == report.problems
    assert report.coverage.holes == [hole]
    assert report.coverage.share == pytest.approx(89 / 90)


def test_a_hole_over_the_window_s_begin_counts_from_there() -> None:
    report = assess(holed(NOW - 100 * DAY, NOW - 89 * DAY))
    assert report.coverage.holes == [Gap(NOW - 90 * DAY, NOW - 89 * DAY)]
    assert report.accounts[0].verdict == "unknown"


def test_a_known_gap_where_every_id_has_its_record_is_no_hole() -> None:
    assert verdict(know(account("app@%"), gaps=(Gap(NOW - 50 * DAY, NOW - 49 * DAY, "lost"),))).verdict == "never"


def test_the_time_since_the_last_run_is_no_hole_for_two_days() -> None:
    for seconds, wanted in ((2 * DAY, "never"), (2 * DAY + 1, "unknown")):
        knowledge = know(account("app@%"), watched=(Watched(OLD, NOW - seconds, v.BY_IDS),))
        assert verdict(knowledge).verdict == wanted
    # but two runs that far apart with nothing proven between them are one
    assert verdict(holed(NOW - 5 * DAY, NOW - 4 * DAY)).verdict == "unknown"


def test_holes_are_tolerated_only_as_far_as_told() -> None:
    knowledge = holed(NOW - 50 * DAY, NOW - 50 * DAY + 600)
    assert verdict(knowledge, tolerated=599).verdict == "unknown"
    report = assess(knowledge, tolerated=600)
    assert [(item.verdict, item.removable) for item in report.accounts] == [("never", True)]
    assert "10 minutes of the window were not watched; that is tolerated (TolerateHoles)" in report.notes
    # all holes together count
    ends = (OLD, NOW - 50 * DAY, NOW - 20 * DAY, NOW - 60)
    three = tuple(Watched(began + 400, ended, v.BY_IDS) for began, ended in zip(ends, ends[1:]))
    two_holes = know(account("app@%"), watched=three)
    assert verdict(two_holes, tolerated=799).verdict == "unknown"
    assert verdict(two_holes, tolerated=800).verdict == "never"


def since_ten_days(*gaps: Gap, **more: Any) -> Knowledge:
    """Return what is known ten days after the first inventory, on a host with logs of 400 days."""
    began = NOW - 10 * DAY
    watched = (Watched(began, NOW - 60, v.BY_IDS),)
    return know(account("app@%"), watched=watched, first_heartbeat=began, gaps=gaps, **more)


def test_the_operator_s_word_stands_for_the_time_before_the_first_heartbeat() -> None:
    knowledge = since_ten_days()
    assert verdict(knowledge).verdict == "unknown"
    way_out = f"can be decided on {day(NOW + 80 * DAY)}, or now by WatchedSince if your word covers it"
    assert verdict(knowledge).reasons[0].endswith(way_out)
    report = assess(knowledge, stated_since=NOW - 100 * DAY)
    assert [(item.verdict, item.removable) for item in report.accounts] == [("never", True)]
    (note,) = report.notes
    began, ended = day(NOW - 100 * DAY), day(NOW - 10 * DAY)
    assert note == f"watched from {began} to {ended}: stated by the operator (WatchedSince)"
    assert verdict(knowledge, stated_since=NOW - 89 * DAY).verdict == "unknown"


def test_the_operator_s_word_does_not_stand_after_the_first_heartbeat() -> None:
    knowledge = holed(NOW - 50 * DAY, NOW - 49 * DAY)
    assert verdict(knowledge, stated_since=OLD - DAY).verdict == "unknown"
    assert verdict(knowledge._replace(first_heartbeat=None), stated_since=OLD - DAY).verdict == "unknown"


def test_the_operator_s_word_is_broken_by_a_known_gap() -> None:
    gap = Gap(NOW - 50 * DAY, NOW - 49 * DAY, "rotated away")
    report = assess(since_ten_days(gap), stated_since=NOW - 100 * DAY)
    assert report.accounts[0].verdict == "unknown"
    assert report.coverage.holes == [gap]
    assert f"not watched from {minute(gap.began)} to {minute(gap.ended)} (rotated away)" in report.problems
    over = (Gap(NOW - 200 * DAY, NOW - 91 * DAY), Gap(NOW - 95 * DAY, NOW - 92 * DAY))
    assert verdict(since_ten_days(*over), stated_since=NOW - 100 * DAY).verdict == "never"


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 30)), max_size=6), st.integers(20, 130))
def test_stated_time_and_gaps_never_overlap(spans: list[tuple[int, int]], stated: int) -> None:
    gaps = tuple(sorted(Gap(NOW - at * DAY, NOW - at * DAY + size * DAY) for at, size in spans))
    coverage = assess(since_ten_days(*gaps), stated_since=NOW - stated * DAY).coverage
    for one in coverage.intervals:
        if one.proof == v.STATED:
            assert NOW - stated * DAY <= one.began < one.ended <= NOW - 10 * DAY
            assert not [gap for gap in gaps if gap.began < one.ended and gap.ended > one.began]


# --- locked, watched, dropped ------------------------------------------------------------------------------


def locked(days: int, **more: Any) -> Knowledge:
    """Return what is known of an account that was locked some days ago."""
    return know(account("app@%", locked=True, locked_since=NOW - days * DAY), **more)


def test_an_account_locked_long_enough_and_never_asked_for_may_be_dropped() -> None:
    for days, after, droppable in ((29, 30, False), (30, 30, True), (400, 30, True), (40, 41, False)):
        item = verdict(locked(days), drop_after=after)
        assert (item.stage, item.droppable) == (f"locked {days} days", droppable)
    assert (verdict(know(account("app@%"))).stage, verdict(know(account("app@%"))).droppable) == ("", False)
    unknown_since = verdict(know(account("app@%", locked=True)))
    assert (unknown_since.stage, unknown_since.droppable) == ("", False)


@pytest.mark.parametrize("kind", ["refused 4151", "login", "session end", "user statistics"])
def test_a_locked_account_that_was_asked_for_is_not_dropped(kind: str) -> None:
    host = "" if kind == "user statistics" else "app3"
    asked = use(kind, "app", host, NOW - 8 * DAY, OLD)
    item = verdict(locked(40, evidence=(asked,)))
    assert not item.droppable
    assert item.stage.startswith("locked 40 days, asked for from ")
    assert item.stage.endswith(f"last {kind} {day(NOW - 8 * DAY)}" + (f" from {host}" if host else ""))
    before = use(kind, "app", host, NOW - 41 * DAY)
    assert verdict(locked(40, evidence=(before,))).droppable


@pytest.mark.parametrize(
    "change",
    [
        {"watched": (Watched(OLD, NOW - 20 * DAY, v.BY_IDS), Watched(NOW - 19 * DAY, NOW - 60, v.BY_IDS))},
        {"watched": (Watched(NOW - 39 * DAY, NOW - 60, v.BY_IDS),)},
        {"watched": ()},
        {"heartbeat_error": "x"},
        {"inventory_error": "x"},
        {"inventory_at": NOW - 3 * DAY},
        {"sessions_complete": False},
        {"last_run": NOW - 3 * DAY},
        {"settings": {**GOOD_SETTINGS, "server_audit_logging": "OFF"}},
        {"source": "file"},
        {"definers": None},
        {"definers": {AccountRow(b"app", b"%"): 1}},
        {"suspects": (Suspect(b"app", b"h", NOW - DAY),)},
        {"evidence": (use("change user", "", "10.1.1.1", NOW - DAY),)},
        {"evidence": (use("refused 4151", "app", "app3", NOW + 2 * DAY),)},
    ],
)
def test_what_is_in_doubt_is_not_dropped(change: dict[str, Any]) -> None:
    assert verdict(locked(40)).droppable
    assert not verdict(locked(40, **change)).droppable


def test_a_hole_since_the_lock_but_before_the_window_keeps_a_locked_account() -> None:
    holes = (Watched(OLD, NOW - 50 * DAY, v.BY_IDS), Watched(NOW - 49 * DAY, NOW - 60, v.BY_IDS))
    assert not verdict(locked(60, watched=holes), days=30).droppable
    assert verdict(locked(48, watched=holes), days=30).droppable


def test_a_locked_account_with_something_to_keep_it_is_not_dropped() -> None:
    assert not verdict(locked(40), excludes=("app",)).droppable


# ---


@pytest.mark.parametrize("events", ["", "CONNECT", "connect,QUERY", "QUERY, CONNECT"])
def test_events_that_hold_logins(events: str) -> None:
    assert verdict(know(account("app@%"), settings={**GOOD_SETTINGS, "server_audit_events": events})).verdict == "never"


def test_a_new_account_is_not_unused() -> None:
    assert verdict(know(account("app@%", NOW - 89 * DAY))).verdict == "unknown"
    assert "known only since" in verdict(know(account("app@%", NOW - 89 * DAY))).reasons[0]
    assert verdict(know(account("app@%", None))).verdict == "unknown"


def test_a_login_before_the_window_proves_the_age_of_an_account_listed_first_by_now() -> None:
    app = account("app@%", NOW - DAY)
    knowledge = know(app, evidence=(use("login", "app", "10.1.1.1", NOW - 91 * DAY),))
    assert verdict(knowledge).verdict == "stale"
    # but not of one that an earlier inventory lacked: it was dropped and made again
    assert verdict(knowledge._replace(appeared={app.row: NOW - DAY})).verdict == "unknown"


def test_a_stamp_in_the_future_proves_neither_use_nor_disuse() -> None:
    future = use("login", "app", "10.1.1.1", NOW + 2 * DAY)
    assert verdict(know(account("app@%"), evidence=(future,))).verdict == "unknown"
    # an hour's difference between two clocks is no reason for doubt
    assert verdict(know(account("app@%"), evidence=(use("login", "app", "h", NOW + 1800),))).verdict == "active"


def test_suspect_records_make_nothing_active_and_nothing_removable() -> None:
    suspects = (Suspect(b"app", b"10.1.1.1", NOW - DAY),)
    item = verdict(know(account("app@%"), suspects=suspects))
    assert (item.verdict, item.removable, item.keep_reasons) == (
        "never",
        False,
        ("named by a suspect record",),
    )


@pytest.mark.parametrize(
    ("listed", "change", "reason"),
    [
        (account("root@localhost"), {}, "system account"),
        (account("mysql@localhost"), {}, "system account"),
        (account("mariadb.sys@localhost"), {}, "system account"),
        (account("report@", is_role=True), {}, "role"),
        (
            account("conn@localhost"),
            {"own_account": AccountRow(b"conn", b"localhost")},
            "conntracker's own account",
        ),
        (account("app@%"), {"definers": {AccountRow(b"app", b"%"): 3}}, "definer of 3 objects"),
        (account("app@%"), {"definers": {AccountRow(b"app", b"%"): 1}}, "definer of 1 object"),
        (account("app@%"), {"definers": None}, "definers not known"),
    ],
)
def test_reasons_to_keep(listed: Account, change: dict[str, Any], reason: str) -> None:
    item = verdict(know(listed)._replace(**change))
    wanted = "unknown" if listed.is_role else "never"
    assert (item.verdict, item.removable, item.keep_reasons) == (wanted, False, (reason,))


def test_a_role_cannot_log_in_and_counts_for_no_verdict() -> None:
    report = assess(know(account("app@%"), account("reader@", is_role=True)))
    role = verdict(report.knowledge, "reader@")
    assert (role.verdict, role.reasons, role.removable) == ("unknown", ("a role cannot log in",), False)
    assert v.counts_of(report.accounts) == {"never": 1}


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("app", True),
        ("app@10.%", True),
        ("a*", True),
        ("*@10.*", True),
        ("ap?@*", True),
        ("APP", False),
        ("app@10.1.%", False),
        ("ap", False),
        ("[a]pp", False),
        ("@10.%", False),
    ],
)
def test_excluded_by_pattern(pattern: str, kept: bool) -> None:
    item = verdict(know(account("app@10.%")), excludes=("other", pattern))
    assert item.keep_reasons == (("excluded",) if kept else ())
    assert item.removable is not kept


@pytest.mark.parametrize(
    "pattern", ["jane.doe@example.org", "jane.doe@example.org@%", "jane*", "*@example.org", "jane.doe@*"]
)
def test_a_user_name_with_an_at_sign_can_be_excluded(pattern: str) -> None:
    listed = account("jane.doe@example.org@%")
    assert listed.user == b"jane.doe@example.org"
    report = assess(know(listed), excludes=(pattern,))
    assert report.accounts[0].keep_reasons == ("excluded",)
    assert report.notes == ()


def test_an_exclude_pattern_that_matches_no_account_is_told() -> None:
    report = assess(know(account("app@10.%")), excludes=("app@10.*", "aap", "app@10.%", "b\x1bd@%"))
    assert report.notes == (
        "the exclude pattern aap matches no account",
        "the exclude pattern b\\x1bd@% matches no account",
    )


def test_without_any_inventory_the_log_s_names_are_shown_and_none_is_removable() -> None:
    knowledge = Knowledge(
        evidence=(use("login", "app", "10.1.1.1", NOW - DAY), use("login", "old", "h", NOW - 300 * DAY)),
        tracking_since=OLD,
        last_run=NOW,
        last_record=NOW,
    )
    report = assess(knowledge, stated_since=OLD)  # nobody's word makes up for it
    assert [(item.name, item.verdict) for item in report.accounts] == [
        ("old@h", "unknown"),
        ("app@10.1.1.1", "active"),
    ]
    assert not any(item.removable for item in report.accounts)
    assert "never asked" in report.problems[0]


def test_a_file_of_accounts_gives_verdicts_but_nothing_removable(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    listed = {
        "user": "app",
        "host": "10.%",
        "is_role": False,
        "locked": False,
        "known_since": "2026-01-01T00:00:00Z",
    }
    server = {"version": "10.11.19-MariaDB", "skip_name_resolve": True}
    path.write_text(json.dumps({"server": server, "accounts": [listed, {"user": "new", "host": ""}]}))
    inventory = v.load_accounts_file(str(path), NOW)
    assert inventory.accounts[0] == Account(b"app", b"10.%", False, False, None, "", 1767225600)
    with open_store(tmp_path) as store:
        store.set(tracking_since=OLD, last_run=NOW)
        inventory = store.put_accounts_file(inventory, NOW)
        known = store.knowledge(inventory)
        later = store.put_accounts_file(v.load_accounts_file(str(path), NOW + 9), NOW + 9)
    assert later.accounts[1].known_since == NOW
    unproven = assess(known)
    assert {item.verdict for item in unproven.accounts} == {"unknown"}
    wanted = "nothing of the window is proven to be watched (that takes Inventory, or WatchedSince)"
    assert unproven.problems == (wanted,)
    report = assess(known, stated_since=NOW - 91 * DAY)
    assert {item.name: item.verdict for item in report.accounts} == {"app@10.%": "never", "new@%": "unknown"}
    assert not any(item.removable or item.droppable for item in report.accounts)
    assert report.notes == (
        "accounts taken from a file; not checked: open sessions, definers, audit settings",
        f"watched from {day(NOW - 91 * DAY)} to {day(NOW)}: stated by the operator (WatchedSince)",
    )
    gap = Gap(NOW - 50 * DAY, NOW - 49 * DAY, "rotated away")
    broken = assess(known._replace(gaps=(gap,)), stated_since=NOW - 91 * DAY)
    assert {item.verdict for item in broken.accounts} == {"unknown"}
    assert "(rotated away)" in broken.problems[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[]", "an object {...} is needed"),
        ("{}", "'accounts' is missing"),
        ('{"accounts":[]}', "'accounts' is empty"),
        ('{"accounts":{}}', "'accounts' must be a list, not dict"),
        ('{"accounts":[1]}', "account 1: an object"),
        ('{"accounts":[{"user":"a"}]}', "account 1: 'host' is missing"),
        ('{"accounts":[{"user":1,"host":"%"}]}', "'user' must be a str, not int"),
        ('{"accounts":[{"user":"a","host":"%","locked":"no"}]}', "'locked' must be a bool, not str"),
        ('{"accounts":[{"user":"a","host":"%","known_since":"2026-01-01"}]}', "'known_since' must be like"),
        ('{"accounts":[{"user":"a","host":"%"},{"user":"a","host":""}]}', "a@% is listed twice"),
        ('{"accounts":[{"user":"\\ud800","host":"%"}]}', "account 1: "),
        (
            '{"server":{"skip_name_resolve":"yes"},"accounts":[{"user":"a","host":"%"}]}',
            "'skip_name_resolve' must",
        ),
    ],
)
def test_a_wrong_accounts_file_is_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "accounts.json"
    path.write_text(text)
    with pytest.raises(v.InventoryError) as error:
        v.load_accounts_file(str(path), NOW)
    assert words in str(error.value)
    assert str(path) in str(error.value)


# --- the database ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """Open a database of its own, as `collect` does."""
    path = folder / "audit.sqlite"
    path.touch()
    store = Store(str(path), TimeFormat("2006-01-02 15:04:05-07:00"), timezone.utc, write=True)
    try:
        yield store
    finally:
        store.db.close()


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
    store.add_evidence("login", [(b"app", b"h", 5, 6)])
    store.add_evidence("login", [(b"app", b"h", 4, 7)], settled=False)
    store.add_suspects([(b"app", b"h", 1, 8, "a.log", 0, "odd")])
    store.add_gaps([(OLD, OLD + 5, "lost")])
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
        store.add_gaps([(began, ended, reason)])
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
    v.Proof(store, asked, [], whole=True, say=lambda _, text: said.append(text)).keep()
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
    store.add_evidence("recent change", [(b"", b"10.1.1.1", OLD + 2, OLD + 2)])
    kept(store, 3, settings=on, statistics={b"app": "1 1"})
    assert changes() == set()
    for at, counters in ((5, {b"app": "0 1"}), (7, None)):  # a reset, and userstat off
        store.add_evidence("recent change", [(b"", b"10.1.1.%d" % at, OLD + at - 1, OLD + at - 1)])
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


# --- properties --------------------------------------------------------------------------------------------

HOSTS = ["10.1.1.1", "web1.example.com", "localhost", "::1", ""]
TIMES = st.integers(NOW - 200 * DAY, NOW + 3 * DAY)
KINDS = [
    "login",
    "session end",
    "change user",
    "proxied",
    "imported",
    "open session",
    "earlier session",
    "refused 4151",
]
KINDS += ["user statistics", "recent change", "changed user"]
EVIDENCE = st.builds(
    use,
    st.sampled_from(KINDS),
    st.sampled_from(["app", "b", "", "x"]),
    st.sampled_from([*HOSTS, "%", "10.%"]),
    TIMES,
)
SUSPECTS = st.builds(Suspect, st.sampled_from([b"app", b"b", b""]), st.sampled_from([h.encode() for h in HOSTS]), TIMES)
GAPS = st.builds(lambda began, size: Gap(began, began + size), TIMES, st.integers(0, 30 * DAY))
ACCOUNTS = st.lists(
    st.sampled_from(["app@%", "app@10.%", "app@web1.example.com", "b@localhost", "b@%", "@%", "@10.1.%", "app@::1"]),
    min_size=1,
    unique=True,
).map(lambda listed: tuple(account(name) for name in listed))
PROXIES = st.lists(st.builds(Proxy, *[st.sampled_from([AccountRow(b"app", b"%"), AccountRow(b"b", b"%")])] * 2))
LOTS = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def removable(knowledge: Knowledge) -> set[str]:
    return {item.name for item in assess(knowledge).accounts if item.removable}


def may_go(knowledge: Knowledge) -> tuple[set[str], set[str]]:
    """Return what may be locked and what may be dropped."""
    return removable(knowledge), {item.name for item in assess(knowledge).accounts if item.droppable}


@LOTS
@given(ACCOUNTS, st.lists(EVIDENCE, max_size=5), st.lists(EVIDENCE, min_size=1, max_size=3), PROXIES)
def test_more_evidence_never_makes_an_account_more_removable(
    accounts: tuple[Account, ...], evidence: list[Evidence], more: list[Evidence], proxies: list[Proxy]
) -> None:
    since = NOW - 45 * DAY
    accounts = tuple(item._replace(locked=True, locked_since=since) for item in accounts)
    less = know(*accounts, evidence=tuple(evidence), proxies=tuple(proxies))
    after = may_go(less._replace(evidence=(*evidence, *more)))
    assert all(some <= all_ for some, all_ in zip(after, may_go(less)))


@LOTS
@given(
    ACCOUNTS,
    st.lists(EVIDENCE, max_size=4),
    st.lists(SUSPECTS, max_size=2),
    st.lists(GAPS, max_size=2),
    st.data(),
)
def test_what_is_not_known_never_makes_an_account_removable(
    accounts: tuple[Account, ...],
    evidence: list[Evidence],
    suspects: list[Suspect],
    gaps: list[Gap],
    data: st.DataObject,
) -> None:
    full = know(*accounts, evidence=tuple(evidence))
    worse: dict[str, Any] = data.draw(
        st.sampled_from(
            [
                {"source": "file"},
                {"inventory_at": None},
                {"inventory_error": "x"},
                {"sessions_complete": False},
                {"tracking_since": None},
                {"watched": ()},
                {"watched": (Watched(NOW - 30 * DAY, NOW - 60, v.BY_IDS),)},
                {"watched": (Watched(OLD, NOW - 30 * DAY, v.BY_IDS), Watched(NOW - 29 * DAY, NOW - 60, v.BY_IDS))},
                {"watched": (Watched(OLD, NOW - 3 * DAY, v.BY_IDS),)},
                {"heartbeat_error": "x"},
                {"last_run": None},
                {"definers": None},
                {"settings": {}},
            ]
        )
    )
    assert removable(full._replace(**worse)) == set()
    assert removable(full._replace(gaps=tuple(gaps), suspects=tuple(suspects))) <= removable(full)


@LOTS
@given(ACCOUNTS, st.sampled_from(["app", "b", "x", ""]), st.sampled_from(HOSTS[:-1]), st.integers(0, 89))
def test_an_account_that_may_have_been_used_is_never_removable(
    accounts: tuple[Account, ...], user: str, host: str, days: int
) -> None:
    knowledge = know(*accounts, evidence=(use("login", user, host, NOW - days * DAY),))
    matcher = v.AccountMatcher([item.row for item in accounts], False, GOOD_SETTINGS["version"])
    for row in matcher.match(user.encode(), host.encode()).rows:
        assert v.visible_account(row) not in removable(knowledge)


def test_ten_thousand_accounts_are_judged_in_seconds() -> None:
    chance = random.Random(3)
    accounts = [account(f"user{i}@{chance.choice(['%', '10.%', 'localhost'])}") for i in range(10_000)]
    evidence = [use("login", f"user{chance.randrange(10_000)}", f"10.1.1.{i % 250}", OLD + i) for i in range(50_000)]
    nameless = [use("change user", "", f"192.168.1.{i}", NOW - DAY) for i in range(20)]
    report = assess(know(*accounts, evidence=(*evidence, *nameless)))
    assert len(report.accounts) == 10_000
