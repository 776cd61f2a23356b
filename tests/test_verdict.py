"""Active, stale, never or unknown, and what keeps an account from being called removable."""

from __future__ import annotations

import json
import random
import sqlite3
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
from conntracker import Suspect

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
    """A tracker that has watched everything for 400 days, up to now."""
    values: dict[str, Any] = {
        "source": "server",
        "accounts": accounts,
        "definers": {},
        "settings": GOOD_SETTINGS,
        "tracking_since": OLD,
        "last_record": NOW - 60,
        "last_run": NOW - 60,
        "inventory_at": NOW - 60,
        "sessions_complete": True,
    }
    return Knowledge(**{**values, **more})


def use(kind: str, user: str, host: str, last: int, first: int | None = None) -> Evidence:
    return Evidence(kind, user.encode(), host.encode(), first, last)


def verdict(knowledge: Knowledge, name: str = "", days: int = 90, excludes: tuple[str, ...] = ()) -> AccountVerdict:
    report = v.judge(knowledge, NOW, days, excludes)
    return next(item for item in report.accounts if not name or item.name == name)


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
    assert "no use since tracking began" in never.reasons[0]


def test_the_window_s_first_second_counts() -> None:
    knowledge = know(account("app@%"), evidence=(use("login", "app", "h", NOW - 90 * DAY),))
    assert verdict(knowledge).verdict == "active"
    assert verdict(know(account("app@%"), evidence=(use("login", "app", "h", NOW - 90 * DAY - 1),))).verdict == "stale"


def test_possible_use_is_use() -> None:
    knowledge = know(
        account("app@10.%"), account("app@%"), evidence=(use("login", "app", "web1.example.com", NOW - DAY),)
    )
    for item in v.judge(knowledge, NOW, 90).accounts:
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


@pytest.mark.parametrize("kind", ["session end", "open session", "imported", "login"])
def test_other_kinds_of_use(kind: str) -> None:
    item = verdict(know(account("app@%"), evidence=(use(kind, "app", "10.1.1.1", NOW - DAY),)))
    assert (item.verdict, item.evidence) == ("active", (kind,))
    assert item.last_seen_certain == (kind != "imported")


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


def test_a_nameless_change_of_user_leaves_only_accounts_undecided_that_admit_its_host() -> None:
    knowledge = know(
        account("pool@10.%"),
        account("far@192.168.%"),
        account("used@10.%"),
        evidence=(use("change user", "", "10.1.1.1", NOW - DAY), use("login", "used", "10.1.1.1", NOW - DAY)),
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tracking_since": NOW - 89 * DAY}, "tracking began"),
        ({"tracking_since": None}, "nothing was tracked"),
        ({"last_run": NOW - 3 * DAY}, "last successful run"),
        ({"last_run": NOW + 5 * DAY}, "in the future"),
        ({"last_run": None}, "nothing was tracked"),
        ({"gaps": (Gap(NOW - 50 * DAY, NOW - 49 * DAY, "rotated away"),)}, "rotated away"),
        ({"gaps": (Gap(NOW - 100 * DAY, NOW - 89 * DAY),)}, "missing from"),
        ({"inventory_error": "the server cannot be reached"}, "cannot be reached"),
        ({"inventory_at": NOW - 3 * DAY}, "the inventory is of"),
        ({"inventory_at": None}, "never asked"),
        ({"sessions_complete": False}, "PROCESS"),
        ({"last_record": NOW - 5 * DAY}, "no newer record"),
        ({"last_record": None}, "no newer record"),
        ({"settings": {**GOOD_SETTINGS, "audit_plugin": ""}}, "not active"),
        ({"settings": {**GOOD_SETTINGS, "server_audit_logging": "OFF"}}, "logging is OFF"),
        ({"settings": {**GOOD_SETTINGS, "server_audit_active": "OFF"}}, "cannot write"),
        ({"settings": {**GOOD_SETTINGS, "server_audit_events": "QUERY,TABLE"}}, "logins are not logged"),
        ({"settings": {**GOOD_SETTINGS, "server_audit_writes_failed": "112"}}, "failed to write 112"),
    ],
)
def test_what_was_not_watched_is_unknown(change: dict[str, Any], words: str) -> None:
    watched = know(account("app@%"), account("used@%"), evidence=(use("login", "used", "h", NOW - DAY),))
    knowledge = watched._replace(**change)
    item = verdict(knowledge, "app@%")
    assert (item.verdict, item.removable) == ("unknown", False)
    assert words in "; ".join(item.reasons)
    assert verdict(knowledge, "used@%").verdict == "active"


