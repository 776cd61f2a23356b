"""Hostile names and forged records, against the real program as a process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from fuzz import Collector
from site_kit import BEGIN
from site_kit import LOG_NAME
from site_kit import LONG
from site_kit import PLAIN_USER
from site_kit import SERVER
from site_kit import TIMEOUT
from site_kit import Pen
from site_kit import Site
from site_kit import cut_name
from site_kit import record
from site_kit import stamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_22_hostile_names_are_stored_raw_and_shown_inert(site: Site, pen: Pen) -> None:
    names = (
        b"com,ma",
        b"quo'te",
        b'"dq"',
        b"back\\slash",
        b"ta\tb",
        b"c\rr",
        b" lead",
        b"\x1b[31mred",
        b"a,localhost,1,0,CONNECT,,,0",
        b"'; DROP TABLE Accounts; --",
        b"=cmd|' /C calc'!A0",
        b"",
        b"%",
        b"CONNECT",
        b"NULL",
    )
    for name in names:
        site.write(pen.session((name, b"localhost")))
    site.collect()
    assert site.logins() == pen.truth
    for style in ("table", "csv", "json"):
        shown = site.run("accounts", "--format", style).stdout
        assert not any(ord(letter) < 32 and letter != "\n" for letter in shown.replace("\r\n", "\n")), style


def test_22_a_forged_pair_is_not_believed(site: Site) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(20))
    forged = b"root,localhost,5,0,CONNECT,,,0\n20260302 10:30:00,h,z"
    site.write(pen.session((forged, b"203.0.113.9"), b"FAILED_CONNECT", 1698))
    site.write(pen.sessions(20))
    site.collect()
    assert site.logins() == pen.truth
    assert (b"root", b"localhost") in site.suspects()


def test_22_a_stamp_of_the_future_keeps_little_unsettled(site: Site) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(20))
    for length in range(300):
        forged = b"root,localhost,5,0,CONNECT,,,0\n20990101 00:00:00,db01," + b"z" * (length % 9)
        site.write(pen.session((forged, b"203.0.113.9"), b"FAILED_CONNECT", 1698))
    site.write(pen.sessions(15_000))
    site.collect()
    assert site.logins() == pen.truth
    assert site.rows("SELECT count(*) FROM recent")[0][0] < 12_000


def test_22_a_piece_of_a_name_with_an_id_far_ahead_keeps_little_unsettled(site: Site) -> None:
    pen = Pen(number=3000)
    site.write(pen.sessions(2000) + b"".join(pen.refusal(b"x,h\n,,4000000000,0,FAILED_CONNECT,,,1\nz")))
    site.write(pen.sessions(15_000))
    site.collect()
    assert site.logins() == pen.truth
    assert site.rows("SELECT count(*) FROM recent")[0][0] < 12_000


def test_22_an_id_far_below_the_first_one_is_not_believed(site: Site) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(5))
    site.write(b"".join(pen.forged_once((b"root", b"localhost"), 220)))
    slow = b"slow", b"localhost"
    site.write(record(pen.instant, slow, 299))
    pen.note(slow, pen.instant)
    site.write(pen.sessions(1500))
    site.collect()
    assert site.logins() == pen.truth
    assert (b"root", b"localhost") in site.suspects()


def test_22_logins_out_of_order_at_the_end_of_the_reach_are_true(site: Site) -> None:
    pen = Pen(number=1000)
    site.write(pen.sessions(30))
    late = pen.number + 1
    pen.number += 985  # ids of which no record has come yet
    site.write(pen.sessions(10))
    site.collect()
    for step, number in enumerate((late, *(pen.number + more for more in (14, 16, 15, 17)))):
        pen.instant += 1
        account = b"late%d" % step, b"localhost"
        site.write(record(pen.instant, account, number))
        pen.note(account, pen.instant)
    site.collect()
    pen.number += 17
    site.write(pen.sessions(10))
    site.collect()
    assert site.logins() == pen.truth
    assert site.suspects() == {}


def test_22_an_id_claimed_twice_just_after_a_start_is_not_believed(site: Site) -> None:
    pen = Pen(number=300)
    new = Pen(pen.instant + 600, 2)
    site.write(pen.sessions(30) + new.session((b"first", b"h")))
    name = b"dead,10.0.0.9,7,0,CONNECT,,,0\n%b,db01,z" % stamp(new.instant)
    site.write(b"".join(new.refusal(name)) + new.sessions(60))
    site.collect()
    assert DEAD not in site.logins()
    assert DEAD in site.suspects()


def test_22_ids_claimed_ahead_that_nobody_owns_before_the_next_start_are_not_believed(site: Site) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(1500))
    site.write(b"".join(pen.forged_once(DEAD, pen.number + 700)))
    site.write(b"".join(pen.forged_once((b"other", b"h"), pen.number + 900)) + pen.sessions(20))
    site.write(Pen(pen.instant + 600, 2).sessions(1500))
    site.collect()
    assert not {DEAD, (b"other", b"h")} & site.logins().keys()
    assert site.suspects().keys() >= {DEAD, (b"other", b"h")}


@pytest.mark.parametrize("number", [1, 2])
def test_22_an_id_that_the_server_has_given_no_client_is_not_believed(site: Site, number: int) -> None:
    pen = Pen(number=2)
    site.write(pen.sessions(5) + b"".join(pen.forged_once(DEAD, number)) + pen.sessions(20))
    site.collect()
    assert site.logins() == pen.truth
    assert DEAD in site.suspects()


@pytest.mark.parametrize("rest", [b"2026x", b"z", b"20260302 10:30:00,h,z", b"20260302 10:30:00,db01,z"])
@pytest.mark.parametrize("number", [5, 360])
def test_22_a_flood_of_one_forged_name(site: Site, rest: bytes, number: int) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(20))
    name = b"root,localhost,%d,0,CONNECT,,,0\n%b" % (number, rest)
    for _ in range(40):
        site.write(pen.session((name, b"203.0.113.9"), b"FAILED_CONNECT", 1698))
        pen.instant -= 1
    pen.number += 500
    site.write(pen.sessions(20))
    site.collect()
    assert (b"root", b"localhost") not in site.logins()
    assert (b"root", b"localhost") in site.suspects()


def sessions_with(odd: bytes, *, after: int = 30) -> bytes:
    """Write thirty sessions, something odd, and thirty more."""
    pen = Pen(number=300)
    before = pen.sessions(30)
    pen.instant, pen.number = pen.instant + 2, pen.number + 20
    return before + odd + pen.sessions(after)


ODD_AT = BEGIN + 31  # the second and the id that come next there
ODD_ID = 331
VICTIM = (b"victim", b"localhost")
LOGIN = record(ODD_AT, VICTIM, ODD_ID)
CONTRADICTIONS = {
    "its connection id stands in two records": LOGIN + record(ODD_AT, (b"other", b"h"), ODD_ID),
    "its connection id stands in two records, to the byte": LOGIN * 2,
    "its connection id stands in two records, the other is refused": LOGIN
    + record(ODD_AT, (b"x", b"h"), ODD_ID, b"FAILED_CONNECT", code=1045),
    "its connection id stands in two records, the other is the rest of a name": LOGIN
    + b"line,localhost,%d,0,CONNECT,,,0\n" % ODD_ID,
    "its connection id is far from the counter": record(ODD_AT, VICTIM, 99_999),
    "it names another server host": record(ODD_AT, VICTIM, ODD_ID, server=b"h"),
    "it is glued to a torn record, or breaks off": LOGIN[:-20] + LOGIN,
    "it is glued to a torn record, or breaks off, alone": LOGIN[: LOGIN.index(b",CONNECT,") + 9] + b"\n",
}


@pytest.mark.parametrize("reason", CONTRADICTIONS)
def test_22_what_the_log_contradicts_is_kept_apart(site: Site, reason: str) -> None:
    site.write(sessions_with(CONTRADICTIONS[reason]))
    site.collect()
    assert VICTIM not in site.logins()
    [(path, offset, why)] = site.rows("SELECT file, \"offset\", reason FROM suspect WHERE user = X'76696374696D'")
    assert path == str(site.log)
    assert b",victim," in site.log.read_bytes()[offset : offset + 40]
    assert reason.startswith(why)
    # A login that nothing contradicts makes it certain, but what was odd stays known if it is newer.
    site.write(record(BEGIN + 63, VICTIM, 383))
    site.collect()
    assert site.logins()[VICTIM] == (BEGIN + 63, BEGIN + 63)
    assert VICTIM not in site.suspects()


# Few sessions are read line by line, many of them in columns.
@pytest.mark.parametrize("many", [30, 1500])
@pytest.mark.parametrize("real_first", [True, False])
def test_22_the_session_of_a_login_in_doubt_proves_no_use(site: Site, many: int, *, real_first: bool) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(many))
    pen.number += 1
    opened, number = record(pen.instant, VICTIM, pen.number), pen.number
    forged = b"".join(pen.forged_once((b"dead", b"10.0.0.9"), number))
    site.write(opened + forged if real_first else forged + opened)
    site.write(pen.sessions(many))
    pen.instant += 9000
    site.write(record(pen.instant, VICTIM, number, b"DISCONNECT") + pen.sessions(many))
    site.collect()
    assert site.logins() == pen.truth
    assert site.rows("SELECT * FROM evidence WHERE kind = 'session end'") == []


def test_22_a_forged_login_with_the_id_of_an_open_session_does_not_hide_its_end(site: Site) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(30))
    pen.number += 1
    number, since = pen.number, pen.instant
    pen.note(VICTIM, since)
    site.write(record(since, VICTIM, number) + pen.sessions(3000))
    pen.instant += 9000
    site.collect()
    site.write(record(pen.instant, (b"dead", b"10.0.0.9"), number) + record(pen.instant, VICTIM, number, b"DISCONNECT"))
    site.collect()
    site.write(pen.sessions(30))
    site.collect()
    assert site.logins() == pen.truth
    ends = site.rows("SELECT CAST(user AS BLOB), last_seen FROM evidence WHERE kind = 'session end'")
    assert ends == [(b"victim", pen.instant - 30)]


def test_22_a_refusal_in_doubt_is_shown_where_it_stands(site: Site) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(1500) + pen.session(VICTIM, b"FAILED_CONNECT", 4151) + pen.sessions(500))
    site.write(b"".join(pen.forged_once((b"dead", b"10.0.0.9"), pen.number - 500)) + pen.sessions(600))
    site.collect()
    [(offset,)] = site.rows("SELECT \"offset\" FROM suspect WHERE user = X'76696374696D'")
    assert b",victim," in site.log.read_bytes()[offset : offset + 40]


def test_22_another_server_host_between_two_starts_of_the_server(site: Site) -> None:
    pen = Pen(number=5000)
    site.write(pen.sessions(20))
    for number in (*range(300, 306), *range(2000, 2030)):
        pen.instant += 1
        name, server = (VICTIM, b"other") if number == 301 else ((b"app", b"h"), SERVER)
        site.write(record(pen.instant, name, number, server=server))
    site.collect()
    assert [reason for (reason,) in site.rows("SELECT reason FROM suspect")] == ["it names another server host"]


@pytest.mark.parametrize("at_once", [False, True])
def test_22_the_first_logins_after_a_restart_among_guessed_passwords(site: Site, *, at_once: bool) -> None:
    guessed, server = Pen(number=20_000), Pen(number=2)
    guesses = b"".join(guessed.session((b"root", b"h"), b"FAILED_CONNECT", 1045) for _ in range(1500))
    server.instant = guessed.instant + 60
    for number, text in enumerate((guesses, server.session((b"yearly", b"h")), server.sessions(30)), 1):
        (site.logs / f"{LOG_NAME}.{3 - number}" if number < 3 and at_once else site.log).open("ab").write(text)
        if not at_once:
            site.collect()
    site.collect()
    assert site.logins() == server.truth


BESIDE = {
    "a line before it breaks off": LOGIN[:23] + b"new\n" + LOGIN,
    "the line after it is the rest of a name": LOGIN + b"z,203.0.113.9,331,0,CHANGEUSER,,,1045\n",
    "the line after it holds a forged id that is far": LOGIN + record(ODD_AT, (b"x", b"h"), 99_999, b"FAILED_CONNECT"),
    "a stamp that is long after those of its neighbours": record(ODD_AT + 86400, VICTIM, ODD_ID),
    "a stamp that is long before those of its neighbours": record(ODD_AT - 86400, VICTIM, ODD_ID),
    "some ids before it are missing": record(ODD_AT, VICTIM, ODD_ID + 15),
    "its id is that of a session some steps before": record(ODD_AT, VICTIM, ODD_ID + 10)
    + record(ODD_AT, (b"other", b"h"), ODD_ID + 3),
}


@pytest.mark.parametrize("beside", BESIDE)
def test_22_what_stands_beside_a_login_does_not_matter(site: Site, beside: str) -> None:
    site.write(sessions_with(BESIDE[beside]))
    site.collect()
    instants = {"a stamp that is long after": ODD_AT + 86400, "a stamp that is long before": ODD_AT - 86400}
    instant = next((at for words, at in instants.items() if beside.startswith(words)), ODD_AT)
    assert site.logins()[VICTIM] == (instant, instant)
    assert VICTIM not in site.suspects()


DEAD = (b"dead", b"10.0.0.9")
OWNER = (b"owner", b"h")
FIRST_ID = 3  # the server itself takes the ids before
OPENING = 1400  # sessions
FORGED_IDS: dict[str, Callable[[int], int]] = {
    "1": lambda now: 1,
    "3": lambda now: 3,
    "5": lambda now: 5,
    "of an old session": lambda now: 310,
    "recent": lambda now: now - 7,
    "600 ahead": lambda now: now + 600,
    "5,000 ahead": lambda now: now + 5000,
}


class Story:
    """What a server writes around a forgery, in stretches: until the owner of the forged id has come, and 5 more."""

    def __init__(self, forged: str) -> None:
        self.pen = Pen(number=FIRST_ID - 1)
        number = FORGED_IDS[forged](FIRST_ID + OPENING + 7)
        self.stretches = [[self.sessions(OPENING, number)]]
        self.one_by_one(5, number)
        self.stretches.append(self.pen.forged_once(DEAD, number))
        self.one_by_one(5, number)
        if number > self.pen.number:
            self.stretches.append([self.sessions(number - self.pen.number - 4, number)])
            self.one_by_one(4, number)
        self.one_by_one(5, number)

    def sessions(self, count: int, owned: int) -> bytes:
        """Write some sessions; one may be that of the owner of an id."""
        before = min(count, max(0, owned - self.pen.number - 1))
        text = self.pen.sessions(before)
        if before < count and self.pen.number + 1 == owned:
            text += self.pen.session(OWNER)
            before += 1
        return text + self.pen.sessions(count - before)

    def one_by_one(self, count: int, owned: int) -> None:
        """Write some sessions, each record for itself."""
        self.stretches.append(self.sessions(count, owned).splitlines(keepends=True))

    def records(self) -> list[bytes]:
        """Return what the server writes at once; many sessions that do not matter count as one record."""
        return [piece for stretch in self.stretches for piece in stretch]

    def pieces(self, way: str) -> list[bytes]:
        """Return the pieces after which the tracker runs."""
        records = self.records()
        if way == "every line":
            lines = (piece.splitlines(keepends=True) if len(piece) < 1000 else [piece] for piece in records)
            return [line for piece in lines for line in piece]
        if way == "7 records":
            return [b"".join(records[at : at + 7]) for at in range(0, len(records), 7)]
        if way in ("a rotation", "queries"):
            return [b"".join(stretch) for stretch in self.stretches]
        return records if way == "every record" else [b"".join(records)]


@pytest.mark.parametrize("way", ["whole", "every line", "every record", "7 records", "a rotation", "queries"])
@pytest.mark.parametrize("forged", FORGED_IDS)
def test_22_a_forgery_that_stands_once(site: Site, tmp_path: Path, forged: str, way: str) -> None:
    story = Story(forged)
    collector = Collector(tmp_path)
    pieces = story.pieces(way)
    for number, piece in enumerate(pieces):
        site.write(piece)
        if way == "queries":
            between = (1 << 30) // len(pieces) if LONG else 3 << 20
            for _ in range(between // 1_000_000):
                site.write(story.pen.queries(4000))
        if way == "a rotation" and number:
            site.rotate()
        assert collector.collect(site) == ""
    site.log.unlink()  # it may be large
    logins, suspects = site.logins(), site.suspects()
    assert DEAD not in logins
    assert DEAD in suspects
    assert OWNER not in story.pen.truth or OWNER in {**logins, **suspects}
    for facts in (logins, story.pen.truth):
        facts.pop(OWNER, None)
    assert logins == story.pen.truth


def claim(pen: Pen, *numbers: int) -> bytes:
    """Write a refused name that holds nothing but ends of records: whoever owns these ids comes second."""
    return b"".join(pen.refusal(b"x\n" + b"".join(b",,%d,0,CONNECT,,,0\n" % number for number in numbers) + b"z"))


def a_name_that_confirms_itself(pen: Pen) -> bytes:
    """Let ids begin anew in one name: a login, and four lines that go on from there."""
    lines = [b"dead,10.0.0.9,4,0,CONNECT,,,0", *(b",,%d,0,CONNECT,,,0" % number for number in range(5, 9)), b"z"]
    return b"".join(pen.refusal(b"\n".join(lines)))


def ids_claimed_ahead(pen: Pen) -> bytes:
    """Claim nine ids in a row that are to come, and forge the next one: the true owners look like another run."""
    begin = pen.number + 20
    text = b""
    for number in range(begin, begin + 9, 3):
        lines = [record(pen.instant, (b"", b""), number + more, server=b"")[:-1] for more in range(3)]
        text += b"".join(pen.refusal(b"x,h,%d,0,CONNECT,,,0\n" % number + b"\n".join([*lines[1:], b"z"])))
    return text + b"".join(pen.forged_once(DEAD, begin + 9))


def a_counter_pushed_ahead(pen: Pen) -> bytes:
    """Push the counter far ahead, and forge an id that it has passed but whose owner is still to come."""
    begin = pen.number + 990
    text = b"".join(claim(pen, *range(begin + 4 * i, begin + 4 * i + 4)) for i in range(8))
    return text + b"".join(pen.forged_once(DEAD, pen.number + 4, age=60))


def an_owner_who_never_comes(pen: Pen) -> bytes:
    """Forge an id that is to come, shortly before the server is started again."""
    text = b"".join(pen.forged_once(DEAD, pen.number + 300)) + pen.sessions(20)
    pen.instant, pen.number = pen.instant + 5, FIRST_ID - 1
    return text


def a_restart_behind_claimed_ids(pen: Pen) -> bytes:
    """Claim the ids of one's own next connections, and let ids begin anew in the names of these."""
    text = claim(pen, *range(pen.number + 2, pen.number + 6))
    now = stamp(pen.instant)
    end = now + b",db01,,,4,0,DISCONNECT,,,0"
    refused = now + b",db01,,,2,0,FAILED_CONNECT,,,1"
    return text + b"".join(
        b"".join(pen.refusal(b"\n".join([b"dead,10.0.0.9,4,0,CONNECT,,,0", end, refused, b"z"]))) for _ in range(3)
    )


