"""What a tracker knows, made up, and the verdicts on it; for the tests of the verdict."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timezone
from pathlib import Path
from typing import Any

import conntracker as v
from conntracker import DAY
from conntracker import Account
from conntracker import AccountVerdict
from conntracker import Evidence
from conntracker import Knowledge
from conntracker import Report
from conntracker import Store
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
