"""Run the program with nothing but an interpreter: `PYTHON -I -S tests/bare_interpreter.py`."""

import os
import sqlite3
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.join(os.path.dirname(HERE), "conntracker.py")
LOGS = os.path.join(HERE, "data", "captures", "rotated-10.11")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = os.path.join(folder, "audit.sqlite")
        command = [sys.executable, "-I", "-S", PROGRAM, "--audit-log-path", LOGS, "--sqlite-path", database]
        for _ in range(2):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            assert (done.returncode, done.stdout) == (0, b""), done
        rows = sqlite3.connect(database).execute("SELECT count(*), count(DISTINCT name) FROM Accounts").fetchone()
        assert rows == (221, 45), rows
        report = subprocess.run([*command, "report", "--format", "json"], stdout=subprocess.PIPE, check=True)
        assert b'"schema": 1' in report.stdout
    print("passed on Python " + sys.version.split()[0])


main()