def test_a_gap_before_the_window_does_not_matter() -> None:
    assert verdict(know(account("app@%"), gaps=(Gap(OLD, NOW - 91 * DAY),))).verdict == "never"


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
    assert (item.verdict, item.removable, item.keep_reasons) == ("never", False, (reason,))


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


def test_without_any_inventory_the_log_s_names_are_shown_and_none_is_removable() -> None:
    knowledge = Knowledge(
        evidence=(use("login", "app", "10.1.1.1", NOW - DAY), use("login", "old", "h", NOW - 300 * DAY)),
        tracking_since=OLD,
        last_run=NOW,
        last_record=NOW,
    )
    report = v.judge(knowledge, NOW, 90)
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
    db = database()
    db.execute("INSERT INTO meta VALUES ('tracking_since', ?), ('last_run', ?)", (OLD, NOW))
    inventory = v.store_accounts_file(db, inventory, NOW)
    report = v.judge(v.load_for_verdict(db, inventory), NOW, 90)
    assert {item.name: item.verdict for item in report.accounts} == {"app@10.%": "never", "new@%": "unknown"}
    assert not any(item.removable for item in report.accounts)
    assert report.notes == ("accounts taken from a file; not checked: open sessions, definers, audit settings",)
    later = v.store_accounts_file(db, v.load_accounts_file(str(path), NOW + 9), NOW + 9)
    assert later.accounts[1].known_since == NOW


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


def database() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(v.SCHEMA)
    return db


def inventory(*accounts: Account, **more: Any) -> v.Inventory:
    values: dict[str, Any] = {
        "settings": GOOD_SETTINGS,
        "sessions_complete": True,
        "definers": {},
        "proxies": (),
    }
    return v.Inventory(**{"source": "server", "taken_at": NOW, "accounts": accounts, **values, **more})


