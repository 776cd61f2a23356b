"""Active, stale, never or unknown, and what keeps an account from being called removable."""

from __future__ import annotations

from typing import Any

import pytest
from verdict_kit import NOW
from verdict_kit import OLD
from verdict_kit import account
from verdict_kit import assess
from verdict_kit import day
from verdict_kit import know
from verdict_kit import use
from verdict_kit import verdict

from conntracker import DAY
from conntracker import Account
from conntracker import AccountRow
from conntracker import Knowledge
from conntracker import Suspect
from conntracker import counts_of


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
    assert counts_of(report.accounts) == {"never": 1}


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
