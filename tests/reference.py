"""A slow and obvious reading of complete audit logs: what the tracker must store, by the words of its rules.

Nothing here is shared with the program. The logs of a test are given in the order in which they were written;
all of their text is held in memory, split at line ends, and every login is judged.
"""

from __future__ import annotations

import re
from calendar import timegm
from datetime import datetime
from typing import NamedTuple
from typing import Optional

from site_kit import Account
from site_kit import Truth

WINDOW = 65_536
NEIGHBOURS = 16
STRETCH = 16

STAMP = rb"[0-9]{8} [0-9]{2}:[0-9]{2}:[0-9]{2}"
# stamp, serverhost, user, host, connection id, 0, operation, database, object, retcode, perhaps an 11th field
RECORD = re.compile(
    rb"(" + STAMP + rb"),([^,]*),(.*),([^,]*),(-?[0-9]+),0,(CONNECT|FAILED_CONNECT|DISCONNECT|CHANGEUSER),"
    rb"(.*),([^,'`]*),([0-9]+)(?:,(?:[^0-9,'][^,']*)?)?",
    re.DOTALL,
)


PROXIED = re.compile(
    STAMP + rb",[^,]*,.*,[^,]*,-?[0-9]+,0,PROXY_CONNECT,.*,`.*`@`[^`]*`,0(,([^0-9,'][^,']*)?)?", re.DOTALL
)
QUERY_END = re.compile(rb"',[0-9]+(,([^0-9,'][^,']*)?)?\r?$")
# A login with plain names that breaks off before another record.
TORN_LOGIN = re.compile(rb"[^,]*,[^,]*,[^,']*,[^,']*,-?[0-9]+,0,CONNECT,[^']{,400}?(?=[0-9]{8} |[0-9]{4}-?[0-9]{2}-)")


# What rsyslog puts before a record: a stamp, the host, the ident and a text of the operator's.
SYSLOG = re.compile(rb"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9:]{8})(?:\.[0-9]+)?\+00:?00 ([^ ]+) [^:]*: ", re.DOTALL)


class Line(NamedTuple):
    """A line and the place where it starts in the text of all logs."""

    place: int
    text: bytes


class Login(NamedTuple):
    """A CONNECT or FAILED_CONNECT record."""

    line: int
    place: int
    instant: int
    server: bytes
    account: Account
    number: int
    refused: bool


def instant_of(stamp: bytes) -> int | None:
    """Return the instant of a stamp in UTC, or None if there is no such time."""
    text = stamp.decode("ascii")
    day, clock = text[:8], text[9:]
    numbers = [int(day[:4]), int(day[4:6]), int(day[6:]), *map(int, clock.split(":"))]
    try:
        moment = datetime(*numbers)  # type: ignore[arg-type]
    except ValueError:
        return None
    instant = timegm(moment.timetuple())
    return instant if instant > 0 else None  # there was no server before 1970


def client_of(host: bytes) -> bytes:
    """Take the port off a client host as servers from 12.0.1 on log it."""
    if host.startswith(b"["):
        return host[1 : host.index(b"]")] if b"]" in host else host[1:]
    parts = host.split(b":")
    if not parts[-1].isdigit() or len(parts) == 1:
        return host
    ipv6 = len(parts) > 2
    if ipv6 and len(parts[-1]) != 5 and len(parts) != 9:
        return host
    return b":".join(parts[:-1])


def read_record(text: bytes) -> tuple[re.Match[bytes], int] | None:
    """Read one line by the strict grammar, whether it came through syslog or not."""
    text = text.strip(b"\0\r")
    syslog = SYSLOG.match(text)
    if syslog:
        rest = text[syslog.end() - 1 :]
        record = re.search(rb" (" + re.escape(syslog[5]) + rb",.*)", rest, re.DOTALL) or re.search(
            rb" ([^ ,]+,.*)", rest, re.DOTALL
        )
        text = b"%b%b%b %b,%b" % (*syslog.groups()[:4], record[1] if record else b"")
    match = RECORD.fullmatch(text)
    if not match:
        return None
    instant = instant_of(match[1])
    return None if instant is None else (match, instant)