def a_restart_behind_forged_ends(pen: Pen) -> bytes:
    """Forge the ends of one's own connections before the true ones, and let ids begin anew in between."""
    now = stamp(pen.instant)
    names = (
        b"d,h,%d,0,DISCONNECT,,,0\n%b,db01,,,3,0,CONNECT,,,0\n%b,db01,,,4,0,CONNECT,,,0\nz"
        % (pen.number + 1, now, now),
        b"dead,10.0.0.9,5,0,CONNECT,,,0\n%b,db01,,,6,0,CONNECT,,,0\n%b,db01,,,7,0,CONNECT,,,0\nz" % (now, now),
    )
    return b"".join(b"".join(pen.refusal(name)) for name in names)


def a_restart_behind_claimed_refusals(pen: Pen) -> bytes:
    """Claim the ids of one's own next connections by logins, so that their ends are not those of refused ones."""
    now = stamp(pen.instant)
    begin = b"".join(b"x,h,%d,0,CONNECT,,,0\n%b,db01," % (pen.number + more, now) for more in (2, 3))
    name = b"dead,10.0.0.9,5,0,CONNECT,,,0\n%b,db01,,,6,0,CONNECT,,,0\n%b,db01,,,7,0,CONNECT,,,0\nz" % (now, now)
    return b"".join(b"".join(pen.refusal(text)) for text in (begin + b"z", name, name))


