"""Which records count as use, and of which account."""

from __future__ import annotations

import pytest
from verdict_kit import GOOD_SETTINGS
from verdict_kit import NOW
from verdict_kit import account
from verdict_kit import assess
from verdict_kit import day
from verdict_kit import know
from verdict_kit import use
from verdict_kit import verdict

from conntracker import DAY
from conntracker import Proxy


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
    # The Go program counted more than logins, and what names somebody else's connection id may be forged.
    assert item.last_seen_certain == (kind not in ("imported", "earlier session", "changed user"))
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
