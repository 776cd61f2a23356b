"""The short form of the torture with a real server; `python3 tests/torture.py` is the long one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TORTURE = Path(__file__).resolve().parent / "torture.py"


@pytest.mark.skipif(not shutil.which("mariadbd"), reason="needs mariadb-server")
def test_torture() -> None:
    command = [sys.executable, str(TORTURE), "--logins", "1500"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