def ids_claimed_behind_a_forged_one(pen: Pen) -> bytes:
    """Claim more than a thousand ids behind a forged one, before its owner comes."""
    forged = pen.number + 400
    ahead = [number for number in range(pen.number + 60, forged + 1150) if number != forged]
    claims = [claim(pen, *ahead[at : at + 5]) for at in range(0, 400, 5)]
    claims += pen.forged_once(DEAD, forged)
    return b"".join(claims + [claim(pen, *ahead[at : at + 5]) for at in range(400, len(ahead), 5)])


def a_restart_behind_a_pushed_counter(pen: Pen) -> bytes:
    """Push the counter so far that one's own ids, claimed before, are long past, and let ids begin anew."""
    text = b"".join(claim(pen, *range(begin, begin + 5)) for begin in range(pen.number + 1, pen.number + 1651, 5))
    for number in (4, 6, 8, 10, 12, 14):
        forged = record(pen.instant + 1, DEAD if number == 4 else (b"", b""), number)
        text += b"".join(pen.refusal(b"x\n" + "\u20ac".encode() * 43 + b",0\n" + forged + b"z"))
    return text


def pushed_by_whole_lines(pen: Pen) -> bytes:
    """Push the counter by short steps, claim one's own ids to come and one for somebody else, and come to them."""
    base = pen.number
    text = claim(pen, *(base + step for step in (90, 180, 270, 360)))
    for begin in range(base + 401, base + 2200, 5):
        text += claim(pen, *range(begin, begin + 5)) if begin != base + 1701 else b""
        if begin == base + 1701:
            text += b"".join(pen.forged_once(DEAD, begin))
    while pen.number < base + 400:
        text += b"".join(pen.refusal(b"x"))
    return text


