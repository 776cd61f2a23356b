"""Which account row did the server choose? Its own answers, and the rules one by one."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntracker import AccountMatcher
from conntracker import AccountRow
from conntracker import HostPattern
from conntracker import Match
from conntracker import is_address

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "account-match.json").read_text())


def rows(*names: str) -> list[AccountRow]:
    return [AccountRow(*(part.encode() for part in name.rsplit("@", 1))) for name in names]


def names(match: Match) -> list[str]:
    return [f"{row.user.decode()}@{row.host.decode()}" for row in match.rows]


def possible_rows(
    accounts: list[AccountRow],
    user: bytes,
    client_host: bytes,
    skip_name_resolve: bool,
    version: str = "10.11.19-MariaDB",
) -> Match:
    return AccountMatcher(accounts, skip_name_resolve, version).match(user, client_host)


def match_case(case: dict[str, Any]) -> tuple[Match, AccountRow]:
    accounts = [AccountRow(a["user"].encode(), a["host"].encode()) for a in case["accounts"]]
    skip = case["skip_name_resolve"] == "1"
    match = possible_rows(accounts, case["log_user"].encode(), case["log_host"].encode(), skip, case["server_version"])
    return match, AccountRow(case["matched_user"].encode(), case["matched_host"].encode())


def test_the_server_s_row_is_always_among_the_possible_rows() -> None:
    logins = [case for case in CASES if not case["error"]]
    wrong = [case for case in logins if match_case(case)[1] not in match_case(case)[0].rows]
    assert wrong == []
    assert len(logins) == 206


def test_where_the_log_tells_all_the_answer_is_exactly_the_server_s_row() -> None:
    told = [
        case
        for case in CASES
        if not case["error"] and (case["skip_name_resolve"] == "1" or is_address(case["log_host"].encode()))
    ]
    assert len(told) > 50
    for case in told:
        match, chosen = match_case(case)
        assert match == Match((chosen,), True), case


@pytest.mark.parametrize(
    ("accounts", "user", "host", "expected"),
    [
        # no wildcard before any wildcard; netmasks count as no wildcard and win a tie by the text
        (["app@127.0.1.%", "app@127.0.0.0/255.0.0.0"], "app", "127.0.1.7", "app@127.0.0.0/255.0.0.0"),
        (
            ["app@127.0.1.10", "app@127.0.1.8/255.255.255.248"],
            "app",
            "127.0.1.10",
            "app@127.0.1.8/255.255.255.248",
        ),
        # only `_` before `%`; then more literal characters, wherever they stand
        (["app@10.1.1.%", "app@10.1.1._"], "app", "10.1.1.7", "app@10.1.1._"),
        (["app@127.0.%.7", "app@127.%.1.7"], "app", "127.0.1.7", "app@127.%.1.7"),
        (["app@%", "app@10.%", "app@10.1.%"], "app", "10.1.1.1", "app@10.1.%"),
        # a netmask with host bits set admits nobody; a CIDR suffix is no netmask
        (["app@%", "app@10.0.0.1/255.255.255.0"], "app", "10.0.0.1", "app@%"),
        (["app@%", "app@10.0.0.0/24"], "app", "10.0.0.1", "app@%"),
        # a netmask is for IPv4 only
        (["app@%", "app@fe80::/255.255.0.0", "app@fe80::%"], "app", "fe80::1", "app@fe80::%"),
        # anonymous rows win only if strictly more specific
        (["app@10.%", "@10.%"], "app", "10.1.1.1", "app@10.%"),
        (["app@10.%", "@10.1.%"], "app", "10.1.1.1", "@10.1.%"),
        (["@%"], "whoever", "10.1.1.1", "@%"),
        (["app@%", "@10.1.%"], "", "10.1.1.1", "@10.1.%"),
        # user names are case sensitive, and blanks count
        (["App@%", "@%"], "app", "10.1.1.1", "@%"),
        (["app @%", "@%"], "app", "10.1.1.1", "@%"),
        # an empty pattern admits every host
        (["app@"], "app", "10.1.1.1", "app@"),
        # escapes
        ([r"app@10.1.1.\_", "app@%"], "app", "10.1.1.7", "app@%"),
        ([r"app@\10.1.1._"], "app", "10.1.1.7", r"app@\10.1.1._"),
        ([r"app@\1\0.%", "app@10.1%"], "app", "10.1.1.1", "app@10.1%"),
        # a pattern longer than the host, and a `%` that stands for nothing
        (["app@10.1.1.1%", "app@10.1.1.1_%"], "app", "10.1.1.1", "app@10.1.1.1%"),
    ],
)
def test_an_address_in_the_log_gives_one_row(accounts: list[str], user: str, host: str, expected: str) -> None:
    for given_rows in (accounts, accounts[::-1]):
        for skip in (False, True):
            match = possible_rows(rows(*given_rows), user.encode(), host.encode(), skip)
            assert (names(match), match.certain) == ([expected], True)


@pytest.mark.parametrize(
    ("accounts", "host", "expected"),
    [
        # the name decides, unless a row before it has an address
        (["app@web1", "app@%"], "web1", ["app@web1"]),
        (["app@WEB1.example.com", "app@%"], "Web1.Example.COM", ["app@WEB1.example.com"]),
        (["app@10.1.1.7", "app@web1.example.com"], "web1.example.com", ["app@web1.example.com"]),
        (["app@zz.example.com", "app@10.%", "app@%"], "web1.example.com", ["app@10.%", "app@%"]),
        (["app@%.example.com", "app@10.1.1.7"], "web1.example.com", ["app@10.1.1.7", "app@%.example.com"]),
        (["app@10.0.0.0/255.0.0.0", "app@10.1.%", "app@%"], "web1", ["app@10.0.0.0/255.0.0.0", "app@%"]),
        (
            ["app@10.1.%", "app@10.%", "@fe80::%", "app@%"],
            "web1",
            ["@fe80::%", "app@10.1.%", "app@10.%", "app@%"],
        ),
        # no client with a name has these addresses
        (["app@127.0.0.1", "app@::1", "app@%"], "web1", ["app@%"]),
        (["app@db%", "app@app%.com", "app@300.%", "app@1.2.3.4.%", "app@%"], "web1", ["app@%"]),
        (["app@10.%"], "web1", ["app@10.%"]),
        (["app@%"], "localhost.evil.example", ["app@%"]),
    ],
)
def test_a_name_in_the_log_hides_the_address(accounts: list[str], host: str, expected: list[str]) -> None:
    assert names(possible_rows(rows(*accounts), b"app", host.encode(), False)) == expected


def test_localhost_may_be_the_socket_or_tcp_when_names_are_resolved() -> None:
    accounts = rows("app@127.0.0.1", "app@::1", "app@%")
    assert names(possible_rows(accounts, b"app", b"localhost", False)) == [
        "app@::1",
        "app@127.0.0.1",
        "app@%",
    ]
    assert names(possible_rows(accounts, b"app", b"localhost", True)) == ["app@%"]
    both = rows("app@127.0.0.1", "app@localhost", "app@%")
    assert possible_rows(both, b"app", b"localhost", False) == Match(tuple(rows("app@localhost")), True)


def test_a_server_that_resolves_no_names_ignores_rows_that_need_them() -> None:
    accounts = rows(r"@127.0.\1.10", "app@127.%")
    assert names(possible_rows(accounts, b"app", b"127.0.1.10", True)) == ["app@127.%"]
    assert names(possible_rows(accounts, b"app", b"127.0.1.10", False)) == [r"@127.0.\1.10"]


def test_an_unknown_client_host_may_have_used_every_row_of_the_user() -> None:
    match = possible_rows(rows("app@10.%", "app@localhost", "other@%"), b"app", b"", False)
    assert (sorted(names(match)), match.certain) == (["app@10.%", "app@localhost"], False)


@pytest.mark.parametrize(("version", "cut"), [("10.5.23-MariaDB", 64), ("10.11.19-MariaDB", 132)])
def test_a_long_name_is_found_under_the_name_that_the_log_cut(version: str, cut: int) -> None:
    user = ("\u20ac" * 60).encode()
    logged = user[:cut] + bytes([len(user) & 255])
    accounts = [AccountRow(user, b"%"), AccountRow(b"other", b"%")]
    assert possible_rows(accounts, logged, b"10.1.1.1", False, version) == Match((accounts[0],), False)


def test_the_width_of_the_host_column_decides_between_long_patterns() -> None:
    accounts = [AccountRow(b"app", b"a" * 30 + b"%"), AccountRow(b"app", b"_" * 40 + b"%")]
    host = b"a" * 45
    assert possible_rows(accounts, b"app", host, False, "10.5.23-MariaDB").rows == (accounts[0],)
    assert possible_rows(accounts, b"app", host, False, "10.11.19-MariaDB").rows == (accounts[1],)


def test_a_row_that_came_later_does_not_hide_the_row_used_before() -> None:
    accounts = rows("app@10.%", "app@%")
    matcher = AccountMatcher(accounts, False, appeared={accounts[0]: 1000})
    assert names(matcher.match(b"app", b"10.1.1.1", 999)) == ["app@10.%", "app@%"]
    assert names(matcher.match(b"app", b"10.1.1.1", 1000)) == ["app@10.%"]
    assert names(matcher.match(b"app", b"10.1.1.1")) == ["app@10.%"]


def test_a_row_that_came_later_does_not_hide_a_row_for_the_hidden_address() -> None:
    accounts = rows("app@web1", "app@10.%")
    matcher = AccountMatcher(accounts, False, appeared={accounts[0]: 1000})
    assert names(matcher.match(b"app", b"web1", 999)) == ["app@web1", "app@10.%"]
    assert names(matcher.match(b"app", b"web1", 1000)) == ["app@web1"]


def test_before_names_were_no_longer_resolved_localhost_may_have_been_tcp() -> None:
    matcher = AccountMatcher(rows("app@127.0.0.1", "app@%"), True, skip_since=1000)
    assert names(matcher.match(b"app", b"localhost", 999)) == ["app@127.0.0.1", "app@%"]
    assert names(matcher.match(b"app", b"localhost", 1000)) == ["app@%"]


def test_a_pattern_made_to_be_slow_is_not() -> None:
    pattern = HostPattern(b"%a" * 120 + b"b")
    began = time.perf_counter()
    assert not pattern.matches(b"a" * 255)
    assert time.perf_counter() - began < 0.05


def test_many_accounts_and_logins_take_seconds() -> None:
    chance = random.Random(7)
    hosts = ["%", "localhost", "10.%", "10.1.0.0/255.255.0.0", "%.example.com", "192.168.1._"]
    accounts = [AccountRow(b"user%d" % (i // 3), chance.choice(hosts).encode()) for i in range(10_000)]
    logins = [
        (b"user%d" % chance.randrange(3400), f"host{chance.randrange(999)}.example.com".encode())
        for _ in range(100_000)
    ]
    began = time.perf_counter()
    matcher = AccountMatcher(dict.fromkeys(accounts), False)
    for user, host in logins:
        matcher.match(user, host)
    assert time.perf_counter() - began < 30


PATTERN = st.lists(st.sampled_from(["1", "0", "7", "2", ".", ".", "_", "%", "127.", "\\"]), max_size=12).map("".join)
ADDRESS = st.tuples(*[st.sampled_from([0, 1, 7, 10, 127, 250])] * 4).map(lambda octets: ".".join(map(str, octets)))


@given(st.lists(PATTERN, min_size=1, max_size=6, unique=True), ADDRESS)
def test_what_a_hidden_address_can_reach_is_always_possible(patterns: list[str], address: str) -> None:
    accounts = [AccountRow(b"app", pattern.encode()) for pattern in patterns]
    chosen = possible_rows(accounts, b"app", address.encode(), False)
    hidden = possible_rows(accounts, b"app", b"web1.example.com", False)
    by_name = [row for row in accounts if HostPattern(row.host).matches(b"web1.example.com")]
    if not by_name and address != "127.0.0.1":
        assert set(chosen.rows) <= set(hidden.rows)


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        ("10.0.%", "10.%", False),
        ("10.%", "10.0.%", False),
        ("10.0.0.0/255.0.0.0", "10.1.%.7", True),
        ("10.0.0.0/255.0.0.0", "10.1.1.7", True),
        ("10.0.0.0/255.255.0.0", "10.%", False),
        ("10.0.0.0/255.255.0.0", "10.0.7.0/255.255.255.0", True),
        ("10.0.0.0/255.0.0.0", "%.10.0.1", False),
        ("10.0.0.0/255.0.0.0", "1%", False),
        ("10.0.0.0/255.0.0.0", "fe80::%", False),
    ],
)
def test_a_netmask_covers_another_pattern(wide: str, narrow: str, covered: bool) -> None:
    assert HostPattern(narrow.encode()).within(HostPattern(wide.encode())) is covered


@pytest.mark.parametrize(
    ("wide", "narrow", "possible"),
    [
        ("10.0.%", "10.%", ["10.0.%", "10.%"]),
        ("10.0.0.0/255.0.0.0", "10.1.%.7", ["10.0.0.0/255.0.0.0"]),
        ("10.0.0.0/255.255.0.0", "10.%", ["10.0.0.0/255.255.0.0", "10.%"]),
        ("10.%", "10.0.0.0/255.255.0.0", ["10.0.0.0/255.255.0.0", "10.%"]),
        ("1%", "10.0.0.0/255.0.0.0", ["10.0.0.0/255.0.0.0", "1%"]),
        ("%.7", "10.%.7", ["10.%.7", "%.7"]),
        ("_0.%", "10.%", ["10.%", "_0.%"]),
        ("_0.%", "%0.%", ["_0.%", "%0.%"]),
        ("%", "fe80::%", ["fe80::%", "%"]),
    ],
)
def test_a_hidden_address_reaches_a_row_unless_a_better_one_takes_all_of_it(
    wide: str, narrow: str, possible: list[str]
) -> None:
    found = possible_rows(rows(f"app@{wide}", f"app@{narrow}"), b"app", b"web1", False).rows
    assert [row.host.decode() for row in found] == possible
    twins = possible_rows(rows(f"@{wide}", f"app@{wide}"), b"app", b"web1", False).rows
    assert twins == (AccountRow(b"app", wide.encode()),)


OCTETS = (0, 1, 7, 10, 77, 127, 250)
MASKS = ("255.0.0.0", "255.255.0.0", "255.255.255.0", "255.255.255.240", "255.0.255.0", "0.0.0.255", "254.0.0.0")


def netmask_around(chance: random.Random, octets: list[int]) -> str:
    """Write a netmask that admits an address."""
    mask = chance.choice(MASKS)
    return ".".join(str(octet & int(part)) for octet, part in zip(octets, mask.split("."))) + "/" + mask


def pattern_around(chance: random.Random, octets: list[int]) -> str:
    """Write a pattern that admits an address: wildcards in place of some of it."""
    if chance.random() < 0.2:
        return netmask_around(chance, octets)
    text = ".".join(map(str, octets))
    begin = chance.randrange(len(text) + 1)
    end = begin + chance.choice((0, 1, 1, 2, 3, len(text)))
    wild = chance.choice(("%", "_" * len(text[begin:end])))
    return text[:begin] + wild + text[end:]


def test_a_pattern_said_to_cover_another_does() -> None:
    chance = random.Random(7)
    covered = not_covered = 0
    for _ in range(3000):
        octets = [chance.choice(OCTETS) for _ in range(4)]
        text = ".".join(map(str, octets)).encode()
        narrow = pattern_around(chance, octets)
        octets[chance.randrange(4)] = chance.choice(OCTETS)  # the netmask may be around another address
        outer, inner = HostPattern(netmask_around(chance, octets).encode()), HostPattern(narrow.encode())
        assert inner.matches(text)
        if inner.within(outer):
            covered += 1
            assert outer.matches(text), (outer, narrow)
        elif not outer.matches(text):
            not_covered += 1
    # Both answers came about often enough to mean something.
    assert covered > 500
    assert not_covered > 500
