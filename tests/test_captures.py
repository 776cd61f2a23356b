"""Captures of real servers: what was stored against what the clients knew."""

from __future__ import annotations

import json
import shutil
from calendar import timegm
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import pytest
from site_kit import Account
from site_kit import Site

if TYPE_CHECKING:
    from collections.abc import Iterable

CAPTURES = Path(__file__).resolve().parent / "data" / "captures"
# A stamp is cut to the second and may come from a clock that is 5 ms late.
EARLIER = 1.005


def raw(text: str) -> bytes:
    """Return the bytes of a name as the truth notes it."""
    return text.encode("utf-8", "surrogateescape")


def truth_of(name: str) -> dict[str, Any]:
    """Return what the clients knew."""
    truth: dict[str, Any] = json.loads((CAPTURES / f"{name}.json").read_text(encoding="utf-8"))
    return truth


def read(site: Site, name: str) -> None:
    """Collect one capture as the server's log."""
    shutil.copy(CAPTURES / name, site.log)
    site.collect()


def named(logins: Iterable[dict[str, Any]]) -> dict[Account, dict[str, Any]]:
    """Return the logins that the log can name; of a change of user it tells no name."""
    return {(raw(login["user"]), raw(login["host"])): login for login in logins if set(login["via"]) - {"change_user"}}


def assert_times(site: Site, expected: dict[Account, dict[str, Any]]) -> None:
    """Hold first and last login against the moments at which the client tried and got in."""
    stored = site.logins()
    for account, login in expected.items():
        if "change_user" in login["via"] or account not in stored:
            continue
        for seen, (tried, accepted) in zip(stored[account], (login["first"], login["last"])):
            assert tried - EARLIER <= seen <= accepted, account


@pytest.mark.parametrize("name", ["connect-only-10.11.log", "mixed-queries-10.11.log", "changeuser-proxy-10.11.log"])
def test_every_login_and_no_other(tmp_path: Path, name: str) -> None:
    site = Site(tmp_path)
    read(site, name)
    truth = truth_of(name)
    expected = named(truth["logins"])
    assert set(site.logins()) == set(expected)
    assert site.suspects() == {}
    assert_times(site, expected)


def test_the_last_user_of_a_session_and_the_proxied_account_are_kept(tmp_path: Path) -> None:
    site = Site(tmp_path)
    read(site, "changeuser-proxy-10.11.log")
    rows = site.rows("SELECT kind, user, host FROM evidence WHERE kind <> 'login' ORDER BY kind, user, host")
    assert ("proxied", b"realu", b"localhost") in rows
    ends = {(user, host) for kind, user, host in rows if kind == "session end"}
    assert ends == {(user, b"app1.example.com") for user in (b"u06", b"u07", b"u09")}
    assert [host for kind, _, host in rows if kind == "change user"] == [b"app1.example.com"]


def test_hostile_names(tmp_path: Path) -> None:
    site = Site(tmp_path)
    name = "hostile-names-10.11.log"
    read(site, name)
    truth = truth_of(name)
    expected = named(truth["logins"])
    stored = set(site.logins())
    forged = {raw(user) for user in truth["forged_users_never_logged_in"]}
    assert {user for user, _ in stored} & forged == set()
    # The log itself has destroyed names with a line end and those of more than 132 bytes.
    destroyed = {account for account in expected if b"\n" in account[0] or len(account[0]) > 132}
    assert len(destroyed) == 3
    assert set(expected) - stored == destroyed
    mangled = (raw("€" * 44) + b"\xb4", b"localhost")
    assert stored - set(expected) <= {mangled}
    assert mangled in {*site.logins(), *site.suspects()}
    assert {user for user, _ in site.suspects()} >= {b"victim2", b"victim3", b"victim4", b"q", b"f"}
    assert_times(site, expected)


def test_the_hour_that_came_twice(tmp_path: Path) -> None:
    site = Site(tmp_path)
    shutil.copy(CAPTURES / "dst-autumn-11.8.9.log", site.log)
    site.collect("--time-location", "Europe/Zurich")
    one = timegm((2026, 10, 25, 1, 0, 0))  # 02:59:59 CEST is the second before 01:00 UTC
    assert site.logins() == {
        (b"root", b"localhost"): (one - 4, one + 6),
        (b"a", b"localhost"): (one - 4, one + 5),
    }
    assert site.suspects() == {}


def test_syslog(tmp_path: Path) -> None:
    site = Site(tmp_path)
    read(site, "syslog-10.11.log")
    begin = timegm((2026, 11, 22, 10, 23, 3))
    assert site.logins() == {
        (b"a", b"localhost"): (begin, begin),
        (b"root", b"localhost"): (begin, begin + 1),
    }
    assert site.suspects() == {}


@pytest.mark.parametrize("workers", ["1", "4"])
def test_rotated(tmp_path: Path, workers: str) -> None:
    site = Site(tmp_path)
    for path in (CAPTURES / "rotated-10.11").iterdir():
        shutil.copy(path, site.logs)
    site.collect("--max-workers", workers)
    expected = named(truth_of("rotated-10.11")["logins"])
    assert set(site.logins()) == set(expected)
    assert site.suspects() == {}
    assert_times(site, expected)
    attempts: list[tuple[int, str, str, float, float]] = json.loads(
        (CAPTURES / "rotated-10.11.logins.json").read_text(encoding="utf-8")
    )
    stored = site.logins()
    assert len(attempts) == 2502
    for _, user, host, tried, accepted in attempts:
        first, last = stored[raw(user), raw(host)]
        assert first <= accepted
        assert last >= tried - EARLIER - 0.001  # the moments are noted to the millisecond


def test_server_restarts(tmp_path: Path) -> None:
    """Three server starts within ten minutes: the same connection ids again, and no login is suspect."""
    site = Site(tmp_path)
    options = ["--audit-log-name", "connections.log", "--time-location", "Pacific/Auckland"]
    done = site.run(*options, path=CAPTURES / "restarts-10.11")
    assert (done.returncode, done.stderr) == (0, "")
    assert {name: last for (name, _), (_, last) in site.logins().items()} == {
        b"app": 1795356904,
        b"conntracker": 1795356910,
        b"late": 1795356908,
        b"root": 1795356907,
        b"steward": 1795356563,
    }
    assert site.suspects() == {}