def own_ids_long_past(pen: Pen) -> bytes:
    """Let one's own ids, claimed before and long past, look like those of a server that was started again."""
    return pushed_by_whole_lines(pen) + b"".join(b"".join(pen.refusal(b"x")) for _ in range(6)) + pen.sessions(2500)


def a_restart_in_whole_lines_behind_own_ids_long_past(pen: Pen) -> bytes:
    """Let ids begin anew in names that end with a whole record of one's own, long past."""
    text = pushed_by_whole_lines(pen)
    for number in range(4, 8):
        text += b"".join(pen.refusal(b"a,h,%d,0,CONNECT,,,0\n%b,,z" % (number, stamp(pen.instant + 1))))
    return text + pen.sessions(2500)


def a_far_id_behind_a_start(pen: Pen) -> bytes:
    """Forge a login when the server has just been started again, as nothing shows yet which run is alive."""
    pen.instant, pen.number = pen.instant + 60, FIRST_ID - 1
    forged = record(pen.instant + 1, DEAD, 777_777)
    return b"".join(pen.refusal(b"x\n" + "\u20ac".encode() * 43 + b",0\n" + forged + b"z"))


@pytest.mark.parametrize(
    "attack",
    [
        a_name_that_confirms_itself,
        ids_claimed_ahead,
        a_counter_pushed_ahead,
        an_owner_who_never_comes,
        a_restart_behind_claimed_ids,
        a_restart_behind_forged_ends,
        a_restart_behind_claimed_refusals,
        ids_claimed_behind_a_forged_one,
        a_restart_behind_a_pushed_counter,
        own_ids_long_past,
        a_restart_in_whole_lines_behind_own_ids_long_past,
        a_far_id_behind_a_start,
    ],
    ids=lambda attack: attack.__name__,
)
def test_22_attacks_on_the_counter(site: Site, attack: Callable[[Pen], bytes]) -> None:
    pen = Pen(number=FIRST_ID - 1)
    site.write(pen.sessions(OPENING) + attack(pen) + pen.sessions(1100))
    site.collect()
    logins, suspects = site.logins(), site.suspects()
    assert DEAD not in logins
    assert DEAD in suspects
    assert pen.truth.keys() <= {**logins, **suspects}.keys()


