"""The short form of the time-lapse with a real server; `python3 tests/timelapse.py` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import timelapse

TIMELAPSE = Path(timelapse.__file__).resolve()


def test_two_weeks() -> None:
    reason = timelapse.why_not()
    if reason and os.environ.get("CI"):
        pytest.fail(f"no time-lapse in CI: {reason}")
    if reason:
        pytest.skip(f"no time-lapse: {reason}")
    # This seed makes a hole of each kind, and restarts the server.
    command = [sys.executable, str(TIMELAPSE), "--steps", "30", "--days", "4", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
