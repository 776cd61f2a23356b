"""A slow and obvious reading of complete audit logs: what the tracker must store, by the words of its rules.

Nothing here is shared with the program. The logs of a test are given in the order in which they were written; all of
their text is held in memory and taken line by line. Connection ids are a counter: between two starts of the server
each stands in exactly one record of a login or a refused one. Twice is a forgery, missing is a hole.
"""

from __future__ import annotations

import re
from calendar import timegm
from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from typing import NamedTuple

from site_kit import Account
from site_kit import Truth

REACH = 1000  # ids
KEPT = 10_000  # ids
CONFIRM = 5  # lines
LEAP = 100  # ids
FEW = 20
LOWEST = 50
FIRST_CLIENT = 3
SLOW = 15  # seconds

TWICE = "its connection id stands in two records"
FAR = "its connection id is far from the counter"
STRANGER = "it names another server host"
TORN = "it is glued to a torn record, or breaks off"

STAMP = rb"[0-9]{8} [0-9]{2}:[0-9]{2}:[0-9]{2}"
# host, connection id, 0, operation, database, object, code, perhaps an 11th field
END = (
    rb"([^, ]*),(-?[0-9]{1,10}),0,(CONNECT|FAILED_CONNECT|DISCONNECT|CHANGEUSER),"
    rb"(?:.*),(?:[^,'`]*),([0-9]+)(?:,(?:[^0-9,'][^,']*)?)?"
)
RECORD = re.compile(rb"(" + STAMP + rb"),([^,]*),(.*)," + END, re.DOTALL)
PIECE = re.compile(rb".*," + END, re.DOTALL)
PROXIED = re.compile(
    STAMP + rb",[^,]*,.*,[^,]*,-?[0-9]+,0,PROXY_CONNECT,.*,`.*`@`[^`]*`,0(,([^0-9,'][^,']*)?)?", re.DOTALL
)
QUERY_END = re.compile(rb"',[0-9]+(,([^0-9,'][^,']*)?)?$")
# A login with plain names that breaks off before another record.
TORN_LOGIN = re.compile(rb"[^,]*,[^,]*,[^,']*,[^,']*,-?[0-9]+,0,CONNECT,[^']{,400}?(?=" + STAMP + rb",[^,]*,)")
LOGIN_MARK = b",0,CONNECT,"
BROKEN_OFF = b",,0"  # what may be missing behind the mark of a login

# What rsyslog puts before a record: a stamp, the host, the ident and a text of the operator's.
SYSLOG = re.compile(rb"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9:]{8})(?:\.[0-9]+)?\+00:?00 ([^ ]+) [^:]*: ", re.DOTALL)


class Record(NamedTuple):
    """A line that tells all of a connection."""

    instant: int
    server: bytes
    account: Account
    number: int
    operation: bytes
    code: int

    @property
    def is_login(self) -> bool:
        """Tell an accepted login."""
        return self.operation == b"CONNECT" and self.code == 0


class Line(NamedTuple):
    """A line that ends like the record of a connection; a piece has no record and tells no more than this."""

    number: int
    operation: bytes
    record: Record | None


class Suspect(NamedTuple):
    """A login that does not count."""

    account: Account
    instant: int
    reason: str


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
    bracketed = re.fullmatch(rb"\[([^]]*)\](:[0-9]*)?", host, re.DOTALL)
    if bracketed:
        return bracketed[1]
    parts = host.split(b":")
    if len(parts) > 1 and parts[-1] == b"unavailable":  # a unix socket, by Enterprise 12.3
        return b":".join(parts[:-1])
    if len(parts) == 1 or not parts[-1].isdigit():
        return host
    ipv6 = len(parts) > 2
    if ipv6 and len(parts[-1]) != 5 and len(parts) != 9:
        return host  # a group of the address or a port: it cannot be told here
    return b":".join(parts[:-1]) or host


def number_of(text: bytes) -> int:
    """Return a connection id; the server prints those from 2**31 on as negative."""
    return int(text) % 2**32 if text.startswith(b"-") else int(text)