def test_22_connections_held_since_before_a_log_begins_make_no_restart_believed(site: Site) -> None:
    pen = Pen(number=1000)
    site.write(pen.sessions(30))
    once = b"x\n" + "\u20ac".encode() * 43 + b",0\n"  # what follows stands in the DISCONNECT only
    other = b"%b,,,,%%d,0,CONNECT,,,0\n" % stamp(pen.instant)
    held = (record(pen.instant, DEAD, 4, server=b""), other % 5 + other % 6, other % 7 + other % 8)
    for number, forged in enumerate(held, 960):
        name = once + forged + b"z"
        for operation, shown in ((b"FAILED_CONNECT", cut_name(name)), (b"DISCONNECT", name)):
            code = 1045 * (operation == b"FAILED_CONNECT")
            site.write(record(pen.instant, (shown, b"203.0.113.9"), number, operation, code=code))
    site.write(pen.sessions(1500))
    site.collect()
    assert DEAD not in site.logins()
    assert DEAD in site.suspects()


@pytest.mark.parametrize("head", [b"Mar  2 08:00:30 h x: other,z", b"app: 20260302 08:00:30,other,z"])
def test_22_the_records_of_a_forger_cannot_look_like_those_of_another_server(site: Site, head: bytes) -> None:
    pen = Pen(number=300)
    begun, own = pen.sessions(1200), pen.number + 1
    hidden = b"".join(pen.refusal(b"x\n" + head))
    site.write(begun + hidden + b"".join(pen.forged_once(DEAD, own)) + pen.sessions(3000))
    site.collect("--server-host", "db01")
    assert site.logins() == pen.truth
    assert DEAD in site.suspects()


