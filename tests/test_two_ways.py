"""Lines added to the ledger at once must tell the same as one by one: of a server under attack."""

from __future__ import annotations

import random
import sys
from datetime import timezone
from typing import Any

import pytest
from random_logs import Attack
from site_kit import LONG
from site_kit import PROGRAM

sys.path.insert(0, str(PROGRAM.parent))
import conntracker


class LineByLine(conntracker.Ledger):
    """A ledger that adds nothing at once, and reads every line by the strict grammar."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.cutter = StrictCutter(self.clock, self.ours, self.ident)

    def _add_at_once(self, chunk: conntracker.Chunk, records: conntracker.Records) -> bool:
        del chunk, records
        return False


class StrictCutter(conntracker.Cutter):
    """A cutter that knows no pattern of plain records."""

    def _look_at_head(self, text: bytes, server: bytes) -> None:
        del text, server


def told(ledger: conntracker.Ledger) -> tuple[list[object], set[bytes], set[bytes]]:
    """Return what a ledger says of the ids and the sessions, and whom it believes and suspects."""
    runs = [
        (
            run.first,
            run.counter,
            run.missing,
            run.early,
            {n for n in run.refused if n >= run.counter - conntracker.REACH},
        )
        for run in ledger.runs
    ]
    believed, suspects = set(ledger.facts.last), set(ledger.facts.suspects)
    for _, row in ledger.unsettled():
        if row.reason or row.kind == "login":
            (suspects if row.reason else believed).add(row.name)
        if row.reason.endswith(conntracker.SO_FAR):
            row.reason = ""
    return [runs, ledger.open, ledger.lost], believed, suspects


@pytest.mark.parametrize("reach", [100, 1000])
def test_chunks_tell_what_their_lines_tell(monkeypatch: pytest.MonkeyPatch, reach: int) -> None:
    monkeypatch.setattr(conntracker, "REACH", reach)
    monkeypatch.setattr(conntracker, "KEPT", 10 * reach)
    for seed in range(3000 if LONG else 30):
        rng = random.Random(seed)
        size = rng.choice((1500, 5000, 20_000, 65_536))
        clock = conntracker.Clock(conntracker.TimeFormat("20060102 15:04:05"), timezone.utc)
        ledgers = [made(clock, frozenset()) for made in (conntracker.Ledger, LineByLine)]
        for offset, text in conntracker.pieces(b"\n" + Attack(seed).log(), size):
            for ledger in ledgers:
                ledger.add(conntracker.Chunk("log", text, offset))
            (ids, believed, suspects), (ids_by_lines, by_lines, doubted) = map(told, ledgers)
            assert ids == ids_by_lines, (seed, offset)
            assert (believed, suspects) == (by_lines, doubted), (seed, offset)