def test_the_database_keeps_everything_that_the_verdict_rests_on() -> None:
    db = database()
    db.execute("INSERT INTO meta VALUES ('tracking_since', ?), ('last_run', ?), ('last_record', ?)", (OLD, NOW, NOW))
    db.execute(
        "INSERT INTO evidence VALUES ('login', X'617070', X'68', 1, 5, 6, 'x', NULL, NULL),"
        " ('login', X'617070', X'68', 0, 4, 7, 'x', NULL, NULL)"
    )
    app = account("app@%", None, locked=True, plugin="ed25519")
    proxy = Proxy(AccountRow(b"app", b"%"), AccountRow(b"b", b"%"))
    v.store_inventory(
        db,
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
    known = v.load_for_verdict(db)
    assert known.source == "server"
    assert set(known.accounts) == {app._replace(known_since=OLD), account("b@%", OLD)}
    assert set(known.evidence) == {use("login", "app", "h", 7, 4), use("open session", "b", "web1", OLD, OLD)}
    assert (known.definers, known.proxies) == ({AccountRow(b"b", b"%"): 2}, (proxy,))
    assert (known.own_account, known.sessions_complete) == (AccountRow(b"c", b"localhost"), True)
    assert known.settings == GOOD_SETTINGS
    assert known.appeared == {}


def test_an_account_that_came_back_is_new_and_one_that_stayed_is_not() -> None:
    db = database()
    v.store_inventory(db, inventory(account("app@%", None), account("b@%", None)), OLD)
    v.store_inventory(db, inventory(account("b@%", None)), OLD + 1)
    v.store_inventory(db, inventory(account("app@%", None), account("b@%", None)), OLD + 2)
    known = v.load_for_verdict(db)
    assert known.appeared == {AccountRow(b"app", b"%"): OLD + 2}
    assert {item.user: item.known_since for item in known.accounts} == {b"app": OLD + 2, b"b": OLD}


def test_definers_not_asked_today_stay_as_they_were() -> None:
    db = database()
    v.store_inventory(db, inventory(account("app@%", None), definers={AccountRow(b"app", b"%"): 2}), OLD)
    v.store_inventory(db, inventory(account("app@%", None), definers=None), OLD + 9)
    assert v.load_for_verdict(db).definers == {AccountRow(b"app", b"%"): 2}


def test_definers_of_days_ago_are_not_known() -> None:
    db = database()
    v.store_inventory(db, inventory(account("app@%", None)), OLD)
    v.store_inventory(db, inventory(account("app@%", None), definers=None), OLD + 3 * DAY)
    assert v.load_for_verdict(db).definers is None


def test_a_time_without_auditing_stays_known_as_a_gap() -> None:
    db = database()
    off = {**GOOD_SETTINGS, "server_audit_logging": "OFF"}
    for at, found in ((10, GOOD_SETTINGS), (20, off), (30, off), (40, GOOD_SETTINGS), (50, GOOD_SETTINGS)):
        v.store_inventory(db, inventory(account("app@%", None), settings=found), OLD + at)
    assert v.load_for_verdict(db).gaps == (Gap(OLD + 10, OLD + 40, "server_audit_logging is OFF"),)


def test_a_server_first_seen_without_auditing_is_a_gap_from_then_on() -> None:
    db = database()
    off = {**GOOD_SETTINGS, "audit_plugin": ""}
    v.store_inventory(db, inventory(account("app@%", None), settings=off), OLD)
    v.store_inventory(db, inventory(account("app@%", None)), OLD + 10)
    assert v.load_for_verdict(db).gaps == (Gap(OLD, OLD + 10, "the audit plugin is not active on the server"),)


def test_a_change_of_name_resolution_is_remembered() -> None:
    db = database()
    skipping = {**GOOD_SETTINGS, "skip_name_resolve": "ON"}
    for at, found in ((1, GOOD_SETTINGS), (2, GOOD_SETTINGS), (3, skipping), (4, skipping)):
        v.store_inventory(db, inventory(account("app@%", None), settings=found), OLD + at)
        assert v.load_for_verdict(db).skip_since == (OLD + 3 if at > 2 else 0)


def test_a_failed_inventory_counts_until_the_next_good_one() -> None:
    db = database()
    v.store_inventory(db, inventory(account("app@%", None)), NOW)
    v.store_inventory_failure(db, "no answer")
    assert v.load_for_verdict(db).inventory_error == "no answer"
    v.store_inventory(db, inventory(account("app@%", None)), NOW)
    assert v.load_for_verdict(db).inventory_error == ""


def test_the_views_show_the_verdicts_while_they_are_fresh() -> None:
    db = database()
    report = v.judge(know(account("app@%"), account("root@localhost")), NOW, 90)
    v.store_verdicts(db, report)
    (real_now,) = db.execute("SELECT CAST(strftime('%s', 'now') AS INTEGER)").fetchone()
    assert {row[0] for row in db.execute("SELECT verdict FROM Verdicts")} == {"unknown"}
    assert db.execute("SELECT * FROM Unused").fetchall() == []
    v.store_verdicts(db, report._replace(now=real_now))
    assert db.execute("SELECT account, verdict, removable FROM Unused").fetchall() == [("app@%", "never", 1)]
    assert db.execute("SELECT count(*) FROM Verdicts").fetchone() == (2,)


# --- properties --------------------------------------------------------------------------------------------

HOSTS = ["10.1.1.1", "web1.example.com", "localhost", "::1", ""]
TIMES = st.integers(NOW - 200 * DAY, NOW + 3 * DAY)
KINDS = ["login", "session end", "change user", "proxied", "imported", "open session"]
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
    return {item.name for item in v.judge(knowledge, NOW, 90).accounts if item.removable}


@LOTS
@given(ACCOUNTS, st.lists(EVIDENCE, max_size=5), st.lists(EVIDENCE, min_size=1, max_size=3), PROXIES)
def test_more_evidence_never_makes_an_account_more_removable(
    accounts: tuple[Account, ...], evidence: list[Evidence], more: list[Evidence], proxies: list[Proxy]
) -> None:
    less = know(*accounts, evidence=tuple(evidence), proxies=tuple(proxies))
    assert removable(less._replace(evidence=(*evidence, *more))) <= removable(less)


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
                {"tracking_since": NOW - 30 * DAY},
                {"last_run": None},
                {"last_record": None},
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
    matcher = v.AccountMatcher([item.row for item in accounts], False)
    for row in matcher.match(user.encode(), host.encode()).rows:
        assert v.visible_account(row) not in removable(knowledge)


def test_ten_thousand_accounts_are_judged_in_seconds() -> None:
    chance = random.Random(3)
    accounts = [account(f"user{i}@{chance.choice(['%', '10.%', 'localhost'])}") for i in range(10_000)]
    evidence = [use("login", f"user{chance.randrange(10_000)}", f"10.1.1.{i % 250}", OLD + i) for i in range(50_000)]
    nameless = [use("change user", "", f"192.168.1.{i}", NOW - DAY) for i in range(20)]
    report = v.judge(know(*accounts, evidence=(*evidence, *nameless)), NOW, 90)
    assert len(report.accounts) == 10_000