Record = tuple["re.Match[bytes]", int]


def glued_record(text: bytes) -> tuple[bytes, Record | None] | None:
    """Find the last record in a line in which a torn one stands before it: from an inner stamp on.

    Return the torn one, and the record if it is one of those that are read here.
    """
    text = text.strip(b"\0\r")
    for inner in reversed(list(re.finditer(rb"(?=(" + STAMP + rb"),)", text))):
        rest = text[inner.start() :]
        if inner.start() and instant_of(inner[1]) and (read_record(rest) or PROXIED.fullmatch(rest)):
            return text[: inner.start()], read_record(rest)
    return None


def torn_records(torn: bytes) -> list[Record | None]:
    """Read what was torn off behind the mark of a login."""
    if b",0,CONNECT," not in torn:
        return []
    inner = glued_record(torn + b",,0")
    return [read_record(torn + b",,0"), inner[1] if inner else None]


def torn_before_query(text: bytes) -> bytes:
    """Return the login that was torn off before a QUERY record in its line."""
    login = TORN_LOGIN.match(text)
    stamp = re.match(STAMP, text[login.end() :]) if login else None
    followed = stamp and re.match(rb",[^,]*,", text[login.end() + stamp.end() :]) if login else None
    return login[0] if login and stamp and followed and instant_of(stamp[0]) else b""


def account_of(match: re.Match[bytes]) -> Account:
    """Return user and client host of a record."""
    return match[3], client_of(match[4])


def is_login(match: re.Match[bytes]) -> bool:
    """Tell an accepted login; no name holds NUL."""
    return match[6] == b"CONNECT" and int(match[9]) == 0 and b"\0" not in match[3] + match[4]


def most_frequent(names: list[bytes], mine: bytes) -> bytes:
    """Return the name that stands there most often; of equals one's own, else the last by its bytes."""
    return max(names, key=lambda name: (names.count(name), name == mine, name))