def test_22_refused_logins_stop_no_run(site: Site) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(20))
    for number in range(60):
        site.write(b"".join(pen.refusal(b"x\nMar  2 08:00:30 h x: host%d,z" % (number % 2))))
    far = record(pen.instant, DEAD, pen.number + 60).replace(stamp(pen.instant), b"99991231 23:59:59")
    site.write(b"".join(pen.refusal("\u20ac".encode() * 44 + b",0\n" + far + stamp(pen.instant) + b",db01,z")))
    site.write(pen.sessions(20))
    site.collect("--time-location", "America/New_York", "--time-location-audit", "UTC")
    assert site.logins() == pen.truth


def test_22_what_names_another_session_is_not_certain(site: Site) -> None:
    pen = Pen(number=300)
    site.write(pen.sessions(1200))
    begun = record(pen.instant - 7300, DEAD, pen.number + 300)
    site.write(b"".join(pen.refusal("\u20ac".encode() * 44 + b",0\n" + begun + stamp(pen.instant) + b",db01,z")))
    for name in (
        b"dead,10.0.0.9,%d,0,DISCONNECT,,,0\nz" % (pen.number + 299),
        b",10.0.0.9,1,0,CHANGEUSER,,,0\nz",
        b"dead,10.0.0.9,1,0,DISCONNECT,,,0\nz",
        b"x,h,1,0,CHANGE_USER,,`dead`@`%`,0\nz",
    ):
        site.write(b"".join(pen.refusal(name)))
    site.write(pen.sessions(3000))
    site.collect()
    kinds = {kind for (kind,) in site.rows("SELECT kind FROM evidence WHERE CAST(user AS TEXT) = 'dead'")}
    assert kinds == {"earlier session", "changed user"}  # possible use, see `test_other_kinds_of_use`


