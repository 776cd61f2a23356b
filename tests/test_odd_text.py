"""Partial, torn, endless and new kinds of lines, against the real program as a process."""

from __future__ import annotations

import gzip

import pytest
from site_kit import BEGIN
from site_kit import LOG_NAME
from site_kit import Pen
from site_kit import Site
from site_kit import peak_memory
from site_kit import record


def test_01_a_partial_last_line_counts_when_it_is_complete(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(10))
    before = dict(pen.truth)
    last = pen.session((b"late", b"localhost"))
    for end in (9, 30, last.index(b"\n")):  # the last cut is a whole record that lacks only its line end
        site.log.write_bytes(site.log.read_bytes()[: site.log.read_bytes().rindex(b"\n") + 1] + last[:end])
        site.collect()
        assert site.logins() == before
    site.write(last[last.index(b"\n") :])
    site.collect()
    assert site.logins() == pen.truth


def test_01_a_record_that_grows_is_not_taken_for_its_own_beginning(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(3))
    whole = record(pen.instant, (b"a,localhost,1,0,CONNECT,,,0", b"localhost"), 9)
    cut = whole.index(b",,,0") + len(b",,,0")
    site.write(whole[:cut])  # reads like a login of "a"
    site.collect()
    site.write(whole[cut:])
    site.collect()
    assert (b"a", b"localhost") not in site.logins()
    assert (b"a,localhost,1,0,CONNECT,,,0", b"localhost") in site.logins()


def test_21_bytes_that_are_not_utf8(site: Site, pen: Pen) -> None:
    names = (
        b"caf\xe9",
        b"\xff\xfe",
        b"\xe2\x82\xac" * 44 + b"\xb4",
        b"\x85\xa0",
        b"\xe2\x80\xa8x",
        b"v\x0bt\x0cf\x1cs",
    )
    for name in names:
        site.write(pen.session((name, b"localhost")))
    site.write(b"20260302 08:00:20,db01,app,localhost,20,7,QUERY,,'select \\'a\x00\x01\x0b\x1a\xff\xe9\x85\\'',0\n")
    site.collect()
    assert site.logins() == pen.truth
    shown = site.run("accounts", "--format", "csv").stdout
    assert "caf\\xe9" in shown


def test_21_nul_holes_and_torn_records(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(5))
    site.write(b"\0" * 70_000 + b"\n")
    site.write(pen.sessions(5, prefix=b"hole"))
    site.write(b"20260302 08:00:11,db01,torn,localhos\n")
    site.write(pen.sessions(5, prefix=b"torn"))
    site.write(b"20260302 08:00:11,db01,app0,localhost,9,12,QUERY,,'\0\0\0\n")
    site.write(pen.sessions(5, prefix=b"last"))
    site.collect()
    assert site.logins() == pen.truth
    assert site.suspects() == {}


def test_21_a_torn_stamp_before_a_record_is_no_head_of_another_program(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(5))
    known = dict(pen.truth)
    pen.number += 1
    site.write(b"2026030Z " + record(pen.instant, (b"odd", b"h"), pen.number))
    site.write(pen.sessions(3))
    site.collect()
    assert site.logins().keys() == known.keys()
    assert (b"odd", b"h") in site.suspects()


def test_21_a_record_glued_to_a_torn_one_is_not_lost(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(5))
    kept = dict(pen.truth)
    site.write(b"20260302 08:00:05,db01,a,localhost" + pen.session((b"glued", b"localhost")))
    site.write(b"20260302 08:00:05,db01,q,localhost,8,12,QUERY,,'" + pen.session((b"sql", b"localhost")))
    site.collect()
    logins, suspects = site.logins(), site.suspects()
    for account in ((b"glued", b"localhost"), (b"sql", b"localhost")):
        seen = suspects.get(account) or logins.get(account, (0, 0))[1]
        assert seen == pen.truth[account][1], account
    assert kept.items() <= logins.items()
    # The line as a whole could be the login of a very odd name: that is kept apart as well.
    assert {account for account in suspects if b"2026" not in account[0]} | set(logins) == set(pen.truth)


def test_21_line_ends_of_another_system(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(20).replace(b"\n", b"\r\n"))
    site.collect()
    assert site.logins() == pen.truth


@pytest.mark.parametrize("newline", [b"\n", b""])
def test_21_a_line_of_100_mb_within_bounded_memory(site: Site, pen: Pen, newline: bytes) -> None:
    site.write(pen.sessions(20))
    with site.log.open("ab") as log:
        log.write(b"20260302 08:00:20,db01,app0,localhost,9,12,QUERY,,'")
        for _ in range(100):
            log.write(b"0,CONNECT,,0, " * 75_000)
        log.write(b"',0" + newline)
    if newline:
        site.write(pen.sessions(20, prefix=b"after"))
    process = site.start()
    peak = peak_memory(process)
    assert process.returncode == 0
    assert site.logins() == pen.truth
    assert peak < 64_000_000
    if not newline:  # the line is complete only now
        site.write(b"\n" + pen.sessions(20, prefix=b"after"))
        site.collect()
        assert site.logins() == pen.truth


@pytest.mark.parametrize("packed", [False, True])
def test_21_many_logs_take_no_more_memory_than_few(site: Site, pen: Pen, packed: bool) -> None:
    peaks = []
    for count in (5, 30):
        for log in site.logs.iterdir():
            log.unlink()
        for number in range(count, 0, -1):
            text = pen.sessions(6000)
            path = site.logs / f"{LOG_NAME}.{number}{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(text, 1) if packed else text)
        site.write(pen.sessions(20))
        site.database.unlink(missing_ok=True)
        process = site.start("--max-workers", "1")
        peaks.append(peak_memory(process))
        assert process.returncode == 0
    assert peaks[1] < peaks[0] + 6_000_000


def test_23_the_format_changes_in_mid_file(site: Site, pen: Pen) -> None:
    site.write(pen.sessions(10))
    new = b"20260302 09:%02d:00,db01,app0,%b,%d,0,CONNECT,mysql,TLSv1.3,0%b\n"
    site.write(new % (1, b"192.168.1.24:54312", 30, b""))
    site.write(new % (2, b"192.168.1.24:54313", 31, b""))
    site.write(new % (3, b"192.168.1.25:54312", 32, b",TLSv1.3"))
    site.write(new.replace(b"TLSv1.3", b"") % (4, b"localhost", 33, b""))
    site.collect()
    logins = site.logins()
    nine = BEGIN + 3600
    assert logins[b"app0", b"192.168.1.24"] == (nine + 60, nine + 120)
    assert logins[b"app0", b"192.168.1.25"] == (nine + 180, nine + 180)
    assert logins[b"app0", b"localhost"][1] == nine + 240
    assert not [host for _, host in logins if b":" in host]
