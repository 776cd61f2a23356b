"""Random audit logs for the tests that compare: valid records and everything that can stand between them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from site_kit import BEGIN
from site_kit import SERVER
from site_kit import Account
from site_kit import cut_name
from site_kit import record
from site_kit import stamp

if TYPE_CHECKING:
    from collections.abc import Callable

USERS = (
    b"app",
    b"app",
    b"app",
    b"backup",
    b"root",
    b"",
    b"com,ma",
    b"quo'te",
    b"new\nline",
    b"c\rr",
    b"caf\xc3\xa9",
    b"\xff\xfe",
    b"\xe2\x82\xac" * 44 + b"\xb4",
    b"a,localhost,1,0,CONNECT,,,0",
    b"x\x0b\x0c\x1c\x85",
    b"CONNECT",
    b"`tick`@`",
    b"20260101 00:00:00",
    b"x,0,CONNECT," + b"y" * 17 + b",db01,root",
    b"z,localhost,5,0,CONNECT," + b"20260302 08:00:00,db01,root",
    b"20261399 99:99:99,db01,root",
    b",0,CONNECT," * 3,
    b"a,QUERY,b",
    b"q',0",
)
HOSTS = (b"localhost", b"localhost", b"app1.example.com", b"10.1.2.3", b"::1", b"2001:db8::17")
NEW_HOSTS = (b"10.1.2.3:54312", b"::1:54312", b"[::1]:54312", b"2001:db8::17:65000", b"app1.example.com:1")
DATABASES = (b"", b"", b"db1", b"d,b", b"d\nb", b"CONNECT", b"it's", b"x,0,CONNECT,y", b",0,CONNECT,,,0")
SQL = (
    b"select 1",
    b"update t set s=\\'20260101 00:00:00,db01,never,localhost,1,0,CONNECT,,,0\\'",
    b"a,0,CONNECT,b,,0",
    b",0,CONNECT,,,0",
    b"\xff\xe9\0\x1a",
    b"insert \\'x\\',localhost,7,0,CONNECT,",
)
PIECES = (
    b"",
    b"\r",
    b",0,CONNECT,,,0",
    b",,,,,0,CONNECT,,,0",
    b"20260302 08:00:00,db01,",
    b"20260302 08:00:00,db01,a,localhost",
    b"20260302 08:00:00,db01,a,localhost,7,0,CONNECT,",
    b"20260302 08:00:00,db01,a,localhost,,0,CONNECT,,,0",
    b"20260302 08:00:00,db01,a,localhost,-7,0,CONNECT,,,0",
    b"20260302 08:00:00,db01,a,localhost,99999999999999999999999999,0,CONNECT,,,0",
    b"20260302 08:00:00,db01,a,localhost,7,0,CONNECT,,,1045",
    b"20260302 08:00:00,db01,a,localhost,7,0,FAILED_CONNECT,,,0",
    b"20261399 99:99:99,db01,a,localhost,7,0,CONNECT,,,0",
    b"2026030  8:00:00,db01,a,localhost,7,0,CONNECT,,,0",
    b"                 ,db01,a,localhost,7,0,CONNECT,,,0",
    b"\0" * 300,
    b"\xff" * 20,
)


class LogMaker:
    """One server's log, written event by event from a seed."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.instant = BEGIN + rng.randrange(10_000_000)
        self.number = rng.choice((3, 3, 7, 97, 500, 990, 9_995, 70_000, 2**31 - 20))
        self.server = rng.choice((b"db01", b"db01", b"h", b"db-2.example.com"))
        self.open: list[tuple[bytes, bytes, int]] = []
        self.hostility = rng.choice((0.0, 0.1, 1.0))
        self.ordinary: tuple[Callable[[], bytes], ...] = (
            (self.login,) * 8 + (self.leave,) * 4 + (self.refused, self.query)
        )
        self.odd: tuple[Callable[[], bytes], ...] = (
            self.change_user,
            self.proxy,
            self.forged_pair,
            self.forged_once,
            self.glued,
            self.torn,
            self.piece,
            self.restart,
            self.jump,
            self.new_format,
            self.carriage_return,
            self.other_server,
            self.long_line,
            self.many,
            self.many_names,
            self.renamed,
            self.through_syslog,
            self.hole,
            self.torn_before_query,
            self.late,
            self.lost,
        )

    def line(
        self, user: bytes, host: bytes, number: int, operation: bytes, database: bytes = b"", *, code: int = 0
    ) -> bytes:
        """Write one record of a connection."""
        head = b"%b,%b,%b,%b,%d,0," % (stamp(self.instant), self.server, user, host, number)
        return head + b"%b,%b,,%d\n" % (operation, database, code)

    def tick(self) -> int:
        """Let some time pass and hand out a connection id."""
        self.instant += self.rng.choice((0, 0, 0, 1, 1, 2, 40))
        self.number += self.rng.choice((1,) * 60 + (2, 3))  # internal threads take ids as well
        if self.number >= 2**31:  # the server prints them so
            self.number -= 2**32
        return self.number

    def someone(self) -> tuple[bytes, bytes]:
        """Choose a user and a client host."""
        user = self.rng.choice(USERS) if self.rng.random() < self.hostility else self.rng.choice(USERS[:6])
        return user, self.rng.choice(HOSTS)

    def login(self) -> bytes:
        """Write an accepted login."""
        user, host = self.someone()
        number = self.tick()
        self.open.append((user, host, number))
        database = self.rng.choice(DATABASES) if self.hostility else b"db1"
        return self.line(user, host, number, b"CONNECT", database)

    def leave(self) -> bytes:
        """End a session."""
        if not self.open:
            return b""
        user, host, number = self.open.pop(self.rng.randrange(len(self.open)))
        return self.line(user, host, number, b"DISCONNECT")

    def refused(self) -> bytes:
        """Write a refused login: its two records."""
        user, host = self.someone()
        number = self.tick()
        code = self.rng.choice((1045, 1698, 1044, 4151))
        return self.line(user, host, number, b"FAILED_CONNECT", code=code) + self.line(
            user, host, number, b"DISCONNECT"
        )

    def query(self) -> bytes:
        """Write a query, sometimes one that looks like a login."""
        user, host = self.someone()
        head = b"%b,%b,%b,%b,%d,%d," % (
            stamp(self.instant),
            self.server,
            user,
            host,
            self.number,
            self.rng.randrange(1, 99),
        )
        if self.rng.random() < 0.3:
            return head + b"READ,db1,t,\n"
        return head + b"QUERY,db1,'%b',0\n" % self.rng.choice(SQL)

    def change_user(self) -> bytes:
        """Write a change of user; the log does not name the new one."""
        number = self.open[-1][2] if self.open else self.tick()
        if self.rng.random() < 0.5:
            return self.line(b"", b"", number, b"CHANGEUSER", b"O" * 255)
        user, host = self.someone()
        return self.line(user, host, number, b"CHANGEUSER", code=1045)

    def proxy(self) -> bytes:
        """Write a login as a proxy."""
        user, host = self.someone()
        number = self.tick()
        head = b"%b,%b,%b,%b,%d,0," % (stamp(self.instant), self.server, user, host, number)
        return self.line(user, host, number, b"CONNECT") + head + b"PROXY_CONNECT,,`real`@`%`,0\n"

    def forgery(self, number: int) -> bytes:
        """Return a name that holds a whole login."""
        user, host = self.someone()
        when = self.instant if self.rng.random() < 0.7 else BEGIN
        other = self.rng.choice((b"db01", b"h"))
        return b"%b,%b,%d,0,CONNECT,,,0\n%b,%b,z" % (user, host, number, stamp(when), other)

    def forged_pair(self) -> bytes:
        """Write what an attacker without an account can do: the forgery comes twice."""
        name = self.forgery(self.rng.choice((1, 5, self.number, self.number + 1)))
        number = self.tick()
        failed = self.line(name, b"203.0.113.9", number, b"FAILED_CONNECT", code=1698)
        between = self.login() if self.rng.random() < 0.3 else b""
        return failed + between + self.line(name, b"203.0.113.9", number, b"DISCONNECT")

    def forged_once(self) -> bytes:
        """Write what a user can do with a failed change of user."""
        name = self.forgery(self.rng.choice((1, self.number - 1, self.number + 1)))
        return self.line(name, b"localhost", self.number, b"CHANGEUSER", code=1045)

    def glued(self) -> bytes:
        """Write a record that was torn by a full disk and the next one behind it."""
        torn = self.login()
        return torn[: self.rng.randrange(len(torn))] + self.login()

    def torn(self) -> bytes:
        """Write a record that was torn."""
        torn = self.login()
        return torn[: self.rng.randrange(len(torn))] + b"\n"

    def piece(self) -> bytes:
        """Write a line that is no record or a strange one."""
        return self.rng.choice(PIECES) + b"\n"

    def restart(self) -> bytes:
        """Start the server anew: ids begin again."""
        self.instant += self.rng.choice((2, 5, 600))
        self.number = 2
        self.open.clear()
        return b""

    def jump(self) -> bytes:
        """Set the clock."""
        self.instant += self.rng.choice((-3600, -1, -1, 3600, 86_400))
        return b""

    def new_format(self) -> bytes:
        """Write a login as servers from 12.0.1 on do."""
        user = self.rng.choice(USERS[:4])
        number = self.tick()
        head = b"%b,%b,%b,%b,%d,0,CONNECT," % (
            stamp(self.instant),
            self.server,
            user,
            self.rng.choice(NEW_HOSTS),
            number,
        )
        return head + self.rng.choice((b"db1,TLSv1.3,0\n", b"db1,TLSv1.3,0,TLSv1.3\n", b",,0,\n"))

    def carriage_return(self) -> bytes:
        """Write a login with the line end of another system."""
        return self.login()[:-1] + b"\r\n"

    def other_server(self) -> bytes:
        """Write a login that names another server."""
        mine, self.server = self.server, b"elsewhere"
        record = self.login()
        self.server = mine
        return record

    def long_line(self) -> bytes:
        """Write a very long line, now and then longer than any window."""
        length = self.rng.choice((500, 5000, 5000, 70_000, 140_000))
        if self.rng.random() < 0.8:
            length = min(length, 5000)
        hostility, self.hostility = self.hostility, 0.0  # of a line longer than a block only the end is read
        query, self.hostility = self.query(), hostility
        return query[:-4] + b"x,0,CONNECT,y" * (length // 13) + b"',0\n"

    def many(self) -> bytes:
        """Write a burst of sessions of one account."""
        return b"".join(
            self.line(b"burst", b"localhost", self.tick(), b"CONNECT") for _ in range(self.rng.randrange(40))
        )

    def many_names(self) -> bytes:
        """Write sessions of many accounts, once each."""
        return b"".join(
            self.line(b"user%d" % self.rng.randrange(500), b"h", self.tick(), b"CONNECT")
            for _ in range(self.rng.randrange(60))
        )

    def renamed(self) -> bytes:
        """Give the host another name, for good; a server that runs on does not learn it."""
        self.server = self.rng.choice((b"db01", b"db02"))
        return self.restart() + self.login()

    def late(self) -> bytes:
        """Write a login that took longer than those after it."""
        login = self.login()
        return b"".join(self.login() for _ in range(self.rng.randrange(1, 9))) + login

    def lost(self) -> bytes:
        """Lose a stretch of log."""
        self.number += self.rng.choice((20, 20, 60, 150, 1100, 20_000))
        return b""

    def through_syslog(self) -> bytes:
        """Write a login as rsyslog does."""
        now = stamp(self.instant)
        head = b"%b-%b-%bT%b.053609+00:00 dbx mysql-server_auditing:  dbx," % (now[:4], now[4:6], now[6:8], now[9:])
        user, host = self.rng.choice(USERS[:4]), self.rng.choice(HOSTS)
        return head + b"%b,%b,%d,0,CONNECT,db1,,0\n" % (user, host, self.tick())

    def hole(self) -> bytes:
        """Leave a hole in the file, as after a crash."""
        return b"\0" * self.rng.choice((1, 40, 3000)) + self.rng.choice((b"", b"\n", self.login()))

    def torn_before_query(self) -> bytes:
        """Write a login that was torn and a query behind it."""
        torn = self.login()
        return torn[: self.rng.randrange(len(torn))] + self.query()

    def event(self) -> bytes:
        """Write the next thing that happens."""
        odd = self.rng.random() < self.hostility * 0.5
        return self.rng.choice(self.odd if odd else self.ordinary)()

    def log(self, events: int) -> bytes:
        """Write a log."""
        return b"".join(self.event() for _ in range(events))


def random_log(seed: int, events: int) -> bytes:
    """Return the log of a seed."""
    return LogMaker(random.Random(seed)).log(events)


class Attack:
    """A server under attack by clients that have no account: all they can choose is the name, the moment and how often.

    Ids are handed out when a client connects; its record comes when it has said who it is, which may take seconds.
    Every true login is of an account of its own; forged ones are of `dead`.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.old = self.rng.random() < 0.2  # 10.5 cuts names earlier, and lets them be shorter
        self.longest, self.kept = (80, 64) if self.old else (128, 132)
        self.instant = BEGIN
        self.number = self.rng.choice((2, 2, 300))  # ids begin at 3
        self.young = self.number == 2
        self.waiting: list[tuple[int, int, bytes]] = []  # until when, id and name of those still at the handshake
        self.leaving: list[tuple[bytes, int]] = []  # refused, the end not yet written
        self.accounts: set[Account] = set()
        self.restarts = self.rng.choice((0.0, 0.0, 0.2, 1.0))  # how many names let ids begin anew
        self.low = self.rng.randrange(1, 40)  # the last id of these
        self.targets: list[int] = []  # ids that were forged: to do it again, or next to them

    def session(self) -> bytes:
        """Write a true login and its end."""
        self.number += 1
        account = b"true%d" % len(self.accounts), b"app1.example.com"
        self.accounts.add(account)
        opened = record(self.instant, account, self.number)
        return opened + record(self.instant, account, self.number, b"DISCONNECT")

    def target(self) -> int:
        """Choose an id to forge; the greeting of the server tells the present one."""
        rng, now = self.rng, self.number
        near = rng.choice((now, now + 1, now + rng.randrange(-12, 12), now + rng.randrange(1000)))
        far = rng.choice((1, 2, 3, rng.randrange(1, 10), now + rng.randrange(1000, 6000), rng.randrange(now + 1)))
        again = rng.choice(self.targets or [now]) + rng.choice((0, 1, 1, -1))
        return max(0, rng.choice((near, near, far, again, again)))

    def line(self) -> bytes:
        """Write a line of a name: a login, a refused one or an end, whole or only its end."""
        rng = self.rng
        number = self.target()
        self.targets = [*self.targets[-20:], number]
        user = rng.choice((b"dead%d,h" % rng.randrange(9), b","))
        operation = rng.choice((b"CONNECT,,,0", b"CONNECT,,,0", b"FAILED_CONNECT,,,1", b"DISCONNECT,,,0"))
        when = stamp(self.instant + rng.choice((0, 0, -60, 60, 86_400)))
        head = rng.choice((b"", b"", b"%b,%b," % (when, rng.choice((SERVER, SERVER, b"h", b"")))))
        return head + user + b",%d,0," % number + operation

    def restart(self) -> list[bytes]:
        """Write lines that let ids begin anew, and perhaps one that shall hide that the server's own go on."""
        rng = self.rng
        lines = []
        if rng.random() < 0.6:
            own = self.number + rng.choice((0, 0, 0, 1, -1))
            lines = [b"%b,%d,0," % (rng.choice((b",", b"d,h")), own) + rng.choice((b"DISCONNECT,,,0", b"CONNECT,,,0"))]
        for _ in range(3):
            self.low = self.low % 200 + 1  # not near the first id of the log, before which nothing is known
            lines.append(b"%b,%d,0,CONNECT,,,0" % (rng.choice((b"dead%d,h" % rng.randrange(9), b",")), self.low))
            if rng.random() < 0.3:
                lines.append(b",,%d,0,DISCONNECT,,,0" % self.low)
        head = b"%b,%b," % (stamp(self.instant), SERVER)
        return [lines[0], *(head + line for line in lines[1:])]

    def name(self) -> bytes:
        """Build a name of forged lines, as long as the server takes it; often many ids in a row."""
        rng = self.rng
        lines = [self.line() for _ in range(rng.randrange(1, 7))]
        if rng.random() < self.restarts:
            lines = self.restart()
        elif rng.random() < 0.3:
            begin = self.target()
            self.targets.append(begin)
            lines = [*lines[:1], *(b",,%d,0,CONNECT,,,0" % (begin + more) for more in range(6))]
        filler = rng.choice((b"", b"" if self.restarts else b"x", b"\xe2\x82\xac" * (22 if self.old else 44) + b",0"))
        end = rng.choice((b"z", b"%b,%b,z" % (stamp(self.instant), SERVER)))
        lines = [filler, *lines] if filler else lines
        while len(lines) > 1 and len(b"\n".join([*lines, end]).decode()) > self.longest:
            lines.pop()
        return b"\n".join([*lines, end])

    def client(self) -> bytes:
        """Let a hostile client come, speak or go."""
        rng = self.rng
        if self.leaving and rng.random() < 0.6:
            name, number = self.leaving.pop(rng.randrange(len(self.leaving)))
            return record(self.instant, (name, b"203.0.113.9"), number, b"DISCONNECT")
        if not self.waiting or rng.random() < 0.5:
            self.number += 1
            limit = self.instant + rng.choice((0, 0, 10))  # the server waits for a handshake for so long
            self.waiting.append((limit, self.number, rng.choice((b"", self.name(), self.name()))))
        if rng.random() < 0.5:
            return b""
        return self.refuse(rng.randrange(len(self.waiting)))

    def refuse(self, i: int) -> bytes:
        """Refuse one who waits."""
        _, number, name = self.waiting.pop(i)
        self.leaving.append((name, number))
        return record(self.instant, (cut_name(name, self.kept), b"203.0.113.9"), number, b"FAILED_CONNECT", code=1045)

    def pass_time(self) -> bytes:
        """Let some seconds pass; whoever has not spoken by then is refused."""
        self.instant += self.rng.choice((0, 0, 0, 1, 5))
        late = [i for i, (limit, _, _) in enumerate(self.waiting) if limit < self.instant]
        return b"".join(self.refuse(i) for i in reversed(late))

    def log(self) -> bytes:
        """Write true logins before, between and after, until all of it is settled."""
        rng = self.rng
        log = [self.session() for _ in range(rng.choice((10, 400, 1200)))]
        true = rng.choice((0.02, 0.3, 0.8))
        for _ in range(rng.choice((20, 60, 200))):
            log += [self.pass_time(), self.session() if rng.random() < true else self.client()]
        self.instant += 11
        log.append(self.pass_time())
        while self.leaving:
            log.append(self.client())
        for _ in range(1100):
            self.instant += 1
            log += [self.pass_time(), self.session()]
        return b"".join(log)


def cut(rng: random.Random, log: bytes, pieces: int, *, at_lines: bool) -> list[bytes]:
    """Cut a log at random places; at ends of lines, or anywhere."""
    places = sorted(rng.randrange(len(log) + 1) for _ in range(pieces - 1))
    if at_lines:
        places = [log.rfind(b"\n", 0, place) + 1 for place in places]
    return [log[begin:end] for begin, end in zip([0, *places], [*places, len(log)])]