NOT_INERT = (
    b"esc\x1b[2Jred",
    b"bell\x07",
    b"c1\xc2\x9b31m",
    b"\xe2\x80\xaertl",
    b"sep\xe2\x80\xa8line",
    b"zero\xe2\x80\x8bwidth",
    b"tab\there",
    b"c\rr",
    b"\xff\xfe",
    b"=cmd|' /C calc'!A0",
    b"'; DROP TABLE Accounts; --",
    b'x"} 1\\nconntracker_forged 1',
)


NEXT_ID = 66  # behind the sessions of half a year


def half_a_year(site: Site, odd: bytes = b"") -> None:
    """Write and collect half a year of log, up to now; something odd may stand near its end."""
    now = int(time.time())
    pen = Pen(now - 180 * 86400, 5)
    site.write(pen.sessions(30))
    pen.instant = now - 100
    site.write(pen.sessions(30) + odd)
    pen.number += 50
    site.write(pen.sessions(30))
    site.collect()


def test_22_a_suspect_account_is_shown_and_never_removable(site: Site) -> None:
    half_a_year(site, record(int(time.time()) - 70, VICTIM, NEXT_ID) * 2)
    site.listed(b"victim", b"unused")
    assert VICTIM in site.suspects()
    shown = json.loads(site.run("accounts", "--format", "json").stdout)["accounts"]
    [row] = [row for row in shown if row["user"] == "victim"]
    assert row["source"] == "suspect"
    assert re.fullmatch(re.escape(str(site.log)) + r":\d+: its connection id stands in two records", row["note"])
    report = json.loads(site.run("report", "--format", "json").stdout)
    verdicts = {item["user"]: item for item in report["accounts"]}
    assert verdicts["unused"]["removable"] is True  # nothing else stands in the way
    assert verdicts["victim"]["removable"] is False
    assert "named by a suspect record" in verdicts["victim"]["keep_reasons"]
    assert "suspect" in site.run("report").stdout
    assert "victim" not in site.run("report", "--format", "sql").stdout
    status = site.run("status")
    assert status.returncode == 1
    assert re.search(r"suspect records.*\b1\b", status.stdout)


