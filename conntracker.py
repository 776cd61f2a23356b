#!/usr/bin/env python3
"""Keep the latest connection of each MariaDB account, read from the audit plugin's logs.

What it does.  Each run reads what is new in the logs of MariaDB's server_audit plugin, and keeps in SQLite,
for each account name and client host, the first and the latest login.  It is made to run from cron on the
database host: no output means that it worked.

What counts as a login.  A CONNECT record with return code 0, in the full grammar of the log: names are
written there raw, so they may hold commas, quotes and any other byte, and SQL text may hold anything that
looks like a record.  Failed logins, the end of a session and queries are no logins.  The plugin leaves the
name out of a successful change of user; what the log tells of those is kept beside the logins.

How it remembers where it was.  The facts kept are the earliest and the latest instant of each account, so
reading a record twice changes nothing, and only a record that is never read can harm.  Each log file is known
by its device, inode, first bytes and the bytes before the last position.  A file is continued only if all of
them agree; else it is looked for among the other files (renamed by a rotation, compressed, copied), else it
is read from its start.  What can be found nowhere is stored as a gap.  Facts and positions are committed in
one transaction, so a run that dies leaves the database as it was.

What may be forged.  Whoever reaches the server's port can write whole lines into the log by way of the user
name.  A login that the log itself contradicts is kept apart as suspect: see the section "Judge".  To judge a
record takes the records after it, so what the last bytes of the live log say is kept apart as well, and is
replaced by the next run.

What it cannot know.  The log names the client's host and never the account's host pattern; logins made while
auditing was off, or written to a disk that was full, are in no log; a name that holds a line end is cut in two.

Exit codes: 0 it worked (or another run is at work); 1 something could not be read or written, said in one
line on stderr; what could be read is kept and the next run goes on from there; 2 an option or the
configuration is wrong.  `status` has its own: 0 good, 1 warning, 2 critical.
"""

from __future__ import annotations

import atexit
import bisect
import contextlib
import errno
import fcntl
import functools
import gc
import heapq
import itertools
import marshal
import operator
import os
import re
import select
import sqlite3
import stat
import sys
import time
from collections import Counter
from collections import namedtuple
from collections.abc import Callable
from datetime import datetime
from datetime import timedelta
from datetime import timezone
from datetime import tzinfo

# Cron starts this every few minutes, mostly to find little that is new: what a start costs is most of what a run
# costs.  So modules that only some runs need are imported where they are needed, and `typing` is never: type checkers
# take a variable of this name as true.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Mapping
    from collections.abc import Sequence
    from typing import IO
    from typing import Any
    from typing import AnyStr
    from typing import ClassVar
    from typing import NamedTuple
    from typing import NoReturn
    from typing import TypeVar
    from typing import cast

    _T = TypeVar("_T")
    _Rows = Mapping[str, Sequence[Sequence[bytes]]]  # of an answer of the server, by tag
else:
    Any = object

    def cast(_kind, value):
        """Stand for the function in `typing`."""
        return value

    class _Fields(type):
        """Makes a named tuple of a class that lists its fields as `typing.NamedTuple` wants them."""

        def __new__(cls, name, bases, members):
            fields = members.pop("__annotations__", None)
            if fields is None:
                return super().__new__(cls, name, bases, members)
            made = namedtuple(name, fields, defaults=[members.pop(field) for field in fields if field in members])
            for member, value in members.items():
                setattr(made, member, value)
            return made

    class NamedTuple(metaclass=_Fields):
        """Stands for the class in `typing`."""


__version__ = "1.0.0"

DEFAULT_CONFIG = "/etc/conntracker/conntracker.ini"

# Bytes read at once.
BLOCK = 128 * 1024
# Bytes of one unit of work for a worker process.
TASK = 16 * 1024 * 1024
# Bytes of a unit of work of which all records may be held at once.
SMALL_TASK = 10 * BLOCK
# Bytes of new log below which one process does it all: starting a second one would not pay.
PARALLEL_FROM = 24 * 1024 * 1024
# Bytes before and after a record that are looked at to judge it (section "Judge").
WINDOW = 64 * 1024
# No record of a connection is longer: four names of at most 3 * 128 bytes, or an error message in place of one.
LONGEST_RECORD = 8 * 1024
# Bytes that a compressed log keeps of what it gave, for the windows of two neighbouring blocks overlap.
KEPT = 2 * (BLOCK + WINDOW)
# Logs of which a process keeps what it has learnt: names, the instants of stamps, the place in a compressed log.
LOGS_IN_MEMORY = 4
# Bytes kept of a file's start, and of those before a position, to know the file again.
FINGERPRINT = 256
# Names that are looked for one by one in a block; more are looked up in what the block tells.
MANY_NEEDLES = 40
# Accounts held in memory before they are handed to SQLite.
MANY_ACCOUNTS = 50_000

DAY = 86400
# Older than this, an inventory or a run of the tracker no longer tells the present state.
FRESH_SECONDS = 2 * DAY
# Stamps may be this far ahead of our clock (another clock, an hour of daylight saving) before we doubt them.
CLOCK_SLACK = 3600
SHOWN_HOSTS = 5
TABLE_WIDTH = 100
REPORT_SCHEMA = 1
SYSTEM_USERS = frozenset({b"root", b"mysql", b"mariadb.sys"})
VERDICTS = ("never", "stale", "unknown", "active")


# ---------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------


class ConntrackerError(Exception):
    """What went wrong, in the user's terms; `exit_code` is the process's."""

    exit_code = 1


class ConfigError(ConntrackerError):
    """An option or the configuration file is wrong."""

    exit_code = 2


class DatabaseError(ConntrackerError):
    """The SQLite database cannot be read or written."""


class InventoryError(ConntrackerError):
    """The server (or the accounts file) did not give the inventory."""


class LogError(ConntrackerError):
    """An audit log cannot be found or read."""


# ---------------------------------------------------------------------------------------------------------
# Regular expressions
# ---------------------------------------------------------------------------------------------------------


