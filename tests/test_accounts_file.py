"""Verdicts from a list of accounts in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from verdict_kit import NOW
from verdict_kit import OLD
from verdict_kit import assess
from verdict_kit import day
from verdict_kit import open_store

import conntracker as v
from conntracker import DAY
from conntracker import Account
from conntracker import Gap


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
