"""Locked, watched, dropped: how a locked account stands."""

from __future__ import annotations

from typing import Any

import pytest
from verdict_kit import GOOD_SETTINGS
from verdict_kit import NOW
from verdict_kit import OLD
from verdict_kit import account
from verdict_kit import day
from verdict_kit import know
from verdict_kit import use
from verdict_kit import verdict

import conntracker as v
from conntracker import DAY
from conntracker import AccountRow
from conntracker import Knowledge
from conntracker import Suspect
from conntracker import Watched


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
