"""Laws of the verdict, tried on made-up knowledge, and its speed on ten thousand accounts."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from verdict_kit import GOOD_SETTINGS
from verdict_kit import NOW
from verdict_kit import OLD
from verdict_kit import account
from verdict_kit import assess
from verdict_kit import know
from verdict_kit import use

import conntracker as v
from conntracker import DAY
from conntracker import Account
from conntracker import AccountRow
from conntracker import Evidence
from conntracker import Gap
from conntracker import Knowledge
from conntracker import Proxy
from conntracker import Suspect
from conntracker import Watched

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