class _Expression:
    """A regular expression that is compiled when it is used first, for a run uses few of them."""

    def __init__(self, pattern: Any, flags: int) -> None:
        self.made_of = pattern, flags

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(*self.made_of)
        for method in ("match", "fullmatch", "search", "finditer"):
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def expression(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Give a regular expression that is compiled when it is used first."""
    return cast("re.Pattern[AnyStr]", _Expression(pattern, flags))


# ---------------------------------------------------------------------------------------------------------
# Grammar of the log: pure functions over bytes
# ---------------------------------------------------------------------------------------------------------
#
# A record is one line: stamp,serverhost,user,host,connection id,query id,operation,database,object,retcode
# (plugin/server_audit/server_audit.c, log_header and the functions that call it).  Nothing but the SQL text
# of a QUERY record is escaped, so a record is read from both ends: a host name has no comma, hence the user is
# what stands between "stamp,serverhost," and the LAST ",host,id,0,OPERATION,".  The query id of a connection's
# record is 0.  `object` is empty, or from 12.0.1 on the TLS version; some builds add an 11th field with it.
# SQL text cannot end like that, as a quote, a comma and the return code follow it, nor can a PROXY_CONNECT record,
# whose object is an account in backquotes.

LOGIN_MARK = b",0,CONNECT,"
PROXY_MARK = b",0,PROXY_CONNECT,"
CHANGE_MARK = b",0,CHANGEUSER,"

REFUSED_MARK = b",0,FAILED_CONNECT,"
# How most QUERY records end, and nothing else; their SQL text may hold the marks.
QUERY_END = b"',0"
# How a QUERY record ends: its text in quotes, then the return code (and in some builds the TLS version).
_QUERY_END = expression(rb"',[0-9]+(?:,(?:[^0-9,'][^,']*)?)?\r?$")
# What follows the mark in the line of a login, and in that of a refused one: database, object, return code.
_LOGIN_END = expression(rb"[^,]*,[^,'`]*,0+(?:,(?:[^0-9,'][^,']*)?)?\r?")
_REFUSED_END = expression(rb"[^,]*,[^,'`]*,[0-9]+(?:,(?:[^0-9,'][^,']*)?)?\r?")
_STAMPED = expression(rb"[0-9]{8} [0-9]{2}:[0-9]{2}:[0-9]{2},|[0-9]{4}-?[0-9]{2}-?[0-9]{2}T[^ ,]*,")
# A whole record's last fields: the object and the return code, which TABLE records leave empty.
_COMPLETE = expression(rb",[0-9]*(?:,(?:[^0-9,'][^,']*)?)?\r?$")

_HEAD = expression(rb"([^,]*),([^,]*),(.*)", re.DOTALL)
# What stands before the database and the end of a record; it is the last such place in a line that counts.
_OPERATION = expression(
    rb".*,(?P<host>[^,]*),(?P<id>-?[0-9]+),0,(?P<operation>CONNECT|FAILED_CONNECT|DISCONNECT|CHANGEUSER),", re.DOTALL
)
_PROXY_OPERATION = expression(rb".*,(?P<host>[^,]*),(?P<id>-?[0-9]+),0,PROXY_CONNECT,", re.DOTALL)
# rsyslog's two forms of a line; after "ident: " comes server_audit_syslog_info, a blank and the record.
_SYSLOG = expression(
    rb"(?P<stamp>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9]{2}:?[0-9]{2})"
    rb"|[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}) (?P<loghost>[^ ]+) [^:]*:(?P<rest> .*)",
    re.DOTALL,
)
_FIRST_WORD_BEFORE_COMMA = expression(rb" ([^ ,]+),")
# A second stamp within a line: the record before it was torn off, by a full disk or a crash.
_INNER_STAMP = expression(
    rb"(?<=.)([0-9]{8} [0-9]{2}:[0-9]{2}:[0-9]{2}|[0-9]{4}-?[0-9]{2}-?[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9:]+)?),"
    rb"(?=([^,]*),)",
    re.DOTALL,
)
# How a line begins that is no record of an audit log or of a syslog.
_NO_RECORD = expression(rb"\n(?![0-9]{4}|[A-Z][a-z]{2} [ 0-9][0-9] |\0|\r?\n|\Z)")


class Record(NamedTuple):
    """A connection's record: names as logged, `host` without port."""

    stamp: bytes
    serverhost: bytes
    user: bytes
    host: bytes
    connection: int
    operation: bytes
    retcode: int

    @property
    def is_login(self) -> bool:
        """Tell an accepted login."""
        return self.operation == b"CONNECT" and not self.retcode


def without_port(host: bytes) -> bytes:
    """Take the port off a client host as servers from 12.0.1 on log it.

    `name:port`, `1.2.3.4:port` and `[v6]:port` are told by their form.  Of a bare IPv6 address the last group
    is a port if it has five digits or is one group too many, as an address has at most eight of four digits.
    """
    if host.startswith(b"["):
        return host[1:].partition(b"]")[0]
    before, colon, port = host.rpartition(b":")
    if not colon or not port.isdigit():
        return host
    if b":" not in before or len(port) == 5 or before.count(b":") == 7:
        return before
    return host


def split_line(line: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return a line's stamp, serverhost and the rest from the user on, or None if it is no record at all."""
    syslog = _SYSLOG.fullmatch(line)
    if syslog:
        stamp, loghost, rest = syslog.group("stamp", "loghost", "rest")
        at = rest.find(b" " + loghost + b",")
        if at < 0:
            word = _FIRST_WORD_BEFORE_COMMA.search(rest)
            return word and (stamp, word[1], rest[word.end() :])
        return stamp, loghost, rest[at + len(loghost) + 2 :]
    head = _HEAD.fullmatch(line)
    return head and (head[1], head[2], head[3])


class Operation(NamedTuple):
    """The part of a record that follows the user; `begin` is where the user ends, the rest is as in `Record`."""

    begin: int
    user: bytes | None  # None: what stands before `begin`
    host: bytes
    connection: int
    operation: bytes
    retcode: int


def find_operation(text: bytes) -> Operation | None:
    """Find what follows the user in a line without line end, reading from its end; in time that grows as its length."""
    fields = text.rsplit(b",", 3)
    eleventh = b""
    if len(fields) == 4 and not fields[3].isdigit() and b"'" not in fields[3] and not fields[3][:1].isdigit():
        eleventh = b"," + fields.pop()
    retcode, name = fields[-1], fields[-2] if len(fields) > 2 else b"'"
    text = text[: len(text) - len(eleventh) - len(retcode) - 1]
    if not retcode.isdigit():
        return None
    if b"'" not in name and b"`" not in name:
        match = _OPERATION.match(text, 0, len(text) - len(name) - 1)
        if match:
            host = without_port(match["host"])
            return Operation(match.start("host") - 1, None, host, int(match["id"]), match["operation"], int(retcode))
    return _find_proxy_operation(text) if retcode == b"0" and text.endswith(b"`") else None


def _find_proxy_operation(text: bytes) -> Operation | None:
    """Find what follows the user in a PROXY_CONNECT record, of which the return code was taken off."""
    at = text.rfind(b"`@`", 0, len(text) - 1)
    match = _PROXY_OPERATION.match(text, 0, max(0, text.rfind(b",`", 0, max(0, at))))
    if not match or b"`" in text[at + 3 : -1]:
        return None
    user = text[text.find(b",`", match.end()) + 2 : at]
    return Operation(match.start("host") - 1, user, text[at + 3 : -1], int(match["id"]), b"PROXY_CONNECT", 0)


def parse_connection(line: bytes) -> Record | None:
    """Read one line (no line end) as the record of a connection, or return None.

    A PROXY_CONNECT record gives the account row that was really used as user and host.
    """
    parts = split_line(line.strip(b"\0\r"))
    found = find_operation(parts[2]) if parts else None
    if not parts or not found:
        return None
    stamp, serverhost, rest = parts
    user = rest[: found.begin] if found.user is None else found.user
    return Record(stamp, serverhost, user, *found[2:])


def parse_glued(line: bytes, clock: Clock) -> tuple[bytes, Record] | None:
    """Read the last record of a line in which a torn record stands before it; None if there is no such thing.

    Return what is left of the torn one, and the record.  A server stamps a record with a time: what only looks like
    a stamp is a piece of a name.
    """
    line = line.strip(b"\0\r")
    stamps = list(_INNER_STAMP.finditer(line))
    found = find_operation(line) if stamps else None
    if found:
        for inner in reversed(stamps):
            stamp, serverhost = inner.groups()
            if inner.end(2) < found.begin and clock.find(stamp):
                user = line[inner.end(2) + 1 : found.begin] if found.user is None else found.user
                return line[: inner.start()], Record(stamp, serverhost, user, *found[2:])
    return None


def key_of(record: Record) -> bytes:
    """Return the name of a login's facts, b"user,host"; a host has no comma, so the last one parts them."""
    return record.user + b"," + record.host


def needle_of(name: bytes) -> bytes:
    """Return what stands in each login of a b"user,host": an IPv6 address may stand in brackets."""
    user, _, host = name.rpartition(b",")
    return b",%b," % user if b":" in host else b",%b,%b" % (user, host)


def decoded(name: bytes) -> str:
    r"""Return a name as text: bytes that are not UTF-8 as \xNN, all else as it is."""
    return name.decode("utf-8", "backslashreplace")


# ---------------------------------------------------------------------------------------------------------
# Clock: the log's local stamps to instants, instants to text
# ---------------------------------------------------------------------------------------------------------
#
# The log has the server's local time without zone, cut to the second.  Facts are kept as instants (seconds
# since 1970-01-01 UTC), because local time repeats an hour in autumn.

# Directive of strftime, element of a Go reference layout, and what it matches in a stamp.
_DIRECTIVES = """
%B   January  [A-Z][a-z]{2,8}
%b   Jan      [A-Z][a-z]{2}
%A   Monday   [A-Z][a-z]{5,8}
%a   Mon      [A-Z][a-z]{2}
%Z   MST      [A-Za-z0-9+-]{1,6}
%Y   2006     [0-9]{4}
%:z  Z07:00   Z|[+-][0-9]{2}:[0-9]{2}
%z   Z0700    Z|[+-][0-9]{2}:?[0-9]{2}
%:z  -07:00   Z|[+-][0-9]{2}:[0-9]{2}
%z   -0700    Z|[+-][0-9]{2}:?[0-9]{2}
%m   01       [0-9]{2}
%d   02       [0-9]{2}
%I   03       [0-9]{2}
%M   04       [0-9]{2}
%S   05       [0-9]{2}
%y   06       [0-9]{2}
%H   15       [0-9]{2}
%p   PM       [AP]M
%e   _2       [ 0-9][0-9]
%f   .000000  [.,][0-9]{1,9}
%-m  1        [0-9]{1,2}
%-d  2        [0-9]{1,2}
%-I  3        [0-9]{1,2}
%-M  4        [0-9]{1,2}
%-S  5        [0-9]{1,2}
"""
_GO_TO_DIRECTIVE: dict[str, str] = {}
_MATCHED = {"%%": "%"}
for _line in _DIRECTIVES.splitlines()[1:]:
    _directive, _go, _matched = _line.split(None, 2)
    _GO_TO_DIRECTIVE[_go] = _directive
    _MATCHED[_directive] = f"({_matched})"
_GO_FRACTION = expression(r"[.,](?:0+|9+)(?![0-9])")
_STRFTIME_ELEMENT = expression(r"%:z|%-?[A-Za-z%]")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _go_element(text: str, at: int) -> tuple[str, str]:
    """Return the element of a Go reference layout that begins at a place, and its directive; '' if there is none.

    The directive of a fraction is `%f` between its separator and its number of digits.
    """
    if text[at] in ".,":
        match = _GO_FRACTION.match(text, at)
        found = match[0] if match else ""
        return found, f"{found[:1]}%f{len(found) - 1}"
    found = next((element for element in _GO_TO_DIRECTIVE if text.startswith(element, at)), "")
    return found, _GO_TO_DIRECTIVE.get(found, "")


def _strftime_element(text: str, at: int) -> tuple[str, str]:
    """Return the directive that begins at a place, twice; ValueError if it is not known here."""
    match = _STRFTIME_ELEMENT.match(text, at)
    found = match[0] if match else ""
    if found and found not in _MATCHED:
        raise ValueError(f"{found} is not known here")
    return found, found


class Layout:
    """A time format, as a Go reference layout or for strftime (with a `%`).

    `elements` are literals and directives in turn.  ValueError if no element of a time is there, or one that is not
    known here.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        element_at = _strftime_element if "%" in text else _go_element
        elements, at = [""], 0
        while at < len(text):
            found, directive = element_at(text, at)
            if found:
                elements += [directive, ""]
            else:
                elements[-1] += text[at]
            at += len(found) or 1
        if len(elements) == 1:
            raise ValueError("it has no element of a time")
        self.elements = tuple(elements)

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """What matches a stamp, with a group for each directive."""
        parts = list(map(re.escape, self.elements))
        parts[1::2] = [_MATCHED.get(directive, _MATCHED["%f"]) for directive in self.elements[1::2]]
        return re.compile("".join(parts))

    @property
    def width(self) -> int:
        """Length of a stamp in bytes, 0 if it varies."""
        widths = {"%Y": 4, "%:z": 6, "%z": 5, "%p": 2, "%b": 3, "%a": 3}
        total = sum(len(literal) for literal in self.elements[::2])
        for directive in self.elements[1::2]:
            if directive[0] != "%" or directive[1] in "-fABZz":
                return 0
            total += widths.get(directive, 1 if directive == "%%" else 2)
        return total

    @property
    def sortable(self) -> bool:
        """Tell whether the order of stamps as text is their order in time."""
        return self.width > 0 and self.elements[1::2] == ("%Y", "%m", "%d", "%H", "%M", "%S")

    def parse(self, text: str) -> tuple[dict[str, int], timedelta | None] | None:
        """Return what a stamp says of year, month, ... and its offset from UTC, or None if it has another form."""
        match = self.pattern.fullmatch(text)
        if not match:
            return None
        values: dict[str, int] = {}
        offset: timedelta | None = None
        directives = [e for e in self.elements[1::2] if e != "%%"]
        for directive, value in zip(directives, match.groups()):
            letter = directive.replace("-", "")[-1] if "%f" not in directive else "f"
            if letter == "z":
                offset = _offset(value)
            elif letter in "bB":
                if value[:3] not in _MONTHS:
                    return None
                values["m"] = _MONTHS.index(value[:3]) + 1
            elif letter == "p":
                values["p"] = 12 if value == "PM" else 0
            elif letter not in "aAZf":
                values[{"e": "d"}.get(letter, letter)] = int(value)
        return values, offset

    def format(self, moment: datetime) -> str:
        """Write an aware time; the seconds have no fraction."""
        parts = list(self.elements)
        for i, directive in enumerate(parts):
            if directive == "%:z":
                zone = moment.strftime("%z")
                parts[i] = zone[:3] + ":" + zone[3:5]
            elif "%f" in directive:
                parts[i] = directive[0] + "0" * int(directive[3:] or 0) if directive != "%f" else "000000"
        return moment.strftime("".join(parts))


def _offset(text: str) -> timedelta:
    """Read an offset from UTC such as Z, +0200 or -07:00."""
    if text == "Z":
        return timedelta(0)
    digits = text[1:].replace(":", "")
    size = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]))
    return -size if text[0] == "-" else size


def _moment(values: dict[str, int], year: int) -> datetime:
    """Make a naive time of a stamp's values; ValueError where there is no such time."""
    if "I" in values:
        values["H"] = values["I"] % 12 + values.get("p", 0)
    if "y" in values:
        year = 2000 + values["y"]
    second = values.get("S", 0)
    second -= second == 60
    return datetime(values.get("Y", year), values["m"], values["d"], values["H"], values["M"], second)


# The forms tried after the configured one: the plugin's own, ISO 8601 as of 12.x and rsyslog, and rsyslog's old one.
_KNOWN_LAYOUTS = (
    "%Y%m%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S%f%:z",
    "%Y-%m-%dT%H:%M:%S%:z",
    "%Y%m%dT%H:%M:%S%f%z",
    "%b %e %H:%M:%S",
)
_SHORTEST_STAMP = len("Jan  2 15:04:05")


@functools.cache
def _known_layout(text: str) -> Layout:
    return Layout(text)


def _with_offset(naive: datetime, offset: timedelta) -> int:
    """Return the instant of a local time that is so far ahead of UTC."""
    return int((naive - offset).replace(tzinfo=timezone.utc).timestamp())


def epoch(naive: datetime, zone: tzinfo | None, fold: int) -> int:
    """Return the instant of a local time in a zone (None: the system's); `fold` 1 is the second of two."""
    return int((naive.replace(tzinfo=zone, fold=fold) if zone else naive.replace(fold=fold)).timestamp())


def local(instant: int, zone: tzinfo | None) -> datetime:
    """Return the aware local time of an instant in a zone (None: the system's)."""
    return datetime.fromtimestamp(instant, zone) if zone else datetime.fromtimestamp(instant, timezone.utc).astimezone()


class Clock(dict[bytes, int]):
    """The instants of a log's stamps, remembered, as a second holds many records.

    `fold` 1 reads the hour that autumn repeats as its second pass; `written` is an instant at which the file
    had been written, from which the year of a stamp without one follows.  A stamp that no layout fits raises
    ValueError.
    """

    def __init__(self, layout: Layout, zone: tzinfo | None, fold: int = 0, written: int = 0) -> None:
        self.layouts = (layout,)
        self.zone, self.fold, self.written = zone, fold, written
        self.minutes: dict[bytes, int] = {}
        self.steady: dict[tuple[int, int], bool] = {}
        self.no_times: set[bytes] = set()

    def __missing__(self, stamp: bytes) -> int:
        if len(self) + len(self.no_times) > 16384:
            self.clear()
            self.minutes.clear()
            self.steady.clear()
            self.no_times.clear()
        text = stamp.rpartition(b"\n")[2].lstrip(b"\0")
        minute, seconds = text[:-2], text[-2:]
        start = self.minutes.get(minute)
        if start is not None and seconds.isdigit() and seconds < b"60":
            instant = start + int(seconds)
        else:
            instant = self._read(stamp, text)
            if minute.endswith(b":") and seconds < b"60":
                self.minutes[minute] = instant - int(seconds)
        self[stamp] = instant
        return instant

    def find(self, stamp: bytes) -> int | None:
        """Return the instant of a stamp; None if it is no time."""
        try:
            return self[stamp]
        except ValueError:
            return None

    def is_steady(self, low: int, high: int) -> bool:
        """Tell that local time keeps its distance from UTC between two instants: a change lasts for days."""
        if high - low > 400 * DAY:  # no log is; but anybody can forge a stamp
            return False
        quarters = low // 900, high // 900 + 1
        steady = self.steady.get(quarters)
        if steady is None:
            low, high = (quarter * 900 for quarter in quarters)
            offsets = {local(instant, self.zone).utcoffset() for instant in (*range(low, high, DAY), high)}
            steady = self.steady[quarters] = len(offsets) == 1
        return steady

    def _read(self, stamp: bytes, text: bytes) -> int:
        if stamp not in self.no_times:
            with contextlib.suppress(ValueError):
                known = _KNOWN_LAYOUTS if len(text) >= _SHORTEST_STAMP else ()
                for layout in itertools.chain(self.layouts, map(_known_layout, known)):
                    parsed = layout.parse(text.decode("ascii"))
                    if parsed and (instant := self._instant(*parsed)) >= 0:
                        return instant
            self.no_times.add(stamp)
        raise ValueError(f"not a time: {text!r}")

    def _instant(self, values: dict[str, int], offset: timedelta | None) -> int:
        year = local(self.written, self.zone).year
        if offset is not None:
            return _with_offset(_moment(values, year), offset)
        instant = epoch(_moment(values, year), self.zone, self.fold)
        if not {"Y", "y"} & values.keys() and instant > self.written + DAY:
            instant = epoch(_moment(values, year - 1), self.zone, self.fold)
        return instant


def repeats(naive: datetime, zone: tzinfo | None) -> bool:
    """Tell whether a local time comes twice."""
    return epoch(naive, zone, 0) < epoch(naive, zone, 1)


# ---------------------------------------------------------------------------------------------------------
# Log files: bytes by offset, plain or compressed
# ---------------------------------------------------------------------------------------------------------

COMPRESSIONS = (".gz", ".bz2", ".xz")


class LogFile:
    """An open audit log.  What cannot be read ends it, and `broken` says why.

    `size` is in bytes of log text, 0 for a compressed log until its end was read; `head` its first bytes;
    `start` and `end` bound what is to be read; `tail` is where the part starts that the next run reads again;
    `live` tells that the server may still write to it; `first` and `last` are the instants of its first and its
    last record.  `before` and `after` are the logs that were written before and after it.
    """

    _streaming: ClassVar[list[LogFile]] = []  # those that are being decompressed, the one begun last at the end

    def __init__(self, path: str, descriptor: int) -> None:
        """Take an open file; raises OSError."""
        status = os.fstat(descriptor)
        self.path, self.descriptor = path, descriptor
        self.device, self.inode = status.st_dev, status.st_ino
        self.stored_size, self.modified = status.st_size, status.st_mtime_ns
        self.compressed = path.endswith(COMPRESSIONS)
        self.size = 0 if self.compressed else status.st_size
        self.head = b""
        self.start = self.tail = self.end = 0
        self.live = self.unchanged = False
        self.known: Known | None = None
        self.first: int | None = None
        self.last: int | None = None
        self.before: LogFile | None = None
        self.after: LogFile | None = None
        self.broken = ""
        self._stream: IO[bytes] | None = None
        self._pieces: list[bytes] = []
        self._passed = 0  # bytes of log text before the pieces

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes of log text from `offset`; less only at the end."""
        try:
            if self.compressed:
                return self._decompress(offset, size)
            cold = _not_cached(self.descriptor, offset)
            data = os.pread(self.descriptor, size, offset)
            if cold:
                os.posix_fadvise(self.descriptor, offset, len(data), os.POSIX_FADV_DONTNEED)
        except Exception as error:  # each compression has errors of its own
            self.broken = str(error) or type(error).__name__
            return self._salvage(offset, size) if self.compressed else b""
        return data

    def _salvage(self, offset: int, size: int) -> bytes:
        """Return what a damaged compressed log still gives: a large read that meets the damage gives nothing."""
        self.rewind()
        text, position = b"", 0
        with contextlib.suppress(Exception):
            stream = cast("Any", _open_compressed(self.path, self.descriptor))
            while position < offset + size and (piece := stream.read1(min(WINDOW, offset + size - position))):
                text += piece[max(0, offset - position) :]
                position += len(piece)
        return text

    def fingerprint(self, end: int) -> bytes:
        """Return the last bytes before a place, to know it again."""
        kept = min(FINGERPRINT, end)
        return self.read(end - kept, kept)

    def rewind(self) -> None:
        """Forget the place in a compressed log."""
        self._stream, self._pieces, self._passed = None, [], 0

    def _begin_stream(self) -> IO[bytes]:
        """Begin to read a compressed log from its start; of other logs only those read last keep their place."""
        others = [log for log in self._streaming if log is not self]
        for log in (self, *others[: 1 - LOGS_IN_MEMORY]):
            log.rewind()
        self._streaming[:] = [*others[1 - LOGS_IN_MEMORY :], self]
        return _open_compressed(self.path, self.descriptor)

    def tail_text(self, size: int) -> bytes:
        """Return the whole lines in the last `size` bytes."""
        if self.compressed and self.end == sys.maxsize:
            self.end = self.tail = self._length()
        start = max(0, self.end - size)
        text = self.read(start, self.end - start)
        return text[text.find(b"\n") + 1 if start else 0 : text.rfind(b"\n") + 1]

    def _length(self) -> int:
        """Return the length of a compressed log's text."""
        position = 0
        while data := self.read(position, BLOCK):
            position += len(data)
        return position

    def _decompress(self, offset: int, size: int) -> bytes:
        """Read on in the stream, which keeps its last pieces; what lies further back costs a new start."""
        if self._stream is None or offset < self._passed:
            self._stream = self._begin_stream()
        end = self._passed + sum(map(len, self._pieces))
        while end < offset + size and (piece := self._stream.read(BLOCK)):
            self._pieces.append(piece)
            end += len(piece)
            while self._passed + len(self._pieces[0]) < min(offset, end - KEPT):
                self._passed += len(self._pieces.pop(0))
        parts, begin = [], self._passed
        for piece in self._pieces:
            parts.append(piece[max(0, offset - begin) : max(0, offset + size - begin)])
            begin += len(piece)
        return b"".join(parts)


def _not_cached(descriptor: int, offset: int) -> bool:
    """Tell that the page at `offset` is not in the page cache, where the file system can say it."""
    try:
        os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _open_compressed(path: str, descriptor: int) -> IO[bytes]:
    """Open a compressed log from its start; a module is loaded only where it is needed."""
    raw = os.fdopen(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY), "rb")
    if path.endswith(".gz"):
        import gzip

        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if path.endswith(".bz2"):
        import bz2

        return bz2.BZ2File(raw)
    import lzma

    return lzma.LZMAFile(raw)


def blocks(log: LogFile, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    r"""Yield the lines from `start` to `end` in pieces: offsets of start and end, and b"\n" with the lines.

    Of a line longer than a block only the last bytes are given, as no record of a connection is that long.
    """
    position, rest = start, b""
    while position < end:
        # The byte before a line is a line end: read with it, the block needs no second copy.
        lead = int(position > 0 and not rest)
        data = log.read(position - lead, min(BLOCK, end - position) + lead)
        if len(data) <= lead:
            break
        stop = position - lead + len(data)
        cut = data.rfind(b"\n") + 1 if stop < end else len(data)
        if cut <= lead:
            rest, position = (rest + data[lead:])[-LONGEST_RECORD:], stop
            continue
        # A log that was rewritten meanwhile may have something else there.
        piece = data[:cut] if lead and data[:1] == b"\n" else b"\n" + rest + data[lead:cut]
        position, rest = stop - len(data) + cut, b""
        yield position - len(piece) + 1, position, piece if piece.endswith(b"\n") else piece + b"\n"
    if rest:
        yield position - len(rest), position, b"\n" + rest + b"\n"


def line_start(log: LogFile, offset: int) -> int:
    """Return where the first line starts that starts at `offset` or later; the log's end if there is none."""
    position = max(0, offset - 1)
    while offset > 0:
        data = log.read(position, WINDOW)
        found = data.find(b"\n")
        if found >= 0 or not data:
            return position + found + 1
        position += len(data)
    return 0


def last_line_end(log: LogFile) -> int:
    """Return where the last whole line of a plain log ends."""
    position = log.size
    while position > 0:
        start = max(0, position - WINDOW)
        found = log.read(start, position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def marked_lines(text: bytes, mark: bytes, low: int = 0, high: int = sys.maxsize) -> Iterator[tuple[int, bytes]]:
    r"""Yield position and bytes of each line of `text` (which starts with b"\n") that holds `mark` in [low, high)."""
    at = text.find(mark, low, high)
    while at >= 0:
        begin, end = text.rfind(b"\n", 0, at) + 1, text.find(b"\n", at)
        yield begin, text[begin:end]
        at = text.find(mark, end, high)


# ---------------------------------------------------------------------------------------------------------
# Scan: who logged in within a block of lines, and when
# ---------------------------------------------------------------------------------------------------------
#
# Why it is fast and yet exact.  The facts wanted are the first and the latest login of each name and client host.
# So a block of lines is only asked who logged in there, and between which instants.  Every login bears the mark
# ",0,CONNECT,".  What stands before it, from the line end before its line and without the digits of the id, is its
# tail: line end, stamp and the middle ",serverhost,user,host,".  The set of the middles tells who, min and max of the
# tails tell when.  No line is looked at for more, until its block turns out to be the first or the latest to name
# somebody (section "Work"): only there are lines read by the strict grammar, and judged.
#
# The mark is found in two ways: where it is dense, bytes.rsplit cuts the block at all marks at once; else rfind goes
# from mark to mark, and passes over queries.  Both search from the right, where CPython needs no table for the mark
# (Objects/stringlib/fastsearch.h), and pass over 3 to 5 GB/s.  A tail that is not of the plain form, for whatever
# reason (a name holds the mark, SQL text holds it, the line is torn), is "odd": its line is read by the strict grammar
# at once.  So is that of a tail with a new middle, unless its line ends like that of a login.


Place = tuple[int, int, int]  # number of a task (section "Work"), offsets of start and end of a block of its lines


class View:
    """What a block tells: names that may have logged in, all between two instants, and lines that are no records."""

    __slots__ = ("high", "low", "names", "not_understood", "torn")

    def __init__(self) -> None:
        self.names: set[bytes] = set()
        self.low, self.high = sys.maxsize, -1
        self.torn: list[Doubt] = []
        self.not_understood: list[int] = []  # offsets

    def span(self, *instants: int) -> None:
        """Take instants in."""
        self.low, self.high = min(self.low, *instants), max(self.high, *instants)


class Doubt(NamedTuple):
    """A login that is not believed: b"user,host", instant, offset in the log and the reason in words."""

    name: bytes
    instant: int
    offset: int
    reason: str


TORN = "it is glued to a torn record, or breaks off"


class Scanner:
    """Looks at the blocks of one log, and remembers what suits it: how dense logins are, and what names mean."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        layout = clock.layouts[0]
        # Bytes of line end and stamp.  Stamps that cannot be compared as text make every tail an odd one.
        self.width = layout.width + 1 if layout.sortable else sys.maxsize
        self.middle = operator.itemgetter(slice(self.width, None))
        self.plain: dict[bytes, bytes] = {}  # b",serverhost,user,host,": b"user,host"
        self.dense = False

    def look(self, begin: int, block: bytes) -> View:
        r"""Look at the lines of a block, which starts with b"\n"; the first line stands at offset `begin`."""
        tails, marks = _dense(block) if self.dense else _sparse(block)
        self.dense = len(tails) * 1024 > len(block)
        view, middles, odd = View(), set(map(self.middle, tails)), []
        new = middles.difference(self.plain)
        if new:
            odd = self._learn(block, new, list(map(self.middle, tails)), list(marks))
            middles.intersection_update(self.plain)
            for i, _ in reversed(odd):
                del tails[i]
        try:
            self._span(tails, view)
            view.names = set(map(self.plain.__getitem__, middles))
            lines = {block.rfind(b"\n", 0, at) for _, at in odd}
        except ValueError:  # some stamp is no time
            lines = {at - 1 for at, _ in marked_lines(block, LOGIN_MARK)}
        self._read_odd(begin, block, lines, view)
        if len(self.plain) > MANY_ACCOUNTS:
            self.plain = {middle: self.plain[middle] for middle in middles}
        return view

    def _learn(self, block: bytes, new: set[bytes], middles: list[bytes], marks: list[int]) -> list[tuple[int, int]]:
        """Learn what new middles mean, from one line each; return the places of odd ones in the list and the block."""
        found = [*itertools.compress(range(len(middles)), map(new.__contains__, middles))]
        for middle, at in {middles[i]: marks[i] for i in found}.items():
            rest = block[at + len(LOGIN_MARK) : block.find(b"\n", at)]
            if _is_plain(middle) and block[at - 1 : at].isdigit() and _LOGIN_END.fullmatch(rest):
                user, _, host = middle[1:-1].partition(b",")[2].rpartition(b",")
                self.plain[middle] = b"%b,%b" % (user, without_port(host))
        return [(i, marks[i]) for i in found if middles[i] not in self.plain]

    def _span(self, tails: list[bytes], view: View) -> None:
        """Find the instants between which the tails lie; ValueError if a stamp is no time."""
        if not tails:
            return
        clock, width = self.clock, self.width
        low, high = clock[min(tails)[1:width]], clock[max(tails)[1:width]]
        if clock.is_steady(low, high):
            view.span(low, high)
        else:  # the order of stamps as text need not be that of instants
            view.span(*(clock[stamp] for stamp in {tail[1:width] for tail in tails}))

    def _read_odd(self, begin: int, block: bytes, starts: set[int], view: View) -> None:
        """Read the lines behind some line ends by the strict grammar."""
        for start in sorted(starts):
            login, torn, understood = read_marked(block[start + 1 : block.find(b"\n", start + 1)], self.clock)
            if login:
                view.names.add(login[0])
                view.span(login[1])
            view.torn += [Doubt(name, instant, begin + start, TORN) for name, instant in torn]
            if not understood:
                view.not_understood.append(begin + start)


def _dense(block: bytes) -> tuple[list[bytes], Iterable[int]]:
    """Return the tails of a block, and where their marks stand."""
    pieces = block.rsplit(LOGIN_MARK)
    pieces.pop()
    # A piece without a line end stands between two marks of one line, and has an odd tail: its last byte.
    tails = [piece[piece.rfind(b"\n") :].rstrip(_DIGITS) for piece in pieces]
    return tails, _marks(pieces, LOGIN_MARK)


def _marks(pieces: list[bytes], mark: bytes) -> Iterator[int]:
    """Tell where the mark stands behind each of the pieces that a text was cut into at it."""
    return map(operator.add, itertools.accumulate(map(len, pieces)), itertools.count(0, len(mark)))


def _sparse(block: bytes) -> tuple[list[bytes], Iterable[int]]:
    """Return the same, but for the text of QUERY records, which may hold the mark."""
    tails, marks = [], []
    at = block.rfind(LOGIN_MARK)
    while at >= 0:
        start = block.rfind(b"\n", 0, at)
        tail = block[start:at].rstrip(_DIGITS)
        if tail.count(b",") == 4 or not _is_query(block, start, at):
            tails.append(tail)
            marks.append(at)
        at = block.rfind(LOGIN_MARK, 0, start)
    return tails, marks


def _is_query(block: bytes, start: int, at: int) -> bool:
    """Tell that a line is a QUERY record, and that no login was torn off before it."""
    end = block.find(b"\n", at)
    return block[end - 3 : end] == QUERY_END and block.count(b",", start, block.find(LOGIN_MARK, start)) != 4


_DIGITS = b"0123456789"


def _is_plain(middle: bytes) -> bool:
    """Tell that a middle has the form ",serverhost,user,host,", and holds nothing that no name should hold.

    It would be a piece of a QUERY record, or reach into the database's name.
    """
    return middle.count(b",") >= 4 and middle[:1] == b"," == middle[-1:] and not _NOT_PLAIN.search(middle)


_NOT_PLAIN = expression(rb",QUERY,|,0,CONNECT,|\0")

Login = tuple[bytes, int]  # b"user,host" and instant


def read_marked(line: bytes, clock: Clock) -> tuple[Login | None, list[Login], bool]:
    """Read a line with a login's mark by the strict grammar.

    Return its login; the logins that it would tell of, were it not glued to a torn record or broken off (a database
    name may hold a line end); and whether it was understood.  SQL text may hold the mark as well.
    """
    if _QUERY_END.search(line, max(0, len(line) - 100)):
        return None, _timed(clock, *_torn_readings(_torn_off(line, clock), clock)), True
    record, glued = parse_connection(line), parse_glued(line, clock)
    if glued:
        torn = _timed(clock, record, glued[1], *_torn_readings(glued[0], clock))
    elif record:
        instant = _time_of(record, clock)
        return ((key_of(record), instant) if record.is_login and instant else None), [], instant is not None
    else:
        torn = _timed(clock, parse_connection(line + BROKEN_OFF))
    return None, torn, bool(glued or torn)


# What the shortest record of a login that breaks off behind the mark lacks.
BROKEN_OFF = b",,0"
_PLAIN_LOGIN = expression(rb"[^,]*,[^,]*,[^,']*,[^,']*,-?[0-9]+,0,CONNECT,[^']{,400}?(?=[0-9]{8} |[0-9]{4}-?[0-9]{2}-)")


def _torn_off(line: bytes, clock: Clock) -> bytes:
    """Return the login, torn off, that stands before a QUERY record in its line; nothing if there is none."""
    login = _PLAIN_LOGIN.match(line)
    stamp = login and _INNER_STAMP.match(line, login.end())
    return login[0] if login and stamp and clock.find(stamp[1]) else b""


def _torn_readings(torn: bytes, clock: Clock) -> Iterator[Record | None]:
    """Read a login that was torn off behind its mark, as one record and as one that is glued to another torn one."""
    if LOGIN_MARK in torn:
        glued = parse_glued(torn + BROKEN_OFF, clock)
        yield from (parse_connection(torn + BROKEN_OFF), glued[1] if glued else None)


def _timed(clock: Clock, *readings: Record | None) -> list[Login]:
    """Return the logins among some readings of a line that have a time."""
    found = ((reading, _time_of(reading, clock)) for reading in readings if reading and reading.is_login)
    return [(key_of(reading), instant) for reading, instant in found if instant]


def _time_of(record: Record, clock: Clock) -> int | None:
    """Return the instant of a record; None if it has no time, or if a name holds NUL, which no name can."""
    return None if b"\0" in key_of(record) else clock.find(record.stamp)


# ---------------------------------------------------------------------------------------------------------
# Judge: logins that the log itself contradicts
# ---------------------------------------------------------------------------------------------------------
#
# The user name is written raw, so anybody who reaches the port can write whole lines: by syntax a forged login
# is like a true one.  But the line is written again at the end of his session, and the server gives each
# connection its own id.  So a login is suspect if, within WINDOW bytes before or after it,
#   - another CONNECT, or a FAILED_CONNECT, bears its connection id, the server was not started in between, and
#     it is not that a stretch of log stands there twice;
#   - the next line has no stamp (it is the rest of a name with a line end), or the line before is stamped and
#     breaks off;
#   - it names another server host than most of up to 16 records before it, and than most of those after it;
#   - its stamp is not between those of its neighbours (2 s are allowed), which are in order themselves;
#   - its connection id is far from those of up to 16 neighbours on either side: by 1000, or by what the server
#     gives out in 30 s where that is more;
# or if it stands glued to a torn record, or breaks off itself, or if a damaged log breaks off behind it.  Only a
# login that would change the stored facts is judged.  The rule can be turned against a true login, so a suspect
# one is kept apart and shown, never dropped.


Row = tuple[int, int, bytes, bytes, int, bool]  # where its line starts, instant, server host, name, id, refused


class Window:
    """The records around a block of lines: `text` starts with a line end and its first line stands at `base`.

    The lists hold, in the order of the log, what each CONNECT or FAILED_CONNECT record says; i is a place in them.
    `lost` is where a damaged log breaks off, so that what would contradict the records before it is not known.
    """

    instants: list[int]
    servers: list[bytes]
    names: list[bytes]  # b"user,host"
    ids: list[int]
    refused: list[bool]

    def __init__(self, text: bytes, base: int, clock: Clock, lost: int) -> None:
        self.text, self.base, self.clock, self.lost = text, base, clock, lost
        self.unread: list[int] = []  # where lines start that hold a login's mark and are no records
        odd: set[int] = set()
        rows = [*self._plain(LOGIN_MARK, _LOGIN_END, odd), *self._plain(REFUSED_MARK, _REFUSED_END, odd)]
        if odd:
            rows = [row for row in rows if row[0] not in odd]
            rows += itertools.chain.from_iterable(map(self._odd, sorted(odd)))
        rows.sort()
        columns = [list(column) for column in zip(*rows)] or [[] for _ in range(6)]
        starts, self.instants, self.servers, self.names, self.ids, self.refused = cast("list[Any]", columns)
        self.offsets = [base - 1 + start for start in starts]

    def _plain(self, mark: bytes, end: re.Pattern[bytes], odd: set[int]) -> list[Row]:
        """Return the records with a mark whose names are plain ones; the starts of other lines with it go to `odd`."""
        pieces = self.text.rsplit(mark)
        rests = [piece.partition(b"\n")[0] for piece in pieces[1:]]
        strange = {rest for rest in set(rests) if not end.fullmatch(rest)}
        known, refused, rows = self.clock.get, mark == REFUSED_MARK, []
        for at, piece, rest in zip(_marks(pieces, mark), pieces, rests):
            head = piece.rpartition(b"\n")[2]
            fields = head.split(b",")
            # A piece without a line end stands between two marks of one line.
            if len(fields) == 5 and rest not in strange and len(head) < len(piece):
                stamp, server, user, host, number = fields
                instant = known(stamp) or self.clock.find(stamp)
                if instant and number.isdigit():
                    name = user + b"," + (without_port(host) if b":" in host else host)
                    rows.append((at - len(head), instant, server, name, int(number), refused))
                    continue
            odd.add(self.text.rfind(b"\n", 0, at) + 1)
        return rows

    def _odd(self, start: int) -> Iterator[Row]:
        """Yield the record of any line, if it is a whole one."""
        line = self.text[start : self.text.find(b"\n", start)]
        record = None if line.endswith(QUERY_END) else parse_connection(line)
        if record and (record.is_login or record.operation == b"FAILED_CONNECT") and not parse_glued(line, self.clock):
            instant, refused = self.clock.find(record.stamp), not record.is_login
            if instant:
                yield start, instant, record.serverhost, key_of(record), record.connection, refused
                return
        if LOGIN_MARK in line:
            self.unread.append(start)

    @functools.cached_property
    def _shared(self) -> dict[int, list[int]]:
        """The connection ids that stand there more than once, and where."""
        shared: dict[int, list[int]] = {}
        if len(set(self.ids)) < len(self.ids):
            counts = Counter(self.ids)
            for i, number in enumerate(self.ids):
                if counts[number] > 1:
                    shared.setdefault(number, []).append(i)
        return shared

    @functools.cached_property
    def _breaks(self) -> list[int]:
        """The records that name another server host than the one before, are earlier, or are more than 1000 ids off."""
        columns = self.servers, self.instants, self.ids
        pairs = zip(*columns, *(itertools.islice(column, 1, None) for column in columns))
        return [
            i
            for i, (s, t, n, server, at, number) in enumerate(pairs, 1)
            if s != server or t > at or abs(n - number) > 1000
        ]

    def logins(self, names: Collection[bytes], start: int, stop: int) -> Iterator[int]:
        """Yield the logins of some names in [start, stop)."""
        for i in range(bisect.bisect_left(self.offsets, start), bisect.bisect_left(self.offsets, stop)):
            if self.names[i] in names and not self.refused[i]:
                yield i

    def torn(self, start: int, stop: int) -> Iterator[Doubt]:
        """Yield what the lines in [start, stop) tell of logins that are torn, or glued to a torn record."""
        for at in self.unread:
            if start < self.base + at <= stop:
                line = self.text[at : self.text.find(b"\n", at)]
                for name, instant in read_marked(line, self.clock)[1]:
                    yield Doubt(name, instant, self.base + at - 1, TORN)

    def contradiction(self, i: int) -> str | None:
        """Return why a record is suspect, in words, or None.  Only what is within WINDOW of it counts."""
        reason = self._by_id(i) or self._broken_neighbour(i) or self._stranger(i)
        if reason is None and self.offsets[i] + WINDOW > self.lost:
            return "its log is damaged behind it"
        return reason

    def _within(self, i: int) -> tuple[int, int]:
        """Return from which to which record those are that lie within WINDOW of one."""
        low = bisect.bisect_left(self.offsets, self.offsets[i] - WINDOW)
        return low, bisect.bisect_right(self.offsets, self.offsets[i] + WINDOW)

    def _by_id(self, i: int) -> str | None:
        """Compare record i with the others that bear its connection id, the nearest first."""
        places = self._shared.get(self.ids[i])
        if places is None:
            return None
        low, high = self._within(i)
        at = bisect.bisect_left(places, i)
        before = places[bisect.bisect_left(places, low) : at]
        after = places[at + 1 : bisect.bisect_left(places, high)]
        for j in heapq.merge(reversed(before), after, key=lambda j: abs(self.offsets[j] - self.offsets[i])):
            if not self._repeated(i, j, range(low, high)) and not self._started(min(i, j), max(i, j), high):
                return f"its connection id {'was also refused' if self.refused[j] else 'stands in two logins'}"
        return None

    def _same(self, i: int, j: int) -> bool:
        """Tell whether two records say the same."""
        return all(row[i] == row[j] for row in (self.ids, self.instants, self.names, self.servers, self.refused))

    def _repeated(self, i: int, j: int, within: range) -> bool:
        """Tell whether i and j are the same record of a stretch of log that stands there twice, as after a restore.

        16 equal records in a row, of as many connections, are more than the copies of a name can hold.
        """
        ids = {self.ids[i]} if self._same(i, j) else set()
        for step in (-1, 1):
            a, b = i + step, j + step
            while ids and len(ids) < 16 and a in within and b in within:
                if not self._same(a, b) or self.ids[a] in ids:
                    break
                ids.add(self.ids[a])
                a, b = a + step, b + step
        return len(ids) == 16

    def _started(self, i: int, j: int, high: int) -> bool:
        """Tell whether the server was started between records i and j: ids begin anew, and go on from there.

        Ids begin at about 3, and after a start do not come back to where they were.  The copies of a name are
        written at once, whatever stamps they bear, so i and j must be 2 s apart.
        """
        if self.instants[j] < self.instants[i] + 2:
            return False
        starts = self._starts
        at = bisect.bisect_right(starts, i)
        return (at < len(starts) and starts[at] < j) or self._is_start(j, known=j + 1 < high, same=True)

    @functools.cached_property
    def _starts(self) -> list[int]:
        """The records before which the server was started."""
        return [k for k in range(1, len(self.ids) - 1) if self._is_start(k)]

    def _is_start(self, k: int, *, known: bool = True, same: bool = False) -> bool:
        """Tell whether ids begin anew at record k, be it with the `same` id; `known` tells that k + 1 counts."""
        last, this = self.ids[k - 1 : k + 1]
        after = self.ids[k + 1] if known else this
        anew = this < last + same and self.instants[k] >= self.instants[k - 1] - 1
        return anew and this <= after <= this + 50 and (this <= 10 or last >= after != this)

    def _broken_neighbour(self, i: int) -> str | None:
        """Look at the lines before and after a record for the pieces of a name with a line end."""
        begin = self.offsets[i] - self.base + 1
        end = self.text.find(b"\n", begin)
        if self.text[end + 1 : end + 5].isdigit() and self.text[begin - 3 : begin] == b",0\n":
            return None  # as nearly always
        if _NO_RECORD.match(self.text, end) and self.text.find(b"\n", end + 1) > end + 1:
            return "the line after it is the rest of a name"
        previous = self.text[self.text.rfind(b"\n", 0, begin - 1) + 1 : begin - 1]
        if previous and _STAMPED.match(previous) and not _COMPLETE.search(previous):
            return "the line before it breaks off"
        return None

    def _stranger(self, i: int) -> str | None:
        """Compare a record with up to 16 before and after it, unless there is no break among them."""
        if bisect.bisect_left(self._breaks, i - 15) == bisect.bisect_right(self._breaks, i + 16):
            return None
        low, high = self._within(i)
        near, far = slice(max(low, i - 16), i), slice(i + 1, min(high, i + 17))
        if near.start == near.stop or far.start >= far.stop:
            return None
        server, servers = self.servers[i], self.servers
        usual = _usual(servers[near], server)
        if usual != server and usual == _usual(servers[far], server):
            return "it names another server host than its neighbours"
        last, following = self.instants[i - 1], self.instants[i + 1]
        if last <= following + 2 and not last - 2 <= self.instants[i] <= following + 2:
            return "its time is not between those of its neighbours"
        ids, instants = (column[near] + column[far] for column in (self.ids, self.instants))
        slack = max(1000, 30 * (max(ids) - min(ids)) // max(1, max(instants) - min(instants)))
        if not min(ids) - slack <= self.ids[i] <= max(ids) + slack:
            return "its connection id is far from those of its neighbours"
        return None


def _usual(names: list[bytes], mine: bytes) -> bytes:
    """Return the name that stands there most often, `mine` if it is one of them."""
    counts = {name: names.count(name) for name in {*names, mine}}
    return max(counts, key=lambda name: (counts[name], name == mine, name))


Seen = tuple[int, Window, int]  # instant of a record, a window and the place in it


class Around:
    """The text around a block of lines, as in `Window`; of its records only as many are read as a judgement needs."""

    def __init__(self, text: bytes, base: int, clock: Clock, lost: int) -> None:
        self.text, self.base, self.clock, self.lost = text, base, clock, lost

    @functools.cached_property
    def window(self) -> Window:
        """All records."""
        return Window(self.text, self.base, self.clock, self.lost)

    def logins(self, names: Collection[bytes], place: Place) -> tuple[dict[bytes, list[Seen]], list[Doubt]]:
        """Return the logins of some names in a block, in the order of the log, and what is torn there."""
        _, start, stop = place
        low = max(0, start - self.base)
        few = len(names) <= FEW and "window" not in vars(self)
        if few and self.text.count(b"CONNECT,", low, low + (1 << 14)) > 100:
            close = self._close_logins(names, low, stop - self.base)
            if close is not None:
                return close, []
        window = self.window
        found: dict[bytes, list[Seen]] = {}
        for i in window.logins(names, start, stop):
            found.setdefault(window.names[i], []).append((window.instants[i], window, i))
        return found, list(window.torn(start, stop))

    def _close_logins(self, names: Collection[bytes], low: int, high: int) -> dict[bytes, list[Seen]] | None:
        """Read only what is close to the logins of a few names; None if they are many, or that is not enough."""
        found: dict[bytes, list[Seen]] = {name: [] for name in names}
        for name in names:
            for at, line in marked_lines(self.text, needle_of(name), low, high):
                close = self._close(at) if LOGIN_MARK in line and len(found[name]) < FEW else None
                if close:
                    _, window, i = close
                    if window.names[i] == name and not window.refused[i]:
                        found[name].append(close)
                elif LOGIN_MARK in line and read_marked(line, self.clock)[:2] != (None, []):
                    return None
        return found

    def _close(self, at: int) -> Seen | None:
        """Read the records close to the line that starts at a place.

        None unless it is a record with 16 others on either side, and so is whatever bears its id: all within WINDOW, or
        the nearest, which contradicts it.
        """
        low, high = max(0, self.text.rfind(b"\n", 0, max(1, at - CLOSE))), self.text.find(b"\n", at + CLOSE) + 1
        window = Window(self.text[low : high or len(self.text)], self.base + low, self.clock, self.lost)
        i = bisect.bisect_left(window.offsets, self.base - 1 + at)
        if not 16 <= i < len(window.ids) - 16 or window.offsets[i] != self.base - 1 + at:
            return None
        number = window.ids[i]
        found = window.ids[16:-16].count(number)
        if found != window.ids.count(number):
            return None
        reach = max(0, at - WINDOW - LONGEST_RECORD), at + WINDOW + LONGEST_RECORD
        # Without the comma before it, so that an id with zeros before it is found as well.
        ends = (b"%d%b" % (number, mark) for mark in (LOGIN_MARK, REFUSED_MARK))
        decided = window._by_id(i) or sum(self.text.count(end, *reach) for end in ends) == found
        return (window.instants[i], window, i) if decided else None


# So few names, and so few logins of one, are judged by what is within CLOSE bytes of them, where logins are dense.
FEW, CLOSE = 8, 6000


def around(log: LogFile, start: int, stop: int, clock: Clock) -> Around:
    """Read the text around the lines of [start, stop), over the borders of the file where a rotation cut it."""
    reach = WINDOW + LONGEST_RECORD
    base = max(0, start - reach)
    text = log.read(base, min(stop + reach, log.end) - base)
    at_end = base + len(text) < stop + reach
    lost = base + len(text) if log.broken and at_end else sys.maxsize
    begin = 0
    if base:
        begin = text.find(b"\n") + 1
    elif log.before is not None:
        tail = log.before.tail_text(reach)
        base, text = base - len(tail), tail + text
    if log.after is not None and at_end:
        text += b"\n" * (not text.endswith(b"\n")) + log.after.read(0, reach)
    end = text.rfind(b"\n") + 1
    # The byte before a line is a line end: taken along, it saves a copy.
    return Around(text[begin - 1 : end] if begin else b"\n" + text[:end], base + begin, clock, lost)


class Judged(NamedTuple):
    """What stands of the logins in a block: b"user,host" and instant; and what was met and is not believed."""

    latest: dict[bytes, int]
    earliest: dict[bytes, int]
    doubts: list[Doubt]


def judge_block(text: Around, place: Place, late: set[bytes], early: set[bytes]) -> Judged:
    """Find the latest login of each of the names `late`, the earliest of `early`, that nothing contradicts."""
    logins, torn = text.logins(late | early, place)
    judged = Judged({}, {}, torn)
    for name, records in logins.items():
        records.sort(key=operator.itemgetter(0))
        reasons: dict[int, str | None] = {}
        for wanted, certain, ordered in ((late, judged.latest, records[::-1]), (early, judged.earliest, records)):
            for instant, window, i in ordered if name in wanted else ():
                offset = window.offsets[i]
                if offset not in reasons:
                    reason = reasons[offset] = window.contradiction(i)
                    if reason:
                        judged.doubts.append(Doubt(name, instant, offset, reason))
                if reasons[offset] is None:
                    certain[name] = instant
                    break
    return judged


# ---------------------------------------------------------------------------------------------------------
# Work: stretches of log shared out to processes, and what they found put together
# ---------------------------------------------------------------------------------------------------------
#
# A worker does its tasks from the newest to the oldest, and each from its start to its end.  Of each name it notes
# in which block it stood first, and in which last.  At the end of the task only the lines of these blocks are read
# and judged.  Once a login of a name is certain, older tasks can only bring an earlier one: so most of what is
# left is to note the first block of a task for each name, and of those only the oldest one is read in the end.
# All of that rests on order in time, which is looked at, never supposed: where a block is not later than those
# before it (a clock was set back), a new segment begins; where a task is not earlier than all newer ones, nothing
# is settled by them.  So the facts do not depend on how the log was cut.


class Task(NamedTuple):
    """A stretch of a log; `settled` is False for the last bytes of a live log, which the next run reads again."""

    log: LogFile
    start: int
    end: int
    settled: bool
    fold: int


# What a worker reports, made of plain values so that it can cross a pipe:
# (LOGIN, settled, name, first, last), (PROXIED, settled, name, instant, instant),
# (SUSPECT, settled, name, instant, path, offset, reason), (CHANGE, settled, connection id, instant),
# (UNPARSED, path, offsets, count), (LENGTH, number of the task, end of what was read of its log, why there is no more)
LOGIN, PROXIED, SUSPECT, CHANGE = "login", "proxied", "suspect", "change"
UNPARSED, LENGTH = "unparsed", "length"
Message = tuple[Any, ...]
Sink = Callable[[list[Message]], None]


class Bucket:
    """Facts of the settled logs, or of the last bytes of the live one."""

    def __init__(self) -> None:
        self.last: dict[bytes, int] = {}  # latest certain login
        self.first: dict[bytes, int] = {}  # earliest certain login, as far as read
        self.places: dict[bytes, tuple[Place, ...]] = {}  # blocks that may hold an earlier one
        self.settled: frozenset[bytes] = frozenset()  # names with a login in a newer task
        self.low = sys.maxsize  # no newer task holds anything earlier
        self.suspects: dict[bytes, tuple[int, str, int, str]] = {}  # instant, path, offset, reason

    def doubt(self, path: str, doubts: Iterable[Doubt]) -> None:
        """Keep the latest of the logins that are not believed."""
        for name, instant, offset, reason in doubts:
            self.suspects[name] = max((instant, path, offset, reason), self.suspects.get(name, (0, "", 0, "")))

    def take(self, judged: Judged, path: str) -> None:
        """Take in what was judged of a block of a log."""
        for logins in (judged.latest, judged.earliest):
            for name, instant in logins.items():
                if instant > self.last.get(name, -1):
                    self.last[name] = instant
                if instant < self.first.get(name, sys.maxsize):
                    self.first[name] = instant
        self.doubt(path, judged.doubts)

    def note(self, segment: Segment) -> None:
        """Note where a segment may hold the first login of names that have a certain one."""
        for name, places in segment.first.items():
            if name in self.last:
                newer = () if segment.is_oldest else self.places.get(name, ())
                self.places[name] = newer if name in segment.judged else newer + places

    def forget(self) -> None:
        """Forget what was reported."""
        self.last, self.first, self.places, self.suspects, self.settled = {}, {}, {}, {}, frozenset()


class Segment:
    """Blocks of one task, in the order of time: where each name stood first and last.

    `before` is an instant that nothing in newer tasks is earlier than.
    """

    def __init__(self, before: int, *, begun: bool = False) -> None:
        self.before, self.begun = before, begun
        self.first: dict[bytes, tuple[Place, ...]] = {}
        self.last: dict[bytes, tuple[Place, ...]] = {}
        self.judged: set[bytes] = set()  # names whose first login here is known
        self.wary: set[bytes] = set()  # names of which every login here is known not to be certain
        self.blocks: list[Place] = []
        self.low, self.high = sys.maxsize, -1

    @property
    def is_oldest(self) -> bool:
        """Tell that nothing read so far is earlier."""
        return not self.begun and self.high <= self.before

    def take(self, view: View, place: Place, settled: frozenset[bytes]) -> set[bytes]:
        """Take in a block; return the names that it is the first to hold.

        Where it is older than all newer tasks, settled names can have no later login in it.
        """
        self.low, self.high = min(self.low, view.low), max(self.high, view.high)
        self.blocks.append(place)
        fresh = view.names.difference(self.first)
        self.first.update(dict.fromkeys(fresh, (place,)))
        news = view.names - settled if view.high <= self.before else view.names
        self.last.update(dict.fromkeys(news, (place,)))
        return fresh


class OtherRecords:
    """The proxied logins and the changes of user in a stretch of log."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.proxied: dict[bytes, list[tuple[int, int, int]]] = {}  # instant, offset, connection id
        self.changes: dict[int, int] = {}  # connection id: instant of its last change of user

    def take(self, begin: int, block: bytes) -> None:
        """Take in a block of lines.  A rare letter, then the bare word are looked for first: that is faster."""
        for letter, word, mark in ((b"X", b"PROXY_CONNECT", PROXY_MARK), (b"G", b"CHANGEUSER", CHANGE_MARK)):
            if letter in block and block.rfind(word) >= 0:
                for at, line in marked_lines(block, mark):
                    self._read(begin + at - 1, line)

    def _read(self, offset: int, line: bytes) -> None:
        record = parse_connection(line)
        if record is None or record.retcode or parse_glued(line, self.clock):
            return
        instant = self.clock.find(record.stamp)
        if instant is None:
            return
        if record.operation == b"PROXY_CONNECT":
            self.proxied.setdefault(key_of(record), []).append((instant, offset, record.connection))
        elif record.operation == b"CHANGEUSER" and not record.user:
            self.changes[record.connection] = max(instant, self.changes.get(record.connection, 0))


class Worker:
    """Does tasks, from the newest to the oldest, and reports to a sink."""

    def __init__(self, tasks: Sequence[Task], clock_of: Callable[[Task], Clock], sink: Sink) -> None:
        self.tasks, self.clock_of, self.sink = tasks, clock_of, sink
        # Where little is to be read, first and latest logins share most of their blocks, and are judged together.
        self.little = sum(min(task.end - task.start, 2 * TASK) for task in tasks) <= 2 * TASK
        self.scanners: dict[tuple[int, int], Scanner] = {}
        self.kept: tuple[int, Around] | None = None  # number of a small task, and its text
        self.earliest: dict[int, int] = {}  # number of a task: no login read in it is earlier
        self.buckets = {True: Bucket(), False: Bucket()}

    def scanner(self, task: Task) -> Scanner:
        """Return the scanner of a task's log."""
        name = id(task.log), task.fold
        if name not in self.scanners:
            if len(self.scanners) >= LOGS_IN_MEMORY:
                self.scanners.clear()
            self.scanners[name] = Scanner(self.clock_of(task))
        return self.scanners[name]

    def do(self, number: int) -> None:
        """Do one task."""
        task = self.tasks[number]
        scanner, bucket = self.scanner(task), self.buckets[task.settled]
        others, end = OtherRecords(scanner.clock), 0
        not_understood: list[int] = []
        segment, low = Segment(bucket.low), bucket.low
        for begin, stop, block in blocks(task.log, task.start, task.end):
            view = scanner.look(begin, block)
            others.take(begin, block)
            bucket.doubt(task.log.path, view.torn)
            not_understood += view.not_understood
            end = stop
            if view.names and (view.low < segment.high or len(segment.first) > MANY_ACCOUNTS):
                low = min(low, self._close(number, segment))
                segment = Segment(bucket.low, begun=True)
            if view.names:
                place = number, begin, stop
                fresh = segment.take(view, place, bucket.settled)
                if task.log.compressed and (begin > WINDOW + LONGEST_RECORD or not task.log.before):
                    self._judge_passing(task, segment, place, fresh | (view.names & segment.wary))
        bucket.low = min(low, self._close(number, segment))
        bucket.settled = frozenset(bucket.last)
        reports: list[Message] = [(CHANGE, task.settled, connection, at) for connection, at in others.changes.items()]
        reports += self._proxied(task, bucket, others)
        if not_understood:
            reports.append((UNPARSED, task.log.path, not_understood[:3], len(not_understood)))
        if task.log.compressed or task.log.broken:
            reports.append((LENGTH, number, end, task.log.broken))
        self.sink(reports)

    def _around(self, place: Place) -> Around:
        """Read the text around a block; that of a small task is read as a whole, and kept."""
        task = self.tasks[place[0]]
        if task.log.compressed or task.end - task.start > SMALL_TASK:
            return around(task.log, place[1], place[2], self.scanner(task).clock)
        if self.kept is None or self.kept[0] != place[0]:
            self.kept = place[0], around(task.log, task.start, task.end, self.scanner(task).clock)
        return self.kept[1]

    def _close(self, number: int, segment: Segment) -> int:
        """Judge the logins of a segment that may be news; return an instant before which there is none in it."""
        task = self.tasks[number]
        bucket = self.buckets[task.settled]
        self.earliest[number] = min(segment.low, self.earliest.get(number, segment.low))
        self._judge(task, bucket, segment)
        bucket.note(segment)
        if max(len(bucket.last), len(bucket.places), len(bucket.suspects)) > MANY_ACCOUNTS:
            self.flush()
        return segment.low

    def _judge_passing(self, task: Task, segment: Segment, place: Place, names: set[bytes]) -> None:
        """Judge the first logins of some names in a block of a compressed log: to come back would cost a new start.

        A name without a certain login so far is judged in each block that holds it.
        """
        if names:
            bucket = self.buckets[task.settled]
            judged = judge_block(self._around(place), place, set(), names)
            bucket.take(judged, task.log.path)
            segment.judged.update(judged.earliest)
            segment.wary = segment.wary.union(names).difference(judged.earliest)

    def _judge(self, task: Task, bucket: Bucket, segment: Segment) -> None:
        """Judge the latest login of each name, and the first one if its block is read anyway."""
        latest, first = by_place(segment.last), by_place(segment.first)
        doubtful: dict[bytes, Place] = {}
        for place in sorted(latest.keys() | first.keys() if self.little else latest):
            late, early = latest.get(place, set()) - segment.wary, first.get(place, set()) - segment.judged
            if not self.little:
                early &= late
            if not late | early:
                continue
            judged = judge_block(self._around(place), place, late, early)
            bucket.take(judged, task.log.path)
            doubtful.update(dict.fromkeys(late - judged.latest.keys(), place))
            segment.judged.update(judged.earliest)
        if doubtful:
            self._search_back(task, bucket, segment, doubtful)

    def _search_back(self, task: Task, bucket: Bucket, segment: Segment, doubtful: dict[bytes, Place]) -> None:
        """Judge earlier logins of names whose latest one in the segment is not certain: the next certain one counts."""
        first = {name: segment.first[name][0] for name in doubtful}
        for place in segment.blocks if task.log.compressed else reversed(segment.blocks):
            names = {name for name, last in doubtful.items() if first[name] <= place < last}
            if names:
                names &= self._named(task, bucket, place, names)
            if names:
                judged = judge_block(self._around(place), place, names, set())
                bucket.take(judged, task.log.path)
                if not task.log.compressed:  # that is read from its start, so later ones may follow
                    for name in judged.latest:
                        del doubtful[name]

    def _named(self, task: Task, bucket: Bucket, place: Place, names: set[bytes]) -> set[bytes]:
        """Return the names that may have logged in within a block; nothing if it surely was none of those given.

        What was a name on the first look may be odd on this one, and is then read at once: which middles are known
        depends on the blocks looked at before.
        """
        found: set[bytes] = set()
        for begin, _, block in blocks(task.log, *place[1:]):
            if len(names) > MANY_NEEDLES or any(block.rfind(needle_of(name)) >= 0 for name in names):
                view = self.scanner(task).look(begin, block)
                bucket.doubt(task.log.path, view.torn)
                found |= view.names
        return found

    def _proxied(self, task: Task, bucket: Bucket, others: OtherRecords) -> list[Message]:
        """Accept a proxied login if a login of the same connection that nothing contradicts stands beside it."""
        reports: list[Message] = []
        for name, records in others.proxied.items():
            records.sort()
            last = next((r for r in reversed(records) if self._is_beside_login(task, r)), None)
            if last is not None:
                first = next(r for r in records if r == last or self._is_beside_login(task, r))
                reports.append((PROXIED, task.settled, name, first[0], last[0]))
            if records[-1] != last:
                instant, offset, _ = records[-1]
                reason = "it is proxied, with no certain login beside it"
                bucket.doubt(task.log.path, [Doubt(name, instant, offset, reason)])
        return reports

    def _is_beside_login(self, task: Task, record: tuple[int, int, int]) -> bool:
        _, offset, connection = record
        window = around(task.log, offset, offset + 1, self.scanner(task).clock).window
        logins = [i for i, number in enumerate(window.ids) if number == connection and not window.refused[i]]
        return bool(logins) and not window.contradiction(logins[-1])

    def flush(self) -> None:
        """Judge the earliest login of each name that has a certain one, and report what is known so far."""
        for settled, bucket in self.buckets.items():
            self._judge_first(bucket, settled)
            reports: list[Message] = [
                (LOGIN, settled, name, bucket.first[name], last) for name, last in bucket.last.items()
            ]
            reports += [(SUSPECT, settled, name, *suspect) for name, suspect in bucket.suspects.items()]
            self.sink(reports)
            bucket.forget()

    def _judge_first(self, bucket: Bucket, settled: bool) -> None:
        """Judge the first login of each name in the blocks that may hold it."""
        doubtful: set[bytes] = set()
        for place, names in sorted(by_place(bucket.places).items()):
            judged = judge_block(self._around(place), place, set(), names)
            bucket.take(judged, self.tasks[place[0]].log.path)
            doubtful |= names - judged.earliest.keys()
        for number in sorted(self.earliest, reverse=True):
            task = self.tasks[number]
            wanted = {name for name in doubtful if self.earliest[number] < bucket.first[name]}
            if wanted and task.settled is settled:
                self._search_on(number, task, bucket, wanted)

    def _search_on(self, number: int, task: Task, bucket: Bucket, wanted: set[bytes]) -> None:
        """Judge the logins of some names in a task that are earlier than what is known."""
        for begin, stop, block in blocks(task.log, task.start, task.end):
            view = self.scanner(task).look(begin, block)
            names = {name for name in wanted & view.names if view.low < bucket.first[name]}
            if names:
                place = number, begin, stop
                bucket.take(judge_block(self._around(place), place, set(), names), task.log.path)


def by_place(places: Mapping[bytes, tuple[Place, ...]]) -> dict[Place, set[bytes]]:
    """Group names by the blocks they stand in."""
    grouped: dict[Place, set[bytes]] = {}
    for name, mine in places.items():
        for place in mine:
            grouped.setdefault(place, set()).add(name)
    return grouped


def run_tasks(
    tasks: Sequence[Task], clock_of: Callable[[Task], Clock], workers: int, sink: Sink, progress: Progress
) -> None:
    """Do all tasks, in this process and as many others as pay, and hand what they find to `sink`.

    A pipe filled with the numbers of the tasks is the queue: whoever is free takes the next.
    """
    total = sum(task.end - task.start for task in tasks)
    workers = min(workers, len(tasks), len(os.sched_getaffinity(0))) if total >= PARALLEL_FROM else 1
    if workers <= 1:
        worker = Worker(tasks, clock_of, sink)
        for number in range(len(tasks)):
            worker.do(number)
            progress.show(sum(task.end - task.start for task in tasks[: number + 1]), total)
        worker.flush()
        return
    queue, children = _Queue(len(tasks)), []
    for _ in range(workers - 1):
        children.append(_start_child(tasks, clock_of, queue))
    worker = Worker(tasks, clock_of, sink)
    results = [descriptor for _, descriptor in children]
    while (taken := queue.take()) is not None:
        worker.do(taken)
        results = [descriptor for descriptor in results if _read_results(descriptor, sink, wait=False)]
        progress.show(sum(task.end - task.start for task in tasks[: taken + 1]), total)
    worker.flush()
    for descriptor in results:
        _read_results(descriptor, sink, wait=True)
    for child in children:
        _end_child(*child)


# fcntl.F_SETPIPE_SZ, which Python names from 3.10 on (linux/fcntl.h).
_F_SETPIPE_SZ = 1031


class _Queue:
    """Numbers 0 to count - 1, each taken once by some process."""

    def __init__(self, count: int) -> None:
        self.reader, writer = os.pipe()
        numbers = b"".join(number.to_bytes(4, "big") for number in range(count))
        if len(numbers) > select.PIPE_BUF:
            fcntl.fcntl(writer, _F_SETPIPE_SZ, len(numbers))
        os.write(writer, numbers)
        os.close(writer)

    def take(self) -> int | None:
        """Return the next number, None if there is none left."""
        data = os.read(self.reader, 4)
        return int.from_bytes(data, "big") if data else None


def _start_child(tasks: Sequence[Task], clock_of: Callable[[Task], Clock], queue: _Queue) -> tuple[int, int]:
    """Fork a process that takes tasks from the queue; return its id and the pipe it reports to."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    try:
        os.close(reader)

        def send(reports: list[Message]) -> None:
            data = marshal.dumps(reports)
            _write_all(writer, len(data).to_bytes(8, "big") + data)

        worker = Worker(tasks, clock_of, send)
        parent = os.getppid()
        while os.getppid() == parent and (number := queue.take()) is not None:
            worker.do(number)
        worker.flush()
        _write_all(writer, bytes(8))
        os._exit(0)
    except BaseException as error:  # the parent says it: a child must never run the parent's code
        with contextlib.suppress(OSError):
            os.write(2, f"conntracker: ERROR: a worker process failed: {error!r}\n".encode())
        os._exit(1)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read_results(descriptor: int, sink: Sink, *, wait: bool) -> bool:
    """Hand on what a child has found so far, or with `wait` all of it; return whether more may come."""
    while wait or select.select([descriptor], [], [], 0)[0]:
        size = int.from_bytes(_read_all(descriptor, 8), "big")
        data = _read_all(descriptor, size)
        if not size or len(data) < size:
            return False
        sink(marshal.loads(data))  # noqa: S302 - written by our own child
    return True


def _read_all(descriptor: int, size: int) -> bytes:
    """Read so many bytes; fewer only if the writer is gone."""
    data = b""
    while len(data) < size and (piece := os.read(descriptor, size - len(data))):
        data += piece
    return data


def _end_child(pid: int, descriptor: int) -> None:
    """Wait for a child's end; one that died before its end fails the run."""
    os.close(descriptor)
    _, status = os.waitpid(pid, 0)
    if status:
        raise LogError("a worker process ended before its work was done: nothing was stored: run again")


class Progress:
    """One line on a terminal, from the third second on."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.shown = False
        self.wanted = sys.stderr.isatty()

    def show(self, done: int, total: int) -> None:
        """Say how far the work is; bytes."""
        seconds = time.monotonic() - self.began
        if self.wanted and seconds > 2 and done:
            left = seconds * (total - done) / done
            rate = done / seconds / 1e6
            sys.stderr.write(f"\r{done / 1e6:.0f} of {total / 1e6:.0f} MB, {rate:.0f} MB/s, {left:.0f} s left ")
            sys.stderr.flush()
            self.shown = True

    def close(self) -> None:
        """Leave an empty line to whatever is said next."""
        if self.shown:
            sys.stderr.write("\r\x1b[K")


# ---------------------------------------------------------------------------------------------------------
# Sessions that change their user
# ---------------------------------------------------------------------------------------------------------
#
# A successful COM_CHANGE_USER is logged without a name.  The CONNECT of the same connection id tells the client
# host, and its DISCONNECT names the session's last user.  Only where there are such records are sessions
# followed, from record to record in the order of the log.

_SESSION_RECORD = expression(rb",(-?[0-9]+),0,(?:CONNECT|CHANGEUSER|DISCONNECT),")


class Sessions:
    """Open sessions that changed their user (connection id: client host, empty if unknown), and what they tell."""

    def __init__(self, still_open: dict[int, bytes], wanted: set[int], hosts: dict[int, bytes]) -> None:
        self.open, self.wanted, self.hosts = still_open, wanted, hosts
        self.ends: dict[bytes, tuple[int, int]] = {}  # key: first, last instant
        self.changes: dict[bytes, tuple[int, int]] = {}  # client host: first, last instant

    def follow(self, task: Task, clock: Clock) -> None:
        """Take in the records of a stretch of log that belong to the wanted connections."""
        names = {str(connection).encode() for connection in self.wanted}
        for _, _, block in blocks(task.log, task.start, task.end):
            done = 0
            for match in _SESSION_RECORD.finditer(block):
                if match[1] in names and match.start() >= done:
                    done = block.find(b"\n", match.end())
                    record = parse_connection(block[block.rfind(b"\n", 0, match.start()) + 1 : done])
                    instant = clock.find(record.stamp) if record and record.connection in self.wanted else None
                    if record and instant is not None:
                        self._take(record, instant)

    def _take(self, record: Record, instant: int) -> None:
        connection = record.connection
        if record.operation == b"CONNECT":
            self.hosts[connection] = record.host
            self.open.pop(connection, None)
        elif record.operation == b"CHANGEUSER" and not record.user and not record.retcode:
            host = self.open.setdefault(connection, self.hosts.get(connection, b""))
            _widen(self.changes, host, instant)
        elif record.operation == b"DISCONNECT" and connection in self.open:
            _widen(self.ends, record.user + b"," + self.open.pop(connection), instant)


def _widen(facts: dict[bytes, tuple[int, int]], key: bytes, instant: int) -> None:
    first, last = facts.get(key, (instant, instant))
    facts[key] = min(first, instant), max(last, instant)


def find_hosts(logs: Sequence[LogFile], connections: set[int], clock_of: Callable[[Task], Clock]) -> dict[int, bytes]:
    """Look for the logins of connections in what earlier runs have read, the latest one counts."""
    earlier = Sessions({}, connections, {})
    for log in logs:
        task = Task(log, 0, log.start, True, 0)
        earlier.follow(task, clock_of(task))
    return earlier.hosts


# ---------------------------------------------------------------------------------------------------------
# Which bytes to read
# ---------------------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """A log as the last run left it; offsets in bytes of log text, instants in seconds."""

    path: str
    device: int
    inode: int
    stored_size: int
    modified: int
    tail: int
    end: int
    live: bool
    first: int | None
    last: int | None
    head: bytes
    before: bytes


class Plan(NamedTuple):
    """What a run reads: logs from the oldest to the newest, and what became of the known ones."""

    logs: list[LogFile]
    tasks: list[Task]
    kept: list[Known]
    gaps: list[tuple[int, int, str]]
    tails_found: bool
    tails_unchanged: bool


Say = Callable[[str, str], None]


def find_logs(path: str, name: str, say: Say) -> tuple[list[LogFile], list[str]]:
    """Open the audit logs that `path` (a folder, a file or a glob) means; return them and the paths not readable.

    In a folder, and beside a file, these are the log and its rotations.  A rotation while looking can hide a
    file, so the look is repeated until it shows nothing new.
    """
    logs: dict[tuple[int, int], LogFile] = {}
    unreadable: list[str] = []
    for _ in range(5):
        fresh = False
        for candidate in _candidates(path, name):
            try:
                log = _open_log(candidate, logs, say)
            except OSError as error:
                if error.errno != errno.ENOENT and candidate not in unreadable:
                    unreadable.append(candidate)
                    say("ERROR", f"{candidate}: {error.strerror}: the log was not read: let this user read it")
                continue
            if log:
                logs[log.device, log.inode] = log
                fresh = True
        if not fresh:
            break
    if not logs and not unreadable:
        raise LogError(f"{path}: no audit log named {name} here: is auditing on, and is AuditLogPath right?")
    return list(logs.values()), unreadable


def _candidates(path: str, name: str) -> list[str]:
    """Return the paths that may be audit logs."""
    if os.path.isdir(path):
        folder = path
    else:
        if not os.path.exists(path):
            import glob

            if glob.has_magic(path):
                return sorted(glob.glob(path))
        folder, name = os.path.split(path)
    try:
        names = os.listdir(folder or ".")
    except OSError as error:
        raise LogError(
            f"{folder}: {error.strerror}: the logs cannot be listed: check AuditLogPath and its permissions"
        ) from None
    return sorted(os.path.join(folder, found) for found in names if _in_family(found, name))


_ROTATED = expression(r"(?:[.-][0-9]+)*(?:\.(?:gz|bz2|xz))?")


def _in_family(found: str, name: str) -> bool:
    """Tell the log itself and its rotations."""
    return found == name or (found.startswith(name) and _ROTATED.fullmatch(found, len(name)) is not None)


def _open_log(path: str, known: dict[tuple[int, int], LogFile], say: Say) -> LogFile | None:
    """Open a log; None if it is open already or is no file."""
    status = os.stat(path)
    if (status.st_dev, status.st_ino) in known:
        return None
    if not stat.S_ISREG(status.st_mode):
        say("WARN", f"{path}: not a file: left out")
        return None
    return LogFile(path, os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def plan(logs: list[LogFile], unreadable: list[str], known: list[Known], clocks: Clocks) -> Plan:
    """Decide what to read.

    A log whose size and time are those of the last run is passed over.  Else it goes on where its bytes agree
    with those of a known log: the same file first, then any other (renamed, copied, compressed), else it is
    read from 0.  A live log that is found nowhere leaves a gap: what it held after the last position is lost.
    """
    same = {(k.device, k.inode): k for k in known}
    for log in logs:
        log.known = same.get((log.device, log.inode))
        if log.known and (log.known.stored_size, log.known.modified) == (log.stored_size, log.modified):
            log.unchanged, log.head, log.first, log.last = (
                True,
                log.known.head,
                log.known.first,
                log.known.last,
            )
        else:
            log.known = None
            _look_at_head(log, clocks)
    logs = sorted(_without_copies(logs), key=_by_age)
    _mark_live(logs)
    for log in logs:
        if not log.unchanged:
            log.known = _continued(log, known)
    found = {id(log.known) for log in logs}
    tails = [k for k in known if k.live]
    # Where anything is new, it may stand beside them.
    tails_unchanged = all(log.unchanged for log in logs) and all(
        any(log.known is k and log.live for log in logs) for k in tails
    )
    for log in logs:
        _bound(log, tails_unchanged)
    for log in logs:
        log.rewind()  # a worker process must not share the place in a stream with this one
    lost = [k for k in known if id(k) not in found and k.path not in unreadable]
    return Plan(
        logs=logs,
        tasks=_split([task for log in logs for task in _stretches(log, clocks)]),
        kept=[k for k in known if id(k) not in found and k.path in unreadable],
        gaps=[_gap(k.last, k.path, logs) for k in lost if k.live and k.last is not None],
        tails_found=all(id(k) in found for k in tails),
        tails_unchanged=tails_unchanged,
    )


def _without_copies(logs: list[LogFile]) -> list[LogFile]:
    """Leave out logs that are just being copied or compressed: the original tells all that they can."""
    plain: dict[bytes, list[LogFile]] = {}
    for log in logs:
        if log.head and not log.compressed:
            plain.setdefault(log.head, []).append(log)
    return [log for log in logs if not any(_is_copy(log, other) for other in plain.get(log.head, ()))]


def _is_copy(log: LogFile, other: LogFile) -> bool:
    """Tell that another plain log, with the same head, holds all of this one; of two equal ones, one is the copy."""
    if log.compressed:
        return os.path.splitext(log.path)[0] == other.path
    if other is log or (log.size, other.path) > (other.size, log.path):
        return False
    return log.fingerprint(log.size) == other.fingerprint(log.size)


def _look_at_head(log: LogFile, clocks: Clocks) -> None:
    """Read the first bytes of a log and the instant of its first record."""
    start = log.read(0, LONGEST_RECORD)
    log.head = start[:FINGERPRINT]
    log.first = next(_instants(start.split(b"\n"), clocks.of(log, 0)), None)


def _instants(lines: Iterable[bytes], clock: Clock) -> Iterator[int]:
    """Yield the instants of those lines that are records."""
    for line in lines:
        parts = split_line(line.strip(b"\0\r"))
        instant = clock.find(parts[0]) if parts else None
        if instant is not None:
            yield instant


_ROTATION = expression(r"\.([0-9]+)(?:\.(?:gz|bz2|xz))?$")


def _by_age(log: LogFile) -> tuple[int, int]:
    """Sort logs from the oldest to the newest: by the first record, else by the number of the rotation."""
    number = _ROTATION.search(log.path)
    return log.modified // 10**9 if log.first is None else log.first, -int(number[1]) if number else 0


def _mark_live(logs: list[LogFile]) -> None:
    """Find the logs that the server may still write to: the last with a record, and the last that was written to."""
    for older, newer in zip(logs, logs[1:]):
        older.after, newer.before = newer, older
    written = [log for log in logs if not log.compressed and log.stored_size]
    if written:
        written[-1].live = True
        max(written, key=lambda log: log.modified).live = True


def _continued(log: LogFile, known: list[Known]) -> Known | None:
    """Return the known log that this one continues."""
    mine = [k for k in known if k.before and log.head.startswith(k.head)]
    mine.sort(key=lambda k: ((k.device, k.inode) != (log.device, log.inode), -k.end))
    for k in mine:
        if (log.compressed or log.size >= k.end) and log.read(k.end - len(k.before), len(k.before)) == k.before:
            return k
    return None


def _bound(log: LogFile, tails_unchanged: bool) -> None:
    """Set from where to where a log is read."""
    k = log.known
    if k and log.unchanged and (tails_unchanged or not k.live):
        log.start = log.tail = log.end = k.end
        return
    log.unchanged = False
    log.start = k.tail if k else 0
    if log.compressed:
        log.end = log.tail = sys.maxsize
    elif log.live:
        log.end = max(log.start, last_line_end(log))
        log.tail = min(log.end, max(log.start, line_start(log, log.end - WINDOW)))
    else:
        log.end = log.tail = log.size


def _gap(began: int, path: str, logs: list[LogFile]) -> tuple[int, int, str]:
    """Describe what was lost: it ends with the first record of the logs that are new, at the latest now."""
    firsts = [log.first for log in logs if log.known is None and log.first is not None and log.first >= began]
    ended = min(firsts, default=int(time.time()))
    return began, ended, f"{path} was not found again: what it held after the last run was not read"


def _stretches(log: LogFile, clocks: Clocks) -> Iterator[Task]:
    """Yield what is to be read of a log, parted where the clock's repeated hour begins or ends anew."""
    if log.unchanged:
        return
    folds = _folds(log, clocks)
    borders = sorted({log.start, log.tail, log.end, *(offset for offset, _ in folds)})
    for start, end in zip(borders, borders[1:]):
        fold = max(((offset, fold) for offset, fold in folds if offset <= start), default=(0, 0))[1]
        yield Task(log, start, end, start < log.tail, fold)
    log.last = _last_instant(log, clocks.of(log, folds[-1][1] if folds else 0))


def _last_instant(log: LogFile, clock: Clock) -> int | None:
    """Return the instant of the last record that is to be read; not asked of compressed logs."""
    if log.compressed:
        return None
    start = max(0, log.end - LONGEST_RECORD)
    lines = log.read(start, log.end - start).split(b"\n")
    return next(_instants(reversed(lines), clock), log.known.last if log.known else None)


def _folds(log: LogFile, clocks: Clocks) -> list[tuple[int, int]]:
    """Return from which offset on a repeated hour's stamps are its second pass (1), and where that is over (0).

    The log bears no mark of it: a stamp more than 5 s before the one before it, in an hour that comes twice, is
    of the second pass.  The logs are looked through only where such an hour lies between their ends.
    """
    clock = clocks.of(log, 0)
    begin, finish = log.first, log.modified // 10**9
    if log.known and log.known.last is not None:
        begin = log.known.last
    if begin is None or not _repeats_between(begin - 7200, finish + 7200, clock.zone):
        return []
    last = log.known.last if log.known else log.before.last if log.before else None
    folds: list[tuple[int, int]] = []
    fold = 0
    for start, _, block in blocks(log, log.start, log.end):
        for match in _LINE_STAMP.finditer(block):
            with contextlib.suppress(ValueError):
                first = clock[match[1]]
                second = clocks.of(log, 1)[match[1]]
                now = int(second > first and last is not None and first < last - 5)
                last = second if now else first
                if now != fold:
                    fold = now
                    folds.append((start + match.start(), fold))
    return folds


_LINE_STAMP = expression(rb"\n([^,\n]*),")


def _repeats_between(begin: int, finish: int, zone: tzinfo | None) -> bool:
    """Tell whether local time repeats between two instants: the offset from UTC shrinks."""
    offsets = [local(instant, zone).utcoffset() for instant in range(begin, finish + DAY, DAY)]
    return any(
        after < before for before, after in zip(offsets, offsets[1:]) if before is not None and after is not None
    )


def _split(tasks: list[Task]) -> list[Task]:
    """Cut big stretches at line ends; return all of them, the newest first."""
    pieces: list[Task] = []
    for task in tasks:
        start = task.start
        while not task.log.compressed and task.end - start > TASK * 3 // 2:
            middle = min(line_start(task.log, start + TASK), task.end)
            pieces.append(task._replace(start=start, end=middle))
            start = middle
        if start < task.end:
            pieces.append(task._replace(start=start))
    return pieces[::-1]


class Clocks:
    """The clocks of the logs."""

    def __init__(self, layout: Layout, zone: tzinfo | None) -> None:
        self.layout, self.zone = layout, zone
        self.clocks: dict[tuple[int, int], Clock] = {}

    def of(self, log: LogFile, fold: int) -> Clock:
        """Return the clock that reads a log's stamps."""
        name = id(log), fold
        if name not in self.clocks:
            if len(self.clocks) >= LOGS_IN_MEMORY:
                self.clocks.clear()
            self.clocks[name] = Clock(self.layout, self.zone, fold, log.modified // 10**9)
        return self.clocks[name]

    def of_task(self, task: Task) -> Clock:
        """Return the clock of a task's log and fold."""
        return self.of(task.log, task.fold)


# ---------------------------------------------------------------------------------------------------------
# Match: which account row did the server choose?
# ---------------------------------------------------------------------------------------------------------
#
# The rules are those of sql/sql_acl.cc (find_user_or_anon, acl_user_compare, compare_hostname, calc_ip) and
# sql/sql_acl_getsort.inl of MariaDB 10.5 to 11.8: the rows of the user and the anonymous ones are sorted by how
# specific their host patterns are, and the first that the client's name or address matches is chosen.  The log gives
# the client's host as the server showed it: the resolved name or, without a name, the address.  A name hides the
# address, so rows that an address may match, and that stand before the first row that the name matches, may have been
# chosen: a possible match only.


class AccountRow(NamedTuple):
    """The key of an account: user name and host pattern, as the server stores them (UTF-8 bytes)."""

    user: bytes
    host: bytes


class Match(NamedTuple):
    """The rows that the server may have chosen for a login, most specific first.

    `certain` is true for exactly one row when nothing that the server knew is hidden from us.
    """

    rows: tuple[AccountRow, ...]
    certain: bool


def ipv4_number(text: bytes) -> int | None:
    """Give a dotted IPv4 address as a number, None for anything else (sql/sql_acl.cc, calc_ip)."""
    parts = text.split(b".")
    if len(parts) != 4 or not all(part.isdigit() and int(part) < 256 for part in parts):
        return None
    return int.from_bytes(bytes(map(int, parts)), "big")


def is_address(host: bytes) -> bool:
    """Tell if a client host is an IP address: a host name has no colon and is not four numbers."""
    return b":" in host or ipv4_number(host) is not None


def pattern_parts(host: bytes) -> list[str]:
    r"""Split a host pattern into runs of `%`, single `_`, and characters, each after its backslash if it has one."""
    return re.findall(r"%+|\\?.", host.decode("latin-1"), re.DOTALL)


def _as_glob(part: str) -> str:
    if part[0] == "%":
        return "*"
    return "?" if part == "_" else re.sub(r"[*?[]", r"[\g<0>]", part[-1])


def pattern_rank(host: bytes, longest: int) -> tuple[int, int, int, int]:
    """Give what the server sorts host patterns by: the lower, the more specific; all zeros without a wildcard.

    `longest` is the width of the Host column in characters.  Source: sql/sql_acl_getsort.inl, get_magic_sort.
    """
    parts = pattern_parts(host)
    wild = [place for place, part in enumerate(parts) if part[0] in "%_"]
    prefix = wild[0] if wild else 0
    single = parts.count("_")
    many = len(wild) - single
    free = max(longest - len(parts) + many, 0) if many else 0
    many, single = min(many, 31), min(single, 31)
    return (free * 2 + 1, many, single, prefix) if free > single else (single * 2, free, many, prefix)


class HostPattern:
    """One host pattern of account rows, ready to be compared with client hosts."""

    def __init__(self, host: bytes) -> None:
        import fnmatch

        text = host.lower() or b"%"
        globs = [*map(_as_glob, pattern_parts(text))]
        self.net = _netmask(text)
        self.literal = self._like = None
        if "*" in globs or "?" in globs:
            # fnmatch's expressions never try a stretch twice, however many wildcards there are.
            self._like = re.compile(fnmatch.translate("".join(globs)).encode("latin-1"))
        elif not self.net:
            self.literal = re.sub(rb"\\(.)", rb"\1", text, flags=re.DOTALL)
        # The pattern without escapes; but a backslash stays before a literal `%` or `_`, which no address has.
        self._plain = re.sub(rb"\\([^%_])", rb"\1", text)
        # Such rows are ignored by a server with skip_name_resolve (sql_acl.cc, hostname_requires_resolving).
        self.needs_names = text != b"localhost" and not re.search(rb"[:%_/]|^[0-9.]*\Z", text)

    def matches(self, host: bytes) -> bool:
        """Compare with a client's name or address in lower case (sql/sql_acl.cc, compare_hostname)."""
        if self.net:
            number = ipv4_number(host)
            return number is not None and number & self.net[1] == self.net[0]
        return self._like.match(host) is not None if self._like else host == self.literal

    def may_match_hidden_address(self) -> bool:
        """Tell if some client that has a name may match by its address; true when in doubt."""
        if self.net:
            return self.net[0] & self.net[1] == self.net[0]
        if self.literal is not None:
            # The name of these two is always localhost (sql/hostname.cc).
            return is_address(self.literal) and self.literal not in (b"127.0.0.1", b"::1")
        octet = rb"(?:25[0-5]|2[0-4]\d|1?\d?\d|[\d%_]*[%_][\d%_]*)"
        # An IPv6 address with a name is global (2000::/3), local (fc00::/7, fe80::/10) or NAT64's (64:ff9b::/96).
        ipv6 = rb"(?:[23:%_]|f[cd%_]|fe[89ab%_]|6[4%_])[0-9a-f:%_]*"
        return re.fullmatch(rb"%b(?:\.%b){0,3}|%b" % (octet, octet, ipv6), self._plain) is not None

    def within(self, other: HostPattern) -> bool:
        """Tell if the other is a netmask that admits every address that this pattern admits."""
        if not other.net:
            return False
        octets = list(itertools.takewhile(bytes.isdigit, self._plain.split(b".")[:4]))
        around = sum(int(octet) << 24 - 8 * i for i, octet in enumerate(octets))
        net, mask = self.net or (around, -1 << 32 - 8 * len(octets))
        return mask & other.net[1] == other.net[1] and net & other.net[1] == other.net[0]


def _netmask(text: bytes) -> tuple[int, int] | None:
    """Give (network, mask) of `ip/netmask`, else None, also for a zero mask (sql_acl.cc, update_hostname)."""
    net, mask = (ipv4_number(part) for part in text.partition(b"/")[::2])
    return (net, mask) if net is not None and mask else None


class AccountMatcher:
    """Finds the account rows for (user, client host) pairs of the log; rows are sorted once per user."""

    def __init__(
        self,
        rows: Iterable[AccountRow],
        skip_name_resolve: bool,
        server_version: str = "",
        appeared: Mapping[AccountRow, int] | None = None,
        skip_since: int = 0,
    ) -> None:
        """Take the accounts without roles.

        `appeared` holds the instant at which a row was first seen, for rows that an earlier inventory lacked:
        before that instant the server may have chosen the next row. Before `skip_since` the server may have
        resolved names, whatever it does now.
        """
        self._skip_name_resolve, self._skip_since = skip_name_resolve, skip_since
        self._appeared = appeared or {}
        old = re.match(r"(?:5|10\.[0-5])\b", server_version) is not None
        self._longest_host = 60 if old else 255
        self._by_user: dict[bytes, list[AccountRow]] = {}
        self._patterns: dict[bytes, HostPattern] = {}
        for row in rows:
            self._by_user.setdefault(row.user, []).append(row)
            if row.host not in self._patterns:
                self._patterns[row.host] = HostPattern(row.host)
        # The audit plugin cuts a long name: it logs the first bytes, then the length's low byte.
        cut, long = (64, 64) if old else (132, 133)
        self._logged_as: dict[bytes, list[bytes]] = {}
        for user in sorted(self._by_user):
            if len(user) >= long:
                self._logged_as.setdefault(user[:cut] + bytes([len(user) & 255]), []).append(user)
        self._sorted: dict[bytes, list[tuple[AccountRow, HostPattern, bool]]] = {}

    def match(self, user: bytes, client_host: bytes, seen: int | None = None) -> Match:
        """Give the rows for a login at the instant `seen`; an empty client host stands for any host."""
        long_names = self._logged_as.get(user, [])
        rows: dict[AccountRow, None] = {}
        for name in (*long_names, user):
            rows.update(dict.fromkeys(self._possible(name, client_host.lower(), seen)))
        return Match(tuple(rows), len(rows) == 1 and not long_names)

    def _possible(self, user: bytes, host: bytes, seen: int | None) -> Iterator[AccountRow]:
        """Give the rows that may have been chosen, up to the first that would surely have been."""
        clients: set[tuple[bytes, ...]] = {(host,)}
        resolved = not self._skip_name_resolve or (seen is not None and seen < self._skip_since)
        if host == b"localhost" and resolved:
            # It was the socket or TCP (sql/hostname.cc).
            clients |= {(host, b"127.0.0.1"), (host, b"::1")}
        hidden = host != b"localhost" and not is_address(host)
        literals = {None}.union(*clients)
        for row, pattern, by_hidden_address in self._candidates(user if user in self._by_user else b""):
            if not hidden and (pattern.literal not in literals or (self._skip_name_resolve and pattern.needs_names)):
                continue
            matched = {client for client in clients if any(map(pattern.matches, client))}
            if matched or not host or (hidden and by_hidden_address):
                yield row
            if host and (seen is None or seen >= self._appeared.get(row, seen)):
                clients -= matched
                if not clients:
                    return

    def _candidates(self, user: bytes) -> list[tuple[AccountRow, HostPattern, bool]]:
        """Give the user's and the anonymous rows as the server sorts them, and if a hidden address may reach each."""
        if user in self._sorted:
            return self._sorted[user]
        rows = self._by_user.get(user, []) + (self._by_user.get(b"", []) if user else [])
        # Equal ones go by the pattern's text, backwards; the anonymous row wins only if it is strictly more specific.
        rows.sort(reverse=True)
        rows.sort(key=lambda row: (pattern_rank(row.host, self._longest_host), not row.user))
        candidates = self._sorted[user] = []
        hosts: set[bytes] = set()
        nets: list[HostPattern] = []
        for row in rows:
            pattern = self._patterns[row.host]
            covered = row.host in hosts or any(map(pattern.within, nets))
            candidates.append((row, pattern, not covered and pattern.may_match_hidden_address()))
            if row in self._appeared:
                continue
            hosts.add(row.host)
            if pattern.net:
                nets.append(pattern)
        return candidates


# ---------------------------------------------------------------------------------------------------------
# Inventory: what the server says about its accounts
# ---------------------------------------------------------------------------------------------------------

# What is asked, by the name under which it is missed.  Each statement is one line, so that the client's "at line N"
# names it, and gives a tag and texts in HEX(), so that no name can look like anything else.  The zone is the log's; no
# setting of the server or the client's files may change what a statement gives.
_OWN_SESSION = (
    "SET SESSION time_zone='SYSTEM', SESSION sql_mode='', SESSION sql_select_limit=18446744073709551615,"
    " SESSION sql_big_selects=1, SESSION max_statement_time={timeout}"
)
_SERVER_SQL = {
    "session": _OWN_SESSION,
    "clock": "SELECT 'clock', HEX(CONCAT(TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), NOW()))), HEX(CURRENT_USER())",
    "variables": "SELECT 'setting', HEX(LOWER(VARIABLE_NAME)), HEX(VARIABLE_VALUE)"
    " FROM information_schema.GLOBAL_VARIABLES WHERE VARIABLE_NAME LIKE 'SERVER_AUDIT_%' OR VARIABLE_NAME"
    " IN ('VERSION', 'HOSTNAME', 'DATADIR', 'SYSTEM_TIME_ZONE', 'SKIP_NAME_RESOLVE', 'READ_ONLY')",
    "status": "SELECT 'setting', HEX(LOWER(VARIABLE_NAME)), HEX(VARIABLE_VALUE)"
    " FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME LIKE 'SERVER_AUDIT_%' OR VARIABLE_NAME = 'UPTIME'",
    "plugin": "SELECT 'setting', HEX('audit_plugin'), HEX(PLUGIN_STATUS)"
    " FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'SERVER_AUDIT'",
    "accounts": "SELECT 'account', HEX(User), HEX(Host), HEX(JSON_VALUE(Priv, '$.is_role')),"
    " HEX(JSON_VALUE(Priv, '$.account_locked')), HEX(IF(JSON_VALUE(Priv, '$.password_last_changed') = '0', 'Y', '')),"
    " HEX(JSON_VALUE(Priv, '$.plugin')), HEX(JSON_EXTRACT(Priv, '$.auth_or[*].plugin')) FROM mysql.global_priv",
    "accounts without locks": "SELECT 'view', HEX(User), HEX(Host), HEX(is_role), HEX('?'), HEX(password_expired),"
    " HEX(plugin), '' FROM mysql.user",
    "proxies": "SELECT 'proxy', HEX(User), HEX(Host), HEX(Proxied_user), HEX(IF(Proxied_host = '', '%', Proxied_host))"
    " FROM mysql.proxies_priv WHERE Proxied_user <> ''",
    # InnoDB's tables in information_schema need the PROCESS privilege, as other accounts' sessions do.
    "all sessions": "SELECT 'process' FROM information_schema.INNODB_CMP LIMIT 1",
    # Not those that nobody logged in for: threads of the server, and logins under way.
    "sessions": "SELECT 'session', HEX(USER), HEX(HOST) FROM information_schema.PROCESSLIST"
    " WHERE ID <> CONNECTION_ID() AND NOT (USER = 'system user' AND HOST = '')"
    " AND NOT (USER = 'event_scheduler' AND COMMAND = 'Daemon')"
    " AND NOT (USER = 'unauthenticated user' AND COMMAND = 'Connect')",
}
# Global privileges count only if granted to the account itself; a role's do not show in USER_PRIVILEGES.
_DEFINER_SQL = {
    "session": _OWN_SESSION,
    "privileges": "SELECT 'privilege', HEX(PRIVILEGE_TYPE) FROM information_schema.USER_PRIVILEGES WHERE GRANTEE ="
    " CONCAT('''', LEFT(CURRENT_USER(), CHAR_LENGTH(CURRENT_USER())"
    " - 1 - CHAR_LENGTH(SUBSTRING_INDEX(CURRENT_USER(), '@', -1))),"
    " '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''')",
    **{
        what: f"SELECT 'definer', HEX(definer), HEX(CONCAT(COUNT(*))) FROM {table} GROUP BY 2"
        for what, table in (
            ("routines", "mysql.proc"),
            ("events", "mysql.event"),
            ("views", "information_schema.VIEWS"),
            ("triggers", "information_schema.TRIGGERS"),
        )
    },
}
# What allows to ask it, where that is not a matter of course.
_NEEDED = {
    "accounts": "GRANT SELECT (Host, User, Priv) ON mysql.global_priv",
    "accounts without locks": "GRANT SELECT ON mysql.user",
    "proxies": "GRANT SELECT ON mysql.proxies_priv",
    "all sessions": "GRANT PROCESS ON *.*",
    "routines": "GRANT SELECT ON mysql.proc",
    "events": "GRANT SELECT ON mysql.event",
    "views": "GRANT SHOW VIEW ON *.*",
    "triggers": "GRANT TRIGGER ON *.*",
}
_CLIENT_OPTIONS = (
    "--batch",
    "--raw",
    "--skip-column-names",
    "--force",
    "--no-auto-rehash",
    "--skip-reconnect",
    "--default-character-set=utf8mb4",
)
_REFUSED_LOGIN = (1044, 1045, 1130, 1227, 1251, 1275, 1698, 1820, 1862, 4151)
_NOT_UNDERSTOOD = "inventory: the client's answer was not understood"
# A processlist host is cut to this width (sql/sql_show.cc, LIST_PROCESS_HOST_LEN).
_SESSION_HOST_WIDTH = 64


class Account(NamedTuple):
    """One row of mysql.global_priv; what could not be read is None.  Instants are epoch seconds (UTC)."""

    user: bytes
    host: bytes
    is_role: bool = False
    locked: bool | None = None
    expired: bool | None = None
    plugin: str = ""
    known_since: int | None = None

    @property
    def row(self) -> AccountRow:
        """The key of the account."""
        return AccountRow(self.user, self.host)


class Proxy(NamedTuple):
    """One row of mysql.proxies_priv: who may act as whom."""

    account: AccountRow
    proxied: AccountRow


def _proxy(user: bytes, host: bytes, proxied_user: bytes, proxied_host: bytes) -> Proxy:
    return Proxy(AccountRow(user, host), AccountRow(proxied_user, proxied_host))


class Inventory(NamedTuple):
    """What the server, or an accounts file, said; `taken_at` in epoch seconds.

    `sessions` are the open ones: the name that logged in and the client's host, b'' if the server cut it.
    `definers` and `proxies` are None if not known; `missing` says in words what could not be read and which
    privilege would allow it. `settings` has lower-case names, among them 'audit_plugin' (its status or '')
    and 'utc_offset' (seconds that the server's zone is ahead of UTC now).
    """

    source: str
    taken_at: int
    accounts: tuple[Account, ...]
    settings: Mapping[str, str] = {}
    sessions: tuple[tuple[bytes, bytes], ...] = ()
    sessions_complete: bool = False
    definers: Mapping[AccountRow, int] | None = None
    proxies: tuple[Proxy, ...] | None = None
    own_account: AccountRow | None = None
    missing: tuple[str, ...] = ()


def take_inventory(client: str, defaults_file: str, timeout: float, want_definers: bool) -> Inventory:
    """Ask the server through the `mariadb` client; `timeout` in seconds for all of it.

    Raises InventoryError if there is no usable answer; parts without privilege are told in `missing`.
    """
    ends = time.monotonic() + timeout
    rows, failed = _ask(client, defaults_file, timeout, _SERVER_SQL)
    for what in failed:
        if what not in _NEEDED:
            raise InventoryError(f"inventory: {what}: {failed[what]}")
    missing = [_lack(what, failed[what]) for what in ("proxies", "all sessions") if what in failed]
    if "accounts" in failed:
        if "accounts without locks" in failed:
            raise InventoryError("inventory: " + _lack("accounts", failed["accounts"]))
        missing.append(_lack("accounts", "locked accounts not known: " + failed["accounts"]))
    definers = None
    if want_definers:
        try:
            definers = _ask_definers(client, defaults_file, max(ends - time.monotonic(), 1.0))
        except InventoryError as error:
            missing.append(str(error))
    try:
        ((utc_offset, own_account),) = rows["clock"]
        return Inventory(
            source="server",
            taken_at=int(time.time()),
            accounts=tuple(map(_account, rows["view" if "accounts" in failed else "account"])),
            settings={
                "audit_plugin": "",
                "utc_offset": _text(utc_offset),
                **{_text(name): _text(value) for name, value in rows["setting"]},
            },
            sessions=tuple(itertools.starmap(_session, rows.get("session", ()))),
            sessions_complete=bool(rows.get("process")),
            definers=definers,
            proxies=None if "proxies" in failed else tuple(itertools.starmap(_proxy, rows.get("proxy", ()))),
            own_account=_split_account(own_account),
            missing=tuple(missing),
        )
    except (KeyError, TypeError, ValueError):
        # A tag or a column that is not there, or is too many.
        raise InventoryError(_NOT_UNDERSTOOD) from None


def _ask_definers(client: str, defaults_file: str, timeout: float) -> Mapping[AccountRow, int]:
    """Count the objects of each definer; raises InventoryError unless every kind of object was visible."""
    rows, failed = _ask(client, defaults_file, timeout, _DEFINER_SQL)
    if failed:
        raise InventoryError(_lack(*next(iter(failed.items()))))
    for what, privilege in (("views", [b"SHOW VIEW"]), ("triggers", [b"TRIGGER"])):
        if privilege not in rows.get("privilege", ()):
            raise InventoryError(_lack(what, "not all are visible"))
    counts: Counter[AccountRow] = Counter()
    for definer, objects in rows.get("definer", ()):
        counts[_split_account(definer)] += int(objects)
    return counts


def _lack(what: str, error: str) -> str:
    return f"{what}: {error}" + (f"; needed: {_NEEDED[what]}" if what in _NEEDED else "")


def _ask(client: str, defaults_file: str, timeout: float, sql: Mapping[str, str]) -> tuple[_Rows, dict[str, str]]:
    """Run the statements in one session of the client; give the rows by tag, and what failed with the reason."""
    import shutil
    import subprocess

    path = shutil.which(client) or (shutil.which("mysql") if client == "mariadb" else None)
    if path is None:
        advice = "install mariadb-client or set Inventory"
        raise InventoryError(f"inventory: client not found: {visible_text(client)}: {advice}")
    if defaults_file and not os.access(defaults_file, os.R_OK):
        raise InventoryError(f"inventory: cannot read the client's defaults file: {visible_text(defaults_file)}")
    seconds = str(max(int(timeout), 1))
    options = (f"--defaults-file={defaults_file}", *_CLIENT_OPTIONS) if defaults_file else _CLIENT_OPTIONS
    try:
        done = subprocess.run(
            [path, *options, f"--connect-timeout={seconds}"],
            input="".join(f"{text};\n" for text in sql.values()).replace("{timeout}", seconds).encode(),
            capture_output=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise InventoryError(f"inventory: the server did not answer within {timeout:.0f} s") from None
    except OSError as error:
        raise InventoryError(f"inventory: cannot run the client {client}: {error.strerror}") from None
    return _tagged_rows(done.stdout), _failures(done.returncode, done.stderr, list(sql))


def _failures(code: int, stderr: bytes, names: Sequence[str]) -> dict[str, str]:
    """Give the failed statements with their error in words; raises InventoryError if there was no session."""
    failed = {}
    for found in re.finditer(rb"^ERROR (\d+) \(\w{5}\)(?: at line (\d+))?: (.*)$", stderr, re.MULTILINE):
        number, line, text = int(found[1]), int(found[2] or 0), f"error {found[1].decode()}: {visible(found[3])[:200]}"
        if number in (2006, 2013) or not 1 <= line <= len(names):
            refused = "the server refused the login: " if number in _REFUSED_LOGIN else ""
            away = "the server cannot be reached: " if 2000 <= number < 2100 else ""
            raise InventoryError(f"inventory: {refused or away}{text}")
        reasons = {1142: "no privilege", 1143: "no privilege", 1227: "no privilege", 1969: "took too long"}
        failed[names[line - 1]] = reasons.get(number, text)
    if code and not failed:
        raise InventoryError(f"inventory: the client failed: {visible(stderr.strip()[-200:]) or f'exit code {code}'}")
    return failed


def _tagged_rows(output: bytes) -> _Rows:
    """Parse lines of a tag and fields in hex or NULL, which is taken as empty, parted by TAB."""
    rows: dict[str, list[list[bytes]]] = {}
    *lines, rest = output.split(b"\n")
    if rest:
        raise InventoryError("inventory: the client's answer ends in the middle of a line")
    for line in lines:
        if not re.fullmatch(rb"[a-z]+(?:\t(?:NULL|(?:[0-9A-F]{2})*))*", line):
            raise InventoryError(f"{_NOT_UNDERSTOOD}: {visible(line[:80])}")
        tag, *fields = line.decode("ascii").split("\t")
        rows.setdefault(tag, []).append([b"" if text == "NULL" else bytes.fromhex(text) for text in fields])
    return rows


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _split_account(text: bytes) -> AccountRow:
    """Split the server's `user@host`; a host holds no @."""
    user, _, host = text.rpartition(b"@")
    return AccountRow(user, host)


def _account(row: Sequence[bytes]) -> Account:
    import json

    user, host, is_role, locked, expired, plugin, others = row
    yes = (b"1", b"true", b"Y")
    plugins = [*(json.loads(others) if others else ()), _text(plugin)]
    return Account(
        user,
        host,
        is_role=is_role in yes,
        locked=None if locked == b"?" else locked in yes,
        expired=expired in yes,
        plugin=" or ".join(name for name in plugins if isinstance(name, str) and name),
    )


def _session(user: bytes, host: bytes) -> tuple[bytes, bytes]:
    # A longer host was cut, and its port with it.
    return user, re.sub(rb":\d+\Z", b"", host) if len(host) < _SESSION_HOST_WIDTH else b""


def load_accounts_file(path: str, now: int) -> Inventory:
    """Read the list of accounts given by `--accounts FILE` (JSON); `now` in epoch seconds.

    Raises InventoryError that names the file.
    """
    import json

    try:
        with open(path, "rb") as file:
            data = json.loads(file.read().decode("utf-8"))
        server, listed = _members(data, ("server", dict, {}), ("accounts", list, ...))
        version, skip = _members(server, ("version", str, ""), ("skip_name_resolve", bool, False))
        settings = {"version": version, "skip_name_resolve": "ON" if skip else "OFF"}
        return Inventory("file", now, _accounts_of_file(listed), settings)
    except OSError as error:
        reason = str(error.strerror)
    except InventoryError as error:
        reason = str(error)
    except ValueError as error:
        reason = f"not JSON in UTF-8: {error}"
    raise InventoryError(f"accounts file: {visible_text(path)}: {reason}")


def _accounts_of_file(listed: Sequence[Any]) -> tuple[Account, ...]:
    accounts: dict[AccountRow, Account] = {}
    for number, item in enumerate(listed, 1):
        try:
            account = _account_of_file(item)
        except (InventoryError, UnicodeEncodeError) as error:
            raise InventoryError(f"account {number}: {error}") from None
        if accounts.setdefault(account.row, account) is not account:
            raise InventoryError(f"account {visible_account(account.row)} is listed twice")
    if not accounts:
        raise InventoryError("'accounts' is empty")
    return tuple(accounts.values())


def _account_of_file(item: Any) -> Account:
    flags = (("is_role", bool, False), ("locked", bool, None), ("expired", bool, None))
    texts = (("user", str, ...), ("host", str, ...), ("plugin", str, ""), ("known_since", str, ""))
    user, host, plugin, since, is_role, locked, expired = _members(item, *texts, *flags)
    host = "" if is_role else host.lower() or "%"
    known_since = _instant(since) if since else None
    return Account(user.encode(), host.encode(), is_role, locked, expired, plugin, known_since)


def _members(data: Any, *wanted: tuple[str, type, Any]) -> list[Any]:
    """Give members of a JSON object by name, type and default (`...`: there is none); null counts as absent."""
    if not isinstance(data, dict):
        raise InventoryError("an object {...} is needed")
    values = []
    for name, kind, default in wanted:
        value = default if data.get(name) is None else data[name]
        if value is ...:
            raise InventoryError(f"'{name}' is missing")
        if value is not default and not isinstance(value, kind):
            raise InventoryError(f"'{name}' must be a {kind.__name__}, not {type(value).__name__}")
        values.append(value)
    return values


def _instant(text: str) -> int:
    """Read an ISO 8601 instant that states its zone, as epoch seconds."""
    try:
        stamp = datetime.fromisoformat(re.sub(r"[Zz]\Z", "+00:00", text))
    except ValueError:
        stamp = None
    if stamp is None or stamp.tzinfo is None:
        raise InventoryError(f"'known_since' must be like 2026-01-31T00:00:00Z, not {visible_text(text)}")
    return int(stamp.timestamp())


# ---------------------------------------------------------------------------------------------------------
# Names made visible
# ---------------------------------------------------------------------------------------------------------


def visible(name: bytes) -> str:
    r"""Show a name: control, format and separator characters as \xNN or \uNNNN, other bytes as \xNN."""
    return visible_text(name.decode("utf-8", "surrogateescape"))


def visible_text(text: str) -> str:
    r"""Do the same for text; a blank at either end shows as \x20."""
    if text.isprintable() and text[:1] != " " != text[-1:]:
        return text
    shown = "".join(map(_visible_char, text))
    return re.sub(r"^ +| +\Z", lambda blanks: r"\x20" * len(blanks[0]), shown)


def _visible_char(char: str) -> str:
    code = ord(char)
    if char.isprintable():
        return char
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no text
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible_account(row: AccountRow) -> str:
    """Show an account as user@host."""
    return f"{visible(row.user)}@{visible(row.host)}"


# ---------------------------------------------------------------------------------------------------------
# Verdict: which accounts may go, and why
# ---------------------------------------------------------------------------------------------------------


class Evidence(NamedTuple):
    """What tells that an account was used; instants in epoch seconds, `host` the client's host.

    Of kind 'proxied' user and host are those of the account row that was acted as.
    An empty host of kind 'change user' or 'open session' means that the client's host is not known.
    `certain` is false where it may have been the use of another account.
    """

    kind: str
    user: bytes
    host: bytes
    first_seen: int | None
    last_seen: int
    certain: bool = True


class Suspect(NamedTuple):
    """A record that may be forged or torn: it proves nothing, but the account is not called removable."""

    user: bytes
    host: bytes
    seen: int


class Gap(NamedTuple):
    """A stretch of time for which log records were lost."""

    began: int
    ended: int
    reason: str = ""


class Knowledge(NamedTuple):
    """Everything the verdict rests on, as stored; instants in epoch seconds, None if never.

    `source` is 'server', 'file' or 'none' (no inventory was ever taken). `appeared` holds the accounts that
    an earlier inventory lacked, `skip_since` is the instant at which skip_name_resolve was last changed.
    """

    source: str = "none"
    accounts: tuple[Account, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    gaps: tuple[Gap, ...] = ()
    proxies: tuple[Proxy, ...] = ()
    definers: Mapping[AccountRow, int] | None = None
    appeared: Mapping[AccountRow, int] = {}
    skip_since: int = 0
    settings: Mapping[str, str] = {}
    tracking_since: int | None = None
    last_record: int | None = None
    last_run: int | None = None
    inventory_at: int | None = None
    inventory_error: str = ""
    sessions_complete: bool = False
    own_account: AccountRow | None = None
    unparsed: int = 0


class AccountVerdict(NamedTuple):
    """The answer for one account; `removable` means: stale or never, and nothing speaks against it.

    `evidence` are the kinds of record that tell of use, `client_hosts` those that used it, newest first.
    """

    account: Account
    verdict: str
    removable: bool
    last_seen: int | None
    first_seen: int | None
    last_seen_certain: bool
    evidence: tuple[str, ...]
    client_hosts: tuple[bytes, ...]
    keep_reasons: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def name(self) -> str:
        """The account as user@host, made visible."""
        return visible_account(self.account.row)


class Report(NamedTuple):
    """The verdicts and what they rest on: `problems` forbid to call accounts unused, `notes` tell."""

    now: int
    window_days: int
    knowledge: Knowledge
    accounts: tuple[AccountVerdict, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def window_start(self) -> int:
        """The instant at which the window begins."""
        return self.now - self.window_days * DAY

    @property
    def gaps(self) -> int:
        """The number of gaps that reach into the window."""
        return sum(gap.ended >= self.window_start for gap in self.knowledge.gaps)

    @property
    def server(self) -> str:
        """The server's name and version, made visible; '' if it was not asked."""
        settings = self.knowledge.settings
        return visible_text(" ".join(settings[name] for name in ("hostname", "version") if settings.get(name)))

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of accounts of each verdict."""
        return Counter(item.verdict for item in self.accounts)

    @property
    def removable(self) -> list[AccountVerdict]:
        """The accounts that may go."""
        return [item for item in self.accounts if item.removable]

    def only(self, verdicts: Sequence[str]) -> Report:
        """Keep the accounts with one of these verdicts; none given keeps all."""
        return self._replace(accounts=tuple(a for a in self.accounts if not verdicts or a.verdict in verdicts))


def judge(knowledge: Knowledge, now: int, window_days: int, excludes: Sequence[str] = ()) -> Report:
    """Give the verdict on every account.

    `now` in epoch seconds; `excludes` are account patterns (user or user@host, with the wildcards * and ?).
    """
    if not knowledge.accounts:
        # Without any inventory the names of the log are shown, with the client's host in place of a host pattern.
        names = dict.fromkeys((item.user, item.host) for item in knowledge.evidence if item.kind != "change user")
        knowledge = knowledge._replace(accounts=tuple(itertools.starmap(Account, names)))
    case = _Judge(knowledge, now, now - window_days * DAY, excludes)
    judged = tuple(sorted(map(case.account, knowledge.accounts), key=_most_actionable))
    notes = []
    if knowledge.source == "file":
        notes.append("accounts taken from a file; not checked: open sessions, definers, audit settings")
    elif knowledge.source == "none":
        notes.append("no list of accounts: the hosts shown are the clients', and accounts never seen are not listed")
    elif knowledge.definers is None:
        notes.append("not checked: definers of routines, views, triggers and events")
    if case.unmatched:
        notes.append(f"logins of {case.unmatched} (user, client host) pairs match no account that exists now")
    return Report(now, window_days, knowledge, judged, tuple(case.problems), tuple(notes))


def _most_actionable(item: AccountVerdict) -> tuple[bool, int, int, bytes, bytes]:
    order = VERDICTS.index(item.verdict)
    return (not item.removable, order, item.last_seen or 0, item.account.user, item.account.host)


# Why the absence of logins would prove nothing: of the tracker, the inventory and the server's settings.


def _tracking_problems(knowledge: Knowledge, now: int, start: int) -> Iterator[str]:
    since, until = knowledge.tracking_since, knowledge.last_run
    if since is None or until is None:
        yield "nothing was tracked yet"
        return
    if since > start:
        yield f"tracking began {_day(since)}, after the window's start {_day(start)}"
    if now - until > FRESH_SECONDS:
        yield f"the last successful run was {_day(until)}"
    if until > now + CLOCK_SLACK:
        yield f"the last run is stamped in the future, {_day(until)}: the clock is not to be trusted"
    for gap in knowledge.gaps:
        if gap.ended >= start:
            yield f"log records are missing from {_day(gap.began)} to {_day(gap.ended)}" + _why(gap.reason)


def _inventory_problems(knowledge: Knowledge, now: int) -> Iterator[str]:
    taken, why = knowledge.inventory_at, _why(knowledge.inventory_error)
    if knowledge.source == "none" or taken is None:
        yield "the server was never asked for its accounts" + why
    elif knowledge.source == "server":
        if why:
            yield "the last inventory failed" + why
        if abs(now - taken) > FRESH_SECONDS:
            yield f"the inventory is of {_day(taken)}"
        if not knowledge.sessions_complete:
            yield "other accounts' open sessions are not visible (needed: GRANT PROCESS ON *.*)"


def _audit_problems(knowledge: Knowledge) -> Iterator[str]:
    if knowledge.source != "server":
        return
    setting = knowledge.settings.get
    if setting("audit_plugin") != "ACTIVE":
        yield "the audit plugin is not active on the server"
        return
    if setting("server_audit_logging", "").upper() != "ON":
        yield "server_audit_logging is OFF"
    elif setting("server_audit_active", "ON").upper() != "ON":
        yield "the audit plugin cannot write its log (Server_audit_active is OFF)"
    events = setting("server_audit_events", "").upper().replace(" ", "")
    if events and "CONNECT" not in events.split(","):
        yield f"server_audit_events is {visible_text(events)}: logins are not logged"
    failed = setting("server_audit_writes_failed", "0")
    if failed != "0":
        yield f"the audit plugin failed to write {visible_text(failed)} records (Server_audit_writes_failed)"
    # Each inventory is itself a login: a log silent for days is not the one that the server writes.
    taken, last = knowledge.inventory_at, knowledge.last_record
    if taken is not None and (last is None or last < taken - FRESH_SECONDS):
        log = visible_text(setting("server_audit_current_log", "")) or "another place"
        yield f"the log that is read has no newer record than {_day(last) or 'none'}, though the server writes to {log}"


def _why(reason: str) -> str:
    return f" ({visible_text(reason)})" if reason else ""


class _Judge:
    """One pass over all accounts: the evidence laid on the account rows, then row by row the verdict."""

    def __init__(self, knowledge: Knowledge, now: int, start: int, excludes: Sequence[str]) -> None:
        self.knowledge, self.now, self.start, self.excludes = knowledge, now, start, excludes
        self.problems = [
            *_tracking_problems(knowledge, now, start),
            *_inventory_problems(knowledge, now),
            *_audit_problems(knowledge),
        ]
        self._matcher = AccountMatcher(
            (account.row for account in knowledge.accounts if not account.is_role),
            knowledge.settings.get("skip_name_resolve", "").upper() in ("ON", "1"),
            knowledge.settings.get("version", ""),
            knowledge.appeared,
            knowledge.skip_since,
        )
        self.unmatched = 0
        self._use: dict[AccountRow, list[Evidence]] = {}
        self._nameless: list[Evidence] = []
        for item in knowledge.evidence:
            if item.kind != "change user":
                self._lay_on_rows(item)
            elif item.last_seen >= start:
                self._nameless.append(item)
        for account, proxied in knowledge.proxies:
            # A session that acts for another account shows under its own name: it may be the use of both.
            for item in tuple(self._use.get(account, ())):
                if item.kind.endswith("open session"):
                    acting = item._replace(kind="possible open session", certain=False)
                    self._use.setdefault(proxied, []).append(acting)
        self._changes: dict[bytes, dict[AccountRow, Evidence]] = {}
        self._suspected = {row for item in knowledge.suspects if item.seen >= start for row in self._rows(*item).rows}

    def _rows(self, user: bytes, host: bytes, seen: int) -> Match:
        if self.knowledge.source == "none":
            return Match((AccountRow(user, host),), True)
        return self._matcher.match(user, host, seen)

    def _lay_on_rows(self, item: Evidence) -> None:
        """Note the evidence for every account row that it may tell of."""
        kind, user, host, first, last, _ = item
        if self.now < last <= self.now + CLOCK_SLACK:
            last = self.now
        rows, certain = (
            ((AccountRow(user, host),), True) if kind == "proxied" else self._rows(user, host, item.last_seen)
        )
        if kind == "imported":
            # The Go program also counted lines that were no logins: what was taken over from it is possible use.
            certain = False
        elif not certain:
            kind = f"possible {kind}"
        found = Evidence(kind, user, b"" if kind == "proxied" else host, first, last, certain)
        for row in rows:
            self._use.setdefault(row, []).append(found)
        self.unmatched += not rows

    def account(self, account: Account) -> AccountVerdict:
        """Judge one account."""
        seen = sorted(self._use.get(account.row, ()), key=lambda item: item.last_seen, reverse=True)
        past = [item for item in seen if item.last_seen <= self.now]
        verdict, reasons = self._verdict(account, seen, past)
        keep = self._keep_reasons(account)
        return AccountVerdict(
            account=account,
            verdict=verdict,
            removable=verdict in ("stale", "never") and not keep,
            last_seen=past[0].last_seen if past else None,
            first_seen=min((item.first_seen for item in past if item.first_seen is not None), default=None),
            last_seen_certain=bool(past) and past[0].certain,
            evidence=tuple(dict.fromkeys(item.kind for item in seen)),
            client_hosts=tuple(dict.fromkeys(item.host for item in seen if item.host)),
            keep_reasons=keep,
            reasons=tuple(reasons),
        )

    def _verdict(self, account: Account, seen: list[Evidence], past: list[Evidence]) -> tuple[str, list[str]]:
        last_use = _use_in_words(past[0]) if past else ""
        if past and past[0].last_seen >= self.start:
            return "active", [last_use]
        doubts = [*self._doubts(account, seen), *self.problems]
        if doubts:
            return "unknown", doubts
        if past:
            return "stale", [f"no use since {_day(self.start)}, all of it watched; {last_use}"]
        return "never", [f"no use since tracking began {_day(self.knowledge.tracking_since or self.now)}"]

    def _doubts(self, account: Account, seen: list[Evidence]) -> Iterator[str]:
        """Tell why this account, without use in the window, cannot be called unused."""
        if seen and seen[0].last_seen > self.now:
            yield f"a record of it is stamped in the future, {_day(seen[0].last_seen)}"
        known = account.known_since
        # A login before the window proves that the account is that old, unless it came (back) since.
        old = account.row not in self.knowledge.appeared and any(item.certain for item in seen)
        if (known is None or known > self.start) and not old:
            yield "the account is known only since " + ("now" if known is None else _day(known))
        change = self._nameless_changes(account.user).get(account.row)
        if change:
            client = visible(change.host) or "an unknown host"
            when = _day(change.last_seen)
            yield f"a session from {client} changed its user {when}, the log does not say to whom"

    def _nameless_changes(self, user: bytes) -> Mapping[AccountRow, Evidence]:
        """Give a change of user that each of the user's rows admits, and that may have been to it."""
        if user not in self._changes:
            self._changes[user] = {
                row: item
                for item in reversed(self._nameless)
                for row in self._rows(user, item.host, item.last_seen).rows
            }
        return self._changes[user]

    def _keep_reasons(self, account: Account) -> tuple[str, ...]:
        knowledge, row = self.knowledge, account.row
        objects = (knowledge.definers or {}).get(row, 0)
        reasons = {
            "role": account.is_role,
            "system account": account.user in SYSTEM_USERS,
            "conntracker's own account": knowledge.own_account == row,
            f"definer of {objects} object" + "s" * (objects != 1): objects,
            "excluded": any(excluded(row, pattern) for pattern in self.excludes),
            "named by a suspect record": row in self._suspected,
            "the server was not asked": knowledge.source != "server",
            "definers not known": knowledge.source == "server" and knowledge.definers is None,
        }
        return tuple(reason for reason, holds in reasons.items() if holds)


def excluded(row: AccountRow, pattern: str) -> bool:
    """Tell if an account pattern (user or user@host, wildcards * and ?) names the account."""
    user, at, host = pattern.rpartition("@")
    if not at:
        user, host = pattern, "*"
    return _like(row.user, user) and _like(row.host.lower(), host.lower())


def _like(name: bytes, pattern: str) -> bool:
    import fnmatch

    # fnmatch has `[...]` too, which is a plain character in account names.
    wanted = pattern.replace("[", "[[]").encode("utf-8", "surrogateescape").decode("latin-1")
    return fnmatch.fnmatchcase(name.decode("latin-1"), wanted)


def _use_in_words(item: Evidence) -> str:
    client = f" from {visible(item.host)}" if item.host else ""
    other = "" if item.certain else f" as {visible(item.user) or 'anonymous'}"
    return f"{item.kind} {_day(item.last_seen)}{client}{other}"


def _day(instant: int | None) -> str:
    return utc(instant)[:10]


def utc(instant: int | None) -> str:
    """Give an instant (epoch seconds) as 2026-01-31T00:00:00Z, None as '', one that no calendar has as the number."""
    if instant is None:
        return ""
    try:
        stamp = datetime.fromtimestamp(instant, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return str(instant)
    return stamp.strftime("%Y-%m-%dT%H:%M:%SZ")


# ---------------------------------------------------------------------------------------------------------
# Report writers
# ---------------------------------------------------------------------------------------------------------


def write_report(report: Report, form: str) -> str:
    """Give the report as text in one of the forms that FORMATS allows."""
    writers = {
        "table": table_report,
        "json": json_report,
        "csv": csv_report,
        "prometheus": prometheus_report,
        "sql": sql_report,
    }
    return writers[form](report)


def table_report(report: Report) -> str:
    """Give the report for people: 100 columns, what may go first, each account's reasons below it."""
    knowledge = report.knowledge
    source = {"server": "of the server", "file": "of a file", "none": "none"}[knowledge.source]
    age = "" if knowledge.inventory_at is None else f", {_age(report.now - knowledge.inventory_at)} old"
    width = max([20, *(len(item.name) for item in report.accounts if len(item.name) <= 44)])
    totals = ", ".join(f"{report.counts[verdict]} {verdict}" for verdict in VERDICTS)
    lines = [
        *_wrapped("server: ", report.server or "not asked"),
        f"tracking: since {_minute(knowledge.tracking_since)}, until {_minute(knowledge.last_run)} (UTC)",
        f"window: {report.window_days} days, since {_minute(report.window_start)}",
        f"gaps in the window: {report.gaps or 'none'}",
        f"inventory: {source}{age}",
        *_wrapped("problem: ", *report.problems),
        *_wrapped("note: ", *report.notes),
        "",
        f"  {'ACCOUNT':{width}}  {'VERDICT':8} {'LAST SEEN':17} {'HOSTS':>5}  EVIDENCE",
    ]
    for item in report.accounts:
        lines += _table_rows(item, width, report.problems)
    lines += ["", f"{len(report.accounts)} accounts: {totals}; {len(report.removable)} removable (*)"]
    return "\n".join(map(str.rstrip, lines)) + "\n"


def _table_rows(item: AccountVerdict, width: int, problems: Sequence[str]) -> Iterator[str]:
    mark = "* " if item.removable else "  "
    name = item.name
    if len(name) > width:
        yield from _wrapped(mark, name)
        mark, name = "  ", ""
    seen = "-" if item.last_seen is None else _minute(item.last_seen) + "?" * (not item.last_seen_certain)
    line = f"{mark}{name:{width}}  {item.verdict:8} {seen:17} {len(item.client_hosts):5}  "
    evidence, room = ", ".join(item.evidence) or "-", TABLE_WIDTH - len(line)
    yield line + (evidence if len(evidence) <= room else evidence[: max(room - 2, 0)] + "..")
    # What holds for every account stands once, in the header.
    why = [reason for reason in item.reasons if reason not in problems]
    if len(why) < len(item.reasons):
        why.append("the problems above")
    more = len(item.client_hosts) - SHOWN_HOSTS
    hosts = ", ".join(map(visible, item.client_hosts[:SHOWN_HOSTS])) + (f" and {more} more" if more > 0 else "")
    facts = ["locked"] * bool(item.account.locked) + ["expired"] * bool(item.account.expired)
    below = {"hosts": hosts, "why": "; ".join(why), "keep": "; ".join(item.keep_reasons), "is": ", ".join(facts)}
    for label, text in below.items():
        if text:
            yield from _wrapped(f"      {label}: ", text)


def _wrapped(label: str, *texts: str) -> Iterator[str]:
    """Label long texts, and break them at blanks, or anywhere in a long word, to the table's width."""
    room = TABLE_WIDTH - len(label)
    for text in texts:
        start, rest = label, text
        while len(rest) > room:
            cut = rest.rfind(" ", room // 2, room + 1)
            cut = room if cut < 0 else cut
            yield start + rest[:cut]
            start, rest = " " * len(label), rest[cut:].lstrip()
        yield start + rest


def _minute(instant: int | None) -> str:
    return utc(instant)[:16].replace("T", " ") or "never"


def _age(seconds: int) -> str:
    for size, unit in ((DAY, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def json_report(report: Report) -> str:
    """Give the report for programs, schema 1; instants are UTC.

    Names are as the server stores them; `user_hex`/`host_hex` are added where the bytes are not UTF-8.
    """
    import json

    knowledge = report.knowledge
    setting = knowledge.settings.get
    named = ("hostname", "version", "datadir", "system_time_zone")
    data = {
        "schema": REPORT_SCHEMA,
        "generated_at": utc(report.now),
        "server": {
            **{name: visible_text(setting(name, "")) or None for name in named},
            "skip_name_resolve": setting("skip_name_resolve", "").upper() in ("ON", "1"),
        },
        "tracking": {
            "since": utc(knowledge.tracking_since) or None,
            "until": utc(knowledge.last_run) or None,
            "last_record": utc(knowledge.last_record) or None,
            "gaps": [
                {"began": utc(gap.began), "ended": utc(gap.ended), "reason": visible_text(gap.reason)}
                for gap in knowledge.gaps
            ],
        },
        "inventory": {
            "source": knowledge.source,
            "taken_at": utc(knowledge.inventory_at) or None,
            "definers_known": knowledge.definers is not None,
            "sessions_complete": knowledge.sessions_complete,
        },
        "window_days": report.window_days,
        "window_start": utc(report.window_start),
        "problems": report.problems,
        "notes": report.notes,
        "accounts": [
            {**_facts(item), **_json_name("user", item.account.user), **_json_name("host", item.account.host)}
            for item in report.accounts
        ],
    }
    return json.dumps(data, indent=2) + "\n"


def _json_name(key: str, name: bytes) -> dict[str, str]:
    try:
        return {key: name.decode("utf-8")}
    except UnicodeDecodeError:
        return {key: visible(name), f"{key}_hex": name.hex()}


def _facts(item: AccountVerdict) -> dict[str, Any]:
    """Give all that is told of an account, for programs."""
    facts: dict[str, Any] = {**item.account._asdict(), **item._asdict()}
    del facts["account"]
    facts.update({name: utc(facts[name]) or None for name in ("last_seen", "first_seen", "known_since")})
    newest = [visible(host) for host in item.client_hosts[:SHOWN_HOSTS]]
    facts["client_hosts"] = {"count": len(item.client_hosts), "newest": newest}
    return facts


def csv_report(report: Report) -> str:
    """Give one line per account (RFC 4180), no field of which a spreadsheet takes for a formula."""
    rows = []
    for item in report.accounts:
        facts = _facts(item)
        hosts = facts["client_hosts"]
        user, host = visible(item.account.user), visible(item.account.host)
        rows.append(
            {**facts, "user": user, "host": host, "client_hosts": hosts["count"], "newest_hosts": hosts["newest"]}
        )
    return csv_text(
        "user,host,verdict,removable,last_seen,first_seen,known_since,locked,client_hosts,newest_hosts,evidence,"
        "keep_reasons,reasons",
        rows,
    )


def csv_text(header: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write the columns of a header and of each row."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    columns = header.split(",")
    writer.writerow(columns)
    writer.writerows([_not_a_formula(_cell(row[column])) for column in columns] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return "; ".join(value) if isinstance(value, (list, tuple)) else str(value)


def _not_a_formula(value: str) -> str:
    """Put a quote before what a spreadsheet would take for a formula, or for such a quote."""
    return "'" + value if value[:1] and value[0] in "'=+-@|\t\r\n\uff1d\uff0b\uff0d\uff20" else value


def prometheus_report(report: Report) -> str:
    """Give gauges for node_exporter's textfile collector: no names, no stamps, a fixed number of series."""
    knowledge = report.knowledge
    lines = ["# HELP conntracker_accounts Accounts by verdict.", "# TYPE conntracker_accounts gauge"]
    lines += [f'conntracker_accounts{{verdict="{verdict}"}} {report.counts[verdict]}' for verdict in VERDICTS]
    # What each tells, behind its name.
    metrics = {
        "accounts_removable Accounts that are stale or never used, with nothing to keep them.": len(report.removable),
        "window_seconds Length of the window in which an account must be used to be active.": report.window_days * DAY,
        "tracking_start_timestamp_seconds Time of the oldest record read.": knowledge.tracking_since,
        "last_record_timestamp_seconds Time of the newest record read.": knowledge.last_record,
        "last_run_timestamp_seconds Time of the last successful run.": knowledge.last_run,
        "inventory_timestamp_seconds Time at which the server was last asked for its accounts.": knowledge.inventory_at,
        "gaps Stretches within the window whose records are lost.": report.gaps,
        "problems Reasons for which no account is called unused.": len(report.problems),
        "suspect_records Login records that may be forged or torn.": len(knowledge.suspects),
        "unparsed_records Records that could not be read.": knowledge.unparsed,
    }
    for help_text, value in metrics.items():
        name = help_text.split()[0]
        if value is not None:
            lines += [
                f"# HELP conntracker_{help_text}",
                f"# TYPE conntracker_{name} gauge",
                f"conntracker_{name} {value}",
            ]
    return "\n".join(lines) + "\n"


def sql_report(report: Report) -> str:
    """Give a script that locks the removable accounts, for review; the undo follows it as comments."""
    lines = _sql_header(report, "lock")
    for item in report.removable:
        statement = "-- already locked:" if item.account.locked else sql_statement(item.account.row, "LOCK") + " --"
        lines.append(f"{statement} {item.name}: {item.verdict}; {'; '.join(item.reasons)}")
    lines += ["", "-- To undo:", *(f"-- {line}" for line in _unlock_lines(report))]
    return "\n".join(lines) + "\n"


def sql_undo_report(report: Report) -> str:
    """Give the script that undoes sql_report."""
    return "\n".join([*_sql_header(report, "unlock"), *_unlock_lines(report)]) + "\n"


def _sql_header(report: Report, what: str) -> list[str]:
    return [
        f"-- conntracker: {what} {len(report.removable)} unused accounts of {report.server or 'an unknown server'}",
        f"-- judged {utc(report.now)}, window {report.window_days} days; for review, nothing was run",
        "SET NAMES utf8mb4;",
    ]


def _unlock_lines(report: Report) -> Iterator[str]:
    """Give the statements for all but the accounts that were locked before: they stay so."""
    for item in report.removable:
        if not item.account.locked:
            yield f"{sql_statement(item.account.row, 'UNLOCK')} -- {item.name}"


def sql_statement(row: AccountRow, action: str) -> str:
    """Give ALTER USER for any name, right with and without NO_BACKSLASH_ESCAPES and ANSI_QUOTES.

    Backslashes and quotes go into backquotes, which know no escape but themselves doubled; a name with
    characters that do not show goes into hex, so that the script has one statement a line and hides nothing.
    """
    try:
        user, host = row.user.decode("utf-8"), row.host.decode("utf-8")
    except UnicodeDecodeError:
        return "-- a name that is not UTF-8 cannot be written in SQL:"
    if not host or user.endswith(" ") or host.endswith(" "):
        # The server would take an empty host for '%' and drop blanks at the end: another account's name.
        return "-- a name that SQL cannot tell from another's:"
    shows = (visible_text(user), visible_text(host)) == (user, host)
    if shows and not set(user + host) & set("'\\"):
        account = f"'{user}'@'{host}'"
    else:
        account = "`{}`@`{}`".format(user.replace("`", "``"), host.replace("`", "``"))
    statement = f"ALTER USER {account} ACCOUNT {action}"
    return f"{statement};" if shows else f"EXECUTE IMMEDIATE CONVERT(x'{statement.encode().hex()}' USING utf8mb4);"


def write_atomically(path: str, text: str, mode: int = 0o644) -> None:
    """Write a file by a temporary file and a rename in the same folder, so that no reader sees half of it.

    Raises ConntrackerError that names the file.
    """
    import tempfile

    folder, name = os.path.split(os.path.abspath(path))
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            os.unlink(temporary)
        raise ConntrackerError(f"output: {visible_text(path)}: {error.strerror}") from None


# ---------------------------------------------------------------------------------------------------------
# Status
# ---------------------------------------------------------------------------------------------------------

STATUS_GOOD, STATUS_WARNING, STATUS_CRITICAL = 0, 1, 2
# A run is expected at least daily.
LATE_RUN_SECONDS = DAY + 3600
SILENT_SECONDS = 3 * DAY


class Status(NamedTuple):
    """The state of the tracker for a monitoring check: code 0 good, 1 warning, 2 critical."""

    code: int
    checks: tuple[tuple[str, int, str], ...]
    facts: Mapping[str, int | str | None]

    def text(self) -> str:
        """Give one line a check, the worst first, with the state in front."""
        words = ("OK", "WARNING", "CRITICAL")
        ordered = sorted(self.checks, key=lambda check: -check[1])
        return "".join(f"{words[code]:8} {name}: {text}\n" for name, code, text in ordered)

    def json(self) -> str:
        """Give the same for programs."""
        import json

        checks = [{"check": name, "code": code, "text": text} for name, code, text in self.checks]
        data = {"schema": REPORT_SCHEMA, "code": self.code, **self.facts, "checks": checks}
        return json.dumps(data, indent=2) + "\n"


def tracker_status(knowledge: Knowledge, now: int, asked: bool) -> Status:
    """Judge the tracker itself; `now` in epoch seconds; `asked` tells that an inventory is wanted."""
    logins = {(item.user, item.host): item.last_seen for item in knowledge.evidence if item.kind == "login"}
    newest = max(logins.values(), default=None)
    silent = newest is None or not -CLOCK_SLACK <= now - newest <= SILENT_SECONDS
    lost_until = max((gap.ended for gap in knowledge.gaps), default=None)
    lost = "" if lost_until is None else f", the newest until {_minute(lost_until)}"
    audit = "; ".join(_audit_problems(knowledge))
    settings = "logins are logged" if knowledge.source == "server" else "not asked"
    checks = (
        ("last run", *_run_state(knowledge.last_run, now)),
        ("tracking", _warning_if(not knowledge.tracking_since), f"since {_minute(knowledge.tracking_since)}"),
        ("logins", _warning_if(silent), "none was ever seen" if newest is None else f"the newest {_minute(newest)}"),
        ("gaps", _warning_if(lost_until and lost_until >= now - 7 * DAY), f"{len(knowledge.gaps)}{lost}"),
        ("suspect records", _warning_if(knowledge.suspects), str(len(knowledge.suspects))),
        ("unparsed records", _warning_if(knowledge.unparsed), str(knowledge.unparsed)),
        ("audit settings", STATUS_CRITICAL if audit else STATUS_GOOD, audit or settings),
        ("inventory", *(_inventory_state(knowledge, now) if asked else (STATUS_GOOD, "not configured"))),
    )
    facts = {
        "version": __version__,
        "tracking_since": utc(knowledge.tracking_since) or None,
        "last_run": utc(knowledge.last_run) or None,
        "accounts": len(logins),
    }
    return Status(max(code for _, code, _ in checks), checks, facts)


def _warning_if(bad: object) -> int:
    return STATUS_WARNING if bad else STATUS_GOOD


def _run_state(last_run: int | None, now: int) -> tuple[int, str]:
    if last_run is None:
        return STATUS_CRITICAL, "never"
    lag = now - last_run
    if lag < -CLOCK_SLACK:
        return STATUS_WARNING, f"{_minute(last_run)}, in the future"
    code = STATUS_CRITICAL if lag > FRESH_SECONDS else _warning_if(lag > LATE_RUN_SECONDS)
    return code, f"{_minute(last_run)}, {_age(max(lag, 0))} ago"


def _inventory_state(knowledge: Knowledge, now: int) -> tuple[int, str]:
    problems = list(_inventory_problems(knowledge, now))
    if knowledge.definers is None and knowledge.source == "server":
        problems.append("definers are not known")
    age = [] if knowledge.inventory_at is None else [f"{_age(max(now - knowledge.inventory_at, 0))} old"]
    return _warning_if(problems), "; ".join(problems + age)


# ---------------------------------------------------------------------------------------------------------
# Store: all SQL
# ---------------------------------------------------------------------------------------------------------

SCHEMA_VERSION = 1
SCHEMA = """
-- What conntracker knows.  Instants are seconds since 1970-01-01 UTC.  Names are the log's bytes (BLOB); read
-- them with CAST(user AS TEXT).

-- Single facts: tracking_since, last_record, last_run, last_processed, unparsed, time_format, ...
CREATE TABLE meta (key TEXT PRIMARY KEY, value);

-- What the log tells of an account name and a client host: the first and the last instant of each kind of
-- evidence.  kind: 'login' a successful login | 'imported' taken over from the Go program | 'proxied' the account
-- row used by a proxy user (host: its host pattern) | 'session end' the last user of a session that changed its
-- user | 'change user' such a change, without a name (host '' if it is not known).
-- settled: 0 for the last bytes of the live log, which each run reads and judges again.
-- shown: last_seen in TimeFormatDB.  user_text, host_text: for names that are not UTF-8.
CREATE TABLE evidence (
    kind TEXT NOT NULL, user BLOB NOT NULL, host BLOB NOT NULL, settled INTEGER NOT NULL,
    first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, shown TEXT, user_text TEXT, host_text TEXT,
    PRIMARY KEY (kind, user, host, settled)
) WITHOUT ROWID;

-- The latest login of a name and host that the log itself contradicts: it may be forged.
CREATE TABLE suspect (
    user BLOB NOT NULL, host BLOB NOT NULL, settled INTEGER NOT NULL,
    seen INTEGER NOT NULL, file TEXT NOT NULL, "offset" INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (user, host, settled)
) WITHOUT ROWID;

-- Times of which records were lost before they were read.
CREATE TABLE gap (
    began INTEGER NOT NULL, ended INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (began, ended)
);

-- Where reading goes on in each log; offsets in bytes of text, modified in nanoseconds.
CREATE TABLE file (
    path BLOB NOT NULL, device INTEGER NOT NULL, inode INTEGER NOT NULL, stored_size INTEGER NOT NULL,
    modified INTEGER NOT NULL, tail INTEGER NOT NULL, "end" INTEGER NOT NULL, live INTEGER NOT NULL,
    first INTEGER, last INTEGER, head BLOB NOT NULL, before BLOB NOT NULL
);

-- Open sessions that changed their user: the client host of their login, '' if it is not known.
CREATE TABLE session (connection INTEGER PRIMARY KEY, host BLOB NOT NULL);

-- As the Go program had it: the latest login of each name and client host.  mysql|localhost is no account here,
-- but tells up to which time of modification the logs were read.
CREATE VIEW Accounts (name, host, last_seen) AS
SELECT name, host, shown FROM (
    SELECT coalesce(user_text, CAST(user AS TEXT)) AS name, coalesce(host_text, CAST(host AS TEXT)) AS host,
           shown, max(last_seen)
    FROM evidence
    WHERE kind IN ('login', 'imported') AND NOT (user = CAST('mysql' AS BLOB) AND host = CAST('localhost' AS BLOB))
    GROUP BY user, host)
UNION ALL
SELECT 'mysql', 'localhost', value FROM meta WHERE key = 'last_processed_shown';

-- The server's accounts, the definers of its objects and its proxy grants, as of the last inventory; the verdict as of
-- the last collect, which Verdicts and Unused show.
CREATE TABLE account (
  user BLOB NOT NULL, host BLOB NOT NULL, is_role INTEGER NOT NULL, locked INTEGER, expired INTEGER,
  plugin TEXT NOT NULL, known_since INTEGER NOT NULL, listed_at INTEGER NOT NULL, PRIMARY KEY (user, host)
) WITHOUT ROWID;
CREATE TABLE definer (
  user BLOB NOT NULL, host BLOB NOT NULL, objects INTEGER NOT NULL, PRIMARY KEY (user, host)
) WITHOUT ROWID;
CREATE TABLE proxy (
  user BLOB NOT NULL, host BLOB NOT NULL, proxied_user BLOB NOT NULL, proxied_host BLOB NOT NULL,
  PRIMARY KEY (user, host, proxied_user, proxied_host)
) WITHOUT ROWID;
CREATE TABLE verdict (
  user BLOB NOT NULL, host BLOB NOT NULL, account TEXT NOT NULL, verdict TEXT NOT NULL,
  removable INTEGER NOT NULL, last_seen INTEGER, first_seen INTEGER, known_since INTEGER,
  client_hosts INTEGER NOT NULL, evidence TEXT NOT NULL,
  keep_reasons TEXT NOT NULL, reasons TEXT NOT NULL, window_days INTEGER NOT NULL, judged_at INTEGER NOT NULL,
  PRIMARY KEY (user, host)
) WITHOUT ROWID;
CREATE VIEW Verdicts AS
  SELECT account,
    CASE WHEN fresh THEN verdict ELSE 'unknown' END AS verdict,
    removable AND fresh AS removable,
    strftime('%Y-%m-%dT%H:%M:%SZ', last_seen, 'unixepoch') AS last_seen,
    strftime('%Y-%m-%dT%H:%M:%SZ', first_seen, 'unixepoch') AS first_seen,
    strftime('%Y-%m-%dT%H:%M:%SZ', known_since, 'unixepoch') AS known_since,
    client_hosts, evidence, keep_reasons,
    CASE WHEN fresh THEN reasons ELSE 'judged too long ago; ' || reasons END AS reasons,
    window_days, strftime('%Y-%m-%dT%H:%M:%SZ', judged_at, 'unixepoch') AS judged_at
  FROM (SELECT *, strftime('%s', 'now') - judged_at BETWEEN -3600 AND 172800 AS fresh FROM verdict)
  ORDER BY removable DESC, last_seen;
CREATE VIEW Unused AS SELECT * FROM Verdicts WHERE removable;
"""
_ADD_EVIDENCE = """
INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, user, host, settled) DO UPDATE SET
    first_seen = min(first_seen, excluded.first_seen),
    shown = CASE WHEN excluded.last_seen > last_seen THEN excluded.shown ELSE shown END,
    last_seen = max(last_seen, excluded.last_seen)
"""
_ADD_SUSPECT = """
INSERT INTO suspect VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user, host, settled) DO UPDATE SET
    seen = excluded.seen, file = excluded.file, "offset" = excluded."offset", reason = excluded.reason
    WHERE excluded.seen > seen
"""
# The last bytes of the live log are not there to be read again: what they said stays.
_SETTLE = """
INSERT INTO evidence SELECT kind, user, host, 1, first_seen, last_seen, shown, user_text, host_text
    FROM evidence WHERE settled = 0
    ON CONFLICT (kind, user, host, settled) DO UPDATE SET
    first_seen = min(first_seen, excluded.first_seen),
    shown = CASE WHEN excluded.last_seen > last_seen THEN excluded.shown ELSE shown END,
    last_seen = max(last_seen, excluded.last_seen);
INSERT OR REPLACE INTO suspect SELECT user, host, 1, seen, file, "offset", reason FROM suspect WHERE settled = 0;
"""
_FORGET_TAILS = """
DELETE FROM evidence WHERE settled = 0;
DELETE FROM suspect WHERE settled = 0;
"""
_FORGET_OLD_SUSPECTS = """
DELETE FROM suspect WHERE EXISTS (SELECT 1 FROM evidence AS e
    WHERE e.kind IN ('login', 'proxied') AND e.user = suspect.user AND e.host = suspect.host
    AND e.last_seen >= suspect.seen)
"""
_LOGINS = """
SELECT user, host, min(first_seen), max(last_seen), max(kind = 'login'), NULL FROM evidence
    WHERE kind IN ('login', 'imported') GROUP BY user, host
UNION ALL
SELECT user, host, NULL, max(seen), 0, file || ':' || "offset" || ': ' || reason FROM suspect GROUP BY user, host
ORDER BY 1, 2
"""


class Store:
    """The SQLite database.  Every method raises DatabaseError, in words."""

    def __init__(self, path: str, layout: Layout, zone: tzinfo | None, write: bool) -> None:
        self.path, self.layout, self.zone = path, layout, zone
        self.shown: dict[int, str] = {}
        self.begun = False
        with self._explained():
            mode = "rw" if write else "ro"
            name = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
            self.db = sqlite3.connect(f"file:{name}?mode={mode}", uri=True, timeout=20, isolation_level=None)
            self.db.text_factory = decoded
            self._check_version(write)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise DatabaseError(f"{self.path}: {error}: {_advice(str(error))}") from None

    def _check_version(self, write: bool) -> None:
        """Make the tables in an empty database, take over the Go program's, refuse what is not ours."""
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise DatabaseError(
                f"{self.path}: made by a newer conntracker "
                f"(schema {version}, known here: {SCHEMA_VERSION}): upgrade this one"
            )
        if version == SCHEMA_VERSION:
            return
        names = {name for (name,) in self.db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
        if names and names != {"Accounts"}:
            raise DatabaseError(f"{self.path}: a database of something else: check SqlitePath")
        if not write:
            raise DatabaseError(f"{self.path}: nothing collected yet: run conntracker collect first")
        self.begin()
        self._create(bool(names))

    def _create(self, takeover: bool) -> None:
        rows: list[tuple[bytes, bytes, bytes]] = []
        if takeover:
            blobs = "CAST(name AS BLOB), CAST(host AS BLOB), CAST(last_seen AS BLOB)"
            rows = self.db.execute(f"SELECT {blobs} FROM Accounts").fetchall()
            self.db.execute("DROP TABLE Accounts")
        for statement in _statements(SCHEMA):
            self.db.execute(statement)
        self.db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for name, host, text in rows:
            self._import(name or b"", host or b"", (text or b"").decode("utf-8", "replace"))

    def _import(self, name: bytes, host: bytes, text: str) -> None:
        """Take over one row of the Go program, whose mysql|localhost is the time up to which it had read."""
        instant = _read_instant(text, self.layout, self.zone)
        if (name, host) == (b"mysql", b"localhost"):
            self.set(last_processed=instant, last_processed_shown=text)
        else:
            shown = self.show(instant) if instant else text
            row = ("imported", name, host, 1, instant, instant, shown, _odd_text(name), _odd_text(host))
            self.db.execute(_ADD_EVIDENCE, row)

    def run(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Run one statement; return its rows."""
        with self._explained():
            return self.db.execute(sql, values).fetchall()

    def run_for(self, rows: Iterable[Sequence[Any]], sql: str) -> None:
        """Run one statement for each of many rows of values."""
        with self._explained():
            self.db.executemany(sql, rows)

    def begin(self) -> None:
        """Begin the transaction, unless it has begun."""
        if not self.begun:
            self.run("BEGIN IMMEDIATE")
            self.begun = True

    def commit(self) -> None:
        """Make all of it true at once."""
        self.run("COMMIT")
        self.begun = False

    def get(self, key: str) -> Any:
        """Return a single fact or None."""
        rows = self.run("SELECT value FROM meta WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def set(self, **facts: int | str | None) -> None:
        """Keep single facts."""
        with self._explained():
            _put_meta(self.db, facts)

    def show(self, instant: int) -> str:
        """Write an instant in TimeFormatDB."""
        text = self.shown.get(instant)
        if text is None:
            if len(self.shown) > 4096:
                self.shown.clear()
            text = self.shown[instant] = self.layout.format(local(instant, self.zone))
        return text

    def known(self) -> list[Known]:
        """Return the logs as the last run left them."""
        return [Known(os.fsdecode(path), *rest) for path, *rest in self.run("SELECT * FROM file")]

    def sessions(self) -> dict[int, bytes]:
        """Return the open sessions that changed their user."""
        return dict(self.run("SELECT connection, host FROM session"))

    def add(self, kind: str, settled: bool, facts: Iterable[tuple[bytes, bytes, int, int]]) -> None:
        """Add evidence: user, host, first and last instant."""
        show: Callable[[int], str | None] = self.show if kind == "login" else lambda _: None
        rows = (
            (kind, user, host, int(settled), first, last, show(last), _odd_text(user), _odd_text(host))
            for user, host, first, last in facts
        )
        self.run_for(rows, _ADD_EVIDENCE)

    def add_suspects(self, rows: Iterable[tuple[bytes, bytes, int, int, str, int, str]]) -> None:
        """Add suspect logins: user, host, settled, instant, file, offset, reason."""
        self.run_for(rows, _ADD_SUSPECT)

    def end_tails(self, found: bool) -> None:
        """Drop what the last bytes of the live log said, for they are read again; else keep it for good."""
        for statement in _statements(_FORGET_TAILS if found else _SETTLE + _FORGET_TAILS):
            self.run(statement)

    def replace_state(
        self, files: Iterable[Known], sessions: dict[int, bytes], gaps: Iterable[tuple[int, int, str]]
    ) -> None:
        """Keep where reading goes on, and the new gaps."""
        with self._explained():
            _replace_rows(self.db, "file", ((os.fsencode(f.path), *f[1:]) for f in files))
            _replace_rows(self.db, "session", sessions.items())
        self.run_for(gaps, "INSERT OR IGNORE INTO gap VALUES (?, ?, ?)")
        self.run(_FORGET_OLD_SUSPECTS)

    def show_anew(self) -> None:
        """Write all times again where TimeFormatDB or TimeLocation has changed."""
        wanted = f"{self.layout.text} {self.zone}"
        known = self.get("time_format")
        if known == wanted:
            return
        if known is not None:
            self.db.create_function("shown_anew", 1, self.show)
            self.run("UPDATE evidence SET shown = shown_anew(last_seen) WHERE shown > '' AND last_seen > 0")
        self.set(time_format=wanted)

    def knowledge(self, accounts_file: Inventory | None = None) -> Knowledge:
        """Return all that the verdict rests on; an accounts file takes the place of the inventory."""
        with self._explained():
            return load_for_verdict(self.db, accounts_file)

    def change(self, action: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do something with the database in a transaction of its own."""
        self.begin()
        with self._explained():
            result = action(self.db)
        self.commit()
        return result

    def logins(self) -> list[tuple[bytes, bytes, int | None, int, int, str | None]]:
        """Return user, host, first, last, whether seen in the log, and what is suspect of each row."""
        return self.run(_LOGINS)


def _statements(script: str) -> Iterator[str]:
    """Part a script into statements; executescript would commit."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""


def _odd_text(name: bytes) -> str | None:
    r"""Return how a name is shown that is not UTF-8, else None."""
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return decoded(name)
    return None


def _read_instant(text: str, layout: Layout, zone: tzinfo | None) -> int:
    """Read a time as the Go program wrote it; 0 if it cannot be read."""
    forms = ("2006-01-02 15:04:05-07:00", "2006-01-02T15:04:05Z07:00", "%Y-%m-%dT%H:%M:%S%f%:z")
    for known in (layout, *map(_known_layout, forms)):
        parsed = known.parse(text)
        if parsed:
            values, offset = parsed
            with contextlib.suppress(ValueError, KeyError):
                naive = _moment(values, 1970)
                return epoch(naive, zone, 0) if offset is None else _with_offset(naive, offset)
    return 0


def _advice(error: str) -> str:
    """Say what to do about an error of SQLite."""
    for line in _ADVICE.splitlines():
        part, _, advice = line.partition(" -> ")
        if part and part in error:
            return advice
    return "nothing was stored"


_ADVICE = """
not a database -> name another SqlitePath, or move this file away
malformed -> restore it from a backup, or move it away: the logs that are still there are read again
full -> make room: nothing was stored, the next run goes on
readonly -> let this user write the file and its folder
locked -> another program holds it: nothing was stored, the next run goes on
unable to open -> check that its folder exists and that this user may read and write there
"""

# Settings kept in the table meta, by their key there.
_META_SETTINGS = {
    "version": "server_version",
    "hostname": "server_hostname",
    "datadir": "server_datadir",
    "system_time_zone": "server_zone",
    "utc_offset": "server_utc_offset",
    "skip_name_resolve": "skip_name_resolve",
    "read_only": "server_read_only",
    "uptime": "server_uptime",
    "audit_plugin": "audit_plugin",
    "server_audit_logging": "audit_logging",
    "server_audit_active": "audit_active",
    "server_audit_events": "audit_events",
    "server_audit_file_path": "audit_file_path",
    "server_audit_current_log": "audit_current_log",
    "server_audit_output_type": "audit_output_type",
    "server_audit_file_rotations": "audit_file_rotations",
    "server_audit_file_rotate_size": "audit_file_rotate_size",
    "server_audit_writes_failed": "audit_writes_failed",
}


def _meta(db: sqlite3.Connection) -> dict[str, Any]:
    return dict(db.execute("SELECT key, value FROM meta"))


def _put_meta(db: sqlite3.Connection, values: Mapping[str, int | str | bytes | None]) -> None:
    db.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", values.items())


def _replace_rows(db: sqlite3.Connection, table: str, rows: Iterable[Sequence[Any]]) -> None:
    rows = list(rows)
    db.execute(f"DELETE FROM {table}")
    if rows:
        db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)


def store_inventory(db: sqlite3.Connection, inventory: Inventory, now: int) -> None:
    """Keep an inventory of the server; the caller holds the transaction. `now` in epoch seconds.

    An account keeps the instant at which it was first listed; one that vanished and came back is new.
    """
    meta = _meta(db)
    _store_blind_time(db, meta, inventory, now)
    known = {(user, host): since for user, host, since in db.execute("SELECT user, host, known_since FROM account")}
    _replace_rows(db, "account", ((*a[:6], known.get(a.row, now), now) for a in inventory.accounts))
    db.executemany(
        "INSERT INTO evidence (kind, user, host, settled, first_seen, last_seen)"
        " VALUES ('open session', ?, ?, 1, ?, ?) ON CONFLICT (kind, user, host, settled)"
        " DO UPDATE SET last_seen = max(last_seen, excluded.last_seen)",
        ((*session, now, now) for session in inventory.sessions),
    )
    if inventory.definers is not None:
        _replace_rows(db, "definer", ((*row, objects) for row, objects in inventory.definers.items()))
        _put_meta(db, {"definers_at": now})
    if inventory.proxies is not None:
        _replace_rows(db, "proxy", ((*proxy.account, *proxy.proxied) for proxy in inventory.proxies))
    if meta.get("skip_name_resolve") not in (None, inventory.settings.get("skip_name_resolve")):
        _put_meta(db, {"skip_name_resolve_since": now})
    own_user, own_host = inventory.own_account or (None, None)
    _put_meta(
        db,
        {
            **{key: inventory.settings.get(name) for name, key in _META_SETTINGS.items()},
            "inventory_at": now,
            "inventory_error": "",
            "first_inventory": meta.get("first_inventory") or now,
            "sessions_complete": int(inventory.sessions_complete),
            "own_user": own_user,
            "own_host": own_host,
        },
    )


def _store_blind_time(db: sqlite3.Connection, meta: Mapping[str, Any], inventory: Inventory, now: int) -> None:
    """Record a gap for the time between two inventories if auditing was off or blind at either."""
    since = meta.get("audit_checked_at", now)
    blind = "; ".join(_audit_problems(Knowledge("server", settings=inventory.settings)))
    reason = blind or meta.get("audit_blind")
    if reason:
        longer = db.execute("UPDATE gap SET ended = ? WHERE ended = ? AND reason = ?", (now, since, reason))
        if not longer.rowcount:
            db.execute("INSERT OR IGNORE INTO gap (began, ended, reason) VALUES (?, ?, ?)", (since, now, reason))
    _put_meta(db, {"audit_blind": blind, "audit_checked_at": now})


def store_inventory_failure(db: sqlite3.Connection, error: str) -> None:
    """Remember that the server could not be asked: until it can, no account is called unused."""
    _put_meta(db, {"inventory_error": error})


def store_accounts_file(db: sqlite3.Connection, inventory: Inventory, now: int) -> Inventory:
    """Give the file's accounts with the instant since when each is known; remembers those first given now."""
    import json

    earlier = json.loads(_meta(db).get("accounts_file_known") or "{}")
    keys = [f"{account.user.hex()}@{account.host.hex()}" for account in inventory.accounts]
    known = {key: earlier.get(key, now) for key in keys}
    _put_meta(db, {"accounts_file_known": json.dumps(known)})
    accounts = (
        account if account.known_since is not None else account._replace(known_since=known[key])
        for account, key in zip(inventory.accounts, keys)
    )
    return inventory._replace(accounts=tuple(accounts))


_ALL_EVIDENCE = "SELECT kind, user, host, MIN(first_seen), MAX(last_seen) FROM evidence GROUP BY kind, user, host"


def load_for_verdict(db: sqlite3.Connection, accounts_file: Inventory | None = None) -> Knowledge:
    """Read everything that the verdict rests on; with an accounts file its list replaces the stored one."""
    meta = _meta(db)
    knowledge = Knowledge(
        evidence=tuple(itertools.starmap(Evidence, db.execute(_ALL_EVIDENCE))),
        suspects=tuple(itertools.starmap(Suspect, db.execute("SELECT user, host, seen FROM suspect"))),
        gaps=tuple(itertools.starmap(Gap, db.execute("SELECT began, ended, reason FROM gap ORDER BY began"))),
        tracking_since=meta.get("tracking_since"),
        last_record=meta.get("last_record"),
        last_run=meta.get("last_run"),
        unparsed=meta.get("unparsed") or 0,
    )
    if accounts_file is not None:
        source, taken_at, accounts, settings, *_ = accounts_file
        return knowledge._replace(source=source, accounts=accounts, settings=settings, inventory_at=taken_at)
    accounts = tuple(
        Account(user, host, bool(is_role), _flag(locked), _flag(expired), plugin, since)
        for user, host, is_role, locked, expired, plugin, since, _ in db.execute("SELECT * FROM account")
    )
    listed = {account.row: account.known_since or 0 for account in accounts}
    definers = {AccountRow(user, host): objects for user, host, objects in db.execute("SELECT * FROM definer")}
    asked, definers_at = meta.get("inventory_at"), meta.get("definers_at")
    return knowledge._replace(
        source="server" if accounts else "none",
        accounts=accounts,
        appeared={row: since for row, since in listed.items() if since > meta["first_inventory"]},
        definers=definers if definers_at and asked - definers_at <= FRESH_SECONDS else None,
        proxies=tuple(itertools.starmap(_proxy, db.execute("SELECT * FROM proxy"))),
        settings={name: str(meta[key]) for name, key in _META_SETTINGS.items() if meta.get(key) is not None},
        inventory_at=asked,
        inventory_error=meta.get("inventory_error") or "",
        sessions_complete=bool(meta.get("sessions_complete")),
        skip_since=meta.get("skip_name_resolve_since") or 0,
        own_account=None if meta.get("own_user") is None else AccountRow(meta["own_user"], meta["own_host"]),
    )


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def store_verdicts(db: sqlite3.Connection, report: Report) -> None:
    """Replace the verdicts that the views Verdicts and Unused show; the caller holds the transaction."""
    _replace_rows(
        db,
        "verdict",
        (
            (
                *item.account.row,
                item.name,
                item.verdict,
                item.removable,
                item.last_seen,
                item.first_seen,
                item.account.known_since,
                len(item.client_hosts),
                ", ".join(item.evidence),
                "; ".join(item.keep_reasons),
                "; ".join(item.reasons),
                report.window_days,
                report.now,
            )
            for item in report.accounts
        ),
    )


# ---------------------------------------------------------------------------------------------------------
# Collect
# ---------------------------------------------------------------------------------------------------------


def collect(config: Config, say: Say) -> int:
    """Read what is new in the logs and keep it; return the exit code."""
    _tune_memory()
    lock = _lock(config.sqlite_path)
    if lock is None:
        say("INFO", f"{config.sqlite_path}: another run is at work: nothing done")
        return 0
    store = Store(config.sqlite_path, config.time_format_db, config.time_location, write=True)
    # The server is asked first: that is itself a login, which shows that the log read here is the server's.
    inventory = ask_server(config, store) if config.inventory else None
    logs, unreadable = find_logs(config.audit_log_path, config.audit_log_name, say)
    clocks = Clocks(config.time_format_audit, config.audit_zone)
    todo = plan(logs, unreadable, store.known(), clocks)
    collector = Collector(store, todo, clocks)
    progress = Progress()
    try:
        run_tasks(todo.tasks, clocks.of_task, config.max_workers, collector.take, progress)
    finally:
        progress.close()
    broken = [log for log in todo.logs if log.broken]
    collector.finish(complete=not unreadable and not broken)
    for log in broken:
        say("ERROR", f"{log.path}: {log.broken}: the log was not read to its end: the next run tries again")
    if inventory is not None:
        keep_inventory(config, store, inventory, say)
    for began, ended, reason in todo.gaps:
        lost = f"gap from {store.show(began)} to {store.show(ended)}: {reason}"
        say("WARN", f"{lost}: run more often, or keep more rotations")
    for path, offsets, count in collector.unparsed:
        places = ", ".join(str(offset) for offset in offsets)
        what = f"{path}: {count} lines not understood, at offset {places}"
        say("WARN", f"{what}: a name with a line end, or a torn record")
    return 1 if unreadable or broken else 0


def _tune_memory() -> None:
    """Leave out what a short-lived process does not need of its memory management."""
    gc.disable()  # a run makes no cycles that would grow, and to look for them costs time, at its end as well
    atexit.register(gc.freeze)
    # glibc hands the memory of each text back to the system and asks for it anew, which costs more than to read it,
    # until it has seen a larger piece come and go (mallopt(3), M_MMAP_THRESHOLD).  This one is never touched.
    bytes(16 * BLOCK)


def ask_server(config: Config, store: Store) -> Inventory | InventoryError:
    """Take the inventory, or return why there is none."""
    want_definers = int(time.time()) - (store.get("definers_at") or 0) >= DAY
    try:
        return take_inventory(config.inventory, config.inventory_defaults_file, config.inventory_timeout, want_definers)
    except InventoryError as error:
        return error


def keep_inventory(config: Config, store: Store, found: Inventory | InventoryError, say: Say) -> None:
    """Keep the inventory and judge the accounts anew; where there is none, accounts without a login are unknown."""
    now = int(time.time())
    if isinstance(found, Inventory):
        inventory = found
        for lack in inventory.missing:
            say("WARN", lack)
        store.change(lambda db: store_inventory(db, inventory, now))
    else:
        message = str(found)
        say("WARN", f"{message}: accounts without a login are unknown until the server can be asked")
        store.change(lambda db: store_inventory_failure(db, message))
    report = judge(store.knowledge(), now, config.days, config.exclude)
    store.change(lambda db: store_verdicts(db, report))


def _lock(path: str) -> int | None:
    """Make the database file (0640) and lock it; None if another run has it."""
    try:
        fresh = not os.path.exists(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if fresh:
            os.fchmod(descriptor, 0o640)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:
        raise DatabaseError(
            f"{path}: {error.strerror}: the database cannot be written: check SqlitePath and its folder"
        ) from None
    return descriptor


class Collector:
    """Puts what the workers find into the database, in one transaction."""

    def __init__(self, store: Store, todo: Plan, clocks: Clocks) -> None:
        self.store, self.todo, self.clocks = store, todo, clocks
        self.changes: dict[bool, set[int]] = {True: set(), False: set()}
        self.unparsed: list[tuple[str, list[int], int]] = []
        self.begun = False

    def begin(self) -> None:
        """Begin the transaction when there is something to store."""
        self.store.begin()
        if not self.begun and not self.todo.tails_unchanged:
            self.store.end_tails(self.todo.tails_found)
        self.begun = True

    def take(self, reports: list[Message]) -> None:
        """Take over what a worker reports."""
        self.begin()
        for kind in (LOGIN, PROXIED):
            for settled in (True, False):
                facts = [(*_parted(r[2]), r[3], r[4]) for r in reports if r[0] == kind and r[1] is settled]
                self.store.add(kind, settled, sorted(facts))  # in the order of the table, where many go much faster
        self.store.add_suspects((*_parted(r[2]), int(r[1]), *r[3:]) for r in reports if r[0] == SUSPECT)
        for report in reports:
            if report[0] == CHANGE:
                self.changes[report[1]].add(report[2])
            elif report[0] == UNPARSED:
                self.unparsed.append(report[1:])
            elif report[0] == LENGTH:
                log = self.todo.tasks[report[1]].log
                log.broken = log.broken or report[3]
                if log.compressed:
                    log.end = log.tail = report[2]

    def finish(self, complete: bool) -> None:
        """Store the positions with the facts, and commit."""
        self.begin()
        sessions = self._follow_sessions()
        store = self.store
        store.show_anew()
        files = [*self.todo.kept, *(_as_known(log) for log in self.todo.logs if not log.broken)]
        store.replace_state(files, sessions, self.todo.gaps)
        facts: dict[str, Any] = {"version": __version__}
        logs = self.todo.logs
        for key, choose, instants in (
            ("tracking_since", min, [log.first for log in logs]),
            ("last_record", max, [log.last for log in logs]),
            ("last_processed", max, [log.modified // 10**9 for log in logs]),
        ):
            known = [instant for instant in (*instants, store.get(key)) if instant is not None]
            if known:
                facts[key] = choose(known)
        if facts.get("last_processed"):
            facts["last_processed_shown"] = store.show(facts["last_processed"])
        if self.todo.tasks or store.get("unparsed") is None:
            facts["unparsed"] = sum(count for _, _, count in self.unparsed)
        if complete:
            facts["last_run"] = int(time.time())
        store.set(**facts)
        store.commit()

    def _follow_sessions(self) -> dict[int, bytes]:
        """Follow the sessions that changed their user; return those that are still open at the settled end."""
        still = self.store.sessions()
        wanted = self.changes[True] | self.changes[False] | still.keys()
        if not wanted or not self.todo.tasks:
            return still
        hosts = find_hosts(self.todo.logs, wanted - still.keys(), self.clocks.of_task)
        for settled in (True, False):
            sessions = Sessions(dict(still), wanted, hosts)
            for task in reversed(self.todo.tasks):
                if task.settled is settled:
                    sessions.follow(task, self.clocks.of_task(task))
            ends = ((*_parted(key), *span) for key, span in sessions.ends.items())
            self.store.add("session end", settled, ends)
            self.store.add("change user", settled, ((b"", host, *span) for host, span in sessions.changes.items()))
            if settled:
                still = sessions.open
        return still


def _parted(key: bytes) -> tuple[bytes, bytes]:
    user, _, host = key.rpartition(b",")
    return user, host


def _as_known(log: LogFile) -> Known:
    """Return what the next run needs to know of a log."""
    if log.unchanged and log.known:
        return log.known._replace(path=log.path)
    end = 0 if log.end == sys.maxsize else log.end
    before = b"" if log.compressed else log.fingerprint(end)
    live = log.live and end > 0
    return Known(
        log.path,
        log.device,
        log.inode,
        log.stored_size,
        log.modified,
        log.tail,
        end,
        live,
        log.first,
        log.last,
        log.head[:end],
        before,
    )


# ---------------------------------------------------------------------------------------------------------
# Output
# ---------------------------------------------------------------------------------------------------------


def print_accounts(config: Config) -> int:
    """Print the stored logins."""
    store = _open(config, write=False)
    rows = [
        {
            "user": decoded(user),
            "host": decoded(host),
            "first_seen": store.show(first) if first else "",
            "last_seen": store.show(last) if last else "",
            "source": "suspect" if reason else "log" if seen else "imported",
            "note": reason or "",
        }
        for user, host, first, last, seen, reason in store.logins()
    ]
    sys.stdout.write(WRITERS[config.format](rows))
    return 0


def _table(rows: list[dict[str, str]]) -> str:
    lines = [["USER", "HOST", "FIRST SEEN", "LAST SEEN", "SOURCE", "NOTE"]]
    lines += [[visible_text(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "".join("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in lines)


def _json(rows: list[dict[str, str]]) -> str:
    import json

    return json.dumps({"schema": 1, "accounts": rows}, indent=1) + "\n"


def _csv(rows: list[dict[str, str]]) -> str:
    shown = ({name: visible_text(value) for name, value in row.items()} for row in rows)
    return csv_text("user,host,first_seen,last_seen,source,note", shown)


def print_report(config: Config) -> int:
    """Print the verdict on every account."""
    now = int(time.time())
    accounts = load_accounts_file(config.accounts, now) if config.accounts else None
    store = _open(config, write=accounts is not None)
    if accounts is not None:
        given = accounts
        accounts = store.change(lambda db: store_accounts_file(db, given, now))
    report = judge(store.knowledge(accounts), now, config.days, config.exclude)
    if config.format != "prometheus":  # its figures are of all accounts
        report = report.only(config.verdict)
    text = write_report(report, config.format)
    if not config.output:
        sys.stdout.write(text)
        return 0
    write_atomically(config.output, text)
    if config.format == "sql":
        write_atomically(config.output + ".undo", sql_undo_report(report))
    return 0


def print_status(config: Config) -> int:
    """Print how the tracker does; the exit code is the state."""
    store = _open(config, write=False)
    status = tracker_status(store.knowledge(), int(time.time()), bool(config.inventory))
    sys.stdout.write(status.json() if config.format == "json" else status.text())
    return status.code


def _open(config: Config, write: bool) -> Store:
    if not os.path.exists(config.sqlite_path):
        raise DatabaseError(f"{config.sqlite_path}: no database: run conntracker collect first, or check SqlitePath")
    return Store(config.sqlite_path, config.time_format_db, config.time_location, write)


WRITERS: dict[str, Callable[[list[dict[str, str]]], str]] = {"table": _table, "json": _json, "csv": _csv}


# ---------------------------------------------------------------------------------------------------------
# Options: each is written once, here
# ---------------------------------------------------------------------------------------------------------

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")


class Option(NamedTuple):
    """An option: its key in the ini file, from which its name on the command line follows."""

    key: str
    default: str
    read: Callable[[str], Any]
    allowed: str
    help: str

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return "--" + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", self.key).lower()

    @property
    def name(self) -> str:
        """The name as an attribute of Config."""
        return self.flag[2:].replace("-", "_")


def _some_text(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _one_name(text: str) -> str:
    if not text or "/" in text:
        raise ValueError
    return text


def _count(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise ValueError
    return int(text)


def _patterns(text: str) -> tuple[str, ...]:
    return tuple(pattern.strip() for pattern in text.split(",") if pattern.strip())


def _level(text: str) -> str:
    if text not in LEVELS:
        raise ValueError
    return text


def _zone(text: str) -> tzinfo | None:
    if not text or text == "Local":
        return None
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
        raise ValueError from None


_FORMAT_HELP = "a Go reference layout (of 2006-01-02 15:04:05) or a strftime format (with %)"
_ZONE_HELP = "a zone of the system's tz database such as Europe/Zurich, or nothing for the system's own"
FORMATS = {
    "accounts": ("table", "json", "csv"),
    "report": ("table", "json", "csv", "prometheus", "sql"),
    "status": ("table", "json"),
}
_FORMATS_HELP = "; ".join(f"{', '.join(formats)} for {command}" for command, formats in FORMATS.items())
OPTIONS = (
    Option("AuditLogPath", "/var/lib/mysql", _some_text, "a folder, a file or a glob", "where the audit logs are"),
    Option("AuditLogName", "server_audit.log", _one_name, "a file name", "base name of the audit log in a folder"),
    Option("SqlitePath", "/var/lib/mysql/audit.sqlite", _some_text, "a path", "the database"),
    Option("TimeFormatAudit", "20060102 15:04:05", Layout, _FORMAT_HELP, "form of the stamps in the log"),
    Option("TimeFormatDB", "2006-01-02 15:04:05-07:00", Layout, _FORMAT_HELP, "form of Accounts.last_seen"),
    Option("TimeLocation", "", _zone, _ZONE_HELP, "zone of Accounts.last_seen, and of the stamps in the log"),
    Option(
        "TimeLocationAudit",
        "",
        _zone,
        _ZONE_HELP,
        "zone of the stamps in the log, if another than TimeLocation",
    ),
    Option("MaxWorkers", "4", _count, "a number from 1 to 9999", "processes at most; never more than processors"),
    Option("LogLevel", "ERROR", _level, ", ".join(LEVELS), "the least severe messages that are printed"),
    Option("Inventory", "", str, "its name or path, nothing: the server is not asked", "client that asks the server"),
    Option("InventoryDefaultsFile", "", str, "a path, or nothing", "options file for that client"),
    Option("InventoryTimeout", "20", _count, "a number from 1 to 9999", "seconds that the server may take to answer"),
    Option("Exclude", "", _patterns, "user or user@host, with * and ?, parted by commas", "accounts to keep"),
    Option("Days", "90", _count, "a number from 1 to 9999", "days without use after which an account is unused"),
)
COMMANDS = {
    "collect": "read what is new in the logs (the default)",
    "accounts": "print the stored accounts",
    "report": "print which accounts are unused, and why",
    "status": "print how the tracker does; exit code 0 good, 1 warning, 2 critical",
    "version": "print the version",
}


class Config(NamedTuple):
    """The options in force."""

    audit_log_path: str
    audit_log_name: str
    sqlite_path: str
    time_format_audit: Layout
    time_format_db: Layout
    time_location: tzinfo | None
    time_location_audit: tzinfo | None
    max_workers: int
    log_level: str
    inventory: str
    inventory_defaults_file: str
    inventory_timeout: int
    exclude: tuple[str, ...]
    days: int
    format: str
    verdict: tuple[str, ...]
    accounts: str | None
    output: str | None

    @property
    def audit_zone(self) -> tzinfo | None:
        """The zone of the log's stamps."""
        return self.time_location_audit or self.time_location


def read_arguments(argv: Sequence[str]) -> dict[str, Any]:
    """Read the command line; options that are not given are None."""
    plain = _plain_arguments(argv[1:] if argv[:1] == ["collect"] else argv)
    return vars(parser().parse_args(argv)) if plain is None else plain


def _plain_arguments(words: Sequence[str]) -> dict[str, Any] | None:
    """Read pairs of option and value, as cron has them; all else gives None and is for argparse, slow to load."""
    names = {option.flag: option.name for option in OPTIONS}
    arguments: dict[str, Any] = dict.fromkeys(("config", "verdict", "accounts", "output", *names.values()))
    arguments.update(command="collect", format="table", version=False)
    if len(words) % 2:
        return None
    for flag, value in zip(words[::2], words[1::2]):
        if value.startswith("-"):
            return None
        if flag == "--config":
            arguments["config"] = value
        elif flag in names:
            arguments[names[flag]] = [*(arguments[names[flag]] or ()), value]
        else:
            return None
    return arguments


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    import argparse

    class Parser(argparse.ArgumentParser):
        """Tells an error in one line."""

        def error(self, message: str) -> NoReturn:
            raise ConfigError(f"{message}: see conntracker --help")

    commands = "\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())
    made = Parser(
        prog="conntracker",
        description="Keep the latest connection of each MariaDB account, read from the audit plugin's logs.",
        epilog=f"commands:\n{commands}\n\n"
        "in /etc/cron.d:\n  */15 * * * * conntracker nice -n 19 ionice -c 3 /usr/local/bin/conntracker\n\n"
        "exit codes: 0 it worked, 1 something could not be read or written, 2 wrong options or configuration",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("command", nargs="?", choices=COMMANDS, default="collect", metavar="COMMAND")
    made.add_argument("--version", action="store_true", help="print the version")
    made.add_argument("--config", metavar="FILE", help=f"configuration file, {DEFAULT_CONFIG} if it is there")
    made.add_argument("--format", metavar="FORMAT", default="table", help=f"form of the output: {_FORMATS_HELP}")
    made.add_argument(
        "--verdict",
        action="append",
        choices=VERDICTS,
        metavar="VERDICT",
        help="report only these: " + ", ".join(VERDICTS),
    )
    made.add_argument("--accounts", metavar="FILE", help="report on the accounts of this JSON file, not the server's")
    made.add_argument("--output", metavar="FILE", help="write the report to a file, all at once")
    for option in OPTIONS:
        shown = (option.default or "nothing").replace("%", "%%")
        text = f"{option.help}: {option.allowed} (ini key {option.key}, default: {shown})"
        made.add_argument(
            option.flag, dest=option.name, action="append", metavar="VALUE", help=text.replace("(with %)", "(with %%)")
        )
    return made


def read_config(path: str | None) -> dict[str, str]:
    """Return the keys of the ini file and their values, unquoted; ConfigError names file and key."""
    if path is None:
        if not os.path.exists(DEFAULT_CONFIG):
            return {}
        path = DEFAULT_CONFIG
    import configparser

    ini = configparser.ConfigParser(
        interpolation=None, delimiters="=", strict=False, inline_comment_prefixes=("#", ";")
    )
    ini.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        with open(path, encoding="utf-8") as file:
            ini.read_file(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: name a configuration file that can be read") from None
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: {str(error).splitlines()[0]}: write `[default]` and lines of `Key = value`"
        ) from None
    known = [option.key for option in OPTIONS]
    for section in ini.sections():
        for key in ini[section]:
            if section != "default" or key not in known:
                raise ConfigError(f"{path}: [{section}] {key}: not known; allowed in [default]: {', '.join(known)}")
    return {key: _unquoted(value) for key, value in ini["default"].items()} if ini.has_section("default") else {}


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'`" else value


def configure(arguments: Mapping[str, Any]) -> Config:
    """Return the options in force: the command line's, else the ini file's, else the defaults."""
    path = arguments["config"]
    ini = read_config(path)
    form, formats = arguments["format"], FORMATS.get(arguments["command"], ("table",))
    if form not in formats:
        raise ConfigError(f"--format: {form!r} is not allowed; allowed: {', '.join(formats)}")
    values: dict[str, Any] = {name: arguments[name] for name in ("format", "accounts", "output")}
    values["verdict"] = tuple(arguments["verdict"] or ())
    for option in OPTIONS:
        given = arguments[option.name]
        if given is not None:
            given = ",".join(given) if option.key == "Exclude" else given[-1]
        where = option.flag if given is not None else f"{path or DEFAULT_CONFIG}: {option.key}"
        text = given if given is not None else ini.get(option.key, option.default)
        try:
            values[option.name] = option.read(text)
        except ValueError as error:
            why = f" ({error})" if str(error) else ""
            raise ConfigError(
                f"{where}: {visible_text(text)!r} is not allowed{why}; allowed: {option.allowed}"
            ) from None
    return Config(**values)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    level = "ERROR"

    def say(severity: str, message: str) -> None:
        if LEVELS.index(severity) >= LEVELS.index(level):
            sys.stderr.write(f"conntracker: {severity}: {visible_text(message)}\n")

    try:
        arguments = read_arguments(sys.argv[1:] if argv is None else argv)
        command = arguments["command"]
        if arguments["version"] or command == "version":
            sys.stdout.write(f"conntracker version {__version__}\n")
            return 0
        config = configure(arguments)
        level = config.log_level
        if command == "collect":
            return collect(config, say)
        return {"accounts": print_accounts, "report": print_report, "status": print_status}[command](config)
    except ConntrackerError as error:
        say("ERROR", str(error))
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
