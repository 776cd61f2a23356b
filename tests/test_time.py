"""Repeated and missing hours, zones and a clock that is set, against the real program as a process."""

from __future__ import annotations

from calendar import timegm

from site_kit import BEGIN
from site_kit import Pen
from site_kit import Site
from site_kit import record


def line(stamp: str, user: str, number: int) -> bytes:
    """Write a login with the stamp as given."""
    return f"{stamp},db01,{user},localhost,{number},0,CONNECT,,,0\n".encode()


def zurich(site: Site, *options: str) -> None:
    """Collect as in Zurich; the later option wins over the one of the test kit."""
    site.collect("--time-location", "Europe/Zurich", *options)


def test_19_the_hour_that_comes_twice(site: Site) -> None:
    site.write(line("20261025 01:59:59", "before", 3))
    site.write(line("20261025 02:30:00", "summer", 4))
    site.write(line("20261025 02:59:59", "both", 5))
    site.write(line("20261025 02:00:00", "both", 6))
    site.write(line("20261025 02:30:00", "winter", 7))
    site.write(line("20261025 03:00:00", "after", 8))
    zurich(site)
    times = {user: seen for (user, _), seen in site.logins().items()}
    at = timegm((2026, 10, 25, 0, 0, 0))
    assert times[b"before"] == (at - 1, at - 1)
    assert times[b"summer"] == (at + 1800, at + 1800)
    assert times[b"both"] == (at + 3599, at + 3600)
    assert times[b"winter"] == (at + 5400, at + 5400)
    assert times[b"after"] == (at + 7200, at + 7200)


def test_19_the_hour_that_comes_twice_over_two_runs(site: Site) -> None:
    site.write(line("20261025 02:59:59", "both", 5))
    zurich(site)
    site.write(line("20261025 02:00:00", "both", 6))
    site.write(line("20261025 02:30:00", "winter", 7))
    zurich(site)
    times = {user: seen for (user, _), seen in site.logins().items()}
    at = timegm((2026, 10, 25, 0, 0, 0))
    assert times[b"both"] == (at + 3599, at + 3600)
    assert times[b"winter"] == (at + 5400, at + 5400)


def test_19_the_hour_that_is_missing(site: Site) -> None:
    site.write(line("20260329 01:59:59", "a", 3) + line("20260329 03:00:00", "a", 4))
    zurich(site)
    at = timegm((2026, 3, 29, 1, 0, 0))
    assert site.logins() == {(b"a", b"localhost"): (at - 1, at)}


def test_19_another_zone_shows_the_same_instants(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(10))
    site.collect()
    [(shown,)] = site.rows("SELECT last_seen FROM Accounts WHERE name = 'app0' AND host = 'localhost'")
    site.write(pen.sessions(10, prefix=b"new"))
    site.collect("--time-location", "Europe/Zurich", "--time-location-audit", "UTC")
    assert site.logins() == pen.truth
    [(moved,)] = site.rows("SELECT last_seen FROM Accounts WHERE name = 'app0' AND host = 'localhost'")
    assert shown.endswith("+00:00")
    assert moved.endswith("+01:00")


def test_19_the_clock_steps_back_and_forth(site: Site) -> None:
    pen = Pen()
    site.write(pen.sessions(20, prefix=b"right"))
    pen.instant += 400 * 86400
    site.write(pen.sessions(20, prefix=b"future"))
    pen.instant -= 400 * 86400 + 3600
    site.write(pen.sessions(20, prefix=b"back"))
    site.collect()
    found = {user for user, _ in {**site.logins(), **site.suspects()}}
    assert {user for user, _ in pen.truth} <= found
    first_back = (b"back3", b"localhost")
    assert site.logins()[first_back] == pen.truth[first_back]


def test_19_impossible_stamps_are_no_logins(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(5))
    for number, when in enumerate(("20261332 25:61:61", "00000000 00:00:00", "99999999 99:99:99", "20260230 10:00:00")):
        site.write(line(when, "never", 500 + number))
    site.write(pen.sessions(5))
    site.collect()
    assert site.logins() == pen.truth


def test_20_out_of_order_and_ties(site: Site) -> None:
    lines = []
    for number, offset in enumerate((5, 4, 5, 5, 3, 6, 5)):
        lines.append(record(BEGIN + offset, (b"u", b"h"), 10 + number))
        lines.append(record(BEGIN + offset, (b"v%d" % number, b"h"), 30 + number))
    site.write(b"".join(lines))
    site.collect()
    assert site.logins()[b"u", b"h"] == (BEGIN + 3, BEGIN + 6)
    assert len(site.logins()) == 8