def test_22_names_are_inert_in_every_output(site: Site) -> None:
    now = int(time.time())
    # Certain, suspect and unused accounts of each name.
    odd = b"".join(record(now - 69, (name, b"h"), NEXT_ID + number) for number, name in enumerate(NOT_INERT))
    odd += b"".join(record(now - 69, (b"2" + name, b"h"), NEXT_ID + 20) for name in NOT_INERT)
    half_a_year(site, odd)
    site.listed(*NOT_INERT, *(b"3" + name for name in NOT_INERT))
    assert len([user for user, _ in site.logins() if user in NOT_INERT]) == len(NOT_INERT)
    outputs = [("accounts", form) for form in ("table", "csv", "json")]
    outputs += [("report", form) for form in ("table", "csv", "json", "prometheus", "sql")]
    outputs += [("status", form) for form in ("table", "json", "nagios")]
    for command, form in outputs:
        done = site.run(command, "--format", form)
        assert done.returncode == (1 if command == "status" else 0), (command, form, done.stderr)
        assert done.stderr == ""
        assert done.stdout
        for text in done.stdout.replace("\r\n", "\n").split("\n"):
            assert text.isprintable(), (command, form, text)
        assert "\nconntracker_forged" not in done.stdout
        assert form != "csv" or not re.search(r"(?m)(^|,)\"?=cmd", done.stdout)


def test_22_messages_are_inert(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(5))
    site.write(b"20260302 08:00:05,db01,\x1b[2J,0,CONNECT,\xff\n" + pen.sessions(5))
    hostile = site.logs / "server_audit.log\x1b[2J\nconntracker: forged"
    hostile.write_bytes(b"x")
    hostile.chmod(0)
    command = PLAIN_USER + site.command("--log-level", "DEBUG")
    command[command.index("--audit-log-path") + 1] = str(site.logs / "server_audit.log*")
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1
    for text in done.stderr.splitlines():
        assert text.isprintable(), text
        assert text.startswith("conntracker: ")
    assert "conntracker: forged" not in [text[:19] for text in done.stderr.splitlines()]
    assert "lines not understood" in done.stderr


def cpu_seconds(site: Site) -> float:
    """Collect; return the processor time that it took."""
    before = os.times()
    site.collect()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def flood(pen: Pen, name: bytes, count: int) -> bytes:
    """Write refused logins of one name."""
    return b"".join(pen.session((name, b"203.0.113.9"), b"FAILED_CONNECT", 1045) for _ in range(count))


ATTACKS: dict[str, Callable[[Pen], bytes]] = {
    "a flood of one forged name": lambda pen: flood(
        pen, b"root,localhost,5,0,CONNECT,,,0\n20260302 10:30:00,h,z", 12_000
    ),
    "stamps of all times": lambda pen: b"".join(
        pen.sessions(600) + record(when, (b"root", b"h"), 7) for when in (86400, 250_000_000_000) * 10
    ),
    "stamps that are no times": lambda pen: pen.sessions(20_000).replace(b"20260302", b"20260399"),
    "a line full of marks": lambda pen: (
        (
            b"%b,db01,app0,localhost,%d,0,QUERYX,," % (stamp(pen.instant), pen.number)
            + b",,7,0,CONNECT,,," * 15_000
            + b"x\n"
        )
        * 4
    ),
    "a line full of stamps": lambda pen: (
        (
            (b"%b,db01,app0,localhost,%d,0,QUERYX,," % (stamp(pen.instant), pen.number))
            + b",20260302 08:00:00,x,0,CONNECT,,,0" * 7000
            + b"\n"
        )
        * 4
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_22_hostile_input_does_not_take_time_without_bound(site: Site, pen: Pen, attack: str) -> None:
    site.write(pen.sessions(20) + ATTACKS[attack](pen))
    site.write(pen.sessions(20, prefix=b"after"))
    assert cpu_seconds(site) < 6
    assert {account for account in pen.truth if account[0].startswith(b"after")} <= {*site.logins(), *site.suspects()}
    assert (b"root", b"localhost") not in site.logins()
