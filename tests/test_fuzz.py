"""The short form of the fuzzer; `python3 tests/fuzz.py` is the long one."""

from __future__ import annotations

import fuzz
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st


def test_records_are_read_as_by_the_reference() -> None:
    assert fuzz.fuzz_records(40_000, seed=7) == []


def test_logs_are_collected_as_by_the_reference() -> None:
    assert fuzz.fuzz_logs(250, seed=7) == []


def test_no_attack_is_believed_and_no_true_login_is_lost() -> None:
    assert fuzz.fuzz_logs(0, seed=7, attacks=60) == []


names = st.text(alphabet="ab,'`\"\\\t\r\x1b é€0123456789:CONNECT", max_size=40).map(str.encode) | st.binary(max_size=20)


@settings(max_examples=300, deadline=None)
@given(user=names, database=names)
def test_any_name_is_read_back(user: bytes, database: bytes) -> None:
    user, database = (
        user.replace(b"\n", b"").replace(b"\0", b""),
        database.replace(b"\n", b"").replace(b"\0", b""),
    )
    line = b"20260302 08:00:00,db01,%b,localhost,7,0,CONNECT,%b,,0" % (user, database)
    found = fuzz.told_by_the_program(line, fuzz.program_clock())
    assert found
    assert found == fuzz.told_by_the_reference(line)
    if b",0,CONNECT," not in b"," + database + b"," and b"CONNECT" not in database:
        assert found[:3] == (user, b"localhost", 7)
