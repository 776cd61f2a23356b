"""The benchmarks run; what they measure is judged by hand, at full size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parent.parent / "benchmarks" / "run.py"


def test_small_size(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARK), "--size", "small", "--corpus", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for work in ("dense: first run / mawk", "live 1 MB: nothing new", "gz: first run / zcat"):
        assert work in done.stdout
