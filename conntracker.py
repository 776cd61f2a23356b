#!/usr/bin/env python3
"""Say which MariaDB accounts are still in use, from the logs of the audit plugin.

`conntracker collect` runs from cron on the database host; silence means that it worked.

    part one   find the logs -> read their new lines as a stream -> hold each login against the ledger of connection ids
               -> ask the server -> store what stands, and for which time it is proven that nothing was missed
    part two   match logins with accounts -> assess every account -> print a report, a status, SQL for review

The principle.  Connection ids are a counter: between two starts of the server each id stands in exactly one CONNECT
or FAILED_CONNECT record.  Twice is a forgery: whoever reaches the port can write lines into the log by way of the
user name, but not use up an id.  Missing is a hole: what is not shown to have been watched is not called unused.

What remains unknown.  Internal threads of the server take ids without a record, so a forger who guesses one of these
is believed, and so may be somebody who already has an account.  The log names the client's host, never the account's
host pattern.  A successful change of user is logged without a name.  A name with a line end is cut in two, and long
ones are mangled.

Exit codes: 0 it worked, or another run is already running; 1 something could not be read or written, or was not
understood: one line on stderr says what, where and what to do; what could be read is kept, and the next run goes on
from there; 2 wrong options or configuration.  `status`: 0 good, 1 warning, 2 critical, 3 it cannot tell.

Contents.  Part one, what cron runs on the host: Options, Time, Grammar, Log files, Reading, Ledger, Server, Store,
Collect. Part two, what only reads the database: Match, Assessment, Fleet, Output, Page, Status, Commands.
"""

import sys

# All of the file parses in Python 3.6 (no `:=`, no `from __future__ import annotations`), so that this sentence is
# seen there.
if sys.version_info < (3, 9):  # noqa: UP036
    sys.exit("conntracker: ERROR: Python 3.9 or newer is needed: run it with another python3")

import argparse
import bisect
import contextlib
import errno
import fcntl
import fnmatch
import functools
import gc
import glob
import importlib
import io
import itertools
import json
import operator
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import tempfile
import textwrap
import time
import unicodedata
from collections import Counter
from collections import deque
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from datetime import datetime
from datetime import timedelta
from datetime import timezone
from datetime import tzinfo
from typing import Any
from typing import NamedTuple
from typing import NoReturn
from typing import Optional
from typing import Union

__version__ = "1.0.0"

DAY = 86400
HOUR = 3600
LAST_INSTANT = 253_000_000_000  # no calendar has those after the year 9999, in some zone


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
    """An audit log cannot be found, read or understood."""


def visible(name: bytes) -> str:
    r"""Return a name fit to be shown: what is not printable as \xNN or \uNNNN, bytes that are no text as \xNN."""
    return visible_text(name.decode("utf-8", "surrogateescape"))


def visible_text(text: str) -> str:
    r"""Return text fit to be shown; a blank at either end shows as \x20."""
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


# =====================================================================================================================
# PART ONE: what cron runs on the host
# =====================================================================================================================
# ---------------------------------------------------------------------------------------------------------------------
# Options: one table drives the command line, the configuration file and the help
# ---------------------------------------------------------------------------------------------------------------------

DEFAULT_CONFIG = "/etc/conntracker/conntracker.ini"
LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")
VERDICTS = ("never", "stale", "unknown", "active")
FORMATS = {
    "accounts": ("table", "json", "csv"),
    "report": ("table", "json", "csv", "prometheus", "sql", "html"),
    "status": ("table", "json", "nagios"),
}


class Kind(NamedTuple):
    """What an option may be: in words, as a pattern of its text, and what makes its value or raises ValueError."""

    allowed: str
    pattern: str = ".*"
    convert: Callable[[str], Any] = str

    def read(self, text: str) -> Any:
        """Return the value; ValueError if it is not allowed."""
        if not re.fullmatch(self.pattern, text, re.DOTALL):
            raise ValueError
        return self.convert(text)


class Option(NamedTuple):
    """An option with a key in the ini file, from which its name on the command line follows."""

    key: str
    default: str
    kind: Kind
    help: str
    of_report: bool = False  # of no use to the commands that only print what is stored

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return "--" + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", self.key).lower()

    @property
    def name(self) -> str:
        """The name as an attribute of Config."""
        return self.flag[2:].replace("-", "_")


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _zone(text: str) -> Optional[tzinfo]:
    if not text or text == "Local":
        return None
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
        raise ValueError from None


def _date(text: str) -> Optional[datetime]:
    return datetime.fromisoformat(re.sub(r"[Zz]\Z", "+00:00", text)) if text else None


_NUMBER = Kind("a number from 1 to 9999", "[1-9][0-9]{0,3}", int)
_NUMBER_OR_0 = Kind("a number from 0 to 9999", "0|" + _NUMBER.pattern, int)
_LEVEL = Kind(", ".join(LEVELS), "|".join(LEVELS))
_LOGS = Kind("a folder, a file or a glob, or journal:", ".+")
_IDENTIFIER = Kind("a word, or nothing: any")
_NAMES = Kind("comma-separated names", convert=_list)
_PATTERNS = Kind("comma-separated user or user@host, with * and ?", convert=_list)
_SINCE = Kind("a date or an ISO 8601 time", convert=_date)
_ZONE = Kind("a zone of the system's tz database such as Europe/Zurich, or nothing for the system's own", convert=_zone)
_TIME_FORMAT = Kind(
    "a Go reference layout (of 2006-01-02 15:04:05), a strftime format, or server_audit_timestamp_format's (with %i)",
    convert=lambda text: TimeFormat(text),  # noqa: PLW0108 (it is defined further down)
)

DEFAULT_STAMP = "20060102 15:04:05"
OPTIONS = (
    Option("AuditLogPath", "/var/lib/mysql", _LOGS, "where the audit logs are"),
    Option("AuditLogName", "server_audit.log", Kind("a file name", "[^/]+"), "base name of the audit log in a folder"),
    Option("SyslogIdentifier", "", _IDENTIFIER, "identifier of our records in syslog or the journal"),
    Option("ServerHost", "", _NAMES, "server host of our records, where a log has several"),
    Option("Group", "", Kind("a word, or nothing"), "servers of one group share their accounts by replication"),
    Option("ReplicasIgnored", "", _NAMES, "servers that share accounts but never serve clients", of_report=True),
    Option("SqlitePath", "/var/lib/mysql/audit.sqlite", Kind("a path", ".+"), "the database"),
    Option("TimeFormatAudit", DEFAULT_STAMP, _TIME_FORMAT, "form of the stamps in the log"),
    Option("TimeFormatDB", "2006-01-02 15:04:05-07:00", _TIME_FORMAT, "form of Accounts.last_seen"),
    Option("TimeLocation", "", _ZONE, "zone of Accounts.last_seen, and of the stamps in the log"),
    Option("TimeLocationAudit", "", _ZONE, "zone of the stamps in the log, if not TimeLocation"),
    Option("MaxWorkers", "4", _NUMBER, "processes at most; never more than processors"),
    Option("LogLevel", "ERROR", _LEVEL, "the least severe messages that are printed"),
    Option("Inventory", "", Kind("its name or path, nothing: the server is not asked"), "client that asks the server"),
    Option("InventoryDefaultsFile", "", Kind("a path, or nothing"), "options file for that client"),
    Option("InventoryTimeout", "20", _NUMBER, "seconds that the server may take to answer"),
    Option("WatchedSince", "", _SINCE, "all logins since then are in the logs: your word", of_report=True),
    Option("TolerateHoles", "0", _NUMBER_OR_0, "minutes of the window that may be unwatched", of_report=True),
    Option("Exclude", "", _PATTERNS, "accounts to keep", of_report=True),
    Option("Days", "90", _NUMBER, "days without use after which an account is unused", of_report=True),
    Option("DropAfter", "30", _NUMBER, "days locked and not asked for before DROP is printed", of_report=True),
)
COMMANDS = {
    "collect": "read what is new in the logs (the default)",
    "accounts": "print the stored accounts",
    "report": "print which accounts are unused, and why",
    "status": "print the tracker's health; exit code 0 good, 1 warning, 2 critical, 3 unknown",
    "grants": "print the SQL that makes the account for Inventory, for review",
    "sql": "run a SELECT on the database, read only",
    "snapshot": "write a consistent copy of the database",
    "version": "print the version",
}


class Config(argparse.Namespace):
    """The options in force: those of OPTIONS by their names, and those of the command."""

    @property
    def stated_since(self) -> Optional[int]:
        """WatchedSince as an instant; a time without a zone is in TimeLocation."""
        moment = self.watched_since
        if moment is None:
            return None
        return int(moment.timestamp()) if moment.tzinfo else epoch(moment, self.time_location)


class _Parser(argparse.ArgumentParser):
    """Tells an error in one line."""

    def print_help(self, file: Any = None) -> None:
        emit(self.format_help())

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}: see conntracker --help")


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line: a sub-parser for each command, with the options that it has."""
    made = _Parser(
        prog="conntracker",
        description=(__doc__ or "").partition("\n")[0],
        epilog="in /etc/cron.d:\n  */15 * * * * conntracker nice -n 19 ionice -c 3 /usr/local/bin/conntracker\n\n"
        "exit codes: 0 it worked, 1 something could not be read, written or understood, 2 wrong options",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--version", action="store_true", help="print the version")
    commands = made.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for command, text in COMMANDS.items():
        add = commands.add_parser(command, help=text, description=text, allow_abbrev=False).add_argument
        add("--version", action="store_true", help=argparse.SUPPRESS)
        add("--config", metavar="FILE", help=f"configuration file, {DEFAULT_CONFIG} if it is there")
        for option in OPTIONS:
            shown = option.default or "nothing"
            about = f"{option.help}: {option.kind.allowed} (ini key {option.key}, default: {shown})".replace("%", "%%")
            if command not in ("collect", "report", "status") and option.of_report:
                about = argparse.SUPPRESS  # taken, so that one set of options serves every command, but of no use there
            add(option.flag, dest=option.name, action="append", metavar="VALUE", help=about)
        _add_own_options(command, add)
    return made


def _add_own_options(command: str, add: Callable[..., Any]) -> None:
    """Add what only one command has, or has in its own forms."""
    many: dict[str, Any] = {"action": "append", "default": []}
    if command in FORMATS:
        about = "form of the output: " + ", ".join(FORMATS[command])
        add("--format", default="table", choices=FORMATS[command], metavar="FORMAT", help=about)
    if command == "report":
        add("--verdict", choices=VERDICTS, metavar="VERDICT", help="report only these: " + ", ".join(VERDICTS), **many)
        about = "report on this database, or on a folder of them"
        add("--from", dest="sources", metavar="PATH", help=about, **many)
        add("--missing", metavar="NAME", help="name a server that gave no database, or NAME=GROUP", **many)
        add("--accounts", metavar="FILE", help="report on the accounts of this JSON file, not the server's")
        add("--output", default="", metavar="FILE", help="write the report to a file, all at once")
        about = "what --format sql prints: lock (the default) or drop"
        add("--stage", default="lock", choices=("lock", "drop"), metavar="STAGE", help=about)
    if command == "grants":
        add("--user", metavar="USER@HOST", help="the account to make (default: conntracker@localhost)")
    if command == "sql":
        add("words", nargs=1, metavar="SELECT", help="the statement")
    if command == "snapshot":
        add("words", nargs=1, metavar="FILE", help="the copy, written with mode 0640")


def read_arguments(argv: Sequence[str]) -> dict[str, Any]:
    """Return what the command line gives; options may stand before the command, and `collect` may be left out."""
    words, place = list(argv), 0
    while place < len(words) and words[place] not in COMMANDS:
        word = words[place]
        place += 2 if word.startswith("--") and "=" not in word and word not in ("--version", "--help") else 1
    if place < len(words):
        words.insert(0, words.pop(place))
    else:
        words = ["--help"] if {"-h", "--help"} & set(words) else ["collect", *words]
    return vars(_parser().parse_args(words))


def read_config(path: Optional[str]) -> dict[str, str]:
    """Return the keys of the ini file and their values, unquoted; ConfigError names file and key."""
    import configparser

    name = path or DEFAULT_CONFIG
    ini = configparser.ConfigParser(interpolation=None, delimiters="=", strict=False, inline_comment_prefixes="#;")
    ini.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        with open(name, encoding="utf-8") as file:
            ini.read_file(file)
    except OSError as error:
        # Only a file that is surely not there may be left out: another one is somebody's will.
        if path is None and isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return {}
        raise ConfigError(f"{name}: {error.strerror}: name a configuration file that can be read") from None
    except (configparser.Error, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{name}: {reason}: write `[default]` and lines of `Key = value`") from None
    known = [option.key for option in OPTIONS]
    for section in ini.sections():
        for key in ini[section]:
            if section != "default" or key not in known:
                raise ConfigError(f"{name}: [{section}] {key}: not known; allowed in [default]: {', '.join(known)}")
    values = ini["default"] if ini.has_section("default") else {}
    return {key: re.sub(r"""(?s)\A(["'`])(.*)\1\Z""", r"\2", value) for key, value in values.items()}


def configure(arguments: Mapping[str, Any]) -> Config:
    """Return the options in force: the command line's, else the ini file's, else the defaults."""
    path = arguments["config"]
    ini = read_config(path)
    config = Config(**arguments)
    for option in OPTIONS:
        given = arguments[option.name]
        if given is not None:
            where, text = option.flag, ",".join(given) if option.key == "Exclude" else given[-1]
        else:
            where, text = f"{path or DEFAULT_CONFIG}: {option.key}", ini.get(option.key, option.default)
        try:
            setattr(config, option.name, option.kind.read(text))
        except ValueError as error:
            why = f" ({error})" if str(error) else ""
            wrong = f"{visible_text(text)!r} is not allowed{why}; allowed: {option.kind.allowed}"
            raise ConfigError(f"{where}: {wrong}") from None
    return config


# ---------------------------------------------------------------------------------------------------------------------
# Time: forms of stamps, and the log's local stamps as instants
# ---------------------------------------------------------------------------------------------------------------------
#
# The log has the server's local time without a zone, cut to the second.  Facts are kept as instants (seconds since
# 1970-01-01 UTC), because local time repeats an hour in autumn.

# Our directive (strftime's, where it has one), Go's element of a reference layout, the letter of MySQL's DATE_FORMAT
# (server_audit_timestamp_format takes it), and what it matches in a stamp.  Longer elements of Go stand before their
# beginnings.
_DIRECTIVES = """
%B  January  M  [A-Z][a-z]{2,8}
%b  Jan      b  [A-Z][a-z]{2}
%A  Monday   W  [A-Z][a-z]{5,8}
%a  Mon      a  [A-Z][a-z]{2}
%Z  MST      -  [A-Za-z0-9+-]{1,6}
%Y  2006     Y  [0-9]{4}
%:z Z07:00   -  Z|[+-][0-9]{2}:?[0-9]{2}
%z  Z0700    -  Z|[+-][0-9]{2}:?[0-9]{2}
%:z -07:00   -  Z|[+-][0-9]{2}:?[0-9]{2}
%z  -0700    -  Z|[+-][0-9]{2}:?[0-9]{2}
%m  01       m  [0-9]{2}
%d  02       d  [0-9]{2}
%I  03       h  [0-9]{2}
%M  04       i  [0-9]{2}
%S  05       s  [0-9]{2}
%y  06       y  [0-9]{2}
%H  15       H  [0-9]{2}
%p  PM       p  [AP]M
%e  _2       -  [ 0-9][0-9]
%f  000000   f  [0-9]{1,9}
%-m 1        c  [0-9]{1,2}
%-d 2        e  [0-9]{1,2}
%-I 3        l  [0-9]{1,2}
%-M 4        -  [0-9]{1,2}
%-S 5        -  [0-9]{1,2}
%-H -        k  [0-9]{1,2}
"""
_MATCHED = {"%%": "%", "%?f": "(?:[.,][0-9]{1,9})?"}  # the second: a fraction that may be missing
_OF_GO: dict[str, str] = {}
_SHORT_FOR = {"%T": "%H:%M:%S", "%F": "%Y-%m-%d", "%R": "%H:%M", "%r": "%I:%M:%S %p"}
_OF_SERVER = {**_SHORT_FOR, "%S": "%S", "%I": "%I", "%%": "%%"}
for _directive, _go, _letter, _matched in (line.split(None, 3) for line in _DIRECTIVES.strip().splitlines()):
    _OF_GO.setdefault(_go, _directive)
    _OF_SERVER.setdefault("%" + _letter, _directive)
    _MATCHED[_directive] = _matched
_GO_ELEMENT = re.compile(
    r"(?<=[.,])(?:0+|9+)(?![0-9])|" + "|".join(re.escape(go) for go in _OF_GO if go not in ("-", "000000"))
)
_DIRECTIVE = re.compile(r"(%(?::z|\?f|-?[A-Za-z%]))")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _as_directives(text: str) -> str:
    """Return a time format with strftime's directives, from any of the three kinds; `%i` is the server's alone."""
    if "%" not in text:
        return _GO_ELEMENT.sub(lambda match: _OF_GO.get(match[0], "%f"), text)
    if "%i" not in text:
        return _DIRECTIVE.sub(lambda match: _SHORT_FOR.get(match[0], match[0]), text)
    return _DIRECTIVE.sub(_of_server, text)


def _of_server(match: "re.Match[str]") -> str:
    directive = _OF_SERVER.get(match[0].replace("-", ""))
    if directive is None:
        raise ValueError(f"{match[0]} of DATE_FORMAT is not known here")
    return directive