def stripped(text: bytes) -> bytes:
    """Take off what no record begins or ends with: NULs of a hole, the line end of another system, blanks behind."""
    return text.strip(b"\0\r").rstrip(b" ")


def without_syslog(text: bytes) -> bytes:
    """Write a line that came through syslog as the server's file has it."""
    head = SYSLOG.match(text)
    if not head:
        return text
    rest = text[head.end() - 1 :]
    record = re.search(rb" (" + re.escape(head[5]) + rb",.*)", rest, re.DOTALL) or re.search(
        rb" ([^ ,]+,.*)", rest, re.DOTALL
    )
    return b"%b%b%b %b,%b" % (*head.groups()[:4], record[1] if record else b"")


def read_record(text: bytes) -> Record | None:
    """Read a line by the strict grammar, glued or not."""
    match = RECORD.fullmatch(without_syslog(text))
    if not match or match[6] == b"CHANGEUSER":
        return None
    instant = instant_of(match[1])
    if instant is None or b"\0" in match[3] + match[4]:  # no name holds NUL
        return None
    return Record(instant, match[2], (match[3], client_of(match[4])), number_of(match[5]), match[6], int(match[7]))


def glued_at(text: bytes) -> int:
    """Find where the last record begins in a line in which a torn one stands before it; 0 if there is no such thing."""
    for inner in reversed(list(re.finditer(rb"(?=" + STAMP + rb",)", text))):
        if inner.start() and read_record(text[inner.start() :]):
            return inner.start()
    return 0


def read_line(text: bytes) -> Line | None:
    """Read a line, if it ends like the record of a connection."""
    text = stripped(text)
    match = PIECE.fullmatch(text)
    if not match or match[3] == b"CHANGEUSER":
        return None
    return Line(number_of(match[2]), match[3], None if glued_at(text) else read_record(text))


def readings(text: bytes) -> list[Record | None]:
    """Read a line as a whole, and as a record behind a torn one."""
    begin = glued_at(text)
    return [read_record(text), read_record(text[begin:]) if begin else None]


def torn_logins(text: bytes) -> list[Record]:
    """Return the logins that a damaged line may tell of, and those that are torn off before another record."""
    text = stripped(text)
    found = []
    torn = b""
    if QUERY_END.search(text):
        head = TORN_LOGIN.match(text)
        torn = head[0] if head else b""
    elif read_line(text):
        found = readings(text)
        torn = text[: glued_at(text)]
    elif not PROXIED.fullmatch(text):
        torn = text
    if LOGIN_MARK in torn:
        found += readings(torn + BROKEN_OFF)
    return [record for record in found if record and record.is_login]


@dataclass
class Entry:
    """A line of CONNECT or FAILED_CONNECT in its run."""

    place: int
    number: int
    record: Record | None
    waited: bool = False  # a later record of the run is stamped so much later that nothing can still come
    reason: str = ""

    @property
    def is_login(self) -> bool:
        """Tell a login from a refused one and from a piece."""
        return self.record is not None and self.record.is_login


