"""The documents say what the program does."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys

import pytest
from site_kit import PROGRAM

import conntracker

ROOT = PROGRAM.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_shipped_config_has_every_key_with_its_default() -> None:
    given = conntracker.read_config(str(ROOT / "conntracker.ini-dist"))
    assert given == {option.key: option.default for option in conntracker.OPTIONS}


def test_readme_table_of_options() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(--[\w-]+)` \| (.*?) \|", README, re.MULTILINE)
    wanted = [(o.key, o.flag, f"`{o.default}`" if o.default else "") for o in conntracker.OPTIONS]
    assert rows == wanted


def test_the_configuration_holds_every_option() -> None:
    arguments = conntracker.read_arguments(["--config", str(ROOT / "conntracker.ini-dist")])
    config = conntracker.configure(arguments)
    assert [o.name for o in conntracker.OPTIONS if o.default and getattr(config, o.name) is None] == []


def test_the_options_of_a_report_are_those_of_the_terms() -> None:
    terms = inspect.getsource(conntracker.terms_of)
    assert {o.key for o in conntracker.OPTIONS if o.of_report} == {
        o.key for o in conntracker.OPTIONS if f"config.{o.name.replace('watched', 'stated')}" in terms
    }


def test_every_scenario_of_molecule_is_run_by_the_workflow() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    there = {path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")}
    assert set(re.findall(r"- molecule (\w+)", workflow)) == there


def help_of(*command: str) -> str:
    words = [sys.executable, str(PROGRAM), *command, "--help"]
    env = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(words, capture_output=True, text=True, check=True, env=env).stdout


def test_help_names_commands_and_exit_codes() -> None:
    text = help_of()
    assert all(re.search(rf"\n  +{command} +\S", text) for command in conntracker.COMMANDS)
    assert "exit codes" in text


@pytest.mark.parametrize("command", ["collect", "report", "status"])
def test_help_of_a_command_names_its_options(command: str) -> None:
    text = help_of(command)
    for option in conntracker.OPTIONS:
        assert option.flag in text
        assert option.key in text
    for form in conntracker.FORMATS.get(command, ()):
        assert form in text


def test_one_version_everywhere() -> None:
    version = conntracker.__version__
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in (ROOT / "galaxy.yml").read_text(encoding="utf-8")
