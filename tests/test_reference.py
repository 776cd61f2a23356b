"""The reference itself, by logs that are small enough to be judged by hand."""

from __future__ import annotations

import pytest
from reference import FAR
from reference import STRANGER
from reference import TORN
from reference import TWICE
from reference import Reading
from reference import client_of
from reference import facts_of
from reference import read_line
from reference import suspects_of
from site_kit import BEGIN
from site_kit import Account
from site_kit import Pen
from site_kit import record
from site_kit import stamp

DEAD = (b"dead", b"10.0.0.9")
REFUSED = b"FAILED_CONNECT"


def reasons(log: bytes) -> dict[Account, str]:
    """Return the last reason against each account."""
    return {account: reason for account, _, reason in suspects_of([log])}


def forged(pen: Pen, number: int) -> bytes:
    """Write a forgery that stands once."""
    return b"".join(pen.forged_once(DEAD, number))


def test_a_plain_sequence() -> None:
    pen = Pen()
    log = pen.sessions(30)
    assert facts_of([log]) == (pen.truth, {})
    half = log.index(b"\n", len(log) // 2) + 1
    assert facts_of([log[:half], log[half:]]) == (pen.truth, {})


def test_what_follows_the_last_line_end_is_not_read() -> None:
    pen = Pen()
    log = pen.sessions(5)
    assert facts_of([log + record(pen.instant, DEAD, 9)[:-1]]) == (pen.truth, {})


def test_ids_out_of_order() -> None:
    log = b"".join(record(BEGIN, (b"u%d" % number, b"h"), number) for number in (12, 10, 13, 11, 9, 15, 14, 16))
    certain, suspects = facts_of([log])
    assert (len(certain), suspects) == (8, {})


def test_a_forged_pair() -> None:
    pen = Pen(number=300)
    log = pen.sessions(20)
    name = b"dead,10.0.0.9,%d,0,CONNECT,,,0\n%b,db01,z" % (pen.number + 40, stamp(pen.instant))
    log += pen.session((name, b"203.0.113.9"), REFUSED, 1045) + pen.sessions(5)
    assert facts_of([log])[0] == pen.truth
    assert reasons(log) == {DEAD: TWICE}


def test_a_forgery_ahead_that_stands_once_until_the_owner_of_its_id_comes() -> None:
    pen = Pen(number=300)
    log = pen.sessions(20)
    number = pen.number + 600
    # The owner is still to come: so far nothing has borne out so long a step of the ids.
    log += forged(pen, number) + pen.sessions(500)
    assert facts_of([log])[0] == pen.truth
    assert reasons(log) == {DEAD: FAR}
    log += pen.sessions(number - pen.number - 1, prefix=b"later")
    log += pen.session((b"owner", b"h"))
    assert reasons(log) == {DEAD: TWICE, (b"owner", b"h"): TWICE}
    log += pen.sessions(6)
    del pen.truth[b"owner", b"h"]
    assert facts_of([log])[0] == pen.truth
    assert reasons(log) == {DEAD: TWICE, (b"owner", b"h"): TWICE}


def test_an_owner_who_is_refused_speaks_against_a_forgery_as_well() -> None:
    pen = Pen(number=300)
    log = pen.sessions(20)
    log += forged(pen, pen.number + 50) + pen.sessions(48)
    log += pen.session((b"x", b"h"), REFUSED, 1045) + pen.sessions(6)
    assert facts_of([log])[0] == pen.truth
    assert reasons(log) == {DEAD: TWICE}


def test_far_ahead_and_alone() -> None:
    pen = Pen(number=300)
    log = pen.sessions(20) + forged(pen, 9000) + pen.sessions(20)
    assert facts_of([log])[0] == pen.truth
    assert reasons(log) == {DEAD: FAR}


def test_an_id_of_an_old_session() -> None:
    pen = Pen(number=300)
    log = pen.sessions(3000)
    log += forged(pen, 310) + forged(pen, pen.number - 7) + pen.sessions(20)
    certain, suspects = facts_of([log])
    assert set(pen.truth) == set(certain)
    assert suspects == {DEAD: pen.instant - 20}
    assert {reason for account, _, reason in suspects_of([log]) if account == DEAD} == {FAR, TWICE}


def test_a_restart_of_the_server() -> None:
    old = Pen(number=5000)
    new = Pen(BEGIN + 900, 2)
    log = old.sessions(20, prefix=b"old") + new.sessions(2)
    assert facts_of([log])[0] == old.truth  # two logins may be a forgery
    log += new.sessions(3)
    assert facts_of([log])[0] == {**old.truth, **new.truth}
    assert reasons(log) == {}


def test_a_restart_under_another_name() -> None:
    old = Pen(number=5000)
    new = Pen(BEGIN + 900, 2)
    log = old.sessions(20, prefix=b"old") + new.sessions(9).replace(b",db01,", b",new,")
    log += record(new.instant, DEAD, new.number + 1)
    assert facts_of([log])[0] == {**old.truth, **new.truth}
    assert reasons(log) == {DEAD: STRANGER}


def test_a_lost_stretch() -> None:
    pen = Pen(number=300)
    log = pen.sessions(20)
    pen.number += 50
    log += pen.sessions(20, prefix=b"near")
    pen.number += 40_000
    log += pen.sessions(20, prefix=b"far")
    assert facts_of([log]) == (pen.truth, {})


def test_a_login_5000_ids_late() -> None:
    pen = Pen(number=300)
    log = pen.sessions(20)
    pen.number += 1
    late = record(pen.instant, (b"late", b"h"), pen.number)
    log += pen.sessions(5000)
    assert facts_of([log + late + pen.sessions(3)])[0].keys() == {*pen.truth, (b"late", b"h")}


def test_the_id_of_a_piece_counts() -> None:
    pen = Pen(number=300)
    log = pen.sessions(20)
    log += record(pen.instant, (b"new\nline", b"h"), pen.number + 1)
    log += record(pen.instant, DEAD, pen.number + 1) + pen.sessions(5)[:0]
    pen.number += 1
    log += pen.sessions(5)
    reading = Reading([log])
    assert (facts_of([log])[0], reading.not_understood) == (pen.truth, 1)
    assert reasons(log) == {DEAD: TWICE}


def test_another_server_host() -> None:
    pen = Pen(number=300)
    log = pen.sessions(20) + record(pen.instant, DEAD, pen.number + 1, server=b"h")
    pen.number += 1
    for count in (3, 1500):  # not settled, and settled
        assert reasons(log + pen.sessions(count)) == {DEAD: STRANGER}


def test_glued_and_broken_off() -> None:
    pen = Pen(number=300)
    log = pen.sessions(20)
    known = dict(pen.truth)
    log += b"20260302 08:00:20,db01,torn,loc" + pen.session((b"glued", b"h"))
    pen.number += 1
    log += record(pen.instant, (b"broken", b"h"), pen.number)[:-4] + b"\n" + pen.sessions(5)
    certain, _ = facts_of([log])
    assert known.keys() <= certain.keys()
    whole = b"torn,loc" + stamp(pen.instant - 5) + b",db01,glued"
    assert reasons(log) == dict.fromkeys([(b"glued", b"h"), (whole, b"h"), (b"broken", b"h")], TORN)


@pytest.mark.parametrize(
    "behind", [b"%d,0,DISCONNECT,,,0\n", b"%d,0,FAILED_CONNECT,,,1045\n", b"%d,9,QUERY,,'x,0,CONNECT,y',0\n"]
)
def test_a_login_that_is_torn_off_before_another_record(behind: bytes) -> None:
    pen = Pen(number=300)
    log = pen.sessions(20)
    pen.number += 2
    log += record(pen.instant, (b"torn", b"h"), pen.number - 1)[:-3]
    log += stamp(pen.instant) + b",db01,app0,localhost," + behind % pen.number + pen.sessions(5)
    assert facts_of([log])[0] == pen.truth
    assert reasons(log)[b"torn", b"h"] == TORN


@pytest.mark.parametrize(
    ("text", "number", "operation", "whole"),
    [
        (b"20260302 08:00:00,db01,a,h,7,0,CONNECT,,,0", 7, b"CONNECT", True),
        (b"20260302 08:00:00,db01,a,h,0007,0,CONNECT,,,0\r", 7, b"CONNECT", True),
        (b"\0\x0020260302 08:00:00,db01,a,h,-1,0,DISCONNECT,,,0", 2**32 - 1, b"DISCONNECT", True),
        (b"20261302 08:00:00,db01,a,h,7,0,CONNECT,,,0", 7, b"CONNECT", False),
        (b"20260302 08:00:00,db01,a\0,h,7,0,CONNECT,,,0", 7, b"CONNECT", False),
        (b"z,h,7,0,FAILED_CONNECT,,,1045", 7, b"FAILED_CONNECT", False),
        (b"20260302 08:00:00,db01,a,h,8,0,CONNECT,x,localhost,7,0,CONNECT,d,TLS,0,TLS", 7, b"CONNECT", True),
    ],
)
def test_lines_that_are_read(text: bytes, number: int, operation: bytes, whole: bool) -> None:
    line = read_line(text)
    assert line
    assert (line.number, line.operation, bool(line.record)) == (number, operation, whole)


@pytest.mark.parametrize(
    "text",
    [
        b"20260302 08:00:00,db01,a,h,7,9,QUERY,,'x,h,7,0,CONNECT,,',0",
        b"20260302 08:00:00,db01,a,h,7,0,CHANGEUSER,,,1045",
        b"20260302 08:00:00,db01,x,h,7,0,CONNECT,,h,7,0,PROXY_CONNECT,,`a`@`%`,0",
        b"20260302 08:00:00,db01,a,h,12345678901,0,CONNECT,,,0",
        b"20260302 08:00:00,db01,a,h,7,0,CONNECT,,",
        b"",
    ],
)
def test_lines_that_are_not(text: bytes) -> None:
    assert read_line(text) is None


@pytest.mark.parametrize(
    ("logged", "client"),
    [
        (b"localhost", b"localhost"),
        (b"localhost:unavailable", b"localhost"),
        (b"10.1.2.3:543", b"10.1.2.3"),
        (b"[2001:db8::7]:80", b"2001:db8::7"),
        (b"2001:db8::7", b"2001:db8::7"),
        (b"2001:db8::7:8080", b"2001:db8::7:8080"),
        (b"2001:db8::7:54312", b"2001:db8::7"),
        (b"1:2:3:4:5:6:7:8:80", b"1:2:3:4:5:6:7:8"),
        (b"fe80::ab", b"fe80::ab"),
    ],
)
def test_the_port_of_a_client(logged: bytes, client: bytes) -> None:
    assert client_of(logged) == client