class TimeFormat:
    """A form of stamps.  ValueError if it has no element of a time, or one that is not known here."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = _DIRECTIVE.split(_as_directives(text))  # literal text and directives by turns
        self._elements = self._parts[1::2]
        unknown = [element for element in self._elements if element not in _MATCHED]
        if unknown or not self._elements:
            raise ValueError(f"{unknown[0]} is not known here" if unknown else "it has no element of a time")
        self.has_year = "%Y" in self._elements or "%y" in self._elements
        # Go writes as many digits of a fraction as its layout has, strftime six.
        fraction = re.search(r"[.,](0+|9+)(?![0-9])", text) if "%" not in text else None
        self._no_fraction = "0" * len(fraction[1]) if fraction else "000000"

    @functools.cached_property
    def _pattern(self) -> "re.Pattern[str]":
        """What matches a stamp; a group for each directive, in their order."""
        groups = (f"({_MATCHED[part]})" if part in _MATCHED else re.escape(part) for part in self._parts)
        return re.compile("".join(groups))

    def read(self, stamp: str, zone: Optional[tzinfo], year: int, fold: int = 0) -> Optional[int]:
        """Return the instant of a stamp, in a zone (None: the system's) if it says none; None if it is no such time.

        `year` is for forms without one; `fold` as for `epoch`.
        """
        match = self._pattern.fullmatch(stamp)
        if not match:
            return None
        said = dict(zip((element.lstrip("%-:?") for element in self._elements), match.groups()))
        with contextlib.suppress(ValueError, KeyError, OverflowError):
            name = (said.get("b") or said.get("B") or "")[:3]
            month = _MONTHS.index(name) + 1 if name else int(said["m"])
            day = int(said["d"] if "d" in said else said["e"])
            hour = int(said["H"]) if "H" in said else int(said["I"]) % 12 + 12 * (said.get("p") == "PM")
            year = int(said["Y"]) if "Y" in said else 2000 + int(said["y"]) if "y" in said else year
            second = 59 if said.get("S") == "60" else int(said.get("S", 0))
            naive = datetime(year, month, day, hour, int(said.get("M", 0)), second)
            offset = (said.get("z") or ("Z" if said.get("Z") in ("UTC", "GMT") else "")).replace("Z", "+0000")
            if not offset:
                return epoch(naive, zone, fold)
            ahead = timedelta(hours=int(offset[:3]), minutes=int(offset[0] + offset[-2:]))
            return epoch(naive - ahead, timezone.utc)
        return None

    def write(self, moment: datetime) -> str:
        """Write an aware time, to the second."""
        zone = moment.strftime("%z")
        own = {"%:z": f"{zone[:3]}:{zone[3:5]}", "%f": self._no_fraction, "%?f": ""}
        return moment.strftime("".join(own.get(part, part) for part in self._parts))


def epoch(naive: datetime, zone: Optional[tzinfo], fold: int = 0) -> int:
    """Return the instant of a local time in a zone (None: the system's); `fold` 1 is the second of two."""
    return int(naive.replace(tzinfo=zone, fold=fold).timestamp())


def local(instant: int, zone: Optional[tzinfo]) -> datetime:
    """Return the aware local time of an instant in a zone (None: the system's)."""
    return datetime.fromtimestamp(instant, timezone.utc).astimezone(zone)


def utc(instant: Optional[int]) -> str:
    """Return an instant as 2026-01-31T00:00:00Z, None as '', one that no calendar has as the number."""
    if instant is None:
        return ""
    try:
        return datetime.fromtimestamp(instant, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(instant)


# Known besides the configured form: the plugin's own, ISO 8601, and the forms of syslog and the journal.
_KNOWN_FORMS = (
    "%Y%m%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S%?f%z",
    "%Y%m%dT%H:%M:%S%?f%z",
    "%b %e %H:%M:%S%?f",
    "%a %Y-%m-%d %H:%M:%S%?f %Z",
)
_STEP_BACK = 5  # a stamp so many seconds before the last one, in an hour that comes twice, is of the second pass
_STAMPS_REMEMBERED = 16384
# Stamps with a fraction, as syslog and ISO 8601 have it, are remembered without it.
_FRACTION = re.compile(rb"\A((?:[A-Z]|[0-9-]{8,10}T).*:[0-9]{2})[.,][0-9]{1,9}")


class Clock(dict[bytes, int]):
    """The instants of a log's stamps, remembered, as a second holds many records; KeyError where a stamp is no time.

    In the hour that autumn repeats they are those of its first pass: `in_order` tells them apart.  `written` is an
    instant at which the file had been written, from which the year of a stamp without one follows.
    """

    def __init__(self, form: TimeFormat, zone: Optional[tzinfo]) -> None:
        self.form, self.zone = form, zone
        self.written, self._year = 0, local(0, zone).year
        self._forms = (form, *map(TimeFormat, _KNOWN_FORMS))
        self._minutes: dict[bytes, int] = {}
        self._readings: dict[tuple[bytes, int], Optional[int]] = {}  # by stamp and fold

    def __missing__(self, stamp: bytes) -> int:
        second = _FRACTION.sub(rb"\1", stamp)
        known = self.find(second) if second != stamp else None
        if known is not None:
            return known
        if len(self) + len(self._readings) > _STAMPS_REMEMBERED:
            self.forget()
        # The seconds of a minute need no second look at the form, which nearly always ends with them.
        minute, seconds = stamp[:-2], stamp[-2:]
        start = self._minutes.get(minute)
        if start is not None and seconds.isdigit() and seconds < b"60":
            instant = start + int(seconds)
        else:
            instant = self._read(stamp, 0)
            if minute.endswith(b":") and seconds < b"60":
                self._minutes[minute] = instant - int(seconds)
        self[stamp] = instant
        return instant

    def find(self, stamp: bytes) -> Optional[int]:
        """Return the instant of a stamp; None if it is no time."""
        try:
            return self[stamp]
        except KeyError:
            return None

    def forget(self) -> None:
        """Forget the stamps: they are too many, or another year may begin to hold."""
        for remembered in (self, self._minutes, self._readings):
            remembered.clear()

    def _read(self, stamp: bytes, fold: int) -> int:
        """Read a stamp by the first form that it has; KeyError if it is no time."""
        key = stamp, fold
        if key not in self._readings:
            found = (self._read_by(form, stamp, fold) for form in self._forms)
            self._readings[key] = next(filter(None, found), None)
        instant = self._readings[key]
        if instant is None:
            raise KeyError(stamp)
        return instant

    def _read_by(self, form: TimeFormat, stamp: bytes, fold: int) -> Optional[int]:
        text = stamp.decode("ascii", "replace")
        instant = form.read(text, self.zone, self._year, fold)
        if instant and instant > self.written + DAY and not form.has_year:
            instant = form.read(text, self.zone, self._year - 1, fold)
        return instant if instant and 0 < instant < LAST_INSTANT else None  # there was no server before 1970

    def set_file(self, written: int) -> None:
        """Go on with a file that was last written to at an instant."""
        if written != self.written:
            self.written = written
            self._year = local(max(0, min(written, LAST_INSTANT)), self.zone).year
            self.forget()

    def in_order(self, stamp: bytes, last: int) -> int:
        """Return the instant of a stamp that follows the instant `last` in the log; KeyError if it is no time.

        The log bears no mark of the repeated hour: a stamp well before the one before it is of the second pass.
        """
        instant = self[stamp]
        return instant if instant >= last - _STEP_BACK else max(instant, self._read(stamp, 1))

    def repeats(self, low: int, high: int) -> bool:
        """Return whether local time repeats an hour near two instants, so that the order of lines counts."""
        return _is_set_back(self.zone, low // 900 * 900 - 2 * HOUR, high // 900 * 900 + 2 * HOUR + 900)


@functools.lru_cache(4096)
def _is_set_back(zone: Optional[tzinfo], low: int, high: int) -> bool:
    """Return whether local time is set back between two instants."""
    if high - low > 400 * DAY:  # no stretch of log is that long; but anybody can forge a stamp
        return True
    offsets = [local(instant, zone).utcoffset() or timedelta(0) for instant in (*range(low, high, DAY), high)]
    return any(later < earlier for earlier, later in zip(offsets, offsets[1:]))


# ---------------------------------------------------------------------------------------------------------------------
# Grammar of the log: pure functions over bytes
# ---------------------------------------------------------------------------------------------------------------------
#
# A record is one line: stamp,serverhost,user,host,connection id,query id,operation,database,object,retcode
# (plugin/server_audit/server_audit.c, log_header and the functions that call it).  Nothing but the SQL text of a
# QUERY record is escaped, so a line is read from both ends: the LAST ",host,id,0,OPERATION," is where the user ends;
# the query id of a connection's record is 0.  `object` is empty, or from 12.0.1 on the TLS version; some builds add
# an 11th field with it.  SQL text cannot end like that, as a quote, a comma and the return code follow it.
# Enterprise names the new user of a session in the object of CHANGE_USER, in backquotes, and writes CHANGE_USER_DONE
# under the new user's name.

# Every line that tells something about a connection holds one of these.
CONNECT_MARK, CHANGE_MARK = b"CONNECT,", b",0,CHANGE"
# Lines that may turn auditing off hold one of these, whatever events are logged: the plugin writes the statement as it
# was typed.
SETTING_MARKS = (b"erver_audit_", b"ERVER_AUDIT_", b"erver_Audit_")
_SET = re.compile(rb"\bset\b", re.IGNORECASE)
_SETTING = re.compile(rb"\bserver_audit_(?!file_rotate_now\b)", re.IGNORECASE)  # rotating loses nothing
LOGIN_MARK = b",0,CONNECT,"
# What bears the id of a login or refusal, unless its names are very odd.
_BEGIN = re.compile(rb"\n(?:[^,\n]*,){3,5}[1-9][0-9]{0,9},0,(?:FAILED_)?CONNECT,")
# What ends a record: object (empty, or the TLS version), return code, perhaps the TLS version again.
_END = re.compile(rb",[^,'`]*,(?P<code>[0-9]+)(?:,(?:[^0-9,'][^,']*)?)?\Z")
# What stands before the database; it is the last such place in a line that counts.
_OPERATION = re.compile(
    rb".*,(?P<host>[^, ]*),(?P<id>-?[0-9]{1,10}),0,"
    rb"(?P<operation>CONNECT|FAILED_CONNECT|DISCONNECT|CHANGEUSER|CHANGE_USER_DONE),",
    re.DOTALL,
)
# The object of these is an account in backquotes; names may hold any byte, but a host holds no backquote.
_NAMING_OPERATION = re.compile(
    rb".*,(?P<host>[^, ]*),(?P<id>-?[0-9]{1,10}),0,(?P<operation>PROXY_CONNECT|CHANGE_USER),[^`]*,"
    rb"`(?P<user>.*?)`(?:@`(?P<row>[^`]*)`)?,(?P<code>0)(?:,(?:[^0-9,'][^,']*)?)?\Z",
    re.DOTALL,
)
_QUERY_END = re.compile(rb"',[0-9]+(?:,(?:[^0-9,'][^,']*)?)?\r?$")
_PORT = re.compile(rb"\[([^\]]*)\](?::[0-9]*)?|([^:]+):[0-9]+|(.+):(?:[0-9]{5}|unavailable)", re.DOTALL)
# As nearly all records are, so that they are read quickly.
_PLAIN_LINE = re.compile(
    rb"([^,]*),([^,]*),([^,\0]*),([^, \0]*),([1-9][0-9]{0,9}),0,"
    rb"(CONNECT|FAILED_CONNECT|DISCONNECT),[^,]*,[^,'`]*,([0-9]+)(?:,(?:[^0-9,'][^,']*)?)?"
)
# The heads of syslog: <PRI>, RFC 5424's version, a stamp, the host, ident; then server_audit_syslog_info, a blank and
# the record.
_SYSLOG = re.compile(
    rb"(?:<[0-9]{1,3}>)?(?:1 )?(?P<stamp>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.,]+(?:Z|[+-][0-9]{2}:?[0-9]{2})"
    rb"|(?:[A-Z][a-z]{2} [ 0-9]?[0-9]|[A-Z][a-z]{2} [0-9]{4}-[0-9]{2}-[0-9]{2}) [0-9]{2}:[0-9]{2}:[0-9]{2}"
    rb"(?:\.[0-9]+)?(?: [A-Z]{2,5}(?= ))?)"
    rb" (?P<rest>.*)",
    re.DOTALL,
)
# What stands before a record that another program has wrapped: a word, then up to a blank, bar, bracket or colon.
_WRAPPED = re.compile(rb"(?:[^,A-Za-z]|[A-Za-z](?![A-Za-z]))*[A-Za-z]{2}[^,]*?[ |\]:](?=[0-9]{8}[ T][0-9:]{8}[^, ]*,)")
# One may begin within another that is torn.
_INNER_STAMP = re.compile(rb"(?=([0-9]{4}-?[0-9]{2}-?[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}[^,]{0,20}),)[0-9]")
_BROKEN_OFF = b",,0"  # what the shortest record of a login lacks that breaks off behind the mark
_READINGS = 64  # so many inner stamps of a damaged line are tried, from its end


class Line(NamedTuple):
    """A line that ends like the record of a connection; names as logged, `host` without port.

    `stamp` is None for a piece: the rest of a name with a line end, or a torn record.  Of PROXY_CONNECT, user and
    host are the account row that was really used; of CHANGE_USER, `user` is the new one.
    """

    stamp: Optional[bytes]
    server: bytes
    user: bytes
    host: bytes
    number: int
    operation: bytes
    code: int
    ident: bytes = b""  # syslog's; file records have none

    @property
    def name(self) -> bytes:
        """The key of the facts, b"user,host"; a host has no comma, so the last one parts them."""
        return self.user + b"," + self.host

    @property
    def is_login(self) -> bool:
        """Whether it is the record of an accepted login."""
        return self.operation == b"CONNECT" and not self.code


def without_port(host: bytes) -> bytes:
    """Return a client host without the port that servers from 12.0.1 on log.

    `name:port`, `1.2.3.4:port`, `[v6]:port` and `:unavailable` are told by their form.  Of a bare IPv6 address the
    last group is surely a port if it has five digits or is one group too many, as an address has at most eight of
    four digits; else the host is left as it stands, and both readings count (section "Match").
    """
    match = _PORT.fullmatch(host)
    if match:
        return next(found for found in match.groups() if found is not None)
    return host.rpartition(b":")[0] if host.count(b":") == 8 else host


def read_line(line: bytes, clock: Clock) -> Optional[Line]:
    """Read a line (no line end) by the strict grammar; None if it does not end like the record of a connection."""
    match = _PLAIN_LINE.fullmatch(line)
    if match and match[1] in clock:
        stamp, server, user, host, number, operation, code = match.groups()
        host = without_port(host) if b":" in host else host
        return Line(stamp, server, user, host, int(number), operation, int(code))
    line = line.strip(b"\0\r").rstrip(b" ")
    end = _END.search(line, max(0, len(line) - 100))
    if end:
        match = _OPERATION.match(line, 0, end.start())
    else:
        match = _NAMING_OPERATION.match(line) if b"`,0" in line[-50:] and len(line) <= LONGEST_RECORD else None
    if not match:
        return None
    stamp, server, user, ident = _read_head(line[: max(0, match.start("host") - 1)], clock)
    host, operation = without_port(match["host"]), match["operation"]
    if operation in (b"PROXY_CONNECT", b"CHANGE_USER"):
        user, host = match["user"], host if match["row"] is None else match["row"]
    stamp = None if b"\0" in user + host else stamp
    code = int(end["code"]) if end else 0
    return Line(stamp, server, user, host, int(match["id"]) % (1 << 32), operation, code, ident)


def _read_head(text: bytes, clock: Clock) -> tuple[Optional[bytes], bytes, bytes, bytes]:
    """Return stamp, server, user and ident before the host and id of a record; a stamp of None tells of a piece."""
    text = text.lstrip(b" \0")
    text = text[3:] if text.startswith(b"\xef\xbb\xbf") else text
    places = [(0, clock.form.text.count(","))]  # of a stamp, and how many commas it may hold
    wrapped = _WRAPPED.match(text)
    places += [(wrapped.end(), 0)] if wrapped else []
    for start, commas in places:
        fields = text[start:].split(b",", 2 + commas)
        stamp = b",".join(fields[: 1 + commas])
        if len(fields) == 3 + commas and clock.find(stamp) is not None:
            if _is_glued(text[start:], clock):
                return None, b"", text, b""
            return stamp, fields[-2], fields[-1], b"wrapped" if start else b""
    syslog = _SYSLOG.fullmatch(text)
    found = _server_in(syslog["rest"]) if syslog and clock.find(syslog["stamp"]) is not None else None
    if syslog and found:
        # The identifier is the word before a colon, else the word behind the host (RFC 5424).
        words = found.string[: found.start()].split()
        marked = [word for word in words if word.endswith(b":")] or words[1:2] or words[:1] or [b""]
        ident = re.sub(rb"(?:\[[0-9]*\])?:?\Z", b"", marked[0]) or b"-"
        return syslog["stamp"], found["server"], found.string[found.end() :], ident
    return None, b"", text, b""


def _is_glued(text: bytes, clock: Clock) -> bool:
    """Return whether a whole record begins within the text, so that the first one is torn."""
    return any(
        text.count(b",", match.start()) >= 2 and clock.find(match[1]) is not None
        for match in itertools.islice(_INNER_STAMP.finditer(text, 1), _READINGS)
    )


def _server_in(rest: bytes) -> "Optional[re.Match[bytes]]":
    """Find the server host behind a syslog head: by the head's own host, else the first word before a comma."""
    short = rest.partition(b" ")[0].partition(b".")[0]
    own = rb" (?P<server>%b(?:\.[^ ,]*)?)," % re.escape(short)
    return (re.search(own, rest) if short else None) or re.search(rb" (?P<server>[^ ,]+),", rest)


# These refusals came only with the right password, by every method of authentication tried on MariaDB 10.5, 10.11 and
# 11.8: too many connections (1040, 1203, 1226), database denied or bad (1044, 1102), password expired (1862), account
# locked (4151).
PASSWORD_WAS_RIGHT = {b"%d" % code: f"refused {code}" for code in (1040, 1044, 1102, 1203, 1226, 1862, 4151)}


def kind_of(name: bytes, code: Optional[bytes]) -> str:
    """Return the kind of evidence that a refusal is: "line" is none."""
    return PASSWORD_WAS_RIGHT.get(code or b"", "line") if not name.startswith(b",") else "line"


def read_torn(line: bytes, clock: Clock) -> dict[bytes, int]:
    """Return names and instants of the logins that a damaged line may tell of; they are not believed.

    They are glued to a torn record, torn off, or broken off.
    """
    line = line.strip(b"\0\r")
    inner = [match.start() for match in _INNER_STAMP.finditer(line, 1)][-_READINGS:]
    found: dict[bytes, int] = {}
    for text in (line, line + _BROKEN_OFF, *(line[:end] + _BROKEN_OFF for end in inner[-1:])):
        glued = (_torn_login(text[start:], clock) for start in reversed(inner) if start < len(text))
        found.update(filter(None, (_torn_login(text, clock), next(filter(None, glued), None))))
    return found


def _torn_login(text: bytes, clock: Clock) -> Optional[tuple[bytes, int]]:
    end = _END.search(text, max(0, len(text) - 100))
    match = _OPERATION.match(text, 0, end.start()) if end else None
    if not match or match["operation"] != b"CONNECT" or b"\0" in text:
        return None
    fields = text[: max(0, match.start("host") - 1)].split(b",", 2)
    instant = clock.find(fields[0])
    return (fields[2] + b"," + without_port(match["host"]), instant) if instant and len(fields) == 3 else None


def is_record(line: bytes, clock: Clock) -> bool:
    """Return whether a line begins like any record of the audit plugin: of a query or a table as well."""
    read = read_line(line, clock)
    if read or (LOGIN_MARK in line and not _QUERY_END.search(line, max(0, len(line) - 100))):
        return read is not None and read.stamp is not None
    fields = line.split(b",", 7)
    numbers = len(fields) == 8 and fields[4].isdigit() and fields[5].isdigit()
    return numbers and clock.find(fields[0].strip(b" \0")) is not None


def is_plain_query(text: bytes) -> bool:
    """Return whether a line is the record of a query, and nothing is glued to it."""
    ends = _QUERY_END.search(text, max(0, len(text) - 100)) is not None
    return ends and LOGIN_MARK not in text.partition(b",QUERY,")[0]


def decoded(name: bytes) -> str:
    r"""Return a name as text: bytes that are not UTF-8 as \xNN, all else as it is."""
    return name.decode("utf-8", "backslashreplace")


@functools.lru_cache(64)
def plain_record(width: int, glue: bytes, *, ports: bool) -> "re.Pattern[bytes]":
    """Return what matches a record with plain names, for a length of stamps and what stands between them and the user.

    `ports`: hosts are logged with a port.  The groups are stamp, b"user,host", id, b"CONNECT" of a login, the return
    code of a refusal (neither is that of the end of a session), and the stamp of the session's end, if that is the
    next record.

    `[^,]*+` never gives back what it took, which is faster.  Python before 3.11 does not know it; `[^,]*` matches the
    same.  Python before 3.11.5 gets it wrong for groups (https://github.com/python/cpython/issues/106052).
    """
    port = rb"(?::[0-9]++)?" if ports else b""
    host = rb"[^,:]*+" if ports else rb"[^,]*+"
    head = rb"\n(.{%d})%b" % (width, re.escape(glue))
    names = rb"[^,\n]*+,[^,\n]*+,"  # database and object
    more = rb"(?:,(?:[^0-9,'\n][^,'\n]*+)?)?"  # the 11th field
    kinds = rb"(?:(?:(CONNECT)|DISCONNECT),%b0|FAILED_CONNECT,%b([0-9]++))%b" % (names, names, more)
    its_end = rb"(?:%b\2%b,\3,0,DISCONNECT,%b0%b)?" % (head, port, names, more)
    pattern = rb"%b([^,]*+,%b)%b,([1-9][0-9]*+),0,%b%b(?=\n)" % (head, host, port, kinds, its_end)
    if sys.version_info < (3, 11):
        pattern = re.sub(rb"(?<=[*+?}])\+", b"", pattern)
    return re.compile(pattern, re.DOTALL)


# ---------------------------------------------------------------------------------------------------------------------
# Log files: which files there are, and what of them is new
# ---------------------------------------------------------------------------------------------------------------------
#
# A log is the file that the server writes and its rotations.  A file is known again by its device, inode, first bytes
# and the bytes before the last position: it is continued only if all of them agree; else these bytes are looked for
# in the other files (renamed by a rotation, compressed, copied); else it is read from its start.  What can be found
# nowhere is a gap.  When in doubt, read: the facts are the first and the last instant of each name, so reading a
# record twice changes nothing.

FINGERPRINT = 256  # bytes kept of a file's start, and of those before a position, to know the file again
VANISHED = "it was removed before it was read"  # no fault: a rotation may do it between the look and the reading
LOOKS = 20  # so often a file is looked for at most, as a rotation may hide it meanwhile
JOURNAL = "journal:"
# The modules that open compressed files; each is loaded only where it is needed.
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma", ".zst": "compression.zstd"}
# Seconds by which a new file must be older than what was read: less is an hour of daylight saving, or a set clock.
OLDER = 2 * HOUR

Say = Callable[[str, str], None]


class Gap(NamedTuple):
    """A stretch of time for which log records were lost, or may have been."""

    began: int
    ended: int
    reason: str = ""


class Known(NamedTuple):
    """A file as the last run left it; offsets in bytes of log text, instants in seconds, `modified` in nanoseconds."""

    log: str
    path: str
    device: int
    inode: int
    stored_size: int
    modified: int
    read_to: int
    live: bool
    first: Optional[int]
    last: Optional[int]
    head: bytes
    before: bytes


class LogFile:
    """A file of a log, to be read from `start` to `end`; `first` and `last` are the instants of its records there.

    `live`: the server may still write to it.  `put_back`: new, but older than what was read.  `broken` says why it
    could not be read to its end, `read_to` how far it was, `counted` whether any of it was.
    """

    def __init__(self, log: str, path: str, status: os.stat_result) -> None:
        self.log, self.path = log, path
        self.device, self.inode = status.st_dev, status.st_ino
        self.stored_size, self.modified = status.st_size, status.st_mtime_ns
        self.compressed = path.endswith(tuple(COMPRESSIONS))
        self.head = self.before = b""
        self.start = self.end = self.read_to = 0
        self.live = self.unchanged = self.put_back = self.counted = False
        self.known: Optional[Known] = None
        self.first: Optional[int] = None
        self.last: Optional[int] = None
        self.age: Optional[int] = None  # instant of an early record
        self.broken = ""

    @property
    def is_new(self) -> bool:
        """Whether anything of it is to be read."""
        return self.start < self.end

    def text(self, start: int, size: int) -> bytes:
        """Return up to `size` bytes of log text; if there is none, raises OSError and compressed files' errors."""
        data = b""
        with contextlib.closing(open_file(self, start)) as stream:
            read = getattr(stream, "read1", stream.read)
            try:
                while len(data) < size:
                    piece = read(size - len(data))
                    if not piece:
                        break
                    data += piece
            except Exception:  # each compression has errors of its own
                if not data or not self.compressed:
                    raise
        return data

    def as_known(self) -> Optional[Known]:
        """Return what the next run needs to know: what the last one did, where it could not be read."""
        if self.broken and not self.counted:
            return self.known
        found = Known(**{name: getattr(self, name) for name in Known._fields})
        found = found._replace(head=self.head[: self.read_to], live=self.live and self.read_to > 0)
        if not self.broken or self.path == JOURNAL:
            return found
        if self.compressed or not self.read_to:  # the ids of what was read stand in the ledger: one of its own reads it
            return found._replace(head=self.head, read_to=0, before=b"", modified=0)
        return found._replace(modified=0)


class _Raw(io.FileIO):
    """A file as it stands on the disk; the page cache is left as it was found."""

    def read(self, size: Optional[int] = -1) -> bytes:
        """Return up to `size` bytes; fewer only at the end."""
        number, at, cold = self.fileno(), self.tell(), False
        try:
            os.preadv(number, [bytearray(1)], at, os.RWF_NOWAIT)
        except OSError as error:  # not every file system can say whether a page is in the cache
            cold = error.errno == errno.EAGAIN
        data = super().read(size)
        if cold:
            os.posix_fadvise(number, at, len(data), os.POSIX_FADV_DONTNEED)
        return data


def open_file(file: LogFile, start: int) -> Any:
    """Open a file at an offset of its text; raises OSError and the errors of compressed files."""
    if file.path == JOURNAL:
        return _Journal(file)
    raw = _open_raw(file)
    suffix = os.path.splitext(file.path)[1]
    if not file.compressed:
        raw.seek(start)
        return raw
    if suffix != ".zst" or sys.version_info >= (3, 14):
        stream = importlib.import_module(COMPRESSIONS[suffix]).open(raw)
    elif shutil.which("zstd"):
        stream = _Piped(["zstd", "-dcq"], raw)
    else:
        raise OSError(errno.ENOTSUP, "it takes Python 3.14 or the program zstd to read it")
    while start > 0:
        skipped = len(stream.read(min(CHUNK, start)))
        if not skipped:
            break
        start -= skipped
    return stream


def _open_raw(file: LogFile) -> _Raw:
    """Open the very file that was found, though a rotation may have renamed it since."""
    folder = os.path.dirname(file.path) or "."
    for _ in range(LOOKS):
        others = (entry.path for entry in os.scandir(folder) if entry.inode() == file.inode)
        for path in itertools.chain([file.path], others):
            with contextlib.suppress(FileNotFoundError, PermissionError):
                raw = _Raw(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
                status = os.stat(raw.fileno())
                if (status.st_dev, status.st_ino) == (file.device, file.inode):
                    return raw
                raw.close()
    raise FileNotFoundError(errno.ENOENT, VANISHED)


class _Piped:
    """The output of a program as a stream; it raises OSError where the program fails."""

    def __init__(self, command: Sequence[str], source: Optional[_Raw] = None) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (a pipe that nobody reads would stop the program)
        self.process: Any = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=self.errors)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes."""
        data: bytes = self.process.stdout.read(size)
        if not data and self.process.wait():
            self.errors.seek(0)
            said = visible(self.errors.read(200).strip())
            raise OSError(errno.EIO, said or f"{self.process.args[0]} ended with {self.process.returncode}")
        return data

    def close(self) -> None:
        """End the program."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


class _Journal(_Piped):
    """The records in the journal behind a cursor, which moves on with them, as rsyslog would write them to a file."""

    def __init__(self, file: LogFile) -> None:
        self.file, self.rest = file, b""
        command = ["journalctl", "--output=json", "--quiet", "--no-pager", f"--identifier={file.head.decode()}"]
        command += [f"--after-cursor={file.before.decode()}"] if file.before else []
        super().__init__(command)

    def read(self, size: int) -> bytes:
        """Return some whole lines."""
        while True:
            data = super().read(size)
            lines = (self.rest + data).split(b"\n")
            self.rest = lines.pop()
            entries = [json.loads(line) for line in lines]
            text = b"".join(map(self._line, entries))
            if entries:
                self.file.before = entries[-1]["__CURSOR"].encode()
            if text or not data:
                return text

    @staticmethod
    def _line(entry: Mapping[str, Any]) -> bytes:
        message = entry.get("MESSAGE") or ""
        raw = bytes(message) if isinstance(message, list) else message.encode("utf-8", "surrogateescape")
        stamp = utc(int(entry["__REALTIME_TIMESTAMP"]) // 10**6)
        host, ident = entry.get("_HOSTNAME", "localhost"), entry.get("SYSLOG_IDENTIFIER", "")
        return f"{stamp} {host} {ident}: ".encode() + raw.replace(b"\n", b"#012") + b"\n"


def journal_plan(identifier: str, known: list[Known]) -> "Plan":
    """Return the plan for the journal: all behind the cursor of the last run, which is kept in `before`."""
    if not shutil.which("journalctl"):
        raise LogError(f"{JOURNAL}: there is no journalctl here: name a file or folder in AuditLogPath")
    file = LogFile(JOURNAL, JOURNAL, os.stat("/"))
    file.head, file.end, file.live, file.compressed = identifier.encode(), sys.maxsize, True, True
    file.modified = time.time_ns()
    file.known = next((k for k in known if k.path == JOURNAL), None)
    if file.known:
        file.before, file.first = file.known.before, file.known.first
    return Plan([file], [], [], [])


def find_files(path: str, name: str, say: Say) -> tuple[list[LogFile], list[str]]:
    """Return the files of the logs that `path` (a folder, a file or a glob) means, and the paths that cannot be read.

    In a folder, and beside a file, these are the log and its rotations.  A rotation while looking can hide a file, or
    show one by a name that it has no longer, so the look is repeated until two show the same.
    """
    files: dict[tuple[int, int], LogFile] = {}
    troubles: dict[str, str] = {}
    before: dict[tuple[int, int], str] = {}
    for _ in range(LOOKS):
        seen = _look(path, name, troubles)
        for identity, file in seen.items():
            files.setdefault(identity, file).path = file.path
        paths = {identity: file.path for identity, file in seen.items()}
        if paths == before:
            break
        before = paths
    for found, trouble in troubles.items():
        if trouble:
            say("ERROR", f"{found}: {trouble}: the log was not read: grant this user read access")
        else:
            say("WARN", f"{found}: not a file: left out")
    unreadable = [found for found, trouble in troubles.items() if trouble]
    if not files and not unreadable:
        raise LogError(f"{path}: no audit log named {name} here: is auditing on, and is AuditLogPath right?")
    return list(files.values()), unreadable


def _look(path: str, name: str, troubles: dict[str, str]) -> dict[tuple[int, int], LogFile]:
    """Return the files of the logs as they are named now; `troubles` gets the other paths, and why ("": no file)."""
    seen: dict[tuple[int, int], LogFile] = {}
    for log, found in _candidates(path, name):
        try:
            status = os.stat(found)
            if not stat.S_ISREG(status.st_mode):
                troubles[found] = ""
            elif not os.access(found, os.R_OK, effective_ids=True) and os.path.exists(found):
                troubles[found] = os.strerror(errno.EACCES)
            else:
                seen.setdefault((status.st_dev, status.st_ino), LogFile(log, found, status))
        except FileNotFoundError:
            continue
        except OSError as error:
            troubles[found] = str(error.strerror)
    return seen


# Rotations: .1 .01 .001 -20261122 _20261122 -2026-11-22 -20261122-1763800000 -2026112210, and logrotate's `extension`,
# before .log.  Any other number may be another server's: server_audit-3307.log.
_ROTATION = (
    r"(?:(?:\.[0-9]{1,3}|[-_.][0-9]{4}-?[0-9]{2}-?[0-9]{2}(?:-?[0-9]{2})?(?:-[0-9]{2,10})?|-[0-9]{10})(?=\.|\Z))?"
)
_COMPRESSION = r"(?:\.(?:gz|bz2|xz|zst))?"
_IN_GLOB = re.compile(rf"{_ROTATION}(\.log)?{_COMPRESSION}\Z")
# The number of a rotation is no date behind a dot.
_ROTATION_NUMBER = re.compile(rf"\.([0-9]{{1,4}})(?:\.log)?{_COMPRESSION}$")


def _candidates(path: str, name: str) -> list[tuple[str, str]]:
    """Return the paths that may be files of audit logs, each behind the path of its log."""
    if not os.path.isdir(path):
        if not os.path.lexists(path) and glob.has_magic(path):
            return [(_IN_GLOB.sub(r"\1", found), found) for found in sorted(glob.glob(path))]
        path, name = os.path.split(path)
    try:
        names = os.listdir(path or ".")
    except OSError as error:
        advice = "the logs cannot be listed: check AuditLogPath and its permissions"
        raise LogError(f"{path}: {error.strerror}: {advice}") from None
    stem, extension = map(re.escape, os.path.splitext(name))
    numbered = rf"{extension}(?:\.[0-9]{{4}}|{_ROTATION})"
    family = re.compile(f"{stem}(?:{numbered}|{_ROTATION}{extension}){_COMPRESSION}", re.DOTALL)
    log = os.path.join(path, name)
    return [(log, os.path.join(path, found)) for found in sorted(names) if family.fullmatch(found)]


class Plan(NamedTuple):
    """What a run reads: files from the oldest to the newest, and what became of the known ones.

    `unreadable` are paths, `kept` the known files that cannot be read now, `gaps` tell what is lost.
    """

    files: list[LogFile]
    unreadable: list[str]
    kept: list[Known]
    gaps: list[Gap]


def plan(files: list[LogFile], unreadable: list[str], known: list[Known], clock: Clock) -> Plan:
    """Decide what to read of each file."""
    by_inode = {(k.device, k.inode): k for k in known}
    for file in files:
        _look_at_start(file, by_inode.get((file.device, file.inode)), clock)
    # From the oldest to the newest: by the first record, else by the number of the rotation.
    files = _without_copies(files)
    files.sort(key=lambda f: (f.modified // 10**9 if f.age is None else f.age, -_rotation_number(f.path)))
    for of_one_log in by_log(files).values():
        _mark_live(of_one_log)
    for file in files:
        _set_bounds(file, known)
    _keep_log_of_moved(files)
    for file in files:
        file.put_back = file.is_new and not file.known and _was_read(file, known)
    found = {file.known for file in files}
    gone = [k for k in known if k not in found]
    away = {*unreadable, *(file.path for file in files if file.broken)}
    gaps = [gap for of_one_log in by_log(files).values() for gap in _missing_rotations(of_one_log)]
    gaps += _not_found([k for k in gone if k.path not in away], files)
    return Plan(files, unreadable, [k for k in gone if k.path in away], gaps)


def by_log(files: Iterable[LogFile]) -> dict[str, list[LogFile]]:
    """Return the files of each log, in their order."""
    logs: dict[str, list[LogFile]] = {}
    for file in files:
        logs.setdefault(file.log, []).append(file)
    return logs


def _was_read(file: LogFile, known: list[Known]) -> bool:
    """Return whether a new file holds what was read before, or is older: by its first record or bytes."""
    newest = max((k.last or 0 for k in known if k.log == file.log), default=0)
    older = file.age is not None and file.age < newest - OLDER
    return older or any(len(k.head) > 20 and file.head.startswith(k.head) for k in known)


def _look_at_start(file: LogFile, k: Optional[Known], clock: Clock) -> None:
    """Find the first bytes of a file and the instant of its first record: those of before, if it has not changed."""
    if k and (k.stored_size, k.modified) == (file.stored_size, file.modified):
        file.known, file.unchanged = k, True
        file.head, file.first, file.last, file.age = k.head, k.first, k.last, k.first
        return
    try:
        start = file.text(0, LONGEST_RECORD)
    except Exception as error:  # each compression has errors of its own
        file.broken = describe(error)
        return
    file.head = start[:FINGERPRINT]
    clock.set_file(file.modified // 10**9)
    instants = (_instant_of(line.strip(b"\0\r "), clock) for line in start.split(b"\n"))
    firsts = list(itertools.islice((instant for instant in instants if instant is not None), 9))
    if firsts:
        # The very first may be a piece of a name, with a stamp that somebody chose: the middle one of a few tells the
        # age.
        file.first, file.age = firsts[0], sorted(firsts)[len(firsts) // 2]


def describe(error: Exception) -> str:
    """Return what an error of reading says, and what comes of it."""
    if isinstance(error, FileNotFoundError):
        return VANISHED
    said = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    return f"{said}: the log was not read to its end: the next run tries again"


def _instant_of(line: bytes, clock: Clock) -> Optional[int]:
    """Return the instant of the stamp with which a line begins, if it does."""
    instant = clock.find(b",".join(line.split(b",")[: 1 + clock.form.text.count(",")]))
    return clock.find(_read_head(line[:LONGEST_RECORD] + b",,", clock)[0] or b"") if instant is None else instant


def _without_copies(files: list[LogFile]) -> list[LogFile]:
    """Leave out files that are just being copied or compressed: the original tells all that they can."""
    plain: dict[bytes, list[LogFile]] = {}
    for file in files:
        if file.head and not file.compressed:
            plain.setdefault(file.head, []).append(file)
    return [file for file in files if not any(_is_copy(file, other) for other in plain.get(file.head, ()))]


def _is_copy(file: LogFile, other: LogFile) -> bool:
    """Return whether another plain file with the same head holds all of this one; of two equal ones, one does."""
    if file.compressed:
        return os.path.splitext(file.path)[0] == other.path
    size = file.stored_size
    if other is file or (size, other.path) > (other.stored_size, file.path):
        return False
    start = max(0, size - FINGERPRINT)
    with contextlib.suppress(OSError):
        return file.text(start, size - start) == other.text(start, size - start)
    return False


def _rotation_number(path: str) -> int:
    """Return the number of a rotation; 0 for a log itself, and for other names."""
    number = _ROTATION_NUMBER.search(path)
    return int(number[1]) if number else 0


def _mark_live(files: list[LogFile]) -> None:
    """Find the files that the server may still write to: the last with a record, and the last written to."""
    written = [file for file in files if not file.compressed and file.stored_size]
    if written:
        written[-1].live = True
        max(written, key=lambda file: file.modified).live = True


def _set_bounds(file: LogFile, known: list[Known]) -> None:
    """Find the known file that this one continues, and so from where to where to read: a live one to its last line."""
    if not file.unchanged and not file.broken:
        file.known = _continued(file, known)
    if file.known:
        file.before = file.known.before
        file.start = file.read_to = file.end = file.known.read_to
    if file.unchanged or file.broken:
        return
    try:
        file.end = sys.maxsize if file.compressed else _last_line_end(file) if file.live else file.stored_size
    except OSError as error:
        file.broken = describe(error)


def _continued(file: LogFile, known: list[Known]) -> Optional[Known]:
    """Return the known file that this one continues."""
    mine = [k for k in known if k.before and file.head.startswith(k.head)]
    mine.sort(key=lambda k: ((k.device, k.inode) != (file.device, file.inode), -k.read_to))
    for k in mine:
        with contextlib.suppress(Exception):  # each compression has errors of its own; it is read from its start then
            start, size = k.read_to - len(k.before), len(k.before)
            if (file.compressed or file.stored_size >= k.read_to) and file.text(start, size) == k.before:
                return k
    return None


def _keep_log_of_moved(files: list[LogFile]) -> None:
    """Let a log that was moved keep the name that it had, by which its state is known."""
    present = {file.log for file in files}
    moved = {file.log: file.known.log for file in files if file.known and file.known.log not in present}
    for file in files:
        file.log = moved.get(file.log, file.log)


def _last_line_end(file: LogFile) -> int:
    """Return where the last whole line of a plain file ends."""
    position = file.stored_size
    while position > file.start:
        start = max(file.start, position - CHUNK)
        found = file.text(start, position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return file.start


def _missing_rotations(files: list[LogFile]) -> Iterator[Gap]:
    """Yield a gap where the log was rotated more than once since the last run, and one of the files is missing."""
    numbered = {_rotation_number(file.path): file for file in files}
    numbered.pop(0, None)
    for number, file in numbered.items():
        k = file.known
        if not k or not k.live or k.last is None or file.unchanged:
            continue
        lost = [n for n in range(1, number) if n not in numbered]
        if lost and not _come_back(file.log, lost):  # if a rotation has hidden them just now, the next run reads them
            newer = [f for n, f in numbered.items() if n < lost[0]] + [f for f in files if f.path == f.log]
            ended = min((f.first for f in newer if f.first is not None), default=int(time.time()))
            yield Gap(k.last, max(ended, k.last), f"{file.log}.{lost[-1]} is missing: it was not read")


def _come_back(log: str, numbers: list[int]) -> bool:
    """Return whether there are rotations with these numbers, at once or in a moment."""
    for _ in range(LOOKS):
        if {_rotation_number(path) for _, path in _candidates(log, "")}.issuperset(numbers):
            return True
        time.sleep(0.01)
    return False


def _not_found(lost: list[Known], files: list[LogFile]) -> Iterator[Gap]:
    """Yield a gap for each lost file that was live, until the first record of the new files, or now."""
    for k in lost:
        if k.live and k.last is not None:
            firsts = [file.first or 0 for file in files if file.log == k.log and file.known is None]
            ended = min((first for first in firsts if first >= k.last), default=int(time.time()))
            yield Gap(k.last, ended, f"{k.path} was not found again: what it held after the last run was not read")


# ---------------------------------------------------------------------------------------------------------------------
# Reading: the new lines of a log as a stream of chunks
# ---------------------------------------------------------------------------------------------------------------------
#
# A chunk is some 64 KB of whole lines.  Where connections are rare among queries, only the lines with a mark are
# kept, and several stretches make one chunk.  One pattern cuts the records with plain names out of it as columns; the
# strict grammar reads what is left over and has a mark.  Larger chunks would leave the processor's cache.

# Bytes read at once, and of a chunk.
BLOCK = 256 * 1024
CHUNK = 64 * 1024
# Marks per KB of text from which on all its lines make a chunk.
DENSE = 1.0
# Names in memory before they are handed on.
MANY_NAMES = 50_000
# The id of a login or a refusal.
_BORNE = re.compile(rb"\n.*,(-?[0-9]+),0,(?:FAILED_)?CONNECT,")
# Of a longer line only the last bytes are looked at, as no record of a connection is that long: it has four names.
LONGEST_RECORD = 8 * 1024


class Row:
    """One login, refusal or proxied login: `kind` is the kind of evidence, `reason` why it is suspect, if it is."""

    __slots__ = ("chunk", "instant", "kind", "name", "number", "reason", "server")

    def __init__(self, kind: str, number: int, instant: int, name: bytes, server: bytes, chunk: "Chunk") -> None:
        self.kind, self.number, self.instant, self.name, self.server = kind, number, instant, name, server
        self.chunk, self.reason = chunk, ""

    @property
    def place(self) -> tuple[str, int]:
        """The path of its file, and the offset of its line."""
        return self.chunk.path, self.chunk.offset(self.chunk.find(self.number, self.name))


class Chunk:
    """Lines of a log, behind a line end; `offsets` are those of the lines kept, or that of the first of all of them.

    `names`, `instants` and `ids` are columns of logins, in the order of time; `rows` are those that were added one by
    one, and what else proves use.  `numbers` are all ids that its records bear, while it is not settled, `high` is the
    highest one; `doubts` tells which are suspect and why.  `until` is the instant of the last record.  `counts` is
    False for lines that another process counts, and that are only context here.
    """

    def __init__(self, path: str, text: bytes, offsets: "Union[int, list[int]]", *, counts: bool = True) -> None:
        self.path, self.text, self.offsets, self.counts = path, text, offsets, counts
        self.server = b""
        self.names: list[bytes] = []
        self.instants: list[int] = []
        self.ids: list[int] = []
        self.rows: list[Row] = []
        self.numbers: set[int] = set()
        self.doubts: dict[int, str] = {}
        self.high, self.until = 0, 0

    def find(self, number: int, name: bytes) -> int:
        """Return where the line end before a login or refusal stands in the text, 0 if that is not found."""
        starts = self._starts.get(number, [0])
        user = name.rpartition(b",")[0]
        return next(
            (start for start in starts if user in self.text[start : self.text.find(b"\n", start + 1)]), starts[0]
        )

    @functools.cached_property
    def _starts(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for match in _BORNE.finditer(self.text):
            found.setdefault(int(match[1]) % (1 << 32), []).append(match.start())
        return found

    def offset(self, start: int) -> int:
        """Return the offset in the log of the line behind the line end at `start` in the text."""
        return self.offsets + start if isinstance(self.offsets, int) else self._offsets[start]

    @functools.cached_property
    def _offsets(self) -> dict[int, int]:
        ends = itertools.accumulate(len(line) + 1 for line in self.text[1:].split(b"\n"))
        return dict(zip(itertools.chain([0], ends), self.offsets))  # type: ignore[arg-type]

    def add(self, names: list[bytes], instants: list[int], ids: list[int], numbers: set[int]) -> None:
        """Add logins to the columns, and all ids that are borne beside them."""
        self.names += names
        self.instants += instants
        self.ids += ids
        self.numbers |= numbers
        self.high = max(self.high, max(numbers, default=0))

    def sort(self) -> None:
        """Sort the columns by time, if a stamp is not in order."""
        if sorted(self.instants) != self.instants:
            rows = sorted(zip(self.instants, self.names, self.ids), key=lambda row: row[0])
            self.instants, self.names, self.ids = map(list, zip(*rows))

    def logins(self) -> Iterator[Row]:
        """Yield the columns' logins, with what is known against them."""
        for name, instant, number in zip(self.names, self.instants, self.ids):
            row = Row("login", number, instant, name, self.server, self)
            row.reason = self.doubts.get(number, "")
            yield row


def _tells_setting(text: bytes) -> bool:
    return any(mark in text for mark in SETTING_MARKS)


def _is_marked(text: bytes) -> bool:
    return CONNECT_MARK in text or CHANGE_MARK in text or _tells_setting(text)


def marked_lines(text: bytes, marks: Iterable[bytes]) -> list[int]:
    r"""Return where the lines of `text` (which begins with b"\n") that hold one of the marks start, in order.

    Searching from the right, Python needs no table for what it looks for and passes over several GB a second
    (Objects/stringlib/fastsearch.h).
    """
    starts: set[int] = set()
    for mark in marks:
        at = text.rfind(mark)
        while at >= 0:
            start = text.rfind(b"\n", 0, at) + 1
            starts.add(start)
            at = text.rfind(mark, 0, start)
    return sorted(starts)


def is_dense(text: bytes) -> bool:
    """Return whether connections make up much of a text, by its first bytes."""
    return text.count(CONNECT_MARK, 0, 8192) >= DENSE * min(len(text), 8192) / 1024


def chunks_of(file: "LogFile", start: int, end: int, marks: Sequence[bytes], *, counts: bool) -> Iterator[Chunk]:
    """Yield the lines of a file from `start` to `end` as chunks; raises OSError and the errors of compressed files.

    Where connections are rare, these are the lines with one of the marks.
    """
    kept: list[bytes] = []
    offsets: list[int] = []
    size = 0
    failure: Optional[Exception] = None
    try:
        for offset, text in texts_of(file, start, end):
            dense = is_dense(text)
            if dense and not kept:
                for at, piece in pieces(text, CHUNK):
                    yield Chunk(file.path, piece, offset + at, counts=counts)
                continue
            for at in marked_lines(text, marks):
                line = text[at : text.find(b"\n", at)]
                kept.append(line)
                offsets.append(offset + at - 1)  # the text begins with a line end that is not in the file
                size += len(line)
            if size > CHUNK or (kept and dense):
                yield Chunk(file.path, b"\n%b\n" % b"\n".join(kept), offsets, counts=counts)
                kept, offsets, size = [], [], 0
    except Exception as error:  # what was read before it counts
        failure = error
    if kept:
        yield Chunk(file.path, b"\n%b\n" % b"\n".join(kept), offsets, counts=counts)
    if failure:
        raise failure


def pieces(text: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines of a text in pieces of about `size` bytes, each behind a line end, and where they stand."""
    at = 0
    while at < len(text) - 1:
        end = len(text)
        if end - at > size * 3 // 2:
            end = text.rfind(b"\n", at + 1, at + size) + 1 or text.find(b"\n", at + size) + 1 or end
        yield at, text[at:end]
        at = end - 1


def texts_of(file: "LogFile", start: int, end: int) -> Iterator[tuple[int, bytes]]:
    r"""Yield whole lines of a file in pieces of about BLOCK bytes: the first one's offset, and b"\n" with the lines.

    A last line without an end is one where the file is no longer written to.
    """
    with contextlib.closing(open_file(file, start)) as stream:
        # What a damaged file still gives would be lost with a read that meets the damage.
        read = getattr(stream, "read1", stream.read)
        position, rest = start, b"\n"
        while position < end:
            data = read(min(BLOCK, end - position))
            if not data:
                break
            begin = position - len(rest) + 1
            position += len(data)
            cut = data.rfind(b"\n") + 1
            if not cut:
                rest = b"\n" + (rest[1:] + data)[-LONGEST_RECORD:]
                continue
            text, rest = rest + data[:cut], b"\n" + data[cut:]
            yield begin, text
            _note_read(file, text, position - len(rest) + 1)
        if len(rest) > 1:
            yield position - len(rest) + 1, rest + b"\n"
            _note_read(file, rest, position)


def _note_read(file: "LogFile", text: bytes, read_to: int) -> None:
    """Note how far a file was read, by the last text: behind it the next run goes on, if more cannot be read now."""
    file.read_to = read_to
    if not file.compressed:
        file.before = (file.before + text[1:])[-FINGERPRINT:]


class Records(NamedTuple):
    """Lines about connections as columns, in the order of the log.

    A record with plain names says what the groups of `plain_record` do; its instant is 0 if its stamp is no time.
    Any other line stands in `odd`, with what the strict grammar says of it.
    """

    instants: list[int]
    names: list[bytes]
    ids: list[int]
    login: list[Optional[bytes]]
    code: list[Optional[bytes]]
    ends: list[Optional[bytes]]
    odd: list[Optional[tuple[bytes, Optional[Line]]]]

    def between(self, start: int, end: Optional[int]) -> "Records":
        """Return a stretch of them."""
        return Records(*(column[start:end] for column in self))  # type: ignore[arg-type]

    @staticmethod
    def empty(column: Sequence[Any]) -> list[int]:
        """Return the places where a column has nothing."""
        return [*itertools.compress(range(len(column)), map(operator.not_, column))] if None in column else []

    def last_borne(self, count: int) -> list[int]:
        """Return the last ids that are borne, in the order of the log."""
        columns = zip(reversed(self.ids), reversed(self.login), reversed(self.code))
        last = itertools.islice((number for number, login, code in columns if login or code), count)
        return [*last][::-1]

    def insert(self, at: int, *values: Any) -> None:
        """Insert one of them."""
        for column, value in zip(self, values):
            column.insert(at, value)  # type: ignore[attr-defined]


class Cutter:
    """Cuts the lines about connections out of a log, and those records of its server that have plain names at once."""

    def __init__(self, clock: Clock, ours: frozenset[bytes], ident: bytes) -> None:
        self.clock, self.ours, self.ident = clock, ours, ident
        self.server = b""
        self.head_ident = b""  # syslog's identifier in the records that the pattern matches
        self._pattern: Optional[re.Pattern[bytes]] = None
        self._plain: set[bytes] = set()
        self._cleaned: dict[bytes, bytes] = {}  # names with a port, as logged
        self._ports = False

    def cut(self, text: bytes, server: bytes) -> Records:
        """Return the lines about connections in a text; `server` is the one whose records are many."""
        self._look_at_head(text, server)
        records = self._cut(self._pattern.split(text)) if self._pattern else None
        if records is None:  # more must be known of a name or a stamp than the pattern says
            records = Records([], [], [], [], [], [], [])
            self._insert_odd(records, 0, text, simple=False)
        return records

    def _cut(self, parts: list[Any]) -> Optional[Records]:
        """Return the records and the lines between them; None where these must be read by the strict grammar."""
        records = self._plain_records(parts)
        between = parts[::7]
        rest = b"".join(between)
        if records and _is_marked(rest):
            for at in range(len(between) - 1, -1, -1):
                if len(between[at]) > 1:
                    self._insert_odd(records, at, between[at], simple=True)
        times = records.instants if records else []
        times = [*filter(None, times)] if 0 in times else times
        return None if times and self.clock.repeats(min(times), max(times)) else records

    def is_ours(self, line: Line) -> bool:
        """Return whether a record that came by syslog is our server's: there others may write."""
        return (not self.ours or line.server in self.ours) and self.ident in (b"", line.ident)

    def _look_at_head(self, text: bytes, server: bytes) -> None:
        """Find how the records of the server begin: as the first one does, or the last one found."""
        if server != self.server:
            self.server, self._pattern = server, None
        at = max(text.find(CONNECT_MARK), 0)
        first = text[text.rfind(b"\n", 0, at) + 1 : text.find(b"\n", at)]
        line = read_line(first, self.clock)
        if not line or not line.stamp or line.server != server or not first.startswith(line.stamp):
            return
        if line.ident and not self.is_ours(line):
            return
        glue = b"".join(first[len(line.stamp) :].partition(server + b",")[:2])
        self.head_ident = line.ident
        self._pattern = plain_record(len(line.stamp), glue, ports=self._ports)

    def _plain_records(self, parts: list[Any]) -> Optional[Records]:
        stamps, names, numbers, login, code, ends = (parts[group::7] for group in range(1, 7))
        if not self._are_plain(names, code):
            return None
        if self._cleaned:
            names = [self._cleaned.get(name, name) for name in names]
        try:
            instants = [*map(self.clock.__getitem__, stamps)]
        except KeyError:  # a stamp is no time
            instants = [self.clock.find(stamp) or 0 for stamp in stamps]
            if any(itertools.compress(login, map(operator.not_, instants))):
                return None
        return Records(instants, names, [*map(int, numbers)], login, code, ends, [None] * len(names))

    def _are_plain(self, names: list[bytes], codes: list[Optional[bytes]]) -> bool:
        """Look at names not met before; False if one holds what no plain name holds.

        Of refused ones, which may be many, only those matter that prove use; but a line end makes two lines of any.
        """
        fresh = set(names).difference(self._plain)
        if b"\n" in b"".join(fresh):
            return False
        if fresh and any(codes) and PASSWORD_WAS_RIGHT.keys().isdisjoint(codes):
            fresh.intersection_update(itertools.compress(names, map(operator.not_, codes)))
        for name in fresh:
            host = name.rpartition(b",")[2]
            if b"\0" in name or b" " in host:
                return False
            if without_port(host) != host:
                self._cleaned[name] = name[: len(name) - len(host)] + without_port(host)
                self._ports = True  # 12.x: every login has its own, which the pattern takes off from now on
        if len(self._plain) > MANY_NAMES:
            self._plain.clear()
            self._cleaned = {name: clean for name, clean in self._cleaned.items() if name in fresh}
        self._plain |= fresh
        return True

    def _insert_odd(self, records: Records, at: int, text: bytes, *, simple: bool) -> None:
        """Insert the lines that stand before a record; where that is `simple`, those that tell as much as such."""
        for raw in reversed(text.split(b"\n")):
            if not _is_marked(raw) or (is_plain_query(raw) and not _tells_setting(raw)):
                continue
            line = read_line(raw, self.clock)
            if simple and line and line.stamp and (line.server, line.ident) == (self.server, self.head_ident):
                instant, login = self.clock[line.stamp], line.operation if line.is_login else None
                code = b"%d" % line.code if line.operation == b"FAILED_CONNECT" else None
                if login or code or line.operation == b"DISCONNECT":
                    records.insert(at, instant, line.name, line.number, login, code, None, None)
                    continue
            records.insert(at, 0, b"", 0, None, None, None, (raw, line))


# ---------------------------------------------------------------------------------------------------------------------
# Ledger: each connection id stands exactly once
# ---------------------------------------------------------------------------------------------------------------------
#
# The ids of a running server go up one by one.  Records stand nearly in the order of their ids: a login that takes
# long is written late.  So the ledger keeps the highest id (`counter`) and the ids below it that no record has borne
# yet (`missing`).  A record fits if its id is missing, or a little ahead of the counter.  One that does not fit is a
# forgery, or the server was started again, or a stretch of log is lost: its id begins a *candidate*.  If the next
# records go on from there, the candidate is confirmed; if one fits the run before it, that run is alive, and the
# candidate is refuted.
#
# Why a forger without an account loses.  He writes into the log by way of a user name, and the server ends each copy
# of it, at the begin and at the end of his connection, with the id of that.  It fits the run that is alive, or this has
# borne it just now, if he forged it before: so a candidate of forged lines is refuted before it is confirmed, for a
# name of 128 characters holds three records at most (and more pieces, which begin and confirm nothing).  A forged id
# that fits is another connection's, which has come already or will: two records of one id make each other suspect.
# A login is settled only when the counter is far past it.

# A record may be so many ids ahead of those before it, and is settled when the counter is as far past it.
REACH = 1000
# An id that is missing may come until the counter is so far past it: a login takes seconds where names resolve slowly.
KEPT = 10_000
# It is settled only when this many lines in a row have borne ids that are REACH past it: a forger can claim ids to
# come, but the server writes his own behind each of his names, which hold a few claims.
LAST = 100
# So few lines of a chunk are added one by one.
FEW_LINES = 16
# Lines that confirm a candidate.
CONFIRM = 5
# A step of more ids is not believed at the end of the log until CONFIRM lines have followed it.
LEAP = 100
# Nor is an id so far below the first one.
FEW = 20
# Threads of the server take the ids below this before the first client comes (10.5, 10.11 and 11.8).
FIRST_CLIENT = 3
# The first connection of a server has a lower id than this, even if its threads have taken some: the server may have
# been started again.
LOWEST = 50
# Seconds that a login may take (connect_timeout is 10 by default); none is settled sooner.
SLOW = 15
# So many records of each of two servers, and changes from one to the other, are no accident and no forgery.
SIDE_BY_SIDE = 20
# Sessions that are remembered as open, at most; no server has as many.
MANY_SESSIONS = 100_000

TWICE = "its connection id stands in two records"
FAR = "its connection id is far from the counter"
STRANGER = "it names another server host"
TORN = "it is glued to a torn record, or breaks off"
SO_FAR = ", so far"  # further records may still change it
DAMAGED = "its log is damaged behind it"
UNSEEN = "it is proxied, with no login of its connection beside it"


class Facts:
    """What is certain: the first and last instant of each kind of evidence and name; and what is suspect."""

    def __init__(self) -> None:
        self.first: dict[bytes, int] = {}  # logins
        self.last: dict[bytes, int] = {}
        self.others: dict[tuple[str, bytes], tuple[int, int]] = {}  # other kinds
        self.suspects: dict[bytes, tuple[int, str, int, str]] = {}  # instant, path, offset, reason
        self._latest = 0

    def add_logins(self, names: list[bytes], instants: list[int]) -> None:
        """Add logins in the order of time: the last of each name is the one that stays in a dict."""
        if not names:
            return
        last = dict(zip(names, instants))
        in_order = instants[0] >= self._latest
        fresh = set(last).difference(self.first) if in_order else set(last)
        if fresh:
            earliest = dict(zip(reversed(names), reversed(instants)))
            for name in fresh:
                self.first[name] = min(earliest[name], self.first.get(name, earliest[name]))
        if not in_order:  # a clock was set back
            last = {name: max(instant, self.last.get(name, 0)) for name, instant in last.items()}
        self.last.update(last)
        self._latest = max(self._latest, instants[-1])

    def add(self, kind: str, name: bytes, instant: int) -> None:
        """Add one piece of evidence."""
        if kind == "login":
            self.first[name] = min(instant, self.first.get(name, instant))
            self.last[name] = max(instant, self.last.get(name, instant))
        else:
            first, last = self.others.get((kind, name), (instant, instant))
            self.others[kind, name] = min(first, instant), max(last, instant)

    def doubt(self, name: bytes, instant: int, path: str, offset: int, reason: str) -> None:
        """Keep the latest of the records of a name that are not believed."""
        self.suspects[name] = max((instant, path, offset, reason), self.suspects.get(name, (0, "", 0, "")))

    def add_row(self, row: Row) -> None:
        """Add a row that is settled, or its suspicion; a mere line is evidence of nothing."""
        if row.kind == "line" or not row.chunk.counts:
            return
        if row.reason:
            if row.instant > self.suspects.get(row.name, (0,))[0]:  # to find its place takes time
                self.doubt(row.name, row.instant, *row.place, row.reason)
        else:
            self.add(row.kind, row.name, row.instant)


class Session(NamedTuple):
    """An open session: who logged in and when; `changed`: it has changed its user, and the log does not say to whom.

    `since` is 0, and the user empty, if its login was not read.
    """

    name: bytes
    since: int
    changed: bool = False

    def use(self, name: bytes, instant: int) -> Optional[tuple[str, bytes]]:
        """Return the kind and the name of the evidence that its end is; None if its login tells as much.

        Who it has become is told by the name at its end.
        """
        if self.changed:
            kind = "session end" if self.since else "earlier session"
            return kind, name.rpartition(b",")[0] + b"," + self.name.rpartition(b",")[2]
        return ("session end", self.name) if instant - self.since > HOUR else None


class Run:
    """One run of the server, as its ids tell it; `rows` and `sessions` are those of a candidate."""

    def __init__(self, first: int, server: bytes) -> None:
        self.first = self.counter = first
        self.missing: set[int] = set()  # ids between first and counter that no line has borne yet
        self.early: set[int] = set()  # ids below `first` that lines have borne: of the others there nothing is known
        self.refused: set[int] = set()  # ids of refused connections, and of pieces of names
        self.server = server
        self.lines = 0  # that have borne its ids
        self.leap, self.since_leap = 0, CONFIRM  # the id after a long step, and the lines that bear it out
        self.servers: dict[bytes, int] = {}  # server hosts of the first records, and how many name them
        self.rows: list[Row] = []
        self.sessions: dict[int, Session] = {}

    def fits(self, number: int, reach: int) -> bool:
        """Return whether this id may come next."""
        if number > self.counter:
            return number - self.counter + len(self.missing) <= reach
        if number in self.missing:
            return number >= self.counter - KEPT
        # Logins that began before the first one was written come soon after it, or not at all; they are many only
        # where the server has just started.
        lowest = max(self.first - (LEAP if self.first <= LEAP else FEW), FIRST_CLIENT)
        return lowest <= number < self.first and self.counter <= self.first + LEAP and number not in self.early

    def bears(self, number: int) -> bool:
        """Return whether a line has borne this id, not so long ago that it is settled."""
        if number < self.first:
            return number in self.early
        return self.counter - REACH <= number <= self.counter and number not in self.missing

    def had(self, number: int) -> bool:
        """Return whether a line has borne this id, however long ago, or may have before the first one that was read."""
        return max(LOWEST, self.counter - KEPT) < number <= self.counter and number not in self.missing

    def join(self, number: int) -> None:
        """Count an id that fits."""
        if number > self.counter:
            if number - self.counter > LEAP:
                self.leap = number if self.since_leap >= CONFIRM else min(self.leap, number)
                self.since_leap = 0
            self.missing.update(range(self.counter + 1, number))
            self.counter = number
        elif number in self.missing:
            self.missing.discard(number)
        else:
            self.early.add(number)
        self.bear_out(number)

    def bear_out(self, number: int) -> None:
        """Count a line as a sign that the last long step of the ids was true, or was not."""
        self.since_leap = self.since_leap + 1 if number >= self.leap else 0

    def join_all(self, numbers: set[int]) -> bool:
        """Count many ids at once; False, with nothing changed, where they must be looked at one by one.

        These are ids out of reach, those behind the counter that are not missing, or missing for too long, and a long
        step of the counter, for which the order of the lines counts.
        """
        high = max(numbers)
        if high - self.counter + len(self.missing) > REACH or self.since_leap < CONFIRM:
            return False
        behind = {number for number in numbers if number <= self.counter} if min(numbers) <= self.counter else set()
        if not behind <= self.missing or (behind and min(behind) < max(high, self.counter) - KEPT):
            return False
        if high - self.counter > len(numbers) - len(behind):
            skipped = set(range(self.counter + 1, high)) - numbers
            if len(skipped) > LEAP:
                return False
            self.missing |= skipped
        self.missing -= behind
        self.counter = max(high, self.counter)
        self.lines += len(numbers)
        return True

    def end_refused(self, number: int) -> bool:
        """Return whether a line is the end of a refused connection, and so shows that the run is alive.

        A forger may write such ends before the true one, which must still count.
        """
        if number not in self.refused or number < self.counter - KEPT:
            return False
        if number <= LOWEST:  # the next run may begin with this id
            self.refused.discard(number)
        self.bear_out(number)
        return True

    def close(self) -> set[int]:
        """Forget the missing ids that can no longer come, and return them: they are holes."""
        if len(self.refused) > 2 * KEPT:
            self.refused = {number for number in self.refused if number >= self.counter - KEPT}
        closed = {number for number in self.missing if number < self.counter - KEPT}
        self.missing -= closed
        return closed


class Ids:
    """The connection ids of one log, and the rows that they bear; what stands goes to `facts`.

    `ours`: the server hosts that are ours, empty if there is but one.  `beats`: the ids of the program's own sessions,
    in order, `own` the last of them; `lost` counts, for the ids up to each of them and behind the last, those that no
    record will bear.  The first of the `runs` is the one that is alive, the others are candidates.
    """

    def __init__(self, ours: frozenset[bytes], own: int) -> None:
        self.ours, self.own, self.own_name = ours, own, b""
        self.facts = Facts()
        self.runs: list[Run] = []
        self.pending: deque[Chunk] = deque()  # those that are not settled
        self.open: dict[int, Session] = {}  # sessions: they show use until they end
        self.unknown_ends: list[tuple[int, bytes, int]] = []  # of sessions whose login was not read
        self.beats: list[int] = []
        self.lost: Counter[int] = Counter()
        self.restarts: list[tuple[int, int]] = []  # last record of a run of the server, first one of the next
        self.latest = 0  # instant of the last record read
        self.is_plain = False  # its records have no head of syslog's: what has one is a piece of a name
        self._alive = 0  # instant of the last line of the first run
        self._last_ids: deque[int] = deque(maxlen=LAST)  # that lines of the first run have borne
        self._ended: dict[int, Row] = {}  # ends of sessions that are not settled

    def _enter(self, row: Row) -> None:
        """Count the id of a login or a refusal, and keep the row with the run that it joins."""
        number, depth = row.number, self._find_run(row.number)
        # The program's own login is sure, whatever the ids say: one below those of the log is of another run.
        sure = number == self.own and row.kind == "login" and row.name == self.own_name
        if sure and self.runs and number < self.runs[0].first:
            depth = None
        had = self._note_id(number, depth)
        if depth is None:
            twin = (had and row.kind != "login") or (number > LOWEST and any(run.bears(number) for run in self.runs))
            if twin and not sure:
                self._enter_twin(row)
                return
            depth = len(self.runs)
            self.runs.append(Run(number, row.server))
        else:
            self.runs[depth].join(number)
            self._refute(depth)
        self._join(row, depth)
        self.runs[depth].lines += CONFIRM if sure else 1
        if depth:
            self._confirm()

    def _enter_twin(self, row: Row) -> None:
        """Doubt a row whose id has been borne just now, and the other that bears it."""
        row.reason = TWICE
        self._doubt_twin(row.number, len(self.runs))
        self._keep(row)
        self._see_alive(row.number, refused=row.kind != "login")

    def _find_run(self, number: int) -> Optional[int]:
        """Return the place of the oldest run that an id fits; a candidate goes on in short steps."""
        for depth, run in enumerate(self.runs):
            if run.fits(number, LEAP if depth else REACH):
                return depth
        return None

    def _note_id(self, number: int, depth: Optional[int]) -> bool:
        """Note an id that joins the first run, or that this has had; return whether it has had it."""
        had = bool(self.runs) and self.runs[0].had(number)
        if depth == 0 or had:
            self._last_ids.append(number)
        return had

    def _join(self, row: Row, depth: int) -> None:
        """Keep a row with the run that its id has joined."""
        run = self.runs[depth]
        if row.kind != "login":
            run.refused.add(row.number)
        elif row.chunk.counts:
            (run.sessions if depth else self.open)[row.number] = Session(row.name, row.instant)
        if run.counter < run.first + REACH:
            run.servers[row.server] = run.servers.get(row.server, 0) + 1
            if row.server != run.server:
                run.server = max(run.servers, key=run.servers.__getitem__)
        if depth:
            run.rows.append(row)
            return
        row.chunk.high = max(row.chunk.high, row.number)
        self._alive = row.instant
        self._keep(row)

    def _enter_piece(self, chunk: Chunk, number: int) -> None:
        """Count the id of a piece; it begins and confirms nothing, as a name can hold many."""
        depth = self._find_run(number)
        self._note_id(number, depth)
        if depth is None:
            self._doubt_twin(number, len(self.runs))
            self._see_alive(number, refused=True, piece=True)
            return
        self.runs[depth].join(number)
        self.runs[depth].refused.add(number)
        self._refute(depth)
        if not depth:
            chunk.numbers.add(number)
            chunk.high = max(chunk.high, number)

    def _see_end(self, number: int, *, piece: bool) -> bool:
        """Count the end of a connection; return whether it was a refused one, which shows that its run is alive."""
        refused = False
        for depth in reversed(range(len(self.runs))):
            if self.runs[depth].end_refused(number):
                refused = True
                self._refute(depth)
                break
        if piece:
            self._see_alive(number, refused=False, piece=True)
        elif not refused:
            for run in reversed(self.runs[1:]):
                if run.first <= number and run.bears(number):
                    run.lines += 1
                    self._confirm()
                    break
            if self.runs and self.runs[0].bears(number):
                self.runs[0].bear_out(number)
        return refused

    def _see_alive(self, number: int, *, refused: bool, piece: bool = False) -> None:
        """Refute the candidates if the first run has borne an id just now: it may be of a line that claimed it.

        A refusal or a piece shows it of any id that the run has had: a forger can push the counter far ahead of his.
        """
        run = self.runs[0] if self.runs else None
        if run and (run.had(number) if piece or refused else number > LOWEST and run.bears(number)):
            if refused:
                run.refused.add(number)
            self._refute(0)

    def _refute(self, depth: int) -> None:
        """Doubt all candidates newer than the run at `depth`, which is alive."""
        if len(self.runs) == depth + 1:
            return
        for run in self.runs[depth + 1 :]:
            for row in run.rows:
                row.reason = TWICE if self._doubt_twin(row.number, depth) else FAR
                self.facts.add_row(row)
        del self.runs[depth + 1 :]

    def _doubt_twin(self, number: int, depth: int) -> bool:
        """Doubt what else bears this id and is not settled; return whether there is anything."""
        found = False
        for chunk in self.pending:
            if number in chunk.numbers:
                chunk.doubts[number], found = TWICE, True
                self.open.pop(number, None)  # nobody knows whose it is
        if found and number in self._ended:
            self._ended.pop(number).reason = TWICE
        for run in self.runs[1 : depth + 1]:
            for row in run.rows:
                if row.number == number:
                    row.reason, found = TWICE, True
        return found

    def _confirm(self) -> None:
        """Let the oldest candidate take the place of the first run, if enough lines say that this has ended."""
        while sum(run.lines for run in self.runs[1:]) >= CONFIRM:
            ended, heir = self.runs[:2]
            for chunk in self.pending:
                self._doubt_before_end(chunk, heir.first)
                self._deliver(chunk)
            self._lose(ended.missing)
            if heir.first > ended.counter:
                self.lost[bisect.bisect_left(self.beats, heir.first)] += heir.first - ended.counter - 1
            else:
                began = min(row.instant for run in self.runs[1:] for row in run.rows)
                self.restarts.append((self._alive, began))
                self.open = {number: session for number, session in self.open.items() if session.since >= began}
            self._keep_rows(heir.rows)
            self.open.update(heir.sessions)
            self._last_ids.clear()
            self._last_ids.extend(row.number for row in heir.rows)
            self._alive = max(row.instant for row in heir.rows)
            heir.rows, heir.sessions = [], {}
            del self.runs[0]

    def _doubt_before_end(self, chunk: Chunk, begin: int) -> None:
        """Doubt what a chunk of the first run holds that nothing has borne out before another run began with an id.

        These are ids behind a long step, all of a run of a few lines, and those that the other run is about to bear, if
        it begins in the middle: they may have been claimed.
        """
        run = self.runs[0]
        low = run.leap if run.since_leap < CONFIRM else sys.maxsize
        low = 0 if run.first > LOWEST and run.lines < CONFIRM else low
        claimed = range(begin, begin + REACH) if LOWEST < begin <= run.counter else ()
        chunk.doubts.update({number: FAR for number in chunk.ids if number >= low or number in claimed})
        for row in chunk.rows:
            row.reason = row.reason or (FAR if row.number >= low or row.number in claimed else "")

    def _keep(self, row: Row) -> None:
        """Keep a row of the first run until it is settled."""
        row.chunk.numbers.add(row.number)
        if row.kind != "line":
            row.chunk.rows.append(row)

    def _keep_rows(self, rows: Sequence[Row]) -> None:
        """Keep rows of the first run whose own chunks may have been settled."""
        chunk = Chunk(rows[-1].chunk.path, b"\n", [], counts=rows[-1].chunk.counts)
        chunk.rows = [row for row in rows if row.kind != "line"]
        chunk.numbers = {row.number for row in rows}
        chunk.high, chunk.until = max(chunk.numbers), max(row.instant for row in rows)
        self.pending.append(chunk)

    def _settle(self) -> None:
        """Settle the chunks that the counter is far past."""
        if not self.runs:
            return
        self._lose(self.runs[0].close())
        if len(self.open) > MANY_SESSIONS:  # forget the oldest
            self.open = {number: self.open[number] for number in sorted(self.open)[-MANY_SESSIONS // 2 :]}
        # Only ids that were borne count: a forger can push the counter, but not bear out what it passed.
        counter, low = self.runs[0].counter - len(self.runs[0].missing), min(self._last_ids, default=0)
        while self.pending and self.pending[0].high + REACH < counter:
            # No stamp of the future is believed for long, nor ids that only a forger may have borne.
            passed = self.pending[0].high + REACH < low and self.pending[0].until + SLOW < self.latest
            if not passed and self.pending[0].high + KEPT >= counter:
                break
            self._deliver(self.pending.popleft())

    def _lose(self, numbers: Iterable[int]) -> None:
        """Count ids that no readable record will bear."""
        for number in numbers:
            self.lost[bisect.bisect_left(self.beats, number)] += 1

    def _deliver(self, chunk: Chunk) -> None:
        """Hand on what a chunk holds: it is settled."""
        if not chunk.counts:
            names, instants = [], []
        elif chunk.doubts.keys().isdisjoint(chunk.ids):
            names, instants = chunk.names, chunk.instants
        else:
            sure = [number not in chunk.doubts for number in chunk.ids]
            names, instants = [*itertools.compress(chunk.names, sure)], [*itertools.compress(chunk.instants, sure)]
            for row in chunk.logins():
                if row.reason:
                    self.facts.add_row(row)
        self.facts.add_logins(names, instants)
        for row in self._rows_of(chunk):
            self.facts.add_row(row)
            self._ended.pop(row.number, None)
        chunk.names, chunk.instants, chunk.ids, chunk.rows, chunk.numbers = [], [], [], [], set()
        chunk.doubts, chunk.high = {}, 0

    def _rows_of(self, chunk: Chunk) -> Iterator[Row]:
        server = self.runs[0].server if self.runs else b""
        for row in chunk.rows:
            row.reason = row.reason or chunk.doubts.get(row.number, "")
            if row.server not in (server, *self.ours):
                row.reason = row.reason or STRANGER
            yield row

    def finish(self) -> None:
        """Settle all that is left: nothing follows."""
        for chunk in self.pending:
            self._deliver(chunk)
        self.pending.clear()
        for run in self.runs[1:]:
            for row in run.rows:
                row.reason = row.reason or FAR
                self.facts.add_row(row)

    def doubt_last(self, path: str) -> None:
        """Doubt the last logins before a file's damage: nobody knows what followed, and one name can hold three."""
        for chunk in [chunk for chunk in self.pending if chunk.path == path][-1:]:
            chunk.doubts.update(dict.fromkeys(chunk.ids[-3:], DAMAGED))
            for row in chunk.rows[-3:]:
                row.reason = row.reason or DAMAGED

    def covers(self, low: int, high: int) -> bool:
        """Return whether these ids are of the present run of the server, as far as it was read."""
        return bool(self.runs) and self.runs[0].first <= low < high <= self.runs[0].counter

    def has_unsettled(self) -> bool:
        """Return whether anything that counts is not settled."""
        chunks = (row.chunk for run in self.runs[1:] for row in run.rows)
        return any(chunk.counts for chunk in itertools.chain(self.pending, chunks))

    def unsettled(self) -> Iterator[tuple[int, Row]]:
        """Yield the rows that are not settled, behind the place of their run, with the reason for doubt so far."""
        run = self.runs[0] if self.runs else None
        undecided = {row.number for candidate in self.runs[1:] for row in candidate.rows}
        for chunk in self.pending:
            for row in itertools.chain(chunk.logins(), self._rows_of(chunk)):
                if not row.reason and row.number in undecided:
                    row.reason = TWICE + SO_FAR
                if (
                    run
                    and not row.reason
                    and run.since_leap < CONFIRM
                    and row.number >= run.leap
                    and row.number > self.own
                ):
                    row.reason = FAR + SO_FAR
                yield 0, row
        for place, candidate in enumerate(self.runs[1:], 1):
            for row in candidate.rows:
                twice = any(row.number in chunk.numbers for chunk in self.pending)
                row.reason = row.reason or (f"{TWICE}{SO_FAR}" if twice else f"{FAR}{SO_FAR}")
                yield place, row

    def state(self) -> dict[str, Any]:
        """Return how far the ids are accounted for, fit for JSON; the rows are `unsettled`."""
        runs = [
            {
                "first": run.first,
                "counter": run.counter,
                "missing": sorted(run.missing),
                "early": sorted(run.early)[-REACH:],
                "refused": sorted(run.refused)[-KEPT:],
                "server": run.server.decode("latin-1"),
                "leap": [run.leap, run.since_leap],
                "lines": run.lines,
                "servers": {server.decode("latin-1"): count for server, count in run.servers.items()},
            }
            for run in self.runs
        ]
        lost = sorted(self.lost.items())
        rest = {"latest": self.latest, "alive": self._alive, "lost": lost, "plain": self.is_plain}
        rest["last_ids"] = list(self._last_ids)
        return {"runs": runs, **rest}

    def restore(self, state: Mapping[str, Any], rows: Iterable[tuple[int, Row]], sessions: dict[int, Session]) -> None:
        """Go on from `state`, the rows that were not settled, and the open sessions."""
        for said in state["runs"]:
            run = Run(said["first"], said["server"].encode("latin-1"))
            run.counter, (run.leap, run.since_leap) = said["counter"], said["leap"]
            run.lines = said["lines"]
            run.servers = {server.encode("latin-1"): count for server, count in said["servers"].items()}
            run.missing, run.early, run.refused = (set(said[key]) for key in ("missing", "early", "refused"))
            self.runs.append(run)
        self.latest, self.open = state["latest"], sessions
        self._alive, self.lost = state["alive"], Counter(dict(state["lost"]))
        self.is_plain = state["plain"]
        self._last_ids.extend(state["last_ids"])
        of_first = []
        for place, row in rows:
            if row.reason.endswith(SO_FAR):
                row.reason = ""
            if not place:
                of_first.append(row)
                if row.kind == "session end":
                    self._ended[row.number] = row
                continue
            self.runs[place].rows.append(row)
            if row.kind == "login":
                self.runs[place].sessions[row.number] = Session(row.name, row.instant)
        if of_first:
            self._keep_rows(of_first)


class Ledger(Ids):
    """The logins of one log: its lines are read into columns and rows, and held against its connection ids.

    `ident` is the syslog identifier that is ours; `own_row` the record of the program's own last session.
    """

    def __init__(self, clock: Clock, ours: frozenset[bytes], ident: bytes = b"", own: int = 0) -> None:
        super().__init__(ours, own)
        self.clock, self.ident = clock, ident
        self.cutter = Cutter(clock, ours, ident)
        self.own_row: Optional[tuple[bytes, int]] = None
        self.first: Optional[int] = None  # instant of the first record
        self.sources: Counter[tuple[bytes, bytes]] = Counter()  # server host and syslog identifier
        self.switches = 0
        self.last_source = (b"", b"")
        self.unread: Optional[tuple[str, int, bytes]] = None  # path, offset and text of the first line not understood
        self.unread_count = 0
        self.unread_since: Optional[int] = None  # instant of the last record before lines not understood
        self.blind: list[tuple[int, int]] = []  # times of which the lines were not understood
        self.settings_changed = False
        self.answers = False  # whether the user statistics may still tell who a change of user was to
        self.sink: Optional[Callable[[Facts], None]] = None  # is handed the facts when they are many

    def add(self, chunk: Chunk) -> None:
        """Add the lines of a chunk, which follow those that were added in the log."""
        chunk.server = self.runs[0].server if self.runs else b""
        self.pending.append(chunk)
        self._add_records(chunk, self.cutter.cut(chunk.text, chunk.server))
        chunk.sort()
        chunk.until = self.latest
        self._settle()
        if self.sink and len(self.facts.last) + len(self.facts.others) + len(self.facts.suspects) > MANY_NAMES:
            self.sink(self.facts)
            self.facts = Facts()

    @property
    def marks(self) -> Sequence[bytes]:
        """What marks the lines that matter; settings do where there is a heartbeat that they may make doubtful."""
        return (CONNECT_MARK, CHANGE_MARK, *(SETTING_MARKS if self.beats else ()))

    def several_sources(self) -> str:
        """Return why the records are those of several servers, side by side, in words; '' if they are not."""
        # In a file of the plugin's own a forger may name any host; behind the head of another program he cannot.
        sources = {source: count for source, count in self.sources.items() if source[1]}
        total = sum(sources.values())
        others = [source for source, count in sources.items() if count >= max(SIDE_BY_SIDE, total // 10)]
        if self.is_plain or self.ours or self.ident or len(others) < 2 or self.switches < SIDE_BY_SIDE:
            return ""
        names = ", ".join(
            sorted(visible(server) + (f" ({visible(ident)})" if ident else "") for server, ident in others)
        )
        return f"records of several servers stand side by side: {names}: name ours by ServerHost or SyslogIdentifier"

    def _add_records(self, chunk: Chunk, records: Records) -> None:
        """Add lines of a chunk: at once, if their ids fit; else half by half, and few of them one by one."""
        if len(records.ids) <= FEW_LINES:
            for record in zip(*records):
                self._add_one(chunk, record)
        elif not self._add_at_once(chunk, records):
            middle = len(records.ids) // 2
            self._add_records(chunk, records.between(0, middle))
            self._add_records(chunk, records.between(middle, None))

    # Many records at once.

    def _add_at_once(self, chunk: Chunk, records: Records) -> bool:
        """Add records at once; False, with nothing changed, where each must be looked at.

        That is where an id does not fit or stands twice, where another run of the server may have begun, and soon
        after its start, as then the ends of refused connections count, see `Run.end_refused`.
        """
        run = self.runs[0] if len(self.runs) == 1 else None
        if not run or run.counter <= LOWEST + REACH or 0 in records.instants or self.cutter.server != run.server:
            return False
        others = records.empty(records.login)
        refused = [at for at in others if records.code[at]]
        names, instants, ids = records.names, records.instants, records.ids
        if others:
            names = [*itertools.compress(names, records.login)]
            instants = [*itertools.compress(instants, records.login)]
            ids = [*itertools.compress(ids, records.login)]
        borne = ids + [records.ids[at] for at in refused]
        numbers = set(borne)
        if len(numbers) < len(borne) or not chunk.numbers.isdisjoint(numbers) or (borne and not run.join_all(numbers)):
            return False
        run.refused.update(borne[len(ids) :])
        self._last_ids.extend(records.last_borne(LAST))
        self._note_source((run.server, self.cutter.head_ident), len(borne))
        self.is_plain |= not self.cutter.head_ident
        self._pass(records.instants[0])
        self._pass(records.instants[-1])
        self._alive = max(instants[-1:] + [records.instants[at] for at in refused[-1:]], default=self._alive)
        if self.own in ids:
            self.own_row = names[ids.index(self.own)], instants[ids.index(self.own)]
        chunk.add(names, instants, ids, numbers)
        if chunk.counts:
            self._add_refusals(chunk, records, refused)
            self._follow_sessions(chunk, records, set(others).difference(refused))
        return True

    def _add_refusals(self, chunk: Chunk, records: Records, places: Iterable[int]) -> None:
        """Add those that came only with the right password."""
        if PASSWORD_WAS_RIGHT.keys().isdisjoint(records.code):
            return
        for at in places:
            name, kind = records.names[at], kind_of(records.names[at], records.code[at])
            if kind != "line":
                chunk.rows.append(Row(kind, records.ids[at], records.instants[at], name, chunk.server, chunk))

    def _follow_sessions(self, chunk: Chunk, records: Records, ended: Iterable[int]) -> None:
        """Note which sessions are open, and until when those were in use that have ended.

        The end that is the next record is soon after the login, except where connections are rare.
        """
        instants, names, ids, logins, _, ends, _ = records
        for number in self.open.keys() & chunk.numbers:  # those of an earlier run of the server
            del self.open[number]
        for at in records.empty(ends):
            if logins[at]:
                self.open[ids[at]] = Session(names[at], instants[at])
        if self.latest - instants[0] > HOUR:
            for since, name, number, login, end in zip(instants, names, ids, logins, ends):
                until = self.clock.find(end) if login and end else None
                if until and until - since > HOUR:
                    self._keep_use(chunk, number, "session end", name, until)
        for at in sorted(ended):
            if ids[at] not in self.runs[0].refused:
                self._end_session(chunk, ids[at], names[at], instants[at])

    # One by one.

    def _add_one(self, chunk: Chunk, record: Sequence[Any]) -> None:
        """Add a line of a chunk, and the end of its session, if that is the next one."""
        instant, name, number, login, code, end, odd = record
        if odd:
            self._add_odd(chunk, *odd)
        elif not instant:
            self._add_piece(chunk, number, is_end=not code)
        else:
            self._pass(instant)
            if login or code:
                kind = "login" if login else kind_of(name, code)
                self._begin(Row(kind, number, instant, name, self.cutter.server, chunk), self.cutter.head_ident)
            else:
                self._add_end(chunk, number, name)
        if end:
            until = self.clock.find(end)
            if until is None:
                self._add_piece(chunk, number, is_end=True)
            else:
                self._pass(until)
                self._add_end(chunk, number, name)

    def _add_odd(self, chunk: Chunk, text: bytes, line: Optional[Line]) -> None:
        """Add a line that is not a record with plain names of the log's server."""
        if line is None:
            self._add_other(chunk, text)
        elif self._is_piece(line):
            if line.operation in (b"CONNECT", b"FAILED_CONNECT", b"DISCONNECT"):
                self._add_piece(chunk, line.number, is_end=line.operation == b"DISCONNECT")
            if LOGIN_MARK in text:
                self._add_damaged(chunk, text, text)
        elif line.stamp and (not line.ident or self.cutter.is_ours(line)):
            self._pass(self.clock.in_order(line.stamp, self.latest))
            self._add_record(chunk, line)

    def _is_piece(self, line: Line) -> bool:
        """Return whether a line is a piece of a name: it has no stamp, or looks like the record of another server.

        In a file of the plugin's own there is none; one that came by syslog may be.
        """
        if line.ident:
            return line.stamp is None or (self.is_plain and not self.cutter.is_ours(line))
        return line.stamp is None or (bool(self.ours) and line.server not in self.ours)

    def end_blindness(self, instant: int) -> None:
        """Note that lines are understood again; a name with a line end here and there is no blindness."""
        if self.unread_since is not None:
            if instant - self.unread_since > HOUR:
                self.blind.append((self.unread_since or instant, instant))
            self.unread_since = None

    def _pass(self, instant: int) -> None:
        """Note the instant of a record."""
        if self.unread_since is not None:
            self.end_blindness(instant)
        if self.first is None:
            self.first = instant
        self.latest = instant

    def _add_record(self, chunk: Chunk, line: Line) -> None:
        """Add a record that was read by the strict grammar."""
        number, operation = line.number, line.operation
        self.is_plain |= not line.ident
        if operation in (b"CONNECT", b"FAILED_CONNECT"):
            kind = "login" if line.is_login else kind_of(line.name, b"%d" % line.code)
            self._begin(Row(kind, number, self.latest, line.name, line.server, chunk), line.ident)
        elif operation == b"DISCONNECT":
            self._add_end(chunk, number, line.name)
        elif operation == b"PROXY_CONNECT":
            session = self.open.get(number)
            row = Row("proxied", number, self.latest, line.name, line.server, chunk)
            row.reason = "" if session and abs(self.latest - session.since) <= 2 and len(self.runs) == 1 else UNSEEN
            chunk.rows.append(row)
        elif not line.code and self.may_be_open(number):
            self._change_user(line, counts=chunk.counts)

    def _begin(self, row: Row, ident: bytes) -> None:
        """Add a login or a refusal."""
        self._note_source((row.server, ident), 1)
        self._enter(row)
        if row.number == self.own and row.kind == "login":
            self.own_row = row.name, row.instant

    def _note_source(self, source: tuple[bytes, bytes], records: int) -> None:
        """Note whose some records in a row are."""
        if records:
            self.sources[source] += records
            self.switches += source != self.last_source
            self.last_source = source

    def _add_piece(self, chunk: Chunk, number: int, *, is_end: bool) -> None:
        """Add the rest of a name with a line end, or a torn record: it tells its id."""
        if is_end:
            self._see_end(number, piece=True)
        else:
            self._enter_piece(chunk, number)
            self._lose([number])  # nobody knows whose it is

    def _add_other(self, chunk: Chunk, text: bytes) -> None:
        """Add a line with a mark that is no record of a connection: a query, or a damaged line."""
        if _QUERY_END.search(text, max(0, len(text) - 100)):
            self.settings_changed |= _tells_setting(text) and bool(_SET.search(text) and _SETTING.search(text))
            inner = _INNER_STAMP.search(text, 1)
            if inner and LOGIN_MARK in text[: inner.start()]:
                self._add_damaged(chunk, text, text[: inner.start()])
        elif LOGIN_MARK in text:
            self._add_damaged(chunk, text, text)

    def _add_damaged(self, chunk: Chunk, line: bytes, text: bytes) -> None:
        """Doubt what a damaged line, or the begin of one, may tell of logins; what tells of none is not understood."""
        if not chunk.counts:
            return
        torn = read_torn(text, self.clock)
        offset = chunk.offset(max(chunk.text.find(b"\n%b\n" % line), 0))
        for name, instant in torn.items():
            self.facts.doubt(name, instant, chunk.path, offset, TORN)
        if not torn:
            self.unread_count += 1
            self.unread_since = self.latest if self.unread_since is None else self.unread_since
            self.unread = self.unread or (chunk.path, offset, text[:60])

    def _change_user(self, line: Line, *, counts: bool) -> None:
        """Note that a session has become somebody else; the community's plugin does not say who."""
        session = self.open.get(line.number, Session(b"," + line.host, 0))
        self.open[line.number] = session._replace(changed=True)
        if counts and line.operation != b"CHANGEUSER":
            self.facts.add("changed user", line.name, self.latest)
        elif counts and not line.user:
            self.facts.add(
                "recent change" if self.answers else "change user", b"," + parted(session.name)[1], self.latest
            )

    def may_be_open(self, number: int) -> bool:
        """Return whether a session with this id may be open: it is known, or its login is not in what was read."""
        if number in self.open or not self.runs:
            return True
        run = self.runs[0]
        return number in run.missing or number < run.first or number < run.counter - KEPT

    def _add_end(self, chunk: Chunk, number: int, name: bytes) -> None:
        """Add the end of a session."""
        if not self._see_end(number, piece=False) and chunk.counts:
            self._end_session(chunk, number, name, self.latest)

    def _end_session(self, chunk: Chunk, number: int, name: bytes, instant: int) -> None:
        """End a session: it was in use until then."""
        for candidate in self.runs[1:]:
            if number in candidate.sessions and candidate.sessions[number].name == name:
                del candidate.sessions[number]
                return
        if number not in self.open:
            if self.may_be_open(number):
                self.unknown_ends.append((number, name, instant))
            return
        use = self.open.pop(number).use(name, instant)
        if use:
            self._keep_use(chunk, number, *use, instant)

    def _keep_use(self, chunk: Chunk, number: int, kind: str, name: bytes, instant: int) -> None:
        """Keep until when a session was in use: it is in doubt as soon as its login is, until this is settled."""
        if not any(number in other.numbers for other in (*self.pending, chunk)):
            self.facts.add(kind, name, instant)
            return
        row = self._ended[number] = Row(kind, number, instant, name, self.runs[0].server, chunk)
        chunk.rows.append(row)


# ---------------------------------------------------------------------------------------------------------------------
# Server: what it says about its accounts, and about what it audits
# ---------------------------------------------------------------------------------------------------------------------

# What is asked, by the name under which it is missed.  Each statement is one line, so that the client's "at line N"
# names it, and gives a tag and texts in HEX(), so that no name can look like anything else.  The zone is the log's; no
# setting of the server or the client's files may change what a statement gives.
_Rows = Mapping[str, Sequence[Sequence[bytes]]]  # of an answer of the server, by tag
# Settings that are kept, beside those of the audit plugin: variables, status variables, and what is told by others.
_VARIABLES = "version hostname datadir port server_id system_time_zone skip_name_resolve read_only userstat"
_STATUS = "uptime com_uninstall_plugin wsrep_incoming_addresses"
SETTINGS = frozenset(f"{_VARIABLES} {_STATUS} audit_plugin utc_offset".split())


def _settings_sql(table: str, names: str) -> str:
    wanted = ", ".join(f"'{name.upper()}'" for name in names.split())
    columns = "'setting', HEX(LOWER(VARIABLE_NAME)), HEX(VARIABLE_VALUE)"
    which = f"VARIABLE_NAME LIKE 'SERVER_AUDIT_%' OR VARIABLE_NAME IN ({wanted})"
    return f"SELECT {columns} FROM information_schema.{table} WHERE {which}"


_OWN_SESSION = (
    "SET SESSION time_zone='SYSTEM', SESSION sql_mode='', SESSION sql_select_limit=18446744073709551615,"
    " SESSION sql_big_selects=1, SESSION max_statement_time={timeout}"
)
_SERVER_SQL = {
    "session": _OWN_SESSION,
    "clock": "SELECT 'clock', HEX(CONCAT(TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), NOW()))), HEX(CURRENT_USER()),"
    " HEX(USER()), HEX(CONCAT(CONNECTION_ID())), HEX(CONCAT(UNIX_TIMESTAMP()))",
    "variables": _settings_sql("GLOBAL_VARIABLES", f"{_VARIABLES} gtid_slave_pos"),
    "status": _settings_sql("GLOBAL_STATUS", f"{_STATUS} slaves_running wsrep_cluster_size wsrep_cluster_state_uuid"),
    "plugin": "SELECT 'setting', HEX('audit_plugin'), HEX(PLUGIN_STATUS)"
    " FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'SERVER_AUDIT'",
    "origins": "SELECT 'origin', HEX(LOWER(VARIABLE_NAME)), HEX(GLOBAL_VALUE_ORIGIN)"
    " FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_NAME IN ('SERVER_AUDIT_LOGGING', 'SERVER_AUDIT_EVENTS',"
    " 'SERVER_AUDIT_FILE_PATH', 'SERVER_AUDIT_OUTPUT_TYPE')",
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
    "sessions": "SELECT 'session', HEX(USER), HEX(HOST), HEX(COMMAND) FROM information_schema.PROCESSLIST"
    " WHERE ID <> CONNECTION_ID() AND NOT (USER = 'system user' AND HOST = '')"
    " AND NOT (USER = 'event_scheduler' AND COMMAND = 'Daemon')"
    " AND NOT (USER = 'unauthenticated user' AND COMMAND = 'Connect')",
    # Only counters that no refused login moves; their names fold as MariaDB folds them, with letter case.
    "statistics": "SELECT 'statistic', HEX(LOWER(USER)), HEX(CONCAT_WS(' ', TOTAL_CONNECTIONS, BUSY_TIME, CPU_TIME,"
    " SELECT_COMMANDS, UPDATE_COMMANDS, OTHER_COMMANDS)) FROM information_schema.USER_STATISTICS",
}
# May fail: there is an inventory without them, and `missing` names them.
_OPTIONAL = ("accounts", "accounts without locks", "proxies", "all sessions", "statistics", "origins")
_COUNT_DEFINERS = "SELECT 'definer', HEX(definer), HEX(CONCAT(COUNT(*))) FROM {} GROUP BY 2"
# Global privileges count only if granted to the account itself; a role's do not show in USER_PRIVILEGES.
_DEFINER_SQL = {
    "session": _OWN_SESSION,
    "privileges": "SELECT 'privilege', HEX(PRIVILEGE_TYPE) FROM information_schema.USER_PRIVILEGES WHERE GRANTEE ="
    " CONCAT('''', LEFT(CURRENT_USER(), CHAR_LENGTH(CURRENT_USER())"
    " - 1 - CHAR_LENGTH(SUBSTRING_INDEX(CURRENT_USER(), '@', -1))),"
    " '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''')",
    "routines": _COUNT_DEFINERS.format("mysql.proc"),
    "events": _COUNT_DEFINERS.format("mysql.event"),
    "views": _COUNT_DEFINERS.format("information_schema.VIEWS"),
    "triggers": _COUNT_DEFINERS.format("information_schema.TRIGGERS"),
}
# Its rows cannot be tagged.
_SOURCES_SQL = {"session": _OWN_SESSION, "replication": "SHOW ALL SLAVES STATUS"}
# The privileges that the account for the inventory needs, and what each is for: the least that does.
_NEEDED = {
    "accounts": "GRANT SELECT (Host, User, Priv) ON mysql.global_priv",
    "accounts without locks": "GRANT SELECT ON mysql.user",
    "proxies": "GRANT SELECT ON mysql.proxies_priv",
    "all sessions": "GRANT PROCESS ON *.*",
    "routines": "GRANT SELECT ON mysql.proc",
    "events": "GRANT SELECT ON mysql.event",
    "views": "GRANT SHOW VIEW ON *.*",
    "triggers": "GRANT TRIGGER ON *.*",
    "replication": "GRANT SLAVE MONITOR ON *.*",
}
# No option of the client's files may change the form of its answer: tee and pager, html, xml, vertical or table
# output, verbosity.
_CLIENT_OPTIONS = """
--batch --force --no-auto-rehash --skip-reconnect --skip-auto-vertical-output --skip-vertical
--skip-table --skip-html --skip-xml --skip-tee --skip-pager --skip-comments --skip-show-warnings --delimiter=;
--default-character-set=utf8mb4
"""
_TAGGED = ("--raw", "--skip-column-names")
_WITH_HEAD = ("--skip-raw", "--column-names")
# What the client says besides, as `verbose` in its options file cannot be taken back; no row looks like this.
_CHATTER = rb"-*|Bye|Logging to file.*|Query OK.*|Empty set.*|[0-9]+ rows? in set.*|SET SESSION .*|SELECT '.*"
_REFUSED_LOGIN = (1044, 1045, 1130, 1227, 1251, 1275, 1698, 1820, 1862, 4151)
_NOT_UNDERSTOOD = "inventory: the client's answer was not understood"
# A processlist host is cut to this width (sql/sql_show.cc, LIST_PROCESS_HOST_LEN).
_SESSION_HOST_WIDTH = 64
_LONG_HOST = "a host with a long name"


class AccountRow(NamedTuple):
    """The key of an account: user name and host pattern, as the server stores them (UTF-8 bytes)."""

    user: bytes
    host: bytes


class Account(NamedTuple):
    """One row of mysql.global_priv; what could not be read is None.  Instants are epoch seconds (UTC)."""

    user: bytes
    host: bytes
    is_role: bool = False
    locked: Optional[bool] = None
    expired: Optional[bool] = None
    plugin: str = ""
    known_since: Optional[int] = None
    locked_since: Optional[int] = None

    @property
    def row(self) -> AccountRow:
        """The key of the account."""
        return AccountRow(self.user, self.host)


class Proxy(NamedTuple):
    """One row of mysql.proxies_priv: who may act as whom."""

    account: AccountRow
    proxied: AccountRow


class Source(NamedTuple):
    """A server from which another one replicates, as that one names it; the id is '0' if they never met."""

    host: str
    port: str
    server_id: str


class Topology(NamedTuple):
    """With which servers a server shares its accounts.

    `sources` are those that it replicates from, also when that is stopped; None: it does, but from where is not known.
    `running`: how many of these replications ran.  `connected` are the client hosts that were reading the binary log,
    `replicas` the instants at which each did so last.  `nodes` holds the instants at which the Galera cluster
    `cluster` last had so many nodes.
    """

    sources: Optional[tuple[Source, ...]] = ()
    running: int = 0
    connected: tuple[str, ...] = ()
    replicas: Mapping[str, int] = {}
    nodes: Mapping[str, int] = {}
    cluster: str = ""

    @classmethod
    def read(cls, meta: Mapping[str, Any]) -> "Topology":
        """Return it as it was kept, in JSON."""
        if "topology" not in meta:
            return cls()
        sources, running, connected, *others = json.loads(meta["topology"])
        known = None if sources is None else tuple(itertools.starmap(Source, sources))
        return cls(known, running, tuple(connected), *others)

    def seen(self, inventory: "Inventory", now: int) -> "Topology":
        """Return it as an inventory shows it, with what was seen before."""
        setting = inventory.settings.get
        # An arbitrator (garbd) counts as a node, but has no accounts, and no address.
        nodes = sum(map(bool, setting("wsrep_incoming_addresses", "").split(",")))
        nodes = nodes or int(setting("wsrep_cluster_size") or 0)
        return Topology(
            inventory.sources,
            int(setting("slaves_running") or 0),
            inventory.replicas,
            {**self.replicas, **dict.fromkeys(inventory.replicas, now)},
            {**self.nodes, str(nodes): now} if nodes > 1 else self.nodes,
            setting("wsrep_cluster_state_uuid", "") or self.cluster,
        )


class Inventory(NamedTuple):
    """What the server, or an accounts file, said; `taken_at` in epoch seconds, by the server's clock.

    `sessions` are the open ones: the name that logged in and the client's host, b'' if the server cut it; `replicas`
    the hosts that read the binary log, once for each session; `sources` are as in Topology.  `definers`, `proxies` and
    `statistics` are None if not known; `missing` says in words what could not be read and which privilege would allow
    it.  `settings` has lower-case names, among them 'audit_plugin' (its status or '') and 'utc_offset' (seconds that
    the server's zone is ahead of UTC now); `origins` tells who set some of them.  `own_id` and `own_name` are those of
    the session that asked.
    """

    source: str
    taken_at: int
    accounts: tuple[Account, ...]
    settings: Mapping[str, str] = {}
    sessions: tuple[tuple[bytes, bytes], ...] = ()
    sessions_complete: bool = False
    definers: Optional[Mapping[AccountRow, int]] = None
    proxies: Optional[tuple[Proxy, ...]] = None
    own_account: Optional[AccountRow] = None
    missing: tuple[str, ...] = ()
    origins: Mapping[str, str] = {}
    statistics: Optional[Mapping[bytes, str]] = None
    replicas: tuple[str, ...] = ()
    sources: Optional[tuple[Source, ...]] = ()
    own_id: int = 0
    own_name: bytes = b""

    @property
    def boot(self) -> int:
        """The instant at which the server had started."""
        return self.taken_at - int(self.settings.get("uptime", 0))


def ask_server(client: str, defaults_file: str, timeout: float, want_definers: bool) -> Inventory:
    """Ask the server through the `mariadb` client; `timeout` in seconds for all of it.

    Raises InventoryError if there is no usable answer; parts without privilege are told in `missing`.
    """
    ends = time.monotonic() + timeout
    rows, failed = _ask(client, defaults_file, timeout, _SERVER_SQL)
    for what in failed:
        if what not in _OPTIONAL:
            raise InventoryError(f"inventory: {what}: {failed[what]}")
    if "accounts" in failed and "accounts without locks" in failed:
        raise InventoryError("inventory: " + _lack("accounts", failed["accounts"]))
    missing = [_lack(what, failed[what]) for what in ("proxies", "all sessions") if what in failed]
    if "accounts" in failed:
        missing.append(_lack("accounts", "locked accounts not known: " + failed["accounts"]))
    try:
        inventory = _inventory(rows, failed)
    except (KeyError, TypeError, ValueError):
        # A tag or a column that is not there, or is too many.
        raise InventoryError(_NOT_UNDERSTOOD) from None
    # What every account may see of a replication, also of one that is stopped.
    replicates = int(inventory.settings.get("slaves_running") or 0) or inventory.settings.get("gtid_slave_pos")
    further: dict[str, Any] = {}
    for name, ask, wanted in (("definers", _ask_definers, want_definers), ("sources", _ask_sources, replicates)):
        if wanted:
            try:
                further[name] = ask(client, defaults_file, max(ends - time.monotonic(), 1.0))
            except InventoryError as error:
                further[name] = None
                missing.append(str(error))
    return inventory._replace(missing=tuple(missing), **further)


def _inventory(rows: _Rows, failed: Mapping[str, str]) -> Inventory:
    """Put the server's answer together; raises KeyError, TypeError or ValueError where it has another form."""
    ((utc_offset, own_account, own_name, own_id, now),) = rows["clock"]
    settings = {decoded(name): decoded(value) for name, value in rows["setting"]}
    sessions_complete = bool(rows.get("process"))
    sessions = [
        # A longer host was cut, and its port with it.
        (user, re.sub(rb":\d+\Z", b"", host) if len(host) < _SESSION_HOST_WIDTH else b"", command)
        for user, host, command in rows.get("session", ())
    ]
    statistics = {user: decoded(counters) for user, counters in rows.get("statistic", ())}
    return Inventory(
        source="server",
        taken_at=int(now),
        accounts=tuple(map(_account, rows["view" if "accounts" in failed else "account"])),
        settings={"audit_plugin": "", "utc_offset": decoded(utc_offset), **settings},
        sessions=tuple((user, host) for user, host, _ in sessions),
        sessions_complete=sessions_complete,
        proxies=None if "proxies" in failed else tuple(map(_proxy, rows.get("proxy", ()))),
        own_account=_split_account(own_account),
        origins={decoded(name): decoded(value) for name, value in rows.get("origin", ())},
        statistics=statistics if settings.get("userstat", "").upper() == "ON" and sessions_complete else None,
        replicas=tuple(sorted(visible(host) or _LONG_HOST for _, host, what in sessions if what == b"Binlog Dump")),
        own_id=int(own_id),
        own_name=b",".join(_split_account(own_name)),
    )


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


def _ask_sources(client: str, defaults_file: str, timeout: float) -> tuple[Source, ...]:
    """Return the servers that this one is told to replicate from; raises InventoryError if they are not visible."""
    output, failed = _run_client(client, defaults_file, timeout, _SOURCES_SQL, _WITH_HEAD)
    if failed:
        raise InventoryError(_lack("replication", failed.get("replication", "")))
    # In a batch the client escapes what could end a field or a line.
    lines = [line.split(b"\t") for line in output.split(b"\n") if b"\t" in line]
    columns = b"Master_Host", b"Master_Port", b"Master_Server_Id"
    if lines and (not {*columns} <= {*lines[0]} or any(len(line) != len(lines[0]) for line in lines)):
        raise InventoryError(f"{_NOT_UNDERSTOOD}: replication")
    rows = [dict(zip(lines[0], line)) for line in lines[1:]]
    return tuple(Source(*(visible(row[name]) for name in columns)) for row in rows)


def _lack(what: str, error: str) -> str:
    return f"{what}: {error}" + (f"; needed: {_NEEDED[what]}" if what in _NEEDED else "")


def _run_client(
    client: str, defaults_file: str, timeout: float, sql: Mapping[str, str], form: Sequence[str]
) -> tuple[bytes, dict[str, str]]:
    """Run the statements in one session of the client; return its output, and what failed with the reason."""
    path = shutil.which(client) or (shutil.which("mysql") if client == "mariadb" else None)
    if path is None:
        advice = "install mariadb-client or set Inventory"
        raise InventoryError(f"inventory: client not found: {visible_text(client)}: {advice}")
    if defaults_file and not os.access(defaults_file, os.R_OK):
        raise InventoryError(f"inventory: cannot read the client's defaults file: {visible_text(defaults_file)}")
    seconds = str(max(int(timeout), 1))
    files = [f"--defaults-file={defaults_file}"] if defaults_file else []
    try:
        done = subprocess.run(
            [path, *files, *_CLIENT_OPTIONS.split(), *form, f"--connect-timeout={seconds}"],
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
    return done.stdout, _failures(done.returncode, done.stderr, list(sql))


def _failures(code: int, stderr: bytes, names: Sequence[str]) -> dict[str, str]:
    """Return the failed statements with their error in words; raises InventoryError if there was no session."""
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


def _ask(client: str, defaults_file: str, timeout: float, sql: Mapping[str, str]) -> tuple[_Rows, dict[str, str]]:
    """Run statements that tag their rows; return the rows by tag, and what failed with the reason.

    A line is a tag and fields in hex or NULL, which is taken as empty, parted by TAB.
    """
    output, failed = _run_client(client, defaults_file, timeout, sql, _TAGGED)
    rows: dict[str, list[list[bytes]]] = {}
    *lines, rest = output.split(b"\n")
    if rest:
        raise InventoryError("inventory: the client's answer ends in the middle of a line")
    for line in lines:
        if re.fullmatch(_CHATTER, line):
            continue
        if not re.fullmatch(rb"[a-z]+(?:\t(?:NULL|(?:[0-9A-F]{2})*))*", line):
            raise InventoryError(f"{_NOT_UNDERSTOOD}: {visible(line[:80])}")
        tag, *fields = line.decode("ascii").split("\t")
        rows.setdefault(tag, []).append([b"" if text == "NULL" else bytes.fromhex(text) for text in fields])
    return rows, failed


def _split_account(text: bytes) -> AccountRow:
    """Split the server's `user@host`; a host holds no @."""
    return AccountRow(*text.rpartition(b"@")[::2])


def _proxy(row: Sequence[bytes]) -> Proxy:
    return Proxy(AccountRow(*row[:2]), AccountRow(*row[2:]))


def _account(row: Sequence[bytes]) -> Account:
    user, host, *flags, plugin, others = row
    is_role, locked, expired = (None if flag == b"?" else flag in (b"1", b"true", b"Y") for flag in flags)
    plugins = [*(json.loads(others) if others else ()), decoded(plugin)]
    names = " or ".join(name for name in plugins if isinstance(name, str) and name)
    return Account(user, host, bool(is_role), locked, expired, names)


def _backquoted(name: str) -> str:
    return "`{}`".format(name.replace("`", "``"))


def grants_sql(user: str) -> str:
    """Return the SQL that makes the account for the inventory, for review: the least that it needs."""
    name, at, host = user.rpartition("@")
    parts = (name, host) if at else (user, "localhost")
    account = "@".join(part if re.fullmatch("[a-z0-9_]+", part) else _backquoted(part) for part in parts)
    wanted = [text for what, text in _NEEDED.items() if what != "accounts without locks"]
    everywhere = [text[len("GRANT ") : -len(" ON *.*")] for text in wanted if text.endswith(" ON *.*")]
    grants = [f"GRANT {', '.join(everywhere)} ON *.*", *(text for text in wanted if not text.endswith(" ON *.*"))]
    lines = [f"CREATE USER IF NOT EXISTS {account} IDENTIFIED VIA unix_socket;"]
    return "\n".join(lines + [f"{text} TO {account};" for text in grants]) + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# Store: all SQL
# ---------------------------------------------------------------------------------------------------------------------

SCHEMA_VERSION = 2
SCHEMA = """
-- What conntracker knows.  Instants are seconds since 1970-01-01 UTC.  Names are the log's bytes (BLOB); read
-- them with CAST(user AS TEXT).

-- Single facts: tracking_since, last_record, last_run, last_processed, unparsed, doubt, time_format, ...; the server's
-- settings stand there under the server's own names.
CREATE TABLE meta (key TEXT PRIMARY KEY, value);

-- What the log tells of an account name and a client host: the first and the last instant of each kind of
-- evidence.  kind: 'login' a successful login | 'imported' taken over from the Go program | 'proxied' the account
-- row used by a proxy user (host: its host pattern) | 'refused N' refused with code N, which comes only after the right
-- password | 'session end' until when a session was open, under its last user | 'earlier session' the same for one
-- whose login was not read | 'change user' a change of user without a name (host '' if it is not known) | 'recent
-- change' the same, not yet held against the user statistics | 'changed user' one with a name | 'user statistics' its
-- counters moved.
-- settled: 0 for logins that a later record with their connection id may still make suspect (table recent).
-- shown: last_seen in TimeFormatDB.  user_text, host_text: for names that are not UTF-8.
CREATE TABLE evidence (
    kind TEXT NOT NULL, user BLOB NOT NULL, host BLOB NOT NULL, settled INTEGER NOT NULL,
    first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, shown TEXT, user_text TEXT, host_text TEXT,
    PRIMARY KEY (kind, user, host, settled)
) WITHOUT ROWID;

-- The latest login of a name and host that the connection ids contradict: it may be forged.
CREATE TABLE suspect (
    user BLOB NOT NULL, host BLOB NOT NULL, settled INTEGER NOT NULL,
    seen INTEGER NOT NULL, file TEXT NOT NULL, "offset" INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (user, host, settled)
) WITHOUT ROWID;

-- Records of the last connection ids of a log, not settled yet; run: 0, or the place of a candidate for another run of
-- the server.
CREATE TABLE recent (
    log TEXT NOT NULL, run INTEGER NOT NULL, connection INTEGER NOT NULL, kind TEXT NOT NULL, seen INTEGER NOT NULL,
    name BLOB NOT NULL, server BLOB NOT NULL, file TEXT NOT NULL, "offset" INTEGER NOT NULL, reason TEXT NOT NULL
);

-- How far the connection ids of a log are accounted for (JSON).
CREATE TABLE counter (log TEXT PRIMARY KEY, state TEXT NOT NULL);

-- Open sessions: who logged in, and when; changed: 1 if it has changed its user since.
CREATE TABLE session (
    log TEXT NOT NULL, connection INTEGER NOT NULL, name BLOB NOT NULL, since INTEGER NOT NULL,
    changed INTEGER NOT NULL, PRIMARY KEY (log, connection)
);

-- The program's own sessions, found in the log.  lost: how many ids since the one before are borne by no record that
-- could be read.  settings: 'watched' once the time since then is dealt with; '' if auditing was provably on, whatever
-- the ids say; else why not.  boot: when the server had started.
CREATE TABLE heartbeat (
    connection INTEGER NOT NULL, at INTEGER NOT NULL, boot INTEGER NOT NULL, log TEXT NOT NULL,
    lost INTEGER NOT NULL, settings TEXT NOT NULL
);

-- Times for which it is proven that no login was missed.  proof: 'every id has its record' | 'settings'.
CREATE TABLE watched (began INTEGER NOT NULL, ended INTEGER NOT NULL, proof TEXT NOT NULL, detail TEXT NOT NULL);
CREATE VIEW Watched_intervals AS
  SELECT strftime('%Y-%m-%dT%H:%M:%SZ', began, 'unixepoch') AS began,
    strftime('%Y-%m-%dT%H:%M:%SZ', ended, 'unixepoch') AS ended, proof, detail FROM watched ORDER BY began;

-- Times of which records were lost, or may have been: why something is not watched.
CREATE TABLE gap (
    began INTEGER NOT NULL, ended INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (began, ended)
);

-- Where reading goes on in each file of a log; offsets in bytes of text, modified in nanoseconds.
CREATE TABLE file (
    log TEXT NOT NULL, path BLOB NOT NULL, device INTEGER NOT NULL, inode INTEGER NOT NULL,
    stored_size INTEGER NOT NULL, modified INTEGER NOT NULL, "end" INTEGER NOT NULL, live INTEGER NOT NULL,
    first INTEGER, last INTEGER, head BLOB NOT NULL, before BLOB NOT NULL
);

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

-- The server's accounts, the definers of its objects, its proxy grants and its user statistics, as of the last
-- inventory; the verdict as of the last collect, which Verdicts and Unused show.
CREATE TABLE account (
  user BLOB NOT NULL, host BLOB NOT NULL, is_role INTEGER NOT NULL, locked INTEGER, expired INTEGER,
  plugin TEXT NOT NULL, known_since INTEGER NOT NULL, listed_at INTEGER NOT NULL, locked_since INTEGER,
  PRIMARY KEY (user, host)
) WITHOUT ROWID;
CREATE TABLE definer (
  user BLOB NOT NULL, host BLOB NOT NULL, objects INTEGER NOT NULL, PRIMARY KEY (user, host)
) WITHOUT ROWID;
CREATE TABLE proxy (
  user BLOB NOT NULL, host BLOB NOT NULL, proxied_user BLOB NOT NULL, proxied_host BLOB NOT NULL,
  PRIMARY KEY (user, host, proxied_user, proxied_host)
) WITHOUT ROWID;
CREATE TABLE statistic (user BLOB PRIMARY KEY, counters TEXT NOT NULL) WITHOUT ROWID;
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
_WIDEN = """ON CONFLICT (kind, user, host, settled) DO UPDATE SET
    first_seen = min(first_seen, excluded.first_seen),
    shown = CASE WHEN excluded.last_seen > last_seen THEN excluded.shown ELSE shown END,
    last_seen = max(last_seen, excluded.last_seen)"""
_ADD_EVIDENCE = f"INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) {_WIDEN}"
# Version 1 of the schema: what it had not settled stays as it was; all logs are read again once.
_FROM_VERSION_1 = f"""
INSERT INTO evidence SELECT kind, user, host, 1, first_seen, last_seen, shown, user_text, host_text
    FROM evidence WHERE settled = 0 {_WIDEN};
DELETE FROM evidence WHERE settled = 0;
DELETE FROM suspect WHERE settled = 0;
DELETE FROM meta WHERE key = 'version' OR key LIKE 'audit#_%' ESCAPE '#' OR key LIKE 'server#_%' ESCAPE '#';
ALTER TABLE account ADD COLUMN locked_since INTEGER;
DROP TABLE session;
DROP TABLE file;
"""
_ADD_SUSPECT = """
INSERT INTO suspect VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user, host, settled) DO UPDATE SET
    seen = excluded.seen, file = excluded.file, "offset" = excluded."offset", reason = excluded.reason
    WHERE excluded.seen > seen
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
_ADVICE = {
    "not a database": "name another SqlitePath, or move this file away",
    "malformed": "restore it from a backup, or move it away: the logs that are still there are read again",
    "full": "make room: nothing was stored, the next run goes on",
    "readonly": "grant this user write access to the file and its folder",
    "locked": "another program holds it: nothing was stored, the next run goes on",
    "unable to open": "check that its folder exists and that this user may read and write there",
}


class Store:
    """The SQLite database.  Every method raises DatabaseError, in words."""

    def __init__(self, path: str, form: TimeFormat, zone: Optional[tzinfo], *, write: bool) -> None:
        self.path, self.form, self.zone = path, form, zone
        # An instant in TimeFormatDB.
        self.show = functools.lru_cache(4096)(lambda instant: form.write(local(instant, zone)))
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
            advice = next((text for part, text in _ADVICE.items() if part in str(error)), "nothing was stored")
            raise DatabaseError(f"{self.path}: {error}: {advice}") from None

    def _check_version(self, write: bool) -> None:
        """Make the tables in an empty database, take over the Go program's and version 1, refuse what is not ours."""
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            known = f"(schema {version}, known here: {SCHEMA_VERSION})"
            raise DatabaseError(f"{self.path}: made by a newer conntracker {known}: upgrade this one")
        if version == SCHEMA_VERSION:
            return
        names = {name for (name,) in self.db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
        if not version and names and names != {"Accounts"}:
            raise DatabaseError(f"{self.path}: a database of something else: check SqlitePath")
        if not write:
            raise DatabaseError(f"{self.path}: nothing collected yet by this version: run conntracker collect first")
        self.db.execute("BEGIN IMMEDIATE")
        imported: list[tuple[bytes, bytes, bytes]] = []
        script = f"{SCHEMA}PRAGMA user_version = {SCHEMA_VERSION}"
        if version:
            script = _FROM_VERSION_1 + re.sub(r"CREATE (TABLE|VIEW)", r"CREATE \1 IF NOT EXISTS", script)
        elif names:
            blobs = (f"CAST(coalesce({column}, '') AS BLOB)" for column in ("name", "host", "last_seen"))
            imported = self.db.execute(f"SELECT {', '.join(blobs)} FROM Accounts").fetchall()
            script = "DROP TABLE Accounts;\n" + script
        for statement in script.split(";\n"):  # executescript would commit
            self.db.execute(statement)
        for name, host, text in imported:
            self._import(name, host, text.decode("utf-8", "replace"))
        self.db.commit()

    def _import(self, name: bytes, host: bytes, text: str) -> None:
        """Take over one row of the Go program, whose mysql|localhost is the time up to which it had read."""
        instant = _read_instant(text, self.form, self.zone)
        if (name, host) == (b"mysql", b"localhost"):
            self.set(last_processed=instant, last_processed_shown=text)
        else:
            shown = self.show(instant) if instant else text
            row = ("imported", name, host, 1, instant, instant, shown, _odd_text(name), _odd_text(host))
            self._write(_ADD_EVIDENCE, [row])

    def select(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a statement that only reads."""
        with self._explained():
            return self.db.execute(sql, values).fetchall()

    def _write(self, sql: str, rows: Iterable[Sequence[Any]] = ((),)) -> int:
        """Run a statement with each of some rows, in the transaction; return how many rows it has changed."""
        with self._explained():
            if not self.db.in_transaction:
                self.db.execute("BEGIN IMMEDIATE")
            return self.db.executemany(sql, rows).rowcount

    def replace(self, table: str, rows: Iterable[Sequence[Any]], **of: str) -> None:
        """Put rows in the place of those of a table, or of those with a value in a column."""
        rows = list(rows)
        which = "".join(f" WHERE {column} = ?" for column in of)
        self._write(f"DELETE FROM {table}{which}", [tuple(of.values())])
        if rows:
            self._write(f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)

    def roll_back(self) -> None:
        """Forget what was not committed."""
        with self._explained():
            self.db.rollback()

    def commit(self) -> None:
        """Make all of it true at once."""
        with self._explained():
            self.db.commit()

    # Single facts.

    def meta(self) -> dict[str, Any]:
        """Return all single facts."""
        return dict(self.select("SELECT key, value FROM meta"))

    def get(self, key: str) -> Any:
        """Return a single fact or None."""
        return self.meta().get(key)

    def set(self, **facts: Any) -> None:
        """Keep single facts."""
        self._write("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", facts.items())

    # What was read.

    def files(self) -> list[Known]:
        """Return the files as the last run left them."""
        return [Known(log, os.fsdecode(path), *rest) for log, path, *rest in self.select("SELECT * FROM file")]

    def put_files(self, files: Iterable[Known]) -> None:
        """Keep where reading goes on."""
        self.replace("file", ((f.log, os.fsencode(f.path), *f[2:]) for f in files))

    def load_ledger(self, log: str, ledger: Ledger) -> None:
        """Set a ledger to where the last run left it."""
        state = self.select("SELECT state FROM counter WHERE log = ?", (log,))
        if not state:
            return
        rows = self.select("SELECT * FROM recent WHERE log = ? ORDER BY rowid", (log,))
        sessions = self.select("SELECT * FROM session WHERE log = ?", (log,))
        ledger.restore(
            json.loads(state[0][0]),
            [(run, _as_row(rest)) for _, run, *rest in rows],
            {number: Session(*rest) for _, number, *rest in sessions},
        )

    def save_ledger(self, log: str, ledger: Ledger) -> None:
        """Keep the state of a ledger, and what is not settled as provisional."""
        rows = (
            (log, run, r.number, r.kind, r.instant, r.name, r.server, *r.place, r.reason)
            for run, r in ledger.unsettled()
        )
        self.replace("recent", rows, log=log)
        self.replace("session", ((log, number, *one) for number, one in ledger.open.items()), log=log)
        self.replace("counter", [(log, json.dumps(ledger.state()))], log=log)

    def add_facts(self, facts: Facts, *, settled: bool = True) -> None:
        """Add what a ledger has found."""
        # In the order of the table, where many go much faster.
        logins = (("login", *parted(name), facts.first[name], last) for name, last in sorted(facts.last.items()))
        others = ((kind, *parted(name), *span) for (kind, name), span in sorted(facts.others.items()))
        self.add_evidence(itertools.chain(logins, others), settled=settled)
        suspects = ((*parted(name), int(settled), *suspect) for name, suspect in facts.suspects.items())
        self._write(_ADD_SUSPECT, suspects)

    def add_evidence(self, facts: Iterable[tuple[str, bytes, bytes, int, int]], *, settled: bool = True) -> None:
        """Add evidence: kind, user, host, first and last instant."""

        def show(kind: str, instant: int) -> Optional[str]:
            return self.show(instant) if kind == "login" else None

        rows = (
            (kind, user, host, int(settled), first, last, show(kind, last), _odd_text(user), _odd_text(host))
            for kind, user, host, first, last in facts
        )
        self._write(_ADD_EVIDENCE, rows)

    def refresh_provisional(self) -> None:
        """Tell by the rows of `recent` what is likely to stand, in place of what the last run said."""
        self._write("DELETE FROM evidence WHERE settled = 0")
        self._write("DELETE FROM suspect WHERE settled = 0")
        facts = Facts()
        for _, _, *values in self.select("SELECT * FROM recent"):
            facts.add_row(_as_row(values))
        self.add_facts(facts, settled=False)
        self._write(_FORGET_OLD_SUSPECTS)

    def show_again(self) -> None:
        """Write all times again where TimeFormatDB or TimeLocation has changed."""
        wanted = f"{self.form.text} {self.zone}"
        if self.get("time_format") not in (None, wanted):
            self.db.create_function("shown_again", 1, self.show)
            self._write("UPDATE evidence SET shown = shown_again(last_seen) WHERE shown > '' AND last_seen > 0")
        self.set(time_format=wanted)

    def resolve_changes(self, until: int, answered_since: Optional[int]) -> None:
        """Drop the changes of user that the user statistics have answered; keep those before an instant, if not None.

        A change in the very second of an instant may have come before it, or after it.
        """
        unanswered = until + 1 if answered_since is None else answered_since + 1
        recent = "FROM evidence WHERE kind = 'recent change'"
        kept = f"SELECT 'change user', user, host, first_seen, min(last_seen, ?) {recent} AND first_seen < ?"
        self.add_evidence(self.select(kept, (until, unanswered)))
        self._write(f"DELETE {recent} AND last_seen < ?", [(until,)])

    # What is watched.

    def heartbeats(self) -> list["Heartbeat"]:
        """Return the heartbeats that are kept, in order."""
        return [Heartbeat(*row) for row in self.select("SELECT * FROM heartbeat ORDER BY at, rowid")]

    def add_watched(self, began: int, ended: int, proof: str, detail: str) -> None:
        """Keep a time that is proven to be watched."""
        self._add_time("watched", began, ended, proof=proof, detail=detail)

    def add_gap(self, began: int, ended: int, reason: str) -> None:
        """Keep a time of which records were lost."""
        self._add_time("gap", began, ended, reason=reason)

    def _add_time(self, table: str, began: int, ended: int, **said: str) -> None:
        """Keep a stretch of time and what is said of it; one that goes on grows."""
        same = "".join(f" AND {column} = ?" for column in said)
        grow = f"UPDATE OR IGNORE {table} SET ended = max(ended, ?) WHERE ended = ?{same}"
        if not self._write(grow, [(ended, began, *said.values())]):
            add = f"INSERT OR IGNORE INTO {table} VALUES (?, ?{', ?' * len(said)})"
            self._write(add, [(began, ended, *said.values())])

    # The server's accounts.

    def put_inventory(self, inventory: Inventory, now: int) -> None:
        """Keep an inventory of the server; `now` in epoch seconds.

        An account keeps the instant at which it was first listed; one that vanished and came back is new.
        """
        meta = self.meta()
        listed = self.select("SELECT user, host, known_since, locked_since FROM account")
        known = {(user, host): since for user, host, *since in listed}
        rows = []
        for account in inventory.accounts:
            since, locked_since = known.get(account.row, (now, None))
            rows.append((*account[:6], since, now, (locked_since or now) if account.locked else None))
        self.replace("account", rows)
        self.add_evidence(("open session", user, host, now, now) for user, host in inventory.sessions)
        if inventory.definers is not None:
            self.replace("definer", ((*row, objects) for row, objects in inventory.definers.items()))
            self.set(definers_at=now)
        if inventory.proxies is not None:
            self.replace("proxy", ((*proxy.account, *proxy.proxied) for proxy in inventory.proxies))
        if meta.get("skip_name_resolve") not in (None, inventory.settings.get("skip_name_resolve")):
            self.set(skip_name_resolve_since=now)
        own_user, own_host = inventory.own_account or (None, None)
        self._write("DELETE FROM meta WHERE key LIKE 'server#_audit#_%' ESCAPE '#'")
        self.set(
            **inventory.settings,
            inventory_at=now,
            inventory_error="",
            first_inventory=meta.get("first_inventory") or now,
            sessions_complete=int(inventory.sessions_complete),
            topology=json.dumps(Topology.read(meta).seen(inventory, now)),
            own_user=own_user,
            own_host=own_host,
        )

    def statistics(self) -> dict[bytes, str]:
        """Return the counters of the user statistics, by user name."""
        return dict(self.select("SELECT user, counters FROM statistic"))

    def put_accounts_file(self, inventory: Inventory, now: int) -> Inventory:
        """Return a file's accounts with the instant since when each is known; remember those first given now."""
        earlier = json.loads(self.get("accounts_file_known") or "{}")
        known: dict[str, int] = {}
        accounts = []
        for account in inventory.accounts:
            key = f"{account.user.hex()}@{account.host.hex()}"
            known[key] = earlier.get(key, now)
            accounts.append(account._replace(known_since=known[key]) if account.known_since is None else account)
        self.set(accounts_file_known=json.dumps(known))
        self.commit()
        return inventory._replace(accounts=tuple(accounts))

    # For the verdict.

    def logins(self) -> list[tuple[bytes, bytes, Optional[int], int, int, Optional[str]]]:
        """Return user, host, first, last, whether seen in the log, and what is suspect of each row."""
        return self.select(_LOGINS)

    def knowledge(self, accounts_file: Optional[Inventory] = None) -> "Knowledge":
        """Return everything that the verdict rests on; an accounts file takes the place of the inventory."""
        meta = self.meta()
        evidence = self.select(
            "SELECT kind, user, host, MIN(first_seen), MAX(last_seen) FROM evidence GROUP BY kind, user, host"
        )
        knowledge = Knowledge(
            evidence=tuple(itertools.starmap(Evidence, evidence)),
            suspects=tuple(itertools.starmap(Suspect, self.select("SELECT user, host, seen FROM suspect"))),
            gaps=tuple(itertools.starmap(Gap, self.select("SELECT began, ended, reason FROM gap ORDER BY began"))),
            watched=tuple(itertools.starmap(Watched, self.select("SELECT * FROM watched ORDER BY began"))),
            pending=len(self.heartbeats()) > 1,
            **_known(meta, "tracking_since last_record first_heartbeat last_run last_error unparsed"),
        )
        if accounts_file is not None:
            source, taken_at, accounts, settings, *_ = accounts_file
            return knowledge._replace(source=source, accounts=accounts, settings=settings, inventory_at=taken_at)
        return self._with_inventory(knowledge, meta)

    def _with_inventory(self, knowledge: "Knowledge", meta: Mapping[str, Any]) -> "Knowledge":
        accounts = tuple(
            Account._make((user, host, *(None if f is None else bool(f) for f in flags), plugin, since, locked_since))
            for user, host, *flags, plugin, since, _, locked_since in self.select("SELECT * FROM account")
        )
        definers = {AccountRow(user, host): objects for user, host, objects in self.select("SELECT * FROM definer")}
        fresh = meta.get("definers_at") and meta["inventory_at"] - meta["definers_at"] <= FRESH_SECONDS
        first = meta.get("first_inventory") or 0
        return knowledge._replace(
            source="server" if accounts else "none",
            accounts=accounts,
            appeared={one.row: one.known_since for one in accounts if one.known_since and one.known_since > first},
            definers=definers if fresh else None,
            proxies=tuple(map(_proxy, self.select("SELECT * FROM proxy"))),
            settings={
                key: str(value) for key, value in meta.items() if key in SETTINGS or key.startswith("server_audit_")
            },
            sessions_complete=bool(meta.get("sessions_complete")),
            topology=Topology.read(meta),
            skip_since=meta.get("skip_name_resolve_since") or 0,
            own_account=None if meta.get("own_user") is None else AccountRow(meta["own_user"], meta["own_host"]),
            **_known(meta, "inventory_at inventory_error heartbeat_error"),
        )

    def snapshot(self, path: str) -> None:
        """Write a consistent copy of the database, with mode 0640."""
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
        except OSError as error:
            raise DatabaseError(f"{path}: {error.strerror}: name a file that does not exist yet") from None
        with self._explained(), contextlib.closing(sqlite3.connect(path)) as copy:
            self.db.backup(copy)

    def put_verdicts(self, report: "Report") -> None:
        """Replace the verdicts that the views Verdicts and Unused show."""
        rows = []
        for item in report.accounts:
            account = (*item.account.row, item.name, item.verdict, item.removable)
            times = (item.last_seen, item.first_seen, item.account.known_since)
            why = (", ".join(item.evidence), "; ".join(item.keep_reasons), "; ".join(item.reasons))
            rows.append((*account, *times, len(item.client_hosts), *why, report.terms.days, report.now))
        self.replace("verdict", rows)


def _known(meta: Mapping[str, Any], names: str) -> dict[str, Any]:
    """Return those of some single facts that are known."""
    return {name: meta[name] for name in names.split() if meta.get(name) is not None}


def parted(name: bytes) -> tuple[bytes, bytes]:
    """Return user and host of a b"user,host"."""
    return name.rpartition(b",")[::2]


def _as_row(values: Sequence[Any]) -> Row:
    number, kind, seen, name, server, path, offset, reason = values
    row = Row(kind, number, seen, name, server, Chunk(path, b"\n", [offset]))
    row.reason = reason
    return row


def _odd_text(name: bytes) -> Optional[str]:
    """Return how a name is shown that is not UTF-8, else None."""
    text = decoded(name)
    return None if text.encode() == name else text


def _read_instant(text: str, form: TimeFormat, zone: Optional[tzinfo]) -> int:
    """Read a time as the Go program wrote it; 0 if it cannot be read."""
    for known in (form, *map(TimeFormat, ("%Y-%m-%d %H:%M:%S%:z", "%Y-%m-%dT%H:%M:%S%?f%z"))):
        instant = known.read(text, zone, 1970)
        if instant is not None and 0 < instant < LAST_INSTANT:  # Go's zero time is the year 1
            return instant
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# Collect: one run
# ---------------------------------------------------------------------------------------------------------------------
#
# The server is asked first.  That is a login itself, the *heartbeat*: its record, with the id and the time that the
# server told, must be found in what is read.  Then the server writes, to the log that is read, in a form and a zone
# that are understood.  Between two heartbeats every connection id must be borne by a record; if some are not
# (internal threads take ids without one), auditing must provably have been on all the time.  Only then is the time
# between them watched.

# Bytes of new log from which the first run of a log uses further processes.
PARALLEL_FROM = 24 * 1024 * 1024
# Seconds by which the record of the heartbeat may be off.
HEARTBEAT_SLACK = 120
# Seconds by which the start of the server may seem to move.
BOOT_SLACK = 5
# Seconds between the last record of a run of the server and the next start: in a longer time it may have run unseen.
SHORT_RESTART = 1200
BY_IDS, BY_SETTINGS = "every id has its record", "settings"


class Heartbeat(NamedTuple):
    """A row of the table heartbeat."""

    connection: int
    at: int
    boot: int
    log: str
    lost: int
    settings: str


def _same_start(boot: int, other: int) -> bool:
    """Return whether two instants tell of the same start of the server."""
    return abs(boot - other) <= BOOT_SLACK


def collect(config: Config, say: Say) -> int:
    """Read what is new in the logs, ask the server, and keep it; return the exit code."""
    gc.disable()  # a run makes no cycles that would grow
    lock = _lock(config.sqlite_path)
    if lock is None:
        say("INFO", f"{config.sqlite_path}: another run is already running: nothing done")
        return 0
    store = Store(config.sqlite_path, config.time_format_db, config.time_location, write=True)
    try:
        code = Collector(config, store, say).run()
    except ConntrackerError as error:
        with contextlib.suppress(DatabaseError):
            store.roll_back()
            store.set(last_error=str(error))
            store.commit()
        raise
    os.close(lock)
    return code


def _lock(path: str) -> Optional[int]:
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
        advice = "the database cannot be written: check SqlitePath and its folder"
        raise DatabaseError(f"{path}: {error.strerror}: {advice}") from None
    return descriptor


class Collector:
    """One run of `collect`: all that it stores is committed at once."""

    def __init__(self, config: Config, store: Store, say: Say) -> None:
        self.config, self.store, self.say = config, store, say
        self.inventory: Optional[Inventory] = None
        self.unparsed = 0
        self.progress = Progress()

    def run(self) -> int:
        """Do it; return the exit code."""
        config, store = self.config, self.store
        self._ask_server()
        form = config.time_format_audit
        written = self.inventory.settings.get("server_audit_timestamp_format") if self.inventory else None
        if written and form.text == DEFAULT_STAMP:
            try:
                form = TimeFormat(written)
            except ValueError as error:
                what = f"server_audit_timestamp_format is {visible_text(written)}: {error}"
                raise LogError(f"{what}: change it, or set TimeFormatAudit") from None
        clock = Clock(form, config.time_location_audit or config.time_location)
        if config.audit_log_path == JOURNAL:
            todo = journal_plan(config.syslog_identifier or "mysql-server_auditing", store.files())
        else:
            found = find_files(config.audit_log_path, config.audit_log_name, self.say)
            todo = plan(*found, store.files(), clock)
        ledgers = {log: self._read(log, files, clock) for log, files in by_log(todo.files).items()}
        self.progress.close()
        problems = self._finish(todo, ledgers)
        store.commit()
        for problem in problems:
            self.say("ERROR", problem)
        return 1 if problems or todo.unreadable else 0

    def _ask_server(self) -> None:
        config, store = self.config, self.store
        if not config.inventory:
            return
        now = int(time.time())
        want_definers = now - (store.get("definers_tried") or 0) >= DAY
        try:
            self.inventory = ask_server(
                config.inventory, config.inventory_defaults_file, config.inventory_timeout, want_definers
            )
        except InventoryError as error:
            store.set(inventory_error=str(error))
            self.say("WARN", f"{error}: accounts without a login are unknown until the server can be asked")
            return
        if want_definers:  # where the scan takes too long, it is not tried in every run
            store.set(definers_tried=now)

    def _ledger(self, log: str, clock: Clock) -> Ledger:
        """Return a ledger that knows nothing of a log yet but our own sessions."""
        config, inventory = self.config, self.inventory
        named = config.server_host or ((inventory.settings.get("hostname", ""),) if inventory else ())
        ours = frozenset(name.encode() for name in named if name)
        ledger = Ledger(clock, ours, config.syslog_identifier.encode(), inventory.own_id if inventory else 0)
        beats = [beat for beat in self.store.heartbeats() if beat.log == log]
        if inventory:
            ledger.own_name, ledger.answers = inventory.own_name, inventory.statistics is not None
            beats = [beat for beat in beats if _same_start(beat.boot, inventory.boot)]
        ledger.beats = [*(beat.connection for beat in beats), *([inventory.own_id] if inventory else [])]
        return ledger

    # Reading.

    def _read(self, log: str, files: list[LogFile], clock: Clock) -> Ledger:
        """Read what is new of a log into its ledger; older files that were put back have one of their own."""
        old = [file for file in files if file.put_back]
        new = [file for file in files if file.is_new and not file.put_back]
        ledger, fresh = self._ledger(log, clock), self._ledger(log, clock)
        self.store.load_ledger(log, ledger)
        if any(file.live for file in old):
            # The server goes on in a log that begins again: so does the ledger.
            ledger.finish()
            self._keep_facts(ledger)
            new, ledger = [file for file in files if file.is_new], fresh
        elif old:
            self._read_files(fresh, old)
            fresh.finish()
            self._keep_facts(fresh)
        size = sum((file.stored_size - file.start) * (PACKED if file.compressed else 1) for file in new)
        workers = min(self.config.max_workers, len(os.sched_getaffinity(0)))
        if new and not ledger.runs and workers > 1 and size >= PARALLEL_FROM:
            ledger = read_in_parallel(ledger, new, workers, self.store.add_facts)
        else:
            self._read_files(ledger, new)
        for file in new:
            with contextlib.suppress(OSError):  # it vanished meanwhile
                self._check_understood(file, clock)
        self._keep_facts(ledger)
        return ledger

    def _read_files(self, ledger: Ledger, files: Iterable[LogFile]) -> None:
        ledger.sink = self.store.add_facts
        for file in files:
            read_stretch(ledger, Stretch(file, file.start, file.end), progress=self.progress)

    def _keep_facts(self, ledger: Ledger) -> None:
        """Keep what a ledger has settled, and say what it did not understand."""
        for _, name, instant in ledger.unknown_ends:
            ledger.facts.add("earlier session", name, instant)
        self.store.add_facts(ledger.facts)
        several = ledger.several_sources()
        if several:
            raise LogError(several)
        if ledger.unread:
            self.unparsed += ledger.unread_count
            path, offset, text = ledger.unread
            what = f"{path}: {ledger.unread_count} lines not understood, at offset {offset}: {visible(text)!r}"
            why = "a name with a line end, a torn record, or a form of stamp that is not configured"
            self.say("WARN", f"{what}: {why}")

    def _check_understood(self, file: LogFile, clock: Clock) -> None:
        """Fail over a file that holds lines of which none is a record."""
        if file.broken or file.start or not file.stored_size or file.path == JOURNAL:
            return
        sample = file.text(0, CHUNK)
        whole = sample.split(b"\n") if len(sample) > LONGEST_RECORD else sample.split(b"\n")[:-1]
        lines = [line for line in whole if line.strip(b"\0\r ")]
        clock.set_file(file.modified // 10**9)
        if lines and not any(is_record(line, clock) for line in lines):
            begins = f"not one line is understood; it begins with {visible(lines[0][:60])!r}"
            expected = f"expected: stamp ({self.config.time_format_audit.text}),server,user,host,id,..."
            file.broken = f"{begins}; {expected}: check AuditLogPath and TimeFormatAudit"

    # Keeping.

    def _finish(self, todo: Plan, ledgers: Mapping[str, Ledger]) -> list[str]:
        """Store positions and proof beside the facts; return which files were not read or not understood, and why."""
        store, now = self.store, int(time.time())
        store.put_files([*todo.kept, *filter(None, map(LogFile.as_known, todo.files))])
        self._keep_proof(todo, ledgers, now)
        for log in by_log(file for file in todo.files if file.is_new):
            store.save_ledger(log, ledgers[log])
        store.refresh_provisional()
        store.show_again()
        problems = [f"{file.path}: {file.broken}" for file in todo.files if file.broken not in ("", VANISHED)]
        self._keep_facts_of_run(todo, ledgers.values(), problems, now)
        for began, ended, reason in todo.gaps:
            lost = f"gap from {store.show(began)} to {store.show(ended)}: {reason}"
            self.say("WARN", f"{lost}: run more often, or keep more rotations")
        if self.config.inventory:
            store.put_verdicts(assess(store.knowledge(), now, terms_of(self.config)))
        return problems

    def _keep_proof(self, todo: Plan, ledgers: Mapping[str, Ledger], now: int) -> None:
        """Keep what is watched, and what stands against it until the next heartbeat: this run may have none."""
        store, doubt = self.store, self.store.get("doubt") or ""
        for gap in todo.gaps:
            store.add_gap(*gap)
        for ledger in ledgers.values():
            ledger.end_blindness(now)
            for began, ended in ledger.blind:
                store.add_gap(began, ended, "lines of the log were not understood")
        if todo.unreadable or todo.gaps or self.unparsed or any(file.broken for file in todo.files):
            doubt = "not every byte of the log was read and understood"
        elif any(ledger.settings_changed for ledger in ledgers.values()):
            doubt = doubt or "somebody set a setting of the audit plugin"
        store.set(doubt=doubt)
        if self.inventory:
            Proof(store, self.inventory, ledgers, self.say).keep()

    def _keep_facts_of_run(self, todo: Plan, ledgers: Collection[Ledger], problems: list[str], now: int) -> None:
        """Keep the single facts; None is one that is not known, or stays."""
        store, known, files = self.store, self.store.meta(), todo.files
        firsts = [known.get("tracking_since"), *(ledger.first for ledger in ledgers), *(file.first for file in files)]
        lasts = [known.get("last_record"), *(ledger.latest for ledger in ledgers)]
        written = [known.get("last_processed"), *(file.modified // 10**9 for file in files)]
        processed = max(filter(None, written), default=None)
        counted = any(file.is_new for file in files) or known.get("unparsed") is None
        facts = {
            "tracker_version": __version__,
            "tracking_since": min(filter(None, firsts), default=None),
            "last_record": max(filter(None, lasts), default=None),
            "last_processed": processed,
            "last_processed_shown": store.show(processed) if processed else None,
            "unparsed": self.unparsed if counted else None,
            "last_run": None if todo.unreadable or problems else now,
            "last_error": "; ".join(problems),
            "server_group": self.config.group,
            "replicas_ignored": ", ".join(self.config.replicas_ignored),
        }
        store.set(**{key: value for key, value in facts.items() if value is not None})


class Progress:
    """One line on a terminal, from the third second on."""

    def __init__(self) -> None:
        self._wanted_from = time.monotonic() + (2 if sys.stderr.isatty() else float("inf"))
        self._shown = False

    def show(self, chunk: Chunk) -> None:
        """Say where the work is."""
        if time.monotonic() > self._wanted_from:
            sys.stderr.write(f"\r\x1b[K{visible_text(chunk.path)}: {chunk.offset(0) / 1e6:.0f} MB ")
            sys.stderr.flush()
            self._shown = True

    def close(self) -> None:
        """Leave an empty line to whatever is said next."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")


# A compressed log holds about so many times the bytes of its file.
PACKED = 12


class Stretch(NamedTuple):
    """Part of a file, in whole lines."""

    file: LogFile
    start: int
    end: int


def read_stretch(ledger: Ledger, stretch: Stretch, *, counts: bool = True, progress: Optional[Progress] = None) -> None:
    """Read part of a file into a ledger; what cannot be read ends it, and `broken` says why."""
    file = stretch.file
    try:
        for chunk in _chunks(ledger, stretch, counts=counts):
            file.counted = True
            ledger.add(chunk)
            if progress:
                progress.show(chunk)
    except FileNotFoundError:
        file.broken = VANISHED
    except Exception as error:  # each compression has errors of its own
        file.broken = describe(error)
        ledger.doubt_last(file.path)
    file.last = ledger.latest or None


def _chunks(ledger: Ledger, stretch: Stretch, *, counts: bool) -> Iterator[Chunk]:
    file = stretch.file
    ledger.clock.set_file(file.modified // 10**9)
    return chunks_of(file, stretch.start, stretch.end, ledger.marks, counts=counts)


def read_in_parallel(ledger: Ledger, files: list[LogFile], workers: int, sink: Callable[[Facts], None]) -> Ledger:
    """Read a log for the first time with several processes; return the ledger that goes on.

    Each process takes a stretch, and as much context before and behind it as its logins need to be settled.
    """
    import multiprocessing
    from multiprocessing.connection import wait

    context = multiprocessing.get_context("fork")
    parts = split_work(files, workers)
    by_path = {file.path: file for file in files}
    processes: dict[Any, Any] = {}  # by the pipe that each writes to
    for part in range(len(parts)):
        receiver, sender = context.Pipe(duplex=False)
        processes[receiver] = context.Process(target=_work, args=(ledger, parts, part, sender), daemon=True)
        processes[receiver].start()
        sender.close()
    ledgers: dict[int, Ledger] = {}
    while processes:
        for receiver in list[Any](wait([*processes])):
            try:
                said = receiver.recv()
            except EOFError:
                what = "a worker process ended before its work was done: nothing was stored: run again"
                raise LogError(what) from None
            if isinstance(said, Facts):
                sink(said)
                continue
            part, one, read = said
            ledgers[part] = one
            for path, read_to, broken, last, before in read:
                file = by_path[path]
                if read_to >= file.read_to:
                    file.read_to, file.last, file.before = read_to, last, before
                file.broken, file.counted = file.broken or broken, True
            processes.pop(receiver).join()  # it holds the lock of the run as well
    for file in files:
        if file.broken:  # others have read behind the damage
            file.read_to = 0
    return _joined([ledgers[part] for part in range(len(parts))], ledger.clock)


def _work(ledger: Ledger, parts: list[list[Stretch]], part: int, sender: Any) -> None:
    """Be one of the processes."""
    ledger.sink = sender.send
    for stretch in _context_of([*itertools.chain.from_iterable(parts[:part])]):
        read_stretch(ledger, stretch, counts=False)
    for stretch in parts[part]:
        read_stretch(ledger, stretch)
    read = [(f.path, f.read_to, f.broken, f.last, f.before) for f in (stretch.file for stretch in parts[part])]
    later = itertools.chain.from_iterable(parts[part + 1 :])
    with contextlib.suppress(Exception):  # the process whose stretch it is tells what is wrong with it
        for chunk in itertools.chain.from_iterable(_chunks(ledger, stretch, counts=False) for stretch in later):
            if not ledger.has_unsettled():
                break
            ledger.add(chunk)
    if part < len(parts) - 1:
        ledger.finish()
    sender.send(ledger.facts)
    ledger.facts, ledger.sink = Facts(), None
    sender.send((part, ledger, read))


def _context_of(earlier: list[Stretch]) -> list[Stretch]:
    """Return what to read before a part: the end of those before it, with enough ids to hold its logins against."""
    context: list[Stretch] = []
    found = 0
    for file, start, stop in reversed(earlier):
        end = stop
        while end > start and found < 2 * REACH:
            at = start if file.compressed else max(start, end - 2 * BLOCK)
            with contextlib.suppress(Exception):  # reading it says what is wrong with it
                if at > start:
                    at += file.text(at, end - at).find(b"\n", 0, end - at - 1) + 1
                for _, text in texts_of(file, at, end):
                    found += len(_BEGIN.findall(text))
            context.insert(0, Stretch(file, at, end))
            end = at
    return context


def _joined(ledgers: list[Ledger], clock: Clock) -> Ledger:
    """Return the last of some ledgers of stretches in a row, with what the others know of sessions."""
    last = ledgers[-1]
    sessions: dict[int, Session] = {}
    ends: list[tuple[int, bytes, int]] = []
    for part, ledger in enumerate(ledgers):
        for number, name, instant in ledger.unknown_ends:
            session = sessions.pop(number, None)
            use = session.use(name, instant) if session else None
            if use:
                last.facts.add(*use, instant)
            elif not session and all(earlier.may_be_open(number) for earlier in ledgers[:part]):
                ends.append((number, name, instant))
        sessions.update(ledger.open)
    for ledger, after in zip(ledgers, ledgers[1:]):
        ledger.end_blindness(after.latest)
        last.blind += ledger.blind
        last.lost.update(ledger.lost)
        last.restarts[:0] = ledger.restarts
        last.settings_changed |= ledger.settings_changed
        last.is_plain |= ledger.is_plain
        last.unread_count += ledger.unread_count
        last.sources.update(ledger.sources)
        last.switches += ledger.switches
    last.unread = next((ledger.unread for ledger in ledgers if ledger.unread), None)
    last.first = min((ledger.first for ledger in ledgers if ledger.first is not None), default=None)
    last.open, last.unknown_ends, last.clock, last.cutter = sessions, ends, clock, Cutter(clock, last.ours, last.ident)
    return last


def split_work(files: list[LogFile], workers: int) -> list[list[Stretch]]:
    """Share files out as stretches in a row, of about the same size."""
    sizes = [file.stored_size * PACKED if file.compressed else file.end - file.start for file in files]
    share = sum(sizes) // workers + 1
    parts: list[list[Stretch]] = [[]]
    room = share
    for file, size in zip(files, sizes):
        start = file.start
        if parts[-1] and len(parts) < workers and (room <= 0 or (file.compressed and room < size // 2)):
            parts.append([])
            room = share
        while not file.compressed and file.end - start > room and len(parts) < workers:
            cut = start + room
            found = file.text(cut, LONGEST_RECORD).find(b"\n")
            cut = cut + found + 1 if found >= 0 else file.end
            parts[-1].append(Stretch(file, start, cut))
            parts.append([])
            start, room = cut, share
        if start < file.end:
            parts[-1].append(Stretch(file, start, file.end))
            room -= size if file.compressed else file.end - start
    return [part for part in parts if part]


# What was proven.


class Proof:
    """What the heartbeat of a run proves: for which time no login can have been missed."""

    def __init__(self, store: Store, inventory: Inventory, ledgers: Mapping[str, Ledger], say: Say) -> None:
        self.store, self.inventory, self.say = store, inventory, say
        self.now, self.boot = inventory.taken_at, inventory.boot
        self.earlier = store.meta()  # the single facts as the last run left them
        # The logs in which the record of the heartbeat was found.
        self.found = {log: ledger for log, ledger in ledgers.items() if ledger.own_row}

    def keep(self) -> None:
        """Store the inventory, the heartbeat and what is watched by it."""
        store, inventory, earlier = self.store, self.inventory, self.earlier
        for lack in inventory.missing:
            self.say("WARN", lack)
        trouble = self._trouble()
        if trouble:
            self.say("WARN", f"nothing is watched: {trouble}")
        else:
            log, ledger = next(iter(self.found.items()))
            store.replace("heartbeat", self._add_beat(log, ledger))
            ledger.lost.clear()
            store.set(first_heartbeat=earlier.get("first_heartbeat") or self.now, doubt="")
        self._keep_statistics()
        store.put_inventory(inventory, self.now)
        blind = "; ".join(audit_problems(inventory.settings))
        reason = blind or earlier.get("audit_blind")
        if reason:
            store.add_gap(earlier.get("inventory_at") or self.now, self.now, reason)
        store.set(heartbeat_error=trouble, origins=json.dumps(dict(inventory.origins)), audit_blind=blind)

    def _trouble(self) -> str:
        """Return why the heartbeat proves nothing, or ''."""
        instants = [ledger.own_row[1] for ledger in self.found.values() if ledger.own_row]
        if not instants:
            log = self.inventory.settings.get("server_audit_current_log") or "another place"
            return (
                f"the inventory's own login (connection id {self.inventory.own_id}) is not in the log that is read;"
                f" the server writes to {log}: check AuditLogPath, TimeFormatAudit, and that server_audit_logging is ON"
                " and server_audit_events has CONNECT"
            )
        off = instants[0] - self.now
        if abs(off) > HEARTBEAT_SLACK:
            return f"the stamps of the log are {off / HOUR:+.1f} hours off the server's clock: check TimeLocationAudit"
        return ""

    def _add_beat(self, log: str, ledger: Ledger) -> list[Heartbeat]:
        """Hold the ids between the last heartbeats and this one against the log; return the heartbeats to keep."""
        mine = [beat for beat in self.store.heartbeats() if beat.log == log]
        same = [] if ledger.restarts else [beat for beat in mine if _same_start(beat.boot, self.boot)]
        same = [beat._replace(lost=beat.lost + ledger.lost[number]) for number, beat in enumerate(same)]
        doubt = self._settings_doubt(mine[-1]) if mine else ""
        if mine and not same and doubt:
            self.store.add_gap(mine[-1].at, self.now, doubt)
        elif mine and not same:
            self.store.add_watched(mine[-1].at, self.now, BY_SETTINGS, "the server was started again")
        beat = Heartbeat(self.inventory.own_id, self.now, self.boot, log, ledger.lost[len(same)], doubt)
        return self._prove([*same, beat], ledger)

    def _prove(self, beats: list[Heartbeat], ledger: Ledger) -> list[Heartbeat]:
        """Keep the times between heartbeats that are proven now; return the heartbeats that matter to the next run."""
        missing = ledger.runs[0].missing if ledger.runs else set()
        open_from = len(beats) - 1
        for place in range(len(beats) - 1, 0, -1):
            began, ended = beats[place - 1], beats[place]
            if ended.settings == "watched":
                continue
            unborne = ended.lost + sum(began.connection < number < ended.connection for number in missing)
            if not unborne and ledger.covers(began.connection, ended.connection):
                self.store.add_watched(began.at, ended.at, BY_IDS, "")
            elif not ended.settings:
                detail = "connection ids have no record: threads of the server, such as events, take ids as well"
                self.store.add_watched(began.at, ended.at, BY_SETTINGS, f"{unborne} {detail}")
            elif ended.at < self.now - HOUR:
                reason = f"{unborne} connections left no record that could be read; {ended.settings}"
                self.store.add_gap(began.at, ended.at, reason)
            else:
                open_from = place - 1
                continue
            beats[place] = ended._replace(settings="watched")
        return beats[open_from:]

    def _settings_doubt(self, last: Heartbeat) -> str:
        """Return why auditing was not provably on since the last heartbeat, or ''."""
        then, now, restarted = self.earlier, self.inventory.settings, not _same_start(last.boot, self.boot)
        origins = [json.loads(then.get("origins") or "{}"), self.inventory.origins]
        set_by_sql = [name for said in origins for name, origin in said.items() if origin == "SQL"]
        failed = [int(settings.get("server_audit_writes_failed") or 0) for settings in (then, now)]
        uninstalled = [str(settings.get("com_uninstall_plugin") or 0) for settings in (then, now)]
        doubts = {
            str(then.get("doubt")): then.get("doubt"),
            "settings of the audit plugin were set by SQL: " + ", ".join(dict.fromkeys(set_by_sql)): set_by_sql,
            "the server does not tell who set the audit plugin's settings": not all(origins),
            "the audit plugin failed to write records": failed[1] > (0 if restarted else failed[0]),
            "the records come by syslog or the journal, which may drop some": any(
                settings.get("server_audit_output_type", "").lower() == "syslog" for settings in (then, now)
            ),
            "a plugin was uninstalled": uninstalled[1] != ("0" if restarted else uninstalled[0]),
            "auditing is off": list(audit_problems(now)),
            "the server was started again, and it may have run without auditing in between": restarted
            and not self._short_restarts(),
        }
        return next((doubt for doubt, holds in doubts.items() if holds), "")

    def _short_restarts(self) -> bool:
        """Return whether the log shows the restarts, each so short that no other run of the server fits in between."""
        restarts = [restart for ledger in self.found.values() for restart in ledger.restarts]
        return bool(restarts) and all(
            (min(began, self.boot) if began == restarts[-1][1] else began) - stopped <= SHORT_RESTART
            for stopped, began in restarts
        )

    def _keep_statistics(self) -> None:
        """Hold the user statistics against those of the last inventory: whose counters moved was in use since then.

        Where they cover the whole time, they also answer who the nameless changes of user were to.
        """
        store, said, earlier = self.store, self.inventory.statistics, self.earlier
        if said is None:
            store.replace("statistic", ())
            store.set(statistics_at=None)
            store.resolve_changes(self.now, None)
            return
        known, since = store.statistics(), earlier.get("statistics_at")
        whole = since is not None and _same_start(earlier.get("statistics_boot") or 0, self.boot)
        whole = whole and all(user in said and not _went_back(counters, said[user]) for user, counters in known.items())
        if since is not None:
            moved = [user for user, counters in said.items() if _moved(known.get(user), counters)]
            store.add_evidence([("user statistics", user, b"", since, self.now) for user in moved])
        whole_since = earlier.get("statistics_since") if whole else None
        store.resolve_changes(self.now, whole_since)
        store.replace("statistic", said.items())
        store.set(statistics_at=self.now, statistics_boot=self.boot, statistics_since=whole_since or self.now)


def _moved(earlier: Optional[str], later: str) -> bool:
    """Return whether counters tell of use: a new row, or higher ones; lower ones began again and tell nothing."""
    return earlier is None or (earlier != later and not _went_back(earlier, later))


def _went_back(earlier: str, later: str) -> bool:
    """Return whether counters began again."""
    return any(float(a) > float(b) for a, b in zip(earlier.split(), later.split()))


# =====================================================================================================================
# PART TWO: what only reads the database
# =====================================================================================================================

# ---------------------------------------------------------------------------------------------------------------------
# Match: which account row did the server choose?
# ---------------------------------------------------------------------------------------------------------------------
#
# The rules are those of sql/sql_acl.cc (find_user_or_anon, acl_user_compare, compare_hostname, calc_ip) and
# sql/sql_acl_getsort.inl of MariaDB 10.5 to 11.8: the rows of the user and the anonymous ones are sorted by how
# specific their host patterns are, and the first that the client's name or address matches is chosen.  The log gives
# the client's host as the server showed it: the resolved name or, without a name, the address.  A name hides the
# address, so rows that an address may match, and that stand before the first row that the name matches, may have been
# chosen: a possible match only.


class Match(NamedTuple):
    """The rows that the server may have chosen for a login, most specific first.

    `certain` is true for exactly one row when nothing that the server knew is hidden from us.
    """

    rows: tuple[AccountRow, ...]
    certain: bool


def ipv4_number(text: bytes) -> Optional[int]:
    """Return a dotted IPv4 address as a number, None for anything else (sql/sql_acl.cc, calc_ip)."""
    parts = text.split(b".")
    if len(parts) != 4 or not all(part.isdigit() and int(part) < 256 for part in parts):
        return None
    return int.from_bytes(bytes(map(int, parts)), "big")


def is_address(host: bytes) -> bool:
    """Return whether a client host is an IP address: a host name has no colon and is not four numbers."""
    return b":" in host or ipv4_number(host) is not None


class HostPattern:
    """One host pattern of account rows, ready to be compared with client hosts."""

    def __init__(self, host: bytes) -> None:
        # Runs of `%`, single `_`, and characters, each after its backslash if it has one.
        self._parts = re.findall(r"%+|\\?.", host.lower().decode("latin-1"), re.DOTALL)
        parts = self._parts or ["%"]
        text = host.lower() or b"%"
        net, mask = (ipv4_number(part) for part in text.partition(b"/")[::2])
        # (network, mask) of `ip/netmask`; a zero mask makes none (sql_acl.cc, update_hostname).
        self.net = (net, mask) if net is not None and mask else None
        self.literal = self._like = None
        if any(part[0] in "%_" for part in parts):
            wildcards = {"%": "*", "_": "?"}
            globs = (wildcards.get(part[0]) or re.sub(r"[*?[]", r"[\g<0>]", part[-1]) for part in parts)
            # fnmatch's expressions never try a stretch twice, however many wildcards there are.
            self._like = re.compile(fnmatch.translate("".join(globs)).encode("latin-1"))
        elif not self.net:
            self.literal = re.sub(rb"\\(.)", rb"\1", text, flags=re.DOTALL)
        # The pattern without escapes; but a backslash stays before a literal `%` or `_`, which no address has.
        self._plain = re.sub(rb"\\([^%_])", rb"\1", text)
        # Such rows are ignored by a server with skip_name_resolve (sql_acl.cc, hostname_requires_resolving).
        self.needs_names = text != b"localhost" and not re.search(rb"[:%_/]|^[0-9.]*\Z", text)

    def rank(self, longest: int) -> tuple[int, int, int, int]:
        """Return what the server sorts host patterns by: the lower, the more specific; all zeros without a wildcard.

        `longest` is the width of the Host column in characters.  Source: sql/sql_acl_getsort.inl, get_magic_sort.
        """
        wild = [place for place, part in enumerate(self._parts) if part[0] in "%_"]
        prefix = wild[0] if wild else 0
        single = self._parts.count("_")
        many = len(wild) - single
        free = max(longest - len(self._parts) + many, 0) if many else 0
        many, single = min(many, 31), min(single, 31)
        return (free * 2 + 1, many, single, prefix) if free > single else (single * 2, free, many, prefix)

    def matches(self, host: bytes) -> bool:
        """Compare with a client's name or address in lower case (sql/sql_acl.cc, compare_hostname)."""
        if self.net:
            number = ipv4_number(host)
            return number is not None and number & self.net[1] == self.net[0]
        return self._like.match(host) is not None if self._like else host == self.literal

    def may_match_hidden_address(self) -> bool:
        """Return whether some client that has a name may match by its address; true when in doubt."""
        if self.net:
            return self.net[0] & self.net[1] == self.net[0]
        if self.literal is not None:
            # The name of these two is always localhost (sql/hostname.cc).
            return is_address(self.literal) and self.literal not in (b"127.0.0.1", b"::1")
        octet = rb"(?:25[0-5]|2[0-4]\d|1?\d?\d|[\d%_]*[%_][\d%_]*)"
        # An IPv6 address with a name is global (2000::/3), local (fc00::/7, fe80::/10) or NAT64's (64:ff9b::/96).
        ipv6 = rb"(?:[23:%_]|f[cd%_]|fe[89ab%_]|6[4%_])[0-9a-f:%_]*"
        return re.fullmatch(rb"%b(?:\.%b){0,3}|%b" % (octet, octet, ipv6), self._plain) is not None

    def within(self, other: "HostPattern") -> bool:
        """Return whether the other is a netmask that admits every address that this pattern admits."""
        if not other.net:
            return False
        octets = list(itertools.takewhile(bytes.isdigit, self._plain.split(b".")[:4]))
        around = sum(int(octet) << 24 - 8 * i for i, octet in enumerate(octets))
        net, mask = self.net or (around, -1 << 32 - 8 * len(octets))
        return mask & other.net[1] == other.net[1] and net & other.net[1] == other.net[0]


def _folded(name: bytes) -> str:
    text = unicodedata.normalize("NFD", name.decode("utf-8", "backslashreplace"))
    return "".join(char for char in text if not unicodedata.combining(char)).lower()


class AccountMatcher:
    """Finds the account rows for (user, client host) pairs of the log; rows are sorted once per user."""

    def __init__(
        self,
        rows: Iterable[AccountRow],
        skip_name_resolve: bool,
        server_version: str = "",
        appeared: Optional[Mapping[AccountRow, int]] = None,
        skip_since: int = 0,
    ) -> None:
        """Keep the accounts that are no roles.

        `appeared` holds the instant at which a row was first seen, for rows that an earlier inventory lacked:
        before that instant the server may have chosen the next row. Before `skip_since` the server may have
        resolved names, whatever it does now.
        """
        self._skip_name_resolve, self._skip_since = skip_name_resolve, skip_since
        self._appeared = appeared or {}
        old = re.match(r"(?:5|10\.[0-5])\b", server_version) is not None
        self._longest_host = 60 if old else 255
        # From 12.0.1 on the end of a bare IPv6 address may be a port.
        self._ports = re.match(r"(?:5|10|11)\.", server_version) is None
        self._by_user: dict[bytes, list[AccountRow]] = {}
        self._by_folded: dict[str, list[AccountRow]] = {}
        for row in rows:
            self._by_user.setdefault(row.user, []).append(row)
            self._by_folded.setdefault(_folded(row.user), []).append(row)
        self._pattern = functools.cache(HostPattern)
        # The audit plugin cuts a long name: it logs the first bytes, then the length's low byte.
        cut, long = (64, 64) if old else (132, 133)
        self._logged_as: dict[bytes, list[bytes]] = {}
        for user in sorted(self._by_user):
            if len(user) >= long:
                self._logged_as.setdefault(user[:cut] + bytes([len(user) & 255]), []).append(user)
        self._sorted: dict[bytes, list[tuple[AccountRow, HostPattern, bool]]] = {}

    def match(self, user: bytes, client_host: bytes, seen: Optional[int] = None) -> Match:
        """Return the rows for a login at the instant `seen`; an empty client host stands for any host."""
        long_names, hosts = self._logged_as.get(user, []), [client_host.lower()]
        address, _, last = hosts[0].rpartition(b":")
        if self._ports and last.isdigit() and (b"::" in address or address.count(b":") == 7):
            hosts.append(address)
        asked = itertools.product((*long_names, user), hosts)
        rows = dict.fromkeys(row for name, host in asked for row in self._possible(name, host, seen))
        return Match(tuple(rows), len(rows) == 1 and not long_names)

    def named(self, user: bytes) -> Match:
        """Return the rows of a user name as the user statistics fold it: letter case and accents do not count there."""
        rows = self._by_folded.get(_folded(user), ())
        return Match(tuple(rows), len(rows) == 1)

    def _possible(self, user: bytes, host: bytes, seen: Optional[int]) -> Iterator[AccountRow]:
        """Yield the rows that may have been chosen, up to the first that would surely have been."""
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
        """Return the user's and the anonymous rows as the server sorts them, and if a hidden address may reach each."""
        if user in self._sorted:
            return self._sorted[user]
        rows = self._by_user.get(user, []) + (self._by_user.get(b"", []) if user else [])
        # Equal ones go by the pattern's text, backwards; the anonymous row wins only if it is strictly more specific.
        rows.sort(reverse=True)
        rows.sort(key=lambda row: (self._pattern(row.host).rank(self._longest_host), not row.user))
        candidates = self._sorted[user] = []
        hosts: set[bytes] = set()
        nets: list[HostPattern] = []
        for row in rows:
            pattern = self._pattern(row.host)
            covered = row.host in hosts or any(map(pattern.within, nets))
            candidates.append((row, pattern, not covered and pattern.may_match_hidden_address()))
            if row not in self._appeared:
                hosts.add(row.host)
                if pattern.net:
                    nets.append(pattern)
        return candidates


def load_accounts_file(path: str, now: int) -> Inventory:
    """Read the list of accounts given by `--accounts FILE` (JSON); `now` in epoch seconds.

    Raises InventoryError that names the file.
    """
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        server, listed = _member(data, "server", dict, {}), _member(data, "accounts", list)
        version, skip = _member(server, "version", str, ""), _member(server, "skip_name_resolve", bool, False)
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
    user, host = _member(item, "user", str), _member(item, "host", str)
    plugin, since = _member(item, "plugin", str, ""), _member(item, "known_since", str, "")
    is_role = _member(item, "is_role", bool, False)
    locked, expired = _member(item, "locked", bool, None), _member(item, "expired", bool, None)
    host = "" if is_role else host.lower() or "%"
    known_since = _instant(since) if since else None
    return Account(user.encode(), host.encode(), is_role, locked, expired, plugin, known_since)


def _member(data: Any, name: str, kind: type, default: Any = ...) -> Any:
    """Return a member of a JSON object; null counts as absent, which is an error if there is no default."""
    if not isinstance(data, dict):
        raise InventoryError("an object {...} is needed")
    value = data.get(name)
    if value is None and default is ...:
        raise InventoryError(f"'{name}' is missing")
    if value is not None and not isinstance(value, kind):
        raise InventoryError(f"'{name}' must be a {kind.__name__}, not {type(value).__name__}")
    return default if value is None else value


def _instant(text: str) -> int:
    """Read an ISO 8601 instant that states its zone, as epoch seconds."""
    with contextlib.suppress(ValueError):
        stamp = _date(text)
        if stamp and stamp.tzinfo:
            return int(stamp.timestamp())
    raise InventoryError(f"'known_since' must be like 2026-01-31T00:00:00Z, not {visible_text(text)}")


# ---------------------------------------------------------------------------------------------------------------------
# Assessment: which accounts may go, and why
# ---------------------------------------------------------------------------------------------------------------------

# Older than this, an inventory or a run no longer tells the present state.
FRESH_SECONDS = 2 * DAY
# Stamps may be this far ahead of our clock (another clock, an hour of daylight saving) before we doubt them.
CLOCK_SLACK = HOUR
SYSTEM_USERS = frozenset({b"root", b"mysql", b"mariadb.sys"})
STATED = "stated by the operator"


class Evidence(NamedTuple):
    """What tells that an account was used; instants in epoch seconds, `host` the client's host.

    Of kind 'proxied' user and host are those of the account row that was acted as; 'user statistics' have no host.
    Of kind 'change user' or 'open session' an empty host means that the client's host is not known.  `certain` is
    false where it may have been another account's use.
    """

    kind: str
    user: bytes
    host: bytes
    first_seen: Optional[int]
    last_seen: int
    certain: bool = True


class Suspect(NamedTuple):
    """A record that may be forged or torn: it proves nothing, but the account is not called removable."""

    user: bytes
    host: bytes
    seen: int


class Watched(NamedTuple):
    """A stretch of time in which no login was missed, and what proves it."""

    began: int
    ended: int
    proof: str
    detail: str = ""


class Knowledge(NamedTuple):
    """Everything the verdict rests on, as stored; instants in epoch seconds, None if never.

    `source` is 'server', 'file' or 'none' (no inventory was ever taken).  `appeared` holds the accounts that an
    earlier inventory lacked, `skip_since` is the instant at which skip_name_resolve was last changed.
    """

    source: str = "none"
    accounts: tuple[Account, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    gaps: tuple[Gap, ...] = ()
    watched: tuple[Watched, ...] = ()
    proxies: tuple[Proxy, ...] = ()
    definers: Optional[Mapping[AccountRow, int]] = None
    appeared: Mapping[AccountRow, int] = {}
    skip_since: int = 0
    settings: Mapping[str, str] = {}
    tracking_since: Optional[int] = None
    last_record: Optional[int] = None
    first_heartbeat: Optional[int] = None
    pending: bool = False  # whether the time before the last heartbeat still waits for its proof
    last_run: Optional[int] = None
    last_error: str = ""
    inventory_at: Optional[int] = None
    inventory_error: str = ""
    heartbeat_error: str = ""
    sessions_complete: bool = False
    own_account: Optional[AccountRow] = None
    topology: Topology = Topology()
    unparsed: int = 0


class Terms(NamedTuple):
    """The user's terms of a verdict."""

    days: int = 90  # of the window
    excludes: tuple[str, ...] = ()  # patterns of accounts to keep
    stated_since: Optional[int] = None  # all logins since this instant are in the logs, by the operator's word
    tolerated: int = 0  # seconds of the window that may be unwatched
    drop_after: int = 30  # days that an account is locked before it may be dropped
    ignored: tuple[str, ...] = ()  # names of servers that never serve clients

    def start(self, now: int) -> int:
        """Return the instant at which the window begins."""
        return now - self.days * DAY

    def ignores(self, name: str) -> bool:
        """Return whether a server never serves clients."""
        return name.lower() in map(str.lower, self.ignored)


USUAL = Terms()


def terms_of(config: Config) -> Terms:
    """Return the terms that the options give."""
    return Terms(
        days=config.days,
        excludes=config.exclude,
        stated_since=config.stated_since,
        tolerated=config.tolerate_holes * 60,
        drop_after=config.drop_after,
        ignored=config.replicas_ignored,
    )


class AccountVerdict(NamedTuple):
    """The answer for one account; `removable` means: stale or never, and nothing speaks against it.

    `evidence` are the kinds of record that tell of use, `client_hosts` those that used it, newest first.
    `droppable`, whatever the verdict: it was locked long enough, watched all the time, and nobody asked for it;
    `stage` says in words how a locked account stands.  `servers` of its `group` have it, `last_server` saw the last
    use; they are empty for a server alone.
    """

    account: Account
    verdict: str
    removable: bool
    last_seen: Optional[int]
    first_seen: Optional[int]
    last_seen_certain: bool
    evidence: tuple[str, ...]
    client_hosts: tuple[bytes, ...]
    keep_reasons: tuple[str, ...]
    reasons: tuple[str, ...]
    droppable: bool = False
    stage: str = ""
    group: str = ""
    servers: tuple[str, ...] = ()
    last_server: Optional[str] = None

    @property
    def name(self) -> str:
        """The account as user@host, made visible."""
        return visible_account(self.account.row)


def visible_account(row: AccountRow) -> str:
    """Return an account as user@host, fit to be shown."""
    return f"{visible(row.user)}@{visible(row.host)}"


def uncovered(at: int, stretches: Iterable[tuple[int, int]], ended: int, slack: int = 0) -> Iterator[tuple[int, int]]:
    """Yield what no stretch covers between two instants; the stretches come in order.

    A last part of up to `slack` seconds is not yielded.
    """
    for began, until in stretches:
        if began > at:
            yield at, began
        at = max(at, until)
    if ended - at > slack:
        yield at, ended


class Coverage:
    """For which part of the window it is shown that no login was missed."""

    def __init__(self, knowledge: Knowledge, now: int, terms: Terms) -> None:
        self.now, self.start, self.gaps = now, terms.start(now), knowledge.gaps
        asked = knowledge.source == "server"
        self.stated: list[Watched] = []
        first = knowledge.first_heartbeat if asked else knowledge.last_run
        if terms.stated_since is not None and first is not None and knowledge.source != "none":
            lost = [gap[:2] for gap in self.gaps if gap.began < first]
            self.stated = [Watched(*span, STATED) for span in uncovered(terms.stated_since, lost, first)]
        self.intervals = sorted([*(knowledge.watched if asked else ()), *self.stated])
        # The time since the last proof is no hole: the next run will prove it.  Unless one could not, or not yet.
        proven_until = max((one.ended for one in self.intervals), default=0)
        doubted = asked and (knowledge.pending or any(gap.ended > proven_until for gap in self.gaps))
        self._slack = 0 if doubted else FRESH_SECONDS
        self.holes = self.holes_since(self.start)
        self.unwatched = sum(hole.ended - hole.began for hole in self.holes)  # seconds
        # Whether the window is watched, but for what the user tolerates.
        self.is_whole = bool(self.intervals) and self.unwatched <= terms.tolerated
        # The share of the window that is watched, and that which is by the operator's word.
        self.share = max(0.0, 1 - self.unwatched / (now - self.start)) if self.intervals else 0.0
        stated = sum(max(0, one.ended - max(one.began, self.start)) for one in self.stated)
        self.stated_share = stated / (now - self.start)

    def holes_since(self, start: int) -> list[Gap]:
        """Return the times since an instant that are not watched, and why."""
        holes = []
        for began, ended in uncovered(start, [one[:2] for one in self.intervals], self.now, self._slack):
            reasons = dict.fromkeys(gap.reason for gap in self.gaps if gap.began < ended and gap.ended > began)
            holes.append(Gap(began, ended, "; ".join(reasons)))
        return holes


class Report(NamedTuple):
    """The verdicts on a server's accounts and what they rest on.

    `problems` forbid to call accounts unused, `notes` tell.  Of the problems, `lacks` says which servers of its
    `group` are missing; a server that is `ignored` serves no clients.
    """

    now: int
    terms: Terms
    knowledge: Knowledge
    coverage: Coverage
    accounts: tuple[AccountVerdict, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    name: str = ""
    group: str = ""
    ignored: bool = False

    @property
    def own_problems(self) -> list[str]:
        """The problems, but for other servers that are missing."""
        return [problem for problem in self.problems if problem not in self.lacks]


def counts_of(accounts: Iterable[AccountVerdict]) -> Mapping[str, int]:
    """Return the number of accounts of each verdict; roles are none."""
    return Counter(item.verdict for item in accounts if not item.account.is_role)


def removable(accounts: Iterable[AccountVerdict]) -> list[AccountVerdict]:
    """Return the accounts that may go."""
    return [item for item in accounts if item.removable]


def only(accounts: Iterable[AccountVerdict], verdicts: Sequence[str]) -> tuple[AccountVerdict, ...]:
    """Return the accounts with one of these verdicts; none given keeps all."""
    return tuple(item for item in accounts if not verdicts or item.verdict in verdicts)


def assess(knowledge: Knowledge, now: int, terms: Terms = USUAL, lacks: Optional[Sequence[str]] = None) -> Report:
    """Return the verdict on every account; `now` in epoch seconds.

    `lacks` says which servers that share its accounts are not known; None: no other is given.
    """
    lacks = lacking([knowledge], now, terms) if lacks is None else lacks
    if not knowledge.accounts:
        # Without any inventory the names of the log are shown, with the client's host in place of a host pattern.
        logins = (item for item in knowledge.evidence if item.kind in ("login", "imported", "proxied"))
        accounts = dict.fromkeys(Account(item.user, item.host) for item in logins)
        knowledge = knowledge._replace(accounts=tuple(accounts))
    case = _Assessment(knowledge, now, terms, lacks)
    verdicts = tuple(sorted(map(case.account, knowledge.accounts), key=_most_actionable))
    problems, notes = tuple(case.problems), tuple(case.notes())
    return Report(now, terms, knowledge, case.coverage, verdicts, problems, notes, tuple(lacks))


def _most_actionable(item: AccountVerdict) -> tuple[Any, ...]:
    order = VERDICTS.index(item.verdict)
    return (item.account.is_role, not item.removable, order, item.last_seen or 0, item.account.row)


# Why the absence of logins would prove nothing: of the tracker, the inventory and the server's settings.


def _tracking_problems(knowledge: Knowledge, now: int) -> Iterator[str]:
    until = knowledge.last_run
    if knowledge.tracking_since is None or until is None:
        yield "nothing was tracked yet" + _why(knowledge.last_error)
        return
    if now - until > FRESH_SECONDS:
        yield f"the last successful run was {_day(until)}" + _why(knowledge.last_error)
    if until > now + CLOCK_SLACK:
        yield f"the last run is stamped in the future, {_day(until)}: the clock is not to be trusted"


def _coverage_problems(knowledge: Knowledge, coverage: Coverage, terms: Terms) -> Iterator[str]:
    if coverage.is_whole or knowledge.source == "none":
        return
    if not coverage.intervals:
        needed = "two inventories whose own logins are found in the log"
        if knowledge.source == "file":
            needed = "Inventory, or WatchedSince"
        yield f"nothing of the window is proven to be watched (that takes {needed}){_why(knowledge.heartbeat_error)}"
        return
    last_hole, tracked = coverage.holes[-1], knowledge.tracking_since
    since, days = _day(last_hole.ended), (coverage.now - last_hole.ended) // DAY
    reach = f", nor in the logs before, which reach back to {_day(tracked)}" if tracked else ""
    # Your word counts up to the first heartbeat.
    helps = terms.stated_since is None and last_hole.began < (knowledge.first_heartbeat or coverage.now)
    word = ", or now by WatchedSince if your word covers it" if helps else ""
    when = f"can be decided on {_day(last_hole.ended + terms.days * DAY)}{word}"
    yield f"watched without a hole for {days} days, since {since}: not seen in these{reach}; {when}"
    for hole in coverage.holes[-3:]:
        yield f"not watched from {_minute(hole.began)} to {_minute(hole.ended)}" + _why(hole.reason)


def inventory_problems(knowledge: Knowledge, now: int) -> Iterator[str]:
    """Yield why the list of accounts is not to be relied on."""
    taken, why = knowledge.inventory_at, _why(knowledge.inventory_error)
    if knowledge.source == "none" or taken is None:
        yield "the server was never asked for its accounts" + why
    elif knowledge.source == "server":
        if why:
            yield "the last inventory failed" + why
        if knowledge.heartbeat_error:
            yield f"the last inventory proved nothing{_why(knowledge.heartbeat_error)}"
        if abs(now - taken) > FRESH_SECONDS:
            yield f"the inventory is of {_day(taken)}"
        if not knowledge.sessions_complete:
            yield "other accounts' open sessions are not visible (needed: GRANT PROCESS ON *.*)"


def audit_problems(settings: Mapping[str, str]) -> Iterator[str]:
    """Yield why the server's settings let no login be seen now."""
    if settings.get("audit_plugin") != "ACTIVE":
        yield "the audit plugin is not active on the server"
        return
    if settings.get("server_audit_logging", "").upper() != "ON":
        yield "server_audit_logging is OFF"
    elif settings.get("server_audit_active", "ON").upper() != "ON":
        yield "the audit plugin cannot write its log (Server_audit_active is OFF)"
    events = settings.get("server_audit_events", "").upper().replace(" ", "")
    if events and "CONNECT" not in events.split(","):
        yield f"server_audit_events is {visible_text(events)}: logins are not logged"


def _unproven(coverage: Coverage) -> Iterator[str]:
    """Yield what counts as watched without a proof."""
    if coverage.holes and coverage.is_whole:
        yield f"{coverage.unwatched // 60} minutes of the window were not watched; that is tolerated (TolerateHoles)"
    if coverage.stated:
        began, ended = coverage.stated[0].began, coverage.stated[-1].ended
        yield f"watched from {_day(began)} to {_day(ended)}: {STATED} (WatchedSince)"


def _why(reason: str) -> str:
    return f" ({visible_text(reason)})" if reason else ""


class _Assessment:
    """One pass over all accounts: the evidence laid on the account rows, then row by row the verdict."""

    def __init__(self, knowledge: Knowledge, now: int, terms: Terms, lacks: Sequence[str]) -> None:
        self.knowledge, self.now, self.terms = knowledge, now, terms
        self.start = terms.start(now)
        self.coverage = Coverage(knowledge, now, terms)
        self.unproven = [*_unproven(self.coverage)]
        # Why it is not known how things stand now.
        self.blind = [*lacks, *_tracking_problems(knowledge, now), *inventory_problems(knowledge, now)]
        if knowledge.source == "server":
            self.blind += audit_problems(knowledge.settings)
        self.problems = [*self.blind, *_coverage_problems(knowledge, self.coverage, terms)]
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
            if item.kind not in ("change user", "recent change"):
                self._lay_on_rows(item)
            elif item.last_seen >= self.start:
                self._nameless.append(item)
        for account, proxied in knowledge.proxies:
            # A session that acts for another account shows under its own name: it may be the use of both.
            for item in tuple(self._use.get(account, ())):
                if item.kind.endswith("open session"):
                    acting = item._replace(kind="possible open session", certain=False)
                    self._use.setdefault(proxied, []).append(acting)
        self._changes: dict[bytes, dict[AccountRow, Evidence]] = {}
        suspects = (item for item in knowledge.suspects if item.seen >= self.start)
        self._suspected = {row for item in suspects for row in self._rows(*item).rows}

    def notes(self) -> Iterator[str]:
        """Yield what was not checked, does not fit together, or was seen in passing."""
        knowledge = self.knowledge
        if knowledge.source == "file":
            yield "accounts taken from a file; not checked: open sessions, definers, audit settings"
        elif knowledge.source == "none":
            yield "no list of accounts: the hosts shown are the clients', and accounts never seen are not listed"
        elif knowledge.definers is None:
            yield "not checked: definers of routines, views, triggers and events"
        if self.unmatched:
            yield f"logins of {self.unmatched} (user, client host) pairs match no account that exists now"
        for pattern in self.terms.excludes:
            if not any(excluded(account.row, pattern) for account in knowledge.accounts):
                yield f"the exclude pattern {visible_text(pattern)} matches no account"
        if self.terms.ignored:
            ignored = visible_text(", ".join(self.terms.ignored))
            yield f"not needed, as they serve no clients (ReplicasIgnored): {ignored}"
        yield from self.unproven
        yield from sorted({one.detail for one in self.coverage.intervals if one.detail and one.ended > self.start})[:3]

    def _rows(self, user: bytes, host: bytes, seen: int) -> Match:
        if self.knowledge.source == "none":
            return Match((AccountRow(user, host),), True)
        return self._matcher.match(user, host, seen)

    def _lay_on_rows(self, item: Evidence) -> None:
        """Note the evidence for every account row that it may tell of."""
        kind, user, host, first, last, _ = item
        if kind == "proxied":
            rows, certain = Match((AccountRow(user, host),), True)
            host = b""
        elif kind == "user statistics":
            rows, certain = self._matcher.named(user)
        else:
            rows, certain = self._rows(user, host, last)
            self.unmatched += not rows
        if kind in ("imported", "earlier session", "changed user", "proxied"):
            # The Go program also counted lines that were no logins; and a record that is not that of a login may be
            # forged: others bear its connection id as well.
            certain = False
        elif not certain:
            kind = f"possible {kind}"
        if self.now < last <= self.now + CLOCK_SLACK:
            last = self.now
        for row in rows:
            self._use.setdefault(row, []).append(Evidence(kind, user, host, first, last, certain))

    def account(self, account: Account) -> AccountVerdict:
        """Assess one account."""
        seen = sorted(self._use.get(account.row, ()), key=lambda item: item.last_seen, reverse=True)
        past = [item for item in seen if item.last_seen <= self.now]
        verdict, reasons = self._verdict(account, seen, past)
        keep = self._keep_reasons(account)
        droppable, stage = self._stage(account, seen, keep)
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
            droppable=droppable,
            stage=stage,
        )

    def _verdict(self, account: Account, seen: list[Evidence], past: list[Evidence]) -> tuple[str, list[str]]:
        last_use = _use_in_words(past[0]) if past else ""
        if past and past[0].last_seen >= self.start:
            return "active", [last_use]
        doubts = [*self._doubts(account, seen), *self.problems]
        if past and past[0].last_seen >= self.start - HOUR:
            doubts.insert(0, "its last session may have lasted into the window")
        if doubts:
            return "unknown", doubts
        if past:
            return "stale", [f"no use since {_day(self.start)}, all of it watched; {last_use}", *self.unproven]
        since = min(self.start, self.knowledge.tracking_since or self.start)
        return "never", [f"no use since {_day(since)}, the window all watched", *self.unproven]

    def _doubts(self, account: Account, seen: list[Evidence]) -> Iterator[str]:
        """Yield why this account, without use in the window, cannot be called unused."""
        if account.is_role:
            yield "a role cannot log in"
        if seen and seen[0].last_seen > self.now:
            yield f"a record of it is stamped in the future, {_day(seen[0].last_seen)}"
        known = account.known_since
        # A login before the window proves that the account is that old, unless it came (back) since.
        old = account.row not in self.knowledge.appeared and any(item.certain for item in seen)
        # Without a proof for the window, that stands once, above all accounts.
        told = self.coverage.is_whole or account.row in self.knowledge.appeared
        if (known is None or known > self.start) and not old and (told or not self.problems):
            since = "now" if known is None else _day(known)
            decided = (known or self.now) + self.terms.days * DAY
            yield f"the account is known only since {since}: it can be decided on {_day(decided)}"
        change = self._nameless_changes(account.user).get(account.row)
        if change:
            client = visible(change.host) or "an unknown host"
            when = _day(change.last_seen)
            yield f"a session from {client} changed its user {when}, the log does not say to whom (userstat would tell)"

    def _nameless_changes(self, user: bytes) -> Mapping[AccountRow, Evidence]:
        """Return a change of user that each of the user's rows admits, and that may have been to it."""
        if user not in self._changes:
            matches = ((item, self._rows(user, item.host, item.last_seen)) for item in reversed(self._nameless))
            self._changes[user] = {row: item for item, match in matches for row in match.rows}
        return self._changes[user]

    def _keep_reasons(self, account: Account) -> tuple[str, ...]:
        knowledge, row = self.knowledge, account.row
        objects = (knowledge.definers or {}).get(row, 0)
        reasons = {
            "role": account.is_role,
            "system account": account.user in SYSTEM_USERS,
            "conntracker's own account": knowledge.own_account == row,
            f"definer of {_number_of(objects, 'object')}": objects,
            "excluded": any(excluded(row, pattern) for pattern in self.terms.excludes),
            "named by a suspect record": row in self._suspected,
            "the server was not asked": knowledge.source != "server",
            "definers not known": knowledge.source == "server" and knowledge.definers is None,
        }
        return tuple(reason for reason, holds in reasons.items() if holds)

    def _stage(self, account: Account, seen: list[Evidence], keep: tuple[str, ...]) -> tuple[bool, str]:
        """Return whether a locked account may be dropped, and how it stands in words."""
        since = account.locked_since
        if not account.locked or since is None:
            return False, ""
        asked = [item for item in seen if item.last_seen >= since]
        days = (self.now - since) // DAY
        stage = f"locked {days} days"
        if asked:
            clients = len({item.host for item in asked})
            stage += f", asked for from {_number_of(clients, 'client')}, last {_use_in_words(asked[0])}"
        watched = bool(self.coverage.intervals) and not self.coverage.holes_since(since)
        change = self._nameless_changes(account.user).get(account.row)
        wanted = bool(asked or keep or (change and change.last_seen >= since))
        return days >= self.terms.drop_after and watched and not wanted and not self.blind, stage


def excluded(row: AccountRow, pattern: str) -> bool:
    """Return whether a pattern (user or user@host, wildcards * and ?) names the account; a user may hold an @."""
    user, at, host = pattern.rpartition("@")
    return _like(row.user, pattern) or (bool(at) and _like(row.user, user) and _like(row.host.lower(), host.lower()))


def _like(name: bytes, pattern: str) -> bool:
    # fnmatch has `[...]` too, which is a plain character in account names.
    wanted = pattern.replace("[", "[[]").encode("utf-8", "surrogateescape").decode("latin-1")
    return fnmatch.fnmatchcase(name.decode("latin-1"), wanted)


def _use_in_words(item: Evidence) -> str:
    client = f" from {visible(item.host)}" if item.host else ""
    other = "" if item.certain else f" as {visible(item.user) or 'anonymous'}"
    return f"{item.kind} {_day(item.last_seen)}{client}{other}"


def _number_of(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _day(instant: Optional[int]) -> str:
    return utc(instant)[:10]


def _minute(instant: Optional[int]) -> str:
    return utc(instant)[:16].replace("T", " ") or "never"


# ---------------------------------------------------------------------------------------------------------------------
# Fleet: one answer over several servers
# ---------------------------------------------------------------------------------------------------------------------
#
# Servers share their accounts by replication, or as nodes of a Galera cluster: an account of theirs is unused only if
# each of them was watched and none saw it.  A replica is known to its primary by the server id that it names; a
# primary knows its replicas only by the hosts that read its binary log, so they are counted; nodes of a cluster bear
# its state UUID.  Who is not among the databases given stands against every account, by name.

_ADDRESS = re.compile("[0-9.]+|.*:.*")


def server_name(knowledge: Knowledge) -> str:
    """Return a server's name, with its port if that is an odd one, made visible; '' if it is not known."""
    setting = knowledge.settings.get
    port = setting("port", "3306")
    name = visible_text(setting("hostname", ""))
    return f"{name}:{port}" if name and port != "3306" else name


def lacking(given: Sequence[Knowledge], now: int, terms: Terms) -> list[str]:
    """Return in words the servers that share accounts with those given, and are not among them."""
    serving = [one for one in given if not terms.ignores(server_name(one))]
    if not serving:
        return [f"{server_name(one)} serves no clients (ReplicasIgnored), so the others decide" for one in given]
    lacks: list[str] = []
    for one in serving:
        lacks += _lacking_sources(one, given, terms)
        lacks += _lacking_replicas(one, [other for other in serving if other is not one], terms.start(now), terms)
        lacks += _lacking_nodes(one, given, terms.start(now), terms)
    return lacks


def _lacking_sources(one: Knowledge, given: Sequence[Knowledge], terms: Terms) -> Iterator[str]:
    name, sources = server_name(one), one.topology.sources
    if sources is None:
        yield f"{name} replicates, it is not known from where (needed: {_NEEDED['replication']})"
    for source in sources or ():
        known = any(other is not one and other.settings.get("server_id") == source.server_id for other in given)
        names = source.host, f"{source.host}:{source.port}"
        if not known and not any(map(terms.ignores, names)):
            yield _missing(f"{names[1]}, the primary of {name},")


def _lacking_replicas(one: Knowledge, others: Sequence[Knowledge], start: int, terms: Terms) -> Iterator[str]:
    """Yield how many of a primary's replicas are missing: of those connected, and of those seen within the window.

    `others` are the servers given that serve clients.
    """
    seen = {host for host, at in one.topology.replicas.items() if at >= start and not terms.ignores(host)}
    connected = [host for host in one.topology.connected if not terms.ignores(host)]
    number = one.settings.get("server_id")
    replicas = (other.topology for other in others if other.topology.running)
    running = sum(any(source.server_id == number for source in replica.sources or ()) for replica in replicas)
    # Those not connected any more may replicate from another server of the group by now.
    names = {_first_label(other.settings.get("hostname", "")) for other in others}
    strangers = sorted(host for host in seen if _first_label(host) not in names)
    gone = [host for host in strangers if host not in connected and not _ADDRESS.fullmatch(host)]
    lack = max(len(connected) - running, len(seen) - len(others), len(gone))
    if lack > 0:
        hosts, name = strangers or sorted(seen), server_name(one)
        who = f"{lack} of the {max(len(connected), len(seen))} replicas of {name} ({', '.join(hosts)})"
        if lack == len(hosts):
            who = f"{', '.join(hosts)}, {'a replica' if lack == 1 else 'replicas'} of {name},"
        yield _missing(who, lack)


def _first_label(host: str) -> str:
    """Return a host name without its domain, and an address as it is."""
    return host if _ADDRESS.fullmatch(host) else host.partition(".")[0].lower()


def _lacking_nodes(one: Knowledge, given: Sequence[Knowledge], start: int, terms: Terms) -> Iterator[str]:
    size = max((int(nodes) for nodes, at in one.topology.nodes.items() if at >= start), default=0)
    addresses = one.settings.get("wsrep_incoming_addresses", "").split(",")
    by_address = sum(terms.ignores(address.rpartition(":")[0]) for address in addresses)
    mine = [other for other in given if other.topology.cluster == one.topology.cluster]
    by_name = sum(terms.ignores(server_name(other)) for other in mine)
    size -= max(by_address, by_name)
    lack = size - (len(mine) - by_name)
    if lack > 0:
        yield _missing(f"{lack} of the {size} nodes of the Galera cluster of {server_name(one)}", lack)


def _missing(who: str, count: int = 1) -> str:
    them, its = ("is", "its database") if count == 1 else ("are", "their databases")
    return f"{who} {them} missing: give {its} as well (--from, same Group), or name it in ReplicasIgnored"


def replication_of(knowledge: Knowledge) -> str:
    """Return in words with which servers a server shares its accounts."""
    topology = knowledge.topology
    words = [f"replica of {source.host}:{source.port}" for source in topology.sources or ()]
    words += ["replica"] * (topology.sources is None)
    if topology.connected:
        words.append(f"primary of {', '.join(dict.fromkeys(topology.connected))}")
    nodes = list(filter(None, knowledge.settings.get("wsrep_incoming_addresses", "").split(",")))
    words += [f"one of {len(nodes)} Galera nodes"] * bool(nodes)
    return ", ".join(words)


class Database(NamedTuple):
    """What one database holds, and whose it is: a name that no other server of the report has, and its group.

    `ignored` is what ReplicasIgnored was when it last collected.
    """

    name: str
    group: str
    knowledge: Knowledge
    ignored: tuple[str, ...] = ()
    note: str = ""


class Fleet(NamedTuple):
    """One answer over servers; `missing` are the names of those without a database, by group; '' is every group."""

    now: int
    terms: Terms
    servers: tuple[Report, ...]
    accounts: tuple[AccountVerdict, ...]
    sentence: str
    groups: Mapping[str, list[Report]]  # the servers that serve clients
    missing: Mapping[str, str] = {}

    @property
    def serving(self) -> list[Report]:
        """The servers that serve clients."""
        return [one for one in self.servers if not one.ignored]

    @property
    def lacks(self) -> list[str]:
        """Which servers are missing, in words."""
        return list(dict.fromkeys(lack for one in self.serving for lack in one.lacks))

    @property
    def problems(self) -> list[str]:
        """What stands against it: servers that are missing, then what is wrong with each."""
        own = (f"{one.name}: {problem}" for one in self.serving for problem in one.own_problems)
        return list(dict.fromkeys([*self.lacks, *own]))


def load_databases(paths: Iterable[str], config: Config) -> list[Database]:
    """Return what databases, or folders of them, hold; of two databases of one server the newer one counts."""
    files: list[str] = []
    for path in paths:
        files += sorted(glob.glob(f"{glob.escape(path)}/*.sqlite")) if os.path.isdir(path) else [path]
    if not files:
        raise DatabaseError(f"{', '.join(paths)}: no database there: name files, or folders with *.sqlite in them")
    newest: dict[tuple[str, ...], Database] = {}
    for path in files:
        if not os.path.exists(path):
            raise DatabaseError(f"{path}: no such database")
        store = Store(path, config.time_format_db, config.time_location, write=False)
        one = database_of(store, store.knowledge(), visible_text(os.path.basename(path)))
        identity = tuple(one.knowledge.settings.get(key, "") for key in ("hostname", "port", "datadir", "server_id"))
        key = identity if any(identity) else (path,)
        if key in newest:
            one = max(newest[key], one, key=lambda database: database.knowledge.last_run or 0)
            one = one._replace(note="an older database of it was left out")
        elif one.name in {other.name for other in newest.values()}:
            one = one._replace(name=f"{one.name} ({visible_text(path)})")
        newest[key] = one
    return list(newest.values())


def database_of(store: Store, knowledge: Knowledge, otherwise: str) -> Database:
    """Return what a database holds, under the server's name if that is known."""
    name = server_name(knowledge) or otherwise
    return Database(name, store.get("server_group") or name, knowledge, _list(store.get("replicas_ignored") or ""))


def judge(databases: Sequence[Database], missing: Mapping[str, str], now: int, terms: Terms) -> Fleet:
    """Return one verdict on each account of each group of servers."""
    servers: list[Report] = []
    groups: dict[str, list[Report]] = {}
    accounts: list[AccountVerdict] = []
    terms = terms._replace(ignored=(*terms.ignored, *(name for one in databases for name in one.ignored)))
    for group in dict.fromkeys(one.group for one in databases):
        mine = [one for one in databases if one.group == group]
        absent = (name for name, of in missing.items() if of in ("", group) and not terms.ignores(name))
        lacks = [f"{name} is missing: no database of it was given" for name in absent]
        lacks += lacking([one.knowledge for one in mine], now, terms)
        for one in mine:
            if len(mine) > 1 and not terms.ignores(one.name):
                # It may have seen accounts used that it does not list.
                problems = (*_tracking_problems(one.knowledge, now), *inventory_problems(one.knowledge, now))
                lacks += [f"{one.name}: {problem}" for problem in problems]
        judged = []
        for one in mine:
            report = assess(one.knowledge, now, terms, lacks)
            notes = (*report.notes, *filter(None, [one.note]))
            judged.append(report._replace(name=one.name, group=group, ignored=terms.ignores(one.name), notes=notes))
        servers += judged
        serving = [one for one in judged if not one.ignored]
        if serving:
            groups[group] = serving
        accounts += _accounts_of(group, judged)
    accounts.sort(key=_most_actionable)
    going = removable(accounts)
    where = f"{len({name for item in going for name in item.servers})} of {len(servers)} servers"
    sentence = f"{len(going)} of {len(accounts)} accounts may go, on {where}, as of {_minute(now)} UTC."
    return Fleet(now, terms, tuple(servers), tuple(accounts), sentence, groups, missing)


def _accounts_of(group: str, servers: Sequence[Report]) -> Iterator[AccountVerdict]:
    """Yield the accounts of a group; a server that serves no clients tells only of use."""
    rows: dict[AccountRow, list[tuple[Report, AccountVerdict]]] = {}
    for one in sorted(servers, key=lambda one: one.ignored):
        for item in one.accounts:
            if not one.ignored or (item.account.row in rows and item.verdict == "active"):
                rows.setdefault(item.account.row, []).append((one, item))
    for found in rows.values():
        yield _account_of(group, found)


def _account_of(group: str, rows: Sequence[tuple[Report, AccountVerdict]]) -> AccountVerdict:
    """Put together what the servers of a group say of one account: used anywhere is used."""
    server, newest = max(rows, key=lambda row: row[1].last_seen or 0)
    items = [item for _, item in rows]
    verdict = max((item.verdict for item in items), key=VERDICTS.index)
    said = ((one.name, reason) for one, item in rows if item.verdict == verdict for reason in item.reasons)
    # What all of them say needs no name.
    shared = set(items[0].reasons).intersection(*(item.reasons for item in items))
    reasons = dict.fromkeys(reason if reason in shared else f"{name}: {reason}" for name, reason in said)
    firsts = [item.first_seen for item in items if item.first_seen is not None]
    keep = tuple(dict.fromkeys(reason for item in items for reason in item.keep_reasons))
    return newest._replace(
        account=newest.account._replace(locked=newest.account.locked and all(item.account.locked for item in items)),
        verdict=verdict,
        removable=verdict in ("stale", "never") and not keep,
        droppable=all(item.droppable for item in items),
        first_seen=min(firsts, default=None),
        evidence=tuple(dict.fromkeys(kind for item in items for kind in item.evidence)),
        client_hosts=tuple(dict.fromkeys(host for item in items for host in item.client_hosts)),
        keep_reasons=keep,
        reasons=tuple(reasons),
        group=group,
        servers=tuple(one.name for one, _ in rows),
        last_server=server.name if newest.last_seen is not None else None,
    )


def run_on(servers: Sequence[Report]) -> str:
    """Return the server on which a group's SQL must run: the primary, or any Galera node."""

    def rank(server: Report) -> tuple[bool, bool, bool, str]:
        topology, read_only = server.knowledge.topology, server.knowledge.settings.get("read_only", "OFF").upper()
        return topology.sources != (), read_only not in ("OFF", "0"), not topology.replicas, server.name

    return min(servers, key=rank).name


# ---------------------------------------------------------------------------------------------------------------------
# Output: tables, JSON, CSV, metrics and SQL
# ---------------------------------------------------------------------------------------------------------------------

SHOWN_HOSTS = 5
TABLE_WIDTH = 100
REPORT_SCHEMA = 1


def emit(text: str, path: str = "", *, encoding: str = "") -> None:
    """Write text to stdout, or all at once to a file, by way of a temporary one beside it.

    What the encoding of stdout does not have is escaped.  Raises ConntrackerError that says what is wrong; a reader
    that has gone ends it quietly.
    """
    try:
        if not path:
            if sys.stdout is None:
                raise ConntrackerError("output: stdout is closed")
            sys.stdout.buffer.write(text.encode(encoding or sys.stdout.encoding or "utf-8", "backslashreplace"))
            sys.stdout.flush()
            return
        folder, name = os.path.split(os.path.abspath(path))
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                file.write(text)
                os.fchmod(file.fileno(), 0o644)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConntrackerError(f"output: {visible_text(path or 'stdout')}: {error.strerror}") from None


def wrapped(label: str, *texts: str) -> list[str]:
    """Return long texts behind a label, broken to the table's width; an empty one has no line."""
    indent = " " * len(label)
    fill = functools.partial(textwrap.wrap, width=TABLE_WIDTH, initial_indent=label, subsequent_indent=indent)
    return [line for text in texts for line in fill(text, break_on_hyphens=False)]


def json_text(data: Mapping[str, Any]) -> str:
    """Return data as JSON."""
    return json.dumps(data, indent=2) + "\n"


def csv_text(header: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a header and its columns of each row (RFC 4180); no spreadsheet takes a field for a formula."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    names = header.split(",")
    writer.writerow(names)
    writer.writerows([_cell(row[name]) for name in names] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> str:
    """Return a value as text, with a quote before what a spreadsheet would take for a formula, or for such a quote."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    text = "; ".join(value) if isinstance(value, (list, tuple)) else str(value)
    return re.sub(r"\A(?=['=+\-@|\t\r\n\uff1d\uff0b\uff0d\uff20])", "'", text)


# The stored logins.


def accounts_text(store: Store, form: str) -> str:
    """Return the stored logins, in TimeLocation."""
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
    if form == "json":
        return json_text({"schema": 1, "accounts": rows})
    shown = [{name: visible_text(value) for name, value in row.items()} for row in rows]
    if form == "csv":
        return csv_text("user,host,first_seen,last_seen,source,note", shown)
    table = [("USER", "HOST", "FIRST SEEN", "LAST SEEN", "SOURCE", "NOTE"), *(row.values() for row in shown)]
    widths = [max(map(len, column)) for column in zip(*table)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in table)


# The report.


def table_report(fleet: Fleet) -> str:
    """Return the report for people: what may go first, each account's reasons below it."""
    listed = [item for item in fleet.accounts if not item.account.is_role]
    roles = dict.fromkeys(visible(item.account.user) for item in fleet.accounts if item.account.is_role)
    width = max([20, *(len(item.name) for item in listed if len(item.name) <= 44)])
    counts = counts_of(listed)
    totals = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    several = len(fleet.servers) > 1
    lines = [f"window: {fleet.terms.days} days, since {_minute(fleet.terms.start(fleet.now))}"]
    for server in fleet.servers:
        lines += ["", *_table_head(server, several)]
    lines += [""] * bool(fleet.lacks) + wrapped("problem: ", *fleet.lacks)
    lines += ["", f"  {'ACCOUNT':{width}}  {'VERDICT':8} {'LAST SEEN':17} {'HOSTS':>5}  EVIDENCE"]
    known = {*fleet.problems, *(problem for server in fleet.servers for problem in server.problems)}
    for item in listed:
        lines += _table_rows(item, width, known, several)
    lines += ["", f"{len(listed)} accounts: {totals}; {len(removable(listed))} removable (*)"]
    lines += wrapped("roles, which cannot log in: ", ", ".join(roles))
    return "\n".join(map(str.rstrip, lines)) + "\n"


def _table_head(server: Report, several: bool) -> Iterator[str]:
    """Yield what the verdicts of a server rest on."""
    knowledge, coverage = server.knowledge, server.coverage
    source = {"server": "of the server", "file": "of a file", "none": "none"}[knowledge.source]
    age = "" if knowledge.inventory_at is None else f", {age_text(server.now - knowledge.inventory_at)} old"
    share = f"{coverage.share:.1%} of the window" if coverage.intervals else "nothing proven"
    facts = [knowledge.settings.get("version", ""), f"group {server.group}" * several, replication_of(knowledge)]
    facts += ["serves no clients (ReplicasIgnored)"] * server.ignored
    name = server.name if knowledge.settings or several else "not asked"
    yield from wrapped("server: ", ", ".join(filter(None, [name, *map(visible_text, facts)])))
    yield f"tracking: since {_minute(knowledge.tracking_since)}, until {_minute(knowledge.last_run)} (UTC)"
    yield f"watched: {share}; holes in it: {len(coverage.holes) or 'none'}"
    yield f"inventory: {source}{age}"
    yield from wrapped("problem: ", *server.own_problems)
    yield from wrapped("note: ", *server.notes)


def _table_rows(item: AccountVerdict, width: int, problems: Collection[str], several: bool) -> Iterator[str]:
    mark, name = "* " if item.removable else "  ", item.name
    if len(name) > width:
        yield from wrapped(mark, name)
        mark, name = "  ", ""
    seen = "-" if item.last_seen is None else _minute(item.last_seen) + "?" * (not item.last_seen_certain)
    line = f"{mark}{name:{width}}  {item.verdict:8} {seen:17} {len(item.client_hosts):5}  "
    evidence, room = ", ".join(item.evidence) or "-", TABLE_WIDTH - len(line)
    yield line + (evidence if len(evidence) <= room else evidence[: max(room - 2, 0)] + "..")
    # What holds for every account stands once, in the header.
    why = [reason for reason in item.reasons if reason not in problems]
    if len(why) < len(item.reasons) and why:
        why.append("the problems above")
    more = len(item.client_hosts) - SHOWN_HOSTS
    hosts = ", ".join(map(visible, item.client_hosts[:SHOWN_HOSTS])) + (f" and {more} more" if more > 0 else "")
    facts = [item.stage or "locked"] * bool(item.account.locked) + ["expired"] * bool(item.account.expired)
    below = {"hosts": hosts, "why": "; ".join(why), "keep": "; ".join(item.keep_reasons), "is": ", ".join(facts)}
    if several:
        last = f"; last used on {item.last_server}" if item.last_server else ""
        below["on"] = f"{', '.join(item.servers)} (group {visible_text(item.group)}){last}"
    for label, text in below.items():
        yield from wrapped(f"      {label}: ", text)


def age_text(seconds: int) -> str:
    """Return a duration in its largest unit."""
    for size, unit in ((DAY, "d"), (HOUR, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def json_report(report: Report) -> str:
    """Return the report on one server for programs, schema 1; instants are UTC.

    Names are as the server stores them; `user_hex`/`host_hex` are added where the bytes are not UTF-8.
    """
    knowledge, coverage = report.knowledge, report.coverage
    setting = knowledge.settings.get
    named = ("hostname", "version", "datadir", "system_time_zone")
    data = {
        "schema": REPORT_SCHEMA,
        "generated_at": utc(report.now),
        "server": {
            **{name: visible_text(setting(name, "")) or None for name in named},
            "skip_name_resolve": setting("skip_name_resolve", "").upper() in ("ON", "1"),
        },
        **_json_evidence(report),
        "holes_tolerated": bool(coverage.holes) and coverage.is_whole,
        "inventory": {
            "source": knowledge.source,
            "taken_at": utc(knowledge.inventory_at) or None,
            "definers_known": knowledge.definers is not None,
            "sessions_complete": knowledge.sessions_complete,
        },
        "window_days": report.terms.days,
        "window_start": utc(coverage.start),
        "accounts": [_facts(item, groups=False) for item in report.accounts],
    }
    data["tracking"]["last_record"] = utc(knowledge.last_record) or None
    data["tracking"]["gaps"] = [_json_gap(gap) for gap in knowledge.gaps]
    return json_text(data)


def fleet_data(fleet: Fleet) -> dict[str, Any]:
    """Return the report over several servers for programs and the page, schema 2."""
    groups = [
        {
            "name": group,
            "servers": [one.name for one in servers],
            "missing": [name for name, of in fleet.missing.items() if of in ("", group)],
            "lacks": servers[0].lacks,
            "run_on": run_on(servers),
        }
        for group, servers in fleet.groups.items()
    ]
    return {
        "schema": 2,
        "generated_at": utc(fleet.now),
        "window_days": fleet.terms.days,
        "window_start": utc(fleet.terms.start(fleet.now)),
        "sentence": fleet.sentence,
        "problems": fleet.problems,
        "groups": groups,
        "servers": [*map(_json_server, fleet.servers), *_json_missing(fleet)],
        "accounts": [_facts(item) for item in fleet.accounts],
    }


def _json_missing(fleet: Fleet) -> Iterator[dict[str, Any]]:
    """Yield the servers that gave no database, in the form of the others."""
    nothing = Knowledge()
    coverage = Coverage(nothing, fleet.now, fleet.terms)
    report = Report(fleet.now, fleet.terms, nothing, coverage, (), ("no database was given",))
    for name, group in fleet.missing.items():
        server = report._replace(name=name, group=group, ignored=fleet.terms.ignores(name))
        yield {**_json_server(server), "missing": True, "holes": []}


def _json_server(server: Report) -> dict[str, Any]:
    knowledge, coverage = server.knowledge, server.coverage
    return {
        "name": server.name,
        "group": server.group,
        "version": visible_text(knowledge.settings.get("version", "")),
        "missing": False,
        "ignored": server.ignored,
        "replication": replication_of(knowledge),
        **_json_evidence(server),
        "holes": [{**_json_gap(hole), "tolerated": coverage.is_whole} for hole in coverage.holes],
        "inventory": {
            "taken_at": utc(knowledge.inventory_at) or None,
            "error": visible_text(knowledge.inventory_error),
        },
        "problems": server.own_problems,
    }


def _json_evidence(report: Report) -> dict[str, Any]:
    """Return what the verdicts on a server's accounts rest on."""
    knowledge, coverage = report.knowledge, report.coverage
    return {
        "tracking": {"since": utc(knowledge.tracking_since) or None, "until": utc(knowledge.last_run) or None},
        "watched": [{**one._asdict(), "began": utc(one.began), "ended": utc(one.ended)} for one in coverage.intervals],
        "holes": [_json_gap(hole) for hole in coverage.holes],
        "watched_share": round(coverage.share, 4),
        "problems": report.problems,
        "notes": report.notes,
    }


def _json_gap(gap: Gap) -> dict[str, str]:
    return {"began": utc(gap.began), "ended": utc(gap.ended), "reason": visible_text(gap.reason)}


def _facts(item: AccountVerdict, *, groups: bool = True) -> dict[str, Any]:
    """Return all that is told of an account, for programs; `groups`: with its group and the servers that have it."""
    facts: dict[str, Any] = {**item.account._asdict(), **item._asdict()}
    for name in ("account",) if groups else ("account", "group", "servers", "last_server"):
        del facts[name]
    instants = ("last_seen", "first_seen", "known_since", "locked_since")
    facts.update({name: utc(facts[name]) or None for name in instants})
    newest = [visible(host) for host in item.client_hosts[:SHOWN_HOSTS]]
    facts["client_hosts"] = {"count": len(item.client_hosts), "newest": newest}
    return {**facts, **_json_name("user", item.account.user), **_json_name("host", item.account.host)}


def _json_name(key: str, name: bytes) -> dict[str, str]:
    try:
        return {key: name.decode("utf-8")}
    except UnicodeDecodeError:
        return {key: visible(name), f"{key}_hex": name.hex()}


def csv_report(fleet: Fleet, *, groups: bool) -> str:
    """Return one line per account; `groups`: with its group and the servers that have it."""
    rows = []
    for item in fleet.accounts:
        facts = _facts(item)
        hosts = facts["client_hosts"]
        names = {"user": visible(item.account.user), "host": visible(item.account.host)}
        rows.append({**facts, **names, "client_hosts": hosts["count"], "newest_hosts": hosts["newest"]})
    header = "user,host,verdict,removable,last_seen,first_seen,known_since,locked,client_hosts,newest_hosts,evidence"
    header += ",keep_reasons,reasons,stage" + ",group,servers,last_server" * groups
    return csv_text(header, rows)


# Labels, and the gauges that bear them: the name of each, what it tells behind it, and its value.
_Gauges = tuple[dict[str, str], dict[str, Any]]


def prometheus_report(report: Report) -> str:
    """Return gauges for node_exporter's textfile collector: no names, no stamps, a fixed number of series."""
    return _exposition([*_account_gauges({}, report.accounts), ({}, _server_gauges(report))])


def prometheus_fleet(fleet: Fleet) -> str:
    """Return the same over several servers: the accounts of each group, and what is known of each server."""
    gauges: list[_Gauges] = [({}, {"servers_missing Servers without a database.": len(fleet.lacks)})]
    for group in fleet.groups:
        gauges += _account_gauges({"group": group}, [item for item in fleet.accounts if item.group == group])
    gauges += [({"group": one.group, "server": one.name}, _server_gauges(one)) for one in fleet.serving]
    return _exposition(gauges)


def _account_gauges(labels: dict[str, str], accounts: Sequence[AccountVerdict]) -> Iterator[_Gauges]:
    counts = counts_of(accounts)
    for verdict in VERDICTS:
        yield {**labels, "verdict": verdict}, {"accounts Accounts by verdict.": counts[verdict]}
    going, locked = len(removable(accounts)), sum(bool(item.account.locked) for item in accounts)
    yield labels, {"accounts_removable Accounts that are stale or never used, with nothing to keep them.": going}
    yield labels, {"accounts_locked Accounts that are locked.": locked}


def _server_gauges(report: Report) -> dict[str, Any]:
    """Return the gauges of a server; what is not known is None."""
    knowledge, coverage = report.knowledge, report.coverage
    stated, tolerated = round(coverage.stated_share, 6), coverage.unwatched if coverage.is_whole else 0
    gaps = sum(gap.ended >= coverage.start for gap in knowledge.gaps)
    return {
        "window_seconds Length of the window in which an account must be used to be active.": report.terms.days * DAY,
        "watched_ratio Share of the window that is watched.": round(coverage.share, 6),
        "stated_ratio Share of the window that is watched by the operator's word alone (WatchedSince).": stated,
        "tolerated_seconds Seconds of the window that are not watched, which is tolerated (TolerateHoles).": tolerated,
        "holes Stretches of the window that are not watched.": len(coverage.holes),
        "tracking_start_timestamp_seconds Time of the oldest record read.": knowledge.tracking_since,
        "last_record_timestamp_seconds Time of the newest record read.": knowledge.last_record,
        "last_run_timestamp_seconds Time of the last successful run.": knowledge.last_run,
        "inventory_timestamp_seconds Time at which the server was last asked for its accounts.": knowledge.inventory_at,
        "gaps Stretches within the window whose records are lost.": gaps,
        "problems Reasons for which no account is called unused.": len(report.problems),
        "suspect_records Login records that may be forged or torn.": len(knowledge.suspects),
        "unparsed_records Records that could not be read.": knowledge.unparsed,
    }


def _exposition(gauges: Iterable[_Gauges]) -> str:
    """Return gauges in the text format of Prometheus, all samples of one together; without those that are None."""
    lines: dict[str, str] = {}
    for labels, values in gauges:
        said = ",".join(f"{label}={json.dumps(text, ensure_ascii=False)}" for label, text in labels.items())
        for metric, value in values.items():
            name = f"conntracker_{metric.split()[0]}"
            if value is not None:
                lines.setdefault(metric, f"# HELP conntracker_{metric}\n# TYPE {name} gauge\n")
                lines[metric] += f"{name}{f'{{{said}}}' if said else ''} {value}\n"
    return "".join(lines.values())


# SQL, for review.


def lock_sql(fleet: Fleet, group: str) -> str:
    """Return a script that locks the removable accounts of a group; the undo follows it as comments."""
    lines = []
    for item in _going(fleet, group):
        form = "" if item.account.locked else "ALTER USER {} ACCOUNT LOCK"
        lines.append(f"{_statement(fleet, item, form)}: {item.verdict}; {'; '.join(item.reasons)}")
    undo = [f"-- {line}" for line in _unlock_lines(fleet, group)]
    return _script(fleet, group, f"lock {len(lines)}", [*lines, "", "-- To undo:", *undo])


def unlock_sql(fleet: Fleet, group: str) -> str:
    """Return the script that undoes lock_sql."""
    return _script(fleet, group, f"unlock {len(_going(fleet, group))}", _unlock_lines(fleet, group))


def drop_sql(fleet: Fleet, group: str) -> str:
    """Return a script that drops the accounts that were locked long enough and never asked for."""
    lines = ["-- First, the backup from which they can be made again:  mariadb-dump --system=users > users.sql"]
    for item in fleet.accounts:
        if item.droppable and item.group == group:
            last = f"last use {_minute(item.last_seen)}" if item.last_seen is not None else "never used"
            since = f"{item.stage} since {_day(item.account.locked_since)}, watched all the time, never asked for"
            lines.append(f"{_statement(fleet, item, 'DROP USER {}')}: {since}; {last}")
    return _script(fleet, group, f"drop {len(lines) - 1}", lines)


def _going(fleet: Fleet, group: str) -> list[AccountVerdict]:
    return [item for item in removable(fleet.accounts) if item.group == group]


def _unlock_lines(fleet: Fleet, group: str) -> list[str]:
    """Return the statements for all but the accounts that were locked before: they stay so."""
    unlocked = (item for item in _going(fleet, group) if not item.account.locked)
    return [_statement(fleet, item, "ALTER USER {} ACCOUNT UNLOCK") for item in unlocked]


def _script(fleet: Fleet, group: str, what: str, lines: Sequence[str]) -> str:
    servers = fleet.groups[group]
    settings = servers[0].knowledge.settings
    where = visible_text(" ".join(filter(None, map(settings.get, ("hostname", "version"))))) or "an unknown server"
    if len(servers) > 1:
        where = f"{visible_text(group)}, to be run on {run_on(servers)} alone"
    header = f"-- conntracker: {what} unused accounts of {where}"
    terms = f"-- assessed {utc(fleet.now)}, window {fleet.terms.days} days; for review, nothing was run"
    return "\n".join([header, terms, "SET NAMES utf8mb4;", *lines]) + "\n"


def _statement(fleet: Fleet, item: AccountVerdict, form: str) -> str:
    """Return a statement on an account with its name; a comment if the server on which the script runs has it not."""
    place = run_on(fleet.groups[item.group])
    elsewhere = "" if place in item.servers else f"-- not on {place}, but on {', '.join(item.servers)}: "
    statement = f"{sql_on(item.account.row, form)} --" if form else "-- already locked:"
    return f"{elsewhere}{statement} {item.name}"


def sql_on(row: AccountRow, form: str) -> str:
    """Return a statement on any account, right with and without NO_BACKSLASH_ESCAPES and ANSI_QUOTES.

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
        account = f"{_backquoted(user)}@{_backquoted(host)}"
    statement = form.format(account)
    return f"{statement};" if shows else f"EXECUTE IMMEDIATE CONVERT(x'{statement.encode().hex()}' USING utf8mb4);"


# ---------------------------------------------------------------------------------------------------------------------
# Page: the report for people
# ---------------------------------------------------------------------------------------------------------------------


# On a screen tables are laid out as grids, so that the browser skips what is not on the screen
# (content-visibility does nothing for rows of a table), and a narrow screen shows cards. On paper they are a table.
PAGE_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1c2126, #e4e7ea); --soft: light-dark(#59626b, #a3acb5);
  --line: light-dark(#dfe2e6, #31373d); --paper: light-dark(#fff, #15181b); --shade: light-dark(#edeff2, #292e34);
  --link: light-dark(#0b5cb8, #82baff); --good: light-dark(#2f7f5e, #4fa57f); --warn: light-dark(#8f5500, #dca048);
  --bad: light-dark(#b42b22, #ee8379); --gone: light-dark(#dd9a94, #8d4a45); }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem clamp(1rem, 3vw, 3rem) 4rem; max-width: 96rem; color: var(--ink);
  background: var(--paper); font: 0.9375rem/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
h1 { margin: 0 0 0.7rem; font-size: clamp(1.35rem, 2.4vw, 1.75rem); line-height: 1.25; letter-spacing: -0.01em; }
h2 { margin: 2.5rem 0 0.7rem; font-size: 1.125rem; }
p, ul, dl, dd { margin: 0; }  ul { padding-left: 1.2rem; }
bdi { font: 0.9em ui-monospace, "DejaVu Sans Mono", monospace; }
small, caption, summary, label, thead th, .soft, .key, .lines { color: var(--soft); font-size: 0.8125rem; }
small { display: block; }
table { width: 100%; table-layout: fixed; border-collapse: collapse; }
tr { border-bottom: 1px solid var(--line); }
caption, th, td { padding: 0.55rem 1.2rem 0.55rem 0; text-align: left; }
th, td { vertical-align: top; font-weight: inherit; overflow-wrap: anywhere; }
thead th, dt { font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.3rem 1.5rem; }
[hidden] { display: none !important; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.row { display: flex; flex-wrap: wrap; gap: 0.3rem 1.5rem; padding: 0; list-style: none; }
.row li { display: flex; align-items: center; gap: 0.5em; }
.against li { margin-bottom: 0.3rem; }
.against li::marker { content: "\\25b8\\00a0\\00a0"; color: var(--bad); }

.mark, .share { white-space: nowrap; }
.mark::before { content: ""; display: inline-block; width: 0.75em; height: 0.75em; margin-right: 0.5em;
  border: 0.15em var(--edge, solid); border-radius: 50%; background: var(--fill, none); color: var(--dot);
  vertical-align: -0.1em; }
.never { --dot: var(--bad); }  .unknown { --dot: var(--soft); --edge: dotted; }
.stale { --dot: var(--warn); --fill: linear-gradient(0deg, currentColor 50%, #0000 50%); }
.active { --dot: var(--good); --fill: currentColor; }
b { margin-left: 0.4em; padding: 0.1em 0.5em; border-radius: 0.25rem; font-size: 0.8125rem; font-weight: 600;
  color: var(--paper); background: var(--ink); }

svg, .mark::before, b { print-color-adjust: exact; }
.unseen { position: absolute; width: 0; height: 0; }
.strip, .line { display: block; width: 100%; height: 1.3rem; border-radius: 0.2rem; background: var(--shade); }
.strip + * { margin-top: 0.35rem; }
.key { margin-bottom: 0.6rem; }  .key .strip { width: 1.8rem; height: 0.8rem; }
.line { height: 0.875rem; margin-top: 0.2rem; overflow: visible; fill: var(--ink); }
.proven { fill: var(--good); }  .stated { fill: url(#stated); }
.tolerated { fill: url(#tolerated); stroke: var(--warn); }
.hole { fill: url(#hole); stroke: var(--bad); }
pattern { fill: var(--paper); stroke: var(--good); stroke-width: 2; }
#tolerated { stroke: var(--warn); }  #hole { stroke: var(--bad); }
.scale { display: flex; justify-content: space-between; }

input, select { max-width: 85vw; padding: 0.35rem 0.6rem; border: 1px solid var(--soft); border-radius: 0.3rem;
  color: var(--ink); background: var(--paper); font: inherit; font-size: 0.9375rem; }
input { width: 22rem; }  label { display: grid; gap: 0.15rem; }
button { padding: 0; border: 0; color: inherit; background: none; font: inherit; }
button, summary { cursor: pointer; }
button:hover, [aria-sort] button { color: var(--ink); }
button::after { content: " \\2195" / ""; }
[aria-sort=ascending] button::after { content: " \\2191" / ""; }
[aria-sort=descending] button::after { content: " \\2193" / ""; }
#shown { align-self: end; padding-bottom: 0.4rem; }

@media screen {
  table { --columns: 19.8rem 1fr 4.3rem; }
  #accounts { --columns: 2.2fr 9.5rem 2.8fr 9rem 3fr; }
  #accounts.grouped { --columns: 2.2fr 1fr 9.5rem 2.8fr 9rem 3fr; }
  table, caption, thead, tbody { display: block; }
  tr { display: grid; column-gap: 1.2rem; grid-template-columns: var(--columns); }
  th, td { min-width: 0; padding-right: 0; }
  #accounts thead { position: sticky; top: 0; z-index: 1; background: var(--paper); }
  #accounts tbody tr { content-visibility: auto; contain-intrinsic-size: auto 4.6rem; }
}
@media screen and (max-width: 60rem) {
  thead tr { display: flex; flex-wrap: wrap; }
  th:has(.scale) { flex: 1; }
  tbody tr { grid-template-columns: minmax(0, 1fr) auto; padding: 0.5rem 0; }
  tbody :is(th, td) { padding: 0.1rem 0; }
  tbody td { grid-column: 1 / -1; }
  tbody :is(.mark, .share) { grid-area: 1 / 2; }
  td:empty, thead th:not(:has(button, .scale)) { display: none; }
  .grouped td:nth-child(2)::before { content: "group "; }
}
@media print {
  @page { size: A4 landscape; margin: 12mm;
    @bottom-right { content: counter(page) " / " counter(pages); font-size: 8pt; } }
  :root { color-scheme: light; font-size: 9.5pt; }
  body { max-width: none; padding: 0; }
  h2 { break-after: avoid; }
  tr, li { break-inside: avoid; }
  label, button::after { display: none; }
  button { display: contents; } /* Chromium repeats no button on the next page */
  .coverage th:first-child { width: 21rem; }  .coverage th:last-child { width: 5.5rem; }
  #accounts thead th:is(:nth-last-child(2), :nth-last-child(4)) { width: 10.5rem; }
  ::details-content { display: block; content-visibility: visible; }
}
"""

# The page is whole without it. It shows the controls, which hide rows and change their order.
PAGE_SCRIPT = """
"use strict";
const find = id => document.getElementById(id);
const table = find("accounts"), body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
const text = find("text"), verdict = find("verdict"), group = find("group");
const compare = new Intl.Collator("en", { numeric: true }).compare;
let texts;

function filter() {
  texts ??= rows.map(row => row.textContent.toLowerCase());
  const words = text.value.toLowerCase().split(" ");
  let count = 0;
  rows.forEach((row, i) => {
    const fits = (!verdict.value || row.classList.contains(verdict.value))
      && (!group?.value || group.value === "=" + row.cells[1].textContent)
      && words.every(word => texts[i].includes(word));
    row.hidden = !fits;
    count += fits;
  });
  find("shown").textContent = count < rows.length ? `${count} of ${rows.length} accounts are shown.` : "";
}

// What the columns sort by, if not by their text: the rows come most actionable first, as the verdicts sort.
const keys = { Verdict: (cell, i) => String(i), "Last use": cell => cell.querySelector("time")?.dateTime ?? "" };

function sort(head, key) {
  const sign = head.ariaSort === "ascending" ? -1 : 1, column = heads.indexOf(head);
  heads.forEach(other => other.removeAttribute("aria-sort"));
  head.ariaSort = sign > 0 ? "ascending" : "descending";
  const keyed = rows.map((row, i) => [key(row.cells[column], i), row]);
  keyed.sort((a, b) => sign * compare(a[0], b[0]));
  for (const [, row] of keyed) body.append(row);
}

for (const head of heads.filter(head => head.textContent !== "Time line")) {
  const key = keys[head.textContent] ?? (cell => cell.textContent);
  if (head.textContent === "Verdict") head.ariaSort = "ascending";
  const button = document.createElement("button");
  button.append(...head.childNodes);
  button.onclick = () => sort(head, key);
  head.append(button);
}
for (const control of [text, verdict, group]) control?.addEventListener("input", filter);
find("filters").hidden = false;
filter();  // a browser may keep what was chosen when it loads the page again
"""

PAGE_KEY = {
    "proven": "watched, proven",
    "stated": "watched, stated by the operator",
    "tolerated": "not watched, tolerated",
    "hole": "not watched",
}
PAGE_WORDS = """<section aria-labelledby="words">
<h2 id="words">What the words mean</h2>
<dl>
<dt>may go</dt><dd>never or stale, with nothing to keep it. Lock it first, drop it later.</dd>
<dt>never</dt><dd>no use since tracking began; the whole window was watched, and the account is older than that.</dd>
<dt>stale</dt><dd>used before, not within the window, and the whole window was watched.</dd>
<dt>unknown</dt><dd>it cannot be said: not all of the window was watched, or use cannot be ruled out.</dd>
<dt>active</dt><dd>used within the window, certainly or possibly.</dd>
</dl>
</section>"""
_INERT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


def html_report(data: Mapping[str, Any]) -> str:
    """Return the JSON report's data as a page for people: one file, which loads nothing.

    The accounts stand in the order given, which is most actionable first.
    """
    window = _Span(_seconds(data["window_start"]), _seconds(data["generated_at"]))
    # A time line: the window is its right two thirds.
    line = _Span(window.began - (window.ended - window.began) // 2, window.ended)
    grounds = _grounds(data, window, line)
    names = {servers: f"ground{number}" for number, servers in enumerate(grounds)}
    rules = (f".{names[servers]} {{ background: {ground}; }}\n" for servers, ground in grounds.items())
    style = PAGE_STYLE + "".join(rules)
    # Whatever a name may hold: nothing but this style and this script takes effect, and no request is made.
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(PAGE_SCRIPT)}; img-src data:"
    sections = "\n".join([*_page_head(data), *_coverage(data, window), *_account_table(data, line, names)])
    # The empty icon keeps browsers from requesting one.
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{_inert(data["sentence"])}</title>
<style>{style}</style>
</head>
<body>
{sections}
{PAGE_WORDS}
</main>
<script>{PAGE_SCRIPT}</script>
</body>
</html>
"""


def _hash(text: str) -> str:
    """Name a style or script as a Content-Security-Policy does."""
    import base64
    import hashlib

    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _inert(text: str) -> str:
    return text.translate(_INERT)


def _small(text: str) -> str:
    return f"<small>{_inert(text)}</small>" if text else ""


def _bullets(texts: Iterable[str], kind: str) -> str:
    return f'<ul class="{kind}">{"".join(f"<li>{_inert(text)}</li>" for text in texts)}</ul>'


def _clock(stamp: str) -> str:
    return stamp[:16].replace("T", " ")


def _seconds(stamp: str) -> int:
    # An instant that no calendar has is given as its number.
    return int(datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() if "T" in stamp else float(stamp))


class _Span(NamedTuple):
    """A stretch of time, drawn from left to right; what lies outside it is drawn at its edge."""

    began: int
    ended: int

    def place(self, instant: int) -> float:
        """Return the place of an instant in percent."""
        return round(min(max(100 * (instant - self.began) / (self.ended - self.began), 0), 100), 1)

    def bar(self, began: int, ended: int, kind: str, title: str = "") -> str:
        """Draw a stretch, wide enough to be seen."""
        left = min(self.place(began), 99.6)
        width = max(self.place(ended) - left, 0.4)
        inside = f"><title>{_inert(title)}</title></rect>" if title else "/>"
        return f'<rect class="{kind}" x="{left:g}%" width="{width:.3g}%" height="100%"{inside}'


def _page_head(data: Mapping[str, Any]) -> Iterator[str]:
    counts = Counter(account["verdict"] for account in data["accounts"])
    yield f'<header>\n<h1>{_inert(data["sentence"])}</h1>\n<ul class="row">'
    for verdict in VERDICTS:
        yield f'<li class="{verdict}"><span class="mark"><strong>{counts[verdict]}</strong> {verdict}</span></li>'
    window = f"{data['window_days']} days, {data['window_start'][:10]} to {data['generated_at'][:10]}"
    yield f'</ul>\n<p class="soft">Window: {window}. All times are UTC.</p>\n</header>\n<main>'
    yield '<section aria-labelledby="against">\n<h2 id="against">What stands against it</h2>'
    yield _bullets(data["problems"], "against") if data["problems"] else "<p>Nothing.</p>"
    yield "</section>"


def _coverage(data: Mapping[str, Any], span: _Span) -> Iterator[str]:
    """Draw what of the window was watched: a strip per server, with the reasons as titles and as text below."""
    runs_sql = {group["run_on"] for group in data.get("groups", ())}
    yield '<section class="coverage" aria-labelledby="coverage">\n<h2 id="coverage">What was watched</h2>'
    yield '<svg class="unseen" aria-hidden="true">'
    for kind, turn in (("stated", -45), ("tolerated", 45), ("hole", 45)):
        size = f'width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate({turn})"'
        yield f'<pattern id="{kind}" {size}><path stroke="none" d="M0 0H5V5H0Z"/><path d="M2.5 0V5"/></pattern>'
    bars = ((span.bar(span.began, span.ended, kind), words) for kind, words in PAGE_KEY.items())
    key = "".join(f'<li><svg class="strip" aria-hidden="true">{bar}</svg>{words}</li>' for bar, words in bars)
    thirds = (datetime.fromtimestamp(span.began + (span.ended - span.began) * n / 3, timezone.utc) for n in range(4))
    scale = "".join(f"<span>{moment:%Y-%m-%d}</span>" for moment in thirds)
    yield f'</svg>\n<ul class="row key">{key}</ul>\n<table>\n<thead><tr><th scope="col">Server</th>'
    yield f'<th scope="col"><div class="scale">{scale}</div></th><th scope="col">Watched</th></tr></thead>\n<tbody>'
    for server in data["servers"]:
        facts = [server["version"], server["group"] and f"group {server['group']}", server["replication"]]
        facts += ["its group's SQL runs here" * (server["name"] in runs_sql), "serves no clients" * server["ignored"]]
        share = f"{int(server['watched_share'] * 1000) / 10:g} %"  # rounded down: 100 % is all of it
        yield f'<tr><th scope="row"><bdi>{_inert(server["name"])}</bdi>{_small(", ".join(filter(None, facts)))}</th>'
        yield f'<td>{_strip(server, span, data["problems"])}</td><td class="share">{share}</td></tr>'
    yield "</tbody>\n</table>\n</section>"


def _strip(server: Mapping[str, Any], span: _Span, said: Collection[str]) -> str:
    bars = [span.bar(span.began, span.ended, "hole", "not watched")]
    lines = [text for text in server["problems"] if not any(problem.endswith(text) for problem in said)]
    lines += server["notes"]
    proofs: Counter[str] = Counter()
    for item in [*server["watched"], *server["holes"]]:
        began, ended = _seconds(item["began"]), _seconds(item["ended"])
        text = f"{_clock(item['began'])} to {_clock(item['ended'])}, {age_text(ended - began)}"
        if "proof" in item:
            kind = "stated" if item["proof"].startswith("stated") else "proven"
            proofs[item["proof"]] += ended - began
            text += f", watched: {item['proof']}"
        else:
            kind = "tolerated" if item["tolerated"] else "hole"
            text += f", {PAGE_KEY[kind]}: {item['reason']}"
            lines.append(text)
        bars.append(span.bar(began, ended, kind, text))
    watched = ", ".join(f"{age_text(seconds)} ({proof})" for proof, seconds in proofs.items())
    text = _inert("its database is missing" if server["missing"] else f"watched: {watched or 'nothing'}")
    picture = f'<svg class="strip" role="img" aria-label="{text}">{"".join(bars)}</svg>'
    if not lines:
        return f"{picture}<small>{text}</small>"
    opened = " open" * (len(lines) <= 4)  # a long list is folded, though not on paper
    return f"{picture}<details{opened}><summary>{text}</summary>{_bullets(lines, 'lines')}</details>"


def _servers_of(account: Mapping[str, Any]) -> tuple[str, ...]:
    return (account["group"], *account["servers"])


def _grounds(data: Mapping[str, Any], window: _Span, line: _Span) -> dict[tuple[str, ...], str]:
    """Return the backgrounds of the time lines: the window, and what of it was not watched on the account's servers."""
    grounds = dict.fromkeys(map(_servers_of, data["accounts"]), "")
    for group, *names in grounds:
        servers = [s for s in data["servers"] if s["name"] in names or (s["missing"] and s["group"] == group)]
        holes: set[tuple[int, int]] = set()
        for server in servers:
            known = [*server["watched"], *(hole for hole in server["holes"] if hole["tolerated"])]
            spans = sorted((_seconds(item["began"]), _seconds(item["ended"])) for item in known)
            holes.update(uncovered(window.began, spans, window.ended, DAY))  # the time since the last run is not a hole
        stops = "#0000 33.3%"
        for began, ended in sorted(holes):
            left, right = line.place(began), line.place(ended)
            # A stop at 0 stands at the one before it; so do those that overlap.
            stops += f", var(--shade) 0 {left:g}%, var(--gone) 0 {max(right, left + 1):g}%"
        grounds[(group, *names)] = f"linear-gradient(90deg, {stops}, var(--shade) 0)"
    return grounds


def _account_table(data: Mapping[str, Any], span: _Span, grounds: Mapping[tuple[str, ...], str]) -> Iterator[str]:
    groups = sorted({account["group"] for account in data["accounts"]})
    grouped = len(groups) > 1
    known = {*data["problems"], *(problem for server in data["servers"] for problem in server["problems"])}
    yield '<section aria-labelledby="which">\n<h2 id="which">Accounts</h2>'
    yield f'{_filters(groups if grouped else [])}\n<table id="accounts"{" class=grouped" * grouped}>'
    yield "<caption>A time line goes from the first to the last use. The window is shaded, and red where it was not "
    yield "watched.</caption>\n<thead><tr>"
    for name in ("Account", *["Group"] * grouped, "Verdict", "Last use", "Time line", "Reason"):
        yield f'<th scope="col">{name}</th>'
    yield "</tr></thead>\n<tbody>"
    for account in data["accounts"]:
        line = f'<svg class="line {grounds[_servers_of(account)]}" aria-hidden="true">{_time_line(account, span)}</svg>'
        yield _account_row(account, line, grouped, known)
    yield "</tbody>\n</table>\n</section>"


def _filters(groups: list[str]) -> str:
    choices = {"verdict": {"": "all", "go": "may go", **{verdict: verdict for verdict in VERDICTS}}}
    if groups:
        choices["group"] = {"": "all", **{f"={group}": group for group in groups}}
    text = '<div id="filters" class="row" hidden>\n<label>Text <input id="text" type="search"></label>'
    for name, options in choices.items():
        listed = (f'<option value="{_inert(value)}">{_inert(label)}</option>' for value, label in options.items())
        text += f'\n<label>{name.capitalize()} <select id="{name}">{"".join(listed)}</select></label>'
    return f'{text}\n<p id="shown" role="status"></p>\n</div>'


def _time_line(account: Mapping[str, Any], span: _Span) -> str:
    if not account["last_seen"]:
        return ""
    last = _seconds(account["last_seen"])
    if last < span.began:  # too long ago: an arrow
        return '<path d="M8 2V12L0 7Z"/>'
    left, right = span.place(_seconds(account["first_seen"] or account["last_seen"])), span.place(last)
    bar = f'<rect x="{left:g}%" width="{max(right - left, 0):.3g}%" y="6" height="2"/>'
    return f'{bar}<circle cx="{right:g}%" cy="7" r="4"/>'


def _account_row(account: Mapping[str, Any], line: str, grouped: bool, known: Collection[str]) -> str:
    state = [account["stage"] or "locked" * bool(account["locked"]), "role" * account["is_role"]]
    seen, last = "no use seen", account["last_seen"]
    if last:
        seen = "perhaps " * (not account["last_seen_certain"])
        seen += f'<time datetime="{last}">{_clock(last)}</time>{_small(_use(account))}'
    # What holds for all stands once, above.
    reasons = [reason for reason in account["reasons"] if reason not in known]
    reasons += ["what stands above"] * (len(reasons) < len(account["reasons"]))
    kept = "; ".join(f"to keep: {reason}" for reason in account["keep_reasons"])
    verdict, go = account["verdict"], account["removable"]
    group = f"<td>{_inert(account['group'])}</td>" if grouped else ""
    return (
        f'<tr class="{verdict}{" go" * go}"><th scope="row"><bdi>{_inert(account["user"])}</bdi>@'
        f"<bdi>{_inert(account['host'])}</bdi>{_small(', '.join(filter(None, state)))}</th>{group}"
        f'<td class="mark">{verdict}{" <b>may go</b>" * go}</td><td>{seen}</td><td>{line}</td>'
        f"<td>{_inert('; '.join(reasons))}{_small(kept)}</td></tr>"
    )


def _use(account: Mapping[str, Any]) -> str:
    clients, count = account["client_hosts"]["newest"], account["client_hosts"]["count"]
    words = ", ".join(account["evidence"])
    if clients:
        words += f" from {', '.join(clients)}" + f" and {count - len(clients)} more" * (count > len(clients))
    if account["last_server"]:
        words += f" on {account['last_server']}"
    return words + (f"; first {account['first_seen'][:10]}" if account["first_seen"] else "")


# ---------------------------------------------------------------------------------------------------------------------
# Status: the tracker's own health
# ---------------------------------------------------------------------------------------------------------------------

GOOD, WARNING, CRITICAL, UNKNOWN = range(4)
STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
# A run is expected at least daily.
LATE_RUN_SECONDS = DAY + HOUR
SILENT_SECONDS = 3 * DAY


class Check(NamedTuple):
    """One aspect of the tracker's health."""

    name: str
    code: int
    text: str


def health(knowledge: Knowledge, now: int, *, asked: bool) -> list[Check]:
    """Return the checks; `asked`: an inventory is wanted."""
    logins = [item.last_seen for item in knowledge.evidence if item.kind == "login"]
    newest = max(logins, default=None)
    silent = newest is None or not -CLOCK_SLACK <= now - newest <= SILENT_SECONDS
    lost_until = max((gap.ended for gap in knowledge.gaps), default=None)
    lost = "" if lost_until is None else f", the newest until {_minute(lost_until)}"
    audit = "; ".join(audit_problems(knowledge.settings)) if knowledge.source == "server" else ""
    settings = "logins are logged" if knowledge.source == "server" else "not asked"
    watched = max((one.ended for one in knowledge.watched), default=None)
    unproven = asked and knowledge.inventory_at is not None and bool(knowledge.heartbeat_error)
    proof = knowledge.heartbeat_error or ("nothing proven yet" if watched is None else f"until {_minute(watched)}")
    return [
        Check("last run", *_run_state(knowledge, now)),
        Check("tracking", _warn(not knowledge.tracking_since), f"since {_minute(knowledge.tracking_since)}"),
        Check("logins", _warn(silent), "none was ever seen" if newest is None else f"the newest {_minute(newest)}"),
        Check("gaps", _warn(lost_until and lost_until >= now - 7 * DAY), f"{len(knowledge.gaps)}{lost}"),
        Check("suspect records", _warn(knowledge.suspects), str(len(knowledge.suspects))),
        Check("unparsed records", _warn(knowledge.unparsed), str(knowledge.unparsed)),
        Check("audit settings", CRITICAL if audit else GOOD, audit or settings),
        Check("inventory", *(_inventory_state(knowledge, now) if asked else (GOOD, "not configured"))),
        Check("watched", _warn(unproven), visible_text(proof) if asked else "not configured"),
    ]


def status_text(checks: Sequence[Check], knowledge: Knowledge, form: str) -> str:
    """Return the checks, the worst first; as a line with performance data for Nagios; or for programs."""
    ordered = sorted(checks, key=lambda check: -check.code)
    code = ordered[0].code
    accounts = len({(item.user, item.host) for item in knowledge.evidence if item.kind == "login"})
    if form == "json":
        data = {
            "schema": REPORT_SCHEMA,
            "code": code,
            "version": __version__,
            "tracking_since": utc(knowledge.tracking_since) or None,
            "last_run": utc(knowledge.last_run) or None,
            "accounts": accounts,
            "checks": [{"check": check.name, "code": check.code, "text": check.text} for check in checks],
        }
        return json_text(data)
    if form == "nagios":
        told = "; ".join(f"{check.name}: {check.text}" for check in ordered if check.code) or "the tracker is well"
        figures = f"accounts={accounts} suspects={len(knowledge.suspects)} unparsed={knowledge.unparsed}"
        return f"CONNTRACKER {STATES[code]} - {told.replace('|', '/')} | {figures}\n"
    return "".join(f"{STATES[check.code]:8} {check.name}: {check.text}\n" for check in ordered)


def _warn(bad: object) -> int:
    return WARNING if bad else GOOD


def _run_state(knowledge: Knowledge, now: int) -> tuple[int, str]:
    last_run, error = knowledge.last_run, knowledge.last_error
    if error:
        return CRITICAL, f"it failed: {visible_text(error)}"
    if last_run is None:
        return CRITICAL, "never"
    lag = now - last_run
    if lag < -CLOCK_SLACK:
        return WARNING, f"{_minute(last_run)}, in the future"
    code = CRITICAL if lag > FRESH_SECONDS else _warn(lag > LATE_RUN_SECONDS)
    return code, f"{_minute(last_run)}, {age_text(max(lag, 0))} ago"


def _inventory_state(knowledge: Knowledge, now: int) -> tuple[int, str]:
    problems = list(inventory_problems(knowledge, now))
    if knowledge.definers is None and knowledge.source == "server":
        problems.append("definers are not known")
    if knowledge.topology.sources is None:
        problems.append(f"it is not known from where it replicates (needed: {_NEEDED['replication']})")
    age = [] if knowledge.inventory_at is None else [f"{age_text(max(now - knowledge.inventory_at, 0))} old"]
    return _warn(problems), "; ".join(problems + age)


# ---------------------------------------------------------------------------------------------------------------------
# Commands
# ---------------------------------------------------------------------------------------------------------------------


def _open(config: Config, *, write: bool = False) -> Store:
    if not os.path.exists(config.sqlite_path):
        raise DatabaseError(f"{config.sqlite_path}: no database: run conntracker collect first, or check SqlitePath")
    return Store(config.sqlite_path, config.time_format_db, config.time_location, write=write)


def run_report(config: Config) -> None:
    """Print the verdict on every account: of one server, or over several."""
    now, several = int(time.time()), bool(config.sources)
    databases = load_databases(config.sources, config) if several else [_own_database(config, now)]
    missing = dict(name.partition("=")[::2] for name in config.missing)
    fleet = judge(databases, missing, now, terms_of(config))
    report = fleet.servers[0]
    if config.format != "prometheus":  # its figures are of all accounts
        fleet = fleet._replace(accounts=only(fleet.accounts, config.verdict))
        report = report._replace(accounts=only(report.accounts, config.verdict))
    writers: dict[str, Callable[[], str]] = {
        "table": lambda: table_report(fleet),
        "json": lambda: json_text(fleet_data(fleet)) if several else json_report(report),
        "csv": lambda: csv_report(fleet, groups=several),
        "prometheus": lambda: prometheus_fleet(fleet) if several else prometheus_report(report),
        "html": lambda: html_report(fleet_data(fleet)),
    }
    if config.format == "sql":
        _write_sql(fleet, config)
    else:
        emit(writers[config.format](), config.output, encoding="utf-8" if config.format == "html" else "")


def _own_database(config: Config, now: int) -> Database:
    """Return what the database of SqlitePath holds; an accounts file takes the place of its inventory."""
    accounts = load_accounts_file(config.accounts, now) if config.accounts else None
    store = _open(config, write=accounts is not None)
    if accounts is not None:
        accounts = store.put_accounts_file(accounts, now)
    return database_of(store, store.knowledge(accounts), "this server")


def _write_sql(fleet: Fleet, config: Config) -> None:
    """Write the scripts of all groups, in a folder one per group; beside files the scripts that undo them."""
    import urllib.parse

    write = drop_sql if config.stage == "drop" else lock_sql
    scripts = {config.output: list(fleet.groups)}
    if os.path.isdir(config.output):
        # Each group has a file name that no other one gets.
        names = {urllib.parse.quote(group, safe=" @+,="): group for group in fleet.groups}
        scripts = {os.path.join(config.output, f"{name}.sql"): [group] for name, group in names.items()}
    for path, groups in scripts.items():
        emit("\n".join(write(fleet, group) for group in groups), path, encoding="utf-8")
        if path and config.stage == "lock":
            emit("\n".join(unlock_sql(fleet, group) for group in groups), f"{path}.undo")


def run_status(config: Config) -> int:
    """Print the tracker's health; return its state, the exit code."""
    knowledge = Knowledge()
    try:
        knowledge = _open(config).knowledge()
        checks = health(knowledge, int(time.time()), asked=bool(config.inventory))
    except ConntrackerError as error:
        code = CRITICAL if not os.path.exists(config.sqlite_path) else UNKNOWN
        checks = [Check("database", code, visible_text(str(error)))]
    emit(status_text(checks, knowledge, config.format))
    return max(check.code for check in checks)


def select_text(store: Store, statement: str) -> str:
    """Return what a SELECT finds, as the sqlite3 program prints it."""
    lines = ("|".join(map(_value_text, row)) for row in store.select(statement))
    return "".join(f"{line}\n" for line in lines)


def _value_text(value: Any) -> str:
    return "" if value is None else visible(value) if isinstance(value, bytes) else visible_text(str(value))


# The commands but for `collect`; what one of them returns is the exit code, None is 0.
RUN: dict[str, Callable[[Config], Optional[int]]] = {
    "accounts": lambda config: emit(accounts_text(_open(config), config.format)),
    "report": run_report,
    "status": run_status,
    "grants": lambda config: emit(grants_sql(config.user or "conntracker@localhost")),
    "sql": lambda config: emit(select_text(_open(config), config.words[0])),
    "snapshot": lambda config: _open(config).snapshot(config.words[0]),
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; return the exit code."""
    level = "ERROR"

    def say(severity: str, message: str) -> None:
        if LEVELS.index(severity) >= LEVELS.index(level):
            sys.stderr.write(f"conntracker: {severity}: {visible_text(message)}\n")

    try:
        arguments = read_arguments(sys.argv[1:] if argv is None else argv)
        if arguments["version"] or arguments["command"] == "version":
            emit(f"conntracker version {__version__}\n")
            return 0
        config = configure(arguments)
        level = config.log_level
        if config.command == "collect":
            return collect(config, say)
        return RUN[config.command](config) or 0
    except ConntrackerError as error:
        say("ERROR", str(error))
        return error.exit_code
    except BrokenPipeError:
        # The reader, such as a pager, has gone; what is left in the buffer must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