@dataclass
class Run:
    """What one start of the server wrote; every run but the first in the list is a candidate."""

    first: int
    counter: int
    missing: set[int] = field(default_factory=set)
    early: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)  # those that are not settled
    opening: list[bytes] = field(default_factory=list)  # server hosts of the first records
    leap: int = 0  # where a long step of the ids went
    since_leap: int = CONFIRM  # lines that bear it out
    lines: int = 0  # that bear its ids

    def fits(self, number: int) -> bool:
        """Tell whether an id can be one of this run's."""
        if number < self.first:
            young = self.counter <= self.first + LEAP
            lowest = self.first - (LEAP if self.first <= LEAP else FEW)
            return young and number >= max(lowest, FIRST_CLIENT) and number not in self.early
        if number > self.counter:
            return number - self.counter + len(self.missing) <= REACH
        return number in self.missing

    def bore(self, number: int) -> bool:
        """Tell whether an id was borne, not so long ago that it is settled."""
        if number < self.first:
            return number in self.early
        return self.counter - REACH <= number <= self.counter and number not in self.missing

    def had(self, number: int) -> bool:
        """Tell whether an id was borne, however long ago, or may have been before the first one."""
        return max(LOWEST, self.counter - KEPT) < number <= self.counter and number not in self.missing

    def bear_out(self, number: int) -> None:
        """Take a line as a sign that the last long step of the ids was true, or was not."""
        self.since_leap = self.since_leap + 1 if number >= self.leap else 0

    def add(self, entry: Entry) -> None:
        """Take a line in; its id fits, or begins the run."""
        number = entry.number
        self.lines += entry.record is not None
        if number < self.first:
            self.early.add(number)
        elif number > self.counter:
            if number - self.counter > LEAP:
                self.leap = number if self.since_leap >= CONFIRM else min(self.leap, number)
                self.since_leap = 0
            self.missing |= set(range(self.counter + 1, number))
            self.counter = number
            self.missing = {one for one in self.missing if one >= self.counter - KEPT}
        self.missing.discard(number)
        self.bear_out(number)
        if not entry.is_login:
            self.refused.add(number)
        if entry.record:
            for before in self.entries:
                if before.record and entry.record.instant > before.record.instant + SLOW:
                    before.waited = True
            if self.counter < self.first + REACH:
                self.opening.append(entry.record.server)
        self.entries.append(entry)

    def holds(self, number: int) -> bool:
        """Tell whether an id is one that this run has had."""
        return self.first <= number <= self.counter and number not in self.missing

    def bears(self, number: int) -> list[Entry]:
        """Return the lines of an id that can still be judged."""
        return [entry for entry in self.entries if entry.number == number]

    def host(self) -> bytes | None:
        """Return the server host of the run."""
        names = dict.fromkeys(self.opening)
        return max(names, key=self.opening.count) if names else None  # of equals the one that came first

    def settle(self, *, ended: bool = False) -> list[Entry]:
        """Judge for good, and give away, the lines after which nothing can come that speaks against them."""
        settled: list[Entry] = []
        kept: list[Entry] = []
        for entry in self.entries:
            borne = self.counter - len(self.missing)
            passed = borne > entry.number + REACH and (entry.waited or not entry.record)
            (settled if ended or passed else kept).append(entry)
        for entry in settled:
            if ended and self.since_leap < CONFIRM and entry.number >= self.leap:
                entry.reason = entry.reason or FAR
            if entry.record and entry.record.server != self.host():
                entry.reason = entry.reason or STRANGER
        self.entries = kept
        return settled