class Reading:
    """All lines of all logs, and the logins among them."""

    def __init__(self, logs: list[bytes]) -> None:
        self.lines: list[Line] = []
        self.logins: list[Login] = []
        self.glued: list[tuple[Account, int]] = []
        place = 0
        for log in logs:
            for text in log.split(b"\n")[:-1]:  # what follows the last line end is not complete
                self.take(Line(place, text))
                place += len(text) + 1

    def take(self, line: Line) -> None:
        """Read one line."""
        self.lines.append(line)
        text = line.text
        read, inner, doubtful = read_record(text), glued_record(text), list[Optional[Record]]()
        if inner:
            doubtful = [read, inner[1], *torn_records(inner[0])]
        elif not read and b",0,CONNECT," in text:
            if QUERY_END.search(text):
                doubtful = torn_records(torn_before_query(text))
            elif not PROXIED.fullmatch(text.strip(b"\0\r")):
                doubtful = [read_record(text + b",,0")]  # it breaks off: torn, or a line end in the database
        if read and not inner and (is_login(read[0]) or read[0][6] == b"FAILED_CONNECT"):
            match, instant = read
            place, refused = line.place, not is_login(match)
            server, number = match[2], int(match[5])
            self.logins.append(Login(len(self.lines) - 1, place, instant, server, account_of(match), number, refused))
        self.glued += [(account_of(one[0]), one[1]) for one in doubtful if one and is_login(one[0])]

    def near(self, i: int) -> list[int]:
        """Return the other records within the window around record i."""
        here = self.logins[i].place
        found = []
        for step in (-1, 1):
            j = i + step
            while 0 <= j < len(self.logins) and abs(self.logins[j].place - here) <= WINDOW:
                found.append(j)
                j += step
        return found

    def restarted_between(self, i: int, j: int, judged: int) -> bool:
        """Tell whether ids begin anew between two records that are 2 s apart, and go on from there."""
        if self.logins[j].instant < self.logins[i].instant + 2:
            return False
        for k in range(i + 1, j + 1):
            before, this = self.logins[k - 1], self.logins[k]
            known = k + 1 < len(self.logins) and self.logins[k + 1].place - self.logins[judged].place <= WINDOW
            after = self.logins[k + 1].number if known else this.number
            anew = this.number < before.number or (k == j and this.number == before.number)
            in_time = this.instant >= before.instant - 1
            stays_low = this.number <= 10 or this.number < after <= before.number
            if anew and in_time and 0 <= after - this.number <= 50 and stays_low:
                return True
        return False

    def stands_twice(self, i: int, j: int) -> bool:
        """Tell whether a whole stretch of log stands there twice: 16 different records in a row, all in the window."""
        numbers, within = set(), {i, *self.near(i)}
        for step in (-1, 1):
            a, b = i, j
            while {a, b} <= within and self.logins[a][2:] == self.logins[b][2:]:
                numbers.add(self.logins[a].number)
                if len(numbers) == STRETCH:
                    return True
                a, b = a + step, b + step
        return False

    def shares_its_id(self, i: int) -> bool:
        """Another login or refused login bears the same connection id."""
        return any(
            self.logins[j].number == self.logins[i].number and not self.restarted_between(min(i, j), max(i, j), i)
            for j in self.near(i)
        )

    def stands_by_a_piece(self, i: int) -> bool:
        """The line after is the rest of a name with a line end, or the stamped line before breaks off."""
        at = self.logins[i].line
        following = self.lines[at + 1].text if at + 1 < len(self.lines) else b""
        begins = re.match(rb"[0-9]{4}|[A-Z][a-z]{2} [ 0-9][0-9] |\0|\r?$", following)
        if not begins:
            return True
        previous = self.lines[at - 1].text if at else b""
        stamped = re.match(STAMP + rb",|[0-9]{4}-?[0-9]{2}-?[0-9]{2}T[^ ,]*,", previous)
        ends = re.search(rb",[0-9]*(,(?:[^0-9,'][^,']*)?)?\r?$", previous)
        return bool(stamped and not ends)

    def is_a_stranger(self, i: int) -> bool:
        """Serverhost, time or id do not go with the records around."""
        this = self.logins[i]
        others = sorted(self.near(i))
        before = [self.logins[j] for j in others if j < i][-NEIGHBOURS:]
        after = [self.logins[j] for j in others if j > i][:NEIGHBOURS]
        if not before or not after:
            return False
        usual = [most_frequent([one.server for one in side], this.server) for side in (before, after)]
        if usual[0] == usual[1] != this.server:
            return True
        early, late = before[-1].instant, after[0].instant
        if early <= late + 2 and not early - 2 <= this.instant <= late + 2:
            return True
        numbers = [one.number for one in before + after]
        instants = [one.instant for one in before + after]
        seconds = max(1, max(instants) - min(instants))
        allowed = max(1000, 30 * (max(numbers) - min(numbers)) // seconds)
        return not min(numbers) - allowed <= this.number <= max(numbers) + allowed

    def is_suspect(self, i: int) -> bool:
        """Tell whether the log itself contradicts a login."""
        return self.shares_its_id(i) or self.stands_by_a_piece(i) or self.is_a_stranger(i)


def facts_of(logs: list[bytes]) -> tuple[Truth, dict[Account, int]]:
    """Return first and last certain login of each account, and the newest suspect one where it is newer."""
    reading = Reading(logs)
    certain: Truth = {}
    suspects: dict[Account, int] = {}
    for i, login in enumerate(reading.logins):
        if login.refused:
            continue
        if reading.is_suspect(i):
            suspects[login.account] = max(login.instant, suspects.get(login.account, login.instant))
            continue
        first, last = certain.get(login.account, (login.instant, login.instant))
        certain[login.account] = (min(first, login.instant), max(last, login.instant))
    for account, instant in reading.glued:
        suspects[account] = max(instant, suspects.get(account, instant))
    newer = {
        account: seen for account, seen in suspects.items() if account not in certain or seen > certain[account][1]
    }
    return certain, newer
