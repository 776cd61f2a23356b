"""For which time it is shown that no login was missed, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from verdict_kit import GOOD_SETTINGS
from verdict_kit import NOW
from verdict_kit import OLD
from verdict_kit import account
from verdict_kit import assess
from verdict_kit import day
from verdict_kit import know
from verdict_kit import minute
from verdict_kit import use
from verdict_kit import verdict

import conntracker as v
from conntracker import DAY
from conntracker import Gap
from conntracker import Knowledge
from conntracker import Watched


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


@pytest.mark.parametrize("doubt", [{"gaps": (Gap(NOW - 2000, NOW - 1000, "auditing was off"),)}, {"pending": True}])
def test_the_time_since_the_last_proof_is_a_hole_where_a_run_could_not_prove_it(doubt: dict[str, Any]) -> None:
    knowledge = know(account("app@%"), watched=(Watched(OLD, NOW - 3000, v.BY_IDS),))
    assert verdict(knowledge).verdict == "never"
    assert verdict(knowledge._replace(**doubt)).verdict == "unknown"


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


@pytest.mark.parametrize("events", ["", "CONNECT", "connect,QUERY", "QUERY, CONNECT"])
def test_events_that_hold_logins(events: str) -> None:
    assert verdict(know(account("app@%"), settings={**GOOD_SETTINGS, "server_audit_events": events})).verdict == "never"