class Reading:
    """All lines of all logs, taken one by one."""

    def __init__(self, logs: list[bytes]) -> None:
        self.runs: list[Run] = []
        self.settled: list[Entry] = []  # those of refuted candidates among them
        self.torn: list[Suspect] = []
        self.not_understood = 0
        place = 0
        for log in logs:
            for text in log.split(b"\n")[:-1]:  # what follows the last line end is not complete
                self.take(text, place)
                place += len(text) + 1
        self.judge_for_now()

    def take(self, text: bytes, place: int) -> None:
        """Read one line."""
        line = read_line(text)
        if not (line and line.record):
            torn = torn_logins(text)
            self.torn += [Suspect(record.account, record.instant, TORN) for record in torn]
            bare = stripped(text)
            strange = LOGIN_MARK in bare and not QUERY_END.search(bare) and not PROXIED.fullmatch(bare)
            self.not_understood += strange and (line.operation == b"CONNECT" if line else not torn)
        if line and line.operation == b"DISCONNECT":
            self.leave(line)
        elif line:
            self.come(Entry(place, line.number, line.record))

    def come(self, entry: Entry) -> None:
        """Find the run of a login or a refused one: the oldest that its id fits."""
        number, record = entry.number, entry.record
        fitting = [i for i, run in enumerate(self.runs) if run.fits(number)]
        again = number > LOWEST and any(run.bore(number) for run in self.runs)
        refused = not entry.is_login and bool(self.runs) and self.runs[0].had(number)
        if fitting:
            self.runs[fitting[0]].add(entry)
            self.refute(fitting[0] + 1)
        elif record is None or again or refused:
            entry.reason = TWICE
            # Its line shows that the run is alive.
            if refused or (entry.is_login and number > LOWEST and self.runs and self.runs[0].bore(number)):
                if not entry.is_login:
                    self.runs[0].refused.add(number)
                self.refute(1)
            for run in self.runs:
                for other in run.bears(number):
                    other.reason = other.reason or TWICE
            self.settled.append(entry)
        else:
            self.runs.append(Run(number, number))
            self.runs[-1].add(entry)
        self.confirm()
        if self.runs:
            self.settled += self.runs[0].settle()

    def leave(self, line: Line) -> None:
        """Take the end of a session: that of a refused one tells which run is alive."""
        number = line.number
        for i in reversed(range(len(self.runs))):
            run = self.runs[i]
            if number in run.refused and number >= run.counter - KEPT:
                if number <= LOWEST:
                    run.refused.discard(number)
                run.bear_out(number)
                self.refute(i + 1)
                break
        else:
            bearing = [run for run in self.runs[1:] if run.first <= number and run.bore(number)]
            if line.record is not None and bearing:
                bearing[-1].lines += 1
            if line.record is not None and self.runs and self.runs[0].bore(number):
                self.runs[0].bear_out(number)
        self.confirm()

    def refute(self, begin: int) -> None:
        """Give up the candidates from this one on: an older run is alive."""
        if begin >= len(self.runs):
            return
        for i in range(begin, len(self.runs)):
            for entry in self.runs[i].entries:
                others = [other for run in self.runs[:i] for other in run.bears(entry.number)]
                for one in (entry, *others):
                    one.reason = one.reason or (TWICE if others else FAR)
            self.settled += self.runs[i].entries
        del self.runs[begin:]

    def confirm(self) -> None:
        """Let the oldest candidate be the run that is alive, if enough lines say that the one before has ended."""
        while sum(run.lines for run in self.runs[1:]) >= CONFIRM:
            ended = self.runs.pop(0)
            for entry in ended.entries if ended.first > LOWEST and ended.lines < CONFIRM else ():
                entry.reason = entry.reason or FAR
            self.settled += ended.settle(ended=True)

    def judge_for_now(self) -> None:
        """Judge what is not settled at the end of what was read."""
        if not self.runs:
            return
        alive, candidates = self.runs[0], self.runs[1:]
        for entry in alive.entries:
            if entry.reason or not entry.record:
                continue
            number = entry.number
            if any(other.bears(number) for other in candidates):
                entry.reason = TWICE
            elif alive.since_leap < CONFIRM and number >= alive.leap:
                entry.reason = FAR
            elif entry.record.server != alive.host():
                entry.reason = STRANGER
        for i, run in enumerate(candidates, 1):
            for entry in run.entries:
                twice = any(older.bears(entry.number) for older in self.runs[:i])
                entry.reason = entry.reason or (TWICE if twice else FAR)

    def logins(self) -> list[tuple[Record, str]]:
        """Return every login that is a record, with what speaks against it."""
        entries = self.settled + [entry for run in self.runs for entry in run.entries]
        return [(entry.record, entry.reason) for entry in entries if entry.record and entry.record.is_login]

    def suspects(self) -> list[Suspect]:
        """Return every login that does not count, and why."""
        told = [Suspect(record.account, record.instant, reason) for record, reason in self.logins() if reason]
        return told + self.torn


def facts_of(logs: list[bytes]) -> tuple[Truth, dict[Account, int]]:
    """Return first and last certain login of each account, and the newest suspect one where it is newer."""
    reading = Reading(logs)
    certain: Truth = {}
    for record, reason in reading.logins():
        if not reason:
            first, last = certain.get(record.account, (record.instant, record.instant))
            certain[record.account] = (min(first, record.instant), max(last, record.instant))
    newest: dict[Account, int] = {}
    for account, instant, _ in reading.suspects():
        newest[account] = max(instant, newest.get(account, instant))
    newer = {account: seen for account, seen in newest.items() if account not in certain or seen > certain[account][1]}
    return certain, newer


def suspects_of(logs: list[bytes]) -> list[Suspect]:
    """Return every login that does not count, and why."""
    return Reading(logs).suspects()
